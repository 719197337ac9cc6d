//! The cheapest thing that could be called a failure detector, as a yardstick for what a node of `lastseen` costs:
//! every second a datagram of 20 bytes to every peer, and an answer to each that comes; no seal, no dates, no retries,
//! no HTTP. See `examples/cost.rs`.
//!
//! `bare_pinger burst|spread OWN_ADDRESS PEER_ADDRESS...`: all pings at one moment, or spread over the second.

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
    const USAGE: &str = "bare_pinger burst|spread OWN_ADDRESS PEER_ADDRESS...";
    let mut args = std::env::args().skip(1);
    let spread = match args.next().as_deref() {
        Some("burst") => false,
        Some("spread") => true,
        _ => return Err(USAGE.into()),
    };
    let addresses: Result<Vec<SocketAddr>, _> = args.map(|a| a.parse()).collect();
    let addresses = addresses?;
    let Some((own, peers @ [_, ..])) = addresses.split_first() else { return Err(USAGE.into()) };
    let step = if spread { INTERVAL / peers.len() as u32 } else { Duration::ZERO };
    let socket = UdpSocket::bind(own)?;
    let mut missed = vec![0_u32; peers.len()];
    let mut round = Clock.now();
    let mut turn = 0;
    let mut buffer = [0; SIZE];
    loop {
        let now = Clock.now();
        let next = round + step * turn as u32;
        if now >= next {
            missed[turn] += 1;
            if missed[turn] == MISSES + 1 {
                println!("{} is down", peers[turn]);
            }
            // A send that fails is a miss.
            let _ = socket.send_to(&[PING; SIZE], peers[turn]);
            turn += 1;
            if turn == peers.len() {
                turn = 0;
                round += INTERVAL;
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
