//! Upstream proxies: who is told what, and by which connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// A proxy that writes down the heads it was sent, with the number of their connection. `ask` says what it wants before
/// it lets a request through, and whether it ends the connection after saying so.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<(usize, String)>>>,
}

type Ask = fn(credential: Option<&str>) -> Option<(&'static str, bool)>;

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

impl Proxy {
    async fn start(ask: Ask) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<(usize, String)>>>::default());
        let log = heads.clone();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, number, ask, log.clone()));
                number += 1;
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<(usize, String)> {
        self.heads.lock().unwrap().clone()
    }

    /// Connection, first word of the request, first word of the credential.
    fn told(&self) -> Vec<String> {
        let word = |text: &str| text.split(' ').next().unwrap().to_owned();
        let credential = |head: &str| field(head, "proxy-authorization").map_or_else(|| "nothing".to_owned(), word);
        self.heads().iter().map(|(number, head)| format!("{number} {} {}", word(head), credential(head))).collect()
    }
}

async fn serve(mut stream: TcpStream, number: usize, ask: Ask, log: Arc<Mutex<Vec<(usize, String)>>>) {
    loop {
        let request = head(&mut stream).await;
        if request.is_empty() {
            return;
        }
        log.lock().unwrap().push((number, request.clone()));
        let length = field(&request, "content-length").map_or(0, |length| length.parse::<usize>().unwrap());
        let connect = request.strip_prefix("CONNECT ").map(|rest| rest.split(' ').next().unwrap().to_owned());
        if let Some((challenge, ends)) = ask(field(&request, "proxy-authorization")) {
            let page = if ends {
                "Connection: close\r\nContent-Length: 4\r\n\r\npage"
            } else {
                "Transfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n"
            };
            let answer = format!("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: {challenge}\r\n{page}");
            if stream.write_all(answer.as_bytes()).await.is_err() || ends {
                return;
            }
            // What comes of a body goes nowhere; a client that waits for the answer sends none.
            continue;
        }
        if let Some(target) = connect {
            let mut origin = TcpStream::connect(target).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut origin).await;
            return;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let said = format!("{} body={length}", request.lines().next().unwrap());
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()).as_bytes()).await.unwrap();
    }
}

fn open(_: Option<&str>) -> Option<(&'static str, bool)> {
    None
}

fn basic(credential: Option<&str>) -> Option<(&'static str, bool)> {
    (credential != Some("Basic Y29ycDpwdw==")).then_some(("Basic realm=\"c\"", false))
}

fn closing(credential: Option<&str>) -> Option<(&'static str, bool)> {
    basic(credential).map(|(challenge, _)| (challenge, true))
}

fn digest(credential: Option<&str>) -> Option<(&'static str, bool)> {
    let good = credential.is_some_and(|field| field.starts_with("Digest username=\"corp\", realm=\"c\", nonce=\"n\""));
    (!good).then_some(("Basic realm=\"c\", Digest realm=\"c\", nonce=\"n\", qop=\"auth\"", false))
}

fn stale(_: Option<&str>) -> Option<(&'static str, bool)> {
    Some(("Digest realm=\"c\", nonce=\"n\", qop=\"auth\", stale=true", false))
}

const NTLM: &str = "NTLM TlRMTVNTUAACAAAAAAAAADgAAAAVgoniASNFZ4mrze8AAAAAAAAAABAAEAA4AAAACgBhSgAAAA8HAAgAAAAAAAAAAAAAAAAA";

fn ntlm(credential: Option<&str>) -> Option<(&'static str, bool)> {
    let message = credential.and_then(|field| field.strip_prefix("NTLM ")).map(|text| BASE64_STANDARD.decode(text).unwrap());
    match message.as_ref().map(|message| message[8]) {
        Some(1) => Some((NTLM, false)),
        Some(_) => None,
        None => Some(("NTLM", false)),
    }
}

/// A gatepass with an origin behind the proxy: `a.test` over TLS, `plain.test` in clear.
async fn start(proxy: &Proxy, more: &str) -> (Origin, Gatepass) {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { alpn: &["http/1.1"], ..OriginOptions::default() }).await;
    let via = format!("via: {{ url: 'http://{}', {more} }}", proxy.address);
    let rules = rule("a.test", origin.address, &format!("bearer: t0k\n{via}"));
    let yaml = format!("rules:\n{rules}  - host: plain.test\n    scheme: http\n    bearer: t0k\n    {via}\n");
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    (origin, gatepass)
}

const USER: &str = "username: corp, password: pw";

async fn post(gatepass: &Gatepass, length: usize) -> String {
    let request = format!(
        "POST http://plain.test/x?a=%2F HTTP/1.1\r\nHost: plain.test\r\nContent-Length: {length}\r\n\r\n{}",
        "x".repeat(length)
    );
    gatepass.ask(&request).await
}

#[tokio::test]
async fn a_proxy_that_does_not_ask_is_told_nothing_of_the_user_unless_basic_is_asked_for() {
    let proxy = Proxy::start(open).await;
    let (origin, gatepass) = start(&proxy, USER).await;
    assert!(gatepass.get("a.test", "/").await.contains("auth Bearer t0k"));
    assert!(post(&gatepass, 3).await.ends_with("POST http://plain.test/x?a=%2F HTTP/1.1 body=3"));
    assert_eq!(proxy.told(), ["0 CONNECT nothing", "1 POST nothing"]);
    assert!(proxy.heads().iter().all(|(_, head)| head.starts_with("POST") || field(head, "authorization").is_none()));
    let (_, gatepass) = start(&proxy, &format!("{USER}, auth: basic")).await;
    gatepass.get("a.test", "/").await;
    assert_eq!(proxy.told()[2..], ["2 CONNECT Basic"]);
    assert!(origin.seen().iter().all(|seen| !seen.headers.contains_key("proxy-authorization")));
}

