//! Requests to servers that give credentials: a token endpoint, say. Through the upstream proxy.

use std::sync::Arc;

use super::making::Making;
use crate::tls::Problem;
use crate::tls::out::identity::Identity;
use crate::tls::out::trust::Trust;
pub use crate::upstream::fetch::{Client, Fetched, Url};

impl Client {
    /// # Errors
    /// The certificate and trust cannot be made into a TLS configuration.
    pub fn new(making: &Making<'_>, identity: Option<Arc<Identity>>, trust: Option<Arc<Trust>>) -> Result<Self, Problem> {
        let trust = trust.unwrap_or_else(|| making.trust.clone());
        Self::over(making.ground, making.via.clone(), None, identity, trust)
    }
}
