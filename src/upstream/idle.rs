//! HTTP/1.1 connections that wait for their next request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::task::AbortHandle;

use super::Outbound;
use super::forward::Forward;
use super::pulse::Pulse;
use crate::tls::out::handshake::Handshake;

pub(super) struct Idle {
    pub(super) sender: http1::SendRequest<Outbound>,
    pub(super) line: Line,
    pub(super) address: Option<SocketAddr>,
    pub(super) handshake: Option<Arc<Handshake>>,
    pub(super) forward: Option<Box<Forward>>,
    pub(super) route: u64,
    pub(super) since: Instant,
}

impl Idle {
    /// Both directions have ended: the answer was read, and of the request nothing is left to be sent.
    pub(super) fn is_free(&self) -> bool {
        self.sender.is_ready() && self.line.pulse.is_flushed()
    }

    /// Unused for no longer than its origin and `bound` allow.
    pub(super) fn is_fresh(&self, bound: Duration) -> bool {
        self.since.elapsed() <= self.line.keeps.map_or(bound, |keeps| keeps.min(bound))
    }

    /// May it carry what cannot be sent twice? An origin that is about to close it would leave that undecided.
    pub(super) fn is_sure(&self) -> bool {
        self.line.keeps.is_some() || self.since.elapsed() <= JUST_USED
    }
}

/// Without a word of the origin, a connection that was used so lately is not about to be closed: servers keep them for
/// two seconds at least.
pub(super) const JUST_USED: Duration = Duration::from_secs(1);

/// What belongs to an HTTP/1.1 connection for its whole life.
pub(super) struct Line {
    pub(super) pulse: Arc<Pulse>,
    /// Runs it.
    pub(super) task: AbortHandle,
    /// For how long it may be unused, as the origin says (`Keep-Alive: timeout`).
    pub(super) keeps: Option<Duration>,
}

impl Line {
    /// `Keep-Alive: timeout=5` (RFC 2068 §19.7.1.1): a second before that, the origin may be closing it already.
    pub(super) fn hear(&mut self, response: &Response<Incoming>) {
        let Some(said) = response.headers().get("keep-alive").and_then(|said| said.to_str().ok()) else { return };
        let timeout = said.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.trim().parse().ok());
        self.keeps = timeout.map(|seconds: u32| {
            let whole = Duration::from_secs(seconds.into());
            whole.saturating_sub(Duration::from_secs(1)).max(whole / 2)
        });
    }
}

/// A request larger than this may find the peer's window closed (Linux begins with 64 KiB).
pub(super) const WINDOW: u64 = 16 * 1024;

/// An answer's end is known here a moment before its connection is free.
pub(super) const MOMENT: Duration = Duration::from_secs(1);
