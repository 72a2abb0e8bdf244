//! Certificates and trust that an agent on this machine hands out, and renews: the SPIFFE Workload API.
//!
//! One [`Agent`] for each socket, shared by all that the configuration takes from it, and kept across
//! reloads. It remembers what it was last sent; a [`Follower`] takes what it sends later. Of gRPC there is
//! just what one call needs, on hyper's HTTP/2.

mod agent;
mod spiffe_id;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use zeroize::Zeroizing;

pub use agent::{Agent, AgentError, Event, Follower};
pub use spiffe_id::SpiffeId;

/// All that an agent has for this process, as it was sent at once.
#[derive(PartialEq, Eq)]
pub struct Update {
    /// The first one is the default.
    pub svids: Vec<Svid>,
    /// CAs of other trust domains, by the domain's id (`spiffe://other.example`): certificates in DER.
    pub federated: BTreeMap<String, Vec<u8>>,
}

/// An X509-SVID: a certificate for a SPIFFE ID, and its key. There is no `Debug`.
#[derive(PartialEq, Eq)]
pub struct Svid {
    pub id: String,
    /// In DER, one after the other: leaf, then intermediates.
    pub certificates: Vec<u8>,
    /// PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
    /// The CAs of its own trust domain, in DER.
    pub bundle: Vec<u8>,
}

/// The agents that the configuration names, one for each socket.
#[derive(Default)]
pub struct Agents {
    known: Mutex<BTreeMap<PathBuf, Arc<Agent>>>,
    added: Notify,
}

impl Agents {
    pub fn at(&self, socket: &Path) -> Arc<Agent> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = known.get(socket) {
            return agent.clone();
        }
        let agent = Arc::new(Agent::new(socket.to_owned()));
        known.insert(socket.to_owned(), agent.clone());
        self.added.notify_one();
        agent
    }

    pub fn all(&self) -> Vec<Arc<Agent>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Lets go of one that the configuration no longer names.
    pub fn forget(&self, socket: &Path) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(socket);
    }

    /// Waits until there is one more.
    pub async fn more(&self) {
        self.added.notified().await;
    }
}
