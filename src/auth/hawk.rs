//! `hawk` (github.com/mozilla/hawk, API.md): a MAC over method, target, host, port, and the body where asked for.
//! A server whose clock runs differently says so, provably; its offset is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, StatusCode, header};

use super::{
    Answer, Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Facts, Locations, Preparation, Round, Scheme, Shape,
    Signed, Verdict, covered, fetched, header_value, prepared, scheme_fields,
};
use crate::challenge::{self, Challenge};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::moment::{NonceKind, random_hex};
use crate::origin::Origin;
use crate::provided::SecretRef;
use crate::secrets;
use crate::settings::{Decode, Node};

pub static SCHEME: Scheme = Scheme {
    name: "hawk",
    doc: "Hawk: a MAC over the request; the server's clock is followed. What a server signs in `Server-Authorization` is checked but for the answer's body, and a wrong one is logged.",
    short: None,
    settings: &[
        ("id", Shape::Secret, "required", "the key's identifier, a SECRET"),
        ("key", Shape::Secret, "required", "a SECRET"),
        ("algorithm", Shape::Words(&["sha256", "sha1"]), "sha256", "sha256 or sha1"),
        ("ext", Shape::Text, "none", "application data, covered by the MAC"),
        ("app", Shape::Text, "none", "the application's identifier (Oz)"),
        ("dlg", Shape::Text, "none", "who delegated to the application; needs `app`"),
        ("payload_hash", Shape::Bool, "false", "cover the body too; it is held before it is sent"),
    ],
    build,
};

#[derive(Clone, Copy)]
enum Algorithm {
    Sha1,
    Sha256,
}

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let id = decode.required(&fields, SCHEME.name, "id").and_then(|node| attribute(node, decode));
    let key = decode.required(&fields, SCHEME.name, "key").and_then(|node| decode.text(node));
    let words = [("sha256", Algorithm::Sha256), ("sha1", Algorithm::Sha1)];
    let algorithm = fields.get("algorithm").map_or(Some(Algorithm::Sha256), |node| decode.choice(node, "algorithm", &words));
    let [ext, app, dlg] =
        ["ext", "app", "dlg"].map(|name| fields.get(name).map_or(Some(None), |node| attribute(node, decode).map(Some)));
    let payload_hash = fields.get("payload_hash").map_or(Some(false), |node| decode.boolean(node));
    if let (Some(node), None) = (fields.get("dlg"), fields.get("app")) {
        decode.report.error("missing-key", node.place, "`dlg` is signed only together with `app`").help("add `app: …`");
        return None;
    }
    Some(Arc::new(Hawk {
        id: id?,
        key: secrets::reference(key?),
        algorithm: algorithm?,
        ext: ext?,
        app: app?,
        dlg: dlg?,
        payload_hash: payload_hash?,
        clocks: Mutex::default(),
    }))
}

/// A value that can stand in a Hawk attribute: servers take no others.
fn attribute(node: &Node, decode: &mut Decode<'_>) -> Option<SecretRef> {
    let value = secrets::reference(decode.text(node)?);
    if value.known().is_some_and(|text| !is_attribute(text.expose())) {
        decode
            .report
            .error("hawk-attribute", node.place, "this holds characters that a Hawk attribute cannot carry")
            .help("printable ASCII without quotation marks and backslashes can stand there");
        return None;
    }
    Some(value)
}

fn is_attribute(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| (c.is_ascii_graphic() || c == ' ') && c != '"' && c != '\\')
}

/// What a command printed has not been judged before.
fn checked(value: &SecretRef) -> Result<String, Failure> {
    let text = prepared(value)?;
    if is_attribute(text.expose()) {
        return Ok(text.expose().to_owned());
    }
    Err(Failure::new(Cause::Credential, "a hawk attribute (id, ext, app or dlg) holds characters that it cannot carry"))
}

/// Origins whose clock is remembered.
const CLOCKS: usize = 256;

struct Hawk {
    id: SecretRef,
    key: SecretRef,
    algorithm: Algorithm,
    ext: Option<SecretRef>,
    app: Option<SecretRef>,
    dlg: Option<SecretRef>,
    payload_hash: bool,
    /// Seconds that each origin's clock is ahead of ours; 0 once it has taken a timestamp of ours.
    clocks: Mutex<HashMap<Arc<Origin>, i64>>,
}

