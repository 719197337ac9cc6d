//! The peers that this node does not observe: what it makes of what their observers say.

use std::sync::Arc;
use std::time::Duration;

use super::Node;
use crate::proto::event::Change;
use crate::proto::explain::{Explanation, Setup};
use crate::proto::fusion::Hearsay;
use crate::proto::peer::PeerStatus;
use crate::proto::picture::Picture;
use crate::proto::records::Profile;
use crate::proto::registry::ClusterStatus;
use crate::proto::seal::{Instance, WIRE};
use crate::proto::snapshot::{LinkView, PeerView};
use crate::proto::timer::{Time, micros};
use crate::proto::verdict::{Verdict, is_excused};

/// What was told of a peer that this node does not observe. Small: there may be ten thousand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Other {
    pub(super) place: u32,
    pub(super) status: PeerStatus,
    pub(super) verdict: Verdict,
    /// Whether an observer of it had ever heard it.
    pub(super) heard_of: bool,
    /// For how many halves of an interval no observer has had a vote.
    pub(super) voteless: u8,
    /// Since when status and verdict hold.
    pub(super) since: Time,
}

/// All that `me` does not observe.
pub(super) fn others(nodes: usize, me: usize, observed: &[(usize, usize)], now: Time) -> Vec<Other> {
    let mut observed = observed.iter().map(|(place, _)| *place).peekable();
    let rest = (0..nodes).filter(|place| observed.next_if_eq(place).is_none() && *place != me);
    rest.map(|place| Other {
        place: place as u32,
        status: PeerStatus::Healthy,
        verdict: Verdict::Unknown,
        heard_of: false,
        voteless: 0,
        since: now,
    })
    .collect()
}

impl Node {
    pub(super) fn hearsay(&self, other: &Other, now: Time) -> Hearsay {
        let place = other.place as usize;
        let says = self.drawing.picture.says(place);
        Hearsay {
            says,
            heard_of: other.heard_of || says.votes() > 0,
            status: other.status,
            verdict: other.verdict,
            voteless: other.voteless,
            thresholds: self.config.thresholds(),
            isolated: self.isolation(now),
            gives_nobody_up: self.gives_nobody_up(),
            listens: self.listens(now),
            roster_differs: self.differing(place, |profile| profile.roster),
            config_differs: self.differing(place, |profile| profile.config),
            draining: self.draining(place, now),
            profile_left: self
                .leave_at(place, now)
                .is_some_and(|(_, why, age)| is_excused((why, age), self.config.leave_grace)),
        }
    }

    /// Takes over what the picture says of all others, and counts them.
    pub(super) fn fuse(&mut self) {
        let mut counts = ClusterStatus::default();
        let passed = self.halves_since_fused();
        for index in 0..self.others.len() {
            let voted = self.drawing.picture.says(self.others[index].place as usize).votes() > 0;
            let voteless = &mut self.others[index].voteless;
            *voteless = if voted { 0 } else { voteless.saturating_add(passed) };
            let (status, verdict, proves) = self.judge_other(index);
            counts.total_peers += 1;
            match status {
                PeerStatus::Healthy => counts.healthy_peers += 1,
                PeerStatus::Suspected => counts.suspected_peers += 1,
                PeerStatus::Down => counts.down_peers += 1,
            }
            counts.proven_peers += usize::from(proves);
            counts.is_degraded |= verdict.is_alarm(status);
        }
        self.registry.count_others(counts);
    }

    /// Takes over what the picture says of one of them; and whether it is proven.
    pub(super) fn judge_other(&mut self, index: usize) -> (PeerStatus, Verdict, bool) {
        let other = self.others[index];
        let hearsay = self.hearsay(&other, self.now);
        let status = hearsay.status();
        let verdict = hearsay.verdict(status);
        self.others[index].heard_of = hearsay.heard_of;
        if (status, verdict) != (other.status, other.verdict) {
            self.tell_other(index, status, verdict, hearsay.sentence(status));
        }
        (status, verdict, status == PeerStatus::Healthy && hearsay.says.prove > 0)
    }

