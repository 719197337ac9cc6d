//! Records on their way: what this node sees, told to all; and what all others tell.

use std::time::Duration;

use super::Node;
use super::drawing::NEWS;
use super::guest::Party;
use super::report::config_hash;
use crate::proto::messages::{Message, More};
use crate::proto::mtu::SMALL;
use crate::proto::peer::PeerStatus;
use crate::proto::records::{Away, Body, ENTRY, EVERY, Life, Mark, Met, Profile, Record, Release};
use crate::proto::seal::WIRE;
use crate::proto::session::What;
use crate::proto::timer::Time;
use crate::proto::verdict::Differing;

/// What a datagram may need beside its records: header, echo, hold, digest, seal, and what else there is to tell.
pub(super) const OVERHEAD: usize = 100;

/// A page of the table of a peer with another roster is asked this often at least.
const PAGING: Duration = Duration::from_secs(60);

/// A page that does not come is given up after so many intervals.
const PATIENCE: u32 = 8;

/// A bucket of a peer's that is being read.
#[derive(Clone, Copy, Debug)]
struct Reading {
    bucket: u8,
    /// Up to where it was read.
    after: Option<Mark>,
    /// Since when it has not come further, and when the next page was asked last.
    since: Time,
    asked: Time,
}

/// How far the table of a peer with another roster was read.
#[derive(Debug, Default)]
pub(super) struct Paging {
    /// Up to this record.
    after: Option<Mark>,
    /// When the next page is asked.
    at: Time,
    /// How long after the one before.
    pause: Duration,
    /// The peer has told something new since then.
    news: bool,
    /// A bucket of its that is being read: a page that is lost is asked again, since on a lossy path a long reading hardly
    /// ever comes to its end at one go.
    reading: Option<Reading>,
    /// The page that was last given to it: its bucket, after whom it begins, how often it was asked in short order, and when.
    given: (Option<(u8, Option<Mark>)>, u8, Time),
    /// It was met when the roster changed, and may know this run for long: what it has told it does not tell again.
    acquainted: bool,
}

impl Paging {
    /// Of one that may be acquainted with this node: asked for its table if it has told nothing of itself by `at`.
    pub(super) fn acquainted(at: Time) -> Paging {
        Paging { at, acquainted: true, ..Paging::default() }
    }
}

/// What this node has to tell the others of what it sees.
#[derive(Debug)]
pub(super) struct News {
    /// That has changed since it was last published; and when that was.
    pub(super) changed: bool,
    pub(super) published: Time,
    /// Somebody is newly Down, or back, which the neighbours are told at once; and when they were last.
    pub(super) urgent: bool,
    pub(super) pushed: Time,
}

impl News {
    pub(super) fn new(now: Time) -> News {
        News { changed: true, published: Time::ZERO, urgent: false, pushed: now }
    }
}

/// The first 32 of the 48 bits of a hash, as a record carries them.
fn four(hash: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    [a, b, c, d]
}

impl Node {
    /// Says what this run is.
    pub(super) fn publish_profile(&mut self) {
        let profile = Profile {
            instance: self.instance,
            roster: four(self.directory.hash()),
            config: four(config_hash(&self.config)),
            release: Release::OWN,
            wire: WIRE,
            id: (self.config.own_name != self.config.server_id).then(|| self.server_id.clone()),
            away: Away::new(self.own_drain(), self.own_leave()),
            standing: self.standing(),
        };
        self.records.publish(Body::Profile(profile));
    }

