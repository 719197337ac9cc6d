//! `lastseen`: a gossip-style failure detector over UDP.

pub mod proto;

#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "net")]
pub mod net;

pub use proto::{
    ClusterStatus, ConnectionPool, Event, Node, PeerConfig, PeerConnection, PeerInfo, PeerRegistry,
    PeerStatus, Snapshot, Time,
};

/// The examples in the README are compiled as tests.
#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../README.md")]
struct Readme;
