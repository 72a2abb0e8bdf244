//! `jwt`: a JSON Web Token (RFC 7519) made and signed here.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode, header};

use super::bearer::ACCESS_TOKEN;
use super::jose::{Algorithm, Part, SigningKey, Template, Token, encodings, offset};
use super::{
    Answer, Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Facts, Locations, Preparation, Round, Scheme, Shape,
    Signed, Verdict, fetched, header_value, scheme_fields,
};
use crate::draft::Draft;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::settings::{Decode, Fields, Node};

pub static SCHEME: Scheme = Scheme {
    name: "jwt",
    doc: "A JSON Web Token, made and signed here and used until near its end.",
    short: None,
    settings: &[
        (
            "algorithm",
            Shape::Words(&[
                "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
                "EdDSA",
            ]),
            "by the key",
            "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA",
        ),
        (
            "key",
            Shape::Secret,
            "required, or `private_key`",
            "the shared secret for HS256, HS384 and HS512, a SECRET, or a JWK of kind `oct`",
        ),
        encodings(),
        (
            "private_key",
            Shape::Key,
            "required, or `key`",
            "a file or a text: PEM (PKCS#8, PKCS#1, SEC1) or a private JWK; `{ exec: … }` for a command that prints one",
        ),
        ("passphrase", Shape::Secret, "none", "of the private key, a SECRET"),
        ("key_id", Shape::Plain, "the JWK's", "`kid` in the token's header"),
        (
            "claims",
            Shape::Json,
            "none",
            "the token's claims, in their order; `now`, `now+5m`, `now-10` are times, `null` leaves one out, a value may be `{ exec: … }` or another form of a SECRET; `iat`, `exp` and `jti` are added unless given",
        ),
        ("headers", Shape::Json, "`typ: JWT`", "members of the token's header beside `alg` and `kid`; `null` leaves one out"),
        ("lifetime", Shape::Time, "5m", "from `iat` to `exp`"),
        ("in", Shape::Words(&["header", "query"]), "header", "header or query"),
        ("name", Shape::Field, "Authorization, or token in a query", "the header's or parameter's name"),
        ("prefix", Shape::Plain, "Bearer", "the word before it in a header; empty for none"),
    ],
    build,
};

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let key = SigningKey::read(&fields, decode, "a jwt", &Algorithm::ALL);
    let claims = fields.get("claims").map_or(Some(Template::default()), |node| Template::read(node, decode, "claims"));
    let header = token_header(&fields, decode);
    let lifetime = fields.get("lifetime").map_or(Some(Duration::from_secs(300)), |node| lifetime(node, decode));
    let at = place(&fields, decode);
    let (key, mut claims, lifetime) = (key?, claims?, lifetime?);
    claims.add_default("iat", Part::Now(0));
    claims.add_default("exp", Part::Now(offset(lifetime)));
    claims.add_default("jti", Part::Unique);
    Some(Arc::new(Jwt { token: Token::new(key, header?, claims, Some(lifetime)), at: at? }))
}

fn token_header(fields: &Fields<'_>, decode: &mut Decode<'_>) -> Option<Template> {
    let extra = fields.get("headers").map_or(Some(Template::default()), |node| Template::read(node, decode, "headers"));
    let id = fields.get("key_id").map_or(Some(None), |node| decode.string(node).map(Some));
    let mut header = Template::default();
    header.set("typ", Part::Fixed("JWT".into()));
    if let Some(id) = id? {
        header.set("kid", Part::Fixed(id.into()));
    }
    header.lay_over(extra?);
    Some(header)
}

/// A lifetime of nothing would sign tokens that are never good.
pub fn lifetime(node: &Node, decode: &mut Decode<'_>) -> Option<Duration> {
    let lifetime = decode.duration(node)?;
    if lifetime.as_secs() == 0 {
        decode.report.error("wrong-time", node.place, "a token lives a second at least").help("write it as 60s or 5m");
        return None;
    }
    Some(lifetime)
}

enum Where {
    Header(HeaderName, String),
    Query(String),
}

fn place(fields: &Fields<'_>, decode: &mut Decode<'_>) -> Option<Where> {
    let query = fields
        .get("in")
        .map_or(Some(false), |node| decode.choice(node, "place for a token", &[("header", false), ("query", true)]))?;
    let name = fields.get("name").map_or(Some(None), |node| decode.string(node).map(|name| Some((name, node.place))))?;
    if query {
        return Some(Where::Query(name.map_or_else(|| "token".to_owned(), |(name, _)| name)));
    }
    let name = match name {
        Some((name, place)) => crate::draft::header_name(decode, &name, place)?,
        None => header::AUTHORIZATION,
    };
    let prefix = match fields.get("prefix") {
        None => "Bearer".to_owned(),
        Some(node) => {
            let prefix = decode.string(node)?;
            super::checked_header(decode, &prefix, node.place, "prefix")?;
            prefix
        }
    };
    Some(Where::Header(name, if prefix.is_empty() { prefix } else { prefix + " " }))
}

struct Jwt {
    token: Token,
    at: Where,
}

impl Jwt {
    fn is_bearer(&self) -> bool {
        matches!(&self.at, Where::Header(header::AUTHORIZATION, prefix) if prefix == "Bearer ")
    }

    /// The token in a draft.
    fn sent<'d>(&self, draft: &'d Draft) -> Option<&'d str> {
        match &self.at {
            Where::Header(name, prefix) => draft.headers.get(name)?.to_str().ok()?.strip_prefix(prefix.as_str()),
            // A token needs no encoding in a query.
            Where::Query(name) => draft.query()?.split('&').find_map(|pair| pair.strip_prefix(name.as_str())?.strip_prefix('=')),
        }
    }
}

impl Authorizer for Jwt {
    fn facts(&self) -> Facts {
        Facts { answers: true, ..Facts::default() }
    }
    fn locations(&self) -> Locations {
        let written = match &self.at {
            Where::Header(name, _) => CredentialLocation::Header(name.clone()),
            Where::Query(name) => CredentialLocation::Query(name.clone()),
        };
        Locations::of([written]).clearing(self.is_bearer().then(|| CredentialLocation::Query(ACCESS_TOKEN.to_owned())))
    }
    fn body_need(&self, _: &Draft) -> BodyNeed {
        BodyNeed::Spare
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<Jwt> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched(self.token.values())
    }
    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        let token = self.token.take(round.moment)?;
        if self.is_bearer() {
            draft.remove_queries(|name| name == ACCESS_TOKEN);
        }
        match &self.at {
            Where::Header(name, prefix) => {
                draft.headers.insert(name, header_value(&format!("{prefix}{}", token.expose()), "token")?);
            }
            Where::Query(name) => draft.set_query(name, token.expose()),
        }
        Ok(Signed::default())
    }
    fn on_response(&mut self, answer: &Answer<'_>, _: &[u8], round: &Round<'_>) -> Verdict {
        refused(&self.token, answer, round, self.sent(answer.draft))
    }
    fn canonical(&self, draft: &Draft) -> Option<String> {
        self.token.shown(self.sent(draft)?)
    }
}

/// After a 401 a token that was used before is made anew, once.
pub fn refused(token: &Token, answer: &Answer<'_>, round: &Round<'_>, sent: Option<&str>) -> Verdict {
    let is_sent = |token: &Secret| sent == Some(token.expose());
    if answer.status == StatusCode::UNAUTHORIZED && token.refused(is_sent) && round.attempt == 0 {
        return Verdict::Again;
    }
    Verdict::Final
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
