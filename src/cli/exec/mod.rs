//! `gatepass exec -- COMMAND`: a proxy on a free port, the command with every variable set for it, and
//! the command's own exit code.

mod files;
mod variables;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::{Common, Error};
use crate::gate::Gate;
use crate::observe::Observe;
use crate::origin::Host;
use crate::serve::{self, Running};
use files::Kit;

#[derive(Args)]
pub struct ExecArgs {
    /// Bearer token for a host, from an environment variable
    #[arg(long, value_name = "HOST=ENVVAR")]
    bearer: Vec<String>,
    /// Client certificate for a host: a PEM file with its key, or CERT,KEY
    #[arg(long, value_name = "HOST=FILE[,KEY]")]
    cert: Vec<String>,
    /// CA bundle for a host
    #[arg(long, value_name = "HOST=FILE")]
    ca: Vec<String>,
    /// Use the gatepass that runs at this address instead of starting one
    #[arg(long, value_name = "ADDRESS")]
    attach: Option<SocketAddr>,
    /// Print the variables instead of running a command; needs --attach
    #[arg(long, value_enum, value_name = "FORM", requires = "attach")]
    print_env: Option<Shell>,
    /// Leave these out: java, node
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    without: Vec<String>,
    /// Log of the proxy, on stderr: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND", required_unless_present = "print_env")]
    command: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Sh,
    Fish,
    Dotenv,
    Docker,
    Github,
}

pub async fn run(common: &Common, args: &ExecArgs) -> Result<ExitCode, Error> {
    let mut request = super::request(common);
    request.listen = Some("127.0.0.1:0".to_owned());
    request.overlay = overlay(args)?;
    if request.env.get("GATEPASS").is_some_and(|value| value == "1") && args.attach.is_none() {
        return Err(
            Error::new("this already runs under `gatepass exec`").help("run the command without it; the proxy is set for it")
        );
    }
    let mut env = request.env.clone();
    let built = super::build(&request).await?;
    proxied(&built.gate, &mut env);
    let pem = built.gate.authority.certificate_pem().to_owned();
    let (running, address) = match args.attach {
        Some(address) => (None, address),
        None => {
            start_logging(&args.log)?;
            let running = serve::start(built, request, Observe::default()).await?;
            let address = running.addresses[0].0;
            (Some(running), address)
        }
    };
    let kit = Kit::write(&pem, &env, args.print_env.is_some())?;
    let variables = variables::table(address, &kit, &env, &args.without);
    if let Some(shell) = args.print_env {
        print!("{}", print(shell, &variables));
        return Ok(ExitCode::SUCCESS);
    }
    let code = command(args, &variables, running.as_ref()).await;
    if let Some(running) = running {
        // The command is gone, and with it whoever would wait for an answer.
        running.context.cut.cancel();
        running.stop().await;
    }
    code
}

/// Takes hosts that rules name out of the inherited NO_PROXY: they must come here. Says so, since
/// somebody put them there.
fn proxied(gate: &Gate, env: &mut BTreeMap<String, String>) {
    let named = |entry: &str| {
        let bare = entry.trim_start_matches("*.").trim_start_matches('.').trim_matches(['[', ']']);
        Host::parse_written(bare).is_ok_and(|host| gate.names(&host))
    };
    for name in ["no_proxy", "NO_PROXY"] {
        let Some(list) = env.get(name) else { continue };
        let entries: Vec<&str> = list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).collect();
        let (dropped, kept): (Vec<&str>, Vec<&str>) = entries.into_iter().partition(|entry| named(entry));
        if !dropped.is_empty() && name == "no_proxy" || !dropped.is_empty() && !env.contains_key("no_proxy") {
            eprintln!("gatepass: a rule names {}, so the command gets {name} without it", dropped.join(", "));
        }
        let kept = kept.join(",");
        env.insert(name.to_owned(), kept);
    }
    // Loopback is kept from proxies by default, unless a rule asks for it.
    let local = ["localhost", "127.0.0.1", "::1"].into_iter().filter(|host| !named(host));
    let mut list: Vec<String> = env
        .get("no_proxy")
        .or_else(|| env.get("NO_PROXY"))
        .map_or("", String::as_str)
        .split(',')
        .filter(|e| !e.is_empty())
        .map(str::to_owned)
        .collect();
    list.extend(local.filter(|host| !list.iter().any(|entry| entry == host)).map(str::to_owned).collect::<Vec<_>>());
    env.insert("no_proxy".to_owned(), list.join(","));
}

