//! What the client gets: the origin's answer as it comes, or our own with the reason. Whichever it is,
//! one record is told when its last byte has left.

mod ending;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};

use super::context::{Busy, Context};
use super::headers;
use super::interim::{Form, Telling};
use super::masked::{self, Masked};
pub use super::peeked::Peeked;
use super::refusal::{quoted, refusal};
use super::rounds::Answered;
use super::stall::{self, Broken, Patience, Waits};
use crate::failure::{Cause, Failure};
use crate::gate::{Decision, Plan};
use crate::observe::{Client, Counters};
use crate::origin::Origin;
use crate::replace::Replacement;
use crate::upstream::body::{Flow, Progress, clean_trailers};
use crate::upstream::interim::Listener;
use crate::upstream::{Lease, ResponseBody};

/// What is learnt of an exchange on its way; becomes its record.
pub struct Ledger {
    context: Arc<Context>,
    started: Instant,
    /// Only when records are wanted.
    request: Option<(SystemTime, Method, Box<str>)>,
    downstream: &'static str,
    /// It was a HEAD: no answer to it has a body (RFC 9110 §9.3.2).
    bodiless: bool,
    upstream: &'static str,
    flow: Option<Arc<Flow>>,
    progress: Option<Arc<Progress>>,
    origin: Option<Arc<Origin>>,
    decision: Option<Arc<Decision>>,
    near: Option<Arc<str>>,
    address: Option<std::net::SocketAddr>,
    connect: Duration,
    tls: Duration,
    first_byte: Option<Duration>,
    status: Option<StatusCode>,
    bytes_out: u64,
    /// Bytes of another protocol that the connection was switched to.
    switched_in: u64,
    error: Option<(&'static str, String)>,
    /// What the client should know about the origin's answer.
    remark: Option<&'static str>,
    /// What became of our credential, where it was not simply refused.
    fate: Option<String>,
    /// Why the request went without its credentials.
    withheld: Option<String>,
    /// What the log should know beside.
    note: Option<String>,
    client: Option<Client>,
    /// What the client must not see in the answer.
    masks: Vec<Replacement>,
    telling: Telling,
    /// The body was not asked for: what the client sends next on HTTP/1 may be that, or another request.
    unasked: bool,
    busy: Busy,
}

impl Ledger {
    pub fn new<B>(context: &Arc<Context>, started: Instant, request: &Request<B>, busy: Busy) -> Self {
        Counters::add(&context.observe.counters.exchanges);
        let wanted = context.observe.wants_records();
        Self {
            context: context.clone(),
            started,
            request: wanted.then(|| (SystemTime::now(), request.method().clone(), request.uri().path().into())),
            downstream: protocol(request.version()),
            bodiless: request.method() == Method::HEAD,
            upstream: "-",
            flow: None,
            progress: None,
            origin: None,
            decision: None,
            near: None,
            address: None,
            connect: Duration::ZERO,
            tls: Duration::ZERO,
            first_byte: None,
            status: None,
            bytes_out: 0,
            switched_in: 0,
            error: None,
            remark: None,
            fate: None,
            withheld: None,
            note: None,
            client: None,
            masks: Vec::new(),
            telling: Telling::default(),
            unasked: false,
            busy,
        }
    }

    /// Counts of the request body; made when there is one.
    pub fn flow(&mut self) -> &Arc<Flow> {
        self.flow.get_or_insert_with(Arc::default)
    }

    /// How the request body gets on; made when there is one. `quiet`: it may be silent by nature.
    pub fn follow(&mut self, quiet: impl FnOnce() -> bool) -> &Arc<Progress> {
        self.progress.get_or_insert_with(|| Progress::new(quiet()))
    }

    pub fn progress(&self) -> Option<&Arc<Progress>> {
        self.progress.as_ref()
    }

    /// Why the request body did not come to its end, if the client is to blame for that.
    pub fn broke_off(&self) -> Option<Failure> {
        let flow = self.flow.as_ref().filter(|flow| flow.is_broken())?;
        let broke = || Failure::new(Cause::BadRequest, "the request body broke off or is malformed");
        Some(flow.refusal().unwrap_or_else(broke))
    }

    /// How the client can be sent interim answers, if it can.
    pub fn tells(&mut self, form: Option<Form>) {
        self.telling = Telling::new(form);
    }

