//! What a node is told at its start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::labels::Labels;
use super::peer::Thresholds;
use super::server_id::ServerId;

/// One entry of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticPeer {
    /// The peer's id, 1 to 64 printable bytes; `None`: learned from the peer's own Welcome.
    pub server_id: Option<Arc<str>>,
    /// The entry's `HOST:PORT` as written; it names the peer until its id is known.
    pub name: Arc<str>,
    /// Where to reach it; `None`: not resolved yet (see [`Node::set_address`](super::Node::set_address)).
    pub address: Option<SocketAddr>,
}

impl StaticPeer {
    /// How the roster names it: its id, `HOST:PORT` where there is none.
    pub fn roster_name(&self) -> &Arc<str> {
        self.server_id.as_ref().unwrap_or(&self.name)
    }
}

/// How many nodes exchange heartbeats with one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Observers {
    /// All of them up to 64 peers, 16 at most above that.
    #[default]
    Auto,
    /// All of them.
    All,
    /// So many at most: an even number from 4 to 64.
    Number(u32),
}

/// A full mesh up to so many peers.
const MESH: usize = 64;
/// Rings above that: at most two observers each.
const RINGS: usize = 8;

impl Observers {
    /// On how many rings the nodes stand where each has so many peers; `None`: everybody watches everybody.
    pub(crate) fn rings(self, peers: usize) -> Option<usize> {
        match self {
            Observers::Auto if peers > MESH => Some(RINGS),
            Observers::Number(number) if (number as usize) < peers => Some(number as usize / 2),
            _ => None,
        }
    }

    /// How many observe one node at most, in a cluster where each has so many peers.
    pub fn most(self, peers: usize) -> usize {
        self.rings(peers).map_or(peers, |rings| (2 * rings).min(peers))
    }
}

impl std::str::FromStr for Observers {
    type Err = String;

    fn from_str(text: &str) -> Result<Observers, String> {
        let wrong = || format!("{text:?} is neither auto nor all nor an even number from 4 to 64");
        match text {
            "auto" => Ok(Observers::Auto),
            "all" => Ok(Observers::All),
            number => number.parse().map(Observers::Number).map_err(|_| wrong()),
        }
    }
}

impl std::fmt::Display for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Observers::Auto => f.write_str("auto"),
            Observers::All => f.write_str("all"),
            Observers::Number(number) => number.fmt(f),
        }
    }
}

/// What the longest datagram with a notice has beside the labels, if it announces no migration.
const BESIDE_LABELS: usize = 125;

/// The configuration of a node. All durations are positive.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// This node's own id, 1 to 64 printable bytes.
    pub server_id: Arc<str>,
    /// How the rosters of the others name this node: its id, or the `HOST:PORT` of its entry where that has no id. All
    /// must name it alike, since rosters are compared by these names.
    pub own_name: Arc<str>,
    /// The cluster's name, 1 to 64 printable bytes; part of every key.
    pub cluster: Arc<str>,
    /// Where this node listens; the core only reports it.
    pub listen_address: SocketAddr,
    /// All nodes, at most 65,535. An entry that is called `own_name` is this node itself, and no peer.
    pub static_peers: Arc<[StaticPeer]>,
    /// How many nodes exchange heartbeats with one node.
    pub observers: Observers,
    /// One heartbeat a pair every so often. Shorter detects faster and costs more. 10 ms to 1 h.
    pub heartbeat_interval: Duration,
    /// A heartbeat without evidence for so long is a miss. At least 5 ms, at most `heartbeat_interval`.
    pub heartbeat_timeout: Duration,
    /// Consecutive misses that make a peer Suspected; at least 1, less than `down_after`.
    pub suspect_after: u32,
    /// Consecutive misses that make a peer Down; 2 to 32.
    pub down_after: u32,
    /// The longest spacing between pings to a Down peer; 2 to 255 intervals.
    pub max_backoff: Duration,
    /// How long this node's shell may leave a datagram unread while it has much to do, so that many share a wake-up; at most,
    /// and where `None`, [`longest_laziness`](PeerConfig::longest_laziness).
    pub laziness: Option<Duration>,
    /// The longest datagram, UDP payload; 256 to 1200.
    pub max_datagram: usize,
    /// For so long after an announced restart a peer's verdict is `left`, then `down`.
    pub leave_grace: Duration,
    /// When more than this share of the peers (0 to 1), and at least three, are lost within `down_after` intervals, that
    /// is told as a mass loss. It changes no status.
    pub mass_loss: f64,
    /// What its operator says of this node; on the wire at least 125 bytes less than `max_datagram`.
    pub labels: Labels,
    /// All on, but in experiments.
    pub(crate) mechanisms: Mechanisms,
}

/// What can be switched off to show what it is worth. All on in production.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mechanisms {
    /// More than one try in a heartbeat, and a follower that pings by itself.
    pub(crate) retries: bool,
    /// Others are asked about a silent peer.
    pub(crate) relays: bool,
    /// What nodes say of themselves is told on.
    pub(crate) records: bool,
    /// Who gains the quorum guard, or takes something over, waits before.
    pub(crate) waits: bool,
    /// A run remembers rosters, and is no witness before their members agree.
    pub(crate) memory: bool,
    /// The holds that peers report are checked against this node's clock.
    pub(crate) clocks: bool,
}

