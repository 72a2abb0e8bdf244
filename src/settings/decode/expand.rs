//! `${…}` and `{{…}}` in texts.

use super::super::literal;
use super::super::shown::forms;
use super::{Decode, Node, Place, Scope, VAR_DEPTH, Value, nearest};
use crate::secret::Secret;

impl Decode<'_> {
    /// Replaces `${…}` and `{{…}}`.
    pub fn expand(&mut self, text: &str, place: Place, depth: usize) -> Option<String> {
        if !text.contains("${") && !text.contains("{{") {
            return Some(text.to_owned());
        }
        if depth > VAR_DEPTH {
            self.report.error("var-circle", place, "these variables name one another in a circle");
            return None;
        }
        let mut done = String::with_capacity(text.len());
        let mut rest = text;
        let mut whole = true;
        while let Some(at) = rest.find(['$', '{']) {
            done.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("$${") {
                done.push_str("${");
                rest = after;
            } else if rest.starts_with("${") || rest.starts_with("{{") {
                let Some((inner, after)) = enclosed(rest) else {
                    self.report
                        .error("open-reference", place, format!("`{}` is not closed", &rest[..2]))
                        .help("close it, or write `$${` for the characters themselves");
                    return None;
                };
                let value = if rest.starts_with("${") {
                    self.reference(inner, place, depth)
                } else {
                    self.postman(inner.trim(), place, depth)
                };
                match value {
                    Some(value) => done.push_str(&value),
                    None => whole = false,
                }
                rest = after;
            } else {
                let step = rest.chars().next().map_or(1, char::len_utf8);
                done.push_str(&rest[..step]);
                rest = &rest[step..];
            }
        }
        done.push_str(rest);
        whole.then_some(done)
    }

    fn reference(&mut self, inner: &str, place: Place, depth: usize) -> Option<String> {
        if let Some(path) = inner.strip_prefix("file:") {
            let node = Node { place, value: Value::Text(path.to_owned()) };
            let path = self.expand(path, place, depth + 1)?;
            let path = self.path_of(&path, &node)?;
            return self.read_file(&path, place).map(|secret| self.withheld(secret.expose(), &format!("${{{inner}}}")));
        }
        let (name, fallback) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(Ok(default))),
            None => match inner.split_once(":?") {
                Some((name, message)) => (name, Some(Err(message))),
                None => (inner, None),
            },
        };
        if let Some(Ok(default)) = fallback.filter(|_| !self.plain) {
            Self::withhold_named(self.scope, default, depth);
        }
        if let Some(value) = self.var(name, place, depth) {
            return value;
        }
        match (self.scope.env.get(name).filter(|value| !value.is_empty() || fallback.is_none()), fallback) {
            (Some(value), _) => {
                self.took(name);
                Some(self.withheld(unbroken(value), &format!("${{{name}}}")))
            }
            (None, Some(Ok(default))) => {
                let value = self.expand(default, place, depth + 1)?;
                Some(self.withheld(&value, &format!("${{{name}}}")))
            }
            (None, Some(Err(message))) => {
                let named = if forms::is_reference(name) { format!("`{name}`") } else { "this variable".to_owned() };
                self.report.error("unset", place, format!("{named} is not set: {message}"));
                None
            }
            (None, None) => self.variable(name, place),
        }
    }

    fn postman(&mut self, name: &str, place: Place, depth: usize) -> Option<String> {
        if let Some(value) = self.var(name, place, depth) {
            return value;
        }
        let near = nearest(name, self.scope.vars.keys().map(String::as_str)).map(str::to_owned);
        let named = if forms::is_reference(name) {
            format!("there is no variable `{name}`")
        } else {
            "there is no such variable".to_owned()
        };
        let error = self.report.error("unset", place, named);
        let braces = name.contains(['{', '}']);
        let inner = name.trim_matches(['{', '}', ' ']);
        error.help(match (literal::foreign_variable(name), near) {
            _ if braces && forms::is_reference(inner) => format!("two braces on either side are enough: `{{{{{inner}}}}}`"),
            _ if braces => "there is no reference within a name: give the whole value a name of its own under `vars:`".to_owned(),
            (Some(meant), _) => format!("write `${{{meant}}}`"),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => "define it under `vars:`, or take it from the environment with `${NAME}`".to_owned(),
        });
        None
    }

    /// `None`: no such variable. `Some(None)`: it has a mistake, which is told.
    fn var(&mut self, name: &str, _place: Place, depth: usize) -> Option<Option<String>> {
        let scope = self.scope;
        let (text, defined) = scope.vars.get(name)?;
        let value = self.expand(text, *defined, depth + 1);
        Some(value.map(|value| self.withheld(&value, &format!("${{{name}}}"))))
    }

    /// Is this value, or a part of it, not in the configuration but in a variable of the environment, a file, or what a program
    /// prints?
    pub fn is_from_elsewhere(&self, node: &Node) -> bool {
        node.as_text().is_none_or(|text| self.names_elsewhere(text, 0))
    }

    fn names_elsewhere(&self, text: &str, depth: usize) -> bool {
        let mut rest = text;
        while let Some(at) = rest.find("${").into_iter().chain(rest.find("{{")).min() {
            let Some((inner, after)) = enclosed(&rest[at..]) else { return false };
            let name = inner.split(':').next().unwrap_or(inner).trim();
            let escaped = rest[..at].ends_with('$') && rest[at..].starts_with("${");
            let found = match self.scope.vars.get(name) {
                Some((text, _)) => depth <= VAR_DEPTH && self.names_elsewhere(text, depth + 1),
                None => rest[at..].starts_with("${"),
            };
            if found && !escaped {
                return true;
            }
            rest = after;
        }
        false
    }

    /// The variables of the environment that a text names where a secret is written.
    pub fn withhold_named(scope: &Scope, text: &str, depth: usize) {
        let mut rest = text;
        while let Some(at) = rest.find("${").into_iter().chain(rest.find("{{")).min() {
            let Some((inner, after)) = enclosed(&rest[at..]) else { return };
            let (name, more) = inner.split_once(':').unwrap_or((inner, ""));
            match scope.vars.get(name.trim()) {
                Some((text, _)) if depth <= VAR_DEPTH => Self::withhold_named(scope, text, depth + 1),
                None if scope.env.contains_key(name) && rest[at..].starts_with("${") && !rest[..at].ends_with('$') => {
                    scope.withheld.add(name);
                }
                _ => {}
            }
            Self::withhold_named(scope, more, depth);
            rest = after;
        }
    }

    fn took(&self, name: &str) {
        if !self.plain {
            self.scope.withheld.add(name);
        }
    }

    /// A value that came from elsewhere than the place it is used at: in no message from now on.
    fn withheld(&mut self, value: &str, origin: &str) -> String {
        self.report.withhold(&Secret::new(value), origin);
        value.to_owned()
    }

    pub(super) fn variable(&mut self, name: &str, place: Place) -> Option<String> {
        if let Some(value) = self.scope.env.get(name) {
            self.took(name);
            return Some(self.withheld(unbroken(value), &format!("${{{name}}}")));
        }
        if !forms::is_reference(name) {
            self.report.error("unset", place, "this is not the name of a variable that is set").help(
                match (literal::foreign_variable(name), name.split_once('-')) {
                    (Some(meant), _) => format!("write `${{{meant}}}`"),
                    (None, Some((meant, _))) if forms::is_variable(meant) => {
                        format!("a default stands behind `:-`: write `${{{meant}:-DEFAULT}}`")
                    }
                    _ => "give the name of the variable that holds the value, not the value".to_owned(),
                },
            );
            return None;
        }
        self.report.error("unset", place, format!("`{name}` is not set")).help(match literal::foreign_variable(name) {
            Some(meant) => format!("write `${{{meant}}}`"),
            None => format!("export {name}=…, or ${{{name}:-}} to allow empty"),
        });
        None
    }
}

/// What stands between `${` and its `}` (references nest), or between `{{` and `}}`; and what follows.
fn enclosed(text: &str) -> Option<(&str, &str)> {
    if text.starts_with("{{") {
        let end = text.find("}}")?;
        return Some((&text[2..end], &text[end + 2..]));
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("${") {
            depth += 1;
            at += 2;
        } else if rest.starts_with('}') {
            depth -= 1;
            at += 1;
            if depth == 0 {
                return Some((&text[2..at - 1], &text[at..]));
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// What a variable holds, without the line break that `export X="$(cat FILE; echo)"`, a here-document or an `--env-file` left at its
/// end: as the one of a secret's file it is no part of the secret, and no scheme could send it.
fn unbroken(value: &str) -> &str {
    value.trim_end_matches(['\n', '\r'])
}
