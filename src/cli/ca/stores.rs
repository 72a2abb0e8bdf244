//! Putting the CA into the stores of clients, and taking it out again. Each step is said as the command
//! that does it; what cannot be done here (rights, a missing tool) is printed as what to run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, ValueEnum};

use super::super::Error;
use super::{java, nss, system};
use crate::files;
use crate::tls::formats::inspect::{self, Details};

#[derive(Args)]
pub struct StoreArgs {
    /// Only these stores; all that are found when left out
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STORES")]
    store: Vec<StoreName>,
    /// The system under this folder instead of the running one (an image being built)
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum StoreName {
    System,
    /// Chromium's and Firefox's
    Nss,
    Java,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Install,
    Uninstall,
}

/// The CA that is put somewhere.
pub struct Ca {
    /// Empty when only the fingerprint is known.
    pub pem: String,
    /// A file that holds it, for commands.
    pub file: PathBuf,
    /// SHA-256, in lower-case hexadecimal.
    pub fingerprint: String,
}

impl Ca {
    pub fn of(pem: &str, file: Option<&Path>, details: &Details) -> Self {
        let file = file.map_or_else(PathBuf::new, |file| std::path::absolute(file).unwrap_or_else(|_| file.to_owned()));
        Self { pem: pem.to_owned(), file, fingerprint: hex(&details.fingerprint_sha256) }
    }

