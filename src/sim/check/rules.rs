//! What must hold of nodes: who is called Down, who is not, and what that may cost.

use std::time::Duration;

use super::{Broken, Checker, window};
use crate::proto::{PeerStatus, Time};
use crate::sim::world::{Record, World};

/// An isolated node calls nobody Down for so long.
const ISOLATED: Duration = Duration::from_secs(60);

impl Checker {
    /// Invariant 2: a live node that some path of at most one relay connects to me, both ways, is never Down at me. With a
    /// verdict that blames the link (`is_link`) it may be, if I am ill myself.
    pub(super) fn accurate(
        &mut self,
        world: &World,
        observer: u32,
        subject: u32,
        is_link: bool,
    ) -> Result<(), Box<Broken>> {
        if world.node(subject).is_none() {
            self.downs.right += 1;
            return Ok(());
        }
        let window = window(world);
        let mut since: Time = world.now() - window;
        if self.well[observer as usize].is_none_or(|at| at > since) {
            // Time that the observer slept is no time in which it could notice.
            since = since.min(self.ill[observer as usize] - window);
        }
        let observed = observes(world, observer, subject);
        if !observed {
            // What the others say of it may be as old as a row can be, and their own back-off.
            let config = &world.setup().config;
            since = since - config.heartbeat_interval * (2 * config.down_after) - config.max_backoff;
        }
        let long = |at: Option<Time>| at.is_some_and(|at| at <= since);
        // Who was slow itself, or slept, asks too late to be answered in time.
        let awake = long(self.well[observer as usize]);
        if is_link && !awake {
            self.downs.excused += 1;
            return Ok(());
        }
        // A node that slept may not call a peer Down that sends by itself. Two things are excused: a peer with another roster may
        // only answer; and a mute node gets hellos of a run that it has not met, which prove nothing.
        let has_met = || {
            let place = world.roster(observer).binary_search(&subject).ok();
            let (node, run) = (world.node(observer), world.node(subject).map(crate::proto::Node::instance));
            node.zip(place).zip(run).is_some_and(|((node, place), run)| node.has_met(place, run))
        };
        let me = long(self.present[observer as usize])
            && (long(self.open[observer as usize]) || self.is_isolated(world, observer))
            && (awake
                || observes(world, subject, observer) && (long(self.speaks[observer as usize]) || has_met()));
        let peer = long(self.well[subject as usize]);
        let link = |a: u32, b: u32| world.net().clean_since(a, b).is_some_and(|at| at <= since);
        let both = |a, b| link(a, b) && link(b, a);
        let works = |a: u32, b: u32| long(self.well[b as usize]) && both(a, b);
        let relayed = || {
            awake
                && world.roster(observer).iter().any(|relay| {
                    works(observer, *relay) && both(*relay, subject) && observes(world, *relay, subject)
                })
        };
        let in_reach = if observed {
            both(observer, subject) || relayed()
        } else {
            awake && is_vouched_for(world, observer, subject, works)
        };
        if me && peer && in_reach {
            let what = format!("n{observer} calls n{subject} Down, which is well and within reach");
            let mut broken = self.broken(world, what);
            self.describe(world, &mut broken, observer, subject);
            self.describe(world, &mut broken, subject, observer);
            return Err(Box::new(broken));
        }
        if me && peer && observed && world.net().only_loss(observer, subject, since) {
            self.downs.false_under_loss += 1;
        } else {
            self.downs.excused += 1;
        }
        Ok(())
    }

    /// Invariant 1: a crashed node is Down at every node that is awake and not isolated, within its bound.
    pub(super) fn complete(&mut self, world: &World) -> Result<(), Box<Broken>> {
        let now = world.now();
        for subject in 0..world.len() as u32 {
            let Some(crash) = self.crashed[subject as usize] else { continue };
            for &observer in world.roster(subject) {
                let Some(undisturbed) = world.host(observer).undisturbed_since() else { continue };
                let Some(well) = self.well[observer as usize] else { continue };
                if world.status(observer, subject) == Some(PeerStatus::Down) {
                    continue;
                }
                // Counted from when the observer was last disturbed.
                let since = well.max(crash).max(undisturbed);
                let Ok(place) = world.roster(observer).binary_search(&subject) else { continue };
                let Some(bound) = world.node(observer).map(|core| core.notices_within(place)) else {
                    continue;
                };
                if now.since(since) > bound {
                    let what = format!(
                        "n{observer} still calls n{subject} {:?} {:?} after its end, {:?} after the observer was disturbed",
                        world.status(observer, subject),
                        now.since(crash),
                        now.since(since)
                    );
                    let mut broken = self.broken(world, what);
                    self.describe(world, &mut broken, observer, subject);
                    return Err(Box::new(broken));
                }
            }
        }
        Ok(())
    }

