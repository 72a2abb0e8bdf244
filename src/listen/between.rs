//! What stands between a client's bytes and hyper: it looks at heads before hyper does, and puts interim answers between
//! what hyper writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::blocks::BlockJudge;
use super::frames::{Inward, Outward};
use super::heads::Heads;
use crate::exchange::Activity;

pub struct Between<S> {
    stream: S,
    activity: Arc<Activity>,
    spoken: Spoken,
}

enum Spoken {
    Http1(Box<Http1>),
    Http2(Box<(Inward, Outward)>),
}

struct Http1 {
    heads: Heads,
    /// All that hyper wrote has left, so that it is between two answers, or before one.
    is_between: bool,
    /// An interim answer that is on its way.
    passing: Bytes,
}

impl<S> Between<S> {
    pub fn http1(stream: S, activity: Arc<Activity>, heads: Heads) -> Self {
        let http1 = Http1 { heads, is_between: true, passing: Bytes::new() };
        Self { stream, activity, spoken: Spoken::Http1(Box::new(http1)) }
    }

    pub fn http2(stream: S, activity: Arc<Activity>, judge: BlockJudge) -> Self {
        let frames = (Inward::new(judge), Outward::default());
        Self { stream, activity, spoken: Spoken::Http2(Box::new(frames)) }
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// It ended reading of itself, to say why; more may come from the client.
    pub fn is_refusing(&self) -> bool {
        matches!(&self.spoken, Spoken::Http1(http1) if http1.heads.is_refusing())
    }

    /// The client's data has ended, and it may wait for an answer nevertheless. On HTTP/2 that end is the connection's.
    pub fn is_owed(&self) -> bool {
        matches!(&self.spoken, Spoken::Http1(http1) if http1.heads.is_owed(&self.activity))
    }

    /// The stream, and what was read of it that hyper has not had.
    pub fn into_parts(self) -> (S, Bytes) {
        match self.spoken {
            Spoken::Http1(http1) => (self.stream, http1.heads.rest()),
            Spoken::Http2(_) => (self.stream, Bytes::new()),
        }
    }
}

impl Http1 {
    /// Puts in what waits. Ready: hyper may write.
    fn poll_put_in<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        activity: &Activity,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.passing.is_empty() {
                let Some(next) = activity.line().take() else { return Poll::Ready(Ok(())) };
                // What hyper still writes may be an answer already; advice comes before it or not at all.
                if !self.is_between {
                    continue;
                }
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Between<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, activity, spoken } = &mut *self;
        // hyper reads whenever its task is woken, so this is where an interim answer gets its turn.
        activity.line().register(cx.waker());
        if activity.line().is_waiting() {
            let put_in = match spoken {
                Spoken::Http1(http1) if http1.is_between => http1.poll_put_in(stream, activity, cx),
                Spoken::Http1(_) => Poll::Pending,
                Spoken::Http2(frames) => frames.1.poll_put_in(stream, activity, cx),
            };
            if let Poll::Ready(done) = put_in {
                done?;
                let _ = Pin::new(&mut *stream).poll_flush(cx)?;
            }
        }
        match spoken {
            Spoken::Http1(http1) => http1.heads.poll_read(stream, activity, cx, buf),
            Spoken::Http2(frames) => frames.0.poll_read(stream, activity, cx, buf),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Between<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, activity, spoken } = &mut *self;
        match spoken {
            Spoken::Http1(http1) => {
                if activity.line().is_waiting() || !http1.passing.is_empty() {
                    std::task::ready!(http1.poll_put_in(stream, activity, cx))?;
                }
                http1.is_between = false;
                Pin::new(stream).poll_write(cx, buf)
            }
            Spoken::Http2(frames) => {
                let outward = &mut frames.1;
                std::task::ready!(outward.poll_put_in(stream, activity, cx))?;
                let most = if activity.line().is_waiting() { outward.until_between(buf) } else { buf.len() };
                let n = std::task::ready!(Pin::new(stream).poll_write(cx, &buf[..most]))?;
                outward.went(&buf[..n]);
                Poll::Ready(Ok(n))
            }
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Self { stream, activity, spoken } = &mut *self;
        if activity.line().is_waiting() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
            return self.poll_write(cx, first);
        }
        match spoken {
            Spoken::Http1(http1) => {
                if !http1.passing.is_empty() {
                    std::task::ready!(http1.poll_put_in(stream, activity, cx))?;
                }
                http1.is_between = false;
                Pin::new(stream).poll_write_vectored(cx, bufs)
            }
            Spoken::Http2(frames) => {
                let outward = &mut frames.1;
                std::task::ready!(outward.poll_put_in(stream, activity, cx))?;
                let n = std::task::ready!(Pin::new(stream).poll_write_vectored(cx, bufs))?;
                let mut left = n;
                for buf in bufs {
                    let went = left.min(buf.len());
                    outward.went(&buf[..went]);
                    left -= went;
                }
                Poll::Ready(Ok(n))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if let Spoken::Http1(http1) = &mut self.spoken {
            http1.is_between = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, spoken, .. } = &mut *self;
        if let Spoken::Http1(http1) = spoken {
            std::task::ready!(http1.heads.poll_last(stream, cx))?;
        }
        Pin::new(stream).poll_shutdown(cx)
    }
}
