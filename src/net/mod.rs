//! The shell: one tokio task that owns the core, its socket and its clock.

mod clock;
mod driver;
mod error;
mod handle;
mod socket;

pub use clock::Clock;
pub use driver::{Options, spawn};
pub use error::NetError;
pub use handle::{EventStream, Handle};
