//! Whatever a client does, and however it ends: one record, with when it began and why it ended.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatepass::observe::LogFormat;
use gatepass::observe::{AccessLog, Observe};
use gatepass::tls::settings::Alpn;
use http::Request;
use http_body_util::{BodyExt, Empty};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why} in {line}"))).collect()
    }

    /// The one line beyond those `before`.
    async fn next(&self, before: usize, what: &str) -> Value {
        let come = async {
            while self.all().len() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, come).await.unwrap_or_else(|_| panic!("{what} leaves no record"));
        // Another would come at about the same time.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let all = self.all();
        assert_eq!(all.len(), before + 1, "{what} leaves more than one record: {:?}", &all[before..]);
        all[before].clone()
    }
}

/// Never answers `/slow`, breaks off in `/half`, switches to another protocol for `/switch`, refuses at `/401`.
async fn origin(pki: &Pki) -> std::net::SocketAddr {
    raw_origin(pki, |mut stream| async move {
        loop {
            let request = head(&mut stream).await;
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = match path.as_str() {
                "" => return,
                "/slow" => {
                    let _ = stream.read_u8().await;
                    return;
                }
                "/half" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
                "/switch" => "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
                "/401" => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            if path == "/half" {
                let _ = stream.read_u8().await;
                return;
            }
            let mut piece = [0; 64];
            while path == "/switch"
                && let Ok(n @ 1..) = stream.read(&mut piece).await
            {
                let _ = stream.write_all(&piece[..n]).await;
            }
        }
    })
    .await
}

struct Lab {
    gate: Gatepass,
    lines: Lines,
    _guard: tracing_appender::non_blocking::WorkerGuard,
}

impl Lab {
    async fn new() -> Self {
        let pki = Pki::new();
        let address = origin(&pki).await;
        let guarded = "access: { users: { ci: pw } }";
        let yaml = format!(
            "listeners:\n  - listen: 127.0.0.1:0\n  - {{ listen: 127.0.0.1:0, {guarded} }}\n  - {{ listen: 127.0.0.1:0, mode: reverse, upstream: https://a.test, {guarded} }}\n\
             credentials: {{ main: {{ bearer: t0k }} }}\n\
             rules:\n{}  - {{ host: denied.test, action: deny }}\n",
            rule("a.test", address, "auth: main")
        );
        let lines = Lines::default();
        let (writer, guard) = tracing_appender::non_blocking(lines.clone());
        let observe = Observe::new(Some(AccessLog::new(writer, LogFormat::Json)));
        let gate = Gatepass::observed(request(&yaml, &[("CA", &pki.ca_pem)]), observe).await;
        Self { gate, lines, _guard: guard }
    }

    async fn to(&self, listener: usize) -> TcpStream {
        TcpStream::connect(self.gate.running.addresses[listener].0).await.unwrap()
    }

    /// Opens it, says this, reads what comes, and leaves.
    async fn say(&self, listener: usize, words: &[u8]) {
        let mut stream = self.to(listener).await;
        stream.write_all(words).await.unwrap();
        let mut piece = [0; 1024];
        let _ = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut piece)).await;
    }

    async fn tls(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.gate.tls("a.test:443", "a.test", &[Alpn::Http11]).await
    }

    /// Says this in TLS through a tunnel, reads up to so many bytes, and leaves.
    async fn in_tls(&self, words: &str, read: usize) {
        let mut stream = self.tls().await;
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut answer = vec![0; read];
        let _ = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

/// What was done, and what its record says: event, status (0: none), origin, error.
type Told = (&'static str, u64, &'static str, &'static str);

async fn check(lab: &Lab, what: &str, before: usize, told: Told) -> Value {
    let line = lab.lines.next(before, what).await;
    let (event, status, origin, error) = told;
    assert_eq!(line["event"], event, "{what}: {line}");
    assert_eq!(line["status"].as_u64().unwrap_or(0), status, "{what}: {line}");
    assert_eq!(line["origin"].as_str().unwrap_or_default(), origin, "{what}: {line}");
    assert_eq!(line["error"].as_str().unwrap_or_default(), error, "{what}: {line}");
    assert_eq!(line["details"].is_null(), error.is_empty(), "a cause has its sentence; {what}: {line}");
    assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{what}: {line}");
    let at = time::OffsetDateTime::parse(line["timestamp"].as_str().unwrap(), &time::format_description::well_known::Rfc3339);
    let age = time::OffsetDateTime::now_utc() - at.unwrap();
    let total = line["total_ms"].as_f64().unwrap();
    assert!(age.as_seconds_f64() * 1e3 + 2.0 >= total, "it is dated by its begin; {what}: {line}");
    line
}

#[tokio::test]
async fn a_client_that_leaves_leaves_a_record() {
    let lab = Lab::new().await;
    let gone = "connection_terminated";
    lab.in_tls(&get("/slow"), 0).await;
    let line = check(&lab, "before the answer, HTTP/1.1", 0, ("exchange", 0, "https://a.test", gone)).await;
    assert_eq!((line["auth"].as_str(), line["path"].as_str()), (Some("main"), Some("/slow")), "{line}");
    assert!(line["total_ms"].as_f64().unwrap() > 50.0, "{line}");

    let mut sender = lab.gate.h2("a.test").await;
    let request = Request::get("https://a.test/slow").body(Empty::new().boxed()).unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(200), sender.send_request(request)).await;
    assert!(answer.is_err());
    let line = check(&lab, "before the answer, HTTP/2", 1, ("exchange", 0, "https://a.test", gone)).await;
    assert_eq!(line["downstream_protocol"], "h2", "{line}");

    lab.in_tls(&get("/half"), 30).await;
    check(&lab, "in the middle of the answer", 2, ("exchange", 200, "https://a.test", gone)).await;

    drop(lab.gate.connect("a.test:443").await);
    check(&lab, "before it used its tunnel", 3, ("tunnel", 0, "https://a.test", gone)).await;

    let (_, mut stream) = lab.gate.connect("a.test:443").await;
    stream.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    drop(stream);
    check(&lab, "in its TLS handshake", 4, ("tunnel", 0, "https://a.test", "tls_protocol_error")).await;
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_ca_leaves_a_record_and_is_counted() {
    let lab = Lab::new().await;
    let (_, stream) = lab.gate.connect("a.test:443").await;
    assert!(tls(stream, "a.test", &[], Pki::new().ca()).await.is_err());
    let line = check(&lab, "an untrusting client", 0, ("tunnel", 0, "https://a.test", "tls_protocol_error")).await;
    assert!(line["details"].as_str().unwrap().contains("does not trust gatepass's CA"), "{line}");
    let counted = &lab.gate.running.context.observe.counters.handshakes[gatepass::observe::Handshake::Untrusted as usize];
    assert_eq!(counted.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_a_switched_connection_carried_is_told_at_its_end() {
    let lab = Lab::new().await;
    let mut stream = lab.tls().await;
    stream.write_all(b"GET /switch HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
    assert_eq!(status(&head(&mut stream).await), 101);
    for _ in 0..3 {
        stream.write_all(b"12345").await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(lab.lines.all().len(), 0, "not before its end");
    stream.shutdown().await.unwrap();
    drop(stream);
    let line = lab.lines.next(0, "a switched connection").await;
    assert_eq!((&line["status"], &line["bytes_in"], &line["bytes_out"]), (&101.into(), &15.into(), &15.into()), "{line}");
    assert!(line["total_ms"].as_f64().unwrap() >= 90.0 && line["auth"] == "main", "{line}");
}

#[tokio::test]
async fn a_refusal_leaves_a_record_by_every_way_in() {
    let lab = Lab::new().await;
    let socks = |greeting: &[u8], more: &[u8]| [greeting, more].concat();
    let password = socks(b"\x05\x01\x02", b"\x01\x02ci\x02no");
    let udp = socks(b"\x05\x01\x00", b"\x05\x03\x00\x03\x06a.test\x01\xbb");
    let denied = "http_request_denied";
    let wrong = "http_request_error";
    let cases: Vec<(&str, usize, Vec<u8>, Told)> = vec![
        (
            "407 to a request",
            1,
            b"GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
            ("exchange", 407, "http://a.test", denied),
        ),
        (
            "407 to a CONNECT",
            1,
            b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
            ("tunnel", 407, "https://a.test", denied),
        ),
        ("407 of a reverse listener", 2, get("/x").into_bytes(), ("exchange", 407, "https://a.test", denied)),
        ("a wrong SOCKS password", 1, password, ("connection", 407, "", denied)),
        ("a SOCKS client without a method", 1, b"\x05\x01\x00".to_vec(), ("connection", 407, "", denied)),
        ("a SOCKS client that asks for UDP", 0, udp, ("connection", 400, "", wrong)),
        (
            "a denied CONNECT",
            0,
            b"CONNECT denied.test:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            ("tunnel", 403, "https://denied.test", denied),
        ),
        ("a CONNECT without a port", 0, b"CONNECT a.test HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), ("tunnel", 400, "", wrong)),
        (
            "a denied request",
            0,
            b"GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n".to_vec(),
            ("exchange", 403, "http://denied.test", denied),
        ),
        (
            "a Host that is not the target's",
            0,
            b"GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
            ("exchange", 421, "http://b.test", wrong),
        ),
        (
            "a page that is not there",
            0,
            b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            ("exchange", 404, "", wrong),
        ),
    ];
    for (before, (what, listener, words, told)) in cases.into_iter().enumerate() {
        lab.say(listener, &words).await;
        check(&lab, what, before, told).await;
    }
    let refused = lab.gate.running.context.observe.counters.refused.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(refused, 5, "callers that were not let in");
}

#[tokio::test]
async fn a_421_names_where_the_connection_goes() {
    let lab = Lab::new().await;
    lab.in_tls("GET /x HTTP/1.1\r\nHost: b.test\r\n\r\n", 20).await;
    let line = check(&lab, "another Host in a tunnel", 0, ("exchange", 421, "https://a.test", "http_request_error")).await;
    assert!(line["details"].as_str().unwrap().contains("b.test"), "{line}");
}

#[tokio::test]
async fn a_401_to_our_credential_has_its_reason_in_the_record() {
    let lab = Lab::new().await;
    lab.in_tls(&get("/401"), 20).await;
    let line = check(&lab, "a 401", 0, ("exchange", 401, "https://a.test", "")).await;
    assert!(line["note"].as_str().unwrap().contains("the origin refused the credential `main`"), "{line}");
    lab.in_tls(&get("/fine"), 20).await;
    let line = check(&lab, "a 200", 1, ("exchange", 200, "https://a.test", "")).await;
    assert!(line["note"].is_null(), "{line}");
}

/// A connection of HTTP/2 with one header block on it, which ends its request.
fn h2_block(block: &[u8]) -> Vec<u8> {
    let head = [0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1];
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &head[..], block].concat()
}

#[tokio::test]
async fn a_header_block_of_http2_that_is_malformed_or_too_large_leaves_a_record() {
    let lab = Lab::new().await;
    let get = b"\x82\x87\x41\x06a.test\x44\x04/x?y";
    let cases: [(&str, &[u8], u64, &str, &str); 5] = [
        ("a field of the connection", b"\0\x0aconnection\x05close", 400, "/x", "speaks of the connection"),
        ("a capital", b"\0\x01X\x01y", 400, "/x", "capital"),
        ("a second path", b"\x84", 400, "/x", "twice"),
        ("a block that cannot be read", b"\xff\xff\xff\xff\xff", 400, "", "cannot be read"),
        ("a good one", b"\0\x01x\x01y", 200, "/x", ""),
    ];
    for (before, (what, more, status, path, why)) in cases.into_iter().enumerate() {
        let mut stream = lab.gate.tls("a.test:443", "a.test", &[Alpn::H2]).await;
        stream.write_all(&h2_block(&[get, more].concat())).await.unwrap();
        let error = if why.is_empty() { "" } else { "http_request_error" };
        let line = check(&lab, what, before, ("exchange", status, "https://a.test", error)).await;
        assert_eq!(line["path"].as_str().unwrap_or_default(), path, "{what}: {line}");
        assert_eq!(line["downstream_protocol"], "h2", "{what}: {line}");
        assert!(line["bytes_out"] == 0 || status == 200, "nothing of ours was said; {what}: {line}");
        assert!(line["details"].as_str().unwrap_or_default().contains(why), "{what}: {line}");
    }
    let mut requests = lab.gate.h2("a.test").await;
    let large = Request::get("https://a.test/large").header("x", "y".repeat(70_000)).body(Empty::new().boxed()).unwrap();
    assert_eq!(requests.send_request(large).await.unwrap().status(), 431);
    let line = check(&lab, "a large block", 5, ("exchange", 431, "https://a.test", "http_request_error")).await;
    assert_eq!((line["method"].as_str(), line["path"].as_str()), (Some("GET"), Some("/large")), "{line}");
}
