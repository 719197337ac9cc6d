//! What this node sees, told to all; and what all others tell.

use std::sync::Arc;

use super::Node;
use super::report::{Account, config_hash, roster_hash};
use crate::proto::config::{ConfigError, PeerConfig, StaticPeer};
use crate::proto::messages::Message;
use crate::proto::peer::PeerStatus;
use crate::proto::picture::Picture;
use crate::proto::records::{Body, Life, LinkState, Met, NodeName, Profile, Record, Records, Seen};
use crate::proto::session::What;
use crate::proto::snapshot::{Edge, EdgeView, RowView};
use crate::proto::timer::Time;

/// What a datagram may need beside its records: header, echo, hold, digest, seal, and what else there is to tell.
const OVERHEAD: usize = 100;
/// Bytes of one entry of a row.
const ENTRY: usize = 7;

/// How the roster names an entry.
fn name_of(entry: &StaticPeer) -> &str {
    entry.server_id.as_deref().unwrap_or(&entry.name)
}

/// An empty table of records.
pub(super) fn table(config: &PeerConfig) -> Result<Records, ConfigError> {
    let ids: Vec<&str> = config.static_peers.iter().map(name_of).collect();
    Records::new(&config.server_id, &ids, ids.len()).map_err(|(one, other)| {
        let name = |place: usize| ids.get(place).copied().unwrap_or(&config.server_id);
        ConfigError::Invalid(format!(
            "static_peers: {} and {} have one name in records; rename one of them",
            name(one),
            name(other)
        ))
    })
}

/// Where the entries of the roster are in the table.
pub(super) fn places(config: &PeerConfig, records: &Records) -> Vec<usize> {
    let place =
        |entry| records.place(NodeName::of(name_of(entry))).expect("the table was made of the roster");
    config.static_peers.iter().map(place).collect()
}

/// The newest 48 bits of a hash, as a record carries them.
fn six(hash: u64) -> [u8; 6] {
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&hash.to_le_bytes()[..6]);
    bytes
}

impl Node {
    /// Says what this run is.
    pub(super) fn publish_profile(&mut self) {
        let profile = Profile {
            instance: self.instance,
            roster: six(roster_hash(&self.config)),
            config: six(config_hash(&self.config)),
        };
        self.records.publish(Body::Profile(profile), self.now);
    }

