//! Messages pass unharmed, and what makes two readers disagree does not pass.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gatepass::tls::settings::Alpn;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

async fn plain_origin() -> (Pki, Origin, Gatepass) {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let gatepass = Gatepass::start(
        &format!("rules:\n{}", rule("a.test", origin.address, "api_key: { name: X-Api-Key, value: t0k }")),
        &[("CA", &pki.ca_pem)],
    )
    .await;
    (pki, origin, gatepass)
}

#[tokio::test]
async fn odd_transfer_encodings_are_400_and_reach_nobody() {
    let (_pki, origin, gatepass) = plain_origin().await;
    for te in [
        "gzip, chunked",
        "chunked, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "x\r\nTransfer-Encoding: chunked",
        "identity, chunked",
        "gzip",
    ] {
        let answer = gatepass
            .through("a.test", &format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: {te}\r\n\r\n0\r\n\r\n"))
            .await;
        assert_eq!(status(&answer), 400, "{te:?}: {answer}");
    }
    for broken in ["zz\r\nab\r\n0\r\n\r\n", "-1\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n"] {
        let answer = gatepass
            .through("a.test", &format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{broken}"))
            .await;
        assert_eq!(status(&answer), 400, "{broken:?}: {answer}");
    }
    assert!(origin.seen().iter().all(|seen| seen.body.is_empty()), "nothing of a malformed body counts as a request");
}

#[tokio::test]
async fn content_length_beside_chunked_is_one_message_and_the_connection_ends() {
    let (_pki, origin, gatepass) = plain_origin().await;
    let answer = gatepass
        .through("a.test", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    assert!(matches!(status(&answer), 200 | 400), "{answer}");
    assert!(origin.seen().iter().all(|seen| !seen.line.contains("smuggled")));
}

#[tokio::test]
async fn hop_by_hop_fields_stay_on_their_hop_and_cannot_strip_what_is_added() {
    let (_pki, origin, gatepass) = plain_origin().await;
    let answer = gatepass
        .through("a.test", "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close, X-Api-Key, X-Mine\r\nX-Mine: 1\r\nX_Api_Key: evil\r\nProxy-Authorization: Basic eDp5\r\nProxy-Connection: x\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n")
        .await;
    assert_eq!(status(&answer), 200);
    let headers = origin.last().headers;
    assert_eq!(headers.get_all("x-api-key").iter().collect::<Vec<_>>(), ["t0k"]);
    for gone in ["x-mine", "x_api_key", "proxy-authorization", "proxy-connection", "keep-alive", "upgrade", "http2-settings"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers.get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
}

#[tokio::test]
async fn trace_is_refused_where_something_is_added() {
    let (_pki, origin, gatepass) = plain_origin().await;
    for method in ["TRACE", "TRACK"] {
        let answer = gatepass.through("a.test", &format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
        assert_eq!(status(&answer), 405, "{answer}");
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn targets_and_bodies_arrive_byte_for_byte() {
    let (_pki, origin, gatepass) = plain_origin().await;
    for target in ["/a%2Fb/%7euser?b=2&a=1&a=%20+%2B&flag&=x", "/;p=1,2/!'()*", "/?", "/%E2%82%AC?q={x}|y"] {
        gatepass.through("a.test", &format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
        assert_eq!(origin.last().line, format!("GET {target}"));
    }
    let body = "x".repeat(300_000);
    gatepass
        .through("a.test", &format!("PUT /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        .await;
    assert_eq!(origin.last().body, body);
    assert_eq!(origin.last().headers["content-length"], "300000");
    gatepass
        .through(
            "a.test",
            "POST /up HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!(origin.last().body, "hello world");
}

#[tokio::test]
async fn trailers_pass_both_ways_but_not_those_that_would_act_as_headers() {
    let pki = Pki::new();
    let got: Arc<Mutex<Option<HeaderMap>>> = Arc::default();
    let origin = Origin::answering(&pki, OriginOptions::default(), |_| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("authorization", HeaderValue::from_static("Bearer stolen"));
        let frames = [Ok(Frame::data(Bytes::from_static(b"hello"))), Ok(Frame::trailers(trailers))];
        Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed())
    })
    .await;
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let mut sender = gatepass.h2("a.test").await;
    let mut up = HeaderMap::new();
    up.insert("x-sum", HeaderValue::from_static("1"));
    let frames = [Ok(Frame::data(Bytes::from_static(b"ping"))), Ok(Frame::trailers(up))];
    let request = Request::post("https://a.test/")
        .header("te", "trailers")
        .body(StreamBody::new(futures_util::stream::iter(frames)).boxed())
        .unwrap();
    let response = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    *got.lock().unwrap() = response.trailers().cloned();
    let trailers = got.lock().unwrap().clone().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(!trailers.contains_key("authorization"));
    assert_eq!(origin.last().body, "ping");
}

#[tokio::test]
async fn an_expecting_client_is_asked_for_its_body_only_when_the_origin_asks() {
    let pki = Pki::new();
    let address = raw_origin(&pki, |mut stream| async move {
        let request = head(&mut stream).await;
        if request.starts_with("PUT /refused") {
            let _ = stream.write_all(b"HTTP/1.1 417 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        } else {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            let mut body = [0; 5];
            stream.read_exact(&mut body).await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
            let _ = stream.write_all(&body).await;
        }
        let _ = stream.shutdown().await;
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    stream.write_all(b"PUT /taken HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 100"));
    assert!(ask(&mut stream, "hello").await.ends_with("hello"));
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    let answer =
        ask(&mut stream, "PUT /refused HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 417"), "the client was never asked for its body: {answer}");
}

#[tokio::test]
async fn events_come_through_one_by_one() {
    let pki = Pki::new();
    let address = raw_origin(&pki, |mut stream| async move {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await.unwrap();
        stream.flush().await.unwrap();
        // Until the client has the first event, there is no second.
        tokio::time::sleep(PATIENCE).await;
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    let mut text = String::new();
    while !text.contains("data: 1\n\n") {
        let mut piece = [0; 256];
        let n =
            tokio::time::timeout(PATIENCE / 2, stream.read(&mut piece)).await.expect("the first event comes at once").unwrap();
        text.push_str(&String::from_utf8_lossy(&piece[..n]));
    }
}

#[tokio::test]
async fn a_truncated_answer_is_seen_to_be_truncated() {
    let pki = Pki::new();
    let address = raw_origin(&pki, |mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
        let _ = stream.shutdown().await;
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let answer = gatepass.get("a.test", "/").await;
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or("");
    assert!(body.len() < 100 && answer.contains("content-length: 100"), "{answer}");
}

#[tokio::test]
async fn a_request_is_sent_again_only_when_nothing_of_it_left() {
    let pki = Pki::new();
    let posts = Arc::new(Mutex::new(0));
    let count = posts.clone();
    let address = raw_origin(&pki, move |mut stream| {
        let count = count.clone();
        async move {
            // The first answer keeps the connection; the next request is read and the connection dropped.
            head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            let request = head(&mut stream).await;
            if request.starts_with("POST") {
                *count.lock().unwrap() += 1;
            }
        }
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    assert_eq!(status(&gatepass.get("a.test", "/").await), 200);
    let answer = gatepass.through("a.test", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx").await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert_eq!(*posts.lock().unwrap(), 1);
}

#[tokio::test]
async fn api_keys_go_where_they_are_told() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let key = |place: &str| format!("api_key: {{ name: k, value: \"a&b\", in: {place} }}");
    let yaml = format!(
        "rules:\n{}",
        ["query", "cookie", "body"]
            .map(|place| rule(
                &format!("{place}.test"),
                origin.address,
                &format!("{}\ndanger: {{ accept_invalid_certs: true }}", key(place))
                    .replace("a&b", if place == "cookie" { "ab" } else { "a&b" })
            ))
            .concat()
    );
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    gatepass.get("query.test", "/p?x=%2F&k=old&y=1").await;
    assert_eq!(origin.last().line, "GET /p?x=%2F&y=1&k=a%26b");
    gatepass.through("cookie.test", "GET / HTTP/1.1\r\nHost: cookie.test\r\nCookie: s=1; k=old\r\n\r\n").await;
    assert_eq!(origin.last().headers["cookie"], "s=1; k=ab");
    let post = |kind: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: body.test\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    gatepass.through("body.test", &post("application/x-www-form-urlencoded", "a=1&k=old&b=%20")).await;
    assert_eq!(origin.last().body, "a=1&b=%20&k=a%26b");
    assert_eq!(origin.last().headers["content-length"], origin.last().body.len().to_string());
    gatepass.through("body.test", &post("application/json; charset=utf-8", r#"{"z":1,"k":"old","a":[2]}"#)).await;
    assert_eq!(origin.last().body, r#"{"z":1,"k":"a&b","a":[2]}"#);
    let refused = gatepass.through("body.test", &post("text/plain", "hello")).await;
    assert!(status(&refused) == 400 && refused.contains("only form and JSON bodies"), "{refused}");
}

/// Demands Digest on every connection; counts what comes with and without a credential.
async fn digest_origin(pki: &Pki, counts: Arc<Mutex<Vec<String>>>) -> std::net::SocketAddr {
    raw_origin(pki, move |mut stream| {
        let counts = counts.clone();
        async move {
            loop {
                let request = head(&mut stream).await;
                if request.is_empty() {
                    return;
                }
                let length = request.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ").and_then(|n| n.parse::<usize>().ok())).unwrap_or(0);
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                let credential = request.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("none").to_owned();
                let good = credential.starts_with("Digest username=\"svc\", realm=\"r\", nonce=\"n1\"");
                counts.lock().unwrap().push(format!("{} {}", credential.split(' ').next().unwrap(), String::from_utf8_lossy(&body)));
                let answer = match good {
                    true => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood",
                    false => "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\", Digest realm=\"r\", nonce=\"n1\", qop=\"auth\", algorithm=SHA-256\r\nContent-Length: 2\r\n\r\nno",
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_challenge_is_answered_unseen_with_the_body_sent_again_and_later_requests_bring_it_along() {
    let pki = Pki::new();
    let counts: Arc<Mutex<Vec<String>>> = Arc::default();
    let address = digest_origin(&pki, counts.clone()).await;
    let digest = "digest: { username: svc, password: pw }";
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, digest)), &[("CA", &pki.ca_pem)]).await;
    for _ in 0..2 {
        let answer = gatepass.through("a.test", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody").await;
        assert!(status(&answer) == 200 && answer.ends_with("good"), "{answer}");
    }
    assert_eq!(*counts.lock().unwrap(), ["none body", "Digest body", "Digest body"]);
    counts.lock().unwrap().clear();
    let keep = Gatepass::start(
        &format!("rules:\n{}", rule("a.test", address, &format!("{digest}\non_existing_auth: keep"))),
        &[("CA", &pki.ca_pem)],
    )
    .await;
    let answer = keep.through("a.test", "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Mine\r\n\r\n").await;
    assert_eq!(status(&answer), 401, "the client's own credential and its refusal are the client's: {answer}");
    assert_eq!(*counts.lock().unwrap(), ["Mine "]);
}

#[tokio::test]
async fn half_closing_clients_get_their_answer() {
    let (_pki, _origin, gatepass) = plain_origin().await;
    let pki = Pki::new();
    let plain = Origin::start(&pki, OriginOptions { tls: false, ..OriginOptions::default() }).await;
    let mut stream = gatepass.dial().await;
    stream
        .write_all(format!("GET http://{}/ HTTP/1.1\r\nHost: {}\r\n\r\n", plain.address, plain.address).as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("saw GET /"), "{answer}");
}

#[tokio::test]
async fn head_and_bodiless_answers_keep_their_length_and_the_connection() {
    let pki = Pki::new();
    let origin = Origin::answering(&pki, OriginOptions { alpn: &["http/1.1"], ..OriginOptions::default() }, |seen| {
        let mut answer = if seen.line.starts_with("HEAD") { text("") } else { Response::new(Full::new(Bytes::new()).boxed()) };
        if seen.line.starts_with("HEAD") {
            answer.headers_mut().insert("content-length", HeaderValue::from_static("1234"));
        } else {
            *answer.status_mut() = http::StatusCode::NO_CONTENT;
        }
        answer
    })
    .await;
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    assert!(head(&mut stream).await.contains("content-length: 1234"));
    stream.write_all(b"DELETE / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 204"));
    let _ = Empty::<Bytes>::new();
}
