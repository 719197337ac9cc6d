//! Refusals within Linux' limit on ICMP errors, firewalls on a node's own host, and loss in step with the slots.

use super::*;
use PeerStatus::Down;

#[test]
fn lan_kill() {
    // A closed port is reported six times at once to each other host, and then once a second.
    for (nodes, seed) in [(4, 1), (4, 2), (4, 3), (16, 1), (16, 2)] {
        let mut world = whole(Setup::new(nodes), seed);
        let down = |w: &World| (1..nodes as u32).all(|at| w.status(at, 0) == Some(Down));
        for kill in 0..3 {
            world.crash(0, true);
            let took = world.run_until(10 * SECOND, down).expect("Down at every node");
            assert!(took <= 2500 * MS, "{nodes} nodes, seed {seed}, kill {kill}: {took:?}");
            world.run_for(SECOND);
            world.start(0);
            world.run_for(9 * SECOND - took);
            assert!(world.is_whole());
        }
        assert!(changes(&mut world).iter().all(|(_, of, _)| *of == 0), "nobody else changes");
    }
}

#[test]
fn own_firewall_rejects() {
    // The host of node 1 rejects all that comes and all that goes.
    for (nodes, length) in
        [(5, 1300 * MS), (5, 1500 * MS), (16, 1300 * MS), (16, 3 * SECOND), (5, 3 * SECOND)]
    {
        for seed in 0..5 {
            let mut world = whole(Setup::new(nodes), seed);
            world.run_for(SECOND.mul_f64(seed as f64 / 5.0));
            world.add_rule(Scope::Touching(vec![1]), Rule::Refuse);
            world.run_for(length);
            if length >= 3 * SECOND {
                assert_eq!(
                    failures::verdict(&world, 1, 0),
                    crate::proto::Verdict::Isolated,
                    "{nodes} nodes, seed {seed}"
                );
            }
            world.remove_rule(&Scope::Touching(vec![1]), &Rule::Refuse);
            world.run_for(10 * SECOND);
            let wrong: Vec<_> =
                changes(&mut world).into_iter().filter(|(_, of, to)| *to == Down && *of != 1).collect();
            assert_eq!(wrong, [], "{nodes} nodes, {length:?}, seed {seed}");
            assert!(world.is_whole());
        }
    }
}

#[test]
fn slot_locked_loss() {
    // All is lost for 0.55 s of each second, so that some pairs lose every try.
    for seed in 0..3 {
        let mut world = whole(Setup::new(16), seed);
        for _ in 0..300 {
            world.add_rule(Scope::All, Rule::Cut);
            world.run_for(550 * MS);
            world.remove_rule(&Scope::All, &Rule::Cut);
            world.run_for(450 * MS);
        }
        let downs: Vec<_> = changes(&mut world).into_iter().filter(|change| change.2 == Down).collect();
        assert_eq!(downs, [], "seed {seed}");
    }
}
