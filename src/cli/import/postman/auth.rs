//! Postman's auth types, and the settings that they become.

use serde_json::Value;

use super::texts::{Texts, plain_text, quoted, references};

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

    /// A parameter: v2.1 has a list of keys and values, v2.0 a map.
    fn value(&self, key: &str) -> Option<&'a Value> {
        match self.json.get(self.kind)? {
            Value::Array(list) => list.iter().find(|entry| entry.get("key").and_then(Value::as_str) == Some(key))?.get("value"),
            map => map.get(key),
        }
    }

    fn text(&self, key: &str) -> String {
        self.value(key).map(plain_text).unwrap_or_default()
    }

    /// What it says, to compare.
    pub fn written(&self) -> String {
        format!("{} {}", self.kind, self.json.get(self.kind).unwrap_or(&Value::Null))
    }

    fn is_on(&self, key: &str) -> bool {
        self.text(key) == "true"
    }
}

/// How a parameter is carried over.
enum As {
    Open,
    Secret,
    Bool,
    /// A list of words, by commas or spaces.
    Words,
    Number,
    Seconds,
    /// A JSON object, as a text or as it is.
    Json,
    /// One of these; others are left out.
    Choice(&'static [(&'static str, &'static str)]),
}

struct Row(&'static str, &'static str, As);

const PLACE: As = As::Choice(&[("query", "query"), ("queryParam", "query"), ("queryParams", "query")]);

/// Parameters that gatepass has no setting for, where they hold something.
fn left_out(kind: &str) -> &'static [&'static str] {
    match kind {
        "oauth1" => &["callback", "verifier", "timestamp", "nonce", "addEmptyParamsToSign"],
        "hawk" => &["user", "nonce", "timestamp"],
        "edgegrid" => &["nonce", "timestamp", "baseURL"],
        "oauth2" => &["state", "redirect_uri", "code_verifier", "refreshTokenUrl", "authRequestParams", "refreshRequestParams"],
        "digest" => &["opaque", "clientNonce"],
        _ => &[],
    }
}

fn rows(kind: &str) -> Option<(&'static str, &'static [Row])> {
    use As::{Bool, Choice, Json, Number, Open, Seconds, Secret, Words};
    Some(match kind {
        "apikey" => ("api_key", &[Row("key", "name", Open), Row("value", "value", Secret), Row("in", "in", PLACE)]),
        "bearer" => ("bearer", &[Row("token", "token", Secret)]),
        "basic" => ("basic", &[Row("username", "username", Open), Row("password", "password", Secret)]),
        "digest" => ("digest", &[Row("username", "username", Open), Row("password", "password", Secret)]),
        "jwt" => (
            "jwt",
            &[
                Row("algorithm", "algorithm", Open),
                Row("secret", "key", Secret),
                Row("privateKey", "private_key", Secret),
                Row("payload", "claims", Json),
                Row("header", "headers", Json),
                Row("headers", "headers", Json),
                Row("addTokenTo", "in", PLACE),
                Row("queryParamKey", "name", Open),
                Row("headerPrefix", "prefix", Open),
            ],
        ),
        "oauth1" => (
            "oauth1",
            &[
                Row("consumerKey", "consumer_key", Open),
                Row("consumerSecret", "consumer_secret", Secret),
                Row("token", "token", Secret),
                Row("tokenSecret", "token_secret", Secret),
                Row("signatureMethod", "signature_method", Open),
                Row("privateKey", "private_key", Secret),
                Row("realm", "realm", Open),
                Row("includeBodyHash", "body_hash", Bool),
            ],
        ),
        "oauth2" => (
            "oauth2",
            &[
                Row("accessTokenUrl", "token_url", Open),
                Row("authUrl", "auth_url", Open),
                Row("clientId", "client_id", Open),
                Row("clientSecret", "client_secret", Secret),
                Row("client_authentication", "client_auth", Choice(&[("body", "post")])),
                Row("scope", "scopes", Words),
                Row("audience", "audience", Open),
                Row("resource", "resource", Open),
                Row("username", "username", Open),
                Row("password", "password", Secret),
                Row("addTokenTo", "in", PLACE),
                Row("headerPrefix", "prefix", Open),
            ],
        ),
        "hawk" => (
            "hawk",
            &[
                Row("authId", "id", Open),
                Row("authKey", "key", Secret),
                Row("algorithm", "algorithm", Open),
                Row("extraData", "ext", Open),
                Row("app", "app", Open),
                Row("delegation", "dlg", Open),
                Row("includePayloadHash", "payload_hash", Bool),
            ],
        ),
        "awsv4" => (
            "aws_sigv4",
            &[
                Row("accessKey", "access_key", Secret),
                Row("secretKey", "secret_key", Secret),
                Row("sessionToken", "session_token", Secret),
                Row("region", "region", Open),
                Row("service", "service", Open),
                Row("addAuthDataToQuery", "in", Choice(&[("true", "query")])),
            ],
        ),
        "ntlm" => (
            "ntlm",
            &[
                Row("username", "username", Open),
                Row("password", "password", Secret),
                Row("domain", "domain", Open),
                Row("workstation", "workstation", Open),
            ],
        ),
        "edgegrid" => (
            "akamai_edgegrid",
            &[
                Row("clientToken", "client_token", Secret),
                Row("clientSecret", "client_secret", Secret),
                Row("accessToken", "access_token", Secret),
                Row("headersToSign", "headers_to_sign", Words),
                Row("maxBodySize", "max_body", Number),
            ],
        ),
        "asap" => (
            "asap",
            &[
                Row("iss", "issuer", Open),
                Row("kid", "key_id", Open),
                Row("privateKey", "private_key", Secret),
                Row("aud", "audience", Open),
                Row("sub", "subject", Open),
                Row("exp", "lifetime", Seconds),
                Row("alg", "algorithm", Open),
                Row("claims", "claims", Json),
            ],
        ),
        _ => return None,
    })
}

