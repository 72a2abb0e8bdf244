//! Connections that can be broken off in every way, and bytes that can be looked at before they are taken.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::case::How;

pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Io for T {}

pub struct Link {
    io: Box<dyn Io>,
    /// The socket below, for resets.
    socket: socket2::Socket,
    /// What was read and not taken.
    pub ahead: Vec<u8>,
}

impl Link {
    pub fn clear(stream: TcpStream) -> Self {
        let socket = handle(&stream);
        Self::over(stream, socket)
    }

    pub fn over(io: impl Io + 'static, socket: socket2::Socket) -> Self {
        Self { io: Box::new(io), socket, ahead: Vec::new() }
    }

    /// Reads more; 0: the end.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.ahead.reserve(8192);
        self.io.read_buf(&mut self.ahead).await
    }

    /// Ends as a script says. What is on its way is delivered, but for a reset.
    pub async fn end(mut self, how: How) {
        match how {
            How::Reset => {
                let _ = self.socket.set_linger(Some(Duration::ZERO));
            }
            // Unread bytes would make a reset of it.
            How::Gone => self.swallow(Duration::from_millis(1)).await,
            How::Fin => {
                let _ = self.io.shutdown().await;
                self.swallow(Duration::from_secs(1)).await;
            }
        }
    }

    /// Reads what comes until the end, for a time.
    async fn swallow(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, async {
            while self.io.read_buf(&mut self.ahead).await.is_ok_and(|n| n > 0) {
                self.ahead.clear();
            }
        })
        .await;
    }
}

/// A second handle on the socket of a stream.
pub fn handle(stream: &TcpStream) -> socket2::Socket {
    socket2::SockRef::from(stream).try_clone().unwrap()
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
