//! `explain` and the log say why: what each rule sets, who overrides it, and which rule nearly applied.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatepass::observe::LogFormat;
use gatepass::observe::{AccessLog, Observe};
use gatepass::serve;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::*;

/// Standard output and error of `gatepass` in a folder with this configuration.
fn gatepass(yaml: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("g.yaml"), yaml).unwrap();
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_gatepass"))
        .args(arguments)
        .args(["-c", "g.yaml"])
        .env("GATEPASS_HOME", dir.path().join("home"))
        .current_dir(dir.path())
        .output()
        .unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
}

fn explain(yaml: &str, words: &[&str]) -> (String, Value) {
    let (code, text, errors) = gatepass(yaml, &[&["explain"], words].concat());
    assert_eq!(code, Some(0), "{errors}");
    let (_, json, _) = gatepass(yaml, &[&["explain", "--format", "json"], words].concat());
    (text, serde_json::from_str(&json).unwrap())
}

/// For each key that a rule may set: a value, and the keys under which explain shows it.
fn samples() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let at = |name: &str| fixtures.join(name).display().to_string();
    let pin = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let tls = format!(
        "{{ server_name: n.test, spiffe_id: spiffe://d/x, min_version: '1.2', max_version: '1.3', pins: ['{pin}'], crl: [], resumption: off, alpn: [http/1.1], backend: rustls, ocsp: require }}"
    );
    let shown = [
        "tls.server_name",
        "tls.spiffe_id",
        "tls.min_version",
        "tls.max_version",
        "tls.pins",
        "tls.crl",
        "tls.resumption",
        "tls.alpn",
        "tls.backend",
        "tls.ocsp",
    ];
    vec![
        ("auth", "{ bearer: s3cret }".to_owned(), vec!["auth"]),
        (
            "client_certificate",
            format!("{{ cert: '{}', key: '{}' }}", at("alice.crt"), at("alice.key")),
            vec!["client_certificate"],
        ),
        ("ca_bundle", format!("{{ files: ['{}'] }}", at("ca.crt")), vec!["ca_bundle"]),
        ("on_existing_auth", "keep".to_owned(), vec!["on_existing_auth"]),
        ("token_endpoint", "named".to_owned(), vec!["token_endpoint"]),
        ("headers", "{ set: { X-Team: s3cret }, remove: [X-Debug] }".to_owned(), vec!["headers.x-team", "headers.x-debug"]),
        ("query", "{ set: { v: s3cret }, remove: [debug] }".to_owned(), vec!["query.v", "query.debug"]),
        ("connect_to", "127.0.0.1:8443".to_owned(), vec!["connect_to"]),
        ("tls", tls, shown.to_vec()),
        ("danger", "{ accept_invalid_certs: true }".to_owned(), vec!["danger.accept_invalid_certs"]),
        ("via", "http://user:s3cret@127.0.0.1:3128".to_owned(), vec!["via"]),
        ("action", "allow".to_owned(), vec!["action"]),
        ("cross_site", "allow".to_owned(), vec!["cross_site"]),
        ("echo", "pass".to_owned(), vec!["echo"]),
    ]
}

#[test]
fn every_key_that_a_rule_may_set_is_shown_and_who_overrides_it() {
    let (_, schema, _) = gatepass("", &["schema"]);
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let keys = schema["$defs"]["rule"]["properties"].as_object().expect("the schema tells the keys of a rule");
    let types = gatepass::auth::SCHEMES.iter().map(|scheme| scheme.name).collect::<Vec<_>>();
    let matching = ["host", "port", "scheme", "path", "methods", "clients"];
    let samples = samples();
    for key in keys.keys().filter(|key| !matching.contains(&key.as_str())) {
        let known = samples.iter().any(|(sample, ..)| sample == key) || types.contains(&key.as_str());
        assert!(known, "`{key}` may be set by a rule; give this test a value for it, and show it in explain");
    }
    for (key, value, shown) in samples {
        let rule = format!("  - {{ host: a.test, path: /x, {key}: {value} }}\n");
        let yaml = format!("credentials: {{ named: {{ bearer: s3cret }} }}\nrules:\n{rule}{rule}");
        let (text, json) = explain(&yaml, &["https://a.test/x"]);
        assert!(!text.contains("s3cret") && !json.to_string().contains("s3cret"), "{key}: {text}{json}");
        for shown in shown {
            let of = |rule: usize| {
                let sets = json["rules"][rule]["sets"].as_array().unwrap();
                sets.iter().find(|set| set["key"] == shown).unwrap_or_else(|| panic!("{shown} is not in {json}")).clone()
            };
            assert_eq!(of(0)["overridden_by"], "g.yaml:4", "{shown}");
            assert_eq!(of(1)["overridden_by"], Value::Null, "{shown}");
            let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("  g.yaml:") && line.contains(shown)).collect();
            assert!(lines.len() == 2 && lines[0].contains("overridden by g.yaml:4"), "{shown}: {text}");
            assert!(!lines[1].contains("overridden"), "{text}");
        }
        assert_eq!((&json["rules"][0]["file"], &json["rules"][0]["line"]), (&"g.yaml".into(), &3.into()));
    }
}

