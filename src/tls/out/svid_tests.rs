use std::time::Duration;

use rcgen::{ExtendedKeyUsagePurpose, SanType};
use zeroize::Zeroizing;

use super::*;
use crate::settings::Place;
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::settings::{Alpn, TlsSettings};
use crate::tls::testing::{Ca, Issued, client, meet, params, refusal, server, spec};

fn workload(ca: &Ca, id: &str) -> Issued {
    let mut params = params("workload", &[]);
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    ca.issue(&params)
}

fn svid(ca: &Ca, id: &str) -> Svid {
    let issued = workload(ca, id);
    Svid {
        id: id.to_owned(),
        certificates: issued.chain.iter().flat_map(|der| der.to_vec()).collect(),
        key: Zeroizing::new(issued.private_key().secret_der().to_vec()),
        bundle: ca.der.to_vec(),
    }
}

fn origin(id: Option<&str>) -> SvidOrigin {
    SvidOrigin { socket: "/run/agent.sock".into(), id: id.map(|id| SpiffeId::parse(id).unwrap()), place: Place::default() }
}

fn expecting(trust: Trust, ids: &[&str]) -> ClientSpec {
    let ids = ids.iter().map(|id| SpiffeId::parse(id).unwrap()).collect();
    let settings = TlsSettings { spiffe_id: Some(ids), ..TlsSettings::default() };
    ClientSpec { settings, ..spec(Arc::new(trust)) }
}

#[test]
fn an_svid_becomes_an_identity_and_another_id_is_refused_with_those_there_are() {
    let ca = Ca::root("domain");
    let own = svid(&ca, "spiffe://a.test/gate");
    let update = Update { svids: vec![own], federated: BTreeMap::new() };
    for id in [None, Some("spiffe://a.test/gate")] {
        let loaded = identity(&update, &origin(id)).unwrap_or_else(|problem| panic!("{problem}"));
        assert_eq!(loaded.value.details().sans, ["uri:spiffe://a.test/gate"]);
        assert!(loaded.warnings.is_empty());
        assert!(loaded.value.not_after() > std::time::SystemTime::now() + Duration::from_secs(60));
    }
    let problem = identity(&update, &origin(Some("spiffe://a.test/other"))).err().unwrap();
    assert_eq!(problem.code, "no-svid");
    assert!(problem.message.contains("it has spiffe://a.test/gate"), "{problem}");
    let nothing = Update { svids: Vec::new(), federated: BTreeMap::new() };
    assert!(identity(&nothing, &origin(None)).err().unwrap().message.contains("none at all"));
    assert_eq!(trust(&nothing, &origin(None)).err().unwrap().code, "empty-bundle");
}

#[tokio::test]
async fn a_server_is_known_by_its_spiffe_id_and_a_trust_domain_speaks_for_its_own_ids_only() {
    let (ours, theirs) = (Ca::root("ours"), Ca::root("theirs"));
    let update = || Update {
        svids: vec![svid(&ours, "spiffe://ours.test/gate")],
        federated: BTreeMap::from([("spiffe://theirs.test".to_owned(), theirs.der.to_vec())]),
    };
    let believing = |ids: &[&str]| client(&expecting(trust(&update(), &origin(None)).unwrap(), ids));
    let api = || server(&workload(&ours, "spiffe://ours.test/api"), &[]);
    let alpn = [Alpn::Http11];

    for ids in [&["spiffe://ours.test/api"][..], &["spiffe://ours.test"], &["spiffe://ours.test/x", "spiffe://ours.test/api"]] {
        meet(&believing(ids), "api.example.com", &alpn, api()).await.unwrap_or_else(|failure| panic!("{ids:?}: {failure}"));
    }
    let federated = server(&workload(&theirs, "spiffe://theirs.test/api"), &[]);
    meet(&believing(&["spiffe://theirs.test/api"]), "api.example.com", &alpn, federated).await.unwrap();

    let told = refusal(&believing(&["spiffe://ours.test/other"]), "api.example.com", api()).await;
    assert!(told.contains("has the SPIFFE ID spiffe://ours.test/api, and spiffe://ours.test/other is expected"), "{told}");
    // The other domain's CA has issued an ID of ours.
    let forged = server(&workload(&theirs, "spiffe://ours.test/api"), &[]);
    let told = refusal(&believing(&["spiffe://ours.test/api"]), "api.example.com", forged).await;
    assert!(told.contains("which is not trusted"), "{told}");
    // A host name is no SPIFFE ID, and neither CA speaks for IDs it was not asked for.
    let told =
        refusal(&believing(&["spiffe://ours.test"]), "api.example.com", server(&ours.server("api.example.com"), &[])).await;
    assert!(told.contains("has no SPIFFE ID"), "{told}");
    let unknown = server(&workload(&ours, "spiffe://third.test/api"), &[]);
    let told = refusal(&believing(&["spiffe://third.test"]), "api.example.com", unknown).await;
    assert!(told.contains("which is not trusted"), "{told}");
    // Without the setting the host's name is checked, and the message has the line that is missing.
    let by_name = client(&spec(Arc::new(trust(&update(), &origin(None)).unwrap())));
    let told = refusal(&by_name, "api.example.com", api()).await;
    assert!(told.contains("spiffe_id: \"spiffe://ours.test/api\""), "{told}");
    // Two IDs are none (X509-SVID §2).
    let two = {
        let mut params = params("two", &[]);
        params.subject_alt_names =
            ["spiffe://ours.test/a", "spiffe://ours.test/b"].map(|id| SanType::URI(id.try_into().unwrap())).to_vec();
        ours.issue(&params)
    };
    let told = refusal(&believing(&["spiffe://ours.test"]), "api.example.com", server(&two, &[])).await;
    assert!(told.contains("has no SPIFFE ID"), "{told}");
}

#[tokio::test]
async fn a_certificate_of_the_ids_domain_that_expired_is_refused() {
    let ca = Ca::root("ours");
    let update = Update { svids: vec![svid(&ca, "spiffe://ours.test/gate")], federated: BTreeMap::new() };
    let mut late = params("late", &[]);
    late.subject_alt_names = vec![SanType::URI("spiffe://ours.test/api".try_into().unwrap())];
    late.not_after = (std::time::SystemTime::now() - Duration::from_secs(60)).into();
    let believing = client(&expecting(trust(&update, &origin(None)).unwrap(), &["spiffe://ours.test/api"]));
    let told = refusal(&believing, "api.example.com", server(&ca.issue(&late), &[])).await;
    assert!(told.contains("expired"), "{told}");
}