/// What a MAC is computed over, besides the draft.
#[derive(Default)]
struct Artifacts {
    ts: String,
    nonce: String,
    hash: Option<String>,
    ext: Option<String>,
    app: Option<String>,
    dlg: Option<String>,
}

impl Artifacts {
    /// Those of a request that was signed.
    fn read(field: &Challenge) -> Self {
        let get = |name: &str| field.get(name).map(str::to_owned);
        Self {
            ts: get("ts").unwrap_or_default(),
            nonce: get("nonce").unwrap_or_default(),
            hash: get("hash"),
            ext: get("ext"),
            app: get("app"),
            dlg: get("dlg"),
        }
    }

    /// API.md, "Request payload" and "generateNormalizedString" of its implementation; `kind`: `header` or `response`.
    fn normalized(&self, kind: &str, draft: &Draft) -> String {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let ext = text(&self.ext).replace('\\', "\\\\").replace('\n', "\\n");
        let mut all = format!(
            "hawk.1.{kind}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{ext}\n",
            self.ts,
            self.nonce,
            draft.method.as_str().to_ascii_uppercase(),
            draft.target,
            draft.origin.host,
            draft.origin.port,
            text(&self.hash),
        );
        if self.app.is_some() {
            all.push_str(&format!("{}\n{}\n", text(&self.app), text(&self.dlg)));
        }
        all
    }
}

const INFO: HeaderName = HeaderName::from_static("server-authorization");

/// A client's own credential in a URL (API.md, "Single URI Authorization").
const BEWIT: &str = "bewit";

impl Hawk {
    fn values(&self) -> impl Iterator<Item = &SecretRef> {
        let attributes = [&self.ext, &self.app, &self.dlg].into_iter().filter_map(Option::as_ref);
        [&self.id, &self.key].into_iter().chain(attributes)
    }

