//! Tables that talk with each other, over links that lose what they say.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::proto::timer::Time;

const SECOND: Duration = Duration::from_secs(1);
const NOW: Time = Time::from_micros(1_000_000);
const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Five tables, one a node, everybody each other's neighbour (its place among the others).
fn tables() -> Vec<Records> {
    let table = |me: usize| {
        let mut names = IDS.map(NodeName::of);
        names.sort();
        let place = names.binary_search(&NodeName::of(IDS[me])).unwrap();
        let mut table = Records::new(Arc::from(names), place, 4);
        (0..4).for_each(|neighbour| table.greet(neighbour));
        table
    };
    (0..5).map(table).collect()
}

fn seen(peer: usize, life: Life) -> Seen {
    Seen { peer: NodeName::of(IDS[peer]), life, link: LinkState::Down }
}

fn row(mut all: Vec<Seen>) -> Body {
    all.sort_by_key(|s| s.peer);
    all.dedup_by_key(|s| s.peer);
    Body::Row(all)
}

/// The index of `other` among the neighbours of `me`.
fn neighbour(me: usize, other: usize) -> usize {
    other - usize::from(other > me)
}

/// One datagram from a to b; if it comes, b echoes it.
fn send(tables: &mut [Records], a: usize, b: usize, sequence: u64, comes: bool) {
    let records = tables[a].pick(neighbour(a, b), 60, sequence);
    if comes {
        for record in records {
            tables[b].merge(&record, Some(neighbour(b, a)));
        }
        tables[a].echoed(neighbour(a, b), sequence);
    }
}

fn contents(table: &Records) -> Vec<Option<Record>> {
    (0..table.names().len() * 2).map(|slot| table.record(slot)).collect()
}

/// What one table holds; its owner named by place.
fn any_record() -> impl Strategy<Value = Record> {
    (0..5usize, 1..4u64, prop::collection::vec((0..5usize, 0..3u8), 0..4)).prop_map(
        |(owner, version, all)| {
            let life = [Life::Suspected, Life::Down, Life::Unknown];
            let all = all.into_iter().map(|(peer, n)| seen(peer, life[usize::from(n)])).collect();
            Record { owner: NodeName::of(IDS[owner]), version, body: row(all) }
        },
    )
}

proptest! {
    #[test]
    fn order_does_not_matter_and_twice_is_once(records in prop::collection::vec(any_record(), 0..20)) {
        let (mut one, mut other) = (tables().remove(0), tables().remove(0));
        for record in &records {
            one.merge(record, Some(1));
        }
        for record in records.iter().rev().chain(&records) {
            other.merge(record, Some(2));
        }
        let me = one.me();
        let of = |table: &Records| {
            let mut all = contents(table);
            all[me * 2] = None; // Its own version depends on how often it was raised.
            all
        };
        prop_assert_eq!(of(&one), of(&other));
    }

    #[test]
    fn tables_converge_over_lossy_links(
        says in prop::collection::vec((0..5usize, 0..5usize), 1..12),
        lost in prop::collection::vec(any::<bool>(), 64),
    ) {
        let mut tables = tables();
        let mut sequence = 0;
        for (node, peer) in says {
            tables[node].publish(row(vec![seen(peer, Life::Down)]));
            for other in (0..5).filter(|n| *n != node) {
                sequence += 1;
                send(&mut tables, node, other, sequence, lost[sequence as usize % 64]);
            }
        }
        for _ in 0..4 {
            for (a, b) in (0..25).map(|n| (n / 5, n % 5)).filter(|(a, b)| a != b) {
                sequence += 1;
                send(&mut tables, a, b, sequence, true);
            }
        }
        prop_assert!(tables.iter().all(Records::is_quiet));
        for table in &tables[1..] {
            prop_assert_eq!(contents(table), contents(&tables[0]));
            prop_assert_eq!(table.fingerprint(), tables[0].fingerprint());
        }
    }
}

#[test]
fn old_row_after_restart() {
    let mut tables = tables();
    let old = Record { owner: NodeName::of("b"), version: 7, body: row(vec![seen(0, Life::Down)]) };
    tables[2].merge(&old, None);
    // The new run of b begins at 1; c, who holds version 7, tells it so, and b goes above.
    tables[1].publish(row(vec![]));
    for sequence in 0..2 {
        send(&mut tables, 1, 2, sequence, true);
        send(&mut tables, 2, 1, sequence, true);
    }
    let place = tables[2].place(NodeName::of("b")).unwrap();
    send(&mut tables, 1, 2, 9, true);
    let record = tables[2].record(place * 2).unwrap();
    assert_eq!((record.version, record.body), (8, row(vec![])));
}

