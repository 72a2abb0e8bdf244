//! Cookies as RFC 6265 has them: what a `Set-Cookie` means, and which request a cookie belongs to.
//! Pure; a [`Jar`] keeps them. Where browsers have since become stricter, this follows RFC 6265bis.

mod date;
mod jar;

pub use jar::{Jar, Jars};

use std::cmp::Reverse;

use crate::origin::{Host, Origin, Scheme};
use crate::secret::Secret;

/// One cookie and where it belongs.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Whose it is, of those who share a jar; empty: gatepass's own user and whoever is not told from it.
    pub holder: String,
    pub name: String,
    pub value: Secret,
    /// Lower case, without a leading dot.
    pub domain: String,
    /// Only for the very host that set it.
    pub host_only: bool,
    pub path: String,
    /// Only over https.
    pub secure: bool,
    /// Seconds since 1970. A cookie without an end of its own gets [`LONGEST`].
    pub expires: u64,
    /// Milliseconds since 1970; never twice the same in one jar.
    pub learnt: u64,
}

/// No cookie lives longer than 400 days (RFC 6265bis §5.5); in seconds.
pub const LONGEST: u64 = 400 * 86_400;

/// RFC 6265bis §5.6: longer cookies and attributes are ignored.
const NAME_AND_VALUE: usize = 4096;
const ATTRIBUTE: usize = 1024;

impl Cookie {
    /// Reads a `Set-Cookie` field that `origin` sent with the answer to a request for `path` (RFC 6265 §5.2, §5.3).
    /// `None`: it is to be ignored. An end in the past takes the cookie away.
    pub fn parse(field: &[u8], origin: &Origin, path: &str, now: u64) -> Option<Self> {
        let text = std::str::from_utf8(field).ok()?;
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return None;
        }
        let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.len() + value.len() > NAME_AND_VALUE {
            return None;
        }
        let said = Attributes::read(attributes, now);
        let host = origin.host.to_string();
        let (domain, host_only) = domain(said.domain, &origin.host, &host)?;
        let secure_origin = origin.scheme == Scheme::Https;
        // RFC 6265bis §5.7: a cookie in clear cannot claim to be secure, nor one with a prefix what its prefix denies.
        let prefix_holds = match name.to_ascii_lowercase() {
            name if name.starts_with("__host-") => said.secure && host_only && said.path == Some("/"),
            name if name.starts_with("__secure-") => said.secure,
            _ => true,
        };
        if (said.secure && !secure_origin) || !prefix_holds {
            return None;
        }
        Some(Self {
            holder: String::new(),
            name: name.to_owned(),
            value: Secret::new(value),
            domain,
            host_only,
            path: said.path.map_or_else(|| default_path(path).to_owned(), str::to_owned),
            secure: said.secure,
            expires: said.max_age.or(said.expires).unwrap_or(u64::MAX).min(now.saturating_add(LONGEST)),
            learnt: 0,
        })
    }

    /// A cookie of which only name and value are known, since a browser sent it.
    pub fn sent(name: &str, value: &str, origin: &Origin, now: u64) -> Option<Self> {
        let prefix_holds = origin.scheme == Scheme::Https || !demands_secure(name);
        (prefix_holds && !name.is_empty() && name.len() + value.len() <= NAME_AND_VALUE).then(|| Self {
            holder: String::new(),
            name: name.to_owned(),
            value: Secret::new(value),
            domain: origin.host.to_string(),
            host_only: true,
            path: "/".to_owned(),
            secure: origin.scheme == Scheme::Https,
            expires: now.saturating_add(LONGEST),
            learnt: 0,
        })
    }

    /// Does it go with a request (RFC 6265 §5.4)?
    pub fn belongs_to(&self, origin: &Origin, path: &str, now: u64) -> bool {
        self.expires > now && (!self.secure || origin.scheme == Scheme::Https) && self.is_for(&origin.host) && self.covers(path)
    }

    fn is_for(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) if !self.host_only => is_within(name, &self.domain),
            host => host.to_string() == self.domain,
        }
    }

    /// RFC 6265 §5.1.4.
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.path.as_str())
            .is_some_and(|rest| rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/'))
    }

    /// The same cookie, perhaps with another value (RFC 6265 §5.3 step 11).
    pub fn is_same(&self, other: &Self) -> bool {
        self.holder == other.holder
            && self.name == other.name
            && self.path == other.path
            && self.domain == other.domain
            && self.host_only == other.host_only
    }

    /// Would this one, which came in clear, overlay that one, which is for https only (RFC 6265bis §5.7, step 16)? Of the
    /// same name, for hosts of which one is within the other, and for a path of that one's.
    fn overlays(&self, other: &Self) -> bool {
        let domains = is_within(&self.domain, &other.domain) || is_within(&other.domain, &self.domain);
        let same = self.holder == other.holder && self.name == other.name;
        other.secure && same && domains && other.covers(&self.path)
    }

    fn size(&self) -> usize {
        self.name.len() + self.value.expose().len() + self.domain.len() + self.path.len()
    }
}

