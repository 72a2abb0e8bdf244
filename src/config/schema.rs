//! Every key of the configuration, once: what `decode` accepts, what the JSON Schema says, what `docs/config.md` tells and
//! what of a value may be shown come from these tables.

use std::collections::BTreeMap;

pub use super::describe::{reference, schema};
use crate::auth::AuthType;
use crate::limits::Limits;
use crate::settings::shape::{Definition, Schema, Shape};
pub use crate::settings::shape::{Field, f, names};
use crate::tls::settings::{BUNDLES, CERTIFICATE, CERTIFICATES};

/// All tables together: what a mistake may show of a configuration with these auth types.
pub fn tables(types: &[AuthType]) -> Schema {
    let mut definitions: BTreeMap<_, _> = types.iter().map(|kind| (kind.name, kind.definition())).collect();
    let credential = Definition { short: None, keys: types.iter().map(|kind| (kind.name, Shape::Defined(kind.name))).collect() };
    let mut rule = Definition::of(RULE);
    rule.keys.extend(credential.keys.iter().copied());
    let limits = Limits::table().into_iter().map(|(name, ..)| (name, Shape::Time)).collect();
    definitions.insert("credential", credential);
    definitions.insert("rule", rule);
    definitions.insert("limits", Definition { short: None, keys: limits });
    definitions.insert("configuration", Definition::of(TOP));
    Schema {
        root: Shape::Defined("configuration"),
        definitions,
        naming: &["credentials", "client_certificates", "ca_bundles", "profiles"],
    }
}

/// `env`, `none`, a URL, or a map.
pub const PROXIES: &[Shape] = &[Shape::Words(&["env", "none"]), Shape::Url, Shape::Block(PROXY)];
/// A credential's name, or a map of one type.
pub const CREDENTIALS: &[Shape] = &[Shape::Name, Shape::Defined("credential")];

pub const TOP: &[Field] = &[
    f("version", Shape::Number, "version of this format; 1"),
    f("listen", Shape::Listen, "address of one forward-proxy listener; 127.0.0.1:8118 when no listener is given"),
    f("listeners", Shape::Many(&Shape::Block(LISTENER)), "listeners in long form, beside `listen`"),
    f(
        "unmatched",
        Shape::Words(&["tunnel", "deny", "intercept"]),
        "hosts without a rule: passed through blindly (tunnel, the default), refused, or taken apart without adding anything",
    ),
    f(
        "upstream_proxy",
        Shape::OneOf(PROXIES),
        "env (the default: HTTPS_PROXY and its kin), none, a URL (http, https, socks5), or a map of url or pac, username, password, auth and more: see [upstream_proxy, via](#upstream_proxy-via)",
    ),
    f(
        "resolve",
        Shape::Names(&Shape::Many(&Shape::Host)),
        "host names to an IP address or a list of them, dialled instead of what the system's resolver says; TLS, rules and `Host` keep the name",
    ),
    f("include", Shape::Many(&Shape::File), "further files, read before this one"),
    f("vars", Shape::Names(&Shape::Text), "variables, used as ${name} or {{name}}"),
    f("credentials", Shape::Names(&Shape::Defined("credential")), "credentials by name; each has exactly one type"),
    f("client_certificates", Shape::Names(&Shape::Block(CERTIFICATE)), "client certificates by name"),
    f(
        "ca_bundles",
        Shape::Names(&Shape::OneOf(BUNDLES)),
        "CA bundles by name: a file, a list of files, or a map of files and system_roots",
    ),
    f(
        "rules",
        Shape::List(&Shape::Defined("rule")),
        "read top to bottom; every matching rule applies, and the later one wins in each thing it says",
    ),
    f(
        "profiles",
        Shape::Names(&Shape::Defined("configuration")),
        "names to further settings, laid over with --profile NAME; their rules are appended",
    ),
    f("ca", Shape::Block(CA), "the interception CA; made on first start in the data folder unless said otherwise"),
    f(
        "admin",
        Shape::Block(ADMIN),
        "`/live`, `/ready` and `/metrics` on an address of their own; beyond loopback they answer to any name",
    ),
    f("log", Shape::Block(LOG), "what is logged"),
    f("limits", Shape::Defined("limits"), "bounds"),
    f("egress", Shape::Block(EGRESS), "addresses that are never dialled"),
];

