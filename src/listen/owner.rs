//! Whose process is at the other end of a TCP connection on this machine, asked of the kernel for exactly that one
//! socket (sock_diag(7)): the cost does not grow with what others have open.

use std::net::{IpAddr, SocketAddr};

/// The user whose process holds the socket `of` that is connected to `to`. `None`: it is on another machine, has let
/// go of the socket, or cannot be asked for here. Whoever closes at once has no name, and is taken for nobody.
#[cfg(target_os = "linux")]
pub fn owner(of: SocketAddr, to: SocketAddr) -> Option<u32> {
    let (of, to) = (canonical(of), canonical(to));
    match ask(&question(of, to)?) {
        Ok(answer) => read(&answer, of, to),
        Err(cause) => {
            static ONCE: std::sync::Once = std::sync::Once::new();
            ONCE.call_once(|| {
                tracing::warn!(%cause, "the kernel does not tell whose process calls (sock_diag), so `same_user` lets nobody in; allow AF_NETLINK sockets, or use a Unix socket");
            });
            None
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub fn owner(_: SocketAddr, _: SocketAddr) -> Option<u32> {
    None
}

#[cfg(target_os = "linux")]
use linux::{ask, question, read};

/// A socket for IPv6 may speak IPv4.
#[cfg(target_os = "linux")]
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, netlink};

    // linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
    const REQUEST: u16 = 1;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const HEADER: usize = 16;
    const QUESTION: usize = HEADER + 56;
    const ANSWER: usize = HEADER + 72;

    /// ESTABLISHED, FIN_WAIT1, FIN_WAIT2 and CLOSE_WAIT (net/tcp_states.h): one that still speaks, or has said its
    /// last and waits for the answer. All others are not yet, or no longer, anybody's end of a conversation.
    const SPEAKING: [u8; 4] = [1, 4, 5, 8];

    fn family(ip: IpAddr) -> u8 {
        let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        family.as_raw() as u8
    }

    /// `inet_diag_req_v2` for the one socket with these ends. `None`: they are of two families.
    pub(super) fn question(of: SocketAddr, to: SocketAddr) -> Option<[u8; QUESTION]> {
        if of.is_ipv4() != to.is_ipv4() {
            return None;
        }
        let mut bytes = [0; QUESTION];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &(QUESTION as u32).to_ne_bytes());
        put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        put(6, &REQUEST.to_ne_bytes());
        put(16, &[family(of.ip()), ipproto::TCP.as_raw().get() as u8]);
        put(20, &u32::MAX.to_ne_bytes());
        put(24, &of.port().to_be_bytes());
        put(26, &to.port().to_be_bytes());
        for (at, ip) in [(28, of.ip()), (44, to.ip())] {
            match ip {
                IpAddr::V4(ip) => put(at, &ip.octets()),
                IpAddr::V6(ip) => put(at, &ip.octets()),
            }
        }
        if let SocketAddr::V6(of) = of {
            put(60, &of.scope_id().to_ne_bytes());
        }
        // Whatever its cookie is.
        put(64, &[0xff; 8]);
        Some(bytes)
    }

    /// One question and its answer. The kernel has written it when `send` returns, so nothing is waited for.
    pub(super) fn ask(question: &[u8]) -> io::Result<Vec<u8>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
        rustix::net::send(&socket, question, SendFlags::empty())?;
        let mut answer = vec![0; 1024];
        let (_, length) = rustix::net::recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
        answer.truncate(length);
        Ok(answer)
    }

    /// The owner in an `inet_diag_msg`, if it is of this very connection and still somebody's. The kernel also answers
    /// with a listener at that address, or with what is left of a closed socket: user 0, without an inode.
    pub(super) fn read(answer: &[u8], of: SocketAddr, to: SocketAddr) -> Option<u32> {
        let number = |at: usize| answer.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
        let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes)?;
        if answer.len() < ANSWER || kind != SOCK_DIAG_BY_FAMILY {
            return None;
        }
        let end = |port: usize, ip: usize| -> Option<SocketAddr> {
            let port = u16::from_be_bytes(answer.get(port..port + 2)?.try_into().ok()?);
            let ip = if answer[16] == family(Ipv4Addr::LOCALHOST.into()) {
                IpAddr::from(<[u8; 4]>::try_from(answer.get(ip..ip + 4)?).ok()?)
            } else {
                Ipv6Addr::from(<[u8; 16]>::try_from(answer.get(ip..ip + 16)?).ok()?).to_canonical()
            };
            Some(SocketAddr::new(ip, port))
        };
        let same = |a: SocketAddr, b: SocketAddr| a.ip() == b.ip() && a.port() == b.port();
        let this = same(end(20, 24)?, of) && same(end(22, 40)?, to);
        let (uid, inode) = (number(80)?, number(84)?);
        (this && SPEAKING.contains(&answer[17]) && inode != 0).then_some(uid)
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn of(accepted: &TcpStream) -> Option<u32> {
        owner(accepted.peer_addr().unwrap(), accepted.local_addr().unwrap())
    }

    #[test]
    fn a_connection_has_the_owner_of_its_other_end_in_every_family() {
        for (listen, dial) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:0", "[::1]:0"),
            ("127.0.0.1:0", "[::ffff:127.0.0.1]:0"),
            ("[::]:0", "127.0.0.1:0"),
            ("[::]:0", "[::ffff:127.0.0.1]:0"),
        ] {
            let dial = dial.strip_suffix('0').unwrap();
            let Some(listener) = TcpListener::bind(listen).ok() else { continue };
            let port = listener.local_addr().unwrap().port();
            let Ok(_caller) = TcpStream::connect(format!("{dial}{port}")) else { continue };
            let accepted = listener.accept().unwrap().0;
            assert_eq!(of(&accepted), Some(own()), "{listen} {dial}");
        }
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, caller)
    }

    #[test]
    fn a_caller_that_has_closed_is_nobody_and_one_that_waits_for_its_answer_is_somebody() {
        let (mut accepted, mut caller) = pair();
        caller.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let ends = (accepted.peer_addr().unwrap(), accepted.local_addr().unwrap());
        caller.shutdown(Shutdown::Write).unwrap();
        let mut request = Vec::new();
        accepted.read_to_end(&mut request).unwrap();
        assert_eq!(owner(ends.0, ends.1), Some(own()), "half closed");
        drop(caller);
        assert_eq!(owner(ends.0, ends.1), None, "closed, its request unread or not");
        drop(accepted);
        assert_eq!(owner(ends.0, ends.1), None, "gone");
    }

    #[test]
    fn neither_a_listener_nor_another_connection_answers_for_one_that_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let caller = TcpStream::connect(address).unwrap();
        assert_eq!(owner(address, "127.0.0.1:1".parse().unwrap()), None, "a listener");
        let one_beside = SocketAddr::new(address.ip(), address.port() ^ 1);
        assert_eq!(owner(caller.local_addr().unwrap(), one_beside), None);
        assert_eq!(owner("192.0.2.1:4711".parse().unwrap(), address), None, "another machine");
    }

    #[test]
    fn what_is_left_of_a_closed_socket_is_not_root() {
        let ends = ("127.0.0.1:41668".parse().unwrap(), "127.0.0.1:8080".parse().unwrap());
        let answer = |state: u8, uid: u32, inode: u32| {
            let question = question(ends.0, ends.1).unwrap();
            let mut bytes = vec![0; 88];
            bytes[4..6].copy_from_slice(&20u16.to_ne_bytes());
            bytes[16..18].copy_from_slice(&[question[16], state]);
            bytes[20..60].copy_from_slice(&question[24..64]);
            bytes[80..84].copy_from_slice(&uid.to_ne_bytes());
            bytes[84..88].copy_from_slice(&inode.to_ne_bytes());
            bytes
        };
        for state in [1, 4, 5, 8] {
            assert_eq!(read(&answer(state, 1000, 77), ends.0, ends.1), Some(1000), "{state}");
            assert_eq!(read(&answer(state, 0, 0), ends.0, ends.1), None, "{state}");
        }
        for state in [2, 3, 6, 7, 9, 10, 11, 12] {
            assert_eq!(read(&answer(state, 0, 77), ends.0, ends.1), None, "{state}");
        }
        assert_eq!(read(&answer(1, 1000, 77), ends.1, ends.0), None, "the other way round");
        assert_eq!(read(&answer(1, 1000, 77)[..80], ends.0, ends.1), None);
    }
}
