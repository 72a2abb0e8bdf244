//! A small PKI in memory and handshakes over a pipe, for the tests of this module.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::failure::Failure;
use crate::origin::Host;
use crate::settings::{Pem, Place};
use crate::tls::formats::crl::Crls;
use crate::tls::formats::pem;
use crate::tls::out::client::Client;
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::out::handshake::Asked;
use crate::tls::out::trust::Trust;
use crate::tls::provider;
use crate::tls::settings::{Alpn, CertificateSource, Material, TlsSettings};

pub const DAY: Duration = Duration::from_secs(24 * 3600);
pub const BOUND: usize = 1024 * 1024;

pub fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

pub fn host(text: &str) -> Host {
    Host::parse_written(text).unwrap()
}

pub fn spki_pin(der: &[u8]) -> [u8; 32] {
    crate::tls::formats::inspect::Details::read(der).unwrap().spki_sha256
}

/// A certificate with its key and the chain above it.
pub struct Issued {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Issued {
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }

    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// Certificate, chain and key in one PEM file's text.
    pub fn pem(&self) -> String {
        let mut text: String = self.chain.iter().map(|der| pem::encode("CERTIFICATE", der)).collect();
        text.push_str(&self.key.serialize_pem());
        text
    }

    /// Through a file, as the product reads it.
    pub fn identity(&self) -> Arc<crate::tls::out::identity::Identity> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.pem");
        crate::files::write_private(&path, self.pem().as_bytes()).unwrap();
        Arc::new(crate::tls::out::identity::load(&pem_source(&path, None), None, BOUND).unwrap_or_else(|p| panic!("{p}")).value)
    }
}

pub fn pem_source(cert: &std::path::Path, key: Option<&std::path::Path>) -> CertificateSource {
    let place = Place::default();
    let key = key.map(|key| (key.to_owned(), place));
    let key = key.map(|(path, place)| (Pem::File(path), place));
    let material = Material::Pem { cert: Pem::File(cert.to_owned()), cert_place: place, key };
    CertificateSource { name: None, place, material, passphrase: None }
}

pub fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 30 * DAY).into();
    params.use_authority_key_identifier_extension = true;
    params
}

pub struct Ca {
    pub der: CertificateDer<'static>,
    /// Sent with what it issues; empty for a root.
    above: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub fn root(name: &str) -> Ca {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(name);
        let der = params.self_signed(&key).unwrap().der().clone();
        Ca { der, above: Vec::new(), issuer: Issuer::new(params, key) }
    }

    pub fn intermediate(&self, name: &str) -> Ca {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(name);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let above = [vec![der.clone()], self.above.clone()].concat();
        Ca { der, above, issuer: Issuer::new(params, key) }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    pub fn issue(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Issued { chain: [vec![leaf], self.above.clone()].concat(), key }
    }

    pub fn server(&self, name: &str) -> Issued {
        self.issue(&params(name, &[name]))
    }

    pub fn client(&self, name: &str) -> Issued {
        let mut params = params(name, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    pub fn crl(&self, revoked: &SerialNumber) -> Vec<u8> {
        let list = CertificateRevocationListParams {
            this_update: (SystemTime::now() - DAY).into(),
            next_update: (SystemTime::now() + 30 * DAY).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: revoked.clone(),
                revocation_time: (SystemTime::now() - DAY).into(),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    pub fn trust(&self) -> Arc<Trust> {
        Arc::new(Trust::of(std::slice::from_ref(&self.der)).unwrap())
    }
}

pub fn self_signed(params: &CertificateParams) -> Issued {
    let key = KeyPair::generate().unwrap();
    Issued { chain: vec![params.self_signed(&key).unwrap().der().clone()], key }
}

pub fn spec(trust: Arc<Trust>) -> ClientSpec {
    ClientSpec::new(Vec::new(), trust, TlsSettings::default(), Arc::new(Crls::default()))
}

pub fn client(spec: &ClientSpec) -> Client {
    Client::build(spec, 16).unwrap_or_else(|problem| panic!("{problem}"))
}

/// A server that shows `issued`, and asks for certificates of `client_ca` when there is one.
pub fn server(issued: &Issued, client_cas: &[&Ca]) -> Arc<ServerConfig> {
    server_with(issued, client_cas, rustls::ALL_VERSIONS)
}

pub fn server_with(
    issued: &Issued,
    client_cas: &[&Ca],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let builder = if client_cas.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(client_cas.iter().map(|ca| ca.der.clone()));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_single_cert(issued.chain.clone(), issued.private_key()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// What came of a connection.
#[derive(Debug)]
pub struct Met {
    pub kind: HandshakeKind,
    pub version: ProtocolVersion,
    pub alpn: Option<Alpn>,
    pub asked: Asked,
    /// Common name of the client certificate that the server saw.
    pub seen: Option<String>,
}

/// Connects over a pipe and reads one byte, so that TLS 1.3's late alerts and tickets arrive.
pub async fn meet(client: &Client, name: &str, alpn: &[Alpn], server: Arc<ServerConfig>) -> Result<Met, Failure> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await.ok()?;
        let seen = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().map(|der| der.to_vec()));
        stream.write_all(b"x").await.ok()?;
        stream.flush().await.ok()?;
        let _ = stream.read(&mut [0]).await;
        seen.and_then(|der| crate::tls::formats::inspect::Details::read(&der).ok()?.common_name)
    });
    let host = host(name);
    let mut secured = client.connect(near, &host, alpn).await?;
    let read = secured.stream.read_exact(&mut [0]).await;
    read.map_err(|error| client.failure(&error, &host, &secured.handshake))?;
    let connection = secured.stream.rustls().expect("a test of rustls");
    let kind = connection.handshake_kind().unwrap();
    let version = connection.protocol_version().unwrap();
    let alpn = secured.alpn;
    let asked = secured.handshake.asked();
    drop(secured);
    Ok(Met { kind, version, alpn, asked, seen: serving.await.unwrap() })
}

/// How a meeting failed, as one text.
pub async fn refusal(client: &Client, name: &str, server: Arc<ServerConfig>) -> String {
    match meet(client, name, &[Alpn::Http11], server).await {
        Ok(met) => panic!("it went well: {met:?}"),
        Err(failure) => failure.to_string(),
    }
}
