//! What the daemon says to bad input: the culprit, and what would be right.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// No step of these tests takes long; this only ends one that hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// On loopback, any port, nothing else: what starts without a key.
const LOOPBACK: &str = "listen_address = \"127.0.0.1:0\"\n";
const NO_HTTP: &str = "[http]\nlisten = []\n";

fn lastseen(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    // No test asks for the socket of a daemon that is installed.
    command
        .args(args)
        .env_clear()
        .env("LASTSEEN_CONTROL__SOCKET", "")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A directory with a configuration file of this text.
fn config(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lastseen.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

/// A child process, read line by line; killed if a test ends before it.
struct Daemon {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Daemon {
    fn start(mut command: Command) -> Daemon {
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (to, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|l| to.send(l))
        });
        Daemon { child, lines, seen: Vec::new() }
    }

    /// Reads on to a line that holds `text`.
    fn line(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => self.seen.push(line),
                Err(e) => panic!("no line with {text:?}: {e}\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Waits for the end; returns the exit code and all of standard error.
    fn end(mut self) -> (i32, String) {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("still running\n{}", self.seen.join("\n")),
            }
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (code, self.seen.join("\n"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs to the end, which must be a failure (1) that says all of `told`.
#[track_caller]
/// What it said.
fn fails(command: Command, told: &[&str]) -> String {
    let (code, stderr) = Daemon::start(command).end();
    assert_eq!(code, 1, "{stderr}");
    for text in told {
        assert!(stderr.contains(text), "no {text:?} in\n{stderr}");
    }
    stderr
}

/// `run` and `config check` refuse the file alike, and name its line.
#[track_caller]
fn refused(text: &str, line: usize, told: &[&str]) {
    let (_dir, path) = config(text);
    let path = path.to_str().unwrap();
    let place = format!("{path}:{line}: ");
    let told: Vec<&str> = told.iter().copied().chain([place.as_str()]).collect();
    fails(lastseen(&["run", "--config", path]), &told);
    fails(lastseen(&["config", "check", path]), &told);
}

#[test]
fn unknown_key() {
    refused("\nheartbeat_intervall = \"1s\"\n", 2, &["\"heartbeat_intervall\"", "\"heartbeat_interval\"?"]);
    refused("[log]\nformt = \"text\"\n", 2, &["\"log.formt\"", "\"log.format\"?"]);
    refused("[securty]\ninsecure = true\n", 1, &["[securty]", "[security]?"]);
}

#[test]
fn no_toml() {
    refused("server_id = \"a\"\ncluster = prod\n", 2, &["quote"]);
}

#[test]
fn duration_that_cannot_be_read() {
    refused("heartbeat_interval = \"1 sec\"\n", 1, &["heartbeat_interval: \"1 sec\"", "write \"1s\""]);
    refused("leave_grace = \"soon\"\n", 1, &["leave_grace: \"soon\"", "\"500ms\", \"1s\", \"10m\""]);
    fails(lastseen(&["run", "--interval", "fast"]), &["--interval: heartbeat_interval: \"fast\""]);
}

#[test]
fn every_fault_is_told_at_once() {
    refused("suspect_after = 0\ndown_after = 99\n", 2, &["suspect_after: 0", "down_after: 99", "2 to 32"]);
}

#[test]
fn duplicate_server_id() {
    let text = format!("{LOOPBACK}static_peers = [\"web-1@127.0.0.1:1\", \"web-1@127.0.0.1:2\"]\n");
    refused(&text, 2, &["\"web-1@127.0.0.1:1\"", "\"web-1@127.0.0.1:2\"", "the same id"]);
    let text = format!("{LOOPBACK}static_peers = [\"a@127.0.0.1\", \"b@127.0.0.1:5278\"]\n");
    refused(&text, 2, &["\"a@127.0.0.1:5278\"", "\"b@127.0.0.1:5278\"", "the same address"]);
}

#[test]
fn peer_that_is_none() {
    refused("static_peers = [\"web-1@\"]\n", 1, &["\"web-1@\"", "\"ID@HOST:PORT\""]);
    refused("static_peers = [\"fe80::1\"]\n", 1, &["\"fe80::1\"", "[fe80::1]:5278"]);
}

#[test]
fn id_that_contradicts_the_roster() {
    let text =
        "server_id = \"web-9\"\nlisten_address = \"127.0.0.1:7\"\nstatic_peers = [\"web-3@127.0.0.1:7\"]\n";
    refused(text, 1, &["\"web-9\"", "\"web-3\"", "127.0.0.1:7"]);
}

#[test]
fn no_key_off_loopback() {
    let told = [
        "0.0.0.0:5278",
        "lastseen keygen > /etc/lastseen/cluster.key",
        "key_files = [\"/etc/lastseen/cluster.key\"]",
    ];
    let (_dir, path) = config("listen_address = \"0.0.0.0:5278\"\n");
    fails(lastseen(&["run", "--config", path.to_str().unwrap()]), &told);
    let text = format!("{LOOPBACK}static_peers = [\"web-2@192.0.2.1:5278\"]\n");
    let (_dir, path) = config(&text);
    fails(lastseen(&["run", "--config", path.to_str().unwrap()]), &["\"web-2@192.0.2.1:5278\"", "keygen"]);
}

/// A configuration with one key file of this text and mode.
fn key_file(text: &str, mode: u32) -> (TempDir, PathBuf, PathBuf) {
    let (dir, path) = config("");
    let key = dir.path().join("cluster.key");
    fs::write(&key, text).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
    fs::write(&path, format!("[security]\nkey_files = [{:?}]\n", key.to_str().unwrap())).unwrap();
    (dir, path, key)
}

fn new_key() -> String {
    let mut child = lastseen(&["keygen"]).spawn().unwrap();
    let mut key = String::new();
    child.stdout.take().unwrap().read_to_string(&mut key).unwrap();
    assert!(child.wait().unwrap().success());
    key
}

#[test]
fn key_file_missing() {
    let (_dir, path, key) = key_file("", 0o600);
    fs::remove_file(&key).unwrap();
    let told = [key.to_str().unwrap(), "No such file", "lastseen keygen > "];
    fails(lastseen(&["run", "--config", path.to_str().unwrap()]), &told);
}

#[test]
fn key_file_malformed() {
    let long = format!("{}{}", new_key(), "x".repeat(4096));
    for text in ["", "lastseen-key-1:short\n", "not a key", &long] {
        let (_dir, path, key) = key_file(text, 0o600);
        let told = [key.to_str().unwrap(), "lastseen-key-1:", "lastseen keygen"];
        fails(lastseen(&["run", "--config", path.to_str().unwrap()]), &told);
    }
}

#[test]
fn key_file_readable_by_others() {
    let (_dir, path, key) = key_file(&new_key(), 0o644);
    let told = [key.to_str().unwrap(), "0644", "chmod o= "];
    fails(lastseen(&["config", "check", path.to_str().unwrap()]), &told);
    // For the group it may be readable.
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let (code, stderr) = Daemon::start(lastseen(&["config", "check", path.to_str().unwrap()])).end();
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn port_in_use() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap().to_string();
    let told = [address.as_str(), "--listen", "--http off", "--http 127.0.0.1:0"];
    fails(lastseen(&["run", "--listen", &address, "--http", "off"]), &told);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let told = [address.as_str(), "--http off", "--http 127.0.0.1:0"];
    let said = fails(lastseen(&["run", "--listen", "127.0.0.1:0", "--http", &address]), &told);
    assert!(!said.contains("listening on 127.0.0.1"), "a peer could have heard of it: {said}");
}

#[test]
fn name_that_does_not_resolve() {
    let (_dir, path) = config(&format!(
        "{LOOPBACK}static_peers = [\"web-2@nowhere.invalid:5278\"]\n[security]\ninsecure = true\n{NO_HTTP}"
    ));
    let mut daemon = Daemon::start(lastseen(&["run", "--config", path.to_str().unwrap()]));
    daemon.line("listening on 127.0.0.1:");
    let warning = daemon.line("does not resolve");
    assert!(warning.contains("WARN") && warning.contains("web-2@nowhere.invalid:5278"), "{warning}");
    daemon.signal(Signal::SIGTERM);
    daemon.line("leaving, announced as a restart");
    assert_eq!(daemon.end().0, 0);
}

#[test]
fn interrupt_leaves_and_json_logs_are_json() {
    let (_dir, path) = config(&format!("server_id = \"a\"\n{LOOPBACK}[log]\nformat = \"json\"\n{NO_HTTP}"));
    let mut daemon = Daemon::start(lastseen(&["run", "--config", path.to_str().unwrap()]));
    let line: serde_json::Value = serde_json::from_str(&daemon.line("listening on")).unwrap();
    assert_eq!((&line["level"], &line["server_id"]), (&"INFO".into(), &"a".into()));
    assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.end().0, 0);
}

#[test]
fn environment_overrides_the_file_and_unknown_variables_warn() {
    let (_dir, path) = config(&format!("{LOOPBACK}heartbeat_interval = \"2s\"\n"));
    let mut command = lastseen(&["config", "check", path.to_str().unwrap(), "--json"]);
    command
        .env("LASTSEEN_HEARTBEAT_INTERVAL", "3s")
        .env("LASTSEEN_CLUSTR", "x")
        .env("LASTSEEN_PORT", "tcp://1");
    let output = command.output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let interval = &report["values"]["heartbeat_interval"];
    assert_eq!(
        (&interval["value"], &interval["source"]),
        (&"3s".into(), &"LASTSEEN_HEARTBEAT_INTERVAL".into())
    );
    assert!(report["values"]["listen_address"]["source"].as_str().unwrap().ends_with("lastseen.toml:1"));
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1, "{report}");
}

#[test]
fn the_default_file_passes_its_own_check() {
    let output = lastseen(&["config", "default"]).output().unwrap();
    let (_dir, path) = config(&String::from_utf8(output.stdout).unwrap().replace("[::]", "[::1]"));
    let output = lastseen(&["config", "check", path.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_named_file_must_exist() {
    fails(
        lastseen(&["run", "--config", "/nowhere/lastseen.toml"]),
        &["/nowhere/lastseen.toml", "config default"],
    );
}

#[test]
fn bad_usage() {
    let code = |args: &[&str]| lastseen(args).output().unwrap().status.code();
    assert_eq!(code(&["run", "--lisen", "x"]), Some(64));
    assert_eq!(code(&[]), Some(64));
    assert_eq!(code(&["--version"]), Some(0));
    let check = lastseen(&["check", "--warning", "many"]).output().unwrap();
    assert_eq!(check.status.code(), Some(3));
    assert!(check.stdout.starts_with(b"LASTSEEN UNKNOWN - "));
    assert_eq!(code(&["check", "--self", "--peer", "x"]), Some(1));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = lastseen(&["completions", "bash"]).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
