//! What must hold in every run, looked at after every step, and the evidence when it does not.
//!
//! `rules` are those of nodes, `links` those of links, `guards` those of who may act.

mod guards;
mod links;
mod rules;

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use self::guards::Guards;
use super::world::{Record, World, index};
use crate::proto::{Change, Instance, PeerStatus, Time};

/// Transitions kept for the day that something breaks.
const KEPT: usize = 60;

/// A rule that did not hold, with what came before.
#[derive(Clone, Debug)]
pub struct Broken {
    /// What did not hold, and where.
    pub what: String,
    /// The last transitions: one a line, a column for each node.
    pub evidence: String,
}

/// Watches a world.
#[derive(Debug)]
pub struct Checker {
    /// Since when each node is well; `None`: it is not.
    well: Vec<Option<Time>>,
    /// Since when the loop of each node, well otherwise, is late in every turn, and by how much.
    slow: Vec<Option<(Time, Duration)>>,
    /// Since when all have one roster.
    together: Option<Time>,
    /// Whether each node has ever run.
    began: Vec<bool>,
    /// Observer, subject, and since when the observer has reported the subject as `down` at every look, although others
    /// hear it.
    accused: Vec<(u32, u32, Time)>,
    /// When each last ceased to be so.
    ill: Vec<Time>,
    /// Since when each node runs where it is expected.
    present: Vec<Option<Time>>,
    /// Since when each node can hear, and be heard if datagrams can be late; and since when it hears nothing at all, if it was well for long until then.
    open: Vec<Option<Time>>,
    shut: Vec<Option<Time>>,
    /// Since when what each node sends leaves it.
    speaks: Vec<Option<Time>>,
    /// Which nodes have a second address.
    two: Vec<bool>,
    /// When each node ended that does not run.
    crashed: Vec<Option<Time>>,
    runs: Vec<Option<Instance>>,
    /// When that changed.
    changed_run: Vec<Time>,
    recent: VecDeque<String>,
    watched: Time,
    /// What each node had sent, in datagrams and bytes, and received when that was looked at last.
    moved: Vec<[u64; 3]>,
    guards: Guards,
    /// All Downs so far, by whether they were right.
    pub downs: Downs,
    /// Nodes that count as ill in `wrongs`.
    ill_ones: Vec<bool>,
    /// Changes of the status of well nodes at well nodes.
    pub wrongs: Wrongs,
}

/// How often well nodes gave well nodes a status worse than Healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrongs {
    /// Changes to Suspected.
    pub suspected: u64,
    /// Changes to Down.
    pub down: u64,
}

/// How often whom was called Down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Downs {
    /// About nodes that did not run.
    pub right: u64,
    /// About nodes that were unwell, or cut off, at times at least.
    pub excused: u64,
    /// About nodes that were well and within reach, but for independent loss.
    pub false_under_loss: u64,
}

impl Checker {
    /// For a world that has not run yet.
    pub fn new(world: &World) -> Checker {
        let nodes = world.len();
        Checker {
            well: vec![None; nodes],
            slow: vec![None; nodes],
            together: Some(world.now()),
            began: vec![false; nodes],
            accused: Vec::new(),
            ill: vec![Time::ZERO; nodes],
            present: vec![None; nodes],
            open: vec![None; nodes],
            shut: vec![None; nodes],
            speaks: vec![None; nodes],
            two: vec![false; nodes],
            crashed: vec![None; nodes],
            runs: vec![None; nodes],
            changed_run: vec![world.now(); nodes],
            recent: VecDeque::with_capacity(KEPT),
            watched: world.now(),
            moved: vec![[0; 3]; nodes],
            guards: Guards::default(),
            downs: Downs::default(),
            ill_ones: vec![false; nodes],
            wrongs: Wrongs::default(),
        }
    }

    /// These nodes count as ill: what they say of others, and what others say of them, is not counted in `wrongs`.
    pub fn count_as_ill(&mut self, nodes: impl Iterator<Item = u32>) {
        nodes.for_each(|node| self.ill_ones[node as usize] = true);
    }

