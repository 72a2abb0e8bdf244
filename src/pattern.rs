//! Which hosts, ports and paths a rule speaks of.
//!
//! Host patterns are exact names, addresses, globs (`*.example.com` is every subdomain at any depth
//! and not the apex; `*` is every host) and `{a,b}` alternatives; compared in lower case, IDNA ASCII
//! form, without the trailing dot. Patterns never reach across a `/`, `:` or `@`, since the host is
//! parsed strictly first.

use globset::{GlobBuilder, GlobMatcher};

use crate::origin::Host;

/// One host pattern of a rule, as one of four kinds so that the gate can index them.
#[derive(Clone, Debug)]
pub enum HostPattern {
    /// `*`.
    Any,
    Exact(Host),
    /// `*.example.com`, kept as `example.com`: any subdomain at any depth, never the apex or an address.
    Subdomains(Box<str>),
    Glob {
        text: Box<str>,
        matcher: GlobMatcher,
    },
}

/// Ports of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ports {
    /// None given: the default port of the scheme.
    Default,
    Any,
    /// Inclusive ranges.
    Ranges(Vec<(u16, u16)>),
}

/// A glob over the path (without the query): `*` within a segment, `**` across segments.
#[derive(Clone, Debug)]
pub struct PathPattern {
    text: Box<str>,
    matcher: GlobMatcher,
}
