//! What the matching rules say together: the cascade.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::Gate;
use crate::auth::oauth2::Session;
use crate::auth::{Authorizer, BodyNeed, CredentialLocation, Facts, Locations};
use crate::config::{Action, Echo, OnExisting};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::initiator::CrossSite;
use crate::origin::Origin;
use crate::provided::SecretRef;
use crate::replace::Replacements;
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::settings::TlsSettings;
use crate::upstream::{OriginPool, Spec};

/// An authorizer with what the exchange needs to know of it, computed once.
pub struct BoundAuthorizer {
    pub authorizer: Arc<dyn Authorizer>,
    /// The tokens that a person may have to sign in for.
    pub session: Option<Arc<Session>>,
    pub facts: Facts,
    pub locations: Locations,
    /// Its name, or its type when written inline.
    pub label: Arc<str>,
    pub kind: &'static str,
}

#[derive(Clone)]
pub struct LiveHeader {
    pub name: HeaderName,
    /// `None`: remove.
    pub value: Option<HeaderText>,
    /// It may be secret.
    pub secret: bool,
}

#[derive(Clone)]
pub enum HeaderText {
    Fixed(HeaderValue),
    Live(SecretRef),
}

#[derive(Clone)]
pub struct LiveQuery {
    pub name: String,
    /// `None`: remove.
    pub value: Option<SecretRef>,
    /// It may be secret.
    pub secret: bool,
}

/// Texts that were added to a request, and how they are looked for in its answer.
pub struct Echoes {
    pub added: Vec<Zeroizing<Vec<u8>>>,
    pub sought: Arc<Replacements>,
}

/// What to do with a request, all rules heard.
pub struct Decision {
    /// Positions of the rules that applied, ascending.
    pub rules: Vec<usize>,
    /// `gatepass.yaml:16,gatepass.yaml:30`; `-` when no rule applied.
    pub label: Arc<str>,
    pub auth_label: Arc<str>,
    pub certificate_label: Arc<str>,
    pub action: Action,
    pub auth: Vec<Arc<BoundAuthorizer>>,
    pub on_existing: OnExisting,
    /// The credential that token requests get a stand-in for.
    pub token_endpoint: Option<Arc<str>>,
    pub headers: Vec<(usize, usize)>,
    pub query: Vec<(usize, usize)>,
    /// No rule that applies says anything of what is added, or of whether it may pass: perhaps another was meant.
    pub gives_nothing: bool,
    pub pool: Arc<OriginPool>,
    pub own_connection: bool,
    pub wants_answers: bool,
    /// Lower-case names of every header that is added, for look-alikes with `_`.
    pub injected: Vec<HeaderName>,
    /// Names of the query parameters that rules set.
    pub sets_query: Vec<String>,
    /// Do pages of other sites get what it gives?
    pub cross_site: CrossSite,
    /// What becomes of what it adds where the answer repeats it.
    pub echo: Echo,
    /// Fields and query parameters that rules set and that may be secret.
    pub secret_fields: Vec<HeaderName>,
    pub secret_query: Vec<String>,
    /// What was looked for in the last answer, for the next one to a request with the same credentials.
    pub echoes: ArcSwapOption<Echoes>,
    /// Does it give anything that is the user's: a credential, a certificate, a header or parameter?
    pub gives: bool,
    /// The same without all that; made when first asked for.
    bare: OnceLock<Result<Arc<Decision>, Failure>>,
}

impl Decision {
    /// Does it add anything secret? Then TRACE, which echoes, is refused.
    pub fn injects(&self) -> bool {
        !self.auth.is_empty() || !self.headers.is_empty() || !self.query.is_empty()
    }

    /// The decision for those who may have nothing of the user's: the same rules, but no credential, no client
    /// certificate (hence other connections), no header or parameter of theirs. What rules take away stays away.
    ///
    /// # Errors
    /// As of the decision itself.
    pub fn without_credentials(&self, gate: &Gate, origin: &Arc<Origin>) -> Result<Arc<Self>, Failure> {
        self.bare.get_or_init(|| merge_for(gate, origin, &self.rules, Gives::Nothing)).clone()
    }

