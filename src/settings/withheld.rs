//! Which variables of the environment went into secrets.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Names of environment variables that a command is not to inherit.
#[derive(Clone, Default)]
pub struct Withheld(Arc<Mutex<BTreeSet<String>>>);

impl Withheld {
    pub fn add(&self, name: &str) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).insert(name.to_owned());
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}
