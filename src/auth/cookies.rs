//! `cookies`: fixed ones, and those of a session that is learnt from traffic.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    Answer, Attempt, Authorizer, BuildCx, CredentialLocation, Facts, Locations, Preparation, Round, Scheme, Shape, Signed,
    Verdict, fetched, scheme_fields,
};
use crate::cookie::{self, Jar};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::files;
use crate::initiator::SEC_FETCH_SITE;
use crate::origin::Scheme as OriginScheme;
use crate::provided::SecretRef;
use crate::secret::Secret;
use crate::secrets;
use crate::settings::{Decode, Node};

/// What `exec` calls its command, where that sends the password of its run. It is the user that gatepass runs as.
pub const EXEC_USER: &str = "gatepass";

pub static SCHEME: Scheme = Scheme {
    name: "cookies",
    doc: "Cookies: fixed ones, and with `capture: true` those that the rule's hosts set (and a browser sends), so that a session opened in a browser through gatepass serves other clients. Domain, path, secure and expiry as in RFC 6265; never to a host outside the rule. A captured cookie fills in what the client did not send itself; a browser's requests are left as they are.",
    short: None,
    settings: &[
        (
            "set",
            Shape::Fields(&Shape::Secret),
            "",
            "names to SECRETs, sent with every request of the rule; the same name is replaced",
        ),
        ("capture", Shape::Bool, "false", "learn from the traffic of the rule's hosts"),
        (
            "file",
            Shape::File,
            "cookies/NAME.json in the state folder",
            "where captured cookies are kept (0600); with `capture: false` they are sent and nothing is learnt",
        ),
    ],
    build,
};

/// Browsers send it with every request to a trustworthy origin, and scripts in them cannot (Fetch Metadata §2.4).
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

fn build(node: &Node, decode: &mut Decode<'_>, cx: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let set = match fields.get("set") {
        Some(node) => set(node, decode)?,
        None => Vec::new(),
    };
    let capture = fields.get("capture").map_or(Some(false), |node| decode.boolean(node))?;
    let file = match fields.get("file") {
        Some(node) => Some((decode.path(node)?, node.place)),
        None => capture.then(|| (cx.state_file("cookies"), fields.place)),
    };
    if set.is_empty() && file.is_none() {
        decode
            .report
            .error("no-cookies", node.place, "this credential sends no cookie")
            .help("write `cookies: { set: { NAME: VALUE } }`, or `cookies: { capture: true }`");
        return None;
    }
    let jar = match file {
        None => None,
        Some((file, place)) => {
            if files::mode(&file).is_ok_and(|mode| mode & 0o077 != 0) {
                let message = format!("others can read the cookies in {}", file.display());
                decode.report.warning("file-mode", place, message).help(format!("chmod 600 {}", file.display()));
            }
            match cx.jars.open(&file) {
                Ok(jar) => Some(jar),
                Err(why) => {
                    decode.report.error("cookie-file", place, why).help("name another `file`, or move it away");
                    return None;
                }
            }
        }
    };
    Some(Arc::new(Cookies { set, jar, capture }))
}

fn set(node: &Node, decode: &mut Decode<'_>) -> Option<Vec<(String, SecretRef)>> {
    let mut cookies = Vec::new();
    for (key, node) in decode.map(node, "`set`")? {
        let value = secrets::reference(decode.text(node)?);
        let place = if !is_name(&key.text) {
            Some(key.place)
        } else if value.known().is_some_and(|secret| !is_value(secret.expose())) {
            Some(node.place)
        } else {
            None
        };
        if let Some(place) = place {
            decode
                .report
                .error("cookie", place, "this name or value holds characters that a cookie cannot carry")
                .help("percent-encode them if the server decodes them");
            return None;
        }
        cookies.push((key.text.clone(), value));
    }
    Some(cookies)
}

/// A token (RFC 6265 §4.1.1).
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '=' | ';' | ',' | '"' | '\\'))
}

/// What cannot be read wrongly. RFC 6265 asks servers for less than they write: quotes and commas are met.
fn is_value(text: &str) -> bool {
    text.trim() == text && !text.chars().any(|c| c.is_control() || c == ';')
}

struct Cookies {
    set: Vec<(String, SecretRef)>,
    jar: Option<Arc<Jar>>,
    capture: bool,
}

