//! What a quiet cluster costs on the wire.

use std::time::Duration;

use lastseen::net::Clock;

use crate::harness::{Cluster, within};

const NODES: usize = 6;
const OVER: Duration = Duration::from_secs(10);

/// A pair shares one exchange an interval, so a node sends N - 1 datagrams in it, not 2 (N - 1).
#[test]
fn a_full_mesh_sends_one_datagram_a_peer_and_interval() {
    let cluster = Cluster::start(NODES);
    let sent = || -> f64 { (0..NODES).map(|n| cluster.value(n, "lastseen_datagrams_sent_total")).sum() };
    let missed = || -> f64 { (0..NODES).map(|n| cluster.value(n, "lastseen_heartbeat_retries_total")).sum() };
    // What the start costs beyond that is over when a second has passed without a retry.
    let mut quiet = (missed(), Clock.now());
    let settled = || {
        let now = missed();
        if now != quiet.0 {
            quiet = (now, Clock.now());
        }
        (Clock.now().since(quiet.1) > Duration::from_secs(2)).then_some(())
    };
    within(Duration::from_secs(30), settled).expect("a quiet cluster on loopback needs no retries");

    let (first, retries, start) = (sent(), missed(), Clock.now());
    within(OVER * 2, || (Clock.now().since(start) >= OVER).then_some(())).unwrap();
    let count = sent() - first;
    let (retries, intervals) = (missed() - retries, Clock.now().since(start).as_secs_f64());
    let expected = (NODES * (NODES - 1)) as f64 * intervals;
    println!("{count} datagrams in {intervals:.2} s, {retries} of them retries; {expected:.0} expected");
    // Each retry is one datagram and its answer. The window's two ends cut through one interval each.
    assert!(count >= expected * 0.9, "{count} of {expected}");
    assert!(count <= expected * 1.1 + 2.0 * retries, "{count} of {expected}, {retries} retries");
}
