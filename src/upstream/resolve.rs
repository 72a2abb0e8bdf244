//! Where a name is: what `resolve:` says, else what the system's resolver says. That one is asked by getaddrinfo and not
//! by a resolver of our own, so that /etc/hosts, search domains and every other source of nsswitch.conf hold as for all
//! other programs; it tells no TTL, so an answer is kept for a few seconds only.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::short_cache::ShortCache;
use crate::failure::{Cause, Failure};
use crate::limits::Limits;
use crate::origin::Host;

/// `resolve:`, names to addresses.
pub type Fixed = BTreeMap<Host, Vec<IpAddr>>;

/// The system's answers, shared by all of the process.
#[derive(Default)]
pub struct Resolver {
    answers: ShortCache<Arc<str>, Arc<[SocketAddr]>, String>,
}

impl Resolver {
    /// The addresses of a host, families taking turns; never empty.
    ///
    /// # Errors
    /// It has none, or they cannot be found by `deadline`, which is `within` from the start.
    pub async fn find(
        &self,
        host: &Host,
        port: u16,
        fixed: &Fixed,
        limits: &Limits,
        deadline: Instant,
        within: Duration,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let name = match (host, fixed.get(host)) {
            (Host::Ip(ip), _) => return Ok(vec![SocketAddr::new(*ip, port)]),
            (_, Some(addresses)) => return Ok(interleave(addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect())),
            (Host::Name(name), None) => name,
        };
        let (keep, most) = (limits.dns_keep, limits.dns_names);
        match timeout_at(deadline, self.answers.get(&Arc::from(&**name), keep, most, look_up(name))).await {
            Ok(Ok(found)) => Ok(found.iter().map(|address| with_port(*address, port)).collect()),
            Ok(Err(why)) => Err(unknown_name(name, &why)),
            Err(_) => Err(Failure::new(Cause::DnsTimeout, format!("looking up {name} took longer than {within:?}"))),
        }
    }

    /// Its addresses did not serve; they are looked up anew the next time.
    pub fn forget(&self, host: &Host) {
        if let Host::Name(name) = host {
            self.answers.forget(&Arc::from(&**name));
        }
    }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

async fn look_up(name: &str) -> Result<Arc<[SocketAddr]>, String> {
    let found: Vec<_> = tokio::net::lookup_host((name, 0)).await.map_err(|cause| lookup_words(&cause))?.collect();
    if found.is_empty() { Err("it has no address".to_owned()) } else { Ok(interleave(found).into()) }
}

fn unknown_name(name: &str, why: &str) -> Failure {
    Failure::new(Cause::Dns, format!("cannot find the address of {name}: {why}"))
        .hint(format!("check the spelling, or say where it is with `resolve: {{ {name}: ADDRESS }}`"))
}

/// getaddrinfo's words without Rust's frame around them.
fn lookup_words(cause: &io::Error) -> String {
    let text = cause.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}

/// RFC 8305 §4: the families take turns, in the resolver's order.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (a, b): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut a, mut b) = (a.into_iter(), b.into_iter());
    let mut mixed = Vec::new();
    loop {
        match (a.next(), b.next()) {
            (None, None) => return mixed,
            (x, y) => mixed.extend(x.into_iter().chain(y)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let all = ["[::1]:1", "[::2]:1", "1.1.1.1:1"].map(|a| a.parse().unwrap()).to_vec();
        let order: Vec<_> = interleave(all).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["[::1]:1", "1.1.1.1:1", "[::2]:1"]);
    }

    #[tokio::test]
    async fn what_resolve_says_is_not_looked_up_and_localhost_is() {
        let (resolver, limits, within) = (Resolver::default(), Limits::default(), Duration::from_secs(5));
        let find = async |name: &str, fixed: &Fixed| {
            let host = Host::parse(name).unwrap();
            let found = resolver.find(&host, 443, fixed, &limits, Instant::now() + within, within).await;
            found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|ip| ip.parse().unwrap()).to_vec();
        let fixed = Fixed::from([(Host::parse("nowhere.invalid").unwrap(), addresses)]);
        assert_eq!(find("nowhere.invalid", &fixed).await.unwrap(), ["192.0.2.1:443", "[2001:db8::1]:443", "192.0.2.2:443"]);
        assert!(find("localhost", &fixed).await.unwrap().iter().all(|address| address.ends_with(":443")));
        let failure = find("nowhere.invalid", &Fixed::new()).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Dns);
        assert!(failure.to_string().contains("resolve: { nowhere.invalid: ADDRESS }"), "{failure}");
    }
}
