//! The way of a datagram in: the order of checks, then what it means.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Node;
use super::drive::SPREAD;
use super::guest::Party;
use super::send::{AnswerLength, Asked, Question};
use crate::proto::config::PeerConfig;
use crate::proto::event::Change;
use crate::proto::heartbeat::Role;
use crate::proto::messages::{LeaveReason, Message, More, PathReport};
use crate::proto::mtu::{PERIOD, SMALL};
use crate::proto::seal::{FrameKind, Header, Instance, NUMBER_LIMIT, Tag, leads};
use crate::proto::server_id::ServerId;
use crate::proto::session::Echo;
use crate::proto::stats::Reject;
use crate::proto::timer::{Time, micros};

/// How long a peer's verdict stays `conflict` after another process spoke under its id.
const CONFLICT: Duration = Duration::from_secs(60);
/// A new instance is drawn at most so often.
const ROLLBACK: Duration = Duration::from_secs(60);

/// A datagram on its way in, as far as it was checked.
pub(super) struct Frame<'a> {
    pub(super) header: Header,
    pub(super) header_len: usize,
    /// The index of its key.
    pub(super) key: usize,
    pub(super) bytes: &'a mut [u8],
    pub(super) from: SocketAddr,
    pub(super) local: Option<IpAddr>,
    pub(super) received: Time,
}

impl Node {
    /// The checks, in order. Before the seal holds nothing is kept, moved or answered.
    pub(super) fn receive(
        &mut self,
        from: SocketAddr,
        local: Option<IpAddr>,
        bytes: &mut [u8],
        received: Time,
    ) -> Result<(), Reject> {
        if bytes.len() > self.config.max_datagram {
            return Err(Reject::Size);
        }
        let (header, header_len) = Header::parse(bytes).inspect_err(|reason| {
            if *reason == Reject::Version {
                self.note_foreign(from, |account| &mut account.foreign_versions);
            }
        })?;
        if !is_possible_source(from) {
            return Err(Reject::Source);
        }
        if header.instance == self.instance && self.own_tags.contains(&header.sender) {
            return Err(Reject::Own);
        }
        let Some(key) = self.ring.index_of_id(header.key_id) else {
            self.note_foreign(from, |account| &mut account.foreign_keys);
            return Err(Reject::KeyId);
        };
        let frame = Frame { header, header_len, key, bytes, from, local, received };
        if header.sender == self.own_tags[key] {
            return self.receive_from_twin(frame);
        }
        // An unknown tag goes on only from a roster address without id.
        let nameless = |peer: &usize| self.sessions[*peer].tags.is_empty();
        let place = self.place_of_tag(key, header.sender);
        let known = match place {
            Some(place) => self.peer_at(place),
            None => self.by_address.get(&from).copied().filter(nameless),
        };
        let Some(peer) = known else {
            return match place {
                Some(place) => self.receive_from_guest(place, frame),
                None => Err(self.note_stranger(frame)),
            };
        };
        match header.kind {
            FrameKind::Hello => self.receive_hello(peer, frame),
            FrameKind::Bound => self.receive_bound(peer, frame),
        }
    }

    /// A hello proves nothing: it can be a recording. A Welcome answers it.
    fn receive_hello(&mut self, peer: usize, mut frame: Frame<'_>) -> Result<(), Reject> {
        let (key, Header { sender, instance, number, .. }) = (frame.key, frame.header);
        let body = self.open_hello(&mut frame)?;
        if let Some(reason) = self.sessions[peer].refuses_hello(instance, number, self.now) {
            return Err(reason);
        }
        let sequence = self.read_hello(key, sender, body)?;
        self.sessions[peer].note_welcome(instance, number, self.now);
        self.registry.at_mut(peer).add_bytes_received(frame.bytes.len() as u64);
        if let Some(confirmed) = self.sessions[peer].confirmed.as_mut().filter(|c| c.instance == instance) {
            confirmed.note_hello(sequence);
        }
        self.answer_or_defer(peer, frame.question(Asked::Hello(sender, instance, number)));
        Ok(())
    }

    /// Opens a hello that its header's sender sealed; answers its body.
    pub(super) fn open_hello<'a>(&self, frame: &'a mut Frame<'_>) -> Result<&'a [u8], Reject> {
        let Header { sender, instance, number, .. } = frame.header;
        let key = self.ring.frame_key(frame.key, (sender, instance), (Tag::default(), Instance(0)));
        Ok(key.open_in_place(frame.bytes, frame.header_len, number)?)
    }

