//! The virtual network: what is on its way, and the rules that say what becomes of it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::host::Frame;
use super::link::{Memory, Rule, Scope, Verdict};
use super::rng::Rng;
use crate::proto::seal::Header;
use crate::proto::{Instance, Time};

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    /// A node starts.
    Start(u32),
    /// A node's loop has something to do.
    Wake(u32),
    /// A datagram, or an error about one, comes.
    Arrive(u32),
}

/// ICMP errors that a Linux host sends to one destination at once; then one a second.
const ICMP_BURST: f64 = 6.0;

/// The network.
#[derive(Debug)]
pub struct Net {
    pub(super) now: Time,
    heap: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    scheduled: u64,
    frames: Vec<Option<Frame>>,
    free: Vec<u32>,
    spare: Vec<Vec<u8>>,
    /// What the links do, and since when.
    rules: Vec<(Scope, Rule, Time)>,
    /// Rules that were taken away, and when.
    past: Vec<(Scope, Rule, Time)>,
    memories: HashMap<(usize, u32, u32), Memory>,
    /// ICMP errors that a host may still send to a destination, and as of when.
    errors_left: HashMap<(SocketAddr, SocketAddr), (f64, Time)>,
    rng: Rng,
    /// Addresses beyond those of the rosters.
    elsewhere: HashMap<SocketAddr, u32>,
    /// Nodes that are not at their roster address.
    away: HashMap<u32, SocketAddr>,
    pub(super) digest: u64,
    /// One above the newest number that the first run used for the second, or in its hellos (to no run: 0). These two
    /// runs are what a frame's key follows from, wherever the frame is sent. Unwatched in large worlds.
    numbers: Option<HashMap<(Instance, Instance), u64>>,
    /// A number that was used twice, should that ever happen.
    pub(super) reused: Option<String>,
    /// Datagrams lost so far.
    lost: u64,
    /// Whether there are few nodes.
    small: bool,
    /// Some of the newest datagrams.
    tape: Vec<Vec<u8>>,
}

/// The second address of a node, which no roster names: 11.0.0.0 and upwards.
pub fn second_address(node: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits((11 << 24) + node + 1)), 5278)
}

/// The roster address of a node: 10.0.0.0 and upwards.
pub fn address(node: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits((10 << 24) + node + 1)), 5278)
}

impl Net {
    pub(super) fn new(now: Time, rules: &[Rule], watch_numbers: bool, rng: Rng) -> Net {
        Net {
            now,
            heap: BinaryHeap::new(),
            scheduled: 0,
            frames: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            rules: rules.iter().map(|rule| (Scope::All, *rule, Time::ZERO)).collect(),
            past: Vec::new(),
            memories: HashMap::new(),
            errors_left: HashMap::new(),
            rng,
            elsewhere: HashMap::new(),
            away: HashMap::new(),
            digest: 0,
            numbers: watch_numbers.then(HashMap::new),
            reused: None,
            lost: 0,
            small: watch_numbers,
            tape: Vec::new(),
        }
    }

    pub(super) fn schedule(&mut self, at: Time, what: Happening) {
        self.scheduled += 1;
        self.heap.push(Reverse((at, self.scheduled, what)));
    }

    /// Takes what happens next, if that is not after `end`, and sets the time to it; otherwise to `end`.
    pub(super) fn next(&mut self, end: Time) -> Option<Happening> {
        match self.heap.peek() {
            Some(Reverse((at, _, what))) if *at <= end => {
                let (at, what) = (*at, *what);
                self.heap.pop();
                self.now = self.now.max(at);
                Some(what)
            }
            _ => {
                self.now = self.now.max(end);
                None
            }
        }
    }

    pub(super) fn take(&mut self, frame: u32) -> Frame {
        self.free.push(frame);
        self.frames[frame as usize].take().expect("a frame arrives once")
    }

    /// Gives a datagram's buffer back.
    pub(super) fn recycle(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < 4096 {
            self.spare.push(bytes);
        }
    }

    /// Who is at this address now.
    pub(super) fn at_address(&self, at: SocketAddr) -> Option<u32> {
        if let Some(node) = self.elsewhere.get(&at) {
            return Some(*node);
        }
        let IpAddr::V4(ip) = at.ip() else { return None };
        // Elsewhere is a second address that is no more.
        let node = ip.to_bits().checked_sub((10 << 24) + 1).filter(|_| ip.octets()[0] == 10)?;
        (at.port() == 5278 && !self.away.contains_key(&node)).then_some(node)
    }

