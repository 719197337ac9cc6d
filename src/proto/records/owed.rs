//! What is owed to whom, and in which order it goes out.

use std::collections::VecDeque;

use super::{LEAST, Record};

/// Datagrams with records that wait for their echo, for each neighbour.
const FLIGHTS: usize = 8;
/// So many of the newest owed records are looked at for each datagram, and so many of the others.
const FRESH: usize = 64;
const LOOK: usize = 1024;
/// In the list: not in it.
const NOWHERE: u32 = u32::MAX;

/// What is on its way to a neighbour.
#[derive(Clone, Debug, Default)]
struct Line {
    /// The link to it works: it is owed what it lacks.
    present: bool,
    /// More is owed to it than the newest datagram had room for.
    more: bool,
    /// The sequence of a datagram, and the slots that it carried, with the last 32 bits of their versions.
    flights: VecDeque<(u64, Vec<(u32, u32)>)>,
}

/// For each slot of the table the neighbours that are owed what is in it.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    lines: Vec<Line>,
    /// For each slot a bit a neighbour, in so many words.
    bits: Vec<u64>,
    words: usize,
    /// Slots that are owed to somebody, and some that were: (next, before), what is newest first, in a ring with one place
    /// more, which is both ends.
    list: Vec<(u32, u32)>,
    /// Where the turn of those is that are not new.
    turn: u32,
}

impl Owed {
    pub(super) fn new(slots: usize, neighbours: usize) -> Owed {
        let (words, ends) = (neighbours.div_ceil(64).max(1), slots as u32);
        let mut list = vec![(NOWHERE, NOWHERE); slots + 1];
        list[slots] = (ends, ends);
        Owed {
            lines: vec![Line::default(); neighbours],
            bits: vec![0; slots * words],
            words,
            list,
            turn: ends,
        }
    }

    fn ends(&self) -> u32 {
        self.list.len() as u32 - 1
    }

    fn is_listed(&self, slot: usize) -> bool {
        self.list[slot].0 != NOWHERE
    }

    fn unlist(&mut self, slot: usize) {
        let (next, before) = std::mem::replace(&mut self.list[slot], (NOWHERE, NOWHERE));
        self.list[before as usize].0 = next;
        self.list[next as usize].1 = before;
        if self.turn as usize == slot {
            self.turn = next;
        }
    }

    /// Puts a slot that is not in the list before another one.
    fn list_before(&mut self, slot: usize, next: u32) {
        let before = self.list[next as usize].1;
        self.list[slot] = (next, before);
        self.list[before as usize].0 = slot as u32;
        self.list[next as usize].1 = slot as u32;
    }

    fn owes(&self, slot: usize, neighbour: usize) -> bool {
        self.bits[slot * self.words + neighbour / 64] >> (neighbour % 64) & 1 == 1
    }

    fn is_owed(&self, slot: usize) -> bool {
        self.bits[slot * self.words..(slot + 1) * self.words].iter().any(|word| *word != 0)
    }

    fn set(&mut self, slot: usize, neighbour: usize, owed: bool) {
        let word = &mut self.bits[slot * self.words + neighbour / 64];
        let bit = 1 << (neighbour % 64);
        *word = if owed { *word | bit } else { *word & !bit };
    }

    /// What is in `slot` is new: it goes out first, to all but who brought it.
    pub(super) fn news(&mut self, slot: usize, from: Option<usize>) {
        for neighbour in 0..self.lines.len() {
            let owed = self.lines[neighbour].present && from != Some(neighbour);
            self.set(slot, neighbour, owed);
        }
        if self.is_owed(slot) {
            if self.is_listed(slot) {
                self.unlist(slot);
            }
            self.list_before(slot, self.list[self.ends() as usize].0);
        }
    }

    /// `neighbour` lacks what is in `slot`.
    pub(super) fn owe(&mut self, slot: usize, neighbour: usize) {
        if self.lines[neighbour].present {
            self.set(slot, neighbour, true);
            if !self.is_listed(slot) {
                self.list_before(slot, self.ends());
            }
        }
    }

    /// `neighbour` has what is in `slot`.
    pub(super) fn settle(&mut self, slot: usize, neighbour: usize) {
        self.set(slot, neighbour, false);
    }

    /// The link to a neighbour begins to work.
    pub(super) fn greet(&mut self, neighbour: usize) {
        self.lines[neighbour] = Line { present: true, ..Line::default() };
    }

    /// The link to a neighbour no longer works: nothing is owed to it.
    pub(super) fn part(&mut self, neighbour: usize) {
        if std::mem::take(&mut self.lines[neighbour]).present {
            (0..self.list.len() - 1).for_each(|slot| self.set(slot, neighbour, false));
        }
    }

