//! What is told: events with their cause, the snapshot, and what was told last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::drawing::NEWS;
use super::explain::History;
use super::others::Other;
use super::relay::Inquiry;
use super::send::Question;
use super::views::Paging;
use super::{EVENTS, Node, OWN_EVENTS};
use crate::proto::config::PeerConfig;
use crate::proto::directory::hash48;
use crate::proto::event::{Change, Event};
use crate::proto::messages::LeaveReason;
use crate::proto::peer::PeerStatus;
use crate::proto::picture::Picture;
use crate::proto::records::Release;
use crate::proto::seal::Instance;
use crate::proto::snapshot::{LinkView, PeerView, Scope, Snapshot};
use crate::proto::timer::Time;
use crate::proto::verdict::{Evidence, Verdict};

/// What this node holds of a peer beside its state: what was told about it, and what it told. What every heartbeat looks at
/// comes first and lies together.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Account {
    status: PeerStatus,
    verdict: Verdict,
    /// It was heard since this node's start, here or by another observer: only then can it be lost.
    was_there: bool,
    /// The spacing, in intervals, that came with the newest evidence; 0: as usual.
    pub(super) direct_spacing: u8,
    pub(super) left: Option<(LeaveReason, Time)>,
    /// Since when a profile of another run than the one that left is known.
    pub(super) returned: Option<Time>,
    pub(super) conflict_until: Option<Time>,
    /// How long it slept, and when it told so.
    pub(super) paused: Option<(Duration, Time)>,
    /// The date of the newest evidence of its life that came from itself.
    pub(super) direct: Option<Time>,
    /// When anything came from it, or on its behalf.
    pub(super) heard_of: Option<Time>,
    /// When the newest of what it echoed itself was sent, in this run.
    pub(super) echoed: Option<Time>,
    /// After a long silence: the echo of what came before it, when that came, and until when this is reported to the peer.
    pub(super) gap: Option<(u64, Time, Time)>,
    /// When the peer last held a datagram for longer than this node's clock allows, and by how much.
    pub(super) clock: Option<(Time, Duration)>,
    /// When it is told the rest of what it is owed; `None`: all that there is has gone out.
    pub(super) rest_at: Option<Time>,
    /// The answer that waits after a stall.
    pub(super) answer: Option<Box<Question>>,
    pub(super) answer_at: Time,
    pub(super) paging: Paging,
    pub(super) since: Time,
    /// When its host last refused.
    pub(super) refused: Option<Time>,
    pub(super) foreign_keys: u64,
    pub(super) foreign_versions: u64,
    pub(super) restarts: u64,
    pub(super) false_downs: u64,
    transitions: [u64; 3],
    /// The run that was called Down, and when; and when it is known whether it told of a pause, once it is back.
    pub(super) called_down: Option<(Instance, Time)>,
    pub(super) grade_at: Option<Time>,
    /// The date of the newest evidence of its life that came by way of another node.
    pub(super) relayed: Option<Time>,
    pub(super) inquiry: Inquiry,
    pub(super) history: History,
}

impl Account {
    /// `turn`: which other node to ask first about it.
    pub(super) fn new(now: Time, turn: usize) -> Account {
        Account {
            status: PeerStatus::Healthy,
            verdict: Verdict::Unknown,
            since: now,
            was_there: false,
            left: None,
            returned: None,
            paused: None,
            refused: None,
            conflict_until: None,
            foreign_keys: 0,
            foreign_versions: 0,
            restarts: 0,
            false_downs: 0,
            transitions: [0; 3],
            called_down: None,
            grade_at: None,
            direct: None,
            // As far as this run can tell.
            heard_of: Some(now),
            echoed: None,
            direct_spacing: 0,
            relayed: None,
            inquiry: Inquiry::new(turn),
            paging: Paging::default(),
            history: History::new(now),
            gap: None,
            clock: None,
            rest_at: None,
            answer: None,
            answer_at: now,
        }
    }

    /// What was told of the peer, for when this node no longer observes it and it is at `place`.
    pub(super) fn as_other(&self, place: u32) -> Other {
        let Account { status, verdict, since, was_there, .. } = *self;
        Other { place, status, verdict, heard_of: was_there, voteless: 0, since }
    }
}

