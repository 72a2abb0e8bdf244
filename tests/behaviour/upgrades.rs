//! WebSockets pass, over HTTP/1.1 and HTTP/2, and whatever else an origin switches to; nobody else gets a connection handed over.

use base64::Engine;
use gatepass::tls::settings::Alpn;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn accept(key: &str) -> String {
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    );
    base64::prelude::BASE64_STANDARD.encode(digest)
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

/// Switches for `/ws`, to a wrong accept for `/wrong`, unasked for everything else; echoes.
async fn switching(pki: &Pki) -> std::net::SocketAddr {
    raw_origin(pki, |mut stream| async move {
        let request = head(&mut stream).await;
        let authorized = field(&request, "authorization") == Some("Bearer t0k");
        let answer = match (request.split(' ').nth(1), field(&request, "sec-websocket-key")) {
            (Some("/ws"), Some(key)) if authorized => format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n", accept(key)),
            (Some("/wrong"), _) => "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n".to_owned(),
            (Some("/plain"), _) => {
                let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{request}", request.len()).as_bytes()).await;
                let _ = stream.shutdown().await;
                return;
            }
            _ => "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: evil\r\n\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut piece = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            if stream.write_all(&piece[..n]).await.is_err() {
                return;
            }
        }
    })
    .await
}

async fn start() -> Gatepass {
    let pki = Pki::new();
    let address = switching(&pki).await;
    Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t0k")), &[("CA", &pki.ca_pem)]).await
}

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_websocket_over_http1_echoes_and_carries_the_credential() {
    let gatepass = start().await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    stream.write_all(upgrade("/ws").as_bytes()).await.unwrap();
    let answer = head(&mut stream).await;
    assert_eq!(status(&answer), 101, "{answer}");
    assert_eq!(field(&answer, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    stream.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_an_http1_origin() {
    let gatepass = start().await;
    let mut sender = gatepass.h2("a.test").await;
    // The peer's settings, with RFC 8441 among them, must have come.
    let warm = Request::get("https://a.test/plain").body(Empty::new().boxed()).unwrap();
    sender.send_request(warm).await.unwrap().collect().await.unwrap();
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri("https://a.test/ws")
        .header("sec-websocket-version", "13")
        .body(Empty::new().boxed())
        .unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}

#[tokio::test]
async fn a_switch_that_was_not_asked_for_or_answers_another_key_is_502() {
    let gatepass = start().await;
    for request in [upgrade("/wrong"), upgrade("/evil"), "GET /evil HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned()] {
        let answer = gatepass.through("a.test", &request).await;
        assert_eq!(status(&answer), 502, "{request} {answer}");
        assert!(answer.contains("http_upgrade_failed"), "{answer}");
    }
}

#[tokio::test]
async fn upgrades_to_http_itself_and_malformed_ones_go_on_as_ordinary_requests() {
    let gatepass = start().await;
    for upgrade in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\r\nUpgrade: websocket",
        "Connection: Upgrade\r\nUpgrade: HTTP/2.0",
        "Connection: keep-alive\r\nUpgrade: foo",
    ] {
        let answer = gatepass.through("a.test", &format!("GET /plain HTTP/1.1\r\nHost: a.test\r\n{upgrade}\r\n\r\n")).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("upgrade") && !answer.contains("http2-settings"), "{answer}");
    }
}

/// Takes what it is asked to switch to, when the request has the credential; says what came of the body and echoes.
async fn taking_any(pki: &Pki) -> std::net::SocketAddr {
    raw_origin(pki, |mut stream| async move {
        let request = head(&mut stream).await;
        let length = field(&request, "content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let protocol = field(&request, "upgrade").unwrap_or("none");
        let answer = match field(&request, "authorization") {
            Some("Bearer t0k") if request.starts_with("POST /wrong") => "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n".to_owned(),
            Some("Bearer t0k") if request.starts_with("POST /no") => "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno".to_owned(),
            Some("Bearer t0k") => format!("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n{}|", String::from_utf8(body).unwrap()),
            _ => "HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut piece = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            if stream.write_all(&piece[..n]).await.is_err() {
                return;
            }
        }
    })
    .await
}

fn asking(path: &str, protocol: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn any_protocol_that_the_origin_switches_to_passes_with_the_body_that_asked_for_it() {
    let pki = Pki::new();
    let address = taking_any(&pki).await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, "bearer: t0k")), &[("CA", &pki.ca_pem)]).await;
    for (protocol, body) in [("SPDY/3.1", ""), ("tcp", r#"{"Detach":false,"Tty":true}"#), ("x-own/7", "b"), ("h2c, x-own", "")] {
        let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
        stream.write_all(asking("/exec", protocol, body).as_bytes()).await.unwrap();
        let answer = head(&mut stream).await;
        assert_eq!(status(&answer), 101, "{answer}");
        assert_eq!(field(&answer, "upgrade"), Some(protocol.trim_start_matches("h2c, ")), "{answer}");
        assert_eq!(field(&answer, "connection"), Some("Upgrade"));
        assert_eq!(field(&answer, "content-type"), Some("application/vnd.docker.raw-stream"));
        stream.write_all(b"\0\x01hello").await.unwrap();
        let expected = format!("{body}|\0\x01hello");
        let mut echo = vec![0; expected.len()];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, expected.as_bytes());
    }
    let answer = gatepass.through("a.test", &asking("/wrong", "tcp", "")).await;
    assert!(status(&answer) == 502 && answer.contains("http_upgrade_failed"), "{answer}");
    let answer = gatepass.through("a.test", &asking("/no", "tcp", "x")).await;
    assert!(status(&answer) == 403 && answer.ends_with("no"), "{answer}");
}

