//! Keys: a shared secret, PEM (PKCS#1, PKCS#8, SEC1, plain or under a passphrase), JWK (RFC 7517), the data
//! URI of ASAP.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use super::{Algorithm, base64url, thumbprint};
use crate::failure::{Cause, Failure};
use crate::secret::Secret;
use crate::tls::formats::ber::{Element, INTEGER, OCTETS, OID};
use crate::tls::formats::key as pem_key;
use crate::tls::formats::key_error::KeyError;
use crate::tls::formats::pem;

/// Why there is no key: a sentence without a full stop that holds no secret, and the mend.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub message: String,
    pub help: String,
}

impl Refused {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

const WANTED: &str = "give a private key as PEM (PKCS#8, PKCS#1 or SEC1) or as JWK";

impl From<KeyError> for Refused {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::NeedsPassphrase => Self::new("this private key is under a passphrase", "add `passphrase: …`"),
            KeyError::WrongPassphrase => Self::new("this private key does not open with its passphrase", "check `passphrase`"),
            KeyError::Unsupported { what, help } => Self::new(format!("this private key cannot be read: {what}"), help),
            KeyError::Damaged(what) => Self::new(format!("this private key cannot be read: {what}"), WANTED),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Failure::new(Cause::Credential, refused.message).hint(refused.help)
    }
}

pub struct Key {
    material: Material,
    /// `kid` and `alg` where the key came with them.
    id: Option<String>,
    algorithm: Option<Algorithm>,
}

enum Material {
    Secret(Zeroizing<Vec<u8>>),
    Rsa(RsaKeyPair),
    Ec(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            Curve::P521 => "P-521",
        }
    }

    /// Octets of a coordinate.
    fn width(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            Curve::P521 => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }
}

/// Base64 as people paste it: either alphabet, with or without padding, broken into lines.
pub fn base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const ENGINES: [GeneralPurpose; 2] = [GeneralPurpose::new(&URL_SAFE, CONFIG), GeneralPurpose::new(&STANDARD, CONFIG)];
    let packed: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    ENGINES.iter().find_map(|engine| engine.decode(packed.as_str()).ok()).map(Zeroizing::new)
}

impl Key {
    /// A shared secret, for HS256, HS384, HS512.
    pub fn secret(bytes: &[u8]) -> Self {
        Self::of(Material::Secret(Zeroizing::new(bytes.to_vec())))
    }

    /// A new P-256 key, for proofs whose key need not outlive the process.
    ///
    /// # Errors
    /// The system's generator fails.
    pub fn generate() -> Result<Self, Failure> {
        let pair = EcdsaKeyPair::generate(Curve::P256.signing())
            .map_err(|_| Failure::new(Cause::Internal, "the system's random generator failed"))?;
        Ok(Self::of(Material::Ec(Curve::P256, pair)))
    }

    /// What a private key's file holds.
    ///
    /// # Errors
    /// It is no private key, one of a kind that cannot sign here, or its passphrase is wrong.
    pub fn read(text: &str, passphrase: Option<&Secret>) -> Result<Self, Refused> {
        let start = text.trim_start();
        if start.starts_with('{') {
            return from_jwk(start);
        }
        if let Some(rest) = start.strip_prefix("data:") {
            return from_data_uri(rest);
        }
        from_pem(text, passphrase)
    }

    fn of(material: Material) -> Self {
        Self { material, id: None, algorithm: None }
    }

    /// The `kid` that it came with.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// Octets of a shared secret.
    pub fn secret_len(&self) -> Option<usize> {
        match &self.material {
            Material::Secret(bytes) => Some(bytes.len()),
            _ => None,
        }
    }