    fn clocks(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<Origin>, i64>> {
        self.clocks.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn learn(&self, origin: &Arc<Origin>, offset: i64) {
        let mut clocks = self.clocks();
        if clocks.len() >= CLOCKS && !clocks.contains_key(origin) {
            clocks.clear();
        }
        clocks.insert(origin.clone(), offset);
    }

    fn mac(&self, text: &str) -> Result<Vec<u8>, Failure> {
        let algorithm = match self.algorithm {
            Algorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha256 => hmac::HMAC_SHA256,
        };
        let key = hmac::Key::new(algorithm, prepared(&self.key)?.expose().as_bytes());
        Ok(hmac::sign(&key, text.as_bytes()).as_ref().to_vec())
    }

    /// The content type is covered too, in lower case and without parameters.
    fn hash(&self, draft: &Draft) -> Result<String, Failure> {
        let algorithm = match self.algorithm {
            Algorithm::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha256 => &digest::SHA256,
        };
        let mut hash = digest::Context::new(algorithm);
        hash.update(format!("hawk.1.payload\n{}\n", draft.content_type().unwrap_or_default()).as_bytes());
        covered(&draft.body, |piece| hash.update(piece))?;
        hash.update(b"\n");
        Ok(BASE64_STANDARD.encode(hash.finish().as_ref()))
    }

    /// The clock of a server that proves that it knows the key: seconds ahead of ours.
    fn offset(&self, answer: &Answer<'_>, round: &Round<'_>) -> Option<i64> {
        let challenges = challenge::read(answer.headers, &header::WWW_AUTHENTICATE);
        let hawk = challenges.iter().find(|challenge| challenge.scheme == "hawk")?;
        let (ts, tsm) = (hawk.get("ts")?, hawk.get("tsm")?);
        let right = self.mac(&format!("hawk.1.ts\n{ts}\n")).ok()?;
        constant_time::verify_slices_are_equal(&right, &BASE64_STANDARD.decode(tsm).ok()?).ok()?;
        i64::try_from(round.moment.unix()).ok().and_then(|now| ts.parse::<i64>().ok()?.checked_sub(now))
    }

    /// False: the answer is not from one who knows the key. The hash of its body is not checked.
    fn is_genuine(&self, answer: &Answer<'_>) -> bool {
        let Some(theirs) = answer.headers.get(INFO).and_then(|value| value.to_str().ok()) else { return true };
        let (Some(sent), Some(theirs)) = (sent(answer.draft), challenge::parse(theirs).into_iter().next()) else { return false };
        let hash = theirs.get("hash").map(str::to_owned);
        let ext = theirs.get("ext").map(str::to_owned);
        let artifacts = Artifacts { hash, ext, ..Artifacts::read(&sent) };
        let mac = theirs.get("mac").and_then(|mac| BASE64_STANDARD.decode(mac).ok());
        match (mac, self.mac(&artifacts.normalized("response", answer.draft))) {
            (Some(mac), Ok(right)) => constant_time::verify_slices_are_equal(&right, &mac).is_ok(),
            _ => false,
        }
    }
}

fn sent(draft: &Draft) -> Option<Challenge> {
    let field = draft.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    challenge::parse(field).into_iter().find(|field| field.scheme == "hawk")
}

impl Authorizer for Hawk {
    fn facts(&self) -> Facts {
        Facts { answers: true, ..Facts::default() }
    }
    fn locations(&self) -> Locations {
        Locations::of([CredentialLocation::Header(header::AUTHORIZATION)]).clearing([CredentialLocation::Query(BEWIT.to_owned())])
    }
    fn body_need(&self, draft: &Draft) -> BodyNeed {
        match self.payload_hash {
            true => BodyNeed::Hash,
            // Sent twice at most once an origin: as long as its clock is not known.
            false if self.clocks().contains_key(&draft.origin) => BodyNeed::Spare,
            false => BodyNeed::Repeat,
        }
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<Hawk> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched(self.values())
    }
    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        draft.remove_queries(|name| name == BEWIT);
        let offset = self.clocks().get(&draft.origin).copied().unwrap_or(0);
        let text = |value: &Option<SecretRef>| -> Result<Option<String>, Failure> { value.as_ref().map(checked).transpose() };
        let artifacts = Artifacts {
            ts: round.moment.unix().saturating_add_signed(offset).to_string(),
            nonce: round.moment.nonce(NonceKind::Hawk, random_hex::<6>),
            hash: if self.payload_hash { Some(self.hash(draft)?) } else { None },
            ext: text(&self.ext)?,
            app: text(&self.app)?,
            dlg: text(&self.dlg)?,
        };
        let mac = BASE64_STANDARD.encode(self.mac(&artifacts.normalized("header", draft))?);
        let id = checked(&self.id)?;
        let Artifacts { ts, nonce, hash, ext, app, dlg } = artifacts;
        let mut field = format!("Hawk id=\"{}\", ts=\"{ts}\", nonce=\"{nonce}\"", id);
        for (name, value) in [("hash", hash), ("ext", ext), ("mac", Some(mac)), ("app", app), ("dlg", dlg)] {
            if let Some(value) = value {
                field.push_str(&format!(", {name}=\"{value}\""));
            }
        }
        draft.headers.insert(header::AUTHORIZATION, header_value(&field, "id, ext, app or dlg")?);
        Ok(Signed::default())
    }
    fn on_response(&mut self, answer: &Answer<'_>, _: &[u8], round: &Round<'_>) -> Verdict {
        if answer.status == StatusCode::UNAUTHORIZED {
            let known = self.clocks().get(&answer.draft.origin).copied().unwrap_or(0);
            let Some(offset) = self.offset(answer, round).filter(|offset| *offset != known) else { return Verdict::Final };
            self.learn(&answer.draft.origin, offset);
            return if round.attempt == 0 { Verdict::Again } else { Verdict::Final };
        }
        if !self.clocks().contains_key(&answer.draft.origin) {
            self.learn(&answer.draft.origin, 0);
        }
        if !self.is_genuine(answer) {
            tracing::warn!(origin = %answer.draft.origin, "the answer's Server-Authorization was not made with the hawk key of this rule");
        }
        Verdict::Final
    }
    fn canonical(&self, draft: &Draft) -> Option<String> {
        Some(Artifacts::read(&sent(draft)?).normalized("header", draft))
    }
}

#[cfg(test)]
#[path = "hawk_tests.rs"]
mod tests;
