//! TLS of gatepass's own listeners ("https proxy").

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;

use super::{Problem, identity, provider, trust};
use crate::config::{BundleSource, CertificateSource, ListenerTls, Material, Pem};

/// The configuration of a listener: its certificate, and the CA that callers must be from.
///
/// # Errors
/// As for any identity or bundle.
pub fn listener(tls: &ListenerTls, bound: usize) -> Result<Arc<ServerConfig>, Problem> {
    let source = CertificateSource {
        name: None,
        place: tls.place,
        material: Material::Pem {
            cert: Pem::File(tls.cert.clone()),
            cert_place: tls.place,
            key: Some((Pem::File(tls.key.clone()), tls.place)),
        },
        passphrase: None,
    };
    let identity = identity::load(&source, None, bound)?.value;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|cause| Problem::new("listener-tls", tls.place, cause.to_string()))?;
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(identity.certified_key().clone()));
    let mut config = match &tls.client_ca {
        None => builder.with_no_client_auth().with_cert_resolver(resolver),
        Some(file) => {
            let source = BundleSource {
                name: None,
                place: tls.place,
                files: vec![(Pem::File(file.clone()), tls.place)],
                system_roots: false,
            };
            let trust = trust::Trust::load(&source, bound).map_err(|mut problems| problems.remove(0))?.value;
            let verifier = WebPkiClientVerifier::builder_with_provider(trust.roots.clone(), provider())
                .build()
                .map_err(|cause| Problem::new("listener-tls", tls.place, format!("cannot use `client_ca`: {cause}")))?;
            builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver)
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The common name of a caller's certificate.
pub fn caller(certificates: Option<&[CertificateDer<'_>]>) -> Option<String> {
    let details = super::inspect::Details::of(certificates?.first()?).ok()?;
    Some(details.short_subject().to_owned())
}
