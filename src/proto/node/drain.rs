//! Drains: who may be away without an alarm, as the profiles tell it, and this node's own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Node;
use crate::proto::drain::{Drain, Draining, Reason};
use crate::proto::event::Change;
use crate::proto::mtu::SMALL;
use crate::proto::records::NodeName;
use crate::proto::timer::Time;

/// The drains that go on, this node's own among them, by name: one is in here from the event that tells its begin to the one
/// that tells its end.
#[derive(Debug)]
pub(super) struct Drains {
    known: BTreeMap<NodeName, Known>,
    /// What the wall clock showed, since 1970, at some time.
    wall: (Duration, Time),
}

#[derive(Debug)]
struct Known {
    drain: Drain,
    /// When this node heard of it.
    since: Time,
}

impl Drains {
    /// Nobody drains. Until it is told otherwise, the wall clock shows the core's time.
    pub(super) fn new() -> Drains {
        Drains { known: BTreeMap::new(), wall: (Duration::ZERO, Time::ZERO) }
    }

    /// When a drain that was heard of at `since` ends.
    fn end(&self, drain: &Drain, since: Time) -> Time {
        self.ends(drain.until, Drain::LONGEST, since)
    }

    /// When it is `until`, in seconds since 1970; at most `longest` after `since`.
    pub(super) fn ends(&self, until: u64, longest: Duration, since: Time) -> Time {
        let ((wall, at), until) = (self.wall, Duration::from_secs(until));
        let told = if until > wall { at + (until - wall) } else { at - (wall - until) };
        told.min(since + longest)
    }

    /// What the wall clock shows at `time`, since 1970.
    pub(super) fn wall_at(&self, time: Time) -> Duration {
        let (wall, at) = self.wall;
        wall.saturating_add(time.since(at)).saturating_sub(at.since(time))
    }

    fn of(&self, name: NodeName, now: Time) -> Option<Draining> {
        let Known { drain, since } = self.known.get(&name)?;
        let left = self.end(drain, *since).since(now);
        (!left.is_zero()).then(|| Draining { left, drain: drain.clone() })
    }
}

impl Node {
    /// The wall clock shows `since_1970` at `now`. To be told at the start, and whenever it may have been set: by it the drains
    /// of all nodes end. Without it they end by the core's own time.
    pub fn set_wall_clock(&mut self, since_1970: Duration, now: Time) {
        self.drains.wall = (since_1970, now);
    }

    /// This node may go away until `drain` ends, without an alarm at anybody: all are told at once. It takes the place of one that
    /// goes on. Where datagrams are shorter than 512 bytes its reason is not told to others.
    pub fn drain(&mut self, drain: Drain, now: Time) {
        self.advance(now);
        let name = self.records.names()[self.me];
        self.drains.known.insert(name, Known { drain, since: self.now });
        self.tell_own_drain(None);
    }

    /// This node drains no longer: all are told at once. False, and no change, if it did not.
    pub fn undrain(&mut self, now: Time) -> bool {
        self.advance(now);
        let drained = self.drains.known.remove(&self.records.names()[self.me]).is_some();
        if drained {
            self.tell_own_drain(Some("it was called off"));
        }
        drained
    }

    /// What this node's own profile says, as it fits into a datagram.
    pub(super) fn own_drain(&self) -> Option<Drain> {
        let drain = self.drains.known.get(&self.records.names()[self.me])?.drain.clone();
        let is_short = self.config.max_datagram < SMALL;
        Some(if is_short { Drain { reason: Reason::default(), ..drain } } else { drain })
    }

    /// The drain of the node at `place`, if one goes on at `now`.
    pub(super) fn draining(&self, place: usize, now: Time) -> Option<Draining> {
        self.drains.of(self.records.names()[place], now)
    }

    /// The roster has changed: who is gone drains no longer, and this node, that was called `own`, may be called otherwise.
    pub(super) fn move_drains(&mut self, own: NodeName) {
        let known = &mut self.drains.known;
        if let Some(drain) = known.remove(&own) {
            known.insert(self.records.names()[self.me], drain);
        }
        known.retain(|name, _| self.records.place(*name).is_some());
    }

    pub(super) fn note_drain(&mut self, place: usize, name: NodeName, told: Option<&Drain>) {
        if told == self.drains.known.get(&name).map(|known| &known.drain) {
            return;
        }
        let goes_on = |drain: &&Drain| self.drains.end(drain, self.now) > self.now;
        match told.filter(goes_on).cloned() {
            Some(drain) => drop(self.drains.known.insert(name, Known { drain, since: self.now })),
            // What was over before it came is no news.
            None if self.drains.known.remove(&name).is_none() => return,
            None => {}
        }
        self.tell_drain(place, "it says so");
    }

    /// Drains that are over end; this node's own is withdrawn.
    pub(super) fn end_drains(&mut self) {
        let is_over = |known: &Known| self.drains.end(&known.drain, known.since) <= self.now;
        let all = self.drains.known.iter();
        let over: Vec<NodeName> = all.filter(|(_, known)| is_over(known)).map(|(name, _)| *name).collect();
        for name in over {
            self.drains.known.remove(&name);
            match self.records.place(name) {
                Some(place) if place == self.me => self.tell_own_drain(Some("its time is over")),
                Some(place) => self.tell_drain(place, "its time is over"),
                None => {}
            }
        }
    }

    fn tell_own_drain(&mut self, ended: Option<&str>) {
        self.publish_profile();
        self.offers.turn += 1;
        // Whoever drains may be gone before its next ping.
        self.push_to_all();
        let (change, why) = self.drain_news(self.me, ended.unwrap_or_default());
        self.push_event(None, change, why);
    }

    fn tell_drain(&mut self, place: usize, ended: &str) {
        self.offers.turn += 1;
        let (change, why) = self.drain_news(place, ended);
        if let Some(peer) = self.peer_at(place) {
            self.refresh(peer);
            self.push_event(Some(peer), change, why);
        } else if let Some(index) = self.other_at(place) {
            self.judge_other(index);
            self.push_event_of_other(index, change, why);
        }
    }

    /// What is told of the drain of the node at `place`: that it goes on, or why it has ended.
    fn drain_news(&self, place: usize, ended: &str) -> (Change, String) {
        match self.draining(place, self.now) {
            Some(draining) => {
                (Change::Drain { until: Some(draining.drain.until) }, format!("it drains, {draining}"))
            }
            None => (Change::Drain { until: None }, format!("it drains no longer: {ended}")),
        }
    }
}
