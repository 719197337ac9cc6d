//! What the loop costs while nothing happens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Options, spawn};
use crate::proto::tests::counting::allocated;
use crate::proto::{Keyring, PeerConfig, StaticPeer};

/// Round trips in a row in which nothing may be allocated: two batches of those that the loop hands over.
const QUIET: u32 = 64;
const NODES: usize = 5;
const INTERVAL: Duration = Duration::from_millis(100);

#[tokio::test]
async fn the_steady_state_of_the_loop_allocates_nothing() {
    let quiet = Arc::new(Notify::new());
    let (mut before, mut round_trips) = (0, 0);
    let tell = quiet.clone();
    // A start, and a stall, allocates; neither lasts.
    let on_rtt = move |_| {
        let now = allocated().0;
        round_trips = if now == before { round_trips + 1 } else { 0 };
        before = now;
        if round_trips == QUIET {
            tell.notify_one();
        }
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let id = |n: usize| format!("node-{n}");
    let config = |own: usize| {
        let peer = |n| StaticPeer { server_id: Some(id(n).into()), name: id(n).into(), address: None };
        let peers = (0..NODES).filter(|n| *n != own).map(peer).collect();
        let mut config = PeerConfig::new(&id(own), "test", listen, peers);
        (config.heartbeat_interval, config.heartbeat_timeout) = (INTERVAL, INTERVAL);
        config
    };
    let mut options = Options { on_rtt: Some(Box::new(on_rtt)), ..Options::default() };
    let mut nodes = Vec::new();
    for own in 0..NODES {
        let keys = Keyring::new("test", &[], true).unwrap();
        nodes.push(spawn(config(own), keys, std::mem::take(&mut options)).await.unwrap().0);
    }
    for own in 0..NODES {
        for (entry, other) in (0..NODES).filter(|n| *n != own).enumerate() {
            nodes[own].set_address(entry, nodes[other].local_addr());
        }
    }
    let waited = tokio::time::timeout(Duration::from_secs(120), quiet.notified()).await;
    assert!(waited.is_ok(), "no {QUIET} round trips in a row without an allocation");
}
