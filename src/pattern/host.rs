//! Host patterns: exact names, addresses, globs (`*.example.com` is every subdomain at any depth
//! and not the apex; `*` is every host) and `{a,b}` alternatives; compared in lower case, IDNA ASCII
//! form, without the trailing dot. Patterns never reach across a `/`, `:` or `@`, since the host is
//! parsed strictly first.

use std::fmt;

use globset::GlobMatcher;

use super::glob;
use crate::origin::Host;

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

    proptest! {
        #[test]
        fn no_text_makes_a_pattern_panic(text in "\\PC{0,40}") {
            let _ = HostPattern::parse(&text);
            let _ = super::super::PathPattern::parse(&text);
            let _ = super::super::Ports::parse(&text);
        }
    }
}
