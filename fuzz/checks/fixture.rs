//! A node, and the peers around it, which the checks play: they hold the keys, and can say anything.
#![allow(dead_code, reason = "each of the checks that share it uses a part")]

use std::net::SocketAddr;

use lastseen::proto::messages::{HELLO_LEN, Message, More};
use lastseen::proto::records::Digest;
use lastseen::proto::seal::{FrameKey, FrameKind, Header};
use lastseen::proto::{
    Event, Instance, Keyring, Node, PeerConfig, Reject, Scope, SecretKey, ServerId, Snapshot, StaticPeer,
    Tag, Time,
};

pub(crate) const CLUSTER: &str = "fuzz";
pub(crate) const NODE: &str = "node";

/// A peer of the node.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) id: &'static str,
    pub(crate) address: SocketAddr,
    /// Its present run, and the numbers that this uses next.
    pub(crate) instance: Instance,
    pub(crate) number: u64,
    pub(crate) hello_number: u64,
    /// The newest sequence of the node's that came to it.
    pub(crate) heard: Option<u64>,
}

impl Player {
    pub(crate) fn new(id: &'static str, place: u8) -> Player {
        Player {
            id,
            address: ([10, 0, 0, 2 + place], 5278).into(),
            instance: Instance(0x0102_0304_0506_0708 + u64::from(place)),
            number: 0,
            hello_number: 0,
            heard: None,
        }
    }

    /// Its entry of the roster.
    pub(crate) fn entry(&self, named: bool, resolved: bool) -> StaticPeer {
        StaticPeer {
            server_id: named.then(|| self.id.into()),
            name: self.address.to_string().into(),
            address: resolved.then_some(self.address),
        }
    }
}

/// One datagram of the node's, opened.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    pub(crate) header: Header,
    /// The index of its key.
    pub(crate) key: usize,
    /// To which run of which player; `None`: a hello.
    pub(crate) addressee: Option<(usize, Instance)>,
    pub(crate) message: Message,
}

/// The node, its players, and the time.
pub(crate) struct Fixture {
    pub(crate) node: Node,
    /// All keys that there are.
    pub(crate) ring: Keyring,
    pub(crate) now: Time,
    pub(crate) players: Vec<Player>,
    /// Runs that any player had.
    runs: Vec<(usize, Instance)>,
    /// Runs that the node had: a recorded hello of one is answered.
    own_runs: Vec<Instance>,
}

/// The keys whose bits are set in `which`, the first four secret ones, the last that of the cluster's name.
pub(crate) fn keyring(which: u8) -> Keyring {
    let keys: Vec<SecretKey> =
        (0..4).filter(|k| which >> k & 1 == 1).map(|k| SecretKey::new([7 + k; 32])).collect();
    Keyring::new(CLUSTER, &keys, which >> 4 & 1 == 1).expect("their ids differ")
}

impl Fixture {
    /// A node with this configuration, which names the players, and with the keys of `which`.
    pub(crate) fn new(config: PeerConfig, players: Vec<Player>, which: u8, now: Time) -> Fixture {
        let run = Instance(0x1112_1314_1516_1718);
        let node = Node::new(config, keyring(which), run, 1, now).expect("the configuration is valid");
        let runs = players.iter().map(|player| player.instance).enumerate().collect();
        Fixture { node, ring: keyring(0x1F), now, players, runs, own_runs: vec![run] }
    }

    /// The node takes a new instance.
    pub(crate) fn renew(&mut self, instance: Instance) {
        self.node.renew(instance, self.now);
        self.own_runs.push(instance);
    }

    /// A player starts anew; what it sent and heard is forgotten, unless it only returns to a run that it had.
    pub(crate) fn restart(&mut self, player: usize, instance: Instance) {
        let known = Player { instance, ..Player::new(self.players[player].id, player as u8) };
        self.players[player] = Player { address: self.players[player].address, ..known };
        if !self.runs.contains(&(player, instance)) {
            self.runs.push((player, instance));
        }
    }

    pub(crate) fn tag(&self, key: usize, player: usize) -> Tag {
        self.ring.tag(key, self.players[player].id)
    }

    /// What seals, between a run of a player and the present one of the node.
    fn key(&self, header: &Header, key: usize, addressee: Option<(Tag, Instance)>) -> FrameKey {
        let nobody = (Tag::default(), Instance(0));
        self.ring.frame_key(key, (header.sender, header.instance), addressee.unwrap_or(nobody))
    }

