//! HTTP/2 (RFC 9113) as the judge speaks it: frames by hand, so that anything can be sent and everything is seen.

use std::collections::VecDeque;
use std::io;

use tokio::io::AsyncWriteExt;

use super::case::{Case, Content, Field, Framing, How};
use super::heard::{End, Heard, said_length, values};
use super::hpack::{Decoder, Fields, encode};
use super::link::Link;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LARGEST: usize = 16_384;

#[derive(Debug)]
pub enum Event {
    Fields {
        stream: u32,
        fields: Fields,
        end: bool,
    },
    Data {
        stream: u32,
        data: Vec<u8>,
        end: bool,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    /// The connection ended.
    Closed,
}

pub struct H2 {
    link: Link,
    decoder: Decoder,
    /// What may be sent: on the connection, and on a new stream.
    window: i64,
    initial: i64,
    /// The stream in hand, and what may be sent on it.
    stream: (u32, i64),
    next: u32,
    pending: VecDeque<Event>,
    gone: bool,
    going: bool,
}

/// One step of a script.
#[derive(Debug)]
pub enum Part {
    Fields(Fields, bool),
    Data(Vec<u8>, bool),
}

impl H2 {
    pub async fn client(mut link: Link) -> io::Result<Self> {
        link.write_all(PREFACE).await?;
        Self::start(link).await
    }

