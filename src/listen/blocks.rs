//! Header blocks of HTTP/2 that hyper refuses inside itself, with a 431, a reset of the stream or the end of the
//! connection, and tells nobody of. They are known by the rules it goes by (RFC 9113 §8.2, §8.3), so that each leaves a
//! record.

use http::Method;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::heads::{Teller, shown, too_large, unknown_method};
use super::hpack::Field;
use crate::exchange::interim::STREAM;
use crate::failure::{Cause, Failure};
use crate::limits::Limits;

/// What a field counts beside its texts (RFC 9113 §6.5.2).
const FIELD: usize = 32;
/// Of hyper's, in digits.
const LONGEST_NUMBER: usize = 19;

/// Judges the header blocks of one connection, and tells of those that are refused.
pub struct BlockJudge {
    most_bytes: usize,
    teller: Teller,
}

impl BlockJudge {
    pub fn new(limits: &Limits, teller: Teller) -> Self {
        Self { most_bytes: limits.header_bytes, teller }
    }

    /// Tells of a block that opens `stream`, if hyper will refuse it. `ends`: nothing comes after it.
    pub fn judge(&self, fields: &[Field], stream: u32, ends: bool) {
        // hyper also gets the number of the stream.
        let number = STREAM.len() + stream.checked_ilog10().map_or(1, |log| log as usize + 1) + FIELD;
        let size = fields.iter().map(|(name, value)| name.len() + value.len() + FIELD).sum::<usize>() + number;
        let failure = match request(fields, ends) {
            Err(why) => malformed(why),
            Ok(()) if size >= self.most_bytes => too_large(self.most_bytes),
            Ok(()) => return,
        };
        let find = |pseudo: &[u8]| fields.iter().find(|(name, _)| name.as_ref() == pseudo).map(|(_, value)| value.as_ref());
        let method = find(b":method").and_then(|method| Method::from_bytes(method).ok());
        self.tell(method, find(b":path").unwrap_or_default(), &failure);
    }

    /// Tells of one that cannot be read.
    pub fn unreadable(&self) {
        self.tell(None, b"", &malformed("it cannot be read"));
    }

    fn tell(&self, method: Option<Method>, path: &[u8], failure: &Failure) {
        // hyper answers.
        let _ = (self.teller)(method.unwrap_or_else(unknown_method), &shown(path), failure);
    }
}

fn malformed(why: &str) -> Failure {
    Failure::new(Cause::BadRequest, format!("the header block of the request is malformed: {why}"))
}

#[derive(Default)]
struct Pseudo<'f> {
    method: Option<&'f Field>,
    scheme: Option<&'f Field>,
    authority: Option<&'f Field>,
    path: Option<&'f Field>,
    protocol: Option<&'f Field>,
}

/// Is it the block of a request? Why not, if it is none.
fn request(fields: &[Field], ends: bool) -> Result<(), &'static str> {
    let mut pseudo = Pseudo::default();
    let (mut regular, mut length) = (false, None);
    for field in fields {
        let (name, value) = field;
        if name.first() == Some(&b':') {
            let slot = match name.as_ref() {
                b":method" => &mut pseudo.method,
                b":scheme" => &mut pseudo.scheme,
                b":authority" => &mut pseudo.authority,
                b":path" => &mut pseudo.path,
                b":protocol" => &mut pseudo.protocol,
                _ => return Err("it has a pseudo-header field that requests do not have"),
            };
            if regular {
                return Err("a pseudo-header field comes after other fields");
            }
            if slot.replace(field).is_some() {
                return Err("a pseudo-header field is there twice");
            }
            continue;
        }
        regular = true;
        ordinary(name, value)?;
        if name.as_ref() == b"content-length" {
            let fits = value.len() <= LONGEST_NUMBER && value.iter().all(u8::is_ascii_digit);
            let number = value.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')));
            if !fits || length.is_some_and(|length| length != number) {
                return Err("its Content-Length is no number, or another one each time");
            }
            length = Some(number);
        }
    }
    let has_length = length.is_some_and(|length| length > 0);
    if ends && has_length {
        return Err("it ends the request, and its Content-Length says otherwise");
    }
    target(&pseudo, has_length)
}

