//! Relays: whom this node asks about a silent peer, and what it does when it is asked.
//!
//! The asker sends a `RelayRequest` to a third node; that one pings the peer in its stead, the peer's `RelayPong`
//! repeats what the `RelayPing` said, and a `RelayReply` brings it home. The relay keeps nothing meanwhile. One datagram
//! follows from one, always to a member of the roster with a confirmed run, and none of the four is relayed itself: no
//! loops, no amplification. The reply names the request, and so dates the peer's life: it answered after that.

use std::time::Duration;

use super::explain::Questions;
use super::guest::Party;
use super::{Node, Transmit};
use crate::proto::heartbeat::Ask;
use crate::proto::messages::Message;
use crate::proto::peer::PeerStatus;
use crate::proto::seal::Tag;
use crate::proto::session::{Departure, What};
use crate::proto::stats::RelayResult;
use crate::proto::timer::Time;

/// Questions of one's own in an interval, about all silent peers alike; one about each at least.
const OWN: usize = 64;
/// Questions at a time, with each retry.
const AT_A_TIME: usize = 3;
/// Questions about one peer in a heartbeat: with each of its three tries.
const IN_A_HEARTBEAT: usize = 3 * AT_A_TIME;

/// How often something may still happen in the present interval.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    since: Time,
    spent: u32,
}

impl Budget {
    pub(super) fn take(&mut self, limit: usize, now: Time, interval: Duration) -> bool {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX - 1);
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
    /// Who is asked next: all of its observers in turn.
    turn: usize,
    /// The place of who knew something last.
    pub(super) worked: Option<usize>,
    /// The places of the relays asked in the present heartbeat, one for each question.
    asked: Vec<usize>,
    /// Those of these questions that have no answer yet: the relay's place, and the number of the request.
    open: Vec<(usize, u64)>,
    /// What was asked since the peer last answered by itself.
    pub(super) questions: Questions,
    /// What others ask this node to relay to the peer, or it answers.
    pub(super) served: Budget,
}

impl Inquiry {
    /// `turn`: with whom to begin.
    pub(super) fn new(turn: usize) -> Inquiry {
        Inquiry { turn, ..Inquiry::default() }
    }

    /// Where each place of the roster before is now.
    pub(super) fn moved(&mut self, places: &[Option<usize>]) {
        self.worked = self.worked.and_then(|relay| places[relay]);
        self.asked = self.asked.iter().filter_map(|relay| places[*relay]).collect();
        let open = self.open.iter().filter_map(|(relay, number)| Some((places[*relay]?, *number)));
        self.open = open.collect();
        self.questions.moved(places);
    }
}

impl Node {
    /// A new heartbeat: who was asked in the last one and has not answered was silent.
    pub(super) fn end_inquiry(&mut self, about: usize) {
        let inquiry = &mut self.accounts[about].inquiry;
        self.stats.relays[RelayResult::Silent as usize] += inquiry.open.len() as u64;
        inquiry.open.clear();
        inquiry.asked.clear();
    }

    /// Asks others about a silent peer.
    pub(super) fn ask(&mut self, about: usize, ask: Ask) {
        if ask == Ask::Nobody || !self.config.mechanisms.relays || self.sessions[about].tags.is_empty() {
            return;
        }
        if let (Ask::Last, Some(relay)) = (ask, self.accounts[about].inquiry.worked)
            && self.can_relay(relay, about)
        {
            self.ask_one(about, relay);
            return;
        }
        let observers: Vec<usize> = self.directory.topology().neighbours(self.places[about]).collect();
        // When many die at once, those whose link is only cut are asked about all the same.
        let silent = (0..self.sessions.len()).filter(|peer| self.pool.at(*peer).attempt_count > 0).count();
        let fair = (OWN / silent.max(1)).clamp(1, IN_A_HEARTBEAT);
        let before = self.accounts[about].inquiry.asked.len();
        for _ in before..fair.min(before + AT_A_TIME) {
            let Some(at) = self.next_relay(about, &observers) else { return };
            self.accounts[about].inquiry.turn = at + 1;
            if !self.ask_one(about, observers[at]) {
                return;
            }
        }
    }

