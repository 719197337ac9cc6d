//! Evidence is dated: what is late proves as much as it should, on clocks that drift.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use PeerStatus::{Down, Healthy, Suspected};

#[test]
fn delayed_minute() {
    // Of a peer's datagrams every third goes on a detour of up to a minute; then the peer dies. What arrives
    // later is new and authentic, but it is dated, and proves nothing of today: Down once, in time, for good.
    for (nodes, dead) in [(2, 0), (2, 1), (3, 1)] {
        for seed in 0..8 {
            let mut cluster = Cluster::new(nodes, 80 + seed);
            cluster.drift = (0..nodes).map(|n| if n == dead { -200 } else { 200 }).collect();
            (0..nodes).for_each(|node| cluster.start(node));
            cluster.run(8 * SECOND);
            cluster.take_changes();
            let mut n = 0u32;
            cluster.rule = Box::new(move |p, _| {
                n += u32::from(p.from == dead);
                let late = p.from == dead && n.is_multiple_of(3);
                Fate::After(if late { SECOND + SECOND * (n * 7 % 59) } else { PATH })
            });
            cluster.run(20 * SECOND + SECOND.mul_f64(seed as f64 / 8.0));
            assert_eq!(cluster.take_changes(), [], "alive until now");
            cluster.crash(dead);
            let observers: Vec<usize> = (0..nodes).filter(|n| *n != dead).collect();
            let heard = |c: &Cluster| observers.iter().map(|n| c.view(dead, *n).bytes_received).sum::<u64>();
            // The end of an interval is the observer's; 5.5 s and what its clock is off in these.
            let limit = 5 * SECOND + 510 * MS;
            cluster.run_until(limit, |c| observers.iter().all(|n| c.status(dead, *n) == Down));
            let early = heard(&cluster);
            for _ in 0..700 {
                cluster.run(100 * MS);
                for n in &observers {
                    let view = cluster.view(dead, *n);
                    assert_eq!(view.status, Down, "nodes {nodes}, dead {dead}, seed {seed}");
                    assert!(view.missed_heartbeats >= 2, "{} misses", view.missed_heartbeats);
                }
            }
            assert!(heard(&cluster) > early, "late datagrams came, and were taken for authentic");
            let mut changes = cluster.take_changes();
            changes.sort_by_key(|c| c.0);
            let expected: Vec<_> = observers
                .iter()
                .flat_map(|n| [(*n, name(dead), Suspected), (*n, name(dead), Down)])
                .collect();
            assert_eq!(changes, expected, "nodes {nodes}, dead {dead}, seed {seed}");
        }
    }
}

#[test]
fn a_peer_that_hears_nothing_for_long_still_proves_its_life() {
    // 1 hears 0 until its answers are lost; when they pass again, it is deaf. Its datagrams are authentic and
    // new: it lives.
    for silent in [10, 20, 40, 80, 300] {
        let mut cluster = whole(2, 4);
        cluster.rule = cut(PATH, |from, _| from == 1);
        cluster.run(2 * SECOND);
        cluster.rule = cut(PATH, |_, _| true);
        cluster.run(SECOND * silent);
        cluster.rule = cut(PATH, |from, _| from == 0);
        cluster.run(60 * SECOND);
        let view = cluster.view(1, 0);
        assert_eq!((view.status, view.verdict), (Healthy, Verdict::OneWay), "{silent} s: {}", view.why);
    }
}

#[test]
fn a_pause_between_sealing_and_sending_costs_nobody() {
    // Node 0 stands still for 6 s with a sealed datagram in its hands, and nothing that it sends later arrives. Whatever
    // node 1 says echoes that datagram, which left 6 s after it was dated: without the report each such echo was 6 s old,
    // and node 1 was Down though it spoke all the time.
    for seed in 0..8 {
        let mut cluster = whole(2, 20 + seed);
        cluster.paused.insert(0, 6 * SECOND);
        cluster.run_until(2 * SECOND, |c| c.paused.is_empty());
        assert!(cluster.paused.is_empty(), "it has sent something");
        cluster.rule = cut(PATH, |from, _| from == 0);
        let woke = cluster.now + 6 * SECOND;
        // The datagrams in its hands are answered as soon as it goes on.
        let heard = |c: &Cluster| c.now > woke && c.view(1, 0).last_seen >= Some(woke);
        assert!(
            cluster.run_until(7 * SECOND, heard) < 7 * SECOND,
            "seed {seed}: dated by when they can have left"
        );
        // What proves that node 1 hears node 0 is dated by the sealing.
        let proven = cluster.node(0).registry().get_cluster_status(cluster.now).proven_peers;
        assert_eq!(proven, 1, "seed {seed}: only itself");
        cluster.run(60 * SECOND);
        assert_eq!(cluster.take_changes().iter().filter(|c| c.0 == 0).count(), 0, "seed {seed}");
    }
}

