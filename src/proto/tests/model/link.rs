//! The link protocol as rules over two or three nodes, and all that an adversary can make of it who loses, doubles, reorders
//! and replays every frame ever sent, delivers hellos to other nodes than they went to, and restarts all.

use super::explore::{Model, explore};

/// Nodes at most.
const NODES: usize = 3;
/// Hellos of one run at most.
const HELLOS: usize = 24;

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
    /// A Welcome echoes the hello's own number, and not the sequence of the pair that the hello took.
    pub(super) own_number: bool,
    /// It counts only if it comes from the node to which that hello went.
    pub(super) entry: bool,
}

pub(super) const ALL: Rules =
    Rules { bound: true, floor: true, window: true, hello_after_miss: true, own_number: true, entry: true };

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
    /// The node that it is sent to. A hello may arrive at another one.
    pub(super) to: usize,
    /// The run that it is sealed to; 0: a hello is sealed to nobody.
    pub(super) to_run: u8,
    /// One counter numbers the hellos of a run; the number of all other frames is their sequence.
    pub(super) number: u8,
    /// The sequence of the pair that it takes.
    pub(super) sequence: u8,
    /// 0: none, else what it echoes + 1.
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

/// What a node knows of one other node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct End {
    next: u8,
    floor: u8,
    pub(super) confirmed: Option<Confirmed>,
    /// Runs that were replaced, as bits.
    replaced: u32,
}

/// One node: its run, and what it knows of each other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) run: u8,
    pub(super) ends: [End; NODES],
    /// Its hellos by number: to which node each went, and the sequence that it took.
    hellos: [(u8, u8); HELLOS],
    count: usize,
}

impl Member {
    pub(super) fn new(run: u8) -> Member {
        Member { run, ends: [End::default(); NODES], hellos: [(0, 0); HELLOS], count: 0 }
    }

    /// The next bound frame of this node, which is node `me`.
    fn frame(&mut self, me: usize, to: usize, what: What, to_run: u8, echo: u8) -> Frame {
        let number = self.ends[to].next;
        self.ends[to].next += 1;
        Frame { from: me, run: self.run, to, to_run, number, sequence: number, echo, what }
    }

    pub(super) fn hello(&mut self, me: usize, to: usize) -> Frame {
        let frame = self.frame(me, to, What::Hello, 0, 0);
        self.hellos[self.count] = (to as u8, frame.sequence);
        self.count += 1;
        Frame { number: self.count as u8 - 1, ..frame }
    }

    /// A frame for the confirmed run, if there is one.
    pub(super) fn say(&mut self, me: usize, to: usize, what: What) -> Option<Frame> {
        let Confirmed { run, newest, .. } = self.ends[to].confirmed?;
        Some(self.frame(me, to, what, run, newest))
    }

    /// The echo of a frame as a sequence of the pair, plus one; `None`: it echoes no hello to that node.
    fn echo_of(&self, frame: Frame, rules: Rules) -> Option<u8> {
        if frame.what != What::Welcome {
            return Some(frame.echo);
        }
        let hellos = &self.hellos[..self.count];
        if rules.own_number {
            let (to, sequence) = hellos.get(usize::from(frame.echo) - 1)?;
            let counts = !rules.entry || usize::from(*to) == frame.from;
            return counts.then_some(sequence + 1);
        }
        hellos.contains(&(frame.from as u8, frame.echo - 1)).then_some(frame.echo)
    }

    /// Takes a frame over; what it answers as node `me`.
    ///
    /// # Errors
    /// It is rejected: nothing has changed.
    pub(super) fn receive(&mut self, me: usize, frame: Frame, rules: Rules) -> Result<Option<Frame>, ()> {
        let from = frame.from;
        let end = &mut self.ends[from];
        if end.replaced >> frame.run & 1 == 1 {
            return Err(());
        }
        if frame.what == What::Hello {
            if let Some(confirmed) = end.confirmed.as_mut().filter(|c| c.run == frame.run) {
                if frame.number < confirmed.answered {
                    return Err(());
                }
                confirmed.answered = frame.number + 1;
            }
            let echoed = if rules.own_number { frame.number } else { frame.sequence };
            return Ok(Some(self.frame(me, from, What::Welcome, frame.run, echoed + 1)));
        }
        if rules.bound && frame.to_run != self.run {
            return Err(());
        }
        let echo = self.echo_of(frame, rules).ok_or(())?;
        let end = &mut self.ends[from];
        let mut confirmed = match end.confirmed.filter(|confirmed| confirmed.run == frame.run) {
            Some(confirmed) if rules.window && confirmed.seen >> frame.number & 1 == 1 => return Err(()),
            Some(confirmed) => confirmed,
            None => end.admit(frame.run, echo, rules)?,
        };
        confirmed.seen |= 1 << frame.number;
        confirmed.newest = confirmed.newest.max(frame.number + 1);
        end.confirmed = Some(confirmed);
        Ok(match frame.what {
            What::Ping => self.say(me, from, What::Other),
            What::Welcome => self.say(me, from, What::Ping),
            What::Hello | What::Other => None,
        })
    }
}

