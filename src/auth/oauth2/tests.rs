use std::collections::BTreeSet;
use std::time::SystemTime;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use serde_json::{Value as Json, json};

use super::answer::pairs;
use super::authorize::{Authorization, Returned, challenge};
use super::device::Device;
use super::request::{AtHand, Form};
use super::*;
use crate::auth::jose::thumbprint;
use crate::auth::testing::{Alone as _, answered, at, build, build_session, build_with, draft};
use crate::moment::{Moment, NonceKind};
use crate::settings::Text;
use crate::upstream::fetch::Fetched;

const VECTORS: &str = include_str!("../../../tests/vectors/oauth2.json");
const PROOFS: &str = include_str!("../../../tests/vectors/dpop.json");

/// The scheme by its settings, `token_url` and what the grant needs besides filled in.
fn scheme(settings: Json) -> (Arc<dyn Authorizer>, Arc<Session>) {
    let mut all = json!({ "token_url": "https://server.example.com/token" });
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    build_session(&SCHEME, &all.to_string())
}

fn session(settings: Json) -> Arc<Session> {
    scheme(settings).1
}

fn with_secrets<T>(session: &Session, work: impl FnOnce(&AtHand<'_>) -> T) -> T {
    let known = |text: &Text| match text {
        Text::Known(secret) => secret.clone(),
        Text::Command(_) => panic!("a command"),
    };
    let of = |name: &'static str| session.settings.secrets.get(name).map(known);
    let moment = Moment::pinned(Some(SystemTime::UNIX_EPOCH), []);
    let token_url = session.settings.token_url.as_ref().unwrap().to_string();
    work(&AtHand { of: &of, text: &|text| Ok(known(text)), token_url: &token_url, moment: &moment })
}

fn sorted(body: &str) -> BTreeSet<(String, String)> {
    pairs(body).into_iter().map(|(name, value)| (name, value.trim().to_owned())).collect()
}

/// Are the fields and the body those that a vector expects?
fn same(form: Form, expected: &Json, id: &str) {
    let (headers, body) = form.message();
    let body = String::from_utf8(body.to_vec()).unwrap();
    for field in expected["headers"].as_array().unwrap() {
        let name: HeaderName = field[0].as_str().unwrap().parse().unwrap();
        assert_eq!(headers[&name], field[1].as_str().unwrap(), "{id}");
    }
    if let Some(expected) = expected["body"].as_str() {
        assert_eq!(sorted(&body), sorted(expected), "{id}");
    }
    if let Some(prefix) = expected["body_prefix"].as_str() {
        assert!(body.starts_with(prefix), "{id}: {body}");
    }
}

fn fetched(status: u16, body: &Json) -> Fetched {
    Fetched { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: Bytes::from(body.to_string()) }
}

fn of_grant(session: &Session) -> Form {
    with_secrets(session, |at_hand| request::of_grant(&session.settings, at_hand)).unwrap()
}

const CLIENT: &str = "s6BhdRkqt3";

#[test]
#[allow(clippy::too_many_lines)]
fn every_published_message_is_reproduced_or_understood() {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 28);
    let mut skipped = Vec::new();
    for vector in vectors {
        let id = vector["id"].as_str().unwrap();
        let (inputs, expected) = (&vector["inputs"], &vector["expected"]);
        let text = |name: &str| inputs[name].as_str().unwrap_or_else(|| panic!("{id}: {name}")).to_owned();
        let with_secret = |secret: Json| json!({ "client_id": CLIENT, "client_secret": secret });
        match id {
            "client-auth-basic" | "client-auth-basic-special" => {
                let session = session(json!({ "client_id": text("client_id"), "client_secret": text("client_secret") }));
                assert_eq!(
                    of_grant(&session).headers[header::AUTHORIZATION],
                    expected["authorization"].as_str().unwrap(),
                    "{id}"
                );
            }
            "client-auth-body-refresh" => {
                let session = session(json!({ "grant": "refresh_token", "client_auth": "post", "client_id": text("client_id"),
                    "client_secret": text("client_secret"), "refresh_token": text("refresh_token") }));
                let token = Secret::new(text("refresh_token"));
                same(
                    with_secrets(&session, |at_hand| request::refresh(&session.settings, &token, at_hand)).unwrap(),
                    expected,
                    id,
                );
            }
            "auth-code-callback" | "auth-code-callback-error" | "auth-code-callback-state-mismatch" => {
                let url = text("callback").replace("https://client.example.com/cb", "/callback");
                let session = session(
                    json!({ "grant": "authorization_code", "client_id": CLIENT, "auth_url": "https://server.example.com/authorize" }),
                );
                let begun = Authorization { state: text("expected_state"), verifier: String::new(), redirect: String::new() };
                let wanted = match (expected["code"].as_str(), expected["error"].as_str()) {
                    (Some(code), _) => Returned::Code(code.to_owned()),
                    (_, Some(error)) => Returned::Refused(error.to_owned()),
                    _ => Returned::Foreign("this answer belongs to another sign-in: its state is not the one that was sent"),
                };
                assert_eq!(begun.returned(&session.settings, &url), wanted, "{id}");
            }
            "token-response" => {
                let token = answer::token(&fetched(200, &inputs["json"]), false).ok().unwrap();
                assert_eq!(token.access.expose(), expected["access_token"]);
                assert_eq!(token.life.unwrap().as_secs(), expected["expires_in"]);
                assert_eq!(token.refresh.unwrap().expose(), expected["refresh_token"]);
            }
            "token-error" | "token-error-401" => {
                let wrong =
                    answer::token(&fetched(inputs["status"].as_u64().unwrap() as u16, &inputs["json"]), false).err().unwrap();
                assert_eq!(wrong.code(), expected["error"]);
            }
            "password-token" => {
                let mut settings = inputs.as_object().unwrap().clone();
                settings.insert("grant".to_owned(), "password".into());
                same(of_grant(&session(Json::Object(settings))), expected, id);
            }
            "client-credentials-token" => same(of_grant(&session(inputs.clone())), expected, id),
            "form-encoding" => assert_eq!(request::encode(&text("value")), expected["encoded"]),
            "bearer-header" | "bearer-query" => {
                let token = "mF_9.B5f-4.1JqM";
                let place = if id == "bearer-query" { "query" } else { "header" };
                let (scheme, session) = scheme(json!({ "client_id": id, "in": place }));
                session.state.token.put(issued(token), std::time::Duration::from_secs(60));
                let mut draft = draft("GET", "https://server.example.com/resource", &[], None);
                at(0, &[], 0, |round| scheme.sign(&mut draft, round)).unwrap();
                match expected["target"].as_str() {
                    Some(target) => assert_eq!(
                        (draft.target.as_str(), draft.headers[header::CACHE_CONTROL].to_str().unwrap()),
                        (target, "no-store")
                    ),
                    None => assert_eq!(draft.headers[header::AUTHORIZATION], expected["authorization"].as_str().unwrap()),
                }
            }
            "bearer-expired" | "bearer-insufficient-scope" => {
                let (scheme, session) = scheme(json!({ "client_id": id }));
                let mut draft = draft("GET", "https://server.example.com/resource", &[], None);
                session.state.token.put(issued("old"), std::time::Duration::from_secs(60));
                at(0, &[], 0, |round| scheme.sign(&mut draft, round)).unwrap();
                let field = inputs["headers"][0][1].as_str().unwrap();
                let verdict =
                    answered(&scheme, &draft, 0, 0, inputs["status"].as_u64().unwrap() as u16, &[("www-authenticate", field)]);
                assert_eq!(verdict == Verdict::Again, expected["refresh_then_retry_once"].as_bool().unwrap(), "{id}");
                // Once.
                assert_eq!(answered(&scheme, &draft, 0, 1, 401, &[("www-authenticate", field)]), Verdict::Final, "{id}");
            }
            "jwt-bearer-grant" => {
                let mut claims = inputs["claims"].clone();
                claims.as_object_mut().unwrap().extend([("iat".to_owned(), Json::Null), ("jti".to_owned(), Json::Null)]);
                let session = session(json!({ "grant": "jwt_bearer", "private_key": KEY, "key_id": "16", "claims": claims }));
                let form = of_grant(&session);
                let body = form.encode().to_string();
                let assertion = pairs(&body).into_iter().find(|(name, _)| name == "assertion").unwrap().1;
                assert_eq!(part(&assertion, 0), json!({ "alg": "ES256", "typ": "JWT", "kid": "16" }));
                assert_eq!(part(&assertion, 1), inputs["claims"]);
                same(form, expected, id);
            }
            "device-authorization" => {
                let session = session(
                    json!({ "grant": "device_code", "client_id": text("client_id"), "scopes": text("scope"), "device_url": "https://server.example.com/device_authorization" }),
                );
                same(with_secrets(&session, |at_hand| request::device(&session.settings, at_hand)).unwrap(), expected, id);
            }
            "device-authorization-response" => {
                let device = Device::read(inputs["json"].as_object().unwrap()).ok().unwrap();
                assert_eq!(json!([device.verification_uri, device.user_code]), expected["show_user"]);
                assert_eq!(device.interval().as_secs(), expected["interval"]);
            }
            "device-token" => {
                let session = session(
                    json!({ "grant": "device_code", "client_id": "1406020730", "device_url": "https://server.example.com/device_authorization" }),
                );
                let code = Secret::new("GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS");
                same(
                    with_secrets(&session, |at_hand| request::device_poll(&session.settings, &code, at_hand)).unwrap(),
                    expected,
                    id,
                );
            }
            "token-exchange" => {
                let mut settings = inputs.as_object().unwrap().clone();
                settings.insert("grant".to_owned(), "token_exchange".into());
                same(of_grant(&session(Json::Object(settings))), expected, id);
            }
            "mtls-client-auth" => {
                // With the certificate it is `tls_client_auth`, without one `none`: the same message.
                let form = of_grant(&session(json!({ "client_id": CLIENT, "client_auth": "none" })));
                assert!(!form.headers.contains_key(header::AUTHORIZATION));
                let body = form.encode().to_string();
                assert!(expected["body_contains"].as_array().unwrap().iter().all(|part| body.contains(part.as_str().unwrap())));
            }
            "resource-indicator" => {
                let session = session(
                    json!({ "grant": "authorization_code", "client_id": CLIENT, "resource": inputs["resource"], "auth_url": "https://server.example.com/authorize" }),
                );
                let begun = Authorization::begin(&session.settings, 8080, &Moment::real());
                let url = begun.url(&session.settings, session.settings.auth_url.as_ref().unwrap(), &Secret::new(CLIENT));
                assert!(url.contains(expected["query_contains"].as_str().unwrap()), "{url}");
            }
            "revocation" => {
                let session = session(with_secret("gX1fBat3bV".into()));
                let token = Secret::new("45ghiukldjahdnhzdauz");
                let form =
                    with_secrets(&session, |at_hand| request::revocation(&session.settings, &token, "refresh_token", at_hand))
                        .unwrap();
                same(form, expected, id);
            }
            id => skipped.push(id),
        }
    }
    // No implicit grant and no plain PKCE: RFC 9700 forbids the one, and S256 is always used; our own verifiers cannot be
    // too short; the confirmation of a certificate is the servers' to compute.
    assert_eq!(skipped, ["implicit-callback", "pkce-plain", "pkce-bad-verifier", "mtls-cnf"]);
}

