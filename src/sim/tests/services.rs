//! What nodes say for clients, from one to all: services, labels, migrations.

use std::collections::BTreeMap;

use super::*;
use crate::proto::{
    Drain, LeaveReason, Migration, Move, Reason, ServerId, Service, ServiceName, ServiceState,
};

pub(super) fn service(name: &str, version: u64, payload: usize) -> Service {
    Service { version, payload: vec![7; payload].into(), ..Service::new(name, "h:80").unwrap() }
}

pub(super) fn publish(world: &mut World, node: u32, service: Service) {
    let published = world.tell(node, |core, now| core.publish_service(service, now));
    assert!(published.is_some_and(|p| p.is_ok()), "n{node}");
}

/// Where all running nodes show what all running nodes offer, and nothing else of them.
fn all_know(world: &World) -> bool {
    let running: Vec<u32> = (0..world.len() as u32).filter(|node| world.node(*node).is_some()).collect();
    running.iter().all(|at| {
        let catalog = world.node(*at).unwrap().catalog(world.now());
        let mut known: BTreeMap<u32, Vec<Service>> = BTreeMap::new();
        for instance in catalog.instances {
            known.entry(world::index(&instance.server_id).unwrap()).or_default().push(instance.service);
        }
        running.iter().all(|of| {
            let offered: Vec<&Service> = world.node(*of).unwrap().services().iter().collect();
            known.get(of).map_or(offered.is_empty(), |known| known.iter().eq(offered))
        })
    })
}

/// How long it takes until `done` holds, looked at every 20 ms.
fn until(world: &mut World, limit: Duration, done: impl Fn(&World) -> bool) -> Option<Duration> {
    let start = world.now();
    while !done(world) {
        if world.now().since(start) >= limit {
            return None;
        }
        world.run_for(20 * MS);
    }
    Some(world.now().since(start))
}

fn move_away(from: u32, within: Duration) -> Move {
    Move {
        service: ServiceName::new("web").unwrap(),
        from: ServerId::new(&world::name(from)).unwrap(),
        to: None,
        reason: Reason::new("kernel upgrade").unwrap(),
        within,
    }
}

/// How often each run of each node was told of each migration.
#[derive(Default)]
struct Told(BTreeMap<(u32, String, u64), u32>);

impl Told {
    fn note(&mut self, world: &mut World) {
        for record in world.take_records() {
            if let Change::Migrate(migration) = &record.event.change {
                let run = world.node(record.node).map(|core| core.instance().to_string()).unwrap_or_default();
                *self.0.entry((record.node, run, migration.id)).or_default() += 1;
            }
        }
    }

    fn reached(&self, world: &World, id: u64) -> usize {
        let run = |node: u32| world.node(node).unwrap().instance().to_string();
        (0..world.len() as u32).filter(|node| self.0.contains_key(&(*node, run(*node), id))).count()
    }

    fn is_once(&self) -> bool {
        self.0.values().all(|times| *times == 1)
    }
}

#[test]
fn what_is_published_reaches_all_at_once() {
    for (nodes, loss, within) in [
        (5, 0.0, 100 * MS),
        (64, 0.0, 100 * MS),
        (16, 0.3, 8 * SECOND),
        (90, 0.0, SECOND),
        (90, 0.05, 8 * SECOND),
    ] {
        let mut world = super::rings::settled(Setup { cheap_seal: true, ..Setup::new(nodes) }, 1);
        world.add_rule(Scope::All, Rule::Loss(loss));
        let mut slowest = Duration::ZERO;
        for version in 1..10 {
            let node = (version * 7 % nodes as u64) as u32;
            publish(&mut world, node, service("web", version, 900));
            let took =
                until(&mut world, 20 * SECOND, all_know).unwrap_or_else(|| panic!("{nodes} nodes, {loss}"));
            slowest = slowest.max(took);
            world.run_for(5 * SECOND);
        }
        println!("{nodes} nodes, {loss} lost: {slowest:?}");
        assert!(slowest <= within, "{nodes} nodes, {loss} lost: {slowest:?}");
    }
}

