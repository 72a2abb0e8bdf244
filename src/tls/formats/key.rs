//! Private keys: PKCS#8, PKCS#1 and SEC1, plain or under a passphrase, into what the TLS backends sign with.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer};
use rustls::sign::SigningKey;
use zeroize::Zeroizing;

use super::ber::{Element, INTEGER, OCTETS, OID};
use super::key_error::{KeyError, unsupported_encryption};
use super::legacy::{self, Pbes1};
#[cfg(feature = "openssl")]
use super::openssl_key;
use super::{pem, pfx};
use crate::secret::Secret;
use crate::tls::provider;

/// The key in a PEM block.
pub fn from_block(block: &pem::Block, passphrase: Option<&Secret>) -> Result<PrivateKeyDer<'static>, KeyError> {
    let body = block.contents.as_ref().map_err(|wrong| KeyError::Damaged(wrong))?;
    if block.header("Proc-Type").is_some_and(|value| value.contains("ENCRYPTED")) {
        let passphrase = passphrase.ok_or(KeyError::NeedsPassphrase)?;
        let dek = block.header("DEK-Info").ok_or(KeyError::Damaged("it has no DEK-Info line"))?;
        let opened = legacy::open_dek(dek, body, passphrase.expose().as_bytes())?;
        // The padding of a wrong passphrase is right once in 256 times: then this is not a key.
        return labelled(&block.label, &opened).map_err(|_| KeyError::WrongPassphrase);
    }
    match block.label.as_str() {
        "ENCRYPTED PRIVATE KEY" => open_pkcs8(body, passphrase),
        "OPENSSH PRIVATE KEY" => Err(KeyError::Unsupported {
            what: "it is an SSH key".to_owned(),
            help: "convert a copy of it: ssh-keygen -p -m PKCS8 -f COPY".to_owned(),
        }),
        "DSA PRIVATE KEY" => Err(unsupported_key("DSA")),
        label => labelled(label, body),
    }
}

/// The key in a file that is not PEM.
pub fn from_der(der: &[u8], passphrase: Option<&Secret>) -> Result<PrivateKeyDer<'static>, KeyError> {
    if encrypted_parts(der).is_some() {
        return open_pkcs8(der, passphrase);
    }
    PrivateKeyDer::try_from(der).map(|key| key.clone_key()).map_err(|_| KeyError::Damaged("it does not hold a private key"))
}

/// True when the bytes are an `EncryptedPrivateKeyInfo` or a key. (A PFX, too, begins with a version.)
pub fn is_der_key(der: &[u8]) -> bool {
    !pfx::is_pfx(der) && (encrypted_parts(der).is_some() || PrivateKeyDer::try_from(der).is_ok())
}

fn labelled(label: &str, der: &[u8]) -> Result<PrivateKeyDer<'static>, KeyError> {
    // A wrong label is common enough (a PKCS#8 body under "RSA PRIVATE KEY"): look, do not believe.
    match PrivateKeyDer::try_from(der) {
        Ok(key) => Ok(key.clone_key()),
        Err(_) if label == "EC PRIVATE KEY" => Err(KeyError::Damaged("it is not an EC key")),
        Err(_) => Err(KeyError::Damaged("it is not a private key")),
    }
}

/// `EncryptedPrivateKeyInfo` (RFC 5958 §3): the algorithm's identifier, its parameters, the body.
fn encrypted_parts(der: &[u8]) -> Option<(Vec<u8>, Option<Element>, Vec<u8>)> {
    let info = Element::read(der)?;
    let [algorithm, body] = info.children() else { return None };
    let oid = algorithm.child(0)?.body(OID)?;
    Some((oid.to_vec(), algorithm.child(1).cloned(), body.body(OCTETS)?.to_vec()))
}

/// 1.2.840.113549.1.5: PKCS#5.
const PKCS5: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];
/// 1.2.840.113549.1.12.1: the password-based schemes of PKCS#12.
const PKCS12_PBE: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];

