//! Verifying the upstream's certificate: webpki's judgement, with two additions (a certificate that a
//! bundle names is believed as it is; pins) and one exception that `danger:` must ask for. What was
//! shown is remembered, so that a refusal can be explained.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::inspect::{self, Details};
use super::provider;
use super::trust::Trust;

#[derive(Debug)]
pub struct Verifier {
    webpki: Option<Arc<WebPkiServerVerifier>>,
    trust: ExactTrust,
    pins: Vec<[u8; 32]>,
    accept_invalid: bool,
    /// The chain last refused.
    refused: Mutex<Vec<CertificateDer<'static>>>,
}

struct ExactTrust(Arc<Trust>);

impl std::fmt::Debug for ExactTrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

impl Verifier {
    pub fn new(webpki: Option<Arc<WebPkiServerVerifier>>, trust: Arc<Trust>, pins: Vec<[u8; 32]>, accept_invalid: bool) -> Self {
        Self { webpki, trust: ExactTrust(trust), pins, accept_invalid, refused: Mutex::default() }
    }

    /// The chain that was refused last, leaf first.
    pub fn refused(&self) -> Vec<CertificateDer<'static>> {
        self.refused.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.accept_invalid {
            return Ok(());
        }
        if self.trust.0.holds(leaf) {
            judge_exact(leaf, name, now)?;
        } else {
            let webpki = self.webpki.as_ref().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
            webpki.verify_server_cert(leaf, rest, name, ocsp, now)?;
        }
        if !self.pins.is_empty() && !std::iter::once(leaf).chain(rest).any(|certificate| self.is_pinned(certificate)) {
            return Err(Error::General(NOT_PINNED.to_owned()));
        }
        Ok(())
    }

    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
        let hash = digest::digest(&digest::SHA256, certificate.public_key().raw);
        self.pins.iter().any(|pin| pin[..] == *hash.as_ref())
    }
}

/// What a pin failure says; `explain` looks for it.
pub const NOT_PINNED: &str = "no certificate in the chain has a pinned key";

/// A certificate that a bundle holds byte for byte: still in time, still for this name (its SANs, or its
/// CN when it has none).
fn judge_exact(leaf: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
    let details = Details::of(leaf).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(now.as_secs());
    if details.is_expired(now) {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    if details.is_early(now) {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    let wanted = name.to_str();
    let fallback = [inspect::common_name(&details.subject).to_owned()];
    let names = if details.names.is_empty() { &fallback[..] } else { &details.names[..] };
    if names.iter().any(|have| name_fits(have, &wanted)) {
        return Ok(());
    }
    Err(Error::InvalidCertificate(CertificateError::NotValidForName))
}

/// RFC 9525 §6.3: `*` stands for exactly one leftmost label.
fn name_fits(have: &str, wanted: &str) -> bool {
    if have.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let (Some(suffix), Some((_, parent))) = (have.strip_prefix("*."), wanted.split_once('.')) else { return false };
    suffix.contains('.') && suffix.eq_ignore_ascii_case(parent)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(leaf, rest, name, ocsp, now).map(|()| ServerCertVerified::assertion()).inspect_err(|_| {
            let shown = std::iter::once(leaf).chain(rest).map(|certificate| certificate.clone().into_owned()).collect();
            *self.refused.lock().unwrap_or_else(|e| e.into_inner()) = shown;
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(name_fits("*.example.com", "a.example.com"));
        assert!(name_fits("A.example.com", "a.example.com"));
        for (have, wanted) in
            [("*.example.com", "a.b.example.com"), ("*.example.com", "example.com"), ("*.com", "example.com"), ("*", "a")]
        {
            assert!(!name_fits(have, wanted), "{have} {wanted}");
        }
    }
}
