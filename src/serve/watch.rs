//! Watches the folders of every file the configuration was made from. Folders, not files: editors and
//! Kubernetes replace a file by renaming over it or by swapping a link, and a watch on the file itself
//! would see that once and never again.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::contents::contents;
use super::reload::Reloader;
use crate::files;

/// Changes come in bursts: a file is truncated, written, renamed.
const SETTLE: Duration = Duration::from_millis(150);

/// Not every file system tells of changes (network mounts, volumes shared with a virtual machine), so the
/// files are looked at now and then; and soon, while something waits for its files.
const NOW_AND_THEN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(500);

/// Lives as long as the watching.
pub struct Watcher {
    _task: tokio::task::AbortHandle,
}

impl Watcher {
    /// Watches the files of the configuration, and the certificates, bundles and secrets that it names.
    pub fn start(reloader: Arc<Reloader>) -> Option<Self> {
        let (sender, events) = mpsc::channel(1);
        let names = Arc::new(Mutex::new(Names::default()));
        let known = names.clone();
        let notify = move |event: notify::Result<notify::Event>| {
            // Our own reading is an event too, of no interest.
            let of_interest = |event: &notify::Event| {
                let names = known.lock().unwrap_or_else(|e| e.into_inner());
                event.paths.is_empty() || event.paths.iter().any(|path| names.concern(path))
            };
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_)) && of_interest(&event)) {
                let _ = sender.try_send(());
            }
        };
        let watcher = match notify::recommended_watcher(notify) {
            Ok(watcher) => watcher,
            Err(cause) => {
                tracing::warn!(%cause, "cannot watch files for changes; send SIGHUP to reload");
                return None;
            }
        };
        let task = tokio::spawn(run(watcher, events, reloader, names));
        Some(Self { _task: task.abort_handle() })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self._task.abort();
    }
}

/// The names of what is watched. Their folders hold other files, which may be written to all the time: a log among them.
#[derive(Default)]
struct Names {
    files: HashSet<OsString>,
    folders: HashSet<OsString>,
}

impl Names {
    fn add(&mut self, path: &Path) {
        self.files.extend(path.file_name().map(ToOwned::to_owned));
        if files::is_dir(path) {
            self.folders.extend(path.file_name().map(ToOwned::to_owned));
        }
    }

    /// May this be about one of them? A link or a folder may be on the way to one, as Kubernetes' `..data` is.
    fn concern(&self, path: &Path) -> bool {
        let is = |names: &HashSet<OsString>, name: Option<&OsStr>| name.is_some_and(|name| names.contains(name));
        is(&self.files, path.file_name())
            || is(&self.folders, path.parent().and_then(Path::file_name))
            || files::is_link(path)
            || files::is_dir(path)
    }
}

async fn run(mut watcher: RecommendedWatcher, mut events: mpsc::Receiver<()>, reloader: Arc<Reloader>, names: Arc<Mutex<Names>>) {
    let mut folders = BTreeSet::new();
    let mut follow = |paths: &[PathBuf]| self::follow(&mut watcher, &mut folders, &names, paths);
    let contents = |paths: &[PathBuf]| contents(paths, reloader.context.gate().limits.file);
    follow(&reloader.files());
    let mut seen = contents(&reloader.files());
    loop {
        let pause = if reloader.is_pending() { SOON } else { NOW_AND_THEN };
        tokio::select! {
            event = events.recv() => {
                if event.is_none() {
                    return;
                }
                tokio::time::sleep(SETTLE).await;
                while events.try_recv().is_ok() {}
            }
            () = tokio::time::sleep(pause) => {}
        }
        let now = contents(&reloader.files());
        if now == seen && !reloader.is_to_be_tried_again() {
            continue;
        }
        reloader.reload("a file changed").await;
        follow(&reloader.files());
        seen = contents(&reloader.files());
        // What changed while we were reading is looked at once more.
        if seen != now {
            reloader.reload("a file changed").await;
        }
    }
}

/// Watches the folders of these files, and of what they are links to.
fn follow(watcher: &mut RecommendedWatcher, folders: &mut BTreeSet<PathBuf>, names: &Mutex<Names>, paths: &[PathBuf]) {
    for path in paths {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        for known in [path, &real] {
            names.lock().unwrap_or_else(|e| e.into_inner()).add(known);
        }
        let both = [path.parent(), real.parent(), path.is_dir().then_some(path.as_path())];
        for folder in both.into_iter().flatten() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            if folders.insert(folder.to_owned())
                && let Err(cause) = watcher.watch(folder, RecursiveMode::NonRecursive)
            {
                tracing::warn!(folder = %folder.display(), %cause, "cannot watch this folder for changes; send SIGHUP to reload");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_configuration_does_not_name_wakes_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["..data", "cas"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        for file in ["gatepass.yaml", "gatepass.log", "cas/a.pem", "..data/token"] {
            std::fs::write(at(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("..data/token", at("token")).unwrap();
        let mut names = Names::default();
        for known in ["gatepass.yaml", "cas", "token", "..data/token"] {
            names.add(&at(known));
        }
        for (name, wanted) in [
            ("gatepass.yaml", true),
            ("cas/a.pem", true),
            ("cas/gone.pem", true),
            ("..data", true),
            ("token", true),
            ("gatepass.log", false),
            ("gatepass.log.1", false),
            (".gatepass.yaml.swp", false),
        ] {
            assert_eq!(names.concern(&at(name)), wanted, "{name}");
        }
    }

    #[test]
    fn a_file_larger_than_the_bound_of_the_configuration_is_not_read_for_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "12345").unwrap();
        assert!(contents(std::slice::from_ref(&file), 5)[&file].is_some());
        assert!(contents(std::slice::from_ref(&file), 4)[&file].is_none());
    }
}
