//! Everything of a configuration but its rules.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::super::meant::*;
use super::super::schema::{self, ADMIN, CA, EGRESS, LOG, PROXY};
use super::listeners::listen_address;
use super::rules::{self, new_rule};
use crate::address::Cidr;
use crate::auth::NEGOTIATE;
use crate::initiator::{CrossSite, PageOrigin};
use crate::observe::{Log, LogFormat};
use crate::origin::{Host, parse_authority};
use crate::settings::shown::{forms, quoted_key};
use crate::settings::{Decode, Fields, Node, Place, Shape, nearest, quoted};
use crate::tls::read;
use crate::tls::settings::{BundleSource, CaSource, CertificateSource};
use crate::upstream::settings::{ConnectTo, EgressDeny, ProxyAuth, UpstreamProxy, Via, ViaScheme};

/// What names stand for, and inline forms of the same things.
pub struct Names {
    pub credentials: BTreeMap<String, Arc<Credential>>,
    pub certificates: BTreeMap<String, Arc<CertificateSource>>,
    pub bundles: BTreeMap<String, Arc<BundleSource>>,
    pub auth_types: Vec<&'static str>,
    /// Kind and name of what is defined with a mistake.
    broken: Vec<(&'static str, String)>,
    /// `client_certificates` with a `host:` of their own.
    hosted: Vec<(Node, Arc<CertificateSource>)>,
}

impl Names {
    pub fn read(decode: &mut Decode<'_>, top: &Fields<'_>, auth_types: Vec<&'static str>) -> Self {
        let mut names = Self {
            credentials: BTreeMap::new(),
            certificates: BTreeMap::new(),
            bundles: BTreeMap::new(),
            auth_types,
            broken: Vec::new(),
            hosted: Vec::new(),
        };
        for (name, node) in entries(decode, top, "credentials") {
            match names.credential(decode, node, Some(name)) {
                Some(credential) => {
                    names.credentials.insert(name.to_owned(), credential);
                }
                None => names.broken.push(("credential", name.to_owned())),
            }
        }
        for (name, node) in entries(decode, top, "client_certificates") {
            let Some(certificate) = read::certificate(decode, node, Some(name)) else {
                names.broken.push(("client certificate", name.to_owned()));
                continue;
            };
            if node.get("host").is_some() {
                names.hosted.push((node.clone(), certificate.clone()));
            }
            names.certificates.insert(name.to_owned(), certificate);
        }
        for (name, node) in entries(decode, top, "ca_bundles") {
            match read::bundle(decode, node, Some(name)) {
                Some(bundle) => {
                    names.bundles.insert(name.to_owned(), bundle);
                }
                None => names.broken.push(("CA bundle", name.to_owned())),
            }
        }
        names
    }

    pub fn is_broken(&self, what: &str, name: &str) -> bool {
        self.broken.iter().any(|(kind, broken)| *kind == what && broken == name)
    }

    /// Certificates that are rules of their own, as Postman's settings page has them.
    pub fn certificate_rules(&mut self, decode: &mut Decode<'_>) -> Vec<Rule> {
        let mut made = Vec::new();
        for (node, certificate) in std::mem::take(&mut self.hosted) {
            let Some(host) = node.get("host") else { continue };
            let mut rule = new_rule(node.place, made.len());
            rule.hosts = super::hosts::hosts(decode, host);
            rule.ports = node.get("port").and_then(|node| rules::ports(decode, node)).unwrap_or(crate::pattern::Ports::Default);
            rule.client_certificates = Some(vec![certificate]);
            made.push(rule);
        }
        made
    }

    /// `{ TYPE: settings }`, exactly one type.
    pub fn credential(&self, decode: &mut Decode<'_>, node: &Node, name: Option<&str>) -> Option<Arc<Credential>> {
        let entries = decode.map(node, "a credential")?;
        for (key, _) in entries {
            if !self.auth_types.contains(&key.text.as_str()) {
                let shown = quoted_key(&key.text);
                let message = match nearest(&key.text, self.auth_types.iter().copied()) {
                    Some(near) if !shown.is_empty() || forms::is_misspelt(&key.text, near) => {
                        format!("unknown auth type `{}`; did you mean `{near}`?", key.text)
                    }
                    _ => format!("unknown auth type{shown}"),
                };
                decode.report.error("unknown-type", key.place, message).help(format!("types: {}", self.auth_types.join(", ")));
                return None;
            }
        }
        match entries {
            [(key, settings)] => {
                let name = name.map(str::to_owned);
                Some(Arc::new(Credential { name, place: key.place, kind: key.text.clone(), settings: settings.clone() }))
            }
            [] => {
                decode
                    .report
                    .error("no-type", node.place, "this credential has no type")
                    .help("write it as `{ bearer: … }` or another type");
                None
            }
            [_, (second, _), ..] => {
                decode
                    .report
                    .error("two-types", second.place, "a credential has exactly one type")
                    .help("make it two credentials, and list both in the rule's `auth:`");
                None
            }
        }
    }
}

fn entries<'n>(decode: &mut Decode<'_>, top: &Fields<'n>, key: &str) -> Vec<(&'n str, &'n Node)> {
    let Some(node) = top.get(key) else { return Vec::new() };
    let entries = decode.map(node, &format!("`{key}`")).unwrap_or_default();
    entries.iter().map(|(key, node)| (key.text.as_str(), node)).collect()
}

