//! Request heads of HTTP/1, looked at before hyper reads them. What hyper would answer with a bare status gets an answer
//! that says why, and a record; a target that hyper does not take is written so that it does.
//!
//! Where heads begin is known from the framing of what came before (RFC 9112 §6.3), judged as hyper judges it. Where the
//! two could part, nothing is looked at any more.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::chunks::Chunks;
use crate::exchange::Activity;
use crate::failure::{Cause, Failure};
use crate::limits::Limits;

/// Tells of a head that is refused; the answer comes back as it is to be sent.
pub type Teller = Arc<dyn Fn(Method, &str, &Failure) -> Bytes + Send + Sync>;

pub struct Heads {
    state: State,
    /// Read, and not looked at to its end: a head that is not whole yet.
    held: BytesMut,
    /// How much was held when it was last looked at, and how much was searched for a head's end.
    looked: usize,
    searched: usize,
    /// Heads that hyper was given.
    passed: u64,
    /// Looked at, and waiting for hyper to read it.
    ready: BytesMut,
    most_fields: usize,
    most_bytes: usize,
    teller: Teller,
}

enum State {
    Head,
    /// So many bytes of a body are left.
    Sized(u64, After),
    Chunked(Chunks, After),
    /// After a CONNECT or an `Upgrade`: what follows may be something else.
    Undecided,
    /// Not HTTP, or not framed as it should be.
    Blind,
    /// This is to be said before the connection ends.
    Refused(Bytes),
}

/// What follows a body.
#[derive(Clone, Copy)]
enum After {
    Head,
    Undecided,
}

impl From<After> for State {
    fn from(after: After) -> Self {
        match after {
            After::Head => State::Head,
            After::Undecided => State::Undecided,
        }
    }
}

/// What a beginning of bytes is.
enum Step {
    /// Not a whole head yet.
    Partial,
    /// A head of this length, and what follows it.
    Whole(usize, State),
    /// Its target is to be written like this.
    Retarget(std::ops::Range<usize>, Vec<u8>),
    Refuse(Failure),
}

/// Most heads have fewer fields.
const FEW: usize = 32;

