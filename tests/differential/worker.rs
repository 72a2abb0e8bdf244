//! One worker: origins of its own, one stage, and connections that are kept from case to case where these allow it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatepass::tls::provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::case::{Case, Content, Field, Framing, Mode, Protocol};
use super::client::{self, Address, Connection};
use super::h1::Reader;
use super::h2::H2;
use super::heard::{End, Heard};
use super::link::{Link, handle};
use super::origin;
use super::stage::Stage;
use super::support::{Gatepass, Pki, request};

/// Longer than anything here takes; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(8);

/// What both sides heard.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Observation {
    pub client: Heard,
    pub origin: Vec<Heard>,
    /// The client's connection had carried an earlier case.
    pub reused: bool,
}

/// A case, as it is directly and as it is through gatepass.
pub struct Pair {
    pub case: Case,
    pub direct: Observation,
    pub through: Observation,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Route {
    Direct(Protocol),
    Through(Protocol, Protocol, Mode),
}

pub struct Worker {
    number: usize,
    /// Of the origins that are asked directly, and of those behind gatepass.
    stages: [Arc<Stage>; 2],
    clear: [SocketAddr; 2],
    gatepass: Option<Arc<Ways>>,
    kept: HashMap<Route, Connection>,
    /// Part of the host's name: a new one has pools of its own.
    generation: u64,
}

/// The gatepass under test and the ways to it.
struct Ways {
    gatepass: Gatepass,
    reverse: Vec<SocketAddr>,
    connectors: [TlsConnector; 2],
}

/// One gatepass, and workers that use it side by side.
pub async fn workers(count: usize) -> Vec<Worker> {
    let pki = Pki::new();
    let names: Vec<String> = (0..count).flat_map(|n| [format!("*.w{n}-h1.test"), format!("*.w{n}-h2.test")]).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pem = pki.server(&names);
    let mut workers = Vec::new();
    let (mut listeners, mut rules) = (String::new(), String::new());
    for number in 0..count {
        let stages = [Stage::new(), Stage::new()];
        let clear = [start(Protocol::H1, None, &stages[0]).await, start(Protocol::H2, None, &stages[0]).await];
        let stage = &stages[1];
        let behind = start(Protocol::H1, None, stage).await;
        let tls = [start(Protocol::H1, Some(&pem), stage).await, start(Protocol::H2, Some(&pem), stage).await];
        listeners.push_str(&format!("  - listen: 127.0.0.1:0\n    mode: reverse\n    upstream: http://r.w{number}-c1.test\n"));
        let trust = "ca_bundle: { files: [\"${CA}\"], system_roots: false }";
        rules.push_str(&format!("  - {{ host: \"*.w{number}-h1.test\", connect_to: \"{}\", {trust} }}\n", tls[0]));
        rules.push_str(&format!(
            "  - {{ host: \"*.w{number}-h2.test\", connect_to: \"{}\", {trust}, tls: {{ alpn: [h2] }} }}\n",
            tls[1]
        ));
        rules.push_str(&format!("  - {{ host: \"*.w{number}-c1.test\", scheme: http, connect_to: \"{behind}\" }}\n"));
        workers.push(Worker { number, stages, clear, gatepass: None, kept: HashMap::new(), generation: 0 });
    }
    let yaml = format!("listeners:\n  - listen: 127.0.0.1:0\n{listeners}rules:\n{rules}");
    let gatepass = Gatepass::from(request(&yaml, &[("CA", &pki.ca_pem)])).await;
    let reverse = gatepass.running.addresses[1..].iter().map(|(address, ..)| *address).collect();
    let connectors = [connector(&gatepass, b"http/1.1"), connector(&gatepass, b"h2")];
    let ways = Arc::new(Ways { gatepass, reverse, connectors });
    for worker in &mut workers {
        worker.gatepass = Some(ways.clone());
    }
    workers
}

/// As gatepass has it, with the cheapest key exchange.
fn quick() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = (*provider()).clone();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    Arc::new(provider)
}

