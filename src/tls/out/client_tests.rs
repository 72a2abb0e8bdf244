use rustls::HandshakeKind;

use super::*;
use crate::tls::formats::crl::Crls;
use crate::tls::out::trust::Trust;
use crate::tls::testing::*;
use std::time::SystemTime;

use crate::settings::Place;
use crate::tls::formats::pem;
use crate::tls::settings::BundleSource;

const BOTH: &[Alpn] = &[Alpn::H2, Alpn::Http11];
const H1: &[Alpn] = &[Alpn::Http11];

fn with(spec: ClientSpec, change: impl FnOnce(&mut ClientSpec)) -> Client {
    let mut spec = spec;
    change(&mut spec);
    client(&spec)
}

fn trusting(certificates: &[&[u8]]) -> Arc<Trust> {
    let ders: Vec<_> = certificates.iter().map(|der| rustls::pki_types::CertificateDer::from(der.to_vec())).collect();
    Arc::new(Trust::of(&ders).unwrap())
}

#[tokio::test]
async fn a_chain_to_the_bundle_is_believed_and_protocols_are_agreed_on() {
    let ca = Ca::root("Root");
    let sub = ca.intermediate("Sub");
    let shown = server(&sub.server("api.test"), &[]);
    let client = client(&spec(ca.trust()));
    assert_eq!(meet(&client, "api.test", BOTH, shown.clone()).await.unwrap().alpn, Some(Alpn::H2));
    assert_eq!(meet(&client, "api.test", H1, shown.clone()).await.unwrap().alpn, Some(Alpn::Http11));
    assert_eq!(meet(&client, "api.test", &[], shown).await.unwrap().alpn, None);
}

#[tokio::test]
async fn an_intermediate_alone_in_the_bundle_suffices() {
    let sub = Ca::root("Root").intermediate("Sub");
    let client = client(&spec(sub.trust()));
    meet(&client, "api.test", H1, server(&sub.server("api.test"), &[])).await.unwrap();
}

#[tokio::test]
async fn a_chain_to_another_ca_is_refused_naming_the_missing_one() {
    let sub = Ca::root("Corp Root").intermediate("Corp Sub");
    let client = client(&spec(Ca::root("Else").trust()));
    let text = refusal(&client, "api.test", server(&sub.server("api.test"), &[])).await;
    assert!(text.contains("issued by \"Corp Root\"") && text.contains("ca_bundle:"), "{text}");
}

#[tokio::test]
async fn a_ca_made_anew_under_its_old_name_is_told_as_such() {
    let [old, new] = ["Dev CA", "Dev CA"].map(Ca::root);
    let text = refusal(&client(&spec(old.trust())), "api.test", server(&new.server("api.test"), &[])).await;
    assert!(text.contains("only by one of that name"), "{text}");
}

