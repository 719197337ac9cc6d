//! What must hold in every run, looked at after every step, and the evidence when it does not.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

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
    /// When each last ceased to be so.
    ill: Vec<Time>,
    /// Since when each node is not blocked, deaf or mute, whether it was frozen or not.
    open: Vec<Option<Time>>,
    /// When each node ended that does not run.
    crashed: Vec<Option<Time>>,
    runs: Vec<Option<Instance>>,
    recent: VecDeque<String>,
    watched: Time,
    /// What each node had sent and received when that was looked at last.
    moved: Vec<(u64, u64)>,
    /// All Downs so far, by whether they were right.
    pub downs: Downs,
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
            ill: vec![Time::ZERO; nodes],
            open: vec![None; nodes],
            crashed: vec![None; nodes],
            runs: vec![None; nodes],
            recent: VecDeque::with_capacity(KEPT),
            watched: world.now(),
            moved: vec![(0, 0); nodes],
            downs: Downs::default(),
        }
    }

    /// Runs the world until `end`, and looks after every step.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn run(&mut self, world: &mut World, end: Time) -> Result<(), Box<Broken>> {
        while world.step(end) {
            self.look(world)?;
        }
        self.look(world)
    }

    /// Runs until all is settled; how long that took.
    ///
    /// # Errors
    /// The first thing that does not hold; or that it did not settle within `limit`.
    pub fn settle(&mut self, world: &mut World, limit: Duration) -> Result<Duration, Box<Broken>> {
        let (start, mut next) = (world.now(), world.now());
        let pace = world.setup().config.heartbeat_interval / 20;
        loop {
            if world.now() >= next {
                if world.is_settled() {
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
        for node in 0..world.len() as u32 {
            let host = world.host(node);
            let place = node as usize;
            let run = host.node.as_ref().map(crate::proto::Node::instance);
            let same = std::mem::replace(&mut self.runs[place], run) == run;
            let since = |before: Option<Time>, is: bool| is.then(|| before.filter(|_| same).unwrap_or(now));
            let well = since(self.well[place], host.is_well(now));
            if self.well[place].is_some() && well.is_none() {
                self.ill[place] = now;
            }
            self.well[place] = well;
            self.open[place] = since(self.open[place], host.is_open());
            match (&self.crashed[place], host.node.is_some()) {
                (None, false) => self.crashed[place] = Some(now),
                (Some(_), true) => self.crashed[place] = None,
                _ => {}
            }
        }
        self.keep(world, None, what.to_owned());
    }

    fn look(&mut self, world: &mut World) -> Result<(), Box<Broken>> {
        if let Some(reused) = world.net().reused.clone() {
            return self.fail(world, reused);
        }
        let interval = world.setup().config.heartbeat_interval;
        if world.now().since(self.watched) >= interval {
            self.watched = world.now();
            self.bounded(world)?;
            self.complete(world)?;
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
        if let (Change::Status { to: PeerStatus::Down, .. }, Some(subject)) = (&record.event.change, subject)
        {
            if record.event.verdict == Some(crate::proto::Verdict::Left) {
                self.downs.right += 1;
                return Ok(());
            }
            return self.accurate(world, record.node, subject);
        }
        Ok(())
    }

    /// Invariant 2: a live node that some path of at most one relay connects to me, both ways, is never Down at me.
    fn accurate(&mut self, world: &World, observer: u32, subject: u32) -> Result<(), Box<Broken>> {
        if world.node(subject).is_none() {
            self.downs.right += 1;
            return Ok(());
        }
        let config = &world.setup().config;
        // What began to work only now needs a heartbeat to be noticed, with its longest spacing.
        let window = config.heartbeat_interval * (config.down_after - 1);
        let mut since = world.now() - window;
        if self.well[observer as usize].is_none_or(|at| at > since) {
            // Time that the observer slept is no time in which it could notice.
            since = since.min(self.ill[observer as usize] - window);
        }
        let long = |at: Option<Time>| at.is_some_and(|at| at <= since);
        // An own pause is no excuse for calling a peer Down that answers by itself.
        let me = long(self.open[observer as usize]);
        let peer = long(self.well[subject as usize]);
        let link = |a: u32, b: u32| world.net().clean_since(a, b).is_some_and(|at| at <= since);
        let both = |a, b| link(a, b) && link(b, a);
        // Who was slow itself, or slept, asks too late to be answered in time.
        let awake = long(self.well[observer as usize]);
        let relayed = || {
            awake
                && (0..world.len() as u32).any(|relay| {
                    let other = relay != observer && relay != subject;
                    other
                        && long(self.well[relay as usize])
                        && both(observer, relay)
                        && both(relay, subject)
                        && knows(world, observer, relay)
                        && knows(world, relay, subject)
                })
        };
        if me && peer && (both(observer, subject) || relayed()) {
            let what = format!("n{observer} calls n{subject} Down, which is well and within reach");
            let mut broken = self.broken(world, what);
            for (a, b) in [(observer, subject), (subject, observer)] {
                if let (Some(core), Ok(place)) = (world.node(a), world.roster(a).binary_search(&b)) {
                    let _ = write!(broken.evidence, "\nn{a} of n{b}: {}", core.describe(place));
                }
            }
            return Err(Box::new(broken));
        }
        if me && peer && world.net().only_loss(observer, subject, since) {
            self.downs.false_under_loss += 1;
        } else {
            self.downs.excused += 1;
        }
        Ok(())
    }

    /// Invariant 1: a crashed node is Down at every node that is awake and not isolated, within its bound.
    fn complete(&mut self, world: &World) -> Result<(), Box<Broken>> {
        let config = world.setup().config.clone();
        let interval = config.heartbeat_interval;
        let now = world.now();
        for subject in 0..world.len() as u32 {
            let Some(crash) = self.crashed[subject as usize] else { continue };
            for &observer in world.roster(subject) {
                let Some(undisturbed) = world.host(observer).undisturbed_since() else { continue };
                let Some(well) = self.well[observer as usize] else { continue };
                if world.status(observer, subject) == Some(PeerStatus::Down) {
                    continue;
                }
                // Counted from when the observer was last disturbed; an announced spacing, and all that may be void.
                let since = well.max(crash).max(undisturbed);
                // A pair's timeout is an interval at most.
                let bound = interval * (config.down_after + 3) + config.max_backoff;
                if now.since(since) > bound {
                    let what = format!(
                        "n{observer} still calls n{subject} {:?} {:?} after its end, {:?} after the observer was disturbed",
                        world.status(observer, subject),
                        now.since(crash),
                        now.since(since)
                    );
                    let mut broken = self.broken(world, what);
                    if let (Some(core), Ok(place)) =
                        (world.node(observer), world.roster(observer).binary_search(&subject))
                    {
                        let _ =
                            write!(broken.evidence, "\nn{observer} of n{subject}: {}", core.describe(place));
                    }
                    return Err(Box::new(broken));
                }
            }
        }
        Ok(())
    }

    /// Invariant 5: what a node sends in an interval stays under the stated bound: one datagram for each that it
    /// received, three tries a peer, twice (a window may see two heartbeats), 64 questions, twice, and a push to all for
    /// each peer that is refused.
    fn bounded(&mut self, world: &World) -> Result<(), Box<Broken>> {
        for node in 0..world.len() as u32 {
            let peers = world.roster(node).len() as u64;
            let (sent, received) = (world.host(node).sent().0, world.host(node).received());
            let (was_sent, was_received) =
                std::mem::replace(&mut self.moved[node as usize], (sent, received));
            let (burst, came) = (sent - was_sent, received - was_received);
            let limit = came + 6 * peers + 128 + peers * peers.min(64);
            if burst > limit {
                let what =
                    format!("n{node} sent {burst} datagrams in an interval, more than {limit}: {came} came");
                return self.fail(world, what);
            }
            if let Some(core) = world.node(node).filter(|core| core.stats().outputs_dropped > 0) {
                let dropped = core.stats().outputs_dropped;
                return self.fail(world, format!("n{node} dropped {dropped} outputs"));
            }
        }
        Ok(())
    }

    fn unsettled(&self, world: &World) -> String {
        let mut text = String::new();
        for observer in 0..world.len() as u32 {
            for &subject in world.roster(observer) {
                let (status, link) =
                    (world.status(observer, subject), world.link_is_active(observer, subject));
                let wanted = match world.node(subject) {
                    Some(_) => status == Some(PeerStatus::Healthy) && link == Some(true),
                    None => status == Some(PeerStatus::Down),
                };
                if status.is_some() && !wanted {
                    let _ = write!(text, "n{observer} on n{subject}: {status:?}, link {link:?}; ");
                }
            }
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

    /// Something does not hold: what, with what came before.
    pub fn broken(&self, world: &World, what: String) -> Broken {
        let evidence: Vec<&str> = self.recent.iter().map(String::as_str).collect();
        let what = format!("{:.3} s: {what}", world.elapsed().as_secs_f64());
        Broken { what, evidence: evidence.join("\n") }
    }
}

fn knows(world: &World, node: u32, other: u32) -> bool {
    world.roster(node).binary_search(&other).is_ok()
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(f, "      time  nodes (. healthy, s suspected, D down, = the subject, + ended, z unwell)")?;
        f.write_str(&self.evidence)
    }
}