fn open_pkcs8(der: &[u8], passphrase: Option<&Secret>) -> Result<PrivateKeyDer<'static>, KeyError> {
    const DAMAGED: KeyError = KeyError::Damaged("the encrypted key is damaged");
    let (oid, parameters, body) = encrypted_parts(der).ok_or(DAMAGED)?;
    let passphrase = passphrase.ok_or(KeyError::NeedsPassphrase)?;
    let pbes1 = |digest| {
        let parameters = parameters.as_ref().ok_or(DAMAGED)?;
        let salt = parameters.child(0).and_then(|e| e.body(OCTETS)).ok_or(DAMAGED)?;
        let rounds = parameters.child(1).and_then(|e| e.body(INTEGER)).filter(|b| b.len() <= 4).ok_or(DAMAGED)?;
        let rounds = rounds.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        Ok::<_, KeyError>(legacy::open_pbes1(digest, salt, rounds, &body, passphrase.expose().as_bytes())?)
    };
    let opened = match oid.split_last() {
        Some((13, scheme)) if scheme == PKCS5 => open_pbes2(der, passphrase)?,
        Some((3, scheme)) if scheme == PKCS5 => pbes1(Pbes1::Md5)?,
        Some((10, scheme)) if scheme == PKCS5 => pbes1(Pbes1::Sha1)?,
        Some((3 | 6, scheme)) if scheme == PKCS12_PBE => pfx::open_shrouded(der, passphrase.expose())?,
        _ => return Err(unsupported_encryption("its encryption")),
    };
    PrivateKeyDer::try_from(opened.as_slice()).map(|key| key.clone_key()).map_err(|_| KeyError::WrongPassphrase)
}

fn open_pbes2(der: &[u8], passphrase: &Secret) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    use pkcs8::pkcs5::Error as Pkcs5;
    let unsupported = || unsupported_encryption("its cipher or key derivation");
    let info = pkcs8::EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| unsupported())?;
    match info.decrypt(passphrase.expose()) {
        Ok(document) => Ok(document.to_bytes()),
        Err(pkcs8::Error::EncryptedPrivateKey(Pkcs5::UnsupportedAlgorithm { .. } | Pkcs5::AlgorithmParametersInvalid { .. })) => {
            Err(unsupported())
        }
        // What decrypts to something else than a key was decrypted with a wrong passphrase.
        Err(_) => Err(KeyError::WrongPassphrase),
    }
}

/// A private key, as far as each TLS backend can use it. There is no `Debug`.
#[derive(Clone)]
pub struct Key {
    rustls: Option<Arc<dyn SigningKey>>,
    #[cfg(feature = "openssl")]
    openssl: Option<::openssl::pkey::PKey<::openssl::pkey::Private>>,
}

impl Key {
    /// # Errors
    /// No backend of this build can sign with it; the kind is named.
    pub fn new(key: &PrivateKeyDer<'static>) -> Result<Self, KeyError> {
        let unsupported = |_| unsupported_key(&kind(key));
        let load = |key: PrivateKeyDer<'static>| provider().key_provider.load_private_key(key);
        let rustls = load(key.clone_key()).or_else(|refused| inner_rsa(key).map_or(Err(refused), load)).map_err(unsupported);
        #[cfg(not(feature = "openssl"))]
        return Ok(Self { rustls: Some(rustls?) });
        #[cfg(feature = "openssl")]
        match (rustls, openssl_key::private_key(key.secret_der()).ok()) {
            (Err(error), None) => Err(error),
            (rustls, openssl) => Ok(Self { rustls: rustls.ok(), openssl }),
        }
    }

    /// A key that is elsewhere and signs for rustls only.
    pub fn elsewhere(key: Arc<dyn SigningKey>) -> Self {
        Self {
            rustls: Some(key),
            #[cfg(feature = "openssl")]
            openssl: None,
        }
    }

    /// For the backend rustls; `None`: only OpenSSL can.
    pub fn rustls(&self) -> Option<&Arc<dyn SigningKey>> {
        self.rustls.as_ref()
    }

    /// For the backend OpenSSL; `None`: only rustls can.
    #[cfg(feature = "openssl")]
    pub fn openssl(&self) -> Option<&::openssl::pkey::PKey<::openssl::pkey::Private>> {
        self.openssl.as_ref()
    }