    pub fn by_fingerprint(text: &str) -> Result<Self, Error> {
        let fingerprint = text.replace([':', ' '], "").to_ascii_lowercase();
        if fingerprint.len() != 64 || !fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::new(format!("`{text}` is not a SHA-256 fingerprint"))
                .help("write it as `gatepass ca show` does: 64 hexadecimal digits, with or without colons"));
        }
        Ok(Self { pem: String::new(), file: PathBuf::new(), fingerprint })
    }

    /// Under which name it stands in stores that have names.
    pub fn nickname(&self) -> String {
        format!("gatepass CA {}", &self.fingerprint[..16])
    }

    pub fn short(&self) -> &str {
        &self.fingerprint[..16]
    }

    /// Does this PEM or DER hold exactly this certificate first?
    pub fn is(&self, bytes: &[u8]) -> bool {
        inspect::certificates(bytes).good.first().is_some_and(|(_, details)| hex(&details.fingerprint_sha256) == self.fingerprint)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// One place that the CA can be put into.
pub struct Store {
    /// `the system's store (Debian)`.
    pub name: String,
    pub present: bool,
    pub install: Vec<Step>,
    pub uninstall: Vec<Step>,
    /// A tool that is needed and missing, and how to get it.
    pub missing: Option<&'static str>,
}

pub enum Step {
    /// The CA's certificate to this file.
    Copy(PathBuf),
    Remove(PathBuf),
    MakeFolder(PathBuf),
    Run(Vec<String>),
}

impl Step {
    pub fn run<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self::Run(argv.into_iter().map(Into::into).collect())
    }

    fn command(&self, ca: &Ca) -> String {
        let argv: Vec<String> = match self {
            Step::Copy(to) => vec!["install".into(), "-m".into(), "644".into(), text(&ca.file), text(to)],
            Step::Remove(path) => vec!["rm".into(), text(path)],
            Step::MakeFolder(path) => vec!["mkdir".into(), "-p".into(), text(path)],
            Step::Run(argv) => argv.clone(),
        };
        argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    fn carry_out(&self, ca: &Ca) -> Result<(), String> {
        match self {
            Step::Copy(to) => files::write_public(to, ca.pem.as_bytes()).map_err(|error| error.to_string()),
            Step::Remove(path) => files::remove(path).map_err(|error| error.to_string()),
            Step::MakeFolder(path) => files::create_private_dir(path).map_err(|error| error.to_string()),
            Step::Run(argv) => output(argv).map(|_| ()),
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// For a shell (POSIX §2.2.2).
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// What a program printed.
///
/// # Errors
/// It cannot be started, or failed; with what it said.
pub fn output(argv: &[String]) -> Result<Vec<u8>, String> {
    let [program, arguments @ ..] = argv else { return Err("no program".to_owned()) };
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("{program} cannot be started: {cause}"),
    })?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = [done.stderr, done.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
    Err(format!("{program} failed ({}): {last}", done.status))
}

/// Is there such a program on the path?
pub fn find(program: &str, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let path = env.get("PATH").map_or("/usr/bin:/bin:/usr/sbin:/sbin", String::as_str);
    path.split(':').map(|folder| Path::new(folder).join(program)).find(|file| files::exists(file) && !files::is_dir(file))
}

pub fn run(ca: &Ca, args: &StoreArgs, kind: Kind) -> Result<ExitCode, Error> {
    let env = super::super::environment();
    let wanted = |name: StoreName| args.store.is_empty() || args.store.contains(&name);
    let mut whole = true;
    let mut any = false;
    // The system first: where Java and NSS follow it, nothing is left to do there.
    for name in [StoreName::System, StoreName::Nss, StoreName::Java] {
        if !wanted(name) {
            continue;
        }
        let found = match name {
            StoreName::System => system::stores(ca, args.root.as_deref(), &env),
            StoreName::Nss if args.root.is_some() => Vec::new(),
            StoreName::Nss => nss::stores(ca, &env),
            StoreName::Java if args.root.is_some() => Vec::new(),
            StoreName::Java => java::stores(ca, &env),
        };
        if found.is_empty() && args.store.contains(&name) {
            eprintln!("{}", nothing(name));
            whole = false;
        }
        for store in found {
            any = true;
            whole &= treat(ca, &store, kind, args.dry_run);
        }
    }
    if !any && whole {
        eprintln!("no store was found on this machine");
        whole = false;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn nothing(name: StoreName) -> &'static str {
    match name {
        StoreName::System => "the layout of this system's store is not known (Debian's, Fedora's, Arch's and SUSE's are)",
        StoreName::Nss => "there is no store of Chromium's or Firefox's here; start the browser once to make one",
        StoreName::Java => "there is no Java here (neither JAVA_HOME nor keytool on the path)",
    }
}

/// True when the store is as it should be.
fn treat(ca: &Ca, store: &Store, kind: Kind, dry_run: bool) -> bool {
    let Store { name, present, missing, .. } = store;
    let (steps, done, needless) = match kind {
        Kind::Install => (&store.install, "added to", *present),
        Kind::Uninstall => (&store.uninstall, "removed from", !*present),
    };
    if let Some(how) = missing {
        eprintln!("{name}: cannot be changed, {how}");
        return false;
    }
    if needless {
        let state = if kind == Kind::Install { "already in" } else { "not in" };
        println!("{state} {name}");
        return true;
    }
    if dry_run {
        println!("would be {done} {name}:");
        steps.iter().for_each(|step| println!("    {}", step.command(ca)));
        return true;
    }
    for (at, step) in steps.iter().enumerate() {
        if let Err(why) = step.carry_out(ca) {
            eprintln!("{name}: {why}");
            eprintln!("  to do it yourself:");
            steps[at..].iter().for_each(|step| eprintln!("    {}{}", sudo(&why), step.command(ca)));
            return false;
        }
    }
    println!("{done} {name}");
    true
}

fn sudo(why: &str) -> &'static str {
    let lower = why.to_ascii_lowercase();
    if ["permission denied", "not permitted", "read-only"].iter().any(|words| lower.contains(words)) { "sudo " } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_printed_so_that_a_shell_reads_them_back() {
        assert_eq!(quoted("/etc/x-1.crt"), "/etc/x-1.crt");
        assert_eq!(quoted("C,,"), "C,,");
        assert_eq!(quoted("gatepass CA it's"), "'gatepass CA it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons() {
        let text = "AB:".repeat(31) + "CD";
        let ca = Ca::by_fingerprint(&text).ok().unwrap();
        assert_eq!(ca.nickname(), "gatepass CA abababababababab");
        assert!(Ca::by_fingerprint("abc").is_err());
    }
}
