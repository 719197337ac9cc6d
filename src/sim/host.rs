//! One host of the world: a core, its clock, its socket, and what ails them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::net::Net;
use crate::proto::{ErrorSource, Node, RosterState, SendErrorKind, Time};

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

/// The clock of a host: it can run at another rate, and it can stand still.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock {
    /// Parts in a million by which it is fast; negative: slow.
    pub ppm: i64,
    /// Microseconds by which it is behind, beyond what its present rate explains.
    pub behind: i64,
    /// Since when it stands still.
    pub stopped: Option<Time>,
}

impl HostClock {
    /// The time that the clock shows at `at`.
    pub fn show(&self, at: Time) -> Time {
        let elapsed = self.stopped.map_or(at, |stopped| at.min(stopped)).as_micros() as i64;
        // Whole seconds and the rest apart: neither product overflows.
        let (seconds, rest) = (elapsed / 1_000_000, elapsed % 1_000_000);
        let gained = seconds * self.ppm + rest * self.ppm / 1_000_000;
        Time::from_micros(elapsed.saturating_add(gained).saturating_sub(self.behind).max(0) as u64)
    }

    /// Runs at another rate from `now` on, without a jump.
    pub(super) fn set_rate(&mut self, now: Time, ppm: i64) {
        let shown = self.show(now).as_micros() as i64;
        self.ppm = ppm;
        self.behind += self.show(now).as_micros() as i64 - shown;
    }

    /// The first moment at which it shows `shown` or more.
    pub fn when(&self, shown: Time) -> Time {
        if self.stopped.is_some() {
            return HostClock { stopped: None, ..*self }.when(shown);
        }
        if self.ppm == 0 {
            return Time::from_micros((shown.as_micros() as i64).saturating_add(self.behind).max(0) as u64);
        }
        let micros = shown.as_micros();
        let guess = ((micros as f64 + self.behind as f64) / (1.0 + self.ppm as f64 / 1e6)).max(0.0) as u64;
        let mut at = guess.saturating_sub(2_000);
        // The guess is off by less than two thousand: halve the distance, then go on by one.
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

/// Probes for takeovers, over all runs of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probes {
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
    pub(super) received: u64,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    pub(super) node: Option<Node>,
    pub(super) clock: HostClock,
    /// Parts in a million by which its clock is fast while nothing ails it.
    pub(super) drift: i64,
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
    /// Where it has moved to, and again; empty: it is where the rosters say.
    pub(super) moves: Vec<SocketAddr>,
    /// A second address: it sends from both in turn, and hears at both.
    pub(super) second: Option<SocketAddr>,
    /// When it last went on.
    went_on: Time,
    /// Its own firewall rejects all that comes and all that it sends.
    pub(super) rejects: bool,
    /// Its process never starts.
    pub(super) absent: bool,
    /// The roster of its next run, if it changed while this one left.
    pub(super) takes: Option<usize>,
    /// Which machine it is: others were there before.
    pub(super) machine: u32,
    /// The rosters that its node remembers: on disk, so a crash keeps them.
    pub(super) rosters: RosterState,
    /// Its process does not start yet.
    pub(super) late: bool,
    /// Its socket: what the loop has not read yet, with the times at which it came.
    socket: VecDeque<(Time, Frame)>,
    socket_size: usize,
    drops: u64,
    /// What could not leave.
    pub(super) held: Vec<(SocketAddr, Vec<u8>)>,
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
    pub(super) received: u64,
    /// Probes for takeovers, which count apart: here only a checker asks.
    pub(super) probes: Probes,
}

impl Host {
    pub(super) fn new(ppm: i64, socket_size: usize) -> Host {
        Host {
            node: None,
            clock: HostClock { ppm, ..HostClock::default() },
            drift: ppm,
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
            moves: Vec::new(),
            second: None,
            went_on: Time::ZERO,
            rejects: false,
            absent: false,
            takes: None,
            machine: 0,
            rosters: RosterState::default(),
            late: false,
            socket: VecDeque::new(),
            socket_size,
            drops: 0,
            held: Vec::new(),
            sent: 0,
            sent_bytes: 0,
            received: 0,
            probes: Probes::default(),
        }
    }

    /// Its clock.
    pub fn clock(&self) -> HostClock {
        self.clock
    }

    /// Datagrams and bytes of UDP payload that its node sent, over all its runs, without probes for takeovers.
    pub fn sent(&self) -> (u64, u64) {
        (self.sent - self.probes.sent, self.sent_bytes - self.probes.sent_bytes)
    }

    /// Datagrams that its node read, over all its runs.
    pub fn received(&self) -> u64 {
        self.received - self.probes.received
    }

    /// How much time passes after each turn of its loop, if that is all that ails its node.
    pub fn slowness(&self) -> Option<Duration> {
        let else_well = self.is_present() && self.is_awake() && self.pause.is_none() && self.apart == 0;
        let passes = !(self.is_shut() || self.mute);
        let is_slow = self.slow > Duration::ZERO && else_well && passes;
        is_slow.then_some(self.slow)
    }

