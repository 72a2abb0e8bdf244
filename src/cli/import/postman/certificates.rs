//! Client certificates: newman's list, the app's, and those of single requests.

use serde_json::Value;

use super::collection::Request;
use super::texts::{Texts, plain_text, quoted, slug};

/// Sections of the configuration, line by line.
#[derive(Default)]
pub struct Made {
    pub named: Vec<String>,
    pub rules: Vec<String>,
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
    let entries = lists.iter().flatten().copied().chain(requests.iter().filter_map(|request| request.certificate));
    for entry in entries {
        let key = entry.to_string();
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        if let Some((name, settings, rules)) = one(entry, &names, texts) {
            made.named.push(format!("  {}: {settings}\n", quoted(&name)));
            // The first entry that matches is Postman's; here the later rule wins.
            made.rules.splice(0..0, rules.into_iter().map(|rule| format!("{rule}    client_certificate: {}\n", quoted(&name))));
            names.push(name);
        }
    }
    made
}

/// Name, settings, and the hosts it is for.
fn one(entry: &Value, names: &[String], texts: &mut Texts) -> Option<(String, String, Vec<String>)> {
    let rules = hosts(entry, texts);
    let label = entry.get("name").map(plain_text).filter(|name| !name.is_empty());
    let label = label.or_else(|| entry.get("host").map(plain_text)).or_else(|| entry.pointer("/matches/0").map(plain_text));
    let label = label.unwrap_or_default();
    let base = slug(label.trim_start_matches("https://"));
    let mut name = base.clone();
    let mut n = 2;
    while names.contains(&name) {
        name = format!("{base}-{n}");
        n += 1;
    }
    let file = |keys: &[&str]| {
        let value = keys.iter().find_map(|key| entry.get(key))?;
        let text = value.get("src").map_or_else(|| plain_text(value), plain_text);
        (!text.is_empty() && text != "{}").then_some(text)
    };
    let what = format!("certificate `{name}`");
    let mut parts = match (file(&["cert", "crt", "pem"]), file(&["key"]), file(&["pfx"])) {
        (_, _, Some(pfx)) => vec![format!("pfx: {}", quoted(&texts.open(&pfx, &what)))],
        (Some(cert), key, None) => {
            let mut parts = vec![format!("cert: {}", quoted(&texts.open(&cert, &what)))];
            parts.extend(key.map(|key| format!("key: {}", quoted(&texts.open(&key, &what)))));
            parts
        }
        _ => {
            texts.note(format!("{what}: the export names no file for it"));
            return None;
        }
    };
    if let Some(passphrase) = entry.get("passphrase").map(plain_text).filter(|text| !text.is_empty()) {
        parts.push(format!("passphrase: {}", quoted(&texts.secret(&passphrase, &name, "passphrase"))));
    }
    Some((name, format!("{{ {} }}", parts.join(", ")), rules))
}

/// The beginning of a rule for each place: `matches` has URL patterns, the app's list host and port.
fn hosts(entry: &Value, texts: &mut Texts) -> Vec<String> {
    let patterns: Vec<String> = match entry.get("matches").and_then(Value::as_array) {
        Some(matches) => matches.iter().map(plain_text).collect(),
        None => {
            let port =
                entry.get("port").map(plain_text).filter(|port| !port.is_empty()).map_or_else(String::new, |p| format!(":{p}"));
            vec![format!("https://{}{port}/*", entry.get("host").map(plain_text).unwrap_or_default())]
        }
    };
    patterns.iter().filter_map(|pattern| place(pattern, texts)).collect()
}

fn place(pattern: &str, texts: &mut Texts) -> Option<String> {
    let (scheme, rest) = pattern.split_once("://").unwrap_or(("https", pattern));
    if scheme == "http" {
        texts.note(format!("a certificate for `{pattern}`: plain http has none"));
        return None;
    }
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && (port == "*" || port.bytes().all(|b| b.is_ascii_digit())) => (host, Some(port)),
        _ => (authority, None),
    };
    let host = host.to_ascii_lowercase();
    // In Postman `*.example.com` is the apex too, and a star anywhere else never matches.
    let hosts = match host.strip_prefix("*.") {
        Some(apex) if !apex.contains('*') => format!("[{}, {}]", quoted(&host), quoted(apex)),
        _ if host == "*" => "\"*\"".to_owned(),
        _ if host.is_empty() || host.contains(['*', '?']) => {
            texts.note(format!("a certificate for `{pattern}`, which never matches in Postman"));
            return None;
        }
        _ => quoted(&texts.open(&host, "the host of a certificate")),
    };
    let port = match port {
        Some("*") => "    port: any\n".to_owned(),
        Some(port) if port != "443" => format!("    port: {port}\n"),
        _ => String::new(),
    };
    let path = if matches!(path, "" | "*") {
        String::new()
    } else {
        format!("    path: {}\n", quoted(&format!("/{}", path.replace('*', "**"))))
    };
    Some(format!("  - host: {hosts}\n{port}{path}"))
}
