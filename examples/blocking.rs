//! The core alone, `lastseen::proto`: a loop of std sockets and nothing else. No runtime, no task, no feature of the crate.
//!
//! `cargo run --example blocking --no-default-features` runs three nodes, each a thread, on loopback: they find each other, each
//! publishes a service, and when all three hold the quorum guard one of them leaves.
//!
//! `blocking ID LISTEN PEER@ADDRESS...` runs one node until it is killed:
//! `blocking a 10.0.0.1:5278 b@10.0.0.2:5278 c@10.0.0.3:5278`.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use lastseen::proto::{
    Change, Instance, Keyring, LeaveReason, Node, PeerConfig, RosterState, Service, StaticPeer, Time,
};
use nix::time::{ClockId, clock_gettime};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [id, listen, peers @ ..] = &args[..] else { return three_in_one_process() };
    let peer = |text: &String| -> Fallible<(String, SocketAddr)> {
        let (id, address) = text.split_once('@').ok_or("a peer is ID@ADDRESS")?;
        Ok((id.to_owned(), address.parse()?))
    };
    let peers = peers.iter().map(peer).collect::<Fallible<Vec<_>>>()?;
    Blocking::join(id, UdpSocket::bind(listen)?, &peers)?.run(|_| false)
}

/// Each knows where the others are, since all sockets are bound before the first node starts.
fn three_in_one_process() -> Fallible<()> {
    let bind = |id: &str| -> io::Result<_> { Ok((id.to_owned(), UdpSocket::bind("127.0.0.1:0")?)) };
    let sockets = ["a", "b", "c"].into_iter().map(bind).collect::<io::Result<Vec<_>>>()?;
    let address = |(id, socket): &(String, UdpSocket)| Ok((id.clone(), socket.local_addr()?));
    let all = sockets.iter().map(address).collect::<io::Result<Vec<_>>>()?;
    let holders = AtomicUsize::new(0);
    let play = |id: String, socket| -> Fallible<()> {
        let mut counted = false;
        Blocking::join(&id, socket, &all)?.run(|this| {
            let is_ready = this.guarded && this.passing.len() == all.len();
            if is_ready && !std::mem::replace(&mut counted, true) {
                holders.fetch_add(1, Ordering::Relaxed);
            }
            match &*id {
                "c" => holders.load(Ordering::Relaxed) == all.len(),
                // The other two end when somebody offers nothing any more.
                _ => holders.load(Ordering::Relaxed) == all.len() && this.passing.len() < all.len(),
            }
        })
    };
    std::thread::scope(|threads| {
        let start = |(id, socket)| threads.spawn(|| play(id, socket));
        let nodes: Vec<_> = sockets.into_iter().map(start).collect();
        nodes.into_iter().try_for_each(|node| node.join().expect("no thread panics"))
    })
}

/// The clock of this loop. It must count the time that the machine was suspended, or the quorum guard would outlast a night's
/// sleep: `std::time::Instant` does not do that on Linux, so it will not do here.
fn now() -> Time {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;
    let since_start = Duration::from(clock_gettime(CLOCK).expect("the system has this clock"));
    Time::from_micros(u64::try_from(since_start.as_micros()).expect("it has not run for 500,000 years"))
}

/// 64 bits from the operating system: two runs of a node must never share their instance.
fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Replaces a file with what must survive a loss of power.
fn write(path: &Path, state: &RosterState) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    serde_json::to_writer(&mut file, state)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

/// One node, its socket, and what it said last.
struct Blocking {
    id: String,
    node: Node,
    socket: UdpSocket,
    /// The file of the rosters that it must not forget.
    rosters: PathBuf,
    /// Whether it holds the quorum guard.
    guarded: bool,
    /// At which nodes the service passes.
    passing: Vec<Arc<str>>,
    catalog_turn: u64,
}

impl Blocking {
    fn join(id: &str, socket: UdpSocket, roster: &[(String, SocketAddr)]) -> Fallible<Blocking> {
        let entry = |(id, address): &(String, SocketAddr)| StaticPeer {
            server_id: Some(id.as_str().into()),
            name: id.as_str().into(),
            address: Some(*address),
        };
        // A roster may name its own node: that is no peer.
        let roster = roster.iter().map(entry).collect();
        let mut config = PeerConfig::new(id, "example", socket.local_addr()?, roster);
        // Quick, for something to look at; without these two lines it is a second, and half of one.
        config.heartbeat_interval = Duration::from_millis(200);
        config.heartbeat_timeout = Duration::from_millis(100);
        // Without a key, as here, anybody on this machine can speak for a node.
        let keys = Keyring::new("example", &[], true)?;
        let started = now();
        let mut node = Node::new(config, keys, Instance(random()?.max(1)), random()?, started)?;
        // By the wall clock drains and migrations end; tell it again whenever it may have been set.
        #[expect(clippy::disallowed_methods, reason = "a loop of its own has a clock of its own")]
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        node.set_wall_clock(since_1970, started);
        // The quorum guard needs a node that forgets no roster when it restarts.
        let rosters = format!("lastseen-example-{id}-{}.json", socket.local_addr()?.port());
        let rosters = std::env::temp_dir().join(rosters);
        let read = std::fs::read(&rosters).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let state = read.filter(|state: &RosterState| state.validate().is_ok()).unwrap_or_default();
        node.keep_rosters(state, started)?;
        node.publish_service(Service::new("web", "127.0.0.1:8080")?, started)?;
        let id = id.to_owned();
        Ok(Blocking { id, node, socket, rosters, guarded: false, passing: Vec::new(), catalog_turn: 0 })
    }

