//! Which texts look like what their key declares. What does not may be a secret that came to stand there.

use std::collections::BTreeSet;

use crate::settings::shape::{Field, SECRET, Schema, Shape};

/// The words that may always be shown: keys and the words that values may be; and the names that the document itself gives
/// to things.
#[derive(Default)]
pub struct Known {
    pub words: BTreeSet<&'static str>,
    pub names: BTreeSet<String>,
}

impl Known {
    pub fn new(schema: &Schema) -> Self {
        let mut known = Self::default();
        known.block(SECRET);
        known.shape(schema.root);
        for definition in schema.definitions.values() {
            for (key, shape) in &definition.keys {
                known.words.insert(key);
                known.shape(*shape);
            }
        }
        known.words.extend(["none", "true", "false", "yes", "no", "on", "off", "any", "null", "<<"]);
        known
    }

    fn block(&mut self, fields: &'static [Field]) {
        for field in fields {
            self.words.insert(field.name);
            self.shape(field.shape);
        }
    }

    fn shape(&mut self, shape: Shape) {
        match shape {
            Shape::Words(words) => self.words.extend(words),
            Shape::Many(one) | Shape::List(one) | Shape::Names(one) | Shape::Fields(one) | Shape::Map(one) => self.shape(*one),
            Shape::OneOf(shapes) => shapes.iter().for_each(|one| self.shape(*one)),
            Shape::Block(fields) => self.block(fields),
            _ => {}
        }
    }

    /// Says this text nothing that is not known anyway?
    pub fn is_word(&self, text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        self.words.contains(lower.as_str())
            || self.words.iter().any(|word| is_misspelt(text, word))
            || lower.split(['_', '-']).all(|part| self.words.contains(part))
    }

    pub fn is_name(&self, text: &str) -> bool {
        is_key_word(text) || self.names.contains(text) || self.names.iter().any(|name| is_misspelt(text, name))
    }
}

/// Is it this word but for a slip or two, or the beginning of it?
pub fn is_misspelt(text: &str, word: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let longest = word.len().max(text.len());
    if longest > 64 || longest.abs_diff(word.len().min(text.len())) > 2 {
        return text.len() > 2 && word.starts_with(&text);
    }
    let slips = strsim::damerau_levenshtein(&text, &word.to_ascii_lowercase());
    slips <= 2 && slips * 3 <= word.len()
}

/// May a text of this shape be shown?
pub fn is_harmless(shape: Shape, text: &str, known: &Known) -> bool {
    let Some(text) = without_references(text) else { return false };
    let text = text.as_str();
    if text.is_empty() {
        return true;
    }
    let of = |more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    let short = text.len() <= 64;
    match shape {
        Shape::Plain => short && of("._:/-*") && !is_token(text),
        Shape::Field => short && of("-_.@;=\"") && !is_token(text) && !text.contains("=="),
        Shape::Name => known.is_name(text),
        Shape::Variable => is_variable(text),
        Shape::Host => {
            text.len() <= 253 && of(".-_*?{},[]:/") && !is_mixed(text) && !is_random_host(text) && has_ports_only(text)
        }
        Shape::Listen => match text.strip_prefix("unix:") {
            Some(path) => is_path(path),
            None => text.starts_with("systemd") && of("-_:.") && !is_token(text) || is_address(text),
        },
        Shape::Url => is_plain_url(text),
        Shape::UrlPath => text.len() <= 200 && text.starts_with('/') && of("/*.-_{},?[]!~ ") && !is_random(text),
        Shape::File => is_path(text) && (text.contains(['/', '.']) || !is_token(text)),
        // What has neither may be the very key, or a secret that was taken for one.
        Shape::Pem | Shape::Key => text.contains(['/', '.']) && is_path(text),
        Shape::Certificate => is_path(text) && (text.contains(['/', '.']) || is_key_word(text)),
        Shape::Command => is_key_word(text) || is_said_to_be_path(text),
        Shape::Argument => is_said_to_be_path(text),
        Shape::TokenUri => is_token_uri(text),
        Shape::Pin => text.strip_prefix("sha256/").is_some_and(|rest| rest.len() == 44),
        Shape::Bool => known.is_word(text),
        Shape::Number | Shape::Time | Shape::Size => is_quantity(text),
        Shape::Port => known.is_word(text) || text.len() <= 11 && text.chars().all(|c| c.is_ascii_digit() || c == '-'),
        Shape::Words(words) => {
            is_key_word(text) || words.iter().any(|word| is_misspelt(text, word)) || known.words.contains(text)
        }
        Shape::Many(one) | Shape::List(one) => is_harmless(*one, text, known),
        Shape::OneOf(shapes) => shapes.iter().any(|one| is_harmless(*one, text, known)),
        Shape::Text
        | Shape::Secret
        | Shape::Json
        | Shape::Block(_)
        | Shape::Names(_)
        | Shape::Fields(_)
        | Shape::Map(_)
        | Shape::Defined(_) => text.is_empty(),
    }
}

