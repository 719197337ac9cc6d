//! A server that clients may trust to go away: two services, failover, a drain, and one primary at a time.
//!
//! Three of these on one machine, each told the whole roster (its own entry says where it listens for the others):
//!
//! ```sh
//! R="a@127.0.0.1:7001 b@127.0.0.1:7002 c@127.0.0.1:7003"
//! server serve a $R    # and b, and c; each prints where its clients connect
//! server client ADDRESS 8    # eight sessions, by way of any of them; prints who answers each
//! ```
//!
//! Type `drain` into a server, or send it SIGTERM: its clients move, each to its second choice, and then it ends. Or kill it.
//!
//! Clients speak in lines. `web KEY` is answered with `web from ID else ADDRESS`, where ADDRESS is the session's second choice;
//! `get` with `VERSION TEXT`; `set TEXT` too, once it is done, or with `wait` while there is no primary. Instead, and also when
//! nobody has asked, a server may say `go ADDRESS`: what was asked is not done, ask there. `sent KEY` is `web KEY` of one who was
//! told to go, or whose server failed: whoever sent him may know what the server does not know yet, so he is served and not sent on.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lastseen::net::{Clock, Handle, Options, Rosters, spawn};
use lastseen::proto::{
    Drain, Keyring, LeaveReason, Move, PeerConfig, Reason, RosterState, ServerId, Service, ServiceName,
    StaticPeer,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

mod client;
mod store;

use store::Store;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// One heartbeat each so often: a crash is known after four. A second is what it is otherwise.
const INTERVAL: Duration = Duration::from_millis(250);
/// Clients that have not gone by then are cut off.
const DRAIN: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", id, roster @ ..] => serve(id, roster).await,
        ["client", address, sessions] => client::run(address, sessions.parse()?).await,
        _ => Err("server serve ID ID@ADDRESS..., or server client ADDRESS SESSIONS".into()),
    }
}

async fn serve(id: &str, roster: &[&str]) -> Fallible<()> {
    let entry = |text: &&str| -> Fallible<StaticPeer> {
        let (id, address) = text.split_once('@').ok_or("an entry is ID@ADDRESS")?;
        Ok(StaticPeer { server_id: Some(id.into()), name: id.into(), address: Some(address.parse()?) })
    };
    let roster = roster.iter().map(entry).collect::<Fallible<Vec<_>>>()?;
    let own = roster.iter().position(|peer| &*peer.name == id).ok_or("the roster has no such id")?;
    let before = roster[..own].iter().map(|peer| peer.name.to_string()).collect();
    let listen: SocketAddr = roster[own].address.expect("every entry has one");

    let mut config = PeerConfig::new(id, "example", listen, roster);
    (config.heartbeat_interval, config.heartbeat_timeout) = (INTERVAL, INTERVAL / 2);
    // The quorum guard needs a node that forgets no roster when it restarts.
    let path = std::env::temp_dir().join(format!("lastseen-example-{id}-{}.json", listen.port()));
    let state = read_rosters(&path);
    let rosters = Rosters { state, save: Box::new(move |state| write_rosters(&path, state)) };
    // Without a key, as here, anybody on this machine can speak for a node.
    let options = Options { rosters: Some(rosters), ..Options::default() };
    let (node, _task) = spawn(config, Keyring::new("example", &[], true)?, options).await?;
    let clients = TcpListener::bind((listen.ip(), 0)).await?;
    let address = clients.local_addr()?.to_string();
    println!("{id}: clients at {address}");
    let web = node.publish_service(Service::new("web", &address)?);
    web.await.ok_or("the detector has ended")??;
    let store = Store::start(id, node.clone(), &address, before);
    let server = Arc::new(Server { id: id.to_owned(), node, store, leaves: watch::Sender::new(false) });
    tokio::spawn(Arc::clone(&server).follow_migrations());
    server.accept(clients).await
}

/// The rosters that an earlier run left.
fn read_rosters(path: &Path) -> RosterState {
    let read = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    read.filter(|state: &RosterState| state.validate().is_ok()).unwrap_or_default()
}

/// Writes the rosters. The detector calls it on a thread of its own, so a disk that hangs holds up nothing.
fn write_rosters(path: &Path, state: &RosterState) -> io::Result<()> {
    let new = path.with_extension("new");
    let out = File::create(&new)?;
    serde_json::to_writer(&out, state)?;
    out.sync_all()?;
    fs::rename(new, path)
}

struct Server {
    id: String,
    node: Handle,
    store: Arc<Store>,
    /// Whether its clients are to go.
    leaves: watch::Sender<bool>,
}

