//! Whether long datagrams pass: now and then the leader of a pair pads a heartbeat's first try to the maximum size, and
//! the follower pads its answer, so that both directions are tried.
//!
//! A first try is lost if its own echo never comes while the small retry after it is echoed. A padded one that is lost
//! costs no heartbeat, and is reported to the peer so that it does not count as loss. After the first, every second
//! heartbeat is padded, and the small first tries between them show how much is lost whatever its length. When eight
//! more padded ones than small ones were lost, and no padded one passed, the path's MTU is smaller. One that passes ends
//! that.

use super::messages::PathReport;

/// One in this many first tries is padded: with the 16 heartbeats of a search, a change is seen within four minutes.
pub(crate) const PERIOD: u16 = 208;
/// The same while this node sends long datagrams to the peer.
const USED_PERIOD: u16 = 8;
/// One in so many once padded ones are known not to pass.
const NARROW_PERIOD: u16 = 16;
/// Number of datagrams in which a follower reports that it has long ones.
const REPORTS: u8 = 8;
/// After a padded ping was lost, so many are answered by small pongs: a long one that is lost would look like the ping.
const SMALL_ANSWERS: u8 = 3;
/// Padded tries lost beyond the small ones until the path counts as narrow.
const LOST: u32 = 8;
/// UDP payload that is taken to pass on any path: a host must accept 576 bytes of IPv4 (RFC 791), headers included.
pub(crate) const SMALL: usize = 512;

/// The first try of a heartbeat that is watched.
#[derive(Clone, Copy, Debug)]
struct FirstTry {
    sequence: u64,
    padded: bool,
    /// The small try that followed it, and whether that was echoed.
    retry: Option<u64>,
    small_passed: bool,
    /// The next heartbeat has begun.
    judged: bool,
}

/// What is known of the greatest datagram that passes to a peer and back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathMtu {
    /// First tries before the next padded one.
    wait: u16,
    /// First tries since the newest padded one.
    since: u16,
    newest: Option<FirstTry>,
    /// Padded tries that were lost since one passed, less the small ones that were lost meanwhile.
    lost: u32,
    /// The peer reports that long datagrams do not pass.
    told: bool,
    /// The number of the newest padded answer, until the peer's next ping shows whether it came.
    answer: Option<u64>,
    /// Datagrams that are still to report long ones: only a leader can try the path.
    reports: u8,
    /// Pings that are still to be answered by small pongs.
    small_answers: u8,
}

impl PathMtu {
    /// A run of the peer was confirmed: the first padded try comes after `phase` others.
    pub(crate) fn begin(&mut self, phase: u16) {
        if self.lost == 0 {
            self.wait = phase;
        }
    }

    /// A long datagram goes out: the path is tried soon, by the peer if this node `follows`.
    pub(crate) fn is_used(&mut self, follows: bool) {
        if follows {
            self.reports = REPORTS;
        } else {
            self.try_soon();
        }
    }

    fn try_soon(&mut self) {
        if self.lost < LOST {
            self.wait = self.wait.min(USED_PERIOD.saturating_sub(self.since));
        }
    }

    /// What the next datagram to the peer reports.
    pub(crate) fn report(&self) -> PathReport {
        match () {
            () if self.lost >= LOST => PathReport::Narrow,
            () if self.reports > 0 => PathReport::Used,
            () => PathReport::Untold,
        }
    }

    /// A datagram with this report was queued.
    pub(crate) fn reported(&mut self, report: PathReport) {
        self.reports = self.reports.saturating_sub(u8::from(report == PathReport::Used));
    }

    /// Whether the next answer must be small, since a padded ping was lost.
    pub(crate) fn answers_small(&mut self) -> bool {
        let small = self.small_answers > 0;
        self.small_answers = self.small_answers.saturating_sub(1);
        small
    }

    /// Returns whether a heartbeat's first try, sent under this number, must be padded. `spare`: it may be lost.
    pub(crate) fn is_due(&mut self, sequence: u64, spare: bool) -> bool {
        self.judge();
        let due = self.wait == 0;
        self.wait = self.wait.saturating_sub(1);
        self.since = self.since.saturating_add(1);
        if !due && spare && (1..LOST).contains(&self.lost) {
            self.watch(sequence, false);
        }
        due && spare
    }

    fn watch(&mut self, sequence: u64, padded: bool) {
        self.newest = Some(FirstTry { sequence, padded, retry: None, small_passed: false, judged: false });
    }

