//! The second TLS backend, OpenSSL by its safe interface, for hosts whose rule says `tls: { backend: openssl }`:
//! servers that ask for a client certificate only after the handshake (renegotiation), that have nothing but RSA key
//! exchange, and keys that rustls cannot use. Certificates are judged by the same [`Verifier`], errors told by the same
//! [`explain`](super::explain) as with rustls.
//!
//! What the safe interface of the `openssl` crate leaves out is left out here: resuming sessions, the list of CAs a
//! server names in TLS 1.3 or when it renegotiates, and TLS 1.3's post-handshake authentication. So TLS 1.2 is what is
//! offered while there is a client certificate, unless the settings say otherwise: servers that would ask later in
//! TLS 1.3 renegotiate in TLS 1.2.

mod connect;
mod errors;
mod heard;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use rustls::pki_types::ServerName;

pub use connect::{AGAIN, Stream};

use super::client_spec::ClientSpec;
use super::identity::Identity;
use super::verify::Verifier;
use crate::tls::Problem;
use crate::tls::settings::{Alpn, TlsSettings, TlsVersion};

/// What makes connections of one way out.
pub struct Connector {
    context: SslContext,
    verifier: Arc<Verifier>,
    identities: Arc<Vec<Card>>,
    preferred: Arc<Preferred>,
}

/// Which of several identities a server's issuers asked for, where it was not the first. OpenSSL's safe interface wants the
/// identity before it is known what is asked for; a handshake in which another is wanted is ended and begun again.
#[derive(Default)]
struct Preferred(Mutex<HashMap<ServerName<'static>, usize>>);

/// A way out has a handful of hosts, or those of a wildcard.
const PREFERRED: usize = 1000;

impl Preferred {
    fn get(&self, name: &ServerName<'static>) -> usize {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(name).copied().unwrap_or_default()
    }

    fn set(&self, name: &ServerName<'static>, at: usize) {
        let mut known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if known.len() >= PREFERRED {
            known.clear();
        }
        known.insert(name.clone(), at);
    }
}

/// An identity as OpenSSL has it.
struct Card {
    identity: Arc<Identity>,
    chain: Vec<X509>,
    key: PKey<Private>,
}

/// Servers that need this backend are often old. Level 1 takes RSA and Diffie-Hellman from 1024 bits where level 2, the
/// default of most systems, wants 2048; what certificates are believed, webpki decides as ever. It is set, so that the
/// machine's own configuration makes no difference.
const SECURITY_LEVEL: u32 = 1;

/// Forward secrecy first; then RSA key exchange, which rustls lacks. No anonymous, no unencrypted, no 3DES, no RC4.
const CIPHERS: &str =
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:RSA+AESGCM:RSA+AES:!aNULL:!eNULL:!PSK";

/// secp256k1 last: only for keys of that kind.
const GROUPS: &str = "X25519:P-256:P-384:P-521:X448:secp256k1";

/// SSL_OP_LEGACY_SERVER_CONNECT: connections with servers that cannot renegotiate safely (RFC 5746).
const LEGACY_SERVER_CONNECT: u32 = 0x4;

impl Connector {
    /// # Errors
    /// A key that only rustls can use; or OpenSSL refuses its settings.
    pub(in crate::tls::out) fn build(spec: &ClientSpec, verifier: Verifier) -> Result<Self, Problem> {
        let cards = spec.identities.iter().map(Card::new).collect::<Result<Vec<_>, _>>()?;
        let context = context(&spec.settings, !cards.is_empty()).map_err(|error| refused(&error))?;
        Ok(Self { context, verifier: Arc::new(verifier), identities: Arc::new(cards), preferred: Arc::default() })
    }

    /// Without a word in the settings: HTTP/1.1, since HTTP/2 forbids renegotiation (RFC 9113 §9.2.1) and post-handshake
    /// authentication (RFC 8740).
    pub fn offered(settings: &TlsSettings, asked: Vec<Alpn>) -> Vec<Alpn> {
        match settings.alpn {
            None if asked.contains(&Alpn::Http11) => vec![Alpn::Http11],
            _ => asked,
        }
    }
}

fn context(settings: &TlsSettings, has_identity: bool) -> Result<SslContext, ErrorStack> {
    let mut builder = SslContextBuilder::new(SslMethod::tls_client())?;
    builder.set_security_level(SECURITY_LEVEL);
    builder.set_cipher_list(CIPHERS)?;
    builder.set_groups_list(GROUPS)?;
    let (min, max) = versions(settings, has_identity);
    builder.set_min_proto_version(Some(min))?;
    builder.set_max_proto_version(Some(max))?;
    builder.clear_options(
        SslOptions::ALLOW_UNSAFE_LEGACY_RENEGOTIATION | SslOptions::from_bits_retain(LEGACY_SERVER_CONNECT.into()),
    );
    let mut options = SslOptions::NO_COMPRESSION | SslOptions::NO_TICKET;
    if settings.alpn.as_ref().is_some_and(|alpn| alpn.contains(&Alpn::H2)) {
        options |= SslOptions::NO_RENEGOTIATION;
    }
    builder.set_options(options);
    // hyper's buffers move between two attempts of one write.
    let moving = SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::ENABLE_PARTIAL_WRITE;
    builder.set_mode(moving | SslMode::AUTO_RETRY | SslMode::RELEASE_BUFFERS);
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    // OpenSSL's own check is not asked for: `connect` judges the chain by our verifier, in a callback that OpenSSL makes in
    // every handshake after the server's flight and before anything of ours is sent, and that ends the handshake.
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_status_callback(connect::judge)?;
    Ok(builder.build())
}

fn versions(settings: &TlsSettings, has_identity: bool) -> (SslVersion, SslVersion) {
    let version = |version| match version {
        TlsVersion::V1_2 => SslVersion::TLS1_2,
        TlsVersion::V1_3 => SslVersion::TLS1_3,
    };
    let min = settings.min_version.unwrap_or(TlsVersion::V1_2);
    let most = if has_identity { min } else { TlsVersion::V1_3 };
    (version(min), version(settings.max_version.unwrap_or(most)))
}

fn refused(error: &ErrorStack) -> Problem {
    Problem::new("tls-settings", None, format!("OpenSSL refuses these TLS settings: {error}"))
}

impl Card {
    fn new(identity: &Arc<Identity>) -> Result<Self, Problem> {
        let name = identity.details().name();
        let key = identity.openssl_key().ok_or_else(|| {
            Problem::new("unsupported-key", None, format!("the key of \"{name}\" cannot be used by the OpenSSL backend"))
                .help("leave `backend:` out, or name a key in a file")
        })?;
        let chain = identity.certificates().iter().map(|der| X509::from_der(der)).collect::<Result<_, _>>();
        let chain = chain.map_err(|error| refused(&error))?;
        Ok(Self { identity: identity.clone(), chain, key: key.clone() })
    }
}

#[cfg(test)]
mod tests;