#[test]
fn records_converge_to_the_newest_through_loss_partitions_and_restarts() {
    let mut slowest = Duration::ZERO;
    for seed in [0u64, 1, 2, 5] {
        let nodes = [6, 12, 80][seed as usize % 3];
        let setup = Setup { cheap_seal: true, drift: 200, ..Setup::new(nodes) };
        let mut world = World::new(setup, seed);
        world.run_for(10 * SECOND);
        let half = || {
            Scope::Across(vec![(0..nodes as u32 / 2).collect(), (nodes as u32 / 2..nodes as u32).collect()])
        };
        world.add_rule(Scope::All, Rule::Loss(0.1));
        for round in 0..20u32 {
            let node = (round * 5 + seed as u32) % nodes as u32;
            match round % 5 {
                0 => world.add_rule(half(), Rule::Cut),
                1 => world.crash(node, round % 2 == 0),
                2 => world.remove_rule(&half(), &Rule::Cut),
                _ => {}
            }
            for n in (0..nodes as u32).filter(|n| n % 3 == round % 3) {
                if world.node(n).is_none() {
                    world.start(n);
                }
                publish(&mut world, n, service("web", round.into(), 100));
                publish(&mut world, n, service(["db", "mail"][round as usize % 2], round.into(), 400));
                world.tell(n, |core, now| core.withdraw_service(&ServiceName::new("db").unwrap(), now));
            }
            world.run_for(MS * (300 + 211 * round));
        }
        world.remove_rule(&half(), &Rule::Cut);
        for n in 0..nodes as u32 {
            if world.node(n).is_none() {
                world.start(n);
            }
        }
        // After the longest back-off all links work again, and what differs is found by the digests. Who read a bucket from its
        // start whenever a page was lost hardly ever came to its end.
        let limit = world.setup().config.max_backoff + 10 * SECOND;
        let took = until(&mut world, limit, all_know).unwrap_or_else(|| panic!("seed {seed}, {nodes} nodes"));
        slowest = slowest.max(took);
    }
    println!("after the last fault: {slowest:?} at most");
}

#[test]
fn a_migration_reaches_every_live_node_once() {
    for (nodes, loss, seed) in [(5, 0.0, 1), (16, 0.3, 2), (70, 0.1, 3)] {
        let mut world = super::rings::settled(Setup { cheap_seal: true, ..Setup::new(nodes) }, seed);
        world.add_rule(Scope::All, Rule::Loss(loss));
        world.add_rule(Scope::All, Rule::Duplicate { share: 0.3, within: SECOND });
        let cut = Scope::Across(vec![vec![0, 1], (2..nodes as u32).collect()]);
        world.add_rule(cut.clone(), Rule::Cut);
        world.crash(2, false);
        world.run_for(SECOND * 8);
        world.take_records();
        let mut told = Told::default();
        let ids: Vec<u64> = (0..3)
            .map(|_| {
                world.tell(3, |core, now| core.migrate(move_away(4, 120 * SECOND), now)).unwrap().unwrap()
            })
            .collect();
        world.run_for(15 * SECOND);
        told.note(&mut world);
        // Who comes back hears of it then: who was cut off, and who did not run. And a run that ends anew.
        world.remove_rule(&cut, &Rule::Cut);
        world.start(2);
        world.run_for(30 * SECOND);
        told.note(&mut world);
        world.crash(4, true);
        world.run_for(3 * SECOND);
        world.start(4);
        world.run_for(40 * SECOND);
        told.note(&mut world);
        for id in ids {
            assert_eq!(told.reached(&world, id), nodes, "{nodes} nodes, {loss}");
        }
        assert!(told.is_once(), "{nodes} nodes: {:?}", told.0);
        // When it is over, nobody who comes hears of it, and nobody holds it any more.
        world.run_for(60 * SECOND);
        world.crash(2, false);
        world.run_for(SECOND);
        world.start(2);
        world.run_for(15 * SECOND);
        let mut late = Told::default();
        late.note(&mut world);
        assert!(late.0.is_empty(), "{:?}", late.0);
        let known = |node| world.node(node).unwrap().catalog(world.now()).migrations.len();
        assert_eq!((0..nodes as u32).map(known).sum::<usize>(), 0);
    }
}

#[test]
fn what_is_announced_is_bounded() {
    let mut world = whole(Setup::new(3), 1);
    let announce =
        |world: &mut World| world.tell(0, |core, now| core.migrate(move_away(1, 60 * SECOND), now)).unwrap();
    for _ in 0..8 {
        assert!(announce(&mut world).is_ok());
    }
    let refused = announce(&mut world).unwrap_err().to_string();
    assert!(refused.contains("8 migrations go on"), "{refused}");
    world.run_for(5 * SECOND);
    let known = |w: &World| w.node(2).unwrap().catalog(w.now()).migrations.len();
    assert_eq!(known(&world), 8);
    world.run_for(60 * SECOND);
    assert_eq!(known(&world), 0);
    assert!(announce(&mut world).is_ok(), "those are over");
    assert!(Migration::LONGEST > Duration::ZERO);
}

