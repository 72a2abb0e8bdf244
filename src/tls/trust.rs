//! Whom to believe: bundles as companies hand them out, added to the system's roots or instead of them.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::inspect::Details;
use super::{Loaded, Problem, keys, pem};
use crate::config::{BundleSource, Pem, Place};
use crate::files;

/// A set of trust anchors, and certificates that are believed as they are.
pub struct Trust {
    pub roots: Arc<RootCertStore>,
    /// SHA-256 of every certificate of the bundles: one that a server shows itself is believed without
    /// a chain. Development servers show a self-signed certificate that is its own CA, which webpki
    /// refuses as an end entity.
    exact: BTreeSet<[u8; 32]>,
    fingerprint: [u8; 32],
    /// Certificates read from the bundles' own files.
    pub own: Vec<CertificateDer<'static>>,
    pub system_roots: bool,
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}
impl Eq for Trust {}
impl Hash for Trust {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

/// The system's roots; Mozilla's list where a system has none (an empty container).
static SYSTEM: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| rustls_native_certs::load_native_certs().certs);

impl Trust {
    /// The system's roots alone.
    ///
    /// # Errors
    /// Never today; kept so that a platform without any roots can say so.
    pub fn system() -> Result<Self, Problem> {
        Ok(Self::of(Vec::new(), true))
    }

    /// From certificates already in memory, without the system's roots.
    pub fn only(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self::of(certificates, false)
    }

    fn of(own: Vec<CertificateDer<'static>>, system_roots: bool) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(own.iter().cloned());
        if system_roots {
            add_system(&mut roots);
        }
        let exact: BTreeSet<[u8; 32]> = own.iter().map(|certificate| sha256(certificate)).collect();
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&[u8::from(system_roots)]);
        exact.iter().for_each(|one| hash.update(one));
        let fingerprint = array(hash.finish().as_ref());
        Self { roots: Arc::new(roots), exact, fingerprint, own, system_roots }
    }

    pub fn holds(&self, certificate: &[u8]) -> bool {
        !self.exact.is_empty() && self.exact.contains(&sha256(certificate))
    }

    /// Reads a bundle: PEM or DER files, or folders of them. Broken entries are skipped, counted and said.
    ///
    /// # Errors
    /// A file cannot be read, or holds no certificate at all.
    pub fn load(source: &BundleSource, bound: usize) -> Result<Loaded<Self>, Vec<Problem>> {
        let mut own = Vec::new();
        let mut warnings = Vec::new();
        let mut errors = Vec::new();
        for (path, place) in &source.files {
            let read = match path {
                Pem::File(path) => read_any(path, *place, bound, &mut warnings),
                Pem::Text(text) => read_bytes(text.expose().as_bytes(), &path.name(), *place, &mut warnings),
            };
            match read {
                Ok(certificates) => own.extend(certificates),
                Err(problem) => errors.push(problem),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Loaded { value: Self::of(own, source.system_roots), warnings })
    }
}

fn add_system(roots: &mut RootCertStore) {
    let (added, _) = roots.add_parsable_certificates(SYSTEM.iter().cloned());
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
}

/// The system's roots as DER, for bundles handed to clients. Empty in a container without any.
pub fn system_certificates() -> &'static [CertificateDer<'static>] {
    &SYSTEM
}

fn read_any(
    path: &Path,
    place: Place,
    bound: usize,
    warnings: &mut Vec<Problem>,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let bytes = match files::read(path, bound) {
        Ok(bytes) => bytes,
        Err(cause) if cause.cause.kind() == std::io::ErrorKind::IsADirectory => return read_folder(path, place, bound, warnings),
        Err(cause) => {
            return Err(Problem::new("file", place, cause.to_string())
                .help("relative paths start at the folder of the file that names them"));
        }
    };
    read_bytes(&bytes, &path.display().to_string(), place, warnings)
}

