//! One store that the CA can be put into, and the steps to that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::Error;
use crate::files;
use crate::tls::formats::inspect::{self, Details};

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

    pub fn command(&self, ca: &Ca) -> String {
        let argv: Vec<String> = match self {
            Step::Copy(to) => vec!["install".into(), "-m".into(), "644".into(), text(&ca.file), text(to)],
            Step::Remove(path) => vec!["rm".into(), text(path)],
            Step::MakeFolder(path) => vec!["mkdir".into(), "-p".into(), text(path)],
            Step::Run(argv) => argv.clone(),
        };
        argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    pub fn carry_out(&self, ca: &Ca) -> Result<(), String> {
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
}
