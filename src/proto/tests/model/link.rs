//! The link protocol as rules over two nodes, and all that an adversary can make of it who loses, doubles, reorders and replays
//! every frame ever sent, and restarts both.

use super::explore::{Model, explore};

/// Rules that can be left out, to see what they are worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// A frame is sealed to the run that it is for.
    pub(super) bound: bool,
    /// Only what was sent since the present run was confirmed confirms another.
    pub(super) floor: bool,
    /// Each number is taken once.
    pub(super) window: bool,
    /// After a miss there are hellos too.
    pub(super) hello_after_miss: bool,
}

pub(super) const ALL: Rules = Rules { bound: true, floor: true, window: true, hello_after_miss: true };

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum What {
    Hello,
    Welcome,
    Ping,
    /// Nothing answers it.
    Other,
}

/// A frame, as far as confirming needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Frame {
    pub(super) from: usize,
    pub(super) run: u8,
    /// The run that it is sealed to; 0: a hello is sealed to nobody.
    pub(super) to: u8,
    /// Its sequence.
    pub(super) number: u8,
    /// 0: none, else the sequence + 1.
    pub(super) echo: u8,
    pub(super) what: What,
}

/// The peer's run that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Confirmed {
    pub(super) run: u8,
    /// Numbers that were taken, as bits.
    seen: u32,
    /// One above the newest of them, and of the hellos that were answered.
    newest: u8,
    answered: u8,
}

/// One node: its run, and what it knows of the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct End {
    pub(super) run: u8,
    next: u8,
    floor: u8,
    pub(super) confirmed: Option<Confirmed>,
    /// Runs that were replaced, as bits.
    replaced: u32,
}

impl End {
    pub(super) fn new(run: u8) -> End {
        End { run, next: 0, floor: 0, confirmed: None, replaced: 0 }
    }

    /// The next frame of this node, which is node `from`.
    fn frame(&mut self, from: usize, what: What, to: u8, echo: u8) -> Frame {
        self.next += 1;
        Frame { from, run: self.run, to, number: self.next - 1, echo, what }
    }

    pub(super) fn hello(&mut self, from: usize) -> Frame {
        self.frame(from, What::Hello, 0, 0)
    }

    /// A frame for the confirmed run, if there is one.
    pub(super) fn say(&mut self, from: usize, what: What) -> Option<Frame> {
        let Confirmed { run, newest, .. } = self.confirmed?;
        Some(self.frame(from, what, run, newest))
    }

    /// Takes a frame over; what it answers as node `me`.
    ///
    /// # Errors
    /// It is rejected: nothing has changed.
    pub(super) fn receive(&mut self, me: usize, frame: Frame, rules: Rules) -> Result<Option<Frame>, ()> {
        let same = self.confirmed.filter(|confirmed| confirmed.run == frame.run);
        if self.replaced >> frame.run & 1 == 1 {
            return Err(());
        }
        if frame.what == What::Hello {
            if let Some(confirmed) = self.confirmed.as_mut().filter(|c| c.run == frame.run) {
                if frame.number < confirmed.answered {
                    return Err(());
                }
                confirmed.answered = frame.number + 1;
            }
            return Ok(Some(self.frame(me, What::Welcome, frame.run, frame.number + 1)));
        }
        if rules.bound && frame.to != self.run {
            return Err(());
        }
        let mut confirmed = match same {
            Some(confirmed) if rules.window && confirmed.seen >> frame.number & 1 == 1 => return Err(()),
            Some(confirmed) => confirmed,
            None => self.admit(frame, rules)?,
        };
        confirmed.seen |= 1 << frame.number;
        confirmed.newest = confirmed.newest.max(frame.number + 1);
        self.confirmed = Some(confirmed);
        Ok(match frame.what {
            What::Ping => self.say(me, What::Other),
            What::Welcome => self.say(me, What::Ping),
            What::Hello | What::Other => None,
        })
    }

