//! `http_signature`: HTTP Message Signatures (RFC 9421), with Content-Digest (RFC 9530).

mod component;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use self::component::{Component, members, quoted};
use super::jose::{Algorithm, SigningKey, Words, encodings};
use super::{
    Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Locations, Preparation, Round, Scheme, Shape, Signed, covered,
    fetched, header_value, scheme_fields,
};
use crate::draft::{Body, Draft};
use crate::failure::{Cause, Failure};
use crate::moment::{NonceKind, random_hex};
use crate::settings::{Decode, Fields, Node};

pub static SCHEME: Scheme = Scheme {
    name: "http_signature",
    doc: "HTTP Message Signatures (RFC 9421): named parts of the request are signed as they leave. List it last where a rule has several types, since it signs what they add.",
    short: None,
    settings: &[
        ("key_id", Shape::Plain, "the JWK's", "`keyid` of the signature"),
        (
            "algorithm",
            Shape::Words(&[
                "hmac-sha256",
                "ed25519",
                "rsa-pss-sha512",
                "rsa-v1_5-sha256",
                "ecdsa-p256-sha256",
                "ecdsa-p384-sha384",
            ]),
            "by the key",
            "hmac-sha256, ed25519, rsa-pss-sha512, rsa-v1_5-sha256, ecdsa-p256-sha256 or ecdsa-p384-sha384",
        ),
        (
            "key",
            Shape::Secret,
            "required, or `private_key`",
            "the shared secret for hmac-sha256, a SECRET, or a JWK of kind `oct`",
        ),
        encodings(),
        ("private_key", Shape::Key, "required, or `key`", "a file or a text: PEM or a private JWK"),
        ("passphrase", Shape::Secret, "none", "of the private key, a SECRET"),
        (
            "components",
            Shape::Many(&Shape::Field),
            "@method, @authority, @path, @query, content-digest",
            "what is signed, in order: header fields in lower case, with `;sf`, `;key=NAME` or `;bs` behind them; @method, @target-uri, @authority, @scheme, @request-target, @path, @query, `@query-param;name=NAME`. What a request does not have is left out",
        ),
        ("label", Shape::Plain, "sig1", "the signature's name; a client's signature of that name is replaced"),
        ("created", Shape::Bool, "true", "tell when it was signed"),
        ("expires", Shape::Time, "none", "how long it is good, such as 5m"),
        ("nonce", Shape::Bool, "false", "add a value never used before"),
        ("tag", Shape::Plain, "none", "the application's `tag`"),
        ("alg", Shape::Bool, "false", "name the algorithm in the signature"),
        (
            "content_digest",
            Shape::Words(&["sha-256", "sha-512", "none"]),
            "sha-256 where `components` has it",
            "sha-256, sha-512 or none: adds Content-Digest to requests with a body, which is held, and signs it",
        ),
    ],
    build,
};

const KNOWN: &Words = &[
    ("hmac-sha256", Algorithm::Hs256),
    ("ed25519", Algorithm::EdDsa),
    ("rsa-pss-sha512", Algorithm::Ps512),
    ("rsa-v1_5-sha256", Algorithm::Rs256),
    ("ecdsa-p256-sha256", Algorithm::Es256),
    ("ecdsa-p384-sha384", Algorithm::Es384),
];

const INPUT: HeaderName = HeaderName::from_static("signature-input");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const DIGEST: HeaderName = HeaderName::from_static("content-digest");

#[derive(Clone, Copy, PartialEq, Eq)]
enum Digest {
    Sha256,
    Sha512,
}

