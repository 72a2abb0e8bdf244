//! OAuth 2 tokens: fetched once, given up when refused, rotated refresh tokens never lost.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};

use crate::support::*;

/// A token endpoint that gives these answers in turn, the last one again and again.
async fn token_endpoint(pki: &Pki, answers: Vec<Value>) -> Origin {
    let next = AtomicUsize::new(0);
    Origin::answering(pki, OriginOptions { tls: false, ..OriginOptions::default() }, move |_| {
        let n = next.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        let mut answer = text(answers[n].to_string());
        if answers[n].get("error").is_some() {
            *answer.status_mut() = http::StatusCode::BAD_REQUEST;
        }
        answer
    })
    .await
}

/// An origin that accepts only these tokens.
async fn api(pki: &Pki, accepts: &'static [&'static str]) -> Origin {
    Origin::answering(pki, OriginOptions::default(), move |seen| {
        let token = seen.headers.get("authorization").and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
        if token.is_some_and(|token| accepts.contains(&token)) {
            return text(format!("welcome {}", token.unwrap_or_default()));
        }
        let mut refusal = text("no");
        *refusal.status_mut() = http::StatusCode::UNAUTHORIZED;
        refusal.headers_mut().insert("www-authenticate", "Bearer error=\"invalid_token\"".parse().unwrap());
        refusal
    })
    .await
}

async fn gatepass(pki: &Pki, api: &Origin, token: &Origin, home: &Path, settings: &str) -> Gatepass {
    let auth = format!("auth: {{ oauth2: {{ token_url: \"http://{}/token\", {settings} }} }}", token.address);
    let yaml = format!("rules:\n{}", rule("a.test", api.address, &auth));
    Gatepass::start(&yaml, &[("CA", &pki.ca_pem), ("GATEPASS_HOME", home.to_str().unwrap())]).await
}

fn bodies(origin: &Origin) -> Vec<String> {
    origin.seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect()
}

/// What the token file holds.
fn kept(home: &Path) -> Option<Value> {
    let folder = std::fs::read_dir(home.join("tokens")).ok()?;
    let file = folder.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some_and(|e| e == "json"))?;
    serde_json::from_slice(&std::fs::read(file).unwrap()).ok()
}

#[tokio::test]
async fn fifty_requests_at_once_fetch_one_token() {
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let token = token_endpoint(&pki, vec![json!({ "access_token": "t1", "expires_in": 3600 })]).await;
    let api = api(&pki, &["t1"]).await;
    let gatepass = gatepass(&pki, &api, &token, home.path(), "client_id: c, client_secret: s").await;
    let sender = gatepass.h2("a.test").await;
    let all = (0..50).map(|n| {
        let mut sender = sender.clone();
        async move {
            let request = Request::get(format!("https://a.test/{n}")).body(Empty::<Bytes>::new().boxed()).unwrap();
            sender.send_request(request).await.unwrap().status()
        }
    });
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|status| *status == 200), "{all:?}");
    assert_eq!(bodies(&token), ["grant_type=client_credentials"]);
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_the_request_sent_again_once() {
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let answers = ["old", "new", "newer"].map(|t| json!({ "access_token": t, "expires_in": 3600 })).to_vec();
    let token = token_endpoint(&pki, answers.clone()).await;
    let origin = api(&pki, &["new"]).await;
    let gate = gatepass(&pki, &origin, &token, home.path(), "client_id: c, client_secret: s").await;
    assert!(gate.get("a.test", "/").await.ends_with("welcome new"));
    assert_eq!((token.seen().len(), origin.seen().len()), (2, 2));
    // A server that refuses everything: its answer is the client's.
    let token = token_endpoint(&pki, answers).await;
    let origin = api(&pki, &[]).await;
    let gate = gatepass(&pki, &origin, &token, home.path(), "client_id: c, client_secret: s").await;
    assert_eq!(status(&gate.get("a.test", "/").await), 401);
    assert_eq!((token.seen().len(), origin.seen().len()), (2, 2));
}

