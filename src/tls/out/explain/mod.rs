//! Why TLS toward an upstream failed, in words: what was shown, what is missing, and which line of
//! the config mends it.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::client::Client;
use super::handshake::{Asked, Handshake};
use super::token::NotSigned;
use super::verify::{NoStaple, NotPinned, OtherSpiffeId};
use crate::config::{SpiffeId, TlsBackend};
#[cfg(feature = "openssl")]
use crate::failure::Retry;
use crate::failure::{Cause, Failure};
use crate::origin::Host;
use crate::tls::formats::inspect::{Details, day};

/// The failure of a handshake, or of the first read after it (where TLS 1.3 servers refuse a client
/// certificate).
pub fn failure(error: &io::Error, host: &Host, client: &Client, handshake: &Handshake) -> Failure {
    let scene = Scene { host, client, handshake, late: false };
    match find(error) {
        Some(error) => scene.tls(error),
        None => scene.closed(error),
    }
}

/// [`failure`] for an error of another kind (hyper's): `None` when TLS has no part in it.
pub fn late(error: &(dyn StdError + 'static), host: &Host, client: &Client, handshake: &Handshake) -> Option<Failure> {
    find(error).map(|error| Scene { host, client, handshake, late: true }.tls(error))
}

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
pub fn never_asked(client: &Client, handshake: &Handshake) -> Option<&'static str> {
    let spec = client.spec();
    if spec.identities.is_empty() {
        return None;
    }
    match (spec.settings.backend.unwrap_or_default(), handshake.asked()) {
        (TlsBackend::Rustls, Asked::Resumed) if client.was_asked() => None,
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

struct Scene<'a> {
    host: &'a Host,
    client: &'a Client,
    handshake: &'a Handshake,
    /// The handshake was over when it failed.
    late: bool,
}

impl Scene<'_> {
    fn tls(&self, error: &Error) -> Failure {
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
        match (self.handshake.asked(), self.client.spec().identities.first()) {
            (Asked::Unseen, Some(first)) => Asked::Shown(first.details().name().to_owned()),
            (Asked::Unseen, None) => Asked::Nothing { unfit: false },
            (other, _) => other,
        }
    }

    fn version(&self) -> Failure {
        let host = self.host;
        let spec = self.client.spec();
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
        match self.client.spec().settings.backend.unwrap_or_default() {
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

    fn certificate(&self, wrong: &CertificateError) -> Failure {
        let chain = self.handshake.presented();
        let (details, hint) = self.certificate_words(wrong, &chain);
        let failure = Failure::new(Cause::CertificateError, details);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    fn certificate_words(&self, wrong: &CertificateError, chain: &[Details]) -> (String, Option<String>) {
        use CertificateError as Wrong;
        let host = self.host;
        let Some(leaf) = chain.first() else {
            return (format!("the certificate of {host} does not verify: {wrong}"), None);
        };
        match wrong {
            Wrong::UnknownIssuer => self.unknown_issuer(leaf, chain),
            Wrong::Expired | Wrong::ExpiredContext { .. } => expired(host, chain),
            Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => (
                format!("the certificate of {host} is valid only from {}", day(leaf.not_before)),
                Some("check this machine's clock".to_owned()),
            ),
            Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => self.other_name(leaf),
            Wrong::Revoked => (self.revoked(), Some("its owner must replace it".to_owned())),
            Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => (
                format!("the certificate of {host} is not meant for servers (no serverAuth)"),
                Some("its issuer must give it the extended key usage serverAuth".to_owned()),
            ),
            Wrong::BadSignature => self.bad_signature(leaf, chain),
            Wrong::Other(other) if other.0.is::<OtherSpiffeId>() => {
                self.other_id(other.0.downcast_ref().and_then(|o: &OtherSpiffeId| o.0.as_ref()))
            }
            Wrong::Other(other) if other.0.is::<NotPinned>() => not_pinned(host, leaf),
            Wrong::Other(other) if other.0.is::<NoStaple>() => (
                format!("{host} does not show that its certificate is not revoked: {}", other.0),
                Some("it must staple OCSP responses, or take `ocsp: require` out of `tls:`".to_owned()),
            ),
            // rustls passes these on without a variant of its own.
            Wrong::Other(other) if other.0.is::<webpki::Error>() => self.by_webpki(other.0.downcast_ref(), leaf, chain),
            Wrong::UnsupportedSignatureAlgorithmContext { .. }
            | Wrong::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
                format!("the certificate of {host} is signed in a way that is not accepted (SHA-1, or an unusual curve)"),
                Some("its issuer must sign it anew with SHA-256".to_owned()),
            ),
            Wrong::BadEncoding => {
                (format!("the certificate of {host} is damaged, or not as RFC 5280 has it"), Some(self.as_it_is()))
            }
            other => (format!("the certificate of {host} does not verify: {}", spaced(&format!("{other:?}"))), None),
        }
    }

    fn by_webpki(&self, wrong: Option<&webpki::Error>, leaf: &Details, chain: &[Details]) -> (String, Option<String>) {
        use webpki::Error as Wrong;
        let host = self.host;
        match wrong {
            Some(Wrong::CaUsedAsEndEntity) => self.ca_as_server(leaf),
            // One that a trusted CA had signed would have been believed.
            Some(Wrong::UnsupportedCertVersion) if leaf.self_issued => self.unknown_issuer(leaf, chain),
            Some(Wrong::UnsupportedCertVersion) => (
                format!(
                    "the certificate of {host} is an X.509 version 1 certificate that no trusted CA signed itself (issuer \"{}\")",
                    leaf.issuer_name()
                ),
                Some(format!("add the certificate of \"{}\" to {}, or {}", leaf.issuer_name(), self.bundle(), self.as_it_is())),
            ),
            Some(Wrong::UnsupportedCriticalExtension) => (
                format!("the certificate of {host} has a critical extension that is not understood (RFC 5280 §4.2)"),
                Some(self.as_it_is()),
            ),
            Some(other) => {
                let why = spaced(&format!("{other:?}"));
                (format!("the certificate of {host} does not verify: {why}"), Some(self.as_it_is()))
            }
            None => (format!("the certificate of {host} does not verify"), None),
        }
    }

    /// For a certificate that no check of the chain will ever take.
    fn as_it_is(&self) -> String {
        format!("if it is the right one, name that certificate itself as `ca_bundle:` of the rule for {}", self.host)
    }

    fn bad_signature(&self, leaf: &Details, chain: &[Details]) -> (String, Option<String>) {
        let issuers = chain.iter().chain(self.client.spec().trust.entries());
        let keys = std::iter::once(leaf).chain(issuers.filter(|above| above.subject == leaf.issuer));
        match keys.filter_map(|details| Some((details, details.rsa_bits()?))).find(|(_, bits)| *bits < SMALLEST_RSA) {
            Some((details, bits)) => (
                format!(
                    "the certificate \"{}\" of {} has an RSA key of {bits} bits, too short to be believed; {SMALLEST_RSA} are needed",
                    details.name(),
                    self.host
                ),
                Some("its owner must make a new key and certificate".to_owned()),
            ),
            None => same_name(self.host, leaf),
        }
    }

    fn unknown_issuer(&self, leaf: &Details, chain: &[Details]) -> (String, Option<String>) {
        let host = self.host;
        if leaf.self_issued {
            return (
                format!("{host} shows a certificate that it issued itself ({})", leaf.name()),
                Some(format!(
                    "if it is the right one (SHA-256 {}), name that certificate as `ca_bundle:` of the rule for {host}",
                    leaf.fingerprint_text()
                )),
            );
        }
        let missing = missing_issuer(chain);
        (
            format!("the certificate of {host} is issued by \"{missing}\", which is not trusted"),
            Some(format!("add the certificate of \"{missing}\" to {}", self.bundle())),
        )
    }

    fn revoked(&self) -> String {
        let host = self.host;
        match self.client.spec().crls.is_empty() {
            true => format!("the certificate of {host} is revoked, says the OCSP response that it sends along"),
            false => format!("the certificate of {host} is revoked, says the list in `tls: {{ crl }}` or its OCSP response"),
        }
    }

    /// Where a CA would be added: the file that the rule's bundle names, or the line that would name one.
    fn bundle(&self) -> String {
        let files = self.client.spec().trust.files();
        match files.first().and_then(|file| file.file_name()) {
            Some(file) => format!("{}, the `ca_bundle:` of the rule for {}", file.to_string_lossy(), self.host),
            None => format!("a file and name it in the rule for {}: `ca_bundle: FILE`", self.host),
        }
    }

    fn ca_as_server(&self, leaf: &Details) -> (String, Option<String>) {
        let host = self.host;
        (
            format!("{host} shows a CA certificate ({}) as its own", leaf.name()),
            Some(format!("if it is the right one, name that certificate itself as `ca_bundle:` of the rule for {host}")),
        )
    }

    fn other_id(&self, shown: Option<&SpiffeId>) -> (String, Option<String>) {
        let host = self.host;
        let expected =
            self.client.spec().settings.spiffe_id.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        match shown {
            Some(id) => (
                format!("{host} has the SPIFFE ID {id}, and {expected} is expected"),
                Some(format!("if it is the right server, set `tls: {{ spiffe_id: \"{id}\" }}` in the rule for {host}")),
            ),
            None => (
                format!("the certificate of {host} has no SPIFFE ID, and {expected} is expected"),
                Some("take `spiffe_id` out of the rule to check its host name instead".to_owned()),
            ),
        }
    }

    fn other_name(&self, leaf: &Details) -> (String, Option<String>) {
        if let Some(id) = leaf.sans.iter().find_map(|san| san.strip_prefix("uri:").filter(|uri| uri.starts_with("spiffe://"))) {
            return (
                format!("the certificate of {} is for the SPIFFE ID {id}, not for a host name", self.host),
                Some(format!("if it is the right server, set `tls: {{ spiffe_id: \"{id}\" }}` in the rule for {}", self.host)),
            );
        }
        let wanted = self.client.checked_host(self.host);
        if leaf.sans.is_empty() {
            let cn = leaf.common_name.as_deref().unwrap_or("none");
            return (
                format!("the certificate of {} has no subject alternative name, only the common name {cn}", self.host),
                Some("reissue it with a subject alternative name, or name the certificate itself as `ca_bundle:`".to_owned()),
            );
        }
        (
            format!("the certificate of {} is not valid for {wanted}, only for {}", self.host, list(&leaf.sans)),
            Some("use a host name that it has, or set `tls: { server_name: … }`".to_owned()),
        )
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
                let asks_late = self.late.then(|| never_asked(self.client, self.handshake)).flatten();
                Failure::new(Cause::TlsProtocol, format!("{host} refused the handshake (alert {})", name(alert)))
                    .hint(asks_late.unwrap_or_else(|| self.no_cipher()))
            }
            Alert::ProtocolVersion => self.version(),
            Alert::NoApplicationProtocol => self.protocol(),
            Alert::UnrecognisedName => {
                let name = self.client.checked_host(host);
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
                never_asked(self.client, self.handshake)
                    .unwrap_or("the server speaks of the client certificate: look into its log")
                    .to_owned(),
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

/// What aws-lc-rs verifies with.
const SMALLEST_RSA: usize = 2048;

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

/// The certificate the chain ends below: issuer of the last one that is linked from the leaf.
fn missing_issuer(chain: &[Details]) -> String {
    let mut at = &chain[0];
    // At most one step for each certificate presented.
    for _ in chain {
        match chain.iter().find(|above| above.subject == at.issuer && above.fingerprint_sha256 != at.fingerprint_sha256) {
            Some(above) => at = above,
            None => break,
        }
    }
    at.issuer_name().to_owned()
}

fn expired(host: &Host, chain: &[Details]) -> (String, Option<String>) {
    let now = std::time::SystemTime::now();
    let whose = chain.iter().position(|c| c.is_expired(now)).unwrap_or(0);
    let date = day(chain[whose].not_after);
    match whose {
        0 => (format!("the certificate of {host} expired on {date}"), Some("its owner must renew it".to_owned())),
        _ => (
            format!("the intermediate certificate \"{}\" of {host} expired on {date}", chain[whose].name()),
            Some("the server must send a new one".to_owned()),
        ),
    }
}

/// A CA that was made anew under its old name: the old one in the bundle matches by name only.
fn same_name(host: &Host, leaf: &Details) -> (String, Option<String>) {
    let issuer = leaf.issuer_name();
    (
        format!("the certificate of {host} is not signed by the \"{issuer}\" that is trusted, only by one of that name"),
        Some(format!("if \"{issuer}\" was made anew, put its new certificate into the `ca_bundle:` of the rule for {host}")),
    )
}

fn not_pinned(host: &Host, leaf: &Details) -> (String, Option<String>) {
    use base64::Engine;
    let pin = base64::engine::general_purpose::STANDARD.encode(leaf.spki_sha256);
    (
        format!("no public key in the certificate chain of {host} is one of `tls: {{ pins }}`"),
        Some(format!("if the server's key was changed on purpose, add the pin of its new certificate: sha256/{pin}")),
    )
}

/// At most eight of them: certificates of large sites have hundreds.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0..=SHOWN => names.join(", "),
        more => format!("{} and {} more", names[..SHOWN].join(", "), more - SHOWN),
    }
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
#[path = "explain_tests.rs"]
mod tests;
