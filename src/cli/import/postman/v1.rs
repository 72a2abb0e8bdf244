//! Collections of the old format (v1: flat lists of folders and requests), as those of the new.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::by_hand::lines;
use super::texts::{is_off, plain_text};

/// Is it a collection of the old format?
pub fn is_one(document: &Value) -> bool {
    document.get("requests").is_some_and(Value::is_array) && document.get("item").is_none()
}

/// The same in the new format, as far as it matters to an import.
pub fn converted(old: &Value) -> Value {
    let mut tree = Tree { folders: list(old, "folders"), requests: list(old, "requests"), done: BTreeSet::new() };
    let mut items = tree.items(old);
    // What no list of an order names, and what stands in a circle.
    items.extend(tree.rest());
    let mut new = entity(old);
    new.insert("info".to_owned(), json!({ "name": text(old, "name"), "description": text(old, "description") }));
    new.insert("item".to_owned(), Value::Array(items));
    Value::Object(new)
}

struct Tree<'a> {
    folders: &'a [Value],
    requests: &'a [Value],
    done: BTreeSet<String>,
}

impl<'a> Tree<'a> {
    /// Folders and requests that a folder or the collection names, in its order.
    fn items(&mut self, parent: &'a Value) -> Vec<Value> {
        let (folders, requests) = (self.folders, self.requests);
        let id = text(parent, "id");
        let names = |key: &str| list(parent, key).iter().map(plain_text).collect::<Vec<_>>();
        let (order, folders_order) = (names("order"), names("folders_order"));
        let mut items = Vec::new();
        for folder in folders {
            let inside = !id.is_empty() && [text(folder, "folder"), text(folder, "parentId")].contains(&id);
            if (folders_order.contains(&text(folder, "id")) || inside)
                && self.done.insert(format!("folder {}", text(folder, "id")))
            {
                items.push(self.folder(folder));
            }
        }
        for request in requests {
            let inside = !id.is_empty() && text(request, "folder") == id;
            if (order.contains(&text(request, "id")) || inside) && self.done.insert(format!("request {}", text(request, "id"))) {
                items.push(one(request));
            }
        }
        items
    }

    fn folder(&mut self, folder: &'a Value) -> Value {
        let items = self.items(folder);
        let mut new = entity(folder);
        new.insert("name".to_owned(), text(folder, "name").into());
        new.insert("item".to_owned(), Value::Array(items));
        Value::Object(new)
    }

    fn rest(&mut self) -> Vec<Value> {
        let (folders, requests) = (self.folders, self.requests);
        let mut items = Vec::new();
        for folder in folders {
            if self.done.insert(format!("folder {}", text(folder, "id"))) {
                items.push(self.folder(folder));
            }
        }
        // One without an id of its own is never taken for another.
        let left: Vec<&Value> = requests
            .iter()
            .filter(|request| text(request, "id").is_empty() || self.done.insert(format!("request {}", text(request, "id"))))
            .collect();
        items.extend(left.into_iter().map(one));
        items
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).map(plain_text).unwrap_or_default()
}

/// What collections, folders and requests have alike.
fn entity(old: &Value) -> Map<String, Value> {
    let mut new = Map::new();
    if let Some(auth) = auth(old) {
        new.insert("auth".to_owned(), auth);
    }
    new.insert("variable".to_owned(), Value::Array(list(old, "variables").to_vec()));
    let scripts = ["preRequestScript", "tests"].iter().any(|key| !text(old, key).trim().is_empty());
    let events = list(old, "events").to_vec();
    new.insert("event".to_owned(), Value::Array(if events.is_empty() && scripts { vec![json!({})] } else { events }));
    for key in ["description", "protocolProfileBehavior"] {
        new.extend(old.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    new
}

/// `auth` as later versions had it, or a helper and its attributes.
fn auth(old: &Value) -> Option<Value> {
    if let Some(auth) = old.get("auth").filter(|auth| auth.is_object()) {
        return Some(auth.clone());
    }
    let helper = old.get("currentHelper").and_then(Value::as_str).filter(|helper| !helper.is_empty())?;
    let kind = match helper {
        "normal" => return Some(json!({ "type": "noauth" })),
        "apikeyAuth" => "apikey",
        "basicAuth" => "basic",
        "bearerAuth" => "bearer",
        "digestAuth" => "digest",
        "hawkAuth" => "hawk",
        "oAuth1" => "oauth1",
        "oAuth2" => "oauth2",
        "ntlmAuth" => "ntlm",
        "awsSigV4" => "awsv4",
        "jwtAuth" => "jwt",
        "asapAuth" => "asap",
        "edgegridAuth" => "edgegrid",
        other => other,
    };
    let attributes = match old.get("helperAttributes") {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
        Some(other) => other.clone(),
        None => Value::Null,
    };
    let mut settings = Map::new();
    for (key, value) in attributes.as_object().into_iter().flatten() {
        let key = match (kind, key.as_str()) {
            (_, "id" | "time") | ("basic", "timestamp") => continue,
            ("hawk", "hawk_id") => "authId",
            ("hawk", "hawk_key") => "authKey",
            ("hawk", "ext") => "extraData",
            ("hawk", "dlg") => "delegation",
            ("oauth1", "header") => "addParamsToHeader",
            ("oauth1", "includeEmpty") => "addEmptyParamsToSign",
            ("oauth2", "grantType") => "grant_type",
            ("oauth2", "clientAuth") => "client_authentication",
            ("oauth2", "redirectUri") => "redirect_uri",
            ("oauth2", "callBackUrl") if text(&attributes, "redirectUri").is_empty() => "redirect_uri",
            (_, key) => key,
        };
        settings.insert(key.to_owned(), value.clone());
    }
    let mut auth = Map::new();
    auth.insert("type".to_owned(), kind.into());
    auth.insert(kind.to_owned(), Value::Object(settings));
    Some(Value::Object(auth))
}

fn one(old: &Value) -> Value {
    let mut item = entity(old);
    let mut request = Map::new();
    request.extend(item.remove("auth").map(|auth| ("auth".to_owned(), auth)));
    item.insert("name".to_owned(), text(old, "name").into());
    request.insert("method".to_owned(), text(old, "method").into());
    let query = list(old, "queryParams").to_vec();
    let variables = list(old, "pathVariableData").to_vec();
    request.insert("url".to_owned(), json!({ "raw": text(old, "url"), "query": query, "variable": variables }));
    let entry = |(key, value, off): (String, String, bool)| json!({ "key": key, "value": value, "disabled": off });
    let mut header: Vec<Value> = lines(&text(old, "headers")).into_iter().map(entry).collect();
    for data in list(old, "headerData") {
        if !header.iter().any(|known| text(known, "key") == text(data, "key")) {
            header.push(entry((text(data, "key"), text(data, "value"), is_off(data))));
        }
    }
    request.insert("header".to_owned(), Value::Array(header));
    let raw = match old.get("rawModeData").or_else(|| old.get("data")) {
        Some(Value::String(raw)) => raw.clone(),
        _ => String::new(),
    };
    let data = list(old, "data").to_vec();
    if !raw.is_empty() || !data.is_empty() {
        request.insert("body".to_owned(), json!({ "raw": raw, "urlencoded": data }));
    }
    item.insert("request".to_owned(), Value::Object(request));
    item.insert("response".to_owned(), Value::Array(list(old, "responses").to_vec()));
    Value::Object(item)
}