    /// A frame of a player's present run, under any key and number.
    pub(crate) fn seal(
        &self,
        player: usize,
        key: usize,
        kind: FrameKind,
        number: u64,
        body: &[u8],
    ) -> Vec<u8> {
        let (sender, instance) = (self.tag(key, player), self.players[player].instance);
        let header = Header { kind, key_id: self.ring.id(key), sender, instance, number };
        let me = (self.ring.tag(key, NODE), self.node.instance());
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes.extend_from_slice(body);
        let key = self.key(&header, key, (kind == FrameKind::Bound).then_some(me));
        key.seal_in_place(&mut bytes, 0, header.len(), number);
        bytes
    }

    pub(crate) fn bound(&mut self, player: usize, key: usize, body: &[u8]) -> Vec<u8> {
        let number = self.players[player].number;
        self.players[player].number += 1;
        self.seal(player, key, FrameKind::Bound, number, body)
    }

    pub(crate) fn hello(&mut self, player: usize, key: usize, body: &[u8]) -> Vec<u8> {
        let number = self.players[player].hello_number;
        self.players[player].hello_number += 1;
        self.seal(player, key, FrameKind::Hello, number, body)
    }

    pub(crate) fn receive(&mut self, from: SocketAddr, bytes: &mut [u8]) -> Result<(), Reject> {
        self.node.handle_datagram(from, None, bytes, self.now, self.now)
    }

    /// A message of a player's, under the next number, from where it is.
    pub(crate) fn say(&mut self, player: usize, key: usize, message: &Message) -> Result<(), Reject> {
        let mut body = Vec::new();
        message.encode(&mut body);
        let mut bytes = self.bound(player, key, &body);
        self.receive(self.players[player].address, &mut bytes)
    }

    /// What the node sends. All of it can be opened by a player, but for what goes to a run that only a profile told of: that
    /// is believed of nodes that this one does not observe.
    pub(crate) fn drain(&mut self) -> Vec<Sent> {
        let (mut all, mut bytes) = (Vec::new(), Vec::new());
        while let Some(transmit) = self.node.poll_transmit(self.now, &mut bytes) {
            assert!(bytes.len() <= self.node.config().max_datagram.max(HELLO_LEN));
            let sent = self.open(transmit.to, &bytes);
            let (observed, config) = (self.node.registry().get_all_peers().len(), self.node.config());
            let known = sent.is_some() || observed < config.static_peers.len() || self.is_to_own_run(&bytes);
            assert!(known, "nobody can open {bytes:?}");
            all.extend(sent);
        }
        // Of the largest roster that there was: every player, and three that nobody is.
        let most = 4 * (self.players.len() + 3) + 64;
        assert!(all.len() <= most, "{} datagrams waited, {most} may", all.len());
        all
    }

    /// Whether it answers a hello of a run that the node itself had.
    fn is_to_own_run(&self, bytes: &[u8]) -> bool {
        let (header, len) = Header::parse(bytes).expect("its own header");
        let key = self.ring.index_of_id(header.key_id).expect("its own key");
        self.own_runs.iter().any(|run| {
            let sealed = self.key(&header, key, Some((header.sender, *run)));
            let mut copy = bytes.to_vec();
            let body = sealed.open_in_place(&mut copy, len, header.number);
            body.is_ok_and(|body| matches!(Message::decode(body), Ok(Message::Welcome { .. })))
        })
    }

    fn open(&mut self, to: SocketAddr, bytes: &[u8]) -> Option<Sent> {
        let (header, len) = Header::parse(bytes).expect("its own header");
        let key = self.ring.index_of_id(header.key_id).expect("its own key");
        assert_eq!(header.sender, self.ring.tag(key, NODE));
        let addressees: Vec<_> = match header.kind {
            FrameKind::Hello => vec![None],
            FrameKind::Bound => self.runs.iter().rev().copied().map(Some).collect(),
        };
        let opened = addressees.into_iter().find_map(|addressee| {
            let tagged = addressee.map(|(player, instance)| (self.tag(key, player), instance));
            let mut copy = bytes.to_vec();
            let body = self.key(&header, key, tagged).open_in_place(&mut copy, len, header.number).ok()?;
            Some((addressee, Message::decode(body).expect("its own message")))
        });
        let (addressee, message) = opened?;
        if let Some((player, _)) = addressee {
            let heard = &mut self.players[player].heard;
            *heard = (*heard).max(Some(header.number));
        }
        Some(Sent { to, bytes: bytes.to_vec(), header, key, addressee, message })
    }

