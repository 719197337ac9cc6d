//! What can befall a node or a link.

use std::net::SocketAddr;
use std::time::Duration;

use super::{World, address, name};
use crate::proto::{LeaveReason, Node, Reject, Time};
use crate::sim::link::{Rule, Scope};

impl World {
    /// The process ends without a word. With `refuses` its host answers that the port is closed, otherwise the host
    /// is gone too.
    pub fn crash(&mut self, node: u32, refuses: bool) {
        self.hosts[node as usize].crash(refuses, &mut self.net);
    }

    /// The node leaves in order; it ends when its last word is out.
    pub fn leave(&mut self, node: u32, reason: LeaveReason) {
        let host = &mut self.hosts[node as usize];
        let now = host.clock.show(self.net.now);
        if let Some(core) = host.node.as_mut() {
            core.leave(reason, now);
            self.flush(node);
            self.arm(node);
        }
    }

    /// A node's shell tells its core something, unless it is stopped.
    pub fn tell<T>(&mut self, node: u32, what: impl FnOnce(&mut Node, Time) -> T) -> Option<T> {
        let host = &mut self.hosts[node as usize];
        let now = host.clock.show(self.net.now);
        let core = host.node.as_mut().filter(|_| !host.frozen)?;
        let answer = what(core, now);
        self.flush(node);
        self.arm(node);
        Some(answer)
    }

    /// A node wants to know whether it may take over what another one did.
    pub fn watch_takeover(&mut self, node: u32, from: u32) {
        self.tell(node, |core, now| core.watch_takeover(&name(from), now));
    }

    /// The process is stopped (SIGSTOP), or goes on.
    pub fn freeze(&mut self, node: u32, frozen: bool) {
        self.hosts[node as usize].frozen = frozen;
        self.turn(node);
    }

    /// Nothing that the node sends leaves, nothing that comes is read, but its timers run; or that is over, and all
    /// that was held goes out.
    pub fn block(&mut self, node: u32, blocked: bool) {
        let host = &mut self.hosts[node as usize];
        host.blocked = blocked;
        let from = host.moved_to.unwrap_or_else(|| address(node));
        for (to, bytes) in std::mem::take(&mut host.held) {
            self.net.send(node, from, to, &bytes, Duration::ZERO);
        }
        self.turn(node);
    }

    /// In its next turn the node stands still for so long between sealing and sending.
    pub fn pause_in_turn(&mut self, node: u32, length: Duration) {
        self.hosts[node as usize].pause = Some(length);
    }

    /// The node receives nothing, or again.
    pub fn deafen(&mut self, node: u32, deaf: bool) {
        self.hosts[node as usize].deaf = deaf;
    }

    /// Whether all nodes, those too that start later, tell each other what they say of themselves.
    pub fn exchange_records(&mut self, exchange: bool) {
        self.setup.config.mechanisms.records = exchange;
        self.hosts
            .iter_mut()
            .filter_map(|host| host.node.as_mut())
            .for_each(|n| n.exchange_records(exchange));
    }

    /// All nodes know at once what all say of themselves, as after a long time: for worlds so large that telling it takes
    /// hours.
    pub fn acquaint(&mut self) {
        let nodes = || self.hosts.iter().filter_map(|host| host.node.as_ref());
        let Some(mut all) = nodes().next().map(|node| node.records().clone()) else { return };
        nodes().for_each(|node| node.add_to(&mut all));
        self.hosts.iter_mut().filter_map(|host| host.node.as_mut()).for_each(|node| node.absorb(&all));
    }

    /// What the node sends is lost, or no longer.
    pub fn mute(&mut self, node: u32, mute: bool) {
        self.hosts[node as usize].mute = mute;
    }

    /// The node has another roster than most, or is not in that of some.
    pub fn part(&mut self, node: u32, begins: bool) {
        let apart = &mut self.hosts[node as usize].apart;
        *apart = if begins { *apart + 1 } else { apart.saturating_sub(1) };
    }

    /// After every turn the node does nothing for so long.
    pub fn slow(&mut self, node: u32, by: Duration) {
        self.hosts[node as usize].slow = by;
        self.arm(node);
    }

    /// The node speaks from another address from now on, and hears nothing that is sent to the old one.
    pub fn relocate(&mut self, node: u32, to: Option<SocketAddr>) {
        self.net.relocate(node, self.hosts[node as usize].moved_to, to);
        self.hosts[node as usize].moved_to = to;
    }

    /// Adds a rule, after the others.
    pub fn add_rule(&mut self, scope: Scope, rule: Rule) {
        self.net.add_rule(scope, rule);
    }

    /// Takes such a rule away.
    pub fn remove_rule(&mut self, scope: &Scope, rule: &Rule) {
        self.net.remove_rule(scope, rule);
    }

    /// Hands a datagram to a node that runs, from anywhere.
    ///
    /// # Errors
    /// Why the node rejected it.
    pub fn inject(&mut self, to: u32, from: SocketAddr, bytes: &[u8]) -> Result<(), Reject> {
        let host = &mut self.hosts[to as usize];
        let now = host.clock.show(self.net.now);
        let Some(core) = host.node.as_mut() else { return Ok(()) };
        let answer = core.handle_datagram(from, None, &mut bytes.to_vec(), now, now);
        self.net.numbers = None;
        self.flush(to);
        self.arm(to);
        answer
    }
}
