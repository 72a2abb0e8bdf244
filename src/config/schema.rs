//! Every key of the configuration, once: what `decode` accepts, what the JSON Schema says and what
//! `docs/config.md` tells come from these tables.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::limits::Limits;

/// One key.
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub doc: &'static str,
}

/// What its value may be.
#[derive(Clone, Copy)]
pub enum Shape {
    Text,
    /// One text or a list.
    Texts,
    /// A SECRET: text with `${…}`, or `{ env: }`, `{ file: }`, `{ exec: }`, `{ keyring: }`.
    Secret,
    Bool,
    Number,
    Time,
    /// Number, range, list, or `any`.
    Ports,
    Words(&'static [&'static str]),
    /// A map with these keys.
    Block(&'static [Field]),
    /// A list of such maps.
    Blocks(&'static [Field]),
    /// Names to such maps.
    Named(&'static [Field]),
    /// Names to texts.
    Texts2,
    /// Names to SECRETs.
    Secrets,
    Credential,
    Credentials,
    Rules,
    Limits,
    Any,
}

const fn f(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field { name, shape, doc }
}

pub fn names(fields: &'static [Field]) -> Vec<&'static str> {
    fields.iter().map(|field| field.name).collect()
}

pub static TOP: &[Field] = &[
    f("version", Shape::Number, "version of this format; 1"),
    f("listen", Shape::Text, "address of one forward-proxy listener; 127.0.0.1:8118 when no listener is given"),
    f("listeners", Shape::Blocks(LISTENER), "listeners in long form, beside `listen`"),
    f(
        "unmatched",
        Shape::Words(&["tunnel", "deny", "intercept"]),
        "hosts without a rule: passed through blindly (tunnel, the default), refused, or taken apart without adding anything",
    ),
    f(
        "upstream_proxy",
        Shape::Any,
        "env (the default: HTTPS_PROXY and its kin), none, a URL (http, https, socks5), or a map of url or pac, username, password, auth and more: see [upstream_proxy, via](#upstream_proxy-via)",
    ),
    f(
        "resolve",
        Shape::Any,
        "host names to an IP address or a list of them, dialled instead of what the system's resolver says; TLS, rules and `Host` keep the name",
    ),
    f("include", Shape::Texts, "further files, read before this one"),
    f("vars", Shape::Texts2, "variables, used as ${name} or {{name}}"),
    f("credentials", Shape::Credentials, "credentials by name; each has exactly one type"),
    f("client_certificates", Shape::Named(CERTIFICATE), "client certificates by name"),
    f("ca_bundles", Shape::Any, "CA bundles by name: a file, a list of files, or a map of files and system_roots"),
    f("rules", Shape::Rules, "read top to bottom; every matching rule applies, and the later one wins in each thing it says"),
    f("profiles", Shape::Any, "names to further settings, laid over with --profile NAME; their rules are appended"),
    f("ca", Shape::Block(CA), "the interception CA; made on first start in the data folder unless said otherwise"),
    f("admin", Shape::Block(ADMIN), "health endpoints and metrics on an address of their own"),
    f("log", Shape::Block(LOG), "what is logged"),
    f("limits", Shape::Limits, "bounds"),
    f("egress", Shape::Block(EGRESS), "addresses that are never dialled"),
];

pub static LISTENER: &[Field] = &[
    f("listen", Shape::Text, "ADDRESS:PORT, unix:PATH, or systemd (systemd:NAME) for a socket that systemd opened"),
    f(
        "mode",
        Shape::Words(&["forward", "reverse", "transparent"]),
        "forward (the default): HTTP proxy, CONNECT, SOCKS 5, and each of them in TLS; reverse: everything goes to `upstream`; transparent: connections that the firewall redirected, the host taken from TLS or the Host field",
    ),
    f("upstream", Shape::Text, "for mode reverse: the URL everything goes to"),
    f("tls", Shape::Block(LISTENER_TLS), "speak nothing but TLS on this listener, with this certificate"),
    f(
        "access",
        Shape::Block(ACCESS),
        "who may call; must be given beyond loopback. At a Unix socket, when nothing is said: the same user, and root",
    ),
    f(
        "proxy_protocol",
        Shape::Any,
        "a load balancer says who calls (PROXY protocol, version 1 or 2): the addresses of the load balancers, or true for whoever connects",
    ),
];
pub static LISTENER_TLS: &[Field] = &[
    f("cert", Shape::Text, "PEM file"),
    f("key", Shape::Text, "PEM file"),
    f("client_ca", Shape::Text, "CA that callers' certificates must be from"),
];
pub static ACCESS: &[Field] = &[
    f("users", Shape::Secrets, "user names and passwords, sent as Proxy-Authorization: Basic"),
    f("cidrs", Shape::Texts, "address ranges that may call"),
    f("uids", Shape::Any, "Unix user ids that may call over a Unix socket; in `clients:` of a rule they are `uid:N`"),
    f("same_user", Shape::Bool, "processes on this machine that run as the same user as gatepass (Linux)"),
];
pub static CERTIFICATE: &[Field] = &[
    f("cert", Shape::Text, "PEM file with the certificate and its chain"),
    f("key", Shape::Text, "PEM file with the private key; may be left out when it stands in the `cert` file"),
    f("pfx", Shape::Text, "PFX (PKCS #12) file instead of cert and key"),
    f("passphrase", Shape::Secret, "of the key or PFX file"),
    f("host", Shape::Texts, "makes the certificate a rule of its own for this host"),
    f("port", Shape::Ports, "with `host`: for this port (443)"),
    f(
        "pkcs11",
        Shape::Text,
        "RFC 7512 URI of a key on a token (smart card, HSM); with `cert` when the token holds no certificate",
    ),
    f("pin", Shape::Secret, "with `pkcs11`: the token's PIN"),
    f("module", Shape::Text, "with `pkcs11`: the token's PKCS#11 library; p11-kit's proxy, else the usual places, when left out"),
    f(
        "spiffe",
        Shape::Block(SPIFFE),
        "the X509-SVID that a SPIFFE Workload API (SPIRE) gives to gatepass; followed as it is renewed",
    ),
];
pub static SPIFFE: &[Field] = &[
    f("socket", Shape::Text, "unix:PATH of the Workload API; SPIFFE_ENDPOINT_SOCKET when left out"),
    f("spiffe_id", Shape::Text, "of a client certificate: which of several SVIDs; the agent's first when left out"),
];
pub static BUNDLE: &[Field] = &[
    f("files", Shape::Texts, "PEM or DER files, or folders of them; one file may hold many CAs"),
    f("system_roots", Shape::Bool, "believe the system's roots too (true)"),
    f(
        "spiffe",
        Shape::Block(SPIFFE),
        "instead of files and system roots: the CAs of the trust domain of a SPIFFE Workload API, and of those it federates with",
    ),
];
pub static RULE: &[Field] = &[
    f("host", Shape::Texts, "exact name, glob (`*.example.com` is every subdomain, not the apex), `{a,b}.x`, `*`, or address"),
    f("port", Shape::Ports, "number, list, \"8000-8999\" or any; the scheme's default port (443) when left out"),
    f("scheme", Shape::Words(&["https", "http", "any"]), "https (the default); plain http must be asked for"),
    f("path", Shape::Texts, "glob over the path: `*` within a segment, `**` across"),
    f("methods", Shape::Texts, "only these methods"),
    f("clients", Shape::Texts, "only these authenticated callers or address ranges"),
    f(
        "auth",
        Shape::Credential,
        "a credential's name, an inline `{ TYPE: settings }`, or a list of them; none takes an earlier one away",
    ),
    f("client_certificate", Shape::Any, "a name, an inline certificate, or a list of names"),
    f("ca_bundle", Shape::Any, "a name, a file, or an inline bundle"),
    f(
        "on_existing_auth",
        Shape::Words(&["replace", "keep", "reject"]),
        "when the client sent a credential of its own: replace (the default), keep it, or refuse the request",
    ),
    f(
        "token_endpoint",
        Shape::Text,
        "a credential's name: token requests (POST) to this `path` are answered by gatepass, with a token that stands in for it wherever a rule's `auth` names it",
    ),
    f("headers", Shape::Block(HEADERS), "request headers to set or remove"),
    f("query", Shape::Block(QUERY), "query parameters to set or remove"),
    f("connect_to", Shape::Text, "HOST, HOST:PORT or [IPV6]:PORT to dial; Host, SNI and verification keep the name"),
    f("tls", Shape::Block(TLS), "TLS toward the upstream"),
    f("danger", Shape::Block(DANGER), "switches verification off"),
    f("via", Shape::Any, "an upstream proxy for this rule, as `upstream_proxy`"),
    f(
        "action",
        Shape::Words(&["allow", "deny", "tunnel"]),
        "deny refuses, tunnel passes blindly, allow takes an earlier one away",
    ),
];
pub static HEADERS: &[Field] = &[f("set", Shape::Secrets, "names to values"), f("remove", Shape::Texts, "names")];
pub static QUERY: &[Field] = &[f("set", Shape::Secrets, "names to values"), f("remove", Shape::Texts, "names")];
pub static TLS: &[Field] = &[
    f("server_name", Shape::Text, "name for SNI and verification instead of the host"),
    f(
        "spiffe_id",
        Shape::Texts,
        "SPIFFE IDs of the server, of which its certificate must have one instead of the host's name; `spiffe://DOMAIN` is every ID of that trust domain",
    ),
    f("min_version", Shape::Words(&["1.2", "1.3"]), "1.2 (the default) or 1.3"),
    f("max_version", Shape::Words(&["1.2", "1.3"]), "1.2 or 1.3 (the default)"),
    f("pins", Shape::Texts, "sha256/BASE64 of a public key that must be in the chain"),
    f("crl", Shape::Texts, "files with certificate revocation lists"),
    f(
        "ocsp",
        Shape::Words(&["check", "require"]),
        "check (the default): a stapled OCSP response that says revoked refuses the server; require: there must be one that holds",
    ),
    f("resumption", Shape::Bool, "off makes every connection a full handshake"),
    f("alpn", Shape::Texts, "h2 and http/1.1 in the order offered; what the client speaks when left out"),
    f(
        "backend",
        Shape::Words(&["rustls", "openssl"]),
        "rustls (the default), or openssl for servers that need what rustls leaves out; in builds with the feature `openssl`",
    ),
];
pub static DANGER: &[Field] = &[f("accept_invalid_certs", Shape::Bool, "believe any certificate; warned of at start")];
pub static CA: &[Field] = &[
    f("dir", Shape::Text, "folder of ca.pem and ca.key"),
    f("cert", Shape::Text, "your own CA: PEM file"),
    f("key", Shape::Text, "its private key"),
    f("constrain", Shape::Bool, "make it so that it can issue only for the hosts of the rules (name constraints)"),
];
pub static ADMIN: &[Field] = &[f("listen", Shape::Text, "address of /live, /ready and /metrics")];
pub static LOG: &[Field] = &[
    f("format", Shape::Words(&["text", "json"]), "text (the default) or json"),
    f("level", Shape::Text, "error, warn, info (the default), debug, trace"),
];
pub static EGRESS: &[Field] = &[f("deny", Shape::Texts, "private, link_local, loopback, or address ranges")];
pub static PROXY: &[Field] = &[
    f("url", Shape::Text, "http://, https:// or socks5:// HOST:PORT"),
    f(
        "pac",
        Shape::Text,
        "instead of `url`: a PAC script, as a file or an http(s) URL, says which proxies to go by; in builds with the feature `pac`",
    ),
    f(
        "proxies",
        Shape::Texts,
        "with `pac`: HOST or HOST:PORT of the proxies that may be told the user and be shown the client certificate",
    ),
    f("username", Shape::Text, "for the proxy; for NTLM `DOMAIN\\user` or `user@domain`, or the user beside `domain`"),
    f("password", Shape::Secret, "for the proxy"),
    f("domain", Shape::Text, "the user's domain, for NTLM"),
    f(
        "auth",
        Shape::Words(&["basic", "digest", "ntlm", "negotiate"]),
        "how the user is proved to an http or https proxy; left out: once the proxy asks, by the strongest way that it offers and user name and password allow (digest, ntlm, basic)",
    ),
    f("ca_bundle", Shape::Any, "whom to believe where the proxy itself speaks TLS (https://), as in a rule"),
    f("client_certificate", Shape::Any, "what to show to such a proxy, as in a rule"),
    f("no_proxy", Shape::Texts, "hosts that are reached without it"),
];

/// A type of credential, for the schema and the docs: name, meaning, settings (name, default, meaning).
pub struct AuthType {
    pub name: &'static str,
    pub doc: &'static str,
    pub settings: &'static [(&'static str, &'static str, &'static str)],
}

/// The JSON Schema (draft 2020-12) of a configuration file.
pub fn schema(auth: &[AuthType]) -> Value {
    let mut root = block(TOP, auth);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("gatepass configuration");
    root["$defs"] = json!({
        "secret": { "anyOf": [
            { "type": "string" },
            { "type": "object", "properties": { "env": { "type": "string" } }, "required": ["env"], "additionalProperties": false },
            { "type": "object", "properties": { "file": { "type": "string" } }, "required": ["file"], "additionalProperties": false },
            { "type": "object", "properties": { "exec": { "type": "array", "items": { "type": "string" } }, "ttl": {}, "timeout": {}, "format": { "enum": ["raw", "json"] }, "field": { "type": "string" } }, "required": ["exec"], "additionalProperties": false },
            { "type": "object", "properties": { "keyring": { "type": "string" }, "ttl": {}, "timeout": {} }, "required": ["keyring"], "additionalProperties": false }
        ] },
        "credential": credential(auth),
        "rule": rule(auth),
    });
    root
}

fn credential(auth: &[AuthType]) -> Value {
    let properties: Map<String, Value> =
        auth.iter().map(|kind| (kind.name.to_owned(), json!({ "description": kind.doc }))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1, "maxProperties": 1 })
}

