//! Services, labels and migrations of real daemons: as one node is told of them, and as another one tells it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::control::run;
use crate::harness::{AT_ALL, Cluster, within};

/// Waits until it is so.
#[track_caller]
fn until(what: &str, mut look: impl FnMut() -> bool) {
    assert!(within(AT_ALL, || look().then_some(())).is_some(), "{what}");
}

/// What `n` has told of a service of the first node: the states that it came to be in, one after the other.
fn told(cluster: &Cluster, n: usize, service: &str) -> Vec<Value> {
    let of_it = |event: &Value| event["type"] == "service" && event["service"] == *service;
    let mut events = cluster.events(n);
    events.retain(|event| of_it(event) && event["peer"] == "n1");
    events.into_iter().map(|mut event| event["to"].take()).collect()
}

/// Waits until the second node has told these states of a service, and no more. `meanwhile` is done before each look.
#[track_caller]
fn until_told(cluster: &Cluster, service: &str, states: Value, mut meanwhile: impl FnMut()) {
    let states = states.as_array().unwrap().clone();
    let mut newest = Vec::new();
    let is_so = within(AT_ALL, || {
        meanwhile();
        newest = told(cluster, 1, service);
        (newest == states).then_some(())
    });
    assert!(is_so.is_some(), "{service} is to be {states:?}, and is {newest:?}");
}

/// What a node lists of a service of the first node: its state, or null. `all`: also where it cannot be had.
fn listed(cluster: &Cluster, n: usize, service: &str, all: bool) -> Value {
    let mut told = cluster.json(n, &format!("/api/v1/services/{service}?all={all}"));
    assert!(told["instances"].is_array() || told["error"] == "unknown_service", "{told}");
    let Value::Array(instances) = told["instances"].take() else { return Value::Null };
    let of_first = instances.into_iter().find(|instance| instance["server_id"] == "n1");
    of_first.map_or(Value::Null, |mut instance| instance["state"].take())
}

/// Waits until the second node lists a service of the first one so; it is there without being asked for all only if it passes.
#[track_caller]
fn until_listed(cluster: &Cluster, service: &str, state: &str) {
    until(&format!("{service} is to be listed as {state}"), || listed(cluster, 1, service, true) == state);
    let passes = if state == "passing" { json!(state) } else { Value::Null };
    assert_eq!(listed(cluster, 1, service, false), passes, "{service}");
}

/// What a command prints that asks the second node.
#[track_caller]
fn asked(cluster: &Cluster, args: &[&str]) -> String {
    let (code, said, complaint) = run(asking(cluster, args));
    assert_eq!(code, 0, "{args:?}: {complaint}");
    said
}

fn asking(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = cluster.order(1, args);
    command.env("LASTSEEN_HTTP", cluster.url(1, ""));
    command
}

/// The migrations that `n` has told, by id.
fn migrations(cluster: &Cluster, n: usize) -> Vec<(String, Value)> {
    let mut events = cluster.events(n);
    events.retain(|event| event["type"] == "migrate");
    let mut all: Vec<(String, Value)> =
        events.into_iter().map(|event| (event["migration"].as_str().unwrap().to_owned(), event)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// An order that succeeds, and what it answers.
#[track_caller]
fn order(cluster: &Cluster, args: &[&str]) -> Value {
    let (code, said, complaint) = run(cluster.order(0, &[args, &["--json"]].concat()));
    assert_eq!(code, 0, "{args:?}: {complaint}");
    serde_json::from_str(&said).unwrap()
}

/// An order that fails: its exit code, and what it complains of.
fn refused(cluster: &Cluster, args: &[&str]) -> (i32, String) {
    let (code, said, complaint) = run(cluster.order(0, args));
    assert_eq!(said, "", "{args:?}");
    (code, complaint)
}

/// The first node's settings beside the roster, in force at once.
fn settle(cluster: &Cluster, text: &str) -> Value {
    cluster.write_settings(0, text);
    order(cluster, &["reload"])
}

fn section(name: &str, rest: &str) -> String {
    format!("[[services]]\nname = {name:?}\naddress = \"10.0.0.7:80\"\n{rest}\n")
}

fn check(name: &str, check: &str) -> String {
    section(name, &format!("{check}\ncheck_interval = \"200ms\"\ncheck_fall = 2"))
}

/// A server that answers every request with this status.
fn serve(at: SocketAddr, status: Arc<AtomicU16>) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            // Whoever has given up meanwhile does not mind.
            while stream.read_line(&mut line).is_ok_and(|n| n > 2) {}
            let status = status.load(Ordering::Relaxed);
            let _ = write!(stream.get_mut(), "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        }
    });
    at
}

