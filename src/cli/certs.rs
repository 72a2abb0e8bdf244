//! `gatepass certs list`: every certificate of the configuration, with its end.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use serde_json::json;

use super::{Common, Error, Format};
use crate::config::parse_duration;
use crate::serve::Built;
use crate::tls::inspect::{self, Details};

#[derive(Subcommand)]
pub enum CertsCommand {
    /// Every client certificate and CA, with subject, issuer and end
    List {
        /// Exit with 1 if any ends within this time, as 30d
        #[arg(long, value_name = "TIME")]
        expires_in: Option<String>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

struct Row {
    kind: &'static str,
    name: String,
    details: Details,
}

pub async fn run(common: &Common, command: &CertsCommand) -> Result<ExitCode, Error> {
    let CertsCommand::List { expires_in, format } = command;
    let within = match expires_in {
        None => None,
        Some(text) => Some(
            parse_duration(text)
                .ok_or_else(|| Error::new(format!("--expires-in {text}: not a time")).help("write it as 30d or 12h"))?,
        ),
    };
    let built = super::build(&super::request(common)).await?;
    let rows = rows(&built);
    match format {
        Format::Json => println!("{}", serde_json::Value::Array(rows.iter().map(json).collect())),
        Format::Text => rows.iter().for_each(|row| println!("{}", line(row))),
    }
    let ending = within.is_some_and(|within| rows.iter().any(|row| row.details.not_after < SystemTime::now() + within));
    Ok(if ending { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn rows(built: &Built) -> Vec<Row> {
    let gate = &built.gate;
    let mut rows = vec![Row { kind: "interception CA", name: "gatepass".to_owned(), details: gate.authority.details().clone() }];
    let mut add = |row: Row| {
        if !rows.iter().any(|old| {
            old.kind == row.kind && old.details.fingerprint_sha256 == row.details.fingerprint_sha256 && old.name == row.name
        }) {
            rows.push(row);
        }
    };
    for (name, identity) in &gate.identities {
        add(Row { kind: "client certificate", name: name.clone(), details: identity.details().clone() });
    }
    for (name, trust) in &gate.bundles {
        for details in trust.entries() {
            add(Row { kind: "CA", name: name.clone(), details: details.clone() });
        }
    }
    for live in gate.rules() {
        for identity in live.identities.iter().flatten() {
            let named = gate.identities.iter().any(|(_, named)| named == identity);
            if !named {
                add(Row { kind: "client certificate", name: live.label.to_string(), details: identity.details().clone() });
            }
        }
    }
    rows
}

fn days(time: SystemTime) -> i64 {
    let day = |d: Duration| i64::try_from(d.as_secs() / 86_400).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::now()) {
        Ok(left) => day(left),
        Err(past) => -day(past.duration()) - 1,
    }
}

fn line(row: &Row) -> String {
    let left = days(row.details.not_after);
    let end = if left < 0 { format!("EXPIRED {} days ago", -left) } else { format!("{left} days left") };
    format!(
        "{}  {}\n  subject  {}\n  issuer   {}\n  key      {}\n  until    {} ({end})\n  sha256   {}",
        row.kind,
        row.name,
        row.details.subject,
        row.details.issuer,
        row.details.key_type,
        inspect::day(row.details.not_after),
        row.details.fingerprint_text()
    )
}

fn json(row: &Row) -> serde_json::Value {
    let details = &row.details;
    json!({
        "kind": row.kind, "name": row.name, "subject": details.subject, "issuer": details.issuer, "serial": details.serial,
        "names": details.sans, "key": details.key_type, "not_before": inspect::day(details.not_before),
        "not_after": inspect::day(details.not_after), "days_left": days(details.not_after), "sha256": details.fingerprint_text(),
    })
}
