//! Connections of one way out toward one origin.
//!
//! One file for each version of HTTP. hyper's client is known here and nowhere else: what goes out of this room is
//! [`ResponseBody`] and [`SendError`].

mod h1;
mod h2;
mod message;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response};

use self::h1::{Idle, Line, MOMENT};
use self::h2::{First, Shared, StreamGuard};
pub use self::message::{BodyError, ResponseBody, SendError};
use super::body::{BodyProgress, Hold};
use super::forward::Forward;
use super::interim::Listener;
use super::{Deadline, Opened, Outbound, Timing, Upstream};
use crate::failure::{Cause, Failure};
use crate::origin::{Origin, Scheme};
use crate::tls::out::handshake::Handshake;
use crate::tls::settings::Alpn;

/// How long an origin that asked for HTTP/1.1 is given it. It may ask for some of its paths only, and HTTP/2 serves the
/// others better.
const HTTP_1_1_KEPT: Duration = Duration::from_secs(600);

/// One way out to one origin.
pub struct OriginPool {
    upstream: Arc<Upstream>,
    origin: Arc<Origin>,
    idle: Mutex<Vec<Idle>>,
    /// The lock is held while connecting, so that a burst of streams shares one new connection.
    h2: tokio::sync::Mutex<Vec<Shared>>,
    /// The last negotiation ended in HTTP/1.1: do not queue for the lock above.
    speaks_h1: AtomicBool,
    /// Until when, in seconds since `made`, the origin is not asked for HTTP/2.
    http_1_1_until: AtomicU64,
    made: Instant,
    /// What is worth one line of the log was said.
    warned: AtomicBool,
}

/// What kind of connection an exchange wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// As the client itself speaks; a rule's `tls.alpn` has the last word. `prior_knowledge`: it speaks HTTP/2 in clear.
    Mirror { h2: bool, prior_knowledge: bool, grpc: bool },
    /// HTTP/1.1, new, never pooled: upgrades and connection-bound schemes.
    Dedicated,
}

/// Which kept HTTP/1.1 connections will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// Any: should it turn out to be dead, the request is sent again.
    Any,
    /// One that is surely alive, for what cannot be sent twice.
    Alive,
    /// None: a new one.
    Never,
}

enum Sender {
    H1(h1::Sender),
    H2(h2::Sender, StreamGuard),
}

/// A connection lent to one exchange.
pub struct Lease {
    sender: Sender,
    /// Of an HTTP/1.1 connection.
    line: Option<Line>,
    pool: Arc<OriginPool>,
    /// It carried an earlier exchange; the peer may have closed it meanwhile.
    pub reused: bool,
    /// It took the place of another while a request was sent.
    pub moved: bool,
    pooled: bool,
    pub timing: Timing,
    pub address: Option<std::net::SocketAddr>,
    /// What its TLS handshake showed, for explaining errors.
    pub handshake: Option<Arc<Handshake>>,
    /// The certificate the origin showed, DER; only for [`Ask::Dedicated`].
    pub peer_certificate: Option<Vec<u8>>,
    /// It ends at a proxy, which is given requests in absolute form.
    pub(super) forward: Option<Box<Forward>>,
    /// The generation of the route it goes by.
    route: u64,
    /// Of a body that waits to be asked for; it waits no longer than the lease lasts.
    pub hold: Option<Arc<Hold>>,
    /// Who is told of interim answers, if the request goes by HTTP/1: hyper's client does not show those of HTTP/2.
    pub listener: Option<Listener>,
}

impl Lease {
    pub fn pool(&self) -> &Arc<OriginPool> {
        &self.pool
    }

    pub fn is_h2(&self) -> bool {
        matches!(self.sender, Sender::H2(..))
    }

