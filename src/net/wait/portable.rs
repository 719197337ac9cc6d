//! Any Unix: the runtime's own timer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::Sleep;

use super::super::clock::Clock;
use super::super::socket::Socket;
use super::{readable, register};
use crate::proto::Time;

/// Two readings of the runtime's clock for one deadline differ by less, unless the machine was suspended.
const SLACK: Duration = Duration::from_micros(500);

/// What the loop waits with.
#[derive(Debug)]
pub(in crate::net) struct Wait {
    /// A second descriptor of the socket.
    socket: AsyncFd<OwnedFd>,
    sleep: Pin<Box<Sleep>>,
}

impl Wait {
    /// Every datagram wakes the loop.
    pub(in crate::net) const CAN_REST: bool = false;

    /// For `socket`, in the current runtime.
    pub(in crate::net) fn new(socket: &Socket) -> io::Result<Wait> {
        let socket = register(socket.as_fd().try_clone_to_owned()?)?;
        Ok(Wait { socket, sleep: Box::pin(tokio::time::sleep(Duration::ZERO)) })
    }

    /// Waits until `until`, or until the socket has something; it may end early. Safe to cancel.
    ///
    /// # Errors
    /// Only of a runtime that shuts down.
    pub(in crate::net) async fn wait(
        &mut self,
        _socket: &Socket,
        until: Option<Time>,
        _look: bool,
    ) -> io::Result<()> {
        if let Some(until) = until {
            let at = Clock.wake_at(until);
            let set_to = self.sleep.deadline();
            let off = at.saturating_duration_since(set_to).max(set_to.saturating_duration_since(at));
            // The runtime rounds up to its next millisecond, so a sleep that ended is always due for a new
            // deadline, and one whose end lies less than a millisecond ahead does not spin.
            if off > SLACK || self.sleep.is_elapsed() {
                self.sleep.as_mut().reset(at);
            }
        }
        tokio::select! {
            biased;
            ready = readable(&self.socket) => ready,
            () = self.sleep.as_mut(), if until.is_some() => Ok(()),
        }
    }
}
