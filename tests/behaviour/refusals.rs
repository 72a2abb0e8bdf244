//! What is refused is refused however it is spelled, and by whatever way it would go.

use std::path::Path;

use gatepass::tls::settings::Alpn;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::ext::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// A plain origin and a gatepass that denies as `deny` says, `bad.test` and `good.test` standing for the origin.
async fn denying(deny: &str, more: &str) -> (Origin, Gatepass) {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions { tls: false, ..OriginOptions::default() }).await;
    let yaml =
        format!("resolve: {{ bad.test: 127.0.0.1, good.test: 127.0.0.1 }}\n{more}rules:\n  - {{ {deny}, action: deny }}\n");
    (origin, Gatepass::start(&yaml, &[]).await)
}

async fn plain(gatepass: &Gatepass, authority: &str) -> String {
    gatepass.ask(&format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")).await
}

async fn socks(gatepass: &Gatepass, host: &str, port: u16) -> u8 {
    let mut stream = gatepass.dial().await;
    let name = [&[5, 1, 0, 3, u8::try_from(host.len()).unwrap()], host.as_bytes(), &port.to_be_bytes()].concat();
    stream.write_all(&[&[5, 1, 0], &name[..]].concat()).await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    answer[3]
}

#[tokio::test]
async fn a_deny_without_port_and_scheme_is_for_every_port_and_scheme_by_every_way_in() {
    let (origin, gatepass) = denying("host: bad.test", "").await;
    let port = origin.address.port();
    for target in ["bad.test:443", "bad.test:8443", "bad.test:80", &format!("bad.test:{port}"), "BAD.test.:22"] {
        let (answer, _) = gatepass.connect(target).await;
        assert!(answer.starts_with("HTTP/1.1 403 gatepass: a rule denies"), "{target}: {answer}");
    }
    for authority in ["bad.test", "bad.test:443", &format!("bad.test:{port}"), "BAD.test."] {
        assert_eq!(status(&plain(&gatepass, authority).await), 403, "{authority}");
    }
    assert_eq!(socks(&gatepass, "bad.test", port).await, 2, "not allowed");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let asked = format!("GET http://bad.test:{port}/ HTTP/1.1\r\nHost: bad.test:{port}\r\n{upgrade}\r\n");
    assert_eq!(status(&gatepass.ask(&asked).await), 403);
    assert!(origin.seen().is_empty());
    assert_eq!(status(&plain(&gatepass, &format!("good.test:{port}")).await), 200);
    assert_eq!(socks(&gatepass, "good.test", port).await, 0);
}

#[tokio::test]
async fn a_deny_with_a_port_or_scheme_is_for_just_that() {
    let (origin, gatepass) = denying("host: bad.test, port: 8443", "").await;
    let port = origin.address.port();
    assert_eq!(status(&gatepass.connect("bad.test:8443").await.0), 403);
    assert_eq!(status(&plain(&gatepass, "bad.test:8443").await), 403, "of either scheme");
    assert_eq!(status(&plain(&gatepass, &format!("bad.test:{port}")).await), 200);
    assert_eq!(status(&gatepass.connect(&format!("bad.test:{port}")).await.0), 200);

    let (origin, gatepass) = denying("host: bad.test, scheme: https", "").await;
    let port = origin.address.port();
    assert_eq!(status(&gatepass.connect("bad.test:443").await.0), 403);
    assert_eq!(status(&plain(&gatepass, &format!("bad.test:{port}")).await), 200);
    let (answer, mut stream) = gatepass.connect(&format!("bad.test:{port}")).await;
    assert_eq!(status(&answer), 200, "what it is for is seen in its first bytes");
    let get = format!("GET / HTTP/1.1\r\nHost: bad.test:{port}\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&ask(&mut stream, &get).await), 200, "http passes");
    let mut stream = gatepass.tls(&format!("bad.test:{port}"), "bad.test", &[Alpn::Http11]).await;
    assert_eq!(status(&ask(&mut stream, &get).await), 403, "https does not");
}

#[tokio::test]
async fn a_deny_of_http_lets_https_pass_unopened() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = "resolve: { a.test: 127.0.0.1 }\nrules: [{ host: a.test, scheme: http, action: deny }]\n";
    let gatepass = Gatepass::start(yaml, &[]).await;
    let target = format!("a.test:{}", origin.address.port());
    let (answer, stream) = gatepass.connect(&target).await;
    assert_eq!(status(&answer), 200, "{answer}");
    let mut stream = tls(stream, "a.test", &[Alpn::Http11], pki.ca()).await.expect("the origin's own certificate");
    let get = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    assert_eq!(status(&ask(&mut stream, &get).await), 200);
    let (_, mut stream) = gatepass.connect(&target).await;
    assert_eq!(status(&ask(&mut stream, &get).await), 403, "clear HTTP in the tunnel");
    assert_eq!(status(&plain(&gatepass, &target).await), 403);
    assert_eq!(status(&gatepass.connect("a.test:80").await.0), 403);
}

#[tokio::test]
async fn a_deny_of_http_takes_nothing_from_a_tunnel_of_tls() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let target = format!("a.test:{}", origin.address.port());
    let yaml = "resolve: { a.test: 127.0.0.1 }\nrules:\n  - { host: a.test, port: any, action: tunnel }\n  - { host: a.test, scheme: http, action: deny }\n";
    let gatepass = Gatepass::start(yaml, &[]).await;
    let (_, stream) = gatepass.connect(&target).await;
    tls(stream, "a.test", &[Alpn::Http11], pki.ca()).await.expect("the origin's own certificate");
    let (_, mut stream) = gatepass.connect(&target).await;
    let get = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    assert_eq!(status(&ask(&mut stream, &get).await), 403);
}

