use serde_json::{Map, Value as Json, json};

use super::*;
use crate::auth::testing::{Alone as _, build, draft, signed};

const VECTORS: &str = include_str!("../../../tests/vectors/oauth1.json");

fn file() -> Json {
    serde_json::from_str(VECTORS).unwrap()
}

fn oauth1(settings: &Json) -> Arc<dyn Authorizer> {
    build(&SCHEME, &settings.to_string()).unwrap_or_else(|report| panic!("{report}"))
}

/// The parameters of a signed draft's header, decoded.
fn sent(field: &str) -> Vec<(String, String)> {
    let field = challenge::parse(field).remove(0);
    assert_eq!(field.scheme, "oauth");
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    field.params.iter().filter(|(name, _)| name != "realm").map(|(name, value)| (name.clone(), decoded(value))).collect()
}

fn settings(vector: &Json) -> Json {
    let mut settings: Map<String, Json> = vector["credential"].as_object().unwrap().clone();
    settings.insert("signature_method".to_owned(), vector["signature_method"].clone());
    settings.insert("version".to_owned(), vector["oauth_version"].as_str().unwrap_or("").into());
    for (name, parameter) in [("callback", "oauth_callback"), ("verifier", "oauth_verifier")] {
        settings.insert(name.to_owned(), vector["extra"][parameter].clone());
    }
    settings.insert("realm".to_owned(), vector["realm"].clone());
    settings.insert("body_hash".to_owned(), (!vector["body_hash"].is_null()).into());
    settings.retain(|_, value| !value.is_null());
    Json::Object(settings)
}

#[test]
fn every_vector_is_reproduced_but_those_with_a_key_too_short_for_the_library() {
    let file = file();
    let (mut run, mut skipped) = (0, Vec::new());
    for vector in file["vectors"].as_array().unwrap() {
        // oauth.net's test key has 1024 bits; aws-lc signs with 2048 or more, OpenSSL with any. RSA is run below too.
        let by_openssl = cfg!(feature = "openssl") && vector["signature_method"] == "RSA-SHA1";
        if vector["private_key"].is_string() && !by_openssl {
            skipped.push(vector["id"].as_str().unwrap());
            continue;
        }
        run += 1;
        let request = &vector["request"];
        let headers: Vec<(String, String)> = serde_json::from_value(request["headers"].clone()).unwrap();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let body = request["body"].as_str().filter(|body| !body.is_empty()).map(str::as_bytes);
        let mut draft = draft(request["method"].as_str().unwrap(), request["url"].as_str().unwrap(), &headers, body);
        let target = draft.target.clone();
        let mut settings = settings(vector);
        if by_openssl {
            settings["private_key"] = file["test_private_key_pem_published_by_oauth_net_wiki"]["test_principal"].clone();
        }
        let scheme = oauth1(&settings);
        let clock = vector["clock"].as_u64().unwrap_or(1);
        let nonces = [(NonceKind::Oauth1, vector["nonce"].as_str().unwrap_or("n"))];
        let field = signed(&scheme, &mut draft, clock, &nonces, "authorization");
        let mut mine = sent(&field);
        if vector["clock"].is_null() {
            // PLAINTEXT may go without them, and servers that want them take it with them.
            mine.retain(|(name, _)| name != "oauth_timestamp" && name != "oauth_nonce");
        } else {
            let shown = scheme.canonical(&draft).unwrap();
            assert_eq!(shown, vector["expected"]["base_string"].as_str().unwrap(), "{}", vector["id"]);
        }
        let mut theirs: Vec<(String, String)> =
            serde_json::from_value(vector["expected"]["authorization_params"].clone()).unwrap();
        mine.sort();
        theirs.sort();
        assert_eq!(mine, theirs, "{}", vector["id"]);
        assert_eq!(draft.target, target, "the wire's bytes stay");
    }
    assert_eq!(run + skipped.len(), file["vectors"].as_array().unwrap().len());
    let short = ["oauth-wiki-rsa-sha1", "computed-rsa-sha256", "computed-rsa-sha512"];
    assert_eq!(skipped, short[usize::from(cfg!(feature = "openssl"))..]);
}

#[test]
fn the_wikis_encodings_normalizations_and_base_strings_are_reproduced() {
    let file = file();
    let cases = |name: &str| file[name]["cases"].as_array().unwrap().clone();
    for case in cases("parameter_encoding_cases") {
        assert_eq!(Pair::new("a", case[0].as_str().unwrap()).joined(), format!("a={}", case[1].as_str().unwrap()));
    }
    for case in cases("normalization_cases") {
        assert_eq!(base::normalized(base::pairs(case[0].as_str().unwrap().as_bytes())), case[1].as_str().unwrap());
    }
    for case in cases("base_string_cases") {
        let text = |at: usize| case[at].as_str().unwrap();
        let draft = draft(text(0), text(1), &[], None);
        let pairs = base::pairs(text(2).as_bytes()).into_iter().filter(|pair| pair.name() != "oauth_signature").collect();
        assert_eq!(base::string(&draft, pairs), text(3));
    }
    for case in file["hmac_sha1_cases"]["cases"].as_array().or(file["hmac_sha1_cases"].as_array()).unwrap() {
        let text = |name: &str| case[name].as_str().unwrap();
        let fixed = |name: &str| Some(SecretRef::Known(Secret::new(text(name))));
        let scheme = OAuth1 {
            consumer_key: SecretRef::Known(Secret::new("k")),
            consumer_secret: fixed("consumer_secret"),
            token: None,
            token_secret: fixed("token_secret"),
            method: Method::Hmac(Hash::Sha1),
            private_key: None,
            realm: None,
            at: Where::Header,
            body_hash: false,
            more: Vec::new(),
            verifier: None,
        };
        assert_eq!(scheme.signature(text("base_string")).unwrap(), text("signature"));
    }
}

