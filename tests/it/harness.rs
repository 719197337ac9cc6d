//! Real nodes on loopback, each a process. Waiting is a poll with a deadline; ports are the system's choice.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::Time;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

mod asks;
pub(crate) mod dns;

pub(crate) use asks::{Expected, Transitions};

/// For what only has to happen at all.
pub(crate) const AT_ALL: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks every 20 ms until `look` finds something, at most for `within`. Returns that, and how long it took.
pub(crate) fn within<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<(T, Duration)> {
    let start = Clock.now();
    loop {
        let asked = Clock.now().since(start);
        if let Some(found) = look() {
            return Some((found, Clock.now().since(start)));
        }
        if asked >= within {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Calls `look` with the time since the start, at most once `every` so long, until `over` has passed.
pub(crate) fn watch(over: Duration, every: Duration, mut look: impl FnMut(Duration)) {
    let start = Clock.now();
    let mut next = start;
    within(over, || {
        let now = Clock.now();
        if now >= next {
            next = now + every;
            look(now.since(start));
        }
        None::<()>
    });
}

/// One node: its process, if it has one, and how to start it again.
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) udp: SocketAddr,
    pub(crate) http: SocketAddr,
    args: Vec<String>,
    child: Option<Child>,
}

/// Which node knows which other one at what address, that is not the other's own.
pub(crate) type Detour = (usize, usize, SocketAddr);

/// Some nodes that know each other. Dropping it kills them.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    detours: Vec<Detour>,
    log_level: &'static str,
    agent: ureq::Agent,
    dir: TempDir,
}

impl Cluster {
    /// `count` nodes with their settings in flags, all of which hear each other.
    pub(crate) fn start(count: usize) -> Cluster {
        Cluster::start_logging(count, "info")
    }

    /// The same, of nodes that log no more than this: where much happens, their log hides all else.
    pub(crate) fn start_logging(count: usize, level: &'static str) -> Cluster {
        Cluster::start_with_flags(Cluster::reserve(count, Cluster::own_address()), level)
    }

    /// The same, each node at an address of its own, so that a firewall can tell them apart. For a network of its own.
    pub(crate) fn start_apart(count: usize, level: &'static str) -> Cluster {
        Cluster::start_with_flags(Cluster::reserve(count, |n| [127, 0, 1, 1 + n]), level)
    }

    fn start_with_flags(mut cluster: Cluster, level: &'static str) -> Cluster {
        cluster.log_level = level;
        for n in 0..cluster.nodes.len() {
            let peers = cluster.nodes.iter().enumerate().filter(|(other, _)| *other != n);
            let peers = peers.flat_map(|(_, p)| ["--peer".to_owned(), format!("{}@{}", p.id, p.udp)]);
            let id = ["--server-id".to_owned(), cluster.nodes[n].id.clone()];
            cluster.nodes[n].args = args(&["--config", "/dev/null"]).chain(id).chain(peers).collect();
        }
        cluster.launch_all();
        cluster
    }

    /// `count` nodes, all with one and the same file that names all of them.
    pub(crate) fn with_one_file(count: usize) -> Cluster {
        let mut cluster = Cluster::reserve(count, Cluster::own_address());
        let roster: Vec<String> = cluster.nodes.iter().map(|n| format!("{}@{}", n.id, n.udp)).collect();
        let path = cluster.dir.path().join("lastseen.toml");
        std::fs::write(&path, format!("static_peers = {roster:?}\n")).unwrap();
        for node in &mut cluster.nodes {
            node.args = args(&["--config", path.to_str().unwrap()]).collect();
        }
        cluster.launch_all();
        cluster
    }

    /// `count` nodes, each with a file of its own: the roster, and what `rest` makes of the directory for them.
    pub(crate) fn with_files(count: usize, rest: impl Fn(&Path) -> String) -> Cluster {
        Cluster::with_detours(count, "info", rest, |_| Vec::new())
    }

    /// The same, of nodes that do not reach each other straight.
    pub(crate) fn with_detours(
        count: usize,
        log_level: &'static str,
        rest: impl Fn(&Path) -> String,
        detours: impl FnOnce(&[Node]) -> Vec<Detour>,
    ) -> Cluster {
        let mut cluster = Cluster::reserve(count, Cluster::own_address());
        cluster.log_level = log_level;
        cluster.detours = detours(&cluster.nodes);
        cluster.start_with_files(rest)
    }

    /// `count` nodes, each with a file and an address of its own, as in `start_apart`.
    pub(crate) fn with_files_apart(count: usize, rest: impl Fn(&Path) -> String) -> Cluster {
        let mut cluster = Cluster::reserve(count, |n| [127, 0, 1, 1 + n]);
        cluster.log_level = "error";
        cluster.start_with_files(rest)
    }

    fn start_with_files(mut self, rest: impl Fn(&Path) -> String) -> Cluster {
        let rest = rest(self.dir());
        for n in 0..self.nodes.len() {
            self.write_settings(n, &rest);
            self.nodes[n].args = args(&["--config", self.settings(n).to_str().unwrap()]).collect();
        }
        self.launch_all();
        self
    }

    /// `count` nodes that keep their state, each with a file of its own: the roster, its `state_dir`, and `rest`.
    pub(crate) fn with_states(count: usize, rest: &str) -> Cluster {
        let mut cluster = Cluster::unstarted(count, |_, _| String::new());
        for n in 0..count {
            std::fs::create_dir(cluster.state_dir(n)).unwrap();
            cluster.write_settings(n, &cluster.with_state(n, rest));
        }
        cluster.launch_all();
        cluster
    }

