//! The client commands where no daemon is, where something else is, where one goes and comes back, and on a terminal.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use lastseen::net::Clock;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{AT_ALL, Cluster, within};

fn lastseen(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end: exit code, standard output, standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = lastseen(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// An address of loopback where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Answers every request with this, for as long as the test runs.
fn somebody(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            // Who has gone meanwhile needs no answer.
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn where_no_daemon_is_the_address_and_the_way_out_are_named() {
    let address = nobody().to_string();
    for command in [
        &["status"][..],
        &["peers"],
        &["matrix"],
        &["explain", "a"],
        &["events"],
        &["keys"],
        &["services"],
        &["route", "a", "b"],
        &["status", "--watch"],
    ] {
        let (code, said, complaint) = run(&[command, &["--http", &address]].concat());
        assert_eq!((code, said.as_str()), (3, ""), "{command:?}: {complaint}");
        for told in [
            &format!("no daemon answers at http://{address}: "),
            "`systemctl start lastseen`",
            "`lastseen run`",
            "--http URL",
        ] {
            assert!(complaint.contains(told), "{command:?}: {complaint}");
        }
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("lastseen.sock");
    let (code, _, complaint) = run(&["reload", "--socket", socket.to_str().unwrap()]);
    assert_eq!(code, 3);
    assert!(
        complaint.contains(socket.to_str().unwrap()) && complaint.contains("`lastseen run`"),
        "{complaint}"
    );
}

#[test]
fn what_answers_and_is_no_lastseen_is_said_so() {
    let pages = somebody("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<html>");
    let (code, _, complaint) = run(&["status", "--http", &pages.to_string()]);
    assert_eq!(code, 1);
    assert!(
        complaint.contains(&format!("what answers at {pages}/api/v1/status is no lastseen (status 200)")),
        "{complaint}"
    );
    let (code, line, _) = run(&["check", "--http", &pages.to_string()]);
    assert!(code == 3 && line.starts_with("LASTSEEN UNKNOWN - what answers at "), "{line}");
}

/// The exit codes of the Monitoring Plugins guidelines: 3 is all that is no answer.
#[test]
fn a_check_that_cannot_tell_says_so_in_its_first_line() {
    let address = nobody().to_string();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let begin = Clock.now();
    for (args, told) in [
        (&["--http", &address][..], "no daemon answers at"),
        (&["--http", &silent, "--timeout", "200ms"], "no daemon answers at"),
        (&["--warning", "many"], "bad usage"),
        (&["--timeout", "soon"], "bad usage"),
        (&["--peer", "a", "--warning", "2"], "bad usage"),
        (&["--nonsense"], "bad usage"),
    ] {
        let (code, line, _) = run(&[&["check"], args].concat());
        assert_eq!((code, line.lines().count()), (3, 1), "{args:?}: {line}");
        assert!(line.starts_with("LASTSEEN UNKNOWN - ") && line.contains(told), "{args:?}: {line}");
    }
    assert!(Clock.now().since(begin) < AT_ALL, "each is given up in time");
    assert_eq!(run(&["check", "--self", "--http", &address]).0, 1, "a container knows two codes");
}

/// `label=value;warn;crit;min;max`, each threshold a range.
#[test]
fn measures_of_a_check_are_written_as_plugins_do() {
    let mut cluster = Cluster::start(3);
    let http = cluster.nodes[0].http.to_string();
    let killed = cluster.kill(2);
    cluster.all_say(2, "status", "down", killed, AT_ALL);
    let (code, line, _) = run(&["check", "--http", &http, "--critical", "2"]);
    let measures = "| proven=2;;2:;0;3 suspected=0;;;0;3 down=1;;;0;3 alarms=1;0;1;0;3\n";
    assert!(code == 1 && line.ends_with(measures), "{code} {line}");
    assert_eq!(
        run(&["services", "--http", &http]),
        (0, "no node offers a service\n".to_owned(), String::new())
    );
    for command in [["services", "web"].as_slice(), &["route", "web", "me"], &["explain", "web"]] {
        let (code, said, complaint) = run(&[command, &["--http", &http]].concat());
        assert_eq!((code, said.as_str()), (4, ""), "{command:?}: {complaint}");
    }
    assert_eq!(run(&["check", "--http", &http, "--warning", "2"]).0, 0);
    assert_eq!(run(&["check", "--http", &http, "--critical", "1"]).0, 2);
}

#[test]
fn top_needs_a_terminal() {
    let (code, said, complaint) = run(&["top"]);
    assert_eq!((code, said.as_str()), (64, ""));
    assert!(complaint.contains("lastseen status --watch"), "{complaint}");
}

/// Ends the process whatever becomes of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What comes from a file, as it comes.
fn collected(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let all = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // The end of a terminal is an error.
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            all.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    });
    text
}

#[track_caller]
fn wait_for(text: &Mutex<String>, told: &str) {
    let has = || text.lock().unwrap().contains(told).then_some(());
    within(AT_ALL, has).unwrap_or_else(|| panic!("no {told:?} in {:?}", text.lock().unwrap()));
}

#[test]
fn watch_waits_for_a_daemon_that_went() {
    let mut cluster = Cluster::start(2);
    let http = cluster.nodes[0].http.to_string();
    let mut watch = Running(lastseen(&["status", "--watch", "--json", "--http", &http]).spawn().unwrap());
    let lines = collected(watch.0.stdout.take().unwrap());
    let complaints = collected(watch.0.stderr.take().unwrap());
    let instances = || -> Vec<Value> {
        let text = lines.lock().unwrap().clone();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let mut seen: Vec<Value> =
            whole.map(|line| serde_json::from_str::<Value>(line).unwrap()["instance"].take()).collect();
        seen.dedup();
        seen
    };
    within(AT_ALL, || (instances().len() == 1).then_some(())).expect("a line of JSON");
    cluster.kill(0);
    wait_for(&complaints, "; waiting for it\n");
    cluster.launch(0);
    within(AT_ALL, || (instances().len() == 2).then_some(())).expect("another run's lines");
    assert_eq!(complaints.lock().unwrap().lines().count(), 1, "it is said once");
}

/// `top` on a terminal of 80 by 24: the process, and what it draws.
fn top(http: &SocketAddr) -> (Running, File, Arc<Mutex<String>>) {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut command = lastseen(&["top", "--http", &http.to_string()]);
    command.env("TERM", "xterm").stdin(slave()).stdout(slave()).stderr(slave());
    let child = Running(command.spawn().unwrap());
    let master = File::from(pty.master);
    let text = collected(master.try_clone().unwrap());
    (child, master, text)
}

#[test]
fn top_gives_the_terminal_back() {
    const ENTERED: &str = "\x1b[?1049h";
    const LEFT: &str = "\x1b[?1049l";
    let mut cluster = Cluster::start(2);
    for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGHUP)] {
        let (mut top, mut keys, text) = top(&cluster.nodes[0].http);
        wait_for(&text, ENTERED);
        wait_for(&text, "QUORUM");
        match signal {
            Some(signal) => kill(Pid::from_raw(top.0.id().try_into().unwrap()), signal).unwrap(),
            None => keys.write_all(b"\t\tq").unwrap(),
        }
        let (ended, _) = within(AT_ALL, || top.0.try_wait().unwrap()).expect("it ends");
        assert_eq!(ended.code(), Some(0), "{signal:?}");
        wait_for(&text, LEFT);
    }
    let (_top, _keys, text) = top(&cluster.nodes[0].http);
    wait_for(&text, "QUORUM");
    cluster.kill(0);
    wait_for(&text, "OLD: ");
    cluster.launch(0);
    wait_for(&text, "anew");
}
