//! Firefox: settings and the CA lie in the profile. Only NSS's own tool can put a CA there.

use std::process::Stdio;

use tokio::process::Command;

use super::{Error, Wish, installed};
use crate::files;

pub async fn arguments(wish: &Wish<'_>, path: &str) -> Result<Vec<String>, Error> {
    files::write_private(&wish.profile.join("user.js"), settings(wish).as_bytes())?;
    trust(wish, path).await?;
    let mut arguments = vec!["--new-instance".to_owned(), "--no-remote".to_owned()];
    arguments.extend(["--profile".to_owned(), wish.profile.display().to_string()]);
    if wish.headless {
        arguments.push("--headless".to_owned());
    }
    Ok(arguments)
}

fn settings(wish: &Wish<'_>) -> String {
    let (host, port) = (wish.proxy.ip(), wish.proxy.port());
    let settings = [
        ("network.proxy.type", "1".to_owned()),
        ("network.proxy.http", format!("\"{host}\"")),
        ("network.proxy.http_port", port.to_string()),
        ("network.proxy.ssl", format!("\"{host}\"")),
        ("network.proxy.ssl_port", port.to_string()),
        ("network.proxy.no_proxies_on", "\"\"".to_owned()),
        // Loopback hosts, and HTTP/3, would pass it by.
        ("network.proxy.allow_hijacking_localhost", "true".to_owned()),
        ("network.http.http3.enable", "false".to_owned()),
        // Nothing that a throw-away profile needs: welcome pages, reports, updates.
        ("browser.aboutwelcome.enabled", "false".to_owned()),
        ("browser.shell.checkDefaultBrowser", "false".to_owned()),
        ("browser.startup.homepage_override.mstone", "\"ignore\"".to_owned()),
        ("datareporting.policy.dataSubmissionEnabled", "false".to_owned()),
        ("app.update.auto", "false".to_owned()),
        ("app.normandy.enabled", "false".to_owned()),
        ("network.captive-portal-service.enabled", "false".to_owned()),
        ("network.connectivity-service.enabled", "false".to_owned()),
    ];
    settings.iter().map(|(name, value)| format!("user_pref(\"{name}\", {value});\n")).collect()
}

async fn trust(wish: &Wish<'_>, path: &str) -> Result<(), Error> {
    let Some(certutil) = installed("certutil", path) else {
        return Err(Error::new("`certutil` is not installed, and only it can make a Firefox profile trust gatepass").help(
            "install it (Debian: libnss3-tools; Fedora: nss-tools; macOS: brew install nss), or use `--browser chromium`",
        ));
    };
    let database = format!("sql:{}", wish.profile.display());
    let ca = wish.profile.join("gatepass-ca.pem");
    files::write_public(&ca, wish.ca_pem.as_bytes())?;
    let ca = ca.display().to_string();
    if !files::exists(&wish.profile.join("cert9.db")) {
        run(&certutil, &["-N", "-d", &database, "--empty-password"]).await?;
    }
    // In a kept profile there may be one of an earlier CA.
    let _ = run(&certutil, &["-D", "-d", &database, "-n", "gatepass"]).await;
    run(&certutil, &["-A", "-d", &database, "-n", "gatepass", "-t", "C,,", "-i", &ca]).await
}

async fn run(certutil: &std::path::Path, arguments: &[&str]) -> Result<(), Error> {
    let done = Command::new(certutil).args(arguments).stdin(Stdio::null()).output().await;
    let failed = |why: String| Error::new(format!("certutil cannot put gatepass's CA into the profile: {why}"));
    let done = done.map_err(|cause| failed(cause.to_string()))?;
    if done.status.success() { Ok(()) } else { Err(failed(String::from_utf8_lossy(&done.stderr).trim().to_owned())) }
}
