//! The table, and where and how it was made.

use std::fs;
use std::process::Command;

use crate::Plan;
use crate::cluster::Detection;
use crate::runs::{Cost, Results};
use crate::system::System;

const HEAD: &str = "\
| one of N nodes | CPU s/min | PSS, RSS MiB | threads | UDP datagrams/s | other packets/s | B/s | SIGKILL to Down, s: first | at all | SIGSTOP to Down, s: first | at all | false Downs |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

pub fn print(plan: &Plan, systems: &[System], results: &[Results]) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    println!("`cargo run --release --manifest-path benches/compare/Cargo.toml -- {}`", args.join(" "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{}, Linux {}, {cores} cores, load at the end {}\n", commit(), kernel.trim(), load.join(" "));
    println!("{}", HEAD.replace("N nodes", &format!("{} nodes", plan.nodes)));
    for (system, results) in systems.iter().zip(results) {
        if system.is_installed() {
            println!("{}", row(system, plan, results));
        } else {
            println!("| {system}not installed |{}", " |".repeat(11));
        }
    }
}

fn row(system: &System, plan: &Plan, results: &Results) -> String {
    let of = |what: fn(&Cost) -> f64| median(results.costs.iter().map(what).map(Some));
    let cpu = |cost: &Cost| cost.cpu_seconds_a_minute;
    let least = results.costs.iter().map(cpu).fold(f64::INFINITY, f64::min);
    let most = results.costs.iter().map(cpu).fold(0.0, f64::max);
    let mut cells = vec![system.to_string()];
    if results.costs.is_empty() {
        cells.extend(std::iter::repeat_n(String::new(), 6));
    } else {
        let spread =
            if results.costs.len() > 1 { format!(" ({least:.3} to {most:.3})") } else { String::new() };
        cells.push(format!("{:.3}{spread}", of(cpu)));
        cells.push(format!("{:.1}, {:.1}", of(|c| c.pss_mib), of(|c| c.rss_mib)));
        cells.push(format!("{:.0}", of(|c| c.threads)));
        cells.push(format!("{:.1}", of(|c| c.udp_datagrams_a_second)));
        cells.push(format!("{:.1}", of(|c| c.other_packets_a_second)));
        cells.push(format!("{:.0}", of(|c| c.bytes_a_second)));
    }
    for faults in [&results.crashes, &results.stops] {
        cells.push(spread(faults, |detection| detection.first, plan.deadline));
        cells.push(spread(faults, |detection| detection.all, plan.deadline));
    }
    cells.push(results.false_downs.to_string());
    format!("| {} |", cells.join(" | "))
}

/// Median and maximum of what is told.
fn spread(faults: &[Detection], of: fn(&Detection) -> Option<f64>, deadline: u64) -> String {
    if faults.is_empty() {
        return String::new();
    }
    let shown = |seconds: f64| {
        if seconds.is_finite() { format!("{seconds:.2}") } else { format!("over {deadline}") }
    };
    let most = faults.iter().map(|fault| of(fault).unwrap_or(f64::INFINITY)).fold(0.0, f64::max);
    format!("{} ({})", shown(median(faults.iter().map(of))), shown(most))
}

/// The lower one of two in the middle; what is missing is greater than all. Of nothing it is infinite.
fn median(all: impl Iterator<Item = Option<f64>>) -> f64 {
    let mut all: Vec<f64> = all.map(|value| value.unwrap_or(f64::INFINITY)).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or(f64::INFINITY)
}

fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude", "*"]);
    let told = git.output().ok().filter(|output| output.status.success());
    told.map_or("no commit".to_owned(), |output| {
        format!("commit {}", String::from_utf8_lossy(&output.stdout).trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_is_more_than_all() {
        let told = |all| Detection { first: Some(1.0), all };
        let faults = [told(Some(3.0)), told(None), told(Some(2.0))];
        assert_eq!(spread(&faults, |d| d.all, 60), "3.00 (over 60)");
        assert_eq!(spread(&faults, |d| d.first, 60), "1.00 (1.00)");
        assert_eq!(spread(&[], |d| d.first, 60), "");
    }
}
