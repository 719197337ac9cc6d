//! Witnesses: runs whose echoes count for the quorum guard of other nodes.
//!
//! Two rosters may have majorities without a common member, so a run that takes another roster is no witness of it at first. It
//! remembers the rosters that it has reported. A run is *ready* when of each *former* roster more than half of the members report
//! the present roster, at one moment. A former roster is forgotten when more than half of its members are ready, or further. From
//! then on no majority of the former roster can be witnesses of it, unless a majority of the present roster goes back the same way.
//! Nor can a majority be witnesses of another roster that it had agreed to before: a member that took part has that one as a former
//! roster too. Members that left for good are not counted, so one that is back is no witness before all members of its roster
//! know. Restarts change nothing of this, because the shell keeps the state on disk. A change of roster is reported as
//! `unsaved` until it is there, and counts for nothing until then.

use std::sync::Arc;
use std::time::Duration;

use super::Node;
use super::report::config_hash;
use crate::proto::config::ConfigError;
use crate::proto::messages::LeaveReason;
use crate::proto::records::{Profile, Standing};
use crate::proto::roster_state::{FormerRoster, MOST_MEMBERS, Member, RosterState};
use crate::proto::seal::Instance;
use crate::proto::snapshot::{FormerView, Missing, WitnessView};
use crate::proto::timer::{Time, micros};

/// A state that could not be saved is offered again after this many intervals.
const AGAIN: u32 = 10;
/// Members that a view names.
const NAMED: usize = 16;

/// The rosters that this node remembers, and whether its run is a witness.
#[derive(Debug, Default)]
pub(super) struct Witnessing {
    /// What the shell keeps; `None`: it keeps nothing, and the run is never a witness.
    state: Option<RosterState>,
    /// The number of the newest change of the state, of the newest one on which safety depends, of the newest state that was
    /// handed out, and of the newest one that is on disk.
    changed: u64,
    needed: u64,
    offered: u64,
    saved: u64,
    /// When a state that could not be saved is offered again.
    again_at: Time,
    witness: bool,
    /// Of each former roster more than half of the members have reported the present one.
    ready: bool,
    /// The run is not a witness before this time, because the settings have changed.
    from: Time,
    /// Since when a leave for good has been waiting to be on disk.
    leaving: Option<Time>,
}

impl Witnessing {
    fn change(&mut self, is_needed: bool) {
        self.changed += 1;
        if is_needed {
            self.needed = self.changed;
        }
    }

    /// Whether everything on which safety depends is on disk.
    fn is_saved(&self) -> bool {
        self.state.is_some() && self.saved >= self.needed
    }

    fn former(&self) -> &[FormerRoster] {
        self.state.as_ref().map_or(&[], |state| &state.former)
    }
}

/// Why [`Node::bootstrap`] changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BootstrapRefused {
    /// The hash is not that of the present roster, or none was given. To confirm: repeat it with this hash, if these members are
    /// known to be stopped or to have the present roster.
    Unconfirmed {
        /// The hash of the present roster.
        roster_hash: u64,
        /// Members of the present roster and of former ones that this node does not hear, sorted.
        unheard: Vec<Arc<str>>,
    },
    /// The shell keeps no state, or the state is not on disk yet.
    Unsaved,
    /// This node hears a witness of another roster.
    OtherWitness(Arc<str>),
    /// This node leaves.
    Leaving,
}

impl Node {
    /// Sets the state of rosters that the shell read at its start (`RosterState::default()` if there was none). The
    /// shell keeps the state from now on. Call this once, right after the node was made. Without it the run is never a
    /// witness: its echoes count for nobody's quorum guard, and it never holds the guard itself.
    ///
    /// # Errors
    /// The state is not valid; nothing has changed then.
    pub fn keep_rosters(&mut self, state: RosterState, now: Time) -> Result<(), ConfigError> {
        self.advance(now);
        state.validate()?;
        let (config, wait) = (config_hash(&self.config), micros(self.config.guard_wait()));
        let kept = Duration::from_micros(state.guard_wait.max(wait));
        // Proofs that an earlier run gave under other settings may stand for as long as these said.
        let other = state.format > 0 && (state.config_hash, state.guard_wait) != (config, wait);
        self.witnessing = Witnessing::default();
        self.witnessing.from = if other { self.now + kept } else { self.now };
        self.witnessing.state = Some(state);
        self.remember_roster();
        self.note_witness();
        self.publish_profile();
        Ok(())
    }

