//! Scenarios: what a file says of a cluster, its links, and what goes wrong when.

mod stage;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::stage::Report;
use super::link::{Rule, Scope};
use super::world::Setup;
use crate::proto::{Observers, PeerConfig};

/// Seconds; no time in a scenario is longer.
const LONGEST: f64 = 1e7;
/// Parts in a million by which a clock may be off.
const MOST_PPM: i64 = 500_000;
/// How often one fault may begin.
const MOST_TIMES: f64 = 1e5;

/// A scenario, as its file says it. Times are seconds, shares 0 to 1, nodes are numbered from 0.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence.
    #[serde(default)]
    pub about: String,
    /// The seeds that a check of this file runs, and `sim FILE` without `--seed`. None given: 1, 2 and 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<u64>,
    /// How many nodes.
    pub nodes: usize,
    /// How many peers each has in its roster; all others by default.
    pub peers: Option<usize>,
    /// How many observe one node: a number; all by default.
    pub observers: Option<u32>,
    /// How long the cluster runs before the first fault can begin; their times count from then on.
    #[serde(default = "ten")]
    pub warm_up: f64,
    /// How long faults go on; then all of them end.
    pub duration: f64,
    /// How long it may take until all statuses are right then; by default the longest back-off, and ten heartbeats.
    pub settle_within: Option<f64>,
    /// Settings of all nodes.
    #[serde(default)]
    pub settings: Settings,
    /// What the links do, always.
    #[serde(default)]
    pub links: Vec<Link>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Timed>,
    /// Every loop rests after each turn as long as it may.
    #[serde(default)]
    pub lazy: bool,
    /// Clocks differ by up to so many parts in a million.
    #[serde(default)]
    pub drift: u32,
    /// A checksum for a seal.
    #[serde(default)]
    pub cheap_seal: bool,
    /// Times, counted as those of faults, at which some node must hold the quorum guard: otherwise what follows shows nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guarded_at: Vec<f64>,
    /// Nodes that never start: the rosters name machines that do not exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<u32>,
    /// Nodes that count as ill in the report although no fault names them: rules for links name no node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ill: Vec<u32>,
    /// Nodes that count as well in the report although a fault names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sane: Vec<u32>,
}

fn ten() -> f64 {
    10.0
}

/// Settings; the daemon's defaults where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Seconds.
    pub heartbeat_interval: Option<f64>,
    /// Seconds.
    pub heartbeat_timeout: Option<f64>,
    /// Heartbeats.
    pub suspect_after: Option<u32>,
    /// Heartbeats.
    pub down_after: Option<u32>,
    /// Seconds.
    pub max_backoff: Option<f64>,
}

/// What a link does to datagrams: see [`Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of `Rule`, times in seconds")]
pub enum Link {
    Delay { base: f64, jitter: f64 },
    Tail { share: f64, mean: f64 },
    Loss { p: f64 },
    Burst { bad: f64, good: f64 },
    Duplicate { share: f64, within: f64 },
    Rate { bytes: u32, queue: f64 },
    Mtu { bytes: u32 },
    Cut,
    Refuse,
}

