//! Whatever a scheme changes in a request is declared by it: what is told, guarded and judged by `on_existing_auth` rests
//! on that. And a client's own credential of the same kind does not stay beside ours, wherever it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::oauth2::Session;
use super::testing::{Alone as _, build, built, draft, sign_ready};
use super::{Answer, Authorizer, BodyNeed, CredentialLocation, Locations, Round, SCHEMES};
use crate::draft::{Body, Draft};
use crate::moment::Moment;
use crate::secret::Secret;

/// Settings of each type, at least one for each place it writes.
pub fn examples(name: &str) -> &'static [&'static str] {
    match name {
        "none" => &["{}"],
        "bearer" => &["t", "{ token: t, prefix: '' }"],
        "basic" => &["{ username: u, password: p }"],
        "api_key" => &[
            "{ name: X-Api-Key, value: v }",
            "{ name: k, value: v, in: query }",
            "{ name: k, value: v, in: cookie }",
            "{ name: k, value: v, in: body }",
        ],
        "headers" => &["{ X-Api-Key: v, X-Other: v }"],
        "digest" => &["{ username: u, password: p }"],
        "oauth1" => &[
            "{ consumer_key: k, consumer_secret: s, verifier: v }",
            "{ consumer_key: k, consumer_secret: s, verifier: v, in: query }",
            "{ consumer_key: k, consumer_secret: s, verifier: v, in: body }",
        ],
        "jwt" => &[
            "{ key: abcdefghijklmnopqrstuvwxyz012345 }",
            "{ key: abcdefghijklmnopqrstuvwxyz012345, name: X-Token }",
            "{ key: abcdefghijklmnopqrstuvwxyz012345, in: query }",
        ],
        "hawk" => &["{ id: i, key: k, payload_hash: true }"],
        "akamai_edgegrid" => &["{ client_token: t, client_secret: s, access_token: a, headers_to_sign: [Host, Accept] }"],
        "asap" => &["{ issuer: i, key_id: i/k, audience: a, private_key: KEY }"],
        "oauth2" => &[
            "{ token_url: 'https://t.example/', client_id: c }",
            "{ token_url: 'https://t.example/', client_id: c, dpop: true }",
            "{ token_url: 'https://t.example/', client_id: c, in: query }",
        ],
        "cookies" => &["{ set: { k: v } }"],
        "ntlm" => &["{ username: u, password: p }"],
        "aws_sigv4" => &[
            "{ access_key: a, secret_key: s, session_token: t, region: us-east-1, service: s3 }",
            "{ access_key: a, secret_key: s, session_token: t, region: us-east-1, service: s3, in: query }",
            "{ access_key: a, secret_key: s, region: '*', service: s3 }",
        ],
        "http_signature" => &[
            "{ key: abcdefghijklmnopqrstuvwxyz012345, content_digest: sha-256 }",
            "{ key: abcdefghijklmnopqrstuvwxyz012345, content_digest: none, components: ['@method'] }",
        ],
        "placeholder" => &["{ match: gp-dummy-123, value: real-secret }"],
        "exec" => &["[echo, token]", "{ command: [echo, token] }"],
        other => panic!("give an example of {other}"),
    }
}

/// What stands for `KEY` in them.
pub fn private_key() -> String {
    let key = aws_lc_rs::signature::EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    pem::encode(&pem::Pem::new("PRIVATE KEY", key.to_pkcs8v1().unwrap().as_ref()))
}

/// A client that brings everything it can.
pub fn client(form: bool) -> Draft {
    let fields = [
        ("authorization", "OAuth oauth_consumer_key=\"old\""),
        ("dpop", "old"),
        ("x-api-key", "old"),
        ("x-other", "old"),
        ("x-token", "old"),
        ("x-dummy", "gp-dummy-123"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("cache-control", "max-age=0"),
        ("cookie", "mine=1; k=old; other=2"),
        ("x-amz-date", "20200101T000000Z"),
        ("x-amz-security-token", "old"),
        ("x-amz-s3session-token", "old"),
        ("signature", "keyId=\"old\",signature=\"old\""),
        ("content-digest", "sha-256=:b2xk:"),
        ("content-md5", "b2xk"),
        ("content-type", if form { "application/x-www-form-urlencoded" } else { "application/json" }),
        ("content-length", "60"),
    ];
    let target = "https://a.example/p?a=1&&b=%zz&access_token=old&bewit=old&k=old&token=old&oauth_nonce=old&%6Fauth_signature=old\
        &X-Amz-Signature=old&x-amz-security-token=old&X-Amz-S3session-Token=old&AWSAccessKeyId=old&Signature=old&Expires=1";
    let body: &[u8] = if form {
        b"a=1&&oauth_token=old&k=old&d=gp-dummy-123"
    } else {
        b"{ \"a\":1.10, \"k\":\"old\", \"d\":\"gp-dummy-123\" }"
    };
    draft("POST", target, &fields, Some(body))
}

/// What stands where, by the location it is at.
fn parts(draft: &Draft) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for (name, value) in draft.headers.iter().filter(|(name, _)| *name != header::COOKIE) {
        all.entry(format!("header {name}")).or_default().push(text(value.as_bytes()));
    }
    for pair in draft.headers.get_all(header::COOKIE).iter().flat_map(|field| field.to_str().unwrap().split("; ")) {
        all.entry(format!("cookie {}", pair.split('=').next().unwrap())).or_default().push(pair.to_owned());
    }
    let decoded =
        |pair: &str| percent_encoding::percent_decode_str(pair.split('=').next().unwrap()).decode_utf8_lossy().to_lowercase();
    for pair in draft.query().unwrap_or("").split('&') {
        all.entry(format!("query {}", decoded(pair))).or_default().push(pair.to_owned());
    }
    all.insert("path".to_owned(), vec![draft.path().to_owned()]);
    let Body::Held(held) = &draft.body else { return all };
    let body = text(held.bytes().unwrap());
    match draft.content_type().as_deref() {
        Some("application/json") => {
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&body).unwrap();
            object.into_iter().for_each(|(name, value)| all.entry(format!("body {name}")).or_default().push(value.to_string()));
        }
        _ => body.split('&').for_each(|pair| all.entry(format!("body {}", decoded(pair))).or_default().push(pair.to_owned())),
    }
    all
}

