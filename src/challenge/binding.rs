//! Channel bindings (RFC 5056): what ties a credential to the TLS connection it is sent on, so that whoever
//! relays it over another cannot use it.

use aws_lc_rs::digest;
use md5::{Digest as _, Md5};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// The application data of `tls-server-end-point` (RFC 5929 §4.1): the server's certificate (DER), hashed as its
/// own signature is; by SHA-256 where that is MD5 or SHA-1, or names no single hash.
pub fn server_end_point(certificate: &[u8]) -> Vec<u8> {
    let hash = digest::digest(signature_hash(certificate), certificate);
    [b"tls-server-end-point:", hash.as_ref()].concat()
}

/// `MD5(gss_channel_bindings_struct)` (MS-NLMP 3.1.5.1.2, RFC 4121 §4.1.1.2): no addresses, only application data.
pub fn gss_hash(application_data: &[u8]) -> [u8; 16] {
    let length = u32::try_from(application_data.len()).unwrap_or(u32::MAX).to_le_bytes();
    Md5::new().chain_update([0; 16]).chain_update(length).chain_update(application_data).finalize().into()
}

fn signature_hash(certificate: &[u8]) -> &'static digest::Algorithm {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return &digest::SHA256 };
    let algorithm = &certificate.signature_algorithm;
    let oid = match SignatureAlgorithm::try_from(algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => parameters.hash_algorithm_oid().to_id_string(),
        _ => algorithm.algorithm.to_id_string(),
    };
    match oid.as_str() {
        // sha384WithRSAEncryption, ecdsa-with-SHA384, id-sha384
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => &digest::SHA384,
        // sha512WithRSAEncryption, ecdsa-with-SHA512, id-sha512
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => &digest::SHA512,
        _ => &digest::SHA256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_hashed_as_its_signature_is() {
        for (algorithm, hash) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, &digest::SHA256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, &digest::SHA384),
            (&rcgen::PKCS_ED25519, &digest::SHA256),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let certificate = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
            let der = certificate.der();
            let expected = [b"tls-server-end-point:", digest::digest(hash, der).as_ref()].concat();
            assert_eq!(server_end_point(der), expected);
        }
        assert_eq!(server_end_point(b"no certificate").len(), 21 + 32);
    }
}
