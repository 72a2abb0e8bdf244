//! Certificates, keys, CAs and lists that are renewed in their files: nobody notices.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatepass::tls::out::client::Client;
use gatepass::tls::out::client_spec::ClientSpec;
use gatepass::tls::out::trust::Trust;
use gatepass::tls::settings::Alpn;

use crate::support::*;

/// A gatepass on a configuration file in this folder.
async fn gatepass_in(folder: &Path, yaml: &str, pki: &Pki) -> Gatepass {
    let file = folder.join("gatepass.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut config = request("", &[("CA", &pki.ca_pem)]);
    config.inline = None;
    config.files = vec![file];
    Gatepass::from(config).await
}

/// Certificate and key of a client, apart.
fn pair(pki: &Pki, name: &str) -> (String, String) {
    let text = pki.client(name);
    let cut = text.find("-----BEGIN PRIVATE KEY").unwrap();
    (text[..cut].to_owned(), text[cut..].to_owned())
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !done().await {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn asking() -> OriginOptions<'static> {
    OriginOptions { ask: true, ..OriginOptions::default() }
}

#[tokio::test]
async fn a_half_written_pair_stays_as_it_was_and_holds_up_no_other() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, asking()).await;
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let install = |place: &str, who: &str| {
        let (cert, key) = pair(&pki, who);
        write(&format!("{place}.crt"), &cert);
        write(&format!("{place}.key"), &key);
    };
    install("a", "old-a");
    install("b", "old-b");
    let certificate = |n: &str| format!("client_certificate: {{ cert: {n}.crt, key: {n}.key }}");
    let yaml = format!(
        "listen: 127.0.0.1:0\nrules:\n{}{}",
        rule("a.test", origin.address, &certificate("a")),
        rule("b.test", origin.address, &certificate("b"))
    );
    let gatepass = gatepass_in(dir.path(), &yaml, &pki).await;
    assert!(gatepass.get("a.test", "/").await.contains("by old-a"));
    let (cert, key) = pair(&pki, "new-a");
    write("a.crt", &cert);
    install("b", "new-b");
    until("b is renewed", async || gatepass.get("b.test", "/").await.contains("by new-b")).await;
    assert!(gatepass.get("a.test", "/").await.contains("by old-a"), "the old pair serves on");
    write("a.key", &key);
    until("a is renewed once its key has come", async || gatepass.get("a.test", "/").await.contains("by new-a")).await;
    std::fs::remove_file(dir.path().join("a.key")).unwrap();
    gatepass.running.reload().await;
    assert!(gatepass.get("a.test", "/").await.contains("by new-a"), "what was read before stays in use");
}

#[tokio::test]
async fn a_pair_swapped_as_kubernetes_does_it_is_taken_up_and_used_by_kept_client_connections() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, asking()).await;
    let dir = tempfile::tempdir().unwrap();
    let volume = |generation: &str, who: &str| {
        let (cert, key) = pair(&pki, who);
        std::fs::create_dir(dir.path().join(generation)).unwrap();
        std::fs::write(dir.path().join(generation).join("tls.crt"), cert).unwrap();
        std::fs::write(dir.path().join(generation).join("tls.key"), key).unwrap();
        std::os::unix::fs::symlink(generation, dir.path().join("..new")).unwrap();
        std::fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
    };
    volume("..1", "first");
    for file in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(Path::new("..data").join(file), dir.path().join(file)).unwrap();
    }
    let yaml = format!(
        "listen: 127.0.0.1:0\nrules:\n{}",
        rule("a.test", origin.address, "client_certificate: { cert: tls.crt, key: tls.key }")
    );
    let gatepass = gatepass_in(dir.path(), &yaml, &pki).await;
    let mut kept = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert!(ask(&mut kept, get).await.contains("by first"));
    for (generation, who) in [("..2", "second"), ("..3", "third")] {
        volume(generation, who);
        until(who, async || ask(&mut kept, get).await.contains(&format!("by {who}"))).await;
    }
}

#[tokio::test]
async fn a_reload_keeps_what_did_not_change_with_all_it_learned() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let runs = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap_or_default().lines().count();
    let yaml = |command: &str, more: &str| {
        let token = format!("{{ token: {{ exec: [sh, -c, 'echo x >> token.runs; echo {command}'] }} }}");
        let header = "headers: { set: { x-live: { exec: [sh, -c, 'echo x >> header.runs; echo h'] } } }";
        format!("listen: 127.0.0.1:0\nrules:\n{}{more}", rule("a.test", origin.address, &format!("bearer: {token}\n{header}")))
    };
    let gatepass = gatepass_in(dir.path(), &yaml("t0k", ""), &pki).await;
    assert!(gatepass.get("a.test", "/").await.contains("Bearer t0k"));
    std::fs::write(dir.path().join("gatepass.yaml"), yaml("t0k", "  - host: b.test\n    bearer: other\n")).unwrap();
    gatepass.running.reload().await;
    assert!(gatepass.get("a.test", "/").await.contains("Bearer t0k"));
    assert_eq!((runs("token.runs"), runs("header.runs")), (1, 1));
    std::fs::write(dir.path().join("gatepass.yaml"), yaml("new", "")).unwrap();
    gatepass.running.reload().await;
    assert!(gatepass.get("a.test", "/").await.contains("Bearer new"));
    assert_eq!(runs("token.runs"), 2);
}

