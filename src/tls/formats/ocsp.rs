//! Stapled OCSP responses (RFC 6960; RFC 6066 §8): what the issuer says of the server's certificate,
//! sent along by the server. Only formats here; signatures are checked by the one provider.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ber::{self, CONTEXT_0, Element, INTEGER, OCTETS, OID, SEQUENCE};
use super::inspect::Details;
use crate::tls::provider;

/// What a response says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Staple {
    Good,
    Revoked,
    /// It proves nothing; a half sentence about the response.
    Unusable(&'static str),
}

/// Clocks differ.
const SKEW: Duration = Duration::from_secs(300);
/// How long a response holds that names no end (RFC 6960 §2.4: newer information is always there).
const UNBOUNDED: Duration = Duration::from_secs(7 * 24 * 3600);

const ENUMERATED: u8 = 0x0a;
const BITS: u8 = 0x03;
const TIME: u8 = 0x18;
/// CertStatus (RFC 6960 §4.2.1): `good [0] IMPLICIT NULL`, `revoked [1] IMPLICIT RevokedInfo`.
const GOOD: u8 = 0x80;
const REVOKED: u8 = 0xa1;
/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1.
const BASIC: [u8; 9] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
const SHA1: [u8; 5] = [0x2b, 0x0e, 0x03, 0x02, 0x1a];
const SHA256: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// Reads the response that came with `leaf`, whose chain goes on with `above` or ends at one of the `anchors`.
pub fn read(
    response: &[u8],
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: SystemTime,
) -> Staple {
    judge(response, leaf, above, anchors, now).unwrap_or_else(Staple::Unusable)
}

fn judge(
    response: &[u8],
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: SystemTime,
) -> Result<Staple, &'static str> {
    const DAMAGED: &str = "cannot be read";
    let basic = basic(response)?;
    let data = basic.child(0).ok_or(DAMAGED)?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| DAMAGED)?;
    let issuers = issuers(leaf, &certificate, above, anchors);
    let (issuer, single) = issuers
        .iter()
        .find_map(|issuer| Some((issuer, single(data, &certificate, issuer)?)))
        .ok_or("speaks of another certificate")?;
    if !signed(&basic, data, &certificate, issuer, now).ok_or(DAMAGED)? {
        return Err("is not signed by the certificate's issuer");
    }
    let status = single.child(1).ok_or(DAMAGED)?.tag();
    if status == REVOKED {
        // Also when it is old: what was revoked stays so.
        return Ok(Staple::Revoked);
    }
    current(single, now)?;
    if status == GOOD { Ok(Staple::Good) } else { Err("says that its responder does not know the certificate") }
}

/// OCSPResponse → BasicOCSPResponse.
fn basic(response: &[u8]) -> Result<Element, &'static str> {
    const DAMAGED: &str = "cannot be read";
    let outer = Element::read(response).ok_or(DAMAGED)?;
    if outer.child(0).and_then(|status| status.body(ENUMERATED)) != Some(&[0]) {
        return Err("says that its responder failed");
    }
    let bytes = outer.child(1).and_then(|explicit| explicit.child(0)).ok_or(DAMAGED)?;
    if bytes.child(0).and_then(|oid| oid.body(OID)) != Some(&BASIC) {
        return Err("is of a kind that is not supported");
    }
    bytes.child(1).and_then(|octets| octets.body(OCTETS)).and_then(Element::read).ok_or(DAMAGED)
}

struct PublicKey {
    /// AlgorithmIdentifier without tag and length, as [`rustls::pki_types::AlgorithmIdentifier`] has it.
    algorithm: Vec<u8>,
    bits: Vec<u8>,
}

impl PublicKey {
    fn read(spki: &[u8]) -> Option<Self> {
        let spki = Element::read(spki)?;
        Some(Self { algorithm: contents(spki.child(0)?), bits: bits(spki.child(1)?)?.to_vec() })
    }

    fn signed(&self, algorithm: &[u8], message: &[u8], signature: &[u8]) -> bool {
        provider().signature_verification_algorithms.all.iter().any(|known| {
            known.signature_alg_id().as_ref() == algorithm
                && known.public_key_alg_id().as_ref() == self.algorithm
                && known.verify_signature(&self.bits, message, signature).is_ok()
        })
    }

