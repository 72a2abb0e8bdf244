//! TLS toward the upstream: one [`Client`] for one identity, one trust and one set of settings, with
//! a session store of its own. Nothing in it is shared with another, so a session that was opened
//! with one certificate cannot be resumed for another.

use std::fmt;
use std::sync::{Arc, RwLock};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::crl::Crls;
use super::handshake::{self, Asked, Handshake};
use super::identity::Identity;
use super::trust::Trust;
use super::verify::Verifier;
use super::{Problem, explain, provider};
use crate::config::{Alpn, TlsBackend, TlsSettings, TlsVersion};
use crate::failure::{Cause, Failure};
use crate::origin::Host;

/// All that makes one client differ from another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientSpec {
    /// Several: the server's list of acceptable issuers decides, else the first.
    pub identities: Vec<Arc<Identity>>,
    pub trust: Arc<Trust>,
    /// Its `crl` is not looked at: see `crls`.
    pub settings: TlsSettings,
    pub accept_invalid_certs: bool,
    pub crls: Arc<Crls>,
}

impl ClientSpec {
    /// No identity, this trust, defaults for the rest.
    pub fn plain(trust: Arc<Trust>) -> Self {
        Self::new(Vec::new(), trust, TlsSettings::default(), Arc::default())
    }

    /// `settings.crl` is emptied: the lists are in `crls`, compared by content, and where the config
    /// names them must not make two specs differ.
    pub fn new(identities: Vec<Arc<Identity>>, trust: Arc<Trust>, settings: TlsSettings, crls: Arc<Crls>) -> Self {
        Self { identities, trust, settings: TlsSettings { crl: None, ..settings }, accept_invalid_certs: false, crls }
    }
}

/// The configurations made from a spec.
pub struct Client {
    spec: ClientSpec,
    base: ClientConfig,
    /// One for each list of protocols asked for; there are a handful.
    by_alpn: RwLock<Vec<(Vec<Alpn>, Arc<ClientConfig>)>>,
}

/// A connection whose handshake is done.
pub struct Secured<IO> {
    pub stream: TlsStream<IO>,
    /// `None`: the server chose none; HTTP/1.1 then.
    pub alpn: Option<Alpn>,
    /// For [`explain::failure`] when the first read fails: in TLS 1.3 a refused client certificate
    /// shows only there.
    pub handshake: Arc<Handshake>,
}

impl Client {
    /// `sessions`: how many are kept for resumption.
    ///
    /// # Errors
    /// Settings that contradict each other, or that this build cannot do.
    pub fn build(spec: &ClientSpec, sessions: usize) -> Result<Client, Problem> {
        let settings = &spec.settings;
        if settings.backend == Some(TlsBackend::Openssl) {
            return Err(
                Problem::new("not-in-this-build", None, "the OpenSSL backend is not in this build").help("leave `backend:` out")
            );
        }
        let pins = settings.pins.as_deref();
        let verifier = Verifier::new(Arc::clone(&spec.trust), &spec.crls, pins, spec.accept_invalid_certs)?;
        let mut base = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions(settings)?)
            .map_err(|error| Problem::new("tls-settings", None, format!("these TLS settings do not work: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Resolver::new(&spec.identities)));
        base.resumption = match settings.resumption {
            Some(false) => Resumption::disabled(),
            _ => Resumption::in_memory_sessions(sessions),
        };
        Ok(Client { spec: spec.clone(), base, by_alpn: RwLock::default() })
    }

    pub fn spec(&self) -> &ClientSpec {
        &self.spec
    }

    /// The configuration that offers these protocols. Where the settings name protocols, only those
    /// of them that are asked for are offered, in the settings' order; where none is left, what is
    /// asked for (an upgrade needs HTTP/1.1 whatever is preferred).
    ///
    /// [`connect`](Self::connect) is the way to use it; a handshake made otherwise is noted nowhere
    /// unless it runs under [`Handshake::watch`].
    pub fn config(&self, alpn: &[Alpn]) -> Arc<ClientConfig> {
        let known = self.by_alpn.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, config)) = known.iter().find(|(own, _)| own == alpn) {
            return Arc::clone(config);
        }
        drop(known);
        let mut config = self.base.clone();
        config.alpn_protocols = self.offered(alpn).iter().map(|p| protocol_id(*p).to_vec()).collect();
        let config = Arc::new(config);
        let mut known = self.by_alpn.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !known.iter().any(|(own, _)| own == alpn) {
            known.push((alpn.to_vec(), Arc::clone(&config)));
        }
        config
    }

    fn offered(&self, asked: &[Alpn]) -> Vec<Alpn> {
        let Some(wanted) = &self.spec.settings.alpn else { return asked.to_vec() };
        let both: Vec<_> = wanted.iter().copied().filter(|p| asked.contains(p)).collect();
        if both.is_empty() { asked.to_vec() } else { both }
    }

