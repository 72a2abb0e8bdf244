//! Where a placeholder is looked for besides plain text.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::replace::Replacer;

/// A path or query in which `dummy`, perhaps percent-encoded, is `value`; `None` when it is not there.
pub fn decoded(text: &str, dummy: &str, value: &str) -> Option<String> {
    let bytes = text.as_bytes();
    // Each decoded byte, and where it stands.
    let mut read: Vec<(u8, usize, usize)> = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |n: usize| bytes.get(at + n).and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let (byte, length) = match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => (high << 4 | low, 3),
            (byte, ..) => (byte, 1),
        };
        read.push((byte, at, at + length));
        at += length;
    }
    let mut made = String::new();
    let (mut n, mut done) = (0, 0);
    while n + dummy.len() <= read.len() {
        if read[n..n + dummy.len()].iter().map(|(byte, ..)| *byte).eq(dummy.bytes()) {
            made.push_str(text.get(done..read[n].1)?);
            made.push_str(value);
            n += dummy.len();
            done = read[n - 1].2;
        } else {
            n += 1;
        }
    }
    (done > 0).then(|| made + &text[done..])
}

/// `Basic` credentials with the text in them swapped; `None` when it is none, or nothing in it is swapped.
pub fn basic(field: &[u8], replacer: &mut Replacer) -> Option<Vec<u8>> {
    let scheme = field.get(..6).filter(|scheme| scheme.eq_ignore_ascii_case(b"basic "))?;
    let inside = BASE64_STANDARD.decode(field[6..].trim_ascii()).ok()?;
    let swapped = replacer.all(&inside)?;
    Some([scheme, BASE64_STANDARD.encode(&swapped).as_bytes()].concat())
}
