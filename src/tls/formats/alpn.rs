//! The names that protocols have in a handshake.

use crate::tls::settings::Alpn;

/// Protocol identifiers of RFC 7301 §6.
pub fn protocol_id(alpn: Alpn) -> &'static [u8] {
    match alpn {
        Alpn::H2 => b"h2",
        Alpn::Http11 => b"http/1.1",
    }
}

/// The protocol of an identifier.
pub fn protocol(id: &[u8]) -> Option<Alpn> {
    [Alpn::H2, Alpn::Http11].into_iter().find(|alpn| protocol_id(*alpn) == id)
}
