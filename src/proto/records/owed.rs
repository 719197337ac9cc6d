//! What is owed to whom, and in which order it goes out.

use std::collections::VecDeque;

use super::{Kind, LEAST, Record};

/// Datagrams with records that wait for their echo, for each neighbour.
const FLIGHTS: usize = 8;
/// After so many of them without any echo it is told only what this node says of itself.
const UNANSWERED: usize = 3;
/// So many of the newest slots go out before the others.
const FRESH: usize = 64;
/// Who is owed so much is owed what came from others only if it is among the chosen.
const FEW: usize = 16;
/// So many are chosen for each record; who is reached by none of them finds it by the digest.
const CHOSEN: usize = 8;
/// So many where the owner tells everybody itself.
const CHOSEN_FEW: usize = 3;
/// After so many records that do not fit nothing more is looked for.
const MISFITS: usize = 8;

/// Where what is owed is read.
pub(super) trait Slots {
    /// Bytes of the encoding of what is in a slot; `None`: nothing.
    fn len(&self, slot: usize) -> Option<usize>;
    /// What is in a slot.
    fn record(&self, slot: usize) -> Option<Record>;
}

/// Who is told of what is new.
pub(super) enum Audience {
    /// Everybody.
    All,
    /// Who is owed little, and [`CHOSEN`] others.
    Some,
    /// [`CHOSEN_FEW`], whatever they are owed.
    Few,
    /// These neighbours.
    These(Vec<bool>),
}

/// What is owed to a neighbour, and what is on its way.
#[derive(Clone, Debug)]
struct Line {
    /// The link to it works: it is owed what it lacks.
    present: bool,
    /// It has acknowledged the newest profile of this node. Until then every datagram for records carries that.
    knows: bool,
    /// More is owed to it than the newest datagram had room for.
    more: bool,
    /// A bit for each slot of the table, and how many are set.
    bits: Box<[u64]>,
    owed: usize,
    /// From which slot the next datagram goes on.
    turn: usize,
    /// Datagrams with records since it echoed one.
    unanswered: usize,
    /// The sequence of a datagram, and the slots that it carried, with the last 32 bits of their versions.
    flights: VecDeque<(u64, Vec<(u32, u32)>)>,
}

impl Line {
    fn owes(&self, slot: usize) -> bool {
        self.bits[slot / 64] >> (slot % 64) & 1 == 1
    }

    fn set(&mut self, slot: usize, owed: bool) {
        if self.owes(slot) != owed {
            self.bits[slot / 64] ^= 1 << (slot % 64);
            self.owed = if owed { self.owed + 1 } else { self.owed - 1 };
        }
    }

    fn clear(&mut self) {
        self.bits.fill(0);
        self.owed = 0;
        self.more = false;
        self.unanswered = 0;
        self.flights.clear();
    }

    /// The first slot in a range that is owed.
    fn next(&self, range: std::ops::Range<usize>) -> Option<usize> {
        let mut slot = range.start;
        while slot < range.end {
            let rest = self.bits[slot / 64] >> (slot % 64);
            if rest != 0 {
                return Some(slot + rest.trailing_zeros() as usize).filter(|slot| *slot < range.end);
            }
            slot = (slot / 64 + 1) * 64;
        }
        None
    }
}

/// For each neighbour the slots of the table that are owed to it.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    lines: Vec<Line>,
    /// Of the table.
    slots: usize,
    /// Of this node itself.
    own: std::ops::Range<usize>,
    /// Slots that were new last, the newest first, each once.
    fresh: VecDeque<u32>,
}

impl Owed {
    pub(super) fn new(slots: usize, neighbours: usize, own: std::ops::Range<usize>) -> Owed {
        // Not all neighbours are told the same first.
        let line = |neighbour| Line {
            present: false,
            knows: false,
            more: false,
            bits: vec![0; slots.div_ceil(64)].into(),
            owed: 0,
            turn: neighbour * slots / neighbours,
            unanswered: 0,
            flights: VecDeque::new(),
        };
        Owed { lines: (0..neighbours).map(line).collect(), slots, own, fresh: VecDeque::with_capacity(FRESH) }
    }

