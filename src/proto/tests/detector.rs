//! The rules of the detector, each by the failure that it mends.

use std::sync::Arc;

use super::*;
use PeerStatus::{Down, Healthy, Suspected};

#[test]
fn starting_nodes_find_each_other_within_two_intervals() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(5, seed);
        assert!(
            !cluster.node(0).snapshot(cluster.now).status.is_quorum_available(),
            "presumed is not proven"
        );
        cluster.run_until(2 * SECOND, Cluster::is_whole);
        assert_eq!(cluster.take_changes(), [], "nobody was ever anything but Healthy");
        assert!(cluster.node(0).snapshot(cluster.now).status.is_quorum_available());
    }
}

#[test]
fn one_exchange_a_pair() {
    for (nodes, seed) in [(2, 1), (5, 2), (16, 3)] {
        let mut cluster = whole(nodes, seed);
        cluster.sent.fill(0);
        cluster.run(100 * SECOND);
        let mean = cluster.sent.iter().sum::<usize>() as f64 / nodes as f64 / 100.0;
        assert!(
            (mean - (nodes - 1) as f64).abs() < 0.05,
            "{mean} datagrams a node an interval of {nodes} nodes"
        );
        let retries: u64 = cluster.nodes.iter().flatten().map(|n| n.stats().heartbeat_retries).sum();
        assert!(retries <= nodes as u64 * 4, "a clean network pays nothing for retries: {retries}");
        assert_eq!(cluster.take_changes(), []);
        assert!(cluster.is_whole());
    }
}

#[test]
fn follower_latency() {
    // A silent crash is seen by the leader and the follower of a pair alike, within 5 intervals and a timeout.
    for seed in 0..40 {
        let mut cluster = whole(2, seed);
        cluster.run(SECOND.mul_f64(seed as f64 / 40.0));
        for crashed in [0, 1] {
            cluster.crash(crashed);
            let took = cluster.run_until(6 * SECOND, |c| c.status(crashed, 1 - crashed) == Down);
            assert!(took <= 5 * SECOND + 510 * MS, "{took:?}, seed {seed}");
            assert!(took >= 4 * SECOND, "{took:?}: no Down without five misses");
            cluster.start(crashed);
            cluster.run_until(12 * SECOND, Cluster::is_whole);
            cluster.run(5 * SECOND);
        }
    }
}

#[test]
fn two_misses_suspect_and_five_are_down() {
    let mut cluster = whole(3, 4);
    cluster.crash(2);
    cluster.run(8 * SECOND);
    let changes = cluster.take_changes();
    for observer in [0, 1] {
        let mine: Vec<_> = changes.iter().filter(|c| c.0 == observer).map(|c| c.2).collect();
        assert_eq!(mine, [Suspected, Down]);
    }
    assert_eq!(cluster.view(2, 0).verdict, Verdict::Down);
    assert!(cluster.node(0).snapshot(cluster.now).status.is_degraded);
}

#[test]
fn slow_path() {
    // A round trip of 800 ms and a timeout of 500.
    let mut cluster = Cluster::new(16, 5);
    cluster.rule = Box::new(|_, _| Fate::After(400 * MS));
    cluster.run(60 * SECOND);
    cluster.take_changes();
    cluster.sent.fill(0);
    let missed = |c: &Cluster| c.nodes.iter().flatten().map(|n| n.stats().heartbeats_missed).sum::<u64>();
    let before = missed(&cluster);
    cluster.run(200 * SECOND);
    assert_eq!(cluster.take_changes(), []);
    assert_eq!(missed(&cluster), before, "every follower finds its leader's slots");
    let mean = cluster.sent.iter().sum::<usize>() as f64 / 16.0 / 200.0;
    assert!(mean < 15.2, "{mean} datagrams a node an interval");
}

#[test]
fn on_a_slow_path_a_restart_is_found_by_hellos() {
    // 1 cannot reach 0 by itself (its name does not resolve there): it answers only. It restarts.
    for one_way in [PATH, 400 * MS] {
        fn nowhere(config: &mut PeerConfig) {
            if &*config.server_id == "node-1" {
                Arc::make_mut(&mut config.static_peers)[0].address = None;
            }
        }
        let mut cluster = Cluster::with(2, 6, nowhere);
        cluster.rule = Box::new(move |_, _| Fate::After(one_way));
        cluster.run_until(10 * SECOND, Cluster::is_whole);
        cluster.run(30 * SECOND);
        cluster.crash(1);
        cluster.run(10 * SECOND);
        cluster.start(1);
        cluster.run(60 * SECOND);
        assert_eq!(cluster.status(1, 0), Healthy, "a path of {one_way:?}");
    }
}

