//! What the rows say of a peer that this node does not observe: a pure function from their votes to its status, verdict
//! and sentence.

use super::drain::Draining;
use super::meaning::{DRAINING, ISOLATED, drain};
use super::peer::{PeerStatus, Thresholds};
use super::picture::Says;
use super::verdict::{Differing, Isolation, Verdict, apply, difference, said_of};

/// All that is known of a peer that others observe.
#[derive(Clone, Debug)]
pub(crate) struct Hearsay {
    /// What its observers say.
    pub(crate) says: Says,
    /// Whether any of them had ever heard it.
    pub(crate) heard_of: bool,
    /// What held until now.
    pub(crate) status: PeerStatus,
    pub(crate) verdict: Verdict,
    /// For how many halves of an interval no observer has had a vote.
    pub(crate) voteless: u8,
    pub(crate) thresholds: Thresholds,
    /// Whether this node is isolated, and why it thinks so; and whether that is so new that nobody may be called Down.
    pub(crate) isolated: Option<Isolation>,
    pub(crate) gives_nobody_up: bool,
    /// Whether this node has listened for long enough to have heard those whom it hears.
    pub(crate) listens: bool,
    /// What its profile tells and differs from this node's, as in [`Evidence`](super::verdict::Evidence).
    pub(crate) roster_differs: Option<Differing>,
    pub(crate) config_differs: Option<Differing>,
    /// Its drain, if it drains.
    pub(crate) draining: Option<Draining>,
    /// Its profile has a leave that is no alarm yet.
    pub(crate) profile_left: bool,
}

/// Whether most of those who call a node Down say that it left.
pub(crate) fn say_left(says: Says) -> bool {
    says.left * 2 > says.down
}

/// Whether observers contradict the leave in a node's profile: one of them hears the node, or most of those that call it
/// Down do not say that it left. Then they know of a newer run.
pub(crate) fn deny_leave(says: Says) -> bool {
    says.hear > 0 || says.down > 0 && !say_left(says)
}

/// To how many of its observers a node said that it leaves.
pub(crate) fn said_to(says: Says) -> String {
    format!("it said to {} of {} that it leaves", says.left, says.observers())
}

impl Hearsay {
    /// Down if most of the observers with votes say so; Suspected if more than a quarter do, and at least two: what one
    /// observer misses may be its own fault, or that of its link. Without a vote the peer becomes Suspected, and later
    /// Down, after the same delay as with misses. That begins at once if no observer can be reached. If observers are
    /// reached, or nobody has ever heard the peer, it begins once they could have heard it. Nothing changes while an
    /// observer has another roster, since its silence may mean that it hears the peer, nor while this node has not
    /// listened.
    pub(crate) fn status(&self) -> PeerStatus {
        let Says { suspected, down, reached, strange, .. } = self.says;
        let votes = self.says.votes();
        let Thresholds { suspect_after, down_after } = self.thresholds;
        let newborn = if reached > 0 || !self.heard_of { down_after } else { 0 };
        let since = |intervals: u32| u32::from(self.voteless) >= (2 * intervals).min(u8::MAX.into());
        let said = match () {
            () if votes == 0 && (strange > 0 || !self.listens) => self.status,
            () if votes == 0 && since(newborn + down_after - suspect_after) => PeerStatus::Down,
            () if votes == 0 && since(newborn) => self.status.max(PeerStatus::Suspected),
            () if votes == 0 => self.status,
            () if down * 2 > votes => PeerStatus::Down,
            () if (suspected + down) * 4 > votes && suspected + down >= 2 => PeerStatus::Suspected,
            () => PeerStatus::Healthy,
        };
        // An isolated node does not know better than it did.
        let most =
            if self.gives_nobody_up { self.status.max(PeerStatus::Suspected) } else { PeerStatus::Down };
        said.min(most)
    }

    /// The first verdict that applies. `status` is what [`status`](Hearsay::status) gave.
    pub(crate) fn verdict(&self, status: PeerStatus) -> Verdict {
        self.apply(status).next().unwrap_or(Verdict::Up)
    }

    /// All verdicts that apply, in order.
    pub(crate) fn conditions(&self, status: PeerStatus) -> Vec<Verdict> {
        self.apply(status).collect()
    }