fn issued(access: &str) -> Token {
    Token { access: Secret::new(access), kind: None, life: None, refresh: None, scope: None }
}

/// A part of a JWT.
fn part(token: &str, n: usize) -> Json {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap()).unwrap()
}

const KEY: &str = include_str!("../../../tests/fixtures/tls/alice.key");

#[test]
fn pkce_is_as_rfc_7636_appendix_b_has_it() {
    assert_eq!(challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    let session = session(json!({ "grant": "authorization_code", "client_id": "a b", "auth_url": "https://a.example/auth?x=1",
        "scopes": ["openid", "email"], "auth_params": { "prompt": "consent" }, "redirect_uri": "http://localhost" }));
    let moment = Moment::pinned(None, [(NonceKind::State, "st".to_owned()), (NonceKind::PkceVerifier, "v".to_owned())]);
    let begun = Authorization::begin(&session.settings, 8080, &moment);
    let url = begun.url(&session.settings, session.settings.auth_url.as_ref().unwrap(), &Secret::new("a b"));
    assert_eq!(
        url,
        format!(
            "https://a.example/auth?x=1&response_type=code&client_id=a+b&redirect_uri=http%3A%2F%2Flocalhost%3A8080&scope=openid+email&state=st&code_challenge={}&code_challenge_method=S256&prompt=consent",
            challenge("v")
        )
    );
    assert_eq!(begun.returned(&session.settings, "/?code=c&state=st"), Returned::Code("c".to_owned()));
    assert!(matches!(begun.returned(&session.settings, "/favicon.ico"), Returned::Foreign(_)));
    assert!(Authorization::begin(&session.settings, 1, &Moment::real()).verifier.len() == 43);
}

#[test]
fn answers_are_read_as_servers_write_them_and_nonsense_is_told_without_being_shown() {
    let read = |status: u16, body: &str| {
        let body = Bytes::copy_from_slice(body.as_bytes());
        answer::token(&Fetched { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body }, false)
    };
    let life = |body: &str| read(200, body).ok().unwrap().life.map(|life| life.as_secs());
    assert_eq!(life(r#"{"access_token":"t","expires_in":"3600"}"#), Some(3600));
    assert_eq!(life(r#"{"access_token":"t","expires_in":59.9}"#), Some(59));
    assert_eq!(life(r#"{"access_token":"t","expires_in":-1}"#), None);
    assert_eq!(life(r#"{"access_token":"t","expires_in":1e300}"#), Some(10 * 365 * 86_400));
    assert_eq!(life("access_token=t&expires_in=60&token_type=bearer"), Some(60));
    assert_eq!(life(r#"{"access_token":"t"}"#), None);
    for (status, body, told) in [
        (200, r#"{"error":"bad_verification_code","error_description":"It\r\nis wrong"}"#, "bad_verification_code"),
        (400, "error=invalid_grant&error_description=gone", "invalid_grant"),
        (400, r#"{"error":{"code":"AADSTS7","message":"m"}}"#, "AADSTS7"),
        (200, "<html>s3cret</html>", "it answered 200 OK with nothing named, which is no token"),
        (500, "s3cret", "it answered 500 Internal Server Error"),
        (302, "", "it answered 302 Found; redirects are not followed"),
        (200, r#"{"access_token":""}"#, "it answered 200 OK with no access_token"),
        (200, r#"{"access_token":"s3 cret"}"#, "its token holds characters that a header cannot carry"),
    ] {
        assert_eq!(read(status, body).err().unwrap().to_string(), told, "{body}");
    }
    let wrong = read(400, r#"{"error":"bad_verification_code","error_description":"It\r\nis wrong"}"#).err().unwrap();
    assert_eq!(wrong.said(), "It  is wrong");
    // A sentence is no code, and a mark before the text no mistake.
    assert_eq!(read(400, r#"{"error":"user bob has no rights"}"#).err().unwrap().to_string(), "error");
    assert_eq!(read(200, "\u{feff}{\"access_token\":\"t\"}").ok().unwrap().access.expose(), "t");
    let long = json!({ "error": "x".repeat(5_000) });
    assert!(read(400, &long.to_string()).err().unwrap().to_string().len() < 300);
}

#[test]
fn the_id_token_is_used_where_that_is_asked_for_until_its_own_end() {
    let read = |body: Json, id_token: bool| {
        let body = Bytes::from(body.to_string());
        answer::token(&Fetched { status: StatusCode::OK, headers: HeaderMap::new(), body }, id_token)
    };
    let end = Moment::real().unix() + 600;
    let id = format!("e30.{}.c2ln", crate::auth::jose::base64url(format!("{{\"exp\":{end}}}").as_bytes()));
    let both = json!({ "access_token": "a", "id_token": id, "token_type": "DPoP", "expires_in": 5 });
    let token = read(both.clone(), true).ok().unwrap();
    assert_eq!((token.access.expose(), token.kind), (id.as_str(), None));
    assert!(token.life.is_some_and(|life| (590..=600).contains(&life.as_secs())), "{:?}", token.life);
    assert_eq!(read(both, false).ok().unwrap().access.expose(), "a");
    let why = |body: Json, id_token| read(body, id_token).err().unwrap().to_string();
    assert!(why(json!({ "id_token": id }), false).contains("`token: id_token` would have used"));
    assert!(why(json!({ "access_token": "a" }), true).contains("no id_token"));
}

#[test]
fn a_coded_answer_is_refused_with_the_reason_since_none_was_asked_for() {
    let headers = HeaderMap::from_iter([(http::header::CONTENT_ENCODING, "gzip".parse().unwrap())]);
    let fetched = Fetched { status: StatusCode::OK, headers, body: Bytes::from_static(b"\x1f\x8b") };
    assert!(answer::token(&fetched, false).err().unwrap().to_string().contains("in the coding gzip, though identity"));
    let (headers, _) = request::Form::default().message();
    assert_eq!(headers["accept-encoding"], "identity");
}

#[test]
fn a_redirect_to_an_app_elsewhere_is_sent_as_registered_and_read_from_what_is_pasted() {
    let session = session(json!({ "grant": "authorization_code", "client_id": "a", "auth_url": "https://a.example/auth",
        "redirect_uri": "https://app.example/cb" }));
    let moment = Moment::pinned(None, [(NonceKind::State, "st".to_owned())]);
    let begun = Authorization::begin(&session.settings, 0, &moment);
    assert_eq!(begun.redirect, "https://app.example/cb");
    assert_eq!(begun.returned(&session.settings, "/cb?code=c&state=st"), Returned::Code("c".to_owned()));
    assert!(matches!(begun.returned(&session.settings, "/cb?code=c&state=other"), Returned::Foreign(_)));
}

#[test]
fn what_a_grant_lacks_and_what_it_has_no_use_for_is_told() {
    for (settings, told) in [
        ("{}", "oauth2 with grant client_credentials needs `token_url`"),
        ("{ token_url: https://a.example/t }", "needs `client_id`"),
        ("{ token_url: a.example/t, client_id: x }", "`token_url` is not a URL"),
        ("{ token_url: https://a.example/t, client_id: x, client_auth: post }", "needs `client_secret`"),
        ("{ token_url: https://a.example/t, client_id: x, username: u }", "`username` has no use with grant client_credentials"),
        ("{ token_url: https://a.example/t, client_id: x, client_auth: tls_client_auth }", "needs `client_certificate`"),
        ("{ token_url: https://a.example/t, client_id: x, private_key: '-----BEGIN X-----' }", "private key"),
        ("{ token_url: https://a.example/t, client_id: x, client_secret: '' }", "`client_secret` is empty"),
        ("{ grant: jwt_bearer, token_url: https://a.example/t }", "has no assertion"),
        ("{ grant: device_code, token_url: https://a.example/t, client_id: x }", "needs `device_url`"),
        ("{ grant: client_credential, token_url: https://a.example/t }", "did you mean `client_credentials`?"),
        (
            "{ grant: authorization_code, token_url: https://a.example/t, auth_url: https://a.example/a, client_id: x, redirect_uri: http://app.example/cb }",
            "comes back to this machine",
        ),
    ] {
        let report = build(&SCHEME, settings).err().unwrap_or_default();
        assert!(report.contains(told), "{settings}: {report}");
    }
    let (scheme, report) = build_with(&SCHEME, "{ token_url: http://a.example/t, client_id: x }");
    assert!(scheme.is_some() && report.contains("plain http"), "{report}");
    let (scheme, report) = build_with(&SCHEME, "{ token_url: http://localhost:8080/t, client_id: x }");
    assert!(scheme.is_some() && report.is_empty(), "{report}");
}

#[test]
fn equal_settings_share_their_token_and_others_do_not_nor_another_gatepass() {
    let settings = |secret: &str| session(json!({ "client_id": "shared", "client_secret": secret })).settings.clone();
    let (sessions, elsewhere) = (Sessions::default(), Sessions::default());
    let [one, two, other] = ["a", "a", "b"].map(|secret| sessions.state_of(&settings(secret)));
    one.token.put(issued("t"), std::time::Duration::from_secs(60));
    assert_eq!(two.token.peek().unwrap().access.expose(), "t");
    assert!(other.token.peek().is_none());
    assert!(elsewhere.state_of(&settings("a")).token.peek().is_none());
}

#[test]
fn what_was_got_ready_is_signed_with_though_another_request_had_it_given_up() {
    let (scheme, session) = scheme(json!({ "client_id": "own" }));
    let (mut own, mut unready) = (scheme.clone().begin(), scheme.begin());
    let mut draft = draft("GET", "https://a.example/", &[], None);
    session.state.token.put(issued("t"), std::time::Duration::from_secs(60));
    at(0, &[], 0, |round| {
        assert!(own.prepare(&draft, round).is_none(), "a token that is at hand is not waited for");
        assert!(session.refused(&Secret::new("t")));
        assert!(unready.sign(&mut draft, round).is_err());
        own.sign(&mut draft, round).unwrap();
    });
    assert_eq!(draft.headers[header::AUTHORIZATION], "Bearer t");
}

#[test]
fn published_proofs_are_what_ours_are_made_like() {
    let file: Json = serde_json::from_str(PROOFS).unwrap();
    for vector in file["vectors"].as_array().unwrap() {
        // The RFC shows no private keys: its proofs are verified, and ours must have the same members.
        let (proof, id) = (vector["proof"].as_str().unwrap(), &vector["id"]);
        let jwk = vector["header"]["jwk"].as_object().unwrap();
        assert_eq!(thumbprint(jwk), vector["expected_jkt"].as_str().unwrap(), "{id}");
        assert!(verifies(proof), "{id}");
        let (claims, key) = (&vector["claims"], dpop::Bound::read(&Secret::new(KEY), false).unwrap());
        let url = crate::upstream::fetch::Url::parse(&format!("{}?query=1", claims["htu"].as_str().unwrap())).unwrap();
        let token = vector["access_token"].as_str().map(Secret::new);
        let method: Method = claims["htm"].as_str().unwrap().parse().unwrap();
        let proven = Proven { method: &method, origin: &url.origin, target: &url.target, token: token.as_ref() };
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(claims["iat"].as_u64().unwrap());
        let moment = Moment::pinned(Some(at), [(NonceKind::Jti, claims["jti"].as_str().unwrap().to_owned())]);
        let own = key.proof(&proven, None, &moment).unwrap();
        assert_eq!(part(&own, 1), *claims, "{id}");
        assert_eq!((&part(&own, 0)["typ"], &part(&own, 0)["alg"]), (&vector["header"]["typ"], &vector["header"]["alg"]));
        let names = |jwk: &Json| jwk.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&part(&own, 0)["jwk"]), names(&vector["header"]["jwk"]), "{id}: the public members, no private one");
        assert!(verifies(&own), "{id}");
    }
    assert_eq!(file["vectors"].as_array().unwrap().len(), 3);
}

/// By the key in its own header.
fn verifies(proof: &str) -> bool {
    let jwk = &part(proof, 0)["jwk"];
    let half = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], half("x"), half("y")].concat();
    let (message, signature) = proof.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message.as_bytes(), &signature).is_ok()
}

#[test]
fn a_nonce_that_a_server_wants_is_in_the_next_proof_and_asked_for_once() {
    let file: Json = serde_json::from_str(PROOFS).unwrap();
    let case = file["nonce_cases"].as_array().unwrap().iter().find(|case| case["id"] == "rs-nonce").unwrap();
    let fields: Vec<(&str, &str)> = case["response"]["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f[0].as_str().unwrap(), f[1].as_str().unwrap()))
        .collect();
    let (scheme, session) = scheme(json!({ "client_id": "nonce", "dpop": true }));
    session.state.token.put(issued("t"), std::time::Duration::from_secs(60));
    let mut draft = draft("GET", "https://resource.example.org/r?x=1", &[], None);
    at(0, &[], 0, |round| scheme.sign(&mut draft, round)).unwrap();
    assert_eq!(draft.headers[header::AUTHORIZATION], "DPoP t");
    let claims = |draft: &Draft| part(draft.headers[&PROOF].to_str().unwrap(), 1);
    assert_eq!(
        (claims(&draft)["nonce"].clone(), claims(&draft)["htu"].clone()),
        (Json::Null, "https://resource.example.org/r".into())
    );
    assert_eq!(answered(&scheme, &draft, 0, 0, 401, &fields), Verdict::Again);
    at(0, &[], 1, |round| scheme.sign(&mut draft, round)).unwrap();
    assert_eq!(claims(&draft)["nonce"], "eyJ7S_zG.eyJH0-Z.HX4w-7v");
    assert_eq!(answered(&scheme, &draft, 0, 1, 401, &fields), Verdict::Final);
    // Another server's proofs do not have it.
    draft.origin =
        Arc::new(crate::origin::Origin::new(crate::origin::Scheme::Https, crate::origin::Host::parse("b.example").unwrap(), 443));
    at(0, &[], 0, |round| scheme.sign(&mut draft, round)).unwrap();
    assert_eq!(claims(&draft)["nonce"], Json::Null);
}

/// The cases of the clock; those of what is asked of whom stand in tests/behaviour/oauth2.rs, but for
/// `as-down-token-still-valid`, which is one of `Cached` (src/cached.rs).
#[tokio::test(start_paused = true)]
async fn tokens_are_used_renewed_and_given_up_as_the_cases_say() {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    let cases = file["token_cache_cases_ours"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    let mut clocked = 0;
    for case in cases.iter().filter(|case| case["clock"].is_u64()) {
        let (clock, token) = (case["clock"].as_u64().unwrap(), &case["token"]);
        let read =
            answer::token(&fetched(200, &json!({ "access_token": "t", "expires_in": token["expires_in"] })), false).ok().unwrap();
        let state = session::State::default();
        state.token.put(read.clone(), session::life(&read));
        tokio::time::advance(std::time::Duration::from_secs(clock - token["obtained"].as_u64().unwrap())).await;
        let used = state.token.cached().is_some();
        assert_eq!(used, case["expect"].as_str().unwrap().starts_with("use"), "{}", case["id"]);
        clocked += 1;
    }
    assert_eq!(clocked, 4);
    let text = cases.iter().find(|case| case["id"] == "string-expires-in").unwrap();
    let body = json!({ "access_token": "t", "expires_in": text["token"]["expires_in"] });
    assert_eq!(answer::token(&fetched(200, &body), false).ok().unwrap().life.unwrap().as_secs(), 3600);
}
