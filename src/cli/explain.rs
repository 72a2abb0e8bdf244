//! `gatepass explain [METHOD] URL`: which rules, who overrides whom, what would be added. No network.

mod settings;

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use http::Method;
use http::uri::PathAndQuery;
use serde_json::{Value, json};

use super::{Common, Error, Format};
use crate::auth::CredentialLocation;
use crate::config::{Echo, OnExisting};
use crate::failure::{Cause, Failure};
use crate::gate::{Caller, Decision, Denial, Difference, Fate, Gate, HeaderText, Near, Plan};
use crate::initiator::CrossSite;
use crate::origin::{Host, Origin, Scheme, parse_authority};
use crate::settings::Report;
use crate::tls::formats::inspect;
use crate::tls::settings::{Ocsp, TlsBackend};
use settings::Setting;

#[derive(Args)]
pub struct ExplainArgs {
    /// The method (GET when left out) and the URL
    #[arg(value_name = "[METHOD] URL", num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// For this caller: the name of a user, or the address it calls from; both when given twice
    #[arg(long = "as", visible_alias = "client", value_name = "USER|ADDRESS")]
    callers: Vec<String>,
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
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => ("https".to_owned(), url),
    };
    let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // User and password of a URL are sent as a header, and are not for showing.
    let authority = rest[..split].rsplit('@').next().unwrap_or_default();
    let wrong = |why: String| {
        Error::new(format!("`{scheme}://{authority}{}` is not a URL: {why}", &rest[split..]))
            .help("write it as https://HOST/PATH")
    };
    // A WebSocket is asked for by a request of these schemes (RFC 6455 §3).
    let known = match scheme.as_str() {
        "https" | "wss" => Scheme::Https,
        "http" | "ws" => Scheme::Http,
        other => return Err(wrong(format!("`{other}` is neither http nor https"))),
    };
    let (host, port) = authority_written(authority).map_err(wrong)?;
    let path = rest[split..].split('#').next().unwrap_or("");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let path = path.parse().map_err(|_| wrong("the path holds characters that must be percent-encoded".to_owned()))?;
    Ok((method, Origin::new(known, host, port.unwrap_or(known.default_port())), path))
}

/// Also an international name, as browsers show it.
fn authority_written(text: &str) -> Result<(Host, Option<u16>), String> {
    if text.is_ascii() {
        return parse_authority(text).map_err(|why| why.to_string());
    }
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let host = Host::parse_written(name).map_err(|why| why.to_string())?;
    parse_authority(&port.map_or(host.to_string(), |port| format!("{host}:{port}"))).map_err(|why| why.to_string())
}

pub async fn run(common: &Common, args: &ExplainArgs) -> Result<ExitCode, Error> {
    let (method, origin, path) = target(&args.words)?;
    let built = super::build(&super::request(common)).await?;
    let gate = built.gate;
    let caller = caller(&args.callers);
    let origin = Arc::new(origin);
    let plan = gate.plan(&origin, &caller);
    let decision = match plan.decide(&gate, &method, path.path()) {
        Ok(decision) => decision,
        Err(failure) if failure.cause == Cause::BadRequest => {
            refused(args.format, &method, &origin, &path, &failure);
            return Ok(ExitCode::SUCCESS);
        }
        Err(failure) => return Err(Error::new(failure.to_string())),
    };
    let told = Told {
        gate: &gate,
        report: &built.report,
        origin: &origin,
        method: &method,
        path: &path,
        plan: &plan,
        decision: &decision,
        caller: &caller,
    };
    match args.format {
        Format::Text => print!("{}", told.text()),
        Format::Json => println!("{}", told.json()),
    }
    Ok(ExitCode::SUCCESS)
}

