//! Certificates that are no files: keys on tokens.

use super::super::decode::{Decode, Fields};
use super::super::meant::{Material, Text};
use super::super::token::{Parsed, TokenUri};
use crate::secret::Secret;

/// `pkcs11:` and what belongs to it; the PIN beside it.
pub fn token(decode: &mut Decode<'_>, fields: &Fields<'_>) -> Option<(Material, Option<Text>)> {
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
pub fn token_keys(decode: &mut Decode<'_>, fields: &Fields<'_>) {
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
    for (key, message, help) in wrong {
        if let Some(node) = fields.get(key) {
            decode.report.error("misplaced-key", node.place, message).help(help);
        }
    }
}
