//! Name constraints (RFC 5280 §4.2.1.10): a CA that may issue only for the hosts of the rules. Whoever
//! steals its key can then impersonate those hosts alone, to clients that look (OpenSSL, NSS, Chromium, Go,
//! rustls do; Java does not for a root).

use std::net::IpAddr;

use rcgen::{CidrSubnet, GeneralSubtree};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::origin::Host;
use crate::pattern::HostPattern;

/// The names that a CA may issue for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Constraints {
    permitted: Subtrees,
    excluded: Subtrees,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Subtrees {
    /// In lower case; a name stands for itself and everything below it.
    names: Vec<String>,
    networks: Vec<Network>,
}

/// Address and mask, both of 4 or of 16 octets.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Network {
    address: Vec<u8>,
    mask: Vec<u8>,
}

impl Constraints {
    /// Just wide enough for these patterns.
    ///
    /// # Errors
    /// The text of one that no constraint can express: `*`, or a glob at the end of a name.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a HostPattern>) -> Result<Self, String> {
        let mut permitted = Subtrees::default();
        for pattern in patterns {
            permitted.add(pattern)?;
        }
        permitted.narrow();
        let mut excluded = Subtrees::default();
        // A kind of name without a permitted subtree is not limited at all, so it is excluded whole.
        if permitted.names.is_empty() {
            excluded.names.push(String::new());
        }
        if permitted.networks.is_empty() {
            excluded.networks.extend([Network::all(4), Network::all(16)]);
        }
        Ok(Self { permitted, excluded })
    }

    /// Those in a certificate; `None` when it has none.
    pub fn read(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let constraints = certificate.name_constraints().ok()??.value;
        let subtrees = |list: &Option<Vec<_>>| {
            let mut subtrees = Subtrees::default();
            for subtree in list.iter().flatten() {
                let subtree: &x509_parser::extensions::GeneralSubtree<'_> = subtree;
                match &subtree.base {
                    GeneralName::DNSName(name) => subtrees.names.push(name.trim_start_matches('.').to_ascii_lowercase()),
                    GeneralName::IPAddress(octets) => subtrees.networks.extend(Network::parse(octets)),
                    _ => {}
                }
            }
            subtrees
        };
        Some(Self { permitted: subtrees(&constraints.permitted_subtrees), excluded: subtrees(&constraints.excluded_subtrees) })
    }

    pub fn permits(&self, host: &Host) -> bool {
        let (permitted, excluded) = (self.permitted.says(host), self.excluded.says(host));
        permitted.unwrap_or(true) && !excluded.unwrap_or(false)
    }

    /// Does it permit all that `needed` permits?
    pub fn covers(&self, needed: &Constraints) -> bool {
        let name = |name: &String| self.permits(&Host::Name(name.as_str().into()));
        let network = |network: &Network| network.host().is_some_and(|host| self.permits(&host));
        needed.permitted.names.iter().all(name) && needed.permitted.networks.iter().all(network)
    }

    /// For people: `example.com, 10.0.0.1`.
    pub fn text(&self) -> String {
        let networks = self.permitted.networks.iter().map(Network::text);
        self.permitted.names.iter().cloned().chain(networks).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn extension(&self) -> rcgen::NameConstraints {
        rcgen::NameConstraints { permitted_subtrees: self.permitted.general(), excluded_subtrees: self.excluded.general() }
    }
}

impl Subtrees {
    fn add(&mut self, pattern: &HostPattern) -> Result<(), String> {
        match pattern {
            HostPattern::Exact(Host::Name(name)) | HostPattern::Subdomains(name) => self.names.push(name.to_string()),
            HostPattern::Exact(Host::Ip(ip)) => self.networks.push(Network::one(*ip)),
            HostPattern::Any => return Err("*".to_owned()),
            HostPattern::Glob { text, .. } => {
                // What stands behind the last wildcard's label.
                let wild = text.rfind(['*', '?', ']']).unwrap_or(0);
                let suffix = text[wild..].split_once('.').map(|(_, suffix)| suffix).filter(|suffix| !suffix.is_empty());
                let letters = suffix.filter(|suffix| suffix.bytes().any(|b| b.is_ascii_alphabetic()));
                self.names.push(letters.ok_or_else(|| text.to_string())?.to_owned());
            }
        }
        Ok(())
    }

    /// Leaves out what another one covers.
    fn narrow(&mut self) {
        self.names.sort_unstable();
        self.names.dedup();
        let all = self.names.clone();
        self.names.retain(|name| !all.iter().any(|other| other != name && is_below(name, other)));
        self.networks.dedup();
    }

