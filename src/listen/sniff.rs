//! The first bytes of a connection tell what is spoken there.

use std::io;
use std::time::Duration;

use tokio::io::AsyncRead;

use super::stream::Prefixed;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoken {
    /// A TLS handshake record (RFC 8446 §5.1).
    Tls,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.4).
    H2,
    Http1,
    /// RFC 1928 §3.
    Socks5,
    Other,
    /// Too few bytes to tell.
    More,
}

/// Judges the first bytes of a connection.
pub fn sniff(bytes: &[u8]) -> Spoken {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    match bytes {
        [] => Spoken::More,
        [0x16, ..] => Spoken::Tls,
        [0x05, ..] => Spoken::Socks5,
        _ if bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes) => Spoken::More,
        _ if bytes.starts_with(PREFACE) => Spoken::H2,
        // A method is a token, mostly capitals (RFC 9110 §9.1).
        [first, ..] if first.is_ascii_alphabetic() => Spoken::Http1,
        _ => Spoken::Other,
    }
}

/// Reads until it is clear what is spoken; the bytes stay readable. `None`: nothing came within the time.
///
/// # Errors
/// The stream fails.
pub async fn first<S: AsyncRead + Unpin>(stream: &mut Prefixed<S>, within: Duration) -> io::Result<Option<Spoken>> {
    let reading = async {
        let mut wanted = 1;
        loop {
            let have = stream.peek(wanted).await?.len();
            match sniff(stream.prefix()) {
                // The end, or a pause in the middle of a preface.
                Spoken::More if have < wanted => return Ok(Spoken::Other),
                Spoken::More => wanted = have + 1,
                spoken => return Ok(spoken),
            }
        }
    };
    match tokio::time::timeout(within, reading).await {
        Ok(spoken) => spoken.map(Some),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_is_spoken() {
        assert_eq!(sniff(&[0x16, 3, 1]), Spoken::Tls);
        assert_eq!(sniff(b"GET / HTTP/1.1\r\n"), Spoken::Http1);
        assert_eq!(sniff(b"PRI * HTTP/2.0\r\n\r\nSM"), Spoken::H2);
        assert_eq!(sniff(b"PRI"), Spoken::More);
        assert_eq!(sniff(b"PROPFIND / HTTP/1.1"), Spoken::Http1);
        assert_eq!(sniff(b""), Spoken::More);
        assert_eq!(sniff(&[0x05, 1, 0]), Spoken::Socks5);
        assert_eq!(sniff(&[0x04, 1, 0]), Spoken::Other);
        assert_eq!(sniff(&[0x80, 0x2e]), Spoken::Other);
    }
}
