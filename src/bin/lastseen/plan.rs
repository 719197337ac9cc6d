//! `plan`: what a cluster will do and cost.

use std::process::ExitCode;
use std::time::Duration;

use lastseen::sim::plan::{Measured, Plan};
use serde_json::{Value, json};

use crate::args;
use crate::exit;
use crate::settings::{duration, series_of};

/// Prints the plan for the settings asked about, and for the cheapest ones that meet the wish.
pub(crate) fn run(a: &args::Plan) -> ExitCode {
    let timeout = a.timeout.unwrap_or(a.interval / 2);
    let args::Plan { nodes, observers, loss, interval, down_after, .. } = *a;
    let asked = Plan { nodes, observers, loss, interval, timeout, down_after };
    if let Err(why) = asked.check() {
        exit::complain(&format!("plan: {why}"));
        return ExitCode::from(exit::USAGE);
    }
    let cheapest = asked.cheapest(a.detect, a.false_downs);
    let columns: Vec<Column> = [("these settings", Some(asked)), ("the cheapest", cheapest)]
        .into_iter()
        .filter_map(|(name, plan)| Some(Column::of(name, plan?, a)))
        .collect();
    exit::print(&if a.json { to_json(a, &columns) } else { to_text(a, &columns) })
}

struct Column {
    name: &'static str,
    plan: Plan,
    seen: Option<Measured>,
}

impl Column {
    fn of(name: &'static str, plan: Plan, a: &args::Plan) -> Column {
        Column { name, plan, seen: a.simulate.map(|crashes| plan.simulate(crashes, a.seed)) }
    }

    fn meets(&self, a: &args::Plan) -> bool {
        let said = self.plan.predict();
        said.detection[1] <= a.detect && said.false_downs <= a.false_downs
    }

    /// Name and value of every line.
    fn lines(&self, a: &args::Plan) -> Vec<(&'static str, String)> {
        let (plan, said) = (&self.plan, self.plan.predict());
        let mut lines = vec![
            ("", self.name.to_owned()),
            ("heartbeat_interval", duration::show(plan.interval)),
            ("heartbeat_timeout", duration::show(plan.timeout)),
            ("down_after", plan.down_after.to_string()),
            ("detection, half of all", seconds(said.detection[0])),
            ("detection, 99 of 100", seconds(said.detection[1])),
            ("false Downs a day, at most", small(said.false_downs)),
            ("  for round trips up to", format!("{:.1} ms", said.slowest_round_trip.as_secs_f64() * 1e3)),
            ("datagrams a second and node", format!("{:.1}", said.datagrams)),
            ("  with the loss, about", format!("{:.1}", said.datagrams_under_loss)),
            ("bytes a second and node", format!("{:.0}", said.bytes())),
            ("series in /metrics", series_of(plan.degree()).to_string()),
        ];
        if let Some(seen) = &self.seen {
            let at = |share| seen.quantile(share).map_or_else(|| "-".to_owned(), seconds);
            lines.extend([
                ("simulated: half of all", at(0.5)),
                ("simulated: 99 of 100", at(0.99)),
                ("simulated: seen", format!("{} of {}", seen.detection.len(), seen.expected)),
                ("simulated: false Downs", format!("{} in {}", seen.false_downs, seconds(seen.length))),
                ("simulated: datagrams", format!("{:.1}", seen.datagrams)),
                ("simulated: bytes", format!("{:.0}", seen.bytes)),
            ]);
        }
        lines.push(("meets the wish", if self.meets(a) { "yes" } else { "no" }.to_owned()));
        lines
    }