/// The text without `${NAME}` and `{{name}}`; `None` where a reference holds more than a name: a default may be a secret.
fn without_references(text: &str) -> Option<String> {
    let mut rest = text;
    let mut plain = String::new();
    while let Some(at) = rest.find("${").into_iter().chain(rest.find("{{")).min() {
        plain.push_str(&rest[..at]);
        let close = if rest[at..].starts_with("${") { "}" } else { "}}" };
        let inner = &rest[at + 2..];
        let end = inner.find(close)?;
        if !is_reference(inner[..end].trim()) {
            return None;
        }
        rest = &inner[end + close.len()..];
    }
    Some(plain + rest)
}

/// The inside of a reference that names something and says no more. What follows a `-` may be a default, as shells
/// write it (`${TOKEN-abc}`), and with it a secret.
pub fn is_reference(name: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    match name.strip_prefix("file:") {
        Some(path) => is_path(path),
        None => !name.is_empty() && name.len() <= 64 && name.chars().all(of_name) && !is_random(name),
    }
}

/// `API_TOKEN`, `http_proxy`; not what somebody wrote there instead of a name.
pub fn is_variable(text: &str) -> bool {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let upper = text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let lower = text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    first && text.len() <= 64 && (upper || lower) && !is_random(text)
}

/// A name in a place where the configuration's writer names things.
pub fn is_given_name(text: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*');
    let first = text.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '*');
    first && text.len() <= 40 && text.chars().all(of_name) && !is_random(text)
}

/// The name of a header as one is written: `Authorization`, `X-Api-Key`.
pub fn is_header(text: &str) -> bool {
    const WORDS: [&str; 8] = ["accept", "authorization", "cookie", "from", "host", "origin", "referer", "user-agent"];
    let parts = text.split('-').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric()));
    let shaped = parts && text.contains('-') || WORDS.contains(&text.to_ascii_lowercase().as_str());
    shaped && text.len() <= 40 && !is_random(text)
}

