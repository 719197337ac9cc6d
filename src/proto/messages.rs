//! The wire messages: the postcard form of [`Message`] is a frame's body.
//!
//! Decoding is strict: trailing bytes, forms that are not canonical, unknown variants and texts that are not
//! printable are rejected. Every bound message begins with echo (0: none yet, else the newest sequence received
//! from the addressee, plus one) and hold (the microseconds since it was received).

use serde::{Deserialize, Serialize};

pub use super::leave::LeaveReason;
use super::records::{Body, Digest, Mark, Record};
use super::seal::{SEAL_LEN, Tag, encode_varint, varint_len};
use super::server_id::ServerId;
use super::stats::Reject;

/// A hello frame has so many bytes of UDP payload: no answer to it is longer.
pub const HELLO_LEN: usize = 128;
/// The most refused peers in one message.
const MAX_REFUSED: usize = 16;
/// The most peers whose silence one message is about.
pub(crate) const MAX_SILENT: usize = 16;
/// The most zeros in one message: no datagram is longer.
const MAX_PADDING: usize = 1200;

/// The body of a frame. The order of the variants is the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// To a peer without a confirmed run; changes no state, and is answered by a Welcome.
    Hello {
        /// The sender's sequence that this hello takes, so that the addressee does not count it as lost.
        sequence: u64,
        /// Who sends it.
        server_id: ServerId,
        /// Zeros that make the frame [`HELLO_LEN`] long.
        padding: Padding,
    },
    /// Answers a hello.
    Welcome {
        /// The number in the hello's header, plus one. It names the entry to which the hello went.
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
        /// The sender's profile, which has the leave in it; `None`: it does not fit into the datagram.
        profile: Option<Box<Record>>,
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
        /// Those after this one; `None`: from the first on.
        after: Option<Mark>,
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
        after: Option<Mark>,
        /// There are no more.
        last: bool,
        /// By owner.
        records: Vec<Record>,
    },
    /// Asks for how long the addressee has heard nothing of other nodes.
    SilenceRequest {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// Of whom, under the frame's key; at most 16.
        targets: Vec<Tag>,
    },
    /// Answers a `SilenceRequest`.
    SilenceReply {
        /// See the module.
        echo: u64,
        /// Microseconds.
        hold: u64,
        /// The request's number.
        request: u64,
        /// Whom it named, and for how many microseconds nothing has come of each, since the start of the sender's run at most.
        silent: Vec<(Tag, u64)>,
    },
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
    /// What the sender reports of the path between the two.
    pub path: PathReport,
    /// Distance back to the sender's newest padded datagram, if that may have been lost for its length; else 0.
    pub padded: u8,
    /// After a silence of the addressee for more than G: the echo of the last datagram before it, and for how many
    /// microseconds the sender has held that. If the clock of the addressee shows less, the addressee stood still.
    pub held: Option<(u64, u64)>,
    /// Zeros that pad a ping, and the pong that answers it, to the maximum datagram size.
    pub padding: Padding,
}

/// What the sender of a datagram reports of the path between the two. The order of the variants is the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathReport {
    /// Nothing.
    #[default]
    Untold,
    /// Datagrams that the sender pads to the limit do not reach the addressee.
    Narrow,
    /// The sender has long datagrams for the addressee: the path is to be tried soon.
    Used,
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
    /// Takes the echo out of a ping or a pong.
    pub(crate) fn drop_echo(&mut self) {
        if let Message::Ping { echo, hold, .. }
        | Message::Pong { echo, hold, .. }
        | Message::PingMore { echo, hold, .. }
        | Message::PongMore { echo, hold, .. } = self
        {
            (*echo, *hold) = (0, 0);
        }
    }

    /// A hello that makes a frame of [`HELLO_LEN`] bytes, header and seal included.
    pub fn hello(header_len: usize, sequence: u64, server_id: &ServerId) -> Message {
        let bare = Message::Hello { sequence, server_id: server_id.clone(), padding: Padding(0) };
        let room = HELLO_LEN.saturating_sub(header_len + SEAL_LEN + bare.encoded_len());
        Message::Hello { sequence, server_id: server_id.clone(), padding: Padding::filling(room) }
    }

    /// The offset of the hold in the encoded body of a bound message with this echo, after the variant and the echo.
    pub(crate) fn hold_at(echo: u64) -> usize {
        1 + varint_len(echo)
    }

    /// Pads a frame that ends with the long form of a ping or a pong without padding, so that it has `len` bytes once it is
    /// sealed.
    pub(crate) fn pad(frame: &mut Vec<u8>, len: usize) {
        let padding = Padding::filling(len.saturating_sub(frame.len() + SEAL_LEN));
        // The empty padding is a length of 0.
        frame.pop();
        encode_varint(padding.0.into(), frame);
        frame.extend_from_slice(&ZEROS[..usize::from(padding.0)]);
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
            Message::Leave { profile, .. } => {
                profile.as_ref().is_none_or(|record| matches!(record.body, Body::Profile(_)))
            }
            Message::SilenceRequest { targets, .. } => targets.len() <= MAX_SILENT,
            Message::SilenceReply { silent, .. } => silent.len() <= MAX_SILENT,
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

    /// Echo and hold of a bound message; `None` of a hello. The echo of a Welcome is the number of a hello, all others are
    /// sequences of the pair.
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
            | Message::SyncResponse { echo, hold, .. }
            | Message::SilenceRequest { echo, hold, .. }
            | Message::SilenceReply { echo, hold, .. } => Some((*echo, *hold)),
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
            Message::Leave { profile, .. } => profile.as_deref().map_or(&[], std::slice::from_ref),
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
mod tests;
