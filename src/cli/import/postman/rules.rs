//! From requests to rules: one for each host, and more where requests of one host differ.

use std::collections::BTreeMap;

use super::auth::{self, Settings};
use super::collection::{self, Credential, Request, is_plain, odd_port};
use super::patterns::Pattern;
use super::secrecy::Level;
use super::texts::{Texts, plain_text, quoted, slug};
use crate::origin::{Host, Origin};
use crate::pattern::PathPattern;

/// A piece of the configuration, and the name of what it is about.
pub struct Block {
    pub about: String,
    pub text: String,
}

impl Block {
    pub fn new(about: &str, text: String) -> Self {
        Self { about: about.to_owned(), text }
    }
}

/// A rule before it is written.
pub struct Rule {
    /// Its conditions, line by line.
    pub head: String,
    /// Names of credentials; of a rule for a whole host, none means nothing is said.
    pub auth: Vec<String>,
    /// For some requests of a host only: no credential then means none.
    pub narrow: bool,
    pub via: String,
}

impl Rule {
    /// `None`: it says nothing.
    pub fn written(&self) -> Option<String> {
        let names: Vec<String> = self.auth.iter().map(|name| quoted(name)).collect();
        let auth = match &names[..] {
            [] if self.narrow => "    auth: none\n".to_owned(),
            [] => String::new(),
            [one] => format!("    auth: {one}\n"),
            more => format!("    auth: [{}]\n", more.join(", ")),
        };
        (!auth.is_empty() || !self.via.is_empty()).then(|| format!("{}{auth}{}", self.head, self.via))
    }
}

/// Sections of the configuration.
#[derive(Default)]
pub struct Made {
    pub credentials: Vec<Block>,
    pub rules: Vec<Rule>,
}

/// How a request of a host authenticates: by credentials of these names.
type Used = Vec<String>;

