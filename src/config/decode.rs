//! From nodes to values. Every function reports what is wrong, with its place, and answers `None`;
//! callers go on, so that all mistakes of a file are told at once.

use std::path::PathBuf;
use std::time::Duration;

use super::meant::Text;
use super::report::{Place, Report};
use super::yaml::{Key, Node};

/// What reading needs to know besides the node: the report, variables, environment, base folders.
pub struct Decode<'a> {
    pub report: &'a mut Report,
}

/// A map whose keys were checked.
pub struct Fields<'n> {
    pub place: Place,
    entries: &'n [(Key, Node)],
}

impl<'n> Fields<'n> {
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }
}

#[allow(unused_variables, clippy::unimplemented)]
impl Decode<'_> {
    /// Opens a map; unknown keys are reported with the nearest known one. `what` is the noun for messages ("rule", "basic").
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        unimplemented!()
    }

    /// The value of a key that must be there.
    pub fn required<'n>(&mut self, fields: &Fields<'n>, what: &str, key: &str) -> Option<&'n Node> {
        unimplemented!()
    }

    /// A text with `${…}` and `{{…}}` replaced; not for secrets' other forms.
    pub fn string(&mut self, node: &Node) -> Option<String> {
        unimplemented!()
    }

    /// A SECRET in any of its forms: text, `{env:}`, `{file:}`, `{exec:}`, `{keyring:}`.
    pub fn text(&mut self, node: &Node) -> Option<Text> {
        unimplemented!()
    }

    /// One text or a list of texts.
    pub fn strings(&mut self, node: &Node) -> Option<Vec<(String, Place)>> {
        unimplemented!()
    }

    pub fn boolean(&mut self, node: &Node) -> Option<bool> {
        unimplemented!()
    }

    pub fn number(&mut self, node: &Node, low: u64, high: u64) -> Option<u64> {
        unimplemented!()
    }

    /// `10s`, `5m`, `1h`, `250ms`, `7d`, or a plain number of seconds.
    pub fn duration(&mut self, node: &Node) -> Option<Duration> {
        unimplemented!()
    }

    /// A path: interpolated, `~` expanded, relative to the file that names it.
    pub fn path(&mut self, node: &Node) -> Option<PathBuf> {
        unimplemented!()
    }

    /// One of a fixed set of words; a wrong one is reported with the nearest.
    pub fn choice<T: Copy>(&mut self, node: &Node, what: &str, options: &[(&str, T)]) -> Option<T> {
        unimplemented!()
    }

    /// The text of a file that a setting names (a private key, an `.edgerc`), read now, remembered as
    /// watched; when the text is itself a PEM block or JSON object it is taken as it is.
    pub fn key_text(&mut self, node: &Node) -> Option<crate::secret::Secret> {
        unimplemented!()
    }
}
