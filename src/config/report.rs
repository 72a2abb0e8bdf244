//! What is wrong with a config: every mistake with its place, shown as rustc does. Secret values in the
//! shown line are masked.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::yaml;

/// Where something stands: a file of the report and a node of its YAML tree, counted in the order
/// of reading. Line and column are found only when a mistake is shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Place {
    pub file: u16,
    pub node: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Error,
    Warning,
}

pub struct Diagnostic {
    pub severity: Severity,
    /// Short and stable, for `--format json`: `unknown-key`, `dangling-name`, …
    pub code: &'static str,
    /// One sentence without a full stop. Never a secret.
    pub message: String,
    pub place: Option<Place>,
    /// For what stands in no tree (syntax errors): file, line and column.
    pub at: Option<(u16, usize, usize)>,
    /// The mend.
    pub help: Option<String>,
}

/// All mistakes of a config, and the files they stand in.
#[derive(Default)]
pub struct Report {
    pub diagnostics: Vec<Diagnostic>,
    files: Vec<(PathBuf, String)>,
}

/// More mistakes than this are only counted.
const SHOWN: usize = 50;

impl Report {
    /// Remembers a file; its number is what places name.
    pub fn add_file(&mut self, path: PathBuf, text: String) -> u16 {
        self.files.push((path, text));
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    pub fn error(&mut self, code: &'static str, place: impl Into<Option<Place>>, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, code, place.into(), message.into())
    }

    pub fn warning(
        &mut self,
        code: &'static str,
        place: impl Into<Option<Place>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Warning, code, place.into(), message.into())
    }

