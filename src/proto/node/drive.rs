//! The way of time: deadlines, tries, misses, stalls, refusals, and the end.

use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use super::guest::Party;
use crate::proto::event::Change;
use crate::proto::heartbeat::{Stall, Step};
use crate::proto::messages::LeaveReason;
use crate::proto::peer::PeerStatus;
use crate::proto::seal::{FrameKind, Header};
use crate::proto::stats::{ErrorSource, SendErrorKind};
use crate::proto::timer::Time;

/// What is due again at once is due so much later: time moves on.
pub(super) const MOMENT: Duration = Duration::from_millis(1);
/// Answers and pings after a stall are spread over so much.
pub(super) const SPREAD: Duration = Duration::from_millis(50);
/// While this node is isolated, nobody is called Down for so long.
const ISOLATED: Duration = Duration::from_secs(60);
/// In an interval this node reports at most so many refused peers to the others.
const PUSHES: usize = 2;
/// The waits before the three Leaves.
const LEAVES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(40)];

/// The end of this run.
#[derive(Debug)]
pub(super) struct Leaving {
    reason: LeaveReason,
    sent: usize,
}

impl Leaving {
    pub(super) fn new(reason: LeaveReason) -> Leaving {
        Leaving { reason, sent: 0 }
    }

    pub(super) fn reason(&self) -> LeaveReason {
        self.reason
    }

    pub(super) fn is_done(&self) -> bool {
        self.sent == LEAVES.len()
    }
}

impl Node {
    /// Everything that is due, the stall first.
    pub(super) fn run_timers(&mut self) {
        let suspended = std::mem::take(&mut self.suspended);
        if let Some(planned) = self.late_to.take()
            && self.leaving.is_none()
        {
            self.wake_up(planned, suspended);
        }
        while let Some((at, slot)) = self.timers.first().filter(|(at, _)| *at <= self.now) {
            if slot == self.sessions.len() {
                self.run_leaving();
            } else {
                self.run_peer(slot);
                self.refresh(slot);
            }
            if self.timers.first() == Some((at, slot)) {
                // Whatever happened, time moves on; at its very end nothing is due any more.
                let later = self.now + MOMENT;
                self.timers.set(slot, (later > self.now).then_some(later));
            }
        }
    }

    /// Nobody is blamed for a time in which this node did not listen.
    fn wake_up(&mut self, planned: Time, suspended: Duration) {
        let late = self.now.since(planned);
        self.stall = Some((self.now, late));
        let unheard = self.unheard(late);
        let silence = self.config.heartbeat_interval * self.config.suspect_after;
        let contradiction = self.contradiction();
        self.isolation_times.slept(unheard, self.now, silence, contradiction);
        self.stats.stalls += 1;
        self.stats.stalled += late;
        let cause = if suspended > late / 2 {
            format!("the machine was suspended for {suspended:.1?}")
        } else {
            "stopped, or starved of CPU".to_owned()
        };
        let why = format!("the loop woke {late:.1?} later than planned: {cause}");
        self.push_event(None, Change::Stall(late), why);
        // A short stall makes no burst that must be spread.
        let most = if unheard < self.config.heartbeat_interval { Duration::ZERO } else { SPREAD };
        let stall = Stall { before: self.turned, planned, unheard };
        for peer in 0..self.sessions.len() {
            let spread = most.mul_f64(self.share());
            if unheard > Duration::ZERO {
                self.beats[peer].stalled(stall, self.now, spread);
            }
            self.arm(peer);
        }
    }

    /// How much of a delay of `late` counts as time in which this node did not listen. A turn reads all that has come
    /// since the one before, so each turn grants half a timeout of listening: a loop that is late in every turn still
    /// judges its heartbeats. A turn before which datagrams were dropped grants nothing.
    fn unheard(&self, late: Duration) -> Duration {
        if self.drops.is_some_and(|at| at > self.turned) {
            return late;
        }
        late.min(self.now.since(self.turned).saturating_sub(self.config.heartbeat_timeout / 2))
    }

