//! Relays: whom this node asks about a silent peer, and what it does when it is asked.
//!
//! The asker sends a `RelayRequest` to a third node; that one pings the peer in its stead, the peer's `RelayPong`
//! repeats what the `RelayPing` said, and a `RelayReply` brings it home. The relay keeps nothing meanwhile. One datagram
//! follows from one, always to a member of the roster with a confirmed run, and none of the four is relayed itself: no
//! loops, no amplification. The reply names the request, and so dates the peer's life: it answered after that.

use std::time::Duration;

use super::{Node, Transmit};
use crate::proto::heartbeat::Ask;
use crate::proto::messages::Message;
use crate::proto::peer::PeerStatus;
use crate::proto::seal::Tag;
use crate::proto::session::What;
use crate::proto::stats::RelayResult;
use crate::proto::timer::Time;

/// Questions of one's own in an interval.
const OWN: u32 = 64;
/// Nodes asked at a time.
const AT_A_TIME: usize = 3;

/// How often something may still happen in the present interval.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    since: Time,
    spent: u32,
}

impl Budget {
    fn take(&mut self, limit: u32, now: Time, interval: Duration) -> bool {
        if now.since(self.since) >= interval {
            *self = Budget { since: now, spent: 0 };
        }
        self.spent += u32::from(self.spent <= limit);
        self.spent <= limit
    }
}

/// What is asked about one peer.
#[derive(Debug, Default)]
pub(super) struct Inquiry {
    /// Who is asked next: all others in turn.
    turn: usize,
    /// Who knew something last.
    worked: Option<usize>,
    /// Who was asked in the present heartbeat, by which number, and has not answered: at most seven.
    open: Vec<(usize, u64)>,
    /// What others ask this node to relay to the peer, or it answers.
    pub(super) served: Budget,
}

impl Inquiry {
    /// `turn`: with whom to begin.
    pub(super) fn new(turn: usize) -> Inquiry {
        Inquiry { turn, ..Inquiry::default() }
    }
}

impl Node {
    /// A new heartbeat: who was asked in the last one and has not answered was silent.
    pub(super) fn end_inquiry(&mut self, about: usize) {
        let open = &mut self.accounts[about].inquiry.open;
        self.stats.relays[RelayResult::Silent as usize] += open.len() as u64;
        open.clear();
    }

    /// Asks others about a silent peer.
    pub(super) fn ask(&mut self, about: usize, ask: Ask) {
        if ask == Ask::Nobody || !self.config.mechanisms.relays || self.sessions[about].tags.is_empty() {
            return;
        }
        if let (Ask::Last, Some(relay)) = (ask, self.accounts[about].inquiry.worked)
            && self.can_relay(relay, about)
        {
            return self.ask_one(about, relay);
        }
        // First those that answered this node last time and whose rows say that the peer is fine, then the rest, both in
        // turn.
        let mut asked = 0;
        for likely in [true, false] {
            let peers = self.sessions.len();
            for _ in 0..peers {
                if asked == AT_A_TIME {
                    return;
                }
                let inquiry = &mut self.accounts[about].inquiry;
                let relay = inquiry.turn % peers;
                inquiry.turn = relay + 1;
                let answers =
                    self.pool.at(relay).attempt_count == 0 && self.registry.at(relay).missed_heartbeats == 0;
                if self.can_relay(relay, about) && (answers && self.says_fine(relay, about)) == likely {
                    self.ask_one(about, relay);
                    asked += 1;
                }
            }
        }
    }

    /// Whether a node can be asked about `about`: one that was not asked yet, and that this node talks with.
    fn can_relay(&self, relay: usize, about: usize) -> bool {
        relay != about
            && self.sessions[relay].confirmed.is_some()
            && self.pool.at(relay).is_active
            && self.registry.at(relay).status == PeerStatus::Healthy
            && !self.accounts[about].inquiry.open.iter().any(|(asked, _)| *asked == relay)
    }

