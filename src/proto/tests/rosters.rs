//! Rosters that change while the node runs.

use std::sync::Arc;

use super::*;

fn entry(node: usize) -> StaticPeer {
    let name = address(node).to_string().into();
    StaticPeer { server_id: Some(super::name(node).into()), name, address: Some(address(node)) }
}

impl Cluster {
    /// The roster of a node is this from now on, and it has its own id in it.
    fn set_roster(&mut self, at: usize, roster: Vec<StaticPeer>) -> Result<(), ConfigError> {
        let now = self.local(at, self.now);
        self.nodes[at].as_mut().unwrap().set_roster(roster.into(), name(at).into(), now)
    }

    /// What a node told of its roster since the last call.
    fn told(&mut self, at: usize) -> Vec<String> {
        self.flush();
        let events = std::mem::take(&mut self.events).into_iter();
        let rosters = events.filter(|(node, event)| *node == at && event.change == Change::Roster);
        rosters.map(|(_, event)| event.why).collect()
    }
}

/// What is known of a peer that no change of the roster may touch.
fn facts(cluster: &Cluster, of: usize, at: usize) -> impl PartialEq + std::fmt::Debug + use<> {
    let view = cluster.view(of, at);
    let link = (view.link.rtt, view.link.loss, view.bytes_received, view.bytes_sent);
    (view.explanation.status_since, view.last_seen, view.instance, view.proven, link)
}

#[test]
fn of_those_that_stay_all_that_is_known_stays() {
    let mut cluster = whole(4, 1);
    let before = [1, 2].map(|of| facts(&cluster, of, 0));
    let hash = cluster.node(0).snapshot(cluster.now).roster_hash;
    // In another order, one gone, two that are new.
    cluster.set_roster(0, [9, 2, 1, 8].map(entry).into()).unwrap();
    assert_eq!([1, 2].map(|of| facts(&cluster, of, 0)), before);
    assert_eq!(
        cluster.told(0),
        ["the roster has 5 nodes now: 2 added (node-8, node-9), 1 removed (node-3)"].map(String::from)
    );
    let snapshot = cluster.node(0).snapshot(cluster.now);
    assert_eq!(snapshot.status.total_peers, 5);
    assert_ne!(snapshot.roster_hash, hash);
    assert_eq!(cluster.view(9, 0).verdict, Verdict::Unknown);
    assert!(!snapshot.peers.iter().any(|peer| *peer.server_id == *name(3)));
    // And it goes on: pings under the next numbers, and nobody is missed.
    cluster.run(20 * SECOND);
    let wrong = |(at, of, _): &(usize, String, PeerStatus)| *at != 3 && (*of == name(1) || *of == name(2));
    assert_eq!(cluster.take_changes().into_iter().filter(wrong).collect::<Vec<_>>(), []);
    assert!(cluster.view(1, 0).link.is_active && cluster.view(0, 1).link.is_active);
    cluster.set_roster(0, [1, 2, 3].map(entry).into()).unwrap();
    cluster.run_until(20 * SECOND, Cluster::is_whole);
    assert_eq!(cluster.node(0).snapshot(cluster.now).roster_hash, hash);
    assert_eq!(
        (0..4).map(|n| cluster.node(n).stats().restarts).sum::<u64>(),
        0,
        "nobody takes it for another run"
    );
}

#[test]
fn a_wrong_roster_changes_nothing() {
    let mut cluster = whole(3, 2);
    let before = (facts(&cluster, 1, 0), cluster.node(0).snapshot(cluster.now).roster_hash);
    let error = cluster.set_roster(0, [1, 2, 1].map(entry).into()).unwrap_err().to_string();
    assert!(error.contains("two entries have the id node-1"), "{error}");
    assert_eq!((facts(&cluster, 1, 0), cluster.node(0).snapshot(cluster.now).roster_hash), before);
    assert_eq!(cluster.told(0), Vec::<String>::new());
}

#[test]
fn the_same_roster_is_no_news() {
    let mut cluster = whole(3, 3);
    cluster.set_roster(0, [2, 1].map(entry).into()).unwrap();
    assert_eq!(cluster.told(0), Vec::<String>::new());
    let sent = cluster.sent.clone();
    cluster.run(10 * SECOND);
    let quiet: usize = cluster.sent.iter().zip(sent).map(|(now, before)| now - before).sum();
    assert_eq!(quiet, 3 * 2 * 10, "a quiet mesh stays quiet");
}

