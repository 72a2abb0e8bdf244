//! One way out: identity, trust, TLS settings, via, and pools of its own.
//!
//! A pooled connection belongs to exactly one [`Upstream`], and an `Upstream` has one [`Spec`]; so
//! there is no pool key in which a field could be forgotten, and no TLS session that another
//! identity could resume. Equal specs (derived `Eq` and `Hash`) are kept across reloads.

pub mod body;
mod deadline;
pub mod dial;
mod dialogue;
pub mod fetch;
mod forward;
pub mod interim;
pub mod pac;
mod pool;
mod proxy;
pub mod pulse;
mod resolve;
mod route;
pub mod settings;
mod short_cache;
mod stream;
mod tunnel;
pub mod unread;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use body::Outbound;
pub use deadline::Deadline;
pub use dial::{Dialer, Policy};
pub use pool::{Ask, BodyError, Lease, OriginPool, ResponseBody, Reuse, SendError};
pub use resolve::Fixed;
pub use route::Route;
pub use stream::Stream;

use crate::failure::{Cause, Failure, Retry};
use crate::limits::Limits;
use crate::origin::{Host, Origin, Scheme};
use crate::tls;
use crate::tls::out::handshake::Handshake;
use crate::tls::settings::Alpn;
use crate::upstream::settings::{ConnectTo, EgressDeny};

/// What makes two ways out the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    pub tls: tls::out::client_spec::ClientSpec,
    pub connect_to: Option<ConnectTo>,
    pub via: Route,
    /// The configuration names the very host that goes this way, which may then be at a special address.
    pub named: bool,
}

pub struct Upstream {
    spec: Spec,
    client: tls::out::client::Client,
    exit: route::Exit,
    net: Arc<NetEnv>,
    pools: Mutex<HashMap<Arc<Origin>, Arc<OriginPool>>>,
}

/// What all ways out of one gate share.
pub struct NetEnv {
    pub dialer: Arc<Dialer>,
    pub limits: Limits,
    pub egress: Vec<EgressDeny>,
    /// `resolve:`.
    pub resolve: Fixed,
}

/// How long the parts of getting a connection took.
#[derive(Clone, Copy, Default, Debug)]
pub struct Timing {
    pub connect: Duration,
    pub tls: Duration,
}