    /// The connection can carry another request.
    pub fn is_open(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => !sender.is_closed(),
            Sender::H2(sender, _) => !sender.is_closed(),
        }
    }

    /// No other exchange is to have this connection.
    pub fn retire(&self) {
        if let Sender::H2(_, guard) = &self.sender {
            guard.0.leaving.store(true, Ordering::Relaxed);
        }
    }

    /// It ran into a limit: nobody is to wait for it again.
    pub fn give_up(&self) {
        self.retire();
        if let Some(line) = &self.line {
            line.task.abort();
        }
    }

    /// The peer's settings left no room for any request, and that was waited for.
    fn was_allowed_no_stream(&self) -> bool {
        matches!(&self.sender, Sender::H2(_, guard) if guard.0.no_streams.load(Ordering::Relaxed))
    }

    /// The peer takes WebSockets as extended CONNECT (RFC 8441).
    pub fn takes_extended_connect(&self) -> bool {
        match &self.sender {
            Sender::H1(_) => false,
            Sender::H2(_, guard) => guard.0.extended_connect.load(Ordering::Relaxed),
        }
    }

    /// Sends the request and waits for the head of its answer. It is taken where it is sent, so that no layer on the way
    /// moves it. `anew` makes it once more, where a proxy at the other end has it sent again.
    ///
    /// # Errors
    /// The connection failed, the answer was malformed, or there was none in time.
    pub async fn send(
        &mut self,
        request: &mut Option<Request<Outbound>>,
        deadline: &Deadline<'_>,
        anew: impl FnMut() -> Option<Request<Outbound>>,
    ) -> Result<Response<ResponseBody>, Box<SendError>> {
        if self.forward.is_none() {
            return self.send_once(request, deadline).await;
        }
        Box::pin(self.send_by_proxy(request, deadline, anew)).await
    }

    pub(super) async fn send_once(
        &mut self,
        request: &mut Option<Request<Outbound>>,
        deadline: &Deadline<'_>,
    ) -> Result<Response<ResponseBody>, Box<SendError>> {
        let sent = {
            let Self { sender, line, pool, listener, hold, .. } = &mut *self;
            let sending = pin!(async {
                match sender {
                    Sender::H1(sender) => h1::send(sender, line.as_mut(), request, listener.clone(), hold.as_ref()).await,
                    Sender::H2(sender, _) => Some(sender.try_send_request(request.take()?).await),
                }
            });
            deadline.bound(&pool.origin, sending).await
        };
        match sent {
            Ok(Some(Ok(response))) => Ok(response.map(ResponseBody::from)),
            Ok(Some(Err(error))) => Err(Box::new(SendError::new(self, error))),
            Ok(None) => Err(Failure::new(Cause::Internal, "the request has left already").into()),
            Err(failure) => {
                if failure.cause == Cause::ResponseTimeout {
                    self.give_up();
                }
                Err(failure.into())
            }
        }
    }

    /// To be called when the answer has been read to its end: an HTTP/1.1 connection goes back to its pool as soon as
    /// the request's body, of which `progress` tells, has been sent to its end too.
    pub fn give_back(self, progress: Option<Arc<BodyProgress>>) {
        if let (Sender::H1(sender), Some(line)) = (self.sender, self.line)
            && self.pooled
            && !sender.is_closed()
        {
            let idle = Idle {
                sender,
                line,
                address: self.address,
                handshake: self.handshake,
                forward: self.forward,
                route: self.route,
                since: Instant::now(),
            };
            if idle.is_free() {
                self.pool.keep(idle);
            } else {
                tokio::spawn(self.pool.settle(idle, progress));
            }
        }
    }
}