fn location(location: &CredentialLocation) -> String {
    match location {
        CredentialLocation::Header(name) | CredentialLocation::Aside(name) => format!("header {name}"),
        CredentialLocation::Query(name) => format!("query {}", name.to_lowercase()),
        CredentialLocation::Cookie(name) => format!("cookie {name}"),
        CredentialLocation::BodyField(name) => format!("body {name}"),
        CredentialLocation::Placeholder(_) | CredentialLocation::Jar => String::new(),
    }
}

async fn sign(scheme: &Arc<dyn Authorizer>, session: Option<&Session>, draft: &mut Draft) {
    if let Some(session) = session {
        let token = super::oauth2::Token { access: Secret::new("ours"), kind: None, life: None, refresh: None, scope: None };
        session.state.token.put(token, Duration::from_secs(60));
    }
    let (moment, need) = (Moment::real(), scheme.body_need(draft));
    let round = |attempt| Round { moment: &moment, attempt, user: None, peer: None, channel_binding: None };
    let mut own = scheme.clone().begin();
    sign_ready(&mut *own, draft, &round(0)).await.unwrap_or_else(|failure| panic!("{failure}"));
    let challenge = HeaderValue::from_static("Digest realm=r, nonce=n, qop=auth");
    let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, challenge)]);
    own.on_response(&Answer { draft, status: StatusCode::UNAUTHORIZED, headers: &headers }, b"", &round(0));
    if !draft.headers.contains_key(header::AUTHORIZATION) && need == BodyNeed::Repeat {
        own.sign(draft, &round(1)).unwrap();
    }
}

#[tokio::test]
async fn every_scheme_changes_what_it_declares_and_nothing_else() {
    let key = private_key();
    for scheme in SCHEMES.iter().filter(|scheme| scheme.name != "negotiate") {
        for settings in examples(scheme.name) {
            let settings = settings.replace("KEY", &format!("{key:?}"));
            let (authorizer, session, report) = built(scheme, &settings);
            let authorizer = authorizer.unwrap_or_else(|| panic!("{report}"));
            for form in [true, false] {
                let (before, mut draft) = (parts(&client(form)), client(form));
                sign(&authorizer, session.as_deref(), &mut draft).await;
                let after = parts(&draft);
                let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
                let changed: Vec<&String> = names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect();
                let Locations { writes, clears } = authorizer.locations();
                let words: Vec<String> = writes.iter().chain(&clears).map(location).collect();
                let body_changed = changed.iter().any(|name| name.starts_with("body "));
                for name in &changed {
                    let of_body =
                        ["header content-length", "header content-digest", "header content-md5"].contains(&name.as_str());
                    let of_version_2 =
                        ["query signature", "query expires"].contains(&name.as_str()) && scheme.name == "aws_sigv4";
                    let of_dummy = scheme.name == "placeholder" && before[*name].iter().any(|text| text.contains("gp-dummy"));
                    let fits = words.contains(name) || (of_body && body_changed) || of_version_2 || of_dummy;
                    assert!(fits, "{} {settings} changes {name}, and declares {words:?}", scheme.name);
                }
                for cleared in clears.iter().map(location) {
                    assert!(!after.contains_key(&cleared), "{} {settings} leaves the client's {cleared}", scheme.name);
                }
                assert!(scheme.name == "none" || !changed.is_empty(), "{} {settings} adds nothing", scheme.name);
            }
        }
    }
}

#[test]
fn basic_credentials_of_a_client_beside_an_oauth1_query_are_its_own_affair() {
    let scheme = build(SCHEMES.iter().find(|scheme| scheme.name == "oauth1").unwrap(), "{ consumer_key: k, in: query }").unwrap();
    let field = format!("Basic {}", BASE64_STANDARD.encode("u:p"));
    let mut draft = draft("GET", "https://a.example/", &[("authorization", &field)], None);
    super::testing::at(0, &[], 0, |round| scheme.sign(&mut draft, round)).unwrap();
    assert_eq!(draft.headers[header::AUTHORIZATION], field);
}

#[test]
fn cloudfront_urls_are_not_taken_for_those_of_version_2() {
    let aws = SCHEMES.iter().find(|scheme| scheme.name == "aws_sigv4").unwrap();
    let scheme = build(aws, "{ access_key: a, secret_key: s, region: us-east-1, service: s3 }").unwrap();
    let signed = |url: &str| {
        let mut draft = draft("GET", url, &[], None);
        super::testing::at(0, &[], 0, |round| scheme.sign(&mut draft, round)).unwrap();
        draft.target.to_string()
    };
    assert_eq!(signed("https://a.example/o?Expires=1&Signature=x&Key-Pair-Id=k"), "/o?Expires=1&Signature=x&Key-Pair-Id=k");
    assert_eq!(signed("https://a.example/o?versionId=1&AWSAccessKeyId=a&Signature=x%3D&Expires=1"), "/o?versionId=1");
    assert_eq!(signed("https://a.example/o?x-amz-signature=a&X-AMZ-CREDENTIAL=b&x=1"), "/o?x=1");
}
