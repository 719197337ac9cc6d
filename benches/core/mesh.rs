//! Real nodes around each other, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use lastseen::proto::{Instance, Node, PeerConfig, Reject, StaticPeer, Time};

use crate::frames::ring;

/// Nodes in virtual time whose datagrams arrive at once.
pub(crate) struct Mesh {
    nodes: Vec<Node>,
    now: Time,
    buffer: Vec<u8>,
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
}

fn address(node: usize) -> SocketAddr {
    ([10, 0, 0, node as u8 + 1], 5278).into()
}

impl Mesh {
    /// So many nodes, in their steady state.
    pub(crate) fn new(count: usize) -> Mesh {
        let mut mesh = Mesh::just_started(count);
        mesh.run(Duration::from_secs(10));
        let whole = |n: &Node| n.registry().get_cluster_status(mesh.now).proven_peers == count;
        assert!(mesh.nodes.iter().all(whole), "the mesh is whole");
        (mesh.datagrams, mesh.bytes) = (0, 0);
        mesh
    }

    fn just_started(count: usize) -> Mesh {
        let now = Time::from_micros(1_000_000_000);
        let peer = |peer: usize| StaticPeer {
            server_id: Some(format!("node-{peer}").into()),
            name: address(peer).to_string().into(),
            address: Some(address(peer)),
        };
        let node = |own: usize| {
            let peers = (0..count).filter(|p| *p != own).map(peer).collect();
            let config = PeerConfig::new(&format!("node-{own}"), "bench", address(own), peers);
            Node::new(config, ring(), Instance(own as u64 + 1), own as u64, now).unwrap()
        };
        let nodes = (0..count).map(node).collect();
        Mesh { nodes, now, buffer: Vec::with_capacity(1200), datagrams: 0, bytes: 0 }
    }

    /// Lets so much time pass.
    pub(crate) fn run(&mut self, length: Duration) {
        let end = self.now + length;
        while let Some((at, node)) =
            self.nodes.iter().enumerate().filter_map(|(n, node)| Some((node.poll_timeout()?, n))).min()
            && at <= end
        {
            self.now = at;
            self.nodes[node].handle_timeout(at);
            self.deliver(node);
        }
        self.now = end;
    }

    /// Delivers what `from` sends, and what that leads to.
    fn deliver(&mut self, from: usize) {
        while let Some(transmit) = self.nodes[from].poll_transmit(self.now, &mut self.buffer) {
            let SocketAddr::V4(to) = transmit.to else { unreachable!("all addresses are IPv4") };
            let to = usize::from(to.ip().octets()[3]) - 1;
            self.datagrams += 1;
            self.bytes += self.buffer.len() as u64;
            self.nodes[to]
                .handle_datagram(address(from), None, &mut self.buffer, self.now, self.now)
                .unwrap();
            while self.nodes[to].poll_rtt().is_some() {}
            if to != from {
                self.deliver(to);
            }
        }
        while self.nodes[from].poll_event().is_some() {}
    }
}

/// A node, and datagrams that it refuses, by the check that does.
pub(crate) struct Refusals {
    node: Node,
    from: SocketAddr,
    now: Time,
    frame: Vec<u8>,
    pub(crate) all: [(&'static str, Vec<u8>, Reject); 6],
}

impl Refusals {
    pub(crate) fn new() -> Refusals {
        let mut mesh = Mesh::new(2);
        // A ping of whoever leads, which the other has had.
        let (leader, genuine) = loop {
            let next = mesh.nodes.iter().filter_map(Node::poll_timeout).min().unwrap();
            mesh.now = next;
            let leader = usize::from(mesh.nodes[1].poll_timeout() == Some(next));
            mesh.nodes[leader].handle_timeout(next);
            if mesh.nodes[leader].poll_transmit(next, &mut mesh.buffer).is_some() {
                let genuine = mesh.buffer.clone();
                let Mesh { nodes, buffer, .. } = &mut mesh;
                nodes[1 - leader].handle_datagram(address(leader), None, buffer, next, next).unwrap();
                break (leader, genuine);
            }
        };
        let bent = |at: usize| {
            let mut frame = genuine.clone();
            frame[at] ^= 0xFF;
            frame
        };
        let last = genuine.len() - 1;
        let all = [
            ("garbage", bent(0), Reject::Version),
            ("another_key", bent(1), Reject::KeyId),
            ("a_stranger", bent(2), Reject::Sender),
            ("a_forged_run", bent(10), Reject::Seal),
            ("a_forged_body", bent(last), Reject::Seal),
            ("a_replay", genuine.clone(), Reject::Replay),
        ];
        let node = mesh.nodes.swap_remove(1 - leader);
        Refusals { node, from: address(leader), now: mesh.now, frame: Vec::with_capacity(1200), all }
    }

    /// Receives one of them.
    pub(crate) fn refuse(&mut self, which: usize) {
        let (_, bytes, reason) = &self.all[which];
        self.frame.clear();
        self.frame.extend_from_slice(bytes);
        let answer = self.node.handle_datagram(self.from, None, &mut self.frame, self.now, self.now);
        assert_eq!(answer, Err(*reason));
    }
}
