//! What an operator is given for Prometheus and Grafana, beside the metrics that a daemon really has. Prometheus' own word on it
//! is in `prometheus`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::control::run;
use crate::harness::{AT_ALL, Cluster, within};

pub(crate) const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const ALERTS_TEST: &str = include_str!("../../deploy/prometheus/alerts_test.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/lastseen.json");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");
/// What is promised to be alerted of.
const NAMES: [&str; 20] = [
    "NodeDown",
    "DaemonDown",
    "MassLoss",
    "DownButScraped",
    "LinkDown",
    "OneWay",
    "LossHigh",
    "QuorumLost",
    "LastseenServiceDown",
    "NodeIsolated",
    "Flapping",
    "SelfStalled",
    "RostersDiffer",
    "ConfigMismatch",
    "NeverSeen",
    "KeyRotationStuck",
    "ReloadFailed",
    "Insecure",
    "RejectedDatagrams",
    "FalseDown",
];

/// The rest of the line behind a rule's key.
fn field<'a>(rule: &'a str, key: &str) -> Option<&'a str> {
    rule.lines().find_map(|line| line.trim_start().strip_prefix(key)).map(str::trim)
}

/// Every alert: its name, and its text up to the next rule.
fn alerts() -> Vec<(&'static str, &'static str)> {
    let rules = ALERTS.split("\n      - ").filter_map(|rule| rule.strip_prefix("alert: "));
    rules.filter_map(|rule| rule.split_once('\n')).collect()
}

#[test]
fn every_alert_is_whole_and_has_its_section() {
    let names: Vec<&str> = alerts().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, NAMES);
    let sections: Vec<&str> = RUNBOOK.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, NAMES, "one section for each, and no other");
    for (name, rule) in alerts() {
        let severity = field(rule, "severity:").unwrap_or_default();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        assert!(field(rule, "summary:").is_some_and(|text| text.len() > 10), "{name} has no summary");
        let text = rule.split("description: >-\n").nth(1).and_then(|rest| rest.lines().next());
        assert!(text.is_some_and(|line| line.trim().len() > 40), "{name} has no description");
        let page = "https://github.com/lastseen/lastseen/blob/main/docs/runbook.md";
        let section = format!("{page}#{}", name.to_lowercase());
        assert_eq!(field(rule, "runbook_url:"), Some(section.as_str()), "{name}");
        assert!(ALERTS_TEST.contains(&format!("alertname=\"{name}\"")), "{name} is not seen firing");
    }
}

#[test]
fn every_section_says_what_to_type_and_when_to_ignore_it() {
    let sections: Vec<&str> = RUNBOOK.split("\n## ").skip(1).collect();
    for (section, (name, rule)) in sections.iter().zip(alerts()) {
        let severity = field(rule, "severity:").unwrap_or_default();
        let mut said = section.lines().filter(|line| line.starts_with("**"));
        let mut starts = |with: &str| said.next().is_some_and(|line| line.to_lowercase().starts_with(with));
        let whole = starts(&format!("**{severity}.**"))
            && ["**fired by:**", "**likely causes, ", "**do:**", "**ignore when:**"]
                .iter()
                .all(|w| starts(w));
        assert!(
            whole,
            "{name}: severity, what fired it, causes, what to do, when to ignore it, in this order"
        );
        let block =
            section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
        assert_eq!(block.lines().count(), 3, "{name}: three commands");
    }
    for link in RUNBOOK.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(NAMES.iter().any(|name| name.to_lowercase() == link), "#{link}");
    }
}

/// Those that ask this program are asked of it; there is no daemon, but it must not be the usage that is wrong.
#[test]
fn every_command_of_the_runbook_is_one() {
    let lines = RUNBOOK.lines().map(|line| line.strip_prefix("ssh PEER ").unwrap_or(line));
    let lines: BTreeSet<&str> = lines.filter(|line| line.starts_with("lastseen ")).collect();
    assert!(lines.len() > 10, "{lines:?}");
    for line in lines {
        let words = line.split('#').next().unwrap_or_default().replace("VERDICT", "conflict");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
        command.args(words.split_whitespace().skip(1)).env_clear().env("LASTSEEN_HTTP", "127.0.0.1:1");
        command.env("LASTSEEN_CONTROL__SOCKET", "/dev/null/none");
        let told = command.stdin(Stdio::null()).output().unwrap();
        assert!(told.status.code().is_some_and(|code| code != 64), "{line}: {told:?}");
    }
}

/// The labels of every series of a family, with all values that each has.
type Families = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Of a daemon that has a peer and offers a service, with all that it can export.
fn exported() -> Families {
    let cluster = Cluster::start(2);
    // Of services there are series only where a node offers one.
    let (code, _, complaint) = run(cluster.order(0, &["publish", "web", "10.0.0.7:80"]));
    assert_eq!(code, 0, "{complaint}");
    let look =
        || Some(cluster.get(0, "/metrics?detail=matrix").1).filter(|text| text.contains("{name=\"web\""));
    let (text, _) = within(AT_ALL, look).expect("its series are there");
    let mut families = Families::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, labels) = read_selector(line).expect("a sample");
        let family = families.entry(name.to_owned()).or_default();
        for (label, value) in labels {
            family.entry(label).or_default().insert(value);
        }
    }
    families
}