struct HttpSignature {
    key: SigningKey,
    key_id: Option<String>,
    components: Vec<Component>,
    label: String,
    created: bool,
    expires: Option<Duration>,
    nonce: bool,
    tag: Option<String>,
    alg: bool,
    content_digest: Option<Digest>,
}

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let key = SigningKey::read(&fields, decode, "http_signature", KNOWN);
    let components = components(&fields, decode);
    let [created, nonce, alg] =
        [("created", true), ("nonce", false), ("alg", false)].map(|(name, default)| flag(&fields, decode, name, default));
    let expires = fields.get("expires").map_or(Some(None), |node| decode.duration(node).map(Some));
    let [key_id, tag] = ["key_id", "tag"].map(|name| text(&fields, decode, name));
    let label = label(&fields, decode);
    let words = [("sha-256", Some(Digest::Sha256)), ("sha-512", Some(Digest::Sha512)), ("none", None)];
    let digest = fields.get("content_digest").map_or(Some(None), |node| decode.choice(node, "digest", &words).map(Some));
    let (mut components, digest) = (components?, digest?);
    let signs_digest = components.iter().any(|component| component.is_field(&DIGEST));
    let content_digest = digest.unwrap_or(signs_digest.then_some(Digest::Sha256));
    if content_digest.is_some() && !signs_digest {
        components.push(Component::field(DIGEST));
    }
    Some(Arc::new(HttpSignature {
        key: key?,
        key_id: key_id?,
        components,
        label: label?,
        created: created?,
        expires: expires?,
        nonce: nonce?,
        tag: tag?,
        alg: alg?,
        content_digest,
    }))
}

fn flag(fields: &Fields<'_>, decode: &mut Decode<'_>, name: &str, default: bool) -> Option<bool> {
    fields.get(name).map_or(Some(default), |node| decode.boolean(node))
}

/// A text that can stand in a Structured Field's string (RFC 9651 §3.3.3).
fn text(fields: &Fields<'_>, decode: &mut Decode<'_>, name: &str) -> Option<Option<String>> {
    let Some(node) = fields.get(name) else { return Some(None) };
    let text = decode.string(node)?;
    if !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        decode
            .report
            .error("not-ascii", node.place, format!("`{name}` holds characters that a signature cannot carry"))
            .help("keep to printable ASCII");
        return None;
    }
    Some(Some(text))
}

fn label(fields: &Fields<'_>, decode: &mut Decode<'_>) -> Option<String> {
    let Some(node) = fields.get("label") else { return Some("sig1".to_owned()) };
    let label = decode.string(node)?;
    // RFC 9651 §3.1.2.
    let good = label.starts_with(|c: char| c.is_ascii_lowercase() || c == '*')
        && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c));
    if !good {
        decode
            .report
            .error("label", node.place, "a label is made of lower-case letters, digits and `_-.*`, a letter first")
            .help("write it as `label: sig1`");
        return None;
    }
    Some(label)
}

fn components(fields: &Fields<'_>, decode: &mut Decode<'_>) -> Option<Vec<Component>> {
    const USUAL: [&str; 5] = ["@method", "@authority", "@path", "@query", "content-digest"];
    let Some(node) = fields.get("components") else {
        return USUAL.iter().map(|text| Component::parse(text).ok()).collect();
    };
    let mut all: Vec<Component> = Vec::new();
    let mut whole = true;
    for (text, place) in decode.strings(node)? {
        match Component::parse(&text) {
            Ok(component) if all.contains(&component) => {
                decode
                    .report
                    .error(
                        "component",
                        place,
                        format!("{} stands here twice", crate::settings::quoted(&text, Shape::Field, "this")),
                    )
                    .help("take one of them out");
                whole = false;
            }
            Ok(component) => all.push(component),
            Err((message, help)) => {
                decode.report.error("component", place, message).help(help);
                whole = false;
            }
        }
    }
    whole.then_some(all)
}

impl HttpSignature {
    /// The covered components that this request has, each with its line of the base (RFC 9421 §2.5).
    fn lines(&self, draft: &Draft) -> Result<Vec<(String, String)>, Failure> {
        let mut lines = Vec::new();
        for component in &self.components {
            if let Some(value) = component.value(draft)? {
                lines.push((component.identifier(), value));
            }
        }
        Ok(lines)
    }

    /// `@signature-params` (RFC 9421 §2.3).
    fn parameters(&self, lines: &[(String, String)], round: &Round<'_>, algorithm: Algorithm, id: Option<&str>) -> String {
        let covered: Vec<&str> = lines.iter().map(|(identifier, _)| identifier.as_str()).collect();
        let mut all = format!("({})", covered.join(" "));
        let now = round.moment.unix();
        if self.created {
            all.push_str(&format!(";created={now}"));
        }
        if let Some(life) = self.expires {
            all.push_str(&format!(";expires={}", now.saturating_add(life.as_secs())));
        }
        if let Some(id) = id {
            all.push_str(&format!(";keyid={}", quoted(id)));
        }
        if self.alg {
            let name = KNOWN.iter().find(|(_, known)| *known == algorithm).map_or("", |(name, _)| name);
            all.push_str(&format!(";alg=\"{name}\""));
        }
        if self.nonce {
            all.push_str(&format!(";nonce={}", quoted(&round.moment.nonce(NonceKind::Signature, random_hex::<16>))));
        }
        if let Some(tag) = &self.tag {
            all.push_str(&format!(";tag={}", quoted(tag)));
        }
        all
    }