/// Which links a fault is about.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Between {
    /// From one of the first to one of the second.
    OneWay(Vec<u32>, Vec<u32>),
    /// Whatever these send or receive.
    Touching(Vec<u32>),
    /// Between these groups; who is in none is alone.
    Groups(Vec<Vec<u32>>),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The processes end without a word; with `refuses` their hosts say so. They start again at the end.
    Crash {
        /// Which.
        nodes: Vec<u32>,
        /// Whether their hosts answer that the port is closed.
        #[serde(default)]
        refuses: bool,
    },
    /// They leave in order, and start again at the end.
    Leave {
        /// Which.
        nodes: Vec<u32>,
        /// Whether they announce a leave for good.
        #[serde(default)]
        for_good: bool,
    },
    /// Their processes are stopped.
    Freeze {
        /// Which.
        nodes: Vec<u32>,
    },
    /// Nothing that they send leaves, nothing that comes is read; their timers run.
    Block {
        /// Which.
        nodes: Vec<u32>,
    },
    /// They receive nothing.
    Deaf {
        /// Which.
        nodes: Vec<u32>,
    },
    /// What they send is lost.
    Mute {
        /// Which.
        nodes: Vec<u32>,
    },
    /// After every turn they do nothing for a while.
    Slow {
        /// Which.
        nodes: Vec<u32>,
        /// Seconds.
        by: f64,
    },
    /// In the middle of a turn, between reading the clock and sending, they stand still.
    Pause {
        /// Which.
        nodes: Vec<u32>,
        /// Seconds.
        by: f64,
    },
    /// Their virtual machines stop and their clocks stand still; both go on at the end.
    Vm {
        /// Which.
        nodes: Vec<u32>,
        /// Whether what came meanwhile is lost.
        #[serde(default)]
        loses: bool,
    },
    /// Their clocks run at another rate.
    Rate {
        /// Which.
        nodes: Vec<u32>,
        /// Parts in a million by which they are fast; negative: slow.
        ppm: i64,
    },
    /// They have a second address that no roster names: they send from both in turn, and hear at both.
    TwoAddresses {
        /// Which.
        nodes: Vec<u32>,
    },
    /// Pairs of nodes swap their addresses: the first with the second, the third with the fourth.
    Swap {
        /// Which; an even number.
        nodes: Vec<u32>,
    },
    /// Their own firewalls reject, with an ICMP error, all that comes in and all that they send.
    Firewall {
        /// Which.
        nodes: Vec<u32>,
    },
    /// They speak from another address, and hear only there.
    Move {
        /// Which.
        nodes: Vec<u32>,
    },
    /// Their rosters lack these others, as they run; with the end they have all again.
    Roster {
        /// Whose.
        nodes: Vec<u32>,
        /// Whom they lack, but for themselves.
        without: Vec<u32>,
    },
    /// Links do something else beside.
    Links {
        /// Which; all by default.
        between: Option<Between>,
        /// What.
        rule: Link,
    },
    /// Datagrams without the key: noise, damaged ones, replayed ones, so many a second to each.
    Hostile {
        /// To which.
        nodes: Vec<u32>,
        /// A second.
        rate: f64,
    },
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Timed {
    /// When it begins. From `-warm_up` on it may begin before the warm-up is over; a crash that begins with the world puts off
    /// the first start.
    pub at: f64,
    /// How long it lasts; to the end of the faults by default.
    #[serde(rename = "for")]
    pub length: Option<f64>,
    /// It begins again so often.
    pub every: Option<f64>,
    /// What it is.
    pub fault: Fault,
}

impl Scenario {
    /// Reads a scenario file (TOML).
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = toml::from_str(text).map_err(|e| e.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The scenario as a file (TOML) that [`parse`](Scenario::parse) reads back to an equal one.
    ///
    /// # Errors
    /// A value that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|e| e.to_string())
    }

    /// The seeds to run: those that the file names, else 1, 2 and 3.
    pub fn seeds(&self) -> &[u64] {
        if self.seeds.is_empty() { &[1, 2, 3] } else { &self.seeds }
    }

    /// The settings of all nodes.
    pub fn config(&self) -> PeerConfig {
        let mut config = Setup::new(2).config;
        let s = &self.settings;
        let set = |to: &mut Duration, from: Option<f64>| {
            if let Some(seconds) = from {
                *to = secs(seconds);
            }
        };
        if let Some(interval) = s.heartbeat_interval {
            config.max_backoff = secs(interval) * 10;
            config.heartbeat_timeout = secs(interval) / 2;
        }
        set(&mut config.heartbeat_interval, s.heartbeat_interval);
        set(&mut config.heartbeat_timeout, s.heartbeat_timeout);
        set(&mut config.max_backoff, s.max_backoff);
        config.observers = self.observers.map_or(Observers::All, Observers::Number);
        config.suspect_after = s.suspect_after.unwrap_or(config.suspect_after);
        config.down_after = s.down_after.unwrap_or(config.down_after);
        config
    }

