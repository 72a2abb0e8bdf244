//! The interception CA: made on first start, or brought by the user.
//!
//! Two files in a folder of its own (a third, `ca.old.pem`, after a renewal). `ca.key` holds the key and a copy of the certificate and comes
//! into being whole and once, by a link that fails where something stands: a crash leaves all of it
//! or nothing, and of processes that start at once one makes it and the others read it. `ca.pem` is
//! the certificate alone, for handing out; it is written again from `ca.key` when it is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::constraints::Constraints;
use super::leaves::{BACKDATE, Leaves, Signer, serial};
use crate::failure::{Cause, Failure};
use crate::files;
use crate::limits::Limits;
use crate::settings::Place;
use crate::tls::settings::CaSource;

use crate::origin::Host;
use crate::tls::Problem;
use crate::tls::formats::inspect::{self, Details, day};
use crate::tls::formats::key;
use crate::tls::formats::key_error::KeyError;
use crate::tls::formats::pem;

/// The limits that vendors set (398, 199, 47 days) speak of leaves. A root that lapses makes every
/// client that trusts it fail on one day, for nothing: what guards it is that its key stays on this
/// machine, not that it is short-lived. Ten years is also what mkcert and mitmproxy use.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A CA certificate or key file is a few kilobytes.
const BOUND: usize = 1024 * 1024;

/// The CA, and the leaves it has minted.
pub struct Authority {
    /// The CA's certificate, then those above it that were given with it.
    chain: Vec<CertificateDer<'static>>,
    pem: String,
    details: Details,
    /// Certificate, then key. Empty in memory.
    files: Vec<PathBuf>,
    warnings: Vec<Problem>,
    leaves: Leaves,
    /// The only names that it may issue for; `None`: any.
    constraints: Option<Constraints>,
    /// The certificate before this one, when it was renewed.
    previous: Option<Details>,
}

/// Equal when certificate and chain are.
impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

impl Authority {
    /// Opens the CA, or makes it, limited to these names. At most `leaves` leaves are kept.
    ///
    /// # Errors
    /// What is wrong with which file, and the mend.
    pub fn open(source: &CaSource, leaves: usize, constraints: Option<&Constraints>) -> Result<Authority, Problem> {
        match source {
            CaSource::Memory => Ok(Self::in_memory()),
            CaSource::Dir { directory, .. } => open_dir(directory, leaves, constraints),
            CaSource::Files { cert, key, place } => open_files(cert, key, *place, leaves),
        }
    }

    /// A CA that is gone with the process.
    pub fn in_memory() -> Authority {
        let made = make(None, None).expect("a key can be made and sign its own certificate");
        let parts = Parts { chain: vec![made.certificate], key: made.key };
        Authority::build(parts, Vec::new(), Vec::new(), Limits::default().leaves, None).expect("what was just made can be used")
    }

    /// What clients must trust.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// Where [`certificate_pem`](Self::certificate_pem) stands; `None` in memory.
    pub fn path(&self) -> Option<&Path> {
        self.files.first().map(PathBuf::as_path)
    }

    pub fn details(&self) -> &Details {
        &self.details
    }

    /// The CA, then those above it that were given with it.
    pub fn chain_details(&self) -> Vec<Details> {
        self.chain.iter().filter_map(|der| Details::read(der).ok()).collect()
    }

    pub fn constraints(&self) -> Option<&Constraints> {
        self.constraints.as_ref()
    }

    /// The certificate before this one, when it was renewed.
    pub fn previous(&self) -> Option<&Details> {
        self.previous.as_ref()
    }

    /// # Errors
    /// The CA is limited, and not to this host.
    pub fn permits(&self, host: &Host) -> Result<(), Failure> {
        match &self.constraints {
            Some(constraints) if !constraints.permits(host) => Err(Failure::new(
                Cause::Internal,
                format!("the interception CA is limited to other hosts than {host} ({})", constraints.text()),
            )
            .hint("`gatepass ca renew` makes it anew for the hosts that the rules name now; clients must then trust it anew")),
            _ => Ok(()),
        }
    }

    /// What to watch.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    /// What is worth a warning (a key file of the user's that others can read).
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The configuration that speaks for `host`; its leaf is minted when there is none.
    ///
    /// # Errors
    /// The CA's key does not sign, which is a fault in gatepass or in the CA.
    pub fn server_config(&self, host: &Host, h2: bool) -> Result<Arc<ServerConfig>, Failure> {
        self.permits(host)?;
        self.leaves.config(host, h2)
    }

