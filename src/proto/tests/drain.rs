//! Drains and labels, from one node to all.

use super::*;
use crate::proto::config::Observers;
use PeerStatus::{Down, Healthy};

const MINUTE: Duration = Duration::from_secs(60);

/// The node drains for so long from now.
fn drain(cluster: &mut Cluster, node: usize, length: Duration, reason: &str) {
    let until = (cluster.now + length).as_micros() / 1_000_000;
    let drain = Drain { until, reason: Reason::new(reason).unwrap() };
    let now = cluster.local(node, cluster.now);
    cluster.nodes[node].as_mut().unwrap().drain(drain, now);
}

fn undrain(cluster: &mut Cluster, node: usize) -> bool {
    let now = cluster.local(node, cluster.now);
    cluster.nodes[node].as_mut().unwrap().undrain(now)
}

fn verdicts(cluster: &Cluster, of: usize) -> BTreeSet<&'static str> {
    let running = (0..cluster.nodes.len()).filter(|at| *at != of && cluster.nodes[*at].is_some());
    running.map(|at| cluster.view(of, at).verdict.as_str()).collect()
}

fn picture(cluster: &Cluster, at: usize) -> Snapshot {
    cluster.node(at).snapshot(cluster.local(at, cluster.now))
}

/// Events about drains since the last call: at whom, of whom, and whether it begins.
fn told(cluster: &mut Cluster) -> Vec<(usize, Option<String>, bool)> {
    let events = std::mem::take(&mut cluster.events).into_iter();
    let drains = events.filter_map(|(at, event)| match event.change {
        Change::Drain { until } => Some((at, event.peer.map(|p| p.to_string()), until.is_some())),
        _ => None,
    });
    drains.collect()
}

#[test]
fn who_drains_and_dies_is_no_alarm_until_the_drain_is_over() {
    let mut cluster = whole(4, 1);
    drain(&mut cluster, 3, 10 * MINUTE, "kernel upgrade");
    // Nobody waits for the next ping.
    cluster.run(2 * MS);
    cluster.crash(3);
    cluster.run(MINUTE);
    assert_eq!(verdicts(&cluster, 3), ["draining"].into());
    let events = std::mem::take(&mut cluster.events);
    let statuses = |e: &&(usize, Event)| matches!(e.1.change, Change::Status { .. });
    assert!(events.iter().filter(statuses).all(|(_, e)| e.verdict == Some(Verdict::Draining)), "{events:#?}");
    for at in 0..3 {
        let (view, picture) = (cluster.view(3, at), picture(&cluster, at));
        assert_eq!((view.status, view.why.as_str()), (Down, "8 min left: kernel upgrade"));
        assert!(!picture.status.is_degraded && picture.degraded_peers == 0);
        assert_eq!((picture.status.down_peers, picture.status.proven_peers), (1, 3), "it is not proven");
    }
    cluster.run(9 * MINUTE + SECOND);
    assert_eq!(verdicts(&cluster, 3), ["down"].into());
    for at in 0..3 {
        assert!(picture(&cluster, at).status.is_degraded, "now it is");
        let alarm = Change::Verdict { from: Verdict::Draining, to: Verdict::Down };
        let at = |e: &&(usize, Event)| e.0 == at && e.1.change == alarm;
        assert_eq!(cluster.events.iter().filter(at).count(), 1);
    }
    let ended = (0..3).map(|at| (at, Some(name(3)), false)).collect::<Vec<_>>();
    let mut told = told(&mut cluster);
    told.sort();
    assert_eq!(told, ended);
}

#[test]
fn a_drain_ends_by_itself_or_is_called_off_and_all_are_told() {
    let mut cluster = whole(3, 2);
    assert!(!undrain(&mut cluster, 2), "it does not drain");
    for by_itself in [true, false] {
        drain(&mut cluster, 2, MINUTE, "");
        cluster.run(SECOND);
        assert_eq!(told(&mut cluster).len(), 3);
        drain(&mut cluster, 2, 2 * MINUTE, "disks");
        cluster.run(MINUTE + 10 * SECOND);
        assert_eq!(verdicts(&cluster, 2), ["draining"].into());
        assert_eq!(cluster.view(2, 0).status, Healthy);
        let own = picture(&cluster, 2).draining.unwrap();
        assert!(own.left < MINUTE && own.drain.reason.as_str() == "disks", "the newer one counts: {own:?}");
        assert_eq!(told(&mut cluster).len(), 3);
        if by_itself {
            cluster.run(MINUTE);
        } else {
            assert!(undrain(&mut cluster, 2));
            cluster.run(2 * SECOND);
        }
        assert_eq!(verdicts(&cluster, 2), ["up"].into());
        assert!(picture(&cluster, 2).draining.is_none() && cluster.view(2, 0).draining.is_none());
        let mut told = told(&mut cluster);
        told.sort();
        let of = |at| (at, (at != 2).then(|| name(2)), false);
        assert_eq!(told, [of(0), of(1), of(2)], "once each, and its owner too");
    }
    assert!(cluster.take_changes().is_empty());
}

