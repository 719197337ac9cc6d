//! Pings that are padded to the limit, and what they cost.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

/// Lengths of UDP payload of a quiet cluster, in the order in which they were sent.
fn lengths(cluster: &mut Cluster, length: Duration) -> Vec<usize> {
    let tape = Rc::new(RefCell::new(Vec::new()));
    let record = tape.clone();
    cluster.rule = Box::new(move |packet, _| {
        record.borrow_mut().push(packet.bytes.len());
        Fate::After(PATH)
    });
    cluster.run(length);
    tape.take()
}

#[test]
fn one_ping_in_208_is_padded_with_its_answer_and_no_other_datagram_is_long() {
    for nodes in [2usize, 5] {
        let mut cluster = whole(nodes, 3);
        let all = lengths(&mut cluster, SECOND * 2080);
        let pairs = nodes * (nodes - 1) / 2;
        let (padded, short): (Vec<usize>, Vec<usize>) = all.iter().partition(|len| **len > 52);
        assert!(padded.iter().all(|len| *len == 1200), "{padded:?}");
        assert_eq!(padded.len(), pairs * 20, "of {pairs} pairs");
        assert!(all.len().abs_diff(2 * 2080 * pairs) <= 2 * pairs, "{} datagrams", all.len());
        // What padding adds to a heartbeat, on average.
        let idle = *short.iter().max().unwrap();
        let added = (all.iter().sum::<usize>() - short.len() * idle) as f64 / (2080 * pairs) as f64;
        assert!(added <= 2.0 * 1200.0 / 208.0, "{added} bytes");
        assert!(
            cluster.nodes.iter().flatten().all(|node| node.stats().heartbeat_retries <= 4 * nodes as u64)
        );
    }
}

#[test]
fn the_phases_of_padding_are_spread() {
    let mut cluster = whole(10, 5);
    let (tape, start) = (Rc::new(RefCell::new(Vec::new())), cluster.now);
    let record = tape.clone();
    cluster.rule = Box::new(move |packet, now| {
        if packet.bytes.len() == 1200 {
            record.borrow_mut().push(now.since(start).as_secs() / 52);
        }
        Fate::After(PATH)
    });
    cluster.run(SECOND * 208);
    let quarters: Vec<usize> =
        (0..4).map(|quarter| tape.borrow().iter().filter(|q| **q == quarter).count()).collect();
    assert_eq!(quarters.iter().sum::<usize>(), 90);
    assert!(quarters.iter().all(|count| (6..=44).contains(count)), "{quarters:?}");
}

#[test]
fn what_the_system_calls_too_big_is_counted_and_nothing_else() {
    let mut cluster = whole(2, 4);
    // The interface takes no more than a thousand bytes.
    cluster.rule =
        Box::new(|packet, _| if packet.bytes.len() > 1000 { Fate::Lost } else { Fate::After(PATH) });
    for _ in 0..300 {
        cluster.run(SECOND);
        let now = cluster.now;
        for n in 0..2 {
            let node = cluster.nodes[n].as_mut().unwrap();
            let source = ErrorSource::ThisHost;
            node.handle_send_error(address(1 - n), SendErrorKind::TooBig, source, &[], now);
        }
    }
    assert_eq!(cluster.take_changes(), []);
    for n in 0..2 {
        assert_eq!(cluster.node(n).stats().send_errors[SendErrorKind::TooBig as usize], 300);
        assert_eq!(cluster.view(1 - n, n).verdict, Verdict::Mtu);
        assert_eq!(cluster.node(n).stats().heartbeats_missed, 0);
    }
}

#[test]
fn a_path_too_slow_for_a_second_try_is_not_tried() {
    // The second try's echo would come after the timeout: a lost first one would be a miss.
    let mut cluster = whole(2, 6);
    cluster.rule =
        Box::new(|packet, _| if packet.bytes.len() > 1000 { Fate::Lost } else { Fate::After(150 * MS) });
    cluster.run(SECOND * 1024);
    let missed: u64 = cluster.nodes.iter().flatten().map(|n| n.stats().heartbeats_missed).sum();
    assert_eq!(
        (missed, cluster.view(1, 0).verdict, cluster.view(0, 1).verdict),
        (0, Verdict::Up, Verdict::Up)
    );
}

#[test]
fn a_restart_of_the_peer_is_told_the_same() {
    let mut cluster = whole(2, 7);
    cluster.rule =
        Box::new(|packet, _| if packet.bytes.len() > 1000 { Fate::Lost } else { Fate::After(PATH) });
    cluster.run(SECOND * 300);
    // The follower only repeats what it is told.
    let leader = (0..2).find(|n| cluster.view(1 - *n, *n).why.starts_with("pings")).unwrap();
    cluster.crash(1 - leader);
    cluster.start(1 - leader);
    cluster.run(SECOND * 4);
    assert_eq!(cluster.view(leader, 1 - leader).verdict, Verdict::Mtu, "the path is the same");
    // The leader's next run knows nothing yet, and says so.
    cluster.crash(leader);
    cluster.start(leader);
    cluster.run(SECOND * 4);
    let both = [cluster.view(leader, 1 - leader).verdict, cluster.view(1 - leader, leader).verdict];
    assert!(both == [Verdict::Up; 2] || both == [Verdict::Mtu; 2], "{both:?}");
}
