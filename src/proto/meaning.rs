//! What a verdict means, and where to look: the second sentence of an explanation, and the rule behind it.

use std::borrow::Cow;

use super::messages::LeaveReason;
use super::peer::PeerStatus;
use super::stats::{ErrorSource, SendErrorKind};
use super::verdict::{Age, Evidence, Isolation, Verdict};

/// The rule of the verdict `isolated`.
pub(super) const ISOLATED: &str = "isolated: this node is isolated, and misses it";

/// The rule of the verdict `draining`.
pub(super) const DRAINING: &str = "draining: its profile says so, until a time that is not over";

/// What a drain means for a peer of this status.
pub(super) fn drain(status: PeerStatus) -> &'static str {
    match status {
        PeerStatus::Healthy => "It answers; as long as it drains, its absence raises no alarm.",
        _ => "It said so before it went; when the drain is over, its absence is an alarm.",
    }
}

impl Isolation {
    /// What it means, and where to look.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Isolation::Quiet(_) => {
                "Nothing at all reaches this node, so it can tell nothing of others: look at its own network first."
            }
            Isolation::CutOff => {
                "Who still talks with this node hears whom it misses: look at this node's own network first."
            }
        }
    }
}

impl Evidence {
    /// What the verdict means, and where to look: one whole sentence.
    pub(crate) fn meaning(&self) -> Cow<'static, str> {
        let text = match self.verdict() {
            Verdict::Isolated => self.isolated.map_or("", Isolation::meaning),
            Verdict::Left => return self.good_bye(),
            Verdict::Draining => drain(self.status),
            Verdict::Conflict => "Two processes use one id: stop one of them, or give it an id of its own.",
            Verdict::KeyMismatch => "It is there, sealed with another key: compare the key files.",
            Verdict::ConfigMismatch if self.differs() => {
                "It lives; its roster or its settings are not this node's: roll one file out to all."
            }
            Verdict::Mtu => {
                "It lives; long datagrams do not pass: look at the MTU of every hop, and at tunnels."
            }
            Verdict::ConfigMismatch => "It is there, in another wire version: compare the releases.",
            Verdict::Unknown => return self.stranger(),
            Verdict::Refused => {
                "Its machine and the network are there; the daemon has ended, or a firewall refuses the port."
            }
            Verdict::Down => return self.death(),
            Verdict::LinkDown => "It lives; what is cut is the path between it and this node.",
            Verdict::OneWay if self.direct => {
                "Its datagrams arrive here, and this node's do not arrive there: look at the path from here to it."
            }
            Verdict::OneWay => {
                "This node's datagrams arrive there, and its own do not arrive here: look at the path from it to here."
            }
            Verdict::Lossy => "It lives; datagrams are lost on the way, so that heartbeats need more tries.",
            Verdict::Paused => "Its process was stopped or starved of CPU, or its machine was suspended.",
            Verdict::Up if self.status == PeerStatus::Suspected => {
                return Cow::Owned(format!(
                    "It is late by every route; at {} misses in a row it is Down.",
                    self.down_after
                ));
            }
            Verdict::Up if self.heard.is_none() => "Others hear it; this node has just started.",
            Verdict::Up if self.missed > 0 => "One miss may be chance.",
            Verdict::Up if self.says.miss > 0 => {
                let (miss, observers) = (self.says.miss, self.says.observers());
                return Cow::Owned(format!("It answers this node; {miss} of {observers} miss it."));
            }
            Verdict::Up => "It answers, and nobody says otherwise.",
        };
        Cow::Borrowed(text)
    }

    fn good_bye(&self) -> Cow<'static, str> {
        match self.left {
            Some((LeaveReason::Restart, age)) => {
                let rest = self.leave_grace.saturating_sub(age);
                Cow::Owned(format!("It is expected back; in {} its absence becomes an alarm.", Age(rest)))
            }
            Some((LeaveReason::Removal, _)) => {
                Cow::Borrowed("It is not expected back: take it off the rosters.")
            }
            None => Cow::Borrowed("It told its observers that it leaves."),
        }
    }

    /// Of a peer that was never heard.
    fn stranger(&self) -> Cow<'static, str> {
        let text = match () {
            _ if self.address.is_none() => {
                "Nothing was sent to it: look at its name in the roster and in DNS."
            }
            _ if self.isolated.is_some() => "This node hears nobody: look at its own network first.",
            _ if self.says.votes() > 0 => "This node has just started, and others miss it.",
            _ => "Either it was not started yet, or nothing passes between it and this node.",
        };
        Cow::Borrowed(text)
    }

    /// Of a peer that is down.
    fn death(&self) -> Cow<'static, str> {
        let foreign = |count: u64, what: &str| {
            Cow::Owned(format!(
                "Something is there: {count} datagrams came from its address {what} that this node lacks."
            ))
        };
        match self.error {
            _ if self.address.is_none() => {
                "Nothing was sent to it: look at its name in the roster and in DNS.".into()
            }
            _ if self.foreign_keys > 0 => foreign(self.foreign_keys, "under a key"),
            _ if self.foreign_versions > 0 => foreign(self.foreign_versions, "in a wire version"),
            _ if self.says.hear > 0 => Cow::Owned(format!(
                "{} of {} still hear it, but none of them could prove it to this node.",
                self.says.hear,
                self.says.observers()
            )),
            _ if self.left.is_some() => "It announced a restart, and more than leave_grace has passed.".into(),
            Some((kind, ErrorSource::ThisHost)) => Cow::Owned(format!(
                "This host refused to send to its address ({}): look at this node's firewall, routes and buffers first.",
                kind.as_str()
            )),
            Some((SendErrorKind::Refused, ErrorSource::Peer)) => {
                "Its host refused the port at first, and is silent now.".into()
            }
            Some((kind, _)) => Cow::Owned(format!(
                "The network answered {} for its address: its machine, or the way to it, is gone.",
                kind.as_str()
            )),
            None => "Nothing answered for its address (no port unreachable), so the machine or its network is gone, \
                     not only the daemon."
                .into(),
        }
    }

    /// The rule by which the verdict holds, behind its name.
    pub(crate) fn rule(&self) -> &'static str {
        match self.verdict() {
            Verdict::Isolated => ISOLATED,
            Verdict::Left => "left: it said so, for good, or less than leave_grace ago",
            Verdict::Draining => DRAINING,
            Verdict::Conflict => "conflict: an earlier run of it spoke within a minute",
            Verdict::KeyMismatch => "key_mismatch: never heard, but another key is used there",
            Verdict::ConfigMismatch if self.differs() => "config_mismatch: its profile tells another hash",
            Verdict::Mtu => "mtu: eight padded pings or their answers were lost, and no small ones",
            Verdict::ConfigMismatch => "config_mismatch: never heard, but another wire version is there",
            Verdict::Unknown => "unknown: never heard by anybody",
            Verdict::Refused => "refused: not healthy, and its host refused a try lately",
            Verdict::Down if self.says.down >= self.says.observers() - self.says.unknown => {
                "down: all credible observers miss it"
            }
            Verdict::Down => "down: down_after heartbeats in a row missed, by every route",
            Verdict::LinkDown => "link_down: others hear it, and down_after heartbeats had no echo",
            Verdict::OneWay => "one_way: no echo in down_after heartbeats, and one hears the other",
            Verdict::Lossy => "lossy: 8 of the last 64 datagrams were lost, until at most 3 are",
            Verdict::Paused => "paused: it told within down_after intervals that it slept",
            Verdict::Up if self.status == PeerStatus::Suspected => {
                "suspected: suspect_after heartbeats in a row were missed"
            }
            Verdict::Up => "up: nothing else applies",
        }
    }
}
