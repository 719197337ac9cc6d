//! Records: what each node says of itself, carried by all.
//!
//! Every node owns two, a row and a profile, and nobody else may speak for it. Of two records of one owner the higher
//! version wins, whatever the run; an owner that meets a version of its own that it did not publish goes above it. So
//! the table that every node holds converges, in any order of arrival, and twice is once.
//!
//! A record is owed to each neighbour until a datagram that carried it is echoed, or its digest is equal. A quiet cluster owes
//! nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seal::Instance;
use super::timer::Time;

/// Datagrams with records that wait for their echo, for each neighbour.
const FLIGHTS: usize = 8;
/// So many of the newest owed records are looked at for each datagram, and so many of the others.
const FRESH: usize = 64;
const LOOK: usize = 1024;
/// Nodes in one bucket of the digest, while there are fewer than [`BUCKETS`] buckets.
const BUCKET: usize = 64;
/// The most buckets.
const BUCKETS: usize = 64;
/// All buckets at once, where rosters differ and so do buckets.
pub(crate) const EVERY: u8 = u8::MAX;
/// No record is shorter.
const LEAST: usize = 8;

/// A node in a record: the first 40 bits of BLAKE3 of its id, or of its `HOST:PORT` where the roster has no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeName(pub [u8; 5]);

impl NodeName {
    /// The name of the node with this id.
    pub fn of(id: &str) -> NodeName {
        let mut name = [0; 5];
        name.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..5]);
        NodeName(name)
    }
}

/// What a row says of a peer's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Life {
    /// Its owner hears it.
    #[default]
    Healthy,
    /// See [`PeerStatus`](super::PeerStatus).
    Suspected,
    /// See [`PeerStatus`](super::PeerStatus).
    Down,
    /// It said that it leaves; Down.
    Left,
    /// This run of the owner has not heard it yet: no vote.
    Unknown,
}

impl Life {
    /// The status in JSON: `healthy`, `suspected`, `down`; `unknown`: not heard yet.
    pub const fn as_str(self) -> &'static str {
        match self {
            Life::Healthy => "healthy",
            Life::Suspected => "suspected",
            Life::Down | Life::Left => "down",
            Life::Unknown => "unknown",
        }
    }
}

/// What a row says of the link to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LinkState {
    /// It works both ways.
    #[default]
    Up,
    /// It works, and loses datagrams.
    Lossy,
    /// Not known to be cut, but the last heartbeats had no echo: the peer may live by the word of others alone.
    Silent,
    /// The owner hears the peer; the peer does not echo what the owner sends.
    TxLost,
    /// The owner does not hear the peer.
    Down,
}

/// What a node sees of a peer that is not plainly fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Whom.
    pub peer: NodeName,
    /// Whether it lives.
    pub life: Life,
    /// The link to it.
    pub link: LinkState,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its run.
    #[serde(with = "eight_bytes")]
    pub instance: Instance,
    /// 32 bits of the hash of its roster.
    pub roster: [u8; 4],
    /// Of the settings that must agree.
    pub config: [u8; 4],
}

/// An instance is random: its bytes are shorter than a variable-length number.
mod eight_bytes {
    use super::Instance;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(instance: &Instance, serializer: S) -> Result<S::Ok, S::Error> {
        instance.0.to_le_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Instance, D::Error> {
        <[u8; 8]>::deserialize(deserializer).map(|bytes| Instance(u64::from_le_bytes(bytes)))
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// What its owner sees: the peers that it observes and that are not plainly fine, by name.
    Row(Vec<Seen>),
    /// What its owner is.
    Profile(Profile),
}

impl Body {
    fn kind(&self) -> Kind {
        match self {
            Body::Row(_) => Kind::Row,
            Body::Profile(_) => Kind::Profile,
        }
    }

    /// Whether it has the one form that it may have: the peers of a row in order, each once, none plainly fine.
    pub fn is_canonical(&self) -> bool {
        match self {
            Body::Row(seen) => {
                seen.windows(2).all(|w| w[0].peer < w[1].peer)
                    && seen.iter().all(|s| (s.life, s.link) != (Life::Healthy, LinkState::Up))
            }
            Body::Profile(_) => true,
        }
    }
}

/// Which of an owner's two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Row,
    Profile,
}

/// A record, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is.
    pub owner: NodeName,
    /// From 1.
    pub version: u64,
    /// What it says.
    pub body: Body,
}

