//! The swarm: a seed makes a scenario, its settings and its faults.

use super::rng::Rng;
use super::scenario::{Between, Fault, Link, Scenario, Settings, Timed};

/// The scenario of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed ^ 0x5EED_5EED);
    let rng = &mut rng;
    // Of every four seeds one makes a cluster in which not everybody watches everybody; of sixteen one a larger mesh.
    let rings = seed % 4 == 3;
    let nodes = match seed % 16 {
        _ if rings => 8 + rng.below(17),
        1 => 11 + rng.below(22),
        _ => 2 + rng.below(9),
    };
    let settings = settings(rng);
    let interval = settings.heartbeat_interval.unwrap_or(1.0);
    let timeout = settings.heartbeat_timeout.unwrap_or(interval / 2.0);
    let duration = interval * (20.0 + rng.share() * 60.0);
    let mut faults: Vec<Timed> =
        (0..1 + rng.below(5)).map(|_| timed(rng, nodes, duration, interval)).collect();
    let crashes: Vec<Timed> = faults.iter().filter_map(|roster| crash_within(rng, nodes, roster)).collect();
    faults.extend(crashes);
    let mut never = if rng.chance(0.1) { some(rng, nodes.div_ceil(2)) } else { Vec::new() };
    // With the worst of the weather a round trip stays below an interval, as the detector expects.
    let base = timeout * rng.pick(&[0.0005, 0.005, 0.02, 0.05]);
    let mut links = vec![Link::Delay { base, jitter: base * rng.share() * 2.0 }];
    if rng.chance(0.2) {
        links.push(Link::Duplicate { share: 0.1, within: interval * 2.0 });
    }
    let (lazy, drift) = (rng.chance(0.3), rng.pick(&[0, 0, 200]));
    if rng.chance(0.2) {
        links.push(Link::Mtu { bytes: 576 + rng.below(600) as u32 });
    }
    let observers = rings.then(|| rng.pick(&[4, 6, 8]));
    if let Some(observers) = observers {
        // As many as each node has observers can split the rest: no path of nodes that observe each other joins them.
        never.truncate(observers as usize / 2 - 1);
    }
    Scenario {
        about: format!("swarm seed {seed}"),
        seeds: vec![seed],
        nodes,
        peers: None,
        observers,
        warm_up: interval * 8.0,
        duration,
        settle_within: None,
        guarded_at: Vec::new(),
        settings,
        links,
        faults,
        lazy,
        drift,
        cheap_seal: false,
        never,
        ill: Vec::new(),
        sane: Vec::new(),
    }
}

fn settings(rng: &mut Rng) -> Settings {
    let interval = rng.pick(&[0.2, 0.5, 1.0, 1.0, 2.0]);
    let suspect_after = 1 + rng.below(3) as u32;
    Settings {
        heartbeat_interval: Some(interval),
        heartbeat_timeout: Some(interval * rng.pick(&[0.3, 0.5, 0.5, 0.8, 1.0])),
        suspect_after: Some(suspect_after),
        down_after: Some(suspect_after + 2 + rng.below(4) as u32),
        max_backoff: Some(interval * rng.pick(&[2.0, 5.0, 10.0, 10.0, 20.0])),
    }
}

fn some(rng: &mut Rng, nodes: usize) -> Vec<u32> {
    let count = 1 + rng.below(nodes.div_ceil(2));
    let mut all: Vec<u32> = (0..nodes as u32).collect();
    for n in 0..count {
        let other = n + rng.below(nodes - n);
        all.swap(n, other);
    }
    all.truncate(count);
    all
}

fn timed(rng: &mut Rng, nodes: usize, duration: f64, interval: f64) -> Timed {
    let at = duration * rng.share() * 0.8;
    let length = Some(interval * rng.pick(&[0.2, 1.0, 3.0, 8.0, 20.0, 60.0]) * (0.5 + rng.share()));
    let every = rng.chance(0.2).then(|| interval * (2.0 + rng.share() * 20.0));
    // What begins again must have ended.
    let length = length.map(|l| every.map_or(l, |e| l.min(e * 0.8)));
    let fault = fault(rng, nodes, interval);
    let (every, length) = match fault {
        // Loss in step with the slots: the same part of every interval.
        Fault::Links { between: None, rule: Link::Cut } => {
            (Some(interval), Some(interval * (0.2 + rng.share() * 0.35)))
        }
        Fault::Hostile { .. } => (Some(interval), Some(interval / 2.0)),
        // It begins with the next turn.
        Fault::Pause { by, .. } => (every.map(|e| e + by * 2.0), Some(by + interval * 2.0)),
        _ => (every, length),
    };
    Timed { at, length, every, fault }
}

