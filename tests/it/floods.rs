//! Two senders flood one of five nodes as fast as they can: nobody's status or verdict changes, nothing grows, and a crash is
//! seen as ever. What it costs is printed as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::Time;
use serde_json::Value;

use crate::harness::{AT_ALL, Cluster, watch, within};
use crate::keys::make_key;
use crate::tap::Tap;

const NODES: usize = 5;
const FLOODED: usize = 0;
/// Its frames to the flooded node are recorded.
const RECORDED: usize = 1;
const KILLED: usize = 4;
const SENDERS: usize = 2;
/// Real frames, from which a flood is made; and how many different ones are made.
const RECORDS: usize = 16;
const FRAMES: usize = 512;
/// Of a frame: what stands before its number, where its key's id stands, and the length of a sealed ping.
const HEADER: usize = 18;
const KEY_ID: usize = 1;
const BODY: usize = 28;
const MAY_GROW_MIB: f64 = 2.0;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Nothing,
    /// Random bytes.
    Garbage,
    /// Frames with the headers of real ones, as everybody on the way can read them, sealed with another key: every
    /// second one names that key, the others name the cluster's.
    WrongKey,
    /// Real frames.
    Replays,
    /// Real frames, from the address of the peer that sent them. No kernel can tell these.
    Spoofed,
}

#[test]
#[ignore = "takes all of the machine for a quarter of a minute: what runs beside it misses its deadlines"]
fn floods() {
    let (short, long) = (Duration::from_secs(1), Duration::from_secs(2));
    let all = [(Kind::Nothing, short), (Kind::Garbage, long), (Kind::WrongKey, long), (Kind::Replays, long)];
    flood_with(&all, Duration::from_millis(500));
}

#[test]
#[ignore = "takes 5 minutes, and all of the machine"]
fn long_floods() {
    let (short, long) = (Duration::from_secs(20), Duration::from_secs(60));
    let all = [
        (Kind::Nothing, short),
        (Kind::Garbage, long),
        (Kind::WrongKey, long),
        (Kind::Replays, long),
        (Kind::Spoofed, short),
    ];
    flood_with(&all, Duration::from_secs(1));
}

/// These floods, one after the other, against one cluster.
fn flood_with(floods: &[(Kind, Duration)], interval: Duration) {
    /// Two senders are what is measured, not four.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut cluster, tap) = tapped_cluster(interval);
    within(AT_ALL, || (0..NODES).all(|n| has_told_quorum(&cluster, n)).then_some(()))
        .expect("a quorum, at the start");
    let records = within(AT_ALL, || Some(tap.records()).filter(|records| records.len() >= RECORDS));
    let (records, _) = records.expect("the nodes speak to each other");
    println!("{HEAD}");
    let mut rows = Vec::new();
    for (kind, long) in floods {
        let (told, flood) = (events(&cluster), Flood::default());
        let before = Counts::now(&cluster, &flood);
        let flood = flood.with(*kind, &frames(*kind, &records), &tap, cluster.nodes[FLOODED].udp);
        let watched = Watched::flooded(&cluster, *long);
        let after = Counts::now(&cluster, &flood);
        let told = events(&cluster)
            .into_iter()
            .filter(|(id, event)| !told.contains_key(id) && event["type"] != "self");
        let events = told.map(|(_, event)| event).collect();
        let void = void(&cluster);
        let crash = crash(&mut cluster, interval);
        let row = Row { kind: *kind, before, after, watched, events, void, crash };
        println!("{row}");
        rows.push(row);
        drop(flood);
        cluster.launch(KILLED);
        cluster.all_heard(AT_ALL);
        let calm = || {
            (self_health(&cluster) == "ok" && (0..NODES).all(|n| has_told_quorum(&cluster, n))).then_some(())
        };
        within(AT_ALL, calm).expect("a flood that is over is over");
    }
    rows.iter().for_each(|row| row.is_fine(interval));
}

/// Nodes with a key. The flooded one and another reach each other by way of the tap.
fn tapped_cluster(interval: Duration) -> (Cluster, Tap) {
    let mut tap = None;
    let settings = |dir: &std::path::Path| {
        let key = dir.join("key");
        make_key(&key, 1);
        format!("heartbeat_interval = \"{interval:?}\"\n[security]\nkey_files = [{key:?}]\n")
    };
    let cluster = Cluster::with_detours(NODES, "error", settings, |nodes| {
        let tap = tap.insert(Tap::between(nodes[RECORDED].udp, nodes[FLOODED].udp));
        vec![(RECORDED, FLOODED, tap.second), (FLOODED, RECORDED, tap.first)]
    });
    (cluster, tap.unwrap())
}

