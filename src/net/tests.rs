//! What the loop costs while nothing happens, or little.

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

/// How often this thread gave its core away by itself: every wake-up ends so.
#[cfg(target_os = "linux")]
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_loop_that_was_busy_comes_to_rest() {
    // Nobody answers there.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = StaticPeer {
        server_id: Some("silent".into()),
        name: "silent".into(),
        address: Some(silent.local_addr().unwrap()),
    };
    let config = PeerConfig::new("node", "test", SocketAddr::from(([127, 0, 0, 1], 0)), vec![peer]);
    let rests = Duration::from_secs(2).as_millis() / config.laziness().as_millis();
    let (node, task) =
        spawn(config, Keyring::new("test", &[], true).unwrap(), Options::default()).await.unwrap();
    for _ in 0..5 {
        node.snapshot().await.unwrap();
    }
    let before = sleeps();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let slept = sleeps() - before;
    assert!(u128::from(slept) < rests / 2, "{slept} wake-ups in two seconds, where {rests} rests would fit");
    task.abort();
}