impl Record {
    fn hash(&self) -> u32 {
        let bytes = postcard::to_extend(self, Vec::new()).expect("encoding into memory cannot fail");
        let hash = blake3::hash(&bytes);
        u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("four bytes"))
    }

    /// Whether it has the one form that it may have.
    pub fn is_canonical(&self) -> bool {
        self.version > 0 && self.body.is_canonical()
    }

    /// Bytes of its encoding.
    pub fn encoded_len(&self) -> usize {
        let size = postcard::ser_flavors::Size::default();
        postcard::serialize_with_flavor(self, size).expect("counting cannot fail")
    }
}

/// A part of the digest: a bucket, and 24 bits over the records in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Which bucket.
    pub bucket: u8,
    /// Over the records of its owners.
    pub hash: [u8; 3],
}

/// What came of a record that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// It is new, of this node in the table (by name).
    New(usize),
    /// It was known, or older, or nobody's.
    Nothing,
    /// It is one of this node's own that it did not publish: its own is newer now.
    Raised,
}

/// The row of one node; version 0: it is not known.
#[derive(Clone, Debug, Default)]
struct RowSlot {
    version: u64,
    seen: Box<[Seen]>,
    hash: u32,
    ticket: u32,
}

/// The profile of one node; version 0: it is not known.
#[derive(Clone, Copy, Debug)]
struct ProfileSlot {
    version: u64,
    profile: Profile,
    hash: u32,
    ticket: u32,
}

/// What was compared with a neighbour and was not equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unequal {
    bucket: u8,
    mine: [u8; 3],
    theirs: [u8; 3],
}

/// What is in flight to a neighbour, and what differs from it.
#[derive(Clone, Debug, Default)]
struct Neighbour {
    /// The link to it works: it is owed what it lacks.
    present: bool,
    /// More is owed to it than the newest datagram had room for.
    more: bool,
    /// The sequence of a datagram, and the slots that it carried, with the last 32 bits of their versions.
    flights: VecDeque<(u64, Vec<(u32, u32)>)>,
    unequal: Option<Unequal>,
    /// When a difference was last found to stay.
    differed: Option<Time>,
}

/// The records of all nodes, as far as this one knows them. Slot 2p is the row of the node at place p, slot 2p + 1 its
/// profile.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    /// All nodes, by name; this one too.
    names: Arc<[NodeName]>,
    me: usize,
    rows: Vec<RowSlot>,
    profiles: Vec<ProfileSlot>,
    neighbours: Vec<Neighbour>,
    /// For each slot a bit a neighbour: it is owed the record.
    owed: Vec<u64>,
    /// Words of `owed` for one slot.
    words: usize,
    /// Slots that are owed to somebody, with their tickets; what is newest comes first. An entry whose ticket is not its
    /// slot's is void. And where the turn of those is that are not new.
    pending: VecDeque<(u32, u32)>,
    turn_of_pending: usize,
    /// For each bucket, over the hashes of its records.
    buckets: Vec<u32>,
    /// Which bucket is told next.
    turn: usize,
}

fn is_row(slot: usize) -> bool {
    slot.is_multiple_of(2)
}

impl Records {
    /// An empty table of the nodes with these names, in order; this one is at `me`.
    pub(crate) fn new(names: Arc<[NodeName]>, me: usize, neighbours: usize) -> Records {
        let unknown = Profile { instance: Instance(0), roster: [0; 4], config: [0; 4] };
        let words = neighbours.div_ceil(64).max(1);
        Records {
            me,
            rows: vec![RowSlot::default(); names.len()],
            profiles: vec![ProfileSlot { version: 0, profile: unknown, hash: 0, ticket: 0 }; names.len()],
            neighbours: vec![Neighbour::default(); neighbours],
            owed: vec![0; names.len() * 2 * words],
            words,
            pending: VecDeque::new(),
            turn_of_pending: 0,
            buckets: vec![0; names.len().div_ceil(BUCKET).clamp(1, BUCKETS)],
            turn: 0,
            names,
        }
    }