    /// Whether its node runs, and nothing ails it at this time.
    pub fn is_well(&self, now: Time) -> bool {
        let awake = self.is_awake() && self.slow == Duration::ZERO && self.pause.is_none();
        let passes = !(self.is_shut() || self.mute);
        self.is_present()
            && passes
            && awake
            && self.apart == 0
            && self.rests_until <= now + Duration::from_millis(50)
    }

    /// Where it is now, if not where the rosters say.
    pub(super) fn moved_to(&self) -> Option<SocketAddr> {
        self.moves.last().copied()
    }

    /// Whether its node runs, and means to, where it is expected.
    pub fn is_present(&self) -> bool {
        self.node.as_ref().is_some_and(|core| !core.is_leaving()) && self.moves.is_empty()
    }

    /// Whether its process is not stopped.
    pub fn is_awake(&self) -> bool {
        !self.frozen && !self.is_stopped()
    }

    /// Whether its virtual machine stands still, and its clock with it.
    pub fn is_stopped(&self) -> bool {
        self.clock.stopped.is_some()
    }

    /// When its virtual machine last went on after it stood still.
    pub fn went_on(&self) -> Time {
        self.went_on
    }

    /// The virtual machine stops, or goes on: its clock shows nothing of the time between. What came meanwhile is
    /// read as if it came just now; with `loses` it is lost.
    pub(super) fn stop_machine(&mut self, now: Time, stops: bool, loses: bool, net: &mut Net) {
        match (self.clock.stopped, stops) {
            (None, true) => self.clock.stopped = Some(now),
            (Some(since), false) => {
                let shown = self.clock.show(now);
                (self.clock.stopped, self.went_on) = (None, now);
                self.clock.behind += self.clock.show(now).since(shown).as_micros() as i64;
                let before = self.socket.partition_point(|(at, _)| *at <= since);
                if loses {
                    self.socket.drain(before..).for_each(|(_, frame)| net.recycle(frame.bytes));
                }
                self.socket.iter_mut().skip(before).for_each(|(at, _)| *at = now);
            }
            _ => {}
        }
    }

    /// Whether nothing that its node says is heard.
    pub fn is_mute(&self) -> bool {
        self.mute
    }

    /// Whether its node hears nothing.
    pub fn is_shut(&self) -> bool {
        self.blocked || self.deaf || self.rejects
    }

    /// Since when its node has lost nothing that its socket held, and was not isolated; `None`: it does not run.
    pub fn unblocked_since(&self) -> Option<Time> {
        self.node.as_ref().map(|core| self.clock.when(core.unblocked_since()))
    }

    /// Since when nothing of its own disturbed its node; `None`: it does not run.
    pub fn undisturbed_since(&self) -> Option<Time> {
        self.node.as_ref().map(|core| self.clock.when(core.undisturbed_since()))
    }

    /// Counts the probes of its node since the last call.
    pub(super) fn count_probes(&mut self) {
        let Some(core) = &mut self.node else { return };
        let new = core.take_probes();
        self.probes.sent += new.sent;
        self.probes.sent_bytes += new.sent_bytes;
        self.probes.received += new.received;
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
        self.node.is_some() && self.is_awake() && self.rests_until <= now
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
        if !self.is_awake() {
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
        for ppm in [-200_000, -200, -1, 0, 3, 200, 50_000] {
            let clock = HostClock { ppm, ..HostClock::default() };
            for n in 0..2_000u64 {
                let shown = Time::from_micros(1_000_000_000 + n * 7_919_113);
                let at = clock.when(shown);
                assert!(clock.show(at) >= shown, "{ppm} {shown}");
                assert!(clock.show(at - Duration::from_micros(1)) < shown, "{ppm} {shown}: the first moment");
            }
        }
    }

    #[test]
    fn a_clock_changes_its_rate_without_a_jump_and_stands_still() {
        let (mut clock, second) = (HostClock::default(), 1_000_000);
        clock.set_rate(Time::from_micros(10 * second), -200_000);
        assert_eq!(clock.show(Time::from_micros(10 * second)), Time::from_micros(10 * second));
        assert_eq!(clock.show(Time::from_micros(20 * second)), Time::from_micros(18 * second));
        clock.set_rate(Time::from_micros(20 * second), 0);
        assert_eq!(clock.show(Time::from_micros(30 * second)), Time::from_micros(28 * second));
        assert_eq!(clock.when(Time::from_micros(28 * second)), Time::from_micros(30 * second));
        let (mut host, mut net) =
            (Host::new(0, 8), Net::new(Time::ZERO, &[], false, crate::sim::rng::Rng::new(1)));
        host.stop_machine(Time::from_micros(5 * second), true, false, &mut net);
        assert!(host.is_stopped() && !host.is_awake());
        host.stop_machine(Time::from_micros(35 * second), false, false, &mut net);
        assert!(!host.is_stopped() && host.is_awake());
        assert_eq!(host.clock().show(Time::from_micros(36 * second)), Time::from_micros(6 * second));
    }
}
