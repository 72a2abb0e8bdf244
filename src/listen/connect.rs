//! CONNECT (RFC 9110 §9.3.6): refuse, relay, or take TLS off.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;

use super::intercept;
use super::stream::Prefixed;
use super::tunnel::Tunnel;
use super::watched::Watched;
use crate::config::Action;
use crate::exchange::relay;
use crate::exchange::{Busy, Context, Reply, Transport, refusal};
use crate::failure::{Cause, Failure};
use crate::gate::{Caller, Denial, Fate};
use crate::observe::{Client, Counters, Kind, Record, Start};
use crate::origin::{Host, Origin, Scheme, parse_authority};
use crate::upstream::{Stream, Upstream};

/// What becomes of a tunnel that may be.
pub enum Passage {
    /// Pass bytes blindly to this connection.
    Relay(Stream, Arc<str>),
    Intercept,
}

pub async fn answer<S>(
    context: &Arc<Context>,
    request: Request<Incoming>,
    client: Client,
    caller: Caller,
    busy: Busy,
) -> Response<Reply>
where
    S: Transport,
{
    let started = Start::now();
    let authority = request.uri().authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let (host, port) = match parse_authority(authority) {
        Ok((host, Some(port))) => (host, port),
        wrong => {
            let why = wrong.err().map(|why| format!("CONNECT to what is not a host: {why}"));
            let failure = Failure::new(Cause::BadRequest, why.unwrap_or_else(|| "CONNECT needs HOST:PORT".to_owned()));
            context.observe.refused(Kind::Tunnel, started, client, None, &failure);
            return refuse(&failure);
        }
    };
    let tunnel = Tunnel { started, context: context.clone(), host, port, client, caller, at: None };
    match tunnel.open().await {
        Err(failure) => refuse(&failure),
        Ok(Passage::Relay(stream, rule)) => {
            busy.activity().hand_over();
            let on = hyper::upgrade::on(request);
            context.tasks.spawn(async move {
                match on.await {
                    Ok(upgraded) => relay_upgraded::<S>(upgraded, stream, tunnel, rule, busy).await,
                    Err(_) => tunnel.broke_off(&unused()),
                }
            });
            established()
        }
        Ok(Passage::Intercept) => {
            busy.activity().hand_over();
            let on = hyper::upgrade::on(request);
            context.tasks.spawn(async move {
                let Ok(upgraded) = on.await else { return tunnel.broke_off(&unused()) };
                drop(busy);
                match upgraded.downcast::<TokioIo<Watched<S>>>() {
                    Ok(parts) => {
                        let Some(stream) = unwatched(parts) else { return tunnel.broke_off(&unused()) };
                        intercept::serve(stream, tunnel).await;
                    }
                    Err(upgraded) => intercept::serve(Prefixed::new(bytes::Bytes::new(), TokioIo::new(upgraded)), tunnel).await,
                }
            });
            established()
        }
    }
}

/// The client's stream without what stood before hyper, and all that was read of it in front.
fn unwatched<S>(parts: Parts<TokioIo<Watched<S>>>) -> Option<Prefixed<S>>
where
    S: Transport,
{
    let (stream, rest) = parts.io.into_inner().into_parts()?;
    let read = if rest.is_empty() { parts.read_buf } else { [parts.read_buf, rest].concat().into() };
    Some(Prefixed::new(read, stream))
}

fn unused() -> Failure {
    Failure::new(Cause::ConnectionTerminated, "the client went away before it used the tunnel")
}

fn established() -> Response<Reply> {
    Response::new(Reply::empty())
}

fn refuse(failure: &Failure) -> Response<Reply> {
    with_reason(refusal(failure), failure)
}

/// A CONNECT of a caller that is not let in.
pub fn turned_away(context: &Context, request: &Request<Incoming>, client: Client, failure: &Failure) {
    let target = request.uri().authority().and_then(|authority| parse_authority(authority.as_str()).ok());
    let origin = target.map(|(host, port)| Arc::new(Origin::new(Scheme::Https, host, port.unwrap_or(443))));
    context.observe.refused(Kind::Tunnel, Start::now(), client, origin, failure);
}

