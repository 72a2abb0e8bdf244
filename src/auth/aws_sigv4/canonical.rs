//! The canonical request and the string to sign (AWS "Create a signed AWS API request"). What is signed is how the
//! server reads the bytes on the wire, so these functions start from those.

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderMap;
use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};

use crate::draft::{Draft, UNRESERVED};

/// SHA-256 of nothing.
pub const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// How a service reads the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathStyle {
    /// As it was sent: S3, where every path is a key.
    AsIs,
    /// Dot segments and double slashes resolved, then what was sent encoded once more: everybody else.
    Normalized,
}

pub fn request(draft: &Draft, signed: &[String], payload: &str, style: PathStyle) -> String {
    let fields: String = signed.iter().map(|name| format!("{name}:{}\n", field(&draft.headers, name))).collect();
    format!(
        "{}\n{}\n{}\n{fields}\n{}\n{payload}",
        draft.method,
        path(draft.path(), style),
        query(draft.query().unwrap_or("")),
        signed.join(";")
    )
}

pub fn string_to_sign(algorithm: &str, time: &str, scope: &str, request: &str) -> String {
    format!("{algorithm}\n{time}\n{scope}\n{}", sha256(&[request.as_bytes()]))
}

pub fn sha256(parts: &[&[u8]]) -> String {
    let mut hash = Context::new(&SHA256);
    parts.iter().for_each(|part| hash.update(part));
    hex(hash.finish().as_ref())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path(sent: &str, style: PathStyle) -> String {
    match style {
        PathStyle::AsIs => as_is(sent),
        PathStyle::Normalized => percent_encode(resolved(sent).as_bytes(), PATH).to_string(),
    }
}

/// Octets that were sent encoded stay so (`%2F` is not `/`), in the one spelling that there is for each.
fn as_is(sent: &str) -> String {
    let mut done = String::with_capacity(sent.len());
    let mut rest = sent;
    while let Some(first) = rest.bytes().next() {
        let octet = (first == b'%').then(|| rest.get(1..3).and_then(|pair| u8::from_str_radix(pair, 16).ok())).flatten();
        let (text, used) = match octet {
            Some(octet) => (percent_encode(&[octet], UNRESERVED).to_string(), 3),
            None => {
                let used = rest.chars().next().map_or(1, char::len_utf8);
                (percent_encode(&rest.as_bytes()[..used], PATH).to_string(), used)
            }
        };
        done.push_str(&text);
        rest = &rest[used..];
    }
    done
}

/// RFC 3986 §5.2.4, and no empty segments.
fn resolved(sent: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in sent.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let end = if sent.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// Names and values in their one spelling, sorted by both. A `+` is left alone here: servers disagree on it.
fn query(sent: &str) -> String {
    let spell = |text: &str| {
        let parts = text.split('+').map(|part| percent_encode(&Vec::from_iter(percent_decode_str(part)), UNRESERVED).to_string());
        parts.collect::<Vec<_>>().join("+")
    };
    let mut pairs: Vec<(String, String)> = sent
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| (spell(name), spell(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The values of a field, each trimmed and with single spaces.
fn field(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter().map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    });
    values.collect::<Vec<_>>().join(",")
}
