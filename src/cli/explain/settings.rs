//! What a rule sets, key by key, as it may be shown: names, not secrets.

use serde_json::{Value, json};

use crate::config::{Action, Echo, HeaderEdit, OnExisting, QueryEdit, Rule};
use crate::gate::LiveRule;
use crate::settings::Text;
use crate::tls::settings::{Alpn, Ocsp, TlsBackend, TlsSettings, TlsVersion};
use crate::upstream::settings::{UpstreamProxy, Via, ViaScheme};

/// One key of a rule, as `tls.min_version` or `headers.x-team`. The later rule that has the same key wins.
pub struct Setting {
    pub key: String,
    pub value: Value,
}

/// Every field of a rule is named here, so that a new one cannot be left out unnoticed.
pub fn of(live: &LiveRule) -> Vec<Setting> {
    let Rule {
        place: _,
        index: _,
        hosts: _,
        ports: _,
        schemes: _,
        paths: _,
        methods: _,
        clients: _,
        auth: _,
        client_certificates: _,
        ca_bundle,
        on_existing_auth,
        token_endpoint,
        headers,
        query,
        connect_to,
        tls,
        accept_invalid_certs,
        via,
        action,
        cross_site,
        echo,
    } = &*live.rule;
    let mut all = Vec::new();
    let mut set = |key: &str, value: Option<Value>| all.extend(value.map(|value| Setting { key: key.to_owned(), value }));
    set("action", action.map(|action| json!(action_word(action))));
    set("auth", live.auth.as_ref().map(|auth| auth.iter().map(|bound| credential(bound)).collect()));
    set("on_existing_auth", on_existing_auth.map(|word| json!(on_existing(word))));
    set("token_endpoint", token_endpoint.as_ref().map(|name| json!(&**name)));
    set(
        "client_certificate",
        live.identities.as_ref().map(|all| all.iter().map(|identity| json!(identity.details().name())).collect()),
    );
    set(
        "ca_bundle",
        ca_bundle.as_ref().map(|source| match (&source.name, &source.spiffe) {
            (Some(name), _) => json!(name),
            (None, Some((socket, _))) => json!({ "spiffe": socket }),
            (None, None) => {
                let files: Vec<String> = source.files.iter().map(|(file, _)| file.name()).collect();
                json!({ "files": files, "system_roots": source.system_roots })
            }
        }),
    );
    set(
        "connect_to",
        connect_to.as_ref().map(|to| json!(to.port.map_or(to.host.to_string(), |port| format!("{}:{port}", to.host)))),
    );
    set("via", via.as_ref().map(|via| json!(proxy(via))));
    set("cross_site", cross_site.as_ref().map(|said| json!(said.to_string())));
    set("echo", echo.map(|word| json!(if word == Echo::Pass { "pass" } else { "mask" })));
    set("danger.accept_invalid_certs", accept_invalid_certs.map(Value::from));
    for edit in headers {
        let (name, value) = match edit {
            HeaderEdit::Set(name, text, ..) => (name, masked(text)),
            HeaderEdit::Remove(name) => (name, Value::Null),
        };
        set(&format!("headers.{name}"), Some(value));
    }
    for edit in query {
        let (name, value) = match edit {
            QueryEdit::Set(name, text, _) => (name, masked(text)),
            QueryEdit::Remove(name) => (name, Value::Null),
        };
        set(&format!("query.{name}"), Some(value));
    }
    all.extend(of_tls(tls));
    all
}

fn of_tls(tls: &TlsSettings) -> Vec<Setting> {
    let TlsSettings { server_name, spiffe_id, min_version, max_version, pins, crl, resumption, alpn, backend, ocsp, lenient_end } =
        tls;
    let version = |version: TlsVersion| match version {
        TlsVersion::V1_2 => json!("1.2"),
        TlsVersion::V1_3 => json!("1.3"),
    };
    let protocol = |alpn: &Alpn| match alpn {
        Alpn::H2 => json!("h2"),
        Alpn::Http11 => json!("http/1.1"),
    };
    let pin = |pin: &[u8; 32]| json!(format!("sha256/{}", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pin)));
    let said = [
        ("server_name", server_name.as_ref().map(|name| json!(name.to_string()))),
        ("spiffe_id", spiffe_id.as_ref().map(|ids| ids.iter().map(|id| json!(id.to_string())).collect())),
        ("min_version", min_version.map(version)),
        ("max_version", max_version.map(version)),
        ("pins", pins.as_ref().map(|pins| pins.iter().map(pin).collect())),
        ("crl", crl.as_ref().map(|files| files.iter().map(|(file, _)| json!(file)).collect())),
        ("resumption", resumption.map(Value::from)),
        ("alpn", alpn.as_ref().map(|all| all.iter().map(protocol).collect())),
        ("backend", backend.map(|backend| json!(if backend == TlsBackend::Openssl { "openssl" } else { "rustls" }))),
        ("close_notify", lenient_end.map(|lenient| json!(if lenient { "lenient" } else { "required" }))),
        ("ocsp", ocsp.map(|ocsp| json!(if ocsp == Ocsp::Require { "require" } else { "check" }))),
    ];
    said.into_iter().filter_map(|(key, value)| Some(Setting { key: format!("tls.{key}"), value: value? })).collect()
}

/// Its type, and its name if it has one.
pub fn credential(bound: &crate::gate::BoundAuthorizer) -> Value {
    let name = (*bound.label != *bound.kind).then_some(&*bound.label);
    json!({ "type": bound.kind, "name": name })
}

fn masked(text: &Text) -> Value {
    match text {
        Text::Known(_) => json!("******"),
        Text::Command(_) => json!("from a command"),
    }
}

fn proxy(proxy: &UpstreamProxy) -> String {
    match proxy {
        UpstreamProxy::Env => "env".to_owned(),
        UpstreamProxy::None => "none".to_owned(),
        UpstreamProxy::Pac(source) => format!("PAC script {}", source.from),
        UpstreamProxy::To(via) => {
            let Via { scheme, host, port, .. } = &**via;
            let scheme = match scheme {
                ViaScheme::Http => "http",
                ViaScheme::Https => "https",
                ViaScheme::Socks5 => "socks5",
            };
            format!("{scheme}://{host}:{port}")
        }
    }
}

pub fn action_word(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Tunnel => "tunnel",
    }
}

pub fn on_existing(word: OnExisting) -> &'static str {
    match word {
        OnExisting::Replace => "replace",
        OnExisting::Keep => "keep",
        OnExisting::Reject => "reject",
    }
}

/// A value on one line for people.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "removed".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => match (fields.get("type"), fields.get("name")) {
            (Some(Value::String(kind)), Some(Value::String(name))) => format!("{kind} `{name}`"),
            (Some(Value::String(kind)), _) => kind.clone(),
            _ => {
                let parts = fields.iter().map(|(key, value)| format!("{key} {}", text(value)));
                parts.collect::<Vec<_>>().join(", ")
            }
        },
        other => other.to_string(),
    }
}
