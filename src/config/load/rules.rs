//! Rules, and what is odd about them.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue, Method};

use super::super::meant::*;
use super::super::schema::{self, DANGER, HEADERS, QUERY, RULE, TLS};
use super::hosts;
use super::parts::{self, Names};
use crate::draft::header_name;
use crate::origin::Host;
use crate::pattern::{HostPattern, PathPattern, Ports};
use crate::settings::shown::forms;
use crate::settings::{Decode, Fields, Node, Place, Shape, Text, Value, nearest, quoted};
use crate::tls::read;
use crate::tls::settings::{Alpn, BundleSource, CertificateSource, Ocsp, TlsBackend, TlsSettings, TlsVersion};

pub fn new_rule(place: Place, index: usize) -> Rule {
    Rule {
        place,
        index,
        hosts: Vec::new(),
        ports: Ports::Default,
        schemes: Schemes::Https,
        paths: Vec::new(),
        methods: Vec::new(),
        clients: Vec::new(),
        auth: None,
        client_certificates: None,
        ca_bundle: None,
        on_existing_auth: None,
        token_endpoint: None,
        headers: Vec::new(),
        query: Vec::new(),
        connect_to: None,
        tls: TlsSettings::default(),
        accept_invalid_certs: None,
        via: None,
        action: None,
        cross_site: None,
        echo: None,
    }
}

pub fn read(decode: &mut Decode<'_>, node: &Node, names: &mut Names, rules: &mut Vec<Rule>) {
    let Value::List(items) = &node.value else {
        decode
            .report
            .error("rules-not-a-list", node.place, format!("`rules` is a list, not {}", node.kind()))
            .help("begin each rule with a dash, as in `- host: api.example.com`");
        return;
    };
    let mut known = schema::names(RULE);
    known.extend(names.auth_types.iter().copied());
    for item in items {
        if let Some(rule) = rule(decode, item, names, &known, rules.len()) {
            rules.push(rule);
        }
    }
}

fn rule(decode: &mut Decode<'_>, node: &Node, names: &Names, known: &[&str], index: usize) -> Option<Rule> {
    let fields = decode.fields(node, "rule", known)?;
    let mut rule = new_rule(node.place, index);
    match fields.get("host") {
        Some(node) => rule.hosts = hosts::hosts(decode, node),
        // What is but misspelt is told already.
        None if has_misspelt_host(node, known) => {}
        None => {
            decode
                .report
                .error("missing-key", fields.place, "this rule has no `host`")
                .help("add `host: NAME`, or `host: \"*\"` for every host");
        }
    }
    if let Some(node) = fields.get("port") {
        rule.ports = ports(decode, node).unwrap_or(Ports::Default);
    }
    conditions(decode, &fields, &mut rule);
    rule.auth = auth(decode, &fields, names);
    rule.client_certificates = fields.get("client_certificate").and_then(|node| certificates(decode, node, names));
    rule.ca_bundle = fields.get("ca_bundle").and_then(|node| bundle(decode, node, names));
    let words = [("replace", OnExisting::Replace), ("keep", OnExisting::Keep), ("reject", OnExisting::Reject)];
    rule.on_existing_auth =
        fields.get("on_existing_auth").and_then(|node| decode.choice(node, "word for `on_existing_auth`", &words));
    rule.token_endpoint = fields.get("token_endpoint").and_then(|node| token_endpoint(decode, node, &fields, names));
    if let Some(node) = fields.get("headers") {
        rule.headers = headers(decode, node);
    }
    if let Some(node) = fields.get("query") {
        rule.query = query(decode, node);
    }
    rule.connect_to = fields.get("connect_to").and_then(|node| parts::connect_to(decode, node));
    if let Some(node) = fields.get("tls") {
        rule.tls = tls(decode, node);
    }
    rule.accept_invalid_certs = fields.get("danger").and_then(|node| danger(decode, node));
    rule.via = fields.get("via").and_then(|node| parts::proxy(decode, node, names));
    let actions = [("allow", Action::Allow), ("deny", Action::Deny), ("tunnel", Action::Tunnel)];
    rule.action = fields.get("action").and_then(|node| decode.choice(node, "action", &actions));
    // What is right for giving is wrong for refusing: a `deny` that names no port or scheme is for all of them.
    if rule.action == Some(Action::Deny) {
        if fields.get("port").is_none() {
            rule.ports = Ports::Any;
        }
        if fields.get("scheme").is_none() {
            rule.schemes = Schemes::Any;
        }
    }
    let words = [("mask", Echo::Mask), ("pass", Echo::Pass)];
    rule.echo = fields.get("echo").and_then(|node| decode.choice(node, "word for `echo`", &words));
    rule.cross_site = fields.get("cross_site").and_then(|node| parts::cross_site(decode, node));
    if rule.action == Some(Action::Tunnel) && (!rule.paths.is_empty() || !rule.methods.is_empty()) {
        decode
            .report
            .error("tunnel-by-path", node.place, "a tunnel cannot depend on path or method, which are not seen in it")
            .help("leave `path` and `methods` out, or use another action");
    }
    Some(rule)
}

