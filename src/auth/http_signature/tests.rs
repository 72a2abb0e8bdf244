use serde_json::{Map, Value as Json, json};

use super::*;
use crate::auth::jose::verifies;
use crate::auth::testing::{Alone as _, build, draft, signed};

const VECTORS: &str = include_str!("../../../tests/vectors/http_message_signatures.json");

fn file() -> Json {
    serde_json::from_str(VECTORS).unwrap()
}

fn scheme(settings: &Json) -> Arc<dyn Authorizer> {
    build(&SCHEME, &settings.to_string()).unwrap_or_else(|report| panic!("{report}"))
}

fn request(vector: &Json, skip: &[&str]) -> Draft {
    let message = &vector["message"];
    let line: Vec<&str> = message["start_line"].as_str().unwrap().split(' ').collect();
    let headers: Vec<(String, String)> = serde_json::from_value(message["headers"].clone()).unwrap();
    let host = headers.iter().find(|(name, _)| name == "Host").unwrap().1.clone();
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).filter(|(n, _)| !skip.contains(n)).collect();
    let body = message["body"].as_str().filter(|body| !body.is_empty()).map(str::as_bytes);
    draft(line[0], &format!("https://{host}{}", line[1]), &headers, body)
}

fn key(file: &Json, id: &str) -> Json {
    let key = &file["test_keys_published_in_the_rfc"][id];
    match key["k_base64"].as_str() {
        Some(secret) => json!({ "key": secret, "key_encoding": "base64" }),
        None => json!({ "private_key": key["private_key_pem_as_printed"] }),
    }
}

/// The identifiers in `("a" "b";key="c")`, as a config has them.
fn components(input: &str) -> Vec<String> {
    let inside = input.split_once('(').unwrap().1.rsplit_once(')').unwrap().0;
    inside.split(' ').filter(|one| !one.is_empty()).map(|one| one.replacen('"', "", 2)).collect()
}

#[test]
fn the_rfcs_requests_have_its_signature_bases_and_signatures() {
    let file = file();
    let (mut run, mut skipped) = (Vec::new(), Vec::new());
    for vector in file["vectors"].as_array().unwrap() {
        let id = vector["id"].as_str().unwrap();
        let Some(input) = vector["expected"]["signature_input"].as_str() else { continue };
        if vector["message"]["start_line"].as_str().unwrap().starts_with("HTTP/") {
            skipped.push(id); // an answer; requests are signed here
            continue;
        }
        run.push(id);
        let mut settings = key(&file, vector["keyid"].as_str().unwrap());
        let members = [
            ("key_id", vector["keyid"].clone()),
            ("algorithm", vector["alg"].clone()),
            ("label", vector["label"].clone()),
            ("components", components(input).into()),
            ("nonce", vector["nonce"].is_string().into()),
        ];
        for (name, value) in members {
            settings[name] = value;
        }
        if input.contains(";tag=") {
            settings["tag"] = input.split(";tag=\"").nth(1).unwrap().trim_end_matches('"').into();
        }
        if input.contains("content-digest") {
            settings["content_digest"] = "sha-512".into();
        }
        let scheme = scheme(&settings);
        let mut draft = request(vector, &[]);
        let created = vector["created"].as_u64().unwrap();
        let nonces = [(NonceKind::Signature, vector["nonce"].as_str().unwrap_or("unused"))];
        let signature = signed(&scheme, &mut draft, created, &nonces, "signature");
        assert_eq!(draft.headers["signature-input"], input, "{id}");
        let base = scheme.canonical(&draft).unwrap();
        assert_eq!(base, vector["expected"]["signature_base"].as_str().unwrap(), "{id}");
        if vector["deterministic"] == true {
            assert_eq!(signature, vector["expected"]["signature"].as_str().unwrap(), "{id}");
            continue;
        }
        let jwk = file["test_keys_published_in_the_rfc"][vector["keyid"].as_str().unwrap()].as_object().unwrap();
        let bytes = signature.split(':').nth(1).map(|text| BASE64_STANDARD.decode(text).unwrap()).unwrap();
        assert!(verifies(jwk, Algorithm::Ps512, base.as_bytes(), &bytes), "{id}");
    }
    assert_eq!((run.len(), &skipped[..]), (5, &["b24-response"][..]), "{run:?}");
}

