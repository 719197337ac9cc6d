//! Nobody is blamed for a time in which a node did not listen: stalls, and floods of its queue.

use super::*;
use PeerStatus::{Down, Healthy};

#[test]
fn wake_after_30s() {
    // One answer a peer, the leader's pings once more, answers to who pings then; all of it spread.
    let mut cluster = whole(64, 15);
    cluster.sleep(0, 30 * SECOND);
    cluster.run(30 * SECOND - MS);
    let (before, mut peak) = (cluster.sent[0], 0);
    for _ in 0..70 {
        let now = cluster.sent[0];
        cluster.run(MS);
        peak = peak.max(cluster.sent[0] - now);
    }
    let all = cluster.sent[0] - before;
    assert!(all <= 150 && peak <= 12, "{all} datagrams, at most {peak} in a millisecond");
}

#[test]
fn nobody_is_blamed_for_a_sleep() {
    for length in [300 * MS, 2 * SECOND, 30 * SECOND] {
        let mut cluster = whole(32, 15);
        cluster.sleep(0, length);
        cluster.run(length);
        cluster.sent[0] = 0;
        cluster.take_changes();
        cluster.run(60 * MS);
        let burst = cluster.sent[0];
        assert!(burst <= 4 * 31, "{burst} datagrams within 60 ms of waking after {length:?}");
        cluster.run(10 * SECOND);
        let blamed: Vec<_> = cluster.take_changes().into_iter().filter(|c| c.0 == 0).collect();
        assert_eq!(blamed, [], "nobody is blamed for the sleep of another, {length:?}");
        assert!(cluster.is_whole());
        assert_eq!(cluster.node(1).stats().false_downs, 0, "it told that it slept");
        if length > SECOND {
            assert!(cluster.node(0).stats().stalls >= 1);
        }
    }
}

#[test]
fn a_suspended_machine_is_told_from_a_stopped_process() {
    for (suspended, told) in
        [(30, "the machine was suspended for 30.0s"), (3, "stopped, or starved of CPU"), (0, "stopped")]
    {
        let mut cluster = whole(2, 15);
        cluster.sleep(0, 30 * SECOND);
        cluster.run(30 * SECOND - MS);
        let now = cluster.now;
        cluster.nodes[0].as_mut().unwrap().handle_suspension(SECOND * suspended, now);
        cluster.run(2 * MS);
        let why: Vec<String> = cluster
            .events
            .iter()
            .filter(|(_, event)| matches!(event.change, Change::Stall(_)))
            .map(|(_, event)| event.why.clone())
            .collect();
        assert!(why.len() == 1 && why[0].contains(told), "{why:?}");
    }
}

#[test]
fn paused_is_told() {
    let mut cluster = whole(2, 16);
    cluster.sleep(1, 4200 * MS);
    cluster.run(4200 * MS);
    cluster.run(1500 * MS);
    let view = cluster.view(1, 0);
    assert_eq!(view.verdict, Verdict::Paused, "{}", view.why);
    cluster.run(10 * SECOND);
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Up);
}

#[test]
fn a_pause_told_is_no_false_down_at_anybody() {
    for seed in 0..5 {
        let mut cluster = whole(16, seed);
        cluster.sleep(0, 30 * SECOND);
        cluster.run(45 * SECOND);
        assert!(cluster.is_whole());
        let wrong: Vec<_> = (1..16).filter(|n| cluster.node(*n).stats().false_downs > 0).collect();
        assert_eq!(wrong, [0; 0], "it told that it slept, seed {seed}");
    }
}

#[test]
fn waking_is_not_isolation() {
    let mut cluster = whole(4, 7);
    cluster.events.clear();
    cluster.sleep(0, 30 * SECOND);
    cluster.rule = cut(PATH, |_, to| to == 0);
    cluster.run(30 * SECOND - MS);
    cluster.rule = cut(PATH, |_, _| false);
    cluster.run(5 * SECOND);
    let isolated: Vec<_> = cluster
        .events
        .iter()
        .filter(|(n, e)| *n == 0 && matches!(e.change, Change::Health { to: SelfHealth::Isolated, .. }))
        .collect();
    assert!(isolated.is_empty(), "{isolated:?}");
}