/// hyper hands such a connection over at its end, to nobody, instead of ending it.
#[tokio::test]
async fn a_connection_on_which_an_upgrade_was_asked_for_in_vain_goes_on_and_ends_as_any_other() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, "bearer: t0k")), &[("CA", &pki.ca_pem)]).await;
    for (wish, last, expected, words) in [
        (asking("/x", "foo", "body"), "GET /y HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", 200, "auth Bearer t0k"),
        (asking("/x", "foo", "body"), "GET /<y> HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", 200, "auth Bearer t0k"),
        (asking("/x", "foo", "body"), "GET /y HTTP/1.1\r\nHost : a.test\r\n\r\n", 400, "not valid HTTP"),
        (asking("/x", "foo", ""), "GET /y HTTP/1.1\r\nHost : a.test\r\n\r\n", 400, "not valid HTTP"),
        (upgrade("/x"), "GET /y HTTP/1.1\r\nHost : a.test\r\n\r\n", 400, "not valid HTTP"),
    ] {
        let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
        stream.write_all(wish.as_bytes()).await.unwrap();
        let answer = head(&mut stream).await;
        assert_eq!(status(&answer), 200, "{answer}");
        let length: usize = field(&answer, "content-length").unwrap().parse().unwrap();
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        stream.write_all(last.as_bytes()).await.unwrap();
        // An end without close_notify would be an error here.
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(status(&answer) == expected && answer.contains(words), "{wish} {last} {answer}");
    }
}

#[tokio::test]
async fn a_connect_inside_a_tunnel_is_refused() {
    let gatepass = start().await;
    let answer = gatepass.through("a.test", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").await;
    assert_eq!(status(&answer), 400, "{answer}");
}

#[tokio::test]
async fn an_upgrade_toward_an_origin_of_http_2_alone_is_an_ordinary_request() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { alpn: &["h2"], ..OriginOptions::default() }).await;
    let only = "tls: { alpn: [h2] }\nbearer: t0k";
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, only)), &[("CA", &pki.ca_pem)]).await;
    for wish in ["SPDY/3.1", "websocket"] {
        let request = upgrade("/x").replace("Upgrade: websocket", &format!("Upgrade: {wish}"));
        let answer = gatepass.through("a.test", &request).await;
        assert!(status(&answer) == 200 && answer.contains("auth Bearer t0k"), "{answer}");
    }
    // One that does speak HTTP/1.1 is asked in it, whatever the rule says of ordinary requests.
    let address = switching(&pki).await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", address, only)), &[("CA", &pki.ca_pem)]).await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    stream.write_all(upgrade("/ws").as_bytes()).await.unwrap();
    assert_eq!(status(&head(&mut stream).await), 101);
}

