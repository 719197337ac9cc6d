//! What can befall a node or a link.

use std::net::SocketAddr;
use std::time::Duration;

use super::{World, address, name};
use crate::proto::{LeaveReason, Node, Reject, RosterState, Time};
use crate::sim::link::{Rule, Scope};
use crate::sim::net::second_address;

impl World {
    /// The process ends without a word. With `refuses` its host answers that the port is closed, otherwise the host
    /// is gone too.
    pub fn crash(&mut self, node: u32, refuses: bool) {
        self.hosts[node as usize].crash(refuses, &mut self.net);
    }

    /// The node leaves in order, unless its machine stands still; it ends when its last word is out.
    pub fn leave(&mut self, node: u32, reason: LeaveReason) {
        let host = &mut self.hosts[node as usize];
        let (now, stopped) = (host.clock.show(self.net.now), host.is_stopped());
        if let Some(core) = host.node.as_mut().filter(|_| !stopped) {
            core.leave(reason, now);
            self.flush(node);
            self.arm(node);
        }
    }

    /// A node's shell tells its core something, unless it is stopped.
    pub fn tell<T>(&mut self, node: u32, what: impl FnOnce(&mut Node, Time) -> T) -> Option<T> {
        let host = &mut self.hosts[node as usize];
        let now = host.clock.show(self.net.now);
        let awake = host.is_awake();
        let core = host.node.as_mut().filter(|_| awake)?;
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
        let from = host.moved_to().unwrap_or_else(|| address(node));
        for (to, bytes) in std::mem::take(&mut host.held) {
            self.net.send(node, from, to, &bytes, Duration::ZERO);
        }
        self.turn(node);
    }

    /// The virtual machine stops and its clock stands still, or it goes on. With `loses`, what came meanwhile is lost.
    pub fn stop_machine(&mut self, node: u32, stops: bool, loses: bool) {
        let now = self.net.now;
        self.hosts[node as usize].stop_machine(now, stops, loses, &mut self.net);
        self.turn(node);
    }

    /// The host's clock is fast by `ppm` parts in a million from now on, beyond its own drift; negative: slow.
    pub fn set_clock_rate(&mut self, node: u32, ppm: i64) {
        let now = self.net.now;
        let host = &mut self.hosts[node as usize];
        host.clock.set_rate(now, host.drift + ppm);
        self.arm(node);
    }

    /// The host has a second address that no roster names: it sends from both in turn, and hears at both.
    pub fn add_address(&mut self, node: u32, has: bool) {
        let second = second_address(node);
        self.net.alias(node, second, has);
        self.hosts[node as usize].second = has.then_some(second);
    }

    /// The host's own firewall rejects, with an ICMP error, all that comes in and all that the node sends.
    pub fn reject_at_host(&mut self, node: u32, rejects: bool) {
        self.hosts[node as usize].rejects = rejects;
    }

    /// Another machine, which has never run, takes the place of one that has ended: where entries have no ids, with another id.
    pub fn replace(&mut self, node: u32) {
        let host = &mut self.hosts[node as usize];
        assert!(host.node.is_none(), "its machine is gone");
        host.machine += 1;
        host.rosters = RosterState::default();
    }

    /// The node never starts: its machine does not exist.
    pub fn never_start(&mut self, node: u32) {
        self.hosts[node as usize].absent = true;
    }

    /// The node does not start before this is over.
    pub fn put_off_start(&mut self, node: u32, late: bool) {
        self.hosts[node as usize].late = late;
    }

    /// In its next turn the node stands still for so long between sealing and sending; `None`: it does not after all.
    pub fn pause_in_turn(&mut self, node: u32, length: Option<Duration>) {
        self.hosts[node as usize].pause = length;
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
    pub fn relocate(&mut self, node: u32, to: SocketAddr) {
        let host = &mut self.hosts[node as usize];
        self.net.relocate(node, host.moved_to(), Some(to));
        host.moves.push(to);
    }

    /// The newest of these moves is over: the node is where it was before, or where it has moved since.
    pub fn move_back(&mut self, node: u32, is_over: impl Fn(&SocketAddr) -> bool) {
        let host = &mut self.hosts[node as usize];
        let before = host.moved_to();
        if let Some(over) = host.moves.iter().rposition(is_over) {
            host.moves.remove(over);
        }
        self.net.relocate(node, before, host.moved_to());
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
        host.received += 1;
        let answer = core.handle_datagram(from, None, &mut bytes.to_vec(), now, now);
        self.flush(to);
        self.arm(to);
        answer
    }
}
