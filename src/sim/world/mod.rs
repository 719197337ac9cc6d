//! Many real cores on one virtual network, in virtual time.
//!
//! The world is a heap of what happens next. What a core sends goes through the rules of its link and comes back as an
//! arrival; a core's next deadline is a wake-up. Nothing else drives a core, as nothing else drives it in production.

mod faults;
mod setup;

use std::sync::Arc;
use std::time::Duration;

pub use self::setup::Setup;
use self::setup::{Shared, entry, keys};
use super::host::{Frame, Host};
use super::net::{Happening, Net, address};
use super::rng::Rng;
use crate::proto::{Event, Instance, Node, PeerConfig, PeerStatus, Time};

/// When a world begins: no clock of a node shows zero, whatever its offset.
const BEGINNING: Time = Time::from_micros(1_000_000_000);

/// One thing that a node told.
#[derive(Clone, Debug)]
pub struct Record {
    /// When, in the world's time.
    pub at: Time,
    /// Who told it.
    pub node: u32,
    /// What.
    pub event: Event,
}

/// A simulated cluster.
#[derive(Debug)]
pub struct World {
    setup: Setup,
    net: Net,
    hosts: Vec<Host>,
    /// Whom each node observes.
    rosters: Vec<Vec<u32>>,
    /// Where rosters are of all nodes, those of one roster share its directory; and which each node has.
    shared: Vec<Shared>,
    roster_of: Vec<usize>,
    rng: Rng,
    instances: Rng,
    records: Vec<Record>,
    buffer: Vec<u8>,
    steps: u64,
}

impl World {
    /// A new world; the nodes start when it runs.
    pub fn new(setup: Setup, seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let shared: Vec<Shared> =
            setup.peers.is_none().then(|| Shared::new(&setup, &[])).into_iter().collect();
        let observed = |node| shared.first().map_or_else(|| setup.roster(node), |s| s.observed_by(node));
        let mut world = World {
            net: Net::new(BEGINNING, &setup.links, setup.nodes <= 256, rng.fork()),
            hosts: Vec::with_capacity(setup.nodes),
            rosters: (0..setup.nodes as u32).map(observed).collect(),
            shared,
            roster_of: vec![0; setup.nodes],
            instances: rng.fork(),
            records: Vec::new(),
            buffer: Vec::with_capacity(1500),
            steps: 0,
            rng,
            setup,
        };
        for node in 0..world.setup.nodes as u32 {
            let ppm = i64::from(world.setup.drift);
            let drift = ((world.rng.share() * 2.0 - 1.0) * ppm as f64) as i64;
            world.hosts.push(Host::new(drift, 256 + 8 * world.rosters[node as usize].len()));
            let at = BEGINNING + world.setup.start_within.mul_f64(world.rng.share());
            world.net.schedule(at, Happening::Start(node));
        }
        world
    }

    /// The roster of a node lacks these nodes from now on, and no others; it must not lack itself. A running node changes it as
    /// it runs; one that leaves keeps the one that it has to its end.
    pub fn leave_out(&mut self, node: u32, absent: &[u32]) {
        assert!(self.setup.peers.is_none() && !absent.contains(&node), "a node is in its own roster");
        let members = self.setup.nodes - absent.len();
        let same = |shared: &Shared| {
            shared.members.len() == members && !absent.iter().any(|node| shared.members.contains(node))
        };
        let known = self.shared.iter().position(same);
        let roster = known.unwrap_or_else(|| {
            self.shared.push(Shared::new(&self.setup, absent));
            self.shared.len() - 1
        });
        let host = &mut self.hosts[node as usize];
        host.takes = host.node.as_ref().is_some_and(Node::is_leaving).then_some(roster);
        if host.takes.is_some() {
            return;
        }
        self.take_roster(node, roster);
        let (host, shared) = (&mut self.hosts[node as usize], &self.shared[roster]);
        if let Some(core) = &mut host.node {
            let config = PeerConfig { static_peers: shared.roster.clone(), ..core.config().clone() };
            core.enter(config, shared.directory.clone(), host.clock.show(self.net.now));
            self.turn(node);
        }
    }

