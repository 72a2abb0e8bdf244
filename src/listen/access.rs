//! Who may call.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, header};

use crate::config::ListenAddress;
use crate::exchange::Context;
use crate::failure::{Cause, Failure};
use crate::gate::Admission;

/// The caller's name, if it has to have one.
///
/// # Errors
/// 407 when it must say who it is, 403 when its address is not among those that may call.
pub async fn check(
    context: &Context,
    listener: &ListenAddress,
    peer: SocketAddr,
    headers: &HeaderMap,
) -> Result<Option<Arc<str>>, Failure> {
    let gate = context.gate();
    let access = match gate.access(listener) {
        Admission::All => return Ok(None),
        Admission::Some(access) => access,
        Admission::None => {
            return Err(Failure::new(Cause::Denied, "this listener is no longer in the configuration")
                .hint("restart gatepass to close it"));
        }
    };
    if let Some((user, password)) = basic(headers)
        && let Some(expected) = access.users.get(&user)
    {
        let expected = expected.ready().await?;
        if verify_slices_are_equal(expected.expose().as_bytes(), password.as_bytes()).is_ok() {
            return Ok(Some(user.into()));
        }
    }
    if access.cidrs.iter().any(|cidr| cidr.contains(peer.ip())) {
        return Ok(None);
    }
    if access.users.is_empty() {
        return Err(Failure::new(Cause::Denied, format!("{} may not call here", peer.ip()))
            .hint("`access: { cidrs: … }` of the listener says who may"));
    }
    Err(Failure::new(Cause::ProxyAuthentication, "this proxy wants to know who calls")
        .hint("put USER:PASSWORD@ into the proxy URL"))
}

/// RFC 7617.
fn basic(headers: &HeaderMap) -> Option<(String, zeroize::Zeroizing<String>)> {
    let text = headers.get(header::PROXY_AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = zeroize::Zeroizing::new(String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?);
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), zeroize::Zeroizing::new(password.to_owned())))
}
