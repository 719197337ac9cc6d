//! Good-byes that are lost, and what ends a leave.

use super::*;
use crate::proto::LeaveReason::{Removal, Restart};
use crate::proto::{LeaveReason, Observers, Verdict};
use crate::sim::Scope as Between;

/// A cluster in its steady state; the good-bye of `leaver` is lost on the way to `deaf`, and nothing else is.
fn lost_goodbye(setup: Setup, leaver: u32, deaf: &[u32], reason: LeaveReason, seed: u64) -> World {
    let mut world = World::new(Setup { cheap_seal: true, start_within: SECOND, ..setup }, seed);
    world.run_for(20 * SECOND);
    assert!(world.run_until(40 * SECOND, World::is_settled).is_some(), "seed {seed}");
    world.take_records();
    let way = Between::Between(vec![leaver], deaf.to_vec());
    world.add_rule(way.clone(), Rule::Cut);
    world.leave(leaver, reason);
    world.run_for(200 * MS);
    world.remove_rule(&way, &Rule::Cut);
    world
}

/// The verdicts about `of` at all other running nodes.
fn verdicts(world: &World, of: u32) -> Vec<(u32, Verdict)> {
    let nodes = (0..world.len() as u32).filter(|node| *node != of);
    let view = |node: u32| {
        let peers = world.node(node)?.snapshot(world.now()).peers;
        let peer = peers.into_iter().find(|peer| world::index(&peer.server_id) == Some(of))?;
        Some((node, peer.verdict))
    };
    nodes.filter_map(view).collect()
}

/// What was an alarm about `of` since the last look: the node, its verdict and its sentence.
fn alarms(world: &mut World, of: u32) -> Vec<(u32, Verdict, String)> {
    let alarm = |record: world::Record| {
        let about = world::index(record.event.peer.as_deref()?)? == of;
        let is_alarm = match record.event.change {
            Change::Status { to, .. } => record.event.verdict?.is_alarm(to),
            Change::Verdict { to, .. } => matches!(to, Verdict::Down | Verdict::Refused),
            _ => false,
        };
        let verdict = record.event.verdict.filter(|_| about && is_alarm)?;
        Some((record.node, verdict, record.event.why))
    };
    world.take_records().into_iter().filter_map(alarm).collect()
}

#[test]
fn lost_goodbye_one_of_five_says_left_too() {
    for seed in 1..=20 {
        for reason in [Restart, Removal] {
            let mut world = lost_goodbye(Setup::new(5), 4, &[0], reason, seed);
            world.run_for(20 * SECOND);
            assert_eq!(alarms(&mut world, 4), [], "seed {seed}");
            let wrong: Vec<_> = verdicts(&world, 4).into_iter().filter(|v| v.1 != Verdict::Left).collect();
            assert_eq!(wrong, [], "seed {seed}");
        }
    }
}

#[test]
fn lost_goodbye_is_an_event_at_every_node() {
    let mut world = lost_goodbye(Setup::new(5), 4, &[0], Restart, 1);
    world.run_for(5 * SECOND);
    let leave = |r: &world::Record| matches!(r.event.change, Change::Leave(Restart));
    let told: Vec<u32> = world.take_records().iter().filter(|r| leave(r)).map(|r| r.node).collect();
    assert_eq!((told.len(), told.contains(&0)), (4, true), "{told:?}: once at each");
}

#[test]
fn lost_goodbye_in_rings_is_left_everywhere() {
    let mut setup = Setup::new(20);
    setup.config.observers = Observers::Number(4);
    for seed in 1..=5 {
        let world = World::new(setup.clone(), seed);
        let deaf = world.roster(3)[..2].to_vec();
        let mut world = lost_goodbye(setup.clone(), 3, &deaf, Restart, seed);
        world.run_for(20 * SECOND);
        assert_eq!(alarms(&mut world, 3), [], "seed {seed}");
        let wrong: Vec<_> = verdicts(&world, 3).into_iter().filter(|v| v.1 != Verdict::Left).collect();
        assert_eq!(wrong, [], "seed {seed}");
        // New runs of all its observers learn it from the profile that the others keep.
        let observers = world.roster(3).to_vec();
        for observer in &observers {
            world.crash(*observer, true);
            world.start(*observer);
        }
        world.run_for(20 * SECOND);
        let wrong: Vec<_> = verdicts(&world, 3).into_iter().filter(|v| v.1 != Verdict::Left).collect();
        assert_eq!(wrong, [], "seed {seed}, with new observers {observers:?}");
    }
}

#[test]
fn leave_restart_crash_is_down_and_not_left() {
    let mut rings = Setup::new(20);
    rings.config.observers = Observers::Number(4);
    for (setup, deaf) in [(Setup::new(5), vec![0]), (Setup::new(5), vec![0, 1, 2, 3]), (rings, vec![])] {
        for lived in [3 * SECOND, 30 * SECOND] {
            let mut world = lost_goodbye(setup.clone(), 4, &deaf, Restart, 7);
            world.run_for(2 * SECOND);
            world.start(4);
            world.run_for(lived);
            world.crash(4, false);
            world.run_for(20 * SECOND);
            let wrong: Vec<_> = verdicts(&world, 4).into_iter().filter(|v| v.1 != Verdict::Down).collect();
            assert_eq!(wrong, [], "{} nodes, good-bye lost at {deaf:?}, lived {lived:?}", setup.nodes);
        }
    }
}

#[test]
fn a_restart_after_a_lost_goodbye_is_no_alarm_for_a_moment() {
    for seed in 1..=20 {
        for away in [500 * MS, 3 * SECOND, 20 * SECOND] {
            let mut world = lost_goodbye(Setup::new(5), 4, &[0], Restart, seed);
            world.run_for(away);
            world.start(4);
            world.run_for(10 * SECOND);
            assert_eq!(alarms(&mut world, 4), [], "seed {seed}, away for {away:?}");
            assert!(world.is_whole(), "seed {seed}, away for {away:?}");
        }
    }
}

#[test]
fn a_newer_profile_ends_a_leave_where_the_link_is_cut() {
    let mut world = lost_goodbye(Setup::new(5), 4, &[], Restart, 2);
    world.add_rule(Between::Between(vec![0], vec![4]), Rule::Cut);
    world.add_rule(Between::Between(vec![4], vec![0]), Rule::Cut);
    world.run_for(2 * SECOND);
    assert_eq!(verdicts(&world, 4)[0], (0, Verdict::Left));
    world.start(4);
    world.run_for(20 * SECOND);
    assert_ne!(verdicts(&world, 4)[0].1, Verdict::Left, "the others hear its new run");
}

#[test]
fn a_leave_for_a_restart_that_only_the_profile_reports_is_down_after_the_grace() {
    let mut setup = Setup::new(5);
    setup.config.leave_grace = 60 * SECOND;
    let mut world = lost_goodbye(setup, 4, &[0], Restart, 3);
    world.run_for(50 * SECOND);
    assert!(verdicts(&world, 4).iter().all(|(_, verdict)| *verdict == Verdict::Left));
    world.run_for(15 * SECOND);
    let gone = |v: &Verdict| matches!(v, Verdict::Down | Verdict::Refused);
    assert!(verdicts(&world, 4).iter().all(|(_, verdict)| gone(verdict)), "{:?}", verdicts(&world, 4));
}
