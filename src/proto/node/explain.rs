//! What is kept about a peer so that its verdict can be explained: bounded, and moved by what is rare.

use std::sync::Arc;
use std::time::Duration;

use super::Node;
use crate::proto::explain::{Asked, Explanation, Proof, ProofKind, Setup};
use crate::proto::peer::PeerStatus;
use crate::proto::seal::WIRE;
use crate::proto::stats::{ErrorSource, SendErrorKind};
use crate::proto::timer::Time;
use crate::proto::verdict::Evidence;

/// Errors are counted in parts of the minute, the oldest of which goes as a whole.
const PARTS: u64 = 6;
/// The length of a part, in microseconds.
const PART: u64 = Explanation::ERRORS_WITHIN.as_micros() as u64 / PARTS;

/// Errors about datagrams to a peer's address within the last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Errors {
    counts: [u32; PARTS as usize],
    /// The number of the part that the newest error fell into.
    newest: u64,
    last: Option<(SendErrorKind, ErrorSource, Time)>,
}

impl Errors {
    pub(super) fn note(&mut self, kind: SendErrorKind, source: ErrorSource, now: Time) {
        let part = now.as_micros() / PART;
        // What was counted a whole minute earlier makes room.
        for gone in (self.newest + 1..=part).take(PARTS as usize) {
            self.counts[(gone % PARTS) as usize] = 0;
        }
        self.newest = self.newest.max(part);
        let count = &mut self.counts[(self.newest % PARTS) as usize];
        *count = count.saturating_add(1);
        self.last = Some((kind, source, now));
    }

    fn count(&self, now: Time) -> u32 {
        let oldest = (now.as_micros() / PART + 1).saturating_sub(PARTS);
        let within =
            (0..PARTS).filter_map(|back| self.newest.checked_sub(back)).filter(|part| *part >= oldest);
        within.fold(0, |sum, part| sum.saturating_add(self.counts[(part % PARTS) as usize]))
    }

    /// The newest one and its age, if it is one of those that count.
    fn last(&self, now: Time) -> Option<(SendErrorKind, ErrorSource, Duration)> {
        let last = self.last.filter(|_| self.count(now) > 0);
        last.map(|(kind, source, at)| (kind, source, now.since(at)))
    }
}

/// What other nodes were asked about a peer since it last answered by itself.
#[derive(Debug, Default)]
pub(super) struct Questions {
    since: Option<Time>,
    last: Option<Time>,
    asked: u32,
    answered: u32,
    /// Asked since one last answered.
    in_vain: u32,
    /// Who was asked last.
    whom: [usize; 3],
}

impl Questions {
    /// `relay` is asked. `echoed`: when the newest that the peer echoed was sent.
    pub(super) fn asked(&mut self, relay: usize, echoed: Option<Time>, now: Time) {
        if self.since.is_none() || echoed > self.since {
            *self = Questions { since: Some(now), ..Questions::default() };
        }
        self.whom[self.asked as usize % self.whom.len()] = relay;
        self.asked = self.asked.wrapping_add(1).max(1);
        self.in_vain = self.in_vain.saturating_add(1);
        self.last = Some(now);
    }

    /// Where each place of the roster before is now: of whom one is gone, nobody was asked.
    pub(super) fn moved(&mut self, places: &[Option<usize>]) {
        let asked = self.whom.len().min(self.asked as usize);
        for relay in &mut self.whom[..asked] {
            let Some(now) = places[*relay] else { return *self = Questions::default() };
            *relay = now;
        }
    }

    pub(super) fn answered(&mut self) {
        self.answered = self.answered.saturating_add(1).min(self.asked);
        self.in_vain = 0;
    }

    /// Whether this relay was one of the last that were asked, and nobody has answered since.
    pub(super) fn is_in_vain(&self, relay: usize) -> bool {
        self.newest(self.in_vain).any(|asked| asked == relay)
    }