    /// The SubjectPublicKeyInfo, in DER.
    pub fn public_key(&self) -> Option<Vec<u8>> {
        if let Some(key) = &self.rustls {
            return key.public_key().map(|spki| spki.as_ref().to_vec());
        }
        #[cfg(feature = "openssl")]
        return self.openssl.as_ref()?.public_key_to_der().ok();
        #[cfg(not(feature = "openssl"))]
        None
    }

    /// It can sign in one of these ways.
    pub fn signs(&self, schemes: &[SignatureScheme]) -> bool {
        if let Some(key) = &self.rustls {
            return key.choose_scheme(schemes).is_some();
        }
        #[cfg(feature = "openssl")]
        return self.openssl.as_ref().is_some_and(|key| openssl_key::signs(key, schemes));
        #[cfg(not(feature = "openssl"))]
        false
    }
}

impl From<Arc<dyn SigningKey>> for Key {
    fn from(key: Arc<dyn SigningKey>) -> Self {
        Self {
            rustls: Some(key),
            #[cfg(feature = "openssl")]
            openssl: None,
        }
    }
}

/// The RSA key inside a PKCS#8 wrapping: some programs leave out the NULL that RFC 8017 §A.1 wants beside the algorithm,
/// and the wrapping is refused for it.
fn inner_rsa(key: &PrivateKeyDer<'_>) -> Option<PrivateKeyDer<'static>> {
    let PrivateKeyDer::Pkcs8(der) = key else { return None };
    let parsed = Element::read(der.secret_pkcs8_der())?;
    let is_rsa = parsed.child(1)?.child(0)?.body(OID)? == RSA_ENCRYPTION;
    is_rsa.then(|| Some(PrivatePkcs1KeyDer::from(parsed.child(2)?.body(OCTETS)?.to_vec()).into())).flatten()
}

/// rsaEncryption, 1.2.840.113549.1.1.1.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

fn unsupported_key(kind: &str) -> KeyError {
    KeyError::Unsupported {
        what: format!("its key is of a kind that is not supported ({kind})"),
        help:
            "supported are RSA with 2048 to 8192 bits, EC P-256, P-384 and P-521, and Ed25519: ask for a certificate with such a \
               key; RSA-PSS, Ed448 and secp256k1 can be used with `tls: { backend: openssl }` in a build that has the feature \
               `openssl` (the container image has it)"
                .to_owned(),
    }
}

fn kind(key: &PrivateKeyDer<'_>) -> String {
    let PrivateKeyDer::Pkcs8(der) = key else {
        return match key {
            PrivateKeyDer::Pkcs1(der) => rsa_kind(der.secret_pkcs1_der()),
            _ => "EC on another curve".to_owned(),
        };
    };
    let parsed = Element::read(der.secret_pkcs8_der());
    let algorithm = parsed.as_ref().and_then(|info| info.child(1));
    let Some(oid) = algorithm.and_then(|a| a.child(0)).and_then(|e| e.body(OID)) else { return "unknown".to_owned() };
    match oid {
        RSA_ENCRYPTION => {
            parsed.as_ref().and_then(|i| i.child(2)).and_then(|e| e.body(OCTETS)).map_or_else(|| "RSA".to_owned(), rsa_kind)
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a] => "RSA-PSS".to_owned(),
        [0x2b, 0x65, 0x71] => "Ed448".to_owned(),
        [0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01] => "DSA".to_owned(),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01] => match algorithm.and_then(|a| a.child(1)).and_then(|e| e.body(OID)) {
            Some([0x2b, 0x81, 0x04, 0x00, 0x0a]) => "EC secp256k1".to_owned(),
            _ => "EC on another curve".to_owned(),
        },
        _ => "unknown".to_owned(),
    }
}

/// RSAPrivateKey (RFC 8017 §A.1.2): version, modulus, …
fn rsa_kind(pkcs1: &[u8]) -> String {
    let parsed = Element::read(pkcs1);
    let Some(modulus) = parsed.as_ref().and_then(|key| key.child(1)).and_then(|m| m.body(INTEGER)) else {
        return "RSA".to_owned();
    };
    let octets = modulus.iter().skip_while(|b| **b == 0).count();
    format!("RSA with {} bits", octets * 8)
}
