//! TLS toward the upstream: one [`Client`] for one identity, one trust and one set of settings, with
//! a session store of its own. Nothing in it is shared with another, so a session that was opened
//! with one certificate cannot be resumed for another.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::client_spec::ClientSpec;
use super::explain::{self, Scene};
use super::handshake::{self, Asked, Handshake};
use super::identity::{Identity, choose};
#[cfg(feature = "openssl")]
use super::openssl;
use super::p521;
use super::stream::TlsStream;
use super::verify::Verifier;
use crate::failure::{Cause, Failure};
use crate::origin::Host;
use crate::tls::Problem;
use crate::tls::formats::alpn::protocol_id;
use crate::tls::settings::{Alpn, Ocsp, TlsBackend, TlsSettings, TlsVersion};

/// What is made from a spec.
pub struct Client {
    spec: ClientSpec,
    engine: Engine,
    /// A server of this client asked for a certificate in a handshake: what a resumed session does not tell.
    was_asked: AtomicBool,
}

enum Engine {
    Rustls(Box<Rustls>),
    #[cfg(feature = "openssl")]
    Openssl(openssl::Connector),
}

/// The configurations for rustls.
struct Rustls {
    base: ClientConfig,
    /// One for each list of protocols asked for; there are a handful.
    by_alpn: RwLock<Vec<(Vec<Alpn>, Arc<ClientConfig>)>>,
}

/// A connection whose handshake is done.
pub struct Secured<IO> {
    pub stream: TlsStream<IO>,
    /// `None`: the server chose none; HTTP/1.1 then.
    pub alpn: Option<Alpn>,
    /// For [`Client::failure`] when the first read fails: in TLS 1.3 a refused client certificate
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
        let versions = versions(settings)?;
        let backend = settings.backend.unwrap_or_default();
        spec.identities.iter().try_for_each(|identity| identity.check_backend(backend, None))?;
        let verifier = Verifier::new(Arc::clone(&spec.trust), &spec.crls, settings, spec.accept_invalid_certs)?;
        let verifier = verifier.require_staple(settings.ocsp == Some(Ocsp::Require));
        let engine = match backend {
            TlsBackend::Rustls => Engine::Rustls(Box::new(Rustls::build(spec, verifier, &versions, sessions)?)),
            #[cfg(feature = "openssl")]
            TlsBackend::Openssl => Engine::Openssl(openssl::Connector::build(spec, verifier)?),
            #[cfg(not(feature = "openssl"))]
            TlsBackend::Openssl => {
                return Err(Problem::new("not-in-this-build", None, "the OpenSSL backend is not in this build"));
            }
        };
        Ok(Client { spec: spec.clone(), engine, was_asked: AtomicBool::new(false) })
    }

    pub fn spec(&self) -> &ClientSpec {
        &self.spec
    }

    /// The configuration that offers these protocols; `None`: the backend is not rustls.
    ///
    /// [`connect`](Self::connect) is the way to use it; a handshake made otherwise is noted nowhere
    /// unless it runs under [`Handshake::watch`].
    pub fn config(&self, alpn: &[Alpn]) -> Option<Arc<ClientConfig>> {
        match &self.engine {
            Engine::Rustls(rustls) => Some(rustls.config(&self.offered(alpn))),
            #[cfg(feature = "openssl")]
            Engine::Openssl(_) => None,
        }
    }

    /// Where the settings name protocols, only those of them that are asked for are offered, in the
    /// settings' order; where none is left, what is asked for (an upgrade needs HTTP/1.1 whatever is
    /// preferred).
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
        match self.spec.checked_host(host) {
            Host::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
            Host::Name(name) => ServerName::try_from(name.to_string()).map_err(|_| {
                Failure::new(Cause::TlsProtocol, format!("{name} cannot be the name of a TLS server"))
                    .hint("set `tls: { server_name: … }` to the name on the server's certificate")
            }),
        }
    }

    /// Opens TLS on a connection. The caller sets the time limit.
    ///
    /// # Errors
    /// Why not, in words; see [`Client::failure`].
    pub async fn connect<IO>(&self, io: IO, host: &Host, alpn: &[Alpn]) -> Result<Secured<IO>, Failure>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.server_name(host)?;
        let handshake = Handshake::new();
        let stream = match self.open(io, name, &self.offered(alpn), &handshake).await {
            Ok(stream) => stream,
            Err(error) => return Err(self.failure(&error, host, &handshake)),
        };
        if matches!(handshake.asked(), Asked::Shown(_) | Asked::Nothing { .. }) {
            self.was_asked.store(true, Ordering::Relaxed);
        }
        let lenient = self.spec.settings.lenient_end == Some(true);
        let stream = if lenient { TlsStream::Lenient(Box::new(stream)) } else { stream };
        Ok(Secured { alpn: stream.alpn(), stream, handshake })
    }

    async fn open<IO>(
        &self,
        io: IO,
        name: ServerName<'static>,
        alpn: &[Alpn],
        handshake: &Arc<Handshake>,
    ) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        match &self.engine {
            Engine::Rustls(rustls) => {
                let stream = handshake.watch(TlsConnector::from(rustls.config(alpn)).connect(name, io)).await?;
                if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                    handshake.note_resumed();
                }
                Ok(TlsStream::Rustls(Box::new(stream)))
            }
            #[cfg(feature = "openssl")]
            Engine::Openssl(connector) => {
                let alpn = openssl::Connector::offered(&self.spec.settings, alpn.to_vec());
                Ok(TlsStream::Openssl(Box::new(connector.connect(io, name, &alpn, handshake).await?)))
            }
        }
    }

    /// Why a handshake failed, or the first read after it (where TLS 1.3 servers refuse a client certificate).
    pub fn failure(&self, error: &io::Error, host: &Host, handshake: &Handshake) -> Failure {
        self.scene(host, handshake, false).failure(error)
    }

    /// [`failure`](Self::failure) for an error of another kind (hyper's): `None` when TLS has no part in it.
    pub fn late_failure(&self, error: &(dyn StdError + 'static), host: &Host, handshake: &Handshake) -> Option<Failure> {
        self.scene(host, handshake, true).late_failure(error)
    }

    /// For a 403, or an end of connection in place of an answer: what to do where a certificate is configured and the
    /// server never asked for it.
    pub fn never_asked(&self, handshake: &Handshake) -> Option<&'static str> {
        explain::never_asked(&self.spec, self.was_asked.load(Ordering::Relaxed), handshake)
    }

    fn scene<'a>(&'a self, host: &'a Host, handshake: &'a Handshake, late: bool) -> Scene<'a> {
        Scene { host, spec: &self.spec, was_asked: self.was_asked.load(Ordering::Relaxed), handshake, late }
    }
}

