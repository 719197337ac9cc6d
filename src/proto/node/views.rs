//! What this node sees, told to all; and what all others tell.

use std::sync::Arc;
use std::time::Duration;

use super::Node;
use super::guest::Party;
use super::report::{Account, config_hash};
use crate::proto::messages::{Message, More};
use crate::proto::mtu::SMALL;
use crate::proto::peer::PeerStatus;
use crate::proto::picture::{Heard, Picture, Sources};
use crate::proto::records::{Body, EVERY, Life, LinkState, Met, NodeName, Profile, Record, Seen};
use crate::proto::session::What;
use crate::proto::snapshot::{Edge, EdgeView, RowView};
use crate::proto::timer::Time;
use crate::proto::verdict::Differing;

/// What a datagram may need beside its records: header, echo, hold, digest, seal, and what else there is to tell.
const OVERHEAD: usize = 100;
/// News of trouble are looked at within this share of an interval.
pub(super) const NEWS: u32 = 4;
/// Bytes of one entry of a row.
const ENTRY: usize = 7;

/// A page of the table of a peer with another roster is asked this often at least.
const PAGING: Duration = Duration::from_secs(60);

/// How far the table of a peer with another roster was read.
#[derive(Debug, Default)]
pub(super) struct Paging {
    /// Up to this owner.
    after: Option<NodeName>,
    /// When the next page is asked.
    at: Time,
    /// How long after the one before.
    pause: Duration,
    /// The peer has told something new since then.
    news: bool,
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
        };
        self.records.publish(Body::Profile(profile));
    }

    /// Says what this node sees, if that has changed.
    fn publish_row(&mut self) {
        if !self.views_changed || self.has_just_begun() {
            return;
        }
        self.views_changed = false;
        let mut seen = self.seen();
        // What does not fit into a datagram: the gravest first.
        let longest = (0..self.sessions.len()).map(|peer| self.longest(peer)).min();
        let most = (longest.unwrap_or(self.config.max_datagram) - OVERHEAD - 2 * ENTRY) / ENTRY;
        if seen.len() > most {
            seen.sort_by_key(|s| std::cmp::Reverse((s.life == Life::Down, s.link)));
            seen.truncate(most);
        }
        seen.sort_by_key(|s| s.peer);
        self.records.publish(Body::Row(seen));
    }

    /// The first row waits until all that are observed were heard, or could have been: at a start of the whole cluster it is
    /// empty then, and need not be told anew with every peer that comes.
    fn has_just_begun(&self) -> bool {
        let unheard = || (0..self.sessions.len()).any(|peer| self.registry.at(peer).last_seen.is_none());
        self.now.since(self.started) < self.config.proof_horizon()
            && self.records.row(self.me).is_none()
            && unheard()
    }

    /// What this node sees that is not plainly fine, by name.
    fn seen(&self) -> Vec<Seen> {
        let mut seen: Vec<Seen> = (0..self.sessions.len()).filter_map(|peer| self.sees(peer)).collect();
        seen.sort_by_key(|s| s.peer);
        seen
    }

    /// Whether something that the peer itself sent came lately, or is not due yet.
    pub(super) fn is_heard_directly(&self, peer: usize, now: Time) -> bool {
        let Account { direct, direct_spacing, .. } = self.accounts[peer];
        let rests = self.config.heartbeat_interval * u32::from(direct_spacing);
        direct.is_some_and(|at| now.since(at) < self.config.proof_horizon() + rests)
    }

    /// Whether the node at `by` observes the one at `about`, and says in a row that can be believed that it is fine.
    pub(super) fn says_fine(&self, by: usize, about: usize) -> bool {
        if !self.directory.topology().are_neighbours(by, about) {
            return false;
        }
        let about = self.records.names()[about];
        let row = self.records.row(by).filter(|_| self.picture.age(by).is_some());
        row.is_some_and(|row| row.binary_search_by_key(&about, |s| s.peer).is_err())
    }

    /// Whether the peer says in a row that can be believed that it hears this node, which does not hear it.
    pub(super) fn hears_me(&self, peer: usize) -> bool {
        let place = self.places[peer];
        let me = self.records.names()[self.records.me()];
        let row = self.records.row(place).filter(|_| self.picture.age(place).is_some());
        row.is_some_and(|row| row.iter().any(|s| s.peer == me && s.link == LinkState::TxLost))
    }

    /// What all rows together say at `now`.
    pub(super) fn draw(&self, now: Time) -> Picture {
        let heard: Vec<Heard> = (0..self.sessions.len())
            .filter(|peer| self.is_heard_directly(*peer, now))
            .filter_map(|peer| {
                let age = now.since(self.accounts[peer].direct?);
                let two_way = self.registry.at(peer).is_proven(now, self.config.proof_horizon());
                Some(Heard { place: self.places[peer], age, two_way })
            })
            .collect();
        let interval = self.config.heartbeat_interval;
        Picture::draw(Sources {
            records: &self.records,
            topology: self.directory.topology(),
            own: &self.seen(),
            heard: &heard,
            interval,
            stale: interval * (2 * self.config.down_after),
        })
    }

    /// All rows, as this node can believe them at `now`.
    pub(super) fn rows(&self, now: Time) -> Vec<RowView> {
        let (picture, own) = (self.draw(now), self.seen());
        let (names, me) = (self.records.names(), self.me);
        let ids: Vec<Arc<str>> = (0..names.len()).map(|place| self.id_of(place).clone()).collect();
        let row = |place: usize| match self.records.row(place) {
            _ if picture.age(place).is_none() => &[][..],
            _ if place == me => &own,
            row => row.unwrap_or_default(),
        };
        let hears =
            |by: usize, whom: NodeName| row(by).iter().any(|s| s.peer == whom && s.link == LinkState::TxLost);
        let edge = |by: usize, seen: &Seen| {
            let other = self.records.place(seen.peer)?;
            if (seen.life, seen.link) == (Life::Healthy, LinkState::Silent) {
                return None;
            }
            let link = match seen.link {
                LinkState::Up | LinkState::Silent => Edge::Up,
                LinkState::Lossy => Edge::Lossy,
                LinkState::TxLost => Edge::TxLost,
                LinkState::Down if hears(other, names[by]) => Edge::RxLost,
                LinkState::Down => Edge::Down,
            };
            Some(EdgeView { peer: ids[other].clone(), life: seen.life, link })
        };
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_unstable_by(|a, b| ids[*a].cmp(&ids[*b]));
        let mut at = vec![0; names.len()];
        order.iter().enumerate().for_each(|(row, place)| at[*place] = row as u32);
        let topology = self.directory.topology();
        let view = |place: &usize| {
            let mut sees: Vec<EdgeView> = row(*place).iter().filter_map(|seen| edge(*place, seen)).collect();
            sees.sort_by(|a, b| a.peer.cmp(&b.peer));
            let watches =
                (!topology.is_mesh()).then(|| topology.neighbours(*place).map(|other| at[other]).collect());
            RowView { server_id: ids[*place].clone(), age: picture.age(*place), watches, sees }
        };
        order.iter().map(view).collect()
    }

    /// The id of the node at `place`, as far as it is known.
    pub(super) fn id_of(&self, place: usize) -> &Arc<str> {
        match self.peer_at(place) {
            _ if place == self.me => &self.config.server_id,
            Some(peer) => &self.registry.at(peer).server_id,
            None => self.directory.id(place),
        }
    }

    /// Whether this node misses most of those that it observes, and most of these are heard by most of their observers that
    /// it can reach: then it is this node that is cut off. Survivors of many deaths reach nobody who hears the dead.
    fn misses_what_others_hear(&self) -> bool {
        let misses = |peer: &usize| {
            let silent = self.registry.at(*peer).status != PeerStatus::Healthy || self.is_silent(*peer);
            silent && self.accounts[*peer].left.is_none()
        };
        let missed: Vec<usize> = (0..self.sessions.len()).filter(misses).collect();
        let heard = missed.iter().filter(|peer| {
            self.picture.says.get(self.places[**peer]).is_some_and(|says| says.hear * 2 > says.votes())
        });
        missed.len() * 2 > self.sessions.len() && heard.count() * 2 > missed.len()
    }

    /// The picture may have changed: it is drawn anew within a `share` of an interval since the last time, and at once
    /// where this node observes all, since that costs little.
    pub(super) fn redraw_within(&mut self, share: u32) {
        let pause =
            if self.others.is_empty() { Duration::ZERO } else { self.config.heartbeat_interval / share };
        let at = (self.drawn + pause).max(self.now);
        self.redraw_at = Some(self.redraw_at.map_or(at, |before| before.min(at)));
        self.review_at = self.review_at.min(at);
    }

    /// Draws the picture anew, if it may have changed, and tells what follows.
    pub(super) fn redraw(&mut self) {
        if self.redraw_at.is_none_or(|at| self.now < at) {
            return;
        }
        (self.drawn, self.redraw_at) = (self.now, None);
        let drawn = self.draw(self.now);
        // While something is wrong, rows grow old without another word.
        if drawn.says.iter().any(|says| says.healthy != says.observers() || says.miss > 0) {
            let pause = self.config.heartbeat_interval / 2;
            self.redraw_at = Some(self.now + if self.others.is_empty() { pause } else { pause * 4 });
        }
        if !drawn.is_like(&self.picture) {
            self.picture = drawn;
            (0..self.sessions.len()).for_each(|peer| self.refresh(peer));
        }
        self.fuse();
        self.contradicted = match self.misses_what_others_hear() {
            true => self.contradicted.or(Some(self.now)),
            false => None,
        };
        if self.isolated.is_some() && !self.is_isolated() {
            self.end_isolation();
        }
    }

    /// What this node says of a peer; `None`: it is plainly fine.
    fn sees(&self, peer: usize) -> Option<Seen> {
        let (info, connection, account) = (self.registry.at(peer), self.pool.at(peer), &self.accounts[peer]);
        let life = match info.status {
            _ if account.left.is_some() => Life::Left,
            _ if info.last_seen.is_none() => Life::Unknown,
            PeerStatus::Healthy => Life::Healthy,
            PeerStatus::Suspected => Life::Suspected,
            PeerStatus::Down => Life::Down,
        };
        let lossy = || self.sessions[peer].confirmed.as_ref().is_some_and(|c| c.loss.is_lossy());
        let link = match () {
            () if connection.is_active && self.is_silent(peer) => LinkState::Silent,
            () if connection.is_active && lossy() => LinkState::Lossy,
            () if connection.is_active => LinkState::Up,
            // Who refuses is Down while it was just heard; nothing tells the end of that.
            () if info.status == PeerStatus::Down => LinkState::Down,
            () if self.is_heard_directly(peer, self.now) => LinkState::TxLost,
            () => LinkState::Down,
        };
        let peer = self.records.names()[self.places[peer]];
        ((life, link) != (Life::Healthy, LinkState::Up)).then_some(Seen { peer, life, link })
    }

    /// Whether the last heartbeats with it had no echo.
    pub(super) fn is_silent(&self, peer: usize) -> bool {
        self.pool.at(peer).attempt_count >= self.config.suspect_after
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
        let Some(digest) = message.digest().filter(|_| self.late_to.is_none()) else { return };
        if self.records.profile(self.places[peer]).is_none() {
            return;
        }
        if self.differing(peer, |profile| profile.roster).is_some() {
            return self.page_through(peer);
        }
        if let Some(bucket) = self.records.compare(peer, digest, self.now, self.config.heartbeat_interval)
            && self.asks(peer)
        {
            self.ask_for_page(peer, bucket, None);
        }
    }

    /// Whether it is new.
    fn merge(&mut self, peer: usize, record: &Record) -> bool {
        let place = self.records.place(record.owner);
        let before = place.and_then(|place| self.records.profile(place).copied());
        let trouble = place.and_then(|p| self.records.row(p)).is_some_and(|row| !row.is_empty());
        match self.records.merge(record, Some(peer)) {
            Met::Nothing => return false,
            Met::New(place) => self.note_profile(place, before),
            Met::Raised => {}
        }
        // Good news of those that others observe can wait.
        let trouble = matches!(&record.body, Body::Row(seen) if !seen.is_empty()) || trouble;
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

    /// What the peer's profile tells and this node's, if that is not the same.
    pub(super) fn differing(&self, peer: usize, of: fn(&Profile) -> [u8; 4]) -> Option<Differing> {
        let (its, own) = (self.records.profile(self.places[peer])?, self.records.profile(self.me)?);
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
        self.ask_for_page(peer, EVERY, after);
    }

    fn paged(&mut self, peer: usize, after: Option<NodeName>, end: Option<NodeName>, last: bool) {
        let paging = &mut self.accounts[peer].paging;
        if paging.after == after {
            // Pages go forward; after the last one it is read from the start.
            paging.after = end.filter(|end| !last && Some(*end) > after);
        }
    }

    /// Of two the one with the smaller name asks.
    fn asks(&self, peer: usize) -> bool {
        self.records.me() < self.places[peer]
    }

    fn ask_for_page(&mut self, peer: usize, bucket: u8, after: Option<NodeName>) {
        let request = |echo, hold| Message::SyncRequest { echo, hold, bucket, after };
        self.send_to_party(Party::Peer(peer), request);
        self.stats.syncs += u64::from(after.is_none());
    }

    fn send_to_party(&mut self, to: Party, message: impl FnOnce(u64, u64) -> Message) {
        if let Some((transmit, key)) = self.way_to(to) {
            self.send_bound(to, transmit, key, What::Other, usize::MAX, message);
        }
    }

    /// `from` asks for a page. After a stall it is dropped: it asks again.
    pub(super) fn sync_request(&mut self, from: Party, bucket: u8, after: Option<NodeName>) {
        if self.late_to.is_some() || !self.may_serve(from) {
            return;
        }
        self.publish_row();
        let longest = match from {
            Party::Peer(peer) => self.longest(peer),
            Party::Guest(_) => self.config.max_datagram,
        };
        let (records, last) = self.records.page(bucket, after, longest - OVERHEAD);
        let response = |echo, hold| Message::SyncResponse { echo, hold, bucket, after, last, records };
        self.send_to_party(from, response);
    }

    /// A page of `peer`'s: what is new there is taken over, what it lacks is owed to it.
    pub(super) fn sync_response(
        &mut self,
        peer: usize,
        bucket: u8,
        after: Option<NodeName>,
        last: bool,
        page: &[Record],
    ) {
        self.records.lacks(peer, bucket, after, page, last);
        let end = page.last().map(|record| record.owner);
        if bucket == EVERY {
            return self.paged(peer, after, end, last);
        }
        // Pages go forward, or the asking would never end.
        if !last && end > after && self.asks(peer) && self.late_to.is_none() {
            self.ask_for_page(peer, bucket, end);
        }
    }
}
