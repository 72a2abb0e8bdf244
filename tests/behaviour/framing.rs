//! The length that leaves is the one a body was read by, and what was cut is seen to be cut.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gatepass::tls::settings::Alpn;
use http::{HeaderMap, Method, Request, Version};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// An HTTP/1 origin that answers everything with these bytes and ends the connection; what it was sent.
async fn saying(answer: &'static [u8]) -> (Gatepass, Arc<Mutex<Vec<String>>>) {
    let pki = Pki::new();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = heads.clone();
    let address = raw_origin(&pki, move |mut stream| {
        let seen = seen.clone();
        async move {
            let request = head(&mut stream).await;
            seen.lock().unwrap().push(request);
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    (gatepass, heads)
}

/// Reads until the connection ends.
async fn all(gatepass: &Gatepass, request: &str) -> String {
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

async fn over_h2(gatepass: &Gatepass, request: Request<BoxBody<Bytes, Infallible>>) -> (u16, HeaderMap, Result<Bytes, ()>) {
    let response = gatepass.h2("a.test").await.send_request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status.as_u16(), parts.headers, body.collect().await.map(|body| body.to_bytes()).map_err(|_| ()))
}

fn empty(method: Method) -> Request<BoxBody<Bytes, Infallible>> {
    Request::builder().method(method).uri("https://a.test/").body(Empty::new().boxed()).unwrap()
}

#[tokio::test]
async fn the_transfer_coding_of_an_answer_wins_over_its_length() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
    ] {
        let (gatepass, _) = saying(answer).await;
        let text = all(&gatepass, GET).await;
        assert!(text.contains("0123456789") && text.ends_with("0\r\n\r\n") && !text.contains("content-length"), "{text}");
        let (_, headers, body) = over_h2(&gatepass, empty(Method::GET)).await;
        assert_eq!((body.unwrap().as_ref(), headers.get("content-length")), (&b"0123456789"[..], None));
    }
}

#[tokio::test]
async fn one_length_is_passed_on_and_two_are_refused() {
    let (gatepass, _) = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok").await;
    let text = all(&gatepass, GET).await;
    assert!(text.contains("content-length: 2\r\n") && text.matches("content-length").count() == 1, "{text}");
    assert!(text.ends_with("\r\n\r\nok"), "{text}");
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    ] {
        let (gatepass, _) = saying(answer).await;
        let text = all(&gatepass, GET).await;
        assert!(status(&text) == 502 && text.contains("proxy-status: gatepass; error="), "{text}");
        assert!(!text.contains("ok"), "{text}");
    }
}

