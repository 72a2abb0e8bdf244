//! `basic` (RFC 7617).

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, header};
use zeroize::Zeroizing;

use super::{
    Attempt, Authorizer, BuildCx, CredentialLocation, Locations, Preparation, Round, Scheme, Shape, Signed, fetched,
    header_value, scheme_fields,
};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::provided::SecretRef;
use crate::secrets;
use crate::settings::{Decode, Node};

pub static SCHEME: Scheme = Scheme {
    name: "basic",
    doc: "User name and password in `Authorization`.",
    short: None,
    settings: &[
        ("username", Shape::Secret, "required", "without a colon"),
        ("password", Shape::Secret, "required", "a SECRET; may be empty"),
        ("charset", Shape::Words(&["utf-8", "utf8", "latin-1", "iso-8859-1"]), "utf-8", "utf-8 or latin-1"),
    ],
    build,
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    Utf8,
    Latin1,
}

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let user = decode.required(&fields, SCHEME.name, "username");
    let password = decode.required(&fields, SCHEME.name, "password").and_then(|node| decode.text(node));
    let words =
        [("utf-8", Charset::Utf8), ("utf8", Charset::Utf8), ("latin-1", Charset::Latin1), ("iso-8859-1", Charset::Latin1)];
    let charset = fields.get("charset").map_or(Some(Charset::Utf8), |node| decode.choice(node, "charset", &words));
    let (user_node, password, charset) = (user?, secrets::reference(password?), charset?);
    let username = secrets::reference(decode.text(user_node)?);
    if username.known().is_some_and(|name| name.expose().contains(':')) {
        decode
            .report
            .error("colon", user_node.place, "a user name holds no colon (RFC 7617 section 2)")
            .help("the first colon ends the user name on the wire");
        return None;
    }
    let field = match (username.known(), password.known()) {
        (Some(name), Some(secret)) => match encode(name.expose(), secret.expose(), charset) {
            Some(field) => Some(field),
            None => {
                decode
                    .report
                    .error("charset", user_node.place, "user name or password hold characters that latin-1 lacks")
                    .help("leave `charset` out to send UTF-8");
                return None;
            }
        },
        _ => None,
    };
    Some(Arc::new(Basic { username, password, charset, field }))
}

/// The field for a pair; `None` when the charset lacks a character.
fn encode(name: &str, password: &str, charset: Charset) -> Option<HeaderValue> {
    let pair = Zeroizing::new(format!("{name}:{password}"));
    let bytes = Zeroizing::new(match charset {
        Charset::Utf8 => pair.as_bytes().to_vec(),
        Charset::Latin1 => pair.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>()?,
    });
    let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*bytes)));
    header_value(&text, "password").ok()
}

struct Basic {
    username: SecretRef,
    password: SecretRef,
    charset: Charset,
    field: Option<HeaderValue>,
}

impl Authorizer for Basic {
    fn locations(&self) -> Locations {
        Locations::of([CredentialLocation::Header(header::AUTHORIZATION)])
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<Basic> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched([&self.username, &self.password])
    }
    fn sign(&mut self, draft: &mut Draft, _: &Round<'_>) -> Result<Signed, Failure> {
        let field = match &self.field {
            Some(field) => field.clone(),
            None => {
                let (name, password) = (super::prepared(&self.username)?, super::prepared(&self.password)?);
                if name.expose().contains(':') {
                    return Err(Failure::new(Cause::Credential, "the user name holds a colon, which Basic cannot carry"));
                }
                encode(name.expose(), password.expose(), self.charset).ok_or_else(|| {
                    Failure::new(Cause::Credential, "the user name or password cannot be written in the charset asked for")
                })?
            }
        };
        draft.headers.insert(header::AUTHORIZATION, field);
        Ok(Signed::default())
    }
}
