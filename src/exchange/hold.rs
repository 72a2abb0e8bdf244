//! The request body: streamed unless something must be computed over it, or it may have to be sent twice.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::send;
use super::trace::ExchangeTrace;
use crate::auth::BodyNeed;
use crate::draft::{Body, Draft, Held, Room, Spill};
use crate::failure::{Cause, Failure};
use crate::files;
use crate::limits::Limits;
use crate::upstream::Outbound;
use crate::upstream::body::Source;
use crate::upstream::unread::Unread;

/// The body as the exchange has it.
pub enum Payload {
    Empty,
    Stream(Source),
    Held,
}

/// Decides how the body travels; reads it now when a scheme needs it.
///
/// # Errors
/// 413 past the bound, 400 when the client's body breaks off.
pub async fn take(
    draft: &mut Draft,
    body: Unread,
    need: BodyNeed,
    limits: &Limits,
    trace: &mut ExchangeTrace,
) -> Result<Payload, Failure> {
    if body.is_end_stream() {
        draft.body = Body::Empty;
        return Ok(Payload::Empty);
    }
    let length = body.size_hint().exact();
    if length == Some(0) {
        // On HTTP/2 a length of nothing is said before the end of the stream is. What comes against it makes the request
        // malformed (RFC 9113 §8.1.1), and a head that has left could not be called back.
        read(body, limits, trace.room()).await?;
        draft.body = Body::Empty;
        return Ok(Payload::Empty);
    }
    let ask = send::expects(&draft.headers).then(|| trace.asking()).flatten();
    if need == BodyNeed::Repeat && length.is_some_and(|length| length > limits.body_spill as u64) {
        // Too large to be sent twice: it leaves once the origin has said what it wants (RFC 9110 §10.1.1).
        draft.headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        draft.body = Body::Streamed(length);
        return Ok(Payload::Stream(Source::new(body, trace.tally().clone(), ask)));
    }
    let spared = need == BodyNeed::Spare && length.is_none_or(|length| length > limits.body_hold as u64);
    if need == BodyNeed::None || spared {
        draft.body = Body::Streamed(length);
        return Ok(Payload::Stream(Source::new(body, trace.tally().clone(), ask)));
    }
    if let Some(ask) = ask {
        ask();
    }
    let held = read(body, limits, trace.room()).await?;
    trace.tally().add(held.len());
    // It is here now: nobody waits for leave to send it.
    draft.headers.remove(header::EXPECT);
    draft.body = Body::Held(held);
    Ok(Payload::Held)
}

impl Payload {
    /// What to send now. A stream can be had once, and again while it is kept.
    pub fn outbound(&mut self, draft: &Draft) -> Option<Outbound> {
        match (&draft.body, self) {
            (Body::Held(held), _) => Some(Outbound::held(held)),
            (_, Payload::Stream(source)) => source.sending().map(Outbound::Streamed),
            _ => Some(Outbound::Empty),
        }
    }

    /// Keeps what is sent of a stream, up to a bound, until [`Payload::settle`].
    pub fn keep(&self) {
        if let Payload::Stream(source) = self {
            source.keep();
        }
    }

    pub fn settle(&self) {
        if let Payload::Stream(source) = self {
            source.settle();
        }
    }

    /// Makes ready for another sending from the start. False: some of it has left and was not kept.
    pub fn rewind(&self) -> bool {
        match self {
            Payload::Stream(source) => source.rewind(),
            Payload::Empty | Payload::Held => true,
        }
    }

    pub fn is_repeatable(&self) -> bool {
        !matches!(self, Payload::Stream(_))
    }
}

async fn read(mut body: Unread, limits: &Limits, room: &Room) -> Result<Held, Failure> {
    let too_large = || {
        Failure::new(
            Cause::BodyTooLarge,
            format!("the body must be read before it is sent, and is larger than {} bytes", limits.body_spill),
        )
        .hint("raise `limits.body_spill`, or use a way of authenticating that does not need the body")
    };
    if body.size_hint().exact().is_some_and(|len| len > limits.body_spill as u64) {
        return Err(too_large());
    }
    let mut memory = BytesMut::new();
    let mut spill: Option<Spill> = None;
    let mut length = 0u64;
    loop {
        let next = tokio::time::timeout(limits.stall, body.frame()).await.map_err(|_| stalled(limits))?;
        let Some(frame) = next else { break };
        let frame = frame.map_err(|cause| Failure::new(Cause::BadRequest, format!("the request body broke off: {cause}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > limits.body_spill as u64 {
            return Err(too_large());
        }
        if spill.is_none() && length > limits.body_hold as u64 {
            let file = Spill::new(files::unnamed().map_err(|e| cannot_spill(&e))?, room);
            spill = Some(append(file, std::mem::take(&mut memory).freeze(), limits).await?);
        }
        spill = match spill {
            Some(file) => Some(append(file, data, limits).await?),
            None => {
                memory.extend_from_slice(&data);
                None
            }
        };
    }
    Ok(match spill {
        Some(file) => Held::Spilled(Arc::new(file), length),
        None => Held::Memory(memory.freeze()),
    })
}

fn stalled(limits: &Limits) -> Failure {
    let text = format!("the client sent nothing more of its request body for {:?}", limits.stall);
    Failure::new(Cause::RequestTimeout, text).hint("limits.stall sets the bound")
}

async fn append(mut file: Spill, data: Bytes, limits: &Limits) -> Result<Spill, Failure> {
    if !file.reserve(data.len() as u64, limits.body_spill_total as u64) {
        let text = format!(
            "request bodies that must be read before they are sent take up all of {} bytes on disk",
            limits.body_spill_total
        );
        return Err(Failure::new(Cause::Overload, text).hint("send the request again later, or raise `limits.body_spill_total`"));
    }
    let written = tokio::task::spawn_blocking(move || file.append(&data).map(|()| file)).await;
    match written {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(cause)) => Err(cannot_spill(&cause)),
        Err(cause) => Err(cannot_spill(&cause)),
    }
}

fn cannot_spill(cause: &dyn std::fmt::Display) -> Failure {
    Failure::new(Cause::Internal, format!("cannot keep the request body in a temporary file: {cause}"))
}
