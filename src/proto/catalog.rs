//! The catalog: which services there are, where they work, and to which instance a session goes.
//!
//! Sessions are spread by rendezvous hashing (Thaler and Ravishankar 1998): for each instance a number is drawn from the
//! service, the session's key and the node's id, and the highest wins. All nodes that see the same instances choose the same
//! one, without a table; where an instance goes, its sessions alone move, each to its own second choice; where one comes, it
//! takes its share evenly from all. An instance of weight w has w numbers, of which the highest counts, so it gets w shares.

use std::sync::Arc;

use super::labels::Labels;
use super::migration::Migration;
use super::peer::PeerStatus;
use super::service::{Service, ServiceState};
use super::timer::Time;
use super::verdict::Verdict;

/// A service at one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInstance {
    /// Whose it is.
    pub server_id: Arc<str>,
    /// What that node says of it.
    pub service: Service,
    /// What its operator says of that node.
    pub labels: Labels,
    /// What this node believes of that node.
    pub status: PeerStatus,
    /// Status plus cause.
    pub verdict: Verdict,
    /// Whether that node drains as a whole.
    pub drains: bool,
}

impl ServiceInstance {
    /// Whether it takes clients: by its own word, but that what passes on a node that drains is draining.
    pub fn state(&self) -> ServiceState {
        match self.service.state {
            ServiceState::Passing if self.drains => ServiceState::Draining,
            state => state,
        }
    }

    /// Whether it passes, on a node that lives: one that is only suspected does.
    pub fn is_available(&self) -> bool {
        self.state() == ServiceState::Passing && self.status != PeerStatus::Down
    }
}

/// A migration that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Which node announced it.
    pub by: Arc<str>,
    /// What.
    pub migration: Migration,
    /// When it ends.
    pub until: Time,
}

/// Where a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// Where to.
    pub first: &'a ServiceInstance,
    /// Where it goes if that fails: the same that it would be sent to then. `None`: there is no other.
    pub second: Option<&'a ServiceInstance>,
}

/// All services of all nodes, as one node knows them at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// By service, and then by node.
    pub instances: Vec<ServiceInstance>,
    /// What goes on, by who announced it.
    pub migrations: Vec<Announced>,
}

impl Catalog {
    /// Every instance of a service, whatever its state, by node.
    pub fn instances(&self, service: &str) -> impl Iterator<Item = &ServiceInstance> {
        self.instances.iter().filter(move |instance| instance.service.name.as_str() == service)
    }

    /// Those that pass on nodes that live, by node.
    pub fn passing(&self, service: &str) -> impl Iterator<Item = &ServiceInstance> {
        self.instances(service).filter(|instance| instance.is_available())
    }

    /// Where the session with this key goes: to an instance that passes, on a node that is Healthy, or only Suspected if there
    /// is no such one. `prefer`: a label's name and value; where instances on nodes with this label can be had, it is one of
    /// them. `None`: no instance can be had.
    pub fn route(&self, service: &str, key: &[u8], prefer: Option<(&str, &str)>) -> Option<Route<'_>> {
        let rank = |instance: &ServiceInstance| {
            let preferred = prefer.is_none_or(|(name, value)| instance.labels.get(name) == Some(value));
            let score = score(service, key, &instance.server_id, instance.service.weight);
            (instance.status == PeerStatus::Healthy, preferred, score)
        };
        let (mut first, mut second) = (None, None);
        for ranked in self.passing(service).map(|instance| (rank(instance), instance)) {
            // Of two equal ones, which is all but impossible, the first by name wins.
            if first.is_none_or(|(best, _)| ranked.0 > best) {
                second = first.replace(ranked);
            } else if second.is_none_or(|(best, _)| ranked.0 > best) {
                second = Some(ranked);
            }
        }
        first.map(|(_, first)| Route { first, second: second.map(|(_, second)| second) })
    }

    /// From whom the state of a service can be had: the instances that live and say which version they hold, those with the
    /// newest first. One that drains holds it too.
    pub fn sources(&self, service: &str) -> Vec<&ServiceInstance> {
        let holds = |instance: &&ServiceInstance| {
            let Service { state, version, .. } = &instance.service;
            *version > 0 && *state != ServiceState::Failed && instance.status == PeerStatus::Healthy
        };
        let mut sources: Vec<_> = self.instances(service).filter(holds).collect();
        sources.sort_by_key(|instance| std::cmp::Reverse(instance.service.version));
        sources
    }
}

/// The highest of `weight` numbers that belong to this session at this node.
fn score(service: &str, key: &[u8], server_id: &str, weight: u8) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("lastseen route v1");
    for part in [service.as_bytes(), server_id.as_bytes()] {
        hasher.update(&[part.len() as u8]).update(part);
    }
    let hash = hasher.update(key).finalize();
    let seed = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"));
    (0..weight.max(1))
        .map(|n| mix(seed.wrapping_add(u64::from(n).wrapping_mul(GOLDEN))))
        .max()
        .unwrap_or_default()
}

