//! S8 of `benches/RESULTS.md`: the same worlds with lastseen and with foca as detector.
//!
//! `cargo run --release --example against_foca`. foca (SWIM with suspicion, after memberlist) runs with its LAN
//! defaults for the cluster's size, starts with the whole membership known, and takes a new identity when it is called
//! down, as its own example does. Links, socket sizes and faults are those of lastseen's simulator; where a stall ends,
//! foca reads its socket before it looks at its timers, which is the better order for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::time::Duration;

use foca::{Foca, Identity, Member, NoCustomBroadcast, Notification, PostcardCodec, Runtime, Timer};
use lastseen::PeerStatus;
use lastseen::proto::{Change, Time};
use lastseen::sim::link::{Memory, Verdict};
use lastseen::sim::rng::Rng;
use lastseen::sim::world::index;
use lastseen::sim::{Rule, Scope, Setup, World};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A Down: when, at whom, about whom.
type Down = (Duration, u32, u32);

/// What both detectors are asked.
trait Cluster {
    fn new(nodes: u32, seed: u64) -> Self;
    fn run_for(&mut self, time: Duration);
    fn elapsed(&self) -> Duration;
    fn crash(&mut self, node: u32);
    fn start(&mut self, node: u32);
    fn stall(&mut self, node: u32, kind: Stall, begins: bool);
    fn add_rule(&mut self, rule: Rule);
    /// Since the last look.
    fn downs(&mut self) -> Vec<Down>;
    /// Datagrams, and bytes with UDP and IPv4 headers, of one node.
    fn sent(&self, node: u32) -> (u64, u64);
}

#[derive(Clone, Copy, PartialEq)]
enum Stall {
    Frozen,
    Blocked,
}

fn main() {
    println!("{:<44} {:>26} {:>26}", "", "lastseen", "foca 2.0.0, LAN defaults");
    for nodes in [16, 64, 128] {
        let what = format!("quiet, {nodes} nodes: datagrams, B/s a node");
        row(&what, quiet::<Ours>(nodes), quiet::<Theirs>(nodes));
        let (ours, theirs) = (crashes::<Ours>(nodes), crashes::<Theirs>(nodes));
        row(&format!("crash, {nodes} nodes: first Down p50 p99 max, s"), ours.0, theirs.0);
        row(&format!("crash, {nodes} nodes: last Down p50 p99 max, s"), ours.1, theirs.1);
    }
    for loss in [0.05, 0.1, 0.3] {
        let what = format!("{:.0} % loss, 16 nodes, 1 h: false Downs", loss * 100.0);
        let rule = Rule::Loss(loss);
        row(&what, wrong::<Ours>(rule), wrong::<Theirs>(rule));
    }
    for bad in [SECOND, SECOND * 5] {
        let what = format!("bursts of {bad:?}, 5 %, 16 nodes, 1 h: false Downs");
        let rule = Rule::Burst { bad, good: bad * 19 };
        row(&what, wrong::<Ours>(rule), wrong::<Theirs>(rule));
    }
    for (kind, name) in [(Stall::Frozen, "frozen"), (Stall::Blocked, "blocked I/O")] {
        let what = format!("{name}, 24 of Lifeguard's grid: FP, FP-");
        row(&what, stalls::<Ours>(kind), stalls::<Theirs>(kind));
    }
}

fn row(what: &str, ours: String, theirs: String) {
    println!("{what:<44} {ours:>26} {theirs:>26}");
}

/// In its steady state.
fn steady<C: Cluster>(nodes: u32, seed: u64) -> C {
    let mut cluster = C::new(nodes, seed);
    cluster.run_for(60 * SECOND);
    assert!(cluster.downs().is_empty(), "a quiet cluster is whole");
    cluster
}

fn quiet<C: Cluster>(nodes: u32) -> String {
    let mut cluster = steady::<C>(nodes, 1);
    let before: Vec<_> = (0..nodes).map(|n| cluster.sent(n)).collect();
    cluster.run_for(300 * SECOND);
    let mean = |of: fn((u64, u64)) -> u64| {
        let all: u64 = (0..nodes).map(|n| of(cluster.sent(n)) - of(before[n as usize])).sum();
        all as f64 / 300.0 / f64::from(nodes)
    };
    format!("{:.1} {:.0}", mean(|s| s.0), mean(|s| s.1))
}

