//! The whole picture at one moment, as plain data for readers outside of the loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::config::Observers;
use super::drain::Draining;
use super::event::SelfHealth;
use super::explain::Explanation;
use super::labels::Labels;
use super::peer::PeerStatus;
use super::picture::Says;
use super::records::{Life, Release, Standing};
use super::registry::ClusterStatus;
use super::seal::Instance;
use super::stats::Stats;
use super::timer::Time;
use super::verdict::Verdict;

/// How much a snapshot holds. Where there are thousands of nodes the whole costs tens of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The counts, and the peers that this node observes.
    Observed,
    /// The counts, and all peers.
    Peers,
    /// All peers, and what every node sees.
    Whole,
}

/// What a node can tell at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Time,
    /// When the node was started.
    pub started: Time,
    /// This node's id.
    pub server_id: Arc<str>,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// This run.
    pub instance: Instance,
    /// Whether a cluster key is configured.
    pub secure: bool,
    /// Whether datagrams that anybody can make, without a cluster key, are accepted.
    pub insecure: bool,
    /// The ids of its keys: frames are sent with the first, all are accepted.
    pub key_ids: Vec<u8>,
    /// How many nodes exchange heartbeats with one node, as it was set.
    pub observers: Observers,
    /// Counts of nodes, and the quorum.
    pub status: ClusterStatus,
    /// How this node judges itself.
    pub self_health: SelfHealth,
    /// Whether many peers were lost at once, and fewer than half of them are back.
    pub mass_loss: bool,
    /// This run's standing for the quorum guard of others, and what it lacks to be a witness.
    pub witness: WitnessView,
    /// This node's own drain, if it drains.
    pub draining: Option<Draining>,
    /// When the loop last woke later than planned, and by how much.
    pub last_stall: Option<(Time, Duration)>,
    /// Of all peers, how many have each verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [usize; Verdict::ALL.len()],
    /// How many peers are the reason why the cluster is degraded.
    pub degraded_peers: usize,
    /// How many peers have no address yet.
    pub unresolved_peers: usize,
    /// Who speaks under the cluster's key and is not in the roster: at most 8, heard within ten minutes.
    pub strangers: Vec<StrangerView>,
    /// The age of the oldest row that can be believed.
    pub oldest_row: Option<Duration>,
    /// The peers of the scope, sorted by name.
    pub peers: Vec<PeerView>,
    /// What every node sees, this one too, sorted by name; none below [`Scope::Whole`].
    pub rows: Vec<RowView>,
    /// Hash of the roster's ids and this node's own; 48 bits, equal on all nodes of one roster.
    pub roster_hash: u64,
    /// Hash of the settings that must agree in a cluster; 48 bits.
    pub config_hash: u64,
    /// The core's counters.
    pub stats: Stats,
}

/// What a run counts for in the quorum guard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WitnessView {
    /// What it reports of itself.
    pub standing: Standing,
    /// What it lacks to be a witness; `None`: it is one.
    pub missing: Option<Missing>,
    /// Former rosters of which too few members have agreed to the present one. The oldest is first.
    pub former: Vec<FormerView>,
}

/// What a run lacks to be a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The shell keeps no state of rosters (`state_dir`).
    State,
    /// This node observes too few of the others, or the roster is too long: `observers = "all"`, at most 1,024 nodes.
    Observers,
    /// The present roster is not on disk yet.
    Save,
    /// More members of a former roster must report the present one, and be ready (see [`Standing::Ready`]).
    Agreement,
    /// The settings changed: it waits until then.
    Wait(Time),
    /// Every member must report this roster, with its state on disk; or more than half must be witnesses of it, which is not enough
    /// for a node that left for good and is back.
    Witnesses,
}

/// A former roster, and how far its members have agreed to the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FormerView {
    /// How many members it has. Those that left for good are not counted.
    pub members: usize,
    /// How many must agree.
    pub needed: usize,
    /// How many agree.
    pub agreed: usize,
    /// Members that have not agreed, at most 16.
    pub not_agreed: Vec<Arc<str>>,
}

/// A node that speaks under the cluster's key and is not in the roster. It is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrangerView {
    /// Its id, by its own word; `None` as long as it has sent no hello.
    pub server_id: Option<Arc<str>>,
    /// Where its newest frame came from.
    pub address: SocketAddr,
    /// When that came.
    pub heard: Time,
}

