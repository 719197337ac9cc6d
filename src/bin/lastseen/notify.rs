//! What the service manager is told, by the protocol of sd_notify(3): ready, one line for `systemctl status`, a sign
//! that the detector's loop turns, and the end.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

use lastseen::net::{EventStream, Handle};
use lastseen::proto::{PeerStatus, PeerView, Scope, SelfHealth, Snapshot, Verdict};
use tokio::net::UnixDatagram;
use tokio::time::timeout;
use tracing::warn;

use crate::http::ANSWERS_WITHIN;

/// Events within so long become one line.
const WINDOW: Duration = Duration::from_secs(1);
/// Without a watchdog the line is looked at so often, whether or not there is an event.
const REFRESH: Duration = Duration::from_secs(30);
/// So many peers of one status are named.
const NAMED: usize = 5;

/// The way to the service manager, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Notifier {
    socket: Option<OsString>,
    /// It takes the silence of twice this for death, if it has a watchdog.
    every: Duration,
}

impl Notifier {
    /// What the environment says.
    pub(crate) fn from_environment() -> Notifier {
        Notifier::read(|name| std::env::var_os(name))
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Notifier {
        let number = |name| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience =
            number("WATCHDOG_USEC").filter(|usec| is_meant && *usec > 0).map(Duration::from_micros);
        let socket = variable("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        Notifier { socket, every: patience.map_or(REFRESH, |patience| patience / 2) }
    }

    /// Says that all is bound and configured; then how the cluster is, and that the detector's loop turns, until it ends.
    pub(crate) async fn tell(self, handle: Handle) {
        if self.socket.is_some() {
            self.say("READY=1").await;
            let look = || async { Some(line(&handle.snapshot_of(Scope::Peers).await?)) };
            self.repeat(handle.subscribe(), look).await;
        }
    }

    /// Says that the end was asked for.
    pub(crate) async fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=leaving").await;
    }

    /// Says what `look` finds, soon after each event and as often as the watchdog wants it. It is the loop that looks:
    /// while it does not turn, nothing is said.
    async fn repeat<L>(&self, mut events: EventStream, mut look: impl FnMut() -> L)
    where
        L: Future<Output = Option<String>>,
    {
        let window = WINDOW.min(self.every / 2);
        let mut told = String::new();
        loop {
            let Ok(found) = timeout(ANSWERS_WITHIN, look()).await else { continue };
            let Some(found) = found else { return };
            if found == told {
                self.say("WATCHDOG=1").await;
            } else {
                self.say(&format!("WATCHDOG=1\nSTATUS={found}")).await;
                told = found;
            }
            let _ = timeout(self.every - window, events.next()).await;
            let _ = timeout(window, async { while events.next().await.is_some() {} }).await;
        }
    }

    /// A manager that does not take it is told the next time.
    async fn say(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        // A new socket each time: the manager's may be another one by now.
        let sent = async { connect(socket)?.send(state.as_bytes()).await };
        match timeout(ANSWERS_WITHIN, sent).await {
            Ok(Ok(_)) => {}
            Ok(Err(e)) => warn!("cannot reach the service manager at {}: {e}", socket.display()),
            Err(_) => warn!("the service manager at {} takes nothing", socket.display()),
        }
    }
}

/// A path, or an abstract name after `@`.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// How the cluster is, in one line: `quorum yes, 4 of 5 proven; 1 down: web-7`.
fn line(s: &Snapshot) -> String {
    let quorum = if s.status.is_quorum_available() { "yes" } else { "no" };
    let mut line = format!("quorum {quorum}, {} of {} proven", s.status.proven_peers, s.status.total_peers);
    if s.self_health != SelfHealth::Ok {
        line += &format!("; self {}", s.self_health.as_str());
    }
    for status in [PeerStatus::Down, PeerStatus::Suspected] {
        let is_one = |peer: &&PeerView| peer.status == status && peer.verdict.is_alarm(status);
        let names: Vec<String> = s.peers.iter().filter(is_one).map(name).collect();
        if !names.is_empty() {
            let shown = names.len().min(NAMED);
            line += &format!("; {} {}: {}", names.len(), status.as_str(), names[..shown].join(", "));
            if shown < names.len() {
                line += &format!(" and {} more", names.len() - shown);
            }
        }
    }
    line
}

/// A peer, and what is the matter with it if its status does not say so. A line break would end the line.
fn name(peer: &PeerView) -> String {
    let id = peer.server_id.replace(char::is_control, "\u{fffd}");
    match peer.verdict {
        Verdict::Up | Verdict::Down => id,
        verdict => format!("{id} ({})", verdict.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;
    use std::os::unix::net::UnixDatagram as Manager;

    use super::*;
    use lastseen::net::{self, Clock, Options};
    use lastseen::proto::{Keyring, PeerConfig};
    use lastseen::sim::{Setup, World};

    const PATIENT: Duration = Duration::from_secs(10);
    const EVERY: Duration = Duration::from_millis(50);

    fn read(variables: &[(&str, &str)]) -> Notifier {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        Notifier::read(find)
    }

    /// A service manager at an abstract address, and the way to it.
    fn manager(name: &str) -> (Manager, Notifier) {
        let name = format!("lastseen-{name}-{}", std::process::id());
        let manager = Manager::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager.set_nonblocking(true).unwrap();
        (manager, Notifier { socket: Some(format!("@{name}").into()), every: EVERY })
    }

    /// What has come and is not read yet.
    fn told(manager: &Manager) -> Vec<String> {
        let mut buffer = [0; 4096];
        let next =
            || manager.recv(&mut buffer).ok().map(|n| String::from_utf8(buffer[..n].to_vec()).unwrap());
        std::iter::from_fn(next).collect()
    }

    async fn detector() -> (Handle, tokio::task::JoinHandle<()>) {
        let config = PeerConfig::new("a", "test", ([127, 0, 0, 1], 0).into(), Vec::new());
        net::spawn(config, Keyring::new("test", &[], true).unwrap(), Options::default()).await.unwrap()
    }

    #[test]
    fn the_environment_names_the_socket_and_the_watchdog() {
        let own = std::process::id().to_string();
        let socket = ("NOTIFY_SOCKET", "/run/notify");
        for (more, every) in [
            (&[][..], REFRESH),
            (&[("WATCHDOG_USEC", "3000000")], Duration::from_millis(1500)),
            (&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", &own)], Duration::from_millis(1500)),
            (&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "1")], REFRESH),
            (&[("WATCHDOG_USEC", "0")], REFRESH),
            (&[("WATCHDOG_USEC", "soon")], REFRESH),
        ] {
            let notifier = read(&[&[socket], more].concat());
            assert_eq!((notifier.socket, notifier.every), (Some("/run/notify".into()), every), "{more:?}");
        }
        assert_eq!(read(&[("NOTIFY_SOCKET", "")]).socket, None);
        assert_eq!(read(&[]).socket, None);
    }

    #[tokio::test]
    async fn a_loop_that_does_not_turn_is_not_fed() {
        let (manager, notifier) = manager("loop");
        let (handle, _task) = detector().await;
        let turns = Cell::new(true);
        let look = || async { if turns.get() { Some("fine".to_owned()) } else { pending().await } };
        let test = async {
            let fed = async || {
                let deadline = Clock.now() + PATIENT;
                loop {
                    let told = told(&manager);
                    if !told.is_empty() {
                        return told.concat();
                    }
                    assert!(Clock.now() < deadline, "not fed");
                    tokio::time::sleep(EVERY / 10).await;
                }
            };
            assert!(fed().await.starts_with("WATCHDOG=1\nSTATUS=fine"));
            assert_eq!(fed().await, "WATCHDOG=1", "what is known is not said again");
            turns.set(false);
            told(&manager);
            tokio::time::sleep(EVERY * 10).await;
            assert_eq!(told(&manager), [""; 0]);
            turns.set(true);
            assert!(fed().await.starts_with("WATCHDOG=1"));
        };
        tokio::select! {
            () = notifier.repeat(handle.subscribe(), look) => panic!("the loop has not ended"),
            () = test => {}
        }
    }

    #[tokio::test]
    async fn telling_begins_with_ready_and_ends_with_the_loop() {
        let (manager, notifier) = manager("end");
        let (handle, task) = detector().await;
        task.abort();
        timeout(PATIENT, notifier.clone().tell(handle)).await.expect("it ends");
        notifier.stopping().await;
        assert_eq!(told(&manager), ["READY=1", "STOPPING=1\nSTATUS=leaving"]);
    }

    #[test]
    fn the_line_names_who_is_the_matter() {
        let mut world = World::new(Setup::new(12), 1);
        world.run_for(Duration::from_secs(20));
        let told = |world: &World| line(&world.node(0).unwrap().snapshot(world.now()));
        assert_eq!(told(&world), "quorum yes, 12 of 12 proven");
        world.crash(3, false);
        world.run_for(Duration::from_secs(8));
        assert_eq!(told(&world), "quorum yes, 11 of 12 proven; 1 down: n3");
        for node in [2, 4, 5, 6, 7, 8] {
            world.crash(node, false);
        }
        world.run_for(Duration::from_secs(80));
        assert_eq!(told(&world), "quorum no, 5 of 12 proven; 7 down: n2, n3, n4, n5, n6 and 2 more");
    }

    #[test]
    fn a_peer_cannot_break_the_line() {
        let mut world = World::new(Setup::new(3), 1);
        world.run_for(Duration::from_secs(20));
        let mut snapshot = world.node(0).unwrap().snapshot(world.now());
        snapshot.self_health = SelfHealth::Stalled;
        let peer = &mut snapshot.peers[0];
        (peer.server_id, peer.status, peer.verdict) =
            ("a\nREADY=1".into(), PeerStatus::Down, Verdict::Refused);
        assert_eq!(
            line(&snapshot),
            "quorum yes, 3 of 3 proven; self stalled; 1 down: a\u{fffd}READY=1 (refused)"
        );
    }
}
