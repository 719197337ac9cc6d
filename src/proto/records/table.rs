//! The table of all records, as far as one node knows them: merged, told on, and read by pages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::digest::{Buckets, Compared};
use super::owed::{Audience, Owed, Slots};
use super::{
    Body, Digest, ENTRY, Kind, LinkState, Mark, NAME, NodeName, Notice, Offer, Profile, Record, Release,
    Seen, Standing,
};
use crate::proto::seal::Instance;
use crate::proto::service::Services;
use crate::proto::timer::Time;

/// So many tell a neighbour what the owner cannot tell it.
const TELLERS: usize = 4;
/// An odd number with bits of no pattern (2^64 over the golden ratio).
const SCATTER: u64 = 0x9E37_79B9_7F4A_7C15;
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
}

/// The profile of one node; version 0: it is not known.
#[derive(Clone, Debug)]
struct ProfileSlot {
    version: u64,
    profile: Profile,
}

/// A notice or an offer of one node.
#[derive(Clone, Debug)]
struct Spoken {
    version: u64,
    /// The first four bytes.
    hash: u32,
    body: Body,
}

/// The records of all nodes, as far as this one knows them. The node at place p has the four slots from 4p on, one for each
/// [`Kind`].
#[derive(Clone, Debug)]
pub(crate) struct Records {
    /// All nodes, by name; this one too.
    names: Arc<[NodeName]>,
    me: usize,
    /// The places of those who are told, and who tell.
    neighbours: Box<[u32]>,
    rows: Vec<RowSlot>,
    profiles: Vec<ProfileSlot>,
    /// Notices and offers, by slot: most nodes have none.
    rest: BTreeMap<usize, Spoken>,
    /// Whose rows were cut: few, if any.
    cut: BTreeSet<usize>,
    /// The first four bytes of the hash of each row and each profile.
    hashes: Vec<[u32; 2]>,
    owed: Owed,
    buckets: Buckets,
}

/// The slot of one of the records of the node at `place`.
fn slot_of(place: usize, kind: Kind) -> usize {
    place * Kind::COUNT + kind as usize
}

/// All slots of the nodes at these places.
fn slots_of(places: std::ops::Range<usize>) -> std::ops::Range<usize> {
    places.start * Kind::COUNT..places.end * Kind::COUNT
}

/// The place of a slot's owner, and which of its records that is.
fn owner_of(slot: usize) -> (usize, Kind) {
    (slot / Kind::COUNT, Kind::ALL[slot % Kind::COUNT])
}

/// Whether version `a` follows on `b`, round the circle of all versions (serial numbers, as in RFC 1982): none is the
/// highest, so that an owner can go above whatever somebody forged in its name. 0, of what is not known, is below all.
fn is_newer(a: u64, b: u64) -> bool {
    const HALF: u64 = 1 << 63;
    let ahead = a.wrapping_sub(b);
    b == 0 && a > 0 || a > 0 && (0 < ahead && ahead < HALF || ahead == HALF && a > b)
}

fn next_version(version: u64) -> u64 {
    version.wrapping_add(1).max(1)
}

/// What is in the slots.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    names: &'a [NodeName],
    rows: &'a [RowSlot],
    cut: &'a BTreeSet<usize>,
    profiles: &'a [ProfileSlot],
    rest: &'a BTreeMap<usize, Spoken>,
}

impl Reader<'_> {
    fn version(&self, slot: usize) -> u64 {
        match owner_of(slot) {
            (place, Kind::Row) => self.rows[place].version,
            (place, Kind::Profile) => self.profiles[place].version,
            (_, Kind::Notice | Kind::Offer) => self.rest.get(&slot).map_or(0, |spoken| spoken.version),
        }
    }
}

