//! The only place where TLS configurations are made.

pub mod authority;
pub mod client;
pub mod explain;
pub mod identity;
pub mod inspect;
mod keys;
pub mod pem;
pub mod server;
pub mod trust;
mod verify;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

use crate::config::Place;

/// The one crypto provider: aws-lc-rs, which has P-521, RSA to 8192 bits and X25519MLKEM768.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// What is wrong with a certificate, key or bundle, and where it is named.
#[derive(Clone, Debug)]
pub struct Problem {
    pub code: &'static str,
    pub place: Option<Place>,
    /// One sentence without a full stop. Never a secret.
    pub message: String,
    pub help: Option<String>,
}

impl Problem {
    pub fn new(code: &'static str, place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self { code, place: place.into(), message: message.into(), help: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// What was loaded, and what is odd about it.
pub struct Loaded<T> {
    pub value: T,
    pub warnings: Vec<Problem>,
}
