//! foca: one thread, one socket, its timers in a heap; no runtime.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::time::{Duration, Instant, SystemTime};

use foca::{Config, Foca, Identity, NoCustomBroadcast, Notification, PostcardCodec, Runtime, Timer};
use rand::rngs::StdRng;

use super::{Agent, INTERVAL, tell};
use crate::Failure;

/// As in foca's own example: a run, or a rejoining, has a greater `bump` than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Id {
    addr: SocketAddr,
    bump: u64,
}

impl Identity for Id {
    type Addr = SocketAddr;
    fn renew(&self) -> Option<Id> {
        Some(Id { bump: self.bump + 1, ..*self })
    }
    fn addr(&self) -> SocketAddr {
        self.addr
    }
    fn win_addr_conflict(&self, other: &Id) -> bool {
        self.bump > other.bump
    }
}

/// What foca asks for goes to the socket, to the heap and to standard output.
struct Outside {
    socket: UdpSocket,
    timers: BinaryHeap<Reverse<(Instant, Timer<Id>)>>,
}

impl Runtime<Id> for &mut Outside {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        match notification {
            Notification::MemberUp(id) => tell(id.addr, true),
            Notification::MemberDown(id) => tell(id.addr, false),
            _ => {}
        }
    }
    fn send_to(&mut self, to: Id, data: &[u8]) {
        // It counts on loss.
        let _ = self.socket.send_to(data, to.addr);
    }
    fn submit_after(&mut self, timer: Timer<Id>, after: Duration) {
        self.timers.push(Reverse((Instant::now() + after, timer)));
    }
}

type Node = Foca<Id, PostcardCodec, StdRng, NoCustomBroadcast>;

pub(super) fn run(agent: &Agent) -> Result<(), Failure> {
    let config = Config::new_lan(NonZeroU32::new(agent.nodes.into()).ok_or("no nodes")?);
    let mut buffer = vec![0; config.max_packet_size.get()];
    let bump = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut foca: Node =
        Foca::new(Id { addr: agent.address(), bump }, config, rand::make_rng(), PostcardCodec);
    let mut outside = Outside { socket: UdpSocket::bind(agent.address())?, timers: BinaryHeap::new() };
    let mut announce = Instant::now();
    loop {
        let now = Instant::now();
        // An error changes nothing: "foca is pretty tolerant", says its example.
        if let Some(Reverse((due, _))) = outside.timers.peek()
            && *due <= now
        {
            let Reverse((_, timer)) = outside.timers.pop().expect("it was looked at");
            let _ = foca.handle_timer(timer, &mut outside);
            continue;
        }
        let is_alone = foca.num_members() == 0;
        if is_alone && announce <= now {
            announce = now + INTERVAL;
            for addr in agent.seeds() {
                let _ = foca.announce(Id { addr, bump: 0 }, &mut outside);
            }
        }
        let due = outside.timers.peek().map(|Reverse((due, _))| *due);
        let next = due.into_iter().chain(is_alone.then_some(announce)).min();
        outside.socket.set_read_timeout(next.map(|next| next - now))?;
        match outside.socket.recv(&mut buffer) {
            Ok(len) => drop(foca.handle_data(&buffer[..len], &mut outside)),
            // Nothing came, or an earlier datagram met a closed port.
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}