/// The path of a target, as records show one that nothing is known of.
pub fn shown(target: &[u8]) -> String {
    let target = String::from_utf8_lossy(target);
    let path = target.split(['?', '#']).next().unwrap_or_default();
    path.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// A head of more than so many bytes.
pub fn too_large(most: usize) -> Failure {
    let details = format!("the head of the request is larger than {most} bytes");
    Failure::new(Cause::HeadTooLarge, details).hint("limits.header_bytes sets the bound")
}

/// Stands in records for a method that is not known.
pub fn unknown_method() -> Method {
    Method::from_bytes(b"-").unwrap_or_default()
}

impl Heads {
    pub fn new(limits: &Limits, teller: Teller) -> Self {
        Self {
            state: State::Head,
            held: BytesMut::new(),
            looked: 0,
            searched: 0,
            passed: 0,
            ready: BytesMut::new(),
            most_fields: limits.headers,
            most_bytes: limits.header_bytes,
            teller,
        }
    }

    pub fn is_refusing(&self) -> bool {
        matches!(self.state, State::Refused(_))
    }

    /// The client's data has ended. Does it still wait for an answer? One whose last message is not whole does not.
    pub fn is_owed(&self, activity: &Activity) -> bool {
        let (busy, waiting) = (activity.is_busy(), activity.begun() < self.passed);
        match self.state {
            State::Head | State::Undecided | State::Blind => busy || waiting,
            // An exchange before this one.
            State::Sized(..) | State::Chunked(..) => busy && waiting,
            State::Refused(_) => false,
        }
    }

    /// What was read and hyper has not had.
    pub fn rest(mut self) -> Bytes {
        self.ready.unsplit(self.held);
        self.ready.freeze()
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
            match &self.state {
                State::Undecided if activity.is_handed_over() => self.state = State::Blind,
                State::Undecided if self.is_through(activity) => self.state = State::Head,
                State::Undecided | State::Blind => return self.pass(stream, activity, cx, buf),
                State::Refused(_) => return Poll::Ready(Ok(())),
                _ if self.held.is_empty() => {
                    let before = buf.filled().len();
                    std::task::ready!(self.pass(stream, activity, cx, buf))?;
                    let fresh = &buf.filled()[before..];
                    let passed = self.walk(fresh, activity);
                    if passed == fresh.len() {
                        return Poll::Ready(Ok(()));
                    }
                    self.held.extend_from_slice(&fresh[passed..]);
                    buf.set_filled(before + passed);
                    self.look(activity);
                    if passed > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                _ if self.has_to_wait(activity) => {
                    activity.await_end();
                    // More than that is left to the kernel, and a client that has gone to the answer's first bytes.
                    let is_full = self.held.len() > self.most_bytes;
                    if self.has_to_wait(activity) && (is_full || !std::task::ready!(self.hold_more(stream, activity, cx))?) {
                        return if is_full { Poll::Pending } else { Poll::Ready(Ok(())) };
                    }
                }
                // It had to wait until now.
                _ if self.looked == 0 => self.look(activity),
                _ => {
                    if !std::task::ready!(self.hold_more(stream, activity, cx))? {
                        return Poll::Ready(Ok(()));
                    }
                    self.look(activity);
                }
            }
        }
    }

    /// The next head is not shown to hyper before the exchange before it has ended: with a request in its buffer hyper does
    /// not read, and would not notice that the client has gone.
    fn has_to_wait(&self, activity: &Activity) -> bool {
        matches!(self.state, State::Head) && !self.is_through(activity)
    }

    /// False: the client's data has ended.
    fn hold_more<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        activity: &Activity,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let mut piece = [0; 4096];
        let mut piece = ReadBuf::new(&mut piece);
        std::task::ready!(Pin::new(stream).poll_read(cx, &mut piece))?;
        if !piece.filled().is_empty() {
            activity.bytes();
            self.held.extend_from_slice(piece.filled());
        }
        Poll::Ready(Ok(!piece.filled().is_empty()))
    }

    /// All requests that hyper was given have become exchanges, and those have ended.
    fn is_through(&self, activity: &Activity) -> bool {
        activity.begun() >= self.passed && !activity.is_busy()
    }

    fn pass<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        activity: &Activity,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            activity.bytes();
        }
        result
    }

    /// Says what is to be said before the end.
    pub fn poll_last<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State::Refused(answer) = &mut self.state else { return Poll::Ready(Ok(())) };
        while !answer.is_empty() {
            let n = std::task::ready!(Pin::new(&mut *stream).poll_write(cx, answer))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            answer.advance(n);
        }
        Pin::new(stream).poll_flush(cx)
    }

    /// How many of these bytes may pass as they are.
    fn walk(&mut self, bytes: &[u8], activity: &Activity) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.has_to_wait(activity) {
                return at;
            }
            match &mut self.state {
                State::Head => match self.step(&bytes[at..]) {
                    Step::Whole(length, next) => {
                        at += length;
                        self.passed += 1;
                        self.state = next;
                    }
                    _ => return at,
                },
                State::Sized(left, after) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    at += n;
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = (*after).into();
                    }
                }
                State::Chunked(chunks, after) => match chunks.walk(&bytes[at..]) {
                    Some((n, ended)) => {
                        at += n;
                        if ended {
                            self.state = (*after).into();
                        }
                    }
                    None => self.state = State::Blind,
                },
                State::Undecided | State::Blind => return bytes.len(),
                State::Refused(_) => return at,
            }
        }
        at
    }

    /// Looks at what is held, as far as there is something new to see.
    fn look(&mut self, activity: &Activity) {
        let grown = self.held.len() >= self.looked * 2 || self.held.len() > self.most_bytes;
        let ended = has_end(&self.held[self.searched.saturating_sub(3)..]);
        self.searched = self.held.len();
        if !grown && !ended {
            return;
        }
        loop {
            let held = std::mem::take(&mut self.held);
            let passed = self.walk(&held, activity);
            self.held = held;
            self.ready.unsplit(self.held.split_to(passed));
            if self.held.is_empty() || self.has_to_wait(activity) {
                break;
            }
            match self.step(&self.held) {
                Step::Whole(..) => {}
                Step::Partial if self.held.len() > self.most_bytes => return self.refuse(&too_large(self.most_bytes)),
                Step::Partial => {
                    self.looked = self.held.len();
                    self.searched = self.looked;
                    return;
                }
                Step::Retarget(at, target) => {
                    let rest = self.held.split_off(at.end);
                    self.held.truncate(at.start);
                    self.held.extend_from_slice(&target);
                    self.held.unsplit(rest);
                }
                Step::Refuse(failure) => return self.refuse(&failure),
            }
        }
        (self.looked, self.searched) = (0, 0);
    }

    fn refuse(&mut self, failure: &Failure) {
        let mut words = self.held[..].split(|byte| matches!(byte, b' ' | b'\r' | b'\n'));
        let method = words.next().and_then(|word| Method::from_bytes(word).ok());
        let target = words.next().unwrap_or_default();
        let answer = (self.teller)(method.unwrap_or_else(unknown_method), &shown(target), failure);
        self.state = State::Refused(answer);
        self.held = BytesMut::new();
    }

    fn step(&self, bytes: &[u8]) -> Step {
        let mut few = [const { MaybeUninit::uninit() }; FEW];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, &mut few) {
            Err(httparse::Error::TooManyHeaders) => {}
            parsed => return self.judge(bytes, parsed, &request),
        }
        let mut many = vec![httparse::EMPTY_HEADER; self.most_fields];
        let mut request = httparse::Request::new(&mut many);
        let parsed = request.parse(bytes);
        self.judge(bytes, parsed, &request)
    }

    fn judge(&self, bytes: &[u8], parsed: httparse::Result<usize>, request: &httparse::Request<'_, '_>) -> Step {
        let length = match parsed {
            Ok(httparse::Status::Partial) => return Step::Partial,
            Ok(httparse::Status::Complete(length)) => length,
            Err(httparse::Error::TooManyHeaders) => {
                let details = format!("the request has more than {} fields", self.most_fields);
                return Step::Refuse(Failure::new(Cause::HeadTooLarge, details).hint("limits.headers sets the bound"));
            }
            Err(why) => {
                let first_line = bytes.contains(&b'\n');
                let refusal = || if first_line { Step::Refuse(bad(&why.to_string())) } else { Step::Partial };
                return target_of_bytes(bytes).unwrap_or_else(refusal);
            }
        };
        if request.headers.len() > self.most_fields || length > self.most_bytes {
            return Step::Refuse(too_large(self.most_bytes));
        }
        let target = request.path.unwrap_or_default();
        if let Some(written) = carried(target.as_bytes()) {
            // Both are parts of one text.
            let start = target.as_ptr() as usize - bytes.as_ptr() as usize;
            return Step::Retarget(start..start + target.len(), written);
        }
        if let Err(failure) = check(target) {
            return Step::Refuse(failure);
        }
        match Self::body(request) {
            Ok(next) => Step::Whole(length, next),
            Err(why) => Step::Refuse(bad(why)),
        }
    }

    /// What follows a head, as hyper has it.
    fn body(request: &httparse::Request<'_, '_>) -> Result<State, &'static str> {
        let (mut length, mut chunked, mut upgrade) = (None, None, false);
        for field in request.headers.iter() {
            match field.name.len() {
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    let last = field.value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
                    chunked = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
                }
                14 if field.name.eq_ignore_ascii_case("content-length") && chunked.is_none() => {
                    let said = number(field.value).ok_or("its Content-Length is not a number")?;
                    if length.replace(said).is_some_and(|before| before != said) {
                        return Err("it gives two lengths");
                    }
                }
                7 if field.name.eq_ignore_ascii_case("upgrade") => upgrade = true,
                _ => {}
            }
        }
        let after = if upgrade || request.method == Some("CONNECT") { After::Undecided } else { After::Head };
        match (chunked, length) {
            (Some(_), _) if request.version != Some(1) => Err("HTTP/1.0 has no Transfer-Encoding"),
            (Some(false), _) => Err("its Transfer-Encoding does not end in chunked"),
            (Some(true), _) => Ok(State::Chunked(Chunks::default(), after)),
            (None, Some(length @ 1..)) => Ok(State::Sized(length, after)),
            _ => Ok(after.into()),
        }
    }
}

