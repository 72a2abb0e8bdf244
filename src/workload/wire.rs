//! What the Workload API says, read from bytes: gRPC's frames and the few fields of two messages. Pure.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use zeroize::Zeroizing;

use super::{Svid, Update};

/// Larger messages are refused: an SVID with its chain and bundles is some KiB.
const LARGEST: usize = 4 * 1024 * 1024;

/// A frame of gRPC around an empty request: not compressed, no bytes.
pub const EMPTY_REQUEST: &[u8] = &[0; 5];

/// The next whole message of a stream, if it is there (gRPC over HTTP/2: Length-Prefixed-Message).
///
/// # Errors
/// It is compressed, which was not offered, or too large.
pub fn next_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
    let Some(&[compressed, a, b, c, d]) = buffer.first_chunk::<5>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 {
        return Err("its message is compressed");
    }
    if length > LARGEST {
        return Err("its message is too large");
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// `X509SVIDResponse` of the SPIFFE Workload API §5.2.1 (workload.proto).
///
/// # Errors
/// It is not one.
pub fn update(message: &[u8]) -> Result<Update, &'static str> {
    let mut update = Update { svids: Vec::new(), federated: BTreeMap::new() };
    for field in Fields(message) {
        match field? {
            (1, body) => update.svids.push(svid(body)?),
            // A map is a list of pairs: key 1, value 2.
            (3, body) => {
                let (mut domain, mut bundle) = (String::new(), Vec::new());
                for field in Fields(body) {
                    match field? {
                        (1, body) => domain = text(body)?,
                        (2, body) => bundle = body.to_vec(),
                        _ => {}
                    }
                }
                update.federated.insert(domain, bundle);
            }
            _ => {}
        }
    }
    Ok(update)
}

fn svid(message: &[u8]) -> Result<Svid, &'static str> {
    let mut svid = Svid { id: String::new(), certificates: Vec::new(), key: Zeroizing::default(), bundle: Vec::new() };
    for field in Fields(message) {
        match field? {
            (1, body) => svid.id = text(body)?,
            (2, body) => svid.certificates = body.to_vec(),
            (3, body) => svid.key = Zeroizing::new(body.to_vec()),
            (4, body) => svid.bundle = body.to_vec(),
            _ => {}
        }
    }
    Ok(svid)
}

fn text(body: &[u8]) -> Result<String, &'static str> {
    String::from_utf8(body.to_vec()).map_err(|_| DAMAGED)
}

const DAMAGED: &str = "its message is not protobuf";

/// The fields of a protobuf message with their bytes; numbers are passed over, none is needed.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, &'a [u8]), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.field() {
                Some(Some(field)) => return Some(Ok(field)),
                Some(None) => {}
                None => {
                    self.0 = &[];
                    return Some(Err(DAMAGED));
                }
            }
        }
        None
    }
}

impl<'a> Fields<'a> {
    /// The inner `None`: a field that holds no bytes. The outer: not a field.
    #[allow(clippy::option_option)]
    fn field(&mut self) -> Option<Option<(u64, &'a [u8])>> {
        let tag = self.varint()?;
        let skip = match tag & 7 {
            0 => {
                self.varint()?;
                return Some(None);
            }
            1 => 8,
            5 => 4,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                return Some(Some((tag >> 3, self.take(length)?)));
            }
            _ => return None,
        };
        self.take(skip)?;
        Some(None)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (body, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(body)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for at in 0..10 {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(body.len()).unwrap()];
        out.extend(body);
        out
    }

    fn message() -> Vec<u8> {
        let svid = [
            field(1, b"spiffe://a.test/x"),
            field(2, b"CERT"),
            field(3, b"KEY"),
            field(4, b"ROOT"),
            field(5, b"hint"),
            vec![6 << 3, 0x96, 1],
        ];
        let federated = [field(1, b"spiffe://b.test"), field(2, b"OTHER")];
        [field(1, &svid.concat()), field(3, &federated.concat())].concat()
    }

    #[test]
    fn a_response_is_read_and_what_is_not_known_is_passed_over() {
        let read = update(&message()).unwrap();
        let svid = &read.svids[0];
        assert_eq!((svid.id.as_str(), &svid.certificates[..], &svid.key[..]), ("spiffe://a.test/x", &b"CERT"[..], &b"KEY"[..]));
        assert_eq!(svid.bundle, b"ROOT");
        assert_eq!(read.federated["spiffe://b.test"], b"OTHER");
        assert!(update(&message()[..40]).is_err());
        assert!(update(b"<html>").is_err());
    }

    #[test]
    fn frames_come_in_pieces_and_one_after_the_other() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 0, 2, b'a'][..]);
        assert_eq!(next_message(&mut buffer), Ok(None));
        buffer.extend_from_slice(&[b'b', 0, 0, 0, 0, 0, 0]);
        assert_eq!(next_message(&mut buffer), Ok(Some(Bytes::from_static(b"ab"))));
        assert_eq!(next_message(&mut buffer), Ok(Some(Bytes::new())));
        assert_eq!(next_message(&mut buffer), Ok(None));
        assert!(next_message(&mut BytesMut::from(&[1, 0, 0, 0, 1][..])).is_err());
        assert!(next_message(&mut BytesMut::from(&[0, 255, 0, 0, 1][..])).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, at in 0_usize..80, to: u8) {
            let _ = update(&bytes);
            let mut bent = message();
            let at = at % bent.len();
            bent[at] = to;
            let _ = update(&bent);
            let _ = next_message(&mut BytesMut::from(&bytes[..]));
        }
    }
}
