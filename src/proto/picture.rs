//! The whole picture: what all rows together say, as far as this node can trust them.
//!
//! Trust goes outward from the node itself: whom it hears first-hand, then whom those hear, and so on. Only rows of nodes
//! that were reached so, and that are fresh, count; a dead observer's last words do not.

use std::collections::VecDeque;
use std::time::Duration;

use super::records::{Life, LinkState, Records, Seen};
use super::topology::Topology;

/// What the observers of a node say of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Says {
    /// So many call it Healthy.
    pub healthy: u16,
    /// Suspected.
    pub suspected: u16,
    /// Down, or left.
    pub down: u16,
    /// So many of these say that it left.
    pub left: u16,
    /// So many have no fresh row, or have not heard it since their start: no vote.
    pub unknown: u16,
    /// So many hear it themselves.
    pub hear: u16,
    /// So many do not, and say so.
    pub miss: u16,
    /// So many have a fresh row, whatever it says.
    pub reached: u16,
    /// So many of these have another roster: whom they watch is not known, and only their Down is a vote.
    pub strange: u16,
    /// So many hear it and are heard by it, and are so joined to this node.
    pub prove: u16,
}

impl Says {
    /// How many observe it.
    pub fn observers(&self) -> u16 {
        self.votes() + self.unknown
    }

    /// How many of them have a vote.
    pub fn votes(&self) -> u16 {
        self.healthy + self.suspected + self.down
    }

    /// What so many observers say whose rows do not name it.
    fn fine(observers: u16) -> Says {
        let (reached, healthy, hear, prove) = (observers, observers, observers, observers);
        Says { reached, healthy, hear, prove, ..Says::default() }
    }

    /// An observer was counted whose row does not say that it is fine there; whether there is a row at all.
    fn uncount(&mut self, reached: bool) {
        self.uncount_fine(true);
        self.reached -= u16::from(!reached);
    }

    /// It was counted as fine, and is not.
    fn uncount_fine(&mut self, proved: bool) {
        self.healthy -= 1;
        self.hear -= 1;
        self.prove -= u16::from(proved);
    }

    fn count(&mut self, seen: &Seen, proves: bool) {
        match seen.life {
            Life::Healthy => self.healthy += 1,
            Life::Suspected => self.suspected += 1,
            Life::Down | Life::Left => self.down += 1,
            Life::Unknown => return,
        }
        self.prove += u16::from(proves && is_two_way(seen.life, seen.link));
        self.left += u16::from(seen.life == Life::Left);
        if hears(seen.life, seen.link) {
            self.hear += 1;
        } else {
            self.miss += 1;
        }
    }
}

/// Whether an observer that says so hears the peer itself.
pub(crate) fn hears(life: Life, link: LinkState) -> bool {
    life == Life::Healthy && matches!(link, LinkState::Up | LinkState::Lossy | LinkState::TxLost)
}

/// Whether it is heard by the peer too.
fn is_two_way(life: Life, link: LinkState) -> bool {
    life == Life::Healthy && matches!(link, LinkState::Up | LinkState::Lossy)
}

/// How this node hears another one first-hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// Where that is in the table.
    pub(crate) place: usize,
    /// Since the date of the newest evidence that came from there.
    pub(crate) age: Duration,
    /// Whether it hears this node too.
    pub(crate) two_way: bool,
}

/// What a picture is drawn from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) records: &'a Records,
    pub(crate) topology: &'a Topology,
    /// What this node sees that is not plainly fine.
    pub(crate) own: &'a [Seen],
    pub(crate) heard: &'a [Heard],
    /// Every hop adds so much to the age of a row.
    pub(crate) interval: Duration,
    /// A row of this age or more is not believed.
    pub(crate) stale: Duration,
}

/// What all rows together say; places are those of the table of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    ages: Vec<Age>,
    says: Vec<Says>,
}

/// How old a row is, in milliseconds.
type Age = u32;
/// Its owner was not reached, or has said nothing.
const NEVER: Age = Age::MAX;

fn millis(age: Duration) -> Age {
    Age::try_from(age.as_millis()).unwrap_or(NEVER - 1).min(NEVER - 1)
}

