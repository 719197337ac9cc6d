//! The contract of the core's face: any order, any number, no allocation, same bytes.

use std::sync::Arc;

use super::counting::allocated;
use super::*;

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = || {
        let mut cluster = Cluster::new(4, 77);
        let mut hasher = blake3::Hasher::new();
        for _ in 0..50 {
            cluster.run(100 * MS);
            for ((at, _), arrival) in &cluster.air {
                let (Arrival::Datagram(p) | Arrival::Refusal(p)) = arrival;
                hasher.update(&at.as_micros().to_le_bytes());
                hasher.update(&p.bytes);
            }
        }
        (hasher.finalize(), cluster.sent.clone())
    };
    assert_eq!(run(), run());
}

#[test]
fn timeouts_early_late_and_twice_are_safe_and_time_stands_still() {
    let mut cluster = Cluster::new(2, 1);
    cluster.run(5 * SECOND);
    cluster.take_changes();
    for _ in 0..3000 {
        cluster.run(MS);
        let now = cluster.now;
        let node = cluster.nodes[0].as_mut().unwrap();
        for at in [now, now, now - 10 * SECOND, Time::ZERO] {
            node.handle_timeout(at);
            assert!(node.poll_timeout().unwrap() > now);
        }
    }
    assert_eq!(cluster.take_changes(), []);
}

#[test]
fn outputs_are_bounded_when_nobody_drains_them() {
    let cluster = Cluster::new(3, 2);
    let config = cluster.node(0).config().clone();
    let keys = Keyring::new("test", &[], true).unwrap();
    let mut node = Node::new(config, keys, Instance(1), 1, Time::ZERO).unwrap();
    for second in 0..10_000 {
        node.handle_timeout(Time::ZERO + SECOND * second);
    }
    assert!(node.stats().outputs_dropped > 0);
    let (mut buffer, mut left) = (Vec::new(), 0);
    while node.poll_transmit(Time::ZERO, &mut buffer).is_some() {
        assert!(buffer.len() <= 1200);
        left += 1;
    }
    assert!(left <= 4 * 2 + 64, "{left}");
}

#[test]
fn events_of_this_node_are_not_lost_among_the_many() {
    let address = |n: u16| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 7946));
    let entry = |n: u16| StaticPeer {
        server_id: Some(format!("n{n}").into()),
        name: format!("n{n}").into(),
        address: Some(address(n)),
    };
    let config = PeerConfig {
        observers: Observers::All,
        ..PeerConfig::new("n0", "test", address(0), (1..=1100).map(entry).collect())
    };
    let keys = Keyring::new("test", &[], true).unwrap();
    let mut node = Node::new(config, keys, Instance(1), 1, Time::ZERO).unwrap();
    let mut buffer = Vec::new();
    // All become Suspected, and nobody drains that; then the loop stalls.
    while let Some(at) = node.poll_timeout().filter(|at| *at < Time::ZERO + 6 * SECOND) {
        node.handle_timeout(at);
        while node.poll_transmit(at, &mut buffer).is_some() {}
    }
    node.handle_timeout(Time::ZERO + 12 * SECOND);
    let told: Vec<Event> = std::iter::from_fn(|| node.poll_event()).collect();
    let own: Vec<&str> = told.iter().filter(|e| e.peer.is_none()).map(|e| e.change.kind()).collect();
    assert!(own.len() >= 2 && matches!(told.last().unwrap().change, Change::Stall(_)), "{own:?}");
    assert!((1024..1024 + 64).contains(&told.len()), "{}", told.len());
    assert!(node.stats().events_dropped > 0 && node.stats().outputs_dropped == 0, "{:?}", node.stats());
}

#[test]
fn extreme_times_and_garbage_do_not_panic() {
    let mut cluster = Cluster::new(2, 3);
    cluster.run(3 * SECOND);
    for at in [Time::ZERO, Time::from_micros(u64::MAX - 1), Time::from_micros(u64::MAX)] {
        let node = cluster.nodes[0].as_mut().unwrap();
        let _ = node.handle_datagram(address(1), None, &mut [0x4C; 64], at, at);
        node.handle_drops(u64::MAX / 4, at);
        for _ in 0..3 {
            node.handle_timeout(at);
        }
        let _ = node.snapshot(at);
    }
}

