//! What bytes come over, and how it ends when its other end did not end well.

use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::upstream::Stream;

pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Lets its closing be a reset (RFC 9293 §3.10.5), where it has one: what was sent is not whole.
    fn abort(&self);
}

impl Transport for TcpStream {
    fn abort(&self) {
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Transport for UnixStream {
    fn abort(&self) {}
}

impl<S: Transport> Transport for tokio_rustls::server::TlsStream<S> {
    fn abort(&self) {
        self.get_ref().0.abort();
    }
}

/// hyper does not show what is under it.
impl Transport for TokioIo<Upgraded> {
    fn abort(&self) {}
}

impl Transport for Stream {
    fn abort(&self) {
        if let Some(tcp) = self.tcp() {
            tcp.abort();
        }
    }
}
