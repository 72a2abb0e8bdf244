//! HAProxy's PROXY protocol, versions 1 and 2: a load balancer says in front of the connection who calls.

use std::net::SocketAddr;
use std::time::Duration;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncRead;

use super::stream::Prefixed;
use crate::config::ProxyProtocol;

/// A header with all its TLVs is far shorter; the format would allow 64 KiB.
const MOST: usize = 4096;

/// Who calls: the header's source, or the load balancer itself where it speaks of no other (its health checks).
///
/// # Errors
/// Why the connection is refused: from nobody known, or without a valid header. The header is never
/// guessed at, as its specification demands (§5).
pub async fn read<S: AsyncRead + Unpin>(
    stream: &mut Prefixed<S>,
    peer: SocketAddr,
    settings: &ProxyProtocol,
    within: Duration,
) -> Result<SocketAddr, String> {
    let known = settings.from.is_empty() || settings.from.iter().any(|range| range.contains(peer.ip()));
    if !known {
        return Err(format!("{} is not among the load balancers that `proxy_protocol` names", peer.ip()));
    }
    let header = async {
        loop {
            let wanted = stream.prefix().len() + 1;
            if stream.peek(wanted).await.map_err(|cause| cause.to_string())?.len() < wanted {
                return Err("it ended within its PROXY protocol header".to_owned());
            }
            let parsed = HeaderResult::parse(stream.prefix());
            if parsed.is_complete() {
                return taken(&parsed);
            }
            if wanted > MOST {
                return Err(format!("its PROXY protocol header is longer than {MOST} bytes"));
            }
        }
    };
    let (source, length) = match tokio::time::timeout(within, header).await {
        Ok(header) => header?,
        Err(_) => return Err("it sent no PROXY protocol header in time".to_owned()),
    };
    stream.skip(length);
    Ok(source.unwrap_or(peer))
}

/// The source and how long the header is.
fn taken(parsed: &HeaderResult<'_>) -> Result<(Option<SocketAddr>, usize), String> {
    match parsed {
        HeaderResult::V1(Ok(header)) => {
            let source = match header.addresses {
                v1::Addresses::Tcp4(a) => Some((a.source_address, a.source_port).into()),
                v1::Addresses::Tcp6(a) => Some((a.source_address, a.source_port).into()),
                v1::Addresses::Unknown => None,
            };
            Ok((source, header.header.len()))
        }
        HeaderResult::V2(Ok(header)) => {
            let source = match (header.command, header.addresses) {
                (v2::Command::Local, _) => None,
                (_, v2::Addresses::IPv4(a)) => Some((a.source_address, a.source_port).into()),
                (_, v2::Addresses::IPv6(a)) => Some((a.source_address, a.source_port).into()),
                _ => None,
            };
            Ok((source, header.len()))
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => {
            Err("it does not begin with a PROXY protocol header; its load balancer must send one".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Cidr;

    async fn heard(bytes: &[u8], from: Vec<Cidr>) -> (Result<SocketAddr, String>, Vec<u8>) {
        use tokio::io::AsyncReadExt;
        let mut stream = Prefixed::new(bytes::Bytes::new(), bytes);
        let peer = "127.0.0.1:5000".parse().unwrap();
        let said = read(&mut stream, peer, &ProxyProtocol { from }, Duration::from_secs(1)).await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        (said, rest)
    }

    #[tokio::test]
    async fn both_versions_name_the_source_and_leave_the_rest() {
        let (said, rest) = heard(b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\nGET / HTTP/1.1\r\n", Vec::new()).await;
        assert_eq!((said.unwrap().to_string().as_str(), rest.as_slice()), ("192.0.2.7:4711", &b"GET / HTTP/1.1\r\n"[..]));
        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        v2.extend([0x21, 0x11, 0, 12, 192, 0, 2, 8, 10, 0, 0, 1, 0x12, 0x67, 1, 187]);
        v2.extend(b"rest");
        let (said, rest) = heard(&v2, Vec::new()).await;
        assert_eq!((said.unwrap().to_string().as_str(), rest.as_slice()), ("192.0.2.8:4711", &b"rest"[..]));
        let (said, _) = heard(b"PROXY UNKNOWN\r\n", Vec::new()).await;
        assert_eq!(said.unwrap().to_string(), "127.0.0.1:5000");
    }

    #[tokio::test]
    async fn without_a_header_or_from_a_stranger_nothing_is_heard() {
        for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"PROXY TCP4 a b c d\r\n", b"PROXY TCP4 192.0.2.7", b""] {
            assert!(heard(bytes, Vec::new()).await.0.is_err(), "{bytes:?}");
        }
        let elsewhere = vec![Cidr { address: "10.0.0.0".parse().unwrap(), prefix: 8 }];
        let (said, _) = heard(b"PROXY UNKNOWN\r\n", elsewhere).await;
        assert!(said.unwrap_err().contains("not among"));
        let endless = vec![b'P'; 10_000];
        assert!(heard(&endless, Vec::new()).await.0.is_err());
    }
}
