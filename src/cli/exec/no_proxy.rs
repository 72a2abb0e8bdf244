//! Hosts that rules name must come here: exceptions from the proxy that cover one of them are taken away. gatepass
//! itself still heeds the whole list on its own way out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::address::Cidr;
use crate::gate::Gate;
use crate::origin::Host;
use crate::pattern::HostPattern;

/// Takes what covers a ruled host out of the inherited exceptions, and says so once, since somebody put it there.
/// Afterwards `no_proxy` is the list that the command gets.
pub fn keep_ruled_hosts(gate: &Gate, env: &mut BTreeMap<String, String>) {
    let ruled: Vec<&HostPattern> = gate.rules().iter().flat_map(|live| &live.rule.hosts).collect();
    let dropped = edit(&ruled, env);
    if !dropped.is_empty() {
        eprintln!("gatepass: rules name hosts of {}, so the command gets its list of exceptions without", dropped.join(", "));
    }
}

/// Does the variable hold such a list? `no_proxy` in any case (Python), and some clients have one of their own that goes
/// before it: `npm_config_noproxy`, `no_grpc_proxy`, `GLOBAL_AGENT_NO_PROXY`.
pub fn is_list(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.ends_with("no_proxy") || lower.ends_with("noproxy") || lower == "no_grpc_proxy"
}

fn edit(ruled: &[&HostPattern], env: &mut BTreeMap<String, String>) -> Vec<String> {
    let mut dropped: Vec<String> = Vec::new();
    for (_, list) in env.iter_mut().filter(|(name, _)| is_list(name)) {
        let entries = list.split([',', ' ', '\t', ';']).map(str::trim).filter(|entry| !entry.is_empty());
        let (gone, kept): (Vec<&str>, Vec<&str>) = entries.partition(|entry| covers_any(entry, ruled));
        for entry in gone {
            if !dropped.iter().any(|known| known == entry) {
                dropped.push(entry.to_owned());
            }
        }
        *list = kept.join(",");
    }
    let counts = env.get("no_proxy").or_else(|| env.get("NO_PROXY")).cloned().unwrap_or_default();
    let mut entries: Vec<&str> = counts.split(',').filter(|entry| !entry.is_empty()).collect();
    // Loopback is kept from proxies by default, unless a rule asks for it.
    for local in ["localhost", "127.0.0.1", "::1"] {
        if !entries.contains(&local) && !covers_any(local, ruled) {
            entries.push(local);
        }
    }
    let list = entries.join(",");
    env.insert("no_proxy".to_owned(), list);
    dropped
}

fn covers_any(entry: &str, ruled: &[&HostPattern]) -> bool {
    let entry = Entry::parse(entry);
    ruled.iter().any(|pattern| entry.covers(pattern))
}

/// What one entry keeps from the proxy. Clients differ (whether `example.com` covers its subdomains, `.example.com`
/// the apex, what a port means); an entry stands for the most that any of them makes of it.
enum Entry {
    All,
    Range(Cidr),
    /// The name and everything below it.
    Name(String),
    /// Nothing that a client understands.
    Nothing,
}

impl Entry {
    fn parse(text: &str) -> Self {
        let text = text.trim().to_ascii_lowercase();
        if let Some((address, prefix)) = text.split_once('/') {
            let range = address.trim_matches(['[', ']']).parse::<IpAddr>().ok().zip(prefix.parse().ok());
            return range.map_or(Self::Nothing, |(address, prefix)| Self::Range(Cidr { address, prefix }));
        }
        let bare = without_port(&text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Self::Range(Cidr { address, prefix: if address.is_ipv4() { 32 } else { 128 } });
        }
        if matches!(bare, "*" | "*." | "." | "*.*") {
            return Self::All;
        }
        let name = bare.trim_start_matches(['*', '.']).trim_end_matches('.');
        match Host::parse_written(name) {
            Ok(Host::Name(name)) => Self::Name(name.into_string()),
            // With a wildcard inside: what stands behind it.
            _ => match name.rsplit_once('*') {
                Some((_, rest)) => Self::Name(rest.trim_start_matches('.').to_owned()),
                None => Self::Nothing,
            },
        }
    }

    fn covers(&self, pattern: &HostPattern) -> bool {
        match (self, pattern) {
            (Self::Nothing, _) => false,
            (Self::All, _) | (_, HostPattern::Any) => true,
            (Self::Range(range), HostPattern::Exact(Host::Ip(ip))) => range.contains(*ip),
            (Self::Range(range), HostPattern::Glob { text, addresses: true, .. }) => overlap(range, &fixed_octets(text)),
            (Self::Range(_), _) => false,
            (Self::Name(name), HostPattern::Exact(Host::Name(host))) => within(host, name),
            // One of the two lies within the other.
            (Self::Name(name), HostPattern::Subdomains(suffix)) => within(suffix, name) || within(name, suffix),
            (Self::Name(name), HostPattern::Glob { text, addresses: false, .. }) => {
                let tail = text.rsplit(['*', '?', ']', '}']).next().unwrap_or_default();
                let dotted = format!(".{name}");
                name.ends_with(tail) || dotted.ends_with(tail) || tail.ends_with(&dotted) || tail == name.as_str()
            }
            (Self::Name(_), _) => false,
        }
    }
}

