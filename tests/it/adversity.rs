//! Loss, stops and starvation: real processes in a network of their own, of which nobody may be blamed.
//!
//! Every test has faults first, during which nobody innocent may be accused, and then none, when all must hear each
//! other again. What counts are the daemons' counters, which also tell what happened between two looks.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::confined::{Loss, Starvation, in_a_network_of_its_own, tool};
use crate::harness::{AT_ALL, Cluster, watch, within};
use crate::innocent::{ACCUSED, DOWN, Innocent};

/// One node is asked at a time: the questions must not be the load.
const ASK_EVERY: Duration = Duration::from_millis(200);

#[test]
#[ignore = "needs root: network namespaces, nft"]
fn thirty_percent_loss() {
    const NODES: usize = 16;
    const LOSS_FOR: Duration = Duration::from_secs(90);
    in_a_network_of_its_own(|| {
        let cluster = Cluster::start_logging(NODES, "error");
        let innocent = Innocent::among(&cluster, 0..NODES);
        let retries =
            || (0..NODES).map(|n| cluster.value(n, "lastseen_heartbeat_retries_total")).sum::<f64>();
        let retries_before = retries();

        let loss = Loss::begin(30);
        let mut observers = (0..NODES).cycle();
        watch(LOSS_FOR, ASK_EVERY, |_| innocent.are_not(DOWN, observers.next().unwrap()));
        (0..NODES).for_each(|observer| innocent.are_not(DOWN, observer));
        let (retries, (arrived, lost)) = (retries() - retries_before, loss.end());
        let share = lost as f64 / arrived as f64;
        let suspected: u64 = innocent.accusations(ACCUSED).values().sum();
        println!(
            "loss: {lost} of {arrived} datagrams ({share:.3}), {retries} retries, {suspected} suspected"
        );
        assert!((0.28..0.32).contains(&share), "{lost} of {arrived} datagrams are no 30 %");
        // Every pair has a slot a second, of which 51 % need a retry: ping or pong is lost.
        let expected = (NODES * (NODES - 1) / 2) as f64 * LOSS_FOR.as_secs_f64() * 0.51;
        assert!(retries > expected / 2.0, "{retries} retries are too few for that loss, some {expected:.0}");

        cluster.all_heard(AT_ALL);
        (0..NODES).for_each(|observer| innocent.are_not(DOWN, observer));
    });
}

#[test]
#[ignore = "needs root: network namespaces; takes five minutes"]
fn an_interface_with_a_small_mtu() {
    const NODES: usize = 3;
    /// One first try in 256 is padded, and seven more follow.
    const KNOWN_WITHIN: Duration = Duration::from_secs(280);
    in_a_network_of_its_own(|| {
        tool("ip", &["link", "set", "lo", "mtu", "1000"], "");
        let cluster = Cluster::start_logging(NODES, "error");
        let innocent = Innocent::among(&cluster, 0..NODES);
        let missed = || (0..NODES).map(|n| cluster.value(n, "lastseen_heartbeats_missed_total")).sum::<f64>();
        let before = missed();
        let pairs = || (0..NODES).flat_map(|a| (0..NODES).filter(move |b| *b != a).map(move |b| (a, b)));
        let known = || pairs().all(|(a, b)| cluster.verdict(a, b) == "mtu").then_some(());
        let (_, took) = within(KNOWN_WITHIN, known).expect("both ends of every link call it mtu");
        let too_big = |n: usize| {
            let all = cluster.series(n, "lastseen_send_errors_total");
            all.iter().filter(|(labels, _)| labels["kind"] == "too_big").map(|(_, count)| count).sum::<f64>()
        };
        let too_big: f64 = (0..NODES).map(too_big).sum();
        println!("known after {took:?}, {too_big} datagrams too big");
        assert!(too_big >= 8.0 * 3.0, "{too_big}: the system tells of every one");
        (0..NODES).for_each(|observer| innocent.are_not(ACCUSED, observer));
        assert_eq!(missed(), before, "no heartbeat was missed for it");
    });
}