fn read_bytes(
    bytes: &[u8],
    name: &str,
    place: Place,
    warnings: &mut Vec<Problem>,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found = certificates(bytes, name, place, warnings);
    if found.is_empty() {
        let message = format!("there is no CA certificate in {name}");
        let only_key = pem::blocks(&String::from_utf8_lossy(bytes)).iter().any(|block| keys::is_key(&block.label));
        let help = if only_key {
            "it holds a private key; name the CA's certificate instead"
        } else {
            "a CA bundle is a PEM file with one or more CERTIFICATE blocks"
        };
        return Err(Problem::new("no-certificate", place, message).help(help));
    }
    Ok(found)
}

fn read_folder(
    path: &Path,
    place: Place,
    bound: usize,
    warnings: &mut Vec<Problem>,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let broken = |cause: files::FileError| Problem::new("file", place, cause.to_string());
    let mut found = Vec::new();
    for file in files::list(path).map_err(broken)? {
        let known = file.extension().is_some_and(|e| e == "pem" || e == "crt" || e == "cer" || e == "der");
        if known && let Ok(bytes) = files::read(&file, bound) {
            found.extend(certificates(&bytes, &file.display().to_string(), place, warnings));
        }
    }
    if found.is_empty() {
        let message = format!("there is no CA certificate in the folder {}", path.display());
        return Err(Problem::new("no-certificate", place, message).help("files ending in .pem, .crt, .cer or .der are read"));
    }
    Ok(found)
}

fn certificates(bytes: &[u8], name: &str, place: Place, warnings: &mut Vec<Problem>) -> Vec<CertificateDer<'static>> {
    if Details::of(bytes).is_ok() {
        return vec![CertificateDer::from(bytes.to_vec())];
    }
    let mut found = Vec::new();
    let mut skipped = Vec::new();
    for block in pem::blocks(&String::from_utf8_lossy(bytes)) {
        if keys::is_key(&block.label) {
            let message = format!("{name} is a CA bundle but also holds a private key");
            warnings.push(Problem::new("key-in-bundle", place, message).help("take the key out; trust needs certificates only"));
        }
        if !pem::is_certificate(&block.label) {
            continue;
        }
        let read = block.content.map(|content| pem::certificate_der(&block.label, content.der));
        match read.and_then(|der| Details::of(&der).map(|_| der)) {
            Ok(der) => found.push(CertificateDer::from(der)),
            Err(why) => skipped.push(format!("entry {} ({why})", block.number)),
        }
    }
    if !skipped.is_empty() {
        let message =
            format!("{name}: {} of {} certificates skipped: {}", skipped.len(), skipped.len() + found.len(), skipped.join(", "));
        warnings.push(Problem::new("skipped-certificate", place, message).help("take the broken entries out of the bundle"));
    }
    found
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    array(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn array(bytes: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(bytes);
    array
}

/// Certificate revocation lists (RFC 5280 §5).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Crls(pub Arc<Vec<CertificateRevocationListDer<'static>>>);

impl Crls {
    /// PEM (`X509 CRL`) or DER files.
    ///
    /// # Errors
    /// A file cannot be read or holds no list.
    pub fn load(files: &[(PathBuf, Place)], bound: usize) -> Result<Self, Problem> {
        let mut lists = Vec::new();
        for (path, place) in files {
            let bytes = files::read(path, bound).map_err(|cause| Problem::new("file", *place, cause.to_string()))?;
            let before = lists.len();
            for block in pem::blocks(&String::from_utf8_lossy(&bytes)) {
                if let ("X509 CRL", Ok(content)) = (block.label.as_str(), block.content) {
                    lists.push(CertificateRevocationListDer::from(content.der));
                }
            }
            if lists.len() == before && bytes.first() == Some(&0x30) {
                lists.push(CertificateRevocationListDer::from(bytes));
            }
            if lists.len() == before {
                return Err(Problem::new("no-crl", *place, format!("there is no revocation list in {}", path.display()))
                    .help("`crl:` names PEM (X509 CRL) or DER files"));
            }
        }
        Ok(Self(Arc::new(lists)))
    }
}
