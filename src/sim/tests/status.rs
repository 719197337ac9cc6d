//! What a node makes of what others report, and of its own silence: ill observers, ill nodes, nodes that never started,
//! sleep during an isolation, loops that are late in every turn.

use super::failures::{both, verdict};
use super::*;
use crate::proto::Verdict;
use PeerStatus::{Down, Healthy, Suspected};

/// 80 % of what these nodes send and receive is lost.
fn make_ill(world: &mut World, ill: &[u32], both_ways: bool) {
    let well: Vec<u32> = (0..world.len() as u32).filter(|n| !ill.contains(n)).collect();
    world.add_rule(Scope::Between(well.clone(), ill.to_vec()), Rule::Loss(0.8));
    if both_ways {
        world.add_rule(Scope::Between(ill.to_vec(), well), Rule::Loss(0.8));
    }
}

#[test]
fn one_ill_observer_makes_nobody_suspected() {
    // Rings of 200 nodes: two lose 80 % of what they receive, or also of what they send, and miss many of those that they
    // observe.
    for (both_ways, minutes) in [(true, 2), (false, 1)] {
        let mut world = rings::settled(Setup::new(200), 1);
        make_ill(&mut world, &[3, 4], both_ways);
        world.run_for(minutes * 60 * SECOND);
        let well = |node: u32| ![3, 4].contains(&node);
        let wrong = |c: &&(u32, u32, PeerStatus)| well(c.0) && well(c.1) && c.2 != Healthy;
        let all = changes(&mut world);
        assert_eq!(all.iter().filter(wrong).count(), 0, "both ways: {both_ways}");
        // A crash is seen as soon as ever.
        let crashed = world.now();
        world.crash(7, false);
        world.run_for(7 * SECOND);
        let mut took: Vec<Duration> = world
            .take_records()
            .iter()
            .filter(|r| well(r.node) && r.event.peer.as_deref().and_then(world::index) == Some(7))
            .filter(|r| matches!(r.event.change, Change::Status { to: Down, .. }))
            .map(|r| r.at.since(crashed))
            .collect();
        took.sort();
        assert_eq!(took.len(), 197, "both ways: {both_ways}");
        println!("both ways: {both_ways}: median {:?}, last {:?}", took[98], took[196]);
        assert!(took[98] <= 5400 * MS && took[196] <= 6 * SECOND, "{:?}, {:?}", took[98], took[196]);
    }
}

#[test]
fn an_ill_node_calls_no_living_peer_down() {
    // One of 64 loses 80 % of what it sends and receives. Whom it misses is heard by the others: the link is at fault.
    for seed in 0..2 {
        let mut world = whole(Setup { cheap_seal: true, ..Setup::new(64) }, seed);
        make_ill(&mut world, &[5], true);
        let (mut down, mut link_down) = (0, 0);
        for _ in 0..300 {
            world.run_for(SECOND);
            let peers = world.node(5).unwrap().snapshot(world.now()).peers;
            down += peers.iter().filter(|p| p.verdict == Verdict::Down).count();
            link_down += peers.iter().filter(|p| p.verdict == Verdict::LinkDown && p.status == Down).count();
        }
        let told = world.take_records();
        let told = told.iter().filter(|r| r.node == 5 && r.event.verdict == Some(Verdict::Down)).count();
        println!("seed {seed}: {down} looks at down, {link_down} at link_down, {told} events");
        assert_eq!((down, told), (0, 0), "seed {seed}");
        assert!(link_down > 0, "seed {seed}: its links to the peers that it misses are down");
        world.crash(9, false);
        world.run_for(20 * SECOND);
        assert_eq!(verdict(&world, 5, 9), Verdict::Down, "seed {seed}: who is dead is down there too");
    }
}

