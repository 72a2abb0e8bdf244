//! Bytes both ways, blindly: tunnels and upgraded connections.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::context::Context;
use super::transport::Transport;

/// Per direction and tunnel; what a pipe holds by default.
const BUFFER: usize = 16 * 1024;

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
/// drains, silent or not: an answer may be on its way. `context.cut` ends it.
pub async fn relay<A, B>(client: A, upstream: B, idle: Duration, context: &Context) -> Relayed
where
    A: Transport,
    B: Transport,
{
    let (from_client, from_upstream) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut client = Counted { stream: client, read: from_client.clone(), was_reset: false };
    let mut upstream = Counted { stream: upstream, read: from_upstream.clone(), was_reset: false };
    let total = || from_client.load(Ordering::Relaxed) + from_upstream.load(Ordering::Relaxed);
    let end = tokio::select! {
        done = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => match done {
            Ok(_) => End::Closed,
            Err(_) => End::Broken,
        },
        () = silence(idle, total) => End::Idle,
        () = context.cut.cancelled() => {
            super::context::count_cut(context, 1);
            End::Cut
        }
        () = unused(context, total) => End::Closed,
    };
    // Both see how it ended.
    if client.was_reset {
        upstream.stream.abort();
    }
    if upstream.was_reset {
        client.stream.abort();
    }
    Relayed { bytes_in: from_client.load(Ordering::Relaxed), bytes_out: from_upstream.load(Ordering::Relaxed), end }
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
}

impl<S> Counted<S> {
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
        self.seen(result)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
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
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.seen(result)
    }
}
