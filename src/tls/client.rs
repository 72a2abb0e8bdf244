//! TLS toward the upstream. One [`Client`] per spec, with a session store of its own: rustls keys its
//! store by server name only, so sharing one would let an identity or a trust leak into another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme, SupportedProtocolVersion, version};

use super::identity::Identity;
use super::trust::{Crls, Trust};
use super::verify::Verifier;
use super::{Problem, provider};
use crate::config::{Alpn, TlsSettings, TlsVersion};
use crate::origin::Host;

/// What makes two TLS clients the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientSpec {
    pub identities: Vec<Arc<Identity>>,
    pub trust: Arc<Trust>,
    pub settings: TlsSettings,
    pub crls: Option<Crls>,
    pub accept_invalid_certs: bool,
}

impl ClientSpec {
    /// No identity, this trust, defaults for the rest.
    pub fn plain(trust: Arc<Trust>) -> Self {
        Self { identities: Vec::new(), trust, settings: TlsSettings::default(), crls: None, accept_invalid_certs: false }
    }
}

pub struct Client {
    base: ClientConfig,
    verifier: Arc<Verifier>,
    resolver: Arc<Resolver>,
    server_name: Option<Host>,
    /// One per ALPN list; they share the session store, which belongs to this client alone.
    configs: Mutex<HashMap<Vec<Alpn>, Arc<ClientConfig>>>,
}

impl Client {
    /// `sessions` bounds the TLS sessions kept for resumption.
    ///
    /// # Errors
    /// The version range is empty or a revocation list cannot be used.
    pub fn build(spec: &ClientSpec, sessions: usize) -> Result<Self, Problem> {
        let versions = versions(&spec.settings);
        if versions.is_empty() {
            return Err(Problem::new("tls-versions", None, "`tls.min_version` is above `tls.max_version`"));
        }
        let verifier = Arc::new(verifier(spec)?);
        let resolver = Arc::new(Resolver { identities: spec.identities.clone(), asked: AtomicBool::new(false) });
        let mut base = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .map_err(|cause| Problem::new("tls-versions", None, cause.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(resolver.clone());
        base.resumption = match spec.settings.resumption {
            Some(false) => Resumption::disabled(),
            _ => Resumption::in_memory_sessions(sessions),
        };
        Ok(Self { base, verifier, resolver, server_name: spec.settings.server_name.clone(), configs: Mutex::default() })
    }

    /// The configuration that offers these protocols.
    pub fn config(&self, alpn: &[Alpn]) -> Arc<ClientConfig> {
        let mut configs = self.configs.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(config) = configs.get(alpn) {
            return config.clone();
        }
        let mut config = self.base.clone();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol_id(*protocol).to_vec()).collect();
        configs.entry(alpn.to_vec()).or_insert(Arc::new(config)).clone()
    }

    /// The name for SNI and verification: the host's, unless `tls.server_name` says otherwise.
    pub fn server_name(&self, host: &Host) -> ServerName<'static> {
        match self.server_name.as_ref().unwrap_or(host) {
            Host::Ip(ip) => ServerName::IpAddress((*ip).into()),
            // A host is LDH and underscores of at most 253 bytes, which is what a DnsName takes.
            Host::Name(name) => ServerName::try_from(name.to_string())
                .unwrap_or_else(|_| ServerName::try_from("invalid.invalid").expect("a valid name")),
        }
    }

    /// Has any server asked this client for a certificate?
    pub fn was_asked(&self) -> bool {
        self.resolver.asked.load(Ordering::Relaxed)
    }

    /// Does it have a certificate to show? Its label.
    pub fn identity(&self) -> Option<&str> {
        self.resolver.identities.first().map(|identity| identity.subject())
    }

    pub(super) fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}

fn protocol_id(protocol: Alpn) -> &'static [u8] {
    match protocol {
        Alpn::H2 => b"h2",
        Alpn::Http11 => b"http/1.1",
    }
}

fn versions(settings: &TlsSettings) -> Vec<&'static SupportedProtocolVersion> {
    let least = settings.min_version.unwrap_or(TlsVersion::V1_2);
    let most = settings.max_version.unwrap_or(TlsVersion::V1_3);
    let both = [(TlsVersion::V1_3, &version::TLS13), (TlsVersion::V1_2, &version::TLS12)];
    both.into_iter().filter(|(v, _)| (least..=most).contains(v)).map(|(_, version)| version).collect()
}

fn verifier(spec: &ClientSpec) -> Result<Verifier, Problem> {
    let pins = spec.settings.pins.clone().unwrap_or_default();
    let webpki = if spec.trust.roots.is_empty() {
        None
    } else {
        let mut builder = WebPkiServerVerifier::builder_with_provider(spec.trust.roots.clone(), provider());
        if let Some(crls) = &spec.crls {
            builder =
                builder.with_crls(crls.0.iter().cloned()).allow_unknown_revocation_status().only_check_end_entity_revocation();
        }
        Some(builder.build().map_err(|cause| Problem::new("crl", None, format!("cannot use the revocation lists: {cause}")))?)
    };
    Ok(Verifier::new(webpki, spec.trust.clone(), pins, spec.accept_invalid_certs))
}

/// Chooses among the identities by the server's list of acceptable issuers and signature schemes
/// (RFC 8446 §4.2.4); notes that it was asked, for explanations.
struct Resolver {
    identities: Vec<Arc<Identity>>,
    asked: AtomicBool,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        let signs = |identity: &&Arc<Identity>| identity.certified_key().key.choose_scheme(schemes).is_some();
        let issued = |identity: &&Arc<Identity>| {
            identity.certificates().iter().any(|certificate| hints.contains(&issuer(certificate).as_slice()))
        };
        let able: Vec<_> = self.identities.iter().filter(signs).collect();
        // With one identity there is no choice: a server's list is often incomplete.
        let chosen = able.iter().copied().find(|identity| issued(identity)).or(able.first().copied());
        chosen.map(|identity| identity.certified_key().clone())
    }

    fn has_certs(&self) -> bool {
        !self.identities.is_empty()
    }
}

fn issuer(der: &[u8]) -> Vec<u8> {
    use x509_parser::prelude::FromDer;
    x509_parser::certificate::X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate.issuer().as_raw().to_vec())
        .unwrap_or_default()
}
