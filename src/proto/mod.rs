//! The core: the failure detector as a state machine without clock, socket, thread or runtime.

pub mod config;
pub mod connection;
pub mod event;
mod heartbeat;
pub mod messages;
pub mod node;
pub mod peer;
pub mod registry;
pub mod seal;
mod session;
pub mod snapshot;
pub mod stats;
pub mod timer;
pub mod verdict;

pub use config::{ConfigError, PeerConfig, StaticPeer};
pub use connection::{ConnectionPool, PeerConnection};
pub use event::{Change, Event, LeaveReason, SelfHealth};
pub use node::{Node, SendErrorKind, Transmit};
pub use peer::{PeerInfo, PeerStatus, Thresholds};
pub use registry::{ClusterStatus, PeerRegistry};
pub use seal::{Instance, Keyring, SecretKey, Tag};
pub use snapshot::{LinkView, PeerView, Snapshot};
pub use stats::{Reject, Stats};
pub use timer::Time;
pub use verdict::Verdict;

#[cfg(test)]
mod tests;
