//! What is shown upstream: a certificate chain and its private key, read from the forms people have
//! them in. A mistake is told as what it is: every way a file can be wrong has its own sentence.

mod chain;
mod from_files;

use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

pub(super) use chain::{Parts, of_parts};
pub(super) use from_files::certificates_of;
pub use from_files::{load, load_pair};

use super::svid_origin::SvidOrigin;
use crate::settings::Place;
use crate::tls::formats::inspect::Details;
use crate::tls::formats::key::Key;
use crate::tls::settings::TlsBackend;
use crate::tls::{Problem, sha256};

/// A certificate chain with its key. Equal when chain and public key are.
///
/// There is no `Debug`: nothing that holds a key is printed.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Key,
    /// Chain and key for rustls.
    certified: Option<Arc<CertifiedKey>>,
    /// Subjects and issuers of the chain, in DER: what a server's hints are compared with.
    authorities: Vec<Vec<u8>>,
    details: Details,
    fingerprint: [u8; 32],
    files: Vec<PathBuf>,
    /// The agent that it is renewed from.
    origin: Option<SvidOrigin>,
}

impl Identity {
    /// Leaf first, then upward.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// `None`: rustls cannot use the key.
    pub fn certified_key(&self) -> Option<Arc<CertifiedKey>> {
        self.certified.clone()
    }

    /// `None`: OpenSSL cannot use the key.
    #[cfg(feature = "openssl")]
    pub fn openssl_key(&self) -> Option<&::openssl::pkey::PKey<::openssl::pkey::Private>> {
        self.key.openssl()
    }

    /// The backend can use the key.
    ///
    /// # Errors
    /// It cannot, and the mend.
    pub fn check_backend(&self, backend: TlsBackend, place: Option<Place>) -> Result<(), Problem> {
        let (usable, other, help) = match backend {
            TlsBackend::Rustls => {
                (self.certified.is_some(), "only the OpenSSL backend", "add `tls: { backend: openssl }` to the rule")
            }
            #[cfg(feature = "openssl")]
            TlsBackend::Openssl => (self.openssl_key().is_some(), "only the backend rustls", "leave `backend: openssl` out"),
            #[cfg(not(feature = "openssl"))]
            TlsBackend::Openssl => (false, "only the backend rustls", "leave `backend: openssl` out"),
        };
        if usable {
            return Ok(());
        }
        let message =
            format!("the key of the certificate {} ({}) can be used by {other}", self.details.name(), self.details.key_type);
        Err(Problem::new("unsupported-key", place, message).help(help))
    }

    /// The key can sign in one of these ways.
    pub fn signs(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.signs(schemes)
    }

    /// One of these names stands in the chain, as subject or issuer.
    pub fn is_below(&self, authorities: &[&[u8]]) -> bool {
        self.authorities.iter().any(|name| authorities.contains(&name.as_slice()))
    }

    /// SHA-256 over the chain, which names the public key too, and for a key on a token the way to it.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    pub fn subject(&self) -> &str {
        &self.details.subject
    }

    pub fn not_after(&self) -> SystemTime {
        self.details.not_after
    }

    /// Of the leaf.
    pub fn details(&self) -> &Details {
        &self.details
    }

    /// The files it was read from: what to watch.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: Key, details: Details, files: Vec<PathBuf>) -> Self {
        let digests: Vec<u8> = chain.iter().flat_map(|der| sha256(der)).chain(details.spki_sha256).collect();
        let certified = key.rustls().map(|key| Arc::new(CertifiedKey::new(chain.clone(), Arc::clone(key))));
        let authorities = chain.iter().flat_map(|der| authorities(der)).collect();
        Self { chain, key, certified, authorities, details, fingerprint: sha256(&digests), files, origin: None }
    }

    pub(super) fn came_from(&mut self, origin: SvidOrigin) {
        self.origin = Some(origin);
    }

    /// The agent that it came from and is renewed by; `None` for one from files or a token.
    pub fn origin(&self) -> Option<&SvidOrigin> {
        self.origin.as_ref()
    }
}

fn authorities(der: &[u8]) -> Vec<Vec<u8>> {
    match X509Certificate::from_der(der) {
        Ok((_, cert)) => vec![cert.issuer().as_raw().to_vec(), cert.subject().as_raw().to_vec()],
        Err(_) => Vec::new(),
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}
impl Eq for Identity {}
impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

/// Which of several identities to show: the first whose issuers the server names (RFC 8446 §4.2.4), else
/// the first; in either case one whose key can sign as the server wants.
pub(super) fn choose<'a>(
    identities: impl Iterator<Item = &'a Arc<Identity>> + Clone,
    hints: &[&[u8]],
    schemes: &[SignatureScheme],
) -> Option<usize> {
    let mut fitting = identities.enumerate().filter(|(_, identity)| identity.signs(schemes));
    let hinted = fitting.clone().find(|(_, identity)| identity.is_below(hints));
    hinted.or_else(|| fitting.next()).map(|(at, _)| at)
}

#[cfg(test)]
mod tests;
