//! Schemes that authenticate a connection: whose it is, what leaves by it, and when.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use gatepass::tls::settings::Alpn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// When the origin closes the connection.
#[derive(Clone, Copy, PartialEq)]
enum Closes {
    Never,
    AfterChallenge,
    AfterRequest,
}

struct Ntlm {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// `connection method path: user, length of the body`, a request a line; messages of the handshake by their number.
    log: Arc<Mutex<Vec<String>>>,
}

impl Ntlm {
    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

/// The user that a last message names (MS-NLMP 2.2.1.3).
fn user(message: &[u8]) -> String {
    let number = |at: usize, size: usize| message[at..at + size].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte));
    let (length, offset) = (number(36, 2), number(40, 4));
    let units = message[offset..offset + length].chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    char::decode_utf16(units).map(Result::unwrap).collect()
}

/// A challenge with Unicode, extended security, target information and key exchange.
fn challenge() -> String {
    let mut message = b"NTLMSSP\0\x02\0\0\0\0\0\0\0\x38\0\0\0\x15\x82\x89\xe2\x01\x23\x45\x67\x89\xab\xcd\xef".to_vec();
    message.extend([0; 8]);
    message.extend(b"\x10\0\x10\0\x38\0\0\0\x0a\0\x61\x4a\0\0\0\x0f\x07\0\x08\0\0\0\0\0\0\0\0\x01\0\0\0\0");
    format!("NTLM {}", BASE64_STANDARD.encode(message))
}

/// Everybody but mallory is let in, on the connection that the messages came by.
async fn ntlm_origin(pki: &Pki, closes: Closes) -> Ntlm {
    let (connections, log): (Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>) = Default::default();
    let (count, lines) = (connections.clone(), log.clone());
    let address = raw_origin(pki, move |mut stream| {
        let (connection, log) = (count.fetch_add(1, Ordering::SeqCst), lines.clone());
        async move {
            let mut known: Option<String> = None;
            loop {
                let request = head(&mut stream).await;
                if request.is_empty() {
                    return;
                }
                let length = field(&request, "content-length").map_or(0, |length| length.parse::<usize>().unwrap());
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                let line = request.split(" HTTP/").next().unwrap().to_owned();
                let message = field(&request, "authorization").and_then(|field| field.strip_prefix("NTLM ")).map(|text| BASE64_STANDARD.decode(text).unwrap());
                let number = message.as_ref().map(|message| message[8]);
                let say = |what: &str| log.lock().unwrap().push(format!("{connection} {line}: {what}, {length}"));
                let offer = match (number, &known) {
                    (Some(1), _) => {
                        say("message 1");
                        Some(challenge())
                    }
                    (Some(3), _) if user(message.as_ref().unwrap()) == "mallory" => {
                        say("refused");
                        Some("NTLM".to_owned())
                    }
                    (Some(3), _) => {
                        known = Some(user(message.as_ref().unwrap()));
                        None
                    }
                    (_, None) => Some("NTLM".to_owned()),
                    _ => None,
                };
                let close = closes == Closes::AfterRequest && offer.is_none() || closes == Closes::AfterChallenge && number == Some(1);
                let answer = match (&offer, field(&request, "sec-websocket-key")) {
                    (Some(offer), _) => format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {offer}\r\nContent-Length: 2\r\n\r\nno"),
                    (None, Some(_)) => "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhi".to_owned(),
                    (None, None) => {
                        let known = known.as_deref().unwrap();
                        say(known);
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{known}", known.len())
                    }
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
                if close {
                    let _ = stream.shutdown().await;
                    return;
                }
            }
        }
    })
    .await;
    Ntlm { address, connections, log }
}

async fn start(pki: &Pki, origin: &Ntlm, rules: &str) -> Gatepass {
    let yaml = format!(
        "limits: {{ body_hold: 4KiB }}\nrules:\n{}{rules}",
        rule("a.test", origin.address, "ntlm: { username: alice, password: pw }")
    );
    Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

fn post(length: usize) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length))
}

