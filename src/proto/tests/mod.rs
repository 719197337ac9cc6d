//! Cores on a hand clock: a few nodes joined by a rule that says what becomes of each datagram.

mod captured;
pub(crate) mod counting;
mod dates;
mod detector;
mod drain;
mod explain;
mod face;
mod forge;
mod guests;
mod hellos;
mod keys;
#[cfg(feature = "sim")]
mod model;
mod numbers;
mod order;
mod padding;
mod refused;
mod relays;
mod rosters;
mod stalls;
mod wire;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::*;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// One way, where nothing else is said.
pub(crate) const PATH: Duration = Duration::from_micros(200);

/// The keys of these bytes.
pub(crate) fn ring(keys: &[u8]) -> Keyring {
    let keys: Vec<_> = keys.iter().map(|k| SecretKey::new([*k; 32])).collect();
    Keyring::new("test", &keys, false).unwrap()
}

/// A cluster in its steady state.
pub(crate) fn whole(nodes: usize, seed: u64) -> Cluster {
    let mut cluster = Cluster::new(nodes, seed);
    cluster.run_until(3 * SECOND, Cluster::is_whole);
    cluster.run(5 * SECOND);
    cluster.take_changes();
    cluster
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    After(Duration),
    /// It comes twice.
    Twice(Duration, Duration),
    Lost,
    /// The host refuses: the sender's socket hears of it.
    Refused,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) bytes: Vec<u8>,
}

/// What arrives.
enum Arrival {
    Datagram(Packet),
    Refusal(Packet),
}

type Rule = Box<dyn FnMut(&Packet, Time) -> Fate>;

/// A few nodes on one clock.
pub(crate) struct Cluster {
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) events: Vec<(usize, Event)>,
    /// Datagrams sent, by node.
    pub(crate) sent: Vec<usize>,
    /// Bytes sent to addresses where no node is.
    pub(crate) astray: BTreeMap<SocketAddr, usize>,
    pub(crate) rule: Rule,
    /// By how many parts in a million each node's clock is fast.
    pub(crate) drift: Vec<i64>,
    /// Every loop rests after each turn as long as it may; only an error ends a rest.
    pub(crate) lazy: bool,
    /// Nodes that are no longer at their roster address.
    pub(crate) moved: BTreeMap<usize, SocketAddr>,
    /// Nodes that stand still for so long when they have sealed their next datagrams, before these leave.
    pub(crate) paused: BTreeMap<usize, Duration>,
    /// Nodes whose loop does not run until then.
    asleep: BTreeMap<usize, Time>,
    /// Datagrams that wait in the socket of a sleeping node, with the time the kernel received them.
    queued: Vec<(usize, Time, Arrival)>,
    air: BTreeMap<(Time, u64), Arrival>,
    number: u64,
    instances: u64,
    seed: u64,
    change: fn(&mut PeerConfig),
}

pub(crate) fn address(node: usize) -> SocketAddr {
    ([10, 0, 0, node as u8 + 1], 5278).into()
}

pub(crate) fn name(node: usize) -> String {
    format!("node-{node}")
}

impl Cluster {
    pub(crate) fn new(nodes: usize, seed: u64) -> Cluster {
        Cluster::with(nodes, seed, |_| ())
    }

    /// All nodes start at once; `change` is made to every configuration.
    pub(crate) fn with(nodes: usize, seed: u64, change: fn(&mut PeerConfig)) -> Cluster {
        let mut cluster = Cluster {
            now: Time::from_micros(1_000_000_000),
            nodes: (0..nodes).map(|_| None).collect(),
            events: Vec::new(),
            sent: vec![0; nodes],
            astray: BTreeMap::new(),
            rule: Box::new(|_, _| Fate::After(Duration::from_micros(200))),
            drift: vec![0; nodes],
            lazy: false,
            moved: BTreeMap::new(),
            paused: BTreeMap::new(),
            asleep: BTreeMap::new(),
            queued: Vec::new(),
            air: BTreeMap::new(),
            number: 0,
            instances: seed << 20,
            seed,
            change,
        };
        for node in 0..nodes {
            cluster.start(node);
        }
        cluster
    }

