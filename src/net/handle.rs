//! A cheap clonable handle on the running detector.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::clock::Clock;
use super::guard::{QuorumGuard, Window};
use super::migrations::MigrationStream;
use crate::proto::{
    BootstrapRefused, Catalog, ConfigError, Drain, Event, Keyring, Labels, LeaveReason, Move, Scope, Service,
    ServiceInstance, ServiceName, Snapshot, StaticPeer, Time,
};

/// Events kept for a reader that falls behind.
const EVENTS: usize = 256;
/// Commands that may wait for the loop; who asks beyond that waits.
pub(super) const COMMANDS: usize = 64;

/// What a handle asks of the loop.
#[derive(Debug)]
pub(super) enum Command {
    /// Make a snapshot.
    Snapshot(Scope, oneshot::Sender<Snapshot>),
    /// Leave, and tell when it is done, and as what it was announced.
    Leave(LeaveReason, oneshot::Sender<LeaveReason>),
    /// Drain, and tell when all peers were told.
    Drain(Drain, oneshot::Sender<()>),
    /// Drain no longer, and tell whether it did.
    Undrain(oneshot::Sender<bool>),
    /// Say this of the node.
    Labels(Labels, oneshot::Sender<Result<(), ConfigError>>),
    /// Offer a service.
    Publish(Service, oneshot::Sender<Result<(), ConfigError>>),
    /// Offer it no longer, and tell whether it was offered.
    Withdraw(ServiceName, oneshot::Sender<bool>),
    /// Announce that clients are to move, and tell under which number.
    Migrate(Move, oneshot::Sender<Result<u64, ConfigError>>),
    /// Find out whether what a peer did may be taken over, and tell what is known.
    Takeover(String, oneshot::Sender<Option<Time>>),
    /// Become a witness of this roster, and tell what came of it.
    Bootstrap(Option<u64>, oneshot::Sender<Result<(), BootstrapRefused>>),
    /// The state of rosters with this number was written, or could not be.
    Saved(u64, bool),
    /// Take other keys, and tell what came of it.
    Keys(Keyring, oneshot::Sender<Result<(), ConfigError>>),
    /// Take another roster, in which this node has that name, and tell what came of it.
    Roster(Arc<[StaticPeer]>, Arc<str>, oneshot::Sender<Result<(), ConfigError>>),
    /// Tell that the settings were read anew, with what success.
    Reloaded(bool, String),
    /// Look at [`Shared::take_addresses`].
    Addresses,
}

/// What goes to the streams.
#[derive(Clone, Debug)]
enum Told {
    Event(Event),
    /// So many events were dropped before they could be told.
    Lost(u64),
}

/// The loop's end of all streams.
#[derive(Debug)]
pub(super) struct Teller {
    streams: broadcast::Sender<Told>,
    /// How many of the core's drops were told.
    lost: u64,
}

impl Teller {
    pub(super) fn new() -> Teller {
        Teller { streams: broadcast::channel(EVENTS).0, lost: 0 }
    }

    /// No stream, no reader: nothing is lost.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.streams.send(Told::Event(event));
    }

    /// The core has dropped so many events, all in all.
    pub(super) fn dropped(&mut self, total: u64) {
        let lost = total - std::mem::replace(&mut self.lost, total);
        if lost > 0 {
            let _ = self.streams.send(Told::Lost(lost));
        }
    }
}

/// What handles, streams and the loop share.
#[derive(Debug)]
pub(super) struct Shared {
    local: SocketAddr,
    entries: AtomicUsize,
    dropped: AtomicU64,
    /// The newest address of each roster entry that the loop has not taken yet: bounded by the roster.
    addresses: Mutex<BTreeMap<usize, SocketAddr>>,
    /// Of the configuration.
    interval: Duration,
}

impl Shared {
    /// For a socket bound to `local` and a roster of so many entries.
    pub(super) fn new(local: SocketAddr, entries: usize, interval: Duration) -> Shared {
        let entries = AtomicUsize::new(entries);
        Shared { local, entries, dropped: AtomicU64::new(0), addresses: Mutex::default(), interval }
    }

