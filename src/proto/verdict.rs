//! The operator's answer about a peer: a pure function from evidence to verdict and sentence.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::drain::Draining;
use super::fusion;
use super::messages::LeaveReason;
use super::peer::PeerStatus;
use super::picture::Says;
use super::stats::SendErrorKind;

/// Status plus cause. Exactly one holds for a peer: the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// This node is isolated and misses it: not the peer is at fault, but this node.
    Isolated,
    /// It said that it leaves.
    Left,
    /// It said that it may go away, and that time is not over: before all that follows while it is missed, else after it.
    Draining,
    /// Another process speaks under its id.
    Conflict,
    /// Its datagrams are sealed with a key that this node lacks, and it was never heard otherwise.
    KeyMismatch,
    /// It speaks no wire version of this node's, and was never heard otherwise.
    ConfigMismatch,
    /// Never heard by anybody.
    Unknown,
    /// Its host answers that the port is closed.
    Refused,
    /// Silent.
    Down,
    /// This node does not hear it, another one does.
    LinkDown,
    /// Heard, but it does not hear this node.
    OneWay,
    /// Small datagrams pass, those as long as they may be do not.
    Mtu,
    /// Eight of the last 64 datagrams, both ways together, were lost, and since then more than three.
    Lossy,
    /// It told that it slept.
    Paused,
    /// Fine.
    Up,
}

impl Verdict {
    /// All verdicts, in the order in which they apply.
    pub const ALL: [Verdict; 15] = [
        Verdict::Isolated,
        Verdict::Left,
        Verdict::Draining,
        Verdict::Conflict,
        Verdict::KeyMismatch,
        Verdict::ConfigMismatch,
        Verdict::Unknown,
        Verdict::Refused,
        Verdict::Down,
        Verdict::LinkDown,
        Verdict::OneWay,
        Verdict::Mtu,
        Verdict::Lossy,
        Verdict::Paused,
        Verdict::Up,
    ];

    /// Whether a peer of this verdict and status is a reason to call the cluster degraded: not Healthy, and neither
    /// announced nor never heard.
    pub fn is_alarm(self, status: PeerStatus) -> bool {
        status != PeerStatus::Healthy && !self.is_announced() && self != Verdict::Unknown
    }

    /// Whether the peer itself said so before: its absence is meant.
    pub fn is_announced(self) -> bool {
        matches!(self, Verdict::Left | Verdict::Draining)
    }

    /// The name in JSON, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Isolated => "isolated",
            Verdict::Left => "left",
            Verdict::Draining => "draining",
            Verdict::Conflict => "conflict",
            Verdict::KeyMismatch => "key_mismatch",
            Verdict::ConfigMismatch => "config_mismatch",
            Verdict::Unknown => "unknown",
            Verdict::Refused => "refused",
            Verdict::Down => "down",
            Verdict::LinkDown => "link_down",
            Verdict::OneWay => "one_way",
            Verdict::Mtu => "mtu",
            Verdict::Lossy => "lossy",
            Verdict::Paused => "paused",
            Verdict::Up => "up",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a leave, of this reason and age, is the verdict still: one for good is, one for a restart for so long.
pub(crate) fn is_excused((why, age): (LeaveReason, Duration), grace: Duration) -> bool {
    why == LeaveReason::Removal || age < grace
}

/// What is left of a drain, and why it is.
pub(crate) fn said_of(draining: Option<&Draining>) -> String {
    draining.map(Draining::to_string).unwrap_or_default()
}

/// Two hashes that differ: the peer's, and this node's.
pub(crate) type Differing = ([u8; 4], [u8; 4]);

/// Which hashes differ, with both sides named.
pub(crate) fn difference(roster: Option<Differing>, config: Option<Differing>) -> String {
    let part = |(what, differs): (&str, Option<Differing>)| {
        let hex = |bytes: [u8; 4]| bytes.iter().rev().map(|b| format!("{b:02x}")).collect::<String>();
        let (its, own) = differs?;
        Some(format!("its {what} hash to …{}, this node's to …{}", hex(its), hex(own)))
    };
    let parts = [("roster's names", roster), ("settings", config)];
    parts.into_iter().filter_map(part).collect::<Vec<_>>().join("; ")
}

/// All verdicts that apply, in order; `up` only alone. What weighs least: the profile tells another roster or other settings
/// (`differs`), or a drain of a peer that is there (`drains`).
pub(crate) fn apply(
    applies: impl Fn(Verdict) -> bool,
    differs: bool,
    drains: bool,
) -> impl Iterator<Item = Verdict> {
    let last = [(Verdict::ConfigMismatch, differs), (Verdict::Draining, drains)]
        .map(|(verdict, is_so)| (is_so && !applies(verdict)).then_some(verdict));
    let graver = Verdict::ALL.into_iter().filter(move |v| *v != Verdict::Up && applies(*v));
    let mut all = graver.chain(last.into_iter().flatten()).peekable();
    let fine = all.peek().is_none().then_some(Verdict::Up);
    all.chain(fine)
}

/// Why this node calls itself isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Nothing authentic came from anybody for so long.
    Quiet(Duration),
    /// It misses most nodes, and most of those that it hears say that they hear them.
    CutOff,
}

