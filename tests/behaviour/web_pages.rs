//! A web page of another site gets nothing of the user's: it makes the user's browser ask, and the browser sends along
//! what it has without being asked.

use gatepass::tls::settings::Alpn;
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

/// Tells everything of ours that came.
async fn open_origin(pki: &Pki) -> Origin {
    let options = OriginOptions { names: &["api.corp.test"], ..OriginOptions::default() };
    Origin::answering(pki, options, |seen| {
        let field = |name: &str| seen.headers.get(name).map_or("none", |value| value.to_str().unwrap()).to_owned();
        text(format!("saw {} auth {} team {} keep {}", seen.line, field("authorization"), field("x-team"), field("x-debug")))
    })
    .await
}

const GIVES: &str = "bearer: t0k\nheaders: { set: { X-Team: core }, remove: [X-Debug] }\nquery: { set: { k: s3cret } }";
const WITH: &str = "?k=s3cret auth Bearer t0k team core keep none";
const WITHOUT: &str = "saw GET / auth none team none keep none";

async fn gatepass(pki: &Pki, origin: &Origin, more: &str) -> Gatepass {
    let rules = format!("rules:\n{}", rule("api.corp.test", origin.address, &format!("{GIVES}\n{more}")));
    Gatepass::start(&rules, &[("CA", &pki.ca_pem)]).await
}

fn get(fields: &str) -> String {
    let fields = if fields.is_empty() { String::new() } else { format!("{fields}\r\n") };
    format!("GET / HTTP/1.1\r\nHost: api.corp.test\r\nX-Debug: 1\r\n{fields}\r\n")
}

const EVIL: &str = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\nOrigin: https://evil.test";

#[tokio::test]
async fn its_request_passes_without_credentials_and_the_answer_says_why() {
    let pki = Pki::new();
    let origin = open_origin(&pki).await;
    let gate = gatepass(&pki, &origin, "").await;
    let mut stream = gate.tls("api.corp.test:443", "api.corp.test", &[Alpn::Http11]).await;
    // One connection, as a browser has it: what counts is each request.
    for (fields, with) in [
        ("", true),
        (EVIL, false),
        ("Sec-Fetch-Site: same-origin", true),
        ("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1", false),
        ("Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate", true),
        ("Sec-Fetch-Site: cross-site\r\nOrigin: null", false),
        ("Sec-Fetch-Site: same-site\r\nOrigin: https://www.corp.test", true),
        ("Sec-Fetch-Site: cross-site\r\nOrigin: http://localhost:3000", true),
        ("Sec-Fetch-Site: cross-site\r\nReferer: http://localhost:3000/", false),
        ("Origin: https://evil.test", false),
        ("Origin: https://www.corp.test", true),
        ("Origin: null", false),
    ] {
        let answer = ask(&mut stream, &get(fields)).await;
        let body = if with { WITH } else { WITHOUT };
        assert!(status(&answer) == 200 && answer.contains(body), "{fields:?} {answer}");
        let told = answer.contains("proxy-status: gatepass; details=\"a page of ") && answer.contains("cross_site");
        assert_eq!(told, !with, "{fields:?} {answer}");
    }
    let answer = ask(&mut stream, &get(EVIL)).await;
    assert!(answer.contains("https://evil.test (Sec-Fetch-Site: cross-site) asked"), "{answer}");
    assert!(answer.contains("test.yaml:"), "the rule is named: {answer}");
}

#[tokio::test]
async fn a_rule_may_give_to_every_page_or_to_some_and_a_later_rule_overrides_it() {
    let pki = Pki::new();
    let origin = open_origin(&pki).await;
    let partner = EVIL.replace("evil.test", "app.partner.test");
    for (setting, evil, friend) in [
        ("cross_site: allow", WITH, WITH),
        ("cross_site: refuse", WITHOUT, WITHOUT),
        ("cross_site: [\"https://app.partner.test\"]", WITHOUT, WITH),
        ("cross_site: https://app.partner.test", WITHOUT, WITH),
    ] {
        let gate = gatepass(&pki, &origin, setting).await;
        assert!(gate.through("api.corp.test", &get(EVIL)).await.contains(evil), "{setting}");
        assert!(gate.through("api.corp.test", &get(&partner)).await.contains(friend), "{setting}");
    }
    let rules = format!(
        "rules:\n{}{}",
        rule("api.corp.test", origin.address, &format!("{GIVES}\ncross_site: allow")),
        "  - { host: \"*.corp.test\", cross_site: refuse }\n"
    );
    let gate = Gatepass::start(&rules, &[("CA", &pki.ca_pem)]).await;
    assert!(gate.through("api.corp.test", &get(EVIL)).await.contains(WITHOUT));
}

