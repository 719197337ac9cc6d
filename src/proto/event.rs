//! What the core tells: one event a transition, with its cause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::explain::Explanation;
use super::messages::LeaveReason;
use super::migration::Migration;
use super::peer::PeerStatus;
use super::service::{ServiceName, ServiceState};
use super::timer::Time;
use super::verdict::Verdict;

/// One thing that happened, as this node saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When the core noticed it.
    pub at: Time,
    /// The peer it is about; `None` if it is about this node or the cluster.
    pub peer: Option<Arc<str>>,
    /// Whether this node exchanges heartbeats with that peer, or the event is about none.
    pub observed: bool,
    /// What changed.
    pub change: Change,
    /// The peer's verdict after the change; `None` if the event is about no peer.
    pub verdict: Option<Verdict>,
    /// The sentence that explains it: one line, no control characters.
    pub why: String,
    /// What the verdict rested on at that time; `None` if the event is about no peer.
    pub evidence: Option<Arc<Explanation>>,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A peer's status changed.
    Status {
        /// Before.
        from: PeerStatus,
        /// After.
        to: PeerStatus,
    },
    /// A peer's verdict changed and its status did not.
    Verdict {
        /// Before.
        from: Verdict,
        /// After.
        to: Verdict,
    },
    /// A new instance of a peer was confirmed.
    Restart,
    /// A peer said that it leaves.
    Leave(LeaveReason),
    /// A node drains, or does so no longer: a peer, or this node if the event is about none.
    Drain {
        /// Until then, in seconds since 1970; `None`: it has ended.
        until: Option<u64>,
    },
    /// The quorum was gained or lost.
    Quorum {
        /// Whether this node counts one now.
        available: bool,
    },
    /// Many peers were lost at once, or that is over: half of them are back, or five minutes passed.
    MassLoss {
        /// Whether it begins.
        begins: bool,
    },
    /// This node's own health changed.
    Health {
        /// Before.
        from: SelfHealth,
        /// After.
        to: SelfHealth,
    },
    /// The state of a service changed, at a peer, or at this node if the event is about none.
    Service {
        /// Which.
        service: ServiceName,
        /// Before; `None`: it was not offered.
        from: Option<ServiceState>,
        /// After; `None`: it is offered no longer.
        to: Option<ServiceState>,
    },
    /// Clients are to move: the peer announced it, or this node if the event is about none.
    Migrate(Box<Migration>),
    /// A peer answers from another address now.
    Address {
        /// Before.
        from: SocketAddr,
        /// After.
        to: SocketAddr,
    },
    /// The loop woke this much later than planned.
    Stall(Duration),
    /// Another process speaks under this node's own id.
    Conflict {
        /// Where its datagram came from.
        address: SocketAddr,
    },
    /// A peer echoed a sequence that this instance never sent: this process is a clone or was rolled back. The
    /// shell must call [`Node::renew`](super::Node::renew) with a fresh instance from the operating system.
    Rollback,
    /// Other keys are in force.
    Keys,
    /// Other nodes are in the roster.
    Roster,
    /// The shell has read its settings anew, or could not.
    Reload {
        /// Whether they are in force.
        succeeded: bool,
    },
}

impl Change {
    /// The event's type in the contract: `status`, `verdict`, `restart`, `leave`, `drain`, `quorum`, `mass_loss`, `self`, `key`,
    /// `roster`, `reload`, `migrate`, `service` or `address`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Change::Status { .. } => "status",
            Change::Verdict { .. } => "verdict",
            Change::Restart => "restart",
            Change::Leave(_) => "leave",
            Change::Drain { .. } => "drain",
            Change::Quorum { .. } => "quorum",
            Change::MassLoss { .. } => "mass_loss",
            Change::Health { .. } | Change::Stall(_) | Change::Rollback | Change::Conflict { .. } => "self",
            Change::Service { .. } => "service",
            Change::Migrate(_) => "migrate",
            Change::Address { .. } => "address",
            Change::Keys => "key",
            Change::Roster => "roster",
            Change::Reload { .. } => "reload",
        }
    }
}

/// How this node judges itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelfHealth {
    /// Nothing is wrong.
    #[default]
    Ok,
    /// The loop stalled within the last `down_after` intervals.
    Stalled,
    /// The kernel dropped datagrams from the socket within the last `down_after` intervals.
    Flooded,
    /// Nothing authentic came from anybody for `suspect_after` intervals (three nodes or more).
    Isolated,
}

impl SelfHealth {
    /// All of them, in the order of the contract.
    pub const ALL: [SelfHealth; 4] =
        [SelfHealth::Ok, SelfHealth::Stalled, SelfHealth::Flooded, SelfHealth::Isolated];

    /// The name in JSON, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            SelfHealth::Ok => "ok",
            SelfHealth::Stalled => "stalled",
            SelfHealth::Flooded => "flooded",
            SelfHealth::Isolated => "isolated",
        }
    }
}