impl Isolation {
    /// What speaks against this node, and for whom it misses.
    pub(crate) fn sentence(self) -> String {
        match self {
            Isolation::Quiet(quiet) => {
                format!("not it: me; nothing authentic came to this node from anybody for {}", Age(quiet))
            }
            Isolation::CutOff => {
                "not it: me; this node misses most others, and those that it hears hear them".to_owned()
            }
        }
    }
}

/// All that is known of a peer at one moment. Ages are times since.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) status: PeerStatus,
    /// Whether this node is isolated, and why it thinks so.
    pub(crate) isolated: Option<Isolation>,
    pub(crate) address: Option<SocketAddr>,
    /// Since the newest proof of life; `None`: never heard here.
    pub(crate) heard: Option<Duration>,
    pub(crate) missed: u32,
    pub(crate) down_after: u32,
    /// What `down_after` intervals are.
    pub(crate) recent: Duration,
    pub(crate) link_active: bool,
    pub(crate) unechoed: u32,
    /// Whether something that it sent itself came lately.
    pub(crate) direct: bool,
    /// Since the newest proof of life by way of another node.
    pub(crate) relayed: Option<Duration>,
    /// What its observers say, this node among them.
    pub(crate) says: Says,
    /// Whether it says that it hears this node, and is not heard.
    pub(crate) hears_me: bool,
    /// Whether this node misses it, and others have heard it since.
    pub(crate) heard_elsewhere: bool,
    /// Whether the link loses datagrams, and the shares lost of what comes and of what goes.
    pub(crate) lossy: bool,
    pub(crate) loss: Option<(f64, f64)>,
    /// Long datagrams do not pass: so many padded pings were lost in a row; 0: the peer says it of its own.
    pub(crate) narrow: Option<u32>,
    /// How long a datagram may be.
    pub(crate) longest: usize,
    pub(crate) rtt: Option<Duration>,
    /// Why and how long ago it left.
    pub(crate) left: Option<(LeaveReason, Duration)>,
    pub(crate) leave_grace: Duration,
    /// Since its host last refused, if nothing was heard since.
    pub(crate) refused: Option<Duration>,
    /// How long a refusal speaks for the present: two of the longest spacings.
    pub(crate) refused_for: Duration,
    /// What the network last said of its address, if that was within a minute.
    pub(crate) error: Option<SendErrorKind>,
    pub(crate) conflict: bool,
    pub(crate) foreign_keys: u64,
    pub(crate) foreign_versions: u64,
    /// How long it slept, and how long ago it told so.
    pub(crate) paused: Option<(Duration, Duration)>,
    /// What its profile tells and differs from this node's: the hashes of the roster and of the settings, its own first.
    pub(crate) roster_differs: Option<Differing>,
    pub(crate) config_differs: Option<Differing>,
    /// Its drain, if it drains.
    pub(crate) draining: Option<Draining>,
}

