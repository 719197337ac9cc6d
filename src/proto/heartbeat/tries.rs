//! The tries of a heartbeat, and whom else to ask.

use std::time::Duration;

use super::{Ask, Heartbeat, Role, Step, TRIES};
use crate::proto::strip::Outcome;
use crate::proto::timer::Time;

impl Heartbeat {
    pub(super) fn next_try(&mut self, now: Time, cut: bool) -> Step {
        let first = self.tries == 0;
        self.tries += 1;
        let refusing = self.refusals.is_some();
        let known_cut = cut && !self.after_miss;
        let again = now + self.retry;
        let room = again < self.judge_at;
        if first {
            self.paired = self.after_miss && !room && !self.backs_off() && self.rhythm.retries;
        }
        let ask = self.whom_to_ask(first, known_cut);
        if known_cut && !refusing && !self.backs_off() {
            return self.try_cut(now, first, ask);
        }
        // While backing off there are two: the bound ping, by which a deaf peer is heard, and a hello, which a new run
        // of the peer can open. The same holds after a miss where the path is too slow for retries; the hello then goes
        // to both addresses in turn.
        let limit = match () {
            () if refusing || !self.rhythm.retries => 1,
            () if self.has_two_tries() => 2,
            () => TRIES,
        };
        // Where there is no time, both go out at once.
        let again = if room { again } else { now };
        self.try_at = (self.tries < limit && (room || self.has_two_tries())).then_some(again);
        if !first && self.has_two_tries() && (self.role == Role::Alone || self.refused) {
            // The first try was a hello already, or there is nobody to hear one.
            return Step::Ask(ask);
        }
        let turn = if self.paired { self.turn.div_ceil(2) } else { self.turn };
        self.turn = self.turn.wrapping_add(1);
        Step::Try {
            first,
            // Who no longer refuses may be another run already, which opens no ping to the one before.
            hello: self.after_miss && !first || self.refusals.is_some_and(|refusals| refusals.silent),
            roster: self.after_miss && !first && turn % 2 == 1,
            other_key: (!first || self.role == Role::Alone).then_some(turn),
            since_slot: self.slot_to_tell(first, now),
            ask,
        }
    }

    /// Whether the tries are a ping and then a hello, and no more.
    fn has_two_tries(&self) -> bool {
        self.backs_off() || self.paired
    }

    /// A link that is known to be cut costs one ping, and one question to another node; if that is silent for two
    /// retry times, three more, and if these are too, again three.
    fn try_cut(&mut self, now: Time, first: bool, ask: Ask) -> Step {
        let again = now + if first { self.retry * 2 } else { self.retry };
        self.try_at = (!self.relayed && again < self.judge_at).then_some(again);
        if !first {
            return Step::Ask(ask);
        }
        let since_slot = self.slot_to_tell(first, now);
        self.turn = self.turn.wrapping_add(1);
        let other_key = (self.role == Role::Alone).then_some(self.turn);
        Step::Try { first, hello: false, roster: false, other_key, since_slot, ask }
    }

    /// On a link that is known to be cut the other node that knew something last, then, if it is silent, three more:
    /// for a proof of both directions even while one still works. Else nobody once the peer was heard, nobody with the
    /// first try, except for a follower that will have time for another: its first is the leader's second.
    fn whom_to_ask(&self, first: bool, known_cut: bool) -> Ask {
        match () {
            () if known_cut && first => Ask::Last,
            () if known_cut && self.relayed => Ask::Nobody,
            () if known_cut => Ask::Three,
            () if self.lives(self.slot) => Ask::Nobody,
            // A firewall that refuses is not the peer's word.
            () if self.refusals.is_some() => Ask::Three,
            // The first try may have been lost for its length: this one stands in for it.
            () if self.spared && self.tries == 2 => Ask::Nobody,
            () if first && (self.has_two_tries() || !self.passive) => Ask::Nobody,
            () => Ask::Three,
        }
    }

    /// Whether the first try, which goes out now, can be lost at no cost: nothing is amiss, and there is time for a second
    /// one and its echo.
    pub(crate) fn can_spare(&self) -> bool {
        let regular = self.role == Role::Leader && self.slot == self.phase && self.refusals.is_none();
        let well = self.missed() == 0 && !self.after_miss;
        let room = self.try_at.is_some_and(|again| again + self.retry <= self.judge_at);
        regular && well && room && self.tries == 1
    }

    /// The first try went out padded, and may be lost for its length: the second is small, and stands in for it.
    pub(crate) fn spare(&mut self) {
        self.spared = true;
    }

    /// What became of the open heartbeat if it has an echo. A follower's own ping is its leader's second try.
    pub(super) fn answered(&self) -> Outcome {
        if self.tries > u8::from(!self.passive) { Outcome::Retried } else { Outcome::Answered }
    }

    fn slot_to_tell(&self, first: bool, now: Time) -> Option<Duration> {
        let late = self.since_slot(now);
        (!first || self.passive || late > self.rhythm.timeout / 8).then_some(late)
    }
}
