//! The simulator and the detector, each by the other.

mod failures;
mod theory;

use std::time::Duration;

use super::*;
use crate::proto::{Change, PeerStatus};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MS: Duration = Duration::from_millis(1);

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let mut world = World::new(Setup { drift: 100, ..Setup::new(5) }, seed);
        world.add_rule(Scope::All, Rule::Loss(0.1));
        world.run_for(20 * SECOND);
        world.crash(2, true);
        world.run_for(20 * SECOND);
        (world.digest(), world.steps())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_crash_is_seen() {
    let mut world = World::new(Setup::new(5), 1);
    assert!(world.run_until(3 * SECOND, World::is_whole).is_some());
    world.run_for(5 * SECOND);
    world.crash(2, false);
    let took = world.run_until(6 * SECOND, World::is_settled).unwrap();
    assert!(took > 4 * SECOND && took <= 5500 * MS, "{took:?}");
    assert_eq!(world.status(0, 2), Some(PeerStatus::Down));
    world.start(2);
    assert!(world.run_until(3 * SECOND, World::is_settled).is_some());
}

/// What the swarm finds for a seed; its scenario beside it, if a rule is broken.
fn swarm(seed: u64) -> Report {
    let scenario = swarm::scenario(seed);
    scenario.run(seed).unwrap_or_else(|broken| panic!("seed {seed}: {scenario:#?}\n{broken}"))
}

#[test]
fn the_swarm_breaks_no_rule() {
    for seed in 0..200 {
        swarm(seed);
    }
}

/// A cluster in its steady state.
fn whole(setup: Setup, seed: u64) -> World {
    let mut world = World::new(setup, seed);
    assert!(world.run_until(5 * SECOND, World::is_whole).is_some());
    world.run_for(5 * SECOND);
    world.take_records();
    world
}

/// Changes of status since the last look: (observer, subject, to).
fn changes(world: &mut World) -> Vec<(u32, u32, PeerStatus)> {
    let status = |record: world::Record| match record.event.change {
        Change::Status { to, .. } => Some((record.node, world::index(&record.event.peer?)?, to)),
        _ => None,
    };
    world.take_records().into_iter().filter_map(status).collect()
}

#[test]
fn without_relays_the_checker_finds_a_fault() {
    // What cannot fail proves nothing: without relays, or with relays that lie, rules are broken.
    let broken = (0..200).filter(|seed| {
        let scenario = swarm::scenario(*seed);
        scenario.run_with(*seed, |config| config.with_mechanisms(true, false)).is_err()
    });
    assert!(broken.count() >= 3);
}
