//! What an IP address is, and which others stand in it: an IPv6 address that is translated on its way carries the
//! IPv4 address that is reached in the end, and is judged by it too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses, as 10.0.0.0/8.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    /// IPv4 addresses may be written as IPv6 ones on either side.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (net, prefix) = match self.address.to_canonical() {
            IpAddr::V4(net) if self.address.is_ipv4() => (IpAddr::V4(net), self.prefix),
            IpAddr::V4(net) if self.prefix >= 96 => (IpAddr::V4(net), self.prefix - 96),
            _ => (self.address, self.prefix),
        };
        match (net, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => same_bits(net.to_bits().into(), ip.to_bits().into(), 32, prefix),
            (IpAddr::V6(net), IpAddr::V6(ip)) => same_bits(net.to_bits(), ip.to_bits(), 128, prefix),
            _ => false,
        }
    }
}

/// Do the first `prefix` of `width` bits agree?
fn same_bits(a: u128, b: u128, width: u8, prefix: u8) -> bool {
    let dropped = u32::from(width.saturating_sub(prefix));
    dropped >= 128 || (a ^ b) >> dropped == 0
}

/// Why an address is nothing that a host on the internet, or in an ordinary private network, has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    LinkLocal,
    /// Of the service that tells a machine in a cloud its credentials.
    CloudMetadata,
    /// `0.0.0.0` and its like, which systems read as "this machine".
    Unspecified,
    Multicast,
    /// Given to nobody.
    Reserved,
}

impl Special {
    /// After "which".
    pub fn words(self) -> &'static str {
        match self {
            Special::LinkLocal => "is a link-local or cloud metadata address",
            Special::CloudMetadata => "is a cloud metadata address",
            Special::Unspecified => "is an unspecified address, which systems take for this machine",
            Special::Multicast => "is a multicast or broadcast address",
            Special::Reserved => "is in a reserved range",
        }
    }
}

/// The address in canonical form, then every IPv4 address in it.
pub fn judged(ip: IpAddr) -> Vec<IpAddr> {
    let canonical = ip.to_canonical();
    let mut all = vec![canonical];
    if let IpAddr::V6(v6) = canonical {
        all.extend(embedded(v6).into_iter().map(IpAddr::V4));
    }
    all
}

/// The IPv4 addresses in an IPv6 address: mapped (RFC 4291 §2.5.5.2), compatible (§2.5.5.1), translated (RFC 2765 §2.1),
/// NAT64 (RFC 6052 §2.2, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380 §4: server and client), ISATAP (RFC 5214 §6.1).
pub fn embedded(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let s = ip.segments();
    let quad = |a: u16, b: u16| Ipv4Addr::from((u32::from(a) << 16) | u32::from(b));
    let last = quad(s[6], s[7]);
    match s {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![last],
        // `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0, a, _] if a != 0 => vec![last],
        [0x64, 0xff9b, 1, ..] => local_nat64(ip),
        [0x2002, a, b, ..] => vec![quad(a, b)],
        [0x2001, 0, a, b, ..] => vec![quad(a, b), quad(!s[6], !s[7])],
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => vec![last],
        _ => Vec::new(),
    }
}

/// In 64:ff9b:1::/48 the operator chooses how long the prefix is, and with it where the IPv4 address stands
/// (RFC 6052 §2.2); what follows it is zero.
fn local_nat64(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let o = ip.octets();
    let places = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
    let candidates = places.into_iter().filter(|place| o[8] == 0 && o[place[3] + 1..].iter().all(|byte| *byte == 0));
    let found = candidates.map(|place| Ipv4Addr::from(place.map(|at| o[at])));
    found.filter(|v4| !v4.is_unspecified()).collect()
}

/// Is it, or an address in it, one that is reached by a host's name only where that host is meant to be there?
pub fn special(ip: IpAddr) -> Option<Special> {
    judged(ip).into_iter().find_map(|ip| match ip {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    })
}

/// Azure's WireServer, Alibaba, Oracle's first: outside 169.254.0.0/16, where all others are.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];

fn special_v4(ip: Ipv4Addr) -> Option<Special> {
    let first = ip.octets()[0];
    match first {
        _ if METADATA_V4.contains(&ip) => Some(Special::CloudMetadata),
        _ if ip.is_link_local() => Some(Special::LinkLocal),
        0 => Some(Special::Unspecified),
        224..=239 => Some(Special::Multicast),
        _ if ip.is_broadcast() => Some(Special::Multicast),
        240.. => Some(Special::Reserved),
        _ => None,
    }
}

