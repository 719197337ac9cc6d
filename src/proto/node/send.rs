//! The way out: sealing, numbering and queueing.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::guest::Party;
use super::{Node, Transmit};
use crate::proto::messages::{Message, More};
use crate::proto::mtu::SMALL;
use crate::proto::records::Digest;
use crate::proto::seal::{FrameKey, FrameKind, Header, Instance, NUMBER_LIMIT, Tag};
use crate::proto::session::What;
use crate::proto::timer::{Time, micros};

/// What waits to be handed to the shell: sealed datagrams, end to end in one buffer that is reused.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    queue: VecDeque<(Transmit, usize, usize)>,
    limit: usize,
}

impl Outbox {
    /// Holds at most four datagrams a peer, and 64.
    pub(super) fn new(peers: usize) -> Outbox {
        let mut outbox = Outbox { bytes: Vec::with_capacity(2048), queue: VecDeque::new(), limit: 0 };
        outbox.serve(peers);
        outbox
    }

    /// There are so many peers now.
    pub(super) fn serve(&mut self, peers: usize) {
        self.limit = 4 * peers + 64;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    #[cfg(test)]
    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn held(&self) -> usize {
        self.bytes.len()
    }

    /// The most bytes that wait, and as many that were handed out, with datagrams of `longest` bytes.
    #[cfg(feature = "sim")]
    pub(super) fn most_held(&self, longest: usize) -> usize {
        2 * (self.limit + 1) * longest
    }

    pub(super) fn pop(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        buf.clear();
        let (transmit, start, end) = self.queue.pop_front()?;
        buf.extend_from_slice(&self.bytes[start..end]);
        if self.queue.is_empty() {
            self.bytes.clear();
        }
        Some(transmit)
    }

    /// Seals header and message; answers the datagram's length, or `None` if there is no room for it, or no number any
    /// more: a run that has used up all falls silent before it uses one twice.
    fn push(
        &mut self,
        transmit: Transmit,
        header: &Header,
        message: &Message,
        key: &FrameKey,
    ) -> Option<usize> {
        if self.queue.len() >= self.limit || header.number >= NUMBER_LIMIT {
            return None;
        }
        self.make_room();
        let start = self.bytes.len();
        header.encode(&mut self.bytes);
        let header_len = self.bytes.len() - start;
        message.encode(&mut self.bytes);
        key.seal_in_place(&mut self.bytes, start, header_len, header.number);
        let end = self.bytes.len();
        self.queue.push_back((transmit, start, end));
        Some(end - start)
    }

    /// What was handed out goes once it is the larger part, for a shell that never drains the queue.
    fn make_room(&mut self) {
        let Some(gone) = self.queue.front().map(|first| first.1).filter(|gone| *gone > self.bytes.len() / 2)
        else {
            return;
        };
        self.bytes.drain(..gone);
        for (_, start, end) in &mut self.queue {
            (*start, *end) = (*start - gone, *end - gone);
        }
    }

    /// Takes the newest datagram back.
    fn unpush(&mut self) {
        if let Some((_, start, _)) = self.queue.pop_back() {
            self.bytes.truncate(start);
        }
    }
}

/// Who is owed more than a datagram holds is told the rest in this share of an interval, over and over.
const REST: u32 = 5;

/// Who asked what, from where: where the answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) from: SocketAddr,
    pub(super) local: Option<IpAddr>,
    /// The key it used; the answer uses it too.
    pub(super) key: usize,
    /// Its length: to an unconfirmed address no answer is longer.
    pub(super) len: usize,
    pub(super) received: Time,
    pub(super) what: Asked,
}

/// How long the answer to a ping is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// As long as what there is to report.
    Any,
    /// At most [`SMALL`].
    Small,
    /// Small, to the try that follows a padded one.
    AfterPadded,
    /// Padded to the length of the ping, so that a padded ping tries both directions.
    Padded,
}

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// A ping, and how long its answer is.
    Ping(Length),
    /// A ping on behalf of another node: its tag, and its request.
    RelayPing(Tag, u64),
    /// A hello: who sent it, and the sequence it took.
    Hello(Tag, Instance, u64),
}

