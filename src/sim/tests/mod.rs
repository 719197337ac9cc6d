//! The simulator and the detector, each by the other.

mod failures;
mod guard;
mod leaves;
mod mass_loss;
mod mtu;
mod paths;
mod regressions;
mod rings;
mod rosters;
mod services;
mod status;
mod step;
mod theory;

use std::time::Duration;

use super::*;
use crate::proto::config::Mechanisms;
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
    let down = |w: &World| (0..5).all(|at| at == 2 || w.status(at, 2) == Some(PeerStatus::Down));
    let took = world.run_until(6 * SECOND, down).unwrap();
    assert!(took > 4 * SECOND && took <= 5500 * MS, "{took:?}");
    assert!(world.run_until(3 * SECOND, World::is_settled).is_some(), "all know what all say");
    world.start(2);
    assert!(world.run_until(4 * SECOND, World::is_settled).is_some());
}

/// What the swarm finds for a seed; its scenario beside it, if a rule is broken.
fn swarm(seed: u64) -> Report {
    let scenario = swarm::scenario(seed);
    scenario.run(seed).unwrap_or_else(|broken| panic!("seed {seed}: {scenario:#?}\n{broken}"))
}

#[test]
fn the_swarm_breaks_no_rule() {
    let reports: Vec<Report> = (0..200).map(swarm).collect();
    // 200 clusters of two to ten nodes for a minute or so: independent loss alone makes nobody Down, but at ill nodes.
    let has_ill = |seed: &u64| {
        let is_heavy = |fault: &scenario::Fault| matches!(fault, scenario::Fault::Links { rule: scenario::Link::Loss { p }, .. } if *p > 0.5);
        swarm::scenario(*seed).faults.iter().any(|timed| is_heavy(&timed.fault))
    };
    let others = reports.iter().filter(|r| !has_ill(&r.seed));
    assert_eq!(others.map(|r| r.downs.false_under_loss).sum::<u64>(), 0);
    let (held, taken) = reports.iter().fold((0, 0), |sum, r| (sum.0 + r.guards.0, sum.1 + r.guards.1));
    assert!(
        held > 10_000 && taken > 1_000,
        "{held} looks at a guard, {taken} at a takeover: rules that nothing comes under"
    );
}

#[test]
fn every_scenario_holds() {
    let mut files = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let scenario = Scenario::parse(&std::fs::read_to_string(&path).unwrap());
        let scenario = scenario.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for seed in scenario.seeds() {
            let report = scenario.run(*seed);
            let report = report.unwrap_or_else(|e| panic!("{}, seed {seed}: {e}", path.display()));
            assert_eq!(report.downs.false_under_loss, 0, "{}, seed {seed}", path.display());
        }
        files += 1;
    }
    assert!(files >= 10);
}

#[test]
fn a_wrong_scenario_is_named() {
    for (text, named) in [
        ("nodes = 5\nduration = 1\nnods = 3", "nods"),
        ("nodes = 1\nduration = 1", "nodes is 1"),
        ("nodes = 5\nduration = 1\npeers = 3", "even"),
        ("nodes = 5\nduration = -1", "duration"),
        ("nodes = 5\nduration = 1\n[settings]\ndown_after = 1", "down_after"),
        ("nodes = 5\nduration = 1\n[settings]\nheartbeat_interval = 1e19", "heartbeat_interval"),
        ("nodes = 5\nduration = 1\n[[faults]]\nat = 0\nfault = { kind = \"crsh\", nodes = [1] }", "crsh"),
        ("nodes = 5\nduration = 1\n[[faults]]\nat = 0\nfault = { kind = \"crash\", nodes = [5] }", "n5"),
        (
            "nodes = 5\nduration = 1\n[[faults]]\nat = nan\nfault = { kind = \"crash\", nodes = [1] }",
            "at is NaN",
        ),
        ("nodes = 5\nduration = 1\nnever = [7]", "n7"),
        ("nodes = 5\nduration = 1\n[[faults]]\nat = 0\nfault = { kind = \"swap\", nodes = [1] }", "pairs"),
        (
            "nodes = 5\nduration = 1\n[[faults]]\nat = 0\nfault = { kind = \"rate\", nodes = [1], ppm = 9000000 }",
            "ppm",
        ),
        (
            "nodes = 5\nduration = 9\n[[faults]]\nat = 0\nevery = 1e-9\nfault = { kind = \"move\", nodes = [1] }",
            "every is",
        ),
    ] {
        let why = Scenario::parse(text).unwrap_err();
        assert!(why.contains(named), "{why:?} does not name {named:?}");
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
fn two_nodes_that_swap_their_addresses_use_no_number_twice() {
    // Frames are sealed to runs and not to addresses: to one address come the numbers of two pairs.
    let mut world = whole(Setup::new(4), 1);
    world.relocate(0, net::address(1));
    world.relocate(1, net::address(0));
    world.run_for(20 * SECOND);
    assert_eq!(world.net().reused, None);
    // What the check cannot find it does not prove: a node that numbers anew is found, wherever its peers are.
    world.tell(2, |core, _| core.skip_numbers(0));
    world.run_for(5 * SECOND);
    assert!(world.net().reused.is_some());
}

#[test]
fn without_relays_the_checker_finds_a_fault() {
    // What cannot fail proves nothing: without relays, or with relays that lie, rules are broken.
    let without =
        Mechanisms { retries: true, relays: false, records: true, waits: true, memory: true, clocks: true };
    let broken = (0..200).filter(|seed| {
        let scenario = swarm::scenario(*seed);
        scenario.run_with(*seed, |config| config.with_mechanisms(without)).is_err()
    });
    assert!(broken.count() >= 3);
}

#[test]
fn every_split_of_five_is_told_right() {
    let mut confusion = splits::Confusion::default();
    for (seed, split) in splits::Split::all(5).into_iter().enumerate() {
        split.run(seed as u64, &mut confusion);
    }
    assert_eq!(confusion.two_quorums, [""; 0]);
    assert!(confusion.right() >= 0.99, "{:.4}: {:#?}", confusion.right(), confusion.wrong);
}
