//! The rosters that a node remembers across restarts, for the quorum guard.
//!
//! A run counts for the guard of others only while it knows which rosters its earlier runs have reported. The core owns this
//! state, and the shell keeps it on disk: see [`Node::keep_rosters`](super::Node::keep_rosters).

use serde::{Deserialize, Serialize};

use super::config::ConfigError;
use super::server_id::ServerId;

/// The version of the form below.
const FORMAT: u32 = 1;
/// Members of a roster that is remembered. A node with a longer roster is never a witness.
pub(crate) const MOST_MEMBERS: usize = 1024;
/// Former rosters that are remembered. Beyond these the oldest two become one set.
pub(crate) const MOST_FORMER: usize = 16;
/// Members of a set of rosters that became one.
const MOST_SET: usize = MOST_MEMBERS * MOST_FORMER;
/// Bytes of a name as a roster writes it: a host name and a port.
const MOST_NAME: usize = 280;

/// What a node remembers of its rosters. `RosterState::default()` is the state of a first start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterState {
    /// The version of this form; 0 in the state of a first start.
    pub format: u32,
    /// The hash of the settings that must agree, as of the newest run that stood by them for `guard_wait`.
    pub config_hash: u64,
    /// The waiting time of the quorum guard under these settings, in microseconds.
    pub guard_wait: u64,
    /// Whether this run or an earlier one was a witness since the node last left for good.
    pub witness: bool,
    /// Whether the node left for good since it was last a witness. It agrees to no roster then, and is a witness only when all
    /// members of its roster know: some may still not count it.
    pub returned: bool,
    /// The members of the roster that was reported last.
    pub roster: Vec<Member>,
    /// Rosters that were reported before, and of which too few members have agreed to the present one. The oldest is first.
    pub former: Vec<FormerRoster>,
}

/// A former roster, or two of them that became one set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerRoster {
    /// Its members.
    pub members: Vec<Member>,
    /// Whether all members must agree. Otherwise more than half are enough.
    pub all: bool,
}

/// One member of a roster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The name that the roster gives it: its id, or the `HOST:PORT` of an entry without an id.
    pub name: String,
    /// The id that an entry without one led to, once that is known.
    pub id: Option<String>,
    /// Whether it left for good, and no newer run of it was heard.
    pub left: bool,
}

impl RosterState {
    /// Checks the form and its bounds.
    ///
    /// # Errors
    /// The state has another format, is too long, or holds a text that is no name.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |text: &str| Err(ConfigError::Invalid(format!("the state of rosters {text}")));
        if self.format > FORMAT || (self.format == 0 && *self != RosterState::default()) {
            return wrong("has an unknown format");
        }
        if self.former.len() > MOST_FORMER {
            return wrong("has too many former rosters");
        }
        for members in self.former.iter().map(|former| &former.members).chain([&self.roster]) {
            if members.len() > MOST_SET {
                return wrong("has a roster that is too long");
            }
            let is_id = |id: &String| ServerId::check(id).is_ok();
            let is_sound = |m: &Member| m.name.len() <= MOST_NAME && m.id.as_ref().is_none_or(is_id);
            if !members.iter().all(is_sound) {
                return wrong("has a member without a valid name");
            }
        }
        Ok(())
    }

    /// Whether the roster of the state has exactly these members, by name. Both are in order.
    pub(crate) fn is_of(&self, members: &[Member]) -> bool {
        names(&self.roster).eq(names(members))
    }

    /// Enters the members of the present roster: the one before becomes a former one. True if it was another roster.
    pub(crate) fn enter(&mut self, members: Vec<Member>) -> bool {
        self.format = FORMAT;
        if self.is_of(&members) {
            return false;
        }
        // What is known of members that stay: the id that they led to, and whether they left.
        let before = std::mem::replace(&mut self.roster, members);
        // Who was a witness alone had nobody's agreement, so that is no vote to bring along.
        self.witness &= before.len() != 1 || !self.former.is_empty();
        for member in &mut self.roster {
            let former = self.former.iter().rev().flat_map(|former| &former.members);
            if let Some(known) = before.iter().chain(former).find(|known| known.name == member.name) {
                member.left |= known.left;
                member.id = member.id.take().or_else(|| known.id.clone());
            }
        }
        let is_same = |former: &FormerRoster, roster: &[Member]| names(&former.members).eq(names(roster));
        let roster = &self.roster;
        self.former.retain(|former| former.all || !(is_same(former, roster) || is_same(former, &before)));
        if !before.is_empty() {
            self.former.push(FormerRoster { members: before, all: false });
        }
        if self.former.len() > MOST_FORMER {
            self.join_oldest();
        }
        true
    }

    /// The oldest two become one set.
    fn join_oldest(&mut self) {
        let oldest = self.former.remove(0);
        let set = &mut self.former[0];
        for member in oldest.members {
            if !set.members.iter().any(|known| (&known.name, &known.id) == (&member.name, &member.id)) {
                set.members.push(member);
            }
        }
        if set.members.len() >= MOST_SET {
            // Nobody answers to an empty name, so this set never agrees.
            set.members.truncate(MOST_SET - 1);
            set.members.push(Member::default());
        }
        set.members.sort();
        set.all = true;
    }

    /// All members, of the present roster and of former ones.
    pub(crate) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.former.iter_mut().flat_map(|former| &mut former.members).chain(&mut self.roster)
    }
}