pub const LISTENER: &[Field] = &[
    f("listen", Shape::Listen, "ADDRESS:PORT, unix:PATH, or systemd (systemd:NAME) for a socket that systemd opened"),
    f(
        "mode",
        Shape::Words(&["forward", "reverse", "transparent"]),
        "forward (the default): HTTP proxy, CONNECT, SOCKS 5, and each of them in TLS; reverse: everything goes to `upstream`; transparent: connections that the firewall redirected, the host taken from TLS or the Host field",
    ),
    f("upstream", Shape::Url, "for mode reverse: the URL everything goes to"),
    f("tls", Shape::Block(LISTENER_TLS), "speak nothing but TLS on this listener, with this certificate"),
    f(
        "access",
        Shape::Block(ACCESS),
        "who may call; must be given beyond loopback. At a Unix socket, when nothing is said: the same user, and root",
    ),
    f(
        "proxy_protocol",
        Shape::OneOf(&[Shape::Bool, Shape::Many(&Shape::Host), Shape::Block(PROXY_PROTOCOL)]),
        "a load balancer says who calls (PROXY protocol, version 1 or 2): the addresses of the load balancers, as a list or as `{ from: [ADDRESS] }`; or true for whoever connects, and then what is said counts for the log alone, neither for `cidrs` nor for `clients` of rules",
    ),
    f(
        "hosts",
        Shape::Many(&Shape::Host),
        "for mode reverse: names by which clients call it, besides loopback names, its own address and the upstream's name; other names get 421",
    ),
    f(
        "cross_site",
        Shape::OneOf(CROSS_SITE),
        "for mode reverse: requests of web pages that are not of its own origin: refuse (the default; pages of loopback origins may all the same), allow, or the pages' origins",
    ),
];
pub const PROXY_PROTOCOL: &[Field] =
    &[f("from", Shape::Many(&Shape::Host), "addresses of the load balancers; nobody else is heard")];
