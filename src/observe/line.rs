//! One line of a log, written twice alike: as words that a logfmt parser reads, or as one JSON object. What a client or an
//! origin wrote can forge neither a field nor a line, and cannot steer a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

pub struct Line {
    text: String,
    json: bool,
}

impl Line {
    pub fn new(json: bool) -> Self {
        let mut text = String::with_capacity(320);
        text.push_str(if json { "{" } else { "" });
        Self { text, json }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Words at the front of a text line, each free of blanks and of what could make it a field.
    pub fn word(&mut self, word: &str) {
        self.gap();
        for byte in word.bytes() {
            match byte {
                b'"' | b'=' | b'\\' => push_percent(&mut self.text, byte),
                b'!'..=b'~' => self.text.push(char::from(byte)),
                _ => push_percent(&mut self.text, byte),
            }
        }
    }

    /// A sentence of ours at the front of a text line.
    pub fn sentence(&mut self, sentence: &str) {
        self.gap();
        self.text.push_str(&printable(sentence));
    }

    /// What follows below a text line, indented: none of it can pass for a line of its own.
    pub fn continued(&mut self, text: &str) {
        for line in text.lines() {
            self.text.push_str("\n    ");
            self.text.push_str(&printable(line));
        }
    }

    /// A word of ours with the colours of a terminal.
    pub fn colored(&mut self, text: &str) {
        self.gap();
        self.text.push_str(text);
    }

    /// What is not there has no word in a text line, and is null in JSON.
    pub fn field(&mut self, name: &str, value: Option<&str>) {
        match (value, self.json) {
            (None, false) => {}
            (None, true) => self.name(name, "null"),
            (Some(value), false) if is_plain(value) => self.name(name, value),
            (Some(value), _) => {
                let quoted = serde_json::Value::from(value).to_string();
                self.name(name, &printable(&quoted));
            }
        }
    }

    pub fn number(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        match value {
            Some(value) => self.name(name, &value.to_string()),
            None => self.field(name, None),
        }
    }

    pub fn milliseconds(&mut self, name: &str, value: Option<Duration>) {
        self.number(name, value.map(|value| (value.as_secs_f64() * 1e6).round() / 1e3));
    }

    pub fn finish(mut self) -> String {
        self.text.push_str(if self.json { "}\n" } else { "\n" });
        self.text
    }

    fn gap(&mut self) {
        if self.text.len() > usize::from(self.json) {
            self.text.push(if self.json { ',' } else { ' ' });
        }
    }

    fn name(&mut self, name: &str, value: &str) {
        self.gap();
        let _ = match self.json {
            true => write!(self.text, "\"{name}\":{value}"),
            false => write!(self.text, "{name}={value}"),
        };
    }
}

/// RFC 3339 in UTC, with milliseconds.
pub fn timestamp(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'=' | b'\\'))
}

fn push_percent(text: &mut String, byte: u8) {
    let _ = write!(text, "%{byte:02X}");
}

/// Every character that a terminal obeys or that hides or turns others around, as JSON escapes it.
fn printable(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| match c {
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    };
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(clean, "\\u{unit:04x}");
            }
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

#[cfg(test)]
pub mod testing {
    /// Reads logfmt back: names with values, quoted ones as JSON quotes them. Words without a value are named alone.
    pub fn parse(line: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let mut rest = line.strip_suffix('\n').ok_or("no end")?;
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let end = rest.find([' ', '=']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            if name.is_empty() || name.contains('"') {
                return Err(format!("`{rest}` begins no field"));
            }
            let (value, after) = match after.strip_prefix('=') {
                None => (None, after),
                Some(value) if value.starts_with('"') => {
                    let mut read = serde_json::Deserializer::from_str(value).into_iter::<String>();
                    let text = read.next().ok_or("no value")?.map_err(|e| e.to_string())?;
                    (Some(text), &value[read.byte_offset()..])
                }
                Some(value) => {
                    let (value, after) = value.split_at(value.find(' ').unwrap_or(value.len()));
                    (Some(value.to_owned()), after)
                }
            };
            fields.push((name.to_owned(), value));
            rest = match after.strip_prefix(' ') {
                Some(more) => more,
                None if after.is_empty() => after,
                None => return Err(format!("no blank before `{after}`")),
            };
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_has_its_date_zone_and_milliseconds() {
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_599_007)), "2025-12-31T23:59:59.007Z");
    }

    #[test]
    fn what_is_plain_is_written_plainly() {
        let mut line = Line::new(false);
        line.field("rule", Some("gatepass.yaml:16"));
        line.field("user", None);
        line.field("empty", Some(""));
        line.number("status", Some(200));
        assert_eq!(line.finish(), "rule=gatepass.yaml:16 empty=\"\" status=200\n");
    }

    #[test]
    fn what_follows_below_a_line_is_indented() {
        let mut line = Line::new(false);
        line.word("INFO");
        line.sentence("a\x1b[2J");
        line.continued("\nb \u{202e}c");
        assert_eq!(line.finish(), "INFO a\\u001b[2J\n    \n    b \\u202ec\n");
    }

    proptest! {
        #[test]
        fn every_value_is_read_back_and_forges_nothing(word in "\\PC{1,20}", one in any::<String>(), two in "[\"\\\\= \n\t\u{1b}rule=fk\u{202e}\u{9b}]{0,24}") {
            let mut line = Line::new(false);
            line.word("time");
            line.word(&word);
            line.field("one", Some(&one));
            line.field("two", Some(&two));
            line.field("rule", Some("true"));
            let text = line.finish();
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && text.matches('\n').count() == 1, "{text:?}");
            let fields = testing::parse(&text).map_err(|why| TestCaseError::fail(format!("{why} in {text:?}")))?;
            let named = |name: &str| fields.iter().filter(|(n, v)| n == name && v.is_some()).map(|(_, v)| v.clone().unwrap()).collect::<Vec<_>>();
            prop_assert_eq!(named("one"), vec![one.clone()]);
            prop_assert_eq!(named("two"), vec![two.clone()]);
            prop_assert_eq!(named("rule"), vec!["true"]);

            let mut line = Line::new(true);
            line.field("one", Some(&one));
            line.field("two", Some(&two));
            line.field("none", None);
            let text = line.finish();
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &serde_json::json!({ "one": one, "two": two, "none": null }));
            prop_assert!(text.trim_end().chars().all(|c| !c.is_control()), "{text:?}");
        }
    }
}
