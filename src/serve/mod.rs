//! Bind, run, reload, drain; the only place that starts long-lived tasks.

mod admin;
mod bind;
mod follow;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};

use crate::config::{self, ListenAddress, Listener, Mode, Request};
use crate::exchange::Context;
use crate::gate;
use crate::listen;
use crate::observe::Observe;
use crate::upstream::Dialer;

/// Why serving could not begin.
pub enum StartError {
    /// The configuration has mistakes.
    Report(Box<config::Report>),
    /// One sentence, and the mend.
    Other { message: String, help: Option<String> },
}

/// A configuration made live but not yet serving: what `check` and `explain` look at.
pub struct Built {
    pub gate: gate::Gate,
    pub report: config::Report,
    pub listeners: Vec<Listener>,
    pub admin: Option<SocketAddr>,
    pub log: config::Log,
    pub files: Vec<PathBuf>,
    /// The folder for what gatepass keeps between runs.
    pub state: PathBuf,
    pub dialer: Arc<Dialer>,
}

/// Loads and builds; everything short of opening ports.
///
/// # Errors
/// The report, when it has errors.
pub async fn build(request: &Request) -> Result<Built, Box<config::Report>> {
    build_over(request, Dialer::new(request.env.clone()), None).await
}

async fn build_over(request: &Request, dialer: Arc<Dialer>, previous: Option<&gate::Gate>) -> Result<Built, Box<config::Report>> {
    let loaded = config::load(request);
    let (mut report, scope, files) = (loaded.report, loaded.scope, loaded.files);
    let Some(mut config) = loaded.config else { return Err(Box::new(report)) };
    let listeners = std::mem::take(&mut config.listeners);
    let (admin, log, state) = (config.admin, config.log.clone(), config.state.clone());
    match gate::build(config, &listeners, &scope, &mut report, &dialer, previous).await {
        Some(gate) if !report.has_errors() => Ok(Built { gate, report, listeners, admin, log, files, state, dialer }),
        _ => Err(Box::new(report)),
    }
}

/// gatepass, serving.
pub struct Running {
    pub context: Arc<Context>,
    /// Where the forward listeners are bound, in the order of the configuration.
    pub addresses: Vec<(SocketAddr, Mode)>,
    /// The Unix sockets, removed at the end.
    pub sockets: Vec<(PathBuf, Mode)>,
    pub admin: Option<SocketAddr>,
    ready: Arc<AtomicBool>,
    reloader: Arc<Reloader>,
    _watcher: Option<watch::Watcher>,
}

/// What stopping left behind.
pub struct Drained {
    /// Exchanges and tunnels that the grace period was too short for.
    pub cut: u64,
}

/// Binds every listener and begins to serve.
///
/// # Errors
/// An address cannot be bound, or a listener's certificate cannot be used.
pub async fn start(built: Built, request: Request, observe: Observe) -> Result<Running, StartError> {
    let Built { gate, listeners, admin, dialer, files, .. } = built;
    let context = Context::new(gate, observe);
    let gate = context.gate();
    let places: Vec<ListenAddress> = listeners.iter().map(|listener| listener.address.clone()).collect();
    let mut inherited = bind::Inherited::new(request.env.get("LISTEN_FDNAMES"));
    let mut bound = Vec::new();
    for listener in listeners {
        bound.push(bind::bind(listener, &gate.limits, &mut inherited).await?);
    }
    let admin = match admin {
        Some(address) => Some(bind::bind_tcp(address).await?),
        None => None,
    };
    let mut own: Vec<SocketAddr> = bound.iter().filter_map(|bound| bound.socket.local_addr()).collect();
    let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());
    own.extend(admin_address);
    dialer.own_listeners(own);
    if bound.iter().any(|bound| bound.mode == Mode::Transparent) {
        dialer.remember();
    }
    let addresses = bound.iter().filter_map(|bound| Some((bound.socket.local_addr()?, bound.mode.clone()))).collect();
    let sockets = bound.iter().filter_map(|bound| Some((bind::made(&bound.name.0)?, bound.mode.clone()))).collect();

    let permits = Arc::new(Semaphore::new(connections(gate.limits.connections)));
    for bound in bound {
        tokio::spawn(listen::accept(bound, context.clone(), permits.clone()));
    }
    let ready = Arc::new(AtomicBool::new(true));
    if let Some(listener) = admin {
        tokio::spawn(admin::serve(listener, context.clone(), ready.clone()));
    }
    tokio::spawn(sweep(context.clone()));
    let reloader =
        Arc::new(Reloader { context: context.clone(), request, dialer, places, config_files: files, turn: Mutex::new(()) });
    let watcher = watch::Watcher::start(reloader.clone());
    tokio::spawn(follow::run(reloader.clone()));
    Ok(Running { context, addresses, sockets, admin: admin_address, ready, reloader, _watcher: watcher })
}

