//! Texts of an export: Postman's variables, and what may be copied of a text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::secrecy::{Level, is_harmless, is_telling, looks_secret};

/// Variables by scope, and what is learnt while texts are carried over.
#[derive(Default)]
pub struct Texts {
    globals: Scope,
    environment: Scope,
    collections: Vec<Scope>,
    /// Which of the collections is being read.
    current: usize,
    /// Variables of the configuration, as they stand in it.
    vars: BTreeMap<String, String>,
    wanted: Vec<Wanted>,
    notes: Vec<String>,
    /// Notes that are one for many things.
    lists: BTreeMap<&'static str, BTreeSet<String>>,
    /// What was taken for secret, to keep it out of what is told.
    secrets: BTreeSet<String>,
}

type Scope = BTreeMap<String, Variable>;

#[derive(Clone, PartialEq, Eq)]
struct Variable {
    value: String,
    secret: bool,
}

/// An environment variable that must be set.
struct Wanted {
    name: String,
    /// What it stands for, to tell two of one name apart.
    identity: String,
    what: String,
}

/// Postman replaces so often; a circle ends there. gatepass follows variables less deep.
const ROUNDS: usize = 12;

/// Environment variables that every process has; a credential must not be taken from them by accident.
const SYSTEM: [&str; 15] = [
    "PATH",
    "HOME",
    "USER",
    "USERNAME",
    "LOGNAME",
    "SHELL",
    "PWD",
    "LANG",
    "TERM",
    "HOSTNAME",
    "HOST",
    "TMPDIR",
    "EDITOR",
    "DISPLAY",
    "SSL_CERT_FILE",
];

/// Where variables of a document belong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Globals,
    Environment,
    /// Of the collection being read; folders add to it.
    Collection,
}

impl Texts {
    /// A collection's own variables hide nothing of another's.
    pub fn begin_collection(&mut self) -> usize {
        self.collections.push(Scope::new());
        self.current = self.collections.len() - 1;
        self.current
    }

    pub fn enter(&mut self, collection: usize) {
        self.current = collection;
    }

    pub fn add(&mut self, place: Place, values: &[Value]) {
        for value in values {
            let Some(key) = value.get("key").or_else(|| value.get("id")).and_then(Value::as_str) else { continue };
            if is_off(value) {
                self.list("variables that are switched off", key);
                continue;
            }
            let secret = matches!(value.get("type").and_then(Value::as_str), Some("secret" | "password" | "vault"));
            let text = value.get("value").map(plain_text).unwrap_or_default();
            let variable = Variable { value: text, secret };
            let scope = match place {
                Place::Globals => &mut self.globals,
                Place::Environment => &mut self.environment,
                Place::Collection => match self.collections.get_mut(self.current) {
                    Some(scope) => scope,
                    None => continue,
                },
            };
            let before = scope.insert(key.to_owned(), variable.clone());
            if before.is_some_and(|before| before != variable) {
                self.list("variables that stand there twice, of which the last counts", key);
            }
        }
    }

    fn variable(&self, name: &str) -> Option<&Variable> {
        let own = self.collections.get(self.current);
        self.environment.get(name).or_else(|| own?.get(name)).or_else(|| self.globals.get(name))
    }

    /// May its value be copied? Not what is marked, called or shaped like a secret, nor what is made from one.
    fn is_open(&self, name: &str, level: Level, depth: usize) -> bool {
        let Some(variable) = self.variable(name) else { return false };
        let is_url = variable.value.starts_with("https://") || variable.value.starts_with("http://");
        let (pieces, inside) = pieces(&variable.value);
        depth < ROUNDS
            && !variable.secret
            && !variable.value.is_empty()
            && (level == Level::Any || is_url || !is_telling(name))
            && !looks_secret_in(&variable.value, level)
            && pieces.iter().all(|piece| is_harmless(piece, level))
            && inside.iter().all(|name| self.is_open(name, level, depth + 1))
    }

    /// A text that is copied where it is harmless, its variables kept; else it must be set.
    pub fn plain(&mut self, text: &str, level: Level, owner: &str, field: &str) -> String {
        let (pieces, _) = pieces(text);
        if pieces.iter().all(|piece| is_harmless(piece, level)) && !looks_secret_in(text, level) {
            return self.rewritten(text, level, &format!("`{field}` of `{owner}`"));
        }
        self.secret(text, owner, field)
    }

