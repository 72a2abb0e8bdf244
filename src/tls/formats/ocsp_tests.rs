use std::time::UNIX_EPOCH;

use super::*;
use crate::tls::formats::inspect;
use crate::tls::out::trust::Trust;
use crate::tls::testing::{BOUND, fixture};

fn file(name: &str) -> Vec<u8> {
    crate::files::read(&fixture(name), BOUND).unwrap()
}

fn certificate(name: &str) -> CertificateDer<'static> {
    let (der, _) = inspect::certificates(&file(name)).good.remove(0);
    CertificateDer::from(der)
}

/// What a response says of alice, whose issuer is sent along or is an anchor.
fn says(response: &[u8], now: SystemTime) -> Staple {
    let (alice, sub, root) = (certificate("alice.crt"), certificate("sub.crt"), certificate("ca.crt"));
    let sent = read(response, &alice, std::slice::from_ref(&sub), &Trust::of(&[root]).unwrap().anchors().roots, now);
    let anchor = read(response, &alice, &[], &Trust::of(&[sub]).unwrap().anchors().roots, now);
    assert_eq!(sent, anchor);
    sent
}

#[test]
fn the_issuer_or_one_whom_it_lets_sign_is_believed() {
    let now = SystemTime::now();
    assert_eq!(says(&file("good.ocsp"), now), Staple::Good);
    assert_eq!(says(&file("delegated.ocsp"), now), Staple::Good);
    assert_eq!(says(&file("revoked.ocsp"), now), Staple::Revoked);
}

#[test]
fn what_proves_nothing_is_named() {
    let now = SystemTime::now();
    assert_eq!(says(&file("stranger.ocsp"), now), Staple::Unusable("is not signed by the certificate's issuer"));
    assert_eq!(says(&file("bob.ocsp"), now), Staple::Unusable("speaks of another certificate"));
    assert_eq!(says(&file("good.ocsp"), UNIX_EPOCH), Staple::Unusable("is of a time to come"));
    let century = Duration::from_secs(200 * 365 * 24 * 3600);
    assert_eq!(says(&file("good.ocsp"), now + century), Staple::Unusable("is out of date"));
    assert_eq!(says(&file("revoked.ocsp"), now + century), Staple::Revoked, "it stays so");
    // OCSPResponse { responseStatus tryLater }
    assert_eq!(says(&[0x30, 3, 0x0a, 1, 3], now), Staple::Unusable("says that its responder failed"));
    let of_no_issuer = read(
        &file("good.ocsp"),
        &certificate("alice.crt"),
        &[],
        &Trust::of(&[certificate("ca.crt")]).unwrap().anchors().roots,
        now,
    );
    assert_eq!(of_no_issuer, Staple::Unusable("speaks of another certificate"));
}

#[test]
fn no_byte_of_a_response_can_be_changed_to_make_it_good() {
    let now = SystemTime::now();
    let revoked = file("revoked.ocsp");
    for at in 0..revoked.len() {
        let mut bent = revoked.clone();
        bent[at] ^= 0x21;
        assert_ne!(says(&bent, now), Staple::Good, "byte {at}");
    }
}