#[tokio::test]
async fn a_later_rule_that_gives_opens_its_own_port_and_scheme_and_no_more() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml =
        format!("rules:\n  - {{ host: '*', action: deny }}\n{}", rule("a.test", origin.address, "action: allow\nbearer: t0k"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    assert!(gatepass.get("a.test", "/").await.contains("auth Bearer t0k"));
    for target in ["a.test:8443", "a.test:80", "b.test:443"] {
        assert_eq!(status(&gatepass.connect(target).await.0), 403, "{target}");
    }
    let (_, mut stream) = gatepass.connect("a.test:443").await;
    assert_eq!(status(&ask(&mut stream, "GET / HTTP/1.1\r\nHost: a.test:443\r\n\r\n").await), 403, "clear HTTP on that port");
}

#[tokio::test]
async fn a_denied_address_is_denied_in_every_spelling_or_is_no_address() {
    let (origin, gatepass) = denying("host: 127.0.0.1", "").await;
    let port = origin.address.port();
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "localhost", "x.localhost", "0.0.0.0"]
    {
        let (answer, _) = gatepass.connect(&format!("{host}:{port}")).await;
        assert_eq!(status(&answer), 403, "{host}: {answer}");
        assert_eq!(status(&plain(&gatepass, &format!("{host}:{port}")).await), 403, "{host}");
    }
    for host in
        ["2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "127.0.0.0x1", "[::1%25lo]", "bad%2etest"]
    {
        let (answer, _) = gatepass.connect(&format!("{host}:{port}")).await;
        assert_eq!(status(&answer), 400, "{host}: {answer}");
    }
    assert!(origin.seen().is_empty());
    let (origin, gatepass) = denying("host: '::ffff:127.0.0.2'", "").await;
    let port = origin.address.port();
    assert_eq!(
        status(&gatepass.connect(&format!("127.0.0.2:{port}")).await.0),
        403,
        "also where the rule has the other spelling"
    );
    assert_eq!(status(&plain(&gatepass, &format!("127.0.0.1:{port}")).await), 200);
}

#[tokio::test]
async fn a_denied_path_is_denied_as_origins_may_read_it() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "rules:\n{}  - {{ host: a.test, path: /admin/**, action: deny }}\n",
        rule("a.test", origin.address, "bearer: t0k")
    );
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    for path in [
        "/admin",
        "/admin/x",
        "/ADMIN/x",
        "/admin%20/x",
        "/admin./x",
        "/admin%00/x",
        "/admin;a/x",
        "/%61dmin/x",
        "/%2561dmin/x",
        "/admin%252fx",
        "/admin%09/x",
        "/admin%3fx",
        "/a/%252e%252e/admin/x",
    ] {
        assert_eq!(status(&gatepass.get("a.test", path).await), 403, "{path}");
    }
    for path in ["/a/../admin/x", "//admin/x", "/admin%2fx", "/admin%5cx"] {
        assert_eq!(status(&gatepass.get("a.test", path).await), 400, "{path}");
    }
    assert!(origin.seen().is_empty());
    for path in ["/administrator", "/x/admin-page", "/x%20y"] {
        assert_eq!(status(&gatepass.get("a.test", path).await), 200, "{path}");
    }
}

