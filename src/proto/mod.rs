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
//! The loop of a shell: when woken, first empty the socket into [`Node::handle_datagram`] (with the kernel's
//! receive times) and the error queue into [`Node::handle_send_error`], then call [`Node::handle_timeout`], then
//! drain [`Node::poll_transmit`] and [`Node::poll_event`], then sleep until [`Node::poll_timeout`].
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
pub use messages::LeaveReason;
pub use migration::{Migrating, Migration, Move};
pub use node::{Expected, Node, Transmit};
pub use peer::{PeerInfo, PeerStatus, Thresholds};
pub use picture::Says;
pub use records::{Life, LinkState, Release};
pub use registry::{ClusterStatus, PeerRegistry};
pub use seal::{Instance, Keyring, SecretKey, Tag};
pub use server_id::ServerId;
pub use service::{Service, ServiceAddress, ServiceName, ServiceState, Services};
pub use snapshot::{Edge, EdgeView, LinkView, PeerView, RowView, Scope, Snapshot, StrangerView};
pub use stats::{ErrorSource, Reject, RelayResult, SendErrorKind, Stats};
pub use strip::{Outcome, Strip};
pub use timer::Time;
pub use verdict::Verdict;

#[cfg(test)]
pub(crate) mod tests;
