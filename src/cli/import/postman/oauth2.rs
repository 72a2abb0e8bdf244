//! OAuth 2, whose parameters mean different things by grant.

use serde_json::Value;

use super::auth::{Auth, Row, Settings};
use super::secrecy::{Level, is_telling, looks_secret};
use super::settings::Maker;
use super::texts::{Texts, is_off, plain_text, quoted};
use super::urls;
use crate::origin::{Host, Scheme};

const PLACE: &[(&str, &str)] = &[("queryParam", "query"), ("queryParams", "query")];

pub const ROWS: &[Row] = &[
    Row("accessTokenUrl", "token_url", &[]),
    Row("authUrl", "auth_url", &[]),
    Row("clientId", "client_id", &[]),
    Row("clientSecret", "client_secret", &[]),
    Row("client_authentication", "client_auth", &[("body", "post")]),
    Row("scope", "scopes", &[]),
    Row("audience", "audience", &[]),
    Row("resource", "resource", &[]),
    Row("username", "username", &[]),
    Row("password", "password", &[]),
    Row("redirect_uri", "redirect_uri", &[]),
    Row("addTokenTo", "in", PLACE),
    Row("headerPrefix", "prefix", &[]),
];

/// Parameters that [`grant`] and [`is_token_only`] look at.
pub fn is_read_apart(kind: &str, key: &str) -> bool {
    kind == "oauth2"
        && matches!(key, "grant_type" | "tokenType" | "tokenRequestParams" | "authRequestParams" | "tokenName" | "useBrowser")
}

/// The grant's name here; `None` for one that gatepass has not.
fn named(grant: &str) -> Option<&'static str> {
    Some(match grant {
        "client_credentials" => "client_credentials",
        "password_credentials" | "password" => "password",
        "" | "authorization_code" | "authorization_code_with_pkce" | "implicit" => "authorization_code",
        _ => return None,
    })
}

fn grant_type(auth: &Auth<'_>, texts: &Texts) -> String {
    texts.resolve(&auth.text("grant_type")).unwrap_or_default()
}

/// Does the grant make no use of it?
pub fn is_idle(auth: &Auth<'_>, key: &str) -> bool {
    let grant = named(&auth.text("grant_type"));
    match key {
        "username" | "password" => grant != Some("password"),
        "authUrl" => grant != Some("authorization_code"),
        "redirect_uri" => grant != Some("authorization_code") || !is_fit_for_return(&auth.text("redirect_uri")),
        // Without a secret there is nothing to send so.
        "client_authentication" => auth.text("clientSecret").is_empty() && grant != Some("client_credentials"),
        _ => false,
    }
}

/// Back to this machine by http, or to an https address: nothing else can be a `redirect_uri` here.
fn is_fit_for_return(url: &str) -> bool {
    urls::origin(url).is_some_and(|origin| match (origin.scheme, &origin.host) {
        (Scheme::Https, _) => true,
        (Scheme::Http, Host::Ip(ip)) => ip.is_loopback(),
        (Scheme::Http, Host::Name(name)) => &**name == "localhost",
    })
}

/// Is there not enough to get a token with? Then the token itself must be brought.
pub fn is_token_only(auth: &Auth<'_>, name: &str, texts: &mut Texts) -> bool {
    let grant_type = grant_type(auth, texts);
    let Some(grant) = named(&grant_type) else {
        texts.note(format!("`{name}` uses the grant `{}`, which gatepass cannot import", super::texts::label(&grant_type)));
        return true;
    };
    let is_url = |key: &str| {
        let resolved = texts.resolve(&auth.text(key)).unwrap_or_default();
        urls::after_scheme(&resolved) > 0 && urls::origin(&urls::without_userinfo(&resolved).0).is_some()
    };
    let (token_url, auth_url) = (is_url("accessTokenUrl"), is_url("authUrl"));
    if token_url && (auth_url || grant != "authorization_code") {
        return false;
    }
    let written = !auth.text("accessTokenUrl").is_empty() || !auth.text("authUrl").is_empty();
    if grant_type == "implicit" {
        texts.note(format!(
            "`{name}` uses the implicit grant, which OAuth 2.1 took away, and names no token URL: its token must be brought"
        ));
    } else if written {
        texts.note(format!(
            "the grant of `{name}` (oauth2): there is no usable `accessTokenUrl`, or no `authUrl`; its token must be brought"
        ));
    } else if auth.text("accessToken").is_empty() {
        texts.note(format!("`{name}` (oauth2) was exported without its settings; Postman keeps them in the app"));
    }
    true
}