#[tokio::test]
async fn a_denied_method_is_denied_in_every_case_and_when_asked_for_by_another() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "rules:\n{}  - {{ host: a.test, methods: [DELETE], action: deny }}\n",
        rule("a.test", origin.address, "bearer: t0k")
    );
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let head = "HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nConnection: close\r\n";
    for request in [
        format!("DELETE / {head}\r\n"),
        format!("delete / {head}\r\n"),
        format!("POST / {head}X-HTTP-Method-Override: DELETE\r\n\r\n"),
        format!("POST / {head}X-HTTP-Method: delete\r\n\r\n"),
        format!("POST / {head}X-Method-Override: PUT\r\nX-Method-Override: DELETE\r\n\r\n"),
        format!("POST /?a=b&_method=delete {head}\r\n"),
        format!("POST / {head}X_HTTP_METHOD_OVERRIDE: DELETE\r\n\r\n"),
        format!("POST / {head}X-HTTP-Method-Override: PATCH, \"DELETE\"\r\n\r\n"),
        format!("POST /?%5Fmethod=%44ELETE {head}\r\n"),
        format!("POST /?a=1;_METHOD=DELETE {head}\r\n"),
        format!("POST /?X-HTTP-Method-Override=DELETE {head}\r\n"),
    ] {
        assert_eq!(status(&gatepass.through("a.test", &request).await), 403, "{request}");
    }
    assert!(origin.seen().is_empty());
    for request in [
        format!("POST / {head}\r\n"),
        format!("POST / {head}X-HTTP-Method-Override: PUT\r\n\r\n"),
        format!("POST /?method=DELETE&q=_method=DELETE {head}\r\n"),
    ] {
        assert_eq!(status(&gatepass.through("a.test", &request).await), 200, "{request}");
    }
}

#[tokio::test]
async fn a_deny_of_get_is_for_head_and_for_websockets_over_http_2_too() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "rules:\n{}  - {{ host: a.test, path: /ws, methods: [GET], action: deny }}\n",
        rule("a.test", origin.address, "bearer: t0k")
    );
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    for (method, expected) in [("GET", 403), ("HEAD", 403), ("POST", 200)] {
        let request = format!("{method} /ws HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&gatepass.through("a.test", &request).await), expected, "{method}");
    }
    let mut sender = gatepass.h2("a.test").await;
    // The peer's settings, with RFC 8441 among them, must have come.
    let warm = Request::get("https://a.test/").body(Empty::new().boxed()).unwrap();
    sender.send_request(warm).await.unwrap().collect().await.unwrap();
    let asked = Request::builder().method(Method::CONNECT).uri("https://a.test/ws").header("sec-websocket-version", "13");
    let mut asked = asked.body(Empty::new().boxed()).unwrap();
    asked.extensions_mut().insert(Protocol::from_static("websocket"));
    assert_eq!(sender.send_request(asked).await.unwrap().status(), 403);
}