    /// What was owed in another roster, of which `slots` tells for each slot where it was, and `was` for each neighbour which it
    /// was.
    pub(super) fn follow(&mut self, before: &Owed, slots: &[Option<usize>], was: &[Option<usize>]) {
        let mut now = vec![None; before.slots];
        for (slot, was) in slots.iter().enumerate().filter_map(|(slot, was)| Some((slot as u32, (*was)?))) {
            now[was] = Some(slot);
        }
        let now = |slot: u32| now[slot as usize];
        for (line, old) in
            self.lines.iter_mut().zip(was).filter_map(|(line, was)| Some((line, &before.lines[(*was)?])))
        {
            (line.present, line.knows) = (old.present, old.knows);
            (line.more, line.unanswered) = (old.more, old.unanswered);
            for (slot, was) in slots.iter().enumerate() {
                line.set(slot, was.is_some_and(|was| old.owes(was)));
            }
            let carried = |(slot, version): &(u32, u32)| Some((now(*slot)?, *version));
            let flight =
                |(number, all): &(u64, Vec<(u32, u32)>)| (*number, all.iter().filter_map(carried).collect());
            line.flights = old.flights.iter().map(flight).collect();
        }
        self.fresh.extend(before.fresh.iter().filter_map(|slot| now(*slot)));
    }

    /// What is in `slot` is new: it goes out first, to its audience (`scatter`, all 64 bits of it, chooses), but not to who
    /// brought it.
    pub(super) fn news(&mut self, slot: usize, audience: &Audience, from: Option<usize>, scatter: u64) {
        let count = self.lines.len();
        let begin = ((u128::from(scatter) * count as u128) >> 64) as usize;
        let mut choices = match audience {
            Audience::Some => CHOSEN,
            Audience::Few => CHOSEN_FEW,
            Audience::All | Audience::These(_) => 0,
        };
        if let Some(from) = from {
            self.lines[from].set(slot, false);
        }
        for neighbour in (begin..count).chain(0..begin).filter(|neighbour| from != Some(*neighbour)) {
            let line = &mut self.lines[neighbour];
            let is_told = match audience {
                Audience::All => true,
                Audience::Some => line.owed < FEW,
                Audience::Few => false,
                Audience::These(which) => which[neighbour],
            };
            if line.present && (is_told || choices > 0) {
                line.set(slot, true);
                choices = choices.saturating_sub(1);
            }
        }
        self.fresh.retain(|other| *other as usize != slot);
        self.fresh.truncate(FRESH - 1);
        self.fresh.push_front(slot as u32);
    }

    /// `neighbour` lacks what is in `slot`.
    pub(super) fn owe(&mut self, slot: usize, neighbour: usize) {
        let line = &mut self.lines[neighbour];
        line.set(slot, line.present);
    }

    /// `neighbour` has what is in `slot`.
    pub(super) fn settle(&mut self, slot: usize, neighbour: usize) {
        self.lines[neighbour].set(slot, false);
    }

    /// The link to a neighbour begins to work.
    pub(super) fn greet(&mut self, neighbour: usize) {
        self.lines[neighbour].clear();
        self.lines[neighbour].present = true;
    }

    /// The link to a neighbour no longer works: nothing is owed to it.
    pub(super) fn part(&mut self, neighbour: usize) {
        self.lines[neighbour].clear();
        self.lines[neighbour].present = false;
    }

    /// This node has a new profile, which no neighbour knows.
    pub(super) fn forget_knowledge(&mut self) {
        self.lines.iter_mut().for_each(|line| line.knows = false);
    }

    /// Whether `neighbour` has acknowledged the newest profile of this node.
    pub(super) fn knows(&self, neighbour: usize) -> bool {
        self.lines[neighbour].knows
    }

    /// `neighbour` has the newest profile of this node, or may not have it.
    pub(super) fn set_knows(&mut self, neighbour: usize, knows: bool) {
        self.lines[neighbour].knows = knows;
    }

