//! From a host and a port to a connected socket: resolve, check each address, connect, or go by way
//! of an upstream proxy. The address that was checked is the address that is dialled.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::Ground;
use super::pac::Pac;
use super::proxy::Proxy;
use super::resolve::Resolver;
use crate::config::{EgressDeny, PacSource, Via};
use crate::failure::{Cause, Failure, Retry};
use crate::origin::Host;
use crate::tls::Problem;
use crate::tls::client::ClientSpec;

/// RFC 8305 §5: how long one address may keep the next waiting.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What dialling needs to know besides the goal. One for the process.
pub struct Dialer {
    /// gatepass's own listeners, once they are bound; never dialled.
    own: ArcSwap<Vec<SocketAddr>>,
    /// Proxy variables as they stood at the start, for `upstream_proxy: env`.
    pub environment: BTreeMap<String, String>,
    /// The last connections made, both ends, once [`Dialer::remember`] was called.
    made: OnceLock<Mutex<VecDeque<(SocketAddr, SocketAddr)>>>,
    /// Upstream proxies by all that makes one differ from another, shared by the ways out: what one of them asks for
    /// is asked once.
    proxies: Mutex<HashMap<ProxyKey, Arc<Proxy>>>,
    /// PAC scripts, in the same way.
    scripts: Mutex<HashMap<(Arc<PacSource>, Option<ClientSpec>), Arc<Pac>>>,
    pub(super) resolver: Resolver,
}

type ProxyKey = (Arc<Via>, Option<ClientSpec>);

/// A connection that comes back to a transparent listener does so at once.
const REMEMBERED: usize = 1024;

impl Dialer {
    pub fn new(environment: BTreeMap<String, String>) -> Arc<Self> {
        Arc::new(Self {
            own: ArcSwap::default(),
            environment,
            made: OnceLock::new(),
            proxies: Mutex::default(),
            scripts: Mutex::default(),
            resolver: Resolver::default(),
        })
    }

    /// The proxy that this is, made when first asked for; those that no way out uses any more are let go.
    pub(super) fn proxy(&self, via: Arc<Via>, tls: Option<ClientSpec>, sessions: usize) -> Result<Arc<Proxy>, Problem> {
        let mut proxies = self.proxies.lock().unwrap_or_else(|e| e.into_inner());
        let key = (via, tls);
        if let Some(proxy) = proxies.get(&key) {
            return Ok(proxy.clone());
        }
        proxies.retain(|_, proxy| Arc::strong_count(proxy) > 1);
        let proxy = Arc::new(Proxy::new(key.0.clone(), key.1.as_ref(), sessions)?);
        proxies.insert(key, proxy.clone());
        Ok(proxy)
    }

    /// The script that this is, with all that is known of it.
    pub fn pac(&self, source: Arc<PacSource>, tls: Option<ClientSpec>) -> Arc<Pac> {
        let mut scripts = self.scripts.lock().unwrap_or_else(|e| e.into_inner());
        scripts.retain(|key, pac| Arc::strong_count(pac) > 1 || key.0 == source);
        scripts.entry((source, tls)).or_insert_with_key(|(source, tls)| Arc::new(Pac::new(source.clone(), tls.clone()))).clone()
    }

    pub fn own_listeners(&self, addresses: Vec<SocketAddr>) {
        self.own.store(Arc::new(addresses));
    }

    /// Remember connections from now on, for [`Dialer::made`].
    pub fn remember(&self) {
        let _ = self.made.set(Mutex::default());
    }

    /// Did we make this connection ourselves, lately? A firewall that redirects gatepass's own connections to
    /// its transparent listener would have it talk to itself for ever.
    pub fn made(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let Some(made) = self.made.get() else { return false };
        made.lock().unwrap_or_else(|e| e.into_inner()).contains(&(from, to))
    }

    fn note(&self, stream: &TcpStream) {
        let Some(made) = self.made.get() else { return };
        let (Ok(from), Ok(to)) = (stream.local_addr(), stream.peer_addr()) else { return };
        let mut made = made.lock().unwrap_or_else(|e| e.into_inner());
        if made.len() == REMEMBERED {
            made.pop_front();
        }
        made.push_back((from, to));
    }

