//! What a client's request says about where it goes, held against where the connection goes.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Version, header};

use crate::failure::{Cause, Failure};
use crate::limits::Limits;
use crate::origin::{Origin, Scheme, parse_authority};
use crate::upstream::unread::Unread;

/// The one place where a request's own words about its destination are judged. In a tunnel they may
/// only agree; outside one, the absolute-form target (RFC 9112 §3.2.2) decides and `Host` may only agree.
/// `before`: where the request before it on this connection went.
///
/// # Errors
/// 400 for what is malformed, 421 for what disagrees.
pub fn check(
    request: &Request<Unread>,
    tunnel: Option<&Arc<Origin>>,
    misdirected: Option<&str>,
    before: impl FnOnce() -> Option<Arc<Origin>>,
) -> Result<Arc<Origin>, Failure> {
    check_framing(request)?;
    let origin = match tunnel {
        Some(origin) => {
            if let Some(name) = misdirected {
                return Err(wrong_host(&format!("the TLS server name {name}"), origin));
            }
            check_target(request, origin)?;
            origin.clone()
        }
        None => match before().filter(|origin| is_named_by_target(request, origin)) {
            Some(origin) => origin,
            None => Arc::new(absolute(request)?),
        },
    };
    check_host(request, &origin)?;
    Ok(origin)
}

/// The target is in absolute form, and of this origin.
fn is_named_by_target(request: &Request<Unread>, origin: &Origin) -> bool {
    let uri = request.uri();
    uri.scheme_str() == Some(origin.scheme.as_str())
        && uri.authority().is_some_and(|authority| origin.is_named_by(authority.as_str()))
}

/// Where a request goes, however it is judged.
pub fn named<B>(request: &Request<B>, tunnel: Option<&Arc<Origin>>) -> Option<Arc<Origin>> {
    tunnel.cloned().or_else(|| absolute(request).ok().map(Arc::new))
}

fn bad(details: impl Into<String>) -> Failure {
    Failure::new(Cause::BadRequest, details)
}

/// hyper takes the last of several Transfer-Encodings and hands all of them on; anything but one
/// plain `chunked` is a way to make two readers disagree (RFC 9112 §6.1, §11.2).
fn check_framing(request: &Request<Unread>) -> Result<(), Failure> {
    let mut encodings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(bad("the request has a Transfer-Encoding other than one plain `chunked`")),
    }
}

/// hyper counts the fields of an HTTP/1 head; those of HTTP/2 are counted here.
///
/// # Errors
/// There are more than are taken.
pub fn check_fields(headers: &HeaderMap, limits: &Limits) -> Result<(), Failure> {
    if headers.len() <= limits.headers {
        return Ok(());
    }
    let details = format!("the request has {} fields, and {} are taken", headers.len(), limits.headers);
    Err(Failure::new(Cause::HeadTooLarge, details).hint("limits.headers sets the bound"))
}

fn absolute<B>(request: &Request<B>) -> Result<Origin, Failure> {
    let uri = request.uri();
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(bad("the request target is not an http or https URL")),
    };
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let (host, port) =
        parse_authority(authority).map_err(|why| bad(format!("the host in the request target is not valid: {why}")))?;
    Ok(Origin::new(scheme, host, port.unwrap_or(scheme.default_port())))
}

/// In a tunnel, a target in absolute form may only agree.
fn check_target(request: &Request<Unread>, origin: &Origin) -> Result<(), Failure> {
    let uri = request.uri();
    if let Some(authority) = uri.authority() {
        agrees("the request's authority", authority.as_str(), origin)?;
    }
    if let Some(scheme) = uri.scheme_str()
        && scheme != origin.scheme.as_str()
    {
        // An h2 `:scheme http` inside TLS would send a TLS client's request on in clear.
        return Err(Failure::new(
            Cause::Misdirected,
            format!("the request says `{scheme}`, but this connection is for {origin}"),
        ));
    }
    Ok(())
}

fn check_host(request: &Request<Unread>, origin: &Origin) -> Result<(), Failure> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(bad("the request has more than one Host")),
        (Some(host), None) => match host.to_str() {
            Ok(host) => agrees("the Host", host, origin),
            Err(_) => Err(bad("the Host is not text")),
        },
        // RFC 9112 §3.2: an HTTP/1.1 request without Host is malformed. HTTP/2 has `:authority`.
        (None, _) if request.version() == Version::HTTP_11 => Err(bad("the request has no Host")),
        (None, _) if request.version() == Version::HTTP_2 && request.uri().authority().is_none() => {
            Err(bad("the request has no :authority"))
        }
        (None, _) => Ok(()),
    }
}

fn agrees(what: &str, text: &str, origin: &Origin) -> Result<(), Failure> {
    if origin.is_named_by(text) {
        return Ok(());
    }
    match parse_authority(text) {
        Err(why) => Err(bad(format!("{what} is not valid: {why}"))),
        Ok(_) => Err(wrong_host(&format!("{what} `{text}`"), origin)),
    }
}

fn wrong_host(said: &str, origin: &Origin) -> Failure {
    Failure::new(Cause::Misdirected, format!("{said} is not where this connection goes ({origin})"))
        .hint("open a connection of its own for each host")
}

/// A CONNECT inside a tunnel is refused unless it is a WebSocket over HTTP/2 (RFC 8441 §4).
///
/// # Errors
/// It is a plain CONNECT.
pub fn check_method(method: &Method, extended: bool) -> Result<(), Failure> {
    if method == Method::CONNECT && !extended {
        return Err(bad("CONNECT inside a tunnel is not carried"));
    }
    Ok(())
}
