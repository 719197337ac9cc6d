//! Paths that pass small datagrams and lose long ones.

use super::failures::{both, verdict};
use super::services::{publish, service};
use super::*;
use crate::proto::{PeerView, Verdict};

const LIMIT: Rule = Rule::Mtu(1000);

fn limit(world: &mut World, a: u32, b: u32) {
    both(a, b).into_iter().for_each(|scope| world.add_rule(scope, LIMIT));
}

fn views(world: &World) -> Vec<(u32, PeerView)> {
    let of = |at: u32| {
        let snapshot = world.node(at)?.snapshot(world.host(at).clock().show(world.now()));
        Some(snapshot.peers.into_iter().map(move |peer| (at, peer)))
    };
    (0..world.len() as u32).filter_map(of).flatten().collect()
}

/// How many views of a peer have this condition.
fn count(world: &World, condition: Verdict) -> usize {
    views(world).iter().filter(|(_, peer)| peer.conditions.contains(&condition)).count()
}

/// Runs a second at a time for so many, and looks at each whether all links but that of 0 and 1 are `up`, and nobody is
/// lossy; the second in which both ends of that link were first `mtu`, and the last in which they were.
fn watch(world: &mut World, seconds: u32) -> Option<(u32, u32)> {
    let mut seen = None;
    for second in 0..seconds {
        world.run_for(SECOND);
        let (at_0, at_1) = (verdict(world, 0, 1), verdict(world, 1, 0));
        for (at, peer) in views(world) {
            let limited = at < 2 && peer.server_id.as_ref() == world::name(1 - at);
            assert!(limited || peer.verdict == Verdict::Up, "n{at}: {peer:?}");
            assert!(!peer.conditions.contains(&Verdict::Lossy), "n{at}: {peer:?}");
        }
        if (at_0, at_1) == (Verdict::Mtu, Verdict::Mtu) {
            seen = Some((seen.map_or(second, |(first, _)| first), second));
        }
    }
    seen
}

#[test]
fn a_small_mtu_is_told_from_loss() {
    for seed in 0..4 {
        let mut world = whole(Setup::new(4), seed);
        limit(&mut world, 0, 1);
        let (first, last) = watch(&mut world, 600).expect("both ends call it mtu");
        // At the latest the 208th is padded, and seven more, every second; judged by the next.
        assert!((8..=226).contains(&first), "seed {seed}: {first}");
        assert_eq!(last, 599, "seed {seed}: and go on to");
        let why: Vec<String> = views(&world)
            .into_iter()
            .filter(|(_, peer)| peer.verdict == Verdict::Mtu)
            .map(|(_, peer)| peer.why)
            .collect();
        let told = |text: &str| why.iter().filter(|why| why.starts_with(text)).count();
        assert_eq!((told("pings of 1200 bytes do not pass"), told("it says that")), (1, 1), "{why:?}");
        both(0, 1).iter().for_each(|scope| world.remove_rule(scope, &LIMIT));
        let last = watch(&mut world, 300).map_or(0, |(_, last)| last);
        assert!(last < 18, "seed {seed}: one in 16 is tried: {last}");
        assert_eq!(changes(&mut world), [], "seed {seed}: nobody is suspected");
        let missed: u64 = (0..4).map(|n| world.node(n).unwrap().stats().heartbeats_missed).sum();
        assert_eq!(missed, 0, "seed {seed}");
    }
}

#[test]
fn a_small_mtu_is_found_soon_where_long_datagrams_are_sent() {
    // Either end has something long to tell every other second, and the path is narrow in either direction, or both.
    let mut longest = 0;
    for (publisher, ways) in [0, 1].into_iter().flat_map(|n| [(n, 0..1), (n, 1..2), (n, 0..2)]) {
        for seed in 0..8 {
            let mut world = whole(Setup::new(4), seed);
            world.run_for(20 * SECOND + MS * 130 * seed as u32);
            both(0, 1)[ways.clone()].iter().for_each(|scope| world.add_rule(scope.clone(), LIMIT));
            let mut took = 0;
            while (verdict(&world, 0, 1), verdict(&world, 1, 0)) != (Verdict::Mtu, Verdict::Mtu) {
                if took % 2 == 0 {
                    publish(&mut world, publisher, service("web", took, 900));
                }
                world.run_for(SECOND);
                took += 1;
                assert!(took <= 30, "seed {seed}: n{publisher} publishes, narrow are {ways:?}");
            }
            longest = longest.max(took);
            assert_eq!(changes(&mut world), [], "seed {seed}: nobody is suspected");
        }
    }
    println!("after {longest} s at most");
}

#[test]
fn while_it_lasts_it_costs_little() {
    let mut world = whole(Setup::new(8), 1);
    limit(&mut world, 0, 1);
    world.run_for(300 * SECOND);
    assert_eq!((verdict(&world, 0, 1), verdict(&world, 1, 0)), (Verdict::Mtu, Verdict::Mtu));
    let sent = |world: &World| {
        let all = (0..8).map(|n| world.host(n).sent());
        all.fold((0, 0), |sum, sent| (sum.0 + sent.0, sum.1 + sent.1))
    };
    let before = sent(&world);
    world.run_for(640 * SECOND);
    let datagrams = (sent(&world).0 - before.0) as f64 / 640.0;
    // One lost ping in 16 heartbeats of one pair, and nobody else is asked.
    assert!((datagrams - 56.0 - 1.0 / 16.0).abs() < 0.02, "{datagrams}");
}

