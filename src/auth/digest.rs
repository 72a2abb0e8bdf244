//! `digest` (RFC 7616, and RFC 2069 where a server names no qop). The first request to an origin is
//! answered with a challenge; later ones bring their credential along, with the nonce count rising.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    Answer, Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Facts, Locations, Preparation, Round, Scheme, Shape,
    Signed, Verdict, fetched, scheme_fields,
};
use crate::challenge::digest::{self, DigestSession};
use crate::challenge::{self, Challenge};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::moment::{NonceKind, random_hex};
use crate::origin::Origin;
use crate::provided::SecretRef;
use crate::secrets;
use crate::settings::{Decode, Node};

pub static SCHEME: Scheme = Scheme {
    name: "digest",
    doc: "HTTP Digest: MD5, SHA-256 and SHA-512-256, with -sess, auth and auth-int; the strongest challenge offered is answered, and only the first request to an origin pays the round trip.",
    short: None,
    settings: &[
        ("username", Shape::Secret, "required", "the user"),
        ("password", Shape::Secret, "required", "a SECRET"),
        ("preemptive", Shape::Bool, "true", "use a known nonce at once; false waits for a challenge each time"),
    ],
    build,
};

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let username = decode.required(&fields, SCHEME.name, "username").and_then(|node| decode.text(node));
    let password = decode.required(&fields, SCHEME.name, "password").and_then(|node| decode.text(node));
    let preemptive = fields.get("preemptive").map_or(Some(true), |node| decode.boolean(node));
    Some(Arc::new(Digest::new(secrets::reference(username?), secrets::reference(password?), preemptive?)))
}

/// Origins whose challenge is remembered.
const SPACES: usize = 256;

struct Digest {
    username: SecretRef,
    password: SecretRef,
    preemptive: bool,
    sessions: Mutex<HashMap<Arc<Origin>, Known>>,
}

/// What is known of an origin.
#[derive(Default)]
struct Known {
    /// The nonce that requests bring along.
    shared: String,
    /// The last nonces, and how often each was used.
    sessions: VecDeque<DigestSession>,
    /// The last answer that was judged was right: a refusal may then have another reason than the password.
    accepted: bool,
}

/// Nonces counted at once; a burst of requests is given one each.
const NONCES: usize = 256;

impl Known {
    fn session(&mut self, nonce: &str) -> Option<&mut DigestSession> {
        self.sessions.iter_mut().find(|session| session.nonce() == nonce)
    }

    fn add(&mut self, session: DigestSession) {
        if self.shared.is_empty() {
            self.shared = session.nonce().to_owned();
        }
        match self.session(session.nonce()) {
            Some(old) => *old = session.replacing(Some(old)),
            None => {
                if self.sessions.len() >= NONCES {
                    self.sessions.pop_front();
                }
                self.sessions.push_back(session);
            }
        }
    }
}

const INFO: HeaderName = HeaderName::from_static("authentication-info");