#[test]
fn an_entry_with_another_address_moves_without_an_alarm() {
    let mut cluster = whole(3, 4);
    let elsewhere: SocketAddr = ([10, 0, 9, 9], 5278).into();
    cluster.moved.insert(1, elsewhere);
    for at in [0, 2] {
        let other = entry(2 - at);
        cluster.set_roster(at, vec![StaticPeer { address: Some(elsewhere), ..entry(1) }, other]).unwrap();
    }
    cluster.run(20 * SECOND);
    assert_eq!(cluster.take_changes(), []);
    assert_eq!(cluster.view(1, 0).address, Some(elsewhere));
    // One whose name does not resolve now keeps what it had.
    cluster.set_roster(0, vec![StaticPeer { address: None, ..entry(1) }, entry(2)]).unwrap();
    cluster.run(10 * SECOND);
    assert_eq!((cluster.take_changes(), cluster.view(1, 0).address), (vec![], Some(elsewhere)));
}

#[test]
fn who_is_gone_is_not_answered_and_is_known_as_a_stranger() {
    let mut cluster = whole(3, 5);
    cluster.set_roster(0, vec![entry(1)]).unwrap();
    let rejected = |cluster: &Cluster| cluster.node(0).stats().rejected[Reject::Sender as usize];
    let before = rejected(&cluster);
    cluster.run(20 * SECOND);
    assert!(rejected(&cluster) > before);
    assert!(!cluster.view(0, 2).link.is_active, "but node 1 says that it lives");
    let strangers = cluster.node(0).snapshot(cluster.now).strangers;
    assert_eq!(strangers.len(), 1);
    assert_eq!((&strangers[0].server_id, strangers[0].address), (&None, address(2)));
    // A new run says who it is.
    cluster.start(2);
    cluster.run(5 * SECOND);
    let strangers = cluster.node(0).snapshot(cluster.now).strangers;
    assert_eq!(strangers.len(), 1, "{strangers:?}");
    assert_eq!(strangers[0].server_id.as_deref(), Some("node-2"));
    cluster.crash(2);
    cluster.run(601 * SECOND);
    assert_eq!(cluster.node(0).snapshot(cluster.now).strangers, [], "it has gone");
}

#[test]
fn eight_strangers_are_known_the_newest() {
    let mut cluster = Cluster::new(12, 6);
    cluster.set_roster(0, vec![entry(1)]).unwrap();
    cluster.run(SECOND);
    let known = cluster.node(0).snapshot(cluster.now).strangers;
    assert_eq!(known.len(), 8);
    // Without the key nobody is known.
    let config = cluster.node(11).config().clone();
    let keys = Keyring::new("test", &[SecretKey::new([8; 32])], false).unwrap();
    let mut forger = Node::new(config, keys, Instance(5), 5, cluster.now).unwrap();
    forger.handle_timeout(forger.poll_timeout().unwrap());
    let mut frame = Vec::new();
    assert!(forger.poll_transmit(Time::ZERO, &mut frame).is_some());
    assert_eq!(cluster.inject(0, address(11), &frame), Err(Reject::KeyId));
    assert_eq!(cluster.node(0).snapshot(cluster.now).strangers, known);
}

#[test]
fn an_id_that_was_learned_and_is_given_to_another_entry_is_not_shared() {
    // Node 0 knows the others by their addresses, and learns their ids.
    fn nameless(config: &mut PeerConfig) {
        config.own_name = config.listen_address.to_string().into();
        Arc::make_mut(&mut config.static_peers).iter_mut().for_each(|peer| peer.server_id = None);
    }
    let mut cluster = Cluster::with(3, 7, nameless);
    cluster.run(10 * SECOND);
    let by_address = |node| StaticPeer { server_id: None, ..entry(node) };
    // Then the id of node 1 stands at node 2's address, beside the address of node 1.
    let moved = StaticPeer { server_id: Some(name(1).into()), ..entry(2) };
    let now = cluster.now;
    let own = address(0).to_string().into();
    cluster.nodes[0].as_mut().unwrap().set_roster([by_address(1), moved].into(), own, now).unwrap();
    cluster.run(20 * SECOND);
    let ids = |cluster: &Cluster| -> Vec<String> {
        cluster.node(0).registry().get_all_peers().iter().map(|peer| peer.server_id.to_string()).collect()
    };
    let one = ids(&cluster).iter().filter(|id| **id == name(1)).count();
    assert_eq!(one, 1, "{:?}", ids(&cluster));
}
