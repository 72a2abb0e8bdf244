//! Upstream proxies by a PAC script: where it comes from, what it says for an origin, and for how long that holds.

mod answer;
#[cfg_attr(not(feature = "pac"), path = "engine_absent.rs")]
mod engine;
#[cfg(all(test, feature = "pac"))]
mod tests;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::NetEnv;
use super::fetch::{Client, Url};
use super::proxy::Proxy;
use super::short_cache::ShortCache;
use crate::failure::{Cause, Failure};
use crate::limits::Limits;
use crate::origin::{Host, Scheme};
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::out::trust::Trust;
use crate::upstream::settings::{PacFrom, PacSource, UpstreamProxy, Via, ViaScheme};

/// The text of a script, and what it is called in messages.
pub struct Script {
    pub name: String,
    pub text: Arc<str>,
}

/// Of one run.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub time: Duration,
    pub memory: usize,
}

/// Looks up a name; an engine and what it calls stay on one thread.
pub type Names = Rc<dyn Fn(&str) -> Vec<IpAddr>>;

/// Ways in the order in which they are tried; `None`: straight.
pub type Exits = Arc<[Option<Arc<Proxy>>]>;

/// A script that could not be fetched is not asked for again before this.
const RETRY: Duration = Duration::from_secs(10);
/// Runs of one script at once; each holds a thread.
const RUNS: usize = 2;

pub struct Pac {
    source: Arc<PacSource>,
    /// Toward proxies that speak TLS, and toward the script's server.
    tls: Option<ClientSpec>,
    held: Mutex<Held>,
    /// One fetches, others wait.
    fetching: tokio::sync::Mutex<()>,
    generation: AtomicU64,
    runs: Semaphore,
    answers: ShortCache<(Scheme, Host, u16), Exits, Failure>,
}

#[derive(Default)]
struct Held {
    script: Option<Arc<Script>>,
    /// Why there is no newer one.
    failure: Option<Failure>,
    /// When it is to be fetched anew; `None`: it is a file, or was never asked for.
    due: Option<Instant>,
}

impl Held {
    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }
}