    /// What the authorizers together need of a request's body.
    pub fn body_need(&self, draft: &Draft) -> BodyNeed {
        self.auth.iter().map(|bound| bound.authorizer.body_need(draft)).max().unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    All,
    Nothing,
}

/// The cascade: rules in their order, the later one wins in each thing it says.
pub(super) fn merge(gate: &Gate, origin: &Arc<Origin>, rules: &[usize]) -> Result<Arc<Decision>, Failure> {
    merge_for(gate, origin, rules, Gives::All)
}

#[allow(clippy::too_many_lines)]
fn merge_for(gate: &Gate, origin: &Arc<Origin>, rules: &[usize], gives: Gives) -> Result<Arc<Decision>, Failure> {
    let mut spec = gate.default_spec().clone();
    let mut action = None;
    let mut on_existing = None;
    let mut token_endpoint = None;
    let mut auth: &[Arc<BoundAuthorizer>] = &[];
    let mut cross_site = &CrossSite::Refuse;
    let mut echo = None;
    let mut headers: Vec<(usize, usize)> = Vec::new();
    let mut query: Vec<(usize, usize)> = Vec::new();
    for at in rules {
        let live = &gate.rules[*at];
        action = live.rule.action.or(action);
        on_existing = live.rule.on_existing_auth.or(on_existing);
        token_endpoint = live.rule.token_endpoint.clone().or(token_endpoint);
        auth = live.auth.as_deref().unwrap_or(auth);
        cross_site = live.rule.cross_site.as_ref().unwrap_or(cross_site);
        echo = live.rule.echo.or(echo);
        for (n, header) in live.headers.iter().enumerate() {
            headers.retain(|(r, h)| gate.rules[*r].headers[*h].name != header.name);
            headers.push((*at, n));
        }
        for (n, parameter) in live.query.iter().enumerate() {
            query.retain(|(r, q)| gate.rules[*r].query[*q].name != parameter.name);
            query.push((*at, n));
        }
        merge_way(&mut spec, live);
        spec.named |= live.rule.hosts.iter().any(|pattern| pattern.exact() == Some(&origin.host));
    }
    spec.named |= spec.connect_to.is_some();
    if gives == Gives::Nothing {
        (auth, token_endpoint) = (&[], None);
        headers.retain(|(r, h)| gate.rules[*r].headers[*h].value.is_none());
        query.retain(|(r, q)| gate.rules[*r].query[*q].value.is_none());
        spec.tls.identities.clear();
    }
    let sets = headers.iter().any(|(r, h)| gate.rules[*r].headers[*h].value.is_some())
        || query.iter().any(|(r, q)| gate.rules[*r].query[*q].value.is_some());
    let has = !auth.is_empty() || sets || token_endpoint.is_some() || !spec.tls.identities.is_empty();
    let upstream = gate.upstream(&spec).map_err(|problem| Failure::new(Cause::Internal, problem.message))?;
    let labels = |texts: Vec<&str>| -> Arc<str> { if texts.is_empty() { "-".into() } else { texts.join(",").into() } };
    let shown = rules.iter().rev().map(|at| &gate.rules[*at]).find(|live| live.identities.is_some());
    let certificate = shown.map_or_else(
        || "-".into(),
        |live| if live.certificate_label.is_empty() { "-".into() } else { live.certificate_label.clone() },
    );
    Ok(Arc::new(Decision {
        label: labels(rules.iter().map(|at| &*gate.rules[*at].label).collect()),
        auth_label: if gives == Gives::Nothing {
            "withheld".into()
        } else {
            labels(auth.iter().map(|bound| &*bound.label).collect())
        },
        certificate_label: if gives == Gives::Nothing { "-".into() } else { certificate },
        rules: rules.to_vec(),
        action: action.unwrap_or(Action::Allow),
        on_existing: on_existing.unwrap_or_default(),
        token_endpoint,
        own_connection: auth.iter().any(|bound| bound.facts.own_connection),
        wants_answers: auth.iter().any(|bound| bound.facts.answers),
        injected: injected(gate, auth, &headers),
        gives_nothing: !rules.iter().any(|at| gate.rules[*at].gives()),
        sets_query: query
            .iter()
            .map(|(r, q)| &gate.rules[*r].query[*q])
            .filter(|set| set.value.is_some())
            .map(|set| set.name.clone())
            .collect(),
        auth: auth.to_vec(),
        echo: echo.unwrap_or_default(),
        secret_fields: headers
            .iter()
            .map(|(r, h)| &gate.rules[*r].headers[*h])
            .filter(|set| set.secret)
            .map(|set| set.name.clone())
            .collect(),
        secret_query: query
            .iter()
            .map(|(r, q)| &gate.rules[*r].query[*q])
            .filter(|set| set.secret)
            .map(|set| set.name.clone())
            .collect(),
        echoes: ArcSwapOption::empty(),
        headers,
        query,
        pool: upstream.pool(origin),
        cross_site: cross_site.clone(),
        gives: has,
        bare: OnceLock::new(),
    }))
}

fn merge_way(spec: &mut Spec, live: &super::LiveRule) {
    let ClientSpec { identities, trust, settings, accept_invalid_certs, crls, .. } = &mut spec.tls;
    if let Some(said) = &live.identities {
        identities.clone_from(said);
    }
    if let Some(said) = &live.trust {
        trust.clone_from(said);
    }
    if let Some(said) = &live.crls {
        crls.clone_from(said);
    }
    if let Some(said) = live.rule.accept_invalid_certs {
        *accept_invalid_certs = said;
    }
    later(settings, &live.rule.tls);
    if let Some(said) = &live.rule.connect_to {
        spec.connect_to = Some(said.clone());
    }
    if let Some(said) = &live.via {
        spec.via = said.clone();
    }
}

fn later(settings: &mut TlsSettings, said: &TlsSettings) {
    let TlsSettings {
        server_name,
        spiffe_id,
        min_version,
        max_version,
        pins,
        crl: _,
        resumption,
        alpn,
        backend,
        ocsp,
        lenient_end,
    } = said.clone();
    settings.server_name = server_name.or(settings.server_name.take());
    settings.spiffe_id = spiffe_id.or(settings.spiffe_id.take());
    settings.min_version = min_version.or(settings.min_version);
    settings.max_version = max_version.or(settings.max_version);
    settings.pins = pins.or(settings.pins.take());
    settings.resumption = resumption.or(settings.resumption);
    settings.alpn = alpn.or(settings.alpn.take());
    settings.backend = backend.or(settings.backend);
    settings.ocsp = ocsp.or(settings.ocsp);
    settings.lenient_end = lenient_end.or(settings.lenient_end);
}

fn injected(gate: &Gate, auth: &[Arc<BoundAuthorizer>], headers: &[(usize, usize)]) -> Vec<HeaderName> {
    let from_auth = auth.iter().flat_map(|bound| &bound.locations.writes).filter_map(|location| match location {
        CredentialLocation::Header(name) | CredentialLocation::Aside(name) => Some(name.clone()),
        _ => None,
    });
    let from_rules = headers.iter().map(|(r, h)| gate.rules[*r].headers[*h].name.clone());
    from_auth.chain(from_rules).collect()
}