    /// Whether this node has neither stalled, nor lost what its socket held, nor been isolated for so long that whom it hears
    /// it has heard since.
    pub(super) fn listens(&self, now: Time) -> bool {
        let last = self.stall.map(|(end, _)| end).max(self.drops).max(self.isolation_times.ended());
        last.is_none_or(|last| now.since(last) > self.config.proof_horizon())
    }

    /// Halves of an interval that passed since the last call: none while this node hears nobody, or has not listened.
    fn halves_since_fused(&mut self) -> u8 {
        let half = micros(self.config.heartbeat_interval / 2).max(1);
        let before = std::mem::replace(&mut self.drawing.fused, self.now);
        let passed = self.now.as_micros() / half - before.as_micros() / half;
        if self.gives_nobody_up() || !self.listens(self.now) { 0 } else { passed.min(4) as u8 }
    }

    /// What is known of the node at `place`, but for heartbeats: it will be at `now`, in another roster.
    pub(super) fn known_of(&self, place: usize, now: usize) -> Option<Other> {
        Some(match self.peer_at(place) {
            Some(peer) => self.accounts[peer].as_other(now as u32),
            None => Other { place: now as u32, ..self.others[self.other_at(place)?] },
        })
    }

    /// The index of the one at `place`, if this node does not observe it.
    pub(super) fn other_at(&self, place: usize) -> Option<usize> {
        self.others.binary_search_by_key(&(place as u32), |other| other.place).ok()
    }

    fn tell_other(&mut self, index: usize, status: PeerStatus, verdict: Verdict, why: String) {
        let other = &mut self.others[index];
        let before = (other.status, other.verdict);
        (other.status, other.verdict, other.since) = (status, verdict, self.now);
        let change = if before.0 == status {
            Change::Verdict { from: before.1, to: verdict }
        } else {
            self.stats.transitions[status as usize] += 1;
            let place = other.place as usize;
            match (before.0, status) {
                // Of whom nothing was known until now may have died long ago.
                (_, PeerStatus::Down) if before.1 != Verdict::Unknown && !verdict.is_announced() => {
                    self.mass_loss.lost(place, self.now)
                }
                (PeerStatus::Down, _) => self.mass_loss.back(place),
                _ => {}
            }
            Change::Status { from: before.0, to: status }
        };
        self.offers.turn += 1;
        self.news.urgent |= (status == PeerStatus::Down) != (before.0 == PeerStatus::Down);
        self.push_event_of_other(index, change, why);
    }

    /// The profile of a node was told: its id may be new, or its run, if this node does not observe it.
    pub(super) fn note_profile(&mut self, place: usize, before: Option<Instance>) {
        let Some(index) = self.other_at(place) else { return };
        let Some(Profile { instance, id, .. }) = self.records.profile(place).cloned() else { return };
        // An id that another node has is nobody's.
        if let Some(id) = id.filter(|_| self.names_no_id(place)) {
            let _ = self.learn_tags(place, id.as_str());
        }
        if before.is_some_and(|before| before != instance) {
            self.stats.restarts += 1;
            let why = format!("a new run of it was told: {instance}");
            self.push_event_of_other(index, Change::Restart, why);
        }
    }

    /// Its id, and the verdict that was told.
    pub(super) fn called(&self, other: &Other) -> (Arc<str>, Verdict) {
        (self.directory.id(other.place as usize).clone(), other.verdict)
    }

    /// Their statuses and verdicts.
    pub(super) fn other_verdicts(&self) -> impl Iterator<Item = (PeerStatus, Verdict)> {
        self.others.iter().map(|other| (other.status, other.verdict))
    }

    /// How many of them have no address.
    pub(super) fn unresolved_others(&self) -> usize {
        self.others.iter().filter(|other| self.address_of(other.place as usize).is_none()).count()
    }

