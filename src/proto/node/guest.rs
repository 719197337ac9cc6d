//! Guests: nodes of the roster that this node does not observe, and exchanges frames with nevertheless.
//!
//! There are two kinds. In rings a node asks the observers of a silent peer, whom it mostly does not observe itself, and is
//! asked so; the run that their profile tells serves to seal and to open these frames. And a node with another roster may
//! observe this one without being observed: its hellos and pings are answered. A guest proves nothing, has no heartbeats,
//! and is forgotten when others need its place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Node;
use super::relay::Budget;
use super::send::{AnswerLength, Asked, Question};
use crate::proto::messages::Message;
use crate::proto::records::Met;
use crate::proto::seal::{FrameKind, Header, Instance};
use crate::proto::session::{Echo, Session, WELCOMES};
use crate::proto::stats::Reject;
use crate::proto::timer::Time;

use super::receive::Frame;

/// The most guests at a time; as many times [`WELCOMES`] a second are for all of them, however often they change places.
pub(super) const GUESTS: usize = 64;

/// One guest.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) place: usize,
    pub(super) session: Session,
    /// From where it echoed what was sent there.
    pub(super) address: Option<SocketAddr>,
    /// What it asks this node to relay, or it answers.
    pub(super) served: Budget,
    used: Time,
}

/// With whom a frame is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// An observed peer, by its index.
    Peer(usize),
    /// A guest, by its index: valid until another one is let in.
    Guest(usize),
}

impl From<usize> for Party {
    fn from(peer: usize) -> Party {
        Party::Peer(peer)
    }
}

impl Node {
    pub(super) fn session(&self, party: Party) -> &Session {
        match party {
            Party::Peer(peer) => &self.sessions[peer],
            Party::Guest(guest) => &self.guests[guest].session,
        }
    }

    pub(super) fn session_mut(&mut self, party: Party) -> &mut Session {
        match party {
            Party::Peer(peer) => &mut self.sessions[peer],
            Party::Guest(guest) => &mut self.guests[guest].session,
        }
    }

    pub(super) fn place_of(&self, party: Party) -> usize {
        match party {
            Party::Peer(peer) => self.places[peer],
            Party::Guest(guest) => self.guests[guest].place,
        }
    }

    /// The one at `place`, if this node knows its run: as a peer, or as a guest by what its profile tells.
    pub(super) fn party_at(&mut self, place: usize) -> Option<Party> {
        if let Some(peer) = self.peer_at(place) {
            return self.sessions[peer].confirmed.is_some().then_some(Party::Peer(peer));
        }
        let told = self.records.profile(place)?.instance;
        let guest = self.let_in(place, true)?;
        self.take_run(guest, told);
        self.guests[guest].session.confirmed.is_some().then_some(Party::Guest(guest))
    }

    /// The guest's run is `instance`, unless a later one is known.
    fn take_run(&mut self, guest: usize, instance: Instance) {
        let (keys, now) = (self.ring.len(), self.now);
        let session = &mut self.guests[guest].session;
        let known = session.confirmed.as_ref().is_some_and(|c| c.instance == instance);
        if !known && session.replaced_at(instance).is_none() {
            session.confirm(instance, keys, 0, now);
        }
    }

    /// The guest at `place`; a new one takes the place of the one that was not used for longest. `None`: its id is not
    /// known; or all places are taken by guests with a run, and it is not `sure` who asks. A hello can be a recording, and
    /// with a guest goes what it was asked, and which numbers it used.
    fn let_in(&mut self, place: usize, sure: bool) -> Option<usize> {
        if let Some(guest) = self.guests.iter().position(|guest| guest.place == place) {
            self.guests[guest].used = self.now;
            return Some(guest);
        }
        let id = self.id_at(place)?;
        let tags = self.tags_at(place, &id)?;
        if self.guests.len() == GUESTS {
            let may_go = |guest: &usize| sure || self.guests[*guest].session.confirmed.is_none();
            self.dismiss((0..GUESTS).filter(may_go).min_by_key(|guest| self.guests[*guest].used)?);
        }
        let session = Session::beginning_at(tags, self.spent_numbers);
        self.guests.push(Guest { place, session, address: None, served: Budget::default(), used: self.now });
        Some(self.guests.len() - 1)
    }

    /// No number is used twice for one run: those who come later begin above all that have gone.
    pub(super) fn dismiss(&mut self, guest: usize) {
        let gone = self.guests.swap_remove(guest);
        self.spend(gone.session.upcoming());
    }

    /// A session is over, whose next number was this. Its run may be met again, as a guest or as a peer.
    pub(super) fn spend(&mut self, upcoming: u64) {
        self.spent_numbers = self.spent_numbers.max(upcoming);
    }

    /// The id of the node at `place`, by the roster or by its own word.
    pub(super) fn id_at(&self, place: usize) -> Option<Arc<str>> {
        let roster = self.config.static_peers[self.directory.entry(place)?].server_id.clone();
        let told = || self.records.profile(place).and_then(|profile| profile.id.as_ref());
        roster.or_else(|| told().map(|id| id.as_str().into()))
    }