#[test]
fn what_the_rfc_lets_a_message_undergo_changes_nothing_and_what_it_does_not_does() {
    let file = file();
    let jwk = file["test_keys_published_in_the_rfc"]["test-key-ed25519"].as_object().unwrap();
    let mut run = 0;
    for vector in file["vectors"].as_array().unwrap().iter().filter(|vector| vector["valid"].is_boolean()) {
        run += 1;
        let draft = request(vector, &[]);
        let scheme = scheme(&json!({
            "private_key": Json::Object(jwk.clone()).to_string(),
            "label": "transform",
            "components": ["@method", "@path", "@authority", "accept"],
        }));
        let base = scheme.canonical(&draft).unwrap();
        let field = draft.headers["signature"].to_str().unwrap();
        let signature = BASE64_STANDARD.decode(field.split(':').nth(1).unwrap()).unwrap();
        assert_eq!(verifies(jwk, Algorithm::EdDsa, base.as_bytes(), &signature), vector["valid"] == true, "{}", vector["id"]);
    }
    assert_eq!(run, 4);
}

#[test]
fn content_digests_are_those_of_rfc_9530_and_only_with_a_body() {
    for case in file()["content_digest"].as_array().unwrap() {
        let wanted = case["expected"].as_str().unwrap();
        let name = wanted.split('=').next().unwrap();
        let scheme = scheme(&json!({ "key": "k".repeat(32), "components": [], "content_digest": name }));
        let mut with =
            draft("POST", "https://a.example/", &[("content-digest", "old")], case["body"].as_str().map(str::as_bytes));
        assert_eq!(scheme.body_need(&with), BodyNeed::Hash);
        assert_eq!(signed(&scheme, &mut with, 1, &[], "content-digest"), wanted);
        assert!(with.headers["signature-input"].to_str().unwrap().starts_with("sig1=(\"content-digest\");created=1"));
        let mut without = draft("GET", "https://a.example/", &[("content-digest", "old")], None);
        assert_eq!(signed(&scheme, &mut without, 1, &[], "content-digest"), "");
        assert!(without.headers["signature-input"].to_str().unwrap().starts_with("sig1=();created=1"));
    }
}

/// The values of RFC 9421's own examples in §2.1 and §2.2.
#[test]
fn components_have_the_values_of_the_rfcs_examples() {
    let draft = draft(
        "GET",
        "https://www.example.com/path?param=value&foo=bar&baz=bat%2Dman&var=this%20is%20a%20big%0Avalue&qux=&a+b=1&twice=1&twice=2",
        &[
            ("x-obs", "  obsolete"),
            ("cache-control", "max-age=60"),
            ("cache-control", "    must-revalidate"),
            ("example-dict", "  a=1,    b=2;x=1;y=2,   c=(a   b   c), d"),
            ("example-header", "value, with, lots"),
            ("example-header", "of, commas"),
            ("x-empty", ""),
            ("x-text", "No dictionary"),
        ],
        None,
    );
    for (component, identifier, value) in [
        ("@method", "\"@method\"", "GET"),
        ("@authority", "\"@authority\"", "www.example.com"),
        ("@scheme", "\"@scheme\"", "https"),
        ("@path", "\"@path\"", "/path"),
        ("@query-param;name=baz", "\"@query-param\";name=\"baz\"", "bat-man"),
        ("@query-param;name=\"qux\"", "\"@query-param\";name=\"qux\"", ""),
        ("@query-param;name=var", "\"@query-param\";name=\"var\"", "this%20is%20a%20big%0Avalue"),
        ("@query-param;name=a b", "\"@query-param\";name=\"a%20b\"", "1"),
        ("x-obs", "\"x-obs\"", "obsolete"),
        ("X-Empty", "\"x-empty\"", ""),
        ("cache-control", "\"cache-control\"", "max-age=60, must-revalidate"),
        ("cache-control;sf", "\"cache-control\";sf", "max-age=60, must-revalidate"),
        ("example-dict", "\"example-dict\"", "a=1,    b=2;x=1;y=2,   c=(a   b   c), d"),
        ("example-dict;sf", "\"example-dict\";sf", "a=1, b=2;x=1;y=2, c=(a b c), d"),
        ("example-dict;key=a", "\"example-dict\";key=\"a\"", "1"),
        ("example-dict;key=b", "\"example-dict\";key=\"b\"", "2;x=1;y=2"),
        ("example-dict;key=c", "\"example-dict\";key=\"c\"", "(a b c)"),
        ("example-dict;key=d", "\"example-dict\";key=\"d\"", "?1"),
        ("example-header;bs", "\"example-header\";bs", ":dmFsdWUsIHdpdGgsIGxvdHM=:, :b2YsIGNvbW1hcw==:"),
    ] {
        let component = Component::parse(component).unwrap();
        assert_eq!(component.identifier(), identifier);
        assert_eq!(component.value(&draft).unwrap().as_deref(), Some(value), "{identifier}");
    }
    for absent in ["x-none", "example-dict;key=z", "@query-param;name=none"] {
        assert_eq!(Component::parse(absent).unwrap().value(&draft).unwrap(), None, "{absent}");
    }
    let target = draft.target.as_str();
    let value = |text: &str| Component::parse(text).unwrap().value(&draft).unwrap().unwrap();
    assert_eq!(value("@request-target"), target);
    assert_eq!(value("@target-uri"), format!("https://www.example.com{target}"));
    assert_eq!(value("@query"), &target[5..]);
    let twice = Component::parse("@query-param;name=twice").unwrap().value(&draft).err().unwrap();
    assert!(twice.details.contains("more than once"), "{twice}");
    for unfit in ["x-text;key=a", "x-text;sf"] {
        let failure = Component::parse(unfit).unwrap().value(&draft).err().unwrap();
        assert!(failure.hint.is_some_and(|hint| hint.contains(";bs")), "{unfit}");
    }
    let bare = crate::auth::testing::draft("GET", "https://a.example:8443/", &[], None);
    let of_bare = |text: &str| Component::parse(text).unwrap().value(&bare).unwrap().unwrap();
    assert_eq!((of_bare("@query").as_str(), of_bare("@authority").as_str()), ("?", "a.example:8443"));
}

