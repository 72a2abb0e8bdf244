//! `gatepass demo`: three servers that demand something, a proxy, and a client that has nothing, all in
//! this process; no network beyond loopback, no files.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Common, Error};
use crate::observe::Observe;
use crate::origin::Host;
use crate::serve::{self, Running};
use crate::tls::out::client::Client;
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::out::trust::Trust;
use crate::tls::provider;
use crate::tls::settings::Alpn;

const TOKEN: &str = "demo-token";

/// A server of the demonstration and what it demands.
struct Upstream {
    host: &'static str,
    demands: &'static str,
    certificate: bool,
    token: bool,
}

const UPSTREAMS: [Upstream; 3] = [
    Upstream { host: "mtls.demo.test", demands: "a client certificate", certificate: true, token: false },
    Upstream { host: "token.demo.test", demands: "a bearer token", certificate: false, token: true },
    Upstream { host: "both.demo.test", demands: "both", certificate: true, token: true },
];

pub async fn run() -> Result<ExitCode, Error> {
    let started = Instant::now();
    let pki = Pki::new().map_err(|why| Error::new(format!("cannot make the demonstration's certificates: {why}")))?;
    let mut addresses = Vec::new();
    for upstream in &UPSTREAMS {
        addresses.push(
            serve_upstream(&pki, upstream).await.map_err(|why| Error::new(format!("cannot start {}: {why}", upstream.host)))?,
        );
    }
    let running = start_proxy(&pki, &addresses).await?;
    let proxy = running.addresses[0].0;
    let gatepass_ca = running.context.gate().authority.certificate().clone();

    println!("three servers, a gatepass with three rules, and a client that holds no secret\n");
    let mut good = true;
    for (upstream, address) in UPSTREAMS.iter().zip(&addresses) {
        println!("https://{} demands {}", upstream.host, upstream.demands);
        let direct = ask(TcpStream::connect(address).await, upstream.host, &pki.ca).await;
        good &= !direct.accepted;
        println!("  directly          {}", direct.line());
        let through = ask(tunnel(proxy, upstream.host).await, upstream.host, &gatepass_ca).await;
        good &= through.accepted;
        println!("  through gatepass  {}\n", through.line());
    }
    running.stop().await;
    println!("in {} ms; your own host: gatepass init, then gatepass exec -- curl https://HOST/", started.elapsed().as_millis());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A CA, a certificate for the servers, and one for the client.
struct Pki {
    ca: CertificateDer<'static>,
    ca_pem: String,
    server: (CertificateDer<'static>, KeyPair),
    client: (String, String),
}

impl Pki {
    fn new() -> Result<Self, rcgen::Error> {
        let ca_key = KeyPair::generate()?;
        let mut params = named("demo company CA")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key)?;
        let issuer = Issuer::new(params, ca_key);
        let server_key = KeyPair::generate()?;
        let names: Vec<String> = UPSTREAMS.iter().map(|upstream| upstream.host.to_owned()).collect();
        let server = CertificateParams::new(names)?.signed_by(&server_key, &issuer)?;
        let client_key = KeyPair::generate()?;
        let client = named("alice (demo)")?.signed_by(&client_key, &issuer)?;
        Ok(Self {
            ca: ca.der().clone(),
            ca_pem: ca.pem(),
            server: (server.der().clone(), server_key),
            client: (client.pem(), client_key.serialize_pem()),
        })
    }
}

fn named(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

async fn serve_upstream(pki: &Pki, upstream: &'static Upstream) -> Result<SocketAddr, String> {
    let key = PrivatePkcs8KeyDer::from(pki.server.1.serialize_der()).into();
    let builder = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|cause| cause.to_string())?;
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca.clone()).map_err(|cause| cause.to_string())?;
    let builder = if upstream.certificate {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|cause| cause.to_string())?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let config = builder.with_single_cert(vec![pki.server.0.clone()], key).map_err(|cause| cause.to_string())?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|cause| cause.to_string())?;
    let address = listener.local_addr().map_err(|cause| cause.to_string())?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let who = crate::tls::intercept::server::caller(stream.get_ref().1.peer_certificates());
                let service =
                    service_fn(move |request| std::future::ready(Ok::<_, Infallible>(greet(upstream, who.as_deref(), &request))));
                let _ = server::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

