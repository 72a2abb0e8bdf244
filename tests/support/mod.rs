//! A hermetic kit: a PKI in memory, an origin that asks for a client certificate, a client that speaks
//! byte by byte through a gatepass in this process. Loopback and free ports only.
#![allow(dead_code)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gatepass::config::Request as ConfigRequest;
use gatepass::observe::Observe;
use gatepass::origin::Host;
use gatepass::serve::{self, Running};
use gatepass::tls::out::client::Client as TlsClient;
use gatepass::tls::out::client_spec::ClientSpec;
use gatepass::tls::out::trust::Trust;
use gatepass::tls::provider;
use gatepass::tls::settings::Alpn;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

/// Longer than anything here takes, shorter than anybody waits.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct Pki {
    pub ca_pem: String,
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Self {
        Self::named("test CA")
    }

    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        Self { ca_pem: ca.pem(), ca: ca.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// Certificate and key in one PEM text.
    pub fn client(&self, name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }

    /// Certificate and key of a server in one PEM text.
    pub fn server(&self, names: &[&str]) -> String {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }

    pub fn ca_key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    fn server_config(&self, names: &[&str], ask: bool, alpn: &[&str]) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let builder = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let builder = if ask {
            let mut roots = RootCertStore::empty();
            roots.add(self.ca.clone()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap(),
            )
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }
}

/// What an origin saw of one request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub subject: Option<String>,
    /// Number of the connection it came by.
    pub connection: usize,
    pub resumed: bool,
}

pub type Answer = Response<BoxBody<Bytes, Infallible>>;

pub fn text(text: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(text.into()).boxed())
}

/// Repeats all of a request, as `kind` or as what its `x-kind` asks for, coded as its `x-coding` says; with `trailers`, or when it
/// has `x-slow`, each byte is a piece of its own.
pub fn repeated(seen: &Seen, kind: &str, trailers: Option<HeaderMap>) -> Answer {
    let headers: String = seen.headers.iter().map(|(n, v)| format!("{n}: {}\n", String::from_utf8_lossy(v.as_bytes()))).collect();
    let told = format!("{}\n{headers}\n{}", seen.line, String::from_utf8_lossy(&seen.body));
    let kind = seen.headers.get("x-kind").map_or(kind, |kind| kind.to_str().unwrap());
    let told = if kind == "application/json" { serde_json::json!({ "told": told }).to_string() } else { told };
    let mut answer = if seen.headers.contains_key("x-slow") || trailers.is_some() {
        let mut frames: Vec<_> = told.bytes().map(|byte| Ok(Frame::data(Bytes::copy_from_slice(&[byte])))).collect();
        frames.extend(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed())
    } else {
        text(told)
    };
    answer.headers_mut().insert("content-type", kind.parse().unwrap());
    if let Some(coding) = seen.headers.get("x-coding") {
        answer.headers_mut().insert("content-encoding", coding.clone());
    }
    answer
}

/// A server with HTTP/1.1 and HTTP/2 that remembers every request.
pub struct Origin {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    pub connections: Arc<AtomicUsize>,
}

pub struct OriginOptions<'a> {
    pub tls: bool,
    pub names: &'a [&'a str],
    pub ask: bool,
    pub alpn: &'a [&'a str],
}

impl Default for OriginOptions<'_> {
    fn default() -> Self {
        Self { tls: true, names: &["a.test", "b.test"], ask: false, alpn: &["h2", "http/1.1"] }
    }
}

impl Origin {
    pub async fn start(pki: &Pki, options: OriginOptions<'_>) -> Self {
        Self::answering(pki, options, |seen| {
            text(format!(
                "saw {} by {} auth {}",
                seen.line,
                seen.subject.as_deref().unwrap_or("nobody"),
                seen.headers.get("authorization").map_or("none", |v| v.to_str().unwrap())
            ))
        })
        .await
    }

    pub async fn answering(
        pki: &Pki,
        options: OriginOptions<'_>,
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let acceptor = options
            .tls
            .then(|| tokio_rustls::TlsAcceptor::from(Arc::new(pki.server_config(options.names, options.ask, options.alpn))));
        let (log, count, answer) = (seen.clone(), connections.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, log, answer) = (acceptor.clone(), log.clone(), answer.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, None, false, connection, false, log, answer).await,
                        Some(acceptor) => {
                            let Ok(tls) = acceptor.accept(stream).await else { return };
                            let session = tls.get_ref().1;
                            let subject = gatepass::tls::intercept::server::caller(session.peer_certificates());
                            let h2 = session.alpn_protocol() == Some(b"h2");
                            let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                            serve(tls, subject, h2, connection, resumed, log, answer).await;
                        }
                    }
                });
            }
        });
        Self { address, seen, connections }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn last(&self) -> Seen {
        self.seen().last().expect("the origin saw a request").clone()
    }
}

#[allow(clippy::too_many_arguments)]
async fn serve<S, A>(
    stream: S,
    subject: Option<String>,
    h2: bool,
    connection: usize,
    resumed: bool,
    log: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<A>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(&Seen) -> Answer + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (subject, log, answer) = (subject.clone(), log.clone(), answer.clone());
        async move {
            let line = format!("{} {}", request.method(), request.uri().path_and_query().map_or("", |p| p.as_str()));
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|c| c.to_bytes()).unwrap_or_default();
            let seen = Seen { line, headers: parts.headers, body, subject, connection, resumed };
            log.lock().unwrap().push(seen.clone());
            Ok::<_, Infallible>(answer(&seen))
        }
    });
    let io = TokioIo::new(stream);
    if h2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}