    /// The pause to tell the peers, for two intervals.
    pub(super) fn pause_to_tell(&self) -> Option<Duration> {
        let interval = self.config.heartbeat_interval;
        self.stall.filter(|(end, _)| self.now.since(*end) < interval * 2).map(|(_, length)| length)
    }

    /// Sets the peer's next deadline; never earlier than now, so that lateness is the loop's alone.
    pub(super) fn arm(&mut self, peer: usize) {
        self.pool.at_mut(peer).spacing = self.beats[peer].spacing();
        let beat = self.beats[peer].deadline(!self.pool.at(peer).is_active);
        let account = &self.accounts[peer];
        let at = if account.answer.is_some() { beat.min(account.answer_at) } else { beat };
        let at = account.rest_at.map_or(at, |rest| at.min(rest));
        self.timers.set(peer, Some(at.max(self.now)));
    }

    fn run_peer(&mut self, peer: usize) {
        if self.accounts[peer].answer_at <= self.now
            && let Some(question) = self.accounts[peer].answer.take()
        {
            self.answer(Party::Peer(peer), &question);
        }
        if self.accounts[peer].rest_at.is_some_and(|at| at <= self.now) {
            self.tell_rest(peer);
        }
        self.doubt_refusals(peer);
        // Bounded: at most one heartbeat ends and one begins at a moment, with its tries.
        for _ in 0..8 {
            let echoed = self.sessions[peer].echoed_at();
            let cut = !self.pool.at(peer).is_active;
            match self.beats[peer].step(self.now, echoed, cut) {
                Step::Wait => break,
                Step::Try { first, hello, roster, other_key, since_slot, ask } => {
                    let hello =
                        hello || self.sessions[peer].confirmed.is_none() || self.is_told_another_run(peer);
                    if first {
                        self.end_inquiry(peer);
                    }
                    self.send_try(peer, first, hello, roster, other_key, since_slot);
                    self.ask(peer, ask);
                }
                Step::Ask(ask) => self.ask(peer, ask),
                Step::Judged { missed, silent } => self.judged(peer, missed, silent),
            }
        }
        self.arm(peer);
    }

    fn send_try(
        &mut self,
        peer: usize,
        first: bool,
        hello: bool,
        roster: bool,
        other_key: Option<u32>,
        since_slot: Option<Duration>,
    ) {
        let connection = self.pool.at(peer);
        let to = if roster { connection.roster_address } else { None }.or(connection.remote_address);
        let Some(to) = to else { return };
        if first {
            self.stats.heartbeats_sent += 1;
        } else {
            self.stats.heartbeat_retries += 1;
        }
        let key = other_key.map_or(0, |turn| turn as usize % self.ring.len());
        if hello {
            self.send_hello(peer, to, key);
        } else if first {
            self.send_first_ping(peer, to, key, since_slot);
        } else {
            self.send_ping(peer, to, key, since_slot);
        }
    }

    fn judged(&mut self, peer: usize, missed: bool, silent: bool) {
        if silent {
            let before = self.is_silent(peer);
            self.pool.at_mut(peer).attempt_failed(self.config.down_after);
            self.news.changed |= before != self.is_silent(peer);
            let address = self.pool.at(peer).remote_address;
            self.registry.at_mut(peer).address = address;
        }
        if self.is_isolated() {
            self.isolation_times.begin(self.now);
        }
        if missed {
            self.stats.heartbeats_missed += 1;
            // The heartbeat bounds the count while a refusing host is given its full interval.
            let count = self.beats[peer].missed();
            let mut thresholds = self.config.thresholds();
            if self.gives_nobody_up() {
                thresholds.down_after = u32::MAX;
            }
            let info = self.registry.at_mut(peer);
            if count > info.missed_heartbeats || count >= thresholds.down_after {
                info.missed_heartbeats = count.saturating_sub(1);
                info.heartbeat_missed(thresholds);
            }
        }
        if self.isolation_times.has_begun() {
            self.beats[peer].keep_trying();
        }
        let share = self.share();
        self.beats[peer].jitter_after_miss(share, self.now);
        self.beats[peer].jitter(share);
    }