#[test]
fn a_signature_of_the_same_label_is_replaced_and_others_stay() {
    let scheme = scheme(
        &json!({ "key": "k".repeat(32), "key_id": "a\"b", "expires": "5m", "nonce": true, "alg": true, "created": true, "components": ["@method", "date"] }),
    );
    let fields = [
        ("signature-input", "sig1=(\"a,b\");x=\"\\\",\", proxy=(\"@path\");created=1"),
        ("signature-input", "other=();keyid=\"z\""),
        ("signature", "sig1=:b2xk:, proxy=:cHJveHk=:, other=:b3RoZXI=:"),
    ];
    let mut draft = draft("GET", "https://a.example/", &fields, None);
    let signature = signed(&scheme, &mut draft, 100, &[(NonceKind::Signature, "n-1")], "signature");
    assert!(signature.starts_with("proxy=:cHJveHk=:, other=:b3RoZXI=:, sig1=:"), "{signature}");
    assert_eq!(
        draft.headers["signature-input"],
        "proxy=(\"@path\");created=1, other=();keyid=\"z\", sig1=(\"@method\");created=100;expires=400;keyid=\"a\\\"b\";alg=\"hmac-sha256\";nonce=\"n-1\""
    );
    assert_eq!(draft.headers.get_all("signature-input").iter().count(), 1);
}

#[test]
fn mistakes_are_told_with_the_mend() {
    let good: Map<String, Json> = json!({ "key": "k".repeat(32) }).as_object().unwrap().clone();
    for (more, said) in [
        (json!({ "components": ["@methd"] }), "there is no component `@methd`"),
        (json!({ "components": ["@status"] }), "`@status` is of answers"),
        (json!({ "components": ["@query-param"] }), "`@query-param` needs the parameter's name"),
        (json!({ "components": ["date;tr"] }), "trailers and answers are not signed here"),
        (json!({ "components": ["date;x"] }), "this is no parameter of a field"),
        (json!({ "components": ["a b"] }), "is not the name of a header field"),
        (json!({ "components": ["date", "Date"] }), "`Date` stands here twice"),
        (json!({ "components": ["@path;sf"] }), "`@path` has no such parameter"),
        (json!({ "label": "Sig1" }), "a label is made of lower-case letters"),
        (json!({ "tag": "\u{fc}" }), "`tag` holds characters"),
        (json!({ "algorithm": "ed25519" }), "a shared secret cannot sign by ed25519"),
        (json!({ "content_digest": "md5" }), "unknown digest"),
    ] {
        let mut settings = good.clone();
        settings.extend(more.as_object().unwrap().clone());
        let report = build(&SCHEME, &Json::Object(settings).to_string()).err().unwrap_or_else(|| panic!("{more} was taken"));
        assert!(report.contains(said), "{more}: {report}");
    }
    let jwt: Json = serde_json::from_str(include_str!("../../../tests/vectors/jwt.json")).unwrap();
    let es512 = jwt["vectors"].as_array().unwrap().iter().find(|vector| vector["alg"] == "ES512").unwrap();
    let report = build(&SCHEME, &json!({ "private_key": es512["jwk"].to_string() }).to_string()).err().unwrap();
    assert!(report.contains("an EC key on P-521 cannot sign here"), "{report}");
}
