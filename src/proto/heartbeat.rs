//! The heartbeats of one pair: slots, tries, misses. Pure bookkeeping over times; the node sends and tells.
//!
//! A pair shares one heartbeat an interval, its slot. The leader pings at the slot and hears the pong; the
//! follower hears the ping, and pings by itself only if none came. Of a heartbeat one asks *life* (evidence dated
//! at or after the slot), which counts misses, and *echo* (of something sent at or after it), which ends the
//! tries and tells whether the link works.

use std::collections::VecDeque;
use std::time::Duration;

use super::timer::Time;

/// Tries in one heartbeat, the first among them.
const TRIES: u8 = 3;
/// After it answered a refusal, a peer is not accelerated again for so long.
const CALM: Duration = Duration::from_secs(60);

/// Which part this node has in the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The peer has no confirmed run: both sides send hellos at slots of their own.
    Alone,
    /// Pings at the slot.
    Leader,
    /// Is pinged.
    Follower,
}

/// The numbers that all heartbeats of a node share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) down_after: u32,
    pub(crate) max_spacing: u8,
}

/// What the moment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing before [`Heartbeat::deadline`].
    Wait,
    /// Send a try.
    Try {
        /// The heartbeat's first.
        first: bool,
        /// A hello, since the last heartbeat was missed (or always, to a peer without a confirmed run).
        hello: bool,
        /// Try the roster's address instead of the confirmed one.
        roster: bool,
        /// Use another key than the first.
        other_key: Option<u32>,
        /// What to tell the peer: time since the slot, for a retry and a follower's own ping.
        since_slot: Option<Duration>,
    },
    /// The heartbeat timed out.
    Judged {
        /// No evidence: a miss.
        missed: bool,
        /// No echo.
        silent: bool,
    },
}

/// A crashed process's host refuses: the misses come at a quarter of the interval (`down_after` - 1 of it).
#[derive(Clone, Copy, Debug)]
struct Refusals {
    /// When the first refused try was sent.
    first: Time,
    /// Refused tries so far.
    count: u32,
}

/// What is asked of one heartbeat.
#[derive(Clone, Copy, Debug)]
struct Asked {
    slot: Time,
    /// An echo of anything sent from then on counts.
    echo_since: Time,
    judge_at: Time,
    /// The kernel dropped datagrams meanwhile: it proves nothing either way.
    void: bool,
}

/// The heartbeats of one pair.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    rhythm: Rhythm,
    pub(crate) role: Role,
    /// The present retry time of the pair.
    pub(crate) retry: Duration,
    /// The regular slot of the present or last heartbeat, and the one before it.
    phase: Time,
    before: Time,
    /// What the present heartbeat counts from; off the phase when it is a probe.
    slot: Time,
    open: bool,
    /// It waits for the leader's ping (a follower's regular heartbeat).
    passive: bool,
    next_slot: Time,
    judge_at: Time,
    try_at: Option<Time>,
    tries: u8,
    /// Tries since the last heartbeat that succeeded: chooses among hello and bound, addresses and keys.
    turn: u32,
    /// The next heartbeat is a probe: full retries even while backing off.
    probe: bool,
    /// The kernel dropped datagrams while it was open, or it could not be tried.
    void: bool,
    voids: u32,
    /// The last heartbeat was a miss.
    after_miss: bool,
    /// Date of the newest evidence, and for how many heartbeats it covers.
    evidence: Option<Time>,
    covers: u8,
    /// Slots of the newest heartbeats that were missed, and how many were missed in all since a success.
    missed_slots: VecDeque<Time>,
    missed: u32,
    /// Own spacing while the peer is Down, in intervals; 1: not backing off.
    spacing: u8,
    refusals: Option<Refusals>,
    refused: bool,
    /// Another observer told of refusals: this one does not tell again.
    told: bool,
    calm_until: Time,
    /// When the loop last woke from a stall: what is asked of an earlier slot is asked from then on.
    woke: Time,
    /// Heartbeats whose deadline a stall moved beyond the next slot: tried no more, and still judged. At most
    /// `down_after`; the earliest deadline first.
    overtaken: VecDeque<Asked>,
}