/// Pages of other sites: in a rule, and of a reverse listener.
pub const CROSS_SITE: &[Shape] = &[Shape::Words(&["refuse", "allow"]), Shape::Many(&Shape::Url)];
pub const LISTENER_TLS: &[Field] = &[
    f("cert", Shape::File, "PEM file"),
    f("key", Shape::File, "PEM file"),
    f("client_ca", Shape::File, "CA that callers' certificates must be from"),
];
pub const ACCESS: &[Field] = &[
    f("users", Shape::Map(&Shape::Secret), "user names and passwords, sent as Proxy-Authorization: Basic"),
    f("cidrs", Shape::Many(&Shape::Host), "address ranges that may call"),
    f(
        "uids",
        Shape::Many(&Shape::Number),
        "Unix user ids that may call over a Unix socket; in `clients:` of a rule they are `uid:N`",
    ),
    f("same_user", Shape::Bool, "processes on this machine that run as the same user as gatepass (Linux)"),
];
pub const RULE: &[Field] = &[
    f(
        "host",
        Shape::Many(&Shape::Host),
        "exact name, glob (`*.example.com` is every subdomain, not the apex), `{a,b}.x`, `*`, or address",
    ),
    f("port", Shape::Many(&Shape::Port), "number, list, \"8000-8999\" or any; the scheme's default port (443) when left out"),
    f("scheme", Shape::Words(&["https", "http", "any"]), "https (the default); plain http must be asked for"),
    f("path", Shape::Many(&Shape::UrlPath), "glob over the path: `*` within a segment, `**` across"),
    f("methods", Shape::Many(&Shape::Plain), "only these methods"),
    f("clients", Shape::Many(&Shape::Plain), "only these authenticated callers or address ranges"),
    f(
        "auth",
        Shape::Many(&Shape::OneOf(CREDENTIALS)),
        "a credential's name, an inline `{ TYPE: settings }`, or a list of them; none takes an earlier one away",
    ),
    f("client_certificate", Shape::Many(&Shape::OneOf(CERTIFICATES)), "a name, an inline certificate, or a list of names"),
    f("ca_bundle", Shape::OneOf(BUNDLES), "a name, a file, or an inline bundle"),
    f(
        "on_existing_auth",
        Shape::Words(&["replace", "keep", "reject"]),
        "when the client sent a credential of its own, in the places that `auth` writes: replace (the default) puts ours there. keep and reject also see `Authorization`, the usual API key fields and parameters: the client's stands and ours stands back, or the request is refused",
    ),
    f(
        "token_endpoint",
        Shape::Name,
        "a credential's name: token requests (POST) to this `path` are answered by gatepass, with a token that stands in for it wherever a rule's `auth` names it",
    ),
    f("headers", Shape::Block(HEADERS), "request headers to set or remove"),
    f("query", Shape::Block(QUERY), "query parameters to set or remove"),
    f("connect_to", Shape::Host, "HOST, HOST:PORT or [IPV6]:PORT to dial; Host, SNI and verification keep the name"),
    f("tls", Shape::Block(TLS), "TLS toward the upstream"),
    f("danger", Shape::Block(DANGER), "switches verification off"),
    f("via", Shape::OneOf(PROXIES), "an upstream proxy for this rule, as `upstream_proxy`"),
    f(
        "action",
        Shape::Words(&["allow", "deny", "tunnel"]),
        "deny refuses (without `port` and `scheme`: on every port, in every scheme), tunnel passes blindly, allow takes an earlier one away",
    ),
    f(
        "cross_site",
        Shape::OneOf(CROSS_SITE),
        "requests of web pages of other sites: refuse (the default) sends them without credentials, but for pages of loopback origins; allow, or the origins of pages that get them",
    ),
    f(
        "echo",
        Shape::Words(&["mask", "pass"]),
        "what gatepass added to the request, coming back in the answer: mask (the default) puts asterisks there, in fields, trailers and text bodies; pass leaves the answer as it is",
    ),
];
pub const HEADERS: &[Field] =
    &[f("set", Shape::Fields(&Shape::Secret), "names to values"), f("remove", Shape::Many(&Shape::Field), "names")];
pub const QUERY: &[Field] =
    &[f("set", Shape::Fields(&Shape::Secret), "names to values"), f("remove", Shape::Many(&Shape::Field), "names")];
