//! Hooks of real daemons: real programs, and a server that takes what is posted.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lastseen::net::Clock;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{AT_ALL, Cluster, within};

/// An interval at which a crash is Down soon.
const FAST: &str = "heartbeat_interval = \"200ms\"\nheartbeat_timeout = \"200ms\"\n";

/// A program of the test's own.
fn program(dir: &Path, name: &str, script: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A program that notes what it is given: a line for each call, of its environment, its arguments, and the event.
fn noting(dir: &Path, name: &str) -> PathBuf {
    let file = dir.join(format!("{name}.calls"));
    let script =
        format!("out=\"$(env | tr '\\n' ' ')|$*|$(cat)\"; printf '%s\\n' \"$out\" >> {}", file.display());
    program(dir, name, &script)
}

/// What such a program has noted.
fn noted(cluster: &Cluster, name: &str) -> Vec<String> {
    let text = fs::read_to_string(cluster.dir().join(format!("{name}.calls"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn hook(on: &str, program: &Path, more: &str) -> String {
    format!("[[hooks]]\non = {on}\ncommand = [{program:?}, \"--team\", \"storage\"]\n{more}\n")
}

/// Calls of the first node by this result.
fn count(cluster: &Cluster, result: &str) -> u64 {
    let text = cluster.get(0, "/metrics").1;
    let series = format!("lastseen_hooks_total{{result=\"{result}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
}

/// Waits until a process is no more, or waits for its parent alone.
fn wait_for_the_end(pid: &str) {
    let gone = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    };
    within(AT_ALL, gone).unwrap_or_else(|| panic!("{pid} lives"));
}

fn counts(cluster: &Cluster, expected: [u64; 4]) -> Option<()> {
    (["ok", "failed", "timeout", "held"].map(|result| count(cluster, result)) == expected).then_some(())
}

#[test]
fn a_crash_is_told_once_and_a_leave_is_not() {
    let mut cluster = Cluster::with_files(4, |dir| {
        let (page, left) = (noting(dir, "page"), noting(dir, "left"));
        FAST.to_owned()
            + &hook("[\"down\", \"healthy\"]", &page, "")
            + &hook("[\"left\"]", &left, "name = \"gone\"")
    });
    assert!(counts(&cluster, [0; 4]).is_some(), "all series are there from the start");
    let (since, page) = (Clock.now(), |cluster: &Cluster| {
        let lines = noted(cluster, "page");
        lines.into_iter().filter(|line| line.contains("\"server_id\":\"n1\"")).collect::<Vec<_>>()
    });
    assert!(cluster.order(1, &["leave"]).status().unwrap().success());
    cluster.all_say(1, "status", "down", since, AT_ALL);
    cluster.kill(2);
    within(AT_ALL, || (!page(&cluster).is_empty()).then_some(())).expect("the hook is called");
    let told = page(&cluster).remove(0);
    let [environment, arguments, json] = told.splitn(3, '|').collect::<Vec<_>>()[..] else {
        panic!("{told}")
    };
    assert_eq!(arguments, "--team storage");
    let own = |variable: &str| {
        ["PATH=", "LANG=", "PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|name| variable.starts_with(name))
    };
    assert!(environment.split_whitespace().all(own), "{environment}");
    let event: Value = serde_json::from_str(json).unwrap();
    let recorded = cluster.event(0, |e| e["id"] == event["id"]);
    for (key, value) in recorded.as_object().unwrap() {
        assert_eq!(&event[key], value, "{key} is as other readers get it");
    }
    for (key, value) in [
        ("type", "status"),
        ("peer", "n3"),
        ("to", "down"),
        ("on", "down"),
        ("hook", "page"),
        ("cluster", "default"),
        ("server_id", "n1"),
    ] {
        assert_eq!(event[key], value, "{event}");
    }
    assert_eq!(event["is_quorum_available"], false, "two of four are none");
    cluster.launch(2);
    within(AT_ALL, || (page(&cluster).len() == 2).then_some(())).expect("so is its return");
    assert!(page(&cluster)[1].contains("\"on\":\"healthy\""), "{:?}", page(&cluster));
    let gone: Vec<String> = noted(&cluster, "left");
    assert!(gone.iter().all(|line| line.contains("\"peer\":\"n2\"") && line.contains("\"hook\":\"gone\"")));
    within(AT_ALL, || counts(&cluster, [3, 0, 0, 0]))
        .unwrap_or_else(|| panic!("{}", cluster.get(0, "/metrics").1));
}

#[test]
fn a_mass_loss_is_one_call_and_who_stays_away_is_told_after_it() {
    let mut cluster = Cluster::with_files(5, |dir| {
        let page = noting(dir, "page");
        // What is lost within two intervals is known as one loss, on a busy machine too.
        let slow = "heartbeat_interval = \"500ms\"\nheartbeat_timeout = \"250ms\"\n";
        slow.to_owned() + &hook("[\"down\", \"mass_loss\"]", &page, "")
    });
    let told = |cluster: &Cluster| -> Vec<(String, Value)> {
        let events = noted(cluster, "page");
        let events = events
            .iter()
            .map(|line| serde_json::from_str::<Value>(line.splitn(3, '|').nth(2).unwrap()).unwrap());
        let of_first = events.filter(|event| event["server_id"] == "n1");
        of_first.map(|mut event| (event["on"].as_str().unwrap().to_owned(), event["peer"].take())).collect()
    };
    for n in 2..5 {
        cluster.kill(n);
    }
    within(AT_ALL, || (!told(&cluster).is_empty()).then_some(())).expect("the mass loss is told");
    for n in 2..4 {
        cluster.launch(n);
    }
    within(AT_ALL, || (told(&cluster).len() == 2).then_some(()))
        .unwrap_or_else(|| panic!("{:?}", told(&cluster)));
    assert_eq!(told(&cluster), [("mass_loss".to_owned(), Value::Null), ("down".to_owned(), "n5".into())]);
    within(AT_ALL, || counts(&cluster, [2, 0, 0, 2])).expect("those that are back are held");
}

#[test]
fn a_program_that_hangs_is_killed_and_hooks_change_at_a_reload() {
    let pids = |dir: &Path| dir.join("pids");
    let mut cluster = Cluster::with_files(2, |dir| {
        let hang = format!("sleep 600 & echo $$ $! > {}; wait", pids(dir).display());
        let hang = program(dir, "hang", &hang);
        FAST.to_owned() + &hook("[\"down\"]", &hang, "timeout = \"500ms\"\ndamping = \"0s\"")
    });
    cluster.kill(1);
    within(AT_ALL, || counts(&cluster, [0, 0, 1, 0])).expect("it is given up");
    let started = fs::read_to_string(pids(cluster.dir())).unwrap();
    started.split_whitespace().for_each(wait_for_the_end);
    let fails = program(cluster.dir(), "fails", "echo no >&2; exit 3");
    cluster.write_settings(0, &(FAST.to_owned() + &hook("[\"healthy\"]", &fails, "")));
    let Output { stdout, stderr, .. } = cluster.order(0, &["reload", "--json"]).output().unwrap();
    let told: Value =
        serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stderr)));
    assert_eq!((&told["changed"], &told["waiting"]), (&serde_json::json!(["hooks"]), &serde_json::json!([])));
    cluster.launch(1);
    within(AT_ALL, || counts(&cluster, [0, 1, 1, 0])).expect("the other hook is called");
}

#[test]
fn a_post_reaches_its_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/told?by=lastseen", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let answers = ["500 No", "302 Found\r\nlocation: /elsewhere", "204 No Content"];
        answers.map(|answer| {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            stream.get_ref().set_read_timeout(Some(AT_ALL)).unwrap();
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let mut line = String::new();
                assert!(stream.read_line(&mut line).unwrap() > 0, "{head}");
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head += &line;
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            (head, serde_json::from_slice::<Value>(&body).unwrap())
        })
    });
    let more = "hold_on_mass_loss = false\ndamping = \"0s\"";
    let mut cluster = Cluster::with_files(2, |_| FAST.to_owned());
    cluster.write_settings(
        0,
        &format!("{FAST}[[hooks]]\non = [\"down\", \"restart\"]\nurl = {url:?}\n{more}\n"),
    );
    assert!(cluster.order(0, &["reload"]).status().unwrap().success());
    cluster.kill(1);
    within(AT_ALL, || counts(&cluster, [0, 1, 0, 0])).expect("an error is a failure");
    cluster.launch(1);
    within(AT_ALL, || counts(&cluster, [0, 2, 0, 0])).expect("so is a redirection");
    cluster.all_up(AT_ALL);
    cluster.kill(1);
    within(AT_ALL, || counts(&cluster, [1, 2, 0, 0])).expect("and this is none");
    let told = server.join().unwrap();
    for ((head, event), on) in told.iter().zip(["down", "restart", "down"]) {
        assert!(head.starts_with("POST /told?by=lastseen HTTP/1.1\r\n"), "{head}");
        assert!(head.to_lowercase().contains("content-type: application/json\r\n"), "{head}");
        assert_eq!((&event["on"], &event["peer"]), (&on.into(), &"n2".into()));
    }
}