/// `[::1]:443`, `host:443`, `192.0.2.1:443`.
fn without_port(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match text.split_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => text,
    }
}

/// The name itself or something below it.
fn within(host: &str, name: &str) -> bool {
    name.is_empty() || host.strip_suffix(name).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// `10.1.*` to 10.1.0.0/16.
fn fixed_octets(glob: &str) -> Cidr {
    let fixed: Vec<u8> = glob.split('.').map_while(|part| part.parse().ok()).take(4).collect();
    let mut octets = [0; 4];
    octets[..fixed.len()].copy_from_slice(&fixed);
    Cidr { address: octets.into(), prefix: u8::try_from(fixed.len() * 8).unwrap_or(32) }
}

fn overlap(a: &Cidr, b: &Cidr) -> bool {
    a.contains(b.address) || b.contains(a.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(entry: &str, host: &str) -> bool {
        let patterns = HostPattern::parse(host).unwrap();
        covers_any(entry, &patterns.iter().collect::<Vec<_>>())
    }

    #[test]
    fn an_entry_is_taken_away_exactly_where_it_covers_a_ruled_host() {
        let covering = [
            ("*", "a.test"),
            ("corp.example.com", "*.corp.example.com"),
            (".corp.example.com", "*.corp.example.com"),
            ("*.corp.example.com", "*.corp.example.com"),
            ("corp.example.com.", "*.corp.example.com"),
            ("example.com", "*.corp.example.com"),
            (".com", "*.corp.example.com"),
            ("a.corp.example.com", "*.corp.example.com"),
            ("CORP.example.com:443", "*.corp.example.com"),
            (".corp.example.com", "api.corp.example.com"),
            (".api.corp.example.com", "api.corp.example.com"),
            ("*corp.example.com", "api.corp.example.com"),
            ("*.corp.*", "api.corp.example.com"),
            ("api.test", "{api,www}.test"),
            ("b.test", "api-*.b.test"),
            ("api-1.b.test", "api-*.b.test"),
            ("anything.test", "api.*"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3:8443", "10.1.2.3"),
            ("10.1.0.0/16", "10.1.2.*"),
            ("10.1.2.3", "10.*"),
            ("fd00::/8", "fd00::1"),
            ("[fd00::1]:443", "fd00::1"),
            ("fd00::1", "[fd00::1]"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("localhost", "*"),
            ("192.0.2.0/24", "*"),
        ];
        for (entry, host) in covering {
            assert!(covered(entry, host), "{entry} covers {host}");
        }
        let apart = [
            ("example.org", "*.example.com"),
            ("ample.com", "*.example.com"),
            ("corp.example.com", "www.example.com"),
            ("xcorp.example.com", "api-*.corp.example.com"),
            ("10.0.0.0/8", "192.168.1.1"),
            ("10.1.0.0/16", "10.2.*"),
            ("10.0.0.0/8", "ten.example"),
            ("fd00::/8", "10.1.2.3"),
            ("not/a/range", "a.test"),
        ];
        for (entry, host) in apart {
            assert!(!covered(entry, host), "{entry} does not cover {host}");
        }
    }

    #[test]
    fn every_list_is_edited_and_loopback_added_unless_ruled() {
        let edited = |lists: &[(&str, &str)], host: &str| {
            let mut env: BTreeMap<String, String> =
                lists.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let patterns = HostPattern::parse(host).unwrap();
            let dropped = edit(&patterns.iter().collect::<Vec<_>>(), &mut env);
            (env, dropped)
        };
        let lists = [
            ("NO_PROXY", "other.test, .corp.test;10.0.0.0/8"),
            ("npm_config_noproxy", "corp.test"),
            ("no_grpc_proxy", "a.test,*.corp.test"),
            ("GLOBAL_AGENT_NO_PROXY", ".corp.test"),
            ("No_Proxy", "corp.test,b.test"),
            ("NOTE", "corp.test"),
        ];
        let (env, dropped) = edited(&lists, "*.corp.test");
        assert_eq!(env["no_proxy"], "other.test,10.0.0.0/8,localhost,127.0.0.1,::1");
        assert_eq!(env["npm_config_noproxy"], "");
        assert_eq!((env["no_grpc_proxy"].as_str(), env["GLOBAL_AGENT_NO_PROXY"].as_str()), ("a.test", ""));
        assert_eq!((env["No_Proxy"].as_str(), env["NOTE"].as_str()), ("b.test", "corp.test"));
        assert_eq!(dropped, [".corp.test", "corp.test", "*.corp.test"]);
        let (env, dropped) = edited(&[("no_proxy", "other.test")], "localhost");
        assert_eq!((env["no_proxy"].as_str(), dropped.len()), ("other.test,127.0.0.1,::1", 0));
        let (env, _) = edited(&[("no_proxy", "localhost,a.test")], "*");
        assert_eq!(env["no_proxy"], "");
    }
}
