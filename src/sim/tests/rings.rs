//! Large clusters: a node observes few, and knows of all.

use super::failures::both;
use super::*;
use crate::proto::LeaveReason;
use crate::proto::PeerStatus::{Down, Healthy};
use crate::proto::{Observers, PeerConfig, PeerView, SelfHealth, Verdict};

/// So many nodes with 16 observers each at most, in their steady state.
fn rings(nodes: usize, seed: u64) -> World {
    settled(Setup::new(nodes), seed)
}

/// Twenty nodes with four observers each at most, in their steady state.
fn few(seed: u64, change: fn(&mut PeerConfig)) -> World {
    let mut setup = Setup::new(20);
    setup.config.observers = Observers::Number(4);
    change(&mut setup.config);
    settled(setup, seed)
}

pub(super) fn settled(setup: Setup, seed: u64) -> World {
    let mut world = World::new(Setup { cheap_seal: true, start_within: SECOND, ..setup }, seed);
    let settles = (0..60).any(|_| {
        world.run_for(SECOND);
        world.is_settled() && world.is_whole()
    });
    assert!(settles, "all know of all, and the same, within a minute");
    world.run_for(10 * SECOND);
    world.take_records();
    world
}

fn calls(world: &World, subject: u32, status: PeerStatus) -> usize {
    (0..world.len() as u32).filter(|n| *n != subject && world.status(*n, subject) == Some(status)).count()
}

#[test]
fn with_four_observers_a_death_is_known_to_all_at_once() {
    // While nodes stall for some tenths of a second, too, one of them every third of a second.
    // A host that refuses sends six ICMP errors at once to each of the others, and one a second after that. Half of its crashes
    // are Down within 3 s, and none later than the slowest of those that are silent.
    let [silent, refused] = [false, true].map(|refuses| {
        let mut setup = Setup { lazy: true, ..Setup::new(32) };
        setup.config.observers = Observers::Number(4);
        let mut world = settled(setup, 5);
        let mut all = Vec::new();
        for subject in (0..32).map(|n| n * 7 % 32) {
            world.crash(subject, refuses);
            let took = stalling_until(&mut world, subject, |world| calls(world, subject, Down) == 31);
            assert!(took <= 7 * SECOND, "n{subject} down after {took:?}, refused: {refuses}");
            all.push(took);
            world.start(subject);
            let took = stalling_until(&mut world, subject, |world| calls(world, subject, Healthy) == 31);
            assert!(took <= 4 * SECOND, "n{subject} back after {took:?}, refused: {refuses}");
        }
        all.sort_unstable();
        println!("refused: {refuses}: {all:?}");
        all
    });
    assert!(refused[31] <= silent[31], "{refused:?} {silent:?}");
    assert!(refused[15] <= 3 * SECOND, "half of them within 3 s: {refused:?}");
}

/// Runs until `done`, while others than `subject` stall in turn.
fn stalling_until(world: &mut World, subject: u32, done: impl Fn(&World) -> bool) -> Duration {
    let begin = world.now();
    while !done(world) && world.now().since(begin) < 60 * SECOND {
        let turn = (world.now().as_micros() / 333_333) as u32;
        let node = turn * 13 % world.len() as u32;
        world.freeze(node, node != subject);
        world.run_for((2 + turn % 5) * SECOND / 10);
        world.freeze(node, false);
        world.run_for(SECOND / 10);
    }
    world.now().since(begin)
}

/// What a node says of another one.
fn view(world: &World, at: u32, of: u32) -> PeerView {
    let peers = world.node(at).expect("it runs").snapshot(world.now()).peers;
    peers.into_iter().find(|p| world::index(&p.server_id) == Some(of)).expect("it is in the roster")
}

/// Who does not observe `subject`.
fn strangers(world: &World, subject: u32) -> Vec<u32> {
    (0..world.len() as u32).filter(|n| *n != subject && !world.roster(subject).contains(n)).collect()
}

