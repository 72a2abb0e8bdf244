//! A TLS connection toward an upstream, by whichever backend.

use std::io::{self, IoSlice, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::protocol;
use crate::config::Alpn;

pub enum TlsStream<IO> {
    Rustls(Box<tokio_rustls::client::TlsStream<IO>>),
    #[cfg(feature = "openssl")]
    Openssl(Box<super::openssl::Stream<IO>>),
}

macro_rules! each {
    ($stream:expr, $s:ident => $do:expr) => {
        match $stream {
            TlsStream::Rustls($s) => $do,
            #[cfg(feature = "openssl")]
            TlsStream::Openssl($s) => $do,
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
        }
    }

    /// rustls' view of it; `None`: it is OpenSSL's.
    pub fn rustls(&self) -> Option<&rustls::ClientConnection> {
        match self {
            Self::Rustls(stream) => Some(stream.get_ref().1),
            #[cfg(feature = "openssl")]
            Self::Openssl(_) => None,
        }
    }

    /// The certificate the server showed, DER.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            Self::Rustls(stream) => stream.get_ref().1.peer_certificates()?.first().map(AsRef::as_ref),
            #[cfg(feature = "openssl")]
            Self::Openssl(stream) => Some(stream.peer_certificate()),
        }
    }

    /// The protocol that was agreed on; `None`: the server chose none.
    pub fn alpn(&self) -> Option<Alpn> {
        match self {
            Self::Rustls(stream) => stream.get_ref().1.alpn_protocol().and_then(protocol),
            #[cfg(feature = "openssl")]
            Self::Openssl(stream) => stream.alpn(),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), s => Pin::new(s).poll_read(cx, buf))
    }
}

/// What is already there to be read, without waiting.
struct Arrived<'a, 'b, IO> {
    io: &'a mut IO,
    cx: &'a mut Context<'b>,
}

impl<IO: AsyncRead + Unpin> Read for Arrived<'_, '_, IO> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.io).poll_read(self.cx, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// More than a peer says before it closes.
const RECORDS: usize = 16;

impl<IO: AsyncRead + AsyncWrite + Unpin> TlsStream<IO> {
    /// A write failed because the peer has closed. A server that refuses a client certificate in TLS 1.3 does so while the
    /// request is on its way, and says why in an alert before it closes (RFC 8446 §6.2): that is the error then.
    /// Plaintext that comes before it stays to be read.
    fn why(&mut self, cx: &mut Context<'_>, broken: io::Error) -> io::Error {
        let (io, connection) = match self {
            Self::Rustls(stream) => stream.get_mut(),
            #[cfg(feature = "openssl")]
            Self::Openssl(_) => return broken,
        };
        for _ in 0..RECORDS {
            if !matches!(connection.read_tls(&mut Arrived { io: &mut *io, cx: &mut *cx }), Ok(1..)) {
                break;
            }
            if let Err(alert) = connection.process_new_packets() {
                return io::Error::new(io::ErrorKind::InvalidData, alert);
            }
        }
        broken
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = each!(&mut *self, s => Pin::new(s).poll_write(cx, buf));
        written.map_err(|broken| self.why(cx, broken))
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = each!(&mut *self, s => Pin::new(s).poll_write_vectored(cx, bufs));
        written.map_err(|broken| self.why(cx, broken))
    }
    fn is_write_vectored(&self) -> bool {
        each!(self, s => s.is_write_vectored())
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = each!(&mut *self, s => Pin::new(s).poll_flush(cx));
        flushed.map_err(|broken| self.why(cx, broken))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), s => Pin::new(s).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio_rustls::TlsAcceptor;

    use super::super::explain;
    use super::super::testing::*;
    use crate::config::Alpn;

    #[tokio::test]
    async fn a_refusal_that_comes_while_the_request_is_written_is_told_as_such() {
        let ca = Ca::root("Root");
        let client = client(&spec(ca.trust()));
        let config = server_with(&ca.server("api.test"), &[&ca], &[&rustls::version::TLS13]);
        let (near, far) = tokio::io::duplex(64 * 1024);
        // The server reads the handshake, wants a certificate, says so, and closes.
        let serving = tokio::spawn(async move { TlsAcceptor::from(config).accept(far).await.is_err() });
        let mut secured = client.connect(near, &host("api.test"), &[Alpn::Http11]).await.unwrap();
        assert!(serving.await.unwrap());
        let error = secured.stream.write_all(&[b'x'; 4096]).await.unwrap_err();
        let failure = explain::failure(&error, &host("api.test"), &client, &secured.handshake);
        assert!(failure.to_string().contains("no rule names one (alert certificate_required)"), "{failure}");
    }
}
