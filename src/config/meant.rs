//! The configuration as it is meant: what is left when names are joined, defaults filled in, and
//! variables and secrets resolved. No YAML here, no `Option` that a default would fill.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, Method};

use super::spiffe::SpiffeId;
use super::token::TokenUri;
pub use super::ways::*;
use crate::initiator::CrossSite;
use crate::limits::Limits;
use crate::origin::Host;
use crate::pattern::{HostPattern, PathPattern, Ports};
use crate::settings::{Node, Pem, Place, Text};

pub struct Config {
    pub listeners: Vec<Listener>,
    pub unmatched: Unmatched,
    pub upstream_proxy: UpstreamProxy,
    /// Where hosts are, whatever the system's resolver says.
    pub resolve: BTreeMap<Host, Vec<IpAddr>>,
    pub credentials: BTreeMap<String, Arc<Credential>>,
    pub client_certificates: BTreeMap<String, Arc<CertificateSource>>,
    pub ca_bundles: BTreeMap<String, Arc<BundleSource>>,
    /// In the order of the files; a later one wins. Certificates with `host:` come first, as rules of their own.
    pub rules: Vec<Rule>,
    pub ca: CaSource,
    /// Where tokens and cookies are kept.
    pub state: PathBuf,
    pub admin: Option<SocketAddr>,
    pub log: Log,
    pub limits: Limits,
    pub egress: Vec<EgressDeny>,
    /// Every file this was made from (config, includes, secret files): what to watch besides
    /// certificates and CAs, which the gate adds.
    pub files: Vec<PathBuf>,
}

#[derive(Clone)]
pub struct Listener {
    pub place: Place,
    pub address: ListenAddress,
    /// How many before it have the same address, as several with port 0 may.
    pub nth: usize,
    pub mode: Mode,
    pub tls: Option<ListenerTls>,
    pub access: Option<Access>,
    /// `None`: connections begin with the client's own bytes.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// In mode reverse: what it is called, besides loopback names, its own address and the upstream.
    pub hosts: Vec<HostPattern>,
    /// In mode reverse: may pages of other origins use it?
    pub cross_site: CrossSite,
}

impl Listener {
    /// A forward proxy, nothing else said.
    pub fn forward(place: Place, address: ListenAddress) -> Self {
        Self {
            place,
            address,
            nth: 0,
            mode: Mode::Forward,
            tls: None,
            access: None,
            proxy_protocol: None,
            hosts: Vec::new(),
            cross_site: CrossSite::Refuse,
        }
    }

    /// Does something say who may call from other machines?
    pub fn is_guarded(&self) -> bool {
        let client_ca = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        client_ca || self.access.as_ref().is_some_and(|access| !access.users.is_empty() || !access.cidrs.is_empty())
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// Opened by systemd (sd_listen_fds(3)) under this name; empty: the first of them.
    Inherited(String),
}

/// A load balancer before the listener says who calls (HAProxy's PROXY protocol, versions 1 and 2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyProtocol {
    /// The load balancers; nobody else is heard. Empty: whoever connects.
    pub from: Vec<Cidr>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mode {
    Forward,
    /// Everything goes to this origin, given as a URL.
    Reverse(crate::origin::Origin),
    Transparent,
}

#[derive(Clone, PartialEq, Eq)]
pub struct ListenerTls {
    pub place: Place,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

impl ListenerTls {
    /// What to watch.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().cloned()
    }
}

/// What `exec` calls its command, where that sends the password of its run. It is the user that gatepass runs as.
pub const EXEC_USER: &str = "gatepass";

/// Who may call. Any one of them suffices.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Access {
    pub users: BTreeMap<String, Text>,
    pub cidrs: Vec<Cidr>,
    /// At a Unix socket.
    pub uids: Vec<u32>,
    /// On this machine, processes of the user that gatepass runs as.
    pub same_user: bool,
}

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

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unmatched {
    #[default]
    Tunnel,
    Deny,
    Intercept,
}

/// A credential: its type's name and the settings as written. The scheme's own file in `auth` reads
/// the settings, so that a new scheme is one file.
pub struct Credential {
    /// `None` for one written inline.
    pub name: Option<String>,
    pub place: Place,
    pub kind: String,
    pub settings: Node,
}

/// Where a client certificate comes from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CertificateSource {
    pub name: Option<String>,
    pub place: Place,
    pub material: Material,
    /// Of the key or PFX file; of a token its PIN.
    pub passphrase: Option<Text>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Material {
    /// `key: None`: the key stands in the certificate's file.
    Pem { cert: Pem, cert_place: Place, key: Option<(Pem, Place)> },
    Pfx {
        file: PathBuf,
        place: Place,
        /// Which of several keys, by its name in the file.
        alias: Option<(String, Place)>,
    },
    /// A key on a token; the PIN is the source's passphrase.
    Pkcs11 {
        uri: TokenUri,
        place: Place,
        module: Option<(PathBuf, Place)>,
        /// `None`: the certificate is on the token too.
        cert: Option<(Pem, Place)>,
    },
    /// From the agent at this socket.
    Spiffe {
        socket: PathBuf,
        /// `None`: the agent's first.
        spiffe_id: Option<SpiffeId>,
        place: Place,
    },
}

