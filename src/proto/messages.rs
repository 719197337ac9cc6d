//! The wire messages: the postcard form of [`Message`] is a frame's body.
//!
//! Decoding is strict: trailing bytes, forms that are not canonical, unknown variants and texts that are not
//! printable are rejected. Every bound message begins with echo (0: none yet, else the newest sequence received
//! from the addressee, plus one) and hold (the microseconds since it was received).

use serde::{Deserialize, Serialize};

use super::records::{Digest, NodeName, Record};
use super::seal::{SEAL_LEN, Tag};
use super::server_id::ServerId;
use super::stats::Reject;

/// A hello frame has so many bytes of UDP payload: no answer to it is longer.
pub const HELLO_LEN: usize = 128;
/// The most refused peers in one message.
const MAX_REFUSED: usize = 16;
/// The most zeros in one message: no datagram is longer.
const MAX_PADDING: usize = 1200;

/// The body of a frame. The order of the variants is the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// To a peer without a confirmed run; changes no state, and is answered by a Welcome.
    Hello {
        /// The sender's sequence that this hello takes; the Welcome echoes it.
        sequence: u64,
        /// Who sends it.
        server_id: ServerId,
        /// Zeros that make the frame [`HELLO_LEN`] long.
        padding: Padding,
    },
    /// Answers a hello.
    Welcome {
        /// The hello's sequence, plus one.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// Who sends it.
        server_id: ServerId,
    },
    /// Asks for a Pong.
    Ping {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// Of a part of the sender's records.
        digest: Digest,
    },
    /// Answers a ping.
    Pong {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// See `Ping`.
        digest: Digest,
    },
    /// A ping with something to tell.
    PingMore {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// See `Ping`.
        digest: Digest,
        /// What it tells.
        more: More,
    },
    /// A pong, or a piece of news that no ping asked for, with something to tell.
    PongMore {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// See `Ping`.
        digest: Digest,
        /// What it tells.
        more: More,
    },
    /// The sender's run ends.
    Leave {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// Why.
        reason: LeaveReason,
    },
    /// Asks the addressee to ping another node, since the sender hears nothing of it.
    RelayRequest {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// Whom to ping, under the frame's key.
        target: Tag,
    },
    /// A ping on behalf of another node.
    RelayPing {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// On whose behalf, under the frame's key.
        origin: Tag,
        /// The number of its request.
        request: u64,
    },
    /// Answers a `RelayPing`, and repeats what it said.
    RelayPong {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// See `RelayPing`.
        origin: Tag,
        /// See `RelayPing`.
        request: u64,
    },
    /// Answers a `RelayRequest`.
    RelayReply {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// Whom the request named.
        target: Tag,
        /// The request's number.
        request: u64,
        /// The target answered after the request had come. False: the sender cannot ask it.
        alive: bool,
    },
    /// Asks for the records of a bucket.
    SyncRequest {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// Which bucket.
        bucket: u8,
        /// Those after this owner; `None`: from the first on.
        after: Option<NodeName>,
    },
    /// Answers a `SyncRequest`, and repeats what it said.
    SyncResponse {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// See `SyncRequest`.
        bucket: u8,
        /// See `SyncRequest`.
        after: Option<NodeName>,
        /// There are no more.
        last: bool,
        /// By owner.
        records: Vec<Record>,
    },
}

/// Why a node leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaveReason {
    /// It means to come back (SIGTERM).
    Restart,
    /// It is being removed from the cluster.
    Removal,
}

/// What the long forms tell beside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    /// The sender's back-off: its next ping comes in so many intervals; 0: as usual.
    pub spacing: u8,
    /// Microseconds since the slot of a retry, or of a ping that the follower sends by itself.
    pub since_slot: Option<u32>,
    /// The sender slept so many milliseconds; 0: it did not.
    pub paused: u32,
    /// So many of the addressee's last 64 datagrams have not come.
    pub lost: u8,
    /// The tags, under the frame's key, of peers whose hosts refuse; at most 16.
    pub refused: Vec<Tag>,
    /// What the addressee is owed.
    pub records: Vec<Record>,
    /// What the sender pads to the limit does not come to the addressee.
    pub narrow: bool,
    /// So many numbers before this one the sender padded a ping, which may be lost for its length; 0: it did not.
    pub padded: u8,
    /// Zeros that make a ping as long as a datagram may be.
    pub padding: Padding,
}

