//! A cheap clonable handle on the running detector.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::proto::{Event, LeaveReason, Scope, Snapshot};

/// Events kept for a reader that falls behind.
pub(super) const EVENTS: usize = 256;
/// Commands that may wait for the loop; who asks beyond that waits.
pub(super) const COMMANDS: usize = 64;

/// What a handle asks of the loop.
#[derive(Debug)]
pub(super) enum Command {
    /// Make a snapshot.
    Snapshot(Scope, oneshot::Sender<Snapshot>),
    /// Leave, and tell when it is done.
    Leave(LeaveReason, oneshot::Sender<()>),
    /// Look at [`Shared::take_addresses`].
    Addresses,
}

/// What handles, streams and the loop share.
#[derive(Debug)]
pub(super) struct Shared {
    local: SocketAddr,
    entries: usize,
    dropped: AtomicU64,
    /// The newest address of each roster entry that the loop has not taken yet: bounded by the roster.
    addresses: Mutex<BTreeMap<usize, SocketAddr>>,
}

impl Shared {
    /// For a socket bound to `local` and a roster of so many entries.
    pub(super) fn new(local: SocketAddr, entries: usize) -> Shared {
        Shared { local, entries, dropped: AtomicU64::new(0), addresses: Mutex::default() }
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
    events: broadcast::WeakSender<Event>,
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        events: broadcast::WeakSender<Event>,
        shared: Arc<Shared>,
    ) -> Handle {
        Handle { commands, events, shared }
    }

    /// The whole picture, made by the loop; `None` when the loop has ended.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        self.snapshot_of(Scope::Whole).await
    }

    /// So much of the picture, made by the loop; `None` when the loop has ended.
    pub async fn snapshot_of(&self, scope: Scope) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Snapshot(scope, reply)).await.ok()?;
        answer.await.ok()
    }

    /// Every event from now on. When the loop has ended, a stream that is at its end.
    pub fn subscribe(&self) -> EventStream {
        let events = self.events.upgrade().map(|sender| sender.subscribe());
        EventStream { events, shared: Arc::clone(&self.shared) }
    }

    /// Tells all peers that this node leaves, and ends the loop. Returns when the last Leave was sent, or at once if
    /// the loop has ended already.
    pub async fn leave(&self, reason: LeaveReason) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Leave(reason, done)).await.is_ok() {
            // An error says that the loop has ended without an answer (its task was aborted): it has left, too.
            let _ = ended.await;
        }
    }

    /// A roster entry (by its index in `static_peers`) was resolved, at first or again. Of several addresses told
    /// for one entry the newest counts. An index outside of the roster does nothing.
    pub fn set_address(&self, entry: usize, address: SocketAddr) {
        if entry >= self.shared.entries {
            return;
        }
        self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner).insert(entry, address);
        // Where the queue is full, the loop looks at the addresses after the commands that fill it.
        let _ = self.commands.try_send(Command::Addresses);
    }

    /// The address the socket is bound to (with the real port if port 0 was asked for).
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// Events that were lost because a reader was too slow, over all streams. A stream's losses are counted when it
    /// is read.
    pub fn events_dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct EventStream {
    events: Option<broadcast::Receiver<Event>>,
    shared: Arc<Shared>,
}

impl EventStream {
    /// The next event, or how many were lost to this slow reader (256 are kept for it); `None` when the loop has
    /// ended. Safe to cancel: no event is lost by it.
    pub async fn next(&mut self) -> Option<Result<Event, u64>> {
        match self.events.as_mut()?.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
                Some(Err(lost))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