/// The name of a credential; only with a path, or the whole host would be answered so.
fn token_endpoint(decode: &mut Decode<'_>, node: &Node, fields: &Fields<'_>, names: &Names) -> Option<Arc<str>> {
    let name = decode.string(node)?;
    named(decode, names, &names.credentials, "credential", &name, node.place)?;
    if fields.get("path").is_none() {
        decode
            .report
            .error("missing-key", node.place, "a rule with `token_endpoint` needs `path`")
            .help("add the path of the token endpoint, as in `path: /oauth2/token`");
        return None;
    }
    Some(name.into())
}

pub fn ports(decode: &mut Decode<'_>, node: &Node) -> Option<Ports> {
    let mut all: Option<Ports> = None;
    for item in decode.list(node) {
        let text = match &item.value {
            Value::Number(text) => text.clone(),
            _ => decode.string(item)?,
        };
        match Ports::parse(&text) {
            Ok(ports) => all = Some(all.map_or(ports.clone(), |all| all.and(ports))),
            Err(why) => {
                decode.report.error("wrong-port", item.place, why);
            }
        }
    }
    all
}

fn conditions(decode: &mut Decode<'_>, fields: &Fields<'_>, rule: &mut Rule) {
    let schemes = [("https", Schemes::Https), ("http", Schemes::Http), ("any", Schemes::Any)];
    if let Some(scheme) = fields.get("scheme").and_then(|node| decode.choice(node, "scheme", &schemes)) {
        rule.schemes = scheme;
    }
    for (text, place) in fields.get("path").and_then(|node| decode.plain_strings(node)).unwrap_or_default() {
        match PathPattern::parse(&text) {
            Ok(path) => rule.paths.push(path),
            Err(why) => {
                decode.report.error("wrong-path", place, why).help("write it as `/v1/**`");
            }
        }
    }
    for (text, place) in fields.get("methods").and_then(|node| decode.plain_strings(node)).unwrap_or_default() {
        match Method::from_bytes(text.to_ascii_uppercase().as_bytes()) {
            Ok(method) => rule.methods.push(method),
            Err(_) => {
                let message = format!("{} is not a method", quoted(&text, Shape::Plain, "this"));
                decode.report.error("wrong-method", place, message).help("write one as GET, several as a list: [GET, POST]");
            }
        }
    }
    for (text, place) in fields.get("clients").and_then(|node| decode.plain_strings(node)).unwrap_or_default() {
        let address = text.contains('/') || text.parse::<std::net::IpAddr>().is_ok();
        if address {
            rule.clients.extend(parts::cidr(decode, &text, place).map(Client::Cidr));
        } else {
            rule.clients.push(Client::User(text));
        }
    }
}

/// `auth:`, or one TYPE standing directly in the rule.
fn auth(decode: &mut Decode<'_>, fields: &Fields<'_>, names: &Names) -> Option<Vec<Arc<Credential>>> {
    // `headers` in a rule is its own key, not the type of that name.
    let own = schema::names(RULE);
    let is_type = |name: &str| names.auth_types.contains(&name) && !own.contains(&name);
    let direct: Vec<_> = fields.entries().iter().filter(|(key, _)| is_type(&key.text)).collect();
    if let [(first, _), (second, _), ..] = direct[..] {
        decode
            .report
            .error("two-types", second.place, format!("this rule has two auth types, `{}` and `{}`", first.text, second.text))
            .help("list both under `auth:`, as in `auth: [{ TYPE: … }, { TYPE: … }]`");
        return None;
    }
    if let ([(key, _)], Some(node)) = (&direct[..], fields.get("auth")) {
        decode
            .report
            .error("two-types", node.place, format!("this rule has both `auth` and `{}`", key.text))
            .help("keep one of them");
        return None;
    }
    if let [(key, settings)] = direct[..] {
        return Some(vec![Arc::new(Credential {
            name: None,
            place: key.place,
            kind: key.text.clone(),
            settings: settings.clone(),
        })]);
    }
    let node = fields.get("auth")?;
    if node.as_text() == Some("none") {
        return Some(Vec::new());
    }
    let items = decode.list(node);
    let read: Vec<_> = items.iter().map(|item| one_auth(decode, item, names)).collect();
    read.into_iter().collect()
}