    /// A server, once the preface is there.
    pub async fn server(mut link: Link) -> io::Result<Self> {
        while link.ahead.len() < PREFACE.len() {
            if link.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        link.ahead.drain(..PREFACE.len());
        Self::start(link).await
    }

    async fn start(mut link: Link) -> io::Result<Self> {
        // ENABLE_PUSH 0 means nothing from a server; INITIAL_WINDOW_SIZE 1 MiB; the connection's window likewise.
        let settings = [0, 4, 0, 16, 0, 0];
        let mut bytes = frame_head(settings.len(), 4, 0, 0);
        bytes.extend_from_slice(&settings);
        bytes.extend_from_slice(&window_update(0, 1 << 20));
        link.write_all(&bytes).await?;
        link.flush().await?;
        let pending = VecDeque::new();
        let decoder = Decoder::new();
        Ok(Self { link, decoder, window: 65_535, initial: 65_535, stream: (0, 0), next: 1, pending, gone: false, going: false })
    }

    /// Another request may be sent on it.
    pub fn is_open(&self) -> bool {
        !self.gone && !self.going
    }

    pub fn new_stream(&mut self) -> u32 {
        let stream = self.next;
        self.next += 2;
        self.take_up(stream);
        stream
    }

    pub fn take_up(&mut self, stream: u32) {
        self.stream = (stream, self.initial);
    }

    pub async fn end(self, how: How) {
        self.link.end(how).await;
    }

    pub async fn event(&mut self) -> Event {
        if let Some(event) = self.pending.pop_front() {
            return event;
        }
        self.read().await
    }

    async fn read(&mut self) -> Event {
        loop {
            match self.frame().await {
                Ok(Some(event)) => return event,
                Ok(None) => {}
                Err(_) => {
                    self.gone = true;
                    return Event::Closed;
                }
            }
        }
    }

    async fn raw(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let [a, b, c, kind, flags, d, e, f, g, ..] = self.link.ahead[..] {
                let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                if self.link.ahead.len() >= 9 + length {
                    let payload = self.link.ahead[9..9 + length].to_vec();
                    self.link.ahead.drain(..9 + length);
                    return Ok((kind, flags, u32::from_be_bytes([d & 127, e, f, g]), payload));
                }
            }
            if self.link.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn frame(&mut self) -> io::Result<Option<Event>> {
        let (kind, flags, stream, payload) = self.raw().await?;
        let number = |at: usize| payload.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        Ok(match kind {
            0 => {
                let length = u32::try_from(payload.len()).unwrap();
                if length > 0 {
                    let mut bytes = window_update(0, length);
                    bytes.extend_from_slice(&window_update(stream, length));
                    // The other side may be gone already; reading tells.
                    let _ = self.link.write_all(&bytes).await;
                    let _ = self.link.flush().await;
                }
                Some(Event::Data { stream, data: unpadded(&payload, flags), end: flags & 1 != 0 })
            }
            1 => {
                let mut block = unpadded(&payload, flags);
                if flags & 32 != 0 {
                    block.drain(..5);
                }
                let mut last = flags & 4 != 0;
                while !last {
                    let (_, flags, _, more) = self.raw().await?;
                    block.extend_from_slice(&more);
                    last = flags & 4 != 0;
                }
                let fields = self.decoder.decode(&block).ok_or(io::ErrorKind::InvalidData)?;
                Some(Event::Fields { stream, fields, end: flags & 1 != 0 })
            }
            3 => Some(Event::Reset { stream, code: number(0) }),
            4 if flags & 1 == 0 => {
                for setting in payload.chunks(6) {
                    if let [0, 4, a, b, c, d] = *setting {
                        let initial = i64::from(u32::from_be_bytes([a, b, c, d]));
                        self.stream.1 += initial - self.initial;
                        self.initial = initial;
                    }
                }
                self.link.write_all(&frame_head(0, 4, 1, 0)).await?;
                self.link.flush().await?;
                None
            }
            6 if flags & 1 == 0 => {
                let mut bytes = frame_head(8, 6, 1, 0);
                bytes.extend_from_slice(&payload);
                self.link.write_all(&bytes).await?;
                self.link.flush().await?;
                None
            }
            7 => {
                self.going = true;
                None
            }
            8 if stream == 0 => {
                self.window += i64::from(number(0));
                None
            }
            8 if stream == self.stream.0 => {
                self.stream.1 += i64::from(number(0));
                None
            }
            _ => None,
        })
    }

    pub async fn send(&mut self, stream: u32, part: &Part) -> io::Result<()> {
        match part {
            Part::Fields(fields, end) => {
                let block = encode(fields);
                let mut kind = 1;
                let mut flags = u8::from(*end);
                let mut chunks = block.chunks(LARGEST).peekable();
                while let Some(chunk) = chunks.next() {
                    flags |= if chunks.peek().is_none() { 4 } else { 0 };
                    let mut bytes = frame_head(chunk.len(), kind, flags, stream);
                    bytes.extend_from_slice(chunk);
                    self.link.write_all(&bytes).await?;
                    (kind, flags) = (9, 0);
                }
            }
            Part::Data(data, end) => {
                let mut rest = &data[..];
                loop {
                    let may = usize::try_from(self.window.min(self.stream.1)).unwrap_or(0).min(LARGEST).min(rest.len());
                    if may == 0 && !rest.is_empty() {
                        self.link.flush().await?;
                        match self.frame().await? {
                            Some(event @ Event::Reset { .. }) => {
                                self.pending.push_back(event);
                                return Err(io::ErrorKind::BrokenPipe.into());
                            }
                            Some(event) => self.pending.push_back(event),
                            None => {}
                        }
                        continue;
                    }
                    let (now, later) = rest.split_at(may);
                    let mut bytes = frame_head(now.len(), 0, u8::from(*end && later.is_empty()), stream);
                    bytes.extend_from_slice(now);
                    self.link.write_all(&bytes).await?;
                    self.window -= i64::try_from(may).unwrap();
                    self.stream.1 -= i64::try_from(may).unwrap();
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
        }
        self.link.flush().await?;
        tokio::task::yield_now().await;
        Ok(())
    }

    pub async fn reset(&mut self, stream: u32, code: u32) {
        let mut bytes = frame_head(4, 3, 0, stream);
        bytes.extend_from_slice(&code.to_be_bytes());
        let _ = self.link.write_all(&bytes).await;
        let _ = self.link.flush().await;
    }
}

fn frame_head(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    let mut head = vec![length[1], length[2], length[3], kind, flags];
    head.extend_from_slice(&stream.to_be_bytes());
    head
}

fn window_update(stream: u32, more: u32) -> Vec<u8> {
    let mut bytes = frame_head(4, 8, 0, stream);
    bytes.extend_from_slice(&more.to_be_bytes());
    bytes
}

fn unpadded(payload: &[u8], flags: u8) -> Vec<u8> {
    if flags & 8 == 0 {
        return payload.to_vec();
    }
    let pad = usize::from(payload[0]);
    payload[1..payload.len() - pad].to_vec()
}

/// What has no meaning on HTTP/2 (RFC 9113 §8.2.2).
fn carried(field: &Field) -> bool {
    let hop = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings"];
    let takes_trailers = field.value.trim_ascii().eq_ignore_ascii_case(b"trailers");
    !hop.iter().any(|name| field.is(name)) && (takes_trailers || !field.is("te"))
}

fn rendered<'f>(fields: impl IntoIterator<Item = &'f Field>) -> Fields {
    let value = |field: &Field| {
        // The gap may hold the beginning of a fold, the value its rest.
        let text = [&field.gap[field.gap.iter().position(|b| *b == b':').map_or(0, |at| at + 1)..], &field.value].concat();
        let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).collect();
        lines.join(&b' ').trim_ascii().to_vec()
    };
    fields.into_iter().filter(|field| carried(field)).map(|field| (field.name.to_ascii_lowercase(), value(field))).collect()
}

pub fn request(case: &Case, scheme: &str, host: &str) -> Vec<Part> {
    let pseudo =
        [(":method", &case.method[..]), (":scheme", scheme.as_bytes()), (":authority", host.as_bytes()), (":path", &case.target)];
    let head = pseudo.into_iter().map(|(name, value)| (name.into(), value.to_vec())).collect();
    content(head, &case.request, true)
}

pub fn interim(case: &Case) -> Vec<Part> {
    case.interim
        .iter()
        .map(|(status, fields)| {
            let mut head = vec![(b":status".to_vec(), status.to_string().into_bytes())];
            head.extend(rendered(fields));
            Part::Fields(head, false)
        })
        .collect()
}

pub fn answer(case: &Case) -> Vec<Part> {
    content(vec![(b":status".to_vec(), case.status.to_string().into_bytes())], &case.answer, !case.bodiless())
}

fn content(mut head: Fields, content: &Content, body: bool) -> Vec<Part> {
    head.extend(rendered(&content.fields));
    if content.framing == Framing::Length {
        head.push((b"content-length".to_vec(), content.body().len().to_string().into_bytes()));
    }
    let mut parts = vec![Part::Fields(head, false)];
    if body && content.framing != Framing::None {
        parts.extend(content.pieces.iter().filter(|p| !p.data.is_empty()).map(|p| Part::Data(p.data.clone(), false)));
        if content.framing == Framing::Chunked && !content.trailers.is_empty() {
            parts.push(Part::Fields(rendered(&content.trailers), false));
        }
    }
    match parts.last_mut() {
        Some(Part::Fields(_, end) | Part::Data(_, end)) => *end = true,
        None => {}
    }
    parts
}

/// Takes in a head: pseudo-fields to where they belong.
pub fn take_head(heard: &mut Heard, fields: Fields) {
    let pseudo = |name: &str| values(&fields, name).first().map(|value| value.to_vec()).unwrap_or_default();
    heard.start = match pseudo(":status") {
        status if status.is_empty() => [pseudo(":method"), pseudo(":path")],
        status => [status, Vec::new()],
    };
    let authority = pseudo(":authority");
    heard.fields = fields.into_iter().filter(|(name, _)| !name.starts_with(b":")).collect();
    if !authority.is_empty() {
        heard.fields.insert(0, (b"host".to_vec(), authority));
    }
    heard.end = End::Broken;
}

/// The stream ended by itself: is the message what its length says (RFC 9113 §8.1.1)?
pub fn whole(heard: &mut Heard, bodiless: bool) {
    heard.delimited = true;
    heard.end = match said_length(&heard.fields) {
        Err(why) => End::Malformed(why),
        Ok(Some(length)) if !bodiless && length != heard.body.len() => End::Malformed("a body of another length"),
        Ok(_) => End::Whole,
    };
}