#[test]
fn records_pass_narrow_paths() {
    // All that 60 nodes say must come to node 1, and its own word to them, though no link of it passes what is long.
    for seed in 0..3 {
        let mut world = World::new(Setup { cheap_seal: true, ..Setup::new(60) }, seed);
        world.add_rule(Scope::Touching(vec![1]), LIMIT);
        world.run_for(SECOND);
        let took = world.run_until(20 * SECOND, World::is_settled);
        assert!(took.is_some(), "seed {seed}: long before a path is known");
        assert_eq!(changes(&mut world), [], "seed {seed}");
        world.run_for(300 * SECOND);
        assert_eq!(count(&world, Verdict::Mtu), 2 * 59, "seed {seed}: all links of node 1");
        // Rows of some 200 bytes each, from all that are left.
        let lost = world.net().lost();
        (30..60).for_each(|n| world.crash(n, false));
        let took = world.run_until(60 * SECOND, World::is_settled).expect("the tables become equal");
        let (lost, tried) = (world.net().lost() - lost, 59.0 * (took.as_secs_f64() / 16.0 + 1.0));
        assert!((lost as f64) < tried, "seed {seed}: {lost} lost in {took:?}: only what tries the path");
        assert!(changes(&mut world).iter().all(|(_, of, _)| *of >= 30), "seed {seed}");
        assert_eq!(count(&world, Verdict::Lossy), 0, "seed {seed}");
    }
}

#[test]
fn loss_and_sleep_are_no_small_mtu() {
    for loss in [0.05, 0.1] {
        let mut world = whole(Setup { cheap_seal: true, ..Setup::new(16) }, 2);
        world.add_rule(Scope::All, Rule::Loss(loss));
        for _ in 0..200 {
            world.run_for(10 * SECOND);
            assert_eq!(count(&world, Verdict::Mtu), 0, "loss {loss}");
        }
    }
    // Stopped for 3 s of every 4, or for 400 ms of every 900: who wakes answers the last of several pings.
    for (stopped, awake) in [(3000, 1000), (400, 500)] {
        let mut world = whole(Setup { cheap_seal: true, lazy: true, ..Setup::new(8) }, 4);
        for round in 0..1200 / (stopped + awake) * 1000 {
            [0, 1].iter().for_each(|n| world.freeze(*n, true));
            world.run_for(MS * (stopped + round % 7));
            [0, 1].iter().for_each(|n| world.freeze(*n, false));
            world.run_for(MS * awake);
            assert_eq!(count(&world, Verdict::Mtu), 0, "{stopped} ms");
        }
    }
}

#[test]
fn a_small_mtu_is_found_under_loss() {
    let mut world = whole(Setup { cheap_seal: true, ..Setup::new(4) }, 3);
    limit(&mut world, 0, 1);
    world.add_rule(Scope::All, Rule::Loss(0.05));
    world.run_for(300 * SECOND);
    assert_eq!(count(&world, Verdict::Mtu), 2);
    assert_eq!(changes(&mut world).len(), 0);
}

#[test]
fn mtu_one_way() {
    // One direction alone passes small datagrams only: of the leader, and of the follower.
    for (from, to) in [(0, 1), (1, 0)] {
        for seed in 0..3 {
            let mut world = whole(Setup { cheap_seal: true, ..Setup::new(4) }, seed);
            world.add_rule(Scope::Between(vec![from], vec![to]), LIMIT);
            let (first, last) = watch(&mut world, 300).expect("both ends call it mtu");
            assert!(first <= 240, "{from} to {to}, seed {seed}: {first}");
            assert_eq!(last, 299, "{from} to {to}, seed {seed}: and go on to");
            world.remove_rule(&Scope::Between(vec![from], vec![to]), &LIMIT);
            let last = watch(&mut world, 60).map_or(0, |(_, last)| last);
            assert!(last < 18, "{from} to {to}, seed {seed}: {last}");
            assert_eq!(changes(&mut world), [], "seed {seed}");
        }
    }
}

#[test]
fn bursts_in_step_with_the_slots_are_no_small_mtu() {
    // For 0.1 s of each second all is lost: first tries of the same pairs, and never their retries.
    for seed in 0..2 {
        let mut world = whole(Setup { cheap_seal: true, ..Setup::new(8) }, seed);
        for second in 0..600 {
            world.add_rule(Scope::All, Rule::Cut);
            world.run_for(100 * MS);
            world.remove_rule(&Scope::All, &Rule::Cut);
            world.run_for(900 * MS);
            assert_eq!(count(&world, Verdict::Mtu), 0, "seed {seed}, after {second} s");
        }
        assert!(!changes(&mut world).iter().any(|change| change.2 == PeerStatus::Down));
    }
}

#[test]
fn datagrams_that_are_short_anyway_pass() {
    let mut setup = Setup::new(3);
    setup.config.max_datagram = 400;
    let mut world = whole(setup, 1);
    for _ in 0..60 {
        world.run_for(10 * SECOND);
        assert_eq!(count(&world, Verdict::Mtu), 0, "nothing is lost");
    }
}