    fn ask_one(&mut self, about: usize, relay: usize) {
        if !self.relays_asked.take(OWN, self.now, self.config.heartbeat_interval) {
            return;
        }
        let number = self.sessions[relay].upcoming();
        let what = What::About(u32::try_from(about).expect("a roster has fewer entries"));
        if self.send_to_run(
            relay,
            what,
            |echo, hold, target| Message::RelayRequest { echo, hold, target },
            about,
        ) {
            self.accounts[about].inquiry.open.push((relay, number));
        }
    }

    /// Sends a message that names `about` to the confirmed run of `to`; false if it has none.
    fn send_to_run(
        &mut self,
        to: usize,
        what: What,
        message: impl FnOnce(u64, u64, Tag) -> Message,
        about: usize,
    ) -> bool {
        let (Some(address), Some(confirmed)) =
            (self.pool.at(to).remote_address, &self.sessions[to].confirmed)
        else {
            return false;
        };
        let key = confirmed.key;
        let Some(&tag) = self.sessions[about].tags.get(key) else { return false };
        let transmit = Transmit { to: address, from: None };
        self.send_bound(to, transmit, key, what, usize::MAX, |echo, hold| message(echo, hold, tag));
        true
    }

    /// `peer` asks this node to ping another one. After a stall it is dropped: it is old.
    pub(super) fn relay_request(&mut self, peer: usize, key: usize, target: Tag, request: u64) {
        let Some(target) = self.peer_of_tag(key, target).filter(|t| *t != peer) else { return };
        if self.late_to.is_some() || !self.may_serve(peer) {
            return;
        }
        if self.sessions[target].confirmed.is_some() && self.pool.at(target).is_active {
            let ping = |echo, hold, origin| Message::RelayPing { echo, hold, origin, request };
            self.send_to_run(target, What::Other, ping, peer);
        } else {
            self.send_relay_reply(peer, target, request, false);
        }
    }

    /// `peer` answered a ping on behalf of another node.
    pub(super) fn relay_pong(&mut self, peer: usize, key: usize, origin: Tag, request: u64) {
        let Some(origin) = self.peer_of_tag(key, origin).filter(|o| *o != peer) else { return };
        if self.late_to.is_none() && self.may_serve(peer) {
            self.send_relay_reply(origin, peer, request, true);
        }
    }

    fn send_relay_reply(&mut self, to: usize, target: usize, request: u64, alive: bool) {
        let reply = |echo, hold, target| Message::RelayReply { echo, hold, target, request, alive };
        self.send_to_run(to, What::Other, reply, target);
    }

    /// All others ask this node at most 64 times an interval each, and may do so about one and the same peer.
    pub(super) fn may_serve(&mut self, peer: usize) -> bool {
        let limit = OWN + 2 * u32::try_from(self.sessions.len()).unwrap_or(u32::MAX / 4);
        self.accounts[peer].inquiry.served.take(limit, self.now, self.config.heartbeat_interval)
    }

    /// A relay's answer: the peer lived after the request was sent, and something of ours reached it. Of the link it
    /// says nothing.
    pub(super) fn relay_reply(&mut self, relay: usize, key: usize, target: Tag, request: u64, alive: bool) {
        let Some(about) = self.peer_of_tag(key, target) else { return };
        let named = What::About(about as u32);
        let Some(sent) = self.sessions[relay].sent(request).filter(|s| s.what == named).map(|s| s.at) else {
            return;
        };
        let inquiry = &mut self.accounts[about].inquiry;
        let before = inquiry.open.len();
        inquiry.open.retain(|(_, number)| *number != request);
        let result = if alive { RelayResult::Answered } else { RelayResult::Rejected };
        self.stats.relays[result as usize] += (before - inquiry.open.len()) as u64;
        if !alive || self.accounts[about].left.is_some() {
            return;
        }
        self.accounts[about].inquiry.worked = Some(relay);
        self.accounts[about].relayed = self.accounts[about].relayed.max(Some(sent));
        self.registry.at_mut(about).prove(sent);
        self.beats[about].relayed(sent);
        self.prove_life(about, sent, None);
        let echoed = self.sessions[about].echoed_at();
        self.beats[about].settle(self.now, echoed);
        self.arm(about);
        self.refresh(about);
    }
}
