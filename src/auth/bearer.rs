//! `bearer` (RFC 6750 §2.1).

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};

use super::{
    Attempt, Authorizer, BuildCx, CredentialLocation, Locations, Preparation, Round, Scheme, Shape, Signed, fetched,
    header_value, scheme_fields,
};
use crate::draft::Draft;
use crate::failure::Failure;
use crate::provided::SecretRef;
use crate::secrets;
use crate::settings::{Decode, Node};

pub static SCHEME: Scheme = Scheme {
    name: "bearer",
    doc: "A token in `Authorization`. Short form: `bearer: TOKEN`.",
    short: Some(Shape::Secret),
    settings: &[
        ("token", Shape::Secret, "required", "the token, a SECRET"),
        ("prefix", Shape::Plain, "Bearer", "the word before it; empty for none"),
    ],
    build,
};

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let is_settings = node.get("token").is_some() || node.get("prefix").is_some();
    let (token, place, prefix) = if is_settings {
        let fields = scheme_fields(node, decode, &SCHEME)?;
        let prefix = fields.get("prefix").map_or(Some("Bearer".to_owned()), |node| decode.string(node));
        let token = decode.required(&fields, SCHEME.name, "token")?;
        (decode.text(token)?, token.place, prefix?)
    } else {
        (decode.text(node)?, node.place, "Bearer".to_owned())
    };
    let value = secrets::reference(token);
    if value.known().is_some_and(crate::secret::Secret::is_empty) {
        decode.report.error("empty-token", place, "this token is empty").help("check the variable or file that it comes from");
        return None;
    }
    let doubled = |secret: &crate::secret::Secret| {
        let (word, rest) = secret.expose().split_once(' ').unwrap_or_default();
        !prefix.is_empty() && !rest.is_empty() && word.eq_ignore_ascii_case(&prefix)
    };
    if value.known().is_some_and(doubled) {
        decode
            .report
            .error("doubled-prefix", place, format!("this token begins with the word `{prefix}`, which is put before it anyway"))
            .help("leave the word out, here or in the variable or file that it comes from");
        return None;
    }
    let field = match value.known() {
        None => None,
        Some(secret) => Some(super::checked_header(decode, &with_prefix(&prefix, secret.expose()), place, "token")?),
    };
    Some(Arc::new(Bearer { value, prefix, field }))
}

fn with_prefix(prefix: &str, token: &str) -> String {
    if prefix.is_empty() { token.to_owned() } else { format!("{prefix} {token}") }
}

struct Bearer {
    value: SecretRef,
    prefix: String,
    /// Made once when the token is fixed.
    field: Option<HeaderValue>,
}

const FIELD: HeaderName = header::AUTHORIZATION;

/// Where a client's own bearer token may stand too, and servers refuse two (RFC 6750 §2, §2.3).
pub const ACCESS_TOKEN: &str = "access_token";

impl Authorizer for Bearer {
    fn locations(&self) -> Locations {
        let other = (self.prefix == "Bearer").then(|| CredentialLocation::Query(ACCESS_TOKEN.to_owned()));
        Locations::of([CredentialLocation::Header(FIELD)]).clearing(other)
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<Bearer> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched([&self.value])
    }
    fn sign(&mut self, draft: &mut Draft, _: &Round<'_>) -> Result<Signed, Failure> {
        let field = match &self.field {
            Some(field) => field.clone(),
            None => header_value(&with_prefix(&self.prefix, super::prepared(&self.value)?.expose()), "token")?,
        };
        if self.prefix == "Bearer" {
            draft.remove_queries(|name| name == ACCESS_TOKEN);
        }
        draft.headers.insert(FIELD, field);
        Ok(Signed::default())
    }
}
