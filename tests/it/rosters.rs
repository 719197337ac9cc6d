//! The state of rosters on disk, and `bootstrap`: real daemons, asked by the real commands.

use std::fs;

use lastseen::net::Clock;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::control::run;
use crate::harness::{AT_ALL, Cluster, within};

const SETTINGS: &str = "heartbeat_interval = \"500ms\"\nheartbeat_timeout = \"250ms\"\n";

/// Waits until these nodes hold the guard.
#[track_caller]
fn guarded(cluster: &Cluster, nodes: &[usize]) {
    let held = || nodes.iter().all(|n| cluster.get(*n, "/quorumz?guard=true").0 == 200).then_some(());
    let witness = |n: &usize| cluster.json(*n, "/api/v1/status")["witness"].to_string();
    let told = || nodes.iter().map(witness).collect::<Vec<_>>().join("\n");
    assert!(within(AT_ALL, held).is_some(), "nobody holds the guard:\n{}", told());
}

/// Waits until a node lacks this to be a witness, and answers what else it says of that.
#[track_caller]
fn lacks(cluster: &Cluster, n: usize, standing: &str, missing: &str) -> Value {
    let witness = || cluster.json(n, "/api/v1/status")["witness"].clone();
    let found = || Some(witness()).filter(|w| w["standing"] == *standing && w["missing"] == *missing);
    within(AT_ALL, found).unwrap_or_else(|| panic!("not {standing}, {missing}: {}", witness())).0
}

