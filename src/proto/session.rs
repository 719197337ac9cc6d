//! What two nodes know of each other's run: the confirmed instance with its keys and replay window, the
//! sequences sent and echoed, and the dates that follow from them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::loss::Loss;
use super::seal::{FrameKey, Instance, Keyring, ReplayWindow, Tag};
use super::stats::Reject;
use super::timer::Time;

/// Datagrams sent to one peer that are remembered whole.
const SENT: usize = 32;
/// Older ones whose time is remembered while nothing newer is echoed: half an hour of a link of which only one
/// direction works. What an older echo would date by is gone.
const UNECHOED: usize = 1024;
/// Replaced instances remembered a peer.
const REPLACED: usize = 8;
/// An echo older than this dates by arrival: two clocks that drift by 200 ppm each are 0.96 s apart by then.
const OLDEST_ECHO: Duration = Duration::from_secs(2400);
/// Welcomes a second to one peer.
pub(crate) const WELCOMES: u32 = 20;

/// The present run of a peer, proven by an echo.
#[derive(Debug)]
pub(crate) struct Confirmed {
    pub(crate) instance: Instance,
    /// The index of the key its newest datagram used.
    pub(crate) key: usize,
    /// For each key of the keyring: (to seal for it, to open what it sealed), made when first used.
    keys: Vec<Option<(FrameKey, FrameKey)>>,
    window: ReplayWindow,
    /// What is lost between it and us.
    pub(crate) loss: Loss,
    /// The newest number received from it, and when.
    newest: Option<(u64, Time)>,
    /// One above the newest number of a hello of it that was answered.
    hello_answered: u64,
}

/// One datagram of ours, as far as an echo of it needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) sequence: u64,
    pub(crate) departure: Departure,
    pub(crate) to: SocketAddr,
    /// What it was.
    pub(crate) what: What,
}

/// When a datagram of ours left this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    /// When it was sealed: it left no earlier. Until it is sealed, when it was queued.
    pub(crate) sealed: Time,
    /// It left no later. Differs from `sealed` only if the process stood still meanwhile.
    pub(crate) left: Time,
}

impl Departure {
    fn at(now: Time) -> Departure {
        Departure { sealed: now, left: now }
    }
}

/// What a datagram of ours was, as far as an error that quotes it needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A hello under this number: a try of a heartbeat.
    Hello(u64),
    /// A ping: a try of a heartbeat, or on behalf of another node.
    Ping,
    /// A question about another peer (its index).
    About(u32),
    /// A question for how long others are silent.
    Silence,
    /// An answer, or something told.
    Other,
}

/// What an echo proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// The peer has heard nothing of us yet.
    None,
    /// We never sent that sequence: we are a clone, or were rolled back.
    NeverSent,
    /// Sent so long ago that it dates nothing.
    Forgotten,
    /// The datagram that carried it was sent no earlier than `date`.
    Dated {
        /// When what it echoes was sent.
        departure: Departure,
        /// Where that was sent to.
        to: Option<SocketAddr>,
        /// The date: the hold after the latest time at which that can have left.
        date: Time,
        /// Whether no newer sequence was echoed before.
        newest: bool,
    },
}

/// The state between this node and one peer.
#[derive(Debug)]
pub(crate) struct Session {
    /// The peer's tags, one for each key of the keyring; empty while its id is unknown.
    pub(crate) tags: Vec<Tag>,
    pub(crate) confirmed: Option<Confirmed>,
    /// The instance confirmed last, even if it ended or must be confirmed anew.
    pub(crate) known: Option<Instance>,
    /// Instances that were replaced or that left, and when; the newest last.
    replaced: Vec<(Instance, Time)>,
    /// Our next sequence to this peer; never reset in a run.
    next_sequence: u64,
    /// Sequences below were sent before the present instance was confirmed: their echoes confirm no other.
    floor: u64,
    sent: Vec<Sent>,
    /// When older ones were sent, from sequence `unechoed_from` on, all of them above the newest that was echoed.
    unechoed: VecDeque<Departure>,
    unechoed_from: u64,
    /// The newest sequence that was echoed, and when it was sent.
    echoed: Option<(u64, Departure)>,
    welcomes: (Time, u32),
}

