//! Credentials that stand outside Postman's `auth`: fields, parameters, cookies, user and password of a URL.

use serde_json::Value;

use super::auth::Settings;
use super::secrecy::{Level, is_credential, is_telling, looks_secret};
use super::texts::{Texts, is_off, label, plain_text, quoted, references};

/// One that a request carries by hand.
#[derive(Clone, PartialEq, Eq)]
pub enum ByHand {
    Field(String, String),
    Parameter(String, String),
    Cookies(Vec<(String, String)>),
    Basic(String, String),
}

impl ByHand {
    /// How it is called in notes.
    pub fn described(&self) -> String {
        match self {
            ByHand::Field(name, _) => format!("the header `{}`", label(name)),
            ByHand::Parameter(name, _) => format!("the query parameter `{}`", label(name)),
            ByHand::Cookies(_) => "the header `Cookie`".to_owned(),
            ByHand::Basic(..) => "user and password in the URL".to_owned(),
        }
    }

    /// What it says, to compare.
    pub fn written(&self) -> String {
        match self {
            ByHand::Field(name, value) | ByHand::Parameter(name, value) => format!("{name}: {value}"),
            ByHand::Cookies(all) => format!("Cookie: {all:?}"),
            ByHand::Basic(name, password) => format!("{name}@{password}"),
        }
    }

    pub fn settings(&self, owner: &str, texts: &mut Texts) -> Settings {
        let value = |field: &str, text: &str, texts: &mut Texts| quoted(&texts.secret(text, owner, field));
        match self {
            ByHand::Field(name, text) => {
                let bearer = text
                    .split_once(' ')
                    .filter(|(word, _)| name.eq_ignore_ascii_case("authorization") && word.eq_ignore_ascii_case("bearer"));
                let made = match bearer {
                    Some((_, token)) => format!("{{ bearer: {{ token: {} }} }}", value("token", token.trim(), texts)),
                    None => format!("{{ headers: {{ {}: {} }} }}", quoted(name), value(name, text, texts)),
                };
                Settings { text: made, writes: vec![name.to_ascii_lowercase()] }
            }
            ByHand::Parameter(name, text) => {
                let made = format!("{{ api_key: {{ name: {}, value: {}, in: query }} }}", quoted(name), value(name, text, texts));
                Settings { text: made, writes: vec![format!("?{name}")] }
            }
            ByHand::Cookies(all) => {
                let set: Vec<_> =
                    all.iter().map(|(name, text)| format!("{}: {}", quoted(name), value(name, text, texts))).collect();
                Settings {
                    text: format!("{{ cookies: {{ set: {{ {} }} }} }}", set.join(", ")),
                    writes: vec!["cookie".to_owned()],
                }
            }
            ByHand::Basic(name, password) => {
                let user = match password.is_empty() {
                    true => texts.secret(name, owner, "username"),
                    false => texts.plain(name, Level::Strict, owner, "username"),
                };
                let password = if password.is_empty() { String::new() } else { texts.secret(password, owner, "password") };
                let made = format!("{{ basic: {{ username: {}, password: {} }} }}", quoted(&user), quoted(&password));
                Settings { text: made, writes: vec!["authorization".to_owned()] }
            }
        }
    }
}

/// Fields of a request that are credentials; the rest is the client's to send, and is named.
pub fn fields(request: &Value, owner: &str, texts: &mut Texts) -> Vec<ByHand> {
    let mut found: Vec<ByHand> = Vec::new();
    for (name, value, off) in headers(request.get("header").or_else(|| request.get("headers"))) {
        if off {
            texts.list("headers that are switched off", &name);
            continue;
        }
        let judged = texts.resolve(&value).unwrap_or_default();
        if let Some(scheme) = signature(&name, &judged) {
            texts.note(format!(
                "the header `{name}` of `{owner}` signs one request ({scheme}); a credential of that kind signs each"
            ));
        } else if name.eq_ignore_ascii_case("cookie") {
            found.push(cookies(&value).map_or(ByHand::Field(name, value), ByHand::Cookies));
        } else if is_name(&name) && (is_credential(&name, &judged) || is_from_secret(&value, texts)) && !judges_a_body(&name) {
            found.retain(|known| !matches!(known, ByHand::Field(other, _) if other.eq_ignore_ascii_case(&name)));
            found.push(ByHand::Field(name, value));
        } else {
            texts.list("headers that are no fixed credentials, which the client still sends", &name);
        }
    }
    found
}

/// A list of keys and values, or lines of text.
fn headers(value: Option<&Value>) -> Vec<(String, String, bool)> {
    match value {
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(|entry| match entry {
                Value::String(line) => {
                    line.split_once(':').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned(), false))
                }
                _ => Some((plain_text(entry.get("key")?), entry.get("value").map(plain_text).unwrap_or_default(), is_off(entry))),
            })
            .filter(|(name, ..)| !name.trim().is_empty())
            .collect(),
        Some(Value::String(text)) => lines(text),
        _ => Vec::new(),
    }
}

/// `Name: value` line by line; `//` before one switches it off.
pub fn lines(text: &str) -> Vec<(String, String, bool)> {
    let line = |line: &str| {
        let bare = line.trim().strip_prefix("//").map(str::trim);
        let (name, value) = bare.unwrap_or(line.trim()).split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned(), bare.is_some())).filter(|(name, ..)| !name.is_empty())
    };
    text.lines().filter_map(line).collect()
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) && !looks_secret(name)
}