impl End {
    /// Another run than the confirmed one: it is believed if it echoes what was sent since that was confirmed.
    fn admit(&mut self, run: u8, echo: u8, rules: Rules) -> Result<Confirmed, ()> {
        let floor = if rules.floor { self.floor } else { 0 };
        if echo <= floor || echo > self.next {
            return Err(());
        }
        if let Some(old) = self.confirmed {
            self.replaced |= 1 << old.run;
        }
        self.floor = self.next;
        Ok(Confirmed { run, seen: 0, newest: 0, answered: 0 })
    }
}

/// A frame that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Sent {
    pub(super) frame: Frame,
    /// It was taken over, as life of its sender.
    taken: bool,
    /// What it echoes, as its addressee will read that, had been sent when it was.
    after: bool,
}

/// All nodes, and all frames ever sent, in order.
#[derive(Clone, Debug)]
pub(super) struct Group {
    nodes: usize,
    pub(super) members: [Member; NODES],
    pub(super) sent: Vec<Sent>,
}

/// What of a group decides all that can follow: the nodes, how many frames were sent, and those of them that matter.
pub(super) type Key = ([Member; NODES], usize, Vec<Sent>);

impl Group {
    pub(super) fn new(nodes: usize) -> Group {
        Group { nodes, members: [Member::new(1); NODES], sent: Vec::new() }
    }

    /// A new run of `node`; runs count from 1.
    pub(super) fn restart(&mut self, node: usize) {
        self.members[node] = Member::new(self.members[node].run + 1);
    }

    pub(super) fn send(&mut self, frame: Frame, rules: Rules) {
        let echo = self.members[frame.to].echo_of(frame, rules).unwrap_or(0);
        let echoed = |sent: &Sent| {
            let Frame { from, run, to, sequence, .. } = sent.frame;
            (from, run, to) == (frame.to, frame.to_run, frame.from) && sequence + 1 == echo
        };
        let after = self.sent.iter().any(echoed);
        self.sent.push(Sent { frame, taken: false, after });
    }

    /// A frame arrives at a node, once more perhaps. Whether it is taken over, or answered.
    ///
    /// # Errors
    /// The rule that this breaks.
    pub(super) fn deliver(&mut self, frame: Frame, at: usize, rules: Rules) -> Result<bool, String> {
        let old = self.members[at];
        let Ok(answer) = self.members[at].receive(at, frame, rules) else { return Ok(false) };
        answer.into_iter().for_each(|answer| self.send(answer, rules));
        if frame.what == What::Hello {
            return Ok(true);
        }
        let sent = self.sent.iter_mut().find(|sent| sent.frame == frame).expect("it was sent");
        let before = std::mem::replace(&mut sent.taken, true);
        let after = sent.after;
        match old.ends[frame.from].confirmed {
            _ if frame.to_run != old.run => Err(format!("{frame:?} is life to a run that it was not for")),
            _ if before => Err(format!("{frame:?} is life twice")),
            Some(known) if known.run > frame.run => Err(format!("{frame:?} brings back an earlier run")),
            _ if !after => Err(format!("{frame:?} is dated by what was sent after it")),
            _ => Ok(true),
        }
    }

    /// The nodes at which a frame can arrive.
    fn arrives_at(&self, frame: Frame) -> impl Iterator<Item = usize> {
        let hello = frame.what == What::Hello;
        (0..self.nodes).filter(move |at| *at == frame.to || hello && *at != frame.from)
    }

    /// Whether a frame may ever do something again. What is for a run that ended, of a run that was replaced, or of a number
    /// that was taken, is rejected for good.
    fn matters(&self, frame: Frame, rules: Rules) -> bool {
        let dead = rules.bound && frame.what != What::Hello && frame.to_run != self.members[frame.to].run;
        let open = |at: usize| {
            let end = &self.members[at].ends[frame.from];
            let taken = end.confirmed.filter(|c| c.run == frame.run).is_some_and(|c| match frame.what {
                What::Hello => frame.number < c.answered,
                _ => rules.window && c.seen >> frame.number & 1 == 1,
            });
            !taken && end.replaced >> frame.run & 1 == 0
        };
        !dead && self.arrives_at(frame).any(open)
    }

    pub(super) fn key(&self, rules: Rules) -> Key {
        let mut sent = self.sent.clone();
        sent.retain(|sent| self.matters(sent.frame, rules));
        sent.sort_unstable();
        (self.members, self.sent.len(), sent)
    }

    fn agree(&self, one: usize, other: usize) -> bool {
        let believes = |at: usize, peer: usize| self.members[at].ends[peer].confirmed.map(|c| c.run);
        believes(one, other) == Some(self.members[other].run)
            && believes(other, one) == Some(self.members[one].run)
    }

    /// Frame `frame` and all that answers it, without loss.
    fn exchange(&mut self, frame: Option<Frame>, rules: Rules) -> Result<(), String> {
        let mut at = self.sent.len();
        frame.into_iter().for_each(|frame| self.send(frame, rules));
        while at < self.sent.len() {
            let frame = self.sent[at].frame;
            self.deliver(frame, frame.to, rules)?;
            at += 1;
        }
        Ok(())
    }