/// What a node keeps on disk.
fn kept(cluster: &Cluster, n: usize) -> Value {
    let text = fs::read(cluster.state_dir(n).join("rosters.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn is_witness(cluster: &Cluster, n: usize) -> bool {
    kept(cluster, n)["witness"] == true
}

/// Writing the state of this node waits for a reader of a FIFO that never comes.
fn hang(cluster: &Cluster, n: usize) {
    mkfifo(&cluster.state_dir(n).join("rosters.json.new"), Mode::S_IRWXU).unwrap();
}

#[test]
fn the_guard_survives_a_restart_of_all() {
    let mut cluster = Cluster::with_states(3, SETTINGS);
    guarded(&cluster, &[0, 1, 2]);
    let saved = || (0..3).all(|n| is_witness(&cluster, n)).then_some(());
    within(AT_ALL, saved).expect("their disks know that they are witnesses");
    for n in 0..3 {
        cluster.kill(n);
    }
    cluster.launch(0);
    cluster.launch(1);
    guarded(&cluster, &[0, 1]);
    cluster.launch(2);
    guarded(&cluster, &[0, 1, 2]);
    for n in 0..3 {
        let witness = &cluster.json(n, "/api/v1/status")["witness"];
        assert_eq!(
            (&witness["standing"], &witness["missing"]),
            (&"witness".into(), &Value::Null),
            "{witness}"
        );
    }
}

#[test]
fn a_disk_that_hangs_leaves_its_node_unsaved_and_well_and_bootstrap_makes_the_others_witnesses() {
    let mut cluster = Cluster::unstarted(3, |_, _| String::new());
    for n in 0..3 {
        fs::create_dir(cluster.state_dir(n)).unwrap();
        cluster.write_settings(n, &cluster.with_state(n, SETTINGS));
    }
    hang(&cluster, 1);
    cluster.launch_all();
    let before = cluster.transitions();
    lacks(&cluster, 1, "unsaved", "save");
    lacks(&cluster, 0, "free", "witnesses");
    let (code, said, _) = run(cluster.order(0, &["status", "--http", &cluster.url(0, "")]));
    assert!(code == 0 && said.contains("WITNESS   no      free: not every member"), "{said}");

    let (code, said, why) = run(cluster.order(1, &["bootstrap"]));
    assert!(code == 1 && said.is_empty() && why.contains("keeps no state of rosters"), "{said}{why}");
    let hash = cluster.json(0, "/api/v1/status")["roster_hash"].as_str().unwrap().to_owned();
    for confirm in [&["bootstrap"][..], &["bootstrap", "--confirm", "0123456789ab"]] {
        let (code, said, why) = run(cluster.order(0, confirm));
        assert!(code == 1 && said.is_empty() && why.contains(&format!("roster is {hash}")), "{said}{why}");
        assert!(why.contains("hears every member") && why.contains(&format!("--confirm {hash}")), "{why}");
    }
    lacks(&cluster, 0, "free", "witnesses");
    for n in [0, 2] {
        let (code, said, why) = run(cluster.order(n, &["bootstrap", "--confirm", &hash]));
        assert!(code == 0 && said.starts_with(&format!("is a witness of roster {hash} now")), "{said}{why}");
    }
    guarded(&cluster, &[0, 2]);
    lacks(&cluster, 1, "unsaved", "save");
    assert_ne!(cluster.get(1, "/quorumz?guard=true").0, 200);
    cluster.nobody_else_accused(&before, &[]);
    cluster.signal(1, Signal::SIGTERM);
    assert_eq!(cluster.ended(1), Some(0), "nobody waits for that disk");
}

#[test]
fn a_state_dir_that_cannot_be_written_leaves_its_node_unsaved_and_well() {
    let mut cluster = Cluster::unstarted(4, |_, _| String::new());
    let path = |name: &str| cluster.dir().join(name).display().to_string();
    let (file, fifo, missing) = (path("file"), path("fifo"), path("missing"));
    fs::write(&file, "").unwrap();
    mkfifo(fifo.as_str(), Mode::S_IRWXU).unwrap();
    // No process may write there, not even root.
    let folders = [&file, &fifo, &missing, "/proc"].map(|dir| format!("state_dir = {dir:?}\n{SETTINGS}"));
    for (n, settings) in folders.iter().enumerate() {
        cluster.write_settings(n, settings);
    }
    cluster.launch_all();
    let before = cluster.transitions();
    for (n, rule) in ["state_dir", "state_dir", "save", "save"].into_iter().enumerate() {
        lacks(&cluster, n, "unsaved", rule);
    }
    cluster.nobody_else_accused(&before, &[]);
}

#[test]
fn a_torn_state_is_put_aside_and_the_node_starts() {
    let mut cluster = Cluster::with_states(2, SETTINGS);
    guarded(&cluster, &[0, 1]);
    cluster.kill(0);
    let file = cluster.state_dir(0).join("rosters.json");
    fs::write(&file, "{\"format\":1,\"conf").unwrap();
    cluster.launch(0);
    guarded(&cluster, &[0, 1]);
    assert_eq!(fs::read_to_string(file.with_extension("json.aside")).unwrap(), "{\"format\":1,\"conf");
}

#[test]
fn bootstrap_is_refused_while_a_witness_of_another_roster_is_heard() {
    let mut cluster = Cluster::with_states(3, SETTINGS);
    guarded(&cluster, &[0, 1, 2]);
    cluster.kill(0);
    let text = fs::read_to_string(cluster.settings(0)).unwrap();
    fs::write(cluster.settings(0), text.replacen("[\"", "[\"n9@127.0.0.1:9\", \"", 1)).unwrap();
    cluster.launch(0);
    let witness = lacks(&cluster, 0, "bound", "agreement");
    let former = &witness["former"][0];
    assert_eq!((&former["members"], &former["needed"], &former["agreed"]), (&3.into(), &2.into(), &1.into()));
    assert_eq!(former["not_agreed"], serde_json::json!(["n2", "n3"]));
    let (_, said, _) = run(cluster.order(0, &["status", "--http", &cluster.url(0, "")]));
    assert!(
        said.contains("WITNESS   no      bound: 1 of a former roster's 3 members have this one"),
        "{said}"
    );
    let hash = cluster.json(0, "/api/v1/status")["roster_hash"].as_str().unwrap().to_owned();
    let refused = || {
        let (code, _, why) = run(cluster.order(0, &["bootstrap", "--confirm", &hash]));
        (code == 1 && why.contains("is a witness of another roster")).then_some(())
    };
    within(AT_ALL, refused).expect("it hears n2 and n3");
    guarded(&cluster, &[1, 2]);
}

#[test]
fn a_leave_for_good_is_on_disk_before_it_is_announced() {
    let cluster = Cluster::with_states(3, SETTINGS);
    guarded(&cluster, &[0, 1, 2]);
    let since = Clock.now();
    let (code, said, why) = run(cluster.order(1, &["leave"]));
    assert!(code == 0 && said.contains("announced as a removal"), "{said}{why}");
    assert!(kept(&cluster, 1)["witness"] == false, "{}", kept(&cluster, 1));
    cluster.all_say(1, "verdict", "left", since, AT_ALL);
    // A disk that hangs: its leave frees nobody of it, so it is announced as one for a restart.
    hang(&cluster, 2);
    let (code, said, why) = run(cluster.order(2, &["leave"]));
    assert!(code == 1 && why.contains("announced as a restart: the disk did not take"), "{said}{why}");
    assert!(is_witness(&cluster, 2));
    let told = |event: &Value| event["type"] == "leave" && event["peer"] == "n3" && event["to"] == "restart";
    cluster.event(0, told);
}
