//! Certificates and keys in the files that people have them in.

use std::path::{Path, PathBuf};

use rustls::pki_types::PrivateKeyDer;

use super::Identity;
use super::chain::{Site, assemble, name, public_keys_agree, wrong_purpose};
use crate::files;
use crate::secret::Secret;
use crate::settings::{Pem, Place};
use crate::tls::formats::inspect::{self, Details};
use crate::tls::formats::key::{self, Key};
use crate::tls::formats::key_error::KeyError;
use crate::tls::formats::{pem, pfx};
use crate::tls::settings::{CertificateSource, Material};
use crate::tls::{Loaded, Problem};

/// Reads a client certificate with its key from files; [`token`](crate::tls::out::token) and a workload's agent have the others.
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
pub(in crate::tls::out) fn certificates_of(pem: &Pem, place: Place, bound: usize) -> Result<inspect::Certificates, Problem> {
    let path = shown(pem);
    let site = (path.as_path(), Some(place));
    let bytes = Reading { passphrase: None, bound, texts: [None, None] }.read(site, as_text(pem))?;
    read_certificates(site, &bytes, true)
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