/// As many as asked for, but no more than descriptors allow: an exchange takes two, and some are kept
/// for files, names and upstream proxies.
fn connections(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const KEPT: u64 = 32;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // The soft limit is low for the sake of select(2), which is not used here.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let Some(limit) = (if raised { maximum } else { current }) else { return wanted.min(Semaphore::MAX_PERMITS) };
    let most = usize::try_from(limit.saturating_sub(KEPT) / 2).unwrap_or(usize::MAX).max(16);
    wanted.min(most).min(Semaphore::MAX_PERMITS)
}

/// Closes connections that nobody used for a while.
async fn sweep(context: Arc<Context>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(10)) => context.gate().sweep(),
            () = context.stopping.cancelled() => return,
        }
    }
}

impl Running {
    /// Reads the configuration again and swaps it in, or keeps the old one and says why.
    pub async fn reload(&self) {
        self.reloader.reload("SIGHUP").await;
    }

    /// Stops accepting, lets what is in flight end within the grace period, then cuts the rest.
    pub async fn stop(self) -> Drained {
        self.ready.store(false, Ordering::Relaxed);
        let context = &self.context;
        context.stopping.cancel();
        for (path, _) in &self.sockets {
            let _ = crate::files::remove(path);
        }
        context.tasks.close();
        let grace = context.gate().limits.grace;
        if tokio::time::timeout(grace, context.tasks.wait()).await.is_err() {
            context.cut.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(1), context.tasks.wait()).await;
        }
        Drained { cut: context.observe.counters.cut.load(Ordering::Relaxed) }
    }
}

/// Reads the configuration again, one reload at a time.
pub struct Reloader {
    context: Arc<Context>,
    request: Request,
    dialer: Arc<Dialer>,
    /// The listeners that were bound.
    places: Vec<ListenAddress>,
    config_files: Vec<PathBuf>,
    turn: Mutex<()>,
}

impl Reloader {
    pub async fn reload(&self, why: &str) {
        let _turn = self.turn.lock().await;
        match self.build_settled().await {
            Ok(built) => self.put_in_force(built, why),
            Err(report) => {
                tracing::error!(why, "the new configuration has mistakes; the old one stays:\n{}", report.render(false));
            }
        }
    }

    /// Puts in force what workload agents have sent.
    pub async fn renew(&self) {
        let _turn = self.turn.lock().await;
        let (renewed, problems) = self.context.gate().renewed();
        for problem in problems {
            tracing::error!("what a SPIFFE agent sent cannot be used; the old one stays: {problem}");
        }
        if let Some((gate, count)) = renewed {
            self.context.swap(gate);
            tracing::info!(count, "certificates and trust renewed by their SPIFFE agent");
        }
    }

    /// Builds from files that did not change meanwhile. Many editors and scripts truncate a file before
    /// they write it, and an empty configuration is a valid one: it must not come into force by accident.
    async fn build_settled(&self) -> Result<Built, Box<config::Report>> {
        let current = self.context.gate();
        let mut tries = 0;
        loop {
            let before = watch::contents(&self.files());
            let built = build_over(&self.request, self.dialer.clone(), Some(&current)).await;
            tries += 1;
            let whole = before == watch::contents(&self.files()) && !self.config_files.iter().any(|file| is_empty(file));
            if whole || tries == SETTLE_TRIES {
                return built;
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
    }

    fn put_in_force(&self, built: Built, why: &str) {
        let rules = built.gate.rules().len();
        if built.report.has_warnings() {
            tracing::warn!("the new configuration has warnings:\n{}", built.report.render(false));
        }
        if built.listeners.iter().map(|listener| &listener.address).ne(&self.places) {
            tracing::warn!("`listen` and `listeners` are read at the start only; restart gatepass for the new ones");
        }
        self.context.swap(built.gate);
        tracing::info!(why, rules, "configuration reloaded");
    }

    /// What to watch: the files of the current gate, and those of the configuration itself.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.context.gate().files.clone();
        files.extend(self.config_files.iter().cloned());
        files
    }
}

/// A file that is being written is looked at again this often, after this long.
const SETTLE_TRIES: u32 = 6;
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

fn is_empty(file: &std::path::Path) -> bool {
    crate::files::read(file, 0).is_ok_and(|bytes| bytes.is_empty())
}
