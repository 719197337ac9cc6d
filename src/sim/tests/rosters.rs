//! Rosters that change while the nodes run.

use super::failures::both;
use super::rings::settled;
use super::*;
use crate::proto::LeaveReason;
use crate::proto::PeerStatus::{Down, Healthy};

/// So many nodes that run, of whom the last `new` are in no roster yet and do not.
fn without(nodes: usize, new: u32, seed: u64) -> World {
    let mut world = World::new(Setup { cheap_seal: true, start_within: SECOND, ..Setup::new(nodes) }, seed);
    let absent: Vec<u32> = (nodes as u32 - new..nodes as u32).collect();
    (0..nodes as u32 - new).for_each(|n| world.leave_out(n, &absent));
    world.run_for(SECOND + MS);
    absent.iter().for_each(|n| world.crash(*n, false));
    world.run_for(40 * SECOND);
    world.take_records();
    world
}

/// Every running node, one after the other within `within`, drops these from its roster, and no others.
fn roll_out(world: &mut World, absent: &[u32], within: Duration) {
    let running: Vec<u32> = (0..world.len() as u32).filter(|n| world.node(*n).is_some()).collect();
    let pause = within / running.len() as u32;
    for node in running.into_iter().filter(|n| !absent.contains(n)) {
        world.leave_out(node, absent);
        world.run_for(pause);
    }
}

/// Changes of status of those that are not among these.
fn alarms(world: &mut World, except: &[u32]) -> Vec<(u32, u32, PeerStatus)> {
    changes(world).into_iter().filter(|(_, of, _)| !except.contains(of)).collect()
}

fn nobody_reused_a_number(world: &World) {
    assert_eq!(world.net().reused, None);
}

#[test]
fn nodes_join_and_leave_a_running_cluster_and_nobody_is_alarmed() {
    // A mesh that stays one, one that becomes rings and is one again, and rings.
    for (nodes, new, loss, seed) in
        [(5, 1, 0.0, 1), (12, 3, 0.05, 2), (66, 1, 0.0, 3), (80, 30, 0.0, 4), (120, 10, 0.02, 5)]
    {
        let mut world = without(nodes, new, seed);
        world.add_rule(Scope::All, Rule::Loss(loss));
        let newcomers: Vec<u32> = (nodes as u32 - new..nodes as u32).collect();
        let instances = |world: &World| -> Vec<_> {
            (0..nodes as u32 - new).map(|n| world.node(n).unwrap().instance()).collect()
        };
        let before = instances(&world);
        roll_out(&mut world, &[], 10 * SECOND);
        newcomers.iter().for_each(|n| {
            world.leave_out(*n, &[]);
            world.start(*n);
        });
        assert!(world.run_until(60 * SECOND, World::is_whole).is_some(), "{nodes} nodes: all are proven");
        assert!(world.run_until(90 * SECOND, World::is_right).is_some(), "{nodes} nodes");
        let told = alarms(&mut world, &newcomers);
        assert_eq!(told, [], "{nodes} nodes, {new} of them new");
        newcomers.iter().for_each(|n| world.leave(*n, LeaveReason::Removal));
        world.run_for(10 * SECOND);
        roll_out(&mut world, &newcomers, 10 * SECOND);
        world.run_for(30 * SECOND);
        let told = alarms(&mut world, &newcomers);
        assert_eq!(told, [], "{nodes} nodes, {new} of them have gone");
        for node in 0..nodes as u32 - new {
            let snapshot = world.node(node).unwrap().snapshot(world.now());
            assert_eq!(snapshot.peers.len(), nodes - new as usize - 1);
            let is_gone = |id: &str| newcomers.contains(&world::index(id).unwrap());
            assert!(!snapshot.peers.iter().any(|p| is_gone(&p.server_id)), "n{node}");
            assert!(!snapshot.rows.iter().any(|row| is_gone(&row.server_id)), "n{node}");
        }
        assert_eq!(before, instances(&world), "nobody restarted");
        nobody_reused_a_number(&world);
    }
}

