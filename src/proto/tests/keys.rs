//! Several keys, keys that turn, and those who have another one.

use super::*;
use PeerStatus::Down;

#[test]
fn wrong_name_key() {
    // A keyed node gets frames under the key of the cluster's name.
    let mut cluster = whole(2, 9);
    let config = cluster.node(1).config().clone();
    let keys = Keyring::new("test", &[], true).unwrap();
    let mut stranger = Node::new(config, keys, Instance(5), 5, cluster.now).unwrap();
    stranger.handle_timeout(stranger.poll_timeout().unwrap());
    let mut frame = Vec::new();
    assert!(stranger.poll_transmit(cluster.now, &mut frame).is_some());
    assert_eq!(cluster.inject(0, address(1), &frame), Err(Reject::KeyId));
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Up, "one heard under a good key stays what it is");
}

#[test]
fn key_mismatch_is_named() {
    let mut cluster = Cluster::new(2, 10);
    let config = cluster.node(1).config().clone();
    let keys = Keyring::new("test", &[SecretKey::new([8; 32])], false).unwrap();
    cluster.nodes[1] = Some(Node::new(config, keys, Instance(5), 5, cluster.now).unwrap());
    cluster.run(10 * SECOND);
    let view = cluster.view(1, 0);
    assert_eq!(view.verdict, Verdict::KeyMismatch, "{}", view.why);
}

/// Loses so many datagrams of a hundred, and lets the others pass.
pub(crate) fn losing(loss: u64, one_way: Duration, seed: u64) -> impl FnMut(&Packet, Time) -> Fate {
    let mut state = 88172645463325252u64 + seed;
    move |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state % 100 < loss { Fate::Lost } else { Fate::After(one_way) }
    }
}

fn rotate(
    first: &'static [u8],
    second: &'static [u8],
    one_way: Duration,
    loss: u64,
    seed: u64,
) -> (Vec<(usize, String, PeerStatus)>, bool) {
    let mut cluster = Cluster::new(2, seed);
    for (node, keys) in [(0, first), (1, second)] {
        let config = cluster.node(node).config().clone();
        let seed = seed * 2 + node as u64;
        cluster.nodes[node] =
            Some(Node::new(config, ring(keys), Instance(77 + seed), seed, cluster.now).unwrap());
    }
    cluster.rule = Box::new(losing(loss, one_way, seed));
    cluster.run(120 * SECOND);
    // On a path too slow for retries every second heartbeat alone gets through.
    let end = cluster.now + 2 * SECOND;
    cluster.run_while(end, |c| !c.is_whole());
    let whole = cluster.is_whole();
    (cluster.take_changes().into_iter().filter(|c| c.2 == Down).collect(), whole)
}

#[test]
fn rotate_any_order() {
    let pairs: [(&'static [u8], &'static [u8]); 6] = [
        (&[1], &[1, 2]),
        (&[1], &[2, 1]),
        (&[1, 2], &[2, 1]),
        (&[2, 1], &[2]),
        (&[1, 3, 2], &[2]),
        (&[2, 1], &[1]),
    ];
    let mut bad = Vec::new();
    for (a, b) in pairs {
        for (path, loss) in [(PATH, 0), (PATH, 30), (400 * MS, 0)] {
            for seed in 1..4 {
                if a.len() > 2 && path > PATH {
                    continue; // One try a heartbeat: the turn of the third key comes after the fifth miss.
                }
                let (downs, whole) = rotate(a, b, path, loss, seed);
                if !downs.is_empty() || (loss == 0 && !whole) {
                    bad.push(format!(
                        "{a:?} {b:?} path {path:?} loss {loss} seed {seed}: {} Downs, whole {whole}",
                        downs.len()
                    ));
                }
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn keys_turn_without_a_gap() {
    // A new key everywhere, then the first one everywhere, then the old one gone: at every node at another time.
    for (loss, seed) in [(0, 1), (0, 2), (30, 3), (30, 4)] {
        let mut cluster = whole(4, seed);
        cluster.rule = Box::new(losing(loss, PATH, seed));
        for keys in [&[7, 9][..], &[9, 7], &[9]] {
            for node in 0..4 {
                let now = cluster.now;
                cluster.nodes[node].as_mut().unwrap().set_keys(ring(keys), now).unwrap();
                cluster.run(7 * SECOND / 3);
            }
            cluster.run(10 * SECOND);
            let id = ring(keys).id(0);
            if loss == 0 {
                assert!((0..4).all(|at| cluster.view(at, (at + 1) % 4).key_id == Some(id)), "{keys:?}");
            }
        }
        let told = cluster.events.iter().filter(|(_, e)| e.change == Change::Keys);
        assert_eq!(told.map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1, 2, 3].repeat(3));
        let downs = cluster.take_changes().iter().filter(|c| c.2 == Down).count();
        assert_eq!(downs, 0, "loss {loss}, seed {seed}");
        if loss == 0 {
            let key_id = |node: usize| cluster.node(node).stats().rejected[Reject::KeyId as usize];
            assert!((0..4).all(|node| key_id(node) <= 12), "first tries under a key that is not there yet");
            assert!((0..4).all(|n| cluster.view(n, (n + 2) % 4).restarts == 0), "nobody began anew");
        }
    }
}

#[test]
fn a_key_that_is_gone_opens_nothing() {
    let mut cluster = whole(2, 1);
    let now = cluster.now;
    cluster.nodes[1].as_mut().unwrap().set_keys(ring(&[9]), now).unwrap();
    cluster.run(10 * SECOND);
    assert_eq!(cluster.view(0, 1).status, Down);
    assert!(cluster.node(1).stats().rejected[Reject::KeyId as usize] > 5);
    // The same key again: it goes on.
    let now = cluster.now;
    cluster.nodes[1].as_mut().unwrap().set_keys(ring(&[7]), now).unwrap();
    cluster.run(15 * SECOND);
    assert!(cluster.is_whole());
}

#[test]
fn the_same_keys_again_change_nothing() {
    let mut cluster = whole(3, 1);
    let now = cluster.now;
    cluster.nodes[0].as_mut().unwrap().set_keys(ring(&[7]), now).unwrap();
    cluster.run(SECOND);
    assert!(!cluster.events.iter().any(|(_, e)| e.change == Change::Keys), "the same keys are no news");
    cluster.run(5 * SECOND);
    assert!(cluster.is_whole());
}