/// By when a silent crash is Down, if nothing is in the way: `(down_after + 1)·interval + 2·timeout`, by default.
fn crash_within(interval: Duration) -> Duration {
    interval * 6 + Duration::from_secs(1)
}

/// Kills a node. How long until the flooded one calls it Down, and until all others do.
fn crash(cluster: &mut Cluster, interval: Duration) -> [Option<Duration>; 2] {
    let since = cluster.kill(KILLED);
    let mut waiting: Vec<usize> = (0..NODES).filter(|n| *n != KILLED).collect();
    let mut crash = [None; 2];
    within(crash_within(interval) * 2, || {
        waiting.retain(|n| cluster.peer(*n, KILLED)["status"] != "down");
        let others = waiting.iter().any(|n| *n != FLOODED);
        for (moment, waits) in crash.iter_mut().zip([waiting.contains(&FLOODED), others]) {
            *moment = moment.or((!waits).then(|| Clock.now().since(since)));
        }
        waiting.is_empty().then_some(())
    });
    crash
}

fn self_health(cluster: &Cluster) -> String {
    cluster.json(FLOODED, "/api/v1/status")["self_health"].as_str().unwrap_or_default().to_owned()
}

/// Whether the node's newest word of the quorum is that there is one: it looks at it twice an interval, so later than it hears
/// the peers.
fn has_told_quorum(cluster: &Cluster, n: usize) -> bool {
    let newest = cluster.events(n).into_iter().rfind(|event| event["type"] == "quorum");
    newest.is_some_and(|event| event["to"] == "true")
}

/// What all nodes have told, by its id.
fn events(cluster: &Cluster) -> BTreeMap<String, Value> {
    let all = (0..NODES).flat_map(|n| cluster.events(n));
    all.map(|event| (event["id"].as_str().unwrap().to_owned(), event)).collect()
}

/// Of the flooded node's newest heartbeats with all peers: those that are void, and all.
fn void(cluster: &Cluster) -> (usize, usize) {
    let strip = |n| {
        let peer: Value = cluster.peer(FLOODED, n);
        peer["explain"]["heartbeats"]["strip"].as_str().unwrap_or_default().to_owned()
    };
    let strips: String = (0..NODES).filter(|n| *n != FLOODED).map(strip).collect();
    (strips.matches('v').count(), strips.len())
}

fn frames(kind: Kind, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut seed = 1u64;
    let mut random = |length: usize| -> Vec<u8> {
        let byte = |_| {
            seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (seed >> 33) as u8
        };
        (0..length).map(byte).collect()
    };
    // What is sealed with an unknown key is random to all others.
    let forged = |n: usize| {
        let mut frame = records[n % records.len()][..HEADER].to_vec();
        frame[KEY_ID] ^= (n % 2) as u8;
        frame.extend([n as u8 | 0x80, 1 + (n >> 7) as u8]);
        frame
    };
    match kind {
        Kind::Nothing => Vec::new(),
        Kind::Garbage => (0..FRAMES).map(|n| random(1 + n * 7 % 1000)).collect(),
        Kind::WrongKey => (0..FRAMES).map(|n| [forged(n), random(BODY)].concat()).collect(),
        Kind::Replays | Kind::Spoofed => records.to_vec(),
    }
}

/// Threads that send, until it is dropped.
#[derive(Default)]
struct Flood {
    ends: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    senders: Vec<JoinHandle<()>>,
}

impl Flood {
    fn with(mut self, kind: Kind, frames: &[Vec<u8>], tap: &Tap, to: SocketAddr) -> Flood {
        for _ in 0..SENDERS {
            let (frames, ends, sent) = (frames.to_vec(), Arc::clone(&self.ends), Arc::clone(&self.sent));
            let socket = match kind {
                Kind::Spoofed => tap.as_first(),
                _ => UdpSocket::bind("127.0.0.1:0").unwrap(),
            };
            self.senders.push(std::thread::spawn(move || {
                for frame in frames.iter().cycle().take_while(|_| !ends.load(Ordering::Relaxed)) {
                    sent.fetch_add(u64::from(socket.send_to(frame, to).is_ok()), Ordering::Relaxed);
                }
            }));
        }
        self
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            sender.join().unwrap();
        }
    }
}

