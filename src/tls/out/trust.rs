//! Whom to believe: the CAs of a bundle, the system's roots, and certificates that are trusted as
//! they are.

use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use super::expiry;
use super::svid_origin::SvidOrigin;
use crate::files;
use crate::settings::{Pem, Place};
use crate::tls::formats::inspect::{self, Details};
use crate::tls::formats::{ber, pfx};
use crate::tls::settings::BundleSource;
use crate::tls::{Loaded, Problem, sha256};

/// Trust anchors and single trusted certificates. Equal when their contents are.
pub struct Trust {
    anchors: Arc<RootCertStore>,
    /// SHA-256 of every certificate of the bundle's files: a server that shows one of them is
    /// believed even when it is no CA or signs itself (`openssl req -x509` makes such ones).
    exact: HashSet<[u8; 32]>,
    entries: Vec<Details>,
    system: usize,
    files: Vec<PathBuf>,
    fingerprint: [u8; 32],
    /// CAs that are believed only for the SPIFFE IDs of their trust domain. `anchors` are those of the
    /// agent's own domain.
    domains: BTreeMap<String, Arc<RootCertStore>>,
    /// The agent that it is renewed from.
    origin: Option<SvidOrigin>,
}

/// The system's roots as certificates, for bundles handed to clients. Empty where a system has none.
pub fn system_certificates() -> &'static [CertificateDer<'static>] {
    static CERTIFICATES: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    CERTIFICATES.get_or_init(|| rustls_native_certs::load_native_certs().certs)
}

impl Trust {
    /// Reads a bundle: PEM files with any number of certificates, DER, PKCS#7, folders of such files.
    ///
    /// # Errors
    /// All that is wrong: a file that cannot be read, a file or bundle without a certificate.
    pub fn load(source: &BundleSource, bound: usize) -> Result<Loaded<Trust>, Vec<Problem>> {
        let mut reading = Reading::default();
        let mut problems = Vec::new();
        for (path, place) in &source.files {
            let read = match path {
                Pem::File(path) => reading.path(path, *place, bound),
                Pem::Text(text) => reading.file(Path::new("(the PEM text)"), text.expose().as_bytes(), *place, false),
            };
            if let Err(problem) = read {
                problems.push(problem);
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        if reading.entries.is_empty() && !source.system_roots {
            let problem = Problem::new("empty-bundle", source.place, "the CA bundle names no certificate at all");
            return Err(vec![problem.help("add `files:`, or let `system_roots: true` stand")]);
        }
        let system = if source.system_roots { Some(Trust::system().map_err(|problem| vec![problem])?) } else { None };
        let Reading { entries, files, warnings } = reading;
        Ok(Loaded { value: Trust::new(entries, system.as_deref(), files), warnings })
    }

    /// The system's roots, read once; those of Mozilla, compiled in, where the system has none (an
    /// empty container).
    ///
    /// # Errors
    /// Never at present: there is always the compiled-in set.
    pub fn system() -> Result<Arc<Trust>, Problem> {
        static SYSTEM: OnceLock<Arc<Trust>> = OnceLock::new();
        Ok(Arc::clone(SYSTEM.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(system_certificates().iter().cloned());
            if roots.is_empty() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            Arc::new(Trust::of_anchors(roots))
        })))
    }