#[tokio::test]
async fn a_rotated_refresh_token_is_in_its_file_before_the_token_is_used_and_is_the_next_to_be_used() {
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let token = token_endpoint(
        &pki,
        vec![
            json!({ "access_token": "t1", "expires_in": 3600, "refresh_token": "r2" }),
            json!({ "access_token": "t2", "expires_in": 3600 }),
        ],
    )
    .await;
    let (folder, found) = (home.path().to_owned(), Arc::new(Mutex::new(Vec::new())));
    let when_used = found.clone();
    let api = Origin::answering(&pki, OriginOptions::default(), move |seen| {
        let kept = kept(&folder).unwrap_or_default();
        when_used.lock().unwrap().push((kept["access_token"].clone(), kept["refresh_token"].clone()));
        let mut answer = text("seen");
        if seen.headers["authorization"] == "Bearer t1" {
            *answer.status_mut() = http::StatusCode::UNAUTHORIZED;
        }
        answer
    })
    .await;
    let gate = gatepass(&pki, &api, &token, home.path(), "grant: refresh_token, client_id: c, refresh_token: r1").await;
    assert_eq!(status(&gate.get("a.test", "/").await), 200);
    assert_eq!(*found.lock().unwrap(), [("t1".into(), "r2".into()), ("t2".into(), "r2".into())]);
    assert_eq!(
        bodies(&token),
        ["grant_type=refresh_token&refresh_token=r1&client_id=c", "grant_type=refresh_token&refresh_token=r2&client_id=c"]
    );
    // Another start goes on with what is kept.
    let gate =
        gatepass(&pki, &api, &token, home.path(), "grant: refresh_token, client_id: c, refresh_token: r1, prefix: Bearer").await;
    assert_eq!(status(&gate.get("a.test", "/").await), 200);
    assert_eq!(token.seen().len(), 2);
}