    /// Turns until `is_over`, then leaves.
    fn run(mut self, mut is_over: impl FnMut(&Blocking) -> bool) -> Fallible<()> {
        while !self.node.has_left() {
            self.receive()?;
            self.send();
            self.tell();
            if is_over(&self) {
                // Said three times to every peer; a crash would take them seconds to find out.
                self.node.leave(LeaveReason::Restart, now());
            }
        }
        self.send();
        println!("{}: has left", self.id);
        Ok(())
    }

    /// Sleeps until the next deadline or datagram, empties the socket, and only then lets the deadline be judged, by a reading of
    /// the clock that is no later than the look that found the socket empty: nobody is blamed for what lies unread.
    fn receive(&mut self) -> io::Result<()> {
        let mut datagram = [0; 2048];
        let sleep = self.node.poll_timeout().map(|deadline| deadline.since(now()));
        // Nothing due, nothing to be told: as good as never. Zero would mean for ever.
        let sleep = sleep.unwrap_or(Duration::from_secs(60)).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(sleep))?;
        let mut waiting = true;
        loop {
            let looked = now();
            match self.socket.recv_from(&mut datagram) {
                Ok((length, from)) => {
                    let received = now();
                    // What is wrong with a datagram is counted in the node's stats, and harms nobody.
                    let _ =
                        self.node.handle_datagram(from, None, &mut datagram[..length], received, received);
                }
                // It is empty, or the system says something of an earlier datagram, which is no reason to end.
                Err(_) if !waiting => {
                    self.socket.set_nonblocking(false)?;
                    self.node.handle_timeout(looked);
                    return Ok(());
                }
                // The sleep is over. The look that ended so began before the deadline: look once more.
                Err(_) => (),
            }
            if std::mem::take(&mut waiting) {
                self.socket.set_nonblocking(true)?;
            }
        }
    }

    /// Writes the rosters that the node must not forget. It is a small file; a loop that must not wait for a disk writes it elsewhere.
    fn keep_rosters(&mut self) {
        while let Some((number, state)) = self.node.poll_state() {
            match write(&self.rosters, &state) {
                Ok(()) => self.node.handle_state_saved(number, now()),
                Err(_) => return self.node.handle_state_failed(number, now()),
            }
        }
    }

    /// Sends what the node wants sent. What the system refuses is a lost datagram: the node asks again by itself.
    fn send(&mut self) {
        self.keep_rosters();
        let mut datagram = Vec::new();
        while let Some(transmit) = self.node.poll_transmit(now(), &mut datagram) {
            let _ = self.socket.send_to(&datagram, transmit.to);
            // If the process stood still meanwhile, the datagram left later than it was dated.
            self.node.handle_sent(now());
        }
    }

    /// What is new: events, services, the guard.
    fn tell(&mut self) {
        let (now, id) = (now(), &self.id);
        while let Some(event) = self.node.poll_event() {
            println!("{id}: {}: {}", event.peer.as_deref().unwrap_or("this node"), event.why);
            // A process that was copied, or set back to an earlier moment, must not go on under the same numbers.
            if let (Change::Rollback, Ok(instance)) = (&event.change, random()) {
                self.node.renew(Instance(instance.max(1)), now);
            }
        }
        // A catalog is made when it is asked for, so ask when it may say something else.
        let turn = self.node.catalog_turn();
        if std::mem::replace(&mut self.catalog_turn, turn) != turn {
            let catalog = self.node.catalog(now);
            let passing: Vec<_> = catalog.passing("web").map(|i| Arc::clone(&i.server_id)).collect();
            if self.passing != passing {
                let session = catalog.route("web", b"session 7", None).map(|route| &route.first.server_id);
                println!("{id}: web passes at {passing:?}, session 7 goes to {session:?}");
                self.passing = passing;
            }
        }
        // Whoever acts under the guard asks right before each act; here it is only told.
        let held = self.node.quorum_guard(now).map(|until| until.since(now));
        if std::mem::replace(&mut self.guarded, held.is_some()) != held.is_some() {
            match held {
                Some(left) => println!("{id}: holds the quorum guard, for {left:?} at least"),
                None => println!("{id}: has lost the quorum guard"),
            }
        }
    }
}