    /// The algorithm that its kind is usually used with.
    pub fn usual(&self) -> Algorithm {
        match &self.material {
            Material::Secret(_) => Algorithm::Hs256,
            Material::Rsa(_) => Algorithm::Rs256,
            Material::Ec(Curve::P256, _) => Algorithm::Es256,
            Material::Ec(Curve::P384, _) => Algorithm::Es384,
            Material::Ec(Curve::P521, _) => Algorithm::Es512,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn kind(&self) -> String {
        match &self.material {
            Material::Secret(_) => "a shared secret".to_owned(),
            Material::Rsa(_) => "an RSA key".to_owned(),
            Material::Ec(curve, _) => format!("an EC key on {}", curve.name()),
            Material::Ed25519(_) => "an Ed25519 key".to_owned(),
        }
    }

    /// Can it sign by that algorithm?
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::*;
        match &self.material {
            Material::Secret(_) => matches!(algorithm, Hs256 | Hs384 | Hs512),
            Material::Rsa(_) => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            // RFC 7518 §3.4: one curve an algorithm.
            Material::Ec(..) | Material::Ed25519(_) => algorithm == self.usual(),
        }
    }

    /// That it does not fit, with algorithms by the names that a config has for them.
    pub(super) fn misfit(&self, algorithm: Option<&str>, usual: Option<&str>) -> Refused {
        let help = match usual {
            Some(usual) => format!("take the algorithm for that key, such as {usual}, or another key"),
            None => "take another key".to_owned(),
        };
        let how = algorithm.map_or_else(|| "here".to_owned(), |algorithm| format!("by {algorithm}"));
        Refused::new(format!("{} cannot sign {how}", self.kind()), help)
    }

    pub(super) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let failed = || Failure::new(Cause::Internal, format!("signing by {} failed", algorithm.name()));
        if !self.fits(algorithm) {
            return Err(self.misfit(Some(algorithm.name()), Some(self.usual().name())).into());
        }
        Ok(match &self.material {
            Material::Secret(bytes) => hmac::sign(&hmac::Key::new(mac(algorithm), bytes), message).as_ref().to_vec(),
            Material::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding(algorithm), &SystemRandom::new(), message, &mut signature).map_err(|_| failed())?;
                signature
            }
            Material::Ec(_, pair) => pair.sign(&SystemRandom::new(), message).map_err(|_| failed())?.as_ref().to_vec(),
            Material::Ed25519(pair) => pair.try_sign(message).map_err(|_| failed())?.as_ref().to_vec(),
        })
    }

    /// The public half as a JWK (RFC 7517 §4); a shared secret has none.
    pub fn public_jwk(&self) -> Option<Map<String, Json>> {
        let members: Vec<(&str, String)> = match &self.material {
            Material::Secret(_) => return None,
            Material::Rsa(pair) => {
                let public = Element::read(pair.public_key().as_ref())?;
                let number = |at: usize| Some(base64url(stripped(public.child(at)?.body(INTEGER)?)));
                vec![("kty", "RSA".to_owned()), ("n", number(0)?), ("e", number(1)?)]
            }
            Material::Ec(curve, pair) => {
                let point = pair.public_key().as_ref().get(1..)?;
                let (x, y) = point.split_at_checked(curve.width())?;
                vec![("kty", "EC".to_owned()), ("crv", curve.name().to_owned()), ("x", base64url(x)), ("y", base64url(y))]
            }
            Material::Ed25519(pair) => {
                vec![("kty", "OKP".to_owned()), ("crv", "Ed25519".to_owned()), ("x", base64url(pair.public_key().as_ref()))]
            }
        };
        Some(members.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
    }

    /// RFC 7638.
    pub fn thumbprint(&self) -> Option<String> {
        self.public_jwk().map(|jwk| thumbprint(&jwk))
    }
}

fn mac(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA256,
    }
}

fn padding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
        Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
        Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
        Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
        Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

fn stripped(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    &number[zeros..]
}

fn from_pem(text: &str, passphrase: Option<&Secret>) -> Result<Key, Refused> {
    let blocks = pem::read(text.as_bytes());
    let Some(block) = blocks.iter().find(|block| block.is_private_key()) else {
        let found = blocks.iter().map(|block| block.label.to_lowercase()).next();
        let message =
            found.map_or("this is no private key".to_owned(), |label| format!("this holds a {label}, and no private key"));
        return Err(Refused::new(message, WANTED));
    };
    let der = pem_key::from_block(block, passphrase)?;
    from_der(&der)
}

fn from_der(der: &PrivateKeyDer<'_>) -> Result<Key, Refused> {
    let material = match der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().map(Material::Rsa),
        PrivateKeyDer::Sec1(der) => ec(der.secret_sec1_der()),
        PrivateKeyDer::Pkcs8(der) => {
            let der = der.secret_pkcs8_der();
            RsaKeyPair::from_pkcs8(der)
                .ok()
                .map(Material::Rsa)
                .or_else(|| ec(der))
                .or_else(|| Ed25519KeyPair::from_pkcs8(der).ok().map(Material::Ed25519))
                .or_else(|| rsa_pss(der))
        }
        _ => None,
    };
    material.map(Key::of).ok_or_else(unsupported)
}

fn unsupported() -> Refused {
    Refused::new(
        "this private key is of a kind that cannot sign here",
        "those that can: RSA of 2048 to 8192 bits, EC on P-256, P-384 or P-521, Ed25519",
    )
}

fn ec(der: &[u8]) -> Option<Material> {
    Curve::ALL
        .into_iter()
        .find_map(|curve| Some(Material::Ec(curve, EcdsaKeyPair::from_private_key_der(curve.signing(), der).ok()?)))
}