    /// A crashed node is Down at a node whose loop is late in every turn within the bound divided by its awake share: each
    /// turn grants half a timeout of listening. The turns that begin and judge a heartbeat may come late as well.
    pub(super) fn slow_loops_are_complete(&mut self, world: &World) -> Result<(), Box<Broken>> {
        let (now, grant) = (world.now(), world.setup().config.heartbeat_timeout / 2);
        for subject in 0..world.len() as u32 {
            let Some(crash) = self.crashed[subject as usize] else { continue };
            for &observer in world.roster(subject) {
                let Some((slow, by)) = self.slow[observer as usize] else { continue };
                if world.status(observer, subject) == Some(PeerStatus::Down) {
                    continue;
                }
                let Some(unblocked) = world.host(observer).unblocked_since() else { continue };
                let (Some(core), Ok(place)) =
                    (world.node(observer), world.roster(observer).binary_search(&subject))
                else {
                    continue;
                };
                let awake_share = (grant.as_secs_f64() / by.as_secs_f64()).min(1.0);
                let bound = core.notices_within(place).div_f64(awake_share) + by * 2;
                let since = slow.max(crash).max(unblocked);
                if now.since(since) > bound {
                    let what = format!(
                        "n{observer}, {by:.2?} late in every turn, still calls n{subject} {:?} {:?} after its end",
                        world.status(observer, subject),
                        now.since(crash),
                    );
                    let mut broken = self.broken(world, what);
                    self.describe(world, &mut broken, observer, subject);
                    return Err(Box::new(broken));
                }
            }
        }
        Ok(())
    }

    /// A node that never ran is Healthy at no node that is well, once its observers could have missed it and their rows
    /// have come.
    pub(super) fn never_started_is_healthy_nowhere(&mut self, world: &World) -> Result<(), Box<Broken>> {
        let config = &world.setup().config;
        let bound = config.heartbeat_interval * (4 * config.down_after) + config.max_backoff;
        // A node with another roster may observe it. A node that got this one lately observes it only since then, and
        // its row must come.
        let (Some(together), Some(clean)) = (self.together, world.net().all_clean_since()) else {
            return Ok(());
        };
        for subject in (0..world.len() as u32).filter(|node| !self.began[*node as usize]) {
            for observer in 0..world.len() as u32 {
                let (Some(well), Some(undisturbed)) =
                    (self.well[observer as usize], world.host(observer).undisturbed_since())
                else {
                    continue;
                };
                let healthy = world.status(observer, subject) == Some(PeerStatus::Healthy);
                if healthy && world.now().since(well.max(undisturbed).max(together).max(clean)) > bound {
                    let what = format!("n{observer} calls n{subject} Healthy, which never ran");
                    let mut broken = self.broken(world, what);
                    self.describe(world, &mut broken, observer, subject);
                    return Err(Box::new(broken));
                }
            }
        }
        Ok(())
    }

    /// The verdict of a well node is never `down` for more than an interval while most fresh rows hear the peer; in rings,
    /// where the picture is drawn every two intervals, for more than three.
    pub(super) fn the_living_are_not_accused(&mut self, world: &World) -> Result<(), Box<Broken>> {
        let mut accused = Vec::new();
        for observer in (0..world.len() as u32).filter(|node| self.well[*node as usize].is_some()) {
            let Some(core) = world.node(observer) else { continue };
            let roster = world.roster(observer).iter().enumerate();
            for (place, subject) in roster {
                let Some(reported) = core.accuses_the_living(place) else { continue };
                let reported = world.host(observer).clock().when(reported);
                let before = self.accused.iter().find(|(by, of, _)| (by, of) == (&observer, subject));
                // A report that began after the last look counts from now.
                let since = before.map(|(.., since)| *since).filter(|since| reported <= *since);
                accused.push((observer, *subject, since.unwrap_or(world.now())));
            }
        }
        self.accused = accused;
        let config = &world.setup().config;
        let looks = if config.observers.most(world.len() - 1) + 1 < world.len() { 3 } else { 1 };
        let limit = config.heartbeat_interval * looks;
        let again = self.accused.iter().find(|(.., since)| world.now().since(*since) >= limit);
        let Some((observer, subject, _)) = again.copied() else { return Ok(()) };
        let what = format!("n{observer} reports n{subject} as down, which most fresh rows hear");
        let mut broken = self.broken(world, what);
        self.describe(world, &mut broken, observer, subject);
        self.describe(world, &mut broken, subject, observer);
        Err(Box::new(broken))
    }

