//! What a token endpoint answers (RFC 6749 §5), read as servers write it: JSON under any content type, numbers
//! as texts, forms, errors with status 200. Hostile answers are bounded, and nothing of them is shown but errors.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header;
use serde_json::{Map, Value as Json};

use crate::moment::Moment;
use crate::secret::Secret;
use crate::upstream::fetch::Fetched;

/// A token, as it was issued.
#[derive(Clone)]
pub struct Token {
    pub access: Secret,
    /// As the server calls it.
    pub kind: Option<String>,
    /// From when it was issued; `None`: not said.
    pub life: Option<Duration>,
    pub refresh: Option<Secret>,
    pub scope: Option<String>,
}

/// Why there is no token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// RFC 6749 §5.2.
    Error { code: String, description: Option<String> },
    /// It is no answer of a token endpoint.
    Nonsense(String),
}

impl Wrong {
    /// What the server says about it, for the log.
    pub fn said(&self) -> &str {
        match self {
            Wrong::Error { description: Some(text), .. } => text,
            _ => "",
        }
    }

    pub fn code(&self) -> &str {
        match self {
            Wrong::Error { code, .. } => code,
            Wrong::Nonsense(_) => "",
        }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wrong::Error { code, .. } => f.write_str(code),
            Wrong::Nonsense(why) => f.write_str(why),
        }
    }
}

/// An answer, and the secrets that were sent for it.
pub struct Asked {
    /// The ID token is what is wanted.
    pub id_token: bool,
    pub answer: Fetched,
    pub secrets: Vec<Secret>,
}

impl Asked {
    /// # Errors
    /// As [`token`], our own secrets taken out.
    pub fn token(&self) -> Result<Token, Wrong> {
        token(&self.answer, self.id_token).map_err(|wrong| self.shown(wrong))
    }

    /// # Errors
    /// As [`members`], our own secrets taken out.
    pub fn members(&self) -> Result<Map<String, Json>, Wrong> {
        members(&self.answer).map_err(|wrong| self.shown(wrong))
    }

    fn shown(&self, wrong: Wrong) -> Wrong {
        let hide = |text: String| self.secrets.iter().fold(text, |text, secret| text.replace(secret.expose(), "…"));
        match wrong {
            Wrong::Error { code, description } => Wrong::Error { code: hide(code), description: description.map(hide) },
            nonsense => nonsense,
        }
    }
}

/// A life that is said to be longer is cut to this.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// # Errors
/// The endpoint refuses, or does not answer with a token.
pub fn token(fetched: &Fetched, id_token: bool) -> Result<Token, Wrong> {
    let members = members(fetched)?;
    let text = |name: &str| members.get(name).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let wanted = if id_token { "id_token" } else { "access_token" };
    let Some(access) = text(wanted) else {
        let why = match (id_token, text("id_token")) {
            (false, Some(_)) => "only an id_token, which `token: id_token` would have used",
            (false, None) => "no access_token",
            (true, _) => "no id_token; many servers want the scope `openid` for one",
        };
        return Err(Wrong::Nonsense(format!("it answered {} with {why}", fetched.status)));
    };
    // RFC 6750 §2.1 takes still less; what a header cannot carry is refused before it gets there.
    if access.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(Wrong::Nonsense("its token holds characters that a header cannot carry".to_owned()));
    }
    let said = seconds(members.get("expires_in")).filter(|life| !life.is_zero());
    // An ID token says its own end; `expires_in` is of the access token (OpenID Connect Core §3.1.3.3).
    let life = if id_token { left(&access).or(said) } else { said };
    Ok(Token {
        access: Secret::new(access),
        kind: text("token_type").filter(|_| !id_token),
        life: life.map(|life| life.min(LONGEST)),
        refresh: text("refresh_token").map(Secret::new),
        scope: text("scope").map(|scope| clean(&scope)),
    })
}

