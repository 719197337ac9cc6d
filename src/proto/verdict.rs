//! The operator's answer about a peer.

/// Status plus cause. Exactly one holds for a peer: the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It said that it leaves.
    Left,
    /// Another process speaks under its id.
    Conflict,
    /// Its datagrams are sealed with a key that this node lacks, and it was never heard otherwise.
    KeyMismatch,
    /// It speaks no wire version of this node's, and was never heard otherwise.
    ConfigMismatch,
    /// Never heard.
    Unknown,
    /// Its host answers that the port is closed.
    Refused,
    /// Silent.
    Down,
    /// Heard, but it does not hear this node.
    OneWay,
    /// It told that it slept.
    Paused,
    /// Fine.
    Up,
}

impl Verdict {
    /// All verdicts, in the order in which they apply.
    pub const ALL: [Verdict; 10] = [
        Verdict::Left,
        Verdict::Conflict,
        Verdict::KeyMismatch,
        Verdict::ConfigMismatch,
        Verdict::Unknown,
        Verdict::Refused,
        Verdict::Down,
        Verdict::OneWay,
        Verdict::Paused,
        Verdict::Up,
    ];

    /// The name in JSON, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Left => "left",
            Verdict::Conflict => "conflict",
            Verdict::KeyMismatch => "key_mismatch",
            Verdict::ConfigMismatch => "config_mismatch",
            Verdict::Unknown => "unknown",
            Verdict::Refused => "refused",
            Verdict::Down => "down",
            Verdict::OneWay => "one_way",
            Verdict::Paused => "paused",
            Verdict::Up => "up",
        }
    }
}
