//! Frames as whoever holds the cluster's key can seal them.

use super::*;
use crate::proto::messages::Message;
use crate::proto::seal::{FrameKind, Header};

pub(crate) fn body(message: &Message) -> Vec<u8> {
    let mut body = Vec::new();
    message.encode(&mut body);
    body
}

/// The body of a hello of node `from`, with this number.
pub(crate) fn hello_body(from: usize, number: u64, sequence: u64) -> Vec<u8> {
    let id = ServerId::new(&name(from)).unwrap();
    body(&Message::hello(Header::len_of(number), sequence, &id))
}

/// A hello of a run of a node.
pub(crate) fn hello(from: usize, instance: Instance, number: u64, body: &[u8]) -> Vec<u8> {
    let nobody = (Tag::default(), Instance(0));
    seal(FrameKind::Hello, (ring(&[7]).tag(0, &name(from)), instance), nobody, number, body)
}

/// A frame from a run of a node to a run of a node.
pub(crate) fn bound(from: (usize, Instance), to: (usize, Instance), number: u64, body: &[u8]) -> Vec<u8> {
    let party = |(node, instance): (usize, Instance)| (ring(&[7]).tag(0, &name(node)), instance);
    seal(FrameKind::Bound, party(from), party(to), number, body)
}

/// A frame of any kind, from and to anybody.
pub(crate) fn seal(
    kind: FrameKind,
    sender: (Tag, Instance),
    addressee: (Tag, Instance),
    number: u64,
    body: &[u8],
) -> Vec<u8> {
    let keys = ring(&[7]);
    let header = Header { kind, key_id: keys.id(0), sender: sender.0, instance: sender.1, number };
    let mut frame = Vec::new();
    header.encode(&mut frame);
    let len = frame.len();
    frame.extend_from_slice(body);
    keys.frame_key(0, sender, addressee).seal_in_place(&mut frame, 0, len, number);
    frame
}
