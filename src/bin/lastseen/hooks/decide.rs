//! Which hook is called for what, and when: a state machine without clock and tasks.
//!
//! What a peer comes to be may last. While something speaks against a call (a mass loss that may be coming or goes on, no
//! quorum, no guard, a call for the same a moment ago) it waits, and is told as soon as nothing does, if it is so still. So an alarm is put
//! off, and never lost. What only happens is told at once, or held for good. Whether what a peer did may be taken over only
//! all nodes together know: for whom a call waits for nothing else, that question comes out of here, and its answer is put in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lastseen::proto::{Change, Event, Time};

use crate::settings::{Hook, Needs, Standing, Word};

/// About so many peers at once it is asked whether what they did may be taken over: all nodes are asked then.
const QUESTIONS: usize = 4;

/// An event, and its number.
pub(super) type Numbered = (Option<u64>, Arc<Event>);

/// One call of a hook.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Which hook, by its place.
    pub(super) hook: usize,
    /// What it waited for.
    pub(super) word: Word,
    pub(super) event: Numbered,
    /// Whether this node counts a quorum now.
    pub(super) quorum: bool,
}

/// A peer, and the places of a hook and of one of its words.
type Case = (Arc<str>, usize, usize);

/// What is to be told when nothing speaks against it.
#[derive(Debug)]
struct Waiting {
    not_before: Time,
    event: Numbered,
}

/// What the hooks know. Its tables are bounded by the roster and the words of the hooks.
#[derive(Debug)]
pub(super) struct Decider {
    hooks: Arc<[Hook]>,
    /// So long it may take until a mass loss is known as one.
    settle: Duration,
    /// Who is not fine.
    standings: BTreeMap<Arc<str>, Standing>,
    quorum: bool,
    mass_loss: bool,
    /// Whether the quorum guard was held when it was last looked at.
    guard: bool,
    waiting: BTreeMap<Case, Waiting>,
    /// Until when what these peers did may be taken over.
    safe: BTreeMap<Arc<str>, Time>,
    /// About whom it is asked, or to be asked.
    asked: BTreeSet<Arc<str>>,
    questions: VecDeque<Arc<str>>,
    /// The newest of them: others have their turn after it.
    last_asked: Option<Arc<str>>,
    /// When those were told that must not be told again too soon.
    told: BTreeMap<Case, Time>,
    /// Whom a hook was called for, and not told yet that all is well again.
    open: BTreeSet<(Arc<str>, usize)>,
    calls: VecDeque<Call>,
    held: u64,
    look_at: Time,
}

impl Decider {
    pub(super) fn new(hooks: Arc<[Hook]>, interval: Duration) -> Decider {
        Decider {
            hooks,
            settle: interval * 2,
            standings: BTreeMap::new(),
            quorum: false,
            mass_loss: false,
            guard: false,
            waiting: BTreeMap::new(),
            safe: BTreeMap::new(),
            asked: BTreeSet::new(),
            questions: VecDeque::new(),
            last_asked: None,
            told: BTreeMap::new(),
            open: BTreeSet::new(),
            calls: VecDeque::new(),
            held: 0,
            look_at: Time::ZERO,
        }
    }

    /// Other hooks are in force. Those that are among them still keep what waits and what was told.
    pub(super) fn set(&mut self, hooks: Arc<[Hook]>) {
        let old = std::mem::replace(&mut self.hooks, hooks);
        let place = |hook: usize| self.hooks.iter().position(|new| *new == old[hook]);
        let moved = |(peer, hook, word): Case| Some((peer, place(hook)?, word));
        let before = self.waiting.len();
        self.waiting = std::mem::take(&mut self.waiting)
            .into_iter()
            .filter_map(|(case, waiting)| Some((moved(case)?, waiting)))
            .collect();
        self.held += (before - self.waiting.len()) as u64;
        self.told = std::mem::take(&mut self.told)
            .into_iter()
            .filter_map(|(case, at)| Some((moved(case)?, at)))
            .collect();
        self.open = std::mem::take(&mut self.open)
            .into_iter()
            .filter_map(|(peer, hook)| Some((peer, place(hook)?)))
            .collect();
    }

