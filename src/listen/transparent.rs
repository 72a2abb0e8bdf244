//! Mode transparent: connections that the firewall redirected here. Where they go is asked of the kernel;
//! what the host is called, of the client's own first bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::access::Visitor;
use super::connect::Passage;
use super::sniff::{self, Spoken};
use super::stream::Prefixed;
use super::tunnel::Tunnel;
use super::{Entrance, intercept};
use crate::failure::{Cause, Failure};
use crate::gate::Fate;
use crate::observe::{Counters, Kind, Start};
use crate::origin::{Host, Origin, Scheme, parse_authority};

/// How long a client may keep silent before it is taken for one whose server speaks first (SMTP, MySQL).
const SERVER_FIRST: Duration = Duration::from_millis(500);

pub async fn serve(entrance: Arc<Entrance>, mut stream: Prefixed<TcpStream>, visitor: Visitor) {
    let started = Start::now();
    let observe = &entrance.context.observe;
    let Some(original) = original_destination(stream.get_ref()) else {
        let why =
            "a connection came to the transparent listener that no firewall redirected; clients are not to be pointed at it";
        let failure = Failure::new(Cause::BadRequest, why);
        observe.refused(Kind::Connection, started, visitor.client(None), None, &failure);
        return observe.seldom.warn("connections that no firewall redirected", format!("{visitor}: {why}"));
    };
    let user = match entrance.admit(&visitor, None).await {
        Ok(user) => user,
        Err(failure) => {
            Counters::add(&observe.counters.refused);
            let origin = Origin::new(Scheme::Https, Host::Ip(original.ip()), original.port());
            observe.refused(Kind::Tunnel, started, visitor.client(None), Some(Arc::new(origin)), &failure);
            return tracing::debug!(visitor = %visitor, "a redirected connection is refused: {failure}");
        }
    };
    let named = tokio::select! {
        named = name(&entrance, &mut stream) => named,
        () = entrance.context.last_call() => return,
    };
    let Ok(name) = named else { return };
    // Looked at now, since our own connection is noted a moment after it was accepted.
    let gate = entrance.context.gate();
    if visitor.address.is_some_and(|from| gate.net().dialer.made(from, original)) {
        return tracing::error!(%original, "gatepass's own connection was redirected back to it; exempt the user that gatepass runs as from the redirection");
    }
    let host = name.unwrap_or(Host::Ip(original.ip()));
    let (client, caller) = (visitor.client(user.clone()), visitor.caller(user));
    let tunnel = Tunnel {
        started,
        context: entrance.context.clone(),
        host,
        port: original.port(),
        client,
        caller,
        at: Some(original.ip()),
    };
    // A refusal can be told in HTTP only, once TLS is off.
    let denied = matches!(gate.fate(&tunnel.host, tunnel.port, &tunnel.caller), Fate::Deny(_));
    if denied && !stream.prefix().is_empty() {
        return intercept::serve(stream, tunnel).await;
    }
    match tunnel.open().await {
        Ok(Passage::Relay(upstream, rule)) => tunnel.relay(stream, upstream, rule).await,
        Ok(Passage::Intercept) => intercept::serve(stream, tunnel).await,
        Err(failure) => tracing::debug!(host = %tunnel.host, "a redirected connection is not carried: {failure}"),
    }
}

/// Where the client wanted to go (SO_ORIGINAL_DST). `None` when it wanted to come here.
pub fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let local = stream.local_addr().ok()?;
    let socket = SockRef::from(stream);
    let original = match local.ip().to_canonical().is_ipv4() {
        true => socket.original_dst_v4(),
        false => socket.original_dst_v6(),
    };
    let original = original.ok()?.as_socket()?;
    let original = SocketAddr::new(original.ip().to_canonical(), original.port());
    let here = SocketAddr::new(local.ip().to_canonical(), local.port());
    (original != here).then_some(original)
}

/// The host by the client's first words: the server name in TLS, `Host` in HTTP/1.
///
/// # Errors
/// The client went away.
async fn name(entrance: &Entrance, stream: &mut Prefixed<TcpStream>) -> io::Result<Option<Host>> {
    let limits = &entrance.context.gate().limits;
    let reading = async {
        match sniff::first(stream, SERVER_FIRST).await? {
            Some(Spoken::Tls) => grow(stream, limits.header_bytes, server_name).await,
            Some(Spoken::Http1) => grow(stream, limits.header_bytes, host_field).await,
            _ => Ok(None),
        }
    };
    tokio::time::timeout(limits.first_byte, reading).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// What can be read from the first bytes.
enum Read {
    More,
    Host(Option<Host>),
}

/// Reads on until `read` has what it wants, at most `most` bytes.
async fn grow(stream: &mut Prefixed<TcpStream>, most: usize, read: impl Fn(&[u8]) -> Read) -> io::Result<Option<Host>> {
    loop {
        if let Read::Host(host) = read(stream.prefix()) {
            return Ok(host);
        }
        let wanted = stream.prefix().len() + 1;
        if wanted > most || stream.peek(wanted).await?.len() < wanted {
            return Ok(None);
        }
    }
}

fn server_name(mut bytes: &[u8]) -> Read {
    let mut acceptor = Acceptor::default();
    loop {
        match acceptor.read_tls(&mut bytes) {
            Ok(0) | Err(_) => return Read::More,
            Ok(_) => {}
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                return Read::Host(accepted.client_hello().server_name().and_then(|name| Host::parse(name).ok()));
            }
            Err(_) => return Read::Host(None),
        }
    }
}

/// The one `Host` of a head (RFC 9112 §3.2). What is wrong with it is told when the request is read.
fn host_field(bytes: &[u8]) -> Read {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Read::More };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut hosts = head.split("\r\n").skip(1).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Read::Host(parse_authority(host).ok().map(|(host, _)| host)),
        _ => Read::Host(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(read: Read) -> Option<String> {
        match read {
            Read::Host(Some(host)) => Some(host.to_string()),
            Read::Host(None) => Some("none".to_owned()),
            Read::More => None,
        }
    }

    #[test]
    fn a_head_names_one_host() {
        let named = |text: &str| host(host_field(text.as_bytes()));
        assert_eq!(named("GET / HTTP/1.1\r\nhOst: a.test:80\r\n\r\n").as_deref(), Some("a.test"));
        assert_eq!(named("GET / HTTP/1.1\r\nHost: a.test\r\n"), None);
        for bad in
            ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"]
        {
            assert_eq!(named(bad).as_deref(), Some("none"), "{bad}");
        }
    }

    #[test]
    fn a_client_hello_names_its_server_however_it_is_cut() {
        let roots = rustls::RootCertStore::empty();
        let config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = rustls::ClientConnection::new(Arc::new(config), "a.test".try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut hello).unwrap();
        }
        assert_eq!(host(server_name(&hello)).as_deref(), Some("a.test"));
        for cut in [1, 5, 100, hello.len() - 1] {
            assert_eq!(host(server_name(&hello[..cut])), None, "{cut}");
        }
        assert_eq!(host(server_name(b"\x16\x03\x01\x00\x05hello")).as_deref(), Some("none"));
    }
}