impl Picture {
    /// Draws it.
    pub(crate) fn draw(sources: Sources<'_>) -> Picture {
        let Sources { records, topology, .. } = sources;
        let nodes = records.names().len();
        let (mut ages, one_way) = sources.reach(hears, |_| true);
        // Where every link that was gone over works both ways, who is heard is joined. In a full mesh this node has its own
        // proofs of everybody.
        let joined = (one_way && !topology.is_mesh()).then(|| sources.reach(is_two_way, |h| h.two_way).0);
        let own_roster = records.profile(records.me()).map(|profile| profile.roster);
        let differs =
            |voter| records.profile(voter).is_some_and(|profile| Some(profile.roster) != own_roster);
        let proves = |voter: usize| joined.as_ref().is_none_or(|joined| joined[voter] != NEVER);
        // All are fine at all their observers, but for what follows.
        let mut says: Vec<Says> = (0..nodes).map(|place| Says::fine(topology.degree(place) as u16)).collect();
        for (voter, age) in ages.iter().enumerate() {
            let row = sources.row(voter).filter(|_| *age != NEVER);
            // Whom a node with another roster watches is not known: it counts where it says Down. And who is not named in a
            // row that was cut may be anything there.
            let (strange, cut) = (differs(voter), sources.is_cut(voter));
            if row.is_none() || strange || cut {
                for subject in topology.neighbours(voter) {
                    says[subject].uncount(row.is_some());
                    says[subject].strange += u16::from(row.is_some() && strange);
                }
            } else if !proves(voter) {
                topology.neighbours(voter).for_each(|subject| says[subject].prove -= 1);
            }
            for seen in row.unwrap_or_default() {
                let subject = records.place(seen.peer);
                if strange {
                    if let Some(subject) = subject.filter(|_| matches!(seen.life, Life::Down | Life::Left)) {
                        says[subject].count(seen, false);
                    }
                } else if let Some(subject) = subject.filter(|s| topology.are_neighbours(voter, *s)) {
                    if !cut {
                        says[subject].uncount_fine(proves(voter));
                    }
                    says[subject].count(seen, proves(voter));
                }
            }
        }
        for (place, says) in says.iter_mut().enumerate() {
            says.unknown = (topology.degree(place) as u16).saturating_sub(says.votes());
        }
        for (place, age) in ages.iter_mut().enumerate() {
            if sources.row(place).is_none() {
                *age = NEVER;
            }
        }
        Picture { ages, says }
    }

    /// How old the row of the node at `place` is; `None`: there is none that can be believed.
    pub(crate) fn age(&self, place: usize) -> Option<Duration> {
        self.ages.get(place).filter(|age| **age != NEVER).map(|age| Duration::from_millis((*age).into()))
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.ages.len()
    }

    /// The age of the oldest row that can be believed.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let believed = self.ages.iter().filter(|age| **age != NEVER);
        believed.max().map(|age| Duration::from_millis((*age).into()))
    }

    /// What its observers say of the node at `place`: nothing, as long as no picture was drawn.
    pub(crate) fn says(&self, place: usize) -> Says {
        self.says.get(place).copied().unwrap_or_default()
    }

    /// Whether all observers of all nodes call them Healthy and hear them.
    pub(crate) fn is_fine(&self) -> bool {
        self.says.iter().all(|says| says.healthy == says.observers() && says.miss == 0)
    }

    /// Whether it says the same as `other`, but for ages.
    pub(crate) fn is_like(&self, other: &Picture) -> bool {
        fn believed(picture: &Picture) -> impl Iterator<Item = bool> {
            picture.ages.iter().map(|age| *age != NEVER)
        }
        self.says == other.says && believed(self).eq(believed(other))
    }
}