/// A TLS server that hands each raw connection to a script.
pub async fn raw_origin<F, Fut>(pki: &Pki, script: F) -> SocketAddr
where
    F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    raw_origin_speaking(pki, &["http/1.1"], script).await
}

/// As [`raw_origin`], with these protocols offered.
pub async fn raw_origin_speaking<F, Fut>(pki: &Pki, alpn: &[&str], script: F) -> SocketAddr
where
    F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(pki.server_config(&["a.test", "b.test"], false, alpn)));
    let script = Arc::new(script);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, script) = (acceptor.clone(), script.clone());
            tokio::spawn(async move {
                if let Ok(tls) = acceptor.accept(stream).await {
                    script(tls).await;
                }
            });
        }
    });
    address
}

/// A gatepass in this process.
pub struct Gatepass {
    pub running: Running,
    pub address: SocketAddr,
    ca: CertificateDer<'static>,
}

pub fn request(yaml: &str, env: &[(&str, &str)]) -> ConfigRequest {
    ConfigRequest {
        inline: Some(("test.yaml".to_owned(), yaml.to_owned(), PathBuf::new())),
        ca_in_memory: true,
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        auth_types: gatepass::auth::types(),
        ..ConfigRequest::default()
    }
}

impl Gatepass {
    pub async fn start(yaml: &str, env: &[(&str, &str)]) -> Self {
        Self::from(request(&format!("listen: 127.0.0.1:0\n{yaml}"), env)).await
    }

    pub async fn from(request: ConfigRequest) -> Self {
        Self::observed(request, Observe::default()).await
    }

    pub async fn observed(request: ConfigRequest, observe: Observe) -> Self {
        let built = serve::build(&request).await.unwrap_or_else(|report| panic!("{}", report.render(false)));
        let ca = built.gate.authority.certificate().clone();
        let Ok(running) = serve::start(built, request, observe).await else { panic!("gatepass did not start") };
        let address = running.addresses[0].0;
        Self { running, address, ca }
    }

    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    pub async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A raw exchange on the proxy port itself.
    pub async fn ask(&self, request: &str) -> String {
        ask(&mut self.dial().await, request).await
    }

    /// CONNECT; the head of the answer and the stream behind it.
    pub async fn connect(&self, target: &str) -> (String, TcpStream) {
        let mut stream = self.dial().await;
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
        (head(&mut stream).await, stream)
    }

    /// An intercepted TLS connection, the client believing gatepass's CA.
    pub async fn tls(&self, target: &str, server_name: &str, alpn: &[Alpn]) -> TlsStream<TcpStream> {
        let (answer, stream) = self.connect(target).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        tls(stream, server_name, alpn, &self.ca).await.unwrap()
    }

    /// One HTTP/1.1 request through interception, as raw text.
    pub async fn through(&self, host: &str, request: &str) -> String {
        ask(&mut self.tls(&format!("{host}:443"), host, &[Alpn::Http11]).await, request).await
    }

    /// `GET path` through interception.
    pub async fn get(&self, host: &str, path: &str) -> String {
        self.through(host, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    }

    pub async fn h2(&self, host: &str) -> hyper::client::conn::http2::SendRequest<BoxBody<Bytes, Infallible>> {
        let stream = self.tls(&format!("{host}:443"), host, &[Alpn::H2]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

pub async fn tls(
    stream: TcpStream,
    name: &str,
    alpn: &[Alpn],
    ca: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let client =
        TlsClient::build(&ClientSpec::plain(Arc::new(Trust::of(std::slice::from_ref(ca)).unwrap_or_else(|p| panic!("{p}")))), 1)
            .unwrap_or_else(|p| panic!("{p}"));
    let connector = tokio_rustls::TlsConnector::from(client.config(alpn).expect("the backend is rustls"));
    connector.connect(client.server_name(&Host::parse_written(name).unwrap()).unwrap(), stream).await
}

impl Pki {
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }
}

/// Sends and reads until the end, or until nothing more comes.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, async {
        loop {
            let read = stream.read_buf(&mut answer).await;
            if !matches!(read, Ok(n) if n > 0) || is_whole(&answer) {
                return;
            }
        }
    })
    .await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).and_then(|n| n.trim().parse::<usize>().ok());
    match length {
        Some(length) => body.len() >= length,
        None => head.contains("transfer-encoding: chunked") && body.ends_with("0\r\n\r\n") || head.starts_with("http/1.1 101"),
    }
}

pub async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tokio::time::timeout(PATIENCE, stream.read_u8()).await {
            Ok(Ok(byte)) => head.push(byte),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status in {answer:?}"))
}

/// A rule for a host at an origin, further lines appended.
pub fn rule(host: &str, origin: SocketAddr, more: &str) -> String {
    let more: String = more.lines().map(|line| format!("    {line}\n")).collect();
    format!("  - host: {host}\n    connect_to: {origin}\n    ca_bundle: {{ files: [\"${{CA}}\"], system_roots: false }}\n{more}")
}
