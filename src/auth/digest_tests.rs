use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value as Json;

use super::*;
use crate::auth::testing::Alone as _;
use crate::draft::{Body, Held};
use crate::moment::Moment;
use crate::origin::{Host, Scheme as UrlScheme};
use crate::secret::Secret;

const VECTORS: &str = include_str!("../../tests/vectors/digest.json");

fn digest(username: &str, password: &str) -> Arc<Digest> {
    let fixed = |text: &str| SecretRef::Known(Secret::new(text));
    Arc::new(Digest::new(fixed(username), fixed(password), true))
}

fn draft(method: &str, target: &str, body: Option<&str>) -> Draft {
    Draft {
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        origin: Arc::new(Origin::new(UrlScheme::Https, Host::parse("a.example").unwrap(), 443)),
        target: target.parse().unwrap(),
        headers: HeaderMap::new(),
        body: body.map_or(Body::Empty, |text| Body::Held(Held::Memory(Bytes::from(text.to_owned())))),
    }
}

/// One exchange's view: attempt and pinned cnonce.
fn with_round<T>(attempt: u8, cnonce: &str, work: impl FnOnce(&Round<'_>) -> T) -> T {
    let moment = Moment::pinned(None, [(NonceKind::Cnonce, cnonce.to_owned())]);
    work(&Round { moment: &moment, attempt, user: None, peer: None, channel_binding: None })
}

fn challenged(digest: &Arc<Digest>, draft: &Draft, fields: &[&str], attempt: u8) -> Verdict {
    let mut headers = HeaderMap::new();
    for field in fields {
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_bytes(field.as_bytes()).unwrap());
    }
    with_round(attempt, "c", |round| {
        let answer = Answer { draft, status: StatusCode::UNAUTHORIZED, headers: &headers };
        digest.clone().begin().on_response(&answer, b"", round)
    })
}

fn signed(digest: &Arc<Digest>, draft: &mut Draft, attempt: u8, cnonce: &str) -> Challenge {
    with_round(attempt, cnonce, |round| digest.sign(draft, round).unwrap());
    let text = String::from_utf8(draft.headers[header::AUTHORIZATION].as_bytes().to_vec()).unwrap();
    challenge::parse(&text).remove(0)
}

#[test]
fn every_published_and_computed_vector_is_reproduced() {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 15);
    for vector in vectors {
        let input = |name: &str| vector["inputs"][name].as_str();
        let digest = digest(input("username").unwrap(), input("password").unwrap());
        let mut draft = draft(input("method").unwrap(), input("uri").unwrap(), input("body"));
        let mut field = format!("Digest realm=\"{}\", nonce=\"{}\"", input("realm").unwrap(), input("nonce").unwrap());
        for name in ["algorithm", "qop", "opaque"] {
            if let Some(value) = input(name) {
                field.push_str(&format!(", {name}=\"{value}\""));
            }
        }
        assert_eq!(challenged(&digest, &draft, &[&field], 0), Verdict::Again);
        let answer = signed(&digest, &mut draft, 1, input("cnonce").unwrap_or("unused"));
        assert_eq!(answer.get("response"), vector["expected"]["response"].as_str(), "{}", vector["id"]);
        assert_eq!(answer.get("nc"), input("nc"), "{}", vector["id"]);
        assert_eq!(answer.get("uri"), input("uri"));
    }
}

#[test]
fn userhash_and_sha_512_256_equal_an_independent_computation() {
    // The inputs of RFC 7616 §3.9.2, whose printed values are truncated SHA-512 (erratum 4897); these are SHA-512/256 by Python's hashlib.
    let digest = digest("J\u{e4}s\u{f8}n Doe", "Secret, or not?");
    let mut draft = draft("GET", "/doe.json", None);
    let field = "Digest realm=\"api@example.org\", qop=\"auth\", algorithm=SHA-512-256, nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", opaque=\"HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS\", charset=UTF-8, userhash=true";
    challenged(&digest, &draft, &[field], 0);
    let answer = signed(&digest, &mut draft, 1, "NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm");
    assert_eq!(answer.get("username"), Some("793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"));
    assert_eq!(answer.get("response"), Some("7a4e1192babbba02e91182d2895bfdbf7adafc6e48d4e517ca301974843d840c"));
    assert_eq!(answer.get("userhash"), Some("true"));
}

