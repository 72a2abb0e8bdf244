//! The authorizers of a decision in one exchange: they sign each attempt, and hear what is answered to it.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;

use super::peeked::Peeked;
use crate::auth::{Answer, Round, Spot, Verdict};
use crate::config::OnExisting;
use crate::draft::{Draft, Recoding};
use crate::failure::{Cause, Failure};
use crate::gate::{Bound, Caller, Decision};
use crate::moment::Moment;
use crate::swap::Pair;

/// Attempts by a scheme that answers challenges: NTLM needs three, a stale nonce one more.
pub const ROUNDS: u8 = 5;

/// How long the beginning of an answer's body may take where it is looked at.
const PEEK_PATIENCE: Duration = Duration::from_secs(2);

/// What authorizers keep from attempt to attempt: of one exchange, or of one connection where that is what they
/// authenticate.
pub type Memory = Mutex<Option<Box<dyn Any + Send>>>;

/// The attempts of one exchange to have its request accepted.
pub struct Attempts<'a> {
    decision: &'a Decision,
    user: Option<&'a str>,
    peer: Option<IpAddr>,
    moment: Moment,
    /// Positions in the decision's authorizers of those that add nothing, since the client brought its own credential.
    suppressed: Vec<usize>,
    memory: Memory,
    /// 0 for the first.
    attempt: u8,
    /// The certificate (DER) of the connection that the attempt leaves by.
    channel_binding: Option<Vec<u8>>,
}

impl<'a> Attempts<'a> {
    /// For a draft that holds what the client sent and what rules say of fields and query.
    ///
    /// # Errors
    /// The client brought a credential of its own, and `on_existing_auth: reject`.
    pub fn new(decision: &'a Decision, draft: &Draft, caller: &'a Caller, moment: Moment) -> Result<Self, Failure> {
        let suppressed = suppressed(draft, decision)?;
        let (user, peer) = (caller.user.as_deref(), caller.address);
        Ok(Self { decision, user, peer, moment, suppressed, memory: Mutex::default(), attempt: 0, channel_binding: None })
    }

    pub fn suppressed(&self) -> &[usize] {
        &self.suppressed
    }

    /// This attempt leaves by a connection with that certificate of the origin's (RFC 5929).
    pub fn bind(&mut self, certificate: Option<Vec<u8>>) {
        self.channel_binding = certificate;
    }

    /// Goes on with what is known of an authenticated connection.
    pub fn recall(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// The connection that something is known of is gone.
    pub fn forget(&mut self) {
        self.memory = Mutex::default();
    }

    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// Turns to the next attempt; false: there have been enough.
    pub fn advance(&mut self) -> bool {
        self.attempt += 1;
        self.attempt < ROUNDS
    }

    fn round(&self) -> Round<'_> {
        Round {
            moment: &self.moment,
            attempt: self.attempt,
            user: self.user,
            peer: self.peer,
            channel_binding: self.channel_binding.as_deref(),
            memory: &self.memory,
        }
    }

    /// Those that sign, in their order.
    fn active(&self) -> impl Iterator<Item = &'a Bound> {
        let suppressed = &self.suppressed;
        let all = self.decision.auth.iter().enumerate();
        all.filter(|(at, _)| !suppressed.contains(at)).map(|(_, bound)| &**bound)
    }

    /// Adds the credentials to the draft, and says how the body is changed on its way out.
    ///
    /// # Errors
    /// A credential cannot be had or added; the request must not leave then.
    pub async fn sign(&self, draft: &mut Draft) -> Result<Vec<Recoding>, Failure> {
        let round = self.round();
        let mut recodings = Vec::new();
        for bound in self.active() {
            if bound.needs.prepare {
                bound.authorizer.prepare_for(draft, &round).await?;
            }
            bound.authorizer.sign(draft, &round)?;
            recodings.extend(bound.authorizer.recode(draft, &round)?);
        }
        Ok(recodings)
    }

    /// What the client must not see in the answer to the draft just signed.
    ///
    /// # Errors
    /// A credential cannot be had; the request must not leave then.
    pub fn masks(&self, draft: &Draft) -> Result<Vec<Pair>, Failure> {
        let mut pairs = Vec::new();
        for bound in self.active() {
            pairs.extend(bound.authorizer.mask(draft)?);
        }
        Ok(pairs)
    }

    /// Does this attempt leave without its body, since it is only there to be challenged?
    pub fn withholds_body(&self) -> bool {
        let round = self.round();
        self.active().any(|bound| bound.authorizer.withholds_body(&round))
    }

    /// Does the answer come from whom it should?
    ///
    /// # Errors
    /// It does not; the client does not get it.
    pub fn verify(&self, answer: &Answer<'_>) -> Result<(), Failure> {
        let round = self.round();
        self.active().try_for_each(|bound| bound.authorizer.verify(answer, &round))
    }

    /// The beginning of the answer's body, where one of them wants to see it.
    pub async fn peek(&self, response: &mut Response<Incoming>, draft: &Draft) -> Peeked {
        let answer = Answer { draft, status: response.status(), headers: response.headers() };
        let wanted = self.active().any(|bound| bound.needs.answers && bound.authorizer.wants_body(&answer));
        if wanted { Peeked::read(response.body_mut(), PEEK_PATIENCE).await } else { Peeked::default() }
    }

    /// Every authorizer that signed hears the answer, since each may learn from it. Those that are suppressed do not: the
    /// credential in it was the client's own.
    pub fn wants_another_round(&self, answer: &Answer<'_>, body: &[u8]) -> bool {
        let round = self.round();
        let mut again = false;
        for bound in self.active().filter(|bound| bound.needs.answers) {
            again |= bound.authorizer.answers_with(answer, body, &round) == Verdict::Again;
        }
        again
    }

    /// What became of the credential that a 401 answers, where that is something else than a refusal.
    pub fn fate(&self, answer: &Answer<'_>) -> Option<String> {
        if answer.status != StatusCode::UNAUTHORIZED || self.decision.auth.is_empty() {
            return None;
        }
        if self.suppressed.len() == self.decision.auth.len() {
            return Some("was not sent: the client brought its own, which `on_existing_auth: keep` leaves as it is".to_owned());
        }
        self.active().find_map(|bound| bound.authorizer.explains(answer))
    }

    /// What each signature was computed over, secrets left out.
    pub fn canonical(&self, draft: &Draft) -> Vec<String> {
        let round = self.round();
        self.active().filter_map(|bound| bound.authorizer.canonical(draft, &round)).collect()
    }

    /// The types that have added nothing to the draft yet, since they wait for a challenge.
    pub fn unchallenged(&self, draft: &Draft) -> impl Iterator<Item = &'static str> {
        let placed = |spot: &Spot| match spot {
            Spot::Header(name) => draft.headers.contains_key(name),
            _ => true,
        };
        self.active().filter(move |bound| bound.needs.answers && !bound.spots.iter().any(placed)).map(|bound| bound.kind)
    }
}

