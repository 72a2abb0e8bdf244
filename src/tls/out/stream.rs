//! A TLS connection toward an upstream, by whichever backend.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::formats::alpn::protocol;
use crate::tls::settings::Alpn;

pub enum TlsStream<IO> {
    Rustls(Box<tokio_rustls::client::TlsStream<IO>>),
    #[cfg(feature = "openssl")]
    Openssl(Box<super::openssl::Stream<IO>>),
    /// Its peer may end it without saying so (`close_notify: lenient`).
    Lenient(Box<TlsStream<IO>>),
}

macro_rules! each {
    ($stream:expr, $s:ident => $do:expr) => {
        match $stream {
            TlsStream::Rustls($s) => $do,
            #[cfg(feature = "openssl")]
            TlsStream::Openssl($s) => $do,
            TlsStream::Lenient($s) => $do,
        }
    };
}

impl<IO> TlsStream<IO> {
    /// What it runs on.
    pub fn io(&self) -> &IO {
        match self {
            Self::Rustls(stream) => stream.get_ref().0,
            #[cfg(feature = "openssl")]
            Self::Openssl(stream) => stream.get_ref(),
            Self::Lenient(stream) => stream.io(),
        }
    }

    /// rustls' view of it; `None`: it is OpenSSL's.
    pub fn rustls(&self) -> Option<&rustls::ClientConnection> {
        match self {
            Self::Rustls(stream) => Some(stream.get_ref().1),
            #[cfg(feature = "openssl")]
            Self::Openssl(_) => None,
            Self::Lenient(stream) => stream.rustls(),
        }
    }

    /// The certificate the server showed, DER.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            Self::Rustls(stream) => stream.get_ref().1.peer_certificates()?.first().map(AsRef::as_ref),
            #[cfg(feature = "openssl")]
            Self::Openssl(stream) => Some(stream.peer_certificate()),
            Self::Lenient(stream) => stream.peer_certificate(),
        }
    }

    /// The protocol that was agreed on; `None`: the server chose none.
    pub fn alpn(&self) -> Option<Alpn> {
        match self {
            Self::Rustls(stream) => stream.get_ref().1.alpn_protocol().and_then(protocol),
            #[cfg(feature = "openssl")]
            Self::Openssl(stream) => stream.alpn(),
            Self::Lenient(stream) => stream.alpn(),
        }
    }
}

/// The connection ended, and TLS did not say so: rustls' error, or OpenSSL's, which has no kind of its own.
fn is_end(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::UnexpectedEof || cause.to_string().contains("unexpected eof")
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let is_lenient = matches!(this, Self::Lenient(_));
        match each!(this, s => Pin::new(s).poll_read(cx, buf)) {
            Poll::Ready(Err(cause)) if is_lenient && is_end(&cause) => Poll::Ready(Ok(())),
            read => read,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), s => Pin::new(s).poll_write(cx, buf))
    }
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), s => Pin::new(s).poll_write_vectored(cx, bufs))
    }
    fn is_write_vectored(&self) -> bool {
        each!(self, s => s.is_write_vectored())
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), s => Pin::new(s).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), s => Pin::new(s).poll_shutdown(cx))
    }
}
