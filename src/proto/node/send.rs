//! The way out: sealing, numbering and queueing.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::guest::Party;
#[cfg(feature = "sim")]
use super::probe::Probes;
use super::views::OVERHEAD;
use super::{Node, Transmit};
use crate::proto::heartbeat::Role;
use crate::proto::messages::{LeaveReason, Message, More};
use crate::proto::mtu::SMALL;
use crate::proto::records::{Digest, Record};
use crate::proto::seal::{FrameKind, Header, Instance, NUMBER_LIMIT, SEAL_LEN, Tag, encode_varint};
use crate::proto::session::What;
use crate::proto::timer::{Time, micros};

/// The datagrams that wait for the shell: headers and plain bodies, end to end in one buffer that is reused. A datagram
/// is dated and sealed when the shell takes it.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    queue: VecDeque<Waiting>,
    limit: usize,
    /// When the first datagram was sealed since the shell last reported that all have left.
    sealing: Option<Time>,
    /// The run that the newest datagram was sealed to.
    #[cfg(feature = "sim")]
    sealed_to: Instance,
    /// Questions about takeovers and answers to them: those of the simulator's checker count apart.
    #[cfg(feature = "sim")]
    pub(super) probes: Probes,
}

/// One datagram that waits.
#[derive(Debug)]
struct Waiting {
    frame: Outgoing,
    /// Where it is in the buffer.
    start: usize,
    end: usize,
    header_len: usize,
    number: u64,
}

/// What a datagram needs to be sealed, beside its header and its message.
#[derive(Debug)]
struct Outgoing {
    transmit: Transmit,
    /// The place of the addressee.
    place: usize,
    /// The tag and the run that it is sealed to; `None`: a hello.
    to: Option<(Tag, Instance)>,
    /// The index of the key.
    key: usize,
    /// The sequence that it takes.
    sequence: u64,
    /// Where its body has the hold, and when what it echoes was received.
    hold: Option<(usize, Time)>,
    length: Length,
    /// Whether it asks or answers for how long others are silent.
    #[cfg(feature = "sim")]
    is_probe: bool,
}

/// How long a datagram may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Length {
    /// It is dropped if it is longer.
    AtMost(usize),
    /// It is padded to this length.
    Padded(usize),
}

impl From<usize> for Length {
    fn from(most: usize) -> Length {
        Length::AtMost(most)
    }
}

