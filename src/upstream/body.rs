//! What is sent as a request body.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};

use crate::draft::Held;

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
}

/// Where a streamed body comes from, shared by the sendings of one request.
#[derive(Clone)]
pub struct Source(Arc<Mutex<Inner>>);

struct Inner {
    body: Incoming,
    flow: Arc<Flow>,
    sendings: usize,
    /// What has passed so far, for the next sending.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    keeping: bool,
}

impl Source {
    pub fn new(body: Incoming, flow: Arc<Flow>) -> Self {
        let inner = Inner { body, flow, sendings: 0, kept: Vec::new(), kept_bytes: 0, keeping: false };
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
        if inner.sendings > 0 && !inner.keeping {
            return None;
        }
        inner.sendings += 1;
        Some(Streamed { source: self.clone(), sending: inner.sendings, sent: 0, hold: None })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Inner {
    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
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

impl Streamed {
    /// Asks nothing of the client before `go`.
    pub fn hold_until(&mut self, go: oneshot::Receiver<()>) {
        self.hold = Some(go);
    }
}

impl Outbound {
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
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outbound::Empty | Outbound::Memory(None) => true,
            Outbound::Memory(Some(_)) => false,
            Outbound::Spilled { left, .. } => *left == 0,
            Outbound::Streamed(streamed) => streamed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outbound::Empty | Outbound::Memory(None) => SizeHint::with_exact(0),
            Outbound::Memory(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Outbound::Spilled { left, .. } => SizeHint::with_exact(*left),
            Outbound::Streamed(streamed) => streamed.size_hint(),
        }
    }
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(hold) = &mut self.hold {
            // A dropped sender counts as leave to go: the wait is over either way.
            let _ = std::task::ready!(Pin::new(hold).poll(cx));
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
