//! What can be told of a peer's frame from outside, for a kernel that has to choose.

use std::net::SocketAddr;

use super::Node;
use crate::proto::seal::FrameKind;

/// What a frame of a peer has that a flood mostly has not. A datagram that is otherwise may still be a peer's, from an address
/// that this node has not learned yet: only a shell whose receive queue overflows should prefer these to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Where frames come from: first the addresses of those with whom they are exchanged, then of those who may ask something.
    pub sources: Vec<SocketAddr>,
    /// The first byte is one of these.
    pub kinds: [u8; 2],
    /// The second byte is one of these.
    pub key_ids: Vec<u8>,
    /// The most bytes.
    pub longest: usize,
}

impl Node {
    /// What frames of peers are like now.
    pub fn expected(&self) -> Expected {
        let peers = (0..self.sessions.len()).map(|peer| self.pool.at(peer));
        let peers = peers.flat_map(|connection| [connection.roster_address, connection.remote_address]);
        let guests = self.guests.iter().flat_map(|guest| [guest.address, self.address_of(guest.place)]);
        let mut sources: Vec<SocketAddr> = peers.chain(guests).flatten().collect();
        sources.sort_unstable();
        sources.dedup();
        let others = self.others.iter().filter_map(|other| self.address_of(other.place as usize));
        let others: Vec<SocketAddr> = others.filter(|at| sources.binary_search(at).is_err()).collect();
        sources.extend(others);
        Expected {
            sources,
            kinds: [FrameKind::Bound, FrameKind::Hello].map(FrameKind::byte),
            key_ids: self.ring.ids().collect(),
            longest: self.config.max_datagram,
        }
    }
}
