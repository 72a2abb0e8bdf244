//! How long the head of an answer may take.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use super::body::BodyProgress;
use crate::failure::{Cause, Failure};
use crate::limits::Limits;
use crate::origin::Origin;

/// `limits.response_head` from the end of the request on, and before that for as long as its body moves.
pub struct Deadline<'a>(Option<(&'a Limits, Option<Arc<BodyProgress>>)>);

impl<'a> Deadline<'a> {
    /// `progress`: of the request's body, where it has one.
    pub fn new(limits: &'a Limits, progress: Option<&Arc<BodyProgress>>) -> Self {
        Self(Some((limits, progress.cloned())))
    }

    /// For what is bounded elsewhere.
    pub fn none() -> Self {
        Self(None)
    }

    /// Waits for what `sending` waits for.
    ///
    /// # Errors
    /// It takes longer.
    pub(super) async fn bound<F: Future>(&self, origin: &Origin, mut sending: Pin<&mut F>) -> Result<F::Output, Failure> {
        let Some((limits, progress)) = &self.0 else { return Ok(sending.await) };
        let progress = progress.as_deref();
        let begun = Instant::now();
        loop {
            let until = deadline(limits, begun, progress);
            if let Ok(sent) = tokio::time::timeout_at(until.into(), sending.as_mut()).await {
                return Ok(sent);
            }
            if deadline(limits, begun, progress) <= Instant::now() {
                return Err(overdue(limits, progress, origin));
            }
        }
    }
}

fn deadline(limits: &Limits, begun: Instant, progress: Option<&BodyProgress>) -> Instant {
    match progress {
        Some(body) if !body.is_ended() => body.moved() + body.patience(limits),
        Some(body) => body.moved().max(begun) + limits.response_head,
        None => begun + limits.response_head,
    }
}

fn overdue(limits: &Limits, progress: Option<&BodyProgress>, origin: &Origin) -> Failure {
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