#[test]
fn the_time_that_a_datagram_waited_is_in_its_hold() {
    // All datagrams wait 200 ms before the shell takes them: no round trip is longer for that, and no evidence older.
    let mut cluster = whole(2, 3);
    let mut nodes: Vec<Node> = cluster.nodes.drain(..).flatten().collect();
    let (mut now, mut buffer, mut measured) = (cluster.now, Vec::new(), 0);
    for _ in 0..40 {
        now = nodes.iter().filter_map(Node::poll_timeout).min().unwrap().max(now);
        nodes.iter_mut().for_each(|node| node.handle_timeout(now));
        for from in [0, 1, 0, 1] {
            now += 200 * MS;
            while nodes[from].poll_transmit(now, &mut buffer).is_some() {
                let arrived = nodes[1 - from].handle_datagram(address(from), None, &mut buffer, now, now);
                assert_eq!(arrived, Ok(()));
            }
            nodes[from].handle_sent(now);
            while let Some(rtt) = nodes[1 - from].poll_rtt() {
                assert!(rtt <= MS, "{rtt:?}: it only waited");
                measured += 1;
            }
        }
    }
    assert!(measured > 10, "{measured}");
}

/// True times at which the newest datagram that reached each node left each other one: (from, to).
type Left = Rc<RefCell<BTreeMap<(usize, usize), Time>>>;

/// A rule that notes in `left` when what passes was sent.
fn noting(left: &Left, base: Duration, cut: impl Fn(usize, usize) -> bool + 'static) -> Rule {
    let left = left.clone();
    Box::new(move |p, now| {
        if cut(p.from, p.to) {
            return Fate::Lost;
        }
        // A hello dates nothing.
        if p.bytes[0] == 0x4C {
            left.borrow_mut().insert((p.from, p.to), now);
        }
        Fate::After(base)
    })
}

/// Clocks of +200, -200 and 0 ppm; node 1 is deaf to node 0, so that its datagrams echo ever older ones. Node 2 is
/// suspended for a minute in the middle. Looks `looks` times, every `every`.
fn drift(change: fn(&mut PeerConfig), ppm: [i64; 3], looks: u32, every: Duration) {
    let mut cluster = Cluster::with(3, 9, change);
    let interval = cluster.node(0).config().heartbeat_interval;
    cluster.drift = ppm.to_vec();
    (0..3).for_each(|node| cluster.start(node));
    cluster.run_until(3 * interval, Cluster::is_whole);
    cluster.run(5 * interval);
    let left = Left::default();
    let deaf = |from, to| from == 0 && to == 1;
    cluster.rule = noting(&left, PATH, deaf);
    cluster.run(12 * interval);
    assert_eq!(cluster.status(0, 1), Down, "nothing reaches node 1");
    cluster.take_changes();
    for look in 0..looks {
        if look == looks / 2 {
            // Suspended, a machine receives nothing either.
            cluster.rule = noting(&left, PATH, move |from, to| deaf(from, to) || to == 2);
            cluster.sleep(2, 60 * SECOND);
            cluster.run(60 * SECOND);
            cluster.rule = noting(&left, PATH, deaf);
            cluster.run(14 * interval);
            for (at, of, to) in cluster.take_changes() {
                assert!(at != 2 && of == name(2), "{at} says that {of} is {to}");
            }
            assert!(
                [0, 1].iter().all(|n| cluster.node(*n).stats().false_downs == 0),
                "it told that it slept"
            );
        }
        cluster.run(every);
        for ((from, to), at) in left.borrow().iter().filter(|((_, to), _)| cluster.nodes[*to].is_some()) {
            let seen = cluster.view(*from, *to).last_seen.expect("it is heard");
            // What is on its way has not arrived.
            let truth = cluster.local(*to, if cluster.now.since(*at) <= PATH { continue } else { *at });
            let off = seen.since(truth).max(truth.since(seen));
            let limit = if (*from, *to) == (1, 0) { SECOND } else { interval.mul_f64(4e-4) + MS };
            assert!(off <= limit, "{from} at {to}: dated {off:?} off, look {look}");
        }
    }
    assert_eq!(cluster.take_changes(), [], "no false alarm");
    assert_eq!(cluster.view(1, 0).verdict, Verdict::OneWay, "{}", cluster.view(1, 0).why);
}

#[test]
fn drift_hours() {
    // Around the age at which an echo dates by arrival.
    fn alone(config: &mut PeerConfig) {
        config.mechanisms.relays = false;
    }
    drift(alone, [200, -200, 0], 160, 50 * SECOND);
    drift(alone, [-200, 200, 0], 160, 50 * SECOND);
}

#[test]
fn drift_days() {
    // Three days; the heartbeats are slow so that the test is not.
    fn slow(config: &mut PeerConfig) {
        config.heartbeat_interval = 10 * SECOND;
        config.heartbeat_timeout = 5 * SECOND;
        config.max_backoff = 100 * SECOND;
        config.mechanisms.relays = false;
    }
    drift(slow, [200, -200, 0], 300, 864 * SECOND);
    drift(slow, [-200, 200, 0], 300, 864 * SECOND);
}
