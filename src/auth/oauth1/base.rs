//! The signature base string (RFC 5849 §3.4.1).

use percent_encoding::{percent_decode, percent_encode, utf8_percent_encode};

use crate::draft::{Draft, UNRESERVED};

/// A parameter, name and value percent-encoded as RFC 5849 §3.6 has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    name: String,
    value: String,
}

impl Pair {
    pub fn new(name: &str, value: &str) -> Self {
        Self { name: encoded(name), value: encoded(value) }
    }

    /// Of parts that are encoded as RFC 5849 §3.6 has it.
    pub fn encoded(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), value: value.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it stands in a query or form.
    pub fn joined(&self) -> String {
        format!("{}={}", self.name, self.value)
    }

    /// As it stands in a header (RFC 5849 §3.5.1).
    pub fn quoted(&self) -> String {
        format!("{}=\"{}\"", self.name, self.value)
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// The pairs of a query or a form body, decoded and encoded again; bytes that are not UTF-8 stay what they are.
pub fn pairs(text: &[u8]) -> Vec<Pair> {
    let part = |text: &[u8]| {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        let bytes: Vec<u8> = percent_decode(&spaced).collect();
        percent_encode(&bytes, UNRESERVED).to_string()
    };
    let pieces = text.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| match piece.iter().position(|byte| *byte == b'=') {
            Some(at) => Pair { name: part(&piece[..at]), value: part(&piece[at + 1..]) },
            None => Pair { name: part(piece), value: String::new() },
        })
        .collect()
}

/// RFC 5849 §3.4.1.3.2.
pub fn normalized(mut pairs: Vec<Pair>) -> String {
    pairs.sort();
    pairs.iter().map(Pair::joined).collect::<Vec<_>>().join("&")
}

/// RFC 5849 §3.4.1.1: method, base URI without a default port, parameters.
pub fn string(draft: &Draft, pairs: Vec<Pair>) -> String {
    let uri = format!("{}://{}{}", draft.origin.scheme, draft.origin.authority(), draft.path());
    let method = draft.method.as_str().to_ascii_uppercase();
    format!("{}&{}&{}", encoded(&method), encoded(&uri), encoded(&normalized(pairs)))
}
