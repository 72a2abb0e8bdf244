//! Which version of HTTP is spoken to an origin.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gatepass::tls::settings::Alpn;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// SETTINGS_MAX_CONCURRENT_STREAMS.
fn allowing(streams: u32) -> Vec<u8> {
    frame(4, 0, 0, &[&[0, 3][..], &streams.to_be_bytes()].concat())
}

type H2Origin = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

/// Type, flags and stream of the next frame.
async fn next_frame(stream: &mut H2Origin) -> Option<(u8, u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
}

async fn say(stream: &mut H2Origin, frame: &[u8]) {
    stream.write_all(frame).await.unwrap();
    stream.flush().await.unwrap();
}

/// Says what it allows, and what it allows after 300 ms, where that is given; answers whatever it is asked from then on.
async fn allows(stream: &mut H2Origin, first: u32, then: Option<u32>) {
    say(stream, &allowing(first)).await;
    if let Some(then) = then {
        tokio::time::sleep(Duration::from_millis(300)).await;
        say(stream, &allowing(then)).await;
    }
    stream.read_exact(&mut [0; 24]).await.unwrap();
    while let Some((kind, _, opened)) = next_frame(stream).await {
        if kind == 1 && (first > 0 || then.is_some()) {
            say(stream, &frame(1, 5, opened, &[0x88])).await;
        }
    }
}

async fn status_of(gatepass: &Gatepass) -> (u16, String) {
    let request = Request::post("https://a.test/").body(Empty::new().boxed()).unwrap();
    let answer = gatepass.h2("a.test").await.send_request(request).await.unwrap();
    let told = answer.headers().get("proxy-status").map_or("", |told| told.to_str().unwrap()).to_owned();
    (answer.status().as_u16(), told)
}

#[tokio::test]
async fn an_origin_that_allows_no_request_yet_is_waited_for_and_not_for_ever() {
    let pki = Pki::new();
    let start = async |address, limits: &str| {
        let yaml = format!("limits: {{ {limits} }}\nrules:\n{}", rule("a.test", address, "bearer: t"));
        Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await
    };
    let later = raw_origin_speaking(&pki, &["h2"], |mut stream| async move { allows(&mut stream, 0, Some(10)).await }).await;
    let gatepass = start(later, "connect: 10s").await;
    assert_eq!(status_of(&gatepass).await.0, 200);
    let never = raw_origin_speaking(&pki, &["h2"], |mut stream| async move { allows(&mut stream, 0, None).await }).await;
    let gatepass = start(never, "connect: 2s").await;
    let (status, told) = tokio::time::timeout(PATIENCE, status_of(&gatepass)).await.unwrap();
    assert!(status == 503 && told.contains("destination_unavailable") && told.contains("allowed no request"), "{told}");
}

#[tokio::test]
async fn an_origin_that_allows_no_more_requests_on_a_connection_gets_new_ones_by_another() {
    let pki = Pki::new();
    let (connections, lowered, answer): (AtomicUsize, Arc<tokio::sync::Notify>, Arc<tokio::sync::Notify>) = Default::default();
    let (is_lowered, may_answer) = (lowered.clone(), answer.clone());
    let address = raw_origin_speaking(&pki, &["h2"], move |mut stream| {
        let place = connections.fetch_add(1, Ordering::SeqCst);
        let (is_lowered, may_answer) = (is_lowered.clone(), may_answer.clone());
        async move {
            if place > 0 {
                return allows(&mut stream, 10, None).await;
            }
            say(&mut stream, &allowing(10)).await;
            stream.read_exact(&mut [0; 24]).await.unwrap();
            let (mut opened, mut acknowledged) = (0, 0);
            while acknowledged < 2 {
                match next_frame(&mut stream).await.unwrap() {
                    (1, _, stream_id) => {
                        opened = stream_id;
                        say(&mut stream, &allowing(0)).await;
                    }
                    (4, 1, _) => acknowledged += 1,
                    _ => {}
                }
            }
            is_lowered.notify_one();
            may_answer.notified().await;
            say(&mut stream, &frame(1, 5, opened, &[0x88])).await;
            while next_frame(&mut stream).await.is_some() {}
        }
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let first = async {
        let first = status_of(&gatepass).await;
        assert_eq!(first.0, 200);
    };
    let second = async {
        lowered.notified().await;
        // It takes effect in a task of its own.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(tokio::time::timeout(PATIENCE, status_of(&gatepass)).await.unwrap().0, 200);
        answer.notify_one();
    };
    tokio::join!(first, second);
}