impl Heartbeat {
    /// The first heartbeat is due at `first`.
    pub(crate) fn new(rhythm: Rhythm, first: Time) -> Heartbeat {
        Heartbeat {
            rhythm,
            role: Role::Alone,
            retry: rhythm.timeout / 3,
            phase: first,
            before: Time::ZERO,
            slot: first,
            open: false,
            passive: false,
            next_slot: first,
            judge_at: first,
            try_at: None,
            tries: 0,
            turn: 0,
            probe: false,
            void: false,
            voids: 0,
            after_miss: false,
            evidence: None,
            covers: 1,
            missed_slots: VecDeque::with_capacity(rhythm.down_after as usize),
            missed: 0,
            spacing: 1,
            refusals: None,
            refused: false,
            told: false,
            calm_until: Time::ZERO,
            woke: Time::ZERO,
            overtaken: VecDeque::with_capacity(rhythm.down_after as usize),
        }
    }

    /// When to call [`step`](Heartbeat::step) next.
    pub(crate) fn deadline(&self) -> Time {
        let own = match (self.open, self.try_at) {
            (false, _) => self.next_slot,
            (true, None) => self.judge_at,
            (true, Some(at)) => at.min(self.judge_at),
        };
        let next = self.overtakes().unwrap_or(own);
        let older = self.overtaken.front().map_or(own, |o| o.judge_at);
        own.min(next).min(older)
    }

    /// The slot that comes before the open heartbeat's deadline, if there is one: only a stall moves it so far.
    fn overtakes(&self) -> Option<Time> {
        let regular = self.open && self.slot == self.phase && self.spacing == 1 && self.refusals.is_none();
        Some(self.phase + self.rhythm.interval).filter(|next| regular && *next < self.judge_at)
    }

    /// What is asked of the open heartbeat.
    fn as_asked(&self) -> Asked {
        Asked { slot: self.slot, echo_since: self.echo_since(), judge_at: self.judge_at, void: self.void }
    }

    /// Puts the open heartbeat aside, and begins the newest one that is due.
    fn overtake(&mut self, next: Time, now: Time) {
        // When all places are taken the stalls are so dense that the older ones decide soon enough.
        if self.overtaken.len() < self.rhythm.down_after as usize {
            self.overtaken.push_back(self.as_asked());
        }
        self.begin(self.newest(next, now));
    }

    /// The pair's timeout: never below its retry time, at most one interval.
    pub(crate) fn timeout(&self) -> Duration {
        self.rhythm.timeout.max(self.retry).min(self.rhythm.interval)
    }

    /// A date is early by one path delay: what is dated so much before the slot still counts for it.
    fn tolerance(&self) -> Duration {
        if self.passive { self.retry.min(self.rhythm.timeout / 2) } else { Duration::ZERO }
    }

