//! Client certificates: newman's list, the app's, and those of single requests.

use serde_json::Value;

use super::collection::Request;
use super::patterns::{Pattern, Port};
use super::rules::Block;
use super::secrecy::Level;
use super::texts::{Texts, label, plain_text, quoted, slug};

/// Sections of the configuration.
#[derive(Default)]
pub struct Made {
    pub named: Vec<Block>,
    pub rules: Vec<Block>,
}

/// The entries of a document that is such a list.
pub fn list(document: &Value) -> Option<Vec<&Value>> {
    let named = ["certificates", "clientCertificates", "client_certificates"];
    let list = document.as_array().or_else(|| named.iter().find_map(|name| document.get(name)?.as_array()))?;
    let all: Vec<&Value> = list.iter().collect();
    let is_entry = |entry: &&Value| entry.get("matches").is_some() || entry.get("host").is_some();
    (!all.is_empty() && all.iter().all(is_entry)).then_some(all)
}

pub fn make(lists: &[Vec<&Value>], requests: &[Request<'_>], texts: &mut Texts) -> Made {
    let mut made = Made::default();
    let mut names: Vec<String> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let own = requests.iter().filter_map(|request| Some((request.certificate?, request.collection)));
    for (entry, collection) in lists.iter().flatten().map(|entry| (*entry, 0)).chain(own) {
        let key = entry.to_string();
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        texts.enter(collection);
        if let Some((name, settings, rules)) = one(entry, &names, texts) {
            made.named.push(Block::new(&name, format!("  {}: {settings}\n", quoted(&name))));
            // The first entry that matches is Postman's; here the later rule wins.
            let rules =
                rules.into_iter().map(|rule| Block::new(&name, format!("{rule}    client_certificate: {}\n", quoted(&name))));
            made.rules.splice(0..0, rules);
            names.push(name);
        }
    }
    made
}

/// Name, settings, and the hosts it is for.
fn one(entry: &Value, names: &[String], texts: &mut Texts) -> Option<(String, String, Vec<String>)> {
    let rules = hosts(entry, texts);
    let title = entry.get("name").map(plain_text).filter(|name| !name.is_empty());
    let title = title.or_else(|| entry.get("host").map(plain_text)).or_else(|| entry.pointer("/matches/0").map(plain_text));
    let title = title.unwrap_or_default();
    let base = slug(title.trim_start_matches("https://"));
    let mut name = base.clone();
    let mut n = 2;
    while names.contains(&name) {
        name = format!("{base}-{n}");
        n += 1;
    }
    let what = format!("certificate `{name}`");
    let file = |keys: &[&str]| {
        let value = keys.iter().find_map(|key| entry.get(key))?;
        let text = value.get("src").map_or_else(|| plain_text(value), plain_text);
        (!text.is_empty() && text != "{}").then_some(text)
    };
    let mut parts = match (file(&["cert", "crt", "pem"]), file(&["key"]), file(&["pfx"])) {
        (_, _, Some(pfx)) if !pfx.contains("-----BEGIN ") => {
            vec![format!("pfx: {}", quoted(&texts.plain(&pfx, Level::Any, &name, "pfx")))]
        }
        (Some(cert), key, None) => {
            // A certificate may stand there itself; a key that does is a secret.
            let cert = if cert.contains("-----BEGIN ") {
                texts.secret(&cert, &name, "cert")
            } else {
                texts.plain(&cert, Level::Any, &name, "cert")
            };
            let key = key.map(|key| format!("key: {}", quoted(&texts.plain(&key, Level::Any, &name, "private_key"))));
            [format!("cert: {}", quoted(&cert))].into_iter().chain(key).collect()
        }
        _ => {
            texts.note(format!("{what}: the export names no file for it"));
            return None;
        }
    };
    if let Some(passphrase) = entry.get("passphrase").map(plain_text).filter(|text| !text.is_empty()) {
        parts.push(format!("passphrase: {}", quoted(&texts.secret(&passphrase, &name, "passphrase"))));
    }
    if rules.is_empty() {
        texts.note(format!("{what} is for no host"));
    }
    Some((name, format!("{{ {} }}", parts.join(", ")), rules))
}

/// The beginning of a rule for each place: `matches` has URL patterns, the app's list host and port.
fn hosts(entry: &Value, texts: &mut Texts) -> Vec<String> {
    let patterns: Vec<String> = match entry.get("matches").and_then(Value::as_array) {
        Some(matches) => matches.iter().map(plain_text).collect(),
        None => {
            let host = entry.get("host").map(plain_text).unwrap_or_default();
            let host = host.trim().trim_end_matches('/').to_owned();
            let port = entry.get("port").map(plain_text).filter(|port| !port.is_empty());
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            vec![if host.contains(['/', '<']) { host } else { format!("https://{host}{port}/*") }]
        }
    };
    patterns.iter().filter_map(|pattern| place(pattern, texts)).collect()
}

fn place(pattern: &str, texts: &mut Texts) -> Option<String> {
    let resolved = texts.resolve(pattern).unwrap_or_else(|_| pattern.to_owned());
    let shown = label(pattern);
    let parsed = match Pattern::parse(&resolved) {
        Ok(parsed) if !parsed.https => {
            texts.note(format!("a certificate for `{shown}`: plain http has none"));
            return None;
        }
        Ok(parsed) => parsed,
        Err(why) => {
            texts.note(format!("a certificate for `{shown}`: {why}"));
            return None;
        }
    };
    // In Postman `*.example.com` is the apex too.
    let hosts = match parsed.host.strip_prefix("*.") {
        Some(apex) => format!("[{}, {}]", quoted(&parsed.host), quoted(apex)),
        None => quoted(&parsed.host),
    };
    let port = match parsed.port {
        Port::Any => "    port: any\n".to_owned(),
        Port::Number(port) if port != 443 => format!("    port: {port}\n"),
        _ => String::new(),
    };
    let path = if matches!(parsed.path.as_str(), "" | "*") {
        String::new()
    } else if parsed.path.contains(['?', '#', '[', ']', '{', '}', '\\', '!']) || super::secrecy::looks_secret(&parsed.path) {
        texts.note(format!("a certificate for `{shown}`: paths have other patterns here; it is for the whole host"));
        String::new()
    } else {
        format!("    path: {}\n", quoted(&format!("/{}", parsed.path.replace('*', "**"))))
    };
    Some(format!("  - host: {hosts}\n{port}{path}"))
}