#[test]
fn a_program_that_others_may_change_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let page = program(dir.path(), "page", "exit 0");
    fs::set_permissions(&page, fs::Permissions::from_mode(0o777)).unwrap();
    let file = dir.path().join("lastseen.toml");
    let loopback = "listen_address = \"127.0.0.1:5278\"\n";
    fs::write(&file, loopback.to_owned() + &hook("[\"down\"]", &page, "")).unwrap();
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
        command.env_clear().args(["config", "check"]).arg(&file).output().unwrap()
    };
    let refused = check();
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint.contains("lastseen.toml:2: the hook page: "), "{complaint}");
    assert!(complaint.contains("can be changed by others"), "{complaint}");
    fs::set_permissions(&page, fs::Permissions::from_mode(0o755)).unwrap();
    let fine = check();
    let report = String::from_utf8_lossy(&fine.stdout).into_owned();
    assert!(fine.status.success() && report.contains("[\"page: down\"]"), "{report}");
}

/// Every call hangs: the detector goes on, and the end of the daemon is the end of what it started.
#[test]
fn a_hook_that_hangs_holds_nothing_up() {
    let mut cluster = Cluster::with_files(3, |dir| {
        let hang = program(dir, "hang", &format!("echo $$ >> {}/pids; exec sleep 120", dir.display()));
        let more = "timeout = \"1h\"\nat_most = 1\ndamping = \"0s\"\nhold_on_mass_loss = false";
        FAST.to_owned() + &hook("[\"down\", \"suspected\", \"restart\", \"leave\"]", &hang, more)
    });
    for _ in 0..2 {
        let killed = cluster.kill(1);
        cluster.all_say(1, "status", "down", killed, AT_ALL);
        cluster.launch(1);
        cluster.all_up(AT_ALL);
    }
    assert!(counts(&cluster, [0; 4]).is_some(), "all of them hang, or wait");
    let started = fs::read_to_string(cluster.dir().join("pids")).unwrap();
    for n in 0..3 {
        cluster.signal(n, Signal::SIGTERM);
        assert_eq!(cluster.ended(n), Some(0));
    }
    assert!(started.lines().count() >= 2, "one at each of the others: {started}");
    started.lines().for_each(wait_for_the_end);
}