impl Node {
    /// Takes over what the observers of a peer said of it before this node was one of them.
    pub(super) fn presume(&mut self, peer: usize, known: &Other) {
        let Other { status, verdict, since, heard_of, .. } = *known;
        let account = &mut self.accounts[peer];
        (account.status, account.verdict, account.since) = (status, verdict, since);
        account.was_there = heard_of;
        let info = self.registry.at_mut(peer);
        (info.status, info.excused) = (status, !verdict.is_alarm(PeerStatus::Down));
        info.missed_heartbeats = match status {
            PeerStatus::Healthy => 0,
            PeerStatus::Suspected => self.config.suspect_after,
            PeerStatus::Down => self.config.down_after,
        };
        self.beats[peer].presume(info.missed_heartbeats);
    }

    /// Compares what holds of a peer with what was told of it, and tells the difference.
    pub(super) fn refresh(&mut self, peer: usize) {
        if self.stays_up(peer) {
            return debug_assert!(self.evidence_of(peer, self.now).verdict() == Verdict::Up);
        }
        let evidence = self.evidence_of(peer, self.now);
        let (status, verdict) = (evidence.status, evidence.verdict());
        self.note_presence(peer);
        let account = &mut self.accounts[peer];
        account.was_there |= evidence.heard.is_some() || evidence.says.hear > 0;
        let before = (account.status, account.verdict);
        if before == (status, verdict) {
            return;
        }
        (account.status, account.verdict, account.since) = (status, verdict, self.now);
        self.registry.at_mut(peer).excused = !verdict.is_alarm(PeerStatus::Down);
        self.news.changed = true;
        self.offers.turn += 1;
        self.news.urgent |= (status == PeerStatus::Down) != (before.0 == PeerStatus::Down);
        let change = if before.0 == status {
            Change::Verdict { from: before.1, to: verdict }
        } else {
            account.transitions[status as usize] += 1;
            account.history.turned(status, self.now);
            self.stats.transitions[status as usize] += 1;
            match (before.0, status) {
                (_, PeerStatus::Down) if account.was_there && !verdict.is_announced() => {
                    self.mass_loss.lost(self.places[peer], self.now)
                }
                (PeerStatus::Down, _) => self.mass_loss.back(self.places[peer]),
                _ => {}
            }
            Change::Status { from: before.0, to: status }
        };
        self.review_by(self.now);
        self.redraw_within(NEWS);
        self.push_event(Some(peer), change, evidence.sentence());
        match (before.0, status) {
            (_, PeerStatus::Down) if before.0 != status => {
                self.grading.retain(|other| *other != peer);
                let run = self.sessions[peer].known.map(|run| (run, self.now));
                // What was to be graded yet is the same silence, and began with the first.
                let account = &mut self.accounts[peer];
                account.called_down = account.called_down.or(run);
            }
            (PeerStatus::Down, PeerStatus::Healthy) => {
                // What it says of a pause may come after the first sign of its life.
                self.accounts[peer].grade_at = Some(self.now + self.config.heartbeat_interval * 2);
                self.grading.push(peer);
                self.recovered(peer);
            }
            _ => {}
        }
    }

    /// Whether it was told that the peer is up, and nothing that could make another verdict is there: so it is nearly always, and then
    /// the evidence need not be gathered.
    fn stays_up(&self, peer: usize) -> bool {
        let (info, connection, account) = (self.registry.at(peer), self.pool.at(peer), &self.accounts[peer]);
        let lossy = || self.sessions[peer].confirmed.as_ref().is_none_or(|c| c.loss.is_lossy());
        (account.status, account.verdict) == (PeerStatus::Healthy, Verdict::Up)
            && account.was_there
            && account.left.is_none()
            && account.conflict_until.is_none()
            && account.paused.is_none()
            && info.status == PeerStatus::Healthy
            && info.last_seen.is_some()
            && connection.is_active
            && connection.path.narrow().is_none()
            && !lossy()
            && self.records.is_present(peer)
            && self.is_alike(self.places[peer])
            && self.draining(self.places[peer], self.now).is_none()
    }

    /// The status and the verdict that were told of a peer last.
    pub(super) fn told_of(&self, peer: usize) -> (PeerStatus, Verdict) {
        (self.accounts[peer].status, self.accounts[peer].verdict)
    }

    pub(super) fn push_event(&mut self, peer: Option<usize>, change: Change, why: String) {
        let places = if peer.is_some() { EVENTS } else { EVENTS + OWN_EVENTS };
        self.keep_event(places, |node| {
            let about = peer.map(|p| (node.registry.at(p).server_id.clone(), node.accounts[p].verdict));
            let explain = |p| Arc::new(node.explanation(p, &node.evidence_of(p, node.now), node.now));
            let evidence = peer.map(explain);
            let (peer, verdict) = about.unzip();
            Event { at: node.now, peer, observed: true, change, verdict, why, evidence }
        });
    }