fn rule(auth: &[AuthType]) -> Value {
    let mut rule = block(RULE, auth);
    for kind in auth.iter().filter(|kind| !RULE.iter().any(|field| field.name == kind.name)) {
        rule["properties"][kind.name] = json!({ "description": kind.doc });
    }
    rule["required"] = json!(["host"]);
    rule
}

fn block(fields: &'static [Field], auth: &[AuthType]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut value = shape(field.shape, auth);
        value["description"] = json!(field.doc);
        properties.insert(field.name.to_owned(), value);
    }
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn shape(shape: Shape, auth: &[AuthType]) -> Value {
    let text = json!({ "type": "string" });
    let secret = json!({ "$ref": "#/$defs/secret" });
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Texts => json!({ "anyOf": [text, { "type": "array", "items": text }] }),
        Shape::Secret => json!({ "$ref": "#/$defs/secret" }),
        Shape::Bool => json!({ "type": ["boolean", "string"] }),
        Shape::Number => json!({ "type": "integer" }),
        Shape::Time => json!({ "type": ["string", "integer"] }),
        Shape::Ports => {
            json!({ "anyOf": [{ "type": ["integer", "string"] }, { "type": "array", "items": { "type": ["integer", "string"] } }] })
        }
        Shape::Words(words) => json!({ "enum": words }),
        Shape::Block(fields) => block(fields, auth),
        Shape::Blocks(fields) => json!({ "type": "array", "items": block(fields, auth) }),
        Shape::Named(fields) => json!({ "type": "object", "additionalProperties": block(fields, auth) }),
        Shape::Texts2 => json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } }),
        Shape::Secrets => json!({ "type": "object", "additionalProperties": secret }),
        Shape::Credential => {
            json!({ "anyOf": [text, { "$ref": "#/$defs/credential" }, { "type": "array", "items": { "anyOf": [text, { "$ref": "#/$defs/credential" }] } }] })
        }
        Shape::Credentials => json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/credential" } }),
        Shape::Rules => json!({ "type": "array", "items": { "$ref": "#/$defs/rule" } }),
        Shape::Limits => {
            let properties: Map<String, Value> = Limits::table()
                .into_iter()
                .map(|(name, _, default, why)| {
                    (name.to_owned(), json!({ "type": ["string", "integer"], "description": why, "default": default }))
                })
                .collect();
            json!({ "type": "object", "properties": properties, "additionalProperties": false })
        }
        Shape::Any => json!({}),
    }
}

