//! What the simulator looks at beside the snapshot, which is too slow to be made after every step.

use std::sync::Arc;
use std::time::Duration;

use super::guest::GUESTS;
use super::{EVENTS, Node};
use crate::proto::event::Event;
use crate::proto::explain::Explanation;
use crate::proto::peer::PeerStatus;
use crate::proto::records::{Life, LinkState, Records};
use crate::proto::seal::Instance;
use crate::proto::session::Session;
use crate::proto::snapshot::RowView;
use crate::proto::timer::Time;
use crate::proto::verdict::Verdict;

/// Datagrams that ask for takeovers or answer: sent, with their bytes, and received.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Probes {
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received: u64,
}

impl Node {
    /// The probes since the last call.
    pub(crate) fn take_probes(&mut self) -> Probes {
        std::mem::take(&mut self.out.probes)
    }

    /// The runs that count for this node's guard at `now`, its own among them: each with the name of its node.
    pub(crate) fn counted_runs(&self, now: Time) -> Vec<(Arc<str>, Instance)> {
        let is_fresh = |at: Time| now < at + self.config.proof_horizon();
        let counts =
            |peer: &usize| self.accounts[*peer].echoed.is_some_and(is_fresh) && self.has_witness(*peer);
        let run = |peer: usize| {
            let confirmed = self.sessions[peer].confirmed.as_ref()?;
            Some((self.directory.id(self.places[peer]).clone(), confirmed.instance))
        };
        let own = (self.directory.id(self.me).clone(), self.instance);
        (0..self.sessions.len()).filter(counts).filter_map(run).chain([own]).collect()
    }

    /// What it counts for in the guard, and who counts for it.
    pub(crate) fn describe_guard(&self) -> String {
        let view = self.witness_view();
        format!("{} {view:?} counts {:?}", self.config.own_name, self.counted_runs(self.now))
    }

    /// The hash of its roster.
    pub(crate) fn roster_hash(&self) -> u64 {
        self.directory.hash()
    }

    /// Whether the link to the peer at this place of the roster is not known to be cut.
    pub(crate) fn link_is_active(&self, place: usize) -> bool {
        self.pool.at(place).is_active
    }

    /// What it holds of what all nodes say; equal for equal tables. `None`: it still owes something to somebody.
    pub(crate) fn records_fingerprint(&self) -> Option<&[u32]> {
        self.records.is_quiet().then(|| self.records.fingerprint())
    }

    /// Tells and takes records, or does not.
    pub(crate) fn exchange_records(&mut self, exchange: bool) {
        self.config.mechanisms.records = exchange;
    }

    /// Takes over what all others say of themselves.
    pub(crate) fn absorb(&mut self, all: &Records) {
        self.records.absorb(all, 0..self.directory.len());
        self.redraw_within(1);
    }

    /// Adds what this node says of itself to a table.
    pub(crate) fn add_to(&self, all: &mut Records) {
        all.absorb(&self.records, self.me..self.me + 1);
    }

    /// The table.
    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    /// All that is known of the heartbeats with the peer at this place, and of the questions about it.
    pub(crate) fn describe(&self, place: usize) -> String {
        let account = &self.accounts[place];
        format!(
            "{:?}\n{:?}\n{:?}, heard {:?} directly, {:?} by others\n{:?}",
            self.beats[place],
            self.pool.at(place),
            account.inquiry,
            account.direct,
            account.relayed,
            self.stats
        )
    }

    /// How long the end of the peer at this place of the roster can go unnoticed: `down_after` heartbeats and one more, the
    /// pair's timeout twice, the spacing that the peer announced last, and an interval for each heartbeat that is void.
    pub(crate) fn notices_within(&self, place: usize) -> Duration {
        let (beat, interval) = (&self.beats[place], self.config.heartbeat_interval);
        interval * (self.config.down_after + 1 + beat.excused()) + beat.timeout() * 2
    }

    /// What the newest row of one node, that this one knows, says of another, by place in the directory; `None`: there is
    /// no row.
    pub(crate) fn told(&self, owner: usize, subject: usize) -> Option<(Life, LinkState)> {
        let (row, name) = (self.records.row(owner)?, self.records.names()[subject]);
        let seen = row.iter().find(|seen| seen.peer == name);
        Some(seen.map_or((Life::Healthy, LinkState::Up), |seen| (seen.life, seen.link)))
    }