#[tokio::test]
async fn a_connection_is_authenticated_once_and_a_large_body_leaves_only_when_it_is() {
    let pki = Pki::new();
    let origin = ntlm_origin(&pki, Closes::Never).await;
    let gatepass = start(&pki, &origin, "").await;
    let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    for request in [post(200_000), post(10), get("/g")] {
        let answer = ask(&mut client, &request).await;
        assert!(status(&answer) == 200 && answer.ends_with("alice"), "{answer}");
    }
    // Several requests at once on one client connection: one after another, by the same connection.
    let answers = ask(&mut client, &format!("{}{}", get("/1"), get("/2"))).await;
    assert!(answers.starts_with("HTTP/1.1 200"), "{answers}");
    let log = origin.log();
    assert_eq!(log[..4], ["0 POST /p: message 1, 0", "0 POST /p: alice, 200000", "0 POST /p: alice, 10", "0 GET /g: alice, 0"]);
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn two_users_on_one_client_connection_and_two_clients_of_one_user_never_share_a_connection() {
    let pki = Pki::new();
    let origin = ntlm_origin(&pki, Closes::Never).await;
    let bob = "  - host: a.test\n    path: /bob/**\n    ntlm: { username: bob, password: pw }\n";
    let gatepass = start(&pki, &origin, bob).await;
    let ask_all = async || {
        let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
        for (path, user) in [("/", "alice"), ("/bob/", "bob"), ("/", "alice"), ("/bob/x", "bob")] {
            let answer = ask(&mut client, &get(path)).await;
            assert!(answer.ends_with(user), "{path}: {answer}");
        }
    };
    futures_util::future::join_all((0..8).map(|_| ask_all())).await;
    let mut users: std::collections::HashMap<String, String> = Default::default();
    for line in origin.log().iter().filter(|line| !line.contains("message")) {
        let (connection, rest) = line.split_once(' ').unwrap();
        let user = rest.split(": ").nth(1).unwrap().to_owned();
        assert_eq!(users.entry(connection.to_owned()).or_insert_with(|| user.clone()), &user, "{line}");
        assert_eq!(rest.contains("/bob/"), user.starts_with("bob"), "{line}");
    }
    assert_eq!(users.len(), 32, "each change of user has a connection of its own");
}

#[tokio::test]
async fn a_client_that_authenticates_by_itself_keeps_its_connection_to_itself() {
    let pki = Pki::new();
    let origin = ntlm_origin(&pki, Closes::Never).await;
    let gatepass = Gatepass::start(
        &format!("rules:\n{}", rule("a.test", origin.address, "headers: { set: { x-team: core } }")),
        &[("CA", &pki.ca_pem)],
    )
    .await;
    let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    let message = |number: u8| {
        let mut message = b"NTLMSSP\0".to_vec();
        message.extend([number, 0, 0, 0]);
        message.resize(36, 0);
        message.extend(b"\x0a\0\x0a\0\x40\0\0\0");
        message.resize(64, 0);
        message.extend("carol".encode_utf16().flat_map(u16::to_le_bytes));
        format!("GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: NTLM {}\r\n\r\n", BASE64_STANDARD.encode(message))
    };
    assert_eq!(status(&ask(&mut client, &message(1)).await), 401);
    assert!(ask(&mut client, &message(3)).await.ends_with("carol"));
    assert!(ask(&mut client, &get("/later")).await.ends_with("carol"));
    let stranger = gatepass.get("a.test", "/").await;
    assert_eq!(status(&stranger), 401, "{stranger}");
}

#[tokio::test]
async fn a_server_that_closes_connections_is_met_anew_or_named() {
    let pki = Pki::new();
    let origin = ntlm_origin(&pki, Closes::AfterRequest).await;
    let gatepass = start(&pki, &origin, "").await;
    let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    for _ in 0..3 {
        let answer = ask(&mut client, &post(10)).await;
        assert!(answer.ends_with("alice"), "{answer}");
    }
    let origin = ntlm_origin(&pki, Closes::AfterChallenge).await;
    let gatepass = start(&pki, &origin, "").await;
    let answer = gatepass.through("a.test", &post(10_000)).await;
    assert!(status(&answer) == 401 && answer.contains("the server must keep it open after its 401"), "{answer}");
    assert_eq!(origin.connections.load(Ordering::SeqCst), 5);
    // A WebSocket goes the same way.
    let answer = gatepass.through("a.test", UPGRADE).await;
    assert!(status(&answer) == 401 && answer.contains("the server must keep it open after its 401"), "{answer}");
    assert_eq!(origin.connections.load(Ordering::SeqCst), 10);
    assert!(origin.log().iter().all(|line| line.ends_with("message 1, 0")), "no body left: {:?}", origin.log());
}

#[tokio::test]
async fn a_refused_user_gets_the_servers_401_with_the_mend() {
    let pki = Pki::new();
    let origin = ntlm_origin(&pki, Closes::Never).await;
    let rules = "  - host: a.test\n    path: /m\n    ntlm: { username: mallory, password: pw }\n";
    let answer = start(&pki, &origin, rules).await.get("a.test", "/m").await;
    let told = field(&answer, "proxy-status").unwrap_or_default();
    assert!(status(&answer) == 401 && told.contains("refused the credential `ntlm` of test.yaml:"), "{answer}");
    assert_eq!(origin.log().len(), 2, "{:?}", origin.log());
}

#[tokio::test]
async fn a_websocket_opens_on_the_connection_that_was_authenticated() {
    let pki = Pki::new();
    let origin = ntlm_origin(&pki, Closes::Never).await;
    let gatepass = start(&pki, &origin, "").await;
    let mut client = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert_eq!(status(&answer), 101, "{answer}");
    let mut hi = [0; 2];
    client.read_exact(&mut hi).await.unwrap();
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1);
}
