//! The one loop.

use std::fmt;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::error::NetError;
use super::handle::Handle;
use crate::proto::{Keyring, PeerConfig};

/// What the shell is told beside the core's configuration.
#[derive(Default)]
pub struct Options {
    /// Called with every round-trip time measured (for a histogram).
    pub on_rtt: Option<Box<dyn FnMut(Duration) + Send>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

/// Binds `config.listen_address` and starts the loop as one task of the current tokio runtime.
///
/// # Errors
/// See [`NetError`]; nothing runs then.
pub async fn spawn(
    _config: PeerConfig,
    _keys: Keyring,
    _options: Options,
) -> Result<(Handle, JoinHandle<()>), NetError> {
    todo!()
}
