//! `gatepass check`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Common, Error, Format};
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
    let built = serve::build(&request).await;
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
    let files: Vec<String> = built.files.iter().map(|file| file.display().to_string()).collect();
    let from = if files.is_empty() { "built-in defaults (no configuration found)".to_owned() } else { files.join(", ") };
    format!(
        "good: {}, {}, {}, {} in {from}",
        count(built.gate.rules().len(), "rule"),
        count(built.gate.credentials.len(), "credential"),
        count(built.gate.identities.len(), "client certificate"),
        count(built.gate.bundles.len(), "CA bundle"),
    )
}