    fn take_roster(&mut self, node: u32, roster: usize) {
        self.roster_of[node as usize] = roster;
        self.rosters[node as usize] = self.shared[roster].observed_by(node);
    }

    fn shared(&self, node: u32) -> Option<&Shared> {
        self.shared.get(self.roster_of[node as usize])
    }

    /// The time in the world.
    pub fn now(&self) -> Time {
        self.net.now
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.net.now.since(BEGINNING)
    }

    /// How it was made.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// How many nodes there are, running or not.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Never: a world has nodes.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// What has happened so far, in steps.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A hash over all that was sent, when, to whom: equal for equal runs.
    pub fn digest(&self) -> u64 {
        self.net.digest
    }

    /// The network.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// A host.
    pub fn host(&self, node: u32) -> &Host {
        &self.hosts[node as usize]
    }

    /// A node, if it runs.
    pub fn node(&self, node: u32) -> Option<&Node> {
        self.hosts[node as usize].node.as_ref()
    }

    /// Whom a node observes.
    pub fn roster(&self, node: u32) -> &[u32] {
        &self.rosters[node as usize]
    }

    /// The status of `subject` at `observer`; `None` if the one does not run, or has not the other in its roster.
    pub fn status(&self, observer: u32, subject: u32) -> Option<PeerStatus> {
        let core = self.node(observer)?;
        match self.rosters[observer as usize].binary_search(&subject) {
            Ok(place) => Some(core.registry().get_all_peers()[place].status),
            Err(_) => core.other_status(self.shared(observer)?.place(subject)?),
        }
    }

    /// Where `node` stands in the tables of `observer`; `None` if that does not know it, or rosters differ.
    pub(super) fn place_at(&self, observer: u32, node: u32) -> Option<usize> {
        self.shared(observer)?.place(node)
    }

    /// Whether `observer` takes its link to `subject` for whole.
    pub fn link_is_active(&self, observer: u32, subject: u32) -> Option<bool> {
        let connection = self.node(observer)?.connections().get_connection(&name(subject))?;
        Some(connection.is_active)
    }

    /// What the nodes told since the last call.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// Whether there are such.
    pub fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// Runs for `length`.
    pub fn run_for(&mut self, length: Duration) {
        let end = self.net.now + length;
        while self.step(end) {}
    }

