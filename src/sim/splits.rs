//! Every split of a few nodes: what each says of each other one, beside what it should say.
//!
//! A complete split cuts all links between two sides, a partial one leaves bridges that both sides still talk with, and a
//! one-way one cuts one direction only. What a node should say follows from who can reach whom alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::link::{Rule, Scope};
use super::world::{Setup, World, index, name};
use crate::proto::Verdict;

const SECOND: Duration = Duration::from_secs(1);

/// How a few nodes are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing passes between two sides.
    Complete,
    /// Nor here, but other nodes talk with both.
    Partial,
    /// What one side sends does not reach the other.
    OneWay,
}

/// A split: two sides, as sets of bits; what is in neither is a bridge.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// How.
    pub kind: Kind,
    nodes: u32,
    one: u32,
    other: u32,
}

/// What came of all splits of one size.
#[derive(Clone, Debug, Default)]
pub struct Confusion {
    /// For each kind: what should be said, what is said, and of how many ordered pairs.
    pub pairs: BTreeMap<(Kind, &'static str, &'static str), u32>,
    /// The pairs that are wrong, in words.
    pub wrong: Vec<String>,
    /// Splits in which two sides had a quorum later than 3 s after the cut, in words.
    pub two_quorums: Vec<String>,
    /// How many splits there were.
    pub splits: u32,
}

impl Confusion {
    /// The share of pairs that are right, 0 to 1.
    pub fn right(&self) -> f64 {
        let all: u32 = self.pairs.values().sum();
        1.0 - self.wrong.len() as f64 / f64::from(all)
    }
}

impl Split {
    /// All splits of so many nodes; of the symmetric kinds each once.
    pub fn all(nodes: u32) -> Vec<Split> {
        let (everybody, mut all) = ((1 << nodes) - 1, Vec::new());
        for one in 1..everybody {
            for other in 1..everybody {
                let (disjoint, whole) = (one & other == 0, one | other == everybody);
                let kind = if whole { Kind::Complete } else { Kind::Partial };
                if disjoint && one < other {
                    all.push(Split { kind, nodes, one, other });
                }
                if disjoint && whole {
                    all.push(Split { kind: Kind::OneWay, nodes, one, other });
                }
            }
        }
        all
    }

    /// Whether a datagram gets from one node to the other.
    fn passes(&self, from: u32, to: u32) -> bool {
        let has = |set: u32, node: u32| set >> node & 1 == 1;
        let cut = has(self.one, from) && has(self.other, to);
        let back = self.kind != Kind::OneWay && has(self.other, from) && has(self.one, to);
        !cut && !back
    }

    fn both(&self, a: u32, b: u32) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    fn others(&self, node: u32) -> impl Iterator<Item = u32> + Clone {
        (0..self.nodes).filter(move |other| *other != node)
    }

    /// Whether most of a node's links are cut, and those that it hears hear whom it misses; or it hears nobody.
    fn is_isolated(&self, node: u32) -> bool {
        // Whose rows reach it, whether they come by one hop or by several.
        let mut heard: Vec<u32> = self.others(node).filter(|other| self.passes(*other, node)).collect();
        for _ in 0..self.nodes {
            let further = self.others(node).filter(|far| heard.iter().any(|near| self.passes(*far, *near)));
            heard.extend(further.collect::<Vec<_>>());
            heard.sort_unstable();
            heard.dedup();
        }
        let missed: Vec<u32> = self.others(node).filter(|other| !self.both(node, *other)).collect();
        let contradicted = missed.iter().filter(|subject| {
            let voters = heard.iter().copied().chain([node]).filter(|voter| voter != *subject);
            let hear = voters.clone().filter(|voter| self.passes(**subject, *voter)).count();
            hear * 2 > voters.count()
        });
        heard.is_empty()
            || missed.len() as u32 * 2 > self.nodes - 1 && contradicted.count() * 2 > missed.len()
    }

    /// What `node` should say of `other` once it has noticed.
    fn verdict(&self, node: u32, other: u32) -> Verdict {
        // The relay must talk with both, and each of them with it.
        let relayed = || self.others(node).any(|relay| self.both(node, relay) && self.both(relay, other));
        let tells = || self.others(node).any(|near| self.passes(other, near) && self.passes(near, node));
        match () {
            () if self.both(node, other) => Verdict::Up,
            () if self.is_isolated(node) => Verdict::Isolated,
            () if self.passes(other, node) => Verdict::OneWay,
            () if !relayed() => Verdict::Down,
            () if self.passes(node, other) && tells() => Verdict::OneWay,
            () => Verdict::LinkDown,
        }
    }

    /// Whether two nodes are on one side: joined by links that work both ways.
    fn is_one_side(&self, a: u32, b: u32) -> bool {
        let mut side = 1u32 << a;
        for _ in 0..self.nodes {
            for node in 0..self.nodes {
                let joined = (0..self.nodes).any(|near| side >> near & 1 == 1 && self.both(near, node));
                side |= u32::from(joined) << node;
            }
        }
        side >> b & 1 == 1
    }

    fn name(&self) -> String {
        let set = |set: u32| (0..self.nodes).filter(|n| set >> n & 1 == 1).map(name).collect::<Vec<_>>();
        let (one, other) = (set(self.one).join(" "), set(self.other).join(" "));
        match self.kind {
            Kind::OneWay => format!("{one} -> {other}"),
            _ => format!("{one} | {other}"),
        }
    }

    /// Runs it, and adds to `confusion` what came of it.
    pub fn run(&self, seed: u64, confusion: &mut Confusion) {
        let mut world = World::new(Setup { cheap_seal: true, ..Setup::new(self.nodes as usize) }, seed);
        world.run_for(10 * SECOND);
        let set = |set: u32| (0..self.nodes).filter(|n| set >> n & 1 == 1).collect::<Vec<_>>();
        world.add_rule(Scope::Between(set(self.one), set(self.other)), Rule::Cut);
        if self.kind != Kind::OneWay {
            world.add_rule(Scope::Between(set(self.other), set(self.one)), Rule::Cut);
        }
        world.run_for(3 * SECOND);
        let mut two = false;
        for _ in 0..90 {
            world.run_for(SECOND / 10);
            let has = |n: &u32| {
                let snapshot = world.node(*n).map(|core| core.snapshot(world.now()));
                snapshot.is_some_and(|s| s.status.is_quorum_available())
            };
            let with: Vec<u32> = (0..self.nodes).filter(has).collect();
            two |= with.iter().any(|a| !self.is_one_side(*a, with[0]));
        }
        confusion.splits += 1;
        if two {
            confusion.two_quorums.push(self.name());
        }
        for node in 0..self.nodes {
            let Some(core) = world.node(node) else { continue };
            for peer in core.snapshot(world.now()).peers {
                let Some(other) = index(&peer.server_id) else { continue };
                let should = self.verdict(node, other);
                *confusion.pairs.entry((self.kind, should.as_str(), peer.verdict.as_str())).or_default() += 1;
                if should != peer.verdict {
                    confusion.wrong.push(format!(
                        "{:?} {}: n{node} says {} of n{other}, not {should}: {}",
                        self.kind,
                        self.name(),
                        peer.verdict,
                        peer.why
                    ));
                }
            }
        }
    }
}