/// A plain word in small letters: an unknown key, a name that nothing has. Tokens and keys do not look so.
pub fn is_key_word(text: &str) -> bool {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    first && text.len() <= 24 && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// A port, or a host or address with one.
fn is_address(text: &str) -> bool {
    let of = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let port = text.rsplit(':').next().unwrap_or(text);
    text.len() <= 100
        && text.chars().all(of)
        && !is_token(text)
        && has_ports_only(text)
        && port.chars().all(|c| c.is_ascii_digit())
}

/// Behind a colon stands a port, or the text is an IPv6 address: not the password of a user.
fn has_ports_only(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let hex = authority.chars().all(|c| c.is_ascii_hexdigit() || ":[].".contains(c));
    hex || authority.split(':').skip(1).all(|port| port.chars().all(|c| c.is_ascii_digit() || c == '-'))
}

fn is_quantity(text: &str) -> bool {
    let digits = text.chars().take_while(|c| c.is_ascii_digit()).count();
    let rest = text[digits..].trim_start();
    (1..=12).contains(&digits) && rest.len() <= 4 && rest.chars().all(|c| c.is_ascii_alphabetic() || c == '.')
}

/// Without user, password, query and fragment, and without a segment that is a secret of its own (webhooks have those).
fn is_plain_url(text: &str) -> bool {
    let of = |c: char| c.is_ascii_alphanumeric() || ":/.-_*[]~".contains(c);
    text.len() <= 200 && text.contains(['.', ':', '/']) && text.chars().all(of) && !is_random_host(text) && has_ports_only(text)
}

/// Can this be the path of a file at all? What a variable holds may be the file's contents instead.
pub fn can_be_path(text: &str) -> bool {
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=-_".contains(c);
    let begins = ["/", "./", "../", "~/"].iter().any(|begin| text.starts_with(begin));
    let contents = text.len() > 64 && !begins && text.chars().all(base64);
    // PATH_MAX and NAME_MAX of Linux.
    !contents && text.len() < 4096 && !text.contains(char::is_control) && text.split('/').all(|segment| segment.len() <= 255)
}

/// A path as people have them: no lines, no piece that is longer or more even than names are.
pub fn is_path(text: &str) -> bool {
    let of = |c: char| c.is_alphanumeric() || " ._-/~+,:()[]\\".contains(c);
    text.len() <= 512
        && !text.contains("://")
        && text.chars().all(of)
        && text.split('/').all(|segment| segment.len() <= 100 && !is_random(segment))
        && (text.len() <= 64 || text.contains(['.', '/']))
}

/// A path by its beginning too.
fn is_said_to_be_path(text: &str) -> bool {
    let begins = ["/", "./", "../", "~/"].iter().any(|begin| text.starts_with(begin));
    begins && is_path(text) && !is_token(text)
}

/// Attributes of a `pkcs11:` URI that say which token is meant (RFC 7512 §2.3).
pub const TOKEN_ATTRIBUTES: [&str; 10] = [
    "token",
    "manufacturer",
    "serial",
    "model",
    "library-manufacturer",
    "library-description",
    "library-version",
    "slot-manufacturer",
    "slot-description",
    "slot-id",
];

/// All of RFC 7512 but `pin-value`, with values as people and tokens have them: labels, and numbers in hexadecimal digits.
fn is_token_uri(text: &str) -> bool {
    const OTHERS: [&str; 6] = ["object", "id", "type", "module-name", "module-path", "pin-source"];
    let Some(rest) = text.strip_prefix("pkcs11:") else { return false };
    let public = |attribute: &str| {
        let of = |c: char| c.is_ascii_alphanumeric() || "-._~%/: ".contains(c);
        let hex = |value: &str| value.len() <= 64 && value.chars().all(|c| c.is_ascii_hexdigit() || c == '%');
        attribute.split_once('=').is_some_and(|(name, value)| {
            let known = TOKEN_ATTRIBUTES.contains(&name) || OTHERS.contains(&name);
            known && value.chars().all(of) && (!is_token(value) || matches!(name, "id" | "serial") && hex(value))
        })
    };
    rest.split([';', '?', '&']).filter(|attribute| !attribute.is_empty()).all(public)
}

/// Long runs of letters and digits are how tokens, keys and hashes look.
pub fn is_random(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        let digits = run.chars().filter(char::is_ascii_digit).count();
        let upper = run.chars().filter(char::is_ascii_uppercase).count();
        let lower = run.chars().filter(char::is_ascii_lowercase).count();
        run.len() >= 32 || run.len() >= 16 && digits >= 2 && upper + lower >= 4 || run.len() >= 20 && upper >= 3 && lower >= 3
    })
}

fn is_token(text: &str) -> bool {
    is_random(text) || is_mixed(text)
}

/// A word in which small and capital letters and digits are mixed, as made-up secrets have them; names and places hardly do.
fn is_mixed(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        let has = |of: fn(&char) -> bool| run.chars().any(|c| of(&c));
        run.len() >= 6 && has(char::is_ascii_digit) && has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase)
    })
}

