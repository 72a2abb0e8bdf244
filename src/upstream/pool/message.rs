//! What is said of answers and of their absence outside this room, in types of our own.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::{Lease, OriginPool, Outbound};
use crate::failure::{Cause, Failure};
use crate::tls::out::handshake::Handshake;

/// A challenge's body that is longer, or takes longer, is not worth reading.
const CHALLENGE_BODY: usize = 256 * 1024;
const CHALLENGE_PATIENCE: Duration = Duration::from_secs(10);

/// The body of an answer, as it comes.
#[derive(Default)]
pub struct ResponseBody(Option<Incoming>);

impl ResponseBody {
    /// That of an answer that nobody sent.
    pub fn empty() -> Self {
        Self(None)
    }

    /// Reads a challenge's body to its end, so that its connection can be used again. False: it has none within reason.
    pub async fn drain(self) -> bool {
        let whole = Limited::new(self, CHALLENGE_BODY).collect();
        tokio::time::timeout(CHALLENGE_PATIENCE, whole).await.is_ok_and(|body| body.is_ok())
    }
}

impl From<Incoming> for ResponseBody {
    fn from(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Some(body) => Pin::new(body).poll_frame(cx).map_err(BodyError),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// An answer's body broke off.
#[derive(Debug)]
pub struct BodyError(hyper::Error);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BodyError {
    /// hyper's server looks along the sources for the reason that an HTTP/2 stream was reset with.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// A request that got no answer.
pub struct SendError {
    /// The origin says that it did nothing with the request.
    pub undone: bool,
    /// The connection ended before anything of an answer came.
    pub broke: bool,
    /// The request, where nothing of it has left.
    pub unsent: Option<Request<Outbound>>,
    failure: Failure,
}

impl SendError {
    pub(super) fn new(lease: &Lease, mut error: TrySendError<Request<Outbound>>) -> Self {
        let unsent = error.take_message();
        let cause = error.into_error();
        if lease.was_allowed_no_stream() {
            return Self { undone: false, broke: false, unsent: None, failure: no_streams(&lease.pool) };
        }
        let undone = is_undone(&cause) || wants_http_1_1(&cause) && lease.pool.turn_to_http_1_1();
        let broke = broke_before_answer(&cause);
        let parting = lease.line.as_ref().and_then(|line| line.pulse.parting());
        // A connection that had ended before hyper was given the request does not say why.
        let failure = parting.filter(|_| io_cause(&cause).is_none()).and_then(|parting| {
            let client = lease.pool.upstream().client();
            client.late_failure(parting, &lease.pool.origin().host, lease.handshake.as_deref()?)
        });
        let failure = failure.unwrap_or_else(|| self::failure(cause, &lease.pool, lease.handshake.as_deref()));
        Self { undone, broke, unsent, failure: lease.named(failure) }
    }

    /// What it means, in words.
    pub fn into_failure(self) -> Failure {
        self.failure
    }
}

/// There was no answer for another reason than the connection's.
impl From<Failure> for Box<SendError> {
    fn from(failure: Failure) -> Self {
        Box::new(SendError { undone: false, broke: false, unsent: None, failure })
    }
}

/// Without the request, which may hold what is secret.
impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { undone, broke, failure, .. } = self;
        let mut shown = f.debug_struct("SendError");
        shown.field("undone", undone).field("broke", broke).field("failure", failure).finish_non_exhaustive()
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failure.source()
    }
}

/// SETTINGS_MAX_CONCURRENT_STREAMS was 0 (RFC 9113 §6.5.2), which servers may say for a while.
fn no_streams(pool: &OriginPool) -> Failure {
    let (origin, bound) = (pool.origin(), pool.upstream().limits().connect);
    Failure::new(Cause::NoStreams, format!("{origin} allowed no request on its HTTP/2 connection for {bound:?}"))
        .hint("send the request again later; `tls: { alpn: [http/1.1] }` in its rule has HTTP/1.1 spoken to it")
}

/// What the error of a connection means.
pub(super) fn failure(cause: hyper::Error, pool: &OriginPool, handshake: Option<&Handshake>) -> Failure {
    explained(&cause, pool, handshake).caused_by(cause)
}

/// The origin says that it did nothing with the request: GOAWAY with a lower last stream, or REFUSED_STREAM
/// (RFC 9113 §6.8, §8.7). Streams that GOAWAY covers do not get its error.
fn is_undone(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    let Some(error) = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()) else { return false };
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let left = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    error.is_remote() && (refused || left)
}

/// A kept connection may have been let go at any time: by a clean end, a reset, an end without close_notify, or by a
/// kernel that waited for an acknowledgement in vain.
fn broke_before_answer(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_closed() || error.is_canceled() || broke_off(error)
}

/// The connection itself broke: it was reset, ended without close_notify, or nothing was acknowledged any more. Not: what
/// came by it was wrong, or what was to be sent.
fn broke_off(cause: &hyper::Error) -> bool {
    use std::io::ErrorKind as K;
    let broken = |io: &std::io::Error| {
        matches!(
            io.kind(),
            K::ConnectionReset
                | K::ConnectionAborted
                | K::BrokenPipe
                | K::UnexpectedEof
                | K::TimedOut
                | K::HostUnreachable
                | K::NetworkUnreachable
        )
    };
    let mut inner: Option<&(dyn std::error::Error + 'static)> = Some(cause);
    while let Some(error) = inner {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return h2.get_io().is_some_and(broken);
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return broken(io) && !cause.is_user();
        }
        inner = error.source();
    }
    cause.is_timeout()
}

