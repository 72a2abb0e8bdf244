use std::sync::Barrier;

use rustls::HandshakeKind;

use super::*;
use crate::tls::intercept::authority::Authority;
use crate::tls::out::client::Client;
use crate::tls::out::trust::Trust;
use crate::tls::settings::TlsVersion;
use crate::tls::testing::{DAY, client, host, meet, spec};

fn leaves(bound: usize) -> Leaves {
    let key = KeyPair::generate().unwrap();
    let mut params = crate::tls::testing::params("CA", &[]);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let ends = SystemTime::now() + 3650 * DAY;
    params.not_after = ends.into();
    Leaves::new(Signer::new(Issuer::new(params, key), Vec::new(), ends).unwrap(), bound)
}

/// Runs with the parsed leaf of a host.
fn with_leaf<R>(signer: &Signer, name: &str, look: impl FnOnce(&X509Certificate<'_>) -> R) -> R {
    let der = signer.sign(&host(name), SystemTime::now()).unwrap();
    let (_, cert) = X509Certificate::from_der(&der).unwrap();
    look(&cert)
}

fn trusting(authority: &Authority) -> Client {
    client(&spec(Arc::new(Trust::of(std::slice::from_ref(authority.certificate())).unwrap())))
}

#[test]
fn a_leaf_has_what_the_strictest_clients_ask_for() {
    let leaves = leaves(4);
    with_leaf(&leaves.signer, "api.test", |cert| {
        let life = cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp();
        assert!(life <= 199 * 24 * 3600, "{life} s");
        let now = SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(cert.validity().not_before.timestamp() <= now as i64 - 47 * 3600);
        let eku = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(eku.server_auth && !eku.client_auth && !eku.any);
        let usage = cert.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        assert!(!cert.is_ca() && cert.basic_constraints().unwrap().is_some());
        assert_ne!(cert.public_key().raw, leaves.signer.issuer.key().public_key_raw());
        assert!(cert.raw_serial().len() == 16 && cert.raw_serial()[0] & 0x80 == 0);
    });
    let details = |name: &str| {
        let der = leaves.signer.sign(&host(name), SystemTime::now()).unwrap();
        crate::tls::formats::inspect::Details::read(&der).unwrap()
    };
    let (one, two) = (details("api.test"), details("api.test"));
    assert_ne!(one.serial, two.serial);
    assert!(one.ski.is_some() && one.aki.is_some() && one.ski != one.aki);
    assert_eq!(one.spki_sha256, two.spki_sha256, "one key for all leaves");
    assert_eq!(details("10.0.0.1").sans, ["10.0.0.1"]);
    assert_eq!(details("::1").sans, ["::1"]);
    assert_eq!(details("MÜNCHEN.example").sans, ["xn--mnchen-3ya.example"]);
    let long = format!("{}.example", ["a".repeat(60), "b".repeat(60)].join("."));
    assert_eq!((details(&long).sans, details(&long).common_name), (vec![long.clone()], None));
}

#[test]
fn a_leaf_is_kept_and_both_forms_share_it() {
    let leaves = leaves(4);
    let config = |h2| leaves.config(&host("api.test"), h2).unwrap();
    assert!(Arc::ptr_eq(&config(true), &config(true)) && Arc::ptr_eq(&config(false), &config(false)));
    assert_eq!(config(true).alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(config(false).alpn_protocols, [b"http/1.1".to_vec()]);
    assert!(Arc::ptr_eq(&config(true).cert_resolver, &config(false).cert_resolver));
    assert_eq!(config(true).send_tls13_tickets, 1);
}

#[test]
fn a_leaf_near_its_end_is_minted_anew() {
    let leaves = leaves(4);
    let now = SystemTime::now();
    let at = |time| leaves.config_at(&host("api.test"), true, time).unwrap();
    let first = at(now);
    assert!(Arc::ptr_eq(&first, &at(now + 59 * DAY)));
    let second = at(now + 61 * DAY);
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&second, &at(now)), "a clock that was set back finds its leaf not yet valid");
}

#[test]
fn many_that_want_the_same_leaf_at_once_get_one() {
    let leaves = leaves(4);
    let barrier = Barrier::new(8);
    let configs: Vec<_> = std::thread::scope(|scope| {
        let wanting = || {
            barrier.wait();
            leaves.config(&host("api.test"), true).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(wanting)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])));
}

#[test]
fn the_leaves_kept_are_bounded_and_the_used_ones_stay() {
    let leaves = leaves(16);
    let favourite = leaves.config(&host("favourite.test"), true).unwrap();
    for n in 0..100 {
        leaves.config(&host(&format!("h{n}.test")), true).unwrap();
        assert!(Arc::ptr_eq(&favourite, &leaves.config(&host("favourite.test"), true).unwrap()), "{n}");
        assert!(leaves.kept.read().unwrap().len() <= 16);
    }
    let one = super::tests::leaves(1);
    for name in ["a.test", "b.test", "a.test"] {
        one.config(&host(name), true).unwrap();
        assert_eq!(one.kept.read().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn clients_that_trust_the_ca_are_served_and_resume_within_one_host() {
    let authority = Authority::in_memory();
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let mut narrowed = trusting(&authority).spec().clone();
        narrowed.settings.max_version = Some(version);
        let client = client(&narrowed);
        for name in ["api.test", "10.0.0.1", "::1"] {
            let config = || authority.server_config(&host(name), true).unwrap();
            let first = meet(&client, name, &[Alpn::H2], config()).await.unwrap_or_else(|f| panic!("{f}"));
            assert_eq!((first.kind, first.alpn), (HandshakeKind::Full, Some(Alpn::H2)));
            let second = meet(&client, name, &[Alpn::H2], config()).await.unwrap();
            assert_eq!(second.kind, HandshakeKind::Resumed, "{name} {version:?}");
        }
    }
}

#[tokio::test]
async fn a_ticket_of_one_host_is_not_taken_for_another() {
    let authority = Authority::in_memory();
    let client = trusting(&authority);
    let config = |name: &str| authority.server_config(&host(name), true).unwrap();
    meet(&client, "a.test", &[Alpn::H2], config("a.test")).await.unwrap();
    // The client believes it speaks with a.test; the leaf of b.test must not pass by resumption.
    let text = crate::tls::testing::refusal(&client, "b.test", config("a.test")).await;
    assert!(text.contains("not valid for b.test"), "{text}");
}
