//! Scheme, host and port, strictly parsed (RFC 9110 §4.3.1, RFC 3986 §3.2).
//!
//! The destination of a connection is decided once, by this parser, and everything later (rule,
//! dialling, SNI, certificate check, pool, `Host`) uses that one value. `http::uri::Authority`
//! accepts far more than a host and a port (`[],Z`, `user@host`, `a:+443`), so it is not used.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A host in its one canonical spelling: lower case, IDNA ASCII form, no trailing dot; or an address.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Host {
    Name(Box<str>),
    Ip(IpAddr),
}

impl Host {
    /// A host as it stands on the wire: labels of letters, digits, `-` and `_`; a dotted quad; or
    /// `[IPv6]` without a zone. One trailing dot is dropped. At most 253 bytes.
    ///
    /// # Errors
    /// Anything else, including the spellings that `getaddrinfo` reads as numbers (`127.1`,
    /// `0x7f000001`, `2130706433`).
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(InvalidHost("an IPv6 address stands in [ and ]"))?;
            let ip: Ipv6Addr = inner.parse().map_err(|_| InvalidHost("not an IPv6 address"))?;
            return Ok(Host::Ip(IpAddr::V6(ip)));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Host::Ip(IpAddr::V4(ip)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return Err(InvalidHost("a host name has 1 to 253 characters"));
        }
        let mut last = "";
        for label in name.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(InvalidHost("each label of a host name has 1 to 63 characters"));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(InvalidHost("a host name holds letters, digits, `-`, `_` and dots"));
            }
            last = label;
        }
        // WHATWG URL "ends in a number": getaddrinfo would read such a name as an IPv4 address.
        let number = last.bytes().all(|b| b.is_ascii_digit())
            || (last.len() >= 2 && last[..2].eq_ignore_ascii_case("0x") && last[2..].bytes().all(|b| b.is_ascii_hexdigit()));
        if number {
            return Err(InvalidHost("a host name does not end in a number; write an IPv4 address as four decimal parts"));
        }
        Ok(Host::Name(name.to_ascii_lowercase().into()))
    }

    /// A host as a person writes it: also international names and bare IPv6 addresses.
    ///
    /// # Errors
    /// As [`Host::parse`], after conversion by UTS 46.
    pub fn parse_written(text: &str) -> Result<Self, InvalidHost> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Host::Ip(ip));
        }
        if text.is_ascii() {
            return Self::parse(text);
        }
        let ascii = idna::domain_to_ascii(text).map_err(|_| InvalidHost("not a valid international host name"))?;
        Self::parse(&ascii)
    }

    /// What else reaches the same host, for rules that refuse: an IPv4 address written as an IPv6 one, and back; and
    /// `localhost` (RFC 6761 §6.3) with the addresses of this machine. A name is not looked up.
    pub fn aliases(&self) -> Vec<Host> {
        const V4: Host = Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        const V6: Host = Host::Ip(IpAddr::V6(Ipv6Addr::LOCALHOST));
        let localhost = || Host::Name("localhost".into());
        let mapped = |v4: Ipv4Addr| Host::Ip(IpAddr::V6(v4.to_ipv6_mapped()));
        let ip = match self {
            Host::Name(name) if &**name == "localhost" || name.ends_with(".localhost") => return vec![localhost(), V4, V6],
            Host::Name(_) => return Vec::new(),
            Host::Ip(ip) => *ip,
        };
        let mut all = Vec::new();
        for ip in crate::address::judged(ip) {
            all.push(Host::Ip(ip));
            if let IpAddr::V4(v4) = ip {
                all.push(mapped(v4));
            }
            if ip.is_unspecified() {
                all.extend([V4, V6, localhost()]);
            } else if Host::Ip(ip) == V4 || Host::Ip(ip) == V6 {
                all.push(localhost());
            }
        }
        all
    }

    /// The text used for SNI and name checks; `None` for an address.
    pub fn name(&self) -> Option<&str> {
        match self {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }
}

/// As in a URL: IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// Why a text is not a host; the sentence is for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidHost(pub &'static str);

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
impl std::error::Error for InvalidHost {}

/// `host[:port]` as on the wire: port 1 to 65535 in at most five digits, no user information.
///
/// # Errors
/// Anything else; see [`Host::parse`].
pub fn parse_authority(text: &str) -> Result<(Host, Option<u16>), InvalidHost> {
    let colon = match text.strip_prefix('[') {
        Some(_) => text.find(']').map(|end| end + 1).filter(|at| *at < text.len()),
        None => text.find(':'),
    };
    let Some(at) = colon else { return Ok((Host::parse(text)?, None)) };
    let port = text[at..].strip_prefix(':').ok_or(InvalidHost("after a host comes `:port` or nothing"))?;
    Ok((Host::parse(&text[..at])?, Some(parse_port(port)?)))
}

