//! What one gate hands to the next: whatever did not change, with all that it learned; and what was
//! read before, for when its files are being written or broken at the moment of a reload.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use super::decision::BoundAuthorizer;
use crate::config::{Credential, ListenAddress};
use crate::files;
use crate::provided::SecretRef;
use crate::settings::{Node, Pem, Scope, Text, Value};
use crate::tls::formats::crl::Crls;
use crate::tls::intercept::server::Listening;
use crate::tls::out::identity::Identity;
use crate::tls::out::trust::Trust;
use crate::tls::settings::CaSource;

/// By what is read, not where it is named: 10,000 rules may name one file.
pub(super) type IdentityKey = (Vec<Pem>, Option<String>, Option<Text>);
pub(super) type BundleKey = (Vec<Pem>, bool, Option<PathBuf>);

#[derive(Default)]
pub(super) struct Kept {
    pub identities: HashMap<IdentityKey, Arc<Identity>>,
    pub bundles: HashMap<BundleKey, Arc<Trust>>,
    pub crls: HashMap<Vec<PathBuf>, Arc<Crls>>,
    pub listeners: HashMap<(ListenAddress, usize), Arc<Listening>>,
    /// With the tokens, nonces and counters that they hold. Equal settings may be written several times.
    pub authorizers: HashMap<Recipe, Vec<Arc<BoundAuthorizer>>>,
    /// Outputs of commands, for headers and query parameters.
    pub values: HashMap<Text, SecretRef>,
    pub ca: Option<CaSource>,
}

/// All that an authorizer is made from, as a digest: it holds secrets.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Recipe([u8; 32]);

/// Settings that name what stands elsewhere in the configuration, which a recipe does not follow.
const ELSEWHERE: [&str; 3] = ["client_certificate", "ca_bundle", "tls"];

impl Recipe {
    /// `read` are the files that were read for it, `world` what all authorizers share. `None`: it
    /// depends on more, and is made anew.
    pub fn of(credential: &Credential, scope: &Scope, read: &[PathBuf], world: &str) -> Option<Self> {
        if mentions(&credential.settings, &ELSEWHERE) {
            return None;
        }
        let mut digest = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            digest.update(&bytes.len().to_be_bytes());
            digest.update(bytes);
        };
        part(credential.kind.as_bytes());
        part(credential.name.as_deref().unwrap_or_default().as_bytes());
        part(world.as_bytes());
        let base = scope.bases.get(usize::from(credential.settings.place.file));
        part(base.map_or(&[][..], |base| base.as_os_str().as_encoded_bytes()));
        feed(&credential.settings, &mut part);
        for (name, (text, _)) in &scope.vars {
            part(name.as_bytes());
            part(text.as_bytes());
        }
        for path in read {
            part(path.as_os_str().as_encoded_bytes());
            part(&files::read(path, scope.bound).unwrap_or_default());
        }
        let mut out = [0; 32];
        out.copy_from_slice(digest.finish().as_ref());
        Some(Self(out))
    }
}

fn mentions(node: &Node, keys: &[&str]) -> bool {
    match &node.value {
        Value::Map(entries) => entries.iter().any(|(key, node)| keys.contains(&key.text.as_str()) || mentions(node, keys)),
        Value::List(items) => items.iter().any(|node| mentions(node, keys)),
        _ => false,
    }
}

/// The tree without its places: a line added above changes nothing.
fn feed(node: &Node, part: &mut impl FnMut(&[u8])) {
    match &node.value {
        Value::Null => part(b"null"),
        Value::Bool(value) => part(if *value { b"true" } else { b"false" }),
        Value::Number(text) => {
            part(b"number");
            part(text.as_bytes());
        }
        Value::Text(text) => {
            part(b"text");
            part(text.as_bytes());
        }
        Value::List(items) => {
            part(b"list");
            part(&items.len().to_be_bytes());
            items.iter().for_each(|item| feed(item, part));
        }
        Value::Map(entries) => {
            part(b"map");
            part(&entries.len().to_be_bytes());
            for (key, node) in entries {
                part(key.text.as_bytes());
                feed(node, part);
            }
        }
    }
}