    /// The newest state of rosters, with its number, if it has changed since the last call. The shell writes it, newest first, and
    /// then calls [`handle_state_saved`](Node::handle_state_saved), or [`handle_state_failed`](Node::handle_state_failed).
    pub fn poll_state(&mut self) -> Option<(u64, RosterState)> {
        let witnessing = &mut self.witnessing;
        if witnessing.offered == witnessing.changed || self.now < witnessing.again_at {
            return None;
        }
        witnessing.offered = witnessing.changed;
        Some((witnessing.changed, witnessing.state.clone()?))
    }

    /// The state of this number, or a newer one, is on disk, and will be there after a loss of power.
    pub fn handle_state_saved(&mut self, number: u64, now: Time) {
        self.advance(now);
        let witnessing = &mut self.witnessing;
        witnessing.saved = witnessing.saved.max(number.min(witnessing.offered));
        if self.witnessing.leaving.is_some() && self.witnessing.is_saved() {
            return self.leave(LeaveReason::Removal, now);
        }
        self.note_witness();
        self.publish_profile();
    }

    /// The state of this number could not be saved. If none newer was handed out, it is offered again in ten intervals; until it
    /// is on disk the run is `unsaved`, if it took another roster.
    pub fn handle_state_failed(&mut self, number: u64, now: Time) {
        self.advance(now);
        let witnessing = &mut self.witnessing;
        if number < witnessing.offered {
            return;
        }
        witnessing.offered = witnessing.saved;
        witnessing.again_at = self.now + self.config.heartbeat_interval * AGAIN;
        if witnessing.leaving.is_some() && number >= witnessing.needed {
            self.give_up_leaving();
        }
    }

    /// Makes this run alone a witness of its present roster, whatever former rosters it had. It is for an operator who knows that
    /// no other side acts; on more than half of the nodes it makes the guard possible again. `confirm`: the hash of the roster.
    ///
    /// # Errors
    /// The hash is missing or wrong, or a bootstrap is not allowed now; nothing has changed then.
    pub fn bootstrap(&mut self, confirm: Option<u64>, now: Time) -> Result<(), BootstrapRefused> {
        self.advance(now);
        if self.leaving.is_some() || self.witnessing.leaving.is_some() {
            return Err(BootstrapRefused::Leaving);
        }
        if !self.is_saved() {
            return Err(BootstrapRefused::Unsaved);
        }
        let own = self.own_report();
        let is_other = |told: &Profile| told.standing == Standing::Witness && Some(told.roster) != own;
        let other = (0..self.sessions.len()).find(|peer| self.report_of(*peer).is_some_and(is_other));
        if let Some(peer) = other {
            return Err(BootstrapRefused::OtherWitness(self.registry.at(peer).server_id.clone()));
        }
        let roster_hash = self.directory.hash();
        if confirm != Some(roster_hash) {
            return Err(BootstrapRefused::Unconfirmed { roster_hash, unheard: self.unheard_members() });
        }
        self.stand_as_witness();
        self.count_majority();
        self.publish_profile();
        Ok(())
    }

