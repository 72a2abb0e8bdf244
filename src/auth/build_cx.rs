//! What schemes are made with besides their settings: the network, and certificates by name.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;

use super::oauth2::{Session, Sessions};
use crate::cookie::Jars;
use crate::provided::SecretRef;
use crate::secrets;
use crate::settings::shown::forms;
use crate::settings::{Decode, Node, Pem, nearest};
use crate::tls::Problem;
use crate::tls::out::identity::{self, Identity};
use crate::tls::out::trust::Trust;
use crate::upstream::fetch::Client;
use crate::upstream::{NetEnv, Route};

pub struct BuildCx<'a> {
    /// The credential's name; `None` for one written in a rule.
    pub name: Option<&'a str>,
    /// Where it has no name: which requests its rule speaks of.
    pub requests: String,
    /// By name; `None` for what could not be loaded, which is reported already.
    pub identities: &'a HashMap<String, Option<Arc<Identity>>>,
    pub bundles: &'a HashMap<String, Option<Arc<Trust>>>,
    /// Whom to believe unless a setting says otherwise.
    pub trust: &'a Arc<Trust>,
    /// `upstream_proxy`.
    pub via: &'a Route,
    pub net: &'a Arc<NetEnv>,
    /// Where tokens and cookies are kept; made when first needed.
    pub state: &'a Path,
    /// Captured cookies and tokens of before a reload.
    pub jars: &'a Jars,
    pub sessions: &'a Sessions,
    /// Put here by a scheme whose tokens a person may have to sign in for.
    pub sign_in: OnceCell<Arc<Session>>,
}

impl BuildCx<'_> {
    /// What speaks to servers that give credentials, a token endpoint say: by the upstream proxy, and with the trust of
    /// all requests where the credential names none of its own.
    ///
    /// # Errors
    /// The certificate and trust cannot be made into a TLS configuration.
    pub fn client(&self, identity: Option<Arc<Identity>>, trust: Option<Arc<Trust>>) -> Result<Client, Problem> {
        let trust = trust.unwrap_or_else(|| self.trust.clone());
        Client::over(self.net, self.via.clone(), None, identity, trust)
    }

    /// A file of the credential's own in the state folder: `KIND/NAME.json`. Without a name, it is called by the
    /// requests that its rule speaks of.
    pub fn state_file(&self, kind: &str) -> PathBuf {
        self.state.join(kind).join(format!("{}.json", file_name(self.name.unwrap_or(&self.requests))))
    }

    /// A `client_certificate` setting: a name, or an inline certificate.
    pub fn identity(&self, node: &Node, decode: &mut Decode<'_>) -> Option<Arc<Identity>> {
        if node.as_map().is_none() {
            let name = decode.string(node)?;
            return named(self.identities, "client certificate", &name, node, decode);
        }
        let source = crate::tls::read::certificate(decode, node, None)?;
        let passphrase = match source.passphrase.clone().map(secrets::reference) {
            None => None,
            Some(SecretRef::Known(secret)) => Some(secret),
            Some(SecretRef::Fetched(_)) => {
                let error = decode.report.error("passphrase", node.place, "this passphrase comes from a command");
                error.help("define the certificate under `client_certificates`, and name it here");
                return None;
            }
        };
        let loaded = identity::load(&source, passphrase.as_ref(), self.net.limits.file);
        source.files().iter().filter_map(Pem::file).for_each(|file| decode.note_file(file.to_owned()));
        match loaded {
            Ok(loaded) => {
                loaded.warnings.into_iter().for_each(|problem| tell(decode, problem, false));
                Some(Arc::new(loaded.value))
            }
            Err(problem) => {
                tell(decode, problem, true);
                None
            }
        }
    }

    /// A `ca_bundle` setting: a name, a file, or an inline bundle.
    pub fn trust(&self, node: &Node, decode: &mut Decode<'_>) -> Option<Arc<Trust>> {
        if let Some(text) = node.as_text() {
            if let Some(trust) = self.bundles.get(text) {
                return trust.clone();
            }
            if !text.contains(['/', '.', '$', '\n']) {
                return named(self.bundles, "CA bundle", text, node, decode);
            }
        }
        let source = crate::tls::read::bundle(decode, node, None)?;
        source.files.iter().filter_map(|(pem, _)| pem.file()).for_each(|file| decode.note_file(file.to_owned()));
        match Trust::load(&source, self.net.limits.file) {
            Ok(loaded) => {
                loaded.warnings.into_iter().for_each(|problem| tell(decode, problem, false));
                Some(Arc::new(loaded.value))
            }
            Err(problems) => {
                problems.into_iter().for_each(|problem| tell(decode, problem, true));
                None
            }
        }
    }
}

/// A text as the name of a file: what is plain stays; what is not is told apart by its hash.
fn file_name(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.len() <= 64 && !text.starts_with('.') && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let word = text.split(|c| !is_plain(c)).map(|word| word.trim_start_matches('.')).find(|word| !word.is_empty());
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let hash: String = hash.as_ref()[..6].iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{hash}", word.unwrap_or("unnamed").chars().take(64).collect::<String>())
}

fn named<T>(
    all: &HashMap<String, Option<Arc<T>>>,
    what: &str,
    name: &str,
    node: &Node,
    decode: &mut Decode<'_>,
) -> Option<Arc<T>> {
    if let Some(found) = all.get(name) {
        return found.clone();
    }
    let near = nearest(name, all.keys().map(String::as_str));
    let mend = near.map_or_else(|| "define it at the top level".to_owned(), |near| format!("did you mean `{near}`?"));
    let shown = if forms::is_key_word(name) || all.keys().any(|known| forms::is_misspelt(name, known)) {
        format!(" `{name}`")
    } else {
        " of this name".to_owned()
    };
    decode.report.error("dangling-name", node.place, format!("there is no {what}{shown}")).help(mend);
    None
}

fn tell(decode: &mut Decode<'_>, problem: Problem, error: bool) {
    let Problem { code, place, message, help } = problem;
    let diagnostic = if error { decode.report.error(code, place, message) } else { decode.report.warning(code, place, message) };
    diagnostic.help = help;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_plain_and_never_two_credentials_share_one() {
        assert_eq!(file_name("portal"), "portal");
        for odd in ["../etc/passwd", ".hidden", "a b", "ä", "", "["] {
            let name = file_name(odd);
            assert!(!name.contains('/') && !name.starts_with('.') && name.len() > 13, "{odd}: {name}");
            assert_ne!(name, file_name(&format!("{odd}x")));
        }
        assert!(file_name("[\"app.example.com\"] Default").starts_with("app.example.com-"));
        assert_ne!(file_name("a b"), file_name("a c"));
    }
}
