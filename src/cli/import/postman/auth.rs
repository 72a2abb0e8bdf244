//! Postman's auth types, and the types and settings that they become.

use serde_json::Value;

use super::settings::Maker;
use super::texts::{Texts, label, plain_text};
use super::{oauth2, settings};
use crate::auth::{self, Scheme};

/// One `auth` object of an export.
#[derive(Clone, Copy)]
pub struct Auth<'a> {
    pub kind: &'a str,
    json: &'a Value,
}

impl<'a> Auth<'a> {
    /// `None`: there is none here, and what stands above counts.
    pub fn read(json: Option<&'a Value>) -> Option<Self> {
        let json = json?;
        let kind = json.get("type").and_then(Value::as_str).filter(|kind| !kind.is_empty() && *kind != "inherit")?;
        Some(Self { kind, json })
    }

    /// Its parameters: v2.1 has a list of keys and values, v2.0 a map.
    pub fn parameters(&self) -> Vec<(&'a str, &'a Value)> {
        match self.json.get(self.kind) {
            Some(Value::Array(list)) => {
                list.iter().filter_map(|entry| Some((entry.get("key")?.as_str()?, entry.get("value")?))).collect()
            }
            Some(Value::Object(map)) => map.iter().map(|(key, value)| (key.as_str(), value)).collect(),
            _ => Vec::new(),
        }
    }

    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.parameters().into_iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    pub fn text(&self, key: &str) -> String {
        self.value(key).map(plain_text).unwrap_or_default()
    }

    /// What it says, to compare.
    pub fn written(&self) -> String {
        format!("{} {}", self.kind, self.json.get(self.kind).unwrap_or(&Value::Null))
    }
}