#[test]
#[ignore = "needs root: network namespaces"]
fn stopped_over_and_over() {
    const NODES: usize = 16;
    const STOPPERS: usize = 4;
    const SLEEPER: usize = STOPPERS;
    const STOPS: u128 = 10;
    /// The stoppers begin so much after each other: they overlap, and each runs while others stand still.
    const STAGGER_MS: u128 = 700;
    /// Until the last of them runs again.
    const FOR: Duration = Duration::from_secs(42);
    let stands_still = |n: usize, at: Duration| match n {
        0..STOPPERS => {
            let begun = at.as_millis().checked_sub(STAGGER_MS * n as u128);
            begun.is_some_and(|ms| ms / 4000 < STOPS && ms % 4000 < 3000)
        }
        SLEEPER => (10..22).contains(&at.as_secs()),
        _ => false,
    };
    in_a_network_of_its_own(|| {
        let cluster = Cluster::start_logging(NODES, "error");
        let innocent = Innocent::among(&cluster, SLEEPER + 1..NODES);
        let (mut stopped, mut stops) = ([false; NODES], [0_u32; NODES]);
        let (mut observers, mut ask_at) = ((0..NODES).cycle(), Duration::ZERO);
        watch(FOR, Duration::ZERO, |at| {
            for n in 0..NODES {
                if stands_still(n, at) != stopped[n] {
                    stopped[n] = !stopped[n];
                    stops[n] += u32::from(stopped[n]);
                    cluster.signal(n, if stopped[n] { Signal::SIGSTOP } else { Signal::SIGCONT });
                }
            }
            let observer = observers.next().unwrap();
            if at >= ask_at && !stopped[observer] {
                ask_at = at + ASK_EVERY;
                innocent.are_not(ACCUSED, observer);
            }
        });
        cluster.all_heard(AT_ALL);

        (0..NODES).for_each(|observer| innocent.are_not(ACCUSED, observer));
        let stalls = |n: usize| cluster.value(n, "lastseen_stalls_total") as u32;
        let seen: Vec<(u32, u32)> = (0..=SLEEPER).map(|n| (stops[n], stalls(n))).collect();
        println!("stops: (sent, noticed) {seen:?}");
        assert!(seen.iter().all(|(sent, noticed)| *sent > 0 && noticed >= sent), "stops noticed: {seen:?}");
        let sleeper = |n| cluster.transitions_at(n)[&(n, cluster.nodes[SLEEPER].id.clone(), "down".into())];
        assert!((SLEEPER + 1..NODES).all(|n| sleeper(n) > 0), "who stands still for 12 s is down");
    });
}

#[test]
#[ignore = "needs root: network namespaces, cgroup v1"]
fn starved_of_cpu() {
    const NODES: usize = 8;
    const FOR: Duration = Duration::from_secs(30);
    /// In every second. With the smaller one a node lies still for up to four seconds, with the other for one.
    const QUOTAS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(5)];
    const STARVED: usize = QUOTAS.len();
    in_a_network_of_its_own(|| {
        let cluster = Cluster::start_logging(NODES, "error");
        let innocent = Innocent::among(&cluster, STARVED..NODES);
        let stalls =
            |n| (cluster.value(n, "lastseen_stalls_total"), cluster.value(n, "lastseen_stall_seconds_total"));
        let before: Vec<_> = (0..STARVED).map(stalls).collect();

        let groups = QUOTAS.map(Starvation::new);
        (0..STARVED).for_each(|n| groups[n].add(cluster.pid(n)));
        // A question costs more than the quota: the starved are asked when they are no longer.
        let mut observers = (STARVED..NODES).cycle();
        watch(FOR, ASK_EVERY, |_| innocent.are_not(ACCUSED, observers.next().unwrap()));
        drop(groups);
        cluster.all_heard(AT_ALL);

        (0..NODES).for_each(|observer| innocent.are_not(ACCUSED, observer));
        let stalls = (0..STARVED).map(stalls).zip(before).map(|(now, old)| (now.0 - old.0, now.1 - old.1));
        let stalls: Vec<(f64, f64)> = stalls.collect();
        println!("starved: (stalls, seconds) {stalls:.1?}");
        let starved = |(count, seconds): &(f64, f64)| *count >= 5.0 && *seconds > FOR.as_secs_f64() / 3.0;
        assert!(stalls.iter().all(starved), "no starvation: (stalls, seconds) {stalls:?}");
    });
}
