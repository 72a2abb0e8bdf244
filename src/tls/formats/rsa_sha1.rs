//! Signatures with SHA-1, which OAuth 1 asks for and the default backend does not make.

use openssl::hash::MessageDigest;
use openssl::pkey::Id;
use openssl::sign::Signer;

use super::key_error::KeyError;
use super::openssl_key::private_key;
use super::{key, pem};

/// RSASSA-PKCS1-v1_5 with SHA-1 (RFC 5849 §3.4.3 names it `RSA-SHA1`), of the RSA key in `text` (PEM, unencrypted).
///
/// # Errors
/// There is no RSA key in the text, or this machine's OpenSSL does not sign with SHA-1.
pub fn sign(text: &[u8], message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let blocks = pem::read(text);
    let block = blocks.iter().find(|block| block.is_private_key()).ok_or(KeyError::Damaged("it holds no private key"))?;
    let key = private_key(key::from_block(block, None)?.secret_der())?;
    if key.id() != Id::RSA {
        return Err(KeyError::Unsupported {
            what: "its key is not an RSA key".to_owned(),
            help: "RSA-SHA1 signs with an RSA key".to_owned(),
        });
    }
    let signed = Signer::new(MessageDigest::sha1(), &key).and_then(|mut signer| signer.sign_oneshot_to_vec(message));
    signed.map_err(|error| KeyError::Unsupported {
        what: format!("OpenSSL does not sign with SHA-1 here: {error}"),
        help: "the machine's cryptography policy forbids SHA-1; use HMAC-SHA256 or RSA-SHA256 where the server takes it"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl dgst -sha1 -sign`.
    const SIGNED: &str = "4e50fda023cda60c1b44579eaabd0ddeb0e6ac4502b09853fe1f49afcd8f95b2849dbe59b4e7bdf5287482eb3708c0e9622507f1e667feffa520a02444942d12fd8704b3c3c6a35be52c95cbd495e9cf361940475769b2bbb47e086541ed7b5210c48bfeb3f2fc687d9086c41605dae5d4494a5d2ff42f46572b1d387dfe6d6914276ae40413ccbe5359e57ed74a609242094840240f80aedacfbfb5ef0b4863dfbae15b6afbd678658707b17183d9199c48847474af53949f556efaba9a0391d7ad2cdfe1b7b568f3f8978b6f6fd3b7576f26ad3578b58a1df6fd56516fa8e32de50ee34201d7f155add4968885e3a95b0f3a1006e63a7b16f09d33330afcdf";

    #[test]
    fn rsa_sha1_is_what_openssl_itself_writes() {
        let key = include_bytes!("../../../tests/fixtures/tls/bob.key");
        let signature = sign(key, b"GET&http%3A%2F%2Fexample.com%2F&a%3Db").unwrap();
        let hex: String = signature.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, SIGNED);
    }

    #[test]
    fn only_an_rsa_key_makes_an_rsa_signature() {
        let ec = include_bytes!("../../../tests/fixtures/tls/alice.key");
        assert!(matches!(sign(ec, b""), Err(KeyError::Unsupported { .. })));
        assert!(matches!(sign(b"", b""), Err(KeyError::Damaged(_))));
    }
}
