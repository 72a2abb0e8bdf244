//! Requests that change what is spoken: WebSockets over HTTP/1.1 (RFC 6455), over HTTP/2 (RFC 8441) and from one to the
//! other; any other protocol that HTTP/1.1's `Upgrade` names (SPDY/3.1 of Kubernetes, Docker's tcp). Bytes are only
//! handed over after a 101 that answers the very request that was sent.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::answer::Reply;
use super::attempts::Attempts;
use super::hold::Payload;
use super::relay::Spoken;
use super::rounds::{self, Answered, Sent, SignedRequest, Transport};
use super::trace::ExchangeTrace;
use super::{ExchangeCx, Outcome, Session, headers, pooled, relay, send};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::gate::{Decision, Gate, Plan};
use crate::moment::random_bytes;
use crate::origin::Scheme;
use crate::upstream::{Ask, Lease, Outbound, ResponseBody, Reuse};

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// A client's wish to speak something else.
pub struct Upgrade {
    client: OnUpgrade,
    wish: Wish,
}

enum Wish {
    WebSocket,
    /// A WebSocket by extended CONNECT on HTTP/2.
    Extended,
    /// What `Upgrade` named; it is nothing to us.
    Other(HeaderValue),
}

impl Upgrade {
    fn is_extended(&self) -> bool {
        matches!(self.wish, Wish::Extended)
    }
}

/// Takes the wish out of the request, if it is one that can be granted. Where it is none, it is dropped with the hop's
/// fields and the request goes on as an ordinary one (RFC 9110 §7.8 lets a server ignore it).
///
/// # Errors
/// A plain CONNECT.
pub fn wanted(parts: &mut Parts) -> Result<Option<Upgrade>, Failure> {
    let extended = parts.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
    super::inbound::check_method(&parts.method, extended)?;
    let wish = if extended {
        parts.method = Method::GET;
        Some(Wish::Extended)
    } else {
        asked_for(parts)
    };
    let Some(wish) = wish else { return Ok(None) };
    Ok(parts.extensions.remove::<OnUpgrade>().map(|client| Upgrade { client, wish }))
}

/// The wish of an HTTP/1.1 request.
fn asked_for(parts: &Parts) -> Option<Wish> {
    if parts.version != Version::HTTP_11 || !parts.headers.contains_key(header::UPGRADE) {
        return None;
    }
    let connection = parts.headers.get_all(header::CONNECTION);
    if !tokens(connection).any(|token| token.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    if is_websocket(parts) {
        return Some(Wish::WebSocket);
    }
    let offered: Vec<&[u8]> = tokens(parts.headers.get_all(header::UPGRADE)).filter(|token| may_be_other(token)).collect();
    let offered = HeaderValue::from_bytes(&offered.join(&b", "[..])).ok()?;
    (!offered.is_empty()).then_some(Wish::Other(offered))
}

fn tokens<'h>(fields: http::header::GetAll<'h, HeaderValue>) -> impl Iterator<Item = &'h [u8]> {
    let parts = fields.into_iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    parts.map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// HTTP itself is not asked for: whoever speaks h2c to an intermediary speaks it with prior knowledge (RFC 9113 §3.1
/// did away with the upgrade), and requests inside a tunnel would get nothing that their rules say. A WebSocket whose
/// request is malformed cannot be told from its answer.
fn may_be_other(protocol: &[u8]) -> bool {
    let name = protocol.split(|b| *b == b'/').next().unwrap_or_default();
    ![&b"h2c"[..], b"h2", b"http", b"websocket"].iter().any(|not| name.eq_ignore_ascii_case(not))
}

