//! Authentication schemes: one file each, and the table of them. A new scheme is its file, `mod x;`
//! and `x::SCHEME` here, and its vectors.

mod api_key;
mod asap;
mod aws_sigv4;
mod basic;
mod bearer;
mod cookies;
mod digest;
mod edgegrid;
mod exec;
pub mod fetch;
mod hawk;
mod headers;
mod http_signature;
pub mod jose;
mod jwt;
mod making;
mod negotiate;
mod none;
mod ntlm;
mod oauth1;
pub mod oauth2;
mod placeholder;
pub mod stand_in;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod writes_tests;

use std::any::Any;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

pub use making::Making;

pub use crate::live;
use crate::live::helper;

use crate::config::{AuthType, Decode, Node, Place, Setting, Shape};
use crate::draft::{Body, Draft, Recoding};
use crate::failure::{Cause, Failure};
use crate::moment::Moment;
use crate::secret::Secret;
use crate::swap::Pair;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One row of the table of schemes.
pub struct Scheme {
    /// As it is written in the config.
    pub name: &'static str,
    /// One line for the docs.
    pub doc: &'static str,
    /// What may stand directly behind its name, instead of settings.
    pub short: Option<Shape>,
    /// Its settings, for the schema, the docs, unknown-key hints, and what of them may be shown: name, shape, default or
    /// "required", meaning.
    pub settings: &'static [Setting],
    /// Reads the settings; every mistake goes to `decode`'s report, and then the answer is `None`.
    pub build: fn(&Node, &mut Decode<'_>, &Making<'_>) -> Option<Arc<dyn Authorizer>>,
}

/// Every scheme, in the order of the docs.
pub static SCHEMES: &[&Scheme] = &[
    &none::SCHEME,
    &bearer::SCHEME,
    &basic::SCHEME,
    &api_key::SCHEME,
    &headers::SCHEME,
    &digest::SCHEME,
    &oauth1::SCHEME,
    &jwt::SCHEME,
    &hawk::SCHEME,
    &edgegrid::SCHEME,
    &asap::SCHEME,
    &oauth2::SCHEME,
    &cookies::SCHEME,
    &ntlm::SCHEME,
    &aws_sigv4::SCHEME,
    &http_signature::SCHEME,
    &placeholder::SCHEME,
    &negotiate::SCHEME,
    &exec::SCHEME,
];

/// The table, as `config` needs it.
pub fn types() -> Vec<AuthType> {
    SCHEMES.iter().map(|scheme| AuthType::from(*scheme)).collect()
}

impl From<&Scheme> for AuthType {
    fn from(scheme: &Scheme) -> Self {
        Self { name: scheme.name, doc: scheme.doc, short: scheme.short, settings: scheme.settings }
    }
}

pub fn scheme(name: &str) -> Option<&'static Scheme> {
    SCHEMES.iter().copied().find(|scheme| scheme.name == name)
}

/// The live thing that signs drafts. It owns what it learns (tokens, nonces), bounded.
pub trait Authorizer: Send + Sync {
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Every place it writes. Two authorizers of one rule must not share one; a client's own value
    /// there is replaced, kept or refused by `on_existing_auth`.
    fn writes(&self) -> Vec<Spot>;

    /// Other places where a client's own credential of this kind may stand; `sign` clears them, so that an origin never
    /// gets two. They count as [`Authorizer::writes`] does for `on_existing_auth`.
    fn clears(&self) -> Vec<Spot> {
        Vec::new()
    }