#[tokio::test]
async fn lengths_stand_where_they_mean_something_and_nowhere_else() {
    let (gatepass, _) = saying(b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n").await;
    let text = all(&gatepass, GET).await;
    assert!(status(&text) == 204 && !text.contains("content-length"), "{text}");
    let (gatepass, _) = saying(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 123\r\nETag: \"a\"\r\n\r\n").await;
    let text = all(&gatepass, GET).await;
    assert!(status(&text) == 304 && text.contains("content-length: 123") && text.ends_with("\r\n\r\n"), "{text}");
    let (status_, headers, body) = over_h2(&gatepass, empty(Method::GET)).await;
    assert_eq!((status_, headers["content-length"].to_str().unwrap(), body.unwrap().len()), (304, "123", 0));
    let (gatepass, _) = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n").await;
    let text = all(&gatepass, HEAD).await;
    assert!(text.contains("content-length: 123") && text.ends_with("\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn an_answer_in_http_1_0_leaves_in_1_1_and_shows_when_it_was_cut() {
    let (gatepass, _) = saying(b"HTTP/1.0 200 OK\r\n\r\nwhole").await;
    let text = all(&gatepass, GET).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("transfer-encoding: chunked"), "{text}");
    assert!(text.ends_with("5\r\nwhole\r\n0\r\n\r\n"), "{text}");
    let old = all(&gatepass, "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("\r\n\r\nwhole"), "{old}");

    let pki = Pki::new();
    // The connection ends without TLS's word for it.
    let address = raw_origin(&pki, |mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhalf").await;
        let _ = stream.flush().await;
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let text = all(&gatepass, GET).await;
    assert!(text.contains("half") && !text.contains("0\r\n\r\n"), "{text}");
    let (status, _, body) = over_h2(&gatepass, empty(Method::GET)).await;
    assert!(status == 200 && body.is_err(), "{body:?}");

    let lenient = rule("a.test", address, "bearer: t\ntls: { close_notify: lenient }");
    let gatepass = Gatepass::start(&format!("rules:\n{lenient}"), &[("CA", &pki.ca_pem)]).await;
    let text = all(&gatepass, GET).await;
    assert!(text.ends_with("4\r\nhalf\r\n0\r\n\r\n"), "{text}");
    let (_, _, body) = over_h2(&gatepass, empty(Method::GET)).await;
    assert_eq!(body.unwrap(), "half");
}

#[tokio::test]
async fn what_has_a_length_is_cut_however_lenient_a_rule_is_about_the_end() {
    let pki = Pki::new();
    let address = raw_origin(&pki, |mut stream| async move {
        let answer = match head(&mut stream).await {
            request if request.starts_with("GET /sized") => &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..],
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        };
        let _ = stream.write_all(answer).await;
        let _ = stream.flush().await;
    })
    .await;
    let lenient = rule("a.test", address, "bearer: t\ntls: { close_notify: lenient }");
    let gatepass = Gatepass::start(&format!("rules:\n{lenient}"), &[("CA", &pki.ca_pem)]).await;
    for path in ["/sized", "/chunked"] {
        let text = all(&gatepass, &GET.replace("GET /", &format!("GET {path}"))).await;
        assert!(text.contains("half") && !text.contains("0\r\n\r\n"), "{text}");
        let request = Request::get(format!("https://a.test{path}")).body(Empty::new().boxed()).unwrap();
        assert!(over_h2(&gatepass, request).await.2.is_err(), "{path}");
    }
}

#[tokio::test]
async fn a_malformed_chunk_is_a_cut_after_the_head() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nX-Head: came\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"[..],
        b"HTTP/1.1 200 OK\r\nX-Head: came\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n",
    ] {
        let (gatepass, _) = saying(answer).await;
        let text = all(&gatepass, GET).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("x-head: came"), "{text:?}");
        assert!(!text.contains("0\r\n\r\n"), "{text:?}");
    }
}

#[tokio::test]
async fn folded_lines_and_blanks_before_the_colon_are_repaired() {
    let (gatepass, _) = saying(b"HTTP/1.1 200 OK\r\nX-Folded: one\r\n  two\r\nX-Blank : b\r\nContent-Length: 2\r\n\r\nok").await;
    let text = all(&gatepass, GET).await;
    assert!(text.contains("x-folded: one two\r\n") && text.contains("x-blank: b\r\n") && text.ends_with("ok"), "{text}");
}

#[tokio::test]
async fn more_fields_than_are_taken_are_refused_by_the_limit_s_name() {
    let many: String = (0..120).map(|n| format!("X-{n}: 1\r\n")).collect();
    let answer = format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n").leak();
    let (gatepass, _) = saying(answer.as_bytes()).await;
    let text = all(&gatepass, GET).await;
    assert!(status(&text) == 502 && text.contains("limits.headers"), "{text}");
    let mut request = empty(Method::GET);
    for n in 0..120 {
        request.headers_mut().append("x-many", n.into());
    }
    let (status, _, body) = over_h2(&gatepass, request).await;
    assert!(status == 431 && body.unwrap().windows(14).any(|part| part == b"limits.headers"));
}

#[tokio::test]
async fn our_own_answer_to_a_head_has_no_body() {
    let (gatepass, _) = saying(b"").await;
    let (status_, headers, body) = over_h2(&gatepass, empty(Method::HEAD)).await;
    assert_eq!((status_, body.unwrap().len()), (502, 0));
    assert!(headers.contains_key("proxy-status") && headers["content-length"] != "0");
    let text = all(&gatepass, HEAD).await;
    assert!(status(&text) == 502 && text.ends_with("\r\n\r\n") && text.contains("proxy-status"), "{text}");
}

/// An origin of HTTP/1.1 alone.
async fn old_origin() -> (Gatepass, Origin) {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { alpn: &["http/1.1"], ..OriginOptions::default() }).await;
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    (gatepass, origin)
}