/// Reads a request in clear, switches, speaks first, and answers the end of what it gets with how it ended.
async fn speaking_first() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello").await.unwrap();
                let mut all = String::new();
                stream.read_to_string(&mut all).await.unwrap();
                stream.write_all(format!("ended after {all:?}").as_bytes()).await.unwrap();
            });
        }
    });
    address
}

#[tokio::test]
async fn the_end_of_what_a_client_has_to_say_after_a_switch_is_passed_on_at_once() {
    let origin = speaking_first().await;
    let gatepass = Gatepass::start("", &[]).await;
    for said in ["", "input"] {
        let mut client = gatepass.dial().await;
        let asking = format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
        client.write_all(asking.as_bytes()).await.unwrap();
        assert_eq!(status(&head(&mut client).await), 101);
        client.write_all(said.as_bytes()).await.unwrap();
        let mut hello = [0; 5];
        client.read_exact(&mut hello).await.unwrap();
        let begun = std::time::Instant::now();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(std::time::Duration::from_secs(5), client.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, format!("ended after {said:?}"));
        assert!(begun.elapsed() < std::time::Duration::from_millis(900), "{:?}", begun.elapsed());
    }
}

/// Refuses the first request of each connection with this page and a clock of its own, and switches for the next.
async fn doubting(pki: &Pki, page: &'static str) -> std::net::SocketAddr {
    raw_origin(pki, move |mut stream| async move {
        let clock = time::OffsetDateTime::now_utc() + time::Duration::seconds(100);
        let (weekday, month) = (clock.weekday().to_string(), clock.month().to_string());
        let (hour, minute, second) = clock.time().as_hms();
        let (day, year) = (clock.day(), clock.year());
        let date = format!("{}, {day:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", &weekday[..3], &month[..3]);
        head(&mut stream).await;
        let answer = format!("HTTP/1.1 403 Forbidden\r\nDate: {date}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        let request = head(&mut stream).await;
        let Some(key) = field(&request, "sec-websocket-key") else { return };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept(key)
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn what_an_origin_says_in_its_body_is_heard_for_a_websocket_as_for_any_request() {
    for (page, expected) in [("<Code>RequestTimeTooSkewed</Code>", 101), ("<Code>AccessDenied</Code>", 403)] {
        let pki = Pki::new();
        let address = doubting(&pki, page).await;
        let aws = "aws_sigv4: { access_key: AK, secret_key: sk, region: eu-west-1, service: s }";
        let yaml = format!("rules:\n{}", rule("a.test", address, aws));
        let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
        let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
        stream.write_all(upgrade("/ws").as_bytes()).await.unwrap();
        let answer = head(&mut stream).await;
        assert_eq!(status(&answer), expected, "{answer}");
    }
}

/// Switches to a WebSocket, or for `/tcp` to something else, reads as many bytes as `X-Read` says, says its own words, and
/// tells all that comes after that.
async fn recording(pki: &Pki, words: &'static [u8], told: tokio::sync::mpsc::UnboundedSender<Vec<u8>>) -> std::net::SocketAddr {
    raw_origin(pki, move |mut stream| {
        let told = told.clone();
        async move {
            let request = head(&mut stream).await;
            let to = match field(&request, "sec-websocket-key") {
                Some(key) => format!("websocket\r\nSec-WebSocket-Accept: {}", accept(key)),
                None => "tcp".to_owned(),
            };
            let answer = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut first = vec![0; field(&request, "x-read").unwrap().parse().unwrap()];
            stream.read_exact(&mut first).await.unwrap();
            stream.write_all(words).await.unwrap();
            let rest = until_the_end(&mut stream).await;
            let _ = told.send(rest);
        }
    })
    .await
}

/// What comes until the connection ends, however it does.
async fn until_the_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut all).await {}
    all
}

/// What client and origin get after they said this to each other, when gatepass stops and the grace period ends.
async fn at_the_end(protocol: &str, from_client: &[u8], from_origin: &'static [u8]) -> (Vec<u8>, Vec<u8>) {
    let pki = Pki::new();
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let address = recording(&pki, from_origin, sender).await;
    let yaml = format!("limits: {{ grace: 100ms }}\nrules:\n{}", rule("a.test", address, "bearer: t0k"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    let asking = match protocol {
        "websocket" => upgrade("/ws"),
        _ => asking("/tcp", protocol, ""),
    };
    let asking = asking.replace("\r\n\r\n", &format!("\r\nX-Read: {}\r\n\r\n", from_client.len()));
    client.write_all(asking.as_bytes()).await.unwrap();
    assert_eq!(status(&head(&mut client).await), 101);
    client.write_all(from_client).await.unwrap();
    let mut first = vec![0; from_origin.len()];
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(first, from_origin);
    let reading = async move { until_the_end(&mut client).await };
    let (drained, to_client) = tokio::join!(gatepass.running.stop(), reading);
    assert_eq!(drained.cut, 1);
    (to_client, told.recv().await.unwrap())
}

/// The status of a masked Close frame, and nothing else.
fn unmasked(frame: &[u8]) -> Option<u16> {
    let &[0x88, 0x82, a, b, _, _, high, low] = frame else { return None };
    Some(u16::from_be_bytes([high ^ a, low ^ b]))
}

#[tokio::test]
async fn a_websocket_that_outlasts_the_grace_period_is_closed_with_1001_toward_both_sides() {
    let (to_client, to_origin) = at_the_end("websocket", b"\x81\x82maskhi", b"\x81\x02ok").await;
    assert_eq!(to_client, [0x88, 2, 0x03, 0xe9]);
    assert_eq!(unmasked(&to_origin), Some(1001), "{to_origin:x?}");
}

#[tokio::test]
async fn no_close_frame_is_put_inside_a_frame_nor_after_one_nor_into_another_protocol() {
    let (to_client, to_origin) = at_the_end("websocket", b"\x81\x85maskhi", b"\x81\x02ok").await;
    assert_eq!((to_client.len(), to_origin), (4, vec![]), "inside a frame of the client's");
    let (to_client, to_origin) = at_the_end("websocket", b"\x81\x82maskhi", b"\x82\x05hel").await;
    assert_eq!((to_client, unmasked(&to_origin)), (vec![], Some(1001)), "inside a frame of the origin's");
    let nothing = (vec![], vec![]);
    assert_eq!(at_the_end("websocket", b"\x88\x80mask", b"\x81\x02ok").await, nothing, "the client has closed");
    assert_eq!(at_the_end("websocket", b"\x81\x82maskhi", b"\x88\x00").await, nothing, "the origin has closed");
    assert_eq!(at_the_end("tcp", b"\x81\x82maskhi", b"\x81\x02ok").await, nothing, "not a WebSocket");
}

#[tokio::test]
async fn a_websocket_over_http2_is_closed_with_1001_too() {
    let pki = Pki::new();
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let address = recording(&pki, b"\x81\x02ok", sender).await;
    let yaml = format!("limits: {{ grace: 100ms }}\nrules:\n{}", rule("a.test", address, "bearer: t0k"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let mut requests = gatepass.h2("a.test").await;
    // The peer's settings, with RFC 8441 among them, must have come.
    let warm = Request::get("https://b.test/").body(Empty::new().boxed()).unwrap();
    assert_eq!(requests.send_request(warm).await.unwrap().status(), 421);
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri("https://a.test/ws")
        .header("sec-websocket-version", "13")
        .header("x-read", "0")
        .body(Empty::new().boxed())
        .unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let response = requests.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut client = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut first = [0; 4];
    client.read_exact(&mut first).await.unwrap();
    let reading = async move { until_the_end(&mut client).await };
    let (_, to_client) = tokio::join!(gatepass.running.stop(), reading);
    assert_eq!(to_client, [0x88, 2, 0x03, 0xe9]);
    assert_eq!(unmasked(&told.recv().await.unwrap()), Some(1001));
}
