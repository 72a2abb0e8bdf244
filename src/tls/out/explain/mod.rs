//! Why TLS toward an upstream failed, in words: what was shown, what is missing, and which line of
//! the config mends it.

mod certificate;

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};

use super::client_spec::ClientSpec;
use super::handshake::{Asked, Handshake};
use super::token::NotSigned;
#[cfg(feature = "openssl")]
use crate::failure::Retry;
use crate::failure::{Cause, Failure};
use crate::origin::Host;
use crate::tls::settings::TlsBackend;

/// The TLS error inside another one (of hyper, of the socket), if there is one.
pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        // An io::Error hides what it wraps from `source` and shows only the wrapped error's source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Does the peer say by an alert that it misses a client certificate, or one that it knows?
pub fn wants_certificate(failure: &Failure) -> bool {
    use AlertDescription as Alert;
    let Some(Error::AlertReceived(alert)) = failure.source().and_then(find) else { return false };
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::CertificateUnobtainable
            | Alert::UnknownCA
    )
}

/// The mend for what rustls leaves out.
macro_rules! with_openssl {
    ($what:literal) => {
        if cfg!(feature = "openssl") {
            concat!($what, ": set `tls: { backend: openssl }`")
        } else {
            concat!(
                $what,
                ": set `tls: { backend: openssl }`, in a build that has it (the container image, or the cargo \
                 feature `openssl`)"
            )
        }
    };
}

/// For a 403, or an end of connection in place of an answer: a certificate is configured and the
/// server never asked for it in the handshake. Servers that ask later (Apache per location, IIS by
/// default) are not served by rustls; OpenSSL serves those that ask by renegotiation.
pub(super) fn never_asked(spec: &ClientSpec, was_asked: bool, handshake: &Handshake) -> Option<&'static str> {
    if spec.identities.is_empty() {
        return None;
    }
    match (spec.settings.backend.unwrap_or_default(), handshake.asked()) {
        (TlsBackend::Rustls, Asked::Resumed) if was_asked => None,
        (TlsBackend::Rustls, Asked::No | Asked::Resumed) => Some(with_openssl!(
            "a client certificate is configured but the server never asked for it in the handshake; one that asks only for some \
             paths (renegotiation in TLS 1.2, post-handshake authentication in TLS 1.3) is served by the OpenSSL backend"
        )),
        (TlsBackend::Openssl, Asked::Unseen) => Some(
            "a client certificate is configured; a server that asks for it only for some paths can do so in TLS 1.2, not in TLS 1.3 \
             (post-handshake authentication): leave `max_version` out or set `tls: { max_version: \"1.2\" }`",
        ),
        _ => None,
    }
}

/// What is known of a connection that failed.
pub(super) struct Scene<'a> {
    pub host: &'a Host,
    pub spec: &'a ClientSpec,
    /// A server asked for a certificate in some handshake by this spec: what a resumed session does not tell.
    pub was_asked: bool,
    pub handshake: &'a Handshake,
    /// The handshake was over when it failed.
    pub late: bool,
}

