//! The authorizers of a decision in one exchange: they sign each attempt, and hear what is answered to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::echo::Added;
use super::peeked::Peeked;
use crate::auth::{Answer, Attempt, CredentialLocation, Round, Verdict};
use crate::config::{Echo, OnExisting};
use crate::draft::{BodyTransformFactory, Draft};
use crate::failure::{Cause, Failure};
use crate::gate::{BoundAuthorizer, Caller, Decision};
use crate::moment::Moment;
use crate::replace::Replacements;
use crate::upstream::ResponseBody;

/// Attempts by a scheme that answers challenges: NTLM needs three, a stale nonce one more.
pub const ROUNDS: u8 = 5;

/// How long the beginning of an answer's body may take where it is looked at.
const PEEK_PATIENCE: Duration = Duration::from_secs(2);

/// The parts of a decision's authorizers in its order, `None` for those that are suppressed: of one exchange, or of one
/// connection where that is what they authenticate. Nearly always there is one.
pub enum Memory {
    One(Option<Box<dyn Attempt>>),
    Many(Vec<Option<Box<dyn Attempt>>>),
}

impl Default for Memory {
    fn default() -> Self {
        Memory::Many(Vec::new())
    }
}

impl Memory {
    fn begin(auth: &[Arc<BoundAuthorizer>], suppressed: &[usize]) -> Self {
        let begin =
            |(at, bound): (usize, &Arc<BoundAuthorizer>)| (!suppressed.contains(&at)).then(|| bound.authorizer.clone().begin());
        match auth {
            [bound] => Memory::One(begin((0, bound))),
            all => Memory::Many(all.iter().enumerate().map(begin).collect()),
        }
    }

    fn attempts(&self) -> &[Option<Box<dyn Attempt>>] {
        match self {
            Memory::One(one) => std::slice::from_ref(one),
            Memory::Many(all) => all,
        }
    }

    fn attempts_mut(&mut self) -> &mut [Option<Box<dyn Attempt>>] {
        match self {
            Memory::One(one) => std::slice::from_mut(one),
            Memory::Many(all) => all,
        }
    }
}

/// The attempts of one exchange to have its request accepted.
pub struct Attempts<'a> {
    auth: &'a [Arc<BoundAuthorizer>],
    /// What they belong to.
    decision: Option<&'a Decision>,
    /// The client's own cookies.
    cookies: Vec<HeaderValue>,
    /// Positions in the decision's authorizers of those that add nothing, since the client brought its own credential.
    suppressed: Vec<usize>,
    memory: Memory,
    now: Now<'a>,
    /// The attempt just signed leaves without its body.
    withholds_body: bool,
    /// What became of the credential, as a scheme said of the last answer.
    explained: Option<String>,
}

/// The attempt that is being made.
struct Now<'a> {
    user: Option<&'a str>,
    peer: Option<IpAddr>,
    moment: Moment,
    /// 0 for the first.
    attempt: u8,
    /// The certificate (DER) of the connection that it leaves by.
    channel_binding: Option<Vec<u8>>,
}

impl Now<'_> {
    fn round(&self) -> Round<'_> {
        Round {
            moment: &self.moment,
            attempt: self.attempt,
            user: self.user,
            peer: self.peer,
            channel_binding: self.channel_binding.as_deref(),
        }
    }
}

impl<'a> Attempts<'a> {
    /// For a draft that holds what the client sent and what rules say of fields and query.
    ///
    /// # Errors
    /// The client brought a credential of its own, and `on_existing_auth: reject`.
    pub fn new(decision: &'a Decision, draft: &Draft, caller: &'a Caller, moment: Moment) -> Result<Self, Failure> {
        let suppressed = suppressed(draft, decision)?;
        let (user, peer) = (caller.user.as_deref(), caller.address);
        let cookies = draft.headers.get_all(header::COOKIE).iter().cloned().collect();
        let now = Now { user, peer, moment, attempt: 0, channel_binding: None };
        Ok(Self { decision: Some(decision), cookies, ..Self::of(&decision.auth, suppressed, now) })
    }