impl Outbox {
    /// Holds at most four datagrams a peer, and 64.
    pub(super) fn new(peers: usize) -> Outbox {
        let mut outbox = Outbox {
            bytes: Vec::with_capacity(2048),
            queue: VecDeque::new(),
            limit: 0,
            sealing: None,
            #[cfg(feature = "sim")]
            sealed_to: Instance(0),
            #[cfg(feature = "sim")]
            probes: Probes::default(),
        };
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

    /// Drops what waits: it cannot be sealed any more.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.bytes.clear();
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

    /// Writes the next datagram into `buf`, dated and not yet sealed.
    fn pop(&mut self, now: Time, buf: &mut Vec<u8>) -> Option<Waiting> {
        buf.clear();
        let waiting = self.queue.pop_front()?;
        let bytes = &self.bytes[waiting.start..waiting.end];
        match waiting.frame.hold {
            Some((at, received)) => {
                buf.extend_from_slice(&bytes[..at]);
                encode_varint(micros(now.since(received)), buf);
                // It was queued with a hold of 0.
                buf.extend_from_slice(&bytes[at + 1..]);
            }
            None => buf.extend_from_slice(bytes),
        }
        if let Length::Padded(len) = waiting.frame.length {
            Message::pad(buf, len);
        }
        if self.queue.is_empty() {
            self.bytes.clear();
        }
        Some(waiting)
    }

    /// Queues header and message. False if there is no room, or no number any more: a run that has used up all falls
    /// silent before it uses one twice.
    fn push(&mut self, mut frame: Outgoing, header: &Header, message: &Message) -> bool {
        if self.queue.len() >= self.limit || header.number >= NUMBER_LIMIT {
            return false;
        }
        self.make_room();
        let start = self.bytes.len();
        header.encode(&mut self.bytes);
        let header_len = self.bytes.len() - start;
        message.encode(&mut self.bytes);
        if let Some((at, _)) = &mut frame.hold {
            *at += header_len;
        }
        let (end, number) = (self.bytes.len(), header.number);
        self.queue.push_back(Waiting { frame, start, end, header_len, number });
        true
    }

    /// What was handed out goes once it is the larger part, for a shell that never drains the queue.
    fn make_room(&mut self) {
        let Some(gone) =
            self.queue.front().map(|first| first.start).filter(|gone| *gone > self.bytes.len() / 2)
        else {
            return;
        };
        self.bytes.drain(..gone);
        for waiting in &mut self.queue {
            (waiting.start, waiting.end) = (waiting.start - gone, waiting.end - gone);
        }
    }
}

/// A batch that leaves later than this after it was sealed left late: the system calls of a batch take less time.
const PROMPT: Duration = Duration::from_millis(20);

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
pub(super) enum AnswerLength {
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
    Ping(AnswerLength),
    /// A ping on behalf of another node: its tag, and its request.
    RelayPing(Tag, u64),
    /// A hello: who sent it, and its number.
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
            Asked::Hello(tag, instance, hello) => {
                self.send_welcome(party, question, (tag, instance, hello));
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
                let small = peer.is_some_and(|peer| self.pool.at_mut(peer).path.answers_small());
                let room = match length {
                    AnswerLength::Any if !small => usize::MAX,
                    // It is known by its padding.
                    AnswerLength::Padded => SMALL.min(self.config.max_datagram / 2),
                    _ => SMALL,
                };
                let mut more =
                    peer.filter(|_| confirmed).map_or_else(More::default, |peer| self.tell(peer, None, room));
                let number = self.session(party).upcoming();
                let padded = length == AnswerLength::Padded;
                let filled = padded.then(|| question.len.min(self.config.max_datagram));
                if let Some(peer) = peer {
                    let path = &mut self.pool.at_mut(peer).path;
                    more.padded = path.answers(number, padded, length == AnswerLength::AfterPadded);
                }
                // Guests have other rosters: nothing is compared.
                let digest = peer.map_or_else(Digest::default, |peer| self.records.digest(peer));
                let length = filled.map_or(Length::AtMost(limit), Length::Padded);
                self.send_bound(party, transmit, key, what, length, |echo, hold| match filled {
                    None => pong(echo, hold, digest, more),
                    Some(_) => Message::PongMore { echo, hold, digest, more },
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
        let ping = |echo, hold| Message::PingMore { echo, hold, digest, more };
        self.send_bound(peer, transmit, key, What::Ping, Length::Padded(limit), ping);
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
    pub(super) fn send_leave(&mut self, peer: usize, reason: LeaveReason, profile: Option<Box<Record>>) {
        let Some((transmit, key)) = self.way_to(Party::Peer(peer)) else { return };
        self.send_bound(peer, transmit, key, What::Other, usize::MAX, |echo, hold| Message::Leave {
            echo,
            hold,
            reason,
            profile,
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
        let frame = Outgoing {
            transmit: Transmit { to, from: None },
            place: self.places[peer],
            to: None,
            key,
            sequence,
            hold: None,
            length: Length::AtMost(usize::MAX),
            #[cfg(feature = "sim")]
            is_probe: false,
        };
        self.queue(frame, &header, &message);
    }

    fn send_welcome(
        &mut self,
        party: Party,
        question: &Question,
        (tag, instance, hello): (Tag, Instance, u64),
    ) {
        let (now, place) = (self.now, self.place_of(party));
        let number = self.session_mut(party).next_sequence(now, question.from, What::Other);
        let welcome = self.welcome(hello);
        self.queue_answer(place, number, question, (tag, instance), &welcome);
    }

    /// The answer to hello `number` of another run.
    pub(super) fn welcome(&self, number: u64) -> Message {
        Message::Welcome { echo: number + 1, hold: 0, server_id: self.server_id.clone() }
    }

    /// Queues an answer to a run that may not be confirmed, under this number.
    pub(super) fn queue_answer(
        &mut self,
        place: usize,
        number: u64,
        question: &Question,
        to: (Tag, Instance),
        message: &Message,
    ) {
        let key = question.key;
        let frame = Outgoing {
            transmit: Transmit { to: question.from, from: question.local },
            place,
            to: Some(to),
            key,
            sequence: number,
            hold: message.echo().map(|(echo, _)| (Message::hold_at(echo), question.received)),
            length: Length::AtMost(question.len),
            #[cfg(feature = "sim")]
            is_probe: false,
        };
        let header = bound(self.ring.id(key), (self.own_tags[key], self.instance), number);
        self.queue(frame, &header, message);
    }

    /// Queues a message to the peer's confirmed run; nothing without one. The message is made with a hold of 0, and
    /// gets the true one when it is sealed.
    pub(super) fn send_bound(
        &mut self,
        party: impl Into<Party>,
        transmit: Transmit,
        key: usize,
        what: What,
        length: impl Into<Length>,
        message: impl FnOnce(u64, u64) -> Message,
    ) {
        let party = party.into();
        let (now, place) = (self.now, self.place_of(party));
        let session = self.session_mut(party);
        let Some(run) = session.confirmed.as_ref().map(|confirmed| confirmed.instance) else { return };
        let number = session.next_sequence(now, transmit.to, what);
        let (mut echo, mut received) = session.echo();
        let mut message = message(echo, 0);
        if let (Party::Peer(peer), Some(more)) = (party, message.more()) {
            self.pool.at_mut(peer).path.reported(more.path);
        }
        if let Party::Peer(peer) = party
            && message.digest().is_some()
            && self.config.mechanisms.records
            && !self.records.is_reported(peer, message.records(), self.config.max_datagram - OVERHEAD)
        {
            message.drop_echo();
            (echo, received) = (0, None);
        }
        let session = self.session(party);
        let frame = Outgoing {
            transmit,
            place,
            to: Some((session.tags[key], run)),
            key,
            sequence: number,
            hold: received.map(|received| (Message::hold_at(echo), received)),
            length: length.into(),
            #[cfg(feature = "sim")]
            is_probe: matches!(message, Message::SilenceRequest { .. } | Message::SilenceReply { .. }),
        };
        let header = bound(self.ring.id(key), (self.own_tags[key], self.instance), number);
        self.queue(frame, &header, &message);
    }

    fn queue(&mut self, frame: Outgoing, header: &Header, message: &Message) {
        if !self.out.push(frame, header, message) {
            self.stats.outputs_dropped += 1;
        }
    }

    /// Dates and seals the next datagram that waits.
    pub(super) fn seal_next(&mut self, now: Time, buf: &mut Vec<u8>) -> Option<Transmit> {
        loop {
            let Waiting { frame, header_len, number, .. } = self.out.pop(now, buf)?;
            let len = buf.len() + SEAL_LEN;
            // The hold may have grown since it was queued.
            if matches!(frame.length, Length::AtMost(most) if len > most) {
                continue;
            }
            self.seal(&frame, header_len, number, buf);
            self.out.sealing.get_or_insert(now);
            #[cfg(feature = "sim")]
            (self.out.sealed_to = frame.to.map_or(Instance(0), |(_, run)| run));
            self.stats.datagrams_sent += 1;
            self.stats.sent_bytes += len as u64;
            #[cfg(feature = "sim")]
            if frame.is_probe {
                self.out.probes.sent += 1;
                self.out.probes.sent_bytes += len as u64;
            }
            if let Some(party) = self.met_at(frame.place) {
                self.session_mut(party).seal(frame.sequence, now);
                if let Party::Peer(peer) = party {
                    self.registry.at_mut(peer).add_bytes_sent(len as u64);
                }
            }
            return Some(frame.transmit);
        }
    }

    fn seal(&mut self, frame: &Outgoing, header_len: usize, number: u64, buf: &mut Vec<u8>) {
        let key = frame.key;
        let Some((tag, run)) = frame.to else {
            return self.hello_keys[key].seal_in_place(buf, 0, header_len, number);
        };
        let me = (self.own_tags[key], self.instance);
        let session = match self.met_at(frame.place) {
            Some(Party::Peer(peer)) => Some(&mut self.sessions[peer]),
            Some(Party::Guest(guest)) => Some(&mut self.guests[guest].session),
            None => None,
        };
        let confirmed = session.and_then(|session| session.confirmed.as_mut());
        match confirmed.filter(|confirmed| confirmed.instance == run) {
            Some(confirmed) => {
                confirmed.keys(&self.ring, key, me, tag).0.seal_in_place(buf, 0, header_len, number);
            }
            // Keys of unconfirmed instances are not cached.
            None => self.ring.frame_key(key, me, (tag, run)).seal_in_place(buf, 0, header_len, number),
        }
    }

    /// The peer or guest at a place, if there is one.
    fn met_at(&self, place: usize) -> Option<Party> {
        let guest = || self.guests.iter().position(|guest| guest.place == place).map(Party::Guest);
        self.peer_at(place).map(Party::Peer).or_else(guest)
    }

    /// The datagrams that were handed out since the last report have left by `now`. If that was long after they were
    /// sealed, the process stood still meanwhile, and nobody knows when they left.
    pub fn handle_sent(&mut self, now: Time) {
        let Some(first) = self.out.sealing.take().filter(|first| now.since(*first) > PROMPT) else { return };
        let guests = self.guests.iter_mut().map(|guest| &mut guest.session);
        self.sessions.iter_mut().chain(guests).for_each(|session| session.left_late(first, now));
    }

    /// The run that the datagram was sealed to that was handed out last; 0: a hello.
    #[cfg(feature = "sim")]
    pub(crate) fn sealed_to(&self) -> Instance {
        self.out.sealed_to
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
        let gap = self.accounts[peer].gap.filter(|(_, _, until)| self.now < *until);
        let held = gap.map(|(echo, came, _)| (echo, micros(self.now.since(came))));
        let mut more = More { spacing, since_slot, paused, lost, records, held, ..More::default() };
        let (long, follows) = (self.is_long(&more), self.beats[peer].role == Role::Follower);
        let path = &mut self.pool.at_mut(peer).path;
        if long {
            path.is_used(follows);
        }
        more.path = path.report();
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
