//! What is kept of a peer to explain its verdict, and told beside its events.

use super::*;
use PeerStatus::Down;

/// What `at` knows of `of`, to explain it.
fn explanation(cluster: &Cluster, of: usize, at: usize) -> Explanation {
    cluster.view(of, at).explanation
}

fn strip(cluster: &Cluster, of: usize, at: usize) -> String {
    explanation(cluster, of, at).heartbeats.to_string()
}

/// The evidence of the first event at a node that calls the peer so.
fn evidence(cluster: &Cluster, at: usize, of: usize, status: PeerStatus) -> Explanation {
    let told = cluster.events.iter().find(|(node, event)| {
        let is_to = matches!(event.change, Change::Status { to, .. } if to == status);
        *node == at && is_to && event.peer.as_deref() == Some(&*name(of))
    });
    Explanation::clone(told.expect("it is told").1.evidence.as_ref().expect("it is about a peer"))
}

#[test]
fn a_quiet_pair_answers_with_the_first_try_at_both_ends() {
    let mut cluster = whole(3, 1);
    cluster.run(40 * SECOND);
    for (of, at) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        assert_eq!(strip(&cluster, of, at), "+".repeat(32), "{of} at {at}");
        let explanation = explanation(&cluster, of, at);
        let proof = explanation.last_proof.unwrap();
        assert_eq!((proof.kind, proof.relay.as_ref()), (ProofKind::Echo, None));
        assert!(proof.age <= SECOND && proof.address == Some(address(of)), "{proof:?}");
        assert_eq!((explanation.relays.asked, explanation.errors, explanation.backing_off), (0, 0, None));
    }
}

#[test]
fn a_lost_try_is_a_retry_where_it_was_tried_again() {
    let mut cluster = whole(2, 1);
    // The next ping is lost, whoever leads.
    let mut lost = false;
    cluster.rule = Box::new(move |_, _| match std::mem::replace(&mut lost, true) {
        false => Fate::Lost,
        true => Fate::After(PATH),
    });
    cluster.run(3 * SECOND);
    let mut strips = [strip(&cluster, 1, 0), strip(&cluster, 0, 1)];
    strips.sort_by_key(|strip| strip.contains('r'));
    let [follower, leader] = strips;
    assert_eq!(follower, "+".repeat(follower.len()), "the leader's second try is its heartbeat");
    assert_eq!(leader.trim_matches('+'), "r", "{leader}");
}

#[test]
fn a_crash_is_told_with_its_evidence() {
    let mut cluster = whole(4, 2);
    cluster.run(60 * SECOND);
    cluster.crash(3);
    cluster.run_until(6 * SECOND, |c| (0..3).all(|at| c.status(3, at) == Down));
    for at in 0..3 {
        let told = evidence(&cluster, at, 3, Down);
        assert!(told.heartbeats.to_string().ends_with("+xxxxx"), "{:?}", told.heartbeats);
        assert_eq!((told.missed, told.suspect_after, told.down_after), (5, 2, 5));
        let proof = told.last_proof.unwrap();
        assert!(
            proof.kind == ProofKind::Echo && proof.age > 4 * SECOND && proof.age < 6 * SECOND,
            "{proof:?}"
        );
        assert!(told.relays.asked >= 10 && told.relays.answered == 0, "{:?}", told.relays);
        assert!(told.relays.whom.iter().all(|id| **id != *name(3) && **id != *name(at)), "{:?}", told.relays);
        let (before, length) = told.before.unwrap();
        assert!(before == PeerStatus::Healthy && length > 60 * SECOND, "{before} for {length:?}");
        assert_eq!(told.setup.roster.zip(told.setup.settings), Some((true, true)));
    }
    cluster.run(30 * SECOND);
    let now = explanation(&cluster, 3, 0);
    assert_eq!((now.backing_off, now.errors, now.says.down), (Some(10 * SECOND), 0, 3));
    cluster.start(3);
    cluster.run_until(15 * SECOND, Cluster::is_whole);
    cluster.run(3 * SECOND);
    let now = explanation(&cluster, 3, 0);
    let (before, length) = now.before.unwrap();
    assert!(before == Down && length > 25 * SECOND && now.backing_off.is_none(), "{now:?}");
}

#[test]
fn a_cut_link_is_proven_by_relays() {
    let mut cluster = whole(4, 3);
    cluster.rule = cut(PATH, |from, to| from.min(to) == 0 && from.max(to) == 1);
    cluster.run(12 * SECOND);
    let view = cluster.view(1, 0);
    assert_eq!(view.verdict, Verdict::LinkDown);
    let Explanation { heartbeats, last_proof, relays, unechoed, .. } = view.explanation;
    assert!(heartbeats.to_string().ends_with("RRRRRRRRRR"), "{heartbeats}");
    let proof = last_proof.unwrap();
    assert_eq!(proof.kind, ProofKind::ByRelay);
    assert!(
        relays.whom.contains(&proof.relay.unwrap()) && relays.answered > 10 && unechoed > 10,
        "{relays:?}"
    );
    // Once it answers by itself, the next question counts from one.
    cluster.rule = cut(PATH, |_, _| false);
    cluster.run(5 * SECOND);
    cluster.crash(1);
    cluster.run(3 * SECOND);
    let now = explanation(&cluster, 1, 0);
    assert!(now.relays.answered == 0 && now.relays.asked > 0, "{:?}", now.relays);
}