    /// The place of a node in the table.
    pub(crate) fn place(&self, name: NodeName) -> Option<usize> {
        self.names.binary_search(&name).ok()
    }

    /// The names of all nodes, in order, this one among them.
    pub(crate) fn names(&self) -> &[NodeName] {
        &self.names
    }

    /// The place of this node.
    pub(crate) fn me(&self) -> usize {
        self.me
    }

    /// What the node at `place` sees; `None`: it has not said.
    pub(crate) fn row(&self, place: usize) -> Option<&[Seen]> {
        let row = &self.rows[place];
        (row.version > 0).then_some(&row.seen)
    }

    /// What the node at `place` is; `None`: it has not said.
    pub(crate) fn profile(&self, place: usize) -> Option<&Profile> {
        let profile = &self.profiles[place];
        (profile.version > 0).then_some(&profile.profile)
    }

    fn version(&self, slot: usize) -> u64 {
        if is_row(slot) { self.rows[slot / 2].version } else { self.profiles[slot / 2].version }
    }

    fn hash(&self, slot: usize) -> u32 {
        if is_row(slot) { self.rows[slot / 2].hash } else { self.profiles[slot / 2].hash }
    }

    fn ticket(&mut self, slot: usize) -> &mut u32 {
        if is_row(slot) { &mut self.rows[slot / 2].ticket } else { &mut self.profiles[slot / 2].ticket }
    }

    fn says(&self, slot: usize, body: &Body) -> bool {
        match body {
            Body::Row(seen) => *self.rows[slot / 2].seen == **seen,
            Body::Profile(profile) => self.profiles[slot / 2].profile == *profile,
        }
    }

    /// What is in a slot, as it travels; `None`: it is not known.
    fn record(&self, slot: usize) -> Option<Record> {
        let version = self.version(slot);
        let body = if is_row(slot) {
            Body::Row(self.rows[slot / 2].seen.to_vec())
        } else {
            Body::Profile(self.profiles[slot / 2].profile)
        };
        (version > 0).then(|| Record { owner: self.names[slot / 2], version, body })
    }

    /// This node says something of itself. False: it is what it said last.
    pub(crate) fn publish(&mut self, body: Body) -> bool {
        debug_assert!(body.is_canonical());
        let slot = self.me * 2 + usize::from(body.kind() == Kind::Profile);
        if self.version(slot) > 0 && self.says(slot, &body) {
            return false;
        }
        self.put(slot, self.version(slot) + 1, body, None);
        true
    }

    /// A record came, from a neighbour or in another way.
    pub(crate) fn merge(&mut self, record: &Record, from: Option<usize>) -> Met {
        let Some(place) = self.place(record.owner) else { return Met::Nothing };
        let slot = place * 2 + usize::from(record.body.kind() == Kind::Profile);
        let (known, version) = (self.version(slot), record.version);
        if known == version && self.says(slot, &record.body) {
            if let Some(from) = from {
                self.set_owed(slot, from, false);
            }
            return Met::Nothing;
        }
        if known > version {
            if let Some(from) = from {
                self.owe(slot, from);
            }
            return Met::Nothing;
        }
        if place == self.me {
            // Somebody holds what this run did not say: what it says goes above.
            let Some(own) = self.record(slot) else { return Met::Nothing };
            self.put(slot, version.saturating_add(1), own.body, None);
            return Met::Raised;
        }
        if known == version && self.hash(slot) > record.hash() {
            // One version with two contents: all keep the same one until the owner goes above it.
            if let Some(from) = from {
                self.owe(slot, from);
            }
            return Met::Nothing;
        }
        self.put(slot, version, record.body.clone(), from);
        Met::New(place)
    }