    /// The sequence that a hello took.
    pub(super) fn read_hello(&self, key: usize, sender: Tag, body: &[u8]) -> Result<u64, Reject> {
        let Message::Hello { sequence, server_id, .. } = Message::decode(body)? else {
            return Err(Reject::Meaning);
        };
        if self.ring.tag(key, server_id.as_str()) != sender || sequence >= NUMBER_LIMIT {
            return Err(Reject::Meaning);
        }
        Ok(sequence)
    }

    fn receive_bound(&mut self, peer: usize, frame: Frame<'_>) -> Result<(), Reject> {
        let Header { sender, instance, number, .. } = frame.header;
        let (len, key) = (frame.bytes.len(), frame.key);
        let me = (self.own_tags[key], self.instance);
        let session = &mut self.sessions[peer];
        let message = match session.confirmed.as_mut().filter(|c| c.instance == instance) {
            Some(confirmed) => {
                let (_, open) = confirmed.keys(&self.ring, key, me, sender);
                let body = open.open_in_place(frame.bytes, frame.header_len, number)?;
                if !confirmed.is_new(number) {
                    return Err(Reject::Replay);
                }
                Message::decode(body)?
            }
            None => {
                let open = self.ring.frame_key(key, (sender, instance), me);
                let body = open.open_in_place(frame.bytes, frame.header_len, number)?;
                // What cannot be read confirms no instance.
                let message = Message::decode(body).map_err(|_| Reject::Instance)?;
                if !self.admit(peer, &frame, &message)? {
                    return Ok(());
                }
                message
            }
        };
        self.accept(peer, &frame, len, message)
    }

    /// An authentic frame from an instance that is not the confirmed one: confirms it, if it echoes what we sent
    /// since the present one was confirmed. False: there is nothing more to do with it.
    fn admit(&mut self, peer: usize, frame: &Frame<'_>, message: &Message) -> Result<bool, Reject> {
        let instance = frame.header.instance;
        let Some((echo, hold)) = self.echo_of(peer, message) else { return Err(Reject::Instance) };
        let session = &self.sessions[peer];
        if let Some(replaced) = session.replaced_at(instance) {
            if matches!(message, Message::Leave { .. }) && session.known == Some(instance) {
                return Ok(false); // Leave is sent three times.
            }
            // It lives if it says something that is dated after its end, even if it was said to have left.
            if let Echo::Dated { date, .. } = session.read_echo(echo, hold, frame.received)
                && date > replaced + self.config.heartbeat_interval
            {
                self.accounts[peer].conflict_until = Some(self.now + CONFLICT);
                self.refresh(peer);
            }
            return Err(Reject::Instance);
        }
        if !session.confirms(echo) {
            if session.read_echo(echo, hold, frame.received) == Echo::NeverSent {
                self.rolled_back(peer);
            }
            return Err(Reject::Instance);
        }
        if session.tags.is_empty() {
            self.learn(peer, frame, message)?;
        }
        self.confirm(peer, instance, frame.key);
        Ok(true)
    }

    /// The echo of a message from `peer` as a sequence of the pair, plus one, and the hold. A Welcome echoes the number of
    /// a hello, and that was given to one entry alone: `None` if the hello went to another one, or is forgotten.
    fn echo_of(&self, peer: usize, message: &Message) -> Option<(u64, u64)> {
        let (echo, hold) = message.echo()?;
        if !matches!(message, Message::Welcome { .. }) {
            return Some((echo, hold));
        }
        let number = echo.checked_sub(1)?;
        if number >= self.hello_number {
            // This run never sent it, and neither did it send the last sequence of the pair.
            return Some((u64::MAX, hold));
        }
        Some((self.sessions[peer].hello(number)? + 1, hold))
    }

    /// An id missing in the roster is learned only from a Welcome to our own hello.
    fn learn(&mut self, peer: usize, frame: &Frame<'_>, message: &Message) -> Result<(), Reject> {
        let Message::Welcome { server_id, .. } = message else { return Err(Reject::Instance) };
        if self.ring.tag(frame.key, server_id.as_str()) != frame.header.sender
            || self.registry.get_peer(server_id.as_str()).is_some()
        {
            return Err(Reject::Meaning);
        }
        self.sessions[peer].tags = self.learn_tags(self.places[peer], server_id.as_str())?;
        self.registry.at_mut(peer).server_id = server_id.as_str().into();
        self.pool.at_mut(peer).server_id = server_id.as_str().into();
        self.note_member_id(self.places[peer]);
        Ok(())
    }

