//! Everything live in one immutable snapshot. A [`Config`](crate::config::Config) becomes a [`Gate`]; a [`Gate`] answers, for
//! an origin and a caller, with a [`Plan`]; a plan answers, for a method and a path, with a [`Decision`].

mod build;
mod decision;
mod durable;
mod fate;
mod inventory;
mod kept;
mod near;
mod plan;
mod renew;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use http::Method;

pub use build::build;
pub use decision::{BoundAuthorizer, Decision, Echoes, HeaderText, LiveHeader, LiveQuery};
pub use durable::Durable;
pub use fate::{Denial, Fate};
pub use inventory::{Held, Kind};
pub use near::{Difference, Near};
pub use plan::Plan;

use crate::config::{Access, Action, Client, ListenAddress, Rule, Unmatched};
use crate::initiator::CrossSite;
use crate::limits::Limits;
use crate::origin::{Host, Origin, Scheme};
use crate::pattern::{HostIndex, HostPattern};
use crate::provided::SecretRef;
use crate::secrets;
use crate::tls::intercept::authority::Authority;
use crate::upstream::pac::Pac;
use crate::upstream::settings::EgressDeny;
use crate::upstream::{NetEnv, Spec, Upstream};

/// One immutable snapshot of all that was configured.
pub struct Gate {
    /// Rises by one with each reload.
    pub generation: u64,
    pub unmatched: Unmatched,
    pub authority: Arc<Authority>,
    pub limits: Limits,
    /// What to watch for changes.
    pub files: Vec<PathBuf>,
    /// Named in the configuration, used by a rule or not.
    pub identities: Vec<(String, Arc<crate::tls::out::identity::Identity>)>,
    pub bundles: Vec<(String, Arc<crate::tls::out::trust::Trust>)>,
    pub credentials: Vec<(String, Arc<BoundAuthorizer>)>,
    durable: Arc<Durable>,
    /// Some file does not work at this moment, and what was read from it before stays in use.
    pub pending: bool,
    kept: Arc<kept::Kept>,
    rules: Vec<LiveRule>,
    index: Arc<HostIndex>,
    /// Every way out that a rule can lead to, by what makes it the same.
    upstreams: Mutex<HashMap<Spec, Arc<Upstream>>>,
    net: Arc<NetEnv>,
    /// PAC scripts that routes name.
    scripts: Vec<Arc<Pac>>,
    default_spec: Spec,
    plans: RwLock<HashMap<PlanKey, Arc<Plan>>>,
    /// Who may call, by the listener's configured address. By address and not by position: a reload
    /// that moves listeners about must not hand one's callers to another.
    access: Arc<HashMap<(ListenAddress, usize), Option<LiveAccess>>>,
    /// Some rule asks for callers; else all callers share plans.
    callers_matter: bool,
    /// What reverse listeners are called and whom they serve, by the listener as in `access`.
    reverse: Arc<HashMap<(ListenAddress, usize), ReverseGuard>>,
}

/// What a reverse listener is called, and which web pages may use it.
#[derive(Default)]
pub struct ReverseGuard {
    /// Where everything goes.
    pub upstream: Option<Arc<Origin>>,
    pub hosts: Vec<HostPattern>,
    pub cross_site: CrossSite,
}

/// A rule with everything it names loaded.
#[derive(Clone)]
pub struct LiveRule {
    pub rule: Arc<Rule>,
    /// `gatepass.yaml:16`.
    pub label: Arc<str>,
    pub auth: Option<Vec<Arc<BoundAuthorizer>>>,
    pub identities: Option<Vec<Arc<crate::tls::out::identity::Identity>>>,
    pub trust: Option<Arc<crate::tls::out::trust::Trust>>,
    crls: Option<Arc<crate::tls::formats::crl::Crls>>,
    via: Option<crate::upstream::Route>,
    /// Of the identities, by name where they have one.
    certificate_label: Arc<str>,
    headers: Vec<LiveHeader>,
    query: Vec<LiveQuery>,
}

/// Who is asking, as far as rules care.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Caller {
    pub user: Option<Arc<str>>,
    pub address: Option<IpAddr>,
}

#[derive(PartialEq, Eq, Hash)]
struct PlanKey {
    origin: Arc<Origin>,
    /// Only when some rule asks for callers; else all callers share a plan.
    caller: Option<Caller>,
}

/// Who may call at a listener.
pub enum Admission<'a> {
    /// Nothing is said, and it is on loopback.
    All,
    Some(&'a LiveAccess),
    /// The listener is no longer in the configuration.
    None,
}