    /// Exactly these certificates, for tests and the demo.
    ///
    /// # Errors
    /// One of them is not a certificate.
    pub fn of(certificates: &[CertificateDer<'_>]) -> Result<Trust, Problem> {
        let entries = certificates.iter().map(|der| Ok((der.to_vec(), Details::read(der)?)));
        let entries: Result<Vec<_>, &'static str> = entries.collect();
        let entries = entries.map_err(|wrong| Problem::new("damaged-certificate", None, wrong))?;
        Ok(Self::new(entries, None, Vec::new()))
    }

    fn of_anchors(anchors: RootCertStore) -> Self {
        let mut digests: Vec<[u8; 32]> = anchors.roots.iter().map(anchor_digest).collect();
        digests.sort_unstable();
        let system = anchors.len();
        Self {
            anchors: Arc::new(anchors),
            exact: HashSet::new(),
            entries: Vec::new(),
            system,
            files: Vec::new(),
            fingerprint: sha256(&digests.concat()),
            domains: BTreeMap::new(),
            origin: None,
        }
    }

    /// The CAs of trust domains, those of the agent's own domain first.
    pub(super) fn of_domains(
        own: Vec<(Vec<u8>, Details)>,
        domains: BTreeMap<String, Arc<RootCertStore>>,
        origin: SvidOrigin,
    ) -> Self {
        let mut trust = Self::new(own, None, Vec::new());
        let digest = |(domain, store): (&String, &Arc<RootCertStore>)| {
            let anchors: Vec<u8> = store.roots.iter().flat_map(anchor_digest).collect();
            sha256(&[domain.as_bytes(), &[0], &anchors].concat())
        };
        let digests: Vec<_> = std::iter::once(trust.fingerprint).chain(domains.iter().map(digest)).collect();
        trust.fingerprint = sha256(&digests.concat());
        // A CA of a trust domain is no server, and never believed as one.
        trust.exact.clear();
        Self { domains, origin: Some(origin), ..trust }
    }

    /// The CAs for the SPIFFE IDs of a trust domain: its own where trust is by domain, else all.
    pub(super) fn anchors_of(&self, domain: &str) -> Option<&Arc<RootCertStore>> {
        if self.domains.is_empty() { Some(&self.anchors) } else { self.domains.get(domain) }
    }

    /// The agent that it came from and is renewed by.
    pub fn origin(&self) -> Option<&SvidOrigin> {
        self.origin.as_ref()
    }

    fn new(entries: Vec<(Vec<u8>, Details)>, system: Option<&Trust>, files: Vec<PathBuf>) -> Self {
        let mut anchors = system.map_or_else(RootCertStore::empty, |system| (*system.anchors).clone());
        // Only what may sign becomes an anchor: webpki does not ask an anchor whether it is a CA, and
        // the holder of a server certificate that is trusted as it is must not be able to issue others.
        let signers = entries.iter().filter(|(_, details)| details.may_anchor);
        anchors.add_parsable_certificates(signers.map(|(der, _)| CertificateDer::from(der.as_slice())));
        let exact: HashSet<_> = entries.iter().map(|(_, details)| details.fingerprint_sha256).collect();
        let mut digests: Vec<_> = exact.iter().copied().chain(system.map(|s| s.fingerprint)).collect();
        digests.sort_unstable();
        digests.push([u8::from(system.is_some()); 32]);
        Self {
            anchors: Arc::new(anchors),
            exact,
            entries: entries.into_iter().map(|(_, details)| details).collect(),
            system: system.map_or(0, |s| s.system),
            files,
            fingerprint: sha256(&digests.concat()),
            domains: BTreeMap::new(),
            origin: None,
        }
    }

    pub fn anchors(&self) -> &Arc<RootCertStore> {
        &self.anchors
    }

    /// Is this very certificate in the bundle?
    pub fn holds(&self, certificate: &[u8]) -> bool {
        !self.exact.is_empty() && self.exact.contains(&sha256(certificate))
    }

    /// The certificates of the bundle's own files.
    pub fn entries(&self) -> &[Details] {
        &self.entries
    }

    /// How many of the system's roots are believed.
    pub fn system_count(&self) -> usize {
        self.system
    }

    /// The files it was read from, and the folders they were found in: what to watch.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The anchors whose SubjectPublicKeyInfo has one of these digests.
    pub fn pinned_anchors(&self, pins: &[[u8; 32]]) -> Vec<TrustAnchor<'static>> {
        let pinned = |anchor: &&TrustAnchor<'static>| pins.contains(&anchor_pin(anchor));
        self.anchors.roots.iter().filter(pinned).cloned().collect()
    }
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

/// An anchor holds the body of the SubjectPublicKeyInfo, without tag and length.
fn anchor_pin(anchor: &TrustAnchor<'_>) -> [u8; 32] {
    sha256(&ber::wrap_sequence(&anchor.subject_public_key_info))
}

fn anchor_digest(anchor: &TrustAnchor<'_>) -> [u8; 32] {
    let constraints = anchor.name_constraints.as_ref().map_or(&[][..], |c| c.as_ref());
    sha256(&[sha256(&anchor.subject), anchor_pin(anchor), sha256(constraints)].concat())
}

#[derive(Default)]
struct Reading {
    entries: Vec<(Vec<u8>, Details)>,
    files: Vec<PathBuf>,
    warnings: Vec<Problem>,
}

impl Reading {
    fn path(&mut self, path: &Path, place: Place, bound: usize) -> Result<(), Problem> {
        let folder = files::is_dir(path);
        let before = self.entries.len();
        self.files.push(path.to_owned());
        for file in inspect::files_of(path).map_err(|error| Problem::file(place, &error))? {
            let bytes = match files::read(&file, bound) {
                Ok(bytes) => bytes,
                // A link that leads nowhere, as a removed package leaves it in a folder of hashed names.
                Err(error) if folder => {
                    let warning = Problem::new("skipped-file", place, format!("{error}; this entry of the CA folder is skipped"));
                    self.warnings.push(warning.help("remove it, or make it readable; the others are used"));
                    continue;
                }
                Err(error) => return Err(Problem::file(place, &error)),
            };
            // In a folder a file without certificates (a README, a key) is not a mistake.
            self.file(&file, &bytes, place, folder)?;
            if folder {
                self.files.push(file);
            }
        }
        if folder && self.entries.len() == before {
            let message = format!("the folder {} holds no certificate", path.display());
            return Err(Problem::new("empty-bundle", place, message).help("put PEM files with the CAs there"));
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, bytes: &[u8], place: Place, in_folder: bool) -> Result<(), Problem> {
        let mut found = inspect::certificates(bytes);
        // From the last, so that the positions before it stay.
        for (at, distrusted) in found.not_for_servers.drain(..).rev() {
            found.good.remove(at);
            found.broken.push(distrusted);
        }
        if found.good.is_empty() && !in_folder {
            return Err(no_certificate(path, bytes, place, &found));
        }
        self.warnings.extend(found.broken.iter().map(|broken| broken.warning(path, Some(place))));
        if found.has_key && !in_folder {
            let message = format!("the CA file {} also holds a private key", path.display());
            self.warnings.push(Problem::new("key-in-bundle", place, message).help("a CA bundle needs no key; take it out"));
        }
        for (_, details) in &found.good {
            let what = format!("{} in {}", details.name(), path.display());
            self.warnings.extend(expiry::warning(details, Some(place), &what, "replace it by its successor"));
        }
        self.entries.extend(found.good);
        Ok(())
    }
}

fn no_certificate(path: &Path, bytes: &[u8], place: Place, found: &inspect::Certificates) -> Problem {
    let file = path.display();
    if pfx::is_pfx(bytes) {
        return Problem::new("pfx-given-as-bundle", place, format!("{file} is a PFX (PKCS#12) file, not a CA bundle"))
            .help("take the CAs out of it: openssl pkcs12 -in FILE -cacerts -nokeys -out ca.pem");
    }
    if let Some(broken) = found.broken.first() {
        let message =
            format!("{file} holds no readable certificate; the first entry (line {}) is bad: {}", broken.line, broken.wrong);
        return Problem::new("empty-bundle", place, message).help("copy it again from where it came");
    }
    if found.has_key {
        let message = format!("{file} holds a private key but no certificate");
        return Problem::new("empty-bundle", place, message).help("name the CA's certificate; its key is not needed");
    }
    Problem::new("empty-bundle", place, format!("{file} holds no certificate"))
        .help("a bundle holds one or many blocks `-----BEGIN CERTIFICATE-----`")
}
