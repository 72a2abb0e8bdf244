//! Bind, run, reload, drain; the only place that starts long-lived tasks.

mod admin;
mod bind;
mod contents;
pub mod control;
mod expiry;
mod fixed;
mod follow;
mod metrics;
mod reload;
mod watch;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::{self, Listener, Mode, Request};
use crate::exchange::Context;
use crate::gate::{self, Durable, Gate};
use crate::listen;
use crate::observe::Observe;
use crate::settings::Report;
use fixed::Fixed;
use reload::Reloader;

/// Why serving could not begin.
pub enum StartError {
    /// The configuration has mistakes.
    Report(Box<Report>),
    /// One sentence, and the mend.
    Other { message: String, help: Option<String> },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Report(report) => f.write_str(&report.render(false)),
            StartError::Other { message, help: None } => f.write_str(message),
            StartError::Other { message, help: Some(help) } => write!(f, "{message}; {help}"),
        }
    }
}

/// What a `main` that returns it prints: the same as `Display`.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StartError {}

/// A configuration made live but not yet serving: what `check` and `explain` look at.
pub struct Built {
    pub gate: Gate,
    pub report: Report,
    pub listeners: Vec<Listener>,
    pub admin: Option<SocketAddr>,
    pub log: crate::observe::Log,
    pub files: Vec<PathBuf>,
    /// Those of them that nobody includes, as they were named or found.
    pub found: Vec<PathBuf>,
    /// Those of them that say nothing.
    pub silent: Vec<PathBuf>,
    /// Variables of the environment that went into secrets.
    pub withheld: BTreeSet<String>,
    /// The folder for what gatepass keeps between runs.
    pub state: PathBuf,
}

/// Loads and builds; everything short of opening ports.
///
/// # Errors
/// The report, when it has errors.
pub async fn build(request: &Request) -> Result<Built, Box<Report>> {
    build_over(request, &Durable::new(request.env.clone()), None).await
}

async fn build_over(request: &Request, durable: &Arc<Durable>, previous: Option<&Gate>) -> Result<Built, Box<Report>> {
    let loaded = config::load(request);
    let (mut report, scope, files) = (loaded.report, loaded.scope, loaded.files);
    let (found, silent) = (loaded.found, loaded.silent);
    let Some(mut config) = loaded.config else { return Err(Box::new(report)) };
    let listeners = std::mem::take(&mut config.listeners);
    let (admin, log, state) = (config.admin, config.log.clone(), config.state.clone());
    match gate::build(config, &listeners, &scope, &mut report, durable, previous).await {
        Some(gate) if !report.has_errors() => {
            let withheld = scope.withheld.names();
            Ok(Built { gate, report, listeners, admin, log, files, found, silent, withheld, state })
        }
        _ => Err(Box::new(report)),
    }
}

/// gatepass, serving.
pub struct Running {
    pub context: Arc<Context>,
    /// Where the forward listeners are bound, in the order of the configuration.
    pub addresses: Vec<(SocketAddr, Mode)>,
    /// Every listener, as it is announced: where, whether it speaks TLS of its own, and what it does.
    pub listening: Vec<(String, Mode)>,
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
/// An address cannot be bound.
pub async fn start(built: Built, mut request: Request, observe: Observe) -> Result<Running, StartError> {
    let Built { gate, listeners, admin, files, found, silent, report, .. } = built;
    // A file that was found is the one to read again: were it gone, another place must not stand in for it.
    request.files = found;
    let context = Context::new(gate, observe);
    let gate = context.gate();
    let fixed = Fixed::new(&listeners, admin, &gate.limits);
    let mut inherited = bind::Inherited::new(request.env.get("LISTEN_FDNAMES"));
    let mut bound = Vec::new();
    for listener in listeners {
        bound.push(bind::bind(listener, &gate, &mut inherited).await?);
    }
    let admin = match admin {
        Some(address) => Some(bind::bind_tcp(address).await?),
        None => None,
    };
    let mut own: Vec<SocketAddr> = bound.iter().filter_map(|bound| bound.socket.local_addr()).collect();
    let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());
    own.extend(admin_address);
    let dialer = &gate.durable().dialer;
    dialer.own_listeners(own);
    if bound.iter().any(|bound| bound.mode == Mode::Transparent) {
        dialer.remember();
    }
    let addresses = bound.iter().filter_map(|bound| Some((bound.socket.local_addr()?, bound.mode.clone()))).collect();
    let listening = bound.iter().map(|bound| (bind::announced(bound), bound.mode.clone())).collect();
    let sockets = bound.iter().filter_map(|bound| Some((bind::made(&bound.name.0)?, bound.mode.clone()))).collect();

