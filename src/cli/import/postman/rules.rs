//! From requests to rules: one for each host, and more where requests of one host differ.

use std::collections::BTreeMap;

use super::auth;
use super::collection::{Credential, Request, is_plain, odd_port};
use super::texts::{Texts, plain_text, quoted, slug};
use crate::origin::Origin;

/// Sections of the configuration, line by line.
#[derive(Default)]
pub struct Made {
    pub credentials: Vec<String>,
    pub rules: Vec<String>,
}

/// How a request of a host authenticates: a credential's name, or nothing.
type Used = Option<String>;

pub fn make(requests: &[Request<'_>], texts: &mut Texts) -> Made {
    let mut made = Made::default();
    let mut credentials = Credentials::default();
    let mut hosts: Vec<(&Origin, Vec<(&Request<'_>, Used)>)> = Vec::new();
    for request in requests {
        let used = credentials.name(&request.auth, texts);
        match hosts.iter_mut().find(|(origin, _)| **origin == request.origin) {
            Some((_, all)) => all.push((request, used)),
            None => hosts.push((&request.origin, vec![(request, used)])),
        }
    }
    for (origin, all) in &hosts {
        host(origin, all, texts, &mut made.rules);
    }
    made.credentials = credentials.lines;
    made
}

/// The credential that most requests of a host use stands for all of it; the others have rules of their own
/// by path and method, after it, since the later rule wins.
fn host(origin: &Origin, all: &[(&Request<'_>, Used)], texts: &mut Texts, rules: &mut Vec<String>) {
    let mut groups: BTreeMap<&Used, Vec<&Request<'_>>> = BTreeMap::new();
    for (request, used) in all {
        groups.entry(used).or_default().push(request);
    }
    let most = groups.iter().filter(|(used, _)| used.is_some()).max_by_key(|(_, requests)| requests.len());
    let most: Used = most.and_then(|(used, _)| (*used).clone());
    let via = all.iter().find_map(|(request, _)| via(request, texts));
    if most.is_none() && via.is_none() {
        return;
    }
    let head = head(origin, all, texts);
    let auth = most.as_deref().map_or_else(String::new, |name| format!("    auth: {}\n", quoted(name)));
    rules.push(format!("{head}{auth}{}", via.unwrap_or_default()));
    for (used, requests) in groups.iter().filter(|(used, _)| **used != &most) {
        let mut by_paths: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
        let mut by_method: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for request in requests {
            let paths = by_method.entry(&request.method).or_default();
            if !paths.contains(&request.path.as_str()) {
                paths.push(&request.path);
            }
            clash(request, used, all, texts);
        }
        for (method, paths) in by_method {
            by_paths.entry(paths).or_default().push(method);
        }
        for (paths, methods) in by_paths {
            let list = |words: &[&str]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
            let auth = used.as_deref().map_or_else(|| "none".to_owned(), quoted);
            rules.push(format!("{head}    path: [{}]\n    methods: [{}]\n    auth: {auth}\n", list(&paths), list(&methods)));
        }
    }
}

fn head(origin: &Origin, all: &[(&Request<'_>, Used)], texts: &mut Texts) -> String {
    let host = match all.iter().find_map(|(request, _)| request.host_variable.as_deref()) {
        Some(variable) => quoted(&texts.open(variable, "a host")),
        None => quoted(&origin.host.to_string()),
    };
    let port = odd_port(origin).map_or_else(String::new, |port| format!("    port: {port}\n"));
    let scheme = if is_plain(origin) { "    scheme: http\n" } else { "" };
    format!("  - host: {host}\n{port}{scheme}")
}

/// Two requests that a proxy cannot tell apart, and which authenticate differently.
fn clash(request: &Request<'_>, used: &Used, all: &[(&Request<'_>, Used)], texts: &mut Texts) {
    let same = |other: &Request<'_>| other.path == request.path && other.method == request.method;
    if let Some((other, _)) = all.iter().find(|(other, theirs)| same(other) && theirs != used) {
        texts.note(format!(
            "`{}` and `{}` ask the same host for the same path, but authenticate differently: the later rule wins",
            other.name, request.name
        ));
    }
}

/// A proxy that a request is sent through.
fn via(request: &Request<'_>, texts: &mut Texts) -> Option<String> {
    let proxy = request.proxy?;
    let text = |key: &str| proxy.get(key).map(plain_text).filter(|text| !text.is_empty());
    let owner = format!("proxy of {}", request.name);
    let host = texts.open(&text("host")?, &owner);
    let port = text("port").unwrap_or_else(|| "8080".to_owned());
    let mut parts = vec![format!("url: {}", quoted(&format!("http://{host}:{port}")))];
    if let Some(user) = text("username") {
        parts.push(format!("username: {}", quoted(&texts.open(&user, &owner))));
        let password = text("password").unwrap_or_default();
        parts.push(format!("password: {}", quoted(&texts.secret(&password, &slug(&owner), "password"))));
    }
    Some(format!("    via: {{ {} }}\n", parts.join(", ")))
}

/// Credentials by what they say: an auth that many requests inherit is one.
#[derive(Default)]
struct Credentials {
    /// What was carried over, and as which name; `None`: it could not be.
    known: Vec<(String, Used)>,
    names: Vec<String>,
    lines: Vec<String>,
}

impl Credentials {
    fn name(&mut self, credential: &Credential<'_>, texts: &mut Texts) -> Used {
        let (key, owner) = match credential {
            Credential::Nothing => return None,
            Credential::Auth(auth, owner) => (auth.written(), owner),
            Credential::Header(name, value, owner) => (format!("{name}: {value}"), owner),
        };
        if let Some((_, used)) = self.known.iter().find(|(known, _)| *known == key) {
            return used.clone();
        }
        let name = self.free(owner);
        let settings = match credential {
            Credential::Auth(auth, _) => auth::settings(auth, &name, texts),
            Credential::Header(header, value, _) => Some(header_settings(header, value, &name, texts)),
            Credential::Nothing => None,
        };
        let used = settings.map(|settings| {
            self.lines.push(format!("  {}: {settings}\n", quoted(&name)));
            self.names.push(name.clone());
            name
        });
        self.known.push((key, used.clone()));
        used
    }

    fn free(&self, owner: &str) -> String {
        let mut name = owner.to_owned();
        let mut n = 2;
        while self.names.contains(&name) {
            name = format!("{owner}-{n}");
            n += 1;
        }
        name
    }
}

/// A header that a request carries by hand.
fn header_settings(header: &str, value: &str, name: &str, texts: &mut Texts) -> String {
    let scheme = value.split_once(' ').filter(|_| header.eq_ignore_ascii_case("authorization"));
    match scheme {
        Some((word, token)) if word.eq_ignore_ascii_case("bearer") => {
            format!("{{ bearer: {{ token: {} }} }}", quoted(&texts.secret(token.trim(), name, "token")))
        }
        _ => format!("{{ headers: {{ {}: {} }} }}", quoted(header), quoted(&texts.secret(value, name, header))),
    }
}