    /// The index in `observers` of the relay to ask next. Relays are asked in rounds: no relay is asked twice before
    /// all were asked once, and while none has answered others than the last ones come first, in the next heartbeat too. In a
    /// round, relays come first that answered this node last time and whose rows report the peer as fine; equal relays take turns.
    fn next_relay(&self, about: usize, observers: &[usize]) -> Option<usize> {
        let inquiry = &self.accounts[about].inquiry;
        let times_asked = |relay: usize| {
            let asked = inquiry.asked.iter().filter(|asked| **asked == relay).count();
            asked + usize::from(inquiry.questions.is_in_vain(relay))
        };
        (0..observers.len())
            .map(|step| (inquiry.turn + step) % observers.len())
            .filter(|at| self.can_relay(observers[*at], about))
            .min_by_key(|at| (times_asked(observers[*at]), !self.is_likely(observers[*at], about)))
    }

    /// Whether the node at `relay` can be asked about a peer: this node talks with it, or, if it is not observed, its row
    /// is believed.
    fn can_relay(&self, relay: usize, about: usize) -> bool {
        let works = match self.peer_at(relay) {
            _ if relay == self.me => false,
            Some(peer) => {
                self.sessions[peer].confirmed.is_some()
                    && self.pool.at(peer).is_active
                    && self.registry.at(peer).status == PeerStatus::Healthy
            }
            None => self.drawing.picture.age(relay).is_some() && self.address_of(relay).is_some(),
        };
        works && relay != self.places[about]
    }

    /// Whether it will probably answer, and know something.
    fn is_likely(&self, relay: usize, about: usize) -> bool {
        let answers = self.peer_at(relay).is_none_or(|peer| {
            self.pool.at(peer).attempt_count == 0 && self.registry.at(peer).missed_heartbeats == 0
        });
        answers && self.says_fine(relay, self.places[about])
    }

    /// Asks one relay about a peer. False if the budget of the interval is used up.
    fn ask_one(&mut self, about: usize, relay: usize) -> bool {
        let limit = OWN.max(self.sessions.len());
        let may = self.relays_asked.take(limit, self.now, self.config.heartbeat_interval);
        // Whose slots come last in the budget's interval is asked about too, once a heartbeat.
        if !may && !self.accounts[about].inquiry.asked.is_empty() {
            return false;
        }
        self.accounts[about].inquiry.asked.push(relay);
        let Some(party) = self.party_at(relay) else { return true };
        let number = self.session(party).upcoming();
        let what = What::About(u32::try_from(about).expect("a roster has fewer entries"));
        let request = |echo, hold, target| Message::RelayRequest { echo, hold, target };
        if self.send_to_run(party, what, request, Party::Peer(about)) {
            let echoed = self.sessions[about].echoed_at();
            let inquiry = &mut self.accounts[about].inquiry;
            inquiry.open.push((relay, number));
            inquiry.questions.asked(relay, echoed, self.now);
        }
        true
    }

    /// Sends a message that names `about` to the confirmed run of `to`; false if it has none.
    fn send_to_run(
        &mut self,
        to: Party,
        what: What,
        message: impl FnOnce(u64, u64, Tag) -> Message,
        about: Party,
    ) -> bool {
        let Some((transmit, key)) = self.way_to(to) else { return false };
        let Some(&tag) = self.session(about).tags.get(key) else { return false };
        self.send_bound(to, transmit, key, what, usize::MAX, |echo, hold| message(echo, hold, tag));
        true
    }