#[test]
fn who_left_is_down_once_the_grace_is_over() {
    let mut world = few(11, |config| config.leave_grace = 60 * SECOND);
    world.leave(3, LeaveReason::Restart);
    let says = |world: &World, verdicts: &[Verdict]| {
        (0..20).filter(|n| *n != 3).all(|n| verdicts.contains(&view(world, n, 3).verdict))
    };
    let is_alarmed = |world: &World, n: u32| world.node(n).unwrap().snapshot(world.now()).status.is_degraded;
    world.run_for(3 * SECOND);
    for _ in 0..46 {
        world.run_for(SECOND);
        assert!(says(&world, &[Verdict::Left]) && (0..20).all(|n| n == 3 || !is_alarmed(&world, n)));
    }
    let told = world.take_records();
    let leaves = |r: &&world::Record| matches!(r.event.change, Change::Leave(_));
    let of_it = told.iter().filter(|r| r.event.peer.as_deref() == Some("n3") && !leaves(r));
    let wrong: Vec<_> = of_it.filter(|r| r.event.verdict != Some(Verdict::Left)).collect();
    assert!(wrong.is_empty(), "a leave is no alarm, not for a moment: {wrong:#?}");
    // A new run of an observer was not told, and asks the others.
    let observer = world.roster(3)[0];
    world.crash(observer, true);
    world.start(observer);
    world.run_for(7 * SECOND);
    assert!(says(&world, &[Verdict::Left]), "{}", view(&world, observer, 3).why);
    world.run_for(30 * SECOND);
    // Its host refuses those who still try.
    assert!(
        says(&world, &[Verdict::Down, Verdict::Refused]) && (0..20).all(|n| n == 3 || is_alarmed(&world, n))
    );
    let lost = |r: &world::Record| matches!(r.event.change, Change::MassLoss { .. });
    assert!(!world.take_records().iter().any(lost));
}

#[test]
fn the_row_of_an_isolated_node_shows_its_last_known_state_and_the_age_of_that() {
    let mut world = few(14, |_| ());
    let cut = world.roster(0)[0];
    for scope in both(0, cut) {
        world.add_rule(scope, Rule::Cut);
    }
    world.run_for(20 * SECOND);
    world.block(0, true);
    world.run_for(60 * SECOND);
    let far = strangers(&world, 0)[0];
    for at in [world.roster(0)[1], far] {
        let rows = world.node(at).unwrap().snapshot(world.now()).rows;
        let row = rows.into_iter().find(|row| &*row.server_id == "n0").unwrap();
        let said: Vec<u32> = row.sees.iter().filter_map(|edge| world::index(&edge.peer)).collect();
        let stale = row.stale.unwrap();
        assert!(row.age.is_none() && stale > 50 * SECOND && stale < 63 * SECOND, "at n{at}: {stale:?}");
        assert_eq!(said, [cut], "at n{at}: what it said before it was isolated");
    }
    let own = world.node(0).unwrap().snapshot(world.now()).rows;
    assert!(own.iter().all(|row| row.age.is_some() != row.stale.is_some()), "it believes its own row alone");
    world.block(0, false);
    world.run_for(20 * SECOND);
    let rows = world.node(far).unwrap().snapshot(world.now()).rows;
    assert!(rows.iter().all(|row| row.age.is_some() && row.stale.is_none()));
}

#[test]
fn an_isolated_node_blames_nobody() {
    let mut world = few(12, |_| ());
    let others = strangers(&world, 0);
    let dead = others[0];
    world.crash(dead, false);
    world.run_for(10 * SECOND);
    world.take_records();
    world.deafen(0, true);
    for seconds in [20, 60] {
        world.run_for(seconds * SECOND);
        for of in &others {
            let peer = view(&world, 0, *of);
            assert_eq!(peer.verdict, Verdict::Isolated, "n{of} after {seconds} s: {}", peer.why);
            assert!(peer.why.starts_with("not it: me; nothing authentic came"), "{}", peer.why);
            assert!(peer.explanation.rule.starts_with("isolated: "), "{}", peer.explanation.rule);
        }
    }
    let told = world.take_records();
    let at = |change| told.iter().find(|r| r.node == 0 && r.event.change == change).map(|r| r.at);
    let isolated = at(Change::Health { from: SelfHealth::Ok, to: SelfHealth::Isolated });
    let verdict = at(Change::Verdict { from: Verdict::Down, to: Verdict::Isolated });
    assert!(isolated.is_some() && verdict == isolated, "{verdict:?}, {isolated:?}");
    world.deafen(0, false);
    world.start(dead);
    world.run_for(20 * SECOND);
    assert!(world.is_settled() && others.iter().all(|of| view(&world, 0, *of).verdict == Verdict::Up));
}

