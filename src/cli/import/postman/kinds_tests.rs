//! What stands in exports besides the plain cases: secrets in odd places, two credentials at once, values that gatepass
//! spells otherwise, and older formats.

use serde_json::{Value, json};

use super::super::Imported;
use super::import;
use super::tests::check;

async fn of(documents: &[Value]) -> Imported {
    let documents: Vec<_> = documents.iter().enumerate().map(|(n, document)| (format!("{n}.json"), document.clone())).collect();
    let imported = import(&documents).await.unwrap_or_else(|why| panic!("{why}"));
    let told = format!("{}{:?}{:?}", imported.yaml, imported.wanted, imported.notes);
    assert!(!told.contains("s3cret"), "a secret was copied:\n{told}");
    check(&imported).await.unwrap_or_else(|why| panic!("{why}"));
    imported
}

/// A collection of one request.
fn collection(request: Value) -> Value {
    json!({ "info": { "name": "It" }, "item": [{ "name": "One", "request": request }] })
}

fn with_auth(kind: &str, settings: Value) -> Value {
    collection(json!({ "method": "GET", "url": "https://api.example.com/v1", "auth": { "type": kind, kind: settings } }))
}

#[track_caller]
fn has(imported: &Imported, text: &str) {
    assert!(imported.yaml.contains(text), "wanted\n{text}\nin\n{}", imported.yaml);
}

#[track_caller]
fn says(imported: &Imported, text: &str) {
    let notes = imported.notes.join("\n");
    assert!(notes.contains(text), "wanted\n{text}\nin\n{notes}");
}

#[tokio::test]
async fn a_user_name_that_is_a_key_is_not_copied() {
    for (user, password) in
        [("sk_live_s3cret51H8xkjJ", ""), ("s3cret", "x"), ("s3cret-short", ""), ("s3cretZq8kW1nV7tYb3Xc9", "whatever")]
    {
        let imported = of(&[with_auth("basic", json!({ "username": user, "password": password }))]).await;
        has(&imported, "basic: { username: \"${ONE_USERNAME}\"");
    }
    has(
        &of(&[with_auth("basic", json!({ "username": "plain", "password": "" }))]).await,
        r#"username: "${ONE_USERNAME}", password: """#,
    );
    has(
        &of(&[with_auth("basic", json!({ "username": "", "password": "s3cret" }))]).await,
        r#"{ username: "", password: "${ONE_PASSWORD}" }"#,
    );
    has(&of(&[with_auth("basic", json!({ "username": "svc", "password": "s3cret" }))]).await, "{ username: svc, password: ");
}

