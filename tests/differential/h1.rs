//! HTTP/1.1 (RFC 9112) as the judge speaks it: scripts to bytes, bytes to what was heard. Reads whatever has one
//! meaning, and says what has none.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::case::{Case, Content, Field, Framing};
use super::heard::{End, Heard, said_length, values};
use super::hpack::Fields;

/// The request, and how much of it is its head.
pub fn request(case: &Case, absolute: bool, host: &str) -> (Vec<u8>, usize) {
    let mut bytes = case.method.clone();
    bytes.push(b' ');
    if absolute {
        bytes.extend_from_slice(format!("http://{host}").as_bytes());
    }
    bytes.extend_from_slice(&case.target);
    bytes.extend_from_slice(if case.old_request { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    bytes.extend_from_slice(format!("Host: {host}\r\n").as_bytes());
    let head = content(&mut bytes, &case.request, true);
    (bytes, head)
}

pub fn interim(case: &Case) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (status, fields) in &case.interim {
        bytes.extend_from_slice(format!("HTTP/1.1 {status} Interim\r\n").as_bytes());
        fields.iter().for_each(|field| line(&mut bytes, field));
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

pub fn answer(case: &Case) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.{} {} ", u8::from(!case.old_answer), case.status).into_bytes();
    bytes.extend_from_slice(&case.reason);
    bytes.extend_from_slice(b"\r\n");
    content(&mut bytes, &case.answer, !case.bodiless());
    bytes
}

fn line(bytes: &mut Vec<u8>, field: &Field) {
    for part in [&field.name[..], &field.gap, &field.value, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}

fn content(bytes: &mut Vec<u8>, content: &Content, body: bool) -> usize {
    content.fields.iter().for_each(|field| line(bytes, field));
    match content.framing {
        Framing::Length => {
            let length: usize = content.pieces.iter().map(|piece| piece.data.len()).sum();
            bytes.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        Framing::Chunked => bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::Close => {}
    }
    bytes.extend_from_slice(b"\r\n");
    let head = bytes.len();
    if !body {
        return head;
    }
    for piece in content.pieces.iter().filter(|piece| !piece.data.is_empty()) {
        match content.framing {
            Framing::None => {}
            Framing::Length | Framing::Close => bytes.extend_from_slice(&piece.data),
            Framing::Chunked => {
                bytes.extend_from_slice(format!("{:x}", piece.data.len()).as_bytes());
                for part in [&piece.extension[..], b"\r\n", &piece.data, b"\r\n"] {
                    bytes.extend_from_slice(part);
                }
            }
        }
    }
    if content.framing == Framing::Chunked {
        bytes.extend_from_slice(b"0\r\n");
        content.trailers.iter().for_each(|field| line(bytes, field));
        bytes.extend_from_slice(b"\r\n");
    }
    head
}

/// Writes in steps, each of which may become a packet of its own.
pub async fn write(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8], step: usize) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    for part in bytes.chunks(if step == 0 { bytes.len() } else { step }) {
        io.write_all(part).await?;
        io.flush().await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Why nothing more can be read.
enum Stop {
    Eof,
    Failed,
    Wrong(&'static str),
}

pub struct Reader<R> {
    io: R,
    pub ahead: Vec<u8>,
}

/// Where a message's body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    None,
    Length(usize),
    Chunked,
    Close,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(io: R, ahead: Vec<u8>) -> Self {
        Self { io, ahead }
    }

    pub fn into_parts(self) -> (R, Vec<u8>) {
        (self.io, self.ahead)
    }

    async fn fill(&mut self) -> Result<(), Stop> {
        match self.io.read_buf(&mut self.ahead).await {
            Ok(0) => Err(Stop::Eof),
            Ok(_) => Ok(()),
            Err(_) => Err(Stop::Failed),
        }
    }

    /// Waits for a first byte; false: there is none.
    pub async fn first(&mut self) -> bool {
        !self.ahead.is_empty() || self.fill().await.is_ok()
    }

    async fn line(&mut self) -> Result<Vec<u8>, Stop> {
        let mut looked = 0;
        loop {
            if let Some(at) = self.ahead[looked..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.ahead.drain(..=looked + at).collect();
                line.pop();
                line.pop_if(|byte| *byte == b'\r');
                return Ok(line);
            }
            looked = self.ahead.len();
            self.fill().await?;
        }
    }

    async fn take(&mut self, mut n: usize, body: &mut Vec<u8>) -> Result<(), Stop> {
        loop {
            let have = n.min(self.ahead.len());
            body.extend(self.ahead.drain(..have));
            n -= have;
            if n == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn fields(&mut self) -> Result<Fields, Stop> {
        let mut fields: Fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            if line[0] == b' ' || line[0] == b'\t' {
                // RFC 9112 §5.2: a fold is a blank.
                let (_, value) = fields.last_mut().ok_or(Stop::Wrong("a fold before any field"))?;
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
                *value = value.trim_ascii().to_vec();
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(Stop::Wrong("a field without a colon"))?;
            fields.push((line[..colon].trim_ascii_end().to_vec(), line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    async fn chunks(&mut self, heard: &mut Heard) -> Result<(), Stop> {
        loop {
            let line = self.line().await?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
            match size.ok_or(Stop::Wrong("a chunk size that is no number"))? {
                0 => break,
                size => self.take(size, &mut heard.body).await?,
            }
            if !self.line().await?.is_empty() {
                return Err(Stop::Wrong("a chunk that does not end"));
            }
        }
        heard.trailers = self.fields().await?;
        Ok(())
    }

    async fn until_end(&mut self, heard: &mut Heard) -> Result<(), Stop> {
        loop {
            heard.body.append(&mut self.ahead);
            match self.fill().await {
                Ok(()) => {}
                Err(Stop::Eof) => return Ok(()),
                Err(stop) => return Err(stop),
            }
        }
    }

    /// The head of a request. `None`: it did not come whole, and `heard` says how.
    pub async fn request_head(&mut self, heard: &mut Heard) -> Option<Body> {
        let read = async {
            let line = self.line().await?;
            let mut words = line.splitn(2, |byte| *byte == b' ');
            let method = words.next().unwrap_or_default();
            let rest = words.next().ok_or(Stop::Wrong("no target"))?;
            let at = rest.iter().rposition(|byte| *byte == b' ').ok_or(Stop::Wrong("no version"))?;
            heard.start = [method.to_vec(), rest[..at].to_vec()];
            heard.old = &rest[at + 1..] == b"HTTP/1.0";
            heard.fields = self.fields().await?;
            Ok(())
        };
        finish(heard_stop(read.await), heard)?;
        body_of(heard, Body::None)
    }

    /// The head of an answer, interim ones before it; each of those is told.
    pub async fn answer_head(&mut self, heard: &mut Heard, bodiless: bool, told: &Notify) -> Option<Body> {
        loop {
            let read = async {
                let line = self.line().await?;
                let mut words = line.splitn(3, |byte| *byte == b' ');
                heard.old = match words.next() {
                    Some(b"HTTP/1.1") => false,
                    Some(b"HTTP/1.0") => true,
                    _ => return Err(Stop::Wrong("no HTTP")),
                };
                heard.start = [words.next().unwrap_or_default().to_vec(), words.next().unwrap_or_default().to_vec()];
                heard.fields = self.fields().await?;
                Ok(())
            };
            finish(heard_stop(read.await), heard)?;
            let status = heard.status();
            told.notify_one();
            if !(100..200).contains(&status) || status == 101 {
                break;
            }
            heard.interim.push((status, std::mem::take(&mut heard.fields)));
            heard.start = Default::default();
        }
        match heard.status() {
            101 => Some(Body::Close),
            // RFC 9110 §8.6: a 204 has no length, whatever it says.
            204 => Some(Body::None),
            status if bodiless || status == 304 => body_of(heard, Body::None).map(|_| Body::None),
            _ => body_of(heard, Body::Close),
        }
    }

    pub async fn body(&mut self, body: Body, heard: &mut Heard) {
        heard.delimited = body != Body::Close;
        let read = match body {
            Body::None => Ok(()),
            Body::Length(length) => self.take(length, &mut heard.body).await,
            Body::Chunked => self.chunks(heard).await,
            Body::Close => self.until_end(heard).await,
        };
        heard.end = heard_stop(read).err().unwrap_or(End::Whole);
    }
}

fn heard_stop(read: Result<(), Stop>) -> Result<(), End> {
    read.map_err(|stop| match stop {
        Stop::Eof | Stop::Failed => End::Broken,
        Stop::Wrong(why) => End::Malformed(why),
    })
}

fn finish(read: Result<(), End>, heard: &mut Heard) -> Option<()> {
    heard.end = End::Broken;
    match read {
        Ok(()) => Some(()),
        Err(end) => {
            heard.end = end;
            None
        }
    }
}

fn body_of(heard: &mut Heard, without: Body) -> Option<Body> {
    let codings = values(&heard.fields, "transfer-encoding").join(&b", "[..]).to_ascii_lowercase();
    if !codings.is_empty() {
        if codings == b"chunked" {
            return Some(Body::Chunked);
        }
        heard.end = End::Malformed("a coding that the judge does not read");
        return None;
    }
    match said_length(&heard.fields) {
        Ok(Some(length)) => Some(Body::Length(length)),
        Ok(None) => Some(without),
        Err(why) => {
            heard.end = End::Malformed(why);
            None
        }
    }
}