fn bad(why: &str) -> Failure {
    Failure::new(Cause::BadRequest, format!("the head of the request is not valid HTTP: {why}"))
}

/// Is there the end of a head?
fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|two| two == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// hyper takes targets that are UTF-8, and no longer ones than this.
const LONGEST_TARGET: usize = 65_534;

fn check(target: &str) -> Result<(), Failure> {
    if target.len() > LONGEST_TARGET {
        let details = format!("the target of the request is longer than {LONGEST_TARGET} bytes");
        return Err(Failure::new(Cause::TargetTooLong, details));
    }
    // What begins with a slash was judged byte for byte; most others have an authority in which nothing can be wrong.
    if target.starts_with('/') || has_plain_authority(target.as_bytes()) {
        return Ok(());
    }
    let parsed = http::Uri::try_from(target).map(drop);
    parsed.map_err(|why| Failure::new(Cause::BadRequest, format!("the target of the request is not valid: {why}")))
}

/// `http://api.test/…`, `http://api.test:8080/…`: a name, a port, and a path that was judged byte for byte. Saves the
/// copy and the parsing of a target that hyper parses again.
fn has_plain_authority(target: &[u8]) -> bool {
    let Some(rest) = target.strip_prefix(b"http://").or_else(|| target.strip_prefix(b"https://")) else { return false };
    let name = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')).count();
    let after = &rest[name..];
    let port = after.strip_prefix(b":").unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    // A `:` alone is left to the parser, as are ports that are too long to be one.
    let end = if port > 0 { 1 + port } else { 0 };
    name > 0 && port <= 5 && after.get(end) == Some(&b'/')
}

