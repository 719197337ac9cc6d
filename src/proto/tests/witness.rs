//! Which runs are witnesses of their roster, and what the shell must have saved before.

use super::*;
use crate::proto::snapshot::Missing;

impl Cluster {
    /// The shell of a node keeps this state from now on.
    fn keep(&mut self, at: usize, state: RosterState) {
        self.on(at, |node, now| node.keep_rosters(state, now)).unwrap();
    }

    /// The newest state that a node hands out is saved.
    pub(super) fn save(&mut self, at: usize) -> Option<RosterState> {
        let (number, state) = self.on(at, |node, _| node.poll_state())?;
        self.on(at, |node, now| node.handle_state_saved(number, now));
        Some(state)
    }

    fn on<T>(&mut self, at: usize, what: impl FnOnce(&mut Node, Time) -> T) -> T {
        let now = self.now;
        what(self.nodes[at].as_mut().unwrap(), now)
    }

    fn standing(&self, at: usize) -> (Standing, Option<Missing>) {
        let view = self.node(at).snapshot(self.now).witness;
        (view.standing, view.missing)
    }

    fn holds_guard(&self, at: usize) -> bool {
        self.node(at).quorum_guard(self.now).is_some()
    }
}

/// The entry of a node in a roster.
fn entry(node: usize) -> StaticPeer {
    StaticPeer {
        server_id: Some(name(node).into()),
        name: address(node).to_string().into(),
        address: Some(address(node)),
    }
}

/// Three nodes that hold the guard, and what each has saved.
fn guarded() -> (Cluster, Vec<RosterState>) {
    guarded_nodes(3, 1)
}

/// Nodes that hold the guard, and what each has saved.
pub(super) fn guarded_nodes(nodes: usize, seed: u64) -> (Cluster, Vec<RosterState>) {
    let mut cluster = Cluster::new(nodes, seed);
    for node in 0..nodes {
        cluster.keep(node, RosterState::default());
        cluster.save(node).unwrap();
    }
    cluster.run(15 * SECOND);
    assert!((0..nodes).all(|node| cluster.holds_guard(node)));
    let saved: Vec<_> = (0..nodes).map(|node| cluster.save(node).unwrap()).collect();
    assert!(saved.iter().all(|state| state.witness && state.validate().is_ok()));
    (cluster, saved)
}

#[test]
fn without_a_state_no_run_is_a_witness() {
    let mut cluster = whole(3, 1);
    cluster.run(20 * SECOND);
    assert_eq!(cluster.standing(0), (Standing::Unsaved, Some(Missing::State)));
    assert!(!(0..3).any(|node| cluster.holds_guard(node)));
    assert_eq!(cluster.on(0, |node, now| node.bootstrap(None, now)), Err(BootstrapRefused::Unsaved));
}

#[test]
fn a_state_that_cannot_be_saved_is_offered_again_and_makes_no_witness() {
    let mut cluster = Cluster::new(3, 1);
    (0..3).for_each(|node| cluster.keep(node, RosterState::default()));
    [1, 2].into_iter().for_each(|node| assert!(cluster.save(node).is_some()));
    let (number, _) = cluster.on(0, |node, _| node.poll_state()).unwrap();
    cluster.on(0, |node, now| node.handle_state_failed(number, now));
    cluster.run(9 * SECOND);
    assert_eq!(cluster.standing(0), (Standing::Unsaved, Some(Missing::Save)));
    assert_eq!(cluster.standing(1), (Standing::Free, Some(Missing::Witnesses)), "every member must be saved");
    assert!(cluster.save(0).is_none(), "not yet");
    cluster.run(2 * SECOND);
    cluster.save(0).unwrap();
    cluster.run(15 * SECOND);
    assert!((0..3).all(|node| cluster.holds_guard(node)));
}

