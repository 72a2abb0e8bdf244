//! What is wrong with a config: every mistake with its place, shown as rustc does. What may be secret is neither in the shown
//! line nor in the words.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value as Json, json};

use super::shape::Schema;
use super::shown::forms::Known;
use super::shown::{Page, Sought, Unspoken};
use super::yaml;
use crate::secret::Secret;

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
    /// One sentence without a full stop.
    message: String,
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
    /// The same files, as far as they may be shown.
    pages: Vec<Page>,
    /// What the files may hold.
    schema: Schema,
    known: OnceLock<Known>,
    withheld: Unspoken,
}

/// More mistakes than this are only counted.
const SHOWN: usize = 50;
/// The same, for machines.
const LISTED: usize = 200;

impl Report {
    /// For documents of this schema.
    pub fn of(schema: Schema) -> Self {
        Self { schema, ..Self::default() }
    }

    /// From now on this text, which came from what is written as `origin`, is in no message.
    pub fn withhold(&mut self, text: &Secret, origin: &str) {
        self.withheld.add(text, origin);
    }

    fn known(&self) -> &Known {
        self.known.get_or_init(|| {
            let mut known = Known::new(&self.schema);
            known.names.extend(self.pages.iter().flat_map(|page| page.names(self.schema.naming)));
            known
        })
    }

    /// Is this a word of the configuration's own, which may stand in a message?
    pub fn knows(&self, text: &str) -> bool {
        self.known().is_word(text)
    }

    /// What may not stand in a message.
    fn sought(&self) -> Sought<'_> {
        let hidden = self.pages.iter().flat_map(|page| page.hidden(&self.schema, self.known()));
        self.withheld.with(hidden.map(String::as_str))
    }

    /// The texts of all files that stand where secrets are written, whether or not what they stand in is used.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.pages.iter().flat_map(|page| page.secrets(&self.schema, self.known())).map(String::as_str)
    }

    /// Where a file lies: not taken apart by what happens to stand in it too, only by what a variable put into its path.
    fn location(&self, path: &Path) -> String {
        self.withheld.with(std::iter::empty()).cleaned(&path.display().to_string(), self.known())
    }

    /// Remembers a file; its number is what places name.
    pub fn add_file(&mut self, path: PathBuf, text: String) -> u16 {
        self.pages.push(Page::new(&text));
        self.files.push((path, text));
        self.known = OnceLock::new();
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

    /// Short names for the places of all items of the root's list `key`, as `gatepass.yaml:16`. One reading each would make
    /// a large file slow, so beyond a few the lines of the block list are counted instead; what cannot be counted is named
    /// by its number.
    pub fn labels(&self, key: &str, places: &[Place]) -> Vec<String> {
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
                    let lines = counted[at].get_or_insert_with(|| item_lines(key, text, total(place.file)));
                    lines.get(n).copied()
                })
            };
            labels.push(match line {
                Some(line) => format!("{}:{line}", name(place.file)),
                None => format!("{} {key}[{n}]", name(place.file)),
            });
        }
        labels
    }

    /// All mistakes, the way a terminal shows them; ends with a count.
    pub fn render(&self, color: bool) -> String {
        let mut text = String::new();
        let mut shown: Vec<(&str, Option<Place>)> = Vec::new();
        let sought = self.sought();
        // In the order of the text; what stands nowhere comes last.
        let mut ordered: Vec<&Diagnostic> = self.diagnostics.iter().collect();
        ordered.sort_by_key(|diagnostic| match (diagnostic.at, diagnostic.place) {
            (Some((file, line, _)), _) => (file, u32::try_from(line).unwrap_or(u32::MAX)),
            (None, Some(place)) => (place.file, place.node),
            (None, None) => (u16::MAX, u32::MAX),
        });
        for diagnostic in ordered {
            let key = (diagnostic.message.as_str(), diagnostic.place);
            if shown.len() >= SHOWN || shown.contains(&key) {
                continue;
            }
            shown.push(key);
            self.render_one(diagnostic, color, &sought, &mut text);
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

    /// What it says that is not in `told`; in `told` is then what it says. Where in a file a thing stands makes it no other.
    pub fn news(&self, told: &mut BTreeSet<u64>) -> String {
        let (mut text, mut now) = (String::new(), BTreeSet::new());
        let sought = self.sought();
        for diagnostic in &self.diagnostics {
            // No message is kept as it is: it has not been cleaned.
            let mut hasher = DefaultHasher::new();
            (diagnostic.code, &diagnostic.message).hash(&mut hasher);
            let key = hasher.finish();
            if !told.contains(&key) && !now.contains(&key) && now.len() < SHOWN {
                self.render_one(diagnostic, false, &sought, &mut text);
            }
            now.insert(key);
        }
        *told = now;
        text
    }

    /// Is a mistake none of whoever wrote the configuration, but a want of the system's (EMFILE, ENFILE, ENOMEM, EIO) that may
    /// be over in a moment?
    pub fn is_want_of_system(&self) -> bool {
        let want = |diagnostic: &Diagnostic| {
            ["(os error 24)", "(os error 23)", "(os error 12)", "(os error 5)"].iter().any(|os| diagnostic.message.contains(os))
        };
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error && want(diagnostic))
    }

    fn position(&self, diagnostic: &Diagnostic) -> Option<(u16, usize, usize)> {
        diagnostic.at.or_else(|| {
            let place = diagnostic.place?;
            let (_, line, column) = self.locate(place)?;
            Some((place.file, line, column))
        })
    }

    fn render_one(&self, diagnostic: &Diagnostic, color: bool, sought: &Sought<'_>, text: &mut String) {
        let paint = |code: &str, word: &str| if color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
        let head = match diagnostic.severity {
            Severity::Error => paint("1;31", "error"),
            Severity::Warning => paint("1;33", "warning"),
        };
        let _ = writeln!(text, "{head}: {}", sought.cleaned(&diagnostic.message, self.known()));
        if let Some((file, line, column)) = self.position(diagnostic)
            && let (Some((path, _)), Some(page)) = (self.files.get(usize::from(file)), self.pages.get(usize::from(file)))
        {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let bar = paint("1;34", "|");
            let _ = writeln!(text, "{margin}{} {}:{line}:{column}", paint("1;34", "-->"), self.location(path));
            let (shown, caret) = page.line((line, column), &self.schema, self.known());
            let _ = writeln!(text, "{margin} {bar}\n{} {bar} {shown}", paint("1;34", &number));
            let _ = writeln!(text, "{margin} {bar} {}{}", " ".repeat(caret), paint("1;31", "^"));
        }
        if let Some(help) = &diagnostic.help {
            let _ = writeln!(text, "  {} {}", paint("1;36", "help:"), sought.cleaned(help, self.known()));
        }
        text.push('\n');
    }

    /// The same for machines; behind as many as are listed stands how many more there are.
    pub fn json(&self) -> Json {
        self.listed(LISTED)
    }

    /// So many of them for machines.
    pub fn listed(&self, most: usize) -> Json {
        let sought = self.sought();
        let one = |diagnostic: &Diagnostic| {
            let position = self.position(diagnostic);
            json!({
                "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
                "code": diagnostic.code,
                "message": sought.cleaned(&diagnostic.message, self.known()),
                "file": position.and_then(|(file, ..)| self.files.get(usize::from(file))).map(|(path, _)| self.location(path)),
                "line": position.map(|(_, line, _)| line),
                "column": position.map(|(_, _, column)| column),
                "help": diagnostic.help.as_ref().map(|help| sought.cleaned(help, self.known())),
            })
        };
        let mut list: Vec<Json> = self.diagnostics.iter().take(most).map(one).collect();
        if let Some(more) = self.diagnostics.len().checked_sub(most).filter(|more| *more > 0) {
            let severity = if self.has_errors() { "error" } else { "warning" };
            let nowhere = Json::Null;
            list.push(json!({
                "severity": severity,
                "code": "more",
                "message": format!("and {more} more"),
                "file": nowhere,
                "line": nowhere,
                "column": nowhere,
                "help": nowhere,
            }));
        }
        Json::Array(list)
    }
}

