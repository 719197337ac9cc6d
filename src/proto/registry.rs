//! The peers of the roster, and the counts over them.

use std::time::Duration;

use super::config::{PeerConfig, StaticPeer};
use super::peer::{PeerInfo, PeerStatus, Thresholds};
use super::timer::Time;

/// Counts of the cluster's nodes, this one included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Nodes in the roster, with this one.
    pub total_peers: usize,
    /// Nodes that are Healthy, with this one.
    pub healthy_peers: usize,
    /// Healthy nodes with a current two-way proof, with this one.
    pub proven_peers: usize,
    /// Nodes that are Suspected.
    pub suspected_peers: usize,
    /// Nodes that are Down.
    pub down_peers: usize,
    /// Some node is Suspected or Down, and its verdict is not `left`, `draining` or `unknown`.
    pub is_degraded: bool,
    /// This node is isolated: it may be the one that is cut off, and counts no quorum.
    pub is_isolated: bool,
}

impl ClusterStatus {
    /// More than half of all nodes are proven. Presumption is not enough: a node that has just started claims
    /// no quorum, and neither does one that is isolated.
    pub fn is_quorum_available(&self) -> bool {
        self.proven_peers >= self.quorum_needed() && !self.is_isolated
    }

    /// The number of proven nodes that makes a quorum.
    pub fn quorum_needed(&self) -> usize {
        self.total_peers / 2 + 1
    }
}

/// The peers that this node observes, in the order of the roster: up to 64 all of them. Of the others it has counts; the
/// [`Snapshot`](super::Snapshot) names them. The roster is the bound: nobody joins by gossip.
#[derive(Clone, Debug)]
pub struct PeerRegistry {
    peers: Vec<PeerInfo>,
    /// The counts of the others.
    others: ClusterStatus,
    thresholds: Thresholds,
    horizon: Duration,
}

impl PeerRegistry {
    /// The registry of `config`'s roster: every peer Healthy, as presumed, and none proven.
    pub fn initialize(config: &PeerConfig) -> PeerRegistry {
        PeerRegistry::of(config.static_peers.iter().filter(|p| *p.roster_name() != config.own_name), config)
    }

