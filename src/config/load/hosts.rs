//! Whom a rule speaks of, and what is written instead by mistake.

use crate::pattern::HostPattern;
use crate::settings::shown::forms;
use crate::settings::{Decode, Node, Shape};

pub fn hosts(decode: &mut Decode<'_>, node: &Node) -> Vec<HostPattern> {
    let mut found = Vec::new();
    for (text, place) in decode.plain_strings(node).unwrap_or_default() {
        match HostPattern::parse(&text) {
            Ok(patterns) => {
                if let Some(rest) = text.strip_prefix('*').filter(|rest| rest.starts_with(|c: char| c.is_alphanumeric())) {
                    decode
                        .report
                        .warning(
                            "wide-host",
                            place,
                            format!("`{text}` also names hosts such as `evil-{rest}`, of whoever registers them"),
                        )
                        .help(format!("write `\"*.{rest}\"` for the subdomains, and `{rest}` beside it for the host itself"));
                }
                found.extend(patterns);
            }
            Err(_) if is_range(&text) => {
                decode
                    .report
                    .error("wrong-host", place, "a rule's host takes names, addresses and globs, no address range")
                    .help("write an address, or a glob over the parts that may differ, as in `\"10.0.*\"`");
            }
            Err(why) => {
                let help = url_help(&text);
                decode.report.error("wrong-host", place, why).help = help;
            }
        }
    }
    found
}

/// `10.0.0.0/8`.
fn is_range(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').unwrap_or_default();
    address.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() && prefix.parse::<u8>().is_ok()
}

/// What to write instead of a URL.
fn url_help(text: &str) -> Option<String> {
    if !forms::is_harmless(Shape::Host, text, &forms::Known::default()) {
        return Some("write `host: HOST`, and `port:` and `path:` beside it; a user and a password are no part of it".to_owned());
    }
    let rest = text.split_once("://").map(|(_, rest)| rest).or_else(|| text.contains('/').then_some(text))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let mut parts = vec![format!("`host: {host}`")];
    if !port.is_empty() {
        parts.push(format!("`port: {port}`"));
    }
    if !path.is_empty() {
        parts.push(format!("`path: /{path}`"));
    }
    if text.starts_with("http://") {
        parts.push("`scheme: http`".to_owned());
    }
    Some(format!("write {}", parts.join(" and ")))
}
