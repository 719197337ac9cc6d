//! What counts as life, and what was missed.

use std::collections::VecDeque;
use std::time::Duration;

use super::Rhythm;
use crate::proto::timer::Time;

/// The newest evidence of a peer's life, and the heartbeats that timed out after it.
#[derive(Debug)]
pub(super) struct Misses {
    /// Date of the newest evidence, and for how many heartbeats it covers.
    evidence: Option<Time>,
    covers: u8,
    /// Slots of the newest heartbeats that were missed, at most `down_after`.
    slots: VecDeque<Time>,
    /// How many were missed in all since a success.
    count: u32,
    /// The first slot that was missed after a success.
    first: Option<Time>,
}

impl Misses {
    pub(super) fn new(rhythm: &Rhythm) -> Misses {
        let slots = VecDeque::with_capacity(rhythm.down_after as usize);
        Misses { evidence: None, covers: 1, slots, count: 0, first: None }
    }

    /// Heartbeats timed out after the newest evidence.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// For how many heartbeats beyond its own the newest datagram covers.
    #[cfg(feature = "sim")]
    pub(super) fn covered(&self) -> u32 {
        u32::from(self.covers.saturating_sub(1))
    }

    /// Whether the evidence counts for the heartbeat of `slot`. `tolerance`: what is dated so much before the slot
    /// still counts for it, since a date is early by one path delay.
    pub(super) fn lives(&self, rhythm: &Rhythm, slot: Time, tolerance: Duration) -> bool {
        let covered = rhythm.interval.saturating_mul(u32::from(self.covers.saturating_sub(1)));
        let slack = if self.covers > 1 { rhythm.timeout } else { tolerance };
        self.evidence.is_some_and(|date| date + covered + slack >= slot)
    }

    /// Whether a peer that is silent in every slot would be missed for the `down_after`th time in this `slot`.
    pub(super) fn is_overdue(&self, rhythm: &Rhythm, slot: Time) -> bool {
        // One out of turn stands for the slot that is less than half an interval after it.
        let due = rhythm.interval * (rhythm.down_after - 1);
        self.first.is_some_and(|first| first + due <= slot + rhythm.interval / 2)
    }

    /// The heartbeat of `slot` was missed. The count rises to `limit` at most.
    pub(super) fn add(&mut self, rhythm: &Rhythm, slot: Time, limit: u32) {
        if self.slots.len() == rhythm.down_after as usize {
            self.slots.pop_front();
        }
        self.slots.push_back(slot);
        self.first = self.first.or(Some(slot));
        self.count = self.count.saturating_add(1).min(limit);
    }

    /// The count begins at `missed`. No slot stands for it, so that any evidence ends it.
    pub(super) fn presume(&mut self, missed: u32) {
        self.count = missed;
    }

    /// The count falls to `limit` at most.
    pub(super) fn excuse(&mut self, limit: u32) {
        if self.count > limit {
            self.count = limit;
            let gone = self.slots.len().saturating_sub(limit as usize);
            self.slots.drain(..gone);
            self.first = self.slots.front().copied();
        }
    }

    /// Evidence dated `date`. `covers`: the spacing that its datagram announced, if that is the newest one. The
    /// count becomes that of the misses after the newest date; older ones than are remembered stay missed.
    pub(super) fn evidence(&mut self, rhythm: &Rhythm, date: Time, covers: Option<u8>, tolerance: Duration) {
        self.covers = covers.map_or(self.covers, |b| b.max(1));
        self.evidence = self.evidence.max(Some(date));
        let still = self.slots.iter().filter(|slot| !self.lives(rhythm, **slot, tolerance)).count();
        if still < self.slots.len() || self.slots.is_empty() {
            self.count = still as u32;
            self.slots.drain(..self.slots.len() - still);
            self.first = self.slots.front().copied();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> Time {
        Time::ZERO + SECOND * seconds
    }

    fn rhythm() -> Rhythm {
        let (timeout, laziness) = (SECOND / 2, SECOND / 20);
        let (down_after, max_spacing, retries) = (5, 10, true);
        Rhythm { interval: SECOND, timeout, laziness, down_after, max_spacing, retries }
    }

    #[test]
    fn late_evidence_helps_exactly_as_much_as_it_should() {
        let (rhythm, mut misses) = (rhythm(), Misses::new(&rhythm()));
        (10..20).for_each(|slot| misses.add(&rhythm, at(slot), u32::MAX));
        assert_eq!(misses.count(), 10);
        misses.evidence(&rhythm, at(14), None, Duration::ZERO);
        assert_eq!(misses.count(), 10, "the newest five are all later");
        misses.evidence(&rhythm, at(17), None, Duration::ZERO);
        assert_eq!(misses.count(), 2, "18 and 19 are later");
        misses.evidence(&rhythm, at(12), None, Duration::ZERO);
        assert_eq!(misses.count(), 2, "older evidence changes nothing");
        misses.evidence(&rhythm, at(19), None, Duration::ZERO);
        assert_eq!(misses.count(), 0);
    }

    #[test]
    fn an_announced_spacing_covers() {
        let (rhythm, mut misses) = (rhythm(), Misses::new(&rhythm()));
        misses.evidence(&rhythm, at(10), Some(4), Duration::ZERO);
        assert!(
            misses.lives(&rhythm, at(13), Duration::ZERO) && !misses.lives(&rhythm, at(14), Duration::ZERO)
        );
        misses.evidence(&rhythm, at(11), Some(0), Duration::ZERO);
        assert!(
            misses.lives(&rhythm, at(11), Duration::ZERO) && !misses.lives(&rhythm, at(12), Duration::ZERO)
        );
        assert!(misses.lives(&rhythm, at(11) + SECOND / 4, SECOND / 4));
    }

    #[test]
    fn a_peer_is_overdue_when_a_silent_one_would_be_down() {
        let (rhythm, mut misses) = (rhythm(), Misses::new(&rhythm()));
        assert!(!misses.is_overdue(&rhythm, at(99)));
        (10..20).for_each(|slot| misses.add(&rhythm, at(slot), 4));
        assert!(!misses.is_overdue(&rhythm, at(13)));
        assert!(misses.is_overdue(&rhythm, at(14)) && misses.is_overdue(&rhythm, at(14) - SECOND / 2));
        misses.evidence(&rhythm, at(17), None, Duration::ZERO);
        assert!(!misses.is_overdue(&rhythm, at(21)), "it begins with the first slot that is still missed");
        assert!(misses.is_overdue(&rhythm, at(22)));
        misses.excuse(1);
        assert!(!misses.is_overdue(&rhythm, at(22)), "what is excused was not missed");
        assert!(misses.is_overdue(&rhythm, at(23)));
    }

    #[test]
    fn a_refusing_host_is_given_its_interval() {
        let (rhythm, mut misses) = (rhythm(), Misses::new(&rhythm()));
        (10..20).for_each(|slot| misses.add(&rhythm, at(slot), 4));
        assert_eq!(misses.count(), 4);
    }
}
