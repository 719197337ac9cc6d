//! One host of the world: a core, its clock, its socket, and what ails them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::net::Net;
use crate::proto::{ErrorSource, Node, SendErrorKind, Time};

/// Datagrams read before what is to be sent is sent.
const BATCH: usize = 64;

/// A datagram on its way, or an error that comes back for one.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
    /// The port of `from` is closed: `bytes` is what was sent there.
    pub(super) refused: bool,
}

/// A clock that is fast or slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock {
    /// Parts in a million that it is fast.
    pub ppm: i64,
}

impl HostClock {
    /// What it shows at `at`.
    pub fn show(&self, at: Time) -> Time {
        let elapsed = at.as_micros() as i64;
        Time::from_micros(elapsed.saturating_add(elapsed / 1_000 * self.ppm / 1_000) as u64)
    }

    /// The first moment at which it shows `shown` or more.
    pub fn when(&self, shown: Time) -> Time {
        if self.ppm == 0 {
            return shown;
        }
        let micros = shown.as_micros();
        let guess = (micros as f64 / (1.0 + self.ppm as f64 / 1e6)) as u64;
        let mut at = guess.saturating_sub(2_000);
        // The clock shows whole steps of a thousandth: halve the distance, then go on by one.
        let mut step = 2_048;
        while step > 0 {
            while self.show(Time::from_micros(at)).as_micros() < micros {
                at += step;
            }
            if step > 1 {
                at -= step;
            }
            step /= 2;
        }
        Time::from_micros(at)
    }
}

/// One host.
#[derive(Debug)]
pub struct Host {
    pub(super) node: Option<Node>,
    pub(super) clock: HostClock,
    /// When its next turn is planned.
    pub(super) wake_at: Time,
    /// Its loop rests until then.
    pub(super) rests_until: Time,
    pub(super) frozen: bool,
    pub(super) blocked: bool,
    pub(super) deaf: bool,
    pub(super) mute: bool,
    /// For so many reasons its roster is not that of all, or it is not in that of all.
    pub(super) apart: u32,
    pub(super) slow: Duration,
    /// How long its next turn stands still before it sends.
    pub(super) pause: Option<Duration>,
    /// Without its process it answers that the port is closed.
    pub(super) refuses: bool,
    pub(super) moved_to: Option<SocketAddr>,
    /// Its socket: what the loop has not read yet, with the times at which it came.
    socket: VecDeque<(Time, Frame)>,
    socket_size: usize,
    drops: u64,
    /// What could not leave.
    pub(super) held: Vec<(SocketAddr, Vec<u8>)>,
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
    received: u64,
}

impl Host {
    pub(super) fn new(ppm: i64, socket_size: usize) -> Host {
        Host {
            node: None,
            clock: HostClock { ppm },
            wake_at: Time::from_micros(u64::MAX),
            rests_until: Time::ZERO,
            frozen: false,
            blocked: false,
            deaf: false,
            mute: false,
            apart: 0,
            slow: Duration::ZERO,
            pause: None,
            refuses: false,
            moved_to: None,
            socket: VecDeque::new(),
            socket_size,
            drops: 0,
            held: Vec::new(),
            sent: 0,
            sent_bytes: 0,
            received: 0,
        }
    }

    /// Its clock.
    pub fn clock(&self) -> HostClock {
        self.clock
    }

    /// Datagrams and bytes of UDP payload that its node sent, over all its runs.
    pub fn sent(&self) -> (u64, u64) {
        (self.sent, self.sent_bytes)
    }

    /// Datagrams that its node read, over all its runs.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether its node runs, and nothing ails it at this time.
    pub fn is_well(&self, now: Time) -> bool {
        let awake = !self.frozen && self.slow == Duration::ZERO && self.pause.is_none();
        let passes = !(self.is_shut() || self.mute);
        self.is_present()
            && passes
            && awake
            && self.apart == 0
            && self.rests_until <= now + Duration::from_millis(50)
    }

    /// Whether its node runs, and means to, where it is expected.
    pub fn is_present(&self) -> bool {
        self.node.as_ref().is_some_and(|core| !core.is_leaving()) && self.moved_to.is_none()
    }

