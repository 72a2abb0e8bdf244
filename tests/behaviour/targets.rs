//! What a client writes as its target arrives, and what cannot be a request is refused with a reason and a record.

use gatepass::tls::settings::Alpn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

async fn start(unmatched: &str) -> (Origin, Gatepass) {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!("unmatched: {unmatched}\nrules:\n{}", rule("a.test", origin.address, "bearer: t"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    (origin, gatepass)
}

async fn sent(gatepass: &Gatepass, bytes: &[u8]) -> String {
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn targets_that_no_url_has_arrive_as_their_server_would_read_them() {
    let (origin, gatepass) = start("tunnel").await;
    for (written, arrives) in [
        (&b"/q?a=\"b\"&c=<d>"[..], "/q?a=%22b%22&c=%3Cd%3E"),
        (b"/<x>`y`/{z}|^", "/%3Cx%3E%60y%60/{z}|^"),
        (b"/\xe9?\xff", "/%E9?%FF"),
        ("/\u{20ac}".as_bytes(), "/\u{20ac}"),
        (b"/%3c?%22", "/%3c?%22"),
    ] {
        let request = [b"GET ", written, b" HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"].concat();
        let answer = sent(&gatepass, &request).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert_eq!(origin.last().line, format!("GET {arrives}"));
    }
}

#[tokio::test]
async fn the_same_targets_arrive_over_http_2_and_end_no_connection() {
    let (origin, gatepass) = start("tunnel").await;
    // The tests' own client would not write them: frames by hand, each a HEADERS that ends its stream.
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::H2]).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let targets = [
        (&b"/plain"[..], "/plain"),
        (b"/q?a=\"b\"&c=<d>", "/q?a=%22b%22&c=%3Cd%3E"),
        (b"/\xe9<`", "/%E9%3C%60"),
        (b"/after", "/after"),
    ];
    for (at, (written, arrives)) in targets.into_iter().enumerate() {
        // GET, https, :authority a.test; the path goes into the table.
        let block = [b"\x82\x87\x01\x06a.test\x44", &[written.len() as u8][..], written].concat();
        let id = at as u8 * 2 + 1;
        let frame = [&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, id][..], &block].concat();
        stream.write_all(&frame).await.unwrap();
        let arrived = async {
            while origin.seen().len() <= at {
                tokio::time::sleep(PATIENCE / 1000).await;
            }
        };
        tokio::time::timeout(PATIENCE, arrived).await.unwrap_or_else(|_| panic!("{arrives} arrives"));
        assert_eq!(origin.last().line, format!("GET {arrives}"));
        assert!(!origin.last().headers.contains_key("gatepass-stream"));
    }
}

#[tokio::test]
async fn a_plain_proxy_request_for_a_host_without_a_rule_has_its_target_carried_too() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { tls: false, ..OriginOptions::default() }).await;
    let gatepass = Gatepass::start("", &[]).await;
    let target = format!("http://{}/p<q>?a=\"b\"", origin.address);
    let answer = gatepass.ask(&format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", origin.address)).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert_eq!(origin.last().line, "GET /p%3Cq%3E?a=%22b%22");
}

#[tokio::test]
async fn no_refusal_leaves_without_a_reason() {
    let (origin, gatepass) = start("tunnel").await;
    let many = "X: 1\r\n".repeat(120);
    let long = "x".repeat(70_000);
    for (request, code) in [
        ("GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nBad Name: x\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nX : blank\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: x\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2, 2\r\n\r\nok".to_owned(), 400),
        ("G\x01T / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: a.test\r\n{many}\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET /{long} HTTP/1.1\r\nHost: a.test\r\n\r\n"), 431),
    ] {
        let what = &request[..request.len().min(80)];
        let answer = sent(&gatepass, request.as_bytes()).await;
        assert_eq!(status(&answer), code, "{what:?} {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nproxy-status: gatepass; error=http_request_error; details=\""), "{head}");
        assert!(head.contains("\r\nconnection: close") && body.starts_with("gatepass: "), "{answer}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        // On the proxy's own port too.
        let answer = gatepass.ask(&request).await;
        assert!(status(&answer) == code && answer.contains("proxy-status: gatepass; error="), "{what:?} {answer}");
    }
    assert!(origin.seen().is_empty());
    let head = sent(&gatepass, b"HEAD /a b HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(status(&head) == 400 && head.ends_with("\r\n\r\n") && !head.contains("gatepass: "), "{head}");
}

#[tokio::test]
async fn a_request_before_a_malformed_one_is_answered_first() {
    let (origin, gatepass) = start("tunnel").await;
    let answer = sent(&gatepass, b"GET /good HTTP/1.1\r\nHost: a.test\r\n\r\nGET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("saw GET /good"), "{answer}");
    assert!(answer.contains("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert_eq!(origin.seen().len(), 1);
}
