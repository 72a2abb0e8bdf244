//! Where gatepass listens, and who may call there.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::super::meant::*;
use super::super::schema::{self, ACCESS, LISTENER, LISTENER_TLS};
use super::Request;
use super::hosts::hosts;
use super::parts::{self, cidr};
use crate::initiator::CrossSite;
use crate::origin::{Host, Origin, Scheme, parse_authority};
use crate::settings::{Decode, Fields, Node, Place, Shape, Value, nearest, quoted};
use crate::tls::settings::ListenerTls;
use crate::upstream::settings::{UpstreamProxy, Via};

pub fn listeners(decode: &mut Decode<'_>, top: &Fields<'_>, request: &Request) -> Vec<Listener> {
    let forward = |place, address| Listener::forward(place, address);
    let mut found = Vec::new();
    if let Some(node) = top.get("listen")
        && let Some(address) = listen_address(decode, node)
    {
        found.push(forward(node.place, address));
    }
    if let Some(node) = top.get("listeners") {
        for item in decode.list(node) {
            found.extend(listener(decode, item));
        }
    }
    if let Some(text) = &request.listen {
        match parse_listen(text) {
            Ok(address) => {
                // Who may call, and its certificate, stay as they are written.
                match found.iter_mut().find(|listener| listener.mode == Mode::Forward) {
                    Some(first) => first.address = address,
                    None => found.insert(0, forward(top.place, address)),
                }
            }
            Err(why) => {
                decode.report.error("listen", None, format!("--listen {text}: {why}"));
            }
        }
    }
    if let Some(only) = &request.instead {
        found = vec![only.clone()];
    }
    if found.is_empty() {
        found.push(forward(top.place, ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 8118)))));
    }
    for at in 0..found.len() {
        found[at].nth = found[..at].iter().filter(|earlier| earlier.address == found[at].address).count();
        refuse_open(decode, &found[at]);
        if let Some(earlier) = found[..at].iter().find(|earlier| meet(&earlier.address, &found[at].address)) {
            let same = earlier.address == found[at].address;
            let message =
                if same { "two listeners have this address" } else { "another listener has this port on every address" };
            decode.report.error("listen-twice", found[at].place, message).help("give each a port of its own");
        }
    }
    found
}

/// A shell in which the proxy variables already name gatepass is where many start it anew.
pub fn refuse_own_proxy(decode: &mut Decode<'_>, listeners: &[Listener], proxy: &UpstreamProxy, place: Option<Place>) {
    let ours = |via: &Via| {
        let local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
        listeners.iter().any(|listener| match (&listener.address, &via.host) {
            (ListenAddress::Tcp(own), _) if own.port() != via.port || own.port() == 0 => false,
            (ListenAddress::Tcp(own), Host::Ip(ip)) => own.ip() == *ip || local(own.ip()) && local(*ip),
            (ListenAddress::Tcp(own), Host::Name(name)) => local(own.ip()) && &**name == "localhost",
            _ => false,
        })
    };
    match proxy {
        UpstreamProxy::Env => {
            let names = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
            let env = &decode.scope().env;
            let of = |name: &&str| env.get(*name).and_then(|url| Via::parse(url)).is_some_and(|via| ours(&via));
            if let Some(name) = names.into_iter().find(|name| of(name)) {
                let message =
                    format!("{name} names gatepass itself as its way out, and every request to the outside would be refused");
                decode.report.warning("own-proxy", place, message).help(format!(
                    "start gatepass without it (`env -u {name} gatepass run`), or set `upstream_proxy: none`; it is for the clients"
                ));
            }
        }
        UpstreamProxy::To(via) if ours(via.as_ref()) => {
            decode
                .report
                .error("own-proxy", place, "`upstream_proxy` names gatepass itself, and every request would be refused")
                .help("name the proxy that stands beyond gatepass, or set it to `none`");
        }
        _ => {}
    }
}

/// Cannot both be had.
fn meet(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => {
            let wide = a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified());
            a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || wide)
        }
        (a, b) => a == b,
    }
}

fn refuse_open(decode: &mut Decode<'_>, listener: &Listener) {
    let ListenAddress::Tcp(address) = &listener.address else { return };
    if !address.ip().is_loopback() && !listener.is_guarded() {
        let message = format!("{address} can be reached from other machines, and nothing says who may call");
        decode.report.error("open-listener", listener.place, message).help(
            "listen on 127.0.0.1, or say who may call with `access: { users: … }` or `access: { cidrs: … }` in `listeners:`",
        );
    }
}