    fn confirm(&mut self, peer: usize, instance: Instance, key: usize) {
        let restarted = self.sessions[peer].confirm(instance, self.ring.len(), key, self.now);
        let leader = leads(pair_tag(&self.config.server_id), pair_tag(&self.registry.at(peer).server_id));
        self.beats[peer].role = if leader { Role::Leader } else { Role::Follower };
        self.beats[peer].met();
        if leader {
            let phase = self.rng_below(PERIOD.into()) as u16;
            self.pool.at_mut(peer).path.begin(phase);
        }
        self.records.meet_run(peer);
        self.offers.turn += 1;
        let account = &mut self.accounts[peer];
        (account.left, account.returned) = (None, None);
        // What an earlier run echoed proves nothing of this one.
        account.echoed = None;
        if restarted {
            account.paused = None;
            account.restarts += 1;
            self.stats.restarts += 1;
            self.tell_restart(peer, instance);
        }
        // A run that left is not confirmed again, not even by the next run of this node: this one is newer.
        self.note_return(peer);
    }

    /// A new datagram of the confirmed run: evidence, and what it says.
    fn accept(&mut self, peer: usize, frame: &Frame<'_>, len: usize, message: Message) -> Result<(), Reject> {
        let Some((echo, hold)) = self.echo_of(peer, &message) else { return Err(Reject::Meaning) };
        if let Message::Welcome { server_id, .. } = &message
            && !self.is_id_of(peer, server_id)
        {
            return Err(Reject::Meaning);
        }
        let read = self.sessions[peer].read_echo(echo, hold, frame.received);
        if read == Echo::NeverSent {
            self.rolled_back(peer);
            return Err(Reject::Meaning);
        }
        let confirmed =
            self.sessions[peer].confirmed.as_mut().expect("only frames of a confirmed run come here");
        let (number, padded) = (frame.header.number, message.more().map_or(0, |more| more.padded.into()));
        if let Some(padded) = number.checked_sub(padded).filter(|padded| *padded < number) {
            // What is lost for its length is no loss.
            confirmed.loss.came(padded);
        }
        let before = confirmed.newest();
        let newest = confirmed.note(number, frame.key, frame.received);
        let horizon = self.config.proof_horizon();
        if let Some((echo, came)) = before.filter(|(_, came)| newest && frame.received.since(*came) > horizon)
        {
            self.accounts[peer].gap = Some((echo + 1, came, self.now + horizon));
        }
        if let Some(lost) = message.lost().filter(|_| newest) {
            confirmed.loss.told(lost);
            let path = &mut self.pool.at_mut(peer).path;
            path.told(message.more().map_or(PathReport::Untold, |more| more.path));
        }
        self.registry.at_mut(peer).add_bytes_received(len as u64);
        self.note_heard(frame.received);
        self.note_heard_of(peer);
        if let Message::Leave { reason, .. } = message {
            self.peer_left(peer, reason);
            self.meet(peer, &message);
            return Ok(());
        }
        self.note_echo(peer, read, (echo, hold), &message, frame);
        self.note_evidence(peer, read, newest, &message);
        self.note_message(peer, frame, message);
        self.arm(peer);
        self.refresh(peer);
        Ok(())
    }

    /// What the message asks for, or tells, beside being evidence.
    fn note_message(&mut self, peer: usize, frame: &Frame<'_>, message: Message) {
        let (key, party) = (frame.key, Party::Peer(peer));
        #[cfg(feature = "sim")]
        if matches!(message, Message::SilenceRequest { .. } | Message::SilenceReply { .. }) {
            self.out.probes.received += 1;
        }
        let ask = |node: &mut Node, what| node.answer_or_defer(peer, frame.question(what));
        self.meet(peer, &message);
        match &message {
            Message::Ping { .. } => ask(self, Asked::Ping(AnswerLength::Any)),
            Message::PingMore { more, .. } => {
                // Long answers are as likely to be lost as long pings, and one that came shows that the path is wide.
                let wide = frame.bytes.len() > SMALL;
                let length = match () {
                    () if !more.padding.is_empty() => AnswerLength::Padded,
                    () if more.padded > 0 => AnswerLength::AfterPadded,
                    () if more.since_slot.is_some() && !wide => AnswerLength::Small,
                    () => AnswerLength::Any,
                };
                ask(self, Asked::Ping(length));
            }
            Message::RelayPing { origin, request, .. } => {
                if let Some(origin) = self.peer_of_tag(key, *origin) {
                    self.note_heard_of(origin);
                }
                ask(self, Asked::RelayPing(*origin, *request));
            }
            Message::RelayRequest { target, .. } => {
                self.relay_request(party, key, *target, frame.header.number);
            }
            Message::RelayPong { origin, request, .. } => self.relay_pong(party, key, *origin, *request),
            Message::RelayReply { target, request, alive, .. } => {
                self.relay_reply(party, key, *target, *request, *alive);
            }
            Message::SilenceRequest { targets, .. } => {
                self.silence_request(peer, key, targets, frame.header.number);
            }
            Message::SilenceReply { request, silent, .. } => self.silence_reply(peer, key, *request, silent),
            Message::Welcome { .. } => self.after_welcome(peer, key),
            Message::SyncRequest { bucket, after, .. } => self.sync_request(party, *bucket, *after),
            Message::SyncResponse { bucket, after, last, records, .. } => {
                self.sync_response(peer, *bucket, *after, *last, records);
            }
            Message::PongMore { more, .. } if !more.padding.is_empty() => {
                self.pool.at_mut(peer).path.passed();
            }
            Message::Hello { .. }
            | Message::Pong { .. }
            | Message::PongMore { .. }
            | Message::Leave { .. } => {}
        }
        if let Message::PingMore { more, .. } | Message::PongMore { more, .. } = &message {
            self.note_told(peer, key, more);
        }
    }