    fn put(&mut self, slot: usize, version: u64, body: Body, from: Option<usize>) {
        let (place, old) = (slot / 2, self.hash(slot));
        let record = Record { owner: self.names[place], version, body };
        let hash = record.hash();
        let bucket = self.bucket_of(place);
        self.buckets[bucket] ^= old ^ hash;
        match record.body {
            Body::Row(seen) => {
                let row = &mut self.rows[place];
                (row.version, row.hash, row.seen) = (version, hash, seen.into());
            }
            Body::Profile(profile) => {
                let of = &mut self.profiles[place];
                (of.version, of.hash, of.profile) = (version, hash, profile);
            }
        }
        for neighbour in 0..self.neighbours.len() {
            let owed = self.neighbours[neighbour].present && from != Some(neighbour);
            self.set_owed(slot, neighbour, owed);
        }
        if self.is_owed(slot) {
            let ticket = self.new_ticket(slot);
            self.pending.push_front((slot as u32, ticket));
        }
    }

    /// A slot goes to another place of the queue: what stood for it there is void.
    fn new_ticket(&mut self, slot: usize) -> u32 {
        if self.pending.len() > 3 * self.names.len() {
            let pending = std::mem::take(&mut self.pending);
            self.pending = pending
                .into_iter()
                .filter(|(slot, ticket)| *self.ticket(*slot as usize) == *ticket)
                .collect();
        }
        let ticket = self.ticket(slot);
        *ticket = ticket.wrapping_add(1);
        *ticket
    }

    fn bucket_of(&self, place: usize) -> usize {
        place * self.buckets.len() / self.names.len()
    }

    /// The places in a bucket.
    fn places_of(&self, bucket: u8) -> std::ops::Range<usize> {
        if bucket == EVERY {
            return 0..self.names.len();
        }
        let begin = |bucket: usize| (bucket * self.names.len()).div_ceil(self.buckets.len());
        let bucket = usize::from(bucket).min(self.buckets.len());
        begin(bucket)..begin(bucket + 1).min(self.names.len())
    }

    fn set_owed(&mut self, slot: usize, neighbour: usize, owed: bool) {
        let word = &mut self.owed[slot * self.words + neighbour / 64];
        let bit = 1 << (neighbour % 64);
        *word = if owed { *word | bit } else { *word & !bit };
    }

    fn owes(&self, slot: usize, neighbour: usize) -> bool {
        self.owed[slot * self.words + neighbour / 64] >> (neighbour % 64) & 1 == 1
    }

    fn is_owed(&self, slot: usize) -> bool {
        self.owed[slot * self.words..(slot + 1) * self.words].iter().any(|word| *word != 0)
    }

    /// `neighbour` lacks what is in `slot`.
    fn owe(&mut self, slot: usize, neighbour: usize) {
        if !self.neighbours[neighbour].present {
            return;
        }
        if !self.is_owed(slot) {
            let ticket = self.new_ticket(slot);
            self.pending.push_back((slot as u32, ticket));
        }
        self.set_owed(slot, neighbour, true);
    }

    /// The link to a neighbour begins to work, perhaps to a new run: it is owed what this node says of itself; of the
    /// rest the digest tells.
    pub(crate) fn greet(&mut self, neighbour: usize) {
        self.neighbours[neighbour] = Neighbour { present: true, ..Neighbour::default() };
        for slot in [self.me * 2, self.me * 2 + 1] {
            if self.version(slot) > 0 {
                self.owe(slot, neighbour);
            }
        }
    }

    /// Whether the link to a neighbour works.
    pub(crate) fn is_present(&self, neighbour: usize) -> bool {
        self.neighbours[neighbour].present
    }

    /// The link to a neighbour no longer works: nothing is owed to it until it is greeted again.
    pub(crate) fn part(&mut self, neighbour: usize) {
        if std::mem::take(&mut self.neighbours[neighbour]).present {
            (0..self.names.len() * 2).for_each(|slot| self.set_owed(slot, neighbour, false));
        }
    }

