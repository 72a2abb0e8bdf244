//! From Postman's exports to a configuration. Secrets are never copied: each becomes a variable that
//! must be set. Pure: JSON in, text out.

mod auth;
mod certificates;
mod collection;
mod rules;
#[cfg(test)]
mod tests;
mod texts;

use serde_json::Value;

use super::Imported;
use collection::Request;
use texts::{Texts, quoted};

/// # Errors
/// A document is of no kind that is known, or there is nothing to make rules from; in words.
pub fn import(documents: &[(String, Value)]) -> Result<Imported, String> {
    let mut texts = Texts::default();
    let mut collections = Vec::new();
    let mut certificate_lists = Vec::new();
    for (name, document) in documents {
        let inner = document.get("collection").or_else(|| document.get("environment")).unwrap_or(document);
        if inner.get("item").is_some_and(Value::is_array) {
            collections.push(inner);
        } else if let Some(values) = inner.get("values").and_then(Value::as_array) {
            let global = inner.get("_postman_variable_scope").and_then(Value::as_str) == Some("globals");
            texts.add_scope(if global { 0 } else { 2 }, values);
        } else if let Some(list) = certificates::list(inner) {
            certificate_lists.push(list);
        } else {
            return Err(format!("{name} is none of Postman's exports"));
        }
    }
    if collections.is_empty() && certificate_lists.is_empty() {
        return Err("none of these files is a collection or a list of client certificates".to_owned());
    }
    let mut requests: Vec<Request<'_>> = Vec::new();
    for collection in collections {
        if let Some(variables) = collection.get("variable").and_then(Value::as_array) {
            texts.add_scope(1, variables);
        }
        collection::read(collection, &mut texts, &mut requests);
    }
    let rules = rules::make(&requests, &mut texts);
    let certificates = certificates::make(&certificate_lists, &requests, &mut texts);
    Ok(written(texts, &rules, &certificates))
}

fn written(texts: Texts, rules: &rules::Made, certificates: &certificates::Made) -> Imported {
    let mut yaml = String::from("# Made by `gatepass import postman`. Secrets were not copied.\n");
    let vars = texts.vars();
    let (wanted, notes) = texts.into_told();
    let comment = |text: &str| text.replace(|c: char| c.is_control(), " ");
    if !wanted.is_empty() {
        yaml.push_str("#\n# Set these before `gatepass check`:\n");
        for (name, what) in &wanted {
            yaml.push_str(&format!("#   {name}  {}\n", comment(what)));
        }
    }
    if !notes.is_empty() {
        yaml.push_str("#\n# Not carried over:\n");
        for note in &notes {
            yaml.push_str(&format!("#   {}\n", comment(note)));
        }
    }
    yaml.push_str("\nversion: 1\n");
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            yaml.push_str(&format!("\n{title}:\n{}", lines.concat()));
        }
    };
    section("vars", vars.iter().map(|(name, value)| format!("  {}: {}\n", quoted(name), quoted(value))).collect());
    section("credentials", rules.credentials.clone());
    section("client_certificates", certificates.named.clone());
    section("rules", [certificates.rules.clone(), rules.rules.clone()].concat());
    Imported { yaml, wanted, notes: notes.iter().map(|note| comment(note)).collect() }
}
