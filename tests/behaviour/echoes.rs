//! Origins that repeat what they are sent: the client sees asterisks where its answer holds a credential of ours.

use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

const SECRET: &str = "s3cr3t/tök en+\"1\"";

/// Repeats everything, and what it was sent in `location`, in a field and, when `x-trailers`, in a trailer.
async fn echo(pki: &Pki) -> Origin {
    Origin::answering(pki, OriginOptions::default(), |seen| {
        let sent = seen.headers.get("authorization").cloned();
        let last = |sent: &HeaderValue| HeaderMap::from_iter([(HeaderName::from_static("x-last"), sent.clone())]);
        let trailers = seen.headers.get("x-trailers").and_then(|_| sent.as_ref().map(last));
        let mut answer = repeated(seen, "application/json", trailers);
        answer.headers_mut().insert("location", seen.line.split(' ').nth(1).unwrap().parse().unwrap());
        if let Some(sent) = sent {
            answer.headers_mut().insert("x-echo", sent);
        }
        answer
    })
    .await
}

async fn gatepass(pki: &Pki, origin: &Origin, settings: &str, secret: &str) -> Gatepass {
    let rules = format!("rules:\n{}", rule("a.test", origin.address, settings));
    Gatepass::start(&rules, &[("CA", &pki.ca_pem), ("SECRET", secret)]).await
}

