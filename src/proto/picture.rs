//! The whole picture: what all rows together say, as far as this node can trust them.
//!
//! Trust goes outward from the node itself: whom it hears first-hand, then whom those hear, and so on. Only rows of nodes
//! that were reached so, and that are fresh, count; a dead observer's last words do not.

use std::time::Duration;

use super::records::{Life, LinkState, Records, Seen};

/// What the observers of a node say of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Says {
    /// So many call it Healthy.
    pub healthy: u32,
    /// Suspected.
    pub suspected: u32,
    /// Down, or left.
    pub down: u32,
    /// So many have no fresh row, or have not heard it since their start: no vote.
    pub unknown: u32,
    /// So many hear it themselves.
    pub hear: u32,
    /// So many do not, and say so.
    pub miss: u32,
}

impl Says {
    /// How many observe it.
    pub fn observers(&self) -> u32 {
        self.healthy + self.suspected + self.down + self.unknown
    }

    fn count(&mut self, life: Life, link: LinkState) {
        match life {
            Life::Healthy => self.healthy += 1,
            Life::Suspected => self.suspected += 1,
            Life::Down | Life::Left => self.down += 1,
            Life::Unknown => self.unknown += 1,
        }
        if life == Life::Unknown {
            return;
        }
        if hears(life, link) {
            self.hear += 1;
        } else {
            self.miss += 1;
        }
    }
}

/// Whether an observer that says so hears the peer itself.
fn hears(life: Life, link: LinkState) -> bool {
    life == Life::Healthy && matches!(link, LinkState::Up | LinkState::Lossy | LinkState::TxLost)
}

/// What all rows together say; places are those of the table of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// How old each node's row is; `None`: the node was not reached, or has said nothing.
    pub(crate) ages: Vec<Option<Duration>>,
    /// What is said of each node.
    pub(crate) says: Vec<Says>,
}

impl Picture {
    /// `own`: what this node sees, that is not plainly fine. `heard`: how long ago each node was heard first-hand, if it
    /// was. Every hop adds an `interval` to the age of a row; one of `stale` or more is not believed.
    pub(crate) fn draw(
        records: &Records,
        own: &[Seen],
        heard: &[Option<Duration>],
        interval: Duration,
        stale: Duration,
    ) -> Picture {
        let nodes = records.names().len();
        let mut ages: Vec<Option<Duration>> = heard.iter().map(|age| age.filter(|a| *a < stale)).collect();
        ages[records.me()] = Some(Duration::ZERO);
        reach(records, own, &mut ages, interval, stale);
        for (place, age) in ages.iter_mut().enumerate() {
            *age = age.filter(|_| row(records, own, place).is_some());
        }
        let voters = ages.iter().filter(|age| age.is_some()).count() as u32;
        let all = nodes as u32;
        let mut says: Vec<Says> = ages
            .iter()
            .map(|age| {
                // A node does not observe itself.
                let voters = voters - u32::from(age.is_some());
                Says { healthy: voters, hear: voters, unknown: all - 1 - voters, ..Says::default() }
            })
            .collect();
        for voter in (0..nodes).filter(|place| ages[*place].is_some()) {
            for seen in row(records, own, voter).unwrap_or_default() {
                let Some(subject) = records.place(seen.peer).filter(|place| *place != voter) else {
                    continue;
                };
                let said = &mut says[subject];
                (said.healthy, said.hear) = (said.healthy - 1, said.hear - 1);
                said.count(seen.life, seen.link);
            }
        }
        Picture { ages, says }
    }
}

fn row<'a>(records: &'a Records, own: &'a [Seen], place: usize) -> Option<&'a [Seen]> {
    if place == records.me() { Some(own) } else { records.row(place).map(|(seen, _)| seen) }
}

/// Reaches the nodes that others hear: a row is one interval older than the youngest that hears its owner.
fn reach(
    records: &Records,
    own: &[Seen],
    ages: &mut [Option<Duration>],
    interval: Duration,
    stale: Duration,
) {
    loop {
        // The youngest first, so that nobody is reached by way of a row that gets younger afterwards.
        let missing: Vec<usize> = (0..ages.len()).filter(|place| ages[*place].is_none()).collect();
        if missing.is_empty() {
            return;
        }
        let mut found: Option<(Duration, usize)> = None;
        for (by, age) in ages.iter().enumerate() {
            let Some(age) = age.map(|age| age + interval).filter(|age| *age < stale) else { continue };
            let Some(row) = row(records, own, by) else { continue };
            if found.is_some_and(|(best, _)| best <= age) {
                continue;
            }
            let heard = |place: &&usize| {
                let name = records.names()[**place];
                let said = row.binary_search_by_key(&name, |seen| seen.peer);
                said.map_or(true, |at| hears(row[at].life, row[at].link))
            };
            // This node's own row reaches nobody: whom it hears is in `heard`.
            let heard = missing.iter().find(heard).filter(|_| by != records.me());
            found = heard.map(|place| (age, *place)).or(found);
        }
        let Some((age, place)) = found else { return };
        ages[place] = Some(age);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::records::{Body, NodeName, Record};
    use crate::proto::timer::Time;

    const SECOND: Duration = Duration::from_secs(1);
    const STALE: Duration = Duration::from_secs(10);
    const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

    /// What `a` draws: rows of the others as (observer, subject, life, link), and whom it hears itself.
    fn draw(rows: &[(usize, usize, Life, LinkState)], heard: &[usize]) -> (Records, Picture) {
        let mut records = Records::new("a", &IDS[1..], 4).unwrap();
        let row = |owner: usize| {
            let of = rows.iter().filter(|r| r.0 == owner);
            let mut seen: Vec<Seen> =
                of.map(|r| Seen { peer: NodeName::of(IDS[r.1]), life: r.2, link: r.3 }).collect();
            seen.sort_by_key(|s| s.peer);
            seen
        };
        for (owner, id) in IDS.iter().enumerate().skip(1) {
            let record = Record { owner: NodeName::of(id), version: 1, body: Body::Row(row(owner)) };
            records.merge(record, None, Time::ZERO);
        }
        let mut ages = vec![None; 5];
        for peer in heard {
            ages[records.place(NodeName::of(IDS[*peer])).unwrap()] = Some(SECOND / 2);
        }
        let picture = Picture::draw(&records, &row(0), &ages, SECOND, STALE);
        (records, picture)
    }

    fn of<T: Copy>(records: &Records, all: &[T], node: usize) -> T {
        all[records.place(NodeName::of(IDS[node])).unwrap()]
    }

    #[test]
    fn all_is_fine() {
        let (_, picture) = draw(&[], &[1, 2, 3, 4]);
        let fine = Says { healthy: 4, hear: 4, ..Says::default() };
        assert_eq!(picture.says, [fine; 5]);
        assert!(picture.ages.iter().all(Option::is_some));
    }

    #[test]
    fn a_cut_link_is_missed_by_one_and_heard_by_the_others() {
        let (a_b, b_a) = ((0, 1, Life::Healthy, LinkState::Down), (1, 0, Life::Healthy, LinkState::Down));
        let (records, picture) = draw(&[a_b, b_a], &[2, 3, 4]);
        let says = of(&records, &picture.says, 1);
        assert_eq!((says.healthy, says.hear, says.miss, says.observers()), (4, 3, 1, 4));
        assert_eq!(of(&records, &picture.ages, 1), Some(SECOND * 3 / 2), "its row comes by way of others");
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
            assert_eq!(of(&records, &picture.ages, dead), None);
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