impl Server {
    /// Takes clients in until it is told to drain and they have gone.
    async fn accept(self: Arc<Self>, clients: TcpListener) -> Fallible<()> {
        // A server for more than its own machine bounds how many there may be, and how long a line.
        let mut connections = JoinSet::new();
        let mut orders = orders()?;
        loop {
            tokio::select! {
                accepted = clients.accept() => match accepted {
                    Ok((stream, _)) => { connections.spawn(Arc::clone(&self).converse(stream)); }
                    // Too many files are open, say: better in a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                // A client that fails concerns nobody but itself.
                Some(_) = connections.join_next() => (),
                Some(()) = orders.recv() => break,
            }
        }
        println!("{}: drains, {} clients are to go", self.id, connections.len());
        self.drain().await?;
        // It serves on meanwhile: who has not heard of the drain yet may still send somebody here.
        let (all_know, deadline) = (tokio::time::sleep(2 * INTERVAL), tokio::time::sleep(DRAIN));
        tokio::pin!(all_know, deadline);
        while !(all_know.is_elapsed() && connections.is_empty()) {
            tokio::select! {
                Ok((stream, _)) = clients.accept() => { connections.spawn(Arc::clone(&self).converse(stream)); }
                Some(_) = connections.join_next() => (),
                () = &mut all_know, if !all_know.is_elapsed() => (),
                () = &mut deadline => break,
            }
        }
        println!("{}: leaves, with {} clients", self.id, connections.len());
        self.node.leave(LeaveReason::Restart).await;
        Ok(())
    }

    /// From now on nobody is routed here, and to be away is no alarm; all nodes are told that the clients are to move.
    async fn drain(&self) -> Fallible<()> {
        let ended = "the detector has ended";
        let reason = Reason::new("it was told to drain")?;
        let until = (Clock.since_1970() + DRAIN).as_secs();
        self.node.drain(Drain { until, reason: reason.clone() }).await.ok_or(ended)?;
        for service in ["web", "store"] {
            let moving = Move {
                service: ServiceName::new(service)?,
                from: ServerId::new(&self.id)?,
                // Each where `route` leads it.
                to: None,
                reason: reason.clone(),
                within: DRAIN,
            };
            self.node.migrate(moving).await.ok_or(ended)??;
        }
        Ok(())
    }

    /// What is announced, by this node or another one; where this one is to be left, its clients are told.
    async fn follow_migrations(self: Arc<Self>) {
        let mut migrations = self.node.migrations();
        while let Some(announced) = migrations.next().await {
            let migration = announced.migration;
            println!("{}: clients of {} are to leave {}", self.id, migration.service, migration.from);
            if migration.from.as_str() == self.id {
                self.store.retire();
                self.leaves.send_replace(true);
            }
        }
    }

    /// One client, until it goes.
    async fn converse(self: Arc<Self>, mut stream: TcpStream) -> std::io::Result<()> {
        let (reader, mut writer) = stream.split();
        let mut lines = BufReader::new(reader).lines();
        let mut leaves = self.leaves.subscribe();
        // What it asked last: by this it is told where to go.
        let mut last = String::new();
        loop {
            let is_movable = self.elsewhere(&last).is_some();
            let answer = tokio::select! {
                line = lines.next_line() => {
                    let Some(line) = line? else { return Ok(()) };
                    last = line;
                    self.answer(&last).await
                }
                Ok(()) = leaves.changed(), if is_movable => self.go(&last),
            };
            writer.write_all(format!("{answer}\n").as_bytes()).await?;
            if answer.starts_with("go ") {
                // What it still asks is not done: it has the address, and closes.
                writer.shutdown().await?;
                while lines.next_line().await?.is_some() {}
                return Ok(());
            }
        }
    }

    async fn answer(&self, line: &str) -> String {
        let is_moving = *self.leaves.borrow() && self.elsewhere(line).is_some();
        match line.split_once(' ').unwrap_or((line, "")) {
            // To the last it gives others what it holds.
            ("get", "") => self.store.line(),
            _ if is_moving => self.go(line),
            ("web", key) if !self.is_chosen(key) => self.go(line),
            ("web" | "sent", _) => match self.elsewhere(line) {
                Some(second) => format!("web from {} else {second}", self.id),
                None => format!("web from {}", self.id),
            },
            ("set", text) => self.store.set(text).await,
            _ => "what?".to_owned(),
        }
    }

    /// Whether a session goes to this node; also where none passes that it could go to instead.
    fn is_chosen(&self, key: &str) -> bool {
        let route = self.node.route("web", key.as_bytes());
        route.is_none_or(|route| *route.first.server_id == *self.id)
    }

    /// Where who asks this goes if not here: to its first choice, or to its second one where this is the first.
    fn elsewhere(&self, line: &str) -> Option<String> {
        let route = match line.split_once(' ').unwrap_or((line, "")) {
            ("web" | "sent", key) => self.node.route("web", key.as_bytes()),
            ("get" | "set", _) => self.node.route("store", b""),
            _ => None,
        }?;
        let mut choices = [Some(route.first), route.second].into_iter().flatten();
        let other = choices.find(|instance| *instance.server_id != *self.id)?;
        Some(other.service.address.to_string())
    }

    fn go(&self, line: &str) -> String {
        self.elsewhere(line).map_or_else(|| "wait".to_owned(), |address| format!("go {address}"))
    }
}

/// SIGTERM, or `drain` on standard input.
fn orders() -> std::io::Result<mpsc::Receiver<()>> {
    let (order, orders) = mpsc::channel(1);
    let (by_signal, mut terminate) = (order.clone(), signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        while terminate.recv().await.is_some() {
            let _ = by_signal.try_send(());
        }
    });
    // A thread, since standard input cannot be waited for without blocking.
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok).filter(|line| line == "drain") {
            let _ = order.try_send(());
        }
    });
    Ok(orders)
}
