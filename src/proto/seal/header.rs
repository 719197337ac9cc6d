//! The clear header.

use super::{Instance, NUMBER_LIMIT, SEAL_LEN, Tag};
use crate::proto::stats::Reject;

/// The two kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Sealed to the addressee's tag and instance; its number is its sequence.
    Bound,
    /// Sealed to nobody in particular; one counter numbers all hellos of a run.
    Hello,
}

impl FrameKind {
    /// What a frame of this kind begins with.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            FrameKind::Bound => 0x4C,
            FrameKind::Hello => 0x6C,
        }
    }
}

/// The clear header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which kind of frame.
    pub kind: FrameKind,
    /// Which key.
    pub key_id: u8,
    /// Who sent it.
    pub sender: Tag,
    /// Which run of the sender.
    pub instance: Instance,
    /// The frame's number, below 2^62: its nonce.
    pub number: u64,
}

impl Header {
    /// The longest header, in bytes.
    pub const MAX_LEN: usize = 27;

    /// Appends the header.
    ///
    /// # Panics
    /// If the number is 2^62 or more, after 146,000 years of a million datagrams a second; the core stops before.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.number < NUMBER_LIMIT, "a run's numbers stay below 2^62");
        out.push(self.kind.byte());
        out.push(self.key_id);
        out.extend_from_slice(&self.sender.0);
        out.extend_from_slice(&self.instance.0.to_le_bytes());
        encode_varint(self.number, out);
    }

    /// The length of the encoded header, in bytes.
    pub fn len(&self) -> usize {
        Header::len_of(self.number)
    }

    /// The length of a header with this number, in bytes.
    pub fn len_of(number: u64) -> usize {
        18 + varint_len(number)
    }

    /// Never: a header has 19 bytes at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Reads a frame's header; answers its length too.
    ///
    /// # Errors
    /// `Size`: too short for a header and a seal. `Version`: another first byte. `Decode`: the number is not
    /// canonical, or 2^62 or more.
    pub fn parse(frame: &[u8]) -> Result<(Header, usize), Reject> {
        let kind = match frame.first() {
            _ if frame.len() < 19 + SEAL_LEN => return Err(Reject::Size),
            Some(byte) if *byte == FrameKind::Bound.byte() => FrameKind::Bound,
            Some(byte) if *byte == FrameKind::Hello.byte() => FrameKind::Hello,
            _ => return Err(Reject::Version),
        };
        let eight = |at: usize| -> [u8; 8] { frame[at..at + 8].try_into().expect("the length was checked") };
        let (mut number, mut len) = (0u64, 18);
        loop {
            let byte = *frame.get(len).ok_or(Reject::Size)?;
            number |= u64::from(byte & 0x7F) << (7 * (len - 18));
            len += 1;
            if byte & 0x80 == 0 {
                if byte == 0 && len > 19 || number >= NUMBER_LIMIT {
                    return Err(Reject::Decode);
                }
                break;
            }
            if len == Self::MAX_LEN {
                return Err(Reject::Decode);
            }
        }
        if frame.len() < len + SEAL_LEN {
            return Err(Reject::Size);
        }
        let (sender, instance) = (Tag(eight(2)), Instance(u64::from_le_bytes(eight(10))));
        Ok((Header { kind, key_id: frame[1], sender, instance, number }, len))
    }
}

/// Appends a number as canonical LEB128, as postcard writes it too.
pub(crate) fn encode_varint(number: u64, out: &mut Vec<u8>) {
    let mut rest = number;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The number of bytes that [`encode_varint`] appends.
pub(crate) fn varint_len(number: u64) -> usize {
    (64 - number.leading_zeros()).div_ceil(7).max(1) as usize
}
