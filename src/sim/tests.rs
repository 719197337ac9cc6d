//! The simulator and the detector, each by the other.

use std::time::Duration;

use super::*;
use crate::proto::PeerStatus;

const SECOND: Duration = Duration::from_secs(1);

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
    assert!(took > 4 * SECOND && took <= 5500 * Duration::from_millis(1), "{took:?}");
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

#[test]
#[ignore = "prints a scenario"]
fn show() {
    let seed = std::env::var("SEED").unwrap().parse().unwrap();
    println!("{:?}", swarm::scenario(seed));
}
