//! `gatepass health`: for container health checks, in images without a shell. It asks the process that runs, by its
//! control socket, and no file: an edit that is not in force yet, or never will be, says nothing of a process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Common, Error};
use crate::config;
use crate::serve::control::{self, Status};

#[derive(Args)]
pub struct HealthArgs {
    /// Ask the gatepass that has this address, of `admin` or of a listener; also one of another user or machine, at its
    /// `admin` address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
}

pub async fn run(common: &Common, args: &HealthArgs) -> Result<ExitCode, Error> {
    let request = super::request(common);
    let control::Found { answered: found, silent } = control::running(&request.env).await;
    if let Some(address) = args.address {
        let at = |own: &SocketAddr| {
            own.port() == address.port() && (own.ip() == address.ip() || own.ip().is_unspecified() && address.ip().is_loopback())
        };
        let here: Vec<Status> = found.into_iter().filter(|status| status.addresses.iter().any(at)).collect();
        return if here.is_empty() { at_address(address).await } else { verdict(&here) };
    }
    let named: Vec<PathBuf> = config::named_files(&request);
    let reads = |status: &Status| named.iter().all(|file| status.configuration.contains(file));
    let explicit = !common.config.is_empty() || request.env.get("GATEPASS_CONFIG").is_some_and(|file| !file.is_empty());
    let chosen: Vec<Status> = match found.len() {
        0 | 1 if !explicit => found,
        // Which of several is meant is said by the configuration; where none has it, all of them are.
        _ if explicit || found.iter().any(reads) => found.into_iter().filter(reads).collect(),
        _ => found,
    };
    // Without a file that says which is meant, one that is silent may be it.
    if !chosen.is_empty() && (explicit || silent == 0) {
        return verdict(&chosen);
    }
    if silent > 0 {
        return Err(no_answer(silent));
    }
    // Where no socket could be made, a configured admin address is what is left.
    match config::load(&request).config.and_then(|config| config.admin).filter(|_| !named.is_empty()) {
        Some(mut admin) => {
            if admin.ip().is_unspecified() {
                admin.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            at_address(admin).await
        }
        None => Err(no_process(explicit.then_some(&named[..]))),
    }
}

fn no_answer(silent: usize) -> Error {
    let runs = if silent == 1 {
        "a gatepass of this user runs and does".to_owned()
    } else {
        format!("{silent} gatepasses of this user run and do")
    };
    Error::new(format!("{runs} not answer within {:?}: stopped by a signal (SIGSTOP), or hanging", control::PATIENCE))
        .help("`kill -CONT PID` lets a stopped process go on; restart one that hangs")
}

fn no_process(named: Option<&[PathBuf]>) -> Error {
    let with = named.map_or(String::new(), |files| {
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        format!(" with {}", files.join(", "))
    });
    Error::new(format!("no gatepass of this user runs{with}"))
        .help("ask as the user that it runs as, or name its admin address with `--address`")
}

fn verdict(of: &[Status]) -> Result<ExitCode, Error> {
    match of.iter().find(|status| !status.ready) {
        None => {
            println!("ready");
            Ok(ExitCode::SUCCESS)
        }
        Some(status) => {
            let at = status.addresses.first().map_or(String::new(), |address| format!(" at {address}"));
            Err(Error::new(format!("gatepass{at} is stopping and takes no new work")))
        }
    }
}

/// By HTTP; what else may listen there does not say that it is gatepass.
async fn at_address(address: SocketAddr) -> Result<ExitCode, Error> {
    let failed = |why: String| Error::new(format!("gatepass at {address} does not answer: {why}"));
    match tokio::time::timeout(Duration::from_secs(3), ask(address)).await {
        Ok(Ok(head)) => judge(address, &head)?,
        Ok(Err(cause)) => return Err(failed(cause.to_string())),
        Err(_) => return Err(failed("nothing came within 3 seconds".to_owned())),
    }
    println!("ready");
    Ok(ExitCode::SUCCESS)
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /ready HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4_096).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.split("\r\n\r\n").next().unwrap_or_default().to_owned())
}

/// Is this the head of an answer of gatepass's own, and does it take work?
fn judge(address: SocketAddr, head: &str) -> Result<(), Error> {
    let status = head.split(' ').nth(1).unwrap_or_default();
    let field = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim())
    };
    let admin = field("server").is_some_and(|server| server.starts_with("gatepass"));
    // A forward listener has no such page, and says so in its own words.
    let listener = status == "404" && field("proxy-status").is_some_and(|text| text.starts_with("gatepass"));
    match (admin, listener, status) {
        (true, _, "200") | (_, true, _) => Ok(()),
        (true, ..) => Err(Error::new(format!("gatepass at {address} answers {status}: it takes no new work"))),
        _ => Err(Error::new(format!("what listens on {address} is not gatepass"))
            .help("name the address of `admin:`, or of a listener")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_gatepass_counts() {
        let ready = |head: &str| judge("127.0.0.1:1".parse().unwrap(), head).is_ok();
        assert!(ready("HTTP/1.0 200 OK\r\nServer: gatepass"));
        assert!(ready("HTTP/1.0 404 Not Found\r\nproxy-status: gatepass; details=\"…\""));
        for other in [
            "HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6",
            "HTTP/1.0 200 OK",
            "HTTP/1.0 404 Not Found",
            "HTTP/1.0 404 Not Found\r\nProxy-Status: squid",
            "HTTP/1.0 503 Service Unavailable\r\nServer: gatepass",
            "SSH-2.0-OpenSSH",
            "",
        ] {
            assert!(!ready(other), "{other}");
        }
    }
}