    /// The registry of the peers that a node observes.
    pub(crate) fn of<'a>(
        observed: impl Iterator<Item = &'a StaticPeer>,
        config: &PeerConfig,
    ) -> PeerRegistry {
        PeerRegistry {
            peers: observed.map(|p| PeerInfo::new(p.roster_name().clone(), p.address)).collect(),
            others: ClusterStatus::default(),
            thresholds: config.thresholds(),
            horizon: config.proof_horizon(),
        }
    }

    /// The peer called `server_id`.
    pub fn get_peer(&self, server_id: &str) -> Option<&PeerInfo> {
        self.peers.iter().find(|p| &*p.server_id == server_id)
    }

    /// All peers that are observed, in the order of the roster.
    pub fn get_all_peers(&self) -> &[PeerInfo] {
        &self.peers
    }

    /// The peers that are Healthy.
    pub fn get_healthy_peers(&self) -> impl Iterator<Item = &PeerInfo> {
        self.peers.iter().filter(|p| p.status == PeerStatus::Healthy)
    }

    /// A heartbeat of `server_id` came, dated `date`. False, and no change, if there is no such peer.
    pub fn mark_heartbeat_received(&mut self, server_id: &str, date: Time) -> bool {
        self.change(server_id, |p, _| p.heartbeat_received(date))
    }

    /// A heartbeat of `server_id` was missed. False, and no change, if there is no such peer.
    pub fn mark_heartbeat_missed(&mut self, server_id: &str) -> bool {
        self.change(server_id, |p, thresholds| p.heartbeat_missed(thresholds))
    }

    /// Counts authentic bytes from `server_id`. False, and no change, if there is no such peer.
    pub fn add_bytes_received(&mut self, server_id: &str, bytes: u64) -> bool {
        self.change(server_id, |p, _| p.add_bytes_received(bytes))
    }

    /// Counts bytes sent to `server_id`. False, and no change, if there is no such peer.
    pub fn add_bytes_sent(&mut self, server_id: &str, bytes: u64) -> bool {
        self.change(server_id, |p, _| p.add_bytes_sent(bytes))
    }

    /// The counts, with this node itself: Healthy and proven.
    pub fn get_cluster_status(&self, now: Time) -> ClusterStatus {
        let mut status = self.others;
        status.total_peers += self.peers.len() + 1;
        status.healthy_peers += 1;
        status.proven_peers += 1;
        for peer in &self.peers {
            match peer.status {
                PeerStatus::Healthy => status.healthy_peers += 1,
                PeerStatus::Suspected => status.suspected_peers += 1,
                PeerStatus::Down => status.down_peers += 1,
            }
            status.proven_peers += usize::from(peer.is_proven(now, self.horizon));
            status.is_degraded |= peer.status != PeerStatus::Healthy && !peer.excused;
        }
        status
    }

    /// Takes the counts of the peers that are not observed.
    pub(crate) fn count_others(&mut self, others: ClusterStatus) {
        self.others = others;
    }

    /// The peer at `index` of the roster.
    pub(crate) fn at(&self, index: usize) -> &PeerInfo {
        &self.peers[index]
    }

    /// The peer at `index` of the roster, to be changed.
    pub(crate) fn at_mut(&mut self, index: usize) -> &mut PeerInfo {
        &mut self.peers[index]
    }

    /// All of them, to be changed with the roster.
    pub(crate) fn peers_mut(&mut self) -> &mut Vec<PeerInfo> {
        &mut self.peers
    }

    fn change(&mut self, server_id: &str, f: impl FnOnce(&mut PeerInfo, Thresholds)) -> bool {
        let thresholds = self.thresholds;
        match self.peers.iter_mut().find(|p| &*p.server_id == server_id) {
            Some(peer) => {
                f(peer, thresholds);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> PeerRegistry {
        let peers = ["a", "b", "c", "d"]
            .iter()
            .enumerate()
            .map(|(i, id)| StaticPeer {
                server_id: Some((*id).into()),
                name: format!("127.0.0.1:{}", 6000 + i).into(),
                address: Some(([127, 0, 0, 1], 6000 + i as u16).into()),
            })
            .collect();
        PeerRegistry::initialize(&PeerConfig::new("me", "test", ([127, 0, 0, 1], 5278).into(), peers))
    }

    #[test]
    fn test_peer_registry_creation() {
        let registry = registry();
        assert_eq!(registry.get_all_peers().len(), 4);
        assert_eq!(registry.get_peer("c").unwrap().address, Some(([127, 0, 0, 1], 6002).into()));
        assert!(registry.get_peer("me").is_none() && registry.get_peer("x").is_none());
    }

    #[test]
    fn test_get_all_peers() {
        let ids: Vec<_> = registry().get_all_peers().iter().map(|p| p.server_id.to_string()).collect();
        assert_eq!(ids, ["a", "b", "c", "d"]);
    }

    #[test]
    fn test_get_healthy_peers() {
        let mut registry = registry();
        for _ in 0..2 {
            registry.mark_heartbeat_missed("b");
        }
        let ids: Vec<_> = registry.get_healthy_peers().map(|p| p.server_id.to_string()).collect();
        assert_eq!(ids, ["a", "c", "d"]);
    }

    #[test]
    fn test_mark_heartbeat_received() {
        let mut registry = registry();
        for _ in 0..5 {
            registry.mark_heartbeat_missed("a");
        }
        assert_eq!(registry.get_peer("a").unwrap().status, PeerStatus::Down);
        assert!(registry.mark_heartbeat_received("a", Time::from_micros(7)));
        let a = registry.get_peer("a").unwrap();
        assert_eq!(
            (a.status, a.missed_heartbeats, a.last_seen),
            (PeerStatus::Healthy, 0, Some(Time::from_micros(7)))
        );
        assert!(!registry.mark_heartbeat_received("x", Time::ZERO));
    }

    #[test]
    fn test_mark_heartbeat_missed() {
        let mut registry = registry();
        assert!(registry.mark_heartbeat_missed("a"));
        assert_eq!(registry.get_peer("a").unwrap().status, PeerStatus::Healthy);
        assert!(registry.mark_heartbeat_missed("a"));
        assert_eq!(registry.get_peer("a").unwrap().status, PeerStatus::Suspected);
        assert!(!registry.mark_heartbeat_missed("x"));
    }

    #[test]
    fn test_cluster_status() {
        let mut registry = registry();
        let now = Time::from_micros(10_000_000);
        let status = registry.get_cluster_status(now);
        assert_eq!((status.total_peers, status.healthy_peers, status.proven_peers), (5, 5, 1));
        assert!(!status.is_degraded && !status.is_quorum_available(), "presumed peers make no quorum");
        for peer in ["a", "b", "c"] {
            registry.change(peer, |p, _| p.proof = Some(now - Duration::from_secs(1)));
        }
        assert!(registry.get_cluster_status(now).is_quorum_available());
        for _ in 0..5 {
            registry.mark_heartbeat_missed("a");
            registry.mark_heartbeat_missed("b");
        }
        let status = registry.get_cluster_status(now);
        assert_eq!((status.healthy_peers, status.down_peers, status.proven_peers), (3, 2, 2));
        assert!(status.is_degraded && !status.is_quorum_available());
        let later = now + Duration::from_secs(2);
        assert_eq!(registry.get_cluster_status(later).proven_peers, 1, "proofs grow old");
        for peer in ["a", "b"] {
            registry.change(peer, |p, _| p.excused = true);
        }
        assert!(!registry.get_cluster_status(now).is_degraded, "who left is no alarm");
    }

    #[test]
    fn test_bytes_tracking() {
        let mut registry = registry();
        assert!(registry.add_bytes_received("a", 10) && registry.add_bytes_sent("a", 20));
        assert!(!registry.add_bytes_sent("x", 1));
        let a = registry.get_peer("a").unwrap();
        assert_eq!((a.bytes_received, a.bytes_sent), (10, 20));
    }
}