/// What the flooded node counted, and how many heartbeats all have missed.
struct Counts {
    at: Time,
    sent: f64,
    read: f64,
    dropped: f64,
    filtered: f64,
    cpu_seconds: f64,
    missed: f64,
    missed_elsewhere: f64,
}

impl Counts {
    fn now(cluster: &Cluster, flood: &Flood) -> Counts {
        let value = |name: &str| cluster.value(FLOODED, name);
        let missed = |n: usize| cluster.value(n, "lastseen_heartbeats_missed_total");
        Counts {
            at: Clock.now(),
            sent: flood.sent.load(Ordering::Relaxed) as f64,
            read: value("lastseen_datagrams_received_total"),
            dropped: value("lastseen_socket_drops_total"),
            filtered: value("lastseen_socket_filtered_total"),
            cpu_seconds: value("process_cpu_seconds_total"),
            missed: missed(FLOODED),
            missed_elsewhere: (0..NODES).filter(|n| *n != FLOODED).map(missed).sum(),
        }
    }
}

/// What was asked of the flooded node over and over.
struct Watched {
    /// Least and most resident memory, in MiB.
    memory: (f64, f64),
    /// What it said of itself.
    health: BTreeSet<String>,
    /// How often it was not alive.
    dead: usize,
}

impl Watched {
    fn flooded(cluster: &Cluster, long: Duration) -> Watched {
        let mut watched = Watched { memory: (f64::MAX, 0.0), health: BTreeSet::new(), dead: 0 };
        watch(long, Duration::from_millis(500), |_| {
            let mib = cluster.value(FLOODED, "process_resident_memory_bytes") / f64::from(1 << 20);
            watched.memory = (watched.memory.0.min(mib), watched.memory.1.max(mib));
            watched.health.insert(self_health(cluster));
            watched.dead += usize::from(cluster.get(FLOODED, "/livez").0 != 200);
        });
        watched
    }
}

/// What one flood did.
struct Row {
    kind: Kind,
    before: Counts,
    after: Counts,
    watched: Watched,
    /// What all nodes told, but of themselves.
    events: Vec<Value>,
    void: (usize, usize),
    crash: [Option<Duration>; 2],
}

const HEAD: &str = "\
| flood | offered/s | read/s | dropped/s | filtered/s | CPU | MiB | missed there, elsewhere | void | events | crash Down there, elsewhere |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

impl Row {
    fn a_second(&self, of: fn(&Counts) -> f64) -> f64 {
        self.grown(of) / self.after.at.since(self.before.at).as_secs_f64()
    }

    fn grown(&self, of: fn(&Counts) -> f64) -> f64 {
        of(&self.after) - of(&self.before)
    }

    fn is_fine(&self, interval: Duration) {
        let Watched { memory, health, dead } = &self.watched;
        assert!(*dead == 0 && memory.1 - memory.0 <= MAY_GROW_MIB, "{self}");
        let is_flooded = self.kind != Kind::Nothing;
        let is_counted = self.grown(|c| c.dropped + c.filtered) > 0.0;
        assert_eq!((is_counted, health.contains("flooded")), (is_flooded, is_flooded), "{self}");
        // Elsewhere it is seen as ever, but the machine is as busy as it can be.
        let bound = crash_within(interval) * 2;
        assert!(self.crash.iter().all(|took| took.is_some_and(|took| took <= bound)), "{self}");
        if self.kind == Kind::Spoofed {
            return;
        }
        assert!(self.events.is_empty(), "{self}\n{:#?}", self.events);
        let is_filtered = self.grown(|c| c.filtered) > self.grown(|c| c.dropped);
        assert_eq!(is_filtered, is_flooded, "the kernel keeps them out: {self}");
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |took: Option<Duration>| {
            took.map_or("never".to_owned(), |took| format!("{:.2}", took.as_secs_f64()))
        };
        write!(
            f,
            "| {:?} | {:.0} | {:.0} | {:.1} | {:.0} | {:.1} % | {:.1} to {:.1} | {}, {} | {} of {} | {} | {}, {} |",
            self.kind,
            self.a_second(|c| c.sent),
            self.a_second(|c| c.read),
            self.a_second(|c| c.dropped),
            self.a_second(|c| c.filtered),
            self.a_second(|c| c.cpu_seconds) * 100.0,
            self.watched.memory.0,
            self.watched.memory.1,
            self.grown(|c| c.missed),
            self.grown(|c| c.missed_elsewhere),
            self.void.0,
            self.void.1,
            self.events.len(),
            seconds(self.crash[0]),
            seconds(self.crash[1]),
        )
    }
}
