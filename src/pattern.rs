//! Which hosts, ports and paths a rule speaks of.
//!
//! Host patterns are exact names, addresses, globs (`*.example.com` is every subdomain at any depth
//! and not the apex; `*` is every host) and `{a,b}` alternatives; compared in lower case, IDNA ASCII
//! form, without the trailing dot. Patterns never reach across a `/`, `:` or `@`, since the host is
//! parsed strictly first.

use std::collections::HashMap;
use std::fmt;

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use crate::origin::{Host, Scheme};

mod path;

pub use path::{PathPattern, readings};

/// One host pattern of a rule, as one of four kinds so that the gate can index them.
#[derive(Clone, Debug)]
pub enum HostPattern {
    /// `*`.
    Any,
    Exact(Host),
    /// `*.example.com`, kept as `example.com`: any subdomain at any depth, never the apex or an address.
    Subdomains(Box<str>),
    Glob {
        text: Box<str>,
        matcher: GlobMatcher,
        /// `10.0.0.*` speaks of addresses alone: a name such as `10.0.0.evil.example` is not meant. A glob
        /// with letters speaks of names alone.
        addresses: bool,
    },
}

impl HostPattern {
    /// One text of a `host:` setting; `{a,b}` gives several.
    ///
    /// # Errors
    /// It is not a host name, address or glob; the sentence says why.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let text = text.trim();
        if text.contains("://") || text.contains('/') {
            return Err("a rule's host takes a host name, not a URL".to_owned());
        }
        if text.contains('@') || text.contains(char::is_whitespace) {
            return Err("a host name holds no `@` and no spaces".to_owned());
        }
        let mut texts = Vec::new();
        expand_braces(text, &mut texts)?;
        texts.iter().map(|text| Self::one(text)).collect()
    }

    fn one(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let bracketed = text.starts_with('[') || !text.contains('[');
        if !text.contains(['*', '?']) && bracketed {
            return Host::parse_written(text)
                .map(Self::Exact)
                .map_err(|why| without_port(text).unwrap_or_else(|| why.to_string()));
        }
        let lower = idna_glob(text.strip_suffix('.').unwrap_or(text))?;
        if let Some(suffix) = lower.strip_prefix("*.")
            && !suffix.contains(['*', '?', '['])
        {
            return match Host::parse(suffix) {
                Ok(Host::Name(name)) => Ok(Self::Subdomains(name)),
                _ => Err(without_port(suffix).unwrap_or_else(|| "after `*.` comes a host name".to_owned())),
            };
        }
        if lower.contains(':') {
            return Err(without_port(&lower).unwrap_or_else(|| "a host pattern holds no `:`".to_owned()));
        }
        let matcher =
            glob(&lower, false).map_err(|cause| format!("this host pattern is not valid: {}", cause.kind()))?.compile_matcher();
        let addresses = lower.bytes().any(|b| b.is_ascii_digit()) && !lower.bytes().any(|b| b.is_ascii_alphabetic());
        Ok(Self::Glob { text: lower.into(), matcher, addresses })
    }

    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exact(exact), host) => exact == host,
            (Self::Subdomains(suffix), Host::Name(name)) => {
                name.strip_suffix(&**suffix).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
            }
            (Self::Glob { matcher, addresses, .. }, Host::Name(name)) => !addresses && matcher.is_match(&**name),
            (Self::Glob { matcher, addresses, .. }, Host::Ip(ip)) => *addresses && matcher.is_match(ip.to_string()),
            (Self::Subdomains(_), Host::Ip(_)) => false,
        }
    }

    /// The host, when the pattern speaks of exactly one.
    pub fn exact(&self) -> Option<&Host> {
        match self {
            Self::Exact(host) => Some(host),
            _ => None,
        }
    }
}

/// Alternatives that one pattern may stand for.
const ALTERNATIVES: usize = 1_000;

/// `{a,b}`, nested too, to the texts it stands for.
fn expand_braces(text: &str, found: &mut Vec<String>) -> Result<(), String> {
    let Some(open) = text.find('{') else {
        if text.contains('}') {
            return Err("a `}` in a host pattern needs its `{`".to_owned());
        }
        if found.len() >= ALTERNATIVES {
            return Err(format!("this host pattern stands for more than {ALTERNATIVES} hosts; write several rules"));
        }
        found.push(text.to_owned());
        return Ok(());
    };
    let mut depth = 0;
    let mut cuts = vec![open];
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < open) {
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => cuts.push(at),
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            cuts.push(at);
            for pair in cuts.windows(2) {
                expand_braces(&format!("{}{}{}", &text[..open], &text[pair[0] + 1..pair[1]], &text[at + 1..]), found)?;
            }
            return Ok(());
        }
    }
    Err("a `{` in a host pattern needs its `}`".to_owned())
}

/// The likeliest wrong host: one with its port.
fn without_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !host.contains(':');
    number.then(|| format!("a rule's host takes no port; write `port: {port}` beside it"))
}

/// Lower case, and IDNA form label by label, since a glob is no valid name as a whole.
fn idna_glob(text: &str) -> Result<String, String> {
    if text.is_ascii() {
        return Ok(text.to_ascii_lowercase());
    }
    let label = |label: &str| {
        if label.is_ascii() {
            Ok(label.to_ascii_lowercase())
        } else {
            idna::domain_to_ascii(label).map_err(|_| format!("`{label}` is not a valid international label"))
        }
    };
    text.split('.').map(label).collect::<Result<Vec<_>, _>>().map(|labels| labels.join("."))
}

