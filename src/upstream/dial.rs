//! From a host and a port to a connected socket: resolve, check each address, connect, or go by way
//! of an upstream proxy. The address that was checked is the address that is dialled.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::NetEnv;
use super::pac::Pac;
use super::proxy::Proxy;
use super::resolve::Resolver;
use crate::address::{self, Special};
use crate::failure::{Cause, Failure, Retry};
use crate::origin::Host;
use crate::provided::SecretRef;
use crate::settings::Text;
use crate::tls::Problem;
use crate::tls::out::client_spec::ClientSpec;
use crate::upstream::settings::{EgressDeny, PacSource, Via};

/// RFC 8305 §5: how long one address may keep the next waiting.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What dialling needs to know besides the goal. One for the process.
pub struct Dialer {
    /// gatepass's own listeners, once they are bound; never dialled.
    own: ArcSwap<Vec<SocketAddr>>,
    /// Proxy variables as they stood at the start, for `upstream_proxy: env`.
    pub environment: BTreeMap<String, String>,
    /// How the passwords of upstream proxies are had: what fetches secrets stands above, and may go by a way out itself.
    secrets: fn(Text) -> SecretRef,
    /// The last connections made, both ends, once [`Dialer::remember`] was called.
    made: OnceLock<Mutex<VecDeque<(SocketAddr, SocketAddr)>>>,
    /// Upstream proxies by all that makes one differ from another, shared by the ways out: what one of them asks for
    /// is asked once.
    proxies: Mutex<HashMap<ProxyKey, Arc<Proxy>>>,
    /// PAC scripts, in the same way.
    scripts: Mutex<HashMap<(Arc<PacSource>, Option<ClientSpec>), Arc<Pac>>>,
    pub(super) resolver: Resolver,
}

type ProxyKey = (Arc<Via>, Option<ClientSpec>, bool);

/// A connection that comes back to a transparent listener does so at once.
const REMEMBERED: usize = 1024;

impl Dialer {
    pub fn new(environment: BTreeMap<String, String>, secrets: fn(Text) -> SecretRef) -> Arc<Self> {
        Arc::new(Self {
            own: ArcSwap::default(),
            environment,
            secrets,
            made: OnceLock::new(),
            proxies: Mutex::default(),
            scripts: Mutex::default(),
            resolver: Resolver::default(),
        })
    }

    /// The proxy that this is, made when first asked for; those that no way out uses any more are let go.
    /// `named`: by the configuration or the environment, and not by a script.
    pub(super) fn proxy(
        &self,
        via: Arc<Via>,
        tls: Option<ClientSpec>,
        named: bool,
        sessions: usize,
    ) -> Result<Arc<Proxy>, Problem> {
        let mut proxies = self.proxies.lock().unwrap_or_else(|e| e.into_inner());
        let key = (via, tls, named);
        if let Some(proxy) = proxies.get(&key) {
            return Ok(proxy.clone());
        }
        proxies.retain(|_, proxy| Arc::strong_count(proxy) > 1);
        let password = key.0.password.clone().map(self.secrets);
        let proxy = Arc::new(Proxy::new(key.0.clone(), password, key.1.as_ref(), named, sessions)?);
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
    pub async fn connect(&self, host: &Host, port: u16, policy: &Policy<'_>, net: &NetEnv) -> Result<TcpStream, Failure> {
        let within = net.limits.connect;
        let deadline = Instant::now() + within;
        let addresses = self.resolver.find(host, port, &net.resolve, &net.limits, deadline, within).await?;
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
        super::pulse::keep_alive(&stream, &net.limits);
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
            Some((ip, reason)) if allowed.is_empty() => Err(reason.failure(host, ip)),
            _ => Ok(allowed),
        }
    }

