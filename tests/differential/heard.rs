//! What one side heard of the other.

use super::hpack::Fields;

/// How a message ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum End {
    /// Nothing of it came.
    #[default]
    Nothing,
    Whole,
    /// The stream or connection ended in the middle of it.
    Broken,
    /// It cannot be read: why.
    Malformed(&'static str),
    /// It does not end.
    Hang,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    pub interim: Vec<(u16, Fields)>,
    /// Method and target, or status and reason.
    pub start: [Vec<u8>; 2],
    pub old: bool,
    /// Names as they were written. Without pseudo-fields.
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub end: End,
    /// The code of RST_STREAM, if that was the end.
    pub reset: Option<u32>,
    /// The length of the body is what its framing said.
    pub delimited: bool,
}

impl Heard {
    pub fn status(&self) -> u16 {
        String::from_utf8_lossy(&self.start[0]).parse().unwrap_or(0)
    }

    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        values(&self.fields, name)
    }
}

pub fn values<'f>(fields: &'f Fields, name: &str) -> Vec<&'f [u8]> {
    fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| &value[..]).collect()
}

/// The one length that all `Content-Length` values say (RFC 9110 §8.6).
pub fn said_length(fields: &Fields) -> Result<Option<usize>, &'static str> {
    let mut said = None;
    for value in values(fields, "content-length").iter().flat_map(|value| value.split(|b| *b == b',')) {
        let text = value.trim_ascii();
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return Err("a Content-Length that is no number");
        }
        let length: usize = String::from_utf8_lossy(text).parse().map_err(|_| "a Content-Length that is too large")?;
        if said.is_some_and(|said| said != length) {
            return Err("two lengths");
        }
        said = Some(length);
    }
    Ok(said)
}
