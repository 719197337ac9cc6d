//! What the simulator looks at beside the snapshot, which is too slow to be made after every step.

use super::Node;
use crate::proto::timer::Time;

impl Node {
    /// Whether the link to the peer at this place of the roster is not known to be cut.
    pub(crate) fn link_is_active(&self, place: usize) -> bool {
        self.pool.at(place).is_active
    }

    /// What it holds of what all nodes say; equal for equal tables. `None`: it still owes something to somebody.
    pub(crate) fn records_fingerprint(&self) -> Option<&[u32]> {
        self.records.is_quiet().then(|| self.records.fingerprint())
    }

    /// All that is known of the heartbeats with the peer at this place, and of the questions about it.
    pub(crate) fn describe(&self, place: usize) -> String {
        let account = &self.accounts[place];
        format!(
            "{:?}\n{:?}\n{:?}, heard {:?} directly, {:?} by others\n{:?}",
            self.beats[place],
            self.pool.at(place),
            account.inquiry,
            account.direct,
            account.relayed,
            self.stats
        )
    }

    /// Whether it leads the pair with the peer at this place.
    #[cfg(test)]
    pub(crate) fn leads(&self, place: usize) -> bool {
        self.beats[place].role == crate::proto::heartbeat::Role::Leader
    }

    /// Whether it has begun to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// When this run began, and when it was last disturbed: woke late, lost datagrams in its queue, or was isolated.
    pub(crate) fn undisturbed_since(&self) -> Time {
        let stall = self.stall.map(|(end, _)| end);
        let isolated = self.isolated.map(|_| self.now);
        [stall, self.drops, isolated, self.was_isolated].into_iter().flatten().fold(self.started, Time::max)
    }
}

impl crate::proto::PeerConfig {
    /// Switches mechanisms off, to show what they are worth.
    #[cfg(test)]
    pub(crate) fn with_mechanisms(mut self, retries: bool, relays: bool) -> Self {
        self.mechanisms = crate::proto::config::Mechanisms { retries, relays };
        self
    }
}