    /// Would [`Texts::plain`] copy it whole?
    pub fn is_plain(&self, text: &str, level: Level) -> bool {
        let (pieces, names) = pieces(text);
        pieces.iter().all(|piece| is_harmless(piece, level)) && names.iter().all(|name| self.is_open(name, level, 0))
    }

    fn rewritten(&mut self, text: &str, level: Level, what: &str) -> String {
        let mut done = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_reference(rest) {
            done.push_str(&before.replace("${", "$${"));
            done.push_str(&self.reference(name, level, what));
            rest = after;
        }
        done + &rest.replace("${", "$${")
    }

    fn reference(&mut self, name: &str, level: Level, what: &str) -> String {
        if self.is_open(name, level, 0)
            && let Some(value) = self.variable(name).map(|variable| variable.value.clone())
        {
            let value = self.rewritten(&value, level, what);
            return format!("{{{{{}}}}}", self.define(name, value));
        }
        let text = self.want_variable(name, what);
        format!("${{{text}}}")
    }

    /// A variable of the configuration; called otherwise where two collections mean different things by a name.
    fn define(&mut self, name: &str, value: String) -> String {
        let mut free = name.to_owned();
        let mut n = 2;
        while self.vars.get(&free).is_some_and(|other| *other != value) || self.wanted.iter().any(|wanted| wanted.name == free) {
            free = format!("{name}-{n}");
            n += 1;
        }
        self.vars.insert(free.clone(), value);
        free
    }

    /// A secret: a variable that must be set, called as Postman's variable where the text is nothing else.
    pub fn secret(&mut self, text: &str, owner: &str, field: &str) -> String {
        self.secrets.extend(pieces(text.trim()).0.into_iter().map(str::to_owned));
        let what = format!("`{field}` of `{owner}`");
        let name = match next_reference(text.trim()) {
            Some(("", name, "")) => self.want_variable(name, &what),
            _ => self.want(&format!("{owner}_{field}"), &format!("{owner}\n{field}\n{text}"), &what),
        };
        format!("${{{name}}}")
    }

    fn want_variable(&mut self, name: &str, what: &str) -> String {
        if name.starts_with('$') {
            self.note(format!("{what} holds Postman's dynamic variable {{{{{name}}}}}, which is a fixed value here"));
        }
        let own = self.collections.get(self.current).is_some_and(|scope| scope.contains_key(name));
        let scope = if own && !self.environment.contains_key(name) { self.current.to_string() } else { String::new() };
        if let Some(variable) = self.variable(name) {
            let value = variable.value.clone();
            self.secrets.insert(value);
        }
        self.want(name, &format!("{{{{{name}}}}}{scope}"), &format!("{what}, Postman's variable {{{{{name}}}}}"))
    }

    /// The environment variable for something that is called `name`.
    fn want(&mut self, name: &str, identity: &str, what: &str) -> String {
        if let Some(known) = self.wanted.iter().find(|wanted| wanted.identity == identity) {
            return known.name.clone();
        }
        let mut base = variable_name(name.strip_prefix("vault:").unwrap_or(name));
        let reserved = SYSTEM.contains(&base.as_str())
            || base.ends_with("_PROXY")
            || base.starts_with("XDG_")
            || base.starts_with("GATEPASS");
        if base.is_empty() || base.starts_with(|c: char| c.is_ascii_digit()) || reserved {
            base = format!("POSTMAN_{base}");
        }
        let mut text = base.clone();
        let mut n = 2;
        // Where a variable of the configuration has the name, it would hide that of the environment.
        while self.wanted.iter().any(|wanted| wanted.name == text)
            || self.vars.contains_key(&text)
            || text != name && self.variable(&text).is_some()
        {
            text = format!("{base}_{n}");
            n += 1;
        }
        self.wanted.push(Wanted { name: text.clone(), identity: identity.to_owned(), what: what.to_owned() });
        text
    }

    /// The text with every variable replaced, for finding out hosts. `Err`: the name of one that is not known.
    pub fn resolve(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for _ in 0..ROUNDS {
            let Some((before, name, after)) = next_reference(&text) else { return Ok(text) };
            let variable = self.variable(name).ok_or_else(|| name.to_owned())?;
            text = format!("{before}{}{after}", variable.value);
        }
        Err("a circle".to_owned())
    }

    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// One more of the things that a note is about.
    pub fn list(&mut self, title: &'static str, name: &str) {
        self.lists.entry(title).or_default().insert(label(name));
    }

