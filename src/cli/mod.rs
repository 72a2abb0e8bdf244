//! Commands; the only place that prints. Data goes to stdout, everything else to stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// The standard macros of these names panic when nobody reads; in here these stand in their place.
macro_rules! println {
    ($($text:tt)*) => { $crate::cli::output::write(format_args!($($text)*), "\n") };
}
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::output::write(format_args!($($text)*), "") };
}
macro_rules! eprintln {
    () => { $crate::cli::output::tell(format_args!(""), "\n") };
    ($($text:tt)*) => { $crate::cli::output::tell(format_args!($($text)*), "\n") };
}
macro_rules! eprint {
    ($($text:tt)*) => { $crate::cli::output::tell(format_args!($($text)*), "") };
}

mod browser;
mod ca;
mod certs;
mod check;
mod demo;
mod examples;
mod exec;
mod explain;
mod generate;
mod health;
mod import;
mod output;
mod run;
mod sign;
mod sign_in;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::auth;
use crate::config::Request;
use crate::serve::{self, StartError};
use crate::settings::Report;

/// A local forward proxy that adds client certificates and credentials by host.
///
/// Point any client at it, and it reaches each host with the right client certificate, CA and credentials. Without a command it runs the proxy.
#[derive(Parser)]
#[command(
    name = "gatepass",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 good, 1 error, 2 wrong usage, 3 warnings with --strict; exec: the code of the command (128 + signal)."
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args, Clone, Default)]
struct Common {
    /// Configuration file; may be given several times, the later one wins
    #[arg(short, long = "config", value_name = "FILE", global = true)]
    config: Vec<PathBuf>,
    /// Lay this profile of the configuration over the rest
    #[arg(long, value_name = "NAME", global = true)]
    profile: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy until told to stop
    Run(run::RunArgs),
    /// Run a command with everything set so that it goes through a proxy of its own
    Exec(exec::ExecArgs),
    /// Open a browser on a throw-away profile that goes through a proxy of its own and trusts it
    Browser(browser::BrowserArgs),
    /// Check the configuration, and everything it names, without serving
    Check(check::CheckArgs),
    /// Say what would be done with a request, without sending it
    Explain(explain::ExplainArgs),
    /// Print a request's head as it would leave, credentials included
    Sign(sign::SignArgs),
    /// The CA that clients must trust
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// The certificates of the configuration
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Sign in for an OAuth 2 credential, in the browser or by a code
    Login(sign_in::LoginArgs),
    /// Revoke and delete the tokens of a sign-in
    Logout(sign_in::LogoutArgs),
    /// Say which OAuth 2 credentials are signed in, and until when
    Status(sign_in::StatusArgs),
    /// Show what gatepass does, with servers of its own, no network and no files
    Demo,
    /// Make a configuration from what another tool exports
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Write a starter configuration
    Init(generate::InitArgs),
    /// Print the JSON Schema of the configuration
    Schema(generate::SchemaArgs),
    /// Ask a running gatepass whether it is ready (for containers)
    Health(health::HealthArgs),
    /// Print shell completions
    Completions { shell: clap_complete::Shell },
    /// Print the manual page of a command, or write all of them into a folder
    Man(generate::ManArgs),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
enum Format {
    #[default]
    Text,
    Json,
}

/// What went wrong in a command, for the terminal.
enum Error {
    /// A configuration with mistakes.
    Report(Box<Report>),
    Message {
        message: String,
        help: Option<String>,
    },
}

impl Error {
    fn new(message: impl Into<String>) -> Self {
        Self::Message { message: message.into(), help: None }
    }

    fn help(self, text: impl Into<String>) -> Self {
        match self {
            Self::Message { message, .. } => Self::Message { message, help: Some(text.into()) },
            report => report,
        }
    }
}

impl From<Box<Report>> for Error {
    fn from(report: Box<Report>) -> Self {
        Self::Report(report)
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Report(report) => Self::Report(report),
            StartError::Other { message, help } => Self::Message { message, help },
        }
    }
}

