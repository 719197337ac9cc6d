//! What this node sees, and what it makes of all rows together: when the picture is drawn anew, and what follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Node;
use super::report::Account;
use crate::proto::peer::PeerStatus;
use crate::proto::picture::{self, Heard, Picture, Sources};
use crate::proto::records::{Life, LinkState, NodeName, Seen};
use crate::proto::snapshot::{Edge, EdgeView, RowView};
use crate::proto::timer::Time;
use crate::proto::verdict::is_excused;

/// News of trouble are looked at within this share of an interval.
pub(super) const NEWS: u32 = 4;

/// So many nodes are few.
const FEW: usize = 65;

/// What all rows together say, as of the last time that it was drawn.
#[derive(Debug)]
pub(super) struct Drawing {
    pub(super) picture: Picture,
    drawn: Time,
    /// Of each node whose row could be believed once and cannot now: when its row was last known to be true.
    lost: BTreeMap<usize, Time>,
    /// When the status of those that this node does not observe was last taken from it.
    pub(super) fused: Time,
    /// When it is to be drawn anew; `None`: nothing has changed, and all is fine.
    next: Option<Time>,
}

impl Drawing {
    pub(super) fn new(now: Time) -> Drawing {
        let picture = Picture::default();
        Drawing { picture, drawn: now, lost: BTreeMap::new(), fused: now, next: Some(now) }
    }

    /// Nothing is drawn yet of another roster.
    pub(super) fn anew(&self, now: Time) -> Drawing {
        Drawing { fused: self.fused, ..Drawing::new(now) }
    }

    /// When the row of the node at `place` was last known to be true; `None`: it never could be believed.
    fn true_at(&self, place: usize) -> Option<Time> {
        let believed = self.picture.age(place).map(|age| self.drawn - age);
        believed.or_else(|| self.lost.get(&place).copied())
    }

    /// Takes over a picture that was drawn at `now`. Returns whether it says the same as the one before, but for ages.
    fn take(&mut self, drawn: Picture, now: Time) -> bool {
        let is_like = drawn.is_like(&self.picture);
        if !is_like {
            let known = (0..drawn.nodes()).filter(|place| drawn.age(*place).is_none());
            self.lost = known.filter_map(|place| Some((place, self.true_at(place)?))).collect();
        }
        (self.picture, self.drawn) = (drawn, now);
        is_like
    }
}

impl Node {
    /// What this node sees that is not plainly fine, by name.
    pub(super) fn seen(&self) -> Vec<Seen> {
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
        let believed = self.drawing.picture.age(by).is_some() && !self.records.is_cut(by);
        let row = self.records.row(by).filter(|_| believed);
        row.is_some_and(|row| row.binary_search_by_key(&about, |s| s.peer).is_err())
    }

    /// Whether others hear the peer that this node last saw alive `heard` ago: at least two observers report it, in
    /// rows that are newer than that by more than the time needed to notice a silence. For a peer that was never heard
    /// here, most observers must report it.
    pub(super) fn is_heard_elsewhere(&self, peer: usize, heard: Option<Duration>, now: Time) -> bool {
        let place = self.places[peer];
        let says = self.drawing.picture.says(place);
        let Some(heard) = heard.filter(|_| says.hear >= 2) else {
            return heard.is_none() && says.hear >= 2 && says.hear * 2 > says.votes();
        };
        let notice = self.config.proof_horizon() + self.config.heartbeat_interval;
        let since_drawn = now.since(self.drawing.drawn);
        let is_newer = |by: &usize| {
            *by != self.me
                && self.drawing.picture.age(*by).is_some_and(|age| age + since_drawn + notice < heard)
        };
        let observers = self.directory.topology().neighbours(place);
        observers.filter(|by| is_newer(by) && self.is_heard_by(place, *by)).nth(1).is_some()
    }

    /// Whether the row of the observer at `by` says that it hears the node at `about` itself.
    fn is_heard_by(&self, about: usize, by: usize) -> bool {
        let name = self.records.names()[about];
        let row = self.records.row(by).unwrap_or_default();
        match row.binary_search_by_key(&name, |seen| seen.peer) {
            Ok(at) => picture::hears(row[at].life, row[at].link),
            // It is unknown which peers a node with another roster observes.
            Err(_) => !self.records.is_cut(by) && self.differing(by, |profile| profile.roster).is_none(),
        }
    }

    /// Where this node has no evidence of its own for three times the time that makes a peer Down, the observers'
    /// majority decides: a loop that hardly ever listens counts its misses too slowly. Votes of others make no peer
    /// Healthy.
    fn follow_majority(&mut self) {
        if self.gives_nobody_up() {
            return;
        }
        let interval = self.config.heartbeat_interval;
        let long = interval * (3 * self.config.down_after);
        for peer in 0..self.sessions.len() {
            let info = self.registry.at(peer);
            let says = self.drawing.picture.says(self.places[peer]);
            let is_old = self.now.since(info.last_seen.unwrap_or(self.started)) > long;
            // Datagrams that arrive late come in a burst, the oldest first: newer evidence may be on its way.
            let arrives = self.accounts[peer].heard_of.is_some_and(|at| self.now.since(at) <= interval);
            if info.status == PeerStatus::Down
                || arrives
                || !is_old
                || says.down < 2
                || says.down * 2 <= says.votes()
            {
                continue;
            }
            let missed = info.missed_heartbeats.max(self.config.down_after);
            let info = self.registry.at_mut(peer);
            (info.status, info.missed_heartbeats) = (PeerStatus::Down, missed);
            self.beats[peer].presume(missed);
            self.refresh(peer);
        }
    }

