//! Refused is not silent.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::proto::seal::{FrameKind, Header};
use crate::proto::{Edge, Life, RowView};
use PeerStatus::{Down, Healthy};

#[test]
fn crash_refused() {
    let mut slowest = Duration::ZERO;
    let mut took_at = [Vec::new(), Vec::new()];
    const N: usize = 64;
    for seed in 0..4 {
        let mut cluster = whole(N, seed);
        cluster.lazy = seed % 2 == 1;
        cluster.run(SECOND.mul_f64(seed as f64 / 20.0));
        cluster.crash(3);
        cluster.rule = Box::new(|p, _| if p.to == 3 { Fate::Refused } else { Fate::After(PATH) });
        let crashed = cluster.now;
        let took = cluster.run_until(3 * SECOND, |c| (0..N).all(|at| at == 3 || c.status(3, at) == Down));
        assert!(took >= SECOND, "{took:?}: the last refusal comes one interval after the first");
        slowest = slowest.max(took);
        let downs =
            cluster.events.iter().filter(|(_, e)| matches!(e.change, Change::Status { to: Down, .. }));
        took_at[usize::from(cluster.lazy)].extend(downs.map(|(_, e)| e.at.since(crashed)));
        assert_eq!(cluster.view(3, 0).verdict, Verdict::Refused);
        let changes = cluster.take_changes();
        assert!(changes.iter().all(|c| c.1 == name(3)), "nobody else changes: {changes:?}");
        cluster.rule = cut(PATH, |_, _| false);
        cluster.start(3);
        let took = cluster.run_until(3 * SECOND, |c| (0..N).all(|at| at == 3 || c.status(3, at) == Healthy));
        assert!(took <= 2 * SECOND, "restart seen after {took:?}");
        cluster.run(SECOND);
        assert!((0..N).filter(|at| *at != 3).all(|at| cluster.view(3, at).restarts == 1));
        assert_eq!(cluster.node(0).stats().false_downs, 0, "another run came back");
    }
    assert!(slowest <= 1400 * MS, "{slowest:?}");
    for (mut all, limit) in took_at.into_iter().zip([1140 * MS, 1250 * MS]) {
        all.sort();
        let median = all[all.len() / 2];
        assert!(median <= limit, "{median:?}");
    }
}

#[test]
fn a_peer_that_was_never_heard_is_down_in_time_behind_refusals_on_and_off() {
    // The host refuses for 0.6 s in every 1.5 s and is silent in between: a series of refusals breaks off and begins
    // again.
    for nodes in [5, 64] {
        let mut cluster = Cluster::new(nodes, 3);
        cluster.crash(4);
        cluster.rule = Box::new(|p, now| match now.as_micros() % 1_500_000 {
            _ if p.to != 4 => Fate::After(PATH),
            0..600_000 => Fate::Refused,
            _ => Fate::Lost,
        });
        let others = || (0..nodes).filter(|at| *at != 4);
        let took = cluster.run_until(60 * SECOND, |c| others().all(|at| c.status(4, at) == Down));
        assert!(took <= 9 * SECOND, "{nodes} nodes: {took:?}");
    }
}

#[test]
fn a_refusal_is_pushed_once() {
    // 16 nodes, one crashes: who sees it first tells the 14 others; these ping, and do not push again.
    const N: usize = 16;
    let mut cluster = whole(N, 2);
    let sent = Rc::new(RefCell::new(BTreeMap::new()));
    let count = sent.clone();
    cluster.crash(3);
    cluster.rule = Box::new(move |p, now| {
        *count.borrow_mut().entry((p.from, now)).or_insert(0) += 1;
        if p.to == 3 { Fate::Refused } else { Fate::After(PATH) }
    });
    cluster.run_until(3 * SECOND, |c| (0..N).all(|at| at == 3 || c.status(3, at) == Down));
    // Who pushes sends to the 14 others at one moment.
    let sent = sent.borrow();
    let pushes: Vec<_> = sent.iter().filter(|(_, count)| **count >= 10).collect();
    assert!((1..=2).contains(&pushes.len()), "{pushes:?}");
}

#[test]
fn who_refuses_is_down_in_the_rows_of_all() {
    // It was heard so shortly before that one could take it for a peer that only does not hear.
    for seed in 0..10 {
        let mut cluster = whole(5, seed);
        cluster.run(SECOND.mul_f64(seed as f64 / 10.0));
        cluster.crash(4);
        cluster.rule = Box::new(|p, _| if p.to == 4 { Fate::Refused } else { Fate::After(PATH) });
        cluster.run(30 * SECOND);
        for observer in 0..4 {
            let rows = cluster.node(observer).snapshot(cluster.now).rows;
            let sees = |row: &RowView| -> Vec<_> {
                row.sees.iter().map(|edge| (edge.peer.to_string(), edge.life, edge.link)).collect()
            };
            let seen: Vec<_> = rows.iter().map(sees).collect();
            let down = vec![(name(4).to_string(), Life::Down, Edge::Down)];
            let expected: Vec<_> = (0..5).map(|of| if of == 4 { vec![] } else { down.clone() }).collect();
            assert_eq!(seen, expected, "at {observer}, seed {seed}");
        }
    }
}

