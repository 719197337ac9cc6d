//! The newest events, numbered, and what a reader of them gets next.

use std::collections::VecDeque;

/// Events kept.
pub(super) const KEPT: usize = 256;

/// The newest [`KEPT`] events as JSON, with their numbers: those rise, and may have holes.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The highest number given so far.
    pub(super) newest: u64,
    events: VecDeque<(u64, String)>,
}

/// Where a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// It saw this event, and those before it.
    Seen(u64),
    /// It wants all that is kept, and misses nothing.
    Oldest,
    /// It saw events of another run: how many it missed nobody knows.
    Foreign,
}

/// A piece of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Events are missing here: so many, if that is known.
    Gap(Option<u64>),
    /// The event of this number.
    Event(u64, String),
}

impl Ring {
    /// Adds the next event; the oldest makes room.
    pub(super) fn push(&mut self, event: String) {
        self.newest += 1;
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back((self.newest, event));
    }

    /// What comes after `at`, and the number that the reader has seen then.
    pub(super) fn after(&self, at: Position) -> (Vec<Part>, u64) {
        let mut parts = Vec::new();
        let mut seen = match at {
            Position::Seen(number) if number <= self.newest => number,
            Position::Oldest => self.events.front().map_or(self.newest, |(first, _)| first - 1),
            // A number that was never given comes from nowhere: like another run's.
            Position::Seen(_) | Position::Foreign => {
                parts.push(Part::Gap(None));
                self.events.front().map_or(self.newest, |(first, _)| first - 1)
            }
        };
        let begin = self.events.partition_point(|(number, _)| *number <= seen);
        for (number, event) in self.events.range(begin..) {
            if *number != seen + 1 {
                parts.push(Part::Gap(Some(number - seen - 1)));
            }
            parts.push(Part::Event(*number, event.clone()));
            seen = *number;
        }
        if seen < self.newest {
            parts.push(Part::Gap(Some(self.newest - seen)));
        }
        (parts, self.newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(events: u64) -> Ring {
        let mut ring = Ring::default();
        (1..=events).for_each(|n| ring.push(n.to_string()));
        ring
    }

    /// `3` an event, `-2` a gap of two, `?` one of unknown length.
    fn told(ring: &Ring, at: Position) -> String {
        let (parts, newest) = ring.after(at);
        assert_eq!(newest, ring.newest);
        let parts: Vec<String> = parts
            .iter()
            .map(|part| match part {
                Part::Gap(Some(lost)) => format!("-{lost}"),
                Part::Gap(None) => "?".to_owned(),
                Part::Event(number, _) => number.to_string(),
            })
            .collect();
        parts.join(" ")
    }

    #[test]
    fn a_reader_gets_what_it_has_not_seen() {
        for (events, at, expected) in [
            (0, Position::Oldest, ""),
            (0, Position::Seen(0), ""),
            (0, Position::Foreign, "?"),
            (3, Position::Oldest, "1 2 3"),
            (3, Position::Seen(0), "1 2 3"),
            (3, Position::Seen(2), "3"),
            (3, Position::Seen(3), ""),
            (3, Position::Seen(4), "? 1 2 3"),
            (3, Position::Seen(u64::MAX), "? 1 2 3"),
            (3, Position::Foreign, "? 1 2 3"),
        ] {
            assert_eq!(told(&ring(events), at), expected, "{at:?} of {events}");
        }
    }

    #[test]
    fn what_fell_out_is_a_gap() {
        let ring = ring(KEPT as u64 + 10);
        assert!(told(&ring, Position::Seen(10)).starts_with("11 12 "), "just in time");
        assert!(told(&ring, Position::Seen(9)).starts_with("-1 11 "));
        assert!(told(&ring, Position::Oldest).starts_with("11 "), "who asks for what is kept misses nothing");
    }

    #[test]
    fn numbers_without_events_are_gaps() {
        let mut ring = ring(2);
        ring.newest += 3;
        assert_eq!(told(&ring, Position::Seen(1)), "2 -3", "nothing came since");
        ring.push("6".to_owned());
        assert_eq!(told(&ring, Position::Seen(1)), "2 -3 6");
        assert_eq!(told(&ring, Position::Seen(2)), "-3 6");
        assert_eq!(told(&ring, Position::Seen(4)), "-1 6", "it was in the gap");
    }
}
