//! Many loops that rest: whether their pings stay spread over the interval.

use super::*;

const BINS: usize = 20;

/// How unevenly all that is sent in a minute is spread over twenty parts of the interval: the most and the least, by the mean.
fn spread(world: &mut World) -> (f64, f64) {
    let sent = |world: &World| -> u64 { (0..world.len() as u32).map(|n| world.host(n).sent().0).sum() };
    let mut bins = [0; BINS];
    let mut before = sent(world);
    for part in 0..60 * BINS {
        world.run_for(SECOND / BINS as u32);
        let after = sent(world);
        bins[part % BINS] += after - std::mem::replace(&mut before, after);
    }
    let mean = bins.iter().sum::<u64>() as f64 / BINS as f64;
    let share = |n: Option<&u64>| *n.unwrap() as f64 / mean;
    (share(bins.iter().max()), share(bins.iter().min()))
}

#[test]
fn lazy_loops_do_not_fall_into_step() {
    let setup = Setup { cheap_seal: true, lazy: true, start_within: SECOND, ..Setup::mesh(32) };
    let mut world = World::new(setup, 3);
    world.run_for(10 * SECOND);
    let first = spread(&mut world);
    world.run_for(300 * SECOND);
    let later = spread(&mut world);
    // 496 pairs at random phases, 25 in each part.
    for (most, least) in [first, later] {
        assert!(most < 1.8 && least > 0.4, "{first:?}, {later:?}");
    }
    assert!((later.0 - first.0).abs() < 0.3, "what is uneven does not grow: {first:?}, {later:?}");
}
