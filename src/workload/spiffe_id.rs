//! SPIFFE IDs (SPIFFE-ID §2): `spiffe://TRUST-DOMAIN/path`.

use std::fmt;

/// A SPIFFE ID; or, without a path, a trust domain, which stands for every ID in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpiffeId {
    pub domain: String,
    /// With its leading `/`; empty for a trust domain.
    pub path: String,
}

impl SpiffeId {
    /// # Errors
    /// It is none, in half a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("spiffe://").ok_or("it does not begin with `spiffe://`")?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let of_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if domain.is_empty() || !domain.chars().all(of_domain) {
            return Err("its trust domain has other characters than a-z, 0-9, `.`, `-` and `_`, or none");
        }
        let of_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let segment = |text: &str| !matches!(text, "" | "." | "..") && text.chars().all(of_path);
        if !path.is_empty() && !path[1..].split('/').all(segment) {
            return Err("its path has an empty segment, `.`, `..`, or a character that is not allowed");
        }
        Ok(Self { domain: domain.to_owned(), path: path.to_owned() })
    }

    /// Is `id` this one, or one of this trust domain?
    pub fn admits(&self, id: &SpiffeId) -> bool {
        self.domain == id.domain && !id.path.is_empty() && (self.path.is_empty() || self.path == id.path)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.domain, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(text).unwrap()
    }

    #[test]
    fn an_id_admits_itself_and_a_trust_domain_its_members() {
        let billing = id("spiffe://prod.example/billing/api");
        assert!(billing.admits(&billing));
        assert!(id("spiffe://prod.example").admits(&billing));
        assert!(!id("spiffe://test.example").admits(&billing));
        assert!(!id("spiffe://prod.example/billing").admits(&billing));
        assert!(!billing.admits(&id("spiffe://prod.example")));
        assert_eq!(billing.to_string(), "spiffe://prod.example/billing/api");
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        for text in [
            "https://a/b",
            "spiffe://",
            "spiffe:///a",
            "spiffe://A/b",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/../b",
            "spiffe://a/b?c",
            "spiffe://a/b%20c",
        ] {
            assert!(SpiffeId::parse(text).is_err(), "{text}");
        }
    }
}