/// So many zero bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding(u16);

static ZEROS: [u8; MAX_PADDING] = [0; MAX_PADDING];

impl Padding {
    /// Takes `room` bytes beside the one of an empty padding; one less where the length's second byte leaves no other
    /// way (128).
    fn filling(room: usize) -> Padding {
        let zeros = if room < 128 { room } else { (room - 1).clamp(127, MAX_PADDING) };
        Padding(zeros as u16)
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Padding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&ZEROS[..usize::from(self.0).min(MAX_PADDING)])
    }
}

impl<'de> Deserialize<'de> for Padding {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Padding, D::Error> {
        let bytes = <&'de [u8]>::deserialize(deserializer)?;
        if bytes.len() > MAX_PADDING || bytes.iter().any(|b| *b != 0) {
            return Err(serde::de::Error::custom("padding is at most 1200 zeros"));
        }
        Ok(Padding(bytes.len() as u16))
    }
}

impl Message {
    /// A hello that makes a frame of [`HELLO_LEN`] bytes, header and seal included.
    pub fn hello(header_len: usize, sequence: u64, server_id: &ServerId) -> Message {
        let bare = Message::Hello { sequence, server_id: server_id.clone(), padding: Padding(0) };
        let room = HELLO_LEN.saturating_sub(header_len + SEAL_LEN + bare.encoded_len());
        Message::Hello { sequence, server_id: server_id.clone(), padding: Padding::filling(room) }
    }

    /// Pads the long form of a ping so that its frame has `len` bytes, header and seal included.
    pub fn padded(mut self, header_len: usize, len: usize) -> Message {
        let room = len.saturating_sub(header_len + SEAL_LEN + self.encoded_len());
        if let Message::PingMore { more, .. } = &mut self {
            more.padding = Padding::filling(room);
        }
        self
    }

    /// Appends the encoded message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // A flavor that appends to a Vec cannot fail, and neither can these types.
        postcard::serialize_with_flavor::<_, _, ()>(self, Append(out))
            .expect("encoding into memory cannot fail");
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// `Decode`: it is not exactly one message in its canonical form. No state is touched.
    pub fn decode(body: &[u8]) -> Result<Message, Reject> {
        let (message, rest) = postcard::take_from_bytes::<Message>(body).map_err(|_| Reject::Decode)?;
        let bounded = match &message {
            Message::Hello { padding, .. } => usize::from(padding.0) <= HELLO_LEN,
            other => other.more().is_none_or(|m| m.refused.len() <= MAX_REFUSED && m.lost <= 64),
        };
        if !rest.is_empty() || !bounded || !message.records().iter().all(Record::is_canonical) {
            return Err(Reject::Decode);
        }
        // Overlong varints are accepted by the library: canonical is what encodes to the same bytes.
        postcard::serialize_with_flavor::<_, _, ()>(&message, Compare(body)).map_err(|_| Reject::Decode)?;
        Ok(message)
    }

    /// Bytes of the encoded message.
    pub fn encoded_len(&self) -> usize {
        let size = postcard::ser_flavors::Size::default();
        postcard::serialize_with_flavor(self, size).expect("counting cannot fail")
    }

    /// Echo and hold of a bound message; `None` of a hello.
    pub fn echo(&self) -> Option<(u64, u64)> {
        match self {
            Message::Hello { .. } => None,
            Message::Welcome { echo, hold, .. }
            | Message::Ping { echo, hold, .. }
            | Message::Pong { echo, hold, .. }
            | Message::PingMore { echo, hold, .. }
            | Message::PongMore { echo, hold, .. }
            | Message::Leave { echo, hold, .. }
            | Message::RelayRequest { echo, hold, .. }
            | Message::RelayPing { echo, hold, .. }
            | Message::RelayPong { echo, hold, .. }
            | Message::RelayReply { echo, hold, .. }
            | Message::SyncRequest { echo, hold, .. }
            | Message::SyncResponse { echo, hold, .. } => Some((*echo, *hold)),
        }
    }

    /// What it tells beside, if it has the long form.
    pub fn more(&self) -> Option<&More> {
        match self {
            Message::PingMore { more, .. } | Message::PongMore { more, .. } => Some(more),
            _ => None,
        }
    }

