//! The state of rosters on its way to the disk: one thread writes, so that the loop waits for no disk.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::handle::Command;
use crate::proto::RosterState;

/// Writes a state. It returns `Ok` once the state would survive a loss of power.
type Save = Box<dyn FnMut(&RosterState) -> io::Result<()> + Send>;

/// The state that the quorum guard needs across restarts, and how it is kept. See
/// [`Node::keep_rosters`](crate::proto::Node::keep_rosters).
pub struct Rosters {
    /// What the run before this one kept; `RosterState::default()` at a first start.
    pub state: RosterState,
    /// Keeps a state. It runs on a thread of its own and may block; while it does, newer states wait and replace each other.
    pub save: Save,
}

impl fmt::Debug for Rosters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rosters").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Waiting {
    newest: Option<(u64, RosterState)>,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a state; `None` when the loop has ended.
    fn next(&self) -> Option<(u64, RosterState)> {
        let mut waiting = self.lock();
        loop {
            if let Some(state) = waiting.newest.take() {
                return Some(state);
            }
            if waiting.has_ended {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The loop's handle of the writing thread. Dropping it ends the thread without waiting for it.
#[derive(Debug)]
pub(super) struct Keeper(Arc<Shared>);

impl Keeper {
    /// Starts the thread. The result of each write is sent to the loop as a command.
    ///
    /// # Errors
    /// The system refuses a further thread.
    pub(super) fn start(mut save: Save, commands: mpsc::Sender<Command>) -> io::Result<Keeper> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let write = move || {
            while let Some((number, state)) = theirs.next() {
                let saved = save(&state).is_ok();
                if commands.blocking_send(Command::Saved(number, saved)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("rosters".to_owned()).spawn(write)?;
        Ok(Keeper(shared))
    }

    /// Hands over a state; an older one that waits is dropped.
    pub(super) fn offer(&self, state: (u64, RosterState)) {
        self.0.lock().newest = Some(state);
        self.0.changed.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.changed.notify_one();
    }
}
