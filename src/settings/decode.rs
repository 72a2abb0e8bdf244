//! From nodes to values. Every function reports what is wrong, with its place, and answers `None`;
//! callers go on, so that all mistakes of a file are told at once.

mod expand;
mod keyring;
mod material;
mod programs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::literal;
use super::report::{Place, Report};
use super::safe::Safe;
use super::shown::forms;
use super::units::{parse_duration, parse_size};
use super::values::{Command, Pem, Text};
use super::withheld::Withheld;
use super::yaml::{Key, Node, Value};
use crate::secret::Secret;

/// What reading needs to know besides the node. Kept with a loaded config, since the settings of
/// credentials are read later, each by its own scheme.
#[derive(Clone, Default)]
pub struct Scope {
    pub env: BTreeMap<String, String>,
    /// Variables as written; they may name one another.
    pub vars: BTreeMap<String, (String, Place)>,
    /// The folder that relative paths of each file start at.
    pub bases: Vec<PathBuf>,
    /// Largest file read, in bytes.
    pub bound: usize,
    /// `limits.helper_output`.
    pub output: usize,
    /// Variables of the environment that went into secrets; its copies share it.
    pub withheld: Withheld,
    /// Whose files are believed.
    pub safe: Safe,
}

/// Reads nodes in a scope.
pub struct Decode<'a> {
    pub report: &'a mut Report,
    scope: &'a Scope,
    /// Files read on the way, to be watched.
    read: Vec<PathBuf>,
    /// What is being read is no secret (a path, a host): its variables stay in a command's environment.
    plain: bool,
}

/// A map whose keys were checked.
pub struct Fields<'n> {
    pub place: Place,
    entries: &'n [(Key, Node)],
}

impl<'n> Fields<'n> {
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    pub fn entries(&self) -> &'n [(Key, Node)] {
        self.entries
    }
}

/// Variables that name one another deeper than this are taken for a circle.
const VAR_DEPTH: usize = 16;

impl<'a> Decode<'a> {
    pub fn new(report: &'a mut Report, scope: &'a Scope) -> Self {
        Self { report, scope, read: Vec::new(), plain: false }
    }

    /// The files that were read.
    pub fn into_files(self) -> Vec<PathBuf> {
        self.read
    }

    /// Remembers a file that was read otherwise.
    pub fn note_file(&mut self, file: PathBuf) {
        self.read.push(file);
    }