fn parse_port(text: &str) -> Result<u16, InvalidHost> {
    const WRONG: InvalidHost = InvalidHost("a port is a number from 1 to 65535");
    let add = |port: u32, byte: u8| byte.is_ascii_digit().then(|| port * 10 + u32::from(byte - b'0'));
    let port = if text.len() > 5 { None } else { text.bytes().try_fold(0, add) };
    port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).ok_or(WRONG)
}

/// Where a request goes: scheme, host and port (RFC 9110 §4.3.1).
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Origin {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
}

impl Origin {
    pub fn new(scheme: Scheme, host: Host, port: u16) -> Self {
        Self { scheme, host, port }
    }

    /// As `Host` and `:authority` carry it: without the scheme's default port.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Does `text` (a `Host` field or `:authority`) name this origin, default port folded?
    pub fn is_named_by(&self, text: &str) -> bool {
        // The common case, without parsing the name or allocating: it is the canonical one, so what parses to it is itself.
        if let Host::Name(name) = &self.host
            && let Some(rest) = text.strip_prefix(&**name)
        {
            match rest.strip_prefix(':') {
                Some(port) => return parse_port(port) == Ok(self.port),
                None if rest.is_empty() => return self.port == self.scheme.default_port(),
                None => {}
            }
        }
        match parse_authority(text) {
            Ok((host, port)) => host == self.host && port.unwrap_or(self.scheme.default_port()) == self.port,
            Err(_) => false,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_fold_case_and_one_trailing_dot() {
        for text in ["API.Example.COM", "api.example.com.", "api.example.com"] {
            assert_eq!(Host::parse(text), Ok(Host::Name("api.example.com".into())), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_host_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "a.example..",
            "127.1",
            "0x7f000001",
            "2130706433",
            "017700000001",
            "1.2.3.4.5",
            "a.0x1",
            "user@host",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a%41",
            "a\\b",
            "[",
            "[]",
            "[],Z",
            "[]:=",
            "[::1",
            "[::1]a.gp.test",
            "[fe80::1%25eth0]",
            "[1.2.3.4]",
            "münchen.example",
            "a\tb",
            "a\0",
            "a,b",
            "*",
            "*.example.com",
        ] {
            assert!(Host::parse(text).is_err(), "{text:?} was accepted");
        }
        assert!(Host::parse(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(Host::parse(&["a"; 128].join(".")).is_err());
    }

    #[test]
    fn an_address_goes_by_its_other_spellings_and_localhost_by_its_addresses() {
        let host = |text: &str| Host::parse(text).unwrap();
        for (text, alias) in [
            ("[::ffff:127.0.0.2]", "127.0.0.2"),
            ("127.0.0.2", "[::ffff:127.0.0.2]"),
            ("[64:ff9b::7f00:2]", "127.0.0.2"),
            ("[2002:7f00:2::]", "127.0.0.2"),
            ("127.0.0.1", "localhost"),
            ("[::1]", "localhost"),
            ("[::ffff:127.0.0.1]", "localhost"),
            ("0.0.0.0", "127.0.0.1"),
            ("[::]", "localhost"),
            ("LOCALHOST.", "127.0.0.1"),
            ("x.localhost", "[::1]"),
        ] {
            assert!(host(text).aliases().contains(&host(alias)), "{text}");
        }
        for (text, other) in [("127.0.0.2", "127.0.0.1"), ("127.0.0.2", "localhost"), ("notlocalhost", "127.0.0.1")] {
            assert!(!host(text).aliases().contains(&host(other)), "{text}");
        }
    }

    #[test]
    fn authorities_are_strict_about_ports() {
        assert_eq!(parse_authority("a.example:443").unwrap().1, Some(443));
        assert_eq!(parse_authority("[::1]:8443").unwrap().1, Some(8443));
        assert_eq!(parse_authority("[::1]").unwrap().1, None);
        for text in
            ["a:", "a:0", "a:+443", "a:65536", "a:000443", "a:44 3", "a:443:443", "u:p@a:443", "[::1]443", "[::1]a:443", "a:-1"]
        {
            assert!(parse_authority(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn an_origin_is_named_with_or_without_its_default_port() {
        let origin = Origin::new(Scheme::Https, Host::parse("a.example").unwrap(), 443);
        for text in ["a.example", "A.example", "a.example.", "a.example:443"] {
            assert!(origin.is_named_by(text), "{text}");
        }
        for text in ["b.example", "a.example:444", "a.example:80", "x@a.example", ""] {
            assert!(!origin.is_named_by(text), "{text}");
        }
    }

    #[test]
    fn names_people_write_become_ascii() {
        assert_eq!(Host::parse_written("MÜNCHEN.example").unwrap().to_string(), "xn--mnchen-3ya.example");
        assert_eq!(Host::parse_written("::1").unwrap().to_string(), "[::1]");
    }
}