#[test]
fn a_node_that_never_started_is_healthy_nowhere() {
    // 60 of 200 are in the roster and do not run.
    let mut world = World::new(Setup { cheap_seal: true, ..Setup::new(200) }, 1);
    (140..200).for_each(|node| world.never_start(node));
    world.run_for(30 * SECOND);
    let healthy = |world: &World, of: u32| {
        (0..140).filter(|at| *at != of && world.status(*at, of) == Some(Healthy)).count()
    };
    let wrong: usize = (140..200).map(|node| healthy(&world, node)).sum();
    assert_eq!(wrong, 0, "places where a node is healthy that nobody has heard");
    assert!((0..140).all(|node| healthy(&world, node) == 139));
    let peers = world.node(0).unwrap().snapshot(world.now()).peers;
    assert_eq!(peers.iter().filter(|p| p.verdict == Verdict::Unknown).count(), 60, "and it is no alarm");
    assert!(!world.node(0).unwrap().snapshot(world.now()).status.is_degraded);
    // A crash is seen by all, also by those who observe many that never were there.
    world.crash(7, false);
    let seen = |world: &World| (0..140).all(|at| at == 7 || world.status(at, 7) == Some(Down));
    let took = world.run_until(10 * SECOND, seen);
    println!("a crash among them: {took:?}");
    assert!(took.is_some_and(|took| took <= 7 * SECOND), "{took:?}");
}

#[test]
fn an_isolated_node_that_slept_still_waits_its_minute() {
    for sleep in [30, 60, 300] {
        let mut world = whole(Setup::new(4), 1);
        world.deafen(0, true);
        world.run_for(20 * SECOND);
        world.freeze(0, true);
        world.run_for(sleep * SECOND);
        world.freeze(0, false);
        world.run_for(30 * SECOND);
        let downs = changes(&mut world).into_iter().filter(|(at, _, to)| *at == 0 && *to == Down);
        assert_eq!(downs.count(), 0, "{sleep} s asleep: it listened for 50 s");
        world.run_for(20 * SECOND);
        assert!((1..4).all(|peer| world.status(0, peer) == Some(Down)), "{sleep} s asleep");
    }
}

#[test]
fn a_loop_that_is_always_late_sees_a_crash() {
    // In every turn `by` passes before the next one. Half a timeout of it counts as listened.
    for nodes in [16usize, 64] {
        for by in [150, 300, 600] {
            let share = (250.0 / by as f64).min(1.0);
            // The turn that begins a heartbeat and the one that judges it may each come so much later.
            let limit = (5500 * MS).div_f64(share) + 2 * by * MS;
            for seed in 0..if nodes == 16 { 6 } else { 2 } {
                let mut world = whole(Setup { cheap_seal: true, ..Setup::new(nodes) }, seed);
                world.slow(1, by * MS);
                world.run_for(20 * SECOND);
                let wrong = changes(&mut world).into_iter().filter(|c| c.2 == Down).count();
                assert_eq!(wrong, 0, "{nodes} nodes, {by} ms, seed {seed}: all live");
                world.crash(2, false);
                let took = world.run_until(130 * SECOND, |w| w.status(1, 2) == Some(Down));
                println!("{nodes} nodes, {by} ms, seed {seed}: {took:?}, limit {limit:?}");
                assert!(
                    took.is_some_and(|took| took <= limit),
                    "{nodes} nodes, {by} ms, seed {seed}: {took:?}"
                );
                let wrong = changes(&mut world).into_iter().filter(|c| c.1 != 2 && c.2 >= Suspected).count();
                assert_eq!(wrong, 0, "{nodes} nodes, {by} ms, seed {seed}: nobody else is even suspected");
            }
        }
    }
}

#[test]
fn a_loop_that_hardly_listens_takes_the_majoritys_word() {
    // With 2.5 s between two turns it grants itself a tenth of the time.
    let mut world = whole(Setup { cheap_seal: true, ..Setup::new(16) }, 3);
    world.slow(1, 2500 * MS);
    world.run_for(20 * SECOND);
    world.take_records();
    world.crash(2, false);
    let took = world.run_until(130 * SECOND, |w| w.status(1, 2) == Some(Down));
    println!("{took:?}");
    assert!(took.is_some_and(|took| took <= 22 * SECOND), "{took:?}");
}

#[test]
fn a_cut_link_to_a_living_peer_is_no_down_by_the_majority() {
    let mut world = whole(Setup::new(5), 3);
    both(0, 1).into_iter().for_each(|scope| world.add_rule(scope, Rule::Cut));
    world.run_for(60 * SECOND);
    assert!(changes(&mut world).iter().all(|c| c.2 == Healthy));
    assert_eq!(verdict(&world, 0, 1), Verdict::LinkDown);
}
