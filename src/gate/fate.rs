//! May this pass, and how? The one verdict on a connection and on a request: every way in asks here, `gatepass explain` too.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::{Caller, Decision, Gate, LiveRule, Plan, admits, near};
use crate::config::{Action, Unmatched};
use crate::failure::{Cause, Failure};
use crate::origin::{Host, Scheme};

/// What becomes of a connection or a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    Deny(Denial),
    /// The connection passes unopened, by this rule; `None`: none speaks of it.
    Tunnel(Option<Arc<str>>),
    /// The connection is opened, and each of its requests judged.
    Intercept,
    /// gatepass answers the request itself, as the token endpoint of this credential.
    StandIn(Arc<str>),
    /// The request is carried, with what its rules add.
    Carry,
}

/// Why something may not pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Denial {
    /// This rule says so.
    Rule(Arc<str>),
    /// `unmatched: deny`, and no rule is for it.
    Unmatched,
    /// The method is answered with the request itself, credential and all.
    Echo(Method),
}

impl Denial {
    /// The refusal of what goes to `target`. `near`: the rules that nearly speak of it.
    pub fn refusal(&self, target: &dyn fmt::Display, host: &Host, near: impl FnOnce() -> Option<Arc<str>>) -> Failure {
        match self {
            Denial::Rule(rule) => Failure::new(Cause::Denied, format!("a rule denies {target} ({rule})"))
                .hint("change `action: deny` there if it should pass"),
            Denial::Unmatched => near::unmatched(target, host, near().as_deref()),
            Denial::Echo(method) => Failure::new(
                Cause::MethodNotAllowed,
                format!("{method} would send the credential for {target} back to the client"),
            ),
        }
    }

    /// The rule that says so.
    pub fn rule(&self) -> Option<&Arc<str>> {
        match self {
            Denial::Rule(rule) => Some(rule),
            Denial::Unmatched | Denial::Echo(_) => None,
        }
    }
}

impl Gate {
    /// What becomes of a CONNECT, or of any connection of which nothing was read yet.
    pub fn fate(&self, host: &Host, port: u16, caller: &Caller) -> Fate {
        let speaks = |at: &usize, scheme| self.rules[*at].speaks_of(scheme, port);
        let rules: Vec<usize> = (self.about(host).into_iter())
            .filter(|at| speaks(at, Scheme::Https) || speaks(at, Scheme::Http))
            .filter(|at| admits(&self.rules[*at].rule.clients, caller))
            .collect();
        if rules.is_empty() {
            return match self.unmatched {
                Unmatched::Tunnel => Fate::Tunnel(None),
                Unmatched::Intercept => Fate::Intercept,
                Unmatched::Deny => Fate::Deny(Denial::Unmatched),
            };
        }
        if let Some(live) = self.last_word(rules.iter()).filter(|live| live.rule.action == Some(Action::Tunnel)) {
            return Fate::Tunnel(Some(live.label.clone()));
        }
        // Which scheme it will be is seen in the first bytes; on a scheme's own port it is taken to be that one. A deny decides
        // now only if every request would hear it.
        let likely: &[Scheme] = match port {
            443 => &[Scheme::Https],
            80 => &[Scheme::Http],
            _ => &[Scheme::Https, Scheme::Http],
        };
        let denial = |scheme: &Scheme| {
            let last = self.last_word(rules.iter().filter(|at| speaks(at, *scheme)));
            last.filter(|live| live.denies() && !live.is_conditional())
        };
        match likely.iter().map(denial).collect::<Option<Vec<_>>>().as_deref() {
            Some([live, ..]) => Fate::Deny(Denial::Rule(live.label.clone())),
            _ => Fate::Intercept,
        }
    }

    /// The last of these rules that says whether something may pass.
    pub fn last_word<'r>(&self, rules: impl DoubleEndedIterator<Item = &'r usize>) -> Option<&LiveRule> {
        rules.rev().map(|at| &self.rules[*at]).find(|live| live.rule.action.is_some())
    }
}

impl Plan {
    /// What becomes of a connection that [`Gate::fate`] did not settle, now that it is known what is spoken there.
    pub fn fate(&self, gate: &Gate) -> Fate {
        match gate.last_word(self.rules.iter()) {
            Some(last) if last.rule.action == Some(Action::Tunnel) => Fate::Tunnel(Some(last.label.clone())),
            None if !self.is_ruled() && gate.unmatched == Unmatched::Tunnel => Fate::Tunnel(None),
            _ => Fate::Intercept,
        }
    }
}