#[test]
fn what_an_earlier_run_offered_is_over() {
    let mut world = whole(Setup::new(4), 3);
    publish(&mut world, 0, service("web", 1, 10));
    assert!(until(&mut world, SECOND, all_know).is_some());
    let routed = |w: &World, at: u32| {
        let catalog = w.node(at).unwrap().catalog(w.now());
        catalog.route("web", b"s", None).map(|route| route.first.service.version)
    };
    assert_eq!(routed(&world, 2), Some(1));
    world.crash(0, false);
    world.run_for(300 * MS);
    assert_eq!(routed(&world, 2), Some(1), "nobody knows it yet");
    world.start(0);
    let gone = until(&mut world, 3 * SECOND, |w| (1..4).all(|at| routed(w, at).is_none()));
    assert!(gone.is_some(), "the new run offers nothing");
    publish(&mut world, 0, service("web", 2, 10));
    assert!(until(&mut world, 3 * SECOND, |w| (1..4).all(|at| routed(w, at) == Some(2))).is_some());
    world.run_for(20 * SECOND);
    assert!(all_know(&world) && world.is_settled());
}

#[test]
fn who_dies_drains_or_leaves_gets_no_sessions() {
    for (nodes, seed) in [(6, 1), (90, 2)] {
        let mut world = super::rings::settled(Setup { cheap_seal: true, ..Setup::new(nodes) }, seed);
        for node in 0..4 {
            publish(&mut world, node, service("web", 1, 10));
        }
        assert!(until(&mut world, 5 * SECOND, all_know).is_some());
        let to = |w: &World, of: u32| {
            let at = nodes as u32 - 1;
            let catalog = w.node(at).unwrap().catalog(w.now());
            let first = |key: u32| {
                catalog.route("web", &key.to_le_bytes(), None).map(|r| r.first.server_id.to_string())
            };
            (0..500).filter(|key| first(*key) == Some(world::name(of))).count()
        };
        let all = |w: &World| [0, 1, 2, 3].map(|of| to(w, of));
        assert!(all(&world).iter().all(|count| *count > 60), "{:?}", all(&world));
        let drain = Drain { until: 10_000, reason: Reason::default() };
        world.tell(0, |core, now| core.drain(drain, now));
        let drained = until(&mut world, 5 * SECOND, |w| to(w, 0) == 0).unwrap();
        world.leave(1, LeaveReason::Restart);
        let left = until(&mut world, 8 * SECOND, |w| to(w, 1) == 0).unwrap();
        world.crash(2, true);
        let died = until(&mut world, 20 * SECOND, |w| to(w, 2) == 0).unwrap();
        println!("{nodes} nodes: drained {drained:?}, left {left:?}, died {died:?}");
        assert_eq!(to(&world, 3), 500);
        let failed = Service { state: ServiceState::Failed, ..service("web", 1, 10) };
        publish(&mut world, 3, failed);
        assert!(until(&mut world, 5 * SECOND, |w| to(w, 3) == 0).is_some());
    }
}

#[test]
fn who_changes_often_is_heard_twice_an_interval() {
    let mut world = whole(Setup::new(16), 1);
    let before = world.host(0).sent();
    for version in 0..1000 {
        publish(&mut world, 0, service("web", version + 1, 900));
        world.run_for(10 * MS);
    }
    let sent = world.host(0).sent();
    let (datagrams, bytes) = (sent.0 - before.0, sent.1 - before.1);
    println!("{datagrams} datagrams, {bytes} bytes in 10 s");
    // Ten seconds: 150 of its heartbeats, and two records a second to each of fifteen, with what is told while no echo came.
    assert!(bytes < 2 * 2 * 10 * 15 * 1000, "{bytes}");
    assert!(until(&mut world, 2 * SECOND, all_know).is_some());
}

#[test]
fn a_long_offer_passes_around_a_narrow_path() {
    let mut world = World::new(Setup::new(5), 1);
    for scope in super::failures::both(0, 1) {
        world.add_rule(scope, Rule::Mtu(600));
    }
    world.run_for(20 * SECOND);
    publish(&mut world, 0, service("web", 1, 900));
    let took = until(&mut world, 20 * SECOND, all_know);
    assert!(took.is_some(), "the others tell it");
    // Behind narrow paths alone what is short comes, and of the rest nothing; nobody is the worse for that.
    let mut world = World::new(Setup::new(5), 1);
    world.add_rule(Scope::Touching(vec![0]), Rule::Mtu(600));
    world.run_for(20 * SECOND);
    publish(&mut world, 1, service("web", 1, 900));
    publish(&mut world, 2, service("web", 1, 250));
    world.run_for(30 * SECOND);
    let known = world.node(0).unwrap().catalog(world.now());
    assert_eq!(known.instances.iter().map(|i| &*i.server_id).collect::<Vec<_>>(), ["n2"]);
    assert!(world.is_right());
}
