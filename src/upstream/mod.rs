//! One way out: identity, trust, TLS settings, via, and pools of its own.
//!
//! A pooled connection belongs to exactly one [`Upstream`], and an `Upstream` has one [`Spec`]; so
//! there is no pool key in which a field could be forgotten, and no TLS session that another
//! identity could resume. Equal specs (derived `Eq` and `Hash`) are kept across reloads.

pub mod body;
pub mod dial;
mod pool;
mod stream;
mod via;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use body::Outbound;
pub use dial::{Dialer, Policy};
pub use pool::{Ask, Lease, Sender, Way};
pub use stream::Stream;

use crate::config::{Alpn, ConnectTo, EgressDeny, UpstreamProxy};
use crate::failure::{Cause, Failure};
use crate::limits::Limits;
use crate::origin::{Host, Origin, Scheme};
use crate::tls;

/// What makes two ways out the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    pub tls: tls::client::ClientSpec,
    pub connect_to: Option<ConnectTo>,
    pub via: UpstreamProxy,
    /// A rule names the hosts that go this way.
    pub ruled: bool,
}

pub struct Upstream {
    spec: Spec,
    client: tls::client::Client,
    ground: Arc<Ground>,
    ways: Mutex<HashMap<Arc<Origin>, Arc<Way>>>,
}

/// What all ways out of one gate share.
pub struct Ground {
    pub dialer: Arc<Dialer>,
    pub limits: Limits,
    pub egress: Vec<EgressDeny>,
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
    pub fn build(spec: Spec, ground: Arc<Ground>) -> Result<Self, tls::Problem> {
        let client = tls::client::Client::build(&spec.tls, ground.limits.tls_sessions)?;
        Ok(Self { spec, client, ground, ways: Mutex::default() })
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn client(&self) -> &tls::client::Client {
        &self.client
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.ground.limits
    }

    /// The pools toward one origin. Bounded: when there are more origins than `limits.plans`, those
    /// that nobody uses any more are let go.
    pub fn way(self: &Arc<Self>, origin: &Arc<Origin>) -> Arc<Way> {
        let mut ways = self.ways.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(way) = ways.get(origin) {
            return way.clone();
        }
        if ways.len() >= self.limits().plans {
            ways.retain(|_, way| Arc::strong_count(way) > 1);
        }
        let way = Arc::new(Way::new(self.clone(), origin.clone()));
        ways.insert(origin.clone(), way.clone());
        way
    }

    /// Closes connections that were unused for too long; called now and then.
    pub fn sweep(&self) {
        let mut ways = self.ways.lock().unwrap_or_else(|e| e.into_inner());
        ways.retain(|_, way| way.sweep() || Arc::strong_count(way) > 1);
    }

    /// A TCP connection (or a tunnel by way of an upstream proxy) toward `host:port`.
    ///
    /// # Errors
    /// As [`Dialer::connect`], or the upstream proxy refuses.
    pub async fn reach(&self, host: &Host, port: u16, scheme: Scheme) -> Result<Stream, Failure> {
        let (host, port) = match &self.spec.connect_to {
            Some(to) => (&to.host, to.port.unwrap_or(port)),
            None => (host, port),
        };
        let policy = Policy { deny: &self.ground.egress, ruled: self.spec.ruled };
        let within = self.limits().connect;
        match via::choose(&self.spec.via, &self.ground.dialer.environment, host, port, scheme) {
            None => Ok(Stream::Tcp(self.ground.dialer.connect(host, port, &policy, within).await?)),
            Some(via) => via::tunnel(&via, &self.ground.dialer, host, port, within, self.limits()).await,
        }
    }

    /// A connected stream, TLS done where the scheme asks for it, and the protocol that was agreed on.
    async fn open(&self, origin: &Origin, alpn: &[Alpn]) -> Result<(Stream, Option<Alpn>, Timing), Failure> {
        let started = Instant::now();
        let stream = self.reach(&origin.host, origin.port, origin.scheme).await?;
        let connect = started.elapsed();
        if origin.scheme == Scheme::Http {
            return Ok((stream, None, Timing { connect, tls: Duration::ZERO }));
        }
        let handshake = self.handshake(stream, origin, alpn);
        let bound = self.limits().tls_handshake;
        let (stream, agreed) = tokio::time::timeout(bound, handshake).await.map_err(|_| {
            Failure::new(Cause::ConnectionTimeout, format!("the TLS handshake with {origin} took longer than {bound:?}"))
        })??;
        Ok((stream, agreed, Timing { connect, tls: started.elapsed() - connect }))
    }

    async fn handshake(&self, stream: Stream, origin: &Origin, alpn: &[Alpn]) -> Result<(Stream, Option<Alpn>), Failure> {
        let name = self.client.server_name(&origin.host);
        let connector = tokio_rustls::TlsConnector::from(self.client.config(alpn));
        let explain = |cause: std::io::Error| tls::explain::failure(&cause, &origin.host, &self.client);
        let stream = match stream {
            Stream::Tcp(tcp) => Stream::Tls(Box::new(connector.connect(name, tcp).await.map_err(explain)?)),
            other => Stream::NestedTls(Box::new(connector.connect(name, Box::new(other)).await.map_err(explain)?)),
        };
        let agreed = match stream.alpn() {
            Some(b"h2") => Some(Alpn::H2),
            Some(b"http/1.1") => Some(Alpn::Http11),
            _ => None,
        };
        Ok((stream, agreed))
    }
}

/// What a connection's error means: TLS alerts (a refused client certificate shows only at the first
/// read in TLS 1.3), a close without an answer, or an answer that is no HTTP.
fn stream_failure(cause: &hyper::Error, way: &Way) -> Failure {
    let origin = way.origin();
    let client = way.upstream().client();
    if let Some(io) = pool::io_cause(cause) {
        if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) || io.kind() == std::io::ErrorKind::UnexpectedEof {
            return tls::explain::failure(io, &origin.host, client);
        }
        return Failure::new(Cause::ConnectionTerminated, format!("{origin} broke the connection off: {io}"));
    }
    if cause.is_parse() || cause.is_parse_too_large() {
        return Failure::new(Cause::ResponseInvalid, format!("the answer of {origin} is not valid HTTP: {cause}"));
    }
    if cause.is_incomplete_message() || cause.is_canceled() || cause.is_closed() {
        return Failure::new(Cause::ConnectionTerminated, format!("{origin} closed the connection without an answer"));
    }
    Failure::new(Cause::ResponseInvalid, format!("the connection to {origin} failed: {}", chain(cause)))
}

/// An error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