    /// What there is to see of those that this node does not observe.
    pub(super) fn other_views(&self, picture: &Picture, now: Time) -> impl Iterator<Item = PeerView> {
        self.others.iter().map(move |other| {
            let (place, hearsay) = (other.place as usize, self.hearsay(other, now));
            PeerView {
                server_id: self.directory.id(place).clone(),
                observed: false,
                address: self.address_of(place),
                status: other.status,
                verdict: hearsay.verdict(other.status),
                conditions: hearsay.conditions(other.status),
                why: hearsay.sentence(other.status),
                since: other.since,
                last_seen: None,
                missed_heartbeats: 0,
                bytes_received: 0,
                bytes_sent: 0,
                says: hearsay.says,
                oldest_row: self.oldest_row_about(picture, place),
                observers: self.some_observers(picture, place),
                proven: other.status == PeerStatus::Healthy && hearsay.says.prove > 0,
                link: LinkView { is_active: true, attempt_count: 0, rtt: None, loss: None },
                explanation: self.explained_by_others(other, &hearsay, now),
                instance: self.records.profile(place).map(|profile| profile.instance),
                release: self.release_at(place),
                labels: self.labels_at(place),
                draining: hearsay.draining.clone(),
                key_id: None,
                restarts: 0,
                false_downs: 0,
                transitions: [0; 3],
            }
        })
    }

    /// Some that observe the node at `place`: whom to ask about it.
    fn some_observers(&self, picture: &Picture, place: usize) -> Vec<Arc<str>> {
        let all = || self.directory.topology().neighbours(place);
        let is_reached = |by: &usize| picture.age(*by).is_some();
        let order = all().filter(is_reached).chain(all().filter(|by| !is_reached(by)));
        order.take(3).map(|by| self.id_of(by).clone()).collect()
    }

    /// What the verdict about a peer rests on that this node does not observe: their votes, and its profile.
    pub(super) fn explained_by_others(&self, other: &Other, hearsay: &Hearsay, now: Time) -> Explanation {
        let (meaning, rule) = hearsay.meaning(other.status);
        let told = self.records.profile(other.place as usize);
        Explanation {
            meaning: meaning.into(),
            rule,
            status_since: other.since,
            suspect_after: self.config.suspect_after,
            down_after: self.config.down_after,
            address: self.address_of(other.place as usize),
            says: hearsay.says,
            self_health: self.health_at(now),
            draining: hearsay.draining.clone(),
            setup: Setup {
                roster: told.map(|_| hearsay.roster_differs.is_none()),
                settings: told.map(|_| hearsay.config_differs.is_none()),
                version: told.map(|profile| profile.wire == WIRE),
                ..Setup::default()
            },
            ..Explanation::default()
        }
    }

    /// The status of all that this node does not observe, by place.
    #[cfg(feature = "sim")]
    pub(crate) fn other_statuses(&self) -> impl Iterator<Item = (usize, PeerStatus)> {
        self.others.iter().map(|other| (other.place as usize, other.status))
    }

    /// The status of one that this node does not observe.
    #[cfg(feature = "sim")]
    pub(crate) fn other_status(&self, place: usize) -> Option<PeerStatus> {
        Some(self.others[self.other_at(place)?].status)
    }

    /// What the roster, or who resolved its name, says where the node at `place` is reached.
    pub(super) fn resolved(&self, place: usize) -> Option<std::net::SocketAddr> {
        match self.peer_at(place) {
            Some(peer) => self.pool.at(peer).roster_address,
            None => self.address_of(place),
        }
    }

    /// Where the node at `place` is reached.
    pub(super) fn address_of(&self, place: usize) -> Option<std::net::SocketAddr> {
        let told = self.addresses.get(&place).copied();
        told.or_else(|| self.config.static_peers[self.directory.entry(place)?].address)
    }

    /// How long nothing is pushed again, so that many at once go together.
    pub(super) fn push_pause(&self) -> Duration {
        self.config.heartbeat_interval / 10
    }
}
