//! Endpoints on an address of their own: `/live` (the process serves), `/ready` (it takes work), `/metrics`. They say
//! nothing that a machine beside this one may not know; anything more belongs to callers on loopback alone.

use std::convert::Infallible;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
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
use tokio::sync::Semaphore;

use super::metrics;
use super::reload::Reloader;
use crate::exchange::Context;
use crate::origin::{Host, parse_authority};

pub async fn serve(listener: TcpListener, context: Arc<Context>, reloader: Arc<Reloader>, ready: Arc<AtomicBool>) {
    let permits = Arc::new(Semaphore::new(context.gate().limits.admin_connections.min(Semaphore::MAX_PERMITS)));
    let mut reserve = Reserve(Vec::new());
    reserve.fill(&listener);
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.cut.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, mostly.
            if reserve.0.pop().is_none() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            continue;
        };
        // Where the caller came in, not where we listen: 0.0.0.0 is reached both ways.
        let on_loopback = stream.local_addr().is_ok_and(|own| is_loopback(own.ip()));
        reserve.fill(&listener);
        let (ready, context, reloader) = (ready.clone(), context.clone(), reloader.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request: Request<Incoming>| {
                let ready = ready.load(Ordering::Relaxed);
                let answer = answer(&request, on_loopback, ready, || metrics::text(&context, &reloader, ready));
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

/// Descriptors that are held so that there is one for whoever asks how things are when all others are taken.
struct Reserve(Vec<OwnedFd>);

impl Reserve {
    const MOST: usize = 4;

    fn fill(&mut self, listener: &TcpListener) {
        while self.0.len() < Self::MOST {
            let Ok(spare) = listener.as_fd().try_clone_to_owned() else { return };
            self.0.push(spare);
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn answer<B>(request: &Request<B>, on_loopback: bool, ready: bool, measured: impl FnOnce() -> String) -> Response<Full<Bytes>> {
    // A web page whose name points to loopback must not read this (DNS rebinding). Beyond it, names are what probes and
    // scrapers call us by.
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let local = matches!(parse_authority(host), Ok((Host::Ip(_), _))) || host.split(':').next() == Some("localhost");
    let (status, kind, text) = match request.uri().path() {
        _ if on_loopback && !local => (StatusCode::MISDIRECTED_REQUEST, TEXT, "not here\n".to_owned()),
        "/live" => (StatusCode::OK, TEXT, "live\n".to_owned()),
        "/ready" if ready => (StatusCode::OK, TEXT, "ready\n".to_owned()),
        "/ready" => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n".to_owned()),
        "/metrics" => (StatusCode::OK, metrics::CONTENT_TYPE, measured()),
        _ => (StatusCode::NOT_FOUND, TEXT, "there are /live, /ready and /metrics here\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // By this `gatepass health` tells us from whatever else may listen on a port.
    fields.insert(header::SERVER, HeaderValue::from_static(concat!("gatepass/", env!("CARGO_PKG_VERSION"))));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    fn status(path: &str, host: &str, on_loopback: bool) -> u16 {
        let request = Request::get(path).header(header::HOST, host).body(()).unwrap();
        answer(&request, on_loopback, true, String::new).status().as_u16()
    }

    #[test]
    fn foreign_names_are_heard_beyond_loopback_alone() {
        for path in ["/live", "/ready", "/metrics"] {
            assert_eq!(status(path, "gatepass.monitoring.svc:9118", false), 200, "{path}");
            assert_eq!(status(path, "10.0.0.7:9118", false), 200, "{path}");
            assert_eq!(status(path, "rebound.evil", true), 421, "{path}");
            assert_eq!(status(path, "localhost:9118", true), 200, "{path}");
            assert_eq!(status(path, "127.0.0.1:9118", true), 200, "{path}");
        }
        for path in ["/", "/api/exchanges", "/page"] {
            assert_eq!(status(path, "10.0.0.7:9118", false), 404, "{path}");
        }
    }

    #[test]
    fn readiness_is_a_status() {
        let request = Request::get("/ready").header(header::HOST, "localhost").body(()).unwrap();
        assert_eq!(answer(&request, true, false, String::new).status(), 503);
    }
}