#[test]
fn a_restart_with_its_state_is_a_witness_at_once_and_one_without_needs_the_others() {
    let (mut cluster, _) = guarded();
    cluster.crash(0);
    cluster.start(0);
    cluster.keep(0, RosterState::default());
    cluster.save(0).unwrap();
    assert_eq!(cluster.standing(0).0, Standing::Free);
    cluster.run(5 * SECOND);
    assert_eq!(cluster.standing(0).0, Standing::Witness, "every member reports its roster");
    let saved = cluster.save(0).unwrap();
    cluster.crash(0);
    cluster.start(0);
    cluster.keep(0, saved);
    assert_eq!(cluster.standing(0).0, Standing::Witness);
}

#[test]
fn a_leave_for_good_is_saved_before_it_is_announced() {
    let (mut cluster, _) = guarded();
    cluster.on(0, |node, now| node.leave(LeaveReason::Removal, now));
    cluster.run(2 * SECOND);
    assert!(!cluster.node(0).has_left() && cluster.status(0, 1) == PeerStatus::Healthy);
    assert_eq!(cluster.standing(0).0, Standing::Unsaved);
    assert!(!cluster.holds_guard(0) && cluster.holds_guard(1));
    let saved = cluster.save(0).unwrap();
    assert!(!saved.witness, "its next run is a witness only with the others' help");
    cluster.run(SECOND);
    assert!(cluster.node(0).has_left());
    assert_eq!(cluster.view(0, 1).verdict, Verdict::Left);
    assert!(cluster.save(1).unwrap().roster.iter().any(|member| member.name == name(0) && member.left));
}

#[test]
fn who_saw_a_member_leave_for_good_and_come_back_counts_once_that_is_saved() {
    let (mut cluster, _) = guarded();
    cluster.on(0, |node, now| node.leave(LeaveReason::Removal, now));
    let left = cluster.save(0).unwrap();
    cluster.run(3 * SECOND);
    let is_left = |state: &RosterState| state.roster.iter().any(|m| m.name == name(0) && m.left);
    [1, 2].into_iter().for_each(|node| assert!(is_left(&cluster.save(node).unwrap())));
    assert!(cluster.holds_guard(1) && cluster.holds_guard(2), "a leave takes nothing from the others");
    cluster.crash(0);
    cluster.start(0);
    cluster.keep(0, left);
    cluster.run(3 * SECOND);
    for node in [1, 2] {
        assert_eq!(cluster.standing(node), (Standing::Unsaved, Some(Missing::Save)));
        assert!(!cluster.holds_guard(node));
    }
    assert_ne!(cluster.standing(0).0, Standing::Witness, "nobody counts for it yet");
    [1, 2].into_iter().for_each(|node| assert!(!is_left(&cluster.save(node).unwrap())));
    cluster.save(0);
    cluster.run(10 * SECOND);
    for node in 0..3 {
        assert!(cluster.standing(node) == (Standing::Witness, None) && cluster.holds_guard(node), "{node}");
    }
}

#[test]
fn a_leave_is_noted_where_the_leaver_reported_the_same_roster() {
    for other in [false, true] {
        let (mut cluster, _) = guarded();
        if other {
            let roster: Vec<_> = [0, 1].map(entry).into();
            cluster.on(0, |node, now| node.set_roster(roster.into(), name(0).into(), now)).unwrap();
            cluster.save(0).unwrap();
            cluster.run(2 * SECOND);
        }
        cluster.on(0, |node, now| node.leave(LeaveReason::Removal, now));
        cluster.save(0).unwrap();
        cluster.run(3 * SECOND);
        let is_left = |state: RosterState| state.roster.iter().any(|m| m.name == name(0) && m.left);
        assert_eq!(cluster.save(1).is_some_and(is_left), !other, "the leaver has another roster: {other}");
    }
}

#[test]
fn a_leave_for_good_is_offered_at_once_though_an_older_state_could_not_be_saved() {
    let (mut cluster, _) = guarded();
    let roster: Vec<_> = cluster.node(0).config().static_peers.iter().cloned().chain([entry(7)]).collect();
    cluster.on(0, |node, now| node.set_roster(roster.into(), name(0).into(), now)).unwrap();
    let (number, _) = cluster.on(0, |node, _| node.poll_state()).unwrap();
    cluster.on(0, |node, now| node.handle_state_failed(number, now));
    assert!(cluster.save(0).is_none(), "not before ten intervals");
    cluster.on(0, |node, now| node.leave(LeaveReason::Removal, now));
    assert!(!cluster.save(0).expect("it is offered at once").witness);
    cluster.run(SECOND);
    assert!(cluster.node(0).has_left());
    let leave =
        |(at, event): &(usize, Event)| *at == 1 && event.change == Change::Leave(LeaveReason::Removal);
    assert!(cluster.events.iter().any(leave));
}

