//! Many peers lost at once are told as one thing.

use super::*;
use crate::proto::{LeaveReason, Observers, Verdict};

/// What nodes told of mass losses since the last look: (observer, whether it begins).
fn mass_losses(world: &mut World) -> Vec<(u32, bool)> {
    let mass_loss = |record: world::Record| match record.event.change {
        Change::MassLoss { begins } => Some((record.node, begins)),
        _ => None,
    };
    let mut all: Vec<_> = world.take_records().into_iter().filter_map(mass_loss).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_rack_is_a_mass_loss() {
    // Of 16 nodes three die, which are a fifth of the peers and not more; then a rack of five.
    let all = |begins| (0..11).map(|n| (n, begins)).collect::<Vec<_>>();
    let says = |world: &World, n: u32| world.node(n).unwrap().snapshot(world.now()).mass_loss;
    let mut world = whole(Setup::new(16), 1);
    (13..16).for_each(|n| world.crash(n, false));
    world.run_for(20 * SECOND);
    assert_eq!((mass_losses(&mut world), says(&world, 0)), (vec![], false));
    (13..16).for_each(|n| world.start(n));
    world.run_for(20 * SECOND);
    (11..16).for_each(|n| world.crash(n, false));
    world.run_for(8 * SECOND);
    assert_eq!(mass_losses(&mut world), all(true));
    assert!(
        (0..11)
            .all(|n| says(&world, n)
                && (0..11).all(|m| world.status(n, m).is_none_or(|s| s < PeerStatus::Down)))
    );
    assert!((11..16).all(|n| world.status(0, n) == Some(PeerStatus::Down)), "it changes no status");
    // Two back are not half of five; three are.
    (11..13).for_each(|n| world.start(n));
    world.run_for(10 * SECOND);
    assert_eq!((mass_losses(&mut world), says(&world, 0)), (vec![], true));
    world.start(13);
    world.run_for(10 * SECOND);
    assert_eq!((mass_losses(&mut world), says(&world, 0)), (all(false), false));
}

#[test]
fn who_was_never_there_is_not_lost() {
    for observers in [Observers::All, Observers::Number(4)] {
        // Five of sixteen never speak, while the others start; then a node of these starts anew.
        let mut setup = Setup::new(16);
        setup.config.observers = observers;
        let mut world = World::new(setup, 3);
        world.run_for(MS / 10);
        (11..16).for_each(|n| world.crash(n, false));
        world.run_for(30 * SECOND);
        let verdict = |world: &World, at: u32| {
            let peers = world.node(at).unwrap().snapshot(world.now()).peers;
            peers.into_iter().find(|p| *p.server_id == *"n15").unwrap().verdict
        };
        assert_eq!((mass_losses(&mut world), verdict(&world, 0)), (vec![], Verdict::Unknown), "{observers}");
        (11..16).for_each(|n| world.start(n));
        world.run_for(20 * SECOND);
        (11..16).for_each(|n| world.crash(n, false));
        world.run_for(400 * SECOND);
        world.take_records();
        for at in 0..11 {
            world.crash(at, false);
            world.start(at);
            world.run_for(20 * SECOND);
        }
        assert_eq!(mass_losses(&mut world), [], "{observers}");
    }
}

#[test]
fn a_mass_loss_is_over_after_five_minutes() {
    let mut world = whole(Setup::new(9), 2);
    // Who leaves is not lost.
    (1..4).for_each(|n| world.leave(n, LeaveReason::Restart));
    world.run_for(10 * SECOND);
    assert_eq!(mass_losses(&mut world), []);
    (4..7).for_each(|n| world.crash(n, false));
    world.run_for(305 * SECOND);
    assert_eq!(mass_losses(&mut world), [(0, true), (7, true), (8, true)]);
    world.run_for(5 * SECOND);
    assert_eq!(mass_losses(&mut world), [(0, false), (7, false), (8, false)]);
}