    /// Whether its process is not stopped.
    pub fn is_awake(&self) -> bool {
        !self.frozen
    }

    /// Whether nothing that its node says is heard.
    pub fn is_mute(&self) -> bool {
        self.mute
    }

    /// Whether its node hears nothing.
    pub fn is_shut(&self) -> bool {
        self.blocked || self.deaf
    }

    /// Since when nothing of its own disturbed its node; `None`: it does not run.
    pub fn undisturbed_since(&self) -> Option<Time> {
        self.node.as_ref().map(|core| self.clock.when(core.undisturbed_since()))
    }

    pub(super) fn start(&mut self, core: Node) {
        self.node = Some(core);
        self.rests_until = Time::ZERO;
        self.socket.clear();
        self.held.clear();
        self.drops = 0;
    }

    pub(super) fn crash(&mut self, refuses: bool, net: &mut Net) {
        self.node = None;
        self.refuses = refuses;
        self.held.clear();
        for (_, frame) in self.socket.drain(..) {
            net.recycle(frame.bytes);
        }
    }

    /// What comes waits in the socket; what finds no room there is lost, and counted. False: nothing came of it.
    pub(super) fn queue(&mut self, now: Time, frame: Frame, net: &mut Net) -> bool {
        if self.node.is_none() {
            net.recycle(frame.bytes);
            return false;
        }
        if self.socket.len() >= self.socket_size && !frame.refused {
            self.drops += 1;
            net.recycle(frame.bytes);
            return false;
        }
        self.socket.push_back((now, frame));
        true
    }

    /// Whether its loop can have a turn now.
    pub(super) fn can_turn(&self, now: Time) -> bool {
        self.node.is_some() && !self.frozen && self.rests_until <= now
    }

    /// Reads what the socket holds, as the shell does, a batch at a time; true: there is more.
    pub(super) fn read(&mut self, now: Time, net: &mut Net) -> bool {
        let Some(core) = self.node.as_mut().filter(|_| !self.blocked) else { return false };
        let shown = self.clock.show(now);
        for _ in 0..BATCH {
            let Some((at, mut frame)) = self.socket.pop_front() else { break };
            if frame.refused {
                let source = ErrorSource::Peer;
                core.handle_send_error(frame.from, SendErrorKind::Refused, source, &frame.bytes, shown);
            } else {
                self.received += 1;
                let received = self.clock.show(at);
                // The core counts what it rejects.
                let _ = core.handle_datagram(frame.from, None, &mut frame.bytes, received, shown);
            }
            net.recycle(frame.bytes);
        }
        if self.socket.is_empty() && self.drops > 0 {
            core.handle_drops(std::mem::take(&mut self.drops), shown);
        }
        !self.socket.is_empty()
    }

    /// Judges the timeout, once the socket is empty.
    pub(super) fn judge(&mut self, now: Time) {
        let shown = self.clock.show(now);
        if let Some(core) = self.node.as_mut()
            && core.poll_timeout().is_some_and(|deadline| deadline <= shown)
        {
            core.handle_timeout(shown);
        }
    }

    /// When the loop next has something to do.
    pub(super) fn next_turn(&self) -> Option<Time> {
        if self.frozen {
            return None;
        }
        let core = self.node.as_ref()?;
        let deadline = core.poll_timeout().map(|shown| self.clock.when(shown));
        let waits = (!self.blocked && !self.socket.is_empty()).then_some(self.rests_until);
        deadline.map(|at| at.max(self.rests_until)).into_iter().chain(waits).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_can_be_asked_both_ways() {
        for ppm in [-200, -1, 0, 3, 200] {
            let clock = HostClock { ppm };
            for n in 0..2_000u64 {
                let shown = Time::from_micros(1_000_000_000 + n * 7_919_113);
                let at = clock.when(shown);
                assert!(clock.show(at) >= shown, "{ppm} {shown}");
                assert!(clock.show(at - Duration::from_micros(1)) < shown, "{ppm} {shown}: the first moment");
            }
        }
    }
}
