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

/// How many consecutive misses change a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Misses that make a peer Suspected.
    pub suspect_after: u32,
    /// Misses that make a peer Down.
    pub down_after: u32,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { suspect_after: 2, down_after: 5 }
    }
}

/// A peer of the registry. Functions take `now`, since the core reads no clock.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its id; the roster's `HOST:PORT` until that is known.
    pub server_id: Arc<str>,
    /// Where pings go; `None` while its name does not resolve.
    pub address: Option<SocketAddr>,
    /// What this node believes.
    pub status: PeerStatus,
    /// The date of the newest proof of life; `None`: never heard.
    pub last_seen: Option<Time>,
    /// Consecutive heartbeats missed.
    pub missed_heartbeats: u32,
    /// Authentic bytes from it, UDP payload.
    pub bytes_received: u64,
    /// Bytes sent to it, UDP payload.
    pub bytes_sent: u64,
    /// When the newest datagram that it echoed was sent: its two-way proof. `None`: it never echoed anything.
    pub proof: Option<Time>,
    /// Whether its state is no alarm (it left, drains, or was never heard): see [`super::ClusterStatus::is_degraded`].
    pub excused: bool,
}

impl PeerInfo {
    /// A peer nobody has heard yet: Healthy, as presumed.
    pub fn new(server_id: Arc<str>, address: Option<SocketAddr>) -> PeerInfo {
        PeerInfo {
            server_id,
            address,
            status: PeerStatus::Healthy,
            last_seen: None,
            missed_heartbeats: 0,
            bytes_received: 0,
            bytes_sent: 0,
            proof: None,
            excused: false,
        }
    }

    /// A heartbeat came, dated `date`: the count of misses ends, and the peer is Healthy.
    pub fn heartbeat_received(&mut self, date: Time) {
        self.evidence(date, 0, Thresholds::default());
    }

    /// A heartbeat was missed: one more in a row, and the status follows the thresholds upwards.
    pub fn heartbeat_missed(&mut self, thresholds: Thresholds) {
        self.missed_heartbeats = self.missed_heartbeats.saturating_add(1);
        if self.missed_heartbeats >= thresholds.down_after {
            self.status = PeerStatus::Down;
        } else if self.missed_heartbeats >= thresholds.suspect_after {
            self.status = self.status.max(PeerStatus::Suspected);
        }
    }

    /// Something that was sent to it at `sent` was echoed.
    pub(crate) fn prove(&mut self, sent: Time) {
        self.proof = self.proof.max(Some(sent));
    }

    /// Evidence dated `date`, after which `missed` heartbeats still timed out. Below `suspect_after` the peer is
    /// Healthy; above, late evidence lifts nothing.
    pub(crate) fn evidence(&mut self, date: Time, missed: u32, thresholds: Thresholds) {
        self.last_seen = self.last_seen.max(Some(date));
        self.missed_heartbeats = missed;
        if missed < thresholds.suspect_after {
            self.status = PeerStatus::Healthy;
        }
    }

    /// Time since the newest proof of life; `None`: never heard.
    pub fn time_since_heartbeat(&self, now: Time) -> Option<Duration> {
        self.last_seen.map(|t| now.since(t))
    }

    /// Counts authentic bytes from it.
    pub fn add_bytes_received(&mut self, bytes: u64) {
        self.bytes_received = self.bytes_received.saturating_add(bytes);
    }

    /// Counts bytes sent to it.
    pub fn add_bytes_sent(&mut self, bytes: u64) {
        self.bytes_sent = self.bytes_sent.saturating_add(bytes);
    }

    /// Whether it counts for the quorum: Healthy, and what it echoed last was sent less than `horizon` ago.
    pub fn is_proven(&self, now: Time, horizon: Duration) -> bool {
        self.status == PeerStatus::Healthy && self.proof.is_some_and(|sent| now.since(sent) < horizon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> PeerInfo {
        PeerInfo::new("web-1".into(), Some(([127, 0, 0, 1], 5278).into()))
    }

    fn missed(peer: &mut PeerInfo, times: usize) {
        for _ in 0..times {
            peer.heartbeat_missed(Thresholds::default());
        }
    }

    #[test]
    fn test_peer_info_creation() {
        let peer = peer();
        assert_eq!((&*peer.server_id, peer.status), ("web-1", PeerStatus::Healthy));
        assert_eq!((peer.last_seen, peer.missed_heartbeats), (None, 0));
        assert_eq!((peer.bytes_received, peer.bytes_sent), (0, 0));
        assert!(!peer.is_proven(Time::ZERO, Duration::MAX), "presumed is not proven");
    }

    #[test]
    fn test_peer_heartbeat_received() {
        let mut peer = peer();
        missed(&mut peer, 7);
        assert_eq!(peer.status, PeerStatus::Down);
        peer.heartbeat_received(Time::from_micros(9));
        assert_eq!((peer.status, peer.missed_heartbeats), (PeerStatus::Healthy, 0));
        assert_eq!(peer.last_seen, Some(Time::from_micros(9)));
        peer.heartbeat_received(Time::from_micros(4));
        assert_eq!(peer.last_seen, Some(Time::from_micros(9)), "older evidence moves nothing back");
    }

    #[test]
    fn test_peer_heartbeat_missed() {
        let mut peer = peer();
        let mut seen = Vec::new();
        for _ in 0..6 {
            missed(&mut peer, 1);
            seen.push(peer.status);
        }
        use PeerStatus::{Down, Healthy, Suspected};
        assert_eq!(seen, [Healthy, Suspected, Suspected, Suspected, Down, Down]);
        assert_eq!(peer.missed_heartbeats, 6);
    }

    #[test]
    fn late_evidence_lifts_no_down_for_a_moment() {
        let mut peer = peer();
        missed(&mut peer, 6);
        peer.evidence(Time::from_micros(1), 2, Thresholds::default());
        assert_eq!((peer.status, peer.missed_heartbeats), (PeerStatus::Down, 2));
        peer.evidence(Time::from_micros(2), 1, Thresholds::default());
        assert_eq!(peer.status, PeerStatus::Healthy);
    }

    #[test]
    fn test_peer_bytes_tracking() {
        let mut peer = peer();
        peer.add_bytes_received(100);
        peer.add_bytes_received(28);
        peer.add_bytes_sent(50);
        assert_eq!((peer.bytes_received, peer.bytes_sent), (128, 50));
        peer.add_bytes_sent(u64::MAX);
        assert_eq!(peer.bytes_sent, u64::MAX, "saturates");
    }

    #[test]
    fn test_peer_time_since_heartbeat() {
        let mut peer = peer();
        assert_eq!(peer.time_since_heartbeat(Time::from_micros(5)), None);
        peer.heartbeat_received(Time::from_micros(1_000_000));
        assert_eq!(
            peer.time_since_heartbeat(Time::from_micros(3_500_000)),
            Some(Duration::from_millis(2500))
        );
        assert_eq!(peer.time_since_heartbeat(Time::ZERO), Some(Duration::ZERO), "time does not go back");
    }
}