/// A key that says it is for RSASSA-PSS only (RFC 4055 §1.2) is an RSA key inside.
fn rsa_pss(der: &[u8]) -> Option<Material> {
    const RSASSA_PSS: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    let info = Element::read(der)?;
    if info.child(1)?.child(0)?.body(OID)? != RSASSA_PSS {
        return None;
    }
    RsaKeyPair::from_der(info.child(2)?.body(OCTETS)?).ok().map(Material::Rsa)
}

/// `data:application/pkcs8;kid=service%2Fkey;base64,…`
fn from_data_uri(rest: &str) -> Result<Key, Refused> {
    let refused = || {
        Refused::new(
            "this data URI holds no private key",
            "write it as `data:application/pkcs8;kid=KEY_ID;base64,…`, the key as DER in Base64",
        )
    };
    let (head, body) = rest.split_once(',').ok_or_else(refused)?;
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let body = Zeroizing::new(decoded(body).ok_or_else(refused)?);
    let der = base64(&body).ok_or_else(refused)?;
    let mut key = from_der(&PrivateKeyDer::try_from(der.as_slice()).map_err(|_| refused())?)?;
    key.id = head.split(';').find_map(|part| part.trim().strip_prefix("kid=")).and_then(decoded);
    Ok(key)
}

/// RFC 7517 §4, RFC 7518 §6, RFC 8037 §2.
fn from_jwk(text: &str) -> Result<Key, Refused> {
    let broken = |what: &str| {
        Refused::new(format!("this JWK {what}"), "export it again as a private JWK (RFC 7517), with `kty` and its members")
    };
    let jwk: Map<String, Json> = serde_json::from_str(text).map_err(|_| broken("is not a JSON object"))?;
    if jwk.contains_key("keys") {
        return Err(Refused::new("this is a set of keys", "give one of its keys, the object that has `kty`"));
    }
    let named = |name: &str| jwk.get(name).and_then(Json::as_str);
    let number = |name: &str| -> Result<Zeroizing<Vec<u8>>, Refused> {
        let text = named(name).ok_or_else(|| match name {
            "d" => Refused::new("this JWK is a public key", "give the private one, which has `d`"),
            _ => broken(&format!("has no `{name}`")),
        })?;
        base64(text).ok_or_else(|| broken(&format!("has a `{name}` that is not Base64")))
    };
    let refused = |_| broken("holds a key that does not hold together");
    let material = match named("kty") {
        Some("oct") => Material::Secret(number("k")?),
        Some("RSA") => {
            let parts = ["n", "e", "d", "p", "q", "dp", "dq", "qi"].map(number);
            let der = Zeroizing::new(rsa_der(&parts.into_iter().collect::<Result<Vec<_>, _>>()?));
            Material::Rsa(RsaKeyPair::from_der(&der).map_err(refused)?)
        }
        Some("EC") => {
            let curve = Curve::ALL.into_iter().find(|curve| named("crv") == Some(curve.name())).ok_or_else(unsupported)?;
            let [d, x, y] = ["d", "x", "y"].map(|name| number(name).map(|number| padded(&number, curve.width())));
            let point = [&[4][..], &x?, &y?].concat();
            let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &d?, &point).map_err(refused)?;
            Material::Ec(curve, pair)
        }
        Some("OKP") if named("crv") == Some("Ed25519") => {
            Material::Ed25519(Ed25519KeyPair::from_seed_and_public_key(&number("d")?, &number("x")?).map_err(refused)?)
        }
        Some(_) => return Err(unsupported()),
        None => return Err(broken("has no `kty`")),
    };
    Ok(Key { material, id: named("kid").map(str::to_owned), algorithm: named("alg").and_then(Algorithm::named) })
}

/// Some writers cut leading zeros off.
fn padded(number: &[u8], width: usize) -> Zeroizing<Vec<u8>> {
    let mut whole = Zeroizing::new(vec![0; width.saturating_sub(number.len())]);
    whole.extend_from_slice(number);
    whole
}

/// RSAPrivateKey (RFC 8017 §A.1.2).
fn rsa_der(numbers: &[Zeroizing<Vec<u8>>]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let number = stripped(number);
        let sign = number.first().is_none_or(|octet| octet & 0x80 != 0);
        Element::Primitive(INTEGER, [if sign { &[0][..] } else { &[] }, number].concat())
    };
    let version = integer(&[]);
    Element::sequence(std::iter::once(version).chain(numbers.iter().map(|number| integer(number))).collect()).to_der()
}
