//! `oauth1` (RFC 5849): requests signed with a consumer's and a token's secret. The bytes of query and body
//! stay as they are; what is signed over is made of them.

mod base;
#[cfg_attr(not(feature = "openssl"), path = "no_sha1.rs")]
mod sha1;

use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use percent_encoding::utf8_percent_encode;
use zeroize::Zeroizing;

use self::base::Pair;
use self::sha1::Sha1Key;
use super::jose::{Algorithm, SigningKey, Words};
use super::{
    Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Locations, Preparation, Round, Scheme, Shape, Signed, covered,
    fetched, header_value, prepared, scheme_fields,
};
use crate::challenge;
use crate::draft::{Body, Draft, UNRESERVED};
use crate::failure::{Cause, Failure};
use crate::moment::{NonceKind, random_hex};
use crate::provided::SecretRef;
use crate::secret::Secret;
use crate::secrets;
use crate::settings::{Decode, Fields, Node};

pub static SCHEME: Scheme = Scheme {
    name: "oauth1",
    doc: "OAuth 1.0 (RFC 5849): each request is signed over method, URL, query and form body.",
    short: None,
    settings: &[
        ("consumer_key", Shape::Secret, "required", "the client's identifier, a SECRET"),
        ("consumer_secret", Shape::Secret, "empty", "a SECRET; not for RSA"),
        ("token", Shape::Secret, "none", "a SECRET; left out where only the client is known (two-legged)"),
        ("token_secret", Shape::Secret, "empty", "a SECRET"),
        (
            "signature_method",
            Shape::Words(&["HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512", "RSA-SHA1", "RSA-SHA256", "RSA-SHA512", "PLAINTEXT"]),
            "HMAC-SHA1",
            "HMAC-SHA1, HMAC-SHA256, HMAC-SHA512, RSA-SHA1, RSA-SHA256, RSA-SHA512 or PLAINTEXT",
        ),
        ("private_key", Shape::Key, "required for RSA", "a file or a text: PEM or a private JWK"),
        ("passphrase", Shape::Secret, "none", "of the private key, a SECRET"),
        ("realm", Shape::Plain, "none", "in the header, not signed"),
        (
            "in",
            Shape::Words(&["header", "query", "body"]),
            "header",
            "header, query or body; body: form bodies, and the header for other requests",
        ),
        (
            "body_hash",
            Shape::Bool,
            "false",
            "sign a hash of bodies that are no forms (oauth_body_hash); they are held before they are sent",
        ),
        ("version", Shape::Text, "1.0", "`oauth_version`; empty for none"),
        ("callback", Shape::Text, "none", "`oauth_callback`, for the request of temporary credentials"),
        ("verifier", Shape::Secret, "none", "`oauth_verifier`, for the request of a token"),
    ],
    build,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Hmac(Hash),
    Rsa(Hash),
    Plaintext,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

const METHODS: [(&str, Method); 7] = [
    ("HMAC-SHA1", Method::Hmac(Hash::Sha1)),
    ("HMAC-SHA256", Method::Hmac(Hash::Sha256)),
    ("HMAC-SHA512", Method::Hmac(Hash::Sha512)),
    ("RSA-SHA1", Method::Rsa(Hash::Sha1)),
    ("RSA-SHA256", Method::Rsa(Hash::Sha256)),
    ("RSA-SHA512", Method::Rsa(Hash::Sha512)),
    ("PLAINTEXT", Method::Plaintext),
];

impl Method {
    fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    fn hash(self) -> Hash {
        match self {
            Method::Hmac(hash) | Method::Rsa(hash) => hash,
            Method::Plaintext => Hash::Sha1,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Header,
    Query,
    Body,
}

/// What the RSA methods sign with.
enum RsaKey {
    Jose(SigningKey),
    Sha1(Sha1Key),
}

impl RsaKey {
    fn values(&self) -> Vec<&SecretRef> {
        match self {
            RsaKey::Jose(key) => key.values().collect(),
            RsaKey::Sha1(key) => key.values().collect(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            RsaKey::Jose(key) => key.now()?.sign(message),
            RsaKey::Sha1(key) => key.sign(message),
        }
    }
}

struct OAuth1 {
    consumer_key: SecretRef,
    consumer_secret: Option<SecretRef>,
    token: Option<SecretRef>,
    token_secret: Option<SecretRef>,
    method: Method,
    private_key: Option<RsaKey>,
    realm: Option<String>,
    at: Where,
    body_hash: bool,
    /// Parameters that are always the same: `oauth_version`, `oauth_callback`.
    more: Vec<Pair>,
    verifier: Option<SecretRef>,
}

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let consumer_key = decode.required(&fields, SCHEME.name, "consumer_key").and_then(|node| decode.text(node));
    let mut secret = |name: &str| fields.get(name).map_or(Some(None), |node| decode.text(node).map(secrets::reference).map(Some));
    let [consumer_secret, token, token_secret, verifier] =
        ["consumer_secret", "token", "token_secret", "verifier"].map(&mut secret);
    let method = fields
        .get("signature_method")
        .map_or(Some(Method::Hmac(Hash::Sha1)), |node| decode.choice(node, "signature method", &METHODS));
    let words = [("header", Where::Header), ("query", Where::Query), ("body", Where::Body)];
    let at = fields.get("in").map_or(Some(Where::Header), |node| decode.choice(node, "place for oauth1", &words));
    let body_hash = fields.get("body_hash").map_or(Some(false), |node| decode.boolean(node));
    let realm = fields.get("realm").map_or(Some(None), |node| decode.string(node).map(Some));
    let more = more(&fields, decode);
    let method = method?;
    let private_key = private_key(&fields, decode, method)?;
    Some(Arc::new(OAuth1 {
        consumer_key: secrets::reference(consumer_key?),
        consumer_secret: consumer_secret?,
        token: token?.filter(is_given),
        token_secret: token_secret?,
        method,
        private_key,
        realm: realm?,
        at: at?,
        body_hash: body_hash?,
        more: more?,
        verifier: verifier?.filter(is_given),
    }))
}

/// An empty one is none, as a variable that is not set gives it.
fn is_given(value: &SecretRef) -> bool {
    value.known().is_none_or(|text| !text.is_empty())
}

fn more(fields: &Fields<'_>, decode: &mut Decode<'_>) -> Option<Vec<Pair>> {
    let version = fields.get("version").map_or(Some("1.0".to_owned()), |node| decode.string(node));
    let callback = fields.get("callback").map_or(Some(String::new()), |node| decode.string(node));
    let all = [("oauth_version", version?), ("oauth_callback", callback?)];
    Some(all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| Pair::new(name, &value)).collect())
}

/// The outer `None`: a mistake, which is told.
fn private_key(fields: &Fields<'_>, decode: &mut Decode<'_>, method: Method) -> Option<Option<RsaKey>> {
    const SHA256: &Words = &[("RSA-SHA256", Algorithm::Rs256)];
    const SHA512: &Words = &[("RSA-SHA512", Algorithm::Rs512)];
    let known = match method {
        Method::Rsa(Hash::Sha1) => return Sha1Key::read(fields, decode).map(RsaKey::Sha1).map(Some),
        Method::Rsa(Hash::Sha256) => SHA256,
        Method::Rsa(Hash::Sha512) => SHA512,
        Method::Hmac(_) | Method::Plaintext => {
            if let Some(node) = fields.get("private_key").or(fields.get("passphrase")) {
                let message = format!("{} signs with secrets, not with a private key", method.name());
                decode.report.error("no-use", node.place, message).help("set `signature_method: RSA-SHA256`, or take it out");
                return None;
            }
            return Some(None);
        }
    };
    SigningKey::with(fields, decode, "oauth1", Some(known[0].1), known).map(RsaKey::Jose).map(Some)
}

/// What the protocol adds to every request (RFC 5849 §3.1).
const NAMES: [&str; 8] = [
    "oauth_consumer_key",
    "oauth_token",
    "oauth_signature_method",
    "oauth_timestamp",
    "oauth_nonce",
    "oauth_version",
    "oauth_body_hash",
    "oauth_signature",
];

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// A larger form is not taken to pieces, in bytes.
const FORM: u64 = 8 * 1024 * 1024;

fn form(draft: &Draft) -> Result<Vec<u8>, Failure> {
    if let Body::Held(held) = &draft.body
        && held.len() > FORM
    {
        let message = format!("oauth1 signs over every field of a form, and this one is larger than {FORM} bytes");
        return Err(Failure::new(Cause::BodyTooLarge, message).hint("send it as another type of body, which is not signed over"));
    }
    let mut body = Vec::new();
    covered(&draft.body, |piece| body.extend_from_slice(piece))?;
    Ok(body)
}

impl OAuth1 {
    fn values(&self) -> impl Iterator<Item = &SecretRef> {
        let rest = [&self.consumer_secret, &self.token, &self.token_secret, &self.verifier];
        let rest = rest.into_iter().filter_map(Option::as_ref);
        std::iter::once(&self.consumer_key).chain(rest).chain(self.private_key.iter().flat_map(RsaKey::values))
    }

    /// The parameters that are added, and replaced where the client sent them.
    fn names(&self) -> impl Iterator<Item = &str> {
        NAMES.into_iter().chain(self.more.iter().map(Pair::name)).chain(self.verifier.iter().map(|_| "oauth_verifier"))
    }

    fn is_ours(&self, pair: &Pair) -> bool {
        self.names().any(|name| name == pair.name())
    }

    /// Where this request carries its parameters.
    fn at(&self, draft: &Draft) -> Where {
        if self.at == Where::Body && !is_form(&draft.headers) { Where::Header } else { self.at }
    }

    /// RFC 5849 §3.1, without the signature.
    fn parameters(&self, draft: &Draft, round: &Round<'_>) -> Result<Vec<Pair>, Failure> {
        let mut all = vec![Pair::new("oauth_consumer_key", prepared(&self.consumer_key)?.expose())];
        if let Some(token) = &self.token {
            all.push(Pair::new("oauth_token", prepared(token)?.expose()));
        }
        all.push(Pair::new("oauth_signature_method", self.method.name()));
        all.push(Pair::new("oauth_timestamp", &round.moment.unix().to_string()));
        all.push(Pair::new("oauth_nonce", &round.moment.nonce(NonceKind::Oauth1, random_hex::<16>)));
        all.extend(self.more.iter().cloned());
        if let Some(verifier) = &self.verifier {
            all.push(Pair::new("oauth_verifier", prepared(verifier)?.expose()));
        }
        if self.body_hash && !is_form(&draft.headers) {
            all.push(Pair::new("oauth_body_hash", &self.hash(&draft.body)?));
        }
        Ok(all)
    }

    /// draft-eaton-oauth-bodyhash-00 §3.2.
    fn hash(&self, body: &Body) -> Result<String, Failure> {
        let mut hash = digest::Context::new(match self.method.hash() {
            Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        });
        covered(body, |piece| hash.update(piece))?;
        Ok(BASE64_STANDARD.encode(hash.finish()))
    }

    fn base_string(&self, draft: &Draft, parameters: &[Pair]) -> Result<String, Failure> {
        let body = if is_form(&draft.headers) { form(draft)? } else { Vec::new() };
        let sent = [draft.query().unwrap_or("").as_bytes(), &body].into_iter().flat_map(base::pairs);
        let all = sent.filter(|pair| !self.is_ours(pair)).chain(parameters.iter().cloned());
        Ok(base::string(draft, all.collect()))
    }

    fn signature(&self, base: &str) -> Result<String, Failure> {
        let secret = |value: &Option<SecretRef>| value.as_ref().map_or(Ok(Secret::new("")), prepared);
        let (consumer, token) = (secret(&self.consumer_secret)?, secret(&self.token_secret)?);
        let key = Zeroizing::new(format!("{}&{}", encoded(consumer.expose()), encoded(token.expose())));
        let algorithm = match self.method {
            Method::Plaintext => return Ok(key.to_string()),
            Method::Rsa(_) => {
                let key = self.private_key.as_ref().ok_or_else(|| Failure::new(Cause::Internal, "there is no private key"))?;
                return Ok(BASE64_STANDARD.encode(key.sign(base.as_bytes())?));
            }
            Method::Hmac(Hash::Sha1) => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Method::Hmac(Hash::Sha256) => hmac::HMAC_SHA256,
            Method::Hmac(Hash::Sha512) => hmac::HMAC_SHA512,
        };
        Ok(BASE64_STANDARD.encode(hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), base.as_bytes())))
    }

    /// Takes out a client's own parameters wherever it put them (RFC 5849 §3.5: in one place only).
    fn clear(&self, draft: &mut Draft) -> Result<(), Failure> {
        draft.remove_queries(|name| self.names().any(|own| own == name));
        let scheme = |field: &HeaderValue| field.as_bytes().get(..6).is_some_and(|word| word.eq_ignore_ascii_case(b"oauth "));
        if draft.headers.get(header::AUTHORIZATION).is_some_and(scheme) {
            draft.headers.remove(header::AUTHORIZATION);
        }
        if is_form(&draft.headers) {
            let body = form(draft)?;
            if base::pairs(&body).iter().any(|pair| self.is_ours(pair)) {
                draft.replace_body(Bytes::from(self.without_ours(&body).join(&b'&')));
            }
        }
        Ok(())
    }

    /// The fields of a form that are the client's.
    fn without_ours<'b>(&self, body: &'b [u8]) -> Vec<&'b [u8]> {
        let kept = body.split(|byte| *byte == b'&').filter(|_| !body.is_empty());
        kept.filter(|piece| !base::pairs(piece).iter().any(|pair| self.is_ours(pair))).collect()
    }

    /// RFC 5849 §3.5.
    fn place(&self, draft: &mut Draft, parameters: &[Pair]) -> Result<(), Failure> {
        let joined = || parameters.iter().map(Pair::joined).collect::<Vec<_>>().join("&");
        match self.at(draft) {
            Where::Query => draft.append_query(&joined()),
            Where::Header => {
                let realm =
                    self.realm.as_ref().map(|realm| format!("realm=\"{}\"", realm.replace('\\', "\\\\").replace('"', "\\\"")));
                let all = realm.into_iter().chain(parameters.iter().map(Pair::quoted)).collect::<Vec<_>>();
                draft.headers.insert(header::AUTHORIZATION, header_value(&format!("OAuth {}", all.join(", ")), "realm")?);
            }
            Where::Body => {
                let body = form(draft)?;
                let (mut whole, added) = (self.without_ours(&body), joined());
                whole.push(added.as_bytes());
                let whole = whole.join(&b'&');
                draft.replace_body(Bytes::from(whole));
            }
        }
        Ok(())
    }

    /// The parameters that a signed request carries.
    fn sent(&self, draft: &Draft) -> Option<Vec<Pair>> {
        let ours = |pairs: Vec<Pair>| -> Vec<Pair> { pairs.into_iter().filter(|pair| self.is_ours(pair)).collect() };
        let mut all = match self.at(draft) {
            Where::Query => ours(base::pairs(draft.query()?.as_bytes())),
            Where::Body => ours(base::pairs(&form(draft).ok()?)),
            Where::Header => {
                let field = challenge::parse(draft.headers.get(header::AUTHORIZATION)?.to_str().ok()?).into_iter().next()?;
                field.params.iter().filter(|(name, _)| name != "realm").map(|(name, value)| Pair::encoded(name, value)).collect()
            }
        };
        all.retain(|pair| pair.name() != "oauth_signature");
        Some(all)
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

impl Authorizer for OAuth1 {
    fn locations(&self) -> Locations {
        let header = [CredentialLocation::Header(header::AUTHORIZATION)];
        let query = self.names().map(|name| CredentialLocation::Query(name.to_owned()));
        let body = self.names().map(|name| CredentialLocation::BodyField(name.to_owned()));
        match self.at {
            Where::Header => Locations::of(header).clearing(query.chain(body)),
            Where::Query => Locations::of(query).clearing(body.chain(header)),
            Where::Body => Locations::of(body.chain(header)).clearing(query),
        }
    }
    fn body_need(&self, draft: &Draft) -> BodyNeed {
        match (is_form(&draft.headers), self.at) {
            (true, Where::Body) => BodyNeed::Rewrite,
            (true, _) => BodyNeed::Hash,
            (false, _) if self.body_hash => BodyNeed::Hash,
            (false, _) => BodyNeed::None,
        }
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<OAuth1> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched(self.values())
    }
    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        self.clear(draft)?;
        let mut parameters = self.parameters(draft, round)?;
        let signature = self.signature(&self.base_string(draft, &parameters)?)?;
        parameters.push(Pair::new("oauth_signature", &signature));
        self.place(draft, &parameters)?;
        Ok(Signed::default())
    }
    fn canonical(&self, draft: &Draft) -> Option<String> {
        // The parameters stand in the draft already; a form body that carries them was signed without them.
        self.base_string(draft, &self.sent(draft)?).ok()
    }
}

#[cfg(test)]
mod tests;
