//! Rules on the command line, for those who have no configuration yet. Secrets are named by their variable, never given.

use clap::Args;
use serde_json::{Value, json};

use super::super::Error;

#[derive(Args)]
pub struct QuickRules {
    /// Bearer token for a host, from an environment variable
    #[arg(long, value_name = "HOST=ENVVAR")]
    bearer: Vec<String>,
    /// User name and password for a host, the password from an environment variable
    #[arg(long, value_name = "HOST=USER:ENVVAR")]
    basic: Vec<String>,
    /// A header for a host, its value from an environment variable
    #[arg(long, value_name = "HOST=NAME:ENVVAR")]
    header: Vec<String>,
    /// Client certificate for a host: a PEM file with its key, or CERT,KEY
    #[arg(long, value_name = "HOST=FILE[,KEY]")]
    cert: Vec<String>,
    /// CA bundle for a host
    #[arg(long, value_name = "HOST=FILE")]
    ca: Vec<String>,
}

impl QuickRules {
    /// A document to be laid over the configuration.
    pub fn overlay(&self) -> Result<Option<String>, Error> {
        let mut rules: Vec<Value> = Vec::new();
        for text in &self.bearer {
            let (host, variable) = pair("bearer", text)?;
            rules.push(json!({ "host": host, "auth": { "bearer": { "token": { "env": variable } } } }));
        }
        for text in &self.basic {
            let (host, user, variable) = triple("basic", text)?;
            rules.push(json!({ "host": host, "auth": { "basic": { "username": user, "password": { "env": variable } } } }));
        }
        for text in &self.header {
            let (host, name, variable) = triple("header", text)?;
            rules.push(json!({ "host": host, "headers": { "set": { name: { "env": variable } } } }));
        }
        for text in &self.cert {
            let (host, file) = pair("cert", text)?;
            let certificate = match file.split_once(',') {
                Some((cert, key)) => json!({ "cert": cert, "key": key }),
                None => json!({ "cert": file }),
            };
            rules.push(json!({ "host": host, "client_certificate": certificate }));
        }
        for text in &self.ca {
            let (host, file) = pair("ca", text)?;
            rules.push(json!({ "host": host, "ca_bundle": { "files": [file] } }));
        }
        Ok((!rules.is_empty()).then(|| json!({ "rules": rules }).to_string()))
    }
}

fn pair<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str), Error> {
    text.split_once('=').ok_or_else(|| Error::new(format!("--{flag}: write it as HOST=…")))
}

fn triple<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str, &'a str), Error> {
    let (host, rest) = pair(flag, text)?;
    let (name, variable) =
        rest.rsplit_once(':').ok_or_else(|| Error::new(format!("--{flag} {host}=…: write it as HOST=NAME:ENVVAR")))?;
    Ok((host, name, variable))
}