/// OAuth 2 of which only the token can be had.
pub fn token_only(auth: &Auth<'_>, name: &str, texts: &mut Texts) -> Settings {
    let mut left: Vec<&str> =
        auth.parameters().into_iter().filter(|(_, value)| !super::auth::is_empty(value)).map(|(key, _)| key).collect();
    left.retain(|key| !matches!(*key, "accessToken" | "addTokenTo" | "headerPrefix" | "tokenType" | "tokenName" | "grant_type"));
    if !left.is_empty() {
        let left: Vec<String> = left.iter().map(|key| format!("`{key}`")).collect();
        texts.note(format!("{} of `{name}` (oauth2)", left.join(", ")));
    }
    let value = quoted(&texts.secret(&auth.text("accessToken"), name, "token"));
    if auth.text("addTokenTo").starts_with("query") {
        let text = format!("{{ api_key: {{ name: access_token, value: {value}, in: query }} }}");
        return Settings { text, writes: vec!["?access_token".to_owned()] };
    }
    let prefix =
        auth.value("headerPrefix").map(|prefix| plain_text(prefix).trim().to_owned()).filter(|prefix| prefix != "Bearer");
    let prefix = prefix.map(|prefix| format!(", prefix: {}", quoted(&texts.plain(&prefix, Level::Loose, name, "prefix"))));
    let text = format!("{{ bearer: {{ token: {value}{} }} }}", prefix.unwrap_or_default());
    Settings { text, writes: vec!["authorization".to_owned()] }
}

/// Postman sends no token of this type.
pub fn is_mac(auth: &Auth<'_>, name: &str, texts: &mut Texts) -> bool {
    let mac = auth.text("tokenType").eq_ignore_ascii_case("mac");
    if mac {
        texts.note(format!("`{name}` (oauth2): `tokenType` is MAC, which neither Postman nor gatepass can send"));
    }
    mac
}

/// Grant, further parameters, and what the grant cannot do without. `None`: it is not carried over, which is told.
pub fn grant(auth: &Auth<'_>, maker: &mut Maker<'_>) -> Option<()> {
    let name = maker.name.clone();
    let grant_type = grant_type(auth, maker.texts);
    let grant = named(&grant_type)?;
    if grant_type == "implicit" {
        maker.texts.note(format!("`{name}` uses the implicit grant, which OAuth 2.1 took away; it became authorization_code"));
    }
    let kind = auth.text("tokenType");
    if !matches!(kind.to_ascii_lowercase().as_str(), "" | "bearer") {
        maker.leave("tokenType", &Value::from(kind));
    }
    if auth.text("useBrowser") == "true" && grant == "authorization_code" {
        maker.texts.note(format!(
            "`useBrowser` of `{name}` (oauth2): Postman's own page is not needed; register {} with the server",
            if maker.has("redirect_uri") { "the `redirect_uri`" } else { "http://127.0.0.1/callback" }
        ));
    }
    maker.made.push(("grant", grant.to_owned()));
    maker.require(match grant {
        "password" => vec!["username", "password"],
        // Without a secret this grant asks for nothing; exports leave secrets out.
        "client_credentials" => vec!["client_id", "client_secret"],
        _ => vec!["client_id"],
    });
    let carried = parameters(auth, "tokenRequestParams", maker);
    if !carried.is_empty() {
        maker.made.push(("token_params", format!("{{ {} }}", carried.join(", "))));
    }
    let carried = if grant == "authorization_code" { parameters(auth, "authRequestParams", maker) } else { Vec::new() };
    if !carried.is_empty() {
        maker.made.push(("auth_params", format!("{{ {} }}", carried.join(", "))));
    } else if let Some(value) = auth.value("authRequestParams").filter(|_| grant != "authorization_code") {
        maker.leave("authRequestParams", value);
    }
    Some(())
}

/// A list of parameters, each as `name: value`.
fn parameters(auth: &Auth<'_>, list: &str, maker: &mut Maker<'_>) -> Vec<String> {
    let name = maker.name.clone();
    let (mut carried, mut seen): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for parameter in auth.value(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let text = |key: &str| parameter.get(key).map(plain_text).unwrap_or_default();
        let (key, value, place) = (text("key"), text("value"), text("send_as"));
        let shown = super::texts::label(&key);
        if key.is_empty() {
            continue;
        }
        if is_off(parameter) {
            maker.texts.list("parameters of token requests that are switched off", &key);
            continue;
        }
        let elsewhere = list == "tokenRequestParams" && matches!(place.as_str(), "request_header" | "request_url");
        if elsewhere || list == "authRequestParams" && matches!(place.as_str(), "request_header" | "request_body") {
            maker.texts.note(format!("`{shown}` of `{name}` goes into the request's {}", place.trim_start_matches("request_")));
            continue;
        }
        if seen.contains(&key) || looks_secret(&key) || key.contains("{{") {
            maker.texts.note(format!("`{shown}` in `{list}` of `{name}`, which stands there twice or is no plain name"));
            continue;
        }
        let open = matches!(key.as_str(), "audience" | "resource" | "scope" | "tenant" | "requested_token_use");
        let value = match () {
            () if open => maker.texts.plain(&value, Level::Loose, &name, &key),
            () if list == "authRequestParams" && !is_telling(&key) => maker.texts.plain(&value, Level::Strict, &name, &key),
            () => maker.texts.secret(&value, &name, &key),
        };
        carried.push(format!("{}: {}", quoted(&key), quoted(&value)));
        seen.push(key);
    }
    carried
}