#[test]
fn periodic_stall() {
    // A node that stalls for ever still detects, later by the inverse of its awake share, and blames nobody.
    for (awake, stalled, limit) in
        [(450, 300, 5900), (300, 300, 6100), (400, 2000, 13_100), (256, 1000, 7200)]
    {
        for seed in 0..6 {
            let mut cluster = whole(3, 17 + seed);
            let mut crashed = None;
            let crash_at = cluster.now + 20 * SECOND + MS * 157 * seed as u32;
            while crashed.is_none() || cluster.status(2, 0) != Down {
                for step in 0..awake + stalled {
                    if step == awake {
                        cluster.sleep(0, MS * stalled);
                    }
                    cluster.run(MS);
                    if crashed.is_none() && cluster.now >= crash_at {
                        let blamed: Vec<_> =
                            cluster.take_changes().into_iter().filter(|c| c.0 == 0).collect();
                        assert_eq!(blamed, [], "awake {awake}, stalled {stalled}");
                        cluster.crash(2);
                        crashed = Some(cluster.now);
                    }
                    if crashed.is_some() && cluster.status(2, 0) == Down {
                        break;
                    }
                }
                let took = crashed.map_or(Duration::ZERO, |at| cluster.now.since(at));
                assert!(took <= MS * limit, "awake {awake}, stalled {stalled}, seed {seed}: {took:?}");
            }
            assert_eq!(cluster.status(1, 0), Healthy);
        }
    }
}

#[test]
fn a_flooded_heartbeat_is_void() {
    let mut cluster = whole(2, 18);
    cluster.rule = cut(PATH, |from, _| from == 1);
    for _ in 0..30 {
        cluster.run(100 * MS);
        let now = cluster.now;
        cluster.nodes[0].as_mut().unwrap().handle_drops(1, now);
    }
    assert_eq!(cluster.status(1, 0), Healthy);
    assert_eq!(cluster.node(0).snapshot(cluster.now).self_health, SelfHealth::Flooded);
    cluster.run_until(12 * SECOND, |c| c.status(1, 0) == Down);
}

#[test]
fn what_the_kernel_keeps_out_voids_nothing() {
    let mut cluster = whole(2, 18);
    cluster.rule = cut(PATH, |from, _| from == 1);
    for _ in 0..70 {
        cluster.run(100 * MS);
        let now = cluster.now;
        cluster.nodes[0].as_mut().unwrap().handle_filtered(9, true, now);
    }
    assert_eq!(cluster.status(1, 0), Down, "as soon as ever");
    let snapshot = cluster.node(0).snapshot(cluster.now);
    assert_eq!(snapshot.self_health, SelfHealth::Flooded);
    assert_eq!((snapshot.stats.socket_filtered, snapshot.stats.socket_drops), (630, 0));
}

#[test]
fn expected_are_frames_of_peers_from_where_they_come() {
    let mut cluster = whole(2, 22);
    let expected = cluster.node(0).expected();
    assert_eq!(expected.sources, [address(1)]);
    assert_eq!((expected.kinds, expected.longest), ([0x4C, 0x6C], 1200));
    assert_eq!(expected.key_ids.len(), 1);
    let now = cluster.now;
    cluster.nodes[0].as_mut().unwrap().set_address(0, address(9), now);
    assert_eq!(cluster.node(0).expected().sources, [address(9)]);
    // Nobody is there, and the peer answers from its old address.
    cluster.run(10 * SECOND);
    assert_eq!(
        cluster.node(0).expected().sources,
        [address(1), address(9)],
        "the learned one and the roster's"
    );
}

#[test]
fn a_void_heartbeat_does_not_mend_a_cut_link() {
    let mut cluster = whole(2, 3);
    cluster.rule = cut(PATH, |_, _| true);
    cluster.run(20 * SECOND);
    assert!(!cluster.view(1, 0).link.is_active);
    for _ in 0..600 {
        cluster.run(100 * MS);
        let now = cluster.now;
        cluster.nodes[0].as_mut().unwrap().handle_drops(1, now);
        assert!(!cluster.view(1, 0).link.is_active, "no echo came");
    }
}

#[test]
fn queue_flood() {
    let mut worst = Duration::ZERO;
    for seed in 0..10 {
        // Enough nodes that something is heard of somebody: an isolated node calls nobody Down.
        let mut cluster = whole(8, 30 + seed);
        let mut n = 0u64;
        // Nine of ten datagrams to node 0 are dropped by its kernel.
        cluster.rule = Box::new(move |p, _| {
            n += 1;
            if p.to == 0 && !(n.wrapping_mul(0x9E3779B97F4A7C15) >> 32).is_multiple_of(10) {
                Fate::Lost
            } else {
                Fate::After(PATH)
            }
        });
        let mut took = None;
        let mut crashed = None;
        for step in 0..300 {
            cluster.run(100 * MS);
            let now = cluster.now;
            cluster.nodes[0].as_mut().unwrap().handle_drops(10, now);
            if step == 100 {
                cluster.crash(2);
                crashed = Some(now);
            }
            if let Some(at) = crashed.filter(|_| took.is_none() && cluster.status(2, 0) == Down) {
                took = Some(now.since(at));
            }
        }
        let took = took.expect("the crash is seen");
        worst = worst.max(took);
        let wrong: Vec<_> =
            cluster.take_changes().into_iter().filter(|c| c.2 == Down && c.1 != name(2)).collect();
        assert_eq!(wrong, [], "seed {seed}");
    }
    assert!(worst <= 11 * SECOND, "{worst:?}");
}
