//! Signing keys: HMAC for Signature Version 4, ECDSA on P-256 for 4A.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use zeroize::{Zeroize, Zeroizing};

use super::canonical::hex;
use super::credentials::Credentials;
use crate::failure::{Cause, Failure};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    V4,
    V4a,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::V4 => "AWS4-HMAC-SHA256",
            Algorithm::V4a => "AWS4-ECDSA-P256-SHA256",
        }
    }

    /// 4A signs for a set of regions, which stands in a field of its own.
    pub fn scope(self, day: &str, region: &str, service: &str) -> String {
        match self {
            Algorithm::V4 => format!("{day}/{region}/{service}/aws4_request"),
            Algorithm::V4a => format!("{day}/{service}/aws4_request"),
        }
    }

    /// Length of a signature in a chunk's head; 4A's vary and are filled up.
    pub fn chunk_signature(self) -> usize {
        match self {
            Algorithm::V4 => 64,
            Algorithm::V4a => 144,
        }
    }
}

pub enum Signer {
    Hmac(Box<hmac::Key>),
    Ecdsa(Box<EcdsaKeyPair>),
}

impl Signer {
    /// # Errors
    /// aws-lc refuses the key, which no secret should lead to.
    pub fn new(algorithm: Algorithm, credentials: &Credentials, day: &str, region: &str, service: &str) -> Result<Self, Failure> {
        let secret = credentials.secret_key.expose();
        match algorithm {
            Algorithm::V4 => {
                let first = Zeroizing::new(format!("AWS4{secret}"));
                let mut key = hmac::Key::new(HMAC_SHA256, first.as_bytes());
                for part in [day, region, service, "aws4_request"] {
                    key = hmac::Key::new(HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
                }
                Ok(Signer::Hmac(Box::new(key)))
            }
            Algorithm::V4a => derive(&credentials.access_key, secret).map(|pair| Signer::Ecdsa(Box::new(pair))),
        }
    }

    /// The signature in hexadecimal digits.
    ///
    /// # Errors
    /// aws-lc cannot sign.
    pub fn sign(&self, text: &str) -> Result<String, Failure> {
        match self {
            Signer::Hmac(key) => Ok(hex(hmac::sign(key, text.as_bytes()).as_ref())),
            Signer::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), text.as_bytes());
                signature.map(|signature| hex(signature.as_ref())).map_err(|_| broken())
            }
        }
    }
}

fn broken() -> Failure {
    Failure::new(Cause::Internal, "the signing key for AWS Signature Version 4A cannot be used")
}

/// The order of P-256, minus two.
const LARGEST: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e,
    0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x4f,
];

/// The key pair that an access key and its secret stand for: SP 800-108 in counter mode until the number is a private
/// key less one.
pub fn derive(access_key: &str, secret: &str) -> Result<EcdsaKeyPair, Failure> {
    let text = Zeroizing::new(format!("AWS4A{secret}"));
    let key = hmac::Key::new(HMAC_SHA256, text.as_bytes());
    for counter in 1..=254u8 {
        let mut input = vec![0, 0, 0, 1];
        input.extend_from_slice(Algorithm::V4a.name().as_bytes());
        input.push(0);
        input.extend_from_slice(access_key.as_bytes());
        input.extend_from_slice(&[counter, 0, 0, 1, 0]);
        let mut number = Zeroizing::new([0u8; 32]);
        number.copy_from_slice(hmac::sign(&key, &input).as_ref());
        input.zeroize();
        if number.as_slice() <= LARGEST.as_slice() {
            for byte in number.iter_mut().rev() {
                let (sum, carry) = byte.overflowing_add(1);
                *byte = sum;
                if !carry {
                    break;
                }
            }
            return pair(&number);
        }
    }
    Err(broken())
}

/// By way of an RFC 5915 `ECPrivateKey` without its public part, which aws-lc then computes.
fn pair(number: &[u8; 32]) -> Result<EcdsaKeyPair, Failure> {
    const HEAD: [u8; 7] = [0x30, 0x31, 2, 1, 1, 4, 32];
    const CURVE: [u8; 12] = [0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    let der = Zeroizing::new([HEAD.as_slice(), number.as_slice(), CURVE.as_slice()].concat());
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).map_err(|_| broken())
}
