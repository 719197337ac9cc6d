//! The heartbeats of one pair: slots, tries, misses. Pure bookkeeping over times; the node sends and tells.
//!
//! A pair shares one heartbeat an interval, its slot. The leader pings at the slot and hears the pong; the
//! follower hears the ping, and pings by itself only if none came. Of a heartbeat one asks *life* (evidence dated
//! at or after the slot), which counts misses, and *echo* (of something sent at or after it), which ends the
//! tries and tells whether the link works.
//!
//! This file is the way of time; `inputs` is what else happens to a heartbeat.

mod inputs;
mod misses;
mod tries;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use self::misses::Misses;
use super::config::PeerConfig;
use super::strip::{Outcome, Strip};
use super::timer::Time;

/// Tries in one heartbeat, the first among them.
const TRIES: u8 = 3;
/// A spacing beyond the first is shortened by up to this share of it, the first by a fifth as much. Who was lost at one moment,
/// as in a partition, is soon pinged at many moments, and the first answer brings back all: of five nodes within 1.2 s instead
/// of 8.7, at a quarter more pings.
const JITTER: f64 = 0.5;
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
#[derive(Debug)]
pub(crate) struct Rhythm {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// How long a shell may leave a datagram unread.
    pub(crate) laziness: Duration,
    pub(crate) down_after: u32,
    pub(crate) max_spacing: u8,
    /// Off only in experiments: see [`Mechanisms`](crate::proto::config::Mechanisms).
    pub(crate) retries: bool,
}

impl Rhythm {
    pub(crate) fn of(config: &PeerConfig) -> Rhythm {
        Rhythm {
            interval: config.heartbeat_interval,
            timeout: config.heartbeat_timeout,
            laziness: config.laziness(),
            down_after: config.down_after,
            max_spacing: config.max_spacing(),
            retries: config.mechanisms.retries,
        }
    }
}

/// A time in which the loop did not listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    /// The turn of the loop before this one.
    pub(crate) before: Time,
    /// When this turn was planned.
    pub(crate) planned: Time,
    /// How much of the time since then does not count as listened.
    pub(crate) unheard: Duration,
}

/// Which other nodes to ask about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// None: it was heard, or this is the heartbeat's first try.
    Nobody,
    /// The one that last knew something of it.
    Last,
    /// Three more questions: to relays in turn, none twice before all were asked.
    Three,
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
        /// Whom to ask beside.
        ask: Ask,
    },
    /// Only ask others.
    Ask(Ask),
    /// The heartbeat timed out.
    Judged {
        /// No evidence: a miss.
        missed: bool,
        /// No echo.
        silent: bool,
    },
}

/// The host of a crashed process refuses: the misses come at a quarter of the interval (`down_after` - 1 of it).
#[derive(Clone, Copy, Debug)]
struct Refusals {
    /// When the first refused try was sent.
    first: Time,
    /// Tries at this pace so far: refused, or silent after the first [`REFUSED`].
    count: u32,
    /// The last of them was silent.
    silent: bool,
}

/// Refused tries after which a silent one counts at the same pace. Hosts limit their ICMP errors: Linux sends six to one
/// destination at once, and then one a second.
const REFUSED: u32 = 2;

/// What is asked of one heartbeat.
#[derive(Clone, Copy, Debug)]
struct Asked {
    slot: Time,
    /// An echo of anything sent from then on counts.
    echo_since: Time,
    judge_at: Time,
    /// The kernel dropped datagrams meanwhile: it proves nothing either way.
    void: bool,
    /// What became of it if it has an echo, and whether another node answered.
    answered: Outcome,
    relayed: bool,
}

