//! Private keys as OpenSSL has them, of more kinds than rustls knows.

use openssl::pkey::{Id, PKey, Private};
use rustls::SignatureScheme;

use super::key_error::KeyError;

/// A key in any of the forms that have no passphrase: PKCS#8, PKCS#1, SEC1.
///
/// # Errors
/// OpenSSL cannot read it.
pub fn private_key(der: &[u8]) -> Result<PKey<Private>, KeyError> {
    PKey::private_key_from_der(der).map_err(|_| KeyError::Damaged("OpenSSL cannot read its key"))
}

/// The key can sign in one of these ways. Only for kinds that rustls does not know (RFC 8446 §4.2.3).
pub fn signs(key: &PKey<Private>, schemes: &[SignatureScheme]) -> bool {
    let own: &[u16] = match key.id() {
        Id::RSA => &[0x0401, 0x0501, 0x0601, 0x0804, 0x0805, 0x0806],
        Id::RSA_PSS => &[0x0809, 0x080a, 0x080b],
        Id::EC => &[0x0403, 0x0503, 0x0603],
        Id::ED448 => &[0x0808],
        _ => &[],
    };
    schemes.iter().any(|scheme| own.contains(&u16::from(*scheme)))
}