    /// Says what this node sees, if that has changed.
    fn publish_row(&mut self) {
        // What changes in short order goes together: many may have died at once.
        let soon = self.news.published + self.config.heartbeat_interval / 2;
        if !self.news.changed || self.has_just_begun() || self.now < soon {
            return;
        }
        // What it has no vote on now it may have one on soon.
        self.news.changed =
            (0..self.sessions.len()).any(|peer| self.has_no_vote(self.registry.at(peer).status));
        self.news.published = self.now;
        let mut seen = self.seen();
        // What does not fit into a datagram: the gravest first.
        let longest = (0..self.sessions.len()).map(|peer| self.longest(peer)).min();
        let most = (longest.unwrap_or(self.config.max_datagram) - OVERHEAD - 2 * ENTRY) / ENTRY;
        let cut = seen.len() > most;
        if cut {
            seen.sort_by_key(|s| std::cmp::Reverse((s.life == Life::Down, s.link)));
            seen.truncate(most);
        }
        seen.sort_by_key(|s| s.peer);
        self.records.publish(if cut { Body::CutRow(seen) } else { Body::Row(seen) });
    }

    /// The first row waits until all that are observed were heard, or could have been: at a start of the whole cluster it is
    /// empty then, and need not be told anew with every peer that comes.
    fn has_just_begun(&self) -> bool {
        let unheard = || (0..self.sessions.len()).any(|peer| self.registry.at(peer).last_seen.is_none());
        self.now.since(self.started) < self.config.proof_horizon()
            && self.records.row(self.me).is_none()
            && unheard()
    }

    /// A neighbour is owed records while the link to it works.
    pub(super) fn note_presence(&mut self, peer: usize) {
        let present = self.pool.at(peer).is_active
            && self.sessions[peer].confirmed.is_some()
            && self.registry.at(peer).status != PeerStatus::Down;
        if present != self.records.is_present(peer) {
            if present {
                self.records.greet(peer);
            } else {
                self.records.part(peer);
            }
        }
    }

    /// The longest datagram to `peer` that is not known to be too long for the path.
    fn longest(&self, peer: usize) -> usize {
        let narrow = self.pool.at(peer).path.narrow().is_some();
        if narrow { SMALL.min(self.config.max_datagram) } else { self.config.max_datagram }
    }

    /// Whether a ping with this to tell may be too long for a path.
    pub(super) fn is_long(&self, more: &More) -> bool {
        let records: usize = more.records.iter().map(Record::encoded_len).sum();
        records > SMALL - OVERHEAD
    }

    /// What the next datagram to `peer`, of `room` bytes at most, carries.
    pub(super) fn records_for(&mut self, peer: usize, room: usize) -> Vec<Record> {
        self.publish_row();
        self.publish_offers();
        if !self.config.mechanisms.records {
            return Vec::new();
        }
        let room = room.min(self.longest(peer)) - OVERHEAD;
        let sequence = self.sessions[peer].upcoming();
        self.records.pick(peer, room, sequence)
    }

    /// Takes what `peer` tells of others and of itself, and compares tables.
    pub(super) fn meet(&mut self, peer: usize, message: &Message) {
        for record in message.records() {
            let news = self.merge(peer, record);
            self.accounts[peer].paging.news |= news;
        }
        // After a stall what waited in the socket is old.
        let late = self.late_to.is_some() || !self.config.mechanisms.records;
        let Some(digest) = message.digest().filter(|_| !late) else { return };
        if self.records.profile(self.places[peer]).is_none() {
            // Who meets this run says by itself what it is.
            if self.accounts[peer].paging.acquainted {
                self.page_through(peer);
            }
            return;
        }
        if self.differing(self.places[peer], |profile| profile.roster).is_some() {
            return self.page_through(peer);
        }
        let interval = self.config.heartbeat_interval;
        if let Some(reading) = self.accounts[peer].paging.reading {
            if self.now.since(reading.since) >= interval * PATIENCE {
                self.accounts[peer].paging.reading = None;
            } else if self.now.since(reading.asked) >= interval / 2 {
                self.read_on(peer, Reading { asked: self.now, ..reading });
            }
        } else if let Some(bucket) = self.records.compare(peer, digest, self.now, interval) {
            self.stats.syncs += 1;
            self.read_on(peer, Reading { bucket, after: None, since: self.now, asked: self.now });
        }
    }