impl Pac {
    pub fn new(source: Arc<PacSource>, tls: Option<ClientSpec>) -> Self {
        let script = match &source.from {
            PacFrom::File { text, .. } => Some(Arc::new(Script { name: source.from.to_string(), text: text.clone() })),
            PacFrom::Url(_) => None,
        };
        Self {
            source,
            tls,
            held: Mutex::new(Held { script, ..Held::default() }),
            fetching: tokio::sync::Mutex::default(),
            generation: AtomicU64::new(0),
            runs: Semaphore::new(RUNS),
            answers: ShortCache::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Hosts that the configuration takes out of the script's hands.
    pub fn no_proxy(&self) -> &[String] {
        &self.source.like.no_proxy
    }

    /// Can it be a script at all? A URL is only read, not fetched.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self, limits: &Limits) -> Result<(), String> {
        let held = self.held().script.clone();
        match (&self.source.from, held) {
            (PacFrom::Url(url), None) => Url::parse(url).map(|_| ()).map_err(|why| format!("`{url}` is not a URL: {why}")),
            (_, Some(script)) => engine::check(&script, bounds(limits)).map_err(|why| format!("{}: {why}", script.name)),
            _ => Ok(()),
        }
    }

    /// The ways to `host:port`; those that could not be reached lately come last.
    ///
    /// # Errors
    /// The script cannot be had, or fails.
    pub async fn exits(self: &Arc<Self>, host: &Host, port: u16, scheme: Scheme, net: &Arc<NetEnv>) -> Result<Exits, Failure> {
        let script = self.script(net).await?;
        let limits = &net.limits;
        let found = self
            .answers
            .get(&(scheme, host.clone(), port), limits.pac_keep, limits.plans, self.ask(&script, host, port, scheme, net))
            .await?;
        let is_down = |exit: &Option<Arc<Proxy>>| exit.as_ref().is_some_and(|proxy| proxy.is_down(limits.pac_retry));
        if !found.iter().any(is_down) {
            return Ok(found);
        }
        let (down, up): (Vec<_>, Vec<_>) = found.iter().cloned().partition(is_down);
        Ok(up.into_iter().chain(down).collect())
    }

    async fn ask(
        &self,
        script: &Arc<Script>,
        host: &Host,
        port: u16,
        scheme: Scheme,
        net: &Arc<NetEnv>,
    ) -> Result<Exits, Failure> {
        let (url, name) = asked(host, port, scheme);
        let failed = |why: &str| {
            Failure::new(Cause::Route, format!("the PAC script {} does not say how to reach {url}", script.name))
                .said(why, &[])
                .hint("mend the script, or set `upstream_proxy` or the rule's `via` to a proxy or none")
        };
        let run = {
            let (script, url, net) = (script.clone(), url.clone(), net.clone());
            move || {
                let end = Instant::now() + net.limits.pac_time;
                let handle = tokio::runtime::Handle::current();
                let bounds = bounds(&net.limits);
                let names: Names = Rc::new(move |name| handle.block_on(look_up(name, &net, end)));
                engine::run(&script, &url, &name, names, bounds)
            }
        };
        let bound = net.limits.pac_time * 2;
        let said = timeout(bound, async {
            let _run = self.runs.acquire().await.map_err(|cause| cause.to_string())?;
            tokio::task::spawn_blocking(run).await.map_err(|cause| cause.to_string())?
        });
        let said = said.await.unwrap_or_else(|_| Err(format!("no answer within {bound:?}"))).map_err(|why| failed(&why))?;
        let hops = answer::read(said.as_deref()).map_err(|why| failed(&why))?;
        hops.into_iter().map(|hop| hop.map(|hop| self.proxy(hop, net)).transpose()).collect()
    }

    /// A proxy that the script names. The user and the client certificate are for those that the configuration names too:
    /// whoever can change the script must not learn them.
    fn proxy(&self, (scheme, host, port): (ViaScheme, Host, u16), net: &NetEnv) -> Result<Arc<Proxy>, Failure> {
        let trusted = self.source.proxies.iter().any(|(name, at)| *name == host && at.is_none_or(|at| at == port));
        let mut tls = None;
        if scheme == ViaScheme::Https {
            let mut spec = self.tls().map_err(|why| Failure::new(Cause::Route, why))?;
            if !trusted {
                spec.identities.clear();
            }
            tls = Some(spec);
        }
        let like = Via { scheme, host, port, no_proxy: Vec::new(), ..self.source.like.clone() };
        let via = if trusted {
            Via { auth: like.auth.filter(|_| scheme != ViaScheme::Socks5), ..like }
        } else {
            Via { username: None, password: None, domain: None, auth: None, ..like }
        };
        net.dialer
            .proxy(Arc::new(via), tls, trusted, net.limits.tls_sessions)
            .map_err(|problem| Failure::new(Cause::Route, problem.to_string()))
    }

    fn tls(&self) -> Result<ClientSpec, String> {
        match &self.tls {
            Some(tls) => Ok(tls.clone()),
            None => Trust::system().map(ClientSpec::plain).map_err(|problem| problem.to_string()),
        }
    }

    /// The script; one that is due is fetched anew meanwhile.
    ///
    /// # Errors
    /// There is none yet, and it cannot be fetched.
    pub async fn script(self: &Arc<Self>, net: &Arc<NetEnv>) -> Result<Arc<Script>, Failure> {
        if let Some(script) = self.renew_if_due(net) {
            return Ok(script);
        }
        let _turn = self.fetching.lock().await;
        {
            let held = self.held();
            match (&held.script, &held.failure) {
                (Some(script), _) => return Ok(script.clone()),
                (None, Some(failure)) if !held.is_due() => return Err(failure.clone()),
                _ => {}
            }
        }
        self.renew(net).await
    }

    /// The script that there is, which is fetched anew in the background where it is due.
    pub fn renew_if_due(self: &Arc<Self>, net: &Arc<NetEnv>) -> Option<Arc<Script>> {
        let held = self.held();
        let script = held.script.clone()?;
        if held.is_due() {
            let (pac, net) = (self.clone(), net.clone());
            tokio::spawn(async move {
                let Ok(_turn) = pac.fetching.try_lock() else { return };
                if let Err(failure) = pac.renew(&net).await {
                    tracing::warn!(%failure, "the PAC script is not renewed; the last one stays");
                }
            });
        }
        Some(script)
    }

    /// Rises when the script becomes another: connections made before it did are not for new requests.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    async fn renew(&self, net: &Arc<NetEnv>) -> Result<Arc<Script>, Failure> {
        let fetched = self.fetch(net).await;
        let mut held = self.held();
        match fetched {
            Ok(script) => {
                if held.script.as_ref().is_none_or(|old| old.text != script.text) {
                    tracing::info!(script = script.name, bytes = script.text.len(), "PAC script fetched");
                    self.answers.clear();
                    self.generation.fetch_add(1, Ordering::Relaxed);
                }
                *held = Held { script: Some(script.clone()), failure: None, due: Some(Instant::now() + net.limits.pac_refresh) };
                Ok(script)
            }
            Err(failure) => {
                held.failure = Some(failure.clone());
                held.due = Some(Instant::now() + RETRY);
                Err(failure)
            }
        }
    }

