//! What a hello proves (nothing), and what the Welcome that answers it proves (no more than the hello's number tells).

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::proto::messages::Message;
use crate::proto::seal::Header;
use PeerStatus::Down;

type Tape = Rc<RefCell<Vec<Packet>>>;

fn is_hello(packet: &Packet) -> bool {
    packet.bytes[0] == 0x6C
}

/// A rule that keeps what `kept` names and loses it, and lets the rest pass.
fn keeping(kept: impl Fn(&Packet) -> bool + 'static) -> (Tape, Rule) {
    let tape = Tape::default();
    let record = tape.clone();
    let rule = Box::new(move |packet: &Packet, _| {
        if kept(packet) {
            record.borrow_mut().push(packet.clone());
            return Fate::Lost;
        }
        Fate::After(PATH)
    });
    (tape, rule)
}

/// The message of a bound frame between the present runs of two nodes.
fn opened(packet: &Packet, runs: &[Instance]) -> Message {
    let keys = ring(&[7]);
    let (header, len) = Header::parse(&packet.bytes).unwrap();
    let party = |node: usize| (keys.tag(0, &name(node)), runs[node]);
    let mut bytes = packet.bytes.clone();
    let key = keys.frame_key(0, party(packet.from), party(packet.to));
    Message::decode(key.open_in_place(&mut bytes, len, header.number).unwrap()).unwrap()
}

/// A cluster whose nodes all hold the quorum guard.
fn guarded(nodes: usize) -> Cluster {
    let mut cluster = Cluster::new(nodes, 6);
    for node in cluster.nodes.iter_mut().flatten() {
        node.keep_rosters(RosterState::default(), cluster.now).unwrap();
    }
    for _ in 0..2 {
        let now = cluster.now;
        for node in cluster.nodes.iter_mut().flatten() {
            if let Some((number, _)) = node.poll_state() {
                node.handle_state_saved(number, now);
            }
        }
        cluster.run(20 * SECOND);
    }
    assert!(cluster.nodes.iter().flatten().all(|node| node.quorum_guard(cluster.now).is_some()));
    cluster
}

fn runs(cluster: &Cluster) -> Vec<Instance> {
    (0..cluster.nodes.len()).map(|node| cluster.node(node).instance()).collect()
}

fn conflicts(cluster: &Cluster, at: usize) -> Vec<String> {
    let told = cluster.events.iter().filter(|(n, e)| *n == at && matches!(e.change, Change::Conflict { .. }));
    told.map(|(_, event)| event.why.clone()).collect()
}

#[test]
fn a_welcome_that_was_held_back_makes_no_dead_node_live() {
    // Node 0 reaches neither node 1 nor node 2. Its hellos to node 1 are replayed to node 2, whose answers are held back. Then
    // node 2 dies, and node 0 goes on greeting it: were the echo a number of the pair, it would meet such a hello.
    let mut cluster = Cluster::new(3, 31);
    let (sent, rule) = keeping(|_| true);
    cluster.rule = rule;
    cluster.run(20 * SECOND);
    let (answers, rule) = keeping(|_| true);
    cluster.rule = rule;
    for hello in sent.borrow().iter().filter(|p| (p.from, p.to) == (0, 1) && is_hello(p)) {
        let _ = cluster.inject(2, address(0), &hello.bytes);
        cluster.run(100 * MS);
    }
    cluster.crash(2);
    let is_welcome = |packet: &&Packet| packet.from == 2 && !is_hello(packet);
    let held: Vec<Packet> = answers.borrow().iter().filter(is_welcome).cloned().collect();
    assert!(held.len() > 10, "{}", held.len());
    cluster.rule = cut(PATH, |_, _| true);
    cluster.take_changes();
    for _ in 0..100 {
        cluster.run(SECOND);
        for welcome in &held {
            let answer = cluster.inject(0, address(2), &welcome.bytes);
            assert_eq!(answer, Err(Reject::Instance));
        }
    }
    assert_eq!((cluster.view(2, 0).instance, cluster.view(2, 0).last_seen), (None, None));
}

