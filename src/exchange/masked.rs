//! An answer without what the client must not see: texts swapped for their placeholders in fields and in
//! text bodies, as they stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use tokio::time::Sleep;

use super::answer::Inner;
use crate::failure::{Cause, Failure};
use crate::replace::{Coding, Replacements, Replacer};
use crate::upstream::{BodyError, ResponseBody};

/// An origin's body, texts in it swapped.
pub struct Masked {
    body: ResponseBody,
    /// Read already, and to be passed on first.
    ahead: VecDeque<Frame<Bytes>>,
    replacer: Replacer,
    /// Is the body looked into? If not, the trailers are.
    text: bool,
    /// They come after what was kept back.
    trailers: Option<HeaderMap>,
    ended: bool,
    /// How long what may be the beginning of something is kept back; `None`: until it is known.
    patience: Option<Duration>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Masked {
    fn new(
        body: ResponseBody,
        ahead: VecDeque<Frame<Bytes>>,
        replacer: Replacer,
        text: bool,
        patience: Option<Duration>,
    ) -> Self {
        Self { body, ahead, replacer, text, trailers: None, ended: false, patience, waiting: None }
    }

    /// What is left of a body whose length does not change.
    pub fn size_hint(&self) -> SizeHint {
        let ahead: u64 = self.ahead.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        let left = self.body.size_hint().exact().filter(|_| !self.text || self.replacer.keeps_length());
        left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + ahead + self.replacer.waiting() as u64))
    }

    /// What was kept back for too long: whoever waits for it may be waited for.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let Some(patience) = self.patience.filter(|_| self.replacer.waiting() > 0) else { return Poll::Pending };
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        std::task::ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(self.replacer.release())
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.ended {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let frame = match self.ahead.pop_front() {
                Some(frame) => Some(Ok(frame)),
                None => match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(frame) => frame,
                    Poll::Pending => return self.poll_release(cx).map(|piece| Some(Ok(Frame::data(piece)))),
                },
            };
            self.waiting = None;
            let piece = match frame {
                Some(Err(cause)) => return Poll::Ready(Some(Err(cause))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) if self.text => self.replacer.feed(piece),
                    Ok(piece) => piece,
                    Err(last) => self.end(last.into_trailers().ok()),
                },
                None => self.end(None),
            };
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Bytes {
        self.ended = true;
        let rest = self.replacer.finish();
        self.trailers = trailers.map(|mut trailers| {
            self.replacer.fields(&mut trailers);
            trailers
        });
        rest
    }

    /// Did everything come that the origin had to send?
    pub fn is_end_stream(&self) -> bool {
        let read = self.ended || self.ahead.is_empty() && self.body.is_end_stream();
        read && self.replacer.waiting() == 0 && self.trailers.is_none()
    }
}

/// Is it a text, or of a kind that is not said?
pub fn is_text(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
    Coding::of(kind.split(';').next().unwrap_or_default().trim()).is_some()
}

/// Texts swapped in every field.
pub fn mask_fields(headers: &mut HeaderMap, pairs: Option<&Arc<Replacements>>) {
    if let Some(pairs) = pairs {
        Replacer::of(pairs.clone()).fields(headers);
    }
}

/// The answer's reason phrase, fields, body and trailers as the client may see them.
/// `ahead`: what was read of it already. `hold`: how long what may be the beginning of something is kept back where that
/// does not have to be known.
pub fn mask(
    parts: &mut Parts,
    body: ResponseBody,
    ahead: &mut VecDeque<Frame<Bytes>>,
    pairs: Arc<Replacements>,
    hold: Duration,
) -> Inner {
    let patience = (!pairs.strict).then_some(hold);
    let mut replacer = Replacer::of(pairs);
    replacer.fields(&mut parts.headers);
    if let Some(reason) = parts.extensions.get::<ReasonPhrase>()
        && let Some(masked) = replacer.all(reason.as_bytes())
    {
        parts.extensions.remove::<ReasonPhrase>();
        if let Ok(reason) = ReasonPhrase::try_from(masked) {
            parts.extensions.insert(reason);
        }
    }
    if ahead.is_empty() && body.is_end_stream() {
        return Inner::Origin(body);
    }
    let text = is_text(&parts.headers) && !is_coded(&parts.headers);
    let masked = Masked::new(body, std::mem::take(ahead), replacer, text, patience);
    if masked.text && !masked.replacer.keeps_length() {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    Inner::Masked(Box::new(masked))
}

/// Is it compressed? What is in it then cannot be seen.
fn is_coded(fields: &HeaderMap) -> bool {
    let plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    fields.get_all(header::CONTENT_ENCODING).iter().any(|value| !plain(value))
}

/// An answer whose text cannot be looked into is not passed on.
///
/// # Errors
/// The origin coded it, though it was asked not to.
pub fn readable(fields: &HeaderMap) -> Result<(), Failure> {
    if !is_coded(fields) || !is_text(fields) {
        return Ok(());
    }
    Err(Failure::new(
        Cause::ResponseInvalid,
        "the origin compressed its answer although it was asked not to, so the secret behind a placeholder cannot be taken out of it",
    )
    .hint("send the secret by `bearer`, `api_key` or another type, which look into no answer"))
}
