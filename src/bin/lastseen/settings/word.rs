//! The words of `on`: what a hook waits for.

use lastseen::proto::{Change, Event, PeerStatus, Verdict};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A peer comes into this status. Suspected and Down count only where that is an alarm.
    Status(PeerStatus),
    /// A peer comes under this verdict.
    Verdict(Verdict),
    /// The quorum is gained, or lost.
    Quorum(bool),
    /// A mass loss begins, or is over.
    MassLoss(bool),
    /// An event of this type.
    Kind(&'static str),
}

/// Types of events that are words themselves.
const KINDS: [&str; 10] =
    ["restart", "leave", "drain", "migrate", "service", "address", "self", "roster", "reload", "key"];

impl Word {
    /// All there are. The status `down` stands for the verdict of that name too: a peer that is `refused` is down as well.
    pub(crate) fn all() -> impl Iterator<Item = Word> {
        let verdicts =
            Verdict::ALL.into_iter().filter(|verdict| *verdict != Verdict::Down).map(Word::Verdict);
        let cluster = [true, false].into_iter().flat_map(|is| [Word::Quorum(is), Word::MassLoss(is)]);
        let kinds = KINDS.into_iter().map(Word::Kind);
        PeerStatus::ALL.into_iter().rev().map(Word::Status).chain(verdicts).chain(cluster).chain(kinds)
    }

    /// As it is written.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Word::Status(status) => status.as_str(),
            Word::Verdict(verdict) => verdict.as_str(),
            Word::Quorum(true) => "quorum_gained",
            Word::Quorum(false) => "quorum_lost",
            Word::MassLoss(true) => "mass_loss",
            Word::MassLoss(false) => "mass_loss_over",
            Word::Kind(kind) => kind,
        }
    }

    /// Whether this is what happened, and over with that.
    pub(crate) fn is_told_by(self, event: &Event) -> bool {
        match (self, &event.change) {
            (Word::Quorum(wanted), Change::Quorum { available }) => wanted == *available,
            (Word::MassLoss(wanted), Change::MassLoss { begins }) => wanted == *begins,
            (Word::Kind(kind), change) => kind == change.kind(),
            _ => false,
        }
    }

    /// Whether a peer is so.
    pub(crate) fn holds(self, of: Standing) -> bool {
        match self {
            Word::Status(PeerStatus::Healthy) => of.status == PeerStatus::Healthy,
            // The rule of `is_degraded`: who left, or was never heard, is no alarm.
            Word::Status(status) => of.status == status && of.verdict.is_alarm(status),
            Word::Verdict(verdict) => of.verdict == verdict,
            _ => false,
        }
    }

    /// Whether a peer can be so for a while.
    pub(crate) fn is_lasting(self) -> bool {
        matches!(self, Word::Status(_) | Word::Verdict(_))
    }

    /// Whether it says that all is well again.
    pub(crate) fn is_all_clear(self) -> bool {
        matches!(self, Word::Status(PeerStatus::Healthy) | Word::Verdict(Verdict::Up))
    }
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) status: PeerStatus,
    pub(crate) verdict: Verdict,
}

impl Standing {
    /// What is presumed of whom no event tells otherwise. So nobody is back who was not away.
    pub(crate) const FINE: Standing = Standing { status: PeerStatus::Healthy, verdict: Verdict::Up };

    /// What is known after `event`.
    pub(crate) fn after(self, event: &Event) -> Standing {
        let verdict = event.verdict.unwrap_or(self.verdict);
        match event.change {
            Change::Status { to, .. } => Standing { status: to, verdict },
            Change::Verdict { to, .. } => Standing { verdict: to, ..self },
            _ => self,
        }
    }
}
