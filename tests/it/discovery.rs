//! Rosters of real daemons that change while they run: by files, by settings, by DNS.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::dns::{DnsServer, Says};
use crate::harness::{AT_ALL, Cluster, within};

/// The runs of these peers as a node knows them, and all verdicts that it told, but that rosters differ while they change.
fn standing(cluster: &Cluster, n: usize, ids: &[&str]) -> (BTreeMap<String, Value>, Vec<String>) {
    let peers = cluster.peers(n).into_iter();
    let runs = peers.map(|peer| (peer["server_id"].as_str().unwrap().to_owned(), peer["instance"].clone()));
    let events = cluster.events(n).into_iter();
    let told = events.filter(|e| {
        let is_rollout = e["from"] == "config_mismatch" || e["to"] == "config_mismatch";
        let is_about = e["peer"].as_str().is_some_and(|id| ids.contains(&id));
        is_about && e["type"] != "address" && !is_rollout
    });
    (runs.filter(|(id, _)| ids.contains(&id.as_str())).collect(), told.map(|e| e.to_string()).collect())
}

/// Waits until each of these nodes has exactly these others as peers, and hears all.
#[track_caller]
fn all_hear(cluster: &Cluster, nodes: &[usize]) {
    let hears = |n: usize| {
        // Who is up by the word of others alone has no run yet.
        let is_heard = |peer: &Value| peer["verdict"] == "up" && !peer["instance"].is_null();
        let up = |peer: &Value| is_heard(peer).then(|| peer["server_id"].as_str().unwrap().to_owned());
        let peers: Option<Vec<String>> = cluster.peers(n).iter().map(up).collect();
        let others: Vec<String> =
            nodes.iter().filter(|other| **other != n).map(|other| cluster.nodes[*other].id.clone()).collect();
        peers == Some(others)
    };
    let met = within(AT_ALL, || nodes.iter().all(|n| hears(*n)).then_some(()));
    assert!(met.is_some(), "not {nodes:?} alone:\n{}", cluster.tell());
}

/// Every count of a change of somebody's status, at these nodes.
fn transitions(cluster: &Cluster, nodes: &[usize], ids: &[&str]) -> Vec<((usize, String, String), u64)> {
    let all = nodes.iter().flat_map(|n| cluster.transitions_at(*n));
    let mut all: Vec<_> = all.filter(|((_, peer, _), _)| ids.contains(&peer.as_str())).collect();
    all.sort();
    all
}