pub fn unmatched(decode: &mut Decode<'_>, top: &Fields<'_>) -> Unmatched {
    let words = [("tunnel", Unmatched::Tunnel), ("deny", Unmatched::Deny), ("intercept", Unmatched::Intercept)];
    top.get("unmatched").and_then(|node| decode.choice(node, "word for `unmatched`", &words)).unwrap_or_default()
}

/// `env`, `none`, a URL, or a map.
pub fn proxy(decode: &mut Decode<'_>, node: &Node, names: &Names) -> Option<UpstreamProxy> {
    if node.as_map().is_some() {
        let fields = decode.fields(node, "upstream proxy", &schema::names(PROXY))?;
        if let Some(pac) = fields.get("pac") {
            return super::pac::read(decode, &fields, pac, names);
        }
        let url = decode.required(&fields, "an upstream proxy", "url")?;
        let text = decode.string(url)?;
        let mut via = via(decode, &text, url.place)?;
        proxy_settings(decode, &fields, &mut via, names)?;
        if let Some(node) = fields.get("proxies") {
            decode
                .report
                .error("proxies", node.place, "`proxies` says which proxies of a PAC script may be told the user")
                .help("leave it out beside `url`");
        }
        return Some(UpstreamProxy::To(Arc::new(via)));
    }
    match decode.string(node)?.as_str() {
        "env" => Some(UpstreamProxy::Env),
        "none" => Some(UpstreamProxy::None),
        url => via(decode, url, node.place).map(|via| UpstreamProxy::To(Arc::new(via))),
    }
}

/// The user and how it is proved to the proxy, TLS toward it, and exceptions.
pub fn proxy_settings(decode: &mut Decode<'_>, fields: &Fields<'_>, via: &mut Via, names: &Names) -> Option<()> {
    let words = [
        ("basic", ProxyAuth::Basic),
        ("digest", ProxyAuth::Digest),
        ("ntlm", ProxyAuth::Ntlm),
        ("negotiate", ProxyAuth::Negotiate),
    ];
    if let Some(node) = fields.get("username") {
        via.username = Some(decode.string(node)?);
    }
    if let Some(node) = fields.get("password") {
        via.password = Some(decode.text(node)?);
    }
    if let Some(node) = fields.get("no_proxy") {
        via.no_proxy = decode
            .strings(node)?
            .into_iter()
            .flat_map(|(text, _)| text.split(',').map(|entry| entry.trim().to_owned()).collect::<Vec<_>>())
            .collect();
    }
    if let Some(node) = fields.get("domain") {
        via.domain = Some(decode.string(node)?);
    }
    if let Some(node) = fields.get("auth") {
        via.auth = Some(decode.choice(node, "word for `auth` of a proxy", &words)?);
        if via.scheme == ViaScheme::Socks5 {
            decode
                .report
                .error("proxy-auth", node.place, "a SOCKS 5 proxy takes a user name and password and nothing else")
                .help("leave `auth` out");
        } else if via.auth != Some(ProxyAuth::Negotiate) && via.username.is_none() {
            decode.report.error("missing-key", node.place, "this way of authenticating needs `username` and `password`");
        }
    }
    if let Some(node) = fields.get("auth").filter(|_| via.auth == Some(ProxyAuth::Negotiate) && !cfg!(feature = "negotiate")) {
        decode.report.error("not-in-this-build", node.place, "Kerberos is not in this build").help(NEGOTIATE);
    }
    if let Some(node) = fields.get("ca_bundle") {
        via.ca_bundle = Some(rules::bundle(decode, node, names)?);
    }
    if let Some(node) = fields.get("client_certificate") {
        via.client_certificates = rules::certificates(decode, node, names)?;
    }
    for key in ["ca_bundle", "client_certificate"] {
        if let Some(node) = fields.get(key).filter(|_| via.scheme != ViaScheme::Https) {
            let message = format!("`{key}` is for TLS toward the proxy, and this proxy is spoken to in clear");
            decode.report.error("proxy-tls", node.place, message).help("write its URL as https://HOST:PORT if it speaks TLS");
        }
    }
    Some(())
}

