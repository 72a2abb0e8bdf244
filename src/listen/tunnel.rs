//! A tunnel that a client asked for, before anything is known of what goes through it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::exchange::Context;
use crate::gate::Caller;
use crate::observe::{Client, Start};
use crate::origin::Host;

/// Where a tunnel goes and who asked for it.
pub struct Tunnel {
    pub started: Start,
    pub context: Arc<Context>,
    pub host: Host,
    pub port: u16,
    pub client: Client,
    pub caller: Caller,
    /// The address that the client itself dialled, where a firewall redirected it.
    pub at: Option<IpAddr>,
}