/// The heartbeats of one pair.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    rhythm: Arc<Rhythm>,
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
    /// When to send one more ping after a miss.
    probe_in_rest: Option<Time>,
    /// The next heartbeat is a probe: full retries even while backing off.
    probe: bool,
    /// The kernel dropped datagrams while it was open, or it could not be tried.
    void: bool,
    voids: u32,
    /// The last heartbeat was a miss.
    after_miss: bool,
    misses: Misses,
    /// Own spacing while the peer is Down, in intervals; 1: not backing off.
    spacing: u8,
    refusals: Option<Refusals>,
    refused: bool,
    /// Another observer told of refusals: this one does not tell again.
    told: bool,
    calm_until: Time,
    /// The first try may be lost for its length.
    spared: bool,
    /// There is no time for a second try after the first: both go out at once.
    paired: bool,
    /// Another node answered for the peer in the open heartbeat.
    relayed: bool,
    /// The end of the last time in which the loop did not listen: what is asked of an earlier slot is asked from then on.
    woke: Time,
    /// Heartbeats that are not over when the next begins, since a stall moved their deadline, or the leader's ping came
    /// early: tried no more, and still judged. At most `down_after`; the earliest deadline first.
    overtaken: VecDeque<Asked>,
    /// What became of the newest heartbeats.
    pub(crate) strip: Strip,
}

impl Heartbeat {
    /// The first heartbeat is due at `first`.
    pub(crate) fn new(rhythm: Arc<Rhythm>, first: Time) -> Heartbeat {
        Heartbeat {
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
            probe_in_rest: None,
            probe: false,
            void: false,
            voids: 0,
            after_miss: false,
            misses: Misses::new(&rhythm),
            spacing: 1,
            refusals: None,
            refused: false,
            told: false,
            calm_until: Time::ZERO,
            spared: false,
            paired: false,
            relayed: false,
            woke: Time::ZERO,
            overtaken: VecDeque::with_capacity(rhythm.down_after as usize),
            strip: Strip::default(),
            rhythm,
        }
    }

    /// When to call [`step`](Heartbeat::step) next, if the link is known to be `cut` or not.
    pub(crate) fn deadline(&self, cut: bool) -> Time {
        let own = match (self.open, self.try_at) {
            (false, _) if !cut && self.waits_for_leader() => {
                let wait = if self.rhythm.retries { self.patience() } else { self.timeout() };
                self.next_slot.max(self.woke) + wait
            }
            (false, _) => self.next_slot,
            (true, None) => self.judge_at,
            (true, Some(at)) => at.min(self.judge_at),
        };
        let next = self.overtakes().unwrap_or(own);
        let older = self.overtaken.front().map_or(own, |o| o.judge_at);
        let rest = self.probe_in_rest.unwrap_or(own);
        own.min(next).min(older).min(rest)
    }

    /// Whether its next heartbeat is the leader's to begin: at the slot itself there is nothing to do, so that nobody is woken
    /// for it.
    fn waits_for_leader(&self) -> bool {
        let regular = !self.probe && self.refusals.is_none() && self.spacing == 1;
        !self.open && regular && self.role == Role::Follower
    }

    /// Begins the heartbeat that only the leader's ping was waited for, if its slot has come: before anything that asks what is
    /// open.
    fn catch_up(&mut self, now: Time) {
        if self.waits_for_leader() && now >= self.next_slot {
            self.begin(self.next_slot);
        }
    }

    /// The slot that comes before the open heartbeat's deadline, if there is one: only a stall moves it so far.
    fn overtakes(&self) -> Option<Time> {
        let regular = self.open && self.slot == self.phase && self.spacing == 1 && self.refusals.is_none();
        Some(self.phase + self.rhythm.interval).filter(|next| regular && *next < self.judge_at)
    }

    /// What is asked of the open heartbeat.
    fn as_asked(&self) -> Asked {
        Asked {
            slot: self.slot,
            echo_since: self.echo_since(),
            judge_at: self.judge_at,
            void: self.void,
            answered: self.answered(),
            relayed: self.relayed,
        }
    }

    /// Puts the open heartbeat aside, and begins the newest one that is due.
    fn overtake(&mut self, next: Time, now: Time) {
        self.put_aside();
        self.begin(self.newest(next, now));
    }