impl OriginPool {
    pub(super) fn new(upstream: Arc<Upstream>, origin: Arc<Origin>) -> Self {
        Self {
            upstream,
            origin,
            idle: Mutex::default(),
            h2: tokio::sync::Mutex::default(),
            speaks_h1: AtomicBool::new(false),
            http_1_1_until: AtomicU64::new(0),
            made: Instant::now(),
            warned: AtomicBool::new(false),
        }
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// A connection to send one request on: a kept one, a shared one, or a new one.
    ///
    /// # Errors
    /// No connection can be had.
    pub async fn lease(self: &Arc<Self>, ask: Ask, reuse: Reuse) -> Result<Lease, Failure> {
        let alpn = self.alpn(ask);
        if ask == Ask::Dedicated {
            return self.connect_h1(alpn, false).await;
        }
        let h2 = alpn.contains(&Alpn::H2);
        if h2 && !self.speaks_h1.load(Ordering::Relaxed) {
            return self.lease_h2(alpn, reuse, matches!(ask, Ask::Mirror { grpc: true, .. })).await;
        }
        if let Some(lease) = self.take_idle(reuse).await {
            return Ok(lease);
        }
        let lease = self.connect(alpn).await?;
        Ok(lease)
    }

    /// What is offered to the origin. Without a rule's word: what the client itself speaks.
    fn alpn(&self, ask: Ask) -> &[Alpn] {
        match (ask, &self.upstream.spec().tls.settings.alpn) {
            (Ask::Dedicated, _) => &[Alpn::Http11],
            // In clear there is no negotiation: HTTP/2 is what a rule knows of the origin, or the client.
            (Ask::Mirror { .. }, Some(said)) if said == &[Alpn::H2] => said,
            (Ask::Mirror { prior_knowledge, .. }, _) if self.origin.scheme == Scheme::Http => {
                if prior_knowledge {
                    &[Alpn::H2]
                } else {
                    &[Alpn::Http11]
                }
            }
            (Ask::Mirror { .. }, _) if self.is_turned_to_http_1_1() => &[Alpn::Http11],
            (Ask::Mirror { .. }, Some(said)) => said,
            (Ask::Mirror { h2: true, .. }, None) => &[Alpn::H2, Alpn::Http11],
            (Ask::Mirror { h2: false, .. }, None) => &[Alpn::Http11],
        }
    }

    fn seconds(&self) -> u64 {
        self.made.elapsed().as_secs()
    }

    fn is_turned_to_http_1_1(&self) -> bool {
        let until = self.http_1_1_until.load(Ordering::Relaxed);
        until > 0 && self.seconds() < until
    }

    /// By a rule's word, the origin speaks HTTP/2 and nothing else.
    pub fn is_http_2_alone(&self) -> bool {
        self.upstream.spec().tls.settings.alpn.as_deref() == Some(&[Alpn::H2])
    }

    /// The origin said that it serves this by HTTP/1.1 alone. False: a rule wants HTTP/2 of it.
    pub fn turn_to_http_1_1(&self) -> bool {
        let bound = self.seconds() + HTTP_1_1_KEPT.as_secs();
        self.http_1_1_until.store(bound, Ordering::Relaxed);
        !self.is_http_2_alone()
    }

    async fn take_idle(self: &Arc<Self>, reuse: Reuse) -> Option<Lease> {
        let suits = |idle: &Idle| reuse == Reuse::Any || (reuse == Reuse::Alive && idle.is_sure());
        let now = Instant::now();
        loop {
            let idle = self.idle.lock().unwrap_or_else(|e| e.into_inner()).pop_if(|idle| suits(idle))?;
            let old = idle.route != self.upstream.exit.generation();
            if old || !idle.is_fresh(now, self.upstream.limits().upstream_idle) || !idle.is_free() {
                continue;
            }
            let Idle { mut sender, line, address, handshake, forward, route, .. } = idle;
            // Ready at once.
            if sender.ready().await.is_ok() {
                let sender = Sender::H1(sender);
                let timing = Timing::default();
                return Some(Lease {
                    sender,
                    line: Some(line),
                    pool: self.clone(),
                    reused: true,
                    moved: false,
                    pooled: true,
                    timing,
                    address,
                    handshake,
                    peer_certificate: None,
                    forward,
                    route,
                    hold: None,
                    listener: None,
                });
            }
        }
    }

    fn keep(&self, connection: Idle) {
        let mut idle = self.idle.lock().unwrap_or_else(|e| e.into_inner());
        if idle.len() >= self.upstream.limits().upstream_idle_connections {
            idle.remove(0);
        }
        idle.push(connection);
    }

    /// Waits until the request's body has been sent to its end too. One that does not move is given up.
    async fn settle(self: Arc<Self>, mut idle: Idle, progress: Option<Arc<BodyProgress>>) {
        let moved = || progress.as_ref().map(|progress| progress.moved());
        let bound = if progress.is_some() { self.upstream.limits().stall } else { MOMENT };
        loop {
            let before = moved();
            match tokio::time::timeout(bound, idle.sender.ready()).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return,
                Err(_) if moved() != before => {}
                Err(_) => return idle.line.task.abort(),
            }
        }
        let handed_on = Instant::now();
        while !idle.line.pulse.is_flushed() && handed_on.elapsed() < bound {
            tokio::time::sleep(MOMENT / 20).await;
        }
        if !idle.is_free() {
            return idle.line.task.abort();
        }
        idle.since = Instant::now();
        self.keep(idle);
    }

