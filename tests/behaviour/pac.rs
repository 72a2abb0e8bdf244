//! PAC scripts and `resolve`: which way is gone, and what happens where there is none.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// A proxy that opens tunnels to ports of this machine, and writes down what it was told.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let log = heads.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let log = log.clone();
                tokio::spawn(async move {
                    let request = head(&mut stream).await;
                    log.lock().unwrap().push(request.clone());
                    stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.unwrap();
                    let target = request.split(' ').nth(1).unwrap();
                    if answer.starts_with("200") {
                        let port: u16 = target.rsplit_once(':').unwrap().1.parse().unwrap();
                        let mut origin = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                        let _ = copy_bidirectional(&mut stream, &mut origin).await;
                    }
                });
            }
        });
        Self { address, heads }
    }

    /// Method and target of what it was told.
    fn told(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        heads.iter().map(|head| head.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
    }
}

/// Nothing listens there: it was bound a moment ago.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

struct Setting {
    pki: Pki,
    origin: Origin,
    folder: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Self {
        let pki = Pki::new();
        let origin = Origin::start(&pki, OriginOptions { alpn: &["http/1.1"], ..OriginOptions::default() }).await;
        Self { pki, origin, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("proxy.pac")
    }

    fn write(&self, body: &str) {
        write(&self.file(), body);
    }

    /// Two hosts at the origin, by name.
    fn yaml(&self, via: &str) -> String {
        let port = self.origin.address.port();
        let rules: String = ["a.test", "b.test"]
            .iter()
            .map(|host| format!("  - host: {host}\n    port: {port}\n    ca_bundle: {{ files: [\"${{CA}}\"], system_roots: false }}\n    bearer: t0k\n"))
            .collect();
        format!("resolve: {{ a.test: 127.0.0.1, b.test: [127.0.0.1] }}\nupstream_proxy: {via}\nrules:\n{rules}")
    }

    async fn start(&self, more: &str) -> Gatepass {
        let via = format!("{{ pac: '{}'{more} }}", self.file().display());
        Gatepass::start(&self.yaml(&via), &[("CA", &self.pki.ca_pem)]).await
    }

    async fn get(&self, gatepass: &Gatepass, host: &str) -> String {
        let target = format!("{host}:{}", self.origin.address.port());
        let (answer, stream) = gatepass.connect(&target).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut stream = tls(stream, host, &[gatepass::tls::settings::Alpn::Http11], gatepass.ca()).await.unwrap();
        ask(&mut stream, &format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n")).await
    }
}

fn write(file: &Path, body: &str) {
    std::fs::write(file, format!("function FindProxyForURL(url, host) {{\n{body}\n}}")).unwrap();
}

const WELCOME: &str = "auth Bearer t0k";

#[tokio::test]
async fn a_script_sends_one_host_by_a_proxy_and_another_straight() {
    let (setting, proxy) = (Setting::new().await, Proxy::start("200 OK").await);
    let port = setting.origin.address.port();
    setting.write(&format!(
        "if (url != 'https://' + host + ':{port}/') throw url;\nreturn dnsDomainIs(host, 'a.test') && isInNet(host, '127.0.0.0', '255.0.0.0') ? 'PROXY {}' : 'DIRECT';",
        proxy.address
    ));
    let gatepass = setting.start("").await;
    assert!(setting.get(&gatepass, "a.test").await.contains(WELCOME));
    assert!(setting.get(&gatepass, "b.test").await.contains(WELCOME));
    assert_eq!(proxy.told(), [format!("CONNECT a.test:{port}")]);
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_is_passed_over_and_one_that_refuses_is_not() {
    let setting = Setting::new().await;
    let (dead, good, refusing) = (nobody().await, Proxy::start("200 OK").await, Proxy::start("403 No").await);
    setting.write(&format!(
        "return host == 'a.test' ? 'PROXY {dead}; PROXY {}' : 'PROXY {}; DIRECT';",
        good.address, refusing.address
    ));
    let gatepass = setting.start("").await;
    for _ in 0..2 {
        assert!(setting.get(&gatepass, "a.test").await.contains(WELCOME));
    }
    assert!(!good.told().is_empty());
    // What has come to life meanwhile comes last for a while: the one that served goes on serving.
    let revived = TcpListener::bind(dead).await.unwrap();
    assert!(setting.get(&gatepass, "a.test").await.contains(WELCOME));
    assert!(tokio::time::timeout(Duration::from_millis(20), revived.accept()).await.is_err());

    let answer = setting.get(&gatepass, "b.test").await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(answer.contains(&format!("upstream proxy {}", refusing.address)) && answer.contains("403"), "{answer}");
}

#[tokio::test]
async fn where_no_way_is_left_the_answer_names_all_that_was_tried() {
    let setting = Setting::new().await;
    let (one, two) = (nobody().await, nobody().await);
    setting.write(&format!("return 'PROXY {one}; SOCKS5 {two}';"));
    let gatepass = setting.start("").await;
    let answer = setting.get(&gatepass, "a.test").await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(answer.contains(&one.to_string()) && answer.contains(&two.to_string()), "{answer}");
    assert!(setting.origin.seen().is_empty());
}

#[tokio::test]
async fn a_script_that_fails_for_a_host_is_a_502_with_its_line_and_nothing_goes_straight() {
    let setting = Setting::new().await;
    setting.write("if (host == 'b.test') return 'DIRECT';\nreturn proxyFor[host];");
    let gatepass = setting.start("").await;
    let answer = setting.get(&gatepass, "a.test").await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(
        answer.contains("proxy.pac does not say how to reach https://a.test")
            && answer.contains("line 3: proxyFor is not defined"),
        "{answer}"
    );
    assert!(setting.origin.seen().is_empty());
    assert!(setting.get(&gatepass, "b.test").await.contains(WELCOME));
}

#[tokio::test]
async fn a_script_is_read_again_when_its_file_changes_and_a_broken_one_does_not_come_into_force() {
    let (setting, proxy) = (Setting::new().await, Proxy::start("200 OK").await);
    setting.write("return 'DIRECT';");
    let gatepass = setting.start("").await;
    assert!(setting.get(&gatepass, "a.test").await.contains(WELCOME));
    setting.write("return (");
    gatepass.running.reload().await;
    assert!(setting.get(&gatepass, "a.test").await.contains(WELCOME));
    setting.write(&format!("return 'PROXY {}';", proxy.address));
    gatepass.running.reload().await;
    assert!(setting.get(&gatepass, "a.test").await.contains(WELCOME));
    assert_eq!(proxy.told().len(), 1);
}

#[tokio::test]
async fn a_script_with_a_url_is_fetched_without_a_proxy_and_without_it_nothing_leaves() {
    let (setting, proxy) = (Setting::new().await, Proxy::start("200 OK").await);
    let script = Arc::new(Mutex::new(None::<String>));
    let (served, options) = (script.clone(), OriginOptions { tls: false, ..OriginOptions::default() });
    let server = Origin::answering(&setting.pki, options, move |_| match &*served.lock().unwrap() {
        Some(script) => text(script.clone()),
        None => {
            let mut answer = text("gone");
            *answer.status_mut() = http::StatusCode::NOT_FOUND;
            answer
        }
    })
    .await;
    let yaml = setting.yaml(&format!("{{ pac: 'http://{}/wpad.dat?key=k' }}", server.address));
    let env = [("CA", setting.pki.ca_pem.as_str())];
    let gatepass = Gatepass::start(&yaml, &env).await;
    let answer = setting.get(&gatepass, "a.test").await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(answer.contains("/wpad.dat answered 404") && !answer.contains("key=k"), "{answer}");
    assert_eq!((setting.origin.seen().len(), server.seen().len()), (0, 1), "a failure is not asked for again at once");

    *script.lock().unwrap() = Some(format!("function FindProxyForURL() {{ return 'PROXY {}'; }}", proxy.address));
    let gatepass = Gatepass::start(&format!("limits: {{ pac_refresh: 1ms }}\n{yaml}"), &env).await;
    for host in ["a.test", "b.test"] {
        assert!(setting.get(&gatepass, host).await.contains(WELCOME));
    }
    assert_eq!(proxy.told().len(), 2);
    // Another comes into force for connections that are kept, too.
    *script.lock().unwrap() = Some(format!("function FindProxyForURL() {{ return 'PROXY {}'; }}", nobody().await));
    gatepass.running.context.gate().sweep();
    let ended = tokio::time::timeout(PATIENCE, async {
        while status(&setting.get(&gatepass, "a.test").await) != 502 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            gatepass.running.context.gate().sweep();
        }
    });
    assert!(ended.await.is_ok() && proxy.told().len() == 2, "{:?}", proxy.told());
    // It is gone: the last one stays.
    *script.lock().unwrap() = Some("function FindProxyForURL() { return 'DIRECT'; }".to_owned());
    while status(&setting.get(&gatepass, "a.test").await) != 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        gatepass.running.context.gate().sweep();
    }
    *script.lock().unwrap() = None;
    let before = server.seen().len();
    for _ in 0..2 {
        assert!(setting.get(&gatepass, "a.test").await.contains(WELCOME));
    }
    assert!(server.seen().len() <= before + 2, "refreshed once, then left alone");
}

#[tokio::test]
async fn only_proxies_that_the_configuration_names_are_told_the_user() {
    let setting = Setting::new().await;
    let (named, other) = (Proxy::start("200 OK").await, Proxy::start("200 OK").await);
    setting.write(&format!("return host == 'a.test' ? 'PROXY {}' : 'PROXY {}';", named.address, other.address));
    let gatepass = setting.start(&format!(", username: corp, password: pw, auth: basic, proxies: ['{}']", named.address)).await;
    for host in ["a.test", "b.test"] {
        assert!(setting.get(&gatepass, host).await.contains(WELCOME));
    }
    let told = |proxy: &Proxy| proxy.heads.lock().unwrap()[0].contains("Proxy-Authorization: Basic Y29ycDpwdw==");
    assert!(told(&named) && !told(&other));
}

#[tokio::test]
async fn hosts_of_no_proxy_are_not_the_scripts_to_decide() {
    let setting = Setting::new().await;
    setting.write(&format!("return 'PROXY {}';", nobody().await));
    let gatepass = setting.start(", no_proxy: [a.test]").await;
    assert!(setting.get(&gatepass, "a.test").await.contains(WELCOME));
    assert_eq!(status(&setting.get(&gatepass, "b.test").await), 502);
}

#[tokio::test]
async fn mistakes_in_scripts_and_in_resolve_are_found_at_their_place() {
    let setting = Setting::new().await;
    let file = setting.file();
    setting.write("return (");
    for (yaml, words) in [
        (format!("upstream_proxy: {{ pac: {} }}", file.display()), "proxy.pac: line 3"),
        ("upstream_proxy: { pac: nowhere.pac }".to_owned(), "there is no such file"),
        ("upstream_proxy: { pac: 'http://u:p@a.test/' }".to_owned(), "is not a URL"),
        (format!("upstream_proxy: {{ pac: {}, username: u, password: p }}", file.display()), "proxies: [HOST:PORT]"),
        (format!("upstream_proxy: {{ pac: {}, url: 'http://p' }}", file.display()), "both given"),
        ("upstream_proxy: { url: 'http://p', proxies: [p] }".to_owned(), "leave it out"),
        ("resolve: { '*.a.test': 127.0.0.1 }".to_owned(), "whole names"),
        ("resolve: { a.test: b.test }".to_owned(), "not an IP address"),
        ("resolve: { a.test: '127.0.0.1:80' }".to_owned(), "not an IP address"),
        ("resolve: { 10.0.0.1: 127.0.0.1 }".to_owned(), "an address already"),
        ("resolve: { a.test: [] }".to_owned(), "no address is given"),
    ] {
        let report = gatepass::serve::build(&request(&yaml, &[])).await.err().expect(&yaml);
        let text = report.render(false);
        assert!(text.contains(words) && text.contains("test.yaml:1:"), "{yaml}: {text}");
    }
}

#[tokio::test]
async fn the_address_of_resolve_is_dialled_and_may_be_denied_like_any() {
    let setting = Setting::new().await;
    let yaml = setting.yaml("none");
    let env = [("CA", setting.pki.ca_pem.as_str())];
    let gatepass = Gatepass::start(&yaml, &env).await;
    assert!(setting.get(&gatepass, "a.test").await.contains(WELCOME));
    let host = setting.origin.last().headers["host"].to_str().unwrap().to_owned();
    assert_eq!(host, format!("a.test:{}", setting.origin.address.port()));
    let gatepass = Gatepass::start(&format!("egress: {{ deny: [loopback] }}\n{yaml}"), &env).await;
    let answer = setting.get(&gatepass, "a.test").await;
    assert_eq!(status(&answer), 403, "{answer}");
}
