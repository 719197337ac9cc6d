//! One node of a rival: the least program around its library that can be measured, with its LAN defaults and an interval
//! of a second. It says `up N` and `down N` of the others, each on a line of standard output.

mod bare;
mod chitchat;
mod foca;
mod memberlist;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::Failure;

/// Where the first node listens; the others follow. Below the ports that the kernel draws.
const FIRST_PORT: u16 = 20_001;
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Agent {
    kind: Kind,
    /// The number of this node.
    own: u16,
    /// How many there are.
    nodes: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Foca,
    Memberlist,
    Chitchat,
    /// Pings everybody, spread over the second.
    BareSpread,
    /// Pings everybody at one moment.
    BareBurst,
}

/// Where a node listens.
pub fn address(node: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, FIRST_PORT + node).into()
}

impl Agent {
    pub fn run(&self) -> Result<(), Failure> {
        match self.kind {
            Kind::Foca => foca::run(self),
            Kind::Memberlist => alone(memberlist::run(self)),
            Kind::Chitchat => alone(chitchat::run(self)),
            Kind::BareSpread => bare::run(self, true),
            Kind::BareBurst => bare::run(self, false),
        }
    }

    fn address(&self) -> SocketAddr {
        address(self.own)
    }

    fn others(&self) -> impl Iterator<Item = u16> {
        (0..self.nodes).filter(|node| *node != self.own)
    }

    /// By whom this node joins the others: two, so that one of them can be the node that starts again.
    fn seeds(&self) -> impl Iterator<Item = SocketAddr> {
        self.others().take(2).map(address)
    }
}

/// Tells of a change, at once.
fn tell(who: SocketAddr, is_up: bool) {
    let node = who.port().wrapping_sub(FIRST_PORT);
    // Who measures has gone, and this process goes with it.
    let _ = writeln!(std::io::stdout(), "{} {node}", if is_up { "up" } else { "down" });
}

/// On one thread, as cheaply as tokio does.
fn alone(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
