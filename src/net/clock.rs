//! The only place that reads a clock.
//!
//! Three clocks meet here: the core's [`Time`] (which counts suspension), the wall clock (kernel stamps, and what
//! operators read), and, not on Linux, tokio's clock (which ends a sleep). Everything else is given a reading.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::proto::Time;

/// CLOCK_BOOTTIME counts the time that the machine was suspended, CLOCK_MONOTONIC of Linux does not.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
/// Elsewhere the nearest that POSIX has; whether it counts suspension is the system's choice.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// The same clock, for a timer of the kernel.
#[cfg(target_os = "linux")]
pub(super) const TIMER: nix::sys::timerfd::ClockId = nix::sys::timerfd::ClockId::CLOCK_BOOTTIME;

/// The clock of the shell: CLOCK_BOOTTIME on Linux (it counts the time that the machine was suspended).
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The time now, never going backwards: the kernel guarantees that of this clock.
    pub fn now(&self) -> Time {
        let t = clock_gettime(CLOCK).expect("every kernel that runs this binary has this clock");
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec()).unwrap_or(0);
        Time::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
    }

    /// How long the machine has been suspended since it started, in all: what CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC.
    /// Zero where there is but one of them.
    pub(super) fn suspended(&self) -> Duration {
        let awake = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        let all = clock_gettime(CLOCK).map(Duration::from).unwrap_or_default();
        all.saturating_sub(awake)
    }

    /// The wall-clock time of `t`, by the offset between the clocks at this moment.
    pub fn wall(&self, t: Time) -> SystemTime {
        let (now, wall) = (self.now(), self.wall_now());
        let moved = if t > now { wall.checked_add(t.since(now)) } else { wall.checked_sub(now.since(t)) };
        moved.unwrap_or(wall)
    }

    /// The wall-clock time now.
    #[expect(clippy::disallowed_methods, reason = "this file is where clocks are read")]
    pub fn wall_now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// How long after 1970 that is; nothing where it is set to before.
    pub fn since_1970(&self) -> Duration {
        self.wall_now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// Both clocks at one moment, to translate a kernel stamp.
    pub(super) fn reading(&self) -> Reading {
        // The wall clock first: preempted in between, a stamp seems younger than it is, never older.
        let wall = self.since_1970();
        Reading { now: self.now(), wall }
    }

    /// When, on the runtime's clock, a sleep until `deadline` has to end. The runtime's clock does not count
    /// suspension, so this holds only until the next one: ask anew before every sleep.
    #[cfg(any(not(target_os = "linux"), test))]
    #[expect(clippy::disallowed_methods, reason = "this file is where clocks are read")]
    pub(super) fn wake_at(&self, deadline: Time) -> tokio::time::Instant {
        // The runtime's clock first: preempted in between, the sleep ends early, which costs one more turn.
        let base = tokio::time::Instant::now();
        base + deadline.since(self.now())
    }
}

/// What is shorter is the time between reading two clocks.
const SUSPENSION: Duration = Duration::from_millis(50);

/// Tells when the machine was suspended, from how long it has been so in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspension {
    known: Duration,
}

impl Suspension {
    pub(super) fn new(total: Duration) -> Suspension {
        Suspension { known: total }
    }

    /// How long it was suspended since the last one that was told; `None`: not at all.
    pub(super) fn since(&mut self, total: Duration) -> Option<Duration> {
        let new = total.checked_sub(self.known).filter(|new| *new >= SUSPENSION)?;
        self.known = total;
        Some(new)
    }
}

/// The core's time and the wall clock (since the Unix epoch) at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The core's time.
    pub(super) now: Time,
    /// The wall clock.
    pub(super) wall: Duration,
}

impl Reading {
    /// When the kernel received a datagram, from its wall-clock stamp: by the age of the stamp, so that the wall
    /// clock's own steps matter only between stamp and reading. Never later than this reading, and never earlier
    /// than `floor`, when the socket was last known to be empty. Without a stamp: now.
    pub(super) fn received(&self, stamp: Option<Duration>, floor: Time) -> Time {
        let age = stamp.and_then(|s| self.wall.checked_sub(s)).unwrap_or_default();
        (self.now - age).max(floor).min(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn reading(now_us: u64, wall_us: u64) -> Reading {
        Reading { now: Time::from_micros(now_us), wall: Duration::from_micros(wall_us) }
    }

    #[test]
    fn stamps_become_monotonic() {
        let r = reading(5_000, 900_000);
        let at = |stamp_us, floor_us| {
            r.received(Some(Duration::from_micros(stamp_us)), Time::from_micros(floor_us)).as_micros()
        };
        assert_eq!(at(899_000, 0), 4_000, "a stamp of 1 ms ago");
        assert_eq!(at(950_000, 0), 5_000, "the wall clock was set back: not later than now");
        assert_eq!(at(100, 3_500), 3_500, "the wall clock was set forward: not before the last empty socket");
        assert_eq!(at(899_999, 6_000), 5_000, "a floor in the future does not lift it above now");
        assert_eq!(r.received(None, Time::ZERO).as_micros(), 5_000, "no stamp");
    }

    #[test]
    fn suspensions_are_told_once() {
        let ms = Duration::from_millis;
        let mut suspension = Suspension::new(ms(7_000));
        // Two readings of two clocks are never at one moment.
        assert_eq!(suspension.since(ms(7_001)), None);
        assert_eq!(suspension.since(ms(11_200)), Some(ms(4_200)));
        assert_eq!(suspension.since(ms(11_201)), None);
        assert_eq!(suspension.since(ms(11_199)), None);
        assert!(Clock.suspended() < Clock.now().since(Time::ZERO), "no machine sleeps all its life");
    }

    #[test]
    fn wall_is_the_inverse_of_the_offset() {
        let clock = Clock;
        let now = clock.now();
        let hour = Duration::from_secs(3_600);
        let span = clock.wall(now + hour).duration_since(clock.wall(now)).unwrap();
        assert!(span.abs_diff(hour) < Duration::from_secs(1), "{span:?}");
        assert!(clock.now() >= now);
    }
}
