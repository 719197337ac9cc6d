//! What one daemon costs that observes a whole large cluster: the daemon is a real process, its peers are real cores in this one.
//! Each has a socket of its own on 127.0.0.0/8 for what it exchanges with the daemon; among each other they need none.
//!
//! ```sh
//! cargo build --release --bin lastseen
//! cargo run --release --example crowd -- 500 60       # nodes, seconds
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::{Instance, Keyring, Node, Observers, PeerConfig, PeerStatus, StaticPeer};

const CLUSTER: &str = "crowd";
/// Until all are acquainted.
const SETTLE: Duration = Duration::from_secs(45);
/// The peers look into their sockets so often, which is less than any of them may be lazy.
const LOOK: Duration = Duration::from_millis(10);

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One peer.
struct Peer {
    socket: UdpSocket,
    core: Node,
    /// What other peers have sent it.
    inbox: Vec<(SocketAddr, Vec<u8>)>,
}

impl Peer {
    /// Takes what came, and hands out what is to be sent: whereto, and what.
    fn turn(&mut self, buffer: &mut [u8], out: &mut Vec<(SocketAddr, Vec<u8>)>) {
        let now = Clock.now();
        // The core counts what it rejects.
        while let Ok((length, from)) = self.socket.recv_from(buffer) {
            let _ = self.core.handle_datagram(from, None, &mut buffer[..length], now, now);
        }
        for (from, mut bytes) in self.inbox.drain(..) {
            let _ = self.core.handle_datagram(from, None, &mut bytes, now, now);
        }
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            self.core.handle_timeout(now);
        }
        let mut bytes = Vec::new();
        while let Some(transmit) = self.core.poll_transmit(&mut bytes) {
            out.push((transmit.to, std::mem::take(&mut bytes)));
        }
        while self.core.poll_event().is_some() {}
        while self.core.poll_rtt().is_some() {}
    }

    fn hears_the_daemon(&self) -> bool {
        let all = self.core.registry().get_all_peers();
        all.iter().all(|peer| peer.status == PeerStatus::Healthy && peer.last_seen.is_some())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let nodes: u16 = args.next().map_or(Ok(500), |n| n.parse())?;
    let seconds: u64 = args.next().map_or(Ok(60), |n| n.parse())?;
    let here = std::env::current_exe()?;
    let program = here.ancestors().nth(2).ok_or("this program has no directory")?.join("lastseen");
    let folder = tempfile::tempdir()?;

    let own = free_address()?;
    let sockets: Vec<UdpSocket> = (1..nodes).map(bind).collect::<Result<_, _>>()?;
    let addresses: Vec<SocketAddr> = sockets.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
    let entries: String =
        addresses.iter().enumerate().map(|(n, address)| format!("\"peer-{n}@{address}\", ")).collect();
    let file = folder.path().join("lastseen.toml");
    let text = format!(
        "cluster = \"{CLUSTER}\"\nserver_id = \"daemon\"\nlisten_address = \"{own}\"\nobservers = \"all\"\nstatic_peers = [{entries}]\n[http]\nlisten = [\"127.0.0.1:0\"]\n[control]\nsocket = \"\"\n"
    );
    fs::write(&file, text)?;
    let mut peers: Vec<Peer> = sockets
        .into_iter()
        .enumerate()
        .map(|(n, socket)| peer(n, socket, own, &addresses))
        .collect::<Result<_, _>>()?;
    let mut command = Command::new(program);
    command.env_clear().arg("run").arg("--config").arg(&file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let mut daemon = Daemon(command.spawn()?);

    play(&mut peers, SETTLE);
    let heard = peers.iter().filter(|peer| peer.hears_the_daemon()).count();
    if heard < peers.len() {
        return Err(format!("only {heard} of {} peers hear the daemon", peers.len()).into());
    }
    let (before, start) = (cpu_seconds(&mut daemon)?, Clock.now());
    play(&mut peers, Duration::from_secs(seconds));
    let (used, passed) = (cpu_seconds(&mut daemon)? - before, Clock.now().since(start).as_secs_f64());
    let status = fs::read_to_string(process(&daemon).join("smaps_rollup"))?;
    let kib = |key| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("?").trim().to_owned();
    println!(
        "one daemon of {nodes}, full mesh: {:.2} % of a core, {} resident, {} PSS",
        used / passed * 100.0,
        kib("Rss:"),
        kib("Pss:")
    );
    Ok(())
}

fn play(peers: &mut [Peer], length: Duration) {
    let (mut buffer, mut out) = ([0; 2048], Vec::new());
    let places: HashMap<SocketAddr, usize> =
        peers.iter().enumerate().map(|(n, peer)| (peer.core.config().listen_address, n)).collect();
    let end = Clock.now() + length;
    while Clock.now() < end {
        for n in 0..peers.len() {
            peers[n].turn(&mut buffer, &mut out);
            let from = peers[n].core.config().listen_address;
            for (to, bytes) in out.drain(..) {
                match places.get(&to) {
                    Some(other) => peers[*other].inbox.push((from, bytes)),
                    // What is lost is sent again.
                    None => drop(peers[n].socket.send_to(&bytes, to)),
                }
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    UdpSocket::bind("127.0.0.1:0")?.local_addr()
}

fn bind(n: u16) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::from_bits((127 << 24) + (1 << 16) + u32::from(n)), 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn peer(
    n: usize,
    socket: UdpSocket,
    daemon: SocketAddr,
    addresses: &[SocketAddr],
) -> Result<Peer, Box<dyn Error>> {
    let entry = |id: String, address: SocketAddr| StaticPeer {
        server_id: Some(id.as_str().into()),
        name: id.into(),
        address: Some(address),
    };
    let mut roster = vec![entry("daemon".to_owned(), daemon)];
    roster.extend(addresses.iter().enumerate().map(|(n, address)| entry(format!("peer-{n}"), *address)));
    let mut config = PeerConfig::new(&format!("peer-{n}"), CLUSTER, socket.local_addr()?, roster);
    config.observers = Observers::All;
    let keys = Keyring::new(CLUSTER, &[], false)?;
    let core = Node::new(config, keys, Instance(1 + n as u64), n as u64, Clock.now())?;
    Ok(Peer { socket, core, inbox: Vec::new() })
}

fn process(daemon: &Daemon) -> std::path::PathBuf {
    Path::new("/proc").join(daemon.0.id().to_string())
}

fn cpu_seconds(daemon: &mut Daemon) -> Result<f64, Box<dyn Error>> {
    if let Some(status) = daemon.0.try_wait()? {
        return Err(format!("the daemon has ended: {status}").into());
    }
    let mut nanos = 0.0;
    for thread in fs::read_dir(process(daemon).join("task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split_whitespace().next().ok_or("an empty schedstat")?.parse::<f64>()?;
    }
    Ok(nanos / 1e9)
}
