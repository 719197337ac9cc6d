//! The cheapest thing that could be called a failure detector: every second a datagram of 20 bytes to every peer, and an
//! answer to each that comes; no seal, no dates, no retries, no HTTP.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::{Agent, INTERVAL, address, tell};
use crate::Failure;

const SIZE: usize = 20;
const PING: u8 = 1;
const PONG: u8 = 2;
const MISSES: u32 = 3;

struct Peer {
    address: SocketAddr,
    missed: u32,
    is_up: bool,
}

pub(super) fn run(agent: &Agent, spread: bool) -> Result<(), Failure> {
    let peer = |node| Peer { address: address(node), missed: 0, is_up: false };
    let mut peers: Vec<Peer> = agent.others().map(peer).collect();
    let step = if spread { INTERVAL / peers.len() as u32 } else { Duration::ZERO };
    let socket = UdpSocket::bind(agent.address())?;
    let mut round = Instant::now();
    let mut turn = 0;
    let mut buffer = [0; SIZE];
    loop {
        let now = Instant::now();
        let next = round + step * turn as u32;
        if now >= next {
            let peer = &mut peers[turn];
            peer.missed += 1;
            if peer.is_up && peer.missed > MISSES {
                peer.is_up = false;
                tell(peer.address, false);
            }
            // A send that fails is a miss.
            let _ = socket.send_to(&[PING; SIZE], peer.address);
            turn += 1;
            if turn == peers.len() {
                turn = 0;
                round += INTERVAL;
            }
            continue;
        }
        socket.set_read_timeout(Some(next - now))?;
        match socket.recv_from(&mut buffer) {
            Ok((SIZE, from)) if buffer[0] == PING => drop(socket.send_to(&[PONG; SIZE], from)),
            Ok((SIZE, from)) => {
                if let Some(peer) = peers.iter_mut().find(|peer| peer.address == from) {
                    peer.missed = 0;
                    if !peer.is_up {
                        peer.is_up = true;
                        tell(from, true);
                    }
                }
            }
            Ok(_) => {}
            // Nothing came, or an earlier datagram met a closed port.
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}
