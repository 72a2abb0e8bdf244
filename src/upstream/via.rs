//! By way of an upstream proxy: which one, and the tunnel through it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Dialer, Policy, Stream};
use crate::config::{Cidr, Text, UpstreamProxy, Via, ViaScheme};
use crate::failure::{Cause, Failure};
use crate::limits::Limits;
use crate::origin::{Host, Scheme, parse_authority};
use crate::tls;

/// The proxy to go through, if any.
pub fn choose(
    via: &UpstreamProxy,
    environment: &BTreeMap<String, String>,
    host: &Host,
    port: u16,
    scheme: Scheme,
) -> Option<Arc<Via>> {
    match via {
        UpstreamProxy::None => None,
        UpstreamProxy::To(via) => (!bypassed(&via.no_proxy, host, port)).then(|| via.clone()),
        UpstreamProxy::Env => from_environment(environment, host, port, scheme),
    }
}

/// The conventions that curl and Go agree on: `https_proxy` and `http_proxy` by the scheme of the
/// request, either case, `ALL_PROXY` for what is left, `NO_PROXY` for exceptions; loopback is never proxied.
fn from_environment(environment: &BTreeMap<String, String>, host: &Host, port: u16, scheme: Scheme) -> Option<Arc<Via>> {
    let either = |name: &str| {
        let found = environment.get(&name.to_ascii_lowercase()).or_else(|| environment.get(&name.to_ascii_uppercase()));
        found.map(String::as_str).filter(|value| !value.is_empty())
    };
    let url = match scheme {
        Scheme::Https => either("https_proxy"),
        Scheme::Http => either("http_proxy"),
    };
    let via = Via::parse(url.or_else(|| either("all_proxy"))?)?;
    let exceptions: Vec<String> =
        either("no_proxy").unwrap_or("").split([',', ' ']).filter(|e| !e.is_empty()).map(str::to_owned).collect();
    (!is_local(host) && !bypassed(&exceptions, host, port)).then(|| Arc::new(via))
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Name(name) => &**name == "localhost" || name.ends_with(".localhost"),
        Host::Ip(ip) => ip.is_loopback(),
    }
}

/// Does an entry of a `NO_PROXY` list cover the host? `*`; a name and its subdomains, with or without
/// a leading `.` or `*.`; an address or a CIDR; each with an optional `:port`.
fn bypassed(exceptions: &[String], host: &Host, port: u16) -> bool {
    exceptions.iter().any(|entry| covers(entry.trim(), host, port))
}

fn covers(entry: &str, host: &Host, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Host::Ip(ip) = host {
        let bare = entry.trim_matches(['[', ']']);
        return bare.parse::<IpAddr>().is_ok_and(|entry| entry == *ip)
            || parse_cidr(entry).is_some_and(|cidr| cidr.contains(*ip))
            || parse_authority(entry).is_ok_and(|(h, p)| h == *host && p.is_none_or(|p| p == port));
    }
    let name = entry.trim_start_matches("*.").trim_start_matches('.');
    let Ok((Host::Name(name), p)) = parse_authority(name) else { return false };
    let Host::Name(host) = host else { return false };
    let covered = **host == *name || host.strip_suffix(&*name).is_some_and(|front| front.ends_with('.'));
    covered && p.is_none_or(|p| p == port)
}

fn parse_cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    Some(Cidr { address: address.parse().ok()?, prefix: prefix.parse().ok()? })
}

/// Connects to the proxy and asks it for a tunnel to `host:port`.
pub async fn tunnel(
    via: &Via,
    dialer: &Dialer,
    host: &Host,
    port: u16,
    within: Duration,
    limits: &Limits,
) -> Result<Stream, Failure> {
    let name = format!("upstream proxy {}:{}", via.host, via.port);
    let policy = Policy { deny: &[], ruled: true };
    let tcp = dialer.connect(&via.host, via.port, &policy, within).await.map_err(|mut failure| {
        failure.details = format!("{name}: {}", failure.details);
        failure
    })?;
    let mut stream = match via.scheme {
        ViaScheme::Https => secure(tcp, via, limits).await?,
        _ => Stream::Tcp(tcp),
    };
    let asked = async {
        match via.scheme {
            ViaScheme::Socks5 => socks5(&mut stream, via, host, port).await,
            _ => connect(&mut stream, via, host, port).await,
        }
    };
    match timeout(within, asked).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(why)) => {
            Err(Failure::new(Cause::ConnectionRefused, format!("{name} did not open a tunnel to {host}:{port}: {why}")))
        }
        Err(_) => Err(Failure::new(
            Cause::ConnectionTimeout,
            format!("{name} took longer than {within:?} to open a tunnel to {host}:{port}"),
        )),
    }
}

async fn secure(tcp: tokio::net::TcpStream, via: &Via, limits: &Limits) -> Result<Stream, Failure> {
    let failed = |why: String| Failure::new(Cause::TlsProtocol, format!("TLS with upstream proxy {}: {why}", via.host));
    let trust = tls::trust::Trust::system().map_err(|problem| failed(problem.message))?;
    let spec = tls::client::ClientSpec::plain(trust);
    let client = tls::client::Client::build(&spec, limits.tls_sessions).map_err(|problem| failed(problem.message))?;
    match timeout(limits.tls_handshake, client.connect(tcp, &via.host, &[crate::config::Alpn::Http11])).await {
        Ok(secured) => Ok(Stream::Tls(secured?.stream)),
        Err(_) => Err(failed("the handshake took too long".to_owned())),
    }
}