#[tokio::test]
async fn the_certificate_of_a_listener_is_renewed_like_any_other() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let install = |name: &str| std::fs::write(dir.path().join("proxy.pem"), pki.server(&[name])).unwrap();
    install("old.test");
    let tls = "tls: { cert: proxy.pem, key: proxy.pem }";
    let yaml = format!(
        "listeners:\n  - listen: 127.0.0.1:0\n    mode: reverse\n    upstream: https://a.test\n    {tls}\nrules:\n{}",
        rule("a.test", origin.address, "bearer: t0k")
    );
    let gatepass = gatepass_in(dir.path(), &yaml, &pki).await;
    let open = async |name: &str| tls_to(gatepass.dial().await, name, &pki).await;
    let mut stream = open("old.test").await.expect("a reverse listener speaks TLS, too");
    assert!(ask(&mut stream, "GET / HTTP/1.1\r\nHost: old.test\r\n\r\n").await.contains("Bearer t0k"));
    install("new.test");
    until("the new certificate is shown", async || open("new.test").await.is_ok()).await;
    assert!(open("old.test").await.is_err());
    assert!(ask(&mut stream, "GET / HTTP/1.1\r\nHost: old.test\r\n\r\n").await.contains("Bearer t0k"), "connections stay");
    std::fs::write(dir.path().join("proxy.pem"), "half").unwrap();
    gatepass.running.reload().await;
    assert!(open("new.test").await.is_ok(), "a broken file keeps the certificate");
}

#[tokio::test]
async fn the_users_own_interception_ca_is_renewed_in_its_files() {
    let (pki, first, second) = (Pki::new(), Pki::named("first CA"), Pki::named("second CA"));
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let install = |ca: &Pki| {
        std::fs::write(dir.path().join("ca.crt"), &ca.ca_pem).unwrap();
        std::fs::write(dir.path().join("my.key"), ca.ca_key_pem()).unwrap();
    };
    install(&first);
    let yaml = format!(
        "listen: 127.0.0.1:0\nca: {{ cert: ca.crt, key: my.key }}\nrules:\n{}",
        rule("a.test", origin.address, "bearer: t0k")
    );
    let mut config = request("", &[("CA", &pki.ca_pem)]);
    config.ca_in_memory = false;
    config.inline = None;
    std::fs::write(dir.path().join("gatepass.yaml"), yaml).unwrap();
    config.files = vec![dir.path().join("gatepass.yaml")];
    let gatepass = Gatepass::from(config).await;
    let trusts = async |ca: &Pki| {
        let (_, stream) = gatepass.connect("a.test:443").await;
        tls_to(stream, "a.test", ca).await.is_ok()
    };
    assert!(trusts(&first).await && !trusts(&second).await);
    install(&second);
    until("leaves are from the second", async || trusts(&second).await).await;
    assert!(!trusts(&first).await);
}

#[tokio::test]
async fn a_bundle_that_is_replaced_counts_from_the_next_connection() {
    let (pki, other) = (Pki::new(), Pki::named("other"));
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), &other.ca_pem).unwrap();
    let yaml = format!(
        "listen: 127.0.0.1:0\nrules:\n  - host: a.test\n    connect_to: {}\n    ca_bundle: {{ files: [ca.pem], system_roots: false }}\n",
        origin.address
    );
    let gatepass = gatepass_in(dir.path(), &yaml, &pki).await;
    let answer = gatepass.get("a.test", "/").await;
    assert!(status(&answer) == 502 && answer.contains("add the certificate of \"test CA\" to ca.pem"), "{answer}");
    std::fs::write(dir.path().join("ca.pem"), &pki.ca_pem).unwrap();
    until("the new CA is believed", async || status(&gatepass.get("a.test", "/").await) == 200).await;
    // Cut off in the middle, as a copy that is under way; also behind a whole one.
    for half in [pki.ca_pem[..200].to_owned(), format!("{}{}", other.ca_pem, &pki.ca_pem[..200])] {
        std::fs::write(dir.path().join("ca.pem"), half).unwrap();
        gatepass.running.reload().await;
        assert_eq!(status(&gatepass.get("a.test", "/").await), 200);
    }
}

