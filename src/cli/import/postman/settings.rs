//! One credential's settings: each value is carried over as the scheme's own table says what it may be.

use serde_json::Value;

use super::auth::{Auth, is_empty};
use super::secrecy::{Level, is_telling};
use super::texts::{Texts, plain_text, quoted};
use super::urls;
use crate::auth::Scheme;
use crate::settings::{Shape, parse_duration};

pub struct Maker<'t> {
    scheme: &'static Scheme,
    pub name: String,
    pub texts: &'t mut Texts,
    pub made: Vec<(&'static str, String)>,
    /// Parameters that have no place here.
    left: Vec<String>,
    /// What cannot be carried over is what it is all about.
    pub broken: bool,
}

/// What became of a value.
enum Carried {
    As(String),
    /// It says what holds anyway.
    Default,
    No,
}

/// SECRETs that are names more often than secrets: copied where they are plainly words.
const IDENTIFIERS: [&str; 4] = ["username", "client_id", "consumer_key", "id"];

/// Passwords that say nothing: the key stands where the user name does.
const DUMMIES: [&str; 10] = ["", "x", "none", "unused", "dummy", "api_token", "api_key", "token", "password", "x-oauth-basic"];

impl<'t> Maker<'t> {
    pub fn new(scheme: &'static Scheme, name: &str, texts: &'t mut Texts) -> Self {
        Self { scheme, name: name.to_owned(), texts, made: Vec::new(), left: Vec::new(), broken: false }
    }

    pub fn has(&self, ours: &str) -> bool {
        self.get(ours).is_some()
    }

    pub fn get(&self, ours: &str) -> Option<&str> {
        self.made.iter().find(|(known, _)| *known == ours).map(|(_, text)| text.as_str())
    }

    /// Remembers a parameter that is not carried over, if it says something.
    pub fn leave(&mut self, theirs: &str, value: &Value) {
        if !is_empty(value) && !self.left.iter().any(|known| known == theirs) {
            self.left.push(theirs.to_owned());
        }
    }

    pub fn carry(&mut self, theirs: &str, ours: &'static str, words: &[(&str, &str)], value: &Value, auth: &Auth<'_>) {
        if self.has(ours) {
            return self.leave(theirs, value);
        }
        let written = plain_text(value);
        let empty_says = match ours {
            // The word is left out; no version is sent; the key is the user name, or the password.
            "prefix" | "version" => true,
            "password" => matches!(auth.kind, "basic" | "digest" | "ntlm"),
            "username" => auth.kind == "basic",
            _ => false,
        };
        if written.is_empty() && !empty_says {
            return;
        }
        match self.value(ours, words, value, &written, auth) {
            Carried::As(text) => self.made.push((ours, text)),
            Carried::Default => {}
            Carried::No => {
                self.leave(theirs, value);
                // Signed otherwise it would be another credential.
                self.broken |= matches!(ours, "algorithm" | "signature_method") || theirs == "key" && ours == "name";
            }
        }
    }