/// Quick rules, as a document laid over the configuration.
fn overlay(args: &ExecArgs) -> Result<Option<String>, Error> {
    let mut rules = Vec::new();
    let pair = |flag: &str, text: &str| {
        text.split_once('=')
            .map(|(host, value)| (host.to_owned(), value.to_owned()))
            .ok_or_else(|| Error::new(format!("--{flag} {text}: write it as HOST=…")))
    };
    for text in &args.bearer {
        let (host, variable) = pair("bearer", text)?;
        rules.push(serde_json::json!({ "host": host, "auth": { "bearer": { "token": { "env": variable } } } }));
    }
    for text in &args.cert {
        let (host, file) = pair("cert", text)?;
        let certificate = match file.split_once(',') {
            Some((cert, key)) => serde_json::json!({ "cert": cert, "key": key }),
            None => serde_json::json!({ "cert": file }),
        };
        rules.push(serde_json::json!({ "host": host, "client_certificate": certificate }));
    }
    for text in &args.ca {
        let (host, file) = pair("ca", text)?;
        rules.push(serde_json::json!({ "host": host, "ca_bundle": { "files": [file] } }));
    }
    Ok((!rules.is_empty()).then(|| serde_json::json!({ "rules": rules }).to_string()))
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
        .with_ansi(super::colored())
        .init();
    Ok(())
}

/// Runs the command in the foreground; signals meant for it go to it.
async fn command(args: &ExecArgs, variables: &[(String, String)], running: Option<&Running>) -> Result<ExitCode, Error> {
    let (program, rest) = args.command.split_first().ok_or_else(|| Error::new("no command is given"))?;
    let mut child =
        Command::new(program).args(rest).envs(variables.iter().map(|(name, value)| (name, value))).spawn().map_err(|cause| {
            match cause.kind() {
                std::io::ErrorKind::NotFound => Error::new(format!("cannot run `{program}`: there is no such program")),
                _ => Error::new(format!("cannot run `{program}`: {cause}")),
            }
        })?;
    let status = wait(&mut child).await.map_err(|cause| Error::new(format!("cannot wait for `{program}`: {cause}")))?;
    let failures =
        running.map_or(0, |running| running.context.observe.counters.failures.load(std::sync::atomic::Ordering::Relaxed));
    if failures > 0 && !status.success() {
        eprintln!(
            "gatepass: {failures} request{} answered by gatepass itself; `--log debug` shows why",
            if failures == 1 { " was" } else { "s were" }
        );
    }
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        (None, Some(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
        (None, None) => ExitCode::FAILURE,
    })
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

fn print(shell: Shell, variables: &[(String, String)]) -> String {
    let quoted = |value: &str| format!("'{}'", value.replace('\'', "'\\''"));
    let line = |(name, value): &(String, String)| match shell {
        Shell::Sh => format!("export {name}={}\n", quoted(value)),
        Shell::Fish => format!("set -gx {name} '{}'\n", value.replace('\\', "\\\\").replace('\'', "\\'")),
        Shell::Dotenv => format!("{name}=\"{}\"\n", value.replace('\\', "\\\\").replace('"', "\\\"")),
        Shell::Docker => format!("--env {} ", quoted(&format!("{name}={value}"))),
        Shell::Github => format!("{name}={value}\n"),
    };
    let mut text: String = variables.iter().map(line).collect();
    if matches!(shell, Shell::Docker) {
        text.push('\n');
    }
    text
}
