//! A socket by which `gatepass health` finds the processes that run, and learns from each what it is and whether it
//! takes work. It lies in a folder that only their user may enter; one that nobody answers at is left over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::Running;
use crate::files;
use crate::moment::random_hex;

/// The name of a Unix socket is at most 107 bytes on Linux, 103 elsewhere.
const LONGEST_NAME: usize = 103;
/// An answer is one short object.
const BOUND: u64 = 64 * 1024;
/// For one answer.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The socket of this process, gone with it.
pub struct Control {
    path: PathBuf,
    task: tokio::task::AbortHandle,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = files::remove(&self.path);
    }
}

/// What a process says of itself.
pub struct Status {
    /// The files of its configuration, as they were at its start.
    pub configuration: Vec<PathBuf>,
    /// Where it listens, the admin address included.
    pub addresses: Vec<SocketAddr>,
    pub ready: bool,
}

/// Where such sockets may lie; the first folder that can be had is taken.
fn folders(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let env = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let user = rustix::process::geteuid().as_raw();
    let temporary = env("TMPDIR").map_or("/tmp", String::as_str);
    [
        env("XDG_RUNTIME_DIR").map(|folder| Path::new(folder).join("gatepass")),
        // systemd's, where a unit has one (systemd.exec(5)).
        env("RUNTIME_DIRECTORY").and_then(|list| list.split(':').next()).map(|folder| Path::new(folder).join("control")),
        env("GATEPASS_HOME").map(|home| Path::new(home).join("run")),
        Some(Path::new(temporary).join(format!("gatepass-run-{user}"))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Opens the socket of this process; without one, the reason.
///
/// # Errors
/// None of the folders can be had.
pub async fn open(running: &Running, env: &BTreeMap<String, String>, configuration: &[PathBuf]) -> Result<Control, String> {
    let mut why = Vec::new();
    for folder in folders(env) {
        let path = folder.join(format!("{}.sock", random_hex::<8>()));
        if path.as_os_str().len() > LONGEST_NAME {
            why.push(format!("{} is too long a name for a socket", path.display()));
            continue;
        }
        if let Err(cause) = files::own_private_dir(&folder) {
            why.push(cause.to_string());
            continue;
        }
        remove_leftovers(&folder).await;
        match UnixListener::bind(&path) {
            Ok(listener) => {
                let addresses = running.addresses.iter().map(|(address, _)| *address).chain(running.admin).collect();
                let about = About { configuration: configuration.to_vec(), addresses, ready: running.ready.clone() };
                return Ok(Control { path, task: tokio::spawn(serve(listener, about)).abort_handle() });
            }
            Err(cause) => why.push(format!("cannot listen on {}: {cause}", path.display())),
        }
    }
    Err(why.join("; "))
}

struct About {
    configuration: Vec<PathBuf>,
    addresses: Vec<SocketAddr>,
    ready: Arc<AtomicBool>,
}

/// One caller after the other: all of them are our own user's, and each is told one line.
async fn serve(listener: UnixListener, about: About) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let status = json!({
            "gatepass": env!("CARGO_PKG_VERSION"),
            "configuration": about.configuration,
            "addresses": about.addresses,
            "ready": about.ready.load(Ordering::Relaxed),
        });
        let _ = tokio::time::timeout(PATIENCE, stream.write_all(status.to_string().as_bytes())).await;
    }
}

async fn remove_leftovers(folder: &Path) {
    for path in files::list(folder).unwrap_or_default() {
        let left = files::is_socket(&path)
            && UnixStream::connect(&path).await.is_err_and(|cause| cause.kind() == std::io::ErrorKind::ConnectionRefused);
        if left {
            let _ = files::remove(&path);
        }
    }
}

/// The processes of this user.
#[derive(Default)]
pub struct Found {
    pub answered: Vec<Status>,
    /// How many are there and say nothing for [`PATIENCE`]: stopped by a signal, or hanging.
    pub silent: usize,
}

/// Every gatepass of this user; all of them are asked at once.
pub async fn running(env: &BTreeMap<String, String>) -> Found {
    let folders = folders(env).into_iter().filter(|folder| files::is_own_private_dir(folder));
    let paths = folders.flat_map(|folder| files::list(&folder).unwrap_or_default()).filter(|path| files::is_socket(path));
    let asked = paths.map(|path| async move { tokio::time::timeout(PATIENCE, ask(&path)).await });
    let mut found = Found::default();
    for answer in futures_util::future::join_all(asked).await {
        match answer {
            Ok(status) => found.answered.extend(status),
            Err(_) => found.silent += 1,
        }
    }
    found
}

async fn ask(path: &Path) -> Option<Status> {
    let mut text = Vec::new();
    UnixStream::connect(path).await.ok()?.take(BOUND).read_to_end(&mut text).await.ok()?;
    let status: Json = serde_json::from_slice(&text).ok()?;
    let texts = |name: &str| status[name].as_array().into_iter().flatten().filter_map(Json::as_str).collect::<Vec<_>>();
    Some(Status {
        configuration: texts("configuration").into_iter().map(PathBuf::from).collect(),
        addresses: texts("addresses").into_iter().filter_map(|text| text.parse().ok()).collect(),
        ready: status["ready"].as_bool()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_says_nothing_is_told_from_none() {
        let home = tempfile::tempdir().unwrap();
        let env = BTreeMap::from([
            ("GATEPASS_HOME".to_owned(), home.path().display().to_string()),
            ("TMPDIR".to_owned(), home.path().display().to_string()),
        ]);
        let found = running(&env).await;
        assert_eq!((found.answered.len(), found.silent), (0, 0));
        files::own_private_dir(&home.path().join("run")).unwrap();
        // The kernel takes the connection for a process that has been stopped.
        let stopped = UnixListener::bind(home.path().join("run/0.sock")).unwrap();
        let found = running(&env).await;
        assert_eq!((found.answered.len(), found.silent), (0, 1));
        drop(stopped);
        assert_eq!(running(&env).await.silent, 0, "what is left over is no process");
    }
}