/// The access table of one listener, secrets at hand.
pub struct LiveAccess {
    pub users: HashMap<String, SecretRef>,
    pub cidrs: Vec<crate::address::Cidr>,
    pub uids: Vec<u32>,
    pub same_user: bool,
}

impl Gate {
    pub fn rules(&self) -> &[LiveRule] {
        &self.rules
    }

    /// What outlives this gate.
    pub fn durable(&self) -> &Arc<Durable> {
        &self.durable
    }

    pub fn egress(&self) -> &[EgressDeny] {
        &self.net.egress
    }

    pub fn net(&self) -> &Arc<NetEnv> {
        &self.net
    }

    /// Fetches the PAC scripts that have a URL, so that the first request need not wait for them.
    pub async fn fetch_scripts(&self) {
        for pac in &self.scripts {
            if let Err(failure) = pac.script(&self.net).await {
                tracing::error!(%failure, "no PAC script");
            }
        }
    }

    /// Who may call at a listener, by its configured address and how many before it have the same.
    pub fn access(&self, listener: &(ListenAddress, usize)) -> Admission<'_> {
        match self.access.get(listener) {
            Some(Some(access)) => Admission::Some(access),
            Some(None) => Admission::All,
            None => Admission::None,
        }
    }

    /// Is the certificate that a listener was given for that name?
    pub fn listener_is_certified(&self, listener: &(ListenAddress, usize), name: &Host) -> bool {
        let identity = self.kept.listeners.get(listener).map(|listening| &listening.identity);
        identity
            .and_then(|identity| identity.certificates().first())
            .is_some_and(|leaf| crate::tls::intercept::server::is_for(leaf, name))
    }

    /// What is said of a reverse listener; nothing when it is no longer in the configuration.
    pub fn reverse_guard(&self, listener: &(ListenAddress, usize)) -> Option<&ReverseGuard> {
        self.reverse.get(listener)
    }

    /// Where the interception CA is.
    pub fn ca_source(&self) -> &crate::tls::settings::CaSource {
        self.kept.ca.as_ref().unwrap_or(&crate::tls::settings::CaSource::Memory)
    }

    /// The limits that the interception CA should have by the rules of now.
    ///
    /// # Errors
    /// A rule names more than a CA can be limited to.
    pub fn constraints_wanted(&self) -> Result<Option<crate::tls::intercept::constraints::Constraints>, crate::tls::Problem> {
        build::shown::constraints(self.ca_source(), &self.rules)
    }

    /// The TLS of a listener: `None` when it is no longer in the configuration, `Some(None)` when it speaks none.
    pub fn listener_tls(&self, listener: &(ListenAddress, usize)) -> Option<Option<Arc<rustls::ServerConfig>>> {
        self.access.get(listener)?;
        Some(self.kept.listeners.get(listener).map(|listening| listening.config.clone()))
    }

    /// The plan for an origin. One read lock and one lookup when it is known; a walk through the
    /// candidate rules when it is new.
    pub fn plan(&self, origin: &Arc<Origin>, caller: &Caller) -> Arc<Plan> {
        let key = PlanKey { origin: origin.clone(), caller: self.callers_matter.then(|| caller.clone()) };
        if let Some(plan) = self.plans.read().unwrap_or_else(|e| e.into_inner()).get(&key) {
            return plan.clone();
        }
        let rules: Vec<usize> =
            self.candidates(origin).into_iter().filter(|at| admits(&self.rules[*at].rule.clients, caller)).collect();
        let plan = Arc::new(Plan::new(self, origin.clone(), rules));
        let mut plans = self.plans.write().unwrap_or_else(|e| e.into_inner());
        if plans.len() >= self.limits.plans {
            plans.clear();
        }
        plans.entry(key).or_insert(plan).clone()
    }

    /// Rules that speak of this host, port and scheme, in their order.
    pub fn candidates(&self, origin: &Origin) -> Vec<usize> {
        let hosts = self.about(&origin.host);
        hosts.into_iter().filter(|at| self.rules[*at].speaks_of(origin.scheme, origin.port)).collect()
    }

    /// Rules that speak of this host, in their order; those that deny also when they name it otherwise.
    fn about(&self, host: &Host) -> Vec<usize> {
        let mut rules = self.index.matches(host);
        let aliases = host.aliases();
        if !aliases.is_empty() {
            let others = aliases.iter().flat_map(|alias| self.index.matches(alias));
            rules.extend(others.filter(|at| self.rules[*at].denies()));
            rules.sort_unstable();
            rules.dedup();
        }
        rules
    }

    /// Does any rule name this host? Decides whether link-local addresses may be dialled.
    pub fn names(&self, host: &Host) -> bool {
        !self.index.matches(host).is_empty()
    }

    /// The way out for a spec; made on first use.
    ///
    /// # Errors
    /// Its TLS settings cannot be made into a configuration.
    pub(crate) fn upstream(&self, spec: &Spec) -> Result<Arc<Upstream>, crate::tls::Problem> {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(upstream) = upstreams.get(spec) {
            return Ok(upstream.clone());
        }
        let upstream = Arc::new(Upstream::build(spec.clone(), self.net.clone())?);
        upstreams.insert(spec.clone(), upstream.clone());
        Ok(upstream)
    }

    /// The way out for hosts without a rule.
    ///
    /// # Errors
    /// As `Gate::upstream`.
    pub fn default_upstream(&self) -> Result<Arc<Upstream>, crate::tls::Problem> {
        self.upstream(&self.default_spec)
    }

    pub(crate) fn default_spec(&self) -> &Spec {
        &self.default_spec
    }

    /// Closes connections that were unused for too long, and lets go of ways out that nothing leads to any
    /// more: each renewal of a certificate leaves one behind.
    pub fn sweep(&self) {
        let upstreams: Vec<_> = self.upstreams.lock().unwrap_or_else(|e| e.into_inner()).values().cloned().collect();
        for upstream in upstreams {
            upstream.sweep();
        }
        self.upstreams.lock().unwrap_or_else(|e| e.into_inner()).retain(|_, upstream| Arc::strong_count(upstream) > 1);
        for pac in &self.scripts {
            let _ = pac.renew_if_due(&self.net);
        }
    }
}