    fn of(auth: &'a [Arc<BoundAuthorizer>], suppressed: Vec<usize>, now: Now<'a>) -> Self {
        let memory = Memory::begin(auth, &suppressed);
        let (decision, cookies) = (None, Vec::new());
        Self { auth, decision, cookies, suppressed, memory, now, withholds_body: false, explained: None }
    }

    /// Does any of them want to see the answer, or is there something to say of one that is suppressed?
    pub fn listen(&self) -> bool {
        !self.suppressed.is_empty() || self.auth.iter().any(|bound| bound.facts.answers)
    }

    pub fn suppressed(&self) -> &[usize] {
        &self.suppressed
    }

    /// This attempt leaves by a connection with that certificate of the origin's (RFC 5929).
    pub fn bind(&mut self, certificate: Option<Vec<u8>>) {
        self.now.channel_binding = certificate;
    }

    /// Goes on with what is known of an authenticated connection, which was made for the same authorizers. The others'
    /// parts begin anew.
    pub fn recall(&mut self, memory: Memory) {
        let Self { auth, memory: own, .. } = self;
        let mut known = memory;
        for ((bound, own), known) in auth.iter().zip(own.attempts_mut()).zip(known.attempts_mut()) {
            if bound.facts.own_connection {
                *own = known.take();
            }
        }
    }

    /// The connection that something is known of is gone.
    pub fn forget(&mut self) {
        self.memory = Memory::begin(self.auth, &self.suppressed);
    }

    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// Turns to the next attempt; false: there have been enough.
    pub fn advance(&mut self) -> bool {
        self.now.attempt += 1;
        self.now.attempt < ROUNDS
    }

    /// Those that sign, in their order.
    fn active(&self) -> impl Iterator<Item = (&'a BoundAuthorizer, &dyn Attempt)> {
        let all = self.auth.iter().zip(self.memory.attempts());
        all.filter_map(|(bound, attempt)| Some((&**bound, attempt.as_deref()?)))
    }

    /// Adds the credentials to the draft, and says how the body is changed on its way out.
    ///
    /// # Errors
    /// A credential cannot be had or added; the request must not leave then.
    pub async fn sign(&mut self, draft: &mut Draft) -> Result<Vec<BodyTransformFactory>, Failure> {
        let round = self.now.round();
        let mut transforms = Vec::new();
        self.withholds_body = false;
        for attempt in self.memory.attempts_mut().iter_mut().flatten() {
            if let Some(preparation) = attempt.prepare(draft, &round) {
                preparation.await?;
            }
            let signed = attempt.sign(draft, &round)?;
            transforms.extend(signed.transform);
            self.withholds_body |= signed.withholds_body;
        }
        Ok(transforms)
    }

    /// What the client must not see in the answer to the draft just signed.
    ///
    /// # Errors
    /// A credential cannot be had; the request must not leave then.
    pub fn masks(&self, draft: &Draft) -> Result<Option<Arc<Replacements>>, Failure> {
        let masking = self.decision.filter(|decision| decision.echo == Echo::Mask);
        let mut more = Vec::new();
        let mut strict = false;
        for (bound, attempt) in self.active() {
            let placeholder = bound.locations.writes.iter().any(|spot| matches!(spot, CredentialLocation::Placeholder(_)));
            if placeholder || masking.is_some() {
                more.extend(attempt.masks(draft)?);
            }
            strict |= placeholder;
        }
        let added = |decision| Added { draft, decision, suppressed: &self.suppressed, cookies: &self.cookies };
        let sought = masking.and_then(|decision| added(decision).sought());
        if more.is_empty() {
            return Ok(sought);
        }
        more.extend(sought.iter().flat_map(|sought| sought.iter().cloned()));
        Ok(Some(Arc::new(Replacements::new(more).strictly(strict))))
    }

    /// Does this attempt leave without its body, since it is only there to be challenged?
    pub fn withholds_body(&self) -> bool {
        self.withholds_body
    }

