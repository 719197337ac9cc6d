//! `sim`: a scenario, or a swarm of random ones, in the simulator.

use std::fmt::Write;
use std::process::ExitCode;

use lastseen::net::Clock;
use lastseen::sim::{Broken, Report, Scenario, swarm};
use serde_json::json;

use crate::args::Sim;
use crate::exit;

/// Runs it. Exit code 1: a rule was broken, and the evidence is on standard error.
pub(crate) fn run(a: &Sim) -> ExitCode {
    match (&a.file, a.swarm) {
        (_, Some(count)) => run_swarm(a.seed, count, a.json),
        (Some(file), None) => match std::fs::read_to_string(file) {
            Err(e) => exit::fail(&format!("cannot read {}: {e}", file.display())),
            Ok(text) => match Scenario::parse(&text) {
                Err(e) => exit::fail(&format!("{}: {e}", file.display())),
                Ok(scenario) => run_one(&scenario, a.seed, a.json),
            },
        },
        (None, None) => exit::fail("there is neither a file nor a swarm"),
    }
}

fn run_one(scenario: &Scenario, seed: u64, json: bool) -> ExitCode {
    let (clock, start) = (Clock, Clock.now());
    match scenario.run(seed) {
        Err(broken) => fail(seed, &broken),
        Ok(report) => {
            let took = clock.now().since(start).as_secs_f64();
            exit::print(&if json { to_json(&report, took) } else { to_text(scenario, &report, took) })
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
            json!({ "seeds": count, "first": first, "broken": broken, "seconds": took,
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

fn to_json(r: &Report, took: f64) -> String {
    let value = json!({
        "seed": r.seed,
        "virtual_seconds": r.length.as_secs_f64(),
        "seconds": took,
        "steps": r.steps,
        "settled_seconds": r.settled.as_secs_f64(),
        "equal_seconds": r.equal.as_secs_f64(),
        "downs": { "right": r.downs.right, "excused": r.downs.excused, "false": r.downs.false_under_loss },
        "datagrams_per_node_second": r.sent.0,
        "bytes_per_node_second": r.sent.1,
        "digest": format!("{:016x}", r.digest),
    });
    format!("{value}\n")
}

fn to_text(scenario: &Scenario, r: &Report, took: f64) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    if !scenario.about.is_empty() {
        line("scenario", scenario.about.clone());
    }
    line("seed", r.seed.to_string());
    let length = r.length.as_secs_f64();
    line("time", format!("{length:.1} virtual seconds in {took:.2} s, {} steps", r.steps));
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
    line("sent", format!("{:.2} datagrams, {:.0} bytes a node and second", r.sent.0, r.sent.1));
    line("digest", format!("{:016x}", r.digest));
    text
}
