//! Invariant 8: who may act. Later than G after the last change of the two-way graph at most one side holds the quorum guard, and
//! nobody is told that a peer's work may be taken over while that peer holds it. At any time two holders count a common run, or have
//! one roster and a common member that started less than G ago. A holder whose machine stood still counts again G after that: it
//! may not have had a datagram yet that says so.

use std::sync::Arc;
use std::time::Duration;

use super::{Broken, Checker};
use crate::proto::{Instance, Time};
use crate::sim::rng::Rng;
use crate::sim::world::{World, index, name};

/// Guards are looked at in worlds of at most so many nodes.
const MOST: usize = 64;
/// Guards are looked at so many times an interval.
const LOOKS: u32 = 16;

/// What is known of the graph.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// For each node a bit for each with which it is joined, directly or by others.
    sides: Vec<u64>,
    changed: Time,
    asked: Time,
    /// Each part of an interval has one look, at a random moment of it: looks in step with a fault would not see what it does. The
    /// beginning of the next part, and the moment.
    part: Time,
    next: Time,
    rng: Option<Rng>,
    /// Looks at which somebody held the guard, and looks at which somebody was told that it may take something over.
    pub(super) held: u64,
    pub(super) taken: u64,
}

impl Guards {
    /// Plans the next look, in the part of the interval that follows.
    fn plan(&mut self, now: Time, part: Duration) {
        self.part = if self.part + part < now { now } else { self.part + part };
        let rng = self.rng.get_or_insert_with(|| Rng::new(0x6A4D));
        self.next = self.part + part.mul_f64(rng.share());
    }

    /// Which nodes are joined now.
    fn note(&mut self, world: &World) {
        let edges: Vec<u64> = (0..world.len() as u32).map(|node| edges(world, node)).collect();
        let mut sides = edges.clone();
        loop {
            let further = |side: &u64| {
                let inside = (0..sides.len()).filter(|node| side >> node & 1 == 1);
                inside.fold(*side, |side, node| side | sides[node])
            };
            let next: Vec<u64> = sides.iter().map(further).collect();
            if next == sides {
                break;
            }
            sides = next;
        }
        if sides != self.sides {
            (self.sides, self.changed) = (sides, world.now());
        }
    }
}

/// With whom a node can exchange datagrams both ways, itself among them.
fn edges(world: &World, node: u32) -> u64 {
    let there = |node: u32| {
        let host = world.host(node);
        world.node(node).is_some() && host.is_awake() && !host.is_shut() && !host.is_mute()
    };
    let passes = |from, to| world.net().cut_since(from, to).is_none();
    let joined = |other: &u32| *other == node || passes(node, *other) && passes(*other, node);
    let others = (0..world.len() as u32).filter(|other| there(node) && there(*other)).filter(joined);
    others.fold(1 << node, |edges, other| edges | 1 << other)
}

/// Two holders of the guard that count no common run. What `is_new` says started so lately that one of them may still count its
/// run before: where they have one roster, that will do.
fn apart(world: &World, holders: &[u32], is_new: impl Fn(&str) -> bool) -> Option<String> {
    let counted = |node: &u32| {
        let core = world.node(*node)?;
        let shown = world.host(*node).clock().show(world.now());
        Some((*node, core.roster_hash(), core.counted_runs(shown)))
    };
    let counted: Vec<_> = holders.iter().filter_map(counted).collect();
    let is_one = |alike: bool, one: &(Arc<str>, Instance), other: &(Arc<str>, Instance)| {
        one.0 == other.0 && (one.1 == other.1 || alike && is_new(&one.0))
    };
    for (n, (node, roster, runs)) in counted.iter().enumerate() {
        for (other, others_roster, others) in &counted[n + 1..] {
            let alike = roster == others_roster;
            if !runs.iter().any(|run| others.iter().any(|other| is_one(alike, run, other))) {
                return Some(format!(
                    "n{node} and n{other} hold the guard, and count nobody in common: {runs:?}, {others:?}"
                ));
            }
        }
    }
    None
}

impl Checker {
    /// When the guards are looked at next, if that is before `end`.
    pub(super) fn next_look(&self, world: &World, end: Time) -> Time {
        if world.len() > MOST { end } else { end.min(self.guards.next.max(world.now())) }
    }

    /// See the module.
    pub(super) fn guarded(&mut self, world: &mut World) -> Result<(), Box<Broken>> {
        let (now, interval) = (world.now(), world.setup().config.heartbeat_interval);
        if world.len() > MOST || now < self.guards.next {
            return Ok(());
        }
        self.guards.plan(now, interval / LOOKS);
        self.guards.note(world);
        let nodes = 0..world.len() as u32;
        let is_known =
            |node: &u32| now.since(world.host(*node).went_on()) > world.setup().config.proof_horizon();
        let holds = |node: &u32| world.holds_guard(*node) && is_known(node);
        let holders: Vec<u32> = nodes.clone().filter(holds).collect();
        self.guards.held += u64::from(!holders.is_empty());
        let notice = world.setup().config.proof_horizon() + drift(interval);
        if now.since(self.guards.changed) > notice
            && let Some(other) =
                holders.iter().find(|n| self.guards.sides[holders[0] as usize] >> **n & 1 == 0)
        {
            let what = format!(
                "n{} and n{other} hold the guard, on two sides, {:?} after the last change",
                holders[0],
                now.since(self.guards.changed)
            );
            return self.fail(world, what);
        }
        let is_new =
            |name: &str| index(name).is_some_and(|node| now.since(self.changed_run[node as usize]) <= notice);
        if let Some(what) = apart(world, &holders, is_new) {
            return self.fail(world, what);
        }
        for taker in nodes.clone().filter(|node| holders.contains(node)) {
            for lost in nodes.clone().filter(|lost| world.may_take_over(taker, *lost)) {
                self.guards.taken += 1;
                if holders.contains(&lost) {
                    return self
                        .fail(world, format!("n{taker} may take over from n{lost}, which holds the guard"));
                }
            }
        }
        if now.since(self.guards.asked) >= interval {
            self.guards.asked = now;
            for node in nodes.clone() {
                let missed = nodes.clone().filter(|other| world.misses(node, *other));
                missed.collect::<Vec<_>>().into_iter().for_each(|other| world.watch_takeover(node, other));
            }
        }
        Ok(())
    }
}

/// What clocks may differ by in the time that a proof lasts: none is off by more than 200 ppm here.
fn drift(interval: Duration) -> Duration {
    interval / 100
}

impl World {
    /// Whether a node holds the quorum guard, by its own clock, whether its loop turns or not.
    pub fn holds_guard(&self, node: u32) -> bool {
        // Nothing on a virtual machine that stands still can act.
        if self.host(node).is_stopped() {
            return false;
        }
        let shown = self.host(node).clock().show(self.now());
        self.node(node).is_some_and(|core| {
            let (from, until) = core.guard_window();
            from <= shown && shown < until || core.quorum_guard(shown).is_some()
        })
    }

    /// Whether a node is told that it may take over what another one did.
    pub fn may_take_over(&self, node: u32, from: u32) -> bool {
        let shown = self.host(node).clock().show(self.now());
        self.node(node).is_some_and(|core| core.takeover_safe(&name(from), shown).is_some())
    }

    /// Whether a node that runs does not call another one Healthy.
    fn misses(&self, node: u32, other: u32) -> bool {
        let healthy = crate::proto::PeerStatus::Healthy;
        self.host(node).is_awake() && self.status(node, other).is_some_and(|status| status != healthy)
    }
}