    /// Whether it is new.
    fn merge(&mut self, peer: usize, record: &Record) -> bool {
        let place = self.records.place(record.owner);
        let before = place.and_then(|place| self.records.profile(place)).map(|profile| profile.instance);
        let trouble = place.and_then(|p| self.records.row(p)).is_some_and(|row| !row.is_empty());
        match self.meet_record(record, Some(peer)) {
            Met::Nothing => return false,
            Met::New(place) => {
                self.note_profile(place, before);
                if matches!(record.body, Body::Profile(_)) {
                    self.note_witness();
                }
            }
            Met::Raised => {}
        }
        // Good news of those that others observe can wait.
        let trouble = !record.body.seen().is_empty() || trouble;
        self.redraw_within(if trouble { NEWS } else { 1 });
        true
    }

    /// Whether the link to the peer is cut, and its profile tells another run than the one that was confirmed: that run hears
    /// no bound frame, and may have no reason to send one. While the link works the profile is the one that is late.
    pub(super) fn is_told_another_run(&self, peer: usize) -> bool {
        let Some(told) = self.records.profile(self.places[peer]).map(|profile| profile.instance) else {
            return false;
        };
        let session = &self.sessions[peer];
        !self.pool.at(peer).is_active
            && session.confirmed.as_ref().is_some_and(|c| c.instance != told)
            && session.replaced_at(told).is_none()
    }

    /// Whether the profile of the node at `place`, if there is one, tells this node's roster and settings.
    pub(super) fn is_alike(&self, place: usize) -> bool {
        let both = self.records.profile(place).zip(self.records.profile(self.me));
        both.is_none_or(|(its, own)| (its.roster, its.config) == (own.roster, own.config))
    }

    /// What the profile of the node at `place` tells and this node's, if that is not the same.
    pub(super) fn differing(&self, place: usize, of: fn(&Profile) -> [u8; 4]) -> Option<Differing> {
        let (its, own) = (self.records.profile(place)?, self.records.profile(self.me)?);
        Some((of(its), of(own))).filter(|(its, own)| its != own)
    }

    /// Buckets of different rosters cannot be compared: the whole table of such a peer is read over and over, one page an
    /// interval, and less and less often while nothing new comes.
    fn page_through(&mut self, peer: usize) {
        let interval = self.config.heartbeat_interval;
        let paging = &mut self.accounts[peer].paging;
        if self.now < paging.at {
            return;
        }
        let longer = (paging.pause * 2).clamp(interval, PAGING.max(interval));
        paging.pause = if std::mem::take(&mut paging.news) { interval } else { longer };
        paging.at = self.now + paging.pause;
        let after = paging.after;
        self.stats.syncs += u64::from(after.is_none());
        self.ask_for_page(peer, EVERY, after);
    }

    fn paged(&mut self, peer: usize, after: Option<Mark>, end: Option<Mark>, last: bool) {
        let paging = &mut self.accounts[peer].paging;
        if paging.after == after {
            // Pages go forward; after the last one it is read from the start.
            paging.after = end.filter(|end| !last && Some(*end) > after);
        }
    }

    fn ask_for_page(&mut self, peer: usize, bucket: u8, after: Option<Mark>) {
        let request = |echo, hold| Message::SyncRequest { echo, hold, bucket, after };
        self.send_to_party(Party::Peer(peer), request);
    }

    fn send_to_party(&mut self, to: Party, message: impl FnOnce(u64, u64) -> Message) {
        if let Some((transmit, key)) = self.way_to(to) {
            self.send_bound(to, transmit, key, What::Other, usize::MAX, message);
        }
    }