    async fn lease_h2(self: &Arc<Self>, alpn: &[Alpn], reuse: Reuse, grpc: bool) -> Result<Lease, Failure> {
        let mut shared = self.h2.lock().await;
        let route = self.upstream.exit.generation();
        let bound = self.upstream.limits().upstream_idle;
        let leaving = |c: &Shared| c.route != route || c.load.leaving.load(Ordering::Relaxed) || !c.load.is_fresh(bound);
        shared.retain(|connection| !connection.sender.is_closed() && !leaving(connection));
        let has_room = |c: &Shared| c.load.streams.load(Ordering::Relaxed) < c.load.most.load(Ordering::Relaxed);
        let free = |c: &&Shared| c.grpc == grpc && has_room(c);
        if let Some(connection) = shared.iter().find(free) {
            return Ok(self.share(connection, true, Timing::default()));
        }
        if self.speaks_h1.load(Ordering::Relaxed) {
            drop(shared);
            return match self.take_idle(reuse).await {
                Some(lease) => Ok(lease),
                None => self.connect(alpn).await,
            };
        }
        let opened = self.upstream.open(&self.origin, alpn, false).await?;
        let agreed = opened.agreed;
        let timing = opened.timing;
        let speaks_h2 = agreed == Some(Alpn::H2) || self.origin.scheme == Scheme::Http;
        if !speaks_h2 {
            self.speaks_h1.store(true, Ordering::Relaxed);
            drop(shared);
            return self.start_h1(opened, true).await;
        }
        let connection = self.start_h2(opened, grpc).await?;
        let lease = self.share(&connection, false, timing);
        shared.push(connection);
        Ok(lease)
    }

    fn share(self: &Arc<Self>, connection: &Shared, reused: bool, timing: Timing) -> Lease {
        let sender = Sender::H2(connection.sender.clone(), StreamGuard::new(&connection.load));
        Lease {
            sender,
            line: None,
            pool: self.clone(),
            reused,
            moved: false,
            pooled: true,
            timing,
            address: connection.address,
            handshake: connection.handshake.clone(),
            peer_certificate: None,
            forward: None,
            route: connection.route,
            hold: None,
            listener: None,
        }
    }

    async fn connect(self: &Arc<Self>, alpn: &[Alpn]) -> Result<Lease, Failure> {
        let opened = self.upstream.open(&self.origin, alpn, true).await?;
        let agreed = opened.agreed;
        let timing = opened.timing;
        if agreed != Some(Alpn::H2) {
            return self.start_h1(opened, true).await;
        }
        // It has learnt h2 since the last time.
        self.speaks_h1.store(false, Ordering::Relaxed);
        let connection = self.start_h2(opened, false).await?;
        let lease = self.share(&connection, false, timing);
        self.h2.lock().await.push(connection);
        Ok(lease)
    }

    async fn connect_h1(self: &Arc<Self>, alpn: &[Alpn], pooled: bool) -> Result<Lease, Failure> {
        let opened = self.upstream.open(&self.origin, alpn, false).await?;
        let certificate = opened.stream.peer_certificate().map(<[u8]>::to_vec);
        let mut lease = self.start_h1(opened, pooled).await?;
        lease.peer_certificate = certificate;
        Ok(lease)
    }

    /// True while there is something to keep.
    pub(super) fn sweep(&self) -> bool {
        let (now, bound) = (Instant::now(), self.upstream.limits().upstream_idle);
        let mut idle = self.idle.lock().unwrap_or_else(|e| e.into_inner());
        idle.retain(|idle| idle.is_fresh(now, bound) && !idle.sender.is_closed());
        let shared = self.h2.try_lock().map_or(true, |mut shared| {
            let mut first = First::default();
            shared.retain(|c| !c.sender.is_closed() && first.keeps(&c.load, c.grpc, bound));
            !shared.is_empty()
        });
        shared || !idle.is_empty()
    }

    /// Why an origin may have refused a request although a client certificate is configured: it never asked for it.
    pub fn never_asked(&self, handshake: Option<&Handshake>) -> Option<&'static str> {
        self.upstream.client().never_asked(handshake?)
    }

    /// True the first time.
    pub fn may_warn(&self) -> bool {
        !self.warned.swap(true, Ordering::Relaxed)
    }
}
