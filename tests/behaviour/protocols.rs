//! Which version of HTTP is spoken to an origin.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use gatepass::config::Alpn;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;

use crate::support::*;

/// Resets what comes by HTTP/2, or ends the connection, since HTTP/1.1 is required; serves HTTP/1.1. How often it was met each way.
async fn requiring_http_1_1(pki: &Pki, by_goaway: bool) -> (std::net::SocketAddr, Arc<(AtomicUsize, AtomicUsize)>) {
    let met: Arc<(AtomicUsize, AtomicUsize)> = Arc::default();
    let count = met.clone();
    let address = raw_origin_speaking(pki, &["h2", "http/1.1"], move |mut stream| {
        let count = count.clone();
        async move {
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                if by_goaway {
                    // Its settings, and a GOAWAY that covers no stream.
                    let mut first = [0; 256];
                    let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut first).await;
                    let goaway = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0d";
                    count.0.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.write_all(goaway).await;
                    let _ = stream.flush().await;
                    while tokio::io::AsyncReadExt::read(&mut stream, &mut first).await.is_ok_and(|n| n > 0) {}
                    return;
                }
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    count.0.fetch_add(1, Ordering::SeqCst);
                    respond.send_reset(h2::Reason::HTTP_1_1_REQUIRED);
                }
                return;
            }
            loop {
                let request = head(&mut stream).await;
                if request.is_empty() {
                    return;
                }
                count.1.fetch_add(1, Ordering::SeqCst);
                let length =
                    request.to_ascii_lowercase().split("content-length: ").nth(1).and_then(|t| t.lines().next()?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[answer.as_bytes(), &body].concat()).await.unwrap();
            }
        }
    })
    .await;
    (address, met)
}

#[tokio::test]
async fn an_origin_that_requires_http_1_1_is_given_it_and_it_is_remembered() {
    for by_goaway in [false, true] {
        let pki = Pki::new();
        let (address, met) = requiring_http_1_1(&pki, by_goaway).await;
        let gatepass =
            Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
        for method in [Method::GET, Method::POST] {
            let request = Request::builder()
                .method(method)
                .uri("https://a.test/")
                .body(Full::new(Bytes::from_static(b"body")).boxed())
                .unwrap();
            let response = gatepass.h2("a.test").await.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200, "{by_goaway}");
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
        }
        assert_eq!((met.0.load(Ordering::SeqCst), met.1.load(Ordering::SeqCst)), (1, 2), "{by_goaway}");
    }
}

#[tokio::test]
async fn where_a_rule_insists_on_http_2_the_refusal_is_told() {
    let pki = Pki::new();
    let (address, _) = requiring_http_1_1(&pki, false).await;
    let yaml = format!("rules:\n{}", rule("a.test", address, "bearer: t\ntls: { alpn: [h2] }"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let request = Request::get("https://a.test/").body(Empty::new().boxed()).unwrap();
    let response = gatepass.h2("a.test").await.send_request(request).await.unwrap();
    assert_eq!(response.status(), 502);
    let told = response.headers()["proxy-status"].to_str().unwrap().to_owned();
    assert!(told.contains("HTTP/1.1 alone"), "{told}");
}

/// An origin in clear that says what it was spoken to.
async fn in_clear() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = [0; 3];
                while stream.peek(&mut first).await.is_ok_and(|n| (1..3).contains(&n)) {}
                let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(format!("{:?}", request.version())))))
                });
                let io = TokioIo::new(stream);
                if &first == b"PRI" {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                }
            });
        }
    });
    address
}

async fn said(mut sender: hyper::client::conn::http2::SendRequest<Empty<Bytes>>, uri: &str) -> String {
    let response = sender.send_request(Request::get(uri).body(Empty::new()).unwrap()).await.unwrap();
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn over_h2<S>(stream: S) -> hyper::client::conn::http2::SendRequest<Empty<Bytes>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn an_origin_in_clear_is_spoken_to_in_http_1_1_unless_rule_or_client_know_better() {
    let address = in_clear().await;
    let yaml = |rules: &str| {
        format!("listeners:\n  - {{ listen: \"127.0.0.1:0\", mode: reverse, upstream: \"http://{address}\" }}\n{rules}")
    };
    let gatepass = Gatepass::from(request(&yaml(""), &[])).await;
    // Negotiated in TLS: that was between the client and the listener.
    let stream = tls(gatepass.dial().await, "localhost", &[Alpn::H2], gatepass.ca()).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(said(over_h2(stream).await, "https://localhost/").await, "HTTP/1.1");
    // In clear, the client knew it.
    assert_eq!(said(over_h2(gatepass.dial().await).await, "http://localhost/").await, "HTTP/2.0");
    assert!(gatepass.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.ends_with("HTTP/1.1"));
    let ruled = yaml("rules:\n  - { host: 127.0.0.1, port: any, scheme: http, tls: { alpn: [h2] } }\n");
    let gatepass = Gatepass::from(request(&ruled, &[])).await;
    let stream = tls(gatepass.dial().await, "localhost", &[Alpn::H2], gatepass.ca()).await.unwrap();
    assert_eq!(said(over_h2(stream).await, "https://localhost/").await, "HTTP/2.0");
    assert!(gatepass.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.ends_with("HTTP/2.0"));
}
