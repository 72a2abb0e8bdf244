//! From what is meant to what is live: reads certificates and bundles, makes authorizers, compiles
//! the index. Every mistake goes to the report with its place; nothing is half built.

pub(super) mod shown;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use http::HeaderValue;

use super::decision::{BoundAuthorizer, HeaderText, LiveHeader, LiveQuery};
use super::kept::{BundleKey, IdentityKey, Kept, Recipe};
use super::{Durable, Gate, LiveAccess, LiveRule, ReverseGuard};
use crate::auth::{self, BuildCx};
use crate::config::{Config, Credential, HeaderEdit, ListenAddress, Listener, Mode, QueryEdit, Rule};
use crate::provided::SecretRef;
use crate::secrets;
use crate::settings::{Decode, Pem, Place, Report, Scope, Text};
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::out::identity::{self, Identity};
use crate::tls::out::svid;
use crate::tls::out::svid_origin::SvidOrigin;
use crate::tls::out::trust::Trust;
use crate::tls::settings::{BundleSource, CertificateSource, Material};
use crate::tls::{self, Loaded, Problem};
use crate::upstream::pac::Pac;
use crate::upstream::settings::{PacSource, UpstreamProxy, Via};
use crate::upstream::{Dialer, Fixed, NetEnv, Route, Spec};
use crate::workload::Update;

/// Builds a gate, or reports why not. `listeners` say who may call where; `durable` is that of all gates of this gatepass.
///
/// With a `previous` gate, what did not change is taken over from it; and a certificate, bundle or
/// list whose files do not work at this moment (a key is written before its certificate) stays as it
/// was, with a warning: one broken pair must not hold up the renewal of the others.
#[allow(clippy::too_many_lines)]
pub async fn build(
    config: Config,
    listeners: &[Listener],
    scope: &Scope,
    report: &mut Report,
    durable: &Arc<Durable>,
    previous: Option<&Gate>,
) -> Option<Gate> {
    let nothing = Kept::default();
    let world = format!("{:?} {:?} {:?}", config.limits, config.egress, config.resolve);
    let net = net(&durable.dialer, config.limits.clone(), config.egress, config.resolve, previous);
    let mut builder = Builder {
        scope,
        report,
        bound: config.limits.file,
        files: config.files.clone(),
        identities: HashMap::new(),
        bundles: HashMap::new(),
        durable: durable.clone(),
        authorizers: HashMap::new(),
        trust: None,
        net: net.clone(),
        via: Route::default(),
        scripts: Vec::new(),
        state: config.state.clone(),
        named_identities: HashMap::new(),
        named_bundles: HashMap::new(),
        old: previous.map_or(&nothing, |gate| &*gate.kept),
        kept: Kept::default(),
        taken: HashMap::new(),
        world: String::new(),
        pending: false,
    };
    builder.trust = builder.system_trust();
    let mut identities = Vec::new();
    for (name, source) in &config.client_certificates {
        let identity = builder.identity(source).await;
        builder.named_identities.insert(name.clone(), identity.clone());
        identities.extend(identity.map(|identity| (name.clone(), identity)));
    }
    let mut bundles = Vec::new();
    for (name, source) in &config.ca_bundles {
        let trust = builder.bundle(source).await;
        builder.named_bundles.insert(name.clone(), trust.clone());
        bundles.extend(trust.map(|trust| (name.clone(), trust)));
    }
    builder.via = builder.route(config.upstream_proxy).await;
    builder.world = format!("{world} {}", hash(&builder.via));
    let mut credentials = Vec::new();
    for (name, credential) in &config.credentials {
        credentials.extend(builder.authorizer(credential, None).map(|bound| (name.clone(), bound)));
    }
    let places: Vec<Place> = config.rules.iter().map(|rule| rule.place).collect();
    let labels = builder.report.labels("rules", &places);
    let mut rules = Vec::with_capacity(config.rules.len());
    for (rule, label) in config.rules.into_iter().zip(labels) {
        rules.push(builder.rule(rule, label.into()).await);
    }
    for listener in listeners {
        builder.listener(listener);
    }
    let authority = match builder.report.has_errors() {
        true => return None,
        false => builder.authority(config.ca, config.limits.leaves, &rules, previous)?,
    };
    let Builder { files, durable, kept, pending, trust, via, scripts, .. } = builder;
    if report.has_errors() {
        return None;
    }
    let upstreams = match previous {
        Some(gate) if Arc::ptr_eq(&gate.net, &net) => gate.upstreams.lock().unwrap_or_else(|e| e.into_inner()).clone(),
        _ => HashMap::new(),
    };
    Some(Gate {
        generation: previous.map_or(1, |gate| gate.generation + 1),
        unmatched: config.unmatched,
        identities,
        bundles,
        credentials,
        authority,
        limits: config.limits,
        files,
        durable,
        kept: Arc::new(kept),
        pending,
        index: Arc::new(crate::pattern::HostIndex::new(rules.iter().map(|live| live.rule.hosts.as_slice()))),
        callers_matter: rules.iter().any(|live| !live.rule.clients.is_empty()),
        rules,
        upstreams: Mutex::new(upstreams),
        default_spec: Spec { tls: ClientSpec::plain(trust?), connect_to: None, via, named: false },
        net,
        scripts,
        plans: RwLock::default(),
        reverse: Arc::new(listeners.iter().filter_map(reverse_guard).collect()),
        access: Arc::new(
            listeners
                .iter()
                .map(|listener| ((listener.address.clone(), listener.nth), listener.access.as_ref().map(LiveAccess::new)))
                .collect(),
        ),
    })
}

