//! The cheapest thing that could be called a failure detector, as a yardstick for what a node of `lastseen` costs:
//! every second a datagram of 20 bytes to every peer, and an answer to each that comes; no seal, no dates, no retries,
//! no HTTP. See `examples/cost.rs`.
//!
//! `bare_pinger OWN_ADDRESS PEER_ADDRESS...`

use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use lastseen::net::Clock;

const INTERVAL: Duration = Duration::from_secs(1);
const SIZE: usize = 20;
const PING: u8 = 1;
const PONG: u8 = 2;
const MISSES: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let addresses: Result<Vec<SocketAddr>, _> = std::env::args().skip(1).map(|a| a.parse()).collect();
    let addresses = addresses?;
    let (own, peers) = addresses.split_first().ok_or("bare_pinger OWN_ADDRESS PEER_ADDRESS...")?;
    let socket = UdpSocket::bind(own)?;
    let mut missed = vec![0_u32; peers.len()];
    let mut next = Clock.now();
    let mut buffer = [0; SIZE];
    loop {
        let now = Clock.now();
        if now >= next {
            next += INTERVAL;
            for (peer, missed) in peers.iter().zip(&mut missed) {
                *missed += 1;
                if *missed == MISSES + 1 {
                    println!("{peer} is down");
                }
                // A send that fails is a miss.
                let _ = socket.send_to(&[PING; SIZE], peer);
            }
            continue;
        }
        socket.set_read_timeout(Some(next.since(now)))?;
        match socket.recv_from(&mut buffer) {
            Ok((SIZE, from)) if buffer[0] == PING => drop(socket.send_to(&[PONG; SIZE], from)),
            Ok((SIZE, from)) => {
                if let Some(peer) = peers.iter().position(|peer| *peer == from) {
                    missed[peer] = 0;
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
