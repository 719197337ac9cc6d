//! The quorum guard, for whoever acts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::clock::Clock;
use crate::proto::Time;

/// Whoever waits looks at the clock so often.
const LOOK: Duration = Duration::from_millis(100);

/// From when until when the guard is held, as the loop counted last.
#[derive(Debug)]
pub(super) struct Window(Mutex<(Time, Time)>);

impl Window {
    /// It is not held.
    pub(super) fn new() -> Window {
        Window(Mutex::new((Time::from_micros(u64::MAX), Time::ZERO)))
    }

    pub(super) fn set(&self, window: (Time, Time)) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = window;
    }

    fn at(&self, now: Time) -> Option<Time> {
        let (from, until) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (from <= now && now < until).then_some(until)
    }
}

/// Whether this node is on the one side that may act: see [`Node::quorum_guard`](crate::proto::Node::quorum_guard). It reads the
/// clock by itself at every call, so a loop that stands still, or a process that was stopped, extends nothing.
#[derive(Clone, Debug)]
pub struct QuorumGuard {
    window: Arc<Window>,
    clock: Clock,
}

impl QuorumGuard {
    pub(super) fn of(window: &Arc<Window>) -> QuorumGuard {
        QuorumGuard { window: Arc::clone(window), clock: Clock }
    }

    /// Whether it is held now. To be asked right before each act, and what takes longer than [`left`](QuorumGuard::left) must ask
    /// again.
    pub fn is_held(&self) -> bool {
        self.left().is_some()
    }

    /// For how long it is held at least, from now on; `None`: it is not.
    pub fn left(&self) -> Option<Duration> {
        let now = self.clock.now();
        self.window.at(now).map(|until| until.since(now))
    }

    /// Returns as soon as it is held. Safe to cancel.
    pub async fn held(&self) {
        while !self.is_held() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns as soon as it is lost: for `select!` with what needs it. Where the machine was suspended that is noticed within
    /// 100 ms of waking. Safe to cancel.
    pub async fn lost(&self) {
        while let Some(left) = self.left() {
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_by_the_clock_alone() {
        let window = Arc::new(Window::new());
        let guard = QuorumGuard::of(&window);
        assert!(!guard.is_held());
        let now = Clock.now();
        window.set((now, now + Duration::from_millis(30)));
        guard.held().await;
        assert!(guard.left().unwrap() <= Duration::from_millis(30));
        guard.lost().await;
        assert!(!guard.is_held() && Clock.now() >= now + Duration::from_millis(30));
        window.set((now + Duration::from_secs(3600), now + Duration::from_secs(7200)));
        assert!(!guard.is_held(), "not yet");
    }
}