    fn judge(&mut self) {
        let Some(first) = self.newest.as_mut().filter(|first| !first.judged) else { return };
        first.judged = true;
        match (first.small_passed, first.padded) {
            (false, _) => {}
            (true, true) => {
                self.lost = self.lost.saturating_add(1);
                self.wait = self.pace();
            }
            (true, false) if self.lost < LOST => self.lost = self.lost.saturating_sub(1),
            (true, false) => {}
        }
    }

    /// How many first tries come between two padded ones.
    fn pace(&self) -> u16 {
        match self.lost {
            0 => PERIOD - 1,
            1..LOST => 1,
            _ => NARROW_PERIOD - 1,
        }
    }

    /// A first try goes out padded, under this number.
    pub(crate) fn padded(&mut self, sequence: u64) {
        self.watch(sequence, true);
        self.wait = self.pace();
        self.since = 0;
    }

    /// A small try follows in the same heartbeat, under this number. The distance back to the padded one, to be reported
    /// to the peer; 0: there was none.
    pub(crate) fn retried(&mut self, sequence: u64) -> u8 {
        let Some(first) = self.newest.as_mut().filter(|first| !first.judged) else { return 0 };
        first.retry.get_or_insert(sequence);
        if first.padded { u8::try_from(sequence - first.sequence).unwrap_or(0) } else { 0 }
    }

    /// An answer goes out under this number. The distance back to the padded answer that the peer has not received, to be
    /// reported to it; 0: there is none. `padded`: this one is padded; `retried`: the peer retries a padded ping.
    pub(crate) fn answers(&mut self, sequence: u64, padded: bool, retried: bool) -> u8 {
        if padded {
            // The path is tried.
            self.reports = 0;
        }
        if retried {
            self.small_answers = SMALL_ANSWERS;
        }
        let before = self.answer.take().filter(|_| retried);
        self.answer = if padded { Some(sequence) } else { before };
        before.and_then(|before| u8::try_from(sequence - before).ok()).unwrap_or(0)
    }

    /// A padded answer came: long datagrams pass there and back.
    pub(crate) fn passed(&mut self) {
        (self.lost, self.newest) = (0, None);
        self.wait = self.pace();
    }

    /// The peer echoed the datagram of this number. `slept`: it had just slept, and echoes the newest of several. An echo of a
    /// padded ping shows only that the ping came: its answer is padded too.
    pub(crate) fn echoed(&mut self, sequence: u64, slept: bool) {
        let Some(first) = &mut self.newest else { return };
        if first.sequence == sequence && !first.padded {
            self.newest = None;
        } else if first.sequence == sequence || first.retry == Some(sequence) {
            first.small_passed |= !slept;
        }
    }

    /// What the peer reports.
    pub(crate) fn told(&mut self, report: PathReport) {
        self.told = report == PathReport::Narrow;
        if report == PathReport::Used {
            self.try_soon();
        }
    }

    /// Long datagrams are known not to pass: how many padded ones were lost, 0 if the peer reports so.
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

    /// One heartbeat that begins with this number: a padded first try passes, or a small one, or the retry. True: it was
    /// padded.
    fn heartbeat(
        path: &mut PathMtu,
        number: u64,
        padded_passes: bool,
        small_passes: bool,
        retry: bool,
    ) -> bool {
        let padded = path.is_due(number, true);
        if padded {
            path.padded(number);
        }
        if if padded { padded_passes } else { small_passes } {
            if padded {
                path.passed();
            } else {
                path.echoed(number, false);
            }
        } else {
            assert_eq!(path.retried(number + 1), u8::from(padded));
            if retry {
                path.echoed(number + 1, false);
            }
        }
        padded
    }

    #[test]
    fn one_in_208_then_every_second_then_one_in_16() {
        let mut path = PathMtu::default();
        path.begin(3);
        let padded = |path: &mut PathMtu, passes: bool, beats: std::ops::Range<u64>| -> Vec<u64> {
            beats.filter(|n| heartbeat(path, n * 10, passes, true, true)).collect()
        };
        assert_eq!(padded(&mut path, true, 0..500), [3, 211, 419]);
        let search = (627..642).step_by(2);
        assert_eq!(padded(&mut path, false, 500..680), Vec::from_iter(search.chain([657, 673])));
        assert_eq!(path.narrow(), Some(10));
        assert_eq!(padded(&mut path, true, 680..900), [689, 897]);
        assert_eq!(path.narrow(), None, "one that passes ends it");
    }