    /// Runs the world until `end`, and looks after every step.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn run(&mut self, world: &mut World, end: Time) -> Result<(), Box<Broken>> {
        loop {
            // A look may be due while nothing happens.
            let until = self.next_look(world, end);
            let happened = world.step(until);
            self.look(world)?;
            if !happened && world.now() >= end {
                return Ok(());
            }
        }
    }

    /// Runs until `done` holds; how long that took.
    ///
    /// # Errors
    /// The first thing that does not hold; or that `done` does not within `limit`.
    pub fn settle(
        &mut self,
        world: &mut World,
        limit: Duration,
        done: fn(&World) -> bool,
    ) -> Result<Duration, Box<Broken>> {
        let (start, mut next) = (world.now(), world.now());
        let pace = world.setup().config.heartbeat_interval / 20;
        loop {
            if world.now() >= next {
                if done(world) {
                    return Ok(world.now().since(start));
                }
                next = world.now() + pace;
            }
            if !world.step(next.min(start + limit)) && world.now() >= start + limit {
                let why = self.unsettled(world);
                return self.fail(world, format!("not settled {limit:?} after the last fault: {why}"));
            }
            self.look(world)?;
        }
    }

    /// A fault began or ended: who is well now.
    pub fn note(&mut self, world: &World, what: &str) {
        let now = world.now();
        let is_one = (0..world.len() as u32).all(|node| world.host(node).apart == 0);
        self.together = is_one.then(|| self.together.unwrap_or(now));
        for node in 0..world.len() as u32 {
            let host = world.host(node);
            let place = node as usize;
            let run = host.node.as_ref().map(crate::proto::Node::instance);
            let same = std::mem::replace(&mut self.runs[place], run) == run;
            if !same {
                self.changed_run[place] = now;
            }
            let since = |before: Option<Time>, is: bool| is.then(|| before.filter(|_| same).unwrap_or(now));
            // Others may hold the address that is no more: it is as if the node had moved.
            let had = std::mem::replace(&mut self.two[place], host.second.is_some());
            let moved = had && host.second.is_none();
            self.present[place] = since(self.present[place].filter(|_| !moved), host.is_present());
            let sound = self.well[place].is_some_and(|at| now.since(at) >= window(world));
            let shut = host.is_shut() && (sound || self.shut[place].is_some());
            self.shut[place] = since(self.shut[place], shut);
            // Of a mute node the others think that it is dead, and ping it seldom: one late datagram is a long silence then.
            let open = !host.is_shut() && (world.net().is_prompt() || !host.is_mute());
            self.open[place] = since(self.open[place], open);
            self.speaks[place] = since(self.speaks[place], !host.is_mute());
            self.began[place] |= host.node.is_some();
            let before = self.slow[place].filter(|(_, by)| same && Some(*by) == host.slowness());
            self.slow[place] = before.or(host.slowness().map(|by| (now, by)));
            let well = since(self.well[place].filter(|_| !moved), host.is_well(now));
            if self.well[place].is_some() && well.is_none() {
                self.ill[place] = now;
            }
            self.well[place] = well;
            match (&self.crashed[place], host.node.is_some()) {
                (None, false) => self.crashed[place] = Some(now),
                (Some(_), true) => self.crashed[place] = None,
                _ => {}
            }
        }
        self.keep(world, None, what.to_owned());
    }

    /// At how many looks somebody held the quorum guard, and was told that it may take over from somebody.
    pub fn guards(&self) -> (u64, u64) {
        (self.guards.held, self.guards.taken)
    }

    fn look(&mut self, world: &mut World) -> Result<(), Box<Broken>> {
        if let Some(reused) = world.net().reused.clone() {
            return self.fail(world, reused);
        }
        self.guarded(world)?;
        let interval = world.setup().config.heartbeat_interval;
        if world.now().since(self.watched) >= interval {
            self.watched = world.now();
            self.bounded(world)?;
            self.complete(world)?;
            self.slow_loops_are_complete(world)?;
            self.never_started_is_healthy_nowhere(world)?;
            self.the_living_are_not_accused(world)?;
            self.cut_links_are_shown(world)?;
        }
        if !world.has_records() {
            return Ok(());
        }
        for record in world.take_records() {
            self.judge(world, &record)?;
        }
        Ok(())
    }

    fn judge(&mut self, world: &World, record: &Record) -> Result<(), Box<Broken>> {
        let subject = record.event.peer.as_deref().and_then(index);
        let text = match (&record.event.change, subject) {
            (Change::Status { from, to }, Some(s)) => {
                format!("n{}: n{s} {from} -> {to}: {}", record.node, record.event.why)
            }
            (Change::Verdict { .. }, _) => return Ok(()),
            (change, _) => format!("n{}: {change:?}: {}", record.node, record.event.why),
        };
        self.keep(world, subject, text);
        if let (Change::Status { to, .. }, Some(subject)) = (&record.event.change, subject)
            && !self.ill_ones[subject as usize]
            && !self.ill_ones[record.node as usize]
        {
            self.wrongs.suspected += u64::from(*to == PeerStatus::Suspected);
            self.wrongs.down += u64::from(*to == PeerStatus::Down);
        }
        if let (Change::Status { to: PeerStatus::Suspected, .. }, Some(subject)) =
            (&record.event.change, subject)
        {
            self.suspected_by_votes(world, record, subject)?;
        }
        if let (Change::Status { to: PeerStatus::Down, .. }, Some(subject)) = (&record.event.change, subject)
        {
            let runs = world.node(subject).is_some_and(|node| !node.is_leaving());
            if record.event.verdict == Some(crate::proto::Verdict::Left) && !runs {
                self.downs.right += 1;
                return Ok(());
            }
            use crate::proto::Verdict::{LinkDown, OneWay};
            let is_link = matches!(record.event.verdict, Some(LinkDown | OneWay));
            return self.accurate(world, record.node, subject, is_link);
        }
        Ok(())
    }

    fn unsettled(&self, world: &World) -> String {
        let mut text = String::new();
        let nodes = 0..world.len() as u32;
        for (observer, subject) in nodes.clone().flat_map(|a| nodes.clone().map(move |b| (a, b))) {
            let status = world.status(observer, subject);
            let link = world.link_is_active(observer, subject).unwrap_or(true);
            let wanted = match world.node(subject) {
                Some(_) => status == Some(PeerStatus::Healthy) && link,
                None => status == Some(PeerStatus::Down),
            };
            if status.is_some() && !wanted {
                let _ = write!(text, "n{observer} on n{subject}: {status:?}, link {link}; ");
            }
        }
        let tables = |node| world.node(node).map(crate::proto::Node::records_fingerprint);
        let tables: Vec<_> = nodes.filter_map(tables).collect();
        if tables.iter().any(|table| *table != tables[0] || table.is_none()) {
            let _ = write!(text, "tables: {tables:x?}");
        }
        text
    }

    /// One line for a transition: when, what each node says of the subject, and what changed.
    fn keep(&mut self, world: &World, subject: Option<u32>, text: String) {
        let mut line = format!("{:>10.3} s ", world.elapsed().as_secs_f64());
        for node in 0..world.len().min(64) as u32 {
            line.push(match (world.node(node), subject) {
                (None, _) => '+',
                _ if Some(node) == subject => '=',
                _ if !world.host(node).is_well(world.now()) => 'z',
                (_, None) => '.',
                (_, Some(s)) => match world.status(node, s) {
                    Some(PeerStatus::Healthy) => '.',
                    Some(PeerStatus::Suspected) => 's',
                    Some(PeerStatus::Down) => 'D',
                    None => ' ',
                },
            });
        }
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(format!("{line} {text}"));
    }

    fn fail<T>(&self, world: &World, what: String) -> Result<T, Box<Broken>> {
        Err(Box::new(self.broken(world, what)))
    }

    /// Adds all that one node knows of another.
    fn describe(&self, world: &World, broken: &mut Broken, of: u32, about: u32) {
        let Some(core) = world.node(of) else { return };
        let _ = match world.roster(of).binary_search(&about) {
            Ok(place) => write!(broken.evidence, "\nn{of} of n{about}: {}", core.describe(place)),
            Err(_) => write!(
                broken.evidence,
                "\nn{of}, which does not observe n{about}, holds {}",
                core.describe_rows()
            ),
        };
    }

    /// Something does not hold: what, with what came before.
    pub fn broken(&self, world: &World, what: String) -> Broken {
        let evidence: Vec<&str> = self.recent.iter().map(String::as_str).collect();
        let what = format!("{:.3} s: {what}", world.elapsed().as_secs_f64());
        Broken { what, evidence: evidence.join("\n") }
    }
}

/// What began to work only now needs so long to be noticed, with its longest spacing.
fn window(world: &World) -> Duration {
    let config = &world.setup().config;
    config.heartbeat_interval * (config.down_after - 1)
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(f, "      time  nodes (. healthy, s suspected, D down, = the subject, + ended, z unwell)")?;
        f.write_str(&self.evidence)
    }
}
