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

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::config::ConfigError;
use super::stats::Reject;

/// Bytes that the seal adds to a body.
pub const SEAL_LEN: usize = 16;
/// The most keys of a cluster.
pub const MAX_KEYS: usize = 4;
/// Numbers stay below.
pub(crate) const NUMBER_LIMIT: u64 = 1 << 62;
/// What a key file's line begins with.
const KEY_PREFIX: &str = "lastseen-key-1:";

/// One run of a node: a random 64-bit id drawn at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// A cluster key of 32 bytes, wiped from memory when dropped.
pub struct SecretKey([u8; 32]);

/// Why a line is no cluster key. Never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// The line does not begin as a key does.
    #[error("it must be one line that begins with `lastseen-key-1:`, as `lastseen keygen` prints it")]
    Prefix,
    /// What follows is not the base64 of 32 bytes.
    #[error("after `lastseen-key-1:` there must be the base64 of exactly 32 bytes (44 characters)")]
    Base64,
}

impl SecretKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> SecretKey {
        SecretKey(bytes)
    }

    /// Reads the text of a key file: one line, `lastseen-key-1:` and base64 of 32 bytes.
    ///
    /// # Errors
    /// What is wrong with it; the text is not quoted.
    pub fn from_text(text: &str) -> Result<SecretKey, KeyTextError> {
        let line = text.trim_end_matches(['\n', '\r']);
        let encoded = line.strip_prefix(KEY_PREFIX).ok_or(KeyTextError::Prefix)?;
        let mut key = SecretKey([0; 32]);
        let encoded = encoded.strip_suffix('=').filter(|e| e.len() == 43).ok_or(KeyTextError::Base64)?;
        let (mut bits, mut held, mut at) = (0u32, 0, 0);
        for c in encoded.bytes() {
            let value = BASE64.iter().position(|b| *b == c).ok_or(KeyTextError::Base64)?;
            bits = bits << 6 | value as u32;
            held += 6;
            if held >= 8 {
                held -= 8;
                key.0[at] = (bits >> held) as u8;
                at += 1;
            }
            bits &= (1 << held) - 1;
        }
        // 43 characters carry 258 bits; the last two must be zero.
        if bits != 0 { Err(KeyTextError::Base64) } else { Ok(key) }
    }

    /// The text of a key file, without a line end.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(KEY_PREFIX.len() + 44));
        text.push_str(KEY_PREFIX);
        for three in self.0.chunks(3) {
            let bits =
                three.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
            for i in 0..=three.len() {
                text.push(char::from(BASE64[(bits >> (18 - 6 * i)) as usize & 63]));
            }
        }
        text.push('=');
        text
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// What follows from one cluster key.
struct Root {
    id: u8,
    tag_key: Zeroizing<[u8; 32]>,
    frame_key: Zeroizing<[u8; 32]>,
}

/// The cluster's keys: the first for sending, all for receiving.
pub struct Keyring {
    roots: Vec<Root>,
    secure: bool,
}

impl Keyring {
    /// The keys of `cluster` (1 to 64 bytes): `keys` (at most 4), the first for sending; with `insecure`, or
    /// without keys, also the one that the cluster's name alone gives, last.
    ///
    /// # Errors
    /// More than four keys, or two with one key id (their positions are named).
    pub fn new(cluster: &str, keys: &[SecretKey], insecure: bool) -> Result<Keyring, ConfigError> {
        if keys.len() > MAX_KEYS {
            return Err(ConfigError::Invalid(format!(
                "{} keys are given; at most {MAX_KEYS} are kept",
                keys.len()
            )));
        }
        let mut roots: Vec<Root> = keys.iter().map(|key| Root::new(cluster, Some(key))).collect();
        if insecure || keys.is_empty() {
            roots.push(Root::new(cluster, None));
        }
        for (i, root) in roots.iter().enumerate() {
            if let Some(j) = roots[..i].iter().position(|other| other.id == root.id) {
                return Err(ConfigError::Invalid(format!(
                    "keys {} and {} have the same key id {:02x}: they are one key, or one of them must be made anew",
                    j + 1,
                    i + 1,
                    root.id
                )));
            }
        }
        Ok(Keyring { roots, secure: !keys.is_empty() })
    }

    /// Whether frames are sent under a real key.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// How many keys there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a keyring is never empty")]
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// The id of key `k`.
    pub fn id(&self, k: usize) -> u8 {
        self.roots[k].id
    }

