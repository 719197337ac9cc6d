//! `sim`: a scenario, or a swarm of random ones, in the simulator.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::sim::{Broken, Report, Scenario, swarm};
use serde_json::json;

use crate::args::Sim;
use crate::exit;

/// Runs it. Exit code 1: a rule was broken, and the evidence is on standard error.
pub(crate) fn run(a: &Sim) -> ExitCode {
    let first = a.seed.unwrap_or(1);
    match (&a.file, a.swarm, &a.write) {
        (_, Some(1), Some(to)) => write(first, to),
        (_, Some(_), Some(_)) => exit::fail("--write takes one seed: use it with --swarm 1"),
        (_, Some(count), None) => run_swarm(first, count, a.json),
        (Some(file), None, _) => match read(file) {
            Err(why) => exit::fail(&why),
            Ok(scenario) => run_file(&scenario, a.seed, a.json),
        },
        (None, None, _) => exit::fail("give a scenario file or --swarm"),
    }
}

fn read(file: &Path) -> Result<Scenario, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    Scenario::parse(&text).map_err(|e| format!("{}: {e}", file.display()))
}

/// Writes the scenario of a swarm's seed out, so that it stays what it is when the generator changes.
fn write(seed: u64, to: &Path) -> ExitCode {
    let text = swarm::scenario(seed).to_toml();
    match text.and_then(|text| std::fs::write(to, text).map_err(|e| e.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => exit::fail(&format!("cannot write {}: {why}", to.display())),
    }
}

/// Runs a file with the seed given, else with each seed that the file names, else with seed 1.
fn run_file(scenario: &Scenario, seed: Option<u64>, json: bool) -> ExitCode {
    let first = [seed.unwrap_or(1)];
    let seeds = if seed.is_none() && !scenario.seeds.is_empty() { &scenario.seeds[..] } else { &first };
    seeds.iter().fold(ExitCode::SUCCESS, |worst, seed| {
        let code = run_one(scenario, *seed, json);
        if code == ExitCode::SUCCESS { worst } else { code }
    })
}

fn run_one(scenario: &Scenario, seed: u64, json: bool) -> ExitCode {
    let (clock, start) = (Clock, Clock.now());
    match scenario.run(seed) {
        Err(broken) => fail(seed, &broken),
        Ok(report) => {
            let took = clock.now().since(start);
            exit::print(&if json { to_json(&report) } else { to_text(scenario, &report, took) })
        }
    }
}

fn run_swarm(first: u64, count: u64, json: bool) -> ExitCode {
    let (clock, start) = (Clock, Clock.now());
    let (mut longest, mut virtual_seconds, mut broken, mut wrong) = ((0.0, first), 0.0, 0u64, 0u64);
    let mut guards = (0u64, 0u64);
    for seed in first..first.saturating_add(count) {
        match swarm::scenario(seed).run(seed) {
            Err(evidence) => {
                broken += 1;
                let _ = fail(seed, &evidence);
            }
            Ok(report) => {
                let settled = report.settled.as_secs_f64() / report.interval.as_secs_f64();
                if settled > longest.0 {
                    longest = (settled, seed);
                }
                virtual_seconds += report.length.as_secs_f64();
                wrong += report.downs.false_under_loss;
                guards = (guards.0 + report.guards.0, guards.1 + report.guards.1);
            }
        }
    }
    let took = clock.now().since(start).as_secs_f64();
    let text = if json {
        let longest = json!({ "intervals": longest.0, "seed": longest.1 });
        format!(
            "{}\n",
            json!({ "seeds": count, "first": first, "broken": broken,
                    "virtual_seconds": virtual_seconds, "false_downs_under_loss": wrong, "longest_convergence": longest,
                    "guard_looks": guards.0, "takeover_looks": guards.1 })
        )
    } else {
        format!(
            "{count} seeds from {first}: {broken} broken; {took:.1} s for {virtual_seconds:.0} virtual seconds; \
             longest convergence {:.1} intervals (seed {}); {wrong} false Downs under loss; \
             a guard was held at {} looks, a takeover safe at {}\n",
            longest.0, longest.1, guards.0, guards.1
        )
    };
    let printed = exit::print(&text);
    if broken > 0 { ExitCode::from(exit::FAILED) } else { printed }
}

fn fail(seed: u64, broken: &Broken) -> ExitCode {
    exit::fail(&format!("seed {seed}: {broken}"))
}

fn to_json(r: &Report) -> String {
    let value = json!({
        "seed": r.seed,
        "virtual_seconds": r.length.as_secs_f64(),
        "steps": r.steps,
        "settled_seconds": r.settled.as_secs_f64(),
        "equal_seconds": r.equal.as_secs_f64(),
        "downs": { "right": r.downs.right, "excused": r.downs.excused, "false": r.downs.false_under_loss },
        "wrong_of_well_nodes": { "suspected": r.wrongs.suspected, "down": r.wrongs.down },
        "datagrams_per_node_second": r.sent.0,
        "bytes_per_node_second": r.sent.1,
        "digest": format!("{:016x}", r.digest),
    });
    format!("{value}\n")
}

fn to_text(scenario: &Scenario, r: &Report, took: Duration) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    if !scenario.about.is_empty() {
        line("scenario", scenario.about.clone());
    }
    line("seed", r.seed.to_string());
    let length = r.length.as_secs_f64();
    line("time", format!("{length:.1} virtual seconds in {:.2} s, {} steps", took.as_secs_f64(), r.steps));
    line("settled", format!("{:.2} s after the last fault", r.settled.as_secs_f64()));
    line("tables equal", format!("{:.2} s after the last fault", r.equal.as_secs_f64()));
    let d = &r.downs;
    line(
        "downs",
        format!(
            "{} right, {} of nodes cut off or unwell, {} false under loss",
            d.right, d.excused, d.false_under_loss
        ),
    );
    let w = &r.wrongs;
    line(
        "well nodes",
        format!("called suspected {} times and down {} times by well nodes", w.suspected, w.down),
    );
    line("sent", format!("{:.2} datagrams, {:.0} bytes a node and second", r.sent.0, r.sent.1));
    line("digest", format!("{:016x}", r.digest));
    text
}
