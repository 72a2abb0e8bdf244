//! Every way in leads to the same rules: SOCKS 5, TLS to gatepass itself, Unix sockets, reverse listeners,
//! load balancers; and each asks who calls.

use gatepass::tls::settings::Alpn;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::support::*;

struct Scene {
    origin: Origin,
    pki: Pki,
}

impl Scene {
    async fn new() -> Self {
        let pki = Pki::new();
        Self { origin: Origin::start(&pki, OriginOptions { ask: true, ..OriginOptions::default() }).await, pki }
    }

    /// a.test with a certificate and a token; `listeners` beside the plain one.
    async fn gatepass(&self, listeners: &str, more: &str) -> Gatepass {
        let own =
            rule("a.test", self.origin.address, &format!("client_certificate: {{ cert: \"${{ALICE}}\" }}\nbearer: t0k\n{more}"));
        let listeners = if listeners.is_empty() { String::new() } else { format!("listeners:\n{listeners}") };
        let alice = self.pki.client("alice");
        Gatepass::start(&format!("{listeners}rules:\n{own}"), &[("CA", &self.pki.ca_pem), ("ALICE", &alice)]).await
    }
}

const WELCOME: &str = "by alice auth Bearer t0k";

/// The method that was chosen, the answer to the password, the reply.
async fn socks(stream: &mut TcpStream, methods: &[u8], password: Option<(&str, &str)>, host: &str, port: u16) -> (u8, u8, u8) {
    let greeting = [&[5, methods.len() as u8], methods].concat();
    stream.write_all(&greeting).await.unwrap();
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.unwrap();
    let mut verdict = [0, 0];
    if let (2, Some((user, password))) = (chosen[1], password) {
        let said = [&[1, user.len() as u8], user.as_bytes(), &[password.len() as u8], password.as_bytes()].concat();
        stream.write_all(&said).await.unwrap();
        stream.read_exact(&mut verdict).await.unwrap();
    }
    if chosen[1] == 0xff || verdict[1] != 0 {
        return (chosen[1], verdict[1], 0xff);
    }
    let request = [&[5, 1, 0, 3, host.len() as u8], host.as_bytes(), &port.to_be_bytes()].concat();
    stream.write_all(&request).await.unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await.unwrap();
    (chosen[1], verdict[1], reply[1])
}