impl Evidence {
    fn applies(&self, verdict: Verdict) -> bool {
        match verdict {
            // Who said good-bye, or never came, is not missed.
            Verdict::Isolated => {
                let misses = self.status != PeerStatus::Healthy || !self.link_active;
                let gone = self.left.is_some() || self.is_told_left();
                self.isolated.is_some() && misses && !gone && !self.is_unknown()
            }
            Verdict::Left => {
                self.left.is_some_and(|left| is_excused(left, self.leave_grace)) || self.is_told_left()
            }
            Verdict::Draining => self.draining.is_some() && self.status != PeerStatus::Healthy,
            Verdict::Conflict => self.conflict,
            Verdict::KeyMismatch => self.heard.is_none() && self.foreign_keys > 0,
            Verdict::ConfigMismatch => self.heard.is_none() && self.foreign_versions > 0,
            Verdict::Unknown => self.is_unknown(),
            Verdict::Refused => {
                self.status != PeerStatus::Healthy && self.refused.is_some_and(|age| age < self.refused_for)
            }
            Verdict::Down => self.status == PeerStatus::Down && !self.heard_elsewhere,
            Verdict::LinkDown => self.is_cut() && !self.is_one_way(),
            Verdict::OneWay => self.is_cut() && self.is_one_way(),
            Verdict::Mtu => self.status == PeerStatus::Healthy && self.link_active && self.narrow.is_some(),
            Verdict::Lossy => self.status == PeerStatus::Healthy && self.link_active && self.lossy,
            Verdict::Paused => self.paused.is_some_and(|(_, age)| age < self.recent),
            Verdict::Up => true,
        }
    }

    /// Never heard by anybody. While this node could not have heard it yet, that others miss it says nothing for or against.
    fn is_unknown(&self) -> bool {
        let told = if self.status == PeerStatus::Healthy { self.says.hear } else { self.says.votes() };
        self.heard.is_none() && told == 0
    }

    /// It left before this node could hear it, and told others so.
    fn is_told_left(&self) -> bool {
        self.heard.is_none() && self.left.is_none() && self.says.hear == 0 && fusion::say_left(self.says)
    }

    /// It lives, and the link to it is known to be cut.
    fn is_cut(&self) -> bool {
        self.heard_elsewhere || self.status == PeerStatus::Healthy && !self.link_active
    }

    /// Its profile tells another roster or other settings.
    pub(super) fn differs(&self) -> bool {
        self.roster_differs.is_some() || self.config_differs.is_some()
    }

    fn is_one_way(&self) -> bool {
        self.direct || self.hears_me
    }

    /// The first verdict that applies.
    pub(crate) fn verdict(&self) -> Verdict {
        self.all().next().unwrap_or(Verdict::Up)
    }

    /// All verdicts that apply, in order.
    pub(crate) fn conditions(&self) -> Vec<Verdict> {
        self.all().collect()
    }

    fn all(&self) -> impl Iterator<Item = Verdict> {
        apply(|v| self.applies(v), self.differs(), self.draining.is_some())
    }

    /// The sentence that explains the verdict.
    pub(crate) fn sentence(&self) -> String {
        match self.verdict() {
            Verdict::Isolated => self.isolated.map_or_else(String::new, Isolation::sentence),
            Verdict::Left => {
                let Some((why, age)) = self.left else { return fusion::said_to(self.says) };
                let what = if why == LeaveReason::Restart { "for a restart" } else { "for good" };
                format!("said {} ago that it leaves {what}", Age(age))
            }
            Verdict::Draining => said_of(self.draining.as_ref()),
            Verdict::Conflict => {
                "another process speaks under its id: an earlier run of it still sends".to_owned()
            }
            Verdict::KeyMismatch => format!(
                "never heard under a key of this node's, but {} datagrams came from its address under another key",
                self.foreign_keys
            ),
            Verdict::ConfigMismatch if self.differs() => difference(self.roster_differs, self.config_differs),
            Verdict::ConfigMismatch => format!(
                "never heard, but {} datagrams came from its address in another wire version",
                self.foreign_versions
            ),
            Verdict::Unknown if self.address.is_none() => "never heard: its name does not resolve".to_owned(),
            Verdict::Unknown => "never heard since this node's start".to_owned(),
            Verdict::Refused => format!(
                "its host answers, but refuses port {}: the process is gone; {}",
                self.address.map_or(0, |a| a.port()),
                self.silence()
            ),
            Verdict::Down => match self.left {
                Some((_, age)) => format!("left {} ago, has not come back", Age(age)),
                None if self.is_unanimous() => self.said(),
                None => format!("{}; {}", self.silence(), self.said()),
            },
            Verdict::OneWay if self.direct => format!(
                "heard {} ago, but for {} heartbeats it echoed nothing of this node's: it does not hear me",
                Age(self.heard.unwrap_or_default()),
                self.unechoed
            ),
            Verdict::OneWay => format!(
                "it says that it hears this node, but for {} heartbeats nothing of it came here: I do not hear it",
                self.unechoed
            ),
            Verdict::LinkDown if self.says.hear > 0 => format!(
                "{} of {} miss it, this node among them; {} hear it",
                self.says.miss.max(1),
                self.says.observers(),
                self.says.hear
            ),
            Verdict::LinkDown => format!(
                "others hear it, the last one {} ago, but for {} heartbeats nothing passes between it and this node",
                Age(self.relayed.unwrap_or_default()),
                self.unechoed
            ),
            Verdict::Mtu => self.what_is_too_long(),
            Verdict::Lossy => {
                let (came, went) = self.loss.unwrap_or_default();
                format!(
                    "lost are {:.0} % of what comes from it and {:.0} % of what goes to it, of the last 64 datagrams each",
                    came * 100.0,
                    went * 100.0
                )
            }
            Verdict::Paused => {
                let (length, age) = self.paused.unwrap_or_default();
                format!("told {} ago that it slept {}", Age(age), Age(length))
            }
            Verdict::Up => self.fine(),
        }
    }