    /// Who confirms by a Welcome pings at once: that confirms us at the peer. It goes to the confirmed address,
    /// wherever the Welcome came from.
    fn after_welcome(&mut self, peer: usize, key: usize) {
        if self.late_to.is_some() {
            let wait = SPREAD.mul_f64(self.share());
            self.beats[peer].probe_at(self.now + wait, self.now);
        } else if let Some(to) = self.pool.at(peer).remote_address {
            let slot = self.beats[peer].since_slot(self.now);
            self.send_ping(peer, to, key, Some(slot));
        }
    }

    fn is_id_of(&self, peer: usize, server_id: &ServerId) -> bool {
        *self.registry.at(peer).server_id == *server_id.as_str()
    }

    /// What the echo proves of the link: round trip, address, two-way proof.
    fn note_echo(
        &mut self,
        peer: usize,
        read: Echo,
        (echo, hold): (u64, u64),
        message: &Message,
        frame: &Frame<'_>,
    ) {
        let Echo::Dated { departure, to, newest, .. } = read else { return };
        self.records.echoed(peer, echo.saturating_sub(1));
        let slept = message.more().is_some_and(|more| more.paused > 0);
        self.pool.at_mut(peer).path.echoed(echo.saturating_sub(1), slept);
        let elapsed = frame.received.since(departure.sealed);
        let is_true = self.check_clock(peer, elapsed, hold) && self.check_held(peer, message, frame.received);
        // Only pings and pongs are sure to come with the peer's newest report, or after it: nothing else proves anything for
        // the guard. A peer takes a hello for nothing, so its Welcome least of all.
        match message.digest() {
            _ if !is_true => {}
            Some(_) => self.prove(peer, departure.sealed),
            None => self.registry.at_mut(peer).prove(departure.sealed),
        }
        if !newest {
            return;
        }
        self.sessions[peer].note_echo(echo, departure);
        let sent = departure.sealed;
        let there = micros(frame.received.since(sent));
        // For a datagram sent before a stall it is unknown when it left and, without the kernel's stamps, when its echo
        // came.
        let stood_still =
            departure.left > sent || self.late_to.is_some() || self.stall.is_some_and(|(end, _)| sent < end);
        if let Some(rtt) = there.checked_sub(hold).filter(|_| !stood_still).map(Duration::from_micros) {
            if self.round_trips.len() == super::ROUND_TRIPS {
                self.round_trips.pop_front();
            }
            self.round_trips.push_back(rtt);
            let theirs = PeerConfig::longest_laziness(self.config.heartbeat_timeout);
            let lazy = self.config.laziness() + theirs;
            let connection = self.pool.at_mut(peer);
            connection.round_trip.sample(rtt);
            self.beats[peer].retry = connection.round_trip.retry_time(self.config.heartbeat_timeout, lazy);
        }
        // A late echo of any try of the last three slots clears the count.
        if self.now.since(sent) <= self.config.heartbeat_interval * 3 {
            self.news.changed |= self.is_silent(peer);
            self.pool.at_mut(peer).mark_active();
        }
        let before = self.pool.at(peer).remote_address;
        if to == Some(frame.from) && before != Some(frame.from) {
            self.set_remote(peer, frame.from);
            self.tell_address(peer, before, frame.from);
        }
    }