#[tokio::test]
async fn every_way_in_and_every_protocol_judges_alike() {
    let pki = Pki::new();
    let origin = open_origin(&pki).await;
    let gate = gatepass(&pki, &origin, "").await;
    for (fields, body) in [("", WITH), (EVIL, WITHOUT)] {
        let absolute = get(fields).replacen("GET /", "GET https://api.corp.test/", 1);
        assert!(gate.ask(&absolute).await.contains(body), "absolute-form {fields}");
        let mut socks = gate.dial().await;
        socks.write_all(&[&[5, 1, 0, 5, 1, 0, 3, 13], &b"api.corp.test"[..], &[1, 187]].concat()).await.unwrap();
        let mut replies = [0; 12];
        socks.read_exact(&mut replies).await.unwrap();
        let mut stream = tls(socks, "api.corp.test", &[Alpn::Http11], gate.ca()).await.unwrap();
        assert!(ask(&mut stream, &get(fields)).await.contains(body), "SOCKS {fields}");
        let mut h2 = gate.h2("api.corp.test").await;
        let mut request = http::Request::get("https://api.corp.test/");
        for line in fields.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let answer = h2.send_request(request.body(Empty::new().boxed()).unwrap()).await.unwrap();
        assert_eq!(answer.headers().contains_key("proxy-status"), !fields.is_empty());
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains(body), "h2 {fields}");
    }
}

#[tokio::test]
async fn its_connection_shows_no_client_certificate() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { ask: true, ..OriginOptions::default() }).await;
    let rules = format!("rules:\n{}", rule("a.test", origin.address, "client_certificate: { cert: \"${ALICE}\" }"));
    let gate = Gatepass::start(&rules, &[("CA", &pki.ca_pem), ("ALICE", &pki.client("alice"))]).await;
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}Connection: close\r\n\r\n");
    assert!(gate.through("a.test", &get("")).await.contains("by alice"));
    let answer = gate.through("a.test", &get(&format!("{EVIL}\r\n"))).await;
    assert!(status(&answer) == 502 && answer.contains("went without the credentials"), "{answer}");
    assert!(gate.through("a.test", &get("")).await.contains("by alice"), "and the other way is as before");
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn what_has_nothing_to_give_says_nothing() {
    let pki = Pki::new();
    let origin = open_origin(&pki).await;
    let rules = format!("rules:\n{}", rule("api.corp.test", origin.address, "headers: { remove: [X-Debug] }"));
    let gate = Gatepass::start(&rules, &[("CA", &pki.ca_pem)]).await;
    let answer = gate.through("api.corp.test", &get(EVIL)).await;
    assert!(answer.contains(WITHOUT) && !answer.contains("proxy-status"), "{answer}");
}

#[tokio::test]
async fn a_preflight_is_judged_like_any_other_request() {
    let pki = Pki::new();
    let origin = open_origin(&pki).await;
    let gate = gatepass(&pki, &origin, "").await;
    let preflight = |page: &str| {
        get(&format!("Sec-Fetch-Site: cross-site\r\nOrigin: {page}\r\nAccess-Control-Request-Method: PUT"))
            .replacen("GET", "OPTIONS", 1)
    };
    assert!(gate.through("api.corp.test", &preflight("https://evil.test")).await.contains("auth none"));
    assert!(gate.through("api.corp.test", &preflight("http://localhost:3000")).await.contains("auth Bearer t0k"));
}

struct Reverse {
    gate: Gatepass,
    address: std::net::SocketAddr,
}

impl Reverse {
    async fn start(pki: &Pki, origin: &Origin, more: &str) -> Self {
        let yaml = format!(
            "listeners:\n  - listen: 127.0.0.1:0\n    mode: reverse\n    upstream: https://api.corp.test\n{more}rules:\n{}",
            rule("api.corp.test", origin.address, GIVES)
        );
        let gate = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
        let address = gate.running.addresses[1].0;
        Self { gate, address }
    }