    /// The key with this id.
    pub fn index_of_id(&self, id: u8) -> Option<usize> {
        self.roots.iter().position(|root| root.id == id)
    }

    /// The tag of `server_id` under key `k`.
    pub fn tag(&self, k: usize, server_id: &str) -> Tag {
        let hash = blake3::keyed_hash(&self.roots[k].tag_key, server_id.as_bytes());
        let mut tag = [0; 8];
        tag.copy_from_slice(&hash.as_bytes()[..8]);
        Tag(tag)
    }

    /// What seals the frames from `sender` to `addressee` under key `k`. The addressee of a hello is tag 0,
    /// instance 0.
    pub fn frame_key(&self, k: usize, sender: (Tag, Instance), addressee: (Tag, Instance)) -> FrameKey {
        let mut both = [0; 32];
        for (part, (tag, instance)) in both.chunks_exact_mut(16).zip([sender, addressee]) {
            part[..8].copy_from_slice(&tag.0);
            part[8..].copy_from_slice(&instance.0.to_le_bytes());
        }
        let key = Zeroizing::new(*blake3::keyed_hash(&self.roots[k].frame_key, &both).as_bytes());
        FrameKey::new(&key)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.roots.len()).field("secure", &self.secure).finish()
    }
}

impl Root {
    /// root = derive_key(context, len(cluster) as u8 | cluster | key); without a key another context.
    fn new(cluster: &str, key: Option<&SecretKey>) -> Root {
        let context = match key {
            Some(_) => "lastseen wire v1 root",
            None => "lastseen wire v1 insecure root",
        };
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&[u8::try_from(cluster.len()).unwrap_or(u8::MAX)]);
        hasher.update(cluster.as_bytes());
        if let Some(key) = key {
            hasher.update(&key.0);
        }
        let root = Zeroizing::new(*hasher.finalize().as_bytes());
        let derive = |context| Zeroizing::new(blake3::derive_key(context, &*root));
        Root {
            id: derive("lastseen wire v1 key id")[0],
            tag_key: derive("lastseen wire v1 tag"),
            frame_key: derive("lastseen wire v1 frame"),
        }
    }
}

/// The two kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Sealed to the addressee's tag and instance; its number is its sequence.
    Bound,
    /// Sealed to nobody in particular; one counter numbers all hellos of a run.
    Hello,
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
    /// If the number is 2^62 or more: at a million datagrams a second that takes 146,000 years.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.number < NUMBER_LIMIT, "a run's numbers stay below 2^62");
        out.push(match self.kind {
            FrameKind::Bound => 0x4C,
            FrameKind::Hello => 0x6C,
        });
        out.push(self.key_id);
        out.extend_from_slice(&self.sender.0);
        out.extend_from_slice(&self.instance.0.to_le_bytes());
        let mut rest = self.number;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    /// The length of the encoded header, in bytes.
    pub fn len(&self) -> usize {
        18 + (64 - self.number.leading_zeros()).div_ceil(7).max(1) as usize
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
            Some(0x4C) => FrameKind::Bound,
            Some(0x6C) => FrameKind::Hello,
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

/// What seals the frames from one run to another: AES-256-GCM-SIV, so that a repeated nonce (after a clone of a
/// virtual machine, say) gives no forgery.
pub struct FrameKey(LessSafeKey);

impl FrameKey {
    fn new(key: &[u8; 32]) -> FrameKey {
        FrameKey(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key).expect("the key has 32 bytes")))
    }

    /// Seals the frame that begins at `start`: `header_len` bytes of header, then the body to the end. The tag is
    /// appended.
    pub fn seal_in_place(&self, frame: &mut Vec<u8>, start: usize, header_len: usize, number: u64) {
        let (head, body) = frame[start..].split_at_mut(header_len);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(number), Aad::from(&*head), body)
            .expect("a datagram is shorter than the AEAD's limit");
        frame.extend_from_slice(tag.as_ref());
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
        let (head, sealed) = frame.split_at_mut(header_len);
        self.0.open_in_place(nonce(number), Aad::from(&*head), sealed).map_err(|_| Reject::Seal)
    }
}

impl fmt::Debug for FrameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameKey(..)")
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Which of the last 128 numbers were seen (the algorithm of RFC 4303, appendix A2). Check first; mark only after
/// the seal held.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayWindow {
    /// One above the newest number; 0: none yet.
    next: u64,
    /// Bit i: whether `next` - 1 - i was seen.
    seen: u128,
}