    /// Resolves and connects within `limits.connect`.
    ///
    /// # Errors
    /// Each way this can fail has its own [`Cause`]; the details name the goal.
    pub async fn connect(&self, host: &Host, port: u16, policy: &Policy<'_>, ground: &Ground) -> Result<TcpStream, Failure> {
        let within = ground.limits.connect;
        let deadline = Instant::now() + within;
        let addresses = self.resolver.find(host, port, &ground.resolve, &ground.limits, deadline, within).await?;
        let allowed = self.allowed(host, addresses, policy)?;
        let stream = match timeout_at(deadline, race(allowed.clone())).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(cause)) => {
                self.resolver.forget(host);
                return Err(not_connected(host, port, &allowed, &cause));
            }
            Err(_) => {
                self.resolver.forget(host);
                return Err(Failure::new(
                    Cause::ConnectionTimeout,
                    format!("connecting to {} took longer than {within:?}", goal(host, port, &allowed)),
                )
                .hint("limits.connect sets the bound"));
            }
        };
        self.note(&stream);
        self.refuse_loop(&stream, host, port)?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn allowed(&self, host: &Host, addresses: Vec<SocketAddr>, policy: &Policy<'_>) -> Result<Vec<SocketAddr>, Failure> {
        let mut refused = None;
        let allowed: Vec<_> = addresses
            .into_iter()
            .filter(|address| match policy.refuses(address.ip()) {
                None => true,
                Some(reason) => {
                    refused = Some((address.ip(), reason));
                    false
                }
            })
            .collect();
        match refused {
            Some((ip, reason)) if allowed.is_empty() => {
                Err(Failure::new(Cause::AddressProhibited, format!("{host} is at {ip}, which {}", reason.sentence()))
                    .hint(reason.mend(host)))
            }
            _ => Ok(allowed),
        }
    }

    /// The connection must not have reached ourselves: looked at on the socket itself, so that no
    /// spelling, alias or wildcard bind can hide it.
    fn refuse_loop(&self, stream: &TcpStream, host: &Host, port: u16) -> Result<(), Failure> {
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return Ok(()) };
        let (peer_ip, local_ip) = (peer.ip().to_canonical(), local.ip().to_canonical());
        let own = self.own.load();
        let reached_self = own.iter().any(|listener| {
            let ip = listener.ip().to_canonical();
            listener.port() == peer.port() && (ip == peer_ip || (ip.is_unspecified() && peer_ip == local_ip))
        });
        if !reached_self {
            return Ok(());
        }
        Err(Failure::new(Cause::Loop, format!("{host}:{port} is gatepass itself"))
            .hint("name the server behind it, not the proxy, or take the host out of the rules"))
    }
}

/// Which addresses may be dialled.
pub struct Policy<'a> {
    /// `egress: { deny: … }`.
    pub deny: &'a [EgressDeny],
    /// True when a rule names the host: then link-local and metadata addresses are allowed.
    pub ruled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// `egress: deny` names it.
    Egress,
    /// Link-local or cloud metadata, and no rule names the host.
    Metadata,
}

impl Refusal {
    fn sentence(self) -> &'static str {
        match self {
            Refusal::Egress => "`egress: deny` refuses",
            Refusal::Metadata => "is a link-local or cloud metadata address",
        }
    }

    fn mend(self, host: &Host) -> String {
        match self {
            Refusal::Egress => "change `egress: { deny: … }` if it should be reached".to_owned(),
            Refusal::Metadata => {
                format!("only a host that a rule names may be there; add a rule for {host} if it should be reached")
            }
        }
    }
}

impl Policy<'_> {
    pub fn refuses(&self, ip: IpAddr) -> Option<Refusal> {
        let ip = unwrap_v4(ip);
        if self.deny.iter().any(|deny| deny_covers(deny, ip)) {
            return Some(Refusal::Egress);
        }
        (!self.ruled && is_metadata(ip)).then_some(Refusal::Metadata)
    }
}

