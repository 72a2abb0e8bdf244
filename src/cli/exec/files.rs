//! The files that clients are pointed at: our CA, and the bundle of everything believed before plus our CA.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::Error;
use super::proxy::Proxy;
use crate::files;
use crate::moment::random_hex;
use crate::tls::out::trust;

/// A folder for the clients, gone when the command has ended.
pub struct Kit {
    folder: PathBuf,
    keep: bool,
    /// Our CA alone, and with what NODE_EXTRA_CA_CERTS named before.
    pub ca: PathBuf,
    pub extra_ca: PathBuf,
    pub bundle: PathBuf,
    pub truststore: Option<PathBuf>,
    pub preload: PathBuf,
    pub php: PathBuf,
    pub wgetrc: PathBuf,
    pub apt: PathBuf,
    /// A folder for CURL_HOME, where the user's own `.curlrc` names a proxy.
    pub curl: Option<PathBuf>,
}

/// Java opens no PKCS #12 trust store without a password; this one is Java's customary one and guards nothing.
pub const TRUSTSTORE_PASSWORD: &str = "changeit";

/// A bundle is never larger.
const BOUND: usize = 16 * 1024 * 1024;

/// Variables that may already name a bundle: what is in there stays believed.
const INHERITED: [&str; 9] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "npm_config_cafile",
    "NODE_EXTRA_CA_CERTS",
];

impl Kit {
    pub(super) fn at(folder: PathBuf, keep: bool) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            extra_ca: folder.join("extra-ca.pem"),
            bundle: folder.join("bundle.pem"),
            truststore: Some(folder.join("truststore.p12")),
            preload: folder.join("preload.cjs"),
            php: folder.join("php"),
            wgetrc: folder.join("wgetrc"),
            apt: folder.join("apt.conf"),
            curl: None,
            folder,
            keep,
        }
    }

    /// `keep`: a folder that outlives us, since variables that name it were printed.
    pub fn write(ca_pem: &str, proxy: &Proxy, env: &BTreeMap<String, String>, keep: Option<PathBuf>) -> Result<Self, Error> {
        let kept = keep.is_some();
        let folder = keep.unwrap_or_else(|| std::env::temp_dir().join(format!("gatepass-{}", random_hex::<8>())));
        let mut kit = Self::at(folder, kept);
        files::create_private_dir(&kit.php)?;
        // apt reads the bundle as another user; what holds the password is readable by its owner alone.
        files::set_mode(&kit.folder, 0o711)?;
        files::write_public(&kit.ca, ca_pem.as_bytes())?;
        files::write_public(&kit.extra_ca, extra(ca_pem, env).as_bytes())?;
        files::write_public(&kit.bundle, merged(ca_pem, env).as_bytes())?;
        files::write_public(&kit.preload, include_bytes!("preload.cjs"))?;
        files::write_private(&kit.wgetrc, wgetrc(&kit.bundle, &proxy.url(), env).as_bytes())?;
        files::write_private(&kit.apt, apt(&proxy.url(), &kit.bundle, env).as_bytes())?;
        if let Some(text) = curlrc(&proxy.url(), env) {
            files::write_private(&kit.folder.join(".curlrc"), text.as_bytes())?;
            kit.curl = Some(kit.folder.clone());
        }
        let prepend = kit.php.join("prepend.php");
        files::write_public(&prepend, include_bytes!("prepend.php"))?;
        files::write_public(&kit.php.join("gatepass.ini"), php(&kit.bundle, &prepend).as_bytes())?;
        match (java_truststore(ca_pem), &kit.truststore) {
            (Some(store), Some(path)) => files::write_public(path, &store)?,
            _ => kit.truststore = None,
        }
        Ok(kit)
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for folder in [&self.php, &self.folder] {
            for file in files::list(folder).unwrap_or_default() {
                let _ = files::remove(&file);
            }
            let _ = files::remove_dir(folder);
        }
    }
}

fn extra(ca_pem: &str, env: &BTreeMap<String, String>) -> String {
    let before = env.get("NODE_EXTRA_CA_CERTS").filter(|path| !path.is_empty());
    let before = before.and_then(|path| files::read_text(Path::new(path), BOUND).ok()).unwrap_or_default();
    format!("{}\n{ca_pem}", before.trim_end())
}