/// What a connection's error means: TLS alerts (a refused client certificate shows only at the first
/// read in TLS 1.3), a close without an answer, or an answer that is no HTTP.
fn explained(cause: &hyper::Error, pool: &OriginPool, handshake: Option<&Handshake>) -> Failure {
    let origin = pool.origin();
    let client = pool.upstream().client();
    if let Some(handshake) = handshake
        && let Some(failure) = client.late_failure(cause, &origin.host, handshake)
    {
        return failure;
    }
    if cause.is_parse_too_large() {
        return Failure::new(Cause::ResponseInvalid, format!("the head of the answer of {origin} is too large"))
            .hint("limits.headers and limits.header_bytes set the bounds");
    }
    if cause.is_parse() {
        return Failure::new(Cause::ResponseInvalid, format!("the answer of {origin} is not valid HTTP: {cause}"));
    }
    let never_asked = || handshake.and_then(|handshake| client.never_asked(handshake));
    if wants_http_1_1(cause) {
        let failure = Failure::new(
            Cause::ResponseInvalid,
            format!("{origin} serves this by HTTP/1.1 alone, and says so after the request"),
        );
        return failure.hint(never_asked().unwrap_or("send the request again: it goes by HTTP/1.1 now"));
    }
    let failure = match io_cause(cause) {
        Some(io) => Failure::new(Cause::ConnectionTerminated, format!("{origin} broke the connection off: {io}")),
        None if cause.is_incomplete_message() || cause.is_canceled() || cause.is_closed() => {
            Failure::new(Cause::ConnectionTerminated, format!("{origin} closed the connection without an answer"))
        }
        None => return Failure::new(Cause::ResponseInvalid, format!("the connection to {origin} failed: {}", chain(cause))),
    };
    match never_asked() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// HTTP_1_1_REQUIRED (RFC 9113 §7), for a stream or for all: a server that needs a client certificate for a part of what
/// it has can ask for it in HTTP/1.1 alone (RFC 9113 §9.2.1).
fn wants_http_1_1(cause: &hyper::Error) -> bool {
    let source = std::error::Error::source(cause).and_then(|cause| cause.downcast_ref::<h2::Error>());
    source.is_some_and(|error| error.is_remote() && error.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED))
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

/// The io error inside another, if there is one.
fn io_cause<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e io::Error> {
    let mut cause = Some(cause);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::limits::Limits;
    use crate::origin::{Host, Origin, Scheme};
    use crate::provided::SecretRef;
    use crate::settings::Text;
    use crate::tls;
    use crate::upstream::settings::ConnectTo;
    use crate::upstream::{Ask, Deadline, Dialer, Fixed, NetEnv, Reuse, Route, Spec, Upstream};

    #[test]
    fn an_error_shows_nothing_of_the_request_that_did_not_leave() {
        let mut error =
            Box::<SendError>::from(Failure::new(Cause::ConnectionTerminated, "it broke").caused_by(io::Error::other("reset")));
        error.unsent = Request::builder().header("authorization", "Bearer t0k").body(Outbound::Empty).ok();
        assert!(error.unsent.is_some());
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("it broke") && !shown.contains("t0k") && !shown.contains("authorization"), "{shown}");
        assert_eq!(std::error::Error::source(&*error).map(ToString::to_string).as_deref(), Some("reset"));
    }

    /// In TLS 1.3 a server judges a client's certificate when the client takes the handshake to be over (RFC 8446 §2).
    #[tokio::test]
    async fn a_refusal_by_tls_is_told_though_the_connection_ended_before_the_request() {
        use tls::testing::*;
        let (root, people) = (Ca::root("Root"), Ca::root("People"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = server(&root.server("api.test"), &[&people]);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            tokio_rustls::TlsAcceptor::from(server).accept(stream).await.map(drop)
        });
        let known = |text| match text {
            Text::Known(secret) => SecretRef::Known(secret),
            Text::Command(_) => unreachable!("nothing here is secret"),
        };
        let net = NetEnv {
            dialer: Dialer::new(BTreeMap::new(), known),
            limits: Limits::default(),
            egress: Vec::new(),
            resolve: Fixed::default(),
        };
        let connect_to = ConnectTo { host: Host::Ip(address.ip()), port: Some(address.port()) };
        let spec = Spec { tls: spec(root.trust()), connect_to: Some(connect_to), via: Route::default(), named: true };
        let upstream = Arc::new(Upstream::build(spec, Arc::new(net)).unwrap_or_else(|problem| panic!("{problem}")));
        let origin = Origin { scheme: Scheme::Https, host: host("api.test"), port: 443 };
        let mut lease = upstream.pool(&Arc::new(origin)).lease(Ask::Dedicated, Reuse::Never).await.unwrap();
        while lease.is_open() {
            tokio::task::yield_now().await;
        }
        let error = lease
            .send(&mut Some(Request::new(Outbound::Empty)), &Deadline::none(), || None)
            .await
            .err()
            .expect("there is no answer");
        assert!(error.unsent.is_some());
        assert!(error.to_string().contains("client certificate"), "{error}");
    }
}
