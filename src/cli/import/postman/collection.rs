//! Folders and requests of a collection: where each request goes, and which auth it inherits.

use serde_json::Value;

use super::auth::Auth;
use super::by_hand::{self, ByHand};
use super::texts::{Place, Texts, label, plain_text, references, slug};
use super::urls;
use crate::origin::{Origin, Scheme};

/// What of a request matters to a proxy.
pub struct Request<'a> {
    pub name: String,
    pub method: String,
    pub origin: Origin,
    /// Whose variables it uses.
    pub collection: usize,
    /// `{{host}}`, where the host is exactly one variable.
    pub host_variable: Option<String>,
    /// As a rule's `path:` has it: variable segments are `*`.
    pub path: String,
    /// Postman's auth first, then what it carries by hand.
    pub credentials: Vec<Credential<'a>>,
    /// Its own certificate and proxy.
    pub certificate: Option<&'a Value>,
    pub proxy: Option<&'a Value>,
}

/// How a request authenticates, and the name of the folder, collection or request that says so.
#[derive(Clone)]
pub enum Credential<'a> {
    Auth(Auth<'a>, String),
    ByHand(ByHand, String),
}

/// What a request inherits.
#[derive(Clone)]
struct Above<'a> {
    auth: Option<(Auth<'a>, String)>,
    path: String,
    collection: usize,
}

/// Folders deeper than this are no folders.
const DEPTH: usize = 64;

pub fn read<'a>(collection: &'a Value, texts: &mut Texts, requests: &mut Vec<Request<'a>>) {
    let index = texts.begin_collection();
    variables(collection, texts);
    let name = collection.pointer("/info/name").map(plain_text).unwrap_or_default();
    let auth = Auth::read(collection.get("auth")).map(|auth| (auth, slug(&name)));
    let above = Above { auth, path: String::new(), collection: index };
    odd(collection, &label(&name), texts);
    items(collection, &above, texts, requests, 0);
}

fn variables(entity: &Value, texts: &mut Texts) {
    if let Some(variables) = entity.get("variable").and_then(Value::as_array) {
        texts.add(Place::Collection, variables);
    }
}

fn items<'a>(parent: &'a Value, above: &Above<'a>, texts: &mut Texts, requests: &mut Vec<Request<'a>>, depth: usize) {
    for item in parent.get("item").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let name = item.get("name").map(plain_text).unwrap_or_default();
        let path = if above.path.is_empty() { label(&name) } else { format!("{}/{}", above.path, label(&name)) };
        odd(item, &path, texts);
        let own = Auth::read(item.get("auth")).map(|auth| (auth, slug(&name)));
        let here = Above { auth: own.or_else(|| above.auth.clone()), path, collection: above.collection };
        if item.get("item").is_some() {
            if depth < DEPTH {
                variables(item, texts);
                items(item, &here, texts, requests, depth + 1);
            } else {
                texts.note(format!("folder `{}`: folders this deep are not read", here.path));
            }
        } else if let Some(request) = item.get("request") {
            requests.extend(one(request, &name, &here, texts));
        }
    }
}

/// What only Postman can do, said once each.
fn odd(item: &Value, name: &str, texts: &mut Texts) {
    if item.get("event").and_then(Value::as_array).is_some_and(|events| !events.is_empty()) {
        texts.note(format!("scripts of `{name}`; what they hold or set is not copied"));
    }
    let has = |key: &str| item.get(key).is_some_and(|value| !super::auth::is_empty(value) && !value.is_null());
    if has("response") {
        texts.list("saved responses of requests", name);
    }
    if has("description") || item.pointer("/info/description").is_some_and(|text| !super::auth::is_empty(text)) {
        texts.list("descriptions", name);
    }
    for (behavior, value) in item.get("protocolProfileBehavior").and_then(Value::as_object).into_iter().flatten() {
        if behavior == "strictSSL" && value.as_bool() == Some(false) {
            texts.note(format!("`{name}` does not verify certificates in Postman; name the server's CA in `ca_bundle:`"));
        } else {
            texts.list("settings of Postman's own client", behavior);
        }
    }
}

fn one<'a>(request: &'a Value, name: &str, above: &Above<'a>, texts: &mut Texts) -> Option<Request<'a>> {
    let shown = &above.path;
    if request.get("description").is_some_and(|text| !super::auth::is_empty(text)) {
        texts.list("descriptions", shown);
    }
    let place = request.get("url").unwrap_or(request);
    let raw = urls::written(place);
    if raw.is_empty() {
        texts.list("requests without a URL", shown);
        return None;
    }
    let beginning = urls::until_path(&raw);
    let url = match texts.resolve(beginning) {
        Ok(start) => start + &raw[beginning.len()..],
        Err(variable) => {
            texts
                .note(format!("request `{shown}`: its host depends on {{{{{}}}}}, which no file here defines", label(&variable)));
            return None;
        }
    };
    // Postman's default is plain http.
    let url = if urls::after_scheme(&url) > 0 { url } else { format!("http://{url}") };
    let (bare, user) = urls::without_userinfo(&url);
    let start = urls::until_path(&bare).len();
    let Some(origin) = urls::origin(&bare) else {
        texts.note(format!("request `{shown}`: its host or scheme is none that a proxy carries"));
        return None;
    };
    let method = request.get("method").map(plain_text).filter(|method| !method.is_empty());
    let method = method.unwrap_or_else(|| "GET".to_owned()).to_uppercase();
    if http::Method::from_bytes(method.as_bytes()).is_err() {
        texts.note(format!("request `{shown}`: its method is none"));
        return None;
    }
    let owner = slug(name);
    let own = Auth::read(request.get("auth")).map(|auth| (auth, owner.clone()));
    let mut credentials = Vec::new();
    if let Some((auth, owner)) = own.or_else(|| above.auth.clone()).filter(|(auth, _)| auth.kind != "noauth") {
        credentials.push(Credential::Auth(auth, owner));
    }
    let mut by_hand = by_hand::fields(request, shown, texts);
    by_hand.extend(user.map(|(user, password)| ByHand::Basic(user, password)));
    by_hand.extend(by_hand::parameters(urls::query(place, &bare), texts));
    by_hand::body(request, shown, texts);
    for variable in place.get("variable").and_then(Value::as_array).into_iter().flatten() {
        texts.list("path variables, which the client fills in", &variable.get("key").map(plain_text).unwrap_or_default());
    }
    credentials.extend(by_hand.into_iter().map(|by_hand| Credential::ByHand(by_hand, owner.clone())));
    Some(Request {
        name: shown.clone(),
        method,
        collection: above.collection,
        host_variable: urls::host_variable(&raw, texts),
        origin,
        path: urls::path(&bare[start..], texts),
        credentials,
        certificate: request.get("certificate").filter(|value| value.is_object()),
        proxy: request.get("proxy").filter(|value| value.is_object() && !super::texts::is_off(value)),
    })
}

/// The port, where it is not the scheme's own.
pub fn odd_port(origin: &Origin) -> Option<u16> {
    (origin.port != origin.scheme.default_port()).then_some(origin.port)
}

pub fn is_plain(origin: &Origin) -> bool {
    origin.scheme == Scheme::Http
}

/// Tells two texts apart that are written alike in two collections.
pub fn key(written: String, collection: usize) -> String {
    if references(&written).is_empty() { written } else { format!("{collection} {written}") }
}