#[test]
fn what_differs_for_two_comparisons_is_synced_by_pages() {
    let mut tables = tables();
    for node in [2, 3, 4] {
        let body = row(vec![seen(0, Life::Down)]);
        let record = Record { owner: NodeName::of(IDS[node]), version: 3, body };
        tables[usize::from(node < 4)].merge(&record, None);
    }
    (0..2).for_each(|node| assert!(tables[node].publish(row(vec![]))));
    for table in &mut tables[..2] {
        (0..4).for_each(|n| table.part(n));
        (0..4).for_each(|n| table.greet(n));
    }
    let (one, other) = (neighbour(0, 1), neighbour(1, 0));
    let told = tables[1].digest(other);
    assert_eq!(tables[0].compare(one, told, NOW, SECOND), None, "it may be on its way");
    assert_eq!(tables[0].compare(one, told, NOW, SECOND), Some(0));
    let (mut after, mut pages) = (None, 0);
    loop {
        let (page, last) = tables[1].page(0, after, 30);
        pages += 1;
        tables[0].lacks(one, 0, after, &page, last);
        after = page.last().map(|r| r.owner);
        page.into_iter().for_each(|record| assert_ne!(tables[0].merge(&record, Some(one)), Met::Raised));
        if last {
            break;
        }
    }
    assert!(pages > 1);
    for sequence in 0..9 {
        send(&mut tables, 0, 1, sequence, true);
        send(&mut tables, 1, 0, sequence, true);
    }
    assert_eq!(contents(&tables[0]), contents(&tables[1]));
    assert_eq!(contents(&tables[0]).iter().flatten().count(), 5);
    let told = tables[1].digest(other);
    assert_eq!((tables[0].compare(one, told, NOW, SECOND), tables[0].differs(one)), (None, false));
}

#[test]
fn what_others_say_goes_to_some_and_the_digest_tells_the_rest() {
    let names: Arc<[NodeName]> = (0..40u8).map(|n| NodeName([n; 5])).collect();
    let mut table = Records::new(names.clone(), 0, 20);
    (0..20).for_each(|neighbour| table.greet(neighbour));
    let mut told = [0; 20];
    for owner in 20..40 {
        let record = Record { owner: names[owner], version: 1, body: row(vec![]) };
        table.merge(&record, Some(3));
        let who: Vec<usize> = (0..20).filter(|n| !table.pick(*n, 1000, owner as u64).is_empty()).collect();
        assert_eq!(who.len(), 8);
        who.iter().for_each(|n| told[*n] += 1);
        who.iter().for_each(|n| assert_eq!(table.echoed(*n, owner as u64), 1));
    }
    assert!(table.is_quiet());
    // Who brought it is not told, and all others are told something.
    assert!((0..20).all(|n| (told[n] == 0) == (n == 3)), "{told:?}");
    table.publish(row(vec![]));
    assert!((0..20).all(|n| table.pick(n, 1000, 99).len() == 1), "its own row goes to all");
    // Who was told nothing has another digest.
    let mut other = Records::new(names, 1, 20);
    other.greet(0);
    let digest = table.digest(3);
    assert_eq!([0, 1].map(|_| other.compare(0, digest, NOW, SECOND)), [None, Some(0)]);
}

#[test]
fn a_row_that_does_not_fit_waits_and_nothing_behind_it_does() {
    let mut tables = tables();
    let long = Record {
        owner: NodeName::of("b"),
        version: 1,
        body: row((0..5).map(|p| seen(p, Life::Down)).collect()),
    };
    let len = long.encoded_len();
    tables[0].merge(&long, None);
    for node in [2, 3, 4] {
        tables[0].merge(&Record { owner: NodeName::of(IDS[node]), version: 1, body: row(vec![]) }, None);
    }
    let short = tables[0].pick(1, len - 1, 1);
    assert_eq!((short.len(), tables[0].has_more(1)), (3, true));
    assert_eq!(tables[0].echoed(1, 1), 3);
    assert_eq!(tables[0].pick(1, len, 2), [long]);
}
