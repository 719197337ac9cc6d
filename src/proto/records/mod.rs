//! Records: what each node says of itself, carried by all.
//!
//! Every node owns up to four, a row and a profile, and a notice and an offer where it has something to say in them, and nobody
//! else may speak for it. Of two records of one owner the newer
//! version wins, whatever the run; an owner that meets a version of its own that it did not publish goes above it. So
//! the table that every node holds converges, in any order of arrival, and twice is once. Versions go round a circle:
//! there is no highest one that a forger could take, and what was said in a node's name is gone once the node meets it.
//!
//! A record is owed to its owner's neighbours, and by those to theirs, until a datagram that carried it is echoed, or its digest
//! is equal. A quiet cluster owes nothing.

mod digest;
mod owed;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use self::digest::EVERY;
pub(crate) use self::table::{Met, Records};
use super::drain::Drain;
use super::labels::Labels;
use super::leave::Leave;
use super::migration::Migrations;
use super::seal::Instance;
use super::server_id::ServerId;
use super::service::Services;

/// No record is shorter.
const LEAST: usize = 8;
/// Bytes of a name.
const NAME: usize = 5;
/// Bytes of one entry of a row.
pub(crate) const ENTRY: usize = NAME + 2;

/// A node in a record: the first 40 bits of BLAKE3 of its id, or of its `HOST:PORT` where the roster has no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeName(pub [u8; 5]);

impl NodeName {
    /// The name of the node with this id.
    pub fn of(id: &str) -> NodeName {
        let mut name = [0; 5];
        name.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..5]);
        NodeName(name)
    }
}

/// What a row says of a peer's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Life {
    /// Its owner hears it.
    #[default]
    Healthy,
    /// See [`PeerStatus`](super::PeerStatus).
    Suspected,
    /// See [`PeerStatus`](super::PeerStatus).
    Down,
    /// It said that it leaves; Down.
    Left,
    /// This run of the owner has not heard it yet: no vote.
    Unknown,
}

impl Life {
    /// The status in JSON: `healthy`, `suspected`, `down`; `unknown`: not heard yet.
    pub const fn as_str(self) -> &'static str {
        match self {
            Life::Healthy => "healthy",
            Life::Suspected => "suspected",
            Life::Down | Life::Left => "down",
            Life::Unknown => "unknown",
        }
    }
}

/// What a row says of the link to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LinkState {
    /// It works both ways.
    #[default]
    Up,
    /// It works, and loses datagrams.
    Lossy,
    /// Not known to be cut, but the last heartbeats had no echo: the peer may live by the word of others alone.
    Silent,
    /// The owner hears the peer; the peer does not echo what the owner sends.
    TxLost,
    /// The owner does not hear the peer.
    Down,
}

impl LinkState {
    /// Whether what the owner sends comes to the peer.
    fn is_told(self) -> bool {
        matches!(self, LinkState::Up | LinkState::Lossy)
    }

    /// Whether what the peer sends comes to the owner.
    fn is_heard(self) -> bool {
        !matches!(self, LinkState::Silent | LinkState::Down)
    }
}

/// What a node sees of a peer that is not plainly fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Whom.
    pub peer: NodeName,
    /// Whether it lives.
    pub life: Life,
    /// The link to it.
    pub link: LinkState,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its run.
    #[serde(with = "eight_bytes")]
    pub instance: Instance,
    /// 32 bits of the hash of its roster.
    pub roster: [u8; 4],
    /// Of the settings that must agree.
    pub config: [u8; 4],
    /// Which release it is of.
    pub release: Release,
    /// The newest version of the wire that it speaks.
    pub wire: u8,
    /// Its id, where the rosters have none: who does not observe it has no other way to learn it.
    pub id: Option<ServerId>,
    /// Why its absence is no alarm, if there is a reason: most nodes have none.
    pub away: Option<Box<Away>>,
    /// What it counts for in the quorum guard of others.
    pub standing: Standing,
}

/// What a run counts for in the quorum guard of others. The order of the variants is the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Standing {
    /// Its roster is not on disk, so a restart could forget it.
    #[default]
    Unsaved,
    /// Too few members of a former roster report the present one.
    Bound,
    /// No former roster is left, and it is no witness yet.
    Free,
    /// Its echoes count.
    Witness,
    /// Of each former roster enough members report the present one, but too few of them are ready themselves.
    Ready,
    /// It left for good and is back, with former rosters. It agrees to nothing before these have agreed without it, or more than half
    /// of the members are witnesses of its roster.
    Returned,
}

impl Standing {
    /// The name in JSON: `unsaved`, `bound`, `ready`, `returned`, `free`, `witness`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Unsaved => "unsaved",
            Standing::Bound => "bound",
            Standing::Free => "free",
            Standing::Witness => "witness",
            Standing::Ready => "ready",
            Standing::Returned => "returned",
        }
    }
}

impl Profile {
    /// Its drain, if it has one.
    pub fn draining(&self) -> Option<&Drain> {
        self.away.as_ref()?.draining.as_ref()
    }

    /// Its leave, if its run has ended by one.
    pub fn left(&self) -> Option<&Leave> {
        self.away.as_ref()?.left.as_ref()
    }
}

/// The drain and the leave in a profile; one of them at least.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// Until when the node may be absent, and why.
    pub draining: Option<Drain>,
    /// Why and when its run ended.
    pub left: Option<Leave>,
}