    /// Whether nobody is owed anything.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn is_quiet(&self) -> bool {
        self.owed.iter().all(|word| *word == 0)
    }

    /// Equal for equal tables.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn fingerprint(&self) -> &[u32] {
        &self.buckets
    }

    /// Bytes on the heap for what comes and goes.
    #[cfg(feature = "sim")]
    pub(crate) fn held(&self) -> usize {
        let flights = self.neighbours.iter().flat_map(|neighbour| &neighbour.flights);
        let carried: usize =
            flights.map(|(_, carried)| size_of::<u64>() + carried.len() * size_of::<(u32, u32)>()).sum();
        let seen: usize = self.rows.iter().map(|row| row.seen.len() * size_of::<Seen>()).sum();
        self.pending.len() * size_of::<(u32, u32)>() + carried + seen
    }

    /// The most bytes that [`held`](Records::held) can be, with datagrams of `longest` bytes.
    #[cfg(feature = "sim")]
    pub(crate) fn most_held(nodes: usize, neighbours: usize, longest: usize) -> usize {
        let flight = size_of::<u64>() + longest / LEAST * size_of::<(u32, u32)>();
        let pending = 3 * nodes + 2;
        pending * size_of::<(u32, u32)>() + neighbours * FLIGHTS * flight + nodes * longest
    }

    /// What is owed to `neighbour`, up to `room` bytes, to travel in its datagram `sequence`: the newest first, then the rest
    /// in turn, so that not all neighbours get the same.
    pub(crate) fn pick(&mut self, neighbour: usize, mut room: usize, sequence: u64) -> Vec<Record> {
        let (mut picked, mut carried) = (Vec::new(), Vec::new());
        let (mut at, mut looked, mut more) = (0, 0, false);
        while at < self.pending.len() && looked < FRESH + LOOK && room > LEAST {
            if looked == FRESH {
                at = at.max(self.turn_of_pending);
            }
            looked += 1;
            let Some((slot, ticket)) = self.pending.get(at).copied() else { break };
            let slot = slot as usize;
            if *self.ticket(slot) != ticket || !self.is_owed(slot) {
                self.pending.remove(at);
                continue;
            }
            at += 1;
            let Some(record) = self.record(slot).filter(|_| self.owes(slot, neighbour)) else { continue };
            let len = record.encoded_len();
            if len > room {
                more = true;
                continue;
            }
            room -= len;
            carried.push((slot as u32, record.version as u32));
            picked.push(record);
        }
        self.neighbours[neighbour].more = more || room <= LEAST;
        if looked > FRESH {
            self.turn_of_pending = if at >= self.pending.len() { 0 } else { at };
        }
        if self.pending.is_empty() && self.pending.capacity() > LOOK {
            self.pending = VecDeque::new();
        }
        if !carried.is_empty() {
            let flights = &mut self.neighbours[neighbour].flights;
            if flights.len() == FLIGHTS {
                flights.pop_front();
            }
            flights.push_back((sequence, carried));
        }
        picked
    }

    /// Whether more is owed to `neighbour` than its newest datagram had room for.
    pub(crate) fn has_more(&self, neighbour: usize) -> bool {
        self.neighbours[neighbour].more
    }

    /// `neighbour` echoed the datagram `sequence`: what it carried came. How many records that were.
    pub(crate) fn echoed(&mut self, neighbour: usize, sequence: u64) -> usize {
        let flights = &mut self.neighbours[neighbour].flights;
        let Some(at) = flights.iter().position(|(number, _)| *number == sequence) else { return 0 };
        let (_, carried) = flights.remove(at).expect("it was found");
        for (slot, version) in &carried {
            if self.version(*slot as usize) as u32 == *version {
                self.set_owed(*slot as usize, neighbour, false);
            }
        }
        carried.len()
    }

    /// The digest of one bucket.
    fn digest_of(&self, bucket: usize) -> Digest {
        let [a, b, c, d] = self.buckets[bucket].to_le_bytes();
        Digest { bucket: bucket as u8, hash: [a ^ d, b, c] }
    }

    /// What to tell `neighbour`: the bucket that last differed from its, else the next one in turn.
    pub(crate) fn digest(&mut self, neighbour: usize) -> Digest {
        if let Some(unequal) = self.neighbours[neighbour].unequal {
            return self.digest_of(usize::from(unequal.bucket));
        }
        self.turn = (self.turn + 1) % self.buckets.len();
        self.digest_of(self.turn)
    }

    /// Compares what `neighbour` tells. The bucket to be synced, if it was unequal before too and nothing has changed in it on
    /// either side; once in `pause`.
    pub(crate) fn compare(
        &mut self,
        neighbour: usize,
        theirs: Digest,
        now: Time,
        pause: Duration,
    ) -> Option<u8> {
        if usize::from(theirs.bucket) >= self.buckets.len() {
            return None;
        }
        let mine = self.digest_of(usize::from(theirs.bucket)).hash;
        if mine == theirs.hash {
            let known = &mut self.neighbours[neighbour].unequal;
            if known.is_some_and(|u| u.bucket == theirs.bucket) {
                *known = None;
            }
            // It has all of it.
            if self.pending.is_empty() {
                return None;
            }
            for slot in self.places_of(theirs.bucket).flat_map(|place| [place * 2, place * 2 + 1]) {
                self.set_owed(slot, neighbour, false);
            }
            return None;
        }
        let neighbour = &mut self.neighbours[neighbour];
        let known = &mut neighbour.unequal;
        let unequal = Some(Unequal { bucket: theirs.bucket, mine, theirs: theirs.hash });
        let stays = *known == unequal;
        *known = unequal;
        if !stays || neighbour.differed.is_some_and(|at| now.since(at) < pause) {
            return None;
        }
        neighbour.differed = Some(now);
        Some(theirs.bucket)
    }

    /// A page of a bucket: what is known of it after `after`, in order, up to `room` bytes; and whether that is the
    /// last.
    pub(crate) fn page(&self, bucket: u8, after: Option<NodeName>, mut room: usize) -> (Vec<Record>, bool) {
        let mut page = Vec::new();
        for place in self.places_of(bucket) {
            if after.is_some_and(|after| self.names[place] <= after) {
                continue;
            }
            let both = [self.record(place * 2), self.record(place * 2 + 1)];
            let len: usize = both.iter().flatten().map(Record::encoded_len).sum();
            // A row that is too long for a page goes with a datagram of its owner's; the reading goes on.
            let alone = page.is_empty() && len > room;
            if len > room && !alone {
                return (page, false);
            }
            page.extend(both.into_iter().flatten().filter(|record| !alone || record.encoded_len() <= room));
            room = room.saturating_sub(len);
        }
        (page, true)
    }

    /// A page of `neighbour`'s came, that told all it knows from after `after` up to its last record, or to the end of
    /// the bucket if it is the `last`: it is owed what it lacks.
    pub(crate) fn lacks(
        &mut self,
        neighbour: usize,
        bucket: u8,
        after: Option<NodeName>,
        page: &[Record],
        last: bool,
    ) {
        let end = page.last().map(|record| record.owner);
        for place in self.places_of(bucket) {
            let name = self.names[place];
            let inside =
                after.is_none_or(|after| name > after) && (last || end.is_some_and(|end| name <= end));
            if !inside {
                continue;
            }
            for (slot, kind) in [(place * 2, Kind::Row), (place * 2 + 1, Kind::Profile)] {
                let told = page.iter().any(|other| other.owner == name && other.body.kind() == kind);
                if self.version(slot) > 0 && !told {
                    self.owe(slot, neighbour);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        (0..table.names.len() * 2).map(|slot| table.record(slot)).collect()
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
            let me = one.me;
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
        assert_eq!(
            (tables[0].compare(one, told, NOW, SECOND), tables[0].neighbours[one].unequal),
            (None, None)
        );
    }
}
