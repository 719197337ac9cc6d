//! Who may act: the quorum guard, and what may be taken over.

use super::*;
use crate::proto::LeaveReason::Removal;
use crate::proto::PeerConfig;
use crate::sim::Scope as Between;

/// A cluster in its steady state, in which all hold the guard.
fn guarded(nodes: usize, seed: u64) -> World {
    guarded_in(Setup { drift: 200, ..Setup::new(nodes) }, seed)
}

/// The same, made so.
fn guarded_in(setup: Setup, seed: u64) -> World {
    let nodes = setup.nodes;
    let mut world = World::new(setup, seed);
    let all = |w: &World| (0..nodes as u32).all(|node| w.holds_guard(node));
    let took = world.run_until(10 * SECOND, all).unwrap();
    let wait = world.setup().config.guard_wait();
    assert!(took >= wait, "{took:?}: nobody has it before a majority was proven for {wait:?}");
    world.run_for(5 * SECOND);
    world
}

fn groups(one: &[u32], other: &[u32]) -> Between {
    Between::Across(vec![one.to_vec(), other.to_vec()])
}

/// How long it takes until `done` holds; `always` must hold until then, looked at every hundredth of a second.
fn until(world: &mut World, limit: Duration, mut done: impl FnMut(&mut World) -> bool) -> Option<Duration> {
    let start = world.now();
    while world.now().since(start) < limit {
        if done(world) {
            return Some(world.now().since(start));
        }
        world.run_for(10 * MS);
    }
    None
}

#[test]
fn a_minority_loses_the_guard_within_g_and_the_majority_goes_on() {
    for (nodes, seed) in [(3, 1), (5, 2), (5, 3), (16, 4)] {
        let mut world = guarded(nodes, seed);
        let (few, many): (Vec<u32>, Vec<u32>) =
            (0..nodes as u32).partition(|node| (*node as usize) < (nodes - 1) / 2);
        world.add_rule(groups(&few, &many), Rule::Cut);
        let horizon = world.setup().config.proof_horizon();
        let lost = until(&mut world, 4 * SECOND, |w| {
            assert!(many.iter().all(|node| w.holds_guard(*node)), "the majority's goes on");
            !few.iter().any(|node| w.holds_guard(*node))
        });
        assert!(lost.is_some_and(|lost| lost <= horizon + 10 * MS), "{lost:?} of {horizon:?}");
        world.run_for(60 * SECOND);
        assert!(!few.iter().any(|node| world.holds_guard(*node)));
        world.remove_rule(&groups(&few, &many), &Rule::Cut);
        let wait = world.setup().config.guard_wait();
        let all = |w: &mut World| (0..nodes as u32).all(|node| w.holds_guard(node));
        let took = until(&mut world, 20 * SECOND, all).unwrap();
        assert!(took >= wait, "{took:?}");
    }
}

#[test]
fn who_was_stopped_and_cut_off_meanwhile_does_not_claim_it_on_waking() {
    for seed in 0..20 {
        let mut world = guarded(5, seed);
        world.freeze(0, true);
        world.run_for(MS * (seed as u32 * 37 + 1));
        world.add_rule(Between::Touching(vec![0]), Rule::Cut);
        // While it is stopped the others take over what it did.
        let mut asked = world.now();
        let safe = until(&mut world, 30 * SECOND, |w| {
            if w.now().since(asked) >= SECOND / 2 {
                asked = w.now();
                w.watch_takeover(1, 0);
            }
            let safe = w.may_take_over(1, 0);
            assert!(!(safe && w.holds_guard(0)), "seed {seed}");
            safe
        });
        // It was heard an interval before it was stopped, or later.
        let wait = world.setup().config.guard_wait();
        assert!(safe.is_some_and(|safe| safe + 2 * SECOND > wait && safe < wait + 3 * SECOND), "{safe:?}");
        world.run_for(60 * SECOND);
        assert!(!world.holds_guard(0), "seed {seed}: before its loop has looked at anything");
        world.freeze(0, false);
        for _ in 0..2000 {
            world.run_for(5 * MS);
            assert!(!world.holds_guard(0), "seed {seed}");
        }
    }
}

