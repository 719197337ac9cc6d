//! lastseen beside its rivals: the same steady, crash and stop runs with each, real processes on one machine, one table.
//!
//! ```sh
//! cargo build --release --bin lastseen
//! cargo run --release --manifest-path benches/compare/Cargo.toml -- --nodes 32 --crashes 5 --stops 3
//! ```
//!
//! Needs root, for network namespaces. What the systems cost is measured one after the other; the faults come to all of
//! them at once.

mod agent;
mod cluster;
mod cost;
mod runs;
mod system;
mod table;

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use nix::sched::{CloneFlags, unshare};

use crate::runs::Results;
use crate::system::System;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
#[command(
    version,
    about = "lastseen beside its rivals, on this machine",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    agent: Option<Role>,
    #[command(flatten)]
    plan: Plan,
}

#[derive(Subcommand)]
enum Role {
    /// One node of a rival, as the comparison starts it.
    #[command(hide = true)]
    Agent(agent::Agent),
}

/// What is run.
#[derive(Args)]
struct Plan {
    /// Nodes of each cluster.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(2..=1000))]
    nodes: u16,
    /// Seconds over which the cost is measured; 0: it is not.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How often each system's cost is measured, in turns; the table has the medians.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// SIGKILLs to a node drawn at random, which is started again after each.
    #[arg(long, default_value_t = 0)]
    crashes: u32,
    /// SIGSTOPs, likewise.
    #[arg(long, default_value_t = 0)]
    stops: u32,
    /// Seconds after which a fault that is not known to all counts as not told.
    #[arg(long, default_value_t = 60)]
    deadline: u64,
    /// The daemon.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/lastseen"))]
    lastseen: PathBuf,
    /// lastseen, lastseen:KEY=VALUE,... (settings), serf, foca, memberlist, chitchat, bare-spread, bare-burst.
    /// [default: each, lastseen also with 4 observers and, above 65 nodes, with all]
    systems: Vec<System>,
}

impl Plan {
    fn systems(&self) -> Vec<System> {
        if self.systems.is_empty() { System::all(self.nodes.into()) } else { self.systems.clone() }
    }

    fn over(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    match cli.agent {
        Some(Role::Agent(agent)) => agent.run(),
        None => compare(&cli.plan),
    }
}

fn compare(plan: &Plan) -> Result<(), Failure> {
    if !plan.lastseen.exists() {
        return Err(format!("{}: first cargo build --release --bin lastseen", plan.lastseen.display()).into());
    }
    let systems = plan.systems();
    let mut results: Vec<Results> = systems.iter().map(|_| Results::default()).collect();
    let rounds = if plan.seconds > 0 { plan.rounds } else { 0 };
    for round in 1..=rounds {
        for (system, results) in systems.iter().zip(&mut results).filter(|(system, _)| system.is_installed())
        {
            eprintln!("cost, round {round}: {system}");
            results.failed |= has_failed(system, apart(|| results.cost(system, plan)));
        }
    }
    // These wait for each other's timers, not for the processor: all at once.
    std::thread::scope(|scope| {
        for (system, results) in systems.iter().zip(&mut results).filter(|(system, _)| system.is_installed())
        {
            scope.spawn(move || {
                results.failed |= has_failed(system, apart(|| results.suffer(system, plan)));
            });
        }
    });
    table::print(plan, &systems, &results);
    if results.iter().any(|results| results.failed) {
        Err("not all of it was measured".into())
    } else {
        Ok(())
    }
}

/// The others are measured all the same.
fn has_failed(system: &System, end: Result<(), Failure>) -> bool {
    end.inspect_err(|e| eprintln!("{system}: {e}")).is_err()
}

/// Runs this in a network namespace of its own, where nothing is but a loopback interface: nothing else is counted there,
/// and no port is taken. This thread stays in there.
fn apart(run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("no network namespace, which takes root: {e}"))?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    if up.success() { run() } else { Err(format!("ip link set lo up: {up}").into()) }
}