impl Upstream {
    /// # Errors
    /// The TLS settings cannot be made into a configuration.
    pub fn build(spec: Spec, net: Arc<NetEnv>) -> Result<Self, tls::Problem> {
        let client = tls::out::client::Client::build(&spec.tls, net.limits.tls_sessions)?;
        let exit = route::Exit::new(&spec.via, &net.dialer, net.limits.tls_sessions)?;
        Ok(Self { spec, client, exit, net, pools: Mutex::default() })
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn client(&self) -> &tls::out::client::Client {
        &self.client
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.net.limits
    }

    /// The pools toward one origin. Bounded: when there are more origins than `limits.plans`, those
    /// that nobody uses any more are let go.
    pub fn pool(self: &Arc<Self>, origin: &Arc<Origin>) -> Arc<OriginPool> {
        let mut pools = self.pools.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(pool) = pools.get(origin) {
            return pool.clone();
        }
        if pools.len() >= self.limits().plans {
            pools.retain(|_, pool| Arc::strong_count(pool) > 1);
        }
        let pool = Arc::new(OriginPool::new(self.clone(), origin.clone()));
        pools.insert(origin.clone(), pool.clone());
        pool
    }

    /// Closes connections that were unused for too long; called now and then.
    pub fn sweep(&self) {
        let mut pools = self.pools.lock().unwrap_or_else(|e| e.into_inner());
        pools.retain(|_, pool| pool.sweep() || Arc::strong_count(pool) > 1);
    }

    /// A TCP connection (or a tunnel by way of an upstream proxy) toward `host:port`.
    ///
    /// # Errors
    /// As [`Dialer::connect`], or the upstream proxy refuses.
    pub async fn reach(&self, host: &Host, port: u16, scheme: Scheme) -> Result<Stream, Failure> {
        self.reach_at(host, port, None, scheme).await
    }

    /// [`Upstream::reach`] for a client that has already chosen the address `at`: that one is dialled, unless
    /// `connect_to` or an upstream proxy stands before it.
    ///
    /// # Errors
    /// As there.
    pub async fn reach_at(&self, host: &Host, port: u16, at: Option<IpAddr>, scheme: Scheme) -> Result<Stream, Failure> {
        let (host, port, at) = match &self.spec.connect_to {
            Some(to) => (&to.host, to.port.unwrap_or(port), None),
            None => (host, port, at.map(Host::Ip)),
        };
        match self.enter(host, port, at, scheme).await? {
            Entered::Straight(stream) => Ok(stream),
            Entered::At(proxy, stream) => tunnel::through(stream, &proxy, &self.net, host, port).await,
        }
    }

    /// A connection to `host:port`, or to the proxy on the way to it. Of several ways the first that there is; where a
    /// proxy refuses, it has been reached, and no other is asked.
    async fn enter(&self, host: &Host, port: u16, at: Option<Host>, scheme: Scheme) -> Result<Entered, Failure> {
        let net = &self.net;
        let exits = self.exit.exits(host, port, scheme, net).await?;
        let named = self.spec.named || net.resolve.contains_key(host);
        let policy = Policy { deny: &net.egress, named };
        let mut failed: Option<Failure> = None;
        for exit in exits.iter() {
            let entered = match exit {
                None => {
                    let goal = at.as_ref().filter(|_| !net.resolve.contains_key(host)).unwrap_or(host);
                    net.dialer.connect(goal, port, &policy, net).await.map(|tcp| Entered::Straight(Stream::Tcp(tcp)))
                }
                Some(proxy) => {
                    net.dialer.permit_beyond(host, &policy, net).await?;
                    proxy.enter(net).await.map(|stream| Entered::At(proxy.clone(), stream))
                }
            };
            match entered {
                Ok(entered) => return Ok(entered),
                Err(failure) if !failure.cause.is_unreachable() => return Err(failure),
                Err(failure) => failed = Some(after(failed, failure)),
            }
        }
        Err(failed.unwrap_or_else(|| Failure::new(Cause::Internal, format!("there is no way to {host}:{port}"))))
    }

    /// Which way requests to an origin go, where that can be told without the network.
    pub fn told(&self, origin: &Origin) -> Vec<String> {
        let (host, port) = match &self.spec.connect_to {
            Some(to) => (&to.host, to.port.unwrap_or(origin.port)),
            None => (&origin.host, origin.port),
        };
        let mut told = self.exit.told(host, port, origin.scheme, &self.net);
        if let Some(addresses) = self.net.resolve.get(host) {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            told.push(format!("{host} is at {}, as `resolve` says", addresses.join(", ")));
        }
        told
    }

    /// A connected stream, TLS done where the scheme asks for it, and the protocol that was agreed on. `plain`: it is
    /// for HTTP/1.1 requests one by one, so that a proxy may be given them.
    async fn open(&self, origin: &Origin, alpn: &[Alpn], plain: bool) -> Result<Opened, Failure> {
        match self.open_once(origin, alpn, plain).await {
            // Once: the server wants another of several certificates, and now it is known which.
            Err(failure) if failure.retry == Retry::NothingSent => self.open_once(origin, alpn, plain).await,
            done => done,
        }
    }

    async fn open_once(&self, origin: &Origin, alpn: &[Alpn], plain: bool) -> Result<Opened, Failure> {
        let started = Instant::now();
        let route = self.exit.generation();
        let in_clear = |stream, forward| Opened {
            stream,
            agreed: None,
            handshake: None,
            timing: Timing { connect: started.elapsed(), tls: Duration::ZERO },
            forward,
            route,
        };
        // A proxy takes requests in clear as they are, in absolute form (RFC 9112 §3.2.2); many open tunnels to port 443 only.
        let stream = if plain && origin.scheme == Scheme::Http && self.spec.connect_to.is_none() {
            match self.enter(&origin.host, origin.port, None, Scheme::Http).await? {
                Entered::Straight(stream) => stream,
                Entered::At(proxy, stream) if proxy.forwards() => {
                    let forward = Box::new(forward::Forward::new(proxy, &stream));
                    return Ok(in_clear(stream, Some(forward)));
                }
                Entered::At(proxy, stream) => tunnel::through(stream, &proxy, &self.net, &origin.host, origin.port).await?,
            }
        } else {
            self.reach(&origin.host, origin.port, origin.scheme).await?
        };
        if origin.scheme == Scheme::Http {
            return Ok(in_clear(stream, None));
        }
        let connect = started.elapsed();
        let handshake = self.handshake(stream, origin, alpn);
        let bound = self.limits().tls_handshake;
        let (stream, agreed, handshake) = tokio::time::timeout(bound, handshake).await.map_err(|_| {
            Failure::new(Cause::ConnectionTimeout, format!("the TLS handshake with {origin} took longer than {bound:?}"))
        })??;
        let timing = Timing { connect, tls: started.elapsed() - connect };
        Ok(Opened { stream, agreed, handshake: Some(handshake), timing, forward: None, route })
    }

    async fn handshake(
        &self,
        stream: Stream,
        origin: &Origin,
        alpn: &[Alpn],
    ) -> Result<(Stream, Option<Alpn>, Arc<Handshake>), Failure> {
        match stream {
            Stream::Tcp(tcp) => {
                let secured = self.client.connect(tcp, &origin.host, alpn).await?;
                Ok((Stream::Tls(secured.stream), secured.alpn, secured.handshake))
            }
            other => {
                let secured = self.client.connect(Box::new(other), &origin.host, alpn).await?;
                Ok((Stream::NestedTls(secured.stream), secured.alpn, secured.handshake))
            }
        }
    }
}

/// The first step of a way.
enum Entered {
    Straight(Stream),
    At(Arc<proxy::Proxy>, Stream),
}

/// The last failure, with those before it.
fn after(before: Option<Failure>, mut failure: Failure) -> Failure {
    if let Some(before) = before {
        failure.details = format!("{}; then {}", before.details, failure.details);
    }
    failure
}

/// A connection just made.
struct Opened {
    stream: Stream,
    agreed: Option<Alpn>,
    /// What the TLS handshake showed; `None` in clear.
    handshake: Option<Arc<Handshake>>,
    timing: Timing,
    /// It ends at a proxy, which is given requests in absolute form.
    forward: Option<Box<forward::Forward>>,
    /// The generation of the route as it was before the way was chosen.
    route: u64,
}