/// A target that is not UTF-8: httparse does not show it.
fn target_of_bytes(bytes: &[u8]) -> Option<Step> {
    let start = bytes.iter().position(|byte| *byte == b' ')? + 1;
    let length = bytes[start..].iter().position(|byte| matches!(byte, b' ' | b'\n'))?;
    let target = &bytes[start..start + length];
    let high = target.iter().any(|byte| *byte >= 0x80) && std::str::from_utf8(target).is_err();
    if !high {
        return None;
    }
    carried(target).map(|written| Step::Retarget(start..start + length, written))
}

/// A target with what hyper's URI type cannot hold percent-encoded, which is how a server reads it anyway (RFC 3986
/// §2.1). `None`: it can stay as the client wrote it.
pub fn carried(target: &[u8]) -> Option<Vec<u8>> {
    // Nearly every target; without branches, so that many bytes are looked at at once.
    if !target.iter().fold(false, |any, byte| any | matches!(byte, b'<' | b'>' | b'"' | b'`' | 0x80..)) {
        return None;
    }
    let start = match target {
        [b'/', ..] => 0,
        _ => {
            let authority = target.windows(3).position(|three| three == b"://")? + 3;
            authority + target[authority..].iter().position(|byte| matches!(byte, b'/' | b'?'))?
        }
    };
    let is_text = std::str::from_utf8(target).is_ok();
    let mut in_query = false;
    let mut cannot = |byte: u8| {
        in_query |= byte == b'?';
        match byte {
            b'<' | b'>' => true,
            b'"' => in_query,
            b'`' => !in_query,
            _ => byte >= 0x80 && !is_text,
        }
    };
    let first = start + target[start..].iter().position(|byte| cannot(*byte))?;
    let mut written = target[..first].to_vec();
    for byte in &target[first..] {
        if cannot(*byte) {
            written.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            written.push(*byte);
        }
    }
    Some(written)
}

