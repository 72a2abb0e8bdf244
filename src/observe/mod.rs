//! What is told of an exchange, and to whom: one [`Record`] each, however it ends; one access-log line a record.

mod access;
mod events;
mod line;
mod log;
mod notices;
mod seldom;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::{Method, StatusCode};

pub use access::AccessLog;
pub use events::Events;
pub use log::{Log, LogFormat};
pub use notices::Notices;
pub use seldom::Seldom;

use crate::failure::Failure;
use crate::origin::Origin;

/// What happened in one exchange or tunnel, or in a connection that did not come so far.
pub struct Record {
    /// When it began.
    pub at: SystemTime,
    pub kind: Kind,
    pub client: Client,
    /// Where it went; `None`: that was not known yet.
    pub origin: Option<Arc<Origin>>,
    /// Rules that applied, as `gatepass.yaml:16`; `-` when none did.
    pub rule: Arc<str>,
    /// Credentials and certificate by name.
    pub auth: Arc<str>,
    pub certificate: Arc<str>,
    /// Where no rule gave it anything: those that nearly did, and what differs.
    pub near: Option<Arc<str>>,
    /// The address dialled.
    pub upstream: Option<SocketAddr>,
    pub status: Option<StatusCode>,
    /// Bytes from the client, and to it.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Getting a connection; zero for a kept one.
    pub connect: Duration,
    pub tls: Duration,
    /// Until the head of the answer.
    pub first_byte: Option<Duration>,
    pub total: Duration,
    /// RFC 9209 name and sentence, when gatepass answered itself or the answer broke off.
    pub error: Option<(&'static str, String)>,
    /// What else is to be known of it: of a 401, which credential it was for; why a request went without its credentials.
    pub note: Option<String>,
}

pub enum Kind {
    /// Method, path without the query (it may hold secrets), protocol towards the client and towards the origin.
    Exchange {
        method: Method,
        path: Box<str>,
        downstream: &'static str,
        upstream: &'static str,
    },
    Tunnel,
    /// A client connection that ended before it said where it goes.
    Connection,
}

#[derive(Clone, Default)]
pub struct Client {
    pub address: Option<SocketAddr>,
    pub user: Option<Arc<str>>,
}

/// When something began.
#[derive(Clone, Copy)]
pub struct Start {
    pub at: SystemTime,
    clock: Instant,
}

impl Start {
    pub fn now() -> Self {
        Self { at: SystemTime::now(), clock: Instant::now() }
    }

    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }
}

impl Record {
    /// Of what ended before any of it was carried.
    fn ended(kind: Kind, start: Start, client: Client, origin: Option<Arc<Origin>>, failure: &Failure) -> Self {
        let dash: Arc<str> = Arc::from("-");
        Self {
            at: start.at,
            kind,
            client,
            origin,
            rule: dash.clone(),
            auth: dash.clone(),
            certificate: dash,
            near: None,
            upstream: None,
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            connect: Duration::ZERO,
            tls: Duration::ZERO,
            first_byte: None,
            total: start.elapsed(),
            error: Some((failure.cause.error_name(), failure.in_full())),
            note: None,
        }
    }
}

/// Where records go, and counters that cost nothing.
#[derive(Default)]
pub struct Observe {
    access: Option<AccessLog>,
    notices: Option<Notices>,
    pub counters: Counters,
    pub seldom: Seldom,
    /// Where diagnostics are written, and how that is changed.
    diagnostics: Option<Box<dyn Fn(&Log) + Send + Sync>>,
}

#[derive(Default)]
pub struct Counters {
    pub connections: AtomicU64,
    pub exchanges: AtomicU64,
    pub failures: AtomicU64,
    /// Callers that a listener did not let in.
    pub refused: AtomicU64,
    pub tunnels: AtomicU64,
    pub cut: AtomicU64,
    /// TLS handshakes by clients that failed, by [`Handshake`].
    pub handshakes: [AtomicU64; Handshake::ALL.len()],
}

/// Why a client's TLS handshake failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handshake {
    Untrusted,
    HungUp,
    TimedOut,
    Other,
}

impl Handshake {
    pub const ALL: [(Self, &str); 4] =
        [(Self::Untrusted, "untrusted_ca"), (Self::HungUp, "hung_up"), (Self::TimedOut, "timeout"), (Self::Other, "other")];
}

impl Counters {
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Observe {
    pub fn new(access: Option<AccessLog>) -> Self {
        Self { access, ..Self::default() }
    }

    /// Diagnostics that are set anew by `set` when the configuration's `log` changes.
    pub fn with_diagnostics(mut self, set: impl Fn(&Log) + Send + Sync + 'static) -> Self {
        self.diagnostics = Some(Box::new(set));
        self
    }

    /// Logs as this says from now on.
    pub fn set_log(&self, log: &Log) {
        if let Some(access) = &self.access {
            access.set(log);
        }
        if let Some(set) = &self.diagnostics {
            set(log);
        }
    }

    /// Returns when lines of the access log were dropped that nobody was told of.
    pub async fn lost(&self) {
        match &self.access {
            Some(access) => access.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Lines of the access log that were dropped.
    pub fn dropped(&self) -> u64 {
        self.access.as_ref().map_or(0, AccessLog::dropped)
    }

    /// Says how many were dropped since it was said last.
    pub fn tell_dropped(&self) {
        let dropped = self.access.as_ref().map_or(0, AccessLog::newly_dropped);
        if dropped > 0 {
            tracing::warn!(dropped, "lines of the access log were dropped: whoever reads it is too slow (limits.log_queue)");
        }
    }

    /// No access log, but each thing that goes wrong said once.
    pub fn noticing() -> Self {
        Self { notices: Some(Notices::default()), ..Self::default() }
    }

    /// Is anybody listening? Records are not even made when not.
    pub fn wants_records(&self) -> bool {
        self.notices.is_some() || self.access.as_ref().is_some_and(AccessLog::is_on)
    }

    /// A connection or tunnel was refused, by a status or what stands for it in its protocol.
    pub fn refused(&self, kind: Kind, start: Start, client: Client, origin: Option<Arc<Origin>>, failure: &Failure) {
        if self.wants_records() {
            let record = Record::ended(kind, start, client, origin, failure);
            self.tell(&Record { status: Some(failure.cause.status()), ..record });
        }
    }

    /// It ended by itself, unanswered.
    pub fn broke_off(&self, kind: Kind, start: Start, client: Client, origin: Option<Arc<Origin>>, failure: &Failure) {
        if self.wants_records() {
            self.tell(&Record::ended(kind, start, client, origin, failure));
        }
    }

    pub fn tell(&self, record: &Record) {
        if let Some(access) = self.access.as_ref().filter(|access| access.is_on()) {
            access.write(record);
        }
        if let Some(notices) = &self.notices {
            notices.hear(record);
        }
    }
}