impl Decision {
    /// What becomes of a request of this method.
    pub fn fate(&self, gate: &Gate, method: &Method) -> Fate {
        if self.action == Action::Deny {
            let rule = gate.last_word(self.rules.iter()).map_or(&self.label, |live| &live.label);
            return Fate::Deny(Denial::Rule(rule.clone()));
        }
        // Also a request of another method or path than the host's rules are for.
        if self.rules.is_empty() && gate.unmatched == Unmatched::Deny {
            return Fate::Deny(Denial::Unmatched);
        }
        // TRACE echoes the request, credential and all (RFC 9110 §9.3.8); TRACK is Microsoft's TRACE.
        if (method == Method::TRACE || method.as_str() == "TRACK") && self.injects() {
            return Fate::Deny(Denial::Echo(method.clone()));
        }
        self.token_endpoint.clone().map_or(Fate::Carry, Fate::StandIn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;

    async fn gate(yaml: &str) -> Gate {
        let inline = Some(("g.yaml".to_owned(), yaml.to_owned(), std::path::PathBuf::new()));
        let request =
            crate::config::Request { inline, ca_in_memory: true, auth_types: crate::auth::types(), ..Default::default() };
        crate::serve::build(&request).await.unwrap_or_else(|report| panic!("{}", report.render(false))).gate
    }

    fn connection(gate: &Gate, target: &str) -> Fate {
        let (host, port) = crate::origin::parse_authority(target).unwrap();
        gate.fate(&host, port.unwrap(), &Caller::default())
    }

    fn plan(gate: &Gate, scheme: Scheme, host: &str) -> Arc<Plan> {
        let origin = Origin::new(scheme, Host::parse(host).unwrap(), scheme.default_port());
        gate.plan(&Arc::new(origin), &Caller::default())
    }

    fn request(gate: &Gate, method: &str, host: &str, path: &str) -> Fate {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        plan(gate, Scheme::Https, host).decide(gate, &method, path).ok().unwrap().fate(gate, &method)
    }

    fn denied_by(rule: &str) -> Fate {
        Fate::Deny(Denial::Rule(rule.into()))
    }

    const RULES: &str = "rules:
- { host: denied.test, action: deny }
- { host: partly.test, path: /admin/**, action: deny }
- { host: passed.test, action: tunnel }
- { host: keyed.test, headers: { set: { x-key: k } } }
- { host: given.test, path: /a }
";

    #[tokio::test]
    async fn a_connection_is_denied_at_once_only_where_every_request_would_be() {
        let gate = gate(RULES).await;
        assert_eq!(connection(&gate, "denied.test:443"), denied_by("g.yaml:2"));
        assert_eq!(connection(&gate, "partly.test:443"), Fate::Intercept);
        assert_eq!(connection(&gate, "passed.test:443"), Fate::Tunnel(Some("g.yaml:4".into())));
        assert_eq!(connection(&gate, "keyed.test:443"), Fate::Intercept);
        assert_eq!(connection(&gate, "other.test:443"), Fate::Tunnel(None));
    }

    #[tokio::test]
    async fn what_no_rule_speaks_of_has_the_fate_of_the_unmatched() {
        for (word, wanted) in
            [("deny", Fate::Deny(Denial::Unmatched)), ("intercept", Fate::Intercept), ("tunnel", Fate::Tunnel(None))]
        {
            let gate = gate(&format!("unmatched: {word}\n{RULES}")).await;
            assert_eq!(connection(&gate, "other.test:443"), wanted, "{word}");
            assert_eq!(connection(&gate, "keyed.test:443"), Fate::Intercept, "{word}");
            // In clear, no rule speaks of it.
            let spoken = if word == "tunnel" { Fate::Tunnel(None) } else { Fate::Intercept };
            assert_eq!(plan(&gate, Scheme::Http, "keyed.test").fate(&gate), spoken, "{word}");
            assert_eq!(plan(&gate, Scheme::Https, "keyed.test").fate(&gate), Fate::Intercept, "{word}");
            let unruled = if word == "deny" { wanted } else { Fate::Carry };
            assert_eq!(request(&gate, "GET", "given.test", "/b"), unruled, "{word}");
            assert_eq!(request(&gate, "GET", "given.test", "/a"), Fate::Carry, "{word}");
        }
    }

    #[tokio::test]
    async fn a_request_is_denied_by_the_rule_that_says_so_and_where_it_says_so() {
        let gate = gate(RULES).await;
        assert_eq!(request(&gate, "GET", "denied.test", "/"), denied_by("g.yaml:2"));
        assert_eq!(request(&gate, "GET", "partly.test", "/admin/x"), denied_by("g.yaml:3"));
        assert_eq!(request(&gate, "GET", "partly.test", "/"), Fate::Carry);
    }

    #[tokio::test]
    async fn a_method_that_echoes_is_denied_where_a_credential_would_come_back() {
        let gate = gate(RULES).await;
        for method in ["TRACE", "TRACK"] {
            let echo = Denial::Echo(Method::from_bytes(method.as_bytes()).unwrap());
            assert_eq!(request(&gate, method, "keyed.test", "/"), Fate::Deny(echo), "{method}");
            assert_eq!(request(&gate, method, "partly.test", "/"), Fate::Carry, "{method}");
        }
        assert_eq!(request(&gate, "GET", "keyed.test", "/"), Fate::Carry);
    }

    #[tokio::test]
    async fn a_token_request_is_answered_here_and_the_rest_of_its_host_is_carried() {
        let gate = gate(
            "credentials:
  acct: { bearer: real-token }
rules:
- { host: id.test, path: /token, token_endpoint: acct }
",
        )
        .await;
        assert_eq!(request(&gate, "POST", "id.test", "/token"), Fate::StandIn("acct".into()));
        assert_eq!(request(&gate, "POST", "id.test", "/other"), Fate::Carry);
    }

    #[test]
    fn each_denial_has_its_sentence() {
        let host = Host::parse("a.test").unwrap();
        let told = |denial: &Denial| {
            let failure = denial.refusal(&"https://a.test", &host, || None);
            (failure.cause, failure.details)
        };
        assert_eq!(told(&Denial::Rule("g.yaml:2".into())), (Cause::Denied, "a rule denies https://a.test (g.yaml:2)".to_owned()));
        assert_eq!(
            told(&Denial::Unmatched),
            (Cause::Denied, "no rule names https://a.test, and `unmatched: deny` is set".to_owned())
        );
        let echo = "TRACE would send the credential for https://a.test back to the client";
        assert_eq!(told(&Denial::Echo(Method::TRACE)), (Cause::MethodNotAllowed, echo.to_owned()));
    }
}
