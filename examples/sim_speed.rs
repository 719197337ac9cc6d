//! How fast the simulator runs: `cargo run --release --example sim_speed -- 10000 16 10`, nodes, peers in each
//! roster and virtual seconds; prints virtual seconds a second on one core.

use std::time::Duration;

use lastseen::net::Clock;
use lastseen::sim::{Setup, World};

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    // Every roster differs here, so tables are read page by page at first, and less and less.
    let warm_up = 90;
    let [nodes, peers, seconds] = args[..] else {
        eprintln!("usage: sim_speed NODES PEERS SECONDS");
        std::process::exit(64);
    };
    for cheap_seal in [false, true] {
        let mut world = World::new(Setup { peers: Some(peers), cheap_seal, ..Setup::new(nodes) }, 1);
        world.run_for(Duration::from_secs(warm_up));
        let (clock, steps) = (Clock, world.steps());
        let start = clock.now();
        world.run_for(Duration::from_secs(seconds as u64));
        let took = clock.now().since(start).as_secs_f64();
        println!(
            "{nodes} nodes, {peers} peers each, {}: {:.2} virtual seconds a second, {:.2} M steps a second, whole: {}",
            if cheap_seal { "cheap seal" } else { "real seal" },
            seconds as f64 / took,
            (world.steps() - steps) as f64 / took / 1e6,
            world.is_whole(),
        );
    }
}
