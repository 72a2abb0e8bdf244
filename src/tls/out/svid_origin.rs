//! Where what a workload's agent sent can be had again.

use std::path::PathBuf;

use crate::settings::Place;
use crate::workload::SpiffeId;

/// From which agent something came, and what was asked of it: enough to make it anew.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SvidOrigin {
    pub socket: PathBuf,
    /// `None`: the agent's first; for trust always.
    pub id: Option<SpiffeId>,
    pub place: Place,
}
