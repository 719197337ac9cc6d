//! Real cores beside the rules of `link`: whatever an adversary does, they send, take and believe what the rules say.

use std::cell::RefCell;
use std::rc::Rc;

use super::explore::{Model, explore};
use super::link::{ALL, Frame, Group, Key, Rules, What};
use super::*;

/// Two cores that restart so often, both together.
struct Cores {
    rules: Rules,
    restarts: u8,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    /// Time passes until somebody sends something by itself. All that is sent is lost, or delivered later.
    Turn,
    Deliver(Frame),
    Restart(usize),
}

/// How the cores came there, and what the rules say that they are.
#[derive(Clone)]
struct State {
    actions: Vec<Action>,
    pair: Group,
}

/// The cores, and the rules that follow them.
struct Run {
    cluster: Cluster,
    tape: Rc<RefCell<Vec<Packet>>>,
    runs: Runs,
    pair: Group,
    rules: Rules,
}

impl Run {
    fn new(rules: Rules) -> Run {
        let mut cluster = Cluster::new(2, 1);
        let tape = Rc::new(RefCell::new(Vec::new()));
        let record = tape.clone();
        cluster.rule = Box::new(move |packet, _| {
            record.borrow_mut().push(packet.clone());
            Fate::Lost
        });
        let runs = (0..2).map(|node| vec![cluster.node(node).instance()]).collect();
        Run { cluster, tape, runs, pair: Group::new(2), rules }
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        let before = self.pair.sent.len();
        match action {
            Action::Turn => {
                let tape = self.tape.clone();
                self.cluster.run_until(15 * SECOND, |_| tape.borrow().len() > before);
                return self.follow(before, &[What::Hello, What::Ping]);
            }
            Action::Restart(node) => {
                self.cluster.crash(node);
                self.cluster.start(node);
                self.runs[node].push(self.cluster.node(node).instance());
                self.pair.restart(node);
            }
            Action::Deliver(frame) => {
                let at = self.pair.sent.iter().position(|sent| sent.frame == frame).expect("it was sent");
                let Packet { from, to, bytes } = self.tape.borrow()[at].clone();
                let taken = self.cluster.inject(to, address(from), &bytes);
                let expected = self.pair.deliver(frame, to, self.rules)?;
                if taken.is_ok() != expected {
                    return Err(format!("{frame:?}: {taken:?} instead of {expected}"));
                }
            }
        }
        self.is_sent(before)?;
        // It may have asked for something beside.
        self.follow(self.pair.sent.len(), &[What::Other])?;
        self.is_believed()
    }

    /// From frame `first` on the cores sent by themselves what the rules allow: one of these to the run that is believed.
    fn follow(&mut self, first: usize, allowed: &[What]) -> Result<(), String> {
        let count = self.tape.borrow().len();
        for at in first..count {
            let frame = self.frame(at);
            let known = self.pair.members[frame.from];
            let may = allowed.iter().filter_map(|what| {
                let mut member = known;
                let said = match what {
                    What::Hello => Some(member.hello(frame.from, frame.to)),
                    what => member.say(frame.from, frame.to, *what),
                };
                said.filter(|said| *said == frame).map(|_| member)
            });
            let Some(member) = { may }.next() else { return Err(format!("{frame:?} sent by {known:?}")) };
            self.pair.members[frame.from] = member;
            self.pair.send(frame, self.rules);
        }
        Ok(())
    }

    fn frame(&self, at: usize) -> Frame {
        let packet = &self.tape.borrow()[at];
        let (header, to_run, message) = open(packet, &self.runs);
        let run = self.runs[packet.from].iter().position(|run| *run == header.instance);
        let (sequence, what) = match message {
            Message::Hello { sequence, .. } => (sequence, What::Hello),
            Message::Welcome { .. } => (header.number, What::Welcome),
            Message::Ping { .. } | Message::PingMore { .. } => (header.number, What::Ping),
            _ => (header.number, What::Other),
        };
        Frame {
            from: packet.from,
            run: run.expect("a run of that node") as u8 + 1,
            to: packet.to,
            to_run: to_run as u8,
            number: header.number as u8,
            sequence: sequence as u8,
            echo: message.echo().map_or(0, |(echo, _)| echo as u8),
            what,
        }
    }

    /// From frame `first` on the cores sent what the rules say.
    fn is_sent(&self, first: usize) -> Result<(), String> {
        for at in first..self.pair.sent.len() {
            let expected = self.pair.sent[at].frame;
            let sent = (at < self.tape.borrow().len()).then(|| self.frame(at));
            if sent != Some(expected) {
                return Err(format!("sent {sent:?} instead of {expected:?}"));
            }
        }
        Ok(())
    }

    /// Both believe the runs that the rules say.
    fn is_believed(&self) -> Result<(), String> {
        for (node, member) in self.pair.members[..2].iter().enumerate() {
            let peer = 1 - node;
            let believed = self.cluster.view(peer, node).instance;
            let expected =
                member.ends[peer].confirmed.map(|confirmed| self.runs[peer][usize::from(confirmed.run) - 1]);
            if believed != expected {
                return Err(format!("{node} believes {believed:?} instead of {expected:?}"));
            }
        }
        Ok(())
    }
}

impl Model for Cores {
    type State = State;
    type Action = Action;
    type Key = Key;

    fn initial(&self) -> State {
        State { actions: Vec::new(), pair: Group::new(2) }
    }

    fn key(&self, state: &State) -> Key {
        state.pair.key(ALL)
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let deliver = state.pair.sent.iter().map(|sent| Action::Deliver(sent.frame));
        [Action::Turn, Action::Restart(0), Action::Restart(1)].into_iter().chain(deliver).collect()
    }

    fn next(&self, state: &State, action: Action) -> Result<Option<State>, String> {
        let runs: u8 = state.pair.members[..2].iter().map(|member| member.run).sum();
        if matches!(action, Action::Restart(_)) && runs == 2 + self.restarts {
            return Ok(None);
        }
        let mut run = Run::new(self.rules);
        let mut actions = state.actions.clone();
        actions.push(action);
        actions.iter().try_for_each(|action| run.act(*action))?;
        Ok(Some(State { actions, pair: run.pair }))
    }

    fn check(&self, _: &State) -> Result<(), String> {
        Ok(())
    }
}

fn hold(depth: usize, least: usize) {
    let explored =
        explore(&Cores { rules: ALL, restarts: 2 }, depth).unwrap_or_else(|broken| panic!("{broken}"));
    println!("cores beside the rules, {depth} actions: {explored:?}");
    assert!(explored.states >= least, "{explored:?}");
}

#[test]
fn cores_follow_the_rules() {
    hold(7, 5_000);
}

#[test]
#[ignore = "a minute of states; CI runs it"]
fn cores_follow_the_rules_for_longer() {
    hold(9, 50_000);
}

#[test]
fn cores_do_not_follow_other_rules() {
    let missing = [
        Rules { bound: false, ..ALL },
        Rules { floor: false, ..ALL },
        Rules { window: false, ..ALL },
        Rules { own_number: false, ..ALL },
    ];
    for rules in missing {
        let broken = explore(&Cores { rules, restarts: 2 }, 8).expect_err("a rule is missing");
        println!("{broken}");
    }
}