#[test]
fn checks_set_the_state_that_another_node_tells() {
    let cluster = Cluster::with_files(2, |_| String::new());
    // An address of this cluster's own: nobody else takes the port while nobody listens.
    let any = SocketAddr::new(cluster.nodes[0].udp.ip(), 0);
    let listen = |at: SocketAddr| {
        let listener = TcpListener::bind(at).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    };
    let first = listen(any);
    let web = first.local_addr().unwrap();
    let status = Arc::new(AtomicU16::new(503));
    let page = serve(any, Arc::clone(&status));
    let sign = cluster.dir().join("sign");
    let command = format!("check_command = [\"/bin/sh\", \"-c\", \"test -e {}\"]", sign.display());
    settle(
        &cluster,
        &[
            check("web", &format!("check_tcp = \"{web}\"")),
            check("page", &format!("check_http = \"http://{page}/health\"")),
            check("job", &command),
        ]
        .concat(),
    );
    let take = |listener: &TcpListener| while listener.accept().is_ok() {};
    until_told(&cluster, "web", json!(["failed", "passing"]), || take(&first));
    for service in ["page", "job"] {
        until_told(&cluster, service, json!(["failed"]), || ());
    }
    drop(first);
    status.store(204, Ordering::Relaxed);
    std::fs::write(&sign, "").unwrap();
    until_told(&cluster, "web", json!(["failed", "passing", "failed"]), || ());
    until_listed(&cluster, "web", "failed");
    for service in ["page", "job"] {
        until_told(&cluster, service, json!(["failed", "passing"]), || ());
        until_listed(&cluster, service, "passing");
    }
    let again = listen(web);
    status.store(500, Ordering::Relaxed);
    std::fs::remove_file(&sign).unwrap();
    until_told(&cluster, "web", json!(["failed", "passing", "failed", "passing"]), || take(&again));
    for service in ["page", "job"] {
        until_told(&cluster, service, json!(["failed", "passing", "failed"]), || ());
        until_listed(&cluster, service, "failed");
    }
}

#[test]
fn what_is_ordered_reaches_another_node() {
    let cluster = Cluster::start(3);
    let answer = order(&cluster, &["publish", "web", "10.0.0.7:80", "--weight", "3", "--payload", "blue"]);
    let expected = json!({"name": "web", "address": "10.0.0.7:80", "state": "passing", "weight": 3, "version": 0,
        "is_new": true, "message": "offers web at 10.0.0.7:80: passing"});
    assert_eq!(answer, expected);
    until_told(&cluster, "web", json!(["passing"]), || ());
    let answer = order(&cluster, &["publish", "web", "--state", "draining"]);
    assert_eq!((&answer["weight"], &answer["is_new"]), (&json!(3), &json!(false)), "it stays as it was");
    until_told(&cluster, "web", json!(["passing", "draining"]), || ());
    order(&cluster, &["withdraw", "web"]);
    until_told(&cluster, "web", json!(["passing", "draining", null]), || ());
    until("it is no service any more", || cluster.get(1, "/api/v1/services/web").0 == 404);
    order(&cluster, &["label", "zone=a", "role=db"]);
    until("labels are told", || cluster.peer(1, 0)["labels"] == json!({"zone": "a", "role": "db"}));
    let answer = order(&cluster, &["label", "zone-"]);
    assert_eq!(answer, json!({"labels": {"role": "db"}, "message": "labels: role=db"}));
    until("one is taken away", || cluster.peer(1, 0)["labels"] == json!({"role": "db"}));
    for (label, chosen) in [("role=db", true), ("role=web", false), ("zone=a", false)] {
        assert_eq!(asked(&cluster, &["peers", "--all", "--label", label]).contains("n1 "), chosen, "{label}");
    }
    let info = cluster.series(1, "lastseen_peer_info");
    let labels = |peer: &str| info.iter().find(|(labels, _)| labels["peer"] == peer).unwrap().0.clone();
    assert_eq!(
        (labels("n1").get("label_role"), labels("n1").get("label_zone")),
        (Some(&"db".to_owned()), None)
    );
    assert_eq!(labels("n3").get("label_role"), None, "only who has it");
    let moving = ["migrate", "web", "--from", "n3", "--to", "n1", "--reason", "full disks", "--within", "2m"];
    let answer = order(&cluster, &moving);
    for n in 0..3 {
        until("it is told", || !migrations(&cluster, n).is_empty());
        let all = migrations(&cluster, n);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].0, answer["migration"]);
        for (key, value) in [("service", "web"), ("from", "n3"), ("to", "n1"), ("reason", "full disks")] {
            assert_eq!(all[0].1[key], value, "{all:?}");
        }
    }
}