    /// Who is told of the origin's interim answers.
    pub fn listener(&self) -> Option<Listener> {
        self.telling.listener(self.busy.activity())
    }

    /// Asks for the body of a client that waits to be asked, where that is ours to do.
    pub fn asking(&mut self) -> Option<Box<dyn FnOnce() + Send>> {
        self.telling.asking(self.busy.activity())
    }

    /// What is known of a request whose head was refused.
    pub fn unread(&mut self, origin: Option<&Arc<Origin>>, path: &str) {
        self.origin = origin.cloned();
        if let Some((_, _, known)) = &mut self.request {
            *known = path.into();
        }
    }

    pub fn planned(&mut self, plan: &Plan) {
        self.origin = Some(plan.origin.clone());
    }

    pub fn decided(&mut self, decision: &Arc<Decision>) {
        self.decision = Some(decision.clone());
    }

    /// The rules that nearly gave it something.
    pub fn nearly(&mut self, near: Option<Arc<str>>) {
        self.near = near;
    }

    pub fn leased(&mut self, lease: &Lease) {
        self.address = lease.address;
        self.connect += lease.timing.connect;
        self.tls += lease.timing.tls;
        self.upstream = if lease.is_h2() { "h2" } else { "h1" };
    }

    /// Notes what the authorizers say of the answer that the client gets.
    pub fn heard(&mut self, mut answered: Answered) -> Answered {
        self.fate = answered.fate.take();
        self.remark = answered.ended;
        answered
    }

    /// The request goes without the credentials of its rules: the client and the log are told why.
    pub fn withheld(&mut self, why: String) {
        self.withheld = Some(why);
    }

    fn tell_withheld(&self, fields: &mut HeaderMap) {
        let text = self.withheld.as_deref().map(|why| format!("gatepass; details={}", quoted(why)));
        if let Some(Ok(value)) = text.as_deref().map(HeaderValue::from_str) {
            fields.append(HeaderName::from_static("proxy-status"), value);
        }
    }

    /// A 401 to a credential of ours, or what stands in place of one, says so, and which one it was: the origin's own page cannot.
    fn tell_refused(&mut self, status: StatusCode, fields: &mut HeaderMap) {
        let Some(decision) = self.decision.as_ref().filter(|decision| !decision.auth.is_empty()) else { return };
        if status != StatusCode::UNAUTHORIZED && self.remark.is_none() {
            return;
        }
        let (auth, label) = (&decision.auth_label, &decision.label);
        let details = match &self.fate {
            Some(fate) => format!("the credential `{auth}` of {label} {fate}"),
            None => {
                let why = self.remark.unwrap_or("check user name, password or token there");
                format!("the origin refused the credential `{auth}` of {label}; {why}")
            }
        };
        let text = format!("gatepass; received-status={}; details={}", status.as_u16(), quoted(&details));
        if let Ok(value) = HeaderValue::from_str(&text) {
            fields.append(HeaderName::from_static("proxy-status"), value);
        }
        self.note = Some(details);
    }

    /// Did the answer come before the body was asked for?
    pub fn unasked(&mut self, unasked: bool) {
        self.unasked = unasked;
    }

    pub fn answered(&mut self) {
        // Only its record tells of it.
        self.first_byte = self.request.is_some().then(|| self.started.elapsed());
    }

    /// What the client must not see in the answer to the request as it now leaves.
    pub fn mask(&mut self, pairs: Vec<Replacement>) {
        self.masks = pairs;
    }

    /// Can be taken out of an answer what must be?
    ///
    /// # Errors
    /// It is coded in a way that cannot be looked into.
    pub fn readable(&self, response: &Response<ResponseBody>, peeked: &Peeked) -> Result<(), Failure> {
        let is_empty = peeked.0.is_empty() && response.body().is_end_stream();
        if self.masks.is_empty() || is_empty { Ok(()) } else { masked::readable(response.headers()) }
    }

    /// Our own answer for a failure.
    pub fn refuse(mut self, client: &Client, failure: &Failure) -> Response<Reply> {
        let failure = &failure.clone().near(self.near.as_deref());
        Counters::add(&self.context.observe.counters.failures);
        tracing::debug!(cause = failure.cause.error_name(), failure = failure.in_full(), "answered by gatepass");
        self.error = Some((failure.cause.error_name(), failure.in_full()));
        self.own(client, refusal(failure))
    }

