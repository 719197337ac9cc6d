//! The experiments of `benches/RESULTS.md`, in the simulator: `cargo run --release --example experiments -- NAME`.
//!
//! `crash`, `stalls frozen|blocked [C [D]]` (the whole grid, or one C, or one C and D), `bursts`, `start`, `churn`, `heal`, `splits NODES`, `rings NODES [acquainted]` (the nodes know each other already), and `days LOSS DAYS SEED` (for instance `days 0.3 10 1`).

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lastseen::PeerStatus;
use lastseen::proto::Change;
use lastseen::sim::rng::Rng;
use lastseen::sim::splits::{Confusion, Split};
use lastseen::sim::world::index;
use lastseen::sim::{Rule, Scope, Setup, World};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|w| w.parse::<f64>().ok());
    match words.first().map(String::as_str) {
        Some("crash") => crash(),
        Some("stalls") => match words.get(1).map(String::as_str) {
            Some("frozen") => stalls(false, [number(2), number(3), number(4)]),
            Some("blocked") => stalls(true, [number(2), number(3), number(4)]),
            _ => usage(),
        },
        Some("bursts") => bursts(),
        Some("start") => start(),
        Some("churn") => churn(),
        Some("heal") => heal(),
        Some("splits") => match number(1) {
            Some(nodes) => splits(nodes as u32),
            _ => usage(),
        },
        Some("rings") => match number(1) {
            Some(nodes) => rings(nodes as usize, words.get(2).is_some_and(|word| word == "acquainted")),
            _ => usage(),
        },
        Some("days") => match (number(1), number(2), number(3)) {
            (Some(loss), Some(days), Some(seed)) => self::days(loss, days, seed as u64),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() {
    eprintln!(
        "usage: experiments crash | stalls frozen|blocked [C [D [I]]] | bursts | start | churn | heal | splits NODES | rings NODES [acquainted] | days LOSS DAYS SEED"
    );
    std::process::exit(64);
}

fn setup(nodes: usize) -> Setup {
    Setup { cheap_seal: true, ..Setup::mesh(nodes) }
}

/// A cluster in its steady state.
fn whole(setup: Setup, seed: u64) -> World {
    let mut world = World::new(setup, seed);
    world.run_until(10 * SECOND, World::is_whole).expect("it starts");
    world.run_for(10 * SECOND);
    world.take_records();
    world
}

/// New statuses since the last look: when, observer, subject, which.
fn changes(world: &mut World) -> Vec<(Duration, u32, u32, PeerStatus)> {
    let start = world.now() - world.elapsed();
    let of = |r: lastseen::sim::world::Record| match r.event.change {
        Change::Status { to, .. } => Some((r.at.since(start), r.node, index(&r.event.peer?)?, to)),
        _ => None,
    };
    world.take_records().into_iter().filter_map(of).collect()
}

/// The half, the 99th of a hundred, and the greatest, in seconds.
fn spread(all: &mut [Duration]) -> String {
    all.sort();
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize].as_secs_f64();
    format!("{:5.2} {:5.2} {:5.2}", at(0.5), at(0.99), at(1.0))
}

/// S1: from a crash to the first and the last Down.
fn crash() {
    println!("S1: silent crashes at random phases; seconds to the first and to the last Down (p50 p99 max)");
    println!("{:>5} {:>7} | {:^17} | {:^17} | a node and second", "nodes", "crashes", "first", "last");
    for (nodes, trials) in [(5u32, 1000), (16, 1000), (64, 300), (128, 100)] {
        let mut world = whole(setup(nodes as usize), 1);
        let mut rng = Rng::new(2);
        let (mut first, mut last) = (Vec::new(), Vec::new());
        let before = (world.elapsed(), world.host(0).sent());
        world.run_for(60 * SECOND);
        let (sent, bytes) = world.host(0).sent();
        let quiet = (world.elapsed() - before.0).as_secs_f64();
        for _ in 0..trials {
            world.run_for(rng.between(Duration::ZERO, SECOND));
            world.take_records();
            let (victim, at) = (rng.below(nodes as usize) as u32, world.elapsed());
            world.crash(victim, false);
            world.run_for(8 * SECOND);
            let downs: Vec<Duration> = changes(&mut world)
                .into_iter()
                .filter(|c| c.2 == victim && c.3 == PeerStatus::Down)
                .map(|c| c.0 - at)
                .collect();
            assert_eq!(downs.len(), nodes as usize - 1, "all see it within 8 s");
            first.extend(downs.iter().min());
            last.extend(downs.iter().max());
            world.start(victim);
            world.run_for(4 * SECOND);
        }
        println!(
            "{nodes:>5} {trials:>7} | {} | {} | {:.2} datagrams, {:.0} B with headers",
            spread(&mut first),
            spread(&mut last),
            (sent - before.1.0) as f64 / quiet,
            (bytes - before.1.1) as f64 / quiet + (sent - before.1.0) as f64 / quiet * 28.0,
        );
    }
}

/// What one run of S3 came to.
#[derive(Clone, Copy, Default)]
struct Stalled {
    /// Downs about nodes that never stalled, of these at such nodes, Suspected about them, Downs about stalled ones.
    wrong: u32,
    minus: u32,
    suspected: u32,
    right: u32,
}

/// S3: Lifeguard's grid: C of 128 nodes are stalled for D, run for I, and so on for two minutes.
fn stalls(blocked: bool, [count, stalled, awake]: [Option<f64>; 3]) {
    let is_in = |only: Option<f64>, n: f64| only.is_none_or(|only| n == only);
    println!(
        "S3: 128 nodes, C of them stalled for D, awake for I, over and over for 120 s; false Downs about"
    );
    println!("healthy nodes (FP), of these at healthy nodes (FP-); Downs about stalled nodes beside");
    let kind = if blocked { "blocked I/O" } else { "frozen" };
    let (mut all, mut runs) = (Stalled::default(), 0);
    let counts = [1u32, 4, 8, 12, 16, 20, 24, 28, 32];
    for count in counts.into_iter().filter(|c| is_in(count, f64::from(*c))) {
        let grid: Vec<(u64, u64)> = [128u64, 512, 2048, 8192, 32_768]
            .into_iter()
            .flat_map(|d| [1u64, 4, 16, 64, 256, 1024, 4096, 16_384].map(|i| (d, i)))
            .filter(|(d, i)| is_in(stalled, *d as f64) && is_in(awake, *i as f64))
            .collect();
        for run in side_by_side(&grid, |(d, i)| stalls_once(blocked, count, d, i)) {
            runs += 1;
            all.wrong += run.wrong;
            all.minus += run.minus;
            all.suspected += run.suspected;
            all.right += run.right;
        }
        println!(
            "{kind}, C to {count}: {runs} runs: FP {}, FP- {}, suspected {}; about stalled nodes {}",
            all.wrong, all.minus, all.suspected, all.right
        );
    }
}

fn stalls_once(blocked: bool, count: u32, stalled: u64, awake: u64) -> Stalled {
    let mut world = whole(setup(128), u64::from(count) + stalled + awake);
    let end = world.now() + 120 * SECOND;
    while world.now() < end {
        stall(&mut world, count, blocked, true);
        world.run_for(MS * stalled as u32);
        stall(&mut world, count, blocked, false);
        world.run_for(MS * awake as u32);
    }
    world.run_for(10 * SECOND);
    let mut run = Stalled::default();
    for (at, observer, subject, to) in changes(&mut world) {
        let healthy = subject >= count;
        match to {
            PeerStatus::Down if healthy => {
                run.wrong += 1;
                run.minus += u32::from(observer >= count);
                println!(
                    "C {count}, D {stalled} ms, I {awake} ms, {at:?}: n{observer} calls n{subject} Down"
                );
            }
            PeerStatus::Down => run.right += 1,
            PeerStatus::Suspected if healthy => run.suspected += 1,
            _ => {}
        }
    }
    let (datagrams, bytes) =
        (0..128).map(|n| world.host(n).sent()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let per_node = 128.0 * world.elapsed().as_secs_f64();
    eprintln!(
        "C {count}, D {stalled} ms, I {awake} ms: {:.0} datagrams, {:.0} kB a node and second",
        datagrams as f64 / per_node,
        bytes as f64 / per_node / 1e3
    );
    run
}

/// The results of a function over all items, in their order, on as many threads as there are cores.
fn side_by_side<T: Copy + Sync, R: Send>(items: &[T], work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at).copied() else { break };
                    let result = work(item);
                    results.lock().expect("no thread panicked").push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panicked");
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

fn stall(world: &mut World, count: u32, blocked: bool, begins: bool) {
    for node in 0..count {
        if blocked { world.block(node, begins) } else { world.freeze(node, begins) }
    }
}

/// S4: false Downs against the length of bursts.
fn bursts() {
    println!(
        "S4: 16 nodes for an hour, each direction of each link with bursts of total loss, a twentieth of the time"
    );
    println!("{:>12} {:>12} {:>8}", "mean burst", "suspected", "Down");
    for burst in [0.5, 1.0, 2.0, 5.0] {
        let mut world = whole(setup(16), 1);
        let bad = Duration::from_secs_f64(burst);
        world.add_rule(Scope::All, Rule::Burst { bad, good: bad * 19 });
        world.run_for(3600 * SECOND);
        let all = changes(&mut world);
        let count = |status| all.iter().filter(|c| c.3 == status).count();
        println!("{burst:>10} s {:>12} {:>8}", count(PeerStatus::Suspected), count(PeerStatus::Down));
    }
}

/// S6: from the start of all within a second until everybody has heard everybody.
fn start() {
    println!("S6: all nodes start within a second; until everybody has proof of everybody");
    for (nodes, peers) in
        [(16, None), (64, None), (128, None), (256, None), (1000, Some(16)), (10_000, Some(16))]
    {
        let mut world = World::new(Setup { peers, start_within: SECOND, ..setup(nodes) }, 1);
        let mut took = None;
        for tick in 1..200u32 {
            world.run_for(50 * MS);
            // Nobody waits for who has not started.
            if 50 * MS * tick >= SECOND && world.is_whole() {
                took = Some(50 * MS * tick);
                break;
            }
        }
        let bytes: u64 =
            (0..nodes as u32).map(|n| world.host(n).sent().1 + world.host(n).sent().0 * 28).sum();
        let took = took.map_or("not within 10 s".to_owned(), |t| format!("{:.2} s", t.as_secs_f64()));
        let of = peers.map_or("all others".to_owned(), |p| format!("{p} peers"));
        println!("{nodes:>6} nodes, {of:<10}: {took}, {:.1} kB a node", bytes as f64 / nodes as f64 / 1e3);
    }
}

/// S7: a rolling restart, and a tenth at once.
fn churn() {
    println!("S7: restarts without a word, each down for 300 ms; seen by the others, and false Downs");
    for nodes in [16u32, 64, 128] {
        for at_once in [1, nodes / 10] {
            let mut world = whole(setup(nodes as usize), 1);
            let rounds = 32;
            for round in 0..rounds {
                let who: Vec<u32> = (0..at_once).map(|n| (round * at_once + n) % nodes).collect();
                who.iter().for_each(|n| world.crash(*n, false));
                world.run_for(300 * MS);
                who.iter().for_each(|n| world.start(*n));
                world.run_for(if at_once == 1 { 700 * MS } else { 9700 * MS });
            }
            let settled = world.run_until(20 * SECOND, World::is_settled);
            let records = world.take_records();
            let restarts = records.iter().filter(|r| r.event.change == Change::Restart).count();
            let downs = records
                .iter()
                .filter(|r| matches!(r.event.change, Change::Status { to: PeerStatus::Down, .. }))
                .count();
            println!(
                "{nodes:>5} nodes, {at_once:>2} at a time, {rounds} rounds: {restarts} restarts seen of {}, {downs} Downs, settled {:.2} s after the last",
                rounds * at_once * (nodes - 1),
                settled.map_or(f64::NAN, |t| t.as_secs_f64()),
            );
        }
    }
}

/// How long a partition takes to heal, by how long it was.
fn heal() {
    println!(
        "partitions of 6 to 60 s, in halves as equal as can be; seconds until all call all Healthy (p50 p99 max)"
    );
    for nodes in [3u32, 5, 16] {
        for loss in [0.0, 0.1, 0.3] {
            let mut took = Vec::new();
            for length in (12..=120).map(|halves| SECOND * halves / 2) {
                for seed in 0..8 {
                    let mut world = whole(setup(nodes as usize), seed);
                    let (one, other) = ((0..nodes / 2).collect(), (nodes / 2..nodes).collect());
                    let scope = Scope::Across(vec![one, other]);
                    world.add_rule(Scope::All, Rule::Loss(loss));
                    world.add_rule(scope.clone(), Rule::Cut);
                    world.run_for(length);
                    world.remove_rule(&scope, &Rule::Cut);
                    let healed = |world: &World| {
                        let calls =
                            |a, b| world.status(a, b).is_none_or(|status| status == PeerStatus::Healthy);
                        (0..nodes).all(|a| (0..nodes).all(|b| calls(a, b)))
                    };
                    took.push(world.run_until(30 * SECOND, healed).expect("it heals within 30 s"));
                }
            }
            println!("{nodes:>3} nodes, loss {loss}: {}", spread(&mut took));
        }
    }
}

/// False Downs of 16 nodes under random loss, over days.
fn days(loss: f64, days: f64, seed: u64) {
    let mut world = whole(setup(16), seed);
    world.add_rule(Scope::All, Rule::Loss(loss));
    let (mut downs, mut suspected) = (0, 0);
    let hours = (days * 24.0) as u32;
    for hour in 1..=hours {
        world.run_for(3600 * SECOND);
        for (at, observer, subject, to) in changes(&mut world) {
            suspected += u32::from(to == PeerStatus::Suspected);
            if to == PeerStatus::Down {
                downs += 1;
                println!("{at:?}: n{observer} calls n{subject} Down");
            }
        }
        if hour % 24 == 0 || hour == hours {
            let missed: u64 =
                (0..16).filter_map(|n| world.node(n)).map(|n| n.stats().heartbeats_missed).sum();
            let q = missed as f64 / (240.0 * 3600.0 * f64::from(hour));
            println!(
                "loss {loss}, seed {seed}, day {:.1}: {downs} false Downs, {suspected} suspicions; {:.4} % of heartbeats missed; independent misses would give {:.5} Downs",
                f64::from(hour) / 24.0,
                q * 100.0,
                240.0 * 3600.0 * f64::from(hour) * (1.0 - q) * q.powi(5),
            );
        }
    }
}

/// Large clusters, each node with 16 observers at most, under 1 % loss: start, steady cost, a crash, a restart.
fn rings(nodes: usize, acquainted: bool) {
    let loss = Rule::Loss(0.01);
    let mut setup = Setup { cheap_seal: true, start_within: SECOND, ..Setup::new(nodes) };
    setup.links.push(loss);
    let mut world = World::new(setup, 1);
    let sent = |world: &World| {
        let all = (0..nodes as u32).map(|n| world.host(n).sent());
        all.fold((0, 0), |sum, (datagrams, bytes)| (sum.0 + datagrams, sum.1 + bytes + 28 * datagrams))
    };
    let each = |(datagrams, bytes): (u64, u64), seconds: f64| {
        let of = |n: u64| n as f64 / nodes as f64 / seconds;
        format!(
            "{:.2} datagrams and {:.0} bytes a node and second, headers included",
            of(datagrams),
            of(bytes)
        )
    };
    if acquainted {
        acquaint(&mut world)
    } else {
        world.run_for(SECOND)
    }
    let started = until(&mut world, 120, World::is_whole);
    println!("{nodes} nodes, 1 % loss. All count all as heard {started} after the last one started");
    let (datagrams, bytes) = sent(&world);
    println!(
        "until then {} datagrams and {} kB a node",
        datagrams / nodes as u64,
        bytes / 1000 / nodes as u64
    );
    let equal = until(&mut world, 300, World::is_settled);
    let (datagrams, bytes) = sent(&world);
    println!(
        "all tables equal {equal} later; until then {} datagrams and {} kB a node",
        datagrams / nodes as u64,
        bytes / 1000 / nodes as u64
    );
    world.run_for(5 * SECOND);
    let before = sent(&world);
    world.run_for(20 * SECOND);
    let after = sent(&world);
    println!("steady: {}", each((after.0 - before.0, after.1 - before.1), 20.0));
    world.take_records();
    for trial in 0..5 {
        let victim = (nodes / 7 * trial) as u32;
        let before = sent(&world);
        world.crash(victim, false);
        let all_say = |status| {
            move |world: &World| {
                (0..nodes as u32).all(|n| n == victim || world.status(n, victim) == Some(status))
            }
        };
        let down = until(&mut world, 20, all_say(PeerStatus::Down));
        let after = sent(&world);
        println!(
            "crash of n{victim}: Down at all after {down}; {} datagrams a node",
            (after.0 - before.0) / nodes as u64
        );
        world.run_for(5 * SECOND);
        world.start(victim);
        let up = until(&mut world, 20, all_say(PeerStatus::Healthy));
        println!("restart of n{victim}: Healthy at all after {up}");
        world.run_for(10 * SECOND);
    }
    let mut wrong = 0;
    for (_, _, subject, to) in changes(&mut world) {
        wrong += u32::from(to == PeerStatus::Down && (0..5).all(|t| subject != (nodes / 7 * t) as u32));
    }
    println!("Downs about nodes that ran: {wrong}");
    rolling(&mut world, nodes as u32);
}

/// S7 in rings: one restart without a word a second for half a minute.
fn rolling(world: &mut World, nodes: u32) {
    let begin = world.elapsed();
    for n in 0..30 {
        let who = (n * 331 + 17) % nodes;
        world.crash(who, false);
        world.run_for(300 * MS);
        world.start(who);
        world.run_for(700 * MS);
    }
    let settled = until(world, 120, World::is_settled);
    let all = changes(world);
    let count = |status| all.iter().filter(|(.., to)| *to == status).count();
    println!(
        "one restart a second for {:.0} s: {} Downs, {} suspicions; settled {settled} after the last",
        (world.elapsed() - begin).as_secs_f64().min(30.0),
        count(PeerStatus::Down),
        count(PeerStatus::Suspected),
    );
}

/// What comes after the start is the same, and can be measured within an hour where there are 10,000.
fn acquaint(world: &mut World) {
    world.exchange_records(false);
    world.run_for(5 * SECOND);
    world.acquaint();
    world.exchange_records(true);
}

/// Runs until something holds, looked at a hundred times a second; how long that took.
fn until(world: &mut World, seconds: u32, done: impl Fn(&World) -> bool) -> String {
    let start = world.elapsed();
    for _ in 0..seconds * 100 {
        if done(world) {
            return format!("{:.2} s", (world.elapsed() - start).as_secs_f64());
        }
        world.run_for(10 * MS);
    }
    format!("more than {seconds} s")
}

/// S5: every split of a few nodes, and what each node says of each other one 12 s later.
fn splits(nodes: u32) {
    let mut confusion = Confusion::default();
    for (seed, split) in Split::all(nodes).into_iter().enumerate() {
        split.run(seed as u64, &mut confusion);
    }
    println!(
        "S5: {} splits of {nodes} nodes; ordered pairs by what should be said and what is said",
        confusion.splits
    );
    for ((kind, should, said), count) in &confusion.pairs {
        println!("{:<9} {should:<10} {said:<10} {count}", format!("{kind:?}"));
    }
    println!("right: {:.2} %", confusion.right() * 100.0);
    println!("two quorums later than 3 s after the cut: {}", confusion.two_quorums.len());
    confusion.two_quorums.iter().chain(&confusion.wrong).for_each(|line| println!("{line}"));
}