impl CertificateSource {
    /// The files that are read for it.
    pub fn files(&self) -> Vec<Pem> {
        match &self.material {
            Material::Pem { cert, key, .. } => {
                [Some(cert), key.as_ref().map(|(key, _)| key)].into_iter().flatten().cloned().collect()
            }
            Material::Pfx { file, .. } => vec![Pem::File(file.clone())],
            Material::Pkcs11 { cert, .. } => cert.iter().map(|(pem, _)| pem.clone()).collect(),
            Material::Spiffe { .. } => Vec::new(),
        }
    }

    /// What else than files and passphrase makes it differ from another.
    pub fn elsewhere(&self) -> Option<String> {
        match &self.material {
            Material::Pem { .. } => None,
            Material::Pfx { alias, .. } => alias.as_ref().map(|(alias, _)| format!("alias {alias}")),
            Material::Pkcs11 { uri, module, .. } => Some(format!("{uri} {:?}", module.as_ref().map(|(path, _)| path))),
            Material::Spiffe { socket, spiffe_id, .. } => Some(format!("{socket:?} {spiffe_id:?}")),
        }
    }
}

/// Whom to believe.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BundleSource {
    pub name: Option<String>,
    pub place: Place,
    /// PEM files, or folders of them.
    pub files: Vec<(Pem, Place)>,
    /// Add the system's roots (true unless said otherwise).
    pub system_roots: bool,
    /// Instead of both: the CAs of the agent at this socket.
    pub spiffe: Option<(PathBuf, Place)>,
}

pub struct Rule {
    pub place: Place,
    /// Position among all rules, from 0; what `rules[N]` in messages says.
    pub index: usize,
    pub hosts: Vec<HostPattern>,
    pub ports: Ports,
    pub schemes: Schemes,
    /// Empty: every path.
    pub paths: Vec<PathPattern>,
    /// Empty: every method.
    pub methods: Vec<Method>,
    /// Empty: every caller.
    pub clients: Vec<Client>,
    /// `None`: not said. Empty: `auth: none`.
    pub auth: Option<Vec<Arc<Credential>>>,
    pub client_certificates: Option<Vec<Arc<CertificateSource>>>,
    pub ca_bundle: Option<Arc<BundleSource>>,
    pub on_existing_auth: Option<OnExisting>,
    /// The name of the credential that token requests here get a stand-in for.
    pub token_endpoint: Option<Arc<str>>,
    pub headers: Vec<HeaderEdit>,
    pub query: Vec<QueryEdit>,
    pub connect_to: Option<ConnectTo>,
    pub tls: TlsSettings,
    pub accept_invalid_certs: Option<bool>,
    pub via: Option<UpstreamProxy>,
    pub action: Option<Action>,
    pub cross_site: Option<CrossSite>,
}

impl Rule {
    /// Which requests it speaks of, as a text to compare.
    pub fn requests(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        let paths: Vec<String> = self.paths.iter().map(ToString::to_string).collect();
        format!("{hosts:?} {:?} {:?} {paths:?} {:?} {:?}", self.ports, self.schemes, self.methods, self.clients)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schemes {
    Https,
    Http,
    Any,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Client {
    User(String),
    Cidr(Cidr),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnExisting {
    #[default]
    Replace,
    Keep,
    Reject,
}

#[derive(Clone, PartialEq, Eq)]
pub enum HeaderEdit {
    Set(HeaderName, Text, Place),
    Remove(HeaderName),
}

#[derive(Clone, PartialEq, Eq)]
pub enum QueryEdit {
    Set(String, Text),
    Remove(String),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConnectTo {
    pub host: Host,
    /// `None`: the origin's port.
    pub port: Option<u16>,
}

/// `None` everywhere: not said.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct TlsSettings {
    pub server_name: Option<Host>,
    /// The server is known by one of these instead of its host name.
    pub spiffe_id: Option<Vec<SpiffeId>>,
    pub min_version: Option<TlsVersion>,
    pub max_version: Option<TlsVersion>,
    /// SHA-256 of a SubjectPublicKeyInfo anywhere in the chain.
    pub pins: Option<Vec<[u8; 32]>>,
    pub crl: Option<Vec<(PathBuf, Place)>>,
    pub resumption: Option<bool>,
    pub alpn: Option<Vec<Alpn>>,
    pub backend: Option<TlsBackend>,
    pub ocsp: Option<Ocsp>,
    /// The server may end a connection without TLS's word for it.
    pub lenient_end: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Alpn {
    H2,
    Http11,
}

/// What is made of stapled OCSP responses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Ocsp {
    /// One that says "revoked" refuses the server; one that is missing or proves nothing does not.
    #[default]
    Check,
    /// There must be one, and it must hold.
    Require,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TlsBackend {
    #[default]
    Rustls,
    Openssl,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Carry it as the rules say (takes an earlier `deny` or `tunnel` away).
    Allow,
    Deny,
    Tunnel,
}

/// Where the interception CA is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CaSource {
    /// Made on first start in this folder, as `ca.pem` and `ca.key`; `constrain`: where it is said that it
    /// may only issue for the hosts of the rules.
    Dir {
        directory: PathBuf,
        constrain: Option<Place>,
    },
    Files {
        cert: PathBuf,
        key: PathBuf,
        place: Place,
    },
    /// Made anew and kept nowhere, for the demonstration and tests.
    Memory,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or directives in the syntax of tracing's `EnvFilter`.
    pub level: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EgressDeny {
    Private,
    LinkLocal,
    Loopback,
    Cidr(Cidr),
}
