//! `api_key`: a named value in a header, the query, a cookie, or the body.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use percent_encoding::utf8_percent_encode;

use super::live::Value;
use super::{Authorizer, BodyNeed, BoxFuture, Making, Needs, Round, Scheme, Shape, Spot, header_value};
use crate::config::{Decode, Node};
use crate::draft::{Body, Draft, Held, UNRESERVED};
use crate::failure::{Cause, Failure};

pub static SCHEME: Scheme = Scheme {
    name: "api_key",
    doc: "A named value in a header, the query, a cookie, or the body (a form field or a top-level JSON member, by content type).",
    short: None,
    settings: &[
        ("name", Shape::Field, "required", "the name of the header, parameter, cookie or field"),
        ("value", Shape::Secret, "required", "a SECRET"),
        (
            "in",
            Shape::Words(&["header", "query", "cookie", "body"]),
            "header",
            "header, query, cookie or body; the same name is replaced there",
        ),
    ],
    build,
};

enum Where {
    Header(HeaderName, Option<HeaderValue>),
    Query,
    Cookie,
    Body,
}

fn build(node: &Node, decode: &mut Decode<'_>, _: &Making<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = decode.fields(node, "api_key", &["name", "value", "in"])?;
    let name_node = decode.required(&fields, "api_key", "name");
    let value_node = decode.required(&fields, "api_key", "value");
    let words = [("header", 0), ("query", 1), ("cookie", 2), ("body", 3)];
    let place = fields.get("in").map_or(Some(0), |node| decode.choice(node, "place for an api_key", &words));
    let (name_node, value_node) = (name_node?, value_node?);
    let name = decode.string(name_node)?;
    let value = Value::from(decode.text(value_node)?);
    let at = match place? {
        0 => {
            let header = crate::config::header_name(decode, &name, name_node.place)?;
            let field = match value.fixed() {
                None => None,
                Some(secret) => Some(super::checked_header(decode, secret.expose(), value_node.place, "value")?),
            };
            Where::Header(header, field)
        }
        1 => Where::Query,
        2 => {
            // RFC 6265 §4.1.1: a cookie's name is a token, its value without spaces, quotes, commas, semicolons, backslashes.
            let bad = |text: &str| text.chars().any(|c| !c.is_ascii_graphic() || matches!(c, '"' | ',' | ';' | '\\'));
            if bad(&name) || name.contains('=') || value.fixed().is_some_and(|secret| bad(secret.expose())) {
                decode
                    .report
                    .error("cookie", name_node.place, "this name or value holds characters that a cookie cannot carry")
                    .help("percent-encode them if the server decodes them");
                return None;
            }
            Where::Cookie
        }
        _ => Where::Body,
    };
    Some(Arc::new(ApiKey { name, value, at }))
}

struct ApiKey {
    name: String,
    value: Value,
    at: Where,
}

impl Authorizer for ApiKey {
    fn needs(&self) -> Needs {
        let body = if matches!(self.at, Where::Body) { BodyNeed::Rewrite } else { BodyNeed::None };
        Needs { prepare: self.value.fixed().is_none(), body, ..Needs::default() }
    }
    fn writes(&self) -> Vec<Spot> {
        vec![match &self.at {
            Where::Header(name, _) => Spot::Header(name.clone()),
            Where::Query => Spot::Query(self.name.clone()),
            Where::Cookie => Spot::Cookie(self.name.clone()),
            Where::Body => Spot::BodyField(self.name.clone()),
        }]
    }
    fn prepare<'a>(&'a self, _: &'a Round<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { self.value.ready().await.map(|_| ()) })
    }
    fn sign(&self, draft: &mut Draft, _: &Round<'_>) -> Result<(), Failure> {
        if let Where::Header(name, Some(field)) = &self.at {
            draft.headers.insert(name, field.clone());
            return Ok(());
        }
        let secret = super::at_hand(&self.value)?;
        match &self.at {
            Where::Header(name, _) => {
                draft.headers.insert(name, header_value(secret.expose(), "value")?);
            }
            Where::Query => draft.set_query(&self.name, secret.expose()),
            Where::Cookie => {
                if !draft.set_cookie(&self.name, secret.expose()) {
                    return Err(Failure::new(
                        Cause::Credential,
                        format!("the value for cookie `{}` holds characters that a cookie cannot carry", self.name),
                    ));
                }
            }
            Where::Body => draft.body = Body::Held(Held::Memory(self.rewrite(draft, secret.expose())?)),
        }
        Ok(())
    }
}

impl ApiKey {
    fn rewrite(&self, draft: &Draft, value: &str) -> Result<Bytes, Failure> {
        let kind = draft.content_type().unwrap_or_default();
        let refused =
            |why: &str| Failure::new(Cause::BadRequest, format!("`{}` is added to the body by a rule, and {why}", self.name));
        let body = match &draft.body {
            Body::Held(held) => {
                held.bytes().cloned().ok_or_else(|| refused("this body is too large to be changed (limits.body_hold)"))?
            }
            Body::Empty => Bytes::new(),
            Body::Streamed(_) => return Err(refused("this body is streamed")),
        };
        match kind.as_str() {
            "application/x-www-form-urlencoded" => Ok(self.form(&body, value)),
            kind if kind == "application/json" || kind.ends_with("+json") => {
                self.json(&body, value).ok_or_else(|| refused("this body is not a JSON object"))
            }
            _ => Err(refused("only form and JSON bodies can carry it")
                .hint("send the request with Content-Type application/json or application/x-www-form-urlencoded")),
        }
    }

    /// The other fields stay byte for byte.
    fn form(&self, body: &[u8], value: &str) -> Bytes {
        let text = String::from_utf8_lossy(body).into_owned();
        let ours = |pair: &str| {
            percent_encoding::percent_decode_str(&pair.split('=').next().unwrap_or(pair).replace('+', " ")).decode_utf8_lossy()
                == self.name
        };
        let mut pairs: Vec<&str> = text.split('&').filter(|pair| !pair.is_empty() && !ours(pair)).collect();
        let pair = format!("{}={}", utf8_percent_encode(&self.name, UNRESERVED), utf8_percent_encode(value, UNRESERVED));
        pairs.push(&pair);
        Bytes::from(pairs.join("&"))
    }

    fn json(&self, body: &[u8], value: &str) -> Option<Bytes> {
        let mut object: serde_json::Map<String, serde_json::Value> =
            if body.trim_ascii().is_empty() { serde_json::Map::new() } else { serde_json::from_slice(body).ok()? };
        object.insert(self.name.clone(), value.into());
        serde_json::to_vec(&object).ok().map(Bytes::from)
    }
}
