//! The way toward a host: straight, or through an upstream proxy; which one, and for which hosts not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::pac::{Exits, Pac};
use super::proxy::Proxy;
use super::{Dialer, NetEnv};
use crate::address::Cidr;
use crate::failure::Failure;
use crate::origin::{Host, Scheme, parse_authority};
use crate::tls::Problem;
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::out::trust::Trust;
use crate::upstream::settings::{UpstreamProxy, Via, ViaScheme};

/// What makes two routes the same.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Route {
    /// Its `ca_bundle` and `client_certificates` are not looked at: see `tls`.
    pub proxy: UpstreamProxy,
    /// TLS toward the proxy itself; `None`: the system's roots, no certificate.
    pub tls: Option<ClientSpec>,
}

impl From<UpstreamProxy> for Route {
    fn from(proxy: UpstreamProxy) -> Self {
        Self { proxy, tls: None }
    }
}

/// A route with its proxies at hand.
pub enum Exit {
    Straight,
    By(Arc<Proxy>),
    Environment(Environment),
    Script(Arc<Pac>),
}

/// What the proxy variables say. The conventions that curl and Go agree on: `https_proxy` and `http_proxy` by the
/// scheme of the request, either case, `ALL_PROXY` for what is left, `NO_PROXY` for exceptions; loopback is never proxied.
pub struct Environment {
    https: Option<Arc<Proxy>>,
    http: Option<Arc<Proxy>>,
    exceptions: Vec<String>,
}

impl Exit {
    /// `sessions`: TLS sessions kept for resumption toward the proxy.
    ///
    /// # Errors
    /// TLS toward the proxy cannot be set up.
    pub fn new(route: &Route, dialer: &Dialer, sessions: usize) -> Result<Self, Problem> {
        let environment = &dialer.environment;
        let proxy = |via: Arc<Via>| -> Result<Arc<Proxy>, Problem> {
            let tls = match (&route.tls, via.scheme) {
                (Some(tls), ViaScheme::Https) => Some(tls.clone()),
                (None, ViaScheme::Https) => Some(ClientSpec::plain(Trust::system()?)),
                _ => None,
            };
            dialer.proxy(via, tls, true, sessions)
        };
        Ok(match &route.proxy {
            UpstreamProxy::None => Exit::Straight,
            UpstreamProxy::To(via) => Exit::By(proxy(via.clone())?),
            UpstreamProxy::Pac(source) => Exit::Script(dialer.pac(source.clone(), route.tls.clone())),
            UpstreamProxy::Env => {
                let named = |name: &str| {
                    let url = either(environment, name).or_else(|| either(environment, "all_proxy"));
                    url.and_then(Via::parse).map(|via| proxy(Arc::new(via))).transpose()
                };
                let exceptions = either(environment, "no_proxy").unwrap_or("").split([',', ' ']);
                let exceptions = exceptions.filter(|entry| !entry.is_empty()).map(str::to_owned).collect();
                Exit::Environment(Environment { https: named("https_proxy")?, http: named("http_proxy")?, exceptions })
            }
        })
    }

    /// The ways to `host:port`, in the order in which they are tried.
    ///
    /// # Errors
    /// A PAC script does not say.
    pub async fn exits(&self, host: &Host, port: u16, scheme: Scheme, net: &Arc<NetEnv>) -> Result<Exits, Failure> {
        match self {
            Exit::Script(pac) if !is_spared(pac, host, port) => pac.exits(host, port, scheme, net).await,
            _ => Ok(Arc::new([self.proxy(host, port, scheme).cloned()])),
        }
    }

    /// The proxy to go through, if any, where no script says it.
    fn proxy(&self, host: &Host, port: u16, scheme: Scheme) -> Option<&Arc<Proxy>> {
        match self {
            Exit::Straight | Exit::Script(_) => None,
            Exit::By(proxy) => Some(proxy).filter(|proxy| !bypassed(&proxy.via().no_proxy, host, port)),
            Exit::Environment(environment) => {
                let Environment { https, http, exceptions } = environment;
                let proxy = if scheme == Scheme::Https { https } else { http };
                proxy.as_ref().filter(|_| !is_local(host) && !bypassed(exceptions, host, port))
            }
        }
    }

    /// Another one than when a connection was made: it went a way that may not be taken any more.
    pub fn generation(&self) -> u64 {
        match self {
            Exit::Script(pac) => pac.generation(),
            _ => 0,
        }
    }