/// Global unicast is 2000::/3 (RFC 4291 §2.4); private addresses pass, and what is translated was judged by what is in it.
fn special_v6(ip: Ipv6Addr) -> Option<Special> {
    const GOOGLE: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    const ORACLE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe);
    let s = ip.segments();
    match s {
        // All of AWS's services of this kind: 254 is the metadata, 23 EKS Pod Identity, 253 DNS, 123 time.
        [0xfd00, 0xec2, ..] => Some(Special::CloudMetadata),
        _ if ip == GOOGLE || ip == ORACLE => Some(Special::CloudMetadata),
        _ if is_link_local(ip.into()) => Some(Special::LinkLocal),
        _ if ip.is_unspecified() => Some(Special::Unspecified),
        _ if ip.is_multicast() => Some(Special::Multicast),
        _ if ip.is_loopback() || is_private(ip.into()) || s[0] & 0xe000 == 0x2000 => None,
        [0x64, 0xff9b, 0 | 1, ..] => None,
        _ if !embedded(ip).is_empty() => None,
        _ => Some(Special::Reserved),
    }
}

pub fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// This machine. Systems connect to it when asked for the unspecified address.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// Not reached from elsewhere: RFC 1918, shared (RFC 6598), "this network", IETF assignments and benchmarks (RFC 6890), unique
/// local (RFC 4193) and the site-local addresses before them (RFC 3879).
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => match v4.octets() {
            [0, ..] | [192, 0, 0, _] | [198, 18 | 19, ..] => true,
            [100, b, ..] => b & 0xc0 == 64,
            _ => v4.is_private(),
        },
        IpAddr::V6(v6) => v6.segments()[0] & 0xfe00 == 0xfc00 || v6.segments()[0] & 0xffc0 == 0xfec0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn link_local_metadata_and_what_nobody_has_are_special_in_every_spelling() {
        for (text, kind) in [
            ("169.254.169.254", Special::LinkLocal),
            ("169.254.170.23", Special::LinkLocal),
            ("::ffff:169.254.169.254", Special::LinkLocal),
            ("::a9fe:a9fe", Special::LinkLocal),
            ("::ffff:0:a9fe:a9fe", Special::LinkLocal),
            ("64:ff9b::a9fe:a9fe", Special::LinkLocal),
            ("64:ff9b:1::a9fe:a9fe", Special::LinkLocal),
            ("64:ff9b:1:7::a9fe:a9fe", Special::LinkLocal),
            ("64:ff9b:1:a9fe:a9:fe00::", Special::LinkLocal),
            ("64:ff9b:1:a9:fe:a9fe::", Special::LinkLocal),
            ("64:ff9b:1:0:a9:fea9:fe00:0", Special::LinkLocal),
            ("2002:a9fe:a9fe::1", Special::LinkLocal),
            ("2001:0:a9fe:a9fe::", Special::LinkLocal),
            ("2001:0:102:304:8000:63bf:5601:5601", Special::LinkLocal),
            ("2001:db8::5efe:a9fe:a9fe", Special::LinkLocal),
            ("2001:db8::200:5efe:a9fe:a9fe", Special::LinkLocal),
            ("fe80::1", Special::LinkLocal),
            ("febf::1", Special::LinkLocal),
            ("fd00:ec2::254", Special::CloudMetadata),
            ("fd00:ec2::23", Special::CloudMetadata),
            ("fd20:ce::254", Special::CloudMetadata),
            ("fd00:c1::a9fe:a9fe", Special::CloudMetadata),
            ("168.63.129.16", Special::CloudMetadata),
            ("64:ff9b::a83f:8110", Special::CloudMetadata),
            ("100.100.100.200", Special::CloudMetadata),
            ("192.0.0.192", Special::CloudMetadata),
            ("0.0.0.0", Special::Unspecified),
            ("0.1.2.3", Special::Unspecified),
            ("::", Special::Unspecified),
            ("::ffff:0.0.0.0", Special::Unspecified),
            ("224.0.0.251", Special::Multicast),
            ("255.255.255.255", Special::Multicast),
            ("ff02::1", Special::Multicast),
            ("240.0.0.1", Special::Reserved),
            ("4000::1", Special::Reserved),
            ("100::1", Special::Reserved),
            ("::2", Special::Reserved),
        ] {
            assert_eq!(special(ip(text)), Some(kind), "{text}");
        }
    }

    #[test]
    fn public_private_and_loopback_addresses_are_not_special() {
        for text in [
            "192.0.2.1",
            "8.8.8.8",
            "127.0.0.1",
            "127.0.0.2",
            "::1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "169.253.0.1",
            "fd12::1",
            "fec0::1",
            "2001:db8::1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "64:ff9b:1::808:808",
            "64:ff9b:1:808:8:800::",
            "2002:808:808::1",
        ] {
            assert_eq!(special(ip(text)), None, "{text}");
        }
    }

    #[test]
    fn private_ranges_are_those_that_are_not_reached_from_elsewhere() {
        for text in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.0.1",
            "0.1.2.3",
            "198.18.0.1",
            "198.19.255.1",
            "192.0.0.8",
            "fc00::1",
            "fdff::1",
            "fec0::1",
            "feff::1",
        ] {
            assert!(is_private(ip(text)), "{text}");
        }
        for text in ["172.32.0.1", "100.128.0.1", "198.20.0.1", "192.0.1.1", "127.0.0.1", "fe80::1", "2001:db8::1", "8.8.8.8"] {
            assert!(!is_private(ip(text)), "{text}");
        }
    }
}
