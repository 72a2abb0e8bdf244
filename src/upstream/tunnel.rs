//! A tunnel through an upstream proxy: CONNECT (RFC 9110 §9.3.6) with what the proxy wants for it, or SOCKS 5.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::dialogue::Dialogue;
use super::proxy::{Proxy, ROUNDS};
use super::{NetEnv, Stream};
use crate::failure::{Cause, Failure};
use crate::origin::Host;
use crate::upstream::settings::ViaScheme;

/// Has the proxy at the other end of `stream` open a tunnel to `host:port`.
///
/// # Errors
/// The proxy refuses, or takes longer than `limits.connect`.
pub async fn through(stream: Stream, proxy: &Arc<Proxy>, net: &NetEnv, host: &Host, port: u16) -> Result<Stream, Failure> {
    let asked = async {
        match proxy.via().scheme {
            ViaScheme::Socks5 => socks5(stream, proxy, host, port).await,
            _ => connect(stream, proxy, net, host, port).await,
        }
    };
    let within = net.limits.connect;
    timeout(within, asked).await.unwrap_or_else(|_| Err(too_slow(proxy, host, port, within)))
}

fn too_slow(proxy: &Proxy, host: &Host, port: u16, within: Duration) -> Failure {
    Failure::new(Cause::ConnectionTimeout, format!("{proxy} took longer than {within:?} to open a tunnel to {host}:{port}"))
}

fn refused(proxy: &Proxy, host: &Host, port: u16, why: Why) -> Failure {
    let Why { text, source } = why;
    let failure = Failure::new(Cause::ConnectionRefused, format!("{proxy} did not open a tunnel to {host}:{port}: {text}"));
    proxy.hinted(match source {
        Some(cause) => failure.caused_by(cause),
        None => failure,
    })
}

/// Why there is no tunnel.
struct Why {
    text: String,
    source: Option<io::Error>,
}

impl From<String> for Why {
    fn from(text: String) -> Self {
        Self { text, source: None }
    }
}

impl From<&str> for Why {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<io::Error> for Why {
    fn from(cause: io::Error) -> Self {
        Self { text: cause.to_string(), source: Some(cause) }
    }
}

async fn connect(mut stream: Stream, proxy: &Arc<Proxy>, net: &NetEnv, host: &Host, port: u16) -> Result<Stream, Failure> {
    let target = format!("{host}:{port}");
    let failed = |why: Why| refused(proxy, host, port, why);
    let mut dialogue = Dialogue::new(proxy.clone());
    for _ in 0..ROUNDS {
        let certificate = stream.peer_certificate().map(<[u8]>::to_vec);
        let credential = dialogue.credential("CONNECT", &target, certificate.as_deref(), true).await?;
        stream.write_all(&request(&target, credential.as_ref())).await.map_err(|cause| failed(cause.into()))?;
        let answer = Answer::read(&mut stream).await.map_err(failed)?;
        match answer.status {
            200..=299 => {
                dialogue.accepted();
                return Ok(stream);
            }
            407 => {
                dialogue.challenged(&answer.headers)?;
                if !answer.drain(&mut stream).await {
                    dialogue.moved()?;
                    stream = proxy.connect(net).await?;
                }
            }
            _ => return Err(failed(format!("it answered `{}`", answer.line).into())),
        }
    }
    Err(dialogue.endless())
}

fn request(target: &str, credential: Option<&HeaderValue>) -> zeroize::Zeroizing<Vec<u8>> {
    let mut head = zeroize::Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes());
    if let Some(credential) = credential {
        head.extend_from_slice(b"Proxy-Authorization: ");
        head.extend_from_slice(credential.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// A proxy's answer to CONNECT, up to the end of its head.
struct Answer {
    status: u16,
    /// For messages.
    line: String,
    headers: HeaderMap,
    minor: u8,
}

/// A head that is longer is no answer to CONNECT.
const HEAD: usize = 16 * 1024;
/// The page of a 407 that is longer is not worth reading.
const PAGE: usize = 256 * 1024;

impl Answer {
    /// Byte by byte, so that nothing behind the head is swallowed.
    async fn read(stream: &mut Stream) -> Result<Self, Why> {
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > HEAD {
                return Err("its answer is too long".into());
            }
            head.push(stream.read_u8().await.map_err(|cause| match cause.kind() {
                io::ErrorKind::UnexpectedEof => Why::from("it closed the connection"),
                _ => Why { text: format!("it ended the connection: {cause}"), source: Some(cause) },
            })?);
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut fields);
        let (Ok(httparse::Status::Complete(_)), Some(status)) = (parsed.parse(&head), parsed.code) else {
            return Err("its answer is not HTTP".into());
        };
        let headers = parsed.headers.iter().filter_map(|field| {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(field.value).ok()?))
        });
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(80).collect();
        Ok(Self { status, line, headers: headers.collect(), minor: parsed.version.unwrap_or(0) })
    }

