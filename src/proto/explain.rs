//! What an answer about a peer rests on, as numbers: for who asks why, and beside every event.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::drain::Draining;
use super::event::SelfHealth;
use super::messages::LeaveReason;
use super::peer::PeerStatus;
use super::picture::Says;
use super::stats::{ErrorSource, SendErrorKind};
use super::strip::Strip;
use super::timer::Time;

/// Everything that the verdict about a peer follows from, at one moment. Durations that are ages are times since then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// Whether this node exchanges heartbeats with the peer. If not, what only they tell is not measured: all but the votes, its
    /// address, its setup and how this node judges itself.
    pub observed: bool,
    /// What the verdict means, and where to look: a whole sentence.
    pub meaning: Cow<'static, str>,
    /// The rule by which the verdict holds, behind its name and a colon.
    pub rule: &'static str,
    /// Since when the status holds.
    pub status_since: Time,
    /// What was before: `Healthy` and for how long, or of a peer that is Healthy its last trouble, by its gravest status.
    pub before: Option<(PeerStatus, Duration)>,
    /// The newest proof of life; `None`: never heard.
    pub last_proof: Option<Proof>,
    /// What became of the newest heartbeats.
    pub heartbeats: Strip,
    /// The spacing of pings to it, if that is more than an interval.
    pub backing_off: Option<Duration>,
    /// Heartbeats missed in a row.
    pub missed: u32,
    /// So many make it Suspected.
    pub suspect_after: u32,
    /// So many make it Down.
    pub down_after: u32,
    /// Heartbeats in a row of which nothing was echoed.
    pub unechoed: u32,
    /// The shares, 0 to 1, lost of what comes and of what goes, of the last 64 datagrams each way.
    pub loss: Option<(f64, f64)>,
    /// Where pings go.
    pub address: Option<SocketAddr>,
    /// What other nodes were asked about it.
    pub relays: Asked,
    /// Errors that the network sent for its address within the last minute.
    pub errors: u32,
    /// The newest of these, and its age.
    pub last_error: Option<(SendErrorKind, ErrorSource, Duration)>,
    /// What its observers say of it, this node among them.
    pub says: Says,
    /// How this node judges itself.
    pub self_health: SelfHealth,
    /// Why it said that it leaves, and how long ago.
    pub left: Option<(LeaveReason, Duration)>,
    /// How long it slept, and how long ago it told so.
    pub paused: Option<(Duration, Duration)>,
    /// Its drain, if it drains.
    pub draining: Option<Draining>,
    /// Whether it is set up as this node is.
    pub setup: Setup,
}

impl Explanation {
    /// Errors are counted for so long.
    pub const ERRORS_WITHIN: Duration = Duration::from_secs(60);
}

/// How a peer last proved that it lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// In which way.
    pub kind: ProofKind,
    /// How long ago.
    pub age: Duration,
    /// Smoothed round-trip time of the link.
    pub rtt: Option<Duration>,
    /// Where the peer answers.
    pub address: Option<SocketAddr>,
    /// By way of whom, if not by itself.
    pub relay: Option<Arc<str>>,
}

/// The ways of proving life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofKind {
    /// It came from the peer, and echoed something that this node had sent shortly before.
    Echo,
    /// It came from the peer, which echoes nothing new.
    OneWay,
    /// Another node brought it.
    ByRelay,
}

impl ProofKind {
    /// The name in JSON: `echo`, `one_way`, `by_relay`.
    pub const fn as_str(self) -> &'static str {
        match self {
            ProofKind::Echo => "echo",
            ProofKind::OneWay => "one_way",
            ProofKind::ByRelay => "by_relay",
        }
    }
}

/// What other nodes were asked about a peer since it last answered by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Questions.
    pub asked: u32,
    /// Those by way of which the peer answered.
    pub answered: u32,
    /// Since the newest question.
    pub last: Option<Duration>,
    /// The nodes that were asked last, at most three, the newest last.
    pub whom: Vec<Arc<str>>,
}

/// Whether a peer is set up as this node is; `None`: it has not told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Setup {
    /// Of the same roster.
    pub roster: Option<bool>,
    /// With the settings that must agree.
    pub settings: Option<bool>,
    /// Its newest datagram was sealed with the key that this node seals with.
    pub key: Option<bool>,
    /// Of the same wire version.
    pub version: Option<bool>,
    /// Datagrams from its address under a key that this node lacks.
    pub foreign_keys: u64,
    /// Datagrams from its address in a wire version that this node lacks.
    pub foreign_versions: u64,
}