/// What one node says that it sees.
#[derive(Clone, Debug)]
pub struct RowView {
    /// Whose row it is.
    pub server_id: Arc<str>,
    /// How old its news are at most; `None`: there is no row that can be believed.
    pub age: Option<Duration>,
    /// Where there is none, but there was one: how long ago it was last known to be true. What it says is in `sees`.
    pub stale: Option<Duration>,
    /// Whom it observes, as indices of the snapshot's rows; `None`: all others.
    pub watches: Option<Vec<u32>>,
    /// What is not plainly fine there; whom it observes and does not name is fine, unless the row was cut.
    pub sees: Vec<EdgeView>,
    /// It was too long for a datagram: of whom it does not name nothing is known.
    pub cut: bool,
}

/// How one node sees another one.
#[derive(Clone, Debug)]
pub struct EdgeView {
    /// Whom it sees so.
    pub peer: Arc<str>,
    /// Whether that lives.
    pub life: Life,
    /// The link between them, from its end.
    pub link: Edge,
}

/// A link, from one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It works both ways.
    Up,
    /// Nothing passes.
    Down,
    /// The other end hears this one, and is not heard.
    RxLost,
    /// The other end does not hear this one, and is heard.
    TxLost,
    /// It loses datagrams.
    Lossy,
}

impl Edge {
    /// The name in JSON: `up`, `down`, `rx_lost`, `tx_lost`, `lossy`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Edge::Up => "up",
            Edge::Down => "down",
            Edge::RxLost => "rx_lost",
            Edge::TxLost => "tx_lost",
            Edge::Lossy => "lossy",
        }
    }
}

/// One peer, as seen here.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Its id; the roster's `HOST:PORT` until that is known.
    pub server_id: Arc<str>,
    /// Whether this node exchanges heartbeats with it; of others it knows what their observers say, and bytes, misses and
    /// the link are not measured.
    pub observed: bool,
    /// Where pings go; `None` while its name does not resolve.
    pub address: Option<SocketAddr>,
    /// What this node believes.
    pub status: PeerStatus,
    /// Status plus cause.
    pub verdict: Verdict,
    /// All verdicts that apply, in order.
    pub conditions: Vec<Verdict>,
    /// The sentence that explains the verdict.
    pub why: String,
    /// Since when this status and verdict hold.
    pub since: Time,
    /// The newest proof of life; `None`: never heard.
    pub last_seen: Option<Time>,
    /// Consecutive heartbeats missed.
    pub missed_heartbeats: u32,
    /// Bytes that came from it (authentic ones), UDP payload.
    pub bytes_received: u64,
    /// Bytes sent to it, UDP payload.
    pub bytes_sent: u64,
    /// What its observers say of it, this node among them.
    pub says: Says,
    /// The age of the oldest row of these that can be believed; `None`: there is none, or the
    /// scope is [`Scope::Observed`].
    pub oldest_row: Option<Duration>,
    /// Some of them, three at most, if this node is none of them: those first whose rows can be believed.
    pub observers: Vec<Arc<str>>,
    /// Whether it counts for the quorum: Healthy, with a current echo.
    pub proven: bool,
    /// The path between it and this node.
    pub link: LinkView,
    /// Its present run; `None` while none is confirmed.
    pub instance: Option<Instance>,
    /// The release that it runs, and the newest version of the wire that it speaks; `None`: it has not said.
    pub release: Option<(Release, u8)>,
    /// What its operator says of it; `None`: it has not said.
    pub labels: Option<Labels>,
    /// Its drain, if it drains.
    pub draining: Option<Draining>,
    /// The id of the key of its newest datagram.
    pub key_id: Option<u8>,
    /// New instances seen.
    pub restarts: u64,
    /// Downs that were wrong or a cut.
    pub false_downs: u64,
    /// Changes of its status, by the new one.
    pub transitions: [u64; 3],
    /// What the verdict rests on.
    pub explanation: Explanation,
}

/// The link to a peer: its entry of the connection pool.
#[derive(Clone, Debug)]
pub struct LinkView {
    /// False while the link is known to be cut.
    pub is_active: bool,
    /// Heartbeats in a row without an echo.
    pub attempt_count: u32,
    /// Smoothed round-trip time; `None`: not measured yet.
    pub rtt: Option<Duration>,
    /// The shares, 0 to 1, that are lost of what comes and of what goes, of the last 64 datagrams each way; `None`: not
    /// measured yet.
    pub loss: Option<(f64, f64)>,
}
