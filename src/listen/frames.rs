//! HTTP/2 frames between a client and hyper (RFC 9113 §4.1). hyper tells no request its stream, sends no interim answers,
//! and ends streams, or all of them, for a `:path` that it does not take. So each request is told its stream in a field of
//! its own, interim answers are put between frames, and such a path is written so that hyper takes it. What hyper refuses
//! inside itself is told of (`blocks.rs`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::blocks::BlockJudge;
use super::heads::carried;
use super::hpack::Table;
use crate::exchange::Activity;
use crate::exchange::interim::{STREAM, literal};

const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
/// A header block; hyper refuses shorter ones.
const LONGEST: usize = 512 * 1024;
/// What hyper takes, since it says nothing else in its settings.
const LARGEST: u32 = 16_384;

struct FrameHead {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHead {
    fn read(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, d, e, f, g] = bytes.first_chunk::<HEAD>()?;
        let (length, stream) = (u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes([d & 0x7f, e, f, g]));
        Some(Self { length, kind, flags, stream })
    }
}

/// From the client.
pub struct Inward {
    /// Of the frame that is passing.
    left: u32,
    /// The last stream that was opened.
    last: u32,
    held: BytesMut,
    ready: BytesMut,
    block: Option<Block>,
    blocks: Blocks,
    judge: BlockJudge,
}

/// How header blocks go on to hyper.
enum Blocks {
    /// As the client wrote them. Its table is kept for the day when one cannot.
    AsTheyAre(Table),
    /// Written anew, without a table: after the first that was changed, hyper's is not the client's any more.
    Anew(Table),
    /// One was malformed. hyper will say so.
    Blind,
}

/// A header block on its way.
struct Block {
    stream: u32,
    flags: u8,
    /// The frames.
    raw: BytesMut,
    /// What is in them, without padding and priority.
    fragment: Vec<u8>,
    frames: usize,
}

impl Inward {
    pub fn new(judge: BlockJudge) -> Self {
        let blocks = Blocks::AsTheyAre(Table::default());
        // The preface is like the inside of a frame.
        Self { left: 24, last: 0, held: BytesMut::new(), ready: BytesMut::new(), block: None, blocks, judge }
    }

