//! Listeners: bound, or inherited from systemd.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use super::StartError;
use crate::config::{ListenAddress, Listener, Mode};
use crate::files;
use crate::gate::Gate;
use crate::listen::{Bound, Socket};

/// What systemd handed over, to be taken by name.
pub struct Inherited {
    fds: ListenFd,
    names: Vec<String>,
}

impl Inherited {
    /// `names`: LISTEN_FDNAMES (sd_listen_fds(3)).
    pub fn new(names: Option<&String>) -> Self {
        let names = names.map(|names| names.split(':').map(str::to_owned).collect()).unwrap_or_default();
        Self { fds: ListenFd::from_env(), names }
    }

    fn take(&mut self, name: &str) -> Result<Socket, String> {
        if self.fds.len() == 0 {
            return Err("systemd handed over no socket; is gatepass started by its socket unit?".to_owned());
        }
        let at = match name {
            "" => 0,
            name => self.names.iter().position(|own| own == name).ok_or_else(|| {
                format!(
                    "systemd handed over no socket called `{name}`, but {} (FileDescriptorName= in the socket unit)",
                    self.names.join(", ")
                )
            })?,
        };
        let failed = |cause: std::io::Error| format!("the socket from systemd cannot be used: {cause}");
        if let Ok(Some(listener)) = self.fds.take_tcp_listener(at) {
            listener.set_nonblocking(true).map_err(failed)?;
            return TcpListener::from_std(listener).map(Socket::Tcp).map_err(failed);
        }
        match self.fds.take_unix_listener(at).map_err(failed)? {
            Some(listener) => {
                listener.set_nonblocking(true).map_err(failed)?;
                UnixListener::from_std(listener).map(Socket::Unix).map_err(failed)
            }
            None => Err("two listeners want the same socket from systemd".to_owned()),
        }
    }
}

pub async fn bind(listener: Listener, gate: &Gate, inherited: &mut Inherited) -> Result<Bound, StartError> {
    let name = (listener.address.clone(), listener.nth);
    let tls = gate.listener_tls(&name).flatten();
    let socket = match &listener.address {
        ListenAddress::Tcp(address) => Socket::Tcp(bind_tcp(*address).await?),
        ListenAddress::Unix(path) => Socket::Unix(bind_unix(path, &listener).await?),
        ListenAddress::Inherited(name) => {
            let socket = inherited.take(name).map_err(|message| StartError::Other { message, help: None })?;
            refuse_open(&socket, &listener)?;
            socket
        }
    };
    let Listener { mode, proxy_protocol, .. } = listener;
    Ok(Bound { socket, name, mode, tls, proxy_protocol })
}

/// As the configuration refuses it for an address that it names itself.
fn refuse_open(socket: &Socket, listener: &Listener) -> Result<(), StartError> {
    let Some(address) = socket.local_addr() else { return Ok(()) };
    if address.ip().is_loopback() || listener.is_guarded() {
        return Ok(());
    }
    Err(StartError::Other {
        message: format!("the socket from systemd, {address}, can be reached from other machines, and nothing says who may call"),
        help: Some("give it 127.0.0.1 in the socket unit, or say who may call with `access:` in `listeners:`".to_owned()),
    })
}

pub async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AddrInUse => StartError::Other {
            message: format!("cannot listen on {address}: something listens there already, perhaps another gatepass"),
            help: Some("stop it, or choose another address with `--listen 127.0.0.1:0`".to_owned()),
        },
        std::io::ErrorKind::PermissionDenied => StartError::Other {
            message: format!("cannot listen on {address}: permission denied"),
            help: Some("ports below 1024 are for root; choose a higher one".to_owned()),
        },
        _ => StartError::Other { message: format!("cannot listen on {address}: {cause}"), help: None },
    })
}

/// Who may open the socket is said twice: by its permissions, and by the user id of whoever connects.
async fn bind_unix(path: &Path, listener: &Listener) -> Result<UnixListener, StartError> {
    let failed = |why: String| StartError::Other { message: format!("cannot listen on {}: {why}", path.display()), help: None };
    if files::is_socket(path) {
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(StartError::Other {
                message: format!(
                    "cannot listen on {}: something listens there already, perhaps another gatepass",
                    path.display()
                ),
                help: Some("stop it, or choose another path".to_owned()),
            });
        }
        // Left behind by one that was killed.
        files::remove(path).map_err(|error| failed(error.to_string()))?;
    } else if files::exists(path) {
        return Err(failed("there is a file of that name, which is not a socket".to_owned()));
    }
    let socket = UnixListener::bind(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => failed("its folder does not exist".to_owned()),
        _ => failed(cause.to_string()),
    })?;
    let mode = if listener.access.as_ref().is_some_and(|access| !access.uids.is_empty()) { 0o666 } else { 0o600 };
    files::set_mode(path, mode).map_err(|error| failed(error.to_string()))?;
    Ok(socket)
}

/// How clients write it; a port that was left to the system is known now.
pub fn announced(bound: &Bound) -> String {
    let Some(address) = bound.socket.local_addr() else { return super::fixed::shown(&bound.name.0) };
    match (&bound.mode, &bound.tls) {
        (Mode::Transparent, _) => address.to_string(),
        (_, Some(_)) => format!("https://{address}"),
        (_, None) => format!("http://{address}"),
    }
}

/// The sockets that are ours to remove at the end.
pub fn made(address: &ListenAddress) -> Option<PathBuf> {
    match address {
        ListenAddress::Unix(path) => Some(path.clone()),
        _ => None,
    }
}