fn reverse_guard(listener: &Listener) -> Option<((ListenAddress, usize), ReverseGuard)> {
    let Mode::Reverse(origin) = &listener.mode else { return None };
    let upstream = Some(Arc::new(origin.clone()));
    let guard = ReverseGuard { upstream, hosts: listener.hosts.clone(), cross_site: listener.cross_site.clone() };
    Some(((listener.address.clone(), listener.nth), guard))
}

/// Kept across a reload when nothing in it changed, and with it the pools of every way out.
fn net(
    dialer: &Arc<Dialer>,
    limits: crate::limits::Limits,
    egress: Vec<crate::upstream::settings::EgressDeny>,
    resolve: Fixed,
    previous: Option<&Gate>,
) -> Arc<NetEnv> {
    match previous.map(|gate| &gate.net) {
        Some(net) if net.limits == limits && net.egress == egress && net.resolve == resolve => net.clone(),
        _ => Arc::new(NetEnv { dialer: dialer.clone(), limits, egress, resolve }),
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn tell_error(report: &mut Report, problem: Problem) {
    let diagnostic = report.error(problem.code, problem.place, problem.message);
    diagnostic.help = problem.help;
}

fn tell_warning(report: &mut Report, problem: Problem) {
    let diagnostic = report.warning(problem.code, problem.place, problem.message);
    diagnostic.help = problem.help;
}

struct Builder<'a> {
    scope: &'a Scope,
    report: &'a mut Report,
    bound: usize,
    files: Vec<PathBuf>,
    /// By what is read, not where it is named: 10,000 rules may name one file.
    identities: HashMap<IdentityKey, Option<Arc<Identity>>>,
    bundles: HashMap<BundleKey, Option<Arc<Trust>>>,
    durable: Arc<Durable>,
    /// By the credential's address: a named one is shared by the rules that name it.
    authorizers: HashMap<usize, Option<Arc<BoundAuthorizer>>>,
    /// What authorizers are made with.
    trust: Option<Arc<Trust>>,
    net: Arc<NetEnv>,
    via: Route,
    scripts: Vec<Arc<Pac>>,
    state: PathBuf,
    named_identities: HashMap<String, Option<Arc<Identity>>>,
    named_bundles: HashMap<String, Option<Arc<Trust>>>,
    /// From the gate before.
    old: &'a Kept,
    /// For the gate after.
    kept: Kept,
    /// How many of the old authorizers of a recipe have found their place.
    taken: HashMap<Recipe, usize>,
    /// What all authorizers depend on.
    world: String,
    /// Something old stays because its files do not work at this moment.
    pending: bool,
}

impl Builder<'_> {
    fn system_trust(&mut self) -> Option<Arc<Trust>> {
        match Trust::system() {
            Ok(trust) => Some(trust),
            Err(problem) => {
                tell_error(self.report, problem);
                None
            }
        }
    }

    async fn rule(&mut self, rule: Rule, label: Arc<str>) -> LiveRule {
        let auth = rule.auth.as_ref().map(|list| self.authorizers(list, &rule));
        let identities = match &rule.client_certificates {
            None => None,
            Some(list) => {
                let mut loaded = Vec::new();
                let backend = rule.tls.backend.unwrap_or_default();
                for source in list {
                    let Some(identity) = self.identity(source).await else { continue };
                    if let Err(problem) = identity.check_backend(backend, Some(source.place)) {
                        tell_error(self.report, problem);
                    }
                    loaded.push(identity);
                }
                Some(loaded)
            }
        };
        let trust = match &rule.ca_bundle {
            Some(source) => self.bundle(source).await,
            None => None,
        };
        let via = match &rule.via {
            None => None,
            Some(proxy) => Some(self.route(proxy.clone()).await),
        };
        let crls = rule.tls.crl.as_ref().and_then(|files| self.crls(files));
        let headers = rule.headers.iter().filter_map(|edit| self.header(edit)).collect();
        let query = rule.query.iter().map(|edit| self.query(edit)).collect();
        LiveRule {
            certificate_label: certificate_label(&rule, identities.as_deref()),
            rule: Arc::new(rule),
            label,
            auth,
            identities,
            trust,
            crls,
            via,
            headers,
            query,
        }
    }

    /// With what TLS toward the proxy needs, by content: where the config names it must not make two routes differ.
    async fn route(&mut self, proxy: UpstreamProxy) -> Route {
        match proxy {
            UpstreamProxy::To(via) => {
                let (via, tls) = self.via_tls(&via).await;
                Route { proxy: UpstreamProxy::To(Arc::new(via)), tls }
            }
            UpstreamProxy::Pac(source) => {
                let (like, tls) = self.via_tls(&source.like).await;
                let place = source.place;
                let source = Arc::new(PacSource { place: None, like, ..PacSource::clone(&source) });
                let pac = self.net.dialer.pac(source.clone(), tls.clone());
                if let Err(why) = pac.check(&self.net.limits) {
                    self.report.error("pac", place, why).help("mend the PAC script");
                }
                self.scripts.push(pac);
                Route { proxy: UpstreamProxy::Pac(source), tls }
            }
            other => other.into(),
        }
    }

    async fn via_tls(&mut self, via: &Via) -> (Via, Option<ClientSpec>) {
        if via.ca_bundle.is_none() && via.client_certificates.is_empty() {
            return (via.clone(), None);
        }
        let trust = match &via.ca_bundle {
            Some(source) => self.bundle(source).await,
            None => self.trust.clone(),
        };
        let mut identities = Vec::new();
        for source in &via.client_certificates {
            identities.extend(self.identity(source).await);
        }
        let tls = trust.map(|trust| ClientSpec { identities, ..ClientSpec::plain(trust) });
        (Via { ca_bundle: None, client_certificates: Vec::new(), ..via.clone() }, tls)
    }

    fn authorizers(&mut self, list: &[Arc<Credential>], rule: &Rule) -> Vec<Arc<BoundAuthorizer>> {
        let mut bound: Vec<Arc<BoundAuthorizer>> = Vec::new();
        for credential in list {
            let Some(new) = self.authorizer(credential, Some(rule)) else { continue };
            if let Some((old, location)) = bound.iter().find_map(|old| shared_location(old, &new).map(|location| (old, location)))
            {
                let message = format!("`{}` and `{}` both write {location}", old.label, new.label);
                self.report.error("auth-conflict", credential.place, message).help("take one of them away");
            }
            bound.push(new);
        }
        bound
    }

    /// `rule`: where it stands, if it has no name.
    fn authorizer(&mut self, credential: &Arc<Credential>, rule: Option<&Rule>) -> Option<Arc<BoundAuthorizer>> {
        let key = Arc::as_ptr(credential) as usize;
        if let Some(known) = self.authorizers.get(&key) {
            return known.clone();
        }
        let built = self.build_authorizer(credential, rule);
        self.authorizers.insert(key, built.clone());
        built
    }

    fn build_authorizer(&mut self, credential: &Credential, rule: Option<&Rule>) -> Option<Arc<BoundAuthorizer>> {
        // The config only lets through types that the table has.
        let scheme = auth::scheme(&credential.kind)?;
        let cx = BuildCx {
            name: credential.name.as_deref(),
            requests: rule.map(Rule::requests).unwrap_or_default(),
            identities: &self.named_identities,
            bundles: &self.named_bundles,
            trust: self.trust.as_ref()?,
            via: &self.via,
            net: &self.net,
            state: &self.state,
            jars: &self.durable.jars,
            sessions: &self.durable.sessions,
            sign_in: OnceCell::new(),
        };
        let mut decode = Decode::new(self.report, self.scope);
        let authorizer = scheme.authorizer(&credential.settings, &mut decode, &cx);
        let read = decode.into_files();
        // Two alike in different rules are two: what one learns belongs to its rule's requests.
        let around = format!("{} {}", self.world, cx.requests);
        let recipe = Recipe::of(credential, self.scope, &read, &around);
        self.files.extend(read);
        let (authorizer, session) = (authorizer?, cx.sign_in.into_inner());
        // What was just made held no token yet and is let go where one of the same recipe is at work.
        let bound = recipe.and_then(|recipe| self.at_work(recipe)).unwrap_or_else(|| {
            let label = credential.name.as_deref().unwrap_or(scheme.name).into();
            let (facts, locations) = (authorizer.facts(), authorizer.locations());
            Arc::new(BoundAuthorizer { authorizer, session, facts, locations, label, kind: scheme.name })
        });
        if let Some(recipe) = recipe {
            self.kept.authorizers.entry(recipe).or_default().push(bound.clone());
        }
        Some(bound)
    }

    /// The next of the old authorizers of this recipe; each goes to one place.
    fn at_work(&mut self, recipe: Recipe) -> Option<Arc<BoundAuthorizer>> {
        let next = self.taken.entry(recipe).or_default();
        *next += 1;
        self.old.authorizers.get(&recipe)?.get(*next - 1).cloned()
    }

    /// The value of a text; the output of a command is kept as long as it lives, also across reloads.
    fn value(&mut self, text: &Text) -> SecretRef {
        if matches!(text, Text::Known(_)) {
            return secrets::reference(text.clone());
        }
        let old = self.old.values.get(text).cloned();
        self.kept.values.entry(text.clone()).or_insert_with(|| old.unwrap_or_else(|| secrets::reference(text.clone()))).clone()
    }

    /// What was loaded; the old one where that cannot be used, or is cut off and so perhaps half written.
    fn settle<T>(&mut self, old: Option<Arc<T>>, loaded: Result<Loaded<T>, Vec<Problem>>) -> Option<Arc<T>> {
        let Loaded { value, warnings } = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => return self.or_old(old, problems),
        };
        let (cut_off, others): (Vec<_>, Vec<_>) = warnings.into_iter().partition(|problem| problem.code == "cut-off-entry");
        if old.is_some() && !cut_off.is_empty() {
            return self.or_old(old, cut_off);
        }
        cut_off.into_iter().chain(others).for_each(|problem| tell_warning(self.report, problem));
        Some(Arc::new(value))
    }

    /// The old one, where there is one and the new cannot be used: told as a warning.
    fn or_old<T>(&mut self, old: Option<Arc<T>>, problems: Vec<Problem>) -> Option<Arc<T>> {
        for problem in problems {
            if old.is_none() {
                tell_error(self.report, problem);
                continue;
            }
            self.pending = true;
            let message = format!("{}; what was read before stays in use", problem.message);
            tell_warning(self.report, Problem { message, ..problem });
        }
        old
    }

    async fn identity(&mut self, source: &CertificateSource) -> Option<Arc<Identity>> {
        let key = (source.files(), source.elsewhere(), source.passphrase.clone());
        if let Some(known) = self.identities.get(&key) {
            return known.clone();
        }
        let old = self.old.identities.get(&key).cloned();
        let loaded = self.load_identity(source).await.map_err(|problem| vec![problem]);
        let loaded = self.settle(old, loaded);
        self.files.extend(key.0.iter().filter_map(|pem| pem.file().map(ToOwned::to_owned)));
        // What an agent sends, it keeps itself.
        let from_files = loaded.clone().filter(|identity| identity.origin().is_none());
        self.kept.identities.extend(from_files.map(|identity| (key.clone(), identity)));
        self.identities.insert(key, loaded.clone());
        loaded
    }

    async fn load_identity(&self, source: &CertificateSource) -> Result<Loaded<Identity>, Problem> {
        let passphrase = match &source.passphrase {
            None => None,
            Some(text) => Some(secrets::reference(text.clone()).get().await.map_err(|failure| {
                let problem = Problem::new("passphrase", source.place, failure.details);
                Problem { help: failure.hint, ..problem }
            })?),
        };
        match &source.material {
            Material::Pkcs11 { .. } => tls::out::token::load(source, passphrase.as_ref(), self.bound).await,
            Material::Spiffe { socket, spiffe_id, place } => {
                let origin = SvidOrigin { socket: socket.clone(), id: spiffe_id.clone(), place: *place };
                self.sent(&origin).await.and_then(|update| svid::identity(&update, &origin))
            }
            _ => identity::load(source, passphrase.as_ref(), self.bound),
        }
    }

    /// What an agent has for this process.
    async fn sent(&self, origin: &SvidOrigin) -> Result<Arc<Update>, Problem> {
        let sent = self.durable.agents.at(&origin.socket).ready().await;
        sent.map_err(|error| Problem::new("spiffe-agent", origin.place, error.message).help(error.help))
    }

    async fn load_bundle(&self, source: &BundleSource) -> Result<Loaded<Trust>, Vec<Problem>> {
        let Some((socket, place)) = &source.spiffe else { return Trust::load(source, self.bound) };
        let origin = SvidOrigin { socket: socket.clone(), id: None, place: *place };
        let trust = self.sent(&origin).await.and_then(|update| svid::trust(&update, &origin));
        trust.map(|value| Loaded { value, warnings: Vec::new() }).map_err(|problem| vec![problem])
    }

    async fn bundle(&mut self, source: &BundleSource) -> Option<Arc<Trust>> {
        let files: Vec<Pem> = source.files.iter().map(|(file, _)| file.clone()).collect();
        let key = (files, source.system_roots, source.spiffe.as_ref().map(|(socket, _)| socket.clone()));
        if let Some(known) = self.bundles.get(&key) {
            return known.clone();
        }
        let loaded = self.load_bundle(source).await;
        let loaded = self.settle(self.old.bundles.get(&key).cloned(), loaded);
        self.files.extend(key.0.iter().filter_map(|pem| pem.file().map(ToOwned::to_owned)));
        let from_files = loaded.clone().filter(|trust| trust.origin().is_none());
        self.kept.bundles.extend(from_files.map(|trust| (key.clone(), trust)));
        self.bundles.insert(key, loaded.clone());
        loaded
    }

    fn crls(&mut self, sources: &[(PathBuf, Place)]) -> Option<Arc<tls::formats::crl::Crls>> {
        let files: Vec<PathBuf> = sources.iter().map(|(file, _)| file.clone()).collect();
        self.files.extend(files.iter().cloned());
        let loaded = tls::formats::crl::Crls::load(sources, self.bound).map_err(|problem| vec![problem]);
        let loaded = self.settle(self.old.crls.get(&files).cloned(), loaded);
        self.kept.crls.extend(loaded.clone().map(|crls| (files, crls)));
        loaded
    }

    fn header(&mut self, edit: &HeaderEdit) -> Option<LiveHeader> {
        let (name, text, place, secret) = match edit {
            HeaderEdit::Remove(name) => return Some(LiveHeader { name: name.clone(), value: None, secret: false }),
            HeaderEdit::Set(name, text, place, secret) => (name.clone(), text, *place, *secret),
        };
        let value = match text {
            Text::Known(secret) => match HeaderValue::from_str(secret.expose()) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    HeaderText::Fixed(value)
                }
                Err(_) => {
                    let message = format!("the value of header `{name}` holds characters that a header cannot carry");
                    self.report.error("header-value", place, message).help("take out line breaks and control characters");
                    return None;
                }
            },
            Text::Command(_) => HeaderText::Live(self.value(text)),
        };
        Some(LiveHeader { name, value: Some(value), secret })
    }

    fn query(&mut self, edit: &QueryEdit) -> LiveQuery {
        match edit {
            QueryEdit::Remove(name) => LiveQuery { name: name.clone(), value: None, secret: false },
            QueryEdit::Set(name, text, secret) => {
                LiveQuery { name: name.clone(), value: Some(self.value(text)), secret: *secret }
            }
        }
    }
}