/// Hosts of clouds have long labels of lower-case letters and digits.
fn is_random_host(text: &str) -> bool {
    text.split(['.', '/', ':', '-']).any(|label| label.chars().any(|c| c.is_ascii_uppercase()) && is_random(label))
        || text.split_once("://").map_or(text, |(_, rest)| rest).split('/').skip(1).any(is_random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_what_it_should_be_is_harmless_and_what_does_not_is_not() {
        let mut known = Known::default();
        known.names.insert("payments".to_owned());
        let good = [
            (Shape::Host, "*.corp.example.com"),
            (Shape::Host, "${tenant}.example.com"),
            (Shape::Host, "{a,b}.example.com"),
            (Shape::Host, "10.0.0.0/8"),
            (Shape::Host, "[2001:db8::1]:8443"),
            (Shape::Url, "https://api.example.com:8443/v1"),
            (Shape::File, "certs/alice.p12"),
            (Shape::File, "~/keys/my key.pem"),
            (Shape::Pem, "/run/secrets/tls.crt"),
            (Shape::Certificate, "a"),
            (Shape::Certificate, "certs/alice.crt"),
            (Shape::Command, "/opt/tools/helper.sh"),
            (Shape::Command, "./helper"),
            (Shape::Command, "vault"),
            (Shape::TokenUri, "pkcs11:token=My%20card;object=key;id=%01%a2?module-path=/usr/lib/x.so"),
            (Shape::TokenUri, "pkcs11:serial=9f86d081884c7d65;pin-source=file:/run/pin"),
            (Shape::Plain, "us-east-1"),
            (Shape::Name, "paymnets"),
            (Shape::Time, "5x"),
            (Shape::Size, "64 KiB"),
            (Shape::Port, "8000-8999"),
            (Shape::Words(&["tunnel", "deny"]), "tunel"),
            (Shape::Pin, "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            (Shape::Secret, "${TOKEN}"),
            (Shape::Secret, "{{ token }}"),
            (Shape::Variable, "API_TOKEN"),
            (Shape::Listen, "127.0.0.1:8118"),
            (Shape::Listen, "unix:/run/gatepass.sock"),
        ];
        for (shape, text) in good {
            assert!(is_harmless(shape, text, &known), "{text}");
        }
        let bad = [
            (Shape::Host, "https://user:top@h"),
            (Shape::Host, "Bearer top"),
            (Shape::Host, "https://h/?token=top"),
            (Shape::Url, "https://hooks.example.com/services/T0AB12CD/B0AB12CD/abcdEFGH1234ijkl5678MNOP"),
            (Shape::Url, "socks5://u:p@h"),
            (Shape::File, "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JR0hBZ0VB"),
            (Shape::Pem, "-----BEGIN PRIVATE KEY-----\nMIG"),
            (Shape::Plain, "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
            (Shape::Pem, "a"),
            (Shape::Certificate, "Hunter2"),
            (Shape::Certificate, "-----BEGIN PRIVATE KEY-----\nMIG"),
            (Shape::Argument, "--token=hunter2"),
            (Shape::Argument, "top"),
            (Shape::Command, "Hunter2"),
            (Shape::Command, "/services/T0AB12CD/B0AB12CD/abcdEFGH1234ijkl5678MNOP"),
            (Shape::TokenUri, "pkcs11:token=a?pin-value=1234"),
            (Shape::TokenUri, "pkcs11:token=a;1234"),
            (Shape::TokenUri, "pkcs11:token=ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
            (Shape::TokenUri, "hunter2"),
            (Shape::Name, "Bearer top"),
            (Shape::Name, "nobody7"),
            (Shape::Time, "hunter2"),
            (Shape::Port, "hunter2"),
            (Shape::Words(&["tunnel", "deny"]), "hunter2"),
            (Shape::Secret, "hunter2"),
            (Shape::Secret, "${A:-hunter2}"),
            (Shape::Secret, "${A}hunter2"),
            (Shape::Text, "hunter2"),
            (Shape::Variable, "ghp_16C7e42F"),
        ];
        for (shape, text) in bad {
            assert!(!is_harmless(shape, text, &known), "{text}");
        }
    }
}