    /// Says what this node sees, if that has changed.
    fn publish_row(&mut self) {
        if !std::mem::take(&mut self.views_changed) {
            return;
        }
        let mut seen = self.seen();
        // What does not fit into a datagram: the gravest first.
        let most = (self.config.max_datagram - OVERHEAD - 2 * ENTRY) / ENTRY;
        if seen.len() > most {
            seen.sort_by_key(|s| std::cmp::Reverse((s.life == Life::Down, s.link)));
            seen.truncate(most);
        }
        seen.sort_by_key(|s| s.peer);
        self.records.publish(Body::Row(seen), self.now);
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

    /// Whether `by` says in a row that can be believed that `about` is fine.
    pub(super) fn says_fine(&self, by: usize, about: usize) -> bool {
        let (by, about) = (self.places[by], self.records.names()[self.places[about]]);
        let believed = self.picture.ages.get(by).copied().flatten().is_some();
        let row = self.records.row(by).map(|(row, _)| row).filter(|_| believed);
        row.is_some_and(|row| row.binary_search_by_key(&about, |s| s.peer).is_err())
    }

    /// Whether the peer says in a row that can be believed that it hears this node, which does not hear it.
    pub(super) fn hears_me(&self, peer: usize) -> bool {
        let place = self.places[peer];
        let me = self.records.names()[self.records.me()];
        let believed = self.picture.ages.get(place).copied().flatten().is_some();
        let row = self.records.row(place).map(|(row, _)| row).filter(|_| believed);
        row.is_some_and(|row| row.iter().any(|s| s.peer == me && s.link == LinkState::TxLost))
    }

    /// What all rows together say at `now`.
    pub(super) fn draw(&self, now: Time) -> Picture {
        let mut heard = vec![None; self.records.names().len()];
        for peer in 0..self.sessions.len() {
            if self.is_heard_directly(peer, now) {
                heard[self.places[peer]] = self.accounts[peer].direct.map(|at| now.since(at));
            }
        }
        let interval = self.config.heartbeat_interval;
        let stale = interval * (2 * self.config.down_after);
        Picture::draw(&self.records, &self.seen(), &heard, interval, stale)
    }

    /// All rows, as this node can believe them at `now`.
    pub(super) fn rows(&self, now: Time) -> Vec<RowView> {
        let (picture, own) = (self.draw(now), self.seen());
        let (names, me) = (self.records.names(), self.records.me());
        let mut ids: Vec<Arc<str>> = vec![self.config.server_id.clone(); names.len()];
        for (peer, place) in self.places.iter().enumerate() {
            ids[*place] = self.registry.at(peer).server_id.clone();
        }
        let row = |place: usize| match self.records.row(place) {
            _ if picture.ages[place].is_none() => &[][..],
            _ if place == me => &own,
            row => row.map_or(&[][..], |(seen, _)| seen),
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
        let mut rows: Vec<RowView> = (0..names.len())
            .map(|place| {
                let mut sees: Vec<EdgeView> =
                    row(place).iter().filter_map(|seen| edge(place, seen)).collect();
                sees.sort_by(|a, b| a.peer.cmp(&b.peer));
                RowView { server_id: ids[place].clone(), age: picture.ages[place], sees }
            })
            .collect();
        rows.sort_by(|a, b| a.server_id.cmp(&b.server_id));
        rows
    }

    /// Whether this node misses most, and most of those that it hears say that most of them are fine: then it is this
    /// node that is cut off. Survivors of many deaths say otherwise.
    fn misses_what_others_hear(&self) -> bool {
        let peers = 0..self.sessions.len();
        let misses =
            |peer: &usize| self.registry.at(*peer).status != PeerStatus::Healthy || self.is_silent(*peer);
        let missed: Vec<usize> =
            peers.clone().filter(misses).filter(|peer| self.accounts[*peer].left.is_none()).collect();
        if missed.len() * 2 <= self.sessions.len() {
            return false;
        }
        let believed = |peer: &usize| self.picture.ages[self.places[*peer]].is_some();
        let heard: Vec<usize> = peers
            .filter(|peer| !misses(peer) && self.is_heard_directly(*peer, self.now))
            .filter(believed)
            .collect();
        let contradicts = |by: &&usize| {
            missed.iter().filter(|about| self.says_fine(**by, **about)).count() * 2 > missed.len()
        };
        heard.iter().filter(contradicts).count() * 2 > heard.len()
    }

    /// Draws the picture anew, if it may have changed, and tells what follows.
    pub(super) fn redraw(&mut self) {
        if !self.picture_old {
            return;
        }
        let drawn = self.draw(self.now);
        // While something is wrong, rows grow old without another word.
        self.picture_old = drawn.says.iter().any(|says| says.healthy != says.observers() || says.miss > 0);
        if drawn.says != self.picture.says
            || drawn.ages.iter().map(Option::is_some).ne(self.picture.ages.iter().map(Option::is_some))
        {
            self.picture = drawn;
            (0..self.sessions.len()).for_each(|peer| self.refresh(peer));
        }
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

    /// What the next datagram to `peer` carries.
    pub(super) fn records_for(&mut self, peer: usize) -> Vec<Record> {
        self.publish_row();
        let room = self.config.max_datagram - OVERHEAD;
        let sequence = self.sessions[peer].upcoming();
        self.records.pick(peer, room, sequence)
    }

    /// Takes what `peer` tells of others and of itself, and compares tables.
    pub(super) fn meet(&mut self, peer: usize, message: &Message) {
        for record in message.records() {
            self.merge(peer, record);
        }
        // After a stall what waited in the socket is old.
        let compares = self.late_to.is_none() && self.has_our_roster(peer);
        let Some(digest) = message.digest().filter(|_| compares) else { return };
        if let Some(bucket) = self.records.compare(peer, digest, self.now, self.config.heartbeat_interval)
            && self.asks(peer)
        {
            self.ask_for_page(peer, bucket, None);
        }
    }

    fn merge(&mut self, peer: usize, record: &Record) {
        if self.records.merge(record.clone(), Some(peer), self.now) != Met::Nothing {
            self.picture_old = true;
            self.review_at = self.now;
        }
    }

    /// Whether `peer` has told that its roster is ours.
    fn has_our_roster(&self, peer: usize) -> bool {
        let own = self.records.profile(self.records.me());
        let its = self.records.profile(self.places[peer]);
        its.is_some() && its.map(|p| p.roster) == own.map(|p| p.roster)
    }

    /// Of two the one with the smaller name asks.
    fn asks(&self, peer: usize) -> bool {
        self.records.me() < self.places[peer]
    }

    fn ask_for_page(&mut self, peer: usize, bucket: u8, after: Option<NodeName>) {
        self.send_to_peer(peer, |echo, hold| Message::SyncRequest { echo, hold, bucket, after });
        self.stats.syncs += u64::from(after.is_none());
    }

    fn send_to_peer(&mut self, peer: usize, message: impl FnOnce(u64, u64) -> Message) {
        let (Some(to), Some(confirmed)) = (self.pool.at(peer).remote_address, &self.sessions[peer].confirmed)
        else {
            return;
        };
        let (key, transmit) = (confirmed.key, super::Transmit { to, from: None });
        self.send_bound(peer, transmit, key, What::Other, usize::MAX, message);
    }

    /// `peer` asks for a page. After a stall it is dropped: it asks again.
    pub(super) fn sync_request(&mut self, peer: usize, bucket: u8, after: Option<NodeName>) {
        if self.late_to.is_some() || !self.may_serve(peer) {
            return;
        }
        self.publish_row();
        let room = self.config.max_datagram - OVERHEAD;
        let (records, last) = self.records.page(bucket, after, room);
        self.send_to_peer(peer, |echo, hold| Message::SyncResponse {
            echo,
            hold,
            bucket,
            after,
            last,
            records,
        });
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
        // Pages go forward, or the asking would never end.
        if !last && end > after && self.asks(peer) && self.late_to.is_none() {
            self.ask_for_page(peer, bucket, end);
        }
    }
}
