//! `asap`: Atlassian's service-to-service authentication, a short-lived JWT for one audience
//! (s2sauth.bitbucket.io/spec).

use std::sync::Arc;
use std::time::Duration;

use http::header;
use serde_json::Value as Json;

use super::bearer::ACCESS_TOKEN;
use super::jose::{Algorithm, Part, SigningKey, Template, Token, Words, offset};
use super::{
    Answer, Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Facts, Locations, Preparation, Round, Scheme, Shape,
    Signed, Verdict, fetched, header_value, jwt, scheme_fields,
};
use crate::draft::Draft;
use crate::failure::Failure;
use crate::settings::{Decode, Node, Place, quoted};

pub static SCHEME: Scheme = Scheme {
    name: "asap",
    doc: "Atlassian's service-to-service authentication: a short-lived JWT, a fresh one for every request.",
    short: None,
    settings: &[
        ("issuer", Shape::Plain, "required", "`iss`: the service that calls"),
        ("key_id", Shape::Plain, "the key's own", "`kid`; verifiers want it to begin with the issuer and a slash"),
        (
            "private_key",
            Shape::Key,
            "required",
            "a file or a text: PEM, a private JWK, or `data:application/pkcs8;kid=…;base64,…`",
        ),
        ("passphrase", Shape::Secret, "none", "of the private key, a SECRET"),
        ("audience", Shape::Many(&Shape::Plain), "required", "`aud`: the service that is called, or a list"),
        ("subject", Shape::Plain, "the issuer", "`sub`"),
        ("lifetime", Shape::Time, "60s", "from `iat` to `exp`; verifiers take an hour at most"),
        (
            "algorithm",
            Shape::Words(&["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]),
            "by the key, such as RS256",
            "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or ES512",
        ),
        ("claims", Shape::Json, "none", "more claims, as of `jwt`; they win over the settings"),
        ("reuse", Shape::Bool, "false", "use a token again until near its end; most verifiers take each only once"),
    ],
    build,
};

const KNOWN: &Words = &[
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("ES512", Algorithm::Es512),
];

/// Verifiers refuse tokens that live longer.
const LONGEST: Duration = Duration::from_secs(3600);

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let issuer = decode.required(&fields, SCHEME.name, "issuer").and_then(|node| decode.string(node));
    let audience = decode.required(&fields, SCHEME.name, "audience").and_then(|node| decode.strings(node));
    let subject = fields.get("subject").map_or(Some(None), |node| decode.string(node).map(Some));
    let claims = fields.get("claims").map_or(Some(Template::default()), |node| Template::read(node, decode, "claims"));
    let reuse = fields.get("reuse").map_or(Some(false), |node| decode.boolean(node));
    let lifetime = fields.get("lifetime").map_or(Some(Duration::from_secs(60)), |node| lifetime(node, decode));
    let key = SigningKey::read(&fields, decode, "asap", KNOWN);
    let id = fields.get("key_id").map_or(Some(None), |node| decode.string(node).map(|id| Some((id, node.place))));
    let (key, issuer, id, lifetime) = (key?, issuer?, id?, lifetime?);
    let bound_id = match &id {
        Some((id, _)) => Some(id.clone()),
        None if key.is_live() => None,
        None => key.now().ok()?.key().id().map(str::to_owned),
    };
    match &bound_id {
        None if !key.is_live() => {
            decode.report.error("missing-key", fields.place, "asap needs `key_id`").help("add `key_id: ISSUER/NAME`");
            return None;
        }
        Some(text) if !text.starts_with(&format!("{issuer}/")) => {
            let place = id.as_ref().map_or(fields.place, |(_, place)| *place);
            let issuer = quoted(&format!("{issuer}/"), Shape::Plain, "the issuer and a slash");
            let message = format!("verifiers refuse a key id that does not begin with {issuer}");
            decode.report.warning("asap-key-id", place, message).help("name the key as its issuer's: ISSUER/NAME");
        }
        _ => {}
    }
    let mut header = Template::default();
    if let Some((id, _)) = id {
        header.set("kid", Part::Fixed(id.into()));
    }
    let subject = subject?.unwrap_or_else(|| issuer.clone());
    let mut all = Template::default();
    all.set("iss", Part::Fixed(issuer.into()));
    all.set("sub", Part::Fixed(subject.into()));
    all.set("aud", Part::Fixed(one_or_many(audience?)));
    all.set("iat", Part::Now(0));
    all.set("nbf", Part::Now(0));
    all.set("exp", Part::Now(offset(lifetime)));
    all.set("jti", Part::Unique);
    all.lay_over(claims?);
    if matches!(all.get("exp"), Some(Part::Now(seconds)) if *seconds > offset(LONGEST)) {
        too_long(fields.get("claims").map_or(fields.place, |node| node.place), decode);
        return None;
    }
    Some(Arc::new(Asap { token: Token::new(key, header, all, reuse?.then_some(lifetime)) }))
}

fn lifetime(node: &Node, decode: &mut Decode<'_>) -> Option<Duration> {
    let lifetime = jwt::lifetime(node, decode)?;
    if lifetime > LONGEST {
        too_long(node.place, decode);
        return None;
    }
    Some(lifetime)
}

fn too_long(place: Place, decode: &mut Decode<'_>) {
    decode
        .report
        .error("asap-lifetime", place, "an asap token lives an hour at most: verifiers refuse longer ones")
        .help("write `lifetime: 60s`; a fresh token is made for every request");
}

fn one_or_many(texts: Vec<(String, Place)>) -> Json {
    match &texts[..] {
        [(one, _)] => one.clone().into(),
        _ => texts.into_iter().map(|(text, _)| text).collect::<Vec<_>>().into(),
    }
}

struct Asap {
    token: Token,
}

const PREFIX: &str = "Bearer ";

fn sent(draft: &Draft) -> Option<&str> {
    draft.headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix(PREFIX)
}

impl Authorizer for Asap {
    fn facts(&self) -> Facts {
        Facts { answers: self.token.reuse.is_some(), ..Facts::default() }
    }
    fn locations(&self) -> Locations {
        Locations::of([CredentialLocation::Header(header::AUTHORIZATION)])
            .clearing([CredentialLocation::Query(ACCESS_TOKEN.to_owned())])
    }
    fn body_need(&self, _: &Draft) -> BodyNeed {
        if self.token.reuse.is_some() { BodyNeed::Spare } else { BodyNeed::None }
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<Asap> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched(self.token.values())
    }
    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        draft.remove_queries(|name| name == ACCESS_TOKEN);
        let token = self.token.take(round.moment)?;
        draft.headers.insert(header::AUTHORIZATION, header_value(&format!("{PREFIX}{}", token.expose()), "token")?);
        Ok(Signed::default())
    }
    fn on_response(&mut self, answer: &Answer<'_>, _: &[u8], round: &Round<'_>) -> Verdict {
        jwt::refused(&self.token, answer, round, sent(answer.draft))
    }
    fn canonical(&self, draft: &Draft) -> Option<String> {
        self.token.shown(sent(draft)?)
    }
}

#[cfg(test)]
#[path = "asap_tests.rs"]
mod tests;
