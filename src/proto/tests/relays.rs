//! Relays are bounded: one datagram follows from one, to members of the roster only, and at most so many an interval.

use super::*;
use crate::proto::messages::Message;
use std::cell::Cell;
use std::rc::Rc;

/// A frame from node 1's present run to node 0's, sealed as the key's holder can.
fn from_one(cluster: &Cluster, number: u64, message: &Message) -> Vec<u8> {
    let (one, zero) = (cluster.node(1).instance(), cluster.node(0).instance());
    forge::bound((1, one), (0, zero), number, &forge::body(message))
}

fn tag(of: usize) -> Tag {
    ring(&[7]).tag(0, &name(of))
}

#[test]
fn a_request_is_served_once_and_by_nobody_twice() {
    let mut cluster = whole(3, 1);
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    cluster.rule = Box::new(move |p, _| {
        counted.set(counted.get() + usize::from(p.bytes.len() > 50));
        Fate::After(PATH)
    });
    let sent = cluster.sent.clone();
    let request = Message::RelayRequest { echo: 1, hold: 0, target: tag(2) };
    let frame = from_one(&cluster, 1000, &request);
    assert_eq!(cluster.inject(0, address(1), &frame), Ok(()));
    assert_eq!(cluster.inject(0, address(1), &frame), Err(Reject::Replay));
    cluster.run(5 * MS);
    let more: Vec<_> = cluster.sent.iter().zip(&sent).map(|(now, before)| now - before).collect();
    // Node 0 sends a ping to 2 and a reply to 1; 2 sends a pong; a slot may fall into these 5 ms.
    assert!(more[0] >= 2 && more[2] >= 1 && more.iter().sum::<usize>() <= 5, "{more:?}");
}

#[test]
fn requests_about_strangers_and_oneself_are_no_requests() {
    let mut cluster = whole(3, 2);
    for (n, target) in [tag(0), tag(1), Tag([9; 8])].into_iter().enumerate() {
        let sent = cluster.sent[0];
        let frame = from_one(&cluster, 1000 + n as u64, &Message::RelayRequest { echo: 1, hold: 0, target });
        assert_eq!(cluster.inject(0, address(1), &frame), Ok(()));
        assert_eq!(cluster.sent[0], sent, "{target:?}");
    }
}

#[test]
fn a_flood_of_requests_is_served_to_its_bound() {
    let mut cluster = whole(3, 3);
    let sent = cluster.sent[0];
    for n in 0..5000 {
        let request = Message::RelayRequest { echo: 1, hold: 0, target: tag(2) };
        let frame = from_one(&cluster, 1000 + n, &request);
        let _ = cluster.inject(0, address(1), &frame);
    }
    let served = cluster.sent[0] - sent;
    assert!((64..=68).contains(&served), "64 an interval, and two a peer: {served}");
}

#[test]
fn a_reply_that_nobody_asked_for_proves_nothing() {
    let mut cluster = whole(3, 4);
    cluster.crash(2);
    cluster.run(20 * SECOND);
    assert_eq!(cluster.status(2, 0), PeerStatus::Down);
    for request in [0, 5, 1 << 40] {
        for n in 0..2 {
            let reply = Message::RelayReply { echo: 1, hold: 0, target: tag(2), request, alive: true };
            let frame = from_one(&cluster, 5000 + 2 * request % 1000 + n, &reply);
            let _ = cluster.inject(0, address(1), &frame);
        }
    }
    assert_eq!(cluster.status(2, 0), PeerStatus::Down);
    assert!(!cluster.view(2, 0).proven);
}