    /// RFC 9530 §2; a request without a body has none.
    fn add_digest(&self, draft: &mut Draft) -> Result<(), Failure> {
        let Some(kind) = self.content_digest else { return Ok(()) };
        draft.headers.remove(DIGEST);
        if matches!(draft.body, Body::Empty) {
            return Ok(());
        }
        let (name, algorithm) = match kind {
            Digest::Sha256 => ("sha-256", &digest::SHA256),
            Digest::Sha512 => ("sha-512", &digest::SHA512),
        };
        let mut hash = digest::Context::new(algorithm);
        covered(&draft.body, |piece| hash.update(piece))?;
        let field = format!("{name}=:{}:", BASE64_STANDARD.encode(hash.finish()));
        draft.headers.insert(DIGEST, HeaderValue::from_str(&field).expect("Base64 is ASCII"));
        Ok(())
    }

    /// The member of this label in the request's `Signature-Input`.
    fn sent(&self, draft: &Draft) -> Option<String> {
        let all = draft.headers.get_all(INPUT).iter().filter_map(|field| field.to_str().ok());
        all.flat_map(members).find(|(name, _)| *name == self.label).map(|(_, value)| value.to_owned())
    }
}

/// The text that is signed.
fn base(lines: &[(String, String)], parameters: &str) -> String {
    let lines = lines.iter().map(|(identifier, value)| format!("{identifier}: {value}\n"));
    lines.collect::<String>() + &format!("\"@signature-params\": {parameters}")
}

/// Sets one member of a dictionary field, beside the others.
fn set_member(headers: &mut HeaderMap, name: &HeaderName, label: &str, value: &str) -> Result<(), Failure> {
    let mut all: Vec<String> = Vec::new();
    for field in headers.get_all(name) {
        let text = field.to_str().map_err(|_| {
            Failure::new(Cause::BadRequest, format!("the client's `{name}` cannot be read")).hint("take it out of the client")
        })?;
        all.extend(members(text).filter(|(own, _)| *own != label).map(|(own, value)| format!("{own}={value}")));
    }
    all.push(format!("{label}={value}"));
    headers.insert(name, header_value(&all.join(", "), "signature")?);
    Ok(())
}

impl Authorizer for HttpSignature {
    fn locations(&self) -> Locations {
        let digest = self.content_digest.map(|_| CredentialLocation::Aside(DIGEST));
        Locations::of([CredentialLocation::Header(INPUT), CredentialLocation::Header(SIGNATURE)].into_iter().chain(digest))
    }
    fn body_need(&self, _: &Draft) -> BodyNeed {
        if self.content_digest.is_some() { BodyNeed::Hash } else { BodyNeed::None }
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<HttpSignature> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched(self.key.values())
    }
    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        if !draft.headers.contains_key(INPUT) {
            // What no `Signature-Input` speaks of is a signature of another kind, older than RFC 9421.
            draft.headers.remove(SIGNATURE);
        }
        self.add_digest(draft)?;
        let signer = self.key.now()?;
        let lines = self.lines(draft)?;
        let id = self.key_id.as_deref().or(signer.key().id());
        let parameters = self.parameters(&lines, round, signer.algorithm(), id);
        let signature = BASE64_STANDARD.encode(signer.sign(base(&lines, &parameters).as_bytes())?);
        set_member(&mut draft.headers, &INPUT, &self.label, &parameters)?;
        set_member(&mut draft.headers, &SIGNATURE, &self.label, &format!(":{signature}:"))?;
        Ok(Signed::default())
    }
    fn canonical(&self, draft: &Draft) -> Option<String> {
        Some(base(&self.lines(draft).ok()?, &self.sent(draft)?))
    }
}

#[cfg(test)]
mod tests;
