//! What the benchmarks and the guard seal, open, encode and decode.

use lastseen::proto::messages::{Message, More};
use lastseen::proto::records::Digest;
use lastseen::proto::seal::{FrameKey, FrameKind, Header};
use lastseen::proto::{Instance, Keyring, SecretKey, ServerId, Tag};

/// An idle pong in the third day of a run.
pub(crate) const HEADER: Header =
    Header { kind: FrameKind::Bound, key_id: 1, sender: Tag([1; 8]), instance: Instance(2), number: 250_000 };

pub(crate) fn messages() -> [(&'static str, Message); 5] {
    let (echo, hold, digest) = (250_001, 999_600, Digest::default());
    let more = More { spacing: 2, since_slot: Some(62_500), ..More::default() };
    let server_id = ServerId::new("web-1.example").unwrap();
    [
        ("ping", Message::Ping { echo, hold, digest }),
        ("pong", Message::Pong { echo, hold: 40, digest }),
        ("ping_more", Message::PingMore { echo, hold, digest, more }),
        ("hello", Message::hello(HEADER.len(), 250_000, &server_id)),
        ("welcome", Message::Welcome { echo, hold: 40, server_id }),
    ]
}

pub(crate) fn ring() -> Keyring {
    Keyring::new("bench", &[SecretKey::new([7; 32])], false).unwrap()
}

pub(crate) fn frame_key(ring: &Keyring) -> FrameKey {
    ring.frame_key(0, (Tag([1; 8]), Instance(1)), (Tag([2; 8]), Instance(2)))
}

/// Header and body of an idle pong, not yet sealed.
pub(crate) fn plain() -> Vec<u8> {
    let mut frame = Vec::with_capacity(1200);
    HEADER.encode(&mut frame);
    messages()[1].1.encode(&mut frame);
    frame
}

/// The yardstick of a heartbeat: one seal and one open of the bytes of a pong.
pub(crate) fn bare_seal_and_open(key: &FrameKey, plain: &[u8], frame: &mut Vec<u8>) -> usize {
    frame.clear();
    frame.extend_from_slice(plain);
    key.seal_in_place(frame, 0, HEADER.len(), HEADER.number);
    key.open_in_place(frame, HEADER.len(), HEADER.number).unwrap().len()
}
