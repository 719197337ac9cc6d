//! The run of a scenario: faults on, safety checked after every step; faults off, and all must settle.

use std::time::Duration;

use super::{Between, Fault, Link, Scenario, secs};
use crate::proto::{LeaveReason, PeerConfig};
use crate::sim::check::{Broken, Checker, Downs, Wrongs};
use crate::sim::link::{Rule, Scope};
use crate::sim::net::address;
use crate::sim::plan::Plan;
use crate::sim::rng::Rng;
use crate::sim::world::World;

/// Heartbeats over which loss is counted, and a few more.
const WINDOW: u32 = 64 + 6;
/// Within so many intervals every path is found to be narrow, and loses no more long datagrams, which are counted as lost
/// before: 208 until the first padded ping, and twice the 16 of a search without other losses.
const SEARCH: u32 = 208 + 2 * 16;

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The heartbeat interval.
    pub interval: Duration,
    /// How long it was, warm-up and settling included.
    pub length: Duration,
    /// Steps of the simulation.
    pub steps: u64,
    /// How long it took after the last fault until all statuses and links were right.
    pub settled: Duration,
    /// And until all knew the same.
    pub equal: Duration,
    /// Downs, by whether they were right.
    pub downs: Downs,
    /// How often well nodes held well nodes for Suspected or Down.
    pub wrongs: Wrongs,
    /// At how many looks somebody held the quorum guard, and was told that it may take over from somebody.
    pub guards: (u64, u64),
    /// Datagrams and bytes of UDP payload that a node sent in a second, the mean.
    pub sent: (f64, f64),
    /// A hash over all that was sent.
    pub digest: u64,
}

impl Scenario {
    /// Runs it.
    ///
    /// # Errors
    /// The first rule that did not hold.
    pub fn run(&self, seed: u64) -> Result<Report, Box<Broken>> {
        self.run_with(seed, |config| config)
    }

    /// Runs it with other settings than it says.
    pub(crate) fn run_with(
        &self,
        seed: u64,
        change: impl FnOnce(PeerConfig) -> PeerConfig,
    ) -> Result<Report, Box<Broken>> {
        let mut setup = self.setup();
        setup.config = change(setup.config);
        let mut world = World::new(setup, seed);
        let mut stage = Stage { checker: Checker::new(&world), rng: Rng::new(seed ^ 0x5CE7A210), places: 0 };
        stage.checker.count_as_ill(self.ill_nodes());
        self.never.iter().for_each(|node| world.never_start(*node));
        let beginning = world.now();
        for (at, act) in self.timeline() {
            stage.checker.run(&mut world, beginning + at)?;
            stage.act(&mut world, act)?;
        }
        stage.checker.run(&mut world, beginning + secs(self.warm_up + self.duration))?;
        stage.checker.note(&world, "all faults are over");
        let config = self.config();
        // In rings a node that never ran is Suspected once its observers could have heard it, and Down after that.
        let unheard = if self.never.is_empty() || self.observers.is_none() { 0 } else { config.down_after };
        let intervals = config.down_after + unheard + 5;
        let limit =
            self.settle_within.map_or(config.max_backoff + config.heartbeat_interval * intervals, secs);
        let settled = stage.checker.settle(&mut world, limit, World::is_right)?;
        // Links are lossy until their window has passed, each in its own time; a small MTU is found before that.
        let narrow = self.links.iter().any(|link| matches!(link, Link::Mtu { .. }));
        let search = if narrow { SEARCH } else { 0 };
        let limit = limit + config.heartbeat_interval * (WINDOW + search);
        let equal = settled + stage.checker.settle(&mut world, limit, World::is_settled)?;
        let after = world.now() + config.heartbeat_interval * 3;
        stage.checker.run(&mut world, after)?;
        let most = self.most_false_downs(world.elapsed());
        if stage.checker.downs.false_under_loss > most {
            let what = format!(
                "{} false Downs under loss alone, at most {most} are due",
                stage.checker.downs.false_under_loss
            );
            return Err(Box::new(stage.checker.broken(&world, what)));
        }
        let total = |f: fn((u64, u64)) -> u64| {
            (0..world.len() as u32).map(|n| f(world.host(n).sent())).sum::<u64>() as f64
        };
        let each = world.elapsed().as_secs_f64() * world.len() as f64;
        Ok(Report {
            seed,
            interval: config.heartbeat_interval,
            length: world.elapsed(),
            steps: world.steps(),
            settled,
            equal,
            downs: stage.checker.downs,
            wrongs: stage.checker.wrongs,
            guards: stage.checker.guards(),
            sent: (total(|s| s.0) / each, total(|s| s.1) / each),
            digest: world.digest(),
        })
    }

