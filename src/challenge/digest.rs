//! HTTP Digest (RFC 7616, and RFC 2069 where a server names no qop): which challenge is answered, and the answer.

use std::fmt::Write as _;

use aws_lc_rs::digest as sha;
use md5::{Digest as _, Md5};
use percent_encoding::utf8_percent_encode;

use super::Challenge;
use crate::draft::{Body, UNRESERVED};
use crate::failure::{Cause, Failure};

/// A protection space: the last challenge (RFC 7616 §3.3) as the server spelt it, and how often it was answered.
#[derive(Clone)]
pub struct DigestSession {
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

/// What an answer is computed for.
pub struct Request<'a> {
    pub method: &'a str,
    /// As it stands in the request line.
    pub target: &'a str,
    pub body: &'a Body,
}

/// Does the server say that the credential was right but for its age?
pub fn is_stale(challenges: &[Challenge]) -> bool {
    challenges.iter().any(|challenge| challenge.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")))
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

impl DigestSession {
    /// The strongest Digest challenge that is understood (RFC 7616 §3.7: the client chooses).
    pub fn choose(challenges: &[Challenge]) -> Option<Self> {
        let mut best: Option<Self> = None;
        for session in challenges.iter().filter(|challenge| challenge.scheme == "digest").filter_map(Self::read) {
            if best.as_ref().is_none_or(|best| session.algorithm.hash > best.algorithm.hash) {
                best = Some(session);
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

    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Requests made with it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// In place of `old`: a nonce that is the same goes on being counted (a server may hand one to many at once).
    pub fn replacing(mut self, old: Option<&Self>) -> Self {
        if let Some(old) = old.filter(|old| old.nonce == self.nonce) {
            self.count = old.count;
            self.session_cnonce.clone_from(&old.session_cnonce);
        }
        self
    }

    /// The session for the next request: the count is one higher, and with it no answer is given twice.
    pub fn next(&mut self, cnonce: &str) -> Self {
        self.count = self.count.saturating_add(1);
        self.session_cnonce.get_or_insert_with(|| cnonce.to_owned());
        self.clone()
    }

    /// `nextnonce` of an `Authentication-Info` field (RFC 7616 §3.5): the server wants the next request to use it.
    pub fn learn(&mut self, info: &str) {
        if let Some(next) = super::info(info).get("nextnonce")
            && next != self.nonce
        {
            self.nonce = next.to_owned();
            self.count = 0;
            self.session_cnonce = None;
        }
    }

    /// The credential for a request.
    ///
    /// # Errors
    /// The server wants the body in it (auth-int), and the body is streamed or cannot be read.
    pub fn answer(&self, username: &str, password: &str, request: &Request<'_>, cnonce: &str) -> Result<String, Failure> {
        let hash = self.algorithm.hash;
        let target = request.target;
        let mut ha1 = hash.hex(&[username.as_bytes(), b":", self.realm.as_bytes(), b":", password.as_bytes()]);
        if self.algorithm.session {
            let first = self.session_cnonce.as_deref().unwrap_or(cnonce);
            ha1 = hash.hex(&[ha1.as_bytes(), b":", self.nonce.as_bytes(), b":", first.as_bytes()]);
        }
        let method = request.method.as_bytes();
        let ha2 = match self.qop {
            Some(Qop::AuthInt) => hash.hex(&[method, b":", target.as_bytes(), b":", hash.body(request.body)?.as_bytes()]),
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
