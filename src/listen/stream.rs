//! Accepted connections: their place among all, and bytes of them that were read to see what is spoken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::exchange::Transport;

/// What a connection takes of `limits.connections`, and of `limits.strangers` if its caller is one. It goes with the stream,
/// so that a tunnel or WebSocket counts for its whole life.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Option<OwnedSemaphorePermit>,
}

impl Place {
    pub fn new(permit: OwnedSemaphorePermit, share: Option<OwnedSemaphorePermit>) -> Self {
        Self { _permit: permit, _share: share }
    }
}

/// A stream of which some bytes were read already.
pub struct Prefixed<S> {
    prefix: Bytes,
    stream: S,
    _place: Option<Place>,
}

impl<S> Prefixed<S> {
    pub fn new(prefix: Bytes, stream: S) -> Self {
        Self { prefix, stream, _place: None }
    }

    /// A connection as it was accepted.
    pub fn accepted(stream: S, place: Place) -> Self {
        Self { prefix: Bytes::new(), stream, _place: Some(place) }
    }

    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Takes `n` bytes away from the front, of those that were read.
    pub fn skip(&mut self, n: usize) {
        self.prefix.advance(n.min(self.prefix.len()));
    }
}

impl<S: AsyncRead + Unpin> Prefixed<S> {
    /// Reads until there are at least `wanted` bytes in front, or the end. They stay readable.
    ///
    /// # Errors
    /// The stream fails.
    pub async fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        use tokio::io::AsyncReadExt;
        while self.prefix.len() < wanted {
            let mut read = Vec::with_capacity(2048);
            read.extend_from_slice(&self.prefix);
            if self.stream.read_buf(&mut read).await? == 0 {
                break;
            }
            self.prefix = read.into();
        }
        Ok(&self.prefix)
    }
}

impl<S: Transport> Transport for Prefixed<S> {
    fn abort(&self) {
        self.stream.abort();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..n]);
        self.prefix.advance(n);
        if self.prefix.is_empty() {
            // Lets the buffer go.
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