    /// Reads the page behind the head; false: the connection is of no further use.
    async fn drain(&self, stream: &mut Stream) -> bool {
        let says = |word: &str| {
            let fields = [http::header::CONNECTION, HeaderName::from_static("proxy-connection")];
            fields.iter().flat_map(|name| self.headers.get_all(name)).any(|value| {
                value.as_bytes().split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
            })
        };
        let kept = if self.minor == 0 { says("keep-alive") } else { !says("close") };
        let chunked = self.headers.contains_key(http::header::TRANSFER_ENCODING);
        let length = self.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        kept && match (chunked, length) {
            (true, _) => skip_chunks(stream).await.is_ok(),
            (false, Some(length)) => skip(stream, length, &mut { PAGE }).await.is_ok(),
            (false, None) => false,
        }
    }
}

async fn skip(stream: &mut Stream, length: usize, left: &mut usize) -> io::Result<()> {
    *left = left.checked_sub(length).ok_or(io::ErrorKind::FileTooLarge)?;
    let length = length as u64;
    let read = tokio::io::copy(&mut stream.take(length), &mut tokio::io::sink()).await?;
    if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// RFC 9112 §7.1.
async fn skip_chunks(stream: &mut Stream) -> io::Result<()> {
    let mut left = PAGE;
    loop {
        let line = line(stream).await?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            break;
        }
        skip(stream, size.saturating_add(2), &mut left).await?;
    }
    while !line(stream).await?.is_empty() {}
    Ok(())
}

async fn line(stream: &mut Stream) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() > 1024 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        line.push(stream.read_u8().await?);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// RFC 1928, and RFC 1929 for the password. Names are resolved by the proxy.
async fn socks5(mut stream: Stream, proxy: &Proxy, host: &Host, port: u16) -> Result<Stream, Failure> {
    negotiate(&mut stream, proxy).await?;
    ask(&mut stream, host, port).await.map_err(|why| refused(proxy, host, port, why))?;
    Ok(stream)
}

const NO_METHOD: u8 = 0;
const PASSWORD: u8 = 2;

/// Agrees on how the user is proved, and proves it.
async fn negotiate(stream: &mut Stream, proxy: &Proxy) -> Result<(), Failure> {
    let broke =
        |cause: io::Error| Failure::new(Cause::ConnectionTerminated, format!("{proxy} broke the connection off: {cause}"));
    let credential = proxy.account()?;
    let offer: &[u8] = if credential.is_some() { &[5, 2, NO_METHOD, PASSWORD] } else { &[5, 1, NO_METHOD] };
    stream.write_all(offer).await.map_err(broke)?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.map_err(broke)?;
    match (answer, credential) {
        ([5, NO_METHOD], _) => Ok(()),
        ([5, PASSWORD], Some((username, password))) => {
            let message = login(username, password.expose()).ok_or_else(|| {
                Failure::new(Cause::Credential, format!("{proxy}: SOCKS 5 takes 1 to 255 bytes of user name and of password"))
            })?;
            stream.write_all(&message).await.map_err(broke)?;
            stream.read_exact(&mut answer).await.map_err(broke)?;
            if answer[1] == 0 { Ok(()) } else { Err(proxy.refuses("the user name or password")) }
        }
        ([5, _], None) => Err(proxy.wants_user("SOCKS 5 with a password, or another way")),
        ([5, _], Some(_)) => Err(proxy.refuses("to let a user sign in by password")),
        _ => Err(Failure::new(Cause::ResponseInvalid, format!("{proxy} does not speak SOCKS 5"))
            .hint("write its URL as http://HOST:PORT if it is an HTTP proxy")),
    }
}

fn login(username: &str, password: &str) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    let (user, secret) = (username.as_bytes(), password.as_bytes());
    let (user_len, secret_len) = (u8::try_from(user.len()).ok()?, u8::try_from(secret.len()).ok()?);
    Some(zeroize::Zeroizing::new([&[1, user_len], user, &[secret_len], secret].concat()))
}

async fn ask(stream: &mut Stream, host: &Host, port: u16) -> Result<(), Why> {
    use std::net::IpAddr;
    let mut request = vec![5, 1, 0];
    match host {
        Host::Ip(IpAddr::V4(ip)) => request.extend([1].into_iter().chain(ip.octets())),
        Host::Ip(IpAddr::V6(ip)) => request.extend([4].into_iter().chain(ip.octets())),
        // A host name has at most 253 bytes.
        Host::Name(name) => request.extend([3, name.len() as u8].into_iter().chain(name.bytes())),
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    if head[1] != 0 {
        return Err(socks5_words(head[1]).into());
    }
    let rest = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err("its answer is not SOCKS 5".into()),
    };
    stream.read_exact(&mut vec![0; rest + 2]).await?;
    Ok(())
}

/// RFC 1928 §6.
fn socks5_words(code: u8) -> &'static str {
    match code {
        2 => "its rules do not allow it",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        _ => "it failed",
    }
}