    /// Makes the certificate of the CA in this folder anew, with the same key unless told otherwise: leaves then
    /// verify under either certificate. The one before is kept beside it as `ca.old.pem`.
    ///
    /// # Errors
    /// There is no CA to renew, or its files cannot be written.
    pub fn renew(directory: &Path, new_key: bool, constraints: Option<&Constraints>) -> Result<Details, Problem> {
        let old = open_dir(directory, 1, None)?;
        let key = if new_key { None } else { Some(Reused::read(directory, &old)?) };
        let made =
            make(key, constraints).map_err(|error| Problem::new("no-ca", None, format!("the CA cannot be made: {error}")))?;
        let renewed = Details::read(&made.certificate).map_err(|wrong| Problem::new("no-ca", None, wrong))?;
        if !new_key
            && X509Certificate::from_der(&made.certificate).ok().map(|(_, new)| new.subject().as_raw().to_vec())
                != X509Certificate::from_der(old.certificate()).ok().map(|(_, old)| old.subject().as_raw().to_vec())
        {
            return Err(Problem::new("no-ca", None, "the CA's name cannot be written again as it is").help("use --new-key"));
        }
        let failed = |error: files::FileError| Problem::file(None, &error);
        files::write_public(&directory.join("ca.old.pem"), old.certificate_pem().as_bytes()).map_err(failed)?;
        // Without ca.pem, whoever reads the folder takes the certificate from ca.key, old or new: at no moment do
        // the two disagree.
        files::remove(&directory.join("ca.pem")).map_err(failed)?;
        files::write_private(&directory.join("ca.key"), made.key_file().as_bytes()).map_err(failed)?;
        files::write_public(&directory.join("ca.pem"), pem::encode("CERTIFICATE", &made.certificate).as_bytes())
            .map_err(failed)?;
        Ok(renewed)
    }

    fn build(
        parts: Parts,
        files: Vec<PathBuf>,
        warnings: Vec<Problem>,
        leaves: usize,
        site: Option<(&Path, Option<Place>)>,
    ) -> Result<Authority, Problem> {
        let unusable = |why: &str| {
            let (path, place) = site.map_or((Path::new("the CA"), None), |site| site);
            Problem::new("unusable-ca", place, format!("{} cannot be used as a CA: {why}", path.display()))
                .help("use another CA, or none: gatepass then makes its own")
        };
        let certificate = parts.chain[0].clone();
        let details = Details::read(&certificate).map_err(&unusable)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, parts.key).map_err(|_| unusable("it cannot be parsed"))?;
        // Clients that have the root need nothing else; above an intermediate they need the rest.
        // The CA itself goes along, though a client that trusts it has it: Chromium's
        // --ignore-certificate-errors-spki-list looks for its key among what is sent.
        let chain = parts.chain;
        let signer = Signer::new(issuer, chain.clone(), details.not_after).map_err(|_| unusable("its key does not sign"))?;
        if !signer.names_its_issuer(&certificate) {
            return Err(unusable("its name has a form that cannot be reproduced in the certificates it issues"));
        }
        let pem = pem::encode("CERTIFICATE", &certificate);
        let constraints = Constraints::read(&certificate);
        Ok(Authority { chain, pem, details, files, warnings, leaves: Leaves::new(signer, leaves), constraints, previous: None })
    }
}

/// The CA's certificate first, then those above it.
struct Parts {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

struct Made {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Made {
    /// What `ca.key` holds.
    fn key_file(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(self.key.serialize_der());
        Zeroizing::new(format!("{}{}", pem::encode("PRIVATE KEY", &key), pem::encode("CERTIFICATE", &self.certificate)))
    }
}

/// The key and the name of a CA that is made anew.
struct Reused {
    key: KeyPair,
    common_name: String,
}

impl Reused {
    fn read(directory: &Path, old: &Authority) -> Result<Self, Problem> {
        let path = directory.join("ca.key");
        let key = only_key(&path, None, &Zeroizing::new(read(&path, None)?))?;
        Ok(Self { key, common_name: old.details.common_name.clone().unwrap_or_default() })
    }
}

fn make(reused: Option<Reused>, constraints: Option<&Constraints>) -> Result<Made, rcgen::Error> {
    let now = SystemTime::now();
    let (key, common_name) = match reused {
        Some(Reused { key, common_name }) => (key, common_name),
        None => (KeyPair::generate()?, format!("gatepass CA ({}, {})", host_name(), day(now))),
    };
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "gatepass");
    name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + CA_LIFE).into();
    params.serial_number = Some(serial());
    // Path length 0: it signs leaves, never another CA (RFC 5280 §4.2.1.9).
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = constraints.map(Constraints::extension);
    let certificate = params.self_signed(&key)?.der().clone();
    Ok(Made { certificate, key })
}

