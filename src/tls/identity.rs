//! What is shown upstream: a certificate chain and its private key, from PEM or PFX files.

use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::inspect::{self, Details};
use super::keys::{self, KeyError};
use super::{Loaded, Problem, pem};
use crate::config::{CertificateSource, Material, Pem, Place};
use crate::files;
use crate::secret::Secret;

/// A certificate chain and its private key.
///
/// Two identities are equal when they show the same chain; the private key follows from the leaf's public key.
pub struct Identity {
    key: Arc<CertifiedKey>,
    fingerprint: [u8; 32],
    details: Details,
    label: String,
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

impl Identity {
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    pub fn details(&self) -> &Details {
        &self.details
    }

    /// Its name in the config, else the subject's common name.
    pub fn subject(&self) -> &str {
        &self.label
    }

    /// From parts already in memory (the demonstration, tests).
    ///
    /// # Errors
    /// The key is not that of the first certificate, or of a kind that is not supported.
    pub fn from_der(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, String> {
        let leaf = chain.first().ok_or("there is no certificate")?;
        let details = Details::of(leaf)?;
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|_| unsupported_key(&key))?;
        let certified = CertifiedKey::new(chain, signer);
        if matches!(certified.keys_match(), Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch))) {
            return Err("public keys differ".to_owned());
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        for certificate in &certified.cert {
            hash.update(&(certificate.len() as u64).to_be_bytes());
            hash.update(certificate);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.finish().as_ref());
        let label = details.short_subject().to_owned();
        Ok(Self { key: Arc::new(certified), fingerprint, details, label })
    }
}

/// The stack says only "failed to parse private key"; the algorithm identifier says more.
fn unsupported_key(key: &PrivateKeyDer<'_>) -> String {
    let der = key.secret_der();
    let names = |oid: &[u8]| der[..der.len().min(48)].windows(oid.len()).any(|window| window == oid);
    let what = if names(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a]) {
        "an RSA-PSS key"
    } else if names(&[0x2b, 0x65, 0x71]) {
        "an Ed448 key"
    } else if names(&[0x2b, 0x81, 0x04, 0x00, 0x0a]) {
        "a secp256k1 key"
    } else if names(&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01]) {
        "a DSA key"
    } else {
        return "it is damaged, or of a kind that is not supported (RSA from 2048 bits, P-256, P-384, P-521 and Ed25519 are)"
            .to_owned();
    };
    format!("it is {what}, which is not supported (RSA from 2048 bits, P-256, P-384, P-521 and Ed25519 are)")
}

/// Reads an identity.
///
/// # Errors
/// Each way a file can be wrong has its own message and mend.
pub fn load(source: &CertificateSource, passphrase: Option<&Secret>, bound: usize) -> Result<Loaded<Identity>, Problem> {
    let mut loaded = match &source.material {
        Material::Pem { cert, cert_place, key } => {
            Reader { bound, passphrase, place: source.place }.pem(cert, *cert_place, key.as_ref())?
        }
        Material::Pfx { file, place } => Reader { bound, passphrase, place: *place }.pfx(file)?,
        Material::Pkcs11 { place, .. } => return Err(not_built("PKCS #11 tokens", *place)),
        Material::Spiffe { place, .. } => return Err(not_built("the SPIFFE Workload API", *place)),
    };
    if let Some(name) = &source.name {
        loaded.value.label.clone_from(name);
    }
    let subject = loaded.value.label.clone();
    loaded.warnings.extend(oddities(&loaded.value.details, &subject, source.place));
    Ok(loaded)
}

fn not_built(what: &str, place: Place) -> Problem {
    Problem::new("unsupported", place, format!("{what} are not supported by this build")).help("use PEM or PFX files")
}

fn oddities(details: &Details, subject: &str, place: Place) -> Vec<Problem> {
    let now = SystemTime::now();
    let mut found = Vec::new();
    if details.is_expired(now) {
        let message = format!("client certificate `{subject}` expired on {}", inspect::date(details.not_after));
        found.push(Problem::new("expired", place, message).help("servers will refuse it; get a new one"));
    }
    if details.is_early(now) {
        let message = format!("client certificate `{subject}` is not valid before {}", inspect::date(details.not_before));
        found.push(Problem::new("not-yet-valid", place, message).help("check the clock of this machine"));
    }
    if details.client_auth == Some(false) {
        let message =
            format!("client certificate `{subject}` is not meant for clients (its extended key usage lacks clientAuth)");
        found.push(
            Problem::new("not-for-clients", place, message).help("many servers will refuse it; ask for one with clientAuth"),
        );
    }
    found
}

