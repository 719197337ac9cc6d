//! A peer of a node that is only played: it holds the keys, answers well, and costs little.

use lastseen::proto::messages::{Message, More};
use lastseen::proto::seal::{FrameKey, FrameKind, Header, leads};
use lastseen::proto::{Instance, Keyring, Node, Scope, ServerId, Tag, Time};

/// Which of a pair leads, as the core has it.
fn pair_tag(id: &str) -> Tag {
    let mut tag = [0; 8];
    tag.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..8]);
    Tag(tag)
}

/// Of the node's roster and settings, as profiles tell them.
pub(crate) fn hashes(node: &Node, now: Time) -> ([u8; 4], [u8; 4]) {
    let snapshot = node.snapshot_of(Scope::Observed, now);
    let four = |hash: u64| hash.to_le_bytes()[..4].try_into().unwrap();
    (four(snapshot.roster_hash), four(snapshot.config_hash))
}

/// What is sealed between a player and one run of the node.
struct Keys {
    to_node: FrameKey,
    from_node: FrameKey,
    from_hello: FrameKey,
}

/// A peer of the node.
pub(crate) struct Player {
    pub(crate) id: ServerId,
    pub(crate) run: Instance,
    /// Whether it pings, and the node answers.
    pub(crate) leads: bool,
    /// What it echoes: one above the newest sequence that came to it, and when that was.
    pub(crate) heard: (u64, Time),
    tag: Tag,
    number: u64,
    keys: Keys,
}

impl Player {
    /// A peer of the run `node` of the node with the id `node_id`.
    pub(crate) fn new(ring: &Keyring, id: &str, run: Instance, node_id: &str, node: Instance) -> Player {
        let tag = ring.tag(0, id);
        let (its, mine) = ((tag, run), (ring.tag(0, node_id), node));
        Player {
            id: ServerId::new(id).unwrap(),
            run,
            leads: leads(pair_tag(id), pair_tag(node_id)),
            heard: (0, Time::ZERO),
            tag,
            number: 0,
            keys: Keys {
                to_node: ring.frame_key(0, its, mine),
                from_node: ring.frame_key(0, mine, its),
                from_hello: ring.frame_key(0, mine, (Tag::default(), Instance(0))),
            },
        }
    }

    /// Echo and hold.
    pub(crate) fn echo(&self, now: Time) -> (u64, u64) {
        (self.heard.0, now.since(self.heard.1).as_micros() as u64)
    }

    pub(crate) fn seal(&mut self, key_id: u8, message: &Message) -> Vec<u8> {
        let (sender, instance, number) = (self.tag, self.run, self.number);
        let header = Header { kind: FrameKind::Bound, key_id, sender, instance, number };
        self.number += 1;
        let mut frame = Vec::with_capacity(1200);
        header.encode(&mut frame);
        message.encode(&mut frame);
        self.keys.to_node.seal_in_place(&mut frame, 0, header.len(), header.number);
        frame
    }

    /// What the node sent under which number.
    pub(crate) fn open(&mut self, frame: &mut [u8], now: Time) -> (u64, Message) {
        let (header, len) = Header::parse(frame).unwrap();
        let is_hello = header.kind == FrameKind::Hello;
        let key = if is_hello { &self.keys.from_hello } else { &self.keys.from_node };
        let message = Message::decode(key.open_in_place(frame, len, header.number).unwrap()).unwrap();
        if !is_hello {
            self.heard = (header.number + 1, now);
        }
        (header.number, message)
    }

    /// What answers a message of the node's.
    pub(crate) fn answer(&self, number: u64, message: &Message) -> Option<Message> {
        let (echo, hold) = (number + 1, 0);
        Some(match message {
            Message::Hello { .. } => Message::Welcome { echo, hold, server_id: self.id.clone() },
            // What is padded is answered so.
            Message::PingMore { digest, more, .. } if !more.padding.is_empty() => {
                let more = More { padding: more.padding, ..More::default() };
                Message::PongMore { echo, hold, digest: *digest, more }
            }
            Message::Ping { digest, .. } | Message::PingMore { digest, .. } => {
                Message::Pong { echo, hold, digest: *digest }
            }
            Message::SyncRequest { bucket, after, .. } => {
                let (bucket, after, records) = (*bucket, *after, Vec::new());
                Message::SyncResponse { echo, hold, bucket, after, last: true, records }
            }
            _ => return None,
        })
    }
}
