//! How a request's body gets on.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::Outbound;
use crate::failure::Failure;
use crate::limits::Limits;

/// What has passed of a streamed body, shared with the exchange.
#[derive(Default)]
pub struct BodyTally {
    bytes: AtomicU64,
    /// The client's body broke off or was malformed: its fault, not the origin's.
    broken: AtomicBool,
    /// Why it was not sent on to its end, if that was ours to decide.
    refused: OnceLock<Failure>,
}

impl BodyTally {
    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// It does not come to its end: `refused` says why, if that was for what is in it.
    pub(super) fn break_off(&self, refused: Option<Failure>) {
        if let Some(failure) = refused {
            let _ = self.refused.set(failure);
        }
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Why the body was not sent on, if that was for what is in it.
    pub fn refusal(&self) -> Option<Failure> {
        self.refused.get().cloned()
    }
}

/// How a request's body gets on, whatever it is made of and however often it is sent; for the bounds on waiting.
pub struct BodyProgress {
    started: Instant,
    /// Milliseconds from `started` to when a piece of it was last handed on.
    moved: AtomicU64,
    /// The origin's side asked for more, and there was none: the client is waited for.
    wanting: AtomicBool,
    ended: AtomicBool,
    /// Nothing may be heard of it for long.
    quiet: bool,
}

impl BodyProgress {
    /// `quiet`: it may be silent by nature.
    pub fn new(quiet: bool) -> Arc<Self> {
        Arc::new(Self {
            quiet,
            started: Instant::now(),
            moved: AtomicU64::new(0),
            wanting: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    /// When it last moved.
    pub fn moved(&self) -> Instant {
        self.started + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// For how long it may stand still.
    pub fn patience(&self, limits: &Limits) -> Duration {
        if self.quiet { limits.tunnel_idle } else { limits.stall }
    }

    /// It waits for the client, not for the origin to take more.
    pub fn is_wanting(&self) -> bool {
        self.wanting.load(Ordering::Relaxed)
    }

    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, wanting: bool, ended: bool) {
        self.wanting.store(wanting, Ordering::Relaxed);
        self.ended.store(ended, Ordering::Relaxed);
        if !wanting {
            let moved = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.moved.store(moved, Ordering::Relaxed);
        }
    }
}

/// A body whose progress is told.
pub struct Followed {
    pub(super) body: Outbound,
    pub(super) progress: Arc<BodyProgress>,
}

impl Followed {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let ended = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            _ => false,
        };
        self.progress.note(polled.is_pending(), ended);
        polled
    }
}
