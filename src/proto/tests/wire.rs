//! The rules of the wire, by the attacks that they stand.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::proto::seal::Header;

const PATH: Duration = Duration::from_micros(200);

/// A cluster whose datagrams are recorded.
fn recorded(nodes: usize, seed: u64) -> (Cluster, Rc<RefCell<Vec<Packet>>>) {
    let mut cluster = Cluster::new(nodes, seed);
    let tape = Rc::new(RefCell::new(Vec::new()));
    let record = tape.clone();
    cluster.rule = Box::new(move |packet, _| {
        record.borrow_mut().push(packet.clone());
        Fate::After(PATH)
    });
    cluster.run_until(3 * SECOND, Cluster::is_whole);
    cluster.run(5 * SECOND);
    (cluster, tape)
}

fn rejected(cluster: &Cluster, node: usize) -> u64 {
    cluster.node(node).stats().rejected.iter().sum()
}

#[test]
fn recordings_of_a_dead_peer_prove_nothing() {
    let (mut cluster, tape) = recorded(2, 1);
    cluster.crash(1);
    cluster.run(10 * SECOND);
    assert_eq!(cluster.status(1, 0), PeerStatus::Down);
    cluster.take_changes();
    let (frames, before) = (tape.borrow().clone(), cluster.view(1, 0).last_seen);
    for packet in frames.iter().filter(|p| p.from == 1) {
        for from in [address(1), ([10, 9, 9, 9], 4444).into()] {
            let _ = cluster.inject(0, from, &packet.bytes);
        }
    }
    assert_eq!((cluster.status(1, 0), cluster.view(1, 0).last_seen), (PeerStatus::Down, before));
    assert!(rejected(&cluster, 0) > 10);
}

#[test]
fn resurrect() {
    // Frames of node 1's earlier run, recorded in node 0's present run, after node 1 restarted and died.
    let (mut cluster, tape) = recorded(2, 2);
    let frames = tape.borrow().clone();
    cluster.crash(1);
    cluster.start(1);
    cluster.run(5 * SECOND);
    cluster.crash(1);
    cluster.run(10 * SECOND);
    let (instance, before) = (cluster.view(1, 0).instance, cluster.view(1, 0).last_seen);
    cluster.take_changes();
    for packet in frames.iter().filter(|p| p.from == 1) {
        let answer = cluster.inject(0, address(1), &packet.bytes);
        assert!(matches!(answer, Err(Reject::Instance | Reject::Replay)), "{answer:?}");
    }
    assert_eq!((cluster.view(1, 0).instance, cluster.view(1, 0).last_seen), (instance, before));
    assert_eq!((cluster.status(1, 0), cluster.take_changes()), (PeerStatus::Down, vec![]));
}

#[test]
fn restarted_and_new_nodes_believe_no_recording() {
    // Node 2 is new: it was not there when the others were recorded, and the one who is dead had it in its roster.
    let (mut cluster, tape) = recorded(2, 3);
    let mut three = Cluster::new(3, 4);
    three.crash(2);
    let record = tape.clone();
    three.rule = Box::new(move |packet, _| {
        record.borrow_mut().push(packet.clone());
        Fate::After(PATH)
    });
    three.run(8 * SECOND);
    for cluster in [&mut cluster, &mut three] {
        cluster.crash(1);
        cluster.crash(0);
        cluster.start(0);
        let newest = cluster.nodes.len() - 1;
        if newest == 2 {
            cluster.start(newest);
        }
        cluster.run(100 * MS);
        let frames = tape.borrow().clone();
        assert!(frames.iter().filter(|p| p.from == 1).count() > 10);
        for at in [0, newest].into_iter().filter(|at| *at != 1) {
            for packet in frames.iter().filter(|p| p.from == 1) {
                for from in [address(1), ([10, 9, 9, 9], 4444).into()] {
                    let _ = cluster.inject(at, from, &packet.bytes);
                }
            }
            assert_eq!((cluster.view(1, at).last_seen, cluster.view(1, at).instance), (None, None));
        }
    }
}

#[test]
fn hello_flood_during_restart() {
    // Confirmed as soon as without the flood, or one try later.
    let took = |flood: bool| {
        let (mut cluster, tape) = recorded(2, 4);
        cluster.crash(1);
        cluster.start(1);
        tape.borrow_mut().clear();
        cluster.run(3 * SECOND);
        let hellos: Vec<_> =
            tape.borrow().iter().filter(|p| p.from == 1 && p.bytes[0] == 0x6C).cloned().collect();
        assert!(!hellos.is_empty());
        cluster.crash(1);
        cluster.start(1);
        let start = cluster.now;
        while cluster.view(0, 1).instance.is_none() || cluster.view(1, 0).restarts < 2 {
            cluster.run(MS);
            assert!(cluster.now.since(start) < 3 * SECOND, "the restart is confirmed, flood: {flood}");
            for hello in hellos.iter().filter(|_| flood) {
                let _ = cluster.inject(0, address(1), &hello.bytes);
            }
        }
        cluster.now.since(start)
    };
    let (quiet, flooded) = (took(false), took(true));
    assert!(flooded <= quiet + 170 * MS, "{flooded:?}, {quiet:?} without the flood");
}