#[test]
fn nothing_is_taken_over_before_both_have_lost_it() {
    // {A,B,C|D,E} turns into {A,B|C,D,E}: C is on the side of the majority all the time.
    let (mut taken, mut latest) = (0, Duration::ZERO);
    for seed in 0..40 {
        let mut world = guarded(5, seed);
        if seed % 2 == 1 {
            world.add_rule(Between::All, Rule::Loss(0.1));
        }
        world.add_rule(groups(&[0, 1, 2], &[3, 4]), Rule::Cut);
        world.run_for(SECOND * (seed as u32 % 20) + MS * (seed as u32 * 61));
        world.remove_rule(&groups(&[0, 1, 2], &[3, 4]), &Rule::Cut);
        world.add_rule(groups(&[0, 1], &[2, 3, 4]), Rule::Cut);
        let mut asked = world.now();
        let all = until(&mut world, 40 * SECOND, |w| {
            if w.now().since(asked) >= SECOND / 2 {
                asked = w.now();
                for (taker, lost) in [2, 3, 4].into_iter().flat_map(|taker| [(taker, 0), (taker, 1)]) {
                    w.watch_takeover(taker, lost);
                }
            }
            let may = |taker: u32, lost: u32| w.may_take_over(taker, lost);
            for lost in [0, 1] {
                let takers = (0..5).filter(|taker| may(*taker, lost)).count();
                taken += takers;
                assert!(takers == 0 || !w.holds_guard(lost), "seed {seed}: n{lost} still holds the guard");
            }
            (2..5).all(|taker| may(taker, 0) && may(taker, 1))
        });
        latest = latest.max(all.unwrap_or_else(|| panic!("seed {seed}: it comes to that in the end")));
    }
    println!("safe at all three {latest:?} after the change at the latest");
    assert!(taken > 0);
}

#[test]
fn what_may_be_taken_over_ends_when_the_peer_is_back() {
    let mut world = guarded(5, 7);
    world.crash(0, false);
    let watch = |w: &mut World| {
        w.watch_takeover(1, 0);
        w.may_take_over(1, 0)
    };
    assert!(until(&mut world, 20 * SECOND, watch).is_some());
    world.start(0);
    let gone = until(&mut world, 20 * SECOND, |w| !watch(w)).unwrap();
    let held = until(&mut world, 20 * SECOND, |w| w.holds_guard(0)).unwrap();
    println!("unsafe {gone:?} after the start, the guard {held:?} after that");
    assert!(!world.may_take_over(1, 0));
}

#[test]
fn two_rosters_never_both_count_a_majority() {
    // Three nodes, and five: {A,B} would be most of the three, {C,D,E} of the five.
    for seed in 0..10 {
        let mut world = guarded(5, seed);
        (0..3).for_each(|node| world.leave_out(node, &[3, 4]));
        [3, 4].into_iter().for_each(|node| world.crash(node, false));
        let three = |w: &mut World| (0..3).all(|node| w.holds_guard(node));
        assert!(until(&mut world, 20 * SECOND, three).is_some(), "all of the three have the new roster");
        // C hears of the five while it is cut off from A and B.
        world.add_rule(groups(&[0, 1], &[2, 3, 4]), Rule::Cut);
        world.leave_out(2, &[]);
        [3, 4].into_iter().for_each(|node| world.start(node));
        until(&mut world, 60 * SECOND, |w| {
            assert!(!(2..5).any(|node| w.holds_guard(node)), "seed {seed}: C stands witness for the three");
            false
        });
        assert!(world.holds_guard(0) && world.holds_guard(1), "seed {seed}: they know nothing of it");
        world.remove_rule(&groups(&[0, 1], &[2, 3, 4]), &Rule::Cut);
        world.run_for(5 * SECOND);
        (0..2).for_each(|node| world.leave_out(node, &[]));
        let five = |w: &mut World| (0..5).all(|node| w.holds_guard(node));
        assert!(until(&mut world, 30 * SECOND, five).is_some(), "seed {seed}: all have the five");
    }
}