    /// A node suspects one that it does not observe only on more than a quarter of the votes, and two at least; or because
    /// there is no vote.
    pub(super) fn suspected_by_votes(
        &self,
        world: &World,
        record: &Record,
        subject: u32,
    ) -> Result<(), Box<Broken>> {
        let Some(says) = record.event.evidence.as_ref().map(|evidence| evidence.says) else { return Ok(()) };
        let against = says.suspected + says.down;
        // An isolated node calls nobody Down for a minute, whatever the votes.
        let by_majority = says.down * 2 > says.votes();
        let by_votes = by_majority || against >= 2 && against * 4 > says.votes();
        if record.event.observed || says.votes() == 0 || by_votes {
            return Ok(());
        }
        self.fail(world, format!("n{} suspects n{subject}, on these votes: {says:?}", record.node))
    }

    /// Invariant 5: what a node sends in an interval stays under the stated bound: one datagram for each that it
    /// received, three tries a peer, twice (a window may see two heartbeats), 64 questions, twice, and a push to all for
    /// two peers that are refused, twice; none of them longer than the limit of a datagram.
    pub(super) fn bounded(&mut self, world: &World) -> Result<(), Box<Broken>> {
        for node in 0..world.len() as u32 {
            let peers = world.roster(node).len() as u64;
            let ((sent, bytes), received) = (world.host(node).sent(), world.host(node).received());
            let was = std::mem::replace(&mut self.moved[node as usize], [sent, bytes, received]);
            let (burst, bytes, came) = (sent - was[0], bytes - was[1], received - was[2]);
            // At the pace of refusals a peer gets almost `down_after` tries an interval.
            let tries = u64::from(world.setup().config.down_after).max(6);
            let limit = came + tries * peers + 128 + 4 * peers;
            if burst > limit {
                let what =
                    format!("n{node} sent {burst} datagrams in an interval, more than {limit}: {came} came");
                return self.fail(world, what);
            }
            if bytes > burst * world.setup().config.max_datagram as u64 {
                return self.fail(world, format!("n{node} sent {bytes} bytes in {burst} datagrams"));
            }
            let Some(core) = world.node(node) else { continue };
            let dropped = core.stats().outputs_dropped + core.stats().events_dropped;
            if dropped > 0 {
                return self.fail(world, format!("n{node} dropped {dropped} outputs"));
            }
            let (held, bound) = core.held();
            if held > bound {
                return self.fail(world, format!("n{node} holds {held} bytes, more than {bound}"));
            }
        }
        Ok(())
    }

    /// Whether a node hears nobody, all of a sudden, and not yet for so long that it gives the others up. A node with two peers
    /// cannot tell their crash from a firewall on its own host that rejects.
    fn is_isolated(&self, world: &World, node: u32) -> bool {
        let shut = self.shut[node as usize];
        let peers = if world.host(node).rejects { 3 } else { 2 };
        // Before each peer could have been missed once it cannot know, and refusals count as they do elsewhere.
        let config = &world.setup().config;
        let known = config.heartbeat_interval + config.heartbeat_timeout;
        let is_so_for = |since: Time| (known..ISOLATED).contains(&world.now().since(since));
        // It may have been isolated before, for another reason.
        let lasts = world.node(node).and_then(crate::proto::Node::isolated_for);
        world.roster(node).len() >= peers
            && shut.is_some_and(is_so_for)
            && lasts.is_none_or(|lasts| lasts < ISOLATED)
    }
}

fn observes(world: &World, node: u32, other: u32) -> bool {
    world.roster(node).binary_search(&other).is_ok()
}

/// Whether most of those that observe `subject` hear it, and can be reached by `from` over links that work. Each hop makes a row
/// an interval older, and a row of twice `down_after` intervals is not believed.
fn is_vouched_for(world: &World, from: u32, subject: u32, works: impl Fn(u32, u32) -> bool) -> bool {
    let (mut reached, mut open) = (vec![false; world.len()], vec![from]);
    reached[from as usize] = true;
    for _hop in 0..2 * world.setup().config.down_after - 2 {
        for node in std::mem::take(&mut open) {
            for &next in world.roster(node) {
                if next != subject && !reached[next as usize] && works(node, next) {
                    reached[next as usize] = true;
                    open.push(next);
                }
            }
        }
    }
    let observers = world.roster(subject);
    let vouch = |node: &&u32| reached[**node as usize] && works(**node, subject);
    observers.iter().filter(vouch).count() * 2 > observers.len()
}
