//! Who this node is, and so which entries of a roster are its peers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lastseen::proto::{PeerConfig, StaticPeer};

use super::roster::{Entry, Myself};

/// The entries of a roster, each with what it resolved to.
pub(crate) type Resolved = Vec<(Entry, Option<SocketAddr>)>;

/// What the settings say of this node itself.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(super) server_id: Option<String>,
    pub(super) listen: SocketAddr,
    pub(super) advertise: Option<SocketAddr>,
    /// The id under which it runs: nothing changes that any more.
    pub(super) settled: Option<String>,
}

/// A roster as the core is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// This node's id.
    pub(crate) server_id: String,
    /// How all rosters name it.
    pub(crate) own_name: Arc<str>,
    /// All others.
    pub(crate) peers: Vec<StaticPeer>,
}

impl Told {
    /// What a configuration tells.
    pub(crate) fn by(config: &PeerConfig) -> Told {
        Told {
            server_id: config.server_id.to_string(),
            own_name: Arc::clone(&config.own_name),
            peers: config.static_peers.to_vec(),
        }
    }
}

impl Identity {
    /// The id is that from now on.
    pub(crate) fn settle(&mut self, server_id: &str) {
        self.settled = Some(server_id.to_owned());
    }

    /// Of a node with this id.
    #[cfg(test)]
    pub(crate) fn for_tests(server_id: &str, listen: SocketAddr) -> Identity {
        Identity { server_id: Some(server_id.to_owned()), listen, advertise: None, settled: None }
    }

    /// Where this node listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The peers among `roster`.
    ///
    /// # Errors
    /// The roster contradicts the id that was set, or the one under which this node runs.
    pub(crate) fn split(&self, roster: &Resolved) -> Result<Told, String> {
        let interfaces = interfaces();
        let host_name = self.settled.clone().unwrap_or_else(host_name);
        let myself = Myself {
            server_id: self.server_id.as_deref(),
            listen: self.listen,
            advertise: self.advertise,
            interfaces: &interfaces,
            host_name: &host_name,
        };
        let (server_id, is_own) = myself.find(roster)?;
        if let Some(settled) = self.settled.as_ref().filter(|settled| **settled != server_id) {
            return Err(format!(
                "the roster calls an address of this machine \"{server_id}\", but this node runs as \"{settled}\"; it \
                 becomes another one only by a restart"
            ));
        }
        let own = roster.iter().zip(&is_own).find(|(_, own)| **own);
        let own_name = match own {
            // Its own entry, as all rosters have it.
            Some(((entry @ Entry { server_id: None, .. }, _), _)) => entry.name().into(),
            _ => server_id.as_str().into(),
        };
        let peers =
            roster.iter().zip(&is_own).filter(|(_, own)| !**own).map(|((entry, address), _)| StaticPeer {
                server_id: entry.server_id.as_deref().map(Into::into),
                name: entry.name().into(),
                address: *address,
            });
        Ok(Told { server_id, own_name, peers: peers.collect() })
    }
}

/// The addresses of this machine's interfaces.
fn interfaces() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let ip = |a: nix::sys::socket::SockaddrStorage| {
        let v4 = a.as_sockaddr_in().map(|s| IpAddr::V4(s.ip()));
        v4.or_else(|| a.as_sockaddr_in6().map(|s| IpAddr::V6(s.ip())))
    };
    all.filter_map(|i| i.address).filter_map(ip).collect()
}

fn host_name() -> String {
    let full = nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default();
    full.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(entries: &[&str]) -> Resolved {
        entries.iter().map(|t| Entry::parse(t).unwrap()).map(|e| (e.clone(), e.literal())).collect()
    }

    #[test]
    fn a_node_that_runs_keeps_its_id() {
        let listen = "127.0.0.1:7".parse().unwrap();
        let mut identity = Identity { server_id: None, listen, advertise: None, settled: None };
        let first = identity.split(&roster(&["a@127.0.0.1:7", "b@127.0.0.1:8"])).unwrap();
        assert_eq!((first.server_id.as_str(), &*first.own_name, first.peers.len()), ("a", "a", 1));
        identity.settle("a");
        // Its entry is gone, or is there without an id: it goes on.
        let gone = identity.split(&roster(&["b@127.0.0.1:8"])).unwrap();
        assert_eq!((gone.server_id.as_str(), &*gone.own_name, gone.peers.len()), ("a", "a", 1));
        let bare = identity.split(&roster(&["127.0.0.1:7", "b@127.0.0.1:8"])).unwrap();
        assert_eq!((bare.server_id.as_str(), &*bare.own_name, bare.peers.len()), ("a", "127.0.0.1:7", 1));
        let why = identity.split(&roster(&["z@127.0.0.1:7", "b@127.0.0.1:8"])).unwrap_err();
        assert!(why.contains("\"z\"") && why.contains("runs as \"a\""), "{why}");
    }
}
