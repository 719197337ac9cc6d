//! The quorum guard: what may act only where no other side can.
//!
//! A node holds the guard while a majority of the roster, itself among it, echoed what it sent less than G ago (G is
//! `suspect_after` intervals and one timeout), and has done so without a gap for W, an interval more than G and the drift of
//! two clocks. Who is cut off gets no echo of what it sent after that, so it has lost the guard G later at the latest, and
//! nobody can have gained it in the meantime: at most one side holds it. It is a statement about time: it ends by itself, by the
//! clock of whoever reads it, and no stall extends it.
//!
//! Only links of its own count, only pings and pongs, and only witnesses: peers whose present run reports this node's roster and
//! settings, since G and W follow from these, and that it is a witness of that roster. `witness` has the rules for that.
//!
//! What a lost peer did may be taken over while this node holds the guard and a majority, itself among it, has heard nothing of
//! that peer for W. That is asked in rounds: whoever answers a question of a round that began at `s` with a silence of W or more,
//! within an interval, has echoed nothing of the peer's between `s` - G and `s`. So the peer, for which a majority would have to
//! have done so, did not hold its guard at `s`, and does not hold it again before `s` + G + an interval: until then the answer
//! stands.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Node;
use super::guest::Party;
use super::views::OVERHEAD;
use crate::proto::event::Change;
use crate::proto::messages::{MAX_SILENT, Message};
use crate::proto::records::Standing;
use crate::proto::seal::Tag;
use crate::proto::session::{Echo, What};
use crate::proto::timer::{Time, micros};

/// A round is begun in every interval for so many intervals after somebody wanted to know.
const WANTED: u32 = 3;
/// Kernel stamps and clock readings may differ by this much.
const STAMPS: Duration = Duration::from_millis(20);
/// Bytes of the answer about one peer.
const ANSWER: usize = 18;
/// While a majority lasts for an interval at least, the proofs are counted anew at most so many times an interval.
const LOOKS: u32 = 4;

/// Whether a majority is proven.
#[derive(Debug, Default)]
pub(super) struct Majority {
    /// Since when there has been no gap.
    since: Option<Time>,
    /// It lasts at least until then.
    until: Time,
    looked: Time,
    /// What was sent before proves nothing.
    not_before: Time,
    /// Kept for the next count.
    proofs: Vec<Time>,
    /// Peers of which somebody wants to know whether what they did may be taken over.
    watches: BTreeMap<usize, Watch>,
}

/// What is asked about one peer.
#[derive(Debug)]
struct Watch {
    wanted: Time,
    /// When the present round began.
    round: Time,
    /// Who said in it that he has heard nothing.
    silent: Vec<usize>,
    /// The newest answer stands until then.
    until: Time,
}

impl Node {
    /// Whether this node holds the quorum guard at `now`, and if so until when at least: then it is over by itself, unless a later
    /// call says otherwise. What is done under the guard must be done by then.
    pub fn quorum_guard(&self, now: Time) -> Option<Time> {
        let (from, _) = self.guard_window();
        let until = self.proven_until(&mut Vec::new());
        (from <= now && now < until && now >= self.now).then_some(until)
    }

    /// From when until when this node holds the guard, as far as it has counted: for a reader that looks at the clock by itself.
    /// Where it does not, the first is the end of time.
    pub fn guard_window(&self) -> (Time, Time) {
        let never = Time::from_micros(u64::MAX);
        let since = self.majority.since.filter(|_| self.leaving.is_none());
        (since.map_or(never, |since| since + self.config.guard_wait()), self.majority.until)
    }

    /// A peer's own echo of what was sent at `sent` came.
    pub(super) fn prove(&mut self, peer: usize, sent: Time) {
        self.find_gap();
        self.registry.at_mut(peer).prove(sent);
        if sent < self.majority.not_before {
            return;
        }
        let echoed = &mut self.accounts[peer].echoed;
        *echoed = (*echoed).max(Some(sent));
        let interval = self.config.heartbeat_interval;
        let Majority { since, until, looked, .. } = self.majority;
        if since.is_none() || self.now >= looked + interval / LOOKS || until <= self.now + interval {
            self.count_majority();
        }
    }

    /// Before anything new counts: whether the majority has ended since.
    fn find_gap(&mut self) {
        if self.majority.since.is_some() && self.now >= self.majority.until {
            self.count_majority();
        }
    }

    pub(super) fn count_majority(&mut self) {
        let mut proofs = std::mem::take(&mut self.majority.proofs);
        let until = self.proven_until(&mut proofs);
        self.majority.proofs = proofs;
        let majority = &mut self.majority;
        (majority.until, majority.looked) = (until, self.now);
        majority.since = if self.now < until { majority.since.or(Some(self.now)) } else { None };
    }

    /// Who is a witness may have changed.
    pub(super) fn note_witness(&mut self) {
        self.find_gap();
        self.review_witness();
        self.count_majority();
    }

    /// The tables of peers have moved: what is asked about some is asked anew.
    pub(super) fn move_watches(&mut self) {
        self.majority.watches.clear();
    }

