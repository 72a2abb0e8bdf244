//! A sign-in in the browser: opened, then awaited on this machine (RFC 8252 §7.3), or its last URL pasted.

use std::io::IsTerminal;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::told;
use crate::auth::oauth2::authorize::{Authorization, Returned};
use crate::auth::oauth2::{Session, Token};
use crate::cli::Error;
use crate::moment::Moment;
use crate::origin::Host;

/// The head of a browser's request, at most.
const HEAD: usize = 16 * 1024;

/// A connection that says nothing is given up.
const SILENCE: Duration = Duration::from_secs(10);

pub async fn sign_in(session: &Session, open: bool, timeout: Duration) -> Result<Token, Error> {
    let settings = &session.settings;
    let endpoints = session.endpoints().await.map_err(told)?;
    let auth_url = endpoints.authorization.as_ref();
    let auth_url = auth_url.ok_or_else(|| Error::new("the issuer's metadata names no authorization_endpoint"))?;
    let elsewhere = settings.redirect.elsewhere.as_deref();
    let listeners = match elsewhere {
        Some(_) => Vec::new(),
        None => listen(&settings.redirect.host, settings.redirect.port).await?,
    };
    let port = match listeners.first() {
        Some(listener) => listener.local_addr().map_err(|cause| Error::new(cause.to_string()))?.port(),
        None => 0,
    };
    let begun = Authorization::begin(settings, port, &Moment::real());
    let client_id = session.secret("client_id").await.map_err(told)?;
    let url = begun.url(settings, auth_url, &client_id);
    let opened = open && start_browser(&url);
    match opened {
        true => eprintln!("your browser opens to sign in; if it does not, open\n\n{url}\n"),
        false => eprintln!("open this in a browser to sign in\n\n{url}\n"),
    }
    let pasting = elsewhere.is_some() || (!opened && std::io::stdin().is_terminal());
    if let Some(address) = elsewhere {
        eprintln!("when you are signed in, the browser ends up at {address}?code=…: paste that whole address here:");
    } else if pasting {
        eprintln!("if that browser is on another machine, paste here the address that it ends up at:");
    }
    let awaited = async {
        tokio::select! {
            code = await_browser(&listeners, &begun, session), if elsewhere.is_none() => code,
            code = await_paste(&begun, session), if pasting => code,
        }
    };
    let code = tokio::time::timeout(timeout, awaited)
        .await
        .map_err(|_| Error::new(format!("nobody signed in within {}", super::about(timeout))))??;
    begun.redeem(session, &code).await.map_err(told)
}

/// On the address that the browser will be sent to; `localhost` may be either.
async fn listen(host: &Host, port: Option<u16>) -> Result<Vec<TcpListener>, Error> {
    let cannot = |cause: std::io::Error| {
        Error::new(format!("cannot listen for the browser's return: {cause}"))
            .help("`redirect_uri` names another port, or none for any free one")
    };
    let port = port.unwrap_or(0);
    Ok(match host {
        Host::Ip(ip) => vec![TcpListener::bind((*ip, port)).await.map_err(cannot)?],
        Host::Name(_) => {
            let four = TcpListener::bind(("127.0.0.1", port)).await.map_err(cannot)?;
            let port = four.local_addr().map_err(cannot)?.port();
            // A machine without IPv6 has one.
            let six = TcpListener::bind(("::1", port)).await.ok();
            [Some(four), six].into_iter().flatten().collect()
        }
    })
}

async fn await_browser(listeners: &[TcpListener], begun: &Authorization, session: &Session) -> Result<String, Error> {
    loop {
        let accepted = match listeners {
            [one, two, ..] => tokio::select! { stream = one.accept() => stream, stream = two.accept() => stream },
            [one] => one.accept().await,
            [] => return Err(Error::new("nothing listens for the browser")),
        };
        let Ok((mut stream, _)) = accepted else { continue };
        let Ok(Some(target)) = tokio::time::timeout(SILENCE, target(&mut stream)).await else { continue };
        match begun.returned(&session.settings, &target) {
            Returned::Code(code) => {
                say(&mut stream, "200 OK", "Signed in. You can close this window.\n").await;
                return Ok(code);
            }
            Returned::Refused(why) => {
                say(&mut stream, "400 Bad Request", "The sign-in failed. The terminal says why.\n").await;
                return Err(Error::new(format!("the sign-in failed: {why}")));
            }
            // A favicon, a second tab, or somebody who guesses: the person may still come.
            Returned::Foreign(why) => say(&mut stream, "400 Bad Request", &format!("Not taken: {why}.\n")).await,
        }
    }
}

async fn await_paste(begun: &Authorization, session: &Session) -> Result<String, Error> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let rest = line.trim().split_once("://").map_or("", |(_, rest)| rest);
        let target = rest.find('/').map_or("", |at| &rest[at..]);
        match begun.returned(&session.settings, target) {
            Returned::Code(code) => return Ok(code),
            Returned::Refused(why) => return Err(Error::new(format!("the sign-in failed: {why}"))),
            Returned::Foreign(why) => eprintln!("not taken: {why}"),
        }
    }
    // Nothing more comes from there; the browser still may.
    std::future::pending().await
}

/// What a browser asks for; `None` when it is no GET.
async fn target(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 2048];
        match stream.read(&mut piece).await {
            Ok(n) if n > 0 && head.len() < HEAD => head.extend_from_slice(&piece[..n]),
            _ => return None,
        }
    }
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    (words.next()? == "GET").then(|| words.next().map(str::to_owned))?
}

/// Plain text: nothing that came with the request is ever shown as markup. The code must not leak by a referrer.
async fn say(stream: &mut TcpStream, status: &str, text: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// `$BROWSER`, else what the system opens URLs with. The URL holds no secret.
fn start_browser(url: &str) -> bool {
    let chosen = super::super::environment().get("BROWSER").filter(|program| !program.is_empty()).cloned();
    let programs = chosen.into_iter().chain(["xdg-open", "open", "wslview"].map(str::to_owned));
    programs.into_iter().any(|program| {
        let command = tokio::process::Command::new(program)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        command.is_ok()
    })
}
