//! The only place where TLS configurations are made.
//!
//! Three rooms, each of which uses only those named after it: [`intercept`] speaks TLS to clients, with leaves of
//! gatepass's own authority or a certificate of the user's; [`out`] speaks it to servers, with our identities and our
//! trust; [`formats`] reads and writes what both keep in files. What all three need stands in this file.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

use crate::files::FileError;
use crate::settings::Place;

pub mod formats;
pub mod intercept;
pub mod out;
pub mod read;
pub mod settings;

#[cfg(test)]
pub mod testing;
pub mod token_uri;

/// The one cryptography provider of the process.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Something wrong with a file that TLS needs, said so that it can be mended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Short and stable, as in [`crate::settings::Diagnostic`].
    pub code: &'static str,
    /// `None` for what no config names (the authority's own folder).
    pub place: Option<Place>,
    /// One sentence without a full stop. Never a secret.
    pub message: String,
    /// The mend.
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

    /// A file that cannot be read or written; the error names the path.
    pub fn file(place: impl Into<Option<Place>>, error: &FileError) -> Self {
        Self::new("file", place, error.to_string())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// What was loaded, and what is worth a warning about it.
pub struct Loaded<T> {
    pub value: T,
    pub warnings: Vec<Problem>,
}

/// SHA-256, for fingerprints and pins.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::formats::{ber, inspect, key, pem, pfx};

    proptest::proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes: Vec<u8>, at: usize, flip: u8) {
            let fixtures: [&[u8]; 5] = [
                include_bytes!("../../tests/fixtures/tls/nss.pfx"),
                include_bytes!("../../tests/fixtures/tls/alice.p8.md5des.pem"),
                include_bytes!("../../tests/fixtures/tls/bob.aes128.pem"),
                include_bytes!("../../tests/fixtures/tls/chain.der.p7b"),
                include_bytes!("../../tests/fixtures/tls/ca.der"),
            ];
            let mut bent = fixtures[at % fixtures.len()].to_vec();
            let position = at / fixtures.len() % bent.len();
            bent[position] ^= flip;
            for bytes in [&bytes, &bent] {
                let _ = pem::first_element(bytes);
                let _ = pem::read(bytes).iter().filter(|block| key::from_block(block, None).is_ok()).count();
                let _ = ber::Element::read(bytes).map(|element| element.to_der());
                let _ = inspect::certificates(bytes).good.len();
                let _ = (pfx::is_pfx(bytes), key::from_der(bytes, None).is_ok());
            }
        }
    }
}
