//! Sending: a connection of the decision's way out, the request, the answer; once more for a kept
//! connection that had died, and in rounds where a scheme answers challenges.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};

use super::answer::{Ledger, Peeked, remark};
use super::attempts::ROUNDS;
use super::hold::Payload;
use super::{Carried, Case, headers, own};
use crate::auth::Answer;
use crate::draft::{Draft, Recoding};
use crate::failure::{Cause, Failure};
use crate::gate::{Gate, Plan};
use crate::limits::Limits;
use crate::upstream::body::{Hold, Progress};
use crate::upstream::{Ask, Kept, Lease, Outbound, ResponseBody, Way};

/// For a proxy that will ask for its user to say so before a body leaves.
const CHALLENGE_HEAD_START: Duration = Duration::from_secs(1);

/// A server that lets a connection go may do so again with the next.
const RESENDINGS: u8 = 3;

pub async fn carry(case: &Case<'_>, mut draft: Draft, payload: &mut Payload, ledger: &mut Ledger) -> Result<Carried, Failure> {
    let Case { session, decision, .. } = case;
    let mut attempts = session.attempts(decision, &draft)?;
    if decision.own_connection || session.authenticates_itself(&draft) {
        return own::carry(case, attempts, draft, payload, ledger).await;
    }
    loop {
        let recodings = attempts.sign(&mut draft).await?;
        ledger.mask(attempts.masks(&draft)?);
        // A draft that may be needed again is copied; the common one is spent.
        let again = decision.wants_answers.then(|| copy(&draft));
        let (mut response, lease) = dispatch(case, draft, payload, &recodings, ledger).await?;
        let Some(next) = again else { return finish(response, Peeked::default(), lease) };
        let peeked = attempts.peek(&mut response).await;
        let answer = Answer { draft: &next, status: response.status(), headers: response.headers() };
        // They learn from it also where nothing can be sent again.
        let wanted = attempts.wants_another_round(&answer, &peeked.bytes()) && attempts.advance();
        if !wanted || !payload.rewind() {
            ledger.explain(attempts.fate(&answer));
            if wanted {
                ledger.remark(
                    "what it asks for is known now, but this body was on its way and is too large to be sent twice: send the request again",
                );
            }
            return finish(response, peeked, lease);
        }
        match payload {
            // The request that waited for leave to send its body is still on that connection.
            Payload::Stream(_) => drop((response, lease)),
            _ => drain(response, lease).await,
        }
        draft = next;
    }
}

fn finish(response: Response<ResponseBody>, peeked: Peeked, lease: Lease) -> Result<Carried, Failure> {
    Ok(Carried::Passed(checked(response)?, peeked, Some(lease)))
}

/// A 101 that nobody asked for would hand the connection to whoever writes next.
pub fn checked(response: Response<ResponseBody>) -> Result<Response<ResponseBody>, Failure> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::new(Cause::UpgradeFailed, "the origin switched protocols without being asked"));
    }
    Ok(response)
}

pub fn copy(draft: &Draft) -> Draft {
    let body = match &draft.body {
        crate::draft::Body::Empty => crate::draft::Body::Empty,
        crate::draft::Body::Streamed(len) => crate::draft::Body::Streamed(*len),
        crate::draft::Body::Held(held) => crate::draft::Body::Held(held.clone()),
    };
    Draft {
        method: draft.method.clone(),
        origin: draft.origin.clone(),
        target: draft.target.clone(),
        headers: draft.headers.clone(),
        body,
    }
}

