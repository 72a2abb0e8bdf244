use serde_json::{Value as Json, json};

use super::*;
use crate::auth::testing::{build, build_with, draft, signed};
use crate::moment::NonceKind;

const VECTORS: &str = include_str!("../../tests/vectors/asap.json");

fn vector(at: usize) -> Json {
    serde_json::from_str::<Json>(VECTORS).unwrap()["vectors"][at].clone()
}

fn settings(more: Json) -> Json {
    let vector = vector(0);
    let mut settings = json!({
        "issuer": "service/client",
        "key_id": vector["kid"],
        "audience": "resource-server",
        "private_key": vector["private_key_pem_pkcs8"],
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    settings
}

fn field(settings: &Json) -> String {
    let scheme = build(&SCHEME, &settings.to_string()).unwrap_or_else(|report| panic!("{report}"));
    let vector = vector(0);
    let mut draft = draft("GET", "https://a.example/", &[("authorization", "Bearer old")], None);
    let nonces = [(NonceKind::Jti, vector["nonce_jti"].as_str().unwrap())];
    signed(&scheme, &mut draft, vector["clock"].as_u64().unwrap(), &nonces, "authorization")
}

#[test]
fn the_vector_is_reproduced_from_pem_jwk_and_data_uri() {
    let vector = vector(0);
    let wanted = vector["expected_authorization"].as_str().unwrap();
    assert_eq!(field(&settings(json!({}))), wanted);
    assert_eq!(field(&settings(json!({ "private_key": vector["jwk"].to_string() }))), wanted);
    assert_eq!(field(&settings(json!({ "private_key": vector["private_key_data_uri"], "key_id": null }))), wanted);
}

#[test]
fn what_postman_signs_is_reproduced_by_its_order_of_claims() {
    // Its token has the claims in another order and no `nbf`: both can be configured.
    let claims = json!({ "nbf": null, "sub": null });
    let mine = field(&settings(json!({ "claims": claims })));
    let claims =
        mine.split('.').nth(1).map(|part| base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, part).unwrap());
    let mine: Json = serde_json::from_slice(&claims.unwrap()).unwrap();
    let theirs: Json = serde_json::from_str(vector(1)["decoded"][1].as_str().unwrap()).unwrap();
    let without_sub: serde_json::Map<_, _> =
        theirs.as_object().unwrap().clone().into_iter().filter(|(n, _)| n != "sub").collect();
    assert_eq!(mine, Json::Object(without_sub));
}

#[test]
fn every_request_has_a_token_of_its_own_unless_reuse_is_asked_for() {
    for reuse in [false, true] {
        let scheme = build(&SCHEME, &settings(json!({ "reuse": reuse })).to_string()).unwrap();
        let mut draft = draft("GET", "https://a.example/", &[], None);
        let first = signed(&scheme, &mut draft, 1000, &[], "authorization");
        assert_eq!(signed(&scheme, &mut draft, 1000, &[], "authorization") == first, reuse);
        assert_ne!(signed(&scheme, &mut draft, 1055, &[], "authorization"), first);
    }
}

#[test]
fn what_verifiers_refuse_is_refused_or_warned_of_at_load() {
    for (more, said) in [
        (json!({ "lifetime": "3601s" }), "an asap token lives an hour at most"),
        (json!({ "claims": { "exp": "now+2h" } }), "an asap token lives an hour at most"),
        (json!({ "algorithm": "ES256" }), "an RSA key cannot sign by ES256"),
        (json!({ "algorithm": "HS256" }), "unknown algorithm `HS256`"),
        (json!({ "key_id": null }), "asap needs `key_id`"),
        (json!({ "audience": null }), "asap needs `audience`"),
    ] {
        let report = build(&SCHEME, &settings(more).to_string()).err().unwrap();
        assert!(report.contains(said), "{report}");
    }
    let (scheme, report) = build_with(&SCHEME, &settings(json!({ "key_id": "other/key" })).to_string());
    assert!(scheme.is_some() && report.contains("does not begin with `service/client/`"), "{report}");
}