    /// Drops all proofs: what the peers echoed so far, and any later echo of a datagram that was sent until now.
    pub(super) fn drop_proofs(&mut self) {
        self.accounts.iter_mut().for_each(|account| account.echoed = None);
        self.majority = Majority { not_before: self.now, ..Majority::default() };
    }

    /// Checks the hold that the peer reports over a long silence. Returns false if this node's clock contradicts it.
    pub(super) fn check_held(&mut self, peer: usize, message: &Message, received: Time) -> bool {
        let Some((echo, hold)) = message.more().and_then(|more| more.held) else { return true };
        match self.sessions[peer].read_echo(echo, hold, received) {
            Echo::Dated { departure, .. } => self.check_clock(peer, received.since(departure.sealed), hold),
            _ => true,
        }
    }

    /// The peer held for `hold` microseconds what this node sent `elapsed` ago by its own clock. Where that cannot be, this clock
    /// stood still or is slow, or the peer's is fast: what was proven before may be older than it seems. One peer's report is
    /// enough to drop the guard; only those of a majority say that this node stood still.
    pub(super) fn check_clock(&mut self, peer: usize, elapsed: Duration, hold: u64) -> bool {
        let hold = Duration::from_micros(hold);
        if hold <= elapsed + elapsed / 500 + STAMPS || !self.config.mechanisms.clocks {
            return true;
        }
        self.drop_proofs();
        let (recent, now) = (self.clock_window(), self.now);
        let account = &mut self.accounts[peer];
        let before =
            account.clock.filter(|(at, _)| now.since(*at) < recent).map_or(Duration::ZERO, |(_, by)| by);
        account.clock = Some((now, before.max(hold.saturating_sub(elapsed))));
        // After the rest of what the socket holds.
        self.review_by(now);
        false
    }

    /// Tells that this machine's clock stood still, once most nodes of the roster have reported it.
    pub(super) fn note_stood_still(&mut self) {
        let recent = self.clock_window();
        let is_recent = |(at, _): &(Time, Duration)| self.now.since(*at) < recent;
        let reports = self.accounts.iter().filter_map(|account| account.clock.filter(is_recent));
        let mut behind: Vec<Duration> = reports.map(|(_, behind)| behind).collect();
        behind.sort_unstable_by(|a, b| b.cmp(a));
        let told = self.stall.is_some_and(|(end, _)| self.now.since(end) < recent);
        let Some(length) = behind.get(self.directory.len() / 2).copied().filter(|_| !told) else { return };
        if length < self.config.heartbeat_interval {
            return;
        }
        self.stall = Some((self.now, length));
        self.stats.stalls += 1;
        self.stats.stalled += length;
        let why = format!("this machine's clock stood still for {length:.1?}, as most nodes report");
        self.push_event(None, Change::Stall(length), why);
    }

    /// Reports of a clock that stood still go together for this long.
    fn clock_window(&self) -> Duration {
        self.config.heartbeat_interval * self.config.down_after
    }

    /// Whether the peer's present run tells this node's roster and settings, and stands for the roster.
    pub(super) fn has_witness(&self, peer: usize) -> bool {
        let own = self.records.profile(self.me).map(|profile| (profile.roster, profile.config));
        let run = self.sessions[peer].confirmed.as_ref().map(|confirmed| confirmed.instance);
        self.records.profile(self.places[peer]).is_some_and(|profile| {
            let alike = Some((profile.roster, profile.config)) == own;
            profile.standing == Standing::Witness && alike && Some(profile.instance) == run
        })
    }

    /// Until when a majority is proven, by what came until now. Where a node does not observe most others it has no proofs of them
    /// of its own, and never one.
    fn proven_until(&self, proofs: &mut Vec<Time>) -> Time {
        let needed = self.directory.len() / 2;
        if !self.is_witness() || self.sessions.len() < needed {
            return Time::ZERO;
        }
        let Some(last) = needed.checked_sub(1) else { return Time::from_micros(u64::MAX) };
        let proof = |peer: usize| self.accounts[peer].echoed.filter(|_| self.has_witness(peer));
        proofs.clear();
        proofs.extend((0..self.sessions.len()).filter_map(proof));
        if proofs.len() < needed {
            return Time::ZERO;
        }
        let (_, oldest, _) = proofs.select_nth_unstable_by_key(last, |proof| std::cmp::Reverse(*proof));
        *oldest + self.config.proof_horizon()
    }

    /// Somebody wants to know whether what this peer did may be taken over: for three intervals the others are asked whether they
    /// hear it. False: this node observes no such peer.
    pub fn watch_takeover(&mut self, server_id: &str, now: Time) -> bool {
        self.advance(now);
        let Some(peer) = (0..self.sessions.len()).find(|p| &*self.registry.at(*p).server_id == server_id)
        else {
            return false;
        };
        let now = self.now;
        let begin = || Watch { wanted: now, round: Time::ZERO, silent: Vec::new(), until: Time::ZERO };
        self.majority.watches.entry(peer).or_insert_with(begin).wanted = now;
        // What is asked in one turn goes together.
        self.review_by(self.now);
        true
    }

