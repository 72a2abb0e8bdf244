//! `gatepass browser URL`: an installed browser on a throw-away profile that goes through gatepass and
//! trusts it. No store of the system or the user is touched.

mod chromium;
mod firefox;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use clap::Args;
use tokio::process::Command;

use super::{Common, Error, exec, explain};
use crate::files;
use crate::moment::random_hex;
use crate::observe::Observe;
use crate::serve;

#[derive(Args)]
pub struct BrowserArgs {
    /// What to open
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// Which browser: chromium, chrome, edge, firefox, or a program; the first that is installed when left out
    #[arg(long, value_name = "NAME")]
    browser: Option<String>,
    /// Use the gatepass that runs at this address, with the same configuration, instead of starting one
    #[arg(long, value_name = "ADDRESS")]
    attach: Option<SocketAddr>,
    /// Keep the profile in this folder; without it, it is thrown away at the end
    #[arg(long, value_name = "DIR")]
    profile_dir: Option<PathBuf>,
    #[command(flatten)]
    withholding: exec::withheld::Withholding,
    /// Open no window
    #[arg(long)]
    headless: bool,
    /// Log of the proxy, on stderr: error, warn, info, debug (then with what the browser says)
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log: String,
    /// Further arguments for the browser
    #[arg(last = true, value_name = "ARGUMENT")]
    rest: Vec<String>,
}

/// What a browser is told.
struct Wish<'a> {
    proxy: SocketAddr,
    ca_pem: &'a str,
    /// SHA-256 of the CA's public key.
    ca_key: [u8; 32],
    profile: &'a Path,
    headless: bool,
    /// Chromium's sandbox cannot be had as root.
    root: bool,
}

/// The two families; a family's browsers take the same arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Chromium,
    Firefox,
}