fn password(via: &Via) -> &str {
    match &via.password {
        Some(Text::Known(secret)) => secret.expose(),
        _ => "",
    }
}

/// RFC 9110 §9.3.6. The head is read byte by byte so that nothing behind it is swallowed.
async fn connect(stream: &mut Stream, via: &Via, host: &Host, port: u16) -> Result<(), String> {
    let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(username) = &via.username {
        let pair = zeroize::Zeroizing::new(format!("{username}:{}", password(via)));
        head.push_str(&format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair.as_bytes())));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > 16 * 1024 {
            return Err("its answer is too long".to_owned());
        }
        answer.push(stream.read_u8().await.map_err(|_| "it closed the connection".to_owned())?);
    }
    let line = String::from_utf8_lossy(answer.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        Some("407") => Err("it wants a user name and password (407); put them into its URL".to_owned()),
        _ => Err(format!("it answered `{}`", line.chars().filter(|c| !c.is_control()).take(80).collect::<String>())),
    }
}

/// RFC 1928, and RFC 1929 for the password. Names are resolved by the proxy.
async fn socks5(stream: &mut Stream, via: &Via, host: &Host, port: u16) -> Result<(), String> {
    let io = |e: std::io::Error| e.to_string();
    let method = if via.username.is_some() { 2 } else { 0 };
    stream.write_all(&[5, 1, method]).await.map_err(io)?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.map_err(io)?;
    if answer != [5, method] {
        return Err(if answer[1] == 0xff { "it refuses this way of signing in" } else { "it does not speak SOCKS 5" }.to_owned());
    }
    if let Some(username) = &via.username {
        let (user, secret) = (username.as_bytes(), password(via).as_bytes());
        let sizes = (u8::try_from(user.len()), u8::try_from(secret.len()));
        let (Ok(user_len), Ok(secret_len)) = sizes else {
            return Err("SOCKS 5 takes at most 255 bytes of user name and password".to_owned());
        };
        let message = zeroize::Zeroizing::new([&[1, user_len], user, &[secret_len], secret].concat());
        stream.write_all(&message).await.map_err(io)?;
        stream.read_exact(&mut answer).await.map_err(io)?;
        if answer[1] != 0 {
            return Err("it refuses the user name or password".to_owned());
        }
    }
    let mut request = vec![5, 1, 0];
    match host {
        Host::Ip(IpAddr::V4(ip)) => request.extend([1].into_iter().chain(ip.octets())),
        Host::Ip(IpAddr::V6(ip)) => request.extend([4].into_iter().chain(ip.octets())),
        // A host name has at most 253 bytes.
        Host::Name(name) => request.extend([3, name.len() as u8].into_iter().chain(name.bytes())),
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await.map_err(io)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(io)?;
    if head[1] != 0 {
        return Err(socks5_words(head[1]).to_owned());
    }
    let rest = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await.map_err(io)?),
        _ => return Err("its answer is not SOCKS 5".to_owned()),
    };
    stream.read_exact(&mut vec![0; rest + 2]).await.map_err(io)?;
    Ok(())
}

/// RFC 1928 §6.
fn socks5_words(code: u8) -> &'static str {
    match code {
        2 => "its rules do not allow it",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        _ => "it failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn no_proxy_entries_cover_a_name_and_its_subdomains_only_at_a_dot() {
        for entry in ["example.com", ".example.com", "*.example.com", "EXAMPLE.com", "example.com:443", "*"] {
            assert!(covers(entry, &host("api.example.com"), 443), "{entry}");
        }
        for entry in ["ample.com", "example.com:80", "api.example.co", "", "10.0.0.0/8"] {
            assert!(!covers(entry, &host("api.example.com"), 443), "{entry}");
        }
        assert!(covers("10.0.0.0/8", &host("10.1.2.3"), 443));
        assert!(!covers("10.0.0.0/8", &host("11.1.2.3"), 443));
        assert!(covers("[::1]", &host("[::1]"), 443));
    }

    #[test]
    fn the_environment_chooses_by_scheme_and_spares_loopback() {
        let env =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
        let vars = env(&[("HTTPS_PROXY", "http://u:p%40@proxy.example:3128"), ("no_proxy", "in.example")]);
        let via = from_environment(&vars, &host("a.example"), 443, Scheme::Https).unwrap();
        assert_eq!((via.host.to_string(), via.port, password(&via)), ("proxy.example".to_owned(), 3128, "p@"));
        assert!(from_environment(&vars, &host("a.example"), 80, Scheme::Http).is_none());
        assert!(from_environment(&vars, &host("x.in.example"), 443, Scheme::Https).is_none());
        assert!(from_environment(&vars, &host("localhost"), 443, Scheme::Https).is_none());
        assert!(from_environment(&vars, &host("127.0.0.1"), 443, Scheme::Https).is_none());
    }
}
