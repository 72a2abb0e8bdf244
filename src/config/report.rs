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

    /// The files longer than so many bytes.
    pub fn files_over(&self, bytes: usize) -> Vec<PathBuf> {
        self.files.iter().filter(|(_, text)| text.len() > bytes).map(|(path, _)| path.clone()).collect()
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

    /// How many errors were found so far.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
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
            let (shown, caret) = mask(source, line, column - 1);
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

/// Keys whose values may be shown. Everything else may be a secret, above all under a key that is
/// misspelt, which is just when its line is printed. `key` is a file beside `cert`, and a secret elsewhere.
const SHOWN_KEYS: &[&str] = &[
    "version",
    "listen",
    "listeners",
    "mode",
    "upstream",
    "unmatched",
    "upstream_proxy",
    "include",
    "rules",
    "host",
    "port",
    "scheme",
    "path",
    "methods",
    "clients",
    "auth",
    "client_certificate",
    "ca_bundle",
    "on_existing_auth",
    "connect_to",
    "action",
    "via",
    "cert",
    "pfx",
    "module",
    "socket",
    "spiffe_id",
    "client_ca",
    "files",
    "file",
    "env",
    "system_roots",
    "server_name",
    "min_version",
    "max_version",
    "crl",
    "resumption",
    "alpn",
    "backend",
    "ocsp",
    "accept_invalid_certs",
    "dir",
    "format",
    "level",
    "deny",
    "cidrs",
    "in",
    "name",
    "charset",
    "ttl",
    "timeout",
    "preemptive",
    "url",
    "no_proxy",
    "grant",
    "algorithm",
    "key_encoding",
    "lifetime",
    "signature_method",
    "components",
    "label",
    "content_digest",
    "max_body",
];

/// The line with what may be secret replaced, and where the caret goes in it.
fn mask(source: &str, line: usize, column: usize) -> (String, usize) {
    let text = source.lines().nth(line - 1).unwrap_or("");
    let chars: Vec<char> = text.chars().collect();
    let mut masked = Masked { shown: String::new(), caret: None, column };
    let start = chars.iter().position(|c| !matches!(c, ' ' | '-')).unwrap_or(chars.len());
    masked.copy(&chars, 0, start);
    let mut at = start;
    if key_end(&chars, at).is_none() && !matches!(chars.get(at), Some('{' | '[' | '#') | None) {
        // An item of a list, or a value on a line of its own: the key it belongs to stands further up.
        let parent = parent_key(source, line, start);
        at = masked.value(&chars, at, parent.is_some_and(|key| is_shown(&key)), false);
    }
    let mut flow = 0_usize;
    while at < chars.len() {
        match chars[at] {
            '{' => flow += 1,
            '}' => flow = flow.saturating_sub(1),
            _ => {}
        }
        let word = at == start || matches!(chars[at - 1], ' ' | '{' | ',' | '[');
        match key_end(&chars, at).filter(|_| word) {
            Some(colon) => {
                let key: String = chars[at..colon].iter().filter(|c| !matches!(c, '"' | '\'')).collect();
                let value = (colon + 1..chars.len()).find(|n| chars[*n] != ' ').unwrap_or(chars.len());
                masked.copy(&chars, at, value);
                at = value;
                if !matches!(chars.get(at), Some('{') | None) {
                    at = masked.value(&chars, at, is_shown(&key), flow > 0);
                }
            }
            None => {
                masked.copy(&chars, at, at + 1);
                at += 1;
            }
        }
    }
    let caret = masked.caret.unwrap_or(masked.shown.chars().count());
    (masked.shown, caret)
}

fn is_shown(key: &str) -> bool {
    SHOWN_KEYS.contains(&key)
}

struct Masked {
    shown: String,
    caret: Option<usize>,
    column: usize,
}

impl Masked {
    fn copy(&mut self, chars: &[char], from: usize, to: usize) {
        if (from..to).contains(&self.column) {
            self.caret = Some(self.shown.chars().count() + self.column - from);
        }
        self.shown.extend(&chars[from..to]);
    }

    /// Copies or replaces the value that begins at `from`; where it ends.
    fn value(&mut self, chars: &[char], from: usize, show: bool, flow: bool) -> usize {
        let end = value_end(chars, from, flow);
        let value: String = chars[from..end].iter().collect();
        if is_reference(&value) || show && !value.contains('@') {
            self.copy(chars, from, end);
            return end;
        }
        if (from..end).contains(&self.column) {
            self.caret = Some(self.shown.chars().count());
        }
        self.shown.push_str("******");
        end
    }
}

/// Where the key that begins here ends, if a key begins here.
fn key_end(chars: &[char], at: usize) -> Option<usize> {
    let name = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '*' | '/' | '"' | '\'');
    let end = (at..chars.len()).find(|n| !name(&chars[*n]))?;
    let colon = chars[end] == ':' && end > at;
    (colon && chars.get(end + 1).is_none_or(|c| *c == ' ')).then_some(end)
}

