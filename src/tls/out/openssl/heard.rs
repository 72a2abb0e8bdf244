//! What a server says in clear at the start of a TLS 1.2 connection. OpenSSL's safe interface does not
//! tell whether a client certificate was asked for, nor of whom; here it is read from the bytes as they pass.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use rustls::SignatureScheme;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Record of handshake messages (RFC 5246 §6.2.1).
const HANDSHAKE: u8 = 22;
/// RFC 5246 §7.4.4.
const CERTIFICATE_REQUEST: u8 = 13;
/// Longer flights are not listened to: a server's takes a few kilobytes, with long lists of CAs some tens.
const BOUND: usize = 512 * 1024;

/// A CertificateRequest of TLS 1.2.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Request {
    pub schemes: Vec<SignatureScheme>,
    /// Names of the CAs the server takes certificates of, in DER; none: any.
    pub authorities: Vec<Vec<u8>>,
}

/// The server's first flight, as far as it is in clear.
#[derive(Default)]
pub struct Flight {
    records: Vec<u8>,
    messages: Vec<u8>,
    heard: usize,
    request: Option<Request>,
    over: bool,
}

impl Flight {
    pub fn request(&self) -> Option<&Request> {
        self.request.as_ref()
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.heard += bytes.len();
        self.records.extend_from_slice(bytes);
        if self.heard > BOUND {
            self.end();
        }
        while !self.over {
            let [kind, _, _, high, low, ..] = self.records[..] else { return };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if kind != HANDSHAKE {
                return self.end();
            }
            let Some(body) = self.records.get(5..5 + length) else { return };
            self.messages.extend_from_slice(body);
            self.records.drain(..5 + length);
            self.read_messages();
        }
    }

    fn read_messages(&mut self) {
        while let [kind, a, b, c, ..] = self.messages[..] {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(body) = self.messages.get(4..4 + length) else { return };
            if kind == CERTIFICATE_REQUEST {
                self.request = Some(request(body).unwrap_or_default());
            }
            self.messages.drain(..4 + length);
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.records = Vec::new();
        self.messages = Vec::new();
    }
}

fn request(body: &[u8]) -> Option<Request> {
    let (_types, rest) = vector(body, 1)?;
    let (schemes, rest) = vector(rest, 2)?;
    let (mut names, _) = vector(rest, 2)?;
    let mut authorities = Vec::new();
    while !names.is_empty() {
        let (name, rest) = vector(names, 2)?;
        authorities.push(name.to_vec());
        names = rest;
    }
    let schemes = schemes.chunks_exact(2).map(|pair| SignatureScheme::from(u16::from_be_bytes([pair[0], pair[1]])));
    Some(Request { schemes: schemes.collect(), authorities })
}

/// A vector whose length stands before it in `width` octets (RFC 5246 §4.3), and what follows.
fn vector(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
    rest.split_at_checked(length)
}

/// A stream that is listened to.
pub struct Tap<IO> {
    io: IO,
    flight: Arc<Mutex<Flight>>,
    over: bool,
}

impl<IO> Tap<IO> {
    pub fn new(io: IO, flight: Arc<Mutex<Flight>>) -> Self {
        Self { io, flight, over: false }
    }

    pub fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Tap<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if !self.over {
            let mut flight = self.flight.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            flight.hear(&buf.filled()[before..]);
            let over = flight.over;
            drop(flight);
            self.over = over;
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Tap<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3], &u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind], &length[1..], body].concat()
    }

    const ASKING: &[u8] = &[1, 64, 0, 4, 4, 3, 8, 4, 0, 5, 0, 3, 0x30, 1, 0];

    #[test]
    fn the_request_is_heard_however_the_bytes_are_cut() {
        let flight =
            [message(2, b"hello"), message(11, b"certificate"), message(CERTIFICATE_REQUEST, ASKING), message(14, b"")].concat();
        let wanted = Request {
            schemes: vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256],
            authorities: vec![vec![0x30, 1, 0]],
        };
        for records in [1, 7, flight.len()] {
            let bytes: Vec<u8> = flight.chunks(records).flat_map(|part| record(HANDSHAKE, part)).collect();
            for reads in [1, 5, bytes.len()] {
                let mut heard = Flight::default();
                bytes.chunks(reads).for_each(|part| heard.hear(part));
                assert_eq!(heard.request(), Some(&wanted), "{records} {reads}");
            }
        }
    }

    #[test]
    fn what_is_encrypted_is_not_read() {
        let mut heard = Flight::default();
        heard.hear(&record(HANDSHAKE, &message(2, b"hello")));
        heard.hear(&record(20, &[1]));
        heard.hear(&record(HANDSHAKE, &message(CERTIFICATE_REQUEST, ASKING)));
        assert!(heard.over && heard.request().is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut heard = Flight::default();
            heard.hear(&bytes);
            heard.hear(&record(HANDSHAKE, &message(CERTIFICATE_REQUEST, &bytes)));
        }
    }
}
