use serde_json::Value as Json;

use super::*;
use crate::auth::testing::{Alone as _, answered, at, build, build_with, draft, sign_ready, signed};
use crate::moment::NonceKind;

const VECTORS: &str = include_str!("../../tests/vectors/jwt.json");

fn jwt(settings: &Json) -> Arc<dyn Authorizer> {
    build(&SCHEME, &settings.to_string()).unwrap_or_else(|report| panic!("{report}"))
}

/// The token that leaves, its header and its claims.
fn token(scheme: &Arc<dyn Authorizer>, unix: u64) -> (String, Json, Json) {
    let mut draft = draft("GET", "https://a.example/", &[], None);
    let field = signed(scheme, &mut draft, unix, &[(NonceKind::Jti, "id-1")], "authorization");
    let token = field.strip_prefix("Bearer ").unwrap().to_owned();
    let part = |at: usize| {
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, token.split('.').nth(at).unwrap()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let parts = (part(0), part(1));
    (token, parts.0, parts.1)
}

/// The vectors whose payload is a JSON object as a config writes one; the others sign other bytes, and are run in `jose`.
#[test]
fn vectors_are_reproduced_from_settings() {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    let mut run = 0;
    for vector in file["vectors"].as_array().unwrap() {
        let text = |name: &str| vector[name].as_str().unwrap();
        let Ok(claims) = serde_json::from_str::<Json>(text("payload")) else { continue };
        let mut headers: Json = serde_json::from_str(text("protected_header")).unwrap();
        if text("payload").contains('\n') || text("protected_header").contains('\n') {
            continue;
        }
        run += 1;
        let mut claims = claims.as_object().unwrap().clone();
        for automatic in ["iat", "exp", "jti"] {
            claims.entry(automatic).or_insert(Json::Null);
        }
        headers.as_object_mut().unwrap().remove("alg");
        let mut settings = serde_json::json!({ "algorithm": vector["alg"], "claims": claims, "headers": headers });
        match vector["private_key_pem_pkcs8"].as_str() {
            Some(pem) => settings["private_key"] = pem.into(),
            None => {
                settings["key"] = vector["secret_base64url"].clone();
                settings["key_encoding"] = "base64".into();
            }
        }
        let (token, ..) = token(&jwt(&settings), 1_300_815_790);
        let wanted = vector["expected_compact"].as_str().unwrap_or_else(|| text("one_valid_compact"));
        match vector["deterministic"] == true {
            true => assert_eq!(token, wanted, "{}", vector["id"]),
            false => assert_eq!(token.rsplit_once('.').unwrap().0, wanted.rsplit_once('.').unwrap().0, "{}", vector["id"]),
        }
    }
    assert_eq!(run, 10);
}

const HS: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn times_and_an_id_are_added_unless_given_and_null_leaves_one_out() {
    let with = |claims: Json| token(&jwt(&serde_json::json!({ "key": HS, "claims": claims })), 1000).2.to_string();
    assert_eq!(with(serde_json::json!({})), r#"{"iat":1000,"exp":1300,"jti":"id-1"}"#);
    assert_eq!(
        with(serde_json::json!({ "z": [1, { "a": "now" }], "nbf": "now-10", "exp": "now+1h", "jti": null, "a": "now" })),
        r#"{"z":[1,{"a":"now"}],"nbf":990,"exp":4600,"a":1000,"iat":1000}"#
    );
}

#[test]
fn headers_are_laid_over_and_the_key_brings_its_id_and_algorithm() {
    let jwk = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow","kid":"k7","alg":"HS512"}"#;
    let header = |settings: Json| token(&jwt(&settings), 1000).1.to_string();
    assert_eq!(header(serde_json::json!({ "key": jwk })), r#"{"alg":"HS512","typ":"JWT","kid":"k7"}"#);
    assert_eq!(
        header(
            serde_json::json!({ "private_key": jwk, "key_id": "mine", "headers": { "typ": "at+jwt", "x": 1, "alg": "none" } })
        ),
        r#"{"alg":"HS512","typ":"at+jwt","kid":"mine","x":1}"#
    );
    assert_eq!(header(serde_json::json!({ "key": jwk, "headers": { "typ": null, "kid": null } })), r#"{"alg":"HS512"}"#);
}

#[test]
fn a_token_is_used_until_near_its_end_and_made_anew_once_after_a_refusal() {
    let scheme = jwt(&serde_json::json!({ "key": HS, "lifetime": "100s" }));
    let (first, ..) = token(&scheme, 1000);
    assert_eq!(token(&scheme, 1089).0, first);
    let (second, ..) = token(&scheme, 1090);
    assert_ne!(second, first);
    assert_ne!(token(&scheme, 900).0, second, "the clock went back");

    let scheme = jwt(&serde_json::json!({ "key": HS }));
    let mut draft = draft("GET", "https://a.example/", &[], None);
    signed(&scheme, &mut draft, 1000, &[], "authorization");
    assert_eq!(answered(&scheme, &draft, 1000, 0, 401, &[]), Verdict::Final, "it was fresh");
    signed(&scheme, &mut draft, 1001, &[], "authorization");
    assert_eq!(answered(&scheme, &draft, 1001, 0, 200, &[]), Verdict::Final);
    signed(&scheme, &mut draft, 1001, &[], "authorization");
    assert_eq!(answered(&scheme, &draft, 1001, 0, 401, &[]), Verdict::Again, "it had been used");
    signed(&scheme, &mut draft, 1001, &[], "authorization");
    assert_eq!(answered(&scheme, &draft, 1001, 1, 401, &[]), Verdict::Final);
}

#[test]
fn it_lands_in_a_named_header_or_the_query_in_place_of_the_clients() {
    let sign = |settings: Json, url: &str| {
        let scheme = jwt(&settings);
        let mut draft = draft("GET", url, &[("x-token", "old")], None);
        signed(&scheme, &mut draft, 1000, &[], "x-token");
        (scheme, draft)
    };
    let (scheme, draft) = sign(serde_json::json!({ "key": HS, "name": "X-Token", "prefix": "" }), "https://a.example/?a=%20b");
    assert!(draft.headers["x-token"].to_str().unwrap().starts_with("ey"));
    assert_eq!(scheme.locations().writes, [CredentialLocation::Header(HeaderName::from_static("x-token"))]);
    let (scheme, draft) = sign(serde_json::json!({ "key": HS, "in": "query" }), "https://a.example/?a=%20b&token=old&c");
    assert!(draft.query().unwrap().starts_with("a=%20b&c&token=ey"), "{:?}", draft.query());
    assert_eq!(scheme.locations().writes, [CredentialLocation::Query("token".to_owned())]);
    assert!(scheme.canonical(&draft).unwrap().contains(r#"{"alg":"HS256","typ":"JWT"}"#));
}

#[tokio::test]
async fn keys_and_claims_may_come_from_commands() {
    let scheme = jwt(&serde_json::json!({
        "key": { "exec": ["echo", HS] },
        "claims": { "pin": { "exec": ["echo", "t0p"] }, "iat": null, "exp": null, "jti": null },
    }));
    let mut draft = draft("GET", "https://a.example/", &[], None);
    assert!(at(1000, &[], 0, |round| scheme.sign(&mut draft, round)).is_err(), "nothing is signed without its secrets");
    let moment = crate::moment::Moment::real();
    let round = Round { moment: &moment, attempt: 0, user: None, peer: None, channel_binding: None };
    sign_ready(&mut *scheme.clone().begin(), &mut draft, &round).await.unwrap();
    let fixed = jwt(&serde_json::json!({ "key": HS, "claims": { "pin": "t0p", "iat": null, "exp": null, "jti": null } }));
    assert_eq!(token(&scheme, 1000).0, token(&fixed, 1000).0);
    let shown = scheme.canonical(&draft).unwrap();
    assert!(shown.contains(r#""pin":"…""#) && !shown.contains("t0p"), "{shown}");
}

#[test]
fn mistakes_are_told_with_the_mend() {
    for (settings, said) in [
        ("{}", "a jwt has nothing to sign with"),
        ("{ key: a, private_key: b }", "a jwt has both `key` and `private_key`"),
        ("{ key: aaaa, algorithm: RS256 }", "a shared secret cannot sign by RS256"),
        ("{ key: '?', key_encoding: hex }", "this key is not written as `key_encoding` says"),
        ("{ key: '' }", "this key is empty"),
        ("{ key: aaaa, algorithm: hs256 }", "did you mean `HS256`?"),
        ("{ key: aaaa, lifetime: 0 }", "a token lives a second at least"),
        ("{ private_key: no/such/file }", "there is no such file"),
        ("{ key: aaaa, claims: { n: .inf } }", "JSON has no such number"),
        ("{ key: aaaa, in: body }", "unknown place for a token"),
    ] {
        let report = build(&SCHEME, settings).err().unwrap_or_else(|| panic!("{settings} was taken"));
        assert!(report.contains(said) && report.contains("test.yaml:1:"), "{settings}: {report}");
    }
    let (_, report) = build_with(&SCHEME, "{ key: short }");
    assert!(report.contains("this key has 5 octets; HS256 wants 32 or more"), "{report}");
}

#[test]
fn numbers_in_claims_leave_as_they_are_written() {
    let settings = "{ algorithm: HS256, key: abcdefghijklmnopqrstuvwxyz012345, claims: { a: 12345678901234567890123, b: 1.10, c: [1e5, { d: 0.10 }], e: 9007199254740993 } }";
    let jwt = build(&SCHEME, settings).unwrap();
    let mut draft = draft("GET", "https://a.example/", &[], None);
    let token = signed(&jwt, &mut draft, 1_000, &[(NonceKind::Jti, "j")], "authorization");
    let engine = &base64::prelude::BASE64_URL_SAFE_NO_PAD;
    let claims = base64::Engine::decode(engine, token.split('.').nth(1).unwrap()).unwrap();
    let claims = String::from_utf8(claims).unwrap();
    let start = "{\"a\":12345678901234567890123,\"b\":1.10,\"c\":[1e5,{\"d\":0.10}],\"e\":9007199254740993,";
    // YAML writes an exponent as JSON does, or with its sign.
    assert!(claims.replace("e+", "e").starts_with(start), "{claims}");
}
