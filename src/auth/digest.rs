//! `digest` (RFC 7616, and RFC 2069 where a server names no qop). The first request to an origin is
//! answered with a challenge; later ones bring their credential along, with the nonce count rising.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest as sha;
use http::{HeaderName, HeaderValue, StatusCode, header};
use md5::{Digest as _, Md5};
use percent_encoding::utf8_percent_encode;

use super::challenge::{self, Challenge};
use super::live::Value;
use super::{Answer, Authorizer, BodyNeed, BoxFuture, Making, Needs, Round, Scheme, Spot, Verdict};
use crate::config::{Decode, Node};
use crate::draft::{Body, Draft, UNRESERVED};
use crate::failure::{Cause, Failure};
use crate::moment::{NonceKind, random_hex};
use crate::origin::Origin;

pub static SCHEME: Scheme = Scheme {
    name: "digest",
    doc: "HTTP Digest: MD5, SHA-256 and SHA-512-256, with -sess, auth and auth-int; the strongest challenge offered is answered, and only the first request to an origin pays the round trip.",
    settings: &[
        ("username", "required", "the user"),
        ("password", "required", "a SECRET"),
        ("preemptive", "true", "use a known nonce at once; false waits for a challenge each time"),
    ],
    build,
};

fn build(node: &Node, decode: &mut Decode<'_>, _: &Making<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = decode.fields(node, "digest", &["username", "password", "preemptive"])?;
    let username = decode.required(&fields, "digest", "username").and_then(|node| decode.text(node));
    let password = decode.required(&fields, "digest", "password").and_then(|node| decode.text(node));
    let preemptive = fields.get("preemptive").map_or(Some(true), |node| decode.boolean(node));
    Some(Arc::new(Digest::new(Value::from(username?), Value::from(password?), preemptive?)))
}

/// Origins whose challenge is remembered.
const SPACES: usize = 256;

struct Digest {
    username: Value,
    password: Value,
    preemptive: bool,
    /// The last challenge of each origin.
    spaces: Mutex<HashMap<Arc<Origin>, Space>>,
}

/// RFC 7616 §3.3, as the server spelt it.
#[derive(Clone)]
struct Space {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// As it is echoed; `None`: none was named.
    algorithm_text: Option<String>,
    qop: Option<Qop>,
    userhash: bool,
    utf8: bool,
    /// Requests made with this nonce.
    count: u32,
    /// Of the first request with this nonce: what -sess is bound to.
    session_cnonce: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Qop {
    Auth,
    AuthInt,
}

/// In the order of strength.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Md5,
    Sha256,
    Sha512_256,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Algorithm {
    hash: Hash,
    session: bool,
}

impl Algorithm {
    fn parse(text: Option<&str>) -> Option<Self> {
        let Some(text) = text else { return Some(Self { hash: Hash::Md5, session: false }) };
        let upper = text.to_ascii_uppercase();
        let (name, session) = upper.strip_suffix("-SESS").map_or((upper.as_str(), false), |name| (name, true));
        let hash = match name {
            "MD5" => Hash::Md5,
            "SHA-256" => Hash::Sha256,
            "SHA-512-256" => Hash::Sha512_256,
            _ => return None,
        };
        Some(Self { hash, session })
    }
}

impl Hash {
    fn hex(self, parts: &[&[u8]]) -> String {
        let bytes: Vec<u8> = match self {
            Hash::Md5 => {
                let mut hash = Md5::new();
                parts.iter().for_each(|part| hash.update(part));
                hash.finalize().to_vec()
            }
            Hash::Sha256 => sha_of(&sha::SHA256, parts),
            Hash::Sha512_256 => sha_of(&sha::SHA512_256, parts),
        };
        bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    fn body(self, body: &Body) -> Result<String, Failure> {
        let mut pieces = Vec::new();
        let here = body.for_each(|piece| pieces.extend_from_slice(piece));
        match here {
            Ok(true) => Ok(self.hex(&[&pieces])),
            Ok(false) => Err(Failure::new(
                Cause::Credential,
                "the server wants the body in its digest (auth-int), and this body is streamed",
            )),
            Err(cause) => Err(Failure::new(Cause::Internal, format!("cannot read the held body: {cause}"))),
        }
    }
}

fn sha_of(algorithm: &'static sha::Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = sha::Context::new(algorithm);
    parts.iter().for_each(|part| hash.update(part));
    hash.finish().as_ref().to_vec()
}

impl Space {
    /// The strongest Digest challenge that is understood (RFC 7616 §3.7: the client chooses).
    fn choose(challenges: &[Challenge]) -> Option<Self> {
        let mut best: Option<Self> = None;
        for space in challenges.iter().filter(|challenge| challenge.scheme == "digest").filter_map(Self::read) {
            if best.as_ref().is_none_or(|best| space.algorithm.hash > best.algorithm.hash) {
                best = Some(space);
            }
        }
        best
    }

