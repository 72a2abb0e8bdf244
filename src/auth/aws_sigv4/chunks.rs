//! `aws-chunked` uploads whose chunks are signed: the client signed them with a key that is not the real one, so they
//! are taken apart, put together in chunks of one size, and signed anew ("Signature calculations for the
//! Authorization header: transferring payload in multiple chunks"). Each signature covers the one before.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::canonical::{EMPTY, sha256};
use super::keys::{Algorithm, Signer};
use crate::draft::BodyTransform;
use crate::failure::{Cause, Failure};

/// S3 wants 8 KiB at least in all chunks but the last.
pub const CHUNK: usize = 64 * 1024;

/// Longest chunk head and longest trailer section.
const LINE: usize = 8 * 1024;

/// What the chunks of one request are signed with.
pub struct Seal {
    pub algorithm: Algorithm,
    pub signer: Signer,
    pub time: String,
    pub scope: String,
    /// The signature of the request itself.
    pub seed: String,
    pub trailer: bool,
    /// Of the payload (`x-amz-decoded-content-length`).
    pub decoded: Option<u64>,
    /// Of all trailer lines but the signature's, with their line ends, when their values have a known length.
    pub trailer_length: Option<u64>,
}

impl Seal {
    fn chunk(&self, previous: &str, data: &[u8]) -> Result<String, Failure> {
        let Self { algorithm, time, scope, .. } = self;
        let hash = sha256(&[data]);
        self.signer.sign(&format!("{}-PAYLOAD\n{time}\n{scope}\n{previous}\n{EMPTY}\n{hash}", algorithm.name()))
    }

    fn trailers(&self, previous: &str, canonical: &str) -> Result<String, Failure> {
        let Self { algorithm, time, scope, .. } = self;
        let hash = sha256(&[canonical.as_bytes()]);
        self.signer.sign(&format!("{}-TRAILER\n{time}\n{scope}\n{previous}\n{hash}", algorithm.name()))
    }

    /// As it stands on the wire.
    fn filled(&self, signature: &str) -> String {
        format!("{signature:*<0$}", self.algorithm.chunk_signature())
    }

    /// What leaves in all, in bytes.
    fn length(&self) -> Option<u64> {
        let decoded = self.decoded?;
        let head = |size: u64| format!("{size:x};chunk-signature=\r\n").len() as u64 + self.algorithm.chunk_signature() as u64;
        let (whole, rest) = (decoded / CHUNK as u64, decoded % CHUNK as u64);
        let chunk = |size: u64| head(size) + size + 2;
        let last = if rest > 0 { chunk(rest) } else { 0 };
        let signature = SIGNATURE.len() as u64 + 1 + self.algorithm.chunk_signature() as u64 + 2;
        let trailers = if self.trailer { self.trailer_length? + signature } else { 0 };
        whole.checked_mul(chunk(CHUNK as u64))?.checked_add(last + head(0) + trailers + 2)
    }
}

const SIGNATURE: &str = "x-amz-trailer-signature";

enum At {
    Head,
    Data(u64),
    /// The line end after a chunk's data.
    Gap,
    Trailers,
    Done,
}

pub struct Chunks {
    seal: Arc<Seal>,
    previous: String,
    at: At,
    /// What came and is not understood yet: less than a line.
    came: BytesMut,
    /// Payload for the next chunk: less than [`CHUNK`].
    payload: BytesMut,
    /// Payload seen so far.
    seen: u64,
}

impl Chunks {
    pub fn new(seal: Arc<Seal>) -> Self {
        let previous = seal.seed.clone();
        Self { seal, previous, at: At::Head, came: BytesMut::new(), payload: BytesMut::new(), seen: 0 }
    }

    fn step(&mut self, made: &mut BytesMut) -> Result<bool, Failure> {
        match self.at {
            At::Head => {
                let Some(line) = self.line()? else { return Ok(false) };
                let digits = line.split(';').next().unwrap_or("").trim();
                let size = u64::from_str_radix(digits, 16).map_err(|_| malformed("a chunk does not begin with its size"))?;
                self.at = if size == 0 { At::Trailers } else { At::Data(size) };
                if size == 0 {
                    self.emit(made)?;
                    self.close(made)?;
                }
                Ok(true)
            }
            At::Data(left) => {
                let room = (CHUNK - self.payload.len()) as u64;
                let some = left.min(self.came.len() as u64).min(room) as usize;
                if some == 0 {
                    return Ok(false);
                }
                self.payload.extend_from_slice(&self.came[..some]);
                self.came.advance(some);
                self.seen += some as u64;
                let left = left - some as u64;
                self.at = if left == 0 { At::Gap } else { At::Data(left) };
                if self.payload.len() == CHUNK {
                    self.emit(made)?;
                }
                Ok(true)
            }
            At::Gap => {
                let Some(line) = self.line()? else { return Ok(false) };
                if !line.is_empty() {
                    return Err(malformed("a chunk is longer than it says"));
                }
                self.at = At::Head;
                Ok(true)
            }
            // Read whole at the end.
            At::Trailers if self.came.len() > LINE => Err(malformed("its trailers are too long")),
            At::Trailers | At::Done => Ok(false),
        }
    }

