//! One peer as the registry knows it: who it is, and whether it lives.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::timer::Time;

/// What this node believes of a peer. Two consecutive misses make a peer `Suspected`, five make it `Down`, any
/// heartbeat makes it `Healthy` (thresholds: `suspect_after`, `down_after`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerStatus {
    /// Heard, or presumed so since the start.
    Healthy,
    /// `suspect_after` consecutive heartbeats were missed.
    Suspected,
    /// `down_after` consecutive heartbeats were missed, or it said that it leaves.
    Down,
}

impl PeerStatus {
    /// All three, in order of gravity.
    pub const ALL: [PeerStatus; 3] = [PeerStatus::Healthy, PeerStatus::Suspected, PeerStatus::Down];

    /// The name in JSON, metrics and logs: `healthy`, `suspected`, `down`.
    pub const fn as_str(self) -> &'static str {
        match self {
            PeerStatus::Healthy => "healthy",
            PeerStatus::Suspected => "suspected",
            PeerStatus::Down => "down",
        }
    }
}

impl fmt::Display for PeerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A peer of the registry. Functions take `now`, since the core reads no clock.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its id; the roster's `HOST:PORT` until that is known.
    pub server_id: Arc<str>,
    /// Where pings go.
    pub address: Option<SocketAddr>,
    /// What this node believes.
    pub status: PeerStatus,
    /// The newest proof of life.
    pub last_seen: Option<Time>,
    /// Consecutive misses.
    pub missed_heartbeats: u32,
    /// Authentic bytes from it.
    pub bytes_received: u64,
    /// Bytes sent to it.
    pub bytes_sent: u64,
}

impl PeerInfo {
    /// Time since the newest proof of life; `None`: never heard.
    pub fn time_since_heartbeat(&self, now: Time) -> Option<Duration> {
        self.last_seen.map(|t| now.since(t))
    }
}
