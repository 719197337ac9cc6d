//! Keys that turn while the nodes run.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::SecretKey;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{AT_ALL, Cluster, Expected, watch, within};

const NODES: usize = 4;

/// The key of these bytes in a file that others cannot read. Not a random one: two keys in 256 have one id.
pub(crate) fn make_key(path: &Path, bytes: u8) {
    let key = SecretKey::new([bytes; 32]).to_text();
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    writeln!(file, "{}", *key).unwrap();
}

/// The section with these keys, by the names of their files.
pub(crate) fn section(dir: &Path, keys: &[&str]) -> String {
    let files: Vec<_> = keys.iter().map(|key| dir.join(key)).collect();
    format!("[security]\nkey_files = {files:?}\n")
}

pub(crate) fn keys_in_force(cluster: &Cluster, n: usize) -> Vec<String> {
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
    told(cluster, n, "keys", more)
}

/// What a command says of a node.
fn told(cluster: &Cluster, n: usize, command: &str, more: &[&str]) -> String {
    let http = cluster.nodes[n].http.to_string();
    let mut lastseen = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    let told = lastseen.args([command, "--http", &http]).args(more).output().unwrap();
    assert!(told.status.success(), "{told:?}");
    String::from_utf8(told.stdout).unwrap()
}

#[test]
fn keys_turn_by_reload_and_nobody_is_accused() {
    let cluster = Cluster::with_files(NODES, |dir| {
        make_key(&dir.join("old"), 1);
        make_key(&dir.join("new"), 2);
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
fn another_key_is_named() {
    let mut cluster = Cluster::with_files(3, |dir| {
        make_key(&dir.join("one"), 1);
        make_key(&dir.join("other"), 2);
        section(dir, &["one"])
    });
    (0..3).for_each(|n| {
        cluster.kill(n);
    });
    cluster.write_settings(2, &section(cluster.dir(), &["other"]));
    (0..3).for_each(|n| cluster.launch(n));
    let start = Clock.now();
    let other = |at, of| (at, of, "key_mismatch");
    let all = [other(0, 2), other(1, 2), other(2, 0), other(2, 1), (0, 1, "up")].map(|(at, of, verdict)| {
        let cluster = &cluster;
        let is = move || cluster.verdict(at, of) == verdict;
        Expected::new(format!("n{} at n{}: {verdict}", of + 1, at + 1), AT_ALL, is)
    });
    cluster.moments(start, &all);
    let why = cluster.peer(0, 2)["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("key"), "{why}");
    assert!(
        cluster
            .series(0, "lastseen_datagrams_rejected_total")
            .iter()
            .any(|(labels, value)| { labels["reason"] == "key_id" && *value > 0.0 })
    );
}

#[test]
fn who_needs_no_key_is_told_everywhere() {
    for (insecure, keys) in [(true, &["one"][..]), (false, &["one"]), (false, &[])] {
        let cluster = Cluster::with_files(2, |dir| {
            make_key(&dir.join("one"), 1);
            format!("{}insecure = {insecure}\n", section(dir, keys))
        });
        let open = insecure || keys.is_empty();
        let status = cluster.json(0, "/api/v1/status");
        assert_eq!((&status["secure"], &status["insecure"]), (&(!keys.is_empty()).into(), &open.into()));
        let metrics = cluster.get(0, "/metrics").1;
        assert!(metrics.contains(&format!("\nlastseen_insecure {}\n", u8::from(open))), "{metrics}");
        assert!(metrics.contains(&format!("\nlastseen_secure {}\n", u8::from(!keys.is_empty()))));
        for command in ["status", "keys"] {
            assert_eq!(told(&cluster, 0, command, &[]).contains("INSECURE"), open, "{command}");
        }
    }
}

#[test]
fn a_second_process_under_a_stolen_id_is_a_conflict_and_no_flapping() {
    let cluster = Cluster::start(3);
    let before = cluster.transitions();
    let mut thief = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    let stolen = &cluster.nodes[1];
    let address = SocketAddr::new(stolen.udp.ip(), 0).to_string();
    thief.args([
        "run",
        "--config",
        "/dev/null",
        "--server-id",
        &stolen.id,
        "--listen",
        &address,
        "--http",
        "off",
    ]);
    for peer in [0, 2].map(|n| &cluster.nodes[n]) {
        thief.args(["--peer", &format!("{}@{}", peer.id, peer.udp)]);
    }
    thief.arg("--until-stdin-closes").env_clear().env("LASTSEEN_CONTROL__SOCKET", "");
    let mut thief = thief.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let start = Clock.now();
    let seen = [0, 2].map(|at| {
        let cluster = &cluster;
        let is = move || cluster.verdict(at, 1) == "conflict";
        Expected::new(format!("n{} sees a conflict", at + 1), AT_ALL, is)
    });
    cluster.moments(start, &seen);
    watch(Duration::from_secs(8), Duration::from_millis(500), |_| {
        [0, 2].iter().for_each(|at| assert_eq!(cluster.verdict(*at, 1), "conflict"));
    });
    thief.kill().unwrap();
    thief.wait().unwrap();
    // Those who are not concerned see one process after the other at most, and call nobody anything.
    for at in [0, 2] {
        let events = cluster.events(at);
        let restarts = events.iter().filter(|event| event["type"] == "restart").count();
        assert!(restarts <= 1, "{events:?}");
        let now = cluster.transitions_at(at);
        assert!(now.iter().all(|(key, count)| before[key] == *count), "{before:?} {now:?}");
    }
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let cluster = Cluster::with_files(2, |dir| {
        make_key(&dir.join("one"), 1);
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
