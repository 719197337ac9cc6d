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
        let place = |of: usize| names.binary_search(&NodeName::of(IDS[of])).unwrap();
        let others: Vec<usize> = (0..5).filter(|other| *other != me).map(place).collect();
        let mut table = Records::new(Arc::from(names), place(me), &others);
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
    (0..table.names().len() * Kind::COUNT).map(|slot| table.record(slot)).collect()
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

#[test]
fn rows_may_name_more_nodes_than_the_roster_has() {
    let mut table = tables().remove(0);
    let stranger = |n: u8| Seen { peer: NodeName([n; 5]), life: Life::Down, link: LinkState::Down };
    // The row of c, then that of b, which does not reach c: others are to tell c.
    for (owner, more) in [(2, None), (1, Some(seen(2, Life::Healthy)))] {
        let body = row((0..9).map(stranger).chain(more).collect());
        let record = Record { owner: NodeName::of(IDS[owner]), version: 1, body };
        assert_eq!(table.merge(&record, Some(0)), Met::New(table.place(record.owner).unwrap()));
    }
    let told = table.pick(neighbour(0, 2), 500, 1);
    assert!(told.iter().any(|record| record.owner == NodeName::of("b")), "{told:?}");
}

#[test]
fn a_new_profile_goes_with_every_datagram_until_that_neighbour_has_echoed_it() {
    let mut table = tables().remove(0);
    let profile = |wire: u8| Profile {
        instance: Instance(1),
        roster: [1; 4],
        config: [2; 4],
        release: Release([0; 3]),
        wire,
        id: None,
        away: None,
        standing: Standing::Witness,
    };
    let carries = |table: &mut Records, sequence: u64, room: usize| {
        let picked = table.pick(0, room, sequence);
        let carries = picked.iter().any(|record| matches!(record.body, Body::Profile(_)));
        assert_eq!(table.is_reported(0, &picked, 500), carries || sequence > 100, "{sequence}");
        carries
    };
    table.publish(Body::Profile(profile(1)));
    // The link does not work: it goes out all the same.
    table.part(0);
    assert!(carries(&mut table, 1, 500) && carries(&mut table, 2, 500));
    assert!(!carries(&mut table, 3, 10), "without room there is no report");
    table.echoed(0, 3);
    assert!(carries(&mut table, 4, 500), "the echo is of one that did not carry it");
    table.publish(Body::Profile(profile(2)));
    table.echoed(0, 4);
    assert!(carries(&mut table, 5, 500), "the echo is of one that carried the profile before");
    table.echoed(0, 5);
    assert!(!carries(&mut table, 101, 500), "it is known");
    table.meet_run(0);
    assert!(carries(&mut table, 6, 500), "a new run knows nothing");
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
            all[me * Kind::COUNT] = None; // Its own version depends on how often it was raised.
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
    let record = tables[2].record(place * Kind::COUNT).unwrap();
    assert_eq!((record.version, record.body), (8, row(vec![])));
}

/// All tell each other what they owe, until nothing is owed any more.
fn settle(tables: &mut [Records], sequence: &mut u64) {
    for _ in 0..20 {
        for (a, b) in (0..25).map(|n| (n / 5, n % 5)).filter(|(a, b)| a != b) {
            *sequence += 1;
            send(tables, a, b, *sequence, true);
        }
    }
    assert!(tables.iter().all(Records::is_quiet));
}

#[test]
fn a_forged_version_does_not_last() {
    // Who has the key can say anything in b's name. Once it is gone nothing of that may stay.
    let forged = |version| {
        let body = row((0..5).map(|peer| seen(peer, Life::Down)).collect());
        Record { owner: NodeName::of("b"), version, body }
    };
    let top = [2, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, u64::MAX - 1, u64::MAX];
    // The third of three lies as far above the first as above the second.
    let third = u64::MAX / 3;
    let all = top.iter().map(|version| vec![*version]).chain([vec![third, 2 * third, u64::MAX]]);
    for versions in all {
        let (mut tables, mut sequence) = (tables(), 0);
        tables[1].publish(row(vec![seen(0, Life::Suspected)]));
        settle(&mut tables, &mut sequence);
        for (n, version) in versions.iter().enumerate() {
            tables[2 + n].merge(&forged(*version), None);
        }
        settle(&mut tables, &mut sequence);
        tables[1].publish(row(vec![seen(3, Life::Suspected)]));
        settle(&mut tables, &mut sequence);
        let slot = tables[0].place(NodeName::of("b")).unwrap() * Kind::COUNT;
        for table in &tables {
            let told = table.record(slot).unwrap();
            assert_eq!(told.body, row(vec![seen(3, Life::Suspected)]), "{versions:x?}, {}", told.version);
            assert_eq!(contents(table), contents(&tables[0]));
        }
    }
}