    /// The nodes that a fault names, that never start or that are listed as ill, without those that are listed as sane.
    fn ill_nodes(&self) -> impl Iterator<Item = u32> {
        let named = self.faults.iter().flat_map(|timed| timed.fault.nodes());
        named.chain(&self.never).chain(&self.ill).copied().filter(|node| !self.sane.contains(node))
    }

    /// False Downs that independent loss alone may make in 999 of 1000 runs of this length.
    fn most_false_downs(&self, length: Duration) -> u64 {
        let config = self.config();
        let faults = self.faults.iter().filter_map(|timed| match &timed.fault {
            Fault::Links { rule, .. } => Some(rule),
            _ => None,
        });
        let (mut passes, mut path) = (1.0, Duration::ZERO);
        for link in self.links.iter().chain(faults) {
            match link.rule() {
                Rule::Loss(p) => passes *= 1.0 - p,
                Rule::Delay { base, jitter } => path = path.saturating_add(base + jitter),
                Rule::Tail { .. } | Rule::Rate { .. } => path = Duration::MAX / 4,
                _ => {}
            }
        }
        let (interval, timeout, down_after) =
            (config.heartbeat_interval, config.heartbeat_timeout, config.down_after);
        let (nodes, observers, loss) = (self.nodes, config.observers, 1.0 - passes);
        let plan = Plan { nodes, observers, loss, interval, timeout, down_after };
        plan.most_false_downs(path.saturating_mul(2), length)
    }

    /// All acts in order, with the time of each since the world began. All faults end with the scenario's duration.
    fn timeline(&self) -> Vec<(Duration, Act<'_>)> {
        let since = |at: f64| secs(self.warm_up + at);
        let mut all = vec![(since(0.0), Act::Warm)];
        all.extend(self.guarded_at.iter().map(|at| (since(*at), Act::Guarded)));
        for timed in &self.faults {
            let mut at = timed.at;
            loop {
                let end = timed.length.map_or(self.duration, |length| (at + length).min(self.duration));
                if at >= self.duration {
                    break;
                }
                all.push((since(at), Act::Begin(&timed.fault)));
                all.push((since(end), Act::End(&timed.fault)));
                match timed.every {
                    Some(every) if every > 0.0 => at += every,
                    _ => break,
                }
            }
        }
        // What ends goes before what begins at the same moment.
        all.sort_by_key(|(at, act)| (*at, matches!(act, Act::Begin(_))));
        all
    }
}

