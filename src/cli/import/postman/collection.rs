//! Folders and requests of a collection: where each request goes, and which auth it inherits.

use serde_json::Value;

use super::auth::Auth;
use super::texts::{Texts, has_userinfo, plain_text, references, slug};
use crate::cli::explain;
use crate::origin::{Host, Origin, Scheme};

/// What of a request matters to a proxy.
pub struct Request<'a> {
    pub name: String,
    pub method: String,
    pub origin: Origin,
    /// `{{host}}`, where the host is exactly one variable.
    pub host_variable: Option<String>,
    /// As a rule's `path:` has it: variable segments are `*`.
    pub path: String,
    pub auth: Credential<'a>,
    /// Its own certificate and proxy.
    pub certificate: Option<&'a Value>,
    pub proxy: Option<&'a Value>,
}

/// How a request authenticates.
#[derive(Clone)]
pub enum Credential<'a> {
    Nothing,
    /// Postman's, and the name of the folder, collection or request that has it.
    Auth(Auth<'a>, String),
    /// A header of its own that is plainly a credential: its name and value.
    Header(String, String, String),
}

/// What a request inherits.
#[derive(Clone)]
struct Above<'a> {
    auth: Option<(Auth<'a>, String)>,
    path: String,
}

/// Folders deeper than this are no folders.
const DEPTH: usize = 64;

pub fn read<'a>(collection: &'a Value, texts: &mut Texts, requests: &mut Vec<Request<'a>>) {
    let name = collection.pointer("/info/name").map(plain_text).unwrap_or_default();
    let above = Above { auth: Auth::read(collection.get("auth")).map(|auth| (auth, slug(&name))), path: String::new() };
    odd(collection, &name, texts);
    items(collection, &above, texts, requests, 0);
}

fn items<'a>(parent: &'a Value, above: &Above<'a>, texts: &mut Texts, requests: &mut Vec<Request<'a>>, depth: usize) {
    for item in parent.get("item").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let name = item.get("name").map(plain_text).unwrap_or_default();
        let path = if above.path.is_empty() { name.clone() } else { format!("{}/{name}", above.path) };
        odd(item, &path, texts);
        let own = Auth::read(item.get("auth")).map(|auth| (auth, slug(&name)));
        let here = Above { auth: own.or_else(|| above.auth.clone()), path };
        if item.get("item").is_some() && depth < DEPTH {
            items(item, &here, texts, requests, depth + 1);
        } else if let Some(request) = item.get("request") {
            requests.extend(one(request, &name, &here, texts));
        }
    }
}

/// What only Postman can do, said once each.
fn odd(item: &Value, name: &str, texts: &mut Texts) {
    if item.get("event").and_then(Value::as_array).is_some_and(|events| !events.is_empty()) {
        texts.note(format!("scripts of `{name}`"));
    }
    if item.pointer("/protocolProfileBehavior/strictSSL").and_then(Value::as_bool) == Some(false) {
        texts.note(format!("`{name}` does not verify certificates in Postman; name the server's CA in `ca_bundle:`"));
    }
}

fn one<'a>(request: &'a Value, name: &str, above: &Above<'a>, texts: &mut Texts) -> Option<Request<'a>> {
    let label = &above.path;
    let raw = url(request.get("url").unwrap_or(request));
    if raw.is_empty() {
        return None;
    }
    let url = match texts.resolve(&until_path(&raw)) {
        Ok(start) => start + &raw[until_path(&raw).len()..],
        Err(variable) => {
            texts.note(format!("request `{label}`: its host depends on {{{{{variable}}}}}, which no file here defines"));
            return None;
        }
    };
    // Postman's default is plain http.
    let url = if after_scheme(&url) > 0 { url } else { format!("http://{url}") };
    if has_userinfo(&url) {
        texts.note(format!("request `{label}`: user and password in its URL"));
    }
    let bare = without_userinfo(&url);
    let start = until_path(&bare).len();
    let Ok((_, origin, _)) = explain::target(&[bare[..start].to_owned()]) else {
        texts.note(format!("request `{label}`: its host or scheme is none that a proxy carries"));
        return None;
    };
    let own = Auth::read(request.get("auth")).map(|auth| (auth, slug(name)));
    let auth = match own.or_else(|| above.auth.clone()) {
        Some((auth, owner)) if auth.kind != "noauth" => Credential::Auth(auth, owner),
        _ => header(request, name).unwrap_or(Credential::Nothing),
    };
    Some(Request {
        name: label.clone(),
        method: request
            .get("method")
            .map(plain_text)
            .filter(|m| !m.is_empty())
            .unwrap_or_else(|| "GET".to_owned())
            .to_uppercase(),
        host_variable: host_variable(&raw, texts),
        origin,
        path: path(&bare[start..]),
        auth,
        certificate: request.get("certificate").filter(|value| value.is_object()),
        proxy: request.get("proxy").filter(|value| value.get("disabled").and_then(Value::as_bool) != Some(true)),
    })
}