    /// Something authentic came: unless this node is cut off from most, an isolation ends.
    pub(super) fn note_heard(&mut self, received: Time) {
        self.isolation_times.note_heard(received);
        if self.isolation_times.has_begun() && !self.is_cut_off() {
            self.end_isolation();
        }
    }

    /// What was missed meanwhile counts for no more than a suspicion.
    pub(super) fn end_isolation(&mut self) {
        self.isolation_times.end(self.now);
        // If it is cut off again at once, suspect_after + 1 more are missed before it is isolated again: not enough for
        // a Down.
        let (suspect_after, down_after) = (self.config.suspect_after, self.config.down_after);
        let limit = suspect_after.min(down_after.saturating_sub(suspect_after + 2));
        for peer in 0..self.sessions.len() {
            let info = self.registry.at_mut(peer);
            if info.status != PeerStatus::Down {
                self.beats[peer].excuse(limit);
                info.missed_heartbeats = self.beats[peer].missed();
            }
        }
        self.review_by(self.now);
    }

    /// In a cluster of three or more: nothing authentic from anybody for `suspect_after` intervals, or cut off from most.
    pub(super) fn is_isolated(&self) -> bool {
        let limit =
            self.config.heartbeat_interval * self.config.suspect_after + self.config.heartbeat_timeout;
        self.sessions.len() >= 2 && (self.is_cut_off() || self.isolation_times.quiet(self.now) > limit)
    }

    /// Whether it is isolated, and not for so long that this may be its peers' end.
    pub(super) fn gives_nobody_up(&self) -> bool {
        self.isolation_times.lasts(self.now).is_some_and(|lasts| lasts < ISOLATED)
    }

    /// Others have contradicted what it misses for longer than they need to notice the same.
    pub(super) fn is_cut_off(&self) -> bool {
        let notice = self.contradiction() + self.config.heartbeat_timeout;
        self.isolation_times.contradicted_for(self.now).is_some_and(|lasts| lasts >= notice)
    }

    /// How long others must have contradicted this node, and one timeout more.
    fn contradiction(&self) -> Duration {
        // Where not everybody watches everybody, what others have noticed comes late, and many may have died at once.
        let (suspect_after, told) =
            if self.others.is_empty() { (0, 1) } else { (self.config.suspect_after, 3) };
        self.config.heartbeat_interval * (suspect_after + told)
    }

    /// A peer came back: every other Down peer is pinged once soon, at most once in ten intervals.
    pub(super) fn recovered(&mut self, peer: usize) {
        self.beats[peer].recover(self.now);
        self.arm(peer);
        let interval = self.config.heartbeat_interval;
        if self.last_recovery.is_some_and(|at| self.now.since(at) < interval * 10) {
            return;
        }
        self.last_recovery = Some(self.now);
        for other in 0..self.sessions.len() {
            let down = self.registry.at(other).status == PeerStatus::Down;
            if other != peer && down && self.accounts[other].left.is_none() {
                let wait = interval.mul_f64(self.share());
                self.beats[other].retry_soon(self.now, wait);
                self.arm(other);
            }
        }
    }