/// `docs/config.md`: every key, from the same tables.
pub fn reference(auth: &[AuthType]) -> String {
    let mut text = String::from(
        "# Configuration reference\n\nGenerated by `gatepass schema --format markdown`; the tour with examples is `config.example.yaml`.\n\nA SECRET is a text, in which `${NAME}` is a variable or environment variable, `${NAME:-default}`, `${NAME:?message}`, `${file:PATH}`, `{{name}}` and `$${` (a plain `${`) are understood; or one of `{ env: NAME }`, `{ file: PATH }`, `{ exec: [PROGRAM, ARGUMENT], ttl: 10m, timeout: 10s, format: json, field: .token }`, `{ keyring: SERVICE/USER }` (an entry of the system's keyring, read by `secret-tool`, on macOS by `security`).\n",
    );
    let blocks: [(&str, &'static [Field]); 15] = [
        ("Top level", TOP),
        ("listeners", LISTENER),
        ("listeners: tls", LISTENER_TLS),
        ("listeners: access", ACCESS),
        ("client_certificates", CERTIFICATE),
        ("client_certificates, ca_bundles: spiffe", SPIFFE),
        ("ca_bundles", BUNDLE),
        ("rules", RULE),
        ("rules: headers, query", HEADERS),
        ("rules: tls", TLS),
        ("rules: danger", DANGER),
        ("upstream_proxy, via", PROXY),
        ("ca", CA),
        ("log", LOG),
        ("egress", EGRESS),
    ];
    for (title, fields) in blocks {
        let _ = write!(text, "\n## {title}\n\n| key | meaning |\n|---|---|\n");
        for field in fields {
            let _ = writeln!(text, "| `{}` | {} |", field.name, field.doc.replace('|', "\\|"));
        }
    }
    text.push_str("\n## limits\n\n| key | default | why |\n|---|---|---|\n");
    for (name, _, default, why) in Limits::table() {
        let _ = writeln!(text, "| `{name}` | {default} | {why} |");
    }
    text.push_str("\n## Authentication types\n\nIn `credentials: { NAME: { TYPE: settings } }`, in a rule's `auth:`, or directly in a rule.\n");
    for kind in auth {
        let _ = write!(text, "\n### {}\n\n{}\n", kind.name, kind.doc);
        if !kind.settings.is_empty() {
            text.push_str("\n| setting | default | meaning |\n|---|---|---|\n");
            for (name, default, doc) in kind.settings {
                let _ = writeln!(text, "| `{name}` | {default} | {doc} |");
            }
        }
    }
    text
}