/// Programs by the name they are asked for, in the order in which they are looked for.
const PROGRAMS: [(&str, Family, &[&str]); 5] = [
    ("chromium", Family::Chromium, &["chromium", "chromium-browser", "/Applications/Chromium.app/Contents/MacOS/Chromium"]),
    (
        "chrome",
        Family::Chromium,
        &["google-chrome", "google-chrome-stable", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"],
    ),
    (
        "edge",
        Family::Chromium,
        &["microsoft-edge", "microsoft-edge-stable", "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge"],
    ),
    ("brave", Family::Chromium, &["brave-browser", "brave"]),
    ("firefox", Family::Firefox, &["firefox", "firefox-esr", "/Applications/Firefox.app/Contents/MacOS/firefox"]),
];

pub async fn run(common: &Common, args: &BrowserArgs) -> Result<ExitCode, Error> {
    let mut request = super::request(common);
    request.listen = Some("127.0.0.1:0".to_owned());
    request.for_command = true;
    let path = request.env.get("PATH").cloned().unwrap_or_default();
    let (program, family) = find(args.browser.as_deref(), &path)?;
    let home = request.env.get("HOME").map(PathBuf::from);
    let built = super::build(&request).await?;
    if let Some(url) = &args.url {
        let (_, origin, _) = explain::target(std::slice::from_ref(url))?;
        if !built.gate.names(&origin.host) {
            eprintln!("gatepass: no rule names {}: it is passed through unopened, and nothing of it is captured", origin.host);
        }
    }
    let authority = built.gate.authority.clone();
    let changes = args.withholding.changes(&built.withheld, &request.env)?;
    let (running, proxy) = match args.attach {
        Some(address) => {
            exec::attached(address, false).await?;
            (None, address)
        }
        None => {
            exec::start_logging(&args.log)?;
            let running = serve::start(built, request, Observe::default()).await?;
            let address = running.addresses[0].0;
            (Some(running), address)
        }
    };
    let profile = Profile::open(args.profile_dir.as_deref(), family, home.as_deref())?;
    let wish = Wish {
        proxy,
        ca_pem: authority.certificate_pem(),
        ca_key: authority.details().spki_sha256,
        profile: &profile.folder,
        headless: args.headless,
        root: rustix::process::geteuid().is_root(),
    };
    let mut arguments = match family {
        Family::Chromium => chromium::arguments(&wish),
        Family::Firefox => firefox::arguments(&wish, &path).await?,
    };
    arguments.extend(args.rest.iter().cloned());
    arguments.extend(args.url.clone());
    let code = open(&program, &arguments, &changes, args.log == "debug").await;
    if let Some(running) = running {
        running.context.cut.cancel();
        running.stop().await;
    }
    code
}

async fn open(program: &Path, arguments: &[String], changes: &exec::withheld::Changes, loud: bool) -> Result<ExitCode, Error> {
    let name = program.display();
    let errors = if loud { Stdio::inherit() } else { Stdio::null() };
    let mut command = Command::new(program);
    command.args(arguments).stderr(errors);
    changes.apply(&mut command);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(cause) => return Ok(exec::not_run(&name.to_string(), &cause)),
    };
    let status = exec::wait(&mut child).await.map_err(|cause| Error::new(format!("cannot wait for {name}: {cause}")))?;
    if !status.success() {
        return Err(Error::new(format!("{name} ended with {status}")).help("`--log debug` shows what it says"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The browser that was asked for, or the first that is installed.
fn find(wanted: Option<&str>, path: &str) -> Result<(PathBuf, Family), Error> {
    if let Some(file) = wanted.filter(|wanted| wanted.contains('/')) {
        let family = if file.to_ascii_lowercase().contains("firefox") { Family::Firefox } else { Family::Chromium };
        return Ok((PathBuf::from(file), family));
    }
    let rows = || PROGRAMS.iter().filter(|(name, ..)| wanted.is_none_or(|wanted| wanted == *name));
    if rows().next().is_none() {
        let names: Vec<&str> = PROGRAMS.iter().map(|(name, ..)| *name).collect();
        let help = format!("one of {}, or the path of a program", names.join(", "));
        return Err(Error::new(format!("--browser {}: no such browser is known", wanted.unwrap_or_default())).help(help));
    }
    for (_, family, programs) in rows() {
        if let Some(found) = programs.iter().find_map(|program| installed(program, path)) {
            return Ok((found, *family));
        }
    }
    let looked: Vec<&str> = rows().flat_map(|(_, _, programs)| *programs).filter(|p| !p.starts_with('/')).copied().collect();
    Err(Error::new(format!("no browser is installed; looked for {}", looked.join(", ")))
        .help("install Chromium or Firefox, or name a program with `--browser /PATH`"))
}

/// Where a program lies.
fn installed(program: &str, path: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|file| files::exists(file));
    }
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| files::exists(file) && !files::is_dir(file))
}

/// The folder of the browser's profile.
struct Profile {
    folder: PathBuf,
    keep: bool,
}

impl Profile {
    fn open(kept: Option<&Path>, family: Family, home: Option<&Path>) -> Result<Self, Error> {
        let folder = match kept {
            Some(folder) => std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
            None => {
                // A browser from a snap sees neither the temporary folder nor hidden ones.
                let name = if family == Family::Firefox { "firefox" } else { "chromium" };
                let snap = home.map(|home| home.join("snap").join(name).join("common")).filter(|folder| files::is_dir(folder));
                snap.unwrap_or_else(std::env::temp_dir).join(format!("gatepass-browser-{}", random_hex::<8>()))
            }
        };
        files::create_private_dir(&folder)?;
        Ok(Self { folder, keep: kept.is_some() })
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Helper processes of the browser may outlive it by a moment, and write.
        for _ in 0..20 {
            if files::remove_tree(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        eprintln!("gatepass: the profile {} could not be removed", self.folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_found_by_name_by_path_and_by_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let found = |wanted: Option<&str>| find(wanted, path).map(|(program, family)| (program, family == Family::Firefox));
        let message = |wanted: Option<&str>| match found(wanted) {
            Err(Error::Message { message, help }) => format!("{message} / {}", help.unwrap_or_default()),
            _ => String::new(),
        };
        assert!(message(Some("firefox")).contains("looked for firefox, firefox-esr"), "{}", message(Some("firefox")));
        assert!(message(Some("lynx")).contains("one of chromium"), "{}", message(Some("lynx")));
        std::fs::write(folder.path().join("firefox-esr"), "").unwrap();
        assert!(matches!(found(None), Ok((program, true)) if program.ends_with("firefox-esr")));
        std::fs::write(folder.path().join("google-chrome"), "").unwrap();
        assert!(matches!(found(None), Ok((program, false)) if program.ends_with("google-chrome")));
        assert!(matches!(found(Some("firefox")), Ok((_, true))));
        assert!(matches!(found(Some("/opt/mine")), Ok((_, false))));
        assert!(matches!(found(Some("/opt/firefox/firefox")), Ok((_, true))));
    }
}
