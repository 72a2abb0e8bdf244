//! DPoP (RFC 9449): tokens that are bound to a key, and a proof of it with each request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method};
use serde_json::{Map, Value as Json};

use crate::auth::jose::{Key, Signer, base64url};
use crate::challenge::Challenge;
use crate::failure::{Cause, Failure};
use crate::moment::{Moment, NonceKind, random_hex};
use crate::origin::Origin;
use crate::secret::Secret;

pub const PROOF: HeaderName = HeaderName::from_static("dpop");
pub const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The key that tokens are bound to.
pub struct Bound {
    signer: Signer,
    /// As it is kept in a file; `None`: given by the settings.
    pub text: Option<Secret>,
}

impl Bound {
    /// # Errors
    /// It is no private key.
    pub fn read(text: &Secret, keep: bool) -> Result<Self, Failure> {
        let signer = Signer::new(Key::read(text.expose(), None)?, None)?;
        Ok(Self { signer, text: keep.then(|| text.clone()) })
    }

    /// A new P-256 key.
    ///
    /// # Errors
    /// The system's generator fails.
    pub fn generate() -> Result<Self, Failure> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| Failure::new(Cause::Internal, "no key could be made: the random generator failed"))?;
        let text = pem::encode(&pem::Pem::new("PRIVATE KEY", made.as_ref()));
        Self::read(&Secret::new(text), true)
    }

    /// The proof for one request (RFC 9449 §4.2).
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn proof(&self, proven: &Proven<'_>, nonce: Option<&str>, moment: &Moment) -> Result<String, Failure> {
        let mut header = Map::new();
        header.insert("typ".to_owned(), "dpop+jwt".into());
        header.insert("jwk".to_owned(), Json::Object(self.signer.key().public_jwk().unwrap_or_default()));
        let mut claims = Map::new();
        claims.insert("jti".to_owned(), moment.nonce(NonceKind::Jti, random_hex::<16>).into());
        claims.insert("htm".to_owned(), proven.method.as_str().into());
        claims.insert("htu".to_owned(), format!("{}{}", proven.origin, proven.target.path()).into());
        claims.insert("iat".to_owned(), moment.unix().into());
        if let Some(token) = proven.token {
            let hash = digest(&SHA256, token.expose().as_bytes());
            claims.insert("ath".to_owned(), base64url(hash.as_ref()).into());
        }
        if let Some(nonce) = nonce {
            claims.insert("nonce".to_owned(), nonce.into());
        }
        self.signer.jwt(&header, &claims)
    }
}

/// What a proof is of.
pub struct Proven<'a> {
    pub method: &'a Method,
    pub origin: &'a Origin,
    pub target: &'a PathAndQuery,
    /// `None` toward the token endpoint.
    pub token: Option<&'a Secret>,
}

/// The newest nonce of each server (RFC 9449 §8, §9).
#[derive(Default)]
pub struct Nonces(Mutex<HashMap<Arc<Origin>, String>>);

/// Servers whose nonce is kept.
const SERVERS: usize = 256;

/// A nonce that is longer is no honest one.
const LONGEST: usize = 1024;

impl Nonces {
    pub fn of(&self, origin: &Origin) -> Option<String> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).get(origin).cloned()
    }

    /// Takes in what an answer says; true when it is another one than before.
    pub fn learn(&self, origin: &Arc<Origin>, headers: &HeaderMap) -> bool {
        let Some(nonce) = headers.get(NONCE).and_then(|value| value.to_str().ok()) else { return false };
        if nonce.is_empty() || nonce.len() > LONGEST {
            return false;
        }
        let mut known = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if known.len() >= SERVERS && !known.contains_key(origin) {
            known.clear();
        }
        known.insert(origin.clone(), nonce.to_owned()).as_deref() != Some(nonce)
    }
}

/// Does a challenge ask for a proof with the nonce that came along?
pub fn asks_for_nonce(challenges: &[Challenge]) -> bool {
    challenges.iter().any(|challenge| challenge.scheme == "dpop" && challenge.get("error") == Some("use_dpop_nonce"))
}
