//! `api_key`: a named value in a header, the query, a cookie, or the body.

mod splice;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use super::{
    Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Locations, Preparation, Round, Scheme, Shape, Signed, fetched,
    header_value, scheme_fields,
};
use crate::draft::{Body, Draft};
use crate::failure::{Cause, Failure};
use crate::provided::SecretRef;
use crate::replace::{Replacement, masking};
use crate::secrets;
use crate::settings::{Decode, Node};

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
            "header, query, cookie or body; the same name is replaced there. In a body everything else stays byte for byte, and digests of the old body (Content-Digest, Content-MD5 and the like) are removed; requests without a body are refused, so name `methods:` in the rule",
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

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let name_node = decode.required(&fields, SCHEME.name, "name");
    let value_node = decode.required(&fields, SCHEME.name, "value");
    let words = [("header", 0), ("query", 1), ("cookie", 2), ("body", 3)];
    let place = fields.get("in").map_or(Some(0), |node| decode.choice(node, "place for an api_key", &words));
    let (name_node, value_node) = (name_node?, value_node?);
    let name = decode.string(name_node)?;
    let value = secrets::reference(decode.text(value_node)?);
    let at = match place? {
        0 => {
            let header = crate::draft::header_name(decode, &name, name_node.place)?;
            let field = match value.known() {
                None => None,
                Some(secret) => Some(super::checked_header(decode, secret.expose(), value_node.place, "value")?),
            };
            Where::Header(header, field)
        }
        1 => Where::Query,
        2 => {
            // RFC 6265 §4.1.1: a cookie's name is a token, its value without spaces, quotes, commas, semicolons, backslashes.
            let bad = |text: &str| text.chars().any(|c| !c.is_ascii_graphic() || matches!(c, '"' | ',' | ';' | '\\'));
            if bad(&name) || name.contains('=') || value.known().is_some_and(|secret| bad(secret.expose())) {
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
    value: SecretRef,
    at: Where,
}

impl Authorizer for ApiKey {
    fn locations(&self) -> Locations {
        Locations::of([match &self.at {
            Where::Header(name, _) => CredentialLocation::Header(name.clone()),
            Where::Query => CredentialLocation::Query(self.name.clone()),
            Where::Cookie => CredentialLocation::Cookie(self.name.clone()),
            Where::Body => CredentialLocation::BodyField(self.name.clone()),
        }])
    }
    fn body_need(&self, _: &Draft) -> BodyNeed {
        if matches!(self.at, Where::Body) { BodyNeed::Rewrite } else { BodyNeed::None }
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<ApiKey> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched([&self.value])
    }
    fn masks(&self, _: &Draft) -> Result<Vec<Replacement>, Failure> {
        self.echo()
    }
    fn sign(&mut self, draft: &mut Draft, _: &Round<'_>) -> Result<Signed, Failure> {
        if let Where::Header(name, Some(field)) = &self.at {
            draft.headers.insert(name, field.clone());
            return Ok(Signed::default());
        }
        let secret = super::prepared(&self.value)?;
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
            Where::Body => {
                let body = self.rewrite(draft, secret.expose())?;
                draft.replace_body(body);
            }
        }
        Ok(Signed::default())
    }
}

impl ApiKey {
    /// The rest of its places can be read in the draft.
    fn echo(&self) -> Result<Vec<Replacement>, Failure> {
        let Where::Body = self.at else { return Ok(Vec::new()) };
        Ok(masking(super::prepared(&self.value)?.expose()))
    }

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
        let coded = |coding: &HeaderValue| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
        if !body.is_empty() && draft.headers.get_all(header::CONTENT_ENCODING).iter().any(coded) {
            return Err(refused("this body is compressed (Content-Encoding)").hint("send it uncompressed"));
        }
        match kind.as_str() {
            "application/x-www-form-urlencoded" => Ok(splice::form(&body, &self.name, value).into()),
            kind if kind == "application/json" || kind.ends_with("+json") => {
                splice::json(&body, &self.name, value).map(Bytes::from).map_err(refused)
            }
            _ if body.is_empty() => {
                let why = format!("this {} has no body", draft.method);
                Err(refused(&why).hint("limit the rule to requests that have one, as in `methods: [POST, PUT, PATCH]`"))
            }
            _ => Err(refused("only form and JSON bodies can carry it")
                .hint("send the request with Content-Type application/json or application/x-www-form-urlencoded")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Alone as _, build, draft, signed};

    const KEY: &str = "{name: k, value: v, in: body}";

    #[test]
    fn what_was_said_of_the_old_bytes_goes_with_them_and_the_rest_of_the_head_stays() {
        let key = build(&SCHEME, KEY).unwrap();
        let fields = [
            ("content-type", "application/merge-patch+json; charset=utf-8"),
            ("content-length", "9"),
            ("content-digest", "sha-256=:AAAA:"),
            ("repr-digest", "sha-256=:AAAA:"),
            ("digest", "SHA-256=AAAA"),
            ("content-md5", "AAAA"),
            ("if-match", "\"etag\""),
        ];
        let mut draft = draft("PATCH", "https://a.example/", &fields, Some(b"{\"a\":1.0}"));
        for _ in 0..2 {
            signed(&key, &mut draft, 0, &[], "x");
        }
        let Body::Held(held) = &draft.body else { panic!() };
        assert_eq!(held.bytes().unwrap(), "{\"a\":1.0,\"k\":\"v\"}");
        let mut left: Vec<_> = draft.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort();
        let kind = "content-type: application/merge-patch+json; charset=utf-8";
        assert_eq!(left, ["content-length: 17", kind, "host: a.example", "if-match: \"etag\""]);
    }

    #[test]
    fn a_request_that_cannot_carry_it_says_why_and_what_helps() {
        let key = build(&SCHEME, KEY).unwrap();
        let refusal = |method: &str, fields: &[(&str, &str)], body: Option<&[u8]>| {
            let mut draft = draft(method, "https://a.example/", fields, body);
            crate::auth::testing::at(0, &[], 0, |round| key.sign(&mut draft, round)).err().unwrap().to_string()
        };
        let json = ("content-type", "application/json");
        assert!(
            refusal("GET", &[], None).contains("this GET has no body; limit the rule to requests that have one, as in `methods:")
        );
        assert!(refusal("POST", &[json, ("content-encoding", "gzip")], Some(b"\x1f\x8b")).contains("compressed"));
        assert!(refusal("POST", &[json], Some(b"[]")).contains("not a JSON object"));
        assert!(refusal("POST", &[("content-type", "text/plain")], Some(b"a")).contains("only form and JSON bodies"));
    }
}
