//! Inside a tunnel that a rule may speak of: the first bytes tell what is spoken there.

use std::sync::Arc;

use rustls::server::Acceptor;
use tokio_rustls::LazyConfigAcceptor;

use super::serve_http;
use super::sniff::{self, Spoken};
use super::stream::Prefixed;
use super::tunnel::Tunnel;
use crate::exchange::{Activity, Session, Transport};
use crate::failure::{Cause, Failure};
use crate::gate::Fate;
use crate::observe::{Counters, Handshake};
use crate::origin::{Host, Scheme};

pub async fn serve<S>(mut stream: Prefixed<S>, tunnel: Tunnel)
where
    S: Transport,
{
    let limits = tunnel.context.gate().limits.clone();
    let spoken = tokio::select! {
        first = sniff::first(&mut stream, limits.first_byte) => match first {
            Ok(Some(spoken)) => spoken,
            Ok(None) => return tunnel.broke_off(&gone("the client opened a tunnel and sent nothing")),
            Err(cause) => return tunnel.broke_off(&gone(format!("the client went away before it used the tunnel: {cause}"))),
        },
        // Nothing was asked yet, so nothing is lost.
        () = tunnel.context.last_call() => return,
    };
    match spoken {
        Spoken::Tls => tls(stream, tunnel).await,
        Spoken::H2 => clear(stream, tunnel, true).await,
        Spoken::Http1 => clear(stream, tunnel, false).await,
        _ if stream.prefix().is_empty() => tunnel.broke_off(&gone("the client opened a tunnel and sent nothing")),
        _ => {
            let why = "what the client sends is neither TLS nor HTTP, and a rule speaks of this host";
            tunnel.broke_off(&Failure::new(Cause::BadRequest, why).hint("a rule with `action: tunnel` lets it pass"));
            tracing::warn!(host = %tunnel.host, port = tunnel.port, "a rule speaks of this host, but what the client sends is neither TLS nor HTTP; closed (a rule with `action: tunnel` lets it pass)");
        }
    }
}

async fn tls<S>(stream: Prefixed<S>, tunnel: Tunnel)
where
    S: Transport,
{
    let gate = tunnel.context.gate();
    let limits = gate.limits.clone();
    let origin = tunnel.origin(Scheme::Https);
    let plan = gate.plan(&origin, &tunnel.caller);
    if let Fate::Tunnel(rule) = plan.fate(&gate) {
        return blindly(stream, tunnel, rule).await;
    }
    let handshake = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let name = start.client_hello().server_name().map(str::to_owned);
        // The leaf is for the name the client expects, so that it can read the 421.
        let asked = name.as_deref().and_then(|name| Host::parse(name).ok());
        let leaf = asked.as_ref().unwrap_or(&tunnel.host);
        let config = gate.authority.server_config(leaf, plan.h2).map_err(std::io::Error::other)?;
        let wrong = name.filter(|_| asked.as_ref() != Some(&tunnel.host));
        Ok::<_, std::io::Error>((start.into_stream(config).await?, wrong))
    };
    let (stream, wrong_name) = match tokio::time::timeout(limits.tls_handshake, handshake).await {
        Ok(Ok(done)) => done,
        Ok(Err(cause)) => return untrusting(&tunnel, &cause),
        Err(_) => return unshaken(&tunnel, Handshake::TimedOut, "the client's TLS handshake took too long".to_owned()),
    };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let Tunnel { context, client, caller, .. } = tunnel;
    let mut session = Session::new(context.clone(), client, caller, Some(origin), Activity::new(h2));
    if let Some(name) = wrong_name {
        session = session.misdirected(&name);
    }
    serve_http::intercepted(stream, session, &context, &limits, h2).await;
}

/// A client that refuses our certificate mostly hides why; this is the place that knows.
fn untrusting(tunnel: &Tunnel, cause: &std::io::Error) {
    use rustls::{AlertDescription as A, Error};
    let host = &tunnel.host;
    let tls = cause.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::AlertReceived(A::UnknownCA | A::BadCertificate | A::CertificateUnknown | A::UnsupportedCertificate)) => {
            let renewed = match tunnel.context.gate().authority.previous() {
                Some(old) => format!(" (renewed; it may still trust only the one before, {})", old.fingerprint_text()),
                None => String::new(),
            };
            let why = format!(
                "the client does not trust gatepass's CA for {host}{renewed}; start it with `gatepass exec`, or give it the file that `gatepass ca path` names"
            );
            unshaken(tunnel, Handshake::Untrusted, why);
        }
        None if cause.kind() == std::io::ErrorKind::UnexpectedEof => {
            let why = format!(
                "the client hung up during the TLS handshake for {host}; it probably does not trust gatepass's CA (`gatepass ca path`)"
            );
            unshaken(tunnel, Handshake::HungUp, why);
        }
        _ => unshaken(tunnel, Handshake::Other, format!("the client's TLS handshake for {host} failed: {cause}")),
    }
}

/// Counted, recorded, and said as often as can be read: whoever does not trust the CA tries again and again.
fn unshaken(tunnel: &Tunnel, reason: Handshake, why: String) {
    let observe = &tunnel.context.observe;
    Counters::add(&observe.counters.handshakes[reason as usize]);
    tunnel.broke_off(&Failure::new(Cause::TlsProtocol, why.clone()));
    match reason {
        Handshake::Untrusted | Handshake::HungUp => observe.seldom.warn("TLS handshakes by clients failed", why),
        Handshake::TimedOut | Handshake::Other => tracing::debug!(host = %tunnel.host, "{why}"),
    }
}

fn gone(why: impl Into<String>) -> Failure {
    Failure::new(Cause::ConnectionTerminated, why)
}

/// HTTP in clear inside a tunnel. When no rule speaks of it in clear, it passes blindly, or is refused in HTTP.
async fn clear<S>(stream: Prefixed<S>, tunnel: Tunnel, h2: bool)
where
    S: Transport,
{
    let gate = tunnel.context.gate();
    let origin = tunnel.origin(Scheme::Http);
    if let Fate::Tunnel(rule) = gate.plan(&origin, &tunnel.caller).fate(&gate) {
        return blindly(stream, tunnel, rule).await;
    }
    let limits = gate.limits.clone();
    let Tunnel { context, client, caller, .. } = tunnel;
    let session = Session::new(context.clone(), client, caller, Some(origin), Activity::in_clear(h2));
    serve_http::intercepted(stream, session, &context, &limits, h2).await;
}

/// A rule speaks of the host, but not of what is spoken here.
async fn blindly<S>(stream: Prefixed<S>, tunnel: Tunnel, rule: Option<Arc<str>>)
where
    S: Transport,
{
    let rule = rule.unwrap_or_else(|| "-".into());
    match tunnel.dial().await {
        Ok(upstream) => tunnel.relay(stream, upstream, rule).await,
        Err(failure) => tunnel.record(rule, None, None, Some(&failure)),
    }
}