#[test]
fn challenges_are_read_as_servers_write_them_and_the_strongest_is_answered() {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    let cases = file["challenge_parsing_cases"].as_array().unwrap();
    assert_eq!(cases.len(), 16);
    let expected = [
        ("rfc7616-two-headers", "http-auth@example.org", "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", Some("SHA-256")),
        ("multi-scheme-one-line", "d", "n1", None),
        ("two-digests-one-line", "r", "b", Some("SHA-256")),
        ("token-values", "r", "abc", Some("MD5")),
        ("quoted-algorithm", "r", "abc", Some("SHA-256")),
        ("lower-case", "r", "abc", Some("sha-256")),
        ("escaped-quote", "a \"quoted\" realm", "n\\x", None),
        ("no-qop", "r", "n", None),
        ("auth-int-only", "r", "n", None),
        ("nonce-like-names", "r", "right", None),
        ("stale", "r", "n2", None),
        ("not-stale-again", "r", "n3", None),
        ("unknown-algorithm", "r", "m", Some("MD5")),
        ("trailing-comma-space", "r", "n", None),
        ("domain", "r", "n", None),
    ];
    for (id, realm, nonce, algorithm) in expected {
        let case = cases.iter().find(|case| case["id"] == id).unwrap_or_else(|| panic!("no case {id}"));
        let fields: Vec<&str> = case["headers"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
        let digest = digest("u", "p");
        let mut draft = draft("GET", "/", None);
        assert_eq!(challenged(&digest, &draft, &fields, 0), Verdict::Again, "{id}");
        let answer = signed(&digest, &mut draft, 1, "c");
        assert_eq!(
            (answer.get("realm"), answer.get("nonce"), answer.get("algorithm")),
            (Some(realm), Some(nonce), algorithm),
            "{id}"
        );
    }
}

#[test]
fn a_known_nonce_is_used_at_once_its_count_rises_and_nextnonce_replaces_it() {
    let digest = digest("u", "p");
    let mut draft = draft("GET", "/", None);
    with_round(0, "c", |round| digest.sign(&mut draft, round).unwrap());
    assert!(!draft.headers.contains_key(header::AUTHORIZATION), "nothing is known yet");
    challenged(&digest, &draft, &["Digest realm=r, nonce=one, qop=auth"], 0);
    let counts: Vec<String> = (0..3).map(|_| signed(&digest, &mut draft, 0, "c").get("nc").unwrap().to_owned()).collect();
    assert_eq!(counts, ["00000001", "00000002", "00000003"]);
    let mut headers = HeaderMap::new();
    headers.insert(INFO, HeaderValue::from_static("nextnonce=\"n9\", qop=auth"));
    let answer = Answer { draft: &draft, status: StatusCode::OK, headers: &headers };
    with_round(0, "c", |round| digest.clone().begin().on_response(&answer, b"", round));
    let answer = signed(&digest, &mut draft, 0, "c");
    assert_eq!((answer.get("nonce"), answer.get("nc")), (Some("n9"), Some("00000001")));
}

#[test]
fn a_nonce_that_is_handed_out_again_goes_on_being_counted() {
    let digest = digest("u", "p");
    let mut draft = draft("GET", "/", None);
    for count in ["00000001", "00000002"] {
        challenged(&digest, &draft, &["Digest realm=r, nonce=one, qop=auth"], 0);
        assert_eq!(signed(&digest, &mut draft, 1, "c").get("nc"), Some(count));
    }
}

/// What the server sees and says of one request: its answers until the client gets one of them.
fn exchange(digest: &Arc<Digest>, judge: impl FnMut(Option<&Challenge>) -> (u16, Option<String>)) -> (u16, Vec<bool>) {
    let (status, proved, _) = explained(digest, judge);
    (status, proved)
}

/// With what the scheme says of the last.
fn explained(
    digest: &Arc<Digest>,
    mut judge: impl FnMut(Option<&Challenge>) -> (u16, Option<String>),
) -> (u16, Vec<bool>, Option<String>) {
    let moment = Moment::pinned(None, []);
    let mut own = digest.clone().begin();
    let mut draft = draft("GET", "/", None);
    let mut proved = Vec::new();
    for attempt in 0..5 {
        let round = Round { moment: &moment, attempt, user: None, peer: None, channel_binding: None };
        own.sign(&mut draft, &round).unwrap();
        let field = draft.headers.get(header::AUTHORIZATION).map(|field| field.to_str().unwrap().to_owned());
        let sent = field.as_deref().map(|field| challenge::parse(field).remove(0));
        proved.push(sent.is_some());
        let (status, field) = judge(sent.as_ref());
        let mut headers = HeaderMap::new();
        if let Some(field) = field {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_str(&field).unwrap());
        }
        let answer = Answer { draft: &draft, status: StatusCode::from_u16(status).unwrap(), headers: &headers };
        match own.on_response(&answer, b"", &round) {
            Verdict::Again => {}
            Verdict::Final => return (status, proved, None),
            Verdict::Explained(fate) => return (status, proved, Some(fate)),
        }
    }
    panic!("it never ends: {proved:?}")
}