fn via(decode: &mut Decode<'_>, url: &str, place: Place) -> Option<Via> {
    let via = Via::parse(url);
    if via.is_none() {
        decode
            .report
            .error("wrong-url", place, "an upstream proxy is `env`, `none`, or a URL")
            .help("write it as http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT");
    }
    via
}

/// `resolve:`, host names to an address or a list of them.
pub fn resolve(decode: &mut Decode<'_>, top: &Fields<'_>) -> BTreeMap<Host, Vec<IpAddr>> {
    let mut fixed = BTreeMap::new();
    let entries = top.get("resolve").and_then(|node| decode.map(node, "`resolve`")).unwrap_or_default();
    for (key, node) in entries {
        let host = match Host::parse_written(&key.text) {
            Ok(host @ Host::Name(_)) => host,
            Ok(Host::Ip(_)) => {
                decode.report.error(
                    "resolve",
                    key.place,
                    format!("{} is an address already", quoted(&key.text, Shape::Host, "this")),
                );
                continue;
            }
            Err(why) => {
                decode
                    .report
                    .error("resolve", key.place, format!("{} is not a host name: {why}", quoted(&key.text, Shape::Host, "this")))
                    .help("`resolve` takes whole names; for patterns, set `connect_to` in a rule");
                continue;
            }
        };
        let mut addresses = Vec::new();
        for (text, place) in decode.strings(node).unwrap_or_default() {
            match text.trim_matches(['[', ']']).parse() {
                Ok(ip) => addresses.push(ip),
                Err(_) => {
                    decode
                        .report
                        .error("resolve", place, format!("{} is not an IP address", quoted(&text, Shape::Host, "this")))
                        .help("to go to another name or port, set `connect_to` in a rule");
                }
            }
        }
        if addresses.is_empty() && !decode.report.has_errors() {
            decode.report.error("resolve", node.place, format!("no address is given for `{}`", key.text));
        }
        fixed.insert(host, addresses);
    }
    fixed
}

pub fn ca(decode: &mut Decode<'_>, top: &Fields<'_>, in_memory: bool) -> CaSource {
    if in_memory {
        return CaSource::Memory;
    }
    let made = |directory, constrain| CaSource::Dir { directory, constrain };
    let default = made(data_dir(decode), None);
    let Some(node) = top.get("ca") else { return default };
    let Some(fields) = decode.fields(node, "ca", &schema::names(CA)) else { return default };
    let constrain = fields.get("constrain").filter(|node| decode.boolean(node) == Some(true)).map(|node| node.place);
    match (fields.get("dir"), fields.get("cert"), fields.get("key")) {
        (None, None, None) => made(data_dir(decode), constrain),
        (Some(dir), None, None) => decode.path(dir).map_or(default, |directory| made(directory, constrain)),
        (None, Some(_), Some(_)) if constrain.is_some() => {
            decode
                .report
                .error("ca", constrain, "`constrain` speaks of a CA that gatepass makes")
                .help("a CA of your own is limited by whoever issues it; gatepass heeds its name constraints");
            default
        }
        (None, Some(cert), Some(key)) => match (decode.trusted_path(cert), decode.trusted_path(key)) {
            (Some(cert), Some(key)) => CaSource::Files { cert, key, place: node.place },
            _ => default,
        },
        _ => {
            decode.report.error("ca", node.place, "`ca` is either `dir`, or `cert` and `key`");
            default
        }
    }
}

/// `$GATEPASS_HOME`, `$XDG_DATA_HOME/gatepass`, or `~/.local/share/gatepass`.
fn data_dir(decode: &Decode<'_>) -> PathBuf {
    own_dir(decode, "XDG_DATA_HOME", ".local/share")
}

/// `$GATEPASS_HOME`, `$XDG_STATE_HOME/gatepass`, or `~/.local/state/gatepass`.
pub fn state_dir(decode: &Decode<'_>) -> PathBuf {
    own_dir(decode, "XDG_STATE_HOME", ".local/state")
}

fn own_dir(decode: &Decode<'_>, variable: &str, in_home: &str) -> PathBuf {
    let env = |name: &str| decode.scope().env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    env("GATEPASS_HOME")
        .or_else(|| env(variable).map(|dir| dir.join("gatepass")))
        .or_else(|| env("HOME").map(|home| home.join(in_home).join("gatepass")))
        .unwrap_or_else(|| PathBuf::from(".gatepass"))
}