    /// Who was asked last, so many at most.
    fn newest(&self, most: u32) -> impl Iterator<Item = usize> {
        let kept = self.whom.len();
        let from = self.asked.saturating_sub(most.min(kept as u32));
        (from..self.asked).map(move |question| self.whom[question as usize % kept])
    }

    /// Who was asked last, the newest last, each once.
    fn whom(&self) -> Vec<usize> {
        let newest = self.newest(u32::MAX);
        let mut whom = Vec::new();
        for relay in newest {
            whom.retain(|known| *known != relay);
            whom.push(relay);
        }
        whom
    }
}

/// How a peer's status came and went.
#[derive(Debug)]
pub(super) struct History {
    status_since: Time,
    /// The present spell, of health or of trouble: since when, and its gravest status.
    since: Time,
    gravest: PeerStatus,
    before: Option<(PeerStatus, Duration)>,
    pub(super) errors: Errors,
}

impl History {
    pub(super) fn new(now: Time) -> History {
        let errors = Errors::default();
        History { status_since: now, since: now, gravest: PeerStatus::Healthy, before: None, errors }
    }

    /// The status is `to` from now on.
    pub(super) fn turned(&mut self, to: PeerStatus, now: Time) {
        self.status_since = now;
        if to == PeerStatus::Healthy {
            // They explain the outage that is over.
            self.errors = Errors::default();
        }
        let is_well = |status| status == PeerStatus::Healthy;
        if is_well(to) == is_well(self.gravest) {
            self.gravest = self.gravest.max(to);
        } else {
            self.before = Some((self.gravest, now.since(self.since)));
            (self.since, self.gravest) = (now, to);
        }
    }
}

impl Node {
    /// What the verdict about a peer rests on.
    pub(super) fn explanation(&self, peer: usize, evidence: &Evidence, now: Time) -> Explanation {
        let (connection, account) = (self.pool.at(peer), &self.accounts[peer]);
        let History { status_since, before, errors, .. } = &account.history;
        let spacing = connection.spacing;
        Explanation {
            observed: true,
            meaning: evidence.meaning(),
            rule: evidence.rule(),
            status_since: *status_since,
            // A peer that was never heard is presumed healthy, and never was.
            before: before.filter(|_| evidence.heard.is_some()),
            last_proof: self.last_proof(peer, now),
            heartbeats: self.beats[peer].strip,
            backing_off: (spacing > 1).then(|| self.config.heartbeat_interval * u32::from(spacing)),
            missed: evidence.missed,
            suspect_after: self.config.suspect_after,
            down_after: evidence.down_after,
            unechoed: evidence.unechoed,
            loss: evidence.loss,
            address: connection.remote_address,
            relays: self.asked_about(peer, now),
            errors: errors.count(now),
            last_error: errors.last(now),
            says: evidence.says,
            self_health: self.health_at(now),
            left: evidence.left,
            paused: evidence.paused,
            draining: evidence.draining.clone(),
            setup: self.setup_of(peer, evidence),
        }
    }

    /// The newest error about a datagram to the peer's address, if it is younger than a minute and than the last sign of life.
    pub(super) fn last_error(&self, peer: usize, now: Time) -> Option<(SendErrorKind, ErrorSource)> {
        let heard = self.registry.at(peer).last_seen;
        let (kind, source, age) = self.accounts[peer].history.errors.last(now)?;
        heard.is_none_or(|heard| now.since(heard) > age).then_some((kind, source))
    }

    /// A datagram to a peer's address failed.
    pub(super) fn note_error(&mut self, peer: usize, kind: SendErrorKind, source: ErrorSource) {
        self.accounts[peer].history.errors.note(kind, source, self.now);
    }