    pub(super) fn relocate(&mut self, node: u32, from: Option<SocketAddr>, to: Option<SocketAddr>) {
        if let Some(old) = from {
            if self.elsewhere.get(&old) == Some(&node) {
                self.elsewhere.remove(&old);
            }
            self.away.remove(&node);
        }
        if let Some(new) = to {
            self.elsewhere.insert(new, node);
            self.away.insert(node, new);
        }
    }

    /// What is sent to a second address reaches the node too, or no more.
    pub(super) fn alias(&mut self, node: u32, at: SocketAddr, there: bool) {
        if there {
            self.elsewhere.insert(at, node);
        } else {
            self.elsewhere.remove(&at);
        }
    }

    /// From now on it holds, after the others.
    pub(super) fn add_rule(&mut self, scope: Scope, rule: Rule) {
        self.rules.push((scope, rule, self.now));
    }

    pub(super) fn remove_rule(&mut self, scope: &Scope, rule: &Rule) {
        if let Some(at) = self.rules.iter().rposition(|(s, r, _)| s == scope && r == rule) {
            let (scope, rule, _) = self.rules.remove(at);
            self.past.push((scope, rule, self.now));
            // Their places have moved: whoever remembers begins anew.
            self.memories.clear();
        }
    }

    /// Since when nothing is lost from `from` to `to`; `None`: something may be now.
    pub(super) fn clean_since(&self, from: u32, to: u32) -> Option<Time> {
        self.lossless_since(|scope| scope.covers(from, to))
    }

    /// Since when nothing is lost anywhere; `None`: something may be now.
    pub(super) fn all_clean_since(&self) -> Option<Time> {
        self.lossless_since(|_| true)
    }

    fn lossless_since(&self, is_about: impl Fn(&Scope) -> bool) -> Option<Time> {
        let loses = |(scope, rule, _): &&(Scope, Rule, Time)| rule.loses() && is_about(scope);
        if self.rules.iter().any(|rule| loses(&rule)) {
            return None;
        }
        let past = self.past.iter().filter(loses).map(|(.., at)| *at);
        Some(past.max().unwrap_or(Time::ZERO))
    }

    /// Whether nothing has ever come very late.
    pub(super) fn is_prompt(&self) -> bool {
        let late = |(_, rule, _): &(Scope, Rule, Time)| matches!(rule, Rule::Tail { .. } | Rule::Rate { .. });
        !self.rules.iter().chain(&self.past).any(late)
    }

    /// Since when nothing passes from `from` to `to`; `None`: something may.
    pub(super) fn cut_since(&self, from: u32, to: u32) -> Option<Time> {
        let cuts = |(scope, rule, _): &&(Scope, Rule, Time)| rule.cuts() && scope.covers(from, to);
        self.rules.iter().filter(cuts).map(|(.., since)| *since).min()
    }

    /// Whether since `since` nothing but independent loss took anything away between the two.
    pub(super) fn only_loss(&self, a: u32, b: u32, since: Time) -> bool {
        let worse = |scope: &Scope, rule: &Rule| {
            rule.loses() && !matches!(rule, Rule::Loss(_)) && (scope.covers(a, b) || scope.covers(b, a))
        };
        !self.rules.iter().any(|(scope, rule, _)| worse(scope, rule))
            && !self.past.iter().any(|(scope, rule, at)| *at > since && worse(scope, rule))
    }

    /// A datagram leaves `sender`, so much later than its core wrote it.
    pub(super) fn send(
        &mut self,
        sender: u32,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        late: Duration,
    ) {
        let receiver = self.at_address(to);
        self.note(sender, bytes);
        let (mut after, mut copy) = (late, None);
        for place in 0..self.rules.len() {
            let (scope, rule, _) = &self.rules[place];
            if !receiver.is_some_and(|receiver| scope.covers(sender, receiver)) {
                continue;
            }
            let mut fresh = Memory::default();
            let memory = if rule.remembers() {
                self.memories.entry((place, sender, receiver.unwrap_or(u32::MAX))).or_default()
            } else {
                &mut fresh
            };
            match rule.judge(memory, bytes.len(), self.now, &mut self.rng) {
                Verdict::Pass => {}
                Verdict::After(more) => after += more,
                Verdict::Twice(later) => copy = Some(later),
                Verdict::Drop => {
                    self.lost += 1;
                    return;
                }
                Verdict::Refuse => {
                    self.lost += 1;
                    if self.may_send_error(to, from) {
                        let frame = Frame { from: to, to: from, bytes: self.copy(bytes), refused: true };
                        self.post(after * 2, frame);
                    }
                    return;
                }
            }
        }
        if let Some(later) = copy {
            let frame = Frame { from, to, bytes: self.copy(bytes), refused: false };
            self.post(after + later, frame);
        }
        self.record(bytes);
        let frame = Frame { from, to, bytes: self.copy(bytes), refused: false };
        self.post(after, frame);
    }