    #[test]
    fn first_tries_that_are_lost_whatever_their_length_are_no_small_mtu() {
        let mut path = PathMtu::default();
        for n in 0..10_000 {
            heartbeat(&mut path, n * 10, false, false, true);
            assert_eq!(path.narrow(), None, "{n}");
        }
    }

    #[test]
    fn seven_lost_are_not_enough_and_silence_proves_nothing() {
        let mut path = PathMtu::default();
        for n in 0..14 {
            heartbeat(&mut path, n * 10, false, true, true);
        }
        for n in 14..40 {
            heartbeat(&mut path, n * 10, false, true, false);
        }
        assert_eq!(path.lost, 7, "neither passes: not decided");
        assert!(heartbeat(&mut path, 400, false, true, true) && path.narrow().is_none(), "the eighth");
        assert!(!path.is_due(410, true) && path.narrow().is_some());
        path.passed();
        assert_eq!(path.narrow(), None, "it was late, not lost");
    }

    #[test]
    fn what_cannot_be_spared_waits_and_one_answer_after_a_sleep_decides_nothing() {
        let mut path = PathMtu::default();
        assert!(!path.is_due(1, false) && !path.is_due(1, false) && path.is_due(1, true));
        path.padded(1);
        assert_eq!((path.retried(2), path.retried(5), path.retried(1000)), (1, 4, 0));
        path.echoed(5, false);
        path.echoed(2, true);
        assert!(
            !path.is_due(6, true) && path.lost == 0,
            "only the first retry counts, of a peer that is awake"
        );
        assert_eq!(path.retried(7), 0, "another heartbeat");
    }

    #[test]
    fn a_short_echo_of_a_padded_ping_is_no_proof_of_the_way_back() {
        let mut path = PathMtu::default();
        for n in 0..16 {
            if path.is_due(n * 10, true) {
                path.padded(n * 10);
            }
            path.echoed(n * 10, false);
        }
        assert!(path.narrow().is_some(), "{path:?}");
    }

    #[test]
    fn a_used_path_is_tried_soon_and_not_more_often() {
        let mut path = PathMtu::default();
        path.begin(100);
        let padded = (0..50).filter(|n| {
            path.is_used(false);
            heartbeat(&mut path, n * 10, true, true, true)
        });
        assert_eq!(Vec::from_iter(padded), [8, 17, 26, 35, 44]);
    }

    #[test]
    fn a_follower_reports_that_it_has_long_ones_until_the_path_is_tried() {
        let mut path = PathMtu::default();
        path.is_used(true);
        assert_eq!(path.report(), PathReport::Used);
        path.answers(1, true, false);
        assert_eq!(path.report(), PathReport::Untold);
        path.is_used(true);
        let reports = (0..20).filter(|_| {
            let report = path.report();
            path.reported(report);
            report == PathReport::Used
        });
        assert_eq!(reports.count(), 8, "the reports end");
        let mut leader = PathMtu::default();
        leader.begin(100);
        leader.told(PathReport::Used);
        assert!((0..9).any(|n| heartbeat(&mut leader, n * 10, true, true, true)));
    }

    #[test]
    fn after_a_padded_ping_was_lost_answers_are_small() {
        let mut path = PathMtu::default();
        assert!(!path.answers_small());
        path.answers(1, false, true);
        assert_eq!([0; 4].map(|_| path.answers_small()), [true, true, true, false]);
    }

    #[test]
    fn a_padded_answer_is_reported_as_lost_once_the_peer_retries() {
        let mut path = PathMtu::default();
        assert_eq!(path.answers(1, true, false), 0);
        assert_eq!((path.answers(2, false, true), path.answers(4, false, true)), (1, 3));
        assert_eq!((path.answers(5, false, false), path.answers(6, false, true)), (0, 0), "it came");
    }

    #[test]
    fn who_is_told_knows_it_until_told_otherwise() {
        let mut path = PathMtu::default();
        path.told(PathReport::Narrow);
        assert_eq!(
            (path.narrow(), path.report()),
            (Some(0), PathReport::Untold),
            "it does not report what it was told"
        );
        path.told(PathReport::Untold);
        assert_eq!(path.narrow(), None);
    }
}
