//! HTTP/2 connections, shared by many exchanges.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::super::pulse::Tended;
use super::h1::MOMENT;
use super::message::failure;
use super::{Opened, Outbound, Way};
use crate::failure::Failure;
use crate::tls::out::handshake::Handshake;

pub(super) type Sender = http2::SendRequest<Outbound>;

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) sender: Sender,
    /// It carries gRPC.
    pub(super) grpc: bool,
    pub(super) load: Arc<Load>,
    /// The generation of the route it goes by.
    pub(super) route: u64,
    pub(super) address: Option<SocketAddr>,
    pub(super) handshake: Option<Arc<Handshake>>,
}

/// What a shared connection carries, and may carry.
pub(super) struct Load {
    pub(super) made: Instant,
    pub(super) streams: AtomicUsize,
    /// Milliseconds from `made` to when its last stream ended.
    pub(super) unused: AtomicU64,
    /// SETTINGS_MAX_CONCURRENT_STREAMS of the peer (RFC 9113 §6.5.2).
    pub(super) most: AtomicUsize,
    /// The peer sent GOAWAY: what is under way ends here, what is new goes elsewhere.
    pub(super) leaving: AtomicBool,
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL of the peer (RFC 8441 §3).
    pub(super) extended_connect: AtomicBool,
}

impl Load {
    pub(super) fn new(most: usize) -> Self {
        Self {
            made: Instant::now(),
            streams: AtomicUsize::new(0),
            unused: AtomicU64::new(0),
            most: AtomicUsize::new(most),
            leaving: AtomicBool::new(false),
            extended_connect: AtomicBool::new(false),
        }
    }

    pub(super) fn age(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn is_fresh(&self, bound: Duration) -> bool {
        let unused = self.age().saturating_sub(self.unused.load(Ordering::Relaxed));
        self.streams.load(Ordering::Relaxed) > 0 || u128::from(unused) <= bound.as_millis()
    }
}

/// Of connections that carry nothing, the first of its kind is kept for what comes next. Those that a burst needed beside it
/// are not: each holds what its streams took at most, hundreds of kilobytes.
#[derive(Default)]
pub(super) struct First {
    seen: [bool; 2],
}

impl First {
    /// Is this one kept, that was unused for no longer than `bound`, or not at all?
    pub(super) fn keeps(&mut self, load: &Load, grpc: bool, bound: Duration) -> bool {
        load.is_fresh(bound) && (!std::mem::replace(&mut self.seen[usize::from(grpc)], true) || load.is_fresh(MOMENT))
    }
}

/// Counts one stream of a shared connection for as long as it lives.
pub struct StreamGuard(pub(super) Arc<Load>);

impl StreamGuard {
    pub(super) fn new(load: &Arc<Load>) -> Self {
        load.streams.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.unused.store(self.0.age(), Ordering::Relaxed);
        }
    }
}

/// Servers of gRPC end connections for PINGs that come more often (gRFC A8: 5 minutes).
pub(super) const GRPC_PING: Duration = Duration::from_secs(310);

impl Way {
    /// Begins HTTP/2 on a connection just made.
    pub(super) async fn start_h2(&self, opened: Opened, grpc: bool) -> Result<Shared, Failure> {
        let Opened { stream, handshake, route, .. } = opened;
        let address = stream.peer_addr();
        let limits = self.upstream().limits();
        let ping = if grpc { limits.keep_alive.max(GRPC_PING) } else { limits.keep_alive };
        let stream = Tended::new(stream, limits);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval((!limits.keep_alive.is_zero()).then_some(ping))
            .keep_alive_timeout(limits.keep_alive_timeout)
            .initial_stream_window_size(u32::try_from(limits.h2_stream_window).unwrap_or(u32::MAX))
            .initial_connection_window_size(u32::try_from(limits.h2_connection_window).unwrap_or(u32::MAX))
            .max_send_buf_size(limits.stream_buffer)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| failure(cause, self, handshake.as_deref()))?;
        let load = Arc::new(Load::new(connection.current_max_send_streams()));
        tokio::spawn(Driver { connection: Box::pin(connection), load: load.clone() });
        Ok(Shared { sender, grpc, load, route, address, handshake })
    }
}

pub(super) type H2Connection = http2::Connection<TokioIo<Tended>, Outbound, TokioExecutor>;

/// Runs a shared connection and notes what the peer's settings allow.
pub(super) struct Driver {
    pub(super) connection: Pin<Box<H2Connection>>,
    pub(super) load: Arc<Load>,
}

impl Future for Driver {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let done = self.connection.as_mut().poll(cx);
        self.load.most.store(self.connection.current_max_send_streams(), Ordering::Relaxed);
        self.load.extended_connect.store(self.connection.is_extended_connect_protocol_enabled(), Ordering::Relaxed);
        done.map(|result| {
            if let Err(cause) = result {
                tracing::debug!(%cause, "upstream connection ended");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_connections_that_carry_nothing_one_of_each_kind_is_kept() {
        let bound = Duration::from_secs(60);
        let idle = |seconds| Load { made: Instant::now() - Duration::from_secs(seconds), ..Load::new(100) };
        let busy = Load { streams: AtomicUsize::new(1), ..idle(90) };
        let mut first = First::default();
        let kept =
            [(&idle(90), false), (&idle(30), false), (&idle(30), false), (&idle(0), false), (&busy, false), (&idle(30), true)];
        let kept = kept.map(|(load, grpc)| first.keeps(load, grpc, bound));
        assert_eq!(kept, [false, true, false, true, true, true]);
    }
}
