//! Another roster while the node runs: who stays keeps all that is known of it, who has gone is gone from every table.

use std::net::SocketAddr;
use std::sync::Arc;

use super::others::{Other, others};
use super::views::Paging;
use super::{Node, sorted};
use crate::proto::config::{ConfigError, PeerConfig, StaticPeer};
use crate::proto::connection::PeerConnection;
use crate::proto::directory::Directory;
use crate::proto::event::Change;
use crate::proto::peer::PeerInfo;
use crate::proto::session::Session;
use crate::proto::timer::{Time, TimerQueue};

/// So many names are told of those who came, and of those who went.
const NAMED: usize = 10;

/// The roster that comes, and from the tables before to those then.
struct Moves {
    config: PeerConfig,
    directory: Arc<Directory>,
    me: usize,
    /// Whom this node then observes: their entries, and their places.
    entries: Vec<usize>,
    observed: Vec<usize>,
    /// For each place then: where it was before.
    place_was: Vec<Option<usize>>,
    /// For each place before: where it is then.
    places: Vec<Option<usize>>,
    /// For each peer then: which it was before. For each before: which it is then.
    was: Vec<Option<usize>>,
    peers: Vec<Option<usize>>,
}

/// Where each of `count` went, by where each came from.
fn reverse(was: &[Option<usize>], count: usize) -> Vec<Option<usize>> {
    let mut now = vec![None; count];
    for (at, was) in was.iter().enumerate() {
        if let Some(was) = was {
            now[*was] = Some(at);
        }
    }
    now
}

/// What was known of each that stays; `new` makes the rest.
fn follow<T>(table: &mut Vec<T>, was: &[Option<usize>], mut new: impl FnMut(usize) -> T) {
    let mut before: Vec<Option<T>> = table.drain(..).map(Some).collect();
    let kept = |(at, was): (usize, &Option<usize>)| {
        was.and_then(|was| before[was].take()).unwrap_or_else(|| new(at))
    };
    table.extend(was.iter().enumerate().map(kept));
}

impl Node {
    /// From now on this is the roster. Entries are told apart by how the roster names them. Of those that stay all that is known
    /// stays, and nobody notices; one with another address moves as by [`set_address`](Node::set_address), one without an
    /// address keeps what it had. Who is new is met as at a start. Who is gone is in no table any more, and is not answered.
    /// `own_name`: how this roster names this node, see [`PeerConfig::own_name`]. Where the roster grows beyond a full mesh, or
    /// rings take in another node, a peer may begin to be observed, or cease to be. What waits to be sent is dropped.
    ///
    /// # Errors
    /// What is wrong with the roster; the old one stays in force.
    pub fn set_roster(
        &mut self,
        static_peers: Arc<[StaticPeer]>,
        own_name: Arc<str>,
        now: Time,
    ) -> Result<(), ConfigError> {
        let config = PeerConfig { static_peers, own_name, ..self.config.clone() };
        config.validate()?;
        let directory = Directory::new(&config, &self.ring)?;
        self.enter(config, Arc::new(directory), now);
        Ok(())
    }

    /// Takes the roster of a configuration, of which the directory was made.
    pub(crate) fn enter(&mut self, config: PeerConfig, directory: Arc<Directory>, now: Time) {
        self.advance(now);
        if self.leaving.is_some() {
            return;
        }
        self.out.clear();
        let moves = self.moves(config, directory);
        let why = self.difference(&moves);
        let own = self.records.names()[self.me];
        let roster = self.directory.hash();
        self.move_tables(moves);
        self.move_drains(own);
        self.move_watches();
        if self.directory.hash() != roster {
            // A report counts only with an echo of what was sent since: of two nodes that take each other's roster, one at most
            // counts the other.
            self.drop_proofs();
            self.remember_roster();
        }
        self.publish_profile();
        (0..self.sessions.len()).for_each(|peer| self.note_left_for_good(peer));
        self.note_witness();
        self.move_offers();
        // The owner of a row is taken to hear each peer that the row omits. The profile names another roster now, so
        // the row is sent with it.
        (self.news.changed, self.news.published) = (true, Time::ZERO);
        if let Some(why) = why {
            self.push_event(None, Change::Roster, why);
        }
        self.redraw();
        self.review_by(self.now);
        self.review();
    }

    fn moves(&self, config: PeerConfig, directory: Arc<Directory>) -> Moves {
        let me = directory.place(&config.own_name).expect("a directory holds its own node");
        let (entries, observed) = directory.observed_by(me);
        let stays = |place: usize| {
            let now = directory.place(self.directory.id(place))?;
            // Whose id was learned, and now is that of another entry, is not who it was taken for.
            let is_one = || directory.place(self.id_of(place)).is_none_or(|called| called == now);
            ((place == self.me) == (now == me) && (place == self.me || is_one())).then_some(now)
        };
        let places: Vec<Option<usize>> = (0..self.directory.len()).map(stays).collect();
        let place_was = reverse(&places, directory.len());
        let was: Vec<Option<usize>> =
            observed.iter().map(|place| place_was[*place].and_then(|was| self.peer_at(was))).collect();
        let peers = reverse(&was, self.sessions.len());
        Moves { config, directory, me, entries, observed, place_was, places, was, peers }
    }