struct Reader<'a> {
    bound: usize,
    passphrase: Option<&'a Secret>,
    place: Place,
}

impl Reader<'_> {
    fn read(&self, path: &Path, place: Place) -> Result<Vec<u8>, Problem> {
        files::read(path, self.bound).map_err(|cause| {
            Problem::new("file", place, cause.to_string()).help("relative paths start at the folder of the file that names them")
        })
    }

    fn text(&self, pem: &Pem, place: Place) -> Result<Zeroizing<String>, Problem> {
        match pem {
            Pem::Text(secret) => Ok(Zeroizing::new(secret.expose().to_owned())),
            Pem::File(path) => text(&Zeroizing::new(self.read(path, place)?), path, place),
        }
    }

    fn pem(&self, cert: &Pem, cert_place: Place, key: Option<&(Pem, Place)>) -> Result<Loaded<Identity>, Problem> {
        let cert_text = self.text(cert, cert_place)?;
        let chain = chain(&cert_text, &cert.name(), cert_place)?;
        let mut warnings = Vec::new();
        let (key_pem, key_place) = key.map_or((cert, cert_place), |(pem, place)| (pem, *place));
        let key_text = match key {
            Some((pem, place)) => self.text(pem, *place)?,
            None => cert_text,
        };
        if let Some(path) = key_pem.file()
            && let Ok(mode) = files::mode(path)
            && mode & 0o004 != 0
        {
            let message = format!("{} holds a private key and is readable by everybody ({mode:04o})", path.display());
            warnings.push(Problem::new("loose-key", key_place, message).help(format!("chmod 600 {}", path.display())));
        }
        let private = self.key(&key_text, &key_pem.name(), key_place, key.is_none())?;
        let value = Identity::from_der(relink(chain, &private), private).map_err(|why| {
            let (key_name, cert_name) = (key_pem.name(), cert.name());
            match why.as_str() {
                "public keys differ" => Problem::new(
                    "key-mismatch",
                    key_place,
                    format!("{key_name} is not the key of {cert_name} (public keys differ)"),
                )
                .help("name the key that was made for this certificate"),
                _ => Problem::new("key", key_place, format!("cannot use the private key in {key_name}: {why}")),
            }
        })?;
        Ok(Loaded { value, warnings })
    }

    fn key(&self, text: &str, name: &str, place: Place, same_file: bool) -> Result<PrivateKeyDer<'static>, Problem> {
        let Some(block) = pem::blocks(text).into_iter().find(|block| keys::is_key(&block.label)) else {
            let message = if same_file {
                format!("{name} holds a certificate but no private key")
            } else {
                format!("there is no private key in {name}")
            };
            return Err(Problem::new("no-key", place, message).help("name the PEM file of the private key with `key:`"));
        };
        keys::read(block, self.passphrase).map_err(|cause| key_problem(cause, name, place))
    }

    fn pfx(&self, file: &Path) -> Result<Loaded<Identity>, Problem> {
        let bytes = self.read(file, self.place)?;
        let name = file_name(file);
        if bytes.starts_with(b"-----BEGIN") || bytes.windows(11).take(4096).any(|window| window == b"-----BEGIN ") {
            return Err(Problem::new("pem-as-pfx", self.place, format!("{name} is a PEM file, not a PFX file"))
                .help("name it with `cert:` and `key:` instead of `pfx:`"));
        }
        let store = KeyStore::from_pkcs12(&bytes, self.passphrase.map_or("", Secret::expose), Pkcs12ImportPolicy::Relaxed)
            .map_err(|cause| self.pfx_problem(&cause.to_string(), &bytes, name))?;
        let Some((_, entry)) = store.private_key_chain() else {
            return Err(Problem::new("no-key", self.place, format!("there is no private key in {name}"))
                .help("export it again with its private key"));
        };
        let chain = entry.certs().iter().map(|certificate| CertificateDer::from(certificate.as_der().to_vec())).collect();
        let key = PrivatePkcs8KeyDer::from(entry.key().as_der().to_vec()).into();
        let value = Identity::from_der(relink(chain, &key), key)
            .map_err(|why| Problem::new("key", self.place, format!("cannot use the private key in {name}: {why}")))?;
        Ok(Loaded { value, warnings: Vec::new() })
    }

    fn pfx_problem(&self, cause: &str, bytes: &[u8], name: &str) -> Problem {
        let length = self.passphrase.map_or(0, |secret| secret.expose().chars().count());
        if cause.contains("MAC") || cause.to_ascii_lowercase().contains("password") {
            let given = if self.passphrase.is_some() {
                format!("the passphrase has {length} characters")
            } else {
                "no passphrase is given".to_owned()
            };
            return Problem::new("wrong-passphrase", self.place, format!("wrong passphrase for {name}"))
                .help(format!("{given}; name the right one with `passphrase:`"));
        }
        let convert = "convert it: openssl pkcs12 -in OLD -nodes -legacy | openssl pkcs12 -export -out NEW";
        if bytes.starts_with(&[0x30, 0x80]) {
            return Problem::new(
                "pfx-ber",
                self.place,
                format!("{name} is in the BER encoding that NSS and Firefox write, which is not read yet"),
            )
            .help(convert);
        }
        if !bytes.starts_with(&[0x30]) {
            return Problem::new("not-pfx", self.place, format!("{name} is not a PFX file"))
                .help("a PFX (PKCS #12) file is binary; PEM files are named with `cert:` and `key:`");
        }
        Problem::new(
            "pfx",
            self.place,
            format!("cannot read {name}: it is damaged or uses an algorithm that is not supported ({cause})"),
        )
        .help(convert)
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("the file")
}