    /// The name for SNI and the certificate check: the settings' `server_name`, else the host.
    ///
    /// # Errors
    /// The host's name is none that TLS can carry (a label that begins with `-`).
    pub fn server_name(&self, host: &Host) -> Result<ServerName<'static>, Failure> {
        match self.checked_host(host) {
            Host::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
            Host::Name(name) => ServerName::try_from(name.to_string()).map_err(|_| {
                Failure::new(Cause::TlsProtocol, format!("{name} cannot be the name of a TLS server"))
                    .hint("set `tls: { server_name: … }` to the name on the server's certificate")
            }),
        }
    }

    /// The host that certificates are checked for.
    pub fn checked_host<'a>(&'a self, host: &'a Host) -> &'a Host {
        self.spec.settings.server_name.as_ref().unwrap_or(host)
    }

    /// Opens TLS on a connection. The caller sets the time limit.
    ///
    /// # Errors
    /// Why not, in words; see [`explain`].
    pub async fn connect<IO>(&self, io: IO, host: &Host, alpn: &[Alpn]) -> Result<Secured<IO>, Failure>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.server_name(host)?;
        let handshake = Handshake::new();
        let opening = TlsConnector::from(self.config(alpn)).connect(name, io);
        let stream = match handshake.watch(opening).await {
            Ok(stream) => stream,
            Err(error) => return Err(explain::failure(&error, host, self, &handshake)),
        };
        let (_, connection) = stream.get_ref();
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            handshake.note_resumed();
        }
        let alpn = connection.alpn_protocol().and_then(protocol);
        Ok(Secured { stream, alpn, handshake })
    }
}

/// Protocol identifiers of RFC 7301 §6.
pub fn protocol_id(alpn: Alpn) -> &'static [u8] {
    match alpn {
        Alpn::H2 => b"h2",
        Alpn::Http11 => b"http/1.1",
    }
}

/// The protocol of an identifier.
pub fn protocol(id: &[u8]) -> Option<Alpn> {
    [Alpn::H2, Alpn::Http11].into_iter().find(|alpn| protocol_id(*alpn) == id)
}

fn versions(settings: &TlsSettings) -> Result<Vec<&'static SupportedProtocolVersion>, Problem> {
    let all = [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)];
    let min = settings.min_version.unwrap_or(TlsVersion::V1_2);
    let max = settings.max_version.unwrap_or(TlsVersion::V1_3);
    let chosen: Vec<_> = all.iter().filter(|(v, _)| (min..=max).contains(v)).map(|(_, version)| *version).collect();
    if chosen.is_empty() {
        return Err(Problem::new("tls-settings", None, "`min_version` is above `max_version`").help("leave one of them out"));
    }
    Ok(chosen)
}

/// Chooses what to show, and notes that it was asked for.
struct Resolver {
    candidates: Vec<Candidate>,
}

struct Candidate {
    key: Arc<CertifiedKey>,
    name: String,
    /// Subjects and issuers of the chain, in DER: what a server's hints are compared with.
    authorities: Vec<Vec<u8>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("candidates", &self.candidates.len()).finish_non_exhaustive()
    }
}

impl Resolver {
    fn new(identities: &[Arc<Identity>]) -> Self {
        let candidate = |identity: &Arc<Identity>| Candidate {
            key: identity.certified_key(),
            name: identity.details().name().to_owned(),
            authorities: identity.certificates().iter().flat_map(|der| authorities(der)).collect(),
        };
        Self { candidates: identities.iter().map(candidate).collect() }
    }

    /// The first whose issuers the server names (RFC 8446 §4.2.4), else the first; in either case
    /// one whose key can sign as the server wants.
    fn choose(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<&Candidate> {
        let fits = |c: &&Candidate| c.key.key.choose_scheme(schemes).is_some();
        let hinted = |c: &&Candidate| c.authorities.iter().any(|name| hints.contains(&name.as_slice()));
        let mut fitting = self.candidates.iter().filter(fits);
        self.candidates.iter().filter(fits).find(hinted).or_else(|| fitting.next())
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, root_hint_subjects: &[&[u8]], sigschemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let chosen = self.choose(root_hint_subjects, sigschemes);
        handshake::note_asked(match chosen {
            Some(candidate) => Asked::Shown(candidate.name.clone()),
            None => Asked::Nothing { unfit: !self.candidates.is_empty() },
        });
        chosen.map(|candidate| Arc::clone(&candidate.key))
    }

    fn has_certs(&self) -> bool {
        !self.candidates.is_empty()
    }
}

fn authorities(der: &[u8]) -> Vec<Vec<u8>> {
    match X509Certificate::from_der(der) {
        Ok((_, cert)) => vec![cert.issuer().as_raw().to_vec(), cert.subject().as_raw().to_vec()],
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