/// A URL is a text, or a map with the text or its parts.
fn url(value: &Value) -> String {
    if let Some(text) = value.as_str().or_else(|| value.get("raw").and_then(Value::as_str)) {
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
    let scheme = value.get("protocol").and_then(Value::as_str).map_or(String::new(), |scheme| format!("{scheme}://"));
    let port = if port.is_empty() { port } else { format!(":{port}") };
    format!("{scheme}{host}{port}/{}", path.trim_start_matches('/'))
}

/// Everything before the path.
fn until_path(url: &str) -> String {
    let from = after_scheme(url);
    let length = url[from..].find(['/', '?', '#']).map_or(url.len(), |at| from + at);
    url[..length].to_owned()
}

/// Where the authority begins: a query may hold a URL too.
fn after_scheme(url: &str) -> usize {
    url.find("://").filter(|at| !url[..*at].contains(['/', '?', '#'])).map_or(0, |at| at + 3)
}

fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{}", &rest[end..])
}

/// `{{host}}` of `https://{{host}}:8443/…`, when it holds a host and nothing else.
fn host_variable(raw: &str, texts: &Texts) -> Option<String> {
    let name = raw[after_scheme(raw)..].strip_prefix("{{").filter(|_| after_scheme(raw) > 0)?;
    let (name, after) = name.split_once("}}")?;
    let bare = after.is_empty() || after.starts_with(['/', '?', '#', ':']);
    let value = texts.resolve(&format!("{{{{{name}}}}}")).ok()?;
    (bare && Host::parse_written(&value).is_ok()).then(|| format!("{{{{{}}}}}", name.trim()))
}

/// A path as a rule's glob: variables and `:parameters` stand for one segment each.
fn path(text: &str) -> String {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let segments = path.trim_start_matches('/').split('/').map(|segment| {
        let varies = !references(segment).is_empty() || segment.starts_with(':') || segment.contains(['*', '?', '[', '{', ' ']);
        if varies { "*" } else { segment }
    });
    format!("/{}", segments.collect::<Vec<_>>().join("/"))
}

/// `Authorization`, or a header that is called as keys and tokens are.
fn header<'a>(request: &'a Value, name: &str) -> Option<Credential<'a>> {
    let headers = request.get("header")?.as_array()?;
    headers.iter().find_map(|header| {
        let key = header.get("key").and_then(Value::as_str)?;
        let value = header.get("value").map(plain_text).filter(|value| !value.is_empty())?;
        let lower = key.to_ascii_lowercase();
        let telling = lower == "authorization"
            || ["api-key", "apikey", "api_key", "-token", "auth-key", "x-auth", "secret"].iter().any(|word| lower.contains(word));
        let off = header.get("disabled").and_then(Value::as_bool) == Some(true);
        (telling && !off).then(|| Credential::Header(key.to_owned(), value, slug(name)))
    })
}

/// The port, where it is not the scheme's own.
pub fn odd_port(origin: &Origin) -> Option<u16> {
    (origin.port != origin.scheme.default_port()).then_some(origin.port)
}

pub fn is_plain(origin: &Origin) -> bool {
    origin.scheme == Scheme::Http
}
