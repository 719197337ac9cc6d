//! What a cluster of real processes notices, and by when.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use lastseen::net::Clock;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{AT_ALL, Cluster, within};

const NODES: usize = 5;
const CRASH_WITHIN: Duration = Duration::from_secs(2);
const RESTART_WITHIN: Duration = Duration::from_secs(2);
const SUSPECTED_WITHIN: Duration = Duration::from_secs(3);
const DOWN_WITHIN: Duration = Duration::from_secs(6);

#[test]
fn a_killed_process_is_down_everywhere_and_heard_again_when_it_is_back() {
    let mut cluster = Cluster::start(NODES);
    let before = cluster.transitions();
    let since = cluster.kill(2);
    let down = cluster.all_say(2, "status", "down", since, CRASH_WITHIN);
    assert_eq!(cluster.verdict(0, 2), "refused", "the host answered for the closed port");
    let since = Clock.now();
    cluster.launch(2);
    let healthy = cluster.all_say(2, "status", "healthy", since, RESTART_WITHIN);
    cluster.all_up(AT_ALL);
    cluster.nobody_else_accused(&before, &[2]);
    println!("SIGKILL to Down at all: {down:?}; start to Healthy at all: {healthy:?}");
}

#[test]
fn a_stopped_process_is_suspected_then_down_and_accuses_nobody_when_it_goes_on() {
    let cluster = Cluster::start(NODES);
    let before = cluster.transitions();
    let since = cluster.signal(4, Signal::SIGSTOP);
    let suspected = cluster.all_say(4, "status", "suspected", since, SUSPECTED_WITHIN);
    let down = cluster.all_say(4, "status", "down", since, DOWN_WITHIN);
    assert_eq!(cluster.verdict(0, 4), "down", "nothing answered for it");
    let since = cluster.signal(4, Signal::SIGCONT);
    let healthy = cluster.all_say(4, "status", "healthy", since, AT_ALL);
    cluster.nobody_else_accused(&before, &[4]);
    println!("SIGSTOP to Suspected at all: {suspected:?}, Down: {down:?}; SIGCONT to Healthy: {healthy:?}");
}

#[test]
fn a_node_that_leaves_is_left_and_never_suspected() {
    let mut cluster = Cluster::start(NODES);
    let before = cluster.transitions();
    let since = cluster.signal(1, Signal::SIGTERM);
    cluster.all_say(1, "verdict", "left", since, Duration::from_secs(2));
    assert_eq!(cluster.ended(1), Some(0));
    let suspected = |all: &crate::harness::Transitions| -> u64 {
        all.iter().filter(|((_, _, to), _)| to == "suspected").map(|(_, count)| count).sum()
    };
    assert_eq!(suspected(&cluster.transitions()), suspected(&before));
    cluster.nobody_else_accused(&before, &[1]);
    let degraded = cluster.value(0, "lastseen_cluster_degraded");
    assert!(degraded == 0.0, "who has said that it leaves is no alarm");
}

#[test]
fn one_file_serves_the_whole_fleet() {
    let cluster = Cluster::with_one_file(NODES);
    for n in 0..NODES {
        let status: Value = serde_json::from_str(&cluster.get(n, "/api/v1/status").1).unwrap();
        assert_eq!(status["server_id"], *cluster.nodes[n].id, "found by its address in the file");
        assert_eq!(status["total_peers"], NODES);
    }
}

#[test]
fn what_a_peer_runs_is_told() {
    let cluster = Cluster::start(2);
    let told = || {
        let peer: Value = serde_json::from_str(&cluster.get(0, "/api/v1/peers/n2").1).unwrap();
        let said = [&peer["version"], &peer["wire_version"], &peer["explain"]["setup"]["version_equal"]];
        (said == [&Value::from(env!("CARGO_PKG_VERSION")), &1.into(), &true.into()]).then_some(())
    };
    within(Duration::from_secs(5), told).expect("its profile comes with its answers");
}

#[test]
fn the_quorum_goes_with_the_majority_and_comes_back() {
    let mut cluster = Cluster::start(3);
    assert_eq!(cluster.get(0, "/quorumz").0, 200);
    cluster.kill(1);
    cluster.kill(2);
    let is = |code| (cluster.get(0, "/quorumz").0 == code).then_some(());
    within(Duration::from_secs(5), || is(503)).expect("one of three is no majority");
    assert_eq!(cluster.get(0, "/readyz").0, 200, "a lost peer is no fault of this node");
    cluster.launch(1);
    let is = |code| (cluster.get(0, "/quorumz").0 == code).then_some(());
    within(Duration::from_secs(5), || is(200)).expect("two of three are");
}

#[test]
fn the_event_stream_tells_the_transition_and_its_cause() {
    let mut cluster = Cluster::start(3);
    let mut stream = TcpStream::connect(cluster.nodes[0].http).unwrap();
    stream.set_read_timeout(Some(AT_ALL)).unwrap();
    let host = cluster.nodes[0].http;
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.next().unwrap().contains(" 200 "));
    cluster.kill(1);
    let down = lines
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data:")?.trim()).ok())
        .find(|event| event["type"] == "status" && event["to"] == "down")
        .expect("the stream goes on until then");
    assert_eq!(down["peer"], *cluster.nodes[1].id);
    assert_eq!((&down["from"], &down["verdict"]), (&"suspected".into(), &"refused".into()));
    assert!(down["why"].as_str().unwrap().contains("refuse"), "{down}");
}

#[test]
#[ignore = "needs promtool"]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let mut cluster = Cluster::start(3);
    let since = cluster.kill(2);
    cluster.all_say(2, "status", "down", since, AT_ALL);
    let (code, text) = cluster.get(0, "/metrics");
    assert_eq!(code, 200);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