fn text(bytes: &[u8], path: &Path, place: Place) -> Result<Zeroizing<String>, Problem> {
    // A PFX or DER file named as PEM: both begin with an ASN.1 SEQUENCE.
    if bytes.first() == Some(&0x30) && !bytes.windows(10).any(|window| window == b"-----BEGIN") {
        let message = format!("{} is binary (PFX or DER), not a PEM file", file_name(path));
        return Err(Problem::new("pfx-as-pem", place, message).help("name a PFX file with `pfx:`"));
    }
    Ok(Zeroizing::new(String::from_utf8_lossy(bytes).into_owned()))
}

fn chain(text: &str, name: &str, place: Place) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let mut chain = Vec::new();
    for block in pem::blocks(text) {
        if !pem::is_certificate(&block.label) {
            continue;
        }
        let broken = |why: &str| {
            Problem::new("broken-certificate", place, format!("certificate {} in {name} cannot be read: {why}", block.number))
        };
        let der = block.content.as_ref().map_err(|why| broken(why))?.der.clone();
        let der = pem::certificate_der(&block.label, der);
        Details::of(&der).map_err(|why| broken(&why))?;
        chain.push(CertificateDer::from(der));
    }
    if chain.is_empty() {
        let message = format!("there is no certificate in {name}");
        return Err(Problem::new("no-certificate", place, message)
            .help("`cert:` names a PEM file with the client certificate (and its chain)"));
    }
    Ok(chain)
}

fn key_problem(cause: KeyError, name: &str, place: Place) -> Problem {
    match cause {
        KeyError::NeedsPassphrase => Problem::new("needs-passphrase", place, format!("the private key in {name} is encrypted"))
            .help("name its passphrase with `passphrase:`"),
        KeyError::WrongPassphrase => Problem::new("wrong-passphrase", place, format!("wrong passphrase for {name}"))
            .help("name the right one with `passphrase:`"),
        KeyError::Unsupported(what) => {
            Problem::new("unsupported-key", place, format!("the private key in {name} uses {what}, which is not supported"))
                .help(format!("convert it: openssl pkcs8 -topk8 -v2 aes256 -in {name} -out NEW.key"))
        }
        KeyError::Damaged(why) => Problem::new("damaged-key", place, format!("the private key in {name} cannot be read: {why}")),
    }
}

/// Leaf first, each followed by its issuer, whatever the order in the file; certificates that do not
/// belong to the chain are left out.
fn relink(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'static>) -> Vec<CertificateDer<'static>> {
    if chain.len() < 2 {
        return chain;
    }
    let spki = rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
        .ok()
        .and_then(|signer| signer.public_key().map(|spki| spki.to_vec()));
    let parsed = |der: &CertificateDer<'static>| {
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
        Some((
            certificate.subject().as_raw().to_vec(),
            certificate.issuer().as_raw().to_vec(),
            certificate.public_key().raw.to_vec(),
        ))
    };
    let facts: Vec<_> = chain.iter().filter_map(parsed).collect();
    let leaf = facts.iter().position(|(_, _, public)| Some(public) == spki.as_ref());
    let (Some(mut at), true) = (leaf, facts.len() == chain.len()) else { return chain };
    let mut order = vec![at];
    while let Some(next) = (0..facts.len()).find(|n| !order.contains(n) && facts[*n].0 == facts[at].1) {
        order.push(next);
        at = next;
    }
    order.into_iter().map(|n| chain[n].clone()).collect()
}
