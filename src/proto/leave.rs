//! A leave: the last thing that a run publishes about itself.

use serde::{Deserialize, Serialize};

/// Why a node leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaveReason {
    /// It means to come back (SIGTERM).
    Restart,
    /// It is being removed from the cluster.
    Removal,
}

/// The leave in a profile. It holds for the run of that profile only: a newer profile ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// Why the run ended.
    pub reason: LeaveReason,
    /// When it ended, in seconds since 1970, by the wall clock of the node that left.
    pub at: u64,
}