    /// Where frames to the confirmed run of `to` go, and under which key; `None` if it has none.
    pub(super) fn way_to(&self, to: Party) -> Option<(Transmit, usize)> {
        let address = match to {
            Party::Peer(peer) => self.pool.at(peer).remote_address,
            Party::Guest(guest) => self.address_of(self.guests[guest].place),
        };
        let key = self.session(to).confirmed.as_ref()?.key;
        Some((Transmit { to: address?, from: None }, key))
    }

    /// `from` asks this node to ping another one. After a stall it is dropped: it is old.
    pub(super) fn relay_request(&mut self, from: Party, key: usize, target: Tag, request: u64) {
        let target = self.peer_of_tag(key, target).map(Party::Peer).filter(|t| *t != from);
        let Some(target @ Party::Peer(peer)) = target else { return };
        if self.late_to.is_some() || !self.may_serve(from) {
            return;
        }
        let works = self.sessions[peer].confirmed.is_some() && self.pool.at(peer).is_active;
        // A ping would be refused too, and cost one of the few errors that its host sends.
        if works && !self.beats[peer].is_refused() && !self.was_refused(peer) {
            let ping = |echo, hold, origin| Message::RelayPing { echo, hold, origin, request };
            self.send_to_run(target, What::Ping, ping, from);
        } else {
            self.send_relay_reply(from, target, request, false);
        }
    }

    /// `from` answered a ping on behalf of another node.
    pub(super) fn relay_pong(&mut self, from: Party, key: usize, origin: Tag, request: u64) {
        let Some(place) = self.place_of_tag(key, origin).filter(|place| *place != self.place_of(from)) else {
            return;
        };
        if self.late_to.is_some() || !self.may_serve(from) {
            return;
        }
        // Only a peer is pinged on behalf of another node.
        if let (Party::Peer(_), Some(origin)) = (from, self.party_at(place)) {
            self.send_relay_reply(origin, from, request, true);
        }
    }

    fn send_relay_reply(&mut self, to: Party, target: Party, request: u64, alive: bool) {
        let reply = |echo, hold, target| Message::RelayReply { echo, hold, target, request, alive };
        self.send_to_run(to, What::Other, reply, target);
    }

    /// All others ask this node at most 64 times an interval each, and may do so about one and the same peer.
    pub(super) fn may_serve(&mut self, party: Party) -> bool {
        let limit = OWN + 2 * self.sessions.len();
        let served = match party {
            Party::Peer(peer) => &mut self.accounts[peer].inquiry.served,
            Party::Guest(guest) => &mut self.guests[guest].served,
        };
        served.take(limit, self.now, self.config.heartbeat_interval)
    }

    /// A relay's answer: the peer lived after the request was sent, and something of ours reached it. Of the link it
    /// says nothing.
    pub(super) fn relay_reply(&mut self, relay: Party, key: usize, target: Tag, request: u64, alive: bool) {
        let Some(about) = self.peer_of_tag(key, target) else { return };
        let named = What::About(about as u32);
        let asked = self.session(relay).sent(request).filter(|sent| sent.what == named);
        let Some(Departure { sealed: sent, left }) = asked.map(|sent| sent.departure) else { return };
        let relay = self.place_of(relay);
        let inquiry = &mut self.accounts[about].inquiry;
        let before = inquiry.open.len();
        inquiry.open.retain(|asked| *asked != (relay, request));
        let result = if alive { RelayResult::Answered } else { RelayResult::Rejected };
        self.stats.relays[result as usize] += (before - inquiry.open.len()) as u64;
        if !alive || self.accounts[about].left.is_some() {
            return;
        }
        let inquiry = &mut self.accounts[about].inquiry;
        inquiry.worked = Some(relay);
        inquiry.questions.answered();
        self.accounts[about].relayed = self.accounts[about].relayed.max(Some(sent));
        self.registry.at_mut(about).prove(sent);
        self.beats[about].relayed(sent, self.now);
        self.prove_life(about, left, None);
        let echoed = self.sessions[about].echoed_at();
        self.beats[about].settle(self.now, echoed);
        self.arm(about);
        self.refresh(about);
    }
}