/// `{ TYPE: { … } }` on one line; `None` with a note when there is no such thing. `name`: of the credential.
pub fn settings(auth: &Auth<'_>, name: &str, texts: &mut Texts) -> Option<String> {
    let Some((kind, rows)) = rows(auth.kind) else {
        texts.note(format!("`{name}` is of the auth type {}, which gatepass does not know", auth.kind));
        return None;
    };
    if auth.kind == "oauth2" && auth.text("accessTokenUrl").is_empty() && auth.text("authUrl").is_empty() {
        return token_only(auth, name, texts);
    }
    let mut made: Vec<(&str, String)> = Vec::new();
    for Row(theirs, ours, carried) in rows {
        if is_idle(auth, theirs) || made.iter().any(|(known, _)| known == ours) {
            continue;
        }
        let Some(value) = auth.value(theirs) else { continue };
        if let Some(text) = carry(value, carried, name, ours, texts) {
            made.push((ours, text));
        }
    }
    made.extend(extra(auth, name, texts));
    for key in left_out(auth.kind) {
        if auth.value(key).is_some_and(|value| !matches!(plain_text(value).as_str(), "" | "false" | "[]")) {
            texts.note(format!("`{key}` of `{name}` ({})", auth.kind));
        }
    }
    if made.is_empty() {
        texts.note(format!("`{name}` ({}) is empty", auth.kind));
        return None;
    }
    let settings: Vec<String> = made.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
    Some(format!("{{ {kind}: {{ {} }} }}", settings.join(", ")))
}

/// Does Postman keep it there without using it?
fn is_idle(auth: &Auth<'_>, key: &str) -> bool {
    match (auth.kind, key) {
        ("jwt", "secret") => !auth.text("algorithm").starts_with("HS") && !auth.text("algorithm").is_empty(),
        ("jwt", "privateKey") => auth.text("algorithm").starts_with("HS") || auth.text("algorithm").is_empty(),
        ("jwt", "queryParamKey") => !auth.text("addTokenTo").starts_with("query"),
        ("jwt" | "oauth2", "headerPrefix") => {
            auth.text("headerPrefix") == "Bearer" || auth.text("addTokenTo").starts_with("query")
        }
        ("oauth1", "consumerSecret") => auth.text("signatureMethod").starts_with("RSA"),
        ("oauth1", "privateKey") => !auth.text("signatureMethod").starts_with("RSA"),
        ("oauth2", "username" | "password") => auth.text("grant_type") != "password_credentials",
        ("oauth2", "authUrl") => !is_interactive(auth),
        ("oauth2", "accessTokenUrl") => false,
        _ => false,
    }
}

fn is_interactive(auth: &Auth<'_>) -> bool {
    matches!(auth.text("grant_type").as_str(), "" | "authorization_code" | "authorization_code_with_pkce" | "implicit")
}

fn carry(value: &Value, carried: &As, name: &str, ours: &str, texts: &mut Texts) -> Option<String> {
    let text = plain_text(value);
    if text.is_empty() {
        return None;
    }
    let what = format!("`{ours}` of `{name}`");
    Some(match carried {
        As::Open => quoted(&texts.open(&text, &what)),
        As::Secret => quoted(&texts.secret(&text, name, ours)),
        As::Bool => (text == "true").then(|| "true".to_owned())?,
        As::Words => {
            let text = texts.open(&text, &what);
            let words = text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty()).map(quoted);
            format!("[{}]", words.collect::<Vec<_>>().join(", "))
        }
        As::Number => text.parse::<u64>().ok().filter(|n| *n > 0)?.to_string(),
        As::Seconds => match text.parse::<u64>() {
            Ok(seconds) => format!("{seconds}s"),
            Err(_) => quoted(&format!("{}s", texts.open(&text, &what))),
        },
        As::Json => object(value, &what, texts)?,
        As::Choice(words) => words.iter().find(|(theirs, _)| *theirs == text).map(|(_, ours)| (*ours).to_owned())?,
    })
}

