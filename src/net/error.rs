//! What can go wrong at the start of the shell.

use std::io;
use std::net::SocketAddr;

use crate::proto::ConfigError;

/// Why the shell could not start; nothing runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address could not be bound, or the runtime cannot watch the socket.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The system gave no random bits.
    #[error("the operating system gave no random bits: {0}")]
    Random(String),
}
