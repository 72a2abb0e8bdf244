//! `akamai_edgegrid`: Akamai's EG1-HMAC-SHA256 (techdocs.akamai.com/developer/docs/edgegrid).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, Method, header};
use time::OffsetDateTime;

use super::{
    Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Locations, Preparation, Round, Scheme, Shape, Signed, covered,
    fetched, header_value, prepared, scheme_fields,
};
use crate::draft::Draft;
use crate::failure::Failure;
use crate::moment::{NonceKind, random_uuid};
use crate::provided::SecretRef;
use crate::secret::Secret;
use crate::secrets;
use crate::settings::shown::forms;
use crate::settings::{Decode, Fields, Node, Place, Text, quoted};

pub static SCHEME: Scheme = Scheme {
    name: "akamai_edgegrid",
    doc: "Akamai EdgeGrid. The credentials stand here, or in an `.edgerc` file as Akamai's own tools have it.",
    short: None,
    settings: &[
        ("client_token", Shape::Secret, "required, or `edgerc`", "a SECRET"),
        ("client_secret", Shape::Secret, "required, or `edgerc`", "a SECRET"),
        ("access_token", Shape::Secret, "required, or `edgerc`", "a SECRET"),
        ("headers_to_sign", Shape::Many(&Shape::Field), "[]", "names of header fields, in the order agreed with Akamai"),
        ("max_body", Shape::Size, "128KiB", "so much of the body of a POST is hashed"),
        ("edgerc", Shape::Key, "none", "an `.edgerc` file; its `max_body` and `headers_to_sign` count too"),
        ("section", Shape::Plain, "default", "the section of that file"),
    ],
    build,
};

const MAX_BODY: u64 = 131_072;
const WORD: &str = "EG1-HMAC-SHA256";

struct EdgeGrid {
    client_token: SecretRef,
    client_secret: SecretRef,
    access_token: SecretRef,
    headers_to_sign: Vec<HeaderName>,
    /// In bytes.
    max_body: u64,
}

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let mut own = match fields.get("edgerc") {
        Some(file) => from_file(file, &fields, decode)?,
        None => {
            if let Some(node) = fields.get("section") {
                decode
                    .report
                    .error("no-use", node.place, "`section` belongs to `edgerc`")
                    .help("take it out, or add `edgerc: FILE`");
                return None;
            }
            let [token, secret, access] = ["client_token", "client_secret", "access_token"].map(|name| {
                decode.required(&fields, SCHEME.name, name).and_then(|node| decode.text(node)).map(secrets::reference)
            });
            EdgeGrid {
                client_token: token?,
                client_secret: secret?,
                access_token: access?,
                headers_to_sign: Vec::new(),
                max_body: MAX_BODY,
            }
        }
    };
    if let Some(node) = fields.get("max_body") {
        own.max_body = decode.size(node)?;
    }
    if let Some(node) = fields.get("headers_to_sign") {
        let names = decode.strings(node)?;
        let names: Vec<_> = names.iter().map(|(name, place)| field_name(decode, name, *place)).collect();
        own.headers_to_sign = names.into_iter().collect::<Option<_>>()?;
    }
    Some(Arc::new(own))
}

/// A field that is read and not written: `Host` too.
fn field_name(decode: &mut Decode<'_>, name: &str, place: Place) -> Option<HeaderName> {
    let field = HeaderName::from_bytes(name.as_bytes()).ok();
    if field.is_none() {
        let message = format!("`{}` is not the name of a header", name.escape_debug());
        decode.report.error("header-name", place, message).help("write it as `Accept`");
    }
    field
}

/// The INI form of Akamai's tools: `[section]`, `name = value`, comments behind `#` and `;` at the line's start.
fn from_file(node: &Node, fields: &Fields<'_>, decode: &mut Decode<'_>) -> Option<EdgeGrid> {
    for name in ["client_token", "client_secret", "access_token"] {
        if let Some(node) = fields.get(name) {
            let message = format!("`{name}` stands both here and in `edgerc`");
            decode.report.error("two-sources", node.place, message).help("take one of them out");
            return None;
        }
    }
    let section = fields.get("section").map_or(Some("default".to_owned()), |node| decode.string(node))?;
    let text = decode.key_text(node)?;
    let entries = section_of(text.expose(), &section);
    let Some(entries) = entries else {
        let names: Vec<&str> = text.expose().lines().filter_map(section_name).filter(|name| forms::is_given_name(name)).collect();
        let message = format!("this file has no section {}", quoted(&section, Shape::Plain, "of this name"));
        decode.report.error("edgerc", node.place, message).help(format!("set `section` to one of: {}", names.join(", ")));
        return None;
    };
    let get = |name: &str| entries.iter().rev().find(|(own, _)| own == name).map(|(_, value)| *value).filter(|v| !v.is_empty());
    let mut known = |name: &str| {
        let value = get(name).map(|value| secrets::reference(Text::Known(Secret::new(value))));
        if value.is_none() {
            let message = format!("section {} of this file has no `{name}`", quoted(&section, Shape::Plain, "as named"));
            decode.report.error("edgerc", node.place, message).help("download the credential again, or take another section");
        }
        value
    };
    let [token, secret, access] = ["client_token", "client_secret", "access_token"].map(&mut known);
    let max_body = get("max_body").and_then(|text| text.parse().ok()).unwrap_or(MAX_BODY);
    let list = get("headers_to_sign").filter(|list| *list != "None").unwrap_or("");
    let mut headers_to_sign = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        headers_to_sign.push(field_name(decode, name, node.place)?);
    }
    Some(EdgeGrid { client_token: token?, client_secret: secret?, access_token: access?, headers_to_sign, max_body })
}

