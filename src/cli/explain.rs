//! `gatepass explain [METHOD] URL`: which rules, who overrides whom, what would be added. No network.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use http::Method;
use http::uri::PathAndQuery;
use serde_json::json;

use super::{Common, Error, Format};
use crate::auth::Spot;
use crate::config::{Action, Ocsp, OnExisting, TlsBackend, Unmatched};
use crate::gate::{Caller, Decision, Gate, HeaderText, LiveRule, Reach};
use crate::origin::{Origin, Scheme, parse_authority};
use crate::tls::inspect;

#[derive(Args)]
pub struct ExplainArgs {
    /// The method (GET when left out) and the URL
    #[arg(value_name = "[METHOD] URL", num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// As this authenticated caller
    #[arg(long, value_name = "USER")]
    client: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Method, origin, and path with query, of what was written.
pub fn target(words: &[String]) -> Result<(Method, Origin, PathAndQuery), Error> {
    let (method, url) = match words {
        [url] => ("GET", url.as_str()),
        [method, url] => (method.as_str(), url.as_str()),
        _ => return Err(Error::new("a URL is needed")),
    };
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes())
        .map_err(|_| Error::new(format!("`{method}` is not a method")))?;
    let wrong = |why: String| Error::new(format!("`{url}` is not a URL: {why}")).help("write it as https://HOST/PATH");
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        Some((other, _)) => return Err(wrong(format!("`{other}` is neither http nor https"))),
        None => (Scheme::Https, url),
    };
    let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, port) = parse_authority(&rest[..split]).map_err(|why| wrong(why.to_string()))?;
    let path = rest[split..].split('#').next().unwrap_or("");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let path = path.parse().map_err(|_| wrong("the path holds characters that must be percent-encoded".to_owned()))?;
    Ok((method, Origin::new(scheme, host, port.unwrap_or(scheme.default_port())), path))
}

pub async fn run(common: &Common, args: &ExplainArgs) -> Result<ExitCode, Error> {
    let (method, origin, path) = target(&args.words)?;
    let built = super::build(&super::request(common)).await?;
    let gate = built.gate;
    let caller = Caller { user: args.client.as_deref().map(Arc::from), address: None };
    let origin = Arc::new(origin);
    let plan = gate.plan(&origin, &caller);
    let decision = plan.decide(&gate, &method, path.path()).map_err(|failure| Error::new(failure.to_string()))?;
    let told = Told {
        gate: &gate,
        origin: &origin,
        method: &method,
        path: &path,
        candidates: &plan.rules,
        decision: &decision,
        caller: &caller,
    };
    match args.format {
        Format::Text => print!("{}", told.text()),
        Format::Json => println!("{}", told.json()),
    }
    Ok(ExitCode::SUCCESS)
}

struct Told<'a> {
    gate: &'a Gate,
    origin: &'a Origin,
    method: &'a Method,
    path: &'a PathAndQuery,
    candidates: &'a [usize],
    decision: &'a Decision,
    caller: &'a Caller,
}

