//! What is sent as a request body.

mod progress;
mod streamed;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

pub use self::progress::{BodyProgress, BodyTally, Followed};
pub use self::streamed::{Ask, Hold, Source, Streamed};
use crate::draft::{BodyTransform, Held};
use crate::failure::Failure;

/// A request body on its way to the origin.
pub enum Outbound {
    Empty,
    Memory(Option<Bytes>),
    /// Read from a temporary file by a blocking task, a few pieces ahead.
    Spilled {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        left: u64,
    },
    Streamed(Streamed),
    Transformed(Box<Transformed>),
    Followed(Box<Followed>),
}

/// A body that is changed on its way out.
pub struct Transformed {
    body: Outbound,
    transform: Box<dyn BodyTransform>,
    tally: Arc<BodyTally>,
    /// Of what is to leave, when known.
    left: Option<u64>,
    /// They come after what the transform has to say at the end.
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl Outbound {
    /// The same body, changed on its way. Nothing stays nothing.
    pub fn transformed(self, transform: Box<dyn BodyTransform>, tally: &Arc<BodyTally>) -> Self {
        if matches!(self, Outbound::Empty) {
            return self;
        }
        let left = transform.length();
        Outbound::Transformed(Box::new(Transformed {
            body: self,
            transform,
            tally: tally.clone(),
            left,
            trailers: None,
            ended: false,
        }))
    }

    /// The same body, telling how it gets on. Nothing stays nothing.
    pub fn followed(self, progress: &Arc<BodyProgress>) -> Self {
        if matches!(self, Outbound::Empty) {
            return self;
        }
        progress.note(false, false);
        Outbound::Followed(Box::new(Followed { body: self, progress: progress.clone() }))
    }

    /// The client's body in it, when it comes as it is sent.
    pub fn streamed(&mut self) -> Option<&mut Streamed> {
        match self {
            Outbound::Streamed(streamed) => Some(streamed),
            Outbound::Transformed(transformed) => transformed.body.streamed(),
            Outbound::Followed(followed) => followed.body.streamed(),
            _ => None,
        }
    }

    pub fn held(held: &Held) -> Self {
        match held {
            Held::Memory(bytes) if bytes.is_empty() => Outbound::Empty,
            Held::Memory(bytes) => Outbound::Memory(Some(bytes.clone())),
            Held::Spilled(..) => {
                let (sender, pieces) = mpsc::channel(2);
                let held = held.clone();
                let left = held.len();
                tokio::task::spawn_blocking(move || {
                    let read = held.for_each(|piece| {
                        let _ = sender.blocking_send(Ok(Bytes::copy_from_slice(piece)));
                    });
                    if let Err(cause) = read {
                        let _ = sender.blocking_send(Err(cause));
                    }
                });
                Outbound::Spilled { pieces, left }
            }
        }
    }
}

/// Fields that must not arrive as trailers, since they frame, route or authenticate (RFC 9110 §6.5.1).
const FORBIDDEN_TRAILERS: [&str; 14] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Takes out of a trailer section what would act as a header if it were merged.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    for name in FORBIDDEN_TRAILERS {
        trailers.remove(name);
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Outbound::Empty => Poll::Ready(None),
            Outbound::Memory(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Outbound::Spilled { pieces, left } => {
                let piece = std::task::ready!(pieces.poll_recv(cx));
                if let Some(Ok(bytes)) = &piece {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
            Outbound::Streamed(streamed) => streamed.poll(cx),
            Outbound::Transformed(transformed) => transformed.poll(cx),
            Outbound::Followed(followed) => followed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outbound::Empty | Outbound::Memory(None) => true,
            Outbound::Memory(Some(_)) => false,
            Outbound::Spilled { left, .. } => *left == 0,
            Outbound::Streamed(streamed) => streamed.is_end_stream(),
            Outbound::Transformed(transformed) => transformed.ended && transformed.trailers.is_none(),
            Outbound::Followed(followed) => followed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outbound::Empty | Outbound::Memory(None) => SizeHint::with_exact(0),
            Outbound::Memory(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Outbound::Spilled { left, .. } => SizeHint::with_exact(*left),
            Outbound::Streamed(streamed) => streamed.size_hint(),
            Outbound::Transformed(transformed) => transformed.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Outbound::Followed(followed) => followed.body.size_hint(),
        }
    }
}

impl Transformed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if self.ended {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let made = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Err(cause)) => return Poll::Ready(Some(Err(cause))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.transform.feed(piece),
                    Err(last) => self.end(last.into_trailers().ok()),
                },
                None => self.end(None),
            };
            match made {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => {
                    self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Err(failure) => {
                    let told = io::Error::other(failure.to_string());
                    self.tally.break_off(Some(failure));
                    return Poll::Ready(Some(Err(told)));
                }
            }
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<Bytes, Failure> {
        self.ended = true;
        self.trailers = trailers;
        self.transform.finish()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::failure::Cause;

    /// Doubles each byte, holds back the last of each piece, and will have no `!`.
    struct Double(Vec<u8>);

    impl BodyTransform for Double {
        fn feed(&mut self, piece: Bytes) -> Result<Bytes, Failure> {
            if piece.contains(&b'!') {
                return Err(Failure::new(Cause::BadRequest, "there is a `!` in it"));
            }
            let mut made = std::mem::take(&mut self.0);
            made.extend(piece.iter().flat_map(|byte| [*byte, *byte]));
            self.0.extend(made.pop());
            Ok(made.into())
        }

        fn finish(&mut self) -> Result<Bytes, Failure> {
            Ok(std::mem::take(&mut self.0).into())
        }
    }

    fn spilled(pieces: &[&'static str]) -> Outbound {
        let (sender, receiver) = mpsc::channel(8);
        for piece in pieces {
            sender.try_send(Ok(Bytes::from_static(piece.as_bytes()))).unwrap();
        }
        Outbound::Spilled { pieces: receiver, left: 0 }
    }

    #[tokio::test]
    async fn a_recoded_body_leaves_as_it_was_made_to_its_last_byte_and_recodings_stack() {
        let tally = Arc::default();
        let body = spilled(&["a", "", "bc"]).transformed(Box::new(Double(Vec::new())), &tally);
        assert_eq!(body.size_hint().exact(), None);
        let body = body.transformed(Box::new(Double(Vec::new())), &tally);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "aaaabbbbcccc");
        assert!(!tally.is_broken());
        assert!(Outbound::Empty.transformed(Box::new(Double(Vec::new())), &tally).is_end_stream());
    }

    #[tokio::test]
    async fn a_body_that_cannot_be_recoded_breaks_off_and_says_why() {
        let tally = Arc::default();
        let body = spilled(&["ab", "c!", "d"]).transformed(Box::new(Double(Vec::new())), &tally);
        assert!(body.collect().await.is_err());
        assert!(tally.is_broken());
        assert_eq!(tally.refusal().unwrap().details, "there is a `!` in it");
    }
}
