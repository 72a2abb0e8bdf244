//! `key`, `key_encoding`, `private_key`, `passphrase`, `algorithm`: what signs, as settings name it.

use std::sync::{Arc, Mutex};

use zeroize::Zeroizing;

use super::key::base64;
use super::{Key, Refused, Signer, Words};
use crate::auth::Setting;
use crate::failure::Failure;
use crate::provided::SecretRef;
use crate::secret::Secret;
use crate::secrets;
use crate::settings::{Decode, Fields, Node, Place, Shape};

use super::Algorithm;

/// How a shared secret is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Text,
    Base64,
    Hex,
}

/// `key_encoding`, for the table of settings.
pub const fn encodings() -> Setting {
    (
        "key_encoding",
        Shape::Words(&["text", "base64", "hex"]),
        "text",
        "how `key` is written: text, base64 (either alphabet) or hex",
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Shared(Encoding),
    Private,
}

/// What signs: at hand from the start, or made of texts that are fetched when needed.
pub struct SigningKey {
    text: SecretRef,
    passphrase: Option<SecretRef>,
    form: Form,
    /// `None`: by the key.
    algorithm: Option<Algorithm>,
    /// Those that the scheme knows.
    known: &'static Words,
    made: Mutex<Option<Made>>,
}

/// The texts, and what was made of them.
struct Made {
    text: Secret,
    passphrase: Option<Secret>,
    signer: Arc<Signer>,
}

impl SigningKey {
    /// Reads `algorithm`, and one of `key` (with `key_encoding`) and `private_key` (with `passphrase`). `known`: the
    /// scheme's own names of algorithms.
    pub fn read(fields: &Fields<'_>, decode: &mut Decode<'_>, what: &str, known: &'static Words) -> Option<Self> {
        let algorithm = fields.get("algorithm").map_or(Some(None), |node| decode.choice(node, "algorithm", known).map(Some));
        Self::with(fields, decode, what, algorithm?, known)
    }

    /// [`SigningKey::read`], where the scheme settles the algorithm itself.
    pub fn with(
        fields: &Fields<'_>,
        decode: &mut Decode<'_>,
        what: &str,
        algorithm: Option<Algorithm>,
        known: &'static Words,
    ) -> Option<Self> {
        let passphrase = fields.get("passphrase").map_or(Some(None), |node| decode.text(node).map(secrets::reference).map(Some));
        let (node, text, form) = Self::material(fields, decode, what)?;
        let own = Self { text, passphrase: passphrase?, form, algorithm, known, made: Mutex::default() };
        if own.is_live() {
            return Some(own);
        }
        let named = fields.get("algorithm").map_or(node.place, |node| node.place);
        let made = own.key(&own.text.peek()?, own.passphrase.as_ref().and_then(SecretRef::peek).as_ref());
        let made = made.map_err(|refused| (refused, node.place));
        match made.and_then(|key| own.signer(key).map_err(|refused| (refused, named))) {
            Ok(signer) => {
                warn_of_a_short_secret(&signer, node.place, decode);
                Some(own)
            }
            Err((refused, place)) => {
                decode.report.error("private-key", place, refused.message).help(refused.help);
                None
            }
        }
    }

    fn material<'n>(fields: &Fields<'n>, decode: &mut Decode<'_>, what: &str) -> Option<(&'n Node, SecretRef, Form)> {
        let encoding = fields.get("key_encoding").map_or(Some(Encoding::Text), |node| {
            let words = [("text", Encoding::Text), ("base64", Encoding::Base64), ("hex", Encoding::Hex)];
            decode.choice(node, "key_encoding", &words)
        })?;
        match (fields.get("key"), fields.get("private_key")) {
            (Some(node), None) => Some((node, secrets::reference(decode.text(node)?), Form::Shared(encoding))),
            (None, Some(node)) => Some((node, secrets::reference(decode.key_material(node)?), Form::Private)),
            (Some(_), Some(node)) => {
                decode
                    .report
                    .error("two-keys", node.place, format!("{what} has both `key` and `private_key`"))
                    .help("keep `key` for a shared secret, or `private_key` for a key pair");
                None
            }
            (None, None) => {
                decode
                    .report
                    .error("missing-key", fields.place, format!("{what} has nothing to sign with"))
                    .help("add `private_key: FILE`, or `key: SECRET` for a shared secret");
                None
            }
        }
    }

    /// Texts of it are fetched when needed.
    pub fn is_live(&self) -> bool {
        self.values().any(|value| value.known().is_none())
    }

    /// All that must be at hand before [`SigningKey::now`].
    pub fn values(&self) -> impl Iterator<Item = &SecretRef> {
        std::iter::once(&self.text).chain(&self.passphrase)
    }

    /// # Errors
    /// What a command printed is no key, or does not fit the algorithm.
    pub fn now(&self) -> Result<Arc<Signer>, Failure> {
        let text = crate::auth::prepared(&self.text)?;
        let passphrase = self.passphrase.as_ref().map(crate::auth::prepared).transpose()?;
        Ok(self.make(&text, passphrase.as_ref())?)
    }

    /// Made once of the same texts.
    fn make(&self, text: &Secret, passphrase: Option<&Secret>) -> Result<Arc<Signer>, Refused> {
        let mut made = self.made.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(made) = &*made
            && made.text == *text
            && made.passphrase.as_ref() == passphrase
        {
            return Ok(made.signer.clone());
        }
        let signer = Arc::new(self.signer(self.key(text, passphrase)?)?);
        *made = Some(Made { text: text.clone(), passphrase: passphrase.cloned(), signer: signer.clone() });
        Ok(signer)
    }

    fn key(&self, text: &Secret, passphrase: Option<&Secret>) -> Result<Key, Refused> {
        match self.form {
            Form::Shared(encoding) => shared(text, encoding),
            Form::Private => Key::read(text.expose(), passphrase),
        }
    }

    fn signer(&self, key: Key) -> Result<Signer, Refused> {
        let name = |algorithm| self.known.iter().find(|(_, own)| *own == algorithm).map(|(name, _)| *name);
        let algorithm = self.algorithm.or(key.algorithm()).unwrap_or_else(|| key.usual());
        match name(algorithm) {
            Some(_) if key.fits(algorithm) => Signer::new(key, Some(algorithm)),
            named => Err(key.misfit(named, name(key.usual()))),
        }
    }
}