/// How long a JWT is good by its own `exp`; its signature is for whom it is sent to.
fn left(token: &str) -> Option<Duration> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let end = serde_json::from_slice::<Map<String, Json>>(&payload).ok()?.get("exp")?.as_f64()?;
    let left = end - Moment::real().unix() as f64;
    (left >= 1.0).then(|| Duration::from_secs(left.min(LONGEST.as_secs_f64()) as u64))
}

/// The members of an answer that is no error.
///
/// # Errors
/// As [`token`].
pub fn members(fetched: &Fetched) -> Result<Map<String, Json>, Wrong> {
    let status = fetched.status;
    if let Some(coding) = fetched.headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        let coding = clean(&String::from_utf8_lossy(coding.as_bytes()));
        return Err(Wrong::Nonsense(format!("it answered {status} in the coding {coding}, though identity was asked for")));
    }
    let found = object(&fetched.body).or_else(|| form(&fetched.body)).unwrap_or_default();
    if let Some(code) = error_code(&found) {
        let description = ["error_description", "message"].iter().find_map(|name| found.get(*name)?.as_str()).map(clean);
        return Err(Wrong::Error { code, description });
    }
    if status.is_redirection() {
        let message = format!("it answered {status}; redirects are not followed");
        return Err(Wrong::Nonsense(message));
    }
    if !status.is_success() {
        return Err(Wrong::Nonsense(format!("it answered {status}")));
    }
    if found.is_empty() {
        let kind = fetched.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map_or("nothing named", |k| k);
        return Err(Wrong::Nonsense(format!("it answered {status} with {}, which is no token", clean(kind))));
    }
    Ok(found)
}

/// `error` as a text; some servers make it an object, or a text beside `errorCode`.
fn error_code(found: &Map<String, Json>) -> Option<String> {
    match found.get("error")? {
        Json::String(code) if !code.is_empty() => Some(plain_code(code)),
        Json::Object(inner) => {
            let code = ["code", "status", "message"].iter().find_map(|name| inner.get(*name)?.as_str());
            Some(plain_code(code.unwrap_or("error")))
        }
        _ => None,
    }
}

/// A code is a word or an extension's URI; a sentence in its place is none, and goes no further.
fn plain_code(code: &str) -> String {
    let is_plain = code.len() <= 100 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:/".contains(&b));
    if is_plain { code.to_owned() } else { "error".to_owned() }
}

/// A JSON object, a byte-order mark before it or not.
pub fn object(body: &[u8]) -> Option<Map<String, Json>> {
    // RFC 8259 §8.1 has no byte-order mark; servers do.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body.trim_ascii()).ok()
}

/// As old servers answer: `access_token=…&token_type=bearer`.
fn form(body: &[u8]) -> Option<Map<String, Json>> {
    let text = std::str::from_utf8(body.trim_ascii()).ok()?;
    if !text.contains("access_token=") && !text.starts_with("error=") && !text.contains("&error=") {
        return None;
    }
    let members = pairs(text);
    Some(members.into_iter().map(|(name, value)| (name, Json::String(value))).collect())
}

/// A form or query with more is no honest one.
const PAIRS: usize = 1_024;

/// Names and values of a query or form.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| percent_encoding::percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).take(PAIRS);
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (decode(name), decode(value))).collect()
}

/// A number of seconds, as a number or a text.
pub fn seconds(value: Option<&Json>) -> Option<Duration> {
    let number = match value? {
        Json::Number(number) => number.as_f64()?,
        Json::String(text) => text.trim().parse::<f64>().ok()?,
        _ => return None,
    };
    (number.is_finite() && number >= 0.0).then(|| Duration::from_secs(number.min(LONGEST.as_secs_f64()) as u64))
}

/// What a server said, fit for a log: one line, no control characters, at most 200 characters.
pub fn clean(text: &str) -> String {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    if clean.len() < text.len() {
        clean.push('…');
    }
    clean.trim().to_owned()
}