/// Where a value ends: its quote, its bracket; in a flow the next comma or brace; else the line.
fn value_end(chars: &[char], start: usize, flow: bool) -> usize {
    let after = |end: char| {
        let mut escaped = false;
        (start + 1..chars.len()).find(|n| {
            let ends = chars[*n] == end && !escaped;
            escaped = end == '"' && chars[*n] == '\\' && !escaped;
            ends
        })
    };
    match chars.get(start) {
        Some(quote @ ('"' | '\'')) => after(*quote).map_or(chars.len(), |n| n + 1),
        Some('[') => after(']').map_or(chars.len(), |n| n + 1),
        _ if !flow => chars.len(),
        Some('$') => after('}').map_or(chars.len(), |n| n + 1),
        _ => {
            let end = (start..chars.len()).find(|n| matches!(chars[*n], ',' | '}' | ']')).unwrap_or(chars.len());
            (start..end).rfind(|n| chars[*n] != ' ').map_or(end, |n| n + 1)
        }
    }
}

/// `${NAME}` or `{{name}}` alone, without a default that could be a secret.
fn is_reference(value: &str) -> bool {
    let bare = value.trim_matches(['"', '\'']).trim();
    let name = bare
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .or_else(|| bare.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")));
    name.is_some_and(|name| !name.is_empty() && name.trim().chars().all(|c| c.is_alphanumeric() || c == '_'))
}

/// The key of the block that this line is in.
fn parent_key(source: &str, line: usize, column: usize) -> Option<String> {
    let lines: Vec<&str> = source.lines().take(line - 1).collect();
    for above in lines.into_iter().rev() {
        let body = above.trim_start_matches([' ', '-']);
        let depth = above.len() - body.len();
        if depth < column && body.trim_end().ends_with(':') {
            return Some(body.trim_end().trim_end_matches(':').trim_matches(['"', '\'']).to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &str, column: usize) -> (String, usize) {
        mask(line, 1, column)
    }

    #[test]
    fn only_values_under_harmless_keys_are_shown_and_the_caret_stays() {
        for (line, shown) in [
            ("    password: hunter2", "    password: ******"),
            ("    passwordd: hun,ter2", "    passwordd: ******"),
            ("  pasword: hunter2", "  pasword: ******"),
            ("hedders: { X-Team: hunter2 }", "hedders: { X-Team: ****** }"),
            ("{ bearer: abc, host: red }", "{ bearer: ******, host: red }"),
            ("bearer: \"${TOKEN}\"", "bearer: \"${TOKEN}\""),
            ("bearer: \"${A}hunter2${B}\"", "bearer: ******"),
            ("bearer: ${A:-hunter2}", "bearer: ******"),
            ("upstream_proxy: ftp://bob:hunter2@p", "upstream_proxy: ******"),
            ("    MIIEvQIBADANBgkqh", "    ******"),
            ("  X-Api-Key: \"a b, c\"", "  X-Api-Key: ******"),
            ("  token: \"a\\\"b\"", "  token: ******"),
            ("  key: hunter2", "  key: ******"),
            ("  exec: [curl, hunter2]", "  exec: ******"),
            ("  - hunter2", "  - ******"),
            ("  - host: a.example", "  - host: a.example"),
            ("    auth: githib", "    auth: githib"),
        ] {
            assert_eq!(masked(line, 0).0, shown);
        }
        assert_eq!(masked("    password: hunter2", 4).1, 4);
        assert_eq!(masked("    password: hunter2", 14).1, 14);
        assert_eq!(masked("{ bearer: abc, colour: red }", 15).1, 18);
        assert_eq!(mask("host:\n  - a.example\n", 2, 4), ("  - a.example".to_owned(), 4));
        assert_eq!(mask("tokens:\n  - hunter2\n", 2, 4), ("  - ******".to_owned(), 4));
    }

    #[test]
    fn lines_of_rules_are_counted_only_when_they_can_be() {
        let text = "listen: x\nrules:\n  # first\n  - host: a\n    path:\n      - /b\n  - host: c\nlog: {}\n";
        assert_eq!(rule_lines(text, 2), [4, 7]);
        assert!(rule_lines(text, 3).is_empty());
        assert!(rule_lines("{\"rules\": [{}]}", 1).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_masking_panic(text in "\\PC{0,80}", column in 0_usize..90) {
            let _ = mask(&text, 1, column);
        }
    }
}
