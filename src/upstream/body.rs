//! What is sent as a request body.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, oneshot};

use super::unread::Unread;
use crate::draft::{Held, Recode};
use crate::failure::Failure;
use crate::limits::Limits;

/// A request body on its way to the origin.
pub enum Outbound {
    Empty,
    Memory(Option<Bytes>),
    /// Read from a temporary file by a blocking task, a few pieces ahead.
    Spilled {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        left: u64,
    },
    Streamed(Streamed),
    Recoded(Box<Recoded>),
    Followed(Box<Followed>),
}

/// A body that is kept to be sent again is kept up to this size; past it, the request has had its one sending.
const KEPT: usize = 64 * 1024;

/// The client's body, passed on as it comes.
pub struct Streamed {
    source: Source,
    /// Which sending this is. One that was given up takes nothing from the next.
    sending: usize,
    /// How many of the kept pieces it has sent.
    sent: usize,
    /// Set while the origin has not yet said `100 Continue` (RFC 9110 §10.1.1): nothing is asked of the client before.
    hold: Option<oneshot::Receiver<()>>,
}

/// What has passed of a streamed body, shared with the exchange.
#[derive(Default)]
pub struct Flow {
    bytes: AtomicU64,
    /// The client's body broke off or was malformed: its fault, not the origin's.
    broken: AtomicBool,
    /// Why it was not sent on to its end, if that was ours to decide.
    refused: OnceLock<Failure>,
}

/// A body that is changed on its way out.
pub struct Recoded {
    body: Outbound,
    recode: Box<dyn Recode>,
    flow: Arc<Flow>,
    /// Of what is to leave, when known.
    left: Option<u64>,
    /// They come after what the recoding has to say at the end.
    trailers: Option<HeaderMap>,
    ended: bool,
}

/// How a request's body gets on, whatever it is made of and however often it is sent; for the bounds on waiting.
pub struct Progress {
    started: Instant,
    /// Milliseconds from `started` to when a piece of it was last handed on.
    moved: AtomicU64,
    /// The origin's side asked for more, and there was none: the client is waited for.
    wanting: AtomicBool,
    ended: AtomicBool,
    /// Nothing may be heard of it for long.
    quiet: bool,
}

