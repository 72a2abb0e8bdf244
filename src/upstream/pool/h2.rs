//! HTTP/2 connections, shared by many exchanges.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use super::super::pulse::{Pulse, Tended};
use super::h1::MOMENT;
use super::message::failure;
use super::{Opened, OriginPool, Outbound};
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
    /// From the first on, its settings allowed no stream at all, for as long as was waited.
    pub(super) no_streams: AtomicBool,
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
            no_streams: AtomicBool::new(false),
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

/// Streams that may be begun before the peer has said how many it allows; none allows just this many.
const UNTOLD: usize = 101;

/// The time in which settings that were read are in force for certain: another task reads them.
const TAKING_EFFECT: Duration = Duration::from_millis(10);

/// Servers of gRPC end connections for PINGs that come more often (gRFC A8: 5 minutes).
pub(super) const GRPC_PING: Duration = Duration::from_secs(310);

impl OriginPool {
    /// Begins HTTP/2 on a connection just made.
    pub(super) async fn start_h2(&self, opened: Opened, grpc: bool) -> Result<Shared, Failure> {
        let Opened { stream, handshake, route, .. } = opened;
        let address = stream.peer_addr();
        let limits = self.upstream().limits();
        let ping = if grpc { limits.keep_alive.max(GRPC_PING) } else { limits.keep_alive };
        let stream = Tended::new(stream, limits);
        let pulse = stream.pulse();
        let tasks = Tasks::default();
        let (sender, connection) = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval((!limits.keep_alive.is_zero()).then_some(ping))
            .keep_alive_timeout(limits.keep_alive_timeout)
            .initial_stream_window_size(u32::try_from(limits.h2_stream_window).unwrap_or(u32::MAX))
            .initial_connection_window_size(u32::try_from(limits.h2_connection_window).unwrap_or(u32::MAX))
            .initial_max_send_streams(UNTOLD)
            .max_send_buf_size(limits.stream_buffer)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| failure(cause, self, handshake.as_deref()))?;
        let load = Arc::new(Load::new(UNTOLD));
        let patience = limits.connect;
        let connection = Box::pin(connection);
        tokio::spawn(Driver { connection, load: load.clone(), tasks, pulse, patience, look: None, shut: None });
        Ok(Shared { sender, grpc, load, route, address, handshake })
    }
}

/// Runs what hyper wants to have run for one connection.
#[derive(Clone, Default)]
pub(super) struct Tasks {
    /// The connection itself, which comes first. It outlives its `Driver` for as long as an answer is waited for.
    connection: Arc<OnceLock<AbortHandle>>,
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let running = tokio::spawn(task);
        self.connection.get_or_init(|| running.abort_handle());
    }
}

pub(super) type H2Connection = http2::Connection<TokioIo<Tended>, Outbound, Tasks>;

/// Runs a shared connection and notes what the peer's settings allow.
pub(super) struct Driver {
    pub(super) connection: Pin<Box<H2Connection>>,
    pub(super) load: Arc<Load>,
    tasks: Tasks,
    pulse: Arc<Pulse>,
    /// For how long a peer may allow nothing at all.
    patience: Duration,
    /// Settings came: when they are surely in force.
    look: Option<Pin<Box<Sleep>>>,
    /// The peer has not allowed a stream yet: how long that is waited for.
    shut: Option<Pin<Box<Sleep>>>,
}

impl Driver {
    fn note_settings(&mut self) {
        self.load.most.store(self.connection.current_max_send_streams(), Ordering::Relaxed);
        self.load.extended_connect.store(self.connection.is_extended_connect_protocol_enabled(), Ordering::Relaxed);
    }

    /// Ready: a peer whose settings allowed no stream from the first on has not changed that. Nothing was begun there, and
    /// what waits would wait for ever. One that comes to allow none while streams run is left to end them; new ones go elsewhere.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.load.most.load(Ordering::Relaxed) {
            // It may have allowed some before.
            0 if self.patience.is_zero() => Poll::Pending,
            0 => {
                let patience = self.patience;
                self.shut.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience))).as_mut().poll(cx)
            }
            UNTOLD => Poll::Pending,
            _ => {
                (self.shut, self.patience) = (None, Duration::ZERO);
                Poll::Pending
            }
        }
    }
}

impl Future for Driver {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.pulse.settings_came(cx.waker()) {
            this.look = Some(Box::pin(tokio::time::sleep(TAKING_EFFECT)));
        }
        let done = this.connection.as_mut().poll(cx);
        if this.look.as_mut().is_some_and(|look| look.as_mut().poll(cx).is_ready()) {
            this.look = None;
        }
        this.note_settings();
        if done.is_pending() && this.poll_shut(cx).is_ready() {
            this.load.no_streams.store(true, Ordering::Relaxed);
            if let Some(connection) = this.tasks.connection.get() {
                connection.abort();
            }
            return Poll::Ready(());
        }
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
