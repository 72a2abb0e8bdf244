//! Bytes both ways, blindly: tunnels and upgraded connections. Of WebSockets it is known where frames end, so that both
//! sides can be told when gatepass stops.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};

use super::context::Context;
use super::transport::Transport;
use super::websocket::{FrameFollower, going_away};

/// Per direction and tunnel; what a pipe holds by default.
const BUFFER: usize = 16 * 1024;

/// For a Close frame to leave and to be read. Within what a stop allows connections to end in, once the grace period is over.
pub const FAREWELL: Duration = Duration::from_millis(800);

/// What is known of the bytes that pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoken {
    /// Nothing.
    Unknown,
    /// gatepass handed the connection over as a WebSocket.
    WebSocket,
}

/// What a relay carried, and how it ended.
pub struct Relayed {
    /// From the client, and to it.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub end: End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Both sides closed.
    Closed,
    /// One side broke off.
    Broken,
    /// Not a byte either way for the bound.
    Idle,
    /// gatepass stopped and the grace period ended.
    Cut,
}

impl End {
    /// RFC 9209's name for it and a sentence, where it is not as it should be.
    pub fn cause(self) -> Option<(&'static str, &'static str)> {
        match self {
            End::Closed => None,
            End::Broken => Some(("connection_terminated", "one side broke the connection off")),
            End::Idle => Some(("connection_timeout", "it was idle for too long")),
            End::Cut => Some(("connection_terminated", "cut at the end of the grace period")),
        }
    }
}

/// Copies until both sides have closed. A side's end of data is passed on as a half-close. It goes on while gatepass
/// drains, silent or not: an answer may be on its way. `context.cut` ends it, and a WebSocket with a Close frame.
pub async fn relay<A, B>(client: A, upstream: B, spoken: Spoken, idle: Duration, context: &Context) -> Relayed
where
    A: Transport,
    B: Transport,
{
    let (from_client, from_upstream) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut client = Counted::new(client, from_client.clone(), spoken);
    let mut upstream = Counted::new(upstream, from_upstream.clone(), spoken);
    let total = || from_client.load(Ordering::Relaxed) + from_upstream.load(Ordering::Relaxed);
    let (end, stops) = tokio::select! {
        done = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => match done {
            Ok(_) => (End::Closed, false),
            Err(_) => (End::Broken, false),
        },
        () = silence(idle, total) => (End::Idle, false),
        () = context.cut.cancelled() => {
            super::context::count_cut(context, 1);
            (End::Cut, true)
        }
        () = unused(context, total) => (End::Closed, true),
    };
    // Both see how it ended.
    if client.was_reset {
        upstream.stream.abort();
    }
    if upstream.was_reset {
        client.stream.abort();
    }
    let carried =
        Relayed { bytes_in: from_client.load(Ordering::Relaxed), bytes_out: from_upstream.load(Ordering::Relaxed), end };
    if stops {
        say_farewell(client, upstream).await;
    }
    carried
}

/// Tells both sides of a WebSocket that gatepass goes away (RFC 6455 §7.4.1). Not where one has begun to close it, nor
/// inside a frame, whose payload it would become.
async fn say_farewell<A: Transport, B: Transport>(client: Counted<A>, upstream: Counted<B>) {
    let (Some(to_client), Some(to_upstream)) = (&client.frames, &upstream.frames) else { return };
    if to_client.is_closed() || to_upstream.is_closed() {
        return;
    }
    let (tell_client, tell_upstream) = (to_client.is_between(), to_upstream.is_between());
    tokio::join!(end(client.stream, tell_client, false), end(upstream.stream, tell_upstream, true));
}

/// Writes the Close frame, if it may stand here, and reads on until the other end closes, so that no reset takes the frame
/// away.
async fn end<S: Transport>(mut stream: S, may_tell: bool, to_origin: bool) {
    if !may_tell {
        return;
    }
    let telling = async {
        stream.write_all(&going_away(to_origin)).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // It ends here in any case.
    let _ = tokio::time::timeout(FAREWELL, telling).await;
}

/// Returns when `total` has not moved for `bound`.
async fn silence(bound: Duration, total: impl Fn() -> u64) {
    let mut before = total();
    loop {
        tokio::time::sleep(bound).await;
        let now = total();
        if now == before {
            return;
        }
        before = now;
    }
}

/// gatepass stops, and nothing was ever asked through this tunnel: it need not be waited for.
async fn unused(context: &Context, total: impl Fn() -> u64) {
    context.last_call().await;
    if total() > 0 {
        std::future::pending().await
    }
}

/// Counts what is read, so that totals are known however the copying ends.
struct Counted<S> {
    stream: S,
    read: Arc<AtomicU64>,
    was_reset: bool,
    /// Of what is written to it.
    frames: Option<FrameFollower>,
}

impl<S> Counted<S> {
    fn new(stream: S, read: Arc<AtomicU64>, spoken: Spoken) -> Self {
        let frames = (spoken == Spoken::WebSocket).then(FrameFollower::default);
        Self { stream, read, was_reset: false, frames }
    }

    fn seen<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        use io::ErrorKind as E;
        if let Poll::Ready(Err(cause)) = &result {
            self.was_reset |= matches!(cause.kind(), E::ConnectionReset | E::BrokenPipe | E::ConnectionAborted);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        self.seen(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let (Some(frames), Poll::Ready(Ok(n))) = (&mut self.frames, &result) {
            frames.went(&buf[..*n]);
        }
        self.seen(result)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if let (Some(frames), Poll::Ready(Ok(n))) = (&mut self.frames, &result) {
            let mut left = *n;
            for buf in bufs {
                let went = left.min(buf.len());
                frames.went(&buf[..went]);
                left -= went;
            }
        }
        self.seen(result)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.seen(result)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        if let Some(frames) = &mut self.frames {
            frames.close();
        }
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.seen(result)
    }
}
