//! Drains and labels of real daemons, ordered by the real commands.

use std::process::Command;

use serde_json::{Value, json};

use crate::control::run;
use crate::harness::{AT_ALL, Cluster, within};

/// What a client command says of a node.
fn view(cluster: &Cluster, n: usize, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    command.args(args).env_clear().env("LASTSEEN_HTTP", cluster.url(n, ""));
    run(command)
}

/// Waits until `n` says what is expected.
#[track_caller]
fn until(what: &str, mut look: impl FnMut() -> bool) {
    assert!(within(AT_ALL, || look().then_some(())).is_some(), "{what}");
}

/// Three nodes that keep their drains in their directory.
fn with_state() -> Cluster {
    Cluster::with_states(3, "[drain]\nmax = \"2h\"\n")
}

#[test]
fn who_drains_may_be_killed_without_an_alarm() {
    let mut cluster = Cluster::start(3);
    let (code, said, complaint) = run(cluster.order(2, &["drain", "30m", "--reason", "kernel upgrade"]));
    assert!(code == 0 && said.starts_with("drains for 30m, until 20"), "{said}{complaint}");
    assert!(said.ends_with("Z: kernel upgrade\n"), "{said}");
    let since = cluster.kill(2);
    cluster.all_say(2, "status", "down", since, AT_ALL);
    for n in [0, 1] {
        let peer = cluster.peer(n, 2);
        assert_eq!(peer["verdict"], "draining", "{peer}");
        assert!(peer["draining_until"].is_string(), "{peer}");
        assert_eq!(peer["why"], "29 min left: kernel upgrade");
        let status = cluster.json(n, "/api/v1/status");
        assert_eq!([&status["is_degraded"], &status["mass_loss"]], [&json!(false), &json!(false)]);
        assert_eq!([&status["verdicts"]["draining"], &status["down_peers"]], [&json!(1), &json!(1)]);
        let proven = |cluster: &Cluster| cluster.json(n, "/quorumz")["proven_peers"].clone();
        until("it is not proven", || proven(&cluster) == 2);
        assert_eq!(cluster.get(n, "/quorumz").0, 200, "two of three are a quorum");
        let told =
            |event: &Value| event["type"] == "drain" && event["peer"] == "n3" && event["to"] == "draining";
        cluster.event(n, told);
        assert_eq!(cluster.value(n, "lastseen_cluster_degraded"), 0.0);
        assert_eq!(cluster.value(n, "lastseen_peer_verdict{peer=\"n3\",verdict=\"draining\"}"), 1.0);
    }
    let (code, said, _) = view(&cluster, 0, &["check"]);
    assert!(code == 0 && said.starts_with("LASTSEEN OK - "), "{code}: {said}");
    let (code, said, _) = view(&cluster, 0, &["check", "--peer", "n3"]);
    assert!(
        code == 1 && said.starts_with("LASTSEEN WARNING - n3 is down, draining: 29 min"),
        "{code}: {said}"
    );
    let said = view(&cluster, 0, &["status"]).1;
    assert!(said.contains("DEGRADED  no      1 draining: no alarm"), "{said}");
    let said = view(&cluster, 0, &["explain", "n3"]).1;
    assert!(
        said.starts_with("n3 is draining (29 min left: kernel upgrade) and does not answer.\n"),
        "{said}"
    );
    assert!(said.contains("it said     that it drains, 29 min left: kernel upgrade\n"), "{said}");
    cluster.launch(2);
    cluster.all_say(2, "verdict", "up", since, AT_ALL);
}

#[test]
fn a_drain_survives_a_restart_until_it_is_called_off() {
    let mut cluster = with_state();
    let own = |cluster: &Cluster| cluster.json(1, "/api/v1/status");
    let drain_end = |cluster: &Cluster| cluster.value(1, "lastseen_drain_end_timestamp_seconds");
    let (code, _, complaint) = run(cluster.order(1, &["drain", "3h"]));
    assert!(code == 1 && complaint.contains("3h is too long; [drain] max is 2h"), "{complaint}");
    assert_eq!((own(&cluster)["draining_until"].clone(), drain_end(&cluster)), (Value::Null, 0.0));
    let (code, said, complaint) = run(cluster.order(1, &["drain", "--reason", "disks", "--json"]));
    assert_eq!(code, 0, "{complaint}");
    let told: Value = serde_json::from_str(&said).unwrap();
    let until_then = own(&cluster)["draining_until"].clone();
    assert!(until_then.is_string() && told["draining_until"] == until_then, "{told}");
    assert!(drain_end(&cluster) > 1.7e9);
    assert!(view(&cluster, 1, &["status"]).1.contains("DRAINING  yes     this node, 59 min left: disks\n"));
    let since = cluster.kill(1);
    cluster.launch(1);
    cluster.all_say(1, "verdict", "draining", since, AT_ALL);
    until("it answers again", || cluster.peer(0, 1)["status"] == "healthy" && own(&cluster).is_object());
    assert_eq!(own(&cluster)["draining_until"], until_then, "the same drain");
    assert_eq!(view(&cluster, 0, &["check", "--peer", "n2"]).0, 0, "it is there");
    let since = lastseen::net::Clock.now();
    for (said, drained) in
        [("drains no longer\n", true), ("does not drain: there is nothing to undo\n", false)]
    {
        assert_eq!(run(cluster.order(1, &["undrain"])), (0, said.to_owned(), String::new()), "{drained}");
    }
    cluster.all_say(1, "verdict", "up", since, AT_ALL);
    assert_eq!(own(&cluster)["draining_until"], Value::Null);
    let since = cluster.kill(1);
    cluster.launch(1);
    cluster.all_say(1, "verdict", "up", since, AT_ALL);
    assert!(!cluster.state_dir(1).join("drain.json").exists());
    let since = cluster.kill(1);
    cluster.all_say(1, "status", "down", since, AT_ALL);
    assert_ne!(cluster.verdict(0, 1), "draining");
}

#[test]
fn labels_are_shown_and_chosen_by() {
    let cluster = Cluster::with_files(3, |_| "[labels]\nrole = \"db\"\nrack = \"r7\"\n".to_owned());
    until("they are told", || cluster.peer(0, 1)["labels"] == json!({ "rack": "r7", "role": "db" }));
    let ids = |query: &str| {
        let peers = cluster.json(0, &format!("/api/v1/peers?label={query}"));
        peers["total"].as_u64().unwrap_or(u64::MAX)
    };
    until("of all", || ids("role%3Ddb") == 2);
    assert_eq!([ids("role%3Dweb"), ids("row%3Ddb")], [0, 0]);
    let (code, said, _) = view(&cluster, 0, &["peers", "--label", "rack=r7", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["total"]), (0, &json!(2)));
    let (code, said, _) = view(&cluster, 0, &["peers", "--label", "rack=r8"]);
    assert!(code == 0 && said.contains("0 peers"), "{said}");
    assert_eq!(view(&cluster, 0, &["peers", "--label", "rack"]).0, 64);
    let metrics = cluster.get(0, "/metrics").1;
    let info = format!(
        "lastseen_peer_info{{peer=\"n2\",address=\"{}\",label_rack=\"r7\",label_role=\"db\"}} 1",
        cluster.nodes[1].udp
    );
    assert!(metrics.lines().any(|line| line == info), "{info} is missing");
}
