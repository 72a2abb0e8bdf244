//! The check of a server's certificate: webpki's, and around it what people's certificates need:
//! certificates trusted as they are, pins, revocation lists, and the one way out.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertRevocationListError, CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::trust::Trust;
use super::{handshake, raw_key, svid};
use crate::tls::formats::crl::{Crls, PlainCrl};
use crate::tls::formats::inspect::Details;
use crate::tls::formats::ocsp::{self, Staple};
use crate::tls::settings::TlsSettings;
use crate::tls::{Problem, provider};
use crate::workload::SpiffeId;

/// The chain is right, but `tls: { ocsp: require }` is not met; what is wrong with the response.
#[derive(Debug)]
pub struct NoStaple(pub &'static str);

impl fmt::Display for NoStaple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its OCSP response {}", self.0)
    }
}
impl std::error::Error for NoStaple {}

/// The chain is right, and none of its public keys is pinned.
#[derive(Debug)]
pub struct NotPinned;

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no public key of the chain is pinned")
    }
}
impl std::error::Error for NotPinned {}

/// The certificate has none of the SPIFFE IDs that are expected; the one it has.
#[derive(Debug)]
pub struct OtherSpiffeId(pub Option<SpiffeId>);

impl fmt::Display for OtherSpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the certificate does not have the SPIFFE ID that is expected")
    }
}
impl std::error::Error for OtherSpiffeId {}

pub(super) struct Verifier {
    /// `None`: there is no anchor; only certificates trusted as they are can pass.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    trust: Arc<Trust>,
    crls: Crls,
    /// Instead of the host's name: an ID, and the CAs of its trust domain.
    spiffe: Option<Vec<(SpiffeId, Option<Arc<WebPkiServerVerifier>>)>>,
    pins: Option<Pins>,
    accept_invalid_certs: bool,
    staple_required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

struct Pins {
    digests: Vec<[u8; 32]>,
    /// The anchors of the trust that are pinned.
    anchors: Vec<TrustAnchor<'static>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    pub(super) fn new(trust: Arc<Trust>, crls: &Crls, settings: &TlsSettings, danger: bool) -> Result<Self, Problem> {
        let webpki = webpki(trust.anchors(), crls)?;
        let for_id = |id: &SpiffeId| -> Result<_, Problem> {
            let anchors = trust.anchors_of(&id.domain);
            Ok((id.clone(), anchors.map(|anchors| self::webpki(anchors, crls)).transpose()?.flatten()))
        };
        let spiffe = settings.spiffe_id.as_ref().map(|ids| ids.iter().map(for_id).collect()).transpose()?;
        let pins = settings.pins.as_deref();
        let pins = pins.map(|digests| Pins { digests: digests.to_vec(), anchors: trust.pinned_anchors(digests) });
        let algorithms = provider().signature_verification_algorithms;
        let crls = crls.clone();
        Ok(Self { webpki, trust, crls, spiffe, pins, accept_invalid_certs: danger, staple_required: false, algorithms })
    }

    /// A server must send along an OCSP response that holds.
    pub(super) fn require_staple(self, staple_required: bool) -> Self {
        Self { staple_required, ..self }
    }

    /// A response that says "revoked" is believed; one that proves nothing is as good as none, since whoever
    /// could spoil it could leave it out.
    fn check_staple(&self, shown: &Shown<'_>, response: &[u8]) -> Result<(), Error> {
        let now = UNIX_EPOCH + Duration::from_secs(shown.now.as_secs());
        let staple = match response.is_empty() {
            true => Staple::Unusable("is missing"),
            false => ocsp::read(response, shown.leaf, shown.above, &self.trust.anchors().roots, now),
        };
        match staple {
            Staple::Good => Ok(()),
            Staple::Revoked => Err(CertificateError::Revoked.into()),
            Staple::Unusable(why) if self.staple_required => {
                Err(CertificateError::Other(OtherError(Arc::new(NoStaple(why)))).into())
            }
            Staple::Unusable(why) => {
                tracing::trace!("the server's OCSP response {why}");
                Ok(())
            }
        }
    }

