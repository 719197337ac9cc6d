//! Many peers lost at once: what they share is at fault (a rack, a switch, a supply), not each of them.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::config::PeerConfig;
use super::timer::Time;

/// Fewer peers are never many.
const FEWEST: usize = 3;
/// So long after the newest loss it is over, whoever is back.
const LONGEST: Duration = Duration::from_secs(300);

/// Whether many peers were lost at once. It changes no status.
#[derive(Debug)]
pub(crate) struct MassLoss {
    share: f64,
    peers: usize,
    window: Duration,
    /// Who was lost within the window, and when, the oldest first; each peer at most once.
    recent: VecDeque<(Time, usize)>,
    present: Option<Present>,
    told: bool,
}

/// A mass loss that is not over.
#[derive(Debug)]
struct Present {
    /// When the newest of its peers was lost.
    newest: Time,
    /// All its peers, and those that are not back.
    lost: BTreeSet<usize>,
    away: BTreeSet<usize>,
}

impl MassLoss {
    /// Nobody is lost of `peers`.
    pub(crate) fn of(config: &PeerConfig, peers: usize) -> MassLoss {
        MassLoss::new(config.mass_loss, peers, config.heartbeat_interval * config.down_after)
    }

    /// Nobody is lost. Of `peers`, more than `share` (0 to 1) within `window` are many.
    fn new(share: f64, peers: usize, window: Duration) -> MassLoss {
        MassLoss { share, peers, window, recent: VecDeque::new(), present: None, told: false }
    }

    /// A peer became Down that was there since this node's start, and had not said that it leaves.
    pub(crate) fn lost(&mut self, peer: usize, now: Time) {
        self.back(peer);
        while self.recent.front().is_some_and(|(at, _)| now.since(*at) > self.window) {
            self.recent.pop_front();
        }
        self.recent.push_back((now, peer));
        let count = self.recent.len();
        // A share is seldom a round number in binary.
        if count < FEWEST || count as f64 <= self.share * self.peers as f64 + 1e-9 {
            return;
        }
        let nobody = || Present { newest: now, lost: BTreeSet::new(), away: BTreeSet::new() };
        let present = self.present.get_or_insert_with(nobody);
        present.newest = now;
        for (_, peer) in &self.recent {
            present.lost.insert(*peer);
            present.away.insert(*peer);
        }
    }

    /// The roster has so many other nodes now, each in another place: `now` tells where, if it is still there.
    pub(crate) fn moved(&mut self, peers: usize, now: impl Fn(usize) -> Option<usize>) {
        let follow = |lost: &BTreeSet<usize>| lost.iter().filter_map(|peer| now(*peer)).collect();
        self.peers = peers;
        self.recent = self.recent.iter().filter_map(|(at, peer)| Some((*at, now(*peer)?))).collect();
        if let Some(present) = &mut self.present {
            (present.lost, present.away) = (follow(&present.lost), follow(&present.away));
        }
    }

    /// A peer is Down no longer.
    pub(crate) fn back(&mut self, peer: usize) {
        self.recent.retain(|(_, lost)| *lost != peer);
        if let Some(present) = &mut self.present {
            present.away.remove(&peer);
        }
    }

    /// Whether it goes on.
    pub(crate) fn is_on(&self) -> bool {
        self.present.is_some()
    }

    /// What changed since it was last asked: whether it goes on now, and the sentence.
    pub(crate) fn review(&mut self, now: Time) -> Option<(bool, String)> {
        let end = self.present.as_ref().and_then(|present| present.end(now));
        if end.is_some() {
            self.present = None;
        }
        let on = self.is_on();
        if on == std::mem::replace(&mut self.told, on) {
            return None;
        }
        let begin = || {
            let lost = self.present.as_ref().map_or(0, |present| present.lost.len());
            format!(
                "{lost} of {} peers were lost within {:?}: look for what they share",
                self.peers, self.window
            )
        };
        Some((on, end.unwrap_or_else(begin)))
    }
}

impl Present {
    /// Why it is over at `now`, if it is.
    fn end(&self, now: Time) -> Option<String> {
        let (lost, away) = (self.lost.len(), self.away.len());
        if (lost - away) * 2 >= lost {
            return Some(format!("{} of the {lost} lost peers are back", lost - away));
        }
        let old = now.since(self.newest) >= LONGEST;
        old.then(|| format!("{away} of {lost} peers have been lost for 5 min"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    /// Whether so many of `peers` lost `apart` from each other are a mass loss.
    fn many(share: f64, peers: usize, lost: usize, apart: u64) -> bool {
        let mut loss = MassLoss::new(share, peers, SECOND * 5);
        (0..lost).for_each(|peer| loss.lost(peer, at(peer as u64 * apart)));
        loss.is_on()
    }

    #[test]
    fn more_than_the_share_and_at_least_three_within_the_window() {
        for (share, peers, lost, apart, expected) in [
            (0.2, 15, 3, 0, false),
            (0.2, 15, 4, 0, true),
            (0.2, 15, 4, 1666, true),
            (0.2, 15, 4, 1667, false),
            (0.2, 15, 15, 1700, false),
            (0.2, 4, 2, 0, false),
            (0.2, 4, 3, 0, true),
            (0.29, 100, 29, 0, false),
            (0.29, 100, 30, 0, true),
            (1.0, 5, 5, 0, false),
        ] {
            assert_eq!(many(share, peers, lost, apart), expected, "{lost} of {peers} at {share}, {apart} ms");
        }
    }

    #[test]
    fn it_ends_when_half_are_back() {
        let mut loss = MassLoss::new(0.2, 15, SECOND * 5);
        (0..5).for_each(|peer| loss.lost(peer, at(0)));
        let (on, why) = loss.review(at(0)).unwrap();
        assert_eq!((on, why.as_str()), (true, "5 of 15 peers were lost within 5s: look for what they share"));
        assert_eq!(loss.review(at(1)), None, "it is told once");
        (0..2).for_each(|peer| loss.back(peer));
        assert_eq!(loss.review(at(2000)), None);
        loss.back(9);
        assert!(loss.is_on(), "who was not lost does not count");
        loss.back(2);
        assert_eq!(loss.review(at(3000)), Some((false, "3 of the 5 lost peers are back".into())));
        assert!(!loss.is_on() && loss.review(at(4000)).is_none());
    }

    #[test]
    fn it_ends_five_minutes_after_the_newest_loss() {
        let mut loss = MassLoss::new(0.2, 15, SECOND * 5);
        (0..4).for_each(|peer| loss.lost(peer, at(0)));
        assert!(loss.review(at(0)).is_some_and(|(on, _)| on));
        // One more is no mass; four more are.
        loss.lost(4, at(200_000));
        (5..9).for_each(|peer| loss.lost(peer, at(250_000)));
        assert_eq!(loss.review(at(300_000)), None);
        assert_eq!(loss.review(at(549_999)), None);
        let end = (false, "8 of 8 peers have been lost for 5 min".to_owned());
        assert_eq!(loss.review(at(550_000)), Some(end));
    }

    #[test]
    fn one_that_flaps_is_one() {
        let mut loss = MassLoss::new(0.2, 5, SECOND * 5);
        for round in 0..5 {
            loss.lost(1, at(round * 500));
            loss.back(1);
        }
        loss.lost(1, at(3000));
        loss.lost(2, at(3000));
        assert!(!loss.is_on());
        assert!(loss.recent.len() == 2);
    }
}
