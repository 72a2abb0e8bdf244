//! An answer without what the client must not see: texts swapped for their placeholders in fields and in
//! text bodies, as they stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame};
use hyper::ext::ReasonPhrase;

use super::answer::Inner;
use crate::failure::{Cause, Failure};
use crate::replace::{Coding, Replacement, Replacer};
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
}

impl Masked {
    fn new(body: ResponseBody, ahead: VecDeque<Frame<Bytes>>, replacer: Replacer, text: bool) -> Self {
        Self { body, ahead, replacer, text, trailers: None, ended: false }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.ended {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let frame = match self.ahead.pop_front() {
                Some(frame) => Some(Ok(frame)),
                None => std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)),
            };
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
            swap_fields(&mut trailers, &mut self.replacer);
            trailers
        });
        rest
    }

    /// Did everything come that the origin had to send?
    pub fn is_end_stream(&self) -> bool {
        self.ended && self.trailers.is_none()
    }
}

/// Is it a text, or of a kind that is not said?
pub fn is_text(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
    Coding::of(kind.split(';').next().unwrap_or_default().trim()).is_some()
}

/// Texts swapped in every field.
pub fn mask_fields(headers: &mut HeaderMap, pairs: &[Replacement]) {
    if pairs.is_empty() {
        return;
    }
    swap_fields(headers, &mut Replacer::new(pairs.to_vec()));
}

fn swap_fields(headers: &mut HeaderMap, replacer: &mut Replacer) {
    for value in headers.values_mut() {
        if let Some(masked) = replacer.all(value.as_bytes())
            && let Ok(masked) = HeaderValue::from_maybe_shared(masked)
        {
            *value = masked;
        }
    }
}

/// The answer's reason phrase, fields, body and trailers as the client may see them.
/// `ahead`: what was read of it already.
pub fn mask(parts: &mut Parts, body: ResponseBody, ahead: &mut VecDeque<Frame<Bytes>>, pairs: Vec<Replacement>) -> Inner {
    if pairs.is_empty() {
        return Inner::Origin(body);
    }
    let mut replacer = Replacer::new(pairs);
    swap_fields(&mut parts.headers, &mut replacer);
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
    let masked = Masked::new(body, std::mem::take(ahead), replacer, is_text(&parts.headers));
    if masked.text && !masked.replacer.keeps_length() {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    Inner::Masked(Box::new(masked))
}

/// An answer whose text cannot be looked into is not passed on.
///
/// # Errors
/// The origin coded it, though it was asked not to.
pub fn readable(fields: &HeaderMap) -> Result<(), Failure> {
    let plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    let coded = fields.get_all(header::CONTENT_ENCODING).iter().any(|value| !plain(value));
    if !coded || !is_text(fields) {
        return Ok(());
    }
    Err(Failure::new(
        Cause::ResponseInvalid,
        "the origin compressed its answer although it was asked not to, so the secret behind a placeholder cannot be taken out of it",
    )
    .hint("send the secret by `bearer`, `api_key` or another type, which look into no answer"))
}
