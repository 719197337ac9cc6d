//! What the core costs: encoding, decoding, the seal, and a whole heartbeat between two nodes and in a mesh of 64.
//!
//! `heartbeat/bare_seal_and_open` is the yardstick beside it: one AEAD seal and one open of the same bytes.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lastseen::proto::messages::{Message, More};
use lastseen::proto::records::Digest;
use lastseen::proto::seal::{FrameKey, FrameKind, Header};
use lastseen::proto::{
    Instance, Keyring, Node, PeerConfig, Reject, SecretKey, ServerId, StaticPeer, Tag, Time,
};

/// An idle pong in the third day of a run.
const HEADER: Header =
    Header { kind: FrameKind::Bound, key_id: 1, sender: Tag([1; 8]), instance: Instance(2), number: 250_000 };

fn messages() -> [(&'static str, Message); 4] {
    let (echo, hold, digest) = (250_001, 999_600, Digest::default());
    let more = More { spacing: 2, since_slot: Some(62_500), ..More::default() };
    [
        ("ping", Message::Ping { echo, hold, digest }),
        ("pong", Message::Pong { echo, hold: 40, digest }),
        ("ping_more", Message::PingMore { echo, hold, digest, more }),
        ("hello", Message::hello(HEADER.len(), 250_000, &ServerId::new("web-1.example").unwrap())),
    ]
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let mut out = Vec::with_capacity(1200);
    for (name, message) in messages() {
        group.throughput(Throughput::Bytes(message.encoded_len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                black_box(&message).encode(&mut out);
                out.len()
            });
        });
    }
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for (name, message) in messages() {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| Message::decode(black_box(&bytes)).unwrap()));
    }
}

fn ring() -> Keyring {
    Keyring::new("bench", &[SecretKey::new([7; 32])], false).unwrap()
}

fn frame_key(ring: &Keyring) -> FrameKey {
    ring.frame_key(0, (Tag([1; 8]), Instance(1)), (Tag([2; 8]), Instance(2)))
}

/// Header and body of an idle pong, not yet sealed.
fn plain() -> Vec<u8> {
    let mut frame = Vec::with_capacity(1200);
    HEADER.encode(&mut frame);
    messages()[1].1.encode(&mut frame);
    frame
}

fn seal(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    let (key, plain) = (frame_key(&ring()), plain());
    let mut sealed = plain.clone();
    key.seal_in_place(&mut sealed, 0, HEADER.len(), HEADER.number);
    group.throughput(Throughput::Bytes(sealed.len() as u64));
    let mut frame = Vec::with_capacity(1200);
    group.bench_function("seal", |b| {
        b.iter(|| {
            frame.clear();
            frame.extend_from_slice(&plain);
            key.seal_in_place(&mut frame, 0, HEADER.len(), HEADER.number);
        });
    });
    group.bench_function("open", |b| {
        b.iter(|| {
            frame.clear();
            frame.extend_from_slice(&sealed);
            key.open_in_place(&mut frame, HEADER.len(), HEADER.number).unwrap().len()
        });
    });
    let ring = ring();
    group.bench_function("derive_key", |b| b.iter(|| frame_key(black_box(&ring))));
}

/// Nodes in virtual time whose datagrams arrive at once.
struct Mesh {
    nodes: Vec<Node>,
    now: Time,
    buffer: Vec<u8>,
    datagrams: u64,
}

fn address(node: usize) -> SocketAddr {
    ([10, 0, 0, node as u8 + 1], 5278).into()
}

impl Mesh {
    /// So many nodes, in their steady state.
    fn new(count: usize) -> Mesh {
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
        let mut mesh = Mesh { nodes, now, buffer: Vec::with_capacity(1200), datagrams: 0 };
        mesh.run(Duration::from_secs(10));
        let whole = |n: &Node| n.registry().get_cluster_status(mesh.now).proven_peers == count;
        assert!(mesh.nodes.iter().all(whole), "the mesh is whole");
        mesh
    }

    /// Lets so much time pass.
    fn run(&mut self, length: Duration) {
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
        while let Some(transmit) = self.nodes[from].poll_transmit(&mut self.buffer) {
            let SocketAddr::V4(to) = transmit.to else { unreachable!("all addresses are IPv4") };
            let to = usize::from(to.ip().octets()[3]) - 1;
            self.datagrams += 1;
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

fn heartbeat(c: &mut Criterion) {
    let mut group = c.benchmark_group("heartbeat");
    let (key, plain) = (frame_key(&ring()), plain());
    group.bench_function("bare_seal_and_open", |b| {
        b.iter_batched_ref(
            || {
                let mut frame = Vec::with_capacity(1200);
                frame.extend_from_slice(&plain);
                frame
            },
            |frame| {
                key.seal_in_place(frame, 0, HEADER.len(), HEADER.number);
                key.open_in_place(frame, HEADER.len(), HEADER.number).unwrap().len()
            },
            BatchSize::SmallInput,
        );
    });
    for count in [2, 64] {
        // An interval of the mesh: one ping and one pong a pair, sealed, opened and handled, with all timers.
        let mut mesh = Mesh::new(count);
        mesh.datagrams = 0;
        mesh.run(Duration::from_secs(1));
        assert_eq!(mesh.datagrams, (count * (count - 1)) as u64, "one exchange a pair");
        group.throughput(Throughput::Elements(mesh.datagrams));
        group.bench_function(format!("interval_of_{count}_nodes"), |b| {
            b.iter(|| mesh.run(Duration::from_secs(1)));
        });
    }
}

/// What a datagram costs that is none: by the check that refuses it.
fn reject(c: &mut Criterion) {
    let mut group = c.benchmark_group("reject");
    let mut mesh = Mesh::new(2);
    // A ping of whoever leads, which the other has had.
    let (leader, genuine) = loop {
        let next = mesh.nodes.iter().filter_map(Node::poll_timeout).min().unwrap();
        mesh.now = next;
        let leader = usize::from(mesh.nodes[1].poll_timeout() == Some(next));
        mesh.nodes[leader].handle_timeout(next);
        if mesh.nodes[leader].poll_transmit(&mut mesh.buffer).is_some() {
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
    let (node, now) = (&mut mesh.nodes[1 - leader], mesh.now);
    let mut frame = Vec::with_capacity(1200);
    for (name, bytes, reason) in all {
        group.bench_function(name, |b| {
            b.iter(|| {
                frame.clear();
                frame.extend_from_slice(&bytes);
                let answer = node.handle_datagram(address(leader), None, &mut frame, now, now);
                assert_eq!(answer, Err(reason));
            });
        });
    }
}

criterion_group!(core, encode, decode, seal, heartbeat, reject);
criterion_main!(core);