/// The half, the 99th of a hundred, and the greatest, in seconds.
fn spread(all: &mut [Duration]) -> String {
    all.sort();
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize].as_secs_f64();
    format!("{:.2} {:.2} {:.2}", at(0.5), at(0.99), at(1.0))
}

/// A hundred silent crashes; behind a `+`, how many nodes had not been told a minute later.
fn crashes<C: Cluster>(nodes: u32) -> (String, String) {
    let mut cluster = steady::<C>(nodes, 2);
    let mut rng = Rng::new(3);
    let (mut first, mut last, mut missed) = (Vec::new(), Vec::new(), 0);
    for _ in 0..100 {
        cluster.run_for(rng.between(Duration::ZERO, SECOND));
        let (victim, at) = (rng.below(nodes as usize) as u32, cluster.elapsed());
        cluster.crash(victim);
        cluster.run_for(60 * SECOND);
        // Who tells it again, because a rumour came by once more, tells nothing new.
        let mut told = BTreeMap::new();
        for (when, observer, subject) in cluster.downs() {
            assert_eq!(subject, victim, "only the crashed one is down");
            told.entry(observer).or_insert(when - at);
        }
        missed += nodes as usize - 1 - told.len();
        first.extend(told.values().min());
        last.extend(told.values().max());
        cluster.start(victim);
        cluster.run_for(30 * SECOND);
        cluster.downs();
    }
    let last = spread(&mut last);
    (spread(&mut first), if missed == 0 { last } else { format!("{last} +{missed}") })
}

/// Downs of 16 nodes that all live, for an hour.
fn wrong<C: Cluster>(rule: Rule) -> String {
    let mut cluster = steady::<C>(16, 4);
    cluster.add_rule(rule);
    cluster.run_for(3600 * SECOND);
    cluster.downs().len().to_string()
}

/// A part of Lifeguard's grid.
fn stalls<C: Cluster>(kind: Stall) -> String {
    let (mut wrong, mut minus) = (0, 0);
    for count in [4u32, 16] {
        for stalled in [512u64, 2048, 8192, 32_768] {
            for awake in [4u64, 256, 4096] {
                let mut cluster = steady::<C>(128, u64::from(count) + stalled + awake);
                let begin = cluster.elapsed();
                while cluster.elapsed() < begin + 120 * SECOND {
                    for (begins, time) in [(true, stalled), (false, awake)] {
                        (0..count).for_each(|n| cluster.stall(n, kind, begins));
                        cluster.run_for(MS * time as u32);
                    }
                }
                cluster.run_for(10 * SECOND);
                for (_, observer, subject) in cluster.downs() {
                    wrong += u32::from(subject >= count);
                    minus += u32::from(subject >= count && observer >= count);
                }
            }
        }
    }
    format!("{wrong}, {minus}")
}

/// lastseen.
struct Ours(World);

impl Cluster for Ours {
    fn new(nodes: u32, seed: u64) -> Ours {
        Ours(World::new(Setup { cheap_seal: true, ..Setup::new(nodes as usize) }, seed))
    }
    fn run_for(&mut self, time: Duration) {
        self.0.run_for(time);
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
    fn crash(&mut self, node: u32) {
        self.0.crash(node, false);
    }
    fn start(&mut self, node: u32) {
        self.0.start(node);
    }
    fn stall(&mut self, node: u32, kind: Stall, begins: bool) {
        match kind {
            Stall::Frozen => self.0.freeze(node, begins),
            Stall::Blocked => self.0.block(node, begins),
        }
    }
    fn add_rule(&mut self, rule: Rule) {
        self.0.add_rule(Scope::All, rule);
    }
    fn downs(&mut self) -> Vec<Down> {
        let begin = self.0.now() - self.0.elapsed();
        let down = |r: lastseen::sim::world::Record| match r.event.change {
            Change::Status { to: PeerStatus::Down, .. } => {
                Some((r.at.since(begin), r.node, index(&r.event.peer?)?))
            }
            _ => None,
        };
        self.0.take_records().into_iter().filter_map(down).collect()
    }
    fn sent(&self, node: u32) -> (u64, u64) {
        let (datagrams, bytes) = self.0.host(node).sent();
        (datagrams, bytes + 28 * datagrams)
    }
}

/// A node of foca's, and how often it was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Id {
    node: u32,
    bump: u32,
}

