//! The streams of an HTTP/2 client, each a task of its own that ends when its client leaves an answer unread for too long.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep};

use crate::exchange::{Waits, observed};

/// Runs them.
#[derive(Clone, Copy)]
pub struct Streams {
    pub stall: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        tokio::spawn(Stream { stream: Box::pin(stream), stall: self.stall, unread: None, alarm: None });
    }
}

struct Stream<F> {
    stream: Pin<Box<F>>,
    stall: Duration,
    /// Since when a piece of the answer waits for the client to take it.
    unread: Option<Instant>,
    /// Set for the first piece that has to wait.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let (polled, waits) = observed(|| this.stream.as_mut().poll(cx));
        if polled.is_ready() {
            return Poll::Ready(());
        }
        match waits {
            Some(Waits::Client) => this.unread = Some(Instant::now()),
            Some(Waits::Origin) => this.unread = None,
            // The body was not asked for more: whoever was waited for still is.
            None => {}
        }
        let Some(unread) = this.unread else { return Poll::Pending };
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(unread + this.stall)));
        while alarm.as_mut().poll(cx).is_ready() {
            let deadline = unread + this.stall;
            if deadline <= Instant::now() {
                tracing::debug!("a client left an answer unread for too long; its stream is reset");
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::exchange::note;

    const STALL: Duration = Duration::from_secs(300);

    fn stream<F: Future>(stream: F) -> Stream<F> {
        Stream { stream: Box::pin(stream), stall: STALL, unread: None, alarm: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_client_takes_nothing_and_not_while_the_origin_is_waited_for() {
        let begun = Instant::now();
        let unread = stream(poll_fn(|_| {
            if begun.elapsed().is_zero() {
                note(Waits::Client);
            }
            Poll::<()>::Pending
        }));
        unread.await;
        assert_eq!(begun.elapsed().as_secs(), STALL.as_secs());
        let silent = stream(poll_fn(|_| {
            note(Waits::Client);
            note(Waits::Origin);
            Poll::<()>::Pending
        }));
        assert!(tokio::time::timeout(STALL * 10, silent).await.is_err());
    }
}
