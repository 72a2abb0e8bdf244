//! Diagnostics as lines: `TIME LEVEL sentence name=value …`, or one JSON object.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::line::{Line, timestamp};

pub struct Events {
    json: Arc<AtomicBool>,
    colored: bool,
}

impl Events {
    /// `json` may change while they are written.
    pub fn new(json: Arc<AtomicBool>, colored: bool) -> Self {
        Self { json, colored }
    }
}

impl<S, N> FormatEvent<S, N> for Events
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let level = *event.metadata().level();
        writer.write_str(&said.line(SystemTime::now(), level, self.json.load(Ordering::Relaxed), self.colored))
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    Plain(String),
}

impl Said {
    fn line(&self, at: SystemTime, level: Level, json: bool, colored: bool) -> String {
        let mut line = Line::new(json);
        let (first, rest) = self.message.split_once('\n').unwrap_or((&self.message, ""));
        if json {
            line.field("timestamp", Some(&timestamp(at)));
            line.field("level", Some(&level.as_str().to_ascii_lowercase()));
            line.field("event", Some("log"));
            line.field("message", Some(&self.message));
        } else {
            line.word(&timestamp(at));
            match colored {
                true => line.colored(&format!("\x1b[{}m{level}\x1b[0m", color(level))),
                false => line.word(level.as_str()),
            }
            line.sentence(first);
        }
        for (name, value) in &self.fields {
            match value {
                Value::Text(text) => line.field(name, Some(text)),
                Value::Plain(plain) => line.number(name, Some(plain)),
            }
        }
        if !json && !rest.is_empty() {
            line.continued(rest);
        }
        line.finish()
    }

    fn add(&mut self, field: &Field, value: Value) {
        // What the `log` crate's bridge adds of its own.
        if !field.name().starts_with("log.") {
            self.fields.push((field.name(), value));
        }
    }
}

fn color(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.add(field, Value::Text(format!("{value:?}"))),
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            _ => self.add(field, Value::Text(value.to_owned())),
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Plain(value.to_string()));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Plain(value.to_string()));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Plain(value.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_sentence_stands_beside_it_or_below() {
        let said = Said {
            message: "mistakes:\nerror: a\x1b[2J\n2026-01-01T00:00:00.000Z INFO forged".to_owned(),
            fields: vec![("why", Value::Text("SIGHUP \"now\"".to_owned())), ("rules", Value::Plain("3".to_owned()))],
        };
        let text = said.line(SystemTime::UNIX_EPOCH, Level::WARN, false, false);
        let wanted = "1970-01-01T00:00:00.000Z WARN mistakes: why=\"SIGHUP \\\"now\\\"\" rules=3\n    error: a\\u001b[2J\n    2026-01-01T00:00:00.000Z INFO forged\n";
        assert_eq!(text, wanted);
        let read: serde_json::Value = serde_json::from_str(&said.line(SystemTime::UNIX_EPOCH, Level::WARN, true, true)).unwrap();
        assert_eq!(read["message"].as_str(), Some(said.message.as_str()));
        assert_eq!((read["level"].as_str(), read["event"].as_str()), (Some("warn"), Some("log")));
        assert_eq!((read["why"].as_str(), read["rules"].as_u64()), (Some("SIGHUP \"now\""), Some(3)));
    }
}