fn shared(text: &Secret, encoding: Encoding) -> Result<Key, Refused> {
    let text = text.expose();
    let bytes = match encoding {
        // A JWK says itself how its secret is written.
        Encoding::Text if text.trim_start().starts_with('{') && text.contains("\"kty\"") => return Key::read(text, None),
        Encoding::Text => Some(Zeroizing::new(text.as_bytes().to_vec())),
        Encoding::Base64 => base64(text),
        Encoding::Hex => hex(text),
    };
    match bytes {
        Some(bytes) if bytes.is_empty() => Err(Refused {
            message: "this key is empty".to_owned(),
            help: "check the variable or file that it comes from".to_owned(),
        }),
        Some(bytes) => Ok(Key::secret(&bytes)),
        None => Err(Refused {
            message: "this key is not written as `key_encoding` says".to_owned(),
            help: "leave `key_encoding` out to take it as it stands".to_owned(),
        }),
    }
}

fn hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim();
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect::<Option<Vec<u8>>>().map(Zeroizing::new)
}

/// RFC 7518 §3.2: a key as long as the hash or longer.
fn warn_of_a_short_secret(signer: &Signer, place: Place, decode: &mut Decode<'_>) {
    let wanted = match signer.algorithm() {
        Algorithm::Hs256 => 32,
        Algorithm::Hs384 => 48,
        Algorithm::Hs512 => 64,
        _ => return,
    };
    if let Some(octets) = signer.key().secret_len().filter(|octets| *octets < wanted) {
        let message =
            format!("this key has {octets} octets; {} wants {wanted} or more (RFC 7518 section 3.2)", signer.algorithm().name());
        decode
            .report
            .warning("short-key", place, message)
            .help("take a longer one if it is yours to choose: openssl rand -base64 64");
    }
}
