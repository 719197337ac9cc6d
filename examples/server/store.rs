//! The store: one text, which the primary writes and all others copy.
//!
//! Who is primary is no matter of the catalog, since two nodes may see two catalogs. It is the first of the roster that can act: a
//! node acts while it holds the quorum guard, and knows of each node before it in the roster that this one does not hold it
//! (`takeover_safe`). Of two nodes the later one would know that of the earlier one, so never two act at a time.
//!
//! What this does not give: what was written since the others copied last is lost with the primary. Whoever needs more writes it to
//! a majority before he answers.

use std::sync::Arc;

use lastseen::net::{Clock, Handle, QuorumGuard};
use lastseen::proto::{Service, ServiceInstance, Time};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Fallible, INTERVAL};

/// What the primary says of itself in the catalog, so that clients find it.
const PRIMARY: &[u8] = b"primary";
/// A version counts the primaries in its upper half and their writes in its lower one: whatever a primary writes is newer than what
/// its predecessor wrote that nobody copied.
const TERM: u32 = 32;

pub(super) struct Store {
    id: String,
    node: Handle,
    guard: QuorumGuard,
    address: String,
    /// Who stands before this node in the roster.
    before: Vec<String>,
    /// The version and the text that this node has.
    held: watch::Sender<(u64, String)>,
    /// No node before this one can act until then.
    until: watch::Sender<Time>,
    /// It is to be primary no longer.
    retired: watch::Sender<bool>,
}

impl Store {
    pub(super) fn start(id: &str, node: Handle, address: &str, before: Vec<String>) -> Arc<Store> {
        let store = Arc::new(Store {
            id: id.to_owned(),
            guard: node.quorum_guard(),
            node,
            address: address.to_owned(),
            before,
            held: watch::Sender::new((0, String::new())),
            until: watch::Sender::new(Time::ZERO),
            retired: watch::Sender::new(false),
        });
        tokio::spawn(Arc::clone(&store).copy());
        tokio::spawn(Arc::clone(&store).lead());
        store
    }

    /// What this node has, which may be old: `1.2 TEXT`.
    pub(super) fn line(&self) -> String {
        let (version, text) = &*self.held.borrow();
        format!("{}.{} {text}", version >> TERM, version & u64::from(u32::MAX))
    }

    /// The primary writes; others name it.
    pub(super) async fn set(&self, text: &str) -> String {
        // Asked right before the act, which takes no time. What takes longer than `guard.left()` would have to ask again.
        if self.is_primary() {
            self.held.send_modify(|(version, held)| {
                *version += 1;
                text.clone_into(held);
            });
            self.publish().await;
            return self.line();
        }
        let catalog = self.node.catalog();
        let is_primary = |instance: &&ServiceInstance| {
            *instance.service.payload == *PRIMARY && *instance.server_id != *self.id
        };
        match catalog.passing("store").find(is_primary) {
            Some(primary) => format!("go {}", primary.service.address),
            None => "wait".to_owned(),
        }
    }

    /// It acts no longer, so that the next one may as soon as this node has left.
    pub(super) fn retire(&self) {
        self.retired.send_replace(true);
    }

    fn is_primary(&self) -> bool {
        self.guard.is_held() && Clock.now() < *self.until.borrow() && !*self.retired.borrow()
    }

    /// Acts as primary whenever it may.
    async fn lead(self: Arc<Self>) {
        loop {
            self.guard.held().await;
            tokio::select! {
                // Whatever it does as primary stands in the other branch, and stops there.
                () = self.guard.lost() => println!("{}: has lost the quorum guard", self.id),
                () = self.lead_under_guard() => (),
            }
            self.until.send_replace(Time::ZERO);
            self.publish().await;
        }
    }

    async fn lead_under_guard(&self) {
        let mut is_primary = false;
        loop {
            let until = self.safe_until().await;
            if Clock.now() < until && !is_primary {
                // A new primary begins with the newest that anybody has, in a term of its own.
                self.copy_newest().await;
                self.held.send_modify(|(version, _)| *version = ((*version >> TERM) + 1) << TERM);
            }
            self.until.send_replace(until);
            if std::mem::replace(&mut is_primary, self.is_primary()) != self.is_primary() {
                println!("{}: is primary: {is_primary}", self.id);
                self.publish().await;
            }
            sleep(INTERVAL / 2).await;
        }
    }

    /// Until when no node before this one can act. An answer stands for some intervals, so it is asked for again and again.
    async fn safe_until(&self) -> Time {
        let mut until = Time::from_micros(u64::MAX);
        for before in &self.before {
            match self.node.takeover_safe(before).await {
                Some(safe) => until = until.min(safe),
                None => return Time::ZERO,
            }
        }
        until
    }

    /// Keeps up with whoever has more, from the start on.
    async fn copy(self: Arc<Self>) {
        let mut catalog = self.node.watch_catalog();
        loop {
            self.copy_newest().await;
            // A copy that failed is tried again, news or not.
            if let Ok(Err(_ended)) = timeout(4 * INTERVAL, catalog.changed()).await {
                return;
            }
        }
    }

    /// Asks those who say that they have more than this node, the newest first, until one gives it.
    async fn copy_newest(&self) {
        for source in self.node.catalog().sources("store") {
            if source.service.version <= self.held.borrow().0 {
                return;
            }
            if let Ok(Ok((version, text))) = timeout(INTERVAL, fetch(source.service.address.as_str())).await {
                let is_newer = self.held.send_if_modified(|held| {
                    let is_newer = version > held.0;
                    if is_newer {
                        *held = (version, text);
                    }
                    is_newer
                });
                if is_newer {
                    println!("{}: has {} from {}", self.id, self.line(), source.server_id);
                    self.publish().await;
                }
                return;
            }
        }
    }

    /// Tells all which version this node has, and whether it is the primary.
    async fn publish(&self) {
        let mut store = Service::new("store", &self.address).expect("a socket's address is one of a service");
        store.version = self.held.borrow().0;
        if self.is_primary() {
            store.payload = PRIMARY.into();
        }
        // It is small, and where the detector has ended there is nobody to tell.
        let _ = self.node.publish_service(store).await;
    }
}

/// What another node has.
async fn fetch(address: &str) -> Fallible<(u64, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"get\n").await?;
    let line = BufReader::new(stream).lines().next_line().await?.ok_or("it has closed")?;
    let (version, text) = line.split_once(' ').ok_or("that is no text with a version")?;
    let (term, number) = version.split_once('.').ok_or("that is no version")?;
    Ok((term.parse::<u64>()? << TERM | number.parse::<u64>()?, text.to_owned()))
}