    /// Whether the peer says in a row that can be believed that it hears this node, which does not hear it.
    pub(super) fn hears_me(&self, peer: usize) -> bool {
        let place = self.places[peer];
        let me = self.records.names()[self.records.me()];
        let row = self.records.row(place).filter(|_| self.drawing.picture.age(place).is_some());
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

    /// All rows as of `now`, as this node can believe them by the picture; of others the last that was believed.
    pub(super) fn rows(&self, picture: &Picture, now: Time) -> Vec<RowView> {
        let own = self.seen();
        let (names, me) = (self.records.names(), self.me);
        let ids: Vec<Arc<str>> = (0..names.len()).map(|place| self.id_of(place).clone()).collect();
        let row = |place: usize| match self.records.row(place) {
            _ if picture.age(place).is_none() && self.drawing.true_at(place).is_none() => &[][..],
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
            let age = picture.age(*place);
            let stale = self.drawing.true_at(*place).filter(|_| age.is_none()).map(|at| now.since(at));
            let cut = (age.or(stale)).is_some() && *place != me && self.records.is_cut(*place);
            RowView { server_id: ids[*place].clone(), age, stale, watches, sees, cut }
        };
        order.iter().map(view).collect()
    }

    /// The age of the oldest row, of those that can be believed, of those who observe the node at `place`.
    pub(super) fn oldest_row_about(&self, picture: &Picture, place: usize) -> Option<Duration> {
        self.directory.topology().neighbours(place).filter_map(|by| picture.age(by)).max()
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
            let says = self.drawing.picture.says(self.places[**peer]);
            says.hear * 2 > says.votes()
        });
        missed.len() * 2 > self.sessions.len() && heard.count() * 2 > missed.len()
    }

    /// The picture may have changed: it is drawn anew within a `share` of an interval since the last time, and at once
    /// where there are few nodes, since that costs little.
    pub(super) fn redraw_within(&mut self, share: u32) {
        let few = self.directory.len() <= FEW;
        let pause = if few { Duration::ZERO } else { self.config.heartbeat_interval / share };
        let at = (self.drawing.drawn + pause).max(self.now);
        self.drawing.next = Some(self.drawing.next.map_or(at, |before| before.min(at)));
        self.review_by(at);
    }

    /// Draws the picture anew, if it may have changed, and tells what follows.
    pub(super) fn redraw(&mut self) {
        if self.drawing.next.is_none_or(|at| self.now < at) {
            return;
        }
        self.drawing.next = None;
        let drawn = self.draw(self.now);
        // While something is wrong, rows grow old without another word.
        if !drawn.is_fine() {
            let pause = self.config.heartbeat_interval / 2;
            self.drawing.next = Some(self.now + if self.others.is_empty() { pause } else { pause * 4 });
        }
        if !self.drawing.take(drawn, self.now) {
            (0..self.sessions.len()).for_each(|peer| self.refresh(peer));
        } else {
            // Rows are as old as the evidence of one's own, or newer: that changes while they say the same.
            let missed = |peer: &usize| self.registry.at(*peer).status != PeerStatus::Healthy;
            let missed: Vec<usize> = (0..self.sessions.len()).filter(missed).collect();
            missed.into_iter().for_each(|peer| self.refresh(peer));
        }
        self.fuse();
        self.isolation_times.note_contradicted(self.misses_what_others_hear(), self.now);
        if self.isolation_times.has_begun() && !self.is_isolated() {
            self.end_isolation();
        }
        self.follow_majority();
    }

    /// What this node says of a peer; `None`: it is plainly fine.
    fn sees(&self, peer: usize) -> Option<Seen> {
        let (info, connection, account) = (self.registry.at(peer), self.pool.at(peer), &self.accounts[peer]);
        let grace = self.config.leave_grace;
        let has_left = self.leave_of(peer, self.now).is_some_and(|left| is_excused(left, grace));
        let life = match info.status {
            _ if has_left && account.left.is_some() => Life::Left,
            _ if info.last_seen.is_none() => Life::Unknown,
            status if self.has_no_vote(status) => Life::Unknown,
            _ if has_left => Life::Left,
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

    /// Whether what this node misses may be its own fault: it is isolated, or may soon be, since nothing came from anybody for
    /// longer than any peer keeps silent; or it has not listened.
    pub(super) fn has_no_vote(&self, status: PeerStatus) -> bool {
        let silence = self.config.heartbeat_interval + self.config.heartbeat_timeout;
        let hears_nobody = || self.isolation_times.quiet(self.now) > silence;
        match status {
            PeerStatus::Healthy => false,
            _ if self.isolation_times.has_begun() => true,
            PeerStatus::Suspected => !self.listens(self.now) || hears_nobody(),
            PeerStatus::Down => false,
        }
    }

    /// Whether the last heartbeats with it had no echo.
    pub(super) fn is_silent(&self, peer: usize) -> bool {
        self.pool.at(peer).attempt_count >= self.config.suspect_after
    }
}
