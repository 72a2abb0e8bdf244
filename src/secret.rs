//! Text that is never printed: no `Debug`, no `Display`, wiped from memory when the last holder lets go.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use zeroize::Zeroizing;

/// A secret text. Cloning shares the same memory.
///
/// There is deliberately no `Debug` and no `Display`: a struct that holds one cannot be printed by
/// accident. [`Secret::expose`] is the one door, and its callers are few enough to read.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The text itself. Use it to put the secret on the wire or into a signature, nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// Equality decides whether two ways out or two credentials may share state across a reload; it is
// never used to check something a peer sent, so it need not run in constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}
impl Eq for Secret {}
impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
    }
}