/// RFC 6455 §4.2.1.
fn is_websocket(parts: &Parts) -> bool {
    let only = |name: &HeaderName| {
        let mut values = parts.headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    parts.method == Method::GET
        && only(&header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && only(&KEY).is_some_and(|key| BASE64_STANDARD.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16))
        && only(&WEBSOCKET_VERSION).is_some_and(|version| version.as_bytes() == b"13")
}

pub async fn carry(
    cx: &ExchangeCx<'_>,
    upgrade: Upgrade,
    draft: Draft,
    payload: &mut Payload,
    trace: &mut ExchangeTrace,
) -> Result<Outcome, Failure> {
    let ExchangeCx { session, gate, plan, decision } = cx;
    // In clear there is no asking whether a server of HTTP/2 speaks HTTP/1.1 after all.
    if decision.pool.is_http_2_alone() && plan.scheme() == Scheme::Http {
        return pooled::carry(cx, draft, payload, trace).await;
    }
    let mut attempts = session.attempts(decision, &draft)?;
    let lease = match connect(&upgrade, decision).await {
        Ok(lease) => lease,
        // A server may ignore the wish (RFC 9110 §7.8), and HTTP/2 has no room for it.
        Err(failure) if failure.cause == Cause::TlsProtocol && decision.pool.is_http_2_alone() => {
            return pooled::carry(cx, draft, payload, trace).await;
        }
        Err(failure) => return Err(failure),
    };
    trace.leased(&lease);
    let mut upgrading = Upgrading { cx, upgrade: &upgrade, payload, trace, lease: Some(lease), key: None };
    let answered = rounds::run(&mut upgrading, &mut attempts, draft).await?;
    let lease = upgrading.lease;
    let Answered { response, peeked, switched, .. } = trace.heard(answered);
    match lease {
        Some(lease) if switched => Ok(hand_over(upgrade, response, lease, gate)),
        lease => Ok(Outcome::Passed(response, peeked, lease)),
    }
}

struct Upgrading<'a> {
    cx: &'a ExchangeCx<'a>,
    upgrade: &'a Upgrade,
    payload: &'a mut Payload,
    trace: &'a mut ExchangeTrace,
    /// The next round may belong to the connection of the last.
    lease: Option<Lease>,
    /// The answer must be computed from it.
    key: Option<HeaderValue>,
}

impl Transport for Upgrading<'_> {
    async fn connect(&mut self, attempts: &mut Attempts<'_>) -> Result<(), Failure> {
        let decision = self.cx.decision;
        if !self.lease.as_ref().is_some_and(Lease::is_open) {
            if decision.own_connection {
                attempts.forget();
            }
            let lease = connect(self.upgrade, decision).await?;
            self.trace.leased(&lease);
            self.lease = Some(lease);
        }
        attempts.bind(self.lease.as_ref().and_then(|lease| lease.peer_certificate.clone()));
        Ok(())
    }

    async fn send(&mut self, request: SignedRequest) -> Result<Sent, Failure> {
        self.trace.mask(request.masks);
        let body = send::outbound(self.payload, &request.draft, &request.transforms, self.trace).unwrap_or(Outbound::Empty);
        let lease = self.lease.as_mut().expect("connected before");
        let (request, key) = ask(self.upgrade, request.draft, body, self.cx.plan, lease);
        self.key = key;
        match send::by(lease, &mut Some(request), self.cx.gate, self.trace, |_| None).await? {
            Ok(response) => Ok(Sent::Answered(response)),
            Err(error) => Err(error.into_failure()),
        }
    }

    fn is_switched(&self, response: &Response<ResponseBody>) -> Result<bool, Failure> {
        switched(self.upgrade, response, self.key.as_ref())
    }

    fn rewind(&mut self) -> bool {
        self.payload.is_repeatable()
    }

    async fn dismiss(&mut self, challenge: Response<ResponseBody>) {
        if !challenge.into_body().drain().await {
            self.lease = None;
        }
    }
}

/// A connection for it: shared where the origin takes WebSockets on HTTP/2, else its own.
async fn connect(upgrade: &Upgrade, decision: &Decision) -> Result<Lease, Failure> {
    if upgrade.is_extended() && !decision.own_connection {
        let ask = Ask::Mirror { h2: true, prior_knowledge: false, grpc: false };
        let lease = decision.pool.lease(ask, Reuse::Alive).await?;
        if lease.takes_extended_connect() {
            return Ok(lease);
        }
    }
    decision.pool.lease(Ask::Dedicated, Reuse::Never).await
}