    /// `from` asks for a page. After a stall it is dropped: it asks again.
    pub(super) fn sync_request(&mut self, from: Party, bucket: u8, after: Option<Mark>) {
        if self.late_to.is_some() || !self.may_serve(from) {
            return;
        }
        self.publish_row();
        self.publish_offers();
        let longest = match from {
            Party::Peer(peer) => self.longest_page(peer, bucket, after),
            Party::Guest(_) => self.config.max_datagram,
        };
        let (records, last) = self.records.page(bucket, after, longest - OVERHEAD);
        let response = |echo, hold| Message::SyncResponse { echo, hold, bucket, after, last, records };
        self.send_to_party(from, response);
    }

    /// Asks for the next page of a bucket that is being read.
    fn read_on(&mut self, peer: usize, reading: Reading) {
        self.accounts[peer].paging.reading = Some(reading);
        self.ask_for_page(peer, reading.bucket, reading.after);
    }

    /// One that is asked for the third time was lost twice, perhaps for its length.
    fn longest_page(&mut self, peer: usize, bucket: u8, after: Option<Mark>) -> usize {
        let page = Some((bucket, after));
        let soon = self.config.heartbeat_interval * 2;
        let (known, times, at) = &mut self.accounts[peer].paging.given;
        let again = std::mem::replace(known, page) == page && self.now.since(*at) <= soon;
        (*times, *at) = (if again { times.saturating_add(1) } else { 0 }, self.now);
        if *times >= 2 { SMALL.min(self.config.max_datagram) } else { self.longest(peer) }
    }

    /// A page of `peer`'s: what is new there is taken over, what it lacks is owed to it.
    pub(super) fn sync_response(
        &mut self,
        peer: usize,
        bucket: u8,
        after: Option<Mark>,
        last: bool,
        page: &[Record],
    ) {
        self.records.lacks(peer, bucket, after, page, last);
        let end = page.last().map(Record::mark);
        if bucket == EVERY {
            return self.paged(peer, after, end, last);
        }
        let reading = &mut self.accounts[peer].paging.reading;
        if reading.take_if(|reading| (reading.bucket, reading.after) == (bucket, after)).is_none() {
            return;
        }
        // Pages go forward, or the asking would never end.
        if !last && end > after && self.late_to.is_none() {
            self.read_on(peer, Reading { bucket, after: end, since: self.now, asked: self.now });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::proto::config::{PeerConfig, StaticPeer};
    use crate::proto::directory::Directory;
    use crate::proto::seal::{Instance, Keyring};
    use crate::proto::tests::counting::allocated;

    /// Bytes that a node of a roster holds which knows the records of all, and how many it observes.
    fn held(nodes: u16) -> (usize, usize) {
        let id = |n: u16| Arc::<str>::from(format!("node-{n:05}"));
        let address = |n: u16| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 7946));
        let entry = |n: u16| StaticPeer { server_id: Some(id(n)), name: id(n), address: Some(address(n)) };
        let config = PeerConfig::new(&id(0), "test", address(0), (1..nodes).map(entry).collect());
        let keys = Keyring::new("test", &[], true).unwrap();
        let directory = Arc::new(Directory::new(&config, &keys).unwrap());
        let before = allocated().1;
        let mut node =
            Node::in_directory(config, keys, directory, Instance(1), 1, Time::from_micros(1)).unwrap();
        let profile = node.records.profile(node.me).unwrap().clone();
        for owner in node.directory.names().to_vec() {
            for body in [Body::Row(Vec::new()), Body::Profile(profile.clone())] {
                node.merge(0, &Record { owner, version: 1, body });
            }
        }
        node.now = Time::from_micros(5_000_000);
        node.redraw();
        ((allocated().1 - before) as usize, node.sessions.len())
    }

    #[test]
    fn a_core_of_10000_holds_little() {
        let (small, large) = (held(5_000), held(10_000));
        let (bytes, observed) = large;
        let each = (bytes - small.0) / 5_000;
        println!("{bytes} B in a roster of 10,000, of whom {observed} are observed; {each} B a node more");
        assert!(bytes < 1_550_000, "{bytes}");
        assert!(each <= 150, "{each}");
    }
}