    fn push(&mut self, severity: Severity, code: &'static str, place: Option<Place>, message: String) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic { severity, code, message, place, at: None, help: None });
        self.diagnostics.last_mut().expect("just pushed")
    }

    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    pub fn has_warnings(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Warning)
    }

    /// File, line and column of a place.
    pub fn locate(&self, place: Place) -> Option<(&Path, usize, usize)> {
        let (path, text) = self.files.get(usize::from(place.file))?;
        let (line, column) = yaml::locate(text, place.node)?;
        Some((path, line, column))
    }

    /// Short names for many places of rules, as `gatepass.yaml:16`. One reading each would make a large
    /// file slow, so beyond a few the lines of the block list `rules:` are counted instead; what cannot
    /// be counted is named by its number.
    pub fn labels(&self, places: &[Place]) -> Vec<String> {
        let few = places.len() <= 64;
        let name = |file: u16| {
            self.files
                .get(usize::from(file))
                .and_then(|(path, _)| path.file_name())
                .map_or("config".into(), |n| n.to_string_lossy())
        };
        let mut counted: Vec<Option<Vec<usize>>> = vec![None; self.files.len()];
        let mut seen = vec![0_usize; self.files.len()];
        let total = |file: u16| places.iter().filter(|place| place.file == file).count();
        let mut labels = Vec::with_capacity(places.len());
        for place in places {
            let at = usize::from(place.file);
            let n = seen.get(at).copied().unwrap_or(0);
            if let Some(slot) = seen.get_mut(at) {
                *slot += 1;
            }
            let line = if few {
                self.locate(*place).map(|(_, line, _)| line)
            } else {
                self.files.get(at).and_then(|(_, text)| {
                    let lines = counted[at].get_or_insert_with(|| rule_lines(text, total(place.file)));
                    lines.get(n).copied()
                })
            };
            labels.push(match line {
                Some(line) => format!("{}:{line}", name(place.file)),
                None => format!("{} rules[{n}]", name(place.file)),
            });
        }
        labels
    }

    /// All mistakes, the way a terminal shows them; ends with a count.
    pub fn render(&self, color: bool) -> String {
        let mut text = String::new();
        let mut shown: Vec<(&str, Option<Place>)> = Vec::new();
        // In the order of the text; what stands nowhere comes last.
        let mut ordered: Vec<&Diagnostic> = self.diagnostics.iter().collect();
        ordered.sort_by_key(|diagnostic| match (diagnostic.at, diagnostic.place) {
            (Some((file, line, _)), _) => (file, u32::try_from(line).unwrap_or(u32::MAX)),
            (None, Some(place)) => (place.file, place.node),
            (None, None) => (u16::MAX, u32::MAX),
        });
        for diagnostic in ordered {
            let key = (diagnostic.message.as_str(), diagnostic.place);
            if shown.contains(&key) || shown.len() >= SHOWN {
                continue;
            }
            shown.push(key);
            self.render_one(diagnostic, color, &mut text);
        }
        let count = |severity| self.diagnostics.iter().filter(|d| d.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let parts: Vec<String> =
            [(errors, "error"), (warnings, "warning")].into_iter().filter(|(n, _)| *n > 0).map(|(n, w)| plural(n, w)).collect();
        if !parts.is_empty() {
            let hidden = self.diagnostics.len().saturating_sub(SHOWN);
            let more = if hidden > 0 { format!(" ({SHOWN} shown)") } else { String::new() };
            let _ = writeln!(text, "{}{more}", parts.join(", "));
        }
        text
    }

    fn position(&self, diagnostic: &Diagnostic) -> Option<(u16, usize, usize)> {
        diagnostic.at.or_else(|| {
            let place = diagnostic.place?;
            let (_, line, column) = self.locate(place)?;
            Some((place.file, line, column))
        })
    }

    fn render_one(&self, diagnostic: &Diagnostic, color: bool, text: &mut String) {
        let paint = |code: &str, word: &str| if color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
        let head = match diagnostic.severity {
            Severity::Error => paint("1;31", "error"),
            Severity::Warning => paint("1;33", "warning"),
        };
        let _ = writeln!(text, "{head}: {}", diagnostic.message);
        if let Some((file, line, column)) = self.position(diagnostic)
            && let Some((path, source)) = self.files.get(usize::from(file))
        {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let bar = paint("1;34", "|");
            let _ = writeln!(text, "{margin}{} {}:{line}:{column}", paint("1;34", "-->"), path.display());
            let (shown, caret) = mask(source.lines().nth(line - 1).unwrap_or(""), column - 1);
            let _ = writeln!(text, "{margin} {bar}\n{} {bar} {shown}", paint("1;34", &number));
            let _ = writeln!(text, "{margin} {bar} {}{}", " ".repeat(caret), paint("1;31", "^"));
        }
        if let Some(help) = &diagnostic.help {
            let _ = writeln!(text, "  {} {help}", paint("1;36", "help:"));
        }
        text.push('\n');
    }

    /// The same for machines.
    pub fn json(&self) -> Json {
        let one = |diagnostic: &Diagnostic| {
            let position = self.position(diagnostic);
            json!({
                "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
                "code": diagnostic.code,
                "message": diagnostic.message,
                "file": position.and_then(|(file, ..)| self.files.get(usize::from(file))).map(|(path, _)| path.display().to_string()),
                "line": position.map(|(_, line, _)| line),
                "column": position.map(|(_, _, column)| column),
                "help": diagnostic.help,
            })
        };
        Json::Array(self.diagnostics.iter().map(one).collect())
    }
}

impl Diagnostic {
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}

/// Lines on which the items of a block list `rules:` begin; none unless there are exactly `wanted`.
fn rule_lines(text: &str, wanted: usize) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut indent = None;
    let mut inside = false;
    for (n, line) in text.lines().enumerate() {
        let body = line.trim_start_matches(' ');
        let depth = line.len() - body.len();
        if depth == 0 && !body.is_empty() && !body.starts_with(['#', '-']) {
            inside = body.starts_with("rules:");
            continue;
        }
        if inside && body.starts_with('-') && *indent.get_or_insert(depth) == depth {
            lines.push(n + 1);
        }
    }
    if lines.len() == wanted { lines } else { Vec::new() }
}

/// Keys whose values are not shown.
const SECRET_WORDS: [&str; 14] = [
    "pass",
    "secret",
    "token",
    "bearer",
    "value",
    "auth",
    "cookie",
    "credential",
    "pin",
    "private",
    "api",
    "assertion",
    "ext",
    "key",
];