    /// (Re)starts a node: a new instance.
    pub(crate) fn start(&mut self, node: usize) {
        let count = self.nodes.len();
        let peers = (0..count)
            .filter(|peer| *peer != node)
            .map(|peer| StaticPeer {
                server_id: Some(name(peer).into()),
                name: address(peer).to_string().into(),
                address: Some(address(peer)),
            })
            .collect();
        let mut config = PeerConfig::new(&name(node), "test", address(node), peers);
        (self.change)(&mut config);
        self.instances += 1;
        let keys = ring(&[7]);
        let instance = Instance(self.instances);
        let seed = self.seed.wrapping_mul(1000).wrapping_add(self.instances);
        let now = self.local(node, self.now);
        self.nodes[node] = Some(Node::new(config, keys, instance, seed, now).unwrap());
    }

    /// What the node's clock shows at `at`.
    pub(crate) fn local(&self, node: usize, at: Time) -> Time {
        let elapsed = at.as_micros() as i64;
        Time::from_micros((elapsed + elapsed * self.drift[node] / 1_000_000) as u64)
    }

    /// When the node's clock shows `local`, or a moment later.
    fn global(&self, node: usize, local: Time) -> Time {
        let shown = local.as_micros() as i64;
        let at = |micros: i64| Time::from_micros(micros as u64);
        let guess = shown * 1_000_000 / (1_000_000 + self.drift[node]);
        (guess - 2..).map(at).find(|t| self.local(node, *t) >= local).expect("time goes on")
    }

    pub(crate) fn crash(&mut self, node: usize) {
        self.nodes[node] = None;
    }

    /// The node's loop does not run for `length`; its socket goes on receiving.
    pub(crate) fn sleep(&mut self, node: usize, length: Duration) {
        self.asleep.insert(node, self.now + length);
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        self.nodes[node].as_ref().expect("it runs")
    }

    pub(crate) fn status(&self, of: usize, at: usize) -> PeerStatus {
        self.node(at).registry().get_peer(&name(of)).unwrap().status
    }

    pub(crate) fn view(&self, of: usize, at: usize) -> PeerView {
        let snapshot = self.node(at).snapshot(self.local(at, self.now));
        snapshot.peers.into_iter().find(|p| *p.server_id == *name(of)).unwrap()
    }

    /// Runs until `length` from now.
    pub(crate) fn run(&mut self, length: Duration) {
        let end = self.now + length;
        self.run_while(end, |_| true);
    }