impl Away {
    /// What a profile holds of these two: nothing if there is neither.
    pub fn new(draining: Option<Drain>, left: Option<Leave>) -> Option<Box<Away>> {
        (draining.is_some() || left.is_some()).then(|| Box::new(Away { draining, left }))
    }
}

/// What an operator says of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What it is for, where it stands, and the like.
    pub labels: Labels,
    /// Whose clients are to leave which node.
    pub migrations: Migrations,
}

/// What a node offers to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The run that offers it: what an earlier one offered is over.
    #[serde(with = "eight_bytes")]
    pub instance: Instance,
    /// What.
    pub services: Services,
}

/// A release of this program: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Release(pub [u8; 3]);

impl Release {
    /// This one.
    pub const OWN: Release = Release([
        number(env!("CARGO_PKG_VERSION_MAJOR")),
        number(env!("CARGO_PKG_VERSION_MINOR")),
        number(env!("CARGO_PKG_VERSION_PATCH")),
    ]);
}

const fn number(digits: &str) -> u8 {
    match u8::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => u8::MAX,
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// An instance is random: its bytes are shorter than a variable-length number.
mod eight_bytes {
    use super::Instance;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(instance: &Instance, serializer: S) -> Result<S::Ok, S::Error> {
        instance.0.to_le_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Instance, D::Error> {
        <[u8; 8]>::deserialize(deserializer).map(|bytes| Instance(u64::from_le_bytes(bytes)))
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// What its owner sees: the peers that it observes and that are not plainly fine, by name.
    Row(Vec<Seen>),
    /// What its owner is.
    Profile(Profile),
    /// A row that was too long for a datagram: the gravest part of it. Of whom it does not name nothing is said.
    CutRow(Vec<Seen>),
    /// What its owner's operator says.
    Notice(Box<Notice>),
    /// What its owner offers.
    Offer(Offer),
}

impl Body {
    /// Which of its owner's records it is.
    pub fn kind(&self) -> Kind {
        match self {
            Body::Row(_) | Body::CutRow(_) => Kind::Row,
            Body::Profile(_) => Kind::Profile,
            Body::Notice(_) => Kind::Notice,
            Body::Offer(_) => Kind::Offer,
        }
    }

    /// Bytes of its encoding.
    pub(crate) fn encoded_len(&self) -> usize {
        let size = postcard::ser_flavors::Size::default();
        postcard::serialize_with_flavor(self, size).expect("counting cannot fail")
    }

    /// Whether it is a notice or an offer in which nothing stands: of who never had one it need not be told.
    fn is_nothing(&self) -> bool {
        match self {
            Body::Row(_) | Body::CutRow(_) | Body::Profile(_) => false,
            Body::Notice(notice) => **notice == Notice::default(),
            Body::Offer(offer) => offer.services.is_empty(),
        }
    }

    /// The peers that a row names; nobody in a profile.
    pub(super) fn seen(&self) -> &[Seen] {
        match self {
            Body::Row(seen) | Body::CutRow(seen) => seen,
            Body::Profile(_) | Body::Notice(_) | Body::Offer(_) => &[],
        }
    }

    /// Whether it has the one form that it may have: the peers of a row in order, each once, none plainly fine; a profile
    /// without an empty [`Away`].
    pub fn is_canonical(&self) -> bool {
        if let Body::Profile(profile) = self {
            return profile.away.as_ref().is_none_or(|away| **away != Away::default());
        }
        let seen = self.seen();
        seen.windows(2).all(|w| w[0].peer < w[1].peer)
            && seen.iter().all(|s| (s.life, s.link) != (Life::Healthy, LinkState::Up))
    }
}

/// Which of an owner's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// See [`Body`].
    Row,
    /// See [`Body`].
    Profile,
    /// See [`Body`].
    Notice,
    /// See [`Body`].
    Offer,
}

impl Kind {
    /// How many there are.
    const COUNT: usize = 4;
    /// All of them, in the order in which a table is read.
    const ALL: [Kind; Kind::COUNT] = [Kind::Row, Kind::Profile, Kind::Notice, Kind::Offer];
}

/// Up to where a table was read: an owner, and which of its records came last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark(pub NodeName, pub Kind);

/// A record, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is.
    pub owner: NodeName,
    /// From 1.
    pub version: u64,
    /// What it says.
    pub body: Body,
}

impl Record {
    /// Where a reading that came to it goes on.
    pub fn mark(&self) -> Mark {
        Mark(self.owner, self.body.kind())
    }

    fn hash(&self) -> u32 {
        let bytes = postcard::to_extend(self, Vec::new()).expect("encoding into memory cannot fail");
        let hash = blake3::hash(&bytes);
        u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("four bytes"))
    }

    /// Whether it has the one form that it may have.
    pub fn is_canonical(&self) -> bool {
        self.version > 0 && self.body.is_canonical()
    }

    /// Bytes of its encoding.
    pub fn encoded_len(&self) -> usize {
        let size = postcard::ser_flavors::Size::default();
        postcard::serialize_with_flavor(self, size).expect("counting cannot fail")
    }
}

/// A part of the digest: a bucket, and 24 bits over the records in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Which bucket.
    pub bucket: u8,
    /// Over the records of its owners.
    pub hash: [u8; 3],
}
