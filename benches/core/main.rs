//! What the core costs: encoding, decoding, the seal; a heartbeat between two nodes, in a mesh of 64, and of one core in
//! clusters of up to 10,000; records, picture and verdict there.
//!
//! `heartbeat/bare_seal_and_open` is the yardstick: one AEAD seal and one open of the same bytes. `one_core` prints its
//! ratio to it, each pair of both measured within a moment.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

mod around;
mod frames;
mod mesh;
mod player;

use std::cell::{LazyCell, RefCell};
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lastseen::proto::messages::Message;
use lastseen::proto::{Observers, Scope};

use around::Around;
use frames::{HEADER, bare_seal_and_open, frame_key, messages, plain, ring};
use mesh::{Mesh, Refusals};

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

/// Clusters around one node, by size: up to 64 peers, and with all as observers, everybody watches everybody.
const CLUSTERS: [(&str, usize, Observers); 5] = [
    ("10", 10, Observers::Auto),
    ("1000", 1_000, Observers::Auto),
    ("10000", 10_000, Observers::Auto),
    ("1000_mesh", 1_000, Observers::All),
    ("10000_mesh", 10_000, Observers::All),
];

fn heartbeat(c: &mut Criterion) {
    let mut group = c.benchmark_group("heartbeat");
    let (key, plain, mut frame) = (frame_key(&ring()), plain(), Vec::with_capacity(1200));
    group.bench_function("bare_seal_and_open", |b| b.iter(|| bare_seal_and_open(&key, &plain, &mut frame)));
    for count in [2, 64] {
        // An interval of the mesh: one ping and one pong a pair, sealed, opened and handled, with all timers.
        let mut mesh = Mesh::new(count);
        mesh.run(Duration::from_secs(1));
        assert_eq!(mesh.datagrams, (count * (count - 1)) as u64, "one exchange a pair");
        group.throughput(Throughput::Elements(mesh.datagrams));
        group.bench_function(format!("interval_of_{count}_nodes"), |b| {
            b.iter(|| mesh.run(Duration::from_secs(1)));
        });
    }
}

/// A ping that comes and the pong that goes, at one node: open, handle, answer, seal.
fn one_core(c: &mut Criterion) {
    let mut group = c.benchmark_group("one_core");
    for (name, nodes, observers) in CLUSTERS {
        let mut around = None;
        group.bench_function(name, |b| {
            let around = around.get_or_insert_with(|| Around::new(nodes, observers));
            b.iter_custom(|iterations| {
                let (mut left, mut took) = (iterations as usize, Duration::ZERO);
                while left > 0 {
                    let (spent, beats) = timed_heartbeats(around, left);
                    (left, took) = (left - beats, took + spent);
                }
                took
            });
        });
        if let Some(around) = &mut around {
            println!("one_core/{name}: {:.2} times a bare seal and open, median of 31 pairs", ratio(around));
        }
    }
}

/// At most so many heartbeats of one second: how long they took, and how many there were.
fn timed_heartbeats(around: &mut Around, most: usize) -> (Duration, usize) {
    let mut pings = around.pings();
    let rest = pings.split_off(pings.len().min(most));
    let begin = Instant::now();
    pings.iter_mut().for_each(|ping| around.heartbeat(ping));
    let took = begin.elapsed();
    let beats = pings.len();
    around.receive(rest);
    around.after(pings);
    (took, beats)
}

/// A heartbeat in units of one seal and one open of as many bytes, each measured right after the other.
fn ratio(around: &mut Around) -> f64 {
    let (key, plain, mut frame) = (frame_key(&ring()), plain(), Vec::with_capacity(1200));
    let mut pair = || {
        let (mut took, mut beats) = (Duration::ZERO, 0);
        while beats < 500 {
            let (spent, more) = timed_heartbeats(around, usize::MAX);
            (took, beats) = (took + spent, beats + more);
        }
        let begin = Instant::now();
        for _ in 0..beats {
            black_box(bare_seal_and_open(&key, &plain, &mut frame));
        }
        took.as_secs_f64() / begin.elapsed().as_secs_f64()
    };
    let mut all: Vec<f64> = (0..31).map(|_| pair()).collect();
    all.sort_by(f64::total_cmp);
    all[15]
}

/// What others tell of themselves goes into the table: 24 records a datagram, opened and decoded.
fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("records");
    for (name, nodes, observers) in CLUSTERS {
        for (kind, of) in [("profiles", Around::profile as fn(&_, _) -> _), ("bad_rows", Around::bad_row)] {
            let around = LazyCell::new(|| RefCell::new(Around::new(nodes, observers)));
            let owners = (nodes - 1).min(999);
            group.throughput(Throughput::Elements(owners as u64));
            group.bench_function(format!("{kind}/{name}"), |b| {
                b.iter_batched_ref(
                    || around.borrow_mut().told(owners, of),
                    |told| around.borrow_mut().merge(told),
                    BatchSize::PerIteration,
                );
            });
        }
    }
}

/// What follows from all rows: drawn anew when one of them changed, and told to a reader.
fn picture(c: &mut Criterion) {
    let mut group = c.benchmark_group("picture");
    group.sample_size(20);
    for (name, nodes, observers) in CLUSTERS {
        let around = LazyCell::new(|| RefCell::new(Around::new(nodes, observers)));
        group.bench_function(format!("drawn/{name}"), |b| {
            b.iter_batched(
                || around.borrow_mut().change_a_row(),
                |()| around.borrow_mut().draw(),
                BatchSize::PerIteration,
            );
        });
        for (scope, of) in [("observed", Scope::Observed), ("whole", Scope::Whole)] {
            group.bench_function(format!("{scope}/{name}"), |b| {
                let around = around.borrow();
                b.iter(|| around.node.snapshot_of(of, around.now));
            });
        }
        // A peer says something that changes its verdict: judged, explained, and made an event.
        let mut narrow = false;
        group.bench_function(format!("verdict/{name}"), |b| {
            b.iter_batched_ref(
                || {
                    narrow = !narrow;
                    around.borrow_mut().narrow(narrow)
                },
                |told| around.borrow_mut().changed_verdict(told),
                BatchSize::PerIteration,
            );
        });
    }
}

/// What a datagram costs that is none: by the check that refuses it.
fn reject(c: &mut Criterion) {
    let mut group = c.benchmark_group("reject");
    let mut refusals = Refusals::new();
    for which in 0..refusals.all.len() {
        group.bench_function(refusals.all[which].0, |b| b.iter(|| refusals.refuse(which)));
    }
}

criterion_group!(core, encode, decode, seal, heartbeat, one_core, records, picture, reject);
criterion_main!(core);
