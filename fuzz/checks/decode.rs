//! Whatever comes in a datagram: the plain body, the frame as it is, and the frame sealed with the right key.
//!
//! The first byte of an input says which of the three the rest is. The fuzzer and the replay of its corpus share this.

use std::net::SocketAddr;
use std::time::Duration;

use lastseen::proto::messages::Message;
use lastseen::proto::{PeerConfig, Reject, ServerId, Time};

use super::fixture::{CLUSTER, Fixture, NODE, Player, Sent};

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
    let mut fixture = confirmed();
    let before = fixture.picture();
    let rejected = fixture.receive(peer_address(), &mut bytes.to_vec()).expect_err("nobody forges a seal");
    assert_eq!(fixture.picture(), before, "{rejected:?} changed something");
    assert_eq!(fixture.node.stats().rejected.iter().sum::<u64>(), 1);
    assert!(fixture.drain().is_empty() && fixture.events().is_empty());
    rejected
}

/// With the key, from the peer's address or from elsewhere: a rejected body changes nothing, and no answer to an
/// address that is not confirmed is longer than the question.
fn sealed(body: &[u8], what: u8) -> Result<(), Reject> {
    let mut fixture = confirmed();
    let from = if what == 2 { elsewhere() } else { peer_address() };
    let mut bytes = if what == 3 { fixture.hello(0, 0, body) } else { fixture.bound(0, 0, body) };
    let (len, before) = (bytes.len(), fixture.picture());
    let result = fixture.receive(from, &mut bytes);
    let elsewhere = |sent: &&Sent| sent.to != peer_address();
    let foreign: usize = fixture.drain().iter().filter(elsewhere).map(|sent| sent.bytes.len()).sum();
    assert!(foreign <= len, "{foreign} bytes out for {len} bytes in");
    if result.is_err() && what != 3 {
        assert_eq!(fixture.picture(), before, "{result:?} changed something");
    }
    for _ in 0..8 {
        fixture.now += Duration::from_secs(1);
        fixture.node.handle_timeout(fixture.now);
        assert!(fixture.node.poll_timeout().is_none_or(|next| next > fixture.now));
        fixture.drain();
        fixture.events();
    }
    result
}

/// A node with one peer, whose run is confirmed.
fn confirmed() -> Fixture {
    let peer = Player::new("peer", 0);
    let config = PeerConfig::new(NODE, CLUSTER, ([10, 0, 0, 1], 5278).into(), vec![peer.entry(true, true)]);
    let mut fixture = Fixture::new(config, vec![peer], 1, Time::from_micros(1_000_000_000));
    fixture.confirm();
    fixture
}

fn peer_address() -> SocketAddr {
    ([10, 0, 0, 2], 5278).into()
}

fn elsewhere() -> SocketAddr {
    ([192, 0, 2, 7], 999).into()
}