    /// An answer whose body is ours.
    pub fn own(mut self, client: &Client, mut response: Response<Reply>) -> Response<Reply> {
        self.telling.end();
        if self.bodiless {
            response = without_body(response);
        }
        self.status = Some(response.status());
        self.client = Some(client.clone());
        masked::mask_fields(response.headers_mut(), &self.masks);
        self.tell_withheld(response.headers_mut());
        response.body_mut().tail = Some(Box::new(Tail { lease: None, ledger: self, patience: Patience::default() }));
        response
    }

    /// The origin's answer, on its way to the client.
    pub fn pass(
        mut self,
        client: &Client,
        response: Response<ResponseBody>,
        peeked: Peeked,
        lease: Option<Lease>,
    ) -> Response<Reply> {
        self.telling.end();
        let (mut parts, body) = response.into_parts();
        headers::strip(&mut parts.headers);
        self.tell_refused(parts.status, &mut parts.headers);
        self.tell_withheld(&mut parts.headers);
        if self.unasked {
            // RFC 9110 §10.1.1. hyper leaves it out on HTTP/2.
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.status = Some(parts.status);
        self.client = Some(client.clone());
        let mut ahead = peeked.0;
        let inner = masked::mask(&mut parts, body, &mut ahead, std::mem::take(&mut self.masks));
        if self.downstream == "h1.0" {
            self.busy.activity().end_by_close(!parts.headers.contains_key(header::CONTENT_LENGTH));
        }
        // hyper takes the length out of an HTTP/1 answer whose body it knows to be empty, and of a 304 it says what a
        // 200 would have had (RFC 9110 §8.6).
        let unchanged = parts.status == StatusCode::NOT_MODIFIED && self.downstream != "h2";
        let untold = unchanged && parts.headers.contains_key(header::CONTENT_LENGTH);
        let tail = Box::new(Tail { lease, ledger: self, patience: Patience::default() });
        Response::from_parts(parts, Reply { inner, ahead, untold, broken: None, tail: Some(tail) })
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "h2",
        Version::HTTP_10 => "h1.0",
        _ => "h1",
    }
}

/// A response body: the origin's, or a text of ours.
pub struct Reply {
    inner: Inner,
    /// What of the origin's was read already.
    ahead: VecDeque<Frame<Bytes>>,
    /// That it is empty is not said beforehand.
    untold: bool,
    /// It broke off, and that is told next.
    broken: Option<Broken>,
    tail: Option<Box<Tail>>,
}

pub enum Inner {
    Full(Option<Bytes>),
    Origin(ResponseBody),
    Masked(Box<Masked>),
}

/// What happens when the last byte has left.
struct Tail {
    lease: Option<Lease>,
    ledger: Ledger,
    patience: Patience,
}

impl Tail {
    /// Nothing came of the origin's answer. For too long?
    fn is_stalled(&mut self, cx: &mut TaskContext<'_>, sized: bool) -> bool {
        let Self { ledger, patience, .. } = self;
        let bound = || {
            let limits = &ledger.context.gate().limits;
            if sized { limits.stall } else { limits.tunnel_idle }
        };
        patience.is_over(cx, bound, || ledger.progress.as_ref().map(|body| body.moved()))
    }
}

impl Reply {
    pub fn text(text: impl Into<Bytes>) -> Self {
        let bytes: Bytes = text.into();
        Self {
            inner: Inner::Full((!bytes.is_empty()).then_some(bytes)),
            ahead: VecDeque::new(),
            untold: false,
            broken: None,
            tail: None,
        }
    }

    pub fn empty() -> Self {
        Self { inner: Inner::Full(None), ahead: VecDeque::new(), untold: false, broken: None, tail: None }
    }

    /// A text of ours, taken out.
    pub fn take_text(&mut self) -> Bytes {
        let Inner::Full(text) = &mut self.inner else { return Bytes::new() };
        let text = text.take().unwrap_or_default();
        if let Some(tail) = &mut self.tail {
            tail.ledger.bytes_out += text.len() as u64;
        }
        text
    }