impl Scene<'_> {
    /// Of a handshake, or of the first read after it.
    pub fn failure(&self, error: &io::Error) -> Failure {
        match find(error) {
            Some(error) => self.tls(error),
            None => self.closed(error),
        }
    }

    /// `None` when TLS has no part in it.
    pub fn late_failure(&self, error: &(dyn StdError + 'static)) -> Option<Failure> {
        find(error).map(|error| self.tls(error))
    }

    fn never_asked(&self) -> Option<&'static str> {
        never_asked(self.spec, self.was_asked, self.handshake)
    }

    fn tls(&self, error: &Error) -> Failure {
        self.words(error).caused_by(error.clone())
    }

    fn words(&self, error: &Error) -> Failure {
        let host = self.host;
        match error {
            Error::InvalidCertificate(wrong) => self.certificate(wrong),
            Error::AlertReceived(alert) => self.alert(*alert),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                Failure::new(Cause::TlsProtocol, format!("{host} does not speak TLS on this port"))
                    .hint("if it is plain HTTP, ask for it with `scheme: http`; otherwise check the port")
            }
            Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig) => self.version(),
            Error::PeerIncompatible(_) => {
                Failure::new(Cause::TlsProtocol, format!("{host} and gatepass have no TLS parameters in common: {error}"))
                    .hint(self.no_cipher())
            }
            Error::NoApplicationProtocol => self.protocol(),
            Error::Other(other) if other.0.is::<NotSigned>() => not_signed(host, &other.0.to_string()),
            Error::General(reason) if reason == "unsafe legacy renegotiation disabled" => {
                Failure::new(Cause::TlsProtocol, format!("{host} cannot renegotiate safely (RFC 5746)"))
                    .hint("its TLS library is from before 2010 and must be renewed")
            }
            #[cfg(feature = "openssl")]
            Error::General(reason) if reason == super::openssl::AGAIN => {
                Failure::new(Cause::TlsProtocol, format!("TLS with {host} failed: {reason}")).retry(Retry::NothingSent)
            }
            Error::General(reason) => Failure::new(Cause::TlsProtocol, format!("TLS with {host} failed: {reason}")),
            Error::InvalidCertRevocationList(wrong) => {
                let why = spaced(&format!("{wrong:?}"));
                let details = format!("whether the certificate of {host} is revoked cannot be told: {why}");
                Failure::new(Cause::CertificateError, details).hint("check the files of `tls: { crl }` and whose lists they are")
            }
            other => Failure::new(Cause::TlsProtocol, format!("TLS with {host} failed: {other}")),
        }
    }

    /// What the server asked for. Where that is not seen, an alert about a certificate means that it asked.
    fn asked(&self) -> Asked {
        match (self.handshake.asked(), self.spec.identities.first()) {
            (Asked::Unseen, Some(first)) => Asked::Shown(first.details().name().to_owned()),
            (Asked::Unseen, None) => Asked::Nothing { unfit: false },
            (other, _) => other,
        }
    }

    fn version(&self) -> Failure {
        let host = self.host;
        let spec = self.spec;
        let only_1_2 = spec.settings.backend == Some(TlsBackend::Openssl)
            && spec.settings.max_version.is_none()
            && !spec.identities.is_empty();
        Failure::new(Cause::TlsProtocol, format!("{host} does not speak a TLS version that is allowed")).hint(match only_1_2 {
            true => "with a client certificate the OpenSSL backend offers TLS 1.2 alone: set `tls: { max_version: \"1.3\" }`",
            false => "TLS 1.2 and 1.3 are supported; `tls: { min_version, max_version }` narrow that",
        })
    }

    /// Server and gatepass have no cipher in common.
    fn no_cipher(&self) -> &'static str {
        match self.spec.settings.backend.unwrap_or_default() {
            TlsBackend::Rustls => with_openssl!(
                "it needs TLS 1.2 with ECDHE, or TLS 1.3; one that has only RSA key exchange is served by the OpenSSL backend"
            ),
            TlsBackend::Openssl => "the server has no cipher that is still safe: it needs TLS 1.2 with AES, or TLS 1.3",
        }
    }

    fn protocol(&self) -> Failure {
        Failure::new(Cause::TlsProtocol, format!("{} speaks none of the protocols offered (ALPN)", self.host))
            .hint("set `tls: { alpn: [http/1.1] }` or `[h2]`, as the server has it")
    }

    fn alert(&self, alert: AlertDescription) -> Failure {
        use AlertDescription as Alert;
        let host = self.host;
        match alert {
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied => self.refused(alert),
            // TLS 1.2 has no certificate_required; OpenSSL and nginx say handshake_failure.
            Alert::HandshakeFailure if !matches!(self.handshake.asked(), Asked::No | Asked::Resumed) => self.refused(alert),
            Alert::HandshakeFailure => {
                let asks_late = self.late.then(|| self.never_asked()).flatten();
                Failure::new(Cause::TlsProtocol, format!("{host} refused the handshake (alert {})", name(alert)))
                    .hint(asks_late.unwrap_or_else(|| self.no_cipher()))
            }
            Alert::ProtocolVersion => self.version(),
            Alert::NoApplicationProtocol => self.protocol(),
            Alert::UnrecognisedName => {
                let name = self.spec.checked_host(host);
                Failure::new(Cause::TlsProtocol, format!("{host} does not know the name {name} (alert unrecognized_name)"))
                    .hint("check the host, or set `tls: { server_name: … }`")
            }
            other => Failure::new(Cause::TlsProtocol, format!("{host} ended TLS with the alert {}", name(other))),
        }
    }

    /// The server is not content with our certificate, or with there being none.
    fn refused(&self, alert: AlertDescription) -> Failure {
        let host = self.host;
        let alert_name = name(alert);
        let (details, hint) = match self.asked() {
            Asked::Shown(shown) => {
                (format!("{host} refused the client certificate \"{shown}\" (alert {alert_name})"), self.refused_hint(alert))
            }
            Asked::Nothing { unfit: true } => (
                format!(
                    "{host} asked for a client certificate, and none of those configured has a key it accepts (alert {alert_name})"
                ),
                "it wants another kind of key (RSA, EC): use a certificate with such a one".to_owned(),
            ),
            Asked::Nothing { unfit: false } => (
                format!("{host} asked for a client certificate and no rule names one (alert {alert_name})"),
                format!("add `client_certificate:` to a rule for {host}"),
            ),
            Asked::No | Asked::Resumed | Asked::Unseen => (
                format!("{host} ended TLS with the alert {alert_name}"),
                self.never_asked().unwrap_or("the server speaks of the client certificate: look into its log").to_owned(),
            ),
        };
        Failure::new(Cause::TlsAlert, details).hint(hint)
    }

    fn refused_hint(&self, alert: AlertDescription) -> String {
        match alert {
            AlertDescription::CertificateExpired => "renew the client certificate".to_owned(),
            AlertDescription::CertificateRevoked => "its issuer has revoked it: ask for a new one".to_owned(),
            AlertDescription::UnknownCA => {
                "the server does not know its issuer: put the intermediate certificates into the file, or ask the server's owner \
                 which CA it believes"
                    .to_owned()
            }
            _ => "ask the server's owner which certificates it takes; its log says more".to_owned(),
        }
    }

    /// The connection ended without a word. JSSE ends so when it wants a client certificate.
    fn closed(&self, error: &io::Error) -> Failure {
        let host = self.host;
        let failure = Failure::new(Cause::ConnectionTerminated, format!("{host} closed the connection during TLS: {error}"));
        match self.handshake.asked() {
            Asked::Nothing { unfit: false } => failure
                .hint(format!("it asked for a client certificate and no rule names one: add `client_certificate:` for {host}")),
            Asked::Nothing { unfit: true } => failure.hint("it asked for a client certificate with another kind of key"),
            Asked::Shown(shown) => {
                failure.hint(format!("it may have refused the client certificate \"{shown}\"; its log says more"))
            }
            Asked::No | Asked::Resumed | Asked::Unseen => failure,
        }
    }
}

/// The name of an error, without what it holds, as words: `UnsupportedNameType(…)` → `unsupported name type`.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars().take_while(|c| c.is_alphanumeric()) {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

fn not_signed(host: &Host, why: &str) -> Failure {
    Failure::new(Cause::Credential, format!("no client certificate could be shown to {host}: {why}"))
        .hint("gatepass opens the token again at the next request")
}

/// The alert by its name in RFC 8446 §6.
fn name(alert: AlertDescription) -> String {
    let spelled = alert.as_str().unwrap_or("unknown");
    let mut out = String::new();
    let mut last_lower = false;
    for c in spelled.chars() {
        if c.is_uppercase() && last_lower {
            out.push('_');
        }
        last_lower = c.is_lowercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests;
