//! Every certificate that a gate holds, with the rules that use it: for `gatepass certs`, for warnings
//! before one ends, and for metrics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::Gate;
use crate::config::ListenAddress;
use crate::tls::formats::inspect::Details;
use crate::tls::out::identity::Identity;

/// One certificate and what came with it.
pub struct Held {
    pub kind: Kind,
    /// As in the configuration; where it has no name there, the rule or listener it stands in.
    pub name: String,
    /// The certificate, then those above it that are sent along.
    pub chain: Vec<Details>,
    /// The rules that name it.
    pub rules: Vec<Arc<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    InterceptionCa,
    ClientCertificate,
    /// Of a bundle that servers are believed by.
    Ca,
    Listener,
    /// That callers' certificates must be from.
    CallerCa,
}

impl Kind {
    pub fn words(self) -> &'static str {
        match self {
            Kind::InterceptionCa => "interception CA",
            Kind::ClientCertificate => "client certificate",
            Kind::Ca => "CA",
            Kind::Listener => "listener certificate",
            Kind::CallerCa => "CA of callers",
        }
    }
}

impl Held {
    /// The certificate itself.
    pub fn details(&self) -> &Details {
        &self.chain[0]
    }

    /// When the first of its chain ends: it is of no use from then on.
    pub fn ends(&self) -> SystemTime {
        self.chain.iter().map(|details| details.not_after).min().unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// What makes two mentions the same: a name, or the contents where there is none.
#[derive(PartialEq, Eq, Hash)]
enum Mention<'a> {
    Named(&'a str),
    Inline([u8; 32]),
}

impl Gate {
    /// The interception CA first, then what rules use, then what listeners show and ask for.
    pub fn certificates(&self) -> Vec<Held> {
        let ca = self.authority.chain_details();
        let mut held = vec![Held { kind: Kind::InterceptionCa, name: "gatepass".to_owned(), chain: ca, rules: Vec::new() }];
        held.extend(self.client_certificates());
        held.extend(self.cas());
        let mut listeners: Vec<_> = self.kept.listeners.iter().collect();
        listeners.sort_by_key(|((address, nth), _)| (shown(address), *nth));
        for ((address, _), listening) in listeners {
            let name = shown(address);
            let one = |kind, chain| Held { kind, name: name.clone(), chain, rules: Vec::new() };
            held.push(one(Kind::Listener, chain(&listening.identity)));
            let callers = listening.callers.iter().flat_map(|trust| trust.entries());
            held.extend(callers.map(|details| one(Kind::CallerCa, vec![details.clone()])));
        }
        held
    }

    fn client_certificates(&self) -> Vec<Held> {
        let new = |name: &str, identity: &Identity| Held {
            kind: Kind::ClientCertificate,
            name: name.to_owned(),
            chain: chain(identity),
            rules: Vec::new(),
        };
        let mut held: Vec<Held> = self.identities.iter().map(|(name, identity)| new(name, identity)).collect();
        let mut known: HashMap<Mention<'_>, usize> =
            self.identities.iter().enumerate().map(|(at, (name, _))| (Mention::Named(name), at)).collect();
        for live in &self.rules {
            let sources = live.rule.client_certificates.iter().flatten();
            for (source, identity) in sources.zip(live.identities.iter().flatten()) {
                let mention = source.name.as_deref().map_or(Mention::Inline(identity.fingerprint()), Mention::Named);
                let at = *known.entry(mention).or_insert_with(|| {
                    held.push(new(&live.label, identity));
                    held.len() - 1
                });
                held[at].rules.push(live.label.clone());
            }
        }
        held
    }

    /// One for each CA of each bundle.
    fn cas(&self) -> Vec<Held> {
        let mut bundles: Vec<(String, &[Details], Vec<Arc<str>>)> =
            self.bundles.iter().map(|(name, trust)| (name.clone(), trust.entries(), Vec::new())).collect();
        let mut known: HashMap<Mention<'_>, usize> =
            self.bundles.iter().enumerate().map(|(at, (name, _))| (Mention::Named(name), at)).collect();
        for live in &self.rules {
            let (Some(source), Some(trust)) = (&live.rule.ca_bundle, &live.trust) else { continue };
            let mention = source.name.as_deref().map_or(Mention::Inline(trust.fingerprint()), Mention::Named);
            let at = *known.entry(mention).or_insert_with(|| {
                bundles.push((live.label.to_string(), trust.entries(), Vec::new()));
                bundles.len() - 1
            });
            bundles[at].2.push(live.label.clone());
        }
        let one = |name: &str, details: &Details, rules: &[Arc<str>]| Held {
            kind: Kind::Ca,
            name: name.to_owned(),
            chain: vec![details.clone()],
            rules: rules.to_vec(),
        };
        bundles.iter().flat_map(|(name, cas, rules)| cas.iter().map(move |details| one(name, details, rules))).collect()
    }
}

fn chain(identity: &Identity) -> Vec<Details> {
    identity.certificates().iter().filter_map(|der| Details::read(der).ok()).collect()
}

fn shown(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        ListenAddress::Inherited(name) => format!("systemd:{name}"),
    }
}
