//! Texts that the program can write about itself: starter configuration, schema, reference, manual.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, ValueEnum};

use super::{Cli, Error};
use crate::config::schema as tables;
use crate::files;

#[derive(Args)]
pub struct InitArgs {
    /// Where to write it
    #[arg(default_value = "gatepass.yaml", value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args)]
pub struct SchemaArgs {
    /// json: the JSON Schema; markdown: the reference, docs/config.md
    #[arg(long, value_enum, default_value_t)]
    format: SchemaFormat,
}

#[derive(Clone, Copy, ValueEnum, Default)]
enum SchemaFormat {
    #[default]
    Json,
    Markdown,
}

const STARTER: &str = include_str!("starter.yaml");

pub fn init(args: &InitArgs) -> Result<ExitCode, Error> {
    if files::exists(&args.file) {
        return Err(Error::new(format!("{} is there already", args.file.display())).help("name another file, or move it away"));
    }
    files::write_private(&args.file, STARTER.as_bytes())?;
    eprintln!("wrote {}; next: gatepass check, then gatepass exec -- curl https://api.example.com/", args.file.display());
    Ok(ExitCode::SUCCESS)
}

pub fn schema(args: &SchemaArgs) -> Result<ExitCode, Error> {
    let auth = crate::auth::types();
    match args.format {
        SchemaFormat::Json => {
            println!("{}", serde_json::to_string_pretty(&tables::schema(&auth)).map_err(|cause| Error::new(cause.to_string()))?)
        }
        SchemaFormat::Markdown => print!("{}", tables::reference(&auth)),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn man() -> Result<ExitCode, Error> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut text)
        .map_err(|cause| Error::new(format!("cannot make the manual: {cause}")))?;
    super::output::bytes(&text);
    Ok(ExitCode::SUCCESS)
}