    /// The digest of a part of the sender's records, in a ping or pong.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Message::Ping { digest, .. }
            | Message::Pong { digest, .. }
            | Message::PingMore { digest, .. }
            | Message::PongMore { digest, .. } => Some(*digest),
            _ => None,
        }
    }

    /// The records that it carries.
    pub fn records(&self) -> &[Record] {
        match self {
            Message::SyncResponse { records, .. } => records,
            _ => self.more().map_or(&[], |more| &more.records),
        }
    }

    /// How many of the addressee's last 64 datagrams have not come; `None`: it is no ping or pong, and does not tell.
    pub fn lost(&self) -> Option<u8> {
        match self {
            Message::Ping { .. } | Message::Pong { .. } => Some(0),
            _ => self.more().map(|more| more.lost),
        }
    }
}

/// A postcard flavor that appends.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// A postcard flavor that compares with what it holds, and allocates nothing.
struct Compare<'a>(&'a [u8]);

impl postcard::ser_flavors::Flavor for Compare<'_> {
    type Output = ();
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0 = self.0.strip_prefix(bytes).ok_or(postcard::Error::DeserializeBadEncoding)?;
        Ok(())
    }
    fn finalize(self) -> postcard::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(postcard::Error::DeserializeBadEncoding) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::drain::{Drain, Reason};
    use crate::proto::labels::Labels;
    use crate::proto::records::{Body, Life, LinkState, Notice, Profile, Release, Seen};
    use crate::proto::seal::{Header, Instance};
    use proptest::prelude::*;

    fn bytes(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode(&mut out);
        out
    }

    fn id(text: &str) -> ServerId {
        ServerId::new(text).unwrap()
    }

    /// A profile of a node of which its operator says nothing, and one with a notice.
    fn profiles(owner: NodeName) -> [Record; 2] {
        let labels = Labels::new(vec![("role".into(), "db".into())]).unwrap();
        let draining = Some(Drain { until: 300, reason: Reason::new("why").unwrap() });
        let bare = Profile {
            instance: Instance(9),
            roster: [7; 4],
            config: [8; 4],
            release: Release([0, 1, 0]),
            wire: 1,
            id: None,
            notice: None,
        };
        let told = Profile { notice: Notice { labels, draining }.carried(), ..bare.clone() };
        [(1, bare), (2, told)].map(|(version, body)| Record { owner, version, body: Body::Profile(body) })
    }

    #[test]
    fn golden_bytes() {
        let digest = Digest { bucket: 1, hash: [2, 3, 4] };
        let owner = NodeName([5; 5]);
        let seen = Seen { peer: NodeName([6; 5]), life: Life::Down, link: LinkState::TxLost };
        let record = Record { owner, version: 300, body: Body::Row(vec![seen]) };
        let cut = Record { owner, version: 1, body: Body::CutRow(vec![seen]) };
        let [profile, told] = profiles(owner);
        let more = More {
            spacing: 4,
            since_slot: Some(500),
            paused: 4200,
            lost: 5,
            refused: vec![Tag([9; 8])],
            records: vec![record.clone()],
            narrow: true,
            padded: 7,
            padding: Padding(3),
        };
        let tag = Tag([9; 8]);
        let cases: [(Message, &[u8]); 13] = [
            (
                Message::Hello { sequence: 300, server_id: id("ab"), padding: Padding(3) },
                b"\x00\xac\x02\x02ab\x03\0\0\0",
            ),
            (Message::Welcome { echo: 301, hold: 7, server_id: id("c") }, b"\x01\xad\x02\x07\x01c"),
            (Message::Ping { echo: 0, hold: 0, digest }, b"\x02\0\0\x01\x02\x03\x04"),
            (Message::Pong { echo: 128, hold: 1, digest }, b"\x03\x80\x01\x01\x01\x02\x03\x04"),
            (
                Message::PingMore { echo: 1, hold: 2, digest, more },
                b"\x04\x01\x02\x01\x02\x03\x04\x04\x01\xf4\x03\xe8\x20\x05\x01\x09\x09\x09\x09\x09\x09\x09\x09\x01\x05\x05\x05\x05\x05\xac\x02\0\x01\x06\x06\x06\x06\x06\x02\x03\x01\x07\x03\0\0\0",
            ),
            (
                Message::PongMore { echo: 1, hold: 2, digest, more: More::default() },
                b"\x05\x01\x02\x01\x02\x03\x04\0\0\0\0\0\0\0\0\0",
            ),
            (Message::Leave { echo: 1, hold: 2, reason: LeaveReason::Removal }, b"\x06\x01\x02\x01"),
            (
                Message::RelayRequest { echo: 1, hold: 2, target: tag },
                b"\x07\x01\x02\x09\x09\x09\x09\x09\x09\x09\x09",
            ),
            (
                Message::RelayPing { echo: 1, hold: 2, origin: tag, request: 300 },
                b"\x08\x01\x02\x09\x09\x09\x09\x09\x09\x09\x09\xac\x02",
            ),
            (
                Message::RelayPong { echo: 1, hold: 2, origin: tag, request: 300 },
                b"\x09\x01\x02\x09\x09\x09\x09\x09\x09\x09\x09\xac\x02",
            ),
            (
                Message::RelayReply { echo: 1, hold: 2, target: tag, request: 300, alive: true },
                b"\x0a\x01\x02\x09\x09\x09\x09\x09\x09\x09\x09\xac\x02\x01",
            ),
            (
                Message::SyncRequest { echo: 1, hold: 2, bucket: 3, after: Some(owner) },
                b"\x0b\x01\x02\x03\x01\x05\x05\x05\x05\x05",
            ),
            (
                Message::SyncResponse { echo: 1, hold: 2, bucket: 3, after: None, last: true, records: vec![profile, told, cut] },
                b"\x0c\x01\x02\x03\0\x01\x03\x05\x05\x05\x05\x05\x01\x01\x09\0\0\0\0\0\0\0\x07\x07\x07\x07\x08\x08\x08\x08\0\x01\0\x01\0\0\x05\x05\x05\x05\x05\x02\x01\x09\0\0\0\0\0\0\0\x07\x07\x07\x07\x08\x08\x08\x08\0\x01\0\x01\0\x01\x01\x04role\x02db\x01\xac\x02\x03why\x05\x05\x05\x05\x05\x01\x02\x01\x06\x06\x06\x06\x06\x02\x03",
            ),
        ];
        for (message, golden) in cases {
            assert_eq!(bytes(&message), golden, "{message:?}");
            assert_eq!(Message::decode(golden), Ok(message));
        }
    }

    #[test]
    fn sizes() {
        // An idle datagram: 28 of IPv4 and UDP, header, body, seal; echoes of a ping are held under an interval.
        let idle = |number: u64, hold| {
            let header = 18 + (64 - number.leading_zeros()).div_ceil(7).max(1) as usize;
            28 + header
                + bytes(&Message::Ping { echo: number, hold, digest: Digest::default() }).len()
                + SEAL_LEN
        };
        assert_eq!(idle((1 << 21) - 1, 1_000_000), 28 + 21 + 11 + 16);
        assert_eq!(idle(1 << 21, 1_000_000), 78);
        assert_eq!(idle((1 << 28) - 1, 1_000_000), 78);
        assert_eq!(idle(1 << 28, 1_000_000), 80);
        assert_eq!(idle(1 << 35, 1_000_000), 82);
    }

    #[test]
    fn hellos_have_one_length() {
        for text in ["a", &"x".repeat(64)] {
            for sequence in [0, 1 << 21, 1 << 40] {
                let message = Message::hello(22, sequence, &id(text));
                assert_eq!(22 + bytes(&message).len() + SEAL_LEN, HELLO_LEN, "{text} {sequence}");
            }
        }
    }

    #[test]
    fn padded_pings_have_the_length_that_is_wanted() {
        let digest = Digest::default();
        for len in [256, 511, 1200] {
            for number in [0, 1 << 21, 1 << 40] {
                let more = More { lost: 3, ..More::default() };
                let ping = Message::PingMore { echo: number, hold: number, digest, more };
                let header = Header::len_of(number);
                let ping = ping.padded(header, len);
                assert_eq!(header + bytes(&ping).len() + SEAL_LEN, len);
                assert_eq!(Message::decode(&bytes(&ping)), Ok(ping));
            }
        }
        let form = |room: usize| postcard::to_stdvec(&Padding::filling(room)).unwrap().len() - 1;
        let off: Vec<usize> = (0..1200).filter(|room| form(*room) != *room).collect();
        assert_eq!(off, [128], "one length cannot be had");
    }

    #[test]
    fn terminal_escape() {
        for wrong in [
            "",
            "a b",
            "a\tb",
            "\u{1b}[31mred",
            "<b>",
            "a&b",
            "it's",
            "say\"",
            "a\u{202e}b",
            "a\u{200b}b",
            "\u{7f}",
        ] {
            assert!(ServerId::check(wrong).is_err(), "{wrong:?}");
            let mut body = vec![1, 1, 1, wrong.len() as u8];
            body.extend_from_slice(wrong.as_bytes());
            assert_eq!(Message::decode(&body), Err(Reject::Decode), "{wrong:?}");
        }
        assert!(ServerId::check(&"x".repeat(65)).is_err());
        for right in ["web-1", "web-1.example.com", "10.0.0.7:5278", "[::1]:5278", "köln_3"] {
            assert_eq!(ServerId::check(right), Ok(()), "{right:?}");
        }
    }

    #[test]
    fn loose_forms_are_rejected() {
        for wrong in [
            &b""[..],
            b"\x02\0\0\x01\x02\x03\x04\0",   // a trailing byte
            b"\x02\x80\0\0\x01\x02\x03\x04", // an overlong varint
            b"\x0d\0\0",                     // an unknown variant
            b"\x00\x01\x01a\x01\x01",        // padding that is not zero
            b"\x06\x01\x02\x02",             // an unknown reason
            b"\x05\x01\x02\x01\x02\x03\x04\0\0\0\0\xff\xff\xff\xff\x0f", // a claim of 2^32 tags
            b"\x05\x01\x02\x01\x02\x03\x04\0\0\0\x41\0\0\0\0\0", // 65 lost of 64
            b"\x04\x01\x02\x01\x02\x03\x04\0\0\0\0\0\0\0\0\x01\x01", // padding that is not zero
            b"\x04\x01\x02\x01\x02\x03\x04\0\0\0\0\0\0\0\0\x80\0", // an overlong length of it
            b"\x04\x01\x02\x01\x02\x03\x04\0\0\0\0\0\0\x02\0\0", // neither true nor false
            b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\x01\0\x01\x06\x06\x06\x06\x06\0\0", // what is fine is in no row
            b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\0\0\0",                             // version 0
            b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\x01\x01\x09\0\0\0\0\0\0\0\x07\x07\x07\x07\x08\x08\x08\x08\0\x01\0\x01\0\x01\0\0", // a notice that says nothing
            b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\x01\x01\x09\0\0\0\0\0\0\0\x07\x07\x07\x07\x08\x08\x08\x08\0\x01\0\x01\0\x01\x02\x01b\x01x\x01a\x01x\0", // labels out of order
            b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\x01\x01\x09\0\0\0\0\0\0\0\x07\x07\x07\x07\x08\x08\x08\x08\0\x01\0\x01\0\x01\0\x01\x05\x01\n", // a reason of two lines
        ] {
            assert_eq!(Message::decode(wrong), Err(Reject::Decode), "{wrong:?}");
        }
        let zeros = |head: &[u8], count: usize| [head, &vec![0; count]].concat();
        let ping = b"\x04\x01\x02\x01\x02\x03\x04\0\0\0\0\0\0\0\0";
        for (right, wrong) in [
            (
                zeros(&[&ping[..], b"\xb0\x09"].concat(), 1200),
                zeros(&[&ping[..], b"\xb1\x09"].concat(), 1201),
            ),
            (zeros(b"\x00\x01\x01a\x80\x01", 128), zeros(b"\x00\x01\x01a\x81\x01", 129)),
        ] {
            assert!(Message::decode(&right).is_ok());
            assert_eq!(Message::decode(&wrong), Err(Reject::Decode), "more padding than there may be");
        }
        let refused = vec![Tag([0; 8]); MAX_REFUSED + 1];
        let many = Message::PongMore {
            echo: 0,
            hold: 0,
            digest: Digest::default(),
            more: More { refused, ..More::default() },
        };
        assert_eq!(Message::decode(&bytes(&many)), Err(Reject::Decode));
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let seen = (any::<[u8; 5]>(), 0..5usize).prop_map(|(peer, n)| Seen {
            peer: NodeName(peer),
            life: [Life::Healthy, Life::Suspected, Life::Down, Life::Left, Life::Unknown][n],
            link: [LinkState::Lossy, LinkState::Up, LinkState::TxLost, LinkState::Down, LinkState::Up][n],
        });
        let row = (prop::collection::vec(seen, 0..5), any::<bool>()).prop_map(|(mut seen, cut)| {
            seen.sort_by_key(|s| s.peer);
            seen.dedup_by_key(|s| s.peer);
            if cut { Body::CutRow(seen) } else { Body::Row(seen) }
        });
        let more = (
            prop::collection::btree_map("[a-z][a-z0-9_]{0,7}", "[!#-%(-;=?-Z]{1,8}", 0..=8),
            "[a-z ]{0,120}",
        );
        let profile = (any::<(u64, [u8; 4], [u8; 4], [u8; 3], u8, bool)>(), any::<Option<u64>>(), more);
        let profile = profile.prop_map(|(told, until, (labels, reason))| {
            let (instance, roster, config, release, wire, named) = told;
            let labels = Labels::new(labels.into_iter().collect()).expect("the pattern is that of labels");
            let reason = Reason::new(&reason).expect("the pattern is plain");
            let draining = until.map(|until| Drain { until, reason });
            let notice = Notice { labels, draining }.carried();
            let (instance, release) = (Instance(instance), Release(release));
            let id = named.then(|| id("web-1"));
            Body::Profile(Profile { instance, roster, config, release, wire, id, notice })
        });
        (any::<[u8; 5]>(), 1..=u64::MAX, prop_oneof![row, profile])
            .prop_map(|(owner, version, body)| Record { owner: NodeName(owner), version, body })
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let more = (
            any::<u8>(),
            any::<Option<u32>>(),
            any::<u32>(),
            0..=64u8,
            prop::collection::vec(any::<[u8; 8]>(), 0..=16),
            prop::collection::vec(any_record(), 0..3),
            (any::<bool>(), any::<u8>(), 0..=1200u16),
        )
            .prop_map(
                |(spacing, since_slot, paused, lost, refused, records, (narrow, padded, padding))| More {
                    spacing,
                    since_slot,
                    paused,
                    lost,
                    refused: refused.into_iter().map(Tag).collect(),
                    records,
                    narrow,
                    padded,
                    padding: Padding(padding),
                },
            );
        let id = "[a-z0-9.-]{1,64}".prop_map(|text| ServerId::new(&text).expect("the pattern is printable"));
        let digest = any::<(u8, [u8; 3])>().prop_map(|(bucket, hash)| Digest { bucket, hash });
        (0..13u8, any::<u64>(), any::<u64>(), digest, more, id, 0..=128u8).prop_map(
            |(kind, echo, hold, digest, more, server_id, padding)| match kind {
                0 => Message::Hello { sequence: echo, server_id, padding: Padding(padding.into()) },
                1 => Message::Welcome { echo, hold, server_id },
                2 => Message::Ping { echo, hold, digest },
                3 => Message::Pong { echo, hold, digest },
                4 => Message::PingMore { echo, hold, digest, more },
                5 => Message::PongMore { echo, hold, digest, more },
                6 => Message::Leave { echo, hold, reason: LeaveReason::Restart },
                7 => Message::RelayRequest { echo, hold, target: Tag([padding; 8]) },
                8 => Message::RelayPing { echo, hold, origin: Tag([padding; 8]), request: hold },
                9 => Message::RelayPong { echo, hold, origin: Tag([padding; 8]), request: hold },
                10 => {
                    Message::SyncRequest { echo, hold, bucket: padding, after: Some(NodeName([padding; 5])) }
                }
                11 => Message::SyncResponse {
                    echo,
                    hold,
                    bucket: padding,
                    after: None,
                    last: padding > 64,
                    records: more.records,
                },
                _ => Message::RelayReply {
                    echo,
                    hold,
                    target: Tag([padding; 8]),
                    request: hold,
                    alive: padding > 64,
                },
            },
        )
    }

    proptest! {
        #[test]
        fn messages_round_trip(message in any_message()) {
            let encoded = bytes(&message);
            prop_assert_eq!(encoded.len(), message.encoded_len());
            prop_assert_eq!(Message::decode(&encoded), Ok(message));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = Message::decode(&body) {
                prop_assert_eq!(bytes(&message), body);
            }
        }
    }
}