impl Slots for Reader<'_> {
    fn len(&self, slot: usize) -> Option<usize> {
        let (place, Kind::Row) = owner_of(slot) else {
            return self.record(slot).map(|record| record.encoded_len());
        };
        let row = &self.rows[place];
        let number = |n: u64| n.max(1).ilog2() as usize / 7 + 1;
        let (version, count) = (number(row.version), row.seen.len());
        (row.version > 0).then(|| NAME + version + 1 + number(count as u64) + count * ENTRY)
    }

    fn record(&self, slot: usize) -> Option<Record> {
        let (place, kind) = owner_of(slot);
        let row = |seen: &[Seen]| {
            if self.cut.contains(&place) { Body::CutRow(seen.to_vec()) } else { Body::Row(seen.to_vec()) }
        };
        let version = Some(self.version(slot)).filter(|version| *version > 0)?;
        let body = match kind {
            Kind::Row => row(&self.rows[place].seen),
            Kind::Profile => Body::Profile(self.profiles[place].profile.clone()),
            Kind::Notice | Kind::Offer => self.rest.get(&slot)?.body.clone(),
        };
        Some(Record { owner: self.names[place], version, body })
    }
}

impl Records {
    /// An empty table of the nodes with these names, in order; this one is at `me`, its neighbours at `neighbours`.
    pub(crate) fn new(names: Arc<[NodeName]>, me: usize, neighbours: &[usize]) -> Records {
        let (roster, config) = ([0; 4], [0; 4]);
        let unknown = Profile {
            instance: Instance(0),
            roster,
            config,
            release: Release([0; 3]),
            wire: 0,
            id: None,
            away: None,
            standing: Standing::Unsaved,
        };
        Records {
            me,
            rows: vec![RowSlot::default(); names.len()],
            profiles: vec![ProfileSlot { version: 0, profile: unknown }; names.len()],
            rest: BTreeMap::new(),
            cut: BTreeSet::new(),
            hashes: vec![[0; 2]; names.len()],
            owed: Owed::new(names.len() * Kind::COUNT, neighbours.len(), slots_of(me..me + 1)),
            neighbours: neighbours.iter().map(|place| *place as u32).collect(),
            buckets: Buckets::new(names.len(), neighbours.len()),
            names,
        }
    }

