//! A client's connection as HTTP sees it: it tells the watchdog what it does, and ends in stages.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::between::Between;
use crate::exchange::{Activity, Transport};
use crate::limits::Limits;

/// A client that has shut down its side may still be waiting for an answer (`ncat`, `socat`), or it is gone: the two look
/// alike. So long is the answer waited for; nginx gives it no time at all, HAProxy all that it wants.
const LAST_WORD: Duration = Duration::from_secs(1);

pub struct Watched<S: Transport> {
    /// `None` once it was taken out.
    stream: Option<Between<S>>,
    activity: Arc<Activity>,
    last_word: Option<Pin<Box<Sleep>>>,
    /// Something was written since something was read: an answer has begun.
    answering: bool,
    /// The client's side has ended.
    ended: bool,
    /// So has ours, in good order.
    shut: bool,
    linger: (Duration, usize),
}

impl<S: Transport> Watched<S> {
    pub fn new(stream: Between<S>, activity: Arc<Activity>, limits: &Limits) -> Self {
        Self {
            stream: Some(stream),
            activity,
            last_word: None,
            answering: false,
            ended: false,
            shut: false,
            linger: (limits.linger, limits.linger_bytes),
        }
    }

    /// The client's stream, and what was read of it that hyper has not had.
    pub fn into_parts(mut self) -> Option<(S, Bytes)> {
        self.stream.take().map(Between::into_parts)
    }

    /// The client's data has ended. Is it to be told yet?
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ended = !self.stream.as_ref().is_some_and(Between::is_refusing);
        // The end of what is owed wakes this task.
        self.activity.await_end();
        // In TLS too, where close_notify ends one side alone (RFC 8446 §6.1). What follows an upgrade has ends of its own, and
        // half an end is passed on as one.
        if !self.stream.as_ref().is_some_and(Between::is_owed) || self.activity.is_handed_over() {
            return Poll::Ready(());
        }
        if self.answering {
            // Writing tells whether the client is there.
            return Poll::Pending;
        }
        self.last_word.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WORD))).as_mut().poll(cx)
    }

    fn write<T>(&mut self, write: impl FnOnce(Pin<&mut Between<S>>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let written = write(Pin::new(stream));
        self.activity.writes(written.is_pending());
        self.answering = true;
        written
    }
}

impl<S: Transport> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else { return Poll::Ready(Ok(())) };
        let (before, room) = (buf.filled().len(), buf.remaining());
        let read = ready!(Pin::new(stream).poll_read(cx, buf));
        if buf.filled().len() > before {
            this.activity.bytes();
            (this.answering, this.last_word) = (false, None);
        } else if read.is_ok() && room > 0 {
            ready!(this.poll_end(cx));
        } else {
            this.ended |= read.is_err();
        }
        Poll::Ready(read)
    }
}

impl<S: Transport> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(|stream| stream.poll_write(cx, buf))
    }
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.get_mut().write(|stream| stream.poll_write_vectored(cx, bufs))
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else { return Poll::Ready(Ok(())) };
        let flushed = Pin::new(stream).poll_flush(cx);
        if flushed.is_pending() {
            this.activity.writes(true);
        }
        flushed
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else { return Poll::Ready(Ok(())) };
        let done = ready!(Pin::new(stream).poll_shutdown(cx));
        this.shut = done.is_ok();
        Poll::Ready(done)
    }
}

/// RFC 9112 §9.6: to close both sides at once is to have the kernel reset the connection for what the client still sends,
/// and the reset can take our answer away from it. What comes is read until the client has closed its side too.
impl<S: Transport> Drop for Watched<S> {
    fn drop(&mut self) {
        let Some(between) = self.stream.take() else { return };
        if !self.shut && self.activity.ends_by_close() {
            // An orderly end would make a whole answer of what broke off (RFC 9112 §8).
            return between.stream().abort();
        }
        if !self.shut || self.ended {
            return;
        }
        let (mut stream, _) = between.into_parts();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (within, mut left) = self.linger;
        let reading = async move {
            let mut piece = vec![0; 8 * 1024];
            while let Ok(n @ 1..) = stream.read(&mut piece).await {
                left = match left.checked_sub(n) {
                    Some(left) => left,
                    None => return,
                };
            }
        };
        runtime.spawn(tokio::time::timeout(within, reading));
    }
}
