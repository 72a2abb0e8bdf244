use http::{HeaderValue, Method};
use serde_json::Value as Json;

use super::*;
use crate::moment::{Moment, NonceKind};
use crate::origin::{Host, Scheme as UrlScheme};
use crate::secret::Secret;

const VECTORS: &str = include_str!("../../tests/vectors/ntlm.json");

fn fixed(text: &str) -> SecretRef {
    SecretRef::Known(Secret::new(text))
}

fn ntlm(username: &str, spn: Option<&str>) -> Arc<Ntlm> {
    Arc::new(Ntlm {
        username: fixed(username),
        password: fixed("Password"),
        domain: None,
        workstation: "COMPUTER".to_owned(),
        spn: spn.map(str::to_owned),
        negotiates: Mutex::default(),
    })
}

fn draft(body: Body) -> Draft {
    Draft {
        method: Method::GET,
        origin: Arc::new(Origin::new(UrlScheme::Https, Host::parse("server.domain.example").unwrap(), 443)),
        target: "/".parse().unwrap(),
        headers: HeaderMap::new(),
        body,
    }
}

/// One connection, and what it is bound to.
struct Connection {
    moment: Moment,
    attempt: Box<dyn Attempt>,
    certificate: Option<Vec<u8>>,
    /// What was sent last leaves without its body.
    withholds_body: bool,
}

impl Connection {
    fn new(ntlm: &Arc<Ntlm>, moment: Moment, certificate: Option<Vec<u8>>) -> Self {
        Self { moment, attempt: ntlm.clone().begin(), certificate, withholds_body: false }
    }

    fn signed(&mut self, draft: &mut Draft) -> Result<Signed, Failure> {
        let channel_binding = self.certificate.as_deref();
        self.attempt.sign(draft, &Round { moment: &self.moment, attempt: 0, user: None, peer: None, channel_binding })
    }

    /// What is sent; `None`: no credential.
    fn sent(&mut self, draft: &mut Draft) -> Option<String> {
        self.withholds_body = self.signed(draft).unwrap().withholds_body;
        draft.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
    }

