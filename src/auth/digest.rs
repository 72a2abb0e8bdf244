//! `digest` (RFC 7616, and RFC 2069 where a server names no qop). The first request to an origin is
//! answered with a challenge; later ones bring their credential along, with the nonce count rising.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::live::Value;
use super::{Answer, Authorizer, BodyNeed, BoxFuture, Making, Needs, Round, Scheme, Spot, Verdict};
use crate::config::{Decode, Node};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::moment::{NonceKind, random_hex};
use crate::origin::Origin;
use crate::proof::challenge;
use crate::proof::digest::{self, Space};

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
        let space = space.replacing(spaces.get(origin));
        spaces.insert(origin.clone(), space);
    }

    /// `nextnonce` (RFC 7616 §3.5): the server wants the next request to use it.
    fn learn_next(&self, answer: &Answer<'_>) {
        let Some(text) = answer.headers.get(INFO).and_then(|value| value.to_str().ok()) else { return };
        if let Some(space) = self.spaces().get_mut(&answer.draft.origin) {
            space.learn(text);
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
            space.next(&cnonce)
        };
        let (username, password) = (super::at_hand(&self.username)?, super::at_hand(&self.password)?);
        let request = digest::Request { method: draft.method.as_str(), target: draft.target.as_str(), body: &draft.body };
        let text = zeroize::Zeroizing::new(space.answer(username.expose(), password.expose(), &request, &cnonce)?);
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
        let stale = digest::is_stale(&challenges);
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
