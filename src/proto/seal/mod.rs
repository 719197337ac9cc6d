//! The seal: keys, clear header, AEAD and replay window.
//!
//! A frame is a clear header (the associated data), the sealed body, and the tag of AES-256-GCM-SIV (RFC 8452):
//!
//! | bytes | clear header |
//! | --- | --- |
//! | 1 | kind: `0x4C` bound, `0x6C` hello |
//! | 1 | key id |
//! | 8 | sender tag |
//! | 8 | sender's instance, little-endian |
//! | 1 to 9 | number: canonical LEB128, below 2^62 |
//!
//! The nonce is four zero bytes and the number as u64 little-endian; the key differs for every pair of instances.

mod header;
mod keys;
mod window;

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use super::stats::Reject;

pub use header::{FrameKind, Header};
pub(crate) use header::{encode_varint, varint_len};
pub use keys::{KeyTextError, Keyring, MAX_KEYS, SecretKey};
pub use window::ReplayWindow;

/// The version of the wire: that of the two kinds above.
pub const WIRE: u8 = 1;
/// Bytes that the seal adds to a body.
pub const SEAL_LEN: usize = 16;
/// Numbers stay below.
pub(crate) const NUMBER_LIMIT: u64 = 1 << 62;

/// One run of a node: a random 64-bit id drawn at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance(pub u64);

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A node's name on the wire: 8 bytes, a keyed hash of its server id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(pub [u8; 8]);

/// Whether the node `me` leads the pair with `peer`: by a hash of both, so that both sides agree and the load is
/// even.
pub fn leads(me: Tag, peer: Tag) -> bool {
    let (low, high) = (me.min(peer), me.max(peer));
    let mut both = [0; 16];
    both[..8].copy_from_slice(&low.0);
    both[8..].copy_from_slice(&high.0);
    let low_leads = blake3::hash(&both).as_bytes()[0] & 1 == 0;
    (me == low) == low_leads
}

/// What seals the frames from one run to another: AES-256-GCM-SIV, so that a repeated nonce (after a clone of a
/// virtual machine, say) gives no forgery.
pub struct FrameKey(Seal);

enum Seal {
    Aead(LessSafeKey),
    /// A checksum, and no secret: for simulations of many nodes.
    #[cfg(feature = "sim")]
    Cheap(u64),
}

impl FrameKey {
    fn new(key: &[u8; 32]) -> FrameKey {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).expect("the key has 32 bytes");
        FrameKey(Seal::Aead(LessSafeKey::new(key)))
    }

    #[cfg(feature = "sim")]
    fn cheap(key: &[u8; 32]) -> FrameKey {
        FrameKey(Seal::Cheap(cheap::sum(0, key)))
    }

    /// Seals the frame that begins at `start`: `header_len` bytes of header, then the body to the end. The tag is
    /// appended.
    pub fn seal_in_place(&self, frame: &mut Vec<u8>, start: usize, header_len: usize, number: u64) {
        match &self.0 {
            Seal::Aead(key) => {
                let (head, body) = frame[start..].split_at_mut(header_len);
                let tag = key
                    .seal_in_place_separate_tag(nonce(number), Aad::from(&*head), body)
                    .expect("a datagram is shorter than the AEAD's limit");
                frame.extend_from_slice(tag.as_ref());
            }
            #[cfg(feature = "sim")]
            Seal::Cheap(key) => {
                let tag = cheap::tag(*key, &frame[start..]);
                frame.extend_from_slice(&tag);
            }
        }
    }

    /// Opens a frame; answers its body.
    ///
    /// # Errors
    /// `Seal`: it does not open. The frame's bytes are spoilt then.
    pub fn open_in_place<'a>(
        &self,
        frame: &'a mut [u8],
        header_len: usize,
        number: u64,
    ) -> Result<&'a mut [u8], Reject> {
        match &self.0 {
            Seal::Aead(key) => {
                let (head, sealed) = frame.split_at_mut(header_len);
                key.open_in_place(nonce(number), Aad::from(&*head), sealed).map_err(|_| Reject::Seal)
            }
            #[cfg(feature = "sim")]
            Seal::Cheap(key) => {
                let end = frame.len() - SEAL_LEN;
                let (sealed, tag) = frame.split_at_mut(end);
                if cheap::tag(*key, sealed) == *tag {
                    Ok(&mut sealed[header_len..])
                } else {
                    Err(Reject::Seal)
                }
            }
        }
    }
}

impl fmt::Debug for FrameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameKey(..)")
    }
}

#[cfg(feature = "sim")]
mod cheap {
    //! A checksum in the place of the seal, as long as it.

    use super::SEAL_LEN;

    pub(super) fn sum(seed: u64, bytes: &[u8]) -> u64 {
        bytes.chunks(8).fold(seed ^ bytes.len() as u64, |sum, eight| {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
        })
    }

    pub(super) fn tag(key: u64, bytes: &[u8]) -> [u8; SEAL_LEN] {
        let first = sum(key, bytes);
        let mut tag = [0; SEAL_LEN];
        tag[..8].copy_from_slice(&first.to_le_bytes());
        tag[8..].copy_from_slice(&first.rotate_left(32).wrapping_mul(key | 1).to_le_bytes());
        tag
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests;