/// One request and its answer. It is sent again where that cannot do it twice: nothing of it had left,
/// the origin says that it left it undone (RFC 9113 §8.7), or it is idempotent and a kept connection broke
/// before anything of an answer came (RFC 9110 §9.2.2).
async fn dispatch(
    case: &Case<'_>,
    draft: Draft,
    payload: &mut Payload,
    recodings: &[Recoding],
    ledger: &mut Ledger,
) -> Result<(Response<ResponseBody>, Lease), Failure> {
    let Case { session, gate, plan, decision } = case;
    let way = &decision.way;
    let activity = &session.activity;
    let h2 = activity.is_multiplexed();
    let ask = Ask::Mirror { h2, prior_knowledge: activity.has_prior_knowledge(), grpc: h2 && is_grpc(&draft) };
    let kept = if may_repeat(&draft, payload) { Kept::Any } else { Kept::Sure };
    let mut lease = way.lease(ask, kept).await?;
    ledger.leased(&lease);
    let spare = spare(&draft, &lease, payload);
    let mut body = outbound(payload, &draft, recodings, ledger)
        .ok_or_else(|| Failure::new(Cause::Internal, "the body is on its way already"))?;
    let expects = expects(&draft.headers);
    lease.hold = hold(case, expects, &mut body, &lease);
    let mut request = request(draft, body, plan, lease.is_h2());
    listen_for_interim(&mut request, &lease, ledger);
    let (mut left, mut rounds) = (RESENDINGS, ROUNDS);
    loop {
        lease.address(&mut request).await?;
        let with_body = !http_body::Body::is_end_stream(request.body());
        let sent = match timed(gate, ledger.progress(), lease.send(request), way).await {
            Ok(sent) => sent,
            Err(failure) => {
                if failure.cause == Cause::ResponseTimeout {
                    lease.give_up();
                }
                return Err(failure);
            }
        };
        let mut error = match sent {
            Ok(response) if lease.is_to_be_sent_again(&response)? => {
                rounds = rounds.checked_sub(1).ok_or_else(|| kept_asking(way))?;
                // A body that was on its way leaves the connection of no further use.
                if with_body || !empty(response).await || !lease.is_open() {
                    lease = lease.move_on().await?;
                    ledger.leased(&lease);
                }
                lease.reused = true;
                let draft = spare.as_ref().map(copy).ok_or_else(|| kept_asking(way))?;
                let body = outbound(payload, &draft, recodings, ledger).ok_or_else(too_large_for_proxy)?;
                request = self::request(draft, body, plan, false);
                continue;
            }
            Ok(mut response) => {
                // An answer to half a request is worth nothing.
                if let Some(failure) = ledger.broke_off() {
                    return Err(failure);
                }
                payload.settle();
                ledger.unasked(lease.hold.as_ref().is_some_and(|hold| hold.end()) && expects);
                ledger.answered();
                remark(&mut response, &lease);
                return Ok((response, lease));
            }
            Err(error) => error,
        };
        if let Some(failure) = ledger.broke_off() {
            return Err(failure);
        }
        if error.undone {
            lease.retire();
        }
        let mut hold = None;
        let again = match (error.unsent.take(), &spare) {
            // What was made for a proxy is made anew.
            (Some(request), _) if lease.reused && !lease.is_forwarded() => {
                hold = lease.hold.take();
                Some(request)
            }
            (unsent, Some(spare))
                if error.undone
                    || (lease.reused && unsent.is_some())
                    || (lease.reused && error.broke && may_repeat(spare, payload)) =>
            {
                outbound(payload, spare, recodings, ledger).map(|body| self::request(copy(spare), body, plan, false))
            }
            _ => None,
        };
        let Some(again) = again.filter(|_| left > 0) else {
            return Err(error.into_failure());
        };
        left -= 1;
        drop(lease);
        lease = way.lease(ask, Kept::No).await?;
        lease.hold = hold;
        ledger.leased(&lease);
        request = reform(again, plan, lease.is_h2());
    }
}

fn kept_asking(way: &Way) -> Failure {
    Failure::new(Cause::Credential, format!("the upstream proxy on the way to {} kept asking for its user", way.origin()))
}

fn too_large_for_proxy() -> Failure {
    Failure::new(
        Cause::Credential,
        "the upstream proxy asked for its user while a body was on its way that is too large to be sent twice",
    )
    .hint("send the request again: what the proxy asked for is known now")
}

