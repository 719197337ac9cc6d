//! The core's time, and its timer queue.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point in time, in whole microseconds since an origin that the shell chooses (on Linux the boot of the
/// machine: the clock must count the time that the machine was suspended). All arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Time = Time(0);

    /// The time `micros` microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Time {
        Time(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in whole microseconds, saturating.
pub(crate) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(micros(d)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, d: Duration) -> Time {
        Time(self.0.saturating_sub(micros(d)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Children of a place in the heap: with four the way down is half as long as with two, and they share a cache line.
const CHILDREN: usize = 4;
/// The place of a slot without a deadline.
const NOWHERE: u32 = u32::MAX;

/// One deadline for each of a fixed number of slots, the earliest first: a heap that knows where each slot stands, so that
/// setting, moving and clearing a deadline cost O(log n) and allocate nothing.
#[derive(Debug)]
pub(crate) struct TimerQueue {
    /// The heap: deadlines with their slots; of equal deadlines the smaller slot is first.
    heap: Vec<(Time, u32)>,
    /// The place of every slot in the heap.
    places: Vec<u32>,
}

impl TimerQueue {
    pub(crate) fn new(slots: usize) -> TimerQueue {
        TimerQueue { heap: Vec::with_capacity(slots), places: vec![NOWHERE; slots] }
    }

    /// Sets the deadline of `slot`; `None` clears it.
    pub(crate) fn set(&mut self, slot: usize, at: Option<Time>) {
        let place = self.places[slot] as usize;
        match at.map(|at| (at, slot as u32)) {
            None if place == NOWHERE as usize => {}
            None => {
                self.places[slot] = NOWHERE;
                let last = self.heap.pop().expect("a slot with a place is in the heap");
                if last.1 as usize != slot {
                    self.settle(place, last);
                }
            }
            Some(entry) if place == NOWHERE as usize => {
                self.heap.push(entry);
                self.settle(self.heap.len() - 1, entry);
            }
            Some(entry) if self.heap[place] == entry => {}
            Some(entry) => self.settle(place, entry),
        }
    }

    /// The deadline of `slot`.
    pub(crate) fn at(&self, slot: usize) -> Option<Time> {
        self.heap.get(self.places[slot] as usize).map(|(at, _)| *at)
    }

    /// The earliest deadline and its slot.
    pub(crate) fn first(&self) -> Option<(Time, usize)> {
        self.heap.first().map(|&(at, slot)| (at, slot as usize))
    }

    fn put(&mut self, place: usize, entry: (Time, u32)) {
        self.heap[place] = entry;
        self.places[entry.1 as usize] = place as u32;
    }

    /// Puts an entry to where it belongs, when `place` is free.
    fn settle(&mut self, mut place: usize, entry: (Time, u32)) {
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            if self.heap[parent] <= entry {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        loop {
            let first = CHILDREN * place + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let Some(least) =
                children.min_by_key(|child| self.heap[*child]).filter(|c| self.heap[*c] < entry)
            else {
                return self.put(place, entry);
            };
            self.put(place, self.heap[least]);
            place = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arithmetic_saturates() {
        let end = Time::from_micros(u64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(Time::ZERO - Duration::MAX, Time::ZERO);
        assert_eq!(Time::ZERO.since(end), Duration::ZERO);
    }

    proptest! {
        /// The queue agrees with the plainest model: a table that is searched.
        #[test]
        fn the_queue_agrees_with_a_table(steps in prop::collection::vec((0usize..8, prop::option::of(0u64..50)), 0..200)) {
            let mut queue = TimerQueue::new(8);
            let mut table = [None; 8];
            for (slot, at) in steps {
                let at = at.map(Time::from_micros);
                queue.set(slot, at);
                table[slot] = at;
                let first = table.iter().enumerate().filter_map(|(i, t)| t.map(|t| (t, i))).min();
                prop_assert_eq!(queue.first(), first);
            }
        }
    }
}
