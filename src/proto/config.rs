//! What a node is told at its start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One entry of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticPeer {
    /// The peer's id, 1 to 64 printable bytes; `None`: learned from the peer's own Welcome.
    pub server_id: Option<Arc<str>>,
    /// The entry's `HOST:PORT` as written; it names the peer until its id is known.
    pub name: Arc<str>,
    /// Where to reach it; `None`: not resolved yet (see [`Node::set_address`](super::Node::set_address)).
    pub address: Option<SocketAddr>,
}

/// The configuration of a node. All durations are positive.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// This node's own id, 1 to 64 printable bytes.
    pub server_id: Arc<str>,
    /// The cluster's name, 1 to 64 printable bytes; part of every key.
    pub cluster: Arc<str>,
    /// Where this node listens; the core only reports it.
    pub listen_address: SocketAddr,
    /// All peers. Entries that name this node must be left out.
    pub static_peers: Vec<StaticPeer>,
    /// One heartbeat a pair every so often. Shorter detects faster and costs more. 10 ms to 1 h.
    pub heartbeat_interval: Duration,
    /// A heartbeat without evidence for so long is a miss. At most `heartbeat_interval`.
    pub heartbeat_timeout: Duration,
    /// Consecutive misses that make a peer Suspected; at least 1, less than `down_after`.
    pub suspect_after: u32,
    /// Consecutive misses that make a peer Down; 2 to 32.
    pub down_after: u32,
    /// The longest spacing between pings to a Down peer; at least two intervals, at most 255.
    pub max_backoff: Duration,
    /// The longest datagram, UDP payload; 256 to 1200.
    pub max_datagram: usize,
    /// For so long after an announced restart a peer's verdict is `left`, then `down`.
    pub leave_grace: Duration,
}

impl PeerConfig {
    /// The defaults of the contract (1 s, 500 ms, 2, 5, 10 s, 1200 bytes, 10 min), for the given identity.
    pub fn new(server_id: &str, cluster: &str, listen_address: SocketAddr, static_peers: Vec<StaticPeer>) -> Self {
        PeerConfig {
            server_id: server_id.into(),
            cluster: cluster.into(),
            listen_address,
            static_peers,
            heartbeat_interval: Duration::from_secs(1),
            heartbeat_timeout: Duration::from_millis(500),
            suspect_after: 2,
            down_after: 5,
            max_backoff: Duration::from_secs(10),
            max_datagram: 1200,
            leave_grace: Duration::from_secs(600),
        }
    }

    /// Checks every field against its stated range.
    ///
    /// # Errors
    /// The first field that is wrong, and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// What is wrong with a configuration. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field is out of its range; the text names it and what would be right.
    #[error("{0}")]
    Invalid(String),
}
