//! Plain counters of the core. The shell exports them; nothing in here allocates.

use std::time::Duration;

/// Why a datagram was rejected, in the order of the checks. A rejected datagram changes nothing but this counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// Shorter than a header and a tag, or longer than `max_datagram`.
    #[error("size")]
    Size,
    /// Not a wire version that this release speaks, or no lastseen datagram.
    #[error("version")]
    Version,
    /// A source that no node can have: port 0, multicast, broadcast, unspecified.
    #[error("source")]
    Source,
    /// Our own tag and instance.
    #[error("own")]
    Own,
    /// No key of ours has this id.
    #[error("key_id")]
    KeyId,
    /// No member of the roster has this tag.
    #[error("sender")]
    Sender,
    /// The seal does not open: forged, damaged, or meant for another node or instance.
    #[error("seal")]
    Seal,
    /// Authentic, but from an instance that is not, or no longer, the confirmed one.
    #[error("instance")]
    Instance,
    /// A number that was seen already, or is too old to tell.
    #[error("replay")]
    Replay,
    /// The body is no valid message.
    #[error("decode")]
    Decode,
    /// Authentic and well formed, but without meaning here (an id that contradicts the roster, say).
    #[error("meaning")]
    Meaning,
}

impl Reject {
    /// All reasons, in order.
    pub const ALL: [Reject; 11] = [
        Reject::Size,
        Reject::Version,
        Reject::Source,
        Reject::Own,
        Reject::KeyId,
        Reject::Sender,
        Reject::Seal,
        Reject::Instance,
        Reject::Replay,
        Reject::Decode,
        Reject::Meaning,
    ];

    /// The label in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reject::Size => "size",
            Reject::Version => "version",
            Reject::Source => "source",
            Reject::Own => "own",
            Reject::KeyId => "key_id",
            Reject::Sender => "sender",
            Reject::Seal => "seal",
            Reject::Instance => "instance",
            Reject::Replay => "replay",
            Reject::Decode => "decode",
            Reject::Meaning => "meaning",
        }
    }
}

/// What became of a question to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayResult {
    /// The peer answered by way of it.
    Answered,
    /// Nothing came.
    Silent,
    /// It cannot ask the peer either.
    Rejected,
}

impl RelayResult {
    /// All of them, in the order of the contract.
    pub const ALL: [RelayResult; 3] = [RelayResult::Answered, RelayResult::Silent, RelayResult::Rejected];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            RelayResult::Answered => "answered",
            RelayResult::Silent => "silent",
            RelayResult::Rejected => "rejected",
        }
    }
}

/// What went wrong with a datagram that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// Port unreachable: the host is up and no process listens.
    Refused,
    /// Host unreachable.
    HostUnreachable,
    /// Network unreachable.
    NetUnreachable,
    /// Longer than the path allows.
    TooBig,
    /// No room in a queue.
    NoBuffer,
    /// Not permitted (a local firewall, say).
    Permission,
    /// Anything else.
    Other,
}

impl SendErrorKind {
    /// All kinds, in the order of the contract.
    pub const ALL: [SendErrorKind; 7] = [
        SendErrorKind::Refused,
        SendErrorKind::HostUnreachable,
        SendErrorKind::NetUnreachable,
        SendErrorKind::TooBig,
        SendErrorKind::NoBuffer,
        SendErrorKind::Permission,
        SendErrorKind::Other,
    ];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            SendErrorKind::Refused => "refused",
            SendErrorKind::HostUnreachable => "host_unreachable",
            SendErrorKind::NetUnreachable => "net_unreachable",
            SendErrorKind::TooBig => "too_big",
            SendErrorKind::NoBuffer => "no_buffer",
            SendErrorKind::Permission => "permission",
            SendErrorKind::Other => "other",
        }
    }
}

/// Where the error about a sent datagram comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorSource {
    /// This host: the system call that sends the datagram failed.
    ThisHost,
    /// The host to which the datagram was sent: its own address sent the ICMP error.
    Peer,
    /// Any other host, or an unknown one: a router or a firewall.
    Network,
}

impl ErrorSource {
    /// All sources.
    pub const ALL: [ErrorSource; 3] = [ErrorSource::ThisHost, ErrorSource::Peer, ErrorSource::Network];

    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorSource::ThisHost => "this_host",
            ErrorSource::Peer => "peer",
            ErrorSource::Network => "network",
        }
    }
}

/// Everything the core counts, since its start. Bytes are UDP payload.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Heartbeats begun by a ping or a hello of ours (first tries).
    pub heartbeats_sent: u64,
    /// Heartbeats that timed out.
    pub heartbeats_missed: u64,
    /// Tries after the first.
    pub heartbeat_retries: u64,
    /// Questions to other nodes about a silent peer, by what became of them (index: `RelayResult as usize`).
    pub relays: [u64; RelayResult::ALL.len()],
    /// Changes of a peer's status, by the new one (index: `PeerStatus as usize`).
    pub transitions: [u64; 3],
    /// New instances of peers.
    pub restarts: u64,
    /// Downs whose peer came back as the same instance, without having told a pause.
    pub false_downs: u64,
    /// Buckets of records that differed for a while and were synced.
    pub syncs: u64,
    /// Datagrams that came in.
    pub datagrams_received: u64,
    /// Datagrams that went out.
    pub datagrams_sent: u64,
    /// Bytes that came in.
    pub received_bytes: u64,
    /// Bytes that went out.
    pub sent_bytes: u64,
    /// Datagrams rejected, by reason (index: `Reject as usize`).
    pub rejected: [u64; Reject::ALL.len()],
    /// Datagrams the kernel dropped from the socket's receive queue.
    pub socket_drops: u64,
    /// Datagrams the kernel kept out of that queue, since they were not as expected and it overflowed.
    pub socket_filtered: u64,
    /// Times the loop woke later than planned.
    pub stalls: u64,
    /// The sum of these delays.
    pub stalled: Duration,
    /// Datagrams that were dropped because the shell did not drain them: their queue is bounded.
    pub outputs_dropped: u64,
    /// Events about peers that were dropped because too many came at once, or the shell did not drain them.
    pub events_dropped: u64,
    /// Errors of datagrams sent, by kind (index: `SendErrorKind as usize`).
    pub send_errors: [u64; SendErrorKind::ALL.len()],
}

impl Stats {
    pub(crate) fn reject(&mut self, reason: Reject) -> Reject {
        let count = &mut self.rejected[reason as usize];
        *count = count.saturating_add(1);
        reason
    }
}