/// A rule for a caller that no listener can tell from others never applies. Certificates of callers may have any name, and
/// user ids are known to sockets and processes of this machine.
pub fn unknown_callers(decode: &mut Decode<'_>, rules: &[Rule], listeners: &[Listener]) {
    if listeners.iter().any(|listener| listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())) {
        return;
    }
    let known: Vec<&str> = listeners
        .iter()
        .filter_map(|listener| listener.access.as_ref())
        .flat_map(|access| access.users.keys())
        .map(String::as_str)
        .collect();
    for rule in rules {
        for client in &rule.clients {
            let Client::User(name) = client else { continue };
            if known.contains(&name.as_str()) || name.starts_with("uid:") {
                continue;
            }
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `{name}` to `access: {{ users: … }}` of a listener"),
            };
            let message = format!("no listener knows a caller `{name}`, so this rule is not for anyone of that name");
            decode.report.warning("unknown-caller", rule.place, message).help(help);
        }
    }
}

fn listener(decode: &mut Decode<'_>, node: &Node) -> Option<Listener> {
    let fields = decode.fields(node, "listener", &schema::names(LISTENER))?;
    let address = decode.required(&fields, "a listener", "listen").and_then(|node| listen_address(decode, node));
    let upstream = fields.get("upstream").and_then(|node| reverse(decode, node));
    let words = [("forward", 0), ("reverse", 1), ("transparent", 2)];
    let mode = match fields.get("mode").map_or(Some(0), |node| decode.choice(node, "mode", &words)) {
        Some(1) => match (upstream, fields.get("upstream")) {
            (Some(origin), _) => Some(Mode::Reverse(origin)),
            (None, Some(_)) => None,
            (None, None) => {
                decode
                    .report
                    .error("missing-key", fields.place, "a listener of mode reverse needs `upstream`")
                    .help("add `upstream: https://HOST`");
                None
            }
        },
        Some(2) => Some(Mode::Transparent),
        Some(_) => Some(Mode::Forward),
        None => None,
    };
    let tls = fields.get("tls").and_then(|node| listener_tls(decode, node));
    let access = fields.get("access").and_then(|node| access(decode, node));
    let proxy_protocol = fields.get("proxy_protocol").and_then(|node| proxy_protocol(decode, node));
    let hosts = fields.get("hosts").map(|node| hosts(decode, node)).unwrap_or_default();
    let cross_site = fields.get("cross_site").map_or(Some(CrossSite::Refuse), |node| parts::cross_site(decode, node))?;
    let listener =
        Listener { place: node.place, address: address?, nth: 0, mode: mode?, tls, access, proxy_protocol, hosts, cross_site };
    refuse_contradictions(decode, &fields, &listener);
    let anyone = listener.proxy_protocol.as_ref().is_some_and(|settings| settings.from.is_empty());
    if anyone && listener.access.as_ref().is_some_and(|access| !access.cidrs.is_empty()) {
        let place = fields.get("proxy_protocol").map_or(fields.place, |node| node.place);
        let message =
            "whoever connects may name any address in a PROXY header, so `cidrs` goes by who connects, not by what is named";
        decode
            .report
            .warning("proxy-protocol", place, message)
            .help("name the load balancers, as in `proxy_protocol: { from: [10.0.0.0/8] }`");
    }
    Some(listener)
}

/// Settings that mean nothing together, which their writer would rather know.
fn refuse_contradictions(decode: &mut Decode<'_>, fields: &Fields<'_>, listener: &Listener) {
    let unix = matches!(listener.address, ListenAddress::Unix(_));
    let access = listener.access.as_ref();
    let transparent = listener.mode == Mode::Transparent;
    let reverse = matches!(listener.mode, Mode::Reverse(_));
    let wrong = [
        (
            !reverse && !listener.hosts.is_empty(),
            "hosts",
            "`hosts` says what a listener of mode reverse is called",
            "leave it out, or say `mode: reverse`",
        ),
        (
            !reverse && listener.cross_site != CrossSite::Refuse,
            "cross_site",
            "`cross_site` of a listener is for mode reverse; elsewhere each rule says it",
            "put it into the rule whose credential the page should have",
        ),
        (transparent && unix, "listen", "connections to a Unix socket cannot have been redirected", "give an address and a port"),
        (
            transparent && listener.tls.is_some(),
            "tls",
            "a transparent listener has no TLS of its own: clients speak to the hosts they want",
            "leave `tls` out",
        ),
        (
            listener.proxy_protocol.is_some() && (transparent || unix),
            "proxy_protocol",
            "the PROXY protocol is for listeners on an address, of mode forward or reverse",
            "leave `proxy_protocol` out",
        ),
        (
            access.is_some_and(|access| !access.uids.is_empty()) && !unix,
            "access",
            "`uids` says who may call at a Unix socket, and this listener is none",
            "use `same_user: true` for callers on this machine, or `listen: unix:PATH`",
        ),
        (
            access.is_some_and(|access| !access.cidrs.is_empty()) && unix,
            "access",
            "a Unix socket knows no addresses, so `cidrs` admits nobody",
            "use `uids`",
        ),
        (
            access.is_some_and(|access| !access.users.is_empty()) && transparent,
            "access",
            "clients of a transparent listener do not know of it and send it no password",
            "use `cidrs` or `same_user`",
        ),
    ];
    for (wrong, key, message, mend) in wrong {
        if wrong {
            let place = fields.get(key).map_or(fields.place, |node| node.place);
            decode.report.error("listener", place, message).help(mend);
        }
    }
}