/// What the server answers: it tells whom it saw.
fn greet(upstream: &Upstream, who: Option<&str>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let expected = format!("Bearer {TOKEN}");
    let token = request.headers().get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes() == expected.as_bytes());
    let (status, text) = match (upstream.token, token) {
        (true, false) => (StatusCode::UNAUTHORIZED, "no valid token".to_owned()),
        _ => {
            let mut seen: Vec<String> = who.map(|name| format!("certificate of {name}")).into_iter().collect();
            seen.extend(token.then(|| "a valid token".to_owned()));
            (StatusCode::OK, format!("saw {}", seen.join(" and ")))
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

async fn start_proxy(pki: &Pki, addresses: &[SocketAddr]) -> Result<Running, Error> {
    // JSON is YAML; the secrets come as variables, as they would from an environment.
    let rules: Vec<_> = UPSTREAMS
        .iter()
        .zip(addresses)
        .map(|(upstream, address)| {
            let mut rule = serde_json::json!({ "host": upstream.host, "connect_to": address.to_string(), "ca_bundle": { "files": ["${DEMO_CA}"], "system_roots": false }, "via": "none" });
            if upstream.certificate {
                rule["client_certificate"] = "alice".into();
            }
            if upstream.token {
                rule["bearer"] = "${DEMO_TOKEN}".into();
            }
            rule
        })
        .collect();
    let document = serde_json::json!({
        "listen": "127.0.0.1:0",
        "client_certificates": { "alice": { "cert": "${DEMO_CERT}", "key": "${DEMO_KEY}" } },
        "rules": rules,
    });
    let mut request = super::request(&Common::default());
    request.inline = Some(("(demo)".to_owned(), document.to_string(), std::path::PathBuf::new()));
    request.ca_in_memory = true;
    request.env =
        [("DEMO_CA", &pki.ca_pem), ("DEMO_TOKEN", &TOKEN.to_owned()), ("DEMO_CERT", &pki.client.0), ("DEMO_KEY", &pki.client.1)]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
    let built = super::build(&request).await?;
    Ok(serve::start(built, request, Observe::default()).await?)
}

struct Outcome {
    accepted: bool,
    text: String,
}

impl Outcome {
    fn line(&self) -> String {
        format!("{}: {}", if self.accepted { "accepted" } else { "refused " }, self.text)
    }
}

/// CONNECT through the proxy.
async fn tunnel(proxy: SocketAddr, host: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all(format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 4_096 {
        head.push(stream.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 200") { Ok(stream) } else { Err(std::io::Error::other("the proxy refused")) }
}

/// What an ordinary client with this CA gets: one GET.
async fn ask(stream: std::io::Result<TcpStream>, host: &str, ca: &CertificateDer<'static>) -> Outcome {
    let refused = |text: String| Outcome { accepted: false, text };
    match get(stream, host, ca).await {
        Ok((status, text)) if status.is_success() => Outcome { accepted: true, text: format!("{status}, the server {text}") },
        Ok((status, text)) => refused(format!("{status} ({text})")),
        Err(why) => refused(why),
    }
}

async fn get(
    stream: std::io::Result<TcpStream>,
    host: &str,
    ca: &CertificateDer<'static>,
) -> Result<(StatusCode, String), String> {
    let stream = stream.map_err(|cause| cause.to_string())?;
    let trust = Trust::of(std::slice::from_ref(ca)).map_err(|problem| problem.message)?;
    let tls = Client::build(&ClientSpec::plain(Arc::new(trust)), 1).map_err(|problem| problem.message)?;
    let host_name = Host::parse(host).map_err(|cause| cause.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(tls.config(&[Alpn::Http11]).ok_or("the backend is not rustls")?);
    let stream = connector
        .connect(tls.server_name(&host_name).map_err(|failure| failure.details)?, stream)
        .await
        .map_err(|cause| words(&cause))?;
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.map_err(|cause| words(&cause))?;
    tokio::spawn(connection);
    let request = Request::get("/").header(header::HOST, host).body(Empty::<Bytes>::new()).map_err(|cause| cause.to_string())?;
    let response = sender.send_request(request).await.map_err(|cause| words(&cause))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|cause| words(&cause))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).trim().to_owned()))
}

/// A TLS alert arrives wrapped several times; the innermost error says it.
fn words(cause: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = cause;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref).map(ToString::to_string) {
        Some(text) => text,
        None => cause.to_string(),
    }
}
