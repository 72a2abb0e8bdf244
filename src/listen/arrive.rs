//! From an accepted connection to the mode that serves it: who is there, and what is spoken first.

use std::sync::Arc;

use rustls::server::Acceptor;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;

use super::access::Visitor;
use super::sniff::{self, Spoken};
use super::stream::{Place, Prefixed};
use super::{Connection, Entrance, forward, owner, proxy_protocol, reverse, socks5, transparent};
use crate::config::Mode;
use crate::exchange::{Activity, Transport};
use crate::failure::{Cause, Failure};
use crate::observe::{Counters, Handshake, Kind, Start};
use crate::origin::Host;
use crate::upstream::pulse::keep_alive;

/// Who is there, as far as the connection itself tells. Nothing is read, and nothing waited for.
pub fn meet(entrance: &Entrance, connection: &Connection) -> Visitor {
    match connection {
        Connection::Unix(stream) => Visitor { uid: stream.peer_cred().ok().map(|cred| cred.uid()), ..Visitor::default() },
        Connection::Tcp(stream, peer) => {
            let local = stream.local_addr().ok();
            let asked = entrance.proxy_protocol.is_none() && entrance.wants_uid();
            // Its own end knows a redirected connection by where it wanted to go.
            let to = match entrance.mode {
                _ if !asked => None,
                Mode::Transparent => transparent::original_destination(stream),
                _ => local,
            };
            // Still connected afterwards: else its ports could be another's by now.
            let uid = to.and_then(|to| owner::owner(*peer, to)).filter(|_| stream.peer_addr().is_ok());
            Visitor { address: Some(*peer), local, uid, ..Visitor::default() }
        }
    }
}

pub async fn serve(entrance: Arc<Entrance>, connection: Connection, mut visitor: Visitor, place: Place) {
    let started = Start::now();
    match connection {
        Connection::Unix(stream) => arrive(entrance, Prefixed::accepted(stream, place), visitor).await,
        Connection::Tcp(stream, peer) => {
            let _ = stream.set_nodelay(true);
            // A client that vanished gives its place back.
            keep_alive(&stream, &entrance.context.gate().limits);
            let mut stream = Prefixed::accepted(stream, place);
            if entrance.mode == Mode::Transparent {
                return transparent::serve(entrance, stream, visitor).await;
            }
            if let Some(settings) = &entrance.proxy_protocol {
                let within = entrance.context.gate().limits.first_byte;
                match proxy_protocol::read(&mut stream, peer, settings, within).await {
                    // Where whoever connects may say it, it is a claim.
                    Ok(address) if settings.from.is_empty() => visitor.claimed = Some(address),
                    Ok(address) => visitor.address = Some(address),
                    Err(why) => {
                        let why = format!("a connection from {peer} is refused: {why}");
                        entrance.broke_off(&visitor, started, &Failure::new(Cause::BadRequest, why.clone()));
                        return entrance.context.observe.seldom.warn("connections were refused for their PROXY header", why);
                    }
                }
            }
            arrive(entrance, stream, visitor).await;
        }
    }
}

async fn arrive<S>(entrance: Arc<Entrance>, mut stream: Prefixed<S>, visitor: Visitor)
where
    S: Transport,
{
    let within = entrance.context.gate().limits.first_byte;
    let spoken = tokio::select! {
        spoken = sniff::first(&mut stream, within) => spoken,
        // Nothing was asked yet, so nothing is lost.
        () = entrance.context.last_call() => return,
    };
    match spoken {
        Ok(Some(Spoken::Tls)) => secured(entrance, stream, visitor).await,
        Ok(Some(_)) if entrance.tls().is_some() => in_clear(&entrance, stream, &visitor).await,
        Ok(Some(spoken)) => speak(entrance, stream, visitor, spoken, false).await,
        Ok(None) => tracing::debug!(visitor = %visitor, "a client connected and sent nothing"),
        Err(cause) => tracing::debug!(visitor = %visitor, %cause, "a client went away"),
    }
}