    /// The spacing to tell the peer: in how many intervals the next ping comes if this one is silent too.
    pub(crate) fn spacing_to_tell(&self) -> u8 {
        match (self.missed.saturating_add(1)).cmp(&self.rhythm.down_after) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => 2,
            std::cmp::Ordering::Greater => self.longer(),
        }
    }

    fn longer(&self) -> u8 {
        self.spacing.saturating_mul(2).min(self.rhythm.max_spacing)
    }

    /// Heartbeats timed out after the newest evidence.
    pub(crate) fn missed(&self) -> u32 {
        self.missed
    }

    fn backs_off(&self) -> bool {
        self.spacing > 1 && !self.probe
    }

    /// One step of what is due at `now`; to be called again until it answers [`Step::Wait`]. `echoed`: when the
    /// newest datagram that was echoed was sent; `cut`: whether the link is known to be cut.
    pub(crate) fn step(&mut self, now: Time, echoed: Option<Time>, cut: bool) -> Step {
        if !self.open && now >= self.next_slot {
            self.begin(self.next_slot);
        }
        self.close_if_done(now, echoed);
        if let Some(older) = self.overtaken.front().copied().filter(|o| o.judge_at <= now) {
            self.overtaken.pop_front();
            return self.judge(older, echoed);
        }
        if !self.open {
            return Step::Wait;
        }
        // On a slow path the follower's own ping is due at the very end: it goes out first.
        let tried = self.tries > 0 || self.try_at.is_none_or(|at| at > self.judge_at);
        if now >= self.judge_at && tried {
            let judged = self.judge(self.as_asked(), echoed);
            if !self.refused {
                self.refusals = None;
            }
            self.close(now);
            return judged;
        }
        if let Some(next) = self.overtakes().filter(|next| *next <= now) {
            self.overtake(next, now);
        }
        match self.try_at {
            Some(at) if now >= at => self.next_try(now, cut),
            _ => Step::Wait,
        }
    }

    fn begin(&mut self, slot: Time) {
        self.open = true;
        self.slot = slot;
        let regular = !self.probe && self.refusals.is_none();
        if regular {
            self.before = self.phase;
            self.phase = slot;
        }
        self.passive = regular && self.role == Role::Follower && self.spacing == 1;
        self.tries = 0;
        self.refused = false;
        self.void = false;
        self.judge_at = slot.max(self.woke) + self.timeout();
        let wait = if self.passive { (self.rhythm.timeout / 2).max(self.retry) } else { Duration::ZERO };
        self.try_at = Some(slot.max(self.woke) + wait);
    }

    fn next_try(&mut self, now: Time, cut: bool) -> Step {
        let first = self.tries == 0;
        self.tries += 1;
        let refusing = self.refusals.is_some();
        // Backing off there are two: the bound ping, by which a deaf peer is heard, and a hello, which a new run
        // of it can open.
        let limit = match () {
            () if refusing || (cut && !self.after_miss) => 1,
            () if self.backs_off() && self.role == Role::Alone => 1,
            () if self.backs_off() => 2,
            () => TRIES,
        };
        let again = now + self.retry;
        // Where the path is too slow for a second try, after a miss every second heartbeat's stands in for the retries.
        let stands_in = first && self.after_miss && again >= self.judge_at && self.turn % 2 == 1;
        let retry = !first || stands_in;
        self.try_at = (self.tries < limit && again < self.judge_at).then_some(again);
        let late = self.since_slot(now);
        let turn = if stands_in { self.turn.div_ceil(2) } else { self.turn };
        self.turn = self.turn.wrapping_add(1);
        Step::Try {
            first,
            hello: self.after_miss && retry,
            roster: self.after_miss && retry && turn % 2 == 1,
            other_key: (retry || self.role == Role::Alone).then_some(turn),
            since_slot: (!first || self.passive || late > self.rhythm.timeout / 8).then_some(late),
        }
    }

    /// Whether evidence counts for the heartbeat of `slot`.
    fn lives(&self, slot: Time) -> bool {
        let covered = self.rhythm.interval.saturating_mul(u32::from(self.covers.saturating_sub(1)));
        let slack = if self.covers > 1 { self.rhythm.timeout } else { self.tolerance() };
        self.evidence.is_some_and(|date| date + covered + slack >= slot)
    }

    /// What the open heartbeat counts an echo from: the follower's pong is echoed only by the next ping.
    fn echo_since(&self) -> Time {
        if self.passive { self.before } else { self.slot }
    }

    fn echoes(&self, echoed: Option<Time>, since: Time) -> bool {
        echoed.is_some_and(|sent| sent + self.tolerance() >= since)
    }

    fn close_if_done(&mut self, now: Time, echoed: Option<Time>) {
        // A leader's slot is not done before it has pinged; for one slept through the ping at waking stands.
        let pinged = self.tries > 0 || self.passive || self.slot < self.woke;
        if self.open && pinged && self.echoes(echoed, self.echo_since()) && self.lives(self.slot) {
            self.after_miss = false;
            self.told = false;
            self.turn = 0;
            self.close(now);
        }
    }

    fn judge(&mut self, beat: Asked, echoed: Option<Time>) -> Step {
        let lives = self.lives(beat.slot);
        let silent = !self.echoes(echoed, beat.echo_since);
        let void = beat.void && !lives && self.voids < self.rhythm.down_after;
        let missed = !lives && !void;
        self.voids = if void { self.voids + 1 } else { self.voids };
        if missed {
            self.miss(beat.slot);
        } else {
            self.after_miss &= !lives;
        }
        Step::Judged { missed, silent: silent && !void }
    }

    fn miss(&mut self, slot: Time) {
        if self.missed_slots.len() == self.rhythm.down_after as usize {
            self.missed_slots.pop_front();
        }
        self.missed_slots.push_back(slot);
        self.missed = self.missed.saturating_add(1);
        self.after_miss = true;
        // Each refusal needs its own try, and the last comes one interval after the first: no sooner is it Down.
        if let Some(refusals) = self.refusals
            && slot < refusals.first + self.rhythm.interval
        {
            self.missed = self.missed.min(self.rhythm.down_after - 1);
        }
        if self.missed > self.rhythm.down_after {
            self.spacing = self.longer();
        } else if self.missed == self.rhythm.down_after {
            self.spacing = 2;
        }
    }

    /// Ends the present heartbeat and sets the next slot: an interval (or the spacing) on, in the old phase.
    fn close(&mut self, now: Time) {
        self.open = false;
        self.probe = false;
        self.try_at = None;
        self.next_slot = match self.refusals {
            Some(r) if self.missed < self.rhythm.down_after => {
                r.first + self.rhythm.interval * r.count / (self.rhythm.down_after - 1).max(1)
            }
            _ => {
                // After a stall the judgement may come later than the next slot: the newest that passed begins now.
                self.newest(self.regular(self.slot, self.spacing), now)
            }
        };
    }

    /// The first regular slot at least `spacing` intervals after `from` (with half an interval's grace).
    fn regular(&self, from: Time, spacing: u8) -> Time {
        let interval = self.rhythm.interval.as_micros().max(1) as u64;
        let wanted = (from + self.rhythm.interval * u32::from(spacing)) - self.rhythm.interval / 2;
        let elapsed = wanted.as_micros().saturating_sub(self.phase.as_micros());
        self.phase + Duration::from_micros(elapsed.div_ceil(interval).max(1).saturating_mul(interval))
    }

    /// The newest slot up to `now` that is a whole number of intervals after `slot`; `slot` if that is ahead.
    fn newest(&self, slot: Time, now: Time) -> Time {
        let interval = self.rhythm.interval.as_micros().max(1) as u64;
        let passed = now.as_micros().saturating_sub(slot.as_micros()) / interval * interval;
        slot + Duration::from_micros(passed)
    }

    /// Shortens the wait for the next slot to a back-off ping: jitter only shortens. `share`: 0 to 1.
    pub(crate) fn jitter(&mut self, share: f64) {
        if !self.open && self.spacing > 1 {
            let spacing = self.rhythm.interval * u32::from(self.spacing);
            self.next_slot = self.next_slot - spacing.mul_f64(0.1 * share.clamp(0.0, 1.0));
            self.phase = self.next_slot - spacing;
        }
    }

    /// Evidence dated `date`. `covers`: the spacing that the datagram announced, if it is the newest one. True
    /// if the count of misses changed.
    pub(crate) fn evidence(&mut self, date: Time, covers: Option<u8>, now: Time) -> bool {
        self.covers = covers.map_or(self.covers, |b| b.max(1));
        self.evidence = self.evidence.max(Some(date));
        let before = self.missed;
        let still = self.missed_slots.iter().filter(|slot| !self.lives(**slot)).count() as u32;
        if still < self.missed_slots.len() as u32 || self.missed_slots.is_empty() {
            self.missed = still;
            while self.missed_slots.len() > still as usize {
                self.missed_slots.pop_front();
            }
        }
        if self.missed == 0 {
            self.voids = 0;
        }
        // It answered after it was refused.
        if self.refusals.is_some_and(|r| self.missed == 0 && date >= r.first) {
            self.refusals = None;
            self.calm_until = now + CALM;
        }
        before != self.missed
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
        self.probe_at(now + wait);
    }

    /// Ping out of turn at `at`, unless the next slot or try is sooner.
    pub(crate) fn probe_at(&mut self, at: Time) {
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
                        self.try_at = Some(slot + (self.rhythm.timeout / 2).max(self.retry));
                    }
                    self.before = slot - self.rhythm.interval;
                }
            }
            self.phase = slot;
            if !self.open && self.spacing == 1 && !self.probe && self.refusals.is_none() {
                self.next_slot = slot + self.rhythm.interval;
            }
        } else {
            // What is open was for an earlier slot: the ping answers it.
            self.probe = false;
            self.begin(slot);
        }
        self.close_if_done(now, echoed);
    }

    /// Ends the open heartbeat if nothing more is asked of it.
    pub(crate) fn settle(&mut self, now: Time, echoed: Option<Time>) {
        self.close_if_done(now, echoed);
    }

    /// Time since the newest regular slot, less than an interval.
    pub(crate) fn since_slot(&self, now: Time) -> Duration {
        now.since(self.newest(self.phase, now))
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

    /// The loop slept: `late` is added to the open deadline, slots slept through become one heartbeat in the old
    /// phase, and the ping is sent (once more) after `spread`.
    pub(crate) fn stalled(&mut self, late: Duration, now: Time, spread: Duration) {
        self.woke = now;
        for older in &mut self.overtaken {
            older.judge_at += late;
        }
        if self.open {
            self.judge_at += late;
        }
        if let Some(next) = self.overtakes().filter(|next| *next <= now) {
            self.overtake(next, now);
        } else if self.open {
            // What was sent is sent once more; what was not sent yet keeps its wait.
            self.try_at = if self.tries > 0 { Some(now) } else { self.try_at.map(|at| at + late) };
            self.tries = self.tries.min(TRIES - 1);
        } else if self.next_slot <= now {
            self.begin(self.newest(self.next_slot, now));
        }
        self.try_at = self.try_at.map(|at| at.max(now) + spread);
    }

    /// The kernel dropped datagrams: the open heartbeat proves nothing either way.
    pub(crate) fn dropped(&mut self) {
        self.void |= self.open;
        self.overtaken.iter_mut().for_each(|o| o.void = true);
    }

    /// A try sent at `sent` was refused. True if it is the first of its kind: to be pushed to the others.
    pub(crate) fn refused(&mut self, sent: Time, now: Time) -> bool {
        if !self.open || sent < self.slot || self.refused || now < self.calm_until || self.spacing > 1 {
            return false;
        }
        let first = self.refusals.is_none();
        let refusals = self.refusals.get_or_insert(Refusals { first: sent, count: 0 });
        refusals.count += 1;
        self.refused = true;
        self.try_at = None;
        self.judge_at = self.judge_at.min(now + self.retry);
        first && !self.told
    }

    /// Another observer pushed that it is refused: ping at `at`, if that is worth it.
    pub(crate) fn told_refused(&mut self, at: Time, now: Time) {
        let worth = self.refusals.is_none()
            && !self.probe
            && now >= self.calm_until
            && self.missed < self.rhythm.down_after;
        if worth {
            self.told = true;
            self.probe_at(at);
        }
    }

    /// Own spacing, in intervals; 1: not backing off.
    pub(crate) fn spacing(&self) -> u8 {
        self.spacing
    }
}
