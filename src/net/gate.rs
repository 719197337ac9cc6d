//! The gate of the receive queue. While that overflows it is shut: the kernel lets in only what may be a peer's frame.
//!
//! What it keeps out counts as dropped by the kernel too, and voids nothing. The two are told apart by how much was
//! read: a queue that overflows is full, and what it held comes out before the socket is seen empty.

use std::time::Duration;

use super::socket::Socket;
use crate::proto::{Expected, Node, PeerConfig, Time};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Gate {
    /// It opens when nothing was dropped for so long.
    calm: Duration,
    /// While it is shut it learns so often who the peers are, and where.
    renew: Duration,
    /// The socket's drop counter, as told to the core.
    drops: u32,
    /// When that was last asked for.
    asked: Time,
    /// Datagrams read since the socket was last seen empty.
    read: usize,
    /// Datagrams kept out since the last renewal: few are no flood, and keep nothing shut.
    kept: usize,
    /// When something was dropped last.
    dropped: Time,
    /// If it is shut: whom the kernel lets in.
    shut: Option<Expected>,
    /// When that was looked at last, whether or not the kernel can do it.
    told: Option<Time>,
}

/// What a look into the socket gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drained {
    /// Datagrams that were read.
    pub(super) read: usize,
    /// Whether it was seen empty then.
    pub(super) emptied: bool,
}

impl Gate {
    /// An open one.
    pub(super) fn new(config: &PeerConfig) -> Gate {
        let interval = config.heartbeat_interval;
        let calm = interval * config.down_after;
        let (asked, dropped) = (Time::ZERO, Time::ZERO);
        Gate { calm, renew: interval, drops: 0, asked, read: 0, kept: 0, dropped, shut: None, told: None }
    }

    /// Tells the kernel whom to let in, if that is new.
    fn renew(&mut self, socket: &Socket, node: &Node, now: Time) {
        let expected = node.expected();
        if self.shut.as_ref() != Some(&expected) {
            self.shut = socket.shut(&expected).then_some(expected);
        }
        (self.told, self.kept) = (Some(now), 0);
    }

    /// Whether the queue has overflowed of late, or would have.
    pub(super) fn is_crowded(&self, now: Time) -> bool {
        self.dropped > Time::ZERO && now.since(self.dropped) < self.calm
    }

