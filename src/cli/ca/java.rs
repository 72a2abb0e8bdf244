//! Java's `cacerts`, by way of keytool. `changeit` is the password that every Java comes with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::store::{Ca, Step, Store, find, output};
use crate::files;

const PASSWORD: &str = "changeit";

pub fn stores(ca: &Ca, env: &BTreeMap<String, String>) -> Vec<Store> {
    let Some(home) = home(env) else { return Vec::new() };
    let keytool = [home.join("bin/keytool"), home.join("jre/bin/keytool")].into_iter().find(|file| files::exists(file));
    let keystore = ["lib/security/cacerts", "jre/lib/security/cacerts"].map(|place| home.join(place));
    let Some(keystore) = keystore.into_iter().find(|file| files::exists(file)) else { return Vec::new() };
    vec![store(ca, keytool.or_else(|| find("keytool", env)), &keystore)]
}

/// `JAVA_HOME`, else the folder above the one that keytool really lies in.
fn home(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    if let Some(home) = env.get("JAVA_HOME").filter(|home| !home.is_empty()) {
        return Some(PathBuf::from(home));
    }
    let keytool = find("keytool", env)?.canonicalize().ok()?;
    Some(keytool.parent()?.parent()?.to_owned())
}

fn store(ca: &Ca, keytool: Option<PathBuf>, keystore: &Path) -> Store {
    let missing = keytool.is_none().then_some("keytool is not installed (it comes with every JDK and JRE)");
    let keytool = keytool.unwrap_or_else(|| PathBuf::from("keytool")).display().to_string();
    let keystore_text = keystore.display().to_string();
    let argv = |verb: &str, more: &[&str]| {
        let words = [keytool.as_str(), verb, "-keystore", &keystore_text, "-storepass", PASSWORD].into_iter();
        words.chain(more.iter().copied()).map(str::to_owned).collect::<Vec<_>>()
    };
    // Its messages are translated; the list is read in English.
    let list = output(&argv("-list", &["-J-Duser.language=en"])).unwrap_or_default();
    let mine = aliases(&String::from_utf8_lossy(&list), &ca.fingerprint);
    let (alias, file) = (format!("gatepass-{}", ca.short()), ca.file.display().to_string());
    Store {
        name: format!("Java's {}", keystore.display()),
        present: !mine.is_empty(),
        install: vec![Step::Run(argv("-importcert", &["-noprompt", "-alias", &alias, "-file", &file]))],
        uninstall: mine.iter().map(|alias| Step::Run(argv("-delete", &["-alias", alias]))).collect(),
        missing,
    }
}

/// The aliases of a certificate in `keytool -list`: `ALIAS, DATE, trustedCertEntry,` and its fingerprint on the next line.
fn aliases(list: &str, fingerprint: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut alias = None;
    for line in list.lines() {
        if line.contains("trustedCertEntry") {
            alias = line.split_once(", ").map(|(alias, _)| alias.to_owned());
        } else if let Some((_, shown)) = line.split_once("(SHA-256): ")
            && shown.trim().replace(':', "").eq_ignore_ascii_case(fingerprint)
        {
            found.extend(alias.take());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_found_by_the_fingerprint_alone() {
        let list = "Your keystore contains 2 entries\n\nother, Nov 27, 2026, trustedCertEntry, \nCertificate fingerprint (SHA-256): 11:22\ngatepass-1, Nov 27, 2026, trustedCertEntry, \nCertificate fingerprint (SHA-256): AB:CD\n";
        assert_eq!(aliases(list, "abcd"), ["gatepass-1"]);
        assert_eq!(aliases(list, "1122"), ["other"]);
        assert!(aliases(list, "ffff").is_empty());
    }
}
