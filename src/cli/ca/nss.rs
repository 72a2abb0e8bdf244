//! NSS databases: Chromium's in the home folder, Firefox's in each profile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::store::{Ca, Step, Store, find, output};
use crate::files;

/// Under the home folder; a database of its own.
const SHARED: [&str; 2] = [".pki/nssdb", "snap/chromium/current/.pki/nssdb"];

/// Under the home folder; folders of profiles.
const PROFILES: [&str; 5] = [
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
    "Library/Application Support/Firefox/Profiles",
];

const CHROMIUM: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge"];

pub fn stores(ca: &Ca, env: &BTreeMap<String, String>) -> Vec<Store> {
    let Some(home) = env.get("HOME").filter(|home| !home.is_empty()).map(Path::new) else { return Vec::new() };
    let certutil = find("certutil", env).is_some();
    let mut stores: Vec<Store> = databases(home).into_iter().map(|folder| store(ca, &folder, certutil, Vec::new())).collect();
    let shared = home.join(SHARED[0]);
    if !files::exists(&shared) && CHROMIUM.iter().any(|browser| find(browser, env).is_some()) {
        // Chromium reads it also when it did not make it.
        let make =
            vec![Step::MakeFolder(shared.clone()), Step::run(["certutil", "-N", "-d", &database(&shared), "--empty-password"])];
        stores.insert(0, store(ca, &shared, certutil, make));
    }
    stores
}

fn databases(home: &Path) -> Vec<PathBuf> {
    let profiles = PROFILES.iter().flat_map(|folder| files::list(&home.join(folder)).unwrap_or_default());
    let all = SHARED.iter().map(|folder| home.join(folder)).chain(profiles);
    all.filter(|folder| files::exists(&folder.join("cert9.db"))).collect()
}

fn database(folder: &Path) -> String {
    format!("sql:{}", folder.display())
}

fn store(ca: &Ca, folder: &Path, certutil: bool, make: Vec<Step>) -> Store {
    let database = database(folder);
    let mine = if certutil && make.is_empty() { nicknames(ca, &database) } else { Vec::new() };
    let (nickname, file) = (ca.nickname(), ca.file.display().to_string());
    let add = Step::run(["certutil", "-A", "-d", &database, "-t", "C,,", "-n", &nickname, "-i", &file]);
    Store {
        name: format!("the NSS database {}", folder.display()),
        present: !mine.is_empty(),
        install: make.into_iter().chain([add]).collect(),
        uninstall: mine.iter().map(|nickname| Step::run(["certutil", "-D", "-d", &database, "-n", nickname])).collect(),
        missing: (!certutil).then_some(
            "certutil is not installed (package libnss3-tools on Debian, nss-tools on Fedora, nss on Arch and in Homebrew)",
        ),
    }
}

/// Names under which exactly our certificate stands. Only those that speak of gatepass are looked at: each costs a process.
fn nicknames(ca: &Ca, database: &str) -> Vec<String> {
    let run = |more: &[&str]| {
        let argv = ["certutil", "-L", "-d", database].into_iter().chain(more.iter().copied());
        output(&argv.map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default()
    };
    let list = run(&[]);
    let names = parse(&String::from_utf8_lossy(&list));
    names.into_iter().filter(|name| name.contains("gatepass") && ca.is(&run(&["-n", name, "-a"]))).collect()
}

/// The names in `certutil -L`: what stands before the trust flags.
fn parse(list: &str) -> Vec<String> {
    let flags = |word: &str| word.matches(',').count() == 2 && word.chars().all(|c| "CTcPpuw,".contains(c));
    let name = |line: &str| {
        let (name, last) = line.trim_end().rsplit_once(char::is_whitespace)?;
        flags(last).then(|| name.trim().to_owned())
    };
    list.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_list() {
        let list = "\nCertificate Nickname                                         Trust Attributes\n                                                             SSL,S/MIME,JAR/XPI\n\ngatepass CA 0123456789abcdef                                 C,,  \nSome CA - Org                                                CT,C,C\n";
        assert_eq!(parse(list), ["gatepass CA 0123456789abcdef", "Some CA - Org"]);
    }
}