#[test]
fn echo_one_period_old() {
    for path in [MS / 10, 50 * MS, 100 * MS] {
        let mut cluster = Cluster::new(16, 6);
        cluster.rule = Box::new(move |_, _| Fate::After(path));
        cluster.run(10 * SECOND);
        let missed = |c: &Cluster| c.nodes.iter().flatten().map(|n| n.stats().heartbeats_missed).sum::<u64>();
        let before = missed(&cluster);
        cluster.sent.fill(0);
        cluster.run(100 * SECOND);
        assert_eq!(missed(&cluster), before, "no miss on a path of {path:?}");
        let mean = cluster.sent.iter().sum::<usize>() as f64 / 16.0 / 100.0;
        assert!((14.9..15.4).contains(&mean), "{mean} datagrams a node an interval on a path of {path:?}");
    }
}

#[test]
fn lazy_loops_cost_nothing_and_miss_nothing() {
    for path in [MS / 10, 50 * MS, 100 * MS] {
        let mut cluster = Cluster::new(16, 6);
        cluster.lazy = true;
        cluster.rule = Box::new(move |_, _| Fate::After(path));
        cluster.run(20 * SECOND);
        let missed = |c: &Cluster| c.nodes.iter().flatten().map(|n| n.stats().heartbeats_missed).sum::<u64>();
        let before = missed(&cluster);
        cluster.sent.fill(0);
        cluster.run(100 * SECOND);
        assert_eq!(missed(&cluster), before, "no miss on a path of {path:?}");
        let mean = cluster.sent.iter().sum::<usize>() as f64 / 16.0 / 100.0;
        assert!((14.9..15.4).contains(&mean), "{mean} datagrams a node an interval on a path of {path:?}");
        // What is true of the path stays true: the wait in the socket is in no round-trip time.
        let rtt = cluster.view(1, 0).link.rtt.unwrap();
        assert!(rtt.abs_diff(path * 2) < MS, "{rtt:?} on a path of {path:?}");
    }
}

#[test]
fn lazy_loops_detect_as_fast() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(5, seed);
        cluster.lazy = true;
        cluster.run_until(3 * SECOND, Cluster::is_whole);
        cluster.run(5 * SECOND + SECOND.mul_f64(seed as f64 / 20.0));
        cluster.take_changes();
        cluster.crash(4);
        let took = cluster.run_until(6 * SECOND, |c| (0..4).all(|at| c.status(4, at) == Down));
        assert!(took <= 5 * SECOND + 510 * MS + 50 * MS, "{took:?}: one rest more at most; seed {seed}");
        assert!(cluster.take_changes().iter().all(|(_, of, _)| *of == name(4)), "nobody else is touched");
    }
}

#[test]
fn retries_come_before_a_miss() {
    // Every third datagram is lost: no heartbeat is missed, since it is tried again.
    let mut cluster = whole(2, 7);
    let mut number = 0;
    cluster.rule = Box::new(move |_, _| {
        number += 1;
        if number % 3 == 0 { Fate::Lost } else { Fate::After(PATH) }
    });
    cluster.run(60 * SECOND);
    assert_eq!(cluster.take_changes(), []);
    assert!(cluster.nodes.iter().flatten().any(|n| n.stats().heartbeat_retries > 10));
}

#[test]
fn a_one_way_cut_is_no_death() {
    // What node 1 sends to node 0 passes; the other direction does not. Node 2 hears both, and is asked.
    let mut cluster = whole(3, 10);
    cluster.rule = cut(PATH, |from, to| from == 0 && to == 1);
    cluster.run(120 * SECOND);
    assert_eq!(cluster.view(1, 0).verdict, Verdict::OneWay, "{}", cluster.view(1, 0).why);
    assert_eq!(cluster.view(0, 1).verdict, Verdict::OneWay, "{}", cluster.view(0, 1).why);
    assert!(
        cluster.view(0, 1).why.ends_with("I do not hear it")
            && cluster.view(1, 0).why.ends_with("does not hear me")
    );
    for (of, at) in [(0, 1), (1, 0)] {
        let view = cluster.view(of, at);
        assert_eq!((view.status, view.link.is_active, view.proven), (Healthy, false, true), "{of} at {at}");
    }
    assert_eq!(cluster.take_changes(), [], "and nobody flaps");
    cluster.rule = cut(PATH, |_, _| false);
    let took = cluster.run_until(3 * SECOND, |c| c.view(0, 1).verdict == Verdict::Up);
    assert!(took <= 2 * SECOND, "{took:?}");
}