/// What happens in a run at one moment.
enum Act<'a> {
    Begin(&'a Fault),
    End(&'a Fault),
    /// The warm-up is over.
    Warm,
    /// Some node holds the quorum guard.
    Guarded,
}

/// A run on its way.
struct Stage {
    checker: Checker,
    rng: Rng,
    /// Addresses given out to nodes that moved.
    places: u16,
}

impl Stage {
    fn act(&mut self, world: &mut World, act: Act<'_>) -> Result<(), Box<Broken>> {
        match act {
            Act::Begin(fault) => self.apply(world, true, fault),
            Act::End(fault) => self.apply(world, false, fault),
            Act::Warm => {
                self.checker.note(world, "warm");
                Ok(())
            }
            Act::Guarded if (0..world.len() as u32).any(|node| world.holds_guard(node)) => Ok(()),
            Act::Guarded => {
                let standing = (0..world.len() as u32)
                    .filter_map(|node| world.node(node))
                    .map(crate::proto::Node::describe_guard);
                let standing: Vec<String> = standing.collect();
                let mut broken = self.checker.broken(world, "nobody holds the guard".to_owned());
                broken.evidence.push_str(&standing.join("\n"));
                Err(Box::new(broken))
            }
        }
    }

    fn apply(&mut self, world: &mut World, begins: bool, fault: &Fault) -> Result<(), Box<Broken>> {
        if let Fault::Links { between, rule } = fault {
            let scope = between.as_ref().map_or(Scope::All, Between::scope);
            if begins {
                world.add_rule(scope, rule.rule());
            } else {
                world.remove_rule(&scope, &rule.rule());
            }
        }
        if let Fault::Roster { without, .. } = fault {
            without.iter().for_each(|node| world.part(*node, begins));
        }
        for &node in fault.nodes() {
            self.ail(world, begins, fault, node)?;
        }
        self.checker.note(world, &format!("{} {fault:?}", if begins { "begins:" } else { "ends:" }));
        Ok(())
    }

    fn ail(&mut self, world: &mut World, begins: bool, fault: &Fault, node: u32) -> Result<(), Box<Broken>> {
        let runs = world.node(node).is_some();
        match fault {
            Fault::Crash { refuses, .. } if begins && runs => world.crash(node, *refuses),
            Fault::Crash { .. } if begins && world.elapsed().is_zero() => world.put_off_start(node, true),
            Fault::Leave { for_good, .. } if begins && runs => {
                world.leave(node, if *for_good { LeaveReason::Removal } else { LeaveReason::Restart });
            }
            Fault::Crash { .. } | Fault::Leave { .. } if !begins => {
                let left = world.node(node).is_none_or(crate::proto::Node::is_leaving);
                if left {
                    world.put_off_start(node, false);
                    world.start(node);
                }
            }
            Fault::Freeze { .. } => world.freeze(node, begins),
            Fault::Block { .. } => world.block(node, begins),
            Fault::Deaf { .. } => world.deafen(node, begins),
            Fault::Mute { .. } => world.mute(node, begins),
            Fault::Slow { by, .. } => world.slow(node, if begins { secs(*by) } else { Duration::ZERO }),
            Fault::Vm { loses, .. } => world.stop_machine(node, begins, *loses),
            Fault::Rate { ppm, .. } => world.set_clock_rate(node, if begins { *ppm } else { 0 }),
            Fault::TwoAddresses { .. } => world.add_address(node, begins),
            Fault::Firewall { .. } => world.reject_at_host(node, begins),
            Fault::Swap { nodes } => {
                let at = nodes.iter().position(|n| *n == node).expect("it is one of them");
                let other = address(nodes[at ^ 1]);
                if begins {
                    world.relocate(node, other);
                } else {
                    world.move_back(node, |to| *to == other);
                }
            }
            Fault::Move { .. } if begins => {
                self.places += 1;
                let mut elsewhere = address(node);
                elsewhere.set_port(10_000 + self.places % 50_000);
                world.relocate(node, elsewhere);
            }
            Fault::Move { .. } => world.move_back(node, |to| to.ip() == address(node).ip()),
            Fault::Roster { without, .. } => {
                let absent: Vec<u32> = without.iter().copied().filter(|n| begins && *n != node).collect();
                world.leave_out(node, &absent);
                world.part(node, begins);
            }
            // Who did not run takes no turn: it must not stand still long after.
            Fault::Pause { by, .. } => world.pause_in_turn(node, begins.then(|| secs(*by))),
            Fault::Hostile { rate, .. } if begins => return self.attack(world, node, *rate),
            _ => {}
        }
        Ok(())
    }

    /// A second's worth of datagrams without the key.
    fn attack(&mut self, world: &mut World, node: u32, rate: f64) -> Result<(), Box<Broken>> {
        if world.host(node).is_shut() {
            return Ok(());
        }
        for _ in 0..rate as usize {
            let from = address(self.rng.below(world.len()) as u32);
            let tape = world.net().tape();
            let mut bytes =
                if tape.is_empty() { Vec::new() } else { tape[self.rng.below(tape.len())].clone() };
            let kind = self.rng.below(3);
            match kind {
                0 => bytes = (0..self.rng.below(200)).map(|_| self.rng.next_u64() as u8).collect(),
                1 if !bytes.is_empty() => {
                    let at = self.rng.below(bytes.len());
                    bytes[at] ^= 1 << self.rng.below(8);
                }
                _ => {}
            }
            let answer = world.inject(node, from, &bytes);
            // A replayed one may be genuine: the first to come. One that leaves looks at nothing any more.
            let looks = world.node(node).is_some_and(|core| !core.is_leaving());
            if answer.is_ok() && looks && kind < 2 {
                let what = format!("n{node} took a datagram without the key: {bytes:?}");
                return Err(Box::new(self.checker.broken(world, what)));
            }
        }
        Ok(())
    }
}
