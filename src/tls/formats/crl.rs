//! Certificate revocation lists from files (RFC 5280 §5). Nothing is fetched.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateRevocationListDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::ber::Element;
use super::inspect::day;
use super::pem;
use crate::files;
use crate::settings::Place;
use crate::tls::{Loaded, Problem, sha256};

/// The lists of one way out. Equal when their contents are.
#[derive(Clone, Default)]
pub struct Crls {
    lists: Vec<CertificateRevocationListDer<'static>>,
    plain: Vec<Arc<PlainCrl>>,
    fingerprint: [u8; 32],
    files: Vec<PathBuf>,
}

/// A list without extensions, as OpenSSL makes it unless `crl_extensions` is set: version 1 (RFC 5280 §5.1.2.1 lets
/// verifiers take it). webpki reads version 2 alone.
pub struct PlainCrl {
    pub der: Vec<u8>,
    /// The name without tag and length.
    pub issuer: Vec<u8>,
    /// The INTEGERs' octets.
    pub serials: HashSet<Vec<u8>>,
}

impl PlainCrl {
    /// Who issued it, and what it revokes, whichever its version.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        let issuer = Element::read(list.issuer().as_raw())?.children().iter().flat_map(Element::to_der).collect();
        let serials = list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()).collect();
        Some(Self { der: der.to_vec(), issuer, serials })
    }
}

impl Crls {
    /// Reads PEM and DER files; one PEM file may hold several lists.
    ///
    /// # Errors
    /// A file cannot be read, holds no list, or one that cannot be used: revocation that was asked for is never left out.
    pub fn load(sources: &[(PathBuf, Place)], bound: usize) -> Result<Loaded<Crls>, Problem> {
        let mut crls = Crls::default();
        let mut warnings = Vec::new();
        for (path, place) in sources {
            for der in read(path, *place, bound)? {
                warnings.extend(stale(&der, path, *place));
                match webpki::OwnedCertRevocationList::from_der(&der) {
                    Ok(_) => crls.lists.push(CertificateRevocationListDer::from(der)),
                    Err(wrong) => crls.plain.push(Arc::new(plain(&der, wrong, path, *place)?)),
                }
            }
            crls.files.push(path.clone());
        }
        let plain = crls.plain.iter().map(|list| list.der.as_slice());
        let digests: Vec<u8> = crls.lists.iter().map(AsRef::as_ref).chain(plain).flat_map(sha256).collect();
        crls.fingerprint = sha256(&digests);
        Ok(Loaded { value: crls, warnings })
    }

    pub fn lists(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.lists
    }

    /// Those that webpki does not read.
    pub(in crate::tls) fn plain(&self) -> &[Arc<PlainCrl>] {
        &self.plain
    }

    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.plain.is_empty()
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

/// A list that webpki refused is used all the same where it has no critical extension (RFC 5280 §5.2: one that is
/// not understood makes it unusable).
fn plain(der: &[u8], wrong: webpki::Error, path: &Path, place: Place) -> Result<PlainCrl, Problem> {
    let understood = CertificateRevocationList::from_der(der).is_ok_and(|(_, list)| {
        let entries = list.iter_revoked_certificates().flat_map(|revoked| revoked.extensions());
        !list.extensions().iter().chain(entries).any(|extension| extension.critical)
    });
    if let (true, Some(list)) = (understood, PlainCrl::read(der)) {
        return Ok(list);
    }
    let (what, help) = match wrong {
        webpki::Error::UnsupportedDeltaCrl => ("it is a delta list", "name the complete list of that CA"),
        webpki::Error::UnsupportedIndirectCrl => ("it is an indirect list, for certificates of several CAs", NAME_PLAIN),
        webpki::Error::UnsupportedCrlIssuingDistributionPoint | webpki::Error::UnsupportedRevocationReasonsPartitioning => {
            ("it covers only some certificates or reasons of its CA", NAME_PLAIN)
        }
        webpki::Error::UnsupportedCriticalExtension => ("it has a critical extension that is not understood", NAME_PLAIN),
        _ => ("it is damaged, or not as RFC 5280 has it", "make or fetch it anew"),
    };
    let message = format!("the revocation list in {} cannot be used: {what}", path.display());
    Err(Problem::new("bad-crl", place, message).help(help))
}

const NAME_PLAIN: &str = "name a complete list that the CA of the certificates signed itself";

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
