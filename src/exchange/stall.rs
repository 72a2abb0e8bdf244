//! Bodies that stand still: how long that may be, and who is waited for.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::upstream::BodyError;

/// Why an answer's body ends before its end.
#[derive(Debug)]
pub enum Broken {
    /// The origin's side failed.
    Origin(BodyError),
    /// It sent nothing more for too long.
    Stalled,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Origin(cause) => cause.fmt(f),
            Broken::Stalled => f.write_str("the origin sent nothing more of its answer for too long"),
        }
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // hyper looks along the sources for the reason that an HTTP/2 stream was reset with.
            Broken::Origin(cause) => cause.source(),
            Broken::Stalled => None,
        }
    }
}

/// With one body that is waited for. Its timer is set when that happens for the first time, and seldom again.
#[derive(Default)]
pub struct Patience {
    since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Something came.
    pub fn renew(&mut self) {
        self.since = None;
    }

    /// Nothing came. Has it been so for `bound`, and did nothing move the other way since `meanwhile`?
    pub fn is_over(
        &mut self,
        cx: &mut Context<'_>,
        bound: impl Fn() -> Duration,
        meanwhile: impl Fn() -> Option<std::time::Instant>,
    ) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.alarm.is_none() {
            self.alarm = Some(Box::pin(tokio::time::sleep_until(since + bound())));
        }
        let Some(alarm) = &mut self.alarm else { return false };
        if alarm.as_mut().poll(cx).is_pending() {
            return false;
        }
        let deadline = meanwhile().map_or(since, |moved| since.max(moved.into())) + bound();
        alarm.as_mut().reset(deadline);
        alarm.as_mut().poll(cx).is_ready()
    }
}

/// Whom the task that is being polled waits for, as far as an answer's body is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waits {
    /// A piece was handed on, and no more was asked for yet.
    Client,
    Origin,
}

thread_local! {
    static WAITS: Cell<Option<Waits>> = const { Cell::new(None) };
}

pub fn note(waits: Waits) {
    WAITS.set(Some(waits));
}

/// Polls what may poll an answer's body; with it, what was noted, if it did.
pub fn observed<T>(poll: impl FnOnce() -> Poll<T>) -> (Poll<T>, Option<Waits>) {
    WAITS.set(None);
    let polled = poll();
    (polled, WAITS.take())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const BOUND: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn patience_ends_after_the_bound_and_begins_anew_with_everything_that_moves() {
        let until_over = async |patience: &mut Patience, moved: Option<Duration>| {
            let started = tokio::time::Instant::now();
            let meanwhile = || moved.map(|after| (started + after).into_std());
            let over = poll_fn(|cx| if patience.is_over(cx, || BOUND, meanwhile) { Poll::Ready(()) } else { Poll::Pending });
            over.await;
            started.elapsed()
        };
        // The wall clock does not stand still for a test: a second is left for it.
        let about = |elapsed: Duration, expected: Duration| elapsed.abs_diff(expected) < Duration::from_secs(1);
        let elapsed = until_over(&mut Patience::default(), None).await;
        assert!(about(elapsed, BOUND), "{elapsed:?}");
        let elapsed = until_over(&mut Patience::default(), Some(BOUND / 3)).await;
        assert!(about(elapsed, BOUND + BOUND / 3), "{elapsed:?}");
    }

    #[test]
    fn what_a_body_waits_for_is_noted_with_the_task_that_polls_it() {
        assert_eq!(
            observed(|| {
                note(Waits::Client);
                Poll::<()>::Pending
            })
            .1,
            Some(Waits::Client)
        );
        assert_eq!(observed(|| Poll::<()>::Pending).1, None);
    }
}