fn one_auth(decode: &mut Decode<'_>, node: &Node, names: &Names) -> Option<Arc<Credential>> {
    if node.as_map().is_some() {
        return names.credential(decode, node, None);
    }
    let name = decode.string(node)?;
    named(decode, names, &names.credentials, "credential", &name, node.place)
}

/// Mistakes that leave a whole file out.
const UNREAD: [&str; 4] = ["yaml", "file", "unsafe-file", "include-circle"];

/// What a name stands for; a dangling one is reported with the nearest.
fn named<T>(
    decode: &mut Decode<'_>,
    names: &Names,
    all: &std::collections::BTreeMap<String, Arc<T>>,
    what: &str,
    name: &str,
    place: Place,
) -> Option<Arc<T>> {
    if let Some(found) = all.get(name) {
        return Some(found.clone());
    }
    // It is there, but has a mistake, which is told; or it may be in a file that could not be read.
    if names.is_broken(what, name) || decode.report.diagnostics.iter().any(|told| UNREAD.contains(&told.code)) {
        return None;
    }
    let defined: Vec<&str> = all.keys().map(String::as_str).collect();
    let help = match (defined.is_empty(), nearest(name, defined.iter().copied())) {
        (true, _) => format!("no {what} is defined"),
        (false, Some(near)) => format!("defined: {}; did you mean `{near}`?", defined.join(", ")),
        (false, None) => format!("defined: {}", defined.join(", ")),
    };
    // What resembles no name may be a credential itself.
    let message = match forms::is_key_word(name) || defined.iter().any(|defined| forms::is_misspelt(name, defined)) {
        true => format!("no {what} named `{name}`"),
        false => format!("no {what} of this name"),
    };
    decode.report.error("dangling-name", place, message).help(help);
    None
}

pub fn certificates(decode: &mut Decode<'_>, node: &Node, names: &Names) -> Option<Vec<Arc<CertificateSource>>> {
    if node.as_text() == Some("none") {
        return Some(Vec::new());
    }
    let items = decode.list(node);
    let mut all = Vec::new();
    for item in items {
        all.push(match item.as_map() {
            Some(_) => read::certificate(decode, item, None),
            None => {
                let name = decode.string(item)?;
                named(decode, names, &names.certificates, "client certificate", &name, item.place)
            }
        });
    }
    all.into_iter().collect()
}

pub fn bundle(decode: &mut Decode<'_>, node: &Node, names: &Names) -> Option<Arc<BundleSource>> {
    match node.as_text() {
        // A text is a name, or plainly a file.
        Some(text) if !names.bundles.contains_key(text) && !text.contains(['/', '.', '$', '\n']) => {
            named(decode, names, &names.bundles, "CA bundle", text, node.place)
        }
        Some(text) if names.bundles.contains_key(text) => names.bundles.get(text).cloned(),
        _ => read::bundle(decode, node, None),
    }
}

fn headers(decode: &mut Decode<'_>, node: &Node) -> Vec<HeaderEdit> {
    let mut edits = Vec::new();
    let Some(fields) = decode.fields(node, "headers", &schema::names(HEADERS)) else { return edits };
    if let Some(node) = fields.get("remove") {
        for (text, place) in decode.strings(node).unwrap_or_default() {
            edits.extend(header_name(decode, &text, place).map(HeaderEdit::Remove));
        }
    }
    if let Some(node) = fields.get("set") {
        for (key, node) in decode.map(node, "`set`").unwrap_or_default() {
            let (Some(name), Some(text)) = (header_name(decode, &key.text, key.place), decode.text(node)) else { continue };
            if let Text::Known(secret) = &text
                && HeaderValue::from_str(secret.expose()).is_err()
            {
                decode
                    .report
                    .error(
                        "header-value",
                        node.place,
                        format!("the value of header `{name}` holds characters that a header cannot carry"),
                    )
                    .help("take out line breaks and control characters");
                continue;
            }
            let secret = decode.is_from_elsewhere(node) || names_secret(name.as_str());
            edits.push(HeaderEdit::Set(name, text, node.place, secret));
        }
    }
    edits
}

