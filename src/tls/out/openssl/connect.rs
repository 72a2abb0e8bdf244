//! One connection: its handshake, and those that the server asks for later.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslRef, SslVersion, StatusType};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_openssl::SslStream;

use super::heard::{Flight, Tap};
use super::{Card, Connector, Preferred, Verifier, errors};
use crate::tls::formats::alpn::{protocol, protocol_id};
use crate::tls::out::handshake::{Asked, Handshake, note_asked};
use crate::tls::out::identity::choose;
use crate::tls::settings::Alpn;

/// More renegotiations on one connection than any server needs; each costs us signatures.
const RENEGOTIATIONS: u32 = 100;

/// The reason of the error after which the same connection is to be tried anew: the server's issuers want another identity.
pub const AGAIN: &str = "the server wants a certificate of another issuer";

/// What the callback needs to know of its connection.
struct Watch {
    verifier: Arc<Verifier>,
    identities: Arc<Vec<Card>>,
    preferred: Arc<Preferred>,
    /// Which of the identities OpenSSL was given.
    installed: usize,
    name: ServerName<'static>,
    handshake: Arc<Handshake>,
    flight: Arc<Mutex<Flight>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// What the server showed in the first handshake; it must not change.
    leaf: Option<Vec<u8>>,
    handshakes: u32,
    /// Why we ended the handshake.
    verdict: Option<Error>,
}

/// Where OpenSSL keeps a connection's [`Watch`].
fn index() -> Result<Index<Ssl, Arc<Watch>>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Arc<Watch>>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let new = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| new))
}

impl Connector {
    /// Opens TLS; what is seen goes into `handshake`.
    ///
    /// # Errors
    /// Of the socket, or holding a [`rustls::Error`].
    pub async fn connect<IO>(
        &self,
        io: IO,
        name: ServerName<'static>,
        alpn: &[Alpn],
        handshake: &Arc<Handshake>,
    ) -> io::Result<Stream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let watch = Arc::new(Watch {
            verifier: self.verifier.clone(),
            identities: self.identities.clone(),
            preferred: self.preferred.clone(),
            installed: self.preferred.get(&name),
            name,
            handshake: handshake.clone(),
            flight: Arc::default(),
            seen: Mutex::default(),
        });
        let ssl = self.prepare(&watch, alpn)?;
        let mut stream = SslStream::new(ssl, Tap::new(io, watch.flight.clone()))?;
        let done = Pin::new(&mut stream).connect().await;
        done.map_err(|error| watch.told(errors::from_ssl(error)))?;
        // No session is ever resumed, so every handshake shows a certificate, and it was judged.
        let leaf = watch.seen().leaf.clone().ok_or_else(|| general("the server's certificate was not checked"))?;
        Ok(Stream { inner: stream, watch, leaf })
    }

    fn prepare(&self, watch: &Arc<Watch>, alpn: &[Alpn]) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        // Without it the callback is not made, and the handshake fails above.
        ssl.set_status_type(StatusType::OCSP)?;
        if let ServerName::DnsName(name) = &watch.name {
            ssl.set_hostname(name.as_ref())?;
        }
        let protocols: Vec<u8> = alpn
            .iter()
            .flat_map(|protocol| {
                let id = protocol_id(*protocol);
                std::iter::once(id.len() as u8).chain(id.iter().copied())
            })
            .collect();
        if !protocols.is_empty() {
            ssl.set_alpn_protos(&protocols)?;
        }
        if let Some(card) = self.identities.get(watch.installed) {
            card.install(&mut ssl)?;
        }
        ssl.set_ex_data(index()?, watch.clone());
        Ok(ssl)
    }
}

/// OpenSSL's callback for the status response: made in every handshake, after the server's flight is read and its key
/// exchange is verified, before our certificate and anything else of ours leaves. `false` ends the handshake.
pub(super) fn judge(ssl: &mut SslRef) -> Result<bool, ErrorStack> {
    let Some(watch) = ssl.ex_data(index()?).cloned() else { return Ok(false) };
    match watch.judge(ssl) {
        Ok(()) => Ok(true),
        Err(error) => {
            watch.seen().verdict = Some(error);
            Ok(false)
        }
    }
}