    /// Variables that the configuration needs, what must be set, and what is told.
    pub fn into_told(self) -> Told {
        let hide = |text: String| {
            let hidden = self
                .secrets
                .iter()
                .filter(|secret| is_worth_hiding(secret))
                .fold(text, |text, secret| text.replace(secret.as_str(), "…"));
            hidden.replace(|c: char| c.is_control(), " ")
        };
        let lists = self.lists.iter().map(|(title, names)| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("{title}: {}", names.join(", "))
        });
        let notes = self.notes.iter().cloned().chain(lists).map(hide).collect();
        let wanted = self.wanted.iter().map(|wanted| (wanted.name.clone(), hide(wanted.what.clone()))).collect();
        Told { vars: self.vars.into_iter().collect(), wanted, notes }
    }
}

pub struct Told {
    pub vars: Vec<(String, String)>,
    pub wanted: Vec<(String, String)>,
    pub notes: Vec<String>,
}

/// Not a word that may stand in what is told for itself, such as `password`.
fn is_worth_hiding(secret: &str) -> bool {
    secret.len() >= 6 && !secret.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// A form that spans variables: `https://{{user}}:{{password}}@host`.
fn looks_secret_in(text: &str, level: Level) -> bool {
    level != Level::Any && super::secrecy::has_userinfo(text)
}

/// Is an entry of a list switched off?
pub fn is_off(entry: &Value) -> bool {
    let flag = |name: &str| entry.get(name).map(plain_text);
    flag("enabled").as_deref() == Some("false") || flag("disabled").as_deref() == Some("true")
}

/// `partnerKey`, `partner-key` and `partner key` as `PARTNER_KEY`.
fn variable_name(name: &str) -> String {
    let mut text = String::new();
    let mut small = false;
    for c in name.chars() {
        if small && c.is_ascii_uppercase() {
            text.push('_');
        }
        small = c.is_ascii_lowercase();
        text.push(if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    }
    text.trim_matches('_').chars().take(80).collect()
}

/// The text before the first `{{name}}`, the name, and the rest.
fn next_reference(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find("{{")?;
    let end = start + text[start..].find("}}")?;
    Some((&text[..start], text[start + 2..end].trim(), &text[end + 2..]))
}

/// What stands between the variables, and their names.
fn pieces(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut between, mut names) = (Vec::new(), Vec::new());
    let mut rest = text;
    while let Some((before, name, after)) = next_reference(rest) {
        between.push(before);
        names.push(name);
        rest = after;
    }
    between.push(rest);
    (between, names)
}

pub fn references(text: &str) -> Vec<&str> {
    pieces(text).1
}

/// A scalar as a text.
pub fn plain_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A text in YAML: bare where that cannot be misread, else quoted, with nothing raw that YAML takes for a line break.
pub fn quoted(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let like_something_else = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "none" | "y" | "n" | ".inf" | ".nan"
    ) || text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'));
    if !text.is_empty() && text.chars().all(word) && !like_something_else {
        return text.to_owned();
    }
    let odd =
        |c: char| c.is_control() && c > '\u{1f}' || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    let json = Value::from(text).to_string();
    json.chars().map(|c| if odd(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// The name of a request or folder as it may be shown: Postman calls a request by its URL until it has a name.
pub fn label(text: &str) -> String {
    let cut =
        if text.contains("://") || text.starts_with("{{") { text.split(['?', '#']).next().unwrap_or_default() } else { text };
    let word = |word: &str| {
        let word = match word.split_once("://") {
            Some((scheme, rest)) if super::secrecy::has_userinfo(word) => {
                format!("{scheme}://{}", rest.split_once('@').map_or(rest, |(_, host)| host))
            }
            _ => word.to_owned(),
        };
        let parts = word.split('/').map(|part| if looks_secret(part) { "…" } else { part });
        parts.collect::<Vec<_>>().join("/")
    };
    cut.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A name as one word: letters, digits and dashes, lower case.
pub fn slug(text: &str) -> String {
    let shown = label(text);
    let words: Vec<String> =
        shown.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
    let slug: String = words.join("-").chars().take(40).collect();
    let slug = slug.trim_matches('-');
    if slug.is_empty() || slug == "none" { "postman".to_owned() } else { slug.to_owned() }
}