fn names(members: &[Member]) -> impl Iterator<Item = &str> {
    members.iter().map(|member| member.name.as_str())
}

impl FormerRoster {
    /// How many of its members must agree.
    pub fn needed(&self) -> usize {
        let present = self.members.iter().filter(|member| !member.left).count();
        if self.all { present } else { present / 2 + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(names: &[&str]) -> Vec<Member> {
        names.iter().map(|name| Member { name: (*name).to_owned(), ..Member::default() }).collect()
    }

    #[test]
    fn a_roster_that_was_reported_becomes_a_former_one_until_it_is_the_present_one() {
        let mut state = RosterState::default();
        assert!(state.enter(roster(&["a", "b"])) && state.former.is_empty());
        assert!(!state.enter(roster(&["a", "b"])));
        state.roster[0].left = true;
        assert!(state.enter(roster(&["a", "b", "c"])));
        assert_eq!((state.former.len(), state.former[0].needed()), (1, 1), "who left is not counted");
        assert!(state.roster[0].left, "what is known of a member goes with it");
        state.enter(roster(&["a", "b"]));
        assert!(state.former.len() == 1 && state.former[0].members.len() == 3);
    }

    #[test]
    fn who_left_is_known_as_long_as_a_roster_with_it_is() {
        let mut state = RosterState { witness: true, ..RosterState::default() };
        state.enter(roster(&["a", "b", "c"]));
        state.roster[2].left = true;
        // Back and forth between the old roster and the new one.
        for names in [&["a", "b"][..], &["a", "b", "c"], &["a", "b"]] {
            state.enter(roster(names));
        }
        let is_left = |member: &Member| member.name == "c" && member.left;
        assert!(state.former[0].members.iter().any(is_left), "{state:?}");
        assert_eq!((state.former.len(), state.former[0].needed()), (1, 2));
    }

    #[test]
    fn a_vote_outlives_a_start_alone_and_none_comes_from_it() {
        let mut state = RosterState { witness: true, ..RosterState::default() };
        state.enter(roster(&["a", "b", "c"]));
        assert!(state.witness);
        // A restart whose sources are not answered yet.
        state.enter(roster(&["a"]));
        state.enter(roster(&["a", "b", "c"]));
        assert!(state.witness, "it never stood for the roster of one");
        let mut alone =
            RosterState { witness: true, format: FORMAT, roster: roster(&["a"]), ..RosterState::default() };
        alone.enter(roster(&["a", "b", "c"]));
        assert!(!alone.witness);
    }

    #[test]
    fn beyond_sixteen_the_oldest_two_become_one_set_of_which_all_must_agree() {
        let mut state = RosterState::default();
        for n in 0..20 {
            state.enter(roster(&["a", &format!("b{n:02}")]));
        }
        assert_eq!(state.former.len(), MOST_FORMER);
        let (oldest, second) = (&state.former[0], &state.former[1]);
        assert_eq!((oldest.all, oldest.members.len(), oldest.needed()), (true, 5, 5));
        assert_eq!((second.all, second.needed()), (false, 2));
        assert!(state.validate().is_ok());
        assert!(RosterState { format: FORMAT + 1, ..state }.validate().is_err());
    }
}