    /// The table of another roster: of the nodes with these names, in order, this one at `me` and its neighbours at
    /// `neighbours`. `place_was`: for each place where it was; `was`: for each neighbour which it was. What is known of those
    /// that stay, and what is owed to them, stays.
    pub(crate) fn moved(
        &self,
        names: Arc<[NodeName]>,
        me: usize,
        neighbours: &[usize],
        place_was: &[Option<usize>],
        was: &[Option<usize>],
    ) -> Records {
        let mut moved = Records::new(names, me, neighbours);
        let slots: Vec<Option<usize>> = place_was
            .iter()
            .flat_map(|was| Kind::ALL.map(|kind| was.map(|was| slot_of(was, kind))))
            .collect();
        for (place, was) in place_was.iter().enumerate().filter_map(|(place, was)| Some((place, (*was)?))) {
            (moved.rows[place], moved.profiles[place]) = (self.rows[was].clone(), self.profiles[was].clone());
            if self.is_cut(was) {
                moved.cut.insert(place);
            }
        }
        for (slot, was) in slots.iter().enumerate().filter_map(|(slot, was)| Some((slot, (*was)?))) {
            if let Some(known) = self.rest.get(&was) {
                moved.rest.insert(slot, Spoken { hash: 0, ..known.clone() });
            }
            moved.set_hash(slot, self.hash(was));
        }
        moved.owed.follow(&self.owed, &slots, was);
        moved
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

    /// Whether the row of the node at `place` was cut: of whom it does not name nothing is known.
    pub(crate) fn is_cut(&self, place: usize) -> bool {
        self.cut.contains(&place)
    }

    /// What the node at `place` is; `None`: it has not said.
    pub(crate) fn profile(&self, place: usize) -> Option<&Profile> {
        let profile = &self.profiles[place];
        (profile.version > 0).then_some(&profile.profile)
    }

    /// This node's own profile, as it travels.
    pub(crate) fn own_profile_record(&self) -> Option<Record> {
        self.record(self.own_profile())
    }

    /// What the operator of the node at `place` says of it; `None`: nothing.
    pub(crate) fn notice(&self, place: usize) -> Option<&Notice> {
        match self.rest.get(&slot_of(place, Kind::Notice)) {
            Some(Spoken { body: Body::Notice(notice), .. }) => Some(notice),
            _ => None,
        }
    }

    /// What the node at `place` offers, or an earlier run of it; `None`: nothing.
    pub(crate) fn offer(&self, place: usize) -> Option<&Offer> {
        match self.rest.get(&slot_of(place, Kind::Offer)) {
            Some(Spoken { body: Body::Offer(offer), .. }) => Some(offer),
            _ => None,
        }
    }

    /// The places of who has a notice or an offer, or had one: some of them twice.
    pub(crate) fn outspoken(&self) -> impl Iterator<Item = usize> {
        self.rest.keys().map(|slot| owner_of(*slot).0)
    }

    fn version(&self, slot: usize) -> u64 {
        self.reader().version(slot)
    }

    fn says(&self, slot: usize, body: &Body) -> bool {
        let place = owner_of(slot).0;
        match body {
            Body::Profile(profile) => self.profiles[place].profile == *profile,
            Body::Row(seen) | Body::CutRow(seen) => {
                let known = &self.rows[place];
                *known.seen == **seen && self.is_cut(place) == matches!(body, Body::CutRow(_))
            }
            Body::Notice(_) | Body::Offer(_) => self.rest.get(&slot).is_some_and(|known| known.body == *body),
        }
    }

    /// What an owner says in a slot that it has not spoken of: nothing. A row or a profile it does not disown.
    fn nothing(&self, slot: usize) -> Option<Body> {
        match owner_of(slot) {
            (_, Kind::Row | Kind::Profile) => None,
            (_, Kind::Notice) => Some(Body::Notice(Box::default())),
            (place, Kind::Offer) => {
                let instance = self.profiles[place].profile.instance;
                Some(Body::Offer(Offer { instance, services: Services::default() }))
            }
        }
    }

    /// Of what is in a slot; 0: nothing.
    fn hash(&self, slot: usize) -> u32 {
        match owner_of(slot) {
            (place, kind @ (Kind::Row | Kind::Profile)) => self.hashes[place][kind as usize],
            (_, Kind::Notice | Kind::Offer) => self.rest.get(&slot).map_or(0, |spoken| spoken.hash),
        }
    }

    /// What is in a slot has this hash now.
    fn set_hash(&mut self, slot: usize, hash: u32) {
        let (place, kind) = owner_of(slot);
        let known = match kind {
            Kind::Row | Kind::Profile => Some(&mut self.hashes[place][kind as usize]),
            Kind::Notice | Kind::Offer => self.rest.get_mut(&slot).map(|spoken| &mut spoken.hash),
        };
        if let Some(known) = known {
            self.buckets.replace(place, std::mem::replace(known, hash), hash);
        }
    }

    fn reader(&self) -> Reader<'_> {
        let Records { names, rows, cut, profiles, rest, .. } = self;
        Reader { names, rows, cut, profiles, rest }
    }

    /// What is in a slot, as it travels; `None`: it is not known.
    pub(super) fn record(&self, slot: usize) -> Option<Record> {
        self.reader().record(slot)
    }

    /// This node says something of itself. False: it is what it said last.
    pub(crate) fn publish(&mut self, body: Body) -> bool {
        debug_assert!(body.is_canonical());
        let slot = slot_of(self.me, body.kind());
        let is_known = if self.version(slot) > 0 { self.says(slot, &body) } else { body.is_nothing() };
        if is_known {
            return false;
        }
        self.put(slot, next_version(self.version(slot)), body, None);
        true
    }