fn post(target: &str, fields: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Every way in which the secret, or what was made of it, may be written.
fn shown(answer: &str, secret: &str) -> bool {
    use base64::Engine;
    let base64 = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
    let json = |text: &str| serde_json::json!(text).to_string().trim_matches('"').to_owned();
    let percent: String =
        secret.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    let all = [
        secret.to_owned(),
        json(secret),
        json(&json(secret)),
        percent,
        base64(&format!("me:{secret}")),
        base64(&format!("{secret}:")),
    ];
    all.iter().any(|text| answer.contains(text.as_str()))
}

#[tokio::test]
async fn a_credential_that_an_answer_repeats_is_asterisks_wherever_it_was_put() {
    let pki = Pki::new();
    let origin = echo(&pki).await;
    let json = "Content-Type: application/json\r\n";
    for (settings, secret) in [
        ("bearer: ${SECRET}", "t0k3n-abc+/x=="),
        ("basic: { username: me, password: \"${SECRET}\" }", SECRET),
        ("basic: { username: \"${SECRET}\", password: \"\" }", "sk_live_1234"),
        ("api_key: { name: X-Api-Key, value: \"${SECRET}\" }", "k3y-k3y-k3y"),
        ("api_key: { name: key, value: \"${SECRET}\", in: query }", SECRET),
        ("api_key: { name: key, value: \"${SECRET}\", in: cookie }", "c00kie-value"),
        ("api_key: { name: key, value: \"${SECRET}\", in: body, }", SECRET),
        ("auth: { headers: { X-Any: \"${SECRET}\" } }", "any-any-any"),
        ("headers: { set: { X-Set: \"${SECRET}\" } }", "set-set-set"),
        ("headers: { set: { X-Vault-Token: literal-t0ken } }", "literal-t0ken"),
        ("query: { set: { q: \"${SECRET}\" } }", SECRET),
        ("cookies: { set: { sid: \"${SECRET}\" } }", "s1d-s1d-s1d"),
    ] {
        let masked = gatepass(&pki, &origin, settings, secret).await;
        let answer =
            masked.through("a.test", &post("/p?a=1", &format!("{json}Cookie: own=cookie-of-mine\r\n"), "{\"a\":1}")).await;
        assert_eq!(status(&answer), 200, "{settings}: {answer}");
        assert!(answer.contains("********") && !shown(&answer, secret), "{settings}: {answer}");
        // What the client sent itself comes back as it was.
        assert!(answer.contains("own=cookie-of-mine") && answer.contains("/p?a=1"), "{settings}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{settings}: {answer}");
        let passed = gatepass(&pki, &origin, &format!("{settings}\necho: pass"), secret).await;
        let answer = passed.through("a.test", &post("/p?a=1", json, "{\"a\":1}")).await;
        assert!(shown(&answer, secret) && !answer.contains("********"), "{settings}: {answer}");
    }
}

#[tokio::test]
async fn answers_that_are_looked_into_leave_their_connections_for_the_next_request() {
    let pki = Pki::new();
    for kind in ["text/plain", "image/png"] {
        let origin = Origin::answering(&pki, OriginOptions::default(), move |_| {
            let mut answer = text("a text that ends in t0k3".to_owned());
            answer.headers_mut().insert("content-type", kind.parse().unwrap());
            answer
        })
        .await;
        let gatepass = gatepass(&pki, &origin, "bearer: t0k3n-t0k3n", "").await;
        let mut stream = gatepass.tls("a.test:443", "a.test", &[gatepass::tls::settings::Alpn::Http11]).await;
        for _ in 0..5 {
            let answer = ask(&mut stream, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            assert!(status(&answer) == 200 && answer.ends_with("ends in t0k3"), "{answer}");
        }
        assert_eq!(origin.connections.load(std::sync::atomic::Ordering::Relaxed), 1, "{kind}");
    }
}

#[tokio::test]
async fn what_is_no_secret_comes_back_as_it_was_sent() {
    let pki = Pki::new();
    let origin = echo(&pki).await;
    for settings in [
        "headers: { set: { X-Team: core-team-of-many } }",
        "auth: { headers: { Accept: application/json, X-K: \"${SECRET}\" } }",
        "query: { set: { api-version: 2024-01-01-preview } }",
        // Too short to be told from what stands there by accident.
        "bearer: short",
    ] {
        let gatepass = gatepass(&pki, &origin, settings, "another-secret").await;
        let answer = gatepass.through("a.test", &post("/", "", "")).await;
        for plain in ["core-team-of-many", "2024-01-01-preview", "Bearer short"]
            .iter()
            .filter(|plain| settings.contains(plain.trim_start_matches("Bearer ")))
        {
            assert!(answer.contains(plain), "{settings}: {answer}");
        }
        assert!(answer.contains("content-type: application/json") && !answer.contains("another-secret"), "{settings}: {answer}");
    }
}

#[tokio::test]
async fn a_credential_is_found_across_pieces_in_trailers_and_in_text_alone() {
    let pki = Pki::new();
    let origin = echo(&pki).await;
    let gatepass = gatepass(&pki, &origin, "bearer: t0k3n-t0k3n", "").await;
    let answer = gatepass.through("a.test", &post("/", "X-Slow: 1\r\n", "")).await;
    let whole: String = answer.split("\r\n").collect();
    assert!(status(&answer) == 200 && whole.contains("Bearer ***********") && !whole.contains("k3n-t"), "{answer}");
    let answer = gatepass.through("a.test", &post("/", "X-Trailers: 1\r\nTE: trailers\r\n", "")).await;
    assert!(!answer.contains("t0k3n-t0k3n"), "{answer}");
    let mut h2 = gatepass.h2("a.test").await;
    let request =
        http::Request::get("https://a.test/").header("x-trailers", "1").body(http_body_util::Empty::new().boxed()).unwrap();
    let answer = h2.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-last"], "Bearer ***********");
    for fields in ["X-Kind: image/png\r\n", "X-Coding: br\r\n"] {
        let answer = gatepass.through("a.test", &post("/", fields, "")).await;
        assert!(answer.contains("authorization: Bearer t0k3n-t0k3n"), "{answer}");
    }
}

#[tokio::test]
async fn a_beginning_that_nothing_follows_is_not_kept_from_the_client() {
    let pki = Pki::new();
    let address = raw_origin(&pki, |mut stream| async move {
        head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n> t0k3\r\n")
            .await;
        let _ = stream.flush().await;
        // The rest comes when the client has answered, as in a dialogue: never.
        std::future::pending::<()>().await;
    })
    .await;
    let rules = format!("rules:\n{}", rule("a.test", address, "bearer: t0k3n-t0k3n"));
    let gatepass = Gatepass::start(&rules, &[("CA", &pki.ca_pem)]).await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[gatepass::tls::settings::Alpn::Http11]).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).replace("\r\n", "").ends_with("t0k3") {
        let mut piece = [0; 256];
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..count]);
    }
}
