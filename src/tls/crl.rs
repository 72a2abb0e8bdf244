//! Certificate revocation lists from files (RFC 5280 §5). Nothing is fetched.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::CertificateRevocationListDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::inspect::day;
use super::{Loaded, Problem, pem, sha256};
use crate::config::Place;
use crate::files;

/// The lists of one way out. Equal when their contents are.
#[derive(Clone, Default)]
pub struct Crls {
    lists: Vec<CertificateRevocationListDer<'static>>,
    fingerprint: [u8; 32],
    files: Vec<PathBuf>,
}

impl Crls {
    /// Reads PEM and DER files; one PEM file may hold several lists.
    ///
    /// # Errors
    /// A file cannot be read or holds no list: revocation that was asked for is never left out.
    pub fn load(sources: &[(PathBuf, Place)], bound: usize) -> Result<Loaded<Crls>, Problem> {
        let mut crls = Crls::default();
        let mut warnings = Vec::new();
        for (path, place) in sources {
            for der in read(path, *place, bound)? {
                warnings.extend(stale(&der, path, *place));
                crls.lists.push(CertificateRevocationListDer::from(der));
            }
            crls.files.push(path.clone());
        }
        let digests: Vec<u8> = crls.lists.iter().flat_map(|list| sha256(list)).collect();
        crls.fingerprint = sha256(&digests);
        Ok(Loaded { value: crls, warnings })
    }

    pub fn lists(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.lists
    }

    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    pub fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }
}

impl PartialEq for Crls {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}
impl Eq for Crls {}
impl Hash for Crls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

fn read(path: &Path, place: Place, bound: usize) -> Result<Vec<Vec<u8>>, Problem> {
    let bytes = files::read(path, bound).map_err(|error| Problem::file(place, &error))?;
    let wrong = |message: String| {
        Problem::new("bad-crl", place, message)
            .help("a list stands between `-----BEGIN X509 CRL-----` and its END line, or is DER")
    };
    if !pem::is_pem(&bytes) {
        check(&bytes).map_err(|()| wrong(format!("{} is not a revocation list", path.display())))?;
        return Ok(vec![bytes]);
    }
    let mut lists = Vec::new();
    for block in pem::read(&bytes).into_iter().filter(|block| block.label == "X509 CRL") {
        let der = block.contents.ok().filter(|der| check(der).is_ok());
        let der =
            der.ok_or_else(|| wrong(format!("the revocation list on line {} of {} is damaged", block.line, path.display())))?;
        lists.push(der.to_vec());
    }
    if lists.is_empty() {
        return Err(wrong(format!("{} holds no revocation list", path.display())));
    }
    Ok(lists)
}

fn check(der: &[u8]) -> Result<(), ()> {
    CertificateRevocationList::from_der(der).map(|_| ()).map_err(|_| ())
}

fn stale(der: &[u8], path: &Path, place: Place) -> Option<Problem> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    let next = super::inspect::system_time(list.next_update()?);
    (next < SystemTime::now()).then(|| {
        let message = format!("the revocation list in {} was to be renewed on {}", path.display(), day(next));
        Problem::new("stale-crl", place, message).help("fetch a new one; the old one is still used")
    })
}