impl Node {
    /// Answers with a Pong, or a hello with a Welcome.
    pub(super) fn answer(&mut self, party: Party, question: &Question) {
        let transmit = Transmit { to: question.from, from: question.local };
        let (peer, address) = match party {
            Party::Peer(peer) => (Some(peer), self.pool.at(peer).remote_address),
            Party::Guest(guest) => (None, self.guests[guest].address),
        };
        let confirmed = address == Some(question.from);
        let limit = if confirmed { usize::MAX } else { question.len };
        let (key, what) = (question.key, What::Other);
        match question.what {
            Asked::Hello(tag, instance, sequence) => {
                self.send_welcome(party, question, (tag, instance, sequence));
            }
            Asked::RelayPing(origin, request) => {
                self.send_bound(party, transmit, key, what, limit, |echo, hold| Message::RelayPong {
                    echo,
                    hold,
                    origin,
                    request,
                });
            }
            Asked::Ping(length) => {
                let room = if length == Length::Any { usize::MAX } else { SMALL };
                let mut more =
                    peer.filter(|_| confirmed).map_or_else(More::default, |peer| self.tell(peer, None, room));
                let number = self.session(party).upcoming();
                let mut filled = 0;
                if let Some(peer) = peer {
                    let path = &mut self.pool.at_mut(peer).path;
                    more.padded =
                        path.answers(number, length == Length::Padded, length == Length::AfterPadded);
                    if length == Length::Padded {
                        filled = question.len.min(self.config.max_datagram);
                    }
                }
                // Guests have other rosters: nothing is compared.
                let digest = peer.map_or_else(Digest::default, |peer| self.records.digest(peer));
                self.send_bound(party, transmit, key, what, limit, |echo, hold| match filled {
                    0 => pong(echo, hold, digest, more),
                    _ => {
                        Message::PongMore { echo, hold, digest, more }.padded(Header::len_of(number), filled)
                    }
                });
            }
        }
    }

    /// A heartbeat's first ping. It is padded to the limit when its turn has come, or if it is long anyway; one that
    /// cannot be spared is small.
    pub(super) fn send_first_ping(
        &mut self,
        peer: usize,
        to: SocketAddr,
        key: usize,
        since_slot: Option<Duration>,
    ) {
        let echoed = self.pool.at(peer).attempt_count == 0;
        let spare = self.beats[peer].can_spare() && echoed;
        let number = self.sessions[peer].upcoming();
        let due = self.pool.at_mut(peer).path.is_due(number, spare);
        let room = if spare { usize::MAX } else { SMALL };
        let more = self.tell(peer, since_slot, room);
        let long = spare && self.is_long(&more);
        if !due && !long {
            return self.send_ping_of(peer, to, key, more);
        }
        let limit = self.config.max_datagram;
        self.pool.at_mut(peer).path.padded(number);
        self.beats[peer].spare();
        let (transmit, digest) = (Transmit { to, from: None }, self.records.digest(peer));
        self.send_bound(peer, transmit, key, What::Ping, usize::MAX, |echo, hold| {
            Message::PingMore { echo, hold, digest, more }.padded(Header::len_of(number), limit)
        });
    }

    /// A ping beside the first: small, since it stands in for one that may have been lost for its length.
    pub(super) fn send_ping(
        &mut self,
        peer: usize,
        to: SocketAddr,
        key: usize,
        since_slot: Option<Duration>,
    ) {
        let padded = self.pool.at_mut(peer).path.retried(self.sessions[peer].upcoming());
        let more = More { padded, ..self.tell(peer, since_slot, SMALL) };
        self.send_ping_of(peer, to, key, more);
    }