/// Half of the changes of a roster meet a crash before they end.
fn crash_within(rng: &mut Rng, nodes: usize, roster: &Timed) -> Option<Timed> {
    let (Fault::Roster { .. }, Some(length)) = (&roster.fault, roster.length) else { return None };
    let fault = Fault::Crash { nodes: some(rng, nodes), refuses: rng.chance(0.5) };
    let (at, length) = (roster.at + length * rng.share(), Some(length * rng.share()));
    rng.chance(0.5).then_some(Timed { at, length, every: None, fault })
}

fn fault(rng: &mut Rng, nodes: usize, interval: f64) -> Fault {
    match rng.below(21) {
        0 => Fault::Crash { nodes: some(rng, nodes), refuses: rng.chance(0.5) },
        1 => Fault::Leave { nodes: some(rng, nodes), for_good: rng.chance(0.3) },
        2 => Fault::Freeze { nodes: some(rng, nodes) },
        3 => Fault::Block { nodes: some(rng, nodes) },
        4 => Fault::Deaf { nodes: some(rng, nodes) },
        5 => Fault::Mute { nodes: some(rng, nodes) },
        6 => Fault::Slow { nodes: some(rng, nodes), by: interval * rng.share() },
        7 => Fault::Move { nodes: some(rng, nodes) },
        8 => Fault::Hostile { nodes: some(rng, nodes), rate: 20.0 },
        9 => Fault::Pause { nodes: some(rng, nodes), by: interval * rng.pick(&[0.3, 1.0, 3.0, 10.0]) },
        10 => {
            let one = some(rng, nodes);
            let groups = vec![one.clone(), (0..nodes as u32).filter(|n| !one.contains(n)).collect()];
            Fault::Links { between: Some(Between::Groups(groups)), rule: Link::Cut }
        }
        11 => {
            let between = Between::OneWay(some(rng, nodes), some(rng, nodes));
            let rule = rng.pick(&[Link::Cut, Link::Cut, Link::Refuse]);
            Fault::Links { between: Some(between), rule }
        }
        12 => Fault::Roster { nodes: some(rng, nodes), without: some(rng, nodes) },
        13 => Fault::Vm { nodes: some(rng, nodes), loses: rng.chance(0.3) },
        14 => Fault::Rate { nodes: some(rng, nodes), ppm: rng.pick(&[-1000, -300, 300, 1000]) },
        15 => Fault::TwoAddresses { nodes: some(rng, nodes) },
        16 => {
            let mut pairs = some(rng, nodes);
            pairs.truncate(pairs.len() / 2 * 2);
            Fault::Swap { nodes: pairs }
        }
        17 => Fault::Firewall { nodes: some(rng, nodes) },
        18 => {
            // Ill nodes: a bad cable, a bad port.
            let ill = Some(Between::Touching(some(rng, nodes.div_ceil(3))));
            Fault::Links { between: ill, rule: Link::Loss { p: 0.8 } }
        }
        19 => Fault::Links { between: None, rule: Link::Cut },
        _ => Fault::Links { between: None, rule: weather(rng, interval) },
    }
}

fn weather(rng: &mut Rng, interval: f64) -> Link {
    match rng.below(5) {
        0 => Link::Loss { p: rng.pick(&[0.01, 0.05, 0.1, 0.3]) },
        1 => Link::Burst {
            bad: interval * rng.share() * 3.0 + 0.001,
            good: interval * (2.0 + rng.share() * 20.0),
        },
        2 => Link::Tail { share: 0.05, mean: interval * rng.share() * 5.0 },
        3 => Link::Delay { base: interval * rng.share() * 0.15, jitter: interval * rng.share() * 0.1 },
        _ => Link::Duplicate { share: 0.3, within: interval * 3.0 },
    }
}
