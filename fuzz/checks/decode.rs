//! Whatever comes in a datagram: the plain body, the frame as it is, and the frame sealed with the right key.
//!
//! The first byte of an input says which of the three the rest is. The fuzzer and the replay of its corpus share this.

use std::net::SocketAddr;
use std::time::Duration;

use lastseen::proto::messages::{HELLO_LEN, Message};
use lastseen::proto::seal::{FrameKey, FrameKind, Header};
use lastseen::proto::{
    Instance, Keyring, Node, PeerConfig, Reject, SecretKey, ServerId, StaticPeer, Tag, Time,
};

/// What an input was, and what became of it.
#[derive(Debug)]
#[allow(dead_code, reason = "only the replay of the corpus looks inside")]
pub(super) enum Outcome {
    /// Decoded as a body.
    Body(Result<Message, Reject>),
    /// Received as it is, by a node whose key it cannot have.
    Frame(Reject),
    /// Sealed as a hello or a bound frame of the node's peer, and received.
    Sealed(Result<(), Reject>),
}

/// Runs one input; `None` if it is empty.
///
/// # Panics
/// If a promise of the core does not hold.
pub(super) fn check(input: &[u8]) -> Option<Outcome> {
    let (&what, rest) = input.split_first()?;
    Some(match what % 5 {
        0 => Outcome::Body(body(rest)),
        1 => Outcome::Frame(frame(rest)),
        what => Outcome::Sealed(sealed(rest, what)),
    })
}

/// What decodes encodes to the same bytes.
fn body(bytes: &[u8]) -> Result<Message, Reject> {
    let message = Message::decode(bytes)?;
    let mut again = Vec::new();
    message.encode(&mut again);
    assert_eq!(again, bytes, "{message:?} has two forms");
    assert_eq!(message.encoded_len(), bytes.len());
    if let Message::Hello { server_id, .. } | Message::Welcome { server_id, .. } = &message {
        assert_eq!(ServerId::check(server_id.as_str()), Ok(()));
    }
    Ok(message)
}

/// Without the key nothing changes but a counter, and nothing is answered.
fn frame(bytes: &[u8]) -> Reject {
    let mut fixture = Fixture::confirmed();
    let before = fixture.picture();
    let rejected = fixture.receive(peer_address(), &mut bytes.to_vec()).expect_err("nobody forges a seal");
    assert_eq!(fixture.picture(), before, "{rejected:?} changed something");
    assert_eq!(fixture.node.stats().rejected.iter().sum::<u64>(), 1);
    assert_eq!(fixture.drain(), []);
    rejected
}

/// With the key, from the peer's address or from elsewhere: a rejected body changes nothing, and no answer to an
/// address that is not confirmed is longer than the question.
fn sealed(body: &[u8], what: u8) -> Result<(), Reject> {
    let mut fixture = Fixture::confirmed();
    let from = if what == 2 { elsewhere() } else { peer_address() };
    let mut bytes = if what == 3 { fixture.hello(body) } else { fixture.bound(body) };
    let (len, before) = (bytes.len(), fixture.picture());
    let result = fixture.receive(from, &mut bytes);
    let foreign: usize =
        fixture.drain().iter().filter(|(to, _)| *to != peer_address()).map(|(_, len)| len).sum();
    assert!(foreign <= len, "{foreign} bytes out for {len} bytes in");
    if result.is_err() && what != 3 {
        assert_eq!(fixture.picture(), before, "{result:?} changed something");
    }
    for _ in 0..8 {
        fixture.now += Duration::from_secs(1);
        fixture.node.handle_timeout(fixture.now);
        assert!(fixture.node.poll_timeout().is_none_or(|next| next > fixture.now));
        fixture.drain();
    }
    result
}

/// A node with one peer, which the fixture plays; the peer's run is confirmed.
struct Fixture {
    node: Node,
    ring: Keyring,
    now: Time,
    number: u64,
}

const PEER: Instance = Instance(0x0102_0304_0506_0708);
const NODE: Instance = Instance(0x1112_1314_1516_1718);