#[test]
fn who_is_down_or_cut_off_stays_so_when_the_roster_changes() {
    for (nodes, seed) in [(8, 1), (64, 2), (90, 3)] {
        let mut world = without(nodes, 4, seed);
        let newcomers: Vec<u32> = (nodes as u32 - 4..nodes as u32).collect();
        world.crash(1, false);
        for scope in both(2, 3) {
            world.add_rule(scope, Rule::Cut);
        }
        world.run_for(20 * SECOND);
        world.take_records();
        roll_out(&mut world, &[], 5 * SECOND);
        newcomers.iter().for_each(|n| {
            world.leave_out(*n, &[]);
            world.start(*n);
        });
        world.run_for(20 * SECOND);
        assert_eq!(
            alarms(&mut world, &newcomers)
                .into_iter()
                .filter(|c| !newcomers.contains(&c.0))
                .collect::<Vec<_>>(),
            [],
            "{nodes} nodes"
        );
        for node in (0..nodes as u32).filter(|n| *n != 1) {
            assert_eq!(world.status(node, 1), Some(Down), "n{node} of {nodes}");
        }
        if world.roster(2).contains(&3) {
            assert_eq!((world.link_is_active(2, 3), world.status(2, 3)), (Some(false), Some(Healthy)));
        }
        world.leave_out(1, &[]);
        world.start(1);
        for scope in both(2, 3) {
            world.remove_rule(&scope, &Rule::Cut);
        }
        assert!(world.run_until(60 * SECOND, World::is_settled).is_some(), "{nodes} nodes");
        nobody_reused_a_number(&world);
    }
}

#[test]
fn who_is_dropped_and_taken_in_again_is_met_anew_without_an_alarm() {
    for (nodes, seed) in [(6, 1), (80, 2)] {
        let mut world = settled(Setup::new(nodes), seed);
        for _ in 0..3 {
            roll_out(&mut world, &[3], SECOND);
            world.run_for(20 * SECOND);
            assert_eq!(alarms(&mut world, &[3]).into_iter().filter(|c| c.0 != 3).collect::<Vec<_>>(), []);
            roll_out(&mut world, &[], SECOND);
            let settles = world.run_until(60 * SECOND, |w| w.is_settled() && w.is_whole());
            assert!(settles.is_some(), "{nodes} nodes");
            world.take_records();
        }
        nobody_reused_a_number(&world);
    }
}

#[test]
fn who_drops_everybody_and_takes_them_in_again_learns_what_they_told_before() {
    // They know this run for long, and tell it nothing by themselves; who asks for what differs is the one with the smaller name.
    for nodes in [2, 3] {
        let mut world = settled(Setup::new(nodes), 1);
        for node in 0..nodes as u32 {
            let others: Vec<u32> = (0..nodes as u32).filter(|n| *n != node).collect();
            world.leave_out(node, &others);
            world.run_for(100 * MS);
            world.leave_out(node, &[]);
            let settles = world.run_until(20 * SECOND, |w| w.is_settled() && w.is_whole());
            assert!(settles.is_some(), "n{node} of {nodes}");
        }
        nobody_reused_a_number(&world);
    }
}

#[test]
fn a_roster_that_takes_a_node_in_again_makes_no_dead_one_healthy() {
    // Nobody has ever heard node 10. One of its observers has a roster without it for a while: its row does not name it then.
    let mut setup = Setup { cheap_seal: true, ..Setup::new(20) };
    setup.config.observers = crate::proto::Observers::Number(8);
    for seed in 0..10 {
        let mut world = World::new(setup.clone(), seed);
        world.never_start(10);
        world.run_for(60 * SECOND);
        let down = (0..20).filter(|n| world.status(*n, 10) == Some(Down));
        assert_eq!(down.count(), 19, "seed {seed}");
        let observer = world.roster(10)[0];
        world.leave_out(observer, &[10]);
        world.run_for(20 * SECOND + MS * 170 * seed as u32);
        changes(&mut world);
        world.leave_out(observer, &[]);
        world.run_for(10 * SECOND);
        let healthy = |(by, of, to): &(u32, u32, PeerStatus)| (*of, *to) == (10, Healthy) && *by != observer;
        let wrong: Vec<_> = changes(&mut world).into_iter().filter(healthy).collect();
        assert_eq!(wrong, [], "seed {seed}");
    }
}