    /// Other nodes are in the roster: of whom is none of them nothing is known, and nothing told.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        let before = self.waiting.len();
        self.standings.retain(|peer, _| is_there(peer));
        self.waiting.retain(|(peer, ..), _| is_there(peer));
        self.told.retain(|(peer, ..), _| is_there(peer));
        self.safe.retain(|peer, _| is_there(peer));
        self.open.retain(|(peer, _)| is_there(peer));
        self.held += (before - self.waiting.len()) as u64;
    }

    /// Whether the quorum guard is held at this moment: to be told before events and time.
    pub(super) fn set_guard(&mut self, held: bool) {
        self.guard = held;
    }

    /// Until when what this peer did may be taken over, if it may.
    pub(super) fn handle_answer(&mut self, peer: &Arc<str>, until: Option<Time>, now: Time) {
        self.asked.remove(peer);
        if let Some(until) = until {
            self.safe.insert(Arc::clone(peer), until);
            self.look_at = now;
        }
    }

    /// A call was not made, since what its hook needs did not hold any more: it waits again, if it is so still.
    pub(super) fn put_back(&mut self, call: &Call, now: Time) {
        let hook = &self.hooks[call.hook];
        let (peer, word) = (&call.event.1.peer, hook.on.iter().position(|word| *word == call.word));
        let case = peer.clone().zip(word).map(|(peer, word)| (peer, call.hook, word));
        let Some(case) = case.filter(|case| call.word.holds(self.standing(&case.0))) else {
            self.held += 1;
            return;
        };
        self.safe.remove(&case.0);
        self.told.remove(&case);
        if !self.told.keys().any(|(peer, hook, _)| (peer, *hook) == (&case.0, case.1)) {
            self.open.remove(&(Arc::clone(&case.0), case.1));
        }
        if self.waiting.is_empty() {
            self.look_at = now;
        }
        let event = call.event.clone();
        if self.waiting.insert(case, Waiting { not_before: now, event }).is_some() {
            self.held += 1;
        }
    }

    /// Something happened.
    pub(super) fn handle_event(&mut self, event: Numbered, now: Time) {
        let is_known = match event.1.change {
            Change::Quorum { available } => std::mem::replace(&mut self.quorum, available) == available,
            Change::MassLoss { begins } => std::mem::replace(&mut self.mass_loss, begins) == begins,
            _ => false,
        };
        // It was made up for already.
        if is_known {
            return;
        }
        let peer = event.1.peer.clone();
        let (before, after) = self.note(&event.1);
        if let Some(peer) = &peer {
            self.drop_what_is_over(peer, after);
        }
        let hooks = Arc::clone(&self.hooks);
        for (place, hook) in hooks.iter().enumerate() {
            let is_new =
                |word: &Word| word.is_told_by(&event.1) || (word.holds(after) && !word.holds(before));
            // One event is one call, whatever it means to the hook.
            let Some(word) = hook.on.iter().position(is_new) else { continue };
            match &peer {
                Some(peer) if hook.on[word].is_lasting() => {
                    self.take(hook, (Arc::clone(peer), place, word), event.clone(), now);
                }
                Some(peer) => {
                    let case = (Arc::clone(peer), place, word);
                    if self.may_be_told(&case, now) {
                        self.tell(case, event.clone(), now)
                    } else {
                        self.held += 1
                    }
                }
                None if !self.may_act(hook) => self.held += 1,
                None => self.call(place, hook.on[word], event.clone()),
            }
        }
    }

    /// Time passed: what has waited long enough is told. Early or twice does nothing.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + self.settle / 4;
        let hooks = Arc::clone(&self.hooks);
        self.told.retain(|(_, hook, _), at| now.since(*at) < hooks[*hook].damping);
        self.safe.retain(|_, until| now < *until);
        let ripe = self.waiting.iter().filter(|(case, w)| w.not_before <= now && self.may_be_told(case, now));
        let ripe: Vec<Case> = ripe.map(|(case, _)| case.clone()).collect();
        for case in ripe {
            if let Some(waiting) = self.waiting.remove(&case) {
                self.tell(case, waiting.event, now);
            }
        }
        self.ask(now);
    }

    /// A few of those for whom a call waits for nothing but this, each in its turn.
    fn ask(&mut self, now: Time) {
        let is_missing = |(case, waiting): &(&Case, &Waiting)| {
            let needs = self.hooks[case.1].needs;
            needs == Needs::Takeover
                && waiting.not_before <= now
                && self.is_free(case, now)
                && !self.safe.contains_key(&case.0)
                && !self.asked.contains(&case.0)
        };
        let missing = self.waiting.iter().filter(is_missing);
        let mut peers: Vec<Arc<str>> = missing.map(|(case, _)| Arc::clone(&case.0)).collect();
        peers.dedup();
        let last = self.last_asked.as_ref();
        let next = peers.partition_point(|peer| last.is_some_and(|last| peer <= last));
        peers.rotate_left(next);
        peers.truncate(QUESTIONS.saturating_sub(self.asked.len()));
        self.last_asked = peers.last().cloned().or(self.last_asked.take());
        self.asked.extend(peers.iter().cloned());
        self.questions.extend(peers);
    }

    /// When [`Decider::handle_timeout`] is to be called; `None`: nothing waits.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then_some(self.look_at)
    }

    /// About whom is to be asked next whether what it did may be taken over; see [`Decider::handle_answer`].
    pub(super) fn poll_question(&mut self) -> Option<Arc<str>> {
        self.questions.pop_front()
    }

    /// The next call.
    pub(super) fn poll_call(&mut self) -> Option<Call> {
        self.calls.pop_front()
    }

    /// How many events have become no call since this was last asked.
    pub(super) fn take_held(&mut self) -> u64 {
        std::mem::take(&mut self.held)
    }

    /// How a peer stands as far as is known here.
    pub(super) fn standing(&self, peer: &str) -> Standing {
        self.standings.get(peer).copied().unwrap_or(Standing::FINE)
    }

    /// Whether there is a quorum, and a mass loss, as far as is known here.
    pub(super) fn cluster(&self) -> (bool, bool) {
        (self.quorum, self.mass_loss)
    }

    /// How the event's peer stood, and stands.
    fn note(&mut self, event: &Event) -> (Standing, Standing) {
        let Some(peer) = &event.peer else { return (Standing::FINE, Standing::FINE) };
        let before = self.standing(peer);
        let after = before.after(event);
        if after == Standing::FINE {
            self.standings.remove(peer);
        } else {
            self.standings.insert(Arc::clone(peer), after);
        }
        (before, after)
    }

    fn drop_what_is_over(&mut self, peer: &Arc<str>, is: Standing) {
        let of_peer = (Arc::clone(peer), 0, 0)..=(Arc::clone(peer), usize::MAX, usize::MAX);
        let over =
            self.waiting.range(of_peer).filter(|((_, hook, word), _)| !self.hooks[*hook].on[*word].holds(is));
        let over: Vec<Case> = over.map(|(case, _)| case.clone()).collect();
        for case in over {
            self.waiting.remove(&case);
            self.held += 1;
        }
    }

    /// A peer is so now, and may stay so.
    fn take(&mut self, hook: &Hook, case: Case, event: Numbered, now: Time) {
        let (peer, place, word) = &case;
        let is_all_clear = hook.is_all_clear(hook.on[*word]);
        if is_all_clear && !self.open.contains(&(Arc::clone(peer), *place)) {
            self.held += 1;
            return;
        }
        let wait = if hook.hold_on_mass_loss && !is_all_clear { self.settle } else { Duration::ZERO };
        if wait.is_zero() && self.may_be_told(&case, now) {
            return self.tell(case, event, now);
        }
        if self.waiting.is_empty() {
            self.look_at = now;
        }
        self.waiting.insert(case, Waiting { not_before: now + wait, event });
    }

    /// Whether nothing speaks against it.
    fn may_be_told(&self, case: &Case, now: Time) -> bool {
        let is_safe = || self.safe.get(&case.0).is_some_and(|until| now < *until);
        self.is_free(case, now) && (self.hooks[case.1].needs != Needs::Takeover || is_safe())
    }

    /// Whether nothing that is known without asking speaks against it.
    fn is_free(&self, case: &Case, now: Time) -> bool {
        let hook = &self.hooks[case.1];
        let damped = self.told.get(case).is_some_and(|at| now.since(*at) < hook.damping);
        !damped && self.may_act(hook) && !(hook.hold_on_mass_loss && self.mass_loss)
    }

    /// Whether this node stands as the hook wants it to.
    fn may_act(&self, hook: &Hook) -> bool {
        (self.quorum || !hook.only_with_quorum) && (self.guard || hook.needs == Needs::Nothing)
    }

    fn tell(&mut self, case: Case, event: Numbered, now: Time) {
        let (peer, place, word) = (Arc::clone(&case.0), case.1, self.hooks[case.1].on[case.2]);
        if self.hooks[place].is_all_clear(word) {
            self.open.remove(&(peer, place));
        } else {
            self.told.insert(case, now);
            if word.is_lasting() {
                self.open.insert((peer, place));
            }
        }
        self.call(place, word, event);
    }

    fn call(&mut self, hook: usize, word: Word, event: Numbered) {
        self.calls.push_back(Call { hook, word, event, quorum: self.quorum });
    }
}

impl Hook {
    /// Whether this word takes back what the hook was called for: where that is all it waits for, it is news like any other.
    fn is_all_clear(&self, word: Word) -> bool {
        let is_alarm = |word: &Word| word.is_lasting() && !word.is_all_clear();
        word.is_all_clear() && self.on.iter().any(is_alarm)
    }
}

#[cfg(test)]
mod tests;