#[test]
fn another_node_looks_up_and_routes() {
    let cluster = Cluster::start(2);
    let (code, said, complaint) = run(asking(&cluster, &["services", "web"]));
    assert!(code != 0 && said.is_empty() && complaint.contains("no node offers a service"), "{complaint}");
    order(&cluster, &["label", "zone=a"]);
    order(&cluster, &["publish", "web", "10.0.0.7:80", "--version", "7"]);
    let (code, _, complaint) =
        run(cluster.order(1, &["publish", "web", "10.0.0.8:80", "--version", "6", "--weight", "2"]));
    assert_eq!(code, 0, "{complaint}");
    let total =
        |n: usize, path: &str| cluster.json(n, &format!("/api/v1/services/web{path}"))["total"].take();
    until("both know both", || total(0, "") == 2 && total(1, "") == 2 && total(1, "?label=zone=a") == 1);
    let read = |args: &[&str]| -> Value { serde_json::from_str(&asked(&cluster, args)).unwrap() };
    let all = read(&["services", "--json"]);
    let expected = json!([{"name": "web", "passing": 2, "draining": 0, "failed": 0, "unreachable": 0,
        "newest_version": 7}]);
    assert_eq!((&all["services"], &all["total"]), (&expected, &json!(1)));
    let one = read(&["services", "web", "--label", "zone=a", "--json"]);
    assert_eq!((&one["total"], &one["instances"][0]["address"]), (&json!(1), &json!("10.0.0.7:80")));
    let versions = asked(&cluster, &["services", "web", "--versions"]);
    assert!(versions.contains("\n\na node that returns gets web at version 7 from n1\n"), "{versions}");
    let chosen = |args: &[&str]| asked(&cluster, args).lines().next().unwrap_or_default().to_owned();
    assert_eq!(chosen(&["route", "web", "alice", "--prefer", "zone=a"]), "10.0.0.7:80");
    let first: BTreeSet<String> = (0..16).map(|key| chosen(&["route", "web", &format!("k{key}")])).collect();
    assert_eq!(first, ["10.0.0.7:80", "10.0.0.8:80"].map(str::to_owned).into(), "sessions are spread");
    for key in ["k1", "k2", "k3"] {
        let path = format!("/api/v1/route/web?key={key}");
        let route = |n: usize| cluster.json(n, &path)["first"]["server_id"].take();
        assert!(route(1).is_string() && route(0) == route(1), "{key} goes to the same one from everywhere");
    }
    order(&cluster, &["drain", "30m"]);
    until_listed(&cluster, "web", "draining");
    assert_eq!(read(&["services", "--json"])["services"][0]["draining"], 1);
    let route = asked(&cluster, &["route", "web", "alice", "--prefer", "zone=a"]);
    assert!(route.starts_with("10.0.0.8:80\n") && route.contains("second  none"), "{route}");
    order(&cluster, &["undrain"]);
    until_listed(&cluster, "web", "passing");
}

#[test]
fn what_is_wrong_with_an_order_is_named() {
    let cluster = Cluster::start(2);
    let nowhere = cluster.dir().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    for (args, code, told) in [
        (&["publish", "db"][..], 1, "db is new here: its address is missing; it offers none"),
        (&["publish", "d b", "h:1"], 64, "\"d b\" is no name of a service"),
        (&["publish", "db", "h"], 64, "HOST:PORT is right"),
        (&["publish", "db", "h:1", "--weight", "0"], 64, "--weight"),
        (&["publish", "db", "h:1", "--state", "up"], 64, "passing, draining, failed"),
        (&["publish", "db", "h:1", "--payload", &"x".repeat(1024)], 1, "1024 are the most"),
        (&["withdraw", "db"], 1, "this node offers no service db"),
        (&["label", "zone"], 64, "write zone=VALUE to set it, or zone- to take it away"),
        (&["label", "Zone=a"], 64, "not named right"),
        (&["migrate", "db", "--from", "n3"], 4, "no node is called \"n3\"; the nearest are n2"),
        (&["migrate", "db", "--within", "2d"], 1, "within 2d does not fit; right is 1s to 1d"),
        (&["publish", "db", "h:1", "--socket", nowhere], 3, "no daemon answers"),
    ] {
        let (is, complaint) = refused(&cluster, args);
        assert!(is == code && complaint.contains(told), "{args:?}: {is}: {complaint}");
    }
}

