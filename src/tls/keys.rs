//! Private keys in every form that companies hand out, to the one form that rustls takes.

use cbc::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use md5::{Digest, Md5};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use zeroize::Zeroizing;

use super::pem::{Block, Content};
use crate::secret::Secret;

/// Why a key block is not a key.
pub enum KeyError {
    /// Encrypted, and no passphrase is given.
    NeedsPassphrase,
    /// The passphrase does not open it.
    WrongPassphrase,
    /// A form or algorithm that is not supported; what it is.
    Unsupported(String),
    Damaged(String),
}

/// Is this the label of a private key?
pub fn is_key(label: &str) -> bool {
    label.ends_with("PRIVATE KEY")
}

/// The key of a block.
pub fn read(block: Block, passphrase: Option<&Secret>) -> Result<PrivateKeyDer<'static>, KeyError> {
    let content = block.content.map_err(KeyError::Damaged)?;
    if block.label == "ENCRYPTED PRIVATE KEY" {
        return decrypt_pkcs8(&content.der, passphrase).map(|der| PrivatePkcs8KeyDer::from(der).into());
    }
    let der = match &content.dek_info {
        Some(info) => decrypt_traditional(info, &content, passphrase)?,
        None => content.der,
    };
    match block.label.as_str() {
        "PRIVATE KEY" => Ok(PrivatePkcs8KeyDer::from(der).into()),
        "RSA PRIVATE KEY" => Ok(PrivatePkcs1KeyDer::from(der).into()),
        "EC PRIVATE KEY" => Ok(PrivateSec1KeyDer::from(der).into()),
        other => Err(KeyError::Unsupported(format!("a `{other}` block"))),
    }
}

/// PKCS #8 encryption (RFC 5958 §3): PBES2 with AES or 3DES, PBKDF2 or scrypt.
fn decrypt_pkcs8(der: &[u8], passphrase: Option<&Secret>) -> Result<Vec<u8>, KeyError> {
    let passphrase = passphrase.ok_or(KeyError::NeedsPassphrase)?;
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| pbes1_or_damaged(der))?;
    match info.decrypt(passphrase.expose()) {
        Ok(document) => Ok(document.as_bytes().to_vec()),
        Err(pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { oid })) => {
            Err(KeyError::Unsupported(format!("encryption with algorithm {oid}")))
        }
        Err(_) => Err(KeyError::WrongPassphrase),
    }
}

/// pkcs5 1.5 schemes (PBES1, OID 1.2.840.113549.1.5.1 to 11, and PKCS #12's) are not read.
fn pbes1_or_damaged(der: &[u8]) -> KeyError {
    const PKCS5: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];
    const PKCS12: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
    let head = &der[..der.len().min(64)];
    let names = |oid: &[u8]| head.windows(oid.len()).any(|window| window == oid);
    if names(&PKCS5) || names(&PKCS12) {
        return KeyError::Unsupported("the old encryption PBES1".to_owned());
    }
    KeyError::Damaged("it is not an encrypted PKCS #8 key".to_owned())
}

/// `Proc-Type: 4,ENCRYPTED` (RFC 1421): OpenSSL's key derivation is one round of MD5 over passphrase and salt.
fn decrypt_traditional(info: &str, content: &Content, passphrase: Option<&Secret>) -> Result<Vec<u8>, KeyError> {
    let passphrase = passphrase.ok_or(KeyError::NeedsPassphrase)?;
    let (algorithm, iv) = info.split_once(',').ok_or_else(|| KeyError::Damaged("its DEK-Info has no IV".to_owned()))?;
    let iv = unhex(iv).ok_or_else(|| KeyError::Damaged("the IV in its DEK-Info is not hexadecimal".to_owned()))?;
    let salt = iv.get(..8).ok_or_else(|| KeyError::Damaged("the IV in its DEK-Info is too short".to_owned()))?;
    let key = |length| derive(passphrase.expose().as_bytes(), salt, length);
    let wrong = |_| KeyError::WrongPassphrase;
    let bad_iv = |_| KeyError::Damaged("the IV in its DEK-Info has the wrong length".to_owned());
    let data = &content.der;
    match algorithm.trim() {
        "AES-128-CBC" => cbc::Decryptor::<aes::Aes128>::new_from_slices(&key(16), &iv)
            .map_err(bad_iv)?
            .decrypt_padded_vec::<Pkcs7>(data)
            .map_err(wrong),
        "AES-192-CBC" => cbc::Decryptor::<aes::Aes192>::new_from_slices(&key(24), &iv)
            .map_err(bad_iv)?
            .decrypt_padded_vec::<Pkcs7>(data)
            .map_err(wrong),
        "AES-256-CBC" => cbc::Decryptor::<aes::Aes256>::new_from_slices(&key(32), &iv)
            .map_err(bad_iv)?
            .decrypt_padded_vec::<Pkcs7>(data)
            .map_err(wrong),
        "DES-EDE3-CBC" => cbc::Decryptor::<des::TdesEde3>::new_from_slices(&key(24), &iv)
            .map_err(bad_iv)?
            .decrypt_padded_vec::<Pkcs7>(data)
            .map_err(wrong),
        other => Err(KeyError::Unsupported(format!("the old encryption {other}"))),
    }
}

/// OpenSSL's `EVP_BytesToKey` with MD5 and one round.
fn derive(passphrase: &[u8], salt: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(length + 16));
    let mut last: Vec<u8> = Vec::new();
    while key.len() < length {
        let mut hash = Md5::new();
        hash.update(&last);
        hash.update(passphrase);
        hash.update(salt);
        last = hash.finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(length);
    key
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
