//! `gatepass login`, `logout`, `status`: sign-ins of OAuth 2 credentials. A gatepass that runs takes up what they change.

mod browser;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;

use super::{Common, Error, Format};
use crate::auth::oauth2::device::Device;
use crate::auth::oauth2::store::Kept;
use crate::auth::oauth2::{Grant, Session};
use crate::failure::Failure;
use crate::serve::Built;
use crate::settings::parse_duration;

#[derive(Args)]
pub struct LoginArgs {
    /// The credential, as the configuration calls it
    name: String,
    /// Only print the URL; what the browser is sent back to may also be pasted here
    #[arg(long)]
    no_browser: bool,
    /// How long to wait for the person
    #[arg(long, value_name = "TIME", default_value = "5m")]
    timeout: String,
}

#[derive(Args)]
pub struct LogoutArgs {
    /// The credential, as the configuration calls it
    name: String,
}

#[derive(Args)]
pub struct StatusArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub async fn login(common: &Common, args: &LoginArgs) -> Result<ExitCode, Error> {
    let timeout = parse_duration(&args.timeout)
        .ok_or_else(|| Error::new(format!("--timeout {}: not a time", args.timeout)).help("write it as 5m or 90s"))?;
    let built = super::build(&super::request(common)).await?;
    let session = session(&built, &args.name)?;
    let signed_in = match session.settings.grant {
        Grant::AuthorizationCode => browser::sign_in(&session, !args.no_browser, timeout).await?,
        Grant::DeviceCode => by_device(&session, timeout).await?,
        grant => {
            let message =
                format!("credential `{}` needs no sign-in: grant {} gets its tokens by itself", args.name, grant.word());
            return Err(Error::new(message));
        }
    };
    let refresh = if signed_in.refresh.is_some() { ", renewed by itself" } else { "" };
    let life = signed_in.life.map_or_else(|| "until it is revoked".to_owned(), |life| format!("for {}", about(life)));
    eprintln!("signed in: the token is good {life}{refresh}");
    if signed_in.life.is_some() && signed_in.refresh.is_none() {
        eprintln!("note: the server gave no refresh token; many want a scope such as offline_access for one");
    }
    Ok(ExitCode::SUCCESS)
}

async fn by_device(session: &Session, timeout: Duration) -> Result<crate::auth::oauth2::Token, Error> {
    let device = Device::begin(session).await.map_err(told)?;
    eprintln!("open {} on any device and enter the code {}", device.verification_uri, device.user_code);
    if let Some(complete) = &device.complete {
        eprintln!("or open {complete}");
    }
    match tokio::time::timeout(timeout, device.wait(session)).await {
        Ok(done) => done.map_err(told),
        Err(_) => Err(Error::new(format!("nobody signed in within {}", about(timeout)))),
    }
}