impl Told<'_> {
    fn fate(&self) -> &'static str {
        match (self.decision.action, self.decision.rules.is_empty(), self.gate.unmatched) {
            (Action::Deny, ..) => "denied",
            (Action::Tunnel, ..) => "passed through unopened",
            _ if self.decision.token_endpoint.is_some() => "answered by gatepass: a token request gets a stand-in",
            (_, true, Unmatched::Deny) => "denied: no rule names it, and `unmatched: deny` is set",
            (_, true, Unmatched::Intercept) => "opened, nothing added: no rule names it",
            (_, true, Unmatched::Tunnel) if self.origin.scheme == Scheme::Https => {
                match self.gate.reach(&self.origin.host, self.origin.port, self.caller) {
                    Reach::Tunnel { .. } => "passed through unopened: no rule names it",
                    _ => "opened, nothing added: no rule applies to this request",
                }
            }
            (_, true, _) => "carried, nothing added: no rule names it",
            _ => "carried, with what its rules add",
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("{} {}{}", self.method, self.origin, self.path), format!("  {}", self.fate())];
        if !self.candidates.is_empty() {
            lines.push("rules".to_owned());
            for at in self.candidates {
                let live = &self.gate.rules()[*at];
                let hosts: Vec<String> = live.rule.hosts.iter().map(ToString::to_string).collect();
                let note = if self.decision.rules.contains(at) {
                    self.part(*at, live)
                } else {
                    "does not apply: another path or method".to_owned()
                };
                lines.push(format!("  {}  host {}  {note}", live.label, hosts.join(", ")));
            }
        }
        for (title, items) in self.sections() {
            if !items.is_empty() {
                lines.push(title.to_owned());
                lines.extend(items.into_iter().map(|item| format!("  {item}")));
            }
        }
        lines.join("\n") + "\n"
    }

    /// What a rule says here, and who overrides it.
    fn part(&self, at: usize, live: &LiveRule) -> String {
        let later = |says: fn(&LiveRule) -> bool| {
            self.decision
                .rules
                .iter()
                .filter(|r| **r > at)
                .map(|r| &self.gate.rules()[*r])
                .rfind(|later| says(later))
                .map(|later| later.label.clone())
        };
        let things: [(&str, fn(&LiveRule) -> bool); 6] = [
            ("auth", |live| live.auth.is_some()),
            ("client certificate", |live| live.identities.is_some()),
            ("CA bundle", |live| live.trust.is_some()),
            ("action", |live| live.rule.action.is_some()),
            ("connect_to", |live| live.rule.connect_to.is_some()),
            ("via", |live| live.rule.via.is_some()),
        ];
        let said: Vec<String> = things
            .into_iter()
            .filter(|(_, says)| says(live))
            .map(|(name, says)| match later(says) {
                Some(over) => format!("{name} (overridden by {over})"),
                None => name.to_owned(),
            })
            .collect();
        if said.is_empty() { "applies".to_owned() } else { format!("sets {}", said.join(", ")) }
    }

    fn sections(&self) -> Vec<(&'static str, Vec<String>)> {
        vec![
            ("adds", self.additions()),
            ("client certificate", self.certificates()),
            ("trust", self.trust()),
            ("way", self.way()),
        ]
    }

    fn additions(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for bound in &self.decision.auth {
            let spots: Vec<String> = bound.spots.iter().map(spot).collect();
            let name = if *bound.label == *bound.kind { String::new() } else { format!(" `{}`", bound.label) };
            lines.push(format!("{}{name}: {}", bound.kind, spots.join(", ")));
        }
        for (rule, at) in &self.decision.headers {
            let edit = self.gate.rules()[*rule].header(*at);
            lines.push(match &edit.value {
                None => format!("removes header {}", edit.name),
                Some(HeaderText::Fixed(_)) => format!("header {}: ******", edit.name),
                Some(HeaderText::Live(_)) => format!("header {}: from a command", edit.name),
            });
        }
        for (rule, at) in &self.decision.query {
            let edit = self.gate.rules()[*rule].query(*at);
            lines.push(if edit.value.is_some() {
                format!("query {}=******", edit.name)
            } else {
                format!("removes query {}", edit.name)
            });
        }
        if !self.decision.auth.is_empty() && self.decision.on_existing != OnExisting::Replace {
            lines.push(
                if self.decision.on_existing == OnExisting::Keep {
                    "unless the client sent its own"
                } else {
                    "and refuses a request that brings its own"
                }
                .to_owned(),
            );
        }
        lines
    }

    fn certificates(&self) -> Vec<String> {
        let identities = &self.decision.way.upstream().spec().tls.identities;
        identities
            .iter()
            .map(|identity| {
                format!(
                    "{}: {}, until {}",
                    identity.details().name(),
                    identity.details().subject,
                    inspect::day(identity.details().not_after)
                )
            })
            .collect()
    }

    fn trust(&self) -> Vec<String> {
        let spec = &self.decision.way.upstream().spec().tls;
        if self.origin.scheme == Scheme::Http {
            return Vec::new();
        }
        if spec.accept_invalid_certs {
            return vec!["DANGER: any certificate is accepted (danger.accept_invalid_certs)".to_owned()];
        }
        let own = spec.trust.entries().len();
        let mut parts = Vec::new();
        if spec.trust.system_count() > 0 {
            parts.push("system roots".to_owned());
        }
        if own > 0 {
            parts.push(format!("{own} CA{} of the bundle", if own == 1 { "" } else { "s" }));
        }
        let mut lines = vec![parts.join(" and ")];
        if spec.settings.pins.is_some() {
            lines.push("and a pinned key".to_owned());
        }
        if spec.settings.ocsp == Some(Ocsp::Require) {
            lines.push("and an OCSP response that holds".to_owned());
        }
        lines
    }

    fn way(&self) -> Vec<String> {
        let upstream = self.decision.way.upstream();
        let mut lines = Vec::new();
        if let Some(to) = &upstream.spec().connect_to {
            lines.push(format!("dials {}:{}", to.host, to.port.unwrap_or(self.origin.port)));
        }
        lines.extend(upstream.told(self.origin));
        if upstream.spec().tls.settings.backend == Some(TlsBackend::Openssl) {
            lines.push("TLS by OpenSSL".to_owned());
        }
        lines
    }

    fn json(&self) -> serde_json::Value {
        let rules: Vec<_> = self
            .candidates
            .iter()
            .map(|at| json!({ "place": &*self.gate.rules()[*at].label, "applies": self.decision.rules.contains(at) }))
            .collect();
        let identities = &self.decision.way.upstream().spec().tls.identities;
        let auth: Vec<_> = self.decision.auth.iter().map(|bound| json!({ "type": bound.kind, "name": &*bound.label, "writes": bound.spots.iter().map(spot).collect::<Vec<_>>() })).collect();
        json!({
            "method": self.method.as_str(),
            "origin": self.origin.to_string(),
            "fate": self.fate(),
            "action": match self.decision.action { Action::Allow => "allow", Action::Deny => "deny", Action::Tunnel => "tunnel" },
            "rules": rules,
            "auth": auth,
            "adds": self.additions(),
            "client_certificates": identities.iter().map(|identity| identity.details().subject.clone()).collect::<Vec<_>>(),
            "trust": self.trust(),
            "way": self.way(),
        })
    }
}

fn spot(spot: &Spot) -> String {
    match spot {
        Spot::Header(name) => format!("header {name}"),
        Spot::Query(name) => format!("query {name}"),
        Spot::Cookie(name) => format!("cookie {name}"),
        Spot::Placeholder(text) => format!("wherever the client wrote {text}"),
        Spot::Jar => "captured cookies".to_owned(),
        Spot::BodyField(name) => format!("body field {name}"),
    }
}