impl Rustls {
    fn build(
        spec: &ClientSpec,
        verifier: Verifier,
        versions: &[&'static SupportedProtocolVersion],
        sessions: usize,
    ) -> Result<Self, Problem> {
        let mut base = ClientConfig::builder_with_provider(p521::provider_for(&spec.identities))
            .with_protocol_versions(versions)
            .map_err(|error| Problem::new("tls-settings", None, format!("these TLS settings do not work: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Resolver { identities: spec.identities.clone() }));
        base.resumption = match spec.settings.resumption {
            Some(false) => Resumption::disabled(),
            _ => Resumption::in_memory_sessions(sessions),
        };
        Ok(Self { base, by_alpn: RwLock::default() })
    }

    fn config(&self, alpn: &[Alpn]) -> Arc<ClientConfig> {
        let known = self.by_alpn.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, config)) = known.iter().find(|(own, _)| own == alpn) {
            return Arc::clone(config);
        }
        drop(known);
        let mut config = self.base.clone();
        config.alpn_protocols = alpn.iter().map(|p| protocol_id(*p).to_vec()).collect();
        let config = Arc::new(config);
        let mut known = self.by_alpn.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !known.iter().any(|(own, _)| own == alpn) {
            known.push((alpn.to_vec(), Arc::clone(&config)));
        }
        config
    }
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

/// Chooses for rustls what to show, and notes that it was asked for.
struct Resolver {
    identities: Vec<Arc<Identity>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("identities", &self.identities.len()).finish_non_exhaustive()
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, root_hint_subjects: &[&[u8]], sigschemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let chosen = choose(self.identities.iter(), root_hint_subjects, sigschemes).map(|at| &self.identities[at]);
        handshake::note_asked(match chosen {
            Some(identity) => Asked::Shown(identity.details().name().to_owned()),
            None => Asked::Nothing { unfit: !self.identities.is_empty() },
        });
        chosen?.certified_key()
    }

    fn has_certs(&self) -> bool {
        !self.identities.is_empty()
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