impl ReplayWindow {
    /// Whether `number` is neither seen nor too old to tell.
    pub fn check(&self, number: u64) -> bool {
        match self.next.checked_sub(number.saturating_add(1)) {
            None => true,
            Some(age) => age < 128 && self.seen & (1 << age) == 0,
        }
    }

    /// Takes `number` for seen.
    pub fn mark(&mut self, number: u64) {
        let next = number.saturating_add(1);
        if next > self.next {
            let by = next - self.next;
            self.seen = if by < 128 { self.seen << by | 1 } else { 1 };
            self.next = next;
        } else if self.next - next < 128 {
            self.seen |= 1 << (self.next - next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn ring() -> Keyring {
        Keyring::new("test", &[SecretKey::new([7; 32])], false).unwrap()
    }

    fn sealed(ring: &Keyring, from: u64, to: u64, number: u64, body: &[u8]) -> (Vec<u8>, usize) {
        let (sender, addressee) = (ring.tag(0, "a"), ring.tag(0, "b"));
        let header =
            Header { kind: FrameKind::Bound, key_id: ring.id(0), sender, instance: Instance(from), number };
        let mut frame = Vec::new();
        header.encode(&mut frame);
        let header_len = frame.len();
        frame.extend_from_slice(body);
        let key = ring.frame_key(0, (sender, Instance(from)), (addressee, Instance(to)));
        key.seal_in_place(&mut frame, 0, header_len, number);
        (frame, header_len)
    }

    fn opens(
        ring: &Keyring,
        from: u64,
        to: u64,
        number: u64,
        (mut frame, len): (Vec<u8>, usize),
    ) -> Option<Vec<u8>> {
        let key = ring.frame_key(0, (ring.tag(0, "a"), Instance(from)), (ring.tag(0, "b"), Instance(to)));
        key.open_in_place(&mut frame, len, number).ok().map(|body| body.to_vec())
    }

    #[test]
    fn golden_derivation_and_frame() {
        let ring = ring();
        let insecure = Keyring::new("test", &[], false).unwrap();
        let (frame, _) = sealed(&ring, 1, 2, 300, b"body");
        let golden = [
            format!("{:02x}", ring.id(0)),
            hex(&ring.tag(0, "web-1").0),
            format!("{:02x}", insecure.id(0)),
            hex(&insecure.tag(0, "web-1").0),
            hex(&frame),
        ];
        assert_eq!(golden, GOLDEN);
    }

    const GOLDEN: [&str; 5] = [
        "77",
        "72c260a3c593e4d7",
        "f1",
        "19850cb5bdf9c45e",
        "4c773626228604e763dd0100000000000000ac0230db1a119e5af7602fe17d977fa56cfacfef283a",
    ];

    #[test]
    fn the_seal_binds_key_parties_number_and_header() {
        let ring = ring();
        let frame = sealed(&ring, 1, 2, 5, b"body");
        assert_eq!(opens(&ring, 1, 2, 5, frame.clone()).as_deref(), Some(&b"body"[..]));
        assert_eq!(opens(&ring, 1, 3, 5, frame.clone()), None, "another instance of the addressee");
        assert_eq!(opens(&ring, 9, 2, 5, frame.clone()), None, "another instance of the sender");
        assert_eq!(opens(&ring, 1, 2, 6, frame.clone()), None, "another number");
        for other in [
            Keyring::new("test2", &[SecretKey::new([7; 32])], false).unwrap(),
            Keyring::new("test", &[SecretKey::new([8; 32])], false).unwrap(),
            Keyring::new("test", &[], true).unwrap(),
        ] {
            assert_eq!(opens(&other, 1, 2, 5, frame.clone()), None);
        }
        for at in 0..frame.0.len() {
            let mut bent = frame.clone();
            bent.0[at] ^= 1;
            assert_eq!(opens(&ring, 1, 2, 5, bent), None, "byte {at} is not covered");
        }
    }

    #[test]
    fn keyrings_refuse_twins_and_crowds() {
        let twins = [SecretKey::new([1; 32]), SecretKey::new([1; 32])];
        let ConfigError::Invalid(text) = Keyring::new("test", &twins, false).unwrap_err();
        assert!(text.contains("keys 1 and 2"), "{text}");
        let five: Vec<_> = (0..5).map(|i| SecretKey::new([i; 32])).collect();
        assert!(Keyring::new("test", &five, false).is_err());
        let ring = Keyring::new("test", &five[..1], true).unwrap();
        assert_eq!((ring.len(), ring.is_secure()), (2, true));
        assert!(!Keyring::new("test", &[], true).unwrap().is_secure());
    }

    #[test]
    fn key_texts() {
        let key = SecretKey::new(std::array::from_fn(|i| i as u8 * 7));
        let text = key.to_text();
        assert_eq!(SecretKey::from_text(&format!("{}\n", *text)).unwrap().0, key.0);
        assert_eq!(text.len(), "lastseen-key-1:".len() + 44);
        for (wrong, error) in [
            ("", KeyTextError::Prefix),
            ("lastseen-key-2:AAAA", KeyTextError::Prefix),
            ("lastseen-key-1:", KeyTextError::Base64),
            ("lastseen-key-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=", KeyTextError::Base64),
            ("lastseen-key-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA A=", KeyTextError::Base64),
        ] {
            assert_eq!(SecretKey::from_text(wrong).err(), Some(error), "{wrong}");
        }
        assert_eq!(format!("{key:?}"), "SecretKey(..)");
    }

    #[test]
    fn one_of_a_pair_leads() {
        let tags: Vec<Tag> = (0..40u8).map(|i| Tag([i; 8])).collect();
        let mut led = 0;
        for (i, a) in tags.iter().enumerate() {
            for b in &tags[..i] {
                assert_ne!(leads(*a, *b), leads(*b, *a));
                led += usize::from(leads(*a, *b));
            }
        }
        assert!((300..480).contains(&led), "{led} of 780");
    }

    #[test]
    fn reorder_127() {
        let mut window = ReplayWindow::default();
        window.mark(1000);
        assert!(window.check(1000 - 127) && !window.check(1000 - 128) && !window.check(1000));
        window.mark(1000 - 127);
        assert!(!window.check(1000 - 127) && window.check(1001));
        window.mark(1127);
        assert!(!window.check(1000) && window.check(1001));
        window.mark(u64::MAX);
        assert!(!window.check(u64::MAX));
    }

    #[test]
    fn overlong_and_huge_numbers_are_rejected() {
        let parse = |number: &[u8]| {
            let mut frame = vec![0x4C; 18];
            frame.extend_from_slice(number);
            frame.extend_from_slice(&[0; SEAL_LEN]);
            Header::parse(&frame).map(|(h, _)| h.number)
        };
        assert_eq!(parse(&[0x00]), Ok(0));
        assert_eq!(parse(&[0x80, 0x01]), Ok(128));
        assert_eq!(parse(&[0x80, 0x00]), Err(Reject::Decode));
        assert_eq!(parse(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F]), Ok((1 << 62) - 1));
        assert_eq!(parse(&[0xFF; 9]), Err(Reject::Decode));
        assert_eq!(Header::parse(&[0x4C; 20]), Err(Reject::Size));
        assert_eq!(Header::parse(&[]), Err(Reject::Size));
        assert_eq!(Header::parse(&[0x4D; 80]), Err(Reject::Version));
    }

    proptest! {
        #[test]
        fn headers_round_trip(hello: bool, key_id: u8, sender: [u8; 8], instance: u64, number in 0u64..NUMBER_LIMIT) {
            let kind = if hello { FrameKind::Hello } else { FrameKind::Bound };
            let header = Header { kind, key_id, sender: Tag(sender), instance: Instance(instance), number };
            let mut frame = Vec::new();
            header.encode(&mut frame);
            prop_assert_eq!(frame.len(), header.len());
            frame.extend_from_slice(&[0; SEAL_LEN]);
            prop_assert_eq!(Header::parse(&frame), Ok((header, header.len())));
        }

        #[test]
        fn the_window_agrees_with_a_set(numbers in prop::collection::vec(0u64..400, 0..300)) {
            let (mut window, mut seen, mut newest) = (ReplayWindow::default(), std::collections::BTreeSet::new(), 0);
            for n in numbers {
                let fresh = !seen.contains(&n) && n + 128 > newest;
                prop_assert_eq!(window.check(n), fresh);
                if fresh {
                    window.mark(n);
                    seen.insert(n);
                    newest = newest.max(n);
                }
            }
        }
    }
}
