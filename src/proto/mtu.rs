//! Whether long datagrams pass: now and then the leader of a pair pads a heartbeat's first try to the limit.
//!
//! A padded try is lost if its own echo never comes while the small retry after it is echoed. What is lost so costs no
//! heartbeat, is told to the peer so that it does not count as loss, and is followed by the next padded one at once. Eight
//! in a row, and the path's MTU is smaller; one that is echoed ends that.

/// One first try in so many is padded.
pub(crate) const PERIOD: u16 = 256;
/// One in so many once padded ones are known not to pass.
const NARROW_PERIOD: u16 = 16;
/// So many lost in a row tell that padded ones do not pass.
const LOST: u32 = 8;
/// UDP payload that is taken to pass on any path: a host must accept 576 bytes of IPv4 (RFC 791), headers included.
pub(crate) const SMALL: usize = 512;

/// The newest padded try.
#[derive(Clone, Copy, Debug)]
struct Padded {
    sequence: u64,
    /// The small try that followed it, and whether that was echoed.
    retry: Option<u64>,
    small_passed: bool,
    /// The next heartbeat has begun.
    judged: bool,
}

/// What is known of the greatest datagram that passes to a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathMtu {
    /// First tries before the next padded one.
    wait: u16,
    newest: Option<Padded>,
    /// Padded ones lost in a row.
    lost: u32,
    /// The peer says that what it pads does not come here.
    told: bool,
}

impl PathMtu {
    /// A run of the peer was confirmed: the first padded try comes after `phase` others.
    pub(crate) fn begin(&mut self, phase: u16) {
        if self.lost == 0 {
            self.wait = phase;
        }
    }

    /// A heartbeat's first try goes out: whether it is to be padded. `spare`: it may be lost.
    pub(crate) fn is_due(&mut self, spare: bool) -> bool {
        self.judge();
        let due = self.wait == 0;
        self.wait = self.wait.saturating_sub(1);
        due && spare
    }

    fn judge(&mut self) {
        let Some(padded) = self.newest.as_mut().filter(|padded| !padded.judged) else { return };
        padded.judged = true;
        if padded.small_passed {
            self.lost = self.lost.saturating_add(1);
            self.wait = self.pace();
        }
    }

    /// How many first tries come between two padded ones.
    fn pace(&self) -> u16 {
        match self.lost {
            0 => PERIOD - 1,
            1..LOST => 0,
            _ => NARROW_PERIOD - 1,
        }
    }

    /// A first try goes out padded, under this number.
    pub(crate) fn padded(&mut self, sequence: u64) {
        self.newest = Some(Padded { sequence, retry: None, small_passed: false, judged: false });
        self.wait = self.pace();
    }

    /// A small try follows in the same heartbeat, under this number. How many numbers before it the padded one was, to be
    /// told to the peer; 0: there was none.
    pub(crate) fn retried(&mut self, sequence: u64) -> u8 {
        let Some(padded) = self.newest.as_mut().filter(|padded| !padded.judged) else { return 0 };
        padded.retry.get_or_insert(sequence);
        u8::try_from(sequence - padded.sequence).unwrap_or(0)
    }

    /// The peer echoed the datagram of this number. `slept`: it had just slept, and echoes the newest of several.
    pub(crate) fn echoed(&mut self, sequence: u64, slept: bool) {
        let Some(padded) = &mut self.newest else { return };
        if padded.sequence == sequence {
            self.newest = None;
            self.lost = 0;
            self.wait = self.pace();
        } else if padded.retry == Some(sequence) {
            padded.small_passed |= !slept;
        }
    }

    /// The peer says whether what it pads comes here.
    pub(crate) fn told(&mut self, narrow: bool) {
        self.told = narrow;
    }

    /// What this node pads does not pass, to be told to the peer.
    pub(crate) fn is_found(&self) -> bool {
        self.lost >= LOST
    }

    /// Long datagrams are known not to pass: how many padded ones were lost in a row, 0 if the peer says so.
    pub(crate) fn narrow(&self) -> Option<u32> {
        match self.lost {
            lost if lost >= LOST => Some(lost),
            _ => self.told.then_some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One heartbeat that begins with this number: what is padded passes, or its retry, or none. True: it was padded.
    fn heartbeat(path: &mut PathMtu, number: u64, padded_passes: bool, retry_passes: bool) -> bool {
        if !path.is_due(true) {
            path.echoed(number, false);
            return false;
        }
        path.padded(number);
        if padded_passes {
            path.echoed(number, false);
        } else {
            assert_eq!(path.retried(number + 1), 1);
            if retry_passes {
                path.echoed(number + 1, false);
            }
        }
        true
    }

    #[test]
    fn one_in_256_then_the_next_seven_then_one_in_16() {
        let mut path = PathMtu::default();
        path.begin(3);
        let padded = |path: &mut PathMtu, passes: bool, beats: std::ops::Range<u64>| -> Vec<u64> {
            beats.filter(|n| heartbeat(path, n * 10, passes, true)).collect()
        };
        assert_eq!(padded(&mut path, true, 0..600), [3, 259, 515]);
        assert_eq!(padded(&mut path, false, 600..815), Vec::from_iter((771..779).chain([794, 810])));
        assert_eq!(path.narrow(), Some(10));
        assert_eq!(padded(&mut path, true, 815..1100), [826, 1082]);
        assert_eq!(path.narrow(), None, "one that passes ends it");
    }

    #[test]
    fn seven_lost_are_not_enough_and_silence_proves_nothing() {
        let mut path = PathMtu::default();
        assert!((0..7).all(|n| heartbeat(&mut path, n * 10, false, true)));
        assert!((7..20).all(|n| heartbeat(&mut path, n * 10, false, false)), "neither passes: not decided");
        assert!(heartbeat(&mut path, 200, false, true) && !path.is_found(), "the eighth");
        assert!(!path.is_due(true) && path.is_found());
        path.echoed(200, false);
        assert!(!path.is_found(), "it was late, not lost");
    }

    #[test]
    fn what_cannot_be_spared_waits_and_one_answer_after_a_sleep_decides_nothing() {
        let mut path = PathMtu::default();
        assert!(!path.is_due(false) && !path.is_due(false) && path.is_due(true));
        path.padded(1);
        assert_eq!((path.retried(2), path.retried(5), path.retried(1000)), (1, 4, 0));
        path.echoed(5, false);
        path.echoed(2, true);
        assert!(!path.is_due(true) && path.lost == 0, "only the first retry counts, of a peer that is awake");
        assert_eq!(path.retried(6), 0, "another heartbeat");
    }

    #[test]
    fn who_is_told_knows_it_until_told_otherwise() {
        let mut path = PathMtu::default();
        path.told(true);
        assert_eq!((path.narrow(), path.is_found()), (Some(0), false));
        path.told(false);
        assert_eq!(path.narrow(), None);
    }
}