    fn apply(&self, status: PeerStatus) -> impl Iterator<Item = Verdict> {
        let (misses, left) = (status != PeerStatus::Healthy, self.has_left(status));
        let applies = move |verdict| match verdict {
            Verdict::Isolated => self.isolated.is_some() && misses && self.heard_of && !left,
            Verdict::Left => left,
            Verdict::Draining => misses && self.draining.is_some(),
            Verdict::Unknown => !self.heard_of,
            Verdict::Down => status == PeerStatus::Down,
            _ => false,
        };
        let differs = self.roster_differs.is_some() || self.config_differs.is_some();
        apply(applies, differs, self.draining.is_some())
    }

    /// Whether it left, by those who call it Down.
    fn has_left(&self, status: PeerStatus) -> bool {
        let Says { suspected, down, left, .. } = self.says;
        let by_profile = self.profile_left && !deny_leave(self.says);
        match status {
            PeerStatus::Healthy => by_profile && !self.heard_of,
            // The first to whom it said so are no alarm.
            PeerStatus::Suspected => by_profile || left > 0 && left == down && suspected == 0,
            PeerStatus::Down if by_profile => true,
            // An isolated node does not know better than it did.
            PeerStatus::Down if self.says.votes() == 0 && self.isolated.is_some() => {
                self.verdict == Verdict::Left
            }
            PeerStatus::Down => say_left(self.says),
        }
    }

    /// The sentence that explains the verdict.
    pub(crate) fn sentence(&self, status: PeerStatus) -> String {
        let Says { suspected, down, hear, reached, .. } = self.says;
        let (votes, observers) = (self.says.votes(), self.says.observers());
        match self.verdict(status) {
            Verdict::Unknown => format!("never heard by any of the {observers} that observe it"),
            Verdict::Isolated => self.isolated.map_or_else(String::new, Isolation::sentence),
            Verdict::Left if self.says.left == 0 => "it said to its observers that it leaves".to_owned(),
            Verdict::Left => said_to(self.says),
            Verdict::Draining => said_of(self.draining.as_ref()),
            Verdict::Down | Verdict::Up if votes == 0 && reached == 0 => {
                format!("none of the {observers} that observe it can be reached")
            }
            Verdict::Down | Verdict::Up if votes == 0 => {
                format!(
                    "none of the {reached} that observe it, and can be reached, has heard it since its start"
                )
            }
            Verdict::Down if down == observers => format!("silent to all {observers} that observe it"),
            Verdict::Down => {
                format!("{down} of {observers} say down, {} have no say", self.says.unknown)
            }
            Verdict::ConfigMismatch => {
                let what = difference(self.roster_differs, self.config_differs);
                format!("{what}; {hear} of {observers} hear it")
            }
            _ if suspected + down > 0 => {
                format!("{} of {observers} miss it, {hear} hear it", suspected + down)
            }
            _ => format!("{hear} of {observers} hear it"),
        }
    }

