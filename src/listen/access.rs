//! Who may call.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, header};
use zeroize::Zeroizing;

use super::Entrance;
use crate::config::ListenAddress;
use crate::failure::{Cause, Failure};
use crate::gate::{Admission, Caller, LiveAccess};
use crate::observe::Client;
use crate::origin::Host;

/// Who is at the other end of a connection, as far as the connection itself tells.
#[derive(Clone, Default)]
pub struct Visitor {
    /// Behind a load balancer, the address it names.
    pub address: Option<SocketAddr>,
    /// The address that a load balancer tells which nobody named: for the log, and for nothing that is decided.
    pub claimed: Option<SocketAddr>,
    /// Where it came in.
    pub local: Option<SocketAddr>,
    /// Whose process it is, where that is asked for and known.
    pub uid: Option<u32>,
    /// The name in the certificate that it showed to this listener.
    pub certified: Option<Arc<str>>,
    /// What it called this listener in its TLS handshake.
    pub server_name: Option<Host>,
    /// That name, where the listener's own certificate is for it.
    pub certified_as: Option<Host>,
}

/// A user name and a password.
pub type Credentials = (String, Zeroizing<String>);

impl Visitor {
    pub fn caller(&self, user: Option<Arc<str>>) -> Caller {
        Caller { user, address: self.address.map(|address| address.ip()) }
    }

    pub fn client(&self, user: Option<Arc<str>>) -> Client {
        Client { address: self.claimed.or(self.address), user }
    }
}

impl fmt::Display for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.uid) {
            (Some(address), _) => write!(f, "{address}"),
            (None, Some(uid)) => write!(f, "uid {uid}"),
            (None, None) => f.write_str("a local process"),
        }
    }
}

impl Entrance {
    /// Must the caller's user id be looked up?
    pub fn wants_uid(&self) -> bool {
        matches!(self.context.gate().access(&self.name), Admission::Some(access) if access.same_user)
    }

    /// Is it a stranger to a listener that tells its callers apart by address or user id? Strangers have a bound of
    /// their own. Where a load balancer stands in between, or passwords alone count, there are none.
    pub fn is_stranger(&self, visitor: &Visitor) -> bool {
        let gate = self.context.gate();
        match gate.access(&self.name) {
            Admission::Some(access) if self.proxy_protocol.is_none() => {
                let goes_by_it = access.same_user || !access.cidrs.is_empty() || !access.uids.is_empty();
                goes_by_it && by_connection(access, visitor) == (false, false)
            }
            Admission::All => self.unguarded(visitor).is_err(),
            _ => false,
        }
    }

    /// Does it ask for names and passwords?
    pub fn wants_password(&self) -> bool {
        matches!(self.context.gate().access(&self.name), Admission::Some(access) if !access.users.is_empty())
    }

    /// The caller's name, if it has one. One way of being admitted suffices.
    ///
    /// # Errors
    /// 407 when it must say who it is, 403 when it is not among those that may call.
    pub async fn admit(&self, visitor: &Visitor, said: Option<&Credentials>) -> Result<Option<Arc<str>>, Failure> {
        if let Some(name) = &visitor.certified {
            return Ok(Some(name.clone()));
        }
        let gate = self.context.gate();
        let access = match gate.access(&self.name) {
            Admission::All => return self.unguarded(visitor),
            Admission::Some(access) => access,
            Admission::None => {
                return Err(Failure::new(Cause::Denied, "this listener is no longer in the configuration")
                    .hint("restart gatepass to close it"));
            }
        };
        if let Some((user, password)) = said
            && let Some(expected) = access.users.get(user)
        {
            let expected = expected.get().await?;
            if verify_slices_are_equal(expected.expose().as_bytes(), password.as_bytes()).is_ok() {
                return Ok(Some(user.as_str().into()));
            }
        }
        let (by_address, by_uid) = by_connection(access, visitor);
        if by_address || by_uid {
            return Ok(by_uid.then(|| name_of(visitor)).flatten());
        }
        if access.users.is_empty() {
            return Err(Failure::new(Cause::Denied, format!("{visitor} may not call here"))
                .hint("`access:` of the listener says who may"));
        }
        Err(Failure::new(Cause::ProxyAuthentication, "this proxy wants to know who calls")
            .hint("put USER:PASSWORD@ into the proxy URL"))
    }

    /// A Unix socket about which nothing is said is for gatepass's own user, and root.
    fn unguarded(&self, visitor: &Visitor) -> Result<Option<Arc<str>>, Failure> {
        match (&self.name.0, visitor.uid) {
            (ListenAddress::Unix(_), Some(uid)) if uid == own_uid() || uid == 0 => Ok(name_of(visitor)),
            (ListenAddress::Unix(_), _) => Err(Failure::new(Cause::Denied, format!("{visitor} may not call at this socket"))
                .hint("`access: { uids: … }` of the listener says who may")),
            _ => Ok(None),
        }
    }
}

/// Is it among those that may call, by its address, or by the user of its process?
fn by_connection(access: &LiveAccess, visitor: &Visitor) -> (bool, bool) {
    let by_address = visitor.address.is_some_and(|peer| access.cidrs.iter().any(|cidr| cidr.contains(peer.ip())));
    let by_uid = visitor.uid.is_some_and(|uid| access.uids.contains(&uid) || (access.same_user && uid == own_uid()));
    (by_address, by_uid)
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What `clients:` in rules call it.
fn name_of(visitor: &Visitor) -> Option<Arc<str>> {
    visitor.uid.map(|uid| format!("uid:{uid}").into())
}

/// `Proxy-Authorization: Basic` (RFC 7617).
pub fn basic(headers: &HeaderMap) -> Option<Credentials> {
    basic_in(headers, &header::PROXY_AUTHORIZATION)
}

/// The same in a field of that name.
pub fn basic_in(headers: &HeaderMap, name: &HeaderName) -> Option<Credentials> {
    let text = headers.get(name)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = Zeroizing::new(String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?);
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), Zeroizing::new(password.to_owned())))
}
