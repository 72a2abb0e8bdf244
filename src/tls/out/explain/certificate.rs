//! What is wrong with the certificate that a server showed.

use rustls::CertificateError;

use super::{Scene, spaced};
use crate::failure::{Cause, Failure};
use crate::origin::Host;
use crate::tls::formats::inspect::{Details, day};
use crate::tls::out::verify::{NoStaple, NotPinned, OtherSpiffeId};
use crate::workload::SpiffeId;

/// What aws-lc-rs verifies with.
const SMALLEST_RSA: usize = 2048;

impl Scene<'_> {
    pub(super) fn certificate(&self, wrong: &CertificateError) -> Failure {
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
        let issuers = chain.iter().chain(self.spec.trust.entries());
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
        match self.spec.crls.is_empty() {
            true => format!("the certificate of {host} is revoked, says the OCSP response that it sends along"),
            false => format!("the certificate of {host} is revoked, says the list in `tls: {{ crl }}` or its OCSP response"),
        }
    }

    /// Where a CA would be added: the file that the rule's bundle names, or the line that would name one.
    fn bundle(&self) -> String {
        let files = self.spec.trust.files();
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
        let expected = self.spec.settings.spiffe_id.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
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
        let wanted = self.spec.checked_host(self.host);
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