impl Session {
    pub(crate) fn new(tags: Vec<Tag>) -> Session {
        Session {
            tags,
            confirmed: None,
            known: None,
            replaced: Vec::with_capacity(REPLACED),
            next_sequence: 0,
            floor: 0,
            sent: Vec::with_capacity(SENT),
            unechoed: VecDeque::new(),
            unechoed_from: 0,
            echoed: None,
            welcomes: (Time::ZERO, 0),
        }
    }

    /// Between this node and one that it does not observe: its sequences begin at `sequence` or a little above. Nothing is
    /// reserved, since there may never be many.
    pub(crate) fn beginning_at(tags: Vec<Tag>, sequence: u64) -> Session {
        // The datagrams sent are remembered by their sequence modulo their number.
        let first = sequence.next_multiple_of(SENT as u64);
        Session {
            next_sequence: first,
            floor: first,
            sent: Vec::new(),
            replaced: Vec::new(),
            ..Session::new(tags)
        }
    }

    /// The most bytes that [`held`](Session::held) can be.
    #[cfg(feature = "sim")]
    pub(crate) const MOST_HELD: usize = SENT * size_of::<Sent>()
        + UNECHOED * size_of::<Departure>()
        + REPLACED * size_of::<(Instance, Time)>();

    /// Bytes on the heap for what comes and goes.
    #[cfg(feature = "sim")]
    pub(crate) fn held(&self) -> usize {
        self.sent.len() * size_of::<Sent>()
            + self.unechoed.len() * size_of::<Departure>()
            + self.replaced.len() * size_of::<(Instance, Time)>()
    }