    /// Another roster is in force, of so many entries: what was told of those before means nothing.
    pub(super) fn set_entries(&self, entries: usize) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        self.entries.store(entries, Ordering::Relaxed);
        addresses.clear();
    }

    /// The addresses told since the last call.
    pub(super) fn take_addresses(&self) -> BTreeMap<usize, SocketAddr> {
        std::mem::take(&mut *self.addresses.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A handle on the running detector; all of its clones speak to one loop. Dropping them all does not end the loop:
/// it runs until [`leave`](Handle::leave) is done or its task is aborted.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    /// Weak, so that the streams end with the loop and not with the last handle.
    events: broadcast::WeakSender<Told>,
    shared: Arc<Shared>,
    catalog: watch::Receiver<Arc<Catalog>>,
    window: Arc<Window>,
}

/// A session's way, for whoever holds no catalog: see [`Route`](crate::proto::Route).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRoute {
    /// Where to.
    pub first: ServiceInstance,
    /// Where it goes if that fails.
    pub second: Option<ServiceInstance>,
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        teller: &Teller,
        shared: Arc<Shared>,
        catalog: watch::Receiver<Arc<Catalog>>,
        window: Arc<Window>,
    ) -> Handle {
        Handle { commands, events: teller.streams.downgrade(), shared, catalog, window }
    }

    /// The whole picture, made by the loop; `None` when the loop has ended.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        self.snapshot_of(Scope::Whole).await
    }

    /// So much of the picture, made by the loop; `None` when the loop has ended.
    pub async fn snapshot_of(&self, scope: Scope) -> Option<Snapshot> {
        self.ask(|reply| Command::Snapshot(scope, reply)).await
    }

    /// What the loop answers; `None` when it has ended.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Every event from now on. When the loop has ended, a stream that is at its end.
    pub fn subscribe(&self) -> EventStream {
        let events = self.events.upgrade().map(|sender| sender.subscribe());
        EventStream { events, shared: Arc::clone(&self.shared) }
    }

    /// Tells all peers that this node leaves, and ends the loop. Returns when the last Leave was sent, or at once if
    /// the loop has ended already. The result is the reason that was announced: a leave for good must be on disk first, and is
    /// announced as one for a restart if the disk does not take it within the waiting time of the quorum guard. `None` when the
    /// loop had ended, or its task was aborted.
    pub async fn leave(&self, reason: LeaveReason) -> Option<LeaveReason> {
        self.ask(|done| Command::Leave(reason, done)).await
    }

    /// Makes this node a witness of its present roster; see [`Node::bootstrap`](crate::proto::Node::bootstrap). `None` when the
    /// loop has ended.
    ///
    /// # Errors
    /// The hash is missing or wrong, or a bootstrap is not allowed now; nothing has changed.
    pub async fn bootstrap(&self, confirm: Option<u64>) -> Option<Result<(), BootstrapRefused>> {
        self.ask(|reply| Command::Bootstrap(confirm, reply)).await
    }

    /// This node may go away until then without an alarm at anybody; see [`Node::drain`](crate::proto::Node::drain). `None` when the
    /// loop has ended.
    pub async fn drain(&self, drain: Drain) -> Option<()> {
        self.ask(|reply| Command::Drain(drain, reply)).await
    }

    /// This node drains no longer. Whether it did; `None` when the loop has ended.
    pub async fn undrain(&self) -> Option<bool> {
        self.ask(Command::Undrain).await
    }

    /// From now on this is what the operator says of this node; see [`Node::set_labels`](crate::proto::Node::set_labels). `None` when
    /// the loop has ended.
    ///
    /// # Errors
    /// They do not fit into a datagram; nothing has changed.
    pub async fn set_labels(&self, labels: Labels) -> Option<Result<(), ConfigError>> {
        self.ask(|reply| Command::Labels(labels, reply)).await
    }

    /// This node offers a service, or says something else of it than before; see
    /// [`Node::publish_service`](crate::proto::Node::publish_service). `None` when the loop has ended.
    ///
    /// # Errors
    /// There are too many services; nothing has changed.
    pub async fn publish_service(&self, service: Service) -> Option<Result<(), ConfigError>> {
        self.ask(|reply| Command::Publish(service, reply)).await
    }

    /// This node offers that service no longer. Whether it did; `None` when the loop has ended.
    pub async fn withdraw_service(&self, name: ServiceName) -> Option<bool> {
        self.ask(|reply| Command::Withdraw(name, reply)).await
    }

    /// Clients are to move: every node that lives is told once; see [`Node::migrate`](crate::proto::Node::migrate). The
    /// migration's id; `None` when the loop has ended.
    ///
    /// # Errors
    /// This node announces too many already; nothing has changed.
    pub async fn migrate(&self, moving: Move) -> Option<Result<u64, ConfigError>> {
        self.ask(|reply| Command::Migrate(moving, reply)).await
    }

    /// Every migration that is announced, by whichever node, once.
    pub fn migrations(&self) -> MigrationStream {
        MigrationStream::new(self.catalog.clone())
    }

    /// All services of all nodes, as of the loop's last turn. Cheap: it asks nobody.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    /// The same, for whoever waits until it changes.
    pub fn watch_catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.clone()
    }

    /// Where the session with this key goes; see [`Catalog::route`]. Cheap: it asks nobody.
    pub fn route(&self, service: &str, session_key: &[u8]) -> Option<OwnedRoute> {
        self.route_with(service, session_key, None)
    }

    /// The same, to a node with this label (name, value) where there is one.
    pub fn route_with(
        &self,
        service: &str,
        session_key: &[u8],
        prefer: Option<(&str, &str)>,
    ) -> Option<OwnedRoute> {
        let catalog = self.catalog.borrow();
        let route = catalog.route(service, session_key, prefer)?;
        Some(OwnedRoute { first: route.first.clone(), second: route.second.cloned() })
    }

    /// What may act only on the one side that has the majority asks this.
    pub fn quorum_guard(&self) -> QuorumGuard {
        QuorumGuard::of(&self.window)
    }

    /// Whether what a peer did may be taken over: this node holds the guard, and the peer neither holds it nor can before the time
    /// that is returned (of [`Clock`]); see [`Node::takeover_safe`](crate::proto::Node::takeover_safe). Asks the other nodes, and
    /// answers within an interval. `None`: it may not, or not yet; or there is no such peer, or the loop has ended.
    pub async fn takeover_safe(&self, server_id: &str) -> Option<Time> {
        let interval = self.shared.interval;
        let deadline = Clock.now() + interval;
        loop {
            let safe = self.ask(|reply| Command::Takeover(server_id.to_owned(), reply)).await?;
            if safe.is_some() || Clock.now() >= deadline {
                return safe;
            }
            tokio::time::sleep(interval / 16).await;
        }
    }

    /// From now on these keys count: the first seals, all open; see [`Node::set_keys`](crate::proto::Node::set_keys). `None` when
    /// the loop has ended.
    ///
    /// # Errors
    /// Two nodes of the roster that cannot be told apart under a new key; the old keys stay in force.
    pub async fn set_keys(&self, keys: Keyring) -> Option<Result<(), ConfigError>> {
        self.ask(|reply| Command::Keys(keys, reply)).await
    }

    /// The settings were read anew, and are in force, or nothing has changed; see
    /// [`Node::note_reload`](crate::proto::Node::note_reload).
    pub async fn note_reload(&self, succeeded: bool, why: String) {
        // Where the loop has ended nobody is told any more.
        let _ = self.commands.send(Command::Reloaded(succeeded, why)).await;
    }

    /// From now on this is the roster; see [`Node::set_roster`](crate::proto::Node::set_roster). Indices of entries are those of
    /// this one when it returns. `None` when the loop has ended.
    ///
    /// # Errors
    /// What is wrong with it; the old roster stays in force.
    pub async fn set_roster(
        &self,
        static_peers: Arc<[StaticPeer]>,
        own_name: Arc<str>,
    ) -> Option<Result<(), ConfigError>> {
        self.ask(|reply| Command::Roster(static_peers, own_name, reply)).await
    }

    /// A roster entry (by its index in `static_peers`) was resolved, at first or again. Of several addresses told
    /// for one entry the newest counts. An index outside of the roster does nothing. Not while another roster is being set: the
    /// index could be of either.
    pub fn set_address(&self, entry: usize, address: SocketAddr) {
        let mut addresses = self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if entry >= self.shared.entries.load(Ordering::Relaxed) {
            return;
        }
        addresses.insert(entry, address);
        drop(addresses);
        // Where the queue is full, the loop looks at the addresses after the commands that fill it.
        let _ = self.commands.try_send(Command::Addresses);
    }

    /// The address the socket is bound to (with the real port if port 0 was asked for).
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// Events that were lost because a reader was too slow, over all streams. A stream's losses are counted when it
    /// is read. What was lost to all of them is in [`Stats::events_dropped`](crate::proto::Stats::events_dropped).
    pub fn events_dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct EventStream {
    events: Option<broadcast::Receiver<Told>>,
    shared: Arc<Shared>,
}

