//! The shell: one tokio task that owns the core, its socket and its clock.
//!
//! What a shell owes the core, for who writes another one:
//! 1. One clock, that counts the time that the machine was suspended, read once for each decision.
//! 2. The socket is emptied before the timeout is judged, and the timeout is judged by a reading that is no later
//!    than the look that found the socket empty. Otherwise a peer is blamed for what lies unread.
//! 3. A datagram comes with the time at which the kernel received it, on that clock, and the address that it asked.
//! 4. Errors that the network sends back are read as they come: one left unread fails the next send, to any peer.
//! 5. What the kernel dropped from the socket is told before the timeout is judged, and apart from what it was asked to
//!    keep out.
//! 6. No error of the socket ends the loop.
//! 7. The clock is read right before datagrams are taken from the core, and again when they have been sent: the second
//!    reading goes to `handle_sent`. A process that stood still in between sent them later than they are dated.
//! 8. Where the quorum guard is used: the state of rosters is on disk before it is reported as saved, and a write that hangs
//!    holds up nothing else.

mod clock;
mod driver;
mod error;
mod gate;
mod guard;
mod handle;
mod keeper;
mod migrations;
mod socket;
#[cfg(test)]
mod tests;
mod wait;

pub use clock::Clock;
pub use driver::{Options, spawn};
pub use error::NetError;
pub use guard::QuorumGuard;
pub use handle::{EventStream, Handle, OwnedRoute};
pub use keeper::Rosters;
pub use migrations::MigrationStream;
