//! Each way out keeps to its own: connections and TLS sessions are never shared between identities.

use gatepass::tls::settings::Alpn;

use crate::support::*;

#[tokio::test]
async fn two_certificates_for_one_host_by_path_never_mix_even_concurrently() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { ask: true, ..OriginOptions::default() }).await;
    let yaml = format!(
        "rules:\n{}  - host: a.test\n    path: /bob/**\n    client_certificate: {{ cert: \"${{BOB}}\" }}\n",
        rule("a.test", origin.address, "client_certificate: { cert: \"${ALICE}\" }")
    );
    let gatepass =
        Gatepass::start(&yaml, &[("CA", &pki.ca_pem), ("ALICE", &pki.client("alice")), ("BOB", &pki.client("bob"))]).await;
    let asks = (0..200).map(|n| {
        let (path, who) = if n % 2 == 0 { (format!("/alice/{n}"), "alice") } else { (format!("/bob/{n}"), "bob") };
        let gatepass = &gatepass;
        async move {
            let answer = gatepass.get("a.test", &path).await;
            assert!(answer.contains(&format!("saw GET {path} by {who} ")), "{answer}");
        }
    });
    futures_util::future::join_all(asks).await;
    for seen in origin.seen() {
        let who = if seen.line.contains("/bob/") { "bob" } else { "alice" };
        assert_eq!(seen.subject.as_deref(), Some(who));
    }
}

#[tokio::test]
async fn two_certificates_for_one_host_by_port_over_http2() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { ask: true, ..OriginOptions::default() }).await;
    let yaml = format!(
        "rules:\n{}{}",
        rule("a.test", origin.address, "client_certificate: { cert: \"${ALICE}\" }"),
        rule("a.test", origin.address, "port: 8443\nclient_certificate: { cert: \"${BOB}\" }")
    );
    let gatepass =
        Gatepass::start(&yaml, &[("CA", &pki.ca_pem), ("ALICE", &pki.client("alice")), ("BOB", &pki.client("bob"))]).await;
    for _ in 0..3 {
        for (port, who) in [(443, "alice"), (8443, "bob")] {
            let mut stream = gatepass.tls(&format!("a.test:{port}"), "a.test", &[Alpn::Http11]).await;
            let answer = ask(&mut stream, &format!("GET / HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n")).await;
            assert!(answer.contains(&format!("by {who} ")), "{answer}");
        }
    }
}

#[tokio::test]
async fn sessions_are_resumed_within_one_identity_and_never_across() {
    let pki = Pki::new();
    // No keep-alive: every request is a new connection.
    let origin = Origin::answering(&pki, OriginOptions { ask: true, alpn: &["http/1.1"], ..OriginOptions::default() }, |_| {
        let mut answer = text("ok");
        answer.headers_mut().insert("connection", "close".parse().unwrap());
        answer
    })
    .await;
    let yaml = format!(
        "rules:\n{}  - host: a.test\n    path: /bob\n    client_certificate: {{ cert: \"${{BOB}}\" }}\n",
        rule("a.test", origin.address, "client_certificate: { cert: \"${ALICE}\" }")
    );
    let gatepass =
        Gatepass::start(&yaml, &[("CA", &pki.ca_pem), ("ALICE", &pki.client("alice")), ("BOB", &pki.client("bob"))]).await;
    for path in ["/alice", "/bob", "/alice", "/bob"] {
        gatepass.get("a.test", path).await;
    }
    let seen = origin.seen();
    let facts: Vec<_> = seen.iter().map(|s| (s.subject.clone().unwrap(), s.resumed)).collect();
    let fact = |who: &str, resumed| (who.to_owned(), resumed);
    assert_eq!(facts, [fact("alice", false), fact("bob", false), fact("alice", true), fact("bob", true)]);
}

#[tokio::test]
async fn kept_connections_are_used_again_and_streams_share_one() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    for _ in 0..5 {
        gatepass.get("a.test", "/").await;
    }
    assert_eq!(origin.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    let sender = gatepass.h2("a.test").await;
    let asks = (0..50).map(|n| {
        let mut sender = sender.clone();
        async move {
            let request = http::Request::get(format!("https://a.test/{n}"))
                .body(http_body_util::BodyExt::boxed(http_body_util::Empty::new()))
                .unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        }
    });
    futures_util::future::join_all(asks).await;
    assert_eq!(origin.connections.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_403_is_explained_where_the_certificate_was_never_asked_for() {
    let pki = Pki::new();
    for (asks, certificate, explained) in [(false, true, true), (true, true, false), (false, false, false)] {
        let origin = Origin::answering(&pki, OriginOptions { ask: asks, ..OriginOptions::default() }, |seen| {
            let mut answer = text("the origin's words");
            if seen.line.contains("/forbidden") {
                *answer.status_mut() = http::StatusCode::FORBIDDEN;
            }
            answer
        })
        .await;
        let shown = if certificate { "client_certificate: { cert: \"${ALICE}\" }" } else { "bearer: t" };
        let yaml = format!("rules:\n{}", rule("a.test", origin.address, shown));
        let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem), ("ALICE", &pki.client("alice"))]).await;
        let remark = "proxy-status: gatepass; details=\"a client certificate is configured but the server never asked for it";
        for _ in 0..2 {
            let answer = gatepass.get("a.test", "/forbidden").await;
            assert!(status(&answer) == 403 && answer.contains("the origin's words"), "{answer}");
            assert_eq!(answer.contains(remark), explained, "{answer}");
        }
        let answer = gatepass.get("a.test", "/").await;
        assert!(status(&answer) == 200 && !answer.contains("proxy-status"), "{answer}");
    }
}

#[tokio::test]
async fn without_the_certificate_the_error_says_what_is_missing() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { ask: true, ..OriginOptions::default() }).await;
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let answer = gatepass.get("a.test", "/").await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(answer.contains("client_certificate"), "{answer}");
    assert!(answer.contains("proxy-status: gatepass; error=tls_alert_received"), "{answer}");
}
