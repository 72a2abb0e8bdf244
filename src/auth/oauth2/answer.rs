//! What a token endpoint answers (RFC 6749 §5), read as servers write it: JSON under any content type, numbers
//! as texts, forms, errors with status 200. Hostile answers are bounded, and nothing of them is shown but errors.

use std::time::Duration;

use http::header;
use serde_json::{Map, Value as Json};

use crate::auth::fetch::Fetched;
use crate::secret::Secret;

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
            Wrong::Error { code, description: None } => f.write_str(code),
            Wrong::Error { code, description: Some(text) } => write!(f, "{code} ({text})"),
            Wrong::Nonsense(why) => f.write_str(why),
        }
    }
}

/// An answer, and the secrets that were sent for it.
pub struct Asked {
    pub answer: Fetched,
    pub secrets: Vec<Secret>,
}

impl Asked {
    /// # Errors
    /// As [`token`], our own secrets taken out.
    pub fn token(&self) -> Result<Token, Wrong> {
        token(&self.answer).map_err(|wrong| self.shown(wrong))
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
pub fn token(fetched: &Fetched) -> Result<Token, Wrong> {
    let members = members(fetched)?;
    let text = |name: &str| members.get(name).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let Some(access) = text("access_token") else {
        let whole = if text("id_token").is_some() { "only an id_token" } else { "no access_token" };
        return Err(Wrong::Nonsense(format!("it answered {} with {whole}", fetched.status)));
    };
    // RFC 6750 §2.1 takes still less; what a header cannot carry is refused before it gets there.
    if access.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(Wrong::Nonsense("its access_token holds characters that a header cannot carry".to_owned()));
    }
    Ok(Token {
        access: Secret::new(access),
        kind: text("token_type"),
        life: seconds(members.get("expires_in")).filter(|life| !life.is_zero()).map(|life| life.min(LONGEST)),
        refresh: text("refresh_token").map(Secret::new),
        scope: text("scope").map(|scope| clean(&scope)),
    })
}

/// The members of an answer that is no error.
///
/// # Errors
/// As [`token`].
pub fn members(fetched: &Fetched) -> Result<Map<String, Json>, Wrong> {
    let status = fetched.status;
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
        Json::String(code) if !code.is_empty() => Some(clean(code)),
        Json::Object(inner) => {
            let code = ["code", "status", "message"].iter().find_map(|name| inner.get(*name)?.as_str());
            Some(clean(code.unwrap_or("error")))
        }
        _ => None,
    }
}

fn object(body: &[u8]) -> Option<Map<String, Json>> {
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
