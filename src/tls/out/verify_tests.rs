use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::settings::{Pem, Place};
use crate::tls::formats::crl::Crls;
use crate::tls::out::client::Client;
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::out::trust::Trust;
use crate::tls::settings::{Alpn, BundleSource, TlsSettings};
use crate::tls::testing::*;

/// Made by OpenSSL: a CA, and certificates that it signed. `leaf` is X.509 version 1, `odd` has an unknown critical
/// extension, `rsa1024` a short key.
fn version1(name: &str) -> PathBuf {
    fixture("version1").join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(version1(&format!("{name}.pem"))).unwrap()
}

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A server that does not look at its own certificate.
fn showing(name: &str, key: &str, version: &'static rustls::SupportedProtocolVersion) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_file(version1(&format!("{key}.key"))).unwrap();
    let provider = crate::tls::provider();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap().with_no_client_auth();
    Arc::new(config.with_cert_resolver(Arc::new(Shows(Arc::new(CertifiedKey::new(vec![certificate(name)], key))))))
}

fn trusting(names: &[&str]) -> ClientSpec {
    let certificates: Vec<_> = names.iter().map(|name| certificate(name)).collect();
    spec(Arc::new(Trust::of(&certificates).unwrap()))
}

fn careless() -> Client {
    let mut spec = spec(Ca::root("Else").trust());
    spec.accept_invalid_certs = true;
    client(&spec)
}

fn revoking(file: &str) -> ClientSpec {
    let crls = Crls::load(&[(version1(file), Place::default())], 1 << 20).unwrap_or_else(|problem| panic!("{problem}"));
    ClientSpec::new(Vec::new(), trusting(&["ca"]).trust, TlsSettings::default(), Arc::new(crls.value))
}

const H1: &[Alpn] = &[Alpn::Http11];

