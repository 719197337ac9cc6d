//! The peers and the counts over them.

/// Counts of the cluster's nodes, this one included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Nodes in the roster, with this one.
    pub total_peers: usize,
    /// Nodes that are Healthy, with this one.
    pub healthy_peers: usize,
    /// Healthy nodes with a current two-way proof, with this one.
    pub proven_peers: usize,
    /// Nodes that are Suspected.
    pub suspected_peers: usize,
    /// Nodes that are Down.
    pub down_peers: usize,
    /// Some node is Suspected or Down, and its verdict is not `left` or `unknown`.
    pub is_degraded: bool,
}

impl ClusterStatus {
    /// More than half of all nodes are proven.
    pub fn is_quorum_available(&self) -> bool {
        self.proven_peers >= self.quorum_needed()
    }

    /// The number of proven nodes that makes a quorum.
    pub fn quorum_needed(&self) -> usize {
        self.total_peers / 2 + 1
    }
}

/// All peers of this node.
#[derive(Debug)]
pub struct PeerRegistry {}
