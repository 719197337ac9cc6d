//! Where the roster comes from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::listed::Listed;
use super::peer_file::PeerFile;

/// The source of what `static_peers` itself names.
pub(crate) const STATIC_PEERS: &str = "static_peers";

/// What the settings say of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RosterPlan {
    /// `static_peers`.
    pub(crate) listed: Vec<Listed>,
    /// `peer_files`.
    pub(crate) files: Vec<PeerFile>,
    /// What was found is looked up again so often.
    pub(crate) refresh: Duration,
    /// Who was not found for so long is no peer any more.
    pub(crate) forget_after: Duration,
    /// Who is asked; empty: the system's resolver.
    pub(crate) servers: Vec<SocketAddr>,
    /// Without a key no peer may be on another machine.
    pub(crate) only_loopback: bool,
}

impl RosterPlan {
    /// What failed look-ups are counted under: all names of `static_peers` together, each name of many nodes, each of `peer_files`.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Arc<str>> {
        let is_name = |item: &Listed| item.entry().is_some_and(|entry| entry.literal().is_none());
        let names = self.listed.iter().any(is_name).then(|| STATIC_PEERS.into());
        let many =
            self.listed.iter().filter(|item| item.entry().is_none()).map(|item| item.to_string().into());
        let files = self.files.iter().map(|file| file.path.display().to_string().into());
        names.into_iter().chain(many).chain(files)
    }

    /// Whether nodes may be found that no entry names.
    pub(crate) fn is_open(&self) -> bool {
        !self.files.is_empty() || self.listed.iter().any(|item| item.entry().is_none())
    }
}