/// Which authorizers add nothing, because the client brought its own credential: positions in `decision.auth`.
///
/// # Errors
/// `on_existing_auth: reject`, and the client brought one.
fn suppressed(draft: &Draft, decision: &Decision) -> Result<Vec<usize>, Failure> {
    let mut suppressed = Vec::new();
    if decision.on_existing == OnExisting::Replace {
        return Ok(suppressed);
    }
    let elsewhere = brought_elsewhere(draft, decision);
    for (at, bound) in decision.auth.iter().enumerate() {
        let reject = decision.on_existing == OnExisting::Reject;
        let mut ours = bound.spots.iter().chain(&bound.clears);
        let brought = ours.find(|spot| has(draft, spot, reject)).or(elsewhere.as_ref());
        match brought {
            Some(spot) if reject => return Err(refused(spot, draft)),
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
fn brought_elsewhere(draft: &Draft, decision: &Decision) -> Option<Spot> {
    let spots = || decision.auth.iter().flat_map(|bound| &bound.spots);
    // A placeholder is no credential, and what a rule sets is not the client's.
    let dummy = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes());
        spots().any(|spot| matches!(spot, Spot::Placeholder(dummy) if text.contains(dummy.as_str())))
    };
    let own = |name: &HeaderName| decision.injected.contains(name);
    let brought = |name: &&HeaderName| !own(name) && draft.headers.get_all(*name).iter().any(|value| !dummy(value));
    if let Some(name) = CUSTOMARY_FIELDS.iter().find(brought) {
        return Some(Spot::Header(name.clone()));
    }
    let parameter =
        CUSTOMARY_PARAMETERS.iter().find(|name| draft.has_query(name) && !decision.sets_query.iter().any(|set| set == **name));
    if let Some(name) = parameter {
        return Some(Spot::Query((*name).to_owned()));
    }
    // A session in another cookie than ours. Kept, it may be one of many that are none.
    let cookies = decision.on_existing == OnExisting::Reject && spots().any(|spot| matches!(spot, Spot::Cookie(_)));
    (cookies && draft.headers.contains_key(header::COOKIE)).then(|| Spot::Cookie("*".to_owned()))
}

/// `strictly`: what goes with a credential counts too, but for what every client sends.
fn has(draft: &Draft, spot: &Spot, strictly: bool) -> bool {
    match spot {
        Spot::Aside(header::ACCEPT_ENCODING | header::CACHE_CONTROL) => false,
        Spot::Aside(name) => strictly && draft.headers.contains_key(name),
        Spot::Header(name) => draft.headers.contains_key(name),
        Spot::Query(name) => draft.has_query(name),
        Spot::Cookie(name) => draft.headers.get_all(header::COOKIE).iter().any(|field| {
            let text = String::from_utf8_lossy(field.as_bytes());
            text.split(';').any(|pair| pair.trim().split('=').next() == Some(name))
        }),
        // Replaced in the body itself by the scheme; a jar leaves the client's cookies alone.
        // And a placeholder is there to be replaced.
        Spot::BodyField(_) | Spot::Jar | Spot::Placeholder(_) => false,
    }
}

fn refused(spot: &Spot, draft: &Draft) -> Failure {
    let place = match spot {
        Spot::Header(name) | Spot::Aside(name) => format!("header `{name}`"),
        Spot::Query(name) => format!("query parameter `{name}`"),
        Spot::Cookie(name) if name == "*" => "field `cookie`".to_owned(),
        Spot::Cookie(name) => format!("cookie `{name}`"),
        Spot::BodyField(name) => format!("body field `{name}`"),
        Spot::Jar => "its cookies".to_owned(),
        Spot::Placeholder(text) => format!("place of `{text}`"),
    };
    Failure::new(Cause::ExistingCredential, format!("the client sent its own credential to {} in {place}", draft.origin))
        .hint("take it out of the client, or set `on_existing_auth: replace` or `keep` in the rule")
}
