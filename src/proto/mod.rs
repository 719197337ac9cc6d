//! The core: the failure detector as a state machine without clock, socket, thread or runtime.
//!
//! Time, randomness and bytes come in as arguments of [`Node`]'s `handle_*` functions, and what it wants done comes
//! out of its `poll_*` functions. So one code path runs in production, under test, under the fuzzer and in the
//! benchmarks. The contract:
//!
//! 1. Any number of inputs may come before outputs are drained; outputs drain in any order.
//! 2. [`Node::handle_timeout`] early, late or twice is safe; after it the next deadline is none or strictly later.
//!    Time going backwards stands still.
//! 3. Same configuration, seed and inputs: same outputs, byte for byte.
//! 4. A bad datagram is an error and a counter, and no other change. Every queue and table has a stated bound; the
//!    steady state allocates nothing per datagram.
//! 5. `Down` follows only `down_after` consecutive misses, or a leave; any heartbeat resets the count.
//!
//! 6. A datagram takes its number when it is queued. [`Node::poll_transmit`] dates and seals it, so the time that it
//!    waited is counted. A new roster, new keys and a new instance drop what waits.
//!
//! The loop of a shell: when woken, first empty the socket into [`Node::handle_datagram`] (with the kernel's
//! receive times) and the error queue into [`Node::handle_send_error`], then call [`Node::handle_timeout`], then
//! drain [`Node::poll_transmit`] (with a new reading of the clock for each batch, and [`Node::handle_sent`] after the
//! batch) and [`Node::poll_event`], then sleep until [`Node::poll_timeout`].
//!
//! The quorum guard needs a state that outlives restarts. A shell that keeps one reads it before the start and gives it
//! to [`Node::keep_rosters`] right after the node was made. Whenever [`Node::poll_state`] answers, the shell writes that
//! state, and reports with [`Node::handle_state_saved`] once it would survive a loss of power, or with
//! [`Node::handle_state_failed`]. Several states may be on their way: a newer one replaces the older ones. Until the
//! present roster is saved the run is `unsaved`, and a shell that keeps no state never holds the guard. A leave for
//! good begins when its state is saved; where that fails, it is announced as a leave for a restart.
//!
//! One datagram's way: `node::receive` checks it in order ([`Reject`] names the checks), the `session` of its peer
//! opens it and dates it by its echo, the `heartbeat` of its pair asks whether that is life or echo of the present
//! slot, the [`registry`] holds the status that follows, the [`verdict`] says why.

// The tests have an allocator that counts.
#![cfg_attr(not(test), forbid(unsafe_code))]

pub mod catalog;
pub mod config;
pub mod connection;
pub(crate) mod directory;
pub mod drain;
pub mod event;
pub mod explain;
mod fusion;
mod heartbeat;
pub mod labels;
pub mod leave;
mod loss;
mod mass_loss;
mod meaning;
pub mod messages;
pub mod migration;
mod mtu;
pub mod node;
pub mod peer;
pub mod picture;
pub mod records;
pub mod registry;
pub mod roster_state;
pub mod seal;
pub mod server_id;
pub mod service;
mod session;
pub mod snapshot;
pub mod stats;
pub mod strip;
pub mod timer;
mod topology;
pub mod verdict;

pub use catalog::{Announced, Catalog, Route, ServiceInstance};
pub use config::{ConfigError, Observers, PeerConfig, StaticPeer};
pub use connection::{ConnectionPool, PeerConnection};
pub use drain::{Drain, Draining, Reason};
pub use event::{Change, Event, SelfHealth};
pub use explain::{Explanation, Proof, ProofKind};
pub use labels::Labels;
pub use leave::{Leave, LeaveReason};
pub use migration::{Migrating, Migration, Move};
pub use node::{BootstrapRefused, Expected, Node, Transmit};
pub use peer::{PeerInfo, PeerStatus, Thresholds};
pub use picture::Says;
pub use records::{Life, LinkState, Release, Standing};
pub use registry::{ClusterStatus, PeerRegistry};
pub use roster_state::{FormerRoster, Member, RosterState};
pub use seal::{Instance, Keyring, SecretKey, Tag};
pub use server_id::ServerId;
pub use service::{Service, ServiceAddress, ServiceName, ServiceState, Services};
pub use snapshot::{
    Edge, EdgeView, FormerView, LinkView, Missing, PeerView, RowView, Scope, Snapshot, StrangerView,
    WitnessView,
};
pub use stats::{Reject, RelayResult, SendErrorKind, Stats};
pub use strip::{Outcome, Strip};
pub use timer::Time;
pub use verdict::Verdict;

#[cfg(test)]
pub(crate) mod tests;
