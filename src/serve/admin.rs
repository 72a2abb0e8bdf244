//! Endpoints on an address of their own: `/live` (the process serves), `/ready` (it takes work), `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::metrics;
use super::reload::Reloader;
use crate::exchange::Context;
use crate::origin::{Host, parse_authority};

pub async fn serve(listener: TcpListener, context: Arc<Context>, reloader: Arc<Reloader>, ready: Arc<AtomicBool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.cut.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (ready, context, reloader) = (ready.clone(), context.clone(), reloader.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let ready = ready.load(Ordering::Relaxed);
                let answer = answer(&request, ready, || metrics::text(&context, &reloader, ready));
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(Duration::from_secs(60), connection).await;
        });
    }
}

fn answer(request: &Request<Incoming>, ready: bool, measured: impl FnOnce() -> String) -> Response<Full<Bytes>> {
    // A web page whose name points here must not read this (DNS rebinding).
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let local = matches!(parse_authority(host), Ok((Host::Ip(_), _))) || host.split(':').next() == Some("localhost");
    if local && request.uri().path() == "/metrics" {
        let mut response = Response::new(Full::new(Bytes::from(measured())));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
        return response;
    }
    let (status, text) = match (local, request.uri().path()) {
        (false, _) => (StatusCode::MISDIRECTED_REQUEST, "not here\n"),
        (true, "/live") => (StatusCode::OK, "live\n"),
        (true, "/ready") if ready => (StatusCode::OK, "ready\n"),
        (true, "/ready") => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        _ => (StatusCode::NOT_FOUND, "there are /live, /ready and /metrics here\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