    let permits = Arc::new(Semaphore::new(connections(gate.limits.connections)));
    let strangers = Arc::new(Semaphore::new(gate.limits.strangers.min(permits.available_permits() / 2).max(1)));
    for bound in bound {
        context.tasks.spawn(listen::accept(bound, context.clone(), permits.clone(), strangers.clone()));
    }
    let ready = Arc::new(AtomicBool::new(true));
    tokio::spawn(sweep(context.clone()));
    tokio::spawn(tell_dropped(context.clone()));
    fetch_scripts(&context);
    tokio::spawn(expiry::watch(context.clone()));
    let reloader = Arc::new(Reloader::new(context.clone(), request, fixed, &report, files, silent));
    if let Some(listener) = admin {
        tokio::spawn(admin::serve(listener, context.clone(), reloader.clone(), ready.clone()));
    }
    let watcher = watch::Watcher::start(reloader.clone());
    tokio::spawn(follow::run(reloader.clone()));
    Ok(Running { context, addresses, listening, sockets, admin: admin_address, ready, reloader, _watcher: watcher })
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

fn fetch_scripts(context: &Arc<Context>) {
    let gate = context.gate();
    tokio::spawn(async move { gate.fetch_scripts().await });
}

/// Says how many lines of the access log were dropped, when it has room again; while it has none, now and then.
async fn tell_dropped(context: Arc<Context>) {
    const QUIET: Duration = Duration::from_millis(500);
    loop {
        tokio::select! {
            () = context.observe.lost() => {}
            () = context.stopping.cancelled() => return,
        }
        for _ in 0..20 {
            let before = context.observe.dropped();
            tokio::time::sleep(QUIET).await;
            if context.observe.dropped() == before {
                break;
            }
        }
        context.observe.tell_dropped();
    }
}

/// Closes connections that nobody used for a while, and gives back what a burst of them took.
async fn sweep(context: Arc<Context>) {
    let mut most = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(10)) => {
                context.gate().sweep();
                context.observe.seldom.settle(false);
            }
            () = context.stopping.cancelled() => return,
        }
        let now = context.tasks.len();
        if is_ebb(most, now) {
            let _ = tokio::task::spawn_blocking(gatepass_malloc_trim::trim).await;
            most = now;
        }
        most = most.max(now);
    }
}

/// Most of the connections that there were are gone. While they come and go, what they free is used again.
fn is_ebb(most: usize, now: usize) -> bool {
    most >= 8 && now <= most / 2
}

impl Running {
    /// Reads the configuration again and swaps it in, or keeps the old one and says why.
    pub async fn reload(&self) {
        self.reloader.reload("SIGHUP").await;
    }

    /// Says that it is not ready and goes on for `limits.drain_delay`; then stops accepting, lets what is in flight end within the grace period, then cuts the rest.
    pub async fn stop(self) -> Drained {
        self.ready.store(false, Ordering::Relaxed);
        let context = &self.context;
        tokio::time::sleep(context.gate().limits.drain_delay).await;
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
        // The admin address answers until here; a process that goes on must not keep it.
        context.cut.cancel();
        context.observe.seldom.settle(true);
        context.observe.tell_dropped();
        Drained { cut: context.observe.counters.cut.load(Ordering::Relaxed) }
    }
}