#[test]
fn what_becomes_of_a_request_is_said_in_one_word_and_nothing_is_added_to_what_is_denied() {
    let yaml = "unmatched: tunnel\nrules:\n  - { host: a.test, scheme: any, bearer: x, headers: { set: { X: y } } }\n  - { host: a.test, path: /no, action: deny }\n  - { host: t.test, action: tunnel }\n";
    for (url, fate, action) in [
        ("https://a.test/", "intercept", "allow"),
        ("http://a.test/", "forward", "allow"),
        ("https://a.test/no", "deny", "deny"),
        ("https://t.test/", "tunnel", "tunnel"),
        ("https://other.test/", "tunnel", "tunnel"),
        ("http://other.test/", "forward", "allow"),
    ] {
        let (text, json) = explain(yaml, &[url]);
        assert_eq!((&json["fate"], &json["action"]), (&fate.into(), &action.into()), "{url}: {text}");
        let adds = url.contains("a.test/") && fate != "deny";
        assert_eq!(!json["auth"].as_array().unwrap().is_empty(), adds, "{url}: {json}");
        assert_eq!(!json["adds"].as_array().unwrap().is_empty(), adds, "{url}: {json}");
        assert_eq!(text.contains("\nadds\n"), adds, "{url}: {text}");
    }
    let (_, json) = explain("unmatched: deny", &["https://a.test/"]);
    assert_eq!((&json["fate"], &json["action"], &json["decided_by"]), (&"deny".into(), &"deny".into(), &"unmatched".into()));
    let (_, json) = explain(yaml, &["https://a.test/no"]);
    assert_eq!(json["decided_by"], "g.yaml:4");
}

#[test]
fn the_rule_that_nearly_applies_is_named_with_what_differs() {
    let yaml = "listeners: [{ listen: 127.0.0.1:0, access: { users: { ci: pw } } }]\nrules:\n  - { host: api.example.com, bearer: x }\n  - { host: '*.corp.example', bearer: x }\n  - { host: who.example, clients: [ci, 10.0.0.0/8], bearer: x }\n  - { host: part.example, path: /v1/**, methods: [GET], bearer: x }\n";
    for (words, key, told) in [
        (&["https://api.example.com:8443/"][..], "port", "rule g.yaml:3 does not apply: port 8443 (it is for 443)"),
        (&["http://api.example.com/"], "scheme", "rule g.yaml:3 does not apply: scheme http (it is for https)"),
        (&["https://v2.api.example.com/"], "host", "host v2.api.example.com (it is for api.example.com alone"),
        (&["https://api.exmaple.com/"], "host", "host api.exmaple.com (it is for api.example.com)"),
        (&["https://corp.example/"], "host", "host corp.example (it is for *.corp.example, the subdomains alone)"),
        (&["https://who.example/"], "clients", "caller without a name (it is for ci, 10.0.0.0/8)"),
        (&["--as", "bob", "https://who.example/"], "clients", "caller bob (it is for ci, 10.0.0.0/8)"),
        (&["https://part.example/v2"], "path", "path /v2 (it is for /v1/**)"),
        (&["POST", "https://part.example/v1/x"], "methods", "method POST (it is for GET)"),
    ] {
        let (text, json) = explain(yaml, words);
        assert!(text.contains(told), "{words:?}: {text}");
        assert_eq!(json["near"][0]["differs"][0]["key"], key, "{json}");
        assert!(json["near"][0]["says"].as_str().unwrap().contains(told), "{json}");
    }
    for words in [
        &["https://api.example.com/"][..],
        &["https://a.corp.example/"],
        &["https://elsewhere.test/"],
        &["--as", "ci", "https://who.example/"],
        &["--as", "10.1.2.3", "https://who.example/"],
    ] {
        let (text, json) = explain(yaml, words);
        assert!(!text.contains("does not apply") && json["near"].as_array().unwrap().is_empty(), "{words:?}: {text}");
    }
}

