//! RSA-SHA1 (RFC 5849 §3.4.3). aws-lc does not sign with SHA-1; OpenSSL does, in builds that have it.

use zeroize::Zeroizing;

use crate::auth::jose::Refused;
use crate::auth::prepared;
use crate::failure::Failure;
use crate::provided::SecretRef;
use crate::secret::Secret;
use crate::secrets;
use crate::settings::{Decode, Fields};
use crate::tls::formats::{key, pem, rsa_sha1};

pub struct Sha1Key {
    text: SecretRef,
    passphrase: Option<SecretRef>,
}

impl Sha1Key {
    /// Reads `private_key` and `passphrase`; a key that is at hand is tried out.
    pub fn read(fields: &Fields<'_>, decode: &mut Decode<'_>) -> Option<Self> {
        let node = decode.required(fields, "oauth1", "private_key")?;
        let text = secrets::reference(decode.key_material(node)?);
        let passphrase =
            fields.get("passphrase").map_or(Some(None), |node| decode.text(node).map(secrets::reference).map(Some))?;
        let own = Self { text, passphrase };
        if own.values().all(|value| value.known().is_some())
            && let Err(failure) = own.sign(b"")
        {
            decode.report.error("private-key", node.place, failure.details).help = failure.hint;
            return None;
        }
        Some(own)
    }

    /// All that must be at hand before [`Sha1Key::sign`].
    pub fn values(&self) -> impl Iterator<Item = &SecretRef> {
        std::iter::once(&self.text).chain(&self.passphrase)
    }

    /// # Errors
    /// It is no RSA key, or OpenSSL does not sign with SHA-1 on this machine.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let text = prepared(&self.text)?;
        let passphrase = self.passphrase.as_ref().map(prepared).transpose()?;
        let opened = opened(&text, passphrase.as_ref())?;
        rsa_sha1::sign(opened.as_bytes(), message).map_err(|error| Refused::from(error).into())
    }
}

/// The key without its passphrase.
fn opened(text: &Secret, passphrase: Option<&Secret>) -> Result<Zeroizing<String>, Refused> {
    let blocks = pem::read(text.expose().as_bytes());
    let block = blocks.iter().find(|block| block.is_private_key()).ok_or_else(|| Refused {
        message: "RSA-SHA1 signs with a private key in PEM, and this is none".to_owned(),
        help: "give the path of a PEM file, or its text".to_owned(),
    })?;
    let key = key::from_block(block, passphrase)?;
    Ok(Zeroizing::new(pem::encode("PRIVATE KEY", key.secret_der())))
}