async fn speak<S>(entrance: Arc<Entrance>, stream: S, visitor: Visitor, spoken: Spoken, secure: bool)
where
    S: Transport,
{
    match (entrance.upstream(), spoken) {
        (Some(origin), _) => {
            let h2 = spoken == Spoken::H2;
            let activity = if secure { Activity::new(h2) } else { Activity::in_clear(h2) };
            reverse::serve(entrance, stream, visitor, origin, activity).await;
        }
        (_, Spoken::Socks5) => socks5::serve(entrance, stream, visitor).await,
        _ => forward::serve(entrance, stream, visitor).await,
    }
}

/// TLS to gatepass itself ("https proxy"): with the listener's certificate, else with one that is minted
/// as for any host, so that whoever trusts the CA can keep the passwords of proxy URLs off the wire.
async fn secured<S>(entrance: Arc<Entrance>, stream: Prefixed<S>, visitor: Visitor)
where
    S: Transport,
{
    let gate = entrance.context.gate();
    let reverse = matches!(entrance.mode, Mode::Reverse(_));
    let started = Start::now();
    let handshake = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let named = start.client_hello().server_name().and_then(|name| Host::parse(name).ok());
        let config = match entrance.tls() {
            Some(config) => config,
            None => {
                // A name that is not the listener's gets no certificate that would be believed for it.
                let named = named.clone().filter(|name| !reverse || entrance.is_called(name, &visitor));
                let host =
                    named.unwrap_or_else(|| visitor.local.map_or(localhost(), |local| Host::Ip(local.ip().to_canonical())));
                gate.authority.server_config(&host, reverse).map_err(std::io::Error::other)?
            }
        };
        Ok::<_, std::io::Error>((start.into_stream(config).await?, named))
    };
    match tokio::time::timeout(gate.limits.tls_handshake, handshake).await {
        Ok(Ok((tls, server_name))) => {
            let session = tls.get_ref().1;
            let certified = crate::tls::intercept::server::caller(session.peer_certificates()).map(Into::into);
            let spoken = if session.alpn_protocol() == Some(b"h2") { Spoken::H2 } else { Spoken::Http1 };
            let certified_as = server_name.clone().filter(|name| gate.listener_is_certified(&entrance.name, name));
            let visitor = Visitor { certified, server_name, certified_as, ..visitor };
            speak(entrance, tls, visitor, spoken, true).await;
        }
        Ok(Err(cause)) => unshaken(&entrance, &visitor, started, Handshake::Other, &format!("failed: {cause}")),
        Err(_) => unshaken(&entrance, &visitor, started, Handshake::TimedOut, "took too long"),
    }
}

fn unshaken(entrance: &Entrance, visitor: &Visitor, started: Start, reason: Handshake, how: &str) {
    Counters::add(&entrance.context.observe.counters.handshakes[reason as usize]);
    let why = format!("a caller's TLS handshake with this listener {how}");
    tracing::debug!(%visitor, "{why}");
    entrance.broke_off(visitor, started, &Failure::new(Cause::TlsProtocol, why));
}

impl Entrance {
    fn broke_off(&self, visitor: &Visitor, started: Start, failure: &Failure) {
        self.context.observe.broke_off(Kind::Connection, started, visitor.client(None), None, failure);
    }
}

fn localhost() -> Host {
    Host::Name("localhost".into())
}

/// A password in clear has already been sent; at least it is not answered.
async fn in_clear<S: AsyncWrite + Unpin>(entrance: &Entrance, mut stream: Prefixed<S>, visitor: &Visitor) {
    const ANSWER: &[u8] = b"HTTP/1.1 400 this listener speaks TLS\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: 91\r\n\r\ngatepass: this listener speaks TLS; write the proxy's URL with https:// instead of http://\n";
    let _ = stream.write_all(ANSWER).await;
    let _ = stream.shutdown().await;
    let failure = Failure::new(Cause::BadRequest, "this listener speaks TLS, and the caller does not");
    entrance.context.observe.refused(Kind::Connection, Start::now(), visitor.client(None), None, &failure);
}
