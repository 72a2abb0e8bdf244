//! Texts that the program can write about itself: starter configuration, schema, reference, manual.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, ValueEnum};

use super::Error;
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

#[derive(Args)]
pub struct ManArgs {
    /// Of this command, as in `ca install`; of gatepass as a whole when left out
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write a page for every command into this folder instead, as in /usr/share/man/man1
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

pub fn man(args: &ManArgs) -> Result<ExitCode, Error> {
    let mut whole = without_help(super::command());
    whole.build();
    if let Some(folder) = &args.dir {
        files::create_dir(folder)?;
        return write_pages(&whole, folder).map(|()| ExitCode::SUCCESS);
    }
    let mut command = &whole;
    for name in &args.command {
        command = command.find_subcommand(name).ok_or_else(|| {
            Error::new(format!("there is no command `{}`", args.command.join(" "))).help("`gatepass --help` lists them")
        })?;
    }
    super::output::bytes(&page(command)?);
    Ok(ExitCode::SUCCESS)
}

/// A page for `help` would say nothing.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// `gatepass.1`, `gatepass-ca-install.1`: by the names under which the pages speak of one another.
fn write_pages(command: &Command, folder: &Path) -> Result<(), Error> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    files::write_public(&folder.join(format!("{name}.1")), &page(command)?)?;
    command.get_subcommands().try_for_each(|inner| write_pages(inner, folder))
}

fn page(command: &Command) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut text)
        .map_err(|cause| Error::new(format!("cannot make the manual: {cause}")))?;
    Ok(text)
}
