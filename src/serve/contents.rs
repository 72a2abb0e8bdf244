//! What watched files hold.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use crate::files;

/// What the files hold, so that an event without a change reloads nothing.
pub fn contents(paths: &[PathBuf], bound: usize) -> HashMap<PathBuf, Option<Vec<u8>>> {
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
