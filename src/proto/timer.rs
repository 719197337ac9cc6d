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

/// One deadline for each of a fixed number of slots, the earliest first: a binary heap that knows where each
/// slot stands, so that setting, moving and clearing a deadline cost O(log n) and allocate nothing.
#[derive(Debug)]
pub(crate) struct TimerQueue {
    /// The heap: slots ordered by their deadline.
    heap: Vec<u32>,
    /// Deadline and place in the heap of every slot.
    slots: Vec<(Time, Option<u32>)>,
}

impl TimerQueue {
    pub(crate) fn new(slots: usize) -> TimerQueue {
        TimerQueue { heap: Vec::with_capacity(slots), slots: vec![(Time::ZERO, None); slots] }
    }

    /// Sets the deadline of `slot`; `None` clears it.
    pub(crate) fn set(&mut self, slot: usize, at: Option<Time>) {
        match (at, self.slots[slot].1) {
            (None, None) => {}
            (Some(at), Some(place)) => {
                self.slots[slot].0 = at;
                self.settle(place as usize);
            }
            (Some(at), None) => {
                self.slots[slot].0 = at;
                self.heap.push(slot as u32);
                self.settle(self.heap.len() - 1);
            }
            (None, Some(place)) => {
                let place = place as usize;
                self.slots[slot].1 = None;
                let last = self.heap.pop().expect("a slot with a place is in the heap");
                if last as usize != slot {
                    self.heap[place] = last;
                    self.settle(place);
                }
            }
        }
    }

    /// The earliest deadline and its slot.
    pub(crate) fn first(&self) -> Option<(Time, usize)> {
        self.heap.first().map(|&slot| (self.slots[slot as usize].0, slot as usize))
    }

    fn key(&self, place: usize) -> (Time, u32) {
        let slot = self.heap[place];
        (self.slots[slot as usize].0, slot)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn note(&mut self, place: usize) {
        self.slots[self.heap[place] as usize].1 = Some(place as u32);
    }

    /// Moves what stands at `place` to where it belongs.
    fn settle(&mut self, mut place: usize) {
        self.note(place);
        while place > 0 && self.key(place) < self.key((place - 1) / 2) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.heap.len() && self.key(child) < self.key(least) {
                    least = child;
                }
            }
            if least == place {
                return;
            }
            self.swap(place, least);
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