    /// A record came, from a neighbour or in another way.
    pub(crate) fn merge(&mut self, record: &Record, from: Option<usize>) -> Met {
        let Some(place) = self.place(record.owner) else { return Met::Nothing };
        let slot = slot_of(place, record.body.kind());
        let (known, version) = (self.version(slot), record.version);
        if known == version && self.says(slot, &record.body) {
            if let Some(from) = from {
                self.owed.settle(slot, from);
                if slot == self.own_profile() {
                    self.owed.set_knows(from, true);
                }
            }
            return Met::Nothing;
        }
        if is_newer(known, version) {
            if let Some(from) = from {
                self.owed.owe(slot, from);
            }
            return Met::Nothing;
        }
        if place == self.me {
            // Somebody holds what this run did not say: what it says goes above.
            let own = self.record(slot).map(|own| own.body).or_else(|| self.nothing(slot));
            let Some(own) = own else { return Met::Nothing };
            self.put(slot, next_version(version), own, None);
            return Met::Raised;
        }
        if known == version && self.hash(slot) > record.hash() {
            // One version with two contents: all keep the same one until the owner goes above it.
            if let Some(from) = from {
                self.owed.owe(slot, from);
            }
            return Met::Nothing;
        }
        self.put(slot, version, record.body.clone(), from);
        Met::New(place)
    }

    fn put(&mut self, slot: usize, version: u64, body: Body, from: Option<usize>) {
        let (owner, trouble) = (owner_of(slot).0, !body.seen().is_empty());
        let last = matches!(&body, Body::Profile(profile) if profile.left().is_some());
        let hash = self.store(slot, version, body);
        if slot == self.own_profile() {
            self.owed.forget_knowledge();
        }
        let scatter = (u64::from(hash) + self.me as u64).wrapping_mul(SCATTER);
        let audience = match () {
            // Trouble is for all: after many deaths there are few ways to whoever has few neighbours left.
            () if owner == self.me || trouble && !self.is_mesh() => Audience::All,
            () if !self.is_mesh() => Audience::Some,
            // A mesh node tells everybody itself, except the nodes that it does not reach. A leave is its last record:
            // nobody knows whom that reached.
            () if !last && self.reaches(owner, self.me) => Audience::These(self.to_tell(owner, hash)),
            () => Audience::Few,
        };
        self.owed.news(slot, &audience, from, scatter);
    }

    fn own_profile(&self) -> usize {
        slot_of(self.me, Kind::Profile)
    }

    /// A new run of a neighbour knows nothing of this node.
    pub(crate) fn meet_run(&mut self, neighbour: usize) {
        self.part(neighbour);
        self.owed.set_knows(neighbour, false);
    }

    /// Whether a datagram with these records leaves `neighbour` with the newest profile of this node: it is among them, or was
    /// acknowledged. One that fits into no datagram of `longest` bytes cannot be waited for.
    pub(crate) fn is_reported(&self, neighbour: usize, records: &[Record], longest: usize) -> bool {
        let (slot, owner) = (self.own_profile(), self.names[self.me]);
        self.owed.knows(neighbour)
            || records.iter().any(|record| record.mark() == Mark(owner, Kind::Profile))
            || self.reader().len(slot).is_none_or(|len| len > longest)
    }

    /// Whether everybody watches everybody.
    fn is_mesh(&self) -> bool {
        self.neighbours.len() + 1 == self.names.len()
    }

    /// Whether the node at place `owner` reaches the one at `whom`, as far as both of them say.
    fn reaches(&self, owner: usize, whom: usize) -> bool {
        self.link(owner, self.names[whom]).is_told() && self.link(whom, self.names[owner]).is_heard()
    }

    /// What the node at place `of` says of its link to another one.
    fn link(&self, of: usize, to: NodeName) -> LinkState {
        let seen = &self.rows[of].seen;
        seen.binary_search_by_key(&to, |seen| seen.peer).map_or(LinkState::Up, |at| seen[at].link)
    }

    /// For each neighbour whether this node tells it a record of the node at place `owner`, with this hash. That one does
    /// not reach it, but reaches nodes that do; of these some [`TELLERS`] tell it, evenly spread.
    fn to_tell(&self, owner: usize, hash: u32) -> Vec<bool> {
        let told = |neighbour: &u32| {
            let whom = *neighbour as usize;
            if self.reaches(owner, whom) || !self.reaches(self.me, whom) {
                return false;
            }
            let step = (self.between(owner, whom) / TELLERS).max(1);
            (hash as usize + whom + self.me).is_multiple_of(step)
        };
        self.neighbours.iter().map(told).collect()
    }

