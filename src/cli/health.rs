//! `gatepass health`: for container health checks, in images without a shell.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Common, Error};
use crate::config::{self, ListenAddress};

#[derive(Args)]
pub struct HealthArgs {
    /// Address to ask: that of `admin`, or of a forward listener; the configured one when left out
    #[arg(long, value_name = "ADDRESS")]
    address: Option<std::net::SocketAddr>,
}

pub async fn run(common: &Common, args: &HealthArgs) -> Result<ExitCode, Error> {
    let (address, path) = match args.address {
        Some(address) => (address, "/ready"),
        None => configured(common)?,
    };
    let ask = async {
        let mut stream = TcpStream::connect(address).await.map_err(|cause| cause.to_string())?;
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
            .await
            .map_err(|cause| cause.to_string())?;
        let mut answer = Vec::new();
        stream.take(4_096).read_to_end(&mut answer).await.map_err(|cause| cause.to_string())?;
        let text = String::from_utf8_lossy(&answer);
        text.split(' ').nth(1).map(str::to_owned).ok_or_else(|| "no answer".to_owned())
    };
    match tokio::time::timeout(Duration::from_secs(3), ask).await {
        // A forward listener answers 404 for a path it has not; that it answers is what counts.
        Ok(Ok(status)) if status == "200" || (path == "/ready" && status == "404") => {
            println!("ready");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Ok(status)) => Err(Error::new(format!("gatepass at {address} answers {status}"))),
        Ok(Err(why)) => Err(Error::new(format!("gatepass at {address} does not answer: {why}"))),
        Err(_) => Err(Error::new(format!("gatepass at {address} does not answer within 3 seconds"))),
    }
}

/// Only the addresses are of interest here; certificates and secrets are not read.
fn configured(common: &Common) -> Result<(std::net::SocketAddr, &'static str), Error> {
    let loaded = config::load(&super::request(common));
    let Some(config) = loaded.config.filter(|_| !loaded.report.has_errors()) else {
        return Err(Error::Report(Box::new(loaded.report)));
    };
    if let Some(admin) = config.admin {
        return Ok((admin, "/ready"));
    }
    let tcp = config.listeners.iter().find_map(|listener| match (&listener.address, &listener.tls) {
        (ListenAddress::Tcp(address), None) => Some(*address),
        _ => None,
    });
    tcp.map(|address| (address, "/"))
        .ok_or_else(|| Error::new("no plain listener to ask").help("set `admin: { listen: 127.0.0.1:9118 }`"))
}