/// A JSON object in flow style, its texts carried over one by one.
fn object(value: &Value, what: &str, texts: &mut Texts) -> Option<String> {
    let read = match value {
        Value::String(text) if text.trim().is_empty() => return None,
        // Variables may stand where JSON has no place for them: `"exp": {{later}}`.
        Value::String(text) => serde_json::from_str(text).ok(),
        other => Some(other.clone()),
    };
    let Some(Value::Object(map)) = read else {
        texts.note(format!("{what} is not a JSON object before its variables are replaced"));
        return None;
    };
    if map.is_empty() {
        return None;
    }
    Some(flow(&Value::Object(map), what, texts))
}

fn flow(value: &Value, what: &str, texts: &mut Texts) -> String {
    match value {
        Value::String(text) => Value::from(texts.open(text, what)).to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(|item| flow(item, what, texts)).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let members = map.iter().map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), flow(value, what, texts)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// What does not go parameter by parameter.
fn extra(auth: &Auth<'_>, name: &str, texts: &mut Texts) -> Vec<(&'static str, String)> {
    match auth.kind {
        "oauth1" => match auth.value("addParamsToHeader").map(plain_text).as_deref() {
            Some("false") => {
                texts.note(format!("`{name}` (oauth1) went into the query, or into a form body; it now goes into the query"));
                vec![("in", "query".to_owned())]
            }
            _ => Vec::new(),
        },
        "jwt" if auth.is_on("isSecretBase64Encoded") => vec![("key_encoding", "base64".to_owned())],
        "oauth2" => grant(auth, name, texts),
        _ => Vec::new(),
    }
}

fn grant(auth: &Auth<'_>, name: &str, texts: &mut Texts) -> Vec<(&'static str, String)> {
    let grant = match auth.text("grant_type").as_str() {
        "client_credentials" => "client_credentials",
        "password_credentials" => "password",
        "device_code" => "device_code",
        "implicit" => {
            texts.note(format!("`{name}` uses the implicit grant, which OAuth 2.1 took away; it became authorization_code"));
            "authorization_code"
        }
        _ => "authorization_code",
    };
    let mut made = vec![("grant", grant.to_owned())];
    let parameters = auth.value("tokenRequestParams").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut carried = Vec::new();
    for parameter in parameters {
        let text = |key: &str| parameter.get(key).map(plain_text).unwrap_or_default();
        let (key, value, place) = (text("key"), text("value"), text("send_as"));
        if key.is_empty() || text("enabled") == "false" {
            continue;
        }
        if place == "request_header" || place == "request_url" {
            texts.note(format!("`{key}` of `{name}` goes into the token request's {}", place.trim_start_matches("request_")));
            continue;
        }
        let what = format!("`{key}` of `{name}`");
        let open = matches!(key.as_str(), "audience" | "resource" | "scope" | "tenant" | "requested_token_use");
        let value = if open { texts.open(&value, &what) } else { texts.secret(&value, name, &key) };
        carried.push(format!("{}: {}", quoted(&key), quoted(&value)));
    }
    if !carried.is_empty() {
        made.push(("token_params", format!("{{ {} }}", carried.join(", "))));
    }
    made
}

/// OAuth 2 of which only the token was exported.
fn token_only(auth: &Auth<'_>, name: &str, texts: &mut Texts) -> Option<String> {
    let token = auth.text("accessToken");
    if token.is_empty() {
        texts.note(format!("`{name}` (oauth2) was exported without its settings; Postman keeps them in the app"));
    }
    let value = texts.secret(&token, name, "token");
    let query = auth.text("addTokenTo").starts_with("query");
    if query {
        return Some(format!("{{ api_key: {{ name: access_token, value: {}, in: query }} }}", quoted(&value)));
    }
    let prefix = auth.text("headerPrefix");
    let prefix = if prefix.is_empty() || prefix.trim() == "Bearer" || !references(&prefix).is_empty() {
        String::new()
    } else {
        format!(", prefix: {}", quoted(prefix.trim()))
    };
    Some(format!("{{ bearer: {{ token: {}{prefix} }} }}", quoted(&value)))
}
