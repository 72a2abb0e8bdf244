//! `gatepass check`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Common, Error, Format};
use crate::config::Rule;
use crate::serve;

#[derive(Args)]
pub struct CheckArgs {
    /// Exit with 3 when there are warnings
    #[arg(long)]
    strict: bool,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub async fn run(common: &Common, args: &CheckArgs) -> Result<ExitCode, Error> {
    let request = super::request(common);
    let mut built = serve::build(&request).await;
    if let Ok(built) = &mut built
        && built.files.is_empty()
    {
        built
            .report
            .warning("no-configuration", None, "no configuration was found, so there was nothing to check: built-in defaults run")
            .help("name one with `-c FILE`, or write one as ./gatepass.yaml (`gatepass init` writes a starter)");
    }
    let (report, summary) = match &built {
        Ok(built) => (&built.report, Some(summary(built))),
        Err(report) => (&**report, None),
    };
    match args.format {
        Format::Json => println!("{}", json!({ "ok": built.is_ok(), "diagnostics": report.json() })),
        Format::Text => {
            eprint!("{}", report.render(super::colored()));
            if let Some(summary) = summary {
                println!("{summary}");
            }
        }
    }
    Ok(match (built.is_ok(), args.strict && report.has_warnings()) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(3),
        (true, false) => ExitCode::SUCCESS,
    })
}

fn summary(built: &serve::Built) -> String {
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let inline = |of: &dyn Fn(&Rule) -> usize| built.gate.rules().iter().map(|live| of(&live.rule)).sum::<usize>();
    let files: Vec<String> = built.files.iter().map(|file| file.display().to_string()).collect();
    let from = if files.is_empty() { "built-in defaults (no configuration found)".to_owned() } else { files.join(", ") };
    format!(
        "good: {}, {}, {}, {} in {from}",
        count(built.gate.rules().len(), "rule"),
        count(built.gate.credentials.len() + inline(&|rule| nameless(&rule.auth, |one| &one.name)), "credential"),
        count(
            built.gate.identities.len() + inline(&|rule| nameless(&rule.client_certificates, |one| &one.name)),
            "client certificate",
        ),
        count(
            built.gate.bundles.len() + inline(&|rule| rule.ca_bundle.iter().filter(|one| one.name.is_none()).count()),
            "CA bundle",
        ),
    )
}

/// How many of what a rule names stand in the rule itself.
fn nameless<T>(list: &Option<Vec<std::sync::Arc<T>>>, name: impl Fn(&T) -> &Option<String>) -> usize {
    list.iter().flatten().filter(|one| name(one).is_none()).count()
}
