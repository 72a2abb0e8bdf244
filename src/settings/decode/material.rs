//! Paths, and keys and certificates that are files or texts.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::super::shown::forms;
use super::{Decode, Node, Pem, Place, Text, Value};
use crate::files;
use crate::secret::Secret;

impl Decode<'_> {
    pub(super) fn secret_file(&mut self, node: &Node) -> Option<Secret> {
        let path = self.path(node)?;
        self.read_file(&path, node.place)
    }

    /// A secret in a file, the final newline cut.
    pub fn read_file(&mut self, path: &Path, place: Place) -> Option<Secret> {
        self.read.push(path.to_owned());
        self.trusted(path, place)?;
        if let Some(mode) = files::exposed(path).filter(|mode| mode & 0o007 != 0) {
            let message = format!("others can read the secret in {} (mode {mode:04o})", path.display());
            self.report.warning("loose-permissions", place, message).help(format!("chmod 600 {}", path.display()));
        }
        match files::read_text(path, self.scope.bound) {
            Ok(text) => {
                let cut = text.strip_suffix('\n').unwrap_or(&text);
                Some(Secret::new(cut.strip_suffix('\r').unwrap_or(cut)))
            }
            Err(cause) => {
                let base = self.base(place);
                self.report.error("file", place, cause.to_string()).help(format!("relative paths start at {}", base.display()));
                None
            }
        }
    }

    /// A path: interpolated, `~` expanded, relative to the file that names it.
    pub fn path(&mut self, node: &Node) -> Option<PathBuf> {
        let text = self.plain_string(node)?;
        self.path_of(&text, node)
    }

    /// The path of a file that decides whom gatepass believes, or whom it is taken for: refused where others can change it.
    pub fn trusted_path(&mut self, node: &Node) -> Option<PathBuf> {
        let path = self.path(node)?;
        self.trusted(&path, node.place).map(|()| path)
    }

    /// What a variable holds is taken for a path only if it looks like one: it may be the secret itself.
    pub(super) fn path_of(&mut self, text: &str, node: &Node) -> Option<PathBuf> {
        if text.is_empty() {
            self.report.error("empty-path", node.place, "this path is empty");
            return None;
        }
        if !forms::can_be_path(text) {
            let message = format!("{} is not the path of a file", Self::origin(node));
            self.report
                .error("path", node.place, message)
                .help("name the file; a secret that stands in a variable goes into a setting that takes a text");
            return None;
        }
        Some(self.resolve(text, node.place))
    }

    /// How a value is called in messages: by the references it is written with, never by itself.
    fn origin(node: &Node) -> String {
        let mut names = Vec::new();
        match &node.value {
            Value::Text(text) => {
                let after = |open: &str| text.split(open).skip(1).map(str::to_owned).collect::<Vec<_>>();
                names.extend(
                    after("${").iter().filter_map(|rest| rest.split(['}', ':']).next()).map(|name| ("${", name.to_owned(), "}")),
                );
                names.extend(
                    after("{{")
                        .iter()
                        .filter_map(|rest| rest.split("}}").next())
                        .map(|name| ("{{", name.trim().to_owned(), "}}")),
                );
            }
            Value::Map(entries) => {
                let env = entries.iter().find(|(key, _)| key.text == "env").and_then(|(_, node)| node.as_text());
                names.extend(env.map(|name| ("${", name.to_owned(), "}")));
            }
            _ => {}
        }
        names.retain(|(_, name, _)| forms::is_reference(name));
        let names: Vec<String> = names.iter().map(|(open, name, close)| format!("`{open}{name}{close}`")).collect();
        if names.is_empty() { "this value".to_owned() } else { format!("what {} holds", names.join(" and ")) }
    }

    /// PEM: a path, or the text itself.
    pub fn pem(&mut self, node: &Node) -> Option<Pem> {
        let text = Secret::new(self.plain_string(node)?);
        match pem_text(text.expose()) {
            // Read again as what it is: a secret.
            Some(text) => self.string(node).map(|_| Pem::Text(text)),
            None => {
                let path = self.file_of(&text, node, "PEM")?;
                // Of a folder each file counts.
                let inside = if files::is_dir(&path) { files::list(&path).unwrap_or_default() } else { Vec::new() };
                let all = std::iter::once(path.clone()).chain(inside);
                all.map(|path| self.trusted(&path, node.place)).collect::<Option<Vec<()>>>().map(|_| Pem::File(path))
            }
        }
    }

    /// A path that could have been a text.
    fn file_of(&mut self, text: &Secret, node: &Node, kind: &str) -> Option<PathBuf> {
        let text = text.expose();
        if text.is_empty() || forms::can_be_path(text) {
            return self.path_of(text, node);
        }
        let message = format!("{} is neither {kind} nor the path of a file", Self::origin(node));
        let help = format!(
            "give the path of a file, or {kind} as a text: with its line breaks, with `\\n` for them, or as Base64 of the whole"
        );
        self.report.error("neither-file-nor-text", node.place, message).help(help);
        None
    }

    pub fn resolve(&self, text: &str, place: Place) -> PathBuf {
        if let Some(rest) = text.strip_prefix("~/")
            && let Some(home) = self.scope.env.get("HOME")
        {
            return Path::new(home).join(rest);
        }
        let path = Path::new(text);
        if path.is_absolute() { path.to_owned() } else { self.base(place).join(path) }
    }

    pub fn base(&self, place: Place) -> PathBuf {
        self.scope.bases.get(usize::from(place.file)).cloned().unwrap_or_default()
    }

    /// The text of a file that a setting names (a private key, an `.edgerc`), read now, remembered as
    /// watched; when the text is itself a PEM block, JSON object or data URI it is taken as it is.
    pub fn key_text(&mut self, node: &Node) -> Option<Secret> {
        match self.key_material(node)? {
            Text::Known(secret) => Some(secret),
            Text::Command(_) => {
                self.report.error("secret-form", node.place, "a private key comes from a file or a text, not from a command");
                None
            }
        }
    }

    /// [`Decode::key_text`], or the command that prints it.
    pub fn key_material(&mut self, node: &Node) -> Option<Text> {
        let secret = match self.text(node)? {
            Text::Known(secret) => secret,
            command => return Some(command),
        };
        if let Some(text) = pem_text(secret.expose()) {
            return Some(Text::Known(text));
        }
        let text = secret.expose().trim_start();
        if text.starts_with('{') || text.starts_with("data:") || text.starts_with('[') && text.contains('\n') {
            return Some(Text::Known(secret));
        }
        // What `{ file: … }` and its kin hold is the key already.
        if node.as_map().is_some() || text.is_empty() {
            let message = format!("{} is not a private key", Self::origin(node));
            self.report.error("private-key", node.place, message).help("give the path of a PEM or JWK file, or the text of one");
            return None;
        }
        let path = self.file_of(&secret, node, "PEM or a JWK")?;
        self.read_file(&path, node.place).map(Text::Known)
    }
}

/// PEM that stands in a text: as it is, with `\n` written as two characters (as JSON and `.env` files have it), or as Base64 of all of
/// it (as CI systems have it).
fn pem_text(text: &str) -> Option<Secret> {
    const BEGIN: &str = "-----BEGIN ";
    if text.contains(BEGIN) {
        let one_line = text.trim_start().starts_with(BEGIN) && !text.trim().contains('\n');
        return Some(Secret::new(match one_line {
            true => text.replace("\\r", "").replace("\\n", "\n"),
            false => text.to_owned(),
        }));
    }
    // "-----BEGIN" in Base64.
    let packed: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let bytes = packed.starts_with("LS0tLS1CRUdJTi").then(|| BASE64_STANDARD.decode(packed.as_str()).ok()).flatten()?;
    let text = String::from_utf8(bytes).ok()?;
    text.contains(BEGIN).then(|| Secret::new(text))
}