    fn json(&self, a: &args::Plan) -> Value {
        let (plan, said) = (&self.plan, self.plan.predict());
        let seen = self.seen.as_ref().map(|m| {
            json!({
                "detection_p50_seconds": m.quantile(0.5).map(|d| d.as_secs_f64()),
                "detection_p99_seconds": m.quantile(0.99).map(|d| d.as_secs_f64()),
                "detected": m.detection.len(),
                "expected": m.expected,
                "false_downs": m.false_downs,
                "virtual_seconds": m.length.as_secs_f64(),
                "datagrams_per_second": m.datagrams,
                "bytes_per_second": m.bytes,
            })
        });
        json!({
            "heartbeat_interval_seconds": plan.interval.as_secs_f64(),
            "heartbeat_timeout_seconds": plan.timeout.as_secs_f64(),
            "down_after": plan.down_after,
            "detection_p50_seconds": said.detection[0].as_secs_f64(),
            "detection_p99_seconds": said.detection[1].as_secs_f64(),
            "detection_max_seconds": said.detection[2].as_secs_f64(),
            "miss_probability": said.miss,
            "false_downs_per_day": said.false_downs,
            "slowest_round_trip_seconds": said.slowest_round_trip.as_secs_f64(),
            "datagrams_per_second": said.datagrams,
            "datagrams_per_second_under_loss": said.datagrams_under_loss,
            "bytes_per_second": said.bytes(),
            "series": series_of(plan.degree()),
            "meets_the_wish": self.meets(a),
            "simulated": seen,
        })
    }
}

fn to_text(a: &args::Plan, columns: &[Column]) -> String {
    let (asked, percent) = (columns[0].plan, small(a.loss * 100.0));
    let watching = match asked.degree() {
        degree if degree + 1 < a.nodes => format!("at most {degree} others"),
        _ => "all others".to_owned(),
    };
    let mut text =
        format!("{} nodes, each watching {watching}; {percent} % loss in each direction\n\n", a.nodes);
    let lines: Vec<Vec<(&str, String)>> = columns.iter().map(|c| c.lines(a)).collect();
    for (row, (name, first)) in lines[0].iter().enumerate() {
        let rest: String = lines[1..].iter().map(|l| format!("  {:>16}", l[row].1)).collect();
        text += format!("{name:<28}  {first:>16}{rest}").trim_end();
        text.push('\n');
    }
    text += &match columns.get(1) {
        Some(Column { plan, .. }) => format!(
            "\nheartbeat_interval = \"{}\"\nheartbeat_timeout = \"{}\"\ndown_after = {}\n",
            duration::show(plan.interval),
            duration::show(plan.timeout),
            plan.down_after
        ),
        None => format!(
            "\nno settings find 99 of 100 crashes within {} with at most {} false Downs a day\n{}",
            duration::show(a.detect),
            small(a.false_downs),
            instead(&asked, a)
        ),
    };
    text
}

/// What would do where the wish cannot be met.
fn instead(asked: &Plan, a: &args::Plan) -> String {
    let (enough, fewest) = asked.instead(a.detect, a.false_downs);
    let round = |d: Duration| Duration::from_millis(d.as_millis().div_ceil(10) as u64 * 10);
    let longer = enough.map(|d| format!("  --detect {} would do\n", duration::show(round(d))));
    let more = fewest.map(|n| format!("  --false-downs {} would do\n", at_least(n)));
    longer.into_iter().chain(more).collect::<String>()
}

/// A number of two digits that is not less.
fn at_least(n: f64) -> String {
    let scale = 10f64.powf(n.log10().floor() - 1.0);
    small((n / scale).ceil() * scale)
}

fn to_json(a: &args::Plan, columns: &[Column]) -> String {
    let (enough, fewest) = match columns {
        [asked] => asked.plan.instead(a.detect, a.false_downs),
        _ => (None, None),
    };
    let report = json!({
        "nodes": a.nodes,
        "observers": columns[0].plan.degree(),
        "loss": a.loss,
        "detect_seconds": a.detect.as_secs_f64(),
        "false_downs_per_day": a.false_downs,
        "these": columns[0].json(a),
        "cheapest": columns.get(1).map(|c| c.json(a)),
        "detect_seconds_that_would_do": enough.map(|d| d.as_secs_f64()),
        "false_downs_per_day_that_would_do": fewest,
    });
    format!("{report:#}\n")
}

fn seconds(d: Duration) -> String {
    format!("{:.2} s", d.as_secs_f64())
}

/// A number that may be tiny.
fn small(n: f64) -> String {
    if n == 0.0 || (0.01..1e5).contains(&n) {
        let text = format!("{n:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{n:.0e}")
    }
}
