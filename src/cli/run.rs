//! `gatepass run`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

use super::{Common, Error};
use crate::config::Mode;
use crate::observe::LogFormat;
use crate::observe::{AccessLog, Events, Observe};
use crate::serve::{self, Running};

#[derive(Args, Default)]
pub struct RunArgs {
    /// Address of the (first) forward listener, instead of the configured one; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

pub async fn run(common: &Common, args: &RunArgs) -> Result<ExitCode, Error> {
    let mut request = super::request(common);
    request.listen.clone_from(&args.listen);
    let built = serve::build(&request).await?;
    let limits = built.gate.limits.clone();
    let (set_log, _log_guard) = start_logging(&built.log)?;
    tell_warnings(&built);
    let (access, _access_guard) = access_log(&built.log, limits.log_queue);
    let (files, rules, log) = (built.files.clone(), built.gate.rules().len(), built.log.clone());
    let ca = built.gate.authority.path().map(std::path::Path::to_owned);
    let env = request.env.clone();
    let running = serve::start(built, request, Observe::new(Some(access)).with_diagnostics(set_log)).await?;
    let _control = match serve::control::open(&running, &env, &files).await {
        Ok(control) => Some(control),
        Err(why) => {
            tracing::warn!("`gatepass health` cannot find this process: {why}");
            None
        }
    };
    announce(&running, &files, rules, ca.as_deref(), &log);
    wait(&running).await?;
    stop(running).await
}

/// As lines of the log where those are for machines.
fn tell_warnings(built: &serve::Built) {
    if built.log.format == LogFormat::Text {
        eprint!("{}", built.report.render(super::colored()));
        return;
    }
    for warning in built.report.json().as_array().into_iter().flatten() {
        let text = |key: &str| warning[key].as_str();
        let number = |key: &str| warning[key].as_u64();
        let (line, column, help) = (number("line"), number("column"), text("help"));
        tracing::warn!(code = text("code"), file = text("file"), line, column, help, "{}", text("message").unwrap_or_default());
    }
}

/// The first lines: where it listens, what it read, what clients must trust.
fn announce(
    running: &Running,
    files: &[std::path::PathBuf],
    rules: usize,
    ca: Option<&std::path::Path>,
    log: &crate::observe::Log,
) {
    if log.format == LogFormat::Json {
        for (address, mode) in &running.listening {
            let (mode, upstream) = match mode {
                Mode::Forward => ("forward", None),
                Mode::Transparent => ("transparent", None),
                Mode::Reverse(origin) => ("reverse", Some(origin.to_string())),
            };
            tracing::info!(%address, mode, upstream, rules, "listening");
        }
        if let Some(address) = running.admin {
            tracing::info!(%address, mode = "admin", "listening");
        }
        return;
    }
    for (address, mode) in &running.listening {
        match mode {
            Mode::Reverse(origin) => eprintln!("gatepass listens on {address}, for {origin}"),
            Mode::Transparent => eprintln!("gatepass listens on {address}, for connections redirected to it"),
            Mode::Forward => eprintln!("gatepass listens on {address}"),
        }
    }
    if let Some(address) = running.admin {
        eprintln!("/live, /ready and /metrics are on http://{address}");
    }
    let read: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    match &read[..] {
        [] => eprintln!("no configuration found: every host is passed through (`gatepass init` writes a starter)"),
        read => eprintln!("{rules} rule{} from {}", if rules == 1 { "" } else { "s" }, read.join(", ")),
    }
    if let (Some(ca), true) = (ca, rules > 0) {
        eprintln!("clients must trust {}", ca.display());
    }
}

/// Until SIGTERM or SIGINT; SIGHUP reloads.
async fn wait(running: &Running) -> Result<(), Error> {
    let listen = |kind: SignalKind| signal(kind).map_err(|cause| Error::new(format!("cannot listen for signals: {cause}")));
    let (mut terminate, mut interrupt, mut hangup) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => running.reload().await,
        }
    }
}

/// Drains; a second signal ends at once.
async fn stop(running: Running) -> Result<ExitCode, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|cause| Error::new(cause.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|cause| Error::new(cause.to_string()))?;
    tokio::select! {
        drained = running.stop() => {
            if drained.cut > 0 {
                tracing::warn!(cut = drained.cut, "the grace period ended before everything was finished");
            }
            Ok(ExitCode::SUCCESS)
        }
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

/// It tells of every mechanism of a token that it does not know, as an error.
/// And what watches files must not write a line about each line that is written beside them.
pub(super) const QUIET: &str = "cryptoki=off,notify=off,mio=off";

/// Diagnostics go to stderr, by way of a thread of their own. With it: how they are set anew.
fn start_logging(
    log: &crate::observe::Log,
) -> Result<(impl Fn(&crate::observe::Log) + Send + Sync + 'static, WorkerGuard), Error> {
    let (level, handle) = reload::Layer::new(filter(log)?);
    let (writer, guard) = NonBlockingBuilder::default().finish(std::io::stderr());
    let json = Arc::new(AtomicBool::new(log.format == LogFormat::Json));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Events::new(json.clone(), super::colored()))
        .with_writer(writer)
        .log_internal_errors(false);
    tracing_subscriber::registry().with(level).with(lines).init();
    let set = move |log: &crate::observe::Log| {
        json.store(log.format == LogFormat::Json, Ordering::Relaxed);
        match filter(log) {
            Ok(filter) => drop(handle.reload(filter)),
            Err(_) => tracing::error!("`log.level: {}` is no level; it stays as it was", log.level),
        }
    };
    Ok((set, guard))
}

fn filter(log: &crate::observe::Log) -> Result<EnvFilter, Error> {
    EnvFilter::builder()
        .parse(format!("{QUIET},{}", log.level))
        .map_err(|_| Error::new(format!("`log.level: {}` is no level", log.level)).help("one of error, warn, info, debug, trace"))
}

/// The access log goes to stdout.
fn access_log(log: &crate::observe::Log, queue: usize) -> (AccessLog, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(queue).lossy(true).finish(std::io::stdout());
    let access = AccessLog::new(writer, log.format);
    access.set(log);
    (access, guard)
}