#[test]
fn a_drain_tells_every_other_node_once() {
    let mut cluster = Cluster::start(3);
    for service in ["web", "db"] {
        order(&cluster, &["publish", service, "10.0.0.7:80"]);
    }
    order(&cluster, &["publish", "dead", "10.0.0.7:81", "--state", "failed"]);
    let answer = order(&cluster, &["drain", "30m", "--reason", "kernel upgrade"]);
    assert_eq!((&answer["migrations"], &answer["not_announced"]), (&json!(["db", "web"]), &json!([])));
    let message = answer["message"].as_str().unwrap();
    assert!(message.ends_with(": kernel upgrade; clients of db, web are to leave within 1m"), "{message}");
    let both = |cluster: &Cluster, n| {
        until("both are told", || migrations(cluster, n).len() >= 2);
        migrations(cluster, n)
    };
    let ids = |all: Vec<(String, Value)>| all.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let of_second = both(&cluster, 1);
    for (_, event) in &of_second {
        assert!(event["service"] == "web" || event["service"] == "db", "{event}");
        assert_eq!(
            (&event["from"], &event["to"], &event["reason"]),
            (&json!("n1"), &Value::Null, &json!("kernel upgrade"))
        );
    }
    let first = ids(of_second);
    assert_eq!(ids(both(&cluster, 2)), first);
    let again = order(&cluster, &["drain", "40m"]);
    assert_eq!(
        (&again["migrations"], &again["not_announced"]),
        (&json!([]), &json!([])),
        "they go on already"
    );
    let since = cluster.kill(2);
    cluster.all_say(2, "status", "down", since, AT_ALL);
    cluster.launch(2);
    assert_eq!(ids(both(&cluster, 2)), first, "who comes back before the end is told too");
    order(&cluster, &["undrain"]);
    order(&cluster, &["label", "seen=last"]);
    for n in [1, 2] {
        until("what was said later is there", || cluster.peer(n, 0)["labels"] == json!({"seen": "last"}));
        assert_eq!(ids(migrations(&cluster, n)), first, "and no migration is told again");
    }
}

/// `config check` of a node's file: whether it is right, and what it says.
fn config_check(file: &Path) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    command.env_clear().env("LASTSEEN_LISTEN_ADDRESS", "127.0.0.1:5278").args(["config", "check"]).arg(file);
    run(command)
}

#[test]
fn a_reload_changes_services_and_labels() {
    let cluster = Cluster::with_files(2, |_| "[labels]\nzone = \"a\"\n".to_owned() + &section("web", ""));
    until_told(&cluster, "web", json!(["passing"]), || ());
    order(&cluster, &["publish", "mine", "10.0.0.7:81"]);
    let other = "[labels]\nzone = \"b\"\n".to_owned() + &section("db", "weight = 5");
    let reloaded = settle(&cluster, &other);
    assert_eq!((&reloaded["changed"], &reloaded["waiting"]), (&json!(["labels", "services"]), &json!([])));
    until_told(&cluster, "web", json!(["passing", null]), || ());
    until_told(&cluster, "db", json!(["passing"]), || ());
    until("another label is told", || cluster.peer(1, 0)["labels"] == json!({"zone": "b"}));
    assert_eq!(settle(&cluster, &other)["changed"], json!([]));
    order(&cluster, &["publish", "mine", "--version", "2"]);
    let (code, said, complaint) = config_check(&cluster.settings(0));
    assert!(code == 0 && said.contains("[\"db: 10.0.0.7:80\"]"), "{said}{complaint}");
    cluster.write_settings(0, &(section("db", "") + &section("db", "")));
    let twice = "n1.toml:6: the service db is there twice; it stands at ";
    for (code, said, complaint) in [run(cluster.order(0, &["reload"])), config_check(&cluster.settings(0))] {
        assert!(code == 1 && said.is_empty() && complaint.contains(twice), "{said}{complaint}");
    }
    let most = "x".repeat(995);
    cluster.write_settings(0, &section("db", &format!("payload = {most:?}")));
    let (code, complaint) = refused(&cluster, &["reload"]);
    let told = "nothing is reloaded: with those that were published over the socket, the services have 10";
    assert!(code == 1 && complaint.contains(told), "{complaint}");
    assert_eq!(told_last(&cluster, "db"), json!("passing"), "nothing has changed");
}

fn told_last(cluster: &Cluster, service: &str) -> Value {
    told(cluster, 1, service).pop().unwrap_or_default()
}