    /// What the verdict means, and the rule by which it holds.
    pub(crate) fn meaning(&self, status: PeerStatus) -> (&'static str, &'static str) {
        match self.verdict(status) {
            Verdict::Isolated => (self.isolated.map_or("", Isolation::meaning), ISOLATED),
            Verdict::Left => {
                ("It told its observers that it leaves.", "left: most of those who call it Down say so")
            }
            Verdict::Draining => (drain(status), DRAINING),
            Verdict::Unknown => (
                "Nobody who observes it has heard it: either it was not started yet, or nothing passes.",
                "unknown: no observer has a vote",
            ),
            Verdict::Down if self.says.votes() > 0 => (
                "Those who observe it hear nothing of it: ask one of them why.",
                "down: most of its observers that can be reached say so",
            ),
            Verdict::Down => (
                "Nobody is left who could hear it: look at those who observe it first.",
                "down: none of its observers has had a vote for too long",
            ),
            Verdict::ConfigMismatch => (
                "It lives; its roster or its settings are not this node's: roll one file out to all.",
                "config_mismatch: its profile tells another hash",
            ),
            _ if status == PeerStatus::Suspected && self.says.votes() == 0 => (
                "Nobody who observes it can tell of it: look at those who observe it first.",
                "suspected: none of its observers has a vote",
            ),
            _ if status == PeerStatus::Suspected => (
                "Several of its observers miss it: ask one of them why.",
                "suspected: more than a quarter of its observers that have a vote miss it",
            ),
            _ if self.says.votes() == 0 => {
                ("Nobody who observes it can tell of it yet.", "up: what was known holds for a while")
            }
            _ => ("Those who observe it hear it.", "up: nothing else applies"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::drain::{self, Drain, Reason};
    use PeerStatus::{Down, Healthy, Suspected};

    fn hearsay(says: Says) -> Hearsay {
        Hearsay {
            says,
            heard_of: true,
            status: Healthy,
            voteless: 0,
            thresholds: Thresholds::default(),
            verdict: Verdict::Up,
            isolated: None,
            gives_nobody_up: false,
            listens: true,
            roster_differs: None,
            config_differs: None,
            draining: None,
            profile_left: false,
        }
    }

    fn votes(healthy: u16, suspected: u16, down: u16, unknown: u16) -> Says {
        let reached = healthy + suspected + down;
        Says {
            healthy,
            suspected,
            down,
            unknown,
            hear: healthy,
            miss: suspected + down,
            reached,
            ..Says::default()
        }
    }

    #[test]
    fn most_of_the_reached_decide() {
        let cases = [
            (votes(16, 0, 0, 0), Healthy, "16 of 16 hear it"),
            (votes(15, 1, 0, 0), Healthy, "1 of 16 miss it, 15 hear it"),
            (votes(12, 2, 2, 0), Healthy, "4 of 16 miss it, 12 hear it"),
            (votes(11, 3, 2, 0), Suspected, "5 of 16 miss it, 11 hear it"),
            (votes(2, 1, 0, 13), Healthy, "1 of 16 miss it, 2 hear it"),
            (votes(1, 1, 1, 13), Suspected, "2 of 16 miss it, 1 hear it"),
            (votes(8, 0, 8, 0), Suspected, "8 of 16 miss it, 8 hear it"),
            (votes(7, 0, 8, 1), Down, "8 of 16 say down, 1 have no say"),
            (votes(0, 0, 16, 0), Down, "silent to all 16 that observe it"),
            (votes(0, 0, 2, 14), Down, "2 of 16 say down, 14 have no say"),
        ];
        for (says, status, text) in cases {
            let hearsay = hearsay(says);
            assert_eq!((hearsay.status(), hearsay.sentence(status).as_str()), (status, text), "{says:?}");
        }
    }

    #[test]
    fn without_observers_it_is_suspected_and_then_down() {
        let mut lost = hearsay(votes(0, 0, 0, 16));
        assert_eq!(lost.status(), Suspected);
        (lost.status, lost.voteless) = (Suspected, 5);
        assert_eq!(lost.status(), Suspected);
        lost.voteless = 6;
        assert_eq!(
            (lost.status(), lost.verdict(Down)),
            (Down, Verdict::Down),
            "five less two intervals later"
        );
        assert_eq!(lost.sentence(Down), "none of the 16 that observe it can be reached");
        let none = "none of the 16 that observe it can be reached";
        assert_eq!((lost.verdict(Suspected), lost.sentence(Suspected).as_str()), (Verdict::Up, none));
        assert!(lost.meaning(Suspected).0.starts_with("Nobody who observes it can tell"));
        lost.gives_nobody_up = true;
        assert_eq!(lost.status(), Suspected, "an isolated node calls nobody Down");
        let woken = Hearsay { listens: false, ..hearsay(votes(0, 0, 0, 16)) };
        assert_eq!(woken.status(), Healthy, "whoever has just woken has heard nobody yet");
        let told = Hearsay { listens: false, ..hearsay(votes(0, 0, 16, 0)) };
        assert_eq!(told.status(), Down, "but what it is told, it knows");
    }

    #[test]
    fn an_isolated_node_is_at_fault_itself() {
        let quiet = Some(Isolation::Quiet(std::time::Duration::from_secs(12)));
        for isolated in [quiet, Some(Isolation::CutOff)] {
            let lost = Hearsay { isolated, ..hearsay(votes(0, 0, 0, 16)) };
            assert_eq!(
                [Healthy, Suspected, Down].map(|s| lost.verdict(s)),
                [Verdict::Up, Verdict::Isolated, Verdict::Isolated]
            );
            assert!(lost.sentence(Suspected).starts_with("not it: me; "));
            assert!(lost.meaning(Suspected).0.contains("own network first"));
            let left = Hearsay { verdict: Verdict::Left, ..lost.clone() };
            assert_eq!(left.verdict(Down), Verdict::Left, "it said good-bye");
            assert_eq!(left.sentence(Down), "it said to its observers that it leaves");
            let never = Hearsay { heard_of: false, ..lost };
            assert_eq!(never.verdict(Suspected), Verdict::Unknown, "it never came");
        }
    }

    #[test]
    fn newborn_observers_change_nothing_while_they_could_not_have_heard_it() {
        for status in [Healthy, Suspected, Down] {
            let newborn = Hearsay { status, ..hearsay(Says { reached: 16, unknown: 16, ..Says::default() }) };
            assert_eq!(newborn.status(), status);
            let after = |voteless| Hearsay { voteless, ..newborn.clone() }.status();
            assert_eq!((after(9), after(10), after(16)), (status, status.max(Suspected), Down));
            let says = Says { strange: 1, ..newborn.says };
            assert_eq!(
                Hearsay { says, voteless: 99, ..newborn }.status(),
                status,
                "who has another roster may hear it"
            );
        }
        let newborn = hearsay(Says { reached: 3, unknown: 16, ..Says::default() });
        let why = "none of the 3 that observe it, and can be reached, has heard it since its start";
        assert_eq!(newborn.sentence(Down), why);
        let starts = Hearsay { voteless: 9, heard_of: false, ..hearsay(votes(0, 0, 0, 16)) };
        assert_eq!(starts.status(), Healthy, "a node that has just started presumes so");
        // A node that never started is not healthy either, and is no alarm.
        let unheard = Hearsay { heard_of: false, voteless: 99, ..hearsay(votes(0, 0, 0, 16)) };
        assert_eq!((unheard.status(), unheard.verdict(Down)), (Down, Verdict::Unknown));
    }

    #[test]
    fn who_left_has_left_and_who_differs_differs() {
        let left = hearsay(Says { left: 9, ..votes(0, 0, 16, 0) });
        assert_eq!((left.status(), left.verdict(Down)), (Down, Verdict::Left));
        let first = hearsay(Says { left: 5, ..votes(11, 0, 5, 0) });
        let status = first.status();
        assert_eq!((status, first.verdict(status)), (Suspected, Verdict::Left));
        assert_eq!(first.sentence(status), "it said to 5 of 16 that it leaves");
        for says in [Says { left: 5, ..votes(10, 1, 5, 0) }, Says { left: 5, ..votes(10, 0, 6, 0) }] {
            assert_eq!(hearsay(says).verdict(Suspected), Verdict::Up, "one of them only misses it");
        }
        let differs = Some(([1, 2, 3, 4], [5, 6, 7, 8]));
        let other = Hearsay { config_differs: differs, ..hearsay(votes(16, 0, 0, 0)) };
        assert_eq!(other.verdict(Healthy), Verdict::ConfigMismatch);
        let hashes = "hash to …04030201, this node's to …08070605";
        assert_eq!(other.sentence(Healthy), format!("its settings {hashes}; 16 of 16 hear it"));
        let other = Hearsay { roster_differs: differs, config_differs: None, ..other };
        assert_eq!(other.sentence(Healthy), format!("its roster's names {hashes}; 16 of 16 hear it"));
    }

    #[test]
    fn all_that_applies_in_order() {
        use Verdict::{ConfigMismatch, Draining, Isolated, Left, Unknown, Up};
        let fine = hearsay(votes(16, 0, 0, 0));
        let other = Hearsay { roster_differs: Some(([1; 4], [2; 4])), ..fine.clone() };
        let isolated = Hearsay { isolated: Some(Isolation::CutOff), ..other.clone() };
        let left = Hearsay { says: Says { left: 16, ..votes(0, 0, 16, 0) }, ..other.clone() };
        let never = Hearsay { heard_of: false, ..fine.clone() };
        let drain = Drain { until: 0, reason: Reason::new("new disks").unwrap() };
        let draining = Some(drain::Draining { left: Duration::from_secs(720), drain });
        let drains = Hearsay { draining, ..other.clone() };
        for (hearsay, status, expected) in [
            (&fine, Healthy, &[Up][..]),
            (&other, Healthy, &[ConfigMismatch]),
            (&other, Down, &[Verdict::Down, ConfigMismatch]),
            (&isolated, Healthy, &[ConfigMismatch]),
            (&isolated, Suspected, &[Isolated, ConfigMismatch]),
            (&isolated, Down, &[Isolated, Verdict::Down, ConfigMismatch]),
            (&left, Down, &[Left, Verdict::Down, ConfigMismatch]),
            (&never, Healthy, &[Unknown]),
            (&drains, Healthy, &[ConfigMismatch, Draining]),
            (&drains, Suspected, &[Draining, ConfigMismatch]),
            (&drains, Down, &[Draining, Verdict::Down, ConfigMismatch]),
        ] {
            assert_eq!(hearsay.conditions(status), expected);
            assert_eq!(hearsay.verdict(status), expected[0]);
        }
        assert_eq!(drains.sentence(Down), "12 min left: new disks");
    }
}
