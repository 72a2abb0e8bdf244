//! Why a private key cannot be had from what it was to be in.

use super::legacy::Refused;

/// Why there is no key. The texts continue "FILE: …" and hold no secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyError {
    NeedsPassphrase,
    WrongPassphrase,
    /// Readable, but of a kind that is not supported: what, and how to convert it.
    Unsupported {
        what: String,
        help: String,
    },
    Damaged(&'static str),
}

impl From<Refused> for KeyError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Passphrase => Self::WrongPassphrase,
            Refused::Unsupported => unsupported_encryption("its encryption"),
            Refused::Damaged => Self::Damaged("the encrypted key is damaged"),
        }
    }
}

pub(super) fn unsupported_encryption(what: &str) -> KeyError {
    KeyError::Unsupported {
        what: format!("{what} is not supported"),
        help: "convert it: openssl pkcs8 -topk8 -v2 aes256 -provider default -provider legacy -in OLD -out NEW".to_owned(),
    }
}
