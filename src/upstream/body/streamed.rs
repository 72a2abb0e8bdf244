//! The client's body on its way to the origin, as it comes, once or from its start again.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::super::unread::Unread;
use super::clean_trailers;
use super::progress::BodyTally;

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

/// Where a streamed body comes from, shared by the sendings of one request.
#[derive(Clone)]
pub struct Source(Arc<Mutex<Inner>>);

struct Inner {
    body: Unread,
    tally: Arc<BodyTally>,
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
    pub fn new(body: Unread, tally: Arc<BodyTally>, ask: Option<Ask>) -> Self {
        let inner = Inner { body, tally, sendings: 0, kept: Vec::new(), kept_bytes: 0, keeping: false, begun: false, ask };
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
                self.tally.add(data.len() as u64);
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

impl Streamed {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
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
                inner.tally.break_off(None);
                Some(Err(io::Error::other(cause)))
            }
        })
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let inner = self.source.lock();
        self.sent >= inner.kept.len() && inner.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let inner = self.source.lock();
        let kept: usize = inner.kept.iter().skip(self.sent).map(Bytes::len).sum();
        match inner.body.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + kept as u64),
            None => SizeHint::default(),
        }
    }
}