    /// How many nodes the one at place `owner` reaches that reach the one at `whom`, as far as these two say. Their rows may
    /// name nodes that are not in this roster.
    fn between(&self, owner: usize, whom: usize) -> usize {
        let bad = |place: usize, good: fn(LinkState) -> bool| {
            let seen = self.rows[place].seen.iter().filter(move |seen| !good(seen.link));
            seen.map(|seen| seen.peer).filter(|name| self.place(*name).is_some())
        };
        let (one, other) = (bad(owner, LinkState::is_told), bad(whom, LinkState::is_heard));
        let both = bad(owner, LinkState::is_told).filter(|name| !self.link(whom, *name).is_heard());
        self.names.len() + both.count() - one.count() - other.count()
    }

    /// Takes over what another table has and this one has not. Nobody is owed it.
    #[cfg(feature = "sim")]
    pub(crate) fn absorb(&mut self, other: &Records, places: std::ops::Range<usize>) {
        for slot in slots_of(places) {
            if let Some(record) =
                other.record(slot).filter(|record| is_newer(record.version, self.version(slot)))
            {
                self.store(slot, record.version, record.body);
            }
        }
    }

    /// Puts a record into its slot; the first bytes of its hash.
    fn store(&mut self, slot: usize, version: u64, body: Body) -> u32 {
        let place = owner_of(slot).0;
        let record = Record { owner: self.names[place], version, body };
        let hash = record.hash();
        match record.body {
            Body::Row(seen) => {
                self.cut.remove(&place);
                self.rows[place] = RowSlot { version, seen: seen.into() };
            }
            Body::CutRow(seen) => {
                self.cut.insert(place);
                self.rows[place] = RowSlot { version, seen: seen.into() };
            }
            Body::Profile(profile) => self.profiles[place] = ProfileSlot { version, profile },
            body @ (Body::Notice(_) | Body::Offer(_)) => {
                let before = self.hash(slot);
                self.rest.insert(slot, Spoken { version, hash: before, body });
            }
        }
        self.set_hash(slot, hash);
        hash
    }

    /// The link to a neighbour begins to work, perhaps to a new run: it is owed what this node says of itself; of the
    /// rest the digest tells.
    pub(crate) fn greet(&mut self, neighbour: usize) {
        self.owed.greet(neighbour);
        self.buckets.forget(neighbour);
        for slot in slots_of(self.me..self.me + 1) {
            if self.version(slot) > 0 {
                self.owed.owe(slot, neighbour);
            }
        }
    }

    /// Whether the link to a neighbour works.
    pub(crate) fn is_present(&self, neighbour: usize) -> bool {
        self.owed.is_present(neighbour)
    }

    /// The link to a neighbour no longer works: nothing is owed to it until it is greeted again.
    pub(crate) fn part(&mut self, neighbour: usize) {
        self.owed.part(neighbour);
        self.buckets.forget(neighbour);
    }

