//! Leaves as the profiles report them: they reach a node also where the leaver's own good-bye was lost.

use std::time::Duration;

use super::Node;
use super::report::Account;
use super::views::OVERHEAD;
use crate::proto::fusion::deny_leave;
use crate::proto::leave::{Leave, LeaveReason};
use crate::proto::peer::PeerStatus;
use crate::proto::records::{Profile, Record};
use crate::proto::seal::Instance;
use crate::proto::timer::Time;

impl Node {
    /// The leave in this node's own profile, once it leaves.
    pub(super) fn own_leave(&self) -> Option<Leave> {
        let reason = self.leaving.as_ref()?.reason();
        Some(Leave { reason, at: self.drains.wall_at(self.now).as_secs() })
    }

    /// This node's profile for a Leave, if it fits into a datagram.
    pub(super) fn last_profile(&self) -> Option<Box<Record>> {
        let room = self.config.max_datagram - OVERHEAD;
        self.records.own_profile_record().filter(|profile| profile.encoded_len() <= room).map(Box::new)
    }

    /// A new profile of an observed peer came; `left` is what [`leave_of`](Node::leave_of) returned before. A leave of the
    /// run that this node knows is an event. The profile of another run ends the leave, as soon as this node could have
    /// confirmed that run.
    pub(super) fn note_leave(
        &mut self,
        peer: usize,
        profile: &Profile,
        left: Option<(LeaveReason, Duration)>,
    ) {
        let is_known = self.sessions[peer].known == Some(profile.instance);
        match profile.left() {
            Some(leave) if is_known && self.accounts[peer].left.is_none() => {
                self.tell_left(peer, leave.reason, "its profile reports");
            }
            Some(_) => {}
            None => {
                // It is back, or it never left: a profile can be forged. What it said itself stands.
                if !is_known || self.accounts[peer].left.is_none() {
                    self.note_return(peer);
                }
                if !is_known && self.sessions[peer].known.is_some() {
                    let account = &mut self.accounts[peer];
                    account.left = account.left.or(left.map(|(reason, age)| (reason, self.now - age)));
                    account.returned = account.returned.or(Some(self.now));
                }
            }
        }
        self.note_left_for_good(peer);
        self.refresh(peer);
    }

    /// The leave in the profile of the node at `place`: of which run, why, and how long ago.
    pub(super) fn leave_at(&self, place: usize, now: Time) -> Option<(Instance, LeaveReason, Duration)> {
        let profile = self.records.profile(place)?;
        let Leave { reason, at } = *profile.left()?;
        let age = self.drains.wall_at(now).saturating_sub(Duration::from_secs(at));
        Some((profile.instance, reason, age))
    }

    /// Why and how long ago the run of a peer that this node knows left: as the peer said itself, else as its profile says
    /// while the peer is missed. A profile neither proves life nor ends it, so a forged one does not make a live peer
    /// `left`.
    pub(super) fn leave_of(&self, peer: usize, now: Time) -> Option<(LeaveReason, Duration)> {
        let Account { left, returned, .. } = self.accounts[peer];
        if let Some((reason, at)) = left {
            let is_back = returned.is_some_and(|at| now.since(at) >= self.config.proof_horizon());
            return (!is_back).then(|| (reason, now.since(at)));
        }
        let (run, reason, age) = self.leave_at(self.places[peer], now)?;
        let is_missed = match self.sessions[peer].known {
            Some(known) => known == run && self.registry.at(peer).status != PeerStatus::Healthy,
            // This run never heard the peer: those who did may know of a newer run.
            None => !deny_leave(self.drawing.picture.says(self.places[peer])),
        };
        is_missed.then_some((reason, age))
    }
}
