//! A request as it leaves by whatever connection, and the head of its answer.

use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};

use super::headers;
use super::hold::Payload;
use super::trace::{ExchangeTrace, remark};
use crate::draft::{BodyTransformFactory, Draft};
use crate::failure::Failure;
use crate::gate::{Gate, Plan};
use crate::upstream::{Deadline, Lease, Outbound, ResponseBody, SendError};

/// Done twice, it does what it does once.
pub fn may_repeat(draft: &Draft, payload: &Payload) -> bool {
    payload.is_repeatable() && matches!(draft.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// What to send now of the body, transformed from its start. `None`: it has had its one sending.
pub fn outbound(
    payload: &mut Payload,
    draft: &Draft,
    transforms: &[BodyTransformFactory],
    trace: &mut ExchangeTrace,
) -> Option<Outbound> {
    let body = payload.outbound(draft)?;
    let body = transforms.iter().fold(body, |body, factory| body.transformed(factory(), trace.tally()));
    if matches!(body, Outbound::Empty) {
        return Some(body);
    }
    Some(body.followed(trace.follow(|| is_grpc(draft))))
}

/// A call may be open for hours without a message either way.
pub fn is_grpc(draft: &Draft) -> bool {
    let kind = (draft.method == Method::POST).then(|| draft.headers.get(header::CONTENT_TYPE)).flatten();
    kind.is_some_and(|kind| {
        kind.as_bytes().starts_with(b"application/grpc") || kind.as_bytes().starts_with(b"application/connect+")
    })
}

/// Sends a request by that connection: its answer, or why there is none. `anew` makes it once more, where the connection's
/// peer asks for that.
///
/// # Errors
/// The client's body broke off: an answer to half a request is worth nothing.
pub async fn by(
    lease: &mut Lease,
    request: &mut Option<Request<Outbound>>,
    gate: &Gate,
    trace: &mut ExchangeTrace,
    mut anew: impl FnMut(&mut ExchangeTrace) -> Option<Request<Outbound>>,
) -> Result<Result<Response<ResponseBody>, Box<SendError>>, Failure> {
    lease.listener = trace.listener();
    let deadline = Deadline::new(&gate.limits, trace.progress());
    let sent = lease.send(request, &deadline, || anew(trace)).await;
    if let Some(failure) = trace.broke_off() {
        return Err(failure);
    }
    Ok(sent.map(|mut response| {
        trace.answered();
        remark(&mut response, lease);
        response
    }))
}

/// Does the client wait to be asked for its body?
pub fn expects(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
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
pub fn reform(mut request: Request<Outbound>, plan: &Plan, h2: bool) -> Request<Outbound> {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = target(path, plan, h2);
    request.headers_mut().insert(header::HOST, plan.host.clone());
    finish_head(&mut request, h2);
    request
}
