//! URLs as exports have them: a text or its parts, variables anywhere.

use serde_json::Value;

use super::secrecy::looks_secret;
use super::texts::{Texts, is_off, plain_text, references};
use crate::cli::explain;
use crate::origin::{Host, Origin};

/// A URL is a text, or a map with the text or its parts.
pub fn written(value: &Value) -> String {
    if let Some(text) = value.as_str().or_else(|| value.get("raw").and_then(Value::as_str))
        && !text.trim().is_empty()
    {
        return text.trim().to_owned();
    }
    let joined = |key: &str, by: &str| match value.get(key) {
        Some(Value::Array(parts)) => {
            parts.iter().map(|part| part.get("value").map_or_else(|| plain_text(part), plain_text)).collect::<Vec<_>>().join(by)
        }
        Some(other) => plain_text(other),
        None => String::new(),
    };
    let (host, path, port) = (joined("host", "."), joined("path", "/"), joined("port", ""));
    if host.is_empty() {
        return String::new();
    }
    let scheme = value.get("protocol").and_then(Value::as_str).filter(|scheme| !scheme.is_empty());
    let scheme = scheme.map_or(String::new(), |scheme| format!("{scheme}://"));
    let port = if port.is_empty() { port } else { format!(":{port}") };
    let user = value.get("auth").filter(|auth| auth.get("user").is_some());
    let user = user.map_or(String::new(), |auth| {
        let part = |key: &str| auth.get(key).map(plain_text).unwrap_or_default();
        format!("{}:{}@", part("user"), part("password"))
    });
    format!("{scheme}{user}{host}{port}/{}", path.trim_start_matches('/'))
}

/// Parameters of the query: what the text has, and what only the list has. The last: is it switched off?
pub fn query(value: &Value, raw: &str) -> Vec<(String, String, bool)> {
    let text = raw.split('#').next().unwrap_or_default();
    let mut all: Vec<(String, String, bool)> = Vec::new();
    for pair in text.split_once('?').map_or("", |(_, query)| query).split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.push((name.to_owned(), value.to_owned(), false));
    }
    for entry in value.get("query").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let part = |key: &str| entry.get(key).map(plain_text).unwrap_or_default();
        let (name, off) = (part("key"), is_off(entry));
        if !name.is_empty() && (off || !all.iter().any(|(known, ..)| *known == name)) {
            all.push((name, part("value"), off));
        }
    }
    all
}

/// Everything before the path.
pub fn until_path(url: &str) -> &str {
    let from = after_scheme(url);
    let length = url[from..].find(['/', '?', '#']).map_or(url.len(), |at| from + at);
    &url[..length]
}

/// Where the authority begins: a query may hold a URL too.
pub fn after_scheme(url: &str) -> usize {
    url.find("://").filter(|at| !url[..*at].contains(['/', '?', '#'])).map_or(0, |at| at + 3)
}

/// The URL without user and password, and those.
pub fn without_userinfo(url: &str) -> (String, Option<(String, String)>) {
    let from = after_scheme(url);
    let end = url[from..].find(['/', '?', '#']).map_or(url.len(), |at| from + at);
    let Some((user, host)) = url[from..end].rsplit_once('@') else { return (url.to_owned(), None) };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    (format!("{}{host}{}", &url[..from], &url[end..]), Some((name.to_owned(), password.to_owned())))
}

/// Where it goes, when that is a place that a proxy carries to.
pub fn origin(url: &str) -> Option<Origin> {
    explain::target(&[until_path(url).to_owned()]).ok().map(|(_, origin, _)| origin)
}

/// `{{host}}` of `https://{{host}}:8443/…`, when it holds a host and nothing else.
pub fn host_variable(raw: &str, texts: &Texts) -> Option<String> {
    let name = raw[after_scheme(raw)..].strip_prefix("{{").filter(|_| after_scheme(raw) > 0)?;
    let (name, after) = name.split_once("}}")?;
    let bare = after.is_empty() || after.starts_with(['/', '?', '#', ':']);
    let reference = format!("{{{{{}}}}}", name.trim());
    let value = texts.resolve(&reference).ok()?;
    (bare && Host::parse_written(&value).is_ok() && texts.is_plain(&reference, super::secrecy::Level::Any)).then_some(reference)
}

/// A path as a rule's glob: variables, `:parameters`, what a client would encode and what looks like a secret stand for
/// one segment each, or for several where a variable holds several.
pub fn path(text: &str, texts: &Texts) -> String {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let segments = path.trim_start_matches('/').split('/').map(|segment| {
        if !references(segment).is_empty() {
            return if texts.resolve(segment).is_ok_and(|value| value.contains('/')) { "**" } else { "*" };
        }
        let varies = segment.starts_with(':')
            || segment.contains(['*', '?', '[', ']', '{', '}', '\\', '!', ' '])
            || !segment.bytes().all(|b| b.is_ascii_graphic())
            || looks_secret(segment);
        if varies { "*" } else { segment }
    });
    format!("/{}", segments.collect::<Vec<_>>().join("/"))
}