/// Three of five nodes have a roster of their own and hold its guard; the other two are gone.
fn three_of_five(seed: u64) -> World {
    let mut world = guarded(5, seed);
    [3, 4].into_iter().for_each(|node| world.crash(node, false));
    (0..3).for_each(|node| world.leave_out(node, &[3, 4]));
    let three = |w: &mut World| (0..3).all(|node| w.holds_guard(node));
    assert!(until(&mut world, 20 * SECOND, three).is_some(), "seed {seed}");
    world
}

#[test]
fn who_left_for_good_and_is_back_agrees_to_no_other_roster() {
    // Three of five have a roster of their own. One of them leaves it for good, another restarts, and the first is back.
    for seed in 0..10 {
        let mut world = three_of_five(seed);
        world.leave(2, Removal);
        world.run_for(5 * SECOND);
        world.crash(1, false);
        world.start(1);
        world.run_for(5 * SECOND);
        world.start(2);
        let three = |w: &mut World| (0..3).all(|node| w.holds_guard(node));
        assert!(until(&mut world, 20 * SECOND, three).is_some(), "seed {seed}: it is a witness again");
        // The one that restarted has another roster now, with those that the first two no longer know.
        [1, 3, 4].into_iter().for_each(|node| world.leave_out(node, &[0, 2]));
        [3, 4].into_iter().for_each(|node| world.start(node));
        never_both(&mut world, &[0, 2], &[1, 3, 4], &format!("seed {seed}"));
        assert!(world.holds_guard(0) && world.holds_guard(2), "seed {seed}: they know nothing of it");
    }
}

/// For a minute at most one of two groups holds the guard.
fn never_both(world: &mut World, one: &[u32], other: &[u32], what: &str) {
    let end = world.now() + 60 * SECOND;
    while world.now() < end {
        let [one, other] = [one, other].map(|group| group.iter().any(|node| world.holds_guard(*node)));
        assert!(!(one && other), "{what}: both rosters have a guard");
        world.run_for(10 * MS);
    }
}

#[test]
fn who_left_for_good_agrees_to_no_roster() {
    // Of five one leaves for good. Two of the others drop two, and these two the first.
    for seed in 0..5 {
        let mut world = guarded(5, seed);
        world.leave(4, Removal);
        world.run_for(5 * SECOND);
        [0, 1].into_iter().for_each(|node| world.leave_out(node, &[3, 4]));
        [2, 3].into_iter().for_each(|node| world.leave_out(node, &[0, 1]));
        never_both(&mut world, &[0, 1], &[2, 3], &format!("seed {seed}"));
    }
}

#[test]
fn who_is_back_agrees_to_nothing_before_it_is_a_witness() {
    // Nodes 3 and 4 leave for good, and 0 and 1 drop them. Node 2 is late. Then 3 and 4 are back, and 2, 3 and 4 drop 0 and 1.
    for seed in 0..5 {
        let mut world = guarded(5, seed);
        [3, 4].into_iter().for_each(|node| world.leave(node, Removal));
        world.run_for(5 * SECOND);
        [0, 1].into_iter().for_each(|node| world.leave_out(node, &[3, 4]));
        let two = |w: &mut World| [0, 1].into_iter().all(|node| w.holds_guard(node));
        assert!(
            until(&mut world, 20 * SECOND, two).is_some(),
            "seed {seed}: two of the three that stay are enough"
        );
        [2, 3, 4].into_iter().for_each(|node| world.leave_out(node, &[0, 1]));
        [3, 4].into_iter().for_each(|node| world.start(node));
        never_both(&mut world, &[0, 1], &[2, 3, 4], &format!("seed {seed}"));
        assert!(two(&mut world), "seed {seed}");
    }
}

