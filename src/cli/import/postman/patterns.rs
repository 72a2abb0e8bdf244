//! Postman's patterns of URLs: `https://*.example.com:8443/v1/*`, `http+https://*/*`, `<all_urls>`.

use crate::origin::{Host, Origin, Scheme};

pub struct Pattern {
    pub http: bool,
    pub https: bool,
    /// Lower case; `*`, `*.example.com`, or a host.
    pub host: String,
    pub port: Port,
    /// After the first `/`.
    pub path: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The scheme's own.
    Default,
    Any,
    Number(u16),
}

impl Pattern {
    /// # Errors
    /// It never matches, in Postman too: why.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text == "<all_urls>" || text == "*" {
            return Ok(Self { http: true, https: true, host: "*".to_owned(), port: Port::Any, path: "*".to_owned() });
        }
        let (schemes, rest) = text.split_once("://").unwrap_or(("https", text));
        let has = |words: &[&str]| schemes.split('+').any(|scheme| words.contains(&scheme.to_ascii_lowercase().as_str()));
        let (http, https) = (has(&["http", "ws", "*"]), has(&["https", "wss", "*"]));
        if !http && !https {
            return Err("its scheme is none that a proxy carries");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "*"));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => (host, port),
            _ => (authority, ""),
        };
        let port = match port {
            "" => Port::Default,
            "*" => Port::Any,
            number => Port::Number(number.parse().ok().filter(|n| *n > 0).ok_or("its port is none")?),
        };
        let host = host.trim_end_matches('.').to_lowercase();
        let known = match host.strip_prefix("*.") {
            _ if host == "*" => true,
            Some(apex) => Host::parse_written(apex).is_ok_and(|host| host.name().is_some()),
            None => Host::parse_written(&host).is_ok(),
        };
        if !known {
            return Err("which never matches in Postman");
        }
        Ok(Self { http, https, host, port, path: path.to_owned() })
    }

    /// Does it speak of this place? Paths are not compared.
    pub fn is_for(&self, origin: &Origin) -> bool {
        let scheme = match origin.scheme {
            Scheme::Http => self.http,
            Scheme::Https => self.https,
        };
        let port = match self.port {
            Port::Any => true,
            Port::Default => origin.port == origin.scheme.default_port(),
            Port::Number(port) => origin.port == port,
        };
        let text = origin.host.to_string();
        let host = match self.host.strip_prefix("*.") {
            _ if self.host == "*" => true,
            Some(apex) => Host::parse_written(apex).is_ok_and(|apex| {
                let apex = apex.to_string();
                text == apex || text.strip_suffix(&apex).is_some_and(|front| front.ends_with('.'))
            }),
            None => Host::parse_written(&self.host).is_ok_and(|host| host == origin.host),
        };
        scheme && port && host
    }
}