impl Identity for Id {
    type Addr = u32;
    fn renew(&self) -> Option<Id> {
        Some(Id { bump: self.bump + 1, ..*self })
    }
    fn addr(&self) -> u32 {
        self.node
    }
    fn win_addr_conflict(&self, other: &Id) -> bool {
        self.bump > other.bump
    }
}

struct Random(Rng);

impl rand::rand_core::TryRng for Random {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.next_u64() >> 32) as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }
    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        for chunk in to.chunks_mut(8) {
            let random = self.0.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        Ok(())
    }
}

/// What foca asked for in one call.
#[derive(Default)]
struct Asked {
    sends: Vec<(u32, Vec<u8>)>,
    timers: Vec<(Timer<Id>, Duration)>,
    downs: Vec<u32>,
}

impl Runtime<Id> for &mut Asked {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        if let Notification::MemberDown(id) = notification {
            self.downs.push(id.node);
        }
    }
    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.sends.push((to.node, data.to_vec()));
    }
    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        self.timers.push((event, after));
    }
}

/// One process.
struct Process {
    foca: Foca<Id, PostcardCodec, Random, NoCustomBroadcast>,
    /// Timers by due time, of one time in foca's own order.
    timers: BinaryHeap<Reverse<(Time, Timer<Id>, u64)>>,
}

#[derive(Default)]
struct Machine {
    process: Option<Process>,
    runs: u32,
    socket: VecDeque<Vec<u8>>,
    held: Vec<(u32, Vec<u8>)>,
    frozen: bool,
    blocked: bool,
    sent: (u64, u64),
}

/// When, in which order, at which machine, and the datagram, unless it is a wake-up.
type Happening = (Time, u64, u32, Option<Vec<u8>>);

/// foca.
struct Theirs {
    now: Time,
    begin: Time,
    machines: Vec<Machine>,
    heap: BinaryHeap<Reverse<Happening>>,
    counter: u64,
    rules: Vec<Rule>,
    memories: HashMap<(usize, u32, u32), Memory>,
    rng: Rng,
    downs: Vec<Down>,
}

impl Theirs {
    fn config(&self) -> foca::Config {
        foca::Config::new_lan(NonZeroU32::new(self.machines.len() as u32).expect("some"))
    }

    fn schedule(&mut self, at: Time, node: u32, datagram: Option<Vec<u8>>) {
        self.counter += 1;
        self.heap.push(Reverse((at, self.counter, node, datagram)));
    }

    /// Everything the machine can do now.
    fn turn(&mut self, node: u32) {
        loop {
            let machine = &mut self.machines[node as usize];
            let Some(process) = machine.process.as_mut().filter(|_| !machine.frozen) else { return };
            let mut asked = Asked::default();
            let datagram = if machine.blocked { None } else { machine.socket.pop_front() };
            let done = match (datagram, process.timers.peek()) {
                (Some(data), _) => process.foca.handle_data(&data, &mut asked),
                (None, Some(Reverse((due, ..)))) if *due <= self.now => {
                    let Reverse((_, timer, _)) = process.timers.pop().expect("peeked");
                    process.foca.handle_timer(timer, &mut asked)
                }
                _ => break,
            };
            // As its example does: an error changes nothing, foca is tolerant.
            drop(done);
            self.carry_out(node, asked);
        }
    }

    fn carry_out(&mut self, node: u32, asked: Asked) {
        for subject in asked.downs {
            self.downs.push((self.now.since(self.begin), node, subject));
        }
        for (timer, after) in asked.timers {
            let at = self.now + after;
            self.counter += 1;
            let process = self.machines[node as usize].process.as_mut().expect("it runs");
            process.timers.push(Reverse((at, timer, self.counter)));
            self.schedule(at, node, None);
        }
        for (to, data) in asked.sends {
            if self.machines[node as usize].blocked {
                self.machines[node as usize].held.push((to, data));
            } else {
                self.send(node, to, data);
            }
        }
    }