    /// What the date proves of the peer's life, and, of a leader's ping, where the slots stand.
    fn note_evidence(&mut self, peer: usize, read: Echo, newest: bool, message: &Message) {
        let Echo::Dated { date, .. } = read else { return };
        let more = message.more();
        // Only pings and pongs tell of it.
        let told = match message {
            Message::Ping { .. } | Message::Pong { .. } => Some(0),
            _ => more.map(|more| more.spacing),
        };
        let told = told.filter(|_| newest);
        let account = &mut self.accounts[peer];
        account.direct = account.direct.max(Some(date));
        account.direct_spacing = told.unwrap_or(account.direct_spacing);
        self.prove_life(peer, date, told);
        let echoed = self.sessions[peer].echoed_at();
        if matches!(message, Message::Ping { .. } | Message::PingMore { .. }) {
            let since = more.and_then(|m| m.since_slot).unwrap_or(0);
            let since = Duration::from_micros(since.into());
            self.beats[peer].follow(date - since, self.now, echoed);
        }
        self.beats[peer].settle(self.now, echoed);
    }

    /// The peer lived at `date`. `covers`: the spacing that its datagram announced, if that is its newest.
    pub(super) fn prove_life(&mut self, peer: usize, date: Time, covers: Option<u8>) {
        let beat = &mut self.beats[peer];
        beat.evidence(date, covers, self.now);
        let missed = beat.missed();
        self.registry.at_mut(peer).evidence(date, missed, self.config.thresholds());
    }

    /// What the peer told beside.
    fn note_told(&mut self, peer: usize, key: usize, more: &More) {
        // A short pause explains a late answer; only one that may cost heartbeats is worth a word.
        let paused = Duration::from_millis(more.paused.into());
        if paused >= self.config.heartbeat_interval {
            self.accounts[peer].paused = Some((paused, self.now));
        }
        for tag in &more.refused {
            let Some(other) = self.peer_of_tag(key, *tag) else { continue };
            if other != peer {
                self.told_refused(other);
            }
        }
    }

    fn peer_left(&mut self, peer: usize, reason: LeaveReason) {
        self.sessions[peer].end(self.now);
        self.beats[peer].left(self.now);
        self.registry.at_mut(peer).status = crate::proto::PeerStatus::Down;
        self.registry.at_mut(peer).proof = None;
        (self.accounts[peer].left, self.accounts[peer].returned) = (Some((reason, self.now)), None);
        self.tell_left(peer, reason, "it said");
        self.arm(peer);
        self.refresh(peer);
    }

    /// An echo of a sequence we never sent: we are a clone, or were rolled back.
    fn rolled_back(&mut self, peer: usize) {
        if self.last_rollback.is_none_or(|at| self.now.since(at) >= ROLLBACK) {
            self.last_rollback = Some(self.now);
            self.drop_proofs();
            let why = format!(
                "{} echoed a datagram that this process never sent: it was cloned or rolled back, and takes a new instance",
                self.registry.at(peer).server_id
            );
            self.push_event(None, Change::Rollback, why);
        }
    }

    /// One answer a datagram, to its source; after a stall one a peer, spread over 50 ms.
    /// A later question takes the place of the one that waits, and does not put its answer off.
    fn answer_or_defer(&mut self, peer: usize, mut question: Question) {
        if self.late_to.is_none() {
            return self.answer(Party::Peer(peer), &question);
        }
        // Whoever asked by way of it has long asked others; an ordinary pong tells of the stall.
        if matches!(question.what, Asked::RelayPing(..)) {
            question.what = Asked::Ping(AnswerLength::Small);
        }
        // A ping's answer can tell of the stall, a hello's cannot: it goes first only if another run asks.
        let confirmed = self.sessions[peer].confirmed.as_ref().map(|c| c.instance);
        let same_run = matches!(question.what, Asked::Hello(_, run, _) if Some(run) == confirmed);
        if self.accounts[peer].answer.is_none() {
            self.accounts[peer].answer_at = self.now + SPREAD.mul_f64(self.share());
        }
        let waiting = &mut self.accounts[peer].answer;
        if !(same_run && waiting.as_ref().is_some_and(|w| !matches!(w.what, Asked::Hello(..)))) {
            *waiting = Some(Box::new(question));
        }
    }
}

/// Which of a pair leads does not depend on the key, since keys turn.
fn pair_tag(id: &str) -> Tag {
    let mut tag = [0; 8];
    tag.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..8]);
    Tag(tag)
}

/// Whether a node can have this source address.
fn is_possible_source(from: SocketAddr) -> bool {
    let ip = from.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    from.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}