#[tokio::test]
async fn a_body_without_a_length_is_passed_by_every_method() {
    let (gatepass, origin) = old_origin().await;
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "REPORT"] {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        assert_eq!(status(&all(&gatepass, &request).await), 200, "{method}");
        assert_eq!((origin.last().body.as_ref(), origin.last().line), (&b"hello"[..], format!("{method} /")));
        let frames = [Ok(Frame::data(Bytes::from_static(b"hel"))), Ok(Frame::data(Bytes::from_static(b"lo2")))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let request = Request::builder().method(method).uri("https://a.test/").body(body).unwrap();
        assert_eq!(over_h2(&gatepass, request).await.0, 200, "{method}");
        assert_eq!((origin.last().body.as_ref(), origin.last().line), (&b"hello2"[..], format!("{method} /")));
    }
    assert_eq!(status(&all(&gatepass, GET).await), 200);
    let headers = origin.last().headers;
    assert!(!headers.contains_key("transfer-encoding") && !headers.contains_key("content-length"), "{headers:?}");
}

#[tokio::test]
async fn a_get_that_was_cut_does_not_become_whole() {
    let pki = Pki::new();
    let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
    let got = sent.clone();
    let address = raw_origin(&pki, move |mut stream| {
        let got = got.clone();
        async move {
            let mut bytes = Vec::new();
            let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
            got.lock().unwrap().extend(bytes);
        }
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    for _ in 0..100 {
        tokio::time::sleep(PATIENCE / 200).await;
        if !sent.lock().unwrap().is_empty() {
            break;
        }
    }
    let text = String::from_utf8_lossy(&sent.lock().unwrap()).into_owned();
    assert!(text.contains("transfer-encoding: chunked") && !text.contains("0\r\n\r\n"), "{text:?}");
}

#[tokio::test]
async fn the_crumbs_of_a_cookie_are_one_field_for_an_origin_of_http_1() {
    let (gatepass, origin) = old_origin().await;
    let mut request = empty(Method::GET);
    for crumb in ["a=1", "b=2", "c=3"] {
        request.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    assert_eq!(over_h2(&gatepass, request).await.0, 200);
    assert_eq!(origin.last().headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn equal_lengths_of_an_http_2_origin_become_one() {
    let pki = Pki::new();
    let origin = Origin::answering(&pki, OriginOptions::default(), |_| {
        let mut answer = text("ok");
        answer.headers_mut().append("content-length", 2.into());
        answer.headers_mut().append("content-length", 2.into());
        answer
    })
    .await;
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let response = gatepass.h2("a.test").await.send_request(empty(Method::GET)).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(response.headers().get_all("content-length").iter().collect::<Vec<_>>(), ["2"]);
}

#[tokio::test]
async fn an_http2_request_that_says_it_has_no_body_and_has_one_never_reaches_the_origin() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { alpn: &["http/1.1"], ..OriginOptions::default() }).await;
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let stream = gatepass.tls("a.test:443", "a.test", &[Alpn::H2]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for (body, answered) in [("", true), ("x", false), ("x", false), ("", true)] {
        let mut sender = sender.clone().ready().await.unwrap();
        let request = Request::put("https://a.test/").header("content-length", "0").body(()).unwrap();
        let (response, mut upload) = sender.send_request(request, false).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let before = origin.seen().len();
        upload.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
        let response = tokio::time::timeout(PATIENCE, response).await.unwrap();
        assert_eq!(response.is_ok_and(|response| response.status() == 200), answered, "{body:?}");
        assert_eq!(origin.seen().len() - before, usize::from(answered));
    }
}

#[tokio::test]
async fn an_http2_answer_that_says_it_is_empty_and_is_not_is_no_empty_answer() {
    let pki = Pki::new();
    let address = raw_origin_speaking(&pki, &["h2"], |stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let answer = http::Response::builder().header("content-length", "0").body(()).unwrap();
            let mut body = respond.send_response(answer, false).unwrap();
            let path = request.uri().path().to_owned();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                let piece = if path == "/lying" { "x" } else { "" };
                body.send_data(Bytes::from_static(piece.as_bytes()), true).unwrap();
            });
        }
    })
    .await;
    let more = "tls: { alpn: [h2] }";
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, more)), &[("CA", &pki.ca_pem)]).await;
    for (path, code) in [("/lying", 502), ("/", 200), ("/lying", 502)] {
        let answer = gatepass.get("a.test", path).await;
        assert_eq!(status(&answer), code, "{answer}");
        let request = Request::get(format!("https://a.test{path}")).body(Empty::new().boxed()).unwrap();
        assert_eq!(over_h2(&gatepass, request).await.0, code);
    }
}
