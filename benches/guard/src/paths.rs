//! The hot paths, each run a fixed number of times. Under callgrind only what [`measured`] calls is counted, and each of
//! its calls is a profile of its own.

use std::hint::black_box;
use std::time::Duration;

use lastseen::proto::messages::Message;
use lastseen::proto::records::Body;
use lastseen::proto::{Observers, Scope};

use crate::around::Around;
use crate::counting::allocated;
use crate::frames::{HEADER, bare_seal_and_open, frame_key, messages, plain, ring};
use crate::mesh::{Mesh, Refusals};

/// How often a path is run that costs little.
const MANY: u64 = 500;

/// What one path did.
#[derive(Debug, Default)]
pub(crate) struct Path {
    pub(crate) name: String,
    pub(crate) operations: u64,
    /// Calls of [`measured`], one after the other: no other path's come between.
    pub(crate) profiles: usize,
    /// In all operations together.
    pub(crate) allocations: u64,
}

impl Path {
    fn new(name: &str) -> Path {
        Path { name: name.to_owned(), ..Path::default() }
    }

    /// Runs so many operations, and counts them.
    fn run(&mut self, operations: u64, mut all: impl FnMut()) {
        let before = allocated().0;
        measured(&mut all);
        self.allocations += allocated().0 - before;
        self.operations += operations;
        self.profiles += 1;
    }

    /// Runs one operation many times.
    fn many(name: &str, mut one: impl FnMut()) -> Path {
        let mut path = Path::new(name);
        one();
        path.run(MANY, || (0..MANY).for_each(|_| one()));
        path
    }

    /// The line that [`Path::read`] reads.
    pub(crate) fn line(&self) -> String {
        let Path { name, operations, profiles, allocations } = self;
        format!("{name} {operations} {profiles} {allocations}")
    }

    /// Reads a line; `None`: it is none.
    pub(crate) fn read(line: &str) -> Option<Path> {
        let mut words = line.split(' ');
        let name = words.next()?.to_owned();
        let operations = words.next()?.parse().ok()?;
        let profiles = words.next()?.parse().ok()?;
        let allocations = words.next()?.parse().ok()?;
        Some(Path { name, operations, profiles, allocations })
    }
}

/// Callgrind counts from its call to its return.
#[inline(never)]
fn measured(all: &mut dyn FnMut()) {
    all();
    // A jump in the place of the call would have no return.
    black_box(&0);
}

/// Runs all paths, always in the same order.
pub(crate) fn run_all() -> Vec<Path> {
    let mut all = messages_and_seal();
    all.extend(refusals());
    all.push(interval());
    let clusters = [
        ("of_10", 10, Observers::Auto),
        ("of_1000", 1000, Observers::Auto),
        ("of_1000_mesh", 1000, Observers::All),
    ];
    for (name, nodes, observers) in clusters {
        let mut around = Around::new(nodes, observers);
        all.push(heartbeats(&format!("heartbeat_{name}"), &mut around));
        all.extend(records(name, (nodes - 1).min(240), &mut around));
        all.extend(picture(name, &mut around));
    }
    all
}

fn messages_and_seal() -> Vec<Path> {
    let mut all = Vec::new();
    let mut out = Vec::with_capacity(1200);
    for (name, message) in messages() {
        all.push(Path::many(&format!("encode_{name}"), || {
            out.clear();
            black_box(&message).encode(&mut out);
        }));
        let bytes = out.clone();
        all.push(Path::many(&format!("decode_{name}"), || {
            black_box(Message::decode(black_box(&bytes)).unwrap());
        }));
    }
    let (ring, plain, mut frame) = (ring(), plain(), Vec::with_capacity(1200));
    let key = frame_key(&ring);
    let mut sealed = plain.clone();
    key.seal_in_place(&mut sealed, 0, HEADER.len(), HEADER.number);
    all.push(Path::many("seal", || {
        frame.clear();
        frame.extend_from_slice(&plain);
        key.seal_in_place(&mut frame, 0, HEADER.len(), HEADER.number);
    }));
    all.push(Path::many("open", || {
        frame.clear();
        frame.extend_from_slice(&sealed);
        black_box(key.open_in_place(&mut frame, HEADER.len(), HEADER.number).unwrap());
    }));
    all.push(Path::many("bare_seal_and_open", || {
        black_box(bare_seal_and_open(&key, &plain, &mut frame));
    }));
    all.push(Path::many("derive_key", || drop(frame_key(black_box(&ring)))));
    all
}

fn refusals() -> Vec<Path> {
    let mut refusals = Refusals::new();
    let names: Vec<&str> = refusals.all.iter().map(|(name, ..)| *name).collect();
    let path = |(which, name)| Path::many(&format!("reject_{name}"), || refusals.refuse(which));
    names.into_iter().enumerate().map(path).collect()
}

/// An interval of 64 real nodes, by the datagram: sealed, opened, handled, with all timers.
fn interval() -> Path {
    let mut mesh = Mesh::new(64);
    let mut path = Path::new("datagram_in_a_mesh_of_64");
    path.run(64 * 63, || mesh.run(Duration::from_secs(1)));
    assert_eq!(mesh.datagrams, 64 * 63, "one exchange a pair");
    path
}

/// A ping that comes and the pong that goes.
fn heartbeats(name: &str, around: &mut Around) -> Path {
    let mut path = Path::new(name);
    while path.operations < MANY {
        let mut pings = around.pings();
        path.run(pings.len() as u64, || pings.iter_mut().for_each(|ping| around.heartbeat(ping)));
        around.after(pings);
    }
    path
}

/// Records that are news, 24 to a datagram.
fn records(name: &str, owners: usize, around: &mut Around) -> [Path; 2] {
    type Of = fn(&Around, usize) -> Body;
    [("profile", Around::profile as Of), ("bad_row", Around::bad_row as Of)].map(|(kind, of)| {
        let mut path = Path::new(&format!("merge_{kind}_{name}"));
        let mut told = around.told(owners, of);
        path.run(owners as u64, || around.merge(&mut told));
        around.rest();
        path
    })
}

/// What follows from all rows when one changes; for a reader; and when one peer's verdict changes.
fn picture(name: &str, around: &mut Around) -> [Path; 3] {
    let mut drawn = Path::new(&format!("picture_drawn_{name}"));
    for _ in 0..4 {
        around.change_a_row();
        drawn.run(1, || around.draw());
    }
    let snapshot = || drop(black_box(around.node.snapshot_of(Scope::Observed, around.now)));
    let mut read = Path::new(&format!("snapshot_{name}"));
    read.run(1, snapshot);
    let mut told = Path::new(&format!("verdict_changed_{name}"));
    for turn in 0..4 {
        let mut narrow = around.narrow(turn % 2 == 0);
        told.run(1, || around.changed_verdict(&mut narrow));
    }
    [drawn, read, told]
}