    /// Another run than the confirmed one: it is believed if it echoes what was sent since that was confirmed.
    fn admit(&mut self, frame: Frame, rules: Rules) -> Result<Confirmed, ()> {
        let floor = if rules.floor { self.floor } else { 0 };
        if frame.echo <= floor || frame.echo > self.next {
            return Err(());
        }
        if let Some(old) = self.confirmed {
            self.replaced |= 1 << old.run;
        }
        self.floor = self.next;
        Ok(Confirmed { run: frame.run, seen: 0, newest: 0, answered: 0 })
    }
}

/// Both nodes, and all frames ever sent, in order, each with whether it was ever taken over.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) ends: [End; 2],
    pub(super) sent: Vec<(Frame, bool)>,
}

/// What of a pair decides all that can follow: both nodes, how many frames were sent, and those of them that matter.
pub(super) type Key = ([End; 2], usize, Vec<(Frame, bool)>);

impl Pair {
    pub(super) fn new() -> Pair {
        Pair { ends: [End::new(1); 2], sent: Vec::new() }
    }

    /// A new run of `node`; runs count from 1.
    pub(super) fn restart(&mut self, node: usize) {
        self.ends[node] = End::new(self.ends[node].run + 1);
    }

    pub(super) fn send(&mut self, frame: Frame) {
        self.sent.push((frame, false));
    }

    /// A frame arrives, once more perhaps. Whether it is taken over, or answered.
    ///
    /// # Errors
    /// The rule that this breaks.
    pub(super) fn deliver(&mut self, frame: Frame, rules: Rules) -> Result<bool, String> {
        let to = 1 - frame.from;
        let old = self.ends[to];
        let Ok(answer) = self.ends[to].receive(to, frame, rules) else { return Ok(false) };
        answer.into_iter().for_each(|answer| self.send(answer));
        if frame.what == What::Hello {
            return Ok(true);
        }
        let sent = self.sent.iter_mut().find(|(sent, _)| *sent == frame).expect("it was sent");
        let before = std::mem::replace(&mut sent.1, true);
        match old.confirmed {
            _ if frame.to != old.run => Err(format!("{frame:?} is life to a run that it was not for")),
            _ if before => Err(format!("{frame:?} is life twice")),
            Some(known) if known.run > frame.run => Err(format!("{frame:?} brings back an earlier run")),
            _ => Ok(true),
        }
    }

    /// Whether a frame may ever do something again. What is for a run that ended, of a run that was replaced, or of a number
    /// that was taken, is rejected for good.
    fn matters(&self, frame: Frame, rules: Rules) -> bool {
        let to = &self.ends[1 - frame.from];
        let taken = to.confirmed.filter(|c| c.run == frame.run).is_some_and(|c| match frame.what {
            What::Hello => frame.number < c.answered,
            _ => rules.window && c.seen >> frame.number & 1 == 1,
        });
        let dead = rules.bound && frame.what != What::Hello && frame.to != to.run;
        !taken && !dead && to.replaced >> frame.run & 1 == 0
    }

    pub(super) fn key(&self, rules: Rules) -> Key {
        let mut sent = self.sent.clone();
        sent.retain(|(frame, _)| self.matters(*frame, rules));
        sent.sort_unstable();
        (self.ends, self.sent.len(), sent)
    }

    fn agree(&self) -> bool {
        let believes = |end: End| end.confirmed.map(|confirmed| confirmed.run);
        let [one, other] = self.ends;
        believes(one) == Some(other.run) && believes(other) == Some(one.run)
    }

    /// Frame `frame` and all that answers it, without loss.
    fn exchange(&mut self, frame: Option<Frame>, rules: Rules) -> Result<(), String> {
        let mut at = self.sent.len();
        frame.into_iter().for_each(|frame| self.send(frame));
        while at < self.sent.len() {
            self.deliver(self.sent[at].0, rules)?;
            at += 1;
        }
        Ok(())
    }