/// Is it the name of something that is secret wherever it stands?
fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "key", "token", "secret", "password", "cookie", "session"].iter().any(|word| name.contains(word))
}

fn query(decode: &mut Decode<'_>, node: &Node) -> Vec<QueryEdit> {
    let mut edits = Vec::new();
    let Some(fields) = decode.fields(node, "query", &schema::names(QUERY)) else { return edits };
    if let Some(node) = fields.get("remove") {
        edits.extend(decode.strings(node).unwrap_or_default().into_iter().map(|(text, _)| QueryEdit::Remove(text)));
    }
    if let Some(node) = fields.get("set") {
        for (key, node) in decode.map(node, "`set`").unwrap_or_default() {
            let secret = decode.is_from_elsewhere(node) || names_secret(&key.text);
            edits.extend(decode.text(node).map(|text| QueryEdit::Set(key.text.clone(), text, secret)));
        }
    }
    edits
}

fn tls(decode: &mut Decode<'_>, node: &Node) -> TlsSettings {
    let mut settings = TlsSettings::default();
    let Some(fields) = decode.fields(node, "tls", &schema::names(TLS)) else { return settings };
    if let Some(node) = fields.get("server_name")
        && let Some(text) = decode.string(node)
    {
        match Host::parse_written(&text) {
            Ok(host) => settings.server_name = Some(host),
            Err(why) => {
                decode.report.error("server-name", node.place, why.to_string());
            }
        }
    }
    settings.spiffe_id = fields.get("spiffe_id").and_then(|node| read::spiffe_ids(decode, node));
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    settings.min_version = fields.get("min_version").and_then(|node| decode.choice(node, "TLS version", &versions));
    settings.max_version = fields.get("max_version").and_then(|node| decode.choice(node, "TLS version", &versions));
    if let (Some(min), Some(max)) = (settings.min_version, settings.max_version)
        && min > max
    {
        decode.report.error("tls-versions", fields.place, "`min_version` is above `max_version`");
    }
    settings.pins = fields.get("pins").and_then(|node| pins(decode, node));
    if let Some(node) = fields.get("crl") {
        let items = decode.list(node);
        settings.crl = items.iter().map(|item| decode.trusted_path(item).map(|path| (path, item.place))).collect();
    }
    settings.resumption = fields.get("resumption").and_then(|node| decode.boolean(node));
    let protocols = [("h2", Alpn::H2), ("http/1.1", Alpn::Http11)];
    if let Some(node) = fields.get("alpn") {
        let items = decode.list(node);
        settings.alpn = items.iter().map(|item| decode.choice(item, "protocol", &protocols)).collect();
    }
    let staples = [("check", Ocsp::Check), ("require", Ocsp::Require)];
    settings.ocsp = fields.get("ocsp").and_then(|node| decode.choice(node, "OCSP setting", &staples));
    let ends = [("required", false), ("lenient", true)];
    settings.lenient_end = fields.get("close_notify").and_then(|node| decode.choice(node, "close_notify setting", &ends));
    let backends = [("rustls", TlsBackend::Rustls), ("openssl", TlsBackend::Openssl)];
    if let Some(node) = fields.get("backend") {
        settings.backend = decode.choice(node, "TLS backend", &backends);
        if settings.backend == Some(TlsBackend::Openssl) && !cfg!(feature = "openssl") {
            decode
                .report
                .error("not-in-this-build", node.place, "the OpenSSL backend is not in this build")
                .help("use the container image, or build with `cargo build --release --features openssl`");
        }
    }
    settings
}

fn pins(decode: &mut Decode<'_>, node: &Node) -> Option<Vec<[u8; 32]>> {
    let mut pins = Vec::new();
    for (text, place) in decode.strings(node)? {
        let bytes = text.strip_prefix("sha256/").and_then(|rest| BASE64_STANDARD.decode(rest).ok());
        match bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
            Some(pin) => pins.push(pin),
            None => {
                decode.report.error("pin", place, "a pin is `sha256/` and 44 characters of base64").help("openssl x509 -in CERT -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64");
            }
        }
    }
    Some(pins)
}