#[test]
fn what_differs_for_two_comparisons_is_synced_by_pages() {
    let mut tables = tables();
    let (a, b) = if tables[0].asks(neighbour(0, 1)) { (0, 1) } else { (1, 0) };
    for node in [2, 3, 4] {
        let body = row(vec![seen(0, Life::Down)]);
        let record = Record { owner: NodeName::of(IDS[node]), version: 3, body };
        tables[if node < 4 { b } else { a }].merge(&record, None);
    }
    (0..2).for_each(|node| assert!(tables[node].publish(row(vec![]))));
    for table in &mut tables[..2] {
        (0..4).for_each(|n| table.part(n));
        (0..4).for_each(|n| table.greet(n));
    }
    let (one, other) = (neighbour(a, b), neighbour(b, a));
    let told = tables[b].digest(other);
    assert_eq!(tables[a].compare(one, told, NOW, SECOND), None, "it may be on its way");
    assert_eq!(tables[a].compare(one, told, NOW, SECOND), Some(0));
    let (mut after, mut pages) = (None, 0);
    loop {
        let (page, last) = tables[b].page(0, after, 30);
        pages += 1;
        tables[a].lacks(one, 0, after, &page, last);
        after = page.last().map(Record::mark);
        page.into_iter().for_each(|record| assert_ne!(tables[a].merge(&record, Some(one)), Met::Raised));
        if last {
            break;
        }
    }
    assert!(pages > 1);
    for sequence in 0..9 {
        send(&mut tables, 0, 1, sequence, true);
        send(&mut tables, 1, 0, sequence, true);
    }
    assert_eq!(contents(&tables[a]), contents(&tables[b]));
    assert_eq!(contents(&tables[a]).iter().flatten().count(), 5);
    let told = tables[b].digest(other);
    assert_eq!((tables[a].compare(one, told, NOW, SECOND), tables[a].differs(one)), (None, false));
}

/// A table of so many nodes at the node `me`, all of whose neighbours are there.
fn table(nodes: u8, me: usize, neighbours: usize) -> Records {
    let others: Vec<usize> = (0..nodes.into()).filter(|place| *place != me).take(neighbours).collect();
    let mut table = Records::new((0..nodes).map(|n| NodeName([n; 5])).collect(), me, &others);
    (0..neighbours).for_each(|neighbour| table.greet(neighbour));
    table
}

fn said_by(owner: u8, version: u64, seen: Vec<Seen>) -> Record {
    Record { owner: NodeName([owner; 5]), version, body: row(seen) }
}

#[test]
fn what_others_say_goes_to_all_and_when_it_is_much_to_some() {
    let mut table = table(100, 0, 20);
    let owed = |table: &Records, n: usize| table.clone().pick(n, 10_000, 1).len();
    (30..46).for_each(|owner| {
        assert_eq!(table.merge(&said_by(owner, 1, vec![]), Some(3)), Met::New(owner.into()))
    });
    assert!((0..20).all(|n| owed(&table, n) == if n == 3 { 0 } else { 16 }));
    for owner in 46..66 {
        let before: usize = (0..20).map(|n| owed(&table, n)).sum();
        table.merge(&said_by(owner, 1, vec![]), Some(3));
        let after: usize = (0..20).map(|n| owed(&table, n)).sum();
        assert!((7..=8).contains(&(after - before)), "{owner}");
    }
    assert!((0..20).all(|n| (owed(&table, n) > 16) == (n != 3)), "all are told something");
    table.publish(row(vec![]));
    assert!((0..20).all(|n| table.pick(n, 10_000, 1).iter().any(|record| record.owner == NodeName([0; 5]))));
}