#[tokio::test]
async fn secrets_in_urls_claims_and_parameters_are_not_copied() {
    let imported = of(&[with_auth(
        "oauth2",
        json!({
            "grant_type": "authorization_code",
            "accessTokenUrl": "https://svc:s3cret-pw@idp.example.com/token?key=s3cret-key&api-version=2&tenant=acme#x",
            "authUrl": "https://idp.example.com/authorize?code=s3cret-code",
            "redirect_uri": "http://localhost:7070/back",
            "clientId": "0oas3cret9Zq8kW1nV7t",
            "scope": "openid profile",
            "authRequestParams": [
                { "key": "prompt", "value": "consent", "enabled": true, "send_as": "request_url" },
                { "key": "login_token", "value": "s3cret-login", "enabled": true, "send_as": "request_url" },
                { "key": "off", "value": "s3cret-off", "enabled": false, "send_as": "request_url" },
            ],
        }),
    )])
    .await;
    has(&imported, r#"token_url: "https://idp.example.com/token?key=${ONE_KEY}&api-version=2&tenant=acme""#);
    has(&imported, r#"auth_url: "https://idp.example.com/authorize?code=${ONE_CODE}""#);
    has(&imported, r#"redirect_uri: "http://localhost:7070/back""#);
    has(&imported, r#"client_id: "${ONE_CLIENT_ID}""#);
    has(&imported, r#"auth_params: { prompt: consent, login_token: "${ONE_LOGIN_TOKEN}" }"#);
    says(&imported, "user and password in `token_url` of `one`");
    says(&imported, "switched off: `off`");

    let payload = r#"{"sub": "alice", "api_key": "s3cret", "note": "Zq8s3cretkW1nV7tYb3Xc9", "nested": {"password": "s3cret-n", "n": 1}, "pin": 4711, "exp": {{later}}}"#;
    let mut jwt = with_auth("jwt", json!({ "algorithm": "HS256", "secret": "s3cret", "payload": payload, "headerPrefix": "" }));
    jwt["variable"] = json!([{ "key": "later", "value": "1900000000" }]);
    let imported = of(&[jwt]).await;
    has(&imported, r#""sub": "alice", "api_key": "${ONE_API_KEY}", "note": "${ONE_NOTE}""#);
    has(&imported, r#""password": "${ONE_PASSWORD}", "n": 1 }, "pin": "${ONE_PIN}", "exp": 1900000000 }"#);
    has(&imported, r#"prefix: """#);
}

#[tokio::test]
async fn credentials_by_hand_are_carried_whatever_they_are_called_and_beside_an_auth() {
    let header = |pairs: &[(&str, &str)]| {
        json!(pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect::<Vec<_>>())
    };
    for name in ["x-functions-key", "Ocp-Apim-Subscription-Key", "X-Vault-Token", "apikey", "PRIVATE-TOKEN", "X-Auth-Key"] {
        let request = json!({ "url": "https://api.example.com/", "header": header(&[(name, "s3cret"), ("Accept", "*/*")]) });
        let imported = of(&[collection(request)]).await;
        has(&imported, &format!("headers: {{ {name}: \"${{ONE_"));
        says(&imported, "which the client still sends: `Accept`");
    }
    let request = json!({
        "url": { "raw": "https://api.example.com/v1?api_key=s3cret-q&limit=5&sig=s3cret-sig", "query": [{ "key": "old", "value": "s3cret", "disabled": true }] },
        "header": header(&[("X-Api-Key", "s3cret-a"), ("Cookie", "sid=s3cret-c; theme=s3cret-d"), ("Authorization", "Bearer s3cret-b")]),
        "auth": { "type": "basic", "basic": { "username": "svc", "password": "s3cret" } },
    });
    let imported = of(&[collection(request)]).await;
    has(&imported, "auth: [one, one-2, one-3, one-5, one-6]");
    has(&imported, "cookies: { set: { sid: \"${ONE_3_SID}\", theme: \"${ONE_3_THEME}\" } }");
    has(&imported, "api_key: { name: api_key, value: \"${ONE_5_API_KEY}\", in: query }");
    says(&imported, "the header `Authorization` of `One`, where another credential of the request stands already");
    says(&imported, "query parameters that are switched off: `old`");
    says(&imported, "the client still sends: `limit`");
    for value in
        [r#"OAuth oauth_consumer_key="k",oauth_signature="s3cret""#, "AWS4-HMAC-SHA256 Credential=s3cret, Signature=s3cret"]
    {
        let request = json!({ "url": "https://api.example.com/", "header": header(&[("authorization", value)]) });
        let imported = of(&[collection(request)]).await;
        says(&imported, "the header `authorization` of `One` signs one request");
        assert!(!imported.yaml.contains("\ncredentials:"), "{}", imported.yaml);
    }
    let request = json!({ "url": "https://api.example.com/", "header": header(&[("Authorization", "OAuth s3cret")]) });
    has(&of(&[collection(request)]).await, r#"headers: { Authorization: "${ONE_AUTHORIZATION}" }"#);
    let user = of(&[collection(json!("https://svc:s3cret@api.example.com/"))]).await;
    has(&user, r#"basic: { username: svc, password: "${ONE_PASSWORD}" }"#);
}

#[tokio::test]
async fn bodies_scripts_and_names_give_nothing_away() {
    let mut all = collection(json!({
        "url": "https://idp.example.com/bots/bot110201543:AAHdqTs3cretcvCH1vGWJxfSeofSAs0K5PALDsaw/token",
        "method": "POST",
        "body": { "mode": "urlencoded", "urlencoded": [
            { "key": "grant_type", "value": "password" }, { "key": "client_secret", "value": "s3cret" }] },
        "auth": { "type": "bearer", "bearer": { "token": "s3cret" } },
        "description": "use s3cret",
    }));
    all["item"][0]["event"] = json!([{ "listen": "prerequest", "script": { "exec": ["s3cret"] } }]);
    all["item"][0]["name"] = json!("https://idp.example.com/x?api_key=s3cret");
    all["item"].as_array_mut().unwrap().push(json!({ "name": "Two", "request": { "url": "https://idp.example.com/b" } }));
    let imported = of(&[all]).await;
    says(&imported, "asks for a token (`client_secret`)");
    says(&imported, "scripts of `https://idp.example.com/x`");
    says(&imported, "descriptions: `https://idp.example.com/x`");
}

#[tokio::test]
async fn values_that_are_spelt_otherwise_pass_the_check() {
    let asap = |exp: &str| {
        with_auth("asap", json!({ "iss": "shop", "aud": "api", "kid": "shop/k", "privateKey": "s3cret", "exp": exp }))
    };
    for (exp, lifetime) in [("1h", "1h"), ("60", "60s"), ("5 minutes", "5m"), ("2h", "1h"), ("90s", "90s")] {
        has(&of(&[asap(exp)]).await, &format!("lifetime: {lifetime}"));
    }
    says(&of(&[asap("2h")]).await, "for an hour, not for 2h");
    says(&of(&[asap("soon")]).await, "`exp` of `one` (asap)");
    let oauth1 = with_auth("oauth1", json!({ "consumerKey": "k", "consumerSecret": "s3cret", "version": "" }));
    has(&of(&[oauth1]).await, r#"version: """#);
    let method = with_auth("oauth1", json!({ "consumerKey": "k", "consumerSecret": "s3cret", "signatureMethod": "MD5" }));
    says(&of(&[method]).await, "`one` (oauth1), since gatepass has no such `signatureMethod`");
    let oauth2 = |more: Value| {
        let mut settings = json!({ "accessTokenUrl": "https://idp.example.com/token", "authUrl": "https://idp.example.com/a", "clientId": "shop" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with_auth("oauth2", settings)
    };
    let mac = of(&[oauth2(json!({ "tokenType": "MAC", "accessToken": "s3cret" }))]).await;
    says(&mac, "`tokenType` is MAC");
    assert!(!mac.yaml.contains("\ncredentials:"), "{}", mac.yaml);
    has(&of(&[oauth2(json!({ "grant_type": "implicit" }))]).await, "grant: authorization_code");
    let implicit = of(&[with_auth("oauth2", json!({ "grant_type": "implicit", "authUrl": "https://idp.example.com/a" }))]).await;
    has(&implicit, r#"bearer: { token: "${ONE_TOKEN}" }"#);
    let empty = json!({ "grant_type": "client_credentials", "clientSecret": "", "clientId": "", "client_authentication": "body", "scope": "" });
    has(
        &of(&[oauth2(empty)]).await,
        r#"client_auth: post, grant: client_credentials, client_id: "${ONE_CLIENT_ID}", client_secret: "${ONE_CLIENT_SECRET}" "#,
    );
    let odd = json!({ "redirect_uri": "myapp://callback", "grant_type": "authorization_code_with_pkce" });
    says(&of(&[oauth2(odd)]).await, "`redirect_uri` of `one`");
    has(
        &of(&[oauth2(json!({ "redirect_uri": "https://app.example.com/cb" }))]).await,
        r#"redirect_uri: "https://app.example.com/cb""#,
    );
    says(&of(&[with_auth("kerberos", json!({ "a": "s3cret" }))]).await, "auth type `kerberos`");
    // A name that no header can have: the check would refuse it.
    says(&of(&[with_auth("apikey", json!({ "key": "a b", "value": "s3cret" }))]).await, "which `gatepass check` refuses");
}

#[tokio::test]
async fn certificates_go_where_postman_sends_them() {
    let certificates = json!([
        { "name": "All", "matches": ["<all_urls>"], "pfx": { "src": "a.pfx" } },
        { "name": "Plain", "matches": ["http://*/*"], "pfx": { "src": "b.pfx" } },
        { "name": "Both", "matches": ["http+https://*.bücher.example:*/v1/*"], "pfx": { "src": "c.pfx" } },
        { "host": "https://host.example.com:8443", "pfx": { "src": "d.pfx" } },
        { "host": "http://*", "pfx": { "src": "e.pfx" } },
    ]);
    let documents = [("it.json".to_owned(), certificates)];
    let imported = import(&documents).await.unwrap_or_else(|why| panic!("{why}"));
    has(&imported, "  - host: \"*\"\n    port: any\n    client_certificate: all\n");
    has(
        &imported,
        "  - host: [\"*.bücher.example\", \"bücher.example\"]\n    port: any\n    path: \"/v1/**\"\n    client_certificate: both\n",
    );
    has(&imported, "  - host: host.example.com\n    port: 8443\n");
    assert_eq!(imported.yaml.matches("host: \"*\"").count(), 1, "{}", imported.yaml);
    says(&imported, "a certificate for `http://*/*`: plain http has none");
    says(&imported, "`http://*`: plain http has none");
}

#[tokio::test]
async fn hosts_of_other_alphabets_and_websockets_have_rules() {
    let auth = json!({ "type": "bearer", "bearer": { "token": "s3cret" } });
    for (url, host) in [
        ("https://bücher.example/x", "xn--bcher-kva.example"),
        ("wss://stream.example.com/", "stream.example.com"),
        ("{{base}}/x", "api.example.com"),
    ] {
        let mut all = collection(json!({ "url": url, "auth": auth }));
        all["variable"] = json!([{ "key": "base", "value": "https://api.example.com/v1" }]);
        has(&of(&[all]).await, &format!("- host: {host}\n    auth: one\n"));
    }
    let gopher = of(&[collection(json!({ "url": "gopher://a.example.com/", "auth": auth }))]).await;
    says(&gopher, "request `One`: its host or scheme is none that a proxy carries");
}

#[tokio::test]
async fn collections_of_version_1_and_data_dumps_are_read() {
    let old = json!({
        "id": "c", "name": "Old", "order": ["r3"], "folders_order": ["f"],
        "auth": { "type": "bearer", "bearer": [{ "key": "token", "value": "s3cret-inherited" }] },
        "variables": [{ "key": "host", "value": "api.example.com" }],
        "folders": [{ "id": "f", "name": "Sub", "order": ["r1", "r2"], "folders_order": [] }],
        "requests": [
            { "id": "r1", "name": "Basic", "method": "GET", "url": "https://{{host}}/basic", "folder": "f", "headers": "",
              "currentHelper": "basicAuth", "helperAttributes": "{\"id\": \"basic\", \"username\": \"svc\", \"password\": \"s3cret\"}" },
            { "id": "r2", "name": "By hand", "method": "GET", "url": "https://other.example.com/?api_key=s3cret",
              "headers": "X-Api-Key: s3cret\n//X-Old-Token: s3cret\nAccept: */*\n", "currentHelper": "normal", "preRequestScript": "s3cret" },
            { "id": "r3", "name": "Plain", "method": "GET", "url": "https://{{host}}/plain", "headers": "", "currentHelper": null },
            { "id": "r4", "name": "Lost", "method": "GET", "url": "https://lost.example.com/", "headers": "",
              "currentHelper": "hawkAuth", "helperAttributes": { "hawk_id": "shop", "hawk_key": "s3cret", "ext": "", "app": "" } },
        ],
    });
    let seen = |imported: &Imported| {
        has(imported, r#"old: { bearer: { token: "${OLD_TOKEN}" } }"#);
        has(imported, r#"basic: { basic: { username: svc, password: "${BASIC_PASSWORD}" } }"#);
        has(imported, r#"lost: { hawk: { id: shop, key: "${LOST_KEY}" } }"#);
        has(imported, "- host: other.example.com\n    auth: [by-hand, by-hand-2]\n");
        says(imported, "headers that are switched off: `X-Old-Token`");
        says(imported, "scripts of `Sub/By hand`");
    };
    seen(&of(std::slice::from_ref(&old)).await);
    let environment =
        |name: &str, host: &str| json!({ "name": name, "values": [{ "key": "host", "value": host, "enabled": true }] });
    let dump = json!({
        "version": 1, "collections": [old], "globals": [{ "key": "g", "value": "s3cret" }],
        "environments": [environment("Test", "test.example.com"), environment("Live", "live.example.com")],
        "headerPresets": [{ "name": "Keys", "headers": [{ "key": "X", "value": "s3cret" }] }],
    });
    let imported = of(&[dump]).await;
    seen(&imported);
    has(&imported, "host: test.example.com");
    says(&imported, "the environments `Live` of 0.json: the first counts");
    says(&imported, "header preset `Keys`");
}

#[tokio::test]
async fn variables_of_one_collection_are_never_taken_for_those_of_another() {
    let one = |name: &str, host: &str| {
        json!({ "info": { "name": name }, "variable": [{ "key": "host", "value": host }, { "key": "token", "value": format!("s3cret {name}") }],
            "item": [{ "name": name, "request": { "url": "https://{{host}}/", "auth": { "type": "bearer", "bearer": { "token": "{{token}}" } } } }] })
    };
    let imported = of(&[one("A", "a.example.com"), one("B", "b.example.com")]).await;
    has(&imported, "  host: a.example.com\n  host-2: b.example.com\n");
    has(&imported, "  a: { bearer: { token: \"${TOKEN}\" } }\n  b: { bearer: { token: \"${TOKEN_2}\" } }\n");
    has(&imported, "  - host: \"{{host}}\"\n    auth: a\n  - host: \"{{host-2}}\"\n    auth: b\n");
}

#[tokio::test]
async fn a_proxy_is_for_the_requests_that_it_matches() {
    let request = |pattern: &str| {
        collection(json!({ "url": "https://api.example.com/", "proxy": {
            "match": pattern, "host": "proxy.example.com", "port": 3128, "username": "svc", "password": "s3cret" } }))
    };
    has(
        &of(&[request("http+https://*/*")]).await,
        r#"via: { url: "http://proxy.example.com:3128", username: svc, password: "${PROXY_OF_ONE_PASSWORD}" }"#,
    );
    let other = of(&[request("http://*/*")]).await;
    says(&other, "the proxy of One, whose `match` is not for this request");
    assert!(!other.yaml.contains("via:"), "{}", other.yaml);
}