    fn last_proof(&self, peer: usize, now: Time) -> Option<Proof> {
        let (connection, account) = (self.pool.at(peer), &self.accounts[peer]);
        let at = account.direct.max(account.relayed)?;
        let echoed = self.sessions[peer].echoed_at();
        let kind = match () {
            () if account.relayed > account.direct => ProofKind::ByRelay,
            () if echoed.is_some_and(|sent| at.since(sent) < self.config.proof_horizon()) => ProofKind::Echo,
            () => ProofKind::OneWay,
        };
        let relay = account.inquiry.worked.filter(|_| kind == ProofKind::ByRelay);
        Some(Proof {
            kind,
            age: now.since(at),
            rtt: connection.round_trip.smoothed(),
            address: connection.remote_address,
            relay: relay.map(|relay| self.id_of(relay).clone()),
        })
    }

    fn asked_about(&self, peer: usize, now: Time) -> Asked {
        let questions = &self.accounts[peer].inquiry.questions;
        let name = |relay: usize| Arc::clone(self.id_of(relay));
        Asked {
            asked: questions.asked,
            answered: questions.answered,
            last: questions.last.map(|at| now.since(at)),
            whom: questions.whom().into_iter().map(name).collect(),
        }
    }

    fn setup_of(&self, peer: usize, evidence: &Evidence) -> Setup {
        let own = self.records.profile(self.records.me());
        let both = own.zip(self.records.profile(self.places[peer]));
        Setup {
            roster: both.map(|(own, its)| own.roster == its.roster),
            settings: both.map(|(own, its)| own.config == its.config),
            key: self.sessions[peer].confirmed.as_ref().map(|confirmed| confirmed.key == 0),
            // Whatever else it speaks is not heard.
            version: self.records.profile(self.places[peer]).map(|profile| profile.wire == WIRE),
            foreign_keys: evidence.foreign_keys,
            foreign_versions: evidence.foreign_versions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn errors_count_for_a_minute() {
        let mut errors = Errors::default();
        assert_eq!((errors.count(at(0)), errors.last(at(0))), (0, None));
        for second in 100..200 {
            errors.note(SendErrorKind::HostUnreachable, ErrorSource::Network, at(second));
        }
        let age = Duration::from_secs(5);
        let last = Some((SendErrorKind::HostUnreachable, ErrorSource::Network, age));
        assert_eq!(errors.last(at(204)), last);
        assert_eq!(errors.count(at(199)), 60);
        assert!((50..60).contains(&errors.count(at(205))));
        assert_eq!(errors.count(at(249)), 10);
        assert_eq!((errors.count(at(250)), errors.last(at(250))), (0, None));
        errors.note(SendErrorKind::Refused, ErrorSource::Peer, at(10_000));
        assert_eq!(errors.count(at(10_000)), 1, "what is old makes room");
    }

    #[test]
    fn questions_count_since_the_peer_answered_by_itself() {
        let mut questions = Questions::default();
        for (second, relay) in [(10, 1), (10, 2), (10, 3), (11, 4), (11, 5), (11, 4)] {
            questions.asked(relay, Some(at(9)), at(second));
        }
        questions.answered();
        assert_eq!((questions.asked, questions.answered, questions.whom()), (6, 1, vec![5, 4]));
        questions.asked(7, Some(at(12)), at(20));
        assert_eq!((questions.asked, questions.answered, questions.whom()), (1, 0, vec![7]));
        questions.answered();
        questions.answered();
        assert_eq!(questions.answered, 1, "no more answers than questions");
    }

    #[test]
    fn spells_of_health_and_of_trouble() {
        use PeerStatus::{Down, Healthy, Suspected};
        let mut history = History::new(at(0));
        for (second, to, since, before) in [
            (100, Suspected, 100, Some((Healthy, 100))),
            (103, Down, 103, Some((Healthy, 100))),
            (150, Healthy, 150, Some((Down, 50))),
            (160, Suspected, 160, Some((Healthy, 10))),
            (161, Healthy, 161, Some((Suspected, 1))),
        ] {
            history.turned(to, at(second));
            let before = before.map(|(status, length)| (status, Duration::from_secs(length)));
            assert_eq!((history.status_since, history.before), (at(since), before), "{second}: {to}");
        }
    }
}