    /// May a proxy be asked for `host`? It connects for us, and finds the addresses of names by itself. What is known here
    /// of where the host is must be allowed all the same: an address, what `resolve` says, and, where `egress` is set, what
    /// the system's resolver says. A name that is not known here is the proxy's to judge; many networks know only their own.
    ///
    /// # Errors
    /// An address of it is refused. One suffices, since the proxy may choose it.
    pub async fn permit_beyond(&self, host: &Host, policy: &Policy<'_>, net: &NetEnv) -> Result<(), Failure> {
        let within = net.limits.connect;
        let known = match host {
            Host::Name(_) if policy.deny.is_empty() && !net.resolve.contains_key(host) => return Ok(()),
            _ => self.resolver.find(host, 0, &net.resolve, &net.limits, Instant::now() + within, within).await,
        };
        let mut addresses = known.into_iter().flatten().map(|address| address.ip());
        match addresses.find_map(|ip| Some((ip, policy.refuses(ip)?))) {
            Some((ip, reason)) => Err(reason.failure(host, ip)),
            None => Ok(()),
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
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    /// `egress: { deny: … }`.
    pub deny: &'a [EgressDeny],
    /// True when the configuration names this very host or address: then it may be a special one. A glob that merely
    /// covers the host is no such word, since whoever owns a name in it says where that name is.
    pub named: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// `egress: deny` names it.
    Egress,
    /// It is a special address, and nothing names the host.
    Special(Special),
}

impl Refusal {
    fn sentence(self) -> &'static str {
        match self {
            Refusal::Egress => "`egress: deny` refuses",
            Refusal::Special(kind) => kind.words(),
        }
    }

    fn mend(self, host: &Host) -> String {
        match self {
            Refusal::Egress => "change `egress: { deny: … }` if it should be reached".to_owned(),
            Refusal::Special(Special::Unspecified) => format!("write 127.0.0.1 or localhost instead of {host}"),
            Refusal::Special(_) => {
                format!(
                    "only a host that a rule names in full may be there; add a rule with `host: {host}` if it should be reached"
                )
            }
        }
    }

    fn failure(self, host: &Host, ip: IpAddr) -> Failure {
        let at = if matches!(host, Host::Ip(_)) { host.to_string() } else { format!("{host} is at {ip}, which") };
        Failure::new(Cause::AddressProhibited, format!("{at} {}", self.sentence())).hint(self.mend(host))
    }
}

impl Policy<'_> {
    pub fn refuses(&self, ip: IpAddr) -> Option<Refusal> {
        let judged = address::judged(ip);
        if self.deny.iter().any(|deny| judged.iter().any(|ip| deny_covers(deny, *ip))) {
            return Some(Refusal::Egress);
        }
        if self.named { None } else { address::special(ip).map(Refusal::Special) }
    }
}

fn deny_covers(deny: &EgressDeny, ip: IpAddr) -> bool {
    match deny {
        EgressDeny::Loopback => address::is_loopback(ip),
        EgressDeny::LinkLocal => address::is_link_local(ip),
        EgressDeny::Private => address::is_private(ip),
        EgressDeny::Cidr(cidr) => cidr.contains(ip),
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

/// EMFILE and ENFILE.
const PROCESS_FULL: i32 = 24;
const SYSTEM_FULL: i32 = 23;

fn not_connected(host: &Host, port: u16, addresses: &[SocketAddr], cause: &io::Error) -> Failure {
    let goal = goal(host, port, addresses);
    if matches!(cause.raw_os_error(), Some(PROCESS_FULL | SYSTEM_FULL)) {
        return Failure::new(Cause::Overload, format!("no file descriptor is left to connect to {goal}"))
            .hint("raise the limit of open files, or lower limits.connections");
    }
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

    fn refused(ip: &str, named: bool) -> bool {
        Policy { deny: &[], named }.refuses(ip.parse().unwrap()).is_some()
    }

    #[test]
    fn special_addresses_are_refused_unless_the_host_is_named_and_others_are_not() {
        for ip in
            ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b:1::a9fe:a9fe", "fd00:ec2::23", "168.63.129.16", "0.0.0.0"]
        {
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
        let policy = Policy { deny: &deny, named: true };
        for ip in [
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "198.18.0.1",
            "192.0.0.1",
            "127.0.0.1",
            "::1",
            "fd12::1",
            "fec0::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "0.0.0.0",
        ] {
            assert_eq!(policy.refuses(ip.parse().unwrap()), Some(Refusal::Egress), "{ip}");
        }
        assert_eq!(policy.refuses("192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn a_range_holds_for_an_address_however_either_is_written() {
        let covers = |range: &str, ip: &str| {
            let (address, prefix) = range.split_once('/').unwrap();
            let cidr = crate::address::Cidr { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() };
            Policy { deny: &[EgressDeny::Cidr(cidr)], named: true }.refuses(ip.parse().unwrap()).is_some()
        };
        for (range, ip) in [
            ("::ffff:0:0/96", "10.0.0.1"),
            ("::ffff:0:0/96", "::ffff:10.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.200.0.1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1"),
            ("10.0.0.0/8", "64:ff9b::a00:1"),
            ("64:ff9b::/96", "64:ff9b::808:808"),
            ("2002::/16", "2002:808:808::1"),
            ("0.0.0.0/0", "8.8.8.8"),
        ] {
            assert!(covers(range, ip), "{range} {ip}");
        }
        for (range, ip) in [("::ffff:10.0.0.0/104", "11.0.0.1"), ("::/0", "8.8.8.8"), ("::ffff:0:0/96", "2001:db8::1")] {
            assert!(!covers(range, ip), "{range} {ip}");
        }
    }
}
