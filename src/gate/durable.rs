//! What outlives every gate: a reload must not lose it, and no other gatepass in the same process may share it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::oauth2::Sessions;
use crate::auth::stand_in;
use crate::cookie::Jars;
use crate::secrets;
use crate::upstream::Dialer;
use crate::workload::Agents;

/// Made once by the running gatepass, and handed to each gate that is built.
pub struct Durable {
    pub dialer: Arc<Dialer>,
    /// Agents that certificates and trust come from.
    pub agents: Arc<Agents>,
    /// Captured cookies, by their file.
    pub jars: Jars,
    /// Tokens and keys of `oauth2`, by the settings that they were fetched with.
    pub sessions: Sessions,
    /// Makes the tokens that stand in for credentials.
    pub stand_ins: stand_in::Mint,
}

impl Durable {
    /// With the environment that upstream proxies may be read from.
    pub fn new(env: BTreeMap<String, String>) -> Arc<Self> {
        Arc::new(Self {
            dialer: Dialer::new(env, secrets::reference),
            agents: Arc::default(),
            jars: Jars::default(),
            sessions: Sessions::default(),
            stand_ins: stand_in::Mint::default(),
        })
    }
}