    /// An event of one of those that this node does not observe.
    pub(super) fn push_event_of_other(&mut self, index: usize, change: Change, why: String) {
        self.keep_event(EVENTS, |node| {
            let other = &node.others[index];
            let (id, verdict) = node.called(other);
            let evidence =
                Some(Arc::new(node.explained_by_others(other, &node.hearsay(other, node.now), node.now)));
            Event {
                at: node.now,
                peer: Some(id),
                observed: false,
                change,
                verdict: Some(verdict),
                why,
                evidence,
            }
        });
    }

    /// What has no place is not made.
    fn keep_event(&mut self, places: usize, event: impl FnOnce(&Node) -> Event) {
        if self.events.len() >= places {
            self.stats.events_dropped += 1;
        } else {
            let event = event(self);
            self.events.push_back(event);
        }
    }

    pub(super) fn tell_restart(&mut self, peer: usize, instance: Instance) {
        self.push_event(Some(peer), Change::Restart, format!("a new run of it was confirmed: {instance}"));
    }

    /// `source`: "it said", or how else this node knows.
    pub(super) fn tell_left(&mut self, peer: usize, reason: LeaveReason, source: &str) {
        let why = match reason {
            LeaveReason::Restart => "that it leaves for a restart",
            LeaveReason::Removal => "that it leaves for good",
        };
        self.push_event(Some(peer), Change::Leave(reason), format!("{source} {why}"));
    }

    pub(super) fn tell_address(&mut self, peer: usize, from: Option<SocketAddr>, to: SocketAddr) {
        let from = from.unwrap_or(to);
        self.push_event(Some(peer), Change::Address { from, to }, format!("it answers from {to} now"));
    }

    pub(super) fn tell_conflict(&mut self, address: SocketAddr, why: String) {
        if self.conflict_told.is_none_or(|at| self.now.since(at) >= Duration::from_secs(60)) {
            self.conflict_told = Some(self.now);
            self.push_event(None, Change::Conflict { address }, why);
        }
    }

    /// Counts a datagram from a roster address that this node cannot open for want of a key or version.
    pub(super) fn note_foreign(&mut self, from: SocketAddr, counter: impl FnOnce(&mut Account) -> &mut u64) {
        if let Some(&peer) = self.by_address.get(&from) {
            let count = counter(&mut self.accounts[peer]);
            *count = count.saturating_add(1);
        }
    }

    /// How long ago the peer's host refused, if the peer has not been heard since.
    pub(super) fn refused_for(&self, peer: usize, now: Time) -> Option<Duration> {
        let at = self.accounts[peer].refused?;
        let heard_since = self.registry.at(peer).last_seen.is_some_and(|seen| seen >= at);
        (!heard_since).then(|| now.since(at))
    }

    fn evidence_of(&self, peer: usize, now: Time) -> Evidence {
        let (info, connection, account) = (self.registry.at(peer), self.pool.at(peer), &self.accounts[peer]);
        let interval = self.config.heartbeat_interval;
        Evidence {
            status: info.status,
            isolated: self.isolation(now),
            address: info.address,
            heard: info.time_since_heartbeat(now),
            missed: info.missed_heartbeats,
            down_after: self.config.down_after,
            recent: interval * self.config.down_after,
            link_active: connection.is_active,
            unechoed: connection.attempt_count,
            direct: self.is_heard_directly(peer, now),
            relayed: account.relayed.map(|at| now.since(at)),
            says: self.drawing.picture.says(self.places[peer]),
            hears_me: self.hears_me(peer),
            heard_elsewhere: info.status != PeerStatus::Healthy
                && self.is_heard_elsewhere(peer, info.time_since_heartbeat(now), now),
            lossy: self.sessions[peer].confirmed.as_ref().is_some_and(|c| c.loss.is_lossy()),
            loss: self.sessions[peer].loss(),
            narrow: connection.path.narrow(),
            longest: self.config.max_datagram,
            rtt: connection.round_trip.smoothed(),
            left: self.leave_of(peer, now),
            leave_grace: self.config.leave_grace,
            refused: self.refused_for(peer, now),
            error: self.last_error(peer, now),
            refused_for: self.config.max_backoff * 2 + interval,
            conflict: account.conflict_until.is_some_and(|until| now < until),
            foreign_keys: account.foreign_keys,
            foreign_versions: account.foreign_versions,
            paused: account.paused.map(|(length, at)| (length, now.since(at))),
            roster_differs: self.differing(self.places[peer], |profile| profile.roster),
            config_differs: self.differing(self.places[peer], |profile| profile.config),
            draining: self.draining(self.places[peer], now),
        }
    }

