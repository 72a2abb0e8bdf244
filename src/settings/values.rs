//! Values that are more than words and numbers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::report::Place;
use crate::secret::Secret;

/// A value that may be secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Text {
    /// Known when the config was read: literal, environment, file.
    Known(Secret),
    /// Run when first needed, kept for `ttl`.
    Command(Arc<Command>),
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Command {
    pub place: Place,
    /// Program and arguments; run without a shell.
    pub argv: Vec<String>,
    /// Where the program is run: the folder of the file that names it.
    pub directory: PathBuf,
    pub ttl: Duration,
    pub timeout: Duration,
    /// `None`: the whole output, final newline cut. `Some(".a.b")`: that member of the JSON output.
    pub field: Option<String>,
    /// How much it may print.
    pub bound: usize,
    /// What to do when it gives nothing; else: run it by hand.
    pub mend: Option<String>,
}

/// PEM in a file, or as the text itself (from a variable, say).
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Pem {
    File(PathBuf),
    Text(Secret),
}

impl Pem {
    pub fn file(&self) -> Option<&Path> {
        match self {
            Pem::File(path) => Some(path),
            Pem::Text(_) => None,
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Pem::File(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            Pem::Text(_) => "the PEM text".to_owned(),
        }
    }
}
