//! From Postman's exports to a configuration. Secrets are never copied: each becomes a variable that
//! must be set. JSON in, text out; what comes out has passed the check that `gatepass check` makes.

mod auth;
mod by_hand;
mod certificates;
mod collection;
mod draft;
#[cfg(test)]
mod kinds_tests;
mod oauth2;
mod patterns;
#[cfg(test)]
mod property_tests;
mod rules;
mod secrecy;
mod settings;
#[cfg(test)]
mod tests;
mod texts;
mod urls;
mod v1;

use std::borrow::Cow;

use serde_json::Value;

use super::Imported;
use collection::Request;
use draft::Draft;
use texts::{Place, Texts, label, plain_text};

/// # Errors
/// A document is of no kind that is known, or there is nothing to make rules from; in words.
pub async fn import(documents: &[(String, Value)]) -> Result<Imported, String> {
    Ok(drafted(documents)?.settle().await)
}

/// What the documents are.
#[derive(Default)]
struct Sources<'a> {
    collections: Vec<Cow<'a, Value>>,
    certificates: Vec<Vec<&'a Value>>,
    variables: Vec<(Place, &'a [Value])>,
    notes: Vec<String>,
}

fn drafted(documents: &[(String, Value)]) -> Result<Draft, String> {
    let mut sources = Sources::default();
    for (name, document) in documents {
        sort(name, document, &mut sources)?;
    }
    if sources.collections.is_empty() && sources.certificates.is_empty() {
        return Err("none of these files has a collection or a list of client certificates".to_owned());
    }
    let mut texts = Texts::default();
    sources.notes.into_iter().for_each(|note| texts.note(note));
    for (place, values) in sources.variables {
        texts.add(place, values);
    }
    let mut requests: Vec<Request<'_>> = Vec::new();
    for collection in &sources.collections {
        collection::read(collection, &mut texts, &mut requests);
    }
    let rules = rules::make(&requests, &mut texts);
    let certificates = certificates::make(&sources.certificates, &requests, &mut texts);
    Ok(Draft {
        credentials: rules.credentials,
        certificates: certificates.named,
        certificate_rules: certificates.rules,
        rules: rules.rules,
        told: texts.into_told(),
    })
}

fn sort<'a>(name: &str, document: &'a Value, sources: &mut Sources<'a>) -> Result<(), String> {
    let inner = document.get("collection").or_else(|| document.get("environment")).unwrap_or(document);
    if let Some(collections) = document.get("collections").and_then(Value::as_array) {
        return dump(name, document, collections, sources);
    }
    if inner.get("item").is_some_and(Value::is_array) {
        sources.collections.push(Cow::Borrowed(inner));
    } else if v1::is_one(inner) {
        sources.collections.push(Cow::Owned(v1::converted(inner)));
    } else if let Some(values) = inner.get("values").and_then(Value::as_array) {
        let global = inner.get("_postman_variable_scope").and_then(Value::as_str) == Some("globals");
        sources.variables.push((if global { Place::Globals } else { Place::Environment }, values));
    } else if let Some(list) = certificates::list(inner) {
        sources.certificates.push(list);
    } else if document.get("collection").is_some_and(Value::is_object) && document.get("environment").is_some() {
        return Err(format!("{name} is the index of an export; give the files in its folders `collection` and `environment`"));
    } else {
        return Err(format!("{name} is none of Postman's exports"));
    }
    Ok(())
}

/// All that an app had: collections, environments, globals.
fn dump<'a>(name: &str, document: &'a Value, collections: &'a [Value], sources: &mut Sources<'a>) -> Result<(), String> {
    for collection in collections {
        sort(name, collection, sources)?;
    }
    let list = |key: &str| document.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    sources.variables.push((Place::Globals, list("globals")));
    let environments: Vec<&Value> = list("environments").iter().filter(|entry| entry.get("values").is_some()).collect();
    match &environments[..] {
        [] => {}
        [one] => sort(name, one, sources)?,
        // Which of them was in use is not in the file; taken together they would mix their hosts.
        [first, rest @ ..] => {
            sort(name, first, sources)?;
            let names: Vec<String> =
                rest.iter().map(|entry| format!("`{}`", label(&entry.get("name").map(plain_text).unwrap_or_default()))).collect();
            sources.notes.push(format!(
                "the environments {} of {name}: the first counts; import another with its own file",
                names.join(", ")
            ));
        }
    }
    for preset in list("headerPresets") {
        let preset = label(&preset.get("name").map(plain_text).unwrap_or_default());
        sources.notes.push(format!("header preset `{preset}`"));
    }
    Ok(())
}