#[test]
fn a_wrong_password_is_sent_once_a_request_however_many_follow() {
    for stale in ["", ", stale=false"] {
        let digest = digest("u", "wrong");
        let mut nonces = 0;
        let mut refuse = |_: Option<&Challenge>| {
            nonces += 1;
            (401, Some(format!("Digest realm=r, nonce=n{nonces}, qop=auth{stale}")))
        };
        assert_eq!(exchange(&digest, &mut refuse), (401, vec![false, true]));
        for _ in 0..3 {
            assert_eq!(exchange(&digest, &mut refuse), (401, vec![true]), "{stale}");
        }
    }
}

#[test]
fn a_nonce_that_ran_out_or_was_forgotten_costs_another_round_and_a_changed_password_no_more_than_one() {
    let digest = digest("u", "p");
    let takes = |good: &'static str, more: &'static str| {
        move |sent: Option<&Challenge>| match sent.and_then(|sent| sent.get("nonce")) {
            Some(nonce) if nonce == good => (200, None),
            _ => (401, Some(format!("Digest realm=r, nonce={good}, qop=auth{more}"))),
        }
    };
    assert_eq!(exchange(&digest, takes("a", "")), (200, vec![false, true]));
    assert_eq!(exchange(&digest, takes("a", "")), (200, vec![true]));
    assert_eq!(exchange(&digest, takes("b", ", stale=true")), (200, vec![true, true]));
    assert_eq!(exchange(&digest, takes("c", "")), (200, vec![true, true]), "a server that has begun anew");
    let refuse = |_: Option<&Challenge>| (401, Some("Digest realm=r, nonce=d, qop=auth".to_owned()));
    assert_eq!(exchange(&digest, refuse), (401, vec![true, true]));
    assert_eq!(exchange(&digest, refuse), (401, vec![true]));
    // A server that calls everything stale is not asked for ever.
    let stale = |_: Option<&Challenge>| (401, Some("Digest realm=r, nonce=e, qop=auth, stale=true".to_owned()));
    assert_eq!(exchange(&digest, stale).1.len(), 4);
}

#[test]
fn where_digest_is_not_offered_or_not_understood_the_reason_says_that_and_that_nothing_was_sent() {
    let digest = digest("u", "p");
    for (field, words) in [
        (Some("Basic realm=r, Bearer"), "was not sent: the origin does not offer Digest, it offers Basic, Bearer"),
        (
            Some("Digest realm=r, nonce=n, algorithm=SHA3-256"),
            "was not sent: the origin offers Digest in no form that is supported (algorithm SHA3-256;",
        ),
        (None, "was not sent: the origin answered 401 without naming a way"),
    ] {
        let (status, proved, why) = explained(&digest, |_| (401, field.map(str::to_owned)));
        assert_eq!((status, proved), (401, vec![false]));
        assert!(why.as_deref().is_some_and(|why| why.starts_with(words)), "{why:?}");
    }
    let refuse = |_: Option<&Challenge>| (401, Some("Digest realm=r, nonce=n, qop=auth".to_owned()));
    assert_eq!(explained(&digest, refuse).2, None, "it was sent, and refused");
}

#[test]
fn counts_never_repeat_under_concurrency() {
    let digest = digest("u", "p");
    challenged(&digest, &draft("GET", "/", None), &["Digest realm=r, nonce=a, qop=auth"], 0);
    let counts: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..50)
                        .map(|_| signed(&digest, &mut draft("GET", "/", None), 0, "c").get("nc").unwrap().to_owned())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: std::collections::HashSet<_> = counts.iter().collect();
    assert_eq!(distinct.len(), 400);
}
