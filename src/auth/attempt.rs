//! What a scheme is to the exchange: an [`Authorizer`] is a credential as it was configured, an [`Attempt`] is its part in one
//! exchange, from signing to what is answered.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, StatusCode};

use crate::draft::{BodyTransformFactory, Draft};
use crate::failure::Failure;
use crate::moment::Moment;
use crate::provided::SecretRef;
use crate::replace::Replacement;

/// A configured credential. It owns what it learns of origins (clocks, nonces, counts), bounded.
pub trait Authorizer: Send + Sync {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// Where it writes, and where else a client's own credential of its kind may stand.
    fn locations(&self) -> Locations;

    /// What is needed of this request's body; asked once, before anything of it is read.
    fn body_need(&self, _draft: &Draft) -> BodyNeed {
        BodyNeed::None
    }

    /// Its part in an exchange that begins; in a connection, where that is what it authenticates.
    fn begin(self: Arc<Self>) -> Box<dyn Attempt>;
}

/// The part of a credential in one exchange, or in one connection. What is known only there is in the struct behind it.
pub trait Attempt: Send {
    /// Gets ready whatever needs waiting (a token, a helper's output), single flight. Called before each `sign`. `None`:
    /// everything is at hand.
    ///
    /// # Errors
    /// The credential cannot be had; the request then does not leave.
    fn prepare<'a>(&'a mut self, _draft: &'a Draft, _round: &'a Round<'a>) -> Option<Preparation<'a>> {
        None
    }

    /// Adds the credential to the draft. No waiting, no IO; clock and nonces come from the round.
    ///
    /// # Errors
    /// It cannot be added; the request then does not leave.
    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure>;

    /// What the client must not see in the answer to this request, and what it sees instead: swapped in fields and
    /// text bodies. Asked when every authorizer has signed.
    ///
    /// # Errors
    /// As `sign`.
    fn masks(&self, _draft: &Draft) -> Result<Vec<Replacement>, Failure> {
        Ok(Vec::new())
    }

    /// Does the answer come from whom it should? Asked before [`Attempt::on_response`].
    ///
    /// # Errors
    /// It does not; the client does not get it.
    fn verify(&mut self, _answer: &Answer<'_>) -> Result<(), Failure> {
        Ok(())
    }

    /// Looks at every answer, where [`Facts::answers`] asks for that. With it: the beginning of its body, where
    /// [`Facts::reads_bodies_of`] asks for that; else nothing of it.
    fn on_response(&mut self, _answer: &Answer<'_>, _body: &[u8], _round: &Round<'_>) -> Verdict {
        Verdict::Final
    }

    /// What the signature was computed over, secrets left out; for `gatepass sign -v`. Asked when every authorizer has signed.
    fn canonical(&self, _draft: &Draft) -> Option<String> {
        None
    }
}

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What an attempt waits for before it can sign.
pub type Preparation<'a> = BoxFuture<'a, Result<(), Failure>>;

/// Waits for what must be fetched of these; `None`: all of them are at hand.
pub fn fetched<'a>(values: impl IntoIterator<Item = &'a SecretRef>) -> Option<Preparation<'a>> {
    let missing: Vec<&SecretRef> = values.into_iter().filter(|value| !value.is_cached()).collect();
    if missing.is_empty() {
        return None;
    }
    Some(Box::pin(async move {
        for value in missing {
            value.get().await?;
        }
        Ok(())
    }))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// It wants to see answers.
    pub answers: bool,
    /// Of answers with one of these it wants to see the beginning of the body, too.
    pub reads_bodies_of: &'static [StatusCode],
    /// The credential authenticates the connection (NTLM, Negotiate): one client connection gets
    /// one upstream connection, HTTP/1.1, never pooled; an attempt lasts as long as that.
    pub own_connection: bool,
}

/// The body classes of a scheme, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum BodyNeed {
    #[default]
    None,
    /// It may have to be sent twice, which is worth no more than memory: held up to `limits.body_hold`, else streamed.
    Spare,
    /// It may have to be sent twice.
    Repeat,
    /// Something is computed over its bytes.
    Hash,
    /// The bytes are changed.
    Rewrite,
}

#[derive(Default)]
pub struct Locations {
    /// Every place that is written. Two authorizers of one rule must not share one; a client's own value
    /// there is replaced, kept or refused by `on_existing_auth`.
    pub writes: Vec<CredentialLocation>,
    /// Other places where a client's own credential of this kind may stand; signing clears them, so that an origin never
    /// gets two. They count as `writes` does for `on_existing_auth`.
    pub clears: Vec<CredentialLocation>,
}

impl Locations {
    /// Those that are written, and no others.
    pub fn of(writes: impl IntoIterator<Item = CredentialLocation>) -> Self {
        Self { writes: writes.into_iter().collect(), clears: Vec::new() }
    }

    pub fn clearing(mut self, clears: impl IntoIterator<Item = CredentialLocation>) -> Self {
        self.clears.extend(clears);
        self
    }
}

/// A place in a request that a scheme writes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CredentialLocation {
    Header(HeaderName),
    /// A field that is set beside the credential and is none itself: what `on_existing_auth: keep` does not look at.
    Aside(HeaderName),
    Query(String),
    Cookie(String),
    /// Wherever the client wrote this text.
    Placeholder(String),
    /// The cookies of a jar, whatever they are called; those that the client brought stay.
    Jar,
    /// A form field or top-level JSON member.
    BodyField(String),
}

/// One round of an exchange.
pub struct Round<'a> {
    pub moment: &'a Moment,
    /// 0 for the first.
    pub attempt: u8,
    /// Who asks, where that is known (authenticated user name), for schemes that keep state per caller.
    pub user: Option<&'a str>,
    pub peer: Option<IpAddr>,
    /// For connection-bound schemes: the certificate (DER) that the upstream showed on the connection, for a channel
    /// binding (RFC 5929); `None` in clear.
    pub channel_binding: Option<&'a [u8]>,
}

/// What signing asks for besides what it wrote.
#[derive(Default)]
pub struct Signed {
    /// How the body is changed on its way out, streamed or held.
    pub transform: Option<BodyTransformFactory>,
    /// The request leaves without its body (`Content-Length: 0`), since it is only there to be challenged; the body is
    /// sent in a later round.
    pub withholds_body: bool,
}

/// The head of an answer.
pub struct Answer<'a> {
    /// The request, as it was signed.
    pub draft: &'a Draft,
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The client may have it.
    Final,
    /// The same, and the scheme knows better than that the credential was refused: what follows "the credential `x` of
    /// rule y", as in "was not sent: …".
    Explained(String),
    /// Prepare, sign and send once more (bounded by the exchange).
    Again,
}