    /// Members of the present roster and of former ones that this node does not hear.
    fn unheard_members(&self) -> Vec<Arc<str>> {
        let heard = |member: &&Member| {
            self.is_own(member) || self.peer_called(member).is_some_and(|peer| self.report_of(peer).is_some())
        };
        let roster = self.witnessing.state.iter().flat_map(|state| &state.roster);
        let former = self.witnessing.former().iter().flat_map(|former| &former.members);
        let unheard = roster.chain(former).filter(|member| !heard(member));
        let mut names: Vec<Arc<str>> = unheard.map(|member| member.name.as_str().into()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Records the present roster. If it differs from the one reported before, that becomes a former one, and this run
    /// is not a witness.
    pub(super) fn remember_roster(&mut self) {
        if !self.can_be_guarded() {
            self.witnessing.witness = false;
            return;
        }
        let members = self.members();
        let Some(state) = &mut self.witnessing.state else { return };
        if state.enter(members) {
            (self.witnessing.witness, self.witnessing.ready) = (false, false);
            self.witnessing.change(true);
        }
    }

    /// Where a node observes less than half of the others nobody ever holds the guard, and nothing need be remembered.
    fn can_be_guarded(&self) -> bool {
        self.directory.len() <= MOST_MEMBERS && self.sessions.len() >= self.directory.len() / 2
    }

    /// The members of the present roster, in its order.
    fn members(&self) -> Vec<Member> {
        let member = |place: usize| {
            let name = self.directory.id(place).to_string();
            let called = if place == self.me { &self.config.server_id } else { self.id_of(place) };
            let id = Some(called.to_string()).filter(|id| *id != name);
            Member { name, id, left: false }
        };
        (0..self.directory.len()).map(member).collect()
    }

    /// The id of the node at `place` is known now.
    pub(super) fn note_member_id(&mut self, place: usize) {
        let (name, id) = (self.directory.id(place).to_string(), self.id_of(place).to_string());
        let Some(state) = &mut self.witnessing.state else { return };
        let unknown = |member: &&mut Member| member.name == name && member.id.is_none() && id != name;
        if let Some(member) = state.roster.iter_mut().find(unknown) {
            member.id = Some(id);
            self.witnessing.change(false);
        }
    }

    /// The peer is back, or never left, or another node is at its entry: it may be a witness of a former roster, so that must be on
    /// disk before this run counts.
    pub(super) fn note_return(&mut self, peer: usize) {
        self.mark(peer, false);
    }

    /// Notes that a peer left for good, if its profile says so: with this roster, and bound by no other. Who agreed to another
    /// roster, or may have, is counted where this one is a former roster. So is a run that this one never met: the profile may be
    /// old, and a newer run be back.
    pub(super) fn note_left_for_good(&mut self, peer: usize) {
        let known = self.sessions[peer].known;
        let has_left = self.records.profile(self.places[peer]).is_some_and(|told| {
            told.left().is_some_and(|leave| leave.reason == LeaveReason::Removal)
                && known == Some(told.instance)
                && Some(told.roster) == self.own_report()
                && told.standing == Standing::Free
        });
        if has_left {
            self.mark(peer, true);
        }
    }

    fn mark(&mut self, peer: usize, left: bool) {
        let id = self.registry.at(peer).server_id.clone();
        let name = self.directory.id(self.places[peer]).clone();
        let Some(state) = &mut self.witnessing.state else { return };
        let mut changed = false;
        for member in state.members_mut().filter(|member| member.left != left) {
            // Another node that is at the entry now is counted, but has no vote: it knows nothing of former rosters.
            if is_called(member, &name, &id) || !left && *member.name == *name {
                (member.left, changed) = (left, true);
            }
        }
        if changed {
            self.witnessing.change(!left);
            self.note_witness();
            self.publish_profile();
        }
    }

    /// Whether a leave for good must wait until it is on disk: then it begins when the shell says so.
    pub(super) fn puts_off_leaving(&mut self, reason: LeaveReason) -> bool {
        let witnessing = &mut self.witnessing;
        if reason != LeaveReason::Removal {
            return false;
        }
        // Where no roster was ever remembered there is nothing to leave.
        let leaves =
            |state: &&mut RosterState| !state.roster.is_empty() && (state.witness || !state.returned);
        if let Some(state) = witnessing.state.as_mut().filter(leaves) {
            (state.witness, state.returned) = (false, true);
            (witnessing.witness, witnessing.leaving) = (false, Some(self.now));
            // Even if an older state could not be saved just now.
            witnessing.again_at = self.now;
            witnessing.change(true);
            self.count_majority();
            self.publish_profile();
        }
        self.witnessing.leaving.is_some() && !self.witnessing.is_saved()
    }

    /// The leave for good cannot be saved: it is announced as one for a restart, so others still count this member.
    fn give_up_leaving(&mut self) {
        self.witnessing.leaving = None;
        self.leave(LeaveReason::Restart, self.now);
    }

    /// Whether this roster is on disk, with all former ones.
    fn is_saved(&self) -> bool {
        self.witnessing.is_saved() && self.can_be_guarded()
    }

    /// What this run reports of itself.
    pub(super) fn standing(&self) -> Standing {
        if !self.is_saved() {
            Standing::Unsaved
        } else if self.witnessing.witness {
            Standing::Witness
        } else if self.witnessing.former().is_empty() {
            Standing::Free
        } else if self.has_returned() {
            Standing::Returned
        } else if self.witnessing.ready {
            Standing::Ready
        } else {
            Standing::Bound
        }
    }

    /// Whether this node left for good and has not been a witness since.
    fn has_returned(&self) -> bool {
        self.witnessing.state.as_ref().is_some_and(|state| state.returned)
    }

    /// Whether this run is a witness of its roster.
    pub(super) fn is_witness(&self) -> bool {
        self.standing() == Standing::Witness
    }

    /// Looks whether this run can become a witness.
    pub(super) fn review_witness(&mut self) {
        let wait = self.config.guard_wait();
        if self.witnessing.leaving.is_some_and(|since| self.now.since(since) >= wait) {
            return self.give_up_leaving();
        }
        if self.witnessing.witness || self.witnessing.leaving.is_some() || !self.is_saved() {
            return;
        }
        let former = self.witnessing.former();
        let ready = self.witnessing.ready || former.iter().all(|former| self.has_agreed(former, false));
        let agreed: Vec<bool> = former.iter().map(|former| ready && self.has_agreed(former, true)).collect();
        self.witnessing.ready = ready;
        if agreed.contains(&true)
            && let Some(state) = &mut self.witnessing.state
        {
            let mut agreed = agreed.iter();
            state.former.retain(|_| agreed.next() != Some(&true));
            self.witnessing.change(false);
        }
        if !self.config.mechanisms.memory {
            return self.stand_as_witness();
        }
        if self.now >= self.witnessing.from {
            let is_joined = self.is_joined();
            if is_joined {
                self.forget_former();
            }
            // Who left for good and is back needs everybody: a member that missed its return would go on without it.
            let was_witness = self.witnessing.state.as_ref().is_some_and(|state| state.witness);
            let is_free = self.witnessing.former().is_empty();
            if is_free && (was_witness || is_joined && !self.has_returned() || self.has_everybody()) {
                self.stand_as_witness();
            }
        }
        self.publish_profile();
    }

    fn forget_former(&mut self) {
        if let Some(state) = self.witnessing.state.as_mut().filter(|state| !state.former.is_empty()) {
            state.former.clear();
            self.witnessing.change(false);
        }
    }

    fn stand_as_witness(&mut self) {
        let (config, wait) = (config_hash(&self.config), micros(self.config.guard_wait()));
        let Some(state) = &mut self.witnessing.state else { return };
        state.former.clear();
        (state.witness, state.returned, state.config_hash, state.guard_wait) = (true, false, config, wait);
        self.witnessing.witness = true;
        self.witnessing.change(false);
    }

    /// More than half of the members, this node not counted, are witnesses of this roster.
    fn is_joined(&self) -> bool {
        let is_present = |peer: &usize| self.has_witness(*peer) && self.report_of(*peer).is_some();
        (0..self.sessions.len()).filter(is_present).count() > self.directory.len() / 2
    }

    /// Every member reports this roster and these settings, and none of them is bound to another one.
    fn has_everybody(&self) -> bool {
        let own = self.records.profile(self.me).map(|profile| (profile.roster, profile.config));
        let is_ready = |peer: usize| {
            self.report_of(peer).is_some_and(|told| {
                Some((told.roster, told.config)) == own
                    && matches!(told.standing, Standing::Free | Standing::Witness)
            })
        };
        self.sessions.len() + 1 == self.directory.len() && (0..self.sessions.len()).all(is_ready)
    }

    /// Whether enough members of a former roster have agreed to the present one; `ready`: and are ready.
    fn has_agreed(&self, former: &FormerRoster, ready: bool) -> bool {
        let present = former.members.iter().filter(|member| !member.left);
        present.filter(|member| self.agrees(member, ready)).count() >= former.needed()
    }

    /// A member agrees if it reports the present roster and has this on disk; `ready`: and is not bound by a former roster of its
    /// own.
    fn agrees(&self, member: &Member, ready: bool) -> bool {
        let agrees = |told: &Profile| {
            let far_enough = match told.standing {
                Standing::Unsaved | Standing::Returned => false,
                Standing::Bound => !ready,
                Standing::Ready | Standing::Free | Standing::Witness => true,
            };
            Some(told.roster) == self.own_report() && far_enough
        };
        self.is_own(member) && !self.has_returned()
            || self.peer_called(member).and_then(|peer| self.report_of(peer)).is_some_and(agrees)
    }

    fn own_report(&self) -> Option<[u8; 4]> {
        self.records.profile(self.me).map(|profile| profile.roster)
    }

    fn is_own(&self, member: &Member) -> bool {
        is_called(member, &self.config.own_name, &self.config.server_id)
    }

    /// The peer that a member of a former roster is.
    fn peer_called(&self, member: &Member) -> Option<usize> {
        let is_it = |peer: &usize| {
            is_called(member, self.directory.id(self.places[*peer]), &self.registry.at(*peer).server_id)
        };
        let likely = self.directory.place(&member.name).and_then(|place| self.peer_at(place));
        likely.filter(is_it).or_else(|| (0..self.sessions.len()).find(is_it))
    }

    /// What the peer's present run reports, while this node has an echo of the peer that is younger than G. A datagram with an
    /// echo came with the newest report, or after it.
    fn report_of(&self, peer: usize) -> Option<&Profile> {
        let echoed = self.accounts[peer].echoed?;
        let run: Option<Instance> =
            self.sessions[peer].confirmed.as_ref().map(|confirmed| confirmed.instance);
        let is_fresh = self.now < echoed + self.config.proof_horizon();
        let told = self.records.profile(self.places[peer]);
        told.filter(|told| is_fresh && Some(told.instance) == run)
    }

    /// What keeps this run from being a witness.
    pub(super) fn witness_view(&self) -> WitnessView {
        let missing = match self.standing() {
            Standing::Witness => None,
            Standing::Unsaved if self.witnessing.state.is_none() => Some(Missing::State),
            Standing::Unsaved if !self.can_be_guarded() => Some(Missing::Observers),
            Standing::Unsaved => Some(Missing::Save),
            Standing::Bound | Standing::Ready | Standing::Returned => Some(Missing::Agreement),
            Standing::Free if self.now < self.witnessing.from => Some(Missing::Wait(self.witnessing.from)),
            Standing::Free => Some(Missing::Witnesses),
        };
        let view = |former: &FormerRoster| {
            let present = || former.members.iter().filter(|member| !member.left);
            let silent = present().filter(|member| !self.agrees(member, self.witnessing.ready));
            let mut not_agreed: Vec<Arc<str>> = silent.map(|member| member.name.as_str().into()).collect();
            let (members, agreed) = (present().count(), present().count() - not_agreed.len());
            not_agreed.sort();
            not_agreed.truncate(NAMED);
            FormerView { members, needed: former.needed(), agreed, not_agreed }
        };
        WitnessView {
            standing: self.standing(),
            missing,
            former: self.witnessing.former().iter().map(view).collect(),
        }
    }
}

/// Whether a member is the node that a roster calls `name`, and that has this id as far as known. An id that is known decides.
fn is_called(member: &Member, name: &str, id: &str) -> bool {
    match &member.id {
        Some(known) => known == id,
        None => member.name == name || member.name == id,
    }
}