    fn signed_certificate(&self, der: &[u8], certificate: &X509Certificate<'_>) -> bool {
        let Some(algorithm) = Element::read(der).and_then(|e| e.child(1).map(contents)) else { return false };
        self.signed(&algorithm, certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
    }
}

/// The keys of those that bear the issuer's name and whose key signed the leaf: a server may send along any certificate it likes.
fn issuers(
    leaf: &[u8],
    certificate: &X509Certificate<'_>,
    above: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
) -> Vec<PublicKey> {
    let name = certificate.issuer().as_raw();
    let sent = above.iter().filter_map(|der| {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        (cert.subject().as_raw() == name).then(|| cert.public_key().raw.to_vec())
    });
    let kept = anchors.iter().filter(|anchor| ber::wrap_sequence(&anchor.subject) == name);
    let keys = sent.chain(kept.map(|anchor| ber::wrap_sequence(&anchor.subject_public_key_info)));
    let keys = keys.filter_map(|spki| PublicKey::read(&spki));
    keys.filter(|key| key.signed_certificate(leaf, certificate)).collect()
}

/// The SingleResponse for the leaf (RFC 6960 §4.1.1: CertID).
fn single<'a>(data: &'a Element, certificate: &X509Certificate<'_>, issuer: &PublicKey) -> Option<&'a Element> {
    let responses = data.children().iter().find(|e| e.tag() == SEQUENCE)?;
    responses.children().iter().find(|single| {
        let Some(id) = single.child(0) else { return false };
        let algorithm = match id.child(0).and_then(|a| a.child(0)).and_then(|oid| oid.body(OID)) {
            Some(oid) if oid == SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Some(oid) if oid == SHA256 => &digest::SHA256,
            _ => return false,
        };
        let is_hash =
            |at: usize, of: &[u8]| id.child(at).and_then(|e| e.body(OCTETS)) == Some(digest::digest(algorithm, of).as_ref());
        is_hash(1, certificate.issuer().as_raw())
            && is_hash(2, &issuer.bits)
            && id.child(3).and_then(|e| e.body(INTEGER)) == Some(certificate.raw_serial())
    })
}

/// Signed by the issuer, or by one whom the issuer lets sign responses (RFC 6960 §4.2.2.2). `None`: damaged.
fn signed(basic: &Element, data: &Element, leaf: &X509Certificate<'_>, issuer: &PublicKey, now: SystemTime) -> Option<bool> {
    let message = data.to_der();
    let algorithm = contents(basic.child(1)?);
    let signature = bits(basic.child(2)?)?;
    if issuer.signed(&algorithm, &message, signature) {
        return Some(true);
    }
    let certificates = basic.child(3).filter(|e| e.tag() == CONTEXT_0).and_then(|e| e.child(0));
    let delegated = certificates.into_iter().flat_map(Element::children).map(Element::to_der).any(|der| {
        let Ok((_, cert)) = X509Certificate::from_der(&der) else { return false };
        let Ok(details) = Details::read(&der) else { return false };
        cert.issuer().as_raw() == leaf.issuer().as_raw()
            && matches!(cert.extended_key_usage(), Ok(Some(usage)) if usage.value.ocsp_signing)
            && !details.is_expired(now)
            && !details.is_early(now)
            && issuer.signed_certificate(&der, &cert)
            && PublicKey::read(cert.public_key().raw).is_some_and(|key| key.signed(&algorithm, &message, signature))
    });
    Some(delegated)
}

fn current(single: &Element, now: SystemTime) -> Result<(), &'static str> {
    let this = single.child(2).and_then(time).ok_or("cannot be read")?;
    let next = single.child(3).filter(|e| e.tag() == CONTEXT_0).and_then(|e| e.child(0)).and_then(time);
    if this > now + SKEW {
        return Err("is of a time to come");
    }
    if next.unwrap_or(this + UNBOUNDED) + SKEW < now {
        return Err("is out of date");
    }
    Ok(())
}

/// GeneralizedTime as RFC 5280 §4.1.2.5.2 has it: `20261127034500Z`.
fn time(element: &Element) -> Option<SystemTime> {
    let text = std::str::from_utf8(element.body(TIME)?).ok()?.strip_suffix('Z')?;
    if text.len() != 14 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| text[from..to].parse::<u16>().ok();
    let small = |from: usize| u8::try_from(part(from, from + 2)?).ok();
    let date = ::time::Date::from_calendar_date(part(0, 4)?.into(), small(4)?.try_into().ok()?, small(6)?).ok()?;
    Some(date.with_hms(small(8)?, small(10)?, small(12)?).ok()?.assume_utc().into())
}

fn contents(element: &Element) -> Vec<u8> {
    element.children().iter().flat_map(Element::to_der).collect()
}

/// A BIT STRING of whole octets.
fn bits(element: &Element) -> Option<&[u8]> {
    match element.body(BITS)?.split_first()? {
        (0, bits) => Some(bits),
        _ => None,
    }
}

#[cfg(test)]
#[path = "ocsp_tests.rs"]
mod tests;