async fn get(gate: &Gatepass, stream: TcpStream, host: &str) -> String {
    let mut tls = tls(stream, host, &[Alpn::Http11], gate.ca()).await.unwrap();
    ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn socks_5_leads_to_the_rules_by_the_name_that_gatepass_resolves() {
    let scene = Scene::new().await;
    let gate = scene.gatepass("", "").await;
    let mut stream = gate.dial().await;
    assert_eq!(socks(&mut stream, &[2], Some(("any", "thing")), "a.test", 443).await, (2, 0, 0));
    assert!(get(&gate, stream, "a.test").await.contains(WELCOME));
    let mut stream = gate.dial().await;
    assert_eq!(socks(&mut stream, &[0, 2], None, "a.test", 443).await, (0, 0, 0));
    // What is not the tunnel's host gets no credential.
    let mut tls = tls(stream, "a.test", &[Alpn::Http11], gate.ca()).await.unwrap();
    assert_eq!(status(&ask(&mut tls, "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").await), 421);
    let mut stream = gate.dial().await;
    assert_eq!(socks(&mut stream, &[0], None, "nowhere.invalid", 443).await.2, 4);
    let mut stream = gate.dial().await;
    assert_eq!(socks(&mut stream, &[1], None, "a.test", 443).await.0, 0xff);
}

#[tokio::test]
async fn socks_5_asks_for_the_password_that_access_asks_for() {
    let scene = Scene::new().await;
    let listener = "  - listen: 127.0.0.1:0\n    access: { users: { ci: s3cret } }\n";
    let gate = scene.gatepass(listener, "clients: [ci]").await;
    let guarded = gate.running.addresses[1].0;
    let dial = || TcpStream::connect(guarded);
    let mut stream = dial().await.unwrap();
    assert_eq!(socks(&mut stream, &[0, 2], Some(("ci", "s3cret")), "a.test", 443).await, (2, 0, 0));
    assert!(get(&gate, stream, "a.test").await.contains(WELCOME));
    for wrong in [("ci", "wrong"), ("nobody", "s3cret"), ("", "")] {
        assert_eq!(socks(&mut dial().await.unwrap(), &[2], Some(wrong), "a.test", 443).await, (2, 1, 0xff), "{wrong:?}");
    }
    assert_eq!(socks(&mut dial().await.unwrap(), &[0], None, "a.test", 443).await, (0, 0, 2));
    assert_eq!(scene.origin.seen().len(), 1);
}

#[tokio::test]
async fn a_denied_host_is_a_socks_reply_of_its_own() {
    let scene = Scene::new().await;
    let gate = scene.gatepass("", "action: deny").await;
    assert_eq!(socks(&mut gate.dial().await, &[0], None, "a.test", 443).await.2, 2);
}

#[tokio::test]
async fn tls_to_gatepass_itself_is_spoken_on_the_same_port() {
    let scene = Scene::new().await;
    let gate = scene.gatepass("", "").await;
    for name in ["localhost", "127.0.0.1"] {
        let mut outer = tls(gate.dial().await, name, &[Alpn::Http11], gate.ca()).await.unwrap();
        outer.write_all(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").await.unwrap();
        assert_eq!(status(&head(&mut outer).await), 200);
        let mut page = tls(gate.dial().await, name, &[Alpn::Http11], gate.ca()).await.unwrap();
        assert_eq!(status(&ask(&mut page, "GET /ca.pem HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await), 200);
    }
}

async fn absolute<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, host: &str) -> String {
    ask(stream, &format!("GET https://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn a_unix_socket_is_for_its_own_user_unless_others_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (own, named) = (dir.path().join("own.sock"), dir.path().join("named.sock"));
    let uid = rustix::process::geteuid().as_raw();
    let listeners = format!(
        "  - listen: unix:{}\n  - listen: unix:{}\n    access: {{ uids: [{}] }}\n",
        own.display(),
        named.display(),
        uid + 1
    );
    let gate = scene.gatepass(&listeners, &format!("clients: [\"uid:{uid}\"]")).await;
    assert!(absolute(&mut UnixStream::connect(&own).await.unwrap(), "a.test").await.contains(WELCOME));
    let refused = absolute(&mut UnixStream::connect(&named).await.unwrap(), "a.test").await;
    assert!(status(&refused) == 403 && refused.contains("may not call here"), "{refused}");
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&own), mode(&named)), (0o600, 0o666));
    gate.running.stop().await;
    assert!(!own.exists() && !named.exists());
}

#[tokio::test]
async fn a_socket_left_behind_is_taken_over_and_one_in_use_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gp.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let yaml = format!("listeners:\n  - listen: unix:{}\n", path.display());
    let first = Gatepass::start(&yaml, &[]).await;
    let request = request(&format!("listen: 127.0.0.1:0\n{yaml}"), &[]);
    let built = gatepass::serve::build(&request).await.unwrap_or_else(|report| panic!("{}", report.render(false)));
    let started = gatepass::serve::start(built, request, gatepass::observe::Observe::default()).await;
    assert!(matches!(started, Err(gatepass::serve::StartError::Other { message, .. }) if message.contains("already")));
    drop(first);
}

#[tokio::test]
async fn a_reverse_listener_speaks_http_1_and_2_in_clear_and_in_tls() {
    let scene = Scene::new().await;
    let gate = scene.gatepass("  - listen: 127.0.0.1:0\n    mode: reverse\n    upstream: https://a.test\n", "").await;
    let reverse = gate.running.addresses[1].0;
    let dial = || TcpStream::connect(reverse);
    let request = "GET /x HTTP/1.1\r\nHost: localhost:9001\r\nConnection: close\r\n\r\n";
    assert!(ask(&mut dial().await.unwrap(), request).await.contains("saw GET /x by alice auth Bearer t0k"));
    let mut secured = tls(dial().await.unwrap(), "localhost", &[Alpn::Http11], gate.ca()).await.unwrap();
    assert!(ask(&mut secured, request).await.contains(WELCOME));
    let clear: Box<dyn Both> = Box::new(dial().await.unwrap());
    let secured: Box<dyn Both> = Box::new(tls(dial().await.unwrap(), "localhost", &[Alpn::H2], gate.ca()).await.unwrap());
    for stream in [clear, secured] {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://localhost:9001/x").body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(WELCOME));
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

#[tokio::test]
async fn a_load_balancer_says_who_calls_and_nobody_else_does() {
    let scene = Scene::new().await;
    let listeners = "  - listen: 127.0.0.1:0\n    proxy_protocol: [127.0.0.0/8]\n    access: { cidrs: [192.0.2.0/24] }\n  - listen: 127.0.0.1:0\n    proxy_protocol: [10.0.0.0/8]\n";
    let gate = scene.gatepass(listeners, "clients: [192.0.2.7]").await;
    let [balanced, elsewhere] = [1, 2].map(|n| gate.running.addresses[n].0);
    let said = |header: &'static str, to| async move {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(header.as_bytes()).await.unwrap();
        absolute(&mut stream, "a.test").await
    };
    assert!(said("PROXY TCP4 192.0.2.7 127.0.0.1 4711 8118\r\n", balanced).await.contains(WELCOME));
    assert_eq!(status(&said("PROXY TCP4 198.51.100.7 127.0.0.1 4711 8118\r\n", balanced).await), 403);
    assert_eq!(said("", balanced).await, "");
    assert_eq!(said("PROXY TCP4 192.0.2.7 127.0.0.1 4711 8118\r\n", elsewhere).await, "");
    assert_eq!(scene.origin.seen().len(), 1);
}

#[tokio::test]
async fn processes_of_the_same_user_may_be_told_from_others() {
    let scene = Scene::new().await;
    let uid = rustix::process::geteuid().as_raw();
    let gate =
        scene.gatepass("  - listen: 127.0.0.1:0\n    access: { same_user: true }\n", &format!("clients: [\"uid:{uid}\"]")).await;
    let mut stream = TcpStream::connect(gate.running.addresses[1].0).await.unwrap();
    assert!(absolute(&mut stream, "a.test").await.contains(WELCOME));
    // The plain listener asks nobody, so the rule for this user is not for its callers.
    assert!(!absolute(&mut gate.dial().await, "a.test").await.contains(WELCOME));
}

#[tokio::test]
async fn a_listener_with_a_certificate_of_its_own_takes_no_password_in_clear() {
    let scene = Scene::new().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("listener.pem");
    std::fs::write(&file, scene.pki.client("localhost")).unwrap();
    let listeners = format!(
        "  - listen: 127.0.0.1:0\n    tls: {{ cert: {0}, key: {0} }}\n    access: {{ users: {{ ci: s3cret }} }}\n",
        file.display()
    );
    let gate = scene.gatepass(&listeners, "").await;
    let mut stream = TcpStream::connect(gate.running.addresses[1].0).await.unwrap();
    let answer = absolute(&mut stream, "a.test").await;
    assert!(status(&answer) == 400 && answer.contains("https://"), "{answer}");
    assert!(scene.origin.seen().is_empty());
}

/// From this address of ours, so that a listener can tell it from the others.
async fn dial_from(from: &str, to: std::net::SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn whatever_strangers_open_the_callers_that_a_listener_knows_are_served() {
    let scene = Scene::new().await;
    let listener = "  - listen: 127.0.0.1:0\n    access: { cidrs: [127.0.0.2] }\nlimits: { connections: 6, strangers: 2 }\n";
    let gate = scene.gatepass(listener, "").await;
    let guarded = gate.running.addresses[1].0;
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(dial_from("127.0.0.1", guarded).await);
    }
    let mut known = dial_from("127.0.0.2", guarded).await;
    assert!(absolute(&mut known, "a.test").await.contains(WELCOME));
    // Those within the bound are told why; the others are closed unread.
    let mut told = 0;
    for mut stranger in strangers {
        let answer = tokio::time::timeout(PATIENCE, async {
            let _ = stream_ask(&mut stranger).await;
            let mut answer = Vec::new();
            let _ = stranger.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        });
        let answer = answer.await.unwrap();
        told += usize::from(answer.contains("may not call here"));
        assert!(answer.is_empty() || status(&answer) == 403, "{answer}");
    }
    assert_eq!(told, 2);
    assert_eq!(scene.origin.seen().len(), 1);
}

async fn stream_ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await
}

#[tokio::test]
async fn a_caller_that_closed_at_once_is_nobody_and_its_request_carries_nothing() {
    let scene = Scene::new().await;
    let gate = scene.gatepass("  - listen: 127.0.0.1:0\n    access: { same_user: true }\n", "").await;
    let guarded = gate.running.addresses[1].0;
    // While the runtime's one thread is here, the connection is not yet accepted.
    let mut stream = std::net::TcpStream::connect(guarded).unwrap();
    std::io::Write::write_all(&mut stream, b"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    drop(stream);
    let mut open = TcpStream::connect(guarded).await.unwrap();
    assert!(absolute(&mut open, "a.test").await.contains(WELCOME));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(scene.origin.seen().len(), 1);
}

#[tokio::test]
async fn the_pages_of_the_port_are_for_those_that_may_call() {
    let scene = Scene::new().await;
    let listeners = "  - listen: 127.0.0.1:0\n    access: { users: { ci: s3cret } }\n  - listen: 127.0.0.1:0\n    access: { cidrs: [127.0.0.2] }\n";
    let gate = scene.gatepass(listeners, "").await;
    let page = |to: std::net::SocketAddr, path: &'static str, more: &'static str| async move {
        let mut stream = TcpStream::connect(to).await.unwrap();
        ask(&mut stream, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n")).await
    };
    for path in ["/", "/proxy.pac", "/ca.pem"] {
        let [open, users, cidrs] = [0, 1, 2].map(|n| gate.running.addresses[n].0);
        assert_eq!(status(&page(open, path, "").await), 200);
        for field in ["Authorization", "Proxy-Authorization"] {
            let more: &'static str = format!("{field}: Basic Y2k6czNjcmV0\r\n").leak();
            assert_eq!(status(&page(users, path, more).await), 200, "{path} {field}");
        }
        assert_eq!(status(&page(users, path, "").await), 407, "{path}");
        assert_eq!(status(&page(users, path, "Authorization: Basic Y2k6d3Jvbmc=\r\n").await), 407, "{path}");
        assert_eq!(status(&page(cidrs, path, "").await), 403, "{path}");
    }
}

#[tokio::test]
async fn an_address_that_whoever_connects_may_name_lets_nobody_in() {
    let scene = Scene::new().await;
    let listener = "  - listen: 127.0.0.1:0\n    proxy_protocol: true\n    access: { cidrs: [192.0.2.0/24] }\n  - listen: 127.0.0.1:0\n    proxy_protocol: true\n  - listen: 127.0.0.1:0\n    proxy_protocol: { from: [127.0.0.1] }\n    access: { cidrs: [192.0.2.0/24] }\n";
    let gate = scene.gatepass(listener, "clients: [192.0.2.7]").await;
    let said = |n: usize| {
        let to = gate.running.addresses[n].0;
        async move {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.write_all(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 8118\r\n").await.unwrap();
            absolute(&mut stream, "a.test").await
        }
    };
    assert_eq!(status(&said(1).await), 403);
    assert!(!said(2).await.contains(WELCOME), "nor is it a caller that a rule names");
    assert!(said(3).await.contains(WELCOME));
    let yaml = |setting: &str| {
        format!("listeners:\n  - {{ listen: \"127.0.0.1:0\", proxy_protocol: {setting}, access: {{ cidrs: [10.0.0.0/8] }} }}\n")
    };
    for (setting, wanted) in [("true", "name any address"), ("{ from: [10.0.0.0/8] }", "")] {
        let built = gatepass::serve::build(&request(&yaml(setting), &[]))
            .await
            .unwrap_or_else(|report| panic!("{}", report.render(false)));
        assert!(
            built.report.render(false).contains(wanted)
                && (wanted.is_empty() != built.report.render(false).contains("name any address"))
        );
    }
}
