//! What `FindProxyForURL` answers: `PROXY a:8080; SOCKS5 b; DIRECT`.

use crate::origin::{Host, parse_authority};
use crate::upstream::settings::ViaScheme;

/// One way of several; `None`: straight.
pub type Hop = Option<(ViaScheme, Host, u16)>;

/// Ways that are tried for one request; what stands behind them is not.
const WAYS: usize = 8;

/// Reads an answer; nothing at all means straight. Ways of a kind that is not spoken here are passed over.
///
/// # Errors
/// No way is left; in words, with what was named.
pub fn read(said: Option<&str>) -> Result<Vec<Hop>, String> {
    let said = said.unwrap_or_default();
    let entries: Vec<&str> = said.split(';').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    if entries.is_empty() {
        return Ok(vec![None]);
    }
    let hops: Vec<Hop> = entries.iter().filter_map(|entry| hop(entry)).take(WAYS).collect();
    if hops.is_empty() {
        let shown: String = said.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(format!("its answer `{shown}` names no proxy: PROXY, HTTPS, SOCKS5 HOST:PORT or DIRECT is wanted"));
    }
    Ok(hops)
}

fn hop(entry: &str) -> Option<Hop> {
    let mut words = entry.split_ascii_whitespace();
    let (kind, place) = (words.next()?.to_ascii_uppercase(), words.next());
    let (scheme, port) = match (kind.as_str(), place) {
        ("DIRECT", None) => return Some(None),
        ("PROXY" | "HTTP", _) => (ViaScheme::Http, 80),
        ("HTTPS", _) => (ViaScheme::Https, 443),
        ("SOCKS" | "SOCKS5", _) => (ViaScheme::Socks5, 1080),
        _ => return None,
    };
    let (host, said) = parse_authority(place?).ok()?;
    words.next().is_none().then_some(Some((scheme, host, said.unwrap_or(port))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_their_order_and_what_is_not_spoken_is_passed_over() {
        let words = |said| {
            let hops = read(said).unwrap_or_else(|why| panic!("{why}"));
            let word =
                |hop: &Hop| hop.as_ref().map_or("-".to_owned(), |(scheme, host, port)| format!("{scheme:?} {host}:{port}"));
            hops.iter().map(word).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            words(Some("PROXY a.test:8080; HTTPS b; SOCKS [::1]:1; DIRECT")),
            "Http a.test:8080, Https b:443, Socks5 [::1]:1, -"
        );
        assert_eq!(words(Some("proxy A.test;; SOCKS4 b:1;SOCKS5 10.0.0.1;QUIC q:1 ;")), "Http a.test:80, Socks5 10.0.0.1:1080");
        for nothing in [None, Some(""), Some(" ; "), Some("DIRECT")] {
            assert_eq!(words(nothing), "-", "{nothing:?}");
        }
        assert_eq!(read(Some(&"PROXY a:1;".repeat(99))).map(|hops| hops.len()), Ok(WAYS));
        for wrong in ["SOCKS4 a:1", "PROXY", "PROXY a b", "PROXY a:x", "DIRECT a", "http://proxy:1", "PROXY u:p@a:1"] {
            assert!(read(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
