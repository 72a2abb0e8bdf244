//! A credential goes only where its rule points.

use bytes::Bytes;
use gatepass::tls::settings::Alpn;
use http::Request;
use http_body_util::{BodyExt, Empty};

use crate::support::*;

async fn one_rule(more: &str) -> (Pki, Origin, Gatepass) {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!("rules:\n{}", rule("a.test", origin.address, more));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    (pki, origin, gatepass)
}

#[tokio::test]
async fn a_ruled_host_gets_its_credential_and_the_clients_own_is_replaced() {
    let (_pki, origin, gatepass) = one_rule("bearer: t0k").await;
    let answer = gatepass.through("a.test", "GET /x?y=%20z HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic mine\r\n\r\n").await;
    assert!(answer.contains("saw GET /x?y=%20z by nobody auth Bearer t0k"), "{answer}");
    assert_eq!(origin.last().headers.get_all("authorization").iter().count(), 1);
}

#[tokio::test]
async fn on_existing_auth_keeps_or_refuses_what_the_client_brings() {
    let (_pki, origin, gatepass) = one_rule("bearer: t0k\non_existing_auth: keep").await;
    let own = "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic mine\r\n\r\n";
    assert!(gatepass.through("a.test", own).await.contains("auth Basic mine"));
    assert!(gatepass.get("a.test", "/").await.contains("auth Bearer t0k"));
    assert_eq!(origin.seen().len(), 2);
    let (_pki, origin, gatepass) = one_rule("bearer: t0k\non_existing_auth: reject").await;
    let answer = gatepass.through("a.test", own).await;
    assert_eq!(status(&answer), 403, "{answer}");
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn on_existing_auth_sees_a_credential_of_the_client_wherever_it_brings_one() {
    let key = "api_key: { name: x-api-key, value: ours }";
    let get = |more: &str| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{more}Connection: close\r\n\r\n");
    let (_pki, origin, gatepass) = one_rule(&format!("{key}\non_existing_auth: reject")).await;
    for own in ["Authorization: Bearer mine\r\n", "X-Api-Key: mine\r\n", "Api-Key: mine\r\n", "X-Auth-Token: mine\r\n"] {
        assert_eq!(status(&gatepass.through("a.test", &get(own)).await), 403, "{own}");
    }
    assert_eq!(status(&gatepass.get("a.test", "/?a=1&access_token=mine").await), 403);
    assert!(origin.seen().is_empty());
    assert_eq!(status(&gatepass.through("a.test", &get("Cookie: theme=dark\r\nX-Other: 1\r\n")).await), 200);
    let (_pki, origin, gatepass) = one_rule(&format!("{key}\non_existing_auth: keep")).await;
    gatepass.through("a.test", &get("Authorization: Bearer mine\r\n")).await;
    let seen = origin.last();
    assert!(seen.headers["authorization"] == "Bearer mine" && !seen.headers.contains_key("x-api-key"));
    gatepass.get("a.test", "/").await;
    assert_eq!(origin.last().headers["x-api-key"], "ours");
    // Some APIs want a key beside the user's token.
    let (_pki, origin, gatepass) = one_rule(key).await;
    gatepass.through("a.test", &get("Authorization: Bearer mine\r\nX-Api-Key: mine\r\n")).await;
    let seen = origin.last();
    assert!(seen.headers["authorization"] == "Bearer mine" && seen.headers["x-api-key"] == "ours");
    // What rules set themselves is not the client's.
    let (_pki, _origin, gatepass) = one_rule(&format!(
        "{key}\nheaders: {{ set: {{ Authorization: x }} }}\nquery: {{ set: {{ api_key: x }} }}\non_existing_auth: reject"
    ))
    .await;
    assert_eq!(status(&gatepass.get("a.test", "/").await), 200);
    let (_pki, _origin, gatepass) = one_rule("cookies: { set: { sid: ours } }\non_existing_auth: reject").await;
    assert_eq!(status(&gatepass.through("a.test", &get("Cookie: session=mine\r\n")).await), 403);
}

#[tokio::test]
async fn another_server_name_or_host_in_a_tunnel_gets_421_and_nothing_goes_out() {
    let (_pki, origin, gatepass) = one_rule("bearer: t0k").await;
    let mut stream = gatepass.tls("a.test:443", "b.test", &[Alpn::Http11]).await;
    let answer = ask(&mut stream, "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
    assert_eq!(status(&answer), 421, "{answer}");
    assert!(answer.contains("proxy-status: gatepass; error=http_request_error"), "{answer}");
    for host in ["b.test", "a.test:444", "a.test:80", "a.test.evil", "127.0.0.1"] {
        let answer = gatepass.through("a.test", &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(status(&answer), 421, "{host}: {answer}");
    }
    let answer = gatepass.through("a.test", "GET https://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
    assert_eq!(status(&answer), 421, "{answer}");
    assert!(origin.seen().is_empty());
    for host in ["A.TEST", "a.test.", "a.test:443"] {
        let answer = gatepass.through("a.test", &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(status(&answer), 200, "{host}: {answer}");
        assert_eq!(origin.last().headers["host"], "a.test", "the Host that leaves is ours");
    }
}

#[tokio::test]
async fn a_missing_double_or_malformed_host_is_400() {
    let (_pki, origin, gatepass) = one_rule("bearer: t0k").await;
    for headers in [
        "",
        "Host: a.test\r\nHost: a.test\r\n",
        "Host: a.test\r\nHost: b.test\r\n",
        "Host: a.test, b.test\r\n",
        "Host: u@a.test\r\n",
        "Host: \r\n",
        "Host: [::1]a.test\r\n",
    ] {
        let answer = gatepass.through("a.test", &format!("GET / HTTP/1.1\r\n{headers}\r\n")).await;
        assert_eq!(status(&answer), 400, "{headers:?}: {answer}");
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn over_http2_authority_and_scheme_must_be_the_tunnels() {
    let (_pki, origin, gatepass) = one_rule("bearer: t0k").await;
    let mut sender = gatepass.h2("a.test").await;
    for (uri, expected) in [
        ("https://b.test/", 421),
        ("http://a.test/", 421),
        ("https://a.test:444/", 421),
        ("https://a.test/", 200),
        ("https://a.test:443/", 200),
    ] {
        let request = Request::get(uri).body(Empty::<Bytes>::new().boxed()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), expected, "{uri}");
    }
    let request = Request::get("https://a.test/").header("host", "b.test").body(Empty::<Bytes>::new().boxed()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 421);
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn what_is_no_host_and_port_is_no_destination() {
    let (_pki, _origin, gatepass) = one_rule("bearer: t0k").await;
    for target in [
        "a.test",
        "a.test:0",
        "a.test:99999",
        "u@a.test:443",
        "[::1]a.test:443",
        "127.1:443",
        "0x7f000001:443",
        "2130706433:443",
        "a..test:443",
    ] {
        let (answer, _) = gatepass.connect(target).await;
        assert_eq!(status(&answer), 400, "{target}: {answer}");
    }
}

#[tokio::test]
async fn a_rule_without_port_is_for_443_and_without_scheme_for_https() {
    let pki = Pki::new();
    let plain = Origin::start(&pki, OriginOptions { tls: false, ..OriginOptions::default() }).await;
    let port = plain.address.port();
    let yaml = format!("rules:\n{}", rule("127.0.0.1", plain.address, "bearer: t0k"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let answer = gatepass.ask(&format!("GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")).await;
    assert!(answer.contains("auth none"), "{answer}");
    let yaml = format!("rules:\n{}", rule("a.test", plain.address, "bearer: t0k\nscheme: http\nport: any"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let answer = gatepass.ask("GET http://a.test:8080/ HTTP/1.1\r\nHost: a.test:8080\r\n\r\n").await;
    assert!(answer.contains("auth Bearer t0k"), "{answer}");
}

#[tokio::test]
async fn plain_http_inside_a_tunnel_does_not_get_the_https_credential() {
    let pki = Pki::new();
    let plain = Origin::start(&pki, OriginOptions { tls: false, ..OriginOptions::default() }).await;
    let yaml = format!("rules:\n{}", rule("a.test", plain.address, "bearer: t0k\nport: any"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let target = format!("127.0.0.1:{}", plain.address.port());
    let (_, mut stream) = gatepass.connect(&target).await;
    let answer = ask(&mut stream, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
    assert!(answer.contains("auth none"), "{answer}");
}

#[tokio::test]
async fn a_host_without_a_rule_is_tunnelled_and_the_client_sees_its_own_certificate() {
    let (pki, origin, gatepass) = one_rule("bearer: t0k").await;
    let (answer, stream) = gatepass.connect(&format!("127.0.0.1:{}", origin.address.port())).await;
    assert_eq!(status(&answer), 200);
    let mut stream = tls(stream, "b.test", &[Alpn::Http11], pki.ca()).await.expect("the origin's own certificate");
    let answer = ask(&mut stream, "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
    assert!(answer.contains("auth none"), "{answer}");
}

#[tokio::test]
async fn deny_and_unmatched_deny_refuse_with_the_reason_in_the_status_line() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "unmatched: deny\nrules:\n{}{}",
        rule("'*.test'", origin.address, "bearer: t0k"),
        rule("b.test", origin.address, "action: deny")
    );
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let (answer, _) = gatepass.connect("b.test:443").await;
    assert!(answer.starts_with("HTTP/1.1 403 gatepass: a rule denies b.test:443"), "{answer}");
    let (answer, _) = gatepass.connect("other.example:443").await;
    assert!(answer.starts_with("HTTP/1.1 403 gatepass: no rule names other.example:443"), "{answer}");
    let answer = gatepass.ask("GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    assert_eq!(status(&answer), 403, "{answer}");
    assert!(gatepass.get("a.test", "/").await.contains("Bearer t0k"));
}

#[tokio::test]
async fn requests_that_would_come_back_to_gatepass_are_refused() {
    let (_pki, _origin, gatepass) = one_rule("bearer: t0k").await;
    let port = gatepass.address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let (answer, _) = gatepass.connect(&format!("{host}:{port}")).await;
        assert_eq!(status(&answer), 502, "{host}: {answer}");
        assert!(answer.contains("proxy_loop_detected"), "{host}: {answer}");
    }
    let answer = gatepass.ask(&format!("GET http://127.0.0.1:{port}/ca.pem HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")).await;
    assert_eq!(status(&answer), 502, "{answer}");
}

#[tokio::test]
async fn metadata_addresses_are_refused_before_they_are_dialled() {
    let (_pki, _origin, gatepass) = one_rule("bearer: t0k").await;
    for host in ["169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"] {
        let (answer, _) = gatepass.connect(&format!("{host}:80")).await;
        assert_eq!(status(&answer), 403, "{host}: {answer}");
        assert!(answer.contains("destination_ip_prohibited"), "{answer}");
    }
}

#[tokio::test]
async fn egress_deny_holds_for_ruled_hosts_too() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!("egress: {{ deny: [loopback] }}\nrules:\n{}", rule("a.test", origin.address, "bearer: t0k"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let answer = gatepass.get("a.test", "/").await;
    assert_eq!(status(&answer), 403, "{answer}");
    assert_eq!(origin.connections.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn rules_cascade_and_the_later_one_wins_in_each_thing() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "rules:\n{}  - host: a.test\n    headers: {{ set: {{ X-Team: core }} }}\n  - host: a.test\n    path: /open/**\n    auth: none\n  - host: a.test\n    methods: [PUT]\n    bearer: put\n",
        rule("'*.test'", origin.address, "bearer: wide\nheaders: { set: { X-Team: wide, X-Other: kept } }")
    );
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    assert!(gatepass.get("a.test", "/").await.contains("auth Bearer wide"));
    assert_eq!(origin.last().headers["x-team"], "core");
    assert_eq!(origin.last().headers["x-other"], "kept");
    assert!(gatepass.get("a.test", "/open/door").await.contains("auth none"));
    let put = gatepass.through("a.test", "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n").await;
    assert!(put.contains("auth Bearer put"), "{put}");
    for path in ["/open/../secret", "/%2e%2e/x", "//open/door"] {
        assert_eq!(status(&gatepass.get("a.test", path).await), 400, "{path}");
    }
}

#[tokio::test]
async fn an_untrusted_or_misnamed_upstream_is_502_and_sees_no_request() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { names: &["other.test"], ..OriginOptions::default() }).await;
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, "bearer: t0k")), &[("CA", &pki.ca_pem)]).await;
    let answer = gatepass.get("a.test", "/").await;
    assert!(status(&answer) == 502 && answer.contains("only for other.test"), "{answer}");
    let other = Pki::named("other CA");
    let gatepass =
        Gatepass::start(&format!("rules:\n{}", rule("a.test", origin.address, "bearer: t0k")), &[("CA", &other.ca_pem)]).await;
    let answer = gatepass.get("a.test", "/").await;
    assert!(status(&answer) == 502 && answer.contains("test CA") && answer.contains("ca_bundle"), "{answer}");
    let gatepass = Gatepass::start(
        &format!("rules:\n{}", rule("a.test", origin.address, "danger: { accept_invalid_certs: true }")),
        &[("CA", &other.ca_pem)],
    )
    .await;
    assert_eq!(status(&gatepass.get("a.test", "/").await), 200);
    assert_eq!(origin.seen().len(), 1);
}
