//! What a certificate says, for people and for decisions: subject, names, dates, key, fingerprint.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::prelude::*;
use x509_parser::public_key::PublicKey;

use super::{pem, pfx};
use crate::files;
use crate::settings::Place;
use crate::tls::{Loaded, Problem, sha256};

/// One certificate, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Details {
    /// As `CN=api.example.com, O=Example`.
    pub subject: String,
    pub common_name: Option<String>,
    pub issuer: String,
    pub issuer_common_name: Option<String>,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// Subject alternative names: DNS names and addresses as such, others with their kind (`uri:…`).
    pub sans: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// `RSA 2048`, `EC P-256`, `Ed25519`.
    pub key_type: String,
    /// SHA-256 of the whole certificate.
    pub fingerprint_sha256: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo: what a pin names (RFC 7469 §2.4).
    pub spki_sha256: [u8; 32],
    /// Basic constraints say CA.
    pub is_ca: bool,
    /// May stand as a trust anchor: a CA, or a version 1 certificate that names itself its issuer
    /// (roots older than extensions).
    pub may_anchor: bool,
    pub self_issued: bool,
    pub ski: Option<Vec<u8>>,
    pub aki: Option<Vec<u8>>,
    /// `None`: no extended key usage, everything is allowed.
    pub purposes: Option<Purposes>,
}

/// Extended key usages that matter here (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Purposes {
    pub client: bool,
    pub server: bool,
}

impl Details {
    /// # Errors
    /// It is not a certificate; the reason is a half sentence.
    pub fn read(der: &[u8]) -> Result<Self, &'static str> {
        let (rest, cert) = X509Certificate::from_der(der).map_err(|_| "it is not a certificate")?;
        if !rest.is_empty() {
            return Err("bytes follow the certificate");
        }
        Ok(Self::of(der, &cert))
    }

    fn of(der: &[u8], cert: &X509Certificate<'_>) -> Self {
        let is_ca = matches!(cert.basic_constraints(), Ok(Some(bc)) if bc.value.ca);
        let self_issued = cert.subject().as_raw() == cert.issuer().as_raw();
        let extension =
            |want: fn(&ParsedExtension<'_>) -> Option<Vec<u8>>| cert.extensions().iter().find_map(|e| want(e.parsed_extension()));
        Self {
            subject: cert.subject().to_string(),
            common_name: common_name(cert.subject()),
            issuer: cert.issuer().to_string(),
            issuer_common_name: common_name(cert.issuer()),
            serial: hex(cert.raw_serial()),
            sans: sans(cert),
            not_before: system_time(cert.validity().not_before),
            not_after: system_time(cert.validity().not_after),
            key_type: key_type(cert.public_key()),
            fingerprint_sha256: sha256(der),
            spki_sha256: sha256(cert.public_key().raw),
            is_ca,
            may_anchor: is_ca || (self_issued && cert.version() == X509Version::V1),
            self_issued,
            ski: extension(|e| match e {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            }),
            aki: extension(|e| match e {
                ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
                _ => None,
            }),
            purposes: match cert.extended_key_usage() {
                Ok(Some(eku)) => Some(Purposes {
                    client: eku.value.client_auth || eku.value.any,
                    server: eku.value.server_auth || eku.value.any,
                }),
                _ => None,
            },
        }
    }

    /// The subject's common name, or all of the subject, or the first alternative name.
    pub fn name(&self) -> &str {
        match &self.common_name {
            Some(name) => name,
            None if self.subject.is_empty() => self.sans.first().map_or("(no name)", String::as_str),
            None => &self.subject,
        }
    }

    pub fn issuer_name(&self) -> &str {
        self.issuer_common_name.as_deref().unwrap_or(&self.issuer)
    }

    /// The size of its RSA key, if it has one.
    pub fn rsa_bits(&self) -> Option<usize> {
        self.key_type.strip_prefix("RSA ")?.parse().ok()
    }

    /// `AB:CD:…`, as `openssl x509 -fingerprint` shows it.
    pub fn fingerprint_text(&self) -> String {
        self.fingerprint_sha256.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
    }

    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }

    pub fn is_early(&self, now: SystemTime) -> bool {
        now < self.not_before
    }
}

/// `2026-11-24`, for messages.
pub fn day(time: SystemTime) -> String {
    let date = ::time::OffsetDateTime::from(time).date();
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

/// `2026-11-24T10:00:00Z` (RFC 3339), for machines.
pub fn rfc3339(time: SystemTime) -> String {
    let time = ::time::OffsetDateTime::from(time).replace_nanosecond(0);
    time.ok()
        .and_then(|time| time.format(&::time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| day(::std::convert::identity(UNIX_EPOCH)))
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().last().and_then(|cn| cn.as_str().ok()).map(str::to_owned)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    match u64::try_from(seconds) {
        Ok(after) => UNIX_EPOCH + Duration::from_secs(after),
        Err(_) => UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
    }
}

fn sans(cert: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = cert.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().map(general_name).collect()
}

fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).map_or_else(|_| hex(octets), |o| IpAddr::from(o).to_string()),
            16 => <[u8; 16]>::try_from(*octets).map_or_else(|_| hex(octets), |o| IpAddr::from(o).to_string()),
            _ => format!("ip:{}", hex(octets)),
        },
        GeneralName::URI(uri) => format!("uri:{uri}"),
        GeneralName::RFC822Name(mail) => format!("email:{mail}"),
        GeneralName::DirectoryName(name) => format!("dn:{name}"),
        _ => "other".to_owned(),
    }
}