    async fn get(&self, host: &str, fields: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let fields = if fields.is_empty() { String::new() } else { format!("{fields}\r\n") };
        ask(&mut stream, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n")).await
    }
}

#[tokio::test]
async fn a_reverse_listener_answers_to_its_own_names_alone() {
    let pki = Pki::new();
    let origin = open_origin(&pki).await;
    let reverse = Reverse::start(&pki, &origin, "    hosts: [\"*.dev.test\", gateway]\n").await;
    for name in [
        "localhost",
        "localhost:9001",
        "LOCALHOST.",
        "app.localhost:1",
        "127.0.0.1",
        "127.1.2.3:9001",
        "[::1]:9001",
        "api.corp.test",
        "api.corp.test:8443",
        "x.dev.test:9001",
        "gateway",
    ] {
        let answer = reverse.get(name, "").await;
        assert!(answer.contains(WITH), "{name} {answer}");
    }
    for name in ["evil.test", "localhost.evil.test", "api.corp.test.evil.test", "dev.test", "10.0.0.1", "notlocalhost", "0.0.0.0"]
    {
        let answer = reverse.get(name, "").await;
        assert!(status(&answer) == 421 && answer.contains("hosts:") && answer.contains("proxy-status"), "{name} {answer}");
    }
    let mut stream = TcpStream::connect(reverse.address).await.unwrap();
    let absolute = ask(&mut stream, "GET http://evil.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status(&absolute), 421, "{absolute}");
    for hosts in ["", "Host: localhost\r\nHost: 127.0.0.1\r\n", "Host: a b\r\n"] {
        let mut stream = TcpStream::connect(reverse.address).await.unwrap();
        assert_eq!(status(&ask(&mut stream, &format!("GET / HTTP/1.1\r\n{hosts}\r\n")).await), 400, "{hosts:?}");
    }
    assert_eq!(origin.seen().len(), 11);
}

#[tokio::test]
async fn a_reverse_listener_is_called_what_its_own_certificate_says_to_those_who_ask_for_that() {
    let pki = Pki::new();
    let origin = open_origin(&pki).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gw.pem");
    std::fs::write(&file, pki.server(&["gw.test", "localhost"])).unwrap();
    let reverse = Reverse::start(&pki, &origin, &format!("    tls: {{ cert: {0}, key: {0} }}\n", file.display())).await;
    for (name, host, wanted) in [
        ("gw.test", "gw.test:9001", 200),
        ("gw.test", "evil.test", 421),
        ("localhost", "localhost", 200),
        ("localhost", "gw.test", 421),
    ] {
        let stream = TcpStream::connect(reverse.address).await.unwrap();
        let mut stream = tls(stream, name, &[Alpn::Http11], pki.ca()).await.unwrap();
        let answer = ask(&mut stream, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(status(&answer), wanted, "{name} {host} {answer}");
    }
}

#[tokio::test]
async fn a_reverse_listener_mints_certificates_for_its_own_names_alone() {
    let pki = Pki::new();
    let origin = open_origin(&pki).await;
    let reverse = Reverse::start(&pki, &origin, "").await;
    let dial = |name: &'static str| async {
        let stream = TcpStream::connect(reverse.address).await.unwrap();
        tls(stream, name, &[Alpn::Http11], reverse.gate.ca()).await
    };
    let mut own = dial("localhost").await.unwrap();
    assert!(ask(&mut own, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.contains(WITH));
    assert!(dial("evil.test").await.is_err(), "no certificate that is believed");
}

#[tokio::test]
async fn a_reverse_listener_refuses_pages_of_other_origins_unless_it_allows_them() {
    let pki = Pki::new();
    let origin = open_origin(&pki).await;
    let own = "localhost:9001";
    let reverse = Reverse::start(&pki, &origin, "").await;
    for fields in [
        "",
        "Sec-Fetch-Site: none",
        "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:9001",
        "Sec-Fetch-Site: same-site\r\nOrigin: http://localhost:3000",
        "Sec-Fetch-Site: cross-site\r\nOrigin: http://127.0.0.1:5173",
        "Origin: http://localhost:9001",
    ] {
        let answer = reverse.get(own, fields).await;
        assert!(answer.contains(WITH), "{fields:?} {answer}");
    }
    for fields in [
        EVIL,
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate",
        "Sec-Fetch-Site: cross-site\r\nOrigin: null",
        "Origin: null",
        "Origin: https://evil.test",
        "Origin: https://api.corp.test",
    ] {
        let answer = reverse.get(own, fields).await;
        assert!(status(&answer) == 403 && answer.contains("cross_site"), "{fields:?} {answer}");
    }
    assert_eq!(status(&reverse.get("evil.test", EVIL).await), 421, "the name comes first");
    let listed = Reverse::start(&pki, &origin, "    cross_site: [\"https://app.test\"]\n").await;
    assert!(listed.get(own, "Sec-Fetch-Site: cross-site\r\nOrigin: https://app.test").await.contains(WITH));
    assert_eq!(status(&listed.get(own, EVIL).await), 403);
    let open = Reverse::start(&pki, &origin, "    cross_site: allow\n").await;
    assert!(open.get(own, EVIL).await.contains(WITH));
    assert_eq!(status(&open.get("evil.test", EVIL).await), 421, "a foreign name stays foreign");
}

#[tokio::test]
async fn mistakes_in_cross_site_and_hosts_are_found_at_load() {
    let reverse = "listeners:\n  - { listen: \"127.0.0.1:0\", mode: reverse, upstream: \"https://a.test\", ";
    let forward = "listeners:\n  - { listen: \"127.0.0.1:0\", ";
    for (yaml, wanted) in [
        ("rules:\n  - { host: a.test, cross_site: maybe }\n".to_owned(), "not the origin of a page"),
        ("rules:\n  - { host: a.test, cross_site: [\"null\"] }\n".to_owned(), "no origin of its own"),
        ("rules:\n  - { host: a.test, cross_site: [\"*\"] }\n".to_owned(), "cross_site: allow"),
        ("rules:\n  - { host: a.test, cross_site: [\"https://a.test/path\"] }\n".to_owned(), "no path"),
        (format!("{reverse}cross_site: [app.test] }}\n"), "not the origin of a page"),
        (format!("{reverse}hosts: [\"a/b\"] }}\n"), "host"),
        (format!("{forward}hosts: [a.test] }}\n"), "mode reverse"),
        (format!("{forward}cross_site: allow }}\n"), "mode reverse"),
    ] {
        let Err(report) = gatepass::serve::build(&request(&yaml, &[])).await else { panic!("{yaml} was accepted") };
        assert!(report.render(false).contains(wanted), "{yaml}\n{}", report.render(false));
    }
}
