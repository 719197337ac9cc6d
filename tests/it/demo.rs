//! The demo, as a newcomer runs it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{AT_ALL, within};

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
    command.arg("demo").args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
fn once_sees_all_that_is_expected() {
    let output = demo(&["--once", "--nodes", "3"]).stderr(Stdio::piped()).output().unwrap();
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && complaint.is_empty(), "{complaint}\n{said}");
    for text in
        ["SIGKILL", "is down at 2 of 2", "SIGSTOP", "is suspected at 2 of 2", "in a browser", "/metrics"]
    {
        assert!(said.contains(text), "no {text:?} in\n{said}");
    }
    assert!(!said.contains('\x1b'), "no escape sequences where there is no terminal");
    assert_eq!(running(&pids(&said)), [0; 0]);
}

#[test]
fn its_nodes_end_with_it_whatever_ends_it() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut child = demo(&["--nodes", "3"]).spawn().unwrap();
        let said = until(&mut child, "every node hears every other");
        let pids = pids(&said);
        assert_eq!(running(&pids).len(), 3, "{said}");
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let (status, _) = within(AT_ALL, || child.try_wait().unwrap()).expect("it ends");
        assert_eq!(status.code(), (signal != Signal::SIGKILL).then_some(0), "{signal}");
        let gone = within(AT_ALL, || running(&pids).is_empty().then_some(()));
        assert!(gone.is_some(), "{signal}: {:?} still run", running(&pids));
    }
}

/// Reads what the demo says, up to a line with `text`.
fn until(child: &mut Child, text: &str) -> String {
    let mut said = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        said.push_str(&line);
        said.push('\n');
        if line.contains(text) {
            return said;
        }
    }
    panic!("no {text:?} in\n{said}");
}

fn pids(said: &str) -> Vec<u32> {
    said.lines().filter_map(|line| line.split_once("  pid ")?.1.split_once(' ')?.0.parse().ok()).collect()
}

/// Which of these are processes that run, or stand still; one that nobody has waited for yet does neither.
fn running(pids: &[u32]) -> Vec<u32> {
    let runs = |pid: &&u32| {
        let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
        status.is_ok_and(|text| !text.contains("State:\tZ"))
    };
    pids.iter().filter(runs).copied().collect()
}
