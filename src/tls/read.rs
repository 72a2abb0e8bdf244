//! Client certificates and CA bundles as they are written, in a rule or in a scheme's settings: files, keys on tokens, and
//! what a SPIFFE agent hands out.

use std::path::PathBuf;
use std::sync::Arc;

use super::settings::{BUNDLE, BundleSource, CERTIFICATE, CertificateSource, Material, SPIFFE};
use super::token_uri::{Parsed, TokenUri};
use crate::secret::Secret;
use crate::settings::shape::names;
use crate::settings::{Decode, Fields, Node, Place, Shape, Text, quoted};
use crate::workload::SpiffeId;

/// A map of the forms that a client certificate has.
pub fn certificate(decode: &mut Decode<'_>, node: &Node, name: Option<&str>) -> Option<Arc<CertificateSource>> {
    let fields = decode.fields(node, "client certificate", &names(CERTIFICATE))?;
    let mut passphrase = fields.get("passphrase").and_then(|node| decode.text(node));
    let forms: Vec<&str> = ["cert", "pfx", "pkcs11", "spiffe"].into_iter().filter(|form| fields.get(form).is_some()).collect();
    token_keys(decode, &fields);
    let material = match forms[..] {
        ["cert"] => {
            let cert = fields.get("cert")?;
            let key = match fields.get("key") {
                Some(node) => Some((decode.pem(node)?, node.place)),
                None => None,
            };
            Material::Pem { cert: decode.pem(cert)?, cert_place: cert.place, key }
        }
        ["pfx"] => {
            let file = fields.get("pfx")?;
            let alias = match fields.get("alias") {
                Some(node) => Some((decode.string(node)?, node.place)),
                None => None,
            };
            Material::Pfx { file: decode.trusted_path(file)?, place: file.place, alias }
        }
        ["pkcs11"] | ["cert", "pkcs11"] => {
            let (material, pin) = token(decode, &fields)?;
            passphrase = pin;
            material
        }
        ["spiffe"] => {
            let (socket, spiffe_id, place) = spiffe(decode, fields.get("spiffe")?)?;
            Material::Spiffe { socket, spiffe_id, place }
        }
        [] => {
            let help = if fields.get("key").is_some() {
                "add `cert: FILE`, the certificate that the key belongs to"
            } else {
                "add `cert: FILE` and `key: FILE`, or `pfx: FILE`"
            };
            decode.report.error("missing-key", fields.place, "this client certificate names no file").help(help);
            return None;
        }
        _ => {
            decode
                .report
                .error(
                    "two-forms",
                    fields.place,
                    format!("this client certificate is given twice, as `{}` and `{}`", forms[0], forms[1]),
                )
                .help("keep one of them");
            return None;
        }
    };
    Some(Arc::new(CertificateSource { name: name.map(str::to_owned), place: node.place, material, passphrase }))
}

/// A file, a list of files, or a map of `files` and `system_roots`.
pub fn bundle(decode: &mut Decode<'_>, node: &Node, name: Option<&str>) -> Option<Arc<BundleSource>> {
    let (list, system_roots) = match node.as_map() {
        Some(_) => {
            let fields = decode.fields(node, "CA bundle", &names(BUNDLE))?;
            if let Some(spiffe) = fields.get("spiffe") {
                return spiffe_bundle(decode, &fields, spiffe, name).map(Arc::new);
            }
            let files = decode.required(&fields, "a CA bundle", "files")?;
            (files, fields.get("system_roots").map_or(Some(true), |node| decode.boolean(node))?)
        }
        None => (node, true),
    };
    let items = decode.list(list);
    let files: Vec<_> = items.iter().map(|item| decode.pem(item).map(|pem| (pem, item.place))).collect();
    let files = files.into_iter().collect::<Option<Vec<_>>>()?;
    Some(Arc::new(BundleSource { name: name.map(str::to_owned), place: node.place, files, system_roots, spiffe: None }))
}

/// `pkcs11:` and what belongs to it; the PIN beside it.
fn token(decode: &mut Decode<'_>, fields: &Fields<'_>) -> Option<(Material, Option<Text>)> {
    let node = fields.get("pkcs11")?;
    let text = decode.string(node)?;
    let Parsed { uri, pin, pin_file } = match TokenUri::parse(&text) {
        Ok(parsed) => parsed,
        Err(why) => {
            let diagnostic =
                decode.report.error("token-uri", node.place, format!("this is not the URI of a key on a token: {why}"));
            diagnostic.help(
                "write it as `pkcs11:token=LABEL;object=LABEL` (RFC 7512); `p11tool --list-tokens` and `--list-keys` show them",
            );
            return None;
        }
    };
    let module = match fields.get("module") {
        Some(node) => Some((decode.path(node)?, node.place)),
        None => uri.module_path.clone().map(|path| (path, node.place)),
    };
    if let Some((path, place)) = &module {
        // Its code runs in this process.
        decode.trusted(path, *place)?;
    }
    let cert = match fields.get("cert") {
        Some(node) => Some((decode.pem(node)?, node.place)),
        None => None,
    };
    let pin = match (fields.get("pin"), pin, pin_file) {
        (Some(node), ..) => Some(decode.text(node)?),
        (None, Some(pin), _) => Some(Text::Known(Secret::new(pin))),
        (None, None, Some(path)) => Some(Text::Known(decode.read_file(&path, node.place)?)),
        (None, None, None) => None,
    };
    Some((Material::Pkcs11 { uri, place: node.place, module, cert }, pin))
}