    /// The open heartbeat is tried no more, and judged in its time.
    fn put_aside(&mut self) {
        // When all places are taken the stalls are so dense that the older ones decide soon enough. What was not even
        // tried decides nothing.
        let tried = self.tries > 0 || self.passive;
        if tried && self.overtaken.len() < self.rhythm.down_after as usize {
            self.overtaken.push_back(self.as_asked());
        }
    }

    /// The pair's timeout: never below its retry time, at most one interval.
    pub(crate) fn timeout(&self) -> Duration {
        self.rhythm.timeout.max(self.retry).min(self.rhythm.interval)
    }

    /// How long a follower waits for the leader's ping before it pings by itself: not beyond the heartbeat's end, or a
    /// wrong estimate of the round trip would never be mended.
    fn patience(&self) -> Duration {
        (self.rhythm.timeout / 2).max(self.retry).min(self.timeout())
    }

    /// A date is early by one path delay: what is dated so much before the slot still counts for it.
    fn tolerance(&self) -> Duration {
        if self.passive { self.retry.min(self.rhythm.timeout / 2) } else { Duration::ZERO }
    }

    /// The spacing to tell the peer: in how many intervals the next ping comes if this one is silent too.
    pub(crate) fn spacing_to_tell(&self) -> u8 {
        // A ping after a miss, when no heartbeat is open, is followed by the next slot's ping, answered or not.
        let this_one = u32::from(self.open || self.spacing > 1);
        match self.missed().saturating_add(this_one).cmp(&self.rhythm.down_after) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => 2,
            std::cmp::Ordering::Greater => self.longer(),
        }
    }

    /// Own spacing, in intervals; 1: not backing off.
    pub(crate) fn spacing(&self) -> u8 {
        self.spacing
    }

    /// Time since the newest regular slot, less than an interval.
    pub(crate) fn since_slot(&self, now: Time) -> Duration {
        now.since(self.newest(self.phase, now))
    }

    fn longer(&self) -> u8 {
        self.spacing.saturating_mul(2).min(self.rhythm.max_spacing)
    }

    /// Heartbeats timed out after the newest evidence.
    pub(crate) fn missed(&self) -> u32 {
        self.misses.count()
    }

    /// For how many heartbeats silence is no miss: those that the peer's announced spacing covers, and void ones.
    #[cfg(feature = "sim")]
    pub(crate) fn excused(&self) -> u32 {
        self.misses.covered() + self.voids
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
        if cut && self.passive && self.tries == 0 {
            // Nothing is likely to come: the follower does not wait for long.
            let soon = self.slot.max(self.woke) + self.retry;
            self.try_at = self.try_at.map(|at| at.min(soon));
        }
        self.close_if_done(now, echoed);
        if let Some(older) = self.overtaken.front().copied().filter(|o| o.judge_at <= now) {
            self.overtaken.pop_front();
            return self.judge(older, echoed);
        }
        if !self.open {
            return self.probe_in_rest(now);
        }
        // A try that is due is sent before its heartbeat is judged, since others are asked with it. On a slow path it is due at
        // the very end, and the loop may wake too late for it.
        if now >= self.judge_at && self.try_at.is_none() {
            let judged = self.judge(self.as_asked(), echoed);
            self.count_silent_try(judged);
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

    /// The ping after a miss, if it is due. What is heard afterwards is evidence for the missed slot.
    fn probe_in_rest(&mut self, now: Time) -> Step {
        if self.probe_in_rest.is_none_or(|at| at > now) {
            return Step::Wait;
        }
        self.probe_in_rest = None;
        let since_slot = Some(self.since_slot(now));
        let first = false;
        Step::Try { first, hello: false, roster: false, other_key: None, since_slot, ask: Ask::Nobody }
    }

    /// Counts a judged try at the pace of refusals that was not refused itself, if enough others were refused.
    fn count_silent_try(&mut self, judged: Step) {
        let missed = matches!(judged, Step::Judged { missed: true, .. });
        let counts = missed && self.spacing == 1;
        self.refusals = match self.refusals {
            refusals if self.refused && self.spacing == 1 => refusals,
            Some(Refusals { first, count, .. }) if counts && count >= REFUSED => {
                Some(Refusals { first, count: count + 1, silent: true })
            }
            _ => None,
        };
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
        self.spared = false;
        self.paired = false;
        self.relayed = false;
        self.probe_in_rest = None;
        self.judge_at = slot.max(self.woke) + self.time_to_answer();
        let wait = if self.passive { self.patience() } else { Duration::ZERO };
        self.try_at = Some(slot.max(self.woke) + wait).filter(|_| self.rhythm.retries || !self.passive);
    }

    /// The pair's timeout, or the pace of refusals once enough tries were refused.
    fn time_to_answer(&self) -> Duration {
        match self.refusals {
            Some(Refusals { count: REFUSED.., .. }) => (self.rhythm.interval
                / (self.rhythm.down_after - 1).max(1))
            .max(self.retry)
            .min(self.timeout()),
            _ => self.timeout(),
        }
    }

    /// Whether evidence counts for the heartbeat of `slot`.
    fn lives(&self, slot: Time) -> bool {
        self.misses.lives(&self.rhythm, slot, self.tolerance())
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
            self.strip.push(self.answered());
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
        self.strip.push(match () {
            () if missed => Outcome::Missed,
            () if void => Outcome::Void,
            () if !silent => beat.answered,
            () if beat.relayed => Outcome::Relayed,
            () => Outcome::Heard,
        });
        if missed {
            self.miss(beat.slot);
        } else {
            self.after_miss &= !lives;
        }
        Step::Judged { missed, silent: silent && !void }
    }

    fn miss(&mut self, slot: Time) {
        let down_after = self.rhythm.down_after;
        // Each refusal needs its own try, and the last comes one interval after the first: no sooner is it Down.
        // Except if the peer would be Down without refusals: a series that breaks off and begins again must not delay
        // that.
        let overdue = self.misses.is_overdue(&self.rhythm, slot);
        let hasty = !overdue && self.refusals.is_some_and(|r| slot < r.first + self.rhythm.interval);
        self.misses.add(&self.rhythm, slot, if hasty { down_after - 1 } else { u32::MAX });
        self.after_miss = true;
        match self.missed().cmp(&down_after) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => self.spacing = 2,
            std::cmp::Ordering::Greater => self.spacing = self.longer(),
        }
    }

    /// Ends the present heartbeat and sets the next slot: an interval (or the spacing) on, in the old phase.
    fn close(&mut self, now: Time) {
        self.open = false;
        self.probe = false;
        self.try_at = None;
        self.next_slot = match self.refusals {
            // On a slow path the answers come later than that pace.
            Some(r) if self.missed() < self.rhythm.down_after => {
                (r.first + self.rhythm.interval * r.count / (self.rhythm.down_after - 1).max(1)).max(now)
            }
            _ => {
                // A heartbeat out of turn stands for the slot that is less than half an interval after it.
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

    /// After a miss, schedules one more ping at a random moment in the rest of the interval, since loss in step with
    /// the slots hits all others. `share`: 0 to 1.
    pub(crate) fn jitter_after_miss(&mut self, share: f64, now: Time) {
        // What is heard so shortly before a slot would count for that slot.
        let end = self.next_slot - self.retry.min(self.rhythm.timeout / 2);
        let missed = self.after_miss && self.spacing == 1 && self.role != Role::Alone && self.rhythm.retries;
        if !self.open && missed && self.refusals.is_none() && now < end {
            self.probe_in_rest = Some(now + end.since(now).mul_f64(share.clamp(0.0, 1.0)));
        }
    }

    /// Shortens the wait for the next slot to a back-off ping: see [`JITTER`]. `share`: 0 to 1.
    pub(crate) fn jitter(&mut self, share: f64) {
        if !self.open && self.spacing > 1 {
            let spacing = self.rhythm.interval * u32::from(self.spacing);
            let most = if self.spacing > 2 { JITTER } else { JITTER / 5.0 };
            self.next_slot = self.next_slot - spacing.mul_f64(most * share.clamp(0.0, 1.0));
            self.phase = self.next_slot - spacing;
        }
    }
}