    /// Tells the core what did not come out of the socket, and shuts or opens the gate.
    pub(super) fn note(&mut self, socket: &Socket, node: &mut Node, drained: Drained, now: Time) {
        self.read += drained.read;
        let is_crowded = self.read >= socket.crowd();
        // While it is open, and less came out than fills the queue, nothing was dropped for want of room; that the kernel may lack
        // memory is looked at once an interval.
        let asks = is_crowded || self.shut.is_some() || now.since(self.asked) >= self.renew;
        let drops = asks.then(|| socket.drops()).flatten();
        if asks {
            self.asked = now;
        }
        // The counter wraps.
        let new = drops.map_or(0, |drops| drops.wrapping_sub(self.drops));
        if new > 0 {
            self.drops = self.drops.wrapping_add(new);
            if self.shut.is_some() && !is_crowded {
                self.kept = self.kept.saturating_add(new as usize);
                let many = self.kept >= socket.crowd();
                node.handle_filtered(new.into(), many, now);
                if many {
                    (self.dropped, self.kept) = (now, 0);
                }
            } else {
                node.handle_drops(new.into(), now);
                self.dropped = now;
            }
        }
        if self.shut.is_some() && now.since(self.dropped) >= self.calm {
            socket.open();
            self.shut = None;
        } else if self.is_crowded(now) && self.told.is_none_or(|at| now.since(at) >= self.renew) {
            self.renew(socket, node, now);
        }
        if drained.emptied {
            self.read = 0;
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::SocketAddr;

    use super::super::socket::{BATCH, Buffers};
    use super::*;
    use crate::proto::{Keyring, SelfHealth, StaticPeer};

    const MS: Duration = Duration::from_millis(1);
    const INTERVAL: Duration = Duration::from_secs(1);
    const CALM: Duration = Duration::from_secs(5);

    /// A node, its socket, one that it knows, and one that it does not.
    struct Scene {
        gate: Gate,
        node: Node,
        socket: Socket,
        peer: Socket,
        stranger: Socket,
        now: Time,
    }

    impl Scene {
        fn new() -> Scene {
            let bind = || Socket::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
            let (socket, peer, stranger) = (bind(), bind(), bind());
            let address = Some(peer.local_addr());
            let entry = StaticPeer { server_id: Some("peer".into()), name: "peer".into(), address };
            let config = PeerConfig::new("me", "test", socket.local_addr(), vec![entry]);
            let gate = Gate::new(&config);
            let keys = Keyring::new("test", &[], true).unwrap();
            let node = Node::new(config, keys, crate::proto::Instance(1), 1, Time::ZERO).unwrap();
            Scene { gate, node, socket, peer, stranger, now: Time::ZERO }
        }

        /// What looks as if it came from a peer.
        fn frame(&self) -> [u8; 64] {
            let expected = self.node.expected();
            let mut frame = [0; 64];
            (frame[0], frame[1]) = (expected.kinds[0], expected.key_ids[0]);
            frame
        }

        /// Sends until the queue overflows.
        fn overflow(&self, from: &Socket) {
            let before = self.socket.drops();
            while self.socket.drops() == before {
                from.send_one(&self.frame(), self.socket.local_addr(), None).unwrap();
            }
        }

        /// Looks into the socket `later`. How many datagrams were in it, and what the node has counted in all: dropped, filtered.
        fn look(&mut self, later: Duration) -> (usize, u64, u64) {
            self.now += later;
            let (mut buffers, mut read) = (Buffers::new(BATCH), 0);
            while let Ok(count) = self.socket.recv(&mut buffers) {
                read += count;
            }
            self.gate.note(&self.socket, &mut self.node, Drained { read, emptied: true }, self.now);
            let stats = self.node.stats();
            (read, stats.socket_drops, stats.socket_filtered)
        }

        fn send(&self, from: &Socket) {
            from.send_one(&self.frame(), self.socket.local_addr(), None).unwrap();
        }
    }

    #[test]
    fn strangers_stay_out_of_a_queue_that_overflows() {
        let mut scene = Scene::new();
        scene.send(&scene.stranger);
        assert_eq!(scene.look(MS), (1, 0, 0));
        scene.overflow(&scene.stranger);
        assert!(!scene.gate.is_crowded(scene.now));
        let (read, dropped, filtered) = scene.look(MS);
        assert!(read >= scene.socket.crowd(), "a full queue is a crowd: {read}");
        assert_eq!((dropped, filtered), (1, 0));
        assert!(scene.gate.is_crowded(scene.now) && !scene.gate.is_crowded(scene.now + CALM), "for a while");

        for _ in 0..3 {
            scene.send(&scene.stranger);
        }
        scene.send(&scene.peer);
        assert_eq!(scene.look(MS), (1, 1, 3), "only the peer's");
        let crowd = scene.socket.crowd() as u64;
        (0..crowd).for_each(|_| scene.send(&scene.stranger));
        assert_eq!(scene.look(INTERVAL / 2), (0, 1, 3 + crowd), "though no datagram tells of it");
        assert_eq!(scene.node.snapshot(scene.now).self_health, SelfHealth::Flooded);
        // Few are no flood: they do not keep it shut.
        for second in 1..5 {
            scene.send(&scene.stranger);
            assert_eq!(scene.look(INTERVAL), (0, 1, 3 + crowd + second), "not calm yet");
        }
        scene.look(INTERVAL);
        scene.send(&scene.stranger);
        assert_eq!(scene.look(MS).0, 1, "open again");
    }

    #[test]
    fn a_queue_that_peers_fill_overflows_though_it_is_shut() {
        let mut scene = Scene::new();
        scene.overflow(&scene.stranger);
        assert_eq!(scene.look(MS).1, 1);
        scene.overflow(&scene.peer);
        let (read, dropped, filtered) = scene.look(MS);
        assert!(read >= scene.socket.crowd());
        assert_eq!((dropped, filtered), (2, 0));
    }

    #[test]
    fn a_shut_gate_learns_of_another_address() {
        let mut scene = Scene::new();
        scene.overflow(&scene.stranger);
        scene.look(MS);
        scene.node.set_address(0, scene.stranger.local_addr(), scene.now);
        scene.send(&scene.stranger);
        assert_eq!(scene.look(INTERVAL), (0, 1, 1), "that tells of the flood");
        scene.send(&scene.stranger);
        assert_eq!(scene.look(MS), (1, 1, 1));
    }
}