#[test]
fn events_of_all_carry_evidence() {
    let mut world = few(13, |_| ());
    world.crash(3, false);
    world.run_for(10 * SECOND);
    world.start(3);
    world.run_for(10 * SECOND);
    let told = world.take_records();
    let of_others = told.iter().filter(|r| r.event.peer.is_some() && !r.event.observed);
    let mut kinds: Vec<&str> = of_others
        .map(|r| {
            let evidence = r.event.evidence.as_ref().expect("what it rests on");
            assert!(evidence.says.observers() >= 3 && evidence.down_after == 5, "{:?}", evidence.says);
            let is_down = r.event.change == Change::Status { from: PeerStatus::Suspected, to: Down };
            assert!(
                !is_down || (evidence.says.down >= 2 && evidence.rule.starts_with("down: ")),
                "{evidence:?}"
            );
            r.event.change.kind()
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, ["restart", "status", "verdict"]);
}

#[test]
fn a_crash_and_a_restart_are_known_to_all() {
    let mut world = rings(120, 1);
    for victim in [7, 60] {
        world.crash(victim, false);
        world.run_for(7 * SECOND);
        assert_eq!(calls(&world, victim, Down), 119);
        world.start(victim);
        world.run_for(3 * SECOND);
        assert_eq!(calls(&world, victim, Healthy), 119);
        world.run_for(10 * SECOND);
        assert!(world.is_settled());
    }
    assert!(changes(&mut world).iter().all(|c| c.2 < Down || [7, 60].contains(&c.1)));
}

#[test]
fn every_death_is_pushed_on() {
    // One dies after the other, so that an observer of two finds the second Down within half an interval of the first.
    let mut world = rings(150, 6);
    let mut took = Vec::new();
    for round in 0..4 {
        let victims: Vec<u32> = (0..12).map(|n| round * 12 + n).collect();
        for victim in &victims {
            world.crash(*victim, false);
            world.run_for(SECOND / 12);
        }
        world.run_for(10 * SECOND);
        let records = world.take_records();
        for victim in &victims {
            let down = |r: &&world::Record| {
                matches!(r.event.change, Change::Status { to: Down, .. })
                    && r.event.peer.as_deref().and_then(world::index) == Some(*victim)
            };
            let at = |observed: bool| {
                let of = records.iter().filter(down).filter(|r| r.event.observed == observed);
                of.map(|r| r.at).collect::<Vec<_>>()
            };
            let (observers, others) = (at(true), at(false));
            let most = observers[observers.len() / 2];
            took.push(others.last().unwrap().since(most));
        }
        victims.iter().for_each(|n| world.start(*n));
        world.run_for(20 * SECOND);
        world.take_records();
    }
    took.sort();
    println!("from most observers to all others: {:?} {:?} {:?}", took[0], took[24], took[47]);
    assert!(took[47] < SECOND, "{took:?}");
}

#[test]
fn a_cut_link_between_observers_is_no_death() {
    cut_between_observers(rings(100, 2));
}

#[test]
fn nor_where_the_rosters_have_no_ids() {
    let setup = Setup { cheap_seal: true, nameless: true, ..Setup::new(100) };
    cut_between_observers(settled(setup, 2));
}

fn cut_between_observers(mut world: World) {
    let (one, other) = (3, world.roster(3)[5]);
    let [there, back] = both(one, other);
    world.add_rule(there, Rule::Cut);
    world.add_rule(back, Rule::Cut);
    world.run_for(8 * SECOND);
    for (at, of) in [(one, other), (other, one)] {
        let peers = world.node(at).unwrap().snapshot(world.now()).peers;
        let peer = peers.into_iter().find(|p| world::index(&p.server_id) == Some(of)).unwrap();
        assert_eq!((peer.status, peer.verdict), (Healthy, Verdict::LinkDown), "{}", peer.why);
    }
    world.run_for(120 * SECOND);
    assert_eq!(changes(&mut world), [], "relays that neither observes keep both healthy");
}

#[test]
fn dead_keep_dead_up() {
    the_lost_are_down(100);
}

#[test]
#[ignore = "takes a minute"]
fn dead_keep_dead_up_of_1000() {
    the_lost_are_down(1000);
}

/// The greater part dies at once, or is cut off: what they say of each other counts for nothing.
fn the_lost_are_down(nodes: usize) {
    for (percent, cut) in [(40, false), (60, false), (66, true), (50, true)] {
        let share = nodes * percent / 100;
        let mut world = rings(nodes, 3 + percent as u64);
        let lost: Vec<u32> = (0..share as u32).collect();
        let rest: Vec<u32> = (share as u32..nodes as u32).collect();
        if cut {
            world.add_rule(Scope::Across(vec![lost.clone(), rest.clone()]), Rule::Cut);
        } else {
            lost.iter().for_each(|n| world.crash(*n, false));
        }
        world.run_for(20 * SECOND);
        for (side, other) in [(&rest, &lost), (&lost, &rest)] {
            for node in side.iter().filter_map(|n| world.node(*n)) {
                let status = node.snapshot(world.now()).status;
                let what = format!("{share} of {nodes} {}: {status:?}", if cut { "cut off" } else { "dead" });
                assert_eq!((status.down_peers, status.proven_peers), (other.len(), side.len()), "{what}");
                assert_eq!(status.is_quorum_available(), side.len() > nodes / 2, "{what}");
            }
        }
    }
}

#[test]
fn newborn_observers_do_not_keep_the_dead_up() {
    // A node dies, and before anybody has missed it all its observers start anew: nobody is left who has ever heard it.
    let mut world = rings(100, 4);
    let observers = world.roster(7).to_vec();
    world.crash(7, false);
    observers.iter().for_each(|n| world.crash(*n, false));
    world.run_for(MS);
    observers.iter().for_each(|n| world.start(*n));
    world.run_for(20 * SECOND);
    let others = (0..100).filter(|n| *n != 7 && !observers.contains(n));
    others.for_each(|n| assert_eq!(world.status(n, 7), Some(Down), "n{n}"));
    world.start(7);
    world.run_for(10 * SECOND);
    assert_eq!(calls(&world, 7, Healthy), 99);
    let wrong: Vec<_> = changes(&mut world).into_iter().filter(|c| c.2 == Down && c.1 != 7).collect();
    assert_eq!(wrong, [], "who lives is not taken for dead meanwhile");
}

#[test]
fn roster_rollout() {
    for (nodes, seed) in [(12, 1), (90, 2)] {
        let newcomer = nodes as u32 - 1;
        let setup = Setup { cheap_seal: true, ..Setup::new(nodes) };
        let mut world = World::new(setup, seed);
        (0..newcomer).for_each(|n| world.leave_out(n, &[newcomer]));
        world.run_for(10 * MS);
        world.crash(newcomer, false);
        world.run_for(20 * SECOND);
        world.take_records();
        let mut quiet = bytes_of(&mut world, 20);
        for at in 0..newcomer {
            world.crash(at, true);
            world.leave_out(at, &[]);
            world.start(at);
            world.run_for(SECOND);
            if at == newcomer / 2 {
                half_way(&mut world, newcomer, &mut quiet);
            }
        }
        world.start(newcomer);
        world.run_for(20 * SECOND);
        assert!(world.is_settled() && world.is_whole(), "{nodes} nodes");
        let downs: Vec<_> =
            changes(&mut world).into_iter().filter(|c| c.2 == Down && c.1 != newcomer).collect();
        assert_eq!(downs, [], "{nodes} nodes");
    }
}

#[test]
fn who_stalls_over_and_over_calls_nobody_down() {
    // Whoever wakes hears nobody yet, so nobody's word reaches it: that says nothing of whom it does not observe.
    for (blocked, stalled, awake) in
        [(false, 8192, 64), (false, 32_768, 1024), (false, 2048, 1), (true, 8192, 64), (true, 2048, 1024)]
    {
        let mut world = rings(100, 9);
        for _ in 0..(60_000 / (stalled + awake)).max(3) {
            for (begins, time) in [(true, stalled), (false, awake)] {
                (0..8).for_each(|n| if blocked { world.block(n, begins) } else { world.freeze(n, begins) });
                world.run_for(MS * time);
            }
        }
        world.run_for(10 * SECOND);
        // With timers that run a node that hears nobody suspects, until it knows that it is isolated.
        let wrong =
            |(_, of, to): &(u32, u32, PeerStatus)| *of >= 8 && (*to == Down || *to > Healthy && !blocked);
        let wrong: Vec<_> = changes(&mut world).into_iter().filter(wrong).collect();
        assert_eq!(wrong, [], "{stalled} ms stalled, {awake} ms awake, blocked: {blocked}");
    }
}

#[test]
fn a_deaf_node_has_no_vote() {
    for seed in 0..5 {
        let mut world = rings(100, seed);
        world.deafen(3, true);
        world.run_for(100 * SECOND);
        let all: Vec<_> = changes(&mut world).into_iter().filter(|c| c.0 != 3).collect();
        assert_eq!(all, [], "seed {seed}");
        let deaf = world.node(3).unwrap().snapshot(world.now());
        assert!(deaf.status.is_isolated, "seed {seed}");
    }
}

#[test]
fn a_newcomer_that_half_of_the_rosters_lack_learns_of_a_cut() {
    // n0 to n5 do not have n11 in their rosters, so none of them tells it anything by itself; n0 and n1 lose each other.
    for seed in 0..5 {
        let mut world = World::new(Setup { cheap_seal: true, ..Setup::new(12) }, seed);
        (0..12).for_each(|n| world.crash(n, false));
        (0..6).for_each(|n| world.leave_out(n, &[11]));
        (0..12).for_each(|n| world.start(n));
        world.run_for(300 * SECOND);
        for scope in super::failures::both(0, 1) {
            world.add_rule(scope, Rule::Cut);
        }
        let known = |world: &World| {
            let rows = world.node(11).unwrap().snapshot(world.now()).rows;
            let says = |at: u32, of: u32| {
                let row = rows.iter().find(|row| world::index(&row.server_id) == Some(at)).unwrap();
                row.sees.iter().any(|edge| world::index(&edge.peer) == Some(of))
            };
            says(0, 1) && says(1, 0)
        };
        let took = (1..300u32).map(|n| n * SECOND / 10).find(|_| {
            world.run_for(SECOND / 10);
            known(&world)
        });
        assert!(took.is_some_and(|took| took < 8 * SECOND), "seed {seed}: {took:?}");
    }
}

/// UDP payload that a node sends a second.
fn bytes_of(world: &mut World, seconds: u32) -> f64 {
    let sent = |world: &World| (0..world.len() as u32).map(|n| world.host(n).sent().1).sum::<u64>();
    let before = sent(world);
    world.run_for(SECOND * seconds);
    (sent(world) - before) as f64 / f64::from(seconds) / world.len() as f64
}

/// Two rosters stand beside each other: both sides are named, nobody is degraded by that, and little is sent for it.
fn half_way(world: &mut World, newcomer: u32, quiet: &mut f64) {
    world.run_for(240 * SECOND);
    for at in 0..newcomer {
        let snapshot = world.node(at).unwrap().snapshot(world.now());
        let other_side = |p: &&crate::proto::PeerView| {
            let of = world::index(&p.server_id).unwrap();
            of != newcomer && (of <= newcomer / 2) != (at <= newcomer / 2)
        };
        for peer in snapshot.peers.iter().filter(other_side) {
            assert_eq!(peer.verdict, Verdict::ConfigMismatch, "n{at} of {}: {}", peer.server_id, peer.why);
            assert!(peer.why.contains("hash to …") && peer.why.contains("this node's to …"), "{}", peer.why);
        }
        assert!(snapshot.status.is_quorum_available(), "n{at}: {:?}", snapshot.status);
    }
    let now = bytes_of(world, 60);
    assert!(now < *quiet * 1.5, "{now:.0} bytes a second instead of {quiet:.0}");
    *quiet = now;
}

#[test]
fn rack_of_15() {
    a_rack_dies(300, 15);
}

#[test]
#[ignore = "takes half a minute"]
fn rack_of_50() {
    a_rack_dies(1000, 50);
}

/// One of twenty dies at once: what a node sends meanwhile stays bounded, and all know of all.
fn a_rack_dies(nodes: usize, dead: u32) {
    let mut world = rings(nodes, 9);
    (0..dead).for_each(|n| world.crash(n, false));
    let sent = |world: &World| (0..nodes as u32).map(|n| world.host(n).sent().0).collect::<Vec<_>>();
    let (mut before, mut peak) = (sent(&world), 0);
    for _ in 0..8 {
        world.run_for(SECOND);
        let now = sent(&world);
        peak = now.iter().zip(&before).map(|(now, before)| now - before).max().unwrap().max(peak);
        before = now;
    }
    assert!((0..dead).all(|n| calls(&world, n, Down) == nodes - dead as usize), "all are known after 8 s");
    println!("{dead} of {nodes}: at most {peak} datagrams a node and second");
    assert!(peak <= 300, "a node sent {peak} datagrams in a second");
    assert_eq!(changes(&mut world).iter().filter(|c| c.2 == Down && c.1 >= dead).count(), 0);
}
