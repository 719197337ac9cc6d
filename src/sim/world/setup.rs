//! How a world is made, and what its nodes share.

use std::sync::Arc;
use std::time::Duration;

use super::{address, name};
use crate::proto::directory::Directory;
use crate::proto::{Keyring, Observers, PeerConfig, SecretKey, StaticPeer};
use crate::sim::link::Rule;

/// How a world is made.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes.
    pub nodes: usize,
    /// How many peers each has in its roster, its neighbours on a circle, an even number; `None`: all others.
    pub peers: Option<usize>,
    /// The settings of every node; identity and roster are filled in.
    pub config: PeerConfig,
    /// What all links do, always.
    pub links: Vec<Rule>,
    /// Seal with a checksum instead of AES: for large worlds.
    pub cheap_seal: bool,
    /// Every loop rests after each turn as long as it may (see [`PeerConfig::laziness`]).
    pub lazy: bool,
    /// The nodes start within so long.
    pub start_within: Duration,
    /// The rosters have no ids.
    pub nameless: bool,
    /// Clocks are fast or slow by up to so many parts in a million, each node its own.
    pub drift: u32,
}

impl Setup {
    /// So many nodes that know each other, with the default settings, 200 µs to 1 ms apart, that start at once.
    pub fn new(nodes: usize) -> Setup {
        Setup {
            nodes,
            peers: None,
            config: PeerConfig::new("", "sim", ([0, 0, 0, 0], 5278).into(), Vec::new()),
            links: vec![Rule::Delay { base: Duration::from_micros(200), jitter: Duration::from_micros(800) }],
            cheap_seal: false,
            lazy: false,
            start_within: Duration::ZERO,
            nameless: false,
            drift: 0,
        }
    }

    /// The same, and everybody watches everybody however many they are.
    pub fn mesh(nodes: usize) -> Setup {
        let mut setup = Setup::new(nodes);
        setup.config.observers = Observers::All;
        setup
    }

    /// The roster of a node, as indices, where not all have all.
    pub(super) fn roster(&self, node: u32) -> Vec<u32> {
        let nodes = self.nodes as u32;
        match self.peers {
            Some(peers) if peers + 1 < self.nodes => {
                let half = peers as u32 / 2;
                let mut roster: Vec<u32> =
                    (1..=half).flat_map(|d| [(node + d) % nodes, (node + nodes - d) % nodes]).collect();
                roster.sort_unstable();
                roster
            }
            _ => (0..nodes).filter(|peer| *peer != node).collect(),
        }
    }
}

/// What all nodes of one roster share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: Arc<Directory>,
    pub(super) roster: Arc<[StaticPeer]>,
    /// The nodes of its entries, in order.
    pub(super) members: Vec<u32>,
}

impl Shared {
    pub(super) fn new(setup: &Setup, absent: &[u32]) -> Shared {
        let members: Vec<u32> = (0..setup.nodes as u32).filter(|node| !absent.contains(node)).collect();
        let roster: Arc<[StaticPeer]> = members.iter().map(|node| entry(setup, *node)).collect();
        let config = PeerConfig {
            own_name: roster[0].roster_name().clone(),
            server_id: roster[0].roster_name().clone(),
            static_peers: roster.clone(),
            ..setup.config.clone()
        };
        config.validate().expect("the settings of a world are valid");
        let directory = Directory::new(&config, &keys(setup)).expect("no two nodes have one name");
        Shared { directory: Arc::new(directory), roster, members }
    }

    pub(super) fn place(&self, node: u32) -> Option<usize> {
        self.directory.place(&name(node))
    }

    pub(super) fn node_at(&self, place: usize) -> Option<u32> {
        self.directory.entry(place).map(|entry| self.members[entry])
    }

    pub(super) fn observed_by(&self, node: u32) -> Vec<u32> {
        let Some(place) = self.place(node) else { return Vec::new() };
        let (entries, _) = self.directory.observed_by(place);
        entries.into_iter().map(|entry| self.members[entry]).collect()
    }
}

pub(super) fn entry(setup: &Setup, node: u32) -> StaticPeer {
    let server_id = (!setup.nameless).then(|| name(node).into());
    StaticPeer { server_id, name: name(node).into(), address: Some(address(node)) }
}

pub(super) fn keys(setup: &Setup) -> Keyring {
    let mut keys =
        Keyring::new(&setup.config.cluster, &[SecretKey::new([7; 32])], false).expect("one key is a keyring");
    if setup.cheap_seal {
        keys.seal_cheaply();
    }
    keys
}