impl EventStream {
    /// The next event, or how many were lost to this slow reader (256 are kept for it), or to all since too many came at
    /// once; `None` when the loop has ended. Safe to cancel: no event is lost by it.
    pub async fn next(&mut self) -> Option<Result<Event, u64>> {
        match self.events.as_mut()?.recv().await {
            Ok(Told::Event(event)) => Some(Ok(event)),
            // The core has counted them.
            Ok(Told::Lost(lost)) => Some(Err(lost)),
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
                Some(Err(lost))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Change, Time};

    #[tokio::test]
    async fn readers_are_told_what_the_core_dropped() {
        let (commands, _rest) = mpsc::channel(1);
        let shared = Arc::new(Shared::new(([127, 0, 0, 1], 1).into(), 0, Duration::ZERO));
        let mut teller = Teller::new();
        let catalog = watch::channel(Arc::default()).1;
        let handle = Handle::new(commands, &teller, shared, catalog, Arc::new(Window::new()));
        let mut stream = handle.subscribe();
        let change = Change::Quorum { available: true };
        let event = Event {
            at: Time::ZERO,
            peer: None,
            observed: true,
            change,
            verdict: None,
            why: String::new(),
            evidence: None,
        };
        for total in [0, 5, 5, 7] {
            teller.tell(event.clone());
            teller.dropped(total);
        }
        drop(teller);
        let mut told = Vec::new();
        while let Some(next) = stream.next().await {
            told.push(next.map(|_| ()));
        }
        assert_eq!(told, [Ok(()), Ok(()), Err(5), Ok(()), Ok(()), Err(2)]);
        assert_eq!(handle.events_dropped(), 0, "they are counted once");
    }
}