#[tokio::test]
async fn certificates_that_webpki_cannot_read_are_believed_as_they_are_pinned_and_by_danger() {
    for version in [&TLS12, &TLS13] {
        for (name, host) in [("leaf", "v1.test"), ("odd", "odd.test")] {
            let shown = showing(name, name, version);
            let as_it_is = client(&trusting(&[name]));
            meet(&as_it_is, host, H1, shown.clone()).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
            refusal(&as_it_is, "else.test", shown.clone()).await;
            meet(&careless(), "any.test", H1, shown.clone()).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));

            let pin = super::Details::read(&certificate(name)).unwrap().spki_sha256;
            for (pin, fits) in [(pin, true), ([7; 32], false)] {
                let mut pinned = trusting(&[name]);
                pinned.settings.pins = Some(vec![pin]);
                assert_eq!(meet(&client(&pinned), host, H1, shown.clone()).await.is_ok(), fits, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn whoever_shows_such_a_certificate_must_hold_its_key() {
    for version in [&TLS12, &TLS13] {
        let stolen = showing("leaf", "odd", version);
        refusal(&client(&trusting(&["leaf"])), "v1.test", stolen.clone()).await;
        refusal(&client(&trusting(&["ca"])), "v1.test", stolen.clone()).await;
        refusal(&careless(), "v1.test", stolen).await;
    }
}

#[tokio::test]
async fn a_version_1_certificate_is_believed_where_a_trusted_ca_signed_it() {
    let shown = showing("leaf", "leaf", &TLS13);
    let knowing = client(&trusting(&["ca"]));
    meet(&knowing, "v1.test", H1, shown.clone()).await.unwrap_or_else(|failure| panic!("{failure}"));
    let text = refusal(&knowing, "else.test", shown.clone()).await;
    assert!(text.contains("only the common name v1.test"), "{text}");
    let namesake = Ca::root("Version 1 CA");
    for stranger in [namesake, Ca::root("Else")] {
        let text = refusal(&client(&spec(stranger.trust())), "v1.test", shown.clone()).await;
        assert!(text.contains("version 1") && text.contains("\"Version 1 CA\"") && text.contains("ca_bundle"), "{text}");
    }
}

#[tokio::test]
async fn what_webpki_refuses_is_told_in_words() {
    let knowing = client(&trusting(&["ca"]));
    let text = refusal(&knowing, "odd.test", showing("odd", "odd", &TLS13)).await;
    assert!(text.contains("critical extension that is not understood") && text.contains("ca_bundle"), "{text}");
}

#[tokio::test]
async fn a_short_rsa_key_is_named_and_not_the_ca_blamed() {
    let ca = trusting(&["ca"]);
    let issued = certificate("rsa1024");
    let details = super::Details::read(&issued).unwrap();
    assert_eq!(details.rsa_bits(), Some(1024));
    let failure = client(&ca).failure(
        &std::io::Error::other(rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature)),
        &host("small.test"),
        &*seen(&issued).await,
    );
    assert!(failure.to_string().contains("RSA key of 1024 bits") && !failure.to_string().contains("of that name"), "{failure}");
}

/// A handshake in which this certificate was shown.
async fn seen(certificate: &CertificateDer<'_>) -> Arc<crate::tls::out::handshake::Handshake> {
    let handshake = crate::tls::out::handshake::Handshake::new();
    handshake.watch(async { crate::tls::out::handshake::note_presented(certificate, &[]) }).await;
    handshake
}

#[tokio::test]
async fn lists_of_version_1_are_used() {
    let shown = showing("leaf", "leaf", &TLS13);
    meet(&client(&revoking("empty-v1.crl")), "v1.test", H1, shown.clone()).await.unwrap_or_else(|failure| panic!("{failure}"));
    let text = refusal(&client(&revoking("revoked-v1.crl")), "v1.test", shown.clone()).await;
    assert!(text.contains("is revoked"), "{text}");

    // In the name of a CA that did not sign it.
    let mut forged = revoking("empty-v1.crl");
    let namesake = Ca::root("Version 1 CA");
    forged.trust = namesake.trust();
    let text = refusal(&client(&forged), "api.test", server(&namesake.server("api.test"), &[])).await;
    assert!(text.contains("cannot be told"), "{text}");
}

fn bundle(path: PathBuf) -> Result<crate::tls::Loaded<Trust>, Vec<crate::tls::Problem>> {
    let (place, files) = (Place::default(), vec![(Pem::File(path), Place::default())]);
    let source = BundleSource { name: None, place, files, system_roots: false, spiffe: None };
    Trust::load(&source, 1 << 20)
}

#[test]
fn a_trusted_certificate_that_is_not_for_servers_is_no_ca() {
    let trusted = |name: &str| bundle(fixture("trusted").join(name));
    for name in ["alias.pem", "server.pem"] {
        assert_eq!(trusted(name).unwrap_or_else(|p| panic!("{name}: {}", p[0])).value.anchors().len(), 1, "{name}");
    }
    // `openssl verify -purpose sslserver` refuses the same three.
    for name in ["mail.pem", "rejected.pem", "any.pem"] {
        let problems = trusted(name).err().unwrap_or_else(|| panic!("{name} is believed"));
        assert!(problems[0].to_string().contains("trust settings do not cover servers"), "{name}: {}", problems[0]);
    }
}

#[test]
fn an_entry_of_a_ca_folder_that_cannot_be_read_is_skipped_and_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(version1("ca.pem"), folder.path().join("ca.pem")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("gone.pem"), folder.path().join("0a1b2c3d.0")).unwrap();
    std::fs::write(folder.path().join("README"), "CAs of this company").unwrap();
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    std::fs::create_dir(folder.path().join("old")).unwrap();
    let loaded = bundle(folder.path().to_owned()).unwrap_or_else(|problems| panic!("{}", problems[0]));
    assert_eq!(loaded.value.anchors().len(), 1);
    let said: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(said.len() == 1 && said[0].contains("0a1b2c3d.0") && said[0].contains("skipped"), "{said:?}");
}