    fn read(challenge: &Challenge) -> Option<Self> {
        let algorithm_text = challenge.get("algorithm").map(str::to_owned);
        let qop = match challenge.get("qop").map(str::to_ascii_lowercase) {
            None => None,
            // Some servers write `qop=""` for none.
            Some(list) if list.trim().is_empty() => None,
            Some(list) => {
                let offers = |name: &str| list.split(',').any(|one| one.trim() == name);
                Some(if offers("auth") {
                    Qop::Auth
                } else if offers("auth-int") {
                    Qop::AuthInt
                } else {
                    return None;
                })
            }
        };
        let is = |name: &str, value: &str| challenge.get(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
        Some(Self {
            realm: challenge.get("realm")?.to_owned(),
            nonce: challenge.get("nonce")?.to_owned(),
            opaque: challenge.get("opaque").map(str::to_owned),
            algorithm: Algorithm::parse(algorithm_text.as_deref())?,
            algorithm_text,
            qop,
            userhash: is("userhash", "true"),
            utf8: is("charset", "utf-8"),
            count: 0,
            session_cnonce: None,
        })
    }

    fn answer(&self, username: &str, password: &str, draft: &Draft, cnonce: &str) -> Result<String, Failure> {
        let hash = self.algorithm.hash;
        let target = draft.target.as_str();
        let mut ha1 = hash.hex(&[username.as_bytes(), b":", self.realm.as_bytes(), b":", password.as_bytes()]);
        if self.algorithm.session {
            let first = self.session_cnonce.as_deref().unwrap_or(cnonce);
            ha1 = hash.hex(&[ha1.as_bytes(), b":", self.nonce.as_bytes(), b":", first.as_bytes()]);
        }
        let method = draft.method.as_str().as_bytes();
        let ha2 = match self.qop {
            Some(Qop::AuthInt) => hash.hex(&[method, b":", target.as_bytes(), b":", hash.body(&draft.body)?.as_bytes()]),
            _ => hash.hex(&[method, b":", target.as_bytes()]),
        };
        let count = format!("{:08x}", self.count);
        let response = match self.qop.map(Qop::as_str) {
            None => hash.hex(&[ha1.as_bytes(), b":", self.nonce.as_bytes(), b":", ha2.as_bytes()]),
            Some(qop) => hash.hex(&[
                ha1.as_bytes(),
                b":",
                self.nonce.as_bytes(),
                b":",
                count.as_bytes(),
                b":",
                cnonce.as_bytes(),
                b":",
                qop.as_bytes(),
                b":",
                ha2.as_bytes(),
            ]),
        };
        let mut text = format!(
            "Digest {}, realm=\"{}\", nonce=\"{}\", uri=\"{target}\", response=\"{response}\"",
            self.user(username),
            escaped(&self.realm),
            escaped(&self.nonce)
        );
        // RFC 7616 §3.4: algorithm, qop, nc and userhash without quotes.
        if let Some(algorithm) = &self.algorithm_text {
            let _ = write!(text, ", algorithm={algorithm}");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(text, ", opaque=\"{}\"", escaped(opaque));
        }
        if let Some(qop) = self.qop {
            let _ = write!(text, ", qop={}, nc={count}, cnonce=\"{}\"", qop.as_str(), escaped(cnonce));
        } else if self.algorithm.session {
            let _ = write!(text, ", cnonce=\"{}\"", escaped(cnonce));
        }
        if self.userhash {
            text.push_str(", userhash=true");
        }
        Ok(text)
    }

    /// RFC 7616 §3.4.4: hashed, or extended where it is not ASCII and the server reads UTF-8.
    fn user(&self, username: &str) -> String {
        if self.userhash {
            return format!("username=\"{}\"", self.algorithm.hash.hex(&[username.as_bytes(), b":", self.realm.as_bytes()]));
        }
        if self.utf8 && !username.is_ascii() {
            return format!("username*=UTF-8''{}", utf8_percent_encode(username, UNRESERVED));
        }
        format!("username=\"{}\"", escaped(username))
    }
}

impl Qop {
    fn as_str(self) -> &'static str {
        match self {
            Qop::Auth => "auth",
            Qop::AuthInt => "auth-int",
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

const INFO: HeaderName = HeaderName::from_static("authentication-info");

impl Digest {
    fn new(username: Value, password: Value, preemptive: bool) -> Self {
        Self { username, password, preemptive, spaces: Mutex::default() }
    }

    fn spaces(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<Origin>, Space>> {
        self.spaces.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn remember(&self, origin: &Arc<Origin>, space: Space) {
        let mut spaces = self.spaces();
        if spaces.len() >= SPACES && !spaces.contains_key(origin) {
            spaces.clear();
        }
        spaces.insert(origin.clone(), space);
    }

    /// `nextnonce` (RFC 7616 §3.5): the server wants the next request to use it.
    fn learn_next(&self, answer: &Answer<'_>) {
        let Some(text) = answer.headers.get(INFO).and_then(|value| value.to_str().ok()) else { return };
        let Some(next) = challenge::info(text).get("nextnonce").map(str::to_owned) else { return };
        if let Some(space) = self.spaces().get_mut(&answer.draft.origin)
            && space.nonce != next
        {
            space.nonce = next;
            space.count = 0;
            space.session_cnonce = None;
        }
    }
}

impl Authorizer for Digest {
    fn needs(&self) -> Needs {
        let prepare = self.username.fixed().is_none() || self.password.fixed().is_none();
        Needs { prepare, answers: true, body: BodyNeed::Repeat, own_connection: false }
    }

    fn writes(&self) -> Vec<Spot> {
        vec![Spot::Header(header::AUTHORIZATION)]
    }

    fn prepare<'a>(&'a self, _: &'a Round<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async {
            self.username.ready().await?;
            self.password.ready().await.map(|_| ())
        })
    }

    fn sign(&self, draft: &mut Draft, round: &Round<'_>) -> Result<(), Failure> {
        draft.headers.remove(header::AUTHORIZATION);
        if round.attempt == 0 && !self.preemptive {
            return Ok(());
        }
        let cnonce = round.moment.nonce(NonceKind::Cnonce, random_hex::<16>);
        // The count is taken under the lock: no two requests use the same one with a nonce.
        let space = {
            let mut spaces = self.spaces();
            let Some(space) = spaces.get_mut(&draft.origin) else { return Ok(()) };
            space.count = space.count.saturating_add(1);
            space.session_cnonce.get_or_insert_with(|| cnonce.clone());
            space.clone()
        };
        let (username, password) = (super::at_hand(&self.username)?, super::at_hand(&self.password)?);
        let text = zeroize::Zeroizing::new(space.answer(username.expose(), password.expose(), draft, &cnonce)?);
        let mut value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
            Failure::new(Cause::Credential, "the digest challenge or user name holds characters that a header cannot carry")
        })?;
        value.set_sensitive(true);
        draft.headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }

    fn answers(&self, answer: &Answer<'_>, round: &Round<'_>) -> Verdict {
        if answer.status != StatusCode::UNAUTHORIZED {
            self.learn_next(answer);
            return Verdict::Final;
        }
        let challenges = challenge::read(answer.headers, &header::WWW_AUTHENTICATE);
        let Some(space) = Space::choose(&challenges) else { return Verdict::Final };
        let stale = challenges.iter().any(|c| c.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")));
        let signed = answer.draft.headers.contains_key(header::AUTHORIZATION);
        self.remember(&answer.draft.origin, space);
        // A fresh nonce that is refused without being called stale means a wrong password.
        match (signed, round.attempt) {
            (false, 0) => Verdict::Again,
            (true, 0) => Verdict::Again,
            (_, attempt) if stale && attempt < 3 => Verdict::Again,
            _ => Verdict::Final,
        }
    }
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