    pub(super) fn take_snapshot(&self, scope: Scope, now: Time) -> Snapshot {
        let picture = self.draw(now);
        let rows = (scope >= Scope::Peers).then_some(&picture);
        let mut peers: Vec<PeerView> =
            (0..self.sessions.len()).map(|peer| self.view(peer, rows, now)).collect();
        let observed = peers.iter().map(|p| (p.status, p.verdict));
        let mut verdicts = [0; Verdict::ALL.len()];
        let mut degraded_peers = 0;
        for (status, verdict) in observed.chain(self.other_verdicts()) {
            verdicts[verdict as usize] += 1;
            degraded_peers += usize::from(verdict.is_alarm(status));
        }
        let unresolved = peers.iter().filter(|p| p.address.is_none()).count();
        let unresolved_peers = unresolved + self.unresolved_others();
        if scope >= Scope::Peers {
            peers.extend(self.other_views(&picture, now));
        }
        peers.sort_by(|a, b| a.server_id.cmp(&b.server_id));
        Snapshot {
            at: now,
            started: self.started,
            server_id: self.config.server_id.clone(),
            cluster: self.config.cluster.clone(),
            instance: self.instance,
            secure: self.ring.is_secure(),
            insecure: self.ring.is_insecure(),
            key_ids: self.ring.ids().collect(),
            observers: self.config.observers,
            status: self.cluster_status(now),
            self_health: self.health_at(now),
            mass_loss: self.mass_loss.is_on(),
            witness: self.witness_view(),
            draining: self.draining(self.me, now),
            last_stall: self.stall,
            verdicts,
            degraded_peers,
            unresolved_peers,
            strangers: self.strangers(now),
            oldest_row: picture.oldest(),
            peers,
            rows: if scope == Scope::Whole { self.rows(&picture, now) } else { Vec::new() },
            roster_hash: self.directory.hash(),
            config_hash: config_hash(&self.config),
            stats: self.stats.clone(),
        }
    }

    /// What the node at `place` told of its release, and of the wire.
    pub(super) fn release_at(&self, place: usize) -> Option<(Release, u8)> {
        self.records.profile(place).map(|profile| (profile.release, profile.wire))
    }

    fn view(&self, peer: usize, rows: Option<&Picture>, now: Time) -> PeerView {
        let (info, connection, account) = (self.registry.at(peer), self.pool.at(peer), &self.accounts[peer]);
        let confirmed = self.sessions[peer].confirmed.as_ref();
        let evidence = self.evidence_of(peer, now);
        PeerView {
            server_id: info.server_id.clone(),
            observed: true,
            address: info.address,
            status: info.status,
            verdict: evidence.verdict(),
            conditions: evidence.conditions(),
            why: evidence.sentence(),
            since: account.since,
            last_seen: info.last_seen,
            missed_heartbeats: info.missed_heartbeats,
            bytes_received: info.bytes_received,
            bytes_sent: info.bytes_sent,
            says: evidence.says,
            oldest_row: rows.and_then(|picture| self.oldest_row_about(picture, self.places[peer])),
            observers: Vec::new(),
            proven: info.is_proven(now, self.config.proof_horizon()),
            link: LinkView {
                is_active: connection.is_active,
                attempt_count: connection.attempt_count,
                rtt: connection.round_trip.smoothed(),
                loss: self.sessions[peer].loss(),
            },
            instance: confirmed.map(|c| c.instance),
            release: self.release_at(self.places[peer]),
            labels: self.labels_at(self.places[peer]),
            draining: evidence.draining.clone(),
            key_id: confirmed.map(|c| self.ring.id(c.key)),
            restarts: account.restarts,
            false_downs: account.false_downs,
            transitions: account.transitions,
            explanation: self.explanation(peer, &evidence, now),
        }
    }
}

/// Over what must agree in a cluster.
pub(super) fn config_hash(config: &PeerConfig) -> u64 {
    let numbers = [
        config.heartbeat_interval.as_micros(),
        config.heartbeat_timeout.as_micros(),
        config.suspect_after.into(),
        config.down_after.into(),
        config.max_backoff.as_micros(),
    ];
    let numbers: Vec<[u8; 16]> = numbers.iter().map(|n: &u128| n.to_le_bytes()).collect();
    let observers = config.observers.to_string();
    let parts = [config.cluster.as_bytes(), observers.as_bytes()].into_iter();
    hash48(parts.chain(numbers.iter().map(|n| &n[..])))
}
