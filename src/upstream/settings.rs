//! What is configured of the ways on: upstream proxies, the scripts that name them, other addresses, and those never dialled.

use std::path::PathBuf;
use std::sync::Arc;

use crate::address::Cidr;
use crate::origin::{Host, parse_authority};
use crate::secret::Secret;
use crate::settings::{Place, Text};
use crate::tls::settings::{BundleSource, CertificateSource};

/// `upstream_proxy:` and a rule's `via:`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum UpstreamProxy {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` as they stood when the config was read.
    #[default]
    Env,
    None,
    To(Arc<Via>),
    /// A script says it for each origin.
    Pac(Arc<PacSource>),
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Via {
    pub scheme: ViaScheme,
    pub host: Host,
    pub port: u16,
    pub username: Option<String>,
    pub password: Option<Text>,
    /// The user's domain, for NTLM, where the user name does not say it.
    pub domain: Option<String>,
    /// `None`: the strongest that the proxy offers, once it asks.
    pub auth: Option<ProxyAuth>,
    /// Whom to believe and what to show where the proxy itself speaks TLS.
    pub ca_bundle: Option<Arc<BundleSource>>,
    pub client_certificates: Vec<Arc<CertificateSource>>,
    /// Entries in the forms of `NO_PROXY`.
    pub no_proxy: Vec<String>,
}

/// `upstream_proxy: { pac: … }`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PacSource {
    /// Where the configuration names it; of no meaning for what it is.
    pub place: Option<Place>,
    pub from: PacFrom,
    /// What holds for the proxies that it names, whatever their scheme, host and port.
    pub like: Via,
    /// Which of them may be told the user and be shown the client certificate.
    pub proxies: Vec<(Host, Option<u16>)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub enum PacFrom {
    File { path: PathBuf, text: Arc<str> },
    Url(String),
}

impl std::fmt::Display for PacFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PacFrom::File { path, .. } => path.display().fmt(f),
            PacFrom::Url(url) => f.write_str(url.split(['?', '#']).next().unwrap_or(url)),
        }
    }
}

/// How the user is proved to a proxy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProxyAuth {
    Basic,
    Digest,
    Ntlm,
    Negotiate,
}

impl Via {
    /// `scheme://user:password@host:port`; without a scheme, http.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = match url.split_once("://") {
            Some(("http", rest)) => (ViaScheme::Http, rest),
            Some(("https", rest)) => (ViaScheme::Https, rest),
            Some(("socks5" | "socks5h", rest)) => (ViaScheme::Socks5, rest),
            Some(_) => return None,
            None => (ViaScheme::Http, url),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let (user, authority) = rest.rsplit_once('@').map_or((None, rest), |(user, authority)| (Some(user), authority));
        let (host, port) = parse_authority(authority).ok()?;
        let port = port.unwrap_or(match scheme {
            ViaScheme::Http => 80,
            ViaScheme::Https => 443,
            ViaScheme::Socks5 => 1080,
        });
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
            Some((name, password)) => (Some(decode(name)), Some(Text::Known(Secret::new(decode(password))))),
            None => (None, None),
        };
        Some(Via { username, password, ..Via::at(scheme, host, port) })
    }

    /// Nothing but the place.
    pub fn at(scheme: ViaScheme, host: Host, port: u16) -> Self {
        Via {
            scheme,
            host,
            port,
            username: None,
            password: None,
            domain: None,
            auth: None,
            ca_bundle: None,
            client_certificates: Vec::new(),
            no_proxy: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ViaScheme {
    Http,
    Https,
    Socks5,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConnectTo {
    pub host: Host,
    /// `None`: the origin's port.
    pub port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EgressDeny {
    Private,
    LinkLocal,
    Loopback,
    Cidr(Cidr),
}
