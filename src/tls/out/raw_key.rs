//! Signatures checked with a certificate's public key alone: for certificates and revocation lists that
//! webpki does not read (X.509 version 1, unknown critical extensions), and that the user believes all the same.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error};

use crate::tls::formats::ber::{CONTEXT_0, Element, INTEGER, wrap_sequence};

/// X.690 §8.6.
const BIT_STRING: u8 = 0x03;

/// webpki cannot read it, so that rustls has no key to check a handshake's signature with.
pub(super) fn is_unreadable(certificate: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(certificate).is_err()
}

/// The handshake's signature (RFC 8446 §4.4.3) by the key of an unreadable certificate.
///
/// # Errors
/// The certificate has no key, or the signature is not made with it.
pub(super) fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let leaf = Tbs::read(certificate).ok_or(CertificateError::BadEncoding)?;
    verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(leaf.key.to_der()), dss, algorithms)
}

/// As [`verify_tls13`], for RFC 5246 §7.4.3, where a scheme leaves the curve open.
///
/// # Errors
/// The certificate has no key, or the signature is not made with it.
pub(super) fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let leaf = Tbs::read(certificate).ok_or(CertificateError::BadEncoding)?;
    let key = PublicKey::of(&leaf.key).ok_or(CertificateError::BadEncoding)?;
    let fitting = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == dss.scheme).flat_map(|(_, all)| all.iter());
    let mut fitting = fitting.filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key.algorithm);
    match fitting.any(|algorithm| algorithm.verify_signature(key.bits, message, dss.signature()).is_ok()) {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    }
}

/// Is this certificate or revocation list signed by the holder of a key? Both are
/// `SEQUENCE { body, algorithm, signature }` (RFC 5280 §4.1, §5.1).
pub(super) fn is_signed_by(signed: &[u8], key: &Element, algorithms: &WebPkiSupportedAlgorithms) -> bool {
    let (Some(whole), Some(key)) = (Element::read(signed), PublicKey::of(key)) else { return false };
    let [body, algorithm, signature] = whole.children() else { return false };
    let Some(signature) = bits(signature) else { return false };
    let (body, algorithm) = (body.to_der(), contents(algorithm));
    algorithms
        .all
        .iter()
        .filter(|known| known.signature_alg_id().as_ref() == algorithm && known.public_key_alg_id().as_ref() == key.algorithm)
        .any(|known| known.verify_signature(key.bits, &body, signature).is_ok())
}

/// What a certificate says, by position (RFC 5280 §4.1), whatever else is in it.
pub(super) struct Tbs {
    pub is_version_1: bool,
    /// The INTEGER's octets.
    pub serial: Vec<u8>,
    /// The names without tag and length, as trust anchors have them.
    pub issuer: Vec<u8>,
    pub subject: Vec<u8>,
    /// SubjectPublicKeyInfo.
    pub key: Element,
}

impl Tbs {
    pub(super) fn read(certificate: &[u8]) -> Option<Self> {
        let whole = Element::read(certificate)?;
        let body = whole.child(0)?;
        let is_version_1 = body.child(0)?.tag() != CONTEXT_0;
        let at = |position: usize| body.child(usize::from(!is_version_1) + position);
        Some(Self {
            is_version_1,
            serial: at(0)?.body(INTEGER)?.to_vec(),
            issuer: contents(at(2)?),
            subject: contents(at(4)?),
            key: at(5)?.clone(),
        })
    }
}

/// An anchor holds the body of the SubjectPublicKeyInfo.
pub(super) fn key_of_anchor(anchor: &TrustAnchor<'_>) -> Element {
    Element::read(&wrap_sequence(&anchor.subject_public_key_info)).unwrap_or_else(|| Element::sequence(Vec::new()))
}

struct PublicKey<'a> {
    /// The AlgorithmIdentifier without tag and length.
    algorithm: Vec<u8>,
    bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    fn of(key: &'a Element) -> Option<Self> {
        let [algorithm, key] = key.children() else { return None };
        Some(Self { algorithm: contents(algorithm), bits: bits(key)? })
    }
}

/// What is in a constructed element, without its own tag and length.
fn contents(element: &Element) -> Vec<u8> {
    element.children().iter().flat_map(Element::to_der).collect()
}

/// A BIT STRING of whole octets.
fn bits(element: &Element) -> Option<&[u8]> {
    element.body(BIT_STRING)?.strip_prefix(&[0])
}
