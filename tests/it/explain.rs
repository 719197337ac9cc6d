//! `lastseen explain` against real processes.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::harness::Cluster;

fn explain(cluster: &Cluster, args: &[&str]) -> Output {
    let http = format!("http://{}", cluster.nodes[0].http);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    command.args(["explain", "--http", &http]).args(args).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_killed_process_is_explained() {
    let mut cluster = Cluster::start(3);
    let since = cluster.kill(1);
    cluster.all_say(1, "status", "down", since, Duration::from_secs(5));
    let answer = explain(&cluster, &["n2"]);
    let said = text(&answer.stdout);
    assert_eq!(answer.status.code(), Some(0), "{}", text(&answer.stderr));
    for line in [
        "n2 is REFUSED for ",
        "\nIts machine and the network are there; the daemon has ended",
        "\n  socket      ",
        ", the last, refused, ",
        "\n  rule        refused: not healthy, and its host refused a try lately\n",
    ] {
        assert!(said.contains(line), "{line:?} is missing in:\n{said}");
    }
    let answer = explain(&cluster, &["n2", "--json"]);
    let said: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert!(said["explain"]["heartbeats"]["strip"].as_str().unwrap().ends_with("xxxxx"), "{said}");
    assert!(said["explain"]["socket"]["errors"].as_u64().unwrap() >= 4, "{said}");
    // The event that told of it carries what was known then, and the same sentence.
    let is_down = |event: &Value| event["type"] == "status" && event["to"] == "down";
    let down = cluster.event(0, is_down);
    assert_eq!(
        (&down["evidence"]["missed"]["count"], &down["evidence"]["missed"]["down_after"]),
        (&5.into(), &5.into())
    );
    assert!(down["why"].as_str().unwrap().starts_with("its host answers, but refuses port "), "{down}");
}

#[test]
fn a_peer_that_is_none_has_neighbours() {
    let cluster = Cluster::start(2);
    let answer = explain(&cluster, &["n22"]);
    assert_eq!((answer.status.code(), text(&answer.stdout)), (Some(4), ""));
    assert!(text(&answer.stderr).contains("n22") && text(&answer.stderr).contains("n2"), "{answer:?}");
    assert_eq!(explain(&cluster, &[]).status.code(), Some(64), "whom?");
    let nowhere = Command::new(env!("CARGO_BIN_EXE_lastseen"))
        .args(["explain", "n2", "--http", "http://127.0.0.1:1"])
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(3), "no daemon");
}
