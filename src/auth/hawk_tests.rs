use serde_json::{Value as Json, json};

use super::*;
use crate::auth::testing::{Alone as _, answered, build, draft, signed};

const VECTORS: &str = include_str!("../../tests/vectors/hawk.json");

fn vectors(name: &str) -> Vec<Json> {
    serde_json::from_str::<Json>(VECTORS).unwrap()[name].as_array().unwrap().clone()
}

fn hawk(credential: &Json, more: Json) -> Arc<dyn Authorizer> {
    let mut settings = credential.clone();
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    build(&SCHEME, &settings.to_string()).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn every_published_and_computed_header_is_reproduced() {
    let all = vectors("vectors");
    assert_eq!(all.len(), 8);
    for vector in all {
        let text = |name: &str| vector["request"][name].as_str();
        let headers: Vec<(String, String)> = serde_json::from_value(vector["request"]["headers"].clone()).unwrap();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let more = json!({
            "ext": vector["ext"], "app": vector["app"], "dlg": vector["dlg"], "payload_hash": vector["include_payload_hash"],
        });
        let scheme = hawk(&vector["credential"], more);
        let mut draft = draft(text("method").unwrap(), text("url").unwrap(), &headers, text("body").map(str::as_bytes));
        let clock = vector["clock"].as_u64().unwrap();
        let nonces = [(NonceKind::Hawk, vector["nonce"].as_str().unwrap())];
        let field = signed(&scheme, &mut draft, clock, &nonces, "authorization");
        assert_eq!(field, vector["expected"]["authorization"].as_str().unwrap(), "{}", vector["id"]);
        let shown = scheme.canonical(&draft).unwrap();
        assert_eq!(shown, vector["expected"]["normalized"].as_str().unwrap(), "{}", vector["id"]);
    }
}

#[test]
fn a_clock_is_followed_only_where_the_server_proves_its_key_and_signed_for_once() {
    let mut tried = 0;
    for vector in vectors("stale_vectors") {
        // The second has a key of the same file's other vectors; the third needs none.
        let credential = match &vector["credential"] {
            Json::Null => vectors("stale_vectors")[0]["credential"].clone(),
            credential => credential.clone(),
        };
        let scheme = hawk(&credential, json!({}));
        let mut draft = draft("GET", "https://example.com/", &[], None);
        assert_eq!(scheme.body_need(&draft), BodyNeed::Repeat);
        signed(&scheme, &mut draft, 1000, &[], "authorization");
        let challenge = [("www-authenticate", vector["www_authenticate"].as_str().unwrap())];
        let again = vector["id"] == "stale-ts-ok";
        let verdict = answered(&scheme, &draft, 1000, 0, 401, &challenge);
        assert_eq!(verdict == Verdict::Again, again, "{}", vector["id"]);
        let field = signed(&scheme, &mut draft, 1001, &[], "authorization");
        assert_eq!(field.contains("ts=\"1353832301\""), again, "{field}");
        assert_eq!(field.contains("ts=\"1001\""), !again, "{field}");
        assert_eq!(answered(&scheme, &draft, 1000, 1, 401, &challenge), Verdict::Final);
        tried += 1;
    }
    assert_eq!(tried, 3);
}

#[test]
fn a_body_is_spared_once_the_clock_is_known() {
    let scheme = hawk(&json!({ "id": "a", "key": "k" }), json!({}));
    let draft = draft("POST", "https://example.com/", &[], Some(b"x"));
    answered(&scheme, &draft, 1000, 0, 200, &[]);
    assert_eq!(scheme.body_need(&draft), BodyNeed::Spare);
    let hashed = hawk(&json!({ "id": "a", "key": "k" }), json!({ "payload_hash": true }));
    assert_eq!(hashed.body_need(&draft), BodyNeed::Hash);
}

#[test]
fn what_the_server_signed_is_told_from_what_another_did() {
    for vector in vectors("response_vectors") {
        let text = |name: &str| vector["credential"][name].as_str().unwrap().to_owned();
        let fixed = |name: &str| SecretRef::Known(crate::secret::Secret::new(text(name)));
        let hawk = Hawk {
            id: fixed("id"),
            key: fixed("key"),
            algorithm: Algorithm::Sha256,
            ext: None,
            app: None,
            dlg: None,
            payload_hash: false,
            clocks: Mutex::default(),
        };
        let sent = &vector["request_artifacts"];
        let part = |name: &str| sent[name].as_str().unwrap();
        let url = format!("http://{}:{}{}", part("host"), part("port"), part("resource"));
        let field = format!(
            "Hawk id=\"123456\", ts=\"{}\", nonce=\"{}\", hash=\"{}\", ext=\"{}\", mac=\"\"",
            part("ts"),
            part("nonce"),
            part("hash"),
            part("ext")
        );
        let draft = draft(part("method"), &url, &[("authorization", &field)], None);
        let genuine = |theirs: &str| {
            let headers = [(INFO, http::HeaderValue::from_str(theirs).unwrap())].into_iter().collect();
            hawk.is_genuine(&Answer { draft: &draft, status: StatusCode::OK, headers: &headers })
        };
        let theirs = vector["response"]["server_authorization"].as_str().unwrap();
        // The second vector's body is wrong, its MAC right: the body of an answer is not checked.
        assert!(genuine(theirs), "{}", vector["id"]);
        assert!(!genuine(&theirs.replace("response-specific", "another")));
        assert!(!genuine("Hawk"));
    }
}

#[test]
fn mistakes_are_told_with_the_mend() {
    for (settings, said) in [
        ("{ id: a }", "hawk needs `key`"),
        ("{ id: a, key: k, algorithm: md5 }", "unknown algorithm"),
        ("{ id: a, key: k, dlg: d }", "`dlg` is signed only together with `app`"),
        ("{ id: a, key: k, ext: 'say \"x\"' }", "a Hawk attribute cannot carry"),
        ("{ id: 'a\\b', key: k }", "a Hawk attribute cannot carry"),
    ] {
        let report = build(&SCHEME, settings).err().unwrap_or_else(|| panic!("{settings} was taken"));
        assert!(report.contains(said), "{settings}: {report}");
    }
}