    fn answered(&mut self, draft: &Draft, status: u16, offers: &[&str]) -> Verdict {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_str(offer).unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let round = Round { moment: &self.moment, attempt: 0, user: None, peer: None, channel_binding: None };
        self.attempt.on_response(&Answer { draft, status, headers: &headers }, b"", &round)
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn base64(hex: &Json) -> String {
    BASE64_STANDARD.encode(unhex(hex.as_str().unwrap()))
}

/// 1601-01-01, where the published vectors' time is.
fn pinned() -> Moment {
    let beginning = std::time::UNIX_EPOCH - std::time::Duration::from_secs(11_644_473_600);
    Moment::pinned(Some(beginning), [(NonceKind::NtlmChallenge, "aa".repeat(8)), (NonceKind::NtlmSessionKey, "55".repeat(16))])
}

/// The last message to a challenge, by the way every request takes.
fn last_message(ntlm: &Arc<Ntlm>, challenge: &Json, certificate: Option<Vec<u8>>) -> String {
    let mut connection = Connection::new(ntlm, pinned(), certificate);
    let mut draft = draft(Body::Empty);
    connection.sent(&mut draft).unwrap();
    let challenge = format!("NTLM {}", base64(challenge));
    assert_eq!(connection.answered(&draft, 401, &[&challenge]), Verdict::Again);
    connection.sent(&mut draft).unwrap()
}

#[test]
fn the_message_of_ms_nlmp_4_2_4_is_reproduced_byte_for_byte_but_for_the_version_of_windows() {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    let sent = last_message(&ntlm("Domain\\User", Some("")), &file["v2"]["challenge_message_hex"], None);
    let mut sent = BASE64_STANDARD.decode(sent.strip_prefix("NTLM ").unwrap()).unwrap();
    let expected = unhex(file["v2"]["authenticate_message_hex"].as_str().unwrap());
    sent[64..72].copy_from_slice(&expected[64..72]);
    assert_eq!(sent, expected);
}

#[test]
fn integrity_code_channel_binding_and_service_name_are_those_an_independent_server_accepts() {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["modern_vectors_ours"].as_array().unwrap();
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let input = |name: &str| vector["inputs"][name].as_str();
        let ntlm = ntlm("Domain\\User", Some(input("spn").unwrap_or_default()));
        let certificate = input("server_certificate_der_used_for_the_token_hex").map(unhex);
        assert_eq!(hex(&crate::challenge::ntlm::negotiate()), vector["negotiate_message_hex"].as_str().unwrap());
        let sent = last_message(&ntlm, &vector["challenge_message_hex"], certificate);
        assert_eq!(Some(sent.as_str()), vector["expected"]["header"].as_str(), "{}", vector["id"]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A challenge that a server may send.
fn challenge() -> String {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    base64(&file["v2"]["challenge_message_hex"])
}

#[test]
fn a_body_is_kept_back_until_the_challenge_and_an_authenticated_connection_needs_nothing_more() {
    let ntlm = ntlm("User", None);
    let mut connection = Connection::new(&ntlm, Moment::real(), None);
    let mut draft = draft(Body::Streamed(Some(1 << 30)));
    connection.sent(&mut draft).unwrap();
    assert!(connection.withholds_body);
    connection.answered(&draft, 401, &[&format!("NTLM {}", challenge())]);
    connection.sent(&mut draft).unwrap();
    assert!(!connection.withholds_body);
    assert_eq!(connection.answered(&draft, 200, &[]), Verdict::Final);
    assert_eq!(connection.sent(&mut draft), None);
    // The server asks anew: from the start.
    assert_eq!(connection.answered(&draft, 401, &["NTLM"]), Verdict::Again);
    assert!(connection.sent(&mut draft).unwrap().starts_with("NTLM TlRMTVNTUAAB"));
}

#[test]
fn a_path_that_asks_nothing_gets_the_body_without_a_credential() {
    let ntlm = ntlm("User", None);
    let mut connection = Connection::new(&ntlm, Moment::real(), None);
    let mut draft = draft(Body::Streamed(None));
    connection.sent(&mut draft).unwrap();
    assert_eq!(connection.answered(&draft, 200, &[]), Verdict::Again);
    assert_eq!(connection.sent(&mut draft), None);
    assert!(!connection.withholds_body);
    assert_eq!(connection.answered(&draft, 200, &[]), Verdict::Final);
}

#[test]
fn a_refused_password_ends_it_and_a_server_without_ntlm_is_named_with_what_it_offers() {
    let ntlm = ntlm("User", None);
    let mut connection = Connection::new(&ntlm, Moment::real(), None);
    let mut draft = draft(Body::Empty);
    connection.sent(&mut draft).unwrap();
    connection.answered(&draft, 401, &[&format!("NTLM {}", challenge())]);
    connection.sent(&mut draft).unwrap();
    assert_eq!(connection.answered(&draft, 401, &["NTLM"]), Verdict::Final);
    connection.sent(&mut draft).unwrap();
    assert_eq!(connection.answered(&draft, 401, &["Basic realm=x, Digest realm=x, nonce=n"]), Verdict::Again);
    let failure = connection.signed(&mut draft).err().unwrap();
    assert!(failure.details.contains("does not offer NTLM; it offers Basic, Digest"), "{failure}");
}

#[test]
fn a_server_that_only_negotiates_gets_the_same_messages_under_that_name() {
    let ntlm = ntlm("User", None);
    let mut connection = Connection::new(&ntlm, Moment::real(), None);
    let mut draft = draft(Body::Empty);
    assert!(connection.sent(&mut draft).unwrap().starts_with("NTLM "));
    assert_eq!(connection.answered(&draft, 401, &["Negotiate"]), Verdict::Again);
    assert!(connection.sent(&mut draft).unwrap().starts_with("Negotiate TlRMTVNTUAAB"));
    connection.answered(&draft, 401, &[&format!("Negotiate {}", challenge())]);
    assert!(connection.sent(&mut draft).unwrap().starts_with("Negotiate TlRMTVNTUAAD"));
    let mut next = Connection::new(&ntlm, Moment::real(), None);
    assert!(next.sent(&mut draft).unwrap().starts_with("Negotiate TlRMTVNTUAAB"), "it is remembered");
}