    /// In words, without the network; nothing to say of the straight way.
    pub fn told(&self, host: &Host, port: u16, scheme: Scheme, net: &NetEnv) -> Vec<String> {
        if let Exit::Script(pac) = self {
            return vec![if is_spared(pac, host, port) {
                "straight: not a host for the PAC script (`no_proxy`, or this machine)".to_owned()
            } else {
                pac.told(host, port, scheme, &net.limits)
            }];
        }
        let Some(proxy) = self.proxy(host, port, scheme) else { return Vec::new() };
        let via = proxy.via();
        let user = via.username.as_deref().map_or_else(String::new, |user| format!(" as {user}"));
        let whence = if matches!(self, Exit::Environment(_)) { ", as the environment says" } else { "" };
        vec![format!("via {}:{}{user}{whence}", via.host, via.port)]
    }
}

/// Browsers do not ask a script about their own machine either.
fn is_spared(pac: &Pac, host: &Host, port: u16) -> bool {
    is_local(host) || bypassed(pac.no_proxy(), host, port)
}

fn either<'e>(environment: &'e BTreeMap<String, String>, name: &str) -> Option<&'e str> {
    let found = environment.get(name).or_else(|| environment.get(&name.to_ascii_uppercase()));
    found.map(String::as_str).filter(|value| !value.is_empty())
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Name(name) => &**name == "localhost" || name.ends_with(".localhost"),
        Host::Ip(ip) => ip.is_loopback(),
    }
}

/// Does an entry of a `NO_PROXY` list cover the host? `*`; a name and its subdomains, with or without
/// a leading `.` or `*.`; an address or a CIDR; each with an optional `:port`.
fn bypassed(exceptions: &[String], host: &Host, port: u16) -> bool {
    exceptions.iter().any(|entry| covers(entry.trim(), host, port))
}

fn covers(entry: &str, host: &Host, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Host::Ip(ip) = host {
        let bare = entry.trim_matches(['[', ']']);
        return bare.parse::<IpAddr>().is_ok_and(|entry| entry == *ip)
            || parse_cidr(entry).is_some_and(|cidr| cidr.contains(*ip))
            || parse_authority(entry).is_ok_and(|(h, p)| h == *host && p.is_none_or(|p| p == port));
    }
    let name = entry.trim_start_matches("*.").trim_start_matches('.');
    let Ok((Host::Name(name), p)) = parse_authority(name) else { return false };
    let Host::Name(host) = host else { return false };
    let covered = **host == *name || host.strip_suffix(&*name).is_some_and(|front| front.ends_with('.'));
    covered && p.is_none_or(|p| p == port)
}

pub(super) fn parse_cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    Some(Cidr { address: address.parse().ok()?, prefix: prefix.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provided::SecretRef;
    use crate::settings::Text;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn no_proxy_entries_cover_a_name_and_its_subdomains_only_at_a_dot() {
        for entry in ["example.com", ".example.com", "*.example.com", "EXAMPLE.com", "example.com:443", "*"] {
            assert!(covers(entry, &host("api.example.com"), 443), "{entry}");
        }
        for entry in ["ample.com", "example.com:80", "api.example.co", "", "10.0.0.0/8"] {
            assert!(!covers(entry, &host("api.example.com"), 443), "{entry}");
        }
        assert!(covers("10.0.0.0/8", &host("10.1.2.3"), 443));
        assert!(!covers("10.0.0.0/8", &host("11.1.2.3"), 443));
        assert!(covers("[::1]", &host("[::1]"), 443));
    }

    #[test]
    fn the_environment_chooses_by_scheme_and_spares_loopback() {
        let env =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
        let vars = env(&[("HTTPS_PROXY", "http://u:p%40@proxy.example:3128"), ("no_proxy", "in.example")]);
        let known = |text| match text {
            Text::Known(secret) => SecretRef::Known(secret),
            Text::Command(_) => unreachable!("the environment runs no program"),
        };
        let exit = Exit::new(&Route::default(), &Dialer::new(vars, known), 1).unwrap_or_else(|problem| panic!("{problem}"));
        let via = exit.proxy(&host("a.example"), 443, Scheme::Https).unwrap().via();
        let password = via.password.as_ref().map(|text| matches!(text, Text::Known(p) if p.expose() == "p@"));
        assert_eq!((via.host.to_string(), via.port, password), ("proxy.example".to_owned(), 3128, Some(true)));
        assert!(exit.proxy(&host("a.example"), 80, Scheme::Http).is_none());
        for spared in ["x.in.example", "localhost", "127.0.0.1"] {
            assert!(exit.proxy(&host(spared), 443, Scheme::Https).is_none(), "{spared}");
        }
    }
}