    /// Whether the link to a neighbour works.
    pub(super) fn is_present(&self, neighbour: usize) -> bool {
        self.lines[neighbour].present
    }

    /// Whether nothing is in the list: nobody is owed anything.
    pub(super) fn is_empty(&self) -> bool {
        self.list[self.ends() as usize].0 == self.ends()
    }

    /// Whether nobody is owed anything.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn is_quiet(&self) -> bool {
        self.bits.iter().all(|word| *word == 0)
    }

    /// Whether more is owed to `neighbour` than its newest datagram had room for.
    pub(super) fn has_more(&self, neighbour: usize) -> bool {
        self.lines[neighbour].more
    }

    /// What `neighbour` is owed, up to `room` bytes, to travel in its datagram `sequence`: the newest first, then the rest in
    /// turn, so that not all neighbours get the same. `record` reads a slot.
    pub(super) fn pick(
        &mut self,
        neighbour: usize,
        room: usize,
        sequence: u64,
        record: impl Fn(usize) -> Option<Record>,
    ) -> Vec<Record> {
        let mut load = Load { room, more: false, picked: Vec::new(), carried: Vec::new() };
        let fresh = self.list[self.ends() as usize].0;
        let rest = self.walk(fresh, FRESH, neighbour, &mut load, &record);
        if rest != self.ends() {
            let turn = if self.turn == self.ends() { rest } else { self.turn };
            self.turn = self.walk(turn, LOOK, neighbour, &mut load, &record);
        }
        let line = &mut self.lines[neighbour];
        line.more = load.more || load.room <= LEAST;
        if !load.carried.is_empty() {
            if line.flights.len() == FLIGHTS {
                line.flights.pop_front();
            }
            line.flights.push_back((sequence, load.carried));
        }
        load.picked
    }

    /// Goes over at most so many slots of the list, from `at`; answers where it stopped.
    fn walk(
        &mut self,
        mut at: u32,
        most: usize,
        neighbour: usize,
        load: &mut Load,
        record: impl Fn(usize) -> Option<Record>,
    ) -> u32 {
        for _ in 0..most {
            if at == self.ends() || load.room <= LEAST {
                break;
            }
            let slot = at as usize;
            at = self.list[slot].0;
            if !self.is_owed(slot) {
                self.unlist(slot);
            } else if self.owes(slot, neighbour)
                && let Some(record) = record(slot)
            {
                load.take(slot, record);
            }
        }
        at
    }

    /// `neighbour` echoed the datagram `sequence`: what it carried came. How many records that were. `version` reads the
    /// last 32 bits of a slot's version.
    pub(super) fn echoed(
        &mut self,
        neighbour: usize,
        sequence: u64,
        version: impl Fn(usize) -> u32,
    ) -> usize {
        let flights = &mut self.lines[neighbour].flights;
        let Some(at) = flights.iter().position(|(number, _)| *number == sequence) else { return 0 };
        let (_, carried) = flights.remove(at).expect("it was found");
        for (slot, carried) in &carried {
            if version(*slot as usize) == *carried {
                self.set(*slot as usize, neighbour, false);
            }
        }
        carried.len()
    }

    /// Bytes on the heap for what comes and goes.
    #[cfg(feature = "sim")]
    pub(super) fn held(&self) -> usize {
        let flights = self.lines.iter().flat_map(|line| &line.flights);
        flights.map(|(_, carried)| size_of::<u64>() + carried.len() * size_of::<(u32, u32)>()).sum()
    }

    /// The most bytes that [`held`](Owed::held) can be, with datagrams of `longest` bytes.
    #[cfg(feature = "sim")]
    pub(super) fn most_held(neighbours: usize, longest: usize) -> usize {
        neighbours * FLIGHTS * (size_of::<u64>() + longest / LEAST * size_of::<(u32, u32)>())
    }
}

/// What goes into a datagram.
struct Load {
    room: usize,
    /// Something did not fit.
    more: bool,
    picked: Vec<Record>,
    carried: Vec<(u32, u32)>,
}

impl Load {
    fn take(&mut self, slot: usize, record: Record) {
        let (len, slot) = (record.encoded_len(), slot as u32);
        if self.carried.iter().any(|(carried, _)| *carried == slot) {
            return; // It was among the newest.
        }
        if len > self.room {
            self.more = true;
            return;
        }
        self.room -= len;
        self.carried.push((slot, record.version as u32));
        self.picked.push(record);
    }
}