/// Keys that go with `pkcs11` only, and those that do not go with it.
fn token_keys(decode: &mut Decode<'_>, fields: &Fields<'_>) {
    let token = fields.get("pkcs11").is_some();
    let wrong: [(&str, &str, &str); 2] = match token {
        true => [
            ("key", "with `pkcs11` the key is on the token", "leave `key` out"),
            ("passphrase", "a token is opened by its PIN", "write `pin:` instead"),
        ],
        false => [
            ("pin", "`pin` belongs to `pkcs11`", "a file is opened by `passphrase`"),
            ("module", "`module` belongs to `pkcs11`", "leave it out"),
        ],
    };
    let not_pfx = ("alias", "`alias` chooses among the keys of a `pfx`", "leave it out");
    let not_pfx = fields.get("pfx").is_none().then_some(not_pfx);
    for (key, message, help) in wrong.into_iter().chain(not_pfx) {
        if let Some(node) = fields.get(key) {
            decode.report.error("misplaced-key", node.place, message).help(help);
        }
    }
}

/// Socket and, where one is said, ID.
fn spiffe(decode: &mut Decode<'_>, node: &Node) -> Option<(PathBuf, Option<SpiffeId>, Place)> {
    let fields = decode.fields(node, "spiffe", &names(SPIFFE))?;
    let id = match fields.get("spiffe_id") {
        Some(node) => {
            let text = decode.string(node)?;
            Some(spiffe_id(decode, &text, node.place)?)
        }
        None => None,
    };
    if let Some(domain) = id.as_ref().filter(|id| id.path.is_empty()) {
        decode.report.error("spiffe-id", node.place, format!("{domain} is a trust domain, not the ID of a workload"));
        return None;
    }
    let (text, place) = match (fields.get("socket"), decode.scope().env.get("SPIFFE_ENDPOINT_SOCKET")) {
        (Some(node), _) => (decode.string(node)?, node.place),
        (None, Some(text)) if !text.is_empty() => (text.clone(), node.place),
        _ => {
            decode
                .report
                .error("missing-key", node.place, "nothing says where the SPIFFE agent listens")
                .help("add `socket: unix:/run/spire/sockets/agent.sock`, or set SPIFFE_ENDPOINT_SOCKET");
            return None;
        }
    };
    let path = text.strip_prefix("unix://").or(text.strip_prefix("unix:")).unwrap_or(&text);
    if path.is_empty() || path.contains("://") || path.starts_with("tcp:") {
        decode
            .report
            .error("spiffe-socket", place, "this is not the path of a Unix socket")
            .help("write it as unix:/run/spire/sockets/agent.sock; an agent behind TCP is not supported");
        return None;
    }
    Some((decode.resolve(path, place), id, node.place))
}

/// `ca_bundles: NAME: { spiffe: … }`.
fn spiffe_bundle(decode: &mut Decode<'_>, fields: &Fields<'_>, node: &Node, name: Option<&str>) -> Option<BundleSource> {
    for key in ["files", "system_roots"] {
        if let Some(node) = fields.get(key) {
            decode
                .report
                .error("two-forms", node.place, format!("a bundle from a SPIFFE agent has no `{key}`"))
                .help("a trust domain is believed for its own IDs only; make it two bundles");
        }
    }
    let (socket, id, place) = spiffe(decode, node)?;
    if id.is_some() {
        decode
            .report
            .error("spiffe-id", place, "a bundle has no SPIFFE ID of its own")
            .help("which ID a server must have stands in the rule: `tls: { spiffe_id: … }`");
    }
    Some(BundleSource {
        name: name.map(str::to_owned),
        place: fields.place,
        files: Vec::new(),
        system_roots: false,
        spiffe: Some((socket, place)),
    })
}

/// `tls: { spiffe_id: … }`: one or several, or whole trust domains.
pub fn spiffe_ids(decode: &mut Decode<'_>, node: &Node) -> Option<Vec<SpiffeId>> {
    let texts = decode.strings(node)?;
    texts.iter().map(|(text, place)| spiffe_id(decode, text, *place)).collect()
}

fn spiffe_id(decode: &mut Decode<'_>, text: &str, place: Place) -> Option<SpiffeId> {
    match SpiffeId::parse(text) {
        Ok(id) => Some(id),
        Err(why) => {
            decode
                .report
                .error("spiffe-id", place, format!("{} is not a SPIFFE ID: {why}", quoted(text, Shape::Url, "this")))
                .help("write it as spiffe://TRUST-DOMAIN/path");
            None
        }
    }
}