    fn value(&mut self, ours: &'static str, words: &[(&str, &str)], value: &Value, written: &str, auth: &Auth<'_>) -> Carried {
        let name = self.name.clone();
        let Some((_, shape, ..)) = self.scheme.settings.iter().find(|(known, ..)| *known == ours) else { return Carried::No };
        let resolved = || self.texts.resolve(written).map(|text| text.trim().to_owned());
        match shape {
            Shape::Secret | Shape::Key if written.is_empty() => Carried::As("\"\"".to_owned()),
            Shape::Secret | Shape::Key => {
                let password = auth.text("password");
                let password = self.texts.resolve(&password).unwrap_or(password);
                let is_key = matches!(auth.kind, "basic" | "digest") && DUMMIES.contains(&password.to_ascii_lowercase().as_str());
                let name_like = IDENTIFIERS.contains(&ours) && !(ours == "username" && is_key);
                let text = match name_like {
                    true => self.texts.plain(written, Level::Strict, &name, ours),
                    false => self.texts.secret(written, &name, ours),
                };
                Carried::As(quoted(&text))
            }
            Shape::Bool => match resolved().as_deref() {
                Ok("true") => Carried::As("true".to_owned()),
                Ok("false") => Carried::Default,
                _ => Carried::No,
            },
            Shape::Words(all) => {
                let Ok(text) = resolved() else { return Carried::No };
                let text = words.iter().find(|(theirs, _)| *theirs == text).map_or(text.as_str(), |(_, ours)| *ours);
                match text {
                    "" | "header" => Carried::Default,
                    word if all.contains(&word) => Carried::As(quoted(word)),
                    _ => Carried::No,
                }
            }
            Shape::Number | Shape::Size => match resolved().map(|text| text.parse::<u64>()) {
                Ok(Ok(0)) => Carried::Default,
                Ok(Ok(number)) => Carried::As(number.to_string()),
                _ => Carried::No,
            },
            Shape::Time => resolved().ok().and_then(|text| self.seconds(&text)).map_or(Carried::No, Carried::As),
            Shape::Json => object(value, &name, ours, self.texts).map_or(Carried::No, Carried::As),
            Shape::Url => url(written, &name, ours, self.texts).map_or(Carried::No, |text| Carried::As(quoted(&text))),
            Shape::Many(_) => {
                let list = written.split([',', ' ', '\n', '\t']).filter(|word| !word.is_empty());
                let list: Vec<_> = list.map(|word| quoted(&self.texts.plain(word, Level::Loose, &name, ours))).collect();
                match &list[..] {
                    [] => Carried::Default,
                    [one] if ours == "audience" || ours == "resource" => Carried::As(one.clone()),
                    _ => Carried::As(format!("[{}]", list.join(", "))),
                }
            }
            // The names of fields, and the word before a token.
            Shape::Field => match resolved() {
                Ok(text) if self.texts.is_plain(&text, Level::Loose) && !text.is_empty() => {
                    Carried::As(quoted(&text.replace("${", "$${")))
                }
                _ => Carried::No,
            },
            _ if ours == "prefix" && written.trim() == "Bearer" => Carried::Default,
            Shape::Plain => Carried::As(quoted(&self.texts.plain(written.trim(), Level::Loose, &name, ours))),
            _ => {
                let version = ours == "version" && written == "1.0";
                if version {
                    Carried::Default
                } else {
                    Carried::As(quoted(&self.texts.plain(written, Level::Strict, &name, ours)))
                }
            }
        }
    }

    /// A lifetime: seconds, or with a unit, as in `1h` and `2 hours`.
    fn seconds(&mut self, text: &str) -> Option<String> {
        let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
        let digits = bare.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = &bare[..bare.len() - digits.len()];
        let unit = match digits {
            "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
            "m" | "min" | "mins" | "minute" | "minutes" => "m",
            "h" | "hr" | "hrs" | "hour" | "hours" => "h",
            "d" | "day" | "days" => "d",
            _ => return None,
        };
        let length = parse_duration(&format!("{number}{unit}"))?.as_secs();
        if length == 0 {
            return None;
        }
        if length > 3600 {
            self.texts.note(format!("`{}` signs tokens for an hour, not for {text}: verifiers take no longer ones", self.name));
            return Some("1h".to_owned());
        }
        Some(format!("{number}{unit}"))
    }

    /// What must not be missing becomes a variable.
    pub fn require(&mut self, more: Vec<&'static str>) {
        let required = self.scheme.settings.iter().filter(|(.., default, _)| *default == "required").map(|(name, ..)| *name);
        for name in required.chain(more).collect::<Vec<_>>() {
            if name == "issuer" || name == "audience" {
                // A claim may say it.
                let claim = if name == "issuer" { "\"iss\": " } else { "\"aud\": " };
                let claims = self.get("claims").unwrap_or_default().to_owned();
                if let Some((_, rest)) = claims.split_once(claim).filter(|_| !self.has(name)) {
                    let text = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()).unwrap_or("claims");
                    self.made.push((name, quoted(text)));
                }
            }
            if !self.has(name) {
                let owner = self.name.clone();
                let text = self.texts.secret("", &owner, name);
                self.made.push((name, quoted(&text)));
            }
        }
    }

    /// Says what was left.
    pub fn told(&mut self, kind: &str) {
        if self.broken {
            self.texts.note(format!("`{}` ({kind}), since gatepass has no such {}", self.name, quoted_list(&self.left)));
        } else if !self.left.is_empty() {
            self.texts.note(format!("{} of `{}` ({kind})", quoted_list(&self.left), self.name));
        }
    }
}