#[tokio::test]
async fn a_refresh_token_that_has_ended_gives_way_to_the_grant() {
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let token = token_endpoint(
        &pki,
        vec![
            json!({ "access_token": "old", "expires_in": 3600, "refresh_token": "r1" }),
            json!({ "error": "invalid_grant" }),
            json!({ "access_token": "new", "expires_in": 3600 }),
        ],
    )
    .await;
    let api = api(&pki, &["new"]).await;
    let gate = gatepass(&pki, &api, &token, home.path(), "grant: password, username: u, password: p").await;
    assert!(gate.get("a.test", "/").await.ends_with("welcome new"));
    let grant = "grant_type=password&username=u&password=p";
    assert_eq!(bodies(&token), [grant, "grant_type=refresh_token&refresh_token=r1", grant]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_does_not_lose_a_rotated_refresh_token() {
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let token = Origin::answering(&pki, OriginOptions { tls: false, ..OriginOptions::default() }, |_| {
        std::thread::sleep(Duration::from_millis(300));
        text(r#"{ "access_token": "t1", "expires_in": 3600, "refresh_token": "r2" }"#)
    })
    .await;
    let api = api(&pki, &["t1"]).await;
    let gate = gatepass(&pki, &api, &token, home.path(), "grant: refresh_token, client_id: leaver, refresh_token: r1").await;
    let mut stream = gate.tls("a.test:443", "a.test", &[gatepass::tls::settings::Alpn::Http11]).await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    let started = Instant::now();
    while token.seen().is_empty() {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    while kept(home.path()).is_none() {
        assert!(started.elapsed() < PATIENCE, "the rotated token was not kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(kept(home.path()).unwrap()["refresh_token"], "r2");
}

#[tokio::test]
async fn nobody_signed_in_is_a_502_with_the_command_and_nothing_leaves() {
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let api = Origin::start(&pki, OriginOptions::default()).await;
    let yaml = format!(
        "credentials:\n  work: {{ oauth2: {{ grant: authorization_code, client_id: c, auth_url: https://login.test/a, token_url: https://login.test/t }} }}\nrules:\n{}",
        rule("a.test", api.address, "auth: work")
    );
    let gate = Gatepass::start(&yaml, &[("CA", &pki.ca_pem), ("GATEPASS_HOME", home.path().to_str().unwrap())]).await;
    let answer = gate.get("a.test", "/").await;
    assert!(status(&answer) == 502 && answer.contains("run `gatepass login work`"), "{answer}");
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_nonce_that_the_token_endpoint_wants_is_in_the_next_proof() {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/dpop.json")).unwrap();
    let case =
        vectors["nonce_cases"].as_array().unwrap().iter().find(|case| case["id"] == "as-nonce").unwrap()["response"].clone();
    let nonce = case["headers"][0][1].as_str().unwrap().to_owned();
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let wanted = nonce.clone();
    let token = Origin::answering(&pki, OriginOptions { tls: false, ..OriginOptions::default() }, move |seen| {
        if claims(seen)["nonce"] == wanted.as_str() {
            return text(r#"{ "access_token": "t1", "token_type": "DPoP" }"#);
        }
        let mut refusal = text(case["json"].to_string());
        *refusal.status_mut() = http::StatusCode::BAD_REQUEST;
        refusal.headers_mut().insert("dpop-nonce", wanted.parse().unwrap());
        refusal
    })
    .await;
    let api = Origin::start(&pki, OriginOptions::default()).await;
    let gate = gatepass(&pki, &api, &token, home.path(), "client_id: c, dpop: true").await;
    assert!(gate.get("a.test", "/x?y=1").await.ends_with("auth DPoP t1"));
    let asked: Vec<Value> = token.seen().iter().map(|seen| claims(seen)["nonce"].clone()).collect();
    assert_eq!(asked, [Value::Null, nonce.into()]);
    let proof = claims(&api.last());
    // The hash of `t1`, by Python's hashlib.
    assert_eq!(proof["ath"], "YotJ2W3N6XpDDdT1l3BYmeCalo95NJHktwTK4zpA3AI");
    assert_eq!((&proof["htm"], &proof["htu"]), (&"GET".into(), &"https://a.test/x".into()));
}

/// Of the proof that came with a request.
fn claims(seen: &Seen) -> Value {
    use base64::Engine;
    let proof = seen.headers["dpop"].to_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(proof).unwrap()).unwrap()
}

/// The API wants a real token by `auth: api`; login.test's token requests are answered by gatepass.
fn sdk(api: &Origin, login: &Origin, existing: &str) -> String {
    let endpoint = rule("login.test", login.address, "path: /oauth/token\ntoken_endpoint: api");
    let real = rule("a.test", api.address, &format!("auth: api\non_existing_auth: {existing}\necho: pass"));
    format!("credentials:\n  api: {{ bearer: real-token }}\nrules:\n{endpoint}{real}")
}

fn with_token(path: &str, host: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n")
}

const ASK: &str = "POST /oauth/token HTTP/1.1\r\nHost: login.test\r\nContent-Length: 57\r\nConnection: close\r\n\r\ngrant_type=client_credentials&client_id=x&client_secret=y";

fn stand_in(answer: &str) -> String {
    assert_eq!(status(answer), 200, "{answer}");
    let told: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&told["token_type"], &told["expires_in"]), (&"Bearer".into(), &3600.into()));
    told["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_sdk_gets_a_stand_in_for_its_token_request_and_the_real_token_takes_its_place() {
    let pki = Pki::new();
    let (api, login) = (Origin::start(&pki, OriginOptions::default()).await, Origin::start(&pki, OriginOptions::default()).await);
    for existing in ["replace", "keep", "reject"] {
        let gate = Gatepass::start(&sdk(&api, &login, existing), &[("CA", &pki.ca_pem)]).await;
        let token = stand_in(&gate.through("login.test", ASK).await);
        assert!(!token.contains("real-token"));
        let answer = gate.through("a.test", &with_token("/v1", "a.test", &token)).await;
        assert!(answer.ends_with("auth Bearer real-token"), "{existing}: {answer}");
        // What was not minted here is the client's own.
        let answer = gate.through("a.test", &with_token("/v1", "a.test", "gatepass-stand-in.9999999999.AAAA")).await;
        match existing {
            "replace" => assert!(answer.ends_with("auth Bearer real-token"), "{answer}"),
            "keep" => assert!(answer.ends_with("auth Bearer gatepass-stand-in.9999999999.AAAA"), "{answer}"),
            _ => assert_eq!(status(&answer), 403, "{answer}"),
        }
    }
    assert!(login.seen().is_empty(), "nothing of a token request leaves");
}

#[tokio::test]
async fn a_stand_in_is_for_its_credential_only_and_other_requests_are_no_token_requests() {
    let pki = Pki::new();
    let (api, login) = (Origin::start(&pki, OriginOptions::default()).await, Origin::start(&pki, OriginOptions::default()).await);
    let other = rule("b.test", api.address, "bearer: other-token\non_existing_auth: reject")
        + &rule("login.test", login.address, "tls: { server_name: a.test }");
    let gate = Gatepass::start(&format!("{}{other}", sdk(&api, &login, "reject")), &[("CA", &pki.ca_pem)]).await;
    let token = stand_in(&gate.through("login.test", ASK).await);
    assert_eq!(status(&gate.through("b.test", &with_token("/", "b.test", &token)).await), 403);
    assert_eq!(status(&gate.get("login.test", "/oauth/token").await), 405);
    assert!(login.seen().is_empty());
    // Other paths of that host go on as ever.
    assert_eq!(status(&gate.get("login.test", "/keys").await), 200);
    assert_eq!(login.seen().len(), 1);
    let large = format!(
        "POST /oauth/token HTTP/1.1\r\nHost: login.test\r\nContent-Length: 70000\r\nConnection: close\r\n\r\n{}",
        "x".repeat(70_000)
    );
    assert_eq!(status(&gate.through("login.test", &large).await), 413);
}

#[tokio::test]
async fn the_endpoints_are_those_of_the_issuers_metadata_which_must_be_its_own() {
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let api = api(&pki, &["t1"]).await;
    for (own, expected) in [(true, 200), (false, 502)] {
        let address: Arc<Mutex<String>> = Arc::default();
        let known = address.clone();
        let server = Origin::answering(&pki, OriginOptions { tls: false, ..OriginOptions::default() }, move |seen| {
            let origin = format!("http://{}", known.lock().unwrap());
            match seen.line.as_str() {
                "GET /realm/.well-known/openid-configuration" => {
                    let mut none = text("none");
                    *none.status_mut() = http::StatusCode::NOT_FOUND;
                    none
                }
                "GET /.well-known/oauth-authorization-server/realm" => {
                    let issuer = if own { format!("{origin}/realm") } else { "https://other.example".to_owned() };
                    text(json!({ "issuer": issuer, "token_endpoint": format!("{origin}/t") }).to_string())
                }
                "POST /t" => text(json!({ "access_token": "t1" }).to_string()),
                other => panic!("{other}"),
            }
        })
        .await;
        *address.lock().unwrap() = server.address.to_string();
        let auth = format!("auth: {{ oauth2: {{ issuer: \"http://{}/realm\", client_id: c }} }}", server.address);
        let yaml = format!("rules:\n{}", rule("a.test", api.address, &auth));
        let gate = Gatepass::start(&yaml, &[("CA", &pki.ca_pem), ("GATEPASS_HOME", home.path().to_str().unwrap())]).await;
        for _ in 0..2 {
            let answer = gate.get("a.test", "/").await;
            assert!(
                status(&answer) == expected && (own || answer.contains("it is of the issuer `https://other.example`")),
                "{answer}"
            );
        }
        assert_eq!(server.seen().iter().any(|seen| seen.line == "POST /t"), own);
    }
}

#[tokio::test]
async fn a_token_endpoint_that_is_down_is_not_a_mistake_of_the_configuration_and_what_it_says_is_for_the_log() {
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let api = api(&pki, &["t1"]).await;
    let ask = async |url: String, more: &str| {
        let auth = format!("auth: {{ oauth2: {{ token_url: \"{url}\", client_id: c, client_secret: hunter22, {more} }} }}");
        let yaml = format!("rules:\n{}", rule("a.test", api.address, &auth));
        let gate = Gatepass::start(&yaml, &[("CA", &pki.ca_pem), ("GATEPASS_HOME", home.path().to_str().unwrap())]).await;
        gate.get("a.test", "/").await
    };
    let answer = ask("http://127.0.0.1:1/t".to_owned(), "").await;
    assert!(status(&answer) == 503 && answer.contains("error=destination_unavailable"), "{answer}");
    let busy = Origin::answering(&pki, OriginOptions { tls: false, ..OriginOptions::default() }, |_| {
        let mut answer = text("maintenance");
        *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        answer
    })
    .await;
    let answer = ask(format!("http://{}/t", busy.address), "").await;
    assert!(status(&answer) == 503 && answer.contains("503 Service Unavailable") && !answer.contains("maintenance"), "{answer}");
    // One that refuses: its code is told, its words are not.
    let words = json!({ "error": "invalid_client", "error_description": "bad Basic YzpodW50ZXIyMg== of bob" });
    let refusing = token_endpoint(&pki, vec![words]).await;
    let answer = ask(format!("http://{}/t", refusing.address), "").await;
    assert!(status(&answer) == 502 && answer.contains("invalid_client") && answer.contains("gatepass's log has"), "{answer}");
    assert!(!answer.contains("bob") && !answer.contains("YzpodW") && !answer.contains("hunter"), "{answer}");
    // One whose CA is not known: the mend is this credential's, not a rule's.
    let other = Pki::named("another CA");
    let secure = Origin::start(&other, OriginOptions { names: &["localhost"], ..OriginOptions::default() }).await;
    let answer = ask(format!("https://localhost:{}/t", secure.address.port()), "").await;
    assert!(status(&answer) == 502 && answer.contains("error=tls_certificate_error"), "{answer}");
    assert!(answer.contains("oauth2: { ca_bundle: FILE }"), "{answer}");
}

#[tokio::test]
async fn a_401_to_an_upload_that_has_begun_gets_a_new_token_for_the_next_request_and_says_so() {
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let answers = ["old", "new"].map(|t| json!({ "access_token": t, "expires_in": 3600 })).to_vec();
    let token = token_endpoint(&pki, answers).await;
    let origin = api(&pki, &["new"]).await;
    let gate = gatepass(&pki, &origin, &token, home.path(), "client_id: c").await;
    let upload = format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1200000\r\n\r\n{}", "x".repeat(1_200_000));
    let answer = gate.through("a.test", &upload).await;
    assert!(status(&answer) == 401 && answer.contains("is too large to be sent twice: send the request again"), "{answer}");
    let answer = gate.through("a.test", &upload).await;
    assert!(answer.ends_with("welcome new"), "{answer}");
}

#[tokio::test]
async fn a_refresh_token_that_was_written_but_not_put_into_place_is_taken_up() {
    let (pki, home) = (Pki::new(), tempfile::tempdir().unwrap());
    let answers = vec![
        json!({ "access_token": "t1", "expires_in": 1, "refresh_token": "r2" }),
        json!({ "access_token": "t2", "expires_in": 3600, "refresh_token": "r4" }),
    ];
    let token = token_endpoint(&pki, answers).await;
    let api = api(&pki, &["t1", "t2"]).await;
    let gate = gatepass(&pki, &api, &token, home.path(), "grant: refresh_token, client_id: c, refresh_token: r1").await;
    assert!(gate.get("a.test", "/").await.ends_with("welcome t1"));
    // Killed between the writing of the next one and its renaming.
    let file = std::fs::read_dir(home.path().join("tokens")).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|e| e == "json")).unwrap();
    let mut next = kept(home.path()).unwrap();
    next["refresh_token"] = "r3".into();
    let left = file.with_file_name(format!(".{}.1.0a1b2c3d", file.file_name().unwrap().to_string_lossy()));
    std::fs::write(&left, next.to_string()).unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(gate.get("a.test", "/").await.ends_with("welcome t2"));
    assert_eq!(bodies(&token)[1], "grant_type=refresh_token&refresh_token=r3&client_id=c");
    assert!(!left.exists() && kept(home.path()).unwrap()["refresh_token"] == "r4");
}