/// The request as the connection wants it. With it: the key that the answer must be computed from.
fn ask(upgrade: &Upgrade, draft: Draft, body: Outbound, plan: &Plan, lease: &Lease) -> (Request<Outbound>, Option<HeaderValue>) {
    let mut request = send::request(draft, body, plan, lease.is_h2());
    if lease.is_h2() {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        return (request, None);
    }
    let fields = request.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Wish::Other(offered) = &upgrade.wish {
        fields.insert(header::UPGRADE, offered.clone());
        return (request, None);
    }
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if upgrade.is_extended() {
        let key = HeaderValue::from_str(&BASE64_STANDARD.encode(random_bytes::<16>())).expect("base64 is ASCII");
        fields.insert(KEY, key);
        fields.insert(WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    let key = fields.get(KEY).cloned();
    (request, key)
}

/// Did the origin switch, to what was asked for? Of a WebSocket: is its answer to our key (RFC 6455 §4.1)?
fn switched(upgrade: &Upgrade, response: &Response<ResponseBody>, key: Option<&HeaderValue>) -> Result<bool, Failure> {
    if let Wish::Other(offered) = &upgrade.wish {
        return switched_to(offered, response);
    }
    let Some(key) = key else { return Ok(response.status().is_success()) };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(false);
    }
    let fields = response.headers();
    let protocol = fields.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let accept = fields.get(ACCEPT).is_some_and(|value| value.as_bytes() == accept(key.as_bytes()).as_bytes());
    if protocol && accept {
        return Ok(true);
    }
    Err(Failure::new(Cause::UpgradeFailed, "the origin switched protocols, but not to the WebSocket that was asked for"))
}

/// RFC 9110 §7.8: to one of those, or what it does not name is the one.
fn switched_to(offered: &HeaderValue, response: &Response<ResponseBody>) -> Result<bool, Failure> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(false);
    }
    let offered = |said: &[u8]| {
        let mut offered = offered.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
        offered.any(|offered| offered.eq_ignore_ascii_case(said))
    };
    if tokens(response.headers().get_all(header::UPGRADE)).all(offered) {
        return Ok(true);
    }
    Err(Failure::new(Cause::UpgradeFailed, "the origin switched protocols, but not to one that was asked for"))
}

/// RFC 6455 §4.2.2. SHA-1 is the protocol's choice; nothing rests on its strength.
fn accept(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    BASE64_STANDARD.encode(digest)
}

/// Both sides of a connection that speaks another protocol from here on.
pub struct Talk {
    client: OnUpgrade,
    upstream: OnUpgrade,
    lease: Lease,
    spoken: Spoken,
    idle: Duration,
}

impl Talk {
    /// Lets both sides talk until they end, which is when the record is told.
    pub fn begin(self, session: &Session, trace: ExchangeTrace) {
        let context = session.context.clone();
        session.activity.hand_over();
        session.context.tasks.spawn(async move {
            let Self { client, upstream, lease, spoken, idle } = self;
            let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else { return trace.relayed(None) };
            let relayed = relay::relay(TokioIo::new(client), TokioIo::new(upstream), spoken, idle, &context).await;
            trace.relayed(Some(&relayed));
            drop(lease);
        });
    }
}

/// What the client is answered, and what goes on after that.
fn hand_over(upgrade: Upgrade, mut response: Response<ResponseBody>, lease: Lease, gate: &Gate) -> Outcome {
    let upstream = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    let named = parts.headers.get(header::UPGRADE).cloned();
    headers::strip(&mut parts.headers);
    // RFC 9110 §8.6: what follows a switch has no length.
    parts.headers.remove(header::CONTENT_LENGTH);
    let switched_to = match &upgrade.wish {
        Wish::Extended => None,
        Wish::WebSocket => Some(HeaderValue::from_static("websocket")),
        Wish::Other(offered) => Some(named.unwrap_or_else(|| offered.clone())),
    };
    match switched_to {
        Some(protocol) => {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            parts.headers.insert(header::UPGRADE, protocol);
            parts.status = StatusCode::SWITCHING_PROTOCOLS;
        }
        None => {
            parts.headers.remove(ACCEPT);
            parts.status = StatusCode::OK;
        }
    }
    parts.extensions = http::Extensions::new();
    let spoken = match upgrade.wish {
        Wish::WebSocket | Wish::Extended => Spoken::WebSocket,
        Wish::Other(_) => Spoken::Unknown,
    };
    let talk = Talk { client: upgrade.client, upstream, lease, spoken, idle: gate.limits.tunnel_idle };
    Outcome::Switched(Response::from_parts(parts, Reply::empty()), talk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_that_of_rfc_6455_section_1_3() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