#[test]
fn whom_an_owner_does_not_reach_a_few_others_tell() {
    let tells = |nodes: u8, me: usize, row: &[Seen], whom: usize| {
        let mut table = table(nodes, me, usize::from(nodes) - 1);
        let record = said_by(0, 2, row.to_vec());
        table.merge(&record, Some(neighbour(me, 0)));
        usize::from(table.pick(neighbour(me, whom), 10_000, 1).contains(&record))
    };
    let missed = |peer: u8| Seen { peer: NodeName([peer; 5]), life: Life::Healthy, link: LinkState::Down };
    for nodes in 3..=100u8 {
        let all = 1..usize::from(nodes);
        // One link is cut.
        let cut = nodes / 2;
        let others = || all.clone().filter(|n| *n != usize::from(cut));
        let told: usize = others().map(|me| tells(nodes, me, &[missed(cut)], cut.into())).sum();
        assert!(told < 9 && told >= others().count().min(3), "{nodes}: {told}");
        assert_eq!(
            others().map(|me| tells(nodes, me, &[], cut.into())).sum::<usize>(),
            0,
            "it tells all itself"
        );
        // The owner reaches one node alone, which tells all others; these tell a few more.
        let row: Vec<Seen> = (1..nodes).filter(|n| *n != cut).map(missed).collect();
        assert!(others().all(|whom| tells(nodes, cut.into(), &row, whom) == 1), "{nodes}");
        let told: usize = others().filter(|n| *n != 1).map(|me| tells(nodes, me, &row, 1)).sum();
        assert!(told < 15, "{nodes}: {told}");
    }
}

#[test]
fn a_bucket_is_asked_of_one_neighbour_at_a_time() {
    let mut one = table(20, 0, 19);
    let mut other = table(20, 19, 19);
    other.merge(&said_by(5, 1, vec![]), None);
    let mut asked = Vec::new();
    for now in (0..50).map(|n| NOW + SECOND / 10 * n) {
        let all = (0..19).filter(|n| one.compare(*n, other.digest(0), now, SECOND).is_some());
        asked.push(all.count());
    }
    assert!(asked.iter().all(|n| *n <= 1) && asked.iter().sum::<usize>() == 5, "{asked:?}");
}

#[test]
fn long_rows_keep_nothing_back() {
    let mut table = table(40, 0, 3);
    (10..20).for_each(|owner| assert_ne!(table.merge(&said_by(owner, 1, vec![]), Some(2)), Met::Nothing));
    let long = |owner, version| said_by(owner, version, (0..5).map(|p| seen(p, Life::Down)).collect());
    for version in 1..9 {
        (20..30).for_each(|owner| assert_ne!(table.merge(&long(owner, version), Some(2)), Met::Nothing));
    }
    let room = long(20, 1).encoded_len() - 1;
    let (mut short, mut sequence) = (0, 0);
    while short < 10 {
        sequence += 1;
        let picked = table.pick(0, room, sequence);
        assert!(!picked.is_empty() && table.has_more(0), "{short}");
        short += picked.len();
        table.echoed(0, sequence);
    }
    // What never fits is no reason to ask for more datagrams.
    assert!(table.pick(0, room, 99).is_empty() && !table.has_more(0));
    assert!(!table.pick(0, room + 1, 100).is_empty());
}

#[test]
fn what_always_changes_is_synced_too_and_holds_nothing_else_up() {
    // Two buckets: in the first one the tables differ for good, and something changes all the time.
    let (mut one, mut other) = (table(128, 0, 1), table(128, 1, 1));
    one.merge(&said_by(3, 1, vec![]), Some(0));
    one.merge(&said_by(90, 1, vec![]), Some(0));
    let (mut synced, mut now) = ([0; 2], NOW);
    for version in 1..=80 {
        now += SECOND / 2;
        for table in [&mut one, &mut other] {
            table.merge(&said_by(2, version, vec![]), Some(0));
        }
        if let Some(bucket) = one.compare(0, other.digest(0), now, SECOND) {
            synced[usize::from(bucket)] += 1;
            if bucket == 1 {
                other.merge(&said_by(90, 1, vec![]), Some(0));
            }
        }
        other.compare(0, one.digest(0), now, SECOND);
    }
    assert!((2..=5).contains(&synced[0]) && synced[1] == 1, "{synced:?}");
}

#[test]
fn rows_are_measured_without_being_written() {
    for (version, entries) in [(1, 0), (127, 1), (128, 4), (1 << 20, 127), (u64::MAX, 128), (1 << 63, 150)] {
        let mut table = table(200, 0, 1);
        let seen =
            (1..=entries).map(|n| Seen { peer: NodeName([n; 5]), life: Life::Down, link: LinkState::Down });
        let record = said_by(7, version, seen.collect());
        table.merge(&record, Some(0));
        assert!(table.merge(&record, None) == Met::Nothing && table.is_quiet());
        table.part(0);
        table.greet(0);
        table.lacks(0, 0, None, &[], true);
        let len = record.encoded_len();
        assert!(table.pick(0, len - 1, 1).is_empty(), "{version} {entries}");
        assert_eq!(table.pick(0, len, 2), [record]);
    }
}