    /// Where a node keeps its state.
    pub(crate) fn state_dir(&self, n: usize) -> PathBuf {
        self.dir().join(format!("{}.state", self.nodes[n].id))
    }

    /// These settings with a node's `state_dir`.
    pub(crate) fn with_state(&self, n: usize, rest: &str) -> String {
        format!("state_dir = {:?}\n{rest}", self.state_dir(n).display().to_string())
    }

    /// `count` nodes, each with a file that says this, of which nobody runs yet.
    pub(crate) fn unstarted(count: usize, text: impl Fn(&Cluster, usize) -> String) -> Cluster {
        let mut cluster = Cluster::reserve(count, Cluster::own_address());
        for n in 0..count {
            std::fs::write(cluster.settings(n), text(&cluster, n)).unwrap();
            cluster.nodes[n].args = args(&["--config", cluster.settings(n).to_str().unwrap()]).collect();
        }
        cluster
    }

    /// Where the files of all nodes are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn settings(&self, n: usize) -> PathBuf {
        self.dir().join(format!("{}.toml", self.nodes[n].id))
    }

    /// Writes a node's file: the roster, and the rest.
    pub(crate) fn write_settings(&self, n: usize, rest: &str) {
        let detour = |to: usize| self.detours.iter().find(|(from, at, _)| (*from, *at) == (n, to));
        let entry = |(to, node): (usize, &Node)| {
            let address = detour(to).map_or(node.udp, |(_, _, address)| *address);
            format!("{}@{address}", node.id)
        };
        let roster: Vec<String> = self.nodes.iter().enumerate().map(entry).collect();
        std::fs::write(self.settings(n), format!("static_peers = {roster:?}\n{rest}")).unwrap();
    }

    /// A loopback address for all nodes of a cluster, and no other one: what else is going on on this machine does not
    /// take the port of a node that is away.
    pub(crate) fn own_address() -> impl Fn(u8) -> [u8; 4] {
        static CLUSTERS: AtomicU8 = AtomicU8::new(1);
        let [low, high, ..] = std::process::id().to_le_bytes();
        let ip = [127, 1 + high % 254, low, CLUSTERS.fetch_add(1, Ordering::Relaxed)];
        move |_| ip
    }

    /// Names and addresses, held until all are chosen, so that none is chosen twice.
    fn reserve(count: usize, ip: impl Fn(u8) -> [u8; 4]) -> Cluster {
        let any = |n: u8| SocketAddr::from((ip(n), 0));
        let bind = |n| (UdpSocket::bind(any(n)).unwrap(), TcpListener::bind(any(n)).unwrap());
        let count = u8::try_from(count).unwrap();
        let held: Vec<(UdpSocket, TcpListener)> = (0..count).map(bind).collect();
        let node = |(n, (udp, tcp)): (usize, &(UdpSocket, TcpListener))| Node {
            id: format!("n{}", n + 1),
            udp: udp.local_addr().unwrap(),
            http: tcp.local_addr().unwrap(),
            args: Vec::new(),
            child: None,
        };
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        let nodes = held.iter().enumerate().map(node).collect();
        Cluster {
            nodes,
            detours: Vec::new(),
            log_level: "info",
            agent: agent.into(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn launch_all(&mut self) {
        for n in 0..self.nodes.len() {
            self.launch(n);
        }
        self.all_up(AT_ALL);
    }

    /// Starts the process of a node that has none.
    pub(crate) fn launch(&mut self, n: usize) {
        self.launch_with(n, |_| ());
    }

    /// The same, with something changed.
    pub(crate) fn launch_with(&mut self, n: usize, change: impl FnOnce(&mut Command)) {
        let socket = self.socket(n);
        let node = &mut self.nodes[n];
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
        command.arg("run").args(&node.args).env_clear().env("LASTSEEN_LOG__LEVEL", self.log_level);
        command.args(["--listen", &node.udp.to_string(), "--http", &node.http.to_string()]);
        command.env("LASTSEEN_CONTROL__SOCKET", socket).stdin(Stdio::null()).stdout(Stdio::null());
        change(&mut command);
        node.child = Some(command.spawn().unwrap());
    }

    /// A node's control socket.
    pub(crate) fn socket(&self, n: usize) -> PathBuf {
        self.dir().join(format!("{}.sock", self.nodes[n].id))
    }

    /// A command to a node over its control socket, `reload` say.
    pub(crate) fn order(&self, n: usize, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
        command.args(args).env_clear().env("LASTSEEN_CONTROL__SOCKET", self.socket(n));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// SIGKILL. Returns when it was sent.
    pub(crate) fn kill(&mut self, n: usize) -> Time {
        let mut child = self.nodes[n].child.take().unwrap();
        let at = Clock.now();
        child.kill().unwrap();
        child.wait().unwrap();
        at
    }

    /// Sends a signal. Returns when it was sent.
    pub(crate) fn signal(&self, n: usize, signal: Signal) -> Time {
        let at = Clock.now();
        kill(Pid::from_raw(self.pid(n).try_into().unwrap()), signal).unwrap();
        at
    }

    /// Waits for the end of a process that was asked to end; its exit code.
    pub(crate) fn ended(&mut self, n: usize) -> Option<i32> {
        let child = self.nodes[n].child.as_mut().unwrap();
        let (status, _) = within(AT_ALL, || child.try_wait().unwrap()).expect("it ends");
        self.nodes[n].child = None;
        status.code()
    }

    pub(crate) fn pid(&self, n: usize) -> u32 {
        self.nodes[n].child.as_ref().unwrap().id()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn args<'a>(list: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    list.iter().map(|arg| (*arg).to_owned())
}