pub fn make(requests: &[Request<'_>], texts: &mut Texts) -> Made {
    let mut made = Made::default();
    let mut credentials = Credentials::default();
    let mut hosts: Vec<(&Origin, Vec<(&Request<'_>, Used)>)> = Vec::new();
    for request in requests {
        texts.enter(request.collection);
        let used = credentials.used(request, texts);
        match hosts.iter_mut().find(|(origin, _)| **origin == request.origin) {
            Some((_, all)) => all.push((request, used)),
            None => hosts.push((&request.origin, vec![(request, used)])),
        }
    }
    for (origin, all) in &hosts {
        host(origin, all, texts, &mut made.rules);
    }
    made.credentials = credentials.blocks;
    made
}

/// The credentials that most requests of a host use stand for all of it; the others have rules of their own
/// by path and method, after it, since the later rule wins.
fn host(origin: &Origin, all: &[(&Request<'_>, Used)], texts: &mut Texts, rules: &mut Vec<Rule>) {
    let mut groups: BTreeMap<&Used, Vec<&Request<'_>>> = BTreeMap::new();
    for (request, used) in all {
        groups.entry(used).or_default().push(request);
    }
    let most = groups.iter().filter(|(used, _)| !used.is_empty()).max_by_key(|(_, requests)| requests.len());
    let most: Used = most.map(|(used, _)| (*used).clone()).unwrap_or_default();
    let via = proxy_of(all, texts);
    if most.is_empty() && via.is_empty() {
        return;
    }
    let head = head(origin, all, texts);
    rules.push(Rule { head: head.clone(), auth: most.clone(), narrow: false, via });
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
            let head = format!("{head}    path: [{}]\n    methods: [{}]\n", list(&paths), list(&methods));
            rules.push(Rule { head, auth: (*used).clone(), narrow: true, via: String::new() });
        }
    }
}

fn head(origin: &Origin, all: &[(&Request<'_>, Used)], texts: &mut Texts) -> String {
    let variable = all.iter().find_map(|(request, _)| Some((request.host_variable.as_deref()?, request.collection)));
    let host = match variable {
        Some((variable, collection)) => {
            texts.enter(collection);
            quoted(&texts.plain(variable, Level::Any, "a rule", "host"))
        }
        None => quoted(&origin.host.to_string()),
    };
    let port = odd_port(origin).map_or_else(String::new, |port| format!("    port: {port}\n"));
    let scheme = if is_plain(origin) { "    scheme: http\n" } else { "" };
    format!("  - host: {host}\n{port}{scheme}")
}

/// Two requests that a proxy cannot tell apart, and which authenticate differently.
fn clash(request: &Request<'_>, used: &Used, all: &[(&Request<'_>, Used)], texts: &mut Texts) {
    let pattern = PathPattern::parse(&request.path).ok().filter(|_| request.path.contains('*'));
    let same = |other: &Request<'_>| {
        let path = other.path == request.path || pattern.as_ref().is_some_and(|pattern| pattern.matches(&other.path));
        path && other.method == request.method
    };
    if let Some((other, _)) = all.iter().find(|(other, theirs)| theirs != used && same(other)) {
        texts.note(format!(
            "`{}` and `{}` ask the same host for the same path, but authenticate differently: the later rule wins",
            other.name, request.name
        ));
    }
}

/// The proxy that requests of a host are sent through.
fn proxy_of(all: &[(&Request<'_>, Used)], texts: &mut Texts) -> String {
    let mut found: Option<String> = None;
    for (request, _) in all {
        texts.enter(request.collection);
        let Some(via) = via(request, texts) else { continue };
        match &found {
            None => found = Some(via),
            Some(first) if *first != via => {
                texts.note(format!(
                    "the proxy of `{}`: other requests of that host have another, and it is for all",
                    request.name
                ));
            }
            Some(_) => {}
        }
    }
    found.unwrap_or_default()
}

/// A proxy that a request is sent through.
fn via(request: &Request<'_>, texts: &mut Texts) -> Option<String> {
    let proxy = request.proxy?;
    let text = |key: &str| proxy.get(key).map(plain_text).filter(|text| !text.is_empty());
    let owner = format!("proxy of {}", request.name);
    let pattern = text("match").map(|pattern| Pattern::parse(&texts.resolve(&pattern).unwrap_or_default()));
    if pattern.is_some_and(|pattern| !pattern.is_ok_and(|pattern| pattern.is_for(&request.origin))) {
        texts.note(format!("the {owner}, whose `match` is not for this request"));
        return None;
    }
    let host = text("host").and_then(|host| texts.resolve(&host).ok()).unwrap_or_default();
    let port =
        text("port").map_or(Ok("8080".to_owned()), |port| texts.resolve(&port)).ok().and_then(|port| port.parse::<u16>().ok());
    let (Ok(host), Some(port)) = (Host::parse_written(&host), port.filter(|port| *port > 0)) else {
        texts.note(format!("the {owner}: its host or port is none"));
        return None;
    };
    let mut parts = vec![format!("url: {}", quoted(&format!("http://{host}:{port}")))];
    if let Some(user) = text("username") {
        let password = text("password").unwrap_or_default();
        let level = if password.is_empty() { None } else { Some(Level::Strict) };
        let user = match level {
            Some(level) => texts.plain(&user, level, &slug(&owner), "username"),
            None => texts.secret(&user, &slug(&owner), "username"),
        };
        parts.push(format!("username: {}", quoted(&user)));
        parts.push(format!("password: {}", quoted(&texts.secret(&password, &slug(&owner), "password"))));
    }
    Some(format!("    via: {{ {} }}\n", parts.join(", ")))
}

/// Credentials by what they say: an auth that many requests inherit is one.
#[derive(Default)]
struct Credentials {
    /// What was carried over, as which name, and what it writes; `None`: it could not be.
    known: Vec<(String, Option<Known>)>,
    names: Vec<String>,
    blocks: Vec<Block>,
}

#[derive(Clone)]
struct Known {
    name: String,
    writes: Vec<String>,
}

impl Credentials {
    /// All that a request brings, but for what another of them writes over, as Postman's auth does.
    fn used(&mut self, request: &Request<'_>, texts: &mut Texts) -> Used {
        let mut used = Used::new();
        let mut written: Vec<String> = Vec::new();
        for credential in &request.credentials {
            let Some(known) = self.known(credential, request.collection, texts) else { continue };
            if known.writes.iter().any(|place| written.contains(place)) {
                let what = match credential {
                    Credential::Auth(auth, _) => format!("the auth `{}`", auth.kind),
                    Credential::ByHand(by_hand, _) => by_hand.described(),
                };
                texts.note(format!("{what} of `{}`, where another credential of the request stands already", request.name));
                continue;
            }
            written.extend(known.writes);
            used.push(known.name);
        }
        used
    }

    fn known(&mut self, credential: &Credential<'_>, collection: usize, texts: &mut Texts) -> Option<Known> {
        let (key, owner) = match credential {
            Credential::Auth(auth, owner) => (auth.written(), owner),
            Credential::ByHand(by_hand, owner) => (by_hand.written(), owner),
        };
        let key = collection::key(key, collection);
        if let Some((_, known)) = self.known.iter().find(|(other, _)| *other == key) {
            return known.clone();
        }
        let name = self.free(owner);
        let settings: Option<Settings> = match credential {
            Credential::Auth(auth, _) => auth::settings(auth, &name, texts),
            Credential::ByHand(by_hand, _) => Some(by_hand.settings(&name, texts)),
        };
        let known = settings.map(|settings| {
            self.blocks.push(Block::new(&name, format!("  {}: {}\n", quoted(&name), settings.text)));
            self.names.push(name.clone());
            Known { name, writes: settings.writes }
        });
        self.known.push((key, known.clone()));
        known
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