#[test]
fn an_entry_without_address_waits_for_one() {
    fn nowhere(config: &mut PeerConfig) {
        for peer in Arc::make_mut(&mut config.static_peers) {
            peer.address = None;
        }
    }
    let mut cluster = Cluster::with(2, 4, nowhere);
    cluster.run(3 * SECOND);
    assert_eq!(cluster.sent, [0, 0]);
    assert!(cluster.view(1, 0).why.contains("does not resolve"), "{}", cluster.view(1, 0).why);
    for node in [0, 1] {
        let now = cluster.now;
        cluster.nodes[node].as_mut().unwrap().set_address(0, address(1 - node), now);
    }
    cluster.run_until(3 * SECOND, Cluster::is_whole);
}

#[test]
fn the_steady_state_allocates_nothing() {
    let mut cluster = Cluster::new(2, 9);
    cluster.run(10 * SECOND);
    let mut nodes: Vec<Node> = cluster.nodes.into_iter().flatten().collect();
    let mut buffer = Vec::with_capacity(1200);
    let (mut now, mut datagrams, mut allocations) = (cluster.now, 0, 0);
    while datagrams < 2000 {
        for from in [0, 1] {
            while nodes[from].poll_transmit(now, &mut buffer).is_some() {
                let before = allocated().0;
                let arrived = nodes[1 - from].handle_datagram(address(from), None, &mut buffer, now, now);
                allocations += allocated().0 - before;
                assert_eq!(arrived, Ok(()));
                datagrams += 1;
            }
        }
        now = nodes.iter().filter_map(Node::poll_timeout).min().unwrap();
        let before = allocated().0;
        for node in &mut nodes {
            node.handle_timeout(now);
            while node.poll_rtt().is_some() {}
        }
        allocations += allocated().0 - before;
    }
    assert_eq!(allocations, 0, "in {datagrams} datagrams");
}

#[test]
fn an_undrained_outbox_stays_bounded() {
    // A shell that takes one datagram whenever it can, and never finds the queue empty.
    let mut cluster = whole(3, 4);
    let mut node = cluster.nodes[0].take().unwrap();
    let mut buffer = Vec::new();
    let mut now = cluster.now;
    let mut most = 0;
    for _ in 0..200_000 {
        now = now.max(node.poll_timeout().unwrap());
        node.handle_timeout(now);
        while node.out_len() > 2 {
            node.poll_transmit(now, &mut buffer);
        }
        most = most.max(node.out_bytes());
    }
    assert!(most <= 2 * (4 * 2 + 64) * 2048, "{most} bytes held for at most 72 datagrams");
}

#[test]
fn other_keys_another_roster_and_another_run_drop_what_waits() {
    // It could not be sealed any more as it was meant.
    type Change = fn(&mut Node, Time);
    let changes: [Change; 3] = [
        |node, now| node.set_keys(ring(&[7, 9]), now).unwrap(),
        |node, now| {
            let (peers, name) = (node.config().static_peers.clone(), node.config().own_name.clone());
            node.set_roster(peers, name, now).unwrap();
        },
        |node, now| node.renew(Instance(99), now),
    ];
    for change in changes {
        let mut cluster = whole(3, 5);
        let node = cluster.nodes[0].as_mut().unwrap();
        let mut now = cluster.now;
        while node.out_len() == 0 {
            now = node.poll_timeout().unwrap();
            node.handle_timeout(now);
        }
        change(node, now);
        assert_eq!(node.poll_transmit(now, &mut Vec::new()), None);
        cluster.now = now;
        cluster.run(5 * SECOND);
        assert!(cluster.is_whole() && cluster.take_changes().is_empty(), "and nobody misses it");
    }
}

#[test]
fn drops_do_not_overflow() {
    let mut cluster = whole(2, 1);
    let now = cluster.now;
    for _ in 0..2 {
        cluster.nodes[0].as_mut().unwrap().handle_drops(u64::MAX, now);
    }
}
