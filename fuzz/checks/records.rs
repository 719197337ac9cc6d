//! Records of whatever nodes, told to two nodes that are alike: in two orders, by different peers, some of them twice. The
//! tables that come of it are read by pages, as peers read them.
//!
//! The first byte of an input is the shape of the cluster and a part of the circle of versions, the next one the second order,
//! the rest is records. All versions lie in that part: of some that are spread round the circle it depends on the order
//! which is the newest.

use std::collections::{BTreeMap, BTreeSet};

use lastseen::proto::messages::Message;
use lastseen::proto::records::{Mark, NodeName, Record};
use lastseen::proto::{Observers, PeerConfig, Time};

use super::fixture::{CLUSTER, Fixture, NODE, Player};
use super::input::Input;

/// Records of one input.
const RECORDS: usize = 64;
const IDS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

/// By owner, a row before a profile.
type Table = BTreeMap<Mark, Record>;

/// What an input led to: how the records were met.
pub(super) type Reached = BTreeSet<&'static str>;

/// Runs one input.
///
/// # Panics
/// If a promise of the core does not hold.
pub(super) fn check(input: &[u8]) -> Reached {
    let mut input = Input(input);
    let (shape, turn) = (input.byte(), input.byte());
    let (mut one, mut other) = (cluster(shape), cluster(shape));
    let mut records = Vec::new();
    while !input.is_empty() && records.len() < RECORDS {
        let mut record = input.record(&one);
        record.version = within(shape, record.version);
        records.push(record);
    }
    let mut told: Vec<Record> = Vec::new();
    for (n, record) in records.iter().enumerate() {
        if tell(&mut one, n, record) {
            told.push(record.clone());
        }
    }
    let mut again: Vec<&Record> = told.iter().collect();
    again.rotate_left(usize::from(turn) % told.len().max(1));
    if turn & 0x80 != 0 {
        again.reverse();
    }
    for (n, record) in again.iter().enumerate() {
        assert!(tell(&mut other, n + usize::from(turn), record));
        if turn & 0x40 != 0 {
            assert!(tell(&mut other, n, again[n / 2]));
        }
    }
    let (table, mirror) = (read(&mut one), read(&mut other));
    assert_eq!(of_others(&table), of_others(&mirror), "the order matters");
    told.iter().enumerate().for_each(|(n, record)| assert!(tell(&mut one, n + 1, record)));
    assert_eq!(read(&mut one), table, "twice is not once");
    compare(&one, &table, &told)
}

/// The version in one of 64 parts of the circle, but for the one that is opposite to the node's own first version.
fn within(shape: u8, version: u64) -> u64 {
    let part = u64::from(shape >> 2);
    (part + u64::from(part == 32)) << 58 | version >> 6
}

/// Whether version `a` follows on `b`, round the circle.
fn is_above(a: u64, b: u64) -> bool {
    (1..1 << 63).contains(&a.wrapping_sub(b))
}

/// A node in a full mesh of five, or in rings of eight; all whom it observes are confirmed.
fn cluster(shape: u8) -> Fixture {
    let players = if shape & 1 == 0 { 4 } else { IDS.len() };
    let players: Vec<Player> =
        IDS[..players].iter().enumerate().map(|(n, id)| Player::new(id, n as u8)).collect();
    let entries = players.iter().map(|player| player.entry(shape & 2 == 0, true)).collect();
    let mut config = PeerConfig::new(NODE, CLUSTER, ([10, 0, 0, 1], 5278).into(), entries);
    config.observers = if shape & 1 == 0 { Observers::All } else { Observers::Number(4) };
    let mut fixture = Fixture::new(config, players, 1, Time::from_micros(1_000_000_000));
    fixture.confirm();
    fixture
}

/// The players whom the node observes.
fn observed(fixture: &Fixture) -> Vec<usize> {
    let peers = fixture.node.registry().get_all_peers();
    let is_peer = |player: &usize| peers.iter().any(|peer| *peer.server_id == *fixture.players[*player].id);
    (0..fixture.players.len()).filter(is_peer).collect()
}

/// One of the peers tells a record; whether that has the form that it may have.
fn tell(fixture: &mut Fixture, by: usize, record: &Record) -> bool {
    let peers = observed(fixture);
    let player = peers[by % peers.len()];
    let mut message = fixture.heard(player);
    if let Message::PongMore { more, .. } = &mut message {
        more.records.push(record.clone());
    }
    let result = fixture.say(player, 0, &message);
    assert_eq!(result.is_ok(), record.is_canonical(), "{record:?}: {result:?}");
    fixture.drain();
    fixture.events();
    result.is_ok()
}

/// The node's table, as a peer reads it.
fn read(fixture: &mut Fixture) -> Table {
    let (mut table, mut after) = (Table::new(), None);
    let player = observed(fixture)[0];
    let most = 4 * (fixture.players.len() + 1);
    for _ in 0..most {
        let (echo, hold) = fixture.heard(player).echo().expect("a pong has an echo");
        let request = Message::SyncRequest { echo, hold, bucket: u8::MAX, after };
        assert_eq!(fixture.say(player, 0, &request), Ok(()));
        let page = fixture.drain().into_iter().find_map(|sent| match sent.message {
            Message::SyncResponse { records, last, .. } => Some((records, last)),
            _ => None,
        });
        let (records, last) = page.expect("a page is asked");
        assert!(records.iter().all(Record::is_canonical));
        after = records.last().map_or(after, |record| Some(record.mark()));
        table.extend(records.into_iter().map(|record| (place(&record), record)));
        if last {
            break;
        }
    }
    assert!(table.len() <= most, "{} records of {most}", table.len());
    table
}

fn place(record: &Record) -> Mark {
    record.mark()
}

/// Without what the node says of itself: how often that was raised depends on the order.
fn of_others(table: &Table) -> Table {
    let mut others = table.clone();
    others.retain(|Mark(owner, _), _| *owner != NodeName::of(NODE));
    others
}

/// Of what was told the newest version is there, one of those that have it, and nothing of whom the roster does not
/// name; and what the node says of itself is above what others said.
fn compare(fixture: &Fixture, table: &Table, told: &[Record]) -> Reached {
    let mut reached = Reached::new();
    let entries = fixture.node.config().static_peers.iter();
    let names: BTreeSet<NodeName> = entries.map(|entry| NodeName::of(entry.roster_name())).collect();
    for record in told {
        let (known, mine) = (table.get(&place(record)), record.owner == NodeName::of(NODE));
        reached.insert(match known {
            None => {
                assert!(!mine && !names.contains(&record.owner), "{record:?} is lost");
                "stranger"
            }
            Some(known) if mine => {
                assert!(
                    is_above(known.version, record.version) || known == record,
                    "{known:?} is not above {record:?}"
                );
                "own"
            }
            Some(known) if known == record => "kept",
            Some(known) => {
                assert!(known.version >= record.version && told.contains(known), "{known:?}, not {record:?}");
                if known.version == record.version { "two contents" } else { "older" }
            }
        });
    }
    reached
}
