//! What was added to a request, as it is looked for in the answer to it: origins repeat what they are sent, in error pages,
//! redirections and echoes, and the client is not to hold it.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::auth::CredentialLocation;
use crate::draft::Draft;
use crate::gate::{Decision, Echoes};
use crate::replace::{Replacement, Replacements, masking};

/// Fields that a credential of the type `headers` may set and that are none of it: what they hold stands in many an answer.
const NO_CREDENTIALS: [HeaderName; 8] = [
    header::ACCEPT,
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_TYPE,
    header::ORIGIN,
    header::REFERER,
    header::USER_AGENT,
];

/// What was added to a draft that was just signed.
pub struct Added<'a> {
    pub draft: &'a Draft,
    pub decision: &'a Decision,
    /// Authorizers that added nothing.
    pub suppressed: &'a [usize],
    /// The client's own cookies.
    pub cookies: &'a [HeaderValue],
}

impl Added<'_> {
    /// How it is looked for: as the last time, if it is the same.
    pub fn sought(&self) -> Option<Arc<Replacements>> {
        let echoes = &self.decision.echoes;
        let last = echoes.load();
        let last = last.as_ref();
        let (mut count, mut same) = (0, last.is_some());
        self.each(&mut |text| {
            same = same && last.is_some_and(|last| last.added.get(count).is_some_and(|added| added[..] == *text));
            count += 1;
        });
        if count == 0 {
            return None;
        }
        if let Some(last) = last.filter(|last| same && last.added.len() == count) {
            return Some(last.sought.clone());
        }
        let mut texts = Vec::new();
        self.each(&mut |text| texts.push(Zeroizing::new(text.to_vec())));
        let parts = texts.iter().flat_map(|text| parts(&String::from_utf8_lossy(text)));
        let mut pairs: Vec<Replacement> = parts.flat_map(|part| masking(&part)).collect();
        pairs.sort_by(|a, b| a.from.cmp(&b.from));
        pairs.dedup_by(|a, b| a.from == b.from);
        let sought = Arc::new(Replacements::new(pairs));
        echoes.store(Some(Arc::new(Echoes { added: texts, sought: sought.clone() })));
        Some(sought)
    }

    /// Every text that was added, in an order that stays the same.
    fn each(&self, take: &mut dyn FnMut(&[u8])) {
        let Self { decision, suppressed, .. } = self;
        let signed = decision.auth.iter().enumerate().filter(|(at, _)| !suppressed.contains(at));
        for spot in signed.flat_map(|(_, bound)| &bound.locations.writes) {
            match spot {
                CredentialLocation::Header(name) if !NO_CREDENTIALS.contains(name) => self.field(name, take),
                CredentialLocation::Query(name) => self.parameter(name, take),
                CredentialLocation::Cookie(_) | CredentialLocation::Jar => self.own_cookies(take),
                // What goes beside a credential is none; of the others the scheme itself tells.
                CredentialLocation::Header(_)
                | CredentialLocation::Aside(_)
                | CredentialLocation::Placeholder(_)
                | CredentialLocation::BodyField(_) => {}
            }
        }
        decision.secret_fields.iter().for_each(|name| self.field(name, take));
        decision.secret_query.iter().for_each(|name| self.parameter(name, take));
    }

    fn field(&self, name: &HeaderName, take: &mut dyn FnMut(&[u8])) {
        if let Some(value) = self.draft.headers.get(name) {
            take(value.as_bytes());
        }
    }

    /// The value of a query parameter, as it is meant.
    fn parameter(&self, name: &str, take: &mut dyn FnMut(&[u8])) {
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let pairs = self.draft.query().into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
        pairs.filter(|(own, _)| decoded(own) == name.as_bytes()).for_each(|(_, value)| take(&decoded(value)));
    }

    /// The values of cookies that the client did not bring itself.
    fn own_cookies(&self, take: &mut dyn FnMut(&[u8])) {
        fn pairs(field: &HeaderValue) -> impl Iterator<Item = &[u8]> {
            field.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
        }
        for pair in self.draft.headers.get_all(header::COOKIE).iter().flat_map(pairs) {
            let value = pair.iter().position(|byte| *byte == b'=').map(|at| &pair[at + 1..]);
            if let Some(value) = value.filter(|_| !self.cookies.iter().flat_map(pairs).any(|own| own == pair)) {
                take(value);
            }
        }
    }
}

/// What of an added text is secret: without the scheme before it, and inside `Basic` the password, or the user name where
/// that is the whole credential.
fn parts(text: &str) -> Vec<Zeroizing<String>> {
    let text = text.trim();
    let mut all = Vec::new();
    match text.split_once(' ').map(|(scheme, rest)| (scheme, rest.trim())) {
        Some((scheme, token)) if !token.contains([' ', ',', '"']) && scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            all.push(Zeroizing::new(token.to_owned()));
            let inside = scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(token).ok()).flatten();
            if let Some((user, password)) = inside.as_deref().and_then(|bytes| str::from_utf8(bytes).ok()?.split_once(':')) {
                let secret = if password.is_empty() { user } else { password };
                all.push(Zeroizing::new(secret.to_owned()));
            }
        }
        _ => all.push(Zeroizing::new(text.to_owned())),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_parts_of_a_field_are_known() {
        let of = |text: &str| parts(text).iter().map(|part| part.to_string()).collect::<Vec<_>>();
        assert_eq!(of("Bearer abc.def"), ["abc.def"]);
        assert_eq!(of("Basic dXNlcjpwYXNz"), ["dXNlcjpwYXNz", "pass"]);
        assert_eq!(of("Basic c2tfbGl2ZTo="), ["c2tfbGl2ZTo=", "sk_live"]);
        assert_eq!(of(" plain-value "), ["plain-value"]);
        let digest = "Digest username=\"a\", response=\"b\"";
        assert_eq!(of(digest), [digest]);
        assert_eq!(of("two words and more"), ["two words and more"]);
    }
}