/// Its host refuses the port, so the dead node is Down at once: long before nobody can believe any more that it holds its guard.
#[test]
fn what_takes_over_is_called_once_and_not_before_it_is_safe() {
    let settings = "heartbeat_interval = \"500ms\"\nheartbeat_timeout = \"250ms\"\n";
    let mut cluster = Cluster::with_states(5, settings);
    let settings = cluster.with_state(0, settings);
    let take = noting(cluster.dir(), "take");
    let more = "needs = \"takeover\"\nhold_on_mass_loss = false\ndamping = \"0s\"";
    cluster.write_settings(0, &(settings + &hook("[\"down\"]", &take, more)));
    assert!(cluster.order(0, &["reload"]).status().unwrap().success());
    let is_guarded = || (cluster.get(0, "/quorumz?guard=true").0 == 200).then_some(());
    within(AT_ALL, is_guarded).expect("it holds the guard");
    let killed = cluster.kill(4);
    within(AT_ALL, || counts(&cluster, [1, 0, 0, 0])).unwrap_or_else(|| panic!("{}", cluster.tell()));
    let called = fs::metadata(cluster.dir().join("take.calls")).unwrap().modified().unwrap();
    let after = called.duration_since(Clock.wall(killed)).expect("it is later");
    // Two intervals, a timeout and another interval; the last sign of life may be an interval older than its death.
    assert!(after >= Duration::from_millis(1250), "after {after:?}");
    let told = noted(&cluster, "take").remove(0);
    let event: Value = serde_json::from_str(told.splitn(3, '|').nth(2).unwrap()).unwrap();
    for (key, value) in [("peer", "n5"), ("on", "down"), ("server_id", "n1")] {
        assert_eq!(event[key], value, "{event}");
    }
    assert_eq!(event["quorum_guard"], true, "{event}");
    let takeover = cluster.json(0, "/api/v1/peers/n5/takeover");
    assert_eq!((&takeover["safe"], &takeover["guard"]), (&true.into(), &true.into()), "{takeover}");
    cluster.launch(4);
    cluster.all_up(AT_ALL);
    assert_eq!(noted(&cluster, "take").len(), 1);
    // The last answer stands for a while: so long it does not gain its guard.
    let is_over = || (cluster.json(0, "/api/v1/peers/n5/takeover")["safe"] == false).then_some(());
    within(AT_ALL, is_over).expect("it is back");
}