    /// A datagram sent to `to` failed, as `source` reported. `quoted`: its bytes as far as the error carries them
    /// (empty: none known). Only a refusal by the peer's own host that quotes a try in flight changes more than
    /// counters.
    pub fn handle_send_error(
        &mut self,
        to: SocketAddr,
        kind: SendErrorKind,
        source: ErrorSource,
        quoted: &[u8],
        now: Time,
    ) {
        self.advance(now);
        self.stats.send_errors[kind as usize] += 1;
        let known = self.by_address.get(&to).copied();
        if let Some(peer) = known {
            self.note_error(peer, kind, source);
        }
        // A router or a firewall on the way does not know whether the process runs.
        let by_peer = (kind, source) == (SendErrorKind::Refused, ErrorSource::Peer);
        if !by_peer || self.leaving.is_some() {
            return;
        }
        let Ok((header, _)) = Header::parse(quoted) else { return };
        if header.instance != self.instance || !self.own_tags.contains(&header.sender) {
            return;
        }
        let hello = header.kind == FrameKind::Hello;
        let found = (0..self.sessions.len()).filter(|p| known.is_none_or(|k| k == *p)).find_map(|peer| {
            self.sessions[peer].quoted(hello, header.number, to).map(|sent| (peer, sent.departure.sealed))
        });
        let Some((peer, sent)) = found else { return };
        self.accounts[peer].refused = Some(self.now);
        // After a stall the datagrams that arrived meanwhile must be read first: `run_peer` does it then.
        if self.late_to.is_none() {
            self.doubt_refusals(peer);
        }
        if self.beats[peer].refused(sent, self.now) {
            // When many refuse at once, others have their own refusals.
            if self.pushes.take(PUSHES, self.now, self.config.heartbeat_interval) {
                self.push_refused(peer);
            }
        } else if !self.beats[peer].is_refused() {
            // What was refused was no try of the open heartbeat: a ping on behalf of another node, or one beside it.
            self.told_refused(peer);
        }
        self.arm(peer);
        self.refresh(peer);
    }

    /// The peer was refused elsewhere, or out of turn: it is pinged soon.
    pub(super) fn told_refused(&mut self, peer: usize) {
        let wait = Duration::from_millis(100).min(self.config.heartbeat_interval / 10).mul_f64(self.share());
        self.beats[peer].told_refused(self.now + wait, self.now);
        self.arm(peer);
    }

    /// Whether its host refused within the last interval, and it has not been heard since.
    pub(super) fn was_refused(&self, peer: usize) -> bool {
        self.refused_for(peer, self.now).is_some_and(|ago| ago < self.config.heartbeat_interval)
    }

    /// While this node hears nobody, refusals are no more than silence: a firewall on this host makes the same errors.
    fn doubt_refusals(&mut self, peer: usize) {
        let heard = self.now - self.isolation_times.quiet(self.now);
        if self.sessions.len() >= 3 && self.beats[peer].doubt_refusals(heard, self.now) {
            self.registry.at_mut(peer).missed_heartbeats = self.beats[peer].missed();
            #[cfg(feature = "sim")]
            {
                self.isolation_times.doubted = Some(self.now);
            }
        }
    }

    /// The kernel dropped `count` more datagrams from the receive queue: the open heartbeats are void.
    pub fn handle_drops(&mut self, count: u64, now: Time) {
        self.advance(now);
        if count == 0 {
            return;
        }
        self.stats.socket_drops = self.stats.socket_drops.saturating_add(count);
        self.drops = Some(self.now);
        for beat in &mut self.beats {
            beat.dropped(self.now);
        }
    }

    /// The kernel kept `count` more datagrams out of the receive queue, none of which was as [`expected`](Node::expected): no
    /// heartbeat is void. `many`: they would have filled the queue, so this node is flooded.
    pub fn handle_filtered(&mut self, count: u64, many: bool, now: Time) {
        self.advance(now);
        self.stats.socket_filtered = self.stats.socket_filtered.saturating_add(count);
        if many {
            self.filtered = Some(self.now);
        }
    }

    pub(super) fn run_leaving(&mut self) {
        let peers = self.sessions.len();
        let Some(leaving) = &mut self.leaving else { return };
        let reason = leaving.reason;
        leaving.sent += 1;
        let next = LEAVES.get(leaving.sent).map(|wait| self.now + *wait);
        let profile = self.last_profile();
        for peer in 0..peers {
            self.send_leave(peer, reason, profile.clone());
        }
        self.timers.set(peers, next);
    }
}
