//! HTTP toward the client, with every bound on waiting, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;

use super::between::Between;
use super::blocks::BlockJudge;
use super::heads::{Heads, Teller};
use super::streams::Streams;
use super::watched::Watched;
use crate::exchange::relay::FAREWELL;
use crate::exchange::{Activity, Context, LAST_CALL, Overdue, Reply, Session, Transport};
use crate::limits::Limits;

/// Serves an intercepted connection until its end.
pub async fn intercepted<S>(stream: S, session: Session, context: &Arc<Context>, limits: &Limits, h2: bool)
where
    S: Transport,
{
    let activity = session.activity().clone();
    let session = Arc::new(session);
    let teller: Teller = {
        let session = session.clone();
        Arc::new(move |method, path, failure| session.malformed(method, path, failure))
    };
    let io = watched(stream, &activity, limits, teller);
    if h2 {
        let service = service_fn(move |request: Request<Incoming>| session.clone().exchange(request));
        let connection = h2_builder(limits).serve_connection(io, service);
        drive(connection, &activity, context, limits).await;
    } else {
        let unused = UnusedUpgrade::default();
        let seen = unused.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            seen.see(&request);
            session.clone().exchange(request)
        });
        let connection = h1_builder(limits).serve_connection(io, service).with_upgrades();
        drive(connection, &activity, context, limits).await;
        unused.end(&activity, limits).await;
    }
}

/// Serves a connection to gatepass itself, its requests handled by `service`; HTTP/2 where its activity says so.
pub async fn plain<S, V, F>(
    stream: S,
    activity: Arc<Activity>,
    context: &Arc<Context>,
    limits: &Limits,
    teller: Teller,
    service: V,
) where
    S: Transport,
    V: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Result<Response<Reply>, Infallible>> + Send + 'static,
{
    let io = watched(stream, &activity, limits, teller);
    if activity.is_multiplexed() {
        let connection = h2_builder(limits).serve_connection(io, service_fn(service));
        return drive(connection, &activity, context, limits).await;
    }
    let unused = UnusedUpgrade::default();
    let seen = unused.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        seen.see(&request);
        service(request)
    });
    let connection = h1_builder(limits).serve_connection(io, service).with_upgrades();
    drive(connection, &activity, context, limits).await;
    unused.end(&activity, limits).await;
}

/// Once an upgrade was asked for on a connection, granted or not, hyper hands that connection over when all is done on
/// it, and does not end it. Where nobody takes it, its end is left to us: what is still to be said, `close_notify`, and
/// time for the client to read it.
#[derive(Clone, Default)]
struct UnusedUpgrade(Arc<Mutex<Option<OnUpgrade>>>);

impl UnusedUpgrade {
    fn see(&self, request: &Request<Incoming>) {
        if let Some(upgrade) = request.extensions().get::<OnUpgrade>() {
            *self.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(upgrade.clone());
        }
    }

    /// After hyper is done with the connection; what broke off is not handed over.
    async fn end(&self, activity: &Activity, limits: &Limits) {
        let upgrade = self.0.lock().unwrap_or_else(|e| e.into_inner()).take();
        let Some(upgrade) = upgrade.filter(|_| !activity.is_handed_over()) else { return };
        if let Ok(connection) = upgrade.await {
            let _ = tokio::time::timeout(limits.linger, TokioIo::new(connection).shutdown()).await;
        }
    }
}

/// The client's stream as hyper is given it. `teller`: of heads that hyper refuses or would refuse.
fn watched<S>(stream: S, activity: &Arc<Activity>, limits: &Limits, teller: Teller) -> TokioIo<Watched<S>>
where
    S: Transport,
{
    let between = match activity.is_multiplexed() {
        true => Between::http2(stream, activity.clone(), BlockJudge::new(limits, teller)),
        false => Between::http1(stream, activity.clone(), Heads::new(limits, teller)),
    };
    TokioIo::new(Watched::new(between, activity.clone(), limits))
}