/// gatepass answers the request itself, before any rule is asked.
fn refused(format: Format, method: &Method, origin: &Origin, path: &PathAndQuery, failure: &Failure) {
    let says = format!("refused with {}: {failure}", failure.cause.status().as_u16());
    match format {
        Format::Text => println!("{method} {origin}{path}\n  {says}"),
        Format::Json => {
            let nothing: [(); 0] = [];
            println!(
                "{}",
                json!({
                    "method": method.as_str(), "origin": origin.to_string(), "path": path.as_str(), "fate": "refuse", "action": "deny",
                    "says": says, "rules": nothing, "auth": nothing, "adds": nothing, "client_certificates": nothing,
                    "trust": nothing, "way": nothing, "near": nothing,
                })
            );
        }
    }
}

fn caller(words: &[String]) -> Caller {
    let mut caller = Caller::default();
    for word in words {
        match word.parse::<IpAddr>() {
            Ok(address) => caller.address = Some(address),
            Err(_) => caller.user = Some(word.as_str().into()),
        }
    }
    caller
}

struct Told<'a> {
    gate: &'a Gate,
    report: &'a Report,
    origin: &'a Origin,
    method: &'a Method,
    path: &'a PathAndQuery,
    plan: &'a Plan,
    decision: &'a Decision,
    caller: &'a Caller,
}

/// A rule that speaks of this host, port, scheme and caller.
struct Part<'a> {
    at: usize,
    applies: bool,
    /// With the rule that overrides it.
    sets: Vec<(Setting, Option<&'a str>)>,
    differs: Vec<Difference>,
}