impl From<crate::files::FileError> for Error {
    fn from(error: crate::files::FileError) -> Self {
        Self::new(error.to_string())
    }
}

/// Reads the arguments, does what they say, and tells what went wrong.
pub fn main() -> ExitCode {
    let cli = match command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(asked) => return usage(&asked),
    };
    keep_memory_private(&cli.command);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("error: cannot start the runtime: {cause}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(dispatch(cli));
    // A blocking task (a read of stdin, a name lookup) must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    let code = done.unwrap_or_else(|error| {
        show(&error);
        ExitCode::FAILURE
    });
    match output::failure() {
        None => code,
        Some(cause) => {
            eprintln!("error: cannot write to standard output: {cause}");
            ExitCode::FAILURE
        }
    }
}

/// What there is to type, with an example for each.
fn command() -> clap::Command {
    examples::with(Cli::command())
}

/// `--help` and `--version` are output like any other; what was typed wrong goes to stderr.
fn usage(asked: &clap::Error) -> ExitCode {
    if asked.use_stderr() {
        let _ = asked.print();
        return ExitCode::from(2);
    }
    let text = asked.render();
    if std::io::stdout().is_terminal() {
        print!("{}", text.ansi())
    } else {
        print!("{text}")
    }
    match output::failure() {
        None => ExitCode::SUCCESS,
        Some(cause) => {
            eprintln!("error: cannot write to standard output: {cause}");
            ExitCode::FAILURE
        }
    }
}

/// Secrets are in memory: nobody else's debugger reads it (nor `/proc/PID/environ`), and no core file holds it.
fn keep_memory_private(command: &Option<Command>) {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // The command of `exec`, which inherits this limit, may want its core files.
    if !matches!(command, Some(Command::Exec(_) | Command::Browser(_))) {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Core).maximum;
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    }
}

async fn dispatch(cli: Cli) -> Result<ExitCode, Error> {
    let common = cli.common;
    match cli.command.unwrap_or(Command::Run(run::RunArgs::default())) {
        Command::Run(args) => run::run(&common, &args).await,
        Command::Exec(args) => exec::run(&common, &args).await,
        Command::Browser(args) => browser::run(&common, &args).await,
        Command::Check(args) => check::run(&common, &args).await,
        Command::Explain(args) => explain::run(&common, &args).await,
        Command::Sign(args) => sign::run(&common, &args).await,
        Command::Ca(command) => ca::run(&common, &command).await,
        Command::Certs(command) => certs::run(&common, &command).await,
        Command::Login(args) => sign_in::login(&common, &args).await,
        Command::Logout(args) => sign_in::logout(&common, &args).await,
        Command::Status(args) => sign_in::status(&common, &args).await,
        Command::Demo => demo::run().await,
        Command::Import(command) => import::run(&command).await,
        Command::Init(args) => generate::init(&args),
        Command::Schema(args) => generate::schema(&args),
        Command::Health(args) => health::run(&common, &args).await,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command(), "gatepass", &mut text);
            output::bytes(&text);
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(args) => generate::man(&args),
    }
}

fn show(error: &Error) {
    match error {
        Error::Report(report) => eprint!("{}", report.render(colored())),
        Error::Message { message, help } => {
            eprintln!("error: {message}");
            if let Some(help) = help {
                eprintln!("  help: {help}");
            }
        }
    }
}

/// Colours on a terminal, unless NO_COLOR says no.
fn colored() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The environment, read here and nowhere else; entries that are not text are left out.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

fn request(common: &Common) -> Request {
    Request {
        files: common.config.clone(),
        profile: common.profile.clone(),
        env: environment(),
        auth_types: auth::types(),
        ..Request::default()
    }
}

/// Builds the configuration; warnings go to stderr.
async fn build(request: &Request) -> Result<serve::Built, Error> {
    let built = serve::build(request).await?;
    if built.report.has_warnings() {
        eprint!("{}", built.report.render(colored()));
    }
    Ok(built)
}
