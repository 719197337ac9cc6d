//! The simulator: real cores on a virtual network, in virtual time, from one seed.
//!
//! The same code that runs in production runs here, with its encoder, its decoder and its seal; only the clock, the
//! network and the randomness are the simulator's. [`world`] holds the nodes and what happens next, [`link`] what
//! becomes of a datagram.

pub mod host;
pub mod link;
pub mod net;
pub mod rng;
pub mod world;

pub use link::{Rule, Scope};
pub use world::{Setup, World};

#[cfg(test)]
mod tests;