#[tokio::test]
async fn unmatched_deny_is_for_requests_that_no_rule_is_for() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml =
        format!("unmatched: deny\nrules:\n{}", rule("a.test", origin.address, "bearer: t0k\npath: /v1/**\nmethods: [GET]"));
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    assert!(gatepass.get("a.test", "/v1/x").await.contains("auth Bearer t0k"));
    for request in ["GET /v2", "POST /v1/x"] {
        let request = format!("{request} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(status(&gatepass.through("a.test", &request).await), 403, "{request}");
    }
    for target in ["a.test:8443", "a.test:80", "b.test:443", "127.0.0.1:80"] {
        assert_eq!(status(&gatepass.connect(target).await.0), 403, "{target}");
    }
    assert_eq!(status(&plain(&gatepass, "a.test").await), 403);
    let (_, mut stream) = gatepass.connect("a.test:443").await;
    let answer = ask(&mut stream, "GET /v1/x HTTP/1.1\r\nHost: a.test:443\r\n\r\n").await;
    assert_eq!(status(&answer), 403, "clear HTTP in the tunnel is refused in HTTP");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn special_addresses_are_for_hosts_that_a_rule_names_in_full() {
    let special =
        ["169.254.169.254", "[::ffff:a9fe:a9fe]", "[fd00:ec2::23]", "[64:ff9b:1::a9fe:a9fe]", "168.63.129.16", "[ff02::1]"];
    let resolve = "limits: { connect: 200ms }\n";
    for rules in
        ["", "rules: [{ host: '*', port: any, scheme: any, bearer: t0k }]\n", "rules: [{ host: '169.254.*', port: any }]\n"]
    {
        let gatepass = Gatepass::start(&format!("{resolve}{rules}"), &[]).await;
        for host in special {
            let answer = plain(&gatepass, host).await;
            assert_eq!(status(&answer), 403, "{rules}{host}: {answer}");
            assert!(answer.contains("destination_ip_prohibited"), "{answer}");
        }
    }
    // The one special address that leads nowhere but here.
    let origin = Origin::start(&Pki::new(), OriginOptions { tls: false, ..OriginOptions::default() }).await;
    let here = format!("0.0.0.0:{}", origin.address.port());
    let named = |host: &str| format!("rules: [{{ host: '{host}', port: any, scheme: http, headers: {{ set: {{ X: y }} }} }}]\n");
    let gatepass = Gatepass::start(&named("0.0.0.0"), &[]).await;
    assert_eq!(status(&plain(&gatepass, &here).await), 200, "the rule names it");
    assert_eq!(status(&plain(&gatepass, "0.0.0.1").await), 403, "and not its neighbour");
    let gatepass = Gatepass::start(&named("*"), &[]).await;
    assert_eq!(status(&plain(&gatepass, &here).await), 403, "the rule only covers it");
}

#[tokio::test]
async fn address_policies_hold_by_way_of_a_proxy_and_for_the_proxy_itself() {
    let pki = Pki::new();
    // Absolute form is answered by any HTTP server, which stands for the proxy here.
    let proxy = Origin::start(&pki, OriginOptions { tls: false, ..OriginOptions::default() }).await;
    let via = format!("upstream_proxy: http://{}\n", proxy.address);
    let gatepass = Gatepass::start(&via, &[]).await;
    for host in ["169.254.169.254", "[fd20:ce::254]", "[64:ff9b::a9fe:a9fe]"] {
        assert_eq!(status(&plain(&gatepass, host).await), 403, "{host}");
        assert_eq!(status(&gatepass.connect(&format!("{host}:443")).await.0), 403, "{host}");
    }
    assert_eq!(status(&plain(&gatepass, "10.0.0.1").await), 200);
    let private = "egress: { deny: [private] }\nresolve: { in.test: 10.0.0.1, two.test: [192.0.2.1, 10.0.0.1] }\n";
    let gatepass = Gatepass::start(&format!("{private}{via}"), &[]).await;
    let seen = proxy.seen().len();
    for host in ["10.0.0.1", "[::ffff:10.0.0.1]", "in.test", "two.test"] {
        let answer = plain(&gatepass, host).await;
        assert!(status(&answer) == 403 && answer.contains("egress"), "{host}: {answer}");
    }
    assert_eq!(proxy.seen().len(), seen);
    assert_eq!(status(&plain(&gatepass, "192.0.2.1").await), 200);
    assert_eq!(status(&plain(&gatepass, "nowhere.invalid").await), 200, "a name that only the proxy knows");
    let gatepass = Gatepass::start(&format!("egress: {{ deny: [loopback] }}\n{via}"), &[]).await;
    let answer = plain(&gatepass, "192.0.2.1").await;
    assert!(status(&answer) == 403 && answer.contains("upstream proxy 127.0.0.1"), "{answer}");
}

async fn from_file(file: &Path) -> Gatepass {
    let mut config = request("", &[]);
    config.inline = None;
    config.files = vec![file.to_owned()];
    Gatepass::from(config).await
}

#[tokio::test]
async fn a_configuration_that_says_nothing_any_more_is_not_put_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let (file, included) = (dir.path().join("gatepass.yaml"), dir.path().join("more.yaml"));
    let whole = "listen: 127.0.0.1:0\ninclude: [more.yaml, none.yaml]\nunmatched: deny\n";
    std::fs::write(&file, whole).unwrap();
    std::fs::write(&included, "rules: [{ host: a.test, action: deny }]\n").unwrap();
    std::fs::write(dir.path().join("none.yaml"), "# nothing yet\n").unwrap();
    let gatepass = from_file(&file).await;
    let holds = async |why: &str| {
        gatepass.running.reload().await;
        let (answer, _) = gatepass.connect("a.test:443").await;
        assert!(answer.contains("a rule denies"), "{why}: {answer}");
        let (answer, _) = gatepass.connect("b.test:443").await;
        assert!(answer.contains("unmatched: deny"), "{why}: {answer}");
    };
    for empty in ["", "---\n", "null\n", "{}\n", "# rules: []\n", "\n\n", "version: 1\n", "nonsense: 1\n"] {
        std::fs::write(&file, empty).unwrap();
        holds(empty).await;
    }
    std::fs::remove_file(&file).unwrap();
    holds("the file is gone").await;
    std::fs::write(&file, whole).unwrap();
    std::fs::write(&included, "# rules\n").unwrap();
    holds("an include says nothing").await;
    std::fs::remove_file(&included).unwrap();
    holds("an include is gone").await;
    std::fs::write(&included, "rules: []\n").unwrap();
    gatepass.running.reload().await;
    let (answer, _) = gatepass.connect("a.test:443").await;
    assert!(answer.contains("unmatched: deny"), "what says that there are no rules is heard: {answer}");
}

#[tokio::test]
async fn a_configuration_that_was_found_and_is_gone_leaves_no_other_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepass/config.yaml");
    std::fs::create_dir(dir.path().join("gatepass")).unwrap();
    std::fs::write(&file, "listen: 127.0.0.1:0\nunmatched: deny\n").unwrap();
    let mut config = request("", &[("XDG_CONFIG_HOME", dir.path().to_str().unwrap())]);
    config.inline = None;
    let gatepass = Gatepass::from(config).await;
    std::fs::remove_file(&file).unwrap();
    gatepass.running.reload().await;
    let (answer, _) = gatepass.connect("b.test:443").await;
    assert!(answer.contains("unmatched: deny"), "{answer}");
}

#[tokio::test]
async fn an_empty_configuration_is_warned_of_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepass.yaml");
    for (text, warned) in [("", true), ("# nothing\n", true), ("{}\n", true), ("unmatched: deny\n", false)] {
        std::fs::write(&file, text).unwrap();
        let mut config = request("", &[]);
        config.inline = None;
        config.files = vec![file.clone()];
        let Ok(built) = gatepass::serve::build(&config).await else { panic!("{text:?} is refused") };
        assert_eq!(built.report.render(false).contains("says nothing"), warned, "{text:?}");
    }
}
