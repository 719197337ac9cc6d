//! What one daemon costs that observes a whole large cluster: the daemon is a real process, its peers are played, each at an
//! address of its own on 127.0.0.0/8. They have nothing to do with each other, so that one core plays them all.
//!
//! ```sh
//! cargo build --release --bin lastseen
//! cargo run --release --example crowd -- 1000 60       # nodes, seconds
//! ```
#![allow(clippy::unwrap_used, reason = "a measurement")]

#[path = "../benches/core/player.rs"]
mod player;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::messages::{Message, More};
use lastseen::proto::records::{Body, Digest, NodeName, Profile, Record, Release};
use lastseen::proto::seal::{Header, WIRE};
use lastseen::proto::{Instance, Keyring, Node, Observers, PeerConfig, StaticPeer, Time};

use player::Player;

const CLUSTER: &str = "crowd";
const DAEMON: &str = "daemon";
const INTERVAL: Duration = Duration::from_secs(1);
/// Until all are acquainted, and nobody is owed anything.
const SETTLE: Duration = Duration::from_secs(30);
/// The peers look into their sockets so often, which is less than any of them may be lazy.
const LOOK: Duration = Duration::from_millis(10);
/// So often a peer tells what it is, since datagrams may be lost.
const TELLINGS: u32 = 3;

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
    id: String,
    run: Instance,
    /// Once the daemon's run is known.
    player: Option<Player>,
    /// When it pings next, if it leads.
    slot: Time,
    told: u32,
}

/// What all peers have in common.
struct Common {
    keys: Keyring,
    daemon: SocketAddr,
    /// Of the roster and of the settings, as profiles tell them.
    hashes: ([u8; 4], [u8; 4]),
    /// What the daemon last told of its records.
    digest: Digest,
}

impl Peer {
    /// What it says of itself: its row, in which all is fine, and its profile.
    fn records(&self, (roster, config): ([u8; 4], [u8; 4])) -> Vec<Record> {
        let profile = Profile {
            instance: self.run,
            roster,
            config,
            release: Release::OWN,
            wire: WIRE,
            id: None,
            away: None,
            standing: lastseen::proto::Standing::Witness,
        };
        let record = |body| Record { owner: NodeName::of(&self.id), version: 1, body };
        vec![record(Body::Row(Vec::new())), record(Body::Profile(profile))]
    }

    /// Answers what came, and pings when it is time.
    fn turn(&mut self, common: &mut Common, buffer: &mut [u8]) {
        let (key_id, now) = (common.keys.id(0), Clock.now());
        while let Ok((length, _)) = self.socket.recv_from(buffer) {
            let frame = &mut buffer[..length];
            let (header, _) = Header::parse(frame).unwrap();
            let met = || Player::new(&common.keys, &self.id, self.run, DAEMON, header.instance);
            let player = self.player.get_or_insert_with(met);
            let (number, message) = player.open(frame, now);
            common.digest = message.digest().unwrap_or(common.digest);
            let answer = player.answer(number, &message).map(|answer| player.seal(key_id, &answer));
            if let Some(answer) = answer {
                self.socket.send_to(&answer, common.daemon).unwrap();
            }
        }
        if now < self.slot || self.player.as_ref().is_none_or(|player| player.heard.0 == 0) {
            return;
        }
        self.slot += INTERVAL;
        let records = if self.told < TELLINGS { self.records(common.hashes) } else { Vec::new() };
        self.told += u32::from(!records.is_empty());
        let player = self.player.as_mut().unwrap();
        let ((echo, hold), digest) = (player.echo(now), common.digest);
        let message = match (records.is_empty(), player.leads) {
            (false, _) => Message::PongMore { echo, hold, digest, more: More { records, ..More::default() } },
            (true, true) => Message::Ping { echo, hold, digest },
            (true, false) => return,
        };
        let frame = player.seal(key_id, &message);
        self.socket.send_to(&frame, common.daemon).unwrap();
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let nodes: u16 = args.next().map_or(1000, |n| n.parse().unwrap());
    let seconds: u64 = args.next().map_or(60, |n| n.parse().unwrap());
    let program = args.next().map_or_else(beside, PathBuf::from);

    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sockets: Vec<UdpSocket> = (1..nodes).map(bind).collect();
    let addresses: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut process = start(&program, folder.path(), daemon, &addresses);
    let mut common = Common {
        keys: Keyring::new(CLUSTER, &[], false).unwrap(),
        daemon,
        hashes: hashes(daemon, &addresses),
        digest: Digest::default(),
    };
    let phase = |n: usize| Clock.now() + INTERVAL * 2 + INTERVAL.mul_f64(n as f64 / f64::from(nodes));
    let peer = |(n, socket): (usize, UdpSocket)| {
        let (id, run) = (format!("peer-{n}"), Instance(1000 + n as u64));
        Peer { socket, id, run, player: None, slot: phase(n), told: 0 }
    };
    let mut peers: Vec<Peer> = sockets.into_iter().enumerate().map(peer).collect();

    play(&mut peers, &mut common, SETTLE);
    let (before, start) = (cpu_seconds(&mut process), Clock.now());
    let heard = play(&mut peers, &mut common, Duration::from_secs(seconds));
    let (used, passed) = (cpu_seconds(&mut process) - before, Clock.now().since(start).as_secs_f64());
    let most = usize::from(nodes - 1) as u64 * seconds;
    assert!(heard * 10 > most * 9, "the daemon sent {heard} datagrams, of {most} that are due");
    let status = fs::read_to_string(directory(&process).join("smaps_rollup")).unwrap();
    let kib = |key| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("?").trim().to_owned();
    println!(
        "one daemon of {nodes}, full mesh: {:.2} % of a core, {} resident, {} PSS, {:.0} datagrams/s sent",
        used / passed * 100.0,
        kib("Rss:"),
        kib("Pss:"),
        heard as f64 / passed,
    );
}

/// The daemon of the same build.
fn beside() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("lastseen")
}

