//! A client that holds a dummy: the rule's hosts get the real value, the client never does.

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::support::*;

const REAL: &str = "re/al \"väl'ue\"";

/// Repeats everything, and `x-key` in a field.
async fn echo(pki: &Pki) -> Origin {
    Origin::answering(pki, OriginOptions::default(), |seen| {
        let mut answer = repeated(seen, "text/plain", None);
        if let Some(key) = seen.headers.get("x-key") {
            answer.headers_mut().insert("x-echo", key.clone());
        }
        answer
    })
    .await
}

async fn gatepass(pki: &Pki, origin: &Origin, more: &str) -> Gatepass {
    let held = format!("placeholder: {{ match: gp-dummy-123, value: \"${{REAL}}\"{more} }}");
    let rules = format!("rules:\n{}{}", rule("a.test", origin.address, &held), rule("b.test", origin.address, ""));
    Gatepass::start(&rules, &[("CA", &pki.ca_pem), ("REAL", REAL)]).await
}

fn post(host: &str, target: &str, fields: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn the_real_value_stands_wherever_the_client_wrote_the_dummy_and_comes_back_nowhere() {
    let pki = Pki::new();
    let origin = echo(&pki).await;
    let gatepass = gatepass(&pki, &origin, "").await;
    let cases = [
        ("application/json", "{\"k\":\"gp-dummy-123\"}", r#"{"k":"re/al \"väl'ue\""}"#),
        ("application/x-www-form-urlencoded", "k=gp-dummy-123&l=1", "k=re%2Fal%20%22v%C3%A4l%27ue%22&l=1"),
        ("application/xml", "<k>gp-dummy-123</k>", "<k>re/al &quot;väl&apos;ue&quot;</k>"),
        ("text/plain; charset=utf-8", "gp-dummy-123gp-dummy-123", "re/al \"väl'ue\"re/al \"väl'ue\""),
        ("application/octet-stream", "gp-dummy-123", "gp-dummy-123"),
    ];
    for (kind, body, wanted) in cases {
        let fields = format!(
            "Content-Type: {kind}\r\nX-Key: k gp-dummy-123\r\nAuthorization: Basic dTpncC1kdW1teS0xMjM=\r\nAccept-Encoding: gzip\r\nX-Kind: application/json\r\n"
        );
        let answer = gatepass.through("a.test", &post("a.test", "/p/gp-dummy-123?q=gp%2Ddummy-123", &fields, body)).await;
        let seen = origin.last();
        assert_eq!(seen.line, "POST /p/re%2Fal%20%22v%C3%A4l%27ue%22?q=re%2Fal%20%22v%C3%A4l%27ue%22");
        assert_eq!(seen.headers["x-key"].as_bytes(), format!("k {REAL}").as_bytes());
        assert_eq!(seen.headers["authorization"], "Basic dTpyZS9hbCAidsOkbCd1ZSI=", "u:{REAL}");
        assert_eq!(seen.headers["accept-encoding"], "identity");
        assert_eq!(String::from_utf8_lossy(&seen.body), wanted, "{kind}");
        assert_eq!(seen.headers["content-length"], seen.body.len().to_string());
        assert_eq!(status(&answer), 200);
        assert!(answer.contains("x-echo: k gp-dummy-123"), "{answer}");
        for real in ["väl", "v%C3%A4l", "dTpyZS9h", "re/al"] {
            assert!(!answer.contains(real), "{real} came back: {answer}");
        }
        assert!(answer.contains("dTpncC1kdW1teS0xMjM="), "{answer}");
    }
}

#[tokio::test]
async fn another_host_gets_the_dummy_and_other_places_keep_it() {
    let pki = Pki::new();
    let origin = echo(&pki).await;
    let everywhere = gatepass(&pki, &origin, "").await;
    let fields = "Content-Type: text/plain\r\nX-Key: gp-dummy-123\r\n";
    everywhere.through("b.test", &post("b.test", "/gp-dummy-123", fields, "gp-dummy-123")).await;
    let seen = origin.last();
    assert_eq!((seen.line.as_str(), &seen.body[..]), ("POST /gp-dummy-123", &b"gp-dummy-123"[..]));
    assert_eq!(seen.headers["x-key"], "gp-dummy-123");
    let header_only = gatepass(&pki, &origin, ", in: header").await;
    header_only.through("a.test", &post("a.test", "/gp-dummy-123?gp-dummy-123", fields, "gp-dummy-123")).await;
    let seen = origin.last();
    assert_eq!((seen.line.as_str(), &seen.body[..]), ("POST /gp-dummy-123?gp-dummy-123", &b"gp-dummy-123"[..]));
    assert_eq!(seen.headers["x-key"].as_bytes(), REAL.as_bytes());
}

#[tokio::test]
async fn streamed_bodies_are_swapped_across_the_borders_of_pieces_both_ways() {
    let pki = Pki::new();
    let origin = echo(&pki).await;
    let gatepass = gatepass(&pki, &origin, "").await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[gatepass::tls::settings::Alpn::Http11]).await;
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Type: text/plain\r\nX-Slow: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in ["be", "fore gp-du", "mmy-", "1", "23 gp-dummy-12", " after gp-dummy-123"] {
        stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = ask(&mut stream, "0\r\n\r\n").await;
    assert_eq!(String::from_utf8_lossy(&origin.last().body), format!("before {REAL} gp-dummy-12 after {REAL}"));
    assert_eq!(status(&answer), 200);
    let whole: String = answer.split("\r\n").collect();
    assert!(!whole.contains("väl") && answer.to_lowercase().contains("transfer-encoding: chunked"), "{answer}");
    // Larger than memory may hold, of a length that was said.
    let large = format!("{}gp-dummy-123", "x".repeat(2 << 20));
    gatepass.through("a.test", &post("a.test", "/", "Content-Type: text/plain\r\nX-Kind: image/png\r\n", &large)).await;
    assert_eq!(origin.last().body.len(), (2 << 20) + REAL.len());
    let mut h2 = gatepass.h2("a.test").await;
    let request = http::Request::post("https://a.test/").header("content-type", "application/json");
    let body = http_body_util::Full::new(Bytes::from_static(b"{\"k\":\"gp-dummy-123\"}")).boxed();
    let answer = h2.send_request(request.body(body).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let told = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&told).contains("gp-dummy-123") && !String::from_utf8_lossy(&told).contains("väl"));
    assert!(String::from_utf8_lossy(&origin.last().body).contains("väl"));
}

#[tokio::test]
async fn binary_answers_are_untouched_and_coded_texts_are_refused() {
    let pki = Pki::new();
    let origin = echo(&pki).await;
    let gatepass = gatepass(&pki, &origin, "").await;
    let get = |fields: &str| format!("GET /gp-dummy-123 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{fields}\r\n");
    let answer = gatepass.through("a.test", &get("X-Kind: image/png\r\n")).await;
    assert!(answer.contains("v%C3%A4l") && answer.contains("content-length"), "{answer}");
    let answer = gatepass.through("a.test", &get("X-Coding: gzip\r\n")).await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(answer.contains("although it was asked not to") && !answer.contains("v%C3%A4l"), "{answer}");
    let answer = gatepass.through("a.test", &get("X-Coding: gzip\r\nX-Kind: image/png\r\n")).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert_eq!(status(&gatepass.through("a.test", "TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n").await), 405);
}

#[tokio::test]
async fn what_is_no_placeholder_is_refused_at_load() {
    for (settings, wanted) in [
        ("match: gp-1, value: real-value", "has 4 characters"),
        ("match: passwordfield, value: real-value", "a plain word"),
        ("match: a1a1a1a1a1a1, value: real-value", "too even"),
        ("match: \"gp dummy+123\", value: real-value", "letters, digits"),
        ("match: gp-dummy-123, value: short", "fewer than 8"),
        ("match: gp-dummy-123, value: x-gp-dummy-123", "its own placeholder"),
        ("match: gp-dummy-123, value: real-value, in: [cookie]", "unknown place"),
        ("match: gp-dummy-123", "needs `value`"),
    ] {
        let yaml = format!("listen: 127.0.0.1:0\nrules:\n  - host: a.test\n    placeholder: {{ {settings} }}\n");
        let Err(report) = gatepass::serve::build(&request(&yaml, &[])).await else { panic!("{settings} was accepted") };
        assert!(report.render(false).contains(wanted), "{settings}: {}", report.render(false));
    }
    let two = "listen: 127.0.0.1:0\nrules:\n  - host: a.test\n    auth: [{ placeholder: { match: gp-dummy-12, value: real-value } }, { placeholder: { match: gp-dummy-123, value: other-value } }]\n";
    let Err(report) = gatepass::serve::build(&request(two, &[])).await else { panic!("two that overlap were accepted") };
    assert!(report.render(false).contains("placeholder"), "{}", report.render(false));
}

#[tokio::test]
async fn the_value_comes_back_neither_in_the_reason_nor_in_trailers_nor_in_a_text_of_any_kind() {
    let pki = Pki::new();
    let address = raw_origin(&pki, |mut stream| async move {
        let request = head(&mut stream).await;
        let kind = request.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
        let answer = format!(
            "HTTP/1.1 400 no real-value-1\r\nContent-Type: {kind}\r\nTrailer: grpc-message\r\nTransfer-Encoding: chunked\r\n\r\nc\r\nreal-value-1\r\n0\r\ngrpc-message: bad real-value-1\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let rules = format!("rules:\n{}", rule("a.test", address, "placeholder: { match: gp-dummy-123, value: real-value-1 }"));
    let gatepass = Gatepass::start(&rules, &[("CA", &pki.ca_pem)]).await;
    for kind in ["application/x-yaml", "application/toml", "message/http", "multipart/mixed", "application/grpc"] {
        let request = format!("GET /{kind} HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n");
        let answer = gatepass.through("a.test", &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 no gp-dummy-123\r\n"), "{kind}: {answer}");
        assert!(answer.contains("grpc-message: bad gp-dummy-123"), "{kind}: {answer}");
        let bare = if kind == "application/grpc" { 1 } else { 0 };
        assert_eq!(answer.matches("real-value-1").count(), bare, "{kind}: {answer}");
    }
}