    fn fine(&self) -> String {
        match (self.heard, self.rtt) {
            _ if self.missed > 0 => self.silence(),
            (None, _) => {
                let (hear, observers) = (self.says.hear, self.says.observers());
                format!("not heard since this node's start; {hear} of {observers} hear it")
            }
            (Some(_), Some(rtt)) => format!("answers, round trip {:.1} ms", rtt.as_secs_f64() * 1e3),
            _ => "heard".to_owned(),
        }
    }

    fn what_is_too_long(&self) -> String {
        let what =
            format!("pings of {} bytes do not pass, small ones do: the path's MTU is smaller", self.longest);
        match self.narrow.unwrap_or(0) {
            0 => format!("it says that its {what}"),
            lost => format!("{what}; lost {lost} of the last {lost}"),
        }
    }

    /// Whether all that observe it call it Down.
    fn is_unanimous(&self) -> bool {
        self.says.down > 0 && self.says.down == self.says.observers()
    }

    /// What the observers say of a peer that is down.
    fn said(&self) -> String {
        let Says { down, unknown, .. } = self.says;
        let observers = self.says.observers();
        // The votes may be older than what this node itself has just found.
        let down = down.max(1);
        match () {
            () if observers == 0 => "nobody else observes it".to_owned(),
            () if observers == 1 => "silent to this node, the only one that observes it".to_owned(),
            () if down == observers => format!("silent to all {observers} that observe it"),
            () if unknown == 0 => format!("{down} of {observers} say down"),
            () => format!("{down} of {observers} say down, {unknown} have no say"),
        }
    }

    fn silence(&self) -> String {
        let heard = match self.heard {
            Some(age) => format!("last proof of life {} ago", Age(age)),
            None => "not heard since this node's start".to_owned(),
        };
        format!("{} heartbeats missed in a row (Down at {}), {heard}", self.missed, self.down_after)
    }
}

