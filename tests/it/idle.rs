//! A thousand clients that ask nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lastseen::net::Clock;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::harness::Cluster;

const CLIENTS: usize = 1000;
/// `http.max_connections`, by default.
const PLACES: usize = 64;
/// No probe waits longer. The machine may be busy: alone it takes some milliseconds.
const PROBE: Duration = Duration::from_secs(2);
/// What the connections may cost, at most: 64 kB for each place.
const GROWTH: u64 = 64 * PLACES as u64;

/// What a process holds in memory, in kB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// One that has asked and stays, or one that stops in the middle of a long head.
fn idle(cluster: &Cluster, at: usize) -> TcpStream {
    let mut stream = TcpStream::connect(cluster.nodes[0].http).unwrap();
    stream.set_read_timeout(Some(PROBE)).unwrap();
    if at.is_multiple_of(2) {
        write!(stream, "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    } else {
        write!(stream, "GET /{}", "a".repeat(15_000)).unwrap();
    }
    stream
}

#[test]
fn a_thousand_idle_clients_cost_little_and_no_probe_waits_for_them() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let cluster = Cluster::start(2);
    let pid = cluster.pid(0);
    let probe = || {
        let asked = Clock.now();
        assert_eq!(cluster.get(0, "/livez").0, 200);
        Clock.now().since(asked)
    };
    probe();
    let (before, open) = (resident(pid), descriptors(pid));
    let mut clients = Vec::new();
    let mut slowest = Duration::ZERO;
    let mut peak = before;
    for at in 0..CLIENTS {
        clients.push(idle(&cluster, at));
        if at % 10 == 9 {
            slowest = slowest.max(probe());
            peak = peak.max(resident(pid));
        }
    }
    println!("{CLIENTS} idle clients: slowest probe {slowest:?}, {before} kB resident, {peak} at most");
    assert!(slowest < PROBE, "a probe took {slowest:?}");
    assert!(peak - before < GROWTH, "{before} kB became {peak}");
    assert!(descriptors(pid) <= open + PLACES, "{open} descriptors became {}", descriptors(pid));
    drop(clients);
}
