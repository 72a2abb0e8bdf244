//! What the client gets: the origin's answer as it comes, or our own with the reason. Whichever it is,
//! one record is told when its last byte has left.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use super::headers;
use super::masked::{self, Masked};
use super::peeked::Peeked;
use super::refusal::refusal;
use super::stall::{self, Broken, Patience, Waits};
use super::trace::ExchangeTrace;
use crate::failure::Failure;
use crate::observe::{Client, Counters};
use crate::upstream::body::clean_trailers;
use crate::upstream::{Lease, ResponseBody};

impl ExchangeTrace {
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
        masked::mask_fields(response.headers_mut(), self.masks.as_ref());
        self.tell_withheld(response.headers_mut());
        response.body_mut().on_end = Some(Box::new(OnEnd { lease: None, trace: self, patience: Patience::default() }));
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
        let inner = match self.masks.take() {
            Some(masks) => masked::mask(&mut parts, body, &mut ahead, masks, self.context.gate().limits.echo_hold),
            None => Inner::Origin(body),
        };
        if self.downstream == "h1.0" {
            self.busy.activity().end_by_close(!parts.headers.contains_key(header::CONTENT_LENGTH));
        }
        // hyper takes the length out of an HTTP/1 answer whose body it knows to be empty, and of a 304 it says what a
        // 200 would have had (RFC 9110 §8.6).
        let unchanged = parts.status == StatusCode::NOT_MODIFIED && self.downstream != "h2";
        let untold = unchanged && parts.headers.contains_key(header::CONTENT_LENGTH);
        let on_end = Box::new(OnEnd { lease, trace: self, patience: Patience::default() });
        Response::from_parts(parts, Reply { inner, ahead, untold, broken: None, on_end: Some(on_end) })
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
    on_end: Option<Box<OnEnd>>,
}

pub enum Inner {
    Full(Option<Bytes>),
    Origin(ResponseBody),
    Masked(Box<Masked>),
}

/// What happens when the last byte has left.
struct OnEnd {
    lease: Option<Lease>,
    trace: ExchangeTrace,
    patience: Patience,
}

impl OnEnd {
    /// Nothing came of the origin's answer. For too long?
    fn is_stalled(&mut self, cx: &mut TaskContext<'_>, sized: bool) -> bool {
        let Self { trace, patience, .. } = self;
        let bound = || {
            let limits = &trace.context.gate().limits;
            if sized { limits.stall } else { limits.tunnel_idle }
        };
        patience.is_over(cx, bound, || trace.progress.as_ref().map(|body| body.moved()))
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
            on_end: None,
        }
    }

    pub fn empty() -> Self {
        Self { inner: Inner::Full(None), ahead: VecDeque::new(), untold: false, broken: None, on_end: None }
    }

    /// A text of ours, which is not said.
    pub fn withhold_text(&mut self) {
        if let Inner::Full(text) = &mut self.inner {
            *text = None;
        }
    }

    /// A text of ours, taken out.
    pub fn take_text(&mut self) -> Bytes {
        let Inner::Full(text) = &mut self.inner else { return Bytes::new() };
        let text = text.take().unwrap_or_default();
        if let Some(on_end) = &mut self.on_end {
            on_end.trace.bytes_out += text.len() as u64;
        }
        text
    }

    fn finish(&mut self, complete: bool) {
        let Some(mut on_end) = self.on_end.take() else { return };
        if complete && on_end.trace.downstream == "h1.0" {
            on_end.trace.busy.activity().end_by_close(false);
        }
        if let Some(lease) = on_end.lease.take()
            && complete
        {
            lease.give_back(on_end.trace.progress.take());
        }
        on_end.trace.tell();
    }
}

impl Reply {
    /// The origin's answer stands still.
    fn give_up(&mut self) {
        if let Some(on_end) = &mut self.on_end {
            on_end.trace.error = Some(("http_response_timeout", Broken::Stalled.to_string()));
            if let Some(lease) = on_end.lease.take() {
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
        if let (false, Some(on_end)) = (complete, &mut self.on_end)
            && on_end.trace.error.is_none()
        {
            on_end.trace.gone("before the end of the answer, or did not read it");
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
                if let (Some(bytes), Some(on_end)) = (&bytes, &mut this.on_end) {
                    on_end.trace.bytes_out += bytes.len() as u64;
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
            return if this.on_end.as_mut().is_some_and(|on_end| on_end.is_stalled(cx, sized)) {
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
                if let (Some(data), Some(on_end)) = (frame.data_ref(), &mut this.on_end) {
                    on_end.trace.bytes_out += data.len() as u64;
                }
                if let Some(on_end) = &mut this.on_end {
                    on_end.patience.renew();
                }
            }
            Some(Err(cause)) => {
                if let Some(on_end) = &mut this.on_end {
                    on_end.trace.error = Some(("http_response_incomplete", format!("the origin's answer broke off: {cause}")));
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
            Inner::Masked(body) => body.size_hint(),
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