/// 2^64 over the golden ratio, odd.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Scatters all bits (the end of SplitMix64, Steele and others 2014).
fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSIONS: u32 = 20_000;

    fn instance(node: u32) -> ServiceInstance {
        ServiceInstance {
            server_id: format!("web-{node}").into(),
            service: Service::new("web", "h:80").unwrap(),
            labels: Labels::new(vec![("zone".into(), if node.is_multiple_of(2) { "a" } else { "b" }.into())])
                .unwrap(),
            status: PeerStatus::Healthy,
            verdict: Verdict::Up,
            drains: false,
        }
    }

    fn catalog(nodes: u32, change: impl Fn(u32, &mut ServiceInstance)) -> Catalog {
        let made = |node| {
            let mut instance = instance(node);
            change(node, &mut instance);
            instance
        };
        Catalog { instances: (0..nodes).map(made).collect(), migrations: Vec::new() }
    }

    fn route(
        catalog: &Catalog,
        session: u32,
        prefer: Option<(&str, &str)>,
    ) -> Option<(String, Option<String>)> {
        let Route { first, second } = catalog.route("web", &session.to_le_bytes(), prefer)?;
        Some((first.server_id.to_string(), second.map(|second| second.server_id.to_string())))
    }

    /// How many sessions go to each node.
    fn shares(catalog: &Catalog) -> std::collections::BTreeMap<String, u32> {
        let mut shares = std::collections::BTreeMap::new();
        for session in 0..SESSIONS {
            *shares.entry(route(catalog, session, None).unwrap().0).or_default() += 1;
        }
        shares
    }

    /// Within five standard deviations of what chance gives.
    fn is_about(count: u32, share: f64) -> bool {
        let (all, expected) = (f64::from(SESSIONS), f64::from(SESSIONS) * share);
        (f64::from(count) - expected).abs() < 5.0 * (all * share * (1.0 - share)).sqrt()
    }

    #[test]
    fn only_the_sessions_of_who_goes_move_and_evenly() {
        let all = catalog(10, |_, _| {});
        assert!(shares(&all).values().all(|count| is_about(*count, 0.1)), "{:?}", shares(&all));
        type Change = fn(&mut ServiceInstance);
        let gone: [Change; 4] = [
            |i| i.status = PeerStatus::Down,
            |i| i.status = PeerStatus::Suspected,
            |i| i.drains = true,
            |i| i.service.state = ServiceState::Failed,
        ];
        for change in gone {
            let without = catalog(10, |node, instance| {
                if node == 3 {
                    change(instance)
                }
            });
            let mut taken = std::collections::BTreeMap::<String, u32>::new();
            for session in 0..SESSIONS {
                let (before, after) =
                    (route(&all, session, None).unwrap(), route(&without, session, None).unwrap());
                if before.0 == "web-3" {
                    assert_eq!(Some(&after.0), before.1.as_ref(), "it goes to its second choice");
                    *taken.entry(after.0).or_default() += 1;
                } else {
                    assert_eq!(after.0, before.0, "it stays");
                }
            }
            assert_eq!(taken.len(), 9);
            assert!(taken.values().all(|count| is_about(*count, 0.1 / 9.0)), "{taken:?}");
        }
    }

    #[test]
    fn weights_are_shares_and_a_change_moves_no_more_than_it_must() {
        let light = catalog(4, |_, _| {});
        let heavy = catalog(4, |node, instance| instance.service.weight = if node == 0 { 3 } else { 1 });
        let shares = shares(&heavy);
        assert!(is_about(shares["web-0"], 0.5) && is_about(shares["web-1"], 1.0 / 6.0), "{shares:?}");
        for session in 0..SESSIONS {
            let (before, after) =
                (route(&light, session, None).unwrap().0, route(&heavy, session, None).unwrap().0);
            assert!(after == before || after == "web-0", "{before} to {after}");
        }
    }

    #[test]
    fn a_zone_is_preferred_while_it_can_be_had() {
        let prefer = Some(("zone", "a"));
        let all = catalog(4, |_, _| {});
        let without = catalog(4, |node, instance| {
            if node.is_multiple_of(2) {
                instance.status = PeerStatus::Down
            }
        });
        let is_in_a = |node: &str| ["web-0", "web-2"].contains(&node);
        for session in 0..1000 {
            let (first, second) = route(&all, session, prefer).unwrap();
            assert!(is_in_a(&first) && is_in_a(&second.unwrap()));
            assert_eq!(route(&without, session, prefer), route(&without, session, None));
        }
        let one = catalog(4, |node, instance| {
            if node == 0 {
                instance.status = PeerStatus::Down
            }
        });
        let (first, second) = route(&one, 7, prefer).unwrap();
        assert!(first == "web-2" && !is_in_a(&second.unwrap()), "the other zone is the way out");
    }

    #[test]
    fn suspicion_alone_leaves_nobody_without_a_way() {
        let suspected = catalog(3, |_, instance| instance.status = PeerStatus::Suspected);
        let all = catalog(3, |_, _| {});
        for session in 0..100 {
            assert_eq!(route(&suspected, session, None), route(&all, session, None));
        }
        let down = catalog(3, |_, instance| instance.status = PeerStatus::Down);
        assert_eq!(route(&down, 1, None), None);
        assert_eq!(route(&all, 1, None).map(|_| ()), Some(()));
        assert!(all.route("db", b"1", None).is_none());
    }

    #[test]
    fn the_same_everywhere_and_in_every_release() {
        let all = catalog(5, |node, instance| instance.service.weight = 1 + node as u8 * 60);
        let chosen: Vec<String> = (0..6).map(|session| route(&all, session, None).unwrap().0).collect();
        assert_eq!(chosen, ["web-3", "web-4", "web-4", "web-4", "web-2", "web-2"]);
        assert_eq!(mix(0), 0);
        assert_eq!(mix(GOLDEN), 0xE220_A839_7B1D_CDAF, "the first number of SplitMix64 from 0");
    }

    #[test]
    fn who_holds_the_newest_state() {
        let held = catalog(4, |node, instance| {
            instance.service.version = [7, 9, 0, 9][node as usize];
            instance.drains = node == 1;
            instance.status = if node == 3 { PeerStatus::Down } else { PeerStatus::Healthy };
        });
        let sources: Vec<&str> = held.sources("web").iter().map(|source| &*source.server_id).collect();
        assert_eq!(sources, ["web-1", "web-0"]);
    }
}