/// Replaces `~/.wgetrc`, so that goes along. A proxy or exceptions in there would go before the variables.
fn wgetrc(bundle: &Path, proxy: &str, env: &BTreeMap<String, String>) -> String {
    let own = env.get("WGETRC").map(PathBuf::from).or_else(|| env.get("HOME").map(|home| Path::new(home).join(".wgetrc")));
    let own = own.and_then(|path| files::read_text(&path, BOUND).ok()).unwrap_or_default();
    let mut text = format!("{}\nca_certificate = {}\n", own.trim_end(), bundle.display());
    if names_proxy(&own) {
        text.push_str(&format!("use_proxy = on\nhttp_proxy = {proxy}\nhttps_proxy = {proxy}\nno_proxy = {}\n", no_proxy(env)));
    }
    text
}

/// The same for curl, which needs it only then. `None`: the variables are all it needs.
fn curlrc(proxy: &str, env: &BTreeMap<String, String>) -> Option<String> {
    // In curl's own order (curl(1), --config).
    let places = [("CURL_HOME", ".curlrc"), ("XDG_CONFIG_HOME", "curlrc"), ("HOME", ".curlrc"), ("HOME", ".config/curlrc")];
    let own = places.iter().find_map(|(name, file)| files::read_text(&Path::new(env.get(*name)?).join(file), BOUND).ok())?;
    names_proxy(&own).then(|| format!("{}\nproxy = \"{proxy}\"\nnoproxy = \"{}\"\n", own.trim_end(), no_proxy(env)))
}

fn names_proxy(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    lines.any(|line| line.to_ascii_lowercase().contains("proxy") || line.starts_with("-x"))
}

fn no_proxy(env: &BTreeMap<String, String>) -> &str {
    env.get("no_proxy").map_or("", String::as_str)
}

fn apt(proxy: &str, bundle: &Path, env: &BTreeMap<String, String>) -> String {
    let before = env.get("APT_CONFIG").and_then(|path| files::read_text(Path::new(path), BOUND).ok()).unwrap_or_default();
    format!(
        "{}\nAcquire::http::Proxy \"{proxy}\";\nAcquire::https::Proxy \"{proxy}\";\nAcquire::https::CAInfo \"{}\";\n",
        before.trim_end(),
        bundle.display()
    )
}

fn php(bundle: &Path, prepend: &Path) -> String {
    let (bundle, prepend) = (bundle.display(), prepend.display());
    format!("curl.cainfo = \"{bundle}\"\nopenssl.cafile = \"{bundle}\"\nauto_prepend_file = \"{prepend}\"\n")
}

/// What the client believed before (inherited bundles, else the system's roots), and our CA.
fn merged(ca_pem: &str, env: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let mut seen: Vec<&str> = Vec::new();
    for name in INHERITED {
        let Some(path) = env.get(name).filter(|path| !path.is_empty() && !seen.contains(&path.as_str())) else { continue };
        seen.push(path);
        if let Ok(found) = files::read_text(Path::new(path), BOUND) {
            text.push_str(found.trim_end());
            text.push('\n');
        }
    }
    let only_extra = seen.iter().all(|path| env.get("NODE_EXTRA_CA_CERTS").map(String::as_str) == Some(path));
    if text.is_empty() || only_extra {
        for certificate in trust::system_certificates() {
            text.push_str(&to_pem(certificate));
        }
    }
    text.push_str(ca_pem);
    text
}

fn to_pem(der: &[u8]) -> String {
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

/// A PKCS #12 trust store for Java, which reads neither PEM nor our variables; the password is Java's customary one.
fn java_truststore(ca_pem: &str) -> Option<Vec<u8>> {
    use p12_keystore::{Certificate, KeyStore, KeyStoreEntry};
    let mut store = KeyStore::new();
    let ours = pem::parse(ca_pem).ok()?;
    store.add_entry("gatepass", KeyStoreEntry::Certificate(Certificate::from_der(ours.contents()).ok()?));
    for (n, der) in trust::system_certificates().iter().enumerate() {
        if let Ok(certificate) = Certificate::from_der(der) {
            store.add_entry(&format!("system{n}"), KeyStoreEntry::Certificate(certificate));
        }
    }
    store.writer(TRUSTSTORE_PASSWORD).write().ok()
}