    /// Two heartbeats without loss, `first` being the first to send.
    fn calm(&mut self, first: usize, rules: Rules) -> Result<(), String> {
        for node in [first, 1 - first, first, 1 - first] {
            let ping = self.ends[node].say(node, What::Ping);
            self.exchange(ping, rules)?;
            // What was not answered is a miss, and is followed by hellos.
            let alone = self.ends[node].confirmed.is_none();
            let hello = (alone || rules.hello_after_miss).then(|| self.ends[node].hello(node));
            self.exchange(hello, rules)?;
        }
        Ok(())
    }
}

/// Two nodes that send so many frames and restart so often, both together.
struct Link {
    rules: Rules,
    frames: usize,
    restarts: u8,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Hello(usize),
    Ping(usize),
    Deliver(Frame),
    Restart(usize),
}

impl Model for Link {
    type State = Pair;
    type Action = Action;
    type Key = Key;

    fn initial(&self) -> Pair {
        Pair::new()
    }

    fn key(&self, state: &Pair) -> Key {
        state.key(self.rules)
    }

    fn actions(&self, state: &Pair) -> Vec<Action> {
        let by_node = [Action::Hello, Action::Ping, Action::Restart];
        let nodes = by_node.into_iter().flat_map(|action| [action(0), action(1)]);
        nodes.chain(state.sent.iter().map(|(frame, _)| Action::Deliver(*frame))).collect()
    }

    fn next(&self, state: &Pair, action: Action) -> Result<Option<Pair>, String> {
        let mut next = state.clone();
        match action {
            Action::Hello(node) => {
                let hello = next.ends[node].hello(node);
                next.send(hello);
            }
            Action::Ping(node) => match next.ends[node].say(node, What::Ping) {
                Some(ping) => next.send(ping),
                None => return Ok(None),
            },
            Action::Deliver(frame) => {
                next.deliver(frame, self.rules)?;
            }
            Action::Restart(node) => next.restart(node),
        }
        let runs: u8 = next.ends.iter().map(|end| end.run).sum();
        Ok((next.sent.len() <= self.frames && runs <= 2 + self.restarts).then_some(next))
    }

    fn check(&self, state: &Pair) -> Result<(), String> {
        for first in [0, 1] {
            let mut calm = state.clone();
            calm.calm(first, self.rules)?;
            if !calm.agree() {
                return Err(format!("the link is never confirmed again: {:?}", calm.ends));
            }
        }
        Ok(())
    }
}

fn whole(frames: usize, restarts: u8, least: usize) {
    let link = Link { rules: ALL, frames, restarts };
    let explored = explore(&link, usize::MAX).unwrap_or_else(|broken| panic!("{broken}"));
    println!("link, {frames} frames, {restarts} restarts: {explored:?}");
    assert!(explored.states >= least, "{explored:?}");
}

#[test]
fn runs_are_confirmed_and_no_recording_is_life() {
    whole(7, 2, 200_000);
}

#[test]
#[ignore = "a minute of states; CI runs it"]
fn runs_are_confirmed_and_no_recording_is_life_within_wider_bounds() {
    whole(8, 3, 1_500_000);
}

#[test]
fn without_its_rules_the_link_breaks() {
    let cases = [
        (Rules { bound: false, ..ALL }, "a run that it was not for"),
        (Rules { floor: false, ..ALL }, "brings back an earlier run"),
        (Rules { window: false, ..ALL }, "is life twice"),
        (Rules { hello_after_miss: false, ..ALL }, "never confirmed again"),
    ];
    for (rules, breaks) in cases {
        let link = Link { rules, frames: 8, restarts: 2 };
        let broken = explore(&link, usize::MAX).expect_err("a rule is missing");
        println!("{broken}");
        assert!(broken.rule.contains(breaks), "{rules:?}: {broken}");
    }
}
