//! What every node says about every other, as the demo last heard it, and when it changed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::{PeerStatus, Time};

use super::ask::{Ask, Said};

/// Changes kept; the demo may run for days.
const LOG: usize = 4096;

/// One change, seen `at` the end of the question that told it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: Time,
    pub(super) observer: usize,
    pub(super) subject: usize,
    pub(super) to: PeerStatus,
}

/// The present picture.
pub(super) struct Picture {
    /// By observer, then by subject; `None`: it has not said anything yet.
    pub(super) said: Vec<Vec<Option<Said>>>,
    /// Whether the newest question to a node was answered.
    pub(super) answers: Vec<bool>,
    /// The changes, oldest first.
    pub(super) log: Vec<Seen>,
}

impl Picture {
    /// Whether all nodes but `subject` say of it that it is `status`.
    pub(super) fn all_say(&self, subject: usize, status: PeerStatus) -> bool {
        self.rows(subject).all(|(_, said)| said.is_some_and(|said| said.status == status))
    }

    /// Whether `a` and `b` hear each other.
    fn hear_each_other(&self, a: usize, b: usize) -> bool {
        let up = |x: usize, y: usize| self.said[x][y].as_ref().is_some_and(|said| said.verdict == "up");
        up(a, b) && up(b, a)
    }

    /// Whether all others hear `node`, and it hears them.
    pub(super) fn is_heard(&self, node: usize) -> bool {
        (0..self.said.len()).all(|other| other == node || self.hear_each_other(node, other))
    }

    /// What the others say about `subject`.
    pub(super) fn rows(&self, subject: usize) -> impl Iterator<Item = (usize, Option<&Said>)> {
        let others = self.said.iter().enumerate().filter(move |(observer, _)| *observer != subject);
        others.map(move |(observer, row)| (observer, row[subject].as_ref()))
    }

    /// When, after `since`, each of the others first said that `subject` is `status`; earliest first.
    pub(super) fn reached(&self, subject: usize, status: PeerStatus, since: Time) -> Vec<(Time, usize)> {
        let mut first: Vec<Option<Time>> = vec![None; self.said.len()];
        for seen in &self.log {
            if (seen.subject, seen.to) == (subject, status) && seen.at >= since {
                first[seen.observer].get_or_insert(seen.at);
            }
        }
        let mut reached: Vec<(Time, usize)> =
            first.into_iter().enumerate().filter_map(|(observer, at)| at.map(|at| (at, observer))).collect();
        reached.sort_unstable();
        reached
    }
}

/// The picture, kept current by one thread a node. Dropping it ends these.
pub(super) struct Board {
    shared: Arc<Shared>,
}

struct Shared {
    picture: Mutex<Picture>,
    changed: Condvar,
    end: AtomicBool,
}

impl Board {
    /// Watches the nodes `ids` at `urls`.
    pub(super) fn watch(ids: Vec<String>, urls: Vec<String>) -> Board {
        let count = ids.len();
        let picture =
            Picture { said: vec![vec![None; count]; count], answers: vec![false; count], log: Vec::new() };
        let end = AtomicBool::new(false);
        let shared = Arc::new(Shared { picture: Mutex::new(picture), changed: Condvar::new(), end });
        // Asking must not become the load that is measured.
        let every = Duration::from_millis(50.max(5 * count as u64));
        let ids = Arc::new(ids);
        for (observer, url) in urls.into_iter().enumerate() {
            let (shared, ids) = (Arc::clone(&shared), Arc::clone(&ids));
            std::thread::spawn(move || {
                let ask = Ask::new(url);
                while !shared.end.load(Ordering::Relaxed) {
                    let answer = ask.peers();
                    shared.take(observer, &ids, answer);
                    std::thread::sleep(every);
                }
            });
        }
        Board { shared }
    }

    pub(super) fn picture(&self) -> MutexGuard<'_, Picture> {
        self.shared.lock()
    }

    /// Waits for a change, but not longer than `at_most`.
    pub(super) fn wait(&self, at_most: Duration) {
        let picture = self.shared.lock();
        // Woken too early is as good as woken: the caller looks for itself.
        let _ = self.shared.changed.wait_timeout(picture, at_most);
    }

    /// A node's process is a new one: what the old one said is void.
    pub(super) fn forget(&self, observer: usize) {
        let mut picture = self.shared.lock();
        picture.said[observer].fill(None);
        picture.answers[observer] = false;
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Picture> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, observer: usize, ids: &[String], answer: Option<Vec<(String, Said)>>) {
        let at = Clock.now();
        let mut picture = self.lock();
        picture.answers[observer] = answer.is_some();
        for (id, said) in answer.into_iter().flatten() {
            let Some(subject) = ids.iter().position(|known| *known == id) else { continue };
            let to = said.status;
            let before = picture.said[observer][subject].replace(said);
            // The first statement of a process is no change, unless it is a bad one.
            if before.map_or(PeerStatus::Healthy, |before| before.status) != to {
                if picture.log.len() == LOG {
                    picture.log.drain(..LOG / 2);
                }
                picture.log.push(Seen { at, observer, subject, to });
            }
        }
        self.changed.notify_all();
    }
}