#[test]
fn reflect() {
    // A node that has just started knows of no hello that it was answered: recordings get answers, but few and short.
    let tape = Rc::new(RefCell::new(Vec::new()));
    let record = tape.clone();
    let mut cluster = Cluster::new(2, 5);
    cluster.rule = Box::new(move |p, _| {
        if p.from == 1 && p.bytes[0] == 0x6C {
            record.borrow_mut().push(p.bytes.clone());
        }
        Fate::Lost
    });
    cluster.run(60 * SECOND);
    cluster.crash(1);
    cluster.crash(0);
    cluster.start(0);
    let frames = tape.borrow().clone();
    assert!(frames.len() > 10);
    let before = cluster.node(0).stats().clone();
    let own = cluster.sent[0];
    for second in 0..10 {
        for i in 0..10_000 {
            let _ = cluster.inject(0, ([10, 9, 9, 9], 4444).into(), &frames[(second + i) % frames.len()]);
        }
        cluster.run(SECOND);
    }
    let after = cluster.node(0).stats();
    let answers = cluster.sent[0] - own - (after.heartbeats_sent + after.heartbeat_retries) as usize;
    assert!((100..=200).contains(&answers), "{answers} answers in 10 s: 20 a second");
    let (sent, got) = (after.sent_bytes - before.sent_bytes, after.received_bytes - before.received_bytes);
    assert!(sent <= got, "{sent} bytes out, {got} in");
    assert_eq!(cluster.view(1, 0).last_seen, None);
}

/// Whatever one sends to the other comes first from a forged source, by a copier on the path; then one really moves.
#[test]
fn raced_address() {
    let forged: SocketAddr = ([10, 9, 9, 9], 4444).into();
    let mut answered = 0;
    for (raced_at, moves) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (mut cluster, mut raced, mut came) = (whole(2, 6), 0, 0);
        let other = 1 - raced_at;
        cluster.rule = Box::new(|_, _| Fate::After(50 * MS));
        for _ in 0..2_000 {
            cluster.run(10 * MS);
            let mut copies = Vec::new();
            for arrival in cluster.air.values() {
                if let Arrival::Datagram(p) = arrival
                    && p.from == other
                {
                    copies.push(p.bytes.clone());
                }
            }
            for copy in copies {
                raced += usize::from(cluster.inject(raced_at, forged, &copy).is_ok());
                came += copy.len();
            }
            assert_eq!(cluster.view(other, raced_at).address, Some(address(other)));
        }
        let out = cluster.astray.get(&forged).copied().unwrap_or_default();
        assert!(out <= came, "{out} bytes out, {came} in");
        answered += out;
        assert!(raced > 10, "{raced} copies came first");
        assert_eq!(cluster.take_changes(), []);
        let to: SocketAddr = ([10, 0, 1, 1], 7777).into();
        cluster.moved.insert(moves, to);
        let took = cluster.run_until(5 * SECOND, |c| c.view(moves, 1 - moves).address == Some(to));
        assert!(took <= 2 * SECOND + 500 * MS, "a move is followed within two heartbeats: {took:?}");
        cluster.run(5 * SECOND);
        assert_eq!(cluster.take_changes(), []);
        assert!(cluster.is_whole());
    }
    assert!(answered > 0, "pings are answered to where they came from");
}

#[test]
fn rollback() {
    let (mut cluster, tape) = recorded(2, 7);
    // Node 0 is restored to an earlier state: to its peer it is as if it forgot what it sent. A fresh core under
    // the same instance stands for it.
    let old = cluster.node(0).instance();
    cluster.crash(0);
    cluster.instances = old.0 - 1;
    cluster.start(0);
    assert_eq!(cluster.node(0).instance(), old);
    let told = |c: &Cluster| c.events.iter().any(|(n, e)| *n == 0 && e.change == Change::Rollback);
    let took = cluster.run_until(3 * SECOND, told);
    assert!(took <= 1500 * MS, "a heartbeat and its timeout: {took:?}");
    let now = cluster.now;
    cluster.nodes[0].as_mut().unwrap().renew(Instance(99), now);
    let renewed = tape.borrow().len();
    cluster.run_until(8 * SECOND, Cluster::is_whole);
    cluster.run(10 * SECOND);
    // A clear header names the key's sender and the nonce: with another text it never comes twice.
    let mut sealed: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let tape = tape.borrow();
    for (n, packet) in tape.iter().enumerate() {
        let (_, len) = Header::parse(&packet.bytes).unwrap();
        let header = [&packet.bytes[..len], &[packet.to as u8]].concat();
        let again = sealed.insert(header, packet.bytes.clone()).is_some_and(|other| other != packet.bytes);
        assert!(!again || n < renewed, "{packet:?}");
    }
}