pub const TLS: &[Field] = &[
    f("server_name", Shape::Host, "name for SNI and verification instead of the host"),
    f(
        "spiffe_id",
        Shape::Many(&Shape::Url),
        "SPIFFE IDs of the server, of which its certificate must have one instead of the host's name; `spiffe://DOMAIN` is every ID of that trust domain",
    ),
    f("min_version", Shape::Words(&["1.2", "1.3"]), "1.2 (the default) or 1.3"),
    f("max_version", Shape::Words(&["1.2", "1.3"]), "1.2 or 1.3 (the default)"),
    f("pins", Shape::Many(&Shape::Pin), "sha256/BASE64 of a public key that must be in the chain"),
    f("crl", Shape::Many(&Shape::File), "files with certificate revocation lists"),
    f(
        "ocsp",
        Shape::Words(&["check", "require"]),
        "check (the default): a stapled OCSP response that says revoked refuses the server; require: there must be one that holds",
    ),
    f(
        "close_notify",
        Shape::Words(&["required", "lenient"]),
        "required (the default): an answer that ends with its connection is cut unless TLS says that this is the end; lenient: for servers that never say so",
    ),
    f("resumption", Shape::Bool, "off makes every connection a full handshake"),
    f(
        "alpn",
        Shape::Many(&Shape::Words(&["h2", "http/1.1"])),
        "h2 and http/1.1 in the order offered; what the client speaks when left out",
    ),
    f(
        "backend",
        Shape::Words(&["rustls", "openssl"]),
        "rustls (the default), or openssl for servers that need what rustls leaves out; in builds with the feature `openssl`",
    ),
];
pub const DANGER: &[Field] = &[f("accept_invalid_certs", Shape::Bool, "believe any certificate; warned of at start")];
pub const CA: &[Field] = &[
    f("dir", Shape::File, "folder of ca.pem and ca.key"),
    f("cert", Shape::File, "your own CA: PEM file"),
    f("key", Shape::File, "its private key"),
    f("constrain", Shape::Bool, "make it so that it can issue only for the hosts of the rules (name constraints)"),
];
pub const ADMIN: &[Field] = &[f("listen", Shape::Listen, "address of /live, /ready and /metrics")];
pub const LOG: &[Field] = &[
    f("format", Shape::Words(&["text", "json"]), "text (the default) or json"),
    f("level", Shape::Plain, "error, warn, info (the default), debug, trace"),
];
pub const EGRESS: &[Field] = &[f(
    "deny",
    Shape::Many(&Shape::OneOf(&[Shape::Words(&["private", "link_local", "loopback"]), Shape::Host])),
    "private, link_local, loopback, or address ranges; asked of targets behind an upstream proxy too, as far as their addresses are known here, and of the proxies themselves",
)];
pub const PROXY: &[Field] = &[
    f("url", Shape::Url, "http://, https:// or socks5:// HOST:PORT"),
    f(
        "pac",
        Shape::OneOf(&[Shape::Url, Shape::File]),
        "instead of `url`: a PAC script, as a file or an http(s) URL, says which proxies to go by; in builds with the feature `pac`",
    ),
    f(
        "proxies",
        Shape::Many(&Shape::Host),
        "with `pac`: HOST or HOST:PORT of the proxies that may be told the user and be shown the client certificate",
    ),
    f("username", Shape::Text, "for the proxy; for NTLM `DOMAIN\\user` or `user@domain`, or the user beside `domain`"),
    f("password", Shape::Secret, "for the proxy"),
    f("domain", Shape::Plain, "the user's domain, for NTLM"),
    f(
        "auth",
        Shape::Words(&["basic", "digest", "ntlm", "negotiate"]),
        "how the user is proved to an http or https proxy; left out: once the proxy asks, by the strongest way that it offers and user name and password allow (digest, ntlm, basic)",
    ),
    f("ca_bundle", Shape::OneOf(BUNDLES), "whom to believe where the proxy itself speaks TLS (https://), as in a rule"),
    f("client_certificate", Shape::Many(&Shape::OneOf(CERTIFICATES)), "what to show to such a proxy, as in a rule"),
    f("no_proxy", Shape::Many(&Shape::Host), "hosts that are reached without it"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: Shape, schema: &Schema) {
        match shape {
            Shape::Defined(name) => assert!(schema.definition(name).is_some(), "{name}"),
            Shape::Block(fields) => fields.iter().for_each(|field| check(field.shape, schema)),
            Shape::OneOf(shapes) => shapes.iter().for_each(|one| check(*one, schema)),
            Shape::Many(one) | Shape::List(one) | Shape::Names(one) | Shape::Fields(one) | Shape::Map(one) => check(*one, schema),
            _ => {}
        }
    }

    #[test]
    fn what_a_shape_speaks_of_by_name_is_defined() {
        let schema = tables(&crate::auth::types());
        check(schema.root, &schema);
        for definition in schema.definitions.values() {
            definition.short.into_iter().for_each(|short| check(short, &schema));
            definition.keys.iter().for_each(|(_, shape)| check(*shape, &schema));
        }
    }

    #[test]
    fn no_auth_type_is_called_like_another_definition() {
        let types = crate::auth::types();
        assert_eq!(tables(&types).definitions.len(), types.len() + 4);
    }
}