/// `name{label="value",…}` at the beginning of a text: the name, and labels with the values that they are compared with.
fn read_selector(text: &str) -> Option<(&str, Vec<(String, String)>)> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let inner = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
    let label = |part: &str| {
        let (label, value) = part.split_once('=')?;
        let value = value.trim_start_matches('~').trim_matches('"');
        Some((label.trim_end_matches('!').trim().to_owned(), value.to_owned()))
    };
    (!name.is_empty()).then(|| (name, inner.split(',').filter_map(label).collect()))
}

/// All selectors of a query.
fn selectors(query: &str) -> Vec<(&str, Vec<(String, String)>)> {
    let begins = |at: &usize| {
        let before = query[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    };
    let starts = ["lastseen_", "process_"].into_iter().flat_map(|prefix| query.match_indices(prefix));
    starts.map(|(at, _)| at).filter(begins).filter_map(|at| read_selector(&query[at..])).collect()
}

/// What a query asks for that no daemon has.
fn not_there(query: &str, families: &Families) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, labels) in selectors(query) {
        let Some(family) = families.get(name) else {
            wrong.push(name.to_owned());
            continue;
        };
        for (label, value) in labels.iter().filter(|(label, _)| label != "job") {
            let known = family.get(label);
            let is_there = |v: &str| v.starts_with('$') || known.is_some_and(|known| known.contains(v));
            wrong.extend(value.split('|').filter(|v| !is_there(v)).map(|v| format!("{name}{{{label}={v}}}")));
        }
    }
    for (at, grouping) in ["by (", "on (", "group_left ("].iter().flat_map(|g| query.match_indices(g)) {
        let labels =
            query[at + grouping.len()..].split(')').next().unwrap_or_default().split(',').map(str::trim);
        let is_known = |l: &str| {
            l.is_empty() || l == "job" || l == "instance" || families.values().any(|f| f.contains_key(l))
        };
        wrong.extend(labels.filter(|l| !is_known(l)).map(|l| format!("label {l}")));
    }
    wrong
}

/// Panels, and those within rows.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let top = dashboard["panels"].as_array().into_iter().flatten();
    top.flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()))
        .collect()
}

/// Every query of the dashboard.
pub(crate) fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let targets = |panel: &&Value| panel["targets"].as_array().cloned().unwrap_or_default();
    let targets: Vec<Value> = panels(&dashboard).iter().flat_map(targets).collect();
    targets.iter().map(|target| target["expr"].as_str().expect("a target asks").to_owned()).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_what_a_daemon_has() {
    let families = exported();
    let rules = not_there(ALERTS, &families);
    assert!(rules.is_empty(), "alerts.yml: {rules:?}");
    let records = ALERTS.lines().filter_map(|line| line.trim_start().strip_prefix("- record: "));
    let records: BTreeSet<&str> = records.collect();
    let used = ALERTS.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let used = used.filter(|word| word.contains(":lastseen_"));
    assert_eq!(used.collect::<BTreeSet<_>>(), records, "what is recorded is used, and the reverse");
    for query in queries() {
        let wrong = not_there(&query, &families);
        assert!(wrong.is_empty(), "{wrong:?} in {query}");
        let of_job = |(_, labels): &(&str, Vec<(String, String)>)| labels.iter().any(|l| l.0 == "job");
        assert!(selectors(&query).iter().all(of_job), "of the cluster that was chosen: {query}");
    }
    let told = not_there("lastseen_secures + lastseen_secure{peer=\"a\"} + sum by (pear) (x)", &families);
    assert_eq!(told, ["lastseen_secures", "lastseen_secure{peer=a}", "label pear"]);
}

/// Where a panel stands on the grid of 24 columns.
fn place(panel: &Value) -> [u64; 4] {
    ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a place"))
}

#[test]
fn the_dashboard_is_one_that_grafana_can_show() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = panels(&dashboard);
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert!(ids.len() == panels.len() && panels.len() > 20, "ids are unique");
    for (n, panel) in panels.iter().enumerate() {
        let title = panel["title"].as_str().expect("a title");
        let [x, y, w, h] = place(panel);
        assert!(x + w <= 24, "{title} ends beside the grid");
        for other in &panels[n + 1..] {
            let [ox, oy, ow, oh] = place(other);
            let apart = x + w <= ox || ox + ow <= x || y + h <= oy || oy + oh <= y;
            assert!(apart, "{title} and {} overlap", other["title"]);
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(
            panel["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{title} says what it shows"
        );
        let targets = panel["targets"].as_array().expect("it asks something");
        let refs: BTreeSet<&str> = targets.iter().filter_map(|target| target["refId"].as_str()).collect();
        assert!(!targets.is_empty() && refs.len() == targets.len(), "{title}");
    }
    let variables = dashboard["templating"]["list"].as_array().expect("it has variables");
    let names: Vec<&str> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(names, ["datasource", "job"]);
}