#[test]
fn who_is_back_needs_also_those_that_missed_its_return() {
    // Node 4 is mute: it hears that the others leave for good one by one, and not that they are back. Then it drops them.
    for seed in 0..5 {
        let mut world = guarded(5, seed);
        world.mute(4, true);
        world.run_for(10 * SECOND);
        for node in 0..4 {
            world.leave(node, Removal);
            world.run_for(5 * SECOND);
            world.start(node);
            world.run_for(10 * SECOND);
        }
        world.leave_out(4, &[0, 1, 2, 3]);
        never_both(&mut world, &[0, 1, 2, 3], &[4], &format!("seed {seed}"));
        // All of one roster run again.
        world.mute(4, false);
        world.leave_out(4, &[]);
        let five = |w: &mut World| (0..5).all(|node| w.holds_guard(node));
        assert!(until(&mut world, 30 * SECOND, five).is_some(), "seed {seed}");
    }
}

#[test]
fn who_was_down_while_a_member_left_for_good_counts_it() {
    // Nodes 3 and 4 leave for good while 0 is down. It learns that from the others, and may not know of a newer run.
    for seed in 0..5 {
        let mut world = guarded(5, seed);
        world.crash(0, false);
        [3, 4].into_iter().for_each(|node| world.leave(node, Removal));
        world.run_for(10 * SECOND);
        world.start(0);
        world.run_for(5 * SECOND);
        [0, 1].into_iter().for_each(|node| world.leave_out(node, &[2, 3, 4]));
        world.run_for(SECOND);
        let members = |world: &mut World, node| {
            let view = world.tell(node, |core, now| core.snapshot(now).witness).unwrap();
            view.former.iter().map(|former| former.members).collect::<Vec<_>>()
        };
        assert_eq!(members(&mut world, 0), [5], "seed {seed}");
        assert!(members(&mut world, 1).iter().all(|members| *members == 3), "seed {seed}: it saw them leave");
    }
}

#[test]
fn whoever_is_at_the_address_of_one_that_left_is_counted() {
    // Entries without ids: 3 and 4 leave for good, and other machines are at their addresses now.
    for seed in 0..5 {
        let mut world = guarded_in(Setup { nameless: true, drift: 200, ..Setup::new(5) }, seed);
        [3, 4].into_iter().for_each(|node| world.leave(node, Removal));
        world.run_for(5 * SECOND);
        [3, 4].into_iter().for_each(|node| world.replace(node));
        (0..3).for_each(|node| world.crash(node, false));
        (0..5).for_each(|node| world.start(node));
        world.run_for(20 * SECOND);
        world.add_rule(groups(&[0, 1], &[2, 3, 4]), Rule::Cut);
        [0, 1].into_iter().for_each(|node| world.leave_out(node, &[2, 3, 4]));
        never_both(&mut world, &[0, 1], &[2, 3, 4], &format!("seed {seed}"));
    }
}

#[test]
fn a_new_machine_at_the_entry_of_one_that_left_has_no_vote_in_its_place() {
    // Entries without ids: 3 and 4 leave for good, and 1 and 2 drop them. Node 0 misses that, and is back with new machines there.
    for seed in 0..5 {
        let mut world = guarded_in(Setup { nameless: true, drift: 200, ..Setup::new(5) }, seed);
        [3, 4].into_iter().for_each(|node| world.leave(node, Removal));
        world.run_for(5 * SECOND);
        [3, 4].into_iter().for_each(|node| world.replace(node));
        world.crash(0, false);
        [1, 2].into_iter().for_each(|node| world.leave_out(node, &[3, 4]));
        let two = |w: &World| [1, 2].into_iter().all(|node| w.holds_guard(node));
        assert!(world.run_until(20 * SECOND, two).is_some(), "seed {seed}");
        [0, 3, 4].into_iter().for_each(|node| world.leave_out(node, &[1, 2]));
        [0, 3, 4].into_iter().for_each(|node| world.start(node));
        never_both(&mut world, &[0, 3, 4], &[1, 2], &format!("seed {seed}"));
    }
}

/// Waits until all of these hold the guard.
fn all_hold(world: &mut World, seed: u64, nodes: &[u32]) {
    let held = until(world, 30 * SECOND, |w| nodes.iter().all(|node| w.holds_guard(*node)));
    assert!(held.is_some(), "seed {seed}: {nodes:?}");
}