fn quoted_list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

pub fn joined(made: &[(&str, String)]) -> String {
    made.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
}

/// A URL of which user and password are left out, and parameters that are secret become variables.
pub fn url(written: &str, owner: &str, ours: &str, texts: &mut Texts) -> Option<String> {
    let start = urls::until_path(written).to_owned();
    let resolved = texts.resolve(&start).ok()?;
    let (bare, user) = urls::without_userinfo(&resolved);
    urls::origin(&bare).filter(|_| urls::after_scheme(&bare) > 0)?;
    if user.is_some() {
        texts.note(format!("user and password in `{ours}` of `{owner}`"));
    }
    // What a variable holds may be more than the beginning: a path, a query.
    let beginning = urls::until_path(&bare).to_owned();
    let (start, rest) = if user.is_none() && beginning == bare && texts.is_plain(&start, Level::Any) {
        (texts.plain(&start, Level::Any, owner, ours), written[start.len()..].to_owned())
    } else {
        (beginning.replace("${", "$${"), format!("{}{}", &bare[beginning.len()..], &written[start.len()..]))
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let path: Vec<String> =
        path.split('/').map(|segment| texts.plain(segment, Level::Loose, owner, &format!("{ours}_path"))).collect();
    let mut url = format!("{start}{}", path.join("/"));
    for (n, pair) in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).enumerate() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = if is_telling(name) && !value.is_empty() || matches!(name, "key" | "code" | "sig") {
            texts.secret(value, owner, name)
        } else {
            texts.plain(value, Level::Strict, owner, name)
        };
        let mark = if n == 0 { '?' } else { '&' };
        url.push_str(&format!("{mark}{}={value}", texts.plain(name, Level::Loose, owner, "parameter")));
    }
    Some(url)
}

/// A JSON object in flow style, its texts carried over one by one.
fn object(value: &Value, owner: &str, ours: &str, texts: &mut Texts) -> Option<String> {
    let read = match value {
        // Variables may stand where JSON has no place for them: `"exp": {{later}}`.
        Value::String(text) => serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&texts.resolve(text).ok()?).ok()),
        other => Some(other.clone()),
    };
    let Some(Value::Object(map)) = read else {
        texts.note(format!("`{ours}` of `{owner}` is not a JSON object before its variables are replaced"));
        return None;
    };
    (!map.is_empty()).then(|| flow(&Value::Object(map), owner, ours, texts))
}

fn flow(value: &Value, owner: &str, key: &str, texts: &mut Texts) -> String {
    match value {
        Value::String(text) if !text.is_empty() => {
            let telling = is_telling(key) && key != "claims" && key != "headers";
            let text = if telling { texts.secret(text, owner, key) } else { texts.plain(text, Level::Strict, owner, key) };
            json_quoted(&text)
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| flow(item, owner, key, texts)).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let members = map.iter().map(|(key, value)| format!("{}: {}", json_quoted(key), flow(value, owner, key, texts)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        // A number may be a secret too, where its name says so.
        Value::Number(number) if is_telling(key) => {
            texts.note(format!("`{key}` of `{owner}` was a number, and becomes a text"));
            json_quoted(&texts.secret(&number.to_string(), owner, key))
        }
        other => other.to_string(),
    }
}

/// Always in quotes, so that no word is taken for something else.
fn json_quoted(text: &str) -> String {
    let text = quoted(text);
    if text.starts_with('"') { text } else { format!("\"{text}\"") }
}
