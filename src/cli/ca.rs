//! `gatepass ca`: the interception CA.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Common, Error};
use crate::tls::inspect;

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
            let details = authority.details();
            println!("subject      {}", details.subject);
            println!("key          {}", details.key_type);
            println!("valid        {} to {}", inspect::day(details.not_before), inspect::day(details.not_after));
            println!("sha256       {}", details.fingerprint_text());
            print!("\n{}", authority.certificate_pem());
        }
    }
    Ok(ExitCode::SUCCESS)
}