    /// Bytes on the heap that come and go with what happens, and how many they may be.
    pub(crate) fn held(&self) -> (usize, usize) {
        let (peers, nodes, longest) = (self.sessions.len(), self.directory.len(), self.config.max_datagram);
        let event = size_of::<Event>() + size_of::<Explanation>();
        let sessions: usize = self.sessions.iter().map(Session::held).sum();
        let guests: usize = self.guests.iter().map(|guest| guest.session.held()).sum();
        let held = sessions + guests + self.records.held() + self.out.held() + self.events.len() * event;
        let bound = (peers + GUESTS) * Session::MOST_HELD
            + Records::most_held(nodes, peers, longest)
            + self.out.most_held(longest)
            + EVENTS * event;
        (held, bound)
    }

    /// All rows that it holds: of whom, how old, and what they say that is not plainly fine.
    pub(crate) fn describe_rows(&self) -> String {
        let rows = self.rows(&self.draw(self.now), self.now);
        let ids: Vec<Arc<str>> = rows.iter().map(|row| row.server_id.clone()).collect();
        let row = |row: RowView| {
            let watches: Vec<&str> = row.watches.iter().flatten().map(|at| &*ids[*at as usize]).collect();
            let age = row.age.map_or("not reached".to_owned(), |age| format!("{age:.1?}"));
            let seen: Vec<String> = row
                .sees
                .iter()
                .map(|edge| format!("{} {:?} {:?}", edge.peer, edge.life, edge.link))
                .collect();
            format!("\n  {} ({age}) of {}: {}", row.server_id, watches.join(" "), seen.join(", "))
        };
        rows.into_iter().map(row).collect()
    }

    /// Whether it leads the pair with the peer at this place.
    #[cfg(test)]
    pub(crate) fn leads(&self, place: usize) -> bool {
        self.beats[place].role == crate::proto::heartbeat::Role::Leader
    }

    /// Whether it knows the run of the peer at this place of the roster, so that it can open what that run sends.
    pub(crate) fn has_met(&self, place: usize, run: Instance) -> bool {
        self.sessions[place].confirmed.as_ref().is_some_and(|confirmed| confirmed.instance == run)
    }

    /// For how long it has called itself isolated.
    pub(crate) fn isolated_for(&self) -> Option<Duration> {
        self.isolation_times.lasts(self.now)
    }

    /// Whether it has begun to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Since when this node has reported the peer at this place of the roster as `down`, if two observers and most of those
    /// whose rows are new enough to know hear it.
    pub(crate) fn accuses_the_living(&self, peer: usize) -> Option<Time> {
        let heard = self.registry.at(peer).time_since_heartbeat(self.now)?;
        if self.told_of(peer) != (PeerStatus::Down, Verdict::Down) {
            return None;
        }
        let (place, picture) = (self.places[peer], self.draw(self.now));
        let notice = self.config.proof_horizon() + self.config.heartbeat_interval;
        let is_new = |by: &usize| *by != self.me && picture.age(*by).is_some_and(|age| age + notice < heard);
        let new: Vec<usize> = self.directory.topology().neighbours(place).filter(is_new).collect();
        let hears = |by: &&usize| {
            self.told(**by, place).is_some_and(|(life, link)| crate::proto::picture::hears(life, link))
                && self.is_alike(**by)
        };
        let hear = new.iter().filter(hears).count();
        (hear >= 2 && hear * 2 > new.len()).then_some(self.accounts[peer].since)
    }

    /// When this run began, or last lost datagrams in its queue or was isolated.
    pub(crate) fn unblocked_since(&self) -> Time {
        let isolated = self.isolation_times.has_begun().then_some(self.now);
        [self.drops, isolated, self.isolation_times.ended()]
            .into_iter()
            .flatten()
            .fold(self.started, Time::max)
    }

    /// When this run began, and when it was last disturbed: woke late, lost datagrams in its queue, was isolated, or doubted
    /// refusals.
    pub(crate) fn undisturbed_since(&self) -> Time {
        let stall = self.stall.map(|(end, _)| end);
        let doubted = self.isolation_times.doubted;
        [stall, doubted, Some(self.unblocked_since())].into_iter().flatten().fold(self.started, Time::max)
    }
}

impl crate::proto::PeerConfig {
    /// Switches mechanisms off, to show what they are worth.
    #[cfg(test)]
    pub(crate) fn with_mechanisms(mut self, mechanisms: crate::proto::config::Mechanisms) -> Self {
        self.mechanisms = mechanisms;
        self
    }
}