impl Watch {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn judge(&self, ssl: &mut SslRef) -> Result<(), Error> {
        let presented = presented(ssl)?;
        let (leaf, above) = presented.split_first().ok_or(Error::NoCertificatesPresented)?;
        let first = {
            let mut seen = self.seen();
            seen.handshakes += 1;
            if seen.leaf.as_deref().is_some_and(|first| first != leaf.as_ref()) {
                return Err(Error::General("the server changed its certificate when it renegotiated".to_owned()));
            }
            if seen.handshakes > RENEGOTIATIONS {
                return Err(Error::General("the server renegotiates without end".to_owned()));
            }
            seen.handshakes == 1
        };
        let staple = ssl.ocsp_status().unwrap_or_default().to_vec();
        self.handshake.watch_now(|| self.verifier.verify_server_cert(leaf, above, &self.name, &staple, UnixTime::now()))?;
        self.seen().leaf = Some(leaf.to_vec());
        self.identify(ssl, first)
    }

    /// Notes what was asked for, and whether it is what OpenSSL was given to show.
    fn identify(&self, ssl: &SslRef, first: bool) -> Result<(), Error> {
        let given = self.identities.get(self.installed);
        let shown = || match given {
            Some(card) => Asked::Shown(card.identity.details().name().to_owned()),
            None => Asked::Nothing { unfit: false },
        };
        if !first {
            // Servers renegotiate to ask for a certificate; of whom they ask is encrypted.
            self.note(shown());
            return Ok(());
        }
        if ssl.version2() == Some(SslVersion::TLS1_3) {
            self.note(Asked::Unseen);
            return Ok(());
        }
        let flight = self.flight.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(request) = flight.request() else { return Ok(()) };
        let hints: Vec<&[u8]> = request.authorities.iter().map(Vec::as_slice).collect();
        match choose(self.identities.iter().map(|card| &card.identity), &hints, &request.schemes) {
            Some(at) if at != self.installed => {
                self.preferred.set(&self.name, at);
                return Err(Error::General(AGAIN.to_owned()));
            }
            Some(_) => self.note(shown()),
            None => self.note(Asked::Nothing { unfit: given.is_some() }),
        }
        Ok(())
    }

    fn note(&self, asked: Asked) {
        self.handshake.watch_now(|| note_asked(asked));
    }

    /// Our own verdict, where the error came of it.
    fn told(&self, error: io::Error) -> io::Error {
        match self.seen().verdict.clone() {
            Some(verdict) => io::Error::new(io::ErrorKind::InvalidData, verdict),
            None => error,
        }
    }
}

impl Card {
    fn install(&self, ssl: &mut SslRef) -> Result<(), ErrorStack> {
        let Some((leaf, above)) = self.chain.split_first() else { return Ok(()) };
        ssl.set_certificate(leaf)?;
        ssl.set_private_key(&self.key)?;
        above.iter().try_for_each(|certificate| ssl.add_chain_cert(certificate.clone()))
    }
}

/// What the server shows, leaf first.
fn presented(ssl: &SslRef) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = ssl.peer_cert_chain().ok_or(Error::NoCertificatesPresented)?;
    let ders = chain.iter().map(|certificate| certificate.to_der().map(CertificateDer::from));
    ders.collect::<Result<_, _>>().map_err(|_| CertificateError::BadEncoding.into())
}

fn general(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Error::General(text.to_owned()))
}

/// A connection whose handshake is done. Reads and writes may turn into handshakes when the server renegotiates.
pub struct Stream<IO> {
    inner: SslStream<Tap<IO>>,
    watch: Arc<Watch>,
    leaf: Vec<u8>,
}

impl<IO> Stream<IO> {
    pub fn get_ref(&self) -> &IO {
        self.inner.get_ref().get_ref()
    }

    pub fn peer_certificate(&self) -> &[u8] {
        &self.leaf
    }

    /// The protocol that was agreed on (RFC 7301).
    pub fn alpn(&self) -> Option<Alpn> {
        self.inner.ssl().selected_alpn_protocol().and_then(protocol)
    }

    fn told<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        polled.map_err(|error| self.watch.told(errors::from_io(error)))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.told(polled)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.told(polled)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.told(polled)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.told(polled)
    }
}
