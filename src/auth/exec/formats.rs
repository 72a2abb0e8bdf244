//! What credential helpers print, and what of it goes into a request.

use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue, header};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::auth::printed::{expiry, instant, object};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Raw,
    Json,
    Headers,
    Kubernetes,
    Git,
}

/// `None`: not fields but keys to sign with.
pub const NAMES: [(&str, Option<Format>); 6] = [
    ("raw", Some(Format::Raw)),
    ("json", Some(Format::Json)),
    ("headers", Some(Format::Headers)),
    ("kubernetes", Some(Format::Kubernetes)),
    ("git", Some(Format::Git)),
    ("aws", None),
];

/// What Kubernetes tells its credential plugins (client-go, `exec` authenticators).
pub const EXEC_INFO: &str =
    r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}}"#;

/// Fields for the request, and when they expire if that is said.
pub type Read = (Vec<(HeaderName, HeaderValue)>, Option<SystemTime>);

impl Format {
    /// Understands a helper's output, printed `now`.
    ///
    /// # Errors
    /// Why not; never with a part of the output but the names of its members.
    pub fn read(self, output: &str, now: SystemTime) -> Result<Read, String> {
        match self {
            Format::Raw => raw(output),
            Format::Json => json(output, now),
            Format::Headers => headers(output, now),
            Format::Kubernetes => kubernetes(output, now),
            Format::Git => git(output),
        }
    }
}

/// A bearer token has no spaces (RFC 6750 §2.1); what has some is a whole `Authorization` value.
fn raw(output: &str) -> Result<Read, String> {
    let text = output.trim_end_matches(['\n', '\r']);
    match text {
        "" => Err("its output is empty".to_owned()),
        _ if text.contains(' ') => Ok((vec![authorization(text)?], None)),
        _ => Ok((vec![bearer(text)?], None)),
    }
}

/// RFC 6749 §5.1's answer and what command line tools make of it.
fn json(output: &str, now: SystemTime) -> Result<Read, String> {
    let object = object(output)?;
    let token = ["token", "access_token", "accessToken", "id_token"].iter().find_map(|name| object.get(*name)?.as_str());
    let token = token.filter(|token| !token.is_empty()).ok_or("its output has no text member `token` or `access_token`")?;
    let kind = ["token_type", "tokenType"].iter().find_map(|name| object.get(*name)?.as_str()).unwrap_or("Bearer");
    let kind = if kind.eq_ignore_ascii_case("bearer") { "Bearer" } else { kind };
    Ok((vec![authorization(&Zeroizing::new(format!("{kind} {token}")))?], expiry(&object, now)?))
}

/// `Name: value` lines, a JSON object of them, or `{"headers": {"Name": ["value"]}, "expires": …}` as Bazel's
/// credential helpers print.
fn headers(output: &str, now: SystemTime) -> Result<Read, String> {
    let text = output.trim();
    if text.is_empty() {
        return Err("its output is empty".to_owned());
    }
    let mut fields = Vec::new();
    let mut end = None;
    if text.starts_with('{') {
        let mut object = object(text)?;
        if let Some(Value::Object(inner)) = object.get_mut("headers").map(Value::take) {
            end = expiry(&object, now)?;
            object = inner;
        }
        for (name, value) in &object {
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            for value in values {
                let value = value.as_str().ok_or_else(|| format!("the value of its header `{name}` is not a text"))?;
                fields.push(field(name, value)?);
            }
        }
    } else {
        for (at, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
            let (name, value) =
                line.split_once(':').ok_or_else(|| format!("line {} of its output is not `Name: value`", at + 1))?;
            fields.push(field(name.trim(), value.trim())?);
        }
    }
    if fields.is_empty() { Err("its output names no header".to_owned()) } else { Ok((fields, end)) }
}

/// Fields that frame or route a request are not a helper's to set.
fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    const NOT_THEIRS: [HeaderName; 6] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::PROXY_AUTHORIZATION,
    ];
    let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a header name in its output is not one".to_owned())?;
    if NOT_THEIRS.contains(&known) {
        return Err(format!("its output sets `{known}`, which is not a credential"));
    }
    let value = sensitive(value).ok_or_else(|| format!("the value of its header `{known}` holds control characters"))?;
    Ok((known, value))
}

/// ExecCredential of client.authentication.k8s.io, v1 and v1beta1.
fn kubernetes(output: &str, now: SystemTime) -> Result<Read, String> {
    let object = object(output)?;
    if object.get("kind").and_then(Value::as_str) != Some("ExecCredential") {
        return Err("its output is not an ExecCredential".to_owned());
    }
    let status = object.get("status").and_then(Value::as_object).ok_or("its ExecCredential has no `status`")?;
    if status.get("clientCertificateData").is_some_and(|data| !data.is_null()) {
        return Err("it gives a client certificate (clientCertificateData), which decides the connection and not the request; \
             name a certificate by `client_certificate` instead"
            .to_owned());
    }
    let token = status.get("token").and_then(Value::as_str).filter(|token| !token.is_empty());
    Ok((vec![bearer(token.ok_or("its ExecCredential has no `status.token`")?)?], expiry(status, now)?))
}

/// gitcredentials(7): `key=value` lines.
fn git(output: &str) -> Result<Read, String> {
    let attribute = |name: &str| output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let end = match attribute("password_expiry_utc") {
        None => None,
        Some(text) => Some(instant(&text.into()).ok_or("its `password_expiry_utc` is not a time in seconds since 1970")?),
    };
    if let (Some(kind), Some(credential)) = (attribute("authtype"), attribute("credential")) {
        return Ok((vec![authorization(&Zeroizing::new(format!("{kind} {credential}")))?], end));
    }
    let (Some(username), Some(password)) = (attribute("username"), attribute("password")) else {
        return Err("it knows no `username` and `password` for this host".to_owned());
    };
    if username.contains(':') {
        return Err("its `username` holds a colon, which Basic authentication cannot carry (RFC 7617 §2)".to_owned());
    }
    let pair = Zeroizing::new(format!("{username}:{password}"));
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
    Ok((vec![authorization(&Zeroizing::new(format!("Basic {}", *encoded)))?], end))
}

fn bearer(token: &str) -> Result<(HeaderName, HeaderValue), String> {
    authorization(&Zeroizing::new(format!("Bearer {token}")))
}

fn authorization(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let value = sensitive(text).ok_or("its output holds line breaks or control characters, which a header cannot carry")?;
    Ok((header::AUTHORIZATION, value))
}

/// Visible characters and spaces only, as a header value (RFC 9110 §5.5), kept out of `Debug`.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
