//! An upstream proxy: how it is reached, whom it is told we are, and what it is known to want.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{NetEnv, Policy, Stream};
use crate::challenge::digest::DigestSession;
use crate::failure::{Cause, Failure};
use crate::provided::SecretRef;
use crate::secret::Secret;
use crate::tls::Problem;
use crate::tls::out::client::Client;
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::out::explain;
use crate::tls::settings::Alpn;
use crate::upstream::settings::{ProxyAuth, Via, ViaScheme};

/// Rounds of one dialogue with a proxy: NTLM needs three, a stale nonce one more.
pub const ROUNDS: u8 = 5;

pub struct Proxy {
    via: Arc<Via>,
    /// Where it speaks TLS itself.
    client: Option<Client>,
    password: Option<SecretRef>,
    /// By the configuration, and not by a script: then it may be at a special address.
    named: bool,
    known: Mutex<Known>,
}

/// What the proxy asked for when last it asked.
#[derive(Default)]
pub struct Known {
    pub auth: Option<ProxyAuth>,
    pub session: Option<DigestSession>,
    /// It let a request through without asking.
    pub silent: bool,
    /// When it could not be reached, the last time that was tried.
    pub down: Option<Instant>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upstream proxy {}:{}", self.via.host, self.via.port)
    }
}

/// Squid ends the TLS of a client with a certificate that resumes a session; few connections would gain from it.
fn without_resumption(spec: &ClientSpec) -> ClientSpec {
    let mut spec = spec.clone();
    spec.settings.resumption = Some(false);
    spec
}

impl Proxy {
    /// # Errors
    /// The TLS settings cannot be made into a configuration.
    pub fn new(
        via: Arc<Via>,
        password: Option<SecretRef>,
        tls: Option<&ClientSpec>,
        named: bool,
        sessions: usize,
    ) -> Result<Self, Problem> {
        let client = tls.map(|spec| Client::build(&without_resumption(spec), sessions)).transpose()?;
        Ok(Self { via, client, password, named, known: Mutex::default() })
    }

    pub fn via(&self) -> &Via {
        &self.via
    }

    /// Can it be sent requests in absolute form?
    pub fn forwards(&self) -> bool {
        self.via.scheme != ViaScheme::Socks5
    }

    /// How the user is proved, as the config says or the proxy asked; `None`: not known yet.
    pub fn auth(&self) -> Option<ProxyAuth> {
        self.via.auth.or(self.known().auth)
    }

    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Fetches the password, where a program gives it.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn prepare(&self) -> Result<(), Failure> {
        match &self.password {
            Some(password) => password.get().await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// User name and password; `None`: there is no user.
    ///
    /// # Errors
    /// The password has not been fetched.
    pub fn account(&self) -> Result<Option<(&str, Secret)>, Failure> {
        let Some(username) = &self.via.username else { return Ok(None) };
        let password = match &self.password {
            None => Secret::new(""),
            Some(value) => value.peek().ok_or_else(|| Failure::new(Cause::Credential, format!("{self}: no password at hand")))?,
        };
        Ok(Some((username, password)))
    }

    /// [`Proxy::connect`], for a new dialogue; it is remembered when the proxy cannot be reached.
    ///
    /// # Errors
    /// As there, or its password cannot be had.
    pub async fn enter(&self, net: &NetEnv) -> Result<Stream, Failure> {
        self.prepare().await?;
        let entered = self.connect(net).await;
        self.known().down = entered.as_ref().is_err_and(|failure| failure.cause.is_unreachable()).then(Instant::now);
        entered
    }

    /// Could it not be reached, less than `lately` ago?
    pub fn is_down(&self, lately: Duration) -> bool {
        self.known().down.is_some_and(|since| since.elapsed() < lately)
    }

    /// A connection to it, TLS done where it speaks TLS.
    ///
    /// # Errors
    /// It cannot be reached, or is not to be believed.
    pub async fn connect(&self, net: &NetEnv) -> Result<Stream, Failure> {
        let limits = &net.limits;
        let policy = Policy { deny: &net.egress, named: self.named };
        let named = |failure| self.named(failure);
        let tcp = net.dialer.connect(&self.via.host, self.via.port, &policy, net).await.map_err(named)?;
        let Some(client) = &self.client else { return Ok(Stream::Tcp(tcp)) };
        let handshake = client.connect(tcp, &self.via.host, &[Alpn::Http11]);
        match tokio::time::timeout(limits.tls_handshake, handshake).await {
            Ok(Ok(secured)) => Ok(Stream::Tls(secured.stream)),
            Ok(Err(failure)) => Err(named(failure)),
            Err(_) => Err(Failure::new(Cause::ConnectionTimeout, format!("{self}: the TLS handshake took too long"))),
        }
    }

    /// A failure on a connection to it, with its name and, where TLS says so, what it misses.
    pub fn named(&self, mut failure: Failure) -> Failure {
        failure.details = format!("{self}: {}", failure.details);
        self.hinted(failure)
    }

    /// [`Proxy::named`], for a failure that names it already.
    pub fn hinted(&self, mut failure: Failure) -> Failure {
        if failure.cause == Cause::Loop {
            failure.hint =
                Some("set `upstream_proxy: none`, or take HTTPS_PROXY and its like out of gatepass's own environment".to_owned());
        }
        if failure.hint.is_none() && explain::wants_certificate(&failure) {
            failure.hint = Some("it wants a client certificate that it knows; set `client_certificate` beside `url`".to_owned());
        }
        failure
    }

    pub fn refuses(&self, what: &str) -> Failure {
        Failure::new(Cause::Credential, format!("{self} refuses {what}"))
            .hint("check the user name and password in its URL, or `username` and `password` beside it")
    }

    pub fn wants_user(&self, offers: &str) -> Failure {
        Failure::new(Cause::Credential, format!("{self} wants a user name and password; it offers {offers}"))
            .hint("put them into its URL, or set `username` and `password` beside `url` in `upstream_proxy` or `via`")
    }
}