    /// Runs until `done` holds, looked at after every step, for `limit` at most. How long that took, if it did.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&World) -> bool) -> Option<Duration> {
        let start = self.net.now;
        loop {
            if done(self) {
                return Some(self.net.now.since(start));
            }
            if !self.step(start + limit) {
                return None;
            }
        }
    }

    /// Does what happens next, if that is not after `end`; otherwise the time is `end`, and the answer false.
    pub fn step(&mut self, end: Time) -> bool {
        let Some(happening) = self.net.next(end) else { return false };
        self.steps += 1;
        match happening {
            Happening::Start(node) => self.start(node),
            Happening::Wake(node) => {
                let host = &mut self.hosts[node as usize];
                if host.wake_at <= self.net.now {
                    host.wake_at = Time::from_micros(u64::MAX);
                    self.turn(node);
                }
            }
            Happening::Arrive(frame) => {
                let frame = self.net.take(frame);
                if let Some(node) = self.net.at_address(frame.to) {
                    self.arrive(node, frame);
                } else {
                    self.net.recycle(frame.bytes);
                }
            }
        }
        true
    }

    fn arrive(&mut self, node: u32, frame: Frame) {
        let now = self.net.now;
        let host = &mut self.hosts[node as usize];
        if !frame.refused && (host.deaf || host.rejects || host.node.is_none()) {
            if host.rejects || host.refuses && host.node.is_none() {
                self.net.send_back(frame);
            } else {
                self.net.recycle(frame.bytes);
            }
            return;
        }
        if frame.refused {
            // An error wakes a resting loop.
            host.rests_until = host.rests_until.min(now);
        }
        if !host.queue(now, frame, &mut self.net) {
            return;
        }
        self.turn(node);
    }

    /// One turn of a node's loop, if it can have one now.
    fn turn(&mut self, node: u32) {
        let now = self.net.now;
        let place = node as usize;
        if self.hosts[place].can_turn(now) {
            while self.hosts[place].read(now, &mut self.net) {
                self.flush(node);
            }
            self.hosts[place].judge(now);
            self.flush(node);
            let host = &mut self.hosts[place];
            if host.node.as_ref().is_some_and(Node::has_left) {
                // Its last words are out.
                return self.crash(node, true);
            }
            let lazy = if self.setup.lazy { self.setup.config.laziness() } else { Duration::ZERO };
            let rest = host.slow.max(lazy);
            // It stood still in the middle of the turn: between sealing and sending.
            let rest = rest.max(host.pause.take().unwrap_or_default());
            if rest > Duration::ZERO {
                host.rests_until = now + rest;
            }
        }
        self.arm(node);
    }

    /// Hands on all that a node wants done.
    fn flush(&mut self, node: u32) {
        let now = self.net.now;
        let host = &mut self.hosts[node as usize];
        let place = host.moved_to().unwrap_or_else(|| address(node));
        let Some(core) = host.node.as_mut() else { return };
        while let Some((number, rosters)) = core.poll_state() {
            host.rosters = rosters;
            core.handle_state_saved(number, host.clock.show(now));
        }
        let (shown, late) = (host.clock.show(now), host.pause.unwrap_or_default());
        while let Some(transmit) = core.poll_transmit(shown, &mut self.buffer) {
            host.sent += 1;
            host.sent_bytes += self.buffer.len() as u64;
            self.net.check_number(node, core.sealed_to(), &self.buffer);
            if host.mute {
                continue;
            }
            let second = host.second.filter(|_| host.sent.is_multiple_of(2));
            let from = second.unwrap_or(place);
            if host.rejects {
                let frame = Frame { from: transmit.to, to: from, bytes: self.buffer.clone(), refused: true };
                self.net.return_error(frame);
            } else if host.blocked {
                host.held.push((transmit.to, self.buffer.clone()));
            } else {
                self.net.send(node, from, transmit.to, &self.buffer, late);
            }
        }
        // It says so when it goes on.
        core.handle_sent(host.clock.show(now + late));
        while let Some(event) = core.poll_event() {
            if event.change == crate::proto::Change::Rollback {
                let fresh = Instance(self.instances.next_u64().max(1));
                core.renew(fresh, host.clock.show(now));
            }
            self.records.push(Record { at: now, node, event });
        }
        host.count_probes();
    }

    /// Plans the node's next turn.
    fn arm(&mut self, node: u32) {
        let host = &mut self.hosts[node as usize];
        if let Some(at) = host.next_turn().map(|at| at.max(self.net.now))
            && at < host.wake_at
        {
            host.wake_at = at;
            self.net.schedule(at, Happening::Wake(node));
        }
    }

    /// Starts a node that does not run: a new instance. One that [never starts](World::never_start) stays away.
    pub fn start(&mut self, node: u32) {
        if self.hosts[node as usize].absent || self.hosts[node as usize].late {
            return;
        }
        if let Some(roster) = self.hosts[node as usize].takes.take() {
            self.take_roster(node, roster);
        }
        let own_name: Arc<str> = name(node).into();
        let server_id = match (self.setup.nameless, self.hosts[node as usize].machine) {
            (false, _) => own_name.clone(),
            (true, 0) => format!("id-{node}").into(),
            (true, machine) => format!("id-{node}-{machine}").into(),
        };
        let mut config =
            PeerConfig { server_id, own_name, listen_address: address(node), ..self.setup.config.clone() };
        let keys = keys(&self.setup);
        let host = &mut self.hosts[node as usize];
        let now = host.clock.show(self.net.now);
        let instance = Instance(self.instances.next_u64().max(1));
        let seed = self.instances.next_u64();
        let core = match self.shared.get(self.roster_of[node as usize]) {
            Some(shared) => {
                config.static_peers = shared.roster.clone();
                Node::in_directory(config, keys, shared.directory.clone(), instance, seed, now)
            }
            None => {
                config.static_peers =
                    self.rosters[node as usize].iter().map(|peer| entry(&self.setup, *peer)).collect();
                Node::new(config, keys, instance, seed, now)
            }
        };
        let mut core = core.expect("the settings of a world are valid");
        core.keep_rosters(host.rosters.clone(), now).expect("the core reads what it wrote");
        host.start(core);
        self.flush(node);
        self.arm(node);
    }

    /// What must hold some time after the last fault: all statuses and links are right, and all know the same.
    pub fn is_settled(&self) -> bool {
        self.knows_the_same() && self.is_right()
    }

    /// Whether every running node calls each running one Healthy and its link whole, and each other Down.
    pub fn is_right(&self) -> bool {
        (0..self.hosts.len() as u32).all(|observer| self.is_right_at(observer))
    }

    /// Whether the records of all are equal, and nobody owes any, where all have one roster.
    fn knows_the_same(&self) -> bool {
        let tables = self.hosts.iter().filter_map(|host| host.node.as_ref()).map(Node::records_fingerprint);
        let one_roster = self.roster_of.iter().all(|roster| *roster == self.roster_of[0]);
        let mut tables = tables.filter(|_| self.setup.peers.is_none() && one_roster);
        let first = tables.next();
        first.is_none_or(|first| first.is_some() && tables.all(|table| table == first))
    }

    /// Whether a node, if it runs, calls the running ones Healthy, with whole links, and the others Down.
    fn is_right_at(&self, observer: u32) -> bool {
        let Some(core) = self.node(observer) else { return true };
        let right = |subject: u32, status| match self.node(subject) {
            Some(_) => status == PeerStatus::Healthy,
            None => status == PeerStatus::Down,
        };
        let peers = core.registry().get_all_peers().iter().zip(&self.rosters[observer as usize]);
        let mut peers = peers.enumerate().map(|(at, (info, subject))| {
            right(*subject, info.status) && (self.node(*subject).is_none() || core.link_is_active(at))
        });
        let node_at = |place| self.shared(observer).and_then(|shared| shared.node_at(place));
        peers.all(|right| right)
            && core.other_statuses().all(|(place, status)| node_at(place).is_some_and(|n| right(n, status)))
    }

    /// Whether every running node has a present two-way proof of each running peer.
    pub fn is_whole(&self) -> bool {
        let everybody = self.hosts.iter().filter(|host| host.node.is_some()).count();
        (0..self.hosts.len() as u32).all(|observer| {
            let host = &self.hosts[observer as usize];
            host.node.as_ref().is_none_or(|core| {
                let running = match self.shared(observer) {
                    Some(shared) if shared.members.len() == self.hosts.len() => everybody,
                    Some(shared) => shared.members.iter().filter(|node| self.node(**node).is_some()).count(),
                    None => {
                        1 + self.rosters[observer as usize]
                            .iter()
                            .filter(|s| self.node(**s).is_some())
                            .count()
                    }
                };
                core.registry().get_cluster_status(host.clock.show(self.net.now)).proven_peers == running
            })
        })
    }
}

/// The id of a node.
pub fn name(node: u32) -> String {
    format!("n{node}")
}

/// The node of an id.
pub fn index(name: &str) -> Option<u32> {
    let number = name.strip_prefix('n').or(name.strip_prefix("id-"))?;
    number.split('-').next()?.parse().ok()
}