/// Five nodes that still know three more, in whose place there are new machines that do not run yet.
fn five_and_three_new(seed: u64) -> World {
    let mut world = guarded(8, seed);
    (5..8).for_each(|node| world.crash(node, false));
    (5..8).for_each(|node| world.replace(node));
    world
}

#[test]
fn who_is_back_takes_no_vote_along_from_where_it_was_since() {
    // Of five, two have gone to others by two steps, and these hold the guard. The two leave for good, and all five start again.
    for seed in 0..5 {
        let mut world = five_and_three_new(seed);
        (0..5).for_each(|node| world.leave_out(node, &[5, 6, 7]));
        all_hold(&mut world, seed, &[0, 1, 2, 3, 4]);
        (3..5).for_each(|node| world.crash(node, false));
        (0..3).for_each(|node| world.leave_out(node, &[3, 4, 5, 6, 7]));
        all_hold(&mut world, seed, &[0, 1, 2]);
        world.crash(2, false);
        [0, 1, 5, 6, 7].into_iter().for_each(|node| world.leave_out(node, &[2, 3, 4]));
        (5..8).for_each(|node| world.start(node));
        all_hold(&mut world, seed, &[0, 1, 5, 6, 7]);
        (0..2).for_each(|node| world.leave(node, Removal));
        world.run_for(5 * SECOND);
        (0..5).for_each(|node| world.leave_out(node, &[5, 6, 7]));
        (0..5).for_each(|node| world.start(node));
        never_both(&mut world, &[2, 3, 4], &[5, 6, 7], &format!("seed {seed}"));
    }
}

#[test]
fn who_is_back_after_most_were_replaced_blocks_nobody() {
    for seed in 0..5 {
        let mut world = five_and_three_new(seed);
        let drop_all_but = |w: &mut World, present: &[u32]| {
            let absent: Vec<u32> = (0..8).filter(|node| !present.contains(node)).collect();
            present.iter().for_each(|node| w.leave_out(*node, &absent));
        };
        drop_all_but(&mut world, &[0, 1, 2, 3, 4]);
        all_hold(&mut world, seed, &[0, 1, 2, 3, 4]);
        world.leave(2, Removal);
        world.run_for(5 * SECOND);
        // One machine after the other makes room for a new one.
        let mut present = vec![0, 1, 3, 4];
        for (gone, new) in [(3, 5), (4, 6), (1, 7)] {
            world.leave(gone, Removal);
            world.run_for(5 * SECOND);
            present.retain(|node| *node != gone);
            present.push(new);
            drop_all_but(&mut world, &present);
            world.start(new);
            all_hold(&mut world, seed, &present);
        }
        present.push(2);
        drop_all_but(&mut world, &present);
        world.start(2);
        all_hold(&mut world, seed, &present);
    }
}

#[test]
fn of_two_that_take_each_others_roster_one_at_most_counts_the_other() {
    // Three of five have a roster of their own; two of them know the five again, and the third is late.
    for seed in 0..20 {
        let mut world = three_of_five(seed);
        [3, 4].into_iter().for_each(|node| world.start(node));
        (0..2).for_each(|node| world.leave_out(node, &[]));
        let four = |w: &mut World| [0, 1, 3, 4].into_iter().all(|node| w.holds_guard(node));
        assert!(until(&mut world, 20 * SECOND, four).is_some(), "seed {seed}");
        // Behind a cut, 0 and 1 take back the roster that 2 has, and 2 takes theirs.
        world.add_rule(groups(&[0, 1], &[2, 3, 4]), Rule::Cut);
        world.run_for(seed as u32 * 20 * MS);
        (0..2).for_each(|node| world.leave_out(node, &[3, 4]));
        world.leave_out(2, &[]);
        never_both(&mut world, &[0, 1], &[2, 3, 4], &format!("seed {seed}"));
    }
}