impl<'a> Sources<'a> {
    fn row(&self, place: usize) -> Option<&'a [Seen]> {
        if place == self.records.me() { Some(self.own) } else { self.records.row(place) }
    }

    fn is_cut(&self, place: usize) -> bool {
        place != self.records.me() && self.records.is_cut(place)
    }

    /// How old the news from each node is that is reached over links that pass: its age first-hand, else one interval more
    /// than the youngest row that hears it. And whether any of these links may work one way only.
    fn reach(
        &self,
        passes: impl Fn(Life, LinkState) -> bool,
        begins: impl Fn(&Heard) -> bool,
    ) -> (Vec<Age>, bool) {
        let nodes = self.records.names().len();
        let (interval, stale) = (millis(self.interval), millis(self.stale));
        let mut ages = vec![NEVER; nodes];
        ages[self.records.me()] = 0;
        let mut one_way = self.heard.iter().any(|heard| !heard.two_way);
        let begin = |heard: &Heard| (millis(heard.age), heard.place);
        let mut first: Vec<(Age, usize)> = self.heard.iter().filter(|h| begins(h)).map(begin).collect();
        first.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
        // What is found by way of others comes in the order of its age, since every hop adds the same.
        let mut found: VecDeque<(Age, usize)> = VecDeque::new();
        let mut is_found = vec![false; nodes];
        is_found[self.records.me()] = true;
        let mut open = nodes - 1;
        // In a full mesh whoever was not found yet is a neighbour.
        let mesh = self.topology.is_mesh();
        let mut missing: Vec<usize> = if mesh { (0..nodes).collect() } else { Vec::new() };
        loop {
            let next = match (first.last(), found.front()) {
                (Some((age, _)), Some((other, _))) if age > other => found.pop_front(),
                (Some(_), _) => first.pop(),
                (None, _) => found.pop_front(),
            };
            let Some((age, place)) = next.filter(|(age, _)| *age < stale) else { return (ages, one_way) };
            if ages[place] != NEVER {
                continue;
            }
            ages[place] = age;
            open -= usize::from(!std::mem::replace(&mut is_found[place], true));
            let Some(row) = self.row(place) else { continue };
            one_way |= row.iter().any(|seen| seen.link == LinkState::TxLost);
            if open == 0 {
                continue;
            }
            let cut = self.is_cut(place);
            let mut is_missing = |other: usize| {
                let said = || row.binary_search_by_key(&self.records.names()[other], |seen| seen.peer);
                let hears = !is_found[other]
                    && (row.is_empty() || said().map_or(!cut, |at| passes(row[at].life, row[at].link)));
                if hears {
                    is_found[other] = true;
                    open -= 1;
                    found.push_back((age.saturating_add(interval), other));
                }
                !is_found[other]
            };
            if mesh {
                missing.retain(|other| is_missing(*other));
            } else {
                self.topology.neighbours(place).for_each(|other| {
                    is_missing(other);
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::config::Observers;
    use crate::proto::records::{Body, NodeName, Record};

    const SECOND: Duration = Duration::from_secs(1);
    const STALE: Duration = Duration::from_secs(10);
    const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

    /// What `a` draws: rows of the others as (observer, subject, life, link), and whom it hears itself.
    fn draw(rows: &[(usize, usize, Life, LinkState)], heard_peers: &[usize]) -> (Records, Picture) {
        let mut names = IDS.map(NodeName::of);
        names.sort();
        let me = names.binary_search(&NodeName::of("a")).unwrap();
        let others: Vec<usize> = (0..5).filter(|place| *place != me).collect();
        let mut records = Records::new(names.into(), me, &others);
        let row = |owner: usize| {
            let of = rows.iter().filter(|r| r.0 == owner);
            let mut seen: Vec<Seen> =
                of.map(|r| Seen { peer: NodeName::of(IDS[r.1]), life: r.2, link: r.3 }).collect();
            seen.sort_by_key(|s| s.peer);
            seen
        };
        for (owner, id) in IDS.iter().enumerate().skip(1) {
            let record = Record { owner: NodeName::of(id), version: 1, body: Body::Row(row(owner)) };
            records.merge(&record, None);
        }
        let place = |peer: &usize| records.place(NodeName::of(IDS[*peer])).unwrap();
        let heard = |peer| Heard { place: place(peer), age: SECOND / 2, two_way: true };
        let heard: Vec<Heard> = heard_peers.iter().map(heard).collect();
        let topology = Topology::new(Observers::All, records.names());
        let sources = Sources {
            records: &records,
            topology: &topology,
            own: &row(0),
            heard: &heard,
            interval: SECOND,
            stale: STALE,
        };
        let picture = Picture::draw(sources);
        (records, picture)
    }

    fn place(records: &Records, node: usize) -> usize {
        records.place(NodeName::of(IDS[node])).unwrap()
    }

    fn of(records: &Records, all: &[Says], node: usize) -> Says {
        all[place(records, node)]
    }

    #[test]
    fn all_is_fine() {
        let (_, picture) = draw(&[], &[1, 2, 3, 4]);
        let fine = Says { healthy: 4, hear: 4, reached: 4, prove: 4, ..Says::default() };
        assert_eq!(picture.says, [fine; 5]);
        assert!((0..5).all(|place| picture.age(place).is_some()));
    }

    #[test]
    fn a_cut_link_is_missed_by_one_and_heard_by_the_others() {
        let (a_b, b_a) = ((0, 1, Life::Healthy, LinkState::Down), (1, 0, Life::Healthy, LinkState::Down));
        let (records, picture) = draw(&[a_b, b_a], &[2, 3, 4]);
        let says = of(&records, &picture.says, 1);
        assert_eq!((says.healthy, says.hear, says.miss, says.observers()), (4, 3, 1, 4));
        assert_eq!(picture.age(place(&records, 1)), Some(SECOND * 3 / 2), "its row comes by way of others");
    }

    #[test]
    fn who_was_not_reached_has_no_vote() {
        // a and b are cut off from c, d and e, whose old rows say that they hear each other.
        let down = |of, who| (of, who, Life::Down, LinkState::Down);
        let cut: Vec<_> = [0, 1].iter().flat_map(|of| [2, 3, 4].map(|who| down(*of, who))).collect();
        let (records, picture) = draw(&cut, &[1]);
        for dead in 2..5 {
            let says = of(&records, &picture.says, dead);
            assert_eq!((says.healthy, says.down, says.unknown), (0, 2, 2));
            assert_eq!(picture.age(place(&records, dead)), None);
        }
        let says = of(&records, &picture.says, 1);
        assert_eq!((says.healthy, says.unknown), (1, 3));
    }

    #[test]
    fn vouching_newborns() {
        // b is dead; c and d have just started and have not heard it; only e votes.
        let newborn = |of| (of, 1, Life::Unknown, LinkState::Up);
        let down = |of| (of, 1, Life::Down, LinkState::Down);
        let (records, picture) = draw(&[newborn(2), newborn(3), down(4), down(0)], &[2, 3, 4]);
        let says = of(&records, &picture.says, 1);
        assert_eq!((says.healthy, says.down, says.unknown, says.hear), (0, 2, 2, 0));
    }
}