    /// A frame of a node that this one does not observe.
    pub(super) fn receive_from_guest(&mut self, place: usize, frame: Frame<'_>) -> Result<(), Reject> {
        match frame.header.kind {
            FrameKind::Hello => self.receive_guest_hello(place, frame),
            FrameKind::Bound => self.receive_guest_frame(place, frame),
        }
    }

    fn receive_guest_hello(&mut self, place: usize, mut frame: Frame<'_>) -> Result<(), Reject> {
        let (key, Header { sender, instance, number, .. }) = (frame.key, frame.header);
        let body = self.open_hello(&mut frame)?;
        let known = self.guests.iter().find(|guest| guest.place == place);
        if let Some(reason) = known.and_then(|g| g.session.refuses_hello(instance, number, self.now)) {
            return Err(reason);
        }
        self.read_hello(key, sender, body)?;
        // After a stall it is old: whoever means it asks again.
        if self.late_to.is_some()
            || !self.guests_welcomed.take(GUESTS * WELCOMES as usize, self.now, Duration::from_secs(1))
        {
            return Err(Reject::Replay);
        }
        let guest = self.let_in(place, false).ok_or(Reject::Sender)?;
        self.guests[guest].session.note_welcome(instance, number, self.now);
        self.answer(Party::Guest(guest), &frame.question(Asked::Hello(sender, instance, number)));
        Ok(())
    }

    fn receive_guest_frame(&mut self, place: usize, frame: Frame<'_>) -> Result<(), Reject> {
        let (sender, instance, number) = (frame.header.sender, frame.header.instance, frame.header.number);
        let me = (self.own_tags[frame.key], self.instance);
        let open = self.ring.frame_key(frame.key, (sender, instance), me);
        let read = Message::decode(open.open_in_place(frame.bytes, frame.header_len, number)?);
        // No hello goes to a guest: a Welcome of one echoes nothing that is its own.
        if matches!(read, Ok(Message::Welcome { .. })) {
            return Err(Reject::Meaning);
        }
        let told = self.records.profile(place).is_some_and(|profile| profile.instance == instance);
        let known = self.guests.iter().find(|guest| guest.place == place).map(|guest| &guest.session);
        let run = known.and_then(|session| session.confirmed.as_ref()).filter(|c| c.instance == instance);
        let echo = read.as_ref().ok().and_then(Message::echo);
        let confirms = |session: &Session| echo.is_some_and(|(echo, _)| session.confirms(echo));
        if !told && run.is_none() && !known.is_some_and(confirms) {
            return Err(Reject::Instance);
        }
        if run.is_some_and(|run| !run.is_new(number)) {
            return Err(Reject::Replay);
        }
        let message = read?;
        let (echo, hold) = echo.ok_or(Reject::Meaning)?;
        let guest = self.let_in(place, true).ok_or(Reject::Sender)?;
        self.take_run(guest, instance);
        let session = &mut self.guests[guest].session;
        let read = session.read_echo(echo, hold, frame.received);
        let Some(confirmed) = session.confirmed.as_mut().filter(|c| c.instance == instance) else {
            return Err(Reject::Instance);
        };
        confirmed.note(number, frame.key, frame.received);
        if let Echo::Dated { departure, to, newest: true, .. } = read {
            session.note_echo(echo, departure);
            if to == Some(frame.from) {
                self.guests[guest].address = to;
            }
        }
        self.heed_guest(guest, &frame, &message);
        Ok(())
    }

    /// What a guest asks for, or tells.
    fn heed_guest(&mut self, guest: usize, frame: &Frame<'_>, message: &Message) {
        let party = Party::Guest(guest);
        for record in message.records() {
            if self.meet_record(record, None) != Met::Nothing {
                self.redraw_within(1);
            }
        }
        match message {
            // After a stall whatever came is old.
            _ if self.late_to.is_some() => {}
            Message::Ping { .. } | Message::PingMore { .. } => {
                let padded = message.more().is_some_and(|more| !more.padding.is_empty());
                let length = if padded { AnswerLength::Padded } else { AnswerLength::Small };
                self.answer(party, &frame.question(Asked::Ping(length)));
            }
            Message::RelayPing { origin, request, .. } => {
                if let Some(origin) = self.peer_of_tag(frame.key, *origin) {
                    self.note_heard_of(origin);
                }
                self.answer(party, &frame.question(Asked::RelayPing(*origin, *request)));
            }
            Message::RelayRequest { target, .. } => {
                self.relay_request(party, frame.key, *target, frame.header.number);
            }
            Message::RelayPong { origin, request, .. } => {
                self.relay_pong(party, frame.key, *origin, *request);
            }
            Message::RelayReply { target, request, alive, .. } => {
                self.relay_reply(party, frame.key, *target, *request, *alive);
            }
            Message::SyncRequest { bucket, after, .. } => self.sync_request(party, *bucket, *after),
            _ => {}
        }
    }
}

impl Frame<'_> {
    /// What it asks.
    pub(super) fn question(&self, what: Asked) -> Question {
        Question {
            from: self.from,
            local: self.local,
            key: self.key,
            len: self.bytes.len(),
            received: self.received,
            what,
        }
    }
}
