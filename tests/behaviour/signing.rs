//! `gatepass sign` shows from outside what published vectors say, with clock and nonces pinned.

use std::process::Command;

use serde_json::{Value as Json, json};

fn vectors(name: &str) -> Json {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Signs one request by a scheme; the printed text.
fn sign(scheme: Json, request: &Json, url: &str, at: &str, nonce: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("gatepass.yaml");
    let mut rule = json!({ "host": "*", "scheme": "any", "port": "any" });
    rule.as_object_mut().unwrap().extend(scheme.as_object().unwrap().clone());
    std::fs::write(&config, json!({ "rules": [rule] }).to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatepass"));
    command.env("GATEPASS_HOME", home.path()).arg("sign").arg("-c").arg(&config).args(["-v", "--at", at, "--nonce", nonce]);
    for header in request["headers"].as_array().into_iter().flatten().filter(|header| header[0] != "Host") {
        command.arg("-H").arg(format!("{}: {}", header[0].as_str().unwrap(), header[1].as_str().unwrap()));
    }
    if let Some(body) = request["body"].as_str().filter(|body| !body.is_empty()) {
        command.arg("-d").arg(body);
    }
    let output = command.arg(request["method"].as_str().unwrap()).arg(url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The canonical string is shown under a line of its own.
fn shows(printed: &str, field: &str, canonical: &str) {
    assert!(printed.lines().any(|line| line == field), "{field}\nis not in\n{printed}");
    let shown = printed.split_once("--- canonical\n").unwrap().1;
    assert!(shown.starts_with(canonical), "{canonical}\nis not\n{shown}");
}

#[test]
fn hawk_headers_with_and_without_a_payload_hash() {
    for vector in &vectors("hawk")["vectors"].as_array().unwrap()[..2] {
        let mut settings = vector["credential"].clone();
        settings["ext"] = vector["ext"].clone();
        settings["payload_hash"] = vector["include_payload_hash"].clone();
        let request = &vector["request"];
        let nonce = format!("hawk={}", vector["nonce"].as_str().unwrap());
        let printed =
            sign(json!({ "hawk": settings }), request, request["url"].as_str().unwrap(), &vector["clock"].to_string(), &nonce);
        let wanted = &vector["expected"];
        let field = format!("authorization: {}", wanted["authorization"].as_str().unwrap());
        shows(&printed, &field, wanted["normalized"].as_str().unwrap());
    }
}

#[test]
fn an_oauth1_base_string_over_query_and_form() {
    let vectors = vectors("oauth1");
    let vector = vectors["vectors"].as_array().unwrap().iter().find(|vector| vector["id"] == "twitter-1.1").unwrap();
    let mut settings = vector["credential"].clone();
    settings["signature_method"] = vector["signature_method"].clone();
    let request = &vector["request"];
    let nonce = format!("oauth1={}", vector["nonce"].as_str().unwrap());
    let printed =
        sign(json!({ "oauth1": settings }), request, request["url"].as_str().unwrap(), &vector["clock"].to_string(), &nonce);
    let signature = vector["expected"]["signature"].as_str().unwrap().replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    assert!(printed.contains(&format!("oauth_signature=\"{signature}\"")), "{printed}");
    assert!(printed.contains(vector["expected"]["base_string"].as_str().unwrap()), "{printed}");
}

#[test]
fn an_edgegrid_header() {
    let file = vectors("edgegrid");
    let mut settings = file["credential"].clone();
    settings["max_body"] = file["max_body"].clone();
    let vector = file["vectors"].as_array().unwrap().iter().find(|vector| vector["id"] == "POST too large").unwrap();
    let request = &vector["request"];
    let url = format!("https://{}{}", request["host"].as_str().unwrap(), vector["wire_target"].as_str().unwrap());
    let nonce = format!("edgegrid={}", file["nonce"].as_str().unwrap());
    let printed = sign(json!({ "akamai_edgegrid": settings }), request, &url, "2014-03-21T19:34:21Z", &nonce);
    let wanted = &vector["expected"];
    let field = format!("authorization: {}", wanted["authorization"].as_str().unwrap());
    shows(&printed, &field, wanted["data_to_sign_without_auth_header"].as_str().unwrap());
}

#[test]
fn an_asap_token_and_a_jwt_by_hmac() {
    let vector = &vectors("asap")["vectors"][0];
    let settings = json!({
        "issuer": "service/client",
        "key_id": vector["kid"],
        "audience": "resource-server",
        "private_key": vector["private_key_pem_pkcs8"],
    });
    let nonce = format!("jti={}", vector["nonce_jti"].as_str().unwrap());
    let request = json!({ "method": "GET" });
    let printed = sign(json!({ "asap": settings }), &request, "https://a.example/", &vector["clock"].to_string(), &nonce);
    let field = format!("authorization: {}", vector["expected_authorization"].as_str().unwrap());
    shows(&printed, &field, r#"{"alg":"RS256","kid":"service/client/key1"}"#);

    let vectors = vectors("jwt");
    let vector = vectors["vectors"].as_array().unwrap().iter().find(|vector| vector["id"] == "computed-HS512").unwrap();
    let settings = json!({
        "algorithm": "HS512",
        "key": vector["secret_base64url"],
        "key_encoding": "base64",
        "key_id": "k1",
        "lifetime": "1h",
        "claims": { "iss": "joe", "sub": "user", "aud": "https://api.example.com" },
    });
    let printed = sign(json!({ "jwt": settings }), &request, "https://a.example/", "1300815780", "jti=id-1");
    let field = format!("authorization: Bearer {}", vector["expected_compact"].as_str().unwrap());
    shows(&printed, &field, r#"{"alg":"HS512","typ":"JWT","kid":"k1"}"#);
}

#[test]
fn an_http_message_signature() {
    let file = vectors("http_message_signatures");
    let vector = file["vectors"].as_array().unwrap().iter().find(|vector| vector["id"] == "b26-ed25519").unwrap();
    let settings = json!({
        "private_key": file["test_keys_published_in_the_rfc"]["test-key-ed25519"]["private_key_pem_as_printed"],
        "key_id": "test-key-ed25519",
        "label": "sig-b26",
        "components": ["date", "@method", "@path", "@authority", "content-type", "content-length"],
    });
    let mut request = vector["message"].clone();
    request["method"] = "POST".into();
    let url = "https://example.com/foo?param=Value&Pet=dog";
    let printed = sign(json!({ "http_signature": settings }), &request, url, "1618884473", "signature=unused");
    let wanted = &vector["expected"];
    let field = format!("signature: {}", wanted["signature"].as_str().unwrap());
    shows(&printed, &field, wanted["signature_base"].as_str().unwrap());
    assert!(printed.contains(&format!("signature-input: {}", wanted["signature_input"].as_str().unwrap())), "{printed}");
}
