//! What must hold of one core at any moment.

use lastseen::proto::{PeerStatus, Snapshot, Stats, Verdict};

use super::{Run, Traffic};

impl Run<'_> {
    /// What is quick to look at.
    pub(super) fn look(&mut self) {
        let node = &self.fixture.node;
        let stats = node.stats().clone();
        assert!(never_falls(&self.stats, &stats), "a counter fell: {:?} {stats:?}", self.stats);
        // Late evidence takes misses back, and a Down only if few are left.
        let heard = stats.received_bytes > self.stats.received_bytes;
        self.stats = stats;
        assert!(node.round_trips() <= 128);
        let status = node.registry().get_cluster_status(self.fixture.now);
        let sum = status.healthy_peers + status.suspected_peers + status.down_peers;
        assert_eq!((sum, status.total_peers), (status.total_peers, node.config().static_peers.len() + 1));
        assert!((1..=status.total_peers).contains(&status.proven_peers));
        let down_after = node.config().down_after;
        let peers = node.registry().get_all_peers();
        for (at, peer) in peers.iter().enumerate() {
            let before = self.statuses.get(at).copied().unwrap_or(PeerStatus::Healthy);
            if peer.status == PeerStatus::Down && before != PeerStatus::Down && !self.left && !heard {
                let missed = peer.missed_heartbeats;
                assert!(missed >= down_after, "{} is Down after {missed} misses", peer.server_id);
            }
            if peer.last_seen.is_some() {
                self.trusted.extend(peer.address);
                self.reached.insert("confirmed");
            }
            assert_printable(&peer.server_id);
        }
        self.statuses = peers.iter().map(|peer| peer.status).collect();
        for (address, Traffic { came, went }) in &self.traffic {
            let trusted = self.trusted.contains(address);
            assert!(trusted || went <= came, "{went} bytes to {address}, which sent {came}");
        }
    }

    /// The whole picture.
    pub(super) fn look_at_all(&mut self) {
        let snapshot = self.fixture.snapshot();
        self.reached.insert(snapshot.self_health.as_str());
        let Snapshot { status, peers, verdicts, rows, .. } = &snapshot;
        assert_eq!(status.total_peers, peers.len() + 1);
        assert_eq!(verdicts.iter().sum::<usize>(), peers.len());
        assert_eq!(rows.len(), status.total_peers);
        assert!(snapshot.degraded_peers <= peers.len() && snapshot.unresolved_peers <= peers.len());
        let observed = |status| peers.iter().filter(|peer| peer.status == status).count();
        assert_eq!(status.healthy_peers, observed(PeerStatus::Healthy) + 1);
        assert_eq!(status.down_peers, observed(PeerStatus::Down));
        for peer in peers {
            assert!(peer.conditions.contains(&peer.verdict) || peer.verdict == Verdict::Up, "{peer:?}");
            [&peer.server_id, &*peer.why, &*peer.explanation.meaning].into_iter().for_each(assert_printable);
            self.reached.insert(peer.verdict.as_str());
        }
    }
}

pub(super) fn assert_printable(text: &str) {
    assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?} is not printable");
}

/// Every counter of `now` is at least that of `before`.
fn never_falls(before: &Stats, now: &Stats) -> bool {
    let all = |s: &Stats| {
        let single = [
            s.heartbeats_sent,
            s.heartbeats_missed,
            s.heartbeat_retries,
            s.restarts,
            s.false_downs,
            s.syncs,
            s.datagrams_received,
            s.datagrams_sent,
            s.received_bytes,
            s.sent_bytes,
            s.socket_drops,
            s.socket_filtered,
            s.stalls,
            s.outputs_dropped,
            s.events_dropped,
        ];
        let tables = [&s.relays[..], &s.transitions, &s.rejected, &s.send_errors].concat();
        single.into_iter().chain(tables).collect::<Vec<u64>>()
    };
    let (before_all, now_all) = (all(before), all(now));
    now.stalled >= before.stalled && before_all.iter().zip(&now_all).all(|(before, now)| before <= now)
}
