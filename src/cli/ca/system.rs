//! The system's store: a folder for additional CAs and a command that builds the rest from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::store::{Ca, Step, Store, find};
use crate::files;

struct Layout {
    name: &'static str,
    folder: &'static str,
    ending: &'static str,
    command: &'static [&'static str],
}

/// In this order: Fedora has a folder of Debian's name, too.
const LAYOUTS: [Layout; 4] = [
    Layout { name: "Fedora", folder: "etc/pki/ca-trust/source/anchors", ending: "pem", command: &["update-ca-trust", "extract"] },
    Layout { name: "Debian", folder: "usr/local/share/ca-certificates", ending: "crt", command: &["update-ca-certificates"] },
    Layout {
        name: "Arch",
        folder: "etc/ca-certificates/trust-source/anchors",
        ending: "crt",
        command: &["trust", "extract-compat"],
    },
    Layout { name: "SUSE", folder: "usr/share/pki/trust/anchors", ending: "pem", command: &["update-ca-certificates"] },
];

pub fn stores(ca: &Ca, root: Option<&Path>, env: &BTreeMap<String, String>) -> Vec<Store> {
    if cfg!(target_os = "macos") && root.is_none() {
        return vec![macos(ca)];
    }
    let base = root.unwrap_or(Path::new("/"));
    let layout = LAYOUTS.iter().find(|layout| files::is_dir(&base.join(layout.folder)));
    layout.map(|layout| store(ca, layout, root, env)).into_iter().collect()
}

fn store(ca: &Ca, layout: &Layout, root: Option<&Path>, env: &BTreeMap<String, String>) -> Store {
    let folder = root.unwrap_or(Path::new("/")).join(layout.folder);
    let file = folder.join(format!("gatepass-{}.{}", ca.short(), layout.ending));
    let command = |more: &[&str]| {
        let in_root = root.map(|root| ["chroot".to_owned(), root.display().to_string()]);
        Step::run(in_root.into_iter().flatten().chain(layout.command.iter().chain(more).map(|word| (*word).to_owned())))
    };
    let mine = files::list(&folder).unwrap_or_default().into_iter().filter(|path| holds(ca, path));
    let mine: Vec<PathBuf> = mine.collect();
    // Debian leaves links of removed certificates behind unless it starts afresh.
    let afresh: &[&str] = if layout.name == "Debian" { &["--fresh"] } else { &[] };
    Store {
        name: match root {
            None => format!("the system's store ({})", layout.name),
            Some(root) => format!("the system's store in {} ({})", root.display(), layout.name),
        },
        present: !mine.is_empty(),
        install: vec![Step::Copy(file), command(&[])],
        uninstall: mine.into_iter().map(Step::Remove).chain([command(afresh)]).collect(),
        missing: (root.is_none() && find(layout.command[0], env).is_none()).then_some(match layout.name {
            "Arch" => "`trust` is not installed (package p11-kit)",
            _ => "its update command is not installed (package ca-certificates)",
        }),
    }
}

fn holds(ca: &Ca, path: &Path) -> bool {
    files::read(path, 64 * 1024).is_ok_and(|bytes| ca.is(&bytes))
}

/// Not tried out on a Mac; the commands are those of security(1).
fn macos(ca: &Ca) -> Store {
    const KEYCHAIN: &str = "/Library/Keychains/System.keychain";
    let found = super::store::output(&["security", "find-certificate", "-a", "-Z", KEYCHAIN].map(str::to_owned));
    let fingerprint = ca.fingerprint.to_ascii_uppercase();
    let file = ca.file.display().to_string();
    Store {
        name: "the system's keychain".to_owned(),
        present: found.is_ok_and(|text| String::from_utf8_lossy(&text).contains(&fingerprint)),
        install: vec![Step::run(["sudo", "security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", KEYCHAIN, &file])],
        uninstall: vec![Step::run(["sudo", "security", "delete-certificate", "-Z", &fingerprint, "-t", KEYCHAIN])],
        missing: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::intercept::authority::Authority;

    #[test]
    fn each_layout_is_known_by_its_folder_and_only_our_own_file_is_removed() {
        let authority = Authority::in_memory();
        let ca = Ca::of(authority.certificate_pem(), None, authority.details());
        for layout in &LAYOUTS {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join(layout.folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("gatepass-of-another.crt"), Authority::in_memory().certificate_pem()).unwrap();
            let [store] = &stores(&ca, Some(root.path()), &BTreeMap::new())[..] else { panic!("{}", layout.name) };
            assert!(store.name.contains(layout.name) && !store.present);
            let [Step::Copy(file), Step::Run(argv)] = &store.install[..] else { panic!() };
            assert_eq!(argv[2..], layout.command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()[..]);
            std::fs::write(file, &ca.pem).unwrap();
            let [store] = &stores(&ca, Some(root.path()), &BTreeMap::new())[..] else { panic!() };
            assert!(store.present);
            let [Step::Remove(removed), Step::Run(_)] = &store.uninstall[..] else { panic!() };
            assert_eq!(removed, file);
        }
    }
}