#[tokio::test]
async fn expired_early_and_other_names_are_each_told_as_such() {
    let ca = Ca::root("Root");
    let client = client(&spec(ca.trust()));
    let mut old = params("api.test", &["api.test"]);
    old.not_before = (SystemTime::now() - 9 * DAY).into();
    old.not_after = (SystemTime::now() - 2 * DAY).into();
    let text = refusal(&client, "api.test", server(&ca.issue(&old), &[])).await;
    assert!(text.contains("expired on 20"), "{text}");
    let mut early = params("api.test", &["api.test"]);
    early.not_before = (SystemTime::now() + 2 * DAY).into();
    let text = refusal(&client, "api.test", server(&ca.issue(&early), &[])).await;
    assert!(text.contains("valid only from"), "{text}");
    let other = ca.issue(&params("x", &["a.test", "b.test"]));
    let text = refusal(&client, "api.test", server(&other, &[])).await;
    assert!(text.contains("not valid for api.test, only for a.test, b.test"), "{text}");
    let text = refusal(&client, "api.test", server(&ca.issue(&params("api.test", &[])), &[])).await;
    assert!(text.contains("only the common name api.test") && text.contains("reissue"), "{text}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_believed_when_the_bundle_holds_it() {
    for is_ca in [false, true] {
        for names in [&["dev.test"][..], &[]] {
            let mut wanted = params("dev.test", names);
            if is_ca {
                wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }
            let own = self_signed(&wanted);
            let shown = server(&own, &[]);
            let knowing = client(&spec(trusting(&[own.leaf()])));
            meet(&knowing, "dev.test", H1, shown.clone()).await.unwrap_or_else(|f| panic!("{f}"));
            let text = refusal(&knowing, "other.test", shown.clone()).await;
            assert!(text.contains("other.test"), "{text}");
            let text = refusal(&client(&spec(Ca::root("Else").trust())), "dev.test", shown).await;
            assert!(text.contains("ca_bundle"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_certificate_believed_as_it_is_must_not_have_expired_and_cannot_issue_others() {
    let mut old = params("dev.test", &["dev.test"]);
    old.not_before = (SystemTime::now() - 9 * DAY).into();
    old.not_after = (SystemTime::now() - 2 * DAY).into();
    let own = self_signed(&old);
    let text = refusal(&client(&spec(trusting(&[own.leaf()]))), "dev.test", server(&own, &[])).await;
    assert!(text.contains("expired"), "{text}");

    // A trusted server certificate whose holder signs another name with it.
    let mut leaf = params("dev.test", &["dev.test"]);
    leaf.is_ca = rcgen::IsCa::ExplicitNoCa;
    let own = self_signed(&leaf);
    let key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(own.leaf(), &own.key).unwrap();
    let forged = params("bank.test", &["bank.test"]).signed_by(&key, &issuer).unwrap().der().clone();
    let forged = Issued { chain: vec![forged, own.leaf().clone()], key };
    refusal(&client(&spec(trusting(&[own.leaf()]))), "bank.test", server(&forged, &[])).await;
}

#[tokio::test]
async fn addresses_are_checked_against_address_names() {
    let ca = Ca::root("Root");
    let client = client(&spec(ca.trust()));
    let shown = server(&ca.issue(&params("x", &["127.0.0.1", "::1"])), &[]);
    meet(&client, "127.0.0.1", H1, shown.clone()).await.unwrap();
    meet(&client, "::1", H1, shown.clone()).await.unwrap();
    refusal(&client, "127.0.0.2", shown).await;
}

#[tokio::test]
async fn server_name_decides_what_is_asked_for_and_checked() {
    let ca = Ca::root("Root");
    let client = with(spec(ca.trust()), |s| s.settings.server_name = Some(host("inner.test")));
    meet(&client, "outer.test", H1, server(&ca.server("inner.test"), &[])).await.unwrap();
    refusal(&client, "outer.test", server(&ca.server("outer.test"), &[])).await;
}

#[tokio::test]
async fn pins_hold_on_leaf_intermediate_and_root_and_not_on_what_is_only_sent_along() {
    let ca = Ca::root("Root");
    let sub = ca.intermediate("Sub");
    let issued = sub.server("api.test");
    let pinned = |pin| with(spec(ca.trust()), |s| s.settings.pins = Some(vec![pin]));
    for good in [issued.leaf(), &sub.der, &ca.der] {
        meet(&pinned(spki_pin(good)), "api.test", H1, server(&issued, &[])).await.unwrap();
    }
    let stranger = Ca::root("Stranger");
    let text = refusal(&pinned(spki_pin(&stranger.der)), "api.test", server(&issued, &[])).await;
    assert!(text.contains("pins") && text.contains("sha256/"), "{text}");
    let mut padded = sub.server("api.test");
    padded.chain.push(stranger.der.clone());
    refusal(&pinned(spki_pin(&stranger.der)), "api.test", server(&padded, &[])).await;
    // A pin does not replace the check of the chain.
    let foreign = stranger.server("api.test");
    refusal(&pinned(spki_pin(foreign.leaf())), "api.test", server(&foreign, &[])).await;
}

#[tokio::test]
async fn revoked_certificates_are_refused_and_unlisted_ones_are_not() {
    let ca = Ca::root("Root");
    let mut wanted = params("api.test", &["api.test"]);
    wanted.serial_number = Some(rcgen::SerialNumber::from(7));
    let revoked = ca.issue(&wanted);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crl.pem");
    let list = pem::encode("X509 CRL", &ca.crl(&rcgen::SerialNumber::from(7)));
    crate::files::write_public(&path, list.as_bytes()).unwrap();
    let crls = Arc::new(Crls::load(&[(path, Place::default())], BOUND).unwrap_or_else(|p| panic!("{p}")).value);
    let client = client(&ClientSpec::new(Vec::new(), ca.trust(), TlsSettings::default(), crls));
    let text = refusal(&client, "api.test", server(&revoked, &[])).await;
    assert!(text.contains("revoked"), "{text}");
    meet(&client, "api.test", H1, server(&ca.server("api.test"), &[])).await.unwrap();
}

#[tokio::test]
async fn accepting_invalid_certificates_takes_any_and_only_where_it_is_said() {
    let own = self_signed(&params("x", &["x.test"]));
    let careless = with(spec(Ca::root("Root").trust()), |s| s.accept_invalid_certs = true);
    meet(&careless, "api.test", H1, server(&own, &[])).await.unwrap();
}

#[tokio::test]
async fn versions_are_bounded_from_both_sides() {
    use rustls::version::{TLS12, TLS13};
    let ca = Ca::root("Root");
    let issued = ca.server("api.test");
    let bounded = |min, max| {
        with(spec(ca.trust()), |s| {
            s.settings.min_version = min;
            s.settings.max_version = max;
        })
    };
    let at_most_12 = bounded(None, Some(TlsVersion::V1_2));
    let met = meet(&at_most_12, "api.test", H1, server(&issued, &[])).await.unwrap();
    assert_eq!(met.version, rustls::ProtocolVersion::TLSv1_2);
    let text = refusal(&at_most_12, "api.test", server_with(&issued, &[], &[&TLS13])).await;
    assert!(text.contains("TLS version"), "{text}");
    let text = refusal(&bounded(Some(TlsVersion::V1_3), None), "api.test", server_with(&issued, &[], &[&TLS12])).await;
    assert!(text.contains("TLS version"), "{text}");
    let spec = with(spec(ca.trust()), |_| {}).spec().clone();
    let mut contrary = spec;
    contrary.settings.min_version = Some(TlsVersion::V1_3);
    contrary.settings.max_version = Some(TlsVersion::V1_2);
    assert!(Client::build(&contrary, 1).is_err());
}

#[tokio::test]
async fn the_client_certificate_is_shown_when_asked_for_and_only_then() {
    let ca = Ca::root("Root");
    let people = Ca::root("People").intermediate("Staff");
    let identity = people.client("alice").identity();
    let knowing = with(spec(ca.trust()), |s| s.identities = vec![identity]);
    let issued = ca.server("api.test");
    for versions in [rustls::ALL_VERSIONS, &[&rustls::version::TLS12]] {
        let met = meet(&knowing, "api.test", H1, server_with(&issued, &[&people], versions)).await.unwrap();
        assert_eq!((met.seen.as_deref(), met.asked), (Some("alice"), Asked::Shown("alice".into())));
        let met = meet(&knowing, "b.test", H1, server_with(&ca.server("b.test"), &[], versions)).await.unwrap();
        assert_eq!(met.asked, Asked::No);
    }
}

#[tokio::test]
async fn without_a_certificate_or_with_a_wrong_one_the_refusal_says_so() {
    let ca = Ca::root("Root");
    let people = Ca::root("People");
    let issued = ca.server("api.test");
    let nobody = client(&spec(ca.trust()));
    let strangers = Ca::root("Strangers").client("mallory").identity();
    let wrong = with(spec(ca.trust()), |s| s.identities = vec![strangers]);
    for versions in [rustls::ALL_VERSIONS, &[&rustls::version::TLS12]] {
        let text = refusal(&nobody, "api.test", server_with(&issued, &[&people], versions)).await;
        assert!(text.contains("asked for a client certificate and no rule names one"), "{text}");
        let text = refusal(&wrong, "api.test", server_with(&issued, &[&people], versions)).await;
        assert!(text.contains("refused the client certificate \"mallory\""), "{text}");
    }
}

#[tokio::test]
async fn of_several_identities_the_servers_issuers_decide() {
    let ca = Ca::root("Root");
    let [one, two] = ["One", "Two"].map(Ca::root);
    let below_two = two.intermediate("Below Two");
    let identities = vec![one.client("first").identity(), below_two.client("second").identity()];
    let client = with(spec(ca.trust()), |s| s.identities = identities);
    let issued = ca.server("api.test");
    assert_eq!(meet(&client, "api.test", H1, server(&issued, &[&one])).await.unwrap().seen.as_deref(), Some("first"));
    let other = server(&ca.server("b.test"), &[&two]);
    assert_eq!(meet(&client, "b.test", H1, other).await.unwrap().seen.as_deref(), Some("second"));
    let both = server(&ca.server("c.test"), &[&one, &two]);
    assert_eq!(meet(&client, "c.test", H1, both).await.unwrap().seen.as_deref(), Some("first"));
}

#[tokio::test]
async fn sessions_resume_within_one_client_and_never_in_another() {
    let ca = Ca::root("Root");
    let people = Ca::root("People");
    let issued = ca.server("api.test");
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        let shown = server_with(&issued, &[&people], versions);
        let spec = |name: &str| {
            let mut spec = spec(ca.trust());
            spec.identities = vec![people.client(name).identity()];
            spec
        };
        let (alice, bob) = (spec("alice"), spec("bob"));
        assert!(alice != bob);
        let (first, second) = (client(&alice), client(&bob));
        assert_eq!(meet(&first, "api.test", H1, shown.clone()).await.unwrap().kind, HandshakeKind::Full);
        let again = meet(&first, "api.test", BOTH, shown.clone()).await.unwrap();
        assert_eq!((again.kind, again.asked), (HandshakeKind::Resumed, Asked::Resumed));
        let other = meet(&second, "api.test", H1, shown.clone()).await.unwrap();
        assert_eq!((other.kind, other.seen.as_deref()), (HandshakeKind::Full, Some("bob")));
        let twin = client(&alice);
        assert_eq!(meet(&twin, "api.test", H1, shown.clone()).await.unwrap().kind, HandshakeKind::Full);
        let forgetful = with(alice.clone(), |s| s.settings.resumption = Some(false));
        for _ in 0..2 {
            assert_eq!(meet(&forgetful, "api.test", H1, shown.clone()).await.unwrap().kind, HandshakeKind::Full);
        }
    }
}

#[test]
fn connecting_can_be_done_in_a_task_of_its_own() {
    fn sendable<T: Send>(_: T) {}
    let client = client(&spec(Ca::root("Root").trust()));
    sendable(client.connect(tokio::io::duplex(1).0, &host("api.test"), H1));
}

#[test]
fn specs_are_equal_by_content() {
    let ca = Ca::root("Root");
    let people = Ca::root("People");
    let issued = people.client("alice");
    let make = || {
        let mut spec = spec(ca.trust());
        spec.identities = vec![issued.identity()];
        spec.settings.crl = Some(vec![(std::path::PathBuf::from("x"), Place::default())]);
        ClientSpec::new(spec.identities, spec.trust, spec.settings, spec.crls)
    };
    assert!(make() == make());
}

#[test]
fn the_settings_protocols_come_first_but_an_upgrade_gets_what_it_needs() {
    let client = with(spec(Ca::root("Root").trust()), |s| s.settings.alpn = Some(vec![Alpn::H2]));
    assert_eq!(client.config(BOTH).unwrap().alpn_protocols, [b"h2".to_vec()]);
    assert_eq!(client.config(H1).unwrap().alpn_protocols, [b"http/1.1".to_vec()]);
    assert!(Arc::ptr_eq(&client.config(BOTH).unwrap(), &client.config(BOTH).unwrap()));
}

#[tokio::test]
async fn a_server_without_tls_and_one_that_hangs_up_are_told_apart() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let client = client(&spec(Ca::root("Root").trust()));
    let (near, mut far) = tokio::io::duplex(4096);
    let plain = tokio::spawn(async move {
        let _ = far.read(&mut [0; 1024]).await;
        let _ = far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        far
    });
    let failure = client.connect(near, &host("api.test"), H1).await.err().unwrap();
    assert!(failure.to_string().contains("does not speak TLS"), "{failure}");
    drop(plain);
    let (near, far) = tokio::io::duplex(4096);
    drop(far);
    let failure = client.connect(near, &host("api.test"), H1).await.err().unwrap();
    assert_eq!(failure.cause, Cause::ConnectionTerminated);
}

#[test]
fn bundles_are_read_as_people_have_them() {
    let load = |text: &[u8], system_roots| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        crate::files::write_public(&path, text).unwrap();
        let place = Place::default();
        Trust::load(
            &BundleSource {
                name: None,
                place,
                files: vec![(crate::settings::Pem::File(path), place)],
                system_roots,
                spiffe: None,
            },
            BOUND,
        )
    };
    let read = |name: &str| crate::files::read(&fixture(name), BOUND).unwrap();
    let (root, sub) = (read("ca.crt"), read("sub.crt"));
    let many = [b"# comment\r\n".as_slice(), &root, b"\xe9 junk", &sub].concat();
    for (text, count) in [
        (many, 2),
        ([b"\xef\xbb\xbf".as_slice(), &root].concat(), 1),
        (String::from_utf8(root.clone()).unwrap().replace('\n', "\r\n").into_bytes(), 1),
        (read("trusted.pem"), 1),
        (read("ca.der"), 1),
        (read("chain.p7b"), 2),
        (read("chain.der.p7b"), 2),
    ] {
        let loaded = load(&text, false).map_err(|p| p[0].to_string()).unwrap();
        assert_eq!((loaded.value.entries().len(), loaded.value.anchors().len(), loaded.warnings.len()), (count, count, 0));
        assert!(loaded.value.holds(&read("ca.der")));
    }
    let broken = [root.as_slice(), b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &sub].concat();
    let loaded = load(&broken, false).map_err(|p| p[0].to_string()).unwrap();
    assert_eq!(loaded.value.entries().len(), 2);
    assert!(loaded.warnings[0].message.starts_with("entry 2 of "), "{}", loaded.warnings[0]);
    let with_system = load(&root, true).map_err(|p| p[0].to_string()).unwrap().value;
    assert!(with_system.anchors().len() > 50 && with_system.system_count() == with_system.anchors().len() - 1);
    assert!(with_system != load(&root, false).ok().unwrap().value);
    for (text, says) in [
        (b"".to_vec(), "holds no certificate"),
        (read("alice.key"), "holds a private key but no certificate"),
        (read("modern.pfx"), "is a PFX"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(), "the first entry (line 1) is bad"),
    ] {
        let problems = load(&text, true).err().expect("an empty bundle is a mistake");
        assert!(problems[0].message.contains(says), "{}", problems[0]);
    }
    let keyed = load(&[root, read("alice.key")].concat(), false).ok().unwrap();
    assert_eq!(keyed.warnings[0].code, "key-in-bundle");
}

#[test]
fn a_folder_of_pem_files_is_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::default();
    let source = || BundleSource {
        name: None,
        place,
        files: vec![(crate::settings::Pem::File(folder.path().to_owned()), place)],
        system_roots: false,
        spiffe: None,
    };
    assert!(Trust::load(&source(), BOUND).is_err());
    for name in ["ca.crt", "sub.crt"] {
        let bytes = crate::files::read(&fixture(name), BOUND).unwrap();
        crate::files::write_public(&folder.path().join(name), &bytes).unwrap();
    }
    crate::files::write_public(&folder.path().join("README"), b"not a certificate").unwrap();
    let loaded = Trust::load(&source(), BOUND).ok().unwrap();
    assert_eq!((loaded.value.anchors().len(), loaded.warnings.len()), (2, 0));
}