impl Told<'_> {
    /// What becomes of it: first of its connection, as a proxy is asked for one, then of the request itself.
    fn fate(&self) -> Fate {
        if self.origin.scheme == Scheme::Https {
            let connection = self.gate.fate(&self.origin.host, self.origin.port, self.caller);
            let spoken = if connection == Fate::Intercept { self.plan.fate(self.gate) } else { connection };
            if spoken != Fate::Intercept {
                return spoken;
            }
        }
        self.decision.fate(self.gate, self.method)
    }

    /// The rule that has the last word on it.
    fn decided_by(&self, fate: &Fate) -> Option<Arc<str>> {
        match fate {
            Fate::Deny(denial) => denial.rule().cloned(),
            Fate::Tunnel(rule) => rule.clone(),
            _ => self.gate.last_word(self.decision.rules.iter()).map(|live| live.label.clone()),
        }
    }

    fn sentence(&self, fate: &Fate) -> String {
        let unruled = self.decision.rules.is_empty();
        let opened = self.origin.scheme == Scheme::Https;
        match fate {
            Fate::Deny(Denial::Rule(rule)) => format!("denied by {rule}"),
            Fate::Deny(Denial::Unmatched) => "denied: no rule is for it, and `unmatched: deny` is set".to_owned(),
            Fate::Deny(echo) => format!("denied: {}", echo.refusal(self.origin, &self.origin.host, || None).details),
            Fate::Tunnel(Some(rule)) => format!("passed through unopened, as {rule} says"),
            Fate::Tunnel(None) => "passed through unopened: no rule is for it".to_owned(),
            Fate::StandIn(_) => "answered by gatepass: a token request gets a stand-in".to_owned(),
            _ if unruled && opened && self.plan.rules.is_empty() => "opened, nothing added: no rule is for it".to_owned(),
            _ if unruled && opened => "opened, nothing added: no rule is for this request".to_owned(),
            _ if unruled => "carried in clear, nothing added: no rule is for it".to_owned(),
            _ => "carried, with what its rules add".to_owned(),
        }
    }

    /// The fate in one word.
    fn word(&self, fate: &Fate) -> &'static str {
        match fate {
            Fate::Deny(_) => "deny",
            Fate::Tunnel(_) => "tunnel",
            Fate::StandIn(_) => "stand_in",
            Fate::Intercept | Fate::Carry if self.origin.scheme == Scheme::Https => "intercept",
            Fate::Intercept | Fate::Carry => "forward",
        }
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let settings: Vec<Vec<Setting>> = self.plan.rules.iter().map(|at| settings::of(&self.gate.rules()[*at])).collect();
        let applies = |at: &usize| self.decision.rules.contains(at);
        let winner = |key: &str, at: usize| {
            let later = self.plan.rules.iter().zip(&settings).rev().take_while(|(other, _)| **other > at);
            let mut says = later.filter(|(other, sets)| applies(other) && sets.iter().any(|setting| setting.key == key));
            says.next().map(|(other, _)| &*self.gate.rules()[*other].label)
        };
        let over: Vec<Vec<Option<&str>>> = (self.plan.rules.iter().zip(&settings))
            .map(|(at, sets)| sets.iter().map(|setting| winner(&setting.key, *at)).collect())
            .collect();
        let request = Some((self.method, self.path.path()));
        (self.plan.rules.iter().zip(settings).zip(over))
            .map(|((at, sets), over)| {
                let applies = applies(at);
                let differs = if applies { Vec::new() } else { self.gate.differences(*at, self.origin, self.caller, request) };
                Part { at: *at, applies, sets: sets.into_iter().zip(over).collect(), differs }
            })
            .collect()
    }

    fn near(&self) -> Vec<Near> {
        if !self.decision.gives_nothing {
            return Vec::new();
        }
        self.gate.near(self.origin, self.caller, Some((self.method, self.path.path())))
    }

    fn text(&self) -> String {
        let fate = self.fate();
        let mut lines = vec![format!("{} {}{}", self.method, self.origin, self.path), format!("  {}", self.sentence(&fate))];
        if !self.plan.rules.is_empty() {
            lines.push("rules".to_owned());
            lines.extend(self.parts().iter().map(|part| self.line(part)));
        }
        let listed = |near: &Near| self.plan.rules.iter().any(|at| self.gate.rules()[*at].label == near.rule);
        let near = self.near().iter().filter(|near| !listed(near)).map(ToString::to_string).collect();
        for (title, items) in self.sections(&fate).into_iter().chain([("nearly", near)]) {
            if !items.is_empty() {
                lines.push(title.to_owned());
                lines.extend(items.into_iter().map(|item| format!("  {item}")));
            }
        }
        lines.join("\n") + "\n"
    }

    /// What a rule says here, and who overrides it.
    fn line(&self, part: &Part<'_>) -> String {
        let live = &self.gate.rules()[part.at];
        let hosts: Vec<String> = live.rule.hosts.iter().map(ToString::to_string).collect();
        let said: Vec<String> = (part.sets.iter())
            .map(|(setting, over)| {
                let said = format!("{} {}", setting.key, settings::text(&setting.value));
                over.map_or(said.clone(), |over| format!("{said} (overridden by {over})"))
            })
            .collect();
        let differs: Vec<String> = part.differs.iter().map(ToString::to_string).collect();
        let note = match (part.applies, said.is_empty()) {
            (false, _) => format!("does not apply: {}", differs.join(", ")),
            (true, true) => "applies".to_owned(),
            (true, false) => format!("sets {}", said.join("; ")),
        };
        format!("  {}  host {}  {note}", live.label, hosts.join(", "))
    }

    /// Nothing is added to what is denied, unopened or answered here.
    fn sections(&self, fate: &Fate) -> Vec<(&'static str, Vec<String>)> {
        match fate {
            Fate::Deny(_) | Fate::StandIn(_) => Vec::new(),
            Fate::Tunnel(_) => vec![("way", self.way())],
            _ => vec![
                ("adds", self.additions()),
                ("client certificate", self.certificates()),
                ("trust", self.trust()),
                ("way", self.way()),
            ],
        }
    }

    fn additions(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for bound in &self.decision.auth {
            let locations: Vec<String> = bound.locations.writes.iter().map(location).collect();
            let name = if *bound.label == *bound.kind { String::new() } else { format!(" `{}`", bound.label) };
            lines.push(format!("{}{name}: {}", bound.kind, locations.join(", ")));
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
        if self.decision.gives {
            lines.push(match &self.decision.cross_site {
                CrossSite::Refuse => "but not for web pages of other sites (cross_site: refuse)".to_owned(),
                CrossSite::Allow => "for web pages of every site (cross_site: allow)".to_owned(),
                origins => format!("of web pages of other sites, only for those of {origins} (cross_site)"),
            });
        }
        if self.decision.gives && self.decision.echo == Echo::Pass {
            lines.push("and leaves it where the answer repeats it (echo: pass)".to_owned());
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
        let identities = &self.decision.pool.upstream().spec().tls.identities;
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
        let spec = &self.decision.pool.upstream().spec().tls;
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
        let upstream = self.decision.pool.upstream();
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

    fn json(&self) -> Value {
        let fate = self.fate();
        let by = self.decided_by(&fate);
        let carried = matches!(fate, Fate::Intercept | Fate::Carry);
        let listed = |items: Vec<Value>| if carried { items } else { Vec::new() };
        let auth = self.decision.auth.iter().map(|bound| {
            let mut auth = settings::credential(bound);
            auth["writes"] = bound.locations.writes.iter().map(location).collect();
            auth
        });
        let identities = &self.decision.pool.upstream().spec().tls.identities;
        let certificates = identities.iter().map(|identity| json!(identity.details().subject));
        let texts = |texts: Vec<String>| texts.into_iter().map(Value::from).collect();
        json!({
            "method": self.method.as_str(),
            "origin": self.origin.to_string(),
            "path": self.path.as_str(),
            "caller": { "user": self.caller.user.as_deref(), "address": self.caller.address.map(|address| address.to_string()) },
            "fate": self.word(&fate),
            "says": self.sentence(&fate),
            "decided_by": by.as_deref().unwrap_or(if self.decision.rules.is_empty() { "unmatched" } else { "rules" }),
            "action": match fate { Fate::Deny(_) => "deny", Fate::Tunnel(_) => "tunnel", _ => "allow" },
            "rules": self.parts().iter().map(|part| self.rule(part)).collect::<Vec<_>>(),
            "auth": listed(auth.collect()),
            "on_existing_auth": settings::on_existing(self.decision.on_existing),
            "adds": listed(texts(self.additions())),
            "cross_site": self.decision.gives.then(|| self.decision.cross_site.to_string()),
            "client_certificates": listed(certificates.collect()),
            "trust": listed(texts(self.trust())),
            "way": if matches!(fate, Fate::Tunnel(_)) { texts(self.way()) } else { listed(texts(self.way())) },
            "near": self.near().iter().map(|near| json!({
                "rule": &*near.rule, "differs": differences(&near.differences), "says": near.to_string(),
            })).collect::<Vec<_>>(),
        })
    }

    fn rule(&self, part: &Part<'_>) -> Value {
        let live = &self.gate.rules()[part.at];
        let place = self.report.locate(live.rule.place);
        let sets: Vec<_> = (part.sets.iter())
            .map(|(setting, over)| json!({ "key": setting.key, "value": setting.value, "overridden_by": over }))
            .collect();
        json!({
            "rule": &*live.label,
            "place": &*live.label,
            "file": place.map(|(file, ..)| file.display().to_string()),
            "line": place.map(|(_, line, _)| line),
            "hosts": live.rule.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "applies": part.applies,
            "differs": differences(&part.differs),
            "sets": sets,
        })
    }
}

fn differences(all: &[Difference]) -> Vec<Value> {
    all.iter().map(|one| json!({ "key": one.what.key(), "is": one.is, "wants": one.wants })).collect()
}

fn location(location: &CredentialLocation) -> String {
    match location {
        CredentialLocation::Header(name) | CredentialLocation::Aside(name) => format!("header {name}"),
        CredentialLocation::Query(name) => format!("query {name}"),
        CredentialLocation::Cookie(name) => format!("cookie {name}"),
        CredentialLocation::Placeholder(text) => format!("wherever the client wrote {text}"),
        CredentialLocation::Jar => "captured cookies".to_owned(),
        CredentialLocation::BodyField(name) => format!("body field {name}"),
    }
}