/// RFC 6265bis §4.1.3.
fn demands_secure(name: &str) -> bool {
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    starts("__host-") || starts("__secure-")
}

/// Name and value of each cookie in a `Cookie` field.
pub fn pairs(field: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let text = std::str::from_utf8(field).unwrap_or_default();
    text.split(';').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.trim(), value.trim()))
}

/// RFC 6265 §5.1.3: the domain itself, or a name below it.
fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// RFC 6265 §5.3 steps 4 to 6: whose cookie it is, and whether only the host's own.
fn domain(said: Option<&str>, host: &Host, text: &str) -> Option<(String, bool)> {
    let own = || Some((text.to_owned(), true));
    let Some(said) = said else { return own() };
    let Ok(wanted) = Host::parse_written(said) else { return None };
    let Host::Name(name) = host else { return (wanted == *host).then(own)? };
    let wanted = wanted.name()?;
    // A cookie for a whole registry (`com`, `co.uk`, `github.io`) would reach strangers.
    if psl::suffix_str(wanted) == Some(wanted) {
        return if wanted == &**name { own() } else { None };
    }
    is_within(name, wanted).then(|| (wanted.to_owned(), false))
}

/// RFC 6265 §5.1.4: the path up to its last slash.
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

/// What the attributes say; of a repeated one, the last counts.
#[derive(Default)]
struct Attributes<'a> {
    domain: Option<&'a str>,
    path: Option<&'a str>,
    secure: bool,
    max_age: Option<u64>,
    expires: Option<u64>,
}

impl<'a> Attributes<'a> {
    fn read(text: &'a str, now: u64) -> Self {
        let mut said = Self::default();
        for attribute in text.split(';') {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let (name, value) = (name.trim(), value.trim());
            if value.len() > ATTRIBUTE {
                continue;
            }
            match name.to_ascii_lowercase().as_str() {
                "domain" => said.domain = Some(value.strip_prefix('.').unwrap_or(value)).filter(|domain| !domain.is_empty()),
                "path" => said.path = value.starts_with('/').then_some(value),
                "secure" => said.secure = true,
                "max-age" => said.max_age = max_age(value, now).or(said.max_age),
                "expires" => said.expires = date::parse(value).or(said.expires),
                _ => {}
            }
        }
        said
    }
}

/// RFC 6265 §5.2.2: seconds from now; none or fewer is the past.
fn max_age(value: &str, now: u64) -> Option<u64> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(if value.starts_with('-') { 0 } else { now.saturating_add(digits.parse().unwrap_or(LONGEST)) })
        .map(|end| if end == now { 0 } else { end })
}

/// In the order in which they are sent: longer paths first, then those known longer (RFC 6265 §5.4).
fn sort(cookies: &mut [&Cookie]) {
    cookies.sort_by_key(|cookie| Reverse(cookie.path.len()));
}

#[cfg(test)]
mod tests;
