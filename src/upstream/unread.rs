//! A request's body on our side of the client, and what becomes of it when nobody reads it to its end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::limits::Limits;

/// The client's body. Given up before its end, what still comes of it is read and thrown away, within bounds: a client
/// that is answered early reads the answer, not a reset (RFC 9112 §9.6, RFC 9113 §8.1), and its connection goes on.
pub struct Unread {
    body: Option<Incoming>,
    within: Duration,
    most: usize,
    /// The client waits for leave to send it, and has not got it.
    waiting: bool,
}

impl Unread {
    /// Of a request. To read the body of one with `Expect: 100-continue` would be to give leave.
    pub fn of(request: Request<Incoming>, limits: &Limits) -> Request<Self> {
        let (parts, body) = request.into_parts();
        let body = (!body.is_end_stream()).then_some(body);
        let waiting = body.is_some() && parts.headers.contains_key(http::header::EXPECT);
        Request::from_parts(parts, Self { body, within: limits.linger, most: limits.linger_bytes, waiting })
    }
}

/// Answers a request without reading it.
pub fn leave(request: Request<Incoming>, limits: &Limits) {
    drop(Unread::of(request, limits));
}

impl Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        this.waiting = false;
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            this.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !self.waiting && !body.is_end_stream()) else { return };
        // There is none when gatepass ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (within, mut left) = (self.within, self.most);
        let reading = async move {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                left = match left.checked_sub(length) {
                    Some(left) => left,
                    None => return,
                };
            }
        };
        runtime.spawn(tokio::time::timeout(within, reading));
    }
}
