//! Texts of an export: Postman's variables, and what may be copied of a text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Variables by scope, and what is learnt while texts are carried over.
#[derive(Default)]
pub struct Texts {
    /// Globals, collection, environment: the later wins.
    scopes: [BTreeMap<String, Variable>; 3],
    used: BTreeSet<String>,
    /// Environment variables that are wanted, by what they stand for.
    wanted: Vec<(String, String)>,
    notes: Vec<String>,
}

struct Variable {
    value: String,
    secret: bool,
}

/// Postman replaces so often; a circle ends there.
const ROUNDS: usize = 19;

/// Names of variables whose values are not copied, even where they stand in a harmless place.
const TELLING: [&str; 12] = [
    "token",
    "secret",
    "passw",
    "pwd",
    "passphrase",
    "apikey",
    "api_key",
    "api-key",
    "private",
    "credential",
    "session",
    "cookie",
];

/// Environment variables that every process has; a credential must not be taken from them by accident.
const SYSTEM: [&str; 12] =
    ["PATH", "HOME", "USER", "USERNAME", "LOGNAME", "SHELL", "PWD", "LANG", "TERM", "HOSTNAME", "HOST", "TMPDIR"];

impl Texts {
    pub fn add_scope(&mut self, scope: usize, values: &[Value]) {
        for value in values {
            let off = value.get("enabled").and_then(Value::as_bool) == Some(false)
                || value.get("disabled").and_then(Value::as_bool) == Some(true);
            let Some(key) = value.get("key").or_else(|| value.get("id")).and_then(Value::as_str).filter(|_| !off) else {
                continue;
            };
            let secret = value.get("type").and_then(Value::as_str) == Some("secret");
            let value = value.get("value").map(plain_text).unwrap_or_default();
            self.scopes[scope].insert(key.to_owned(), Variable { value, secret });
        }
    }

    fn variable(&self, name: &str) -> Option<&Variable> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    /// May its value be copied? Not what is marked, called or shaped like a secret, nor what is made from one.
    fn is_open(&self, name: &str, depth: usize) -> bool {
        let Some(variable) = self.variable(name) else { return false };
        let lower = name.to_ascii_lowercase();
        let is_url = variable.value.starts_with("https://") || variable.value.starts_with("http://");
        let telling = !is_url && TELLING.iter().any(|word| lower.contains(word));
        let inside = references(&variable.value);
        depth < ROUNDS
            && !variable.secret
            && !telling
            && !has_userinfo(&variable.value)
            && !variable.value.is_empty()
            && inside.iter().all(|name| self.is_open(name, depth + 1))
    }

    /// A harmless text as it stands in the configuration: variables stay variables.
    pub fn open(&mut self, text: &str, what: &str) -> String {
        let mut done = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_reference(rest) {
            done.push_str(&before.replace("${", "$${"));
            done.push_str(&self.reference(name, what));
            rest = after;
        }
        done + &rest.replace("${", "$${")
    }

    fn reference(&mut self, name: &str, what: &str) -> String {
        if self.is_open(name, 0) {
            self.mark_used(name);
            return format!("{{{{{name}}}}}");
        }
        if name.starts_with('$') {
            self.note(format!("{what} holds Postman's dynamic variable {{{{{name}}}}}"));
        }
        format!("${{{}}}", self.want(name, &format!("Postman's variable {{{{{name}}}}}, in {what}")))
    }

    fn mark_used(&mut self, name: &str) {
        if !self.used.insert(name.to_owned()) {
            return;
        }
        let inside: Vec<String> =
            self.variable(name).map(|v| references(&v.value).into_iter().map(str::to_owned).collect()).unwrap_or_default();
        for name in inside {
            self.mark_used(&name);
        }
    }

    /// A secret: a variable that must be set, called as Postman's variable where the text is nothing else.
    pub fn secret(&mut self, text: &str, owner: &str, field: &str) -> String {
        let name = match next_reference(text.trim()) {
            Some(("", name, "")) => self.want(name, &format!("{field} of `{owner}`, Postman's variable {{{{{name}}}}}")),
            _ => self.want(&format!("{owner}_{field}"), &format!("{field} of `{owner}`")),
        };
        format!("${{{name}}}")
    }

    /// The environment variable for something that is called `name`.
    fn want(&mut self, name: &str, what: &str) -> String {
        let name = name.strip_prefix("vault:").unwrap_or(name);
        let mut text = variable_name(name);
        if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || SYSTEM.contains(&text.as_str()) {
            text = format!("POSTMAN_{text}");
        }
        // Where a variable of the configuration has the name, it would hide that of the environment.
        if self.scopes.iter().any(|scope| scope.contains_key(&text)) && text != name {
            text.push_str("_SECRET");
        }
        if !self.wanted.iter().any(|(known, _)| *known == text) {
            self.wanted.push((text.clone(), what.to_owned()));
        }
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

    /// Variables that the configuration needs.
    pub fn vars(&self) -> Vec<(String, String)> {
        let value = |name: &String| self.variable(name).map(|v| (name.clone(), v.value.replace("${", "$${")));
        self.used.iter().filter_map(value).collect()
    }

    pub fn into_told(self) -> (Vec<(String, String)>, Vec<String>) {
        (self.wanted, self.notes)
    }
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
    text.trim_matches('_').to_owned()
}

/// The text before the first `{{name}}`, the name, and the rest.
fn next_reference(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find("{{")?;
    let end = start + text[start..].find("}}")?;
    Some((&text[..start], text[start + 2..end].trim(), &text[end + 2..]))
}

pub fn references(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((_, name, after)) = next_reference(rest) {
        names.push(name);
        rest = after;
    }
    names
}

/// `scheme://user:password@host`
pub fn has_userinfo(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

/// A scalar as a text.
pub fn plain_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A text in YAML: bare where that cannot be misread, else as JSON writes it.
pub fn quoted(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let like_something_else = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "none" | "y" | "n" | ".inf" | ".nan"
    ) || text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'));
    if !text.is_empty() && text.chars().all(word) && !like_something_else {
        return text.to_owned();
    }
    Value::from(text).to_string()
}

/// A name as one word: letters, digits and dashes, lower case.
pub fn slug(text: &str) -> String {
    let words: Vec<String> =
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
    let slug: String = words.join("-").chars().take(40).collect();
    if slug.is_empty() { "postman".to_owned() } else { slug }
}
