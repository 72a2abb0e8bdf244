//! Near misses: where no rule gives a request anything, the rules that nearly did, and what differs. The likeliest first
//! mistakes with rules are a port, a scheme or an apex, and without this nothing would show them.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::{Caller, Gate, LiveRule, admits};
use crate::config::{Client, Schemes};
use crate::failure::{Cause, Failure};
use crate::origin::{Host, Origin, Scheme};
use crate::pattern::{Kinship, Ports};

/// A rule that does not apply, and why.
pub struct Near {
    pub rule: Arc<str>,
    pub differences: Vec<Difference>,
}

/// One thing that a request has otherwise than a rule asks for.
pub struct Difference {
    pub what: What,
    /// As the request has it; empty: another than what follows, and which it is not known.
    pub is: String,
    pub wants: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// How the host is related to the one that the rule names.
    Host(Kinship),
    Port,
    Scheme,
    Client,
    Path,
    Method,
}

impl What {
    /// The key of the rule that it is about.
    pub fn key(self) -> &'static str {
        match self {
            What::Host(_) => "host",
            What::Port => "port",
            What::Scheme => "scheme",
            What::Client => "clients",
            What::Path => "path",
            What::Method => "methods",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, is, wants } = self;
        let word = match what {
            What::Client => "caller",
            What::Method => "method",
            other => other.key(),
        };
        match what {
            What::Host(Kinship::Apex) => write!(f, "host {is} (it is for {wants}, the subdomains alone)"),
            What::Host(Kinship::Subdomain) => write!(f, "host {is} (it is for {wants} alone, without subdomains)"),
            _ if is.is_empty() => write!(f, "another {word} (it is for {wants})"),
            _ => write!(f, "{word} {is} (it is for {wants})"),
        }
    }
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} does not apply: ", self.rule)?;
        let texts: Vec<String> = self.differences.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(", "))
    }
}

/// More would not be read.
const MOST: usize = 3;

impl Gate {
    /// The rules that nearly apply: those for the host that differ in something else, in as little as there is, and those for
    /// a host akin to it that differ in nothing else. `request`: method and path, where they are known; where they are not,
    /// rules that deny are left out.
    pub fn near(&self, origin: &Origin, caller: &Caller, request: Option<(&Method, &str)>) -> Vec<Near> {
        let mut found: Vec<(usize, Vec<Difference>)> = Vec::new();
        let wanted = |at: &usize| request.is_some() || !self.rules[*at].denies();
        for at in self.about(&origin.host).into_iter().filter(wanted) {
            let differences = self.differences(at, origin, caller, request);
            if !differences.is_empty() {
                found.push((at, differences));
            }
        }
        let least = found.iter().map(|(_, differences)| differences.len()).min().unwrap_or(0);
        found.retain(|(_, differences)| differences.len() == least);
        if found.len() < MOST {
            for (at, kinship, wants) in self.index.akin(&origin.host) {
                let known = found.iter().any(|(other, _)| *other == at);
                if !known && wanted(&at) && self.differences(at, origin, caller, request).iter().all(|d| d.is.is_empty()) {
                    let host = Difference { what: What::Host(kinship), is: origin.host.to_string(), wants };
                    found.push((at, vec![host]));
                }
            }
        }
        let told = |(at, differences): (usize, Vec<Difference>)| Near { rule: self.rules[at].label.clone(), differences };
        found.into_iter().take(MOST).map(told).collect()
    }

    /// What a request, whose host is the rule's, has otherwise than the rule.
    pub fn differences(&self, at: usize, origin: &Origin, caller: &Caller, request: Option<(&Method, &str)>) -> Vec<Difference> {
        let live = &self.rules[at];
        let rule = &live.rule;
        let mut all = Vec::new();
        let scheme_fits = match rule.schemes {
            Schemes::Any => true,
            Schemes::Https => origin.scheme == Scheme::Https,
            Schemes::Http => origin.scheme == Scheme::Http,
        };
        let mut differs = |what, is: String, wants: String| all.push(Difference { what, is, wants });
        if !scheme_fits {
            let wants = if rule.schemes == Schemes::Http { Scheme::Http } else { Scheme::Https };
            differs(What::Scheme, origin.scheme.to_string(), wants.to_string());
        }
        if !rule.ports.contains(origin.port, origin.scheme) {
            let wants = match (&rule.ports, rule.schemes) {
                (Ports::Default, Schemes::Http) => "80".to_owned(),
                (Ports::Default, Schemes::Https) => "443".to_owned(),
                (Ports::Default, Schemes::Any) => origin.scheme.default_port().to_string(),
                (ports, _) => ports.to_string(),
            };
            differs(What::Port, origin.port.to_string(), wants);
        }
        if !admits(&rule.clients, caller) {
            differs(What::Client, shown(caller), list(rule.clients.iter().map(client)));
        }
        match request {
            Some((method, path)) => {
                if !live.is_for(method) {
                    differs(What::Method, method.to_string(), list(&rule.methods));
                }
                if !rule.paths.is_empty() && !live.is_for_path(path) {
                    differs(What::Path, path.to_owned(), list(&rule.paths));
                }
            }
            None => {
                if !rule.methods.is_empty() {
                    differs(What::Method, String::new(), list(&rule.methods));
                }
                if !rule.paths.is_empty() {
                    differs(What::Path, String::new(), list(&rule.paths));
                }
            }
        }
        all
    }
}

impl LiveRule {
    fn is_for_path(&self, path: &str) -> bool {
        let readings = || crate::pattern::readings(path);
        self.rule.paths.iter().any(|pattern| pattern.matches(path) || self.denies() && pattern.matches_any(&readings()))
    }
}

/// The near misses in one line; `None`: there are none.
pub fn line(near: &[Near]) -> Option<Arc<str>> {
    let texts: Vec<String> = near.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join("; ").into())
}

/// `unmatched: deny`, for `target`.
pub(super) fn unmatched(target: &dyn fmt::Display, host: &Host, near: Option<&str>) -> Failure {
    let set = "and `unmatched: deny` is set";
    match near {
        None => {
            Failure::new(Cause::Denied, format!("no rule names {target}, {set}")).hint(format!("add a rule with `host: {host}`"))
        }
        Some(near) => Failure::new(Cause::Denied, format!("no rule is for {target}, {set}: {near}"))
            .hint("change that rule, or add one, if it should pass"),
    }
}

fn shown(caller: &Caller) -> String {
    match (&caller.user, caller.address) {
        (Some(user), _) => user.to_string(),
        (None, Some(address)) => address.to_string(),
        (None, None) => "without a name".to_owned(),
    }
}

fn client(client: &Client) -> String {
    match client {
        Client::User(name) => name.clone(),
        Client::Cidr(cidr) => format!("{}/{}", cidr.address, cidr.prefix),
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(", ")
}