/// A file of peers with these nodes, put into its place as a whole.
fn write_peers(cluster: &Cluster, nodes: &[usize]) {
    let target = |n: &usize| format!("{}@{}", cluster.nodes[*n].id, cluster.nodes[*n].udp);
    let targets: Vec<String> = nodes.iter().map(target).collect();
    let (new, path) = (cluster.dir().join("peers.new"), cluster.dir().join("peers.json"));
    fs::write(&new, serde_json::json!([{ "targets": targets, "labels": { "rack": "7" } }]).to_string())
        .unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn a_file_gains_a_node_and_loses_another() {
    let text = |cluster: &Cluster, _| format!("peer_files = [{:?}]\n", cluster.dir().join("peers.json"));
    let mut cluster = Cluster::unstarted(5, text);
    write_peers(&cluster, &[0, 1, 2, 3]);
    (0..4).for_each(|n| cluster.launch(n));
    all_hear(&cluster, &[0, 1, 2, 3]);
    let (stay, ids) = ([0, 1, 2], ["n1", "n2", "n3"]);
    let left = cluster.order(3, &["leave"]).output().unwrap();
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    assert_eq!(cluster.ended(3), Some(0));
    let before = stay.map(|n| standing(&cluster, n, &ids));
    let counted = transitions(&cluster, &stay, &ids);
    let bytes = cluster.peer(0, 1)["bytes_received"].as_u64().unwrap();
    write_peers(&cluster, &[0, 1, 2, 4]);
    cluster.launch(4);
    let now = [0, 1, 2, 4];
    all_hear(&cluster, &now);
    assert_eq!(stay.map(|n| standing(&cluster, n, &ids)), before);
    assert_eq!(transitions(&cluster, &stay, &ids), counted);
    assert!(cluster.peer(0, 1)["bytes_received"].as_u64().unwrap() >= bytes, "its counters go on");
    let hash = |n: usize| cluster.json(n, "/api/v1/status")["roster_hash"].clone();
    let clean = |n: usize| !cluster.get(n, "/api/v1/matrix").1.contains("\"n4\"");
    let met = within(AT_ALL, || now.iter().all(|n| clean(*n) && hash(*n) == hash(0)).then_some(()));
    assert!(met.is_some(), "{:?}", now.map(hash));
    for n in now {
        assert_eq!(cluster.get(n, "/api/v1/peers/n4").0, 404);
        assert!(!cluster.get(n, "/metrics?detail=matrix").1.contains("\"n4\""));
    }
    let told = |event: &Value| event["type"] == "roster" && event["why"].as_str().unwrap().contains("n5");
    cluster.event(0, told);
    half_a_file_changes_nothing(&cluster, &now);
}

fn half_a_file_changes_nothing(cluster: &Cluster, nodes: &[usize]) {
    let path = cluster.dir().join("peers.json");
    let failures = |n: usize| {
        let series = cluster.series(n, "lastseen_discovery_failures_total");
        let [(labels, count)] = &series[..] else { panic!("{series:?}") };
        assert_eq!(labels["source"], path.display().to_string());
        *count
    };
    assert!(nodes.iter().all(|n| failures(*n) == 0.0));
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let met = within(AT_ALL, || nodes.iter().all(|n| failures(*n) == 1.0).then_some(()));
    assert!(met.is_some(), "{:?}", nodes.iter().map(|n| failures(*n)).collect::<Vec<_>>());
    all_hear(cluster, nodes);
}

/// A file with these static peers, as they are written.
fn write_settings(cluster: &Cluster, n: usize, peers: &[String], rest: &str) {
    fs::write(cluster.settings(n), format!("static_peers = {peers:?}\n{rest}")).unwrap();
}

fn entries(cluster: &Cluster, nodes: &[usize]) -> Vec<String> {
    nodes.iter().map(|n| format!("{}@{}", cluster.nodes[*n].id, cluster.nodes[*n].udp)).collect()
}

#[test]
fn a_reload_changes_the_roster_and_a_bad_file_nothing() {
    let cluster = Cluster::with_files(3, |_| String::new());
    let before = cluster.transitions();
    write_settings(
        &cluster,
        0,
        &entries(&cluster, &[0, 1]),
        "refresh_interval = \"5s\"\n[log]\ntransitions = \"none\"\n",
    );
    cluster.signal(0, Signal::SIGHUP);
    let only = |ids: &[&str]| {
        let peers = || cluster.peers(0).iter().map(|peer| peer["server_id"].clone()).collect::<Vec<_>>();
        let met = within(AT_ALL, || (peers() == *ids).then_some(()));
        assert!(met.is_some(), "{ids:?} is {:?}", peers());
    };
    only(&["n2"]);
    // It would be another node; and what else is in that file does not count either.
    let other = [format!("zz@{}", cluster.nodes[0].udp), format!("n9@{}", cluster.nodes[2].udp)];
    write_settings(&cluster, 0, &other, "[metrics]\ndetail = \"summary\"\n");
    let Output { status, stderr, .. } = cluster.order(0, &["reload"]).output().unwrap();
    let complaint = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("\"zz\"") && complaint.contains("runs as \"n1\""), "{complaint}");
    assert_eq!(cluster.value(0, "lastseen_config_last_reload_successful"), 0.0);
    assert!(!cluster.series(0, "lastseen_peer_link_up").is_empty(), "the detail is what it was");
    only(&["n2"]);
    let all = entries(&cluster, &[0, 1, 2]);
    write_settings(
        &cluster,
        0,
        &all,
        "cluster = \"other\"\nreload_on_change = true\n[metrics]\ndetail = \"summary\"\n",
    );
    let Output { stdout, .. } = cluster.order(0, &["reload", "--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&stdout).unwrap();
    let changed =
        ["log.transitions", "metrics.detail", "refresh_interval", "reload_on_change", "static_peers"];
    assert_eq!(told["changed"], serde_json::json!(changed));
    assert_eq!(told["waiting"], serde_json::json!(["cluster"]));
    assert!(cluster.series(0, "lastseen_peer_link_up").is_empty(), "the detail is another");
    cluster.all_up(AT_ALL);
    // From now on nobody needs to be told: once it has looked at the file, what changes is seen.
    let met = within(AT_ALL, || {
        write_settings(&cluster, 0, &entries(&cluster, &[0, 2]), "reload_on_change = true\n");
        (cluster.peers(0).len() == 1).then_some(())
    });
    assert!(met.is_some(), "{}", cluster.tell());
    only(&["n3"]);
    cluster.nobody_else_accused(&before, &[0]);
}

#[test]
fn a_name_that_moves_takes_its_link_along() {
    let dns = DnsServer::start();
    let address = dns.address;
    let mut cluster = Cluster::unstarted(2, |cluster, n| {
        let (own, port) = (&cluster.nodes[n], cluster.nodes[1].udp.port());
        let first = format!("n1@{}", cluster.nodes[0].udp);
        format!(
            "server_id = {:?}\nstatic_peers = [{first:?}, \"n2@n2.localhost:{port}\"]\ndns_servers = [\"{address}\"]\n\
             refresh_interval = \"1s\"\n[security]\ninsecure = true\n",
            own.id
        )
    });
    let home = cluster.nodes[1].udp;
    let mut away = home;
    away.set_ip([127, 0, 0, 77].into());
    // It is reached under all addresses of loopback, and itself sends from one.
    cluster.nodes[1].udp.set_ip([0, 0, 0, 0].into());
    dns.say("n2.localhost", Says::Addresses(vec![home.ip()]));
    let log = cluster.dir().join("log");
    let file = fs::File::create(&log).unwrap();
    cluster.launch_with(0, |command| {
        command.stderr(file);
    });
    cluster.launch(1);
    all_hear(&cluster, &[0, 1]);
    let before = (standing(&cluster, 0, &["n2"]), cluster.transitions());
    dns.say("n2.localhost", Says::Addresses(vec![away.ip()]));
    let told = format!("name resolves peer=\"n2@n2.localhost:{}\" address={away}", home.port());
    let text = || fs::read_to_string(&log).unwrap();
    assert!(within(AT_ALL, || text().contains(&told).then_some(())).is_some(), "no {told:?} in {}", text());
    // Where nobody can say, and where nobody has the name any more, it stays.
    let failures = || cluster.series(0, "lastseen_discovery_failures_total")[0].1;
    for says in [Some(Says::Fails), None] {
        let before = failures();
        match says {
            Some(says) => dns.say("n2.localhost", says),
            None => dns.forget("n2.localhost"),
        }
        assert!(within(AT_ALL, || (failures() > before + 1.0).then_some(())).is_some(), "{}", failures());
    }
    assert!(text().contains(&format!("({away} is kept until then)")), "{}", text());
    all_hear(&cluster, &[0, 1]);
    assert_eq!((standing(&cluster, 0, &["n2"]), cluster.transitions()), before);
    assert_eq!(cluster.value(0, "lastseen_unresolved_peers"), 0.0);
}

#[test]
fn config_check_says_whether_a_change_keeps_the_quorum() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, peers: &[&str]| {
        let path = dir.path().join(name);
        fs::write(&path, format!("listen_address = \"127.0.0.1:1\"\nstatic_peers = {peers:?}\n")).unwrap();
        path
    };
    let three = file("three", &["a@127.0.0.1:1", "b@127.0.0.1:2", "c@127.0.0.1:3"]);
    let four = file(
        "four",
        &["a@127.0.0.1:1", "b@127.0.0.1:2", "c@127.0.0.1:3", "d@127.0.0.1:4", "dns+a://x.localhost"],
    );
    let one = file("one", &["a@127.0.0.1:1"]);
    let check = |new, old| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
        let Output { status, stdout, .. } = command
            .args(["config", "check"])
            .arg(new)
            .arg("--against")
            .arg(old)
            .env_clear()
            .output()
            .unwrap();
        (status.code(), String::from_utf8(stdout).unwrap())
    };
    let (code, told) = check(&four, &three);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains(
            "1 added, 0 removed, 4 then; nodes that only DNS names are not counted: the quorum is kept"
        ),
        "{told}"
    );
    assert!(told.contains("this node is a, with at least 3 peers"), "{told}");
    let (code, told) = check(&one, &three);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("1 of 3 remain; remove 1 at most at a time"), "{told}");
}