fn start(program: &Path, folder: &Path, own: SocketAddr, peers: &[SocketAddr]) -> Daemon {
    let entries: String =
        peers.iter().enumerate().map(|(n, address)| format!("\"peer-{n}@{address}\", ")).collect();
    let file = folder.join("lastseen.toml");
    let text = format!(
        "cluster = \"{CLUSTER}\"\nserver_id = \"{DAEMON}\"\nlisten_address = \"{own}\"\nobservers = \"all\"\nstatic_peers = [{entries}]\n[http]\nlisten = [\"127.0.0.1:0\"]\n[control]\nsocket = \"\"\n[log]\nlevel = \"error\"\n"
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    command.env_clear().arg("run").arg("--config").arg(&file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    Daemon(command.spawn().unwrap())
}

/// Of the daemon's roster and settings, as another one with the same would tell them.
fn hashes(daemon: SocketAddr, peers: &[SocketAddr]) -> ([u8; 4], [u8; 4]) {
    let entry = |(n, address): (usize, &SocketAddr)| StaticPeer {
        server_id: Some(format!("peer-{n}").into()),
        name: address.to_string().into(),
        address: Some(*address),
    };
    let roster = peers.iter().enumerate().map(entry).collect();
    let mut config = PeerConfig::new(DAEMON, CLUSTER, daemon, roster);
    config.observers = Observers::All;
    let keys = Keyring::new(CLUSTER, &[], false).unwrap();
    let node = Node::new(config, keys, Instance(1), 1, Clock.now()).unwrap();
    player::hashes(&node, Clock.now())
}

/// How many datagrams came from the daemon.
fn play(peers: &mut [Peer], common: &mut Common, length: Duration) -> u64 {
    let sequences = |peers: &[Peer]| -> u64 {
        peers.iter().filter_map(|peer| peer.player.as_ref()).map(|player| player.heard.0).sum()
    };
    let (mut buffer, before, end) = ([0; 2048], sequences(peers), Clock.now() + length);
    while Clock.now() < end {
        peers.iter_mut().for_each(|peer| peer.turn(common, &mut buffer));
        std::thread::sleep(LOOK);
    }
    sequences(peers) - before
}

fn bind(n: u16) -> UdpSocket {
    let address = Ipv4Addr::from_bits((127 << 24) + (1 << 16) + u32::from(n));
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn directory(daemon: &Daemon) -> PathBuf {
    Path::new("/proc").join(daemon.0.id().to_string())
}

fn cpu_seconds(daemon: &mut Daemon) -> f64 {
    let ended = daemon.0.try_wait().unwrap();
    assert!(ended.is_none(), "the daemon has ended: {ended:?}");
    let mut nanos = 0.0;
    for thread in fs::read_dir(directory(daemon).join("task")).unwrap() {
        let text = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        nanos += text.split_whitespace().next().unwrap().parse::<f64>().unwrap();
    }
    nanos / 1e9
}
