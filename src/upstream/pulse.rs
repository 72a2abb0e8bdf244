//! The life of an upstream connection, seen from its bytes: what of ours is still on its way, and what the peer said
//! before it went.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Stream;
use super::interim::{Hearing, Lookout};
use crate::limits::Limits;
use crate::tls::out::explain::find;

/// What others may know of a connection.
#[derive(Default)]
pub struct Pulse {
    /// Whoever wants to know that an HTTP/2 peer has said something of its settings (RFC 9113 §6.5).
    settings: AtomicWaker,
    settings_came: AtomicBool,
    /// Bytes of a request are on this side still: the peer does not take them.
    unsent: AtomicBool,
    /// A request is under way whose body may fill the peer's window, which it opens when it likes.
    bulky: AtomicBool,
    pub hearing: Hearing,
    /// What TLS said when the peer ended the connection: the alert. hyper keeps it for a request that is under way alone,
    /// and a server of TLS 1.3 may refuse a client certificate before there is one.
    parting: OnceLock<rustls::Error>,
}

impl Pulse {
    /// All that was to be written has left.
    pub fn is_flushed(&self) -> bool {
        !self.unsent.load(Ordering::Relaxed)
    }

    /// True once for each time that the peer has said something of its settings; this task is woken for the next.
    pub fn settings_came(&self, waker: &Waker) -> bool {
        self.settings.register(waker);
        self.settings_came.swap(false, Ordering::AcqRel)
    }

    /// `read`: what came in one piece. Settings seldom share one with other frames, and are the first that a peer sends.
    fn look_for_settings(&self, read: &[u8]) {
        if let [_, _, _, 4, _, 0, 0, 0, 0, ..] = read {
            self.settings_came.store(true, Ordering::Release);
            self.settings.wake();
        }
    }

    /// What TLS said when the peer ended the connection, if it did.
    pub fn parting(&self) -> Option<&rustls::Error> {
        self.parting.get()
    }

    pub fn carries(&self, bulky: bool) {
        self.bulky.store(bulky, Ordering::Relaxed);
    }
}

/// Has the kernel ask a silent peer for a sign of life (RFC 9293 §3.8.4), so that one that is gone is noticed.
pub fn keep_alive(tcp: &TcpStream, limits: &Limits) {
    if limits.keep_alive.is_zero() {
        return;
    }
    let every = (limits.keep_alive_timeout / 3).max(Duration::from_secs(1));
    let probes = TcpKeepalive::new().with_time(limits.keep_alive.max(Duration::from_secs(1))).with_interval(every);
    #[cfg(target_os = "linux")]
    let probes = probes.with_retries(3);
    let _ = SockRef::from(tcp).set_tcp_keepalive(&probes);
}

/// An upstream connection for HTTP.
pub struct Tended {
    stream: Stream,
    pulse: Arc<Pulse>,
    /// Writing failed. It is told when the peer's last words have been read: an answer, or the TLS alert that says why.
    broken: Option<io::ErrorKind>,
    /// Nothing more comes from the peer.
    ended: bool,
    writer: Option<Waker>,
    lookout: Lookout,
    /// For how long sent bytes may stay unacknowledged.
    patience: Duration,
    impatient: bool,
}

impl Tended {
    pub fn new(stream: Stream, limits: &Limits) -> Self {
        let patience = if limits.keep_alive.is_zero() { Duration::ZERO } else { limits.keep_alive_timeout };
        let mut tended = Self {
            stream,
            pulse: Arc::default(),
            broken: None,
            ended: false,
            writer: None,
            lookout: Lookout::default(),
            patience,
            impatient: false,
        };
        tended.attend();
        tended
    }

    pub fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }

    /// TCP_USER_TIMEOUT, by which the kernel gives up a peer that acknowledges nothing. Not while there is a large body:
    /// it would also end a connection whose peer is there and has closed its window.
    fn attend(&mut self) {
        let impatient = !self.pulse.bulky.load(Ordering::Relaxed) && !self.patience.is_zero();
        if impatient == self.impatient {
            return;
        }
        self.impatient = impatient;
        #[cfg(target_os = "linux")]
        if let Some(tcp) = self.stream.tcp() {
            let _ = SockRef::from(tcp).set_tcp_user_timeout(Some(if impatient { self.patience } else { Duration::ZERO }));
        }
    }

    fn written(&mut self, cx: &Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pulse.unsent.store(true, Ordering::Relaxed);
        match written {
            Poll::Ready(Err(cause)) => self.told(cx, cause),
            done => done,
        }
    }

    fn told<T>(&mut self, cx: &Context<'_>, cause: io::Error) -> Poll<io::Result<T>> {
        if self.ended {
            return Poll::Ready(Err(cause));
        }
        self.broken = Some(cause.kind());
        self.wait(cx)
    }

    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<io::Result<T>> {
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What writing comes to once it has failed.
    fn failed<T>(&mut self, cx: &Context<'_>) -> Option<Poll<io::Result<T>>> {
        let kind = self.broken?;
        Some(if self.ended { Poll::Ready(Err(kind.into())) } else { self.wait(cx) })
    }
}

impl AsyncRead for Tended {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        let mut read = std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
        this.pulse.look_for_settings(&buf.filled()[before..]);
        let nothing = room > 0 && buf.filled().len() == before;
        if nothing || read.is_err() {
            this.ended = true;
            if let Some(said) = read.as_ref().err().and_then(|cause| find(cause)) {
                let _ = this.pulse.parting.set(said.clone());
            }
            if let Some(writer) = this.writer.take() {
                writer.wake();
            }
            if let (Ok(()), Some(kind)) = (&read, this.broken) {
                read = Err(kind.into());
            }
        } else {
            this.lookout.see(&buf.filled()[before..], &this.pulse.hearing);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Tended {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(failed) = this.failed(cx) {
            return failed;
        }
        this.attend();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, written)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(failed) = this.failed(cx) {
            return failed;
        }
        this.attend();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(failed) = this.failed(cx) {
            return failed;
        }
        match std::task::ready!(Pin::new(&mut this.stream).poll_flush(cx)) {
            Ok(()) => {
                this.pulse.unsent.store(false, Ordering::Relaxed);
                Poll::Ready(Ok(()))
            }
            Err(cause) => this.told(cx, cause),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
