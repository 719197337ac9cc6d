//! The connection pool.

/// One UDP endpoint.
#[derive(Debug)]
pub struct PeerConnection {}

/// All endpoints.
#[derive(Debug)]
pub struct ConnectionPool {}