fn peer_address() -> SocketAddr {
    ([10, 0, 0, 2], 5278).into()
}

fn elsewhere() -> SocketAddr {
    ([192, 0, 2, 7], 999).into()
}

impl Fixture {
    fn confirmed() -> Fixture {
        let ring = || Keyring::new("fuzz", &[SecretKey::new([7; 32])], false).expect("one key is valid");
        let peer =
            StaticPeer { server_id: Some("peer".into()), name: "peer".into(), address: Some(peer_address()) };
        let config = PeerConfig::new("node", "fuzz", ([10, 0, 0, 1], 5278).into(), vec![peer]);
        let now = Time::from_micros(1_000_000_000);
        let node = Node::new(config, ring(), NODE, 1, now).expect("the configuration is valid");
        let mut fixture = Fixture { node, ring: ring(), now, number: 0 };
        fixture.now = fixture.node.poll_timeout().expect("a starting node pings");
        fixture.node.handle_timeout(fixture.now);
        let mut hello = Vec::new();
        fixture.node.poll_transmit(&mut hello).expect("the first ping is a hello");
        let (header, len) = Header::parse(&hello).expect("its own header");
        let key = fixture.key((header.sender, header.instance), (Tag::default(), Instance(0)));
        let body = key.open_in_place(&mut hello, len, header.number).expect("its own seal");
        let Ok(Message::Hello { sequence, .. }) = Message::decode(body) else { panic!("it is a hello") };
        let server_id = ServerId::new("peer").expect("a valid id");
        let mut welcome = Vec::new();
        Message::Welcome { echo: sequence + 1, hold: 0, server_id }.encode(&mut welcome);
        let mut welcome = fixture.bound(&welcome);
        assert_eq!(fixture.receive(peer_address(), &mut welcome), Ok(()));
        fixture.drain();
        fixture
    }

    fn key(&self, sender: (Tag, Instance), addressee: (Tag, Instance)) -> FrameKey {
        self.ring.frame_key(0, sender, addressee)
    }

    fn seal(&mut self, kind: FrameKind, body: &[u8]) -> Vec<u8> {
        let sender = self.ring.tag(0, "peer");
        let addressee = match kind {
            FrameKind::Bound => (self.ring.tag(0, "node"), NODE),
            FrameKind::Hello => (Tag::default(), Instance(0)),
        };
        let header = Header { kind, key_id: self.ring.id(0), sender, instance: PEER, number: self.number };
        self.number += 1;
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes.extend_from_slice(body);
        self.key((sender, PEER), addressee).seal_in_place(&mut bytes, 0, header.len(), header.number);
        bytes
    }

    fn bound(&mut self, body: &[u8]) -> Vec<u8> {
        self.seal(FrameKind::Bound, body)
    }

    fn hello(&mut self, body: &[u8]) -> Vec<u8> {
        self.seal(FrameKind::Hello, body)
    }

    fn receive(&mut self, from: SocketAddr, bytes: &mut [u8]) -> Result<(), Reject> {
        self.node.handle_datagram(from, None, bytes, self.now, self.now)
    }

    /// All but the counters: those of the whole node, and what came from a peer's address and could not be opened.
    fn picture(&self) -> String {
        let mut snapshot = self.node.snapshot(self.now);
        for peer in &mut snapshot.peers {
            let setup = &mut peer.explanation.setup;
            (setup.foreign_keys, setup.foreign_versions) = (0, 0);
        }
        format!("{:?} {:?} {:?}", snapshot.status, snapshot.self_health, snapshot.peers)
    }

    /// What the node sends: to whom, and how long.
    fn drain(&mut self) -> Vec<(SocketAddr, usize)> {
        let (mut all, mut bytes) = (Vec::new(), Vec::new());
        while let Some(transmit) = self.node.poll_transmit(&mut bytes) {
            assert!(bytes.len() <= self.node.config().max_datagram.max(HELLO_LEN));
            assert!(Header::parse(&bytes).is_ok());
            all.push((transmit.to, bytes.len()));
        }
        while self.node.poll_event().is_some() {}
        all
    }
}
