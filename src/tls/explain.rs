//! What a TLS failure toward the upstream means, and which config line mends it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::client::Client;
use super::inspect::{self, Details};
use super::verify::NOT_PINNED;
use crate::failure::{Cause, Failure};
use crate::origin::Host;

/// Turns an error of a handshake or of a later read into words.
pub fn failure(error: &io::Error, host: &Host, client: &Client) -> Failure {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return broken_off(error, host, client);
    };
    match tls {
        Error::InvalidCertificate(why) => certificate(why, host, client),
        Error::General(text) if text == NOT_PINNED => {
            Failure::new(Cause::CertificateError, format!("{host} showed a certificate whose key is none of `tls.pins`"))
                .hint("if its key was changed on purpose, put the new pin into the rule")
        }
        Error::AlertReceived(alert) => self::alert(*alert, host, client),
        Error::PeerIncompatible(why) => {
            Failure::new(Cause::TlsProtocol, format!("{host} and gatepass have no TLS version or cipher in common ({why:?})"))
                .hint("TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3, is needed")
        }
        Error::InvalidMessage(_) => Failure::new(Cause::TlsProtocol, format!("{host} does not answer with TLS"))
            .hint("if it speaks plain HTTP there, use an http:// URL and `scheme: http` in its rule"),
        other => Failure::new(Cause::TlsProtocol, format!("TLS with {host} failed: {other}")),
    }
}

fn broken_off(error: &io::Error, host: &Host, client: &Client) -> Failure {
    let base = Failure::new(Cause::ConnectionTerminated, format!("{host} closed the connection ({error})"));
    match (client.identity(), client.was_asked()) {
        // TLS 1.2 renegotiation, which rustls refuses: Apache per-location certificates, IIS by default.
        (Some(name), false) => base.hint(format!(
            "client certificate `{name}` was never asked for in the handshake; if the server asks only after the request (per-location client certificates), let it ask at once"
        )),
        (Some(name), true) => base.hint(format!("it was shown client certificate `{name}` and may have refused it")),
        (None, true) => base.hint("it asked for a client certificate and no rule names one; add `client_certificate:`"),
        (None, false) => base,
    }
}

fn certificate(why: &CertificateError, host: &Host, client: &Client) -> Failure {
    let shown = client.verifier().refused();
    let leaf = shown.first().and_then(|der| Details::of(der).ok());
    let fail = |details: String| Failure::new(Cause::CertificateError, details);
    let Some(leaf) = leaf else { return fail(format!("the certificate of {host} is not valid: {why}")) };
    match why {
        CertificateError::UnknownIssuer => unknown_issuer(host, &shown, &leaf),
        CertificateError::BadSignature => fail(format!(
            "{host} presented a certificate from another `{}` than the one that is trusted",
            inspect::common_name(&leaf.issuer)
        ))
        .hint("the bundle holds a CA of the same name with another key; get the CA's current certificate"),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            fail(format!("the certificate of {host} expired on {}", inspect::date(leaf.not_after)))
                .hint("the server needs a new one; or check the clock of this machine")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            fail(format!("the certificate of {host} is not valid before {}", inspect::date(leaf.not_before)))
                .hint("check the clock of this machine")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => not_for_name(host, &leaf),
        CertificateError::Revoked => fail(format!("the certificate of {host} is revoked")),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            fail(format!("{host} shows a CA certificate (`{}`) as its own", leaf.short_subject()))
                .hint("to believe exactly this certificate, name its PEM file in `ca_bundle:`")
        }
        other => fail(format!("the certificate of {host} (`{}`) is not valid: {other}", leaf.short_subject())),
    }
}

fn unknown_issuer(host: &Host, shown: &[rustls::pki_types::CertificateDer<'static>], leaf: &Details) -> Failure {
    let last = shown.last().and_then(|der| Details::of(der).ok());
    let missing = last.as_ref().map_or(&leaf.issuer, |last| &last.issuer);
    if leaf.subject == leaf.issuer {
        return Failure::new(
            Cause::CertificateError,
            format!("{host} presented a self-signed certificate (`{}`)", leaf.short_subject()),
        )
        .hint("to believe exactly this certificate, save it as PEM and add `ca_bundle: FILE` to the rule");
    }
    Failure::new(
        Cause::CertificateError,
        format!("{host} presented a certificate from `{}`, which is not trusted", inspect::common_name(missing)),
    )
    .hint("add `ca_bundle: FILE` with that CA's certificate to the rule for this host")
}

fn not_for_name(host: &Host, leaf: &Details) -> Failure {
    if leaf.names.is_empty() {
        return Failure::new(
            Cause::CertificateError,
            format!(
                "the certificate of {host} names it only in its common name (`{}`), which no longer counts",
                leaf.short_subject()
            ),
        )
        .hint("the server needs a certificate with a subject alternative name; or name this very certificate in `ca_bundle:`");
    }
    let names = leaf.names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    Failure::new(Cause::CertificateError, format!("the certificate there is for {names}, not for {host}"))
        .hint("check the host, or say what the server is called with `tls: { server_name: … }`")
}

fn alert(alert: AlertDescription, host: &Host, client: &Client) -> Failure {
    use AlertDescription as A;
    let about_us = matches!(
        alert,
        A::CertificateRequired
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError
    );
    let failure = Failure::new(Cause::TlsAlert, format!("{host} ended TLS with the alert {alert:?}"));
    match (about_us, client.identity(), client.was_asked()) {
        (true, None, _) => failure.hint("it wants a client certificate and no rule names one; add `client_certificate:` to the rule for this host"),
        (true, Some(name), _) => failure.hint(format!("it refused client certificate `{name}`; check that it is the right one, not expired, and that its chain is in the file")),
        (false, None, true) => failure.hint("it asked for a client certificate and no rule names one; add `client_certificate:`"),
        (false, Some(name), false) if alert == A::HandshakeFailure => failure.hint(format!(
            "client certificate `{name}` was not asked for; a server that asks only after the request (TLS 1.2 renegotiation) cannot be served"
        )),
        (false, _, _) if alert == A::HandshakeFailure => failure.hint("no TLS version or cipher in common; TLS 1.2 with ECDHE, or TLS 1.3, is needed"),
        (false, _, _) if alert == A::NoApplicationProtocol => failure.hint("it offers none of the protocols of `tls.alpn`"),
        (false, _, _) if alert == A::UnrecognisedName => failure.hint("it does not know this name; say what it is called with `tls: { server_name: … }`"),
        (false, Some(name), true) => failure.hint(format!("it was shown client certificate `{name}`")),
        _ => failure,
    }
}