impl LiveRule {
    fn speaks_of(&self, scheme: Scheme, port: u16) -> bool {
        use crate::config::Schemes;
        let scheme_fits = match self.rule.schemes {
            Schemes::Https => scheme == Scheme::Https,
            Schemes::Http => scheme == Scheme::Http,
            Schemes::Any => true,
        };
        scheme_fits && self.rule.ports.contains(port, scheme)
    }

    /// Does it authenticate by connection?
    fn owns_connection(&self) -> bool {
        self.auth.iter().flatten().any(|bound| bound.facts.own_connection)
    }

    pub fn header(&self, at: usize) -> &LiveHeader {
        &self.headers[at]
    }

    pub fn query(&self, at: usize) -> &LiveQuery {
        &self.query[at]
    }

    pub fn denies(&self) -> bool {
        self.rule.action == Some(Action::Deny)
    }

    /// Does it speak of requests of this method? One that denies is not to be slipped past by another case, and `GET` stands
    /// for `HEAD` in it, as in Apache's `<Limit>`.
    fn is_for(&self, method: &Method) -> bool {
        let methods = &self.rule.methods;
        let alike = |denied: &Method| {
            denied.as_str().eq_ignore_ascii_case(method.as_str())
                || *denied == Method::GET && method.as_str().eq_ignore_ascii_case("HEAD")
        };
        methods.is_empty() || methods.contains(method) || self.denies() && methods.iter().any(alike)
    }

    /// Does it say anything of what is added, or of whether a request may pass?
    fn gives(&self) -> bool {
        let Rule { auth, client_certificates, headers, query, token_endpoint, action, .. } = &*self.rule;
        let said = [auth.is_some(), client_certificates.is_some(), token_endpoint.is_some(), action.is_some()];
        said.contains(&true) || !headers.is_empty() || !query.is_empty()
    }

    /// Does it speak only of some paths or methods?
    pub fn is_conditional(&self) -> bool {
        !self.rule.paths.is_empty() || !self.rule.methods.is_empty()
    }
}

/// Does a rule's `clients:` list admit the caller? An empty list admits all.
fn admits(clients: &[Client], caller: &Caller) -> bool {
    clients.is_empty()
        || clients.iter().any(|client| match client {
            Client::User(name) => caller.user.as_deref() == Some(name),
            Client::Cidr(cidr) => caller.address.is_some_and(|ip| cidr.contains(ip)),
        })
}

impl LiveAccess {
    pub(crate) fn new(access: &Access) -> Self {
        let users = access.users.iter().map(|(name, text)| (name.clone(), secrets::reference(text.clone()))).collect();
        Self { users, cidrs: access.cidrs.clone(), uids: access.uids.clone(), same_user: access.same_user }
    }
}