    /// Whether what a peer did may be taken over at `now`: this node holds the guard, and the peer neither holds it nor can before
    /// the time that is returned. Asked for by [`watch_takeover`](Node::watch_takeover); without that nothing is known.
    pub fn takeover_safe(&self, server_id: &str, now: Time) -> Option<Time> {
        let named = |peer: &usize| &*self.registry.at(*peer).server_id == server_id;
        let (_, watch) = self.majority.watches.iter().find(|(peer, _)| named(peer))?;
        if now >= watch.until {
            return None;
        }
        Some(watch.until.min(self.quorum_guard(now)?))
    }

    /// Begins the rounds that are due: about some at a time, in turn.
    pub(super) fn review_watches(&mut self) {
        let (now, interval, wait) = (self.now, self.config.heartbeat_interval, self.config.guard_wait());
        self.majority.watches.retain(|_, watch| now.since(watch.wanted) < interval * WANTED);
        // Nobody is bothered for what cannot be.
        if self.majority.watches.is_empty() || self.guard_window().0 > now {
            return;
        }
        let watches = self.majority.watches.iter();
        let is_due = |watch: &Watch| watch.round == Time::ZERO || now.since(watch.round) >= interval;
        let due = watches.filter(|(peer, watch)| is_due(watch) && self.silence_of(**peer) >= wait);
        let mut due: Vec<(Time, usize)> = due.map(|(peer, watch)| (watch.round, *peer)).collect();
        due.sort_unstable();
        due.truncate(MAX_SILENT.min((self.config.max_datagram - OVERHEAD) / ANSWER));
        if due.is_empty() {
            return;
        }
        for peer in 0..self.sessions.len() {
            let Some((transmit, key)) = self.way_to(Party::Peer(peer)) else { continue };
            let tag = |(_, about): &(Time, usize)| self.sessions[*about].tags.get(key).copied();
            let targets = due.iter().filter_map(tag).collect();
            let ask = |echo, hold| Message::SilenceRequest { echo, hold, targets };
            self.send_bound(peer, transmit, key, What::Silence, usize::MAX, ask);
        }
        for (_, about) in due {
            let watch = self.majority.watches.get_mut(&about).expect("it is one of them");
            (watch.round, watch.silent) = (now, Vec::new());
            self.count_silent(about);
        }
    }

    /// For how long nothing has come of a peer, be it by way of others, as far as this run can tell.
    fn silence_of(&self, peer: usize) -> Duration {
        self.now.since(self.accounts[peer].heard_of.unwrap_or(self.started).max(self.started))
    }

    /// A sign of life of a peer came: whatever it is, it may be echoed.
    pub(super) fn note_heard_of(&mut self, peer: usize) {
        self.accounts[peer].heard_of = Some(self.now);
    }

    /// `from` asks for how long this node has heard nothing of others. After a stall that is old.
    pub(super) fn silence_request(&mut self, from: usize, key: usize, targets: &[Tag], request: u64) {
        if self.late_to.is_some() || !self.may_serve(Party::Peer(from)) {
            return;
        }
        let silence = |tag: &Tag| {
            let about = self.peer_of_tag(key, *tag).filter(|about| *about != from);
            about.map_or(0, |about| micros(self.silence_of(about)))
        };
        let silent = targets.iter().map(|tag| (*tag, silence(tag))).collect();
        if let Some((transmit, _)) = self.way_to(Party::Peer(from)) {
            let reply = |echo, hold| Message::SilenceReply { echo, hold, request, silent };
            self.send_bound(from, transmit, key, What::Other, usize::MAX, reply);
        }
    }

    /// `from` has heard nothing of peers for so many microseconds.
    pub(super) fn silence_reply(&mut self, from: usize, key: usize, request: u64, silent: &[(Tag, u64)]) {
        let sent =
            self.sessions[from].sent(request).filter(|s| s.what == What::Silence).map(|s| s.departure.sealed);
        let Some(sent) = sent.filter(|_| self.has_witness(from)) else { return };
        let (wait, interval) = (self.config.guard_wait(), self.config.heartbeat_interval);
        for (tag, silent) in silent {
            let Some(about) = self.peer_of_tag(key, *tag) else { continue };
            let Some(watch) = self.majority.watches.get_mut(&about) else { continue };
            let of_this_round = sent >= watch.round && self.now.since(watch.round) <= interval;
            if of_this_round && Duration::from_micros(*silent) >= wait && !watch.silent.contains(&from) {
                watch.silent.push(from);
                self.count_silent(about);
            }
        }
    }

    fn count_silent(&mut self, about: usize) {
        let needed = self.directory.len() / 2 + 1;
        let own = usize::from(self.silence_of(about) >= self.config.guard_wait());
        let stands = self.config.proof_horizon() + self.config.heartbeat_interval;
        let Some(watch) = self.majority.watches.get_mut(&about) else { return };
        if own == 1 && watch.silent.len() + own >= needed {
            watch.until = watch.until.max(watch.round + stands);
        }
    }
}
