//! Accept connections, learn where they want to go, take TLS off or relay.

mod access;
mod connect;
mod forward;
mod intercept;
mod pages;
mod reverse;
mod serve_http;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::config::{ListenAddress, Mode};
use crate::exchange::Context;
use crate::observe::Counters;

/// A bound listener and how its connections are served.
pub struct Bound {
    pub listener: TcpListener,
    /// As configured; names its access table in the gate.
    pub address: ListenAddress,
    pub mode: Mode,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// What a connection needs to know of its listener.
pub struct Entrance {
    pub context: Arc<Context>,
    pub address: ListenAddress,
    pub mode: Mode,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Accepts until gatepass stops. Connections beyond `limits.connections` wait in the kernel's queue.
pub async fn accept(bound: Bound, context: Arc<Context>, permits: Arc<Semaphore>) {
    let Bound { listener, address, mode, tls } = bound;
    let entrance = Arc::new(Entrance { context: context.clone(), address, mode, tls });
    let mut backoff = Backoff::default();
    loop {
        // The permit comes before the connection, so that a full house takes nothing from the kernel.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                backoff.reset();
                Counters::add(&context.observe.counters.connections);
                let entrance = entrance.clone();
                context.tasks.spawn(async move {
                    serve(entrance, stream, peer).await;
                    drop(permit);
                });
            }
            // Out of descriptors, mostly: trying at once would spin (accept(2) fails until one is free).
            Err(cause) => {
                drop(permit);
                backoff.wait(&cause).await;
            }
        }
    }
}

async fn serve(entrance: Arc<Entrance>, stream: TcpStream, peer: std::net::SocketAddr) {
    let _ = stream.set_nodelay(true);
    match &entrance.mode {
        Mode::Reverse(origin) => reverse::serve(entrance.clone(), stream, peer, origin.clone()).await,
        Mode::Forward | Mode::Transparent => forward::serve(entrance, stream, peer).await,
    }
}

/// From 10 ms to 1 s, and at most one log line a second.
struct Backoff {
    delay: Duration,
    told: Option<std::time::Instant>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { delay: Self::LEAST, told: None }
    }
}

impl Backoff {
    const LEAST: Duration = Duration::from_millis(10);
    const MOST: Duration = Duration::from_secs(1);

    fn reset(&mut self) {
        self.delay = Self::LEAST;
    }

    async fn wait(&mut self, cause: &std::io::Error) {
        if self.told.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
            tracing::error!(%cause, "cannot accept a connection; raise the limit of open files or lower limits.connections");
            self.told = Some(std::time::Instant::now());
        }
        tokio::time::sleep(self.delay).await;
        self.delay = (self.delay * 2).min(Self::MOST);
    }
}
