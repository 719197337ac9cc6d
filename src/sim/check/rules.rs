//! What must hold of nodes: who is called Down, who is not, and what that may cost.

use std::time::Duration;

use super::{Broken, Checker, window};
use crate::proto::{PeerStatus, Time};
use crate::sim::world::World;

/// An isolated node calls nobody Down for so long.
const ISOLATED: Duration = Duration::from_secs(60);

impl Checker {
    /// Invariant 2: a live node that some path of at most one relay connects to me, both ways, is never Down at me.
    pub(super) fn accurate(&mut self, world: &World, observer: u32, subject: u32) -> Result<(), Box<Broken>> {
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
        // An own pause is no excuse for calling a peer Down that speaks by itself: of another roster it may only answer.
        let me = long(self.present[observer as usize])
            && (long(self.open[observer as usize]) || self.is_isolated(world, observer))
            && (awake || observes(world, subject, observer));
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

    /// Invariant 5: what a node sends in an interval stays under the stated bound: one datagram for each that it
    /// received, three tries a peer, twice (a window may see two heartbeats), 64 questions, twice, and a push to all for
    /// each peer that is refused; none of them longer than the limit of a datagram.
    pub(super) fn bounded(&mut self, world: &World) -> Result<(), Box<Broken>> {
        for node in 0..world.len() as u32 {
            let peers = world.roster(node).len() as u64;
            let ((sent, bytes), received) = (world.host(node).sent(), world.host(node).received());
            let was = std::mem::replace(&mut self.moved[node as usize], [sent, bytes, received]);
            let (burst, bytes, came) = (sent - was[0], bytes - was[1], received - was[2]);
            let limit = came + 6 * peers + 128 + peers * peers.min(64);
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

    /// Whether a node hears nobody, all of a sudden, and not yet for so long that it gives the others up.
    fn is_isolated(&self, world: &World, node: u32) -> bool {
        let shut = self.shut[node as usize];
        shut.is_some_and(|since| world.len() > 2 && world.now().since(since) < ISOLATED)
    }
}

fn observes(world: &World, node: u32, other: u32) -> bool {
    world.roster(node).binary_search(&other).is_ok()
}

/// Whether most of those that observe `subject` hear it, and can be reached by `from` over links that work.
fn is_vouched_for(world: &World, from: u32, subject: u32, works: impl Fn(u32, u32) -> bool) -> bool {
    let (mut reached, mut open) = (vec![false; world.len()], vec![from]);
    reached[from as usize] = true;
    while let Some(node) = open.pop() {
        for &next in world.roster(node) {
            if next != subject && !reached[next as usize] && works(node, next) {
                reached[next as usize] = true;
                open.push(next);
            }
        }
    }
    let observers = world.roster(subject);
    let vouch = |node: &&u32| reached[**node as usize] && works(**node, subject);
    observers.iter().filter(vouch).count() * 2 > observers.len()
}
