//! `lastseen matrix` and `lastseen peers` against real processes.

use std::process::{Command, Output};

use lastseen::net::Clock;
use serde_json::Value;

use crate::harness::{AT_ALL, Cluster, within};

fn ask(cluster: &Cluster, args: &[&str]) -> Output {
    let http = format!("http://{}", cluster.nodes[0].http);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    command.args(args).args(["--http", &http]).env_clear().output().unwrap()
}

fn text(cluster: &Cluster, args: &[&str]) -> String {
    let answer = ask(cluster, args);
    assert_eq!(answer.status.code(), Some(0), "{answer:?}");
    String::from_utf8(answer.stdout).unwrap()
}

fn json(cluster: &Cluster, args: &[&str]) -> Value {
    serde_json::from_str(&text(cluster, args)).unwrap()
}

/// Waits until the map begins with these rows, whose ages may be any.
#[track_caller]
fn shows(cluster: &Cluster, rows: [&str; 3]) -> String {
    let mut last = String::new();
    let met = within(AT_ALL, || {
        last = text(cluster, &["matrix"]);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        rows.iter().zip(last.lines().skip(1)).all(|(row, line)| words(line).starts_with(row)).then_some(())
    });
    assert!(met.is_some(), "{rows:?} are not the rows of:\n{last}");
    last
}

#[test]
fn a_killed_node_is_in_the_matrix() {
    let mut cluster = Cluster::start(3);
    cluster.healed(Clock.now(), AT_ALL);
    let rows = ["n1 = . . 0.", "n2 . = . ", "n3 . . = "];
    let said = shows(&cluster, rows);
    assert!(said.starts_with("from \\ to  n1  n2  n3   row age\n"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80) && !said.contains('\x1b'), "{said}");
    cluster.kill(2);
    let rows = ["n1 = . D 0.", "n2 . = D ", "n3 ? ? = 1"];
    let said = shows(&cluster, rows);
    assert!(said.lines().nth(3).unwrap().ends_with(" s, stale"), "{said}");
    let said = json(&cluster, &["matrix", "--json"]);
    let row = &said["rows"]["n3"];
    assert!(row["age_seconds"].is_null() && row["stale_seconds"].as_f64().unwrap() > 8.0, "{said}");
    assert_eq!(said["rows"]["n1"]["peers"]["n3"]["status"], "down", "{said}");
    assert!(said["rows"]["n1"]["peers"].get("n2").is_none(), "what is fine is not told: {said}");
}

#[test]
fn the_observed_peers_as_json() {
    let cluster = Cluster::start(3);
    let all = json(&cluster, &["peers", "--observed", "--json"]);
    assert_eq!((&all["total"], all["peers"].as_array().unwrap().len()), (&2.into(), 2), "{all}");
}
