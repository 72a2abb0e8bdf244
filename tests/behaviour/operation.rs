//! Starting, reloading, stopping, refusing callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use gatepass::serve;
use gatepass::tls::settings::Alpn;
use tokio::io::AsyncWriteExt;

use crate::support::*;

#[tokio::test]
async fn a_reload_under_load_fails_no_request_and_a_broken_one_keeps_the_old() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepass.yaml");
    let yaml =
        |token: &str| format!("listen: 127.0.0.1:0\nrules:\n{}", rule("a.test", origin.address, &format!("bearer: {token}")));
    std::fs::write(&file, yaml("first")).unwrap();
    let mut config = request("", &[("CA", &pki.ca_pem)]);
    config.inline = None;
    config.files = vec![file.clone()];
    let gatepass = Arc::new(Gatepass::from(config).await);
    assert!(gatepass.get("a.test", "/").await.contains("Bearer first"));
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (gatepass, stop, done) = (gatepass.clone(), stop.clone(), done.clone());
            tokio::spawn(async move {
                let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(&mut stream, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
                    assert_eq!(status(&answer), 200, "{answer}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for n in 0..10 {
        std::fs::write(&file, yaml(&format!("token{n}"))).unwrap();
        gatepass.running.reload().await;
        // Each policy serves some requests, however slow the machine.
        let before = done.load(Ordering::Relaxed);
        let started = Instant::now();
        while done.load(Ordering::Relaxed) < before + 8 && !load.iter().any(tokio::task::JoinHandle::is_finished) {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    std::fs::write(&file, "rules: [{ hots: x }]").unwrap();
    gatepass.running.reload().await;
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    assert!(gatepass.get("a.test", "/").await.contains("Bearer token9"));
}

#[tokio::test]
async fn a_changed_file_is_noticed_by_itself_also_when_renamed_over() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let (file, secret) = (dir.path().join("gatepass.yaml"), dir.path().join("token"));
    std::fs::write(&secret, "one\n").unwrap();
    std::fs::write(
        &file,
        format!("listen: 127.0.0.1:0\nrules:\n{}", rule("a.test", origin.address, "bearer: { token: { file: token } }")),
    )
    .unwrap();
    let mut config = request("", &[("CA", &pki.ca_pem)]);
    config.inline = None;
    config.files = vec![file];
    let gatepass = Gatepass::from(config).await;
    assert!(gatepass.get("a.test", "/").await.contains("Bearer one"));
    let renamed = dir.path().join("token.new");
    std::fs::write(&renamed, "two\n").unwrap();
    std::fs::rename(renamed, &secret).unwrap();
    let started = Instant::now();
    while !gatepass.get("a.test", "/").await.contains("Bearer two") {
        assert!(started.elapsed() < PATIENCE, "the new secret is in force");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_file_that_is_being_written_does_not_come_into_force_half() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepass.yaml");
    let yaml =
        |token: &str| format!("listen: 127.0.0.1:0\nrules:\n{}", rule("a.test", origin.address, &format!("bearer: {token}")));
    std::fs::write(&file, yaml("old")).unwrap();
    let mut config = request("", &[("CA", &pki.ca_pem)]);
    config.inline = None;
    config.files = vec![file.clone()];
    let gatepass = Gatepass::from(config).await;
    // Truncated first, as many programs do, and written a moment later.
    std::fs::write(&file, "").unwrap();
    let new = yaml("new");
    let writing = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        std::fs::write(&file, new).unwrap();
    });
    gatepass.running.reload().await;
    writing.await.unwrap();
    assert!(gatepass.get("a.test", "/").await.contains("Bearer new"));
}

#[tokio::test]
async fn a_removed_rule_no_longer_adds_its_credential_on_a_kept_connection() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepass.yaml");
    let rest = rule("a.test", origin.address, "");
    std::fs::write(&file, format!("listen: 127.0.0.1:0\nrules:\n{rest}  - host: a.test\n    bearer: t0k\n")).unwrap();
    let mut config = request("", &[("CA", &pki.ca_pem)]);
    config.inline = None;
    config.files = vec![file.clone()];
    let gatepass = Gatepass::from(config).await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert!(ask(&mut stream, get).await.contains("Bearer t0k"));
    std::fs::write(&file, format!("listen: 127.0.0.1:0\nrules:\n{rest}")).unwrap();
    gatepass.running.reload().await;
    assert!(ask(&mut stream, get).await.contains("auth none"));
}

#[tokio::test]
async fn stopping_lets_exchanges_finish_and_does_not_wait_for_idle_tunnels() {
    let pki = Pki::new();
    let slow = raw_origin(&pki, |mut stream| async move {
        head(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(2000)).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
        let _ = stream.shutdown().await;
    })
    .await;
    let gatepass = Gatepass::start(&format!("rules:\n{}", rule("a.test", slow, "bearer: t")), &[("CA", &pki.ca_pem)]).await;
    let (tunnel, _idle) = gatepass.connect(&format!("127.0.0.1:{}", slow.port())).await;
    assert_eq!(status(&tunnel), 200);
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    let mut h2 = gatepass.h2("a.test").await;
    let exchange = tokio::spawn(async move { ask(&mut stream, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await });
    let request =
        http::Request::get("https://a.test/").body(http_body_util::BodyExt::boxed(http_body_util::Empty::new())).unwrap();
    let stream = tokio::spawn(async move { h2.send_request(request).await.map(|response| response.status()) });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let address = gatepass.address;
    let started = Instant::now();
    let drained = gatepass.running.stop().await;
    assert_eq!(drained.cut, 0);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(exchange.await.unwrap().ends_with("done"));
    assert_eq!(stream.await.unwrap().unwrap(), 200);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_cut_and_counted() {
    let pki = Pki::new();
    let mute = raw_origin(&pki, |mut stream| async move {
        head(&mut stream).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    })
    .await;
    let gatepass = Gatepass::start(
        &format!("limits: {{ grace: 300ms }}\nrules:\n{}", rule("a.test", mute, "bearer: t")),
        &[("CA", &pki.ca_pem)],
    )
    .await;
    let mut stream = gatepass.tls("a.test:443", "a.test", &[Alpn::Http11]).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    assert_eq!(gatepass.running.stop().await.cut, 1);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_listener_beyond_loopback_must_say_who_may_call() {
    let refused = serve::build(&request("listen: 0.0.0.0:0\nrules: []\n", &[])).await.err().expect("refused");
    let text = refused.render(false);
    assert!(text.contains("can be reached from other machines") && text.contains("access:"), "{text}");
}

#[tokio::test]
async fn callers_with_a_password_get_their_own_rules_and_others_get_407() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "listeners:\n  - listen: 127.0.0.1:0\n    access: {{ users: {{ ann: pw1, bob: pw2 }} }}\nrules:\n{}  - host: a.test\n    clients: [bob]\n    bearer: bobs\n",
        rule("a.test", origin.address, "bearer: everyones\necho: pass")
    );
    let gatepass = Gatepass::from(request(&yaml, &[("CA", &pki.ca_pem)])).await;
    let (answer, _) = gatepass.connect("a.test:443").await;
    assert_eq!(status(&answer), 407, "{answer}");
    assert!(answer.contains("proxy-authenticate: Basic"), "{answer}");
    for (pair, expected) in [("ann:pw1", "Bearer everyones"), ("bob:pw2", "Bearer bobs"), ("bob:pw1", "407")] {
        let mut stream = gatepass.dial().await;
        let basic = base64::prelude::BASE64_STANDARD.encode(pair);
        let plain = format!("GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\nProxy-Authorization: Basic {basic}\r\n\r\n");
        let answer = ask(&mut stream, &plain).await;
        assert!(answer.contains(expected), "{pair}: {answer}");
    }
    assert!(origin.seen().iter().all(|seen| !seen.headers.contains_key("proxy-authorization")));
}

#[tokio::test]
async fn without_descriptors_accepting_waits_instead_of_spinning_and_recovers() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let script = format!("ulimit -n 24 && exec {} run --listen 127.0.0.1:{port}", env!("CARGO_BIN_EXE_gatepass"));
    let mut child = std::process::Command::new("sh")
        .args(["-c", &script])
        .env("GATEPASS_HOME", dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .current_dir(dir.path())
        .spawn()
        .unwrap();
    let address = format!("127.0.0.1:{port}");
    let started = Instant::now();
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let held: Vec<_> = (0..40).filter_map(|_| std::net::TcpStream::connect(&address).ok()).collect();
    assert_eq!(held.len(), 40);
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap()).collect();
        fields[0] + fields[1]
    };
    let before = ticks();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // A tick is 10 ms; a spinning accept would take nearly all of the 200.
    let spent = ticks() - before;
    drop(held);
    let page = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(mut stream) = tokio::net::TcpStream::connect(&address).await {
                let answer = ask(&mut stream, &format!("GET /proxy.pac HTTP/1.0\r\nHost: {address}\r\n\r\n")).await;
                if answer.contains("FindProxyForURL") {
                    return answer;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(spent < 40, "{spent} ticks of 10 ms in 2 s");
    assert!(page.is_ok(), "it serves again once descriptors are free");
}

#[tokio::test]
async fn a_credential_that_cannot_be_had_is_502_and_nothing_leaves() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "rules:\n{}",
        rule("a.test", origin.address, "bearer: { token: { exec: [sh, -c, 'echo s3cret; echo vault is sealed >&2; exit 1'] } }")
    );
    let gatepass = Gatepass::start(&yaml, &[("CA", &pki.ca_pem)]).await;
    let answer = gatepass.get("a.test", "/").await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(answer.contains("exit status: 1") && !answer.contains("sealed") && !answer.contains("s3cret"), "{answer}");
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_reload_that_moves_listeners_about_opens_none_to_strangers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("g.yaml");
    let guarded = "  - listen: 127.0.0.1:0\n    access: { users: { ann: pw } }\n";
    std::fs::write(&file, format!("listeners:\n{guarded}rules: []\n")).unwrap();
    let mut config = request("", &[]);
    config.inline = None;
    config.files = vec![file.clone()];
    let gatepass = Gatepass::from(config).await;
    assert_eq!(status(&gatepass.connect("a.test:443").await.0), 407);
    std::fs::write(&file, "listen: 127.0.0.1:1\nrules: []\n").unwrap();
    gatepass.running.reload().await;
    assert_eq!(status(&gatepass.connect("a.test:443").await.0), 403, "the listener is gone from the configuration");
}