    /// Runs until `done` or `limit` from now; the time that took.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Cluster) -> bool) -> Duration {
        let (start, end) = (self.now, self.now + limit);
        self.run_while(end, |cluster| !done(cluster));
        assert!(done(self), "not within {limit:?}; events: {:#?}", self.events);
        self.now.since(start)
    }

    fn run_while(&mut self, end: Time, mut on: impl FnMut(&Cluster) -> bool) {
        self.flush();
        while on(self) {
            let timer = (0..self.nodes.len()).filter_map(|n| self.next_of(n)).min();
            let arrival = self.air.keys().next().map(|(at, _)| *at);
            let Some(at) = [timer, arrival].into_iter().flatten().min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.step();
            self.flush();
        }
    }

    /// When the node's loop turns next.
    fn next_of(&self, node: usize) -> Option<Time> {
        let timer = self.nodes[node].as_ref()?.poll_timeout()?;
        let timer = if self.drift[node] == 0 { timer } else { self.global(node, timer) };
        let waits = || self.queued.iter().any(|(to, ..)| *to == node);
        Some(self.asleep.get(&node).map_or(timer, |wakes| if waits() { *wakes } else { timer.max(*wakes) }))
    }

    fn step(&mut self) {
        let mut turned = BTreeSet::new();
        while let Some(entry) = self.air.first_entry().filter(|e| e.key().0 <= self.now) {
            let ((at, _), arrival) = (*entry.key(), entry.remove());
            let node = match &arrival {
                Arrival::Datagram(packet) => packet.to,
                Arrival::Refusal(packet) => packet.from,
            };
            if self.lazy && matches!(arrival, Arrival::Refusal(_)) {
                self.asleep.insert(node, self.now);
            }
            if self.asleep.contains_key(&node) {
                self.queued.push((node, at, arrival));
            } else {
                self.arrive(node, at, arrival);
                turned.insert(node);
            }
        }
        for node in 0..self.nodes.len() {
            if self.asleep.get(&node).is_some_and(|wakes| *wakes <= self.now) {
                self.asleep.remove(&node);
                let (mine, rest): (Vec<_>, _) =
                    std::mem::take(&mut self.queued).into_iter().partition(|(n, ..)| *n == node);
                self.queued = rest;
                for (_, at, arrival) in mine {
                    self.arrive(node, at, arrival);
                    turned.insert(node);
                }
            }
            let now = self.local(node, self.now);
            if !self.asleep.contains_key(&node)
                && let Some(core) =
                    self.nodes[node].as_mut().filter(|n| n.poll_timeout().is_some_and(|t| t <= now))
            {
                core.handle_timeout(now);
                assert!(core.poll_timeout().is_none_or(|next| next > now), "the next deadline is later");
                turned.insert(node);
            }
        }
        for node in turned {
            if let Some(core) = self.nodes[node].as_ref().filter(|_| self.lazy) {
                self.asleep.insert(node, self.now + core.config().laziness());
            }
        }
    }

    /// Where a node is.
    fn place(&self, node: usize) -> SocketAddr {
        self.moved.get(&node).copied().unwrap_or_else(|| address(node))
    }

    fn arrive(&mut self, node: usize, at: Time, arrival: Arrival) {
        let (at, now) = (self.local(node, at), self.local(node, self.now));
        let peer = match &arrival {
            Arrival::Datagram(packet) => self.place(packet.from),
            Arrival::Refusal(packet) => self.place(packet.to),
        };
        let Some(node) = self.nodes[node].as_mut() else { return };
        match arrival {
            Arrival::Datagram(mut packet) => {
                let _ = node.handle_datagram(peer, None, &mut packet.bytes, at, now);
            }
            Arrival::Refusal(packet) => {
                node.handle_send_error(peer, SendErrorKind::Refused, &packet.bytes, now);
            }
        }
    }

    /// Hands a datagram to a node at once.
    pub(crate) fn inject(&mut self, to: usize, from: SocketAddr, bytes: &[u8]) -> Result<(), Reject> {
        let (now, mut bytes) = (self.local(to, self.now), bytes.to_vec());
        let node = self.nodes[to].as_mut().expect("it runs");
        let result = node.handle_datagram(from, None, &mut bytes, now, now);
        self.flush();
        result
    }

    fn flush(&mut self) {
        let mut buffer = Vec::new();
        for node in 0..self.nodes.len() {
            let now = self.local(node, self.now);
            let pause = self.paused.get(&node).copied().unwrap_or_default();
            let sent = self.sent[node];
            while let Some(transmit) =
                self.nodes[node].as_mut().and_then(|n| n.poll_transmit(now, &mut buffer))
            {
                let to = (0..self.nodes.len()).find(|n| self.place(*n) == transmit.to);
                self.sent[node] += 1;
                let Some(to) = to else {
                    *self.astray.entry(transmit.to).or_default() += buffer.len();
                    continue;
                };
                let packet = Packet { from: node, to, bytes: buffer.clone() };
                let fate = (self.rule)(&packet, self.now);
                self.number += 1;
                let key = |after| (self.now + pause + after, self.number);
                match fate {
                    Fate::After(after) => drop(self.air.insert(key(after), Arrival::Datagram(packet))),
                    Fate::Twice(after, again) => {
                        self.air.insert(key(after), Arrival::Datagram(packet.clone()));
                        self.air.insert(key(again), Arrival::Datagram(packet));
                    }
                    Fate::Refused => drop(self.air.insert(key(MS / 10), Arrival::Refusal(packet))),
                    Fate::Lost => {}
                }
            }
            let left = self.local(node, self.now + pause);
            if self.sent[node] > sent
                && let Some(core) = &mut self.nodes[node]
            {
                core.handle_sent(left);
                if self.paused.remove(&node).is_some() {
                    self.sleep(node, pause);
                }
            }
            while let Some(event) = self.nodes[node].as_mut().and_then(Node::poll_event) {
                self.events.push((node, event));
            }
        }
    }

    /// Changes of status since the last call: (observer, peer, to).
    pub(crate) fn take_changes(&mut self) -> Vec<(usize, String, PeerStatus)> {
        std::mem::take(&mut self.events)
            .into_iter()
            .filter_map(|(node, event)| match event.change {
                Change::Status { to, .. } => Some((node, event.peer.unwrap().to_string(), to)),
                _ => None,
            })
            .collect()
    }

    /// Whether every node proves every other.
    pub(crate) fn is_whole(&self) -> bool {
        let count = self.nodes.len();
        (0..count).all(|n| {
            let now = self.local(n, self.now);
            self.nodes[n].as_ref().is_none_or(|n| n.registry().get_cluster_status(now).proven_peers == count)
        })
    }
}

/// A rule: `base` between all, but datagrams that `cut` names are lost.
pub(crate) fn cut(base: Duration, cut: impl Fn(usize, usize) -> bool + 'static) -> Rule {
    Box::new(move |p, _| if cut(p.from, p.to) { Fate::Lost } else { Fate::After(base) })
}
