//! A cheap clonable handle on the running detector.

use std::net::SocketAddr;

use crate::proto::{Event, LeaveReason, Snapshot};

/// A handle on the running detector; all of its clones speak to one loop.
#[derive(Clone, Debug)]
pub struct Handle {}

impl Handle {
    /// The whole picture, made by the loop; `None` when the loop has ended.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        todo!()
    }
    /// Every event from now on.
    pub fn subscribe(&self) -> EventStream {
        todo!()
    }
    /// Tells all peers that this node leaves, and ends the loop. Returns when the last Leave was sent.
    pub async fn leave(&self, _reason: LeaveReason) {
        todo!()
    }
    /// A roster entry (by its index in `static_peers`) was resolved, at first or again.
    pub fn set_address(&self, _entry: usize, _address: SocketAddr) {
        todo!()
    }
    /// The address the socket is bound to (with the real port if port 0 was asked for).
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }
    /// Events that were lost because a reader was too slow, over all streams.
    pub fn events_dropped(&self) -> u64 {
        todo!()
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct EventStream {}

impl EventStream {
    /// The next event, or how many were lost to this slow reader; `None` when the loop has ended.
    pub async fn next(&mut self) -> Option<Result<Event, u64>> {
        todo!()
    }
}