#[test]
fn without_anybody_to_ask_a_one_way_cut_is_down_at_one_end() {
    let mut cluster = whole(2, 10);
    cluster.rule = cut(PATH, |from, to| from == 0 && to == 1);
    cluster.run(120 * SECOND);
    assert_eq!(cluster.view(1, 0).verdict, Verdict::OneWay, "{}", cluster.view(1, 0).why);
    assert_eq!(cluster.status(1, 0), Healthy);
    assert!(!cluster.view(1, 0).link.is_active && !cluster.view(1, 0).proven);
    assert_eq!(cluster.status(0, 1), Down, "nothing reaches node 1");
    let changes = cluster.take_changes();
    assert_eq!(changes, [(1, name(0), Suspected), (1, name(0), Down)], "and nobody flaps");
    cluster.rule = cut(PATH, |_, _| false);
    let took = cluster.run_until(13 * SECOND, Cluster::is_whole);
    assert!(took < 13 * SECOND, "{took:?}");
}

#[test]
fn one_way_backoff() {
    // D is deaf and backs off; its pings announce their spacing, and cover it at every hearer.
    let mut cluster = whole(5, 11);
    cluster.rule = cut(PATH, |_, to| to == 4);
    cluster.run(300 * SECOND);
    let changes = cluster.take_changes();
    assert!(changes.iter().all(|(at, ..)| *at == 4), "hearers changed: {changes:?}");
    cluster.crash(4);
    let took = cluster.run_until(20 * SECOND, |c| (0..4).all(|at| c.status(4, at) == Down));
    assert!(took <= 15 * SECOND + 500 * MS, "{took:?}: its spacing and five misses");
}

#[test]
fn who_was_isolated_pings_no_later_than_it_told() {
    // Each hears one of the others, and is not heard by it: all back off, and are isolated between two pings.
    for seed in 1..=10 {
        let mut cluster = whole(3, seed);
        cluster.rule = cut(PATH, |from, to| to != (from + 1) % 3);
        cluster.run(300 * SECOND);
        let mut changes = cluster.take_changes();
        changes.retain(|(at, of, _)| *of == name((at + 2) % 3));
        assert_eq!(changes, [], "seed {seed}: these are heard");
    }
}

#[test]
fn leave_reordered() {
    let mut cluster = whole(2, 13);
    // A pong sent before the Leave arrives after it.
    cluster.rule = Box::new(|p, _| Fate::After(if p.from == 1 { 300 * MS } else { PATH }));
    cluster
        .run_until(2 * SECOND, |c| c.air.values().any(|a| matches!(a, Arrival::Datagram(p) if p.from == 1)));
    cluster.rule = cut(PATH, |_, _| false);
    let now = cluster.now;
    cluster.nodes[1].as_mut().unwrap().leave(LeaveReason::Restart, now);
    cluster.run(100 * MS);
    assert!(cluster.node(1).has_left());
    cluster.crash(1);
    cluster.run(10 * SECOND);
    assert_eq!(cluster.take_changes(), [(0, name(1), Down)], "left, and no alarm before or after");
    let view = cluster.view(1, 0);
    assert_eq!(view.verdict, Verdict::Left);
    assert!(!cluster.node(0).snapshot(cluster.now).status.is_degraded, "a planned leave is no alarm");
    cluster.run(600 * SECOND);
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Down, "it has not come back");
    cluster.start(1);
    cluster.run_until(2 * SECOND, Cluster::is_whole);
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Up);
}

#[test]
fn restart_is_told_even_when_nobody_missed_a_heartbeat() {
    let mut cluster = whole(3, 14);
    cluster.crash(2);
    cluster.start(2);
    cluster.run_until(2 * SECOND, Cluster::is_whole);
    cluster.run(SECOND);
    let restarts = cluster.events.iter().filter(|(_, e)| e.change == Change::Restart).count();
    assert_eq!(restarts, 2, "one at each observer");
    assert_eq!(cluster.take_changes(), []);
}