pub fn admin(decode: &mut Decode<'_>, top: &Fields<'_>) -> Option<SocketAddr> {
    let fields = decode.fields(top.get("admin")?, "admin", &schema::names(ADMIN))?;
    let node = decode.required(&fields, "`admin`", "listen")?;
    match listen_address(decode, node)? {
        ListenAddress::Tcp(address) => Some(address),
        _ => {
            decode.report.error("admin", node.place, "`admin` listens on an address").help("write it as 127.0.0.1:9118");
            None
        }
    }
}

pub fn log(decode: &mut Decode<'_>, top: &Fields<'_>) -> Log {
    let mut log = Log { format: LogFormat::Text, level: "info".to_owned() };
    let Some(node) = top.get("log") else { return log };
    let Some(fields) = decode.fields(node, "log", &schema::names(LOG)) else { return log };
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    if let Some(format) = fields.get("format").and_then(|node| decode.choice(node, "log format", &formats)) {
        log.format = format;
    }
    if let Some(level) = fields.get("level").and_then(|node| decode.string(node)) {
        log.level = level;
    }
    log
}

pub fn egress(decode: &mut Decode<'_>, top: &Fields<'_>) -> Vec<EgressDeny> {
    let Some(node) = top.get("egress") else { return Vec::new() };
    let Some(fields) = decode.fields(node, "egress", &schema::names(EGRESS)) else { return Vec::new() };
    let Some(list) = fields.get("deny").and_then(|node| decode.strings(node)) else { return Vec::new() };
    let mut deny = Vec::new();
    for (text, place) in list {
        deny.extend(match text.as_str() {
            "private" => Some(EgressDeny::Private),
            "link_local" => Some(EgressDeny::LinkLocal),
            "loopback" => Some(EgressDeny::Loopback),
            _ if !text.contains(|c: char| c.is_ascii_digit() || c == ':') => {
                let message = format!("{} is no kind of address", quoted(&text, Shape::Host, "this"));
                decode
                    .report
                    .error("wrong-range", place, message)
                    .help("write private, link_local, loopback, or a range as 10.0.0.0/8");
                None
            }
            _ => cidr(decode, &text, place).map(EgressDeny::Cidr),
        });
    }
    deny
}

pub fn cidr(decode: &mut Decode<'_>, text: &str, place: Place) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let parsed = address.parse::<IpAddr>().ok().and_then(|address| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = if prefix.is_empty() { most } else { prefix.parse().ok().filter(|n| *n <= most)? };
        Some(Cidr { address, prefix })
    });
    if parsed.is_none() {
        decode
            .report
            .error("wrong-range", place, format!("{} is not an address range", quoted(text, Shape::Host, "this")))
            .help("write it as 10.0.0.0/8 or 192.0.2.1");
    }
    parsed
}

/// `HOST`, `HOST:PORT`, `[IPV6]:PORT`.
pub fn connect_to(decode: &mut Decode<'_>, node: &Node) -> Option<ConnectTo> {
    let text = decode.plain_string(node)?;
    let parsed = text.parse::<IpAddr>().map(|ip| (Host::Ip(ip), None)).or_else(|_| parse_authority(&text));
    match parsed {
        Ok((host, port)) => Some(ConnectTo { host, port }),
        Err(_) if text.contains("://") => {
            let message = "`connect_to` takes a host or address with an optional port, not a URL";
            decode
                .report
                .error("connect-to", node.place, message)
                .help("write it as HOST:PORT; TLS is spoken as with the rule's host");
            None
        }
        Err(why) => {
            let message = format!("`connect_to` takes a host or address with an optional port: {why}");
            decode.report.error("connect-to", node.place, message).help("write it as HOST, HOST:PORT or [IPV6]:PORT");
            None
        }
    }
}

/// `refuse`, `allow`, or origins of pages.
pub fn cross_site(decode: &mut Decode<'_>, node: &Node) -> Option<CrossSite> {
    match node.as_text() {
        Some("refuse") => return Some(CrossSite::Refuse),
        Some("allow") => return Some(CrossSite::Allow),
        _ => {}
    }
    let texts = decode.strings(node)?;
    let mut origins = Vec::new();
    for (text, place) in &texts {
        match PageOrigin::parse(text) {
            Some(origin) => origins.push(origin),
            None => {
                let help = match text.as_str() {
                    "null" => "`null` is what every page says that has no origin of its own; `cross_site: allow` lets all pages",
                    "*" => "write `cross_site: allow` for every page",
                    _ => {
                        "write refuse, allow, or a list of origins as in [https://app.example.com]: scheme, host and port, no path"
                    }
                };
                decode.report.error("cross-site", *place, format!("`{text}` is not the origin of a page")).help(help);
            }
        }
    }
    (origins.len() == texts.len()).then_some(CrossSite::Origins(origins))
}
