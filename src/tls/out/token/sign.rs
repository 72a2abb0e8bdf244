//! From what TLS calls a signature to what PKCS#11 calls it. Pure.

use aws_lc_rs::digest::{self, Algorithm, SHA256, SHA384, SHA512};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::KeyType;
use cryptoki::types::Ulong;
use rustls::{SignatureAlgorithm, SignatureScheme as Scheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::tls::Problem;
use crate::tls::formats::ber::{Element, INTEGER};

/// A message that a key signed to show what it can.
#[derive(Clone)]
pub(super) struct Trial {
    pub scheme: Scheme,
    pub signature: Vec<u8>,
    /// The certificate's key that it verified with, once known.
    pub key: std::sync::Arc<std::sync::OnceLock<Vec<u8>>>,
}

/// What is signed for a trial. Longer than any digest, and nothing that TLS ever signs (RFC 8446 §4.4.3).
pub(super) const TRIAL: &[u8] =
    b"gatepass: does this key sign, and which certificate is its own? This text is signed to find out.";

impl Trial {
    /// Was this other trial made by the same key?
    pub(super) fn same_key(&self, other: &Trial) -> bool {
        match self.key.get() {
            Some(key) => verify(key, other),
            None => false,
        }
    }
}

fn verify(key: &[u8], trial: &Trial) -> bool {
    let Some(algorithm) = verification(trial.scheme) else { return false };
    UnparsedPublicKey::new(algorithm, key).verify(TRIAL, &trial.signature).is_ok()
}

/// The SubjectPublicKeyInfo of a certificate whose key made the trial.
pub(super) fn verified_by(certificate: &[u8], trial: &Trial) -> Option<Vec<u8>> {
    let (_, cert) = X509Certificate::from_der(certificate).ok()?;
    let key = &cert.public_key().subject_public_key.data;
    if !verify(key, trial) {
        return None;
    }
    let _ = trial.key.set(key.to_vec());
    Some(cert.public_key().raw.to_vec())
}

fn verification(scheme: Scheme) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match scheme {
        Scheme::RSA_PKCS1_SHA256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Scheme::RSA_PSS_SHA256 => &signature::RSA_PSS_2048_8192_SHA256,
        Scheme::ECDSA_NISTP256_SHA256 => &signature::ECDSA_P256_SHA256_ASN1,
        Scheme::ECDSA_NISTP384_SHA384 => &signature::ECDSA_P384_SHA384_ASN1,
        Scheme::ECDSA_NISTP521_SHA512 => &signature::ECDSA_P521_SHA512_ASN1,
        Scheme::ED25519 => &signature::ED25519,
        _ => return None,
    })
}

/// The schemes that a key of this kind has on a token with these mechanisms, the best first; else what is
/// missing.
pub(super) fn schemes(kind: KeyType, curve: Option<&[u8]>, mechanisms: &[MechanismType]) -> Result<Vec<Scheme>, String> {
    let can = |mechanism| mechanisms.contains(&mechanism);
    if kind == KeyType::RSA {
        let mut schemes = Vec::new();
        if can(MechanismType::RSA_PKCS_PSS) {
            schemes.extend([Scheme::RSA_PSS_SHA256, Scheme::RSA_PSS_SHA384, Scheme::RSA_PSS_SHA512]);
        }
        if can(MechanismType::RSA_PKCS) {
            schemes.extend([Scheme::RSA_PKCS1_SHA256, Scheme::RSA_PKCS1_SHA384, Scheme::RSA_PKCS1_SHA512]);
        }
        return if schemes.is_empty() {
            Err("its token has neither CKM_RSA_PKCS_PSS nor CKM_RSA_PKCS".to_owned())
        } else {
            Ok(schemes)
        };
    }
    if kind == KeyType::EC_EDWARDS {
        // The name of the curve, or its object identifier (PKCS #11 3.0 §2.3.10; RFC 8410).
        if !matches!(curve, Some(b"\x13\x0cedwards25519" | [0x06, 0x03, 0x2b, 0x65, 0x70])) {
            return Err("its curve is not edwards25519".to_owned());
        }
        return if can(MechanismType::EDDSA) {
            Ok(vec![Scheme::ED25519])
        } else {
            Err("its token does not have CKM_EDDSA".to_owned())
        };
    }
    if kind != KeyType::EC {
        return Err("it is no RSA, EC or Ed25519 key".to_owned());
    }
    // CKA_EC_PARAMS is the object identifier of the curve in DER.
    let scheme = match curve {
        Some([0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]) => Scheme::ECDSA_NISTP256_SHA256,
        Some([0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22]) => Scheme::ECDSA_NISTP384_SHA384,
        Some([0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23]) => Scheme::ECDSA_NISTP521_SHA512,
        _ => return Err("its curve is not P-256, P-384 or P-521".to_owned()),
    };
    if can(MechanismType::ECDSA) { Ok(vec![scheme]) } else { Err("its token does not have CKM_ECDSA".to_owned()) }
}

/// What a key cannot do that people will miss.
pub(super) fn limits(schemes: &[Scheme], name: &str) -> Option<Problem> {
    let rsa_only_old = schemes.first() == Some(&Scheme::RSA_PKCS1_SHA256);
    rsa_only_old.then(|| {
        Problem::new("no-tls13", None, format!("the token of {name} cannot do RSA-PSS, which TLS 1.3 needs"))
            .help("where the server speaks TLS 1.3, set `tls: { max_version: \"1.2\" }` in the rule")
    })
}

pub(super) fn algorithm(scheme: Option<Scheme>) -> SignatureAlgorithm {
    match scheme {
        Some(Scheme::ED25519) => SignatureAlgorithm::ED25519,
        Some(Scheme::ECDSA_NISTP256_SHA256 | Scheme::ECDSA_NISTP384_SHA384 | Scheme::ECDSA_NISTP521_SHA512) => {
            SignatureAlgorithm::ECDSA
        }
        _ => SignatureAlgorithm::RSA,
    }
}