    /// A ping for the sake of the records that its neighbour is owed, and of those that come with the answer.
    pub(super) fn tell_rest(&mut self, peer: usize) {
        self.accounts[peer].rest_at = None;
        let way = self.way_to(Party::Peer(peer)).filter(|_| self.records.is_present(peer));
        let Some((Transmit { to, .. }, key)) = way else { return };
        let since_slot = self.beats[peer].since_slot(self.now);
        let more = self.tell(peer, Some(since_slot), usize::MAX);
        if !more.records.is_empty() {
            self.send_ping_of(peer, to, key, more);
        }
    }

    /// A ping to `to`: the idle form unless there is something to tell.
    fn send_ping_of(&mut self, peer: usize, to: SocketAddr, key: usize, more: More) {
        let transmit = Transmit { to, from: None };
        let digest = self.records.digest(peer);
        self.send_bound(peer, transmit, key, What::Ping, usize::MAX, |echo, hold| {
            if more == More::default() {
                Message::Ping { echo, hold, digest }
            } else {
                Message::PingMore { echo, hold, digest, more }
            }
        });
    }

    /// Tells every other peer with a confirmed run that `refused`'s host refuses.
    pub(super) fn push_refused(&mut self, refused: usize) {
        for peer in 0..self.sessions.len() {
            let Some((transmit, key)) = self.way_to(Party::Peer(peer)).filter(|_| peer != refused) else {
                continue;
            };
            let Some(&tag) = self.sessions[refused].tags.get(key) else { continue };
            let more = More { refused: vec![tag], ..self.tell(peer, None, SMALL) };
            let digest = self.records.digest(peer);
            self.send_bound(peer, transmit, key, What::Other, usize::MAX, |echo, hold| {
                pong(echo, hold, digest, more)
            });
        }
    }

    /// Somebody is newly Down, or back: all neighbours are told at once, if that does not reach everybody by itself.
    pub(super) fn push_news(&mut self) {
        let early = self.now.since(self.news.pushed) < self.push_pause();
        if early || !std::mem::take(&mut self.news.urgent) || self.others.is_empty() {
            return;
        }
        self.push_to_all();
    }

    /// Tells all neighbours what they are owed.
    pub(super) fn push_to_all(&mut self) {
        self.news.pushed = self.now;
        for peer in 0..self.sessions.len() {
            let Some((transmit, key)) = self.way_to(Party::Peer(peer)) else { continue };
            let more = self.tell(peer, None, usize::MAX);
            if more.records.is_empty() {
                continue;
            }
            let digest = self.records.digest(peer);
            self.send_bound(peer, transmit, key, What::Other, usize::MAX, |echo, hold| {
                pong(echo, hold, digest, more)
            });
        }
    }

    /// A Leave to `peer`, if it has a confirmed run.
    pub(super) fn send_leave(&mut self, peer: usize, reason: crate::proto::LeaveReason) {
        let Some((transmit, key)) = self.way_to(Party::Peer(peer)) else { return };
        self.send_bound(peer, transmit, key, What::Other, usize::MAX, |echo, hold| Message::Leave {
            echo,
            hold,
            reason,
        });
    }

    /// A hello to `to`, under key `key`.
    pub(super) fn send_hello(&mut self, peer: usize, to: SocketAddr, key: usize) {
        let number = self.hello_number;
        self.hello_number += 1;
        let sequence = self.sessions[peer].next_sequence(self.now, to, What::Hello(number));
        let header = Header {
            kind: FrameKind::Hello,
            key_id: self.ring.id(key),
            sender: self.own_tags[key],
            instance: self.instance,
            number,
        };
        let message = Message::hello(header.len(), sequence, &self.server_id);
        let sent = self.out.push(Transmit { to, from: None }, &header, &message, &self.hello_keys[key]);
        self.note_sent(Party::Peer(peer), sent);
    }