impl PeerConfig {
    /// The defaults of the contract (1 s, 500 ms, 2, 5, 10 s, 1200 bytes, 10 min, 20 %), for the given identity.
    pub fn new(
        server_id: &str,
        cluster: &str,
        listen_address: SocketAddr,
        static_peers: Vec<StaticPeer>,
    ) -> Self {
        PeerConfig {
            server_id: server_id.into(),
            own_name: server_id.into(),
            cluster: cluster.into(),
            listen_address,
            static_peers: static_peers.into(),
            observers: Observers::Auto,
            heartbeat_interval: Duration::from_secs(1),
            heartbeat_timeout: Duration::from_millis(500),
            suspect_after: 2,
            down_after: 5,
            max_backoff: Duration::from_secs(10),
            laziness: None,
            max_datagram: 1200,
            leave_grace: Duration::from_secs(600),
            mass_loss: 0.2,
            labels: Labels::default(),
            mechanisms: Mechanisms {
                retries: true,
                relays: true,
                records: true,
                waits: true,
                memory: true,
                clocks: true,
            },
        }
    }

    /// Checks every field against its stated range, and the roster against itself.
    ///
    /// # Errors
    /// The first field that is wrong, and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |text: String| Err(ConfigError::Invalid(text));
        let (interval, timeout) = (self.heartbeat_interval, self.heartbeat_timeout);
        for (field, text) in [("server_id", &self.server_id), ("cluster", &self.cluster)] {
            if let Err(why) = ServerId::check(text) {
                return wrong(format!("{field} {text:?}: {why}"));
            }
        }
        if interval < Duration::from_millis(10) || interval > Duration::from_secs(3600) {
            return wrong(format!("heartbeat_interval is {interval:?}; it must be 10 ms to 1 h"));
        }
        if timeout < Duration::from_millis(5) || timeout > interval {
            return wrong(format!(
                "heartbeat_timeout is {timeout:?}; it must be at least 5 ms and at most heartbeat_interval ({interval:?})"
            ));
        }
        if !(2..=32).contains(&self.down_after) {
            return wrong(format!("down_after is {}; it must be 2 to 32", self.down_after));
        }
        if self.suspect_after == 0 || self.suspect_after >= self.down_after {
            return wrong(format!(
                "suspect_after is {}; it must be at least 1 and less than down_after ({})",
                self.suspect_after, self.down_after
            ));
        }
        if self.max_backoff < interval * 2 || self.max_backoff > interval * 255 {
            return wrong(format!(
                "max_backoff is {:?}; it must be 2 to 255 heartbeat intervals ({interval:?})",
                self.max_backoff
            ));
        }
        let longest = PeerConfig::longest_laziness(timeout);
        if self.laziness.is_some_and(|rest| rest > longest) {
            return wrong(format!(
                "laziness is {:?}; it must be at most a tenth of heartbeat_timeout and 50 ms ({longest:?})",
                self.laziness(),
            ));
        }
        if !(256..=1200).contains(&self.max_datagram) {
            return wrong(format!("max_datagram is {}; it must be 256 to 1200", self.max_datagram));
        }
        if self.labels.encoded_len() + BESIDE_LABELS > self.max_datagram {
            return wrong(format!(
                "labels have {} bytes; with a max_datagram of {} at most {} pass",
                self.labels.encoded_len(),
                self.max_datagram,
                self.max_datagram - BESIDE_LABELS
            ));
        }
        if let Observers::Number(number) = self.observers
            && (!(4..=64).contains(&number) || number % 2 == 1)
        {
            return wrong(format!(
                "observers is {number}; it must be auto, all, or an even number from 4 to 64"
            ));
        }
        if !(self.mass_loss > 0.0 && self.mass_loss <= 1.0) {
            return wrong(format!("mass_loss is {}; it must be more than 0 and at most 1", self.mass_loss));
        }
        self.validate_roster()
    }

    fn validate_roster(&self) -> Result<(), ConfigError> {
        let wrong = |text: String| Err(ConfigError::Invalid(text));
        let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
        let mut addresses: BTreeMap<SocketAddr, &str> = BTreeMap::new();
        if self.static_peers.len() > usize::from(u16::MAX) {
            return wrong(format!(
                "static_peers has {} entries; at most 65535 are kept",
                self.static_peers.len()
            ));
        }
        for peer in self.static_peers.iter() {
            if let Some(id) = &peer.server_id {
                if let Err(why) = ServerId::check(id) {
                    return wrong(format!("static_peers: the id {id:?} of {}: {why}", peer.name));
                }
                if *id == self.server_id && *id != self.own_name {
                    return wrong(format!(
                        "static_peers: {id} at {} is this node's own id, but this node is the entry {}",
                        peer.name, self.own_name
                    ));
                }
                if let Some(other) = ids.insert(id, &peer.name) {
                    return wrong(format!(
                        "static_peers: two entries have the id {id}, {other} and {}; ids must differ",
                        peer.name
                    ));
                }
            }
            if let Some(other) = peer.address.and_then(|a| addresses.insert(a, &peer.name)) {
                return wrong(format!(
                    "static_peers: {other} and {} are one address, {}; name each node once",
                    peer.name,
                    peer.address.expect("it was just inserted")
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn thresholds(&self) -> Thresholds {
        Thresholds { suspect_after: self.suspect_after, down_after: self.down_after }
    }

    /// How old a two-way proof may be: `suspect_after` intervals and one timeout. Who is cut off has lost the quorum guard after so
    /// long.
    pub fn proof_horizon(&self) -> Duration {
        self.heartbeat_interval.saturating_mul(self.suspect_after).saturating_add(self.heartbeat_timeout)
    }

    /// For how long a majority must have been proven without a gap before it is the quorum guard's, and for how long nothing may
    /// have come of a peer whose work is taken over: an interval more than a proof is old at most, and the drift of two clocks
    /// between which a five-hundredth comes off (two that are slewed by 500 ppm, and off by 200 ppm by themselves, differ by
    /// 1,400).
    pub fn guard_wait(&self) -> Duration {
        if !self.mechanisms.waits {
            return Duration::ZERO;
        }
        let wait = self.proof_horizon().saturating_add(self.heartbeat_interval);
        wait.saturating_add(wait / 500)
    }

    /// How long the shell of this node may leave a datagram unread while it runs: to wake up is what a heartbeat costs most, so a
    /// busy loop looks no more often than this.
    pub fn laziness(&self) -> Duration {
        self.laziness.unwrap_or_else(|| PeerConfig::longest_laziness(self.heartbeat_timeout))
    }

    /// The longest that any shell may leave a datagram unread while it runs: a tenth of `heartbeat_timeout`, at most 50 ms, since
    /// a loop that wakes 100 ms late counts as stalled. The retry time allows for it on a peer's side, so it follows from a
    /// setting that all nodes share.
    pub fn longest_laziness(heartbeat_timeout: Duration) -> Duration {
        (heartbeat_timeout / 10).min(Duration::from_millis(50))
    }

    /// `max_backoff` in whole intervals.
    pub(crate) fn max_spacing(&self) -> u8 {
        let intervals = self.max_backoff.as_micros() / self.heartbeat_interval.as_micros().max(1);
        u8::try_from(intervals).unwrap_or(u8::MAX).max(2)
    }
}

/// What is wrong with a configuration. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field is out of its range; the text names it and what would be right.
    #[error("{0}")]
    Invalid(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PeerConfig {
        let peer = |id: &str, port: u16| StaticPeer {
            server_id: Some(id.into()),
            name: format!("127.0.0.1:{port}").into(),
            address: Some(([127, 0, 0, 1], port).into()),
        };
        PeerConfig::new("me", "test", ([127, 0, 0, 1], 1).into(), vec![peer("a", 2), peer("b", 3)])
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(config().validate(), Ok(()));
        assert_eq!(config().max_spacing(), 10);
        assert_eq!(config().proof_horizon(), Duration::from_millis(2500));
        assert_eq!(config().laziness(), Duration::from_millis(50));
    }

    #[test]
    fn every_wrong_field_is_named() {
        type Change = fn(&mut PeerConfig);
        fn peers(config: &mut PeerConfig) -> &mut [StaticPeer] {
            Arc::make_mut(&mut config.static_peers)
        }
        let cases: [(&str, Change); 17] = [
            ("server_id", |c| c.server_id = "".into()),
            ("cluster", |c| c.cluster = "a\u{1b}[31m".into()),
            ("heartbeat_interval", |c| c.heartbeat_interval = Duration::ZERO),
            ("heartbeat_timeout", |c| c.heartbeat_timeout = Duration::from_secs(2)),
            ("down_after", |c| c.down_after = 33),
            ("suspect_after", |c| c.suspect_after = 5),
            ("max_backoff", |c| c.max_backoff = Duration::from_secs(1)),
            ("max_backoff", |c| c.max_backoff = Duration::MAX),
            ("laziness", |c| c.laziness = Some(Duration::from_millis(51))),
            ("max_datagram", |c| c.max_datagram = 9000),
            ("observers", |c| c.observers = Observers::Number(7)),
            ("observers", |c| c.observers = Observers::Number(2)),
            ("mass_loss", |c| c.mass_loss = 0.0),
            ("mass_loss", |c| c.mass_loss = f64::NAN),
            ("two entries have the id a", |c| peers(c)[1].server_id = Some("a".into())),
            ("this node's own id", |c| {
                c.own_name = "127.0.0.1:1".into();
                peers(c)[1].server_id = Some("me".into());
            }),
            ("one address", |c| peers(c)[1].address = c.static_peers[0].address),
        ];
        for (named, change) in cases {
            let mut config = config();
            change(&mut config);
            let ConfigError::Invalid(text) = config.validate().unwrap_err();
            assert!(text.contains(named), "{text:?} does not name {named:?}");
        }
    }
}
