//! The seal: keys, clear header, AEAD and replay window.

/// One run of a node: a random 64-bit id drawn at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(pub u64);

/// A node's name on the wire: 8 bytes, a keyed hash of its server id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; 8]);

/// A cluster key of 32 bytes, wiped from memory when dropped.
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> SecretKey {
        SecretKey(bytes)
    }
}

/// The cluster's keys, the first for sending, all for receiving.
#[derive(Debug)]
pub struct Keyring {}

#[allow(unused_variables)]
impl Keyring {
    /// The keys of `cluster`: `keys` (at most 4), the first for sending; with `insecure` (or no keys) also the
    /// key that the cluster's name alone gives, last.
    ///
    /// # Errors
    /// More than four keys, or two with the same key id (names both by position).
    pub fn new(cluster: &str, keys: &[SecretKey], insecure: bool) -> Result<Keyring, super::ConfigError> {
        todo!()
    }
    /// Whether frames are sent under a real key.
    pub fn is_secure(&self) -> bool { todo!() }
    /// The id of key `k`.
    pub fn id(&self, k: usize) -> u8 { todo!() }
}