    /// For tests of what happens late in a run.
    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, sequence: u64) {
        *self = Session::beginning_at(std::mem::take(&mut self.tags), sequence);
    }

    /// Our next sequence to this peer.
    pub(crate) fn upcoming(&self) -> u64 {
        self.next_sequence
    }

    /// Takes our next sequence to this peer, and remembers what it was used for.
    pub(crate) fn next_sequence(&mut self, at: Time, to: SocketAddr, what: What) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let sent = Sent { sequence, departure: Departure::at(at), to, what };
        if self.sent.len() < SENT {
            self.sent.push(sent);
        } else {
            let old = std::mem::replace(&mut self.sent[(sequence % SENT as u64) as usize], sent);
            self.keep_unechoed(old);
        }
        sequence
    }

    fn keep_unechoed(&mut self, old: Sent) {
        if self.echoed.is_some_and(|(newest, _)| old.sequence <= newest) {
            return;
        }
        if self.unechoed.is_empty() {
            self.unechoed_from = old.sequence;
        } else if self.unechoed.len() == UNECHOED {
            self.forget_unechoed(self.unechoed_from);
        }
        self.unechoed.push_back(old.departure);
    }

    /// Forgets the times of sequences up to `newest`.
    fn forget_unechoed(&mut self, newest: u64) {
        while self.unechoed_from <= newest && self.unechoed.pop_front().is_some() {
            self.unechoed_from += 1;
        }
    }

    /// The datagram of this sequence is sealed now.
    pub(crate) fn seal(&mut self, sequence: u64, now: Time) {
        let sent = self.sent.get_mut((sequence % SENT as u64) as usize);
        if let Some(sent) = sent.filter(|s| s.sequence == sequence) {
            sent.departure = Departure::at(now);
        }
    }

    /// What was sealed from `first` on had left by `now`, and perhaps not sooner.
    pub(crate) fn left_late(&mut self, first: Time, now: Time) {
        for sent in self.sent.iter_mut().filter(|sent| sent.departure.sealed >= first) {
            sent.departure.left = now;
        }
    }

    /// A datagram of ours that is still remembered.
    pub(crate) fn sent(&self, sequence: u64) -> Option<&Sent> {
        self.sent.get((sequence % SENT as u64) as usize).filter(|s| s.sequence == sequence)
    }

    /// The try that a quoted clear header (a hello's or a bound frame's number) names, if it went to `to`.
    pub(crate) fn quoted(&self, hello: bool, number: u64, to: SocketAddr) -> Option<&Sent> {
        let names = |s: &&Sent| match s.what {
            What::Hello(n) => hello && n == number,
            What::Ping => !hello && s.sequence == number,
            What::About(_) | What::Silence | What::Other => false,
        };
        self.sent.iter().find(|s| s.to == to && names(s))
    }

    /// What to write into a datagram: the echo (0: none, else the sequence + 1), and when what it echoes was received.
    pub(crate) fn echo(&self) -> (u64, Option<Time>) {
        match self.confirmed.as_ref().and_then(|c| c.newest) {
            Some((number, received)) => (number + 1, Some(received)),
            None => (0, None),
        }
    }

    /// Reads the echo of a datagram received at `received`. Changes nothing.
    pub(crate) fn read_echo(&self, echo: u64, hold: u64, received: Time) -> Echo {
        let Some(sequence) = echo.checked_sub(1) else { return Echo::None };
        if sequence >= self.next_sequence {
            return Echo::NeverSent;
        }
        let (departure, to) = match (self.sent(sequence), self.echoed) {
            (Some(s), _) => (s.departure, Some(s.to)),
            (None, Some((newest, departure))) if newest == sequence => (departure, None),
            (None, _) => {
                let place = sequence.checked_sub(self.unechoed_from).and_then(|n| usize::try_from(n).ok());
                let Some(departure) = place.and_then(|n| self.unechoed.get(n)) else {
                    return Echo::Forgotten;
                };
                (*departure, None)
            }
        };
        let date = if received.since(departure.sealed) > OLDEST_ECHO {
            received
        } else {
            (departure.left + Duration::from_micros(hold)).min(received)
        };
        Echo::Dated { departure, to, date, newest: self.echoed.is_none_or(|(newest, _)| sequence > newest) }
    }

    /// Takes an echo over as the newest one.
    pub(crate) fn note_echo(&mut self, echo: u64, departure: Departure) {
        if let Some(sequence) = echo.checked_sub(1) {
            self.echoed = Some((sequence, departure));
            self.forget_unechoed(sequence);
        }
    }

    /// When the newest datagram that was echoed was sent.
    pub(crate) fn echoed_at(&self) -> Option<Time> {
        self.echoed.map(|(_, departure)| departure.sealed)
    }

    /// The shares that are lost of what comes and of what goes, of the last 64 each; `None`: not known yet.
    pub(crate) fn loss(&self) -> Option<(f64, f64)> {
        self.confirmed.as_ref()?.loss.shares(self.next_sequence - self.floor)
    }

    /// The sequence that hello `number` of this run took, if it went to this peer and is still remembered.
    pub(crate) fn hello(&self, number: u64) -> Option<u64> {
        self.sent.iter().find(|sent| sent.what == What::Hello(number)).map(|sent| sent.sequence)
    }

    /// Whether an echo of it can confirm a new instance.
    pub(crate) fn confirms(&self, echo: u64) -> bool {
        echo.checked_sub(1).is_some_and(|sequence| sequence >= self.floor && sequence < self.next_sequence)
    }

    /// Whether (and since when) `instance` was replaced or left.
    pub(crate) fn replaced_at(&self, instance: Instance) -> Option<Time> {
        self.replaced.iter().find(|(i, _)| *i == instance).map(|(_, at)| *at)
    }

    /// Takes `instance` for the present run. True if that is another run than the one known before.
    pub(crate) fn confirm(&mut self, instance: Instance, keys: usize, key: usize, now: Time) -> bool {
        let before = self.known.replace(instance);
        self.retire(now, Some(instance));
        self.floor = self.next_sequence;
        self.confirmed = Some(Confirmed {
            instance,
            key,
            keys: (0..keys).map(|_| None).collect(),
            window: ReplayWindow::default(),
            loss: Loss::default(),
            newest: None,
            hello_answered: 0,
        });
        before.is_some_and(|before| before != instance)
    }

    /// The confirmed run has ended: nothing of it proves anything afterwards.
    pub(crate) fn end(&mut self, now: Time) {
        self.retire(now, None);
    }

    /// We are a new instance: the peer's run must be confirmed anew, and is no restart then.
    pub(crate) fn forget(&mut self) {
        self.confirmed = None;
    }

    fn retire(&mut self, now: Time, successor: Option<Instance>) {
        if let Some(old) = self.confirmed.take()
            && Some(old.instance) != successor
        {
            if self.replaced.len() == REPLACED {
                self.replaced.remove(0);
            }
            self.replaced.push((old.instance, now));
        }
    }

    /// The peers have other indices: where each is now, if it is still one.
    pub(crate) fn moved(&mut self, peers: &[Option<usize>]) {
        for sent in &mut self.sent {
            if let What::About(peer) = sent.what {
                let now = peers[peer as usize].and_then(|now| u32::try_from(now).ok());
                sent.what = now.map_or(What::Other, What::About);
            }
        }
    }

    /// Other keys: the peer's tags under them, and for each of them where the old keyring had it.
    pub(crate) fn rekey(&mut self, tags: Vec<Tag>, before: &[Option<usize>]) {
        self.tags = tags;
        if let Some(confirmed) = &mut self.confirmed {
            let mut old = std::mem::take(&mut confirmed.keys);
            confirmed.keys = before.iter().map(|k| old[(*k)?].take()).collect();
            // Where the peer's key is gone the first one is sent with, and its next datagram tells.
            confirmed.key = before.iter().position(|k| *k == Some(confirmed.key)).unwrap_or(0);
        }
    }

    /// Why no Welcome may answer hello number `number` of `instance` now, if none may: the run was replaced, or it was
    /// answered, or so were too many.
    pub(crate) fn refuses_hello(&self, instance: Instance, number: u64, now: Time) -> Option<Reject> {
        if self.replaced_at(instance).is_some() {
            return Some(Reject::Instance);
        }
        let (since, count) = self.welcomes;
        let many = count >= WELCOMES && now.since(since) < Duration::from_secs(1);
        let run = self.confirmed.as_ref().filter(|c| c.instance == instance);
        (many || run.is_some_and(|c| number < c.hello_answered)).then_some(Reject::Replay)
    }

    /// A Welcome answers it now.
    pub(crate) fn note_welcome(&mut self, instance: Instance, number: u64, now: Time) {
        if let Some(confirmed) = self.confirmed.as_mut().filter(|c| c.instance == instance) {
            confirmed.hello_answered = number + 1;
        }
        let (since, count) = self.welcomes;
        let fresh = now.since(since) >= Duration::from_secs(1);
        self.welcomes = if fresh { (now, 1) } else { (since, count + 1) };
    }
}