    /// Keeps some of the datagrams that pass.
    fn record(&mut self, bytes: &[u8]) {
        if self.small && self.digest.is_multiple_of(16) {
            if self.tape.len() < 64 {
                self.tape.push(bytes.to_vec());
            } else {
                self.tape[(self.digest >> 8) as usize % 64] = bytes.to_vec();
            }
        }
    }

    /// Whether the host at `from` may send an ICMP error to `to` now.
    fn may_send_error(&mut self, from: SocketAddr, to: SocketAddr) -> bool {
        let (left, since) = self.errors_left.entry((from, to)).or_insert((ICMP_BURST, self.now));
        *left = (*left + self.now.since(*since).as_secs_f64()).min(ICMP_BURST);
        *since = self.now;
        let may = *left >= 1.0;
        *left -= f64::from(u8::from(may));
        may
    }

    /// The host of a datagram's addressee answers that the port is closed.
    pub(super) fn send_back(&mut self, frame: Frame) {
        let Frame { from, to, bytes, .. } = frame;
        if !self.may_send_error(to, from) {
            return self.recycle(bytes);
        }
        self.post(Duration::from_micros(200), Frame { from: to, to: from, bytes, refused: true });
    }

    /// A host's own firewall answers what the host itself sent.
    pub(super) fn return_error(&mut self, frame: Frame) {
        self.post(Duration::ZERO, frame);
    }

    fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        copy
    }

    fn post(&mut self, after: Duration, frame: Frame) {
        let place = match self.free.pop() {
            Some(place) => {
                self.frames[place as usize] = Some(frame);
                place
            }
            None => {
                self.frames.push(Some(frame));
                self.frames.len() as u32 - 1
            }
        };
        self.schedule(self.now + after, Happening::Arrive(place));
    }

    /// Adds a datagram to the digest.
    fn note(&mut self, sender: u32, bytes: &[u8]) {
        let mut digest = self.digest ^ self.now.as_micros() ^ u64::from(sender) << 40;
        for eight in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            digest = (digest ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
        self.digest = digest;
    }

    /// Checks that the nonce of a datagram is new, which is sealed to this run: a run numbers its bound frames to one run,
    /// and its hellos, upwards.
    pub(super) fn check_number(&mut self, sender: u32, sealed_to: Instance, bytes: &[u8]) {
        let (Some(numbers), Ok((header, _))) = (&mut self.numbers, Header::parse(bytes)) else { return };
        let next = numbers.entry((header.instance, sealed_to)).or_default();
        if header.number < *next && self.reused.is_none() {
            let number = header.number;
            self.reused =
                Some(format!("node {sender} sent number {number} to run {sealed_to} after {}", *next));
        }
        *next = header.number + 1;
    }

    /// Some of the newest datagrams that passed, for who replays or damages them.
    pub fn tape(&self) -> &[Vec<u8>] {
        &self.tape
    }

    /// Datagrams lost so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Tag;
    use crate::proto::seal::{FrameKind, SEAL_LEN};

    /// Whether a number comes twice, of these: (run, run that it is sealed to, number).
    fn finds(sent: &[(u64, u64, u64)]) -> bool {
        let mut net = Net::new(Time::ZERO, &[], true, Rng::new(1));
        for (run, to, number) in sent {
            let (kind, instance) = (FrameKind::Bound, Instance(*run));
            let header = Header { kind, key_id: 1, sender: Tag::default(), instance, number: *number };
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            bytes.extend_from_slice(&[0; SEAL_LEN]);
            net.check_number(0, Instance(*to), &bytes);
        }
        net.reused.is_some()
    }

    #[test]
    fn a_number_that_comes_twice_between_two_runs_is_found() {
        assert!(finds(&[(1, 2, 5), (1, 3, 9), (1, 2, 5)]));
        assert!(finds(&[(1, 0, 5), (1, 0, 4)]), "hellos are sealed to no run");
        assert!(
            !finds(&[(1, 2, 5), (1, 3, 5), (4, 2, 5), (1, 2, 6)]),
            "each pair of runs has a key of its own"
        );
    }
}