    /// Does the answer come from whom it should?
    ///
    /// # Errors
    /// It does not; the client does not get it.
    pub fn verify(&mut self, answer: &Answer<'_>) -> Result<(), Failure> {
        self.memory.attempts_mut().iter_mut().flatten().try_for_each(|attempt| attempt.verify(answer))
    }

    /// The beginning of the answer's body, where one of them wants to see it.
    pub async fn peek(&mut self, response: &mut Response<ResponseBody>) -> Peeked {
        let status = response.status();
        let wanted = self.active().any(|(bound, _)| bound.facts.reads_bodies_of.contains(&status));
        if wanted { Peeked::read(response.body_mut(), PEEK_PATIENCE).await } else { Peeked::default() }
    }

    /// Every authorizer that signed hears the answer, since each may learn from it. Those that are suppressed do not: the
    /// credential in it was the client's own.
    pub fn wants_another_round(&mut self, answer: &Answer<'_>, body: &[u8]) -> bool {
        let round = self.now.round();
        let mut again = false;
        self.explained = None;
        for (bound, attempt) in self.auth.iter().zip(self.memory.attempts_mut()) {
            let Some(attempt) = attempt.as_mut().filter(|_| bound.facts.answers) else { continue };
            match attempt.on_response(answer, body, &round) {
                Verdict::Again => again = true,
                Verdict::Explained(fate) => self.explained = self.explained.take().or(Some(fate)),
                Verdict::Final => {}
            }
        }
        again
    }

    /// What became of the credential that a 401 answers, where that is something else than a refusal.
    pub fn fate(&self, answer: &Answer<'_>) -> Option<String> {
        if answer.status != StatusCode::UNAUTHORIZED || self.auth.is_empty() {
            return None;
        }
        if self.suppressed.len() == self.auth.len() {
            return Some("was not sent: the client brought its own, which `on_existing_auth: keep` leaves as it is".to_owned());
        }
        self.explained.clone()
    }

    /// What each signature was computed over, secrets left out.
    pub fn canonical(&self, draft: &Draft) -> Vec<String> {
        self.active().filter_map(|(_, attempt)| attempt.canonical(draft)).collect()
    }

    /// The types that have added nothing to the draft yet, since they wait for a challenge.
    pub fn unchallenged(&self, draft: &Draft) -> impl Iterator<Item = &'static str> {
        let placed = |location: &CredentialLocation| match location {
            CredentialLocation::Header(name) => draft.headers.contains_key(name),
            _ => true,
        };
        let waits = move |bound: &BoundAuthorizer| bound.facts.answers && !bound.locations.writes.iter().any(placed);
        self.active().map(|(bound, _)| bound).filter(move |bound| waits(bound)).map(|bound| bound.kind)
    }
}

#[cfg(test)]
impl<'a> Attempts<'a> {
    /// Of authorizers alone.
    pub(super) fn by(auth: &'a [Arc<BoundAuthorizer>]) -> Self {
        let now = Now { user: None, peer: None, moment: Moment::real(), attempt: 0, channel_binding: None };
        Self::of(auth, Vec::new(), now)
    }
}

/// Which authorizers add nothing, because the client brought its own credential: positions in `decision.auth`.
///
/// # Errors
/// `on_existing_auth: reject`, and the client brought one.
fn suppressed(draft: &Draft, decision: &Decision) -> Result<Vec<usize>, Failure> {
    let mut suppressed = Vec::new();
    if decision.auth.is_empty() || decision.on_existing == OnExisting::Replace {
        return Ok(suppressed);
    }
    let elsewhere = brought_elsewhere(draft, decision);
    for (at, bound) in decision.auth.iter().enumerate() {
        let reject = decision.on_existing == OnExisting::Reject;
        let mut ours = bound.locations.writes.iter().chain(&bound.locations.clears);
        let brought = ours.find(|location| has(draft, location, reject)).or(elsewhere.as_ref());
        match brought {
            Some(location) if reject => return Err(refused(location, draft)),
            Some(_) => suppressed.push(at),
            None => {}
        }
    }
    Ok(suppressed)
}

