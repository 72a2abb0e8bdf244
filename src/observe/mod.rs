//! What is told of an exchange, and to whom: one [`Record`] each, one access-log line a record.

mod access;
mod notices;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};

pub use access::AccessLog;
pub use notices::Notices;

use crate::origin::Origin;

/// What happened in one exchange or tunnel.
pub struct Record {
    pub at: SystemTime,
    pub kind: Kind,
    pub client: Client,
    pub origin: Arc<Origin>,
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
    /// What else should be known of it: why a request went without its credentials.
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
}

#[derive(Clone)]
pub struct Client {
    pub address: Option<SocketAddr>,
    pub user: Option<Arc<str>>,
}

/// Where records go, and counters that cost nothing.
#[derive(Default)]
pub struct Observe {
    access: Option<AccessLog>,
    notices: Option<Notices>,
    pub counters: Counters,
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

    /// No access log, but each thing that goes wrong said once.
    pub fn noticing() -> Self {
        Self { notices: Some(Notices::default()), ..Self::default() }
    }

    /// Is anybody listening? Records are not even made when not.
    pub fn wants_records(&self) -> bool {
        self.access.is_some() || self.notices.is_some()
    }

    pub fn tell(&self, record: &Record) {
        if let Some(access) = &self.access {
            access.write(record);
        }
        if let Some(notices) = &self.notices {
            notices.hear(record);
        }
    }
}
