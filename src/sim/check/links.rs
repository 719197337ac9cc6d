//! What must hold of links.

use super::{Broken, Checker};
use crate::proto::{Life, LinkState, PeerStatus, Time};
use crate::sim::world::World;

impl Checker {
    /// Invariant 3: a cut link is shown as a cut link by both of its ends, and by every node that hears either.
    pub(super) fn cut_links_are_shown(&mut self, world: &World) -> Result<(), Box<Broken>> {
        for end in 0..world.len() as u32 {
            for &other in world.roster(end) {
                let Some(since) = self.is_cut_since(world, end, other) else { continue };
                self.is_shown_at_end(world, end, other, since)?;
                self.is_told_to_others(world, end, other, since)?;
            }
        }
        Ok(())
    }

    /// Since when a link is cut, in one direction or both, while both of its ends are well.
    fn is_cut_since(&self, world: &World, end: u32, other: u32) -> Option<Time> {
        let (there, back) = (world.net().cut_since(end, other), world.net().cut_since(other, end));
        let cut = there.into_iter().chain(back).min()?;
        Some(cut.max(self.undisturbed(world, end)?).max(self.undisturbed(world, other)?))
    }

    /// Since when a node is well, and was neither asleep nor isolated.
    fn undisturbed(&self, world: &World, node: u32) -> Option<Time> {
        Some(self.well[node as usize]?.max(world.host(node).undisturbed_since()?))
    }

    fn is_shown_at_end(&self, world: &World, end: u32, other: u32, since: Time) -> Result<(), Box<Broken>> {
        let (Some(core), Ok(place)) = (world.node(end), world.roster(end).binary_search(&other)) else {
            return Ok(());
        };
        // What was echoed last may be as old as three heartbeats.
        let limit = core.notices_within(place) + world.setup().config.heartbeat_interval * 3;
        let shown = !core.link_is_active(place) || world.status(end, other) == Some(PeerStatus::Down);
        if shown || world.now().since(since) <= limit {
            return Ok(());
        }
        let what = format!(
            "n{end} shows its link to n{other} as whole, which is cut for {:?}",
            world.now().since(since)
        );
        let mut broken = self.broken(world, what);
        self.describe(world, &mut broken, end, other);
        Err(Box::new(broken))
    }

    /// Whoever hears an end knows its row, within two more heartbeats.
    fn is_told_to_others(&self, world: &World, end: u32, other: u32, since: Time) -> Result<(), Box<Broken>> {
        for &third in world.roster(end) {
            let Some(undisturbed) = self.undisturbed(world, third) else { continue };
            let clean = |a, b| world.net().clean_since(a, b);
            let (Some(there), Some(back)) = (clean(third, end), clean(end, third)) else { continue };
            let (Some(core), Some(owner), Some(subject)) =
                (world.node(third), world.place_at(third, end), world.place_at(third, other))
            else {
                continue;
            };
            let (Some(at_end), Ok(place)) = (world.node(end), world.roster(end).binary_search(&other)) else {
                continue;
            };
            let since = since.max(undisturbed).max(there).max(back);
            let config = &world.setup().config;
            let limit = at_end.notices_within(place) + config.heartbeat_interval * 6 + config.max_backoff;
            let told = core.told(owner, subject);
            let shown = told.is_some_and(|(life, link)| {
                life >= Life::Down || matches!(link, LinkState::TxLost | LinkState::Down)
            });
            if third == other || shown || world.now().since(since) <= limit {
                continue;
            }
            let what = format!(
                "n{third} hears n{end}, whose link to n{other} is cut for {:?}, and knows of it: {told:?}",
                world.now().since(since)
            );
            let mut broken = self.broken(world, what);
            self.describe(world, &mut broken, end, other);
            return Err(Box::new(broken));
        }
        Ok(())
    }
}