impl Authorizer for Cookies {
    fn facts(&self) -> Facts {
        Facts { answers: self.capture, ..Facts::default() }
    }
    fn locations(&self) -> Locations {
        let set = self.set.iter().map(|(name, _)| CredentialLocation::Cookie(name.clone()));
        Locations::of(set.chain(self.jar.as_ref().map(|_| CredentialLocation::Jar)))
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<Cookies> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        if let Some(jar) = &self.jar {
            jar.refresh();
        }
        fetched(self.set.iter().map(|(_, value)| value))
    }
    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        let mut ours: Vec<(String, Secret)> = Vec::new();
        for (name, value) in &self.set {
            let secret = super::prepared(value)?;
            if !is_value(secret.expose()) {
                let message = format!("the value for cookie `{name}` holds characters that a cookie cannot carry");
                return Err(Failure::new(Cause::Credential, message));
            }
            ours.push((name.clone(), secret));
        }
        let is_set = |name: &str| self.set.iter().any(|(set, _)| set == name);
        // A browser has a jar of its own, in which a cookie may be missing because it was taken away.
        if let Some(jar) = self.jar.as_ref().filter(|_| !is_browser(&draft.headers)) {
            let brought = |name: &str| sent(&draft.headers).any(|(brought, _)| brought == name);
            let captured = jar.cookies(&holder(round), &draft.origin, draft.path(), round.moment);
            ours.extend(captured.into_iter().filter(|(name, _)| !is_set(name) && !brought(name)));
        }
        if ours.is_empty() {
            return Ok(Signed::default());
        }
        // What the client wrote stays byte for byte.
        let name = |pair: &[u8]| String::from_utf8_lossy(pair.split(|b| *b == b'=').next().unwrap_or(pair)).trim().to_owned();
        let brought = draft.headers.get_all(header::COOKIE).into_iter().flat_map(|field| field.as_bytes().split(|b| *b == b';'));
        let mut pairs: Vec<Vec<u8>> = brought.map(<[u8]>::trim_ascii).map(<[u8]>::to_vec).collect();
        pairs.retain(|pair| !pair.is_empty() && !is_set(&name(pair)));
        pairs.extend(ours.iter().map(|(name, value)| format!("{name}={}", value.expose()).into_bytes()));
        let mut field = HeaderValue::from_bytes(&pairs.join(&b"; "[..]))
            .map_err(|_| Failure::new(Cause::Credential, "a captured cookie holds characters that a header cannot carry"))?;
        field.set_sensitive(true);
        draft.headers.insert(header::COOKIE, field);
        Ok(Signed::default())
    }
    fn on_response(&mut self, answer: &Answer<'_>, _: &[u8], round: &Round<'_>) -> Verdict {
        if let Some(jar) = self.jar.as_ref().filter(|_| self.capture) {
            let (origin, path) = (&answer.draft.origin, answer.draft.path());
            let holder = holder(round);
            if is_own_visit(&answer.draft.headers) && origin.scheme == OriginScheme::Https && answer.status.is_success() {
                let own = sent(&answer.draft.headers).filter(|(name, _)| !self.set.iter().any(|(set, _)| set == name));
                jar.learn_sent(&holder, own, origin, path, round.moment);
            }
            let clears = |value: &HeaderValue| value.as_bytes().windows(9).any(|word| word == b"\"cookies\"") || value == "\"*\"";
            if answer.headers.get_all(CLEAR_SITE_DATA).iter().any(clears) {
                jar.clear(&holder, origin, round.moment);
            }
            let fields = answer.headers.get_all(header::SET_COOKIE);
            jar.learn(&holder, fields.iter().map(HeaderValue::as_bytes), origin, path, round.moment);
        }
        Verdict::Final
    }
}

/// Whose session it is: each caller that is told from others has its own, by user, user id or address. Callers that nothing
/// tells apart are one, and so is the user that gatepass runs as: the browser's session is for that user's other programs.
fn holder(round: &Round<'_>) -> Cow<'static, str> {
    let own = format!("uid:{}", rustix::process::geteuid().as_raw());
    match (round.user, round.peer.map(|peer| peer.to_canonical())) {
        (Some(user), _) if user != own && user != EXEC_USER => format!("user {user}").into(),
        (None, Some(peer)) if !peer.is_loopback() => format!("address {peer}").into(),
        _ => "".into(),
    }
}

/// A browser that is on its user's own errand, or a page's toward its own origin. The client says so itself: it is believed
/// about its caller's own cookies, and about nobody else's.
fn is_own_visit(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    let own = sites.next().is_some_and(|site| site == "none" || site == "same-origin");
    own && sites.next().is_none() && headers.contains_key(SEC_FETCH_MODE)
}

fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(SEC_FETCH_SITE)
}

/// The cookies in a request; HTTP/2 may spread them over several fields (RFC 9113 §8.2.3).
fn sent(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers.get_all(header::COOKIE).into_iter().flat_map(|field| cookie::pairs(field.as_bytes()))
}