fn key_type(key: &SubjectPublicKeyInfo<'_>) -> String {
    let oid = key.algorithm.algorithm.to_id_string();
    match (key.parsed(), oid.as_str()) {
        (_, "1.3.101.112") => "Ed25519".to_owned(),
        (_, "1.3.101.113") => "Ed448".to_owned(),
        (Ok(PublicKey::RSA(rsa)), _) => format!("RSA {}", rsa.key_size()),
        (Ok(PublicKey::EC(_)), _) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
            match curve.as_deref() {
                Some("1.2.840.10045.3.1.7") => "EC P-256".to_owned(),
                Some("1.3.132.0.34") => "EC P-384".to_owned(),
                Some("1.3.132.0.35") => "EC P-521".to_owned(),
                Some(other) => format!("EC {other}"),
                None => "EC".to_owned(),
            }
        }
        _ => oid,
    }
}

/// Every certificate in a file (PEM, DER, PKCS#7), for `gatepass certs list`. Broken entries become
/// warnings. What is in a PFX, [`crate::tls::out::identity::load`] tells: it needs the passphrase.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn describe_file(path: &Path, place: Option<Place>, bound: usize) -> Result<Loaded<Vec<Details>>, Problem> {
    let bytes = files::read(path, bound).map_err(|e| Problem::file(place, &e))?;
    let read = certificates(&bytes);
    let warnings = read.broken.iter().map(|b| b.warning(path, place)).collect();
    let value: Vec<_> = read.good.iter().map(|(_, details)| details.clone()).collect();
    if value.is_empty() {
        let message = format!("{} holds no certificate", path.display());
        return Err(Problem::new("no-certificate", place, message));
    }
    Ok(Loaded { value, warnings })
}

/// The certificates of a file's bytes, good and bad.
pub struct Certificates {
    pub good: Vec<(Vec<u8>, Details)>,
    pub broken: Vec<Broken>,
    /// Of the good ones, by position: those that say themselves that they are not to be believed for servers.
    pub not_for_servers: Vec<(usize, Broken)>,
    /// A private key stands among them.
    pub has_key: bool,
}

/// An entry that could not be read.
pub struct Broken {
    pub number: usize,
    pub line: usize,
    pub wrong: &'static str,
}

const NOT_FOR_SERVERS: &str = "its own trust settings do not cover servers (`openssl x509 -addtrust serverAuth` would)";

impl Broken {
    pub fn warning(&self, path: &Path, place: Option<Place>) -> Problem {
        let Self { number, line, wrong } = self;
        let message = format!("entry {number} of {} (line {line}) is skipped: {wrong}", path.display());
        let code = if *wrong == pem::CUT_OFF { "cut-off-entry" } else { "broken-entry" };
        Problem::new(code, place, message).help("remove or replace that block; the others are used")
    }
}

/// Reads PEM, DER and the certificates-only form of PKCS#7.
pub fn certificates(bytes: &[u8]) -> Certificates {
    let mut found = Certificates { good: Vec::new(), broken: Vec::new(), not_for_servers: Vec::new(), has_key: false };
    if !pem::is_pem(bytes) {
        found.add_binary(bytes);
        return found;
    }
    for block in pem::read(bytes) {
        let number = block.number;
        let line = block.line;
        let broken = |wrong| Broken { number, line, wrong };
        if block.is_private_key() {
            found.has_key = true;
        } else if block.is_certificate() {
            match block.certificate().and_then(|der| Ok((der.to_vec(), Details::read(der)?))) {
                Ok(good) => {
                    if !block.is_trusted_for_servers() {
                        found.not_for_servers.push((found.good.len(), broken(NOT_FOR_SERVERS)));
                    }
                    found.good.push(good);
                }
                Err(wrong) => found.broken.push(broken(wrong)),
            }
        } else if matches!(block.label.as_str(), "PKCS7" | "CMS") {
            match block.contents {
                Ok(der) => found.add_binary(&der),
                Err(wrong) => found.broken.push(broken(wrong)),
            }
        }
    }
    found
}

impl Certificates {
    fn add_binary(&mut self, bytes: &[u8]) {
        if let Ok(details) = Details::read(bytes) {
            self.good.push((bytes.to_vec(), details));
            return;
        }
        let ders = pfx::pkcs7_certificates(bytes);
        self.good.extend(ders.into_iter().filter_map(|der| Details::read(&der).ok().map(|details| (der, details))));
    }
}

/// The file of a path that was asked about, or all files of the folder: bundles may be folders of
/// PEM files. Hidden files and the `..data` links of Kubernetes volumes are passed over.
///
/// # Errors
/// The folder cannot be listed.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>, files::FileError> {
    if !files::is_dir(path) {
        return Ok(vec![path.to_owned()]);
    }
    let visible = |p: &PathBuf| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) && !files::is_dir(p);
    Ok(files::list(path)?.into_iter().filter(visible).collect())
}
