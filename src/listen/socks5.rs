//! SOCKS 5 (RFC 1928) with and without a password (RFC 1929). CONNECT only: gatepass carries HTTP, and relays
//! the rest.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::access::{Credentials, Visitor};
use super::connect::Passage;
use super::stream::Prefixed;
use super::tunnel::Tunnel;
use super::{Entrance, intercept};
use crate::exchange::Transport;
use crate::failure::{Cause, Failure};
use crate::observe::{Counters, Kind, Start};
use crate::origin::{Host, Origin, Scheme};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;

/// Replies of RFC 1928 §6.
mod reply {
    pub const SUCCEEDED: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const NOT_ALLOWED: u8 = 2;
    pub const HOST_UNREACHABLE: u8 = 4;
    pub const REFUSED: u8 = 5;
    pub const COMMAND_NOT_SUPPORTED: u8 = 7;
    pub const ADDRESS_NOT_SUPPORTED: u8 = 8;
}

/// Why a connection is not carried on, for the log.
type Refusal = String;

/// The same, and where it would have gone, if it came to say so.
type Refused = (Failure, Option<(Host, u16)>);

pub async fn serve<S>(entrance: Arc<Entrance>, mut stream: S, visitor: Visitor)
where
    S: Transport,
{
    let started = Start::now();
    let within = entrance.context.gate().limits.request_head;
    let asked = tokio::select! {
        asked = tokio::time::timeout(within, negotiate(&entrance, &mut stream, &visitor, started)) => asked,
        () = entrance.context.last_call() => return,
    };
    let tunnel = match asked {
        Ok(Ok(tunnel)) => tunnel,
        Ok(Err(refused)) => return turn_away(&entrance, &visitor, started, refused),
        Err(_) => {
            let failure = Failure::new(Cause::RequestTimeout, "a SOCKS client took too long to ask");
            return turn_away(&entrance, &visitor, started, (failure, None));
        }
    };
    match tunnel.open().await {
        Err(failure) => {
            tracing::debug!(visitor = %visitor, "a SOCKS client is refused: {failure}");
            let _ = answer(&mut stream, code(&failure)).await;
        }
        Ok(passage) => {
            if answer(&mut stream, reply::SUCCEEDED).await.is_err() {
                return tunnel
                    .broke_off(&Failure::new(Cause::ConnectionTerminated, "the client went away before it used the tunnel"));
            }
            match passage {
                Passage::Relay(upstream, rule) => tunnel.relay(stream, upstream, rule).await,
                Passage::Intercept => intercept::serve(Prefixed::new(bytes::Bytes::new(), stream), tunnel).await,
            }
        }
    }
}

fn turn_away(entrance: &Entrance, visitor: &Visitor, started: Start, (failure, asked): Refused) {
    let observe = &entrance.context.observe;
    if matches!(failure.cause, Cause::Denied | Cause::ProxyAuthentication) {
        Counters::add(&observe.counters.refused);
    }
    let origin = asked.map(|(host, port)| Arc::new(Origin::new(Scheme::Https, host, port)));
    let kind = if origin.is_some() { Kind::Tunnel } else { Kind::Connection };
    observe.refused(kind, started, visitor.client(None), origin, &failure);
    tracing::debug!(%visitor, "a SOCKS client is refused: {failure}");
}

async fn negotiate<S>(entrance: &Entrance, stream: &mut S, visitor: &Visitor, started: Start) -> Result<Tunnel, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let wrong = |why: Refusal| (Failure::new(Cause::BadRequest, format!("a SOCKS client is refused: {why}")), None);
    let broken = |_| wrong("it went away".to_owned());
    let [version, count] = read::<2, _>(stream).await.map_err(wrong)?;
    if version != VERSION {
        return Err(wrong(format!("it speaks version {version}")));
    }
    let mut methods = vec![0; usize::from(count)];
    stream.read_exact(&mut methods).await.map_err(broken)?;
    let offered = |method| methods.contains(&method);
    // A password that nobody asked for is taken all the same: it may tell callers apart.
    let method = match (entrance.wants_password(), offered(NO_AUTHENTICATION), offered(PASSWORD)) {
        (true, _, true) | (false, false, true) => PASSWORD,
        (_, true, _) => NO_AUTHENTICATION,
        _ => NO_ACCEPTABLE_METHOD,
    };
    stream.write_all(&[VERSION, method]).await.map_err(broken)?;
    if method == NO_ACCEPTABLE_METHOD {
        return Err(wrong("it offers neither a password nor to go without".to_owned()));
    }
    let said = if method == PASSWORD { Some(password(stream).await.map_err(wrong)?) } else { None };
    let admitted = entrance.admit(visitor, said.as_ref()).await;
    if method == PASSWORD {
        stream.write_all(&[1, u8::from(admitted.is_err())]).await.map_err(broken)?;
    }
    let user = match admitted {
        Ok(user) => user,
        Err(failure) => {
            let mut asked = None;
            if method == NO_AUTHENTICATION {
                asked = request(stream).await.ok();
                let _ = answer(stream, reply::NOT_ALLOWED).await;
            }
            return Err((failure, asked));
        }
    };
    match request(stream).await {
        Ok((host, port)) => {
            if let Host::Ip(ip) = &host {
                tracing::debug!(visitor = %visitor, %ip, "a SOCKS client named an address: only rules for addresses apply; with socks5h:// it names the host");
            }
            let (client, caller) = (visitor.client(user.clone()), visitor.caller(user));
            Ok(Tunnel { started, context: entrance.context.clone(), host, port, client, caller, at: None })
        }
        Err((code, why)) => {
            let _ = answer(stream, code).await;
            Err(wrong(why))
        }
    }
}