/// Where credentials stand by custom, besides where the rule's own stand.
const CUSTOMARY_FIELDS: [HeaderName; 10] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("apikey"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-access-token"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("private-token"),
    HeaderName::from_static("ocp-apim-subscription-key"),
    HeaderName::from_static("x-functions-key"),
];
/// `access_token`: RFC 6750 §2.3.
const CUSTOMARY_PARAMETERS: [&str; 4] = ["access_token", "api_key", "apikey", "X-Amz-Signature"];

/// A credential of the client's own in a place that the rule's credential does not write.
fn brought_elsewhere(draft: &Draft, decision: &Decision) -> Option<CredentialLocation> {
    let locations = || decision.auth.iter().flat_map(|bound| &bound.locations.writes);
    // A placeholder is no credential, and what a rule sets is not the client's.
    let dummy = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes());
        locations().any(|location| matches!(location, CredentialLocation::Placeholder(dummy) if text.contains(dummy.as_str())))
    };
    let own = |name: &HeaderName| decision.injected.contains(name);
    let brought = |name: &&HeaderName| !own(name) && draft.headers.get_all(*name).iter().any(|value| !dummy(value));
    if let Some(name) = CUSTOMARY_FIELDS.iter().find(brought) {
        return Some(CredentialLocation::Header(name.clone()));
    }
    let parameter =
        CUSTOMARY_PARAMETERS.iter().find(|name| draft.has_query(name) && !decision.sets_query.iter().any(|set| set == **name));
    if let Some(name) = parameter {
        return Some(CredentialLocation::Query((*name).to_owned()));
    }
    // A session in another cookie than ours. Kept, it may be one of many that are none.
    let cookies = decision.on_existing == OnExisting::Reject
        && locations().any(|location| matches!(location, CredentialLocation::Cookie(_)));
    (cookies && draft.headers.contains_key(header::COOKIE)).then(|| CredentialLocation::Cookie("*".to_owned()))
}

/// `strictly`: what goes with a credential counts too, but for what every client sends.
fn has(draft: &Draft, location: &CredentialLocation, strictly: bool) -> bool {
    match location {
        CredentialLocation::Aside(header::ACCEPT_ENCODING | header::CACHE_CONTROL) => false,
        CredentialLocation::Aside(name) => strictly && draft.headers.contains_key(name),
        CredentialLocation::Header(name) => draft.headers.contains_key(name),
        CredentialLocation::Query(name) => draft.has_query(name),
        CredentialLocation::Cookie(name) => draft.headers.get_all(header::COOKIE).iter().any(|field| {
            let text = String::from_utf8_lossy(field.as_bytes());
            text.split(';').any(|pair| pair.trim().split('=').next() == Some(name))
        }),
        // Replaced in the body itself by the scheme; a jar leaves the client's cookies alone.
        // And a placeholder is there to be replaced.
        CredentialLocation::BodyField(_) | CredentialLocation::Jar | CredentialLocation::Placeholder(_) => false,
    }
}

fn refused(location: &CredentialLocation, draft: &Draft) -> Failure {
    let place = match location {
        CredentialLocation::Header(name) | CredentialLocation::Aside(name) => format!("header `{name}`"),
        CredentialLocation::Query(name) => format!("query parameter `{name}`"),
        CredentialLocation::Cookie(name) if name == "*" => "field `cookie`".to_owned(),
        CredentialLocation::Cookie(name) => format!("cookie `{name}`"),
        CredentialLocation::BodyField(name) => format!("body field `{name}`"),
        CredentialLocation::Jar => "its cookies".to_owned(),
        CredentialLocation::Placeholder(text) => format!("place of `{text}`"),
    };
    Failure::new(Cause::ExistingCredential, format!("the client sent its own credential to {} in {place}", draft.origin))
        .hint("take it out of the client, or set `on_existing_auth: replace` or `keep` in the rule")
}
