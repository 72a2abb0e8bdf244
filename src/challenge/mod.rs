//! Answers to challenges, pure: how challenges are read, what Digest computes, the messages of NTLM, what binds
//! them to a TLS connection. `auth` proves the user to origins with them, `upstream` to proxies.
//!
//! Here: `WWW-Authenticate` (RFC 9110 §11.6.1), read as servers write it: several challenges in one field, schemes and
//! parameter names in any case, values quoted or not, stray commas. Hostile input is bounded.

pub mod binding;
pub mod digest;
#[cfg_attr(not(feature = "negotiate"), path = "gss_absent.rs")]
pub mod gss;
pub mod ntlm;

use http::HeaderMap;
use http::header::HeaderName;

/// One challenge of a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenge {
    /// Lower case.
    pub scheme: String,
    /// Names in lower case, values without their quotes.
    pub params: Vec<(String, String)>,
    /// What stands there instead of parameters (`NTLM TlRMTVNTUAAC…`).
    pub token68: Option<String>,
}

impl Challenge {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// More of either is nobody's honest challenge.
const CHALLENGES: usize = 32;
const PARAMS: usize = 64;

/// All challenges of all fields of this name, in order.
pub fn read(headers: &HeaderMap, name: &HeaderName) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in headers.get_all(name) {
        found.extend(parse(&String::from_utf8_lossy(value.as_bytes())));
        found.truncate(CHALLENGES);
    }
    found
}

/// The schemes that are offered, for messages; `None`: there are none.
pub fn offered(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for Challenge { scheme, .. } in read(headers, name) {
        let name = match scheme.as_str() {
            "ntlm" => "NTLM".to_owned(),
            // A name of any length may stand there.
            other => other.chars().enumerate().take(32).map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c }).collect(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// The challenges of one field value.
pub fn parse(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            // Not even a token: nothing behind it can be trusted to be one.
            return found;
        }
        let value = after.trim_start_matches([' ', '\t']);
        match (value.strip_prefix('='), found.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = param_value(value.trim_start_matches([' ', '\t']));
                if challenge.params.len() < PARAMS {
                    challenge.params.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            (Some(_), None) => return found,
            (None, _) => {
                if found.len() >= CHALLENGES {
                    return found;
                }
                let (token68, after) = token68(value);
                found.push(Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new(), token68 });
                rest = after;
            }
        }
    }
}

/// The parameters of `Authentication-Info` (RFC 9110 §11.6.3): a challenge without its scheme.
pub fn info(text: &str) -> Challenge {
    parse(&format!("info {text}")).into_iter().next().unwrap_or(Challenge {
        scheme: "info".to_owned(),
        params: Vec::new(),
        token68: None,
    })
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn token(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A token68 fills its place up to a comma or the end; anything else there is a parameter.
fn token68(text: &str) -> (Option<String>, &str) {
    let body = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-._~+/".contains(c))).unwrap_or(text.len());
    let end = body + text[body..].find(|c| c != '=').unwrap_or(text.len() - body);
    let after = text[end..].trim_start_matches([' ', '\t']);
    if body > 0 && (after.is_empty() || after.starts_with(',')) { (Some(text[..end].to_owned()), after) } else { (None, text) }
}

fn param_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn several_schemes_in_one_field_and_token68_are_told_apart() {
        let found =
            parse("NTLM TlRMTVNTUAAC==, Negotiate, Basic realm=\"a, b\", Digest realm=r, nonce=\"n\\\"x\" , qop=\"auth\" ,");
        let schemes: Vec<&str> = found.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["ntlm", "negotiate", "basic", "digest"]);
        assert_eq!(found[0].token68.as_deref(), Some("TlRMTVNTUAAC=="));
        assert_eq!(found[2].get("realm"), Some("a, b"));
        assert_eq!((found[3].get("realm"), found[3].get("nonce"), found[3].get("qop")), (Some("r"), Some("n\"x"), Some("auth")));
    }

    proptest! {
        #[test]
        fn no_field_makes_it_panic_or_grow(text in "\\PC{0,300}") {
            let found = parse(&text);
            prop_assert!(found.len() <= CHALLENGES);
        }
    }
}