#[test]
fn drops_make_a_heartbeat_void() {
    let mut cluster = whole(2, 4);
    cluster.crash(1);
    for _ in 0..30 {
        let now = cluster.now;
        cluster.nodes[0].as_mut().unwrap().handle_drops(1, now);
        cluster.run(100 * MS);
    }
    let void = strip(&cluster, 1, 0);
    assert!(
        void.trim_start_matches('+').len() >= 2 && void.trim_matches('+').trim_matches('v').is_empty(),
        "{void}"
    );
    cluster.run(3 * SECOND);
    assert!(strip(&cluster, 1, 0).ends_with("xx"), "{}", strip(&cluster, 1, 0));
}

#[test]
fn refusals_are_errors_from_its_host() {
    let mut cluster = whole(3, 5);
    cluster.crash(2);
    cluster.rule = Box::new(|p, _| if p.to == 2 { Fate::Refused } else { Fate::After(PATH) });
    cluster.run_until(3 * SECOND, |c| c.status(2, 0) == Down);
    let told = evidence(&cluster, 0, 2, Down);
    assert!(told.errors >= 4, "{}", told.errors);
    assert!(told.last_error.is_some_and(|(kind, source, age)| {
        (kind, source) == (SendErrorKind::Refused, ErrorSource::Peer) && age < SECOND
    }));
    assert_eq!(explanation(&cluster, 1, 0).errors, 0, "another host's");
    cluster.rule = cut(PATH, |_, _| false);
    cluster.run(70 * SECOND);
    let now = explanation(&cluster, 2, 0);
    assert_eq!((now.errors, now.last_error), (0, None), "a minute has passed");
}

#[test]
fn stale_refusal() {
    // Killed, started again, and then silent: the refusals of the first outage do not explain the second.
    let mut cluster = whole(3, 5);
    cluster.crash(2);
    cluster.rule = Box::new(|p, _| if p.to == 2 { Fate::Refused } else { Fate::After(PATH) });
    cluster.run_until(3 * SECOND, |c| c.status(2, 0) == Down);
    cluster.rule = cut(PATH, |_, _| false);
    cluster.start(2);
    cluster.run_until(5 * SECOND, Cluster::is_whole);
    cluster.run(SECOND);
    cluster.rule = cut(PATH, |from, to| from == 2 || to == 2);
    cluster.run(10 * SECOND);
    let peer = cluster.view(2, 0);
    assert_eq!((peer.status, peer.verdict), (Down, Verdict::Down));
    assert_eq!((peer.explanation.errors, peer.explanation.last_error), (0, None));
    assert!(!peer.explanation.meaning.contains("refused"), "{}", peer.explanation.meaning);
}

#[test]
fn a_send_that_this_host_refused_is_local() {
    let mut cluster = whole(3, 5);
    cluster.rule = cut(PATH, |from, to| from == 2 || to == 2);
    for _ in 0..10 {
        cluster.run(SECOND);
        let (now, source) = (cluster.now, ErrorSource::ThisHost);
        let node = cluster.nodes[0].as_mut().unwrap();
        node.handle_send_error(address(2), SendErrorKind::Permission, source, &[], now);
    }
    let meaning = explanation(&cluster, 2, 0).meaning;
    assert!(meaning.starts_with("This host refused to send to its address (permission)"), "{meaning}");
}

#[test]
fn a_restart_and_a_leave_carry_evidence_too() {
    let mut cluster = whole(3, 6);
    cluster.crash(1);
    cluster.start(1);
    cluster.run(3 * SECOND);
    let now = cluster.now;
    cluster.nodes[2].as_mut().unwrap().leave(LeaveReason::Removal, now);
    cluster.run(SECOND);
    for kind in ["restart", "leave"] {
        let all: Vec<_> = cluster.events.iter().filter(|(_, e)| e.change.kind() == kind).collect();
        assert!(!all.is_empty() && all.iter().all(|(_, e)| e.evidence.is_some()), "{kind}: {all:?}");
    }
    let own = cluster.events.iter().filter(|(_, e)| e.peer.is_none());
    assert!(own.clone().count() > 0 && own.clone().all(|(_, e)| e.evidence.is_none()));
    assert!(matches!(explanation(&cluster, 2, 0).left, Some((LeaveReason::Removal, _))));
}

#[test]
fn every_state_of_a_node_is_told_when_it_comes_and_goes() {
    use SelfHealth::{Flooded, Isolated, Ok, Stalled};
    type Trouble = fn(&mut Cluster);
    let troubles: [(SelfHealth, Trouble); 3] = [
        (Stalled, |cluster| cluster.sleep(0, 2 * SECOND)),
        (Flooded, |cluster| {
            let now = cluster.now;
            cluster.nodes[0].as_mut().unwrap().handle_drops(3, now);
        }),
        (Isolated, |cluster| {
            cluster.rule = cut(PATH, |_, to| to == 0);
            cluster.run(4 * SECOND);
            cluster.rule = cut(PATH, |_, _| false);
        }),
    ];
    for (state, trouble) in troubles {
        let mut cluster = whole(4, 7);
        trouble(&mut cluster);
        cluster.run_until(3 * SECOND, |c| {
            c.events.iter().any(|(n, e)| *n == 0 && e.change == Change::Health { from: Ok, to: state })
        });
        cluster.run(10 * SECOND);
        let told: Vec<_> = cluster
            .events
            .iter()
            .filter_map(|(node, event)| match event.change {
                Change::Health { from, to } if *node == 0 => Some((event.change.kind(), from, to)),
                _ => None,
            })
            .collect();
        assert_eq!(told, [("self", Ok, state), ("self", state, Ok)]);
        assert_eq!(cluster.node(0).snapshot(cluster.now).self_health, Ok);
    }
}
