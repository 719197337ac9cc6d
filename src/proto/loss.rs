//! What a link loses, told from sequence numbers: who receives counts, and tells the other side.

use super::seal::ReplayWindow;

/// So many of the newest numbers are looked at.
const AMONG: u64 = 64;
/// More in a row, the tries of a heartbeat and what relays and answers may add, is no loss but a silence, which the
/// status tells of.
const SILENCE: u64 = 6;
/// So many lost of the newest, those of both directions together, make a link lossy, and so few make it good again.
const LOSSY: (u32, u32) = (8, 3);

/// The loss of a link since the peer's run was confirmed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loss {
    /// Which numbers of the peer came, or were passed over in a silence.
    came: ReplayWindow,
    /// The first that came.
    first: Option<u64>,
    /// How many of this node's newest did not come there, as the peer says; `None`: it has not said so yet.
    told: Option<u8>,
    /// How many of the newest that the peer sent have not come.
    lost: u8,
    lossy: bool,
}

impl Loss {
    /// The peer's datagram of this number came.
    pub(crate) fn came(&mut self, number: u64) {
        let next = self.came.next();
        if self.first.is_some() && number.saturating_sub(next) > SILENCE {
            (next.max(number.saturating_sub(AMONG))..number).for_each(|passed| self.came.mark(passed));
        }
        self.came.mark(number);
        self.first = self.first.or(Some(number));
        self.lost = self.came.unseen(self.among()) as u8;
        self.judge();
    }

    /// The peer says how many of this node's did not come there.
    pub(crate) fn told(&mut self, lost: u8) {
        self.told = Some(lost);
        self.judge();
    }

    /// How many of the newest that the peer sent have not come, to be told to it.
    pub(crate) fn lost(&self) -> u8 {
        self.lost
    }

    fn among(&self) -> u32 {
        self.first.map_or(0, |first| self.came.next().saturating_sub(first).min(AMONG) as u32)
    }

    fn judge(&mut self) {
        let lost = u32::from(self.lost) + u32::from(self.told.unwrap_or(0));
        self.lossy = lost >= LOSSY.0 || self.lossy && lost > LOSSY.1;
    }

    pub(crate) fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// The shares that are lost of what comes and of what goes, of the last 64 each; `None`: not known yet. `sent`: how
    /// many this node has sent to the run.
    pub(crate) fn shares(&self, sent: u64) -> Option<(f64, f64)> {
        let (among, told) = (self.among(), self.told?);
        let came = (among > 0).then(|| f64::from(self.lost()) / f64::from(among))?;
        Some((came, (f64::from(told) / sent.clamp(1, AMONG) as f64).min(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_come_is_lost_until_it_is_old() {
        let mut loss = Loss::default();
        (100..160).filter(|n| n % 8 != 0).for_each(|n| loss.came(n));
        assert_eq!((loss.lost(), loss.is_lossy(), loss.shares(60)), (7, false, None));
        loss.told(1);
        assert!(loss.is_lossy(), "eight, both directions together");
        assert_eq!(loss.shares(32), Some((7.0 / 60.0, 1.0 / 32.0)));
        loss.came(104);
        assert_eq!(loss.lost(), 6, "it was late, not lost");
        loss.told(0);
        (160..200).for_each(|n| loss.came(n));
        assert!(loss.lost() == 3 && !loss.is_lossy());
    }

    #[test]
    fn a_silence_is_no_loss() {
        let mut loss = Loss::default();
        (0..10).for_each(|n| loss.came(n));
        loss.came(10 + SILENCE);
        assert_eq!(u64::from(loss.lost()), SILENCE);
        loss.came(1000);
        assert_eq!(loss.lost(), 0);
        loss.came(u64::MAX);
        assert_eq!(loss.lost(), 0);
    }
}