    /// Whether nobody is owed anything.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn is_quiet(&self) -> bool {
        self.owed.is_quiet()
    }

    /// Whether a bucket was unequal to that of `neighbour` when it was last compared.
    #[cfg(test)]
    pub(super) fn differs(&self, neighbour: usize) -> bool {
        self.buckets.differs(neighbour)
    }

    /// Equal for equal tables.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn fingerprint(&self) -> &[u32] {
        self.buckets.hashes()
    }

    /// Bytes on the heap for what comes and goes.
    #[cfg(feature = "sim")]
    pub(crate) fn held(&self) -> usize {
        let seen: usize = self.rows.iter().map(|row| row.seen.len() * size_of::<Seen>()).sum();
        let rest = self.rest.keys().filter_map(|slot| self.reader().len(*slot)).sum::<usize>();
        self.owed.held() + seen + rest
    }

    /// The most bytes that [`held`](Records::held) can be, with datagrams of `longest` bytes.
    #[cfg(feature = "sim")]
    pub(crate) fn most_held(nodes: usize, neighbours: usize, longest: usize) -> usize {
        Owed::most_held(neighbours, longest) + nodes * 3 * longest
    }

    /// What is owed to `neighbour`, up to `room` bytes, to travel in its datagram `sequence`.
    pub(crate) fn pick(&mut self, neighbour: usize, room: usize, sequence: u64) -> Vec<Record> {
        let Records { owed, rows, cut, profiles, rest, names, .. } = self;
        owed.pick(neighbour, room, sequence, Reader { names, rows, cut, profiles, rest })
    }

    /// Whether more is owed to `neighbour` than its newest datagram had room for.
    pub(crate) fn has_more(&self, neighbour: usize) -> bool {
        self.owed.has_more(neighbour)
    }

    /// `neighbour` echoed the datagram `sequence`: what it carried came. How many records that were.
    pub(crate) fn echoed(&mut self, neighbour: usize, sequence: u64) -> usize {
        let Records { owed, rows, cut, profiles, rest, names, .. } = self;
        let reader = Reader { names, rows, cut, profiles, rest };
        owed.echoed(neighbour, sequence, |slot| reader.version(slot) as u32)
    }

    /// What to tell `neighbour`.
    pub(crate) fn digest(&mut self, neighbour: usize) -> Digest {
        self.buckets.digest(neighbour)
    }

    /// Of two the one with the smaller name asks.
    pub(crate) fn asks(&self, neighbour: usize) -> bool {
        self.me < self.neighbours[neighbour] as usize
    }

    /// Compares what `neighbour` tells. The bucket to be asked of it, at most one in `pause`.
    pub(crate) fn compare(
        &mut self,
        neighbour: usize,
        theirs: Digest,
        now: Time,
        pause: Duration,
    ) -> Option<u8> {
        match self.buckets.compare(neighbour, theirs, now, pause) {
            Compared::Equal => {
                // It has all of it.
                if self.owed.is_owed(neighbour) {
                    for slot in slots_of(self.buckets.places(theirs.bucket)) {
                        self.owed.settle(slot, neighbour);
                    }
                }
                None
            }
            Compared::Unequal { stays }
                if self.asks(neighbour) && (stays || !self.owed.has_more(neighbour)) =>
            {
                self.buckets.ask(neighbour, theirs.bucket, stays, now, pause).then_some(theirs.bucket)
            }
            Compared::Unequal { .. } | Compared::Other => None,
        }
    }

    fn mark(&self, slot: usize) -> Mark {
        let (place, kind) = owner_of(slot);
        Mark(self.names[place], kind)
    }

    /// A page of a bucket: what is known of it after `after`, in order, up to `room` bytes; and whether that is the last.
    pub(crate) fn page(&self, bucket: u8, after: Option<Mark>, room: usize) -> (Vec<Record>, bool) {
        let (mut page, mut left) = (Vec::new(), room);
        for slot in slots_of(self.buckets.places(bucket)).filter(|slot| Some(self.mark(*slot)) > after) {
            let Some(record) = self.record(slot) else { continue };
            let len = record.encoded_len();
            // What is too long for any page goes with a datagram of its owner's; the reading goes on.
            if len > room {
                continue;
            }
            if len > left {
                return (page, false);
            }
            left -= len;
            page.push(record);
        }
        (page, true)
    }

    /// A page of `neighbour`'s came, that told all it knows from after `after` up to its last record, or to the end of
    /// the bucket if it is the `last`: it is owed what it lacks.
    pub(crate) fn lacks(
        &mut self,
        neighbour: usize,
        bucket: u8,
        after: Option<Mark>,
        page: &[Record],
        last: bool,
    ) {
        let end = page.last().map(Record::mark);
        for slot in slots_of(self.buckets.places(bucket)) {
            let mark = self.mark(slot);
            let inside = Some(mark) > after && (last || end.is_some_and(|end| mark <= end));
            if inside && self.version(slot) > 0 && !page.iter().any(|other| other.mark() == mark) {
                self.owed.owe(slot, neighbour);
            }
        }
    }
}
