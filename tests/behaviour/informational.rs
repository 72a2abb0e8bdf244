//! Interim answers reach the client, whatever it and the origin speak.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatepass::tls::settings::Alpn;
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// What a client of HTTP/2 gets that sends its body only when it is asked for it: the interim answers, the final one.
async fn waiting(gatepass: &Gatepass, path: &str, body: Option<&'static str>) -> (Vec<http::Response<()>>, u16, String) {
    let stream = gatepass.tls("a.test:443", "a.test", &[Alpn::H2]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut request = Request::put(format!("https://a.test{path}"));
    if body.is_some() {
        request = request.header("expect", "100-continue").header("gatepass-stream", "99");
    }
    let (mut response, mut upload) = sender.send_request(request.body(()).unwrap(), body.is_none()).unwrap();
    let mut interim = Vec::new();
    let taking = async {
        while let Some(told) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
            let told = told.unwrap();
            if let (StatusCode::CONTINUE, Some(body)) = (told.status(), body) {
                upload.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
            }
            interim.push(told);
        }
        let response = response.await.unwrap();
        let status = response.status().as_u16();
        let mut text = Vec::new();
        let mut body = response.into_body();
        while let Some(Ok(piece)) = body.data().await {
            text.extend_from_slice(&piece);
            let _ = body.flow_control().release_capacity(piece.len());
        }
        (status, String::from_utf8(text).unwrap())
    };
    let (status, text) = tokio::time::timeout(PATIENCE, taking).await.expect("the client is asked, or answered");
    (interim, status, text)
}

/// An origin of HTTP/1.1 that says 103 where it is asked for hints, 100 before it reads a body, and 417 to `/refused`.
async fn hinting(pki: &Pki, heads: Arc<Mutex<Vec<String>>>) -> std::net::SocketAddr {
    raw_origin(pki, move |mut stream| {
        let heads = heads.clone();
        async move {
            loop {
                let request = head(&mut stream).await;
                if request.is_empty() {
                    return;
                }
                heads.lock().unwrap().push(request.clone());
                if request.contains("/hints") {
                    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\nX: 1\r\n\r\n";
                    stream.write_all(hints).await.unwrap();
                    stream.flush().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
                if request.contains("/refused") {
                    stream.write_all(b"HTTP/1.1 417 no\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                    continue;
                }
                let mut body = Vec::new();
                if request.contains("expect: 100-continue") {
                    if !request.contains("/silent") {
                        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
                    }
                    // In chunks, or by its length.
                    while !body.ends_with(b"0\r\n\r\n") && !body.ends_with(b"upload") {
                        if stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                }
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[answer.as_bytes(), &body].concat()).await.unwrap();
            }
        }
    })
    .await
}

async fn start(more: &str) -> (Gatepass, Arc<Mutex<Vec<String>>>) {
    let pki = Pki::new();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let address = hinting(&pki, heads.clone()).await;
    let yaml = format!("{more}rules:\n{}", rule("a.test", address, "bearer: t"));
    (Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await, heads)
}

fn statuses(interim: &[http::Response<()>]) -> Vec<u16> {
    interim.iter().map(|told| told.status().as_u16()).collect()
}

#[tokio::test]
async fn a_client_of_http_2_that_waits_to_be_asked_is_asked() {
    let (gatepass, heads) = start("").await;
    let (interim, status, text) = waiting(&gatepass, "/", Some("upload")).await;
    assert_eq!((statuses(&interim), status), (vec![100], 200));
    assert!(text.contains("upload"), "{text}");
    assert!(!heads.lock().unwrap()[0].contains("gatepass-stream"), "what is ours stays here, and what looks like it too");
    let (interim, status, _) = waiting(&gatepass, "/refused", Some("upload")).await;
    assert_eq!((statuses(&interim), status), (vec![], 417));

    // Whether an origin of HTTP/2 asks is not known, so the client is asked after a while.
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!("rules:\n{}", rule("a.test", origin.address, "bearer: t"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let (interim, status, _) = waiting(&gatepass, "/", Some("upload")).await;
    assert_eq!((statuses(&interim), status, origin.last().body.as_ref()), (vec![100], 200, &b"upload"[..]));
}

#[tokio::test]
async fn early_hints_reach_clients_of_both_versions_before_the_answer() {
    let (gatepass, _) = start("").await;
    let (interim, status, _) = waiting(&gatepass, "/hints", None).await;
    assert_eq!((statuses(&interim), status), (vec![103], 200));
    assert_eq!(interim[0].headers()["link"], "</a.css>; rel=preload");
    assert!(!interim[0].headers().contains_key("x"), "what the origin's `Connection` names is its hop's");
    let (interim, _, text) = waiting(&gatepass, "/hints", Some("upload")).await;
    assert_eq!(statuses(&interim), [103, 100]);
    assert!(text.contains("upload"));

    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    for _ in 0..2 {
        stream.write_all(b"GET /hints HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
        let hints = head(&mut stream).await;
        assert!(hints.starts_with("HTTP/1.1 103 Early Hints\r\n") && hints.contains("link: </a.css>"), "{hints}");
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let old = gatepass.through("a.test", "GET /hints HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200"), "a client of HTTP/1.0 is sent none (RFC 9110 §15.2): {old}");
}

#[tokio::test]
async fn a_silent_origin_gets_the_body_after_a_while() {
    let (gatepass, _) = start("limits: { continue_wait: 600ms }\n").await;
    let begun = Instant::now();
    let (interim, code, _) = waiting(&gatepass, "/silent", Some("upload")).await;
    assert_eq!((statuses(&interim), code), (vec![100], 200));
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}

/// An origin of HTTP/2 that refuses everything by its head.
async fn refusing_by_http_2(pki: &Pki) -> std::net::SocketAddr {
    raw_origin_speaking(pki, &["h2"], |stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let refusal = http::Response::builder().status(413).body(()).unwrap();
            let mut body = respond.send_response(refusal, false).unwrap();
            body.send_data(Bytes::from_static(b"too large"), true).unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn a_body_that_is_refused_by_its_head_is_not_asked_for() {
    let pki = Pki::new();
    let origins = [refusing_by_http_2(&pki).await, hinting(&pki, Arc::default()).await];
    for (origin, code) in origins.into_iter().zip([413, 417]) {
        let more = if code == 413 { "tls: { alpn: [h2] }" } else { "bearer: t" };
        let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", origin, more)), &[("CA", &pki.ca_pem)]).await;
        let (interim, status, text) = waiting(&gatepass, "/refused", Some("upload")).await;
        assert_eq!((statuses(&interim), status, text.len()), (vec![], code, if code == 413 { 9 } else { 0 }));

        let begun = Instant::now();
        let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
        let put = b"PUT /refused HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n";
        stream.write_all(put).await.unwrap();
        let answer = head(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")) && answer.contains("connection: close\r\n"), "{answer}");
        // What comes next could be the body or a request: the connection ends, and nothing waits for it.
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends");
        let next = gatepass.get("a.test", if code == 413 { "/" } else { "/hello" }).await;
        assert_eq!(crate::support::status(&next), if code == 413 { 413 } else { 200 }, "{next}");
        assert!(begun.elapsed() < Duration::from_millis(900), "nothing waits out `continue_wait`: {:?}", begun.elapsed());
    }
}