/// The draft, for another sending, where one could be called for: a server may leave any request on a shared
/// connection undone, and a proxy may ask for its user; a new connection of its own is not expected to be dead.
fn spare(draft: &Draft, lease: &Lease, payload: &Payload) -> Option<Draft> {
    let shared = lease.is_h2() || lease.is_forwarded();
    if shared {
        payload.keep();
    }
    (shared || (lease.reused && may_repeat(draft, payload))).then(|| copy(draft))
}

/// Done twice, it does what it does once.
pub fn may_repeat(draft: &Draft, payload: &Payload) -> bool {
    payload.is_repeatable() && matches!(draft.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// What to send now of the body, recoded from its start. `None`: it has had its one sending.
pub fn outbound(payload: &mut Payload, draft: &Draft, recodings: &[Recoding], ledger: &mut Ledger) -> Option<Outbound> {
    let body = payload.outbound(draft)?;
    let body = recodings.iter().fold(body, |body, recoding| body.recoded(recoding(), ledger.flow()));
    if matches!(body, Outbound::Empty) {
        return Some(body);
    }
    Some(body.followed(ledger.follow(|| is_grpc(draft))))
}

/// A call may be open for hours without a message either way.
fn is_grpc(draft: &Draft) -> bool {
    let kind = (draft.method == Method::POST).then(|| draft.headers.get(header::CONTENT_TYPE)).flatten();
    kind.is_some_and(|kind| {
        kind.as_bytes().starts_with(b"application/grpc") || kind.as_bytes().starts_with(b"application/connect+")
    })
}

/// Waits for the answer's head: `limits.response_head` from the end of the request on, and before that for as long as
/// its body moves.
pub async fn timed<F: Future>(
    gate: &Gate,
    progress: Option<&Arc<Progress>>,
    sending: F,
    way: &Way,
) -> Result<F::Output, Failure> {
    let begun = Instant::now();
    let mut sending = pin!(sending);
    loop {
        let deadline = deadline(&gate.limits, begun, progress);
        if let Ok(sent) = tokio::time::timeout_at(deadline.into(), sending.as_mut()).await {
            return Ok(sent);
        }
        if self::deadline(&gate.limits, begun, progress) <= Instant::now() {
            return Err(overdue(&gate.limits, progress, way));
        }
    }
}

fn deadline(limits: &Limits, begun: Instant, progress: Option<&Arc<Progress>>) -> Instant {
    match progress {
        Some(body) if !body.is_ended() => body.moved() + body.patience(limits),
        Some(body) => body.moved().max(begun) + limits.response_head,
        None => begun + limits.response_head,
    }
}

fn overdue(limits: &Limits, progress: Option<&Arc<Progress>>, way: &Way) -> Failure {
    let origin = way.origin();
    match progress.filter(|body| !body.is_ended()) {
        Some(body) if body.is_wanting() => {
            let bound = body.patience(limits);
            Failure::new(Cause::RequestTimeout, format!("the client sent nothing more of its request body for {bound:?}"))
                .hint("limits.stall sets the bound")
        }
        Some(body) => {
            let bound = body.patience(limits);
            Failure::new(Cause::ResponseTimeout, format!("{origin} took nothing more of the request body for {bound:?}"))
                .hint("limits.stall sets the bound")
        }
        None => {
            let bound = limits.response_head;
            Failure::new(Cause::ResponseTimeout, format!("{origin} sent no answer within {bound:?}"))
                .hint("limits.response_head sets the bound")
        }
    }
}

/// Has interim answers to this request told to the client; 100 lets a body go that is held.
pub fn listen_for_interim(request: &mut Request<Outbound>, lease: &Lease, ledger: &mut Ledger) {
    if lease.is_h2() {
        return;
    }
    let hold = lease.hold.as_ref().map(Arc::downgrade);
    let interim = ledger.interim();
    if hold.is_none() && interim.is_none() {
        return;
    }
    lease.on_interim(request, move |status, fields| match (status, &interim) {
        // The client is asked when its body is.
        (StatusCode::CONTINUE, _) => hold.as_ref().and_then(Weak::upgrade).iter().for_each(|hold| hold.open()),
        (status, Some(interim)) => interim.tell(status, fields),
        _ => {}
    });
}

/// Does the client wait to be asked for its body?
pub fn expects(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Holds the client's body until the origin asks for it, or patience ends. hyper's client does not tell of a 100 on HTTP/2;
/// an answer that makes the body needless comes before it all the same.
fn hold(case: &Case<'_>, expects: bool, outbound: &mut Outbound, lease: &Lease) -> Option<Arc<Hold>> {
    // A proxy that will ask for its user first is given the time to say so.
    if !(expects || lease.may_be_challenged()) {
        return None;
    }
    let hold = outbound.streamed()?.hold();
    let patience = if expects { case.gate.limits.continue_wait } else { CHALLENGE_HEAD_START };
    let held = Arc::downgrade(&hold);
    tokio::spawn(async move {
        tokio::time::sleep(patience).await;
        held.upgrade().iter().for_each(|hold| hold.open());
    });
    Some(hold)
}

/// The request as it leaves: origin-form with `Host` on HTTP/1.1, `:scheme` and `:authority` on HTTP/2.
pub fn request(draft: Draft, outbound: Outbound, plan: &Plan, h2: bool) -> Request<Outbound> {
    let mut request = Request::new(outbound);
    *request.method_mut() = draft.method;
    *request.headers_mut() = draft.headers;
    *request.uri_mut() = target(draft.target, plan, h2);
    finish_head(&mut request, h2);
    request
}

fn target(path: PathAndQuery, plan: &Plan, h2: bool) -> Uri {
    if !h2 {
        return Uri::from(path);
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(match plan.scheme() {
        crate::origin::Scheme::Http => http::uri::Scheme::HTTP,
        crate::origin::Scheme::Https => http::uri::Scheme::HTTPS,
    });
    parts.authority = Some(plan.authority.clone());
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).unwrap_or_default()
}

fn finish_head(request: &mut Request<Outbound>, h2: bool) {
    use http_body::Body as _;
    *request.version_mut() = if h2 { Version::HTTP_2 } else { Version::HTTP_11 };
    if h2 {
        request.headers_mut().remove(header::HOST);
        request.headers_mut().remove(header::TRANSFER_ENCODING);
    } else {
        headers::join_cookies(request.headers_mut());
    }
    // A body that was rewritten has another length than the client said, or one that only its end will tell.
    let length = request.body().size_hint().exact();
    let said = request.headers().get(header::CONTENT_LENGTH).map(|said| said.to_str().ok().and_then(|t| t.parse::<u64>().ok()));
    match (length, said) {
        (Some(length), Some(said)) if said != Some(length) || is_repeated(request.headers()) => {
            request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        (None, Some(_)) => {
            request.headers_mut().remove(header::CONTENT_LENGTH);
        }
        _ => {}
    }
    // Said outright, since hyper takes a GET or HEAD whose length is not known to have no body at all.
    if length.is_none() && !h2 {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// HTTP/2 lets equal lengths stand beside each other; one leaves (RFC 9110 §8.6).
fn is_repeated(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some()
}

/// The same request for a connection of perhaps another protocol.
fn reform(mut request: Request<Outbound>, plan: &Plan, h2: bool) -> Request<Outbound> {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = target(path, plan, h2);
    request.headers_mut().insert(header::HOST, plan.host.clone());
    finish_head(&mut request, h2);
    request
}

/// Reads a challenge's body to its end, so that the connection can be used for the next round.
async fn drain(response: Response<ResponseBody>, lease: Lease) {
    if empty(response).await {
        lease.give_back(None);
    }
}

/// A challenge's body that is longer, or takes longer, is not worth reading.
const CHALLENGE_BODY: usize = 256 * 1024;
const CHALLENGE_PATIENCE: Duration = Duration::from_secs(10);

/// Reads a challenge's body to its end; false: it has none within reason.
pub async fn empty(response: Response<ResponseBody>) -> bool {
    use http_body_util::{BodyExt, Limited};
    let whole = Limited::new(response.into_body(), CHALLENGE_BODY).collect();
    tokio::time::timeout(CHALLENGE_PATIENCE, whole).await.is_ok_and(|body| body.is_ok())
}
