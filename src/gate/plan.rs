//! All that can be decided from the origin and the caller, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use http::{HeaderValue, Method};

use super::decision::{self, Decision};
use super::{Caller, Gate, LiveRule, near};
use crate::config::Action;
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
    /// A rule among them denies methods: what a request says of its "real" method is heeded too.
    heeds_overrides: bool,
    /// What nearly applied, in one line; made when first asked for.
    near: OnceLock<Option<Arc<str>>>,
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
        let heeds_overrides = rules.iter().map(|at| &gate.rules[*at]).any(|live| live.denies() && !live.rule.methods.is_empty());
        let generation = gate.generation;
        Self {
            origin,
            generation,
            host,
            authority,
            rules,
            h2,
            heeds_overrides,
            near: OnceLock::new(),
            single,
            decisions: Mutex::default(),
        }
    }

    /// What to do with this request. Many frameworks take the method from a header or the query (`X-HTTP-Method-Override`,
    /// `_method`) where it is there; a `deny` of a method holds for that one as well.
    ///
    /// # Errors
    /// As [`Plan::decide`].
    pub fn decide_request(&self, gate: &Gate, request: &http::request::Parts) -> Result<Arc<Decision>, Failure> {
        let path = request.uri.path();
        // A WebSocket over HTTP/2 is an extended CONNECT, and over HTTP/1.1 a GET (RFC 8441 §5): rules know it as that.
        let extended = request.method == Method::CONNECT && request.extensions.get::<hyper::ext::Protocol>().is_some();
        let decision = self.decide(gate, if extended { &Method::GET } else { &request.method }, path)?;
        if self.heeds_overrides && decision.action != Action::Deny {
            for method in overrides(request) {
                let other = self.decide(gate, &method, path)?;
                if other.action == Action::Deny {
                    return Ok(other);
                }
            }
        }
        Ok(decision)
    }

    /// What to do with requests of this method and path.
    ///
    /// # Errors
    /// A way out cannot be made, or the path is spelled so that rules could be slipped past.
    pub fn decide(&self, gate: &Gate, method: &Method, path: &str) -> Result<Arc<Decision>, Failure> {
        if let Some(single) = &self.single {
            return single.clone();
        }
        refuse_slippery(path)?;
        let readings = std::cell::OnceCell::new();
        let by_path = |live: &LiveRule| {
            live.rule.paths.iter().any(|pattern| {
                pattern.matches(path)
                    || live.denies() && pattern.matches_any(readings.get_or_init(|| crate::pattern::readings(path)))
            })
        };
        let applies = |live: &LiveRule| live.is_for(method) && (live.rule.paths.is_empty() || by_path(live));
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

    /// The rules that nearly give requests for this origin something, and what differs; for where none does.
    pub fn near(&self, gate: &Gate, caller: &Caller) -> Option<Arc<str>> {
        self.near.get_or_init(|| near::line(&gate.near(&self.origin, caller, None))).clone()
    }

    pub fn is_ruled(&self) -> bool {
        !self.rules.is_empty()
    }

    pub fn scheme(&self) -> Scheme {
        self.origin.scheme
    }
}

/// The methods that a request asks to be taken for, as frameworks read it: names in any case, with `_` for `-` (CGI knows no
/// difference), several values with commas, parameters percent-decoded. A form field `_method` is not looked for: it is in the
/// body.
fn overrides(request: &http::request::Parts) -> Vec<Method> {
    const NAMES: [&str; 4] = ["x-http-method-override", "x-http-method", "x-method-override", "-method"];
    let known = |name: &str| NAMES.contains(&name.to_ascii_lowercase().replace('_', "-").as_str());
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let headers = request.headers.iter().filter(|(name, _)| known(name.as_str()));
    let headers = headers.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let query = request.uri.query().unwrap_or_default().split(['&', ';']);
    let parameters = query.filter_map(|pair| pair.split_once('=')).filter(|(name, _)| known(&decoded(name)));
    let said: Vec<String> = headers.chain(parameters.map(|(_, value)| decoded(value))).collect();
    let plain = |text: &str| text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '+')).to_owned();
    said.iter().flat_map(|text| text.split(',')).filter_map(|text| Method::from_bytes(plain(text).as_bytes()).ok()).collect()
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