fn deny_covers(deny: &EgressDeny, ip: IpAddr) -> bool {
    match deny {
        EgressDeny::Loopback => ip.is_loopback() || ip.is_unspecified(),
        EgressDeny::LinkLocal => is_link_local(ip),
        EgressDeny::Private => match ip {
            IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
            IpAddr::V6(v6) => v6.segments()[0] & 0xfe00 == 0xfc00,
        },
        EgressDeny::Cidr(cidr) => cidr.contains(ip),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// Link-local, and the metadata services that live elsewhere (AWS over IPv6, Alibaba).
fn is_metadata(ip: IpAddr) -> bool {
    const AWS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    is_link_local(ip) || ip == IpAddr::V6(AWS_V6) || ip == IpAddr::V4(ALIBABA)
}

/// The IPv4 address inside a mapped (`::ffff:…`), NAT64 (`64:ff9b::…`) or 6to4 (`2002:…`) address.
fn unwrap_v4(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let s = v6.segments();
    let quad = |a: u16, b: u16| IpAddr::V4(Ipv4Addr::from((u32::from(a) << 16) | u32::from(b)));
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] => quad(a, b),
        [0x2002, a, b, ..] => quad(a, b),
        [0, 0, 0, 0, 0, 0, a, b] if a != 0 => quad(a, b),
        _ => ip.to_canonical(),
    }
}

/// Happy eyeballs (RFC 8305 §5): the next address starts when the one before fails or dawdles; the first to connect wins.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [only] = addresses[..] {
        return TcpStream::connect(only).await;
    }
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    running.extend(waiting.next().map(TcpStream::connect));
    loop {
        tokio::select! {
            done = running.next() => match done {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(cause)) => {
                    last = cause;
                    running.extend(waiting.next().map(TcpStream::connect));
                }
                None => return Err(last),
            },
            () = sleep(ATTEMPT_DELAY), if waiting.len() > 0 => running.extend(waiting.next().map(TcpStream::connect)),
        }
    }
}

fn goal(host: &Host, port: u16, addresses: &[SocketAddr]) -> String {
    match (host, addresses) {
        (Host::Name(name), [only]) => format!("{name}:{port} ({})", only.ip()),
        (Host::Name(name), _) => format!("{name}:{port} ({} addresses)", addresses.len()),
        (ip, _) => format!("{ip}:{port}"),
    }
}

fn not_connected(host: &Host, port: u16, addresses: &[SocketAddr], cause: &io::Error) -> Failure {
    let goal = goal(host, port, addresses);
    let (kind, why) = match cause.kind() {
        io::ErrorKind::ConnectionRefused => (Cause::ConnectionRefused, "nothing listens there".to_owned()),
        io::ErrorKind::TimedOut => (Cause::ConnectionTimeout, "no answer".to_owned()),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            (Cause::ConnectionRefused, "no route to it".to_owned())
        }
        _ => (Cause::ConnectionRefused, cause.to_string()),
    };
    Failure::new(kind, format!("cannot connect to {goal}: {why}")).retry(Retry::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(ip: &str, ruled: bool) -> bool {
        Policy { deny: &[], ruled }.refuses(ip.parse().unwrap()).is_some()
    }

    #[test]
    fn metadata_addresses_are_refused_in_every_spelling_unless_a_rule_names_the_host() {
        for ip in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "::a9fe:a9fe",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
        ] {
            assert!(refused(ip, false), "{ip}");
            assert!(!refused(ip, true), "{ip}");
        }
        for ip in ["127.0.0.1", "::1", "10.0.0.1", "192.0.2.1", "2001:db8::1"] {
            assert!(!refused(ip, false), "{ip}");
        }
    }

    #[test]
    fn egress_deny_is_checked_on_the_address() {
        let deny = [EgressDeny::Private, EgressDeny::LinkLocal, EgressDeny::Loopback];
        let policy = Policy { deny: &deny, ruled: true };
        for ip in
            ["10.1.2.3", "192.168.0.1", "172.16.0.1", "127.0.0.1", "::1", "fd12::1", "fe80::1", "::ffff:10.0.0.1", "0.0.0.0"]
        {
            assert_eq!(policy.refuses(ip.parse().unwrap()), Some(Refusal::Egress), "{ip}");
        }
        assert_eq!(policy.refuses("192.0.2.1".parse().unwrap()), None);
    }
}
