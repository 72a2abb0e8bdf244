//! Every wait has a bound.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

const SHORT: &str =
    "limits: { first_byte: 300ms, request_head: 300ms, tls_handshake: 300ms, connect: 300ms, response_head: 300ms, idle: 2s }\n";
/// Generous for a busy machine, and far below the default bounds.
const SOON: Duration = Duration::from_secs(6);

async fn start() -> Gatepass {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    Gatepass::start(&format!("{SHORT}rules:\n{}", rule("a.test", origin.address, "bearer: t")), &[("CA", &pki.ca_pem)]).await
}

async fn is_cut(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn a_silent_client_and_an_endless_head_are_cut() {
    let gatepass = start().await;
    let mut silent = gatepass.dial().await;
    assert!(is_cut(&mut silent).await);
    let mut slow = gatepass.dial().await;
    slow.write_all(b"GET http://a.test/ HTTP/1.1\r\nHost:").await.unwrap();
    assert!(is_cut(&mut slow).await);
}

#[tokio::test]
async fn a_silent_tunnel_a_stalled_client_hello_and_a_stalled_preface_are_cut() {
    let gatepass = start().await;
    for first in [&b""[..], &[0x16, 3, 1, 2, 0, 1], b"PRI * HTT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GE"] {
        let (answer, mut stream) = gatepass.connect("a.test:443").await;
        assert_eq!(status(&answer), 200);
        stream.write_all(first).await.unwrap();
        assert!(is_cut(&mut stream).await, "{first:?}");
    }
}

#[tokio::test]
async fn an_idle_client_connection_ends_and_a_busy_one_does_not() {
    let gatepass = start().await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[gatepass::tls::settings::Alpn::Http11]).await;
    // Longer in all than the bound, each pause far below it.
    for _ in 0..4 {
        assert_eq!(status(&ask(&mut stream, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await), 200);
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert!(is_cut(&mut stream).await);
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_504() {
    let pki = Pki::new();
    // Accepts, and never says a word: neither TLS nor HTTP.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = raw_origin(&pki, |mut stream| async move {
        head(&mut stream).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    })
    .await;
    let yaml = format!(
        "{SHORT}rules:\n{}{}",
        rule("a.test", silent.local_addr().unwrap(), "bearer: t"),
        rule("b.test", mute, "bearer: t")
    );
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let started = Instant::now();
    let answer = gatepass.get("a.test", "/").await;
    assert!(status(&answer) == 504 && answer.contains("TLS handshake"), "{answer}");
    let answer = gatepass.get("b.test", "/").await;
    assert!(status(&answer) == 504 && answer.contains("http_response_timeout"), "{answer}");
    assert!(started.elapsed() < SOON);
}

#[tokio::test]
async fn names_that_do_not_resolve_and_closed_ports_say_so() {
    let gatepass = Gatepass::start(
        "rules:\n  - host: nowhere.invalid\n    bearer: t\n  - host: closed.test\n    connect_to: 127.0.0.1:1\n    bearer: t\n",
        &[],
    )
    .await;
    let answer = gatepass.get("closed.test", "/").await;
    assert!(
        status(&answer) == 502 && answer.contains("connection_refused") && answer.contains("nothing listens there"),
        "{answer}"
    );
    let answer = gatepass.get("nowhere.invalid", "/").await;
    assert!(matches!(status(&answer), 502 | 504) && answer.contains("nowhere.invalid"), "{answer}");
}

#[tokio::test]
async fn bodies_on_disk_have_a_bound_together_and_leave_their_room_again() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "limits: {{ body_hold: 1KiB, body_spill: 8KiB, body_spill_total: 12KiB }}\nrules:\n{}",
        rule("a.test", origin.address, "hawk: { id: i, key: k, payload_hash: true }")
    );
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let head =
        |length: usize| format!("POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    let post = |length: usize| format!("{}{}", head(length), "x".repeat(length));
    // One that stays unfinished holds what it has sent.
    let mut half = gatepass.tls("a.test:443", "a.test", &[gatepass::tls::settings::Alpn::Http11]).await;
    half.write_all(&post(7_000).as_bytes()[..head(7_000).len() + 6_900]).await.unwrap();
    half.flush().await.unwrap();
    while gatepass.running.context.room.taken() < 6_900 {
        tokio::task::yield_now().await;
    }
    let answer = gatepass.through("a.test", &post(6_000)).await;
    assert!(status(&answer) == 503 && answer.contains("limits.body_spill_total"), "{answer}");
    assert!(origin.seen().is_empty());
    assert_eq!(status(&gatepass.through("a.test", &post(4_000)).await), 200);
    drop(half);
    while gatepass.running.context.room.taken() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&gatepass.through("a.test", &post(6_000)).await), 200);
    assert_eq!(origin.last().body.len(), 6_000);
}

#[tokio::test]
async fn what_a_program_prints_has_a_bound_wherever_it_is_named() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let print = "[sh, -c, 'printf %02000d 7']";
    for settings in [
        format!("exec: {print}"),
        format!("exec: {{ command: {print} }}"),
        format!("bearer: {{ exec: {print} }}"),
        format!("headers: {{ set: {{ X: {{ exec: {print} }} }} }}"),
        format!("aws_sigv4: {{ command: {print} }}"),
    ] {
        for (limit, fits) in [("1KiB", false), ("3KiB", true)] {
            let yaml = format!("limits: {{ helper_output: {limit} }}\nrules:\n{}", rule("a.test", origin.address, &settings));
            let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem), ("AWS_REGION", "eu-west-1")]).await;
            let answer = gatepass.get("a.test", "/").await;
            assert!(!answer.contains("0000000"), "{settings}: {answer}");
            assert_eq!(answer.contains("is larger than 1024 bytes (`limits.helper_output`)"), !fits, "{settings}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431_and_a_body_that_cannot_be_held_413() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "limits: {{ body_hold: 1KiB, body_spill: 4KiB }}\nrules:\n{}",
        rule("a.test", origin.address, "api_key: { name: k, value: v, in: body }")
    );
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let answer =
        gatepass.through("a.test", &format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n", "x".repeat(200_000))).await;
    assert_eq!(status(&answer), 431, "{answer}");
    let many: String = (0..150).map(|n| format!("X-{n}: 1\r\n")).collect();
    let answer = gatepass.through("a.test", &format!("GET / HTTP/1.1\r\nHost: a.test\r\n{many}\r\n")).await;
    assert_eq!(status(&answer), 431, "{answer}");
    let answer = gatepass
        .through(
            "a.test",
            &format!(
                "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{}",
                " ".repeat(9000)
            ),
        )
        .await;
    assert_eq!(status(&answer), 413, "{answer}");
    assert!(origin.seen().is_empty());
}
