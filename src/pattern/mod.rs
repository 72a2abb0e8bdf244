//! Which hosts, ports and paths a rule speaks of.

mod host;
mod index;
mod path;
mod ports;

use globset::{Glob, GlobBuilder};

pub use host::HostPattern;
pub use index::{HostIndex, Kinship};
pub use path::{PathPattern, readings};
pub use ports::Ports;

fn glob(text: &str, separator: bool) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(separator).backslash_escape(false).build()
}
