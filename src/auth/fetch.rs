//! Requests to servers that give credentials: a token endpoint, say. Through the upstream proxy.

use std::sync::Arc;

use super::build_cx::BuildCx;
use crate::tls::Problem;
use crate::tls::out::identity::Identity;
use crate::tls::out::trust::Trust;
pub use crate::upstream::fetch::{Client, Fetched, Url};

impl Client {
    /// # Errors
    /// The certificate and trust cannot be made into a TLS configuration.
    pub fn new(cx: &BuildCx<'_>, identity: Option<Arc<Identity>>, trust: Option<Arc<Trust>>) -> Result<Self, Problem> {
        let trust = trust.unwrap_or_else(|| cx.trust.clone());
        Self::over(cx.net, cx.via.clone(), None, identity, trust)
    }
}