    /// Whether the link to a neighbour works.
    pub(super) fn is_present(&self, neighbour: usize) -> bool {
        self.lines[neighbour].present
    }

    /// Whether a neighbour is owed anything.
    pub(super) fn is_owed(&self, neighbour: usize) -> bool {
        self.lines[neighbour].owed > 0
    }

    /// Whether nobody is owed anything.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn is_quiet(&self) -> bool {
        self.lines.iter().all(|line| line.owed == 0)
    }

    /// Whether more is owed to `neighbour` than its newest datagram had room for.
    pub(super) fn has_more(&self, neighbour: usize) -> bool {
        self.lines[neighbour].more
    }

    /// What `neighbour` is owed, up to `room` bytes, to travel in its datagram `sequence`: the newest first, then the rest in
    /// turn. `table` reads a slot.
    pub(super) fn pick(
        &mut self,
        neighbour: usize,
        room: usize,
        sequence: u64,
        table: impl Slots,
    ) -> Vec<Record> {
        let line = &mut self.lines[neighbour];
        line.more = false;
        if line.owed == 0 && line.knows {
            return Vec::new();
        }
        let mut load = Load { room, misfits: 0, picked: Vec::new(), carried: Vec::new() };
        let profile = self.own.start + Kind::Profile as usize;
        if !line.knows {
            load.take(profile, &table);
        }
        if line.unanswered >= UNANSWERED {
            for slot in self.own.clone().filter(|slot| line.owes(*slot)) {
                load.take(slot, &table);
            }
            return load.picked;
        }
        for slot in self.fresh.iter().map(|slot| *slot as usize).filter(|slot| line.owes(*slot)) {
            load.take(slot, &table);
        }
        // Long ones among the new keep nothing else back.
        let mut misfits = std::mem::take(&mut load.misfits);
        for range in [line.turn..self.slots, 0..line.turn] {
            let (mut at, end) = (range.start, range.end);
            while let Some(slot) = line.next(at..end).filter(|_| !load.is_full()) {
                load.take(slot, &table);
                at = slot + 1;
                line.turn = at;
            }
        }
        misfits += load.misfits;
        line.more = !load.carried.is_empty() && (load.room < LEAST || misfits > 0);
        if !load.carried.is_empty() {
            if line.flights.len() == FLIGHTS {
                line.flights.pop_front();
            }
            line.flights.push_back((sequence, load.carried));
            line.unanswered += 1;
        }
        load.picked
    }

    /// `neighbour` echoed the datagram `sequence`: what it carried came. How many records that were. `version` reads the
    /// last 32 bits of a slot's version.
    pub(super) fn echoed(
        &mut self,
        neighbour: usize,
        sequence: u64,
        version: impl Fn(usize) -> u32,
    ) -> usize {
        let line = &mut self.lines[neighbour];
        line.unanswered = 0;
        let Some(at) = line.flights.iter().position(|(number, _)| *number == sequence) else { return 0 };
        let profile = self.own.start + Kind::Profile as usize;
        let (_, carried) = line.flights.remove(at).expect("it was found");
        for (slot, carried) in &carried {
            if version(*slot as usize) == *carried {
                line.set(*slot as usize, false);
                line.knows |= *slot as usize == profile;
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
    /// So many records did not fit.
    misfits: usize,
    picked: Vec<Record>,
    carried: Vec<(u32, u32)>,
}

impl Load {
    fn is_full(&self) -> bool {
        self.room < LEAST || self.misfits >= MISFITS
    }

    fn take(&mut self, slot: usize, table: &impl Slots) {
        if self.is_full() || self.carried.iter().any(|(carried, _)| *carried as usize == slot) {
            return;
        }
        let Some(len) = table.len(slot) else { return };
        if len > self.room {
            self.misfits += 1;
            return;
        }
        let Some(record) = table.record(slot) else { return };
        self.room -= len;
        self.carried.push((slot as u32, record.version as u32));
        self.picked.push(record);
    }
}