    fn check(&self) -> Result<(), String> {
        if !(2..=20_000).contains(&self.nodes) {
            return Err(format!("nodes is {}; it must be 2 to 20000", self.nodes));
        }
        if self.peers.is_some_and(|p| p == 0 || p % 2 == 1) {
            return Err("peers must be an even number, for neighbours on both sides of a circle".to_owned());
        }
        let times = |timed: &Timed| {
            [("at", Some(timed.at + self.warm_up)), ("for", timed.length), ("every", timed.every)]
        };
        let own = [("warm_up", Some(self.warm_up)), ("duration", Some(self.duration))];
        let guarded = self.guarded_at.iter().map(|at| ("guarded_at", Some(at + self.warm_up)));
        let all = own.into_iter().chain(guarded).chain(self.faults.iter().flat_map(times));
        for (what, value) in all {
            if let Some(value) = value.filter(|value| !(0.0..=LONGEST).contains(value)) {
                return Err(format!("{what} is {value}; it must be 0 to {LONGEST} seconds"));
            }
        }
        for timed in &self.faults {
            let often = |every: f64| every > 0.0 && every * MOST_TIMES < self.duration;
            if let Some(every) = timed.every.filter(|every| often(*every)) {
                return Err(format!("every is {every}; a fault begins at most {MOST_TIMES} times"));
            }
            timed.fault.check()?;
        }
        let named = self.faults.iter().flat_map(|timed| timed.fault.nodes());
        let named = named.chain(&self.never).chain(&self.ill).chain(&self.sane);
        if let Some(node) = named.into_iter().find(|n| **n as usize >= self.nodes) {
            return Err(format!("a fault is about n{node}; the nodes are n0 to n{}", self.nodes - 1));
        }
        let config = PeerConfig { server_id: "n0".into(), ..self.config() };
        config.validate().map_err(|e| e.to_string())
    }

    fn setup(&self) -> Setup {
        let delay = Link::Delay { base: 0.0002, jitter: 0.0008 };
        let links = if self.links.is_empty() { vec![delay] } else { self.links.clone() };
        Setup {
            peers: self.peers,
            config: self.config(),
            links: links.iter().map(Link::rule).collect(),
            cheap_seal: self.cheap_seal,
            lazy: self.lazy,
            drift: self.drift,
            start_within: self.config().heartbeat_interval,
            ..Setup::new(self.nodes)
        }
    }
}

impl Fault {
    fn check(&self) -> Result<(), String> {
        match self {
            Fault::Swap { nodes } if nodes.len() % 2 == 1 => {
                Err("swap names pairs; give it an even number of nodes".to_owned())
            }
            Fault::Rate { ppm, .. } if ppm.abs() > MOST_PPM => {
                Err(format!("ppm is {ppm}; a clock is off by at most {MOST_PPM} parts in a million"))
            }
            _ => Ok(()),
        }
    }

    /// The nodes that it names; those of links are free to name others.
    fn nodes(&self) -> &[u32] {
        match self {
            Fault::Links { .. } => &[],
            Fault::Crash { nodes, .. }
            | Fault::Leave { nodes, .. }
            | Fault::Freeze { nodes }
            | Fault::Block { nodes }
            | Fault::Deaf { nodes }
            | Fault::Mute { nodes }
            | Fault::Slow { nodes, .. }
            | Fault::Pause { nodes, .. }
            | Fault::Vm { nodes, .. }
            | Fault::Rate { nodes, .. }
            | Fault::TwoAddresses { nodes }
            | Fault::Swap { nodes }
            | Fault::Firewall { nodes }
            | Fault::Move { nodes }
            | Fault::Roster { nodes, .. }
            | Fault::Hostile { nodes, .. } => nodes,
        }
    }
}

impl Link {
    /// The rule that it names.
    pub fn rule(&self) -> Rule {
        match *self {
            Link::Delay { base, jitter } => Rule::Delay { base: secs(base), jitter: secs(jitter) },
            Link::Tail { share, mean } => Rule::Tail { share, mean: secs(mean) },
            Link::Loss { p } => Rule::Loss(p),
            Link::Burst { bad, good } => Rule::Burst { bad: secs(bad), good: secs(good) },
            Link::Duplicate { share, within } => Rule::Duplicate { share, within: secs(within) },
            Link::Rate { bytes, queue } => Rule::Rate { bytes, queue: secs(queue) },
            Link::Mtu { bytes } => Rule::Mtu(bytes),
            Link::Cut => Rule::Cut,
            Link::Refuse => Rule::Refuse,
        }
    }
}

impl Between {
    fn scope(&self) -> Scope {
        match self {
            Between::OneWay(from, to) => Scope::Between(from.clone(), to.clone()),
            Between::Touching(nodes) => Scope::Touching(nodes.clone()),
            Between::Groups(groups) => Scope::Across(groups.clone()),
        }
    }
}

/// So many seconds, [`LONGEST`] at most; what is no length of time is none.
pub(in crate::sim) fn secs(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, LONGEST)).unwrap_or_default()
}
