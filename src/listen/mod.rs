//! Accept connections, learn where they want to go, take TLS off or relay.

mod access;
mod arrive;
mod between;
mod blocks;
mod chunks;
mod connect;
mod forward;
mod frames;
mod heads;
mod hpack;
mod intercept;
mod owner;
mod pages;
mod proxy_protocol;
mod reverse;
mod serve_http;
mod sniff;
mod socks5;
mod stream;
mod streams;
mod transparent;
mod tunnel;
mod visit;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::config::{ListenAddress, Mode, ProxyProtocol};
use crate::exchange::Context;
use crate::observe::Counters;
use stream::Place;

/// A bound listener and how its connections are served.
pub struct Bound {
    pub socket: Socket,
    /// As configured, and how many before it have the same; names its access table in the gate.
    pub name: (ListenAddress, usize),
    pub mode: Mode,
    /// As at the start: for when the configuration speaks of this listener no more.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub proxy_protocol: Option<ProxyProtocol>,
}

pub enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted connection.
pub enum Connection {
    Tcp(TcpStream, std::net::SocketAddr),
    Unix(UnixStream),
}

impl Socket {
    async fn accept(&self) -> std::io::Result<Connection> {
        match self {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Connection::Tcp(stream, peer)),
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
        }
    }

    /// `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match self {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }
}

/// What a connection needs to know of its listener.
pub struct Entrance {
    pub context: Arc<Context>,
    pub name: (ListenAddress, usize),
    pub mode: Mode,
    tls: Option<Arc<rustls::ServerConfig>>,
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl Entrance {
    /// Of a reverse listener: where a new connection goes, by the configuration of now; where that speaks of it no more, by
    /// that of the start.
    pub fn upstream(&self) -> Option<Arc<crate::origin::Origin>> {
        let Mode::Reverse(origin) = &self.mode else { return None };
        let now = self.context.gate().reverse_guard(&self.name).and_then(|guard| guard.upstream.clone());
        Some(now.unwrap_or_else(|| Arc::new(origin.clone())))
    }

    /// The TLS to speak with a new connection; a listener's certificate is renewed like any other.
    pub fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.context.gate().listener_tls(&self.name).unwrap_or_else(|| self.tls.clone())
    }
}

/// Accepts until gatepass stops. Connections beyond `limits.connections` wait in the kernel's queue.
/// Strangers share `strangers`: however many come, the rest is for callers that the listener knows.
pub async fn accept(bound: Bound, context: Arc<Context>, permits: Arc<Semaphore>, strangers: Arc<Semaphore>) {
    let Bound { socket, name, mode, tls, proxy_protocol } = bound;
    let entrance = Arc::new(Entrance { context: context.clone(), name, mode, tls, proxy_protocol });
    let mut backoff = Backoff::default();
    let mut late = 0;
    while late < BACKLOG {
        late += usize::from(context.stopping.is_cancelled());
        // A permit is taken for a connection that is there: a listener that waited with one in hand would keep it from the
        // others. In a full house it is one connection that waits here, and all others in the kernel. When gatepass stops, those
        // who have connected are still let in: their requests may be on their way.
        let arriving = async {
            let accepted = socket.accept().await;
            (accepted, permits.clone().acquire_owned().await)
        };
        let (accepted, permit) = tokio::select! {
            biased;
            arrived = arriving => arrived,
            () = context.stopping.cancelled() => return,
        };
        let Ok(permit) = permit else { return };
        match accepted {
            Ok(connection) => {
                backoff.reset();
                Counters::add(&context.observe.counters.connections);
                let (entrance, strangers) = (entrance.clone(), strangers.clone());
                context.tasks.spawn(async move {
                    let visitor = arrive::meet(&entrance, &connection);
                    let share = match entrance.is_stranger(&visitor).then(|| strangers.try_acquire_owned()) {
                        None => None,
                        Some(Ok(share)) => Some(share),
                        Some(Err(_)) => return turn_away(&entrance, &visitor),
                    };
                    arrive::serve(entrance, connection, visitor, Place::new(permit, share)).await;
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

/// No more can have been waiting when gatepass was told to stop.
const BACKLOG: usize = 1024;

/// One stranger too many: its connection is closed unread.
fn turn_away(entrance: &Entrance, visitor: &access::Visitor) {
    Counters::add(&entrance.context.observe.counters.refused);
    tracing::debug!(%visitor, "a caller that this listener does not know is turned away: limits.strangers of them are here already");
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
