//! The simulator against theory, and what each mechanism buys.

use std::collections::HashSet;
use std::fmt::Write;

use super::*;
use PeerStatus::Down;

/// All off.
const NONE: Mechanisms =
    Mechanisms { retries: false, relays: false, records: false, waits: true, memory: true, clocks: true };

/// What random loss does to 16 nodes.
struct Measured {
    /// Heartbeats a node and peer, all together, and those that were missed.
    heartbeats: f64,
    missed: f64,
    /// Downs raised by the leaders of their pairs, and by the followers.
    downs: [f64; 2],
    /// Datagrams a node and second.
    sent: f64,
}

fn measure(loss: f64, mechanisms: Mechanisms, down_after: u32, length: Duration) -> Measured {
    let mut setup = Setup::new(16);
    setup.cheap_seal = true;
    setup.config.down_after = down_after;
    setup.config = setup.config.with_mechanisms(mechanisms);
    let mut world = whole(setup, 11);
    world.add_rule(Scope::All, Rule::Loss(loss));
    world.run_for(10 * SECOND);
    world.take_records();
    let count = |f: fn(&crate::proto::Stats) -> u64, world: &World| {
        (0..16).map(|n| f(world.node(n).unwrap().stats())).sum::<u64>() as f64
    };
    let before = (count(|s| s.heartbeats_missed, &world), count(|s| s.datagrams_sent, &world));
    world.run_for(length);
    let missed = count(|s| s.heartbeats_missed, &world) - before.0;
    let sent = count(|s| s.datagrams_sent, &world) - before.1;
    let (mut downs, mut down) = ([0.0; 2], HashSet::new());
    for (observer, subject, to) in changes(&mut world) {
        let place = world.roster(observer).binary_search(&subject).unwrap();
        let leads = world.node(observer).unwrap().leads(place);
        if to != Down {
            down.remove(&(observer, subject));
        } else if down.insert((observer, subject)) && (leads || !down.contains(&(subject, observer))) {
            // A leader that has given its peer up pings it less often, and the peer misses that.
            downs[usize::from(!leads)] += 1.0;
        }
    }
    let seconds = length.as_secs_f64();
    Measured { heartbeats: 240.0 * seconds, missed, downs, sent: sent / 16.0 / seconds }
}

/// Whether a count is what a Poisson process of this mean gives, but once in some hundred thousand runs.
fn agrees(count: f64, mean: f64) -> bool {
    (count - mean).abs() <= 4.5 * mean.sqrt() + 1.0
}

/// Reply only: a leader misses if its ping or the pong is lost, a follower if the ping is.
#[test]
fn misses_without_mechanisms_agree_with_theory() {
    for p in [0.01, 0.05, 0.1, 0.3] {
        // So many misses in a row do not come: no back-off, no cut link.
        let measured = measure(p, NONE, 32, 600 * SECOND);
        let expected = measured.heartbeats * f64::midpoint(1.0 - (1.0 - p) * (1.0 - p), p);
        assert!(agrees(measured.missed, expected), "{p}: {} missed, {expected} expected", measured.missed);
    }
}

/// False Downs: 3600/T (1-q) q^k a peer-hour.
#[test]
fn false_downs_without_mechanisms_agree_with_theory() {
    for p in [0.05f64, 0.1] {
        let hours = 2.0;
        let measured = measure(p, NONE, 5, 7200 * SECOND);
        for (downs, q) in measured.downs.iter().zip([1.0 - (1.0 - p) * (1.0 - p), p]) {
            // 120 leaders and as many followers. While a peer is Down, it cannot become so again.
            let expected = 120.0 * hours * 3600.0 * (1.0 - q) * q.powi(5);
            assert!(agrees(*downs, expected), "{p}: {downs} Downs, {expected} expected");
        }
    }
}

/// What each mechanism buys, kept as a table: a change of the detector's behaviour is a change of this file.
#[test]
fn what_each_mechanism_buys() {
    let mut table = String::from(
        "16 nodes, full mesh, 20 minutes of independent loss in each direction, seed 11.\n\
         missed: heartbeats of 1000; Downs: a peer-hour, all of them false; sent: datagrams a node and second.\n\n",
    );
    let _ = writeln!(table, "{:<12} {:>6} {:>9} {:>9} {:>7}", "evidence", "loss", "missed", "Downs", "sent");
    for (name, retries, relays) in
        [("reply only", false, false), ("+ retries", true, false), ("+ relays", true, true)]
    {
        for loss in [0.01, 0.05, 0.1, 0.3] {
            let m = measure(
                loss,
                Mechanisms { retries, relays, records: true, waits: true, memory: true, clocks: true },
                5,
                1200 * SECOND,
            );
            let downs = (m.downs[0] + m.downs[1]) / 80.0;
            let missed = m.missed / m.heartbeats * 1000.0;
            let loss = format!("{:.0} %", loss * 100.0);
            let _ = writeln!(table, "{name:<12} {loss:>6} {missed:>9.3} {downs:>9.4} {:>7.2}", m.sent);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sim/tests/mechanisms.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(table, include_str!("mechanisms.txt"), "run with UPDATE_SNAPSHOTS=1 if that is meant");
}
