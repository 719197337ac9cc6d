//! The times from which an isolation is judged.

use std::time::Duration;

use crate::proto::timer::Time;

/// When this node last heard anybody, since when others contradict it, and since when it is isolated.
#[derive(Debug)]
pub(super) struct IsolationTimes {
    /// When anything authentic came from anybody.
    heard: Time,
    /// Since when this node misses most peers while most of those that it hears say that they hear them.
    contradicted: Option<Time>,
    /// Since when this node is isolated, and when it last ceased to be.
    began: Option<Time>,
    ended: Option<Time>,
    /// When refusals were last doubted, since nobody was heard.
    #[cfg(feature = "sim")]
    pub(super) doubted: Option<Time>,
}

impl IsolationTimes {
    pub(super) fn new(now: Time) -> IsolationTimes {
        IsolationTimes {
            heard: now,
            contradicted: None,
            began: None,
            ended: None,
            #[cfg(feature = "sim")]
            doubted: None,
        }
    }

    /// The loop did not listen for `length` until `now`. That time counts in none of the waits. But a silence of at
    /// least `silence`, and a contradiction of at least `contradiction`, stay: misses are not delayed any longer
    /// either.
    pub(super) fn slept(&mut self, length: Duration, now: Time, silence: Duration, contradiction: Duration) {
        let moved = |at: Time, wait: Duration| at.max((at + length).min(now - wait));
        self.heard = moved(self.heard, silence);
        self.contradicted = self.contradicted.map(|at| moved(at, contradiction));
        self.began = self.began.map(|at| moved(at, Duration::ZERO));
    }

    /// Something authentic came at `received`, and may have waited in the socket since.
    pub(super) fn note_heard(&mut self, received: Time) {
        self.heard = self.heard.max(received);
    }

    /// Whether others contradict this node at `now`.
    pub(super) fn note_contradicted(&mut self, is_contradicted: bool, now: Time) {
        self.contradicted = is_contradicted.then(|| self.contradicted.unwrap_or(now));
    }

    pub(super) fn begin(&mut self, now: Time) {
        self.began = self.began.or(Some(now));
    }

    pub(super) fn end(&mut self, now: Time) {
        (self.began, self.ended) = (None, Some(now));
    }

    /// Whether this node has noticed that it is isolated.
    pub(super) fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// How long the isolation lasts.
    pub(super) fn lasts(&self, now: Time) -> Option<Duration> {
        self.began.map(|at| now.since(at))
    }

    /// How long others have contradicted this node.
    pub(super) fn contradicted_for(&self, now: Time) -> Option<Duration> {
        self.contradicted.map(|at| now.since(at))
    }

    /// How long nothing authentic has come from anybody.
    pub(super) fn quiet(&self, now: Time) -> Duration {
        now.since(self.heard)
    }

    /// When the last isolation ended.
    pub(super) fn ended(&self) -> Option<Time> {
        self.ended
    }
}