#[test]
fn a_hello_that_was_led_to_another_node_confirms_neither() {
    // Node 0 knows node 1 by its address alone. Somebody on the path leads its hellos to node 2, which node 0 knows.
    fn nameless(config: &mut PeerConfig) {
        if &*config.server_id == "node-0" {
            let mut peers = config.static_peers.to_vec();
            peers[0].server_id = None;
            config.static_peers = peers.into();
        }
    }
    let mut cluster = Cluster::with(3, 8, nameless);
    cluster.crash(1);
    let (hellos, rule) = keeping(|packet| packet.from == 0 && packet.to == 1 && is_hello(packet));
    cluster.rule = rule;
    cluster.run(5 * SECOND);
    let (answers, rule) = keeping(|packet| packet.to == 0 && packet.from == 2);
    cluster.rule = rule;
    for hello in hellos.borrow().iter() {
        let _ = cluster.inject(2, address(0), &hello.bytes);
    }
    let runs = [cluster.node(0).instance(), Instance(0), cluster.node(2).instance()];
    let answers = answers.borrow();
    let welcomes = answers.iter().filter(|p| matches!(opened(p, &runs), Message::Welcome { .. }));
    let mut count = 0;
    for welcome in welcomes {
        for from in [address(1), address(2)] {
            assert_eq!(cluster.inject(0, from, &welcome.bytes), Err(Reject::Meaning));
        }
        count += 1;
    }
    assert!(count > 3, "{count}");
    let peers = cluster.node(0).registry().get_all_peers();
    assert_eq!(
        (&*peers[0].server_id, peers[0].proof),
        (&*address(1).to_string(), None),
        "nobody's id is learned"
    );
}

#[test]
fn a_welcome_to_a_hello_that_was_never_sent_tells_of_a_rollback() {
    let mut cluster = whole(2, 4);
    let (run, me) = (cluster.node(1).instance(), cluster.node(0).instance());
    let server_id = ServerId::new(&name(1)).unwrap();
    let body = forge::body(&Message::Welcome { echo: 1 << 40, hold: 0, server_id });
    let frame = forge::bound((1, run), (0, me), 1000, &body);
    assert_eq!(cluster.inject(0, address(1), &frame), Err(Reject::Meaning));
    assert!(cluster.events.iter().any(|(n, e)| *n == 0 && e.change == Change::Rollback));
}

#[test]
fn a_welcome_of_a_node_that_is_not_observed_is_rejected_unread() {
    fn rings(config: &mut PeerConfig) {
        config.observers = Observers::Number(4);
    }
    let mut cluster = Cluster::with(12, 1, rings);
    cluster.run(20 * SECOND);
    let observed = cluster.node(0).registry().get_all_peers();
    let is_guest = |n: &usize| !observed.iter().any(|peer| *peer.server_id == *name(*n));
    let guest = (1..12).find(is_guest).expect("not everybody is observed");
    let (run, me) = (cluster.node(guest).instance(), cluster.node(0).instance());
    for echo in [0, 1, 1 << 40] {
        let server_id = ServerId::new(&name(guest)).unwrap();
        let body = forge::body(&Message::Welcome { echo, hold: 0, server_id });
        let frame = forge::bound((guest, run), (0, me), 1 << 30, &body);
        assert_eq!(cluster.inject(0, address(guest), &frame), Err(Reject::Meaning));
    }
    assert!(!cluster.events.iter().any(|(_, e)| e.change == Change::Rollback));
}

#[test]
fn recorded_hellos_deny_no_takeover() {
    // Node 1 dies. Hellos of its last run, which somebody kept from their addressees, come every two seconds. Each once was a
    // sign of life, and nobody ever took over what node 1 did.
    for replayed in [false, true] {
        let mut cluster = guarded(3);
        let run = cluster.node(1).instance();
        cluster.crash(1);
        let (mut safe, mut answered) = (false, 0);
        for second in 0..20 {
            let number = 1000 + second;
            let hello = forge::hello(1, run, number, &forge::hello_body(1, number, number));
            for to in [0, 2].into_iter().filter(|_| replayed && second % 2 == 0) {
                answered += u32::from(cluster.inject(to, address(1), &hello).is_ok());
            }
            let now = cluster.now;
            cluster.nodes[0].as_mut().unwrap().watch_takeover(&name(1), now);
            cluster.run(SECOND);
            safe |= cluster.node(0).takeover_safe(&name(1), cluster.now).is_some();
        }
        assert_eq!(answered, if replayed { 20 } else { 0 });
        assert!(safe, "replayed: {replayed}");
    }
}

