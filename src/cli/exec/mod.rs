//! `gatepass exec -- COMMAND`: a proxy on a free port, the command with every variable set for it, and
//! the command's own exit code.

mod files;
mod no_proxy;
mod print;
mod proxy;
mod quick;
mod variables;
pub mod withheld;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use clap::Args;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::{Common, Error};
use crate::config::{Access, ListenAddress, Listener};
use crate::moment::random_hex;
use crate::observe::{Counters, Observe};
use crate::secret::Secret;
use crate::serve::{self, Running};
use crate::settings::{Place, Text};
use files::Kit;
use withheld::{Changes, Withholding};

#[derive(Args)]
pub struct ExecArgs {
    #[command(flatten)]
    quick: quick::QuickRules,
    /// Use the gatepass that runs at this address instead of starting one
    #[arg(long, value_name = "ADDRESS")]
    attach: Option<SocketAddr>,
    /// Print the variables instead of running a command; needs --attach
    #[arg(long, value_enum, value_name = "FORM", requires = "attach")]
    print_env: Option<print::Form>,
    #[command(flatten)]
    withholding: Withholding,
    /// Leave these clients' own settings out
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    without: Vec<variables::Family>,
    /// Put no password into the proxy's URL, for clients that cannot send one. On Linux the command's own user is still
    /// told from others; elsewhere every user of this machine may then use the proxy while the command runs
    #[arg(long)]
    no_token: bool,
    /// Log of the proxy, on stderr: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND", required_unless_present = "print_env")]
    command: Vec<String>,
}

pub async fn run(common: &Common, args: &ExecArgs) -> Result<ExitCode, Error> {
    let mut request = super::request(common);
    let token = (!args.no_token && args.attach.is_none()).then(|| Secret::new(random_hex::<16>()));
    request.instead = Some(listener(token.clone()));
    request.for_command = true;
    request.overlay = args.quick.overlay()?;
    if request.env.get("GATEPASS").is_some_and(|value| value == "1") && args.attach.is_none() {
        return Err(
            Error::new("this already runs under `gatepass exec`").help("run the command without it; the proxy is set for it")
        );
    }
    let mut env = request.env.clone();
    let mut built = super::build(&request).await?;
    // That of a gatepass that runs beside us, with the same configuration.
    built.admin = None;
    let changes = args.withholding.changes(&built.withheld, &request.env)?;
    no_proxy::keep_ruled_hosts(&built.gate, &mut env);
    let pem = built.gate.authority.certificate_pem().to_owned();
    let keep = args.print_env.is_some().then(|| built.state.join("clients"));
    let (running, address) = match args.attach {
        Some(address) => {
            attached(address, args.print_env.is_some()).await?;
            (None, address)
        }
        None => {
            start_logging(&args.log)?;
            let running = serve::start(built, request, Observe::noticing()).await?;
            let address = running.addresses[0].0;
            (Some(running), address)
        }
    };
    let proxy = proxy::Proxy { address, token };
    let kit = Kit::write(&pem, &proxy, &env, keep)?;
    let variables = variables::table(&proxy, &kit, &env, &args.without);
    if let Some(form) = args.print_env {
        print!("{}", form.print(&variables, &changes));
        return Ok(ExitCode::SUCCESS);
    }
    let code = command(args, &variables, &changes, running.as_ref()).await;
    if let Some(running) = running {
        // The command is gone, and with it whoever would wait for an answer.
        running.context.cut.cancel();
        running.stop().await;
    }
    code
}

/// On a free port of this machine, for whoever has this run's password; and for processes of the same user, some of
/// which cannot send one (Java). Other users of the machine are to borrow nothing.
fn listener(token: Option<Secret>) -> Listener {
    let users = token.into_iter().map(|token| (proxy::USER.to_owned(), Text::Known(token))).collect::<BTreeMap<_, _>>();
    let told_apart = !users.is_empty() || cfg!(target_os = "linux");
    let access = told_apart.then(|| Access { users, same_user: true, ..Access::default() });
    let address = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    Listener { access, ..Listener::forward(Place::default(), address) }
}

/// Does anything listen there? Variables may be printed beforehand; a command would fail with words of its own.
pub async fn attached(address: SocketAddr, beforehand: bool) -> Result<(), Error> {
    let reached = tokio::time::timeout(std::time::Duration::from_secs(3), tokio::net::TcpStream::connect(address)).await;
    let why = match reached {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(cause)) => cause.to_string(),
        Err(_) => "no answer within 3 seconds".to_owned(),
    };
    let message = format!("--attach {address}: no gatepass listens there: {why}");
    if beforehand {
        eprintln!("warning: {message}");
        return Ok(());
    }
    Err(Error::new(message).help("start one with `gatepass run`, which says where it listens; or leave `--attach` out"))
}

pub fn start_logging(level: &str) -> Result<(), Error> {
    let filter = tracing_subscriber::EnvFilter::builder()
        .parse(format!("{},{level}", super::run::QUIET))
        .map_err(|_| Error::new(format!("--log {level}: not a level")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .log_internal_errors(false)
        .with_ansi(super::colored())
        .init();
    Ok(())
}

/// Runs the command in the foreground; signals meant for it go to it.
async fn command(
    args: &ExecArgs,
    variables: &[(String, String)],
    changes: &Changes,
    running: Option<&Running>,
) -> Result<ExitCode, Error> {
    let (program, rest) = args.command.split_first().ok_or_else(|| Error::new("no command is given"))?;
    let mut command = Command::new(program);
    command.args(rest);
    changes.apply(&mut command);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(cause) => return Ok(not_run(program, &cause)),
    };
    let status = wait(&mut child).await.map_err(|cause| Error::new(format!("cannot wait for `{program}`: {cause}")))?;
    if !status.success() {
        if let Some(running) = running {
            tell(&running.context.observe.counters);
        }
        changes.tell();
    }
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        (None, Some(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
        (None, None) => ExitCode::FAILURE,
    })
}

/// The codes that shells use: 127 where there is no such program, 126 where it cannot be run (POSIX, "Exit Status for
/// Commands").
pub fn not_run(program: &str, cause: &std::io::Error) -> ExitCode {
    if cause.kind() == std::io::ErrorKind::NotFound {
        eprintln!("error: cannot run `{program}`: there is no such program");
        return ExitCode::from(127);
    }
    eprintln!("error: cannot run `{program}`: {cause}");
    ExitCode::from(126)
}

/// A command that failed may have met what its clients do not show.
fn tell(counters: &Counters) {
    let [failures, refused] =
        [&counters.failures, &counters.refused].map(|counter| counter.load(std::sync::atomic::Ordering::Relaxed));
    let were = |n| if n == 1 { " was" } else { "s were" };
    if failures > 0 {
        eprintln!("gatepass: {failures} request{} answered by gatepass itself; `--log debug` shows each", were(failures));
    }
    if refused > 0 {
        eprintln!(
            "gatepass: {refused} request{} refused for want of this run's password; `--no-token` is for clients that cannot send one",
            were(refused)
        );
    }
}

pub async fn wait(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    // The terminal sends these to the whole group, the command included: we only must not die of them.
    let (mut interrupt, mut quit) = (signal(SignalKind::interrupt())?, signal(SignalKind::quit())?);
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    loop {
        tokio::select! {
            status = child.wait() => return status,
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
            _ = terminate.recv() => forward(child, rustix::process::Signal::TERM),
            _ = hangup.recv() => forward(child, rustix::process::Signal::HUP),
        }
    }
}

fn forward(child: &Child, signal: rustix::process::Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