/// `true`, the addresses of the load balancers, or `{ from: addresses }`.
fn proxy_protocol(decode: &mut Decode<'_>, node: &Node) -> Option<ProxyProtocol> {
    if matches!(node.value, Value::Bool(_)) {
        return decode.boolean(node)?.then_some(ProxyProtocol { from: Vec::new() });
    }
    let node = match node.as_map() {
        None => node,
        Some(_) => {
            let fields = decode.fields(node, "proxy_protocol", &["from"])?;
            decode.required(&fields, "`proxy_protocol`", "from")?
        }
    };
    let ranges = decode.strings(node)?;
    if ranges.is_empty() {
        decode
            .report
            .error("proxy-protocol", node.place, "no load balancer is named")
            .help("name their addresses, as in [10.0.0.0/8]");
        return None;
    }
    let from: Vec<_> = ranges.iter().filter_map(|(text, place)| cidr(decode, text, *place)).collect();
    (from.len() == ranges.len()).then_some(ProxyProtocol { from })
}

fn reverse(decode: &mut Decode<'_>, node: &Node) -> Option<Origin> {
    let text = decode.plain_string(node)?;
    let (scheme, rest) = match text.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        _ => {
            decode.report.error("wrong-url", node.place, "an http or https URL is wanted here");
            return None;
        }
    };
    let (authority, path) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
    if !path.is_empty() {
        decode
            .report
            .error("wrong-url", node.place, "`upstream` is scheme, host and port, without a path: requests keep their own")
            .help("leave the path out here, and let the client ask with it");
        return None;
    }
    match parse_authority(authority) {
        Ok((host, port)) => Some(Origin::new(scheme, host, port.unwrap_or(scheme.default_port()))),
        Err(why) => {
            decode.report.error("wrong-url", node.place, format!("this is not a URL of a host: {why}"));
            None
        }
    }
}

fn listener_tls(decode: &mut Decode<'_>, node: &Node) -> Option<ListenerTls> {
    let fields = decode.fields(node, "listener tls", &schema::names(LISTENER_TLS))?;
    let cert = decode.required(&fields, "tls of a listener", "cert").and_then(|node| decode.trusted_path(node));
    let key = decode.required(&fields, "tls of a listener", "key").and_then(|node| decode.trusted_path(node));
    let client_ca = fields.get("client_ca").and_then(|node| decode.trusted_path(node));
    Some(ListenerTls { place: node.place, cert: cert?, key: key?, client_ca })
}

fn access(decode: &mut Decode<'_>, node: &Node) -> Option<Access> {
    let fields = decode.fields(node, "access", &schema::names(ACCESS))?;
    let mut access = Access::default();
    if let Some(node) = fields.get("users") {
        for (key, node) in decode.map(node, "`users`").unwrap_or_default() {
            if let Some(text) = decode.text(node) {
                access.users.insert(key.text.clone(), text);
            }
        }
    }
    if let Some(node) = fields.get("cidrs") {
        for (text, place) in decode.strings(node).unwrap_or_default() {
            access.cidrs.extend(cidr(decode, &text, place));
        }
    }
    for item in fields.get("uids").map(|node| decode.list(node)).unwrap_or_default() {
        access.uids.extend(decode.number(item, 0, u64::from(u32::MAX)).and_then(|uid| u32::try_from(uid).ok()));
    }
    if let Some(node) = fields.get("same_user") {
        access.same_user = decode.boolean(node)?;
    }
    Some(access)
}

pub fn listen_address(decode: &mut Decode<'_>, node: &Node) -> Option<ListenAddress> {
    let text = match &node.value {
        Value::Number(port) => format!("127.0.0.1:{port}"),
        _ => decode.plain_string(node)?,
    };
    match parse_listen(&text) {
        Ok(ListenAddress::Unix(path)) => Some(ListenAddress::Unix(decode.resolve(&path.to_string_lossy(), node.place))),
        Ok(address) => Some(address),
        Err(why) => {
            let help = "write it as 127.0.0.1:8118, unix:PATH, or systemd (systemd:NAME) for an inherited socket";
            decode.report.error("listen", node.place, why).help(help);
            None
        }
    }
}

fn parse_listen(text: &str) -> Result<ListenAddress, String> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("unix", "") => return Err("`unix:` needs a path".to_owned()),
        ("unix", path) => return Ok(ListenAddress::Unix(PathBuf::from(path))),
        ("systemd", name) => return Ok(ListenAddress::Inherited(name.to_owned())),
        _ => {}
    }
    let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = local.as_deref().unwrap_or(text).parse::<SocketAddr>();
    address.map(ListenAddress::Tcp).map_err(|_| format!("{} is not an address with a port", quoted(text, Shape::Listen, "this")))
}