    pub fn scope(&self) -> &'a Scope {
        self.scope
    }

    /// Opens a map; unknown keys are reported with the nearest known one. `what` is the noun for messages ("rule", "basic").
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        let entries = self.map(node, what)?;
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            self.unknown_key(key, what, known);
        }
        Some(Fields { place: node.place, entries })
    }

    fn unknown_key(&mut self, key: &Key, what: &str, known: &[&str]) {
        let near = nearest(&key.text, known.iter().copied());
        // What stands where a key should may be anything.
        let near = near.filter(|near| forms::is_misspelt(&key.text, near) || forms::is_key_word(&key.text));
        match near {
            Some(near) => {
                let message = format!("unknown {what} key `{}`; did you mean `{near}`?", key.text);
                self.report.error("unknown-key", key.place, message);
            }
            None => {
                let name = if forms::is_key_word(&key.text) { format!(" `{}`", key.text) } else { String::new() };
                let message = format!("unknown {what} key{name}");
                self.report.error("unknown-key", key.place, message).help(format!("a {what} knows: {}", known.join(", ")));
            }
        }
    }

    /// Any map, its keys not yet judged.
    pub fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [(Key, Node)]> {
        let entries = node.as_map();
        if entries.is_none() {
            self.report.error("wrong-kind", node.place, format!("{what} is a map of settings, not {}", node.kind()));
        }
        entries
    }

    /// A list; a single value counts as a list of one.
    pub fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(node),
        }
    }

    /// The value of a key that must be there.
    pub fn required<'n>(&mut self, fields: &Fields<'n>, what: &str, key: &str) -> Option<&'n Node> {
        let node = fields.get(key);
        if node.is_none() {
            self.report.error("missing-key", fields.place, format!("{what} needs `{key}`")).help(format!("add `{key}: …`"));
        }
        node
    }

    /// A text with `${…}` and `{{…}}` replaced; not for secrets' other forms.
    pub fn string(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => self.expand(text, node.place, 0),
            Value::Bool(value) => self.not_text(node, &format!("YAML reads this as {value}")),
            Value::Number(_) => self.not_text(node, "YAML reads this as a number"),
            Value::Null => self.not_text(node, "there is no value here"),
            _ => self.not_text(node, &format!("a text is wanted here, not {}", node.kind())),
        }
    }

    /// [`Decode::string`] where no secret can stand: a path, a host, a word. Anything else may hold one.
    pub fn plain_string(&mut self, node: &Node) -> Option<String> {
        self.plainly(|decode| decode.string(node))
    }

    /// [`Decode::strings`], likewise.
    pub fn plain_strings(&mut self, node: &Node) -> Option<Vec<(String, Place)>> {
        self.plainly(|decode| decode.strings(node))
    }

    fn plainly<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.plain, true);
        let value = read(self);
        self.plain = before;
        value
    }

    fn not_text<T>(&mut self, node: &Node, message: &str) -> Option<T> {
        self.report.error("not-text", node.place, message).help("put it in quotes if it is text");
        None
    }

    /// A SECRET in any of its forms: text, `{env:}`, `{file:}`, `{exec:}`, `{keyring:}`.
    pub fn text(&mut self, node: &Node) -> Option<Text> {
        if node.as_map().is_none() {
            let text = self.string(node)?;
            if let Some((why, mend)) = literal::odd(&text).filter(|_| !self.plain) {
                self.report.warning("odd-secret", node.place, why).help(mend);
            }
            return Some(Text::Known(Secret::new(text)));
        }
        let fields = self.fields(node, "secret", &["env", "file", "exec", "ttl", "timeout", "format", "field", "keyring"])?;
        let forms: Vec<&str> = ["env", "file", "exec", "keyring"].into_iter().filter(|form| fields.get(form).is_some()).collect();
        match forms[..] {
            ["env"] => {
                let node = fields.get("env")?;
                let name = self.string(node)?;
                if self.scope.env.contains_key(&name) || forms::is_variable(&name) {
                    return self.variable(&name, node.place).map(|text| Text::Known(Secret::new(text)));
                }
                self.variable("", node.place).map(|text| Text::Known(Secret::new(text)))
            }
            ["file"] => self.secret_file(fields.get("file")?).map(Text::Known),
            ["exec"] => self.command(&fields).map(|command| Text::Command(Arc::new(command))),
            ["keyring"] => self.keyring(&fields).map(|command| Text::Command(Arc::new(command))),
            _ => {
                self.report.error(
                    "secret-form",
                    node.place,
                    "a secret is a text, or exactly one of `env`, `file`, `exec`, `keyring`",
                );
                None
            }
        }
    }

    fn command(&mut self, fields: &Fields<'_>) -> Option<Command> {
        let (argv, directory) = self.argv(fields.get("exec")?, "exec")?;
        let ttl = fields.get("ttl").map_or(Some(Duration::from_secs(600)), |node| self.duration(node))?;
        let timeout = fields.get("timeout").map_or(Some(Duration::from_secs(10)), |node| self.duration(node))?;
        let json =
            fields.get("format").map_or(Some(false), |node| self.choice(node, "format", &[("raw", false), ("json", true)]))?;
        let field = match fields.get("field") {
            Some(node) => Some(self.string(node)?),
            None if json => {
                self.report
                    .error("missing-key", fields.place, "`format: json` needs `field`")
                    .help("add `field: .NAME`, the member that holds the secret");
                return None;
            }
            None => None,
        };
        let bound = self.scope.output;
        Some(Command { place: fields.place, argv, directory, ttl, timeout, field, bound, mend: None })
    }

    /// One text or a list of texts.
    pub fn strings(&mut self, node: &Node) -> Option<Vec<(String, Place)>> {
        let items = self.list(node);
        let read: Vec<_> = items.iter().map(|item| self.string(item).map(|text| (text, item.place))).collect();
        read.into_iter().collect()
    }

    pub fn boolean(&mut self, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) if matches!(text.as_str(), "yes" | "on") => Some(true),
            Value::Text(text) if matches!(text.as_str(), "no" | "off") => Some(false),
            _ => {
                self.report.error("wrong-kind", node.place, format!("true or false is wanted here, not {}", node.kind()));
                None
            }
        }
    }

    pub fn number(&mut self, node: &Node, low: u64, high: u64) -> Option<u64> {
        let written = match &node.value {
            Value::Number(text) => Some(text.clone()),
            Value::Text(_) => self.plain_string(node),
            _ => None,
        };
        let number = written.and_then(|text| text.parse::<u64>().ok()).filter(|n| (low..=high).contains(n));
        if number.is_none() {
            self.report.error("wrong-number", node.place, format!("a number from {low} to {high} is wanted here"));
        }
        number
    }

    /// `10s`, `5m`, `1h`, `250ms`, `7d`, or a plain number of seconds.
    pub fn duration(&mut self, node: &Node) -> Option<Duration> {
        let text = match &node.value {
            Value::Number(text) => text.clone(),
            _ => self.plain_string(node)?,
        };
        let duration = parse_duration(&text);
        if duration.is_none() {
            self.report.error("wrong-time", node.place, "a time is wanted here").help("write it as 250ms, 10s, 5m, 1h or 7d");
        }
        duration
    }

    /// `64KiB`, `1MiB`, `2GB`, or a plain number of bytes.
    pub fn size(&mut self, node: &Node) -> Option<u64> {
        let text = match &node.value {
            Value::Number(text) => text.clone(),
            _ => self.plain_string(node)?,
        };
        let size = parse_size(&text);
        if size.is_none() {
            self.report.error("wrong-size", node.place, "a size is wanted here").help("write it as 65536, 64KiB or 1MiB");
        }
        size
    }

    /// One of a fixed set of words; a wrong one is reported with the nearest.
    pub fn choice<T: Copy>(&mut self, node: &Node, what: &str, options: &[(&str, T)]) -> Option<T> {
        let text = match &node.value {
            Value::Bool(value) => value.to_string(),
            Value::Number(text) => text.clone(),
            _ => self.plain_string(node)?,
        };
        if let Some((_, value)) = options.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> = options.iter().map(|(name, _)| *name).collect();
        let near = nearest(&text, names.iter().copied()).filter(|near| forms::is_misspelt(&text, near));
        let message = match near {
            Some(near) => format!("unknown {what} `{text}`; did you mean `{near}`?"),
            None if forms::is_key_word(&text) || self.report.knows(&text) => format!("unknown {what} `{text}`"),
            None => format!("unknown {what}"),
        };
        self.report.error("unknown-word", node.place, message).help(format!("one of: {}", names.join(", ")));
        None
    }
}

/// The most similar of some names, if one is similar at all.
pub fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let lower = text.to_ascii_lowercase();
    names
        .map(|name| {
            let similar = strsim::jaro_winkler(&lower, &name.to_ascii_lowercase());
            let part = lower.len() > 3 && (name.contains(lower.as_str()) || lower.contains(name) && name.len() > 3);
            (if part { similar.max(0.85) } else { similar }, name)
        })
        .filter(|(similar, _)| *similar > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