#[test]
fn hello_from_elsewhere() {
    // Node 0 knows node 1 by its address alone; a hello of node 2, replayed from there, never pins its id on it.
    fn nameless(config: &mut PeerConfig) {
        if &*config.server_id == "node-0" {
            config.static_peers = [StaticPeer { server_id: None, ..config.static_peers[0].clone() }].into();
        }
    }
    let mut cluster = Cluster::with(3, 8, nameless);
    cluster.crash(1);
    let tape = Rc::new(RefCell::new(Vec::new()));
    let record = tape.clone();
    cluster.rule = Box::new(move |p, _| {
        record.borrow_mut().push(p.clone());
        Fate::After(PATH)
    });
    cluster.run(3 * SECOND);
    let frames = tape.borrow().clone();
    for packet in frames.iter().filter(|p| p.from == 2) {
        let _ = cluster.inject(0, address(1), &packet.bytes);
    }
    cluster.run(SECOND);
    let names = |c: &Cluster| c.node(0).registry().get_all_peers()[0].server_id.to_string();
    assert_eq!(names(&cluster), address(1).to_string());
    cluster.start(1);
    cluster.run(3 * SECOND);
    assert_eq!(names(&cluster), name(1), "learned from its own Welcome");
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Up);
}

#[test]
fn a_hello_for_another_restarts_nobody() {
    // A hello names no addressee. Replayed to node 2 under node 0's address, it makes that one answer node 0 with a number
    // of another pair, higher than all that node 0 ever sent it.
    let (mut cluster, tape) = recorded(3, 13);
    cluster.crash(2);
    cluster.run(60 * SECOND);
    let record = tape.clone();
    cluster.rule = Box::new(move |packet, _| {
        record.borrow_mut().push(packet.clone());
        if packet.from + packet.to == 1 { Fate::Lost } else { Fate::After(PATH) }
    });
    tape.borrow_mut().clear();
    cluster.run(4 * SECOND);
    let hellos: Vec<Packet> =
        tape.borrow().iter().filter(|p| (p.from, p.to, p.bytes[0]) == (0, 1, 0x6C)).cloned().collect();
    assert!(hellos.len() > 2);
    cluster.rule = cut(PATH, |_, _| false);
    cluster.start(2);
    cluster.run_until(15 * SECOND, Cluster::is_whole);
    let (sent, run) = (cluster.sent[2], cluster.node(0).instance());
    for hello in &hellos {
        let _ = cluster.inject(2, address(0), &hello.bytes);
    }
    assert!(cluster.sent[2] > sent, "it answers");
    cluster.run(5 * SECOND);
    assert!(
        !cluster.events.iter().any(|(_, e)| e.change == Change::Rollback),
        "nobody takes itself for a clone"
    );
    assert_eq!((cluster.node(0).instance(), cluster.view(0, 1).restarts), (run, 0));
    assert!(cluster.is_whole());
}

#[test]
fn no_sequence_in_a_hello_panics() {
    let mut cluster = whole(2, 1);
    for sequence in [(1 << 62) - 1, 1 << 62, u64::MAX - 1, u64::MAX] {
        let hello = forge::hello(1, Instance(4711), 0, &forge::hello_body(1, 0, sequence));
        let _ = cluster.inject(0, address(1), &hello);
    }
}

#[test]
fn a_short_stranger_is_no_other_version() {
    let mut cluster = Cluster::new(2, 1);
    cluster.rule = cut(PATH, |_, _| true);
    assert_eq!(cluster.inject(0, address(1), &[1, 2, 3]), Err(Reject::Size));
    cluster.run(10 * SECOND);
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Unknown);
}

#[test]
fn conflict_of_two_runs() {
    // A second process takes 1's id while the first lives on, at another address.
    let mut cluster = whole(3, 9);
    let old = cluster.nodes[1].take().unwrap();
    cluster.start(1);
    let mut twin = cluster.nodes[1].replace(old).unwrap();
    // The twin speaks from elsewhere; node 0's answers reach it.
    let elsewhere: SocketAddr = ([10, 9, 9, 9], 5278).into();
    let mut buffer = Vec::new();
    for _ in 0..5000 {
        cluster.run(MS);
        let now = cluster.now;
        if twin.poll_timeout().is_some_and(|t| t <= now) {
            twin.handle_timeout(now);
        }
        let mut out = Vec::new();
        while let Some(t) = twin.poll_transmit(now, &mut buffer) {
            if t.to == address(0) {
                out.push(buffer.clone());
            }
        }
        for bytes in out {
            let node = cluster.nodes[0].as_mut().unwrap();
            let mut bytes = bytes;
            let _ = node.handle_datagram(elsewhere, None, &mut bytes, now, now);
            let mut own = Vec::new();
            while let Some(t) = node.poll_transmit(now, &mut buffer) {
                if t.to == elsewhere {
                    own.push(buffer.clone());
                }
            }
            for mut bytes in own {
                let _ = twin.handle_datagram(address(0), None, &mut bytes, now, now);
            }
        }
    }
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Conflict, "{:?}", cluster.view(1, 0));
    assert_eq!(cluster.take_changes(), [], "no flapping");
    assert!(cluster.view(1, 0).restarts <= 1, "the later run is taken for a restart, once");
}