    /// Who came and who went; `None`: it is the same roster, with other addresses perhaps.
    fn difference(&self, moves: &Moves) -> Option<String> {
        let missing = |found: &[Option<usize>], directory: &Directory| -> Vec<Arc<str>> {
            let places = found.iter().enumerate().filter(|(_, found)| found.is_none());
            let mut names: Vec<_> = places.map(|(place, _)| directory.id(place).clone()).collect();
            names.sort();
            names
        };
        let added = missing(&moves.place_was, &moves.directory);
        let removed = missing(&moves.places, &self.directory);
        let told = [list("added", &added), list("removed", &removed)];
        let told: Vec<String> = told.into_iter().flatten().collect();
        (!told.is_empty())
            .then(|| format!("the roster has {} nodes now: {}", moves.directory.len(), told.join(", ")))
    }

    fn move_tables(&mut self, moves: Moves) {
        let known: Vec<Option<Other>> = (0..moves.directory.len())
            .map(|now| moves.place_was[now].and_then(|was| self.known_of(was, now)))
            .collect();
        let told =
            |place: usize| moves.directory.entry(place).and_then(|e| moves.config.static_peers[e].address);
        let addresses: Vec<Option<SocketAddr>> = (0..moves.directory.len())
            .map(|now| told(now).or_else(|| self.resolved(moves.place_was[now]?)))
            .collect();
        self.strangers.clear();
        // They are let in again when they are needed.
        (0..self.guests.len()).rev().for_each(|guest| self.dismiss(guest));
        for gone in (0..self.sessions.len()).filter(|peer| moves.peers[*peer].is_none()) {
            self.spend(self.sessions[gone].upcoming());
        }
        let names = moves.directory.names().clone();
        self.records = self.records.moved(names, moves.me, &moves.observed, &moves.place_was, &moves.was);
        self.mass_loss.moved(moves.directory.len() - 1, |place| moves.places[place]);
        self.learned.retain(|_, place| {
            let now = moves.places[*place];
            *place = now.unwrap_or_default();
            now.is_some()
        });
        self.by_place = sorted(moves.observed.iter().copied().zip(0..).collect());
        self.others = others(moves.directory.len(), moves.me, &self.by_place, self.now);
        for other in &mut self.others {
            *other = known[other.place as usize].unwrap_or(*other);
        }
        let unresolved =
            self.others.iter().map(|other| other.place as usize).filter(|place| told(*place).is_none());
        self.addresses = unresolved.filter_map(|place| Some((place, addresses[place]?))).collect();
        self.move_peers(&moves, &known, &addresses);
        self.drawing = self.drawing.anew(self.now);
        (self.me, self.config, self.directory, self.places) =
            (moves.me, moves.config, moves.directory, moves.observed);
        (0..self.sessions.len()).for_each(|peer| self.arm(peer));
    }

    /// The tables of those who are observed. Of who was not before it is believed what its observers said.
    fn move_peers(&mut self, moves: &Moves, known: &[Option<Other>], addresses: &[Option<SocketAddr>]) {
        let entry = |peer: usize| &moves.config.static_peers[moves.entries[peer]];
        let (name, address) =
            (|peer| entry(peer).roster_name().clone(), |peer: usize| addresses[moves.observed[peer]]);
        let new: Vec<_> = moves.was.iter().map(|was| was.is_none().then(|| self.first_beat())).collect();
        let (mut beats, mut accounts): (Vec<_>, Vec<_>) = new.into_iter().map(Option::unzip).unzip();
        let (ring, spent) = (&self.ring, self.spent_numbers);
        let tags = |peer| entry(peer).server_id.as_ref().map(|id| ring.tags(id)).unwrap_or_default();
        follow(&mut self.sessions, &moves.was, |peer| Session::beginning_at(tags(peer), spent));
        follow(self.registry.peers_mut(), &moves.was, |peer| PeerInfo::new(name(peer), address(peer)));
        follow(self.pool.connections_mut(), &moves.was, |peer| {
            PeerConnection::new(name(peer), address(peer))
        });
        let made = "it was made for every peer that is new";
        follow(&mut self.beats, &moves.was, |peer| beats[peer].take().expect(made));
        follow(&mut self.accounts, &moves.was, |peer| accounts[peer].take().expect(made));
        self.timers = TimerQueue::new(moves.observed.len() + 1);
        self.out.serve(moves.observed.len());
        self.grading = self.grading.iter().filter_map(|peer| moves.peers[*peer]).collect();
        for (peer, was) in moves.was.iter().enumerate() {
            self.sessions[peer].moved(&moves.peers);
            self.accounts[peer].inquiry.moved(&moves.places);
            if was.is_none() {
                let soon = self.now + self.config.heartbeat_interval * 2;
                self.accounts[peer].paging = Paging::acquainted(soon);
                if let Some(known) = &known[moves.observed[peer]] {
                    self.presume(peer, known);
                }
            }
        }
        self.by_address =
            (0..moves.was.len()).filter_map(|p| Some((self.pool.at(p).roster_address?, p))).collect();
        for peer in 0..moves.was.len() {
            if let Some(address) = address(peer).filter(|to| self.pool.at(peer).roster_address != Some(*to)) {
                self.set_roster_address(peer, address);
            }
        }
    }
}

/// `2 added (web-8, web-9)`; nothing of nobody.
fn list(what: &str, names: &[Arc<str>]) -> Option<String> {
    let rest = if names.len() > NAMED { ", …" } else { "" };
    let first = &names[..names.len().min(NAMED)];
    (!names.is_empty()).then(|| format!("{} {what} ({}{rest})", names.len(), first.join(", ")))
}
