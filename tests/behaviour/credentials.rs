//! What becomes of a credential that an origin does not take: the reason is the right one, and it is tried no more than once.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

const DIGEST: &str = "digest: { username: svc, password: pw }";

fn origin_that_answers(answer: &'static str) -> impl Fn(&Seen) -> Answer {
    move |_| {
        let mut response = text("no");
        *response.status_mut() = http::StatusCode::UNAUTHORIZED;
        for field in answer.lines() {
            response.headers_mut().append("www-authenticate", field.parse().unwrap());
        }
        response
    }
}

#[tokio::test]
async fn a_401_without_a_digest_that_can_be_answered_says_that_nothing_was_sent_and_what_is_offered() {
    let pki = Pki::new();
    for (fields, words) in [
        ("Basic realm=\"x\"", "was not sent: the origin does not offer Digest, it offers Basic"),
        (
            "Digest realm=\"x\", nonce=\"n\", algorithm=SHA3-512",
            "was not sent: the origin offers Digest in no form that is supported",
        ),
        ("", "was not sent: the origin answered 401 without naming a way"),
    ] {
        let origin = Origin::answering(&pki, OriginOptions::default(), origin_that_answers(fields)).await;
        let gatepass =
            Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, DIGEST)), &[("CA", &pki.ca_pem)]).await;
        let answer = gatepass.get("a.test", "/").await;
        assert!(status(&answer) == 401 && answer.contains(words) && !answer.contains("refused the credential"), "{answer}");
        assert_eq!(origin.seen().len(), 1);
    }
    // The client's own credential is not ours to blame.
    let origin = Origin::answering(&pki, OriginOptions::default(), origin_that_answers("Basic realm=\"x\"")).await;
    for scheme in [DIGEST, "bearer: t"] {
        let settings = format!("{scheme}\non_existing_auth: keep");
        let gatepass =
            Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, &settings)), &[("CA", &pki.ca_pem)]).await;
        let answer = gatepass.through("a.test", "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic eDp5\r\n\r\n").await;
        assert!(status(&answer) == 401 && answer.contains("was not sent: the client brought its own"), "{answer}");
    }
}

#[tokio::test]
async fn a_wrong_password_reaches_a_digest_server_once_a_request() {
    let pki = Pki::new();
    let fresh = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::answering(&pki, OriginOptions::default(), move |_| {
        let nonce = fresh.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut response = text("no");
        *response.status_mut() = http::StatusCode::UNAUTHORIZED;
        let field = format!("Digest realm=\"r\", nonce=\"n{nonce}\", qop=\"auth\"");
        response.headers_mut().insert("www-authenticate", field.parse().unwrap());
        response
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, DIGEST)), &[("CA", &pki.ca_pem)]).await;
    for n in 1..=4 {
        let answer = gatepass.get("a.test", "/").await;
        assert!(status(&answer) == 401 && answer.contains("refused the credential"), "{answer}");
        assert_eq!(origin.seen().iter().filter(|seen| seen.headers.contains_key("authorization")).count(), n);
    }
}

/// Takes no body before the credential is right, and then takes all of it.
async fn strict_origin(pki: &Pki, credentials: Arc<Mutex<Vec<String>>>) -> std::net::SocketAddr {
    raw_origin(pki, move |mut stream| {
        let credentials = credentials.clone();
        async move {
            let request = head(&mut stream).await;
            let field = request.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("none");
            credentials.lock().unwrap().push(field.split(' ').next().unwrap().to_owned());
            if !request.contains("expect: 100-continue") || !(field.starts_with("Digest") || field == "Bearer second") {
                let more =
                    "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\nContent-Length: 0\r\nConnection: close";
                stream.write_all(format!("HTTP/1.1 401 Unauthorized\r\n{more}\r\n\r\n").as_bytes()).await.unwrap();
                return;
            }
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            let length: usize = request.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let sum: usize = body.iter().map(|byte| usize::from(*byte)).sum();
            let text = format!("took {sum}");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn a_401_in_place_of_100_continue_is_answered_since_nothing_of_the_body_had_left() {
    let pki = Pki::new();
    let credentials: Arc<Mutex<Vec<String>>> = Arc::default();
    let address = strict_origin(&pki, credentials.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("helper");
    // Another token each time.
    let script = format!("#!/bin/sh\n[ -e {0} ] && echo second || echo first\ntouch {0}\n", dir.path().join("run").display());
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let limits = "limits: { body_hold: 16KiB, body_spill: 64KiB }\n";
    for (settings, seen) in [(DIGEST, ["none", "Digest"]), (&format!("exec: [{}]", helper.display()), ["Bearer", "Bearer"])] {
        let yaml = format!("{limits}rules:\n{}", rule("a.test", address, settings));
        let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
        credentials.lock().unwrap().clear();
        let begun = Instant::now();
        let mut stream = gatepass.tls("a.test:443", "a.test", &[gatepass::tls::settings::Alpn::Http11]).await;
        let request =
            "PUT / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let interim = head(&mut stream).await;
        assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
        stream.write_all(&vec![1; 1_000_000]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("took 1000000"), "{answer}");
        assert_eq!(*credentials.lock().unwrap(), seen, "{settings}");
        assert!(begun.elapsed() < Duration::from_secs(8));
    }
}

#[tokio::test]
async fn what_a_failing_helper_says_is_for_the_log_and_not_for_the_client() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let script = "exec: [sh, -c, 'echo half-a-secret; echo cannot open vault of bob >&2; exit 4']";
    for settings in [script.to_owned(), format!("bearer: {{ {script} }}")] {
        let gatepass =
            Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, &settings)), &[("CA", &pki.ca_pem)]).await;
        let answer = gatepass.get("a.test", "/").await;
        assert!(status(&answer) == 502 && answer.contains("exit status: 4") && answer.contains("gatepass's log has"), "{answer}");
        assert!(!answer.contains("bob") && !answer.contains("half-a-secret"), "{answer}");
    }
    assert!(origin.seen().is_empty());
}