impl Diagnostic {
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}

/// Lines on which the items of the root's block list `key` begin; none unless there are exactly `wanted`.
fn item_lines(key: &str, text: &str, wanted: usize) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut indent = None;
    let mut inside = false;
    for (n, line) in text.lines().enumerate() {
        let body = line.trim_start_matches(' ');
        let depth = line.len() - body.len();
        if depth == 0 && !body.is_empty() && !body.starts_with(['#', '-']) {
            inside = body.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
            continue;
        }
        if inside && body.starts_with('-') && *indent.get_or_insert(depth) == depth {
            lines.push(n + 1);
        }
    }
    if lines.len() == wanted { lines } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_file_lies_is_told_though_a_password_is_a_part_of_its_path() {
        let mut report = Report::default();
        let text = "rules:\n  - host: a\n    basic: { username: me, password: staging }\n";
        report.add_file("/etc/staging/staging.yaml".into(), text.to_owned());
        report.error("x", Place { file: 0, node: 0 }, "it is wrong");
        assert!(report.render(false).contains("--> /etc/staging/staging.yaml:1:1"), "{}", report.render(false));
    }

    #[test]
    fn lines_of_items_are_counted_only_when_they_can_be() {
        let text = "listen: x\nrules:\n  # first\n  - host: a\n    path:\n      - /b\n  - host: c\nlog: {}\n";
        assert_eq!(item_lines("rules", text, 2), [4, 7]);
        assert!(item_lines("rules", text, 3).is_empty());
        assert!(item_lines("rules", "{\"rules\": [{}]}", 1).is_empty());
    }

    #[test]
    fn news_is_what_was_not_said_before_wherever_it_stands() {
        let mut report = Report::default();
        let mut told = BTreeSet::new();
        report.warning("expiry", None, "one expires");
        assert!(report.news(&mut told).contains("one expires"));
        report.warning("expiry", None, "two expires");
        let news = report.news(&mut told);
        assert!(news.contains("two expires") && !news.contains("one expires"), "{news}");
        assert_eq!(report.news(&mut told), "");
        assert_eq!(Report::default().news(&mut told), "");
        assert!(report.news(&mut told).contains("one expires"), "what went away and comes back is news");
    }

    #[test]
    fn machines_are_told_of_so_many_and_how_many_more_there_are() {
        let mut report = Report::default();
        for n in 0..LISTED {
            report.warning("x", None, format!("warning {n}"));
        }
        assert_eq!(report.json().as_array().unwrap().len(), LISTED);
        for n in 0..7 {
            report.error("x", None, format!("error {n}"));
        }
        let json = report.json();
        let last = json.as_array().unwrap().last().unwrap();
        assert_eq!((last["code"].as_str(), last["message"].as_str()), (Some("more"), Some("and 7 more")));
        assert_eq!(last["severity"], "error");
        assert_eq!(report.listed(usize::MAX).as_array().unwrap().len(), LISTED + 7);
    }

    #[test]
    fn a_want_of_the_system_is_no_mistake_of_the_configuration() {
        let mut report = Report::default();
        report.error("file", None, "cannot read /x: there is no such file");
        assert!(!report.is_want_of_system());
        report.error("file", None, format!("cannot read /x: {}", std::io::Error::from_raw_os_error(24)));
        assert!(report.is_want_of_system());
    }
}
