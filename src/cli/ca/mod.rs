//! `gatepass ca`: the interception CA, and the stores of clients that it is put into.

mod java;
mod nss;
mod store;
mod stores;
mod system;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Common, Error};
use crate::tls::formats::inspect::{self, Details};
use crate::tls::settings::CaSource;
use stores::{Kind, StoreArgs};

#[derive(Subcommand)]
pub enum CaCommand {
    /// Print where the CA certificate lies; makes the CA if there is none
    Path,
    /// Print the CA certificate
    Show {
        /// Only the PEM text
        #[arg(long)]
        pem: bool,
    },
    /// Put the CA into the stores of the system, of Chromium and Firefox, and of Java
    Install(StoreArgs),
    /// Take the CA out of them again; exactly this one, by its fingerprint
    Uninstall {
        #[command(flatten)]
        stores: StoreArgs,
        /// An earlier CA, by its SHA-256 fingerprint
        #[arg(long, value_name = "SHA256")]
        fingerprint: Option<String>,
    },
    /// Make the CA's certificate anew, for another ten years and for the hosts that the rules name now
    Renew(RenewArgs),
}

#[derive(Args)]
pub struct RenewArgs {
    /// With a new key, as after a theft: nothing that trusts the old CA trusts the new one
    #[arg(long)]
    new_key: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(common: &Common, command: &CaCommand) -> Result<ExitCode, Error> {
    let built = super::build(&super::request(common)).await?;
    let authority = &built.gate.authority;
    match command {
        CaCommand::Path => match authority.path() {
            Some(path) => println!("{}", std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display()),
            None => return Err(Error::new("this CA lies in no file")),
        },
        CaCommand::Show { pem: true } => print!("{}", authority.certificate_pem()),
        CaCommand::Show { pem: false } => {
            println!("subject      {}", authority.details().subject);
            println!("key          {}", authority.details().key_type);
            println!("valid        {}", validity(authority.details()));
            if let Some(constraints) = authority.constraints() {
                println!("limited to   {}", constraints.text());
            }
            println!("sha256       {}", authority.details().fingerprint_text());
            if let Some(old) = authority.previous() {
                println!("before it    {} ({})", old.fingerprint_text(), succession(old, authority.details()));
            }
            print!("\n{}", authority.certificate_pem());
        }
        CaCommand::Install(args) => {
            let ca = store::Ca::of(authority.certificate_pem(), authority.path(), authority.details());
            return stores::run(&ca, args, Kind::Install);
        }
        CaCommand::Uninstall { stores, fingerprint } => {
            let ca = match fingerprint {
                Some(text) => store::Ca::by_fingerprint(text)?,
                None => store::Ca::of(authority.certificate_pem(), authority.path(), authority.details()),
            };
            return stores::run(&ca, stores, Kind::Uninstall);
        }
        CaCommand::Renew(args) => return renew(&built.gate, args),
    }
    Ok(ExitCode::SUCCESS)
}

fn validity(details: &Details) -> String {
    format!("{} to {}", inspect::day(details.not_before), inspect::day(details.not_after))
}

/// What the clients of the certificate before this one meet.
fn succession(old: &Details, new: &Details) -> String {
    match old.spki_sha256 == new.spki_sha256 {
        true => format!("the same key: clients that trust it go on until {}", inspect::day(old.not_after)),
        false => "another key: clients that trust only that one are refused nothing but trust nothing of ours".to_owned(),
    }
}

fn renew(gate: &crate::gate::Gate, args: &RenewArgs) -> Result<ExitCode, Error> {
    let old = gate.authority.details();
    let CaSource::Dir { directory, .. } = gate.ca_source() else {
        return Err(Error::new("this CA was not made by gatepass")
            .help("renew it where it came from; new files in the place of `ca: { cert, key }` are taken up by themselves"));
    };
    let constraints =
        gate.constraints_wanted().map_err(|problem| Error::new(problem.message).help(problem.help.unwrap_or_default()))?;
    let limited = constraints.as_ref().map_or_else(String::new, |constraints| format!(", limited to {}", constraints.text()));
    let key = if args.new_key { "a new key" } else { "the same key" };
    if args.dry_run {
        println!("would make a new certificate with {key}{limited} in {}", directory.display());
        return Ok(ExitCode::SUCCESS);
    }
    let renewed = crate::tls::intercept::authority::Authority::renew(directory, args.new_key, constraints.as_ref())
        .map_err(|problem| Error::new(problem.message).help(problem.help.unwrap_or_default()))?;
    println!("made a new certificate with {key}{limited}");
    println!("  valid    {}", validity(&renewed));
    println!("  sha256   {}", renewed.fingerprint_text());
    println!("  before   {} (kept as {})", old.fingerprint_text(), directory.join("ca.old.pem").display());
    if args.new_key {
        println!(
            "Clients must trust the new one before they reach ruled hosts again: `gatepass ca install`, or `gatepass exec`."
        );
    } else {
        println!(
            "Clients that trust the old one go on as before, until {}{}.",
            inspect::day(old.not_after),
            if constraints.is_some() { " and for the hosts that it was limited to" } else { "" }
        );
        println!("`gatepass ca install` puts the new one beside it. A running gatepass takes it up by itself.");
    }
    println!("To take the old one out of the stores: gatepass ca uninstall --fingerprint {}", old.fingerprint_text());
    Ok(ExitCode::SUCCESS)
}