/// This machine's name, cut so that the common name stays within 64 characters (RFC 5280 appendix A).
fn host_name() -> String {
    let places = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let read = places.iter().find_map(|path| files::read_text(Path::new(path), 4096).ok());
    let name: String = read.unwrap_or_default().trim().chars().filter(|c| c.is_ascii_graphic()).take(30).collect();
    if name.is_empty() { "this machine".to_owned() } else { name }
}

fn open_dir(directory: &Path, leaves: usize, constraints: Option<&Constraints>) -> Result<Authority, Problem> {
    let cert_path = directory.join("ca.pem");
    let key_path = directory.join("ca.key");
    // In this order: another process makes the key first, so a certificate seen here has its key.
    let had_certificate = files::exists(&cert_path);
    if !files::exists(&key_path) {
        if had_certificate {
            let message = format!("{} is there, but its key {} is not", cert_path.display(), key_path.display());
            return Err(Problem::new("damaged-ca", None, message)
                .help("put the key back, or remove the certificate too: a new CA is then made, which clients must trust anew"));
        }
        create(directory, &key_path, constraints)?;
    }
    // The key is refused; the folder only warned of. One that somebody else made is a volume, as wide open as its maker has it.
    let warnings = match files::standing(directory) {
        Some(standing) if standing.user != files::own_user() => None,
        _ => loose(directory, 0o022, "others can write to the CA's folder", "700")?,
    };
    if let Some(problem) = loose(&key_path, 0o077, "others can read the CA's key", "600")? {
        return Err(problem);
    }
    let key_file = Zeroizing::new(read(&key_path, None)?);
    let certificate = if files::exists(&cert_path) {
        first_certificate(&cert_path, &read(&cert_path, None)?)?
    } else {
        let certificate = first_certificate(&key_path, &key_file)?;
        let text = pem::encode("CERTIFICATE", &certificate);
        files::write_public(&cert_path, text.as_bytes()).map_err(|error| Problem::file(None, &error))?;
        certificate
    };
    let anew = format!(
        "restore both files, or remove {} and {}: a new CA is then made, which clients must trust anew",
        cert_path.display(),
        key_path.display()
    );
    let key = only_key(&key_path, None, &key_file).map_err(|problem| problem.help(anew.clone()))?;
    check(&certificate, &key, (&cert_path, &key_path), None).map_err(|problem| problem.help(anew))?;
    let parts = Parts { chain: vec![certificate], key };
    let files = vec![cert_path.clone(), key_path];
    let mut authority = Authority::build(parts, files, warnings.into_iter().collect(), leaves, Some((&cert_path, None)))?;
    let old = files::read(&directory.join("ca.old.pem"), BOUND).unwrap_or_default();
    authority.previous = inspect::certificates(&old).good.into_iter().next().map(|(_, details)| details);
    Ok(authority)
}

fn create(directory: &Path, key_path: &Path, constraints: Option<&Constraints>) -> Result<(), Problem> {
    let failed = |error: files::FileError| {
        Problem::file(None, &error).help("name a folder that can be written: `ca: { dir: … }`, or set GATEPASS_HOME")
    };
    let made = make(None, constraints).map_err(|error| Problem::new("no-ca", None, format!("the CA cannot be made: {error}")))?;
    files::create_private_dir(directory).map_err(failed)?;
    // `false`: another process was first, and its CA is read.
    files::create_private(key_path, made.key_file().as_bytes()).map_err(failed)?;
    Ok(())
}

fn loose(path: &Path, forbidden: u32, what: &str, wanted: &str) -> Result<Option<Problem>, Problem> {
    let mode = files::mode(path).map_err(|error| Problem::file(None, &error))?;
    if mode & forbidden == 0 {
        return Ok(None);
    }
    let message = format!("{what} {} (mode {:04o})", path.display(), mode & 0o7777);
    Ok(Some(
        Problem::new("loose-permissions", None, message).help(format!(
            "chmod {wanted} {}; if others may have used it, remove the CA so that a new one is made",
            path.display()
        )),
    ))
}