    fn check(&self, shown: &Shown<'_>, ocsp: &[u8]) -> Result<(), Error> {
        if let Some(expected) = &self.spiffe {
            return check_id(expected, shown, ocsp);
        }
        let verdict = by_webpki(self.webpki.as_ref(), shown, ocsp);
        match verdict {
            Err(Error::InvalidCertificate(CertificateError::Revoked)) => verdict,
            Err(_) if self.trust.holds(shown.leaf) => check_as_it_is(shown),
            Err(_) if self.is_issued_without_extensions(shown.leaf) => {
                check_as_it_is(shown)?;
                let lists = self.crls.lists().iter().filter_map(|der| PlainCrl::read(der));
                lists.into_iter().try_for_each(|list| self.check_plain_crl(&list, shown.leaf, shown))
            }
            _ => verdict,
        }
    }

    /// An X.509 version 1 certificate that a CA of the trust signed itself: what `openssl x509 -req` makes where no
    /// extensions are asked for. webpki refuses the version; OpenSSL, and with it curl, takes it. Without extensions there
    /// is nothing in it to be misjudged; a CA with name constraints does not count, since they are not checked here.
    fn is_issued_without_extensions(&self, leaf: &CertificateDer<'_>) -> bool {
        let Some(tbs) = raw_key::Tbs::read(leaf).filter(|tbs| tbs.is_version_1) else { return false };
        let issuers = self.trust.anchors().roots.iter().filter(|anchor| *anchor.subject == *tbs.issuer);
        issuers
            .filter(|anchor| anchor.name_constraints.is_none())
            .any(|anchor| raw_key::is_signed_by(leaf, &raw_key::key_of_anchor(anchor), &self.algorithms))
    }

    /// The lists that webpki does not read. Fails closed: a list in the name of an issuer that is there, but not signed by
    /// it, says nothing good.
    fn check_plain_crls(&self, shown: &Shown<'_>) -> Result<(), Error> {
        self.crls.plain().iter().try_for_each(|list| {
            let mut certificates = std::iter::once(shown.leaf).chain(shown.above);
            certificates.try_for_each(|certificate| self.check_plain_crl(list, certificate, shown))
        })
    }

    /// Whoever issued a certificate that was believed is among those shown, or an anchor.
    fn check_plain_crl(&self, list: &PlainCrl, certificate: &CertificateDer<'_>, shown: &Shown<'_>) -> Result<(), Error> {
        let Some(tbs) = raw_key::Tbs::read(certificate).filter(|tbs| tbs.issuer == list.issuer) else { return Ok(()) };
        let anchors = self.trust.anchors().roots.iter().filter(|anchor| *anchor.subject == *tbs.issuer);
        let above = shown.above.iter().filter_map(|der| raw_key::Tbs::read(der)).filter(|above| above.subject == tbs.issuer);
        let keys: Vec<_> = anchors.map(raw_key::key_of_anchor).chain(above.map(|above| above.key)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        if !keys.iter().any(|key| raw_key::is_signed_by(&list.der, key, &self.algorithms)) {
            return Err(CertRevocationListError::BadSignature.into());
        }
        match list.serials.contains(&tbs.serial) {
            true => Err(CertificateError::Revoked.into()),
            false => Ok(()),
        }
    }

    /// A pin must name a key on the *verified* path: a server may present any certificate beside its
    /// chain. So the chain is verified again, to the pinned certificates only.
    fn check_pins(&self, pins: &Pins, shown: &Shown<'_>) -> Result<(), Error> {
        let pinned = |der: &CertificateDer<'_>| Details::read(der).is_ok_and(|d| pins.digests.contains(&d.spki_sha256));
        if pinned(shown.leaf) {
            return Ok(());
        }
        let mut anchors = RootCertStore { roots: pins.anchors.clone() };
        anchors.add_parsable_certificates(shown.above.iter().filter(|der| pinned(der)).cloned());
        let not_pinned = || Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotPinned))));
        let leaf = ParsedCertificate::try_from(shown.leaf).map_err(|_| not_pinned())?;
        let to_pinned = verify_server_cert_signed_by_trust_anchor(&leaf, &anchors, shown.above, shown.now, self.algorithms.all);
        to_pinned.map_err(|_| not_pinned())
    }
}