#[test]
fn back_off_doubles_and_one_recovery_pings_all() {
    let mut cluster = whole(6, 19);
    for node in [3, 4, 5] {
        cluster.crash(node);
    }
    cluster.run(60 * SECOND);
    cluster.sent.fill(0);
    cluster.run(100 * SECOND);
    let to_dead = cluster.sent[0] as f64 - 200.0;
    assert!(
        (200.0..340.0).contains(&to_dead),
        "three Down peers, two tries, three questions and three answers each, at spacings of 5 to 10: {to_dead} in 100 s"
    );
    // They come back behind a cut, which then ends: whoever is heard first brings the others back.
    cluster.rule = cut(PATH, |from, to| (from < 3) != (to < 3));
    for node in [3, 4, 5] {
        cluster.start(node);
    }
    cluster.run(60 * SECOND);
    cluster.rule = cut(PATH, |_, _| false);
    let took = cluster.run_until(12 * SECOND, Cluster::is_whole);
    assert!(took <= 8 * SECOND, "healed after {took:?}");
}

#[test]
fn early_quorum() {
    // Half of the nodes are missing at the start: none is presumed into a quorum.
    let mut cluster = Cluster::new(4, 20);
    cluster.crash(2);
    cluster.crash(3);
    for _ in 0..100 {
        cluster.run(100 * MS);
        assert!(!cluster.node(0).snapshot(cluster.now).status.is_quorum_available());
    }
    assert_eq!(cluster.view(2, 0).verdict, Verdict::Unknown);
    assert!(!cluster.node(0).snapshot(cluster.now).status.is_degraded, "never heard is no alarm");
}

#[test]
fn who_restarts_is_told_of_the_dead() {
    let mut cluster = whole(4, 20);
    cluster.crash(3);
    cluster.run(20 * SECOND);
    cluster.crash(0);
    cluster.start(0);
    let mut verdicts = Vec::new();
    for _ in 0..100 {
        cluster.run(100 * MS);
        verdicts.push(cluster.view(3, 0).verdict);
        let snapshot = cluster.node(0).snapshot(cluster.now);
        assert_eq!(snapshot.status.is_degraded, snapshot.degraded_peers > 0);
    }
    verdicts.dedup();
    let peer = cluster.view(3, 0);
    assert_eq!(verdicts, [Verdict::Unknown, Verdict::Up, Verdict::Down], "unknown, suspected, down");
    assert!(peer.why.ends_with("2 of 3 say down, 1 have no say"), "{}", peer.why);
    assert!(cluster.node(0).snapshot(cluster.now).status.is_degraded, "the others have heard it");
}

#[test]
fn a_partition_leaves_one_quorum_at_most() {
    let mut cluster = whole(5, 21);
    cluster.rule = cut(PATH, |from, to| (from < 2) != (to < 2));
    cluster.run(3 * SECOND);
    for step in 0..100 {
        cluster.run(100 * MS);
        let quorum = |n: usize| cluster.node(n).snapshot(cluster.now).status.is_quorum_available();
        assert!(!quorum(0) && !quorum(1) && quorum(2), "step {step}");
    }
    cluster.rule = cut(PATH, |_, _| false);
    cluster.run_until(12 * SECOND, Cluster::is_whole);
    // Two heartbeats later they would have told of a pause.
    cluster.run(3 * SECOND);
    assert!(cluster.nodes.iter().flatten().any(|n| n.stats().false_downs > 0), "the detector grades itself");
}

#[test]
fn a_moved_peer_is_followed() {
    let mut cluster = whole(2, 22);
    let to = address(9);
    let now = cluster.now;
    cluster.nodes[0].as_mut().unwrap().set_address(0, to, now);
    assert_eq!(
        cluster.view(1, 0).address,
        Some(to),
        "a name that resolves to another address moves the link"
    );
    // Nobody is there, but the peer still answers from its old address.
    cluster.run(10 * SECOND);
    assert_eq!(cluster.view(1, 0).address, Some(address(1)));
    assert_eq!(cluster.take_changes(), []);
}

#[test]
fn an_old_address_is_forgotten() {
    let mut cluster = whole(3, 5);
    let now = cluster.now;
    let node = cluster.nodes[0].as_mut().unwrap();
    // 1 moves to the address of 2 by mistake of the DNS, and back.
    node.set_address(0, address(2), now);
    node.set_address(0, address(1), now);
    node.set_address(1, address(2), now);
    cluster.run(5 * SECOND);
    cluster.crash(2);
    cluster.rule = Box::new(|p, _| if p.to == 2 { Fate::Refused } else { Fate::After(PATH) });
    let took = cluster.run_until(7 * SECOND, |c| c.status(2, 0) == Down);
    assert!(took <= 2200 * MS, "refusals of 2 are not seen as such: {took:?}");
}
