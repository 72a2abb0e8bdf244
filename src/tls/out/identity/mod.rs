//! What is shown upstream: a certificate chain and its private key, read from the forms people have
//! them in. A mistake is told as what it is: every way a file can be wrong has its own sentence.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use super::{expiry, svid};
use crate::config::{CertificateSource, Material, Pem, Place, TlsBackend};
use crate::files;
use crate::secret::Secret;
use crate::tls::formats::inspect::{self, Details, day};
use crate::tls::formats::key::{self, Key};
use crate::tls::formats::key_error::KeyError;
use crate::tls::formats::{pem, pfx};
use crate::tls::sha256;
pub use crate::tls::{Loaded, Problem};

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
    origin: Option<svid::Origin>,
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

    pub(super) fn came_from(&mut self, origin: svid::Origin) {
        self.origin = Some(origin);
    }

    /// The agent that it came from and is renewed by; `None` for one from files or a token.
    pub fn origin(&self) -> Option<&svid::Origin> {
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

/// Reads a client certificate with its key from files; [`super::token`] and a workload's agent have the others.
///
/// # Errors
/// What is wrong with which file, and the mend.
pub fn load(source: &CertificateSource, passphrase: Option<&Secret>, bound: usize) -> Result<Loaded<Identity>, Problem> {
    let loaded = match &source.material {
        Material::Pem { cert, cert_place, key } => {
            let (cert_path, key_path) = (shown(cert), key.as_ref().map(|(pem, place)| (shown(pem), Some(*place))));
            let texts = [Some(cert), key.as_ref().map(|(pem, _)| pem)].map(|pem| pem.and_then(as_text));
            let key = key_path.as_ref().map(|(path, place)| (path.as_path(), *place));
            Reading { passphrase, bound, texts }.pair((&cert_path, Some(*cert_place)), key)
        }
        Material::Pfx { file, place, alias } => {
            Reading { passphrase, bound, texts: [None, None] }.pfx(file, *place, alias.as_ref())
        }
        Material::Pkcs11 { place, .. } | Material::Spiffe { place, .. } => {
            Err(Problem::new("needs-a-name", *place, "a certificate on a token or from an agent cannot be written inline here")
                .help("give it a name under `client_certificates:`, and write that name here"))
        }
    };
    let mut loaded = loaded?;
    loaded.warnings.extend(wrong_purpose(&loaded.value, source.place));
    Ok(loaded)
}

/// The certificates of a file whose key is elsewhere.
///
/// # Errors
/// It cannot be read or holds none.
pub(super) fn certificates_of(pem: &Pem, place: Place, bound: usize) -> Result<inspect::Certificates, Problem> {
    let path = shown(pem);
    let site = (path.as_path(), Some(place));
    let bytes = Reading { passphrase: None, bound, texts: [None, None] }.read(site, as_text(pem))?;
    read_certificates(site, &bytes, true)
}

/// What an identity is made of whose key is in no file.
pub(super) struct Parts {
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
pub(super) fn of_parts(parts: Parts) -> Result<Loaded<Identity>, Problem> {
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

/// The certificate and key of a listener that speaks TLS itself.
///
/// # Errors
/// As [`load`].
pub fn load_pair(cert: &Path, key: &Path, place: Place, bound: usize) -> Result<Loaded<Identity>, Problem> {
    let loaded = Reading { passphrase: None, bound, texts: [None, None] }.pair((cert, Some(place)), Some((key, Some(place))))?;
    match loaded.value.certified {
        Some(_) => Ok(loaded),
        None => Err(Problem::new(
            "unsupported-key",
            place,
            format!("{} cannot be used by a listener: its key is of a rare kind", name(key)),
        )
        .help("use RSA with 2048 bits or more, EC P-256, P-384 or P-521, or Ed25519")),
    }
}

fn wrong_purpose(identity: &Identity, place: Place) -> Option<Problem> {
    if identity.details.purposes.is_none_or(|purposes| purposes.client) {
        return None;
    }
    let message = format!("the certificate {} is not meant for clients (no clientAuth)", identity.details.name());
    let help = "most servers will refuse it; ask its issuer for one with the extended key usage clientAuth";
    Some(Problem::new("not-a-client-certificate", place, message).help(help))
}

/// The name under which a text stands in messages, where a file would have its path.
const CERT_TEXT: &str = "(the PEM text)";

fn shown(pem: &Pem) -> PathBuf {
    pem.file().map_or_else(|| PathBuf::from(CERT_TEXT), Path::to_owned)
}

fn as_text(pem: &Pem) -> Option<&Secret> {
    match pem {
        Pem::Text(text) => Some(text),
        Pem::File(_) => None,
    }
}

struct Reading<'a> {
    passphrase: Option<&'a Secret>,
    bound: usize,
    /// Certificate and key, where they are given as text instead of a file.
    texts: [Option<&'a Secret>; 2],
}

type Site<'a> = (&'a Path, Option<Place>);

impl Reading<'_> {
    fn pair(&self, cert: Site<'_>, key: Option<Site<'_>>) -> Result<Loaded<Identity>, Problem> {
        let cert_bytes = match (self.read(cert, self.texts[0]), key.map(|key| self.read(key, self.texts[1]))) {
            (Err(problem), Some(Err(other))) if key.is_some_and(|key| key.0 != cert.0) => {
                return Err(Problem { message: format!("{}; {}", problem.message, other.message), ..problem });
            }
            (bytes, _) => bytes?,
        };
        let found = read_certificates(cert, &cert_bytes, key.is_some())?;
        let mut warnings: Vec<_> = found.broken.iter().map(|b| b.warning(cert.0, cert.1)).collect();
        let site = key.unwrap_or(cert);
        let key_bytes = if key.is_some() { self.read(site, self.texts[1])? } else { cert_bytes };
        let keys = self.keys(site, &key_bytes, key.is_none())?;
        warnings.extend(loose_permissions(site));
        let mut files = vec![cert.0.to_owned()];
        files.extend(key.filter(|(path, _)| *path != cert.0).map(|(path, _)| path.to_owned()));
        let mismatch = || {
            let message = format!("{} is not the key of {} (public keys differ)", name(site.0), name(cert.0));
            Problem::new("key-mismatch", site.1, message).help("name the key that the certificate was requested with")
        };
        assemble(found.good, keys, mismatch, files, cert, warnings)
    }

    fn pfx(&self, path: &Path, place: Place, alias: Option<&(String, Place)>) -> Result<Loaded<Identity>, Problem> {
        let site = (path, Some(place));
        let bytes = pfx::from_base64(zeroize::Zeroizing::new(self.read(site, None)?));
        if pem::is_pem(&bytes) {
            let message = format!("{} is a PEM file, not a PFX", name(path));
            return Err(Problem::new("pem-given-as-pfx", place, message).help("write `cert:` (and `key:`) instead of `pfx:`"));
        }
        if pfx::is_java_keystore(&bytes) {
            let message = format!("{} is a Java keystore of the old form (JKS), not a PFX", name(path));
            let help = "convert it: keytool -importkeystore -srckeystore OLD -destkeystore NEW.p12 -deststoretype PKCS12";
            return Err(Problem::new("jks-given-as-pfx", place, message).help(help));
        }
        let contents = pfx::open(&bytes, self.passphrase.map(Secret::expose)).map_err(|error| key_problem(site, &error))?;
        if contents.keys.is_empty() {
            let message = format!("{} holds no private key", name(path));
            return Err(Problem::new("no-private-key", place, message)
                .help("export it again with its key; a file with CAs alone belongs under `ca_bundles`"));
        }
        let parse = |(alias, der): &(Option<String>, zeroize::Zeroizing<Vec<u8>>)| {
            let key = PrivateKeyDer::try_from(der.as_slice()).map_err(|_| KeyError::Damaged("its key is not a private key"))?;
            Ok((alias.clone(), Key::new(&key.clone_key())?))
        };
        let keys = first_good(contents.keys.iter().map(parse)).map_err(|error| key_problem(site, &error))?;
        let certificates = contents.certificates.into_iter().filter_map(|der| Some((der.clone(), Details::read(&der).ok()?)));
        let certificates: Vec<_> = certificates.collect();
        if certificates.is_empty() {
            let message = format!("{} holds a key but no certificate", name(path));
            return Err(Problem::new("no-certificate", place, message).help("export it again with its certificate"));
        }
        let keys = one_of(keys, &certificates, alias, site)?;
        let mismatch = || {
            let message = format!("no key in {} belongs to a certificate in it (public keys differ)", name(path));
            Problem::new("key-mismatch", place, message).help("export certificate and key together")
        };
        let warnings = loose_permissions(site).into_iter().collect();
        assemble(certificates, keys, mismatch, vec![path.to_owned()], site, warnings)
    }

    fn read(&self, (path, place): Site<'_>, text: Option<&Secret>) -> Result<Vec<u8>, Problem> {
        if let Some(text) = text {
            return Ok(text.expose().as_bytes().to_vec());
        }
        files::read(path, self.bound).map_err(|error| Problem::file(place, &error))
    }

    /// Every key of the file that can be used; the certificate decides among them.
    fn keys(&self, site: Site<'_>, bytes: &[u8], same_file: bool) -> Result<Vec<Key>, Problem> {
        if !pem::is_pem(bytes) && key::is_der_key(bytes) {
            let key = key::from_der(bytes, self.passphrase).and_then(|key| Key::new(&key));
            return key.map(|key| vec![key]).map_err(|error| key_problem(site, &error));
        }
        let blocks = pem::read(bytes);
        let blocks: Vec<_> = blocks.iter().filter(|block| block.is_private_key()).collect();
        if blocks.is_empty() {
            return Err(no_key(site, bytes, same_file));
        }
        let open = |block: &&pem::Block| key::from_block(block, self.passphrase).and_then(|key| Key::new(&key));
        first_good(blocks.iter().map(open)).map_err(|error| key_problem(site, &error))
    }
}

/// Of several keys that have a certificate each, the one that `alias` names: which one is shown is not left to their order.
fn one_of(
    keys: Vec<(Option<String>, Key)>,
    certificates: &[(Vec<u8>, Details)],
    alias: Option<&(String, Place)>,
    (path, place): Site<'_>,
) -> Result<Vec<Key>, Problem> {
    let leaf = |key: &Key| certificates.iter().find(|(der, _)| public_keys_agree(der, key)).map(|(_, details)| details);
    let (mut usable, unusable): (Vec<_>, Vec<_>) = keys.into_iter().partition(|(_, key)| leaf(key).is_some());
    usable.dedup_by(|(_, one), (_, other)| one.public_key() == other.public_key());
    let names = |(own, key): &(Option<String>, Key)| -> Vec<String> {
        own.iter().cloned().chain(leaf(key).and_then(|details| details.common_name.clone())).collect()
    };
    let listed = || usable.iter().filter_map(|entry| names(entry).into_iter().next()).collect::<Vec<_>>().join(", ");
    let Some((wanted, alias_place)) = alias else {
        if usable.len() > 1 {
            let message = format!("{} holds {} keys with a certificate each: {}", name(path), usable.len(), listed());
            return Err(Problem::new("several-keys", place, message).help("say which: `alias: NAME`"));
        }
        return Ok(usable.into_iter().chain(unusable).map(|(_, key)| key).collect());
    };
    // keytool makes aliases lower case.
    let is_wanted = |entry: &(Option<String>, Key)| names(entry).iter().any(|own| own.eq_ignore_ascii_case(wanted));
    let chosen = usable.iter().position(is_wanted);
    let unknown = || {
        let message = format!("{} holds no key of that name", name(path));
        Problem::new("unknown-alias", *alias_place, message).help(format!("it holds: {}", listed()))
    };
    chosen.ok_or_else(unknown).map(|at| vec![usable.swap_remove(at).1])
}

/// All that succeeded, or the first failure when none did.
fn first_good<T>(results: impl Iterator<Item = Result<T, KeyError>>) -> Result<Vec<T>, KeyError> {
    let mut good = Vec::new();
    let mut first = None;
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if good.is_empty() => Err(error),
        _ => Ok(good),
    }
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

fn read_certificates((path, place): Site<'_>, bytes: &[u8], has_key: bool) -> Result<inspect::Certificates, Problem> {
    let found = inspect::certificates(bytes);
    if !found.good.is_empty() {
        return Ok(found);
    }
    let file = name(path);
    if pfx::is_pfx(bytes) {
        let message = format!("{file} is a PFX (PKCS#12) file");
        return Err(Problem::new("pfx-given-as-pem", place, message).help("write `pfx:` instead of `cert:`"));
    }
    if let Some(broken) = found.broken.first() {
        let message = format!("the certificate in {file} is damaged (line {}): {}", broken.line, broken.wrong);
        return Err(Problem::new("damaged-certificate", place, message).help("copy it again from where it came"));
    }
    let (message, help) = match found.has_key || key::is_der_key(bytes) {
        true if has_key => (format!("{file} holds a private key but no certificate"), "are `cert:` and `key:` swapped?"),
        true => (format!("{file} holds a private key but no certificate"), "name the certificate's file as `cert:`"),
        false => (
            format!("{file} holds no certificate"),
            "a certificate stands between `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`",
        ),
    };
    Err(Problem::new("no-certificate", place, message).help(help))
}

fn no_key((path, place): Site<'_>, bytes: &[u8], same_file: bool) -> Problem {
    let file = name(path);
    if pfx::is_pfx(bytes) {
        return Problem::new("pfx-given-as-pem", place, format!("{file} is a PFX (PKCS#12) file"))
            .help("write `pfx:` instead of `cert:` and `key:`");
    }
    let problem = Problem::new("no-private-key", place, format!("{file} holds no private key"));
    if same_file {
        return problem.help("name the key's file as `key:`");
    }
    match inspect::certificates(bytes).good.is_empty() {
        true => problem.help("a key stands between `-----BEGIN PRIVATE KEY-----` and `-----END PRIVATE KEY-----`"),
        false => problem.help("it holds a certificate: are `cert:` and `key:` swapped?"),
    }
}

fn key_problem((path, place): Site<'_>, error: &KeyError) -> Problem {
    let file = name(path);
    match error {
        KeyError::NeedsPassphrase => {
            Problem::new("missing-passphrase", place, format!("{file} is encrypted and no passphrase is given"))
                .help("add `passphrase:`, for example `passphrase: { env: KEY_PASSPHRASE }`")
        }
        KeyError::WrongPassphrase => Problem::new("wrong-passphrase", place, format!("the passphrase does not open {file}"))
            .help("check `passphrase:`; a damaged file looks the same"),
        KeyError::Unsupported { what, help } => {
            Problem::new("unsupported-key", place, format!("{file} cannot be used: {what}")).help(help.clone())
        }
        KeyError::Damaged(what) => {
            Problem::new("damaged-key", place, format!("{file} cannot be read: {what}")).help("copy it again from where it came")
        }
    }
}

fn loose_permissions((path, place): Site<'_>) -> Option<Problem> {
    let mode = files::exposed(path)?;
    let message = format!("others can read the key file {} (mode {:04o})", name(path), mode & 0o777);
    Some(Problem::new("loose-permissions", place, message).help(format!("chmod 600 {}", path.display())))
}

/// Finds the certificate that belongs to a key, and links the chain above it.
fn assemble(
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

fn public_keys_agree(certificate: &[u8], key: &Key) -> bool {
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

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
