//! From a host to the rules that may speak of it.

use std::collections::HashMap;

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::host::HostPattern;
use crate::origin::Host;

/// How a host is related to the one that a pattern names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kinship {
    /// `example.com`, where the pattern is `*.example.com`.
    Apex,
    /// Below a name that the pattern means alone.
    Subdomain,
    /// One letter is missing, too many, another, or two have changed places.
    Misspelt,
}

/// Finds the rules that may speak of a host, however many rules there are.
pub struct HostIndex {
    any: Vec<usize>,
    exact: HashMap<Host, Vec<usize>>,
    subdomains: HashMap<Box<str>, Vec<usize>>,
    /// Other globs over names, in sets small enough for globset's automata.
    globs: Vec<Globs>,
    /// Globs over addresses; there are few.
    addresses: Vec<(GlobMatcher, usize)>,
}

/// Globs with the rule of each, at the same place.
enum Globs {
    Set(GlobSet, Vec<usize>),
    One(GlobMatcher, usize),
}

/// Larger sets fail to build or match slowly.
const GLOBS: usize = 1_000;

impl HostIndex {
    /// From the host patterns of each rule, in order.
    pub fn new<'p>(rules: impl Iterator<Item = &'p [HostPattern]>) -> Self {
        let mut index =
            Self { any: Vec::new(), exact: HashMap::new(), subdomains: HashMap::new(), globs: Vec::new(), addresses: Vec::new() };
        let mut globs: Vec<(&str, &GlobMatcher, usize)> = Vec::new();
        for (rule, patterns) in rules.enumerate() {
            for pattern in patterns {
                match pattern {
                    HostPattern::Any => index.any.push(rule),
                    HostPattern::Exact(host) => index.exact.entry(host.clone()).or_default().push(rule),
                    HostPattern::Subdomains(suffix) => index.subdomains.entry(suffix.clone()).or_default().push(rule),
                    HostPattern::Glob { matcher, addresses: true, .. } => index.addresses.push((matcher.clone(), rule)),
                    HostPattern::Glob { text, matcher, .. } => globs.push((text, matcher, rule)),
                }
            }
        }
        for chunk in globs.chunks(GLOBS) {
            gather(chunk, &mut index.globs);
        }
        index
    }

    /// Rules that speak of `host`, ascending, each once.
    pub fn matches(&self, host: &Host) -> Vec<usize> {
        let mut rules = self.any.clone();
        rules.extend(self.exact.get(host).into_iter().flatten());
        match host {
            Host::Name(name) => self.by_name(name, &mut rules),
            Host::Ip(ip) if !self.addresses.is_empty() => {
                let text = ip.to_string();
                rules.extend(self.addresses.iter().filter(|(matcher, _)| matcher.is_match(&text)).map(|(_, rule)| *rule));
            }
            Host::Ip(_) => {}
        }
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// Rules for a host that is akin to this one, how, and the pattern's text. Looks at every exact name, so it is for where
    /// nothing matched.
    pub fn akin(&self, host: &Host) -> Vec<(usize, Kinship, String)> {
        let Host::Name(name) = host else { return Vec::new() };
        let mut found = Vec::new();
        let apex = self.subdomains.get(&**name).into_iter().flatten();
        found.extend(apex.map(|rule| (*rule, Kinship::Apex, format!("*.{name}"))));
        let mut rest = &**name;
        while let Some((_, parent)) = rest.split_once('.').filter(|(_, parent)| parent.contains('.')) {
            let rules = self.exact.get(&Host::Name(parent.into())).into_iter().flatten();
            found.extend(rules.map(|rule| (*rule, Kinship::Subdomain, parent.to_owned())));
            rest = parent;
        }
        let mut misspelt: Vec<_> = (self.exact.iter())
            .filter_map(|(other, rules)| Some((other.name().filter(|other| is_misspelt(name, other))?, rules)))
            .flat_map(|(other, rules)| rules.iter().map(|rule| (*rule, Kinship::Misspelt, other.to_owned())))
            .collect();
        misspelt.sort_unstable_by_key(|(rule, ..)| *rule);
        found.extend(misspelt);
        found
    }

    fn by_name(&self, name: &str, rules: &mut Vec<usize>) {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            rules.extend(self.subdomains.get(parent).into_iter().flatten());
            rest = parent;
        }
        for globs in &self.globs {
            match globs {
                Globs::Set(set, owners) => rules.extend(set.matches(name).into_iter().map(|at| owners[at])),
                Globs::One(matcher, owner) if matcher.is_match(name) => rules.push(*owner),
                Globs::One(..) => {}
            }
        }
    }
}

