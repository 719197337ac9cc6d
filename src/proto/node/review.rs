//! Reviews: what is looked at now and then, since it changes with time or with many peers at once: the quorum, this node's own
//! health, a mass loss, whether a Down was wrong.

use super::Node;
use super::drive::MOMENT;
use crate::proto::event::{Change, SelfHealth};
use crate::proto::registry::ClusterStatus;
use crate::proto::timer::Time;
use crate::proto::verdict::Isolation;

impl Node {
    /// A Down whose peer comes back as the same run, without a pause told, was wrong or a cut.
    fn grade(&mut self) {
        let due = |node: &Node, peer: usize| node.accounts[peer].grade_at.is_none_or(|at| at <= node.now);
        while let Some(at) = self.grading.iter().position(|peer| due(self, *peer)) {
            let peer = self.grading.swap_remove(at);
            let account = &mut self.accounts[peer];
            let Some((run, called)) = account.called_down.take() else { continue };
            let slept = account.paused.is_some_and(|(_, told)| told >= called);
            if self.sessions[peer].known == Some(run) && !slept {
                account.false_downs += 1;
                self.stats.false_downs += 1;
            }
        }
    }

    /// Quorum and self-health: looked at when a status changed, and twice an interval.
    pub(super) fn review(&mut self) {
        if self.now < self.review_at {
            return;
        }
        self.review_at = self.now + self.config.heartbeat_interval / 2;
        self.plan_review(None);
        self.end_drains();
        self.review_offers();
        self.review_watches();
        self.review_witness();
        self.note_stood_still();
        self.redraw();
        self.grade();
        self.push_news();
        let status = self.cluster_status(self.now);
        let quorum = status.is_quorum_available();
        if quorum != self.quorum {
            self.quorum = quorum;
            let why = format!(
                "{} of {} nodes proven, {} needed",
                status.proven_peers,
                status.total_peers,
                status.quorum_needed()
            );
            self.push_event(None, Change::Quorum { available: quorum }, why);
        }
        if let Some((begins, why)) = self.mass_loss.review(self.now) {
            self.push_event(None, Change::MassLoss { begins }, why);
        }
        self.review_health();
        // It is time when something is due anyway, or in an interval; or sooner if this one has asked for that, but a moment later.
        let planned = self.timers.at(self.places.len()).unwrap_or(Time::from_micros(u64::MAX));
        let next = planned.clamp(self.now + MOMENT, self.now + self.config.heartbeat_interval);
        self.plan_review(Some(next).filter(|at| *at > self.now));
    }

    /// The next review is at `at` at the latest; not before now, or the loop would seem to be late.
    pub(super) fn review_by(&mut self, at: Time) {
        let at = at.max(self.now);
        self.review_at = self.review_at.min(at);
        if self.timers.at(self.places.len()).is_none_or(|planned| at < planned) {
            self.plan_review(Some(at));
        }
    }

    fn plan_review(&mut self, at: Option<Time>) {
        let own = self.places.len();
        if self.leaving.is_none() && own > 0 {
            self.timers.set(own, at);
        }
    }

    fn review_health(&mut self) {
        let health = self.health_at(self.now);
        if health != self.health {
            let from = std::mem::replace(&mut self.health, health);
            let why = match health {
                SelfHealth::Ok => "nothing is wrong with this node any more",
                SelfHealth::Stalled => "this node's loop stalled",
                SelfHealth::Flooded => "the kernel dropped datagrams from this node's receive queue",
                SelfHealth::Isolated if self.is_cut_off() => {
                    "it misses most nodes, and those that it hears hear them: it may be this node's own network"
                }
                SelfHealth::Isolated => {
                    "nothing authentic came from anybody: it may be this node's own network"
                }
            };
            self.push_event(None, Change::Health { from, to: health }, why.to_owned());
            if [from, health].contains(&SelfHealth::Isolated) {
                (0..self.sessions.len()).for_each(|peer| self.refresh(peer));
            }
        }
    }

    pub(super) fn cluster_status(&self, now: Time) -> ClusterStatus {
        ClusterStatus { is_isolated: self.is_isolated(), ..self.registry.get_cluster_status(now) }
    }

    /// Why this node calls itself isolated, if it does. Whoever slept has not listened: that is settled first.
    pub(super) fn isolation(&self, now: Time) -> Option<Isolation> {
        let isolated = self.late_to.is_none() && self.is_isolated();
        let quiet = || Isolation::Quiet(self.isolation_times.quiet(now));
        isolated.then(|| if self.is_cut_off() { Isolation::CutOff } else { quiet() })
    }

    pub(super) fn health_at(&self, now: Time) -> SelfHealth {
        let recent = self.config.heartbeat_interval * self.config.down_after;
        if self.is_isolated() {
            SelfHealth::Isolated
        } else if self.drops.max(self.filtered).is_some_and(|at| now.since(at) < recent) {
            SelfHealth::Flooded
        } else if self.stall.is_some_and(|(end, _)| now.since(end) < recent) {
            SelfHealth::Stalled
        } else {
            SelfHealth::Ok
        }
    }
}