/// A duration as people say it: `0.3 s`, `42 s`, `9 min`, `4 h 2 min`, `12 d 4 h`.
pub(super) struct Age(pub(super) Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0.as_secs();
        match s {
            0..10 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            10..120 => write!(f, "{s} s"),
            120..7200 => write!(f, "{} min", s / 60),
            7200..172_800 => write!(f, "{} h {} min", s / 3600, s % 3600 / 60),
            _ => write!(f, "{} d {} h", s / 86_400, s % 86_400 / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::drain::{Drain, Reason};

    const SECOND: Duration = Duration::from_secs(1);

    fn fine() -> Evidence {
        Evidence {
            status: PeerStatus::Healthy,
            isolated: None,
            address: Some(([10, 0, 0, 7], 5278).into()),
            heard: Some(SECOND / 2),
            missed: 0,
            down_after: 5,
            recent: SECOND * 5,
            link_active: true,
            unechoed: 0,
            direct: true,
            relayed: None,
            says: Says { healthy: 4, hear: 4, ..Says::default() },
            hears_me: false,
            heard_elsewhere: false,
            lossy: false,
            loss: Some((0.0, 0.0)),
            narrow: None,
            longest: 1200,
            rtt: Some(Duration::from_micros(400)),
            left: None,
            leave_grace: SECOND * 600,
            refused: None,
            refused_for: SECOND * 20,
            error: None,
            conflict: false,
            foreign_keys: 0,
            foreign_versions: 0,
            paused: None,
            roster_differs: None,
            config_differs: None,
            draining: None,
        }
    }

    /// What its observers say of whom nobody has heard.
    fn nobody() -> Says {
        Says { reached: 4, unknown: 4, ..Says::default() }
    }

    /// What they say of one that died before this node's start.
    fn dead() -> Says {
        Says { down: 3, miss: 3, reached: 4, unknown: 1, ..Says::default() }
    }

    #[test]
    fn the_first_that_applies() {
        let down = |e: &mut Evidence| (e.status, e.missed) = (PeerStatus::Down, 7);
        type Change = fn(&mut Evidence);
        let cases: [(Verdict, &str, Change); 20] = [
            (Verdict::Up, "answers, round trip 0.4 ms", |_| ()),
            (Verdict::Up, "2 heartbeats missed in a row", |e| {
                (e.status, e.missed) = (PeerStatus::Suspected, 2)
            }),
            (Verdict::Paused, "told 2.0 s ago that it slept 4.2 s", |e| {
                e.paused = Some((Duration::from_millis(4200), SECOND * 2));
            }),
            (Verdict::Up, "answers", |e| e.paused = Some((SECOND * 4, SECOND * 6))),
            (Verdict::OneWay, "does not hear me", |e| e.link_active = false),
            (Verdict::OneWay, "I do not hear it", |e| {
                (e.link_active, e.direct, e.hears_me) = (false, false, true)
            }),
            (Verdict::LinkDown, "2 of 4 miss it, this node among them; 2 hear it", |e| {
                (e.link_active, e.direct) = (false, false);
                e.says = Says { healthy: 4, hear: 2, miss: 2, ..Says::default() };
            }),
            (Verdict::LinkDown, "others hear it, the last one 1.0 s ago", |e| {
                (e.link_active, e.direct, e.relayed) = (false, false, Some(SECOND));
                e.says = Says::default();
            }),
            (Verdict::Lossy, "lost are 12 % of what comes from it and 0 % of", |e| {
                (e.lossy, e.loss) = (true, Some((0.125, 0.0)))
            }),
            (
                Verdict::Mtu,
                "pings of 1200 bytes do not pass, small ones do: the path's MTU is smaller; lost 8",
                |e| (e.lossy, e.narrow) = (true, Some(8)),
            ),
            (Verdict::Mtu, "it says that its pings of 1200 bytes do not pass", |e| e.narrow = Some(0)),
            (Verdict::Unknown, "never heard", |e| (e.heard, e.says) = (None, nobody())),
            (Verdict::Unknown, "never heard", |e| (e.heard, e.says) = (None, dead())),
            (Verdict::Up, "not heard since this node's start; 4 of 4 hear it", |e| e.heard = None),
            (Verdict::Unknown, "never heard", |e| {
                (e.status, e.heard, e.says) = (PeerStatus::Down, None, nobody());
            }),
            (Verdict::Down, "not heard since this node's start; 3 of 4 say down, 1 have no say", |e| {
                (e.status, e.heard, e.says) = (PeerStatus::Down, None, dead());
            }),
            (Verdict::KeyMismatch, "another key", |e| (e.heard, e.foreign_keys) = (None, 3)),
            (Verdict::ConfigMismatch, "another wire version", |e| (e.heard, e.foreign_versions) = (None, 3)),
            (Verdict::Conflict, "another process", |e| e.conflict = true),
            (Verdict::ConfigMismatch, "its settings hash to …04030201, this node's to …08070605", |e| {
                e.config_differs = Some(([1, 2, 3, 4], [5, 6, 7, 8]));
            }),
        ];
        for (verdict, text, change) in cases {
            let mut evidence = fine();
            change(&mut evidence);
            assert_eq!(evidence.verdict(), verdict, "{text}");
            assert!(evidence.sentence().contains(text), "{:?} lacks {text:?}", evidence.sentence());
        }
        let mut evidence = fine();
        down(&mut evidence);
        assert_eq!(evidence.verdict(), Verdict::Down);
        evidence.refused = Some(SECOND);
        assert_eq!(evidence.verdict(), Verdict::Refused);
        assert!(evidence.sentence().contains("port 5278"), "{}", evidence.sentence());
        assert_eq!(evidence.conditions(), [Verdict::Refused, Verdict::Down]);
        evidence.refused = Some(SECOND * 30);
        assert_eq!(evidence.verdict(), Verdict::Down, "an old refusal says nothing of today");
        (evidence.heard_elsewhere, evidence.direct) = (true, false);
        assert_eq!(evidence.conditions(), [Verdict::LinkDown], "others have heard it since");
        evidence.refused = Some(SECOND);
        assert_eq!(evidence.conditions(), [Verdict::Refused, Verdict::LinkDown]);
    }

    #[test]
    fn isolated_it_is_not_the_peer() {
        let mut evidence = fine();
        evidence.isolated = Some(Isolation::Quiet(SECOND * 12));
        assert_eq!(evidence.verdict(), Verdict::Up, "what answers is not missed");
        evidence.status = PeerStatus::Suspected;
        assert_eq!(
            (evidence.verdict(), evidence.sentence()),
            (
                Verdict::Isolated,
                "not it: me; nothing authentic came to this node from anybody for 12 s".into()
            )
        );
        (evidence.status, evidence.refused) = (PeerStatus::Down, Some(SECOND));
        assert_eq!(evidence.conditions(), [Verdict::Isolated, Verdict::Refused, Verdict::Down]);
        (evidence.status, evidence.link_active) = (PeerStatus::Healthy, false);
        (evidence.isolated, evidence.refused) = (Some(Isolation::CutOff), None);
        assert_eq!(evidence.conditions(), [Verdict::Isolated, Verdict::OneWay]);
        assert!(evidence.sentence().ends_with("those that it hears hear them"), "{}", evidence.sentence());
        let left = Some((LeaveReason::Restart, SECOND));
        let of = |change: fn(&mut Evidence)| {
            let mut evidence = fine();
            (evidence.isolated, evidence.status) = (Some(Isolation::CutOff), PeerStatus::Down);
            change(&mut evidence);
            evidence
        };
        assert_eq!(Evidence { left, ..of(|_| ()) }.verdict(), Verdict::Left, "it said good-bye");
        let never = of(|e| (e.heard, e.says) = (None, nobody()));
        assert_eq!(never.verdict(), Verdict::Unknown, "it never came");
        assert_eq!(of(|e| e.heard = None).verdict(), Verdict::Isolated, "others have heard it");
    }

    #[test]
    fn a_drain_excuses_who_is_missed_and_weighs_least_while_it_is_there() {
        use Verdict::{Draining as Drains, Refused};
        let drain = Drain { until: 0, reason: Reason::new("kernel upgrade").unwrap() };
        let draining = Some(Draining { left: SECOND * 720, drain });
        let mut evidence = Evidence { draining, lossy: true, ..fine() };
        assert_eq!(evidence.conditions(), [Verdict::Lossy, Drains]);
        evidence.lossy = false;
        assert_eq!(
            (evidence.conditions(), evidence.sentence()),
            (vec![Drains], "12 min left: kernel upgrade".into())
        );
        (evidence.status, evidence.refused) = (PeerStatus::Down, Some(SECOND));
        assert_eq!(evidence.conditions(), [Drains, Refused, Verdict::Down]);
        assert_eq!(evidence.sentence(), "12 min left: kernel upgrade");
        evidence.heard = None;
        assert_eq!(evidence.verdict(), Drains, "also where it was never heard");
        evidence.left = Some((LeaveReason::Restart, SECOND));
        assert_eq!(evidence.verdict(), Verdict::Left, "the newer word");
        for status in PeerStatus::ALL {
            assert!(!Drains.is_alarm(status) && Drains.is_announced());
        }
    }

    #[test]
    fn verdicts_count_in_the_order_in_which_they_apply() {
        assert!(Verdict::ALL.iter().enumerate().all(|(at, verdict)| *verdict as usize == at));
    }

    #[test]
    fn a_leave_grows_old() {
        let mut evidence = fine();
        (evidence.status, evidence.left) = (PeerStatus::Down, Some((LeaveReason::Restart, SECOND * 60)));
        assert_eq!(evidence.verdict(), Verdict::Left);
        evidence.left = Some((LeaveReason::Restart, SECOND * 720));
        assert_eq!(
            (evidence.verdict(), evidence.sentence()),
            (Verdict::Down, "left 12 min ago, has not come back".into())
        );
        evidence.left = Some((LeaveReason::Removal, SECOND * 720));
        assert_eq!(evidence.verdict(), Verdict::Left, "removal has no grace");
    }

    #[test]
    fn who_left_before_this_start_has_left() {
        let mut evidence = Evidence { heard: None, says: Says { left: 3, ..dead() }, ..fine() };
        for status in PeerStatus::ALL {
            evidence.status = status;
            let why = "it said to 3 of 4 that it leaves".to_owned();
            assert_eq!((evidence.verdict(), evidence.sentence()), (Verdict::Left, why), "{status}");
        }
        evidence.says.left = 1;
        assert_eq!(evidence.verdict(), Verdict::Down, "most say that it died");
    }
}
