//! JSON Web Signatures (RFC 7515, 7518, 8037) and the keys for them, as people have them: PEM in every form,
//! JWK, a shared secret. Pure; what a scheme configures is a [`SigningKey`], what signs is the [`Signer`] in it.

mod key;
mod setting;
mod template;
mod token;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value as Json};

pub use key::{Key, Refused};
pub use setting::{SigningKey, encodings};
pub use template::{Part, Template, offset};
pub use token::Token;

use crate::failure::Failure;

/// RFC 7518 §3.1, RFC 8037 §3.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// A word of a config, and what it means.
pub type Words = [(&'static str, Algorithm)];

impl Algorithm {
    pub const ALL: [(&'static str, Algorithm); 13] = [
        ("HS256", Algorithm::Hs256),
        ("HS384", Algorithm::Hs384),
        ("HS512", Algorithm::Hs512),
        ("RS256", Algorithm::Rs256),
        ("RS384", Algorithm::Rs384),
        ("RS512", Algorithm::Rs512),
        ("PS256", Algorithm::Ps256),
        ("PS384", Algorithm::Ps384),
        ("PS512", Algorithm::Ps512),
        ("ES256", Algorithm::Es256),
        ("ES384", Algorithm::Es384),
        ("ES512", Algorithm::Es512),
        ("EdDSA", Algorithm::EdDsa),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, algorithm)| *algorithm == self).map_or("", |(name, _)| name)
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(own, _)| *own == name).map(|(_, algorithm)| *algorithm)
    }
}

/// A key, and the algorithm it signs by.
pub struct Signer {
    key: Key,
    algorithm: Algorithm,
}

impl Signer {
    /// # Errors
    /// The key cannot sign by that algorithm. `None`: by the one its JWK names, else the usual one for its kind.
    pub fn new(key: Key, algorithm: Option<Algorithm>) -> Result<Self, Refused> {
        let algorithm = algorithm.or(key.algorithm()).unwrap_or_else(|| key.usual());
        match key.fits(algorithm) {
            true => Ok(Self { key, algorithm }),
            false => Err(key.misfit(Some(algorithm.name()), Some(key.usual().name()))),
        }
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The signature of `message`: fixed width for ECDSA (RFC 7518 §3.4).
    ///
    /// # Errors
    /// The library refuses.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        self.key.sign(self.algorithm, message)
    }

    /// The compact form (RFC 7515 §7.1) of a JWT: `alg` is put first in `header`, the rest stands as given, in its order.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    pub fn jwt(&self, header: &Map<String, Json>, claims: &Map<String, Json>) -> Result<String, Failure> {
        let mut whole = Map::new();
        whole.insert("alg".to_owned(), self.algorithm.name().into());
        whole.extend(header.iter().filter(|(name, _)| *name != "alg").map(|(name, value)| (name.clone(), value.clone())));
        self.compact(&Json::Object(whole).to_string(), Json::Object(claims.clone()).to_string().as_bytes())
    }

    /// The compact form over bytes as they are.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    pub fn compact(&self, header: &str, payload: &[u8]) -> Result<String, Failure> {
        let input = format!("{}.{}", base64url(header.as_bytes()), base64url(payload));
        let signature = self.sign(input.as_bytes())?;
        Ok(format!("{input}.{}", base64url(&signature)))
    }
}

pub fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The SHA-256 thumbprint of a public key (RFC 7638 §3): of its required members, in the order of their names.
pub fn thumbprint(jwk: &Map<String, Json>) -> String {
    const REQUIRED: [&str; 7] = ["crv", "e", "k", "kty", "n", "x", "y"];
    let members: Map<String, Json> =
        REQUIRED.iter().filter_map(|name| Some(((*name).to_owned(), jwk.get(*name)?.clone()))).collect();
    base64url(digest(&SHA256, Json::Object(members).to_string().as_bytes()).as_ref())
}

#[cfg(test)]
pub use tests::verifies;

#[cfg(test)]
mod tests;