pub async fn logout(common: &Common, args: &LogoutArgs) -> Result<ExitCode, Error> {
    let built = super::build(&super::request(common)).await?;
    let session = session(&built, &args.name)?;
    let (was, failed) = session.sign_out().await.map_err(told)?;
    let revoked = failed.is_none() && session.endpoints.get().is_some_and(|known| known.revocation.is_some());
    match (was, revoked) {
        (false, _) => eprintln!("credential `{}` was not signed in", args.name),
        (true, true) => eprintln!("signed out: the tokens are revoked and deleted"),
        (true, false) => eprintln!("the tokens are deleted here"),
    }
    if let Some(failure) = failed {
        return Err(told(failure.hint("they are deleted here; revoke them at the server")));
    }
    if was && !revoked {
        eprintln!("note: they are still good at the server; `revocation_url` would have them revoked there");
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn status(common: &Common, args: &StatusArgs) -> Result<ExitCode, Error> {
    let built = super::build(&super::request(common)).await?;
    let mut rows = Vec::new();
    for (name, bound) in &built.gate.credentials {
        if let Some(session) = &bound.session {
            rows.push((name.clone(), session.settings.grant, session.kept().map_err(told)?));
        }
    }
    match args.format {
        Format::Json => println!("{}", serde_json::Value::Array(rows.iter().map(json_row).collect())),
        Format::Text if rows.is_empty() => eprintln!("the configuration has no oauth2 credentials with a name"),
        Format::Text => rows.iter().for_each(|row| println!("{}", text_row(row))),
    }
    Ok(ExitCode::SUCCESS)
}

type Row = (String, Grant, Option<Kept>);

/// A word for programs, and a sentence for people.
fn state((name, grant, kept): &Row) -> (&'static str, String) {
    let Some(kept) = kept else {
        return match grant.is_sign_in() {
            true => ("signed_out", format!("not signed in: run `gatepass login {name}`")),
            false => ("automatic", "needs no sign-in".to_owned()),
        };
    };
    let left = kept.end.map(|end| end.duration_since(SystemTime::now()).ok());
    match (left, kept.token.refresh.is_some()) {
        (None, _) => ("signed_in", "signed in, until it is revoked".to_owned()),
        (Some(Some(left)), true) => ("signed_in", format!("signed in: {} left, then renewed by itself", about(left))),
        (Some(Some(left)), false) => ("signed_in", format!("signed in: {} left", about(left))),
        (Some(None), true) => ("renewable", "signed in: the token has ended and is renewed when next used".to_owned()),
        (Some(None), false) => ("expired", format!("the sign-in has ended: run `gatepass login {name}`")),
    }
}

fn text_row(row: &Row) -> String {
    let (name, grant, kept) = row;
    let scope = kept.as_ref().and_then(|kept| kept.token.scope.as_deref());
    let scope = scope.map(|scope| format!("\n  scopes   {scope}")).unwrap_or_default();
    format!("{name}\n  grant    {}\n  state    {}{scope}", grant.word(), state(row).1)
}

fn json_row(row: &Row) -> serde_json::Value {
    let (name, grant, kept) = row;
    let end = kept.as_ref().and_then(|kept| kept.end).and_then(|end| end.duration_since(SystemTime::UNIX_EPOCH).ok());
    let scopes = kept.as_ref().and_then(|kept| kept.token.scope.as_deref());
    json!({
        "name": name, "grant": grant.word(), "state": state(row).0, "expires_at": end.map(|end| end.as_secs()),
        "refreshable": kept.as_ref().is_some_and(|kept| kept.token.refresh.is_some()),
        "scopes": scopes.map(|scopes| scopes.split_whitespace().collect::<Vec<_>>()),
    })
}

fn session(built: &Built, name: &str) -> Result<Arc<Session>, Error> {
    let named = |bound: &crate::gate::BoundAuthorizer| bound.session.clone();
    match built.gate.credentials.iter().find(|(own, _)| own == name) {
        Some((_, bound)) => {
            named(bound).ok_or_else(|| Error::new(format!("credential `{name}` is of type {}, which has no sign-in", bound.kind)))
        }
        None => {
            let all = built.gate.credentials.iter().filter(|(_, bound)| named(bound).is_some()).map(|(name, _)| name.as_str());
            let all: Vec<&str> = all.collect();
            let help = if all.is_empty() {
                "the configuration has no oauth2 credentials".to_owned()
            } else {
                format!("there are: {}", all.join(", "))
            };
            Err(Error::new(format!("there is no credential `{name}`")).help(help))
        }
    }
}

/// On the terminal of whoever runs gatepass, in full.
pub fn told(failure: Failure) -> Error {
    let said = failure.said.map(|said| format!(" (it said: {said})")).unwrap_or_default();
    Error::Message { message: failure.details + &said, help: failure.hint }
}

/// `3 days`, `59 minutes`, `20 seconds`.
fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    let (n, word) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_people_would_use() {
        for (seconds, text) in
            [(1, "1 second"), (90, "90 seconds"), (3_599, "59 minutes"), (7_200, "2 hours"), (259_200, "3 days")]
        {
            assert_eq!(about(Duration::from_secs(seconds)), text);
        }
    }
}