fn open_files(cert: &Path, key: &Path, place: Place, leaves: usize) -> Result<Authority, Problem> {
    let cert_file = read(cert, Some(place))?;
    let key_file = Zeroizing::new(read(key, Some(place))?);
    let mut chain: Vec<_> =
        inspect::certificates(&cert_file).good.into_iter().map(|(der, _)| CertificateDer::from(der)).collect();
    if chain.is_empty() {
        let message = format!("{} holds no certificate", cert.display());
        return Err(Problem::new("no-certificate", place, message).help("name the CA's certificate in PEM as `ca: { cert: … }`"));
    }
    let key_pair = only_key(key, Some(place), &key_file)?;
    // The CA itself goes first, wherever it stands in the file.
    if let Some(at) = chain.iter().position(|der| agrees(der, &key_pair)) {
        chain.swap(0, at);
    }
    check(&chain[0], &key_pair, (cert, key), Some(place))?;
    let loose = files::exposed(key).map(|mode| {
        let message = format!("others can read the CA's key {} (mode {:04o})", key.display(), mode & 0o777);
        Problem::new("loose-permissions", place, message).help(format!("chmod 600 {}", key.display()))
    });
    let parts = Parts { chain, key: key_pair };
    let files = vec![cert.to_owned(), key.to_owned()];
    Authority::build(parts, files, loose.into_iter().collect(), leaves, Some((cert, Some(place))))
}

fn read(path: &Path, place: Option<Place>) -> Result<Vec<u8>, Problem> {
    files::read(path, BOUND).map_err(|error| Problem::file(place, &error))
}

fn first_certificate(path: &Path, bytes: &[u8]) -> Result<CertificateDer<'static>, Problem> {
    let found = inspect::certificates(bytes).good.into_iter().next();
    found.map(|(der, _)| CertificateDer::from(der)).ok_or_else(|| {
        Problem::new("damaged-ca", None, format!("{} holds no certificate", path.display())).help(format!(
            "restore it; if it is ca.pem, removing it suffices: it is written again from ca.key beside it ({})",
            path.display()
        ))
    })
}

fn only_key(path: &Path, place: Option<Place>, bytes: &[u8]) -> Result<KeyPair, Problem> {
    let wrong = |message: String| Problem::new("damaged-ca", place, message);
    let blocks = pem::read(bytes);
    let der = match blocks.iter().find(|block| block.is_private_key()) {
        Some(block) => key::from_block(block, None),
        None => key::from_der(bytes, None),
    };
    let der = der.map_err(|error| match error {
        KeyError::NeedsPassphrase => wrong(format!("the CA's key {} is encrypted, which is not supported", path.display()))
            .help("decrypt it: openssl pkey -in OLD -out NEW, and chmod 600 NEW"),
        KeyError::Unsupported { what, help } => wrong(format!("{} cannot be used: {what}", path.display())).help(help),
        _ => wrong(format!("{} holds no usable private key", path.display())).help("a PEM key stands in it, RSA or EC"),
    })?;
    KeyPair::try_from(&der).map_err(|_| {
        wrong(format!("the key in {} is of a kind that a CA cannot have here", path.display()))
            .help("use RSA with 2048 bits or more, EC P-256, P-384 or P-521, or Ed25519")
    })
}

fn agrees(certificate: &[u8], key: &KeyPair) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, cert)| cert.public_key().subject_public_key.data.as_ref() == key.der_bytes())
}

fn check(certificate: &[u8], key: &KeyPair, paths: (&Path, &Path), place: Option<Place>) -> Result<(), Problem> {
    let (cert_path, key_path) = paths;
    let problem = |code, message: String, help: &str| Problem::new(code, place, message).help(help);
    let damaged = |wrong| problem("damaged-ca", format!("{}: {wrong}", cert_path.display()), "restore it");
    let details = Details::read(certificate).map_err(damaged)?;
    if !agrees(certificate, key) {
        let message = format!("{} is not the key of {} (public keys differ)", key_path.display(), cert_path.display());
        return Err(problem("key-mismatch", message, "name the key that belongs to the certificate"));
    }
    if !details.is_ca || !may_sign(certificate) {
        let message = format!("{} ({}) is not a CA", cert_path.display(), details.name());
        return Err(problem(
            "not-a-ca",
            message,
            "use a certificate with the basic constraint CA:TRUE that may sign certificates",
        ));
    }
    if details.is_expired(SystemTime::now()) {
        let message = format!("the CA in {} expired on {}", cert_path.display(), day(details.not_after));
        return Err(problem("expired", message, "use another one"));
    }
    Ok(())
}

/// No key usage, or one that has keyCertSign (RFC 5280 §4.2.1.3).
fn may_sign(certificate: &[u8]) -> bool {
    let Ok((_, cert)) = X509Certificate::from_der(certificate) else { return false };
    match cert.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        _ => true,
    }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
