//! The cluster's keys, and what is derived from them.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::{FrameKey, Instance, Tag};
use crate::proto::config::ConfigError;

/// The most keys of a cluster.
pub const MAX_KEYS: usize = 4;
/// What a key file's line begins with.
const KEY_PREFIX: &str = "lastseen-key-1:";

/// More of the stack than the derivation of a key takes, in bytes.
const STACK: usize = 32 * 1024;

/// A cluster key of 32 bytes, wiped from memory when dropped. It stays where it is when this is moved: a move would leave
/// a copy behind.
pub struct SecretKey(pub(super) Box<[u8; 32]>);

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
    pub fn new(mut bytes: [u8; 32]) -> SecretKey {
        let key = SecretKey(Box::new(bytes));
        bytes.zeroize();
        key
    }

    /// Reads the text of a key file: one line, `lastseen-key-1:` and base64 of 32 bytes.
    ///
    /// # Errors
    /// What is wrong with it; the text is not quoted.
    pub fn from_text(text: &str) -> Result<SecretKey, KeyTextError> {
        let line = text.trim_end_matches(['\n', '\r']);
        let encoded = line.strip_prefix(KEY_PREFIX).ok_or(KeyTextError::Prefix)?;
        let mut key = SecretKey(Box::new([0; 32]));
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
    insecure: bool,
    #[cfg(feature = "sim")]
    cheap: bool,
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
        let insecure = insecure || keys.is_empty();
        if insecure {
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
        Ok(Keyring {
            roots,
            secure: !keys.is_empty(),
            insecure,
            #[cfg(feature = "sim")]
            cheap: false,
        })
    }

    /// From now on frames get a checksum for a seal: the simulator alone may call this.
    #[cfg(feature = "sim")]
    pub(crate) fn seal_cheaply(&mut self) {
        self.cheap = true;
        (self.secure, self.insecure) = (false, true);
    }

    /// Whether frames are sent under a real key.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether frames under the key that the cluster's name alone gives, which anybody can make, are accepted.
    pub fn is_insecure(&self) -> bool {
        self.insecure
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

    /// The ids of all keys, in their order.
    pub fn ids(&self) -> impl Iterator<Item = u8> {
        self.roots.iter().map(|root| root.id)
    }

    /// The key with this id.
    pub fn index_of_id(&self, id: u8) -> Option<usize> {
        self.roots.iter().position(|root| root.id == id)
    }

    /// Where another keyring has key `k`.
    pub(crate) fn place_in(&self, k: usize, other: &Keyring) -> Option<usize> {
        let same = |root: &Root| root.id == self.roots[k].id && root.frame_key == self.roots[k].frame_key;
        other.roots.iter().position(same)
    }

    /// The tag of `server_id` under key `k`.
    pub fn tag(&self, k: usize, server_id: &str) -> Tag {
        let hash = blake3::keyed_hash(&self.roots[k].tag_key, server_id.as_bytes());
        let mut tag = [0; 8];
        tag.copy_from_slice(&hash.as_bytes()[..8]);
        Tag(tag)
    }

    /// The tags of `server_id`, one for each key.
    pub(crate) fn tags(&self, server_id: &str) -> Vec<Tag> {
        (0..self.len()).map(|k| self.tag(k, server_id)).collect()
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
        #[cfg(feature = "sim")]
        if self.cheap {
            return FrameKey::cheap(&key);
        }
        FrameKey::new(&key)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.roots.len()).field("secure", &self.secure).finish()
    }
}

impl Root {
    /// See [`derive`](Root::derive). Nothing of the key stays behind.
    fn new(cluster: &str, key: Option<&SecretKey>) -> Root {
        let root = Root::derive(cluster, key);
        if key.is_some() {
            wipe_stack();
        }
        root
    }

    /// root = derive_key(context, len(cluster) as u8 | cluster | key); without a key another context.
    #[inline(never)]
    fn derive(cluster: &str, key: Option<&SecretKey>) -> Root {
        let context = match key {
            Some(_) => "lastseen wire v1 root",
            None => "lastseen wire v1 insecure root",
        };
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&[u8::try_from(cluster.len()).unwrap_or(u8::MAX)]);
        hasher.update(cluster.as_bytes());
        if let Some(key) = key {
            hasher.update(&*key.0);
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

/// Wipes what functions that have returned left on the stack: hashers keep their input.
#[inline(never)]
fn wipe_stack() {
    [0u8; STACK].zeroize();
}
