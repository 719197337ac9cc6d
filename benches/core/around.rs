//! One real node, and peers around it that are only played: they hold the keys, answer well, and cost little. So one core can
//! be looked at whose roster has 10,000 nodes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lastseen::proto::messages::{Message, More, PathReport};
use lastseen::proto::records::{Body, Digest, Life, LinkState, NodeName, Profile, Record, Release, Seen};
use lastseen::proto::seal::WIRE;
use lastseen::proto::{Instance, Node, Observers, PeerConfig, PeerStatus, StaticPeer, Time};

use crate::frames::ring;
use crate::player::{Player, hashes};

const SECOND: Duration = Duration::from_secs(1);
const ME: &str = "node-0";
const RUN: Instance = Instance(1);
/// Records in one datagram.
const PAGE: usize = 24;

fn address(n: usize) -> SocketAddr {
    ([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 5278).into()
}

fn id(n: usize) -> String {
    format!("node-{n}")
}

fn instance(n: usize) -> Instance {
    Instance(1000 + n as u64)
}

/// Datagrams for the node, and where each comes from.
pub(crate) type Frames = Vec<(SocketAddr, Vec<u8>)>;

/// The node, and its players.
pub(crate) struct Around {
    pub(crate) node: Node,
    pub(crate) now: Time,
    nodes: usize,
    /// With their numbers in the roster.
    players: Vec<(usize, Player)>,
    by_address: BTreeMap<SocketAddr, usize>,
    key_id: u8,
    buffer: Vec<u8>,
    /// What the node last told of its records.
    digest: Digest,
    /// Of what the players tell.
    version: u64,
    /// Records that the node has told since this was last looked at.
    records: usize,
    /// Of the roster and of the settings, as profiles tell them.
    hashes: ([u8; 4], [u8; 4]),
}

impl Around {
    /// A node of a roster of `nodes` in its steady state: it knows the records of all, and owes nobody any.
    pub(crate) fn new(nodes: usize, observers: Observers) -> Around {
        let (keys, now) = (ring(), Time::from_micros(1_000_000_000));
        let entry = |n: usize| StaticPeer {
            server_id: Some(id(n).into()),
            name: id(n).into(),
            address: Some(address(n)),
        };
        let peers = (1..nodes).map(entry).collect();
        let mut config = PeerConfig::new(ME, "bench", address(0), peers);
        config.observers = observers;
        let key_id = keys.id(0);
        let node = Node::new(config, ring(), RUN, 1, now).unwrap();
        let number = |id: &str| id.strip_prefix("node-").unwrap().parse().unwrap();
        let observed = node.registry().get_all_peers().iter().map(|peer| number(&peer.server_id));
        let players: Vec<(usize, Player)> =
            observed.map(|n| (n, Player::new(&keys, &id(n), instance(n), ME, RUN))).collect();
        let by_address = players.iter().enumerate().map(|(at, (n, _))| (address(*n), at)).collect();
        let digest = Digest::default();
        let hashes = hashes(&node, now);
        let (buffer, version, records) = (Vec::with_capacity(1200), 0, 0);
        let mut all = Around {
            node,
            now,
            nodes,
            players,
            by_address,
            key_id,
            buffer,
            digest,
            version,
            records,
            hashes,
        };
        all.meet();
        all.rest();
        all
    }

    /// The node knows all players' runs, and what they tell of themselves.
    fn meet(&mut self) {
        for _ in 0..3 {
            self.run(SECOND);
        }
        for kind in [Around::row, Around::profile] {
            let told = self.told(self.nodes - 1, kind);
            self.receive(told);
        }
    }

    /// Time goes by until the node has told everybody all that is owed.
    pub(crate) fn rest(&mut self) {
        for _ in 0..240 {
            self.records = 0;
            self.run(SECOND);
            if self.records == 0 && self.is_whole() {
                return;
            }
        }
        panic!("the node does not come to rest: {:?}", self.node.stats());
    }

    fn is_whole(&self) -> bool {
        let healthy = self.node.registry().get_all_peers().iter().filter(|peer| {
            peer.status == PeerStatus::Healthy
                && self.now.since(peer.last_seen.unwrap_or(Time::ZERO)) < SECOND * 2
        });
        healthy.count() == self.players.len()
    }

    /// Lets so much time pass: first the players that lead ping, then the node does, whenever it is time.
    pub(crate) fn run(&mut self, length: Duration) {
        let pings = self.pings();
        self.receive(pings);
        self.wait(length);
    }

    /// Lets time pass in which no player pings; what the node asks is answered.
    fn wait(&mut self, length: Duration) {
        let end = self.now + length;
        while let Some(at) = self.node.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.node.handle_timeout(at);
            self.drain();
        }
        self.now = end;
    }

    /// One ping each of those that lead, for a second whose begin is now.
    pub(crate) fn pings(&mut self) -> Frames {
        let (now, digest, key_id) = (self.now, self.digest, self.key_id);
        let ping = |(n, player): &mut (usize, Player)| {
            let (echo, hold) = player.echo(now);
            (address(*n), player.seal(key_id, &Message::Ping { echo, hold, digest }))
        };
        self.players.iter_mut().filter(|(_, player)| player.leads && player.heard.0 > 0).map(ping).collect()
    }

    /// What all tell anew of the first `owners` of them, in as many datagrams as that takes, by one player after the other.
    pub(crate) fn told(&mut self, owners: usize, of: fn(&Around, usize) -> Body) -> Frames {
        self.version += 1;
        let record =
            |n: usize| Record { owner: NodeName::of(&id(n)), version: self.version, body: of(self, n) };
        let records: Vec<Record> = (1..=owners).map(record).collect();
        let pages = records.chunks(PAGE).enumerate();
        pages
            .map(|(turn, page)| self.tells(turn, More { records: page.to_vec(), ..More::default() }))
            .collect()
    }

    /// What a player tells beside the heartbeats.
    fn tells(&mut self, turn: usize, more: More) -> (SocketAddr, Vec<u8>) {
        let at = turn % self.players.len();
        let (n, player) = &mut self.players[at];
        let (echo, hold) = player.echo(self.now);
        let message = Message::PongMore { echo, hold, digest: self.digest, more };
        (address(*n), player.seal(self.key_id, &message))
    }

    /// All is fine.
    pub(crate) fn row(&self, _: usize) -> Body {
        Body::Row(Vec::new())
    }

    /// Two links lose datagrams.
    pub(crate) fn bad_row(&self, n: usize) -> Body {
        let seen = |peer: usize| Seen {
            peer: NodeName::of(&id(peer % self.nodes)),
            life: Life::Healthy,
            link: LinkState::Lossy,
        };
        let mut both = vec![seen(n + 1), seen(n + 2)];
        both.sort_by_key(|seen| seen.peer);
        Body::Row(both)
    }

    /// Another release with every version.
    pub(crate) fn profile(&self, n: usize) -> Body {
        let (roster, config) = self.hashes;
        let (instance, release) = (instance(n), Release([0, 1, self.version as u8]));
        Body::Profile(Profile {
            instance,
            roster,
            config,
            release,
            wire: WIRE,
            id: None,
            away: None,
            standing: lastseen::proto::Standing::Witness,
        })
    }

    /// The first player says whether its path is narrow: a verdict changes, and is told.
    pub(crate) fn narrow(&mut self, narrow: bool) -> (SocketAddr, Vec<u8>) {
        let path = if narrow { PathReport::Narrow } else { PathReport::Untold };
        self.tells(0, More { path, ..More::default() })
    }

    /// The node gets these now; what it sends is answered.
    pub(crate) fn receive(&mut self, frames: Frames) {
        for (from, mut frame) in frames {
            self.node.handle_datagram(from, None, &mut frame, self.now, self.now).unwrap();
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.node.poll_transmit(self.now, &mut self.buffer) {
            let (_, player) = &mut self.players[self.by_address[&transmit.to]];
            let (number, message) = player.open(&mut self.buffer, self.now);
            self.records += message.records().len();
            self.digest = message.digest().unwrap_or(self.digest);
            if let Some(answer) = player.answer(number, &message) {
                let mut frame = player.seal(self.key_id, &answer);
                self.node.handle_datagram(transmit.to, None, &mut frame, self.now, self.now).unwrap();
            }
        }
        while self.node.poll_rtt().is_some() {}
        while self.node.poll_event().is_some() {}
    }

    /// One heartbeat: a ping that comes, and the pong that goes, which takes its place.
    pub(crate) fn heartbeat(&mut self, (from, frame): &mut (SocketAddr, Vec<u8>)) {
        self.node.handle_datagram(*from, None, frame, self.now, self.now).unwrap();
        self.node.poll_transmit(self.now, frame).unwrap();
        self.node.poll_rtt();
    }

    /// The pongs come, and a second goes by.
    pub(crate) fn after(&mut self, pongs: Frames) {
        for (to, mut pong) in pongs {
            let at = self.by_address[&to];
            self.players[at].1.open(&mut pong, self.now);
        }
        self.wait(SECOND);
    }

    /// The node takes what was told, and is asked for nothing.
    pub(crate) fn merge(&mut self, told: &mut Frames) {
        for (from, frame) in told {
            self.node.handle_datagram(*from, None, frame, self.now, self.now).unwrap();
        }
    }

    /// A second goes by, and somebody has something else to say of two links.
    pub(crate) fn change_a_row(&mut self) {
        self.run(SECOND);
        let is_bad = self.version.is_multiple_of(2);
        let mut told = self.told(1, if is_bad { Around::bad_row } else { Around::row });
        self.merge(&mut told);
    }

    /// Time is judged at a moment when nothing is due but the picture.
    pub(crate) fn draw(&mut self) {
        self.node.handle_timeout(self.now);
    }

    /// What one peer tells changes its verdict, which is an event.
    pub(crate) fn changed_verdict(&mut self, (from, frame): &mut (SocketAddr, Vec<u8>)) {
        self.node.handle_datagram(*from, None, frame, self.now, self.now).unwrap();
        assert!(self.node.poll_event().is_some(), "the verdict changed");
    }
}
