//! What a node answers in a second over real sockets, beside a bare loop that does nothing but receive and send as
//! many bytes: exchanges a second of one core, which the node (or the loop) has to itself, while the other one plays
//! all its peers.
//!
//! The load keeps so many pings on their way that neither is ever idle, and is cheaper than both: its pings leave
//! in one system call for many. What a core does is told by CPU time too, since the machine may not be ours alone.
//!
//! ```sh
//! cargo bench --bench engine                # or: -- PAIRS SECONDS
//! ```
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

mod bare;
mod load;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use lastseen::net::{Clock, Options, spawn};
use lastseen::proto::{Keyring, PeerConfig, SecretKey, StaticPeer};
use load::Load;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use tokio::sync::oneshot;

/// Peers of the node, and pings of all of them on their way: enough for a turn, few enough for its receive buffer.
const PEERS: usize = 64;
const WINDOW: usize = 2048;
/// The node keeps the first core busy, its peers the second.
const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;
/// Lets caches and windows fill.
const WARM_UP: Duration = Duration::from_millis(300);
/// Single pings of the test of latency, and their distance: a loop that has little to do does not rest.
const SINGLES: usize = 20;
const APART: Duration = Duration::from_millis(100);

/// What is measured: a thread with a socket, on a core of its own.
struct Server {
    address: SocketAddr,
    /// The thread, to look at its CPU time.
    id: Pid,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Runs `serve` on the first core, which tells its address and ends when it is told to.
    fn start(serve: impl FnOnce(mpsc::Sender<SocketAddr>, oneshot::Receiver<()>) + Send + 'static) -> Server {
        let ((stop, stopped), (tell, told), (tell_id, id)) =
            (oneshot::channel(), mpsc::channel(), mpsc::channel());
        // A name, for profilers.
        let named = std::thread::Builder::new().name("server".into());
        let thread = named.spawn(move || {
            pin(SERVER_CORE);
            tell_id.send(gettid()).unwrap();
            serve(tell, stopped);
        });
        Server {
            address: told.recv().expect("it starts"),
            id: id.recv().unwrap(),
            stop,
            thread: thread.unwrap(),
        }
    }

    /// The bare loop.
    fn bare() -> Server {
        Server::start(bare::serve)
    }

    /// A node of these peers: the shell as the daemon runs it, on one thread.
    fn node(peers: Vec<StaticPeer>) -> Server {
        Server::start(|tell, stopped| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let config = PeerConfig::new(load::NODE, load::CLUSTER, "[::]:0".parse().unwrap(), peers);
                let on_rtt = Some(Box::new(|rtt| _ = std::hint::black_box(rtt)) as Box<_>);
                let (node, task) =
                    spawn(config, ring(), Options { on_rtt, ..Options::default() }).await.unwrap();
                let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, node.local_addr().port());
                tell.send(address.into()).unwrap();
                stopped.await.unwrap();
                task.abort();
            });
        })
    }

    /// Seconds on a CPU so far.
    fn cpu(&self) -> f64 {
        let path = format!("/proc/self/task/{}/schedstat", self.id);
        let text = std::fs::read_to_string(path).expect("the thread lives");
        text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
    }

    fn stop(self) {
        self.stop.send(()).expect("it runs until it is told to stop");
        self.thread.join().unwrap();
    }
}

/// What one server did.
struct Rate {
    a_second: f64,
    /// Per second of CPU time.
    of_cpu: f64,
    /// The share of a core that it had.
    busy: f64,
}

impl Rate {
    fn measure(server: &Server, load: &mut Load, over: Duration) -> Rate {
        load.run(WINDOW, WARM_UP);
        let (cpu, start) = (server.cpu(), Clock.now());
        let count = load.run(WINDOW, over) as f64;
        let (cpu, wall) = (server.cpu() - cpu, Clock.now().since(start).as_secs_f64());
        Rate { a_second: count / wall, of_cpu: count / cpu, busy: cpu / wall }
    }

    fn print(&self, name: &str) {
        println!(
            "{name:<6} {:>9.0} /s  {:>9.0} /s of CPU time  {:>4.0} % busy",
            self.a_second,
            self.of_cpu,
            self.busy * 100.0
        );
    }
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let pairs = args.next().map_or(5, |n| n.parse::<usize>().expect("the number of pairs"));
    let seconds = args.next().map_or(2.0, |n| n.parse::<f64>().expect("seconds"));
    pin(LOAD_CORE);
    println!("{PEERS} peers, {WINDOW} pings on their way, {pairs} pairs of {seconds} s");
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let over = Duration::from_secs_f64(seconds);
        let bare = Server::bare();
        let mut load = Load::new(PEERS, &ring());
        load.aim(bare.address);
        let rate = Rate::measure(&bare, &mut load, over);
        bare.stop();
        rate.print("bare");
        let (node, mut load) = with_node(PEERS);
        let own = Rate::measure(&node, &mut load, over);
        node.stop();
        own.print("node");
        walls.push(own.a_second / rate.a_second);
        cpus.push(own.of_cpu / rate.of_cpu);
        load.print_sizes();
    }
    println!("node / bare, median: {:.3}, by CPU time {:.3}", median(&mut walls), median(&mut cpus));

    let bare = Server::bare();
    let mut load = Load::new(1, &ring());
    load.aim(bare.address);
    let plain = median(&mut load.single(SINGLES, APART));
    bare.stop();
    let (node, mut load) = with_node(1);
    let own = median(&mut load.single(SINGLES, APART));
    node.stop();
    println!("one ping, alone: bare {plain:.0} µs, node {own:.0} µs");
}

fn with_node(peers: usize) -> (Server, Load) {
    let mut load = Load::new(peers, &ring());
    let node = Server::node(load.roster());
    load.connect(node.address, &ring());
    (node, load)
}

fn ring() -> Keyring {
    Keyring::new(load::CLUSTER, &[SecretKey::new([7; 32])], false).unwrap()
}

/// This thread runs on that core only.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).expect("the machine has two cores");
}

fn median(of: &mut [f64]) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