#[test]
fn a_new_run_that_does_not_drain_is_believed() {
    let mut cluster = whole(3, 3);
    drain(&mut cluster, 1, 60 * MINUTE, "reboot");
    cluster.run(2 * SECOND);
    cluster.crash(1);
    cluster.run(20 * SECOND);
    assert_eq!(verdicts(&cluster, 1), ["draining"].into());
    cluster.start(1);
    cluster.run_until(5 * SECOND, |c| verdicts(c, 1) == ["up"].into());
    cluster.crash(1);
    cluster.run(10 * SECOND);
    assert_eq!(verdicts(&cluster, 1), ["down"].into());
}

#[test]
fn whoever_starts_later_learns_of_the_dead_that_they_drain() {
    let mut cluster = whole(4, 4);
    drain(&mut cluster, 3, 60 * MINUTE, "reboot");
    cluster.run(SECOND);
    cluster.crash(3);
    cluster.run(20 * SECOND);
    cluster.crash(0);
    cluster.start(0);
    cluster.run(20 * SECOND);
    assert_eq!(verdicts(&cluster, 3), ["draining"].into());
    assert!(!picture(&cluster, 0).status.is_degraded);
}

#[test]
fn in_rings_strangers_know_too() {
    let mut cluster = Cluster::with(20, 5, |config| config.observers = Observers::Number(4));
    cluster.run(20 * SECOND);
    drain(&mut cluster, 7, 5 * MINUTE, "kernel upgrade");
    cluster.run(3 * SECOND);
    let strangers = (0..20).filter(|at| *at != 7 && !cluster.view(7, *at).observed).count();
    assert!(strangers > 10, "{strangers}");
    assert_eq!(verdicts(&cluster, 7), ["draining"].into());
    let begun = told(&mut cluster);
    assert_eq!(begun.len(), 20, "{begun:?}");
    cluster.crash(7);
    for _ in 0..20 {
        cluster.run(SECOND);
        assert_eq!(verdicts(&cluster, 7), ["draining"].into());
    }
    for at in (0..20).filter(|at| *at != 7) {
        assert!(cluster.view(7, at).status == Down && !picture(&cluster, at).status.is_degraded);
    }
    cluster.run(5 * MINUTE);
    assert_eq!(verdicts(&cluster, 7), ["down"].into());
    let ended = told(&mut cluster);
    assert!(ended.len() == 19 && ended.iter().all(|(_, _, begins)| !begins), "{ended:?}");
    assert!(picture(&cluster, 0).status.is_degraded);
}

#[test]
fn many_that_drain_are_no_mass_loss_and_give_no_quorum() {
    let mut cluster = whole(6, 6);
    for node in 2..6 {
        drain(&mut cluster, node, MINUTE, "power");
    }
    cluster.run(SECOND);
    (2..6).for_each(|node| cluster.crash(node));
    cluster.run(2 * MINUTE);
    for at in 0..2 {
        let picture = picture(&cluster, at);
        assert!(!picture.mass_loss && !picture.status.is_quorum_available());
    }
    let loss = |e: &(usize, Event)| matches!(e.1.change, Change::MassLoss { .. });
    assert!(!cluster.events.iter().any(loss), "not when they go, and not when the drains end");
}

#[test]
fn clocks_that_differ_move_the_end_and_a_mistake_ends_after_a_week() {
    let mut cluster = whole(3, 7);
    // Five minutes ahead.
    let ahead = Duration::from_micros(cluster.now.as_micros()) + 5 * MINUTE;
    let now = cluster.now;
    cluster.nodes[0].as_mut().unwrap().set_wall_clock(ahead, now);
    drain(&mut cluster, 2, 10 * MINUTE, "");
    cluster.run(4 * MINUTE);
    assert_eq!([0, 1].map(|at| cluster.view(2, at).verdict), [Verdict::Draining; 2]);
    cluster.run(2 * MINUTE);
    assert_eq!([0, 1].map(|at| cluster.view(2, at).verdict), [Verdict::Up, Verdict::Draining]);
    cluster.run(5 * MINUTE);
    let forever = Drain { until: u64::MAX, reason: Reason::default() };
    let now = cluster.now;
    cluster.nodes[2].as_mut().unwrap().drain(forever, now);
    cluster.run(2 * SECOND);
    cluster.crash(2);
    let left = cluster.view(2, 1).draining.unwrap().left;
    assert!(left <= Drain::LONGEST && left > Drain::LONGEST - MINUTE, "{left:?}");
    cluster.run(10 * SECOND);
    assert_eq!(verdicts(&cluster, 2), ["draining"].into());
    // Nobody is asked to wait for a week of heartbeats: the others are told that it has passed.
    let week = cluster.now + Drain::LONGEST;
    for node in 0..2 {
        cluster.sleep(node, Drain::LONGEST);
    }
    cluster.run_until(Drain::LONGEST + MINUTE, |c| c.now > week + 30 * SECOND);
    assert_eq!(verdicts(&cluster, 2), ["down"].into());
}

