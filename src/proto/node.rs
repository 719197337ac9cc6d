//! The state machine.

use std::net::{IpAddr, SocketAddr};

use super::config::PeerConfig;
use super::event::{Event, LeaveReason};
use super::seal::{Instance, Keyring};
use super::snapshot::Snapshot;
use super::stats::{Reject, Stats};
use super::timer::Time;
use super::ConfigError;

/// One datagram to be sent: its bytes are in the buffer given to [`Node::poll_transmit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// The source address to send from: an answer leaves from the address that was asked. `None`: the system's
    /// choice.
    pub from: Option<IpAddr>,
}

/// What went wrong with a datagram that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// Port unreachable: the host is up and no process listens.
    Refused,
    /// Host unreachable.
    HostUnreachable,
    /// Network unreachable.
    NetUnreachable,
    /// Longer than the path allows.
    TooBig,
    /// No room in a queue.
    NoBuffer,
    /// Not permitted (a local firewall, say).
    Permission,
    /// Anything else.
    Other,
}

impl SendErrorKind {
    /// All kinds, in the order of the contract.
    pub const ALL: [SendErrorKind; 7] = [
        SendErrorKind::Refused,
        SendErrorKind::HostUnreachable,
        SendErrorKind::NetUnreachable,
        SendErrorKind::TooBig,
        SendErrorKind::NoBuffer,
        SendErrorKind::Permission,
        SendErrorKind::Other,
    ];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            SendErrorKind::Refused => "refused",
            SendErrorKind::HostUnreachable => "host_unreachable",
            SendErrorKind::NetUnreachable => "net_unreachable",
            SendErrorKind::TooBig => "too_big",
            SendErrorKind::NoBuffer => "no_buffer",
            SendErrorKind::Permission => "permission",
            SendErrorKind::Other => "other",
        }
    }
}

/// One node.
#[derive(Debug)]
pub struct Node {}

#[allow(unused_variables)]
impl Node {
    /// A node that has just started. `instance`: 64 bits from the operating system; `seed`: for phases and
    /// jitter, from the operating system too in production.
    ///
    /// # Errors
    /// The first thing that is wrong with `config`.
    pub fn new(config: PeerConfig, keys: Keyring, instance: Instance, seed: u64, now: Time) -> Result<Node, ConfigError> {
        todo!()
    }
    /// A datagram came: from where, to which local address, when the kernel received it, and the time now.
    /// The bytes are opened in place.
    ///
    /// # Errors
    /// Why it was rejected; nothing but that reason's counter has changed.
    pub fn handle_datagram(&mut self, from: SocketAddr, local: Option<IpAddr>, bytes: &mut [u8], received: Time, now: Time) -> Result<(), Reject> {
        todo!()
    }
    /// Time has passed. Early, late or twice is safe.
    pub fn handle_timeout(&mut self, now: Time) { todo!() }
    /// A datagram sent to `to` failed; `quoted` are the bytes of it that the error carries (empty: none known).
    pub fn handle_send_error(&mut self, to: SocketAddr, kind: SendErrorKind, quoted: &[u8], now: Time) { todo!() }
    /// The kernel dropped `count` more datagrams from the receive queue.
    pub fn handle_drops(&mut self, count: u64, now: Time) { todo!() }
    /// A roster entry (by index in `static_peers`) has (again) been resolved.
    pub fn set_address(&mut self, entry: usize, address: SocketAddr, now: Time) { todo!() }
    /// Begins to leave: Leave is sent to every peer three times. Done when [`has_left`](Node::has_left).
    pub fn leave(&mut self, reason: LeaveReason, now: Time) { todo!() }
    /// Whether the last Leave was handed out; the shell may stop then.
    pub fn has_left(&self) -> bool { todo!() }
    /// A fresh instance, after [`Change::Rollback`](super::Change::Rollback).
    pub fn renew(&mut self, instance: Instance, now: Time) { todo!() }
    /// The next datagram to send; `buf` is cleared and filled.
    pub fn poll_transmit(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> { todo!() }
    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> { todo!() }
    /// The next round-trip time measured, for a histogram; the newest 64 are kept.
    pub fn poll_rtt(&mut self) -> Option<std::time::Duration> { todo!() }
    /// When to call [`handle_timeout`](Node::handle_timeout) next; `None`: not before another input.
    pub fn poll_timeout(&self) -> Option<Time> { todo!() }
    /// The whole picture.
    pub fn snapshot(&self, now: Time) -> Snapshot { todo!() }
    /// The counters.
    pub fn stats(&self) -> &Stats { todo!() }
    /// The configuration in force.
    pub fn config(&self) -> &PeerConfig { todo!() }
}
