//! Guests: those whom a node does not observe, and asks about a silent peer.

use std::sync::Arc;

use super::*;
use crate::proto::stats::RelayResult;

fn rings(config: &mut PeerConfig) {
    config.observers = Observers::Number(4);
}

/// The same, where the roster has no ids.
fn nameless_rings(config: &mut PeerConfig) {
    rings(config);
    config.own_name = config.listen_address.to_string().into();
    for peer in Arc::make_mut(&mut config.static_peers) {
        peer.server_id = None;
    }
}

/// How many of node 0's questions were answered.
fn answered(cluster: &Cluster) -> u64 {
    cluster.node(0).stats().relays[RelayResult::Answered as usize]
}

/// Cuts node 0 off from all whom it observes, but for one, for 20 s. How many of its questions are answered.
fn asks(cluster: &mut Cluster) -> u64 {
    let observed = cluster.node(0).registry().get_all_peers();
    let places: Vec<SocketAddr> = observed.iter().filter_map(|peer| peer.address).collect();
    let silent: Vec<usize> =
        (1..cluster.nodes.len()).filter(|n| places[1..].contains(&address(*n))).collect();
    let before = answered(cluster);
    cluster.rule = cut(PATH, move |from, to| from + to == silent[0] && from * to == 0);
    cluster.run(20 * SECOND);
    cluster.rule = cut(PATH, |_, _| false);
    cluster.run(20 * SECOND);
    answered(cluster) - before
}

/// How many datagrams all nodes but node 0 have rejected for this.
fn rejected(cluster: &Cluster, reason: Reject) -> u64 {
    (1..cluster.nodes.len()).map(|n| cluster.node(n).stats().rejected[reason as usize]).sum()
}

#[test]
fn a_new_run_of_oneself_has_new_keys_for_guests() {
    let mut cluster = Cluster::with(12, 1, rings);
    cluster.run(20 * SECOND);
    assert!(asks(&mut cluster) > 10, "it knows guests");
    let now = cluster.now;
    cluster.nodes[0].as_mut().unwrap().renew(Instance(99), now);
    cluster.run(20 * SECOND);
    let before = rejected(&cluster, Reject::Seal);
    assert!(asks(&mut cluster) > 10);
    assert_eq!(rejected(&cluster, Reject::Seal), before, "sealed by the keys of the run before");
}

#[test]
fn other_keys_forget_no_id() {
    let mut cluster = Cluster::with(12, 2, nameless_rings);
    cluster.run(60 * SECOND);
    for node in 0..12 {
        let now = cluster.now;
        cluster.nodes[node].as_mut().unwrap().set_keys(ring(&[7, 9]), now).unwrap();
    }
    cluster.run(20 * SECOND);
    let before = rejected(&cluster, Reject::Sender);
    assert!(asks(&mut cluster) > 10, "there is somebody to ask");
    assert_eq!(rejected(&cluster, Reject::Sender), before, "everybody knows everybody as before");
}