struct Shown<'a> {
    leaf: &'a CertificateDer<'a>,
    above: &'a [CertificateDer<'a>],
    name: &'a ServerName<'a>,
    now: UnixTime,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        handshake::note_presented(end_entity, intermediates);
        let shown = Shown { leaf: end_entity, above: intermediates, name: server_name, now };
        if !self.accept_invalid_certs {
            self.check(&shown, ocsp_response)?;
            self.check_plain_crls(&shown)?;
            self.check_staple(&shown, ocsp_response)?;
        }
        if let Some(pins) = &self.pins {
            self.check_pins(pins, &shown)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    // Also with `accept_invalid_certs`: whoever shows the certificate must hold its key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match raw_key::is_unreadable(cert) {
            true => raw_key::verify_tls12(message, cert, dss, &self.algorithms),
            false => verify_tls12_signature(message, cert, dss, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match raw_key::is_unreadable(cert) {
            true => raw_key::verify_tls13(message, cert, dss, &self.algorithms),
            false => verify_tls13_signature(message, cert, dss, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Revocation of a certificate that no list speaks of is unknown, and allowed: lists are given by
/// the user for some CAs, not for the whole web.
/// `None`: there is no anchor.
fn webpki(anchors: &Arc<RootCertStore>, crls: &Crls) -> Result<Option<Arc<WebPkiServerVerifier>>, Problem> {
    if anchors.is_empty() {
        return Ok(None);
    }
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(anchors), provider());
    if !crls.lists().is_empty() {
        builder = builder.with_crls(crls.lists().to_vec()).allow_unknown_revocation_status();
    }
    builder.build().map(Some).map_err(|error| {
        Problem::new("bad-crl", None, format!("a revocation list cannot be used: {error}"))
            .help("lists with delta or indirect entries are not supported; name complete ones")
    })
}

fn by_webpki(webpki: Option<&Arc<WebPkiServerVerifier>>, shown: &Shown<'_>, ocsp: &[u8]) -> Result<(), Error> {
    match webpki {
        Some(webpki) => webpki.verify_server_cert(shown.leaf, shown.above, shown.name, ocsp, shown.now).map(|_| ()),
        None => Err(CertificateError::UnknownIssuer.into()),
    }
}

/// X509-SVID §5: a valid path to a CA of the ID's own trust domain, and the ID is one that is expected.
fn check_id(expected: &[(SpiffeId, Option<Arc<WebPkiServerVerifier>>)], shown: &Shown<'_>, ocsp: &[u8]) -> Result<(), Error> {
    let id = svid::id_of(shown.leaf);
    let Some((_, webpki)) = id.as_ref().and_then(|id| expected.iter().find(|(wanted, _)| wanted.admits(id))) else {
        return Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(OtherSpiffeId(id))))));
    };
    match by_webpki(webpki.as_ref(), shown, ocsp) {
        // The name is what webpki looks at last: all else was right, and the ID stands for it.
        Err(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
            Ok(())
        }
        verdict => verdict,
    }
}

/// A certificate that the bundle holds byte for byte: believed without an issuer, but still only
/// while it is valid and only for its names. One without alternative names is valid for its common
/// name, as OpenSSL has it.
fn check_as_it_is(shown: &Shown<'_>) -> Result<(), Error> {
    let details = Details::read(shown.leaf).map_err(|_| CertificateError::BadEncoding)?;
    let now = UNIX_EPOCH + Duration::from_secs(shown.now.as_secs());
    if details.is_expired(now) {
        let not_after = unix_time(details.not_after);
        return Err(CertificateError::ExpiredContext { time: shown.now, not_after }.into());
    }
    if details.is_early(now) {
        let not_before = unix_time(details.not_before);
        return Err(CertificateError::NotValidYetContext { time: shown.now, not_before }.into());
    }
    let by_common_name = || details.common_name.as_deref().is_some_and(|cn| names(cn, shown.name));
    if details.sans.is_empty() && by_common_name() {
        return Ok(());
    }
    match ParsedCertificate::try_from(shown.leaf) {
        Ok(leaf) => verify_server_name(&leaf, shown.name),
        Err(_) if details.sans.iter().any(|san| names(san, shown.name)) => Ok(()),
        Err(_) => Err(CertificateError::NotValidForName.into()),
    }
}

fn unix_time(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// RFC 6125 §6.4: equal without regard to case, or `*` as the whole leftmost label.
fn names(common_name: &str, name: &ServerName<'_>) -> bool {
    match name {
        ServerName::DnsName(host) => {
            let host = host.as_ref();
            let wildcard = common_name.strip_prefix("*.").filter(|suffix| suffix.contains('.'));
            match (wildcard, host.split_once('.')) {
                (Some(suffix), Some((_, parent))) => suffix.eq_ignore_ascii_case(parent),
                _ => common_name.eq_ignore_ascii_case(host),
            }
        }
        ServerName::IpAddress(ip) => common_name.parse::<IpAddr>().is_ok_and(|own| own == IpAddr::from(*ip)),
        _ => false,
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
