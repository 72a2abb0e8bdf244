//! PKCS#11 libraries: where they are, and one of each in the process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};

use super::Wanted;
use super::errors::words;
use crate::files;
use crate::tls::Problem;

/// Where distributions put them.
const FOLDERS: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/opt/homebrew/lib",
    "/run/current-system/sw/lib",
];
/// p11-kit's proxy, which shows the tokens of every module that the system knows.
const PROXY: &str = "p11-kit-proxy.so";
/// Without it, those that people have.
const USUAL: [&str; 5] =
    ["softhsm/libsofthsm2.so", "opensc-pkcs11.so", "pkcs11/opensc-pkcs11.so", "libykcs11.so", "libtpm2_pkcs11.so"];

/// A library that is in use.
#[derive(Clone)]
pub(super) struct Module(Arc<Library>);

struct Library {
    calls: Pkcs11,
    /// How often it was initialised. Read for as long as it is called, written while it is started again:
    /// the handles of an earlier time may be those of others by now.
    times: RwLock<u64>,
}

impl Module {
    /// The library; not started again while the guard lives, which says how often it was.
    pub(super) fn enter(&self) -> (&Pkcs11, RwLockReadGuard<'_, u64>) {
        (&self.0.calls, self.0.times.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts it again, as the libraries of tokens behind a service need it when the service went away. Not
    /// while somebody calls it.
    pub(super) fn restart(&self) -> bool {
        let Ok(mut times) = self.0.times.try_write() else { return false };
        *times += 1;
        let _ = self.0.calls.clone().finalize();
        start(&self.0.calls).is_ok()
    }
}

fn start(calls: &Pkcs11) -> Result<(), Error> {
    match calls.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}

/// The libraries to look into, opened.
pub(super) fn open_all(wanted: &Wanted) -> Result<Vec<Module>, Problem> {
    let said = wanted.module.clone().map(|path| vec![path]);
    let paths = said.unwrap_or_else(|| candidates(wanted.uri.module_name.as_deref()));
    if paths.is_empty() {
        let message = match &wanted.uri.module_name {
            Some(name) => format!("there is no PKCS#11 module `{name}` in the usual places"),
            None => "there is no PKCS#11 module in the usual places, not even p11-kit's proxy".to_owned(),
        };
        let help = "name the token's library: `module: /path/to/its-pkcs11.so` (its driver brings it)";
        return Err(wanted.problem("no-module", message).help(help));
    }
    let mut opened = Vec::new();
    for path in paths {
        match open(&path) {
            Ok(module) => opened.push(module),
            Err(why) if wanted.module.is_some() => {
                let message = format!("{} cannot be used as a PKCS#11 module: {why}", path.display());
                return Err(Problem::new("bad-module", wanted.module_place, message)
                    .help("name the token's library, as `/usr/lib/softhsm/libsofthsm2.so`"));
            }
            Err(why) => tracing::debug!(module = %path.display(), why, "a PKCS#11 module cannot be used"),
        }
    }
    Ok(opened)
}

fn candidates(name: Option<&str>) -> Vec<PathBuf> {
    let there = |file: &str| FOLDERS.iter().map(|folder| Path::new(folder).join(file)).find(|path| files::exists(path));
    match name {
        Some(name) => {
            // RFC 7512 §2.3: without the `lib` and the `.so` of this platform.
            let spellings =
                [format!("{name}.so"), format!("lib{name}.so"), format!("pkcs11/{name}.so"), format!("softhsm/lib{name}.so")];
            spellings.iter().find_map(|file| there(file)).into_iter().collect()
        }
        None => match there(PROXY) {
            Some(proxy) => vec![proxy],
            None => USUAL.iter().filter_map(|file| there(file)).collect(),
        },
    }
}

/// A library is opened once for the process, and never let go: it has one state for all who use it.
fn open(path: &Path) -> Result<Module, String> {
    static MODULES: Mutex<BTreeMap<PathBuf, Module>> = Mutex::new(BTreeMap::new());
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    if !files::exists(path) {
        return Err("there is no such file".to_owned());
    }
    let calls = Pkcs11::new(path).map_err(|error| match error {
        Error::LibraryLoading(cause) => cause.to_string(),
        other => words(&other),
    })?;
    start(&calls).map_err(|error| words(&error))?;
    let module = Module(Arc::new(Library { calls, times: RwLock::new(0) }));
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}
