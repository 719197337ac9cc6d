//! What a captured node can do, that has the present key, and what it cannot.

use super::*;
use crate::proto::leave::Leave;
use crate::proto::messages::{LeaveReason, Message, More};
use crate::proto::records::{Away, Body, Digest, Life, LinkState, NodeName, Profile, Record, Release, Seen};

/// In the name of `owner`: all others are Down.
fn slander(owner: usize, of: usize, version: u64) -> Record {
    let others = (0..of).filter(|node| *node != owner);
    let mut row: Vec<Seen> = others
        .map(|node| Seen { peer: NodeName::of(&name(node)), life: Life::Down, link: LinkState::Down })
        .collect();
    row.sort_by_key(|seen| seen.peer);
    Record { owner: NodeName::of(&name(owner)), version, body: Body::Row(row) }
}

/// Node 3's next word to node 0: everybody says that everybody is Down, and node 1's host refuses.
fn lie(cluster: &Cluster, number: u64) -> Vec<u8> {
    let records = (0..3).map(|owner| slander(owner, 4, 1_000_000 + number)).collect();
    let more = More { refused: vec![ring(&[7]).tag(0, &name(1))], records, ..More::default() };
    let lie = Message::PingMore { echo: 1, hold: 0, digest: Default::default(), more };
    let runs = [3, 0].map(|node| (node, cluster.node(node).instance()));
    forge::bound(runs[0], runs[1], number, &forge::body(&lie))
}

#[test]
fn no_word_of_others_beats_own_evidence() {
    let mut cluster = whole(4, 1);
    for number in 0..200 {
        let lie = lie(&cluster, 10_000 + number);
        assert_eq!(cluster.inject(0, address(3), &lie), Ok(()));
        cluster.run(100 * MS);
        assert!(cluster.is_whole());
        assert!(cluster.node(0).snapshot(cluster.now).status.is_quorum_available());
    }
    assert_eq!(cluster.take_changes(), []);
    // Whoever lied in their name is gone: what they say themselves stands again, everywhere.
    cluster.crash(3);
    cluster.run(15 * SECOND);
    for at in 0..3 {
        for of in (0..3).filter(|of| *of != at) {
            let says = cluster.view(of, at).says;
            assert_eq!((says.healthy, says.down, says.unknown), (2, 0, 1), "{of} at {at}: {says:?}");
        }
    }
}

#[test]
fn a_forged_leave_ends_in_a_conflict() {
    // It can say Leave in another's name. The one who was said to have left is still heard, and that is told.
    let mut cluster = whole(3, 2);
    let leave = Message::Leave { echo: 1, hold: 0, reason: LeaveReason::Restart, profile: None };
    let runs = [1, 0].map(|node| (node, cluster.node(node).instance()));
    let frame = forge::bound(runs[0], runs[1], 10_000, &forge::body(&leave));
    assert_eq!(cluster.inject(0, address(1), &frame), Ok(()));
    cluster.run(10 * SECOND);
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Left, "a leave is believed first");
    assert!(
        cluster.view(1, 0).conditions.contains(&Verdict::Conflict),
        "{:?}",
        cluster.view(1, 0).conditions
    );
    // A restart of it mends that.
    cluster.crash(1);
    cluster.start(1);
    cluster.run_until(15 * SECOND, Cluster::is_whole);
}

#[test]
fn a_forged_leave_in_a_profile_is_nothing_while_its_node_lives() {
    let (mut cluster, _) = super::witness::guarded_nodes(4, 2);
    let left = Leave { reason: LeaveReason::Removal, at: 0 };
    let roster = cluster.node(0).records().profile(1).unwrap().roster;
    let profile = Profile {
        instance: cluster.node(1).instance(),
        roster,
        config: [0; 4],
        release: Release::OWN,
        wire: 1,
        id: None,
        away: Away::new(None, Some(left)),
        standing: crate::proto::Standing::Free,
    };
    let record = Record { owner: NodeName::of(&name(1)), version: 1_000_000, body: Body::Profile(profile) };
    let more = More { records: vec![record], ..More::default() };
    let tell = Message::PongMore { echo: 1, hold: 0, digest: Digest::default(), more };
    let runs = [3, 0].map(|node| (node, cluster.node(node).instance()));
    let frame = forge::bound(runs[0], runs[1], 10_000, &forge::body(&tell));
    assert_eq!(cluster.inject(0, address(3), &frame), Ok(()));
    for _ in 0..20 {
        let verdict = cluster.view(1, 0).verdict;
        assert!(matches!(verdict, Verdict::Up | Verdict::ConfigMismatch), "{verdict}");
        cluster.run(SECOND / 2);
    }
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Up, "the node has contradicted it");
    let saved = cluster.save(0).expect("the leave was noted, and taken back");
    assert!(saved.roster.iter().all(|member| !member.left), "{saved:?}");
    cluster.crash(1);
    cluster.run(10 * SECOND);
    assert_eq!(cluster.view(1, 0).verdict, Verdict::Down, "nothing of it is left");
}
