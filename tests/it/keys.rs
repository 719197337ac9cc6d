//! Keys that turn while the nodes run.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{AT_ALL, Cluster, within};

const NODES: usize = 4;

/// A new key in a file that others cannot read.
pub(crate) fn make_key(path: &Path) {
    let key = Command::new(env!("CARGO_BIN_EXE_lastseen")).arg("keygen").output().unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, &key.stdout).unwrap();
}

/// The section with these keys, by the names of their files.
fn section(dir: &Path, keys: &[&str]) -> String {
    let files: Vec<_> = keys.iter().map(|key| dir.join(key)).collect();
    format!("[security]\nkey_files = {files:?}\n")
}

fn keys_in_force(cluster: &Cluster, n: usize) -> Vec<String> {
    let status: Value = serde_json::from_str(&cluster.get(n, "/api/v1/status").1).unwrap();
    serde_json::from_value(status["keys"].clone()).unwrap()
}

/// Writes a node's file anew and tells it; whether it reloads.
fn reload(cluster: &Cluster, n: usize, text: &str) -> bool {
    // Both values of one scrape.
    let newest = || -> Vec<String> {
        let metrics = cluster.get(n, "/metrics").1;
        let told = metrics.lines().filter(|line| line.starts_with("lastseen_config_last_reload_success"));
        told.map(str::to_owned).collect()
    };
    let before = newest();
    assert_eq!(before.len(), 2);
    cluster.write_settings(n, text);
    cluster.signal(n, Signal::SIGHUP);
    let outcome = within(AT_ALL, || Some(newest()).filter(|after| *after != before));
    let (after, _) = outcome.expect("it tells what came of it");
    after.contains(&"lastseen_config_last_reload_successful 1".to_owned())
}

fn lastseen_keys(cluster: &Cluster, n: usize, more: &[&str]) -> String {
    let http = cluster.nodes[n].http.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    let told = command.args(["keys", "--http", &http]).args(more).output().unwrap();
    assert!(told.status.success(), "{told:?}");
    String::from_utf8(told.stdout).unwrap()
}

#[test]
fn keys_turn_by_reload_and_nobody_is_accused() {
    let cluster = Cluster::with_files(NODES, |dir| {
        ["old", "new"].into_iter().for_each(|key| make_key(&dir.join(key)));
        section(dir, &["old"])
    });
    let before = cluster.transitions();
    let old = keys_in_force(&cluster, 0);
    assert_eq!(old.len(), 1);
    for keys in [&["old", "new"][..], &["new", "old"], &["new"]] {
        let text = section(cluster.dir(), keys);
        for n in 0..NODES {
            assert!(reload(&cluster, n, &text), "{keys:?}");
            assert_eq!(keys_in_force(&cluster, n).len(), keys.len());
        }
        let first = keys_in_force(&cluster, 0).remove(0);
        assert_eq!(first == old[0], keys[0] == "old");
        let used = within(AT_ALL, || {
            let told: Value = serde_json::from_str(&lastseen_keys(&cluster, 1, &["--json"])).unwrap();
            (told["keys"][0]["peers"].as_array().unwrap().len() == NODES - 1).then_some(told)
        });
        let (told, _) = used.expect("all send with the first key");
        assert_eq!(told["keys"][0]["key"], *first);
        assert_eq!(told["keys"][1]["may_go"], if keys.len() == 2 { Value::from(true) } else { Value::Null });
        if keys.len() == 2 {
            assert!(lastseen_keys(&cluster, 1, &[]).contains("may go"));
        }
    }
    cluster.nobody_else_accused(&before, &[]);
    for n in 0..NODES {
        let events = cluster.get(n, "/api/v1/events?follow=false&since=0").1;
        assert_eq!(events.matches("\"type\":\"key\"").count(), 3, "{events}");
        assert!(!events.contains("\"type\":\"restart\""), "{events}");
    }
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let cluster = Cluster::with_files(2, |dir| {
        make_key(&dir.join("one"));
        section(dir, &["one"])
    });
    let before = (cluster.transitions(), keys_in_force(&cluster, 0));
    std::fs::write(cluster.dir().join("no key"), "lastseen-key-1:AAAA\n").unwrap();
    let fine = section(cluster.dir(), &["one"]);
    let bad = [
        "[security".to_owned(),
        "colour = 1\n".to_owned(),
        section(cluster.dir(), &["missing"]),
        section(cluster.dir(), &["no key"]),
        section(cluster.dir(), &["one", "one"]),
    ];
    for text in &bad {
        assert!(!reload(&cluster, 0, text), "{text}");
        assert_eq!(keys_in_force(&cluster, 0), before.1, "{text}");
        assert!(reload(&cluster, 0, &fine), "{text}");
    }
    cluster.nobody_else_accused(&before.0, &[]);
}