    /// Straight, by no proxy. Boxed, since connecting may ask a script for the way, and its type would hold itself.
    fn fetch<'a>(&'a self, net: &'a Arc<NetEnv>) -> BoxFuture<'a, Result<Arc<Script>, Failure>> {
        Box::pin(async move {
            let PacFrom::Url(url) = &self.source.from else { return Err(no_script("it is a file".to_owned())) };
            let url = Url::parse(url).map_err(|why| no_script(format!("`{url}` is not a URL: {why}")))?;
            let trust = self.tls().map_err(no_script)?.trust;
            let client = Client::over(net, UpstreamProxy::None, None, None, trust);
            let client = client.map_err(|problem| no_script(problem.to_string()))?;
            let sent = client.send("the server of the PAC script", Method::GET, &url, HeaderMap::new(), Bytes::new()).await;
            let fetched = sent.map_err(|failure| no_script(failure.details))?;
            if fetched.status != StatusCode::OK {
                return Err(no_script(format!("the server of the PAC script {} answered {}", url.shown(), fetched.status)));
            }
            let text = String::from_utf8_lossy(&fetched.body);
            let script = Arc::new(Script { name: url.shown(), text: text.trim_start_matches('\u{feff}').into() });
            let (checked, bounds) = (script.clone(), bounds(&net.limits));
            let check = tokio::task::spawn_blocking(move || engine::check(&checked, bounds)).await;
            let check = check.unwrap_or_else(|cause| Err(cause.to_string()));
            check.map_err(|why| no_script(format!("the PAC script {}: {why}", script.name)))?;
            Ok(script)
        })
    }

    /// What it says, in words, without the network.
    pub fn told(&self, host: &Host, port: u16, scheme: Scheme, limits: &Limits) -> String {
        let name = &self.source.from;
        let Some(script) = self.held().script.clone() else {
            return format!("by what the PAC script {name} says, which is not fetched here");
        };
        let (url, host) = asked(host, port, scheme);
        let asked_names = Arc::new(AtomicBool::new(false));
        let names: Names = {
            let asked_names = asked_names.clone();
            Rc::new(move |_| {
                asked_names.store(true, Ordering::Relaxed);
                Vec::new()
            })
        };
        match engine::run(&script, &url, &host, names, bounds(limits)) {
            _ if asked_names.load(Ordering::Relaxed) => format!("by what {name} says, which looks up names to say it"),
            Ok(said) => {
                format!("by {}, as {name} says", said.filter(|said| !said.is_empty()).unwrap_or_else(|| "DIRECT".to_owned()))
            }
            Err(why) => format!("by none: the PAC script {name} fails: {why}"),
        }
    }
}

fn no_script(why: String) -> Failure {
    Failure::new(Cause::Route, why)
        .hint("without the script it is not known which way to go; mend that, or set `upstream_proxy` to a proxy or none")
}

fn bounds(limits: &Limits) -> Bounds {
    Bounds { time: limits.pac_time, memory: limits.pac_memory }
}

/// What the script is told: the URL without path, as answers are kept by origin; the host without brackets.
fn asked(host: &Host, port: u16, scheme: Scheme) -> (String, String) {
    let name = host.to_string();
    let at = if port == scheme.default_port() { String::new() } else { format!(":{port}") };
    (format!("{scheme}://{name}{at}/"), name.trim_matches(['[', ']']).to_owned())
}

async fn look_up(name: &str, net: &NetEnv, end: Instant) -> Vec<IpAddr> {
    let Ok(host) = Host::parse(name) else { return Vec::new() };
    let found = net.dialer.resolver.find(&host, 0, &net.resolve, &net.limits, end, net.limits.pac_time).await;
    found.map(|found| found.iter().map(|address| address.ip()).collect()).unwrap_or_default()
}