    /// Two heartbeats of a pair without loss, `first` being the first to send.
    fn calm(&mut self, first: usize, second: usize, rules: Rules) -> Result<(), String> {
        for (node, peer) in [(first, second), (second, first), (first, second), (second, first)] {
            let ping = self.members[node].say(node, peer, What::Ping);
            self.exchange(ping, rules)?;
            // What was not answered is a miss, and is followed by hellos.
            let alone = self.members[node].ends[peer].confirmed.is_none();
            let hello = (alone || rules.hello_after_miss).then(|| self.members[node].hello(node, peer));
            self.exchange(hello, rules)?;
        }
        Ok(())
    }
}

/// Nodes that send so many frames and restart so often, all together.
struct Link {
    rules: Rules,
    nodes: usize,
    frames: usize,
    restarts: u8,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Hello(usize, usize),
    Ping(usize, usize),
    Deliver(Frame, usize),
    Restart(usize),
}

impl Link {
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let nodes = self.nodes;
        (0..nodes).flat_map(move |one| (0..nodes).map(move |other| (one, other))).filter(|(a, b)| a != b)
    }
}

impl Model for Link {
    type State = Group;
    type Action = Action;
    type Key = Key;

    fn initial(&self) -> Group {
        Group::new(self.nodes)
    }

    fn key(&self, state: &Group) -> Key {
        state.key(self.rules)
    }

    fn actions(&self, state: &Group) -> Vec<Action> {
        let said = self.pairs().flat_map(|(node, to)| [Action::Hello(node, to), Action::Ping(node, to)]);
        let restarts = (0..self.nodes).map(Action::Restart);
        let mut actions: Vec<Action> = said.chain(restarts).collect();
        for Sent { frame, .. } in &state.sent {
            actions.extend(state.arrives_at(*frame).map(|at| Action::Deliver(*frame, at)));
        }
        actions
    }

    fn next(&self, state: &Group, action: Action) -> Result<Option<Group>, String> {
        let mut next = state.clone();
        match action {
            Action::Hello(node, to) => {
                let hello = next.members[node].hello(node, to);
                next.send(hello, self.rules);
            }
            Action::Ping(node, to) => match next.members[node].say(node, to, What::Ping) {
                Some(ping) => next.send(ping, self.rules),
                None => return Ok(None),
            },
            Action::Deliver(frame, at) => {
                next.deliver(frame, at, self.rules)?;
            }
            Action::Restart(node) => next.restart(node),
        }
        let runs: usize = next.members.iter().map(|member| usize::from(member.run)).sum();
        let bounds = next.sent.len() <= self.frames && runs <= NODES + usize::from(self.restarts);
        Ok(bounds.then_some(next))
    }

    fn check(&self, state: &Group) -> Result<(), String> {
        for (first, second) in self.pairs() {
            let mut calm = state.clone();
            calm.calm(first, second, self.rules)?;
            if !calm.agree(first, second) {
                return Err(format!("the link is never confirmed again: {:?}", calm.members));
            }
        }
        Ok(())
    }
}

fn whole(nodes: usize, frames: usize, restarts: u8, least: usize) {
    let link = Link { rules: ALL, nodes, frames, restarts };
    let explored = explore(&link, usize::MAX).unwrap_or_else(|broken| panic!("{broken}"));
    println!("link, {nodes} nodes, {frames} frames, {restarts} restarts: {explored:?}");
    assert!(explored.states >= least, "{explored:?}");
}

#[test]
fn runs_are_confirmed_and_no_recording_is_life() {
    whole(2, 7, 2, 200_000);
}

#[test]
#[ignore = "a minute of states; CI runs it"]
fn runs_are_confirmed_and_no_recording_is_life_within_wider_bounds() {
    whole(2, 8, 3, 1_500_000);
}

#[test]
fn a_hello_for_another_is_no_life() {
    // Three nodes, and hellos that arrive elsewhere.
    whole(3, 5, 1, 10_000);
}

#[test]
#[ignore = "minutes of states; CI runs it"]
fn a_hello_for_another_is_no_life_within_wider_bounds() {
    whole(3, 6, 1, 300_000);
}

#[test]
fn without_its_rules_the_link_breaks() {
    let cases = [
        (2, Rules { bound: false, ..ALL }, "a run that it was not for"),
        (2, Rules { floor: false, ..ALL }, "brings back an earlier run"),
        (2, Rules { window: false, ..ALL }, "is life twice"),
        (2, Rules { hello_after_miss: false, ..ALL }, "never confirmed again"),
        (3, Rules { own_number: false, ..ALL }, "is dated by what was sent after it"),
        (3, Rules { entry: false, ..ALL }, "is dated by what was sent after it"),
    ];
    for (nodes, rules, breaks) in cases {
        let link = Link { rules, nodes, frames: 8, restarts: 2 };
        let broken = explore(&link, usize::MAX).expect_err("a rule is missing");
        println!("{broken}");
        assert!(broken.rule.contains(breaks), "{rules:?}: {broken}");
    }
}
