//! A key, the certificate that belongs to it, and the chain above.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use super::Identity;
use crate::settings::Place;
use crate::tls::formats::inspect::{Details, day};
use crate::tls::formats::key::Key;
use crate::tls::out::expiry;
use crate::tls::{Loaded, Problem, sha256};

/// Where something was read, for messages, and where the config names it.
pub(super) type Site<'a> = (&'a Path, Option<Place>);

/// What an identity is made of whose key is in no file.
pub(in crate::tls::out) struct Parts {
    pub certificates: Vec<(Vec<u8>, Details)>,
    pub key: Key,
    pub files: Vec<PathBuf>,
    /// What else than chain and key makes it differ from another.
    pub salt: [u8; 32],
    /// For messages.
    pub name: String,
    pub place: Place,
}

/// The certificate that belongs to the key, and the chain above it.
///
/// # Errors
/// None belongs to it.
pub(in crate::tls::out) fn of_parts(parts: Parts) -> Result<Loaded<Identity>, Problem> {
    let Parts { certificates, key, files, salt, name, place } = parts;
    let site = (Path::new(&name), Some(place));
    let mismatch =
        || Problem::new("key-mismatch", place, format!("{name} is not the key of the certificate (public keys differ)"));
    let mut loaded = assemble(certificates, vec![key], mismatch, files, site, Vec::new())?;
    let own = loaded.value.fingerprint;
    loaded.value.fingerprint = sha256(&[own, salt].concat());
    loaded.warnings.extend(wrong_purpose(&loaded.value, place));
    Ok(loaded)
}

pub(super) fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

pub(super) fn wrong_purpose(identity: &Identity, place: Place) -> Option<Problem> {
    if identity.details.purposes.is_none_or(|purposes| purposes.client) {
        return None;
    }
    let message = format!("the certificate {} is not meant for clients (no clientAuth)", identity.details.name());
    let help = "most servers will refuse it; ask its issuer for one with the extended key usage clientAuth";
    Some(Problem::new("not-a-client-certificate", place, message).help(help))
}

/// Finds the certificate that belongs to a key, and links the chain above it.
pub(super) fn assemble(
    certificates: Vec<(Vec<u8>, Details)>,
    keys: Vec<Key>,
    mismatch: impl FnOnce() -> Problem,
    files: Vec<PathBuf>,
    site: Site<'_>,
    mut warnings: Vec<Problem>,
) -> Result<Loaded<Identity>, Problem> {
    let belongs = |key: &Key| {
        let leaf = certificates.iter().position(|(der, _)| public_keys_agree(der, key))?;
        Some((leaf, key.clone()))
    };
    let Some((leaf, key)) = keys.iter().find_map(belongs) else { return Err(mismatch()) };
    let details = certificates[leaf].1.clone();
    warnings.extend(date_warning(&details, site));
    let chain = link(&certificates, leaf);
    Ok(Loaded { value: Identity::new(chain, key, details, files), warnings })
}

pub(super) fn public_keys_agree(certificate: &[u8], key: &Key) -> bool {
    let Some(spki) = key.public_key() else { return false };
    let (Ok((_, cert)), Ok((_, own))) = (X509Certificate::from_der(certificate), SubjectPublicKeyInfo::from_der(&spki)) else {
        return false;
    };
    // Not the whole SubjectPublicKeyInfo: some issuers leave the NULL parameter of RSA out.
    cert.public_key().subject_public_key.data == own.subject_public_key.data
}

fn date_warning(details: &Details, (path, place): Site<'_>) -> Option<Problem> {
    let now = SystemTime::now();
    let file = name(path);
    if details.is_early(now + Duration::from_secs(60)) {
        let message = format!("the certificate in {file} ({}) is valid only from {}", details.name(), day(details.not_before));
        return Some(Problem::new("not-yet-valid", place, message).help("check this machine's clock"));
    }
    let what = format!("the certificate in {file} ({})", details.name());
    expiry::warning(details, place, &what, "renew it; servers refuse an expired one")
}

/// The leaf and, as far as the file has them, the certificates above it in order (RFC 8446 §4.4.2).
/// What is not part of the chain is left out: it would only be sent for nothing.
fn link(certificates: &[(Vec<u8>, Details)], leaf: usize) -> Vec<CertificateDer<'static>> {
    let mut chain = Vec::new();
    let mut used = HashSet::new();
    let mut next = Some(leaf);
    while let Some(at) = next {
        used.insert(at);
        let (der, details) = &certificates[at];
        chain.push(CertificateDer::from(der.clone()));
        next = (!details.self_issued).then(|| issuer_of(certificates, details, &used)).flatten();
    }
    chain
}

fn issuer_of(certificates: &[(Vec<u8>, Details)], of: &Details, used: &HashSet<usize>) -> Option<usize> {
    let candidate = |at: &usize| !used.contains(at) && certificates[*at].1.subject == of.issuer;
    let by_key = |at: &usize| of.aki.is_none() || certificates[*at].1.ski == of.aki;
    let mut candidates = (0..certificates.len()).filter(candidate);
    // Where several bear the issuer's name (a renewed CA), the key identifier decides.
    (0..certificates.len()).filter(candidate).find(by_key).or_else(|| candidates.next())
}