fn h1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The watchdog bounds heads and idleness apart from each other; hyper's timer would end idle connections too.
        .header_read_timeout(None)
        .max_buf_size(limits.h1_buffer())
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes);
    builder
}

fn h2_builder(limits: &Limits) -> http2::Builder<Streams> {
    let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(Streams { stall: limits.stall });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(clamp(limits.h2_streams))
        .initial_stream_window_size(clamp(limits.h2_stream_window))
        .initial_connection_window_size(clamp(limits.h2_connection_window))
        .max_header_list_size(clamp(limits.header_bytes))
        .max_send_buf_size(limits.stream_buffer)
        .enable_connect_protocol();
    builder
}

/// A connection that can be asked to end after what it is doing.
trait Graceful: Future {
    fn finish(self: Pin<&mut Self>);
}

impl<S, V> Graceful for http1::UpgradeableConnection<TokioIo<Watched<S>>, V>
where
    S: Transport,
    V: HttpService<Incoming, ResBody = Reply>,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, V> Graceful for http2::Connection<TokioIo<Watched<S>>, V, Streams>
where
    S: Transport,
    V: HttpService<Incoming, ResBody = Reply>,
    V::Future: Send + 'static,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive<C, E>(connection: C, activity: &Arc<Activity>, context: &Arc<Context>, limits: &Limits)
where
    C: Graceful + Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut connection = pin!(connection);
    // Its task is woken a few times for each request. What it waits for beside is polled when that itself wakes it.
    let aside: FuturesUnordered<_> = std::iter::once(until_it_must_end(activity, context, limits)).collect();
    let mut aside = pin!(aside);
    let ended = tokio::select! {
        biased;
        result = connection.as_mut() => Some(result),
        ends = aside.next() => {
            if let Some(overdue) = ends.flatten() {
                tracing::debug!(?overdue, "closing a client connection that waited too long");
                if overdue != Overdue::Idle {
                    return;
                }
            }
            None
        }
    };
    let result = match ended {
        Some(result) => result,
        None => {
            // hyper closes at once a connection that it has read nothing from.
            let ended = tokio::select! {
                _ = connection.as_mut() => true,
                () = first_request(activity) => false,
                () = context.cut.cancelled() => false,
            };
            if ended {
                return;
            }
            connection.as_mut().finish();
            tokio::select! {
                result = connection.as_mut() => result,
                // A head that never ends would keep the connection: the watchdog goes on.
                _ = watchdog(activity, limits) => return,
                () = context.cut.cancelled() => {
                    crate::exchange::count_cut(context, activity.in_flight());
                    // WebSockets on it are being told.
                    if activity.is_multiplexed() && activity.is_handed_over() {
                        let _ = tokio::time::timeout(FAREWELL, connection).await;
                    }
                    return;
                }
            }
        }
    };
    if let Err(cause) = result {
        tracing::debug!(%cause, "client connection ended");
    }
}

/// Returns when a bound on waiting is passed, or, with `None`, when gatepass stops.
async fn until_it_must_end(activity: &Activity, context: &Context, limits: &Limits) -> Option<Overdue> {
    tokio::select! {
        overdue = watchdog(activity, limits) => Some(overdue),
        () = context.stopping.cancelled() => None,
    }
}

/// Returns when the client has asked for something, or has had a moment to.
async fn first_request(activity: &Activity) {
    const STEP: Duration = Duration::from_millis(20);
    let mut left = LAST_CALL;
    while !activity.has_begun() && !activity.is_multiplexed() && !left.is_zero() {
        tokio::time::sleep(STEP).await;
        left = left.saturating_sub(STEP);
    }
}

/// Returns when a bound on waiting is passed. Looks now and then; no timer is set for a request.
async fn watchdog(activity: &Activity, limits: &Limits) -> Overdue {
    let shortest = limits.first_byte.min(limits.request_head).min(limits.idle);
    let tick = (shortest / 8).clamp(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        tokio::time::sleep(tick).await;
        if let Some(overdue) = activity.overdue(limits) {
            return overdue;
        }
    }
}