    fn send(&mut self, from: u32, to: u32, data: Vec<u8>) {
        let sent = &mut self.machines[from as usize].sent;
        *sent = (sent.0 + 1, sent.1 + data.len() as u64 + 28);
        let mut after = Duration::ZERO;
        for (at, rule) in self.rules.iter().enumerate() {
            let memory = self.memories.entry((at, from, to)).or_default();
            match rule.judge(memory, data.len(), self.now, &mut self.rng) {
                Verdict::Drop => return,
                Verdict::After(time) => after += time,
                _ => {}
            }
        }
        self.schedule(self.now + after, to, Some(data));
    }

    fn boot(&mut self, node: u32, known: bool) {
        let machine = &self.machines[node as usize];
        let id = Id { node, bump: machine.runs * 1000 };
        let rng = Random(self.rng.fork());
        let mut foca = Foca::new(id, self.config(), rng, PostcardCodec);
        let others = (0..self.machines.len() as u32).filter(|n| *n != node);
        let others = others.map(|n| Member::alive(Id { node: n, bump: self.machines[n as usize].bump() }));
        let mut asked = Asked::default();
        if known {
            foca.apply_many(others, false, &mut asked).expect("members");
        } else {
            // Announced to all: it does not hang on one that is lost.
            for other in others {
                foca.announce(*other.id(), &mut asked).expect("announced");
            }
        }
        let machine = &mut self.machines[node as usize];
        machine.runs += 1;
        machine.process = Some(Process { foca, timers: BinaryHeap::new() });
        self.carry_out(node, asked);
    }
}

impl Machine {
    fn bump(&self) -> u32 {
        self.process.as_ref().map_or(0, |p| p.foca.identity().bump)
    }
}

impl Cluster for Theirs {
    fn new(nodes: u32, seed: u64) -> Theirs {
        let begin = Time::from_micros(1_000_000_000);
        let mut theirs = Theirs {
            now: begin,
            begin,
            machines: (0..nodes).map(|_| Machine::default()).collect(),
            heap: BinaryHeap::new(),
            counter: 0,
            rules: Setup::new(nodes as usize).links,
            memories: HashMap::new(),
            rng: Rng::new(seed),
            downs: Vec::new(),
        };
        (0..nodes).for_each(|node| theirs.boot(node, true));
        theirs
    }
    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.heap.peek().is_some_and(|Reverse((at, ..))| *at <= end) {
            let Reverse((at, _, node, datagram)) = self.heap.pop().expect("peeked");
            self.now = at;
            // As much room as in lastseen's simulator.
            let room = 256 + 8 * (self.machines.len() - 1);
            let machine = &mut self.machines[node as usize];
            if let Some(data) = datagram
                && machine.process.is_some()
                && machine.socket.len() < room
            {
                machine.socket.push_back(data);
            }
            self.turn(node);
        }
        self.now = end;
    }
    fn elapsed(&self) -> Duration {
        self.now.since(self.begin)
    }
    fn crash(&mut self, node: u32) {
        let machine = &mut self.machines[node as usize];
        machine.process = None;
        machine.socket.clear();
    }
    fn start(&mut self, node: u32) {
        self.boot(node, false);
    }
    fn stall(&mut self, node: u32, kind: Stall, begins: bool) {
        let machine = &mut self.machines[node as usize];
        match kind {
            Stall::Frozen => machine.frozen = begins,
            Stall::Blocked => machine.blocked = begins,
        }
        if !begins {
            for (to, data) in std::mem::take(&mut machine.held) {
                self.send(node, to, data);
            }
            self.turn(node);
        }
    }
    fn add_rule(&mut self, rule: Rule) {
        self.rules.push(rule);
    }
    fn downs(&mut self) -> Vec<Down> {
        std::mem::take(&mut self.downs)
    }
    fn sent(&self, node: u32) -> (u64, u64) {
        self.machines[node as usize].sent
    }
}
