//! Who watches whom.
//!
//! Up to 64 peers everybody watches everybody. Above that the nodes stand on rings, each a pseudo-random order of all of
//! them, and neighbours on a ring watch each other. So the cost of a node does not grow with the cluster, and a few hops
//! reach everyone: the union of a few random rings is an expander with high probability.

use super::config::Observers;
use super::records::NodeName;

/// Who watches whom; nodes are places of the [`Directory`](super::directory::Directory).
#[derive(Clone, Debug)]
pub(crate) enum Topology {
    /// Everybody watches everybody.
    Mesh(usize),
    /// The neighbours of all nodes, end to end, each node's sorted; and where those of each node begin, and the last end.
    Rings(Vec<u32>, Vec<u32>),
}

impl Topology {
    /// Over the nodes of these names, in their order: the same for all who know the same names.
    pub(crate) fn new(observers: Observers, names: &[NodeName]) -> Topology {
        let peers = names.len().saturating_sub(1);
        let Some(rings) = observers.rings(peers) else { return Topology::Mesh(names.len()) };
        let mut neighbours: Vec<Vec<u32>> = vec![Vec::with_capacity(2 * rings); names.len()];
        for ring in 0..rings {
            let order = order(ring as u8, names);
            for (at, node) in order.iter().enumerate() {
                let next = order[(at + 1) % order.len()];
                neighbours[*node as usize].push(next);
                neighbours[next as usize].push(*node);
            }
        }
        let (mut all, mut begins) = (Vec::new(), vec![0]);
        for mut of in neighbours {
            of.sort_unstable();
            of.dedup();
            all.extend(of);
            begins.push(all.len() as u32);
        }
        Topology::Rings(all, begins)
    }

    /// Whether everybody watches everybody.
    pub(crate) fn is_mesh(&self) -> bool {
        matches!(self, Topology::Mesh(_))
    }

    /// Who watches `place`, and is watched by it, in order.
    pub(crate) fn neighbours(&self, place: usize) -> impl Iterator<Item = usize> {
        let (mesh, ring): (usize, &[u32]) = match self {
            Topology::Mesh(nodes) => (*nodes, &[]),
            Topology::Rings(all, begins) => (0, &all[begins[place] as usize..begins[place + 1] as usize]),
        };
        (0..mesh).filter(move |other| *other != place).chain(ring.iter().map(|other| *other as usize))
    }

    /// How many watch `place`.
    pub(crate) fn degree(&self, place: usize) -> usize {
        match self {
            Topology::Mesh(nodes) => nodes - 1,
            Topology::Rings(_, begins) => (begins[place + 1] - begins[place]) as usize,
        }
    }

    /// Whether the two watch each other.
    pub(crate) fn are_neighbours(&self, one: usize, other: usize) -> bool {
        match self {
            Topology::Mesh(_) => one != other,
            Topology::Rings(all, begins) => {
                all[begins[one] as usize..begins[one + 1] as usize].binary_search(&(other as u32)).is_ok()
            }
        }
    }
}

/// One ring: sorted by BLAKE3 of its number and the name.
fn order(ring: u8, names: &[NodeName]) -> Vec<u32> {
    let hash = |name: &NodeName| {
        let [a, b, c, d, e] = name.0;
        let hash = blake3::hash(&[ring, a, b, c, d, e]);
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
    };
    let mut order: Vec<(u64, u32)> =
        names.iter().enumerate().map(|(place, name)| (hash(name), place as u32)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(nodes: usize) -> Vec<NodeName> {
        let mut names: Vec<NodeName> = (0..nodes).map(|n| NodeName::of(&format!("n{n}"))).collect();
        names.sort();
        names
    }

    #[test]
    fn ring_overlap() {
        for nodes in [66, 67, 70, 75, 81, 200, 1000] {
            let topology = Topology::new(Observers::Auto, &names(nodes));
            for place in 0..nodes {
                let watch: Vec<usize> = topology.neighbours(place).collect();
                assert!((8..=16).contains(&watch.len()), "{nodes} nodes: {} watch {place}", watch.len());
                assert_eq!(watch.len(), topology.degree(place));
                assert!(watch.iter().all(|other| topology.are_neighbours(*other, place) && *other != place));
            }
        }
    }

    #[test]
    fn everybody_up_to_64_peers_and_as_many_as_were_set() {
        let degree = |observers, nodes| Topology::new(observers, &names(nodes)).degree(0);
        assert_eq!(degree(Observers::Auto, 65), 64);
        assert!(degree(Observers::Auto, 66) <= 16);
        assert_eq!(degree(Observers::All, 1000), 999);
        assert_eq!(degree(Observers::Number(4), 4), 3);
        assert!((3..=4).contains(&degree(Observers::Number(4), 1000)));
    }

    #[test]
    fn a_few_hops_reach_everyone() {
        let topology = Topology::new(Observers::Auto, &names(10_000));
        let mut hops = vec![usize::MAX; 10_000];
        hops[0] = 0;
        let mut queue = std::collections::VecDeque::from([0]);
        while let Some(at) = queue.pop_front() {
            for next in topology.neighbours(at) {
                if hops[next] == usize::MAX {
                    hops[next] = hops[at] + 1;
                    queue.push_back(next);
                }
            }
        }
        assert!(hops.iter().all(|hops| *hops <= 5), "{:?}", hops.iter().max());
    }
}