/// Of one body or one URL: a fixed value would be wrong for the next.
fn judges_a_body(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.contains("signature") || matches!(lower.as_str(), "proxy-authorization" | "x-amz-date" | "digest")
}

/// The scheme of an `Authorization` that is good for one request alone.
fn signature(name: &str, value: &str) -> Option<&'static str> {
    const SCHEMES: [&str; 9] = [
        "OAuth",
        "Digest",
        "Hawk",
        "AWS4-HMAC-SHA256",
        "AWS4-ECDSA-P256-SHA256",
        "EG1-HMAC-SHA256",
        "Signature",
        "NTLM",
        "Negotiate",
    ];
    let scheme = value.split_once(' ').map(|(scheme, _)| scheme).filter(|_| name.eq_ignore_ascii_case("authorization"))?;
    // `OAuth TOKEN` is a token; with parameters it is a signature.
    let signed = value.contains('=') && (scheme != "OAuth" || value.contains("oauth_signature"));
    SCHEMES.into_iter().find(|known| known.eq_ignore_ascii_case(scheme) && (signed || matches!(*known, "NTLM" | "Negotiate")))
}

/// Is it made from a variable that is a secret, or that no file defines and that is called like one?
fn is_from_secret(value: &str, texts: &Texts) -> bool {
    references(value).iter().any(|name| {
        let reference = format!("{{{{{name}}}}}");
        let known = texts.resolve(&reference).is_ok_and(|value| !value.is_empty());
        if known { !texts.is_plain(&reference, Level::Loose) } else { is_telling(name) }
    })
}

/// `a=b; c=d`; `None`: not that.
fn cookies(value: &str) -> Option<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = Vec::new();
    for pair in value.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        if name.is_empty() || !is_name(name) || name.contains("{{") {
            return None;
        }
        all.retain(|(known, _)| known != name);
        all.push((name.to_owned(), value.to_owned()));
    }
    (!all.is_empty()).then_some(all)
}

/// Parameters that are credentials.
pub fn parameters(query: Vec<(String, String, bool)>, texts: &mut Texts) -> Vec<ByHand> {
    let mut found: Vec<ByHand> = Vec::new();
    for (name, value, off) in query {
        if off {
            texts.list("query parameters that are switched off", &name);
            continue;
        }
        let judged = texts.resolve(&value).unwrap_or_default();
        let plain = !name.contains("{{") && !looks_secret(&name) && name.bytes().all(|b| b.is_ascii_graphic() && b != b'%');
        if plain && (is_credential(&name, &judged) || is_from_secret(&value, texts)) && !signs_a_url(&name) {
            found.retain(|known| !matches!(known, ByHand::Parameter(other, _) if *other == name));
            found.push(ByHand::Parameter(name, value));
        } else {
            texts.list("query parameters that are no fixed credentials, which the client still sends", &name);
        }
    }
    found
}

/// Part of a signature over one URL, good for minutes.
fn signs_a_url(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with("x-amz-") || lower.starts_with("x-goog-") || lower == "signature" || lower.starts_with("oauth_")
}

/// Says what a body holds: it is the client's to send, also where it holds a secret.
pub fn body(request: &Value, name: &str, texts: &mut Texts) {
    let Some(body) = request.get("body").filter(|body| body.is_object()) else { return };
    let mut secrets: Vec<String> = Vec::new();
    let mut token = false;
    for list in ["urlencoded", "formdata"].iter().filter_map(|mode| body.get(mode)?.as_array()) {
        for entry in list {
            let key = entry.get("key").map(plain_text).unwrap_or_default();
            let value = entry.get("value").map(plain_text).unwrap_or_default();
            token |= key == "grant_type";
            if is_telling(&key) || looks_secret(&value) || is_from_secret(&value, texts) {
                secrets.push(label(&key));
            }
        }
    }
    let raw = body.get("raw").map(plain_text).unwrap_or_default();
    token |= raw.contains("grant_type");
    match serde_json::from_str::<Value>(&raw) {
        Ok(json) => telling(&json, "", &mut secrets),
        Err(_) if looks_secret(&raw) || is_from_secret(&raw, texts) => secrets.push("raw".to_owned()),
        Err(_) => {}
    }
    secrets.sort();
    secrets.dedup();
    let shown: Vec<String> = secrets.iter().map(|key| format!("`{key}`")).collect();
    match (token, secrets.is_empty()) {
        (true, _) => texts.note(format!(
            "the body of `{name}` asks for a token{}: the client still sends it, or a credential of the type oauth2 gets the token instead",
            if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) }
        )),
        (false, false) => texts.note(format!(
            "{} in the body of `{name}`: the client still sends it; `api_key` with `in: body` can set one",
            shown.join(", ")
        )),
        (false, true) => texts.list("requests whose bodies the client still sends", name),
    }
}

fn telling(json: &Value, key: &str, found: &mut Vec<String>) {
    match json {
        Value::Object(map) => map.iter().for_each(|(key, value)| telling(value, key, found)),
        Value::Array(items) => items.iter().for_each(|item| telling(item, key, found)),
        Value::String(text) if is_telling(key) || looks_secret(text) => found.push(label(key)),
        Value::Number(_) if is_telling(key) => found.push(label(key)),
        _ => {}
    }
}
