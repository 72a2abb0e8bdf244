//! HTTP/1.1 connections: each carries one request, or waits for the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::super::body::Hold;
use super::super::forward::Forward;
use super::super::interim::Listener;
use super::super::pulse::{Pulse, Tended};
use super::message::failure;
use super::{Lease, Opened, OriginPool, Outbound};
use crate::failure::Failure;
use crate::tls::out::handshake::Handshake;

pub(super) type Sender = http1::SendRequest<Outbound>;

pub(super) struct Idle {
    pub(super) sender: Sender,
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
    pub(super) fn is_fresh(&self, now: Instant, bound: Duration) -> bool {
        now.saturating_duration_since(self.since) <= self.line.keeps.map_or(bound, |keeps| keeps.min(bound))
    }

    /// May it carry what cannot be sent twice? An origin that is about to close it would leave that undecided.
    pub(super) fn is_sure(&self) -> bool {
        self.line.keeps.is_some() || self.since.elapsed() <= JUST_USED
    }
}

/// Without a word of the origin, a connection that was used so lately is not about to be closed: servers keep them for
/// two seconds at least.
const JUST_USED: Duration = Duration::from_secs(1);

/// What belongs to an HTTP/1.1 connection for its whole life.
pub(super) struct Line {
    pub(super) pulse: Arc<Pulse>,
    /// Runs it.
    pub(super) task: AbortHandle,
    /// For how long it may be unused, as the origin says (`Keep-Alive: timeout`).
    pub(super) keeps: Option<Duration>,
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

impl Line {
    /// `Keep-Alive: timeout=5` (RFC 2068 §19.7.1.1): a second before that, the origin may be closing it already.
    fn hear(&mut self, response: &Response<Incoming>) {
        let Some(said) = response.headers().get(&KEEP_ALIVE).and_then(|said| said.to_str().ok()) else { return };
        let timeout = said.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.trim().parse().ok());
        self.keeps = timeout.map(|seconds: u32| {
            let whole = Duration::from_secs(seconds.into());
            whole.saturating_sub(Duration::from_secs(1)).max(whole / 2)
        });
    }
}

/// A request larger than this may find the peer's window closed (Linux begins with 64 KiB).
const WINDOW: u64 = 16 * 1024;

/// An answer's end is known here a moment before its connection is free.
pub(super) const MOMENT: Duration = Duration::from_secs(1);

/// `None`: there is no request.
pub(super) async fn send(
    sender: &mut Sender,
    line: Option<&mut Line>,
    request: &mut Option<Request<Outbound>>,
    listener: Option<Listener>,
    hold: Option<&Arc<Hold>>,
) -> Option<Result<Response<Incoming>, TrySendError<Request<Outbound>>>> {
    // Ready at once but for a connection of one's own whose last answer is still being read.
    // A closed one says so in the sending below, which hands the request back.
    let _ = sender.ready().await;
    let request = request.take()?;
    let Some(line) = line else { return Some(sender.try_send_request(request).await) };
    line.pulse.carries(request.body().size_hint().exact().is_none_or(|length| length > WINDOW));
    let heard = line.pulse.hearing.listen(listener, hold.cloned());
    let answer = sender.try_send_request(request).await;
    drop(heard);
    if let Ok(response) = &answer {
        line.hear(response);
    }
    Some(answer)
}

impl OriginPool {
    /// Begins HTTP/1.1 on a connection just made.
    pub(super) async fn start_h1(self: &Arc<Self>, opened: Opened, pooled: bool) -> Result<Lease, Failure> {
        let Opened { stream, handshake, timing, forward, route, .. } = opened;
        let address = stream.peer_addr();
        let limits = self.upstream.limits();
        let stream = Tended::new(stream, limits);
        let pulse = stream.pulse();
        let (sender, connection) = http1::Builder::new()
            .max_headers(limits.headers)
            .max_header_size(limits.header_bytes)
            .max_buf_size(limits.h1_buffer())
            // Both are repaired on the way (RFC 9112 §5.1, §5.2): in an answer they are old servers' ways, no attack.
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| failure(cause, self, handshake.as_deref()))?;
        let running = tokio::spawn(async move {
            if let Err(cause) = connection.with_upgrades().await {
                tracing::debug!(%cause, "upstream connection ended");
            }
        });
        let line = Some(Line { pulse, task: running.abort_handle(), keeps: None });
        let sender = super::Sender::H1(sender);
        Ok(Lease {
            sender,
            line,
            pool: self.clone(),
            reused: false,
            moved: false,
            pooled,
            timing,
            address,
            handshake,
            peer_certificate: None,
            forward,
            route,
            hold: None,
            listener: None,
        })
    }
}