#[test]
fn welcomes_hold_no_guard() {
    // Of all that node 1 says only Welcomes come: it answers hellos, which it takes for no sign of life.
    let mut cluster = guarded(2);
    let runs = runs(&cluster);
    let passed = Rc::new(RefCell::new(0));
    let count = passed.clone();
    cluster.rule = Box::new(move |packet, _| {
        let welcome = !is_hello(packet) && matches!(opened(packet, &runs), Message::Welcome { .. });
        if packet.from == 1 && !welcome {
            return Fate::Lost;
        }
        *count.borrow_mut() += usize::from(packet.from == 1);
        Fate::After(PATH)
    });
    cluster.run(20 * SECOND);
    assert!(*passed.borrow() > 5, "{} Welcomes", passed.borrow());
    assert_eq!(cluster.node(0).quorum_guard(cluster.now), None);
    assert_ne!(cluster.status(1, 0), Down, "they are life all the same");
}

#[test]
fn ones_own_replayed_hello_is_no_conflict() {
    let mut cluster = Cluster::new(2, 9);
    let (sent, rule) = keeping(|_| true);
    cluster.rule = rule;
    cluster.run(30 * SECOND);
    cluster.crash(0);
    cluster.start(0);
    cluster.rule = cut(PATH, |_, _| false);
    cluster.run(15 * SECOND);
    let elsewhere: SocketAddr = ([10, 9, 9, 9], 4444).into();
    let (mut answered, mut asked) = (0, 0);
    let hellos: Vec<Packet> = sent.borrow().iter().filter(|p| p.from == 0).cloned().collect();
    for hello in hellos.iter().cycle().take(1000) {
        answered += usize::from(cluster.inject(0, elsewhere, &hello.bytes).is_ok());
        asked += hello.bytes.len();
    }
    assert!((1..=20).contains(&answered), "{answered} in one second");
    assert!(cluster.astray[&elsewhere] <= asked);
    cluster.run(5 * SECOND);
    assert_eq!(conflicts(&cluster, 0), [""; 0]);
    assert!(cluster.is_whole());
}

#[test]
fn a_second_process_under_ones_own_id_is_a_conflict() {
    let mut cluster = whole(2, 12);
    let keys = Keyring::new("test", &[SecretKey::new([7; 32])], false).unwrap();
    let nameless =
        StaticPeer { server_id: None, name: address(0).to_string().into(), address: Some(address(0)) };
    let config = PeerConfig { static_peers: [nameless].into(), ..cluster.node(0).config().clone() };
    let mut twin = Node::new(config, keys, Instance(5), 5, cluster.now).unwrap();
    let elsewhere: SocketAddr = ([10, 0, 0, 7], 5278).into();
    let (mut buffer, mut last) = (Vec::new(), Vec::new());
    for _ in 0..3000 {
        cluster.run(MS);
        let now = cluster.now;
        twin.handle_timeout(now);
        while twin.poll_transmit(now, &mut buffer).is_some() {
            last.clone_from(&buffer);
            let node = cluster.nodes[0].as_mut().unwrap();
            assert_eq!(node.handle_datagram(elsewhere, None, &mut buffer, now, now), Ok(()));
            while let Some(t) = node.poll_transmit(now, &mut buffer) {
                if t.to == elsewhere {
                    assert_eq!(twin.handle_datagram(address(0), None, &mut buffer, now, now), Ok(()));
                }
            }
        }
    }
    let told = conflicts(&cluster, 0);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("10.0.0.7:5278") && told[0].contains(&address(0).to_string()), "{told:?}");
    let events: Vec<Event> = std::iter::from_fn(|| twin.poll_event()).collect();
    assert!(
        events.iter().any(|e| e.change == Change::Conflict { address: address(0) }),
        "the other hears of it too"
    );
    assert_eq!(last[0], 0x4C, "the newest is the echo that told node 0");
    cluster.run(120 * SECOND);
    assert_eq!(
        cluster.inject(0, elsewhere, &last),
        Err(Reject::Own),
        "a recording of it tells of no other conflict"
    );
    assert_eq!(conflicts(&cluster, 0).len(), 1);
    assert_eq!(cluster.take_changes(), []);
}