    /// A line without its end, once it is here.
    fn line(&mut self) -> Result<Option<String>, Failure> {
        let Some(end) = self.came.iter().position(|byte| *byte == b'\n') else {
            return if self.came.len() > LINE { Err(malformed("a line in it is too long")) } else { Ok(None) };
        };
        let line = self.came.split_to(end + 1);
        let text = std::str::from_utf8(&line[..end]).map_err(|_| malformed("a line in it is not text"))?;
        Ok(Some(text.trim_end_matches('\r').to_owned()))
    }

    /// A chunk with the payload at hand, if there is some.
    fn emit(&mut self, made: &mut BytesMut) -> Result<(), Failure> {
        if self.payload.is_empty() {
            return Ok(());
        }
        self.previous = self.seal.chunk(&self.previous, &self.payload)?;
        self.head(made, self.payload.len());
        made.extend_from_slice(&self.payload);
        made.extend_from_slice(b"\r\n");
        self.payload.clear();
        Ok(())
    }

    /// The chunk without payload, which is the last.
    fn close(&mut self, made: &mut BytesMut) -> Result<(), Failure> {
        if let Some(said) = self.seal.decoded.filter(|said| *said != self.seen) {
            return Err(malformed(&format!("it holds {} bytes, and `x-amz-decoded-content-length` says {said}", self.seen)));
        }
        self.previous = self.seal.chunk(&self.previous, b"")?;
        self.head(made, 0);
        Ok(())
    }

    fn head(&self, made: &mut BytesMut, size: usize) {
        made.extend_from_slice(format!("{size:x};chunk-signature={}\r\n", self.seal.filled(&self.previous)).as_bytes());
    }
}

impl BodyTransform for Chunks {
    fn feed(&mut self, piece: Bytes) -> Result<Bytes, Failure> {
        let mut made = BytesMut::new();
        // In slices, so that what is waiting stays small however large the piece.
        for some in piece.chunks(CHUNK) {
            self.came.extend_from_slice(some);
            while self.step(&mut made)? {}
        }
        Ok(made.freeze())
    }

    fn finish(&mut self) -> Result<Bytes, Failure> {
        if !matches!(self.at, At::Trailers) {
            return Err(malformed("it ends before its last chunk"));
        }
        self.at = At::Done;
        let text = std::str::from_utf8(&self.came).map_err(|_| malformed("its trailers are not text"))?;
        let mut made = String::new();
        if self.seal.trailer {
            let mut canonical = String::new();
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let (name, value) = line.split_once(':').ok_or_else(|| malformed("a trailer is not `name:value`"))?;
                let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
                if name != SIGNATURE {
                    canonical.push_str(&format!("{name}:{value}\n"));
                    made.push_str(&format!("{name}:{value}\r\n"));
                }
            }
            if self.seal.trailer_length.is_some_and(|said| said != made.len() as u64) {
                return Err(malformed("its trailers are not those that `x-amz-trailer` names"));
            }
            let signature = self.seal.trailers(&self.previous, &canonical)?;
            made.push_str(&format!("{SIGNATURE}:{}\r\n", self.seal.filled(&signature)));
        } else if !text.trim().is_empty() {
            return Err(malformed("it has trailers, which `x-amz-content-sha256` does not announce"));
        }
        made.push_str("\r\n");
        Ok(Bytes::from(made))
    }

    fn length(&self) -> Option<u64> {
        self.seal.length()
    }
}

/// Bytes of the trailer lines that `x-amz-trailer` names, if it names checksums only, whose text has one length each.
pub fn trailer_length(names: &str) -> Option<u64> {
    let lengths = names.split(',').map(|name| {
        let name = name.trim().to_ascii_lowercase();
        let value = match name.strip_prefix("x-amz-checksum-")? {
            "crc32" | "crc32c" => 8,
            "crc64nvme" => 12,
            "sha1" => 28,
            "sha256" => 44,
            _ => return None,
        };
        Some(name.len() as u64 + 1 + value + 2)
    });
    lengths.sum()
}

fn malformed(why: &str) -> Failure {
    Failure::new(Cause::BadRequest, format!("the client's aws-chunked body cannot be signed anew: {why}"))
}
