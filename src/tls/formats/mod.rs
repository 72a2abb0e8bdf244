//! What certificates, keys and lists look like in files and on the wire. Bytes come in, values go out: whom to believe
//! and what to send is decided above.

pub mod alpn;
pub mod ber;
pub mod crl;
pub mod inspect;
pub mod key;
pub mod key_error;
pub mod legacy;
pub mod ocsp;
#[cfg(feature = "openssl")]
pub mod openssl_key;
pub mod pem;
pub mod pfx;
#[cfg(feature = "openssl")]
pub mod rsa_sha1;
