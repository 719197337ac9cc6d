//! Hosts on a LAN: a network namespace each, joined by a bridge and veth pairs, with the kernel's default settings.
//!
//! Loopback hides what a LAN shows: Linux limits ICMP errors to one destination, six at once and then one a second, but
//! never on loopback.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::Time;
use nix::sched::{CloneFlags, setns, unshare};

use crate::confined::{in_a_network_of_its_own, tool};
use crate::harness::{AT_ALL, Cluster, within};

/// A killed daemon is Down at every node within this time.
const KILLED_WITHIN: Duration = Duration::from_millis(2500);
const KILLS: u32 = 3;
const BETWEEN_KILLS: Duration = Duration::from_secs(10);

/// Daemons on hosts of their own. The test's thread stays in the network of the bridge, and reaches all hosts.
struct Lan {
    switch: File,
    hosts: Vec<File>,
    cluster: Cluster,
    settings: Settings,
}

/// Settings that are not the default, by their names in the environment.
type Settings = &'static [(&'static str, &'static str)];

impl Lan {
    /// Runs `test` on a LAN of `count` hosts whose daemons have these settings and hear each other.
    fn with(count: usize, settings: Settings, test: impl FnOnce(&mut Lan) + Send) {
        in_a_network_of_its_own(|| {
            let mut lan = Lan::new(count, settings);
            for n in 0..count {
                lan.launch(n);
            }
            lan.cluster.all_up(AT_ALL);
            test(&mut lan);
        });
    }

    fn new(count: usize, settings: Settings) -> Lan {
        let switch = own_network();
        tool("ip", &["link", "add", "bridge", "type", "bridge"], "");
        tool("ip", &["address", "add", "10.77.0.254/24", "dev", "bridge"], "");
        tool("ip", &["link", "set", "bridge", "up"], "");
        let hosts: Vec<File> = (0..count).map(|n| Lan::add_host(&switch, n)).collect();
        // Both ports are free in a network that only this test uses.
        let reserve = |(n, host): (usize, &File)| {
            let any = SocketAddr::from(([10, 77, 0, u8::try_from(n + 1).unwrap()], 0));
            inside(host, &switch, || {
                let (udp, tcp) = (UdpSocket::bind(any).unwrap(), TcpListener::bind(any).unwrap());
                (udp.local_addr().unwrap(), tcp.local_addr().unwrap())
            })
        };
        let addresses: Vec<_> = hosts.iter().enumerate().map(reserve).collect();
        let cluster = Cluster::at(&addresses);
        Lan { switch, hosts, cluster, settings }
    }

    /// A host at 10.77.0.(n + 1).
    fn add_host(switch: &File, n: usize) -> File {
        let port = format!("port{n}");
        tool("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0"], "");
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let host = own_network();
        setns(switch, CloneFlags::CLONE_NEWNET).unwrap();
        let of_host = format!("/proc/{}/fd/{}", std::process::id(), host.as_raw_fd());
        tool("ip", &["link", "set", "eth0", "netns", &of_host], "");
        tool("ip", &["link", "set", &port, "master", "bridge", "up"], "");
        inside(&host, switch, || {
            let address = format!("10.77.0.{}/24", n + 1);
            tool("ip", &["address", "add", &address, "dev", "eth0"], "");
            tool("ip", &["link", "set", "lo", "up"], "");
            tool("ip", &["link", "set", "eth0", "up"], "");
        });
        host
    }

    fn launch(&mut self, n: usize) {
        let (cluster, settings) = (&mut self.cluster, self.settings);
        let set = |command: &mut Command| {
            // Nobody else is in this network.
            command.env("LASTSEEN_SECURITY__INSECURE", "true");
            for (name, value) in settings {
                command.env(format!("LASTSEEN_{name}"), value);
            }
        };
        inside(&self.hosts[n], &self.switch, || cluster.launch_with(n, set));
    }

    /// Waits until all others call `n` Down. When each first did, after `since`.
    fn down_at_all(&self, n: usize, since: Time) -> Vec<Duration> {
        let observers: Vec<usize> = (0..self.hosts.len()).filter(|other| *other != n).collect();
        let mut seen: Vec<Option<Duration>> = vec![None; observers.len()];
        let met = within(AT_ALL, || {
            for (seen, observer) in seen.iter_mut().zip(&observers).filter(|(seen, _)| seen.is_none()) {
                let down = self.cluster.peer(*observer, n)["status"] == "down";
                *seen = down.then(|| Clock.now().since(since));
            }
            seen.iter().all(Option::is_some).then_some(())
        });
        assert!(met.is_some(), "{seen:?}\n{}", self.cluster.tell());
        seen.into_iter().flatten().collect()
    }
}