/// As hyper reads it: digits, and below what it keeps for its own marks.
fn number(text: &[u8]) -> Option<u64> {
    crate::draft::digits(text).filter(|number| *number < u64::MAX - 2)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::listen::between::Between;

    #[test]
    fn a_plain_authority_is_one_that_a_uri_takes() {
        for plain in ["http://api.test/", "https://a-b.test:8080/x?y", "http://127.0.0.1:80/%zz", "http://a:99999/"] {
            assert!(has_plain_authority(plain.as_bytes()) && http::Uri::try_from(plain).is_ok(), "{plain}");
        }
        for other in [
            "http://",
            "http:///x",
            "http://a:/",
            "http://a:123456/",
            "http://u@a/",
            "http://[::1]/",
            "http://a?x",
            "ftp://a/",
            "a:443",
            "*",
        ] {
            assert!(!has_plain_authority(other.as_bytes()), "{other}");
        }
    }

    /// What hyper would read of these bytes, in pieces of this size, and what was refused.
    async fn read(bytes: &[u8], piece: usize) -> (String, Vec<String>) {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let tell = told.clone();
        let teller: Teller = Arc::new(move |method, path, failure| {
            tell.lock().unwrap().push(format!("{method} {path} {} {}", failure.cause.status().as_u16(), failure));
            Bytes::from_static(b"no")
        });
        let limits = Limits { headers: 40, header_bytes: 1024, ..Limits::default() };
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let activity = Activity::new(false);
        // As if each request had been an exchange, but for one that is under way yet.
        let lasts = [&b"CONNECT"[..], b"GET /ws"].iter().any(|first| bytes.starts_with(first));
        let mut exchange = None;
        drop((activity.busy(), activity.busy(), activity.busy()));
        let mut watched = Between::http1(server, activity.clone(), Heads::new(&limits, teller));
        let mut got = Vec::new();
        for piece in bytes.chunks(piece) {
            client.write_all(piece).await.unwrap();
            let read = tokio::time::timeout(std::time::Duration::from_millis(1), watched.read_buf(&mut got));
            let _ = read.await;
            if lasts && exchange.is_none() && !got.is_empty() {
                exchange = Some(activity.busy());
            }
        }
        client.shutdown().await.unwrap();
        while watched.read_buf(&mut got).await.unwrap() > 0 {}
        let told = told.lock().unwrap().clone();
        (String::from_utf8_lossy(&got).into_owned(), told)
    }

    async fn each_way(bytes: &[u8]) -> (String, Vec<String>) {
        let whole = read(bytes, 1 << 20).await;
        for piece in [1, 7, 64] {
            assert_eq!(read(bytes, piece).await, whole, "{piece} {}", String::from_utf8_lossy(bytes));
        }
        whole
    }

    #[tokio::test(start_paused = true)]
    async fn what_hyper_takes_passes_byte_for_byte_whatever_bodies_hold() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 23\r\n\r\nGET /<\"> HTTP/1.1\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nGET /<>`\r\n0\r\n\r\nGET /c HTTP/1.1\r\n\r\n",
            "GET /\"{}|^\\[]?`{}|^'% HTTP/1.1\r\n\r\n",
            "GET /\u{20ac}?\u{20ac} HTTP/1.1\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\n\r\n\x16\x03\x01 anything < at all\r\n\r\n",
            "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x01\x05\0\0\0\0 GET < HTTP\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET /< HTTP/1.1\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a.test/x?y HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(each_way(text.as_bytes()).await, (text.to_owned(), vec![]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_head_waits_for_the_exchange_before_it_and_the_end_of_a_client_shows_meanwhile() {
        const ONE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let teller: Teller = Arc::new(|_, _, _| Bytes::new());
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let activity = Activity::new(false);
        let mut watched = Between::http1(server, activity.clone(), Heads::new(&Limits::default(), teller));
        let moment = std::time::Duration::from_millis(1);
        let mut got = Vec::with_capacity(1024);
        client.write_all(&ONE.repeat(2)).await.unwrap();
        watched.read_buf(&mut got).await.unwrap();
        assert_eq!(got, ONE);
        let first = activity.busy();
        client.write_all(ONE).await.unwrap();
        assert!(tokio::time::timeout(moment, watched.read_buf(&mut got)).await.is_err(), "the first is under way");
        // Whoever waits for the next head is woken by the end of the exchange before it.
        let (read, ()) = tokio::join!(watched.read_buf(&mut got), async { drop(first) });
        assert_eq!((read.unwrap(), &got[..]), (ONE.len(), &ONE.repeat(2)[..]));
        let second = activity.busy();
        client.shutdown().await.unwrap();
        assert_eq!(watched.read_buf(&mut got).await.unwrap(), 0, "it is seen that the client has ended");
        drop(second);
        watched.read_buf(&mut got).await.unwrap();
        assert_eq!(got, ONE.repeat(3), "and what it asked for before that is there");
    }

    #[tokio::test(start_paused = true)]
    async fn targets_that_hyper_does_not_take_are_percent_encoded_and_nothing_else_is() {
        for (written, carried) in [
            (&b"/a<b>`?\"<>`"[..], "/a%3Cb%3E%60?%22%3C%3E`"),
            (b"/\xff\xe9?\xe9", "/%FF%E9?%E9"),
            (b"http://a.test/<?\"", "http://a.test/%3C?%22"),
            (b"http://a.test?\"", "http://a.test?%22"),
        ] {
            let request = |target: &[u8]| [b"GET ", target, b" HTTP/1.1\r\nX: <\"\r\n\r\nGET /next HTTP/1.1\r\n\r\n"].concat();
            let expected = String::from_utf8(request(carried.as_bytes())).unwrap();
            assert_eq!(each_way(&request(written)).await, (expected, vec![]));
        }
    }

    /// An origin may answer as if nothing had been asked (RFC 9110 §7.8), and then another request follows.
    #[tokio::test(start_paused = true)]
    async fn after_the_body_of_a_request_for_an_upgrade_the_next_head_is_looked_at_again() {
        for body in ["Content-Length: 4\r\n\r\nGET ", "Transfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n"] {
            let first = format!("POST / HTTP/1.1\r\nUpgrade: foo\r\n{body}");
            let teller: Teller = Arc::new(|_, _, _| Bytes::from_static(b"no"));
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            let activity = Activity::new(false);
            let mut watched = Between::http1(server, activity.clone(), Heads::new(&Limits::default(), teller));
            let mut got = Vec::new();
            client.write_all(first.as_bytes()).await.unwrap();
            while got.len() < first.len() {
                watched.read_buf(&mut got).await.unwrap();
            }
            // While it lasts, what comes may be anything.
            let exchange = activity.busy();
            client.write_all(b"GET /< ").await.unwrap();
            watched.read_buf(&mut got).await.unwrap();
            drop(exchange);
            client.write_all(b"GET /< HTTP/1.1\r\n\r\n").await.unwrap();
            drop(client);
            while watched.read_buf(&mut got).await.unwrap() > 0 {}
            assert_eq!(String::from_utf8(got).unwrap(), format!("{first}GET /< GET /%3C HTTP/1.1\r\n\r\n"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_hyper_refuses_is_told_with_the_reason_and_the_requests_before_it_pass() {
        let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
        let many: String = (0..50).map(|n| format!("X-{n}: 1\r\n")).collect();
        let long = "x".repeat(2000);
        for (bad, told) in [
            ("GET /a b HTTP/1.1\r\n\r\n".to_owned(), "GET /a 400"),
            ("GET / HTTP/3.0\r\n\r\n".to_owned(), "GET / 400"),
            ("G<T / HTTP/1.1\r\n\r\n".to_owned(), "- / 400"),
            ("GET /p?secret HTTP/1.1\r\nBad Name: 1\r\n\r\n".to_owned(), "GET /p 400"),
            ("GET http://a<b/ HTTP/1.1\r\n\r\n".to_owned(), "GET http://a<b/ 400"),
            ("POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n".to_owned(), "POST / 400"),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), "POST / 400"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(), "POST / 400"),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), "POST / 400"),
            (format!("GET / HTTP/1.1\r\n{many}\r\n"), "GET / 431"),
            (format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"), "GET / 431"),
            (format!("GET /{long}"), "GET /xx"),
        ] {
            let (read, refused) = each_way(format!("{good}{bad}").as_bytes()).await;
            assert_eq!(read, good, "{bad}");
            assert!(refused.len() == 1 && refused[0].starts_with(told), "{bad} {refused:?}");
            assert!(!refused[0].contains("secret"));
        }
    }
}
