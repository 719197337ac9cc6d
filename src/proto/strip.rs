//! What became of the newest heartbeats of a pair, packed.

use std::fmt;

/// What became of one heartbeat, when it was judged: evidence that comes later changes nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Heard and echoed with the first try.
    Answered = 1,
    /// The same, after another try.
    Retried = 2,
    /// Only by way of another node.
    Relayed = 3,
    /// Heard, but nothing that this node sent came back.
    Heard = 4,
    /// Nothing, by any route.
    Missed = 5,
    /// It proves nothing: the kernel dropped datagrams meanwhile.
    Void = 6,
}

impl Outcome {
    /// All of them, by their number.
    pub const ALL: [Outcome; 6] = [
        Outcome::Answered,
        Outcome::Retried,
        Outcome::Relayed,
        Outcome::Heard,
        Outcome::Missed,
        Outcome::Void,
    ];

    /// Its character in a strip.
    pub const fn symbol(self) -> char {
        match self {
            Outcome::Answered => '+',
            Outcome::Retried => 'r',
            Outcome::Relayed => 'R',
            Outcome::Heard => 'o',
            Outcome::Missed => 'x',
            Outcome::Void => 'v',
        }
    }
}

/// Bits of an outcome; 0 is none.
const BITS: u32 = 3;

/// The newest heartbeats of a pair: three bits each, the newest lowest. Shown as symbols, the oldest first.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Strip(u128);

impl Strip {
    /// How many are kept.
    pub const KEPT: u32 = 32;

    pub(crate) fn push(&mut self, outcome: Outcome) {
        let kept = (1 << (BITS * Strip::KEPT)) - 1;
        self.0 = (self.0 << BITS | outcome as u128) & kept;
    }

    /// The outcomes, the oldest first.
    pub fn outcomes(self) -> impl Iterator<Item = Outcome> {
        let number = move |place: u32| (self.0 >> (BITS * place)) as usize & ((1 << BITS) - 1);
        (0..Strip::KEPT).rev().filter_map(move |place| number(place).checked_sub(1).map(|n| Outcome::ALL[n]))
    }
}

impl fmt::Display for Strip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.outcomes().map(Outcome::symbol).collect();
        f.pad(&text)
    }
}

impl fmt::Debug for Strip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_shown_oldest_first() {
        let mut strip = Strip::default();
        assert_eq!(strip.to_string(), "");
        Outcome::ALL.into_iter().for_each(|outcome| strip.push(outcome));
        assert_eq!(strip.to_string(), "+rRoxv");
        (0..27).for_each(|_| strip.push(Outcome::Missed));
        assert_eq!(strip.to_string(), format!("rRoxv{}", "x".repeat(27)));
        (0..40).for_each(|_| strip.push(Outcome::Void));
        assert_eq!(strip.to_string(), "v".repeat(32));
    }
}
