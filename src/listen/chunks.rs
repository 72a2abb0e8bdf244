//! Where a chunked body ends (RFC 9112 §7.1).

/// How far a chunked body has come.
#[derive(Default)]
pub struct Chunks(Place);

#[derive(Default)]
enum Place {
    #[default]
    First,
    Size(u64),
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    DataNewline,
    TrailerStart,
    Trailer,
    LastNewline,
}

impl Chunks {
    /// Goes through bytes up to the body's end: how many are its own, and whether it ended there. `None`: it is malformed.
    pub fn walk(&mut self, bytes: &[u8]) -> Option<(usize, bool)> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let (place, n) = match (&self.0, byte) {
                (Place::Data(left), _) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    let left = left - n as u64;
                    (if left == 0 { Place::DataEnd } else { Place::Data(left) }, n)
                }
                (Place::First, digit) => (Place::Size(u64::from(hex(*digit)?)), 1),
                (Place::Size(size) | Place::Extension(size), b'\r') => (Place::SizeEnd(*size), 1),
                (Place::Size(size), b';' | b' ' | b'\t') => (Place::Extension(*size), 1),
                (Place::Size(size), digit) => (Place::Size(size.checked_mul(16)?.checked_add(u64::from(hex(*digit)?))?), 1),
                (Place::Extension(_), b'\n') => return None,
                (Place::Extension(size), _) => (Place::Extension(*size), 1),
                (Place::SizeEnd(0), b'\n') => (Place::TrailerStart, 1),
                (Place::SizeEnd(size), b'\n') => (Place::Data(*size), 1),
                (Place::DataEnd, b'\r') => (Place::DataNewline, 1),
                (Place::DataNewline, b'\n') => (Place::First, 1),
                (Place::TrailerStart, b'\r') => (Place::LastNewline, 1),
                (Place::Trailer, b'\n') => (Place::TrailerStart, 1),
                (Place::TrailerStart, b'\n') => return None,
                (Place::TrailerStart | Place::Trailer, _) => (Place::Trailer, 1),
                (Place::LastNewline, b'\n') => {
                    self.0 = Place::First;
                    return Some((at + 1, true));
                }
                _ => return None,
            };
            self.0 = place;
            at += n;
        }
        Some((at, false))
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end, found however the bytes come in.
    fn end(body: &str) -> Option<Option<usize>> {
        let whole = Chunks::default().walk(body.as_bytes()).map(|(n, ended)| ended.then_some(n));
        let mut chunks = Chunks::default();
        let mut found = Some(None);
        for (at, byte) in body.bytes().enumerate() {
            match chunks.walk(&[byte]) {
                None => found = None,
                Some((_, true)) => found = Some(Some(at + 1)),
                Some((_, false)) => continue,
            }
            break;
        }
        assert_eq!(whole, found, "{body:?}");
        found
    }

    #[test]
    fn the_end_of_a_body_is_found_and_what_follows_is_not_of_it() {
        for body in
            ["0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "1;a=b\r\nx\r\n0 \r\n\r\n", "A\r\n0123456789\r\n000\r\nX: 1\r\nY: 2\r\n\r\n"]
        {
            assert_eq!(end(body), Some(Some(body.len())), "{body:?}");
            assert_eq!(end(&format!("{body}GET / HTTP/1.1\r\n\r\n")), Some(Some(body.len())), "{body:?}");
            assert_eq!(end(&body[..body.len() - 1]), Some(None));
        }
        for body in ["zz\r\n", "5\nhello", "5\r\nhello0\r\n", "\r\n", "-1\r\n", "11111111111111111\r\n", "1;a\n\r\n"] {
            assert_eq!(end(body), None, "{body:?}");
        }
    }
}