#[tokio::test]
async fn limits_file_bounds_the_configuration_and_its_secrets_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "x".repeat(2_000)).unwrap();
    let text = |padding: usize| {
        let secret = dir.path().join("secret");
        format!(
            "limits: {{ file: 1KiB }}\nrules: [{{ host: a.test, bearer: {{ token: {{ file: {} }} }} }}]\n#{}",
            secret.display(),
            "x".repeat(padding)
        )
    };
    for (padding, complaint) in
        [(0, "secret: it is larger than 1024 bytes"), (2_000, "is larger than `limits.file` (1024 bytes)")]
    {
        let report = gatepass::serve::build(&request(&text(padding), &[])).await.err().expect("refused").render(false);
        assert!(report.contains(complaint), "{report}");
    }
}

#[tokio::test]
async fn metrics_tell_when_each_certificate_ends_and_whether_the_last_reload_worked() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.pem"), pki.client("alice")).unwrap();
    let yaml = "listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\nclient_certificates: { laptop: { cert: a.pem } }\nrules:\n  - host: a.test\n    client_certificate: laptop\n    bearer: s3cret\n";
    let gatepass = gatepass_in(dir.path(), yaml, &pki).await;
    let admin = gatepass.running.admin.unwrap();
    let metrics = async || {
        let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
        ask(&mut stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await
    };
    let page = metrics().await;
    assert!(page.contains("text/plain; version=0.0.4") && !page.contains("s3cret"), "{page}");
    assert!(
        page.contains("gatepass_certificate_expiration_timestamp_seconds{kind=\"client\",name=\"laptop\",subject=\"CN="),
        "{page}"
    );
    assert!(page.contains("{kind=\"interception_ca\",name=\"gatepass\""), "{page}");
    assert!(page.contains("gatepass_config_reloads_total{result=\"failure\"} 0"), "{page}");
    std::fs::write(dir.path().join("a.pem"), "half").unwrap();
    gatepass.running.reload().await;
    assert!(metrics().await.contains("gatepass_config_pending 1"));
    std::fs::write(dir.path().join("gatepass.yaml"), "rules: [{ hots: x }]").unwrap();
    gatepass.running.reload().await;
    assert!(!metrics().await.contains("gatepass_config_reloads_total{result=\"failure\"} 0"));
}

#[test]
fn certs_list_and_show_name_the_rules_and_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let yaml = format!(
        "client_certificates:\n  laptop: {{ cert: {0}/alice.crt, key: {0}/alice.key }}\nrules:\n  - host: a.test\n    client_certificate: laptop\n    ca_bundle: {0}/ca.crt\n",
        fixtures.display()
    );
    std::fs::write(dir.path().join("g.yaml"), yaml).unwrap();
    let run = |arguments: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_gatepass"))
            .args(arguments)
            .args(["-c", "g.yaml"])
            .env("GATEPASS_HOME", dir.path().join("home"))
            .current_dir(dir.path())
            .output()
            .unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, list, _) = run(&["certs", "list"]);
    assert_eq!(code, Some(0));
    assert!(list.contains("interception CA  gatepass") && list.contains("client certificate  laptop"), "{list}");
    assert!(list.contains("CA  g.yaml:4") && list.matches("used by  g.yaml:4").count() == 2, "{list}");
    assert_eq!(run(&["certs", "list", "--expires-in", "30000d"]).0, Some(1));
    let (_, json, _) = run(&["certs", "show", "laptop", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["kind"], "client certificate");
    assert_eq!(json[0]["rules"][0], "g.yaml:4");
    assert!(json[0]["not_after"].as_str().unwrap().ends_with('Z'), "{json}");
    let (code, _, told) = run(&["certs", "show", "labtop"]);
    assert!(code == Some(1) && told.contains("there is no certificate `labtop`") && told.contains("laptop"), "{told}");
}

/// TLS on a connection, believing this CA alone.
async fn tls_to(
    stream: tokio::net::TcpStream,
    name: &str,
    ca: &Pki,
) -> Result<gatepass::tls::out::stream::TlsStream<tokio::net::TcpStream>, String> {
    let trust = Trust::of(std::slice::from_ref(ca.ca())).map_err(|p| p.to_string())?;
    let client = Client::build(&ClientSpec::plain(Arc::new(trust)), 1).map_err(|p| p.to_string())?;
    let host = gatepass::origin::Host::parse_written(name).unwrap();
    client.connect(stream, &host, &[Alpn::Http11]).await.map(|secured| secured.stream).map_err(|f| f.to_string())
}