#[tokio::test]
async fn what_a_proxy_asks_for_is_answered_on_the_same_connection_and_known_from_then_on() {
    for (ask, scheme) in [(basic as Ask, "Basic"), (digest as Ask, "Digest")] {
        let proxy = Proxy::start(ask).await;
        let (_, gatepass) = start(&proxy, USER).await;
        assert!(gatepass.get("a.test", "/").await.contains("auth Bearer t0k"));
        let answer = post(&gatepass, 3).await;
        assert!(answer.ends_with("body=3"), "{answer}");
        let expected = ["0 CONNECT nothing".to_owned(), format!("0 CONNECT {scheme}"), format!("1 POST {scheme}")];
        assert_eq!(proxy.told(), expected);
    }
    let proxy = Proxy::start(closing).await;
    let (_, gatepass) = start(&proxy, USER).await;
    assert!(gatepass.get("a.test", "/").await.contains("auth Bearer t0k"));
    assert_eq!(proxy.told(), ["0 CONNECT nothing", "1 CONNECT Basic"]);
}

#[tokio::test]
async fn a_body_waits_until_the_proxy_has_said_what_it_wants() {
    for ask in [basic as Ask, closing, digest] {
        let proxy = Proxy::start(ask).await;
        let (_, gatepass) = start(&proxy, USER).await;
        let answer = post(&gatepass, 300_000).await;
        assert!(answer.ends_with("body=300000"), "{answer}");
    }
}

#[tokio::test]
async fn ntlm_proves_a_connection_to_the_proxy_with_tunnels_and_with_requests_in_clear() {
    let proxy = Proxy::start(ntlm).await;
    let (_, gatepass) = start(&proxy, USER).await;
    let answer = post(&gatepass, 300_000).await;
    assert!(answer.ends_with("body=300000"), "{answer}");
    assert!(gatepass.get("a.test", "/").await.contains("auth Bearer t0k"));
    assert_eq!(proxy.told(), ["0 POST nothing", "1 POST NTLM", "1 POST NTLM", "2 CONNECT NTLM", "2 CONNECT NTLM"]);
    let lengths: Vec<_> = proxy.heads().iter().filter_map(|(_, head)| field(head, "content-length").map(str::to_owned)).collect();
    assert_eq!(lengths, ["300000", "0", "300000"], "the message that is only there to be challenged has no body");
}

#[tokio::test]
async fn what_a_proxy_refuses_names_it_what_it_offers_and_the_mend() {
    for (ask, more, words) in [
        (basic as Ask, "no_proxy: []", "wants a user name and password; it offers Basic"),
        (basic as Ask, "username: corp, password: no", "refuses the user name or password; it offers Basic"),
        (basic as Ask, "username: corp, password: pw, auth: ntlm", "does not offer ntlm; it offers Basic"),
        (
            digest as Ask,
            "username: eve, password: pw, auth: digest",
            "refuses the user name or password; it offers Basic, Digest",
        ),
    ] {
        let proxy = Proxy::start(ask).await;
        let (origin, gatepass) = start(&proxy, more).await;
        for answer in [gatepass.get("a.test", "/").await, post(&gatepass, 3).await] {
            assert_eq!(status(&answer), 502, "{answer}");
            assert!(answer.contains(&format!("upstream proxy {} {words}", proxy.address)), "{answer}");
        }
        assert!(origin.seen().is_empty() && proxy.heads().len() <= 6, "{:?}", proxy.told());
    }
}

#[tokio::test]
async fn a_proxy_that_is_content_with_no_answer_is_given_up_after_five_in_clear_as_in_a_tunnel() {
    let proxy = Proxy::start(stale).await;
    let (origin, gatepass) = start(&proxy, USER).await;
    let tunnelled = gatepass.get("a.test", "/").await;
    assert_eq!(proxy.told().len(), 5, "{:?}", proxy.told());
    let in_clear = gatepass.ask("GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\n\r\n").await;
    assert_eq!(proxy.told().len(), 10, "{:?}", proxy.told());
    for answer in [tunnelled, in_clear] {
        assert!(status(&answer) == 502 && answer.contains("kept asking for the user to be proved"), "{answer}");
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn settings_that_a_proxy_cannot_have_are_found_at_their_place() {
    for (via, words) in [
        ("{ url: 'socks5://p:1', auth: ntlm }", "SOCKS 5"),
        ("{ url: 'http://p:1', auth: digest }", "needs `username`"),
        ("{ url: 'http://p:1', ca_bundle: ca.pem }", "spoken to in clear"),
        ("{ url: 'https://p:1', client_certificate: nobody }", "nobody"),
        ("{ url: 'http://p:1', auth: kerberos }", "kerberos"),
    ] {
        let report = gatepass::serve::build(&request(&format!("upstream_proxy: {via}\n"), &[])).await.err().expect(via);
        let text = report.render(false);
        assert!(text.contains(words) && text.contains("test.yaml:1:"), "{text}");
    }
}
