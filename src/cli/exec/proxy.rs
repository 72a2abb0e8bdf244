//! Where the proxy of a run is.

use std::net::SocketAddr;

use crate::secret::Secret;

/// The user name beside the password of a run.
pub use crate::auth::EXEC_USER as USER;

/// Where the proxy is, and what lets a client in.
pub struct Proxy {
    pub address: SocketAddr,
    pub token: Option<Secret>,
}

impl Proxy {
    pub fn url(&self) -> String {
        match &self.token {
            Some(token) => format!("http://{USER}:{}@{}", token.expose(), self.address),
            None => format!("http://{}", self.address),
        }
    }
}
