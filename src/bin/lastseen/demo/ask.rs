//! What the demo asks its nodes, over HTTP as anybody would.

use std::time::Duration;

use lastseen::proto::PeerStatus;
use serde_json::Value;

use crate::client;

/// How long an answer may take: a stopped node gives none.
const PATIENCE: Duration = Duration::from_millis(800);

/// What a node says about one peer.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) status: PeerStatus,
    pub(super) verdict: String,
    pub(super) why: String,
}

/// Asks one node.
pub(super) struct Ask {
    url: String,
}

impl Ask {
    pub(super) fn new(url: String) -> Ask {
        Ask { url }
    }

    /// What it says about all of its peers: id and statement. `None`: no answer, or none that can be read.
    pub(super) fn peers(&self) -> Option<Vec<(String, Said)>> {
        let answer = client::get(&self.url, "/api/v1/peers", PATIENCE).ok()?;
        answer["peers"].as_array()?.iter().map(read_peer).collect()
    }

    /// How often each peer became Suspected or Down there, since that process started.
    pub(super) fn accusations(&self) -> Option<Vec<(String, f64)>> {
        let (_, text) = client::text(&self.url, "/metrics", PATIENCE).ok()?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("lastseen_peer_transitions_total{"));
        lines.filter(|line| !line.contains("to=\"healthy\"")).map(read_count).collect()
    }
}

fn read_peer(peer: &Value) -> Option<(String, Said)> {
    let text = |key: &str| peer[key].as_str().map(str::to_owned);
    let status = peer["status"].as_str()?;
    let status = PeerStatus::ALL.into_iter().find(|s| s.as_str() == status)?;
    let said = Said { status, verdict: text("verdict")?, why: text("why").unwrap_or_default() };
    Some((text("server_id")?, said))
}

/// `peer="a",to="down"} 3` gives `a` and 3.
fn read_count(line: &str) -> Option<(String, f64)> {
    let (_, rest) = line.split_once("peer=\"")?;
    let (peer, _) = rest.split_once('"')?;
    let (_, value) = line.rsplit_once(' ')?;
    Some((peer.to_owned(), value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(read_count("peer=\"node-2\",to=\"down\"} 3"), Some(("node-2".to_owned(), 3.0)));
        assert_eq!(read_count("to=\"down\",peer=\"a b\"} 0"), Some(("a b".to_owned(), 0.0)));
        assert_eq!(read_count("to=\"down\"} 0"), None);
    }
}