/// The line with secret values replaced, and where the caret goes in it.
fn mask(line: &str, column: usize) -> (String, usize) {
    let chars: Vec<char> = line.chars().collect();
    if !line.contains(':') && !line.trim_start().starts_with('-') {
        // The inside of a block text: a PEM key, or a value on a line of its own.
        let indent = line.len() - line.trim_start().len();
        return (format!("{}******", " ".repeat(indent)), column.min(indent));
    }
    let mut shown = String::new();
    let mut caret = 0;
    let mut at = 0;
    while at < chars.len() {
        if at == column {
            caret = shown.chars().count();
        }
        shown.push(chars[at]);
        at += 1;
        if chars[at - 1] != ':' || chars.get(at).is_some_and(|c| *c != ' ') || !names_secret(&chars[..at - 1]) {
            continue;
        }
        let start = (at..chars.len()).find(|n| chars[*n] != ' ').unwrap_or(chars.len());
        let end = value_end(&chars, start);
        let value: String = chars[start..end].iter().collect();
        if !hides(&value) {
            continue;
        }
        shown.extend(&chars[at..start]);
        if (at..end).contains(&column) {
            caret = shown.chars().count();
        }
        shown.push_str("******");
        at = end;
    }
    if column >= chars.len() {
        caret = shown.chars().count();
    }
    (shown, caret)
}

fn names_secret(before: &[char]) -> bool {
    let name: String = before
        .iter()
        .rev()
        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '"' | '\''))
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    let name = name.trim_matches(['"', '\'']).to_ascii_lowercase();
    // These name things; what they name is defined elsewhere.
    !matches!(name.as_str(), "auth" | "on_existing_auth") && SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn value_end(chars: &[char], start: usize) -> usize {
    match chars.get(start) {
        Some(quote @ ('"' | '\'')) => (start + 1..chars.len()).find(|n| chars[*n] == *quote).map_or(chars.len(), |n| n + 1),
        // A reference is one thing, with its brace.
        Some('$') if chars.get(start + 1) == Some(&'{') => {
            (start..chars.len()).find(|n| chars[*n] == '}').map_or(chars.len(), |n| n + 1)
        }
        _ => (start..chars.len()).find(|n| matches!(chars[*n], ',' | '}' | ']')).unwrap_or(chars.len()),
    }
}

/// References, maps, lists and paths are shown; everything else under a secret key is not.
fn hides(value: &str) -> bool {
    let bare = value.trim_matches(['"', '\'']).trim();
    let reference = bare.starts_with("${") && bare.ends_with('}') || bare.starts_with("{{") && bare.ends_with("}}");
    let path = bare.ends_with(".key") || bare.ends_with(".pem") || bare.ends_with(".p12") || bare.ends_with(".pfx");
    !bare.is_empty() && !reference && !path && !value.starts_with(['{', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_values_are_masked_and_the_caret_stays() {
        assert_eq!(mask("    password: hunter2", 4), ("    password: ******".to_owned(), 4));
        assert_eq!(mask("    password: hunter2", 14), ("    password: ******".to_owned(), 14));
        assert_eq!(mask("{ bearer: abc, colour: red }", 15).0, "{ bearer: ******, colour: red }");
        assert_eq!(mask("{ bearer: abc, colour: red }", 15).1, 18);
        assert_eq!(mask("bearer: \"${TOKEN}\"", 8).0, "bearer: \"${TOKEN}\"");
        assert_eq!(mask("    MIIEvQIBADANBgkqh", 4).0, "    ******");
        assert_eq!(mask("  X-Api-Key: \"a b, c\"", 2).0, "  X-Api-Key: ******");
        assert_eq!(mask("  key: certs/alice.key", 2).0, "  key: certs/alice.key");
    }

    #[test]
    fn lines_of_rules_are_counted_only_when_they_can_be() {
        let text = "listen: x\nrules:\n  # first\n  - host: a\n    path:\n      - /b\n  - host: c\nlog: {}\n";
        assert_eq!(rule_lines(text, 2), [4, 7]);
        assert!(rule_lines(text, 3).is_empty());
        assert!(rule_lines("{\"rules\": [{}]}", 1).is_empty());
    }
}