#[test]
fn a_drain_outlives_a_change_of_the_roster_and_goes_with_its_node() {
    let mut cluster = whole(4, 9);
    for node in [2, 3] {
        drain(&mut cluster, node, 10 * MINUTE, "");
    }
    cluster.run(SECOND);
    let now = cluster.now;
    let roster: Vec<_> = cluster.node(0).config().static_peers.to_vec();
    let node = cluster.nodes[0].as_mut().unwrap();
    node.set_roster(roster[..2].into(), name(0).into(), now).unwrap();
    assert!(cluster.view(2, 0).draining.is_some(), "its roster differs, and it drains");
    cluster.nodes[0].as_mut().unwrap().set_roster(roster.into(), name(0).into(), now).unwrap();
    assert_eq!(cluster.view(3, 0).draining, None, "it is as new");
    // This node drains under any name.
    let roster: Vec<_> = cluster.node(3).config().static_peers.to_vec();
    cluster.nodes[3].as_mut().unwrap().set_roster(roster.into(), "10.0.0.4:5278".into(), now).unwrap();
    assert!(picture(&cluster, 3).draining.is_some());
}

#[test]
fn labels_are_told_to_all() {
    let mut cluster = Cluster::with(3, 8, |config| {
        let role = if &*config.server_id == "node-0" { "db" } else { "web" };
        config.labels = Labels::new(vec![("role".into(), role.into())]).unwrap();
    });
    assert_eq!(cluster.view(0, 1).labels, None, "it has not said");
    cluster.run(5 * SECOND);
    let role = |of, at| cluster.view(of, at).labels.unwrap().get("role").unwrap().to_owned();
    assert_eq!([role(0, 1), role(0, 2), role(1, 0), role(2, 1)], ["db", "db", "web", "web"]);
}

#[test]
fn the_longest_profile_passes_where_only_small_datagrams_do() {
    use crate::proto::records::{Away, Body, NodeName, Profile, Record, Release};
    use crate::proto::{Leave, LeaveReason};
    let left = Some(Leave { reason: LeaveReason::Restart, at: u64::MAX });
    let away = |reason| Away::new(Some(Drain { until: u64::MAX, reason }), left);
    let profile = Profile {
        instance: Instance(u64::MAX),
        roster: [0; 4],
        config: [0; 4],
        release: Release([0; 3]),
        wire: 1,
        id: Some(ServerId::new(&"i".repeat(64)).unwrap()),
        away: away(Reason::new(&"x".repeat(Reason::LONGEST)).unwrap()),
        standing: crate::proto::Standing::Witness,
    };
    let len = |body: Body| Record { owner: NodeName([0; 5]), version: u64::MAX, body }.encoded_len();
    let room = |datagram: usize| datagram - 100;
    assert!(len(Body::Profile(profile.clone())) <= room(512));
    let brief = Profile { away: away(Reason::default()), ..profile };
    assert!(len(Body::Profile(brief)) <= room(256));
}

#[test]
fn labels_that_are_accepted_pass() {
    use crate::proto::records::{Body, NodeName, Notice, Record};
    let mut config = PeerConfig::new("a", "c", address(0), Vec::new());
    let labels = |len: usize| {
        let value = |n: usize| "v".repeat((len - n * 60).clamp(1, 60));
        Labels::new((0..=len / 60).map(|n| (format!("{}", (b'a' + n as u8) as char), value(n))).collect())
            .unwrap()
    };
    for datagram in [256, 512, 1200] {
        config.max_datagram = datagram;
        let longest = (1..=480).rev().find(|len| {
            config.labels = labels(*len);
            config.validate().is_ok()
        });
        let notice = Notice { labels: labels(longest.unwrap()), ..Notice::default() };
        let record =
            Record { owner: NodeName([0; 5]), version: u64::MAX, body: Body::Notice(Box::new(notice)) };
        assert!(record.encoded_len() <= datagram - 100, "{datagram}: {longest:?}");
    }
    config.max_datagram = 256;
    config.labels = labels(200);
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("with a max_datagram of 256 at most 131 pass"), "{error}");
}