#[test]
fn a_url_is_taken_as_people_paste_it_and_its_password_is_not_shown() {
    let yaml = "rules:\n  - { host: bücher.example, scheme: any, bearer: x }\n  - { host: a.test, path: /v1/**, bearer: x }\n";
    for (url, origin, fate) in [
        ("HTTPS://Bücher.example/x", "https://xn--bcher-kva.example", "intercept"),
        ("wss://bücher.example:443/x", "https://xn--bcher-kva.example", "intercept"),
        ("ws://xn--bcher-kva.example", "http://xn--bcher-kva.example", "forward"),
        ("https://me:s3cret@a.test/v1/x", "https://a.test", "intercept"),
        ("https://a.test/v1/../x", "https://a.test", "refuse"),
    ] {
        let (text, json) = explain(yaml, &[url]);
        assert_eq!((&json["origin"], &json["fate"]), (&origin.into(), &fate.into()), "{url}: {text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    let (code, _, told) = gatepass(yaml, &["explain", "ftp://me:s3cret@a.test/"]);
    assert!(code == Some(1) && told.contains("`ftp` is neither http nor https") && !told.contains("s3cret"), "{told}");
}

#[test]
fn check_warns_of_callers_that_no_listener_knows() {
    let rules = "rules: [{ host: a.test, clients: [buildre], bearer: x }]\n";
    let warned = |listeners: &str| gatepass(&format!("{listeners}{rules}"), &["check"]).2;
    let users = "listeners: [{ listen: 127.0.0.1:0, access: { users: { builder: pw } } }]\n";
    let told = warned(users);
    assert!(told.contains("no listener knows a caller `buildre`") && told.contains("did you mean `builder`"), "{told}");
    assert!(warned("").contains("no listener knows a caller `buildre`"));
    assert!(!warned(&users.replace("builder:", "buildre:")).contains("no listener knows"));
    let (_, _, told) = gatepass("rules: [{ host: a.test, clients: [10.0.0.0/8], bearer: x }]\n", &["check"]);
    assert!(!told.contains("no listener knows"), "{told}");
}

#[tokio::test]
async fn a_refusal_names_the_rule_that_nearly_let_it_pass_and_not_one_that_is_there() {
    let gatepass = Gatepass::start("unmatched: deny\nrules: [{ host: api.test, bearer: x }]\n", &[]).await;
    let near = "rule test.yaml:3 does not apply: port 8443 (it is for 443)";
    let (answer, _) = gatepass.connect("api.test:8443").await;
    assert!(answer.starts_with("HTTP/1.1 403 gatepass: no rule is for api.test:8443"), "{answer}");
    assert!(answer.matches(near).count() >= 2, "in the reason and in Proxy-Status: {answer}");
    assert!(!answer.contains("add a rule with `host: api.test`"), "{answer}");
    let answer = gatepass.ask("GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    assert!(status(&answer) == 403 && answer.matches("scheme http (it is for https)").count() == 2, "{answer}");
    let (answer, _) = gatepass.connect("other.example:443").await;
    assert!(answer.contains("add a rule with `host: other.example`"), "{answer}");
    let gatepass = Gatepass::start("rules: [{ host: api.test, bearer: x }]\n", &[]).await;
    let answer = gatepass.ask("GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    assert!(status(&answer) >= 500 && answer.contains("scheme http (it is for https)"), "a failure says it too: {answer}");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The access-log line of a request in clear, and of a tunnel, to this address.
async fn logged(yaml: &str, format: LogFormat, origin: std::net::SocketAddr) -> Vec<String> {
    let lines = Lines::default();
    let (writer, _guard) = tracing_appender::non_blocking(lines.clone());
    let request = request(&format!("listen: 127.0.0.1:0\n{yaml}"), &[]);
    let Ok(built) = serve::build(&request).await else { panic!("{yaml} is refused") };
    let Ok(running) = serve::start(built, request, Observe::new(Some(AccessLog::new(writer, format)))).await else {
        panic!("gatepass did not start")
    };
    let address = running.addresses[0].0;
    let get = format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n");
    ask(&mut TcpStream::connect(address).await.unwrap(), &get).await;
    let mut tunnel = TcpStream::connect(address).await.unwrap();
    ask(&mut tunnel, &format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\nGET / HTTP/1.0\r\n\r\n")).await;
    drop(tunnel);
    let text = || String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let written = async {
        while text().lines().count() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap_or_else(|_| panic!("{}", text()));
    text().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_log_names_the_rule_that_nearly_applied_where_none_did() {
    let origin = Origin::start(&Pki::new(), OriginOptions { tls: false, ..OriginOptions::default() }).await;
    let port = origin.address.port();
    let yaml = "rules: [{ host: 127.0.0.1, bearer: x }]\n";
    let lines = logged(yaml, LogFormat::Text, origin.address).await;
    assert!(
        lines[0].contains(&format!("near=\"rule test.yaml:2 does not apply: scheme http (it is for https), port {port}")),
        "{}",
        lines[0]
    );
    assert!(lines[1].contains(&format!("near=\"rule test.yaml:2 does not apply: port {port} (it is for 443)\"")), "{}", lines[1]);
    let lines = logged(yaml, LogFormat::Json, origin.address).await;
    let line: Value = serde_json::from_str(&lines[1]).unwrap();
    assert!(line["near"].as_str().unwrap().contains("it is for 443"), "{line}");
    let lines = logged(
        "rules: [{ host: 127.0.0.1, scheme: any, port: any, headers: { set: { X: y } } }]\n",
        LogFormat::Text,
        origin.address,
    )
    .await;
    assert!(lines.iter().all(|line| !line.contains("near=")), "{lines:?}");
    let lines = logged("rules: [{ host: elsewhere.test, bearer: x }]\n", LogFormat::Text, origin.address).await;
    assert!(lines.iter().all(|line| !line.contains("near=")), "{lines:?}");
}
