//! Real nodes on loopback, each a process. Waiting is a poll with a deadline; ports are the system's choice.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::Time;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

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

/// One node: its process, if it has one, and how to start it again.
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) udp: SocketAddr,
    pub(crate) http: SocketAddr,
    args: Vec<String>,
    child: Option<Child>,
}

/// Some nodes that know each other. Dropping it kills them.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    log_level: &'static str,
    agent: ureq::Agent,
    _dir: TempDir,
}

/// How often an observer has called a peer so: by (observer, peer, new status).
pub(crate) type Transitions = BTreeMap<(usize, String, String), u64>;

impl Cluster {
    /// `count` nodes with their settings in flags, all of which hear each other.
    pub(crate) fn start(count: usize) -> Cluster {
        Cluster::start_logging(count, "info")
    }

    /// The same, of nodes that log no more than this: where much happens, their log hides all else.
    pub(crate) fn start_logging(count: usize, level: &'static str) -> Cluster {
        let mut cluster = Cluster::reserve(count);
        cluster.log_level = level;
        for n in 0..count {
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
        let mut cluster = Cluster::reserve(count);
        let roster: Vec<String> = cluster.nodes.iter().map(|n| format!("{}@{}", n.id, n.udp)).collect();
        let path = cluster._dir.path().join("lastseen.toml");
        std::fs::write(&path, format!("static_peers = {roster:?}\n")).unwrap();
        for node in &mut cluster.nodes {
            node.args = args(&["--config", path.to_str().unwrap()]).collect();
        }
        cluster.launch_all();
        cluster
    }

    /// Names and addresses, held until all are chosen, so that none is chosen twice. Every cluster has a loopback
    /// address of its own: what else is going on on this machine does not take the port of a node that is away.
    fn reserve(count: usize) -> Cluster {
        static CLUSTERS: AtomicU8 = AtomicU8::new(1);
        let [low, high, ..] = std::process::id().to_le_bytes();
        let ip = [127, 1 + high % 254, low, CLUSTERS.fetch_add(1, Ordering::Relaxed)];
        let any = SocketAddr::from((ip, 0));
        let bind = |_| (UdpSocket::bind(any).unwrap(), TcpListener::bind(any).unwrap());
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
        Cluster { nodes, log_level: "info", agent: agent.into(), _dir: tempfile::tempdir().unwrap() }
    }

    fn launch_all(&mut self) {
        for n in 0..self.nodes.len() {
            self.launch(n);
        }
        self.all_up(AT_ALL);
    }

    /// Waits until every node hears every other, whatever their links may have lost shortly before.
    #[track_caller]
    pub(crate) fn all_heard(&self, at_most: Duration) {
        let fine = |verdict: &str| matches!(verdict, "up" | "lossy");
        let heard = || self.pairs().into_iter().all(|(a, b)| fine(&self.verdict(a, b))).then_some(());
        within(at_most, heard).unwrap_or_else(|| panic!("not heard within {at_most:?}:\n{}", self.tell()));
    }

    /// Waits until every node hears every other.
    #[track_caller]
    pub(crate) fn all_up(&self, at_most: Duration) {
        let up = || self.pairs().into_iter().all(|(a, b)| self.verdict(a, b) == "up").then_some(());
        within(at_most, up).unwrap_or_else(|| panic!("not all up within {at_most:?}:\n{}", self.tell()));
    }

    /// Starts the process of a node that has none.
    pub(crate) fn launch(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastseen"));
        command.arg("run").args(&node.args).env_clear().env("LASTSEEN_LOG__LEVEL", self.log_level);
        command.args(["--listen", &node.udp.to_string(), "--http", &node.http.to_string()]);
        node.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
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

    pub(crate) fn url(&self, n: usize, path: &str) -> String {
        format!("http://{}{path}", self.nodes[n].http)
    }

    /// Status code and body; 0 if there is no answer.
    pub(crate) fn get(&self, n: usize, path: &str) -> (u16, String) {
        let Ok(mut answer) = self.agent.get(self.url(n, path)).call() else { return (0, String::new()) };
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default())
    }

    /// What `observer` says about `subject`; null if there is no answer.
    pub(crate) fn peer(&self, observer: usize, subject: usize) -> Value {
        let answer: Value = serde_json::from_str(&self.get(observer, "/api/v1/peers").1).unwrap_or_default();
        let peers = answer["peers"].as_array().cloned().unwrap_or_default();
        peers.into_iter().find(|p| p["server_id"] == *self.nodes[subject].id).unwrap_or_default()
    }

    pub(crate) fn verdict(&self, observer: usize, subject: usize) -> String {
        self.peer(observer, subject)["verdict"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until all others say of `subject` that its `key` (status or verdict) is `value`: `at_most` from
    /// `since` on. Returns how long it took.
    #[track_caller]
    pub(crate) fn all_say(
        &self,
        subject: usize,
        key: &str,
        value: &str,
        since: Time,
        at_most: Duration,
    ) -> Duration {
        let said = |observer| self.peer(observer, subject)[key] == *value;
        let mut waiting: Vec<usize> = (0..self.nodes.len()).filter(|n| *n != subject).collect();
        let left = at_most.saturating_sub(Clock.now().since(since));
        let look = || {
            waiting.retain(|observer| !said(*observer));
            waiting.is_empty().then_some(())
        };
        let met = within(left, look);
        let took = Clock.now().since(since);
        let id = &self.nodes[subject].id;
        assert!(met.is_some(), "{id} is not {value} everywhere after {took:?}:\n{}", self.tell());
        took
    }

    /// Every transition that every node that runs has counted.
    pub(crate) fn transitions(&self) -> Transitions {
        let running = self.nodes.iter().enumerate().filter(|(_, node)| node.child.is_some());
        running.flat_map(|(observer, _)| self.transitions_at(observer)).collect()
    }

    /// Every transition that one node has counted.
    pub(crate) fn transitions_at(&self, observer: usize) -> Transitions {
        let series = self.series(observer, "lastseen_peer_transitions_total").into_iter();
        let key =
            |labels: &BTreeMap<String, String>| (observer, labels["peer"].clone(), labels["to"].clone());
        series.map(|(labels, value)| (key(&labels), value as u64)).collect()
    }

    /// The events that a node keeps; none if there is no answer.
    pub(crate) fn events(&self, n: usize) -> Vec<Value> {
        let text = self.get(n, "/api/v1/events?follow=false").1;
        let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
    }

    /// Panics if anybody accused anybody since `before` but those in `faulty`.
    #[track_caller]
    pub(crate) fn nobody_else_accused(&self, before: &Transitions, faulty: &[usize]) {
        let faulty: Vec<&str> = faulty.iter().map(|n| self.nodes[*n].id.as_str()).collect();
        let now = self.transitions();
        assert!(!now.is_empty(), "the counters are there");
        let wrong = now.iter().filter(|(key, count)| **count > before.get(key).copied().unwrap_or(0));
        let wrong: Vec<_> =
            wrong.filter(|((_, peer, to), _)| !faulty.contains(&peer.as_str()) && to != "healthy").collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// The series of one metric: labels and value.
    pub(crate) fn series(&self, n: usize, name: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let (code, text) = self.get(n, "/metrics");
        assert_eq!(code, 200, "{text}");
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.filter(|rest| rest.starts_with(['{', ' '])).map(read_series).collect()
    }

    /// The one value of a metric without labels.
    #[track_caller]
    pub(crate) fn value(&self, n: usize, name: &str) -> f64 {
        match &self.series(n, name)[..] {
            [(_, value)] => *value,
            other => panic!("{name}: {other:?}"),
        }
    }

    /// All ordered pairs.
    fn pairs(&self) -> Vec<(usize, usize)> {
        let count = self.nodes.len();
        (0..count).flat_map(|a| (0..count).map(move |b| (a, b))).filter(|(a, b)| a != b).collect()
    }

    /// Everything that the nodes say, for a test that fails.
    fn tell(&self) -> String {
        let line = |(a, b): (usize, usize)| {
            let said = self.peer(a, b);
            format!("{} of {}: {} {}", self.nodes[a].id, self.nodes[b].id, said["verdict"], said["why"])
        };
        self.pairs().into_iter().map(line).collect::<Vec<_>>().join("\n")
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

/// `{peer="a",to="down"} 3`, or ` 3`.
fn read_series(rest: &str) -> (BTreeMap<String, String>, f64) {
    let (labels, value) = rest.rsplit_once(' ').unwrap();
    let labels = labels.trim_start_matches('{').trim_end_matches('}').split(',').filter_map(|label| {
        let (name, value) = label.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    });
    (labels.collect(), value.parse().unwrap())
}