    /// `None`: nothing is said of names of this kind.
    fn says(&self, host: &Host) -> Option<bool> {
        match host {
            Host::Name(name) => (!self.names.is_empty()).then(|| self.names.iter().any(|subtree| is_below(name, subtree))),
            Host::Ip(ip) => (!self.networks.is_empty()).then(|| self.networks.iter().any(|network| network.contains(*ip))),
        }
    }

    fn general(&self) -> Vec<GeneralSubtree> {
        let names = self.names.iter().cloned().map(GeneralSubtree::DnsName);
        let networks = self.networks.iter().filter_map(Network::subnet).map(GeneralSubtree::IpAddress);
        names.chain(networks).collect()
    }
}

/// The name itself or one below it; the empty one has all below it.
fn is_below(name: &str, subtree: &str) -> bool {
    subtree.is_empty() || name.strip_suffix(subtree).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

impl Network {
    fn all(octets: usize) -> Self {
        Self { address: vec![0; octets], mask: vec![0; octets] }
    }

    fn one(ip: IpAddr) -> Self {
        let address = octets(ip);
        Self { mask: vec![0xff; address.len()], address }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let half = bytes.len() / 2;
        matches!(bytes.len(), 8 | 32).then(|| Self { address: bytes[..half].to_vec(), mask: bytes[half..].to_vec() })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let own = octets(ip);
        own.len() == self.address.len()
            && own.iter().zip(&self.address).zip(&self.mask).all(|((own, address), mask)| own & mask == address & mask)
    }

    fn host(&self) -> Option<Host> {
        match self.address.len() {
            4 => <[u8; 4]>::try_from(self.address.as_slice()).ok().map(|o| Host::Ip(o.into())),
            _ => <[u8; 16]>::try_from(self.address.as_slice()).ok().map(|o| Host::Ip(o.into())),
        }
    }

    fn subnet(&self) -> Option<CidrSubnet> {
        match self.address.len() {
            4 => Some(CidrSubnet::V4(self.address.as_slice().try_into().ok()?, self.mask.as_slice().try_into().ok()?)),
            _ => Some(CidrSubnet::V6(self.address.as_slice().try_into().ok()?, self.mask.as_slice().try_into().ok()?)),
        }
    }

    fn text(&self) -> String {
        let bits: u32 = self.mask.iter().map(|octet| octet.count_ones()).sum();
        let address = match self.host() {
            Some(Host::Ip(ip)) => ip.to_string(),
            _ => String::new(),
        };
        if bits as usize == self.mask.len() * 8 { address } else { format!("{address}/{bits}") }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<Constraints, String> {
        let patterns: Vec<HostPattern> = texts.iter().flat_map(|text| HostPattern::parse(text).unwrap()).collect();
        Constraints::of(&patterns)
    }

    fn host(text: &str) -> Host {
        Host::parse_written(text).unwrap()
    }

    #[test]
    fn they_are_just_wide_enough_for_the_rules() {
        let constraints =
            of(&["api.example.com", "*.corp.example", "{a,b}.x.test", "api-*.y.test", "10.0.0.1", "git.corp.example"]).unwrap();
        assert_eq!(constraints.text(), "a.x.test, api.example.com, b.x.test, corp.example, y.test, 10.0.0.1");
        for inside in ["api.example.com", "a.corp.example", "b.x.test", "api-1.y.test", "10.0.0.1"] {
            assert!(constraints.permits(&host(inside)), "{inside}");
        }
        for outside in ["example.com", "myapi.example.com", "c.x.test", "10.0.0.2", "::1"] {
            assert!(!constraints.permits(&host(outside)), "{outside}");
        }
    }

    #[test]
    fn a_kind_of_name_that_no_rule_speaks_of_is_excluded() {
        let names = of(&["a.test"]).unwrap();
        assert!(!names.permits(&host("10.0.0.1")) && !names.permits(&host("::1")));
        let addresses = of(&["10.0.0.1"]).unwrap();
        assert!(!addresses.permits(&host("a.test")) && addresses.permits(&host("10.0.0.1")));
    }

    #[test]
    fn what_names_every_host_cannot_be_a_constraint() {
        for wide in ["*", "api.*", "10.0.0.*"] {
            assert_eq!(of(&[wide]).unwrap_err(), wide);
        }
    }

    #[test]
    fn a_wider_one_covers_a_narrower_one() {
        let (wide, narrow) = (of(&["*.a.test", "10.0.0.1"]).unwrap(), of(&["x.a.test"]).unwrap());
        assert!(wide.covers(&narrow) && !narrow.covers(&wide));
    }
}