#[test]
fn who_ran_alone_brings_no_vote() {
    // Four that know nobody yet, and then all; three that know only each other.
    for seed in 0..5 {
        let mut world = World::new(Setup { drift: 200, ..Setup::new(7) }, seed);
        (0..3).for_each(|node| world.leave_out(node, &[3, 4, 5, 6]));
        for node in 3..7 {
            let others: Vec<u32> = (0..7).filter(|other| *other != node).collect();
            world.leave_out(node, &others);
        }
        let seven = |w: &World| (0..7).all(|node| w.holds_guard(node));
        assert!(world.run_until(20 * SECOND, seven).is_some(), "seed {seed}");
        (3..7).for_each(|node| world.leave_out(node, &[]));
        never_both(&mut world, &[0, 1, 2], &[3, 4, 5, 6], &format!("seed {seed}"));
        assert!((0..3).all(|node| world.holds_guard(node)), "seed {seed}");
        (0..3).for_each(|node| world.leave_out(node, &[]));
        assert!(world.run_until(20 * SECOND, seven).is_some(), "seed {seed}: all have one roster now");
    }
}

#[test]
fn where_most_are_not_observed_nobody_holds_it() {
    let mut world = super::rings::settled(Setup::new(80), 1);
    world.run_for(20 * SECOND);
    assert!(!(0..80).any(|node| world.holds_guard(node)));
    let config = PeerConfig { observers: crate::proto::Observers::All, ..Setup::new(80).config };
    let mut world = World::new(Setup { config, cheap_seal: true, ..Setup::new(80) }, 1);
    world.run_for(15 * SECOND);
    assert!((0..80).all(|node| world.holds_guard(node)));
}

#[test]
fn without_waiting_the_checker_finds_a_fault() {
    let hasty =
        Mechanisms { retries: true, relays: true, records: true, waits: false, memory: true, clocks: true };
    let broken = (0..200).filter(|seed| {
        let result = swarm::scenario(*seed).run_with(*seed, |config| config.with_mechanisms(hasty));
        result.is_err_and(|broken| broken.what.contains("guard"))
    });
    assert!(broken.count() >= 3);
}

#[test]
fn entries_in_another_order_are_the_same_roster_and_other_peers() {
    let mut world = guarded(5, 1);
    world.crash(0, false);
    let watched = until(&mut world, 20 * SECOND, |w| {
        w.watch_takeover(1, 0);
        w.may_take_over(1, 0)
    });
    assert!(watched.is_some());
    world.tell(1, |core, now| {
        let mut entries = core.config().static_peers.to_vec();
        entries.reverse();
        let own = core.config().own_name.clone();
        core.set_roster(entries.into(), own, now).unwrap();
    });
    assert!(world.holds_guard(1), "it is the same roster");
    for other in [0, 2, 3, 4] {
        assert!(!world.may_take_over(1, other), "n{other}: what was known of one peer is said of another");
    }
}

#[test]
fn a_machine_that_stood_still_loses_the_guard_with_the_first_frames() {
    for (seconds, loses, seed) in [(3, false, 1), (3, true, 2), (30, false, 3), (30, true, 4), (600, true, 5)]
    {
        let mut world = guarded(5, seed);
        world.stop_machine(0, true, loses);
        world.run_for(SECOND * seconds);
        world.take_records();
        world.stop_machine(0, false, loses);
        let lost = until(&mut world, 3 * SECOND, |w| !w.holds_guard(0));
        assert!(lost.is_some_and(|lost| lost < 1100 * MS), "{seconds} s: {lost:?}");
        let back = until(&mut world, 30 * SECOND, |w| w.holds_guard(0));
        assert!(back.is_some_and(|back| back + SECOND > world.setup().config.guard_wait()), "{back:?}");
        let stood_still = |record: &world::Record| {
            record.node == 0
                && matches!(record.event.change, Change::Stall(length) if length * 2 > SECOND * seconds)
        };
        assert!(world.take_records().iter().any(stood_still), "{seconds} s: most nodes say so");
    }
}

#[test]
fn a_clock_that_is_a_fifth_slow_holds_no_guard_and_the_others_do() {
    let mut world = guarded(5, 1);
    world.set_clock_rate(0, -200_000);
    world.run_for(5 * SECOND);
    for _ in 0..500 {
        world.run_for(20 * MS);
        assert!(!world.holds_guard(0) && (1..5).all(|node| world.holds_guard(node)));
    }
}