/// RFC 9113 §8.2.1 and §8.2.2.
fn ordinary(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    // hyper takes `"` too, which is no character of names (RFC 9110 §5.6.2); only what it refuses is told here.
    let is_token = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~\"".contains(b);
    if name.is_empty() || !name.iter().all(is_token) {
        return Err("a field's name is empty, has a capital or another character that names do not have");
    }
    if value.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
        return Err("a field's value has a control character");
    }
    match name {
        b"connection" | b"transfer-encoding" | b"upgrade" | b"keep-alive" | b"proxy-connection" => {
            Err("it has a field that speaks of the connection, as HTTP/1.1 does")
        }
        b"te" if value != b"trailers" => Err("its TE says something else than trailers"),
        _ => Ok(()),
    }
}

/// RFC 9113 §8.3.1 and §8.5, RFC 8441 §4.
fn target(pseudo: &Pseudo<'_>, has_length: bool) -> Result<(), &'static str> {
    let Some((_, method)) = pseudo.method else { return Err("it has no :method") };
    let Ok(method) = Method::from_bytes(method) else { return Err("its :method is none") };
    let extended = pseudo.protocol.is_some();
    let plain_connect = method == Method::CONNECT && !extended;
    if extended && method != Method::CONNECT {
        return Err("it has a :protocol and is no CONNECT");
    }
    if method == Method::CONNECT && has_length {
        return Err("it is a CONNECT with a body");
    }
    if plain_connect && (pseudo.scheme.is_some() || pseudo.path.is_some()) {
        return Err("it is a CONNECT with a :scheme or a :path");
    }
    if !plain_connect && pseudo.scheme.is_none() {
        return Err("it has no :scheme");
    }
    if pseudo.path.is_none() && (extended || pseudo.scheme.is_some() && pseudo.authority.is_some()) {
        return Err("it has no :path");
    }
    if pseudo.authority.is_some_and(|(_, authority)| Authority::from_maybe_shared(authority.clone()).is_err()) {
        return Err("its :authority is none");
    }
    if pseudo.scheme.is_some_and(|(_, scheme)| Scheme::try_from(scheme.as_ref()).is_err()) {
        return Err("its :scheme is none");
    }
    if pseudo.path.is_some_and(|(_, path)| path.is_empty() || PathAndQuery::from_maybe_shared(path.clone()).is_err()) {
        return Err("its :path is none");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn fields(text: &str) -> Vec<Field> {
        let field = |line: &str| {
            let (name, value) = line.split_once('=').unwrap();
            (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
        };
        text.split(' ').map(field).collect()
    }

    #[test]
    fn what_is_a_request_is_told_from_what_is_none() {
        let get = ":method=GET :scheme=https :authority=a :path=/";
        let connect = ":method=CONNECT :authority=a:1";
        for (block, good) in [
            (get.to_owned(), true),
            (format!("{get} te=trailers content-length=5 content-length=05"), true),
            (connect.to_owned(), true),
            (format!("{connect} :protocol=websocket :scheme=https :path=/"), true),
            (format!("{get} connection=close"), false),
            (format!("{get} te=gzip"), false),
            (format!("{get} Upper=1"), false),
            (format!("{get} x=a\u{1}"), false),
            (format!("{get} :path=/"), false),
            (format!("x=1 {get}"), false),
            (format!("{get} :status=200"), false),
            (format!("{get} :protocol=websocket"), false),
            (format!("{get} content-length=5 content-length=6"), false),
            (format!("{get} content-length=5x"), false),
            (format!("{connect} :path=/"), false),
            (format!("{connect} content-length=1"), false),
            (":scheme=https :authority=a :path=/".to_owned(), false),
            (":method=GET :authority=a :path=/".to_owned(), false),
            (":method=GET :scheme=https :authority=a".to_owned(), false),
            (":method=GET :scheme=https :authority=a :path=".to_owned(), false),
            (":method=GET :scheme=https :authority=a@b@ :path=/".to_owned(), false),
        ] {
            assert_eq!(request(&fields(&block), false).is_ok(), good, "{block}");
        }
        let sized = fields(&format!("{get} content-length=5"));
        assert!(request(&sized, false).is_ok() && request(&sized, true).is_err());
    }

    #[test]
    fn the_characters_of_names_and_values_are_those_that_hyper_takes() {
        for byte in 0..=u8::MAX {
            let text = [b'x', byte];
            let taken = (HeaderName::from_lowercase(&text).is_ok(), HeaderValue::from_bytes(&text).is_ok());
            assert_eq!((ordinary(&text, b"").is_ok(), ordinary(b"x", &text).is_ok()), taken, "{byte:#x}");
        }
    }
}
