//! What changes a pair's heartbeats beside the passing of time: evidence, the leader's ping, stalls, refusals, the
//! recovery of others.

use std::time::Duration;

use super::{CALM, Heartbeat, Refusals, Role, Stall, TRIES};
use crate::proto::timer::Time;

impl Heartbeat {
    /// Evidence dated `date`. `covers`: the spacing that the datagram announced, if it is the newest one.
    pub(crate) fn evidence(&mut self, date: Time, covers: Option<u8>, now: Time) {
        self.catch_up(now);
        let tolerance = self.tolerance();
        self.misses.evidence(&self.rhythm, date, covers, tolerance);
        if self.missed() == 0 {
            self.voids = 0;
        }
        // It answered after it was refused.
        if self.refusals.is_some_and(|r| self.missed() == 0 && date >= r.first) {
            self.refusals = None;
            self.calm_until = now + CALM;
        }
    }

    /// Another run of the peer is confirmed: what refused before was not this one, and speaks against no refusal to come.
    pub(crate) fn met(&mut self) {
        self.refusals = None;
        self.calm_until = Time::ZERO;
    }

    /// The breaker closes: regular heartbeats from the next regular slot on.
    pub(crate) fn recover(&mut self, now: Time) {
        if self.spacing > 1 {
            self.spacing = 1;
            if !self.open {
                self.next_slot = self.regular(now - self.rhythm.interval, 1).max(now);
            }
        }
    }

    /// Another peer came back: ping this Down one once, with full retries, `wait` from now.
    pub(crate) fn retry_soon(&mut self, now: Time, wait: Duration) {
        self.spacing = 1;
        self.probe_at(now + wait, now);
    }

    /// Ping out of turn at `at`, unless the next slot or try is sooner.
    pub(crate) fn probe_at(&mut self, at: Time, now: Time) {
        self.catch_up(now);
        if self.open {
            self.try_at = Some(self.try_at.map_or(at, |t| t.min(at))).filter(|t| *t < self.judge_at);
        } else if at < self.next_slot || self.role == Role::Follower {
            // A follower's own slot would only wait for the leader.
            self.next_slot = at.min(self.next_slot);
            self.probe = true;
        }
    }

    /// The leader's first try of a slot was dated `slot`: the slots stand there. Only a follower follows.
    pub(crate) fn follow(&mut self, slot: Time, now: Time, echoed: Option<Time>) {
        if self.role != Role::Follower {
            return;
        }
        self.catch_up(now);
        let half = self.rhythm.interval / 2;
        // When it arrives, a ping's date is as old as a whole round trip: later slots may have begun meanwhile.
        // They stand as many intervals after it.
        let interval = self.rhythm.interval.as_micros().max(1) as u64;
        let behind = self.phase.since(slot + half).as_micros() as u64;
        let later = Duration::from_micros(behind.div_ceil(interval).saturating_mul(interval));
        let slot = slot + later;
        if slot < self.phase + half {
            // A slot that is already known, dated anew: clocks drift.
            if self.open && self.slot == self.phase {
                self.slot = slot;
                if later > Duration::ZERO {
                    self.judge_at = slot + self.timeout();
                    if self.tries == 0 {
                        self.try_at = Some(slot + self.patience());
                    }
                    self.before = slot - self.rhythm.interval;
                }
            }
            self.phase = slot;
            if !self.open && self.spacing == 1 && !self.probe && self.refusals.is_none() {
                self.next_slot = slot + self.rhythm.interval;
            }
        } else {
            // What is open was for an earlier slot: the ping tells that the peer lives, and perhaps not yet that it hears.
            if self.open && self.echoes(echoed, self.echo_since()) {
                self.strip.push(self.answered());
            } else if self.open {
                self.put_aside();
            }
            self.probe = false;
            self.begin(slot);
        }
        self.close_if_done(now, echoed);
    }

    /// Ends the open heartbeat if nothing more is asked of it.
    pub(crate) fn settle(&mut self, now: Time, echoed: Option<Time>) {
        self.catch_up(now);
        self.close_if_done(now, echoed);
    }

    /// Another node answered for the peer, to a question of `asked`.
    pub(crate) fn relayed(&mut self, asked: Time, now: Time) {
        self.catch_up(now);
        self.relayed |= self.open && asked >= self.slot;
    }

    /// The node was isolated: what was missed then counts for no more than a suspicion.
    pub(crate) fn excuse(&mut self, limit: u32) {
        self.misses.excuse(limit);
    }