fn connector(gatepass: &Gatepass, protocol: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(gatepass.ca().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(quick()).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn start(protocol: Protocol, pem: Option<&str>, stage: &Arc<Stage>) -> SocketAddr {
    let acceptor = pem.map(|pem| {
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(quick()).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![if protocol == Protocol::H2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        TlsAcceptor::from(Arc::new(config))
    });
    origin::start(protocol, acceptor, stage.clone()).await
}

/// The same request without what one protocol alone takes amiss.
fn asking(request: &Content) -> Content {
    let kept = |field: &&Field| ["expect", "te", "connection", "upgrade"].iter().any(|name| field.is(name));
    Content {
        fields: request.fields.iter().filter(kept).cloned().collect(),
        framing: if request.framing == Framing::None { Framing::None } else { Framing::Length },
        pieces: request.pieces.clone(),
        ..Content::default()
    }
}

fn index(protocol: Protocol) -> usize {
    usize::from(protocol == Protocol::H2)
}

impl Worker {
    /// Plays a case directly and through gatepass. Where the protocols differ there is no direct way: then what
    /// the origin should hear is what it hears of the client in the client's protocol, and what the client
    /// should hear is what it hears of the origin in the origin's.
    pub async fn play(&mut self, case: &Case) -> Pair {
        let shared = Arc::new(case.clone());
        let host = self.host(case);
        let direct = match case.client == case.origin {
            true => self.run(&shared, Route::Direct(case.client), &host).await,
            false => {
                // What is said in one protocol cannot be cut in the other.
                let (mut asked, mut answered) = (case.clone(), case.clone());
                asked.answer = Content { framing: Framing::Length, ..Content::default() };
                answered.request = asking(&case.request);
                let origin = self.run(&Arc::new(asked), Route::Direct(case.client), &host).await.origin;
                let client = self.run(&Arc::new(answered), Route::Direct(case.origin), &host).await.client;
                Observation { client, origin, reused: false }
            }
        };
        let through = self.run(&shared, Route::Through(case.client, case.origin, case.mode), &host).await;
        Pair { case: case.clone(), direct, through }
    }

    /// From here on nothing of earlier cases is used again.
    pub async fn renew(&mut self, mode: Mode) {
        self.kept.clear();
        self.stages.iter().for_each(|stage| stage.renew());
        self.generation += 1;
        if mode == Mode::Reverse {
            // The host there is always the same: its pool must have seen the connections end.
            self.stages[1].renewed(PATIENCE).await;
            // One that was reset does not tell when the other side knows.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn host(&self, case: &Case) -> String {
        let Self { number, generation, .. } = self;
        match (case.mode, case.origin) {
            (Mode::Reverse, _) => format!("r.w{number}-c1.test"),
            (Mode::Forward, _) => format!("g{generation}.w{number}-c1.test"),
            (Mode::Intercepted, Protocol::H1) => format!("g{generation}.w{number}-h1.test"),
            (Mode::Intercepted, Protocol::H2) => format!("g{generation}.w{number}-h2.test"),
        }
    }

    async fn run(&mut self, case: &Arc<Case>, route: Route, host: &str) -> Observation {
        let stage = self.stages[usize::from(matches!(route, Route::Through(..)))].clone();
        stage.set(case.clone());
        let mut client = Heard::default();
        let reused = self.kept.contains_key(&route);
        let within = tokio::time::timeout(PATIENCE, async {
            let connection = match self.kept.remove(&route) {
                Some(connection) => connection,
                None => self.open(route, host).await,
            };
            let (absolute, scheme) = match route {
                Route::Through(_, _, Mode::Forward) => (true, "http"),
                Route::Through(_, _, Mode::Reverse) => (false, "http"),
                Route::Through(..) | Route::Direct(_) => (false, "https"),
            };
            client::play(connection, case, &Address { absolute, scheme, host }, &mut client).await
        })
        .await;
        match within {
            Ok(Some(connection)) => {
                self.kept.insert(route, connection);
            }
            Ok(None) => {}
            Err(_) => client.end = End::Hang,
        }
        if case.request.cut.is_some() {
            // Whether anything reaches the origin of a request that broke off is seen a little later.
            stage.begun(Duration::from_millis(30)).await;
        }
        let (mut origin, settled) = stage.take(PATIENCE / 2).await;
        // What comes late from a case that broke off names the host of its time.
        origin.retain(|heard| heard.values("host").first().is_none_or(|named| *named == host.as_bytes()));
        if !settled && let Some(last) = origin.last_mut() {
            last.end = End::Hang;
        }
        if matches!(route, Route::Direct(_)) && !self.kept.contains_key(&route) {
            self.kept.retain(|route, _| !matches!(route, Route::Direct(_)));
            stage.renew();
        }
        Observation { client, origin, reused }
    }

    async fn open(&self, route: Route, host: &str) -> Connection {
        let ways = self.gatepass.as_ref().unwrap();
        let (link, protocol) = match route {
            Route::Direct(protocol) => (Link::clear(dial(self.clear[index(protocol)]).await), protocol),
            Route::Through(client, _, Mode::Forward) => (Link::clear(dial(ways.gatepass.address).await), client),
            Route::Through(client, _, Mode::Reverse) => (Link::clear(dial(ways.reverse[self.number]).await), client),
            Route::Through(client, _, Mode::Intercepted) => {
                let stream = dial(ways.gatepass.address).await;
                let socket = handle(&stream);
                (Link::over(tunnel(stream, host, &ways.connectors[index(client)]).await, socket), client)
            }
        };
        match protocol {
            Protocol::H1 => Connection::H1(link),
            Protocol::H2 => Connection::H2(Box::new(H2::client(link).await.unwrap())),
        }
    }
}

async fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

async fn tunnel(mut stream: TcpStream, host: &str, connector: &TlsConnector) -> tokio_rustls::client::TlsStream<TcpStream> {
    use tokio::io::AsyncWriteExt as _;
    stream.write_all(format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n").as_bytes()).await.unwrap();
    let mut reader = Reader::new(&mut stream, Vec::new());
    let mut heard = Heard::default();
    reader.answer_head(&mut heard, true, &tokio::sync::Notify::new()).await;
    assert!(heard.status() == 200 && reader.ahead.is_empty(), "the tunnel is refused: {heard:?}");
    connector.connect(ServerName::try_from(host.to_owned()).unwrap(), stream).await.unwrap()
}
