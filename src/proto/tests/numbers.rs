//! No key seals two texts under one number.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::proto::seal::Header;

/// What was sealed under each number: by key id, sender, run and number, which the clear header holds, and addressee.
type Sealed = Rc<RefCell<BTreeMap<(Vec<u8>, usize), Vec<u8>>>>;

/// From now on a tenth is lost, and no number may come twice with another text.
fn watched(cluster: &mut Cluster, seed: u64) -> Sealed {
    let sealed = Sealed::default();
    let (noted, mut fate) = (sealed.clone(), keys::losing(10, PATH, seed));
    cluster.rule = Box::new(move |packet, now| {
        let (_, len) = Header::parse(&packet.bytes).unwrap();
        let key = (packet.bytes[..len].to_vec(), packet.to);
        let before = noted.borrow_mut().insert(key, packet.bytes.clone());
        assert!(before.is_none_or(|before| before == packet.bytes), "twice: {packet:?}");
        fate(packet, now)
    });
    sealed
}

#[test]
fn no_number_comes_twice_over_restarts_and_other_keys() {
    for seed in 1..4 {
        let mut cluster = Cluster::new(3, seed);
        let sealed = watched(&mut cluster, seed);
        let rings: [&[u8]; 3] = [&[7, 9], &[9, 7], &[7]];
        for round in 0..30 {
            let node = round % 3;
            cluster.run(2 * SECOND);
            let now = cluster.now;
            match round % 4 {
                0 => {
                    cluster.crash(node);
                    cluster.start(node);
                }
                1 => cluster.nodes[node].as_mut().unwrap().renew(Instance(7_000_000 + round as u64), now),
                2 => cluster.nodes[node].as_mut().unwrap().set_keys(ring(rings[round / 4 % 3]), now).unwrap(),
                _ => cluster.sleep(node, 7 * SECOND),
            }
        }
        assert!(sealed.borrow().len() > 300, "{}", sealed.borrow().len());
    }
}

#[test]
fn a_run_without_numbers_left_falls_silent() {
    let mut cluster = Cluster::new(2, 1);
    let last = (1 << 62) - 20 * 32;
    cluster.nodes[0].as_mut().unwrap().skip_numbers(last);
    let sealed = watched(&mut cluster, 1);
    cluster.run_until(5 * SECOND, Cluster::is_whole);
    cluster.run(2000 * SECOND);
    assert_eq!(cluster.view(0, 1).status, PeerStatus::Down);
    assert!(cluster.node(0).stats().outputs_dropped > 0);
    let (mine, now): (u64, u64) = sealed.borrow().keys().fold((0, 0), |(most, count), (header, _)| {
        let (header, _) = Header::parse(&[&header[..], &[0; 35]].concat()).unwrap();
        if header.number > last { (most.max(header.number), count + 1) } else { (most, count) }
    });
    assert!(mine < 1 << 62 && now > 600, "{mine} {now}");
    // Its next run has all of them again.
    cluster.crash(0);
    cluster.start(0);
    cluster.run_until(15 * SECOND, Cluster::is_whole);
}