/// The names of a rule's client certificates; the subject's where one has none.
fn certificate_label(rule: &Rule, identities: Option<&[Arc<Identity>]>) -> Arc<str> {
    let sources = rule.client_certificates.iter().flatten();
    let names = sources
        .zip(identities.unwrap_or_default())
        .map(|(source, identity)| source.name.as_deref().unwrap_or_else(|| identity.details().name()));
    names.collect::<Vec<_>>().join("|").into()
}

/// The first place that both write, in words.
fn shared_location(a: &BoundAuthorizer, b: &BoundAuthorizer) -> Option<String> {
    let overlap = |location: &auth::CredentialLocation| match location {
        // Of two placeholders, one in the other, it could not be said which was meant.
        auth::CredentialLocation::Placeholder(text) => b.locations.writes.iter().any(|other| match other {
            auth::CredentialLocation::Placeholder(other) => text.contains(other.as_str()) || other.contains(text.as_str()),
            _ => false,
        }),
        auth::CredentialLocation::Aside(_) => false,
        location => b.locations.writes.contains(location),
    };
    let location = a.locations.writes.iter().find(|location| overlap(location))?;
    Some(match location {
        auth::CredentialLocation::Header(name) | auth::CredentialLocation::Aside(name) => format!("the header `{name}`"),
        auth::CredentialLocation::Query(name) => format!("the query parameter `{name}`"),
        auth::CredentialLocation::Cookie(name) => format!("the cookie `{name}`"),
        auth::CredentialLocation::Placeholder(text) => format!("in place of the placeholder `{text}`"),
        auth::CredentialLocation::Jar => "captured cookies".to_owned(),
        auth::CredentialLocation::BodyField(name) => format!("the body field `{name}`"),
    })
}