/// What the token is asked: a mechanism, and what it is given.
pub(super) fn request(scheme: Scheme, message: &[u8]) -> Option<(Mechanism<'static>, Vec<u8>)> {
    let hash = |algorithm| digest::digest(algorithm, message).as_ref().to_vec();
    let pss = |algorithm: &'static Algorithm, hash_alg, mgf| {
        let s_len = Ulong::try_from(algorithm.output_len()).unwrap_or(Ulong::new(32));
        Mechanism::RsaPkcsPss(PkcsPssParams { hash_alg, mgf, s_len })
    };
    Some(match scheme {
        Scheme::RSA_PSS_SHA256 => (pss(&SHA256, MechanismType::SHA256, PkcsMgfType::MGF1_SHA256), hash(&SHA256)),
        Scheme::RSA_PSS_SHA384 => (pss(&SHA384, MechanismType::SHA384, PkcsMgfType::MGF1_SHA384), hash(&SHA384)),
        Scheme::RSA_PSS_SHA512 => (pss(&SHA512, MechanismType::SHA512, PkcsMgfType::MGF1_SHA512), hash(&SHA512)),
        Scheme::RSA_PKCS1_SHA256 => (Mechanism::RsaPkcs, digest_info(1, &hash(&SHA256))),
        Scheme::RSA_PKCS1_SHA384 => (Mechanism::RsaPkcs, digest_info(2, &hash(&SHA384))),
        Scheme::RSA_PKCS1_SHA512 => (Mechanism::RsaPkcs, digest_info(3, &hash(&SHA512))),
        Scheme::ECDSA_NISTP256_SHA256 => (Mechanism::Ecdsa, hash(&SHA256)),
        Scheme::ECDSA_NISTP384_SHA384 => (Mechanism::Ecdsa, hash(&SHA384)),
        Scheme::ECDSA_NISTP521_SHA512 => (Mechanism::Ecdsa, hash(&SHA512)),
        Scheme::ED25519 => (Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), message.to_vec()),
        _ => return None,
    })
}

/// What TLS wants of the token's answer.
pub(super) fn answer(scheme: Scheme, signature: Vec<u8>) -> Vec<u8> {
    match algorithm(Some(scheme)) {
        SignatureAlgorithm::ECDSA => ecdsa_der(&signature),
        _ => signature,
    }
}

/// DigestInfo (RFC 8017 §9.2 note 1); `kind`: the last arc of the SHA-2's identifier 2.16.840.1.101.3.4.2.
fn digest_info(kind: u8, digest: &[u8]) -> Vec<u8> {
    let oid = Element::oid(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, kind]);
    let algorithm = Element::sequence(vec![oid, Element::Primitive(0x05, Vec::new())]);
    Element::sequence(vec![algorithm, Element::octets(digest.to_vec())]).to_der()
}

/// PKCS#11 has r and s side by side, TLS has ECDSA-Sig-Value (RFC 3279 §2.2.3).
fn ecdsa_der(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(raw.len() / 2);
    Element::sequence(vec![integer(r), integer(s)]).to_der()
}

/// A positive INTEGER: no leading zeros but the one that keeps it positive (X.690 §8.3).
fn integer(bytes: &[u8]) -> Element {
    let mut body: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    if body.first().is_none_or(|byte| *byte & 0x80 != 0) {
        body.insert(0, 0);
    }
    Element::Primitive(INTEGER, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ecdsa_signature_is_written_as_two_positive_integers() {
        let raw = [&[0, 0, 1][..], &[0x80, 0, 0]].concat();
        assert_eq!(ecdsa_der(&raw), [0x30, 9, 2, 1, 1, 2, 4, 0, 0x80, 0, 0]);
        assert_eq!(ecdsa_der(&[0; 4]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
    }

    #[test]
    fn a_digest_info_is_what_rfc_8017_prints() {
        // §9.2, note 1: SHA-256.
        let begin =
            [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];
        let info = digest_info(1, &[7; 32]);
        assert_eq!((&info[..19], &info[19..]), (&begin[..], &[7; 32][..]));
        assert_eq!(digest_info(3, &[7; 64])[..2], [0x30, 0x51]);
    }

    #[test]
    fn the_schemes_of_a_key_are_those_that_its_token_can_do() {
        let all = [MechanismType::RSA_PKCS, MechanismType::RSA_PKCS_PSS, MechanismType::ECDSA];
        assert_eq!(schemes(KeyType::RSA, None, &all).unwrap().len(), 6);
        let old = schemes(KeyType::RSA, None, &all[..1]).unwrap();
        assert_eq!(old[0], Scheme::RSA_PKCS1_SHA256);
        assert!(limits(&old, "x").unwrap().message.contains("TLS 1.3"));
        let p384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
        assert_eq!(schemes(KeyType::EC, Some(p384), &all).unwrap(), [Scheme::ECDSA_NISTP384_SHA384]);
        for (kind, curve, mechanisms, why) in [
            (KeyType::RSA, None, &all[2..], "neither"),
            (KeyType::EC, Some(p384), &all[..2], "CKM_ECDSA"),
            (KeyType::EC, Some(&p384[..3]), &all[..], "curve"),
            (KeyType::EC_EDWARDS, None, &all[..], "edwards25519"),
            (KeyType::EC_EDWARDS, Some(&[0x06, 0x03, 0x2b, 0x65, 0x70]), &all[..], "CKM_EDDSA"),
            (KeyType::AES, None, &all[..], "no RSA"),
        ] {
            let told = schemes(kind, curve, mechanisms).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