    /// Gets ready whatever needs waiting (a token, a helper's output), single flight. Called before
    /// each `sign` when `needs().prepare`.
    ///
    /// # Errors
    /// The credential cannot be had; the request then does not leave.
    fn prepare<'a>(&'a self, _round: &'a Round<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// [`Authorizer::prepare`], where what is got ready depends on the request.
    ///
    /// # Errors
    /// As there.
    fn prepare_for<'a>(&'a self, _draft: &'a Draft, round: &'a Round<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        self.prepare(round)
    }

    /// What is needed of this request's body; asked once, before anything of it is read.
    fn body_need(&self, _draft: &Draft) -> BodyNeed {
        self.needs().body
    }

    /// Adds the credential to the draft. Pure: no waiting, no IO; clock and nonces come from the round.
    ///
    /// # Errors
    /// It cannot be added; the request then does not leave.
    fn sign(&self, draft: &mut Draft, round: &Round<'_>) -> Result<(), Failure>;

    /// How the body is changed on its way out, streamed or held, where the scheme does that. Asked right after `sign`.
    ///
    /// # Errors
    /// As `sign`.
    fn recode(&self, _draft: &Draft, _round: &Round<'_>) -> Result<Option<Recoding>, Failure> {
        Ok(None)
    }

    /// Does the request just signed leave without its body (`Content-Length: 0`), since it is only there to be
    /// challenged? The body is then sent in a later round. Asked after `sign`, of connection-bound schemes.
    fn withholds_body(&self, _round: &Round<'_>) -> bool {
        false
    }

    /// What the client must not see in the answer to this request, and what it sees instead: swapped in fields and
    /// text bodies. Asked right after `sign`.
    ///
    /// # Errors
    /// As `sign`.
    fn mask(&self, _draft: &Draft) -> Result<Vec<Pair>, Failure> {
        Ok(Vec::new())
    }

    /// Does the answer come from whom it should? Asked before [`Authorizer::answers`], of connection-bound schemes.
    ///
    /// # Errors
    /// It does not; the client does not get it.
    fn verify(&self, _answer: &Answer<'_>, _round: &Round<'_>) -> Result<(), Failure> {
        Ok(())
    }

    /// Looks at the head of every answer. `Again`: sign and send once more (bounded by the exchange).
    fn answers(&self, _answer: &Answer<'_>, _round: &Round<'_>) -> Verdict {
        Verdict::Final
    }

    /// What became of the credential, where a 401 is passed on and the scheme knows better than that it was refused:
    /// what follows "the credential `x` of rule y", as in "was not sent: …".
    fn explains(&self, _answer: &Answer<'_>) -> Option<String> {
        None
    }

    /// Does it take the body of this answer to tell? Then its beginning is read before [`Authorizer::answers_with`].
    fn wants_body(&self, _answer: &Answer<'_>) -> bool {
        false
    }

    /// [`Authorizer::answers`], with the beginning of the body where some authorizer wanted it; else nothing of it.
    fn answers_with(&self, answer: &Answer<'_>, _body: &[u8], round: &Round<'_>) -> Verdict {
        self.answers(answer, round)
    }

    /// What the signature was computed over, secrets left out; for `gatepass sign -v`.
    fn canonical(&self, _draft: &Draft, _round: &Round<'_>) -> Option<String> {
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// `prepare` must be awaited before `sign`.
    pub prepare: bool,
    /// `answers` wants to see answers.
    pub answers: bool,
    pub body: BodyNeed,
    /// The credential authenticates the connection (NTLM, Negotiate): one client connection gets
    /// one upstream connection, HTTP/1.1, never pooled.
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

/// A place in a request that a scheme writes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Spot {
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

/// One attempt of an exchange.
pub struct Round<'a> {
    pub moment: &'a Moment,
    /// 0 for the first attempt.
    pub attempt: u8,
    /// Who asks, where that is known (authenticated user name), for schemes that keep state per caller.
    pub user: Option<&'a str>,
    pub peer: Option<IpAddr>,
    /// For connection-bound schemes: the certificate (DER) that the upstream showed on the connection, for a channel
    /// binding (RFC 5929); `None` in clear.
    pub channel_binding: Option<&'a [u8]>,
    /// Kept from attempt to attempt of one exchange; for connection-bound schemes, as long as the connection.
    pub memory: &'a std::sync::Mutex<Option<Box<dyn Any + Send>>>,
}

/// The head of an answer.
pub struct Answer<'a> {
    pub draft: &'a Draft,
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The client may have it.
    Final,
    /// Prepare, sign and send once more.
    Again,
}

/// A field that carries a secret: kept out of `Debug` by http itself.
fn header_value(text: &str, what: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Failure::new(Cause::Credential, format!("the {what} holds characters that a header cannot carry")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// [`header_value`] while reading settings: the mistake is told at its place.
fn checked_header(decode: &mut Decode<'_>, text: &str, place: Place, what: &str) -> Option<HeaderValue> {
    match header_value(text, what) {
        Ok(value) => Some(value),
        Err(failure) => {
            decode.report.error("header-value", place, failure.details).help("take out line breaks and control characters");
            None
        }
    }
}

/// A value that `prepare` has fetched.
fn at_hand(value: &live::Value) -> Result<Secret, Failure> {
    value.now().ok_or_else(|| Failure::new(Cause::Credential, "the secret has not been fetched"))
}

/// Feeds a body that a signature covers to `take`.
fn covered(body: &Body, take: impl FnMut(&[u8])) -> Result<(), Failure> {
    match body.for_each(take) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Cause::Credential, "the signature covers the body, and this body is streamed")),
        Err(cause) => Err(Failure::new(Cause::Internal, format!("cannot read the held body: {cause}"))),
    }
}
