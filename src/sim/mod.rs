//! The simulator: real cores on a virtual network, in virtual time, from one seed.
//!
//! The same code that runs in production runs here, with its encoder, its decoder and its seal; only the clock, the
//! network and the randomness are the simulator's. [`world`] holds the nodes and what happens next, [`link`] what
//! becomes of a datagram, [`check`] what must hold in every run; a [`scenario`] is a file, or the [`swarm`]'s for a seed.

pub mod check;
pub mod host;
pub mod link;
pub mod net;
pub mod plan;
pub mod rng;
pub mod scenario;
pub mod splits;
pub mod swarm;
pub mod world;

pub use check::{Broken, Checker};
pub use link::{Rule, Scope};
pub use scenario::{Report, Scenario};
pub use world::{Setup, World};

#[cfg(test)]
mod tests;