/// Many clients show only the reason phrase of a refused CONNECT.
pub fn with_reason(mut response: Response<Reply>, failure: &Failure) -> Response<Reply> {
    let text: String = format!("gatepass: {}", failure.details).chars().filter(|c| (' '..='~').contains(c)).take(200).collect();
    if let Ok(reason) = ReasonPhrase::try_from(text.as_bytes()) {
        response.extensions_mut().insert(reason);
    }
    if failure.cause != Cause::ProxyAuthentication {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Tunnel {
    /// Refuses, dials, or leaves it to the interception, as the rules say; what fails is recorded.
    ///
    /// # Errors
    /// A rule says no, or the host cannot be reached.
    pub async fn open(&self) -> Result<Passage, Failure> {
        let (rule, opened) = match self.fate() {
            Fate::Deny(denial) => {
                let target = format_args!("{}:{}", self.host, self.port);
                let failure = denial.refusal(&target, &self.host, || self.near());
                (denial.rule().cloned().unwrap_or_else(|| "-".into()), Err(failure))
            }
            Fate::Tunnel(rule) => {
                let rule = rule.unwrap_or_else(|| "-".into());
                let near = |failure: Failure| failure.near(self.near_by(&rule).as_deref());
                let opened = self.dial().await.map_err(near);
                (rule, opened)
            }
            // Of a request there is nothing yet: what it may is judged when it comes.
            Fate::Intercept | Fate::StandIn(_) | Fate::Carry => match self.context.gate().authority.permits(&self.host) {
                Ok(()) => return Ok(Passage::Intercept),
                Err(failure) => ("-".into(), Err(failure)),
            },
        };
        match opened {
            Ok(stream) => Ok(Passage::Relay(stream, rule)),
            Err(failure) => {
                self.record(rule, None, None, Some(&failure));
                Err(failure)
            }
        }
    }

    /// What the rules say of it. Where a firewall redirected the client, a `deny` of the address holds too: its name is what
    /// the client says, its address is where the connection goes.
    fn fate(&self) -> Fate {
        let gate = self.context.gate();
        let there = self.at.map(|at| gate.fate(&Host::Ip(at), self.port, &self.caller));
        match there {
            Some(denied @ Fate::Deny(Denial::Rule(_))) => denied,
            _ => gate.fate(&self.host, self.port, &self.caller),
        }
    }

    pub fn origin(&self, scheme: Scheme) -> Arc<Origin> {
        Arc::new(Origin::new(scheme, self.host.clone(), self.port))
    }

    /// The rules that nearly speak of it. What it will carry is not known; on port 80 it is taken to be in clear.
    fn near(&self) -> Option<Arc<str>> {
        let gate = self.context.gate();
        let scheme = if self.port == Scheme::Http.default_port() { Scheme::Http } else { Scheme::Https };
        gate.plan(&self.origin(scheme), &self.caller).near(&gate, &self.caller)
    }

    /// The same, where no rule does.
    fn near_by(&self, rule: &str) -> Option<Arc<str>> {
        if rule == "-" { self.near() } else { None }
    }

    /// The way out of a blind tunnel: that of the rule that says `action: tunnel`, else the default one.
    fn way_out(&self) -> Result<Arc<Upstream>, Failure> {
        let gate = self.context.gate();
        for scheme in [Scheme::Https, Scheme::Http] {
            let decision = gate.plan(&self.origin(scheme), &self.caller).decide(&gate, &Method::GET, "/")?;
            if decision.action == Action::Tunnel {
                return Ok(decision.pool.upstream().clone());
            }
        }
        gate.default_upstream().map_err(|problem| Failure::new(Cause::Internal, problem.message))
    }

    pub async fn dial(&self) -> Result<Stream, Failure> {
        self.way_out()?.reach_at(&self.host, self.port, self.at, Scheme::Https).await
    }

    pub fn record(
        &self,
        rule: Arc<str>,
        stream: Option<std::net::SocketAddr>,
        relayed: Option<&relay::Relayed>,
        failure: Option<&Failure>,
    ) {
        Counters::add(&self.context.observe.counters.tunnels);
        if !self.context.observe.wants_records() {
            return;
        }
        let error = match (failure, relayed.and_then(|relayed| relayed.end.cause())) {
            (Some(failure), _) => Some((failure.cause.error_name(), failure.in_full())),
            (None, ended) => ended.map(|(name, why)| (name, why.to_owned())),
        };
        self.context.observe.tell(&Record {
            at: self.started.at,
            kind: Kind::Tunnel,
            client: self.client.clone(),
            origin: Some(self.origin(Scheme::Https)),
            near: self.near_by(&rule),
            rule,
            auth: "-".into(),
            certificate: "-".into(),
            upstream: stream,
            status: Some(failure.map_or(StatusCode::OK, |failure| failure.cause.status())),
            bytes_in: relayed.map_or(0, |relayed| relayed.bytes_in),
            bytes_out: relayed.map_or(0, |relayed| relayed.bytes_out),
            connect: std::time::Duration::ZERO,
            tls: std::time::Duration::ZERO,
            first_byte: None,
            total: self.started.elapsed(),
            error,
            note: None,
        });
    }

    /// Relays blindly until both sides are done.
    pub async fn relay<C>(self, client: C, upstream: Stream, rule: Arc<str>)
    where
        C: Transport,
    {
        let address = upstream.peer_addr();
        let idle = self.context.gate().limits.tunnel_idle;
        let relayed = relay::relay(client, upstream, relay::Spoken::Unknown, idle, &self.context).await;
        self.record(rule, address, Some(&relayed), None);
    }

    /// It was let through, and came to nothing.
    pub fn broke_off(&self, failure: &Failure) {
        let origin = Some(self.origin(Scheme::Https));
        self.context.observe.broke_off(Kind::Tunnel, self.started, self.client.clone(), origin, failure);
    }
}

async fn relay_upgraded<S>(upgraded: Upgraded, stream: Stream, tunnel: Tunnel, rule: Arc<str>, busy: Busy)
where
    S: Transport,
{
    match upgraded.downcast::<TokioIo<Watched<S>>>() {
        Ok(parts) => match unwatched(parts) {
            Some(client) => tunnel.relay(client, stream, rule).await,
            None => tunnel.broke_off(&unused()),
        },
        Err(upgraded) => tunnel.relay(TokioIo::new(upgraded), stream, rule).await,
    }
    drop(busy);
}