    pub fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        activity: &Activity,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.ready.is_empty() {
                let n = self.ready.len().min(buf.remaining());
                buf.put_slice(&self.ready[..n]);
                self.ready.advance(n);
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            std::task::ready!(Pin::new(&mut *stream).poll_read(cx, buf))?;
            let fresh = &buf.filled()[before..];
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            activity.bytes();
            let passed = if self.held.is_empty() { self.walk(fresh) } else { 0 };
            if passed == fresh.len() {
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(&fresh[passed..]);
            buf.set_filled(before + passed);
            self.edit();
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// How many of these bytes can pass as they are.
    fn walk(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            at += self.pass(bytes.len() - at);
            if self.left > 0 {
                return at;
            }
            match FrameHead::read(&bytes[at..]) {
                Some(head) if !self.is_of_block(&head) => {
                    self.left = head.length;
                    at += HEAD;
                }
                _ => return at,
            }
        }
    }

    fn pass(&mut self, most: usize) -> usize {
        let n = most.min(self.left as usize);
        self.left -= n as u32;
        n
    }

    /// Is it to be looked at?
    fn is_of_block(&self, head: &FrameHead) -> bool {
        !matches!(self.blocks, Blocks::Blind) && (matches!(head.kind, HEADERS | CONTINUATION) || self.block.is_some())
    }

    fn edit(&mut self) {
        loop {
            let n = self.pass(self.held.len());
            self.ready.extend_from_slice(&self.held[..n]);
            self.held.advance(n);
            if self.left > 0 {
                return;
            }
            let Some(head) = FrameHead::read(&self.held) else { return };
            if !self.is_of_block(&head) {
                self.ready.extend_from_slice(&self.held[..HEAD]);
                self.held.advance(HEAD);
                self.left = head.length;
                continue;
            }
            let length = HEAD + head.length as usize;
            if head.length <= LARGEST && self.held.len() < length {
                return;
            }
            if head.length > LARGEST || self.take(&head, length).is_none() {
                self.give_up();
            }
        }
    }

    /// Takes in a frame of a header block. `None`: it cannot be one, or the block is longer than any that is taken.
    fn take(&mut self, head: &FrameHead, length: usize) -> Option<()> {
        let payload = &self.held[HEAD..length];
        let fragment = match (head.kind, &self.block) {
            (HEADERS, None) => fragment(head, payload)?,
            (CONTINUATION, Some(block)) if block.stream == head.stream => payload,
            _ => return None,
        };
        let begun = || Block { stream: head.stream, flags: head.flags, raw: BytesMut::new(), fragment: Vec::new(), frames: 0 };
        let block = self.block.get_or_insert_with(begun);
        block.fragment.extend_from_slice(fragment);
        block.raw.extend_from_slice(&self.held[..length]);
        block.frames += 1;
        self.held.advance(length);
        if block.raw.len() > LONGEST {
            return None;
        }
        if head.flags & END_HEADERS != 0 {
            let block = self.block.take()?;
            self.finish(block);
        }
        Some(())
    }

    /// What is there goes on, and nothing is looked at from now on: hyper ends the connection.
    fn give_up(&mut self) {
        self.judge.unreadable();
        if let Some(block) = self.block.take() {
            self.ready.extend_from_slice(&block.raw);
        }
        self.blocks = Blocks::Blind;
    }

    fn finish(&mut self, block: Block) {
        // HEADERS on a stream that is open are trailers.
        let opens = block.stream > self.last;
        self.last = self.last.max(block.stream);
        let field = if opens { field(block.stream) } else { Bytes::new() };
        let (Blocks::AsTheyAre(table) | Blocks::Anew(table)) = &mut self.blocks else { return };
        let Some(mut fields) = table.read(&block.fragment) else {
            self.block = Some(block);
            return self.give_up();
        };
        let mut changed = false;
        for (name, value) in &mut fields {
            if name.as_ref() == b":path"
                && let Some(written) = carried(value)
            {
                *value = written.into();
                changed = true;
            }
        }
        if opens {
            self.judge.judge(&fields, block.stream, block.flags & END_STREAM != 0);
        }
        if matches!(self.blocks, Blocks::AsTheyAre(_)) && !changed {
            return self.pass_on(&block, &field);
        }
        if let Blocks::AsTheyAre(table) = &mut self.blocks {
            self.blocks = Blocks::Anew(std::mem::take(table));
        }
        let mut anew = Vec::with_capacity(block.fragment.len() * 2);
        fields.iter().for_each(|(name, value)| literal(&mut anew, name, value));
        anew.extend_from_slice(&field);
        self.write(&block, &anew);
    }

    /// The block as it came, with a field more at its end, and its frames where that does not fit into them.
    fn pass_on(&mut self, block: &Block, field: &[u8]) {
        if field.is_empty() {
            return self.ready.extend_from_slice(&block.raw);
        }
        let payload = &block.raw[HEAD..];
        let length = (payload.len() + field.len()) as u32;
        if block.frames > 1 || block.flags & PADDED != 0 || length > LARGEST {
            return self.write(block, &[&block.fragment, field].concat());
        }
        self.ready.extend_from_slice(&length.to_be_bytes()[1..]);
        self.ready.extend_from_slice(&block.raw[3..]);
        self.ready.extend_from_slice(field);
    }

    /// A block in frames of ours, without padding and priority.
    fn write(&mut self, block: &Block, anew: &[u8]) {
        let pieces = anew.chunks(LARGEST as usize);
        let last = pieces.len().saturating_sub(1);
        for (at, piece) in pieces.enumerate() {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            let end_stream = if at == 0 { block.flags & END_STREAM } else { 0 };
            let end = if at == last { END_HEADERS } else { 0 };
            self.ready.extend_from_slice(&(piece.len() as u32).to_be_bytes()[1..]);
            self.ready.extend_from_slice(&[kind, end_stream | end]);
            self.ready.extend_from_slice(&block.stream.to_be_bytes());
            self.ready.extend_from_slice(piece);
        }
    }
}

/// What is in a HEADERS frame (RFC 9113 §6.2).
fn fragment<'p>(head: &FrameHead, mut payload: &'p [u8]) -> Option<&'p [u8]> {
    let mut padding = 0;
    if head.flags & PADDED != 0 {
        let (first, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*first), rest);
    }
    if head.flags & PRIORITY != 0 {
        payload = payload.get(5..)?;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

/// A literal that goes into no table (RFC 7541 §6.2.2).
fn field(stream: u32) -> Bytes {
    let mut field = Vec::with_capacity(32);
    literal(&mut field, STREAM.as_bytes(), stream.to_string().as_bytes());
    field.into()
}

/// To the client.
#[derive(Default)]
pub struct Outward {
    head: [u8; HEAD],
    /// Bytes of the head that passed.
    read: usize,
    left: u32,
    /// Between a HEADERS frame and its last CONTINUATION, nothing else may stand (RFC 9113 §6.10).
    in_block: bool,
    /// An interim answer that is on its way.
    passing: Bytes,
}

impl Outward {
    fn is_between(&self) -> bool {
        self.read == 0 && self.left == 0 && !self.in_block
    }

    /// Bytes of hyper's that went out.
    pub fn went(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = bytes.len().min(self.left as usize);
                self.left -= n as u32;
                bytes = &bytes[n..];
                continue;
            }
            let n = bytes.len().min(HEAD - self.read);
            self.head[self.read..self.read + n].copy_from_slice(&bytes[..n]);
            self.read += n;
            bytes = &bytes[n..];
            if let (HEAD, Some(head)) = (self.read, FrameHead::read(&self.head)) {
                (self.read, self.left) = (0, head.length);
                if matches!(head.kind, HEADERS | CONTINUATION) {
                    self.in_block = head.flags & END_HEADERS == 0;
                }
            }
        }
    }

    /// How many of these bytes may go before something else is put in.
    pub fn until_between(&self, bytes: &[u8]) -> usize {
        let mut ahead = Self { passing: Bytes::new(), ..*self };
        let mut at = 0;
        while at < bytes.len() && !(at > 0 && ahead.is_between()) {
            let n = if ahead.left > 0 { (bytes.len() - at).min(ahead.left as usize) } else { 1 };
            ahead.went(&bytes[at..at + n]);
            at += n;
        }
        at
    }

    /// Puts in what waits, where that may be done now. Ready: hyper may write.
    pub fn poll_put_in<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        activity: &Activity,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.passing.is_empty() {
                let next = if self.is_between() { activity.line().take() } else { None };
                let Some(next) = next else { return Poll::Ready(Ok(())) };
                self.passing = next;
            }
            let n = std::task::ready!(Pin::new(&mut *stream).poll_write(cx, &self.passing))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.passing.advance(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::limits::Limits;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&[length[1], length[2], length[3], kind, flags][..], &stream.to_be_bytes(), payload].concat()
    }

    struct Reading(tokio::io::DuplexStream, Inward, std::sync::Arc<Activity>);

    impl AsyncRead for Reading {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Self(stream, inward, activity) = &mut *self;
            inward.poll_read(stream, activity, cx, buf)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_told_its_stream_and_nothing_else_is_changed() {
        let long = vec![0x82; LARGEST as usize];
        let as_it_is = |frame: Vec<u8>| (frame.clone(), frame);
        let told = |kind, flags, stream, payload: &[u8], block: &[u8]| {
            let block = [block, &field(stream)].concat();
            (frame(kind, flags, stream, payload), frame(HEADERS, flags & !PADDED, stream, &block))
        };
        let frames = [
            as_it_is(frame(4, 0, 0, b"settng")),
            told(HEADERS, END_HEADERS, 1, b"\x82\x87\x84", b"\x82\x87\x84"),
            as_it_is(frame(0, 0, 1, b"data \0\0\x05\x01\x04\0\0\0\x09block")),
            // Trailers.
            as_it_is(frame(HEADERS, END_HEADERS | 1, 1, b"\x40\x01a\x01b")),
            told(HEADERS, END_HEADERS | PADDED, 3, b"\x01\x82\xbe.", b"\x82\xbe"),
            as_it_is(frame(HEADERS, END_HEADERS | 1, 3, b"\xbe")),
            // In two frames, and in one that has no room left.
            (
                [frame(HEADERS, 0, 5, b"\x82\x40\x01"), frame(CONTINUATION, END_HEADERS, 5, b"c\x01d")].concat(),
                frame(HEADERS, END_HEADERS, 5, &[b"\x82\x40\x01c\x01d", &field(5)[..]].concat()),
            ),
            (
                frame(HEADERS, END_HEADERS | END_STREAM, 7, &long),
                [frame(HEADERS, END_STREAM, 7, &long), frame(CONTINUATION, END_HEADERS, 7, &field(7))].concat(),
            ),
            told(HEADERS, END_HEADERS | 1, 12_345, b"", b""),
        ];
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut expected = bytes.clone();
        for (sent, carried) in frames {
            bytes.extend_from_slice(&sent);
            expected.extend_from_slice(&carried);
        }
        for piece in [1, 5, 9, 1 << 20] {
            assert!(through(&bytes, piece).await == expected, "in pieces of {piece}");
        }
    }

    async fn through(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(256 * 1024);
        let judge = BlockJudge::new(&Limits::default(), std::sync::Arc::new(|_, _, _| Bytes::new()));
        let mut reading = Reading(server, Inward::new(judge), Activity::new(true));
        let mut got = Vec::new();
        for piece in bytes.chunks(piece) {
            client.write_all(piece).await.unwrap();
            let _ = tokio::time::timeout(std::time::Duration::from_millis(1), reading.read_buf(&mut got)).await;
        }
        drop(client);
        while reading.read_buf(&mut got).await.unwrap() > 0 {}
        got
    }

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_path_that_hyper_does_not_take_is_written_anew_and_so_is_all_that_comes_after_it() {
        // The path goes into the client's table, and the next request takes it from there.
        let first = frame(HEADERS, END_HEADERS | END_STREAM | PRIORITY, 1, b"\0\0\0\0\x10\x82\x44\x03/<\xff\x41\x01a");
        let second = frame(HEADERS, END_HEADERS, 3, b"\x82\xbf\xbe\0\x01x\x01y");
        let third = frame(0, 1, 3, b"data");
        let bytes = [PREFACE, &first, &second, &third].concat();
        let mut block = Vec::new();
        for (name, value) in [(":method", "GET"), (":path", "/%3C%FF"), (":authority", "a")] {
            literal(&mut block, name.as_bytes(), value.as_bytes());
        }
        let anew = |stream, more: &[u8]| [&block, more, &field(stream)].concat();
        let mut more = Vec::new();
        literal(&mut more, b"x", b"y");
        let expected = [
            PREFACE,
            &frame(HEADERS, END_HEADERS | END_STREAM, 1, &anew(1, b"")),
            &frame(HEADERS, END_HEADERS, 3, &anew(3, &more)),
            &third,
        ]
        .concat();
        for piece in [1, 5, 1 << 20] {
            assert!(through(&bytes, piece).await == expected, "in pieces of {piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_malformed_passes_as_it_is_with_all_that_comes_after_it() {
        let odd = frame(HEADERS, END_HEADERS, 3, b"\x44\x02/<");
        for broken in [
            frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),
            frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09a"),
            frame(CONTINUATION, END_HEADERS, 1, b"\x82"),
            [frame(HEADERS, 0, 1, b"\x82"), frame(0, 0, 1, b"data")].concat(),
            [frame(HEADERS, 0, 1, b"\x82"), frame(CONTINUATION, END_HEADERS, 3, b"\x82")].concat(),
            vec![0xff; 64],
        ] {
            let bytes = [PREFACE, &broken, &odd].concat();
            assert!(through(&bytes, 1 << 20).await == bytes, "{broken:?}");
            assert!(through(&bytes, 3).await == bytes, "{broken:?}");
        }
    }

    #[test]
    fn the_places_between_frames_are_found_however_they_are_written() {
        let frames = [
            frame(HEADERS, END_HEADERS, 1, b"block"),
            frame(0, 1, 1, b"data"),
            [frame(HEADERS, 0, 3, b"blo"), frame(CONTINUATION, END_HEADERS, 3, b"ck")].concat(),
            frame(4, 1, 0, b""),
        ];
        let bytes = frames.concat();
        let mut outward = Outward::default();
        let mut at = 0;
        for frame in &frames {
            assert_eq!(outward.until_between(&bytes[at..]), frame.len());
            for byte in frame {
                outward.went(&[*byte]);
            }
            assert!(outward.is_between());
            at += frame.len();
        }
        outward.went(&bytes[..3]);
        assert!(!outward.is_between());
        assert_eq!(outward.until_between(&bytes[3..]), frames[0].len() - 3);
    }
}