#[test]
fn a_push_keeps_an_announced_spacing() {
    // 1 is deaf to 0 and backs off: 0 is covered by what its pings announce. What 1 pushes must not uncover it.
    for seed in 0..10 {
        let mut cluster = whole(4, seed);
        cluster.rule = cut(PATH, |from, to| (from, to) == (0, 1));
        cluster.run(120 * SECOND + SECOND.mul_f64(seed as f64 / 7.0));
        cluster.take_changes();
        cluster.crash(3);
        cluster.rule = Box::new(|p, _| match (p.from, p.to) {
            (_, 3) => Fate::Refused,
            (0, 1) => Fate::Lost,
            _ => Fate::After(PATH),
        });
        cluster.run(60 * SECOND);
        let wrong: Vec<_> = cluster.take_changes().into_iter().filter(|c| c.1 != name(3)).collect();
        assert_eq!(wrong, [], "seed {seed}");
    }
}

#[test]
fn firewall_reject() {
    for (length, down) in [(900 * MS, false), (2500 * MS, true)] {
        for seed in 0..20 {
            let mut cluster = whole(2, seed);
            cluster.run(SECOND.mul_f64(seed as f64 / 20.0));
            cluster.rule = Box::new(|_, _| Fate::Refused);
            cluster.run(length);
            let changes = cluster.take_changes();
            assert_eq!(changes.iter().any(|c| c.2 == Down), down, "{length:?}, seed {seed}: {changes:?}");
            if down {
                let verdicts = [cluster.view(0, 1).verdict, cluster.view(1, 0).verdict];
                assert_eq!(verdicts, [Verdict::Refused; 2]);
            }
            cluster.rule = cut(PATH, |_, _| false);
            let took = cluster.run_until(3 * SECOND, |c| c.is_whole());
            assert!(took <= 2 * SECOND + 100 * MS, "healed after {took:?}, seed {seed}");
        }
    }
}

#[test]
fn an_error_from_another_host_refuses_nothing() {
    // A firewall on the way rejects: it does not know whether the process runs.
    let mut cluster = whole(2, 3);
    let rejected = Rc::new(RefCell::new(Vec::new()));
    let tape = rejected.clone();
    cluster.rule = Box::new(move |packet, _| {
        tape.borrow_mut().push((packet.from, packet.to, packet.bytes.clone()));
        Fate::Lost
    });
    for _ in 0..3500 {
        cluster.run(MS);
        let now = cluster.now;
        for (from, to, quoted) in rejected.take() {
            let (kind, source) = (SendErrorKind::Refused, ErrorSource::Network);
            let node = cluster.nodes[from].as_mut().unwrap();
            node.handle_send_error(address(to), kind, source, &quoted, now);
        }
    }
    assert!(!cluster.take_changes().iter().any(|change| change.2 == Down));
    assert!(cluster.node(0).stats().send_errors[SendErrorKind::Refused as usize] > 5);
    cluster.run(4 * SECOND);
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Down, "silent, not refused");
}

#[test]
fn forged_icmp() {
    let mut cluster = whole(2, 12);
    cluster.rule = cut(PATH, |from, _| from == 1);
    // The last one quotes all that an observer of the path can know, but a number that was never sent.
    let keys = Keyring::new("test", &[SecretKey::new([7; 32])], false).unwrap();
    let header = Header {
        kind: FrameKind::Bound,
        key_id: keys.id(0),
        sender: keys.tag(0, &name(0)),
        instance: cluster.node(0).instance(),
        number: 1 << 40,
    };
    let mut wrong_number = Vec::new();
    header.encode(&mut wrong_number);
    wrong_number.extend([0; 40]);
    let forged: [&[u8]; 4] = [b"", &[0x4C; 60], &[0x6C; 128], &wrong_number];
    for _ in 0..1500 {
        cluster.run(MS);
        let now = cluster.now;
        for quoted in forged {
            cluster.nodes[0].as_mut().unwrap().handle_send_error(
                address(1),
                SendErrorKind::Refused,
                ErrorSource::Peer,
                quoted,
                now,
            );
        }
    }
    assert_ne!(cluster.status(1, 0), Down, "1.5 s of loss are no Down");
    assert_eq!(cluster.node(0).stats().send_errors[SendErrorKind::Refused as usize], 6000);
    assert_ne!(cluster.view(1, 0).verdict, Verdict::Refused);
}
