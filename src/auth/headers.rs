//! `headers`: any fields, as a credential with a name.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::{
    Attempt, Authorizer, BuildCx, CredentialLocation, Locations, Preparation, Round, Scheme, Shape, Signed, fetched, header_value,
};
use crate::draft::Draft;
use crate::failure::Failure;
use crate::provided::SecretRef;
use crate::secrets;
use crate::settings::{Decode, Node};

pub static SCHEME: Scheme = Scheme {
    name: "headers",
    doc: "Header fields: `headers: { NAME: SECRET, … }`. Inside a rule's own `headers:` stand `set` and `remove`; this is the type for `credentials:` and `auth:`.",
    short: Some(Shape::Fields(&Shape::Secret)),
    settings: &[("NAME", Shape::Secret, "required", "the field's value, a SECRET")],
    build,
};

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let mut fields = Vec::new();
    let entries = decode.map(node, "headers")?;
    if entries.is_empty() {
        decode.report.error("no-headers", node.place, "this credential sets no header").help("write `headers: { NAME: VALUE }`");
        return None;
    }
    for (key, node) in entries {
        let name = crate::draft::header_name(decode, &key.text, key.place);
        let value = secrets::reference(decode.text(node)?);
        let field = match value.known() {
            None => None,
            Some(secret) => Some(super::checked_header(decode, secret.expose(), node.place, "value")?),
        };
        fields.push((name?, value, field));
    }
    Some(Arc::new(Headers { fields }))
}

struct Headers {
    fields: Vec<(HeaderName, SecretRef, Option<HeaderValue>)>,
}

impl Authorizer for Headers {
    fn locations(&self) -> Locations {
        Locations::of(self.fields.iter().map(|(name, ..)| CredentialLocation::Header(name.clone())))
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<Headers> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched(self.fields.iter().map(|(_, value, _)| value))
    }
    fn sign(&mut self, draft: &mut Draft, _: &Round<'_>) -> Result<Signed, Failure> {
        for (name, value, field) in &self.fields {
            let field = match field {
                Some(field) => field.clone(),
                None => header_value(super::prepared(value)?.expose(), "value")?,
            };
            draft.headers.insert(name, field);
        }
        Ok(Signed::default())
    }
}