#[tokio::test]
async fn a_reload_leads_a_reverse_listener_to_its_new_upstream() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("g.yaml");
    let yaml = |host: &str| {
        let rules = rule("a.test", origin.address, "") + &rule("b.test", origin.address, "");
        format!("listeners: [{{ listen: 127.0.0.1:0, mode: reverse, upstream: 'https://{host}' }}]\nrules:\n{rules}")
    };
    std::fs::write(&file, yaml("a.test")).unwrap();
    let mut config = request("", &[("CA", &pki.ca_pem)]);
    config.inline = None;
    config.files = vec![file.clone()];
    let gatepass = Gatepass::from(config).await;
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", gatepass.address);
    assert_eq!(gatepass.running.listening[0].0, format!("http://{}", gatepass.address));
    for host in ["a.test", "b.test", "a.test"] {
        std::fs::write(&file, yaml(host)).unwrap();
        gatepass.running.reload().await;
        assert_eq!(status(&gatepass.ask(&get).await), 200);
        assert_eq!(origin.last().headers["host"], host);
    }
}

#[tokio::test]
async fn a_reverse_listener_serves_clients_that_know_no_proxy() {
    let pki = Pki::new();
    let origin = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "listeners:\n  - listen: 127.0.0.1:0\n    mode: reverse\n    upstream: https://a.test\nrules:\n{}",
        rule("a.test", origin.address, "bearer: t0k")
    );
    let gatepass = Gatepass::from(request(&yaml, &[("CA", &pki.ca_pem)])).await;
    let answer = gatepass.ask(&format!("GET /v1 HTTP/1.1\r\nHost: {}\r\n\r\n", gatepass.address)).await;
    assert!(answer.contains("saw GET /v1 by nobody auth Bearer t0k"), "{answer}");
    assert_eq!(origin.last().headers["host"], "a.test");
}