/// Postman's parameter, the setting that it becomes, and words that are called otherwise here.
pub struct Row(pub &'static str, pub &'static str, pub &'static [(&'static str, &'static str)]);

const PLACE: &[(&str, &str)] = &[("queryParam", "query"), ("queryParams", "query")];
const AS_IT_IS: &[(&str, &str)] = &[];

macro_rules! rows {
    ($($theirs:literal => $ours:literal $(, $words:expr)?;)*) => { &[$(Row($theirs, $ours, rows!(@ $($words)?))),*] };
    (@) => { AS_IT_IS };
    (@ $words:expr) => { $words };
}

/// The type's name here, and its rows.
#[allow(clippy::too_many_lines)] // a table
pub fn rows(kind: &str) -> Option<(&'static str, &'static [Row])> {
    Some(match kind {
        "apikey" => ("api_key", rows! { "key" => "name"; "value" => "value"; "in" => "in", PLACE; }),
        "bearer" => ("bearer", rows! { "token" => "token"; }),
        "basic" => ("basic", rows! { "username" => "username"; "password" => "password"; }),
        "digest" => ("digest", rows! { "username" => "username"; "password" => "password"; }),
        "jwt" => (
            "jwt",
            rows! {
                "algorithm" => "algorithm";
                "secret" => "key";
                "isSecretBase64Encoded" => "key_encoding", &[("true", "base64"), ("false", "")];
                "privateKey" => "private_key";
                "payload" => "claims";
                "header" => "headers";
                "headers" => "headers";
                "addTokenTo" => "in", PLACE;
                "queryParamKey" => "name";
                "headerPrefix" => "prefix";
            },
        ),
        "oauth1" => (
            "oauth1",
            rows! {
                "consumerKey" => "consumer_key";
                "consumerSecret" => "consumer_secret";
                "token" => "token";
                "tokenSecret" => "token_secret";
                "signatureMethod" => "signature_method";
                "privateKey" => "private_key";
                "realm" => "realm";
                "includeBodyHash" => "body_hash";
                "version" => "version";
                "callback" => "callback";
                "verifier" => "verifier";
                "addParamsToHeader" => "in", &[("false", "query"), ("true", "")];
            },
        ),
        "oauth2" => ("oauth2", oauth2::ROWS),
        "hawk" => (
            "hawk",
            rows! {
                "authId" => "id";
                "authKey" => "key";
                "algorithm" => "algorithm";
                "extraData" => "ext";
                "app" => "app";
                "delegation" => "dlg";
                "includePayloadHash" => "payload_hash";
            },
        ),
        "awsv4" => (
            "aws_sigv4",
            rows! {
                "accessKey" => "access_key";
                "secretKey" => "secret_key";
                "sessionToken" => "session_token";
                "region" => "region";
                "service" => "service";
                "addAuthDataToQuery" => "in", &[("true", "query"), ("false", "")];
            },
        ),
        "ntlm" => (
            "ntlm",
            rows! { "username" => "username"; "password" => "password"; "domain" => "domain"; "workstation" => "workstation"; },
        ),
        "edgegrid" => (
            "akamai_edgegrid",
            rows! {
                "clientToken" => "client_token";
                "clientSecret" => "client_secret";
                "accessToken" => "access_token";
                "headersToSign" => "headers_to_sign";
                "maxBodySize" => "max_body";
            },
        ),
        "asap" => (
            "asap",
            rows! {
                "iss" => "issuer";
                "kid" => "key_id";
                "privateKey" => "private_key";
                "aud" => "audience";
                "sub" => "subject";
                "exp" => "lifetime";
                "alg" => "algorithm";
                "claims" => "claims";
            },
        ),
        _ => return None,
    })
}

/// Of a credential that was carried over: as it stands in the configuration, and what of a request it writes.
#[derive(Clone)]
pub struct Settings {
    /// `{ TYPE: { … } }`, on one line.
    pub text: String,
    /// Fields in lower case, parameters with `?` before them.
    pub writes: Vec<String>,
}

/// `None`, and a note why, when there is no such thing. `name`: of the credential.
pub fn settings(auth: &Auth<'_>, name: &str, texts: &mut Texts) -> Option<Settings> {
    let Some((scheme, rows)) = rows(auth.kind).and_then(|(kind, rows)| Some((auth::scheme(kind)?, rows))) else {
        texts.note(format!("`{name}` is of the auth type `{}`, which gatepass does not know", label(auth.kind)));
        return None;
    };
    if auth.kind == "oauth2" && oauth2::is_mac(auth, name, texts) {
        return None;
    }
    if auth.kind == "oauth2" && oauth2::is_token_only(auth, name, texts) {
        return Some(oauth2::token_only(auth, name, texts));
    }
    if auth.parameters().iter().all(|(_, value)| is_empty(value)) {
        texts.note(format!("`{name}` ({}) is empty", auth.kind));
        return None;
    }
    let mut maker = Maker::new(scheme, name, texts);
    for Row(theirs, ours, words) in rows {
        let Some(value) = auth.value(theirs) else { continue };
        if is_idle(auth, theirs) {
            maker.leave(theirs, value);
        } else {
            maker.carry(theirs, ours, words, value, auth);
        }
    }
    for (key, value) in auth.parameters() {
        if !rows.iter().any(|Row(theirs, ..)| *theirs == key) && !oauth2::is_read_apart(auth.kind, key) {
            maker.leave(key, value);
        }
    }
    finish(auth, scheme, maker)
}

/// What does not go parameter by parameter, and what must not be missing.
fn finish(auth: &Auth<'_>, scheme: &Scheme, mut maker: Maker<'_>) -> Option<Settings> {
    let name = maker.name.clone();
    match auth.kind {
        "oauth1" if auth.text("addParamsToHeader") == "false" => {
            maker.texts.note(format!("`{name}` (oauth1) went into the query, or into a form body; it now goes into the query"));
        }
        "oauth2" => oauth2::grant(auth, &mut maker)?,
        "awsv4" if !maker.has("region") || !maker.has("service") => {
            maker.texts.note(format!(
                "`{name}` (awsv4) leaves region or service out, where Postman takes us-east-1 and execute-api: gatepass takes them from the host"
            ));
        }
        _ => {}
    }
    maker.require(missing(auth));
    maker.told(auth.kind);
    if maker.broken {
        return None;
    }
    let text = format!("{{ {}: {{ {} }} }}", scheme.name, settings::joined(&maker.made));
    let query = maker.get("in") == Some("query");
    let field = maker.get("name").map(|name| name.trim_matches('"').to_owned());
    let writes = match (auth.kind, query) {
        ("apikey" | "jwt", true) => vec![format!("?{}", field.unwrap_or_else(|| "token".to_owned()))],
        ("apikey", false) => vec![field.unwrap_or_default().to_ascii_lowercase()],
        ("oauth2", true) => vec!["?access_token".to_owned()],
        ("oauth1", true) => vec!["?oauth_token".to_owned(), "?oauth_signature".to_owned()],
        ("awsv4", true) => {
            vec!["?X-Amz-Signature".to_owned(), "?X-Amz-Credential".to_owned(), "?X-Amz-Security-Token".to_owned()]
        }
        ("awsv4", false) => vec!["authorization".to_owned(), "x-amz-security-token".to_owned()],
        _ => vec!["authorization".to_owned()],
    };
    Some(Settings { text, writes })
}

/// Settings without which there is no credential, whatever was left empty.
fn missing(auth: &Auth<'_>) -> Vec<&'static str> {
    let hs = auth.text("algorithm").starts_with("HS") || auth.text("algorithm").is_empty();
    match auth.kind {
        "jwt" if hs => vec!["key"],
        "jwt" => vec!["private_key"],
        "oauth1" if auth.text("signatureMethod").starts_with("RSA") => vec!["private_key"],
        "asap" => vec!["key_id"],
        "awsv4" => vec!["access_key", "secret_key"],
        "edgegrid" => vec!["client_token", "client_secret", "access_token"],
        _ => Vec::new(),
    }
}

pub fn is_empty(value: &Value) -> bool {
    matches!(plain_text(value).trim(), "" | "false" | "[]" | "{}")
}

/// Does Postman keep it there without using it?
fn is_idle(auth: &Auth<'_>, key: &str) -> bool {
    let in_query = auth.text("addTokenTo").starts_with("query");
    match (auth.kind, key) {
        ("jwt", "secret" | "isSecretBase64Encoded") => {
            !auth.text("algorithm").starts_with("HS") && !auth.text("algorithm").is_empty()
        }
        ("jwt", "privateKey") => auth.text("algorithm").starts_with("HS") || auth.text("algorithm").is_empty(),
        ("jwt", "queryParamKey") => !in_query,
        ("jwt" | "oauth2", "headerPrefix") => in_query,
        ("oauth1", "consumerSecret") => auth.text("signatureMethod").starts_with("RSA"),
        ("oauth1", "privateKey") => !auth.text("signatureMethod").starts_with("RSA"),
        ("hawk", "delegation") => auth.text("app").is_empty(),
        ("oauth2", key) => oauth2::is_idle(auth, key),
        _ => false,
    }
}