impl Digest {
    fn new(username: SecretRef, password: SecretRef, preemptive: bool) -> Self {
        Self { username, password, preemptive, sessions: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<Origin>, Known>> {
        self.sessions.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn remember(&self, origin: &Arc<Origin>, session: DigestSession) {
        let mut known = self.known();
        if known.len() >= SPACES && !known.contains_key(origin) {
            known.clear();
        }
        known.entry(origin.clone()).or_default().add(session);
    }

    /// The nonce that a draft was answered with.
    fn sent(draft: &Draft) -> Option<String> {
        let field = draft.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let sent = challenge::parse(field).into_iter().next().filter(|sent| sent.scheme == "digest")?;
        Some(sent.get("nonce").unwrap_or_default().to_owned())
    }

    fn accept(&self, origin: &Arc<Origin>, right: bool) {
        if let Some(known) = self.known().get_mut(origin) {
            known.accepted = right;
        }
    }

    /// A 401 to an answer that does not call it stale means a wrong password, by RFC 7616 §3.3. Where the last answer was
    /// right, there are two other reasons: others used the nonce too, and counts came out of order; or the server has
    /// forgotten its nonces and does not say so. `own`: the challenge was made in this exchange, and cannot be forgotten.
    fn is_excusable(&self, origin: &Arc<Origin>, challenges: &[Challenge], nonce: &str, own: bool) -> bool {
        if digest::is_stale(challenges) {
            return true;
        }
        let (accepted, contended) = match self.known().get_mut(origin) {
            Some(known) => (known.accepted, known.session(nonce).is_some_and(|session| session.count() > 1)),
            None => (false, false),
        };
        let denied = challenges.iter().any(|challenge| challenge.scheme == "digest" && challenge.get("stale").is_some());
        accepted && !denied && (contended || !own)
    }

    /// The server took `nonce`, or names the one it wants next (`nextnonce`, RFC 7616 §3.5): later requests use that.
    fn learn(&self, answer: &Answer<'_>, nonce: Option<&str>) {
        let info = answer.headers.get(INFO).and_then(|value| value.to_str().ok());
        if info.is_none() && nonce.is_none() {
            return;
        }
        let mut all = self.known();
        let Some(known) = all.get_mut(&answer.draft.origin) else { return };
        if let Some(nonce) = nonce {
            known.shared = nonce.to_owned();
        }
        let shared = known.shared.clone();
        if let Some(info) = info
            && let Some(mut next) = known.session(&shared).map(|session| session.clone())
        {
            next.learn(info);
            known.shared = next.nonce().to_owned();
            known.add(next);
        }
    }
}

impl Authorizer for Digest {
    fn facts(&self) -> Facts {
        Facts { answers: true, ..Facts::default() }
    }

    fn locations(&self) -> Locations {
        Locations::of([CredentialLocation::Header(header::AUTHORIZATION)])
    }

    fn body_need(&self, _: &Draft) -> BodyNeed {
        BodyNeed::Repeat
    }

    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(DigestAttempt { scheme: self, own: None })
    }
}

struct DigestAttempt {
    scheme: Arc<Digest>,
    /// The nonce that this exchange was challenged with: no other request uses it before it has been taken once, so that
    /// counts arrive in their order.
    own: Option<String>,
}

impl Attempt for DigestAttempt {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched([&self.scheme.username, &self.scheme.password])
    }

    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        let scheme = &self.scheme;
        draft.headers.remove(header::AUTHORIZATION);
        if round.attempt == 0 && !scheme.preemptive {
            return Ok(Signed::default());
        }
        let cnonce = round.moment.nonce(NonceKind::Cnonce, random_hex::<16>);
        // The count is taken under the lock: no two requests use the same one with a nonce.
        let session = {
            let mut all = scheme.known();
            let Some(known) = all.get_mut(&draft.origin) else { return Ok(Signed::default()) };
            let nonce = self.own.clone().unwrap_or_else(|| known.shared.clone());
            let Some(session) = known.session(&nonce) else { return Ok(Signed::default()) };
            session.next(&cnonce)
        };
        let (username, password) = (super::prepared(&scheme.username)?, super::prepared(&scheme.password)?);
        let request = digest::Request { method: draft.method.as_str(), target: draft.target.as_str(), body: &draft.body };
        let text = zeroize::Zeroizing::new(session.answer(username.expose(), password.expose(), &request, &cnonce)?);
        let mut value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
            Failure::new(Cause::Credential, "the digest challenge or user name holds characters that a header cannot carry")
        })?;
        value.set_sensitive(true);
        draft.headers.insert(header::AUTHORIZATION, value);
        Ok(Signed::default())
    }

    fn on_response(&mut self, answer: &Answer<'_>, _: &[u8], round: &Round<'_>) -> Verdict {
        let scheme = &self.scheme;
        let (origin, sent) = (&answer.draft.origin, Digest::sent(answer.draft));
        if answer.status != StatusCode::UNAUTHORIZED {
            if sent.is_some() && !answer.status.is_server_error() {
                scheme.accept(origin, true);
            }
            scheme.learn(answer, self.own.as_deref());
            return Verdict::Final;
        }
        let challenges = challenge::read(answer.headers, &header::WWW_AUTHENTICATE);
        let Some(session) = DigestSession::choose(&challenges) else {
            let fate = if sent.is_some() { "was refused" } else { "was not sent" };
            return Verdict::Explained(format!("{fate}: {}", unanswerable(answer, &challenges)));
        };
        let again = match &sent {
            None => true,
            Some(nonce) => scheme.is_excusable(origin, &challenges, nonce, self.own.is_some()),
        };
        self.own = Some(session.nonce().to_owned());
        scheme.remember(origin, session);
        if !again {
            scheme.accept(origin, false);
        }
        if again && round.attempt < 3 { Verdict::Again } else { Verdict::Final }
    }
}

/// Why none of the challenges can be answered.
fn unanswerable(answer: &Answer<'_>, challenges: &[Challenge]) -> String {
    let digests = challenges.iter().filter(|challenge| challenge.scheme == "digest");
    let algorithms: Vec<&str> = digests.map(|challenge| challenge.get("algorithm").unwrap_or("MD5")).collect();
    if !algorithms.is_empty() {
        let offers = clean(&algorithms.join(", "));
        return format!(
            "the origin offers Digest in no form that is supported (algorithm {offers}; MD5, SHA-256 and SHA-512-256 are)"
        );
    }
    match challenge::offered(answer.headers, &header::WWW_AUTHENTICATE) {
        Some(offers) => {
            format!("the origin does not offer Digest, it offers {offers}; give the rule a credential of that type")
        }
        None => "the origin answered 401 without naming a way of authenticating".to_owned(),
    }
}

/// What a server wrote, for a message.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
