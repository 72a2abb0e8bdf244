//! How a client's connection ends: its answer arrives, it is noticed when it goes away, and it counts for as long as it is there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatepass::tls::settings::Alpn;
use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::*;

const SOON: Duration = Duration::from_secs(5);
const LARGE: usize = 1_000_000;

fn post(length: usize) -> String {
    format!("POST /no HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length))
}

async fn denying(pki: &Pki, limits: &str) -> Gatepass {
    let origin = Origin::start(pki, OriginOptions::default()).await;
    let deny = "  - host: a.test\n    path: /no\n    action: deny\n";
    let yaml = format!("limits: {{ {limits} }}\nrules:\n{}{deny}", rule("a.test", origin.address, "bearer: t"));
    Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await
}

#[tokio::test]
async fn an_upload_that_is_refused_reads_why_and_its_connection_goes_on() {
    let pki = Pki::new();
    let gatepass = denying(&pki, "linger_bytes: 2MiB").await;
    let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    for _ in 0..3 {
        // All of it is sent before a word of the answer is read.
        let answer = ask(&mut client, &post(LARGE)).await;
        assert!(status(&answer) == 403 && answer.contains("denies"), "{answer}");
    }
    let mut h2 = gatepass.h2("a.test").await;
    for _ in 0..3 {
        let body = Full::new(Bytes::from(vec![0; LARGE])).boxed();
        let answer = h2.send_request(Request::post("https://a.test/no").body(body).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 403);
        assert!(answer.into_body().collect().await.is_ok());
    }
}

#[tokio::test]
async fn an_upload_beyond_what_is_thrown_away_still_reads_why_it_was_refused() {
    let pki = Pki::new();
    let gatepass = denying(&pki, "linger_bytes: 700KiB").await;
    for _ in 0..5 {
        let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
        let answer = ask(&mut client, &post(LARGE)).await;
        assert!(status(&answer) == 403 && answer.contains("denies"), "{answer}");
        let mut rest = Vec::new();
        let end = tokio::time::timeout(SOON, client.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "it is closed in the end");
    }
}

#[tokio::test]
async fn an_origin_that_refuses_an_upload_early_and_hangs_up_is_heard() {
    let pki = Pki::new();
    let origin = raw_origin(&pki, |mut stream| async move {
        stream.get_ref().0.set_nodelay(true).unwrap();
        head(&mut stream).await;
        let answer = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 9\r\n\r\ntoo large";
        stream.write_all(answer).await.unwrap();
        stream.flush().await.unwrap();
        // What was not read makes this a reset.
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", origin, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    for _ in 0..5 {
        let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
        let answer = ask(&mut client, &post(LARGE)).await;
        assert!(status(&answer) == 413 && answer.ends_with("too large"), "{answer}");
    }
}

/// Reads a request, waits for `delay` and answers; counts those who left before that.
async fn slow(delay: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicUsize::new(0));
    let count = left.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                head(&mut stream).await;
                let mut byte = [0; 1];
                match tokio::time::timeout(delay, stream.read(&mut byte)).await {
                    Ok(_) => drop(count.fetch_add(1, Ordering::SeqCst)),
                    Err(_) => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap(),
                }
            });
        }
    });
    (address, left)
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed_whichever_way_it_came() {
    let (origin, left) = slow(Duration::from_secs(20)).await;
    let yaml = format!(
        "listen: 127.0.0.1:0\nlisteners:\n  - listen: 127.0.0.1:0\n    mode: reverse\n    upstream: http://{origin}\nunmatched: intercept\n"
    );
    let gatepass = Gatepass::from(request(&yaml, &[])).await;
    let reverse = gatepass.running.addresses.iter().find(|(address, _)| *address != gatepass.address).unwrap().0;
    let mut noticed = 0;
    for (to, target) in [(gatepass.address, format!("http://{origin}/")), (reverse, "/".to_owned())] {
        // One request, two in one piece, and one more while the first waits; closed, or reset.
        for (first, then, leave) in [(1, 0, drop as fn(TcpStream)), (2, 0, drop), (1, 1, drop), (2, 0, reset), (1, 0, reset)] {
            let one = format!("GET {target} HTTP/1.1\r\nHost: {origin}\r\n\r\n");
            let mut client = TcpStream::connect(to).await.unwrap();
            client.write_all(one.repeat(first).as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            client.write_all(one.repeat(then).as_bytes()).await.unwrap();
            assert_eq!(left.load(Ordering::SeqCst), noticed);
            leave(client);
            noticed += 1;
            let gone = Instant::now();
            while left.load(Ordering::SeqCst) < noticed && gone.elapsed() < SOON {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(left.load(Ordering::SeqCst), noticed, "{to} {first} {then}");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_said_all_it_has_to_say_still_gets_its_answer() {
    let (origin, left) = slow(Duration::from_millis(250)).await;
    let gatepass = Gatepass::start("", &[]).await;
    let one = format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n");
    // Together, five take longer than one is waited for.
    for requests in [1, 5] {
        let mut client = gatepass.dial().await;
        client.write_all(one.repeat(requests).as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answers = String::new();
        tokio::time::timeout(SOON, client.read_to_string(&mut answers)).await.unwrap().unwrap();
        assert!(answers.matches("HTTP/1.1 200").count() == requests && answers.ends_with("ok"), "{answers}");
    }
    assert_eq!(left.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_that_ends_with_its_clients_side_is_answered_in_tls_and_in_clear_every_time() {
    let pki = Pki::new();
    let secure = Origin::start(&pki, OriginOptions::default()).await;
    let clear = Origin::start(&pki, OriginOptions { tls: false, ..OriginOptions::default() }).await;
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", secure.address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    for _ in 0..20 {
        let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
        client.write_all(b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(SOON, client.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(status(&answer) == 200 && answer.ends_with("auth Bearer t"), "{answer}");
        // Two requests in one piece, the end with them.
        let host = clear.address;
        let one = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut client = gatepass.dial().await;
        client.write_all(format!("{one}{one}").as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answers = String::new();
        tokio::time::timeout(SOON, client.read_to_string(&mut answers)).await.unwrap().unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    }
    // Half a request is none.
    let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    client.write_all(b"PUT /half HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nhal").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = tokio::time::timeout(SOON, client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.is_empty() || status(&answer) == 400, "{answer}");
}

/// Sends back what it gets, after `delay`.
async fn echo(delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut piece = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut piece).await {
                    tokio::time::sleep(delay).await;
                    let _ = stream.write_all(&piece[..n]).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn tunnels_of_every_kind_count_among_the_connections_for_their_whole_life() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let to = echo(Duration::ZERO).await;
    let yaml = format!("limits: {{ connections: 2 }}\nrules:\n{}", rule("a.test", origin.address, "bearer: t"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let is_served = async |client: &mut TcpStream| {
        let wait = Duration::from_millis(500);
        tokio::time::timeout(wait, client.read_u8()).await.is_ok_and(|byte| byte.is_ok())
    };
    let connecting = async || {
        let mut client = gatepass.dial().await;
        client.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
        client
    };
    let mut tunnel = connecting().await;
    assert!(is_served(&mut tunnel).await);
    let mut intercepted = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(status(&ask(&mut intercepted, request).await), 200);
    let mut third = connecting().await;
    assert!(!is_served(&mut third).await, "two are held");
    drop(tunnel);
    assert!(is_served(&mut third).await);
    let mut socks = gatepass.dial().await;
    socks.write_all(&[5, 1, 0]).await.unwrap();
    assert!(!is_served(&mut socks).await, "two are held");
    drop(intercepted);
    assert!(is_served(&mut socks).await);
}

#[tokio::test]
async fn listeners_that_wait_for_connections_take_no_places_from_the_others() {
    let to = echo(Duration::ZERO).await;
    let yaml = "limits: { connections: 2 }\nlisten: 127.0.0.1:0\nlisteners:\n  - listen: 127.0.0.1:0\n  - listen: 127.0.0.1:0\n";
    let gatepass = Gatepass::from(request(yaml, &[])).await;
    let addresses: Vec<SocketAddr> = gatepass.running.addresses.iter().map(|(address, _)| *address).collect();
    assert_eq!(addresses.len(), 3);
    for address in addresses {
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
            assert_eq!(status(&tokio::time::timeout(SOON, head(&mut client)).await.unwrap()), 200, "{address}");
            held.push(client);
        }
        drop(held);
    }
}

#[tokio::test]
async fn a_quiet_tunnel_has_the_grace_period_and_one_that_is_left_is_counted() {
    let to = echo(Duration::from_millis(1500)).await;
    let gatepass = Gatepass::start("limits: { grace: 4s }\n", &[]).await;
    let (answer, mut tunnel) = gatepass.connect(&to.to_string()).await;
    assert_eq!(status(&answer), 200);
    let (_, mut left) = gatepass.connect(&to.to_string()).await;
    left.write_all(b"x").await.unwrap();
    left.read_u8().await.unwrap();
    // Connected, and its request is on its way when gatepass is told to stop.
    let mut late = gatepass.dial().await;
    tunnel.write_all(b"hello").await.unwrap();
    let stopping = tokio::spawn(gatepass.running.stop());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let page = ask(&mut late, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status(&page), 200, "{page}");
    let mut back = [0; 5];
    tokio::time::timeout(SOON, tunnel.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"hello");
    drop(tunnel);
    assert_eq!(stopping.await.unwrap().cut, 1);
    drop(left);
}

/// More than the kernel's buffers take in on the way.
const UNREADABLE: usize = 24_000_000;

/// An origin whose `/large` is [`UNREADABLE`], and a gatepass before it. Told: somebody gave the large answer up.
async fn before_a_large_answer(stall: &str) -> (Gatepass, Arc<Notify>) {
    let pki = Pki::new();
    let given_up: Arc<Notify> = Arc::default();
    let told = given_up.clone();
    let origin = raw_origin(&pki, move |mut stream| {
        let told = told.clone();
        async move {
            loop {
                let request = head(&mut stream).await;
                let body = match request.split(' ').nth(1) {
                    Some("/large") => vec![b'x'; UNREADABLE],
                    Some(_) => b"small".to_vec(),
                    None => return,
                };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                if stream.write_all(&[answer.as_bytes(), &body].concat()).await.is_err() || stream.flush().await.is_err() {
                    return told.notify_one();
                }
            }
        }
    })
    .await;
    let yaml = format!("limits: {{ stall: {stall} }}\nrules:\n{}", rule("a.test", origin, "bearer: t"));
    (Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await, given_up)
}

const LARGE_PLEASE: &[u8] = b"GET /large HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn an_answer_that_is_left_unread_ends_its_stream_alone() {
    let (gatepass, given_up) = before_a_large_answer("700ms").await;
    let mut client = gatepass.h2("a.test").await;
    let get = |path: &str| Request::get(format!("https://a.test{path}")).body(Full::new(Bytes::new()).boxed()).unwrap();
    let mut unread = client.send_request(get("/large")).await.unwrap().into_body();
    tokio::time::timeout(PATIENCE, given_up.notified()).await.expect("nobody waits for ever");
    let small = client.send_request(get("/small")).await.unwrap();
    assert_eq!(small.into_body().collect().await.unwrap().to_bytes(), "small");
    let cut = loop {
        match unread.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(cut, "the large answer is cut");
    // Over HTTP/1.1 the connection is the stream.
    let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    client.write_all(LARGE_PLEASE).await.unwrap();
    tokio::time::timeout(PATIENCE, given_up.notified()).await.expect("nobody waits for ever");
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, client.read_to_end(&mut rest)).await.expect("it is closed");
    assert!(rest.len() < UNREADABLE);
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_arrives_whole_though_it_takes_longer_than_one_may_stand_still() {
    // A client's reading shows only when the kernel has room for a good part of its buffer again; the pauses are far
    // shorter than the bound, so that a loaded machine does not make it a client that does not read.
    let stall = Duration::from_secs(3);
    let (gatepass, _) = before_a_large_answer("3s").await;
    let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    client.write_all(LARGE_PLEASE).await.unwrap();
    let begun = Instant::now();
    assert_eq!(status(&head(&mut client).await), 200);
    let mut piece = vec![0; UNREADABLE / 12];
    for _ in 0..12 {
        client.read_exact(&mut piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(begun.elapsed() > stall);
    assert_eq!(client.read(&mut piece).await.unwrap(), 0, "and no more");
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads until the end, or until it is known to be none.
async fn end(stream: &mut TcpStream) -> std::io::Result<usize> {
    tokio::time::timeout(SOON, stream.read_to_end(&mut Vec::new())).await.expect("it ends")
}

#[tokio::test]
async fn a_cut_answer_looks_cut_to_a_client_of_http_1_0_and_a_whole_one_does_not() {
    for whole in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            if whole { stream.write_all(b"0\r\n\r\n").await.unwrap() } else { reset(stream) }
        });
        let gatepass = Gatepass::start("", &[]).await;
        let mut client = gatepass.dial().await;
        client.write_all(format!("GET http://{origin}/ HTTP/1.0\r\nHost: {origin}\r\n\r\n").as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        assert!(status(&answer) == 200 && !answer.contains("content-length"), "{answer}");
        let ended = end(&mut client).await;
        assert_eq!(ended.map_err(|cause| cause.kind()), if whole { Ok(5) } else { Err(std::io::ErrorKind::ConnectionReset) });
    }
}

#[tokio::test]
async fn a_reset_in_a_tunnel_is_a_reset_on_its_other_side_and_an_orderly_end_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = listener.local_addr().unwrap();
    let gatepass = Gatepass::start("", &[]).await;
    for resets in [true, false] {
        for by_client in [true, false] {
            let (answer, mut client) = gatepass.connect(&origin.to_string()).await;
            assert_eq!(status(&answer), 200);
            let (mut server, _) = listener.accept().await.unwrap();
            client.write_all(b"x").await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
            let (ending, mut other) = if by_client { (client, server) } else { (server, client) };
            if resets {
                reset(ending)
            } else {
                drop(ending)
            }
            let ended = end(&mut other).await;
            assert_eq!(
                ended.map_err(|cause| cause.kind()),
                if resets { Err(std::io::ErrorKind::ConnectionReset) } else { Ok(0) }
            );
        }
    }
}