    fn finish(&mut self, complete: bool) {
        let Some(mut tail) = self.tail.take() else { return };
        if complete && tail.ledger.downstream == "h1.0" {
            tail.ledger.busy.activity().end_by_close(false);
        }
        if let Some(lease) = tail.lease.take()
            && complete
        {
            lease.give_back(tail.ledger.progress.take());
        }
        tail.ledger.tell();
    }
}

impl Reply {
    /// The origin's answer stands still.
    fn give_up(&mut self) {
        if let Some(tail) = &mut self.tail {
            tail.ledger.error = Some(("http_response_timeout", Broken::Stalled.to_string()));
            if let Some(lease) = tail.lease.take() {
                lease.give_up();
            }
        }
        self.finish(false);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let complete = match &self.inner {
            Inner::Full(_) => true,
            Inner::Origin(body) => self.ahead.is_empty() && body.is_end_stream(),
            Inner::Masked(body) => body.is_end_stream(),
        };
        if let (false, Some(tail)) = (complete, &mut self.tail)
            && tail.ledger.error.is_none()
        {
            tail.ledger.gone("before the end of the answer, or did not read it");
        }
        self.finish(complete);
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if let Some(cause) = this.broken.take() {
            return Poll::Ready(Some(Err(cause)));
        }
        let frame = match &mut this.inner {
            Inner::Full(bytes) => {
                let bytes = bytes.take();
                stall::note(Waits::Client);
                if let (Some(bytes), Some(tail)) = (&bytes, &mut this.tail) {
                    tail.ledger.bytes_out += bytes.len() as u64;
                }
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Inner::Origin(body) => match this.ahead.pop_front() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Pin::new(body).poll_frame(cx),
            },
            Inner::Masked(body) => body.poll(cx),
        };
        let Poll::Ready(frame) = frame else {
            stall::note(Waits::Origin);
            let sized = this.size_hint().exact().is_some();
            return if this.tail.as_mut().is_some_and(|tail| tail.is_stalled(cx, sized)) {
                this.give_up();
                Poll::Ready(Some(Err(Broken::Stalled)))
            } else {
                Poll::Pending
            };
        };
        stall::note(Waits::Client);
        match &frame {
            None => this.finish(true),
            Some(Ok(frame)) => {
                if let (Some(data), Some(tail)) = (frame.data_ref(), &mut this.tail) {
                    tail.ledger.bytes_out += data.len() as u64;
                }
                if let Some(tail) = &mut this.tail {
                    tail.patience.renew();
                }
            }
            Some(Err(cause)) => {
                if let Some(tail) = &mut this.tail {
                    tail.ledger.error = Some(("http_response_incomplete", format!("the origin's answer broke off: {cause}")));
                }
                this.finish(false);
            }
        }
        if let Some(Err(cause)) = frame {
            // hyper drops what it has not written yet when a body breaks off, the head too. One more turn lets it leave,
            // so that the client sees an answer that was cut, not none.
            this.broken = Some(Broken::Origin(cause));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(frame.map(|frame| frame.map(without_forbidden_trailers).map_err(Broken::Origin)))
    }

    fn is_end_stream(&self) -> bool {
        if self.untold {
            return false;
        }
        match &self.inner {
            Inner::Full(bytes) => bytes.is_none(),
            Inner::Origin(body) => self.ahead.is_empty() && body.is_end_stream(),
            Inner::Masked(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.untold {
            return SizeHint::default();
        }
        match &self.inner {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Inner::Origin(body) => {
                let ahead: u64 = self.ahead.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
                body.size_hint().exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + ahead))
            }
            Inner::Masked(_) => SizeHint::default(),
        }
    }
}

fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    if frame.is_data() {
        return frame;
    }
    match frame.into_trailers() {
        Ok(mut trailers) => {
            clean_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// The answer to a HEAD: what a GET would have got, but for its body.
fn without_body(mut response: Response<Reply>) -> Response<Reply> {
    if let Some(length) = response.body().size_hint().exact().filter(|length| *length > 0) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response.body_mut().inner = Inner::Full(None);
    response
}

/// A 403 may be for want of a client certificate that the origin could not ask for. The answer stays the origin's, with
/// a line of ours (RFC 9209 §2.1.4), and the log says it once.
pub fn remark(response: &mut Response<ResponseBody>, lease: &Lease) {
    if response.status() != StatusCode::FORBIDDEN {
        return;
    }
    let Some(why) = lease.way().never_asked(lease.handshake.as_deref()) else { return };
    if lease.way().may_warn() {
        tracing::warn!("{} answered 403: {why}", lease.way().origin());
    }
    if let Ok(value) = HeaderValue::from_str(&format!("gatepass; details={}", quoted(why))) {
        response.headers_mut().append(HeaderName::from_static("proxy-status"), value);
    }
}
