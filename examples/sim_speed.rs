//! How fast the simulator runs: `cargo run --release --example sim_speed -- 10000 10`, nodes and virtual seconds; prints virtual
//! seconds a second on one core. Above 64 nodes each watches 16. All know all records from their start on, as in
//! `experiments -- rings NODES acquainted`.

use std::time::Duration;

use lastseen::net::Clock;
use lastseen::sim::{Setup, World};

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let [nodes, seconds] = args[..] else {
        eprintln!("usage: sim_speed NODES SECONDS");
        std::process::exit(64);
    };
    for cheap_seal in [true, false] {
        let mut world = World::new(Setup { cheap_seal, ..Setup::new(nodes) }, 1);
        world.exchange_records(false);
        world.run_for(Duration::from_secs(5));
        world.acquaint();
        world.exchange_records(true);
        world.run_for(Duration::from_secs(5));
        let (clock, steps) = (Clock, world.steps());
        let start = clock.now();
        world.run_for(Duration::from_secs(seconds as u64));
        let took = clock.now().since(start).as_secs_f64();
        println!(
            "{nodes} nodes, {}: {:.2} virtual seconds a second, {:.2} M steps a second, whole: {}",
            if cheap_seal { "a checksum for the seal" } else { "real seal" },
            seconds as f64 / took,
            (world.steps() - steps) as f64 / took / 1e6,
            world.is_whole(),
        );
    }
}
