//! Watches the folders of every file the configuration was made from. Folders, not files: editors and
//! Kubernetes replace a file by renaming over it or by swapping a link, and a watch on the file itself
//! would see that once and never again.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

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
        let notify = move |event: notify::Result<notify::Event>| {
            // Our own reading is an event too, of no interest.
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
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
        let task = tokio::spawn(run(watcher, events, reloader));
        Some(Self { _task: task.abort_handle() })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self._task.abort();
    }
}

async fn run(mut watcher: RecommendedWatcher, mut events: mpsc::Receiver<()>, reloader: Arc<Reloader>) {
    let mut folders = BTreeSet::new();
    follow(&mut watcher, &mut folders, &reloader.files());
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
        if now == seen {
            continue;
        }
        reloader.reload("a file changed").await;
        follow(&mut watcher, &mut folders, &reloader.files());
        seen = contents(&reloader.files());
        // What changed while we were reading is looked at once more.
        if seen != now {
            reloader.reload("a file changed").await;
        }
    }
}

/// Watches the folders of these files, and of what they are links to.
fn follow(watcher: &mut RecommendedWatcher, folders: &mut BTreeSet<PathBuf>, paths: &[PathBuf]) {
    for path in paths {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
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

/// What the files hold, so that an event without a change reloads nothing.
pub fn contents(paths: &[PathBuf]) -> HashMap<PathBuf, Option<Vec<u8>>> {
    let bound = crate::limits::Limits::default().file;
    let hash = |path: &Path| files::read(path, bound).ok().map(|bytes| digest::digest(&digest::SHA256, &bytes).as_ref().to_vec());
    let mut found = HashMap::new();
    for path in paths {
        match files::list(path) {
            Ok(inside) => found.extend(inside.into_iter().map(|file| (file.clone(), hash(&file)))),
            Err(_) => {
                found.insert(path.clone(), hash(path));
            }
        }
    }
    found
}