/// One letter apart. Digits number hosts, so another digit is another host.
fn is_misspelt(a: &str, b: &str) -> bool {
    let (a, b) = if a.len() <= b.len() { (a.as_bytes(), b.as_bytes()) } else { (b.as_bytes(), a.as_bytes()) };
    if b.len() - a.len() > 1 || a.len() < 5 {
        return false;
    }
    let Some(at) = a.iter().zip(b).position(|(x, y)| x != y) else { return a.len() < b.len() };
    let (rest, other) = (&a[at..], &b[at..]);
    if a.len() < b.len() {
        return rest == &other[1..] && !other[0].is_ascii_digit();
    }
    let numbered = rest[0].is_ascii_digit() && other[0].is_ascii_digit();
    let swapped = rest.len() > 1 && rest[0] == other[1] && rest[1] == other[0] && rest[2..] == other[2..];
    swapped || rest[1..] == other[1..] && !numbered
}

/// One set of all, or of halves where globset finds all too large. No glob is ever left out: a rule that
/// is not found is a `deny` that does not hold.
fn gather(globs: &[(&str, &GlobMatcher, usize)], found: &mut Vec<Globs>) {
    if let [(_, matcher, owner)] = globs {
        found.push(Globs::One((*matcher).clone(), *owner));
        return;
    }
    let built: Result<GlobSet, globset::Error> = globs
        .iter()
        .map(|(text, ..)| GlobBuilder::new(text).case_insensitive(true).backslash_escape(false).build())
        .collect::<Result<Vec<_>, _>>()
        .and_then(|all| all.into_iter().fold(&mut GlobSetBuilder::new(), |set, glob| set.add(glob)).build());
    match built {
        Ok(set) => found.push(Globs::Set(set, globs.iter().map(|(.., owner)| *owner).collect())),
        Err(_) => {
            let (front, back) = globs.split_at(globs.len() / 2);
            gather(front, found);
            gather(back, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_for_akin_hosts_are_found_with_how_they_are_akin() {
        let rules: Vec<_> = ["*.example.com", "api.example.com", "10.0.0.1", "node1.example.com", "*"]
            .iter()
            .map(|text| HostPattern::parse(text).unwrap())
            .collect();
        let index = HostIndex::new(rules.iter().map(Vec::as_slice));
        let akin = |host: &str| {
            let found = index.akin(&Host::parse(host).unwrap());
            found.into_iter().map(|(rule, kinship, _)| (rule, kinship)).collect::<Vec<_>>()
        };
        assert_eq!(akin("example.com"), [(0, Kinship::Apex)]);
        assert_eq!(akin("v1.eu.api.example.com"), [(1, Kinship::Subdomain)]);
        for host in ["ap.example.com", "apii.example.com", "api.exmaple.com", "abi.example.com", "api.example.co"] {
            assert_eq!(akin(host), [(1, Kinship::Misspelt)], "{host}");
        }
        for host in ["example.org", "api.example.org", "node2.example.com", "node12.example.com", "10.0.0.2", "com"] {
            assert_eq!(akin(host), [], "{host}");
        }
    }

    #[test]
    fn no_glob_is_lost_when_a_set_is_too_large_to_build() {
        let label = "a5".to_owned() + &"b".repeat(30);
        let hosts: Vec<String> = (0..1_200).map(|n| format!("{label}*.{label}*.{}{n}.example", "c".repeat(40))).collect();
        let rules: Vec<Vec<HostPattern>> = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
        let index = HostIndex::new(rules.iter().map(Vec::as_slice));
        for n in [0, 1, 600, 1_199] {
            let host = Host::parse(&format!("{label}x.{label}y.{}{n}.example", "c".repeat(40))).unwrap();
            assert_eq!(index.matches(&host), [n]);
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let label = "[a-c]{1,2}";
        prop_oneof![
            Just("*".to_owned()),
            proptest::string::string_regex(&format!(r"{label}\.{label}")).unwrap(),
            proptest::string::string_regex(&format!(r"\*\.{label}")).unwrap(),
            proptest::string::string_regex(&format!(r"\*\.{label}\.{label}")).unwrap(),
            proptest::string::string_regex(&format!(r"{label}\*\.{label}")).unwrap(),
            proptest::string::string_regex(&format!(r"{label}\.\*")).unwrap(),
        ]
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_asking_each_pattern(patterns in proptest::collection::vec(pattern(), 1..12), host in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}") {
            let rules: Vec<Vec<HostPattern>> = patterns.iter().map(|p| HostPattern::parse(p).unwrap()).collect();
            let index = HostIndex::new(rules.iter().map(Vec::as_slice));
            let host = Host::parse(&host).unwrap();
            let naive: Vec<usize> = rules.iter().enumerate().filter(|(_, ps)| ps.iter().any(|p| p.matches(&host))).map(|(n, _)| n).collect();
            prop_assert_eq!(index.matches(&host), naive);
        }
    }
}