#[test]
fn a_leave_for_good_that_cannot_be_saved_is_announced_as_one_for_a_restart() {
    for hangs in [false, true] {
        let (mut cluster, _) = guarded();
        cluster.on(0, |node, now| node.leave(LeaveReason::Removal, now));
        let (number, _) = cluster.on(0, |node, _| node.poll_state()).unwrap();
        // An older state that fails changes nothing.
        cluster.on(0, |node, now| node.handle_state_failed(number - 1, now));
        assert!(!cluster.node(0).is_leaving(), "hangs: {hangs}");
        if !hangs {
            cluster.on(0, |node, now| node.handle_state_failed(number, now));
        }
        cluster.run(5 * SECOND);
        assert!(cluster.node(0).has_left(), "hangs: {hangs}");
        let leave =
            |(at, event): &(usize, Event)| *at == 1 && event.change == Change::Leave(LeaveReason::Restart);
        assert!(cluster.events.iter().any(leave), "hangs: {hangs}");
    }
}

#[test]
fn bootstrap_is_confirmed_by_the_hash_and_refused_while_it_hears_a_witness_of_another_roster() {
    let (mut cluster, _) = guarded();
    let roster: Vec<StaticPeer> = [0, 2].map(entry).into();
    cluster.on(0, |node, now| node.set_roster(roster.into(), name(0).into(), now)).unwrap();
    assert_eq!(cluster.standing(0).0, Standing::Unsaved);
    cluster.save(0).unwrap();
    cluster.run(2 * SECOND);
    assert_eq!(cluster.standing(0), (Standing::Bound, Some(Missing::Agreement)));
    let view = cluster.node(0).snapshot(cluster.now).witness;
    assert_eq!((view.former[0].agreed, view.former[0].needed), (1, 2));
    assert_eq!(view.former[0].not_agreed, [name(1).into(), name(2).into()]);
    let other = Err(BootstrapRefused::OtherWitness(name(2).into()));
    assert_eq!(cluster.on(0, |node, now| node.bootstrap(None, now)), other);
    // The other two end: nobody of the former roster can agree any more.
    [1, 2].into_iter().for_each(|node| cluster.crash(node));
    cluster.run(10 * SECOND);
    let refused = cluster.on(0, |node, now| node.bootstrap(None, now)).unwrap_err();
    let BootstrapRefused::Unconfirmed { roster_hash, unheard } = refused else { panic!("{refused:?}") };
    assert_eq!(unheard, [name(1).into(), name(2).into()]);
    assert_eq!(cluster.on(0, |node, now| node.bootstrap(Some(roster_hash), now)), Ok(()));
    assert_eq!(cluster.standing(0), (Standing::Witness, None));
    assert!(cluster.save(0).unwrap().former.is_empty());
}

#[test]
fn other_settings_wait_for_the_proofs_under_the_former_ones() {
    let (mut cluster, saved) = guarded();
    for wait in [None, Some(60_000_000)] {
        cluster.crash(0);
        cluster.start(0);
        let state = saved[0].clone();
        let guard_wait = wait.unwrap_or(state.guard_wait);
        cluster.keep(0, RosterState { guard_wait, ..state });
        cluster.run(20 * SECOND);
        let standing = cluster.standing(0);
        match wait {
            None => assert_eq!(standing, (Standing::Witness, None)),
            Some(_) => assert!(matches!(standing, (Standing::Free, Some(Missing::Wait(_)))), "{standing:?}"),
        }
    }
    cluster.run(45 * SECOND);
    assert_eq!(cluster.standing(0).0, Standing::Witness);
}
