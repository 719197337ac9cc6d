//! What a service manager is told by a real daemon. The manager is a socket of the test's own.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{AT_ALL, Cluster, within};

/// Fed twice in it.
const WATCHDOG: Duration = Duration::from_secs(1);

/// What has come and is not read yet.
fn told(manager: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let next = || manager.recv(&mut buffer).ok().map(|n| String::from_utf8(buffer[..n].to_vec()).unwrap());
    std::iter::from_fn(next).collect()
}

/// Waits until it is told this.
#[track_caller]
fn is_told(manager: &UnixDatagram, what: &str) {
    let mut all = Vec::new();
    let found = within(AT_ALL, || {
        all.extend(told(manager));
        all.iter().any(|text| text.contains(what)).then_some(())
    });
    assert!(found.is_some(), "{what:?} is not among {all:?}");
}

#[test]
fn a_service_manager_is_told_how_it_goes() {
    let mut cluster = Cluster::start(3);
    cluster.kill(0);
    let path = cluster.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(AT_ALL)).unwrap();
    cluster.launch_with(0, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    });
    let mut buffer = [0; 64];
    let length = manager.recv(&mut buffer).expect("it says something");
    assert_eq!(&buffer[..length], b"READY=1", "before anything else");
    assert_eq!(cluster.get(0, "/readyz").0, 200, "it is ready when it says so");
    manager.set_nonblocking(true).unwrap();
    is_told(&manager, "STATUS=quorum yes, 3 of 3 proven");

    let (mut fed, over) = (0, 5 * WATCHDOG);
    within(over, || {
        fed += told(&manager).iter().filter(|text| text.starts_with("WATCHDOG=1")).count();
        None::<()>
    });
    assert!((6..=12).contains(&fed), "fed {fed} times in {over:?}");

    cluster.signal(0, Signal::SIGSTOP);
    let silent = || within(WATCHDOG, || (!told(&manager).is_empty()).then_some(())).is_none();
    within(AT_ALL, || silent().then_some(())).expect("who stands still says nothing");
    cluster.signal(0, Signal::SIGCONT);
    is_told(&manager, "WATCHDOG=1");
    cluster.all_heard(AT_ALL);

    cluster.kill(2);
    is_told(&manager, "; 1 down: n3 (refused)");
    cluster.signal(0, Signal::SIGTERM);
    is_told(&manager, "STOPPING=1");
    assert_eq!(cluster.ended(0), Some(0));
}