    /// So many heartbeats are taken for missed, since others said so: whatever is heard ends that.
    pub(crate) fn presume(&mut self, missed: u32) {
        self.misses.presume(missed);
    }

    /// An isolated node does not back off.
    pub(crate) fn keep_trying(&mut self) {
        if self.spacing > 1 {
            self.spacing = 1;
            if !self.open {
                self.next_slot = self.phase + self.rhythm.interval;
            }
        }
    }

    /// The peer said that it leaves: nothing is expected of it, and it is pinged at the first spacing.
    pub(crate) fn left(&mut self, now: Time) {
        self.open = false;
        self.overtaken.clear();
        self.probe = false;
        self.refusals = None;
        self.role = Role::Alone;
        self.spacing = 2;
        self.phase = now;
        self.next_slot = now + self.rhythm.interval * 2;
    }

    /// The loop did not listen for a while: that is added to the open deadlines. Slots slept through become one heartbeat
    /// in the old phase, and the ping is sent (once more) after `spread`.
    pub(crate) fn stalled(&mut self, stall: Stall, now: Time, spread: Duration) {
        let Stall { before, planned, unheard } = stall;
        self.catch_up(planned);
        // A heartbeat that the last stall delayed is not delayed again: a loop that is late in every turn would never
        // judge it.
        let again = self.open && self.slot <= before;
        self.woke = planned + unheard;
        for older in &mut self.overtaken {
            older.judge_at += unheard;
        }
        if self.open {
            self.judge_at += unheard;
        }
        // The interval that a refusing host is given is one of listening.
        if let Some(refusals) = &mut self.refusals {
            refusals.first += unheard;
        }
        if let Some(next) = self.overtakes().filter(|next| *next <= now) {
            self.overtake(next, now);
        } else if self.open {
            // What was sent is sent once more; what was not sent yet keeps its wait.
            self.try_at = if self.tries > 0 { Some(now) } else { self.try_at.map(|at| at + unheard) };
            self.tries = self.tries.min(TRIES - 1);
        } else if self.next_slot <= now {
            self.begin(self.newest(self.next_slot, now));
        }
        self.try_at = self.try_at.map(|at| if again { now } else { at.max(now) + spread });
    }

    /// The kernel dropped datagrams: the open heartbeat proves nothing either way.
    pub(crate) fn dropped(&mut self, now: Time) {
        self.catch_up(now);
        self.void |= self.open;
        self.overtaken.iter_mut().for_each(|o| o.void = true);
    }

    /// A try sent at `sent` was refused. True if it is the first of its kind: to be pushed to the others.
    pub(crate) fn refused(&mut self, sent: Time, now: Time) -> bool {
        self.catch_up(now);
        if !self.open || sent < self.slot || self.refused || now < self.calm_until {
            return false;
        }
        self.refused = true;
        if self.spacing > 1 {
            return false;
        }
        let first = self.refusals.is_none();
        let refusals = self.refusals.get_or_insert(Refusals { first: sent, count: 0, silent: false });
        refusals.count += 1;
        refusals.silent = false;
        self.try_at = None;
        // The socket is emptied before it is judged, so that only the peer's laziness counts.
        let wait = self.retry.saturating_sub(self.rhythm.laziness).max(self.rhythm.timeout / 8);
        self.judge_at = self.judge_at.min(now + wait);
        first && !self.told
    }

    /// Ends the pace of refusals if the node has heard nobody for an interval since the first refusal; the misses then
    /// count as one. `heard`: when the node last heard anybody. Returns whether it ended.
    pub(crate) fn doubt_refusals(&mut self, heard: Time, now: Time) -> bool {
        let doubtful = |r: &Refusals| heard < r.first && now >= r.first + self.rhythm.interval;
        if self.missed() >= self.rhythm.down_after || !self.refusals.as_ref().is_some_and(doubtful) {
            return false;
        }
        self.refusals = None;
        self.calm_until = now + CALM;
        self.misses.excuse(1);
        (self.open, self.probe, self.try_at) = (false, false, None);
        self.next_slot = self.regular(now - self.rhythm.interval / 2, 1);
        true
    }

    /// Whether the peer's host refuses the tries of its heartbeats.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused || self.refusals.is_some()
    }

    /// Another observer pushed that it is refused: ping at `at`, if that is worth it.
    pub(crate) fn told_refused(&mut self, at: Time, now: Time) {
        let worth = self.refusals.is_none()
            && !self.probe
            && now >= self.calm_until
            && self.missed() < self.rhythm.down_after;
        if worth {
            self.told = true;
            self.probe_at(at, now);
        }
    }
}