fn key() -> String {
    let jwt: Json = serde_json::from_str(include_str!("../../../tests/vectors/jwt.json")).unwrap();
    jwt["vectors"][1]["jwk"].to_string()
}

#[test]
fn rsa_signatures_are_over_the_base_string() {
    for (method, parameters) in [
        ("RSA-SHA256", &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256),
        ("RSA-SHA512", &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA512),
    ] {
        let scheme = oauth1(&json!({ "consumer_key": "k", "signature_method": method, "private_key": key() }));
        let mut draft = draft("GET", "https://a.example/x?b=%20", &[], None);
        let field = signed(&scheme, &mut draft, 1000, &[(NonceKind::Oauth1, "n")], "authorization");
        let base = scheme.canonical(&draft).unwrap();
        let signature = sent(&field).into_iter().find(|(name, _)| name == "oauth_signature").unwrap().1;
        let jwk: Map<String, Json> = serde_json::from_str(&key()).unwrap();
        let number =
            |name: &str| base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, jwk[name].as_str().unwrap()).unwrap();
        let public = aws_lc_rs::signature::RsaPublicKeyComponents { n: number("n"), e: number("e") };
        public.verify(parameters, base.as_bytes(), &BASE64_STANDARD.decode(signature).unwrap()).expect(method);
    }
}

#[test]
fn parameters_land_in_query_or_form_body_and_replace_the_clients() {
    let credential = json!({ "consumer_key": "k", "consumer_secret": "s" });
    let with = |at: &str| {
        let mut settings = credential.clone();
        settings["in"] = at.into();
        oauth1(&settings)
    };
    let nonces = [(NonceKind::Oauth1, "n")];
    let mut query = draft("GET", "https://a.example/x?a=%7e&oauth_nonce=old&&b", &[], None);
    signed(&with("query"), &mut query, 1000, &nonces, "authorization");
    let target = query.query().unwrap();
    assert!(target.starts_with("a=%7e&&b&oauth_consumer_key=k&") && target.matches("oauth_nonce").count() == 1, "{target}");
    assert!(target.contains("&oauth_signature=") && !query.headers.contains_key("authorization"));

    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let mut body = draft("POST", "https://a.example/x", &form, Some(b"c=%20+&oauth_token=old&c"));
    let scheme = with("body");
    assert_eq!(scheme.body_need(&body), BodyNeed::Rewrite);
    signed(&scheme, &mut body, 1000, &nonces, "authorization");
    let Body::Held(held) = &body.body else { panic!() };
    let text = String::from_utf8(held.bytes().unwrap().to_vec()).unwrap();
    assert!(text.starts_with("c=%20+&c&oauth_consumer_key=k&") && !text.contains("old"), "{text}");
    assert_eq!(body.headers["content-length"], text.len().to_string());
    // The same request signed for the header has the same signature: where they land is not signed.
    let mut header = draft("POST", "https://a.example/x", &form, Some(b"c=%20+&c"));
    let by_header = with("header");
    let field = signed(&by_header, &mut header, 1000, &nonces, "authorization");
    let signature = sent(&field).into_iter().find(|(name, _)| name == "oauth_signature").unwrap().1;
    assert!(text.ends_with(&Pair::new("oauth_signature", &signature).joined()), "{text}");
    let base = |scheme: &Arc<dyn Authorizer>, draft: &Draft| scheme.canonical(draft).unwrap();
    assert_eq!(base(&scheme, &body), base(&by_header, &header));
    let mut other = draft("POST", "https://a.example/x", &[("content-type", "application/json")], Some(b"{}"));
    assert_eq!(scheme.body_need(&other), BodyNeed::None);
    assert!(signed(&scheme, &mut other, 1000, &nonces, "authorization").starts_with("OAuth "));
}

#[test]
fn mistakes_are_told_with_the_mend() {
    for (settings, said) in [
        ("{ consumer_secret: s }", "oauth1 needs `consumer_key`"),
        ("{ consumer_key: k, signature_method: HMAC-MD5 }", "unknown signature method"),
        (
            "{ consumer_key: k, signature_method: RSA-SHA1 }",
            if cfg!(feature = "openssl") { "oauth1 needs `private_key`" } else { "a build with the feature `openssl`" },
        ),
        ("{ consumer_key: k, signature_method: RSA-SHA256 }", "oauth1 has nothing to sign with"),
        ("{ consumer_key: k, private_key: x }", "HMAC-SHA1 signs with secrets, not with a private key"),
        ("{ consumer_key: k, in: cookie }", "unknown place for oauth1"),
    ] {
        let report = build(&SCHEME, settings).err().unwrap_or_else(|| panic!("{settings} was taken"));
        assert!(report.contains(said), "{settings}: {report}");
    }
}
