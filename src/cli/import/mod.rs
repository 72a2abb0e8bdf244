//! `gatepass import`: what another tool knows of hosts and credentials, as a configuration.

mod postman;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Error;
use crate::files;

#[derive(Subcommand)]
pub enum ImportCommand {
    /// Postman: collections, environments, globals and client-certificate lists, all in one go
    Postman(PostmanArgs),
}

#[derive(Args)]
pub struct PostmanArgs {
    /// Exported JSON files: collections (v2.1, v2.0, v1), environments, globals, a data dump, lists of client certificates
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write the configuration here instead of to stdout; a file that is there is not overwritten
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A configuration made from something else.
pub struct Imported {
    pub yaml: String,
    /// Environment variables that must be set, and what each stands for.
    pub wanted: Vec<(String, String)>,
    /// What could not be carried over.
    pub notes: Vec<String>,
}

/// The largest export that is read.
const BOUND: usize = 64 * 1024 * 1024;

pub async fn run(command: &ImportCommand) -> Result<ExitCode, Error> {
    let ImportCommand::Postman(args) = command;
    let mut documents = Vec::new();
    for file in &args.files {
        let text = files::read_text(file, BOUND)?;
        let json = serde_json::from_str(&text).map_err(|cause| {
            Error::new(format!("{} is not JSON: {cause}", file.display())).help("export it from Postman anew")
        })?;
        documents.push((file.display().to_string(), json));
    }
    let imported = postman::import(&documents).await.map_err(|why| {
        Error::new(why).help("what is read: collections, environments, globals, data dumps, and lists of client certificates")
    })?;
    match &args.output {
        None => print!("{}", imported.yaml),
        Some(file) => {
            if !files::create_private(file, imported.yaml.as_bytes())? {
                return Err(Error::new(format!("{} is there already", file.display())).help("name another file, or move it away"));
            }
            eprintln!("wrote {}", file.display());
        }
    }
    for note in &imported.notes {
        eprintln!("not carried over: {note}");
    }
    if !imported.wanted.is_empty() {
        eprintln!("set these before `gatepass check`:");
        for (name, what) in &imported.wanted {
            eprintln!("  {name}  {what}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
