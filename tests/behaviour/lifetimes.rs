//! An upstream connection is used again when both directions have ended, and given up when it is dead or stands still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gatepass::tls::settings::Alpn;
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Far below every default bound.
const SOON: Duration = Duration::from_secs(5);

fn length(head: &str) -> usize {
    let field = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    field.map_or(0, |length| length.parse().unwrap())
}

async fn start(pki: &Pki, origin: SocketAddr, limits: &str) -> Gatepass {
    let yaml = format!("limits: {{ {limits} }}\nrules:\n{}", rule("a.test", origin, "bearer: t"));
    Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

fn post(length: usize, body: &str) -> String {
    format!("POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Answers every request as soon as its head is there, and reads its body afterwards. With it: bytes of bodies, connections.
async fn hasty(pki: &Pki) -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (bytes, connections): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let (read, made) = (bytes.clone(), connections.clone());
    let address = raw_origin(pki, move |mut stream| {
        let (read, made) = (read.clone(), made.clone());
        async move {
            made.fetch_add(1, Ordering::SeqCst);
            loop {
                let request = head(&mut stream).await;
                if request.is_empty() || stream.write_all(OK).await.is_err() {
                    return;
                }
                let mut left = length(&request);
                let mut piece = vec![0; 64 * 1024];
                while left > 0 {
                    let room = left.min(piece.len());
                    let Ok(n @ 1..) = stream.read(&mut piece[..room]).await else { return };
                    left -= n;
                    read.fetch_add(n, Ordering::SeqCst);
                }
            }
        }
    })
    .await;
    (address, bytes, connections)
}

#[tokio::test]
async fn a_connection_whose_upload_goes_on_after_the_answer_is_nobody_elses_until_it_has_ended() {
    const LENGTH: usize = 300_000;
    let pki = Pki::new();
    let (origin, bytes, connections) = hasty(&pki).await;
    let gatepass = start(&pki, origin, "upstream_idle: 30s").await;
    let mut a = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    assert!(ask(&mut a, &post(LENGTH, "beginning")).await.ends_with("ok"));
    let mut b = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    for _ in 0..3 {
        let answer = tokio::time::timeout(SOON, ask(&mut b, &get("/"))).await.expect("B does not wait for A");
        assert!(answer.ends_with("ok"), "{answer}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    // A's upload is not harmed by having been answered early; then its connection is free.
    a.write_all("x".repeat(LENGTH - "beginning".len()).as_bytes()).await.unwrap();
    let waiting = Instant::now();
    while bytes.load(Ordering::SeqCst) < LENGTH && waiting.elapsed() < SOON {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bytes.load(Ordering::SeqCst), LENGTH);
    tokio::time::sleep(Duration::from_millis(200)).await;
    for client in [&mut a, &mut b] {
        assert!(ask(client, &get("/")).await.ends_with("ok"));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_upload_that_stands_still_after_its_answer_costs_its_own_connection_only() {
    let pki = Pki::new();
    let (origin, _, connections) = hasty(&pki).await;
    let gatepass = start(&pki, origin, "stall: 300ms").await;
    let mut a = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    assert!(ask(&mut a, &post(300_000, "beginning")).await.ends_with("ok"));
    tokio::time::sleep(Duration::from_millis(900)).await;
    for _ in 0..2 {
        assert!(gatepass.get("a.test", "/").await.ends_with("ok"));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

/// Reads a request whole, then answers it, but not `/silent`.
async fn patient(pki: &Pki) -> (SocketAddr, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let made = connections.clone();
    let address = raw_origin(pki, move |mut stream| {
        made.fetch_add(1, Ordering::SeqCst);
        async move {
            loop {
                let request = head(&mut stream).await;
                let mut body = vec![0; length(&request)];
                if request.is_empty() || stream.read_exact(&mut body).await.is_err() {
                    return;
                }
                if request.contains(" /silent ") {
                    return std::future::pending().await;
                }
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    (address, connections)
}

#[tokio::test]
async fn the_time_for_an_answer_runs_from_the_end_of_the_upload() {
    let pki = Pki::new();
    let (origin, _) = patient(&pki).await;
    let gatepass = start(&pki, origin, "response_head: 500ms, stall: 2s").await;
    let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    client.write_all(post(50, "").as_bytes()).await.unwrap();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        client.write_all(&[b'x'; 10]).await.unwrap();
    }
    let answer = ask(&mut client, "").await;
    assert!(status(&answer) == 200 && answer.ends_with("ok"), "{answer}");
    // From its end on, it does run.
    let begun = Instant::now();
    let answer = gatepass.through("a.test", "POST /silent HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi").await;
    assert!(status(&answer) == 504 && answer.contains("limits.response_head"), "{answer}");
    assert!(begun.elapsed() < SOON);
}

#[tokio::test]
async fn an_upload_that_stands_still_is_408_and_a_call_that_is_silent_by_nature_goes_on() {
    let pki = Pki::new();
    let (origin, _) = patient(&pki).await;
    let gatepass = start(&pki, origin, "stall: 500ms").await;
    let answer = gatepass.through("a.test", &post(50, "beginning")).await;
    assert!(status(&answer) == 408 && answer.contains("limits.stall"), "{answer}");
    let mut call = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    let head = "POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc+proto\r\nContent-Length: 4\r\n\r\nhi";
    call.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(status(&ask(&mut call, "ho").await), 200);
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut_where_its_length_is_known() {
    let pki = Pki::new();
    let origin = raw_origin(&pki, |mut stream| async move {
        let request = head(&mut stream).await;
        let sized: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst";
        let stream_like: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        stream.write_all(if request.contains("/sized") { sized } else { stream_like }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let _ = stream.write_all(if request.contains("/sized") { b"last" } else { b"4\r\nlast\r\n0\r\n\r\n" }).await;
    })
    .await;
    let gatepass = start(&pki, origin, "stall: 500ms").await;
    let answer = gatepass.get("a.test", "/sized").await;
    assert!(answer.ends_with("first"), "{answer}");
    let answer = gatepass.get("a.test", "/events").await;
    assert!(answer.ends_with("0\r\n\r\n") && answer.contains("last"), "{answer}");
}

/// How an origin leaves.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Leaves {
    Reset,
    WithoutCloseNotify,
}

/// Answers one request a connection, and leaves at the second. With it: connections.
async fn fickle(pki: &Pki, leaves: Leaves, more: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let made = connections.clone();
    let address = raw_origin(pki, move |mut stream: Tls| {
        made.fetch_add(1, Ordering::SeqCst);
        async move {
            let _ = head(&mut stream).await;
            let answer = format!("HTTP/1.1 200 OK\r\n{more}Content-Length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = head(&mut stream).await;
            let (tcp, _) = stream.into_inner();
            if leaves == Leaves::Reset {
                let _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
            }
        }
    })
    .await;
    (address, connections)
}

#[tokio::test]
async fn a_kept_connection_that_dies_under_a_request_that_can_be_repeated_costs_nothing() {
    let pki = Pki::new();
    for leaves in [Leaves::Reset, Leaves::WithoutCloseNotify] {
        let (origin, connections) = fickle(&pki, leaves, "").await;
        let gatepass = start(&pki, origin, "stall: 5m").await;
        for method in ["GET", "DELETE", "OPTIONS", "HEAD", "PUT"] {
            let request = format!("{method} / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
            let answer = gatepass.through("a.test", &request).await;
            assert_eq!(status(&answer), 200, "{leaves:?} {method}: {answer}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 5, "{leaves:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_repeated_goes_by_a_connection_that_is_new_or_was_just_used() {
    let pki = Pki::new();
    let (origin, connections) = fickle(&pki, Leaves::Reset, "").await;
    let gatepass = start(&pki, origin, "stall: 5m").await;
    for expected in 1..=2 {
        let answer = gatepass.through("a.test", &post(2, "hi")).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert_eq!(connections.load(Ordering::SeqCst), expected);
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    // Never twice: it may have been done.
    assert_eq!(status(&gatepass.get("a.test", "/").await), 200);
    let answer = gatepass.through("a.test", &post(2, "hi")).await;
    assert_eq!(status(&answer), 502, "{answer}");
    // An origin that says how long it keeps connections is believed, either way.
    for (more, kept) in [("Keep-Alive: timeout=60\r\n", 1), ("Keep-Alive: max=5, timeout=1\r\n", 2)] {
        let (origin, connections) = fickle(&pki, Leaves::Reset, more).await;
        let gatepass = start(&pki, origin, "stall: 5m").await;
        assert_eq!(status(&gatepass.through("a.test", &post(2, "hi")).await), 200);
        tokio::time::sleep(Duration::from_millis(1300)).await;
        gatepass.through("a.test", &post(2, "hi")).await;
        assert_eq!(connections.load(Ordering::SeqCst), kept, "{more}");
    }
}

/// Passes bytes on to `to`; connections that are there when `frozen` is set say nothing more. With it: connections.
async fn freezing(to: SocketAddr) -> (SocketAddr, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (frozen, connections): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
    let (freeze, made) = (frozen.clone(), connections.clone());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            made.fetch_add(1, Ordering::SeqCst);
            freeze.store(false, Ordering::SeqCst);
            let freeze = freeze.clone();
            tokio::spawn(async move {
                let mut origin = TcpStream::connect(to).await.unwrap();
                let halt = async {
                    while !freeze.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut origin) => return,
                    () = halt => {}
                }
                tokio::time::sleep(Duration::from_secs(60)).await;
                drop((client, origin));
            });
        }
    });
    (address, frozen, connections)
}

#[tokio::test]
async fn a_shared_connection_that_fell_silent_is_noticed_by_ping_and_its_requests_are_served_by_another() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let (between, frozen, connections) = freezing(origin.address).await;
    let gatepass = start(&pki, between, "keep_alive: 500ms, keep_alive_timeout: 500ms").await;
    let mut client = gatepass.h2("a.test").await;
    let request = || Request::get("https://a.test/").body(Empty::new().boxed()).unwrap();
    assert_eq!(client.send_request(request()).await.unwrap().status(), 200);
    frozen.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    assert_eq!(client.send_request(request()).await.unwrap().status(), 200);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_ran_into_the_time_for_an_answer_carries_nothing_more() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    for h2 in [true, false] {
        let (between, frozen, connections) = freezing(origin.address).await;
        let gatepass = start(&pki, between, "response_head: 500ms").await;
        let ask_once = async || {
            if !h2 {
                return status(&gatepass.get("a.test", "/").await);
            }
            let request = Request::get("https://a.test/").body(Empty::new().boxed()).unwrap();
            gatepass.h2("a.test").await.send_request(request).await.unwrap().status().as_u16()
        };
        assert_eq!(ask_once().await, 200);
        frozen.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(ask_once().await, 504, "h2: {h2}");
        assert_eq!(ask_once().await, 200, "h2: {h2}");
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }
}
