//! Listeners that themselves speak TLS ("https proxy"), and may ask callers for a certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;

use crate::tls::formats::alpn::protocol_id;
use crate::tls::out::identity::{self, Identity};
use crate::tls::out::trust::Trust;
use crate::tls::{Loaded, Problem, provider};
use rustls::pki_types::{CertificateDer, ServerName};

use crate::origin::Host;
use crate::settings::{Pem, Place};
use crate::tls::settings::{Alpn, BundleSource, ListenerTls};

/// How a listener speaks TLS. Equal when certificate, key and client CA are.
pub struct Listening {
    pub config: Arc<ServerConfig>,
    pub identity: Identity,
    /// Whom callers' certificates must be from.
    pub callers: Option<Trust>,
    /// What it was read from.
    pub files: Vec<PathBuf>,
}

impl PartialEq for Listening {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
            && self.callers == other.callers
            && self.config.alpn_protocols == other.config.alpn_protocols
    }
}

/// With `h2`, HTTP/2 is offered, too: not to proxy requests, since CONNECT over it is not spoken here.
///
/// # Errors
/// A certificate, key or client CA cannot be used, and the mend.
pub fn listening(tls: &ListenerTls, h2: bool, bound: usize) -> Result<Loaded<Listening>, Problem> {
    let Loaded { value: identity, mut warnings } = identity::load_pair(&tls.cert, &tls.key, tls.place, bound)?;
    if identity.details().purposes.is_some_and(|p| !p.server) {
        let message = format!("the certificate {} is not meant for servers (no serverAuth)", identity.details().name());
        warnings.push(Problem::new("not-a-server-certificate", tls.place, message).help("clients will refuse it"));
    }
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3");
    let (builder, callers) = match &tls.client_ca {
        Some(path) => {
            let (verifier, callers, more) = client_verifier(path, tls.place, bound)?;
            warnings.extend(more);
            (builder.with_client_cert_verifier(verifier), Some(callers))
        }
        None => (builder.with_no_client_auth(), None),
    };
    let key = identity.certified_key().expect("only keys that rustls can use are loaded for listeners");
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from((*key).clone())));
    if let Ok(ticketer) = Ticketer::new() {
        config.ticketer = ticketer;
    }
    let protocols: &[Alpn] = if h2 { &[Alpn::H2, Alpn::Http11] } else { &[Alpn::Http11] };
    config.alpn_protocols = protocols.iter().map(|alpn| protocol_id(*alpn).to_vec()).collect();
    Ok(Loaded { value: Listening { config: Arc::new(config), identity, callers, files: tls.files().collect() }, warnings })
}

type Verifier = (Arc<dyn ClientCertVerifier>, Trust, Vec<Problem>);

fn client_verifier(path: &Path, place: Place, bound: usize) -> Result<Verifier, Problem> {
    let source =
        BundleSource { name: None, place, files: vec![(Pem::File(path.to_owned()), place)], system_roots: false, spiffe: None };
    let wrong = |why: String| {
        Problem::new("bad-client-ca", place, format!("{} cannot say who may call: {why}", path.display()))
            .help("`client_ca:` names the certificates of the CAs that issue your clients' certificates")
    };
    let first = |problems: Vec<Problem>| problems.into_iter().next().unwrap_or_else(|| wrong("it is empty".to_owned()));
    let Loaded { value: trust, warnings } = Trust::load(&source, bound).map_err(first)?;
    if trust.anchors().is_empty() {
        return Err(wrong("it holds no CA certificate".to_owned()));
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(trust.anchors()), provider())
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    Ok((verifier, trust, warnings))
}

/// The common name of a caller's certificate.
pub fn caller(certificates: Option<&[CertificateDer<'_>]>) -> Option<String> {
    let details = crate::tls::formats::inspect::Details::read(certificates?.first()?).ok()?;
    Some(details.name().to_owned())
}

/// Would a client that expects `name` believe this certificate, as far as names go?
pub fn is_for(leaf: &CertificateDer<'_>, name: &Host) -> bool {
    let Ok(name) = ServerName::try_from(name.to_string().trim_matches(['[', ']']).to_owned()) else { return false };
    let Ok(leaf) = rustls::server::ParsedCertificate::try_from(leaf) else { return false };
    rustls::client::verify_server_name(&leaf, &name).is_ok()
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::tls::testing::{BOUND, Ca, client, meet, params, spec};

    #[tokio::test]
    async fn a_listener_shows_its_certificate_and_asks_callers_for_theirs() {
        let (ca, people) = (Ca::root("Root"), Ca::root("People"));
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| crate::files::write_private(&path(name), text.as_bytes()).unwrap();
        write("server.pem", &ca.server("proxy.test").pem());
        write("people.pem", &crate::tls::formats::pem::encode("CERTIFICATE", &people.der));
        let place = Place::default();
        let tls = |client_ca: Option<&str>| ListenerTls {
            place,
            cert: path("server.pem"),
            key: path("server.pem"),
            client_ca: client_ca.map(path),
        };
        let open = listening(&tls(None), false, BOUND).unwrap_or_else(|p| panic!("{p}"));
        assert!(open.warnings.is_empty());
        let nobody = client(&spec(ca.trust()));
        assert_eq!(
            meet(&nobody, "proxy.test", &[Alpn::H2, Alpn::Http11], open.value.config).await.unwrap().alpn,
            Some(Alpn::Http11)
        );
        let closed = listening(&tls(Some("people.pem")), false, BOUND).unwrap_or_else(|p| panic!("{p}")).value.config;
        assert!(meet(&nobody, "proxy.test", &[Alpn::H2], Arc::clone(&closed)).await.is_err());
        let mut knowing = spec(ca.trust());
        knowing.identities = vec![people.client("ci").identity()];
        assert_eq!(meet(&client(&knowing), "proxy.test", &[], closed).await.unwrap().seen.as_deref(), Some("ci"));
        let leaf = people.issue(&params("no CA", &[]));
        write("leaf.pem", &crate::tls::formats::pem::encode("CERTIFICATE", leaf.leaf()));
        let problem = listening(&tls(Some("leaf.pem")), false, BOUND).err().unwrap();
        assert_eq!(problem.code, "bad-client-ca");
    }
}