    fn send_welcome(
        &mut self,
        party: Party,
        question: &Question,
        (tag, instance, sequence): (Tag, Instance, u64),
    ) {
        let key = question.key;
        let me = (self.own_tags[key], self.instance);
        let session = match party {
            Party::Peer(peer) => &mut self.sessions[peer],
            Party::Guest(guest) => &mut self.guests[guest].session,
        };
        let number = session.next_sequence(self.now, question.from, What::Other);
        let header = bound(self.ring.id(key), me, number);
        let message = Message::Welcome {
            echo: sequence + 1,
            hold: micros(self.now.since(question.received)),
            server_id: self.server_id.clone(),
        };
        // Keys of unconfirmed instances are not cached.
        let frame_key = self.ring.frame_key(key, me, (tag, instance));
        let transmit = Transmit { to: question.from, from: question.local };
        let sent = self.out.push(transmit, &header, &message, &frame_key);
        self.note_sent(party, sent);
    }

    /// Seals a message to the peer's confirmed run; nothing without one. `limit`: drop it when it is longer.
    pub(super) fn send_bound(
        &mut self,
        party: impl Into<Party>,
        transmit: Transmit,
        key: usize,
        what: What,
        limit: usize,
        message: impl FnOnce(u64, u64) -> Message,
    ) {
        let party = party.into();
        let session = match party {
            Party::Peer(peer) => &mut self.sessions[peer],
            Party::Guest(guest) => &mut self.guests[guest].session,
        };
        if session.confirmed.is_none() {
            return;
        }
        let number = session.next_sequence(self.now, transmit.to, what);
        let (echo, hold) = session.echo(self.now);
        let me = (self.own_tags[key], self.instance);
        let header = bound(self.ring.id(key), me, number);
        let tag = session.tags[key];
        let confirmed = session.confirmed.as_mut().expect("it was checked above");
        let (seal, _) = confirmed.keys(&self.ring, key, me, tag);
        let sent = self.out.push(transmit, &header, &message(echo, hold), seal);
        if sent.is_some_and(|len| len > limit) {
            self.out.unpush();
        } else {
            self.note_sent(party, sent);
        }
    }

    fn note_sent(&mut self, party: Party, sent: Option<usize>) {
        match sent {
            Some(len) => {
                self.stats.datagrams_sent += 1;
                self.stats.sent_bytes += len as u64;
                if let Party::Peer(peer) = party {
                    self.registry.at_mut(peer).add_bytes_sent(len as u64);
                }
            }
            None => self.stats.outputs_dropped += 1,
        }
    }

    /// What there is to tell `peer` beside the idle form, in a datagram of `room` bytes at most.
    fn tell(&mut self, peer: usize, since_slot: Option<Duration>, room: usize) -> More {
        // At most so long, also while this node is isolated and does not back off: that may end before the next ping.
        let spacing = self.beats[peer].spacing_to_tell();
        let paused =
            self.pause_to_tell().map_or(0, |length| u32::try_from(length.as_millis()).unwrap_or(u32::MAX));
        let since_slot = since_slot.map(|d| u32::try_from(micros(d)).unwrap_or(u32::MAX));
        let lost = self.sessions[peer].confirmed.as_ref().map_or(0, |c| c.loss.lost());
        let records = self.records_for(peer, room);
        // It is one more try of what a heartbeat tells, and goes with the others.
        let again = self.records.has_more(peer) && self.config.mechanisms.retries;
        if again && self.accounts[peer].rest_at.is_none() {
            self.accounts[peer].rest_at = Some(self.now + self.config.heartbeat_interval / REST);
        }
        let narrow = self.pool.at(peer).path.is_found();
        let more = More { spacing, since_slot, paused, lost, records, narrow, ..More::default() };
        if self.is_long(&more) {
            self.pool.at_mut(peer).path.is_used();
        }
        more
    }
}

fn bound(key_id: u8, (sender, instance): (Tag, Instance), number: u64) -> Header {
    Header { kind: FrameKind::Bound, key_id, sender, instance, number }
}

fn pong(echo: u64, hold: u64, digest: Digest, more: More) -> Message {
    if more == More::default() {
        Message::Pong { echo, hold, digest }
    } else {
        Message::PongMore { echo, hold, digest, more }
    }
}
