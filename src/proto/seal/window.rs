//! The replay window.

/// Which of the last 128 numbers were seen (the algorithm of RFC 4303, appendix A2). Check first; mark only after
/// the seal held.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayWindow {
    /// One above the newest number; 0: none yet.
    next: u64,
    /// Bit i: whether `next` - 1 - i was seen.
    seen: u128,
}

impl ReplayWindow {
    /// Whether `number` is neither seen nor too old to tell.
    pub fn check(&self, number: u64) -> bool {
        match self.next.checked_sub(number.saturating_add(1)) {
            None => true,
            Some(age) => age < 128 && self.seen & (1 << age) == 0,
        }
    }

    /// Takes `number` for seen.
    pub fn mark(&mut self, number: u64) {
        let next = number.saturating_add(1);
        if next > self.next {
            let by = next - self.next;
            self.seen = if by < 128 { self.seen << by | 1 } else { 1 };
            self.next = next;
        } else if self.next - next < 128 {
            self.seen |= 1 << (self.next - next);
        }
    }

    /// How many of the newest `among` numbers (at most 128) were not seen.
    pub(crate) fn unseen(&self, among: u32) -> u32 {
        let mask = 1u128.checked_shl(among).map_or(u128::MAX, |bit| bit - 1);
        among.min(128) - (self.seen & mask).count_ones()
    }

    /// One above the newest number; 0: none yet.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }
}
