//! Authentication schemes: one file each, and the table of them. A new scheme is its file, `mod x;`
//! and `x::SCHEME` here, and its vectors.

mod akamai_edgegrid;
mod api_key;
mod asap;
mod attempt;
mod auth_type;
mod aws_sigv4;
mod basic;
mod bearer;
mod build_cx;
mod cookies;
mod digest;
mod exec;
mod hawk;
mod headers;
mod http_signature;
pub mod jose;
mod jwt;
mod negotiate;
mod none;
mod ntlm;
mod oauth1;
pub mod oauth2;
mod placeholder;
mod printed;
pub mod stand_in;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod writes_tests;

use std::sync::Arc;

use http::HeaderValue;

pub use attempt::{
    Answer, Attempt, Authorizer, BodyNeed, CredentialLocation, Facts, Locations, Preparation, Round, Signed, Verdict,
};
pub use auth_type::{AuthType, Setting};
pub use build_cx::BuildCx;
pub use cookies::EXEC_USER;
pub use negotiate::NEGOTIATE;

use attempt::fetched;

use crate::draft::Body;
use crate::failure::{Cause, Failure};
use crate::provided::SecretRef;
use crate::secret::Secret;
use crate::settings::{Decode, Fields, Node, Place, Shape};

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
    /// Reads the settings; every mistake goes to `decode`'s report.
    build: fn(&Node, &mut Decode<'_>, &BuildCx<'_>) -> Option<Arc<dyn Authorizer>>,
}

impl Scheme {
    /// The credential of these settings. `None`: they have mistakes, which are in `decode`'s report.
    pub fn authorizer(&self, node: &Node, decode: &mut Decode<'_>, cx: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
        let before = decode.report.errors();
        let built = (self.build)(node, decode, cx);
        built.filter(|_| decode.report.errors() == before)
    }
}

/// Opens the settings of a scheme: its table says which there are. What else is there is reported, and the rest read on,
/// so that all mistakes are told at once.
fn scheme_fields<'n>(node: &'n Node, decode: &mut Decode<'_>, scheme: &Scheme) -> Option<Fields<'n>> {
    let known: Vec<&str> = scheme.settings.iter().map(|(name, ..)| *name).collect();
    decode.fields(node, scheme.name, &known)
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
    &akamai_edgegrid::SCHEME,
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

pub fn scheme(name: &str) -> Option<&'static Scheme> {
    SCHEMES.iter().copied().find(|scheme| scheme.name == name)
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
fn prepared(value: &SecretRef) -> Result<Secret, Failure> {
    value.peek().ok_or_else(|| Failure::new(Cause::Credential, "the secret has not been fetched"))
}

/// Feeds a body that a signature covers to `take`.
fn covered(body: &Body, take: impl FnMut(&[u8])) -> Result<(), Failure> {
    match body.for_each(take) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Cause::Credential, "the signature covers the body, and this body is streamed")),
        Err(cause) => Err(Failure::new(Cause::Internal, format!("cannot read the held body: {cause}"))),
    }
}