    /// What a player that is well answers.
    pub(crate) fn answer(&self, player: usize, sent: &Sent) -> Option<Message> {
        let (echo, hold) = (sent.header.number + 1, 0);
        Some(match sent.message {
            Message::Hello { .. } => {
                let server_id = ServerId::new(self.players[player].id).expect("a valid id");
                Message::Welcome { echo, hold, server_id }
            }
            Message::PingMore { digest, ref more, .. } if !more.padding.is_empty() => Message::PongMore {
                echo,
                hold,
                digest,
                more: More { padding: more.padding, ..More::default() },
            },
            Message::Ping { digest, .. } | Message::PingMore { digest, .. } => {
                Message::Pong { echo, hold, digest }
            }
            Message::RelayPing { origin, request, .. } => Message::RelayPong { echo, hold, origin, request },
            Message::RelayRequest { target, .. } => {
                Message::RelayReply { echo, hold, target, request: sent.header.number, alive: true }
            }
            Message::SyncRequest { bucket, after, .. } => {
                Message::SyncResponse { echo, hold, bucket, after, last: true, records: Vec::new() }
            }
            _ => return None,
        })
    }

    /// A timeout is handled: the next one is none, or later than any time that was told.
    pub(crate) fn time_out(&mut self, at: Time) {
        self.now = self.now.max(at);
        self.node.handle_timeout(at);
        let next = self.node.poll_timeout();
        let due = at >= self.now && next.is_some_and(|next| next <= self.now);
        assert!(!due, "{next:?} is still due at {:?}", self.now);
    }

    /// A pong of a player's that tells nothing, and echoes what it heard last.
    pub(crate) fn heard(&self, player: usize) -> Message {
        let echo = self.players[player].heard.map_or(0, |sequence| sequence + 1);
        Message::PongMore { echo, hold: 0, digest: Digest::default(), more: More::default() }
    }

    /// To the next deadline; the players whose bits are set in `well` answer what comes to them. What was sent.
    pub(crate) fn beat(&mut self, well: u8) -> Vec<Sent> {
        self.now = self.now.max(self.node.poll_timeout().unwrap_or(self.now));
        self.time_out(self.now);
        let sent = self.drain();
        for one in &sent {
            let at = |player: &Player| player.address == one.to;
            let player = one.addressee.map(|(player, _)| player).or_else(|| self.players.iter().position(at));
            let Some(player) = player.filter(|player| well >> player & 1 == 1) else { continue };
            if let Some(message) = self.answer(player, one) {
                // It may be no answer to the present run, which is then another.
                let _ = self.say(player, one.key, &message);
            }
        }
        sent
    }

    /// Beats until every player's run is confirmed that the node observes.
    pub(crate) fn confirm(&mut self) {
        for _ in 0..64 {
            if self.confirmed().all(|confirmed| confirmed) {
                break;
            }
            self.beat(0xFF);
        }
        assert!(self.confirmed().all(|confirmed| confirmed));
        self.drain();
        while self.node.poll_event().is_some() {}
    }

    fn confirmed(&self) -> impl Iterator<Item = bool> {
        let peers = self.node.snapshot_of(Scope::Observed, self.now).peers;
        peers.into_iter().filter(|peer| peer.observed).map(|peer| peer.instance.is_some())
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.node.snapshot(self.now)
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.node.poll_event()).collect()
    }

    /// All but the counters: those of the whole node, and what came from a peer's address and could not be opened.
    pub(crate) fn picture(&self) -> String {
        let mut snapshot = self.snapshot();
        for peer in &mut snapshot.peers {
            let setup = &mut peer.explanation.setup;
            (setup.foreign_keys, setup.foreign_versions) = (0, 0);
        }
        format!("{:?} {:?} {:?}", snapshot.status, snapshot.self_health, snapshot.peers)
    }
}

/// The name of a message in what the replays of the corpora expect.
pub(crate) fn kind(message: &Message) -> &'static str {
    match message {
        Message::Hello { .. } => "hello",
        Message::Welcome { .. } => "welcome",
        Message::Ping { .. } => "ping",
        Message::Pong { .. } => "pong",
        Message::PingMore { .. } => "ping, more",
        Message::PongMore { .. } => "pong, more",
        Message::Leave { .. } => "leave",
        Message::RelayRequest { .. } => "relay request",
        Message::RelayPing { .. } => "relay ping",
        Message::RelayPong { .. } => "relay pong",
        Message::RelayReply { .. } => "relay reply",
        Message::SyncRequest { .. } => "sync request",
        Message::SyncResponse { .. } => "sync response",
        Message::SilenceRequest { .. } => "silence request",
        Message::SilenceReply { .. } => "silence reply",
    }
}
