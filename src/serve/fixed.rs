//! What a process holds from its start to its end, and what of a new configuration therefore waits for the next one.

use std::net::SocketAddr;

use super::Built;
use crate::config::{ListenAddress, Listener, Mode, ProxyProtocol};
use crate::limits::Limits;

pub struct Fixed {
    listeners: Vec<Place>,
    admin: Option<SocketAddr>,
    /// Those that are taken once.
    limits: [(&'static str, usize); 4],
}

#[derive(PartialEq)]
struct Place {
    address: ListenAddress,
    nth: usize,
    mode: &'static str,
    proxy_protocol: Option<ProxyProtocol>,
}

impl Fixed {
    pub fn new(listeners: &[Listener], admin: Option<SocketAddr>, limits: &Limits) -> Self {
        let place = |listener: &Listener| Place {
            address: listener.address.clone(),
            nth: listener.nth,
            mode: match listener.mode {
                Mode::Forward => "forward",
                Mode::Reverse(_) => "reverse",
                Mode::Transparent => "transparent",
            },
            proxy_protocol: listener.proxy_protocol.clone(),
        };
        let limits = [
            ("connections", limits.connections),
            ("strangers", limits.strangers),
            ("admin_connections", limits.admin_connections),
            ("log_queue", limits.log_queue),
        ];
        Self { listeners: listeners.iter().map(place).collect(), admin, limits }
    }

    /// What the new configuration says otherwise, a sentence each. `alone`: this process serves one command, by a listener
    /// of its own and without an admin address.
    pub fn differences(&self, built: &Built, alone: bool) -> Vec<String> {
        let new = Self::new(&built.listeners, built.admin, &built.gate.limits);
        let mut told = Vec::new();
        let find = |places: &[Place], like: &Place| {
            places.iter().position(|place| (&place.address, place.nth) == (&like.address, like.nth))
        };
        for place in &self.listeners {
            let address = shown(&place.address);
            match find(&new.listeners, place).map(|at| &new.listeners[at]) {
                None => told
                    .push(format!("the listener {address} is no longer in the configuration: it stays open and serves nobody")),
                Some(now) if now.mode != place.mode => {
                    told.push(format!("the listener {address} has mode {} now, and serves as {} still", now.mode, place.mode));
                }
                Some(now) if now.proxy_protocol != place.proxy_protocol => {
                    told.push(format!("`proxy_protocol` of the listener {address} is another now, and not heeded yet"));
                }
                Some(_) => {}
            }
        }
        for place in new.listeners.iter().filter(|place| find(&self.listeners, place).is_none()) {
            told.push(format!("the listener {} is new and not open yet", shown(&place.address)));
        }
        if new.admin != self.admin && !alone {
            let address = new.admin.map_or_else(|| "none".to_owned(), |address| address.to_string());
            told.push(format!("`admin.listen` is {address} now, and not heeded yet"));
        }
        for ((name, old), (_, now)) in self.limits.iter().zip(new.limits).filter(|((_, old), (_, now))| old != now) {
            told.push(format!("`limits.{name}` is {now} now, and {old} still holds"));
        }
        told
    }
}

pub fn shown(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        ListenAddress::Inherited(name) => format!("systemd:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Request;

    async fn built(yaml: &str) -> Built {
        let inline = Some(("test.yaml".to_owned(), format!("rules: []\n{yaml}"), std::path::PathBuf::new()));
        let request = Request { inline, ca_in_memory: true, ..Request::default() };
        crate::serve::build(&request).await.unwrap_or_else(|report| panic!("{}", report.render(false)))
    }

    #[tokio::test]
    async fn what_waits_for_a_restart_is_named_and_what_changes_while_running_is_not() {
        let before = built("listeners: [{ listen: 127.0.0.1:1 }, { listen: 127.0.0.1:2, mode: reverse, upstream: 'https://a.test' }]\nadmin: { listen: 127.0.0.1:3 }\n").await;
        let fixed = Fixed::new(&before.listeners, before.admin, &before.gate.limits);
        assert_eq!(fixed.differences(&before, false), Vec::<String>::new());
        let alive = built("listeners: [{ listen: 127.0.0.1:2, mode: reverse, upstream: 'https://b.test' }, { listen: 127.0.0.1:1, access: { users: { a: b } } }]\nadmin: { listen: 127.0.0.1:3 }\nlimits: { idle: 1m }\nlog: { level: debug }\n").await;
        assert_eq!(fixed.differences(&alive, false), Vec::<String>::new());
        let other = built("listeners: [{ listen: 127.0.0.1:2 }, { listen: 127.0.0.1:4 }]\nadmin: { listen: 127.0.0.1:5 }\nlimits: { connections: 7 }\n").await;
        let told = fixed.differences(&other, false);
        let wanted = [
            "127.0.0.1:1 is no longer",
            "127.0.0.1:2 has mode forward",
            "127.0.0.1:4 is new",
            "`admin.listen` is 127.0.0.1:5",
            "`limits.connections` is 7",
        ];
        assert_eq!(told.len(), wanted.len(), "{told:?}");
        for (sentence, part) in told.iter().zip(wanted) {
            assert!(sentence.contains(part), "{sentence} / {part}");
        }
        assert!(!fixed.differences(&other, true).iter().any(|sentence| sentence.contains("admin")));
    }
}