impl Progress {
    /// `quiet`: it may be silent by nature.
    pub fn new(quiet: bool) -> Arc<Self> {
        Arc::new(Self {
            quiet,
            started: Instant::now(),
            moved: AtomicU64::new(0),
            wanting: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    /// When it last moved.
    pub fn moved(&self) -> Instant {
        self.started + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// For how long it may stand still.
    pub fn patience(&self, limits: &Limits) -> Duration {
        if self.quiet { limits.tunnel_idle } else { limits.stall }
    }

    /// It waits for the client, not for the origin to take more.
    pub fn is_wanting(&self) -> bool {
        self.wanting.load(Ordering::Relaxed)
    }

    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn note(&self, wanting: bool, ended: bool) {
        self.wanting.store(wanting, Ordering::Relaxed);
        self.ended.store(ended, Ordering::Relaxed);
        if !wanting {
            let moved = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.moved.store(moved, Ordering::Relaxed);
        }
    }
}

/// A body whose progress is told.
pub struct Followed {
    body: Outbound,
    progress: Arc<Progress>,
}

impl Flow {
    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Why the body was not sent on, if that was for what is in it.
    pub fn refusal(&self) -> Option<Failure> {
        self.refused.get().cloned()
    }
}

/// Where a streamed body comes from, shared by the sendings of one request.
#[derive(Clone)]
pub struct Source(Arc<Mutex<Inner>>);

struct Inner {
    body: Unread,
    flow: Arc<Flow>,
    sendings: usize,
    /// What has passed so far, for the next sending.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    keeping: bool,
    /// Something of it has left.
    begun: bool,
    /// Asks the client for it, when it is first wanted.
    ask: Option<Ask>,
}

/// Asks a client for a body that it keeps until then.
pub type Ask = Box<dyn FnOnce() + Send>;

impl Source {
    pub fn new(body: Unread, flow: Arc<Flow>, ask: Option<Ask>) -> Self {
        let inner = Inner { body, flow, sendings: 0, kept: Vec::new(), kept_bytes: 0, keeping: false, begun: false, ask };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Keeps what passes from now on, so that it can be sent again.
    pub fn keep(&self) {
        self.lock().keeping = true;
    }

    /// There was an answer: there will be no other sending.
    pub fn settle(&self) {
        self.lock().keeping = false;
    }

    /// The body from its start: once, or again as long as all that has passed was kept.
    pub fn sending(&self) -> Option<Streamed> {
        let mut inner = self.lock();
        if inner.begun && !inner.keeping {
            return None;
        }
        inner.sendings += 1;
        Some(Streamed { source: self.clone(), sending: inner.sendings, sent: 0, hold: None })
    }

    /// Ends the sending under way if nothing of the body has left: it waited for the origin's `100 Continue`.
    pub fn rewind(&self) -> bool {
        let mut inner = self.lock();
        if !inner.begun {
            inner.sendings += 1;
        }
        !inner.begun
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Inner {
    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        self.begun = true;
        match frame.into_data() {
            Ok(data) => {
                self.flow.add(data.len() as u64);
                self.note(&data);
                Frame::data(data)
            }
            Err(other) => match other.into_trailers() {
                Ok(mut trailers) => {
                    self.keeping = false;
                    clean_trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(other) => other,
            },
        }
    }

    fn note(&mut self, data: &Bytes) {
        self.kept_bytes += data.len();
        self.keeping &= self.kept_bytes <= KEPT;
        if self.keeping {
            self.kept.push(data.clone());
        }
    }
}

/// Holds a body back. Given up without having let it go, it ends the sending.
pub struct Hold {
    go: Mutex<Option<oneshot::Sender<()>>>,
    is_over: AtomicBool,
}

impl Hold {
    /// Lets the body go, unless the answer came first.
    pub fn open(&self) {
        if !self.is_over.load(Ordering::Acquire)
            && let Some(go) = self.go.lock().unwrap_or_else(|e| e.into_inner()).take()
        {
            let _ = go.send(());
        }
    }

    /// The answer is there: what was not let go before stays where it is. True: that is so.
    pub fn end(&self) -> bool {
        self.is_over.store(true, Ordering::Release);
        self.go.lock().unwrap_or_else(|e| e.into_inner()).is_some()
    }
}

impl Streamed {
    /// Asks nothing of the client before it is let go.
    pub fn hold(&mut self) -> Arc<Hold> {
        let (sender, go) = oneshot::channel();
        self.hold = Some(go);
        Arc::new(Hold { go: Mutex::new(Some(sender)), is_over: AtomicBool::new(false) })
    }
}

impl Outbound {
    /// The same body, changed on its way. Nothing stays nothing.
    pub fn recoded(self, recode: Box<dyn Recode>, flow: &Arc<Flow>) -> Self {
        if matches!(self, Outbound::Empty) {
            return self;
        }
        let left = recode.length();
        Outbound::Recoded(Box::new(Recoded { body: self, recode, flow: flow.clone(), left, trailers: None, ended: false }))
    }

    /// The same body, telling how it gets on. Nothing stays nothing.
    pub fn followed(self, progress: &Arc<Progress>) -> Self {
        if matches!(self, Outbound::Empty) {
            return self;
        }
        progress.note(false, false);
        Outbound::Followed(Box::new(Followed { body: self, progress: progress.clone() }))
    }

    /// The client's body in it, when it comes as it is sent.
    pub fn streamed(&mut self) -> Option<&mut Streamed> {
        match self {
            Outbound::Streamed(streamed) => Some(streamed),
            Outbound::Recoded(recoded) => recoded.body.streamed(),
            Outbound::Followed(followed) => followed.body.streamed(),
            _ => None,
        }
    }

    pub fn held(held: &Held) -> Self {
        match held {
            Held::Memory(bytes) if bytes.is_empty() => Outbound::Empty,
            Held::Memory(bytes) => Outbound::Memory(Some(bytes.clone())),
            Held::Spilled(..) => {
                let (sender, pieces) = mpsc::channel(2);
                let held = held.clone();
                let left = held.len();
                tokio::task::spawn_blocking(move || {
                    let read = held.for_each(|piece| {
                        let _ = sender.blocking_send(Ok(Bytes::copy_from_slice(piece)));
                    });
                    if let Err(cause) = read {
                        let _ = sender.blocking_send(Err(cause));
                    }
                });
                Outbound::Spilled { pieces, left }
            }
        }
    }
}

/// Fields that must not arrive as trailers, since they frame, route or authenticate (RFC 9110 §6.5.1).
const FORBIDDEN_TRAILERS: [&str; 14] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Takes out of a trailer section what would act as a header if it were merged.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    for name in FORBIDDEN_TRAILERS {
        trailers.remove(name);
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Outbound::Empty => Poll::Ready(None),
            Outbound::Memory(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Outbound::Spilled { pieces, left } => {
                let piece = std::task::ready!(pieces.poll_recv(cx));
                if let Some(Ok(bytes)) = &piece {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
            Outbound::Streamed(streamed) => streamed.poll(cx),
            Outbound::Recoded(recoded) => recoded.poll(cx),
            Outbound::Followed(followed) => followed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outbound::Empty | Outbound::Memory(None) => true,
            Outbound::Memory(Some(_)) => false,
            Outbound::Spilled { left, .. } => *left == 0,
            Outbound::Streamed(streamed) => streamed.is_end_stream(),
            Outbound::Recoded(recoded) => recoded.ended && recoded.trailers.is_none(),
            Outbound::Followed(followed) => followed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outbound::Empty | Outbound::Memory(None) => SizeHint::with_exact(0),
            Outbound::Memory(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Outbound::Spilled { left, .. } => SizeHint::with_exact(*left),
            Outbound::Streamed(streamed) => streamed.size_hint(),
            Outbound::Recoded(recoded) => recoded.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Outbound::Followed(followed) => followed.body.size_hint(),
        }
    }
}

impl Followed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let ended = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            _ => false,
        };
        self.progress.note(polled.is_pending(), ended);
        polled
    }
}

impl Recoded {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if self.ended {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let made = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Err(cause)) => return Poll::Ready(Some(Err(cause))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.recode.feed(piece),
                    Err(last) => self.end(last.into_trailers().ok()),
                },
                None => self.end(None),
            };
            match made {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => {
                    self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Err(failure) => {
                    let told = io::Error::other(failure.to_string());
                    let _ = self.flow.refused.set(failure);
                    self.flow.broken.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(told)));
                }
            }
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<Bytes, Failure> {
        self.ended = true;
        self.trailers = trailers;
        self.recode.finish()
    }
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(hold) = &mut self.hold {
            if std::task::ready!(Pin::new(hold).poll(cx)).is_err() {
                return Poll::Ready(Some(Err(io::Error::other("the request was answered before its body was asked for"))));
            }
            self.hold = None;
        }
        let mut inner = self.source.lock();
        if inner.sendings != self.sending {
            return Poll::Ready(Some(Err(io::Error::other("the request is being sent anew"))));
        }
        if let Some(piece) = inner.kept.get(self.sent) {
            self.sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if !inner.keeping {
            inner.kept.clear();
            self.sent = 0;
        }
        if let Some(ask) = inner.ask.take() {
            ask();
        }
        let frame = std::task::ready!(Pin::new(&mut inner.body).poll_frame(cx));
        Poll::Ready(match frame {
            None => None,
            Some(Ok(frame)) => {
                let frame = inner.pass(frame);
                self.sent = inner.kept.len();
                Some(Ok(frame))
            }
            Some(Err(cause)) => {
                inner.flow.broken.store(true, Ordering::Relaxed);
                Some(Err(io::Error::other(cause)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        let inner = self.source.lock();
        self.sent >= inner.kept.len() && inner.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.source.lock();
        let kept: usize = inner.kept.iter().skip(self.sent).map(Bytes::len).sum();
        match inner.body.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + kept as u64),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::failure::Cause;

    /// Doubles each byte, holds back the last of each piece, and will have no `!`.
    struct Double(Vec<u8>);

    impl Recode for Double {
        fn feed(&mut self, piece: Bytes) -> Result<Bytes, Failure> {
            if piece.contains(&b'!') {
                return Err(Failure::new(Cause::BadRequest, "there is a `!` in it"));
            }
            let mut made = std::mem::take(&mut self.0);
            made.extend(piece.iter().flat_map(|byte| [*byte, *byte]));
            self.0.extend(made.pop());
            Ok(made.into())
        }

        fn finish(&mut self) -> Result<Bytes, Failure> {
            Ok(std::mem::take(&mut self.0).into())
        }
    }

    fn spilled(pieces: &[&'static str]) -> Outbound {
        let (sender, receiver) = mpsc::channel(8);
        for piece in pieces {
            sender.try_send(Ok(Bytes::from_static(piece.as_bytes()))).unwrap();
        }
        Outbound::Spilled { pieces: receiver, left: 0 }
    }

    #[tokio::test]
    async fn a_recoded_body_leaves_as_it_was_made_to_its_last_byte_and_recodings_stack() {
        let flow = Arc::default();
        let body = spilled(&["a", "", "bc"]).recoded(Box::new(Double(Vec::new())), &flow);
        assert_eq!(body.size_hint().exact(), None);
        let body = body.recoded(Box::new(Double(Vec::new())), &flow);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "aaaabbbbcccc");
        assert!(!flow.is_broken());
        assert!(Outbound::Empty.recoded(Box::new(Double(Vec::new())), &flow).is_end_stream());
    }

    #[tokio::test]
    async fn a_body_that_cannot_be_recoded_breaks_off_and_says_why() {
        let flow = Arc::default();
        let body = spilled(&["ab", "c!", "d"]).recoded(Box::new(Double(Vec::new())), &flow);
        assert!(body.collect().await.is_err());
        assert!(flow.is_broken());
        assert_eq!(flow.refusal().unwrap().details, "there is a `!` in it");
    }
}
