//! Exports of every auth type become rules that check, and no secret of theirs is copied.

use serde_json::Value;

use super::super::Imported;
use super::import;
use crate::settings::{Diagnostic, Severity};
use crate::{auth, config, serve};

fn fixture(name: &str) -> (String, Value) {
    let path = format!("{}/tests/fixtures/postman/{name}.json", env!("CARGO_MANIFEST_DIR"));
    (name.to_owned(), serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

async fn imported(names: &[&str]) -> Imported {
    let documents: Vec<_> = names.iter().map(|name| fixture(name)).collect();
    let imported = import(&documents).await.unwrap_or_else(|why| panic!("{why}"));
    let told = format!("{}{:?}{:?}", imported.yaml, imported.wanted, imported.notes);
    assert!(!told.contains("s3cret"), "a secret was copied:\n{told}");
    imported
}

/// Everything `gatepass check` finds, every wanted variable set.
pub async fn check(imported: &Imported) -> Result<(), String> {
    let key = std::fs::read_to_string(format!("{}/tests/fixtures/tls/bob.key", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let value = |name: &str| {
        if name.contains("PRIVATE_KEY") { key.clone() } else { "a-long-enough-value-for-any-key-of-this-kind".to_owned() }
    };
    let request = config::Request {
        inline: Some(("imported.yaml".to_owned(), imported.yaml.clone(), std::path::PathBuf::new())),
        ca_in_memory: true,
        env: imported.wanted.iter().map(|(name, _)| (name.clone(), value(name))).collect(),
        auth_types: auth::types(),
        ..config::Request::default()
    };
    let Err(report) = serve::build(&request).await else { return Ok(()) };
    // Not the files of certificates, and not that what stands for a private key is none.
    let wrong = |found: &Diagnostic| found.severity == Severity::Error && !matches!(found.code, "file" | "private-key");
    let wrong = report.diagnostics.iter().any(wrong);
    if wrong { Err(format!("{}\n{}", imported.yaml, report.render(false))) } else { Ok(()) }
}

#[tokio::test]
async fn every_auth_type_becomes_the_credential_of_that_type() {
    let rows = [
        ("apikey", "api_key", r#"{ name: X-Api-Key, value: "${APIKEY_API_VALUE}", in: query }"#),
        ("bearer", "bearer", r#"{ token: "${ACCESS_TOKEN}" }"#),
        ("basic", "basic", r#"{ username: svc, password: "${BASIC_API_PASSWORD}" }"#),
        ("digest", "digest", r#"{ username: "{{user name}}", password: "${DIGEST_API_PASSWORD}" }"#),
        (
            "jwt",
            "jwt",
            r#"{ algorithm: RS256, private_key: "${JWT_API_PRIVATE_KEY}", claims: { "sub": "{{subject}}", "admin": true, "roles": ["a", "b"] }, headers: { "kid": "k1" }, in: query, name: jwt }"#,
        ),
        (
            "oauth1",
            "oauth1",
            r#"{ consumer_key: shop, consumer_secret: "${OAUTH1_API_CONSUMER_SECRET}", token: "${OAUTH1_API_TOKEN}", token_secret: "${OAUTH1_API_TOKEN_SECRET}", signature_method: HMAC-SHA256, realm: photos, body_hash: true }"#,
        ),
        (
            "oauth2",
            "oauth2",
            r#"{ token_url: "https://{{idp}}/oauth/token", client_id: shop, client_secret: "${OAUTH2_API_CLIENT_SECRET}", client_auth: post, scopes: [read, write], grant: client_credentials, token_params: { audience: "https://api.example.com", assertion: "${OAUTH2_API_ASSERTION}" } }"#,
        ),
        (
            "hawk",
            "hawk",
            r#"{ id: "${HAWK_API_ID}", key: "${HAWK_API_KEY}", algorithm: sha256, ext: some-app-data, payload_hash: true }"#,
        ),
        (
            "awsv4",
            "aws_sigv4",
            r#"{ access_key: "${AWSV4_API_ACCESS_KEY}", secret_key: "${AWSV4_API_SECRET_KEY}", region: eu-central-1, service: execute-api, in: query }"#,
        ),
        ("ntlm", "ntlm", r#"{ username: "EXAMPLE\\svc", password: "${NTLM_API_PASSWORD}", domain: EXAMPLE }"#),
        (
            "edgegrid",
            "akamai_edgegrid",
            r#"{ client_token: "${EDGEGRID_API_CLIENT_TOKEN}", client_secret: "${EDGEGRID_API_CLIENT_SECRET}", access_token: "${EDGEGRID_API_ACCESS_TOKEN}", headers_to_sign: [X-One, X-Two], max_body: 131072 }"#,
        ),
        (
            "asap",
            "asap",
            r#"{ issuer: shop, key_id: shop/k1, private_key: "${ASAP_API_PRIVATE_KEY}", audience: api, lifetime: 60s, algorithm: RS256, claims: { "team": "core" } }"#,
        ),
    ];
    for (theirs, ours, settings) in rows {
        let imported = imported(&[&format!("{theirs}.postman_collection")]).await;
        let wanted = format!("  {theirs}-api: {{ {ours}: {settings} }}\n");
        assert!(imported.yaml.contains(&wanted), "{theirs}: wanted\n{wanted}\ngot\n{}", imported.yaml);
        assert!(imported.yaml.contains(&format!("  - host: api.example.com\n    auth: {theirs}-api\n")), "{}", imported.yaml);
        if auth::scheme(ours).is_some() {
            check(&imported).await.unwrap_or_else(|why| panic!("{theirs}: {why}"));
        }
    }
    let notes = imported(&["oauth2.postman_collection"]).await.notes.join("\n");
    assert!(notes.contains("X-Tenant") && notes.contains("`state`"), "{notes}");
    assert!(imported(&["oauth1.postman_collection"]).await.notes.join("\n").contains("`timestamp`"));
}

#[tokio::test]
async fn the_nearest_auth_wins_and_noauth_stops_it() {
    let imported = imported(&["shop.postman_collection", "shop.postman_environment", "workspace.postman_globals"]).await;
    let rules = imported.yaml.split("\nrules:\n").nth(1).unwrap();
    let wanted = r#"  - host: "{{host}}"
    auth: shop-all-of-it
  - host: "{{host}}"
    path: [/health]
    methods: [GET]
    auth: none
  - host: "{{host}}"
    path: ["/admin/cache/*"]
    methods: [DELETE, POST]
    auth: admin
  - host: partner.example.org
    port: 8443
    auth: partner
  - host: hand.example.net
    auth: by-hand
  - host: legacy.example.com
    scheme: http
    auth: shop-all-of-it
  - host: internal.example.com
    auth: shop-all-of-it
  - host: odd.example.com
    via: { url: "http://proxy.example.com:3128" }
"#;
    assert_eq!(rules, wanted, "{}", imported.yaml);
    for line in [
        "  host: api.staging.example.com\n",
        "  adminUser: root\n",
        "  shop-all-of-it: { bearer: { token: \"${SHOP_TOKEN}\" } }\n",
        "  admin: { basic: { username: \"{{adminUser}}\", password: \"${ADMIN_PASSWORD}\" } }\n",
        "  partner: { api_key: { name: X-Key, value: \"${PARTNER_VALUE}\" } }\n",
        "  by-hand: { bearer: { token: \"${BY_HAND_TOKEN}\" } }\n",
    ] {
        assert!(imported.yaml.contains(line), "wanted {line}in\n{}", imported.yaml);
    }
    let notes = imported.notes.join("\n");
    for told in [
        "scripts of `Shop: all of it`",
        "{{unknownHost}}",
        "ntlmv3",
        "does not verify certificates",
        "user and password in the URL of `Inside`",
    ] {
        assert!(notes.contains(told), "{told} in\n{notes}");
        assert!(imported.yaml.contains(told), "said in the file too: {told}");
    }
    check(&imported).await.unwrap_or_else(|why| panic!("{why}"));
}

#[tokio::test]
async fn a_list_of_certificates_keeps_its_order_of_precedence() {
    let imported = imported(&["client-certificates", "basic.postman_collection"]).await;
    let wanted = r#"client_certificates:
  payments: { cert: certs/alice.crt, key: certs/alice.key, passphrase: "${PAYMENTS_PASSPHRASE}" }
  everything: { pfx: certs/bob.pfx }

rules:
  - host: ["*.example.com", example.com]
    port: any
    client_certificate: everything
  - host: pay.example.com
    client_certificate: payments
  - host: api.example.com
    auth: basic-api
"#;
    assert!(imported.yaml.ends_with(wanted), "{}", imported.yaml);
    let notes = imported.notes.join("\n");
    assert!(
        notes.contains("plain http has none") && notes.contains("never matches") && notes.contains("names no file"),
        "{notes}"
    );
}

#[tokio::test]
async fn what_is_no_export_is_refused_by_name() {
    async fn refusal(json: &str) -> String {
        import(&[("it.json".to_owned(), serde_json::from_str(json).unwrap())]).await.err().unwrap_or_default()
    }
    for json in ["{}", "[]", "3", "{\"item\": 3}", "[{\"a\": 1}]"] {
        let why = refusal(json).await;
        assert!(why.contains("it.json is none"), "{json}: {why}");
    }
    assert!(refusal("{\"values\": []}").await.contains("none of these files has a collection"));
    assert!(refusal("{\"collection\": {\"a\": true}, \"environment\": {}}").await.contains("index of an export"));
    // Odd shapes where maps or texts are expected are taken for nothing.
    for json in [
        r#"{"item": [3, {"name": 1, "request": 5}, {"request": {"url": {"raw": 3, "host": 4}, "auth": {"type": "basic", "basic": 3}}}]}"#,
        r#"{"item": [{"request": {"url": "https://{{a}}/", "auth": {"type": "bearer"}}}], "variable": [{"key": "a", "value": "{{a}}"}]}"#,
        r#"{"item": [{"request": {"url": "https://a.example.com/", "auth": {"type": "jwt", "jwt": [{"key": "payload", "value": "{{{"}]}}}]}"#,
    ] {
        assert_eq!(refusal(json).await, "", "{json}");
    }
}

#[tokio::test]
async fn texts_of_an_export_cannot_become_anything_else() {
    let json = r#"{"info": {"name": "x"}, "item": [{"name": "evil\n  - host: \"*\"", "request": {"method": "GET", "url": "https://a.example.com/${HOME}", "auth": {"type": "oauth1", "oauth1": {"consumerKey": "k", "consumerSecret": "p", "realm": "${HOME}\n- x: \"y"}}}}], "event": [{}]}"#;
    let Imported { yaml, .. } = import(&[("x".to_owned(), serde_json::from_str(json).unwrap())]).await.unwrap();
    assert!(yaml.contains(r#"realm: "$${HOME}\n- x: \"y""#), "{yaml}");
    assert!(!yaml.contains("\n  - host: \"*\""), "{yaml}");
}
