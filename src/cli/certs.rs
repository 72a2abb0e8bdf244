//! `gatepass certs`: every certificate of the configuration, its end, and what uses it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use serde_json::json;

use super::{Common, Error, Format};
use crate::gate::Held;
use crate::settings::parse_duration;
use crate::tls::formats::inspect::{self, Details};

#[derive(Subcommand)]
pub enum CertsCommand {
    /// Every client certificate, CA and listener certificate, with subject, issuer and end
    List {
        /// Exit with 1 if any ends within this time, as 30d
        #[arg(long, value_name = "TIME")]
        expires_in: Option<String>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// All about one of them, and the rules that use it
    Show {
        /// Its name in the configuration, as `certs list` shows it
        name: String,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

pub async fn run(common: &Common, command: &CertsCommand) -> Result<ExitCode, Error> {
    let built = super::build(&super::request(common)).await?;
    let all = built.gate.certificates();
    match command {
        CertsCommand::List { expires_in, format } => list(&all, expires_in.as_deref(), *format),
        CertsCommand::Show { name, format } => show(&all, name, *format),
    }
}

fn list(all: &[Held], expires_in: Option<&str>, format: Format) -> Result<ExitCode, Error> {
    let within = match expires_in {
        None => None,
        Some(text) => Some(
            parse_duration(text)
                .ok_or_else(|| Error::new(format!("--expires-in {text}: not a time")).help("write it as 30d or 12h"))?,
        ),
    };
    print(all, format, |held| {
        let short = ["subject", "issuer", "key", "until", "sha256", "used by"];
        let mut lines = vec![format!("{}  {}", held.kind.words(), held.name)];
        lines.extend(rows(held.details(), &held.rules).into_iter().filter(|(name, _)| short.contains(name)).map(line));
        lines.join("\n")
    });
    let ending = within.is_some_and(|within| all.iter().any(|held| held.ends() < SystemTime::now() + within));
    Ok(if ending { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(all: &[Held], name: &str, format: Format) -> Result<ExitCode, Error> {
    let found: Vec<&Held> = all.iter().filter(|held| held.name == name).collect();
    if found.is_empty() {
        let mut names: Vec<&str> = all.iter().map(|held| held.name.as_str()).collect();
        names.dedup();
        return Err(Error::new(format!("there is no certificate `{name}`")).help(format!("there are: {}", names.join(", "))));
    }
    print(found, format, |held| {
        let mut lines = vec![format!("{}  {}", held.kind.words(), held.name)];
        lines.extend(rows(held.details(), &held.rules).into_iter().map(line));
        for (at, above) in held.chain.iter().enumerate().skip(1) {
            lines.push(format!("chain {at}"));
            lines.extend(rows(above, &[]).into_iter().map(line));
        }
        lines.join("\n")
    });
    Ok(ExitCode::SUCCESS)
}

fn print<'a>(held: impl IntoIterator<Item = &'a Held>, format: Format, text: impl Fn(&Held) -> String) {
    let held: Vec<&Held> = held.into_iter().collect();
    match format {
        Format::Json => println!("{}", serde_json::Value::Array(held.into_iter().map(json).collect())),
        Format::Text => println!("{}", held.into_iter().map(text).collect::<Vec<_>>().join("\n\n")),
    }
}

fn rows(details: &Details, rules: &[Arc<str>]) -> Vec<(&'static str, String)> {
    let left = days(details.not_after);
    let end = if left < 0 { format!("EXPIRED {} days ago", -left) } else { format!("{left} days left") };
    let mut rows = vec![("subject", details.subject.clone())];
    if !details.sans.is_empty() {
        rows.push(("names", details.sans.join(", ")));
    }
    rows.push(("issuer", details.issuer.clone()));
    rows.push(("serial", details.serial.clone()));
    rows.push(("key", details.key_type.clone()));
    rows.push(("from", inspect::day(details.not_before)));
    rows.push(("until", format!("{} ({end})", inspect::day(details.not_after))));
    rows.push(("sha256", details.fingerprint_text()));
    if !rules.is_empty() {
        rows.push(("used by", rules.join(", ")));
    }
    rows
}

fn line((name, value): (&'static str, String)) -> String {
    format!("  {name:<8} {value}")
}

fn days(time: SystemTime) -> i64 {
    let day = |d: Duration| i64::try_from(d.as_secs() / 86_400).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::now()) {
        Ok(left) => day(left),
        Err(past) => -day(past.duration()) - 1,
    }
}

fn json(held: &Held) -> serde_json::Value {
    let mut value = json!({ "kind": held.kind.words(), "name": held.name });
    let fields = json_details(held.details());
    if let (Some(all), serde_json::Value::Object(fields)) = (value.as_object_mut(), fields) {
        all.extend(fields);
    }
    value["rules"] = json!(held.rules.iter().map(|label| &**label).collect::<Vec<_>>());
    value["chain"] = held.chain.iter().skip(1).map(json_details).collect();
    value
}

fn json_details(details: &Details) -> serde_json::Value {
    json!({
        "subject": details.subject, "names": details.sans, "issuer": details.issuer, "serial": details.serial,
        "key": details.key_type, "not_before": inspect::rfc3339(details.not_before), "not_after": inspect::rfc3339(details.not_after),
        "days_left": days(details.not_after), "sha256": details.fingerprint_text(),
    })
}