fn section_name(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.strip_suffix(']')
}

/// Names with `_` for `-`, and values.
fn section_of<'t>(text: &'t str, wanted: &str) -> Option<Vec<(String, &'t str)>> {
    let mut inside = None;
    for line in text.lines() {
        if let Some(name) = section_name(line) {
            if name == wanted {
                inside.get_or_insert_with(Vec::new);
            } else if inside.is_some() {
                break;
            }
            continue;
        }
        if let Some(entries) = &mut inside
            && !line.trim_start().starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once(['=', ':'])
        {
            entries.push((name.trim().to_ascii_lowercase().replace('-', "_"), value.trim()));
        }
    }
    inside
}

fn mac(key: &[u8], text: &str) -> String {
    BASE64_STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()))
}

impl EdgeGrid {
    /// Everything but the credential's own part, joined by tabs.
    fn data(&self, draft: &Draft) -> Result<String, Failure> {
        let query = draft.query().filter(|query| !query.is_empty()).map_or_else(String::new, |query| format!("?{query}"));
        Ok(format!(
            "{}\t{}\t{}\t{}{query}\t{}\t{}\t",
            draft.method,
            draft.origin.scheme,
            draft.origin.authority(),
            draft.path(),
            self.headers(draft),
            self.hash(draft)?
        ))
    }

    /// Runs of white space count as one space.
    fn headers(&self, draft: &Draft) -> String {
        let lines = self.headers_to_sign.iter().filter_map(|name| {
            let value = String::from_utf8_lossy(draft.headers.get(name)?.as_bytes()).into_owned();
            Some(format!("{name}:{}", value.split_whitespace().collect::<Vec<_>>().join(" ")))
        });
        lines.collect::<Vec<_>>().join("\t")
    }

    /// Only the bodies of POSTs, and of them the beginning; nothing for an empty one.
    fn hash(&self, draft: &Draft) -> Result<String, Failure> {
        if draft.method != Method::POST {
            return Ok(String::new());
        }
        let mut begun: Vec<u8> = Vec::new();
        let most = usize::try_from(self.max_body).unwrap_or(usize::MAX);
        covered(&draft.body, |piece| begun.extend_from_slice(&piece[..piece.len().min(most - begun.len())]))?;
        if begun.is_empty() { Ok(String::new()) } else { Ok(BASE64_STANDARD.encode(digest(&SHA256, &begun))) }
    }
}

/// `yyyyMMddTHH:mm:ss+0000`.
fn timestamp(at: std::time::SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let (date, time) = (at.date(), at.time());
    let (hour, minute, second) = time.as_hms();
    format!("{:04}{:02}{:02}T{hour:02}:{minute:02}:{second:02}+0000", date.year(), u8::from(date.month()), date.day())
}

impl Authorizer for EdgeGrid {
    fn locations(&self) -> Locations {
        Locations::of([CredentialLocation::Header(header::AUTHORIZATION)])
    }
    fn body_need(&self, draft: &Draft) -> BodyNeed {
        if draft.method == Method::POST { BodyNeed::Hash } else { BodyNeed::None }
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<EdgeGrid> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched([&self.client_token, &self.client_secret, &self.access_token])
    }
    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        let timestamp = timestamp(round.moment.now());
        let nonce = round.moment.nonce(NonceKind::Edgegrid, random_uuid);
        let (token, access) = (prepared(&self.client_token)?, prepared(&self.access_token)?);
        let unsigned = format!(
            "{WORD} client_token={};access_token={};timestamp={timestamp};nonce={nonce};",
            token.expose(),
            access.expose()
        );
        // The text in Base64, not its bytes, is the key of the second MAC.
        let key = zeroize::Zeroizing::new(mac(prepared(&self.client_secret)?.expose().as_bytes(), &timestamp));
        let signature = mac(key.as_bytes(), &(self.data(draft)? + &unsigned));
        draft.headers.insert(header::AUTHORIZATION, header_value(&format!("{unsigned}signature={signature}"), "tokens")?);
        Ok(Signed::default())
    }
    fn canonical(&self, draft: &Draft) -> Option<String> {
        let field = draft.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let unsigned = &field[..field.find("signature=")?];
        Some(self.data(draft).ok()? + unsigned)
    }
}

#[cfg(test)]
#[path = "akamai_edgegrid_tests.rs"]
mod tests;
