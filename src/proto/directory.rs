//! The directory: who is in the roster, this node included, and how to find them.
//!
//! It is the same for all nodes of one roster under one keyring: a node's place in it is its index in every table of the whole
//! cluster. Other keys, and another roster, make another one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::{ConfigError, PeerConfig};
use super::records::NodeName;
use super::seal::{Keyring, Tag};
use super::topology::Topology;

/// All nodes of a roster, by name.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    names: Arc<[NodeName]>,
    /// How the roster names each.
    ids: Vec<Arc<str>>,
    /// For each the index of its entry; `None`: this node, that has none.
    entries: Vec<Option<u32>>,
    /// For each key the tags of those whose ids the roster knows, sorted, and their places.
    tags: Vec<Vec<(Tag, u32)>>,
    topology: Topology,
    /// Over the sorted ids; 48 bits.
    hash: u64,
}

impl Directory {
    /// The directory of `config`'s roster.
    ///
    /// # Errors
    /// Two nodes that have one name, or one tag under a key; both are named.
    pub(crate) fn new(config: &PeerConfig, keys: &Keyring) -> Result<Directory, ConfigError> {
        let mut all: Vec<(NodeName, Arc<str>, Option<u32>)> =
            Vec::with_capacity(config.static_peers.len() + 1);
        for (entry, peer) in config.static_peers.iter().enumerate() {
            let id = peer.roster_name();
            all.push((NodeName::of(id), id.clone(), Some(entry as u32)));
        }
        if !config.static_peers.iter().any(|peer| *peer.roster_name() == config.own_name) {
            all.push((NodeName::of(&config.own_name), config.own_name.clone(), None));
        }
        all.sort_by_key(|node| node.0);
        if let Some(twice) = all.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(one_for_two("name in records", &twice[0].1, &twice[1].1));
        }
        let names: Arc<[NodeName]> = all.iter().map(|node| node.0).collect();
        let mut directory = Directory {
            topology: Topology::new(config.observers, &names),
            hash: hash(all.iter().map(|node| &node.1)),
            ids: all.iter().map(|node| node.1.clone()).collect(),
            entries: all.iter().map(|node| node.2).collect(),
            names,
            tags: Vec::new(),
        };
        directory.tags = directory.tags_under(config, keys)?;
        Ok(directory)
    }

    /// The same directory under other keys.
    ///
    /// # Errors
    /// Two nodes have one tag under a key; both are named.
    pub(crate) fn under(&self, config: &PeerConfig, keys: &Keyring) -> Result<Directory, ConfigError> {
        Ok(Directory { tags: self.tags_under(config, keys)?, ..self.clone() })
    }

    fn tags_under(&self, config: &PeerConfig, keys: &Keyring) -> Result<Vec<Vec<(Tag, u32)>>, ConfigError> {
        let mut tags = Vec::with_capacity(keys.len());
        for key in 0..keys.len() {
            let mut of: Vec<(Tag, u32)> = Vec::with_capacity(self.len());
            for (place, entry) in self.entries.iter().enumerate() {
                let known = match entry {
                    Some(entry) => config.static_peers[*entry as usize].server_id.as_ref(),
                    None => Some(&config.server_id),
                };
                of.extend(known.map(|id| (keys.tag(key, id), place as u32)));
            }
            of.sort_unstable();
            if let Some(twice) = of.windows(2).find(|w| w[0].0 == w[1].0) {
                let id = |at: usize| &self.ids[twice[at].1 as usize];
                return Err(one_for_two("tag under this key", id(0), id(1)));
            }
            tags.push(of);
        }
        Ok(tags)
    }

    /// How many nodes there are, this one included.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The names, in order.
    pub(crate) fn names(&self) -> &Arc<[NodeName]> {
        &self.names
    }

    /// How the roster names the node at `place`.
    pub(crate) fn id(&self, place: usize) -> &Arc<str> {
        &self.ids[place]
    }

    /// The index of its entry in the roster; `None`: it is this node, that has none.
    pub(crate) fn entry(&self, place: usize) -> Option<usize> {
        self.entries[place].map(|entry| entry as usize)
    }

    /// The place of the node that the roster names so.
    pub(crate) fn place(&self, id: &str) -> Option<usize> {
        self.names.binary_search(&NodeName::of(id)).ok().filter(|place| *self.ids[*place] == *id)
    }

    /// The place of the node with this tag under key `key`, if the roster knows its id.
    pub(crate) fn place_of_tag(&self, key: usize, tag: Tag) -> Option<usize> {
        let tags = self.tags.get(key)?;
        // Tags are hashes, and so evenly spread: the place of one among the sorted ones is nearly known beforehand.
        let high = u64::from_be_bytes(tag.0);
        let guess = ((u128::from(high) * tags.len() as u128) >> 64) as usize;
        let (mut low, mut step) = (guess, 1);
        while low > 0 && tags[low].0 > tag {
            low = low.saturating_sub(step);
            step *= 2;
        }
        let (mut end, mut step) = (guess + 1, 1);
        while end < tags.len() && tags[end].0 <= tag {
            end = (end + step).min(tags.len());
            step *= 2;
        }
        let near = &tags[low..end.min(tags.len())];
        near.binary_search_by_key(&tag, |of| of.0).ok().map(|at| near[at].1 as usize)
    }

    /// Whom the node at `me` observes, in the order of the roster: their entries, and their places.
    pub(crate) fn observed_by(&self, me: usize) -> (Vec<usize>, Vec<usize>) {
        let entry = |place| self.entry(place).map(|entry| (entry, place));
        let mut both: Vec<(usize, usize)> = self.topology.neighbours(me).filter_map(entry).collect();
        both.sort_unstable();
        both.into_iter().unzip()
    }

    /// Who watches whom.
    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Over the sorted ids of all nodes; 48 bits.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

fn one_for_two(what: &str, one: &str, other: &str) -> ConfigError {
    ConfigError::Invalid(format!("static_peers: {one} and {other} have one {what}; rename one of them"))
}

/// Over the sorted ids.
fn hash<'a>(ids: impl Iterator<Item = &'a Arc<str>>) -> u64 {
    let sorted: BTreeMap<&Arc<str>, ()> = ids.map(|id| (id, ())).collect();
    hash48(sorted.keys().map(|id| id.as_bytes()))
}

/// The newest 48 bits of a hash over length-prefixed parts.
pub(crate) fn hash48<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(&hasher.finalize().as_bytes()[..6]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{SecretKey, StaticPeer};

    #[test]
    fn every_tag_is_found_and_no_other() {
        let ring = Keyring::new("c", &[SecretKey::new([3; 32])], true).unwrap();
        let id = |n: usize| format!("n{n}");
        for nodes in [1, 2, 3, 64, 1000] {
            let entry = |n| StaticPeer { server_id: Some(id(n).into()), name: id(n).into(), address: None };
            let peers = (1..nodes).map(entry).collect();
            let config = PeerConfig::new(&id(0), "c", ([127, 0, 0, 1], 1).into(), peers);
            let directory = Directory::new(&config, &ring).unwrap();
            for key in 0..ring.len() {
                let found = |n: usize| directory.place_of_tag(key, ring.tag(key, &id(n)));
                let known =
                    (1..nodes).filter(|n| found(*n) == directory.place(&id(*n)) && found(*n).is_some());
                assert_eq!(known.count(), nodes - 1, "of {nodes}");
                assert!((nodes..nodes + 100).all(|n| found(n).is_none()), "of {nodes}");
                for edge in [[0; 8], [255; 8]] {
                    assert_eq!(directory.place_of_tag(key, Tag(edge)), None);
                }
            }
        }
    }
}