fn glob(text: &str, separator: bool) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(separator).backslash_escape(false).build()
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => host.fmt(f),
            Self::Subdomains(suffix) => write!(f, "*.{suffix}"),
            Self::Glob { text, .. } => f.write_str(text),
        }
    }
}

/// Ports of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ports {
    /// None given: the default port of the scheme.
    Default,
    Any,
    /// Inclusive ranges.
    Ranges(Vec<(u16, u16)>),
}

impl Ports {
    /// `443`, `8000-8999` or `any`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, String> {
        const WRONG: &str = "a port is a number from 1 to 65535, a range as `8000-8999`, or `any`";
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or(WRONG.to_owned());
        if matches!(text.trim(), "any" | "*") {
            return Ok(Self::Any);
        }
        let (low, high) = match text.split_once('-') {
            Some((low, high)) => (number(low)?, number(high)?),
            None => (number(text)?, number(text)?),
        };
        if low > high {
            return Err(format!("the range {low}-{high} is empty"));
        }
        Ok(Self::Ranges(vec![(low, high)]))
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ranges(mut a), Self::Ranges(b)) => {
                a.extend(b);
                Self::Ranges(a)
            }
            (Self::Any, _) | (_, Self::Any) => Self::Any,
            (Self::Default, some) | (some, Self::Default) => some,
        }
    }

    pub fn contains(&self, port: u16, scheme: Scheme) -> bool {
        match self {
            Self::Default => port == scheme.default_port(),
            Self::Any => true,
            Self::Ranges(ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&port)),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
        match self {
            Self::Default => f.write_str("the default port"),
            Self::Any => f.write_str("any"),
            Self::Ranges(ranges) => f.write_str(&ranges.iter().map(range).collect::<Vec<_>>().join(", ")),
        }
    }
}

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

    fn matches(pattern: &str, host: &str) -> bool {
        HostPattern::parse(pattern).unwrap().iter().any(|p| p.matches(&Host::parse(host).unwrap()))
    }

    #[test]
    fn a_star_dot_is_every_subdomain_and_not_the_apex() {
        assert!(matches("*.example.com", "a.example.com"));
        assert!(matches("*.example.com", "a.b.example.com"));
        assert!(matches("*.EXAMPLE.com.", "A.example.COM."));
        for host in ["example.com", "badexample.com", "a.example.com.evil", "127.0.0.1"] {
            assert!(!matches("*.example.com", host), "{host}");
        }
    }

    #[test]
    fn alternatives_addresses_and_globs() {
        assert!(matches("{a,b}.x.example", "b.x.example") && !matches("{a,b}.x.example", "c.x.example"));
        assert!(matches("api-*.example.com", "api-1.example.com") && !matches("api-*.example.com", "www.example.com"));
        assert!(matches("127.0.0.1", "127.0.0.1") && matches("::1", "[::1]") && matches("[::1]", "[::1]"));
        assert!(matches("*", "anything.example") && matches("*", "127.0.0.1"));
        assert!(matches("*.münchen.example", "a.xn--mnchen-3ya.example"));
    }

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
    fn braces_nest_and_are_bounded() {
        assert!(matches("{a,{b,c}}.x.example", "c.x.example") && !matches("{a,{b,c}}.x.example", "d.x.example"));
        assert!(HostPattern::parse(&format!("{}.example", "{a,b}".repeat(20))).unwrap_err().contains("more than 1000"));
    }

    #[test]
    fn a_glob_over_an_address_never_matches_a_name() {
        assert!(matches("10.0.0.*", "10.0.0.7") && !matches("10.0.0.*", "10.0.0.evil.example"));
        assert!(!matches("a*", "10.0.0.7"));
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

    #[test]
    fn what_is_no_host_says_why() {
        for (text, part) in [
            ("https://api.example.com/v1", "not a URL"),
            ("api.example.com:8443", "write `port: 8443`"),
            ("*.example.com:8443", "write `port: 8443`"),
            ("user@host", "`@`"),
            ("a b", "spaces"),
            ("{a,b", "`}`"),
            ("127.1", "four decimal parts"),
        ] {
            let why = HostPattern::parse(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn ports_are_the_schemes_default_unless_said() {
        assert!(Ports::Default.contains(443, Scheme::Https) && !Ports::Default.contains(8443, Scheme::Https));
        assert!(Ports::Default.contains(80, Scheme::Http) && !Ports::Default.contains(443, Scheme::Http));
        let range = Ports::parse("8000-8999").unwrap();
        assert!(
            range.contains(8000, Scheme::Https) && range.contains(8999, Scheme::Https) && !range.contains(9000, Scheme::Https)
        );
        for text in ["0", "65536", "x", "", "9-1", "-1"] {
            assert!(Ports::parse(text).is_err(), "{text}");
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

        #[test]
        fn no_text_makes_a_pattern_panic(text in "\\PC{0,40}") {
            let _ = HostPattern::parse(&text);
            let _ = PathPattern::parse(&text);
            let _ = Ports::parse(&text);
        }
    }
}
