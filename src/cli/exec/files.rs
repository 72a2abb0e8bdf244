//! The files that clients are pointed at: our CA, and the bundle of everything believed before plus our CA.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Error;
use crate::files;
use crate::moment::random_hex;
use crate::tls::trust;

/// A private folder, gone when the command has ended.
pub struct Kit {
    folder: PathBuf,
    keep: bool,
    pub ca: PathBuf,
    pub bundle: PathBuf,
    pub truststore: Option<PathBuf>,
}

/// A bundle is never larger.
const BOUND: usize = 16 * 1024 * 1024;

/// Variables that may already name a bundle: what is in there stays believed.
const INHERITED: [&str; 8] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
];

impl Kit {
    /// `keep`: the folder outlives us, since variables that name it were printed.
    pub fn write(ca_pem: &str, env: &BTreeMap<String, String>, keep: bool) -> Result<Self, Error> {
        let folder = std::env::temp_dir().join(format!("gatepass-{}", random_hex::<8>()));
        files::create_private_dir(&folder)?;
        let mut kit = Self { ca: folder.join("ca.pem"), bundle: folder.join("bundle.pem"), truststore: None, folder, keep };
        files::write_public(&kit.ca, ca_pem.as_bytes())?;
        files::write_public(&kit.bundle, merged(ca_pem, env).as_bytes())?;
        if let Some(store) = java_truststore(ca_pem) {
            let path = kit.folder.join("truststore.p12");
            files::write_public(&path, &store)?;
            kit.truststore = Some(path);
        }
        Ok(kit)
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for file in files::list(&self.folder).unwrap_or_default() {
            let _ = files::remove(&file);
        }
        let _ = files::remove_dir(&self.folder);
    }
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
    store.writer(super::variables::TRUSTSTORE_PASSWORD).write().ok()
}
