//! A type of credential as others see it: its name, its settings and what they may be.

use super::Scheme;
use crate::settings::{Definition, Shape};

/// One setting of an auth type: name, shape, default or "required", meaning.
pub type Setting = (&'static str, Shape, &'static str, &'static str);

/// A type of credential, as the schema, the docs and the display of mistakes need it.
#[derive(Clone, Copy)]
pub struct AuthType {
    pub name: &'static str,
    pub doc: &'static str,
    /// What may stand directly behind its name, instead of a map of settings.
    pub short: Option<Shape>,
    pub settings: &'static [Setting],
}

impl AuthType {
    pub fn definition(&self) -> Definition {
        Definition { short: self.short, keys: self.settings.iter().map(|(name, shape, ..)| (*name, *shape)).collect() }
    }
}

impl From<&Scheme> for AuthType {
    fn from(scheme: &Scheme) -> Self {
        Self { name: scheme.name, doc: scheme.doc, short: scheme.short, settings: scheme.settings }
    }
}