impl Confirmed {
    /// The keys between us and this run under key `k`: (to seal, to open).
    pub(crate) fn keys(
        &mut self,
        ring: &Keyring,
        k: usize,
        me: (Tag, Instance),
        peer: Tag,
    ) -> &(FrameKey, FrameKey) {
        let peer = (peer, self.instance);
        self.keys[k].get_or_insert_with(|| (ring.frame_key(k, me, peer), ring.frame_key(k, peer, me)))
    }

    /// The newest number received, and when.
    pub(crate) fn newest(&self) -> Option<(u64, Time)> {
        self.newest
    }

    /// Whether `number` is new.
    pub(crate) fn is_new(&self, number: u64) -> bool {
        self.window.check(number)
    }

    /// Takes a datagram of this run over. True: its number is the newest.
    pub(crate) fn note(&mut self, number: u64, key: usize, received: Time) -> bool {
        self.window.mark(number);
        self.key = key;
        self.loss.came(number);
        if self.newest.is_some_and(|(newest, _)| number <= newest) {
            return false;
        }
        self.newest = Some((number, received));
        true
    }

    /// A hello of this run came, that took this sequence.
    pub(crate) fn note_hello(&mut self, sequence: u64) {
        // A number far ahead tells nothing of what was lost.
        if self.newest.is_some_and(|(newest, _)| sequence < newest + 64) {
            self.loss.came(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn to() -> SocketAddr {
        ([127, 0, 0, 1], 5278).into()
    }

    #[test]
    fn echoes_date_what_carried_them() {
        let mut session = Session::new(vec![]);
        let start = Time::from_micros(5_000_000);
        let sequence = session.next_sequence(start, to(), What::Ping);
        assert_eq!(session.read_echo(0, 0, start), Echo::None);
        assert_eq!(session.read_echo(sequence + 2, 0, start), Echo::NeverSent);
        let read = session.read_echo(sequence + 1, 3_000, start + 10 * MS);
        let departure = Departure::at(start);
        assert_eq!(read, Echo::Dated { departure, to: Some(to()), date: start + 3 * MS, newest: true });
        session.note_echo(sequence + 1, departure);
        let Echo::Dated { date, newest, .. } = session.read_echo(sequence + 1, u64::MAX, start + 10 * MS)
        else {
            panic!("it is remembered")
        };
        assert_eq!((date, newest), (start + 10 * MS, false), "never later than it came");
    }

    #[test]
    fn what_left_late_is_dated_by_when_it_can_have_left_last() {
        let mut session = Session::new(vec![]);
        let start = Time::from_micros(5_000_000);
        let early = session.next_sequence(start, to(), What::Ping);
        let late = session.next_sequence(start, to(), What::Ping);
        session.seal(early, start);
        session.seal(late, start + MS);
        session.left_late(start + MS, start + 6000 * MS);
        let date = |sequence: u64, received: Time| match session.read_echo(sequence + 1, 3_000, received) {
            Echo::Dated { departure, date, .. } => (departure.sealed, date),
            other => panic!("{other:?}"),
        };
        assert_eq!(date(early, start + 9000 * MS), (start, start + 3 * MS), "it was reported before");
        assert_eq!(date(late, start + 9000 * MS), (start + MS, start + 6003 * MS));
        assert_eq!(date(late, start + 2000 * MS).1, start + 2000 * MS, "never later than it came");
    }

    #[test]
    fn the_newest_echo_is_remembered_for_good_and_dates_by_arrival_after_an_hour() {
        let mut session = Session::new(vec![]);
        let first = session.next_sequence(Time::ZERO, to(), What::Ping);
        session.note_echo(first + 1, Departure::at(Time::ZERO));
        let sequences = SENT + UNECHOED + 100;
        let start = |sequence: u64| Time::from_micros(sequence * 1000);
        for sequence in 1..=sequences as u64 {
            session.next_sequence(start(sequence), to(), What::Ping);
        }
        assert_eq!(session.read_echo(2, 0, start(2)), Echo::Forgotten, "the oldest");
        assert!(session.unechoed.len() <= UNECHOED);
        let remembered = (sequences - SENT - UNECHOED + 1) as u64;
        for sequence in [remembered, sequences as u64] {
            let Echo::Dated { date, .. } = session.read_echo(sequence + 1, 0, start(60_000)) else {
                panic!("{sequence} is remembered")
            };
            assert_eq!(date, start(sequence));
        }
        let late = Time::ZERO + Duration::from_secs(4000);
        let Echo::Dated { date, .. } = session.read_echo(first + 1, 1, late) else {
            panic!("it is remembered")
        };
        assert_eq!(date, late);
    }

    #[test]
    fn only_echoes_above_the_floor_confirm() {
        let mut session = Session::new(vec![]);
        let old = session.next_sequence(Time::ZERO, to(), What::Hello(0));
        assert!(session.confirms(old + 1) && !session.confirms(0));
        assert!(!session.confirm(Instance(1), 1, 0, Time::ZERO), "the first run is no restart");
        assert!(!session.confirms(old + 1), "sent before the present run was confirmed");
        let new = session.next_sequence(Time::ZERO, to(), What::Hello(0));
        assert!(session.confirms(new + 1) && !session.confirms(new + 2));
        assert!(session.confirm(Instance(2), 1, 0, Time::ZERO), "a restart");
        assert!(session.replaced_at(Instance(1)).is_some() && session.replaced_at(Instance(2)).is_none());
    }

    #[test]
    fn hellos_are_answered_once_and_twenty_times_a_second() {
        let mut session = Session::new(vec![]);
        let answers = |session: &mut Session, run: u64, number: u64, now: Time| {
            let refused = session.refuses_hello(Instance(run), number, now);
            if refused.is_none() {
                session.note_welcome(Instance(run), number, now);
            }
            refused
        };
        session.confirm(Instance(1), 1, 0, Time::ZERO);
        let now = Time::from_micros(10_000_000);
        let given = [5, 5, 6, 4].map(|number| answers(&mut session, 1, number, now));
        assert_eq!(given, [None, Some(Reject::Replay), None, Some(Reject::Replay)]);
        session.confirm(Instance(2), 1, 0, now);
        assert_eq!(answers(&mut session, 1, 99, now), Some(Reject::Instance), "a replaced run gets none");
        let answered = (0..100).filter(|n| answers(&mut session, 2, *n, now).is_none()).count();
        assert_eq!(answered, 18, "twenty a second, two were given before");
        assert_eq!(answers(&mut session, 2, 1000, now + 1000 * MS), None);
    }
}
