//! The configuration as it is meant: what is left when names are joined, defaults filled in, and
//! variables and secrets resolved. No YAML here, no `Option` that a default would fill.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, Method};

use crate::address::Cidr;
use crate::initiator::CrossSite;
use crate::limits::Limits;
use crate::observe::Log;
use crate::origin::Host;
use crate::pattern::{HostPattern, PathPattern, Ports};
use crate::settings::{Node, Place, Text};
use crate::tls::settings::{BundleSource, CaSource, CertificateSource, ListenerTls, TlsSettings};
use crate::upstream::settings::{ConnectTo, EgressDeny, UpstreamProxy};

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
    pub echo: Option<Echo>,
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

/// What becomes of a credential of ours that an answer repeats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Echo {
    #[default]
    Mask,
    Pass,
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
    /// `true`: it may be secret, by its name or since the text does not stand in the configuration.
    Set(HeaderName, Text, Place, bool),
    Remove(HeaderName),
}

#[derive(Clone, PartialEq, Eq)]
pub enum QueryEdit {
    /// `true`: as for [`HeaderEdit::Set`].
    Set(String, Text, bool),
    Remove(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Carry it as the rules say (takes an earlier `deny` or `tunnel` away).
    Allow,
    Deny,
    Tunnel,
}
