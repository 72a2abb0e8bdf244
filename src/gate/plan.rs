//! All that can be decided from the origin and the caller, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http::{HeaderValue, Method};

use super::decision::{self, Decision};
use super::{Gate, LiveRule};
use crate::failure::{Cause, Failure};
use crate::origin::{Origin, Scheme};

/// What to do with requests for one origin.
pub struct Plan {
    pub origin: Arc<Origin>,
    /// The generation of the gate it came from; a plan of an older one is not used.
    pub generation: u64,
    /// `Host` and `:authority` toward the origin, always ours.
    pub host: HeaderValue,
    pub authority: http::uri::Authority,
    /// Positions of the rules that may apply, ascending.
    pub rules: Vec<usize>,
    /// Offer the client HTTP/2? Not where a scheme authenticates the connection.
    pub h2: bool,
    /// No rule among them asks for a path or method: one decision serves every request.
    single: Option<Result<Arc<Decision>, Failure>>,
    /// Which rules applied, to what follows; bounded by the number of distinct combinations met.
    decisions: Mutex<HashMap<Vec<usize>, Result<Arc<Decision>, Failure>>>,
}

/// Combinations of conditional rules kept for one origin.
const DECISIONS: usize = 1_024;

impl Plan {
    pub(super) fn new(gate: &Gate, origin: Arc<Origin>, rules: Vec<usize>) -> Self {
        let text = origin.authority();
        // The host is strictly parsed, so both always succeed; a literal stands in to keep this total.
        let host = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("invalid"));
        let authority = text.parse().unwrap_or_else(|_| http::uri::Authority::from_static("invalid"));
        let conditional = rules.iter().any(|at| gate.rules[*at].is_conditional());
        let single = (!conditional).then(|| decision::merge(gate, &origin, &rules));
        let h2 = !rules.iter().any(|at| gate.rules[*at].owns_connection());
        Self { origin, generation: gate.generation, host, authority, rules, h2, single, decisions: Mutex::default() }
    }

    /// What to do with this request.
    ///
    /// # Errors
    /// A way out cannot be made, or the path is spelled so that rules could be slipped past.
    pub fn decide(&self, gate: &Gate, method: &Method, path: &str) -> Result<Arc<Decision>, Failure> {
        if let Some(single) = &self.single {
            return single.clone();
        }
        refuse_slippery(path)?;
        let folded = std::cell::OnceCell::new();
        let by_path = |live: &LiveRule| {
            let denies = live.rule.action == Some(crate::config::Action::Deny);
            live.rule.paths.iter().any(|pattern| {
                pattern.matches(path) || denies && pattern.matches_folded(folded.get_or_init(|| crate::pattern::fold(path)))
            })
        };
        let applies = |live: &LiveRule| {
            (live.rule.methods.is_empty() || live.rule.methods.contains(method)) && (live.rule.paths.is_empty() || by_path(live))
        };
        let rules: Vec<usize> = self.rules.iter().copied().filter(|at| applies(&gate.rules[*at])).collect();
        let mut decisions = self.decisions.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(decision) = decisions.get(&rules) {
            return decision.clone();
        }
        if decisions.len() >= DECISIONS {
            decisions.clear();
        }
        let decision = decision::merge(gate, &self.origin, &rules);
        decisions.insert(rules, decision.clone());
        decision
    }

    pub fn is_ruled(&self) -> bool {
        !self.rules.is_empty()
    }

    pub fn scheme(&self) -> Scheme {
        self.origin.scheme
    }
}

/// Where rules ask for paths, a path that an origin may read otherwise than we do (`/a/../b`,
/// `/%2e%2e/`, `//`, `\`) could carry a credential past its rule, or past a `deny`. It is refused.
fn refuse_slippery(path: &str) -> Result<(), Failure> {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let empty = segment.is_empty() && segments.peek().is_some();
        let lower = segment.to_ascii_lowercase();
        let dots = matches!(lower.replace("%2e", ".").as_str(), "." | "..") || lower.starts_with("..;");
        if empty || dots || lower.contains("%2f") || lower.contains("%5c") || segment.contains('\\') {
            return Err(Failure::new(
                Cause::BadRequest,
                "rules for this host depend on the path, and this path is ambiguous (empty or dot segments, encoded slashes)",
            )
            .hint("send the path in its plain form"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_paths_are_refused_where_rules_depend_on_paths() {
        for path in ["/a/../b", "/a/./b", "/%2e%2e/b", "/a/%2E%2e", "//b", "/a//b", "/a%2fb", "/a%5cb", "/a\\b", "/..;/b"] {
            assert!(refuse_slippery(path).is_err(), "{path}");
        }
        for path in ["/", "/a", "/a/", "/a/b.c", "/a/...", "/%20", "*"] {
            assert!(refuse_slippery(path).is_ok(), "{path}");
        }
    }
}