/// The network namespace of this thread.
fn own_network() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

/// Runs `run` in the network of `host`, and returns to that of `switch`.
fn inside<T>(host: &File, switch: &File, run: impl FnOnce() -> T) -> T {
    setns(host, CloneFlags::CLONE_NEWNET).unwrap();
    let result = run();
    setns(switch, CloneFlags::CLONE_NEWNET).unwrap();
    result
}

#[test]
#[ignore = "needs root: network namespaces"]
fn lan_kill() {
    const NODES: usize = 4;
    Lan::with(NODES, &[], |lan| {
        let mut slowest = Duration::ZERO;
        for kill in 0..KILLS {
            let since = lan.cluster.kill(NODES - 1);
            let moments = lan.down_at_all(NODES - 1, since);
            println!("kill {kill}: down after {moments:.2?}");
            slowest = slowest.max(moments.into_iter().max().unwrap_or_default());
            let verdicts: Vec<String> = (0..NODES - 1).map(|n| lan.cluster.verdict(n, NODES - 1)).collect();
            assert_eq!(verdicts, ["refused"; NODES - 1]);
            lan.launch(NODES - 1);
            lan.cluster.all_up(AT_ALL);
            within(BETWEEN_KILLS.saturating_sub(Clock.now().since(since)), || None::<()>);
        }
        assert!(slowest <= KILLED_WITHIN, "{slowest:?}");
    });
}

/// A change of the path's MTU is seen within so many heartbeats.
const MTU_HEARTBEATS: u32 = 240;
const INTERVAL: Duration = Duration::from_millis(200);

#[test]
#[ignore = "needs root: network namespaces, nft"]
fn lan_mtu_one_way() {
    const SETTINGS: Settings =
        &[("HEARTBEAT_INTERVAL", "200ms"), ("HEARTBEAT_TIMEOUT", "150ms"), ("MAX_BACKOFF", "2s")];
    Lan::with(2, SETTINGS, |lan| {
        let both =
            |verdict: &str| [(0, 1), (1, 0)].iter().all(|(a, b)| lan.cluster.verdict(*a, *b) == verdict);
        for host in &lan.hosts {
            let since = Clock.now();
            inside(host, &lan.switch, drop_long);
            let seen = within(INTERVAL * MTU_HEARTBEATS, || both("mtu").then_some(()));
            let took = Clock.now().since(since);
            inside(host, &lan.switch, || tool("nft", &["delete", "table", "ip", "narrow"], ""));
            assert!(seen.is_some(), "{}", lan.cluster.tell());
            lan.cluster.all_up(AT_ALL);
            println!("mtu after {:.0} heartbeats", took.as_secs_f64() / INTERVAL.as_secs_f64());
        }
    });
}

/// From now on the host drops UDP datagrams of more than 600 bytes on arrival.
fn drop_long() {
    let rules = "table ip narrow {
        chain input {
            type filter hook input priority 0; policy accept;
            meta l4proto udp udp length > 608 drop
        }
    }";
    tool("nft", &["-f", "-"], rules);
}
