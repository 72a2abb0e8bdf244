//! Finds, reads and joins the files of a configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::meant::Config;
use super::report::Report;

/// What to load.
#[derive(Clone, Default)]
pub struct Request {
    /// `-c FILE`, in order; later wins. Empty: `GATEPASS_CONFIG`, `./gatepass.yaml`, … as documented.
    pub files: Vec<PathBuf>,
    /// Instead of files: a document given as text, with the name to show for it and the folder its
    /// relative paths start at (demo, tests, quick rules).
    pub inline: Option<(String, String, PathBuf)>,
    /// A further document laid over the rest, as if it were the last file (`exec --bearer` and the like).
    pub overlay: Option<String>,
    pub profile: Option<String>,
    /// `--listen`: replaces the forward listener's address.
    pub listen: Option<String>,
    /// The environment that `${NAME}`, XDG folders and proxy variables are read from.
    pub env: BTreeMap<String, String>,
    /// Names of the auth types, from the table of schemes.
    pub auth_types: &'static [&'static str],
}

pub struct Loaded {
    /// `None` when the report has errors.
    pub config: Option<Config>,
    pub report: Report,
    /// The files found, in order; empty when built-in defaults run.
    pub files: Vec<PathBuf>,
}

/// Reads everything and reports every mistake.
#[allow(clippy::unimplemented)]
pub fn load(_request: &Request) -> Loaded {
    unimplemented!()
}