fn danger(decode: &mut Decode<'_>, node: &Node) -> Option<bool> {
    let fields = decode.fields(node, "danger", &schema::names(DANGER))?;
    let node = fields.get("accept_invalid_certs")?;
    let said = decode.boolean(node)?;
    if said {
        decode
            .report
            .warning(
                "danger",
                node.place,
                "certificates are not verified for these hosts: whoever is in between can read the credentials",
            )
            .help("name the server's CA or its very certificate in `ca_bundle:` instead");
    }
    Some(said)
}

/// Is there an unknown key for which `host` is proposed?
fn has_misspelt_host(node: &Node, known: &[&str]) -> bool {
    let Value::Map(entries) = &node.value else { return false };
    let mut unknown = entries.iter().map(|(key, _)| key.text.as_str()).filter(|key| !known.contains(key));
    unknown.any(|key| nearest(key, known.iter().copied()) == Some("host"))
}

/// What is allowed but likely not meant.
pub fn warn(decode: &mut Decode<'_>, rules: &[Rule]) {
    for rule in rules {
        let adds = rule.auth.as_ref().is_some_and(|auth| !auth.is_empty())
            || rule.headers.iter().any(|edit| matches!(edit, HeaderEdit::Set(..)));
        if rule.schemes != Schemes::Https && adds && !rule.hosts.iter().all(is_loopback) {
            decode
                .report
                .warning("plain-http", rule.place, "this rule sends its credential over plain http, readable on the way")
                .help("leave `scheme` out to send it over https only");
        }
        if rule.hosts.iter().any(is_loopback) && rule.hosts.len() == 1 {
            decode
                .report
                .warning("loopback-host", rule.place, "Go, Ruby, Java, Chromium and Firefox never send loopback hosts to a proxy")
                .help("give the server another name and say where it is with `connect_to:`, for those clients");
        }
        if rule.connect_to.is_some() && rule.hosts.iter().any(|host| matches!(host, HostPattern::Any)) {
            decode.report.warning("connect-to-all", rule.place, "this rule sends every host to one address");
        }
    }
    shadows(decode, rules);
}

fn is_loopback(host: &HostPattern) -> bool {
    match host.exact() {
        Some(Host::Ip(ip)) => ip.is_loopback(),
        Some(Host::Name(name)) => &**name == "localhost",
        None => false,
    }
}

/// A rule that says only what a later rule for exactly the same requests says again can never win.
fn shadows(decode: &mut Decode<'_>, rules: &[Rule]) {
    let mut later: std::collections::HashMap<String, Vec<&Rule>> = std::collections::HashMap::new();
    for rule in rules.iter().rev().filter(|rule| !rule.hosts.is_empty()) {
        let key = rule.requests();
        let same = later.entry(key).or_default();
        if same.iter().any(|over| outdoes(over, rule)) {
            decode
                .report
                .warning(
                    "shadowed",
                    rule.place,
                    "this rule can never win: a later rule for the same requests sets everything it sets",
                )
                .help("take it away, or give it a `path:` or another `host:`");
        }
        same.push(rule);
    }
}

fn outdoes(over: &Rule, under: &Rule) -> bool {
    let covers = |under: bool, over: bool| !under || over;
    let names = |rule: &Rule| -> Vec<HeaderName> {
        rule.headers
            .iter()
            .map(|edit| match edit {
                HeaderEdit::Set(name, ..) | HeaderEdit::Remove(name) => name.clone(),
            })
            .collect()
    };
    let over_names = names(over);
    covers(under.auth.is_some(), over.auth.is_some())
        && covers(under.client_certificates.is_some(), over.client_certificates.is_some())
        && covers(under.ca_bundle.is_some(), over.ca_bundle.is_some())
        && covers(under.action.is_some(), over.action.is_some())
        && covers(under.connect_to.is_some(), over.connect_to.is_some())
        && covers(under.via.is_some(), over.via.is_some())
        && covers(under.cross_site.is_some(), over.cross_site.is_some())
        && covers(under.echo.is_some(), over.echo.is_some())
        && covers(under.on_existing_auth.is_some(), over.on_existing_auth.is_some())
        && covers(under.token_endpoint.is_some(), over.token_endpoint.is_some())
        && covers(under.accept_invalid_certs.is_some(), over.accept_invalid_certs.is_some())
        && under.tls == TlsSettings::default()
        && under.query.is_empty()
        && names(under).iter().all(|name| over_names.contains(name))
}