/// RFC 1929 §2.
async fn password<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Credentials, Refusal> {
    let [version] = read::<1, _>(stream).await?;
    if version != 1 {
        return Err("its password has an unknown form".to_owned());
    }
    let user = Zeroizing::new(counted(stream).await?);
    let password = Zeroizing::new(counted(stream).await?);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| "its password is not UTF-8".to_owned());
    Ok((text(&user)?, Zeroizing::new(text(&password)?)))
}

/// The destination (RFC 1928 §4), or the reply and why.
async fn request<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(Host, u16), (u8, Refusal)> {
    let failed = |why: Refusal| (reply::FAILED, why);
    let [version, command, _, kind] = read::<4, _>(stream).await.map_err(failed)?;
    if version != VERSION {
        return Err(failed("its request has another version".to_owned()));
    }
    let host = match kind {
        1 => Host::Ip(Ipv4Addr::from(read::<4, _>(stream).await.map_err(failed)?).into()),
        4 => Host::Ip(Ipv6Addr::from(read::<16, _>(stream).await.map_err(failed)?).into()),
        3 => {
            let name = counted(stream).await.map_err(failed)?;
            let text = String::from_utf8_lossy(&name);
            // Some clients write addresses as names.
            let host = text.parse().map(Host::Ip).or_else(|_| Host::parse(&text));
            host.map_err(|why| failed(format!("it names no host: {why}")))?
        }
        _ => return Err((reply::ADDRESS_NOT_SUPPORTED, "its address has an unknown form".to_owned())),
    };
    let port = u16::from_be_bytes(read::<2, _>(stream).await.map_err(failed)?);
    match command {
        1 if port > 0 => Ok((host, port)),
        1 => Err(failed("it names port 0".to_owned())),
        _ => Err((reply::COMMAND_NOT_SUPPORTED, "only CONNECT is served, neither BIND nor UDP".to_owned())),
    }
}

async fn read<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.map_err(|_| "it went away".to_owned())?;
    Ok(bytes)
}

/// A byte that counts, and as many bytes.
async fn counted<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, Refusal> {
    let [length] = read::<1, _>(stream).await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.map_err(|_| "it went away".to_owned())?;
    Ok(bytes)
}

/// The bound address is nobody's business; all zeros are customary.
async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, code: u8) -> std::io::Result<()> {
    stream.write_all(&[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    stream.flush().await
}

fn code(failure: &Failure) -> u8 {
    match failure.cause {
        Cause::Denied | Cause::AddressProhibited | Cause::Loop => reply::NOT_ALLOWED,
        Cause::Dns | Cause::DnsTimeout | Cause::ConnectionTimeout => reply::HOST_UNREACHABLE,
        Cause::ConnectionRefused => reply::REFUSED,
        _ => reply::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(bytes: &[u8]) -> Result<(String, u16), u8> {
        request(&mut &bytes[..]).await.map(|(host, port)| (host.to_string(), port)).map_err(|(code, _)| code)
    }

    #[tokio::test]
    async fn requests_name_a_host_in_each_form() {
        assert_eq!(asked(&[5, 1, 0, 1, 192, 0, 2, 1, 1, 187]).await, Ok(("192.0.2.1".to_owned(), 443)));
        assert_eq!(asked(b"\x05\x01\x00\x03\x06a.test\x00\x50").await, Ok(("a.test".to_owned(), 80)));
        assert_eq!(asked(b"\x05\x01\x00\x03\x09127.0.0.1\x00\x50").await, Ok(("127.0.0.1".to_owned(), 80)));
        let v6 = [&[5, 1, 0, 4][..], &[0; 15], &[1, 0, 80]].concat();
        assert_eq!(asked(&v6).await, Ok(("[::1]".to_owned(), 80)));
    }

    #[tokio::test]
    async fn what_is_not_a_connect_to_a_host_is_refused_by_its_code() {
        assert_eq!(asked(b"\x05\x02\x00\x03\x06a.test\x00\x50").await, Err(reply::COMMAND_NOT_SUPPORTED));
        assert_eq!(asked(b"\x05\x03\x00\x03\x06a.test\x00\x50").await, Err(reply::COMMAND_NOT_SUPPORTED));
        assert_eq!(asked(b"\x05\x01\x00\x09\x06a.test\x00\x50").await, Err(reply::ADDRESS_NOT_SUPPORTED));
        assert_eq!(asked(b"\x05\x01\x00\x03\x06a test\x00\x50").await, Err(reply::FAILED));
        assert_eq!(asked(b"\x05\x01\x00\x03\x06a.test\x00\x00").await, Err(reply::FAILED));
        assert_eq!(asked(b"\x05\x01\x00\x03\x06a.t").await, Err(reply::FAILED));
        assert_eq!(asked(b"\x04\x01\x00\x03\x06a.test\x00\x50").await, Err(reply::FAILED));
    }
}
